"""Decides whether a declared device is the mounted one, by its name below ``/dev`` or its number.

A worker looks at the names; the comparison only reads its answers. The worker touches no name
outside ``/dev``, and enters no mount below ``/dev``."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Mapping

from check_mounts import filesystems
from check_mounts.model import ExpectedMount, Mount, MountIdentity
from check_mounts.system import walk
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol

_MAX_LINKS = 40  # MAXSYMLINKS in the kernel

_PLAIN_DEVICE = re.compile(rb"/dev/(sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+p?|mmcblk\d+p?)\d*\Z")


class Devices:
    """The names below ``/dev``, which a test may replace with ``dev``. Links are followed step by
    step, so nothing outside is touched. Only for a worker: a look may hang. ``root``: a descriptor
    of the root directory that ``/dev`` is in, None for our own."""

    def __init__(self, dev: str = "/dev", root: Optional[int] = None) -> None:
        self._dev, self._root = os.fsencode(dev), root

    def resolve(self, name: bytes) -> Optional[bytes]:
        """Follow the links of ``name``; return the name ``/dev/...`` that it leads to, None if it
        does not exist or its links lead out of /dev."""
        done: list[bytes] = []
        todo = name.split(b"/")[::-1]
        for _ in range(_MAX_LINKS * 4):
            if not todo:
                return b"/".join([b"", *done]) if done[:1] == [b"dev"] and len(done) > 1 else None
            part = todo.pop()
            if part == b"..":
                del done[-1:]
            elif part not in (b"", b"."):
                target = self._readlink(b"/".join([b"", *done, part]))
                if target is None:
                    return None
                if target.startswith(b"/"):
                    done.clear()
                todo += target.split(b"/")[::-1] if target else []
                done += [] if target else [part]
        return None

    def _readlink(self, name: bytes) -> Optional[bytes]:
        """Read a link; return its target. Empty if ``name`` is not a link, None if it does not
        exist or is not in /dev."""
        if name == b"/dev":
            return b""
        if not name.startswith(b"/dev/"):
            return None
        try:
            fd = self._open(name)
        except OSError:
            return None
        try:
            return os.readlink(b"", dir_fd=fd)
        except OSError as error:
            return b"" if error.errno == errno.ENOENT else None  # not a link (do_readlinkat in fs/stat.c)
        finally:
            os.close(fd)

    def _open(self, name: bytes) -> int:
        """Open a name below /dev without asking the device anything. Raises OSError, also if a
        mount is on the path: a user may have mounted a filesystem below /dev/shm."""
        flags = os.O_PATH | os.O_CLOEXEC
        if self._root is None:
            fd = os.open(self._dev, flags)
        else:
            fd = walk.open_without_symlinks(self._dev, flags, self._root)
        for part in name.split(b"/")[2:]:
            above = fd
            try:
                fd = walk.open_in_mount(above, part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            finally:
                os.close(above)
        return fd

    def number(self, name: bytes) -> Optional[tuple[int, int]]:
        """The major and minor number of the block device with a resolved name; None if it is not a
        block device."""
        try:
            fd = self._open(name)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None

    def is_named_in(self, directory: bytes, name: Optional[bytes], number: tuple[int, int]) -> bool:
        """Whether a link in this directory leads to the device with this resolved name or
        number."""
        links = (directory + b"/" + link for link in self._list_names(directory))
        found = [device for device in map(self.resolve, links) if device is not None]
        return name in found or (number[0] != 0 and any(self.number(device) == number for device in found))

    def _list_names(self, directory: bytes) -> list[bytes]:
        try:
            fd = self._open(directory)
        except OSError:
            return []
        try:
            listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                return sorted(map(os.fsencode, os.listdir(listing)))
            finally:
                os.close(listing)
        except OSError:
            return []
        finally:
            os.close(fd)

    def same(self, source: bytes, mount: Mount) -> Optional[bool]:
        """Whether the declared device is the mounted one; None if that is not certain."""
        return _is_same_device(source, mount, self)


class Compared:
    """The answers of :meth:`Devices.same`, by source and mount."""

    def __init__(self, known: Mapping[tuple[bytes, MountIdentity], Optional[bool]]) -> None:
        self._known = known

    def same(self, source: bytes, mount: Mount) -> Optional[bool]:
        """Whether the declared device is the mounted one; None if that is not certain, or if no
        worker has looked."""
        return self._known.get((source, mount.identity))


def to_be_compared(expected: Iterable[ExpectedMount], mounts: Iterable[Mount]) -> list[tuple[bytes, Mount]]:
    """The pairs of a declared device and a mount in its place that the text of the mount table does
    not decide."""
    at: dict[bytes, list[Mount]] = {}
    for mount in mounts:
        at.setdefault(mount.mount_point, []).append(mount)
    pairs: dict[tuple[bytes, MountIdentity], Mount] = {}
    for each in expected:
        if each.source is not None and device_names(each.source):
            pairs.update(
                {
                    (each.source, mount.identity): mount
                    for mount in at.get(each.mount_point, ())
                    if mount.source != each.source
                }
            )
    return [(source, mount) for (source, _), mount in pairs.items()]


_TAGS = {
    b"UUID": b"by-uuid",
    b"LABEL": b"by-label",
    b"PARTUUID": b"by-partuuid",
    b"PARTLABEL": b"by-partlabel",
    b"ID": b"by-id",
}


def tag_of(source: bytes) -> Optional[tuple[bytes, bytes]]:
    """``UUID="x"`` -> (b"UUID", b"x"); None for a source that is not a tag
    (blkid_parse_tag_string)."""
    name, equals, value = source.partition(b"=")
    if name not in _TAGS or not equals:
        return None
    return name, value[1:-1] if len(value) > 1 and value[:1] == value[-1:] and value[:1] in (b'"', b"'") else value


def _encoded(value: bytes) -> bytes:
    """A tag's value as udev writes it in the name of a link (encode_devnode_name in
    libudev-util.c)."""
    return re.sub(rb"[^0-9A-Za-z#+\-.:=@_\x80-\xff]", lambda match: b"\\x%02x" % ord(match.group()), value)


def device_names(source: bytes) -> list[bytes]:
    """The names below /dev that a declared source may stand for; empty if the source is not a
    device."""
    tag = tag_of(source)
    if tag is None:
        return [source] if source.startswith(b"/dev/") else []
    value = _encoded(tag[1])
    # The UUIDs of FAT and NTFS are in capitals, others are not; people write both in both ways.
    values = dict.fromkeys([value, value.lower(), value.upper()]) if b"UUID" in tag[0] else [value]
    return [b"/dev/disk/" + _TAGS[tag[0]] + b"/" + one for one in values if one]


def _find_first(names: Iterable[bytes], devices: Devices) -> Optional[tuple[bytes, bytes]]:
    """The first name that exists, and the name that it leads to."""
    return next(((name, found) for name in names if (found := devices.resolve(name)) is not None), None)


def _is_same_device(source: bytes, mount: Mount, devices: Devices) -> Optional[bool]:
    """Whether the declared block device is the mounted one, by name or by number; None if that is
    not certain."""
    found = _find_first(device_names(source), devices)
    if found is None:
        # The declared device has no node in /dev, so no number. But names that the kernel itself
        # gives can be compared. Not for `/`: the boot loader chooses its device, before fstab is
        # read. Nor for a filesystem on several devices: the table shows any one of them.
        is_one = not filesystems.traits(mount.fs_type).several_devices and mount.mount_point != b"/"
        return False if is_one and _are_plain(source, mount.source) else None
    name, ours = found
    number = devices.number(ours)
    theirs = devices.resolve(mount.source) if mount.source.startswith(b"/dev/") and _has_device(mount) else None
    # The number decides; a name may have moved to another device since.
    if number is not None and mount.device[0] != 0:
        return True if number == mount.device else _is_other(name, ours, theirs, mount, devices)
    if ours == theirs:
        return True
    if theirs is None:
        served = filesystems.protocol(mount) in (Protocol.NFS, Protocol.SMB)
        return False if served or filesystems.traits(mount.fs_type).sourceless else None
    return _is_other(name, ours, theirs, mount, devices)


def _has_device(mount: Mount) -> bool:
    """Whether its source is certainly a device. With other types the source is free text from the
    mount command, which for a FUSE mount any user may have given."""
    return mount.device[0] != 0 or filesystems.traits(mount.fs_type).device


def _is_other(name: bytes, ours: bytes, theirs: Optional[bytes], mount: Mount, devices: Devices) -> Optional[bool]:
    """False (not the same) for two devices that differ; None if they may hold one filesystem, or if
    a name may have moved from one to the other."""
    directory = os.path.dirname(name)
    if directory.startswith(b"/dev/disk/by-") and not devices.is_named_in(directory, theirs, mount.device):
        # Somebody has attached a clone, and udev has given the clone the link: the mounted device
        # has lost its name, but it is still mounted.
        return None
    known = filesystems.traits(mount.fs_type)
    if known.subvolumes:  # only one of the devices of a filesystem has the link
        by_uuid = [devices.is_named_in(b"/dev/disk/by-uuid", device, (0, 0)) for device in (ours, theirs)]
        return False if all(by_uuid) else None
    return None if known.several_devices else False


def _are_plain(one: bytes, other: bytes) -> bool:
    return bool(_PLAIN_DEVICE.match(one) and _PLAIN_DEVICE.match(other))
