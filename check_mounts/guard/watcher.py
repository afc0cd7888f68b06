"""The process that the caller waits for; it touches nothing that could block, and leaves behind a
child that hangs.

The watcher forks before anything else. It uses only pipes, the clock, its output, and the notes of
its child, which are in memory. The child does all the rest. If the child hangs, the watcher prints
where the child hangs and what the child had noted until then, and ends without it.

Import budget: ``os``, ``time``; ``_signal`` and ``select``, which are part of the interpreter
(signal is not, and imports enum); notes; on a terminal, progress. To keep to that, a few helpers of
signals and processes are repeated here."""

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import time

from check_mounts.guard import notes
from check_mounts.guard.streams import Stream

TYPE_CHECKING = False  # as in __main__
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Optional

    from check_mounts.guard.progress import Screen

# How long a run takes at most with default options, in seconds. This holds until the child notes
# another time.
_DEADLINE = 9.0
# How much later than noted the child may be done, in seconds, and how much later still if it is not
# stuck but computes.
_BEYOND, _BUSY = 0.5, 1.5
# The same after a signal that asks for the end.
_AFTER_SIGNAL = 0.5
# How long we wait for the reader of our output in all, in seconds, once we wait for nothing else.
_PATIENCE = 4.0
# In seconds: the longest wait; if a wait takes _LATE longer than it should, the whole host was
# stopped, the child as well; then the child has _CATCH_UP to go on.
_SLICE, _LATE, _CATCH_UP = 0.5, 0.25, 1.0
# How long to sleep if poll(2) fails, in seconds.
_MOMENT = 0.01
_UNKNOWN = 3
# The descriptors of the notes in the child, and of the terminal if the watcher draws on one. Those
# above are the watcher's: the child must close them.
MEMORY_FD, TERMINAL_FD = 3, 4
# The same as in signals.Interrupts.
ENDING = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGXCPU, signal.SIGVTALRM,
)  # fmt: skip
# SIGTSTP is what a terminal sends for ^Z.
_HANDLED = (*ENDING, signal.SIGTSTP, signal.SIGCHLD)


def watch(work: "Callable[[notes.Notes, int], int]", submits: bool) -> int:
    """Have a child do ``work``, which gets the notes and the pid of the watcher; return the exit
    code.

    ``submits``: the run should submit results, so say on stderr if it does not. Raises OSError if
    no child can be forked."""
    made: list[int] = []
    try:
        memory = notes.create(notes.FOR_WAITING)
        made.append(memory)
        for _ in range(3):
            made += os.pipe()
        out, err, wake = zip(made[1::2], made[2::2])
        terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        screen = _screen() if 2 in terminals else None
        made += [] if screen is None else [screen.fd]
        _listen(wake[1])
        pid, watcher = -1, os.getpid()
        pid = os.fork()
    except OSError:
        _listen_no_more()
        for fd in made:
            os.close(fd)
        raise
    if pid == 0:
        _be_the_child(work, memory, (out[1], err[1]), terminals, screen, watcher)
    os.close(out[1])
    os.close(err[1])
    return _Watcher(pid, memory, out[0], err[0], wake[0], submits, screen).run()


def _screen() -> "Optional[Screen]":
    from check_mounts.guard import progress

    return progress.open_screen()


def _be_the_child(
    work: "Callable[[notes.Notes, int], int]",
    memory: int,
    pipes: "tuple[int, int]",
    terminals: "list[int]",
    screen: "Optional[Screen]",
    watcher: int,
) -> "NoReturn":
    """In the child: do the work and exit. Never returns into the watcher's code.

    The child writes to terminals itself, but for the one on which the watcher draws."""
    code = _UNKNOWN
    try:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # A group of its own, because a terminal or a supervisor sends a signal to the whole group,
        # and the watcher passes it on: it must come only once.
        try:
            os.setpgid(0, 0)
        except OSError:  # only a filter of system calls refuses it: then a signal comes twice
            pass
        # In its own group the child is in the background, where a terminal could stop it when it
        # writes.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        direct = [fd for fd in terminals if screen is None or not screen.shows(fd)]
        for fd, pipe in zip((1, 2), pipes):
            if fd not in direct:
                os.dup2(pipe, fd)
        os.dup2(memory, MEMORY_FD)
        noted = notes.Notes(MEMORY_FD)
        noted.terminal = 1 if 1 in direct else None
        if screen is not None:  # its number is higher than that of the notes
            os.dup2(screen.fd, TERMINAL_FD)
            noted.is_shown = True
            if 1 in terminals and 1 not in direct:
                noted.terminal = TERMINAL_FD
        code = work(noted, watcher)
        noted.told(code)
    finally:
        os._exit(code)


_arrived: "list[int]" = []


def _note(number: int, _frame: object) -> None:
    _arrived.append(number)


def _listen(wake: int) -> None:
    """Note signals from now on. The signals in ENDING stay blocked: in the child until it has
    handlers of its own, in the watcher until it has a child to pass them on to."""
    os.set_blocking(wake, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in _HANDLED:
        # nohup(1) sets SIGHUP to be ignored.
        if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _note)


def _listen_no_more() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


