"""The mount table as declarations are compared with it. Pure."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Sequence
from typing import Optional, Union

from check_mounts import filesystems
from check_mounts.model import ExpectedMount, Mount
from check_mounts.mounttable import LONGEST_PATH, covered_by
from check_mounts.naming.devices import Compared, Devices
from check_mounts.selection import Glob, leads_over, normalised, unprivileged_owner


class Mounted:
    """The mount table as declarations are compared with it.

    ``at``: all mounts at a mount point; ``seen``: the visible one. ``container``: the table is that
    of a container."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        visible: Collection[int],
        devices: Union[Devices, Compared],
        ignored: Sequence[Glob],
    ) -> None:
        self.at: dict[bytes, list[Mount]] = {}
        self.seen: dict[bytes, Mount] = {}
        self._by_id: dict[int, Mount] = {}
        for mount in mounts:
            self._by_id[mount.mount_id] = mount
            self.at.setdefault(mount.mount_point, []).append(mount)
            if mount.mount_id in visible:
                self.seen[mount.mount_point] = mount
        self.devices = devices
        self.ignored = ignored
        self.container = self._is_container()
        self._types = collections.Counter(mount.fs_type for each in self.at.values() for mount in each)
        self._declared: dict[tuple[int, int], set[int]] = {}

    def _is_container(self) -> bool:
        """Is this the table of a container? systemd, too, skips the devices of fstab where /sys is
        read-only."""
        sys = self.seen.get(b"/sys")
        lxcfs = any(
            mount.fs_type == b"fuse.lxcfs" and point.startswith(b"/proc/") for point, mount in self.seen.items()
        )
        return lxcfs or (sys is not None and is_ro(sys))

    def users_cover(self, mount_point: bytes) -> Optional[Mount]:
        """The FUSE mount of an unprivileged user that covers the mounts at a mount point, if one
        does."""
        covers = covered_by(self._by_id.values())
        found = (covers.get(mount.mount_id) for mount in self.at.get(mount_point, ()))
        return next((cover for cover in found if cover is not None and unprivileged_owner(cover) is not None), None)

    def declare(self, expected: Iterable[ExpectedMount]) -> None:
        """Remember by device which filesystems are declared; a bind mount declares none, it shows
        one."""
        for each in expected:
            mount = self.seen.get(each.mount_point)
            if mount is not None and not each.is_bind:
                self._declared.setdefault(mount.device, set()).add(mount.mount_id)

    def is_alone(self, mount: Mount) -> bool:
        """Is no other declared mount on its superblock, which keeps the options of whichever was
        mounted first? A device has one superblock however often it is mounted. btrfs has one for
        all subvolumes, and an undeclared one may have been mounted first."""
        known = filesystems.traits(mount.fs_type)
        if known.subvolumes:
            return self._types[mount.fs_type] == 1
        return not known.device or len(self._declared.get(mount.device, ())) < 2

    def bound_from(self, directory: bytes, mount: Mount) -> Optional[Mount]:
        """The mount that holds ``directory``, from which ``mount`` is bound: the parent mount where
        a directory is bound on itself.

        None where that is not visible any more, as the mount covers a directory above its source.
        """
        if directory == mount.mount_point:
            return self._by_id.get(mount.parent_id)
        return None if leads_over(directory, mount.mount_point) else self.holder(directory)

    def is_ignored(self, option: bytes) -> bool:
        """Does this declared option not count, by one of the patterns?"""
        return any(glob.match(option) for glob in self.ignored)

    def holder(self, path: bytes) -> Optional[Mount]:
        """The deepest visible mount that holds ``path``, by the text alone; None for a path that no
        system call takes."""
        if len(path) > LONGEST_PATH:
            return None
        while path not in self.seen:
            if path == b"/":
                return None
            path = path[: path.rfind(b"/")] or b"/"
        return self.seen[path]


def is_ro(mount: Mount) -> bool:
    """Is the mount or its superblock read-only?"""
    return b"ro" in mount.options or b"ro" in mount.super_options


def bound_from(expected: ExpectedMount, mount: Mount, table: Mounted) -> Optional[Mount]:
    """The mount that a declared bind mount takes its flags from, where it is visible."""
    if not expected.is_bind or expected.source is None or not expected.source.startswith(b"/"):
        return None
    return table.bound_from(normalised(expected.source), mount)
