"""One check from its beginning to its end, for a run that checks once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from check_mounts import filesystems, meaning, mounttable, selection
from check_mounts.checks import checking, conclude
from check_mounts.checks.checking import SHORTEST, Check
from check_mounts.guard import defects
from check_mounts.model import Condition, Finding, LeftOut, Mount, Reason, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.probing import survey, sysfs
from check_mounts.probing.survey import Pass
from check_mounts.selection import Filters, Selection
from check_mounts.system import reading
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.naming.leads import Found
    from check_mounts.using.ghosts import Search

# How long one question about mounts that have failed may take, and all of them, in seconds.
_EACH, _AFTERMATH = 1.0, 1.5
# How long a search for ghosts may take, in seconds, and which part of the deadline. Meanwhile the
# mounts are asked.
_SEARCH, _SHARE = 1.5, 0.8
# The deadline of a pass is shortened only if at least this much of it has gone by, in seconds.
_NOTICEABLE = 0.1


def take(
    options: Check,
    table: Table,
    reread: Callable[[], Table],
    interruption: Callable[[], Optional[str]] = lambda: None,
    wake_fd: Optional[int] = None,
    on_pass: Callable[[Pass], None] = lambda under_way: None,
    lost: Sequence[StuckProbe] = (),
    before_asking: Optional[Callable[[Survey], object]] = None,
) -> Survey:
    """Check once, as the options say.

    ``reread`` reads the mount table again. ``interruption`` names a signal that has asked the run
    to end, and ``wake_fd`` becomes readable when one comes. ``on_pass`` is called with each pass.
    ``lost`` are the stuck probes of earlier checks of this process. Only with ``before_asking`` is
    the host asked about mounts that have failed; it gets the survey first, for the questions may
    last until this process is caught.
    Raises OSError (see :func:`check_mounts.checks.checking.begin`) if nothing was measured yet."""
    check = _Check(options, table, reread, interruption, wake_fd, on_pass, lost, before_asking)
    try:
        return check.take()
    except Exception as error:
        if check.measured is None:
            raise
        defects.say(error)
        return conclude.unconcluded(check.measured, error)


class _Check:
    """The steps of one check.

    ``measured`` is the result of the last pass; None before the first pass."""

    def __init__(
        self,
        options: Check,
        table: Table,
        reread: Callable[[], Table],
        interruption: Callable[[], Optional[str]],
        wake_fd: Optional[int],
        on_pass: Callable[[Pass], None],
        lost: Sequence[StuckProbe],
        before_asking: Optional[Callable[[Survey], object]],
    ) -> None:
        self.measured: Optional[Survey] = None
        self._options = options
        self._table = table
        self._reread = reread
        self._interruption = interruption
        self._wake_fd = wake_fd
        self._on_pass = on_pass
        self._lost = lost
        self._before_asking = before_asking
        self._until = time.monotonic() + options.settings.deadline
        self._search: Optional[Search] = None
        self._now: Optional[Sequence[Mount]] = None

    def take(self) -> Survey:
        """Take all steps, and return the survey. Raises OSError.

        The steps: look up the names, probe the mounts, look up the declared names, probe the mounts
        that appeared meanwhile, compare."""
        self._seek_ghosts()
        reading.step("looking up the named mount points")
        found = self._look_up(self._table[0])
        filters = checking.with_leads(self._options, found).filters
        if filters.also:  # only when these have answered is it known where the names lead
            chosen = selection.narrowed(self._options.select(self._table[0], filters), filters.also)
            found = self._look_up(self._table[0], self._pass_over(self._options, chosen, self._table))
        ready = _with_more(checking.with_leads(self._options, found), filters.also)
        if self._options.holders:
            self._options = _with_more(self._options, _holders(self._table[0], ready.filters))
            ready = _with_more(ready, self._options.filters.also)
        result = self._pass_over(ready, ready.select(self._table[0], ready.filters), self._table)
        if self._options.spaces is not None and any(out.mount.is_elsewhere for out in _vanished(result)):
            result = self._with_late_comers(result, ready)
        if found is not None:
            reading.step("looking up the declared names")
            found = self._look_up(self._mounted_now(), result)
            result = self._with_late_comers(result, checking.with_leads(self._options, found))
        reading.step("comparing the mounts with the declarations")
        late = conclude.TimeToCompare(self._until, self._interruption).ended_by
        result = self._with_ghosts(conclude.concluded(self._options, result, self._mounted_now, found, late))
        return self._with_aftermath(result)

    def _seek_ghosts(self) -> None:
        """Begin to search for filesystems that no mount table shows, if there may be any. Later, it
        might hang to load what searches."""
        if self._before_asking is None:
            return
        if checking.seeks_ghosts(self._options) and sysfs.has_unlisted(self._table[0]):
            from check_mounts.using import ghosts

            self._search = ghosts.Search(min(_SEARCH, _SHARE * self._options.settings.deadline))

    def _with_ghosts(self, result: Survey) -> Survey:
        """The survey, with the ghosts. The time for the search was up long ago if mounts hang."""
        if self._search is None:
            return result
        from check_mounts.using import ghosts

        reading.step("looking for filesystems that no mount table shows")
        try:
            found = ghosts.wanted(ghosts.sought(self._search, result.interrupted is None), self._options.filters)
            return result._replace(findings=(*result.findings, *ghosts.findings(found)))
        except Exception as error:  # it must cost nothing but the ghosts
            defects.say(error)
            return result

    def _with_aftermath(self, result: Survey) -> Survey:
        """The survey, with what else this host knows about mounts that have failed."""
        if result.interrupted is not None or self._before_asking is None or not conclude.is_worth_asking(result):
            return result
        self._before_asking(result)
        reading.step("asking this host about mounts that have failed")
        from check_mounts.checks.aftermath import Aftermath  # no healthy run loads these
        from check_mounts.naming.lookups import Patience

        patience = Patience(_EACH, min(self._until, time.monotonic() + _AFTERMATH), self._interruption)
        try:
            aftermath = Aftermath()
            aftermath.ask(self._options, result, self._mounted_now(), patience)
            return aftermath.told(result)
        except Exception as error:  # it must cost nothing but the remarks
            defects.say(error)
            return result

    def _look_up(self, mounts: Sequence[Mount], result: Optional[Survey] = None) -> Optional[Found]:
        return checking.look_up(self._options, mounts, result, self._until, self._interruption)

    def _pass_over(self, options: Check, chosen: Selection, table: Table) -> Survey:
        under_way = checking.begin(self._in_time(options), table, chosen, self._wake_fd, self._lost)
        self._on_pass(under_way)
        reading.step("waiting for the mounts")
        self.measured = survey.take(under_way, self._reread, self._interruption)
        return self.measured

    def _in_time(self, options: Check) -> Check:
        """The options with the remaining time as their deadline."""
        settings, left = options.settings, max(SHORTEST, self._until - time.monotonic())
        if settings.deadline - left < _NOTICEABLE:  # hardly any time has gone by: keep the user's number
            return options
        return options._replace(settings=settings._replace(deadline=left))

    def _mounted_now(self) -> Sequence[Mount]:
        """The mount table after the first passes, read once."""
        if self._now is None:
            try:
                self._now = self._reread()[0]
            except OSError:  # the pass has reported it if it matters
                self._now = self._table[0]
        return self._now

    def _with_late_comers(self, result: Survey, options: Check) -> Survey:
        """The survey with mounts that were not probed because they came to their place late.

        These are declared mounts, and mounts that were left out because they were elsewhere or
        covered. A user may move a mount away and back; that it is in its place again does not mean
        that it answered."""
        chosen = options.select(self._mounted_now(), options.filters)
        late = _late_comers(result, options, self._table[0], chosen)
        if not late:
            return result
        if result.interrupted is None and self._until - time.monotonic() >= SHORTEST:
            chosen = selection.narrowed(chosen, {mount.mount_id for mount in late})
            found = self._pass_over(options, chosen, (self._mounted_now(), ()))
        else:
            why = "it appeared during the run, and no time was left to probe it"
            found = Survey(tuple([Finding(mount.mount_point, mount, Condition.UNPROBED, why) for mount in late]))
        return _joined(result, found, late)


def _with_more(options: Check, also: frozenset[int]) -> Check:
    """The options with more mounts that are probed only because a name crosses them."""
    filters = options.filters
    return options._replace(filters=filters._replace(also=filters.also | also))


def _holders(mounts: Sequence[Mount], filters: Filters) -> frozenset[int]:
    """The IDs of the mounts that the named ones hang from, without those that must be left
    alone."""
    by_id, named = {mount.mount_id: mount for mount in mounts}, frozenset(filters.mount_points)
    below = [mount for mount in mounts if mount.mount_point in named]
    found: dict[int, Mount] = {}
    while below:
        above = by_id.get(below.pop().parent_id)
        if above is not None and above.mount_id not in found:
            found[above.mount_id] = above
            below.append(above)
    visible = mounttable.visible(mounts)
    return frozenset(
        mount.mount_id
        for mount in found.values()
        if mount.mount_id in visible and not filesystems.is_trigger(mount) and selection.may_enter(mount, filters)
    )


def _vanished(result: Survey) -> list[LeftOut]:
    return [out for out in result.left_out if out.why is Reason.UNMOUNTED]


def _late_comers(result: Survey, options: Check, before: Sequence[Mount], chosen: Selection) -> list[Mount]:
    known = {mount.identity for mount in before}
    asked = {
        each.mount.identity for each in result.findings if each.mount is not None and meaning.of(each.condition).counted
    }
    return [
        mount
        for mount in chosen.selected
        if mount.identity not in asked and (mount.identity in known or options.filters.declared(mount))
    ]


def _joined(result: Survey, more: Survey, asked: Sequence[Mount]) -> Survey:
    """Two surveys as one; ``more`` is about the mounts in ``asked``."""
    keys, points = {mount.identity for mount in asked}, {mount.mount_point for mount in asked}

    def stands(finding: Finding) -> bool:
        if finding.mount is None:
            return finding.condition is not Condition.MISSING or finding.mount_point not in points
        return finding.mount.identity not in keys

    left_out = [out for out in result.left_out if out.mount.identity not in keys]
    return result._replace(
        findings=(*filter(stands, result.findings), *more.findings),
        left_out=(*left_out, *(out for out in more.left_out if out.mount.identity in keys)),
        notes=(*result.notes, *(note for note in more.notes if note not in result.notes)),
        unremembered=result.unremembered or more.unremembered,
        duration=result.duration + more.duration,
        interrupted=result.interrupted or more.interrupted,
    )
