"""The mount table, prepared for the comparison with declarations. Pure."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Sequence

from check_mounts import filesystems
from check_mounts.declared.grace import Grace
from check_mounts.model import ExpectedMount, Mount
from check_mounts.mounttable import LONGEST_PATH, covered_by
from check_mounts.naming.devices import Compared, Devices
from check_mounts.selection import Glob, leads_over, normalised, unprivileged_owner
from check_mounts.typed import Optional, Union


class Mounted:
    """The mount table, prepared for the comparison with declarations.

    ``at``: mount point -> all mounts there. ``seen``: mount point -> the visible mount.
    ``container``: it is the table of a container. ``grace``: how much longer a declared
    mount may be missing, if it may."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        visible: Collection[int],
        devices: Union[Devices, Compared],
        ignored: Sequence[Glob],
        grace: Callable[[ExpectedMount], Optional[Grace]] = lambda expected: None,
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
        self.grace = grace
        self.container = self._is_container()
        self._types = collections.Counter(mount.fs_type for each in self.at.values() for mount in each)
        self._declared: dict[tuple[int, int], set[int]] = {}

    def _is_container(self) -> bool:
        """Is this the table of a container?

        As systemd does, take a read-only /sys for the mark of a container: systemd then skips the
        devices of fstab."""
        sys = self.seen.get(b"/sys")
        lxcfs = any(
            mount.fs_type == b"fuse.lxcfs" and point.startswith(b"/proc/") for point, mount in self.seen.items()
        )
        return lxcfs or (sys is not None and is_ro(sys))

    def users_cover(self, mount_point: bytes) -> Optional[Mount]:
        """The FUSE mount of an unprivileged user that covers a mount point, if there is one."""
        covers = covered_by(self._by_id.values())
        found = (covers.get(mount.mount_id) for mount in self.at.get(mount_point, ()))
        return next((cover for cover in found if cover is not None and unprivileged_owner(cover) is not None), None)

    def declare(self, expected: Iterable[ExpectedMount]) -> None:
        """Remember which filesystems are declared, by device.

        A bind mount shows a filesystem that another line declares."""
        for each in expected:
            mount = self.seen.get(each.mount_point)
            if mount is not None and not each.is_bind:
                self._declared.setdefault(mount.device, set()).add(mount.mount_id)

    def is_alone(self, mount: Mount) -> bool:
        """Is the mount the only declared one on its superblock?

        A device has one superblock however often it is mounted, and that keeps the options of the
        first mount. btrfs has one superblock for all subvolumes, and an undeclared subvolume may
        have been mounted first."""
        known = filesystems.traits(mount.fs_type)
        if known.subvolumes:
            return self._types[mount.fs_type] == 1
        return not known.device or len(self._declared.get(mount.device, ())) < 2

    def bound_from(self, directory: bytes, mount: Mount) -> Optional[Mount]:
        """The mount that holds ``directory``, from which ``mount`` is bound.

        It is the parent mount if a directory is bound on itself.

        None if it is not visible any more, because ``mount`` covers a directory above its own
        source.
        """
        if directory == mount.mount_point:
            return self._by_id.get(mount.parent_id)
        return None if leads_over(directory, mount.mount_point) else self.holder(directory)

    def is_ignored(self, option: bytes) -> bool:
        """Does a pattern say that this declared option does not count?"""
        return any(glob.match(option) for glob in self.ignored)

    def holder(self, path: bytes) -> Optional[Mount]:
        """The deepest visible mount that holds ``path``; only the text decides.

        None for a path that is too long for any system call."""
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
    """The mount that a declared bind mount takes its flags from; None if it is not visible."""
    if not expected.is_bind or expected.source is None or not expected.source.startswith(b"/"):
        return None
    return table.bound_from(normalised(expected.source), mount)
