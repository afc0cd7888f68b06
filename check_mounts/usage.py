"""Whose space a filesystem's numbers are: several mounts may report one storage, which is told of
once. Pure; the table's text alone.

An overlay reports the filesystem of its upper layer, a dataset of ZFS what its pool has left, each
export of a file server, and each directory that a virtual machine has from its host, what lies
behind it there. That two are the same is concluded only where their numbers agree; where it is not
certain, each is told by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from check_mounts import filesystems
from check_mounts.model import Finding, Mount
from check_mounts.outcome import Usage

# Two looks at one filesystem, one after the other: by this part of it they may differ while others
# write.
_MEANWHILE, _INODES_MEANWHILE = 0.01, 0.1
# An overlay may lie upon what lies upon something; so many times at the most
# (FILESYSTEM_MAX_STACK_DEPTH is 2, FUSE knows none).
_DEEPEST = 8
# Of one storage there are hardly more that tell of it differently; whoever makes more has each of
# them told.
_MOST_KNOWN = 100
_BY_PATH_OR_NUMBERS, _BY_NAME = ("storage", "numbers"), ("pool", "servers")


class Spaces:
    """Which of some mounts share their space. ``mounts`` is the table, as far as paths lead to it;
    a later one covers an earlier."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._at = {mount.mount_point: mount for mount in mounts}

    def told_by(self, findings: Sequence[tuple[Finding, int]]) -> list[Optional[Finding]]:
        """Of findings with usage, each with how bad that is, the one among them that tells of its
        space; None for one that does so itself. What lies upon others leaves it to them, and nobody
        to one that is less bad."""
        result: list[Optional[Finding]] = [None] * len(findings)
        tellers: dict[object, list[tuple[Finding, int]]] = {}
        for index in sorted(range(len(findings)), key=lambda index: _is_layered(findings[index][0])):
            finding, badness = findings[index]
            result[index] = next(self._candidates(finding, badness, tellers), None)
            if result[index] is None:
                for key in self._keys(finding):
                    known = tellers.setdefault(key, [])
                    if len(known) < _MOST_KNOWN and not any(
                        bad >= badness and _agrees(one, finding) for one, bad in known
                    ):
                        known.append((finding, badness))
        return result

    def _candidates(
        self, finding: Finding, badness: int, tellers: dict[object, list[tuple[Finding, int]]]
    ) -> Iterator[Finding]:
        kinds = _BY_PATH_OR_NUMBERS if _is_layered(finding) else _BY_NAME
        for key in self._keys(finding):
            if key[0] in kinds:
                yield from (one for one, bad in tellers.get(key, ()) if bad >= badness and _agrees(one, finding))

    def _keys(self, finding: Finding) -> list[tuple[object, ...]]:
        """What those that share its space have in common with it. By these it is found: to compare
        all with all would take minutes."""
        mount, usage = finding.mount, _usage(finding)
        if mount is None or usage is None:
            return []
        if filesystems.traits(
            mount.fs_type
        ).pool:  # a dataset's size is what it uses, and what the pool has left for all
            return [("pool", mount.source.partition(b"/")[0], usage.available)]
        keys: list[tuple[object, ...]] = [("storage", self._storage(mount), usage.size)]
        if _is_unmistakable(usage):
            keys.append(("numbers", usage))
            if filesystems.is_network(mount) and not filesystems.of(mount).device:
                # Where no server is named, as of the directories of the machine that this one is a
                # guest of, the type stands for it.
                keys.append(("servers", tuple(filesystems.servers(mount)) or mount.fs_type, usage))
        return keys

    def _storage(self, mount: Mount) -> tuple[int, int]:
        """The device of the filesystem that the files of a mount lie on, as far as its path can be
        seen."""
        for _ in range(_DEEPEST):
            below = self._below(mount) if filesystems.of(mount).layered else None
            if below is None or below is mount:
                break
            mount = below
        return mount.device

    def _below(self, mount: Mount) -> Optional[Mount]:
        """The mount that a layer lies on. The path is that of whoever mounted it: of another mount
        namespace it may lead elsewhere here, or nowhere, which is why the numbers have to agree as
        well."""
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


def _is_unmistakable(usage: Usage) -> bool:
    """Whether no other filesystem is likely to have the same numbers: two of one size that are full
    to the last byte do."""
    return usage.inode_counts is not None or usage.free > 0


def _agrees(one: Finding, other: Finding) -> bool:
    """Whether the numbers of two that lie on one storage are those of one filesystem: a quota,
    which has a size of its own, is another space. How many inodes there are changes with the free
    space of xfs; datasets of ZFS are known by their pool alone."""
    first, second = _usage(one), _usage(other)
    if first is None or second is None:
        return False
    if one.mount is not None and filesystems.traits(one.mount.fs_type).pool:
        return first.available == second.available
    close = abs(first.inodes - second.inodes) <= max(first.inodes, second.inodes) * _INODES_MEANWHILE
    most = first.size * _MEANWHILE
    return (
        close
        and first.size == second.size
        and max(abs(first.free - second.free), abs(first.available - second.available)) <= most
    )
