"""Who owns the root directories of NFSv4 mounts, from pass to pass: where the mapping of names to
IDs fails, everything belongs to nobody from one moment to the next.

Only a process that has seen the owner before can tell: a directory may well be nobody's own.
No effects, but for reading two files of procfs once."""

from __future__ import annotations

from collections.abc import Iterable

from check_mounts.model import Finding
from check_mounts.typed import NamedTuple, Optional

# What stands for an owner whose name is not known: -2, if nobody maps names (decode_attr_owner in
# fs/nfs/nfs4xdr.c); the user and group of Nobody-User and Nobody-Group in idmapd.conf(5), which are
# 65534 on most systems, 99 on old ones of Red Hat. The kernel's overflow IDs can be set.
_NOBODY = frozenset({99, 65534, 0xFFFFFFFE, 0xFFFFFFFF})
_OVERFLOW = ("/proc/sys/fs/overflowuid", "/proc/sys/fs/overflowgid")
# Places are remembered while nothing is mounted there, because people mount again after they have
# changed idmapd.conf; but not more of them than this.
_MOST = 4096

_Place = tuple[bytes, bytes, bytes]


class _Owner(NamedTuple):
    """The last user and group that were not nobody; None if none was seen."""

    uid: Optional[int] = None
    gid: Optional[int] = None


class Owners:
    """The owners that were seen at each place where an NFSv4 mount was."""

    def __init__(self) -> None:
        self._nobody = _NOBODY | frozenset(filter(None, map(_number_in, _OVERFLOW)))
        self._seen: dict[_Place, _Owner] = {}

    def remarked(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings, with remarks on directories that have become nobody's."""
        return [self._remarked(finding) for finding in findings]

    def _remarked(self, finding: Finding) -> Finding:
        mount, outcome = finding.mount, finding.outcome
        if mount is None or mount.fs_type != b"nfs4" or outcome is None or outcome.uid is None or outcome.gid is None:
            return finding
        known = self._seen.pop(mount.place, _Owner())
        lost = [
            (f"{what} {now}", f"{what} {before}")
            for what, now, before in (("uid", outcome.uid, known.uid), ("gid", outcome.gid, known.gid))
            if now in self._nobody and before is not None
        ]
        self._seen[mount.place] = _Owner(self._later(outcome.uid, known.uid), self._later(outcome.gid, known.gid))
        if len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]
        return finding._replace(remarks=(*finding.remarks, _words(lost))) if lost else finding

    def _later(self, now: int, before: Optional[int]) -> Optional[int]:
        return before if now in self._nobody else now


def _words(lost: list[tuple[str, str]]) -> str:
    now, before = (", ".join(each) for each in zip(*lost))
    return (
        f"its root directory belongs to nobody ({now}), and belonged to {before} before: "
        f"check the mapping of NFSv4 IDs, here and on the server"
    )


def _number_in(path: str) -> Optional[int]:
    try:
        with open(path, "rb") as file:
            word = file.read(20).strip()
    except OSError:
        return None
    return int(word) if word.isdigit() else None
