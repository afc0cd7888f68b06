"""The kernel's counters of errors on devices: real ext4 and Btrfs on loop devices, and what a disk
may say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts.clocks import Boottime
from check_mounts.judging.policy import Policy, judge
from check_mounts.judging.thresholds import Range
from check_mounts.model import Condition, Damage, Finding, Mount, State
from check_mounts.probing import counters, sysfs
from check_mounts.probing.counters import Counter, compared
from check_mounts.probing.storage import Storage
from check_mounts.probing.stuck import Registry
from tests.conftest import Mounts, Plugin, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


class Disks:
    """Loop devices, and filesystems on them."""

    def __init__(self, base: Path, mounts: Mounts) -> None:
        self._base, self._mounts = base, mounts
        self.names: list[str] = []

    def attach(self, image: Path) -> str:
        self.names.append(run("losetup", "--find", "--show", str(image)))
        return self.names[-1]

    def image(self, size: int) -> Path:
        path = self._base / f"image{len(self.names)}"
        path.touch()
        os.truncate(path, size << 20)
        return path

    def mount(self, device: str, *options: str) -> Path:
        path = self._mounts.point("a")
        run("mount", *options, device, str(path))
        self._mounts.adopt(path)
        return path

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["losetup", "-d", name], check=False, capture_output=True)


@pytest.fixture
def disks(tmp_path: Path, mounts: Mounts) -> Iterator[Disks]:
    found = Disks(tmp_path, mounts)
    yield found
    mounts.close()
    found.close()


@pytest.fixture
def ext4(disks: Disks) -> Path:
    image = disks.image(16)
    run("mkfs.ext4", "-q", "-e", "continue", str(image))
    return disks.mount(disks.attach(image))


def count_an_error(disks: Disks) -> None:
    """The kernel counts it in a work of its own (update_super_work in fs/ext4/super.c)."""
    place = Path("/sys/fs/ext4") / disks.names[0].rpartition("/")[2]
    before = (place / "errors_count").read_text()
    (place / "trigger_fs_error").write_text("a test\n")
    until(lambda: (place / "errors_count").read_text() != before)


@pytest.mark.root
def test_ext4_counts_an_error_after_the_first_look(ext4: Path, disks: Disks, plugin: Plugin) -> None:
    name = disks.names[0].rpartition("/")[2]
    assert plugin("-v").code == 0
    count_an_error(disks)
    for _ in range(2):  # for an hour
        result = plugin("-v")
        assert (result.code, result.count("failing"), result.count("ok")) == (1, 1, 0)
        assert f"failing: ext4 has counted 1 error on {name}, 20" in result.line(ext4)
        assert result.line(ext4).endswith("in trigger_test_error, new ones among them")


@pytest.mark.root
def test_old_errors_are_a_remark(ext4: Path, disks: Disks, plugin: Plugin) -> None:
    """They may have been repaired. What asks for more is --severity."""
    count_an_error(disks)
    result = plugin("-v")
    assert (result.code, result.count("failing"), result.count("ok")) == (0, 0, 1)
    assert "ext4 has counted 1 error on " in result.lines[result.lines.index(result.line(ext4)) + 1]
    assert plugin().code == 0
    result = plugin("--severity", "failing=critical")
    assert (result.code, result.count("failing")) == (2, 1)
    count_an_error(disks)
    assert "counted 2 errors" in plugin("-v").line(ext4)
    assert plugin("--severity", "failing=ok").code == 0


@pytest.mark.root
def test_one_mount_tells_for_its_filesystem(ext4: Path, disks: Disks, mounts: Mounts, plugin: Plugin) -> None:
    plugin()
    mounts.bind(ext4, "b")
    count_an_error(disks)
    result = plugin("-v")
    assert (result.count("failing"), result.count("ok")) == (1, 1)


@pytest.mark.root
def test_a_filesystem_that_stops_after_an_error_says_which(disks: Disks, plugin: Plugin) -> None:
    image = disks.image(16)
    run("mkfs.ext4", "-q", "-e", "remount-ro", str(image))
    path = disks.mount(disks.attach(image))
    count_an_error(disks)
    result = plugin("-v")
    assert " read-only: " in result.line(path) and result.code == 2
    assert "ext4 has counted 1 error on loop" in "\n".join(result.lines)


@pytest.mark.root
def test_the_daemon_tells_of_the_first_error(ext4: Path, disks: Disks, daemon: Daemon) -> None:
    daemon.start()
    count_an_error(disks)
    daemon.check()
    result = daemon.until(lambda result: result.count("failing") == 1)
    assert result.code == 1
    assert f"{ext4} is failing: ext4 has counted 1 error on loop" in daemon.log


@pytest.fixture
def btrfs(disks: Disks) -> list[str]:
    devices = [disks.attach(disks.image(128)) for _ in range(2)]
    run("mkfs.btrfs", "-q", "-f", "-d", "raid1", "-m", "raid1", *devices)
    return devices


@pytest.mark.root
def test_a_btrfs_that_reads_wrong_data(disks: Disks, btrfs: list[str], plugin: Plugin, tmp_path: Path) -> None:
    path = disks.mount(btrfs[0])
    (path / "file").write_bytes(os.urandom(8 << 20))
    run("umount", str(path))
    with open(btrfs[1], "r+b") as disk:
        disk.seek(20 << 20)
        disk.write(os.urandom(100 << 20))
    disks.mount(btrfs[0])
    assert plugin().code == 0
    subprocess.run(["btrfs", "scrub", "start", "-B", str(path)], check=False, capture_output=True)
    result = plugin("-v")
    assert (result.code, result.count("failing")) == (1, 1)
    names = ", ".join(name.rpartition("/")[2] for name in btrfs)
    assert " failing: btrfs has counted " in result.line(path)
    assert f" errors on device 2 of {names} (" in result.line(path)
    assert " corruption" in result.line(path)


@pytest.mark.root
def test_a_btrfs_that_lacks_a_device(disks: Disks, btrfs: list[str], plugin: Plugin) -> None:
    run("losetup", "-d", btrfs[1])
    subprocess.run(["btrfs", "device", "scan", "--forget", btrfs[1]], check=False, capture_output=True)
    disks.mount(btrfs[0], "-o", "degraded")
    result = plugin("-v")
    assert result.code == 0
    assert f"  btrfs lacks its device 2 (it has {btrfs[0].rpartition('/')[2]})" in result.lines


# ------------------------------------------------------------------------------------------------
# What is new
# ------------------------------------------------------------------------------------------------

NOW = Boottime(5000.0)


def look(*numbers: int, inode: int = 7) -> list[tuple[str, int]]:
    return [(f"ext4/sd{letter} {inode}", number) for letter, number in zip("abc", numbers)]


def new(seen: list[tuple[str, int]], before: bytes, now: float = NOW) -> list[str]:
    return [counter.place for counter in compared(seen, before, Boottime(now))[1] if counter.is_new]


def test_what_moves_is_new_for_an_hour() -> None:
    first, _ = compared(look(0, 3), b"", NOW)
    second, _ = compared(look(0, 4), first, Boottime(NOW + 0.7))
    assert new(look(0, 4), second, NOW + 0.8) == ["ext4/sdb"]
    assert new(look(0, 4), second, NOW + 3599) == ["ext4/sdb"]
    assert new(look(0, 4), second, NOW + 3601) == []
    assert new(look(0, 0), second, NOW + 1) == []  # fsck has cleared it
    assert new(look(1, 4), second, NOW + 3601) == ["ext4/sda"]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"garbage",
        b"ext4/sda 7 x\nnew x ext4/sda 7\nnew 99999 ext4/sda 7\nnew \xff\n",
        b"\xff\xfe\n\n \n7\nnew\n",
        sysfs.written(look(2, inode=8)),  # another disk with the same name
        sysfs.written(look(9)),
    ],
)
def test_what_was_not_seen_before_is_not_new(before: bytes) -> None:
    assert new(look(3), before) == []


def test_another_boot_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path / "state"))
    registry.keep("counters", b"text\n")
    assert registry.note("counters") == b"text\n"
    monkeypatch.setattr(registry, "_boot", "another 1")
    assert registry.note("counters") == b""
    registry.close(any_stuck=False)
    assert registry.note("counters") is None


# ------------------------------------------------------------------------------------------------
# Words
# ------------------------------------------------------------------------------------------------


def a_mount(source: str = "/dev/sda1") -> Mount:
    return Mount(1, 0, (8, 1), b"/", b"/x", (b"rw",), (), b"ext4", source.encode(), (b"rw",))


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/8:1").symlink_to("../../devices/sda/sda1")
    (tmp_path / "fs/ext4/sda1").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (b"1\n", b"100000\n", ", the first 1970-01-01 0"),
        (b"0\n", b"0\n", ""),
        (b"", b"", ""),
        (b"9" * 30, b"-1", ""),
        (b"\xff", b"x", ""),
    ],
)
def test_what_a_disk_may_say(sys: Path, first: bytes, last: bytes, words: str) -> None:
    place = sys / "fs/ext4/sda1"
    (place / "first_error_time").write_bytes(first)
    (place / "last_error_time").write_bytes(last)
    (place / "first_error_func").write_bytes(b"a|b\x1b[31m\n\xff" * 20)
    found = [Finding(b"/x", a_mount(), Condition.OK)]
    (finding,) = counters.added(found, [Counter("ext4/sda1", 3, False)], Storage([], str(sys)), str(sys))
    (remark,) = finding.remarks
    assert remark.startswith(f"ext4 has counted 3 errors on sda1{words}")
    assert remark.isprintable() and "|" not in remark and len(remark) < 250


@pytest.mark.parametrize(
    ("is_new", "severity", "expected"),
    [
        (True, None, (Condition.FAILING, State.WARNING)),
        (False, None, (Condition.OK, State.OK)),
        (True, State.CRITICAL, (Condition.FAILING, State.CRITICAL)),
        (False, State.CRITICAL, (Condition.FAILING, State.CRITICAL)),
        (True, State.OK, (Condition.OK, State.OK)),
    ],
)
def test_judged(is_new: bool, severity: State, expected: tuple[Condition, State]) -> None:
    finding = Finding(b"/x", a_mount(), Condition.OK, remarks=("other", Damage("3 errors", is_new)))
    found = judge(finding, Policy({} if severity is None else {Condition.FAILING: severity}))
    assert (found.condition, found.state) == expected
    assert found.finding.remarks == (("other",) if expected[0] is Condition.FAILING else ("other", "3 errors"))


def test_judged_with_other_faults() -> None:
    """The worse of two is the condition, the other one a remark; a mount that failed by itself
    keeps its condition."""
    damage = Damage("3 errors", True)
    slow = Finding(b"/x", a_mount(), Condition.OK, latency=3.0, remarks=(damage,))
    found = judge(slow, Policy(critical=Range.parse("1")))
    assert (found.condition, found.finding.remarks) == (Condition.SLOW, ("failing: 3 errors",))
    dead = Finding(b"/x", a_mount(), Condition.DEAD, "gone", remarks=(damage,))
    found = judge(dead, Policy())
    assert (found.condition, found.finding.remarks) == (Condition.DEAD, ("3 errors",))
