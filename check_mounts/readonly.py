"""Mounts that cannot be written to: which of the undeclared ones failed, and which deserve only a
remark. Pure.

After an error many filesystems stop writing by themselves: the superblock becomes ``ro`` while the
mount still says ``rw`` (errors=remount-ro). But this does not prove an error. Once an administrator
has remounted one mount of a superblock ro, its other mounts look the same, and a property of the
type or of the filesystem has the same effect.

This is not a part of the comparison with declarations, because a run without declarations needs it,
too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from check_mounts import filesystems
from check_mounts.filesystems import is_fuse, lacks_upper
from check_mounts.model import Mount
from check_mounts.text import printable
from check_mounts.typed import NamedTuple, Optional


class Unwritable(NamedTuple):
    """Why a mount cannot be written to, in words; ``fails``: it is a failure, not only a remark."""

    words: str
    fails: bool


def unwritable(
    mount: Mount, any_ro: bool, mounts: Callable[[], Iterable[Mount]], property_of: Callable[[Mount], Optional[str]]
) -> Optional[Unwritable]:
    """Why an undeclared mount of a normally writable type cannot be written to; None if it can.

    ``any_ro``: a mount that an administrator made read-only is a failure, too. ``mounts`` returns
    the mount table, ``property_of`` the property that makes a filesystem read-only without an
    error; both are called only where it matters."""
    why = read_only(mount)
    if why is None:
        return None
    if has_stopped(mount):
        return _stopped(mount, mounts, property_of)
    if not any_ro or not _is_storage(mount):
        return None
    if b"ro" not in mount.options:
        return Unwritable(why, True)  # shut down
    cause = _by_its_type(mount) or property_of(mount)
    return (
        Unwritable("mounted ro, which nobody declared", True)
        if cause is None
        else Unwritable(f"mounted ro; {cause}", False)
    )


def has_stopped(mount: Mount) -> bool:
    """Is the mount rw, but its superblock read-only?"""
    return b"ro" not in mount.options and (b"ro" in mount.super_options or b"emergency_ro" in mount.super_options)


def _stopped(
    mount: Mount, mounts: Callable[[], Iterable[Mount]], property_of: Callable[[Mount], Optional[str]]
) -> Unwritable:
    if b"emergency_ro" in mount.super_options:  # only an error sets it
        return Unwritable("mounted rw, but stopped after an error (emergency_ro)", True)
    cause = _by_its_type(mount) or _by_an_administrator(mount, mounts()) or property_of(mount)
    if cause is None:
        return Unwritable("mounted rw, but its superblock is read-only, as after an error", True)
    return Unwritable(f"mounted rw, but its superblock is read-only; {cause}", False)


def _by_its_type(mount: Mount) -> Optional[str]:
    if filesystems.traits(mount.fs_type).pool:
        return "it is a snapshot" if filesystems.is_snapshot(mount) else "a property of the dataset may be the cause"
    if has_stopped(mount) and not filesystems.traits(mount.fs_type).stops_writing:
        return f"an error does not make {printable(mount.fs_type)} read-only"
    return None


def _by_an_administrator(mount: Mount, mounts: Iterable[Mount]) -> Optional[str]:
    for other in mounts:
        if other.device == mount.device and other.mount_id != mount.mount_id and b"ro" in other.options:
            return f"{printable(other.mount_point)} shares that superblock and is mounted ro"
    return None


def _is_storage(mount: Mount) -> bool:
    """Is the mount's filesystem, on a disk or a server, read-only?

    A read-only tmpfs, or a read-only mount of a writable filesystem, is intended: ostree's /sysroot
    (coreos/fedora-coreos-tracker#1232), a volume of Kubernetes."""
    known = filesystems.traits(mount.fs_type)
    if known.in_memory or known.upper:
        return False
    return b"ro" in mount.super_options or (mount.root == b"/" and b"ro" not in mount.options)


def is_normally_writable(mount: Mount) -> bool:
    """Is a mount of this type writable unless it is declared ro?

    An overlay without an upper layer, and a FUSE daemon, may rightly be read-only."""
    known = filesystems.traits(mount.fs_type)
    if known.upper:
        return not lacks_upper(mount)
    if known.pseudo or known.image or known.trigger:
        return False
    # This option makes FAT read-only (fat_fill_super in fs/fat/inode.c).
    if b"nfs=nostale_ro" in mount.super_options:
        return False
    return not is_fuse(mount) or filesystems.is_on_disk(mount)


# ext4 stops writing after an error and shows one of these words (EXT4_FLAGS_EMERGENCY_RO,
# EXT4_FLAGS_SHUTDOWN) while it is still `rw`.
STOPPED = (b"emergency_ro", b"shutdown")
_SIGNS = frozenset({b"ro", *STOPPED})


def why_read_only(mount: Mount) -> Optional[str]:
    """How a mount is read-only, in words; None if it is not. Options count as whole words."""
    if _SIGNS.isdisjoint(mount.super_options) and b"ro" not in mount.options:
        return None
    if mount.is_read_only:
        return "mounted ro"
    for word in STOPPED:
        if word in mount.super_options:
            return f"mounted rw, but stopped ({printable(word)})"
    return None


def read_only(mount: Mount) -> Optional[str]:
    """How a mount of a normally writable type is read-only, in words; None if it is not."""
    return why_read_only(mount) if is_normally_writable(mount) else None
