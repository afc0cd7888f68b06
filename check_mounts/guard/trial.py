"""A process that does work for the daemon that may hang, and that the daemon can give up.

The daemon has no watcher, because systemd knows the daemon by its pid.

Import budget: that of forked, caught and watcher. This module is also used before the rest of the
program or other libraries are loaded."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence

from check_mounts.clocks import after, monotonic
from check_mounts.guard import caught, notes, watcher
from check_mounts.system import forked, processes, reading
from check_mounts.typed import NoReturn, Optional

# How often we look whether the process makes progress, in seconds: no event tells us that.
_MOMENT = 0.05
# How long a process that was killed may take to end, in seconds.
_TO_END = 0.05
_NOTES_FD, _ANSWER_FD = 3, 4
# The longest answer: all recorded answers, and the bytes around them.
_LONGEST = reading.MOST + 4096
# The length of an answer is sent in this many bytes. Fewer come from a process that was killed.
_LENGTH = 8
# The first byte of an answer says whether the action's result follows, or where an earlier start is
# stuck.
_GIVEN, _CAUGHT = b"=", b"!"


class Trial:
    """Runs ``action`` in a process of its own. With ``arguments``, the process makes an entry for
    later runs (see caught), and does nothing if an earlier run with these arguments is stuck.

    The process writes its answer into memory, after its notes (memfd_create(2)), and then sends the
    length of the answer through a pipe. So the process never waits for its parent, and the parent
    reads only a complete answer, and never one longer than the longest.

    The memory need not be sealed (F_ADD_SEALS in fcntl(2)). It has no name. Only the process and
    its parent have it open; the process runs our own code, and writes nothing after it has sent the
    length. The parent does not map the memory, but copies the answer before it looks at it.

    After :meth:`wait`, ``answer`` is the action's result, None if the action did not finish. Then
    ``words`` say what happened, and ``is_stuck`` whether this process or an earlier one hangs.
    ``left`` has the process if it still exists although it was killed. Raises OSError where no
    process can be forked."""

    def __init__(self, action: Callable[[], bytes], arguments: Optional[Sequence[str]] = None) -> None:
        self.answer: Optional[bytes] = None
        self.words = ""
        self.is_stuck = False
        self.left: list[int] = []
        self._action, self._arguments = action, arguments
        self._data = b""
        self._parent = os.getpid()
        made: list[int] = []
        try:
            made += [notes.create(_LONGEST), os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), *os.pipe()]
            self._memory, devnull, self._answer_fd, end = made
            self._pid = os.fork()
        except OSError:
            for fd in made:
                os.close(fd)
            raise
        if self._pid == 0:
            self._serve(end, devnull)
        os.close(end)
        os.close(devnull)
        os.set_blocking(self._answer_fd, False)

    def wait(
        self, still: float, longest: float, interrupted: Callable[[], bool], feed: Callable[[], None] = lambda: None
    ) -> Trial:
        """Wait until the process has ended, has made no progress for ``still`` seconds, or has
        taken ``longest`` seconds. ``feed`` is called again and again meanwhile."""
        poll = select.poll()
        poll.register(self._answer_fd, select.POLLIN)
        begun = monotonic()
        at, since = 0.0, begun + min(still, 1.0)  # time to begin
        is_open = True
        while is_open and not interrupted() and monotonic() - since < still and monotonic() - begun < longest:
            is_open = not poll.poll(_MOMENT * 1000) or self._read()
            now_at = watcher.processor_time(self._pid)
            if now_at != at or processes.is_runnable(self._pid):  # a busy host may give it no processor for a while
                at, since = now_at, monotonic()
            feed()
        self._end(is_stuck=is_open)
        return self

    def _read(self) -> bool:
        """Read the bytes that have come; return whether more may come."""
        try:
            data = os.read(self._answer_fd, _LENGTH)
        except BlockingIOError:
            return True
        self._data += data
        return bool(data)

    def _read_answer(self) -> Optional[bytes]:
        """Read the whole answer; return None if the process did not finish."""
        length = int.from_bytes(self._data, "little") if len(self._data) == _LENGTH else 0
        if not 0 < length <= _LONGEST:
            return None
        answer = os.pread(self._memory, length, notes.SIZE)
        return answer if len(answer) == length else None

    def _end(self, is_stuck: bool) -> None:
        answer = self._read_answer()
        if answer is None:
            self.is_stuck = is_stuck
            how = "stuck" if is_stuck else "ended while"
            self.words = notes.words(how, notes.Noted(self._memory).step, self._pid).decode("utf-8", "replace")
        elif answer[:1] == _GIVEN:
            self.answer = answer[1:]
        else:
            self.words, self.is_stuck = answer[1:].decode("utf-8", "replace"), True
        for fd in (self._memory, self._answer_fd):
            os.close(fd)
        processes.kill(self._pid)
        until = after(_TO_END)
        while not processes.reap(self._pid):
            if monotonic() >= until:
                self.left = [self._pid]
                return
            time.sleep(0.001)

    def _serve(self, end: int, devnull: int) -> NoReturn:
        """In the process: do the work. This never returns into the parent's code, not even after an
        exception."""
        try:
            # With our groups, so that it may read what we may read.
            forked.settle(self._memory, end, devnull, self._parent, tuple(os.getgroups()))
            noted = notes.Notes(_NOTES_FD)
            reading.say_to(noted.step)
            data = self._act(noted)
            if len(data) <= _LONGEST:
                at, rest = notes.SIZE, memoryview(data)
                while rest:
                    written = os.pwrite(_NOTES_FD, rest, at)
                    at, rest = at + written, rest[written:]
                os.write(_ANSWER_FD, len(data).to_bytes(_LENGTH, "little"))
        finally:
            os._exit(0)

    def _act(self, noted: notes.Notes) -> bytes:
        if self._arguments is None:
            return _GIVEN + self._action()
        noted.step("looking for earlier starts")
        run = caught.Run(self._arguments, noted, self._parent)
        try:
            earlier = run.find_caught()
            if earlier is not None:
                return _CAUGHT + earlier.what
            return _GIVEN + self._action()
        finally:
            run.leave()
