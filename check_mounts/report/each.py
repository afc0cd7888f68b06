"""Which mounts have a result of their own (--per-mount). Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from check_mounts import filesystems, typetable
from check_mounts.model import ExpectedMount, Finding, Mount
from check_mounts.selection import Glob, PathPattern
from check_mounts.typed import NamedTuple, Optional, Union


class By(enum.Enum):
    """What a choice decides by."""

    ALL = enum.auto()
    PATH = enum.auto()
    TYPE = enum.auto()
    SOURCE = enum.auto()
    REMOTE = enum.auto()
    LOCAL = enum.auto()


class Chosen(NamedTuple):
    """Some of the mounts; ``pattern`` if they are chosen by one. ``words``: how the choice is
    written, fit for output."""

    words: str
    by: By
    pattern: Optional[Union[PathPattern, Glob]] = None

    def has(self, mount: Mount, types: Sequence[bytes]) -> bool:
        """Whether a mount is one of them. ``types``: the names of its type."""
        if self.pattern is None:
            return self.by is By.ALL or filesystems.is_network(mount) is (self.by is By.REMOTE)
        values = {By.PATH: [mount.mount_point], By.TYPE: types, By.SOURCE: [mount.source]}[self.by]
        return any(self.pattern.match(value) for value in values)


class Each(NamedTuple):
    """The mounts that have a result of their own: those that one of ``chosen`` has.

    ``said`` tells what the sections of the configuration choose for a mount point, which counts
    more; None if they say nothing. ``declared`` has the declarations by mount point."""

    chosen: Sequence[Chosen]
    said: Callable[[bytes], Optional[Sequence[Chosen]]]
    declared: Mapping[bytes, ExpectedMount]

    def wants(self, finding: Finding) -> bool:
        """Whether the mount of this finding is one of them.

        If it is missing, its declaration counts. What that does not say is no reason to leave it
        out: the server must learn that it is missing."""
        point = finding.mount_point
        said = self.said(point)
        chosen = self.chosen if said is None else said
        if finding.mount is not None:
            return any(each.has(finding.mount, [finding.mount.fs_type]) for each in chosen)
        declared = self.declared.get(point)
        fs_type, source = (None, None) if declared is None else (declared.fs_type, declared.source)
        names = [] if fs_type is None else [fs_type, *_alike(fs_type)]
        mount = Mount(0, 0, (0, 0), b"/", point, (), (), fs_type or b"", source or b"", ())
        unknown = {By.TYPE: fs_type is None, By.SOURCE: source is None, By.REMOTE: fs_type is None}
        unknown[By.LOCAL] = unknown[By.REMOTE]
        return any(unknown.get(each.by) or each.has(mount, names) for each in chosen)


def _alike(fs_type: bytes) -> list[bytes]:
    """The names that the kernel may show for a declared type."""
    return [name for family in typetable.FAMILIES if fs_type in family for name in family]
