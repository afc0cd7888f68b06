"""The notes that a run leaves for its watcher: its current step, when it will be done, how many
mounts it has checked, and which have failed.

Import budget: ``os``, ``time``. The notes are in a nameless file in memory (memfd_create(2)), which
both processes have open. Once the run has an entry (see caught), the notes are also in the file of
that entry. Only the run writes, and it may be stuck or killed between any two instructions. So the
file has two places for a record. A new record goes to the place that is not valid, and the byte
that says which place is valid is written last. The lines of failures are written before the record
that says where they end."""

import os
import time

TYPE_CHECKING = False  # as in __main__
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Optional

SIZE = 16384
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_CRITICAL, _UNKNOWN = 2, 3
_COUNTS, _RECORDS, _RECORD = 8, 64, 1024
_LINES = _RECORDS + 2 * _RECORD
# What the run waits for, in the same way, behind all that is copied to its entry.
_WAITING, _WAITING_PLACE, _LONGEST_WAITING = SIZE, 4096, 4000
FOR_WAITING = 1 + 2 * _WAITING_PLACE
_LONGEST_STEP = 800
_LONGEST_LINE = 1000
_NAMED = 3


def create(more: int = 0) -> int:
    """Make a file in memory for notes, with room for ``more`` bytes after them. Raises OSError."""
    fd = os.memfd_create("check_mounts", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, SIZE + more)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Notes:
    """Writes notes; without a descriptor, as in the daemon, it writes nothing.

    The watcher tells the run two things here. ``terminal`` is a descriptor of the terminal that
    stdout leads to; None if it leads to none. ``is_shown``: a user sees what the run waits for."""

    def __init__(self, *fds: int) -> None:
        self.terminal: "Optional[int]" = None
        self.is_shown = False
        self._fds = list(fds)
        self._pid = os.getpid()
        self._which = self._which_waiting = 0
        self._step, self._since, self._until = "", 0, 0
        self._told = -1
        self._failed = [0] * len(STATES)
        self._begin = self._end = _LINES

    def copy_to(self, fd: int) -> None:
        """Write the notes to this file as well from now on. Raises OSError."""
        data = os.pread(self._fds[0], SIZE, 0) if self._fds else b""
        os.pwrite(fd, data, 0)
        self._fds.append(fd)

    def leave(self, fd: int) -> None:
        """No longer write the notes to this file."""
        if fd in self._fds:
            self._fds.remove(fd)

    def step(self, words: str) -> None:
        """Note the next step: ``reading /etc/fstab``, one line that is fit for output."""
        self._step, self._since = words, int(time.clock_gettime(time.CLOCK_BOOTTIME))
        self._publish()
        if self.is_shown:
            self.waiting(0, 0, ())

    def until(self, when: float) -> None:
        """Note when the run will be done at the latest (CLOCK_MONOTONIC)."""
        self._until = int(when * 1e9)
        self._publish()

    def told(self, state: int) -> None:
        """Note that the verdict is out, and its state."""
        self._told = state
        self._publish()

    def selected(self, count: int) -> None:
        """Note how many mounts the run will check."""
        self._write(count.to_bytes(4, "little"), _COUNTS)

    def checked(self, count: int) -> None:
        """Note how many mounts have been checked, with any result."""
        self._write(count.to_bytes(4, "little"), _COUNTS + 4)

    def waiting(self, answered: int, total: int, names: "Sequence[tuple[float, str]]") -> None:
        """Note how many mounts have answered, and which the run waits for: since when
        (CLOCK_MONOTONIC), and names that are fit for output. Only the watcher sees this."""
        lines, room = list[bytes](), _LONGEST_WAITING
        for since, name in names:
            line = b"%d %b" % (int(since * 1e9), name.encode("utf-8", "backslashreplace"))
            room -= len(line) + 1
            if room < 0:
                break
            lines.append(line)
        head = b"%d %d %d" % (answered, total, len(names) - len(lines))
        self._which_waiting = 1 - self._which_waiting
        try:
            os.pwrite(
                self._fds[0], b"\n".join([head, *lines, b"\n"]), _WAITING + 1 + self._which_waiting * _WAITING_PLACE
            )
            os.pwrite(self._fds[0], bytes([self._which_waiting]), _WAITING)
        except OSError:  # no memory: the last note stays
            pass

    def failed(self, state: int, line: str) -> None:
        """Note one more failure, in words that are fit for output."""
        self._add(state, line)
        self._publish()

    def replace(self, failures: "Iterable[tuple[int, str]]") -> None:
        """Note these failures in place of all that were noted before."""
        self._begin, self._failed = self._end, [0] * len(STATES)
        for state, line in failures:
            self._add(state, line)
        self._publish()

    def _add(self, state: int, line: str) -> None:
        self._failed[state] += 1
        data = b"%d%b\n" % (state, line.encode("utf-8", "backslashreplace")[:_LONGEST_LINE])
        if self._end + len(data) <= SIZE:  # a line without room is only counted
            self._write(data, self._end)
            self._end += len(data)

    def _publish(self) -> None:
        numbers = (self._since, self._until, self._told, self._begin, self._end, *self._failed)
        step = self._step.encode("utf-8", "backslashreplace")[:_LONGEST_STEP]
        self._which = 1 - self._which
        self._write(
            b"%b\n%b\n" % (b" ".join(b"%d" % number for number in numbers), step), _RECORDS + self._which * _RECORD
        )
        self._write(bytes([self._which]), 0)

    def _write(self, data: bytes, offset: int) -> None:
        # In a worker, which is forked from the run, the number of the descriptor belongs to another
        # file.
        for fd in self._fds if os.getpid() == self._pid else ():
            try:
                os.pwrite(fd, data, offset)
            except OSError:  # no memory: the last note stays
                pass


