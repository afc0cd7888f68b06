"""The mounts that have something to do with one mount, from the text of the mount table alone.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts import mounttable, selection
from check_mounts.model import Mount
from check_mounts.typed import NamedTuple, Optional


class Relatives(NamedTuple):
    """The relatives of a mount. ``holder``: it hangs from that one, or its path lies on it.
    ``cover``: that one lies over it. ``beneath`` are mounts at the same place that it covers.
    ``below`` hang from it, the innermost first. ``alike`` show the same superblock. ``layers`` are
    the mounts that hold the layers of an overlay, and can hang."""

    holder: Optional[Mount] = None
    cover: Optional[Mount] = None
    beneath: Sequence[Mount] = ()
    below: Sequence[Mount] = ()
    alike: Sequence[Mount] = ()
    layers: Sequence[Mount] = ()


def mounted_at(point: bytes, mounts: Sequence[Mount]) -> Optional[Mount]:
    """The mount at a mount point: the one that its path leads to, else the last one; None if there
    is no mount."""
    there = [mount for mount in mounts if mount.mount_point == point]
    visible = mounttable.visible(mounts) if there else set()
    return next((mount for mount in there if mount.mount_id in visible), there[-1] if there else None)


def holder(path: bytes, mounts: Sequence[Mount]) -> Optional[Mount]:
    """The mount that a path lies on."""
    visible = mounttable.visible(mounts)
    found = [mount for mount in mounts if mount.mount_id in visible and selection.leads_over(path, mount.mount_point)]
    return max(found, key=lambda mount: len(mount.mount_point), default=None)


def relatives(point: bytes, mount: Optional[Mount], mounts: Sequence[Mount]) -> Relatives:
    """The relatives of a mount, or of a path that nothing is mounted on."""
    if mount is None:
        return Relatives(holder(point, mounts))
    by_id = {each.mount_id: each for each in mounts}
    others = [each for each in mounts if each.mount_id != mount.mount_id]
    above = by_id.get(mount.parent_id)
    return Relatives(
        holder=None if above is mount else above,
        cover=mounttable.covered_by(mounts).get(mount.mount_id),
        beneath=[each for each in ancestors(mount, by_id) if each.mount_point == point],
        below=_below(mount, others),
        alike=[each for each in others if each.device == mount.device and each.fs_type == mount.fs_type],
        layers=_layers(mount, mounts),
    )


def ancestors(mount: Mount, by_id: dict[int, Mount]) -> Iterator[Mount]:
    """The mounts that a mount hangs from, the nearest first."""
    seen = {mount.mount_id}
    above = by_id.get(mount.parent_id)
    while above is not None and above.mount_id not in seen:
        seen.add(above.mount_id)
        yield above
        above = by_id.get(above.parent_id)


def _below(mount: Mount, others: Sequence[Mount]) -> list[Mount]:
    """The mounts that hang from a mount, directly or not, the innermost first."""
    children: dict[int, list[Mount]] = {}
    for each in others:
        children.setdefault(each.parent_id, []).append(each)
    found: list[Mount] = []
    level = [mount]
    while level:
        level = [child for each in level for child in children.pop(each.mount_id, ())]
        found[:0] = level
    return found


# An overlay escapes colons in its directories (ovl_parse_param_lowerdir in fs/overlayfs/params.c).
_LAYERS = (b"lowerdir", b"lowerdir+", b"upperdir", b"datadir+")


def _layers(mount: Mount, mounts: Sequence[Mount]) -> list[Mount]:
    if mount.fs_type not in (b"overlay", b"overlayfs", b"aufs"):
        return []
    found: dict[int, Mount] = {}
    for option in mount.super_options:
        name, _, value = option.partition(b"=")
        for path in value.replace(b"\\:", b"\0").split(b":") if name in _LAYERS else ():
            on = holder(selection.normalised(path.replace(b"\0", b":")), mounts) if path[:1] == b"/" else None
            if on is not None and on.mount_id != mount.mount_id and selection.can_hang_on_the_way(on):
                found[on.mount_id] = on
    return list(found.values())
