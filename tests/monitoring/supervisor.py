"""What an init system does for one server: ``/usr/bin/python3 -IS supervisor.py LOG UID GID PROGRAM
[ARGUMENT...]``.

It starts the server in a session of its own, as that user and without supplementary groups, with
its output in LOG, and prints its pid. When the server ends, or the supervisor gets SIGTERM or loses
its parent, all that the server left behind is ended too, whatever session or parent it gave itself:
it was adopted. Who heeds no signal is left; it ends when what it hangs in is gone. Standard library
only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PATIENCE_WITH_SERVER = 10.0
_PATIENCE_WITH_KILLED = 0.5


def _start(log: str, uid: int, gid: int, command: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become(log, uid, gid, command)
        finally:
            os._exit(127)
    return pid


def _become(log: str, uid: int, gid: int, command: list[str]) -> NoReturn:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python ignores the one, a shell in the background the other
        signal.signal(number, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.umask(0o022)
    os.setgroups(())
    os.setgid(gid)
    os.setuid(uid)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{error}: {command[0]}\n".encode())
        raise


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(word) for word in file.read().split()]


def _reap(server: int, status: int | None) -> int | None:
    """Reap whoever has ended; give the status of the server once it is known."""
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == server:
            status = ended


def _supervise(server: int) -> int:
    """Wait for the end of the server; bring it about when told to. Give its exit status."""
    status: int | None = None
    end = None
    while status is None:
        seconds = 3600.0 if end is None else max(end - time.monotonic(), 0)
        event = signal.sigtimedwait((signal.SIGCHLD, signal.SIGTERM), seconds)
        status = _reap(server, status)
        if status is None and event is not None and event.si_signo == signal.SIGTERM:
            os.kill(server, signal.SIGTERM)
            end = time.monotonic() + _PATIENCE_WITH_SERVER
        elif status is None and event is None and end is not None:
            os.kill(server, signal.SIGKILL)
            end = None
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _clear(server: int) -> None:
    end = time.monotonic() + _PATIENCE_WITH_KILLED
    while (left := _children()) and time.monotonic() < end:
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # a child that is not reaped: the pid is nobody else's
        _reap(server, None)
        time.sleep(0.005)


def main() -> None:
    log, uid, gid, *command = sys.argv[1:]
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    server = _start(log, int(uid), int(gid), command)
    print(server, flush=True)
    status = _supervise(server)
    _clear(server)
    sys.exit(status)


if __name__ == "__main__":
    main()
