"""The answers of all mounts across passes.

Each pass is merged into what is known, whether it is over all mounts or over a few that are new or
may have recovered. The later of two answers counts, whichever pass it comes from. (The pass that
began first may ask a mount last: it waits while the other pass asks.) A mount that hung is well
again only once a probe has come back. This also holds if another mount has taken the place of one
that hung or was missing. No effects; only the clocks are read."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from check_mounts import meaning, text
from check_mounts.clocks import Boottime, boottime, epoch_of
from check_mounts.model import Condition, Finding, Mount, MountIdentity, Survey
from check_mounts.mounttable import Table
from check_mounts.probing import conditions
from check_mounts.selection import Selection
from check_mounts.typed import NamedTuple, Optional

# Two clocks are read one after the other, so their difference may seem to change by this many
# seconds. It changes by more only if one of them was set.
_CLOCK_WAS_SET = 0.5
# Why a named or declared mount about which nothing is known is unprobed.
_TO_COME = "it came to its place during the check, and is probed next"


class _Answer(NamedTuple):
    noted: float
    finding: Finding


class Known:
    """What is known about the mounts that should be probed. ``passes`` counts the passes over all
    mounts; ``last`` is the result of the newest one."""

    def __init__(self) -> None:
        self.passes = 0
        self.last: Optional[Survey] = None
        self._answers: dict[MountIdentity, _Answer] = {}
        self._table: Table = ([], [])
        self._chosen: Optional[Selection] = None
        # The mounts that should be probed.
        self._present: dict[MountIdentity, Mount] = {}
        # The basis of the last survey.
        self._told: Optional[tuple[Table, tuple[tuple[bytes, str], ...]]] = None
        # The last conclusions.
        self._concluded: tuple[Finding, ...] = ()
        # The mount point of the last conclusions about each name (an argument or a declaration):
        # several look-ups may come before the next conclusions, and links may change at each.
        self._places: dict[bytes, bytes] = {}
        # When each mount that hangs was first found to hang (CLOCK_BOOTTIME), until a probe comes
        # back.
        self._hung_since: dict[MountIdentity, Boottime] = {}
        # Mounts that did not answer, and were moved after that.
        self._moved: set[MountIdentity] = set()
        # Mounts that hang, and were asked once more because their probes had ended.
        self._tried_again: set[MountIdentity] = set()
        # When each mount point last answered (CLOCK_BOOTTIME).
        self._last_success: dict[bytes, float] = {}
        # When that clock was 0, in seconds since the epoch.
        self._booted = epoch_of(Boottime(0.0))

    def see(self, table: Table, chosen: Selection) -> tuple[set[MountIdentity], bool]:
        """Take in the mount table. Returns the mounts that should be probed and about which nothing
        is known, and whether anything differs from what was last reported.

        If a mount was moved, a bad answer counts until the mount has been asked at its new place. A
        good answer does not: this may be another mount with the same ID."""
        different = self._told is not None and (table, chosen.missing) != self._told
        if chosen is self._chosen:
            self._table = table
            return self._present.keys() - self._answers.keys() | self._moved, different
        self._table, self._chosen = table, chosen
        present = self._present = {mount.identity: mount for mount in chosen.selected}
        for key in self._answers.keys() - present.keys():
            self._forget(key)
        points = {mount.mount_point for mount in chosen.selected}
        for gone in self._last_success.keys() - points:
            del self._last_success[gone]
        for key, known in list(self._answers.items()):
            mount = present[key]
            if _is_elsewhere(known.finding, mount):
                if not meaning.of(known.finding.condition).doubtful:
                    self._forget(key)
                    continue
                self._moved.add(key)
            self._answers[key] = known._replace(finding=_as_mounted(known.finding, mount))
        return present.keys() - self._answers.keys() | self._moved, different

    def _forget(self, key: MountIdentity) -> None:
        del self._answers[key]
        self._hung_since.pop(key, None)
        self._tried_again.discard(key)
        self._moved.discard(key)

    def merge(self, result: Survey, whole: bool, noted: Mapping[int, float]) -> None:
        """Take in the answers of a pass. ``whole``: the pass asked all mounts. ``noted``: when each
        answer came, by mount ID."""
        if whole:
            self.passes += 1
            self.last = result
        now, begun = time.monotonic(), Boottime(boottime() - result.duration)
        for found in result.findings:
            mount = found.mount
            there = None if mount is None else self._present.get(mount.identity)
            if mount is None or there is None:
                continue  # it is gone
            doubtful = found.condition is not Condition.OK and meaning.of(found.condition).doubtful
            if not doubtful and _is_elsewhere(found, there):
                continue  # it must be asked at its new place
            key, finding = mount.identity, _as_mounted(found, there)
            known, when = self._answers.get(key), noted[key[0]]
            if (finding.outcome is not None or finding.condition is Condition.IDLE) and not doubtful:
                at = begun + result.duration - (now - when)
                self._last_success[finding.mount_point] = max(at, self._last_success.get(finding.mount_point, at))
            self._moved.discard(key)
            if known is None or (known.noted <= when and not _is_no_news(known.finding, finding)):
                self._answers[key] = _Answer(when, self._with_age(key, finding, begun))

    def _with_age(self, key: MountIdentity, finding: Finding, begun: Boottime) -> Finding:
        """The finding. If its mount hung before this pass already, it says since when. ``begun``:
        when the pass began."""
        if finding.condition is Condition.TIMED_OUT:
            first = finding.stuck_since if finding.stuck_since is not None else begun
            since = self._hung_since[key] = min(first, self._hung_since.get(key, first))
            if finding.stuck_since is None and since < begun:
                detail = f"{finding.detail}, and has hung since {text.moment(since)}"
                return finding._replace(detail=detail, since=since)
        elif not meaning.of(finding.condition).doubtful:
            self._hung_since.pop(key, None)
            self._tried_again.discard(key)
        return finding

    def grant_another_try(self, held: Collection[int] = (), soon: Collection[int] = ()) -> bool:
        """Grant each mount that hangs one more try once its probe has ended: the mount may have
        answered right after the probe was killed, and nothing else would show that. Returns whether
        there is a mount to try. ``held`` are processes that ended long after SIGKILL, ``soon``
        those that ended soon after it.

        Without ``held``, each hang gets one try. Probes that can be killed (NFS) all end soon, and
        the mount would be asked again for ever."""
        gone: set[MountIdentity] = set()
        for key, known in self._answers.items():
            finding = known.finding
            if finding.condition is Condition.OK and finding.stuck_pid is None:
                continue
            if finding.stuck_pid is not None and (finding.stuck_pid in held or finding.stuck_pid in soon):
                self._answers[key] = known._replace(finding=finding._replace(stuck_pid=None, stuck_since=None))
                if finding.stuck_pid in held:  # a hang after this is a new one
                    self._tried_again.discard(key)
                    continue
            elif finding.stuck_pid is not None or (finding.outcome is None and not soon):
                # Its probe is still held. Or it was not asked, because another mount hangs, which
                # may be gone by the time that the process ends.
                continue
            if finding.condition is Condition.TIMED_OUT:
                gone.add(key)
        new = gone - self._tried_again
        self._tried_again |= new
        return bool(held) or bool(new)

    def to_be_asked(self, new: set[MountIdentity], silent: bool) -> set[MountIdentity]:
        """``new``, and the mounts above them that are in doubt. With ``silent``, also all mounts
        that did not answer."""
        assert self._chosen is not None
        wanted = set(new)
        if silent:
            wanted |= {key for key, known in self._answers.items() if meaning.of(known.finding.condition).silent}
        by_id = {mount.mount_id: mount for mount in self._table[0]}
        for key in list(wanted):
            above = by_id.get(key[0])
            seen = set()
            while above is not None and above.mount_id not in seen:
                seen.add(above.mount_id)
                known = self._answers.get(above.identity)
                if known is not None and meaning.of(known.finding.condition).doubtful:
                    wanted.add(above.identity)
                above = by_id.get(above.parent_id)
        return wanted

    @property
    def last_success(self) -> dict[bytes, float]:
        """When each mount point last answered, in seconds since the epoch. Each number stays the
        same to the last digit until the host's clock is set."""
        booted = epoch_of(Boottime(0.0))
        if abs(booted - self._booted) > _CLOCK_WAS_SET:
            self._booted = booted
        return {point: self._booted + when for point, when in self._last_success.items()}

    def stuck(self) -> set[int]:
        """The processes that hung filesystems hold."""
        return {known.finding.stuck_pid for known in self._answers.values() if known.finding.stuck_pid is not None}

    @property
    def mounts(self) -> Sequence[Mount]:
        """The mount table as it was last seen."""
        return self._table[0]

    @property
    def table(self) -> Table:
        """The mount table as it was last seen, with the lines that were not understood."""
        return self._table

    def survey(self) -> Survey:
        """All that is known, as if one pass had just found it. Mounts that no pass has asked yet
        are left out."""
        chosen, last = self._chosen, self.last
        assert chosen is not None and last is not None
        self._told = self._table, chosen.missing
        findings: list[Finding] = []
        for mount in chosen.selected:
            known = self._answers.get(mount.identity)
            if known is not None:
                findings.append(known.finding)
        findings += [conditions.shadowed(mount, chosen.covers.get(mount.mount_id)) for mount in chosen.shadowed]
        findings += [Finding(path, None, Condition.MISSING, why) for path, why in chosen.missing]
        findings += conditions.not_understood(self._table[1])
        return last._replace(findings=tuple(findings), left_out=chosen.left_out)

    def until_asked(self, concluded: Survey, places: Mapping[bytes, bytes] = MappingProxyType({})) -> Survey:
        """The conclusions. But as long as a mount has not answered, its mount point keeps its
        earlier conclusions: about the mount that was there then, or that it was missing. A new
        mount alone proves nothing.

        ``places`` maps names and declarations to the mount points that they lead to now. A name
        keeps its conclusions wherever links lead it. A new name has none: its mount is unprobed."""
        unasked = self._unasked()
        if not unasked:
            self._places, self._concluded = dict(places), concluded.findings
            return concluded
        before: dict[bytes, list[Finding]] = {}
        for finding in self._concluded:
            before.setdefault(finding.mount_point, []).append(finding)
        told_at = self._told_at(before, unasked, places)
        new = {point for name, point in places.items() if name not in self._places} - told_at.keys()
        # All findings at these places, shadowed mounts too: a mount that hangs and is covered now
        # must not be reported as both.
        replaced = {*told_at.keys(), *told_at.values()}
        findings = [each for each in concluded.findings if each.mount_point not in replaced]
        for old in dict.fromkeys(told_at.values()):
            findings += before[old]
        findings += _unprobed([mount for point, mount in unasked.items() if point in new], findings)
        self._places = {name: told_at.get(point, point) for name, point in places.items()}
        self._concluded = tuple(findings)
        return concluded._replace(findings=self._concluded)

    def _unasked(self) -> dict[bytes, Mount]:
        """The mounts about which nothing is known, although they should be probed, by their mount
        points; without those where another mount at the same mount point is known."""
        assert self._chosen is not None
        if self._present.keys() <= self._answers.keys():
            return {}
        asked: set[bytes] = set()
        unasked: dict[bytes, Mount] = {}
        for mount in self._chosen.selected:
            if mount.identity in self._answers:
                asked.add(mount.mount_point)
            else:
                unasked[mount.mount_point] = mount
        return {point: mount for point, mount in unasked.items() if point not in asked}

    def _told_at(
        self, concluded: Collection[bytes], unasked: Collection[bytes], places: Mapping[bytes, bytes]
    ) -> dict[bytes, bytes]:
        """The mount points of earlier conclusions, by the unasked mount points that keep them.
        ``concluded``: the mount points that have some."""
        told_at = {point: point for point in unasked if point in concluded}
        for name, point in places.items():
            before = self._places.get(name)
            if before is not None and point in unasked and before in concluded:
                told_at.setdefault(point, before)
        return told_at


def _unprobed(mounts: Sequence[Mount], findings: Sequence[Finding]) -> list[Finding]:
    """Findings for mounts that were not asked yet and that no other finding reports."""
    told = {each.mount_point for each in findings if each.condition is not Condition.SHADOWED}
    return [
        Finding(mount.mount_point, mount, Condition.UNPROBED, _TO_COME)
        for mount in mounts
        if mount.mount_point not in told
    ]


def _is_elsewhere(finding: Finding, mount: Mount) -> bool:
    """Whether a mount was moved after its finding."""
    return finding.mount is not None and finding.mount is not mount and finding.mount.place != mount.place


def _as_mounted(finding: Finding, mount: Mount) -> Finding:
    """The finding, with the mount as it is now: its options or its place may have changed."""
    if finding.mount is mount or finding.mount == mount:
        return finding
    return finding._replace(mount_point=mount.mount_point, mount=mount)


def _is_no_news(known: Finding, finding: Finding) -> bool:
    """Whether a pass had no time to ask a mount that is known to hang: it counts as hung until a
    probe has come back."""
    return known.condition is Condition.TIMED_OUT and finding.condition is Condition.UNPROBED
