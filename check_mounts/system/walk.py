"""Opens paths without following a symbolic link or leaving a mount: a link may lead to a mount that
hangs, and the text of the path does not show that.

Import budget: ``os``, ``stat``; ctypes through syscalls."""

from __future__ import annotations

import errno
import os
import stat

from check_mounts.system import syscalls
from check_mounts.system.syscalls import (
    AT_FDCWD,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    NoSuchCall,
)
from check_mounts.typed import Optional

_LONGEST_PATH = 4095  # bytes, and a NUL (PATH_MAX in limits.h)


def open_without_symlinks(path: bytes, flags: int, root: Optional[int] = None) -> int:
    """Open an absolute path in which no component is a symbolic link. Raises OSError; ELOOP for a
    link. ``root``: a descriptor of the root directory that the path begins at, None for our own.

    It makes no file. To make one, open its directory like this, and the file with ``dir_fd``,
    O_NOFOLLOW and a mode.

    If ``flags`` are O_PATH with O_NOFOLLOW, the last component may be a link; then the link itself
    is opened. Without openat2 (Linux before 5.6, or a filter that does not know it) the path is
    walked component by component."""
    assert not flags & os.O_CREAT, "openat2 gets no mode here: the file would have none"
    try:
        # NO_SYMLINKS implies NO_MAGICLINKS (openat2(2)).
        if root is not None:
            return syscalls.openat2(root, path, flags, RESOLVE_NO_SYMLINKS | RESOLVE_IN_ROOT)
        return syscalls.openat2(AT_FDCWD, path, flags, RESOLVE_NO_SYMLINKS)
    except NoSuchCall:
        return open_step_by_step(path, flags, root)


def open_step_by_step(path: bytes, flags: int, root: Optional[int] = None) -> int:
    """Do the work of open_without_symlinks without openat2: open each component in the directory
    before it, without following a link, and then check it."""
    if len(path) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    *above, last = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    if root is not None and b".." in (*above, last):  # it could lead out of that root directory
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if root is None else os.dup(root)
    try:
        for part in above:
            below = _refuse_link(os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
            os.close(directory)
            directory = below
        if path.endswith((b"/", b"/.")):  # the kernel would follow a link there, despite O_NOFOLLOW
            flags = (flags | os.O_DIRECTORY) & ~os.O_NOFOLLOW
        return _open_last(directory, last, flags)
    finally:
        os.close(directory)


def _open_last(directory: int, name: bytes, flags: int) -> int:
    """Open the last component. With O_PATH this is a single look-up: a filesystem that hangs must
    not be asked twice."""
    if not flags & os.O_PATH:
        # With O_NOFOLLOW a link gives ELOOP (open(2)), but with O_DIRECTORY as well it gives
        # ENOTDIR, so we look for a link first.
        os.close(_refuse_link(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)))
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)
    fd = os.open(name, (flags | os.O_NOFOLLOW) & ~os.O_DIRECTORY, dir_fd=directory)
    if not flags & os.O_NOFOLLOW:
        fd = _refuse_link(fd)
    if flags & os.O_DIRECTORY and not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return fd


def _refuse_link(fd: int) -> int:
    """Return the descriptor; if it refers to a symbolic link, close it and raise OSError
    (ELOOP)."""
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd


def open_in_mount(directory: int, name: bytes, flags: int) -> int:
    """Open a name in an open directory, with O_NOFOLLOW, if it is on the same mount. Raises
    OSError; EXDEV for a name on another mount.

    openat2 does not touch the other mount. Without openat2 (see :func:`open_without_symlinks`) we
    notice the other mount only after we have opened it; with O_PATH, an open asks most filesystems
    nothing."""
    try:
        return syscalls.openat2(directory, name, flags | os.O_NOFOLLOW, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)
    if mount_id(fd) != mount_id(directory):
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return fd


def mount_id(fd: int) -> Optional[int]:
    """The ID of the mount that a descriptor is on; None where procfs does not say. procfs asks no
    other filesystem for that."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
        return int(fields[b"mnt_id"])
    except (OSError, KeyError, ValueError):
        return None
