"""The mount table as the kernel prints it: bytes of mountinfo ->
:class:`~check_mounts.model.Mount`.

It reads ``/proc/.../mountinfo``, never ``/etc/mtab`` (which may be a stale file), and uses no
library that calls stat(2) on each mount: reading mountinfo takes no lock of any filesystem and
cannot hang on one. Format: proc_pid_mountinfo(5), the kernel's Documentation/filesystems/proc.rst
section 3.5, and ``show_mountinfo`` in fs/proc_namespace.c."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

from check_mounts import tablelines
from check_mounts.model import Known, Mount, Unparsed
from check_mounts.tablelines import opened, read_out, unescaped
from check_mounts.typed import Optional, Union

DEFAULT_PATH = "/proc/self/mountinfo"

# The mounts of a table, and its lines that make no sense.
Table = tuple[Sequence[Mount], Sequence[Unparsed]]

# The longest path that a system call takes is 4,095 bytes and a NUL (PATH_MAX in limits.h).
LONGEST_PATH = 4095

# How often, and for how many seconds, a table that changes while it is read is read again.
_LOOKS, _SETTLING = 3, 0.25
# The longest line that makes sense, in bytes: an overlay may name 500 directories.
LONGEST_LINE = 1 << 20
# The bytes to keep from each end of a line that makes no sense: more than any output shows.
_KEPT_OF_LINE = 1000
# After this many lines that make no sense, the rest of the table is ignored.
_MOST_UNPARSED = 10000


def _options(field: bytes) -> tuple[bytes, ...]:
    # Split first, unescape afterwards: overlayfs escapes the commas within a value.
    return tuple(unescaped(option) for option in field.split(b","))


def _device(field: bytes) -> tuple[int, int]:
    major, minor = field.split(b":")
    return _number(major), _number(minor)


def _number(field: bytes) -> int:
    """A number as the kernel prints it, which fits into a C int. Raises ValueError."""
    if not field.isdigit() or len(field) > 10 or int(field) >= 1 << 31:
        raise ValueError("out of range")
    return int(field)


def parse_line(line: bytes) -> Mount:
    """One line of mountinfo, without its newline.

    Raises ValueError with a reason in words for a line that does not have the documented form.
    """
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE >> 20} MiB")
    # No path, type or option can hold a NUL, and no system call takes one.
    if b"\0" in line or b"\\000" in line:
        raise ValueError("it holds a NUL")
    # Fields are separated by one space each. An empty source stands between two of them, so runs of
    # spaces are not one separator.
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
        root=unescaped(fields[3]),
        mount_point=unescaped(fields[4]),
        options=_options(fields[5]),
        optional_fields=tuple(fields[6:separator]),
        fs_type=unescaped(fields[separator + 1]),
        source=unescaped(fields[separator + 2]),
        # Not every filesystem escapes the spaces in its options; nothing follows them, so the rest
        # of the line is theirs.
        super_options=_options(b" ".join(fields[separator + 3 :])),
    )


def parse(data: bytes, torn: bool = False) -> tuple[list[Mount], list[Unparsed]]:
    """The mounts of a table in their order, and at most 10,000 lines that make no sense.

    Never raises, whatever the input.

    ``torn``: the table changed while it was read, so of two lines with one mount ID the later one
    counts."""
    mounts: dict[int, Mount] = {}
    unparsed: list[Unparsed] = []
    # Only a newline ends a line: splitlines() would also break at a carriage return or form feed,
    # which are not escaped.
    for number, line in enumerate(_lines(data), 1):
        if not line:
            continue
        if len(unparsed) >= _MOST_UNPARSED:  # this is not a mount table
            break
        try:
            mount = parse_line(line)
        except ValueError as error:
            unparsed.append(Unparsed(number, _ends(line), str(error)))
            continue
        known = mounts.get(mount.mount_id)
        if known is not None and known != mount:
            if not torn:
                unparsed.append(
                    Unparsed(number, _ends(line), f"another line has the mount ID {mount.mount_id}", twice=True)
                )
                continue
            del mounts[mount.mount_id]  # the new mount takes the place of its own line
        mounts[mount.mount_id] = mount
    return list(mounts.values()), unparsed


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines as split() would give them, but one at a time.

    For a file of 64 MiB that holds nothing but newlines, this saves 2 GiB."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        yield data[at:end]
        at = end + 1
    yield data[at:]


def _ends(line: bytes) -> bytes:
    return line if len(line) <= 2 * _KEPT_OF_LINE else line[:_KEPT_OF_LINE] + b"..." + line[-_KEPT_OF_LINE:]


def read(path: str) -> tuple[list[Mount], list[Unparsed]]:
    """Read and parse the mount table in the file ``path``.

    Raises OSError; EINVAL if it is not a regular file, EFBIG if it is larger than LARGEST_FILE,
    ENODATA if the kernel's own table is empty.

    The kernel reuses a mount ID as soon as it is free, so a table that changes while it is read may
    have two lines with one ID: then it is read again. If it does not settle, the later line counts.
    If a file has both lines each time, the file is wrong, and its second line makes no sense."""
    return Reader(path).read()


class Reader:
    """Reads a mount table again and again. A table that has not changed is not parsed again: it is
    the same object as before."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: Optional[tuple[int, tuple[list[Mount], list[Unparsed]]]] = None

    def read(self) -> tuple[list[Mount], list[Unparsed]]:
        """The table as it is now. Raises OSError, see :func:`read`."""
        latest = monotonic() + _SETTLING
        data, generated = _settled_contents(self._path, latest)
        if self._known is not None and self._known[0] == hash(data):
            return self._known[1]
        table = parse(data)
        self._known = None if any(line.twice for line in table[1]) else (hash(data), table)
        while any(line.twice for line in table[1]):
            before = data
            data, generated = _settled_contents(self._path, latest)
            if data == before and not generated:
                break
            table = parse(data, torn=monotonic() >= latest)
        if generated and not data:
            # The process that owns this table has ended. It would be wrong to conclude that nothing
            # is mounted.
            self._known = None
            raise OSError(errno.ENODATA, "it is empty")
        return table


