"""The numbers of filesystems, and the storage behind them: several mounts may show the same
storage, which is judged only once. Pure; it uses only the text of the table.

An overlay shows the numbers of the filesystem of its upper layer, and a dataset of ZFS the space
that its pool has left. Each export of a file server, and each directory that a virtual machine has
from its host, shows the storage behind it there. Two mounts count as one storage only if their
numbers agree; in doubt each is reported by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from check_mounts import filesystems, meaning
from check_mounts.model import Finding, Mount
from check_mounts.outcome import Numbers, Usage
from check_mounts.typed import Optional

# Two mounts of one filesystem are probed one after the other. This part of it may change between
# the two probes, because others write to it.
_MEANWHILE, _INODES_MEANWHILE = 0.01, 0.1
# How many layers may lie on each other (FILESYSTEM_MAX_STACK_DEPTH is 2, FUSE has no limit).
_DEEPEST = 8
# How many different findings of one storage are kept for comparison. There are hardly more; those
# beyond that are reported by themselves.
_MOST_KNOWN = 100
_BY_PATH_OR_NUMBERS, _BY_NAME = ("storage", "numbers"), ("pool", "servers")


def numbers(finding: Finding) -> Optional[Numbers]:
    """The usage of a mount as all outputs give it; None if it is not known, or if the filesystem
    counts nothing. It is given for each mount that answered, whether it can fill up or not.

    A shadowed mount has none: its probe may have reached the mount that covers it."""
    outcome = finding.outcome
    if outcome is None or outcome.usage is None or not meaning.of(finding.condition).counted:
        return None
    found = outcome.usage.numbers
    return None if found.size is None and found.inodes is None else found


class Spaces:
    """The mounts that share their space. ``mounts`` are the mounts of the table that paths lead to;
    a later one covers an earlier one."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._at = {mount.mount_point: mount for mount in mounts}

    def reporters(self, findings: Sequence[tuple[Finding, int]]) -> list[Optional[Finding]]:
        """For each finding with usage, given with its badness: the finding that reports its space;
        None for a finding that reports it itself. A layer leaves the report to the filesystem that
        it lies on, and no finding leaves it to one that is less bad."""
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
        """The keys that a finding has in common with the findings that share its space. Looking
        them up by key is fast: comparing each with each would take minutes."""
        mount, usage = finding.mount, _usage(finding)
        if mount is None or usage is None:
            return []
        if filesystems.traits(mount.fs_type).pool:  # a dataset's size is what it uses, and what the pool has left
            return [("pool", mount.source.partition(b"/")[0], usage.available)]
        keys: list[tuple[object, ...]] = [("storage", self._storage(mount), usage.size)]
        if _is_unmistakable(usage):
            keys.append(("numbers", usage))
            if filesystems.is_network(mount) and not filesystems.of(mount).device:
                # The directories that a virtual machine has from its host name no server. For
                # these, the type stands for it.
                keys.append(("servers", tuple(filesystems.servers(mount)) or mount.fs_type, usage))
        return keys

    def _storage(self, mount: Mount) -> tuple[int, int]:
        """The device of the filesystem that the files of a mount lie on, as far as the table shows
        it."""
        for _ in range(_DEEPEST):
            below = self._below(mount) if filesystems.of(mount).layered else None
            if below is None or below is mount:
                break
            mount = below
        return mount.device

    def _below(self, mount: Mount) -> Optional[Mount]:
        """The mount that a layer lies on. Its path is that of the process that mounted it. If that
        process was in another mount namespace, the path may lead elsewhere here, or nowhere. So the
        numbers must agree, too."""
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
    """Whether it is unlikely that another filesystem has the same numbers. Two filesystems of one
    size that are full to the last byte have the same."""
    return usage.inode_counts is not None or usage.free > 0


def _agrees(one: Finding, other: Finding) -> bool:
    """Whether two findings on one storage have the numbers of one filesystem. A quota has a size of
    its own, so it counts as another space. On xfs, the number of inodes changes with the free
    space. Datasets of ZFS are known by their pool alone."""
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
