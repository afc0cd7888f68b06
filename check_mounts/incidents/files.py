"""The files of incidents: lines are appended to one, and once it is large, it replaces the one
before it. Each call may hang, and belongs in a process that can be given up.

Import budget: ``os``, ``stat``.

A line reaches the file with one write(2), together with those that come with it. A crash or a full
disk may leave a part of the last line. The next writer begins a new line after it, and a reader
skips it."""

from __future__ import annotations

import os
import stat

from check_mounts.incidents.records import BEGINNING
from check_mounts.system import syscalls
from check_mounts.typed import Optional

# The size of a file, in bytes, and the name of the one before it. Both together are no larger than
# twice this.
MOST = 2 << 20
OLDER = ".1"
MODE = 0o640
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Untrusted(Exception):
    """Why a file must not be read or written to, in words."""


def append(directory: int, name: str, data: bytes, most: int, lasts: bool = True) -> int:
    """Append lines to a file in an open directory. ``lasts``: have them reach the disk, and if the
    file would have more than ``most`` bytes, let it first replace the one before it; otherwise it
    would be emptied. Returns how many bytes of whole lines were written. Raises OSError, and
    Untrusted if it is not our file."""
    fd = _open_to_append(directory, name)
    try:
        size = os.fstat(fd).st_size
        if size and size + len(data) + 1 > most and not lasts:
            os.ftruncate(fd, 0)
            size = 0
        elif size and size + len(data) + 1 > most:
            os.rename(name, name + OLDER, src_dir_fd=directory, dst_dir_fd=directory)
            os.close(fd)
            fd = -1
            fd, size = _open_to_append(directory, name), 0
        return _append(fd, size, data, lasts)
    finally:
        if fd >= 0:
            os.close(fd)


def _open_to_append(directory: int, name: str) -> int:
    """Raises OSError, Untrusted."""
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | _FLAGS, MODE, dir_fd=directory)
    try:
        _check(fd)
        beginning = os.pread(fd, len(BEGINNING), 0)
        if beginning != BEGINNING[: len(beginning)]:
            raise Untrusted("it is not a file that check_mounts has written")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _append(fd: int, size: int, data: bytes, lasts: bool) -> int:
    begins_anew = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
    written = os.write(fd, begins_anew + data) - len(begins_anew)
    whole = data.rfind(b"\n", 0, max(written, 0)) + 1
    if whole < len(data):  # the disk is full
        os.ftruncate(fd, size + (len(begins_anew) + whole if whole else 0))
    if lasts:
        syscalls.fsync(fd)
    return whole


def _check(fd: int, *trusted: int) -> None:
    """Raises Untrusted unless only root, the caller or a trusted user can have written a file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted("it is not a regular file")
    if status.st_uid not in (0, os.geteuid(), *trusted):
        raise Untrusted(f"it belongs to uid {status.st_uid}")
    if status.st_mode & 0o022:
        raise Untrusted(f"mode {stat.S_IMODE(status.st_mode):04o} lets others write to it")


def read(path: str) -> Optional[bytes]:
    """The content of a file, if only trusted users can have written it; None without a file.
    Raises OSError, Untrusted."""
    head, slash, name = path.rpartition("/")
    directory = os.open(head or slash or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return read_in(directory, name)
    finally:
        os.close(directory)


def read_in(directory: int, name: str) -> Optional[bytes]:
    """The same, for a file in an open directory; the owner of the directory is trusted, too."""
    place = os.fstat(directory)
    if place.st_mode & 0o022:
        raise Untrusted(f"mode {stat.S_IMODE(place.st_mode):04o} of its directory lets others write to it")
    try:
        fd = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        _check(fd, place.st_uid)
        return _bytes_of(fd)
    finally:
        os.close(fd)


def _bytes_of(fd: int) -> bytes:
    """The rest of a file, but no more than twice what we write to one: it grows while it is
    read."""
    data = b""
    while len(data) < 2 * MOST and (piece := os.read(fd, min(1 << 18, 2 * MOST - len(data)))):
        data += piece
    return data
