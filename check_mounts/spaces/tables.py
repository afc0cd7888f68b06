"""The mounts of another mount namespace that can hang, from its table. The rest of the table is
forgotten: a container's own mounts are its own affair.

Import budget: mounttable, filesystems, selection."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from check_mounts import filesystems, mounttable, selection
from check_mounts.model import Mount, Seen
from check_mounts.spaces.seeing import IdMap, Space, host_id
from check_mounts.typed import NamedTuple, Optional

# A type between the separator and the source.
_TYPE = re.compile(rb" - ([^ \n]+) ")
_NOBODY = 0xFFFFFFFE


class Kept(NamedTuple):
    """The mounts of a table that can hang and that a path leads to. ``is_cut``: the table is larger
    than what was read."""

    mounts: tuple[Mount, ...] = ()
    is_cut: bool = False


def read(space: Space, most: int) -> tuple[Optional[int], bytes, bool]:
    """A process of the namespace, the beginning of the table that it sees (at most so many bytes,
    whole lines), and whether that is not all. None for the process if all of them have ended, or
    are elsewhere now."""
    for pid in space.pids:
        data = _contents(pid, most)
        if data.startswith(b"%d " % space.key.mount_id):
            is_cut = len(data) >= most
            return pid, data[: data.rfind(b"\n") + 1] if is_cut else data, is_cut
    return None, b"", False


def _contents(pid: int, most: int) -> bytes:
    """The beginning of a table. Its descriptor keeps the namespace alive: it is closed at once."""
    chunks, size = [], 0
    try:
        fd = os.open(f"/proc/{pid}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while size < most and (chunk := os.read(fd, min(1 << 20, most - size))):
                chunks.append(chunk)
                size += len(chunk)
        finally:
            os.close(fd)
    except OSError:
        return b""
    return b"".join(chunks)


def kept(data: bytes, is_cut: bool = False) -> Kept:
    """What is kept of a table. Each mount hangs from the nearest one that is kept."""
    if not any(map(_may_hang_by_type, set(_TYPE.findall(data)))):
        return Kept((), is_cut)
    mounts = mounttable.parse(data, torn=True)[0]
    by_id = {mount.mount_id: mount for mount in mounts}
    hidden = mounttable.covers(mounts)
    wanted = {mount.mount_id: mount for mount in mounts if mount.mount_id not in hidden and may_hang(mount)}
    return Kept(tuple(_hung_from_kept(mount, by_id, wanted) for mount in wanted.values()), is_cut)


def _hung_from_kept(mount: Mount, by_id: Mapping[int, Mount], wanted: Mapping[int, Mount]) -> Mount:
    seen = {mount.mount_id}
    parent = mount.parent_id
    while parent not in wanted and parent in by_id and parent not in seen:
        seen.add(parent)
        parent = by_id[parent].parent_id
    return mount if parent == mount.parent_id else mount._replace(parent_id=parent)


@functools.lru_cache(maxsize=256)
def _may_hang_by_type(fs_type: bytes) -> bool:
    return filesystems.may_be_network(fs_type) or filesystems.is_fuse_type(fs_type)


def may_hang(mount: Mount) -> bool:
    """Whether a mount of another namespace can wait for its server or daemon.

    A source that looks like that of a server proves nothing here: root of a user namespace may
    mount a tmpfs or an overlay, with any source."""
    return _may_hang_by_type(mount.fs_type) and selection.can_hang_on_the_way(mount)


def named(mounts: Sequence[Mount], space: Space, pid: int, name: bytes) -> Iterator[Mount]:
    """The mounts as all outputs name them, to be reached through a process."""
    base, before = b"/proc/%d/root" % pid, name + b": "
    for mount in mounts:
        ours = mount if space.ids is None or not filesystems.is_fuse(mount) else _with_our_ids(mount, space)
        yield ours._replace(
            mount_point=before + mount.mount_point, seen_at=Seen(base, mount.mount_point, space.same_network)
        )


def _with_our_ids(mount: Mount, space: Space) -> Mount:
    """A FUSE mount whose options name users as we number them. The kernel shows the IDs of the user
    namespace that it was mounted in (fuse_show_options), which is that of the processes there."""
    maps = {b"user_id": space.ids or (), b"group_id": space.groups}
    return mount._replace(super_options=tuple(_with_our_id(option, maps) for option in mount.super_options))


def _with_our_id(option: bytes, maps: Mapping[bytes, IdMap]) -> bytes:
    name, _, word = option.partition(b"=")
    if name not in maps:
        return option
    found = host_id(maps[name], int(word)) if word.isdigit() and len(word) <= 10 else None
    return b"%s=%d" % (name, _NOBODY if found is None else found)
