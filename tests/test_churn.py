"""The mount table changes while it is read: others mount and unmount without a pause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts import mounttable, tablelines
from tests.conftest import PYTHON, Mounts, Plugin
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

_CHURN = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.write(1, b".")
while os.getppid() == int(sys.argv[1]):
    for number in range(WINDOW):
        path = f"{sys.argv[2]}/{number}".encode()
        libc.umount2(path, 2)
        libc.mount(b"none", path, b"tmpfs", 0, b"")
"""
HEALTHY = 400
# So many mounts of each are there at a time: their lines fill more than the page that one read(2)
# gives.
WINDOW = 30


@pytest.fixture
def churn(mounts: Mounts) -> Iterator[list[Path]]:
    """400 mounts, and two processes that mount and unmount beside them."""
    paths = [mounts.tmpfs(f"still/{number}") for number in range(HEALTHY)]
    places = [mounts.point(f"churn{number}") for number in range(2)]
    churners = []
    for place in places:
        for number in range(WINDOW):
            mounts.point(f"{place.name}/{number}")
        words = [PYTHON, "-I", "-c", _CHURN.replace("WINDOW", str(WINDOW)), str(os.getpid()), str(place)]
        churners.append(subprocess.Popen(words, stdout=subprocess.PIPE))
    for churner in churners:
        assert churner.stdout is not None
        churner.stdout.read(1)
    yield paths
    for churner in churners:
        churner.send_signal(signal.SIGTERM)
        churner.communicate()
    for place in places:
        for number in range(WINDOW):
            mounts.detach(place / str(number))


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host whose processors are busy: between two pages of the table others have their
    turn."""
    real = os.read

    def read(fd: int, size: int) -> bytes:
        time.sleep(0.002)
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)


@pytest.mark.root
def test_others_mount_while_the_table_is_read(churn: list[Path], slowly: None) -> None:
    """No line is called wrong, no mount that stays is missed; in the meantime tables have been seen
    of which that would be said."""
    torn, began = 0, time.monotonic()
    while torn < 3:
        torn += any(line.twice for line in mounttable.parse(tablelines.contents(mounttable.DEFAULT_PATH))[1])
        table, unparsed = mounttable.read(mounttable.DEFAULT_PATH)
        assert unparsed == []
        assert {os.fsencode(path) for path in churn} <= {mount.mount_point for mount in table}
        assert len({mount.mount_id for mount in table}) == len(table)
        assert time.monotonic() - began < 120


@pytest.mark.root
def test_a_run_while_others_mount(churn: list[Path], plugin: Plugin) -> None:
    plugin.base = plugin.base / "still"
    for _ in range(8):
        result = plugin("-v")
        assert (result.code, result.count("ok")) == (0, HEALTHY), result.stdout


@pytest.mark.root
def test_the_daemon_while_others_mount(churn: list[Path], daemon: Daemon) -> None:
    daemon.plugin.base = daemon.plugin.base / "still"
    daemon.start()
    daemon.until_checked(4)
    assert daemon.cached().code == 0
    assert not [line for line in daemon.lines if not line.startswith(("Checked ", "Checking "))]


def _line(mount_id: int, path: str, options: str = "rw") -> bytes:
    return f"{mount_id} 1 0:{mount_id} / {path} {options} - tmpfs none rw\n".encode()


ROOT = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
TORN = ROOT + _line(543, "/old") + _line(7, "/a") + _line(543, "/new")


class _Kernel:
    """Gives one table after the other, the last one for ever, as the kernel would: the size of the
    file says nothing."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *tables: bytes, generated: bool = True, changing: bool = False
    ) -> None:
        self.tables, self.reads = list(tables), 0
        self._generated, self._changing = generated, changing
        monkeypatch.setattr(mounttable, "_look", self._look)

    def _look(self, path: str) -> tuple[bytes, bool, bool]:
        self.reads += 1
        data = self.tables.pop(0) if len(self.tables) > 1 else self.tables[0]
        return data, self._generated, self._changing


def _points(path: str = "x") -> list[bytes]:
    table, unparsed = mounttable.read(path)
    assert unparsed == []
    return [mount.mount_point for mount in table]


def test_two_lines_with_one_id_mean_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _Kernel(monkeypatch, TORN, ROOT + _line(7, "/a"))
    assert _points() == [b"/", b"/a"]


