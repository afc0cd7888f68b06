"""The demands on mounts, compared with a survey: missing, changed and read-only mounts become
findings. Pure.

The comparison uses the mount table as it is after the probes. A mount that failed by itself keeps
its condition; any other fault of it becomes a remark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from check_mounts import meaning, mounttable, readonly, selection, text
from check_mounts.model import NO_GRACE, BootGrace, Condition, Declarer, ExpectedMount, Finding, Mount, Survey
from check_mounts.selection import Filters, Glob
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.declared.compare import Results
    from check_mounts.naming.devices import Compared


class Demands(NamedTuple):
    """The demands of a run.

    ``expected``: the mounts that should exist. ``declared``: a mount point -> its declaration,
    which counts only if something is mounted there. ``ignored_options``: a mount point -> the
    declared options that do not count there. ``expect_ro``: a mount point -> whether the mount
    should be read-only (None: nobody says so), and ``expect_ro_in``: the place that says so.
    ``by_mount``: some mounts that are not expected may be declared or should be read-only.
    ``any_ro``: an undeclared mount of a normally writable type must not be read-only either.
    ``why_read_only``: a mount -> the property that makes its filesystem read-only without an
    error. ``boot_grace``: a mount point -> how long after boot its mount may be missing."""

    expected: Sequence[ExpectedMount] = ()
    declared: Callable[[bytes], Optional[ExpectedMount]] = lambda mount_point: None
    ignored_options: Callable[[bytes], Sequence[Glob]] = lambda mount_point: ()
    expect_ro: Callable[[bytes], Optional[bool]] = lambda mount_point: None
    expect_ro_in: Callable[[bytes], str] = lambda mount_point: "--expect-ro"
    any_ro: bool = False
    by_mount: bool = True
    why_read_only: Callable[[Mount], Optional[str]] = lambda mount: None
    boot_grace: Callable[[bytes], BootGrace] = lambda mount_point: NO_GRACE


def with_demands(
    survey: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    filters: Filters,
    demands: Demands,
    devices: Optional[Compared] = None,
    late: Callable[[], Optional[str]] = lambda: None,
) -> Survey:
    """The survey with the findings of the demands.

    ``mounted_now`` returns the mount table; it is called only where something is declared.
    ``devices`` knows which declared devices are the mounted ones. Once no time is left, ``late``
    returns the reason in words; then no other mount is compared."""
    declarations = _declarations(survey, filters, demands, late)
    results = _compared(declarations, mounted_now, devices, late, demands.boot_grace)
    survey = _with_undeclared(survey, mounted_now, {each.mount_point for each in declarations}, demands, late)
    survey = _with_uncompared(survey, late(), 0 if results is None else results.late)
    return survey if results is None else _with_results(survey, results)


def _with_uncompared(survey: Survey, reason: Optional[str], count: int) -> Survey:
    """The survey with the number of declared mounts that were not compared, for ``reason``."""
    if reason is None:
        return survey
    all_else = "not all mounts were compared with their declarations"
    left = f"{text.counted(count, 'declared mount')} not compared" if count else all_else
    found = Finding(b"", None, Condition.UNPROBED, f"{left}: {reason} came first")
    return survey._replace(findings=(*survey.findings, found))


def _with_results(survey: Survey, results: Results) -> Survey:
    """The survey with the results of the comparison."""
    findings = list(survey.findings)
    places = {finding.mount.mount_id: place for place, finding in enumerate(findings) if finding.mount is not None}
    missing = {
        finding.mount_point: place for place, finding in enumerate(findings) if finding.condition is Condition.MISSING
    }
    for deviation in (*results.deviations, *results.empty):
        place = None if deviation.mount is None else places.get(deviation.mount.mount_id)
        if place is not None:
            findings[place] = _deviating(findings[place], deviation)
        elif deviation.mount is not None or deviation.mount_point not in missing:
            findings.append(deviation)
        elif deviation.grace_until is not None:  # it is named, too
            findings[missing[deviation.mount_point]] = deviation
    shown = {finding.mount_point for finding in findings}
    absent = [
        f"{text.printable(each.mount_point)}: {each.detail}"
        for each in results.excused
        if each.mount_point not in shown
    ]
    return survey._replace(findings=tuple(findings), excused=tuple(absent), uncompared=tuple(results.uncompared))


def _compared(
    declarations: Sequence[ExpectedMount],
    mounted_now: Callable[[], Sequence[Mount]],
    devices: Optional[Compared],
    late: Callable[[], object],
    boot_grace: Callable[[bytes], BootGrace],
) -> Optional[Results]:
    if not declarations:
        return None
    # A run without declarations does not load the comparison. A run with declarations has loaded it
    # in `settled`, before the first probe: an import that fails must not lose the findings.
    from check_mounts.declared import compare, grace

    def left(expected: ExpectedMount) -> Optional[grace.Grace]:
        return grace.of(expected, boot_grace(expected.mount_point))

    mounts = mounted_now()
    return compare.compared(declarations, mounts, mounttable.visible(mounts), devices=devices, late=late, grace=left)


def _declarations(
    survey: Survey, filters: Filters, demands: Demands, late: Callable[[], object]
) -> list[ExpectedMount]:
    """The declarations that the filters let through, and all others once it is late."""
    wanted = [each for each in demands.expected if late() or is_wanted(each, filters)]
    points = {each.mount_point for each in wanted}
    for finding in survey.findings if demands.by_mount else ():
        if late():
            break
        mount = finding.mount
        if mount is not None and not mount.is_elsewhere and finding.mount_point not in points:
            declared = demands.declared(finding.mount_point) or _declared_ro(finding.mount_point, demands)
            if declared is not None:
                points.add(finding.mount_point)
                wanted.append(declared)
    return [each if late() else _as_demanded(each, demands) for each in wanted]


def _declared_ro(mount_point: bytes, demands: Demands) -> Optional[ExpectedMount]:
    if demands.expect_ro(mount_point) is None:
        return None
    return ExpectedMount(mount_point, None, None, (), "", by=Declarer.COMMAND_LINE)


def _as_demanded(each: ExpectedMount, demands: Demands) -> ExpectedMount:
    """A declaration without the options that do not count, and with ro or rw as demanded.

    If there is such a demand, ``origin`` names its place, too."""
    globs = demands.ignored_options(each.mount_point)
    options = tuple(option for option in each.options if not any(glob.match(option) for glob in globs))
    read_only = demands.expect_ro(each.mount_point)
    if read_only is not None:
        options = (*(option for option in options if option not in (b"ro", b"rw")), b"ro" if read_only else b"rw")
        places = filter(None, dict.fromkeys((each.origin, demands.expect_ro_in(each.mount_point))))
        return each._replace(options=options, origin=", ".join(places))
    return each._replace(options=options)


def is_wanted(each: ExpectedMount, filters: Filters) -> bool:
    """Whether the filters let a declaration through.

    A run that excludes NFS must not call an NFS mount missing."""
    if filters.mount_points and each.mount_point not in filters.mount_points:
        return False
    mount = Mount(0, 0, (0, 0), b"/", each.mount_point, (), (), each.fs_type or b"", each.source or b"", ())
    if each.fs_type is None:
        filters = filters._replace(include_types=(), exclude_types=())
    if each.source is None:
        filters = filters._replace(include_sources=(), exclude_sources=())
    return selection.why_filtered(mount, filters) is None


def _with_undeclared(
    survey: Survey,
    mounted_now: Callable[[], Sequence[Mount]],
    declared: set[bytes],
    demands: Demands,
    late: Callable[[], object],
) -> Survey:
    """The survey with the undeclared mounts that cannot be written to, as failures or remarks."""
    suspects = [
        place
        for place, finding in enumerate(survey.findings)
        if finding.mount is not None
        and not finding.mount.is_elsewhere
        and readonly.why_read_only(finding.mount) is not None
    ]
    if not suspects:
        return survey
    findings = list(survey.findings)
    for place in suspects:
        finding = findings[place]
        mount = finding.mount
        if late():
            break
        if (
            mount is None
            or finding.mount_point in declared
            or finding.condition is Condition.SHADOWED
            or demands.expect_ro(mount.mount_point)
        ):
            continue
        found = readonly.unwritable(mount, demands.any_ro, mounted_now, demands.why_read_only)
        if found is not None and found.fails:
            deviation = Finding(finding.mount_point, mount, Condition.READ_ONLY, found.words)
            findings[place] = _deviating(finding, deviation)
        elif found is not None:
            findings[place] = _remarked(finding, f"read-only: {found.words}")
    return survey._replace(findings=tuple(findings))


def _deviating(finding: Finding, deviation: Finding) -> Finding:
    """A finding with a deviation of its mount; only with a remark if the mount failed by itself."""
    if meaning.of(finding.condition).kept:
        return _remarked(finding, f"{deviation.condition.words}: {deviation.detail}")
    return finding._replace(condition=deviation.condition, detail=deviation.detail)


def _remarked(finding: Finding, remark: str) -> Finding:
    return finding._replace(remarks=(*finding.remarks, remark))
