"""Read-only though nobody declared it: what the kernel has stopped after an error, and what
somebody meant to be so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts import filesystems
from check_mounts.model import Mount
from check_mounts.probing import sysfs
from check_mounts.readonly import unwritable
from tests.conftest import Mounts, Plugin


def a_mount(
    fs_type: str, options: str, more: str, source: str = "/dev/sda1", mount_id: int = 9, root: str = "/"
) -> Mount:
    words = (tuple(text.encode().split(b",")) for text in (options, more))
    return Mount(
        mount_id, 1, (8, 1), root.encode(), b"/m", next(words), (), fs_type.encode(), source.encode(), next(words)
    )


def judged(mount: Mount, *others: Mount, any_ro: bool = False, why: Optional[str] = None) -> Optional[tuple[bool, str]]:
    found = unwritable(mount, any_ro, lambda: (mount, *others), lambda _: why)
    return None if found is None else (found.fails, found.words)


STOPPED = "mounted rw, but its superblock is read-only, as after an error"


@pytest.mark.parametrize(
    "fs_type",
    [
        "ext2",
        "ext3",
        "ext4",
        "vfat",
        "msdos",
        "exfat",
        "btrfs",
        "f2fs",
        "jfs",
        "nilfs2",
        "reiserfs",
        "ocfs2",
        "ubifs",
        "bcachefs",
    ],
)
def test_the_kernel_stops_writing_after_an_error(fs_type: str) -> None:
    assert judged(a_mount(fs_type, "rw", "ro")) == (True, STOPPED)
    assert filesystems.traits(fs_type.encode()).stops_writing


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (a_mount("zfs", "rw,relatime", "ro,xattr", "tank/data@daily"), "it is a snapshot"),
        (a_mount("zfs", "rw", "ro,xattr", "tank/data"), "a property of the dataset may be the cause"),
        (a_mount("xfs", "rw", "ro"), "an error does not make xfs read-only"),
        (a_mount("nfs4", "rw", "ro", "filer:/a"), "an error does not make nfs4 read-only"),
        (a_mount("hfsplus", "rw", "ro"), "an error does not make hfsplus read-only"),
        (a_mount("cifs", "rw", "ro", "//filer/a"), "an error does not make cifs read-only"),
    ],
)
def test_what_does_not_stop_by_itself_is_remarked(mount: Mount, words: str) -> None:
    for any_ro in (False, True):
        assert judged(mount, any_ro=any_ro) == (False, f"mounted rw, but its superblock is read-only; {words}")


def test_another_mount_of_the_superblock_is_read_only() -> None:
    stopped = a_mount("ext4", "rw", "ro")
    assert judged(stopped, a_mount("ext4", "ro", "ro", mount_id=8, root="/x")) == (
        False,
        "mounted rw, but its superblock is read-only; /m shares that superblock and is mounted ro",
    )
    assert judged(stopped, a_mount("ext4", "rw", "ro", mount_id=8)) == (True, STOPPED)
    # ext4 of Linux 6.15 and later says itself that it was an error.
    emergency = a_mount("ext4", "rw", "rw,emergency_ro")
    assert judged(emergency, a_mount("ext4", "ro", "ro", mount_id=8)) == (
        True,
        "mounted rw, but stopped after an error (emergency_ro)",
    )


def test_a_property_of_the_filesystem() -> None:
    assert judged(a_mount("ext4", "rw", "ro"), why="of a property") == (
        False,
        "mounted rw, but its superblock is read-only; of a property",
    )
    assert judged(a_mount("ext4", "ro", "ro"), why="of a property") is None
    assert judged(a_mount("ext4", "ro", "ro"), any_ro=True, why="of a property") == (False, "mounted ro; of a property")
    assert judged(a_mount("zfs", "ro", "ro", "tank/a@b"), any_ro=True) == (False, "mounted ro; it is a snapshot")


@pytest.mark.parametrize("fs_type", ["squashfs", "iso9660", "erofs", "proc", "fuse.portal", "overlay", "autofs"])
def test_what_is_never_written_to_is_not_even_remarked(fs_type: str) -> None:
    assert judged(a_mount(fs_type, "rw", "ro"), any_ro=True) is None
    assert judged(a_mount(fs_type, "ro", "ro"), any_ro=True) is None


def test_what_is_mounted_read_only_counts_where_there_are_declarations() -> None:
    assert judged(a_mount("ext4", "ro", "ro")) is None
    assert judged(a_mount("ext4", "ro", "ro"), any_ro=True) == (True, "mounted ro, which nobody declared")
    assert judged(a_mount("tmpfs", "ro", "ro"), any_ro=True) is None


@pytest.mark.parametrize(
    "mount",
    [
        a_mount("xfs", "ro", "rw", "/dev/vda4"),  # /sysroot of ostree
        a_mount("ext4", "ro", "rw", "/dev/sdb", root="/"),  # a volume that Kubernetes binds into a pod
        a_mount("btrfs", "ro", "rw,subvol=/@nix", "/dev/sda2", root="/@nix"),
        a_mount("nfs4", "ro", "rw", "filer:/x"),
        a_mount("zfs", "ro", "rw", "tank/x"),
    ],
    ids=lambda mount: mount.fs_type.decode(),
)
def test_a_read_only_mount_of_a_filesystem_that_is_rw_is_meant_so(mount: Mount) -> None:
    """An error makes the superblock read-only."""
    assert judged(mount, any_ro=True) is None


def test_what_sysfs_tells(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    ext4, xfs = a_mount("ext4", "rw", "ro"), a_mount("xfs", "ro", "ro")
    assert sysfs.why_read_only(ext4, str(tmp_path)) is None
    write("devices/sda1/ro", "1\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/8:1").symlink_to("../../devices/sda1")
    assert sysfs.why_read_only(ext4, str(tmp_path)) is None
    write("fs/ext4/sda1/errors_count", "0\n")
    assert sysfs.why_read_only(ext4, str(tmp_path)) == "the kernel has counted no error on it"
    write("fs/ext4/sda1/errors_count", "3\n")
    assert sysfs.why_read_only(ext4, str(tmp_path)) is None
    assert sysfs.why_read_only(xfs, str(tmp_path)) == "its device is read-only"
    assert sysfs.why_read_only(a_mount("f2fs", "rw", "ro"), str(tmp_path)) is None  # its device has become so later
    write("devices/sda1/ro", "0\n")
    assert sysfs.why_read_only(xfs, str(tmp_path)) is None


# Real filesystems
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A loop device with an ext4."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    found = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True)
    yield found.stdout.strip()
    subprocess.run(["losetup", "-d", found.stdout.strip()], check=True)


@pytest.fixture
def mounted(disk: str, mounts: Mounts) -> Iterator[Path]:
    path = mounts.point("a")
    subprocess.run(["mount", "-t", "ext4", disk, str(path)], check=True)
    yield path
    subprocess.run(["umount", "-R", str(path)], check=True)


@pytest.mark.root
def test_a_bind_mount_of_what_an_administrator_remounts(mounted: Path, mounts: Mounts, plugin: Plugin) -> None:
    (mounted / "below").mkdir()
    bound = mounts.bind(mounted / "below", "b")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    result = plugin("-vv")
    assert (result.code, result.count("ok")) == (0, 2)
    below = result.lines[result.lines.index(result.line(bound)) + 1]
    assert (
        below == f"  read-only: mounted rw, but its superblock is read-only; {mounted} shares that superblock and is "
        f"mounted ro"
    )
    # What is declared rw is a failure all the same.
    assert (
        plugin("--expect", f"{bound},rw", "-v").line(bound).endswith(" read-only: mounted ro, expected rw (--expect)")
    )
    subprocess.run(["umount", str(bound)], check=True)


@pytest.mark.root
def test_a_filesystem_that_is_made_read_only(disk: str, mounts: Mounts, plugin: Plugin) -> None:
    subprocess.run(["tune2fs", "-O", "read-only", disk], check=True, capture_output=True)
    path = mounts.point("a")
    subprocess.run(["mount", "-t", "ext4", "-o", "rw", disk, str(path)], check=True)
    try:
        assert plugin("-v").code == 0
        assert plugin("--expect", f"{path},rw").code == 2
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.root
def test_a_read_only_device(tmp_path: Path, mounts: Mounts, plugin: Plugin, disk: str) -> None:
    found = subprocess.run(
        ["losetup", "-r", "--find", "--show", str(tmp_path / "image")], check=True, capture_output=True, text=True
    )
    path = mounts.point("a")
    subprocess.run(["mount", "-t", "ext4", "-o", "ro", found.stdout.strip(), str(path)], check=True)
    try:
        fstab = tmp_path / "fstab"
        fstab.write_text("")
        assert plugin(f"--fstab={fstab}", "-v").code == 0
    finally:
        subprocess.run(["umount", str(path)], check=True)
        subprocess.run(["losetup", "-d", found.stdout.strip()], check=True)


@pytest.mark.root
def test_an_error_makes_it_read_only(disk: str, mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.point("a")
    subprocess.run(["mount", "-t", "ext4", "-o", "errors=remount-ro", disk, str(path)], check=True)
    try:
        Path(f"/sys/fs/ext4/{disk.removeprefix('/dev/')}/trigger_fs_error").write_text("for a test\n")
        result = plugin("-v")
        assert result.code == 2
        assert " read-only: mounted rw, but " in result.line(path)
        assert result.line(path).endswith((", as after an error", "stopped after an error (emergency_ro)"))
    finally:
        subprocess.run(["umount", str(path)], check=True)
