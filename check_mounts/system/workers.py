"""An elastic pool of forked workers that can be killed and given up; it knows nothing of mounts.

Import budget: ``os``, ``select``; what crew, desks, forked and pending need.

Requests are numbers in one pipe that all workers read from, so the next free worker takes the next
request, and a worker that hangs delays only its own request. Before a worker begins, it notes in
shared memory which request it took, and when. Each worker answers through a pipe of its own; end of
file on that pipe means that the worker is dead. The pool starts with one worker per core. When work
waits and no worker has answered for a while, the pool doubles: a healthy system costs two forks,
and hundreds of hung requests are waited for at the same time.

Invariants:

- The parent never blocks on a worker: it polls with a timeout, writes without blocking, and reaps
  with WNOHANG.
- The parent reads the answers that have arrived before it declares a timeout, and it counts time
  from when a worker began until the worker has its answer. So a late parent, a busy machine or
  SIGSTOP does not make a request time out, even if the worker then waits for room in its pipe.
- The parent believes the notes of a worker for one timeout only, since a user may tamper with a
  worker that acts as that user. One timeout after the parent saw the worker take a request, its
  time is up, whatever it notes. A worker that writes a frame that answers no open request is
  killed.
- The parent kills only its own children, and only before it has reaped them: until then their pid
  cannot belong to another process.
- A failed system call of the parent (no memory, a filter, no right to kill a worker that has become
  a user) loses no answer: the answers that have come are kept, and the rest is tried again."""

from __future__ import annotations

import os
import select

from check_mounts.clocks import PAST, Monotonic, after, monotonic
from check_mounts.system import pending, signals
from check_mounts.system.crew import Crew, Worker
from check_mounts.system.desks import ANSWERING, NOTHING_NOTED, Desks
from check_mounts.system.forked import HEAD, Handler, Life
from check_mounts.typed import NamedTuple, Optional, Union

# If work waits and no worker has answered for this long, in seconds, the pool doubles.
PATIENCE = 0.02
# The pool also doubles where, at the present pace, the waiting requests would take longer than
# _HORIZON seconds or than _PART_OF_TIMEOUT of the timeout: behind many slow mounts a hung one must
# still be found in time.
_HORIZON, _PART_OF_TIMEOUT = 0.5, 0.25
# How much more time a worker gets once it notes that it has an answer: it may lose the processor
# before it has written the answer.
_TO_WRITE = pending.LOST_AFTER
# The longest time between two looks at all workers.
_LOOK = 60.0

# An owner that has no other deadline for its pool sets one this many seconds after a request's
# timeout: the timeout counts from when a worker begins, and no worker begins where no process can
# be started.
TO_BEGIN = 1.0


class Answered(NamedTuple):
    """A worker has served a request."""

    key: int
    answer: bytes


class TimedOut(NamedTuple):
    """A worker did not answer in time and got SIGKILL, which may not end it. ``progress`` is its
    last note (PROGRESS_SIZE bytes, all zero before the first note); ``waited`` is in seconds."""

    key: int
    pid: int
    waited: float
    progress: bytes


class Died(NamedTuple):
    """A worker ended without an answer, or answered nonsense and was killed. ``pid`` is None where
    the pool cannot say which."""

    key: int
    pid: Optional[int]
    progress: bytes


Event = Union[Answered, TimedOut, Died]


class _Pace:
    """How many answers have come since the last look, and when the pool may double next."""

    def __init__(self, timeout: float) -> None:
        self._horizon = min(_HORIZON, timeout * _PART_OF_TIMEOUT)
        self.answers = 0
        self.looked = PAST
        self.grow_at = PAST

    def wait(self) -> None:
        """Note that the pool may double again only after PATIENCE."""
        self.grow_at = after(PATIENCE)

    def is_too_slow(self, waiting: int, now: float) -> bool:
        """Whether the waiting requests would take too long at the pace since the last look."""
        elapsed = now - self.looked
        return elapsed >= PATIENCE / 2 and waiting * elapsed > self.answers * self._horizon

    def begin(self, now: Monotonic) -> None:
        """Begin to count again."""
        self.looked, self.answers = now, 0


