"""Finds out where the server of a mount listens, from the options of its superblock.

Import budget: ``re``, ``socket``. Nothing here looks up a name or opens a socket.
Whatever the mount table says, the result is a value and not an exception."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from check_mounts import filesystems
from check_mounts.model import Mount
from check_mounts.typed import NamedTuple, Optional
from check_mounts.typetable import Protocol

# IANA's ports for nfs and microsoft-ds, the kernel's for 9P (P9_FD_PORT), and those of a Ceph
# monitor for its protocols 1 and 2.
NFS_PORT, CIFS_PORT, P9_PORT, CEPH_PORT, CEPH_PORT_2 = 2049, 445, 564, 6789, 3300

_LONGEST_PORT = 5
# Patterns are compiled when they are needed: compiling all of them takes longer than forking a
# worker.
_SCOPE = rb"[A-Za-z0-9_.:-]{1,15}\Z"  # an interface's name (IFNAMSIZ) or number
_ENDPOINT = rb"(?:\[([^]]*)\]|([^]\[:]*))(?::([0-9]+))?\Z"


class Server(NamedTuple):
    """The address at which the server of a mount listens. ``address`` is numeric; an IPv6 address
    may have a scope: ``fe80::1%eth0``.

    ``kind`` is ``nfs``, ``cifs``, ``9p`` or ``ceph``; ``version`` is the version of the RPC program
    NFS, 0 for the others."""

    address: str
    port: int
    kind: str
    version: int = 0


def server_of(mount: Mount) -> Optional[Server]:
    """The server of a mount, from the options of its superblock; None if it has no server, or none
    that TCP can reach.

    What we would hear in our network means nothing for a mount of a container that has another one.

    We believe these options only if the kernel itself writes them: those of FUSE come from a
    user."""
    if mount.seen_at is not None and not mount.seen_at.same_network:
        return None
    protocol = filesystems.protocol(mount)
    finder = None if protocol is None else _FINDERS.get(protocol)
    return None if finder is None else finder(mount)


def _nfs_server(mount: Mount) -> Optional[Server]:
    """The server of an NFS mount (nfs_show_mount_options in fs/nfs/super.c). Without ``port=``,
    version 3 has asked rpcbind for the port, which is 2049 nearly everywhere."""
    if mount.super_option(b"proto") not in (None, b"tcp", b"tcp6"):
        return None
    version = mount.super_option(b"vers") or (b"4" if mount.fs_type == b"nfs4" else b"3")
    number = int(version[:1]) if version[:1] in (b"2", b"3", b"4") else 4
    return _server(mount.super_option(b"addr"), mount.super_option(b"port"), "nfs", NFS_PORT, number)


def _cifs_server(mount: Mount) -> Optional[Server]:
    """The server of an SMB mount (cifs_show_address in fs/smb/client/cifsfs.c). ``rdma`` is not
    TCP. Not all kernels show a port other than 445."""
    if b"rdma" in mount.super_options:
        return None
    return _server(mount.super_option(b"addr"), mount.super_option(b"port"), "cifs", CIFS_PORT)


def _p9_server(mount: Mount) -> Optional[Server]:
    """The server of a 9p mount (p9_fd_show_options in net/9p/trans_fd.c). The address is the
    source; the kernel shows the port unless it is 564."""
    if mount.super_option(b"trans") != b"tcp":
        return None
    return _server(mount.source, mount.super_option(b"port"), "9p", P9_PORT)


def _ceph_server(mount: Mount) -> Optional[Server]:
    """The first monitor of a Ceph mount (mount.ceph(8)), from ``mon_addr=A:PORT/B:PORT`` or from a
    source ``A:PORT,B:PORT:/PATH``."""
    listed = mount.super_option(b"mon_addr")
    first = mount.source.partition(b":/")[0].partition(b",")[0] if listed is None else listed.partition(b"/")[0]
    match = re.match(_ENDPOINT, first)
    if match is None:
        return None
    port = CEPH_PORT if mount.super_option(b"ms_mode") in (None, b"legacy") else CEPH_PORT_2
    return _server(match[1] or match[2], match[3], "ceph", port)


_FINDERS: dict[Protocol, Callable[[Mount], Optional[Server]]] = {
    Protocol.NFS: _nfs_server,
    Protocol.SMB: _cifs_server,
    Protocol.P9: _p9_server,
    Protocol.CEPH: _ceph_server,
}


def _server(
    address: Optional[bytes], port: Optional[bytes], kind: str, default: int, version: int = 0
) -> Optional[Server]:
    host, number = _numeric(address), _port(port, default)
    return None if host is None or number is None else Server(host, number, kind, version)


def _numeric(address: Optional[bytes]) -> Optional[str]:
    """The address as inet_ntop(3) writes it, so that each server counts only once; None if it is
    not an address, or the unspecified one."""
    host, percent, scope = (address or b"").partition(b"%")
    family = socket.AF_INET6 if b":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(family, host.decode("ascii"))
    except (OSError, ValueError):
        return None
    if not any(packed) or (percent and (family == socket.AF_INET or not re.match(_SCOPE, scope))):
        return None
    return socket.inet_ntop(family, packed) + (percent + scope).decode("ascii")


def _port(value: Optional[bytes], default: int) -> Optional[int]:
    """The port; ``default`` if there is no value, or if it is 0, which means the same; None if it
    makes no sense."""
    if value is None:
        return default
    if not value.isdigit() or len(value) > _LONGEST_PORT or int(value) > 0xFFFF:
        return None
    return int(value) or default
