"""One check as it was asked for: mount table -> selection -> pass -> what is demanded. Shared by
the one-shot and the daemon."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Optional

from check_mounts import (
    asking,
    defects,
    demands,
    filesystems,
    meaning,
    mounttable,
    reading,
    sandbox,
    selection,
    stuck,
    survey,
    text,
)
from check_mounts.model import BadLine, Condition, Finding, Mount, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.policy import Policy
from check_mounts.refusals import Origin
from check_mounts.selection import Selection
from check_mounts.survey import Pass

if TYPE_CHECKING:
    from check_mounts.delivery import Submission
    from check_mounts.leads import Found

# How long, in seconds, a link or a device may keep its worker, and how long looking them up may
# take even if there is no time left.
_PATIENCE, _SHORTEST = 1.0, 0.3
# So many mount points are named in a note.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Service:
    """What the daemon is to do beside checking. ``interval`` is in seconds; ``metrics`` None: no
    metrics are written."""

    interval: float
    foreground: bool
    cache: str
    metrics: Optional[str]
    facility: str
    ident: str


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line, understood. ``fstab`` is the file that some of the demands came from;
    ``per_mount``: a result for each mount.

    ``patterns`` are the paths that the patterns of mount points begin with, and ``follow`` tells
    them where these lead."""

    filters: selection.Filters
    settings: asking.Settings
    policy: Policy
    demands: demands.Demands
    notes: Sequence[str]
    wrong: Sequence[BadLine]
    origins: Mapping[str, Origin]
    mountinfo: str
    state_dir: str
    verbosity: int
    perfdata: str
    max_output: int
    json: bool
    allow_none: bool
    fstab: Optional[str]
    service: Optional[Service]
    submission: Optional[Submission]
    per_mount: bool
    debug: bool = False
    patterns: Sequence[bytes] = ()
    follow: Callable[[Callable[[bytes], bytes]], None] = lambda lead: None


# How long the comparison has where the probes have needed all of the time, in seconds.
_TO_COMPARE = 0.25


def may_hang(path: str, mounts: Sequence[Mount], visible: frozenset[int]) -> Optional[str]:
    """Why a file or directory could hang whoever opens it: it lies on a network, FUSE or autofs
    mount. None where it does not.

    Decided on the text of the mount table.
    """
    normal = selection.normalised(os.fsencode(path))
    on_the_way = [
        mount for mount in mounts if mount.mount_id in visible and selection.leads_over(normal, mount.mount_point)
    ]
    # Where the root directory hangs (a diskless host's) nothing runs any more, we included: what is
    # in /run is no worse for that.
    if any(mount.mount_point != b"/" for mount in on_the_way):
        on_the_way = [mount for mount in on_the_way if mount.mount_point != b"/"]
    for mount in on_the_way:
        if selection.can_hang_on_the_way(mount) or filesystems.is_trigger(mount):
            return f"{text.printable(normal)} is on {text.printable(mount.fs_type)}, which may hang"
    return None


def _memory(
    options: Options, mounts: Sequence[Mount], visible: frozenset[int], slots: int, lost: Sequence[StuckProbe] = ()
) -> stuck.Registry:
    why = may_hang(options.state_dir, mounts, visible)
    if why is None:
        return stuck.Registry(options.state_dir, slots=slots, own=lost)
    return stuck.Registry(None, f"{why}; see --state-dir", own=lost)  # it must not hang us


def begin(
    options: Options, table: Table, chosen: Selection, wake_fd: Optional[int] = None, lost: Sequence[StuckProbe] = ()
) -> Pass:
    """Start a pass over what was chosen from the table. ``lost``: what earlier passes of this
    process have stuck.

    Raises OSError where this host lacks the means for a single worker.
    """
    registry = _memory(options, table[0], chosen.visible, options.settings.max_workers, lost)
    try:
        return Pass(
            table,
            chosen,
            options.settings,
            registry,
            wake_fd,
            lambda mount: mounttable.place_now(options.mountinfo, mount),
        )
    except BaseException:
        registry.close(any_stuck=False)
        raise


def look_up(
    options: Options,
    mounts: Sequence[Mount],
    result: Optional[Survey] = None,
    until: float = 0.0,
    interrupted: Callable[[], Optional[str]] = lambda: None,
) -> Optional[Found]:
    """Where the names lead that decide what is probed, and, once ``result`` says what has answered,
    all else that has to be looked up. None where nothing is named or declared.

    ``until`` when it may take (CLOCK_MONOTONIC), but a moment in any case. Raises nothing that a
    mount can cause."""
    names = (*options.filters.mount_points, *options.patterns)
    if not names and not options.demands.expected:
        return None
    # A run that names nothing does not pay for it.
    from check_mounts import leads, lookups

    asked = leads.Asked(names, options.demands.expected, links=leads.is_our_own(options.mountinfo))
    visible = frozenset(mounttable.visible(mounts))
    each = min(_PATIENCE, options.settings.timeout)
    patience = lookups.Patience(each, max(until, time.monotonic() + _SHORTEST), interrupted)
    return leads.look_up(
        asked, mounts, visible, result, lambda: _memory(options, mounts, visible, lookups.MOST_WORKERS), patience
    )


def led(options: Options, found: Optional[Found]) -> Options:
    """The options with all names as the kernel has them, as far as that is known."""
    if found is None:
        return options
    from check_mounts import leads

    options.follow(lambda name: found.leads.of(name).path)
    expected = [leads.led(each, found) for each in options.demands.expected]
    points = {each.mount_point for each in expected}
    known = options.filters
    filters = dataclasses.replace(
        known,
        mount_points=[found.leads.of(name).path for name in known.mount_points],
        also=leads.on_the_way((*known.mount_points, *options.patterns), found, known),
        declared=lambda mount: mount.mount_point in points or known.declared(mount),
    )
    return dataclasses.replace(
        options, filters=filters, demands=dataclasses.replace(options.demands, expected=expected)
    )


