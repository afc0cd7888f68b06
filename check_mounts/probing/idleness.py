"""What is remembered of mounts that an automounter unmounts once nobody uses them: when others used
them, and when we looked them up.

Import budget: ``binascii``, ``re``; filesystems, operations. Pure, but for reading mountstats.

Loaded only where a mount is on such a trigger. Only our own user can write to the file, but
whatever it holds, the result is a value: what makes no sense is not known, and then the mount is
looked up once."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping, Sequence

from check_mounts import filesystems
from check_mounts.clocks import Boottime, monotonic
from check_mounts.model import Mount
from check_mounts.probing import mountstats, operations
from check_mounts.typed import NamedTuple, Optional
from check_mounts.typetable import Protocol

# A probe makes one of the first, by NFS 4 or 3, and at most so many of the others (measured:
# GETATTR twice, ACCESS and READDIR once). So do other monitors, such as a check_mounts with another
# memory: if theirs counted as a use, both would look the mount up for ever.
_STATFS = frozenset((b"STATFS", b"FSSTAT"))
_BESIDE = frozenset((b"GETATTR", b"ACCESS", b"READDIR", b"READDIRPLUS"))
_FOR_EACH = 6
# The operations by which a client keeps its state at the server, or returns what it need not have:
# nobody asked for them.
_OF_THE_CLIENT = frozenset(
    b"NULL RENEW SEQUENCE FSINFO PATHCONF SERVER_CAPS EXCHANGE_ID CREATE_SESSION DESTROY_SESSION DESTROY_CLIENTID "
    b"SETCLIENTID SETCLIENTID_CONFIRM RECLAIM_COMPLETE BIND_CONN_TO_SESSION GET_LEASE_TIME LOOKUP_ROOT SECINFO "
    b"SECINFO_NO_NAME DELEGRETURN TEST_STATEID FREE_STATEID RELEASE_LOCKOWNER FSID_PRESENT FS_LOCATIONS".split()
)
# How long a mount is remembered that is not in the mount table, in seconds: another run may see
# other mounts.
_LONG_GONE = 7200.0
# How many mounts are remembered.
_MOST = 8000


class Counters(NamedTuple):
    """How many operations programs did on an NFS mount: such as only others do; such as our probes
    do beside statfs; and statfs."""

    others: int
    beside: int
    statfs: int

    def is_more_than_probes(self, before: Counters) -> bool:
        """Whether more was done since ``before`` than our own probes do. Counters that have fallen
        are those of a new mount, which somebody has asked for."""
        others, beside, statfs = (now - then for now, then in zip(self, before))
        return others != 0 or statfs < 0 or not 0 <= beside <= _FOR_EACH * statfs


class Entry(NamedTuple):
    """What is remembered of one mount; times are on CLOCK_BOOTTIME, in seconds.

    ``answered``: it was well at our last look-up, which began at ``looked``. ``used``: when others
    were last seen to use it; ``walked``: when processes were last asked for it. ``noted``: when the
    entry was made. ``counters``: None if it has none, or they are not known."""

    answered: bool
    looked: float
    used: float
    walked: float
    noted: float
    counters: Optional[Counters] = None


# The ID of a mount, its device, and a checksum of its place and source. The kernel gives the first
# two to another mount as soon as they are free.
Key = tuple[int, int, int, int]
_LINE = re.compile(
    rb"(\d{1,10}) (\d{1,10}):(\d{1,10}) (\d{1,10}) ([01]) (\d{1,12}) (\d{1,12}) (\d{1,12}) (\d{1,12})"
    rb"(?: (\d{1,20}) (\d{1,20}) (\d{1,20}))?\Z"
)


def key_of(mount: Mount) -> Key:
    """The key of a mount."""
    return (mount.mount_id, *mount.device, binascii.crc32(b"\0".join((mount.mount_point, mount.source))))


def decoded(data: bytes, now: Boottime) -> dict[Key, Entry]:
    """The entries in the text of the file. Never raises. A time to come is no time."""
    found: dict[Key, Entry] = {}
    for line in data.split(b"\n"):
        match = _LINE.match(line)
        if match is None:
            continue
        mount_id, major, minor, checksum, answered, looked, used, walked, noted = map(int, match.groups()[:9])
        if max(looked, used, walked, noted) <= now + 1:
            counters = None if match[10] is None else Counters(*map(int, match.groups()[9:]))
            entry = Entry(bool(answered), looked, used, walked, noted, counters)
            found[mount_id, major, minor, checksum] = entry
    return found


def encoded(entries: Mapping[Key, Entry]) -> bytes:
    """The text of the file."""
    lines = []
    for (mount_id, major, minor, checksum), each in entries.items():
        times = " ".join(str(int(when)) for when in (each.looked, each.used, each.walked, each.noted))
        counters = "" if each.counters is None else "".join(f" {number}" for number in each.counters)
        lines.append(f"{mount_id} {major}:{minor} {checksum} {int(each.answered)} {times}{counters}\n")
    return "".join(lines).encode("ascii")


def kept(entries: Mapping[Key, Entry], table: Iterable[Mount], now: Boottime) -> dict[Key, Entry]:
    """The entries without mounts that have been gone for long, and no more than fit into the
    file."""
    there = {(mount.mount_id, *mount.device) for mount in table}
    left = {key: each for key, each in entries.items() if key[:3] in there or now - each.noted < _LONG_GONE}
    if len(left) <= _MOST:
        return left
    newest = sorted(left.items(), key=lambda item: item[1].noted, reverse=True)
    return dict(newest[:_MOST])


# -- who is spared


def spared(table: Sequence[Mount], selected: Iterable[Mount]) -> dict[int, float]:
    """The ID of each selected mount that is on a trigger with a timeout, or on a mount that is ->
    the shortest of the timeouts, in seconds."""
    by_id = {mount.mount_id: mount for mount in table}
    known: dict[int, float] = {}

    def above(mount: Mount) -> float:
        chain: list[Mount] = []
        seen: set[int] = set()
        found: Optional[Mount] = mount
        while found is not None and found.mount_id not in known and found.mount_id not in seen:
            chain.append(found)
            seen.add(found.mount_id)
            found = by_id.get(found.parent_id)
        for each in reversed(chain):
            own, outer = filesystems.expires_after(each), known.get(each.parent_id, 0.0)
            known[each.mount_id] = min(own, outer) if own and outer else own or outer
        return known.get(mount.mount_id, 0.0)

    timeouts = {mount.mount_id: above(mount) for mount in selected if not filesystems.is_trigger(mount)}
    return {mount_id: timeout for mount_id, timeout in timeouts.items() if timeout}


def counters(mounts: Sequence[Mount], table: Sequence[Mount]) -> dict[int, Counters]:
    """The counters of NFS mounts now, by their IDs, where they tell one mount: those of a
    superblock do not tell which of its mounts is used."""
    number: dict[tuple[int, int], int] = {}
    for mount in table:
        number[mount.device] = number.get(mount.device, 0) + 1
    alone = {
        mount.mount_point: mount
        for mount in mounts
        if mount.path == mount.mount_point
        and number.get(mount.device) == 1
        and filesystems.protocol(mount) is Protocol.NFS
    }
    if not alone:
        return {}
    file = mountstats.path_for(next(iter(alone.values())))
    reading = operations.parse(mountstats.contents(file), monotonic(), alone)
    found = {}
    for point, each in reading.mounts.items():
        if each.source == alone[point].source:
            numbers = {name: operation.operations for name, operation in each.operations.items()}
            statfs, beside = (sum(numbers.pop(name, 0) for name in names) for names in (_STATFS, _BESIDE))
            others = sum(number for name, number in numbers.items() if name not in _OF_THE_CLIENT)
            found[alone[point].mount_id] = Counters(others, beside, statfs)
    return found