class _Activity:
    """Tells whether the child computes, that is, whether it has run on a processor between two
    looks. ``due``: the time of the next look."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ran = pid, -1.0
        self.computes, self.due = False, 0.0

    def forget(self) -> None:
        """Begin again: the next look is the first."""
        self._ran = -1.0

    def look(self) -> bool:
        """Look at the processor time; return whether there is an earlier look to compare with."""
        before, self._ran, self.due = self._ran, processor_time(self._pid), time.monotonic() + _LATE
        self.computes = self._ran > before
        return before >= 0


class _Watcher:
    def __init__(
        self, pid: int, memory: int, out: int, err: int, wake: int, submits: bool, screen: "Optional[Screen]"
    ) -> None:
        self._pid, self._memory, self._wake, self._submits = pid, memory, wake, submits
        self._screen = screen
        os.set_blocking(wake, False)
        try:
            os.chdir("/")  # so that the filesystem of the caller's directory can be unmounted
        except OSError:
            pass
        self._out, self._err = (Stream(pipe, self._target(fd)) for pipe, fd in ((out, 1), (err, 2)))
        self._begun = time.monotonic()
        self._grace = 0.0
        self._signal: Optional[int] = None
        self._signals = 0
        self._signalled = 0.0
        self._activity = _Activity(pid)
        self._is_there = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING, signal.SIGCHLD))

    def run(self) -> int:
        """Wait until the child has ended or its time is up; return the exit code."""
        while True:
            self._wait(min(self._slice(), max(0.0, self._due() - time.monotonic())))
            status = self._reap()
            if status is not None:
                state = self._report_end(status)
                break
            if self._is_caught():
                state = self._leave_behind()
                break
            self._show()
        self._flush()
        return state

    # -- the terminal

    def _target(self, fd: int) -> int:
        """Where output goes: on the terminal on which we draw, through the descriptor for that."""
        return fd if self._screen is None or not self._screen.shows(fd) else self._screen.fd

    def _slice(self) -> float:
        return _SLICE if self._screen is None else _SLICE / 2

    def _show(self) -> None:
        """Draw what the child waits for; output comes first, and after a signal the end is near."""
        if self._screen is None or self._out.waiting or self._err.waiting or self._signal is not None:
            return
        self._screen.draw(self._read_notes(), notes.Waiting(self._memory))

    def _may_write(self, stream: Stream) -> bool:
        """Whether the terminal is free for output."""
        return self._screen is None or self._screen.erase() or stream.target != self._screen.fd

    def _read_notes(self) -> notes.Noted:
        try:
            return notes.Noted(self._memory)
        except (OSError, ValueError):  # no memory
            return notes.Noted.nothing()

    # -- waiting

    def _limit(self) -> float:
        """When the child must be done."""
        limit = (self._read_notes().until or self._begun + _DEADLINE) + _BEYOND
        if self._signal is not None:
            limit = min(limit, self._signalled + _AFTER_SIGNAL)
        return max(limit, self._grace)

    def _due(self) -> float:
        return max(self._limit() - _LATE, self._activity.due)

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
        except OSError:  # ENOMEM: read and write what waits all the same
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
            if stream.waiting and stream.target in ready and self._may_write(stream):
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
        """Stop the child and ourselves (^Z). Both continue together."""
        self._send(signal.SIGSTOP)
        if self._screen is not None:
            self._screen.erase()
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

    def _reap(self) -> "Optional[int]":
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # our caller has set SIGCHLD to be ignored, so the kernel reaps
            pid, status = self._pid, _UNKNOWN << 8
        self._is_there = not pid
        return status if pid else None

    def _is_caught(self) -> bool:
        """Whether the child's time is up. On a busy host a child may be late without being stuck,
        so we compare its processor time with that of an earlier look: a child that computes gets
        more time."""
        now, limit = time.monotonic(), self._limit()
        if now < limit - _LATE:
            self._activity.forget()
            return False
        if now < self._activity.due:
            return False
        is_known = self._activity.look()
        return now >= limit and is_known and (not self._activity.computes or now >= limit + _BUSY)

    # -- the end

    def _report_end(self, status: int) -> int:
        for stream in (self._out, self._err):
            stream.read()
        noted = self._read_notes()
        code, number = status >> 8, status & 0x7F
        if not number and noted.told == code:
            return code
        how = f"the check was ended by {_name(number)} while" if number else "the check ended without a verdict while"
        return self._say(noted, how, cut_short=True)

    def _leave_behind(self) -> int:
        self._send(signal.SIGKILL)
        for stream in (self._out, self._err):
            stream.read()
        how = "still" if self._activity.computes else "stuck"
        if self._signal is None:
            return self._say(self._read_notes(), how, cut_short=False)
        return self._say(self._read_notes(), f"interrupted by {_name(self._signal)}, {how}", cut_short=True)

    def _say(self, noted: notes.Noted, how: str, cut_short: bool) -> int:
        what = notes.words(how, noted.step, self._pid)
        if noted.told >= 0 or self._out.passed or self._out.waiting:  # one verdict is out, and is enough
            self._err.add(b"check_mounts: %b\n" % what)
            return noted.told if noted.told >= 0 else _UNKNOWN
        output, state = notes.report(noted, what, cut_short)
        self._out.add(output if self._screen is None else self._screen.painted(output, self._out.target))
        if self._submits:
            self._err.add(b"check_mounts: not submitted: %b\n" % what)
        return state

    def _flush(self) -> None:
        """Write the rest of the output. A reader that does not read must not hold us for ever. A
        signal that comes now ends the writing. But the first piece, which has the verdict, is tried
        once even then."""
        until, known = time.monotonic() + _PATIENCE, self._signals
        while self._out.waiting or self._err.waiting:
            left = until - time.monotonic()
            if left <= 0 or (self._signals > known and (self._out.passed or not self._out.waiting)):
                return
            self._wait(left)
        if self._screen is not None:
            self._screen.erase()


def processor_time(pid: int) -> float:
    """How many seconds a child has run on a processor; waiting for a file does not count. 0 if that
    is not known, or the child has been reaped."""
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