def test_the_same_torn_table_twice_is_no_proof_where_the_kernel_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that alternate between two places leave the same trace each time."""
    _Kernel(monkeypatch, TORN, TORN, ROOT + _line(7, "/a"))
    assert _points() == [b"/", b"/a"]


@pytest.mark.parametrize("generated", [True, False])
def test_where_it_never_settles_the_later_line_holds(monkeypatch: pytest.MonkeyPatch, generated: bool) -> None:
    other = TORN.replace(b"/a", b"/b")
    tables = [TORN if number % 2 else other for number in range(10000)]
    clock = iter(range(100))
    monkeypatch.setattr(mounttable, "monotonic", lambda: next(clock) / 10)
    kernel = _Kernel(monkeypatch, *tables, generated=generated)
    assert _points() in ([b"/", b"/a", b"/new"], [b"/", b"/b", b"/new"])
    assert kernel.reads < 10


def test_a_mount_that_was_remounted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed twice with other options: what it is by now counts, if it is listed so each time."""
    clock = iter(range(100))
    monkeypatch.setattr(mounttable, "monotonic", lambda: next(clock) / 10)
    _Kernel(monkeypatch, ROOT + _line(7, "/a", "rw") + _line(8, "/b") + _line(7, "/a", "ro"))
    table, unparsed = mounttable.read("x")
    assert unparsed == []
    assert [(mount.mount_point, mount.options) for mount in table] == [
        (b"/", (b"rw",)),
        (b"/b", (b"rw",)),
        (b"/a", (b"ro",)),
    ]


def test_a_table_that_changed_while_it_was_read_is_read_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.8 a mount may be missing in it, of which nothing is seen."""
    kernel = _Kernel(monkeypatch, ROOT, ROOT, ROOT + _line(7, "/a"), changing=True)
    assert _points() == [b"/", b"/a"]
    assert kernel.reads == 3


def test_the_kernel_tells_of_a_change(tmp_path: Path, mounts: Mounts) -> None:
    if os.geteuid() != 0:
        pytest.skip("root only")
    fd = os.open("/proc/self/mountinfo", os.O_RDONLY)
    assert not mounttable._has_changed(fd)
    mounts.tmpfs("new")
    assert mounttable._has_changed(fd)
    os.close(fd)


@pytest.mark.parametrize("options", [["--systemd"], ["/a"], []])
def test_a_file_that_is_wrong_stays_wrong(plugin: Plugin, tmp_path: Path, options: list[str]) -> None:
    table = tmp_path / "table"
    table.write_bytes(TORN)
    result = plugin("--mountinfo", str(table), *options, below=False, state=False)
    assert result.code in (2, 3)
    assert "line 4 of the mount table cannot be understood: another line has the mount ID 543" in result.stdout.decode()


def test_a_file_that_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table"
    table.write_bytes(TORN)
    real = mounttable._look

    def look(path: str) -> tuple[bytes, bool, bool]:
        result = real(path)
        table.write_bytes(ROOT)
        return result

    monkeypatch.setattr(mounttable, "_look", look)
    assert _points(str(table)) == [b"/"]


@pytest.mark.root
def test_the_table_of_a_process_that_has_ended(plugin: Plugin) -> None:
    """Its namespace is gone with it: that is no table in which nothing is mounted."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    result = plugin("--mountinfo", f"/proc/{process.pid}/mountinfo", "/", below=False)
    process.wait()
    assert result.code == 3
    assert re.match(rf"MOUNTS UNKNOWN - argument --mountinfo: /proc/{process.pid}/mountinfo: ", result.lines[0])


def test_a_table_without_a_line_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    _Kernel(monkeypatch, b"")
    with pytest.raises(OSError, match="it is empty"):
        mounttable.read("/proc/self/mountinfo")


def test_a_file_is_not_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(ROOT)
    assert mounttable._look(str(tmp_path / "table")) == (ROOT, False, False)


def test_a_table_that_has_not_changed_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ROOT + _line(7, "/a")
    kernel = _Kernel(monkeypatch, ROOT, ROOT, other, other, ROOT)
    reader = mounttable.Reader("/proc/self/mountinfo")
    tables = [reader.read() for _ in range(5)]
    assert kernel.reads == 5
    assert [[mount.mount_point for mount in table[0]] for table in tables] == [[b"/"]] * 2 + [[b"/", b"/a"]] * 2 + [
        [b"/"]
    ]
    assert tables[0] is tables[1] and tables[2] is tables[3]
