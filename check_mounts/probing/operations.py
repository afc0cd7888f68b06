"""What the programs of this host did on NFS mounts, and how long it took: the kernel's counters per
operation, and what they moved by between two looks.

Import budget: ``re``; mountstats, traffic. Reading them touches no mount.

The kernel counts per superblock (struct nfs_server): all mounts of one superblock show the same
numbers, and they begin again at 0 with a new mount. To each operation it adds those that the client
did for all mounts of a server together (rpc_clnt_show_stats adds the parents of a client, since
Linux 4.20): SEQUENCE, RENEW and others that keep the lease. So sums over mounts count these, and
mounts that share a superblock, several times. An operation counts once it has ended, however it
ended: what hangs is not in the numbers yet."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from check_mounts import traffic
from check_mounts.clocks import Monotonic, monotonic
from check_mounts.probing import mountstats
from check_mounts.typed import NamedTuple, Optional

# The record of one kind of operation. It stands where all rooms can have it.
Operation = traffic.Operation


class Counters(NamedTuple):
    """The counters of one mount, by the name of the operation, without operations that never
    happened. ``source`` and ``age`` (in whole seconds; None if unknown) tell it from another mount
    that is at its place later."""

    source: bytes
    age: Optional[int]
    operations: Mapping[bytes, Operation]


class Reading(NamedTuple):
    """One look at the counters of all NFS mounts: when it was, and each mount point's."""

    time: Monotonic
    mounts: Mapping[bytes, Counters]


# A line of _print_rpc_iostats. With 19 digits, a number is below 2**63 or nearly so: the kernel
# prints a negative time as one of 20. Columns that a later kernel may add are skipped.
_NUMBER = rb" (\d{1,19})"
_LINE = rb"\t *([A-Za-z0-9_]{1,32}):" + _NUMBER * 8 + rb"(?: (\d{1,19}))?(?: \d+)*\Z"
_AGE = rb"\n\tage:\t(\d{1,19})\n"
_BEGINNING = b"\tper-op statistics\n"
# An operation that never happened, as most have not.
_NEVER = b": 0 0 0 0 0 0 0 0"


def read(path: str = "/proc/self/mountstats") -> Reading:
    """Look at the counters now. Without the file, there are no mounts. Raises nothing."""
    data = mountstats.contents(path)
    return parse(data, monotonic())


def parse(data: bytes, time: Monotonic, points: Optional[Container[bytes]] = None) -> Reading:
    """The counters in the text of the file, which was read at ``time``; only those at some mount
    points if they are given.

    If several mounts are on one point, the last one counts, which is on top. What cannot be
    understood is left out. Never raises."""
    mounts: dict[bytes, Counters] = {}
    for entry in mountstats.entries(data):
        if points is not None and entry.mount_point not in points:
            continue
        before, _, lines = entry.text.partition(_BEGINNING)
        age = re.search(_AGE, before)
        mounts[entry.mount_point] = Counters(entry.source, None if age is None else int(age[1]), _operations(lines))
    return Reading(time, mounts)


def _operations(lines: bytes) -> dict[bytes, Operation]:
    found = {}
    match = re.compile(_LINE).match
    for line in lines.split(b"\n"):
        understood = None if _NEVER in line else match(line)
        if understood is not None:
            name, *numbers, errors = understood.groups()
            found[name] = Operation._make((name, *map(int, numbers), None if errors is None else int(errors)))
    return found


def delta(before: Reading, after: Reading) -> dict[bytes, dict[bytes, Operation]]:
    """Mount point -> what was done there between two looks, without operations that were not.

    A mount is left out unless it was certainly the same mount at both looks, and no counter of its
    has fallen: after a new mount at its place, a counter that wrapped (unsigned long, which has 32
    bits on some hosts) or a line that was not understood, nothing is known of it until the next
    look."""
    found = {}
    for point, now in after.mounts.items():
        then = before.mounts.get(point)
        if then is not None and _is_same(then, now, after.time - before.time):
            moved = _moved(then.operations, now.operations)
            if moved is not None:
                found[point] = moved
    return found


def _is_same(then: Counters, now: Counters, elapsed: float) -> bool:
    """Whether both counters are of one mount.

    Its age has grown by the time between the looks, apart from rounding. A mount that came to this
    place between them is younger than that time; so one that was very young at the first look
    cannot be told from it."""
    if then.age is None or now.age is None or then.source != now.source or elapsed < 0:
        return False
    slack = 2.0 + 0.01 * elapsed
    return then.age > slack + 1 and abs(now.age - then.age - elapsed) <= slack


def _moved(then: Mapping[bytes, Operation], now: Mapping[bytes, Operation]) -> Optional[dict[bytes, Operation]]:
    """What the counters moved by; None if one has fallen."""
    if not then.keys() <= now.keys():
        return None
    moved = {}
    for name, new in now.items():
        old = then.get(name)
        if new == old:
            continue
        difference = new if old is None else _difference(old, new)
        if difference is None:
            return None
        if difference.operations:
            moved[name] = difference
    return moved


def _difference(old: Operation, new: Operation) -> Optional[Operation]:
    errors = None if old.errors is None or new.errors is None else new.errors - old.errors
    numbers = [later - sooner for sooner, later in zip(old[1:-1], new[1:-1])]
    if min(numbers) < 0 or (errors is not None and errors < 0):
        return None
    return Operation._make((new.name, *numbers, errors))
