"""What arrives at a real syslogd and on a real stderr, and that neither can keep the daemon
waiting."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import stat
import subprocess
import syslog
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.system import logs
from check_mounts.system.logs import Stderr, Syslog
from tests.conftest import PYTHON, ROOT, Mounts, Plugin, until
from tests.daemon import Daemon, daemon
from tests.kernel import children

__all__ = ["daemon"]

LINES = 10000
HOSTILE = [
    ("a\nb\rc\0d\x1b[31m", r"a\012b\015c\000d\033[31m"),
    ("turned \u202e round, a line\u2028more", r"turned \342\200\256 round, a line\342\200\250more"),
    ("100 %, %s %n %999999d", "100 %, %s %n %999999d"),
    ("a byte: \udcff", r"a byte: \377"),
    ("a byte: \udcff, none: \ud800", r"a byte: \377, none: \355\240\200"),
    ("<0>für /höme", "<0>für /höme"),
    ("\x11 not a record", r"\021 not a record"),
    ("", ""),
]


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """Who blocks for ever fails."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# -- syslog


class Syslogd:
    """Reads /dev/log, which lies in a filesystem of the test's own."""

    def __init__(self) -> None:
        self._socket: Optional[socket.socket] = None
        self.start()

    def start(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind("/dev/log")

    def stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            os.unlink("/dev/log")
        self._socket = None

    def read(self) -> bytes:
        """The next datagram."""
        assert self._socket is not None
        return self._socket.recv(1 << 16)

    def read_now(self) -> list[bytes]:
        """All that are there."""
        assert self._socket is not None
        found = []
        while select.select([self._socket], [], [], 0)[0]:
            found.append(self.read())
        return found

    def expect(self, number: int, line: str) -> None:
        data = self.read()
        # <PRI>Mmm dd hh:mm:ss TAG: line, and nothing more (RFC 3164, 4.1).
        match = re.fullmatch(rb"<(\d+)>(?:[A-Z][a-z]{2}) [ \d]\d \d\d:\d\d:\d\d (\S+): (.*)", data)
        assert match, data
        assert (int(match[1]), match[2].decode(), match[3].decode()) == (number, f"check_mounts[{os.getpid()}]", line)


@pytest.fixture
def syslogd(mounts: Mounts) -> Iterator[Syslogd]:
    # The path is glibc's, and a name made in a real /dev would be seen outside of our namespace:
    # devtmpfs is one for all.
    mounts.mount_at(Path("/dev"), "tmpfs", "syslog")
    os.mknod("/dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod("/dev/null", 0o666)
    daemon = Syslogd()
    yield daemon
    daemon.stop()


@pytest.fixture
def log() -> Iterator[Syslog]:
    result = Syslog("daemon", "check_mounts")
    yield result
    result.close()
    assert not children()


def _await_end(pid: int) -> None:
    """Until a process has ended; a zombie has."""
    fd = os.pidfd_open(pid)
    assert select.select([fd], [], [], 30)[0]
    os.close(fd)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.root
def test_a_line_arrives_as_classic_syslog_has_it(syslogd: Syslogd, log: Syslog) -> None:
    log.write(syslog.LOG_ERR, "/home timed out after 5 s")
    syslogd.expect(3 << 3 | 3, "/home timed out after 5 s")
    log.write(syslog.LOG_NOTICE, "/home answers again")
    syslogd.expect(3 << 3 | 5, "/home answers again")
    log.write(syslog.LOG_DEBUG, "nothing")
    syslogd.expect(3 << 3 | 7, "nothing")


@pytest.mark.root
@pytest.mark.parametrize(("line", "arrives"), HOSTILE)
def test_a_hostile_line_is_one_line(syslogd: Syslogd, log: Syslog, line: str, arrives: str) -> None:
    log.write(syslog.LOG_ERR, line)
    log.write(syslog.LOG_INFO, "next")
    syslogd.expect(3 << 3 | 3, arrives)
    syslogd.expect(3 << 3 | 6, "next")


@pytest.mark.root
@pytest.mark.parametrize("char", ["x", "é", "\U0001f4be", "\n"])
def test_a_long_line_is_clipped_in_the_middle(syslogd: Syslogd, log: Syslog, char: str) -> None:
    log.write(syslog.LOG_ERR, f"begin {char * 100000} end")
    log.write(syslog.LOG_INFO, "next")
    line = syslogd.read().partition(b": ")[2]
    assert line.startswith(b"begin ") and line.endswith(b" end") and b"..." in line
    assert select.PIPE_BUF - 16 < len(line) <= select.PIPE_BUF - 2
    line.decode("utf-8")
    syslogd.expect(3 << 3 | 6, "next")


@pytest.mark.root
@pytest.mark.parametrize("facility", logs.FACILITIES)
def test_each_facility(syslogd: Syslogd, facility: str) -> None:
    log = Syslog(facility, "check_mounts")
    log.write(syslog.LOG_WARNING, "words")
    syslogd.expect(logs.FACILITIES[facility] | 4, "words")
    log.close()


def test_the_facilities_are_those_of_syslog_h() -> None:
    assert set(logs.FACILITIES) == {
        *("auth", "authpriv", "cron", "daemon", "ftp", "lpr", "mail", "news", "syslog", "user", "uucp"),
        *(f"local{number}" for number in range(8)),
    }
    assert (logs.FACILITIES["authpriv"], logs.FACILITIES["ftp"]) == (10 << 3, 11 << 3)
    for name, number in logs.FACILITIES.items():
        assert getattr(syslog, f"LOG_{name.upper()}", number) == number


@pytest.mark.parametrize("word", ["check_mounts", "x", "a" * 48, "%s", "<3>", "!~"])
def test_idents(word: str) -> None:
    assert logs.check_ident(word) == word


@pytest.mark.parametrize("word", ["", "a" * 49, "a b", "a\tb", "a\n", "a[1]", "[", "]", "a:", "ä", "\x7f", "\ud800"])
def test_words_that_are_no_ident(word: str) -> None:
    with pytest.raises(ValueError, match=r"^it must "):
        logs.check_ident(word)


@pytest.mark.root
def test_a_syslogd_that_does_not_read_keeps_nobody_waiting_and_the_loss_is_told(syslogd: Syslogd, log: Syslog) -> None:
    for number in range(LINES):
        log.write(syslog.LOG_INFO, f"line {number:05} {'x' * 200}")
    arrived: list[bytes] = []
    written = LINES

    def told() -> bool:
        nonlocal written
        arrived.extend(syslogd.read_now())
        log.write(syslog.LOG_INFO, f"line {written:05}")
        written += 1
        return any(b" lost" in data for data in arrived)

    until(told, 60)
    log.write(syslog.LOG_INFO, "the last")
    while not arrived[-1].endswith(b": the last"):
        arrived.append(syslogd.read())
    # Whole lines in their order; where some are missing it is said how many.
    due, gaps = 0, []
    for data in arrived[:-1]:
        head, _, line = data.partition(b": ")
        gap = re.fullmatch(rb"(\d+) lines? of the log (?:was|were) lost", line)
        if gap:
            assert head.startswith(b"<28>")  # daemon.warning
            gaps.append(int(gap[1]))
        else:
            assert line == b"line %05d" % due + (b" " + b"x" * 200 if due < LINES else b"")
        due += int(gap[1]) if gap else 1
    assert due == written
    # A pipe that is full for a line may have room for the words that one is missing.
    assert len(gaps) <= 6
    assert 1000 < sum(gaps) < 8000


@pytest.mark.root
def test_one_lost_line_is_told_at_the_end_too(syslogd: Syslogd) -> None:
    log = Syslog("daemon", "check_mounts")
    log.write(syslog.LOG_INFO, "first")
    syslogd.expect(3 << 3 | 6, "first")
    assert log.pid is not None
    os.kill(log.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, log.pid, os.WSTOPPED)
    count = 0
    while log._lost == 0:
        log.write(syslog.LOG_INFO, "x" * 4000)
        count += 1
    os.kill(log.pid, signal.SIGCONT)
    for _ in range(count - 1):
        syslogd.expect(3 << 3 | 6, "x" * 4000)
    log.close(30)
    syslogd.expect(3 << 3 | 4, "1 line of the log was lost")


@pytest.mark.root
def test_a_child_that_was_killed_is_replaced(syslogd: Syslogd, log: Syslog) -> None:
    first = log.pid
    assert first is not None
    log.write(syslog.LOG_INFO, "before")
    syslogd.expect(3 << 3 | 6, "before")
    os.kill(first, signal.SIGKILL)
    _await_end(first)
    log.write(syslog.LOG_INFO, "after")
    syslogd.expect(3 << 3 | 6, "after")
    assert log.pid is not None and log.pid != first
    assert children() == [log.pid]


@pytest.mark.root
def test_what_a_killed_child_had_not_read_is_not_lost(syslogd: Syslogd, log: Syslog) -> None:
    first = log.pid
    assert first is not None
    log.write(syslog.LOG_INFO, "before")
    syslogd.expect(3 << 3 | 6, "before")
    os.kill(first, signal.SIGSTOP)
    os.waitid(os.P_PID, first, os.WSTOPPED)
    for number in range(50):
        log.write(syslog.LOG_INFO, f"meanwhile {number}")
    os.kill(first, signal.SIGKILL)
    _await_end(first)
    log.write(syslog.LOG_INFO, "after")
    for number in range(50):
        syslogd.expect(3 << 3 | 6, f"meanwhile {number}")
    syslogd.expect(3 << 3 | 6, "after")


@pytest.mark.root
def test_a_child_that_was_killed_within_a_line_leaves_no_half_of_it(syslogd: Syslogd, log: Syslog) -> None:
    """It reads 4,096 bytes at a time, and is stopped by a syslogd that does not read."""
    line = "x" * 1498
    for number in range(40):
        log.write(syslog.LOG_INFO, f"{number:02}{line}")
    first = log.pid
    assert first is not None
    until(lambda: Path(f"/proc/{first}/wchan").read_text() in ("sock_alloc_send_pskb", "unix_wait_for_peer"))
    os.kill(first, signal.SIGKILL)
    _await_end(first)
    arrived = syslogd.read_now()
    log.write(syslog.LOG_INFO, "after")
    while not arrived[-1].endswith(b": after"):
        arrived.append(syslogd.read())
    words = [data.partition(b": ")[2].decode() for data in arrived]
    numbers = [int(word[:2]) for word in words[:-1]]
    assert all(word[2:] == line for word in words[:-1])
    assert numbers == sorted(set(numbers))
    assert 34 <= len(numbers) < 40  # what it had read is gone


@pytest.mark.root
def test_a_syslogd_that_was_restarted_gets_the_next_lines(syslogd: Syslogd, log: Syslog) -> None:
    log.write(syslog.LOG_INFO, "before")
    syslogd.expect(3 << 3 | 6, "before")
    syslogd.stop()
    syslogd.start()
    log.write(syslog.LOG_INFO, "after")
    syslogd.expect(3 << 3 | 6, "after")


@pytest.mark.root
def test_a_syslogd_that_comes_late_gets_the_next_lines(syslogd: Syslogd) -> None:
    syslogd.stop()
    log = Syslog("daemon", "check_mounts")
    log.write(syslog.LOG_INFO, "nobody is there")
    syslogd.start()

    def arrived() -> list[bytes]:
        log.write(syslog.LOG_INFO, "here")
        return syslogd.read_now()

    until(arrived)
    log.close()


@pytest.mark.root
def test_close_delivers_what_was_written(syslogd: Syslogd) -> None:
    log = Syslog("daemon", "check_mounts")
    pid = log.pid
    log.write(syslog.LOG_NOTICE, "Stopped by SIGTERM")
    log.close(30)
    assert syslogd.read_now()[0].endswith(b": Stopped by SIGTERM")
    assert pid is not None and not _exists(pid)
    assert log.pid is None
    log.close()
    log.write(syslog.LOG_NOTICE, "to nobody")
    assert not children()


@pytest.mark.root
@pytest.mark.parametrize("how", ["syslogd hangs", "child is stopped"])
def test_close_waits_for_nobody_for_long(syslogd: Syslogd, how: str) -> None:
    log = Syslog("daemon", "check_mounts")
    pid = log.pid
    assert pid is not None
    if how == "child is stopped":
        os.kill(pid, signal.SIGSTOP)
    for _ in range(LINES):
        log.write(syslog.LOG_INFO, "x" * 200)
    log.close(0.1)
    assert not _exists(pid)
    assert not children()


@pytest.mark.root
def test_close_delivers_though_the_child_was_killed(syslogd: Syslogd) -> None:
    log = Syslog("daemon", "check_mounts")
    assert log.pid is not None
    os.kill(log.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, log.pid, os.WSTOPPED)
    log.write(syslog.LOG_INFO, "last words")
    os.kill(log.pid, signal.SIGKILL)
    _await_end(log.pid)
    log.close(30)
    syslogd.expect(3 << 3 | 6, "last words")
    assert not children()


_DAEMON = """
import os, signal, syslog
from check_mounts.system.logs import Syslog
log = Syslog("daemon", "check_mounts")
os.kill(log.pid, signal.SIGSTOP)
os.waitid(os.P_PID, log.pid, os.WSTOPPED)
for number in range(5):
    log.write(syslog.LOG_INFO, f"line {number}")
print(log.pid, flush=True)
signal.pause()
"""


@pytest.mark.root
def test_the_child_of_a_daemon_that_was_killed_delivers_and_ends(syslogd: Syslogd) -> None:
    process = subprocess.Popen(
        [PYTHON, "-c", _DAEMON], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    fd = os.pidfd_open(child)
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGCONT)
    for number in range(5):
        assert syslogd.read().endswith(f" check_mounts[{process.pid}]: line {number}".encode())
    assert select.select([fd], [], [], 30)[0]
    os.close(fd)


@pytest.mark.root
def test_the_child_has_nothing_of_the_daemons(syslogd: Syslogd, tmp_path: Path) -> None:
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    log = Syslog("daemon", "check_mounts")
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    signal.signal(signal.SIGUSR1, before)
    log.write(syslog.LOG_INFO, "settled")
    syslogd.expect(3 << 3 | 6, "settled")
    proc = Path(f"/proc/{log.pid}")
    links = {int(name): os.readlink(proc / "fd" / name) for name in os.listdir(proc / "fd")}
    assert set(links) == {0, 1, 2, 3}
    assert links[0].startswith("pipe:") and links[3].startswith("socket:")
    assert {links[1], links[2]} == {"/dev/null"}
    assert (proc / "comm").read_text() == "check_mounts:l\n"
    assert (proc / "cmdline").read_bytes().startswith(b"@")  # a shutdown does not wait for it
    assert os.readlink(proc / "cwd") == "/"
    assert log.pid is not None
    assert os.getsid(log.pid) == log.pid != os.getsid(0)
    status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines() if "Sig" in line)
    assert int(status["SigBlk"], 16) == 0
    for number in (
        signal.SIGUSR1,
        signal.SIGALRM,
        signal.SIGPIPE,
        signal.SIGTERM,
    ):  # what pytest itself has set in C is not Python's
        assert not (int(status["SigCgt"], 16) | int(status["SigIgn"], 16)) >> (number - 1) & 1
    os.close(inherited)
    log.close()


@pytest.mark.root
def test_a_host_without_processes_gets_the_lines_later(syslogd: Syslogd) -> None:
    """RLIMIT_NPROC does not bind root, so another user is who logs; what was written is still in
    the pipe."""
    code = """
import os, resource, sys, syslog
os.setgid(54321), os.setuid(54321)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 1000))
from check_mounts.system.logs import Syslog
log = Syslog("daemon", "check_mounts")
log.write(syslog.LOG_INFO, "none yet")
assert log.pid is None
resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))
log.write(syslog.LOG_INFO, "now")
assert log.pid is not None
log.close(30)
"""
    os.chmod("/dev/log", 0o666)
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [PYTHON, "-c", "import sys; sys.path.insert(0, ''); import check_mounts.system.logs\n" + code],
        env=environment,
        check=True,
    )
    assert [data.partition(b": ")[2] for data in syslogd.read_now()] == [b"none yet", b"now"]


