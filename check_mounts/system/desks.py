"""The memory that a pool shares with its workers: each worker has a desk there, and notes on it
which request it works on. The parent can read the note although the worker hangs.

Import budget: ``mmap``, ``struct``; clocks."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

from check_mounts.clocks import Monotonic, monotonic

# A desk: the time when the worker began (CLOCK_MONOTONIC), the key of the request + 1 (0: nothing),
# and the worker's note of its progress. The time is written before the key and read after it, so
# the parent never sees a new key with the time of an older one.
_BEGAN, _KEY = struct.Struct("<d"), struct.Struct("<I")
_KEY_AT, _PROGRESS_AT, _SIZE = 8, 16, 64
PROGRESS_SIZE = _SIZE - _PROGRESS_AT
NOTHING_NOTED = bytes(PROGRESS_SIZE)
# A worker that has an answer notes this in place of the time when it began. 496 of the survey's
# answers fill a pipe; then the worker waits for the parent, and must not time out for that.
ANSWERING = Monotonic(float("inf"))


class Desk:
    """What a worker has at hand while it serves: its slot, the pid of its parent, and ``note`` for
    its progress (at most PROGRESS_SIZE bytes), which the parent can read although the worker
    hangs."""

    __slots__ = ("note", "parent", "slot")

    def __init__(self, slot: int, parent: int, note: Callable[[bytes], None]) -> None:
        self.slot, self.parent, self.note = slot, parent, note


class Desks:
    """The desks of one pool, by the slots of its workers."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _SIZE)
        self._opened = monotonic()

    # -- in the parent

    def clear(self, slot: int) -> None:
        """Clear a desk for a new worker."""
        self._memory[slot * _SIZE : (slot + 1) * _SIZE] = bytes(_SIZE)

    def claim(self, slot: int) -> tuple[int, Monotonic]:
        """The claim of a worker: the key of its current request (-1: no request), and since when it
        has that, or ANSWERING."""
        desk = slot * _SIZE
        key = _KEY.unpack_from(self._memory, desk + _KEY_AT)[0] - 1
        # A worker that was tampered with may note any time, but it did not begin before the pool
        # existed. With NaN, max() takes the first.
        return key, max(self._opened, _BEGAN.unpack_from(self._memory, desk)[0])

    def progress(self, slot: int) -> bytes:
        """The progress that a worker noted last: PROGRESS_SIZE bytes, all zero before its first
        note."""
        return self._memory[slot * _SIZE + _PROGRESS_AT : (slot + 1) * _SIZE]

    # -- in the worker

    def note(self, slot: int, progress: bytes) -> None:
        """Note how far the worker has come."""
        begin = slot * _SIZE + _PROGRESS_AT
        self._memory[begin : begin + len(progress)] = progress

    def begin(self, slot: int, key: int) -> None:
        """Note the request that the worker has taken."""
        self.note(slot, NOTHING_NOTED)
        self._note_time(slot, monotonic())
        _KEY.pack_into(self._memory, slot * _SIZE + _KEY_AT, key + 1)

    def begin_answering(self, slot: int) -> None:
        """Note that the worker has an answer."""
        self._note_time(slot, ANSWERING)

    def leave(self, slot: int) -> None:
        """Note that the worker has no request."""
        _KEY.pack_into(self._memory, slot * _SIZE + _KEY_AT, 0)

    def _note_time(self, slot: int, began: float) -> None:
        _BEGAN.pack_into(self._memory, slot * _SIZE, began)
