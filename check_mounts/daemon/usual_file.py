"""The file in which the daemon keeps what is usual (--unusual), for the next daemon.

It must outlive a reboot, so it lies on a disk, which may be frozen or full. A worker reads it once,
and writes it now and then."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

from check_mounts import text
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.daemon.errand import Errand, Result
from check_mounts.daemon.home import USUAL, Home
from check_mounts.judging import courses
from check_mounts.system import directories, replacing
from check_mounts.typed import Optional

# In seconds: from one time to write to the next; how soon the next worker tries what failed; how
# long a worker may take; how long the daemon waits for it when the daemon ends.
EVERY, _AGAIN, _LONGEST, _LAST = 600.0, 60.0, 10.0, 1.0
# The size of a worker's answer, in bytes: why it could not do its work, or nothing if it could.
_ANSWER = 256
# How long the content of the file is, stands before it in the memory.
_LENGTH = 8


class UsualFile:
    """Reads the file at ``path``, then writes what ``told`` says. A task that never ends (see
    tasks.Task).

    ``take`` is called once, with the content of the file; None if there is no file. Until then
    nothing is written: what could not be read yet must not be lost. ``tell`` is called after each
    attempt, with what cannot be done and why; None if it was done. Nothing is done unless it
    ``is_wanted``."""

    done = False

    def __init__(
        self,
        path: str,
        home: Home,
        told: Callable[[], bytes],
        take: Callable[[Optional[bytes]], None],
        tell: Callable[[Optional[str]], None],
    ) -> None:
        self._path, self._home = path, home
        self._told, self._taken_by, self._tell = told, take, tell
        self._errand = Errand(self._work, _ANSWER, _LONGEST, self._take)
        self.is_wanted = False
        self._is_read = False
        self._due = PAST
        # The content that a worker has read. (A worker has no descriptors of ours.)
        self._memory: Optional[mmap.mmap] = None

    def fileno(self) -> int:
        """A descriptor that is readable once a worker has answered."""
        return self._errand.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        due = self._errand.due(self.is_wanted)
        return due if self._errand.is_under_way else max(due, self._due)

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._errand.step(until)
        is_free = not (self._errand.is_under_way or self._errand.is_stuck)
        if self.is_wanted and is_free and monotonic() >= self._due:
            self._begin()

    def _begin(self) -> None:
        self._due = NEVER
        why = self._home.may_hang(USUAL)
        try:
            if why is None and not self._is_read:
                self._memory = mmap.mmap(-1, _LENGTH + courses.LONGEST)
        except OSError as error:
            why = str(error.strerror)
        why = self._errand.begin_unless(why)
        if why is not None:
            self._end(why)

    def _take(self, result: Result) -> None:
        why = result.why if result.answer is None else result.answer.decode("utf-8", "replace")
        if why or self._is_read:
            self._end(why)
            return
        assert self._memory is not None
        size = int.from_bytes(self._memory[:_LENGTH], "little")
        content = self._memory[_LENGTH : _LENGTH + size]
        self._is_read = True
        self._end("")
        self._taken_by(content or None)

    def _end(self, why: str) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self._due = after(_AGAIN if why else EVERY)
        verb = "write" if self._is_read else "read"
        self._tell(f"Cannot {verb} {text.printable_argument(self._path)}: {why}" if why else None)

    # -- in the worker

    def _work(self) -> bytes:
        head, _, name = self._path.rpartition("/")
        try:
            directory = directories.open_directory(head or "/", 0o755, rooted=True)
            try:
                if self._is_read:
                    replacing.replace_in(directory, name, self._told(), 0o640)
                else:
                    self._read(directory, name)
            finally:
                os.close(directory)
        except OSError as error:
            return text.encoded(str(error.strerror), "utf-8")
        except directories.Unusable as error:
            return text.encoded(str(error), "utf-8")
        return b""

    def _read(self, directory: int, name: str) -> None:
        """Copy the file to the memory. Raises OSError, Unusable."""
        content = directories.read_beginning(directory, name, courses.LONGEST)
        if not content.startswith(courses.BEGINNING[: len(content)]) and content.strip(b"\0"):
            raise directories.Unusable("it is not a file that check_mounts has written")
        assert self._memory is not None
        self._memory[: _LENGTH + len(content)] = len(content).to_bytes(_LENGTH, "little") + content

    def close(self) -> None:
        """Write once more, and stop."""
        until = after(_LAST)
        if self._is_read and self.is_wanted:
            self._due = PAST
            self.step()
            while self._errand.is_under_way and monotonic() < until:
                self.step(until)
        self._errand.end()
