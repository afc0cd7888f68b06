"""The bytes that a worker sends to its parent: the frames of its answer and of its progress.

Import budget: ``os``, ``struct``; ctypes through syscalls. A frame has one fixed size, and each
number that a kernel or server may send fits in it. The parent checks a frame before it uses any
part of it."""

from __future__ import annotations

import os
import struct

from check_mounts import text
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.system import syscalls
from check_mounts.typed import Optional

# The kinds of answers: an outcome; nothing, because another run has a probe at the filesystem; an
# exception in our own code, in words; an outcome in which each of the four reading steps succeeded,
# as the first look-up found the mount, whose root is a directory.
_OUTCOME, _BUSY, _EXCEPTION, HEALTHY = range(4)
# Kind and failed step; latency (in microseconds) and errno of each step; flags; mode, uid, gid,
# nlink; the uid that the worker acted as; mount ID; then the numbers of fstatfs, unchanged: block
# size, blocks, free, available, inodes, free inodes. All are as wide as in the kernel.
_ANSWER = struct.Struct("<BB8I8HH HIIIIQ 6Q")
# The current step; latency and errno of each step except the last one: once that has any, there is
# no progress to send.
_PROGRESS = struct.Struct("<B7f7H")
_NO_TIME = -1.0
_NO_MICROSECONDS = 2**32 - 1
_NO_USAGE = (0,) * 6
_SIGN = 2**63

# Flags of an outcome
_HAS_STAT, _HAS_MOUNT_ID, _HAS_ACTED, NOT_OWNER, _HAS_USAGE, UNREMEMBERED, CACHED, DIFFERS, ALONE, LOST = (
    1 << bit for bit in range(10)
)
GONE, MOVED = 1 << 14, 1 << 15
_ALL_FLAGS = (1 << 10) - 1 | GONE | MOVED

ANSWER_SIZE = _ANSWER.size
# The frame of a healthy mount: HEALTHY; latency of the four steps in microseconds; mode, uid, gid,
# nlink; the uid that the worker acted as; mount ID; the numbers of fstatfs.
_SHORT = "<B4QHIIIIQQ5q"
SHORT = struct.Struct(f"{_SHORT}{ANSWER_SIZE - struct.calcsize(_SHORT)}x")
# The answer of a worker that has not touched the mount, because another run has a probe at its
# filesystem.
BUSY = bytes([_BUSY]).ljust(ANSWER_SIZE, b"\0")


# The frame of the progress at the beginning of a probe, and the formats of those of its next three
# steps, which change only the beginning of the frame before.
LOOKING_UP = _PROGRESS.pack(Step.LOOK_UP, *[_NO_TIME] * 7, *[0] * 7)
AT_STATFS, AT_STATX, AT_READ = (struct.Struct(f"<B{taken}f") for taken in (1, 2, 3))


class Record:
    """The results of a probe so far, from which the frames of its progress and its answer are made.

    ``times`` and ``errnos``: the latency (in seconds) and the error of each step. ``denied``: the
    first step that was refused, ``failed``: the step that ended the probe, each with its errno.
    ``stat``: the attributes of the root directory. ``acted``: the uid of the last step. ``usage``:
    the unchanged numbers of fstatfs."""

    def __init__(self) -> None:
        self.times = [_NO_TIME] * len(Step)
        self.errnos = [0] * len(Step)
        self.denied: Optional[tuple[Step, int]] = None
        self.failed: Optional[tuple[Step, int]] = None
        self.stat: Optional[syscalls.Statx] = None
        self.mount_id: Optional[int] = None
        self.acted: Optional[int] = None
        self.usage: Optional[tuple[int, ...]] = None
        self.flags = 0

    def has(self, flag: int) -> bool:
        """Whether a flag is set."""
        return bool(self.flags & flag)

    def mark(self, flag: int, on: bool = True) -> None:
        """Set a flag, or clear it."""
        self.flags = self.flags | flag if on else self.flags & ~flag

    def progress(self, step: Step) -> bytes:
        """The frame of the progress: the step that begins now, and the results of those before
        it."""
        return _PROGRESS.pack(step, *self.times[:-1], *self.errnos[:-1])

    def answer(self) -> bytes:
        """The frame of the answer."""
        step, number = self.failed or self.denied or (0, 0)
        if step:
            self.errnos[step - 1] = number
        seen = self.stat or syscalls.Statx()
        self.mark(_HAS_STAT, self.stat is not None)
        self.mark(_HAS_MOUNT_ID, self.mount_id is not None)
        self.mark(_HAS_ACTED, self.acted is not None)
        self.mark(_HAS_USAGE, self.usage is not None)
        return _ANSWER.pack(
            _OUTCOME,
            step,
            *map(_microseconds, self.times),
            *self.errnos,
            self.flags,
            seen.stx_mode,
            seen.stx_uid,
            seen.stx_gid,
            seen.stx_nlink,
            self.acted or 0,
            self.mount_id or 0,
            *(self.usage or _NO_USAGE),
        )


