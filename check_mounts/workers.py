"""An elastic pool of forked workers that can be killed and given up. It knows nothing of mounts.

Import budget: ``mmap``, ``os``, ``select``, ``signal``, ``time``.

The pool starts with one worker per core and uses each again as long as it answers. When work waits and nobody has answered for a
while, it doubles: a healthy system costs two forks, and hundreds of hung requests are waited for at the same time. Invariants:

- The parent never blocks on a worker: it polls pipes with a timeout, writes without blocking, reaps with WNOHANG.
- What has arrived is read before a timeout is declared, so a late parent (a busy machine, SIGSTOP) does not blame a worker.
- Only own children that are not reaped yet are killed: until then their pid cannot belong to anybody else.
- The ledger is told of a request before the worker is, so that a record exists even if this process is killed at once.
"""

from __future__ import annotations

import collections
import dataclasses
import mmap
import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn, Optional, Protocol, Union

from check_mounts import privilege, syscalls

# How long nobody may have answered, while work waits, before the pool doubles.
PATIENCE = 0.02

_REQUEST_FD, _ANSWER_FD = 3, 4
_MORE, _LAST = b"\0", b"\1"
_LONGEST_POLL = 60.0

# Gets a request and a function that notes progress (1-255), gives the answer and whether the worker can serve no other.
Handler = Callable[[bytes, Callable[[int], None], int], "tuple[bytes, bool]"]


class Ledger(Protocol):
    """Who has been sent to what, kept where a later run can find it."""

    def began(self, slot: int, pid: int, key: int) -> None:
        """The worker in ``slot`` is about to get the request ``key``."""

    def ended(self, slot: int) -> None:
        """The worker in ``slot`` has nothing to do, or is no more."""


@dataclasses.dataclass(frozen=True)
class Answered:
    """A worker has served a request."""

    key: int
    answer: bytes


@dataclasses.dataclass(frozen=True)
class TimedOut:
    """A worker did not answer in time and got SIGKILL, which it may not heed. ``progress`` is the last that it noted."""

    key: int
    pid: int
    waited: float
    progress: int


@dataclasses.dataclass(frozen=True)
class Died:
    """A worker ended without an answer, or answered nonsense and was killed."""

    key: int
    pid: int
    progress: int


Event = Union[Answered, TimedOut, Died]


@dataclasses.dataclass
class _Worker:
    slot: int
    pid: int
    request_fd: int
    answer_fd: int
    key: Optional[int] = None
    began: float = 0.0
    starving: bool = False


