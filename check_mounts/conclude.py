"""What is made of a survey once all mounts have been asked: it is held against what is declared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Optional

from check_mounts import checking, defects, demands, sandbox, selection, text
from check_mounts.model import Condition, Finding, Mount, Survey

if TYPE_CHECKING:
    from check_mounts.leads import Found

# So many mount points are named in a note.
_NAMED = 3
# How long the comparison has where the probes have needed all of the time, in seconds.
_TO_COMPARE = 0.25


class ToCompare:
    """How long the comparison has: until the run's deadline, and a moment in any case. After a
    signal no more than that moment: what is known is not to be lost, and is soon compared."""

    def __init__(self, until: float, interruption: Callable[[], Optional[str]]) -> None:
        self._end = max(until, time.monotonic() + _TO_COMPARE)
        self._interruption = interruption
        self._signal: Optional[str] = None

    def came(self) -> Optional[str]:
        """What came, in words, once the time is over."""
        if self._signal is None and (signal := self._interruption()) is not None:
            self._signal = signal
            self._end = min(self._end, time.monotonic() + _TO_COMPARE)
        return (self._signal or "the deadline") if time.monotonic() >= self._end else None


def concluded(
    options: checking.Check,
    result: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    found: Optional[Found],
    late: Callable[[], Optional[str]] = lambda: None,
) -> Survey:
    """The survey with what is demanded. ``mounted_now`` gives the mount table; it is asked only
    where something is declared. What is not compared by the time that it is ``late`` is counted."""
    try:
        return _concluded(options, result, mounted_now, found, late)
    except Exception as error:
        defects.say(error)
        return unconcluded(result, error)


def _concluded(
    options: checking.Check,
    result: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    found: Optional[Found],
    late: Callable[[], Optional[str]],
) -> Survey:
    ready = checking.led(options, found)
    # What a wrong line was to declare is not checked: that is no OK, and costs nothing of what was
    # measured.
    wrong = [Finding(b"", None, Condition.UNPROBED, str(line), line=line) for line in options.wrong]
    notes = (*options.notes, *result.notes, *_covered_by_users(result.findings))
    result = dataclasses.replace(result, notes=notes, findings=(*result.findings, *wrong))
    result = _held_against_demands(ready, result, mounted_now, found, late)
    if found is None:
        return result
    from check_mounts import leads

    return leads.named(_without_what_is_on_the_way(result, ready.filters), options.filters.mount_points, found)


def unconcluded(result: Survey, error: Exception) -> Survey:
    """No memory, or a defect of ours: what was measured stands."""
    failed = Finding(
        b"", None, Condition.UNPROBED, f"what is named and declared was not compared: {text.error_of(error)}"
    )
    return dataclasses.replace(result, findings=(*result.findings, failed))


def _without_what_is_on_the_way(result: Survey, filters: selection.Filters) -> Survey:
    """The survey without the mounts that had to answer for what is named to be known, and have."""

    def is_told(finding: Finding) -> bool:
        mount = finding.mount
        asked_only = mount is not None and mount.mount_id in filters.also and finding.condition is Condition.OK
        return mount is None or not asked_only or selection.is_wanted(mount, filters)

    return dataclasses.replace(result, findings=tuple(filter(is_told, result.findings))) if filters.also else result


def _covered_by_users(findings: Sequence[Finding]) -> list[str]:
    """Notes on what unprivileged users have mounted over what is not theirs: none of that is
    checked any more."""
    below: dict[Mount, list[str]] = {}
    for finding in findings:
        if finding.cover is not None and selection.unprivileged_owner(finding.cover) is not None:
            below.setdefault(finding.cover, []).append(_clipped(finding.mount_point))
    return [
        f"the FUSE mount of uid {selection.unprivileged_owner(cover)} at {text.printable(cover.mount_point)} covers {_named(points)}"
        for cover, points in below.items()
    ]


def _clipped(mount_point: bytes) -> str:
    return text.clipped(text.printable(mount_point), 200)


def _named(points: Sequence[str]) -> str:
    more = f" and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
    return ", ".join(points[:_NAMED]) + more


def _held_against_demands(
    options: checking.Check,
    result: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    found: Optional[Found],
    late: Callable[[], Optional[str]],
) -> Survey:
    devices = None if found is None else found.devices
    beyond = sandbox.outside(options.mountinfo, mounted_now)
    if beyond is None:
        return demands.held_against(result, mounted_now, options.filters, options.demands, devices, late)

    def hold(survey: Survey, mounts: Sequence[Mount]) -> Survey:
        return demands.held_against(survey, lambda: mounts, options.filters, options.demands, devices, late)

    wanted = [each for each in options.demands.expected if demands.is_wanted(each, options.filters)]
    held = sandbox.held_against(result, mounted_now(), beyond, hold, wanted)
    unseen = _unseen(
        held, sandbox.hidden(mounted_now(), beyond), selection.select(beyond.mounts, options.filters).selected
    )
    return dataclasses.replace(held, notes=(*held.notes, unseen)) if unseen else held


def _unseen(result: Survey, hidden: Collection[bytes], outside: Sequence[Mount]) -> str:
    """A note on what a sandbox hides of the mounts that would be checked outside, and that nothing
    else is said of."""
    told = {finding.mount_point for finding in result.findings if finding.condition is Condition.UNPROBED}
    points = dict.fromkeys(
        mount.mount_point for mount in outside if mount.mount_point in hidden and mount.mount_point not in told
    )
    if not points:
        return ""
    return f"not checked, for this process does not see what PID 1 has mounted there: {_named([_clipped(point) for point in points])}"
