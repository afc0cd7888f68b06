"""The passes under way: one over all mounts, and a few over mounts that are new or may answer
again."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

from check_mounts.checks import checking
from check_mounts.checks.checking import Check
from check_mounts.clocks import NEVER, PAST, Boottime, Monotonic, boottime, monotonic
from check_mounts.daemon.habits import Habits
from check_mounts.daemon.haunting import Haunting
from check_mounts.model import MountIdentity, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.probing.causes import Past
from check_mounts.probing.owners import Owners
from check_mounts.probing.survey import Pass
from check_mounts.selection import Selection
from check_mounts.system import processes
from check_mounts.system.tasks import Task
from check_mounts.typed import Optional

# No pass over new mounts begins while this many are under way, each delayed by something that
# hangs.
_MOST = 4


class UnderWay:
    """A pass under way. ``whole``: it asks all mounts."""

    __slots__ = ("begun", "keys", "probing", "whole")

    def __init__(self, probing: Pass, keys: set[MountIdentity], whole: bool, begun: Boottime) -> None:
        self.probing, self.keys, self.whole, self.begun = probing, keys, whole, begun


class Passes:
    """All passes of the daemon, as one task that never ends (see tasks.Task)."""

    done = False

    def __init__(self, log_kill: Callable[[int, bytes], None], habits: Habits) -> None:
        """``log_kill`` logs that a probe was killed: its pid, and the mount point. ``habits``: what
        programs did on the mounts between two whole passes."""
        self._log_kill = log_kill
        self._epoll = select.epoll()
        self._under_way: dict[int, UnderWay] = {}
        # Stuck probes that earlier passes have left behind.
        self._lost: list[StuckProbe] = []
        self._past = Past(Owners())
        # When the last complete pass over all mounts began.
        self.taken: Optional[Boottime] = None
        self.habits = habits
        self.haunting = Haunting()

    @property
    def has_room(self) -> bool:
        """Whether a pass over new mounts may begin."""
        return len(self._under_way) < _MOST

    @property
    def is_checking_all(self) -> bool:
        """Whether a pass over all mounts is under way."""
        return any(each.whole for each in self._under_way.values())

    @property
    def keys(self) -> set[MountIdentity]:
        """The mounts that are being asked."""
        return {key for each in self._under_way.values() for key in each.keys}

    def begin(self, options: Check, table: Table, chosen: Selection, whole: bool) -> None:
        """Start a pass. Raises OSError, see checking.begin."""
        self._lost = [probe for probe in self._lost if processes.process_start(probe.pid) == probe.start_time]
        probing = checking.begin(options, table, chosen, lost=self._lost, past=self._past)
        keys = {mount.identity for mount in chosen.selected}
        fd = probing.fileno()
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError:  # no memory
            probing.abandon("a lack of memory")
            raise
        self._under_way[fd] = UnderWay(probing, keys, whole, boottime())

    @property
    def others(self) -> tuple[Task, ...]:
        """The work that goes on between two passes."""
        return *self.habits.tasks, self.haunting

    def take_news(self) -> bool:
        """Whether that work has found something that can be told now."""
        return any([self.habits.take_news(), self.haunting.take_news()])

    def close(self) -> None:
        """Stop that work."""
        self.habits.close()
        self.haunting.close()

    def fileno(self) -> int:
        """A descriptor that is readable once a pass has something to do."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When :meth:`step` must be called at the latest."""
        return min((Monotonic(each.probing.due) for each in self._under_way.values()), default=NEVER)

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with all passes."""
        ready = {fd for fd, _ in self._epoll.poll(0)}
        for fd, each in self._under_way.items():
            if fd in ready or monotonic() >= each.probing.due:
                each.probing.step(until)
                self._log_killed(each.probing)

    def take_ended(self) -> Iterator[UnderWay]:
        """Take out the passes that have ended."""
        for fd, each in list(self._under_way.items()):
            if each.probing.done:
                self._epoll.unregister(fd)
                del self._under_way[fd]
                yield each

    def finish(self, each: UnderWay, reread: Callable[[], Table]) -> Survey:
        """The result of a pass that has ended."""
        result = each.probing.finish(reread)
        self._lost += each.probing.left.probes
        if each.whole:
            self.taken = each.begun
        return result

    def abandon(self, why: str) -> None:
        """Give all passes up. Stuck processes are remembered already, and are not waited for."""
        for each in self._under_way.values():
            each.probing.abandon(why)

    def _log_killed(self, probing: Pass) -> None:
        for pid, mount in probing.book.killed:
            self._log_kill(pid, mount.mount_point)
        probing.book.killed.clear()
