"""The block devices below a filesystem, as a tree of sysfs tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_mounts.model import Mount
from check_mounts.probing import sysfs
from check_mounts.probing.storage import Storage

# disk: (number, partitions); what is on what; names of device mapper.
DISKS = {
    "sda": ("8:0", ["sda1"]),
    "sdb": ("8:16", []),
    "sdc": ("8:32", []),
    "md0": ("9:0", ["md0p1"]),
    "dm-0": ("253:0", []),
    "dm-1": ("253:1", []),
    "dm-2": ("253:2", []),
    "loop0": ("7:0", []),
    "cciss!c0d0": ("104:0", []),
}
PARTITIONS = {"sda1": "8:1", "md0p1": "259:0"}
SLAVES = {"md0": ["sdb", "dm-2"], "dm-2": ["sdc"], "dm-1": ["dm-0"], "dm-0": ["sda1"]}
MAPPED = {"dm-0": b"luks", "dm-1": b"vg-home", "dm-2": b"mpatha|\xff"}


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    for directory in ("block", "class/block", "dev/block", "devices", "fs/btrfs/features", "fs/ext4"):
        (tmp_path / directory).mkdir(parents=True)
    for disk, (number, partitions) in DISKS.items():
        own = tmp_path / "devices" / "block" / disk
        for name in (disk, *partitions):
            place, its_number = (own, number) if name == disk else (own / name, PARTITIONS[name])
            (place / "slaves").mkdir(parents=True)
            (tmp_path / "class" / "block" / name).symlink_to(f"../../{place.relative_to(tmp_path)}")
            (tmp_path / "dev" / "block" / its_number).symlink_to(f"../../{place.relative_to(tmp_path)}")
            if place != own:
                (place / "partition").write_text("1\n")
        (tmp_path / "block" / disk).symlink_to(f"../devices/block/{disk}")
        for slave in SLAVES.get(disk, ()):
            (own / "slaves" / slave).symlink_to(f"../../{slave}")
        if disk in MAPPED:
            (own / "dm").mkdir()
            (own / "dm" / "name").write_bytes(MAPPED[disk] + b"\n")
            (own / "dm" / "suspended").write_text("0\n")
    (tmp_path / "devices" / "block" / "loop0" / "loop").mkdir()
    (tmp_path / "devices" / "block" / "loop0" / "loop" / "backing_file").write_text("/home/images/x.img\n")
    (tmp_path / "fs" / "btrfs" / "11-22" / "devices").mkdir(parents=True)
    for name in ("sdb", "dm-0"):
        (tmp_path / "fs" / "btrfs" / "11-22" / "devices" / name).touch()
    return tmp_path


def a_mount(point: str, number: str, fs_type: str = "ext4", source: str = "/dev/x", mount_id: int = 1) -> Mount:
    major, minor = map(int, number.split(":"))
    words = point.encode(), (b"rw",), (), fs_type.encode(), source.encode(), (b"rw",)
    return Mount(mount_id, 0, (major, minor), b"/", *words)


HOME = a_mount("/home", "253:1", mount_id=2)
TABLE = [a_mount("/", "8:1"), HOME, a_mount("/homes", "8:16", mount_id=3)]


@pytest.mark.parametrize(
    ("mount", "devices"),
    [
        (a_mount("/x", "8:1"), ["sda1", "sda"]),
        (HOME, ["dm-1", "dm-0", "sda1", "sda"]),
        (a_mount("/x", "259:0"), ["md0p1", "md0", "dm-2", "sdc", "sdb"]),
        (a_mount("/x", "7:0"), ["loop0", "dm-1", "dm-0", "sda1", "sda"]),
        (a_mount("/x", "0:44", "btrfs", "/dev/sdb"), ["dm-0", "sda1", "sda", "sdb"]),
        (a_mount("/x", "0:44", "btrfs", "/dev/mapper/luks"), ["dm-0", "sda1", "sda", "sdb"]),
        (a_mount("/x", "0:44", "btrfs", "/dev/mapper/gone"), []),
        (a_mount("/x", "0:44", "bcachefs", "/dev/sdb:/dev/sdc"), ["sdb", "sdc"]),
        (a_mount("/x", "0:44", "btrfs", "/dev/cciss/c0d0"), ["cciss!c0d0"]),
        (a_mount("/x", "0:44", "btrfs", "/dev/../sdb"), []),
        (a_mount("/x", "0:44", "fuse.x", "/dev/sdb"), []),
        (a_mount("/x", "0:44", "nfs4", "host:/dev/sdb"), []),
        (a_mount("/x", "99:99"), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.fs_type.decode(),
)
def test_the_devices_of_a_mount(sys: Path, mount: Mount, devices: list[str]) -> None:
    assert Storage(TABLE, str(sys)).of(mount) == devices


def test_devices_in_a_circle_end(sys: Path) -> None:
    """The file of a loop device may lie on a filesystem that is on that loop device, by the text of
    a mount table."""
    circle = a_mount("/home/images", "7:0", mount_id=4)
    assert Storage([*TABLE, circle], str(sys)).of(circle) == ["loop0"]


def test_names_for_people(sys: Path) -> None:
    storage = Storage(TABLE, str(sys))
    assert [storage.label(name) for name in ("dm-1", "dm-2", "sda1")] == [
        "dm-1 (vg-home)",
        "dm-2 (mpatha\\174\\377)",
        "sda1",
    ]


def test_suspended(sys: Path) -> None:
    assert sysfs.suspended(str(sys)) == []
    (sys / "devices" / "block" / "dm-2" / "dm" / "suspended").write_text("1\n")
    assert sysfs.suspended(str(sys)) == ["dm-2"]
    assert sysfs.suspended(str(sys / "nothing")) == []
