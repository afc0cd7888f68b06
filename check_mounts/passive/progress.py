"""The notes of a worker about what its delivery waits for. The process that kills the worker when
its time is up reads them, so that the reason can be reported.

Import budget: ``enum``, ``struct``. Pure."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

_FORMAT = struct.Struct("<BI")


class Waiting(enum.IntEnum):
    """What a delivery waits for."""

    ANSWER = 0
    NAME = 1
    CONNECTION = 2
    HANDSHAKE = 3

    @property
    def words(self) -> str:
        """What was missing when the time was up."""
        return _WORDS[self]


_WORDS = {
    Waiting.ANSWER: "no answer",
    Waiting.NAME: "its name was not found",
    Waiting.CONNECTION: "no connection",
    Waiting.HANDSHAKE: "no TLS handshake",
}


class Progress:
    """How far a delivery has come. ``note`` gets bytes that the killing process can read."""

    def __init__(self, note: Callable[[bytes], None]) -> None:
        self._note = note
        self.waiting = Waiting.ANSWER
        self._handed_over = 0

    def waits_for(self, waiting: Waiting) -> None:
        """Note that it waits for this from now on."""
        self.waiting = waiting
        self._note(_FORMAT.pack(waiting, self._handed_over))

    def handed_over(self, count: int) -> None:
        """Note that the server has dealt with this number of results."""
        self._handed_over = count
        self._note(_FORMAT.pack(self.waiting, count))


def unread() -> Progress:
    """Progress whose notes no process reads."""
    return Progress(lambda noted: None)


def words(noted: bytes, total: int, within: str) -> str:
    """``no answer within 5 s, after 2 of 5 results``: why a delivery failed when its time was up,
    from its last note."""
    number, count = _FORMAT.unpack_from(noted)
    waiting = Waiting(number) if number in _WORDS else Waiting.ANSWER
    after = f", after {count} of {total} results" if 0 < count <= total else ""
    return f"{waiting.words} within {within}{after}"
