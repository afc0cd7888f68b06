"""An elastic pool of forked workers that can be killed and given up; it knows nothing of mounts.

Import budget: ``select``; what crew and quarters need.

Requests are numbers in one pipe that all workers read from, so the next free worker takes the next
request, and a worker that hangs delays only its own request. Before a worker begins, it notes in
shared memory which request it took, and when. There it also leaves its answer. Where many requests
wait, the parent looks for answers every few milliseconds; once none waits, each worker wakes the
parent when it has an answer. The pool starts with one worker per core. When work waits and no
worker has answered for a while, the pool doubles: a healthy system costs two forks, and hundreds of
hung requests are waited for at the same time.

Invariants:

- The parent never blocks on a worker or on the nursery: it polls with a timeout, writes without
  blocking, and reaps with WNOHANG.
- The parent takes the answers that have come before it declares a timeout, and a worker never waits
  for the parent. So a late parent, a busy machine or SIGSTOP does not make a request time out.
- The parent believes the notes of a worker for one timeout only, since a user may tamper with a
  worker that acts as that user. One timeout after the parent saw the worker take a request, its
  time is up, whatever it notes. A worker whose answer makes no sense is killed. The parent looks
  for answers several times a second even if nobody wakes it.
- The place of an answer is used again only once the worker that could write to it has answered, or
  its process is gone.
- A failed system call of the parent (no memory, a filter, no right to kill a worker that has become
  a user) loses no answer: the answers that have come are kept, and the rest is tried again."""

from __future__ import annotations

import select
from collections.abc import Sequence

from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.system.crew import Crew, Worker, cores
from check_mounts.system.desks import HEAD, NOTHING_NOTED
from check_mounts.system.pending import Request
from check_mounts.system.quarters import Outside, Quarters
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional, Union

if TYPE_CHECKING:
    from check_mounts.system.forked import Handler

