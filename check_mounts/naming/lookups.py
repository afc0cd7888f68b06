"""The look-ups of links and devices, whose names other people may have chosen, in workers that can
be given up.

One worker answers all questions, one after the other, and writes each answer to shared memory at
once. If the worker hangs at a question, that question stays open, no worker enters the hung mount
again, and another worker continues with the next question. As for probes, a worker makes an entry
in the memory of stuck probes before it touches a mount that can hang."""

from __future__ import annotations

import errno
import marshal
import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence

from check_mounts import filesystems
from check_mounts.clocks import Monotonic, after
from check_mounts.model import Mount
from check_mounts.naming.names import Ground, Lead, Stopped, lead
from check_mounts.probing.lines import Lines
from check_mounts.probing.stuck import Registry
from check_mounts.selection import normalised
from check_mounts.system import walk, workers
from check_mounts.system.desks import Desk
from check_mounts.typed import Any, NamedTuple, Optional

# The worker calls this before it enters a mount. Raises Stopped if another run has a probe there.
Enter = Callable[[Mount], None]
# The answer to a question consists of types that marshal can write.
Question = Callable[[Enter], Any]

_HEAD = struct.Struct("<I")  # the number of bytes in all records
_RECORD = struct.Struct("<II")  # the question, and the size of its answer
_PROGRESS = struct.Struct("<Iq")  # the question, and the ID of the mount that is entered (-1: no mount)
_ANSWER_SIZE = 1
# In seconds: the pool's timeout, which is never reached, because one request holds all questions
# and this module itself finds out whether the worker makes progress; and how often it looks.
_NEVER, _MOMENT = 86400.0, 0.05
# If this process looks so late, in seconds, the whole host was stopped, and the worker with it.
_LATE = 0.5
_ROOM, _MOST_ROOM = 16 << 10, 64 << 20
# How many workers may get stuck, one after the other. Each has its own slot in the memory of stuck
# probes.
MOST_WORKERS = 8
# How often a worker tries to enter a mount where another run has a probe: that probe takes a
# millisecond if all is well.
_TRIES = 20
_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Unanswered:
    """Stands for the answer to a question that has no answer. ``mount`` is the mount that a worker
    is stuck in, None if that is not known.

    It is no record, because a record is a tuple, and so are some answers."""

    __slots__ = ("mount",)

    def __init__(self, mount: Optional[Mount] = None) -> None:
        self.mount = mount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unanswered) and self.mount == other.mount

    def __hash__(self) -> int:
        return hash(self.mount)


class Patience(NamedTuple):
    """The limits of waiting. ``each``: how long a worker may make no progress, in seconds.
    ``until``: when all questions must have an answer (CLOCK_MONOTONIC). ``interrupted``: the name
    of the signal that ends the waiting early, None without a signal."""

    each: float
    until: float
    interrupted: Callable[[], Optional[str]] = lambda: None

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.until or self.interrupted() is not None


def ask_all(
    questions: Sequence[Question], ground: Ground, memory: Registry, patience: Patience
) -> tuple[list[object], list[int]]:
    """Have workers answer questions; return the answers in the order of the questions, and the pids
    of the children that still exist although they got SIGKILL.

    Adds the mounts that hang to ``ground.closed``."""
    answers: list[object] = [Unanswered() for _ in questions]
    left: list[int] = []
    first = 0
    for slot in range(MOST_WORKERS):
        if first >= len(questions) or patience.is_over:
            break
        inquiry = _Inquiry(questions, ground, memory.lines, slot)
        stuck_at = inquiry.run(first, patience)
        for place, answer in inquiry.answers():
            answers[place] = answer
        left += inquiry.left
        if stuck_at is None:
            break
        place, mount = stuck_at
        answers[place] = Unanswered(mount)
        if mount is not None:
            ground.closed.add(mount.mount_id)
        first = place + 1
    return answers, left


