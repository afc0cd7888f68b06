"""Reads the kernel's files below /sys about a block device and the filesystem on it.

These files come from the kernel's own memory: reading them takes no lock of a filesystem, and waits
for no device."""

from __future__ import annotations

import os

from check_mounts import filesystems
from check_mounts.model import Mount
from check_mounts.typed import Optional


def why_read_only(mount: Mount, sys: str = "/sys") -> Optional[str]:
    """Read why a mounted filesystem is read-only although nothing is broken; return the reason in
    words, None if we know no such reason.

    ``mount`` is in this host's mount table. ext4 counts its errors, also if the kernel stops
    writing after them (ext4_handle_error in fs/ext4/super.c). If it has counted no error, somebody
    has made the filesystem read-only, with ``tune2fs -O read-only`` for example."""
    device = f"{sys}/dev/block/{mount.device[0]}:{mount.device[1]}"
    if b"ro" in mount.options:
        return "its device is read-only" if _first_line(f"{device}/ro") == "1" else None
    # It was mounted rw. The kernel refuses that on a read-only device, so the device was writable
    # then: a device that is read-only now may be failing.
    if filesystems.traits(mount.fs_type).ext4_driver:
        name = _last_part_of_link(device)
        if name and _first_line(f"{sys}/fs/ext4/{name}/errors_count") == "0":
            return "the kernel has counted no error on it"
    return None


def _last_part_of_link(path: str) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline(80).strip()
    except OSError:
        return ""