# -- stderr


@pytest.fixture
def put() -> Iterator[object]:
    """Makes something descriptor 2 for the time of the test."""
    saved = os.dup(2)
    yield lambda fd: os.dup2(fd, 2)
    os.dup2(saved, 2)
    os.close(saved)


def _drain(fd: int) -> bytes:
    data = b""
    while select.select([fd], [], [], 0)[0] and (piece := os.read(fd, 1 << 20)):
        data += piece
    return data


@pytest.mark.parametrize(("line", "arrives"), HOSTILE)
def test_a_line_on_stderr(put: object, line: str, arrives: str) -> None:
    read, write = os.pipe()
    put(write)  # type: ignore[operator]
    log = Stderr()
    log.write(syslog.LOG_ERR, line)
    log.write(syslog.LOG_INFO, "next")
    log.close()
    assert _drain(read) == f"{arrives}\nnext\n".encode()
    log.write(syslog.LOG_INFO, "to nobody")
    log.close()
    assert _drain(read) == b""
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("shift", [None, 0, 1])
def test_the_journal_gets_the_priority(put: object, monkeypatch: pytest.MonkeyPatch, shift: Optional[int]) -> None:
    """Only where JOURNAL_STREAM means this very socket: it is inherited by whoever has been given
    another stderr."""
    ours, theirs = socket.socketpair()
    put(ours.fileno())  # type: ignore[operator]
    status = os.fstat(2)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if shift is not None:
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + shift}")
    log = Stderr()
    log.write(syslog.LOG_ERR, "a\n<0>b")
    log.write(syslog.LOG_DEBUG | syslog.LOG_LOCAL7, "c")
    log.close()
    assert theirs.recv(4096) == (b"<3>a\\012<0>b\n<7>c\n" if shift == 0 else b"a\\012<0>b\nc\n")
    ours.close()
    theirs.close()


