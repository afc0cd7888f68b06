"""Signals that ask this process to end: the handler only notes them, the main loop acts.

Import budget: ``os``; ``_signal``, which is part of the interpreter (signal is not, and makes enums
of all its numbers). The handlers are installed before any large module is loaded, so
that an early signal leads to a verdict as well."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os

from check_mounts.typed import Optional

# Without a handler these would end us without a verdict, and supervisors, terminals, timers and
# limits send them on purpose.
_NAMES = {
    getattr(signal, name): name
    for name in (
        "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGVTALRM",
    )
}  # fmt: skip
_ENDING = tuple(_NAMES)


def reset_to_default() -> None:
    """Reset all signals in a child that does other work than its parent: no handler of the parent
    stays, and no signal is blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _wakeup_pipe() -> tuple[int, int]:
    """Make a pipe, (read, write); each signal writes a byte into it from now on."""
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(fds[1], warn_on_full_buffer=False)
    return fds


def drain(fd: int) -> None:
    """Empty a wake-up pipe. Which signals came is noted elsewhere."""
    try:
        os.read(fd, 4096)
    except OSError:  # EAGAIN: it is empty
        pass


class Interrupts:
    """The signals that have asked this process to end. ``wake_fd`` becomes readable with each
    signal, so a poll can wait for it.

    Signals that ask for something else are noted separately: see :meth:`listen` and
    :meth:`take_call`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._calls: set[int] = set()
        self._listening: frozenset[int] = frozenset()
        self.wake_fd, self._write_fd = _wakeup_pipe()
        for number in _ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup(1) asks for SIGHUP to be ignored
                signal.signal(number, self._note)
        # Our caller may have blocked these signals, or set SIGCHLD to be ignored. If SIGCHLD is
        # ignored, the kernel reaps, and a pid could be reused before we know of its end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_ENDING, signal.SIGCHLD))

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends of the pipe."""
        return self.wake_fd, self._write_fd

    def separate(self) -> None:
        """In a forked child that keeps these handlers: make a new pipe. With a shared pipe, parent
        and child would wake each other and read each other's bytes."""
        shared = self.fds
        self.wake_fd, self._write_fd = _wakeup_pipe()
        for fd in shared:
            os.close(fd)

    @property
    def name(self) -> Optional[str]:
        """The name of the first signal that has asked for the end; None before any has."""
        return self.names[0] if self.names else None

    @property
    def count(self) -> int:
        """How many signals have asked for the end."""
        return len(self.names)

    def drain(self) -> None:
        """Empty the pipe, so that ``wake_fd`` becomes readable with the next signal."""
        drain(self.wake_fd)

    def listen(self, *numbers: int) -> None:
        """Treat these signals of those that end us as calls; also those that have come already.
        This holds even if the caller has set them to be ignored."""
        self._listening = frozenset(numbers)
        for number in numbers:
            signal.signal(number, self._note)
        for number in numbers:
            name = _NAMES[number]
            while name in self.names:  # in place: a signal that comes meanwhile must not be lost
                self._calls.add(number)
                self.names.remove(name)

    def take_call(self, number: int) -> bool:
        """Whether a signal that we listen for has come since the last time we asked."""
        if number not in self._calls:
            return False
        self._calls.discard(number)
        return True

    def _note(self, number: int, _frame: object) -> None:
        if number in self._listening:
            self._calls.add(number)
            return
        self.names.append(_NAMES[number])

    def __call__(self) -> Optional[str]:
        """The same as :attr:`name`."""
        return self.name
