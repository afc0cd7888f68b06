"""The processes of a pool: the workers that serve, and those that were given up and still exist.

Import budget: ``os``, ``resource``, ``select``; what desks and forked need.

The pool kills only its own children, and only before it has reaped them: until then their pid
cannot belong to another process."""

from __future__ import annotations

import os
import resource
import select
from time import sleep

from check_mounts.clocks import PAST, Monotonic, monotonic
from check_mounts.system import processes, syscalls
from check_mounts.system.forked import Life
from check_mounts.typed import Optional

# How long the parent sleeps where it cannot wait for an event, in seconds, and how often the read
# of an answer may fail.
_MOMENT, _MOST_FAILURES = 0.005, 100


class Worker:
    """A process that serves. ``seen_at``: the request that the worker had when the parent looked
    last; ``seen``: when the parent first saw it with that request. ``failures``: how often reading
    its answers failed."""

    __slots__ = ("answer_fd", "failures", "pid", "seen", "seen_at", "slot")

    def __init__(self, slot: int, pid: int, answer_fd: int) -> None:
        self.slot, self.pid, self.answer_fd = slot, pid, answer_fd
        self.seen_at: Optional[int] = None
        self.seen = PAST
        self.failures = 0

    def read(self, size: int) -> Optional[bytes]:
        """Read its answers: empty where the worker is dead, None where nothing has come yet."""
        try:
            return os.read(self.answer_fd, size)
        except BlockingIOError:
            return None
        except OSError:  # no memory, for example: the answer stays in the pipe until the next read
            self.failures += 1
            return b"" if self.failures > _MOST_FAILURES else None


class Crew:
    """At most ``most`` processes at any time, including those given up and still stuck.

    ``wake_fd``: a descriptor that ends a wait early when it becomes readable. ``trouble``: the
    reason of the last failure to start a process."""

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
            # An epoll is itself a descriptor, so an owner that waits for more than this pool can
            # wait for the epoll.
            self._poll = select.epoll()
            if wake_fd is not None:
                self._poll.register(wake_fd, select.EPOLLIN)
        except BaseException:
            os.close(self._devnull)
            raise
        _allow_descriptors(most + 64)

    # -- waiting

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`await_ready` need not wait."""
        return self._poll.fileno()

    def await_ready(self, until: float) -> list[int]:
        """Wait for descriptors to become readable, until ``until`` at most, and return those that
        are. Where the kernel cannot say which, return all: a read from an empty pipe does not
        block."""
        try:
            # Rounded up to a millisecond: otherwise epoll_wait would, in the last millisecond,
            # return at once, again and again.
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
        """Fork a worker; return whether that succeeded."""
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
        except OSError as error:  # no process, memory or descriptor; the pool tries again while work waits
            self.trouble = error.strerror or str(error)
            self._free_slots.append(slot)
            for fd in pipe:  # closing them also removes them from the epoll
                syscalls.close(fd)
            return False
        if pid == 0:
            self._life.live(slot, pipe[1], self._devnull)
        self.forks += 1
        self.by_fd[pipe[0]] = Worker(slot, pid, pipe[0])
        syscalls.close(pipe[1])
        return True

    def serves(self, worker: Worker) -> bool:
        """Whether the worker has not been given up. The number of its descriptor may belong to
        another worker by now."""
        return self.by_fd.get(worker.answer_fd) is worker

    @staticmethod
    def kill(worker: Worker) -> None:
        """Send SIGKILL and do not wait: the worker may be in a system call that no signal ends.

        Where the kernel refuses it, the worker is gone already, or it runs as a user whose
        processes we may not kill (EPERM without CAP_KILL). The pool gives it up all the same."""
        processes.kill(worker.pid)

    def give_up(self, worker: Worker) -> None:
        """Kill the worker, and no longer listen to it."""
        self.kill(worker)
        self.forget(worker)

    def forget(self, worker: Worker) -> None:
        """No longer listen to the worker. We must still reap it."""
        del self.by_fd[worker.answer_fd]
        self._given_up[worker.pid] = worker.slot
        try:
            self._poll.unregister(worker.answer_fd)
        except OSError:  # closing the descriptor removes it from the epoll anyway
            pass
        syscalls.close(worker.answer_fd)

    def reap(self) -> int:
        """Reap the workers that have ended; return how many given-up ones still exist."""
        for pid, slot in list(self._given_up.items()):
            if processes.reap(pid):
                del self._given_up[pid]
                self._free_slots.append(slot)
        return len(self._given_up)

    # -- the end

    def give_up_all(self) -> None:
        """Give up all workers that serve."""
        for worker in list(self.by_fd.values()):
            self.give_up(worker)

    def close(self, grace: float) -> list[int]:
        """Wait for the given-up workers while one after the other ends, and ``grace`` seconds more;
        return the pids of those that still exist."""
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
    """Raise the soft limit of open files to ``count``, or as far as the hard limit allows.

    The limit is 1,024 on most systems, and each worker takes one descriptor of the parent. Where
    the limit cannot be raised, there are fewer workers at a time."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # a filter of system calls: then there are fewer workers at a time