def _fill(log: Stderr) -> int:
    """Write until something was lost, and some more; how many lines."""
    count = 0
    while log._lost < 100:
        log.write(syslog.LOG_INFO, f"{count:05} {'x' * 1000}")
        count += 1
    return count


def _check(data: bytes, count: int) -> None:
    """Whole lines in their order, then how many are missing, then the next one."""
    lines = data.decode().split("\n")
    assert lines[-3:] == ["100 lines of the log were lost", "after", ""]
    assert lines[:-3] == [f"{number:05} {'x' * 1000}" for number in range(count - 100)]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_of_stderr_that_does_not_read(put: object, kind: str) -> None:
    ends = socket.socketpair() if kind == "socket" else None
    read, write = os.pipe() if ends is None else (ends[0].fileno(), ends[1].fileno())
    put(write)  # type: ignore[operator]
    log = Stderr()
    count = _fill(log)
    # O_NONBLOCK would be everybody's who shares the pipe.
    assert not fcntl.fcntl(write, fcntl.F_GETFL) & os.O_NONBLOCK
    data = _drain(read)
    log.write(syslog.LOG_INFO, "after")
    _check(data + _drain(read), count)
    log.close()
    if ends is None:
        os.close(read)
        os.close(write)
    else:
        ends[0].close()
        ends[1].close()


