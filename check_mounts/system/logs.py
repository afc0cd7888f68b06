"""The daemon's log, on syslog or stderr: one line for each event, written so that the daemon never
waits for a log that hangs.

Import budget: ``fcntl``, ``mmap``, ``os``, ``select``, ``signal``, ``stat``, ``struct``,
``syslog``, ``time``; ctypes through syscalls.

syslog(3) sends on a blocking socket. If syslogd hangs (its own file may be on the NFS that hangs),
the queue of /dev/log fills up, and then every caller blocks for ever. A process that writes to a
regular file on an NFS that hangs, or on a disk that is frozen (fsfreeze(8)), blocks as well. So the
daemon writes to a pipe, without blocking, and a small child that was forked early, while the daemon
was still small, writes to the log. A line that finds no room in the pipe is dropped and counted,
and the count is logged once there is room again.

The daemon keeps the reading end of the pipe, too: if the child is killed, the next child continues
with the lines that are in the pipe."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import stat
import struct
import syslog
import time
from collections.abc import Callable, Iterator

from check_mounts import text
from check_mounts.system import processes, signals, syscalls
from check_mounts.typed import NoReturn, Optional

_NAMES = ("user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
# In syslog.h the codes of these names are the numbers from 1 on, those of local0 to local7 the
# numbers from 16 on, all shifted by three bits (RFC 5424, 6.2.1). Python names some of them only
# since 3.13. kern is missing: syslog(3) takes its code, 0, for "no facility given".
FACILITIES: dict[str, int] = {
    **{name: code << 3 for code, name in enumerate(_NAMES, 1)},
    **{f"local{number}": (16 + number) << 3 for number in range(8)},
}

_LONGEST_IDENT = 48
# The first byte of a record tells its priority. No line can contain this byte, so a child that
# starts to read in the middle of a record finds the next one.
_MARK = 0x10
# Room for the lines of a thousand mounts at once: the largest pipe that an unprivileged process may
# have (pipe-max-size in pipe(7)).
_ROOM = 1 << 20
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ since Python 3.10
_MOMENT = 0.005
# For a log in a file: how long the daemon waits until a line is written, and how often it looks,
# both in seconds; and which part of all time it may spend on that wait, because a file may be slow
# and many lines may come at once.
_PROMPT, _GLANCE, _PART = 0.1, 0.00005, 0.1
# The number of bytes that the child has dealt with, in memory that it shares with the daemon. It is
# in the processor's own format, so one store writes all of it.
_COUNT = struct.Struct("Q")
# How long to wait for the end after SIGKILL, in seconds. It ends a process at once, unless the host
# is very busy.
_TO_DIE = 0.5


def check_ident(word: str) -> str:
    """The same word, if lines of a log may begin with it. Raises ValueError.

    Programs that parse the lines take a blank, ``[`` or ``:`` for the end of the word (RFC 3164,
    4.1.3)."""
    if not word or len(word) > _LONGEST_IDENT:
        raise ValueError(f"it must have 1 to {_LONGEST_IDENT} characters")
    if any(not "!" <= char <= "~" or char in "[]:" for char in word):
        raise ValueError("it must consist of printable ASCII characters other than blanks, brackets and colons")
    return word


class Log:
    """The base of both logs: a line goes out whole and at once, or is lost and counted."""

    def __init__(self) -> None:
        self._lost = 0

    def write(self, priority: int, line: str) -> None:
        """Log one event; ``priority`` is LOG_ERR and the like. Never blocks, never raises."""
        # The line that says how many lines were lost comes first.
        if not self._tell_of_gap() or not self._put(priority, line):
            self._lost += 1

    def close(self, seconds: float = 0.5) -> None:
        """Deliver the waiting lines, for ``seconds`` at most, and stop."""
        raise NotImplementedError

    def _put(self, priority: int, line: str) -> bool:
        """Write a line; return whether it went out."""
        raise NotImplementedError

    def _tell_of_gap(self) -> bool:
        """Log how many lines were lost, if any; return whether no loss is left to report."""
        were = "was" if self._lost == 1 else "were"
        if self._lost and self._put(syslog.LOG_WARNING, f"{text.counted(self._lost, 'line')} of the log {were} lost"):
            self._lost = 0
        return not self._lost


class _Porter:
    """A child that writes lines to a log that may hang, and the pipe to the child.

    ``serve`` is the child's work: it gets an iterator of (priority, line). ``stderr``: whether the
    child needs stderr. Raises OSError where no pipe is available. Where no child can be forked, the
    next line tries again."""

    def __init__(self, serve: Callable[[Iterator[tuple[int, str]]], None], stderr: bool = False) -> None:
        self._serve_lines, self._stderr = serve, stderr
        self._desk = mmap.mmap(-1, _COUNT.size)
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        try:
            fcntl.fcntl(self._write_fd, _F_SETPIPE_SZ, _ROOM)
        except OSError:  # EPERM above the host's limits: the pipe stays at 64 KiB
            pass
        self._sent = self._late_with = 0
        self._patience, self._asked = _PROMPT, time.monotonic()
        self.pid: Optional[int] = None
        self.see_to_child()

    def put(self, priority: int, line: str) -> bool:
        """Write a line to the pipe; return whether there was room."""
        record = bytes([_MARK | priority & 7]) + _clean(line, select.PIPE_BUF - 2) + b"\n"
        try:
            # Up to PIPE_BUF bytes are written as a whole or not at all (pipe(7)).
            written = os.write(self._write_fd, record)
        except OSError:  # EAGAIN: full; EBADF: closed
            return False
        self._sent += written
        return written == len(record)

    def await_child(self) -> None:
        """Wait a moment until the child has written all lines.

        So a process that sees the effect of an event already finds the event in the log. If the
        child is late with a line, this waits no more until the child has written that line."""
        if self.pid is None or self._done() < self._late_with:
            return
        now = time.monotonic()
        self._patience = min(_PROMPT, self._patience + (now - self._asked) * _PART)
        self._asked = now
        while self._done() < self._sent:
            if time.monotonic() - now >= self._patience:
                self._late_with = self._sent
                break
            time.sleep(_GLANCE)
        self._patience -= time.monotonic() - now

    def see_to_child(self) -> None:
        """Fork the child if there is no child."""
        if self._write_fd < 0 or (self.pid is not None and not processes.reap(self.pid)):
            return
        self.pid = None
        # Lines that a killed child had read are gone: count them as done, or we would wait for
        # them.
        self._note_done(self._sent - syscalls.bytes_waiting(self._read_fd))
        try:
            pid = os.fork()
        except OSError:  # no process or no memory: the next line tries again
            return
        if pid == 0:
            self._serve()
        self.pid = pid

    def close(self, seconds: float) -> None:
        """Close the pipe. The child has ``seconds`` to deliver the lines in it, then it is
        killed."""
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._read_fd = self._write_fd = -1
        if self.pid is not None and not _await_end(self.pid, seconds):
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            _await_end(self.pid, _TO_DIE)
        self.pid = None

    @property
    def is_closed(self) -> bool:
        """Whether the pipe is closed."""
        return self._write_fd < 0

    def _serve(self) -> NoReturn:
        """Be the child. This never returns into the daemon's code, not even after an exception.

        The child is not killed when its parent dies: the last lines of a daemon matter most. It
        ends at the end of the pipe."""
        try:
            _settle(self._read_fd, self._stderr)
            self._serve_lines(self._lines())
        finally:
            os._exit(0)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield (priority, line) until the end of the pipe. Bytes that are not a record are the
        rest of one that an earlier child had begun to read."""
        rest = b""
        # Not more than PIPE_BUF at a time: these bytes are lost if this process is killed.
        while data := os.read(0, select.PIPE_BUF):
            *records, rest = (rest + data).split(b"\n")
            for record in records:
                if record and record[0] & ~7 == _MARK:
                    yield record[0] & 7, record[1:].decode("utf-8", "replace")
            # The caller asks for the next record, so it has written these.
            self._note_done(self._done() + len(data))

    def _done(self) -> int:
        return int(_COUNT.unpack_from(self._desk)[0])

    def _note_done(self, count: int) -> None:
        _COUNT.pack_into(self._desk, 0, count)


class Syslog(Log):
    """Writes lines as ``IDENT[PID]: line`` through syslog(3). PID is that of the process that makes
    this object.

    ``facility`` is a name in FACILITIES. Raises OSError where no pipe is available. Where no child
    can be forked, the next line tries again."""

    def __init__(self, facility: str, ident: str) -> None:
        super().__init__()
        self._facility = FACILITIES[facility]
        self._tag = f"{ident}[{os.getpid()}]"
        self._porter = _Porter(self._deliver)

    @property
    def pid(self) -> Optional[int]:
        """The process ID of the child; None without a child."""
        return self._porter.pid

    def write(self, priority: int, line: str) -> None:
        """Log one event (see Log). Fork the child if there is no child."""
        self._porter.see_to_child()
        super().write(priority, line)

    def close(self, seconds: float = 0.5) -> None:
        """Stop. The child has ``seconds`` to deliver the waiting lines, then it is killed."""
        if self._porter.is_closed:
            return
        self._porter.see_to_child()
        self._tell_of_gap()
        self._porter.close(seconds)

    def _put(self, priority: int, line: str) -> bool:
        return self._porter.put(priority, line)

    def _deliver(self, lines: Iterator[tuple[int, str]]) -> None:
        """In the child: hand the lines to syslogd."""
        syslog.openlog(self._tag, 0, self._facility)
        for priority, line in lines:
            syslog.syslog(priority, line)


def _settle(read_fd: int, stderr: bool) -> None:
    """In the child: give up everything that comes from the daemon, except the pipe, which becomes
    stdin, and stderr if ``stderr`` says so."""
    signals.reset_to_default()
    os.setsid()
    os.dup2(read_fd, 0)
    devnull = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (1,) if stderr else (1, 2):
        os.dup2(devnull, fd)
    syscalls.close_from(3)
    os.chdir("/")
    syscalls.set_name(b"check_mounts:l")
    processes.survive_shutdown()


def _clean(line: str, limit: int) -> bytes:
    """The line in at most ``limit`` bytes of UTF-8 without control characters. A line that is too
    long loses its middle."""
    data = text.one_line(line).encode("utf-8")
    # In latin-1 each byte is a character, so clipped() counts bytes. A UTF-8 character that it cuts
    # in two is left out.
    return text.clipped(data.decode("latin-1"), limit).encode("latin-1").decode("utf-8", "ignore").encode("utf-8")


def _await_end(pid: int, seconds: float) -> bool:
    """Wait for a child to end, for ``seconds`` at most; return whether it has ended. Not every
    kernel has a descriptor that polls for this, so we look again and again."""
    until = time.monotonic() + seconds
    while not processes.reap(pid):
        if time.monotonic() >= until:
            return False
        time.sleep(_MOMENT)
    return True


class Stderr(Log):
    """Writes lines to stderr. If stderr is the journal, ``<N>`` before each line tells its priority
    (sd-daemon(3)).

    If stderr is a regular file, a child writes to it. A write(2) to a file on a frozen disk waits
    until the disk is thawed, no signal ends it, O_NONBLOCK makes no difference (open(2)), and
    poll(2) says that there is room."""

    def __init__(self) -> None:
        super().__init__()
        status = os.fstat(2)
        self._is_journal = os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
        self._fd = _reopen_without_blocking(status)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._rest = b""
        self._porter = _Porter(self._append, stderr=True) if stat.S_ISREG(status.st_mode) else None

    @property
    def pid(self) -> Optional[int]:
        """The process ID of the child; None without a child."""
        return None if self._porter is None else self._porter.pid

    def write(self, priority: int, line: str) -> None:
        """Log one event (see Log). A regular file has the line at once, unless the file hangs."""
        if self._porter is not None:
            self._porter.see_to_child()
        super().write(priority, line)
        if self._porter is not None:
            self._porter.await_child()

    def close(self, seconds: float = 0.5) -> None:
        """Stop. A line that finds no room now is lost. A child has ``seconds`` to write its lines,
        then it is killed."""
        if self._fd < 0:
            return
        if self._porter is not None:
            self._porter.see_to_child()
        self._tell_of_gap()
        if self._porter is not None:
            self._porter.close(seconds)
        if self._fd != 2:
            os.close(self._fd)
        self._fd = -1

    def _append(self, lines: Iterator[tuple[int, str]]) -> None:
        """In the child, which has a copy of this log: write the lines."""
        # Without SIGXFSZ, a line beyond RLIMIT_FSIZE only finds no room, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self._porter, self._lost = None, 0
        for priority, line in lines:
            self.write(priority, line)
        self._tell_of_gap()

    def _put(self, priority: int, line: str) -> bool:
        if self._porter is not None:
            return self._porter.put(priority, line)
        prefix = b"<%d>" % (priority & 7) if self._is_journal else b""
        record = prefix + _clean(line, select.PIPE_BUF - len(prefix) - 1) + b"\n"
        if self._rest:  # a terminal, or a disk that has become full, took only a part of the last line
            self._rest = self._rest[self._write_now(self._rest) :]
        written = 0 if self._rest else self._write_now(record)
        if not written:
            return False
        self._rest = record[written:]
        return True

    def _write_now(self, data: bytes) -> int:
        """Write as much as can be written now; return the number of bytes."""
        if self._fd < 0 or not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            return 0
        try:
            return os.write(self._fd, data)
        except OSError:  # EPIPE, ENOSPC, EAGAIN
            return 0


def _reopen_without_blocking(status: os.stat_result) -> int:
    """Open stderr once more, without blocking, if that is possible; else return descriptor 2.

    O_NONBLOCK on descriptor 2 would hold for all processes that share it, the caller's shell
    included. A pipe or terminal can be opened once more. A socket does not need it: its POLLOUT
    says that there is room for a line."""
    if not stat.S_ISFIFO(status.st_mode) and not os.isatty(2):
        return 2
    try:
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # EACCES: the terminal of another user
        return 2
