"""Whose space a filesystem's numbers are: several mounts may report one storage, which is told of once. Pure; the table's text alone.

An overlay reports the filesystem of its upper layer, a dataset of ZFS what its pool has left, each export of a file server what lies
behind it there. That two are the same is concluded only where their numbers agree; where it is not certain, each is told by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from check_mounts import filesystems
from check_mounts.model import Finding, Mount, Usage

# Two looks at one filesystem, one after the other: by this part of it they may differ while others write.
_MEANWHILE, _INODES_MEANWHILE = 0.01, 0.1
# An overlay may lie upon what lies upon something; so many times at the most (FILESYSTEM_MAX_STACK_DEPTH is 2, FUSE knows none).
_DEEPEST = 8


class Spaces:
    """Which of some mounts share their space. ``mounts`` is the table, as far as paths lead to it; a later one covers an earlier."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._at = {mount.mount_point: mount for mount in mounts}

    def told_by(self, findings: Sequence[tuple[Finding, int]]) -> list[Optional[Finding]]:
        """Of findings with usage, each with how bad that is, the one among them that tells of its space; None for one that does so
        itself. What lies upon others leaves it to them, and nobody to one that is less bad."""
        result: list[Optional[Finding]] = [None] * len(findings)
        tellers: dict[object, list[tuple[Finding, int]]] = {}
        for index in sorted(range(len(findings)), key=lambda index: _is_layered(findings[index][0])):
            finding, badness = findings[index]
            known = tellers.setdefault(_key(finding), [])
            result[index] = next((one for one, bad in known if bad >= badness and self._are_one(one, finding)), None)
            if result[index] is None:
                known.append((finding, badness))
        return result

    def _are_one(self, one: Finding, other: Finding) -> bool:
        first, second = _usage(one), _usage(other)
        if one.mount is None or other.mount is None or first is None or second is None:
            return False
        if _pool(one.mount) is not None:
            return _pool(one.mount) == _pool(other.mount) and first.available == second.available
        if _is_layered(other):
            on_it = self._storage(one.mount) == self._storage(other.mount)
            return (_is_unmistakable(first) and first == second) or (on_it and _agree(first, second))
        servers = filesystems.servers(one.mount)
        return bool(servers) and servers == filesystems.servers(other.mount) and _is_unmistakable(first) and first == second

    def _storage(self, mount: Mount) -> tuple[int, int]:
        """The device of the filesystem that the files of a mount lie on, as far as its path can be seen."""
        for _ in range(_DEEPEST):
            below = self._below(mount) if filesystems.of(mount).layered else None
            if below is None or below is mount:
                break
            mount = below
        return mount.device

    def _below(self, mount: Mount) -> Optional[Mount]:
        """The mount that a layer lies on. The path is that of whoever mounted it: of another mount namespace it may lead elsewhere
        here, or nowhere, which is why the numbers have to agree as well."""
        path = mount.super_option(b"upperdir") or mount.source
        if not path.startswith(b"/") or b"/../" in path + b"/":
            return None
        while path:
            if path in self._at:
                return self._at[path]
            path = path[: path.rfind(b"/")]
        return self._at.get(b"/")


def _usage(finding: Finding) -> Optional[Usage]:
    return None if finding.outcome is None else finding.outcome.usage


def _is_layered(finding: Finding) -> bool:
    return finding.mount is not None and filesystems.of(finding.mount).layered


def _pool(mount: Mount) -> Optional[bytes]:
    """The pool of a dataset of ZFS. Each has a size of its own there: what it uses, and what the pool has left for all."""
    return mount.source.partition(b"/")[0] if mount.fs_type == b"zfs" else None


def _key(finding: Finding) -> object:
    """What those that may be one have in common."""
    usage = _usage(finding)
    pool = None if finding.mount is None else _pool(finding.mount)
    return pool or (None if usage is None else usage.size)


def _is_unmistakable(usage: Usage) -> bool:
    """Whether no other filesystem is likely to have the same numbers: two of one size that are full to the last byte do."""
    return usage.inode_counts is not None or usage.free > 0


def _agree(first: Usage, second: Usage) -> bool:
    """A quota, which has a size of its own, is another space. How many inodes there are changes with the free space of xfs."""
    close = abs(first.inodes - second.inodes) <= max(first.inodes, second.inodes) * _INODES_MEANWHILE
    most = first.size * _MEANWHILE
    return close and first.size == second.size and max(abs(first.free - second.free), abs(first.available - second.available)) <= most
