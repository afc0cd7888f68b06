"""A process that does for the daemon what may hang, and that can be given up. The daemon has no
watcher: systemd knows it by its pid.

Import budget: that of forked, caught and watcher. It is also used before the rest of the program or
other libraries are loaded."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Optional

from check_mounts.clocks import after, monotonic
from check_mounts.guard import caught, notes, watcher
from check_mounts.system import forked, processes, reading

# How often we look for what no event tells: that a process stands still, or that it has ended.
_MOMENT = 0.05
# How long a process that was killed may take to end.
_TO_END = 0.05
_NOTES_FD, _ANSWER_FD = 3, 4
# The longest answer: all recorded answers, and what holds them together.
_LONGEST = reading.MOST + 4096
# This many bytes say how long an answer is. Fewer come from a process that was killed.
_LENGTH = 8
# The first byte of an answer: the action's result follows, or why an earlier start is stuck.
_GIVEN, _CAUGHT = b"=", b"!"


class Trial:
    """``action`` in a process of its own. With ``arguments`` the process has an entry among the
    runs that were started with them, and does nothing where an earlier one is stuck.

    The process puts its answer into memory, behind its notes (memfd_create(2)), and then says how
    long the answer is. So the process never waits for its parent, and the parent takes nothing
    before all of the answer is there, and nothing longer than the longest answer.

    The memory is not sealed (F_ADD_SEALS in fcntl(2)). It has no name; only this process, which is
    our own code, has it open, and writes nothing after the length; and the parent does not map the
    memory, but copies the answer before it looks at it.

    After :meth:`wait`, ``answer`` is the action's result, None where the action did not come to its
    end. Then ``words`` say what happened, ``is_stuck`` whether the process hung or an earlier one
    does, and ``left`` has the process if it has not ended although it was killed. Raises OSError
    where no process is available."""

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
        """Wait until the process has ended, has stood still for ``still`` seconds, or has taken
        ``longest`` seconds. ``feed`` is called now and then."""
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
        """Read what has come; return whether more may come."""
        try:
            data = os.read(self._answer_fd, _LENGTH)
        except BlockingIOError:
            return True
        self._data += data
        return bool(data)

    def _given(self) -> Optional[bytes]:
        """The whole answer; None where the process did not come to its end."""
        length = int.from_bytes(self._data, "little") if len(self._data) == _LENGTH else 0
        if not 0 < length <= _LONGEST:
            return None
        answer = os.pread(self._memory, length, notes.SIZE)
        return answer if len(answer) == length else None

    def _end(self, is_stuck: bool) -> None:
        answer = self._given()
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
        """Do the work, in the process. Whatever happens, it never returns into its parent's
        code."""
        try:
            # With our groups: it may read what we may read.
            forked.settle(self._memory, end, devnull, self._parent, tuple(os.getgroups()))
            noted = notes.Notes(_NOTES_FD)
            reading.say_to(noted.step)
            data = self._entered(noted)
            if len(data) <= _LONGEST:
                at, rest = notes.SIZE, memoryview(data)
                while rest:
                    written = os.pwrite(_NOTES_FD, rest, at)
                    at, rest = at + written, rest[written:]
                os.write(_ANSWER_FD, len(data).to_bytes(_LENGTH, "little"))
        finally:
            os._exit(0)

    def _entered(self, noted: notes.Notes) -> bytes:
        if self._arguments is None:
            return _GIVEN + self._action()
        noted.step("looking for earlier starts")
        run = caught.Run(self._arguments, noted, self._parent)
        try:
            earlier = run.caught_before()
            if earlier is not None:
                return _CAUGHT + earlier.what
            return _GIVEN + self._action()
        finally:
            run.leave()
