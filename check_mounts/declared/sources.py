"""Whether a mount has the declared source: an export, a device, a bound directory. Pure."""

from __future__ import annotations

import ipaddress
import re

from check_mounts import filesystems
from check_mounts.declared.mounted import Mounted
from check_mounts.filesystems import is_fuse, source_words
from check_mounts.model import ExpectedMount, Mount
from check_mounts.naming.devices import device_names, tag_of
from check_mounts.selection import normalised
from check_mounts.text import printable
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol


def source_difference(expected: ExpectedMount, mount: Mount, table: Mounted) -> Optional[str]:
    """How the source of a mount differs, in words; None if it does not, or not certainly."""
    if expected.source is None:
        return None
    if expected.is_bind:
        return _bind_difference(normalised(expected.source), mount, table) if expected.source.startswith(b"/") else None
    if same_source(expected, mount, table) is not False:
        return None
    there, declared = (
        source_words(mount.source, mount.fs_type),
        source_words(expected.source, expected.fs_type or mount.fs_type),
    )
    return f"source is {there}, expected {declared}"


def same_source(expected: ExpectedMount, mount: Mount, table: Mounted) -> Optional[bool]:
    """Is the source the declared one? None if that is not certain."""
    source = expected.source
    if (
        source is None
        or source in (b"none", b"nodev", b"-", mount.source)
        or source.rstrip(b"/") == mount.source.rstrip(b"/")
    ):
        return True
    names_device = bool(device_names(source))
    if _is_root_of_another_name(source, mount):
        return None
    if filesystems.traits(mount.fs_type).sourceless:
        plain = names_device or _EXPORT.fullmatch(source) or source.startswith(b"//")
        return None if not plain or expected.fs_type == mount.fs_type else False
    if b"loop" in expected.options or any(option.startswith(b"loop=") for option in expected.options):
        return None
    if source.startswith(b"/") and not source.startswith((b"//", b"/dev/")):
        return None  # a file on a loop device
    if not (names_device or filesystems.keeps_source(expected.fs_type, mount)):
        return None if is_fuse(mount) else _disk_for_server(source, mount)
    protocol = filesystems.protocol(mount)
    if protocol is Protocol.NFS:
        return _same_export(source, mount)
    if protocol is Protocol.SMB:
        return _same_share(source, mount)
    if names_device:
        return table.devices.same(source, mount)
    if protocol in (Protocol.CEPH, Protocol.LUSTRE):
        return _same_tree(source, mount)
    if is_fuse(mount):
        return _same_fuse(source, mount)
    if filesystems.traits(mount.fs_type).named:
        return False
    return _disk_for_server(source, mount)


def _disk_for_server(source: bytes, mount: Mount) -> Optional[bool]:
    """False if a server is declared and a local disk is mounted; else None, not certain."""
    served = _EXPORT.fullmatch(source) or source.startswith(b"//")
    return False if served and mount.source.startswith(b"/dev/") else None


_EXPORT = re.compile(rb"(\[[^\]/]+\]|[^:/\[\]]+):(/.*)", re.DOTALL)


def _same_host(one: bytes, other: bytes, mount: Mount) -> bool:
    """Do two names stand for one server?

    They may be equal, as words or as addresses, or one may be the address that the kernel shows."""
    one, other = (host.strip(b"[]").lower() for host in (one, other))
    address = (mount.super_option(b"addr") or b"").lower()
    if one == other or _address(one) in (_address(other), _address(address)):
        return True
    # A name with its domain equals the name without it. Only DNS could say which name belongs to
    # which address.
    if isinstance(_address(one), bytes) and isinstance(_address(other), bytes):
        return one.startswith(other + b".") or other.startswith(one + b".")
    return isinstance(_address(one), bytes)


def _address(host: bytes) -> object:
    """An address in a form that can be compared; a name as it is.

    IPv6 addresses have many spellings."""
    try:
        return ipaddress.ip_address(host.decode("ascii").partition("%")[0])
    except ValueError:
        return host


def _slashes(path: bytes) -> bytes:
    """A path on a server without doubled and trailing slashes."""
    return re.sub(rb"/+", b"/", path).rstrip(b"/") or b"/"


def _same_export(source: bytes, mount: Mount) -> Optional[bool]:
    """NFS: ``host:/path``; mount.nfs turns ``nfs://host/path`` into that."""
    url = re.fullmatch(rb"nfs://([^/:]+|\[[^\]/]+\])(?::\d*)?(/.*)", source, re.DOTALL)
    ours, theirs = url or _EXPORT.fullmatch(source), _EXPORT.fullmatch(mount.source)
    if ours is None or theirs is None:
        return False if source.startswith((b"/dev/", b"//")) or tag_of(source) else None
    # One of several servers with the same content is mounted (host1,host2:/path).
    same = any(_same_host(host, theirs[1], mount) for host in ours[1].split(b","))
    return same and _slashes(ours[2]) == _slashes(theirs[2])


def _share(source: bytes) -> Optional[tuple[bytes, bytes, bytes]]:
    """``//user@server/share/path`` or ``\\\\server\\share`` -> server, share, path in the share."""
    parts = source.replace(b"\\", b"/").split(b"/", 4)
    if len(parts) < 4 or parts[0] or parts[1] or not parts[3]:
        return None
    return parts[2].rpartition(b"@")[2], parts[3].lower(), _slashes(parts[4] if len(parts) > 4 else b"").strip(b"/")


