"""The errors that the kernel has counted on devices, compared with those of the last look.

Loaded only if a counter is not zero or has moved.

Counters outlive a repair: those of ext4 until fsck clears them, those of btrfs until ``btrfs device
stats -z``. So a counter alone is no alarm, but one that moves is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from check_mounts import filesystems, text
from check_mounts.clocks import Boottime, Epoch
from check_mounts.model import Condition, Damage, Finding, Mount
from check_mounts.probing import sysfs
from check_mounts.probing.storage import Storage
from check_mounts.typed import NamedTuple, Optional

# How long errors are new, in seconds: long enough for a monitoring server to ask a few times.
NEW_FOR = 3600.0
# The devices of a filesystem that are named.
_NAMED = 4
_LEFT_OUT = (Condition.SHADOWED, Condition.BLOCKED)


class Counter(NamedTuple):
    """A counter that is not zero: its ``place`` in /sys/fs, and whether it has moved lately."""

    place: str
    errors: int
    is_new: bool


def compared(seen: Sequence[tuple[str, int]], before: bytes, now: Boottime) -> tuple[bytes, list[Counter]]:
    """The counters that are not zero, and what the next look must know. ``before``: what the last
    look left; empty if it is not known.

    Something that the last look did not see may have had its errors for years."""
    known, moved = _understood(before)
    for key, count in seen:
        if count > known.get(key, count):
            moved[key] = now
    moved = {key: when for key, when in moved.items() if 0 <= now - when < NEW_FOR and dict(seen).get(key)}
    lines = [f"new {int(when)} {key}\n" for key, when in sorted(moved.items())]
    counters = [Counter(key.rpartition(" ")[0], count, key in moved) for key, count in seen if count]
    return sysfs.written(seen) + os.fsencode("".join(lines)), counters


def _understood(before: bytes) -> tuple[dict[str, int], dict[str, Boottime]]:
    known: dict[str, int] = {}
    moved: dict[str, Boottime] = {}
    for line in os.fsdecode(before).splitlines():
        key, _, count = line.rpartition(" ")
        if line.startswith("new "):
            when, _, key = line[len("new ") :].partition(" ")
            if when.isdecimal():
                moved[key] = Boottime(float(when))
        elif count.isdecimal():
            known[key] = int(count)
    return known, moved


def added(
    findings: Iterable[Finding], counters: Sequence[Counter], storage: Storage, sys: str = "/sys"
) -> list[Finding]:
    """The findings, with the damage of their filesystems. The first mount of each is judged for
    it."""
    by_filesystem: dict[str, list[Counter]] = {}
    for counter in counters:
        by_filesystem.setdefault("/".join(counter.place.split("/")[:2]), []).append(counter)
    seen: set[str] = set()
    result = []
    for finding in findings:
        place = "" if finding.condition in _LEFT_OUT else _place(finding.mount, storage)
        own = by_filesystem.get(place, [])
        remarks = finding.remarks
        if own and place not in seen:
            seen.add(place)
            remarks = (*remarks, Damage(_words(own, storage, sys), any(each.is_new for each in own)))
        elif own and finding.condition is not Condition.OK:
            remarks = (*remarks, _words(own, storage, sys))
        result.append(finding if remarks is finding.remarks else finding._replace(remarks=remarks))
    return result


def _place(mount: Optional[Mount], storage: Storage) -> str:
    """The directory of a mounted filesystem in /sys/fs; empty if we read nothing there."""
    if mount is None:
        return ""
    if filesystems.traits(mount.fs_type).ext4_driver:
        return "".join(f"ext4/{name}" for name in storage.own(mount)[:1])
    return f"btrfs/{storage.btrfs(mount)}" if mount.fs_type == b"btrfs" else ""


def _words(counters: Sequence[Counter], storage: Storage, sys: str) -> str:
    said = [_of_one(counter, storage, f"{sys}/fs") for counter in counters]
    return "; ".join([*said[:_NAMED], *([f"and {len(said) - _NAMED} more devices"] if len(said) > _NAMED else [])])


def _of_one(counter: Counter, storage: Storage, above: str) -> str:
    kind, filesystem, *device = counter.place.split("/")
    new = ", new ones among them" if counter.is_new else ""
    errors = text.counted(counter.errors, "error")
    if kind == "ext4":
        times = _times(f"{above}/ext4/{filesystem}", counter.errors)
        return f"ext4 has counted {errors} on {storage.label(filesystem)}{times}{new}"
    devices = storage.members(filesystem)
    on = ", ".join([storage.label(name) for name in devices[:_NAMED]])
    if device[1:]:
        return f"btrfs lacks its device {device[0]}" + (f" (it has {on})" if on else "")
    which = on if len(devices) == 1 else f"device {device[0]} of {on}"
    numbers = (
        sysfs.read(f"{above}/btrfs/{filesystem}/devinfo/{device[0]}/error_stats").decode("ascii", "replace").split()
    )
    kinds = [f"{count} {name[: -len('_errs')]}" for name, count in zip(numbers[::2], numbers[1::2]) if count != "0"]
    return f"btrfs has counted {errors} on {which} ({text.one_line(', '.join(kinds))}){new}"


def _times(directory: str, count: int) -> str:
    """When ext4 counted the first and the last error, and in which functions of the kernel. The
    names come from the disk, so they may be any bytes."""
    first, last = (_time(directory, which) for which in ("first", "last"))
    if count > 1 and first and last and first != last:
        return f", the first {first}, the last {last}"
    return f", {'the first ' if count > 1 else ''}{first}" if first else ""


def _time(directory: str, which: str) -> str:
    seconds = sysfs.read(f"{directory}/{which}_error_time").strip()
    function = text.clipped(text.printable(sysfs.read(f"{directory}/{which}_error_func").strip()), 40)
    try:
        when = text.moment_of(Epoch(int(seconds)))
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{when} in {function}" if function else when
