"""The lines of a pass in its file of the registry (see stuck), for its workers. Each writes
its own line before it touches a mount.

Import budget: ``mmap``, ``os``, ``stat``, ``time``; processes, clocks. It is memory of each
worker."""

from __future__ import annotations

import os
import stat
import time

from check_mounts.clocks import boottime
from check_mounts.system.processes import OWN, itself, process_start
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    import mmap

RECORD_SIZE = 96
VISITORS = RECORD_SIZE - 2  # the byte of the header that other runs increment
OVER = RECORD_SIZE - 3  # the byte that says that the pass has ended, although its process continues
PREFIX = "run."
_LARGEST_FILE = 16 << 20
# The first byte of a line: before the mount is reached, at the mount, writing to it, back from it.
_ON_THE_WAY, _ARRIVED, _WRITING, _VOID = b"=+w-"
_MARKS = _ON_THE_WAY, _ARRIVED, _WRITING


class Line(NamedTuple):
    """A line: a probe that has not come back. ``since`` is on CLOCK_BOOTTIME."""

    pid: int
    start: int
    mount_id: int
    device: tuple[int, int]
    since: float
    arrived: bool
    writing: bool


def parse_line(data: bytes) -> Line:
    """Raises ValueError."""
    mark = data[0] if data else 0
    if mark not in _MARKS:
        raise ValueError("not a record")
    pid, start, mount_id, device, since = data[1:].decode("ascii").split()
    major, minor = device.split(":")
    place = (int(mount_id), (int(major), int(minor)))
    line = Line(int(pid), int(start), *place, float(since), mark != _ON_THE_WAY, mark == _WRITING)
    if line.pid <= 0 or not 0 <= line.since < 1e12:
        raise ValueError("impossible values")
    return line


def living(data: bytes, procfs: str = OWN) -> tuple[list[tuple[Line, int]], bool]:
    """The lines of a file whose process exists, each with its offset, and whether any line makes no
    sense. ``procfs`` shows the processes."""
    alive: list[tuple[Line, int]] = []
    corrupt = False
    for offset in range(RECORD_SIZE, len(data), RECORD_SIZE):
        record = data[offset : offset + RECORD_SIZE]
        if record[0] in (_VOID, 0):
            continue
        try:
            line = parse_line(record)
        except ValueError:
            corrupt = True
            continue
        if process_start(line.pid, procfs) == line.start:
            alive.append((line, offset))
    return alive, corrupt


class Lines:
    """The lines of one pass, by the slots of its workers. ``memory`` is its file in the directory
    ``path`` under the name ``name``, None without a memory. ``alone``: no other run is known.
    ``procfs``: the processes have the IDs that this shows."""

    def __init__(
        self, memory: Optional[mmap.mmap], path: str = "", name: str = "", alone: bool = True, procfs: str = OWN
    ) -> None:
        self._memory, self._path, self._name, self._procfs = memory, path, name, procfs
        self.alone = alone
        self._pid, self._myself = 0, (0, 0)

    def enter(self, slot: int, mount_id: int, device: tuple[int, int], writing: bool = False) -> bool:
        """In a worker: note that the worker is about to touch a mount. Return False if a worker of
        another run, which reads or writes as this one, is at that filesystem: then this worker must
        not touch it."""
        memory = self._memory
        if memory is None:
            return True
        pid = os.getpid()
        if self._pid != pid:
            self._pid, self._myself = pid, itself(self._procfs)
        offset = RECORD_SIZE * (slot + 1)
        words = b"%d %d %d %d:%d %.3f" % (*self._myself, mount_id, *device, boottime())
        # The mark makes the line valid, so it is written last.
        memory[offset + 1 : offset + RECORD_SIZE] = words.ljust(RECORD_SIZE - 2) + b"\n"
        memory[offset] = _WRITING if writing else _ON_THE_WAY
        if self.alone and memory[VISITORS] == 0:
            return True
        self.alone = False
        if not self._taken_elsewhere(device, writing):
            return True
        self.leave(slot)
        # Both workers may have stepped back. Different pauses keep them from meeting again.
        time.sleep(0.001 + os.urandom(1)[0] / 10000)
        return False

    def _taken_elsewhere(self, device: tuple[int, int], writing: bool) -> bool:
        """Whether another run is at this filesystem. For a worker, which has closed the descriptor
        of the directory."""
        for name in os.listdir(self._path):
            if name.startswith(PREFIX) and name != self._name:
                try:
                    data, _ = read(f"{self._path}/{name}")
                except OSError:
                    continue
                if not is_running(name, data, self._procfs):
                    continue
                alive, _ = living(data, self._procfs)
                if any(line.device == device and line.writing == writing for line, _ in alive):
                    return True
        return False

    def arrive(self, slot: int) -> None:
        """In a worker: note that the look-up has reached the mount."""
        self._mark(slot, _ARRIVED)

    def leave(self, slot: int) -> None:
        """In a worker: note that the worker has come back from the mount."""
        self._mark(slot, _VOID)

    def _mark(self, slot: int, mark: int) -> None:
        if self._memory is not None:
            self._memory[RECORD_SIZE * (slot + 1)] = mark


def read(name: str, directory: Optional[int] = None) -> tuple[bytes, bool]:
    """Read a file; return its content, and whether it is not a file of ours. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return b"", True
        # Not simply _LARGEST_FILE, because os.read() would allocate that much memory.
        return os.read(fd, min(status.st_size + 1, _LARGEST_FILE)), False
    finally:
        os.close(fd)


def is_running(name: str, data: bytes, procfs: str = OWN) -> bool:
    """Whether the pass with this file is still running; then that pass removes the file.
    ``data``: the content of the file. ``procfs`` shows the processes."""
    try:
        pid, start, _ = (int(part) for part in name[len(PREFIX) :].split("."))
    except ValueError:
        return False
    return data[OVER : OVER + 1] != b"." and process_start(pid, procfs) == start
