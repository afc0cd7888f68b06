"""The block devices below a mounted filesystem, down to the disks: LVM, LUKS, multipath, md arrays,
partitions, loop devices and the files behind these, and the devices of a btrfs.

Loaded only where something is wrong. Reads only /sys (see sysfs) and the text of the mount
table."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from check_mounts import filesystems, text
from check_mounts.model import Mount
from check_mounts.probing import sysfs
from check_mounts.typed import Optional

# No more devices than this are looked at for one mount: an array of all disks of a large host.
_MOST = 512


class Storage:
    """The devices of the mounts in ``mounts``, by the names that the kernel gives them (``dm-3``,
    ``sdb1``). What is read is remembered: make a new one for each look."""

    def __init__(self, mounts: Sequence[Mount], sys: str = "/sys") -> None:
        self._mounts, self._sys = mounts, sys
        self._below: dict[str, tuple[str, ...]] = {}
        self._mapped: Optional[dict[bytes, str]] = None

    def of(self, mount: Mount) -> list[str]:
        """The devices of a mount, the uppermost first."""
        found: dict[str, None] = {}
        todo = self.own(mount)[::-1]
        while todo and len(found) < _MOST:
            name = todo.pop()
            if name not in found:
                found[name] = None
                todo += self._directly_below(name)[::-1]
        return list(found)

    def own(self, mount: Mount) -> list[str]:
        """The devices that the filesystem itself is on."""
        if mount.device[0]:
            name = os.path.basename(sysfs.link(f"{self._sys}/dev/block/{mount.device[0]}:{mount.device[1]}"))
            return [name] if name else []
        if not filesystems.traits(mount.fs_type).device:
            return []
        # A filesystem with an anonymous number: bcachefs names all of its devices, btrfs only one.
        sources = mount.source.split(b":/dev/")
        named = [self._named(source if source.startswith(b"/dev/") else b"/dev/" + source) for source in sources]
        found = [name for name in named if name]
        if mount.fs_type != b"btrfs":
            return found
        return self.members(self._filesystem_on(found)) or found

    def label(self, name: str) -> str:
        """The name of a device for people: ``dm-3 (vg-home)``."""
        mapped = sysfs.read(f"{self._sys}/block/{name}/dm/name").rstrip(b"\n") if name.startswith("dm-") else b""
        return f"{name} ({text.clipped(text.printable(mapped), 120)})" if mapped else name

    def _named(self, source: bytes) -> str:
        """The kernel's name of a device below /dev; empty if it has none."""
        if source.startswith(b"/dev/mapper/"):
            if self._mapped is None:
                disks = [name for name in sysfs.names(f"{self._sys}/block") if name.startswith("dm-")]
                self._mapped = {sysfs.read(f"{self._sys}/block/{name}/dm/name").rstrip(b"\n"): name for name in disks}
            return self._mapped.get(source[len(b"/dev/mapper/") :], "")
        # The kernel writes the slashes of a name as exclamation marks (dev_set_name in
        # drivers/base/core.c).
        name = os.fsdecode(source[len(b"/dev/") :]).replace("/", "!")
        return name if sysfs.link(f"{self._sys}/class/block/{name}") else ""

    def btrfs(self, mount: Mount) -> str:
        """The name of a mounted btrfs in /sys/fs/btrfs, which is its UUID; empty if it has none."""
        return self._filesystem_on(self.own(mount))

    def members(self, filesystem: str) -> list[str]:
        """The devices of a btrfs."""
        return sysfs.names(f"{self._sys}/fs/btrfs/{filesystem}/devices") if filesystem else []

    def _filesystem_on(self, devices: Collection[str]) -> str:
        every = sysfs.names(f"{self._sys}/fs/btrfs")
        return next((each for each in every if not set(devices).isdisjoint(self.members(each))), "")

    def _directly_below(self, name: str) -> tuple[str, ...]:
        if name not in self._below:
            place = f"{self._sys}/class/block/{name}"
            below = sysfs.names(f"{place}/slaves")
            if sysfs.read(f"{place}/partition"):  # /sys/class/block/sdb1 -> ../../devices/.../block/sdb/sdb1
                below.append(os.path.basename(os.path.dirname(sysfs.link(place))))
            behind = self._behind(sysfs.read(f"{place}/loop/backing_file").rstrip(b"\n"))
            self._below[name] = (*filter(None, below), *([] if behind is None else self.own(behind)))
        return self._below[name]

    def _behind(self, file: bytes) -> Optional[Mount]:
        """The mount that a file is on, by the text of the mount table alone. If two mounts have one
        mount point, the upper one stands later in the table."""
        best = None
        for mount in self._mounts if file.startswith(b"/") else ():
            point = mount.mount_point.rstrip(b"/")
            if file.startswith(point + b"/") and (best is None or len(point) >= len(best.mount_point.rstrip(b"/"))):
                best = mount
        return best
