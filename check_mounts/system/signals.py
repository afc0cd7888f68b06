"""Signals that ask for the end: the handler only notes them, the loop acts.

Import budget: ``os``, ``signal``. The handlers are installed before anything heavy is loaded, so
that an early signal ends in a verdict as well."""

from __future__ import annotations

import os
import signal
from typing import Optional

# They would otherwise end us without a verdict, and supervisors, terminals, timers and limits send
# them on purpose.
_ENDING = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGXCPU, signal.SIGVTALRM,
)  # fmt: skip


def back_to_default() -> None:
    """Give a child that has a life of its own the default signals: no handler of its parent, and
    nothing blocked that the caller had blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _wakeup_pipe() -> tuple[int, int]:
    """Make a pipe, (read, write), into which each signal puts a byte from now on."""
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(fds[1], warn_on_full_buffer=False)
    return fds


def drain(fd: int) -> None:
    """Make a wake-up pipe wait for the next signal. Which ones came is noted elsewhere."""
    try:
        os.read(fd, 4096)
    except OSError:  # EAGAIN: nothing there
        pass


class Interrupts:
    """The signals that have asked for the end. ``wake_fd`` becomes readable with each, for a poll.

    Signals that ask for something else are noted beside them, see :meth:`listen` and
    :meth:`called`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._calls: set[int] = set()
        self._listening: frozenset[int] = frozenset()
        self.wake_fd, self._write_fd = _wakeup_pipe()
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) asks for SIGHUP to be ignored
                signal.signal(number, self._note)
        # Our caller may have blocked them, or ignore SIGCHLD. In the latter case a pid could be
        # reused before we have reaped it.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_ENDING, signal.SIGCHLD))

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends of the pipe."""
        return self.wake_fd, self._write_fd

    def part(self) -> None:
        """Make a pipe of its own in a forked child that goes on with these handlers. With a shared
        pipe, parent and child would wake each other and take each other's bytes."""
        shared = self.fds
        self.wake_fd, self._write_fd = _wakeup_pipe()
        for fd in shared:
            os.close(fd)

    @property
    def name(self) -> Optional[str]:
        """The name of the first signal that has asked for the end."""
        return self.names[0] if self.names else None

    @property
    def count(self) -> int:
        """How many signals have asked for the end."""
        return len(self.names)

    def drain(self) -> None:
        """Make ``wake_fd`` wait for the next signal."""
        drain(self.wake_fd)

    def listen(self, *numbers: int) -> None:
        """Take these signals for calls, not for the end; those that have come already, too. A
        process that was told to ignore them listens all the same."""
        self._listening = frozenset(numbers)
        for number in numbers:
            signal.signal(number, self._note)
        for number in numbers:
            name = signal.Signals(number).name
            while name in self.names:  # in place: a signal that comes meanwhile must not be lost
                self._calls.add(number)
                self.names.remove(name)

    def called(self, number: int) -> bool:
        """Whether a signal that we listen for has come since the last call."""
        if number not in self._calls:
            return False
        self._calls.discard(number)
        return True

    def _note(self, number: int, _frame: object) -> None:
        if number in self._listening:
            self._calls.add(number)
            return
        self.names.append(signal.Signals(number).name)

    def __call__(self) -> Optional[str]:
        """The name of the first signal that has asked for the end; None where none has."""
        return self.name
