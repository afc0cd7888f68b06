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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class _Options(dict[bytes, "tuple[bytes, ...]"]):
    """The options of a field, made once: most mounts of a host have the same."""

    def __missing__(self, field: bytes) -> tuple[bytes, ...]:
        self[field] = options = _options(field)
        return options


def _parse_ordinary(line: bytes, options: _Options) -> Mount:
    """A line as nearly all are: without escapes, and without spaces in its options. It holds no
    NUL. Raises ValueError for any other line, even if that makes sense."""
    number, parent, device, root, point, own, *optional, dash, fs_type, source, shared = line.split(b" ")
    major, _, minor = device.partition(b":")
    if (
        dash != b"-"
        or b"-" in optional
        or b"\\" in line
        or point[:1] != b"/"
        or not (number + parent + major + minor).isdigit()
        or not len(number) < 10 > len(parent)  # nine digits fit into a C int
        or not len(major) < 10 > len(minor)
        or len(line) > LONGEST_LINE
    ):
        raise ValueError
    return Mount._make(
        (
            int(number),
            int(parent),
            (int(major), int(minor)),
            root,
            point,
            options[own],
            tuple(optional),
            fs_type,
            source,
            options[shared],
            None,
        )
    )


def parse(data: bytes, torn: bool = False) -> tuple[list[Mount], list[Unparsed]]:
    """The mounts of a table in their order, and at most 10,000 lines that make no sense.

    Never raises, whatever the input.

    ``torn``: the table changed while it was read, so of two lines with one mount ID the later one
    counts."""
    mounts: dict[int, Mount] = {}
    unparsed: list[Unparsed] = []
    options, has_nul = _Options(), b"\0" in data
    # Only a newline ends a line: splitlines() would also break at a carriage return or form feed,
    # which are not escaped.
    for number, line in enumerate(_lines(data), 1):
        if not line:
            continue
        if len(unparsed) >= _MOST_UNPARSED:  # this is not a mount table
            break
        try:
            mount = parse_line(line) if has_nul else _parse_ordinary(line, options)
        except ValueError:
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

    def reread(self) -> tuple[list[Mount], list[Unparsed]]:
        """The same."""
        return self.read()


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


def covers(mounts: Iterable[Mount]) -> Mapping[int, int]:
    """The ID of each mount that its own mount point does not lead to -> the ID of its cover.

    A mount is shadowed if another one sits on its root, or on a directory on the way to it (in its
    parent), or if the mount it hangs from is itself shadowed. Only the text decides, without a
    look-up, in time linear in the table."""
    mounts = list(mounts)
    for known, found in _latest:
        if known == mounts:
            return found
    _latest.insert(0, (mounts, _covers(mounts)))
    del _latest[_KEPT:]
    return _latest[0][1]


# The tables that were asked about last, with the answers: a check asks several times about its
# table and, in a sandbox, about that of PID 1.
_latest: list[tuple[list[Mount], Mapping[int, int]]] = []
_KEPT = 2


def _covers(mounts: Sequence[Mount]) -> dict[int, int]:
    tree = _Tree(mounts)
    hidden: dict[int, Optional[int]] = {}  # the ID of a mount -> that of the mount in its way, if any
    for mount in mounts:
        if mount.mount_id in hidden:
            continue
        if mount.parent_id in hidden:
            hidden[mount.mount_id] = tree.on_the_way(mount, hidden)
            continue
        for current in _unsettled_chain(mount, tree.by_id, hidden):
            hidden[current.mount_id] = tree.on_the_way(current, hidden)
    found = {key: cover for key, cover in hidden.items() if cover is not None}
    return {**tree.above, **found} if tree.above else found


class _Tree:
    """The mounts of a table. ``above``: the ID of each mount with another one on its root -> the
    ID of that one."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.by_id = by_id = {mount.mount_id: mount for mount in mounts}
        # At most one mount sits on a given place of a given mount (the kernel's mount hash table);
        # if a table says otherwise, the later one is on top.
        self._on_top = {
            (mount.parent_id, mount.mount_point): mount.mount_id
            for mount in mounts
            if mount.parent_id != mount.mount_id
        }
        # An absolute path starts at the process's root directory itself: a look-up does not step
        # onto a mount that was laid over `/` later (path_init in fs/namei.c), so only below `/`
        # does a mount on a mount's root hide it.
        self.above = {
            parent: cover
            for (parent, point), cover in self._on_top.items()
            if parent in by_id and by_id[parent].mount_point == point != b"/"
        }
        # (ID of a mount, directory in it) -> the innermost mount of those that sit on the
        # directory, or on one on the way to it.
        self._ways: dict[tuple[int, bytes], Optional[int]] = {}

    def on_the_way(self, mount: Mount, hidden: Mapping[int, Optional[int]]) -> Optional[int]:
        """The ID of the mount in the way to this one. ``hidden`` has that of its parent."""
        parent_id, point = mount.parent_id, mount.mount_point
        parent = self.by_id.get(parent_id)
        if parent is None or parent_id == mount.mount_id:
            return None
        if hidden[parent_id] is not None:
            return hidden[parent_id]
        beside = self._on_top[parent_id, point]
        if beside != mount.mount_id:
            return beside
        if point == parent.mount_point:
            return parent_id if point == b"/" else None
        if parent_id in self.above:
            return self.above[parent_id]
        if len(point) > LONGEST_PATH:
            return None  # no system call takes it, and checking each part of a megabyte would take minutes
        directory = parent_id, point[: point.rfind(b"/")]
        try:
            return self._ways[directory]
        except KeyError:
            return self._in_between(parent, directory)

    def _in_between(self, parent: Mount, directory: tuple[int, bytes]) -> Optional[int]:
        """The ID of a mount that sits on this directory of ``parent``, or on one on the way to
        it."""
        way, found = directory[1], None
        shortest = len(parent.mount_point.rstrip(b"/"))
        while len(way) > shortest and found is None:
            found = self._on_top.get((parent.mount_id, way))
            way = way[: way.rfind(b"/")]
        self._ways[directory] = found
        return found


def covered_by(mounts: Iterable[Mount]) -> dict[int, Mount]:
    """The ID of each mount that its own mount point does not lead to -> its cover."""
    mounts = list(mounts)
    found = covers(mounts)
    by_id = {mount.mount_id: mount for mount in mounts} if found else {}
    return {below: by_id[cover] for below, cover in found.items()}


def _unsettled_chain(mount: Mount, by_id: dict[int, Mount], settled: dict[int, Optional[int]]) -> list[Mount]:
    """The mount and the mounts that it hangs from, outermost first, without the settled ones."""
    chain: list[Mount] = []
    current: Optional[Mount] = mount
    while current is not None and current.mount_id not in settled:
        settled[current.mount_id] = None  # ends the walk if a table contains a circle
        chain.append(current)
        current = by_id.get(current.parent_id)
    return chain[::-1]
