"""Probes that could not be ended, remembered across runs, so that a hung filesystem costs one stuck process and not one a run.

Import budget: ``mmap``, ``os``, ``stat``, ``time``.

Each run keeps a file of its own in the state directory: a header, then one line of fixed size for each worker. The file is mapped
into memory, and a worker writes its line itself **before** it touches a mount. So the memory needs no lock and no system call a
mount, survives SIGKILL of everybody at any moment, and two runs at once know of each other's probes. A line counts as long as its
process lives: the same boot, pid and start time, not a zombie. While a stuck process holds a mount, the kernel gives neither its
mount ID nor its device number to another one.

The directory must be ours alone: whoever can write to it could hide a hung mount from us.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from typing import Optional

from check_mounts import text
from check_mounts.model import StuckProbe

RECORD_SIZE = 96
_HEADER = "check_mounts 1 "
_PREFIX = "run."
_LARGEST_FILE = 16 << 20
_TAKEN, _VOID = b"=", b"-"


class Unusable(Exception):
    """The state directory cannot be used; the message says why."""


def default_directory() -> str:
    """Where the memory is kept unless told otherwise.

    ``/run/check_mounts`` for root; else below ``$XDG_RUNTIME_DIR``, which the login manager makes for its user alone; else a
    directory of our own in /tmp.
    """
    if os.geteuid() == 0:
        return "/run/check_mounts"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/check_mounts" if runtime.startswith("/") else f"/tmp/check_mounts-{os.geteuid()}"


def process_start(pid: int) -> Optional[int]:
    """When a process started, in clock ticks after boot; None where it has ended or is a zombie.

    Only ``stat`` is read: ``cmdline`` of a process in state D waits for its memory map's lock (proc_pid_stat(5) is safe).
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, 4096)
    except OSError:  # ESRCH: it ended between the two calls
        return None
    finally:
        os.close(fd)
    # The second field is the name in parentheses and may hold spaces and parentheses itself.
    fields = data[data.rfind(b")") + 1 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "-"


def _open_directory(path: str) -> int:
    """A descriptor of the state directory, made if it is not there. Raises Unusable."""
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):
            raise Unusable("it is a symbolic link") from None
        raise Unusable(error.strerror or str(error)) from None
    status = os.fstat(fd)
    why = None
    if status.st_uid != os.geteuid():
        why = f"it belongs to uid {status.st_uid}"
    elif status.st_mode & 0o022:
        why = f"mode {stat.S_IMODE(status.st_mode):04o} lets others write to it"
    if why is not None:
        os.close(fd)
        raise Unusable(why)
    return fd


def _record(pid: int, start: int, mount_id: int, device: tuple[int, int], since: float) -> bytes:
    words = f"={pid} {start} {mount_id} {device[0]}:{device[1]} {since:.3f}"
    return words.ljust(RECORD_SIZE - 1).encode("ascii") + b"\n"


def _parse_record(data: bytes) -> StuckProbe:
    """Raises ValueError."""
    if not data.startswith(_TAKEN):
        raise ValueError("not a record")
    pid, start, mount_id, device, since = data[1:].decode("ascii").split()
    major, minor = device.split(":")
    probe = StuckProbe(int(pid), int(start), int(mount_id), (int(major), int(minor)), float(since))
    if probe.pid <= 0 or not 0 <= probe.since < 1e12:
        raise ValueError("impossible values")
    return probe