def _settled_contents(path: str, latest: float) -> tuple[bytes, bool]:
    """The table as it is between two changes, and whether the kernel generates it.

    It may have changed while it was read if it does not settle before ``latest`` (CLOCK_MONOTONIC).

    Each read(2) gives some pages and releases the lock, and the next one continues where the last
    one stopped. Before Linux 5.8 that position was a number of lines, and a mount that went away
    shifted another one out of sight (mnt_cursor in fs/namespace.c has fixed that)."""
    for _ in range(_LOOKS):
        data, generated, changed = _look(path)
        if not changed or monotonic() >= latest:
            break
    return data, generated


def _look(path: str) -> tuple[bytes, bool, bool]:
    """The bytes of a file, whether the kernel generates them, and whether they have changed.

    A change counts from when the file was opened."""
    fd = opened(path)
    try:
        data, generated = read_out(fd), os.fstat(fd).st_size == 0
        return data, generated, generated and _has_changed(fd)
    finally:
        os.close(fd)


def _has_changed(fd: int) -> bool:
    """Whether the table behind an open mountinfo has changed since it was opened.

    POLLPRI says so (proc_pid_mounts(5))."""
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    try:
        return any(event & select.POLLPRI for _, event in poll.poll(0))
    except OSError:  # out of memory: take the table as it was read
        return False


def place_now(path: str, mount: Union[Mount, Known]) -> Optional[bytes]:
    """Where a mount is mounted now, by the table in ``path``; None if it is not. Raises OSError."""
    return tablelines.place_now(path, mount.mount_id, mount.device, mount.fs_type)


