"""The worker that looks for ghosts: filesystems in no mount table, and the processes that have
something of mounts in no table.

No ghost is asked. The kernel tells which mount a descriptor is on (``mnt_id`` in fdinfo). For a
working directory, a root and a program it tells nothing but a text, and that of a mount that was
unmounted lazily begins at the mount's own root directory, as if it were ours (``prepend_path`` in
fs/d_path.c). So such a link is opened with O_PATH, to read the ``mnt_id`` of that descriptor. This
asks no server but that of a 9p filesystem: where the kernel knows 9p, links are left alone.

Import budget: ``collections``, ``os``, ``re``; worker, tables, clients, procfs."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterator, Sequence

from check_mounts import backings
from check_mounts.typed import NamedTuple, Optional
from check_mounts.using import clients, namespaces, procfs
from check_mounts.using.model import Device
from check_mounts.using.procfs import Stat
from check_mounts.using.tables import Tables
from check_mounts.using.worker import Worker

_LINKS = (("cwd", "stands in it"), ("root", "has its root in it"), ("exe", "runs a program of it"))
_OPEN = "has it open"
_BACKINGS, _CONNECTIONS = "/sys/class/bdi", "/sys/fs/fuse/connections"
# How many descriptors of a process are looked at, and how many of all processes of a user who is
# not root: with millions of them a user would use up the time of each search, so that no ghost of
# the host was told.
_MOST_DESCRIPTORS, _MOST_OF_A_USER = 200_000, 20_000
# The parent of all kernel threads, and of the programs that the kernel starts (kernel/umh.c).
_KTHREADD = 2
# Files of the kernel's own mounts, which are in no table; newer kernels give these mounts the ID 0.
# Their texts begin like paths (mm/shmem.c, mm/hugetlb.c, fs/aio.c, drivers/dma-buf, drivers/gpu).
_INTERNAL = re.compile(
    r"/(memfd:.*|SYSV[0-9a-f]{8}|dev/zero|\[aio\]|anon_hugepage|i915|drm mm object|secretmem|dmabuf:.*)"
    r"( \(deleted\))?\Z",
    re.DOTALL,
)
_DELETED = re.compile(r"/[^/]* \(deleted\)\Z", re.DOTALL)
_LOCK = re.compile(rb"^lock:.* ([0-9a-f]+):([0-9a-f]+):\d+ ", re.MULTILINE)


class Piece(NamedTuple):
    """What a process has of a mount in no table: how, the mount's ID; the device, if a lock on the
    file tells it. ``bare``: it may be a mount that never was in a table (open_tree(2), fsmount(2)):
    its root directory, opened with O_PATH; or one that is in a namespace, but hidden below its root
    (the first root directory of all). ``doubtful``: it may be
    one of the kernel's own."""

    how: str
    mount_id: int
    device: Optional[Device]
    bare: bool
    doubtful: bool


