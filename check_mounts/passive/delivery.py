"""The delivery of results to monitoring servers. Each destination has a worker of its own, which is
killed when its time is up.

Import budget: ``select``; clocks. The destinations have loaded what they need. A
server that is dead, or that accepts everything and never answers, costs one worker and one line. It
delays neither another destination nor a check. Nothing is queued: after a failure, the next attempt
delivers the results that are current then."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence

from check_mounts import text
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.passive import Destination, Refused, Result, Undelivered, progress
from check_mounts.passive.parked import Parked
from check_mounts.system import processes, workers
from check_mounts.system.desks import Desk
from check_mounts.typed import NamedTuple, Optional

# The answer of a worker: a mark and words, and a bit for each result that was refused for itself.
_WORDS_SIZE, _BITS_SIZE = 1024, 1024
_ANSWER_SIZE = _WORDS_SIZE + _BITS_SIZE
_ARRIVED, _SENT, _REFUSED, _FAILED = b"+", b"~", b"!", b"-"
# A destination may use this part of its time, so that it can say why it fails before it is killed.
_OWN_PART = 0.9
# In the daemon, in seconds: the least time between two deliveries; how long it waits after the
# first failure, and at most after several failures in a row.
_BETWEEN = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 60.0


class Submission(NamedTuple):
    """The destinations, and the names of host and service. ``timeout`` is in seconds, for each
    destination."""

    destinations: Sequence[Destination]
    host: str
    service: str
    timeout: float


class Receipt(NamedTuple):
    """The outcome of a number of ``results`` for one destination. ``error`` is the reason of a
    failure, None after a success.

    ``confirmed``: the results are known to have arrived; otherwise they may still be lost.
    ``reached``: although there was an error, the server has accepted some of the results.
    ``refused``: those that it would refuse again."""

    destination: Destination
    results: int
    error: Optional[str]
    confirmed: bool = False
    reached: bool = False
    refused: Sequence[Result] = ()

    @property
    def lacks_services_only(self) -> bool:
        """Whether all is well but for services of single mounts that the server refuses."""
        return self.reached and bool(self.refused) and all(each.report.mount_point for each in self.refused)

    @property
    def words(self) -> str:
        """``1 result submitted to nsca:master``, and whether the server has confirmed it."""
        if self.error is not None:
            return f"not submitted to {self.destination.name}: {self.error}"
        sent = f"{text.counted(self.results, 'result')} submitted to {self.destination.name}"
        return sent if self.confirmed else f"{sent}, which does not confirm that anything has arrived"


class Delivery:
    """A delivery of the same results to some destinations at the same time: a task (see
    tasks.Task), whose owner calls :meth:`finish` at the end."""

    def __init__(
        self,
        destinations: Sequence[Destination],
        results: Sequence[Result],
        seconds: float,
        wake_fd: Optional[int] = None,
    ) -> None:
        """Raises OSError if this host cannot start a single worker."""
        self._destinations, self._results, self._seconds = destinations, results, seconds
        self._receipts: dict[int, Receipt] = {}
        self._latest = after(seconds + workers.TO_BEGIN)
        self._pool = workers.Pool(self._serve, _ANSWER_SIZE, seconds, len(destinations), wake_fd)
        for key in range(len(destinations)):
            self._pool.submit(key)
        self.step()

    @property
    def done(self) -> bool:
        """Whether each destination has its receipt, or no time is left to wait for one."""
        return not self._pool.busy or monotonic() >= self._latest

    def fileno(self) -> int:
        """A descriptor that is readable if :meth:`step` has something to do."""
        return self._pool.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest."""
        return Monotonic(min(self._pool.due, self._latest))

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        for event in self._pool.wait(until):
            error = self._error(event)
            answer = event.answer if isinstance(event, workers.Answered) else _FAILED
            mark, bits = answer[:1], int.from_bytes(answer[_WORDS_SIZE:], "little")
            refused = [result for number, result in enumerate(self._results) if bits >> number & 1] if bits else ()
            destination, count = self._destinations[event.key], len(self._results)
            self._receipts[event.key] = Receipt(destination, count, error, mark == _ARRIVED, mark == _REFUSED, refused)

    def finish(self, interrupted: Optional[str] = None) -> tuple[list[Receipt], list[int]]:
        """The receipts, and the workers that have not ended although they were killed: the caller
        must reap them.

        ``interrupted`` names the signal that cut the delivery short."""
        if interrupted is not None:
            why = f"interrupted by {interrupted}"
        elif self._pool.trouble is not None:
            why = f"no process could be started for it ({self._pool.trouble})"
        else:
            why = "no time was left for it"
        for key in range(len(self._destinations)):
            if key not in self._receipts:
                self._receipts[key] = Receipt(self._destinations[key], len(self._results), why)
        left = self._pool.close()
        return [self._receipts[key] for key in range(len(self._destinations))], left

    def _error(self, event: workers.Event) -> Optional[str]:
        if isinstance(event, workers.TimedOut):
            return progress.words(event.progress, len(self._results), text.seconds_words(self._seconds))
        if isinstance(event, workers.Died):
            return "the process that should submit it has ended"
        words = event.answer[:_WORDS_SIZE].rstrip(b"\0")
        return text.one_line(words[1:].decode("utf-8", "replace")) if words[:1] in (_FAILED, _REFUSED) else None

    def _serve(self, key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In the worker."""
        refused: Sequence[int] = ()
        try:
            until = monotonic() + self._seconds * _OWN_PART
            self._destinations[key].deliver(self._results, until, progress.Progress(desk.note))
            # Some destinations know this only after the delivery.
            answer = _ARRIVED if self._destinations[key].confirms else _SENT
        except Undelivered as error:
            answer = (_REFUSED if isinstance(error, Refused) else _FAILED) + text.encoded(str(error), "utf-8")
            refused = error.refused
        except ModuleNotFoundError as error:  # destinations load modules only now; ssl needs a Python with OpenSSL
            answer = _FAILED + text.encoded(f"this Python has no module {error.name}", "utf-8")
        except Exception as error:  # a defect, or a host without memory
            answer = _FAILED + text.encoded(f"{type(error).__name__}: {error}", "utf-8")
        bits = sum({1 << number for number in refused if number < 8 * _BITS_SIZE})
        return answer[:_WORDS_SIZE].ljust(_WORDS_SIZE, b"\0") + bits.to_bytes(_BITS_SIZE, "little"), True


def deliver(
    submission: Submission,
    results: Sequence[Result],
    held_up: Mapping[str, str],
    interruption: Callable[[], Optional[str]],
    wake_fd: int,
) -> list[Receipt]:
    """Hand the results over, and wait as long as the submission allows.

    ``held_up``: the names of destinations that must not be tried, and why. ``interruption`` returns
    the name of a signal that ends the delivery."""
    receipts = [
        Receipt(each, len(results), held_up[each.name]) for each in submission.destinations if each.name in held_up
    ]
    destinations = [each for each in submission.destinations if each.name not in held_up]
    if not destinations:
        return receipts
    try:
        delivery = Delivery(destinations, results, submission.timeout, wake_fd)
    except OSError as error:
        return receipts + [Receipt(each, len(results), error.strerror) for each in destinations]
    while not delivery.done and interruption() is None:
        delivery.step(delivery.due)
    return receipts + delivery.finish(interruption())[0]


class _Lane:
    """A destination of the daemon. ``waiting`` are the newest results, until their delivery
    begins."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.waiting: Optional[Sequence[Result]] = None
        self.given: Sequence[Result] = ()
        self.delivery: Optional[Delivery] = None
        self.not_before = 0.0
        self.failures_in_a_row = 0
        self.delivered = self.failed = 0
        self.stuck: list[int] = []
        self.held_up: Optional[str] = None
        self.parked = Parked()


class Courier:
    """The daemon's deliveries, one at a time for each destination; newer results replace those that
    wait. ``tell`` gets the receipt of each delivery that has ended, or could not begin.

    A task that never ends (see tasks.Task)."""

    done = False

    def __init__(self, tell: Callable[[Receipt], None]) -> None:
        self._tell = tell
        self._epoll = select.epoll()
        self._lanes: dict[str, _Lane] = {}
        self._seconds = 0.0
        # Workers of destinations that are no longer wanted, and that have not ended yet.
        self._orphans: list[int] = []

    def serve(self, submission: Optional[Submission]) -> None:
        """Use this submission from now on. Deliveries under way continue if their destination is
        still wanted."""
        wanted = {each.name: each for each in (submission.destinations if submission is not None else ())}
        for name in self._lanes.keys() - wanted.keys():
            self._end(self._lanes.pop(name))
        for name, destination in wanted.items():
            lane = self._lanes.setdefault(name, _Lane(destination))
            lane.destination = destination  # it may have other credentials, so it is tried at once
            lane.not_before, lane.failures_in_a_row = 0.0, 0
            lane.parked = Parked()
        self._seconds = submission.timeout if submission is not None else 0.0

    def offer(self, results: Sequence[Result], held_up: Mapping[str, str]) -> None:
        """Take the newest results. ``held_up``: the names of destinations that must not be tried
        for now, and why."""
        for name, lane in self._lanes.items():
            lane.waiting = results
            lane.held_up = held_up.get(name)
            lane.parked.keep(results)

    def fileno(self) -> int:
        """A descriptor that is readable if a delivery has something to do."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        times: list[float] = [lane.delivery.due for lane in self._lanes.values() if lane.delivery is not None]
        times += [
            lane.not_before for lane in self._lanes.values() if lane.delivery is None and lane.waiting is not None
        ]
        return Monotonic(min(times, default=NEVER))

    def counts(self) -> list[tuple[str, int, int]]:
        """(name, deliveries, failures) of each destination."""
        return [(name, lane.delivered, lane.failed) for name, lane in self._lanes.items()]

    def parked(self, name: str) -> Optional[str]:
        """Which services get no results, because this destination has refused them; None if all
        do."""
        return self._lanes[name].parked.words

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with all deliveries."""
        self._orphans = processes.reap_ended(self._orphans)
        for lane in self._lanes.values():
            if lane.delivery is not None:
                lane.delivery.step(until)
                if lane.delivery.done:
                    self._end_delivery(lane, lane.delivery)
            if lane.delivery is None and lane.waiting is not None and monotonic() >= lane.not_before:
                self._begin(lane, lane.waiting)

    def _begin(self, lane: _Lane, results: Sequence[Result]) -> None:
        lane.stuck = processes.reap_ended(lane.stuck)
        if lane.stuck:  # one of the destination's files hangs: it gets no more processes
            return self._note_failure(lane, results, f"an earlier attempt is stuck (pid {lane.stuck[0]})")
        if lane.held_up is not None:
            return self._note_failure(lane, results, lane.held_up)
        results = lane.parked.without(results)
        try:
            delivery = Delivery([lane.destination], results, self._seconds)
        except OSError as error:
            return self._note_failure(lane, results, str(error.strerror))
        try:
            self._epoll.register(delivery.fileno(), select.EPOLLIN)
        except OSError as error:  # no memory
            lane.stuck = delivery.finish()[1]
            return self._note_failure(lane, results, str(error.strerror))
        lane.delivery, lane.given, lane.waiting = delivery, results, None

    def _end_delivery(self, lane: _Lane, delivery: Delivery) -> None:
        ((receipt,), lane.stuck) = self._close(delivery)
        lane.delivery = None
        if receipt.error is None or receipt.refused:
            lane.parked.note(lane.given, receipt.refused, receipt.error or "")
        if receipt.error is not None and not receipt.reached:
            return self._note_failure(lane, lane.waiting or lane.given, receipt.error)
        lane.delivered += 1
        lane.failed += receipt.reached
        lane.failures_in_a_row = 0
        lane.not_before = monotonic() + _BETWEEN
        self._tell(receipt)

    def _note_failure(self, lane: _Lane, newest: Sequence[Result], why: str) -> None:
        lane.failed += 1
        lane.not_before = monotonic() + min(_LONGEST_WAIT, _FIRST_WAIT * 2**lane.failures_in_a_row)
        lane.failures_in_a_row = min(lane.failures_in_a_row + 1, 10)
        lane.waiting = newest
        self._tell(Receipt(lane.destination, len(newest), why))

    def _close(self, delivery: Delivery) -> tuple[list[Receipt], list[int]]:
        self._epoll.unregister(delivery.fileno())
        return delivery.finish()

    def _end(self, lane: _Lane) -> None:
        if lane.delivery is not None:
            self._orphans += self._close(lane.delivery)[1]
            lane.delivery = None
        self._orphans += lane.stuck

    def close(self) -> None:
        """Give up the deliveries under way."""
        for lane in self._lanes.values():
            self._end(lane)
