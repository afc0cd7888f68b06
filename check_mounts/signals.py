"""SIGTERM and its kin: the handler only notes, the loop acts.

Import budget: ``os``, ``signal``. Installed before anything heavy is loaded, so that an early
signal ends in a verdict as well."""

from __future__ import annotations

import os
import signal
from typing import Optional

# All that would otherwise end us without a verdict and is sent by somebody who means it:
# supervisors, terminals, timers, limits.
_ENDING = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
    signal.SIGVTALRM,
)  # fmt: skip


def back_to_default() -> None:
    """In a child that has a life of its own: no handler of the parent's, and nothing blocked that
    its caller had blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _wakeup_pipe() -> tuple[int, int]:
    """A pipe, (read, write), into which each signal puts a byte from now on."""
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
    """Notes the first signal that asks for the end. ``wake_fd`` becomes readable with it, for a
    poll.

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
        # Whoever called us may have blocked them, or ignore SIGCHLD; then a pid could be reused
        # before we have reaped it.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_ENDING, signal.SIGCHLD))

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends of the pipe."""
        return self.wake_fd, self._write_fd

    def part(self) -> None:
        """In a forked child that goes on with these handlers: a pipe of its own. In the one that it
        shares with its parent each would wake the other, and take out what was meant for it."""
        shared = self.fds
        self.wake_fd, self._write_fd = _wakeup_pipe()
        for fd in shared:
            os.close(fd)

    @property
    def name(self) -> Optional[str]:
        """The first signal that has asked for the end."""
        return self.names[0] if self.names else None

    @property
    def count(self) -> int:
        """How many have."""
        return len(self.names)

    def drain(self) -> None:
        """Make ``wake_fd`` wait for the next signal."""
        drain(self.wake_fd)

    def listen(self, *numbers: int) -> None:
        """From now on these do not ask for the end, nor have they. Also of a process that was told
        to ignore them."""
        self._listening = frozenset(numbers)
        for number in numbers:
            signal.signal(number, self._note)
        for number in numbers:
            name = signal.Signals(number).name
            while name in self.names:  # in place: a signal that comes meanwhile is not to be lost
                self._calls.add(number)
                self.names.remove(name)

    def called(self, number: int) -> bool:
        """Whether a signal has come that is listened for, since this was last asked."""
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
        """The name of the signal; None where there was none."""
        return self.name