def visible(mounts: Iterable[Mount]) -> set[int]:
    """The IDs of the mounts that their own mount point leads to: no other mount covers them."""
    mounts = list(mounts)
    return {mount.mount_id for mount in mounts} - covers(mounts).keys()


def covers(mounts: Iterable[Mount]) -> dict[int, int]:
    """The ID of each mount that its own mount point does not lead to -> the ID of its cover.

    A mount is shadowed if another one sits on its root, or on a directory on the way to it (in its
    parent), or if the mount it hangs from is itself shadowed. Only the text decides, without a
    look-up, in time linear in the table."""
    mounts = list(mounts)
    by_id = {mount.mount_id: mount for mount in mounts}
    # At most one mount sits on a given place of a given mount (the kernel's mount hash table); if a
    # table says otherwise, the later one is on top.
    on_top = {
        (mount.parent_id, mount.mount_point): mount.mount_id for mount in mounts if mount.parent_id != mount.mount_id
    }
    hidden: dict[int, Optional[int]] = {}  # the ID of a mount -> that of the mount in its way, if any

    def above(mount: Mount) -> Optional[int]:
        # An absolute path starts at the process's root directory itself: a look-up does not step
        # onto a mount that was laid over `/` later (path_init in fs/namei.c), so only below `/`
        # does a mount on a mount's root hide it.
        return None if mount.mount_point == b"/" else on_top.get((mount.mount_id, mount.mount_point))

    def on_the_way(parent: Mount, mount: Mount) -> Optional[int]:
        beside = on_top[parent.mount_id, mount.mount_point]
        if hidden[parent.mount_id] is not None or beside != mount.mount_id:
            return beside if hidden[parent.mount_id] is None else hidden[parent.mount_id]
        if mount.mount_point == parent.mount_point:
            return parent.mount_id if mount.mount_point == b"/" else None
        return _first(above(parent), _in_between(parent, mount, on_top))

    for mount in mounts:
        for current in _unsettled_chain(mount, by_id, hidden):
            parent = by_id.get(current.parent_id)
            is_outermost = parent is None or parent.mount_id == current.mount_id
            hidden[current.mount_id] = None if is_outermost or parent is None else on_the_way(parent, current)
    found = {mount.mount_id: _first(hidden[mount.mount_id], above(mount)) for mount in mounts}
    return {below: cover for below, cover in found.items() if cover is not None}


def covered_by(mounts: Iterable[Mount]) -> dict[int, Mount]:
    """The ID of each mount that its own mount point does not lead to -> its cover."""
    mounts = list(mounts)
    by_id = {mount.mount_id: mount for mount in mounts}
    return {below: by_id[cover] for below, cover in covers(mounts).items()}


def _first(*covers: Optional[int]) -> Optional[int]:
    return next((cover for cover in covers if cover is not None), None)


def _in_between(parent: Mount, mount: Mount, on_top: dict[tuple[int, bytes], int]) -> Optional[int]:
    """The ID of a mount that sits on a directory on the way from ``parent`` to ``mount``."""
    way = mount.mount_point
    if len(way) > LONGEST_PATH:
        return None  # no system call takes it, and checking each part of a megabyte would take minutes
    shortest = len(parent.mount_point.rstrip(b"/"))
    while len(way := way[: way.rfind(b"/")]) > shortest:
        if (parent.mount_id, way) in on_top:
            return on_top[parent.mount_id, way]
    return None


def _unsettled_chain(mount: Mount, by_id: dict[int, Mount], settled: dict[int, Optional[int]]) -> list[Mount]:
    """The mount and the mounts that it hangs from, outermost first, without the settled ones."""
    chain: list[Mount] = []
    current: Optional[Mount] = mount
    while current is not None and current.mount_id not in settled:
        settled[current.mount_id] = None  # ends the walk if a table contains a circle
        chain.append(current)
        current = by_id.get(current.parent_id)
    return chain[::-1]
