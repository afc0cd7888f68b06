"""What a mount is, in labels that can be compared across the hosts of a fleet: its file server, the
version of its protocol, and its options without those that differ from host to host. Pure."""

from __future__ import annotations

import functools

from check_mounts import selection, text
from check_mounts.model import Mount
from check_mounts.typed import NamedTuple

# Options whose values come from the host, the connection or the moment, and not from the mount's
# declaration. By the names that the kernel shows in /proc/self/mountinfo.
_OF_THE_HOST = frozenset(
    b"""addr clientaddr mountaddr mountport mountproto srcaddr
    username user cruid name fsid mon_addr secret key
    fd rfdno wfdno pgrp pipe_ino seclabel
    lowerdir lowerdir+ datadir+ upperdir workdir
    subvolid size nr_blocks nr_inodes stripe sunit swidth logbsize""".split()
)
# Their value has a label of its own.
_VERSIONS = (b"vers", b"version", b"nfsvers")
# The host itself: another server on each host, as of EFS and of tunnels.
_ITSELF = ("127.", "localhost", "[::1]")


class Inventory(NamedTuple):
    """``fileserver`` is empty for a local mount, and for a server at an address of the host itself.
    ``version`` is empty where the mount table does not show one. ``options`` are sorted."""

    fileserver: str
    version: str
    options: str


def of(mount: Mount) -> Inventory:
    """The inventory of one mount."""
    version = next((found for name in _VERSIONS if (found := mount.super_option(name)) is not None), b"")
    return Inventory(_fileserver(mount), text.printable(version), _options(mount.options, mount.super_options))


# Thousands of mounts may have the same options.
@functools.lru_cache(maxsize=1024)
def option_words(option: bytes) -> str:
    """An option of a superblock, fit for any output."""
    return text.printable(text.without_secrets(option))


@functools.lru_cache(maxsize=1024)
def _options(of_mount: tuple[bytes, ...], of_superblock: tuple[bytes, ...]) -> str:
    options = {*of_mount, *of_superblock}
    if b"ro" in options:  # of a read-only mount, the filesystem may say rw
        options.discard(b"rw")
    kept = [each for each in options if not _is_the_hosts(each)]
    return ",".join(sorted(map(option_words, kept)))


def _is_the_hosts(option: bytes) -> bool:
    name = option.partition(b"=")[0]
    return name in _OF_THE_HOST or name in _VERSIONS


def _fileserver(mount: Mount) -> str:
    server = selection.server(mount)
    if server is None:
        return ""
    shown = text.printable(server)
    return "" if shown.startswith(_ITSELF) or shown.endswith("@lo") else shown
