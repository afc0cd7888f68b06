"""The mounts of all mount namespaces whose processes we see: which IDs they have, and which mount a
path in one of them is on.

A mount has one ID on the whole host, and its superblock has one device in all namespaces. So the
ID of a descriptor's mount (fdinfo) tells the superblock, wherever the process is; st_dev does not,
with btrfs and overlay. The links of a working directory, a root and a program have no ID that can
be read without opening them, even if only with O_PATH; where the kernel knows 9p, that may hang
(see procfs.knows_9p). There their text decides, with the table of their namespace: the last mount
at the innermost mount point on the way counts, as it does for a look-up.

Import budget: ``os``; tablelines."""

from __future__ import annotations

import os
from collections.abc import Iterable

from check_mounts import tablelines
from check_mounts.typed import Optional
from check_mounts.using.model import Device

# How many tables are read at most, and how large they may be together, in bytes.
_MOST, _LARGEST = 5000, 256 << 20


class Namespace:
    """The mounts that processes see which share a mount namespace and a root directory.

    ``devices`` are those of all. ``all``: the path of each, its ID and its device. Paths are those
    that links show, which do not know of a process's own root directory."""

    def __init__(self, data: bytes, root: str) -> None:
        self.all: list[tuple[str, int, Device]] = []
        above = "" if root == "/" else root
        for line in data.split(b"\n"):
            fields = line.split(b" ", 5)
            if len(fields) == 6:
                major, _, minor = fields[2].partition(b":")
                point = os.fsdecode(tablelines.unescaped(fields[4]))
                path = above + point if point != "/" else above or "/"
                self.all.append((path, int(fields[0]), (int(major), int(minor))))
        self.devices = frozenset(device for _, _, device in self.all)
        self._topmost = {path: mount_id for path, mount_id, _ in self.all}

    def mount_of(self, path: str) -> Optional[int]:
        """The ID of the mount that a path is on, by its text."""
        while path not in self._topmost:
            if path in ("/", ""):
                return None
            path = path[: path.rfind("/")] or "/"
        return self._topmost[path]


class Namespaces:
    """All tables, read once each. ``devices``: the ID of each wanted mount -> its device.
    ``places``: what the text of a link begins with if it may be on a wanted mount. ``missing``
    counts the tables that were not read, because there are too many."""

    def __init__(self, wanted: Iterable[Device]) -> None:
        self._wanted = frozenset(wanted)
        self._tables: dict[tuple[str, str], Namespace] = {}
        self._size = 0
        self.devices: dict[int, Device] = {}
        self.places: tuple[str, ...] = ()
        self.missing = 0

    def learn(self, pid: int) -> None:
        """Read the table of a process if no other one with the same namespace and root directory
        has given it. The process may have ended: then the next one gives it."""
        key = key_of(pid)
        if key is None or key in self._tables:
            return
        if len(self._tables) >= _MOST or self._size >= _LARGEST:
            self.missing += 1
            return
        data = _contents(f"/proc/{pid}/mountinfo")
        if data:
            self._size += len(data)
            self._tables[key] = table = Namespace(data, key[1])
            self._add(table)

    def of(self, key: Optional[tuple[str, str]]) -> Optional[Namespace]:
        """The mounts of a namespace, or at least those below a root directory in it: a process sees
        no others in its table, not even the mount that its root directory is on."""
        return None if key is None else self._tables.get((key[0], "/")) or self._tables.get(key)

    def _add(self, table: Namespace) -> None:
        places = set(self.places)
        for path, mount_id, device in table.all:
            if device in self._wanted:
                self.devices[mount_id] = device
                places.add(path)
        self.places = tuple(places)


def key_of(pid: int) -> Optional[tuple[str, str]]:
    """The mount namespace of a process and its root directory, by their links; None if they may not
    be read, or if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink(f"/proc/{pid}/root")
    except OSError:
        return None


def _contents(path: str) -> bytes:
    try:
        return tablelines.contents(path)
    except OSError:
        return b""