class _Inquiry:
    """One worker and its answers."""

    def __init__(self, questions: Sequence[Question], ground: Ground, lines: Lines, slot: int) -> None:
        self._questions, self._lines, self._slot = questions, lines, slot
        self._mounts = ground.by_id
        self._root = None if ground.base else ground.at.get(b"/")
        self._records = mmap.mmap(-1, min(_ROOM * (len(questions) + 4), _MOST_ROOM))
        self.left: list[int] = []

    def run(self, first: int, patience: Patience) -> Optional[tuple[int, Optional[Mount]]]:
        """Have all questions from ``first`` on answered; return None if that succeeded, else the
        question and the mount at which the worker was given up."""
        try:
            # With our groups, so that the worker may look up what we may.
            pool = workers.Pool(self._serve, _ANSWER_SIZE, _NEVER, 1, groups=tuple(os.getgroups()))
        except OSError:  # no memory or descriptors: a pass cannot start a worker either, and reports that
            return None
        try:
            pool.submit(first)
            progress = self._await_worker(pool, patience)
        finally:
            self.left = pool.close()
        if progress is None:
            return None
        place, mount_id = _PROGRESS.unpack_from(progress)
        return max(first, place), self._mounts.get(mount_id)

    def _await_worker(self, pool: workers.Pool, patience: Patience) -> Optional[bytes]:
        """Wait for the worker; return None if it has answered all, else its progress when it died
        or made no more progress."""
        looked = time.monotonic()
        seen, since = (False, 0), looked + workers.TO_BEGIN
        while not patience.is_over:
            for event in pool.wait(min(Monotonic(patience.until), after(_MOMENT))):
                return None if isinstance(event, workers.Answered) else event.progress
            before, looked = looked, time.monotonic()
            state = (bool(pool.at_work(0.0)), self._used)
            if state != seen:
                seen, since = state, looked
            elif looked - before > _LATE:
                since = max(since, looked)
            elif looked - since >= patience.each:
                break
        return next((progress for _, _, progress, _ in pool.abandon_all()), None)

    @property
    def _used(self) -> int:
        """The number of bytes in all records."""
        return int(_HEAD.unpack_from(self._records)[0])

    def answers(self) -> list[tuple[int, object]]:
        """The answers in the shared memory, each with the number of its question."""
        end = _HEAD.size + self._used
        found, at = [], _HEAD.size
        while at < end:
            place, size = _RECORD.unpack_from(self._records, at)
            at += _RECORD.size
            found.append((place, marshal.loads(self._records[at : at + size])))
            at += size
        return found

    # -- in the worker

    def _serve(self, first: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        for place in range(first, len(self._questions)):
            self._answer(place, desk)
        return bytes(_ANSWER_SIZE), True

    def _answer(self, place: int, desk: Desk) -> None:
        entered: list[int] = []
        desk.note(_PROGRESS.pack(place, -1))

        def enter(mount: Mount) -> None:
            if entered[-1:] != [mount.mount_id]:
                desk.note(_PROGRESS.pack(place, mount.mount_id))
                self._enter(mount)
                entered.append(mount.mount_id)

        try:
            answer = self._questions[place](enter)
        finally:
            self._lines.leave(self._slot)
        self._record(place, marshal.dumps(answer))

    def _enter(self, mount: Mount) -> None:
        """Make an entry in the memory of stuck probes before a mount is entered.

        Mounts that need none: `/`, because nothing would run any more if it hung, and the kernel's
        own filesystems, because they wait for nothing."""
        known = filesystems.traits(mount.fs_type)
        if mount is self._root or known.in_memory or known.pseudo:
            self._lines.leave(self._slot)
            return
        for _ in range(_TRIES):
            if self._lines.enter(self._slot, mount.mount_id, mount.device):
                self._lines.arrive(self._slot)
                return
        raise Stopped(mount)

    def _record(self, place: int, data: bytes) -> None:
        """Write an answer to the shared memory. The total length is written last, so a half-written
        record does not count. Raises ValueError if there is no room."""
        used = self._used
        at = _HEAD.size + used
        self._records[at : at + _RECORD.size + len(data)] = _RECORD.pack(place, len(data)) + data
        _HEAD.pack_into(self._records, 0, used + _RECORD.size + len(data))


def by_text(name: bytes, ground: Ground) -> Optional[Lead]:
    """The lead of a name by the text of the mount table alone; None if we must read links for
    it."""
    unread: list[bytes] = []

    def read(directory: Sequence[bytes], part: bytes, holder: Mount) -> Optional[bytes]:
        unread.append(part)
        raise OSError(errno.EAGAIN, "")

    found = lead(name, ground, read)
    return None if unread else found


def leading(name: bytes, ground: Ground) -> Question:
    """The question where a name leads; :func:`understood` takes its answer."""

    def question(enter: Enter) -> tuple[bytes, list[int], Optional[int], int]:
        links = _Links(ground, enter)
        try:
            found = lead(name, ground, links.read)
        finally:
            links.close()
        through = [mount.mount_id for mount in found.through]
        return found.path, through, None if found.stopped is None else found.stopped.mount_id, found.errno

    return question


def understood(name: bytes, answer: object, ground: Ground) -> Lead:
    """The lead that corresponds to an answer to :func:`leading`."""
    if isinstance(answer, tuple):
        path, through, stopped, number = answer
        return Lead(path, tuple(ground.by_id[each] for each in through), ground.by_id.get(stopped), number)
    mount = answer.mount if isinstance(answer, Unanswered) else None
    return Lead(normalised(name), (), mount, 0 if mount is not None else errno.EAGAIN)


def open_root(ground: Ground, enter: Enter) -> int:
    """In a worker: a descriptor of the root directory that all paths begin at. Raises OSError,
    Stopped."""
    if not ground.base:
        return os.open("/", _FLAGS)
    root = ground.at.get(b"/")
    if root is None:  # such a place cannot be looked up
        raise OSError(errno.EAGAIN, "")
    if root.mount_id in ground.closed:
        raise Stopped(root)
    enter(root)
    fd = os.open(ground.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if walk.mount_id(fd) not in (None, root.mount_id):  # the process is another one by now
        os.close(fd)
        raise Stopped(root)
    return fd


class _Links:
    """Reads links, in a worker. No step enters a mount that is not in our copy of the mount table:
    such a mount has come meanwhile, and may hang."""

    def __init__(self, ground: Ground, enter: Enter) -> None:
        self._ground, self._enter = ground, enter
        self._parts: list[bytes] = []
        self._open: list[int] = []  # the root directory, and one for each part

    def read(self, directory: Sequence[bytes], name: bytes, holder: Mount) -> Optional[bytes]:
        """Read a link: see :data:`names.Reader`."""
        above = self._open_directory(directory)
        self._enter(holder)
        fd = walk.open_in_mount(above, name, _FLAGS)
        try:
            return os.readlink(b"", dir_fd=fd)
        except OSError as error:
            if error.errno == errno.ENOENT:  # not a link (do_readlinkat in fs/stat.c)
                return None
            raise
        finally:
            os.close(fd)

    def _open_directory(self, parts: Sequence[bytes]) -> int:
        """Open a directory. The directories above it stay open for the next call."""
        common = 0
        while common < min(len(parts), len(self._parts)) and parts[common] == self._parts[common]:
            common += 1
        self._close_from(common + 1)
        if not self._open:
            self._open.append(open_root(self._ground, self._enter))
        holder = self._ground.way(parts[:common])[-1]
        for length in range(common + 1, len(parts) + 1):
            mount = self._ground.at.get(b"/" + b"/".join(parts[:length]))
            self._enter(mount or holder)
            self._open.append(self._open_below(self._open[-1], parts[length - 1], mount))
            self._parts.append(parts[length - 1])
            holder = mount or holder
        return self._open[-1]

    def _open_below(self, above: int, name: bytes, mount: Optional[Mount]) -> int:
        if mount is None:
            return walk.open_in_mount(above, name, _FLAGS)
        fd = os.open(name, _FLAGS, dir_fd=above)
        if walk.mount_id(fd) not in (None, mount.mount_id):
            os.close(fd)
            raise Stopped(mount)
        return fd

    def _close_from(self, first: int) -> None:
        while len(self._open) > first:
            os.close(self._open.pop())
        del self._parts[max(0, first - 1) :]

    def close(self) -> None:
        """Close all directories."""
        self._close_from(0)
