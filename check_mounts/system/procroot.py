"""Looks through another process: at its files in procfs, and at files below its root directory.

Import budget: ``errno``, ``os``; ctypes through syscalls. A file below that root directory may
hang, as any other file. procfs does not.

A process is known by its directory in procfs, and by when it started: as long as a descriptor of
the directory is open, the directory is that of no other process, even if the ID was used again
(proc_pid_permission and the like in fs/proc/base.c find no task then)."""

from __future__ import annotations

import errno
import os

from check_mounts.system import syscalls
from check_mounts.system.syscalls import NoSuchCall
from check_mounts.typed import Optional

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# The number of the initial PID namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
_INITIAL = "pid:[4026531836]"
_ENDED = frozenset({errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.ENODATA})
_FIRST = (
    "process 1 there is that of this container, not that of the host: hostPID is missing"
    " (or mount the /proc of the host, and name that: --namespace /host/proc/1)"
)
_NO_OPENAT2 = "openat2(2) cannot be used: it needs Linux 5.6, and a filter of system calls that knows it"
_CLOSED = "CAP_DAC_READ_SEARCH is missing: directories that only their owners may enter would be closed"


class Ended(OSError):
    """The process has ended; perhaps another one has its ID."""

    def __init__(self) -> None:
        super().__init__(errno.ESRCH, "the process has ended")


def look(process: str) -> tuple[str, int, str, bool]:
    """Why this process cannot look through the one with this directory, in words, empty if it can;
    when that started; the procfs that shows the most processes; and whether that process is in our
    network namespace. It asks no filesystem but procfs."""
    try:
        fd = os.open(process, _DIRECTORY)
    except OSError as error:
        return _absent(process, error), 0, "", False
    try:
        why = _fault(process, fd)
        procfs = os.path.dirname(process)
        if why:
            return why, 0, "", False
        same = os.readlink("ns/net", dir_fd=fd) == os.readlink("/proc/self/ns/net")
        return "", _start(fd), "/proc" if _is_our_own(procfs) else procfs, same
    except OSError as error:
        if error.errno in _ENDED:
            return "the process has ended", 0, "", False
        return f"it cannot be looked through: {error.strerror}", 0, "", False
    finally:
        os.close(fd)


def _absent(process: str, error: OSError) -> str:
    """Why the directory of a process cannot be opened."""
    procfs = os.path.dirname(process)
    if error.errno != errno.ENOENT:
        return f"it cannot be opened: {error.strerror}"
    if not _is_directory_of_procfs(procfs):
        return f"{procfs} is no procfs: mount the /proc of the host there"
    if _is_our_own(procfs) and not _is_initial():
        return "there is no such process in this container, which has a PID namespace of its own (hostPID is missing)"
    return "there is no such process"


def _is_directory_of_procfs(path: str) -> bool:
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:
        return False
    try:
        return syscalls.is_on_procfs(fd)
    finally:
        os.close(fd)


def _is_our_own(procfs: str) -> bool:
    """Whether a procfs shows the PID namespace of this process: it then has one number for it, and
    more if it is that of a namespace around it (NStgid in proc_pid_status(5))."""
    try:
        with open(f"{procfs}/self/status", "rb") as file:
            return any(line.startswith(b"NStgid:") and len(line.split()) == 2 for line in file)
    except OSError:
        return False


def _is_initial() -> bool:
    return os.readlink("/proc/self/ns/pid") == _INITIAL


def _fault(process: str, fd: int) -> str:
    """Raises OSError."""
    if not syscalls.is_on_procfs(fd):
        return f"{os.path.dirname(process)} is no procfs: mount the /proc of the host there"
    try:
        space = os.readlink("ns/mnt", dir_fd=fd)
        os.readlink("root", dir_fd=fd)  # it must pass the same test (proc_fd_access_allowed)
    except PermissionError as error:
        if not _has(syscalls.CAP_SYS_PTRACE):
            return "CAP_SYS_PTRACE is missing: this process may not look through that one"
        return f"it cannot be looked through: {error.strerror} (does AppArmor or SELinux forbid it?)"
    is_own = space == os.readlink("/proc/self/ns/mnt")
    if is_own and os.path.basename(process) == "1" and not _is_initial():
        return _FIRST
    if not is_own and os.geteuid() == 0 and not _has(syscalls.CAP_DAC_READ_SEARCH | syscalls.CAP_DAC_OVERRIDE):
        return _CLOSED
    try:
        os.close(syscalls.openat2(syscalls.AT_FDCWD, b"/", _DIRECTORY, syscalls.RESOLVE_IN_ROOT))
    except NoSuchCall:
        return _NO_OPENAT2
    return ""


def _has(any_of: int) -> bool:
    """Whether this process has one of these capabilities. If that is not known, it has."""
    try:
        return bool(syscalls.capabilities()[0] & any_of)
    except OSError:
        return True


def _start(directory: int) -> int:
    """When the process of a directory in procfs started. Raises OSError."""
    fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    return int(data[data.rfind(b")") + 2 :].split(b" ", 20)[19])


def opened(process: str, start: int) -> int:
    """A descriptor of the directory of a process. Raises OSError; Ended if the process with that
    start has ended."""
    try:
        fd = os.open(process, _DIRECTORY)
    except FileNotFoundError:
        raise Ended from None
    try:
        if _start(fd) == start:
            return fd
    except OSError as error:
        os.close(fd)
        raise Ended from error
    os.close(fd)
    raise Ended


def is_end(error: OSError) -> bool:
    """Whether an error of a file in the directory of a process may mean that the process has
    ended."""
    return error.errno in _ENDED


class Files:
    """Opens files below the root directory of a process: an opener, as ``open`` of Python takes
    it. What links in a path name is below that directory, too."""

    def __init__(self, process: str, start: int) -> None:
        self._process, self._start = process, start

    def __call__(self, path: str, flags: int) -> int:
        """A descriptor. Raises OSError; Ended if the process has ended."""
        directory = opened(self._process, self._start)
        root: Optional[int] = None
        try:
            try:
                root = os.open("root", _DIRECTORY, dir_fd=directory)
            except FileNotFoundError:
                raise Ended from None
            resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
            return syscalls.openat2(root, os.fsencode(path), flags | os.O_CLOEXEC, resolve)
        finally:
            for fd in (directory, root):
                if fd is not None:
                    os.close(fd)