def test_a_terminal_that_does_not_read(put: object) -> None:
    """It takes a part of a line; the rest comes before anything else."""
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    put(slave)  # type: ignore[operator]
    log = Stderr()
    count = _fill(log)
    data, failed, said = b"", 0, False
    while not data.endswith(b"after\n"):
        data += _drain(master)
        if not said:
            log.write(syslog.LOG_INFO, "after")
            said = not log._lost
            failed += not said
        log._rest = log._rest[log._write_now(log._rest) :]  # what the next line would do
    lines = data.decode().split("\n")
    assert lines[-2:] == ["after", ""]
    # What tells of a gap may find room before the line does; and the kernel may find some more
    # late, before a hundred were lost.
    due = 0
    for line in lines[:-2]:
        gap = re.fullmatch(r"(\d+) lines? of the log (?:was|were) lost", line)
        assert gap or line == f"{due:05} {'x' * 1000}"
        due += int(gap[1]) if gap else 1
    assert due == count + failed
    log.close()
    os.close(master)
    os.close(slave)


def test_a_file_is_appended_to(put: object, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    put(fd)  # type: ignore[operator]
    log = Stderr()
    for number in range(3):
        log.write(syslog.LOG_INFO, f"line {number}")
    log.close()
    os.close(fd)
    assert path.read_text() == "before\nline 0\nline 1\nline 2\n"


class Disk:
    """A local disk that can be frozen, as is done for snapshots and backups. ``path`` is not where
    a test's mounts are."""

    def __init__(self, path: Path, image: Path) -> None:
        self.path = path
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
        path.mkdir()
        subprocess.run(["mount", "-o", "loop", "-t", "ext4", str(image), str(path)], check=True)
        (path / "lost+found").rmdir()

    def freeze(self) -> None:
        """From now on who writes waits, and no signal ends him."""
        subprocess.run(["fsfreeze", "-f", str(self.path)], check=True)

    def thaw(self, check: bool = True) -> None:
        """Let them go on."""
        subprocess.run(["fsfreeze", "-u", str(self.path)], stderr=subprocess.DEVNULL, check=check)


@pytest.fixture
def disk(mounts: Mounts, tmp_path: Path) -> Iterator[Disk]:
    """To be named after whatever writes there, so that nobody is held up at the end."""
    result = Disk(tmp_path / "disk", tmp_path / "image")
    mounts.adopt(result.path)
    yield result
    result.thaw(check=False)


def _to_file(put: object, tmp_path: Path) -> Path:
    """What stderr is redirected to, by > and not by >>. In the test itself: pytest has a stderr of
    its own for each phase."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    put(fd)  # type: ignore[operator]
    os.close(fd)
    return path


def test_a_line_is_in_the_file_when_the_next_thing_happens(put: object, tmp_path: Path) -> None:
    path = _to_file(put, tmp_path)
    log = Stderr()
    assert log.pid is not None
    written, processors = "", os.sched_getaffinity(0)

    def ten_times() -> bool:
        """Not at the first try, maybe: the host has other things to do."""
        nonlocal written
        for number in range(10):
            log.write(syslog.LOG_INFO, f"line {number}")
            written += f"line {number}\n"
            if path.stat().st_size != len(written):
                time.sleep(1)  # until it has patience again
                return False
        return True

    # So that it does not run before we wait for it: on our processor, and it preempts nobody.
    for pid in (0, log.pid):
        os.sched_setaffinity(pid, {min(processors)})
    os.sched_setscheduler(log.pid, os.SCHED_BATCH, os.sched_param(0))
    try:
        until(ten_times)
    finally:
        os.sched_setaffinity(0, processors)
    log.close(30)
    assert path.read_text() == written
    assert not children()


@pytest.mark.parametrize(("line", "arrives"), HOSTILE)
def test_a_hostile_line_in_a_file(put: object, tmp_path: Path, line: str, arrives: str) -> None:
    path = _to_file(put, tmp_path)
    log = Stderr()
    log.write(syslog.LOG_ERR, line)
    log.write(syslog.LOG_INFO, "é" * 100000)
    log.close(30)
    first, long, end = path.read_text().split("\n")
    assert (first, end) == (arrives, "")
    assert select.PIPE_BUF - 8 < len(long.encode()) <= select.PIPE_BUF


def test_the_child_that_writes_to_a_file_has_nothing_else(put: object, tmp_path: Path) -> None:
    path = _to_file(put, tmp_path)
    log = Stderr()
    log.write(syslog.LOG_INFO, "settled")
    until(lambda: path.read_text() == "settled\n")
    proc = Path(f"/proc/{log.pid}")
    links = {int(name): os.readlink(proc / "fd" / name) for name in os.listdir(proc / "fd")}
    assert set(links) == {0, 1, 2}
    assert (links[0][:5], links[1], links[2]) == ("pipe:", "/dev/null", str(path))
    log.close()


def _stop(log: Stderr) -> int:
    """Hold up the child, as what it writes to would."""
    assert log.pid is not None
    os.kill(log.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, log.pid, os.WSTOPPED)
    return log.pid


def test_a_file_that_takes_nothing_keeps_nobody_waiting_and_the_loss_is_told(put: object, tmp_path: Path) -> None:
    path = _to_file(put, tmp_path)
    log = Stderr()
    pid = _stop(log)
    began = time.monotonic()
    count = _fill(log)
    assert time.monotonic() - began < 30
    assert 900 < count < 3000  # a megabyte
    assert path.read_text() == ""
    os.kill(pid, signal.SIGCONT)
    until(lambda: path.read_text().count("\n") > 900)
    log.write(syslog.LOG_INFO, "after")
    log.close(30)
    *lines, last, end = path.read_text().split("\n")
    assert (last, end) == ("after", "")
    # A pipe that is full for a line may have room for the words that one is missing.
    gaps = [match for line in lines if (match := re.fullmatch(r"(\d+) lines? of the log (?:was|were) lost", line))]
    kept = len(lines) - len(gaps)
    assert lines[:kept] == [f"{number:05} {'x' * 1000}" for number in range(kept)]
    assert sum(int(gap[1]) for gap in gaps) == count - kept >= 100


def test_who_writes_to_a_file_is_replaced_when_it_is_killed(put: object, tmp_path: Path) -> None:
    path = _to_file(put, tmp_path)
    log = Stderr()
    log.write(syslog.LOG_INFO, "before")
    pid = _stop(log)
    for number in range(50):
        log.write(syslog.LOG_INFO, f"meanwhile {number}")
    os.kill(pid, signal.SIGKILL)
    _await_end(pid)
    log.write(syslog.LOG_INFO, "after")
    assert log.pid not in (None, pid)
    log.close(30)
    assert path.read_text() == "".join(
        f"{line}\n" for line in ("before", *(f"meanwhile {number}" for number in range(50)), "after")
    )


def test_the_end_waits_for_no_file_for_long(put: object, tmp_path: Path) -> None:
    _to_file(put, tmp_path)
    log = Stderr()
    pid = _stop(log)
    log.write(syslog.LOG_INFO, "words")
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 10
    assert not _exists(pid)
    assert not children()


@pytest.mark.root
def test_a_file_on_a_full_disk(put: object, mounts: Mounts) -> None:
    path = mounts.tmpfs("full", "size=64k") / "log"
    filler = path.with_name("filler")
    filler.write_bytes(bytes(32 << 10))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    put(fd)  # type: ignore[operator]
    log = Stderr()
    lines = [f"{number:05} {'x' * 1000}" for number in range(100)]
    for line in lines:
        log.write(syslog.LOG_INFO, line)
    porter = log._porter
    assert porter is not None
    until(lambda: porter._done() == porter._sent)
    assert path.stat().st_size == 32 << 10
    filler.unlink()
    log.write(syslog.LOG_INFO, "after")
    log.close(30)
    os.close(fd)
    found = path.read_text().split("\n")
    count = len(found) - 3
    # It had taken a part of the last one.
    assert (32 << 10) // 1007 <= count <= (32 << 10) // 1007 + 1
    assert found == [*lines[:count], f"{100 - count} lines of the log were lost", "after", ""]


@pytest.mark.root
def test_a_file_that_may_not_grow(plugin: Plugin, tmp_path: Path) -> None:
    """RLIMIT_FSIZE: its signal is nobody's end."""
    code = """
import resource, syslog
from check_mounts.system.logs import Stderr
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
log = Stderr()
pid = log.pid
for _ in range(50):
    log.write(syslog.LOG_INFO, "words")
assert log.pid == pid
log.close(30)
"""
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([PYTHON, "-c", code], stderr=log, check=True, env=plugin.environment)
    assert (tmp_path / "log").read_text() == ("words\n" * 17)[:100]


def _await_result(daemon: Daemon) -> None:
    seen = daemon.cache.stat().st_mtime_ns
    until(lambda: daemon.cache.stat().st_mtime_ns != seen)


@pytest.mark.root
def test_a_log_on_a_frozen_disk_holds_up_nobody(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    """fsfreeze(8): the checks go on, and once it is thawed all that was said is there."""
    mounts.tmpfs("home")
    daemon.log_path = disk.path / "log"
    daemon.start()
    disk.freeze()
    frozen = daemon.log
    for _ in range(3):  # each logs a line after its result is there
        _await_result(daemon)
    mounts.tmpfs("new")
    daemon.until(lambda result: result.code == 0 and result.count("mounts") == 2)
    assert daemon.log == frozen
    disk.thaw()
    until(lambda: daemon.log.count("\nChecked ") >= frozen.count("\nChecked ") + 3)
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=10) == 0
    assert daemon.log.startswith(frozen)
    assert not any("lost" in line for line in daemon.lines)
    assert daemon.lines[-1] == "Stopped by SIGTERM"


@pytest.mark.root
def test_a_daemon_whose_log_is_on_a_frozen_disk_ends(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    mounts.tmpfs("home")
    daemon.log_path = disk.path / "log"
    daemon.start("--metrics", str(disk.path / "check_mounts.prom"))
    disk.freeze()
    for _ in range(2):
        _await_result(daemon)
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=10) == 0
    assert not daemon.cache.with_name("status.pid").exists()


def test_a_long_line_on_stderr_is_clipped(put: object) -> None:
    read, write = os.pipe()
    put(write)  # type: ignore[operator]
    log = Stderr()
    log.write(syslog.LOG_INFO, "é" * 100000)
    data = _drain(read)
    assert select.PIPE_BUF - 8 < len(data) <= select.PIPE_BUF
    assert data.endswith("é\n".encode())
    log.close()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("kind", ["nobody reads", "no room"])
def test_a_stderr_that_takes_nothing_ever(put: object, kind: str) -> None:
    if kind == "no room":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        read, fd = os.pipe()
        os.close(read)
    put(fd)  # type: ignore[operator]
    log = Stderr()
    for _ in range(10):
        log.write(syslog.LOG_INFO, "words")
    assert log._lost == 10
    log.close()
    os.close(fd)


def test_little_of_the_package_is_loaded() -> None:
    code = (
        "import check_mounts.system.logs, sys; print(*sorted(name for name in sys.modules if "
        "name.startswith(('check_mounts.', 'logging'))))"
    )
    result = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert result.stdout.split() == [
        "check_mounts.clocks",
        "check_mounts.system",
        "check_mounts.system.logs",
        "check_mounts.system.processes",
        "check_mounts.system.signals",
        "check_mounts.system.syscalls",
        "check_mounts.text",
        "check_mounts.typed",
    ]
