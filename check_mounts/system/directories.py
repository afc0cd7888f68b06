"""Directories that must be ours alone, and the daemon's lock in one.

Import budget: ``fcntl``, ``os``, ``stat``; ctypes through syscalls. A user who could write to such
a directory could hide a hung mount, or trick root into writing to another file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from check_mounts.system import walk
from check_mounts.typed import Optional


class Unusable(Exception):
    """Why a directory cannot be used."""


def default_directory() -> str:
    """The directory in which stuck probes are remembered unless an option names another.

    ``/run/check_mounts`` for root; else below ``$XDG_RUNTIME_DIR``, which the login manager makes
    for its user alone; else a directory of our own in /tmp."""
    if os.geteuid() == 0:
        return "/run/check_mounts"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/check_mounts" if runtime.startswith("/") else own_in_tmp()


def own_in_tmp() -> str:
    """The name of a directory of the caller's own in /tmp."""
    return f"/tmp/check_mounts-{os.geteuid()}"


class Missing(Unusable):
    """The directory does not exist, and can be made."""


def open_directory(path: str, mode: int = 0o700, rooted: bool = False, make: bool = True) -> int:
    """Open a directory of ours; make it with ``mode`` if it does not exist. Raises Unusable.

    Without ``make`` it makes nothing, and raises Missing if it could.

    No symbolic link is followed: it could lead to a mount that hangs, and the text of the path does
    not show that. ``rooted``: the directory is also refused if another user could replace it."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if not name:
        raise Unusable("the root directory cannot be private")
    try:
        above = walk.open_without_symlinks(os.fsencode(parent or "/"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if rooted:
                _check_above(os.fstat(above))
            if make:
                _make(name, mode, above)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except FileNotFoundError:
            if not make and os.access(".", os.W_OK, dir_fd=above, effective_ids=True):
                raise Missing(os.strerror(errno.ENOENT)) from None
            raise
        except NotADirectoryError:
            link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
            raise Unusable("it is a symbolic link" if link else "it is not a directory") from None
        finally:
            os.close(above)
    except OSError as error:
        raise Unusable("a symbolic link leads to it" if error.errno == errno.ELOOP else str(error.strerror)) from None
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


def _make(name: str, mode: int, above: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=above)
    except FileExistsError:
        pass


def _check_above(status: os.stat_result) -> None:
    """Raises Unusable where another user may rename the entries of this directory. The sticky bit
    prevents that in a directory that belongs to us or to root."""
    if status.st_uid not in (0, os.geteuid()):
        raise Unusable(f"the directory above belongs to uid {status.st_uid}")
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise Unusable(f"mode {stat.S_IMODE(status.st_mode):04o} of the directory above lets others replace it")


def read_beginning(directory: int, name: str, size: int = 512) -> bytes:
    """Read the first bytes of a regular file in a directory; empty where no file has that name.

    We look at its type before we open it, because opening a device runs its driver. Raises
    Unusable."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if not stat.S_ISREG(mode):
            raise Unusable("it is a symbolic link" if stat.S_ISLNK(mode) else "it is not a regular file")
        # O_NONBLOCK: where other users may write, the file could have become a FIFO by now.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return os.read(fd, size)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Unusable(str(error.strerror)) from None


class Held(Exception):
    """Another process holds the lock. ``pid`` is its number, 0 where that is not known."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"pid {pid}")
        self.pid = pid


def _held(fd: int) -> Held:
    words = os.pread(fd, 20, 0).strip()
    return Held(int(words) if words.isdigit() else 0)


def check_unlocked(name: str, directory: int) -> None:
    """Raises Held where another process has an exclusive lock on a file, for which it must be able
    to write to the file. Raises OSError where the file cannot be opened.

    A shared lock, which every reader may take, does not count: our test takes a shared lock, too,
    and shared locks do not exclude each other."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _held(fd) from None
    finally:
        os.close(fd)


class Lock:
    """A file that holds our process ID and that one process at a time can lock.

    It is a record lock (fcntl(2)): it belongs to this process alone, so a stuck worker that was
    forked from this process does not keep it, and the kernel releases it however the process ends.
    Only our user can open the file: another user who could read it could take a shared lock, and
    then we could not get our exclusive one."""

    def __init__(self, name: str, directory: int) -> None:
        """Raises Held, OSError."""
        self._name, self._directory = name, directory
        self._fd = -1
        while self._fd < 0:
            self._fd = self._take()
        try:
            os.fchmod(self._fd, 0o600)  # an older file may have another mode
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except BaseException:  # a full disk: the next attempt opens the file again
            os.close(self._fd)
            raise

    def _take(self) -> int:
        """Open and lock the file; return -1 where its last owner has removed it meanwhile."""
        fd = os.open(
            self._name,
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            0o600,
            dir_fd=self._directory,
        )
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = _held(fd)
            os.close(fd)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise held from None
        if self._is_there(fd):
            return fd
        os.close(fd)
        return -1

    def _is_there(self, fd: int) -> bool:
        """Whether the name still leads to this file."""
        try:
            current: Optional[int] = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_ino
        except OSError:
            current = None
        return current == os.fstat(fd).st_ino

    @property
    def holds(self) -> bool:
        """Whether the lock still keeps other processes out: nobody has removed the file or its
        directory."""
        return self._is_there(self._fd)

    def close(self) -> None:
        """Remove the file, if the name still leads to it, and release the lock."""
        try:
            if self.holds:
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass
        os.close(self._fd)
