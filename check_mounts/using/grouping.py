"""The users of a mount in words: grouped by what people know them by, bounded in length, and safe
for any output. Pure.

Import budget: ``collections``; text, clocks."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator, Sequence

from check_mounts import text
from check_mounts.clocks import epoch_of
from check_mounts.typed import Any
from check_mounts.using.model import How, Process, Users

# The names of our own processes begin so.
OURS = b"check_mounts:"
# How many groups a line names.
_GROUPS = 5
_ORDER = {how: place for place, how in enumerate(How)}
# For one process, and for several.
_HOLD = {
    How.OPEN: ("has it open", "have it open"),
    How.STANDS: ("stands in it", "stand in it"),
    How.ROOT: ("has its root directory in it", "have their root directory in it"),
    How.RUNS: ("runs a program of it", "run a program of it"),
}
# What is said of users if none was seen, and the look did not come to its end.
NONE_SEEN = "not all processes could be looked at: none was seen"


def least(users: Users) -> str:
    """What stands before a count: it is no count of all if the look was cut short."""
    return "" if users.is_whole else "at least "


def without(users: Users, pids: Collection[int] = ()) -> Users:
    """The users without the workers of check_mounts itself, of this run or of another one: they
    wait by our order. ``pids``: others that do not count."""

    def others(processes: Sequence[Process]) -> tuple[Process, ...]:
        return tuple(each for each in processes if each.pid not in pids and not each.name.startswith(OURS))

    return users._replace(processes=others(users.processes), probable=others(users.probable))


def waiting_words(users: Users) -> str:
    """Who waits: ``41 processes of 6 users wait: httpd x30 (apache2.service), cp x11; 3 more may:
    ls x3``. Empty if nobody does."""
    certain = each_once(each for each in users.processes if each.how is How.WAITS)
    known = {(each.pid, each.start_time) for each in certain}
    maybe = [
        each
        for each in each_once([each for each in users.processes if each.how is How.PROBABLY] + list(users.probable))
        if (each.pid, each.start_time) not in known
    ]
    if not certain:
        return f"{least(users)}{_of_users(maybe)} probably {_verb(maybe, 'wait')}: {groups(maybe)}" if maybe else ""
    words = f"{least(users)}{_of_users(certain)} {_verb(certain, 'wait')}: {groups(certain)}"
    return f"{words}; {len(maybe)} more probably: {groups(maybe)}" if maybe else words


def holding_words(users: Users) -> str:
    """Who holds it: ``5 processes of 2 users have it open: mysqld (mariadb.service), bash x4; 2
    processes of 1 user stand in it: bash x2``. Empty if nobody does. Who waits does not count."""
    parts = []
    waiting = {(each.pid, each.start_time) for each in (*users.processes, *users.probable) if each.how.hangs}
    holding = each_once(each for each in users.processes if (each.pid, each.start_time) not in waiting)
    for how, (one, several) in _HOLD.items():
        these = [each for each in holding if each.how is how]
        if these:
            verb = one if len(these) == 1 else several
            parts.append(f"{least(users)}{_of_users(these)} {verb}: {groups(these)}")
    return "; ".join(parts)


def each_once(processes: Iterable[Process]) -> list[Process]:
    """Each process once, with the way that counts most, in the order of pids."""
    best: dict[tuple[int, int], Process] = {}
    for each in processes:
        key = each.pid, each.start_time
        if key not in best or _ORDER[each.how] < _ORDER[best[key].how]:
            best[key] = each
    return [best[key] for key in sorted(best)]


def groups(processes: Sequence[Process], most: int = _GROUPS) -> str:
    """``httpd x30 (apache2.service), cp x2 and 3 more``: the largest groups first."""
    counts = collections.Counter((each.name, each.unit) for each in processes)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [
        text.printable(name) + (f" x{count}" if count > 1 else "") + (f" ({unit})" if unit else "")
        for (name, unit), count in ordered[:most]
    ]
    rest = sum(count for _, count in ordered[most:])
    return ", ".join(words) + (f" and {rest} more" if rest else "")


def _of_users(processes: Sequence[Process]) -> str:
    uids = {each.uid for each in processes}
    return f"{text.counted(len(processes), 'process')} of {text.counted(len(uids), 'user')}"


def _verb(processes: Sequence[Process], verb: str) -> str:
    return verb + "s" if len(processes) == 1 else verb


def line(process: Process) -> str:
    """One process: ``pid 42 (httpd), user 33, apache2.service: waits in rpc_wait_bit_killable
    (D)``."""
    words = f"pid {process.pid} ({text.printable(process.name)}), user {process.uid}"
    words += f", {process.unit}" if process.unit else ""
    words += ", in another mount namespace" if process.elsewhere else ""
    words += f": {process.how.value}"
    if process.how.hangs:
        words += f" in {process.function}" if process.function else ""
        words += f" (state {process.state}"
        words += f", since {text.moment(process.since)}" if process.since is not None else ""
        words += f", {process.waiting} threads" if process.waiting > 1 else ""
        words += ")"
    return words


def json_form(users: Users) -> dict[str, Any]:
    """What ``--json`` shows: the counts, the processes, and why some may be missing."""
    every = list(_in_order(users))
    counts = collections.Counter(each.how for each in each_once(every))
    return {
        "counts": {how.name.lower(): counts[how] for how in How},
        "incomplete": list(users.incomplete),
        "processes": [json_of(each) for each in every],
    }


def _in_order(users: Users) -> Iterator[Process]:
    return iter(sorted((*users.processes, *users.probable), key=lambda each: (_ORDER[each.how], each.pid)))


def json_of(process: Process) -> dict[str, Any]:
    """One process. ``since`` is in seconds since the epoch."""
    return {
        "pid": process.pid,
        "start_time": process.start_time,
        "uid": process.uid,
        "name": text.printable(process.name),
        "unit": process.unit,
        "state": process.state,
        "how": process.how.name.lower(),
        "device": None if process.device is None else "{}:{}".format(*process.device),
        "since": None if process.since is None else round(epoch_of(process.since), 3),
        "thread": process.thread or None,
        "waiting_threads": process.waiting,
        "function": process.function or None,
        "elsewhere": process.elsewhere,
    }
