"""What programs did on the network mounts between two passes.

Import budget: what the daemon needs anyway. Reading the counters touches no mount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from check_mounts import filesystems
from check_mounts.daemon.reconnected import Reconnected
from check_mounts.model import Condition, Finding, Mount, Survey
from check_mounts.probing import mountstats, operations
from check_mounts.probing.operations import Reading
from check_mounts.traffic import Traffic
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol


class Tally:
    """The counters at the last look, and what they had moved by since the look before it."""

    def __init__(self) -> None:
        self._last: Optional[Reading] = None
        self._traffic: Mapping[bytes, Traffic] = {}
        self._reconnected = Reconnected()

    def look(self, mounts: Sequence[Mount]) -> None:
        """Look at the counters, if one of these mounts has any."""
        self._reconnected.look(mounts)
        nfs = next(filter(_is_nfs, mounts), None)
        if nfs is None:
            self._last, self._traffic = None, {}
            return
        now, before = operations.read(mountstats.path_for(nfs)), self._last
        moved = {} if before is None else operations.delta(before, now)
        seconds = 0.0 if before is None else now.time - before.time
        self._last = now
        self._traffic = {
            point: Traffic(each.operations, moved.get(point), seconds if point in moved else 0.0)
            for point, each in now.mounts.items()
        }

    def told(self, survey: Survey) -> Survey:
        """The survey, in which each finding has what was done on its mount."""
        survey = self._reconnected.told(survey)
        if not self._traffic:
            return survey
        return survey._replace(findings=tuple(map(self._of, survey.findings)))

    def _of(self, finding: Finding) -> Finding:
        mount = finding.mount
        # A covered mount has the name of the one that covers it, whose numbers these are.
        if mount is None or finding.condition is Condition.SHADOWED or not _is_nfs(mount):
            return finding
        traffic = self.of(mount.source, finding.mount_point)
        return finding if traffic is None else finding._replace(traffic=traffic)

    def of(self, source: bytes, mount_point: bytes) -> Optional[Traffic]:
        """What was done on a mount; None if that is not known."""
        counters = None if self._last is None else self._last.mounts.get(mount_point)
        return self._traffic[mount_point] if counters is not None and counters.source == source else None


def _is_nfs(mount: Mount) -> bool:
    return filesystems.protocol(mount) is Protocol.NFS
