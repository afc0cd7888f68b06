"""An elastic pool of forked workers that can be killed and given up. It knows nothing of mounts.

Import budget: ``mmap``, ``os``, ``resource``, ``select``, ``signal``, ``struct``, ``time``; ctypes
and fcntl by way of syscalls.

Requests are numbers in one pipe that all workers read from, so whoever is free takes the next, and
a worker that hangs holds up nothing but its own request. Before a worker begins, it notes in shared
memory what it took and when; answers come back through a pipe of its own, whose end of file is its
death. The pool starts with one worker per core. When work waits and nobody has answered for a
while, it doubles: a healthy system costs two forks, and hundreds of hung requests are waited for at
the same time.

Invariants:

- The parent never blocks on a worker: it polls with a timeout, writes without blocking, reaps with
  WNOHANG.
- What has arrived is read before a timeout is declared, and time counts from when the worker began
  until it has its answer: a late parent, a busy machine or SIGSTOP does not make a request time
  out, though the worker waits for room in its pipe by then.
- What a worker says of itself is believed for a while only, since one that acts as a user may be
  tampered with: its time is up that long after it was seen at a request, whatever it notes. Each
  frame that it is to be read for costs an open request.
- Only own children that are not reaped yet are killed: until then their pid cannot belong to
  anybody else.
- A system call of the parent that fails (no memory, a filter, no right to kill a worker that has
  become a user) costs no answer: what has come is kept, and the rest is tried again.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import resource
import select
import signal
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic, sleep
from typing import NoReturn, Optional, Union

from check_mounts import privilege, signals, syscalls

# How long nobody may have answered, while work waits, before the pool doubles.
PATIENCE = 0.02
# It also doubles where those who answer would need longer than this for what waits, or than that
# part of the timeout: behind many slow mounts a hung one must still be found in time.
_HORIZON, _PART_OF_TIMEOUT = 0.5, 0.25
# When a request that nobody seems to have is lost, and an answer that a worker says it has, though
# there is room for it. It may lose the processor before it has noted what it took, or written what
# it found.
_LOST_AFTER = 2.0
# How long the parent sleeps where it cannot wait for an event, in seconds, and how often an answer
# may fail to be read.
_MOMENT, _MOST_FAILURES = 0.005, 100

# Whose pool has no other end gives it one so many seconds after a request's timeout: that counts
# from when a worker begins, and where no process can be started none does.
TO_BEGIN = 1.0

_REQUEST_FD, _ANSWER_FD = 3, 4
_KEY = struct.Struct("<I")
_HEAD = struct.Struct("<IB")  # of an answer: key, and whether it is the worker's last
# What a worker is at: time it began (CLOCK_MONOTONIC), key + 1 (0: nothing), and what it says of
# its progress. The time is written before the key and read after it, so a key never goes with the
# time of an older one. It is _ANSWERING from when there is an answer: 496 of the survey's fill a
# pipe, and then it is the parent who keeps the worker waiting.
_BEGAN, _CLAIM = struct.Struct("<d"), struct.Struct("<I")
_ANSWERING = float("inf")
_PROGRESS, _DESK = 16, 64
PROGRESS_SIZE = _DESK - _PROGRESS


@dataclasses.dataclass(frozen=True)
class Answered:
    """A worker has served a request."""

    key: int
    answer: bytes


@dataclasses.dataclass(frozen=True)
class TimedOut:
    """A worker did not answer in time and got SIGKILL, which it may not heed. ``progress`` is the
    last that it noted (PROGRESS_SIZE bytes, zeroes where it noted nothing)."""

    key: int
    pid: int
    waited: float
    progress: bytes


@dataclasses.dataclass(frozen=True)
class Died:
    """A worker ended without an answer, or answered nonsense and was killed. ``pid`` is None where
    nobody knows which."""

    key: int
    pid: Optional[int]
    progress: bytes


Event = Union[Answered, TimedOut, Died]


@dataclasses.dataclass(frozen=True)
class Desk:
    """What a worker has at hand while it serves: its slot, the pid of its parent, and ``note`` for
    its progress (PROGRESS_SIZE bytes at the most), which the parent can read though the worker
    hangs."""

    slot: int
    parent: int
    note: Callable[[bytes], None]


# Serves a request: the answer, and whether the worker can serve no other after it.
Handler = Callable[[int, Desk], "tuple[bytes, bool]"]


@dataclasses.dataclass
class _Worker:
    """``seen_at``: the request that it was at when the parent looked, ``seen`` when that was for
    the first time since its last answer. ``failures``: how often its answers could not be read."""

    slot: int
    pid: int
    answer_fd: int
    seen_at: Optional[int] = None
    seen: float = 0.0
    failures: int = 0


class Pool:
    """The pool. ``timeout`` in seconds is what one request may take; ``answer_size`` in bytes is
    less than PIPE_BUF.

    ``wake_fd``: a descriptor whose readability ends a wait early (the wake-up pipe of signals).
    ``groups``: supplementary groups of the workers. No more than ``max_workers`` processes exist at
    any time, those given up and still stuck included."""

    def __init__(
        self,
        handler: Handler,
        answer_size: int,
        timeout: float,
        max_workers: int,
        wake_fd: Optional[int] = None,
        groups: Optional[tuple[int, ...]] = None,
    ) -> None:
        self._handler = handler
        self._frame_size = _HEAD.size + answer_size
        self._timeout = timeout
        self._max_workers = max_workers
        self._wake_fd = wake_fd
        self._groups = groups
        self._open: set[int] = set()  # submitted, no event yet
        self._unsent: deque[int] = deque()
        self._events: list[Event] = []  # not handed out yet: an error in between must not lose them
        self._suspects: dict[int, float] = {}
        self._answers = 0
        self._looked = 0.0
        self._by_fd: dict[int, _Worker] = {}
        self._given_up: dict[int, int] = {}  # pid -> slot
        self._free_slots = list(range(max_workers - 1, -1, -1))
        self._desks = mmap.mmap(-1, max_workers * _DESK)
        self._request_fd, self._send_fd = os.pipe()
        try:
            os.set_blocking(self._send_fd, False)
            self._devnull = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            try:
                # Itself a descriptor, so that somebody who waits for more than this pool can wait
                # for it.
                self._poll = select.epoll()
                if wake_fd is not None:
                    self._poll.register(wake_fd, select.EPOLLIN)
            except BaseException:
                os.close(self._devnull)
                raise
        except BaseException:  # no descriptor to be had: a daemon tries again, and must not lose these
            os.close(self._request_fd)
            os.close(self._send_fd)
            raise
        self._look_at = self._grow_at = 0.0
        self._opened = monotonic()
        self._parent = os.getpid()
        self._cores = _cores()
        self._timeouts: dict[int, float] = {}
        self.forks = 0
        self.trouble: Optional[str] = None
        _allow_descriptors(max_workers + 64)

    # -- what the owner of the pool does with it

    def submit(self, key: int, timeout: Optional[float] = None) -> None:
        """Queue a request. ``key`` (32 bits) goes to the handler and comes back with its event.
        ``timeout``: another one than the pool's, in seconds."""
        if timeout is not None:
            self._timeouts[key] = timeout
        self._open.add(key)
        self._unsent.append(key)

    @property
    def busy(self) -> bool:
        """Whether any request has no event yet."""
        return bool(self._open)

    def fileno(self) -> int:
        """A descriptor that is readable where :meth:`wait` has something to do before it is
        :attr:`due`."""
        return self._poll.fileno()

    @property
    def due(self) -> float:
        """When :meth:`wait` wants to be called at the latest (CLOCK_MONOTONIC)."""
        return 0.0 if self._unsent else self._look_at

    def wait(self, until: float) -> list[Event]:
        """Events up to the time ``until`` (CLOCK_MONOTONIC), as soon as there are any; none where
        it was woken or ran out."""
        if self._unsent:
            self._send()
        for fd in self._ready(until):
            if fd == self._wake_fd:
                _drain(fd)
            elif fd in self._by_fd:
                self._receive(self._by_fd[fd])
        if monotonic() >= self._look_at:
            self._look_round()
        return self._taken_events()

    def _taken_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _ready(self, until: float) -> list[int]:
        """The descriptors that have something to say, as soon as there are any. All, where that
        cannot be found out: to read one that has nothing does not block."""
        try:
            # Rounded up to a millisecond: epoll_wait would return at once before the time, again
            # and again.
            return [fd for fd, _ in self._poll.poll(max(0.0, min(until, self._look_at) - monotonic() + 0.001))]
        except OSError:
            sleep(max(0.0, min(_MOMENT, until - monotonic())))
            return [*self._by_fd, *([] if self._wake_fd is None else [self._wake_fd])]

    def at_work(self, seconds: float) -> list[tuple[int, int, float]]:
        """(key, pid, seconds) of each request that a worker has been at for so long, and has no
        answer to."""
        now = monotonic()
        claims = ((worker.pid, *self._claim(worker)) for worker in self._by_fd.values())
        return [(key, pid, now - began) for pid, key, began in claims if key is not None and now - began >= seconds]

    def last_answers(self) -> list[Event]:
        """Kill all workers; what they had answered by then. Nothing but :meth:`unserved` and
        :meth:`close` may follow."""
        if self._open:
            for worker in self._by_fd.values():
                self._kill(worker)
            for worker in self._by_fd.values():
                self._read_out(worker)
        return self._taken_events()

    def unserved(self) -> list[tuple[int, Optional[int], bytes, float]]:
        """Give up everything: (key, pid or None where no worker had it, progress, seconds waited)
        of each open request."""
        now = monotonic()
        rest: list[tuple[int, Optional[int], bytes, float]] = []
        for worker in list(self._by_fd.values()):
            key, began = self._claim(worker)
            if key is not None:
                self._open.discard(key)
                rest.append((key, worker.pid, self._progress(worker), max(0.0, now - began)))
                self._give_up(worker)
        rest.extend((key, None, bytes(PROGRESS_SIZE), 0.0) for key in self._open)
        self._open.clear()
        self._unsent.clear()
        return rest

    def reap(self) -> int:
        """Reap what has ended; the number of processes given up that have not."""
        for pid, slot in list(self._given_up.items()):
            if syscalls.reaped(pid):
                del self._given_up[pid]
                self._free_slots.append(slot)
        return len(self._given_up)

    def close(self, grace: float = 0.05) -> list[int]:
        """End all workers; the pids of those that have not ended although they got SIGKILL.

        Waits as long as workers keep ending, and ``grace`` seconds more: a worker that can be
        killed at all is gone by then."""
        self.unserved()
        for worker in list(self._by_fd.values()):
            self._give_up(worker)  # idle, or just about to note that it is not
        for fd in (self._send_fd, self._request_fd):
            syscalls.close(fd)
        left = self.reap()
        patience = monotonic() + grace
        while left and monotonic() < patience:
            sleep(0.001)
            before, left = left, self.reap()
            if left < before:
                patience = monotonic() + grace
        syscalls.close(self._devnull)
        try:
            self._poll.close()
        except OSError:
            pass
        return list(self._given_up)

    # -- requests and answers

    def _send(self) -> None:
        """As many requests as the pipe takes; writes of up to PIPE_BUF bytes are not torn
        (pipe(7))."""
        while self._unsent:
            keys = [self._unsent[i] for i in range(min(len(self._unsent), select.PIPE_BUF // _KEY.size))]
            try:
                os.write(self._send_fd, b"".join(map(_KEY.pack, keys)))
            except (
                OSError
            ):  # full: thousands are waiting, more after the next answers; or no memory, and more a little later
                break
            for _ in keys:
                self._unsent.popleft()
        if not self._by_fd and monotonic() >= self._grow_at:
            self._grow()
        # Who takes them, and when, is seen in shared memory only.
        self._look_at = min(self._look_at, monotonic() + PATIENCE)

    def _read(self, worker: _Worker) -> Optional[bytes]:
        """What a worker has answered: nothing where it is dead, None where there is nothing yet."""
        try:
            return os.read(worker.answer_fd, select.PIPE_BUF // self._frame_size * self._frame_size)
        except BlockingIOError:
            return None
        except OSError:  # no memory, say: what is in the pipe is still there the next time
            worker.failures += 1
            return b"" if worker.failures > _MOST_FAILURES else None

    def _receive(self, worker: _Worker) -> bool:
        """Whether there was an answer, or the end of the worker."""
        data = self._read(worker)
        if data is None:
            return False
        worker.seen_at = None
        if not data or not self._accept(data):
            # Dead, or not to be trusted. A worker without a request that ends has merely ended.
            self._bury(worker)
            return True
        self._grow_at = monotonic() + PATIENCE
        if data[-self._frame_size + _HEAD.size - 1]:  # it was its last; another one takes its place if there is work
            self._forget(worker)
            if self._open:
                self._start_worker()
        return True

    def _accept(self, data: bytes) -> bool:
        """Turn frames into events; False where they are none of ours (a worker that acts as a user
        may be tampered with)."""
        for start in range(0, len(data), self._frame_size):
            frame = data[start : start + self._frame_size]
            if len(frame) != self._frame_size:
                return False
            key = _HEAD.unpack_from(frame)[0]
            if key not in self._open:
                return False
            self._open.discard(key)
            self._answers += 1
            self._events.append(Answered(key, frame[_HEAD.size :]))
        return True

    def _read_out(self, worker: _Worker) -> None:
        """Read what a worker that was killed has answered before, up to the first frame that is
        none."""
        failures = -1
        while failures < worker.failures:  # once more, where it could not be read
            failures = worker.failures
            while (data := self._read(worker)) and self._accept(data):
                pass

    def _bury(self, worker: _Worker) -> None:
        key, _ = self._claim(worker)
        if key is not None:
            self._open.discard(key)
            self._events.append(Died(key, worker.pid, self._progress(worker)))
        self._give_up(worker)

    # -- time

    def _look_round(self) -> None:
        """Who has run out of time, and are there enough of them?"""
        now = monotonic()
        claimed, soonest = 0, now + 60.0
        for worker in list(self._by_fd.values()):
            key, began, due = self._look_at_one(worker, now)
            while key is not None and now >= due and self._receive(worker):
                # It may have waited for room there. That a request is among them is seen from its
                # claim.
                key, began, due = self._look_at_one(worker, now)
            if key is None:
                continue
            if now >= due:
                self._time_out(worker, key, now - began)
            else:
                claimed += 1
                soonest = min(soonest, due)
        # What is answered does not wait, though it was not read. More workers would only keep a
        # late parent from it.
        unread = self._unread() if len(self._open) > claimed else 0
        self._find_lost(claimed + unread)
        waiting = len(self._open) - claimed
        if waiting > unread:
            self._answers += unread
            if (not unread and now >= self._grow_at) or self._is_too_slow(waiting - unread, now - self._looked):
                self._grow()
        if waiting > 0:
            soonest = min(soonest, monotonic() + PATIENCE)
        self._looked, self._answers = now, 0
        self._look_at = soonest

    def _look_at_one(self, worker: _Worker, now: float) -> tuple[Optional[int], float, float]:
        """What a worker is at, since when, and when its time is up; None where it is at nothing, or
        is no longer ours."""
        key, began = self._claim(worker)
        if key is None or self._by_fd.get(worker.answer_fd) is not worker:
            return None, 0.0, 0.0
        if worker.seen_at != key:
            worker.seen_at, worker.seen = key, now
        more = _LOST_AFTER if began == _ANSWERING else 0.0
        began = min(began, worker.seen)  # whatever it notes
        return key, began, began + self._timeouts.get(key, self._timeout) + more

    def _is_too_slow(self, waiting: int, elapsed: float) -> bool:
        """Would what waits take too long at the pace of the last ``elapsed`` seconds?"""
        horizon = min(_HORIZON, self._timeout * _PART_OF_TIMEOUT)
        return elapsed >= PATIENCE / 2 and waiting * elapsed > self._answers * horizon

    def _find_lost(self, known: int) -> None:
        """Requests that nobody has: taken by a worker that was killed before it could note that, or
        that answered nonsense.

        Only after a while, because a worker may just be about to note what it took. ``known``: how
        many have a worker or an answer."""
        suspects: dict[int, float] = {}
        if not known and not self._unsent and _waiting_in(self._request_fd) == 0:
            now = monotonic()
            suspects = {key: self._suspects.get(key, now) for key in self._open}
            for key in [key for key, since in suspects.items() if now - since >= _LOST_AFTER]:
                self._open.discard(key)
                self._events.append(Died(key, None, bytes(PROGRESS_SIZE)))
        self._suspects = suspects

    def _time_out(self, worker: _Worker, key: int, waited: float) -> None:
        self._kill(worker)
        # An answer may have come at the last moment; then it counts, and only the worker is lost.
        self._read_out(worker)
        if key in self._open:
            self._open.discard(key)
            self._events.append(TimedOut(key, worker.pid, waited, self._progress(worker)))
        self._bury(worker)  # with what it may have taken after that answer

    def _unread(self) -> int:
        """How many answers there are in the pipes."""
        return sum(_waiting_in(fd) or 0 for fd in self._by_fd) // self._frame_size

    def _claim(self, worker: _Worker) -> tuple[Optional[int], float]:
        """What a worker is at and since when, or _ANSWERING; None where it is at nothing, or has
        answered already."""
        desk = worker.slot * _DESK
        key = _CLAIM.unpack_from(self._desks, desk + 8)[0] - 1
        # Whatever it notes: not before there was a pool. Of NaN, max() takes the first.
        began = max(self._opened, _BEGAN.unpack_from(self._desks, desk)[0])
        return (key, began) if key in self._open else (None, 0.0)

    def _progress(self, worker: _Worker) -> bytes:
        return self._desks[worker.slot * _DESK + _PROGRESS : (worker.slot + 1) * _DESK]

    # -- workers come and go

    def _grow(self) -> None:
        """Double, as far as there is work and room."""
        self.reap()
        working = len(self._by_fd)
        room = self._max_workers - working - len(self._given_up)
        for _ in range(min(working or self._cores, len(self._open), room)):
            if not self._start_worker():
                break
        self._grow_at = monotonic() + PATIENCE

    def _start_worker(self) -> bool:
        if not self._free_slots:
            return False
        slot = self._free_slots.pop()
        self._desks[slot * _DESK : (slot + 1) * _DESK] = bytes(_DESK)
        pipe: tuple[int, ...] = ()
        try:
            pipe = os.pipe()
            os.set_blocking(pipe[0], False)
            self._poll.register(pipe[0], select.EPOLLIN)
            pid = os.fork()
        except OSError as error:  # no process, memory or descriptor to be had; tried again as long as work waits
            self.trouble = error.strerror or str(error)
            self._free_slots.append(slot)
            for fd in pipe:  # what is closed is no longer polled
                syscalls.close(fd)
            return False
        if pid == 0:
            self._serve(slot, pipe[1])
        self.forks += 1
        self._by_fd[pipe[0]] = _Worker(slot, pid, pipe[0])
        syscalls.close(pipe[1])
        return True

    def _kill(self, worker: _Worker) -> None:
        """SIGKILL, and no wait: it may be in a system call that no signal ends.

        It is gone already, or has become a user whom we may not kill (EPERM without CAP_KILL): then
        it is given up all the same."""
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except OSError:
            pass

    def _give_up(self, worker: _Worker) -> None:
        self._kill(worker)
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """No longer listen to it. It is ours to reap all the same."""
        del self._by_fd[worker.answer_fd]
        self._given_up[worker.pid] = worker.slot
        try:
            self._poll.unregister(worker.answer_fd)
        except OSError:  # once it is closed it is no longer polled anyway
            pass
        syscalls.close(worker.answer_fd)

    def _serve(self, slot: int, answer_fd: int) -> NoReturn:
        """The life of a worker. Whatever happens, it never returns into the parent's code."""
        try:
            settle(self._request_fd, answer_fd, self._devnull, self._parent, self._groups)
            desks, place = self._desks, slot * _DESK

            def note(progress: bytes) -> None:
                desks[place + _PROGRESS : place + _PROGRESS + len(progress)] = progress

            desk = Desk(slot, self._parent, note)
            last = False
            while not last and (request := os.read(_REQUEST_FD, _KEY.size)):
                key = _KEY.unpack(request)[0]
                note(bytes(PROGRESS_SIZE))
                _BEGAN.pack_into(desks, place, monotonic())
                _CLAIM.pack_into(desks, place + 8, key + 1)
                answer, last = self._handler(key, desk)
                _BEGAN.pack_into(desks, place, _ANSWERING)
                os.write(_ANSWER_FD, _HEAD.pack(key, last) + answer)
                _CLAIM.pack_into(desks, place + 8, 0)
        finally:
            os._exit(0)


def settle(request_fd: int, answer_fd: int, devnull: int, parent: int, groups: Optional[tuple[int, ...]]) -> None:
    """Leave everything of the parent's behind but the two pipes.

    Above all its descriptors: nrpe waits for the end of file on pipes that it leaks to plugins (fds
    5 and 6), and a worker that cannot die would keep them open for ever."""
    signals.back_to_default()
    try:
        os.setsid()
    except OSError:
        pass  # a filter: then what is sent to the caller's group comes here, too
    # Up and out of the way first: the pipes themselves may have any number, 3 and 4 swapped
    # included.
    keep = [os.dup(fd) for fd in (request_fd, answer_fd)]
    while min(keep) <= _ANSWER_FD:
        keep = [os.dup(fd) for fd in keep]
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    os.dup2(keep[0], _REQUEST_FD)
    os.dup2(keep[1], _ANSWER_FD)
    syscalls.close_from(_ANSWER_FD + 1)
    os.chdir("/")
    try:
        if groups is not None or os.geteuid() == 0:
            privilege.drop_groups(groups or ())
    except OSError:
        pass  # no CAP_SETGID: as far as the caller may
    syscalls.set_name(b"check_mounts:w")
    syscalls.survive_shutdown()
    syscalls.die_with_parent(parent)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a filter of system calls
        return os.cpu_count() or 1


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except OSError:
        pass


def _waiting_in(fd: int) -> Optional[int]:
    """How many bytes are in a pipe; None where that cannot be said."""
    try:
        return syscalls.bytes_waiting(fd)
    except OSError:
        return None


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
