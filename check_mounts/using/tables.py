"""The mount tables of all namespaces whose processes we see, for a search for what is in none.

Import budget: ``os``, ``re``; tablelines, namespaces."""

from __future__ import annotations

import errno
import os
import re

from check_mounts import filesystems, mounttable, selection, tablelines
from check_mounts.model import Mount
from check_mounts.system import syscalls
from check_mounts.using import namespaces, procfs
from check_mounts.using.model import Device

# How many tables are read at most, and how large they may be together, in bytes.
_MOST, _LARGEST = 5000, 256 << 20
# The threads of all processes of which the namespace is asked for.
_MOST_THREADS = 50_000
# A bind mount of a namespace shows it as the root of the mount; any other root is a path.
_KEPT = re.compile(rb"^\d+ \d+ \S+ (mnt:\[\d+\]) ", re.MULTILINE)
SMB = (b"cifs", b"smb3")
_CLONE_NEWNS = 0x20000
# How many namespaces that no process shows are entered, and how many of them are kept open for
# that. A user may make a thousand, and must not hide by that what the host has.
_MOST_DOORS, _MOST_OPEN = 5000, 200


class Tables:
    """All tables, read once each. ``ids``: those of all mounts. ``mounts``: the device and the type
    of each. ``shares``: the sources of SMB mounts. ``missing`` counts those that were not read."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.mounts: set[tuple[Device, bytes]] = set()
        self.shares: set[bytes] = set()
        self.missing = 0
        self._known: dict[tuple[str, str], int] = {}
        # Mount namespaces: those of processes, those that are seen from their roots, and those that
        # a thread, a bind mount or a descriptor keeps; names below /proc that lead to those that
        # are not seen.
        self._used: set[str] = set()
        self._whole: set[str] = set()
        self._kept: set[str] = set()
        self._doors: dict[str, str] = {}
        self._size = self._threads = self._open = 0

    def learn(self, pid: int) -> None:
        """Read the table of a process if no other one with the same namespace and root directory
        has given it."""
        key = namespaces.key_of(pid)
        if key is None:
            return
        self._used.add(key[0])
        if key in self._known and (key[1] != "/" or key[0] in self._whole):
            return
        self._known[key] = pid
        if self._read(pid) and key[1] == "/":
            self._whole.add(key[0])
        else:
            self._hold(key[0], f"{pid}/ns/mnt")

    def read_again(self) -> None:
        """Read all tables again: what was mounted meanwhile is in one. Have all processes learnt
        again after this: the namespaces of those that have ended meanwhile do not count."""
        self._size = 0
        self._used.clear()
        for pid in self._known.values():
            self._read(pid)

    def _read(self, pid: int) -> bool:
        if len(self._known) > _MOST or self._size > _LARGEST:
            self.missing += 1
            return False
        try:
            data = tablelines.contents(f"/proc/{pid}/mountinfo")
        except OSError:
            return False
        self._size += len(data)
        self._kept.update(each.decode() for each in _KEPT.findall(data))
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            fields = line.split(b" ", 3)
            if len(fields) < 4 or not fields[0].isdigit():
                continue
            major, _, minor = fields[2].partition(b":")
            fs_type, _, rest = line.partition(b" - ")[2].partition(b" ")
            self.ids.add(int(fields[0]))
            self.mounts.add(((int(major), int(minor)), tablelines.unescaped(fs_type)))
            if fs_type in SMB:
                self.shares.add(tablelines.unescaped(rest.partition(b" ")[0]))

    def ids_of(self, pid: int) -> set[int]:
        """The IDs in the table of a process as it is now."""
        before, self.ids = self.ids, set()
        try:
            self._take(tablelines.contents(f"/proc/{pid}/mountinfo"))
        except OSError:
            pass
        now, self.ids = self.ids, before | self.ids
        return now

    def learn_threads(self, pid: int) -> None:
        """Note the namespaces of a process's threads: a thread may have one of its own."""
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            if len(threads) > 1 and self._threads < _MOST_THREADS:
                self._threads += len(threads)
                for thread in threads:
                    name = f"{pid}/task/{thread}/ns/mnt"
                    self.note_kept(os.readlink(f"/proc/{name}"), name)
        except OSError:
            pass

    def note_kept(self, namespace: str, name: str) -> None:
        """Note a mount namespace that a thread or a descriptor keeps; ``name``, below /proc, leads
        to it."""
        self._kept.add(namespace)
        self._hold(namespace, name)

    def _hold(self, namespace: str, name: str) -> None:
        if namespace not in self._whole and len(self._doors) < _MOST_DOORS:
            self._doors.setdefault(namespace, name)

    def _look_for_doors(self) -> None:
        """Open namespaces that bind mounts in our own namespace keep, where no mount on their paths
        can hang."""
        try:
            mounts = mounttable.read(mounttable.DEFAULT_PATH)[0]
        except OSError:
            return
        by_id = {mount.mount_id: mount for mount in mounts}
        for mount in mounts:
            name = os.fsdecode(mount.root)
            if mount.fs_type != b"nsfs" or name not in self._kept or name in self._whole or name in self._doors:
                continue
            above = by_id.get(mount.parent_id)
            while above is not None and above.mount_point != b"/" and not _may_hang(above):
                above = by_id.get(above.parent_id)
            if above is not None and not _may_hang(above):
                self._open_door(name, mount)

    def _open_door(self, namespace: str, mount: Mount) -> None:
        try:
            fd = os.open(mount.mount_point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        with procfs.closing(procfs.open_directory("/proc/self/fdinfo")) as infos:
            is_it = procfs.mount_id(infos, str(fd)) == mount.mount_id
        if is_it and self._open < _MOST_OPEN:
            self._open += 1
            self._hold(namespace, f"self/fd/{fd}")
        else:
            os.close(fd)

    def enter_unseen(self) -> None:
        """Read the tables of namespaces that no process shows from their roots, in there. After
        this, no path leads where it did before."""
        self._look_for_doors()
        proc = procfs.open_directory("/proc")
        for namespace, name in self._doors.items():
            if namespace in self._whole:
                continue
            try:
                with procfs.closing(_opened(proc, name, namespace)) as door:
                    syscalls.setns(door, _CLONE_NEWNS)
                table = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
                with procfs.closing(table):
                    self._take(tablelines.read_out(table))
            except OSError:
                continue
            self._whole.add(namespace)

    @property
    def unseen(self) -> int:
        """How many mount namespaces there are whose tables cannot be read from their roots: without
        a process, of a single thread, or of processes with other root directories only. What is in
        no table that we have read may be in theirs."""
        return len((self._used | self._kept) - self._whole)


def _may_hang(mount: Mount) -> bool:
    return selection.can_hang_on_the_way(mount) or filesystems.is_trigger(mount)


def _opened(proc: int, name: str, namespace: str) -> int:
    """A namespace, opened. Raises OSError.

    The process that has the descriptor can put a pipe in its place at any time, or a file whose
    server hangs. To open that would hang, but for O_PATH."""
    with procfs.closing(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=proc)) as found:
        if os.readlink(f"self/fd/{found}", dir_fd=proc) != namespace:
            raise OSError(errno.ESTALE, "another file", name)
        return os.open(f"self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