class Pool:
    """The pool. ``timeout``: how long one request may take, in seconds. ``answer_size``: in bytes,
    less than PIPE_BUF.

    ``wake_fd``: a descriptor that ends a wait early when it becomes readable (the wake-up pipe of
    signals). ``groups``: supplementary groups of the workers. At most ``max_workers`` processes
    exist at any time, including those given up and still stuck."""

    def __init__(
        self,
        handler: Handler,
        answer_size: int,
        timeout: float,
        max_workers: int,
        wake_fd: Optional[int] = None,
        groups: Optional[tuple[int, ...]] = None,
    ) -> None:
        """Raises OSError; then nothing is left open, because a daemon tries again."""
        self._frame_size = HEAD.size + answer_size
        self._timeout = timeout
        self._desks = Desks(max_workers)
        self._pending = pending.Pending()
        try:
            life = Life(handler, self._desks, self._pending.request_fd, os.getpid(), groups)
            self._crew = Crew(life, max_workers, wake_fd)
        except BaseException:
            self._pending.close()
            raise
        self._events: list[Event] = []  # not yet returned: an exception must not lose them
        self._pace = _Pace(timeout)
        self._look_at = PAST
        self._cores = _cores()

    # -- for the owner of the pool

    def submit(self, key: int, timeout: Optional[float] = None) -> None:
        """Queue a request. ``key`` (32 bits) goes to the handler and comes back with the event.
        ``timeout``: in seconds, if it differs from the pool's."""
        self._pending.add(key, self._timeout if timeout is None else timeout)

    @property
    def busy(self) -> bool:
        """Whether any request has no event yet."""
        return len(self._pending) > 0

    @property
    def forks(self) -> int:
        """How many workers were started."""
        return self._crew.forks

    @property
    def trouble(self) -> Optional[str]:
        """The reason of the last failure to start a worker."""
        return self._crew.trouble

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`wait` has something to do before
        :attr:`due`."""
        return self._crew.fileno()

    @property
    def due(self) -> Monotonic:
        """When :meth:`wait` must be called at the latest."""
        return self._look_at if self._pending.all_sent else PAST

    def wait(self, until: Monotonic) -> list[Event]:
        """Wait for events and return them as soon as any have come; return an empty list if the
        pool was woken, or at ``until``."""
        if not self._pending.all_sent:
            self._send()
        serving = self._crew.by_fd
        for fd in self._crew.await_ready(min(until, self._look_at)):
            if fd == self._crew.wake_fd:
                signals.drain(fd)
            elif fd in serving:
                self._receive(serving[fd])
        if monotonic() >= self._look_at:
            self._look_round()
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def at_work(self, seconds: float) -> list[tuple[int, int, float]]:
        """(key, pid, seconds) of each unanswered request that a worker has had for at least
        ``seconds``."""
        now = monotonic()
        claims = ((worker.pid, *self._claim(worker)) for worker in self._crew.by_fd.values())
        return [(key, pid, now - began) for pid, key, began in claims if key is not None and now - began >= seconds]

    def take_last_answers(self) -> list[Event]:
        """Kill all workers; return the answers that they had given by then. Call only
        :meth:`abandon_all` and :meth:`close` after this."""
        if self.busy:
            for worker in self._crew.by_fd.values():
                self._crew.kill(worker)
            for worker in self._crew.by_fd.values():
                self._read_out(worker)
        return self._take_events()

    def abandon_all(self) -> list[tuple[int, Optional[int], bytes, float]]:
        """Give up all requests and the workers that have them; return (key, pid, progress, seconds
        waited) of each. The pid is None where no worker had the request."""
        now = monotonic()
        rest: list[tuple[int, Optional[int], bytes, float]] = []
        for worker in list(self._crew.by_fd.values()):
            key, began = self._claim(worker)
            if key is not None:
                self._pending.close_one(key)
                rest.append((key, worker.pid, self._desks.progress(worker.slot), max(0.0, now - began)))
                self._crew.give_up(worker)
        rest.extend((key, None, NOTHING_NOTED, 0.0) for key in self._pending.take_all())
        return rest

    def reap(self) -> int:
        """Reap the workers that have ended; return how many given-up ones still exist."""
        return self._crew.reap()

    def close(self, grace: float = 0.05) -> list[int]:
        """Kill all workers; return the pids of those that still exist.

        Waits while one worker after the other ends, and ``grace`` seconds more: a worker that
        SIGKILL can end is gone by then."""
        self.abandon_all()
        self._crew.give_up_all()  # those that are idle, or have not yet noted the request they took
        self._pending.close()
        return self._crew.close(grace)

    # -- requests and answers

    def _send(self) -> None:
        self._pending.send()
        if not self._crew.by_fd and monotonic() >= self._pace.grow_at:
            self._grow()
        # Only the shared memory shows which worker takes them, and when.
        self._look_at = min(self._look_at, after(PATIENCE))

    def _grow(self) -> None:
        """Double the number of workers, as far as there is work and room."""
        self._crew.reap()
        for _ in range(min(len(self._crew.by_fd) or self._cores, len(self._pending), self._crew.room)):
            if not self._crew.start():
                break
        self._pace.wait()

    def _receive(self, worker: Worker) -> bool:
        """Read the answers of a worker; return whether an answer or its end had come."""
        data = self._read(worker)
        if data is None:
            return False
        worker.seen_at = None
        if not data or not self._accept(data):
            # Dead, or not trustworthy. The end of a worker without a request is not an event.
            self._bury(worker)
            return True
        self._pace.wait()
        # After its last answer another worker replaces it if there is work.
        if data[-self._frame_size + HEAD.size - 1]:
            self._crew.forget(worker)
            if self.busy:
                self._crew.start()
        return True

    def _read(self, worker: Worker) -> Optional[bytes]:
        return worker.read(select.PIPE_BUF // self._frame_size * self._frame_size)

    def _accept(self, data: bytes) -> bool:
        """Turn frames into events; return False for frames that answer no open request (a user may
        tamper with a worker that acts as that user)."""
        for start in range(0, len(data), self._frame_size):
            frame = data[start : start + self._frame_size]
            if len(frame) != self._frame_size:
                return False
            key = HEAD.unpack_from(frame)[0]
            if key not in self._pending:
                return False
            self._pending.close_one(key)
            self._pace.answers += 1
            self._events.append(Answered(key, frame[HEAD.size :]))
        return True

    def _read_out(self, worker: Worker) -> None:
        """Read the answers that a worker gave before it was killed, up to the first invalid
        frame."""
        failures = -1
        while failures < worker.failures:  # once more after a failed read
            failures = worker.failures
            while (data := self._read(worker)) and self._accept(data):
                pass

    def _bury(self, worker: Worker) -> None:
        key, _ = self._claim(worker)
        if key is not None:
            self._pending.close_one(key)
            self._events.append(Died(key, worker.pid, self._desks.progress(worker.slot)))
        self._crew.give_up(worker)

    # -- time

    def _look_round(self) -> None:
        """Time out the workers whose time is up, give up lost requests, and start workers if too
        few answer."""
        now = monotonic()
        claimed, soonest = self._look_at_all(now)
        # A request whose answer we have not read yet does not wait for a worker. More workers would
        # only delay a parent that is late with reading.
        unread = self._unread() if len(self._pending) > claimed else 0
        self._events += [Died(key, None, NOTHING_NOTED) for key in self._pending.give_up_lost(claimed + unread)]
        waiting = len(self._pending) - claimed
        if waiting > unread:
            self._pace.answers += unread
            is_quiet = not unread and now >= self._pace.grow_at
            if is_quiet or self._pace.is_too_slow(waiting - unread, now):
                self._grow()
        self._pace.begin(now)
        self._look_at = min(soonest, after(PATIENCE)) if waiting > 0 else soonest

    def _look_at_all(self, now: Monotonic) -> tuple[int, Monotonic]:
        """Time out the workers whose time is up; return how many others have a request, and when
        the time of the first of them is up."""
        claimed, soonest = 0, Monotonic(now + _LOOK)
        for worker in list(self._crew.by_fd.values()):
            key, began, due = self._look_at_one(worker, now)
            while key is not None and now >= due and self._receive(worker):
                # It may have waited for room in its pipe. We have read answers now, so look again
                # whether its request was among them.
                key, began, due = self._look_at_one(worker, now)
            if key is None:
                continue
            if now >= due:
                self._time_out(worker, key, now - began)
            else:
                claimed += 1
                soonest = min(soonest, due)
        return claimed, soonest

    def _look_at_one(self, worker: Worker, now: Monotonic) -> tuple[Optional[int], float, Monotonic]:
        """A worker's request, since when the worker has it, and when its time is up; None where it
        has no request, or was given up."""
        key, began = self._claim(worker)
        if key is None or not self._crew.serves(worker):
            return None, 0.0, PAST
        if worker.seen_at != key:
            worker.seen_at, worker.seen = key, now
        more = _TO_WRITE if began == ANSWERING else 0.0
        began = min(began, worker.seen)  # it may have been tampered with, and note a later time
        return key, began, Monotonic(began + self._pending.timeout(key) + more)

    def _time_out(self, worker: Worker, key: int, waited: float) -> None:
        self._crew.kill(worker)
        # An answer that came at the last moment counts; then only the worker is lost.
        self._read_out(worker)
        if key in self._pending:
            self._pending.close_one(key)
            self._events.append(TimedOut(key, worker.pid, waited, self._desks.progress(worker.slot)))
        self._bury(worker)  # and with it the request that it may have taken after that answer

    def _unread(self) -> int:
        """How many answers wait in the pipes."""
        return sum(pending.bytes_waiting(fd) or 0 for fd in self._crew.by_fd) // self._frame_size

    def _claim(self, worker: Worker) -> tuple[Optional[int], Monotonic]:
        """A worker's open request, and since when it has that, or ANSWERING; None where it has no
        request, or has answered."""
        key, began = self._desks.claim(worker.slot)
        return (key, began) if key in self._pending else (None, PAST)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # a filter of system calls
        return os.cpu_count() or 1
