"""An operation of a mount that takes longer than usual, and where that time is. Pure.

Import budget: ``enum``, ``math``. Only what judges or shows such operations loads this."""

from __future__ import annotations

import enum
import math

from check_mounts.typed import NamedTuple, Optional

# What a TCP connection sends before the first acknowledgement, in bytes (RFC 6928); with each
# acknowledgement it is twice as much.
_FIRST_FLIGHT = 14_600


class Place(enum.Enum):
    """Where the time is; its value is how people read it."""

    WIRE = "the wire"
    THREADS = "its threads"
    DISKS = "its disks"


class Asked(NamedTuple):
    """What a server took for the least that can be asked of it, in seconds.

    ``connect``: to accept a connection, which its kernel does by itself. ``null``: to answer a call
    that does nothing, for which it needs a free thread, but no disk; None if it did not answer
    that."""

    connect: float
    null: Optional[float] = None


class Unusual(NamedTuple):
    """An operation that takes longer than usual: ``seconds`` now, ``usual`` seconds before.

    ``size``: the bytes that go over the wire for one. ``waiting``: how many of them wait for the
    server at the same time, on each connection. ``asked`` is what the server took meanwhile, if it
    was asked."""

    operation: str
    seconds: float
    usual: float
    size: float = 0.0
    waiting: float = 1.0
    asked: Optional[Asked] = None

    @property
    def place(self) -> Optional[Place]:
        """Where most of the time is; None if the server did not say enough.

        - On the wire it is as many round trips as the bytes need: a connection takes one.
        - Its threads take what a call that does nothing waits for one. The server takes the
          connections in turn, one call of each, so a call waits for the others on its connection,
          too.
        - What remains is what the threads wait for."""
        if self.asked is None:
            return None
        connect, null = self.asked
        wire = connect * (1 + math.log2(1 + self.size / _FIRST_FLIGHT))
        if null is None:
            return Place.WIRE if wire >= self.seconds / 2 else None
        threads = max(0.0, null - connect) * max(1.0, self.waiting)
        remains = self.seconds - wire - threads
        parts = ((remains, Place.DISKS), (threads, Place.THREADS), (wire, Place.WIRE))
        return max(parts, key=lambda part: part[0])[1]

    @property
    def words(self) -> str:
        """``READ 180 ms, usually 3 ms; connect 0.3 ms, NULL 0.4 ms: its disks``."""
        said = f"{self.operation} {milliseconds(self.seconds)}, usually {milliseconds(self.usual)}"
        if self.asked is None:
            return said
        said += f"; connect {milliseconds(self.asked.connect)}"
        if self.asked.null is not None:
            said += f", NULL {milliseconds(self.asked.null)}"
        return said if self.place is None else f"{said}: {self.place.value}"


def milliseconds(seconds: float) -> str:
    """``180 ms``, ``3.2 ms``, ``0.04 ms``; ``12.3 s`` if it is long."""
    if seconds >= 10:
        return f"{seconds:.1f} s"
    value = seconds * 1000
    digits = 0 if value >= 9.95 else 1 if value >= 0.095 else 2
    words = f"{value:.{digits}f}"
    return f"{words.rstrip('0').rstrip('.') if digits else words} ms"
