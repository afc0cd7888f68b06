"""What the clients of network filesystems tell of their servers below /proc, mounted or not. Pure.

Import budget: ``re``, ``socket``."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable

from check_mounts.typed import NamedTuple
from check_mounts.using.model import Device

_SHARE = re.compile(rb"^\s*\d+\) (?:Tree: )?(\\\\[^\n]*?) Mounts: \d+", re.MULTILINE)


class Volume(NamedTuple):
    """An NFS superblock: its device, and its server as people wrote it, or by address."""

    device: Device
    server: bytes


def nfs_volumes(servers: bytes, volumes: bytes) -> list[Volume]:
    """The superblocks that /proc/net/nfsfs shows (nfs_server_list_show and nfs_volume_list_show in
    fs/nfs/client.c): version, address, port, uses, name of each server; version, address, port,
    device, FSID of each superblock. One that is not ready has the device 0:0."""
    names: dict[tuple[bytes, ...], bytes] = {}
    for line in servers.split(b"\n"):
        fields = line.split(None, 4)
        if len(fields) == 5 and fields[0] != b"NV":
            names.setdefault(tuple(fields[:3]), fields[4])
    found = []
    for line in volumes.split(b"\n"):
        fields = line.split()
        major, colon, minor = (fields[3] if len(fields) > 3 else b"").partition(b":")
        if colon and major.isdigit() and minor.isdigit() and minor != b"0":
            server = names.get(tuple(fields[:3])) or _address(fields[1])
            found.append(Volume((int(major), int(minor)), server))
    return found


def _address(words: bytes) -> bytes:
    """An address that is written in hexadecimal digits (RPC_DISPLAY_HEX_ADDR)."""
    try:
        packed = bytes.fromhex(words.decode("ascii"))
        family = {4: socket.AF_INET, 16: socket.AF_INET6}[len(packed)]
        return socket.inet_ntop(family, packed).encode()
    except (ValueError, KeyError):
        return words


def smb_shares(data: bytes) -> list[bytes]:
    """The shares that /proc/fs/cifs/DebugData shows (cifs_debug_tcon in cifs_debug.c), as mount
    tables name them: ``//server/share``. Those for the client's own calls are left out."""
    shares = [match[1].replace(b"\\", b"/") for match in _SHARE.finditer(data)]
    return [share for share in dict.fromkeys(shares) if not share.upper().endswith(b"/IPC$")]


def unlisted_shares(shares: Iterable[bytes], sources: Iterable[bytes]) -> list[bytes]:
    """The shares that no source of a mount names. Case does not count in the name of a server or of
    a share, and a source may have a directory below the share."""
    listed = {b"/".join(source.lower().split(b"/")[:4]) for source in sources}
    return [share for share in shares if share.lower() not in listed]
