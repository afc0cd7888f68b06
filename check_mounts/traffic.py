"""What the programs of this host did on a network mount, and how long it took. Pure.

Import budget: ``enum``. Only what judges or shows such numbers loads this."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping

from check_mounts.typed import NOTHING, NamedTuple, Optional


class Operation(NamedTuple):
    """The counters of one kind of operation (struct rpc_iostats in net/sunrpc/stats.c), since the
    mount was mounted or between two looks.

    ``name`` is the kernel's: ``READ``; a number, if it has none. ``transmissions`` counts requests
    as often as they were sent; ``timeouts`` how often all retries (``retrans=``) were used up.
    Times are sums over the operations, in milliseconds: ``queue`` until a request was sent, ``rtt``
    from when it was last sent to its reply, ``execute`` from the beginning to the end, all retries
    included. ``errors`` counts the operations that failed; None before Linux 5.3."""

    name: bytes
    operations: int
    transmissions: int
    timeouts: int
    bytes_sent: int
    bytes_received: int
    queue: int
    rtt: int
    execute: int
    errors: Optional[int] = None

    @property
    def retransmissions(self) -> int:
        """How often requests were sent again. Old kernels count a request that was never sent as an
        operation without a transmission; that makes no negative number."""
        return max(0, self.transmissions - self.operations)

    @property
    def mean_queue(self) -> Optional[float]:
        """The mean time until a request was sent, in seconds; None without operations."""
        return self._mean(self.queue)

    @property
    def mean_rtt(self) -> Optional[float]:
        """The mean time from request to reply, in seconds; None without operations."""
        return self._mean(self.rtt)

    @property
    def mean_execute(self) -> Optional[float]:
        """The mean time of a whole operation, in seconds; None without operations."""
        return self._mean(self.execute)

    def _mean(self, milliseconds: int) -> Optional[float]:
        return milliseconds / self.operations / 1000.0 if self.operations > 0 else None


def total(operations: Iterable[Operation], name: bytes = b"") -> Operation:
    """The sum of operations, under a name of the caller's."""
    every = list(operations)
    known = [each.errors for each in every if each.errors is not None]
    retransmissions = sum([each.retransmissions for each in every])
    numbers = list(map(sum, zip(*[each[1:-1] for each in every]))) or [0] * 8
    # Requests that were never sent must not cancel out retransmissions of another kind.
    numbers[1] = max(numbers[1], numbers[0] + retransmissions) if retransmissions else numbers[1]
    return Operation._make((name, *numbers, sum(known) if known else None))


# Few kinds tell the most; all others are one, so that no output grows with the kernel's list.
KINDS = (b"READ", b"WRITE", b"GETATTR", b"LOOKUP")
OTHER = b"other"


def by_kind(operations: Mapping[bytes, Operation]) -> Iterator[Operation]:
    """The operations of each of ``KINDS`` that happened, then the sum of all others."""
    yield from [operations[kind] for kind in KINDS if kind in operations]
    others = [operation for kind, operation in operations.items() if kind not in KINDS]
    if others:
        yield total(others, OTHER)


class Measure(enum.Enum):
    """What a threshold may be for. Its value is the name on the command line.

    The first three are times: the greatest mean of a kind of operations, in seconds. The others are
    counted for each hundred operations of all kinds."""

    RTT = "rtt"
    EXEC = "exec"
    QUEUE = "queue"
    RETRANS = "retrans"
    TIMEOUTS = "timeouts"

    @property
    def word(self) -> str:
        """Its name for people."""
        return str(self.value)

    @property
    def is_time(self) -> bool:
        """Whether it is a number of seconds."""
        return self in _FIELDS


_FIELDS: Mapping[Measure, Callable[[Operation], int]] = {
    Measure.RTT: lambda operation: operation.rtt,
    Measure.EXEC: lambda operation: operation.execute,
    Measure.QUEUE: lambda operation: operation.queue,
}
# Fewer operations say nothing: one that was slow would be the mean.
FEWEST = 10
# What these take depends on the size of what they are asked for, not on how the server is.
_LONG_BY_NATURE = frozenset((b"COPY", b"CLONE", b"ALLOCATE", b"DEALLOCATE"))


class Measured(NamedTuple):
    """The value of a measure, and of what: a kind of operations (empty: all) that were this
    many."""

    value: float
    kind: bytes
    operations: int

    def words(self, measure: Measure) -> str:
        """``READ rtt 180 ms, the mean of 412 operations``, ``5.3 % of 412 operations
        retransmitted``."""
        if measure.is_time:
            kind = self.kind.decode("ascii", "replace")
            return f"{kind} {measure.word} {time_words(self.value)}, the mean of {self.operations} operations"
        what = "retransmitted" if measure is Measure.RETRANS else "timed out"
        return f"{self.value:.1f} % of {self.operations} operations {what}"


def time_words(seconds: float) -> str:
    """A short time as people write it: ``3.2 ms``, ``180 ms``, ``2.413 s``."""
    if seconds >= 1:
        return f"{seconds:.3f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.0995 else f"{1000 * seconds:.1f} ms"


class Traffic(NamedTuple):
    """What was done on one mount. ``counters`` are since it was mounted. ``moved`` is what they
    moved by in the last ``seconds``; None if that is not known (see operations.delta)."""

    counters: Mapping[bytes, Operation] = NOTHING
    moved: Optional[Mapping[bytes, Operation]] = None
    seconds: float = 0.0

    def measured(self, measure: Measure) -> Optional[Measured]:
        """The value of a measure; None if there were too few operations."""
        if self.moved is None:
            return None
        if not measure.is_time:
            return self._share(self.moved.values(), measure)
        field = _FIELDS[measure]
        found = None
        for kind, each in self.moved.items():
            number = each.operations
            if number >= FEWEST and kind not in _LONG_BY_NATURE:
                mean = field(each) / number / 1000.0
                if found is None or mean > found[0]:
                    found = mean, kind, number
        return None if found is None else Measured(*found)

    def _share(self, every: Iterable[Operation], measure: Measure) -> Optional[Measured]:
        whole = total(every)
        if whole.operations < FEWEST:
            return None
        number = whole.retransmissions if measure is Measure.RETRANS else whole.timeouts
        return Measured(100.0 * number / whole.operations, b"", whole.operations)
