"""The processes of a pool: those that serve, and those that were given up and have not ended.

Import budget: ``os``, ``resource``, ``select``; what desks and forked need.

Only own children that are not reaped yet are killed: until then their pid cannot belong to another
process."""

from __future__ import annotations

import os
import resource
import select
from time import sleep
from typing import Optional

from check_mounts.clocks import PAST, Monotonic, monotonic
from check_mounts.system import processes, syscalls
from check_mounts.system.forked import Life

# How long the parent sleeps where it cannot wait for an event, in seconds, and how often an answer
# may fail to be read.
_MOMENT, _MOST_FAILURES = 0.005, 100


class Worker:
    """A process that serves. ``seen_at``: the request that it was at when the parent looked last;
    ``seen``: when the parent first saw it there. ``failures``: how often its answers could not be
    read."""

    __slots__ = ("answer_fd", "failures", "pid", "seen", "seen_at", "slot")

    def __init__(self, slot: int, pid: int, answer_fd: int) -> None:
        self.slot, self.pid, self.answer_fd = slot, pid, answer_fd
        self.seen_at: Optional[int] = None
        self.seen = PAST
        self.failures = 0

    def read(self, size: int) -> Optional[bytes]:
        """Read what it has answered: empty where it is dead, None where nothing has come yet."""
        try:
            return os.read(self.answer_fd, size)
        except BlockingIOError:
            return None
        except OSError:  # no memory, for example: the pipe still has it the next time
            self.failures += 1
            return b"" if self.failures > _MOST_FAILURES else None


class Crew:
    """At most ``most`` processes at any time, those given up and still stuck included.

    ``wake_fd``: a descriptor whose readability ends a wait early. ``trouble``: why a process could
    not be started, the last time that it could not."""

    def __init__(self, life: Life, most: int, wake_fd: Optional[int]) -> None:
        """Raises OSError; then nothing is left open."""
        self._life, self._most, self.wake_fd = life, most, wake_fd
        self.by_fd: dict[int, Worker] = {}  # those that serve, by their answer_fd
        self._given_up: dict[int, int] = {}  # pid -> slot
        self._free_slots = list(range(most - 1, -1, -1))
        self.forks = 0
        self.trouble: Optional[str] = None
        self._devnull = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            # An epoll is itself a descriptor, so that an owner that waits for more than this pool
            # can wait for it.
            self._poll = select.epoll()
            if wake_fd is not None:
                self._poll.register(wake_fd, select.EPOLLIN)
        except BaseException:
            os.close(self._devnull)
            raise
        _allow_descriptors(most + 64)

    # -- waiting

    def fileno(self) -> int:
        """A descriptor that is readable where :meth:`ready` would return some at once."""
        return self._poll.fileno()

    def ready(self, until: float) -> list[int]:
        """Wait until then for descriptors to become readable, and return those that are; all of
        them where the kernel cannot say which: to read from an empty one does not block."""
        try:
            # Rounded up to a millisecond: epoll_wait would return at once before the time, again
            # and again.
            return [fd for fd, _ in self._poll.poll(max(0.0, until - monotonic() + 0.001))]
        except OSError:
            sleep(max(0.0, min(_MOMENT, until - monotonic())))
            return [*self.by_fd, *([] if self.wake_fd is None else [self.wake_fd])]

    # -- workers come and go

    @property
    def room(self) -> int:
        """How many more processes there may be."""
        return self._most - len(self.by_fd) - len(self._given_up)

    def start(self) -> bool:
        """Fork a worker; return whether that was possible."""
        if not self._free_slots:
            return False
        slot = self._free_slots.pop()
        self._life.desks.clear(slot)
        pipe: tuple[int, ...] = ()
        try:
            pipe = os.pipe()
            os.set_blocking(pipe[0], False)
            self._poll.register(pipe[0], select.EPOLLIN)
            pid = os.fork()
        except OSError as error:  # no process, memory or descriptor; tried again as long as work waits
            self.trouble = error.strerror or str(error)
            self._free_slots.append(slot)
            for fd in pipe:  # closing them also ends their polling
                syscalls.close(fd)
            return False
        if pid == 0:
            self._life.live(slot, pipe[1], self._devnull)
        self.forks += 1
        self.by_fd[pipe[0]] = Worker(slot, pid, pipe[0])
        syscalls.close(pipe[1])
        return True

    def serves(self, worker: Worker) -> bool:
        """Whether it was not given up yet. Its descriptor's number may be another worker's by
        now."""
        return self.by_fd.get(worker.answer_fd) is worker

    @staticmethod
    def kill(worker: Worker) -> None:
        """SIGKILL, and no wait: it may be in a system call that no signal ends.

        Where that fails, it is gone already, or has become a user whom we may not kill (EPERM
        without CAP_KILL): then it is given up all the same."""
        processes.kill(worker.pid)

    def give_up(self, worker: Worker) -> None:
        """Kill it, and no longer listen to it."""
        self.kill(worker)
        self.forget(worker)

    def forget(self, worker: Worker) -> None:
        """No longer listen to it. We must still reap it."""
        del self.by_fd[worker.answer_fd]
        self._given_up[worker.pid] = worker.slot
        try:
            self._poll.unregister(worker.answer_fd)
        except OSError:  # closing it ends its polling anyway
            pass
        syscalls.close(worker.answer_fd)

    def reap(self) -> int:
        """Reap the workers that have ended; return how many were given up and have not ended."""
        for pid, slot in list(self._given_up.items()):
            if processes.reaped(pid):
                del self._given_up[pid]
                self._free_slots.append(slot)
        return len(self._given_up)

    # -- the end

    def give_all_up(self) -> None:
        """Give up all that serve."""
        for worker in list(self.by_fd.values()):
            self.give_up(worker)

    def close(self, grace: float) -> list[int]:
        """Wait for the workers given up as long as they keep ending, and ``grace`` seconds more;
        return the pids of those that have not ended."""
        left = self.reap()
        patience = monotonic() + grace
        while left and monotonic() < patience:
            sleep(0.001)
            before, left = left, self.reap()
            if left < before:
                patience = Monotonic(monotonic() + grace)
        syscalls.close(self._devnull)
        try:
            self._poll.close()
        except OSError:
            pass
        return list(self._given_up)


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files, 1,024 on most systems, as far as it goes: each worker
    takes one of them here. Without, there may be fewer workers than wanted."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # a filter of system calls: then there are fewer workers at a time
