"""The backing devices of the kernel (/sys/class/bdi) against mount tables: which network and FUSE
filesystems are in no table. Pure.

NFS and FUSE name the entry after the superblock's device (``0:52``, ``8:1-fuseblk``; in super.c
of fs/nfs, inode.c of fs/fuse), so their ghosts are known by device. All others have the type and a
serial number (``cifs-3``; super_setup_bdi in fs/super.c), so only the number of their ghosts is
known: there are more entries than devices in the tables.

Import budget: filesystems."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from check_mounts import filesystems
from check_mounts.typed import NamedTuple, Optional

Device = tuple[int, int]
_FUSE_ON_DISK = "-fuseblk"


class Unlisted(NamedTuple):
    """What no table shows: the devices of NFS and FUSE filesystems, and how many of each other type
    there are."""

    devices: frozenset[Device]
    counts: Mapping[bytes, int]

    def __bool__(self) -> bool:
        return bool(self.devices or self.counts)


def unlisted(names: Iterable[str], mounts: Iterable[tuple[Device, bytes]]) -> Unlisted:
    """What these mounts do not explain. ``names`` are those of the entries, ``mounts`` the device
    and the type of each mount."""
    devices: set[Device] = set()
    counts: dict[bytes, int] = collections.Counter()
    for name in names:
        device = _device(name)
        if device is not None:
            devices.add(device)
        elif "-" in name:
            counts[name.rpartition("-")[0].encode()] += 1
    counts = {fs_type: count for fs_type, count in counts.items() if filesystems.traits(fs_type).network}
    if not devices and not counts:
        return Unlisted(frozenset(), {})
    listed = frozenset(mounts)
    devices -= {device for device, _ in listed}
    for _, fs_type in listed:
        if fs_type in counts:
            counts[fs_type] -= 1
    return Unlisted(frozenset(devices), {fs_type: count for fs_type, count in counts.items() if count > 0})


def is_covered(fs_type: bytes) -> bool:
    """Whether a filesystem of this type has an entry as long as it lives."""
    return filesystems.is_fuse_type(fs_type) or filesystems.traits(fs_type).network


def _device(name: str) -> Optional[Device]:
    """The device of an NFS or FUSE filesystem; None for another entry, such as a disk's."""
    words = name.removesuffix(_FUSE_ON_DISK)
    major, colon, minor = words.partition(":")
    if not colon or not (major.isdigit() and minor.isdigit()) or (words == name and major != "0"):
        return None
    return int(major), int(minor)
