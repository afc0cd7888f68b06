"""The process that the caller waits for. It forks before anything else, and touches nothing that
could block: pipes, the clock, what it prints to, and the notes of its child, which are in memory.
The child does all the rest. Where that is caught by something that hangs, this one says what it is
caught in and what it had noted until then, and leaves it behind.

Import budget: ``os``, ``time``; ``_signal`` and ``select``, which are part of the interpreter
(signal is not, and imports enum); notes."""

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import time

from check_mounts import notes

TYPE_CHECKING = False  # as in __main__
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Optional

# Until the child says otherwise: what a run takes at most where no option does, in seconds.
_DEADLINE = 9.0
# How much later than it meant to be it may be done, and how much later still where it is not stuck
# but at work.
_BEYOND, _BUSY = 0.5, 1.5
# The same after a signal that asks for the end.
_AFTER_SIGNAL = 0.5
# How long the reader of our output may keep us in all, once there is nothing else to wait for.
_PATIENCE = 4.0
# The longest wait. Where one took so much longer, this host was stopped, and the child with it: it
# has so long then to catch up.
_SLICE, _LATE, _CATCH_UP = 0.5, 0.25, 1.0
# How long to wait where it cannot be waited for anything.
_MOMENT = 0.01
_UNKNOWN = 3
# Of the notes, in the child; what is above is not the child's, and is for it to close.
MEMORY_FD = 3
_PIPE_BUF = 4096  # what a pipe takes as a whole, in limits.h
# Those of signals.Interrupts, and what a terminal sends for ^Z.
ENDING = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
    signal.SIGVTALRM,
)  # fmt: skip
_HANDLED = (*ENDING, signal.SIGTSTP, signal.SIGCHLD)


def watch(work: "Callable[[notes.Notes, int], int]", submits: bool) -> int:
    """Have ``work`` done in a child, which is given its notes and the pid of its watcher; the exit
    code.

    ``submits``: that nothing is submitted is to be said on stderr. Raises OSError where no child
    can be had."""
    made: list[int] = []
    try:
        memory = notes.create()
        made.append(memory)
        for _ in range(3):
            made += os.pipe()
        out, err, wake = zip(made[1::2], made[2::2])
        _listen(wake[1])
        pid, watcher = -1, os.getpid()
        pid = os.fork()
    except OSError:
        _listen_no_more()
        for fd in made:
            os.close(fd)
        raise
    if pid == 0:
        _be_the_child(work, memory, out[1], err[1], watcher)
    os.close(out[1])
    os.close(err[1])
    return _Watcher(pid, memory, out[0], err[0], wake[0], submits).run()


def _be_the_child(
    work: "Callable[[notes.Notes, int], int]", memory: int, out: int, err: int, watcher: int
) -> "NoReturn":
    """Never returns into the watcher's code."""
    code = _UNKNOWN
    try:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # What a terminal or a supervisor sends to all of the group is passed on by the watcher,
        # once.
        try:
            os.setpgid(0, 0)
        except OSError:  # only a filter refuses it: then it comes twice
            pass
        signal.signal(
            signal.SIGTTOU, signal.SIG_IGN
        )  # so in the background, where a terminal could stop it for writing
        for fd, pipe in ((1, out), (2, err)):
            if not os.isatty(fd):
                os.dup2(pipe, fd)
        os.dup2(memory, MEMORY_FD)
        noted = notes.Notes(MEMORY_FD)
        code = work(noted, watcher)
        noted.told(code)
    finally:
        os._exit(code)


_arrived: "list[int]" = []


def _note(number: int, _frame: object) -> None:
    _arrived.append(number)


