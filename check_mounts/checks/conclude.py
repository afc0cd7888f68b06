"""The end of a check: the comparison of the survey with the named and the declared mounts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence

from check_mounts import meaning, selection, text
from check_mounts.checks import checking, demands, sandbox
from check_mounts.guard import defects
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.naming.leads import Found

# The number of mount points that a note names.
_NAMED = 3
# How long the comparison may take if the probes have needed all of the time, in seconds.
_TO_COMPARE = 0.25


class TimeToCompare:
    """The time for the comparison: until the run's deadline, but always a moment.

    After a signal there is only that moment: the findings must not be lost, and comparing them does
    not take long."""

    def __init__(self, until: float, interruption: Callable[[], Optional[str]]) -> None:
        self._end = max(until, time.monotonic() + _TO_COMPARE)
        self._interruption = interruption
        self._signal: Optional[str] = None

    def ended_by(self) -> Optional[str]:
        """The signal or deadline that ended the time, in words; None as long as time is left."""
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
    """The survey, compared with the named and the declared mounts.

    ``mounted_now`` returns the mount table; it is called only if something is declared. Once the
    comparison must end, ``late`` returns the reason in words; then the remaining mounts are counted
    and not compared."""
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
    ready = checking.with_leads(options, found)
    # The mount that a wrong line tries to declare is not checked, so the result is not OK; but
    # nothing that was measured is lost.
    wrong = [Finding(b"", None, Condition.UNPROBED, str(line), line=line) for line in options.wrong]
    beyond = () if options.spaces is None else options.spaces.notes
    notes = (*options.notes, *beyond, *result.notes, *_covered_by_users(result.findings))
    result = result._replace(notes=notes, findings=(*result.findings, *wrong))
    result = _with_demands(ready, result, mounted_now, found, late)
    if found is None:
        return result
    from check_mounts.naming import leads

    return leads.named(_without_mounts_on_the_way(result, ready.filters), options.filters.mount_points, found)


def has_failed(finding: Finding) -> bool:
    """Whether a mount is missing, or has failed by itself, so that the host may know more about it;
    a full one says enough."""
    serious = meaning.of(finding.condition).severity is State.CRITICAL and finding.condition is not Condition.FULL
    return serious and finding.is_mount


def is_worth_asking(result: Survey) -> bool:
    """Whether the module aftermath has something to ask, and may be loaded: not if this package, or
    Python's library, lies on a mount that hangs."""
    paths = [os.fsencode(os.path.dirname(file)) for file in (__file__, os.__file__)]
    failed = [finding for finding in result.findings if has_failed(finding)]
    hung = [finding.mount_point for finding in failed if meaning.of(finding.condition).spreads]
    return bool(failed) and not any(selection.leads_over(path, point) for path in paths for point in hung)


def unconcluded(result: Survey, error: Exception) -> Survey:
    """The survey as it was measured, if the comparison failed: no memory, or a defect of ours."""
    failed = Finding(
        b"", None, Condition.UNPROBED, f"named and declared mounts were not compared: {text.error_of(error)}"
    )
    return result._replace(findings=(*result.findings, failed))


def _without_mounts_on_the_way(result: Survey, filters: selection.Filters) -> Survey:
    """The survey without mounts that have answered and were probed only for a name beyond them."""

    def is_told(finding: Finding) -> bool:
        mount = finding.mount
        asked_only = mount is not None and mount.mount_id in filters.also and finding.condition is Condition.OK
        return mount is None or not asked_only or selection.is_wanted(mount, filters)

    return result._replace(findings=tuple(filter(is_told, result.findings))) if filters.also else result


def _covered_by_users(findings: Sequence[Finding]) -> list[str]:
    """Notes on mounts that an unprivileged user's mount covers: these are no longer checked."""
    below: dict[Mount, list[str]] = {}
    for finding in findings:
        if finding.cover is not None and selection.unprivileged_owner(finding.cover) is not None:
            below.setdefault(finding.cover, []).append(_clipped(finding.mount_point))
    return [f"{_users_mount(cover)} covers {_named(points)}" for cover, points in below.items()]


def _users_mount(mount: Mount) -> str:
    return f"the FUSE mount of uid {selection.unprivileged_owner(mount)} at {text.printable(mount.mount_point)}"


def _clipped(mount_point: bytes) -> str:
    return text.clipped(text.printable(mount_point), 200)


def _named(points: Sequence[str]) -> str:
    more = f" and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
    return ", ".join(points[:_NAMED]) + more


def _with_demands(
    options: checking.Check,
    result: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    found: Optional[Found],
    late: Callable[[], Optional[str]],
) -> Survey:
    devices = None if found is None else found.devices
    beyond = sandbox.look_outside(options.mountinfo, mounted_now)
    if beyond is None:
        return demands.with_demands(result, mounted_now, options.filters, options.demands, devices, late)

    def compare(survey: Survey, mounts: Sequence[Mount]) -> Survey:
        return demands.with_demands(survey, lambda: mounts, options.filters, options.demands, devices, late)

    wanted = [each for each in options.demands.expected if demands.is_wanted(each, options.filters)]
    compared = sandbox.compared_outside(result, mounted_now(), beyond, compare, wanted)
    unseen = _unseen(
        compared, sandbox.hidden(mounted_now(), beyond), selection.select(beyond.mounts, options.filters).selected
    )
    return compared._replace(notes=(*compared.notes, unseen)) if unseen else compared


def _unseen(result: Survey, hidden: Collection[bytes], outside: Sequence[Mount]) -> str:
    """A note on mounts that are not checked only because the sandbox hides them; else empty.

    It leaves out mounts that a finding mentions."""
    if not hidden:
        return ""
    told = {finding.mount_point for finding in result.findings if finding.condition is Condition.UNPROBED}
    points = dict.fromkeys(
        mount.mount_point for mount in outside if mount.mount_point in hidden and mount.mount_point not in told
    )
    if not points:
        return ""
    names = _named([_clipped(point) for point in points])
    return f"this process does not see what PID 1 has mounted there, so it was not checked: {names}"
