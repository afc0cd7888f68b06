"""Reads the kernel's files below /sys about block devices and the filesystems on them. This is all
that a run loads for them unless something is wrong.

Import budget: ``os``.

The kernel makes these files from its own memory: reading them takes no lock of a filesystem, and
waits for no device. (kernfs_fop_read_iter in fs/kernfs/file.c calls a function for each file:
dm_attr_suspended_show tests a bit, although nothing else of a suspended device may answer;
ext4_attr_show reads the superblock in memory; btrfs_devinfo_error_stats_show reads atomic
counters.)"""

from __future__ import annotations

import os
from collections.abc import Iterable

from check_mounts import filesystems, meaning
from check_mounts.model import Condition, Finding, Mount
from check_mounts.typed import Optional

# No file that we read is longer.
_LONGEST = 4096


def why_read_only(mount: Mount, sys: str = "/sys") -> Optional[str]:
    """Read why a mounted filesystem is read-only although nothing is broken; return the reason in
    words, None if we know no such reason.

    ``mount`` is in this host's mount table. ext4 counts its errors, also if the kernel stops
    writing after them (ext4_handle_error in fs/ext4/super.c). If it has counted no error, somebody
    has made the filesystem read-only, with ``tune2fs -O read-only`` for example."""
    device = f"{sys}/dev/block/{mount.device[0]}:{mount.device[1]}"
    if b"ro" in mount.options:
        return "its device is read-only" if first_line(f"{device}/ro") == "1" else None
    # It was mounted rw. The kernel refuses that on a read-only device, so the device was writable
    # then: a device that is read-only now may be failing.
    if filesystems.traits(mount.fs_type).ext4_driver:
        name = os.path.basename(link(device))
        if name and first_line(f"{sys}/fs/ext4/{name}/errors_count") == "0":
            return "the kernel has counted no error on it"
    return None


def any_on_device(mounts: Iterable[Mount]) -> bool:
    """Whether any of these mounts may be on a block device. A btrfs, like a filesystem without a
    device, has an anonymous number (major 0)."""
    return any(mount.device[0] or mount.source.startswith(b"/dev/") for mount in mounts)


def is_failure_on_device(finding: Finding) -> bool:
    """Whether a mount has failed, and its device may be the cause."""
    mount = finding.mount
    failed = finding.condition not in (Condition.OK, Condition.BLOCKED) and meaning.of(finding.condition).counted
    return failed and mount is not None and any_on_device((mount,))


def backing_names(sys: str = "/sys") -> list[str]:
    """The kernel's backing devices (see backings)."""
    return names(f"{sys}/class/bdi")


def has_unlisted(mounts: Iterable[Mount], sys: str = "/sys") -> bool:
    """Whether the kernel may have a network or FUSE filesystem that this mount table does not show.

    Each such filesystem has an entry in this directory as long as its superblock lives
    (super_setup_bdi_name in fs/super.c): ``0:52`` by the device of NFS and FUSE, ``cifs-3`` by the
    type and a serial number of all others. Those of block devices have other major numbers."""
    found = backing_names(sys)
    if not any(name.startswith("0:") or not name[0].isdigit() or "-" in name for name in found):
        return False
    from check_mounts import backings  # most hosts without such filesystems do not need it

    return bool(backings.unlisted(found, ((mount.device, mount.fs_type) for mount in mounts)))


def suspended(sys: str = "/sys") -> list[str]:
    """The kernel's names of the device mapper devices that are suspended (``dm-3``): they keep all
    reads and writes until somebody resumes them."""
    mapped = [name for name in names(f"{sys}/block") if name.startswith("dm-")]
    return [name for name in mapped if read(f"{sys}/block/{name}/dm/suspended")[:1] == b"1"]


def counted(sys: str = "/sys") -> list[tuple[str, int]]:
    """The errors that the kernel has counted, by filesystem and device, in the order of the names:
    ``ext4/sdb1 4711``, ``btrfs/UUID/1 4711`` for the first device of a btrfs; and
    ``btrfs/UUID/1/missing 4711``, which is 1 if it lacks that one. The last number, that of the
    directory, differs each time something is mounted (kernfs_new_node in fs/kernfs/dir.c): another
    disk may get the name of one that is gone."""
    found = []
    for name, inode in _filesystems(f"{sys}/fs/ext4"):
        count = read(f"{sys}/fs/ext4/{name}/errors_count").strip()
        if count.isdigit():
            found.append((f"ext4/{name} {inode}", int(count)))
    for name, inode in _filesystems(f"{sys}/fs/btrfs"):
        for device in names(f"{sys}/fs/btrfs/{name}/devinfo"):
            numbers = read(f"{sys}/fs/btrfs/{name}/devinfo/{device}/error_stats").split()[1::2]
            found.append((f"btrfs/{name}/{device} {inode}", sum([int(each) for each in numbers if each.isdigit()])))
            lacks = read(f"{sys}/fs/btrfs/{name}/devinfo/{device}/missing")[:1] == b"1"
            found.append((f"btrfs/{name}/{device}/missing {inode}", int(lacks)))
    return sorted(found)


def written(counters: Iterable[tuple[str, int]]) -> bytes:
    """Counters as the memory for the next look has them."""
    return os.fsencode("".join([f"{key} {count}\n" for key, count in counters]))


def _filesystems(directory: str) -> list[tuple[str, int]]:
    """The names of filesystems in the directory of a type, with their inode numbers."""
    try:
        with os.scandir(directory) as entries:
            return [(each.name, each.inode()) for each in entries if each.name != "features"]
    except OSError:
        return []


def names(directory: str) -> list[str]:
    """The names in a directory, in their order; empty if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def link(path: str) -> str:
    """Where a link leads; empty if it cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def read(path: str) -> bytes:
    """The content of a file; empty if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.read(fd, _LONGEST)
        finally:
            os.close(fd)
    except OSError:
        return b""


def first_line(path: str) -> str:
    """The first line of a file; empty if it cannot be read."""
    return read(path).partition(b"\n")[0].decode("ascii", "replace").strip()
