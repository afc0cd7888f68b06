"""Programs of others: whether one can be trusted, and a run of it that comes to an end in time.

Import budget: ``os``, ``select``, ``signal``, ``stat``, ``time``. A program may be on something
that hangs, so each call belongs in a worker that can be given up."""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from collections.abc import Collection, Mapping, Sequence

from check_mounts import text
from check_mounts.system import processes, signals, syscalls
from check_mounts.typed import NamedTuple, Optional

_NOT_RUN = b"\0cannot be run: "
_MOST_STEPS = 1000
# How often to look whether the program has ended, and how long one that was killed may take to end,
# in seconds.
_MOMENT, _TO_DIE = 0.02, 0.5


class NotRun(Exception):
    """The program could not be started; the message says why."""


class Late(Exception):
    """The program did not end in time, and was killed. ``pid`` and ``start`` identify it if it
    exists nevertheless; 0 if it has ended."""

    def __init__(self, pid: int = 0, start: int = 0) -> None:
        super().__init__("did not end in time, and was killed")
        self.pid, self.start = pid, start


class Ran(NamedTuple):
    """What a program has said, and its exit status (below 0: the signal)."""

    said: bytes
    code: int


def why_replaceable(path: str, trusted: Collection[int] = (0,)) -> Optional[str]:
    """Why others than the ``trusted`` users could replace the program: they own it, or may write to
    it or to a directory on its path. None if they cannot. Raises OSError.

    ``make install`` of Nagios gives its bin/ to the user nagios, who could become root through it.
    In a directory with the sticky bit, others can still be the first to install a program. Symbolic
    links are followed as by the kernel: others cannot change a path that leads only through root's
    directories."""
    done, left = "/", path.split("/")
    for _ in range(_MOST_STEPS):
        status = os.lstat(done)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(done)
            done, left = ("/" if target.startswith("/") else os.path.dirname(done)), [*target.split("/"), *left]
            continue
        if status.st_uid not in trusted:
            return f"{text.printable_argument(done)} belongs to uid {status.st_uid}"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
            return f"not only its owner may write to {text.printable_argument(done)} ({mode})"
        if not left:
            return None
        name, *left = left
        done = os.path.dirname(done) if name == ".." else os.path.join(done, name) if name not in ("", ".") else done
    return "too many symbolic links lead to it"


def look_at(path: str) -> None:
    """Look a file up, so that this worker hangs where the program would. Its owner knows about a
    worker. The program would be an orphan once its worker was killed, and the next attempt would
    add another one. An error does not matter here: the program has better words for it."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        syscalls.statx(fd, syscalls.Statx())
    except OSError:
        pass
    finally:
        os.close(fd)


def run(
    words: Sequence[str], input_: bytes, environment: Mapping[bytes, bytes], until: float, most: int, is_alone: bool
) -> Ran:
    """Run a program until it ends, with ``input_`` as its standard input. ``until`` is on
    CLOCK_MONOTONIC. At most ``most`` bytes of what it says are kept. ``is_alone``: what it has
    started itself ends with it; otherwise the run lasts until all have closed its output. Raises
    NotRun and Late."""
    descriptors: list[int] = []
    try:
        # A file in memory: writing to it does not block, whatever its size, and even if the program
        # never reads it.
        descriptors.append(os.memfd_create("input"))
        _fill(descriptors[0], input_)
        descriptors += os.pipe()
        pid = _spawn(words, environment, descriptors[0], descriptors[2])
        os.close(descriptors.pop())
        try:
            said, status = _follow(pid, descriptors[1], until, most, is_alone)
        except BaseException:
            _kill(pid)
            raise
    except OSError as error:
        raise NotRun(f"cannot be run: {os.strerror(error.errno or 0)}") from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if said.startswith(_NOT_RUN):
        raise NotRun(said[1:].decode("utf-8", "replace"))
    return Ran(said, os.waitstatus_to_exitcode(status))


def _fill(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _spawn(words: Sequence[str], environment: Mapping[bytes, bytes], input_: int, output: int) -> int:
    """Start the program. Returns its process ID. It leads a group, so that no child of a script
    outlives it. The kernel kills it if this worker is killed first; posix_spawn cannot set that."""
    arguments = [os.fsencode(word) for word in words]
    pid = os.fork()
    if pid == 0:
        try:
            signals.reset_to_default()
            os.setpgid(0, 0)
            processes.die_with_parent(os.getppid())
            for ours, theirs in ((input_, 0), (output, 1), (output, 2)):
                os.dup2(ours, theirs)
            os.execve(arguments[0], arguments, environment)
        except OSError as error:
            os.write(2, _NOT_RUN + os.strerror(error.errno or 0).encode())
        finally:
            os._exit(127)
    return pid


def _follow(pid: int, output: int, until: float, most: int, is_alone: bool) -> tuple[bytes, int]:
    """Read the output until the program has ended, and its output, too. Raises Late."""
    said, is_open, status, ended = b"", True, None, 0.0
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while status is None or (is_open and not (is_alone and time.monotonic() >= ended + _TO_DIE)):
        if time.monotonic() >= until:
            raise _late(pid, status is not None)
        if not is_open:
            time.sleep(_MOMENT / 10)
        elif poll.poll(_MOMENT * 1000):
            chunk = os.read(output, 8192)
            is_open = bool(chunk)
            said = (said + chunk)[:most]
        if status is None:
            status = _status_of(pid, is_alone)
            ended = time.monotonic()
    return said, status


def _status_of(pid: int, is_alone: bool) -> Optional[int]:
    """The status of a program that has ended; None before that. The group of one that was not
    reaped cannot belong to others."""
    if is_alone and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        _kill_group(pid)
    ended, status = os.waitpid(pid, os.WNOHANG)
    return status if ended else None


def _late(pid: int, has_ended: bool) -> Late:
    """Kill the program and all that it has started."""
    if has_ended:
        return Late()
    start = processes.process_start(pid) or 0
    _kill_group(pid)
    until = time.monotonic() + _TO_DIE
    while time.monotonic() < until:
        if processes.reap(pid):
            return Late()
        time.sleep(_MOMENT / 10)
    return Late(pid, start)


def _kill(pid: int) -> None:
    _kill_group(pid)
    processes.reap(pid)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has ended; it has become another user
        pass