class Noted:
    """Notes as read. ``since``: when the step began (whole seconds on CLOCK_BOOTTIME). ``until``:
    when the run will be done (seconds on CLOCK_MONOTONIC), 0 before that is noted. ``told``: the
    state of the verdict, -1 before it is out. ``failed``: the number of failures of each state.
    ``lines``: the failures that had room, as (state, words)."""

    def __init__(self, fd: int) -> None:
        """Raises OSError; ValueError where a file does not hold notes."""
        self._understand(os.pread(fd, SIZE, 0))

    @classmethod
    def nothing(cls) -> "Noted":
        """The notes of a run that has noted nothing."""
        noted = cls.__new__(cls)
        noted._understand(bytes(SIZE))
        return noted

    def _understand(self, data: bytes) -> None:
        place = _RECORDS + (data[0] & 1) * _RECORD
        numbers, step, *_ = (*data[place : place + _RECORD].rstrip(b"\0").split(b"\n"), b"")
        since, until, told, begin, end, *failed = map(int, numbers.split() or (0, 0, -1, _LINES, _LINES, 0, 0, 0, 0))
        if len(failed) != len(STATES) or told not in range(-1, len(STATES)):
            raise ValueError("no notes")
        self.step = step or b"starting"
        self.since, self.until, self.told, self.failed = since, until / 1e9, told, failed
        self.lines = [(int(line[:1]), line[1:]) for line in data[begin:end].split(b"\n") if line]
        self.selected, self.checked = (int.from_bytes(data[_COUNTS + at : _COUNTS + at + 4], "little") for at in (0, 4))


class Waiting:
    """What a run waits for, as read: how many mounts have answered, of how many; ``names`` and the
    times since when; and how many more there are. ``total`` is 0 while no mounts are asked."""

    def __init__(self, fd: int) -> None:
        self.answered = self.total = self.unnamed = 0
        self.names: "list[tuple[float, str]]" = []
        try:
            data = os.pread(fd, FOR_WAITING, _WAITING)
            place = 1 + (data[0] & 1) * _WAITING_PLACE
            head, *lines = data[place : place + _WAITING_PLACE].partition(b"\n\n")[0].split(b"\n")
            self.answered, self.total, self.unnamed = map(int, head.split())
            fields = (line.partition(b" ") for line in lines)
            self.names = [(int(since) / 1e9, name.decode("utf-8", "replace")) for since, _, name in fields]
        except (OSError, ValueError, IndexError):  # nothing was noted, or it is being noted
            pass


def report(noted: Noted, what: bytes, cut_short: bool = False) -> "tuple[bytes, int]":
    """The output about a run that did not finish, and its state. ``what`` says what happened to the
    run; its notes follow.

    Not everything was checked, so the state is UNKNOWN; it is CRITICAL if a noted failure is
    CRITICAL and no signal has cut the run short."""
    state = _CRITICAL if noted.failed[_CRITICAL] and not cut_short else _UNKNOWN
    parts = [what, _progress(noted)]
    bad = sorted(noted.lines, key=lambda line: line[0] != _CRITICAL)
    if sum(noted.failed):
        named = b"; ".join(line for _, line in bad[:_NAMED])
        parts.append(b"%d failed: %b%b" % (sum(noted.failed), named, b"; ..." if sum(noted.failed) > _NAMED else b""))
    lines = [b"MOUNTS %b - %b" % (STATES[state].encode(), b", ".join(parts))]
    lines += [b"%b: %b" % (STATES[each].encode(), words) for each, words in bad]
    more = sum(noted.failed) - len(bad)
    if more > 0:
        lines.append(b"(and %d more)" % more)
    return b"\n".join(lines) + b"\n", state


def _progress(noted: Noted) -> bytes:
    if not noted.checked and not sum(noted.failed):
        return b"nothing was checked"
    return b"%d of %d mount%b checked" % (noted.checked, noted.selected, b" was" if noted.selected == 1 else b"s were")


def words(what: str, step: bytes, pid: int, since: "Sequence[str]" = ()) -> bytes:
    """``stuck reading /etc/check_mounts.conf (pid 4711)``."""
    return b" ".join((what.encode(), step, *(word.encode() for word in since), b"(pid %d)" % pid))