class Pool:
    """The pool. ``timeout`` in seconds is what one request may take; ``answer_size`` in bytes less than PIPE_BUF.

    ``wake_fd``: a descriptor whose readability ends a wait early (the wake-up pipe of signals). ``groups``: supplementary groups
    of the workers. No more than ``max_workers`` processes exist at any time, those given up and still stuck included.
    """

    def __init__(
        self,
        handler: Handler,
        answer_size: int,
        timeout: float,
        max_workers: int,
        ledger: Ledger,
        wake_fd: Optional[int] = None,
        groups: tuple[int, ...] = (),
    ) -> None:
        self._handler = handler
        self._answer_size = answer_size
        self._timeout = timeout
        self._max_workers = max_workers
        self._ledger = ledger
        self._wake_fd = wake_fd
        self._groups = groups
        self._queue: collections.deque[tuple[int, bytes]] = collections.deque()
        self._by_fd: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []
        self._given_up: dict[int, int] = {}  # pid -> slot
        self._free_slots = list(range(max_workers - 1, -1, -1))
        # One byte a worker, shared with it: where it is. Memory, because a hung worker cannot be asked.
        self._progress = mmap.mmap(-1, max(max_workers, 1))
        self._poll = select.poll()
        if wake_fd is not None:
            self._poll.register(wake_fd, select.POLLIN)
        self._grow_at = 0.0
        self._parent = os.getpid()
        self._cores = len(os.sched_getaffinity(0))
        self._devnull = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.forks = 0
        self.trouble: Optional[str] = None
        _allow_descriptors(2 * max_workers + 64)

    # -- what the owner of the pool does with it

    def submit(self, key: int, request: bytes) -> None:
        """Queue a request. ``key`` comes back with its event."""
        self._queue.append((key, request))

    @property
    def busy(self) -> bool:
        """Whether any request is queued or being served."""
        return bool(self._queue) or len(self._by_fd) > len(self._idle)

    def wait(self, until: float) -> list[Event]:
        """Events up to the time ``until`` (CLOCK_MONOTONIC), as soon as there are any; none where it was woken or ran out."""
        events: list[Event] = []
        self._feed()
        self._grow()
        for fd, _ in self._poll.poll(self._poll_milliseconds(until)):
            if fd == self._wake_fd:
                _drain(fd)
            else:
                self._receive(self._by_fd[fd], events)
        self._expire(events)
        return events

    def unserved(self) -> list[tuple[int, Optional[int], int, float]]:
        """Give up everything: (key, pid or None where no worker had it, progress, seconds waited) of each open request."""
        now = time.monotonic()
        rest: list[tuple[int, Optional[int], int, float]] = []
        for worker in list(self._by_fd.values()):
            if worker.key is not None:
                rest.append((worker.key, worker.pid, self._progress[worker.slot], now - worker.began))
                self._give_up(worker)
        rest.extend((key, None, 0, 0.0) for key, _ in self._queue)
        self._queue.clear()
        return rest

    def dismiss(self) -> None:
        """Let the idle workers go: they end at the end of file on their pipe."""
        for worker in list(self._by_fd.values()):
            if worker.key is None:
                self._forget(worker)

    def reap(self) -> int:
        """Reap what has ended; the number of processes that have not."""
        for pid, slot in list(self._given_up.items()):
            if _has_ended(pid):
                self._release(pid, slot)
        return len(self._given_up)

    def close(self, grace: float = 0.05) -> list[int]:
        """End all workers; the pids of those that have not ended although they got SIGKILL.

        Waits as long as workers keep ending, and ``grace`` seconds more: a worker that can be killed at all is gone by then.
        """
        self.unserved()
        self.dismiss()
        left = self.reap()
        patience = time.monotonic() + grace
        while left and time.monotonic() < patience:
            time.sleep(0.001)
            before, left = left, self.reap()
            if left < before:
                patience = time.monotonic() + grace
        os.close(self._devnull)
        return list(self._given_up)

    # -- the inside

    def _poll_milliseconds(self, until: float) -> int:
        now = time.monotonic()
        if self._queue:
            until = min(until, self._grow_at)
        for worker in self._by_fd.values():
            if worker.key is not None:
                until = min(until, now + PATIENCE if worker.starving else worker.began + self._timeout)
        return max(0, int(min(until - now, _LONGEST_POLL) * 1000 + 1))

    def _feed(self) -> None:
        while self._queue and self._idle:
            self._dispatch(self._idle.pop())

    def _dispatch(self, worker: _Worker) -> None:
        key, request = self._queue.popleft()
        self._progress[worker.slot] = 0
        worker.key, worker.began, worker.starving = key, time.monotonic(), False
        self._ledger.began(worker.slot, worker.pid, key)
        try:
            sent = os.write(worker.request_fd, request)
        except OSError:  # it has just died (EPIPE), or its pipe cannot take it: another worker is to have the request
            sent = -1
        if sent != len(request):
            self._queue.appendleft((key, request))
            worker.key = None
            self._give_up(worker)

    def _grow(self) -> None:
        now = time.monotonic()
        if not self._queue or now < self._grow_at:
            return
        self.reap()
        working = len(self._by_fd)
        room = self._max_workers - working - len(self._given_up)
        for _ in range(min(working or self._cores, len(self._queue), room)):
            if not self._start_worker():
                break
        self._grow_at = time.monotonic() + PATIENCE

    def _start_worker(self) -> bool:
        slot = self._free_slots.pop()
        pipes: list[int] = []
        try:
            for _ in range(2):
                pipes.extend(os.pipe())
            os.set_blocking(pipes[1], False)
            pid = os.fork()
        except OSError as error:  # no process, memory or descriptor to be had; tried again as long as work waits
            self.trouble = error.strerror or str(error)
            self._free_slots.append(slot)
            for fd in pipes:
                os.close(fd)
            return False
        if pid == 0:
            self._serve(slot, pipes[0], pipes[3])
        self.forks += 1
        os.close(pipes[0])
        os.close(pipes[3])
        worker = _Worker(slot, pid, pipes[1], pipes[2])
        self._by_fd[worker.answer_fd] = worker
        self._poll.register(worker.answer_fd, select.POLLIN)
        if self._queue:
            self._dispatch(worker)
        else:
            self._idle.append(worker)
        return True

    def _receive(self, worker: _Worker, events: list[Event]) -> None:
        try:
            frame = os.read(worker.answer_fd, select.PIPE_BUF)
        except OSError:
            frame = b""
        key = worker.key
        if key is None or len(frame) != self._answer_size + 1:
            # Dead, or not to be trusted. An idle worker that ends has merely ended.
            if key is not None:
                events.append(Died(key, worker.pid, self._progress[worker.slot]))
            self._give_up(worker)
            return
        events.append(Answered(key, frame[1:]))
        worker.key = None
        self._grow_at = time.monotonic() + PATIENCE
        if frame[:1] != _MORE:
            self._forget(worker)
        elif self._queue:
            self._dispatch(worker)
        else:
            self._ledger.ended(worker.slot)
            self._idle.append(worker)

    def _expire(self, events: list[Event]) -> None:
        now = time.monotonic()
        for worker in list(self._by_fd.values()):
            if worker.key is None or now - worker.began < self._timeout:
                continue
            if self._progress[worker.slot] == 0:
                # It has not got the processor yet: an overloaded machine, not a hung request. The run's deadline ends it.
                worker.starving = True
                continue
            if worker.starving:
                # It began somewhere between then and now; from here on it has the whole time.
                worker.starving, worker.began = False, now
                continue
            events.append(TimedOut(worker.key, worker.pid, now - worker.began, self._progress[worker.slot]))
            self._give_up(worker)

    def _give_up(self, worker: _Worker) -> None:
        """SIGKILL, and no wait: it may be in a system call that no signal ends. Its record stays until it is reaped."""
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """No longer work with it. Closing its pipe also ends it, if it still listens."""
        self._poll.unregister(worker.answer_fd)
        del self._by_fd[worker.answer_fd]
        if worker in self._idle:
            self._idle.remove(worker)
        os.close(worker.request_fd)
        os.close(worker.answer_fd)
        self._given_up[worker.pid] = worker.slot
        if _has_ended(worker.pid):
            self._release(worker.pid, worker.slot)

    def _release(self, pid: int, slot: int) -> None:
        del self._given_up[pid]
        self._free_slots.append(slot)
        self._ledger.ended(slot)

    def _serve(self, slot: int, request_fd: int, answer_fd: int) -> NoReturn:
        """The life of a worker. Whatever happens, it never returns into the parent's code."""
        try:
            _settle(request_fd, answer_fd, self._devnull, self._parent, self._groups)
            shared = self._progress

            def progress(value: int) -> None:
                shared[slot] = value

            while request := os.read(_REQUEST_FD, 65536):
                answer, used_up = self._handler(request, progress, self._parent)
                os.write(_ANSWER_FD, (_LAST if used_up else _MORE) + answer)
                if used_up:
                    break
        finally:
            os._exit(0)


