"""The mount table as the kernel prints it: bytes of mountinfo -> :class:`~check_mounts.model.Mount`.

Only ``/proc/.../mountinfo`` is read, never ``/etc/mtab`` (which may be a stale file) and never a library that stats what it
lists: reading mountinfo takes no lock of any filesystem and cannot hang on one. Format: proc_pid_mountinfo(5), the kernel's
Documentation/filesystems/proc.rst section 3.5, and ``show_mountinfo`` in fs/proc_namespace.c.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from typing import Optional

from check_mounts.model import Mount, Unparsed

DEFAULT_PATH = "/proc/self/mountinfo"

# The longest path that a system call takes is 4,095 bytes and a NUL (PATH_MAX in limits.h).
LONGEST_PATH = 4095

_OCTAL = re.compile(rb"\\([0-3][0-7][0-7])")


def unescape(field: bytes) -> bytes:
    """Turn every ``\\ooo`` of a field back into its byte.

    Which bytes the kernel escapes has grown with time (space, tab, newline and backslash; ``#`` since 5.18; `,` and `=` within
    some options), so all octal escapes are taken, whatever they stand for.
    """
    if b"\\" not in field:
        return field
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), field)


def _options(field: bytes) -> tuple[bytes, ...]:
    # Split first, unescape afterwards: overlayfs escapes the commas within a value.
    return tuple(unescape(option) for option in field.split(b","))


def _device(field: bytes) -> tuple[int, int]:
    major, minor = field.split(b":")
    return _number(major), _number(minor)


def _number(field: bytes) -> int:
    """A number as the kernel prints them, which fits into an int there. Raises ValueError."""
    if not field.isdigit() or len(field) > 10 or int(field) >= 1 << 31:
        raise ValueError("out of range")
    return int(field)


def parse_line(line: bytes) -> Mount:
    """One line of mountinfo, without its newline.

    Raises ValueError with a reason in words where the line has not the documented form.
    """
    # Fields are separated by one space each. An empty source stands between two of them, so runs of spaces are not one separator.
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-", 6)
    except ValueError:
        raise ValueError("it has no separator ' - ' after at least six fields") from None
    if len(fields) < separator + 4:
        raise ValueError("type, source or superblock options are missing after the separator")
    try:
        mount_id, parent_id, device = _number(fields[0]), _number(fields[1]), _device(fields[2])
    except ValueError:
        raise ValueError("mount ID, parent ID or major:minor is not a number") from None
    if not fields[4].startswith(b"/"):
        raise ValueError("the mount point is not an absolute path")
    return Mount(
        mount_id=mount_id,
        parent_id=parent_id,
        device=device,
        root=unescape(fields[3]),
        mount_point=unescape(fields[4]),
        options=_options(fields[5]),
        optional_fields=tuple(fields[6:separator]),
        fs_type=unescape(fields[separator + 1]),
        source=unescape(fields[separator + 2]),
        # Not every filesystem escapes the spaces in its options; nothing follows them, so the rest of the line is theirs.
        super_options=_options(b" ".join(fields[separator + 3 :])),
    )


def parse(data: bytes) -> tuple[list[Mount], list[Unparsed]]:
    """All lines of a mount table in their order, and those that could not be understood. Never raises on any input."""
    mounts: dict[int, Mount] = {}
    unparsed: list[Unparsed] = []
    # Only a newline ends a line: splitlines() would also break at a carriage return or form feed, which are not escaped.
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line:
            continue
        try:
            mount = parse_line(line)
            # The kernel lists a mount twice if the table changes while it is read; two mounts of one ID there are not.
            if mounts.setdefault(mount.mount_id, mount) != mount:
                raise ValueError(f"another line has the mount ID {mount.mount_id}")
        except ValueError as error:
            unparsed.append(Unparsed(number, line, str(error)))
    return list(mounts.values()), unparsed


def read(path: str) -> tuple[list[Mount], list[Unparsed]]:
    """Read and parse the mount table in the file ``path``. Raises OSError; EINVAL where it is no regular file.

    The whole file is read before a byte is parsed: the kernel walks the mounts afresh with every read(2), and the less time
    passes in between, the smaller is the chance that a mount which comes or goes shifts another one out of sight.
    """
    return parse(contents(path))


def contents(path: str) -> bytes:
    """The bytes of a regular file. Raises OSError; EINVAL where it is none."""
    # O_NONBLOCK and the test of the type: a FIFO must not keep us waiting, nor /dev/zero feed us for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        chunks = []
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)


def visible(mounts: Iterable[Mount]) -> set[int]:
    """The IDs of the mounts that their own mount point leads to.

    A mount is shadowed where another one sits on its root, or on a directory on the way to it (in its parent), or where the mount
    it hangs from is itself shadowed. Decided on the text, without a single look-up, in time linear in the table.
    """
    mounts = list(mounts)
    by_id = {mount.mount_id: mount for mount in mounts}
    # One mount at most sits on a given place of a given mount (the kernel's mount hash table); should a table say otherwise, the
    # later one is on top.
    on_top = {(mount.parent_id, mount.mount_point): mount.mount_id for mount in mounts if mount.parent_id != mount.mount_id}
    reached: dict[int, bool] = {}

    def covered(mount: Mount) -> bool:
        # An absolute path starts at the process's root directory itself: what is mounted over `/` later is not stepped on to
        # (path_init in fs/namei.c), so only below `/` does a mount on a mount's root hide it.
        return mount.mount_point != b"/" and (mount.mount_id, mount.mount_point) in on_top

    def reached_from(parent: Mount, mount: Mount) -> bool:
        if not reached[parent.mount_id] or on_top[parent.mount_id, mount.mount_point] != mount.mount_id:
            return False
        if mount.mount_point == parent.mount_point:
            return mount.mount_point != b"/"
        return not covered(parent) and not _in_between(parent, mount, on_top)

    for mount in mounts:
        for current in _unsettled_chain(mount, by_id, reached):
            parent = by_id.get(current.parent_id)
            reached[current.mount_id] = parent is None or parent.mount_id == current.mount_id or reached_from(parent, current)
    return {mount.mount_id for mount in mounts if reached[mount.mount_id] and not covered(mount)}


def _in_between(parent: Mount, mount: Mount, on_top: dict[tuple[int, bytes], int]) -> bool:
    """Does another mount sit on a directory on the way from ``parent`` to ``mount``?"""
    way = mount.mount_point
    if len(way) > LONGEST_PATH:
        return False  # no system call takes it; to look at each part of a megabyte would take minutes
    shortest = len(parent.mount_point.rstrip(b"/"))
    while len(way := way[: way.rfind(b"/")]) > shortest:
        if (parent.mount_id, way) in on_top:
            return True
    return False


def _unsettled_chain(mount: Mount, by_id: dict[int, Mount], settled: dict[int, bool]) -> list[Mount]:
    """``mount`` and what it hangs from, as far as that is not settled yet, outermost first."""
    chain: list[Mount] = []
    current: Optional[Mount] = mount
    while current is not None and current.mount_id not in settled:
        settled[current.mount_id] = True  # ends the walk should a table contain a circle
        chain.append(current)
        current = by_id.get(current.parent_id)
    return chain[::-1]
