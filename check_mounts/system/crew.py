"""The processes of a pool: the workers that serve, and those that were given up and still exist.

Import budget: ``os``, ``select``; what desks and starters need.

A process is killed only by its parent, and only before that has reaped it: until then its pid
cannot belong to another process."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from time import sleep

from check_mounts.clocks import PAST, monotonic
from check_mounts.system import processes, signals
from check_mounts.system.desks import Desks
from check_mounts.system.starters import Starter
from check_mounts.typed import Optional

# How long the parent sleeps where it cannot wait for an event, in seconds.
_MOMENT = 0.005
# How much longer to wait for the end of a process that was killed and that no system call holds.
_STRAGGLING = 0.5


class Worker:
    """A process that serves. ``pid`` is None until it is known. ``seen_at``: the request that the
    worker had when the parent looked last; ``seen``: when the parent first saw it with that
    request. ``places``: those that it may still write to after it was given up."""

    __slots__ = ("home", "pid", "places", "seen", "seen_at", "slot")

    def __init__(self, slot: int, home: Starter) -> None:
        self.slot, self.home = slot, home
        self.pid: Optional[int] = None
        self.seen_at = 0
        self.seen = PAST
        self.places: list[int] = []


class Crew:
    """At most ``most`` processes at any time, including those given up and still stuck.

    ``starters`` is called for a new way to start workers, and again when that one is dead.
    ``wake_fd``: a descriptor that ends a wait early when it becomes readable. ``trouble``: the
    reason of the last failure to start a process. ``free_place`` is called with each place that a
    worker that is gone had."""

    def __init__(
        self,
        desks: Desks,
        most: int,
        wake_fd: Optional[int],
        poll: select.epoll,
        starter: Callable[[], Starter],
        free_place: Callable[[int], None],
    ) -> None:
        """Raises OSError."""
        self.serving: dict[int, Worker] = {}  # by their slots
        self._given_up: dict[int, Worker] = {}
        self._unburied: set[int] = set()  # slots of workers that were returned as dead, and not given up since
        self._has_lost = False  # a way to start workers
        self._free_slots = list(range(desks.layout.count - 1, -1, -1))
        self._last_kill = PAST
        self.forks = 0
        self.trouble: Optional[str] = None
        self._desks, self._most, self._wake_fd, self._poll = desks, most, wake_fd, poll
        self._new_starter, self._free_place = starter, free_place
        if wake_fd is not None:
            poll.register(wake_fd, select.EPOLLIN)
        self._starter = starter()

    # -- waiting

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`await_news` need not wait."""
        return self._poll.fileno()

    def await_news(self, until: float) -> list[Worker]:
        """Wait for news of workers, until ``until`` at most; return the workers that have died.
        They are no longer among those that serve."""
        try:
            # Rounded up to a millisecond: otherwise epoll_wait would, in the last millisecond,
            # return at once, again and again.
            ready = {fd for fd, _ in self._poll.poll(max(0.0, until - monotonic() + 0.001))}
        except OSError:  # where the kernel cannot say which are readable, the next look finds answers
            sleep(max(0.0, min(_MOMENT, until - monotonic())))
            ready = set()
        if self._wake_fd in ready and self._wake_fd is not None:
            signals.drain(self._wake_fd)
        return self._learn(ready)

    def _learn(self, ready: Iterable[int]) -> list[Worker]:
        died = []
        for slot, pid, errno in self._starter.news(set(ready)):
            worker = self.serving.get(slot) or self._given_up.get(slot)
            if worker is None:
                continue
            if pid:
                worker.pid = pid
                self.forks += 1
                continue
            if errno:  # no process or memory; the pool tries again while work waits
                self.trouble = os.strerror(errno)
            elif slot in self.serving:
                died.append(worker)
                self._unburied.add(slot)
            self.forget(worker)
        if self._starter.is_dead:
            self._lose_starter()
        return died + self._lost()

    def _lose_starter(self) -> None:
        """Start workers in another way from now on. Raises OSError; the next look at the news tries
        it again."""
        old, self._has_lost = self._starter, True
        old.close()
        self._starter = self._new_starter()
        for worker in list(self._given_up.values()):
            if worker.home is old and worker.pid is None:  # it keeps its slot: it may not have died yet
                del self._given_up[worker.slot]

    def _lost(self) -> list[Worker]:
        """The workers that have died with the way in which they were started. One that a system
        call holds stays a worker: nobody else should try what it hangs in."""
        if not self._has_lost:
            return []
        lost = [worker for worker in self.serving.values() if worker.home is not self._starter]
        died = [worker for worker in lost if worker.pid is None or worker.home.is_gone(worker.slot)]
        for worker in died:
            if worker.pid is None:  # as above
                del self.serving[worker.slot]
            else:
                self._unburied.add(worker.slot)
                self.forget(worker)
        return died

    # -- workers come and go

    @property
    def room(self) -> int:
        """How many more processes there may be."""
        return min(self._most - len(self.serving) - len(self._given_up), len(self._free_slots))

    @property
    def is_behind(self) -> bool:
        """Whether most of the workers have no process yet."""
        return 2 * sum([worker.pid is None for worker in self.serving.values()]) > len(self.serving)

    def start(self, count: int) -> list[Worker]:
        """Start so many workers, as far as there is room; return those that have died since."""
        slots = [self._free_slots.pop() for _ in range(min(count, self.room))]
        for slot in slots:
            self._desks.clear(slot)
            self.serving[slot] = Worker(slot, self._starter)
        if slots:
            self._starter.start(slots)
        return self._learn(())

    def kill(self, workers: Iterable[Worker]) -> None:
        """Send SIGKILL and do not wait."""
        slots = [worker.slot for worker in workers if worker.home is self._starter]
        if slots:
            self._last_kill = monotonic()
            self._starter.kill(slots)

    def give_up(self, worker: Worker) -> None:
        """Kill the worker, and no longer count on it. Call it for each worker that has died, too:
        until then nobody else gets its desk, which tells what it had."""
        self._unburied.discard(worker.slot)
        self.kill([worker])
        self.forget(worker)

    def forget(self, worker: Worker) -> None:
        """No longer count on the worker. It must still be reaped."""
        if self.serving.pop(worker.slot, None) is not None:
            self._given_up[worker.slot] = worker
            worker.home.forget(worker.slot)

    def reap(self) -> int:
        """Free what the workers had that are gone; return how many given-up ones still exist."""
        for slot, worker in list(self._given_up.items()):
            if slot not in self._unburied and worker.home.is_gone(slot):
                del self._given_up[slot]
                self._free_slots.append(slot)
                for place in worker.places:
                    self._free_place(place)
        return len(self._given_up)

    # -- the end

    def close(self, grace: float) -> tuple[list[int], bool]:
        """Kill all workers, and wait for those that may still end: while one after the other ends,
        and ``grace`` seconds more, and a little longer for processes that no system call holds.
        Return the pids of those that still exist, and whether they are children of this process."""
        if self._wake_fd is not None:
            try:
                self._poll.unregister(self._wake_fd)
            except OSError:
                pass
        self._unburied.clear()
        self.kill(self.serving.values())
        for worker in list(self.serving.values()):
            self.forget(worker)
        self._await_ends(grace)
        are_children = self._starter.are_children
        self._starter.close()
        try:
            self._poll.close()
        except OSError:
            pass
        # The nursery may be late with reaping.
        left = [each for each in self._given_up.values() if each.home.are_children or not each.home.is_gone(each.slot)]
        return [worker.pid for worker in left if worker.pid is not None], are_children

    def _await_ends(self, grace: float) -> None:
        left, latest = self.reap(), monotonic() + grace + _STRAGGLING
        patience = min(latest, self._last_kill + grace)
        while left and monotonic() < latest:
            if monotonic() >= patience:
                if all(processes.is_held(worker.pid) for worker in self._given_up.values() if worker.pid):
                    return
                patience = monotonic() + _MOMENT
            self._wait_for_an_end(patience)
            before, left = left, self.reap()
            if left < before:
                patience = min(latest, monotonic() + grace)

    def _wait_for_an_end(self, until: float) -> None:
        if self._starter.are_children:
            sleep(0.001)
        else:
            self.await_news(until)


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a filter of system calls
        return os.cpu_count() or 1
