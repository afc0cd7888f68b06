"""What this host still says about mounts that have failed: the kernel's log, and what lies in the
place of a missing mount. tests/monitoring/test_unitstates.py has systemd's part."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts.checks import kernellog, unitstates
from check_mounts.declared.units import _where_of_name
from tests.conftest import Fuse, Mounts, Plugin, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]


def below(plugin: Plugin, path: Path, *arguments: str) -> list[str]:
    """The remarks about a mount point."""
    lines = plugin("-v", *arguments).lines
    place = next(number for number, line in enumerate(lines) if f" {path} " in line and number)
    rest = lines[place + 1 :]
    count = next((number for number, line in enumerate(rest) if not line.startswith("  ")), len(rest))
    return [line.strip() for line in rest[:count]]


# -- what lies in its place


def test_what_lies_in_the_place_of_a_missing_mount(plugin: Plugin, tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    assert below(plugin, place, str(place)) == []
    (place / "one").touch()
    assert below(plugin, place, str(place)) == ["1 entry lies in its place"]
    for number in range(13):
        (place / f"{number}\n").mkdir()
    assert below(plugin, place, str(place)) == ["14 entries lie in its place"]
    for number in range(1000):
        (place / f"more{number}").touch()
    assert below(plugin, place, str(place)) == ["more than 1000 entries lie in its place"]


@pytest.mark.root
def test_a_place_that_cannot_be_counted(plugin: Plugin, tmp_path: Path, mounts: Mounts) -> None:
    """No file, no directory, or another mount where one is declared: no word about that."""
    file = tmp_path / "file"
    file.touch()
    assert below(plugin, file, str(file)) == []
    gone = tmp_path / "gone"
    assert below(plugin, gone, str(gone)) == []


@pytest.mark.root
def test_a_place_on_what_hangs_is_left_alone(plugin: Plugin, fuse: Fuse) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    result = plugin("-v", "-t", "0.5", "--expect", f"{hung}/below", str(hung), f"{hung}/below")
    assert "in its place" not in "\n".join(result.lines)
    assert result.code == 2


@pytest.mark.root
def test_the_daemon_counts_after_each_pass(daemon: Daemon, tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    daemon.start(str(place))
    assert "in its place" not in "\n".join(daemon.cached("-v").lines)
    (place / "file").touch()
    daemon.check()
    daemon.until(lambda _: "  1 entry lies in its place" in daemon.cached("-v").lines)


# -- the kernel's log


@pytest.fixture
def stopped(tmp_path: Path, mounts: Mounts) -> Iterator[tuple[Path, str]]:
    """An ext4 that the kernel made read-only after an error, and the name of its device."""
    image, path = tmp_path / "image", mounts.point("a")
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-e", "remount-ro", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
    mounts.adopt(path)
    number = os.stat(path).st_dev
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a|test\n")
    until(lambda: Path(f"/sys/fs/ext4/{name}/errors_count").read_text() == "1\n")
    yield path, name


@pytest.mark.root
def test_the_kernel_says_why_it_stopped(stopped: tuple[Path, str], plugin: Plugin) -> None:
    path, name = stopped
    # Root can write into the log, and so a program of root's may be made to.
    Path("/dev/kmsg").write_text(f"<2>EXT4-fs error (device {name}): nothing is wrong\n")
    (said,) = [line for line in below(plugin, path) if line.startswith("kernel, ")]
    assert re.fullmatch(rf"kernel, 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d: EXT4-fs \w*.*\({'(device )?'}{name}\): .*", said), (
        said
    )
    assert "nothing is wrong" not in said and "|" not in said


SAYS = {
    b"nfs: server filer1 not responding, still trying": True,
    b"nfs: server filer1.example.org not responding, timed out": False,
    b"nfs: server filer10 not responding, still trying": False,
    b"nfs: server other-filer1 not responding": False,
    b"CIFS: VFS: \\\\filer1 has not responded in 180 seconds. Reconnecting...": True,
    b"CIFS: VFS: \\\\filer1\\share BAD_NETWORK_NAME: \\\\filer1\\share": True,
    b"libceph: mon0 (1)filer1:6789 session lost, hunting for new mon": True,
    b"lockd: server filer1 not responding, still trying": True,
    b"audit: comm=nfs: server filer1 not responding": False,
    b"usb 1-1: Product: nfs: server filer1": False,
    b"EXT4-fs error (device sda1): f:1: comm nfs: server filer1 x": False,
}


@pytest.mark.parametrize("message", SAYS, ids=lambda message: message.decode())
def test_messages_about_a_server(message: bytes) -> None:
    assert bool(re.match(kernellog.about_server(b"filer1"), message)) == SAYS[message]


DEVICE = {
    b"EXT4-fs error (device dm-3): ext4_find_entry:1463: inode #2: comm ls: reading directory lblock 0": True,
    b"EXT4-fs (dm-3): Remounting filesystem read-only": True,
    b'XFS (dm-3): metadata I/O error in "xfs_trans_read_buf_map"': True,
    b"BTRFS error (device dm-3 state EA): bdev /dev/loop1 errs: wr 1": True,
    b"BTRFS: error (device dm-3) in btrfs_commit_transaction:2523: errno=-5 IO failure": True,
    b"I/O error, dev dm-3, sector 8 op 0x0:(READ) flags 0x3000 phys_seg 1 prio class 2": True,
    b"blk_update_request: critical medium error, dev dm-3, sector 8": True,
    b"Buffer I/O error on dev dm-3, logical block 1, lost async page write": True,
    b"FAT-fs (dm-3): error, fat_get_cluster: invalid cluster chain": True,
    b"EXT4-fs error (device dm-30): x": False,
    b"EXT4-fs error (device sda): f:1: comm (dm-3): x": False,
    b"I/O error, dev dm-31, sector 8": False,
    b"device-mapper: thin: dm-3": False,
}


@pytest.mark.parametrize("message", DEVICE, ids=lambda message: message.decode())
def test_messages_about_a_device(message: bytes) -> None:
    assert bool(re.match(kernellog.about_device(b"dm-3"), message)) == DEVICE[message]


def test_messages_about_a_scsi_disk() -> None:
    assert re.match(kernellog.about_device(b"sdb"), b"sd 2:0:0:0: [sdb] tag#0 FAILED Result: hostbyte=DID_NO_CONNECT")


@pytest.mark.parametrize(
    ("record", "parsed"),
    [
        (b"4,1,5000,-;XFS (x): \\x5cy\\x0a|\n SUBSYSTEM=block\n", (4, 5000, b"XFS (x): \\y\n|")),
        (b"6,339,5140900,c,extra;NET", (6, 5140900, b"NET")),
        (b"12,1,5000,-;a program's", None),
        (b"", None),
        (b"x,1,5000;", None),
        (b";", None),
        (b"4,1,\xff;y", None),
    ],
)
def test_records(record: bytes, parsed: object) -> None:
    assert kernellog.parse(record) == parsed


def test_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        kernellog.newest({"device x": [b"x"]}, str(tmp_path / "nothing"))
    assert kernellog.newest({"device x": [b"x"]}, "/dev/null") == {}


# -- units


@pytest.mark.parametrize(
    ("point", "unit"),
    [
        (b"/", "-.mount"),
        (b"/srv", "srv.mount"),
        (b"/srv//data/", "srv-data.mount"),
        (b"/a-b/c d", r"a\x2db-c\x20d.mount"),
        (b"/.x/.y", r"\x2ex-.y.mount"),
        (b"/\xff\n;", r"\xff\x0a\x3b.mount"),
        (b"/" + b"x" * 255, None),
    ],
)
def test_the_name_of_a_unit(point: bytes, unit: str) -> None:
    assert unitstates.unit_of(point) == unit
    if unit and point.strip(b"/"):
        assert _where_of_name(unit) == point.rstrip(b"/").replace(b"//", b"/")


EXEC = "{ path=/bin/mount ; argv[]=/bin/mount x ; code=exited ; status=0 } ; start_time=[x] ; code=%s ; status=%s }"


@pytest.mark.parametrize(
    ("state", "result", "ended", "words"),
    [
        ("failed", "exit-code", EXEC % ("exited", "32"), "x.mount has failed: mount exited with 32"),
        ("failed", "signal", EXEC % ("killed", "9/KILL"), "x.mount has failed: mount was killed by 9/KILL"),
        ("failed", "timeout", "", "x.mount has failed: mount took too long"),
        ("inactive", "success", "", "x.mount has been inactive"),
        ("activating", "success", "", "x.mount has been starting"),
        ("active", "success", "", ""),
        ("failed", "new|\x1b", "", "x.mount has failed: new\\174\\033"),
    ],
)
def test_the_words_about_a_unit(state: str, result: str, ended: str, words: str) -> None:
    unit = {"Id": "x.mount", "LoadState": "loaded", "ActiveState": state, "Result": result, "ExecMount": ended}
    assert unitstates.words_of(unit) == words
    assert unitstates.words_of({**unit, "LoadState": "not-found"}) == ""
    assert unitstates.words_of({**unit, "LoadState": "masked"}) == "x.mount is masked"
