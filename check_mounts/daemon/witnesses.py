"""The processes that wait for mounts that hang: one look for all of them when one comes to hang,
and two more later, because processes come to it one after the other."""

from __future__ import annotations

import collections
import select
from collections.abc import Callable, Iterable, Mapping, Sequence

from check_mounts import selection, text
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.incidents.records import Waiting
from check_mounts.model import Mount
from check_mounts.system import processes
from check_mounts.typed import Optional
from check_mounts.using import grouping, look
from check_mounts.using.model import How, Process, Users, Wanted

# How long a look may take; how much later the others come; and how much time is between two looks
# at least, whatever comes to hang; all in seconds.
_LONGEST, _LATER, _BETWEEN = 10.0, (0.0, 60.0, 600.0), 30.0
# After a look that left a process behind, how soon we see whether it has ended.
_AGAIN = 5.0
_MOST_GROUPS = 3


class Witnesses:
    """Looks for processes that wait. A task that never ends (see tasks.Task). ``tell`` gets what is
    known of the mounts at some mount points after a look."""

    done = False

    def __init__(self, tell: Callable[[Sequence[bytes], Waiting], None]) -> None:
        self._tell = tell
        self._epoll = select.epoll()
        self._look: Optional[look.UsersLook] = None
        # The mounts that hang.
        self._hung: Sequence[Mount] = ()
        self._due: list[Monotonic] = []
        self._not_before = PAST
        # Processes of earlier looks that could not be ended.
        self._left: list[int] = []

    def follow(self, hung: Sequence[Mount], is_news: bool) -> None:
        """Note which mounts hang now. ``is_news``: one of them did not before."""
        self._hung = hung
        if not hung:
            self._due.clear()
        elif is_news:
            self._due = [after(seconds) for seconds in _LATER]

    def fileno(self) -> int:
        """A descriptor that is readable once a look has found something."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        if self._look is not None:
            return self._look.due
        if not self._due:
            return NEVER
        return max(self._due[0], self._not_before, after(_AGAIN) if self._left else PAST)

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with a look, or begin one that is due."""
        self._left = processes.reap_ended(self._left)
        if self._look is not None:
            self._look.step(until)
            if self._look.done:
                self._end(self._look)
        elif self._due and not self._left and monotonic() >= max(self._due[0], self._not_before):
            self._begin()

    def _begin(self) -> None:
        now = monotonic()
        self._due = [when for when in self._due if when > now]
        self._not_before = after(_BETWEEN)
        wanted = Wanted(tuple(self._hung), frozenset(mount.device for mount in self._hung))
        self._look = look.begin(wanted, _LONGEST)
        self._epoll.register(self._look.fileno(), select.EPOLLIN)

    def _end(self, ended: look.UsersLook) -> None:
        users = ended.users()
        self._epoll.unregister(ended.fileno())
        ended.close()
        self._look = None
        self._left += ended.users().left
        for mounts in _by_server(self._hung).values():
            waiting = waiting_at(users, mounts)
            if waiting is not None:
                self._tell([mount.mount_point for mount in mounts], waiting)

    def close(self) -> None:
        """Stop."""
        if self._look is not None:
            self._look.close()
            self._look = None


# -- pure


def _by_server(hung: Iterable[Mount]) -> Mapping[object, Sequence[Mount]]:
    found: dict[object, list[Mount]] = {}
    for mount in hung:
        found.setdefault(selection.server(mount) or mount.device, []).append(mount)
    return found


def waiting_at(users: Users, mounts: Sequence[Mount]) -> Optional[Waiting]:
    """The processes that wait for these mounts; None without any. Those that may wait for one of
    several mounts count for each server: nobody can say for which they wait."""
    devices = {mount.device for mount in mounts}
    users = grouping.without(users)
    found = [each for each in users.processes if each.device in devices and each.how.hangs]
    waiting = grouping.each_once([*found, *users.probable])
    if not waiting:
        return None
    certain = sum(each.how is How.WAITS for each in waiting)
    words = "at least " if users.incomplete else ""
    words += text.counted(len(waiting), "process")
    words += " waited" if certain else " probably waited"
    return Waiting(len(waiting), words + _most(waiting), len(mounts), grouping.groups(waiting))


def _most(waiting: Sequence[Process]) -> str:
    """``, most in backup.service``; if no unit has more than half of them, the largest groups."""
    unit, count = collections.Counter(each.unit for each in waiting).most_common(1)[0]
    if unit and count == len(waiting):
        return f" in {text.clipped(unit, 100)}"
    if unit and 2 * count > len(waiting):
        return f", most in {text.clipped(unit, 100)}"
    return f": {grouping.groups(waiting, _MOST_GROUPS)}"
