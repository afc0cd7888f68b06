"""Corrects the findings of a pass by the mount table as it is after the pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from check_mounts import filesystems, mounttable, selection, text
from check_mounts.model import Condition, Finding, LeftOut, Mount, Reason
from check_mounts.mounttable import Table
from check_mounts.outcome import Step
from check_mounts.probing import conditions
from check_mounts.selection import Selection
from check_mounts.typed import NamedTuple, Optional

# How often we look for a mount that has failed and seems to be gone, and the pause between two
# looks, in seconds.
_LOOKS, _BETWEEN_LOOKS = 10, 0.005


class _Now(NamedTuple):
    """A mount as the table has it now, and the mount that covers it, if any."""

    mount: Mount
    cover: Optional[Mount]


class Settled(NamedTuple):
    """The corrected findings. ``vanished`` are the mounts that are gone. ``note`` says why the
    mount table could not be read again; empty if it was read."""

    findings: list[Finding]
    vanished: list[LeftOut]
    note: str = ""


def settle(findings: Mapping[int, Finding], chosen: Selection, reread: Callable[[], Table]) -> Settled:
    """Correct the findings, given by mount ID, by the mount table as it is now.

    A mount that failed and is no longer mounted was unmounted meanwhile, and is not a failure; if
    it was expected, it is missing. A mount that failed and is covered now is shadowed: the probe
    may have reached the mount that covers it. A mount that was moved is still there."""
    missing = [Finding(path, None, Condition.MISSING, why) for path, why in chosen.missing]
    known_shadowed = {mount.mount_id for mount in chosen.shadowed}
    suspects = {key: finding for key, finding in findings.items() if _is_suspect(finding) and key not in known_shadowed}
    if not suspects:
        return Settled([*findings.values(), *missing], [])
    try:
        now = _find_again(suspects, reread)
    except OSError as error:
        note = f"the mount table could not be read again: {error.strerror}"
        return Settled([*findings.values(), *missing], [], note)
    result = Settled([], [])
    for key, finding in findings.items():
        if key not in suspects or finding.mount is None:
            result.findings.append(finding)
            continue
        why = _settle_one(result, finding, finding.mount, now.get(key))
        if why and finding.mount.mount_point in chosen.named:  # a named mount should be reachable
            missing.append(Finding(finding.mount.mount_point, None, Condition.MISSING, why))
    result.findings.extend(missing)
    return result


def _settle_one(result: Settled, finding: Finding, mount: Mount, there: Optional[_Now]) -> str:
    """Add a suspect to the findings or to the vanished mounts; return why its mount point does not
    lead to it, empty if it does. What could not be asked because a process has ended counts as
    vanished: if another process sees it, it is asked through that one."""
    lost = mount.is_elsewhere and conditions.led_elsewhere_by_end(finding)
    if there is None or lost or _may_be_another(finding, there.mount) or _was_replaced(finding, there.mount):
        result.vanished.append(LeftOut(mount, Reason.UNMOUNTED))
        return selection.why_left_out(result.vanished[-1])
    result.findings.append(_in_its_place(finding, there))
    return "covered by another mount" if result.findings[-1].condition is Condition.SHADOWED else ""


def _is_suspect(finding: Finding) -> bool:
    return finding.condition is not Condition.OK or (finding.outcome is not None and finding.outcome.moved)


def _may_be_another(finding: Finding, there: Mount) -> bool:
    """Whether the mount answered through one process, and ``there`` is seen through another one: of
    another namespace perhaps, which came later, and whose mount got its ID and device. While a
    probe is stuck in the mount, no other one gets its device."""
    was, now = finding.mount and finding.mount.seen_at, there.seen_at
    if was is None or now is None or finding.outcome is None or finding.condition is Condition.TIMED_OUT:
        return False
    return was.base != now.base


def _was_replaced(finding: Finding, there: Mount) -> bool:
    """Whether the mount, which was never reached, is gone, and ``there`` is another mount that came
    later and got its ID and device."""
    if finding.outcome is None or finding.mount is None or not (finding.outcome.moved or _missed(finding)):
        return False
    return finding.outcome.gone or finding.mount.source != there.source


def _missed(finding: Finding) -> bool:
    """Whether the probe came back without having reached the mount."""
    mount, outcome = finding.mount, finding.outcome
    if mount is None or outcome is None or finding.condition is not Condition.UNPROBED:
        return False
    return conditions.led_elsewhere(mount, outcome, trigger=filesystems.is_trigger(mount)) is not None


def _in_its_place(finding: Finding, now: _Now) -> Finding:
    """The finding of a mount that is still there; it says if the mount was covered or moved
    meanwhile."""
    cover = now.cover
    if cover is not None and not _hangs_below_a_users(finding, cover):
        return finding._replace(condition=Condition.SHADOWED, detail="another mount covers it", cover=cover)
    if cover is not None:
        return finding._replace(
            remarks=(*finding.remarks, "covered during the run by an unprivileged user's FUSE mount")
        )
    if now.mount.mount_point != finding.mount_point and finding.outcome is not None and finding.outcome.moved:
        remark = f"it was at {text.printable(finding.mount_point)} when the run began"
        return finding._replace(mount_point=now.mount.mount_point, mount=now.mount, remarks=(*finding.remarks, remark))
    if now.mount.mount_point != finding.mount_point:
        return finding._replace(remarks=(*finding.remarks, f"it was moved to {text.printable(now.mount.mount_point)}"))
    return finding


def _hangs_below_a_users(finding: Finding, cover: Mount) -> bool:
    """Whether the mount's own probe was already stuck in it when an unprivileged user covered it: a
    user must not be able to hide a hung mount."""
    if selection.unprivileged_owner(cover) is None or finding.condition is not Condition.TIMED_OUT:
        return False
    return finding.outcome is None or finding.outcome.step is not Step.LOOK_UP


def _find_again(suspects: Mapping[int, Finding], reread: Callable[[], Table]) -> dict[int, _Now]:
    """Look for the suspects in the mount table; return those that are still mounted, by their IDs.
    Raises OSError.

    If a mount seems to be gone, we look several times, so that no dead mount is lost. Before Linux
    5.8, the kernel could leave out a mount when another one was unmounted while the table was being
    read. And if a mount's directory was renamed out of the bind mount above it, no table lists the
    mount until the renaming is undone. A mount that was already gone when its worker looked for it
    needs only one more look."""
    now: dict[int, _Now] = {}
    gone = {
        key
        for key, finding in suspects.items()
        if finding.outcome is not None and finding.outcome.gone and _missed(finding)
    }
    for look in range(_LOOKS):
        mounts = reread()[0]
        there = {mount.identity: mount for mount in mounts}
        covers: Optional[Mapping[int, Mount]] = None
        for key in suspects.keys() - now.keys():
            mount = suspects[key].mount
            found = None if mount is None else there.get(mount.identity)
            if found is not None:
                covers = mounttable.covered_by(mounts) if covers is None else covers
                now[key] = _Now(found, covers.get(key))
        if suspects.keys() <= now.keys() | (gone if look else set()):
            break
        time.sleep(_BETWEEN_LOOKS)
    return now