class Seeker(Worker):
    """Sends, besides what :class:`Worker` sends as ``refused`` and ``tables``:

    - ``pieces``: an identity, and what a process has of mounts in no table;
    - ``listed``: the IDs of those of them that are in the table of a namespace without processes;
    - ``unlisted``: the devices of NFS and FUSE filesystems in no table, each with its family and
      its server; the types of others, each with their number and names of shares;
    - ``unseen``: how many mount namespaces cannot be seen;
    - ``links``: whether links were read;
    - ``done``."""

    def work(self) -> None:
        """Look at all processes."""
        self._tables, self._nfs = Tables(), dict[Device, bytes]()
        self._nets: set[str] = set()
        self._loose: set[int] = set()
        self._looked_at: dict[int, int] = collections.Counter()
        self._at = 0
        pids = procfs.pids()
        for pid in pids:
            self._step(pid, False)
            self._learn(pid)
        if self._task.always or backings.unlisted(_names(), self._tables.mounts):
            for pid in pids:  # also if a worker before this one has hung: what it had seen is lost with it
                self._step(pid, True)
                self._look_at(pid)
            self._conclude()
        self._send(("done",))

    def _learn(self, pid: int) -> None:
        if self._is_careful(pid):
            return
        self._tables.learn(pid)
        try:
            net = os.readlink(f"/proc/{pid}/ns/net")
        except OSError:
            return
        if net not in self._nets:
            self._nets.add(net)
            found = (_content(f"/proc/{pid}/net/nfsfs/{name}") for name in ("servers", "volumes"))
            self._nfs.update(clients.nfs_volumes(*found))

    def _look_from_afar(self, pid: int, process: int) -> None:
        self._send(("afar", pid))

    def _look_into(self, pid: int, process: int, stat: Stat) -> None:
        self._tables.learn_threads(pid)
        self._at = pid
        if stat.parent == _KTHREADD:  # a helper of the kernel may be on a mount of the kernel's own
            return
        alive = procfs.first_alive(process) if stat.state in ("Z", "X") else process
        if alive < 0:
            return
        try:
            pieces = list(self._pieces(alive))
        except PermissionError:
            self._send(("refused", pid))
            return
        finally:
            if alive != process:
                os.close(alive)
        if not pieces:
            return
        listed = self._tables.ids_of(pid)  # it may be new
        pieces = [piece for piece in pieces if piece.mount_id not in listed]
        if pieces:
            identity = self._identity(pid, process, stat, namespaces.key_of(pid))
            self._send(("pieces", identity, [tuple(piece) for piece in dict.fromkeys(pieces)]))
            self._loose.update(piece.mount_id for piece in pieces)

    def _pieces(self, process: int) -> Iterator[Piece]:
        """What a process has of mounts in no table. Raises PermissionError."""
        for name, how in _LINKS if self._opens else ():
            mount_id = procfs.mount_of_link(process, name)
            if not mount_id or mount_id in self._tables.ids:
                continue
            path = procfs.link(process, name)
            if not _INTERNAL.match(path):
                yield Piece(how, mount_id, None, name == "root" and path == "/", False)
        try:
            links = procfs.open_directory("fd", process)
        except PermissionError:
            raise
        except OSError:  # it has ended
            return
        try:
            with procfs.closing(links), procfs.closing(procfs.open_directory("fdinfo", process)) as infos:
                yield from self._of_descriptors(links, infos, self._numbers(process, links))
        except OSError:  # it has ended
            return

    def _numbers(self, process: int, links: int) -> Sequence[str]:
        """The descriptors of a process that are looked at. Raises OSError."""
        uid = procfs.uid_of(procfs.content(process, "status"))
        most = _MOST_OF_A_USER - self._looked_at[uid] if uid else _MOST_DESCRIPTORS
        numbers = os.listdir(links) if most > 0 else ()
        self._looked_at[uid] += len(numbers[:most])
        if most <= 0 or len(numbers) > most:
            self._send(("afar", self._at))
        return numbers[:most]

    def _of_descriptors(self, links: int, infos: int, numbers: Sequence[str]) -> Iterator[Piece]:
        directory = os.readlink(f"/proc/self/fd/{links}").partition("/proc/")[2]
        for number in numbers:
            path = procfs.link(links, number)
            if path.startswith("mnt:["):
                self._tables.note_kept(path, f"{directory}/{number}")
            piece = self._of_descriptor(path, infos, number)
            if piece is not None:
                yield piece

    def _of_descriptor(self, path: str, infos: int, number: str) -> Optional[Piece]:
        if not path.startswith("/") or _INTERNAL.match(path):
            return None
        data = procfs.content(infos, number)
        mount_id = _field(data, b"mnt_id:", 10)
        if not mount_id or mount_id in self._tables.ids:
            return None
        lock = _LOCK.search(data)
        device = None if lock is None else (int(lock[1], 16), int(lock[2], 16))
        bare = path == "/" and bool((_field(data, b"flags:", 8) or 0) & os.O_PATH)
        return Piece(_OPEN, mount_id, device, bare, _DELETED.match(path) is not None)

    def _conclude(self) -> None:
        """Send what is in no table still: it may have been mounted or unmounted meanwhile."""
        self._tables.read_again()
        for pid in procfs.pids():  # a namespace may be new
            self._step(pid, True)
            self._learn(pid)
        names, shares = _names(), clients.smb_shares(_content("/proc/fs/cifs/DebugData", 1 << 20))
        left = backings.unlisted(names, self._tables.mounts)
        described = [self._described(device) for device in sorted(left.devices)]
        if (left or self._loose) and self._tables.unseen:
            self._tables.enter_unseen()
            left = backings.unlisted(names, self._tables.mounts)
            self._send(("listed", sorted(self._loose & self._tables.ids)))
        devices = [each for each in described if each[0] in left.devices]
        shares = clients.unlisted_shares(shares, self._tables.shares)
        self._send(("unlisted", devices, sorted(left.counts.items()), shares))
        self._send(("unseen", self._tables.unseen))
        self._send(("tables", self._tables.missing))
        self._send(("links", self._opens))

    def _described(self, device: Device) -> tuple[Device, str, bytes, Optional[int]]:
        """A superblock in no table: its device, family, server and owner."""
        if device in self._nfs:
            return device, "NFS", self._nfs[device], None
        if device[0] == 0 and not os.path.isdir(f"{_CONNECTIONS}/{_number(device)}") and _list(_CONNECTIONS):
            return device, "NFS", b"", None  # of a network namespace that we do not see
        try:
            # Its owner is the user of ``user_id=`` (fuse_ctl_add_dentry in fs/fuse/control.c).
            return device, "FUSE", b"", os.stat(f"{_CONNECTIONS}/{_number(device)}").st_uid
        except OSError:  # no fusectl is mounted
            return device, "FUSE", b"", None


def _names() -> list[str]:
    return _list(_BACKINGS)


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _number(device: Device) -> int:
    """The name of a FUSE connection: the device as the kernel itself numbers it (MKDEV)."""
    return device[0] << 20 | device[1]


def _field(data: bytes, name: bytes, base: int) -> Optional[int]:
    at = data.find(name)
    word = data[at + len(name) : data.find(b"\n", at)].strip() if at >= 0 else b""
    return int(word, base) if word.isdigit() else None


def _content(path: str, most: int = 1 << 16) -> bytes:
    """The content of a file of procfs; empty if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while len(data) < most and (more := os.read(fd, most)):
            data += more
        return data
    except OSError:
        return b""
    finally:
        os.close(fd)
