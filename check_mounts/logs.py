"""Where the daemon's events go: syslog, or stderr. One event is one line, and no log ever keeps the
daemon waiting.

Import budget: ``fcntl``, ``mmap``, ``os``, ``select``, ``signal``, ``stat``, ``struct``,
``syslog``, ``time``; ctypes by way of syscalls.

syslog(3) sends on a blocking socket, and a syslogd that hangs (its own file may be on the NFS that
does) lets the queue of /dev/log fill up, whereupon every caller blocks for ever. So does who writes
to a regular file on an NFS that hangs, or on a disk that is frozen (fsfreeze(8)). So a small child
does it, forked before the daemon is big, and the daemon writes to a pipe without blocking. What
finds no room is dropped and counted, and the count is logged once there is room again.

The daemon keeps the reading end, too: if the child is killed, the next one goes on with what is in
the pipe."""

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
from typing import NoReturn, Optional

from check_mounts import processes, signals, syscalls, text

_NAMES = ("user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
# Their codes in syslog.h are the numbers from 1 on, and those of the local ones from 16 on, shifted
# by three bits (RFC 5424, 6.2.1). Python names some of them only since 3.13. Not kern: syslog(3)
# takes its 0 for "none given".
FACILITIES: dict[str, int] = {
    **{name: code << 3 for code, name in enumerate(_NAMES, 1)},
    **{f"local{number}": (16 + number) << 3 for number in range(8)},
}

_LONGEST_IDENT = 48
# The first byte of a record says its priority. No line can have it, so who starts to read within a
# record finds the next one.
_MARK = 0x10
# Room for what a thousand mounts have to say at once. All that an unprivileged process may have
# (pipe-max-size in pipe(7)).
_ROOM = 1 << 20
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ since Python 3.10
_MOMENT = 0.005
# How long lines may take to a file before the daemon goes on without knowing that they are there,
# how often is looked, in seconds, and the part of its time that it has for that: a file may be
# slow, and many lines come at once.
_PROMPT, _GLANCE, _PART = 0.1, 0.00005, 0.1
# How many bytes the child is done with, in memory that it shares with the daemon. As the processor
# has it: written at once.
_COUNT = struct.Struct("Q")
# SIGKILL ends a process at once unless the kernel has no time for it.
_TO_DIE = 0.5


def check_ident(word: str) -> str:
    """The word, if it may begin the lines of a log. Raises ValueError.

    Whoever parses them ends it at a blank, ``[`` or ``:`` (RFC 3164, 4.1.3).
    """
    if not word or len(word) > _LONGEST_IDENT:
        raise ValueError(f"has to have 1 to {_LONGEST_IDENT} characters")
    if any(not "!" <= char <= "~" or char in "[]:" for char in word):
        raise ValueError("has to be of printable ASCII characters, without blanks, brackets and colons")
    return word


class Log:
    """What both kinds have in common: a line goes out whole and at once, or is lost and counted."""

    def __init__(self) -> None:
        self._lost = 0

    def write(self, priority: int, line: str) -> None:
        """Log one event; ``priority`` is LOG_ERR and the like. Never blocks, never raises."""
        # Nothing goes out before what tells of the gap.
        if not self._tell_of_gap() or not self._put(priority, line):
            self._lost += 1

    def close(self, seconds: float = 0.5) -> None:
        """The end; takes ``seconds`` at the most to deliver what was written."""
        raise NotImplementedError

    def _put(self, priority: int, line: str) -> bool:
        """Whether it went out."""
        raise NotImplementedError

    def _tell_of_gap(self) -> bool:
        """Log how many lines are missing; whether that is said, or there is nothing to say."""
        were = "was" if self._lost == 1 else "were"
        if self._lost and self._put(syslog.LOG_WARNING, f"{text.counted(self._lost, 'line')} of the log {were} lost"):
            self._lost = 0
        return not self._lost


class _Porter:
    """A child that hands lines on to what may hang, and the pipe to it.

    ``serve`` is what it does with (priority, line) until there are no more; ``stderr``: whether it
    needs that. Raises OSError where no pipe is to be had; without a child it goes on trying."""

    def __init__(self, serve: Callable[[Iterator[tuple[int, str]]], None], stderr: bool = False) -> None:
        self._serve_lines, self._stderr = serve, stderr
        self._desk = mmap.mmap(-1, _COUNT.size)
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        try:
            fcntl.fcntl(self._write_fd, _F_SETPIPE_SZ, _ROOM)
        except OSError:  # EPERM beyond limits of the host: it stays at 64 KiB
            pass
        self._sent = self._late_with = 0
        self._patience, self._asked = _PROMPT, time.monotonic()
        self.pid: Optional[int] = None
        self.see_to_child()

    def put(self, priority: int, line: str) -> bool:
        """Whether there was room for it in the pipe."""
        record = bytes([_MARK | priority & 7]) + _clean(line, select.PIPE_BUF - 2) + b"\n"
        try:
            # Of no more than PIPE_BUF bytes all are written or none (pipe(7)).
            written = os.write(self._write_fd, record)
        except OSError:  # EAGAIN: full; EBADF: closed
            return False
        self._sent += written
        return written == len(record)

    def await_child(self) -> None:
        """Until it is done with all lines, so that who sees what came after an event finds it in
        the log; but no longer than a moment, and once it was late with a line not again before it
        is done with that one."""
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
        """If it is not there, fork it."""
        if self._write_fd < 0 or (self.pid is not None and not processes.reaped(self.pid)):
            return
        self.pid = None
        # What one had read that was killed is gone: it is not waited for.
        self._note_done(self._sent - syscalls.bytes_waiting(self._read_fd))
        try:
            pid = os.fork()
        except OSError:  # no process or memory to be had; tried again with the next line
            return
        if pid == 0:
            self._serve()
        self.pid = pid

    def close(self, seconds: float) -> None:
        """The end of the pipe; the child has so long to deliver what is in it. One that still waits
        is killed then."""
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._read_fd = self._write_fd = -1
        if self.pid is not None and not _ends(self.pid, seconds):
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            _ends(self.pid, _TO_DIE)
        self.pid = None

    @property
    def is_closed(self) -> bool:
        """Whether that was the end."""
        return self._write_fd < 0

    def _serve(self) -> NoReturn:
        """The life of the child. Whatever happens, it never returns into the daemon's code.

        It is not killed with its parent: what the daemon said last is what one wants to know. It
        ends when the pipe does."""
        try:
            _settle(self._read_fd, self._stderr)
            self._serve_lines(self._lines())
        finally:
            os._exit(0)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """(priority, line) until the end of file. What is no record is the rest of one that was
        read by a child which is dead."""
        rest = b""
        # No more at a time than may be lost with this process.
        while data := os.read(0, select.PIPE_BUF):
            *records, rest = (rest + data).split(b"\n")
            for record in records:
                if record and record[0] & ~7 == _MARK:
                    yield record[0] & 7, record[1:].decode("utf-8", "replace")
            # Who asks for more is done with these.
            self._note_done(self._done() + len(data))

    def _done(self) -> int:
        return int(_COUNT.unpack_from(self._desk)[0])

    def _note_done(self, count: int) -> None:
        _COUNT.pack_into(self._desk, 0, count)


class Syslog(Log):
    """Lines as ``IDENT[PID]: line`` by way of syslog(3), where PID is that of the process that
    makes this.

    ``facility`` is a name of FACILITIES. Raises OSError where no pipe is to be had; without a child
    it goes on trying."""

    def __init__(self, facility: str, ident: str) -> None:
        super().__init__()
        self._facility = FACILITIES[facility]
        self._tag = f"{ident}[{os.getpid()}]"
        self._porter = _Porter(self._deliver)

    @property
    def pid(self) -> Optional[int]:
        """The child, None where there is none."""
        return self._porter.pid

    def write(self, priority: int, line: str) -> None:
        """Log one event (see Log), and see to it that there is a child."""
        self._porter.see_to_child()
        super().write(priority, line)

    def close(self, seconds: float = 0.5) -> None:
        """The end; the child has so long to deliver what was written. One that waits for syslogd is
        killed then."""
        if self._porter.is_closed:
            return
        self._porter.see_to_child()
        self._tell_of_gap()
        self._porter.close(seconds)

    def _put(self, priority: int, line: str) -> bool:
        return self._porter.put(priority, line)

    def _deliver(self, lines: Iterator[tuple[int, str]]) -> None:
        """In the child."""
        syslog.openlog(self._tag, 0, self._facility)
        for priority, line in lines:
            syslog.syslog(priority, line)


def _settle(read_fd: int, stderr: bool) -> None:
    """Leave everything of the daemon's behind but the pipe, which becomes stdin, and stderr where
    that is wanted."""
    signals.back_to_default()
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
    """At most ``limit`` bytes of UTF-8 without a control character, the middle left out of a line
    that is too long."""
    data = text.one_line(line).encode("utf-8")
    # In latin-1 each byte is a character. A character that the cut has torn is left out.
    return text.clipped(data.decode("latin-1"), limit).encode("latin-1").decode("utf-8", "ignore").encode("utf-8")


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child ends within that time. Its end is no event that one poll on every kernel
    would tell."""
    until = time.monotonic() + seconds
    while not processes.reaped(pid):
        if time.monotonic() >= until:
            return False
        time.sleep(_MOMENT)
    return True


class Stderr(Log):
    """Lines on stderr. Where that is the journal, ``<N>`` before each tells the priority
    (sd-daemon(3)).

    A regular file is written to by a child. A write(2) to one on a frozen disk waits until that is
    thawed, no signal ends it, O_NONBLOCK makes no difference (open(2)), and poll(2) says that there
    is room."""

    def __init__(self) -> None:
        super().__init__()
        status = os.fstat(2)
        self._is_journal = os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
        self._fd = _without_blocking(status)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._rest = b""
        self._porter = _Porter(self._append, stderr=True) if stat.S_ISREG(status.st_mode) else None

    @property
    def pid(self) -> Optional[int]:
        """The child, None where there is none."""
        return None if self._porter is None else self._porter.pid

    def write(self, priority: int, line: str) -> None:
        """Log one event (see Log). In a file it is there at once, unless that hangs."""
        if self._porter is not None:
            self._porter.see_to_child()
        super().write(priority, line)
        if self._porter is not None:
            self._porter.await_child()

    def close(self, seconds: float = 0.5) -> None:
        """The end: what finds no room now is lost. A child has so long to write what it was given,
        and is killed then."""
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
        """In the child, whose log this is now."""
        # A file that may not grow (RLIMIT_FSIZE) is one that finds no room.
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
        if self._rest:  # a terminal, or a disk that is full now, took a part of the line before
            self._rest = self._rest[self._now(self._rest) :]
        written = 0 if self._rest else self._now(record)
        if not written:
            return False
        self._rest = record[written:]
        return True

    def _now(self, data: bytes) -> int:
        """How much of it can be written now."""
        if self._fd < 0 or not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            return 0
        try:
            return os.write(self._fd, data)
        except OSError:  # EPIPE, ENOSPC, EAGAIN
            return 0


def _without_blocking(status: os.stat_result) -> int:
    """A descriptor of what stderr is that does not block, if it can be had; else 2 itself.

    To set O_NONBLOCK on 2 would set it for all who share it, the caller's shell included. A pipe or
    terminal can be opened once more; of a socket POLLOUT says that there is room for a line."""
    if not stat.S_ISFIFO(status.st_mode) and not os.isatty(2):
        return 2
    try:
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # EACCES: a terminal of another user's
        return 2
