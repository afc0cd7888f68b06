"""The raw text of a mount table: how it is read, and where one mount is mounted now. Workers need
no more than this.

Import budget: ``errno``, ``os``, ``stat``. It is memory of each worker."""

from __future__ import annotations

import errno
import os
import stat

from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from collections.abc import Callable

    # As that of Python's open: a path and flags -> a descriptor. Raises OSError.
    Opener = Callable[[str, int], int]

# The largest file to read, in bytes. The kernel lets a namespace have 100,000 mounts
# (fs.mount-max), and a line has some 200 bytes.
LARGEST_FILE = 64 << 20


def contents(path: str, largest: int = LARGEST_FILE, opener: Opener = os.open) -> bytes:
    """The bytes of a regular file. ``opener`` may open it below another root directory.

    Raises OSError; EINVAL if it is not regular, EFBIG if it has more than ``largest`` bytes."""
    fd = opened(path, opener)
    try:
        return read_out(fd, largest)
    finally:
        os.close(fd)


def opened(path: str, opener: Opener = os.open) -> int:
    """A descriptor of a regular file. Raises OSError; EINVAL if it is not regular."""
    # O_NONBLOCK and the test of the type: a FIFO must not keep us waiting, nor /dev/zero feed us
    # forever.
    fd = opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_out(fd: int, largest: int = LARGEST_FILE) -> bytes:
    """All bytes of an open file. Raises OSError; EFBIG if there are more than ``largest``.

    They are all read before any is parsed: the less time reading takes, the less can change
    meanwhile."""
    chunks, size = [], 0
    while chunk := os.read(fd, 1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        if size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
    return b"".join(chunks)


def unescaped(field: bytes) -> bytes:
    """A field with every ``\\ooo`` turned back into its byte.

    The kernel escapes more bytes with time (space, tab, newline and backslash; ``#`` since 5.18;
    `,` and `=` within some options), so every octal escape counts, whatever it stands for."""
    if b"\\" not in field:
        return field
    first, *rest = field.split(b"\\")
    return first + b"".join([_unescaped(part) for part in rest])


def _unescaped(part: bytes) -> bytes:
    """What stands for a backslash and these bytes."""
    digits = part[:3]
    if len(digits) < 3 or digits.strip(b"01234567") or digits[0] > 0x33:  # above `3`
        return b"\\" + part
    return bytes([int(digits, 8)]) + part[3:]


def place_now(path: str, mount_id: int, device: tuple[int, int], fs_type: bytes) -> Optional[bytes]:
    """Where a mount is mounted now, by the table in ``path``; None if it is not. Raises OSError.

    The mount is known by its ID, device and type."""
    data, beginning, at = b"\n" + contents(path), b"\n%d " % mount_id, -1
    # Not line by line: a probe's time is running, and the table may be large.
    while (at := data.find(beginning, at + 1)) >= 0:
        end = data.find(b"\n", at + 1)
        fields = data[at + 1 : end if end >= 0 else len(data)].split(b" ")
        try:
            separator = fields.index(b"-", 6)
            major, minor = map(int, fields[2].split(b":"))
            found = unescaped(fields[separator + 1])
        except (ValueError, IndexError):
            continue
        if (major, minor) == device and found == fs_type and fields[4].startswith(b"/"):
            return unescaped(fields[4])
    return None