# If work waits and no worker has answered for this long, in seconds, the pool doubles.
PATIENCE = 0.02
# The pool also doubles where, at the present pace, the waiting requests would take longer than
# _HORIZON seconds or than _PART_OF_TIMEOUT of the timeout: behind many slow mounts a hung one must
# still be found in time.
_HORIZON, _PART_OF_TIMEOUT = 0.5, 0.25
# The longest time between two looks at all workers.
_LOOK = 60.0
# How long answers may wait for the parent, in seconds: while requests wait for workers, and while
# workers should wake the parent.
_BATCH, _NAP = 0.003, 0.1
# How much later than its time is up a worker may be timed out, in seconds, where others were timed
# out just before.
_LOT = 0.01

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
    """The pool. ``timeout``: how long one request may take, in seconds. ``answer_size``: in bytes.
    ``wake_fd``: a descriptor that ends a wait early when it becomes readable (the wake-up pipe of
    signals). ``groups``: supplementary groups of the workers. At most ``max_workers`` processes
    exist at any time, including those given up and still stuck. With ``outside``, workers are
    forked in the nursery, if there is one."""

    def __init__(
        self,
        handler: Handler,
        answer_size: int,
        timeout: float,
        max_workers: int,
        wake_fd: Optional[int] = None,
        groups: Optional[tuple[int, ...]] = None,
        outside: Optional[Outside] = None,
    ) -> None:
        """Raises OSError; then nothing is left open, because a daemon tries again."""
        self._timeout = timeout
        self._poll = select.epoll()
        quarters = None
        try:
            quarters = Quarters(handler, answer_size, max_workers, groups, outside, self._poll)
            self._desks, self._pending = quarters.desks, quarters.pending
            self._crew = Crew(self._desks, max_workers, wake_fd, self._poll, quarters.starter, self._pending.free)
        except BaseException:
            self._poll.close()
            if quarters is not None:
                quarters.close()
            raise
        self._quarters = quarters
        # Events that were not returned, and workers not given up: an exception must not lose them.
        self._events, self._dead = list[Event](), list[Worker]()
        self._pace = _Pace(timeout)
        self._look_at = self._scan_at = PAST
        self._cores, self._opened = cores(), monotonic()
        # Whether the pool's pids are of children of this process: known at the end.
        self.leaves_children = True

    # -- for the owner of the pool

    def submit(self, key: int, content: bytes = b"", timeout: Optional[float] = None) -> None:
        """Queue a request. ``key`` (32 bits) and ``content`` go to the handler; the key comes back
        with the event. ``timeout``: in seconds, if it differs from the pool's."""
        self._pending.add(key, content, self._timeout if timeout is None else timeout)
        self._scan_at = PAST

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
        return min(self._look_at, self._scan_at)

    def wait(self, until: Monotonic) -> list[Event]:
        """Wait for events and return them as soon as any have come; return an empty list if the
        pool was woken, or at ``until``."""
        if not self._pending.all_sent:
            self._send()
        self._scan_at = self._next_scan()
        self._take_answers()
        if not self._events:
            self._dead += self._crew.await_news(min(until, self._look_at, self._scan_at))
            self._take_answers()
        if monotonic() >= self._look_at:
            self._look_round()
        if self.busy and not self._pending.all_sent:
            self._send()
        while self._dead:  # before they died, they may have answered
            dead, self._dead = self._dead, []
            self._take_answers()
            for worker in dead:
                self._bury(worker)
        return self._take_events()

    def _next_scan(self) -> Monotonic:
        if not self.busy:
            return NEVER
        return after(_NAP if self._desks.wakes and self._pending.all_sent else _BATCH)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def at_work(self, seconds: float) -> list[tuple[int, int, float]]:
        """(key, pid, seconds) of each unanswered request that a worker has had for at least
        ``seconds``."""
        now = monotonic()
        found = []
        for worker, request, began in self._claimed():
            if worker.pid is not None and now - max(self._opened, began) >= seconds:
                found.append((request.key, worker.pid, now - max(self._opened, began)))
        return found

    def take_last_answers(self) -> list[Event]:
        """Kill all workers; return the answers that they had given by then. Call only
        :meth:`abandon_all` and :meth:`close` after this."""
        if self.busy:
            self._crew.kill(self._crew.serving.values())
            self._take_answers()
        return self._take_events()

    def abandon_all(self) -> list[tuple[int, Optional[int], bytes, float]]:
        """Give up all requests and the workers that have them; return (key, pid, progress, seconds
        waited) of each. The pid is None where no worker had the request."""
        now, rest = monotonic(), list[tuple[int, Optional[int], bytes, float]]()
        dead, self._dead = [*self._dead, *self._crew.await_news(PAST)], []
        for worker in (*dead, *self._crew.serving.values()):
            request, began = self._claim(worker)
            if request is not None:
                del self._pending.open[request.serial]
                rest.append((request.key, worker.pid, self._desks.progress(worker.slot), max(0.0, now - began)))
            if request is not None or worker in dead:
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
        left, self.leaves_children = self._crew.close(grace)
        self._quarters.close()
        return left

    # -- requests and answers

    def _send(self) -> None:
        self._pending.send()
        if not self._crew.serving and monotonic() >= self._pace.grow_at:
            self._grow()
        # Only the shared memory shows which worker takes them, and when.
        self._look_at = min(self._look_at, after(PATIENCE))

    def _grow(self) -> None:
        """Double the number of workers, as far as there is work and room."""
        self._crew.reap()
        if not self._crew.is_behind:
            self._dead += self._crew.start(min(len(self._crew.serving) or self._cores, len(self._pending)))
        self._pace.wait()

    def _take_answers(self) -> None:
        """Turn the answers that have come into events."""
        frames = self._desks.answers(self._pending.used)
        if not frames:
            return
        requests, events, unpack = self._pending.open, self._events, HEAD.unpack_from
        for place, frame in frames:
            serial, slot, last = unpack(frame)
            request = requests.get(serial)
            if request is None or request.place != place:
                self._distrust(place)
                continue
            self._pending.answered(serial)
            events.append(Answered(request.key, frame[HEAD.size :]))
            if last:
                self._replace(slot, serial)
        self._pace.answers += len(frames)
        self._pace.wait()

    def _distrust(self, place: int) -> None:
        """Kill the worker that has left a frame in this place which answers no open request, if a
        request has the place: a user may tamper with a worker that acts as that user. A frame in a
        place that no request has may come from a worker that was killed; it says nothing."""
        for worker in list(self._crew.serving.values()):
            request, _ = self._claim(worker)
            if request is not None and request.place == place:
                self._bury(worker)

    def _replace(self, slot: int, serial: int) -> None:
        """After the last answer of a worker, start another one if there is work."""
        worker = self._crew.serving.get(slot)
        if worker is not None and self._desks.claim(slot)[0] == serial:
            self._crew.forget(worker)
        if self.busy:
            self._dead += self._crew.start(1)

    def _bury(self, worker: Worker) -> None:
        self._tell_death(worker)
        self._crew.give_up(worker)

    def _tell_death(self, worker: Worker) -> None:
        request, _ = self._claim(worker)
        if request is not None:
            self._close(worker, request)
            self._events.append(Died(request.key, worker.pid, self._desks.progress(worker.slot)))

    def _close(self, worker: Worker, request: Request) -> None:
        del self._pending.open[request.serial]
        worker.places.append(request.place)  # it may still answer, until it is gone

    # -- time

    def _look_round(self) -> None:
        """Time out the workers whose time is up, give up lost requests, and start workers if too
        few answer."""
        self._take_answers()
        now = monotonic()
        claimed, soonest = self._look_at_all(now)
        for request in self._pending.give_up_lost(claimed):
            self._events.append(Died(request.key, None, NOTHING_NOTED))
        waiting = len(self._pending) - claimed
        if waiting > 0 and (now >= self._pace.grow_at or self._pace.is_too_slow(waiting, now)):
            self._grow()
        self._pace.begin(now)
        self._look_at = min(soonest, after(PATIENCE)) if waiting > 0 else soonest

    def _look_at_all(self, now: Monotonic) -> tuple[int, Monotonic]:
        """Time out the workers whose time is up; return how many others have a request, and when
        the time of the first of them is up."""
        claimed, soonest = 0, now + _LOOK
        late = []
        for worker, request, began in self._claimed():
            if worker.seen_at != request.serial:
                worker.seen_at, worker.seen = request.serial, now
            # It may have been tampered with, and note a later time, or one that is not a number.
            due = (began if began <= worker.seen else worker.seen) + request.timeout
            due = max(due, now + PATIENCE) if worker.pid is None else due  # a timeout names the pid: await the news
            if now < due:
                claimed += 1
                soonest = soonest if soonest < due else due
            else:
                late.append(worker)
        again = self._time_out(late, now)
        # Hundreds that began one after the other time out in a few lots.
        soonest = now + PATIENCE if again else max(soonest, now + _LOT) if late else soonest
        return claimed + again, Monotonic(soonest)

    def _claimed(self) -> list[tuple[Worker, Request, float]]:
        """Each worker that has an open request, and since when by its own account, at a look (see
        Desks.claims)."""
        serving, find = self._crew.serving, self._pending.open.get
        claims = self._desks.claims(max(serving, default=-1) + 1)
        found = [(worker, find(claims[slot][1]), claims[slot][0]) for slot, worker in serving.items()]
        return [(worker, request, began) for worker, request, began in found if request is not None]

    def _time_out(self, late: Sequence[Worker], now: Monotonic) -> int:
        """Time out these workers, if a second look confirms that their time is up; return how many
        have more time."""
        up = []
        for worker in late:
            request, began = self._claim(worker)
            if request is not None and now >= min(began, worker.seen) + request.timeout:
                up.append((worker, now - min(began, worker.seen)))
        self._crew.kill([worker for worker, _ in up])
        # An answer that came at the last moment counts; then only the worker is lost.
        self._take_answers()
        for worker, waited in up:
            request, _ = self._claim(worker)
            if request is not None and request.serial == worker.seen_at:
                self._close(worker, request)
                self._events.append(TimedOut(request.key, worker.pid or 0, waited, self._desks.progress(worker.slot)))
            self._tell_death(worker)  # and with it the request that it may have taken after that answer
            self._crew.forget(worker)
        return len(late) - len(up)

    def _claim(self, worker: Worker) -> tuple[Optional[Request], Monotonic]:
        """A worker's open request, and since when the worker has it; None where it has no request,
        or has answered."""
        serial, began = self._desks.claim(worker.slot)
        return self._pending.open.get(serial), began