def exception_answer(error: BaseException) -> bytes:
    """The frame that says which exception our own code in the worker raised, and where."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({os.path.basename(trace.tb_frame.f_code.co_filename)} line {trace.tb_lineno})"
    words = f"{type(error).__name__}{where}: {error}".encode("utf-8", "backslashreplace")
    return bytes([_EXCEPTION]) + words[: ANSWER_SIZE - 1].replace(b"\0", b" ").ljust(ANSWER_SIZE - 1, b"\0")


def unpack_answer(data: bytes) -> Outcome:
    """A worker's frame -> Outcome. Raises ValueError if it is not a frame: a user may have tampered
    with a worker that acts as that user."""
    if len(data) != ANSWER_SIZE or data[0] > HEALTHY:
        raise ValueError("wrong size or kind")
    if data[0] == _BUSY:
        return Outcome(busy=True)
    if data[0] == _EXCEPTION:
        return Outcome(exception=text.printable(data[1:].rstrip(b"\0")) or "no words")
    if data[0] == HEALTHY:
        return _healthy(data)
    _, step, *rest = _ANSWER.unpack(data)
    times, numbers, (flags, mode, uid, gid, nlink, acted, mount_id, *usage) = rest[:8], rest[8:16], rest[16:]
    if step > max(Step) or (step and not numbers[step - 1]) or flags & ~_ALL_FLAGS:
        raise ValueError("impossible values")
    seen = bool(flags & _HAS_STAT)
    return Outcome(
        step=Step(step) if step else None,
        errno=numbers[step - 1] if step else None,
        seconds=tuple([None if microseconds == _NO_MICROSECONDS else microseconds / 1e6 for microseconds in times]),
        mode=mode if seen else None,
        uid=uid if seen else None,
        gid=gid if seen else None,
        nlink=nlink if seen else None,
        acted_as=acted if flags & _HAS_ACTED else None,
        mount_id=mount_id if flags & _HAS_MOUNT_ID else None,
        not_owner=bool(flags & NOT_OWNER),
        usage=_usage(*usage) if flags & _HAS_USAGE else None,
        unremembered=bool(flags & UNREMEMBERED),
        cached=bool(flags & CACHED),
        differs=bool(flags & DIFFERS),
        alone=bool(flags & ALONE),
        errnos=tuple([number or None for number in numbers]),
        gone=bool(flags & GONE),
        moved=bool(flags & MOVED),
        lost=bool(flags & LOST),
    )


def unpack_healthy(data: bytes) -> Optional[Outcome]:
    """The same for an answer whose kind says that all steps succeeded; None for any other."""
    return _healthy(data) if data[0] == HEALTHY and len(data) == ANSWER_SIZE else None


def _healthy(data: bytes) -> Outcome:
    _, look_up, counting, asking, reading, mode, uid, gid, nlink, acted, mount_id, *numbers = SHORT.unpack(data)
    block, blocks, free, available, inodes, inodes_free = numbers
    usage = Usage._make((blocks * block, free * block, available * block, inodes, inodes_free))
    seconds = (look_up / 1e6, counting / 1e6, asking / 1e6, reading / 1e6, None, None, None, None)
    return Outcome._make((None, None, seconds, mode, uid, gid, nlink, acted, mount_id, False, False, usage, *_REST))


# The fields of an outcome after its usage, without any peculiarity.
_REST = Outcome()[Outcome._fields.index("usage") + 1 :]


def _usage(block: int, blocks: int, free: int, available: int, inodes: int, inodes_free: int) -> Usage:
    """Counts of 64 bits -> numbers: a count whose highest bit is set is negative (as in statvfs(3)
    on FreeBSD; -1 means "unknown")."""
    blocks, free, available, inodes, inodes_free = (
        count - 2 * _SIGN if count >= _SIGN else count for count in (blocks, free, available, inodes, inodes_free)
    )
    return Usage(blocks * block, free * block, available * block, inodes, inodes_free)


def unpack_progress(data: bytes) -> Outcome:
    """The last progress of a worker -> Outcome. Its step is the current one, None before the
    first."""
    step, *rest = _PROGRESS.unpack_from(data)
    times, numbers = rest[:7], rest[7:]
    if not 0 < step <= max(Step):
        return Outcome()
    # Each time has 32 bits in the frame, so it is exact to microseconds if it is a few seconds.
    seconds = tuple([None if seconds == _NO_TIME else round(seconds, 6) for seconds in times])
    return Outcome(step=Step(step), seconds=(*seconds, None), errnos=(*[number or None for number in numbers], None))


def _microseconds(seconds: float) -> int:
    return _NO_MICROSECONDS if seconds == _NO_TIME else min(round(seconds * 1e6), _NO_MICROSECONDS - 1)
