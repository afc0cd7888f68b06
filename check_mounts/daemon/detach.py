"""The daemon leaves its caller: a child goes on as the daemon. The caller waits for the parent,
which ends once the child has said that the daemon runs, or why it does not."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from check_mounts.model import State
from check_mounts.system import processes
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Optional

# In seconds: how long the parent waits for the first words of its child, beyond the deadline of the
# first pass; and how long it waits for the end of a child that it ends.
_PATIENCE = 10.0
# How often to look whether a process has ended, in seconds: no event tells that.
_MOMENT = 0.05

Say = Callable[[State, str], None]
# What the child does. Its first argument tells why there is no daemon, the second that there is
# one.
Serve = Callable[[Say, Callable[[], None]], State]


def run(serve: Serve, patience: float, interrupts: Interrupts, say: Say) -> State:
    """Do ``serve`` in a child that has left its caller, and pass its first words on to ``say``. The
    child may take ``patience`` seconds until it says them. Both processes return: the child with
    the result of ``serve``, the parent with the state for its exit code."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        return _serve(serve, interrupts, write)
    os.close(write)
    answer = _await(read, interrupts, time.monotonic() + patience + _PATIENCE)
    if answer is None:
        say(State.UNKNOWN, _call_off(pid, str(interrupts())))
        return State.UNKNOWN
    state = State(int(answer[:1])) if answer[:1].isdigit() else State.UNKNOWN
    words = answer[1:].decode("utf-8", "surrogateescape")
    say(state, words or "the daemon has not said whether it has started: see the log")
    return state


def _serve(serve: Serve, interrupts: Interrupts, write: int) -> State:
    """In the child: leave the caller, and be the daemon."""
    interrupts.separate()
    os.setsid()
    # A descriptor of the caller's would hold a lock, or keep a mount busy, as long as we live.
    _close_all_but({0, 1, 2, write, *interrupts.fds})

    def tell(state: State, words: str) -> None:
        try:
            os.write(write, f"{state.value}{words}".encode("utf-8", "surrogateescape")[: select.PIPE_BUF])
        except OSError:  # our parent is gone, and its caller no longer waits
            pass
        os.close(write)

    def settled() -> None:
        tell(State.OK, f"the daemon is running (pid {os.getpid()})")
        _leave_terminal()

    return serve(tell, settled)


def _await(read: int, interrupts: Interrupts, until: float) -> Optional[bytes]:
    """Wait for the first words of the child: empty if it has ended without any, or if the time is
    up; None if a signal came first."""
    poll = select.poll()
    for fd in (read, interrupts.wake_fd):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)}
        if read in ready:
            return os.read(read, select.PIPE_BUF)
        if interrupts.wake_fd in ready:
            interrupts.drain()
        if interrupts() is not None:
            return None
        if time.monotonic() >= until:
            return b""


def _call_off(pid: int, name: str) -> str:
    """End the child, because a signal has called off its start. Returns the outcome in words.

    An init script takes exit code 3 for a start that failed. If the daemon ran nevertheless, the
    script would not know of it, and the next start would be refused."""
    words = f"the start was interrupted by {name}"
    os.kill(pid, signal.SIGTERM)  # not reaped yet, so the number is still its own
    until = time.monotonic() + _PATIENCE
    while not processes.reap(pid):
        if time.monotonic() >= until:
            return f"{words}, but the daemon (pid {pid}) does not end"
        time.sleep(_MOMENT)
    return f"{words}, and the daemon was ended"


def _close_all_but(wanted: set[int]) -> None:
    """Close all descriptors but these."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for fd in map(int, names):
        if fd not in wanted:
            try:
                os.close(fd)
            except OSError:  # the descriptor of the listing itself
                pass


def _leave_terminal() -> None:
    """Replace stdin, stdout and stderr by /dev/null."""
    devnull = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    os.close(devnull)
