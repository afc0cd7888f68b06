"""Probes that could not be ended, remembered across runs, so that a hung filesystem costs one stuck process and not one a run.

Import budget: ``os``, ``stat``, ``time``.

Each run keeps a file of its own in the state directory: a header, then one record of fixed size for each worker, written with a
single pwrite(2) **before** the worker is sent to a mount. So the memory needs no lock, survives SIGKILL at any moment, and two runs
at once know of each other's probes. A record counts as long as its process lives: the same boot, pid and start time, not a zombie.
While a stuck process holds a mount, the kernel gives neither its mount ID nor its device number to another one.

The directory must be ours alone: whoever can write to it could hide a hung mount from us.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Optional

from check_mounts.model import StuckProbe

RECORD_SIZE = 96
_HEADER = "check_mounts 1 "
_PREFIX = "run."
_LARGEST_FILE = 1 << 20


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
    text = f"{pid} {start} {mount_id} {device[0]}:{device[1]} {since:.3f}"
    return text.ljust(RECORD_SIZE - 1).encode("ascii") + b"\n"


def _parse_record(data: bytes) -> StuckProbe:
    """Raises ValueError."""
    pid, start, mount_id, device, since = data.decode("ascii").split()
    major, minor = device.split(":")
    probe = StuckProbe(int(pid), int(start), int(mount_id), (int(major), int(minor)), float(since))
    if probe.pid <= 0 or not 0 <= probe.since < 1e12:
        raise ValueError("impossible values")
    return probe


class Registry:
    """The memory: what earlier and concurrent runs have stuck (``probes``), and the ledger of this one.

    Nothing here raises once it is made: what goes wrong with the memory is said in ``notes`` and costs the memory only.
    ``path`` None means: no memory, for the reason ``why``.
    """

    def __init__(self, path: Optional[str], why: str = "") -> None:
        self.notes: list[str] = []
        self.probes: list[StuckProbe] = []
        self._mounts: dict[int, tuple[int, tuple[int, int]]] = {}
        self._starts: dict[int, int] = {}
        self._written: set[int] = set()
        self._place: dict[StuckProbe, tuple[str, int]] = {}
        self._directory = self._file = -1
        self._name = ""
        try:
            if path is None:
                raise Unusable(why)
            self._directory = _open_directory(path)
        except Unusable as error:
            self._note(f"stuck probes are not remembered: {path or 'the state directory'}: {error}")
            return
        self._boot = _boot_id()
        self._load()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # -- what others have left

    def _load(self) -> None:
        for name in sorted(os.listdir(self._directory)):
            if name.startswith(_PREFIX):
                try:
                    self._load_file(name)
                except OSError as error:
                    self._note(f"the memory of stuck probes is incomplete: {_quoted(name)}: {error.strerror}")

    def _load_file(self, name: str) -> None:
        data, foreign = self._read(name)
        if foreign:
            self._note(f"the memory of stuck probes is incomplete: {_quoted(name)} is not a file of ours")
            return
        header, body = data[:RECORD_SIZE], data[RECORD_SIZE:]
        words = header.decode("ascii", "replace").split()
        alive: list[StuckProbe] = []
        corrupt = bool(data) and words[:2] != _HEADER.split()
        if not corrupt and words[2:] == [self._boot]:
            for offset in range(0, len(body), RECORD_SIZE):
                record = body[offset : offset + RECORD_SIZE].strip(b" \n\0")
                try:
                    probe = _parse_record(record) if record else None
                except ValueError:
                    corrupt = True
                    continue
                if probe is not None and process_start(probe.pid) == probe.start_time:
                    alive.append(probe)
                    self._place[probe] = (name, RECORD_SIZE + offset)
        if corrupt:
            self._note(f"the memory of stuck probes is incomplete: {_quoted(name)} is corrupt")
        self.probes.extend(alive)
        if not alive and not _is_running(name):
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

    # -- the ledger of this run (workers.Ledger)

    def know(self, key: int, mount_id: int, device: tuple[int, int]) -> None:
        """Say which mount the request ``key`` of the pool is about."""
        self._mounts[key] = (mount_id, device)

    def began(self, slot: int, pid: int, key: int) -> None:
        """Note that a worker is about to be sent to a mount."""
        if self._directory < 0:
            return
        start = self._starts.get(pid)
        if start is None:
            start = self._starts[pid] = process_start(pid) or 0
        self._write(slot, _record(pid, start, *self._mounts[key], since=time.clock_gettime(time.CLOCK_BOOTTIME)))
        self._written.add(slot)

    def ended(self, slot: int) -> None:
        """Note that a worker has come back, or is no more."""
        if slot in self._written:
            self._written.discard(slot)
            self._write(slot, b" " * (RECORD_SIZE - 1) + b"\n")

    def close(self) -> None:
        """End of the run: the file stays if a worker is still stuck, else it goes."""
        if self._file >= 0:
            os.close(self._file)
            if not self._written:
                try:
                    os.unlink(self._name, dir_fd=self._directory)
                except OSError:
                    pass
        if self._directory >= 0:
            os.close(self._directory)
        self._file = self._directory = -1

    def _write(self, slot: int, record: bytes) -> None:
        try:
            if self._file < 0:
                self._create()
            os.pwrite(self._file, record, RECORD_SIZE * (slot + 1))
        except OSError as error:
            self._note(f"stuck probes are not remembered: {error.strerror}")

    def _create(self) -> None:
        pid = os.getpid()
        self._name = f"{_PREFIX}{pid}.{process_start(pid) or 0}"
        try:
            os.unlink(self._name, dir_fd=self._directory)  # of an earlier pass of this very process
        except FileNotFoundError:
            pass
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        os.pwrite(self._file, (_HEADER + self._boot).ljust(RECORD_SIZE - 1).encode("ascii") + b"\n", 0)


def _is_running(name: str) -> bool:
    """Is the run that a file is named after still under way? Then the file is its to remove."""
    try:
        pid, start = (int(part) for part in name[len(_PREFIX) :].split("."))
    except ValueError:
        return False
    return process_start(pid) == start


def _quoted(name: str) -> str:
    return ascii(name)