class Registry:
    """The memory: what earlier and concurrent runs have stuck (``probes``), and the lines of this one's workers.

    Nothing here raises once it is made: what goes wrong with the memory is said in ``notes`` and costs the memory only.
    ``path`` None means: no memory, for the reason ``why``.
    """

    def __init__(self, path: Optional[str], why: str = "") -> None:
        self.notes: list[str] = []
        self.probes: list[StuckProbe] = []
        self._place: dict[StuckProbe, tuple[str, int]] = {}
        self._lines: Optional[mmap.mmap] = None
        self._myself = (0, 0)
        self._directory = self._file = -1
        self._name = ""
        try:
            if path is None:
                raise Unusable(why)
            self._directory = _open_directory(path)
        except Unusable as error:
            where = f"{text.printable_argument(path)}: " if path is not None else ""
            self.notes.append(f"stuck probes are not remembered: {where}{error}")
            return
        self._boot = _boot_id()
        self._load()

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    # -- what others have left

    def _load(self) -> None:
        for name in sorted(os.listdir(self._directory)):
            if name.startswith(_PREFIX):
                try:
                    self._load_file(name)
                except FileNotFoundError:
                    pass  # a concurrent run has ended meanwhile
                except OSError as error:
                    self._note(f"the memory of stuck probes is incomplete: {name!a}: {error.strerror}")

    def _load_file(self, name: str) -> None:
        data, foreign = self._read(name)
        if foreign:
            self._note(f"the memory of stuck probes is incomplete: {name!a} is not a file of ours")
            return
        header, body = data[:RECORD_SIZE], data[RECORD_SIZE:]
        words = header.decode("ascii", "replace").split()
        alive: list[StuckProbe] = []
        # A run that is just beginning has not written its header yet.
        running = _is_running(name)
        corrupt = words[:2] != _HEADER.split() and not running
        if not corrupt and words[2:] == [self._boot]:
            for offset in range(0, len(body), RECORD_SIZE):
                record = body[offset : offset + RECORD_SIZE]
                if record.startswith((_VOID, b"\0")):
                    continue
                try:
                    probe = _parse_record(record)
                except ValueError:
                    corrupt = True
                    continue
                if process_start(probe.pid) == probe.start_time:
                    alive.append(probe)
                    self._place[probe] = (name, RECORD_SIZE + offset)
        if corrupt:
            self._note(f"the memory of stuck probes is incomplete: {name!a} is corrupt")
        self.probes.extend(alive)
        if not alive and not running:
            os.unlink(name, dir_fd=self._directory)

    def _read(self, name: str) -> tuple[bytes, bool]:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                return b"", True
            return os.read(fd, _LARGEST_FILE), False
        finally:
            os.close(fd)

    def still_stuck(self, probe: StuckProbe) -> bool:
        """Is a probe of ``probes`` still where it was?"""
        name, offset = self._place[probe]
        try:
            record = self._read(name)[0][offset : offset + RECORD_SIZE]
            if _parse_record(record) != probe:
                return False
        except (OSError, ValueError):  # blank: its worker has answered; no file: its run has ended cleanly
            return False
        return process_start(probe.pid) == probe.start_time

    # -- the lines of this run

    def prepare(self, slots: int) -> None:
        """Make room for the lines of so many workers. To be called before they are forked."""
        if self._directory < 0:
            return
        pid = os.getpid()
        self._name = f"{_PREFIX}{pid}.{process_start(pid) or 0}"
        try:
            self._lines = self._create(RECORD_SIZE * (slots + 1))
        except OSError as error:
            self._note(f"stuck probes are not remembered: {error.strerror}")

    def _create(self, size: int) -> mmap.mmap:
        try:
            os.unlink(self._name, dir_fd=self._directory)  # of an earlier pass of this very process
        except FileNotFoundError:
            pass
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        # On a full disk this fails here; a store to a page that cannot be had would be a SIGBUS.
        os.posix_fallocate(self._file, 0, size)
        lines = mmap.mmap(self._file, size)
        lines[:RECORD_SIZE] = (_HEADER + self._boot).ljust(RECORD_SIZE - 1).encode("ascii") + b"\n"
        return lines

    def enter(self, slot: int, mount_id: int, device: tuple[int, int]) -> None:
        """In a worker: note that it is about to touch a mount."""
        if self._lines is None:
            return
        pid = os.getpid()
        if self._myself[0] != pid:
            self._myself = (pid, process_start(pid) or 0)
        offset = RECORD_SIZE * (slot + 1)
        record = _record(*self._myself, mount_id, device, since=time.clock_gettime(time.CLOCK_BOOTTIME))
        # The mark that makes the line count comes last.
        self._lines[offset + 1 : offset + RECORD_SIZE] = record[1:]
        self._lines[offset : offset + 1] = record[:1]

    def leave(self, slot: int) -> None:
        """In a worker: note that it has come back."""
        if self._lines is not None:
            offset = RECORD_SIZE * (slot + 1)
            self._lines[offset : offset + 1] = _VOID

    def close(self, any_stuck: bool) -> None:
        """End of the run: its file stays if a worker is stuck, else it goes."""
        if self._directory < 0:
            return
        try:
            if self._lines is not None and any_stuck:
                # Nobody writes any more: who is stuck has been killed, and never comes back to our code.
                os.truncate(self._file, len(self._lines[:].rstrip(b"\0")))
            elif self._file >= 0:
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass
        for fd in (self._file, self._directory):
            if fd >= 0:
                os.close(fd)
        self._file = self._directory = -1


def _is_running(name: str) -> bool:
    """Is the run that a file is named after still under way? Then the file is its to remove."""
    try:
        pid, start = (int(part) for part in name[len(_PREFIX) :].split("."))
    except ValueError:
        return False
    return process_start(pid) == start