def _listen(wake: int) -> None:
    """Note signals. Those for the child are blocked until it has handlers of its own; in us they
    are as soon as it is there."""
    os.set_blocking(wake, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in _HANDLED:
        if (
            number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN
        ):  # nohup(1) asks for SIGHUP to be ignored
            signal.signal(number, _note)


def _listen_no_more() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


class _Stream:
    """What the child writes, on its way to the caller."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        os.set_blocking(source, False)
        self.waiting = b""
        self.passed = 0  # bytes
        self.is_open, self.is_read = True, True

    def read(self) -> None:
        """All that there is."""
        try:
            while self.is_open:
                data = os.read(self.source, 1 << 16)
                self.is_open = bool(data)
                self.add(data)
        except OSError:  # EAGAIN: nothing there; anything else: again, with the next look
            pass

    def add(self, data: bytes) -> None:
        if self.is_read:
            self.waiting += data

    def write(self) -> None:
        """As much as a pipe takes without blocking, where poll says that it takes any."""
        try:
            count = os.write(self.target, self.waiting[:_PIPE_BUF])
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ENOSPC, EBADF: nobody to tell; the exit code still says it
            self.waiting, self.is_read = b"", False
            return
        self.waiting, self.passed = self.waiting[count:], self.passed + count


class _Watcher:
    def __init__(self, pid: int, memory: int, out: int, err: int, wake: int, submits: bool) -> None:
        self._pid, self._memory, self._wake, self._submits = pid, memory, wake, submits
        os.set_blocking(wake, False)
        try:
            os.chdir("/")  # what the caller's directory is on is not kept busy
        except OSError:
            pass
        self._out, self._err = _Stream(out, 1), _Stream(err, 2)
        self._begun = time.monotonic()
        self._grace = 0.0
        self._signal: Optional[int] = None
        self._signals = 0
        self._signalled = 0.0
        # How many seconds the child had run at the last look, whether it had since the one before,
        # and when to look again.
        self._ran, self._computes, self._look = -1.0, False, 0.0
        self._is_there = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING, signal.SIGCHLD))

    def run(self) -> int:
        """Until the child has ended, or its time is up; the exit code."""
        while True:
            self._wait(min(_SLICE, max(0.0, self._due() - time.monotonic())))
            status = self._reaped()
            if status is not None:
                state = self._ended(status)
                break
            if self._is_caught():
                state = self._caught()
                break
        self._flush()
        return state

    def _noted(self) -> notes.Noted:
        try:
            return notes.Noted(self._memory)
        except (OSError, ValueError):  # no memory to be had
            return notes.Noted.nothing()

    # -- waiting

    def _limit(self) -> float:
        """When the child should be done."""
        limit = (self._noted().until or self._begun + _DEADLINE) + _BEYOND
        if self._signal is not None:
            limit = min(limit, self._signalled + _AFTER_SIGNAL)
        return max(limit, self._grace)

    def _due(self) -> float:
        return max(self._limit() - _LATE, self._look)

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for stream in (self._out, self._err):
            if stream.is_open:
                poll.register(stream.source, select.POLLIN)
            if stream.waiting:
                poll.register(stream.target, select.POLLOUT)
        began = time.monotonic()
        try:
            ready = {fd for fd, _ in poll.poll(seconds * 1000 + 1)}
        except OSError:  # ENOMEM: what waits is read and written all the same
            time.sleep(min(seconds, _MOMENT))
            ready = {self._wake, *(fd for stream in (self._out, self._err) for fd in (stream.source, stream.target))}
        now = time.monotonic()
        if now - began - seconds > _LATE:
            self._grace = now + _CATCH_UP
        if self._wake in ready:
            _drain(self._wake)
        self._pass_signals_on()
        for stream in (self._out, self._err):
            if stream.source in ready:
                stream.read()
            if stream.waiting and stream.target in ready:
                stream.write()

    def _pass_signals_on(self) -> None:
        while _arrived:
            number = _arrived.pop(0)
            if number == signal.SIGTSTP:
                self._stop()
            elif number != signal.SIGCHLD:
                self._signals += 1
                if self._signal is None:
                    self._signal, self._signalled = number, time.monotonic()
                self._send(number)

    def _stop(self) -> None:
        """^Z: both stop, and go on together."""
        self._send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._send(signal.SIGCONT)
        self._grace = time.monotonic() + _CATCH_UP

    def _send(self, number: int) -> None:
        if not self._is_there:
            return
        try:
            os.kill(self._pid, number)  # not reaped yet, so the number is still its own
        except OSError:
            pass

    def _reaped(self) -> "Optional[int]":
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # somebody ignores SIGCHLD for us
            pid, status = self._pid, _UNKNOWN << 8
        self._is_there = not pid
        return status if pid else None

    def _is_caught(self) -> bool:
        """Its time is up. One that computes is not stuck, for this host has other things to do,
        too: it is looked at once before."""
        now, limit = time.monotonic(), self._limit()
        if now < limit - _LATE:
            self._ran = -1.0
            return False
        if now < self._look:
            return False
        before, self._ran, self._look = self._ran, processor_time(self._pid), now + _LATE
        self._computes = self._ran > before
        return now >= limit and before >= 0 and (not self._computes or now >= limit + _BUSY)

    # -- the end

    def _ended(self, status: int) -> int:
        for stream in (self._out, self._err):
            stream.read()
        noted = self._noted()
        code, number = status >> 8, status & 0x7F
        if not number and noted.told == code:
            return code
        how = f"the check was ended by {_name(number)} while" if number else "the check ended without a verdict while"
        return self._say(noted, how, cut_short=True)

    def _caught(self) -> int:
        self._send(signal.SIGKILL)
        for stream in (self._out, self._err):
            stream.read()
        how = "still" if self._computes else "stuck"
        if self._signal is None:
            return self._say(self._noted(), how, cut_short=False)
        return self._say(self._noted(), f"interrupted by {_name(self._signal)}, {how}", cut_short=True)

    def _say(self, noted: notes.Noted, how: str, cut_short: bool) -> int:
        what = notes.words(how, noted.step, self._pid)
        if noted.told >= 0 or self._out.passed or self._out.waiting:  # one verdict is enough
            self._err.add(b"check_mounts: %b\n" % what)
            return noted.told if noted.told >= 0 else _UNKNOWN
        output, state = notes.report(noted, what, cut_short)
        self._out.add(output)
        if self._submits:
            self._err.add(b"check_mounts: not submitted: %b\n" % what)
        return state

    def _flush(self) -> None:
        """Hand the rest over. A reader that does not read must not keep us for ever. A signal that
        comes now ends it; the first piece, which has the verdict, has its chance even so."""
        until, known = time.monotonic() + _PATIENCE, self._signals
        while self._out.waiting or self._err.waiting:
            left = until - time.monotonic()
            if left <= 0 or (self._signals > known and (self._out.passed or not self._out.waiting)):
                return
            self._wait(left)


def processor_time(pid: int) -> float:
    """How many seconds a child has run; it does not while it waits for a file. 0 where that is not
    known, or it has been reaped."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the clock of another process (clock_getcpuclockid(3))
    except OSError:
        return 0.0


def _name(number: int) -> str:
    for name in dir(signal):
        if name.startswith("SIG") and not name.startswith("SIG_") and getattr(signal, name) == number:
            return name
    return f"signal {number}"


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except OSError:
        pass