def take(
    options: Options,
    table: Table,
    reread: Callable[[], Table],
    interruption: Callable[[], Optional[str]] = lambda: None,
    wake_fd: Optional[int] = None,
    begun: Callable[[Pass], None] = lambda under_way: None,
) -> Survey:
    """One check from its beginning to its end. ``begun`` is told of each pass. Raises OSError, see
    :func:`begin`, as long as nothing was measured."""
    measured: list[Survey] = []
    try:
        return _take(options, table, reread, interruption, wake_fd, begun, measured)
    except Exception as error:
        if not measured:
            raise
        defects.say(error)
        return _unconcluded(measured[-1], error)


def _take(
    options: Options,
    table: Table,
    reread: Callable[[], Table],
    interruption: Callable[[], Optional[str]],
    wake_fd: Optional[int],
    begun: Callable[[Pass], None],
    measured: list[Survey],
) -> Survey:
    """``measured`` grows by the result of each pass."""
    until = time.monotonic() + options.settings.deadline

    def within(given: Options) -> Options:
        left = max(_SHORTEST, until - time.monotonic())
        if given.settings.deadline - left < _PATIENCE / 10:  # nothing took its time: as it was said
            return given
        return dataclasses.replace(given, settings=dataclasses.replace(given.settings, deadline=left))

    def carried_out(given: Options, chosen: Selection, there: Table = table) -> Survey:
        under_way = begin(within(given), there, chosen, wake_fd)
        begun(under_way)
        reading.step("waiting for the mounts")
        measured.append(survey.take(under_way, reread, interruption))
        return measured[-1]

    reading.step("looking up what is named")
    found = look_up(options, table[0], None, until, interruption)
    filters = led(options, found).filters
    result = None
    if filters.also:  # what is named is known once these have answered
        chosen = selection.narrowed(selection.select(table[0], filters), filters.also)
        result = carried_out(options, chosen)
        found = look_up(options, table[0], result, until, interruption)
    ready = led(options, found)
    if result is not None:
        ready = dataclasses.replace(
            ready, filters=dataclasses.replace(ready.filters, also=ready.filters.also | filters.also)
        )
    result = carried_out(ready, selection.select(table[0], ready.filters))
    tables: list[Sequence[Mount]] = []

    def mounted_now() -> Sequence[Mount]:
        if not tables:
            try:
                tables.append(reread()[0])
            except OSError:  # said already, if it is of consequence
                tables.append(table[0])
        return tables[0]

    if found is not None:
        reading.step("looking up what is declared")
        found = look_up(options, mounted_now(), result, until, interruption)
        result = _with_late_comers(result, led(options, found), table[0], mounted_now(), carried_out, until)
    reading.step("comparing what is mounted with what is declared")
    return concluded(options, result, mounted_now, found, ToCompare(until, interruption).came)


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


def _with_late_comers(
    result: Survey,
    options: Options,
    before: Sequence[Mount],
    now: Sequence[Mount],
    carried_out: Callable[[Options, Selection, Table], Survey],
    until: float,
) -> Survey:
    """The survey with what is in its place only now, and nobody has asked: what is declared there,
    and what was left out because it was elsewhere, or covered. Its user may move it to and fro, and
    to find it in its place is no answer."""
    known = {mount.identity for mount in before}
    asked = {
        each.mount.identity for each in result.findings if each.mount is not None and meaning.of(each.condition).counted
    }
    chosen = selection.select(now, options.filters)
    late = [
        mount
        for mount in chosen.selected
        if mount.identity not in asked and (mount.identity in known or options.filters.declared(mount))
    ]
    if not late:
        return result
    if result.interrupted is None and until - time.monotonic() >= _SHORTEST:
        found = carried_out(options, selection.narrowed(chosen, {mount.mount_id for mount in late}), (now, ()))
    else:
        why = "it came to its place during the run, and there was no time left to ask it"
        found = Survey(tuple([Finding(mount.mount_point, mount, Condition.UNPROBED, why) for mount in late]))
    return _joined(result, found, late)


def _joined(result: Survey, more: Survey, asked: Sequence[Mount]) -> Survey:
    """Two surveys, the second of which asked these mounts."""
    keys, points = {mount.identity for mount in asked}, {mount.mount_point for mount in asked}

    def stands(finding: Finding) -> bool:
        if finding.mount is None:
            return finding.condition is not Condition.MISSING or finding.mount_point not in points
        return finding.mount.identity not in keys

    left_out = [out for out in result.left_out if out.mount.identity not in keys]
    return dataclasses.replace(
        result,
        findings=(*filter(stands, result.findings), *more.findings),
        left_out=(*left_out, *(out for out in more.left_out if out.mount.identity in keys)),
        notes=(*result.notes, *(note for note in more.notes if note not in result.notes)),
        unremembered=result.unremembered or more.unremembered,
        duration=result.duration + more.duration,
        interrupted=result.interrupted or more.interrupted,
    )


def concluded(
    options: Options,
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
        return _unconcluded(result, error)


def _concluded(
    options: Options,
    result: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    found: Optional[Found],
    late: Callable[[], Optional[str]],
) -> Survey:
    ready = led(options, found)
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


def _unconcluded(result: Survey, error: Exception) -> Survey:
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
    options: Options,
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
