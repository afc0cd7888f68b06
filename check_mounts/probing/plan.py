"""The order in which mounts are probed, and the filesystems in which each of them could hang, from
the text of the mount table alone.

A mount is probed once the mount above it has answered. A look-up can also hang before it reaches
the mount, in a network or FUSE filesystem that its path crosses. That says nothing about the
mount's own filesystem, so each of the two has its own gate."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.model import Mount
from check_mounts.selection import Selection
from check_mounts.typed import NamedTuple, Optional


class Gate(NamedTuple):
    """Lets one mount through at a time until one has answered.

    A gate stands before the superblock with this ``device``. ``on_the_way``: it stands before the
    paths that cross that superblock, which can hang."""

    device: tuple[int, int]
    on_the_way: bool = False


class Place(NamedTuple):
    """What a place must know of the mounts above it. ``parent``: the nearest selected mount.
    ``way``: the device of the nearest mount that could hang. ``avoid``: a mount that no path may
    cross."""

    parent: Optional[int] = None
    way: Optional[tuple[int, int]] = None
    avoid: Optional[int] = None


class Plan:
    """The tree of the mounts that are probed: each waits for its parent."""

    def __init__(self, mounts: Sequence[Mount], chosen: Selection) -> None:
        self.by_id = {mount.mount_id: mount for mount in mounts}
        self.selected = chosen.selected
        self._selected = {mount.mount_id for mount in chosen.selected}
        self._avoid = {out.mount.mount_id: out for out in chosen.left_out if out.why.avoids}
        self.parent: dict[int, int] = {}
        self.children: dict[int, list[Mount]] = {}
        # Mounts that are not looked up, because their path crosses a mount that can hang and that
        # we must not touch.
        self.avoided: list[tuple[Mount, str]] = []
        self._places: dict[int, Place] = {}
        self._gates: dict[int, tuple[Gate, ...]] = {}
        outermost: list[Mount] = []
        for mount in chosen.selected:
            place = self._place_below(mount)
            if place.avoid is not None:
                point = text.printable(self.by_id[place.avoid].mount_point)
                why = selection.why_left_out(self._avoid[place.avoid])
                self.avoided.append((mount, f"below {point}, which is not checked ({why})"))
            elif place.parent is None:
                outermost.append(mount)
            else:
                self.parent[mount.mount_id] = place.parent
                self.children.setdefault(place.parent, []).append(mount)
        # The IDs of the mounts that could meet another one at a gate: those that share their
        # superblock, and those whose path could hang.
        self.gated = _sharing(chosen.selected) | self._behind_others(chosen.selected)
        # Mounts whose path could hang come last: if another mount can represent their superblock,
        # it should.
        self.outermost = self._with_circles(outermost, chosen)
        if self.gated:
            self.outermost.sort(key=lambda mount: len(self.gates(mount)))

    def _behind_others(self, mounts: Iterable[Mount]) -> set[int]:
        """The IDs of the mounts whose path could hang."""
        if all(place.way is None for place in self._places.values()):
            return set()
        return {mount.mount_id for mount in mounts if self._way(mount) is not None}

    def has_device(self, device: tuple[int, int]) -> bool:
        """Whether a mount of this filesystem is in the table, selected or not."""
        return any(mount.device == device for mount in self.by_id.values())

    def gates(self, mount: Mount) -> tuple[Gate, ...]:
        """The gates of a mount: the one before the superblock in which its path could hang, if
        there is one, and the one before its own superblock."""
        gates = self._gates.get(mount.mount_id)
        if gates is None:
            way = self._way(mount)
            own = Gate(mount.device)
            gates = (own,) if way is None else (Gate(way, on_the_way=True), own)
            self._gates[mount.mount_id] = gates
        return gates

    def blamed(self, mount_id: int, device: tuple[int, int], arrived: bool) -> Gate:
        """The gate that is blamed when the probe of a mount hangs.

        Before the probe has arrived, that is the gate of the path, if the path can hang. But not if
        the mount is NFS or a similar type: there, the last step of a look-up revalidates the
        mount's root directory with its own server (d_weak_revalidate)."""
        mount = self.by_id.get(mount_id)
        way = None if mount is None or arrived or filesystems.traits(mount.fs_type).network else self._way(mount)
        return Gate(device) if way is None else Gate(way, on_the_way=True)

    def _way(self, mount: Mount) -> Optional[tuple[int, int]]:
        way = self._place_below(mount).way
        return None if way == mount.device else way

    def _place_below(self, mount: Mount) -> Place:
        known = self._places.get(mount.parent_id)
        if known is not None and mount.parent_id != mount.mount_id:
            return known
        parent = self.by_id.get(mount.parent_id)
        return Place() if parent is None or parent is mount else self._place(parent)

    def _place(self, mount: Mount) -> Place:
        """The place below this mount. It is computed from the outermost mount inwards, without
        recursion, so that a long chain of mounts needs no deep stack."""
        chain = [mount]
        seen = {mount.mount_id}
        while chain[-1].mount_id not in self._places:
            above = self.by_id.get(chain[-1].parent_id)
            if above is None or above.mount_id in seen:
                break
            seen.add(above.mount_id)
            chain.append(above)
        place = self._places.get(chain[-1].mount_id, Place())
        for each in reversed(chain):
            if each.mount_id not in self._places:
                self._places[each.mount_id] = self._below(each, place)
            place = self._places[each.mount_id]
        return place

    def _below(self, mount: Mount, place: Place) -> Place:
        hangs = selection.can_hang_on_the_way(mount)
        # Every path crosses `/`, which can hang on a diskless host: to avoid it would mean to check
        # nothing.
        avoid = mount.mount_id if hangs and mount.mount_id in self._avoid and mount.mount_point != b"/" else place.avoid
        return Place(
            parent=mount.mount_id if mount.mount_id in self._selected else place.parent,
            way=mount.device if hangs else place.way,
            avoid=avoid,
        )

    def _with_circles(self, outermost: list[Mount], chosen: Selection) -> list[Mount]:
        """The outermost mounts, and one mount of each circle. A table in which mounts are below
        each other in a circle is wrong, but these mounts are probed all the same."""
        if self._reach_all():
            return outermost
        reached = {mount.mount_id for mount, _ in self.avoided}
        for mount in outermost:
            self._reach(mount, reached)
        result = list(outermost)
        for mount in chosen.selected:
            if mount.mount_id not in reached:
                self.children[self.parent.pop(mount.mount_id)].remove(mount)
                self._reach(mount, reached)
                result.append(mount)
        return result

    def _reach_all(self) -> bool:
        """Whether each mount that waits for another one is below an outermost one."""
        avoided = {mount.mount_id for mount, _ in self.avoided}
        below = [key for key in self.children if key not in self.parent and key not in avoided]
        count = 0
        while below:
            children = self.children[below.pop()]
            count += len(children)
            below.extend([child.mount_id for child in children if child.mount_id in self.children])
        return count == len(self.parent)

    def _reach(self, start: Mount, reached: set[int]) -> None:
        below = [start]
        while below:
            mount = below.pop()
            if mount.mount_id not in reached:
                reached.add(mount.mount_id)
                below.extend(self.children.get(mount.mount_id, ()))


def _sharing(mounts: Sequence[Mount]) -> set[int]:
    """The IDs of the mounts that show the same superblock as another one."""
    count = collections.Counter([mount.device for mount in mounts])
    if len(count) == len(mounts):
        return set()
    return {mount.mount_id for mount in mounts if count[mount.device] > 1}
