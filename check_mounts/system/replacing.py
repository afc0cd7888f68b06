"""A file is replaced as a whole: a reader sees the old file or the new one, never a part.

Import budget: ``os``."""

from __future__ import annotations

import os

# The name of the temporary file is longer and must fit as well (NAME_MAX in limits.h,
# PID_MAX_LIMIT in linux/threads.h).
LONGEST_NAME = 255 - len("..4194304.new")


def replace(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` with a file of this content and mode, whatever the umask is.

    The file is not synced: after a crash of the host, an earlier result is worthless anyway. Raises
    OSError; then the old file is still there."""
    directory, name = os.path.split(path)
    fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace_in(fd, name, data, mode)
    finally:
        os.close(fd)


def replace_in(directory: int, name: str, data: bytes, mode: int = 0o644, verdict: bytes = b"") -> None:
    """Replace a file in an open directory.

    ``verdict``, if given, is the beginning of ``data``. If the file cannot be replaced, as on a
    full disk, an old file that begins differently is removed, because it might still say that
    all is well. Its removal may also make room. Raises OSError."""
    try:
        _replace_in(directory, name, data, mode)
    except OSError:
        if not verdict or not remove_unless(directory, name, verdict):
            raise
        _replace_in(directory, name, data, mode)


def remove_unless(directory: int, name: str, verdict: bytes) -> bool:
    """Remove a file that does not begin with ``verdict``, or that cannot be read and so might say
    anything; return whether the file was removed."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.read(fd, len(verdict)) == verdict:
                return False
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return remove(directory, name)


def _replace_in(directory: int, name: str, data: bytes, mode: int) -> None:
    _remove_leftovers(directory, name)
    # Each process uses a name of its own: with one name for two processes, one could rename the
    # half-written file of the other. The name does not end as `name` does, because a collector of
    # *.prom must not read the file.
    temporary = f".{name}.{os.getpid()}.new"
    try:
        _fill(directory, temporary, data, mode)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        remove(directory, temporary)
        raise


def _fill(directory: int, name: str, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _remove_leftovers(directory: int, name: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote. The file of a
    process that exists is still being written."""
    for entry in os.listdir(directory):
        pid = entry[len(name) + 2 : -4]
        if entry == f".{name}.{pid}.new" and pid.isdecimal() and not _lives(int(pid)):
            remove(directory, entry)


def _lives(pid: int) -> bool:
    """Whether another process has this number. Our own number does not count: we have not begun to
    write, so that file is a leftover."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def remove(directory: int, name: str) -> bool:
    """Remove a file of ours; return whether that succeeded."""
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return False  # the next write tries again
    return True
