"""``command-file:PATH``: the pipe for external commands of Nagios and Icinga 1, and of Icinga 2
(ExternalCommandListener).

Import budget: ``os``, ``select``, ``signal``, ``stat``, ``time``; ctypes through syscalls.

One line is one command whose fields end with ``;``, so a line break or a ``;`` in a mount point
must be escaped. The format:
https://assets.nagios.com/downloads/nagioscore/docs/externalcmds/. The server does not answer:
only its log says, for example, whether it has a service of that name."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Sequence

from check_mounts import text
from check_mounts.passive import Result, Settings, Undelivered, quiet, records
from check_mounts.passive.progress import Progress
from check_mounts.system import walk

SETTINGS: frozenset[str] = frozenset()

# A write of up to this many bytes is atomic (pipe(7)). Nagios 4 and Icinga 2 read longer lines, but
# then other writers' commands could land within ours, and ours within theirs. And if the pipe
# became full in the middle of a command, the beginning could not be taken back: the next writer's
# command would become its end. Beyond 128 KiB, Icinga 2 takes the rest of a line for another
# command.
_LONGEST = select.PIPE_BUF
_LEAST_ROOM = 512


def command(result: Result) -> bytes:
    """The line for the pipe. Raises Undelivered if the names leave no room."""
    host, service = (records.name(name, forbidden=";") for name in (result.host, result.service))
    head = f"[{max(0, int(result.taken))}] PROCESS_SERVICE_CHECK_RESULT;{host};{service};{result.report.state.value};"
    room = _LONGEST - len(head.encode("utf-8")) - 1
    if room < _LEAST_ROOM:
        raise Undelivered("the names of host and service are too long")
    words = records.fitted(
        records.unambiguous(records.safe(result.report)), room, lambda piece: len(piece.encode("utf-8")), newline="\\n"
    )
    return (head + words + "\n").encode("utf-8")


class CommandFile:
    """The pipe of a monitoring system."""

    confirms = False

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = f"command-file:{text.printable_argument(path)}"
        self.files = (path,)

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """See Destination. Does not block on a pipe that is full longer than ``until``."""
        failures, refused = [], []
        with quiet.broken_pipes():
            pipe = _open_pipe(self._path)
            try:
                for number, result in enumerate(results):
                    try:
                        line = command(result)
                    except Undelivered as error:
                        failures.append(f"{records.label(result)}: {error}")
                        refused.append(number)
                    else:
                        _write(pipe, line, until)
            finally:
                os.close(pipe)
        if failures:
            raise records.summed_up(failures, len(results), refused=refused)


def destination(path: str, settings: Settings) -> CommandFile:
    """Raises ValueError."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError("command-file: the path must be absolute")
    return CommandFile(path)


def _open_pipe(path: str) -> int:
    """Open the pipe for writing. Raises Undelivered.

    The directory of the pipe belongs to the monitoring system's user, who must not be able to make
    root write to anything else. So no symbolic link is followed, and the file type is checked
    before the file is opened: opening a device can have effects."""
    try:
        place = walk.open_without_symlinks(os.fsencode(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mode = os.fstat(place).st_mode
            if stat.S_ISLNK(mode):  # without openat2
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if not stat.S_ISFIFO(mode):
                raise Undelivered("it is not a pipe (FIFO)")
            # The same object, even if the path leads elsewhere by now (proc_pid_fd(5)).
            return os.open(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(place)
    except OSError as error:
        raise Undelivered(_why(error)) from None


def _why(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "no process reads from it: the monitoring system does not run, or it accepts no external commands"
    if error.errno == errno.ELOOP:
        return "a symbolic link leads to it; give the path without one (/run, not /var/run)"
    return os.strerror(error.errno or 0)


def _write(pipe: int, line: bytes, until: float) -> None:
    while True:
        try:
            os.write(pipe, line)
            return
        except BlockingIOError:
            pass
        except BrokenPipeError:
            raise Undelivered("its reader has closed it") from None
        except OSError as error:
            raise Undelivered(os.strerror(error.errno or 0)) from None
        waiting = select.poll()
        # POLLOUT means room for PIPE_BUF bytes, unless another writer is faster.
        waiting.register(pipe, select.POLLOUT)
        if time.monotonic() >= until or not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            raise Undelivered("it is full, and was not read in time")
