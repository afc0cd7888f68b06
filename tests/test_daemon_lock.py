"""Nobody but another daemon keeps the daemon from starting: its lock is a file that no other user
can open."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts import cache
from check_mounts.system import directories
from tests.conftest import PYTHON, Mounts, Plugin, Result, until
from tests.daemon import Daemon

pytestmark = pytest.mark.root

# Somebody with a file of the daemon's open, who does with it what he can, and says how often he
# could.
_HOLDER = """
import fcntl, os, sys
done = 0
for name in sorted(os.listdir(sys.argv[1])):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            fd = os.open(os.path.join(sys.argv[1], name), flags)
        except OSError:
            continue
        for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            for lock in (fcntl.lockf, fcntl.flock):
                try:
                    lock(fd, kind | fcntl.LOCK_NB)
                    done += 1
                except OSError:
                    pass
        for lease in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            try:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, lease)
                done += 1
            except OSError:
                pass
        try:
            os.link(os.path.join(sys.argv[1], name), os.path.join(sys.argv[2], name))
        except OSError:
            pass
print(done, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def daemon(mounts: Mounts, plugin: Plugin) -> Iterator[Daemon]:
    """In a place that everybody gets to."""
    mounts.tmpfs("home")
    base = Path(tempfile.mkdtemp(prefix="check_mounts-test-", dir="/tmp"))
    base.chmod(0o755)
    result = Daemon(plugin, base)
    yield result
    result.close()
    shutil.rmtree(base)


def _file(daemon: Daemon, suffix: str) -> Path:
    return daemon.cache.with_name(f"status{suffix}")


@pytest.fixture
def holder(daemon: Daemon, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """uid 4711 holds whatever it can of a daemon that was killed."""
    daemon.start()
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    links = daemon.base / "links"
    links.mkdir(mode=0o755)
    os.chown(links, 4711, 4711)
    words = ["setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", PYTHON, "-I", "-c", _HOLDER]
    process = subprocess.Popen(
        [*words, str(daemon.cache.parent), str(links)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) >= 2  # it can lock something
    yield process
    process.communicate()


def test_what_others_hold_keeps_no_daemon_away(daemon: Daemon, holder: subprocess.Popen[bytes]) -> None:
    pid = daemon.start().pid
    assert daemon.cached().code == 0
    assert _file(daemon, ".pid").read_text() == f"{pid}\n"
    second = Result(daemon.start(first=False))
    assert second.lines[0] == f"MOUNTS UNKNOWN - another daemon (pid {pid}) keeps {daemon.cache} up to date"


def test_nor_is_one_that_runs_disturbed(daemon: Daemon, holder: subprocess.Popen[bytes]) -> None:
    daemon.start()
    with daemon.frozen():
        _file(daemon, ".lock").unlink()
    until(_file(daemon, ".lock").exists)
    daemon.until_checked(2)
    assert not [line for line in daemon.lines if "Cannot" in line]


def test_who_may_open_what(daemon: Daemon) -> None:
    daemon.start(preexec_fn=lambda: os.umask(0))
    until(lambda: not _file(daemon, ".pending").exists())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in daemon.cache.parent.iterdir()}
    assert modes == {
        "status": 0o644,
        "status.json": 0o644,
        "status.pid": 0o644,
        "status.lock": 0o600,
        "status.incidents": 0o640,
    }
    assert {*modes} - {"status.incidents"} == {f"status{suffix}" for suffix in cache.SUFFIXES} - {"status.pending"}
    assert daemon.stop() == 0
    left = sorted(path.name for path in daemon.cache.parent.iterdir())
    assert left == ["status", "status.incidents", "status.json"]


def test_a_lock_that_somebody_has_opened_to_all_is_closed(daemon: Daemon) -> None:
    daemon.cache.parent.mkdir(mode=0o755)
    _file(daemon, ".lock").touch(0o666)
    daemon.start()
    assert stat.S_IMODE(_file(daemon, ".lock").stat().st_mode) == 0o600


def test_a_daemon_of_an_earlier_release_keeps_the_new_one_away(daemon: Daemon) -> None:
    """It has locked status.pid, which everybody may read."""
    daemon.cache.parent.mkdir(mode=0o755)
    pid_file = _file(daemon, ".pid")
    with open(pid_file, "w") as file:
        file.write(f"{os.getpid()}\n")
        file.flush()
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        second = Result(daemon.start(first=False))
        assert second.lines[0] == f"MOUNTS UNKNOWN - another daemon (pid {os.getpid()}) keeps {daemon.cache} up to date"
        assert sorted(path.name for path in daemon.cache.parent.iterdir()) == ["status.pid"]
    daemon._started.pop()
    daemon.start()
    assert pid_file.read_text() == f"{daemon.process.pid}\n"


def test_a_full_disk_costs_the_pid_only(tmp_path: Path, mounts: Mounts) -> None:
    """The lock is there already: of a daemon that was killed."""
    directory = mounts.tmpfs("full", "size=64k,mode=0755")
    (directory / "status.lock").write_text("1\n")
    with pytest.raises(OSError, match="No space left"), open(directory / "filler", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    fd = os.open(directory, os.O_RDONLY)
    lock = directories.Lock("status.lock", fd)
    assert (directory / "status.lock").read_text() == f"{os.getpid()}\n"
    lock.close()
    os.close(fd)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_flock_is_another_lock(daemon: Daemon, kind: int) -> None:
    """flock(1) of a script over any of the files."""
    daemon.start()
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    files = [_file(daemon, suffix).open("a+b") for suffix in cache.SUFFIXES]
    for file in files:
        fcntl.flock(file, kind)
    daemon.start()
    for file in files:
        file.close()