def _settle(request_fd: int, answer_fd: int, devnull: int, parent: int, groups: tuple[int, ...]) -> None:
    """Leave everything of the parent's behind but the two pipes.

    Above all its descriptors: nrpe waits for the end of file on pipes that it leaks to plugins (fds 5 and 6), and a worker that
    cannot die would keep them open for ever.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None) and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    # A signal that the parent's caller had blocked would otherwise stay so.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    # Up and out of the way first: the pipes themselves may have any number, 3 and 4 swapped included.
    keep = [os.dup(fd) for fd in (request_fd, answer_fd)]
    while min(keep) <= _ANSWER_FD:
        keep = [os.dup(fd) for fd in keep]
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    os.dup2(keep[0], _REQUEST_FD)
    os.dup2(keep[1], _ANSWER_FD)
    syscalls.close_from(_ANSWER_FD + 1)
    os.chdir("/")
    if os.geteuid() == 0:
        try:
            privilege.drop_groups(groups)
        except OSError:
            pass  # no CAP_SETGID: as far as the caller may
    syscalls.set_name(b"check_mounts:w")
    privilege.die_with_parent(parent)


def _has_ended(pid: int) -> bool:
    """Reap a child if it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody ignores SIGCHLD for us: it is reaped by the kernel
        return True


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except OSError:
        pass


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files, 1,024 on most systems, as far as it goes: each worker takes two of them here."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
