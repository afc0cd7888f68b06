"""Mounts that nobody has declared and that cannot be written to: which are a failure, and which are
only remarked. Pure.

After an error many filesystems stop writing by themselves: the superblock becomes ``ro``, and the
mount goes on to say ``rw`` (errors=remount-ro). That look is no proof. An administrator who
remounts one of several mounts of a superblock gives it to the others, and so does a property of the
type or of the filesystem."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Optional

from check_mounts import filesystems
from check_mounts.filesystems import is_fuse, lacks_upper
from check_mounts.model import Mount
from check_mounts.text import printable


class Unwritable(NamedTuple):
    """What is read-only, in words: a failure, or only to be remarked."""

    words: str
    fails: bool


def unwritable(
    mount: Mount, any_ro: bool, mounts: Callable[[], Iterable[Mount]], property_of: Callable[[Mount], Optional[str]]
) -> Optional[Unwritable]:
    """Whether an undeclared mount refuses to be written to, though its type is normally writable.

    ``any_ro``: what an administrator has mounted read-only counts, too. ``mounts`` gives the mount
    table, ``property_of`` what makes a filesystem read-only without an error; both are asked only
    where it matters."""
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
    """Is it mounted rw, and its superblock read-only?"""
    return b"ro" not in mount.options and (b"ro" in mount.super_options or b"emergency_ro" in mount.super_options)


def _stopped(
    mount: Mount, mounts: Callable[[], Iterable[Mount]], property_of: Callable[[Mount], Optional[str]]
) -> Unwritable:
    if b"emergency_ro" in mount.super_options:  # only an error makes this of it
        return Unwritable("mounted rw, but stopped after an error (emergency_ro)", True)
    cause = _by_its_type(mount) or _by_an_administrator(mount, mounts()) or property_of(mount)
    if cause is None:
        return Unwritable("mounted rw, but its superblock is read-only, as after an error", True)
    return Unwritable(f"mounted rw, but its superblock is read-only; {cause}", False)


def _by_its_type(mount: Mount) -> Optional[str]:
    if filesystems.traits(mount.fs_type).pool:
        return "it is a snapshot" if filesystems.is_snapshot(mount) else "a property of the dataset may make it so"
    if has_stopped(mount) and not filesystems.traits(mount.fs_type).stops_writing:
        return f"{printable(mount.fs_type)} does not do that after an error"
    return None


def _by_an_administrator(mount: Mount, mounts: Iterable[Mount]) -> Optional[str]:
    for other in mounts:
        if other.device == mount.device and other.mount_id != mount.mount_id and b"ro" in other.options:
            return f"{printable(other.mount_point)} shares it and is mounted ro"
    return None


def _is_storage(mount: Mount) -> bool:
    """A filesystem as such, on a disk or a server. A tmpfs, and a mount that is ro of a filesystem
    that is rw, are somebody's intention: ostree's /sysroot (coreos/fedora-coreos-tracker#1232), a
    volume of Kubernetes."""
    known = filesystems.traits(mount.fs_type)
    if known.in_memory or known.upper:
        return False
    return b"ro" in mount.super_options or (mount.root == b"/" and b"ro" not in mount.options)


def is_normally_writable(mount: Mount) -> bool:
    """Without ``rw`` being said: an overlay without an upper layer, and a FUSE daemon, may rightly
    be read-only."""
    known = filesystems.traits(mount.fs_type)
    if known.upper:
        return not lacks_upper(mount)
    if known.pseudo or known.image or known.trigger:
        return False
    if b"nfs=nostale_ro" in mount.super_options:  # FAT makes itself read-only then (fat_fill_super in fs/fat/inode.c)
        return False
    return not is_fuse(mount) or filesystems.is_on_disk(mount)


# ext4 stops writing after an error and says so in these words (EXT4_FLAGS_EMERGENCY_RO, _SHUTDOWN)
# while still `rw`.
STOPPED = (b"emergency_ro", b"shutdown")


def why_read_only(mount: Mount) -> Optional[str]:
    """How a mount refuses to be written to, in words; None where it does not. The words of options
    are exact."""
    if b"ro" in mount.options or b"ro" in mount.super_options:
        return "mounted ro"
    for word in STOPPED:
        if word in mount.super_options:
            return f"mounted rw, but stopped ({printable(word)})"
    return None


def read_only(mount: Mount) -> Optional[str]:
    """Words where a mount without a declaration is read-only though its type is normally writable;
    None where all is well."""
    return why_read_only(mount) if is_normally_writable(mount) else None