def _same_share(source: bytes, mount: Mount) -> Optional[bool]:
    """CIFS: ``//server/share/path``.

    Mounts of two directories of a share may have one superblock, whose source is that of the first
    mount; then the root of the mount shows which directory it is."""
    ours, theirs = _share(source), _share(mount.source)
    if ours is None or theirs is None:
        return False if source.startswith(b"/dev/") or tag_of(source) or _EXPORT.fullmatch(source) else None
    if not _same_host(ours[0], theirs[0], mount) or ours[1] != theirs[1]:
        return False
    return ours[2] == theirs[2] or ours[2] == mount.root.strip(b"/")


def _same_fuse(source: bytes, mount: Mount) -> Optional[bool]:
    """FUSE: only a few daemons show the source that they were given; for others, None."""
    protocol = filesystems.protocol(mount)
    if protocol not in (Protocol.SSH, Protocol.GLUSTER) and not source.startswith(b"sshfs#"):
        return None
    ours = source.partition(b"#")[2] if source.startswith(b"sshfs#") else source
    if b":" not in ours or b":" not in mount.source:
        return None
    (host, _, path), (their_host, _, their_path) = ours.partition(b":"), mount.source.partition(b":")
    # A volume may have a slash before it, and any of its servers may be named.
    if protocol is Protocol.GLUSTER:
        return path.strip(b"/") == their_path.strip(b"/")
    return host.lower() == their_host.lower() and (
        path == their_path or path.rstrip(b"/") == their_path.rstrip(b"/") != b""
    )


def _same_tree(source: bytes, mount: Mount) -> Optional[bool]:
    """Ceph and Lustre: mount helpers spell the servers in another way, but keep the path.

    ``mon1,mon2:/path`` becomes ``user@fsid.fsname=/path`` (mount.ceph since Ceph 17),
    ``mgs:/fsname`` becomes ``10.0.0.1@tcp:/fsname``."""
    ours, theirs = (re.search(rb"[:=](/.*)\Z", each, re.DOTALL) for each in (source, mount.source))
    return None if ours is None or theirs is None else _slashes(ours[1]) == _slashes(theirs[1])


# Placeholders for the root filesystem. Some stay until the kernel or the initramfs has found it,
# some stay for good: root= of kernels that boot over the network
# (Documentation/admin-guide/nfs/nfsroot.rst, filesystems/cifs/cifsroot.rst), live images, overlays
# over it.
_ROOTS = frozenset(
    b"""/dev/nfs /dev/cifs /dev/root /dev/ram /dev/live rootfs root nfsroot none overlay overlayroot
    overlayfs aufs airootfs cow /cow live-rw tmpfs""".split()
)
_ROOT_PREFIXES = (b"/dev/ram", b"/dev/zram", b"/dev/loop", b"/dev/mapper/live-", b"overlayfs:")


def _is_placeholder(source: bytes) -> bool:
    return source in _ROOTS or source.startswith(_ROOT_PREFIXES)


def _is_root_of_another_name(source: bytes, mount: Mount) -> bool:
    """Is it `/`, and one of the two names only a placeholder?

    `/dev/root` in the table is a placeholder, but the number of its device can be compared."""
    if mount.mount_point != b"/":
        return False
    return _is_placeholder(source) or (
        _is_placeholder(mount.source) and not (mount.source == b"/dev/root" and device_names(source))
    )


def _bind_difference(directory: bytes, mount: Mount, table: Mounted) -> Optional[str]:
    """How a bind mount shows another directory than declared, in words; None if it does not.

    It must be on the device of the mount that holds the directory, and its root must be the
    directory's path on that filesystem."""
    holder = table.bound_from(directory, mount)
    if holder is None or filesystems.is_trigger(holder):
        return None
    rest = directory[len(holder.mount_point.rstrip(b"/")) :]
    root = (holder.root.rstrip(b"/") + rest).rstrip(b"/") or b"/"
    if (mount.device, mount.root) == (holder.device, root):
        return None
    if mount.device != holder.device and _may_be_below(mount, holder):
        return None
    if mount.device != holder.device:
        there, declared = (source_words(each.source, each.fs_type) for each in (mount, holder))
        return f"it shows {printable(mount.root)} of {there}, expected {printable(root)} of {declared}"
    return f"it shows {printable(mount.root)}, expected {printable(root)} (bound from {printable(directory)})"


def _may_be_below(mount: Mount, holder: Mount) -> bool:
    """May the mount show a filesystem that was mounted automatically below ``holder``?

    It may have expired since. NFS mounts exports below exports in this way, CIFS with DFS, ZFS with
    snapshots; their sources are below the source of ``holder``."""
    if all(filesystems.traits(each.fs_type).pool for each in (mount, holder)):
        return mount.source.startswith(holder.source + b"@")
    protocol = filesystems.protocol(mount)
    alike = protocol is filesystems.protocol(holder) and protocol in (Protocol.NFS, Protocol.SMB)
    return alike and mount.source.startswith(holder.source.rstrip(b"/") + b"/")
