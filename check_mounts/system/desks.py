"""The memory that a pool shares with its workers: each worker has a desk there, and notes on it
which request it works on; each open request has a place for its answer.

The parent can read all of it although a worker hangs, and needs no system call for that.

Import budget: ``_thread``, ``mmap``, ``struct``; clocks. Nothing more, here and in forked: it is
memory of each worker."""

from __future__ import annotations

import _thread
import mmap
import struct

from check_mounts.clocks import Monotonic, monotonic

# The head: the serial number of the last request in the pipe, and whether somebody has taken that.
_SERIAL, _LAST_SENT, _EAGER = struct.Struct("<I"), 0, 4
# A desk: the time when the worker began (CLOCK_MONOTONIC), the serial number of its request (0:
# nothing), and the worker's note of its progress. The time is written before the number and read
# after it, so the parent never sees a new number with the time of an older one.
_BEGAN = struct.Struct("<d")
_SERIAL_AT, _PROGRESS_AT, _SIZE = 8, 16, 64
_CLAIM = struct.Struct("<dI52x")
PROGRESS_SIZE = _SIZE - _PROGRESS_AT
NOTHING_NOTED = bytes(PROGRESS_SIZE)
# A frame, the content of a place: the serial number of the request, the worker's desk, whether this
# is the worker's last answer, and the answer.
HEAD = struct.Struct("<IHBx")


class Layout:
    """Where everything is, for a pool of ``count`` desks and answers of ``answer_size`` bytes.
    ``most_open``: so many requests have a place besides those that a process which was killed may
    still answer."""

    __slots__ = ("answer_size", "count", "frame_size", "frames", "marks", "most_open", "places", "size")

    def __init__(self, count: int, answer_size: int, most_open: int) -> None:
        self.count, self.answer_size, self.most_open = count, answer_size, most_open
        self.frame_size = HEAD.size + answer_size
        self.places = most_open + count
        self.marks = (count + 1) * _SIZE
        self.frames = self.marks + self.places
        self.size = self.frames + self.places * self.frame_size


class Desk:
    """What a worker has at hand while it serves: its slot, the pid of its parent, and ``progress``
    for its progress (PROGRESS_SIZE bytes), which the parent can read although the worker hangs."""

    __slots__ = ("parent", "progress", "slot")

    def __init__(self, slot: int, parent: int, progress: memoryview) -> None:
        self.slot, self.parent, self.progress = slot, parent, progress

    def note(self, progress: bytes) -> None:
        """Note how far the worker has come."""
        self.progress[: len(progress)] = progress


class Desks:
    """The desks and places of one pool. ``memory``: of layout.size bytes, shared with the
    workers."""

    def __init__(self, layout: Layout, memory: mmap.mmap) -> None:
        self.layout, self._memory = layout, memory
        self._opened = monotonic()
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    # -- in the parent

    def clear(self, slot: int) -> None:
        """Clear a desk for a new worker."""
        at = (slot + 1) * _SIZE
        self._memory[at : at + _SIZE] = bytes(_SIZE)

    def claim(self, slot: int) -> tuple[int, Monotonic]:
        """The claim of a worker: the serial number of the request that it took last (0: none), and
        when it took that."""
        desk = (slot + 1) * _SIZE
        serial = _SERIAL.unpack_from(self._memory, desk + _SERIAL_AT)[0]
        # A worker that was tampered with may note any time, but it did not begin before the pool
        # existed. With NaN, max() takes the first.
        return serial, max(self._opened, _BEGAN.unpack_from(self._memory, desk)[0])

    def claims(self, count: int) -> list[tuple[float, int]]:
        """The time and the number on each of the first ``count`` desks, all at a look: a number may
        come with the time of an older one."""
        return list(_CLAIM.iter_unpack(self._memory[_SIZE : (count + 1) * _SIZE]))

    def progress(self, slot: int) -> bytes:
        """The progress that a worker noted last: PROGRESS_SIZE bytes, all zero before its first
        note."""
        at = (slot + 1) * _SIZE
        return self._memory[at + _PROGRESS_AT : at + _SIZE]

    def announce(self, serial: int) -> None:
        """Note the last of the requests that are written into the pipe next."""
        _SERIAL.pack_into(self._memory, _LAST_SENT, serial)
        self._memory[_EAGER] = 0

    @property
    def wakes(self) -> bool:
        """Whether each worker wakes the parent once it has an answer."""
        return self._memory[_EAGER] != 0

    def answers(self, used: int) -> list[tuple[int, bytes]]:
        """Take the (place, frame) of each answer that has come, in the first ``used`` places."""
        memory, layout = self._memory, self.layout
        first, end, size = layout.marks, layout.marks + used, layout.frame_size
        at = memory.find(b"\1", first, end)
        if at < 0:
            return []
        found = []
        self._fence()
        while at >= 0:
            memory[at] = 0
            frame = layout.frames + (at - first) * size
            found.append((at - first, memory[frame : frame + size]))
            at = memory.find(b"\1", at + 1, end)
        return found

    # -- in the worker

    def desk(self, slot: int, parent: int) -> Desk:
        """The desk of a worker."""
        at = (slot + 1) * _SIZE
        return Desk(slot, parent, memoryview(self._memory)[at + _PROGRESS_AT : at + _SIZE])

    def begin(self, slot: int, serial: int) -> None:
        """Note the request that the worker has taken."""
        memory, at = self._memory, (slot + 1) * _SIZE
        memory[at + _PROGRESS_AT : at + _SIZE] = NOTHING_NOTED
        _BEGAN.pack_into(memory, at, monotonic())
        _SERIAL.pack_into(memory, at + _SERIAL_AT, serial)
        # The pipe is empty: from now on the parent must know each answer at once.
        if _SERIAL.unpack_from(memory, _LAST_SENT)[0] == serial:
            memory[_EAGER] = 1

    def answer(self, slot: int, serial: int, place: int, last: bool, answer: bytes) -> bool:
        """Give an answer; return whether the parent sleeps until it is woken. Raises ValueError for
        an answer of another size."""
        memory, layout = self._memory, self.layout
        at = layout.frames + place * layout.frame_size
        memory[at : at + layout.frame_size] = HEAD.pack(serial, slot, last) + answer
        self._fence()  # the mark makes the answer valid, so it is written last
        memory[layout.marks + place] = 1
        self._fence()  # the parent looks for marks after it has looked whether it is woken
        return memory[_EAGER] != 0

    def _fence(self) -> None:
        """Keep the processor from reordering what we read and write before and after this: a lock
        is all that Python offers for it."""
        self._lock.release()
        self._lock.acquire()


def shared(fd: int, size: int, read_only: bool = False) -> mmap.mmap:
    """Map memory that processes share: a file in memory, or with ``fd`` -1 memory for the children
    of this process. Raises OSError, ValueError."""
    return mmap.mmap(fd, size, prot=mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE)
