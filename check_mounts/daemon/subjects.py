"""What a change is about: the mount at a mount point, or the one that should be there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from check_mounts import selection
from check_mounts.judging.judgements import Judgement, notable
from check_mounts.model import Condition, ExpectedMount, Mount
from check_mounts.typed import NamedTuple, Optional


class Subject(NamedTuple):
    """A mount point, with the source and type of what is or should be mounted there; empty if that
    is not known. Without a ``server`` it is a local mount, or not known."""

    mount_point: bytes
    source: bytes = b""
    fs_type: bytes = b""
    server: Optional[bytes] = None


def subject(mount_point: bytes, mount: Optional[Mount], expected: Iterable[ExpectedMount]) -> Subject:
    """The subject of a finding about this mount; without one, of the declaration of it."""
    if mount is None:
        declared = next((each for each in expected if each.mount_point == mount_point), None)
        if declared is None:
            return Subject(mount_point)
        source, fs_type = declared.source or b"", declared.fs_type or b""
        mount = Mount(0, 0, (0, 0), b"/", mount_point, (), (), fs_type, source, ())
    return Subject(mount_point, mount.source, mount.fs_type, selection.server(mount))


def blocked_below(judgements: Iterable[Judgement], mounts: Sequence[Mount]) -> Mapping[bytes, int]:
    """How many mounts are blocked by the mount at each mount point: the nearest one above them that
    is not blocked itself."""
    blocked = [each.finding.mount for each in notable(judgements) if each.condition is Condition.BLOCKED]
    found: dict[bytes, int] = {}
    if not blocked:
        return found
    by_id = {mount.mount_id: mount for mount in mounts}
    themselves = {mount.mount_id for mount in blocked if mount is not None}
    for mount in blocked:
        above = None if mount is None else by_id.get(mount.parent_id)
        seen: set[int] = set()
        while above is not None and above.mount_id in themselves and above.mount_id not in seen:
            seen.add(above.mount_id)
            above = by_id.get(above.parent_id)
        if above is not None:
            found[above.mount_point] = found.get(above.mount_point, 0) + 1
    return found
