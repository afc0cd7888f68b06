"""Judged -> reports for Nagios and similar servers. The only user of nagiosplugin; it is loaded
after the probes have been forked. Where it is missing, a stand-in does the same (see library).

The library's Resource, Context, Result, Results, Summary and Check are used; its Runtime is not: it
ends a run with SIGALRM, which does not end a wait in the kernel, and discards all measurements.
Three of its behaviours are replaced on purpose:

- UNKNOWN outranks CRITICAL there: one odd mount would hide a dead one (:class:`WorstFirst`);
- it sorts perfdata by label, which would scatter the summary among the mounts: the order of the
  resource is kept;
- a ``'`` or ``=`` in a label raises: labels are escaped before they get there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from check_mounts import filesystems, text
from check_mounts.judging import policy as policies
from check_mounts.judging.judgements import Judgement, Judgements, worst_of_each
from check_mounts.judging.policy import Judged, Policy
from check_mounts.judging.thresholds import Capacity, Range
from check_mounts.judging.usage import numbers
from check_mounts.model import Finding, State
from check_mounts.outcome import Step
from check_mounts.report import details, parts, summary
from check_mounts.report.library import nagiosplugin
from check_mounts.report.parts import Detail, Number, Report, Worth
from check_mounts.typed import NamedTuple, Optional

_STATES = {
    State.OK: nagiosplugin.Ok,
    State.WARNING: nagiosplugin.Warn,
    State.CRITICAL: nagiosplugin.Critical,
    State.UNKNOWN: nagiosplugin.Unknown,
}


class Presentation(NamedTuple):
    """How to print: ``verbosity`` 0 to 3, ``perfdata`` as in Output, ``max_output`` in bytes (0: no
    limit). ``age_room``: the characters that a reader may add to the status line."""

    verbosity: int = 0
    perfdata: str = "summary"
    max_output: int = 0
    encoding: str = "utf-8"
    age_room: int = 0


class Mounts(nagiosplugin.Resource):
    """The source of all metrics: counts and times first, then each mount. A healthy mount has only
    numbers, which need no metric."""

    def __init__(self, judged: Judged, numbers: MountContext) -> None:
        self.judged = judged
        self._numbers = numbers

    def probe(self) -> Iterator[nagiosplugin.Metric]:
        """The metrics in the order in which perfdata names them."""
        judgements = self.judged.judgements
        for name, number in summary.counts(judgements):
            yield nagiosplugin.Metric(name, str(number), context="summary")
        yield nagiosplugin.Metric("time", f"{self.judged.survey.duration:.3f}", "s", context="summary")
        yield nagiosplugin.Metric("slowest", f"{summary.slowest(judgements):.3f}", "s", context="summary")
        for each in judgements.in_order() if isinstance(judgements, Judgements) else judgements:
            if isinstance(each, Judgement):
                yield nagiosplugin.Metric(label(each.finding.mount_point), each, context="mount")
            elif self._numbers.has_any:
                self._numbers.tell(each)
            else:  # and so for all others
                break


class _Numbers(nagiosplugin.Context):
    """A context that keeps perfdata in the order of the metrics."""

    def __init__(self, name: str, worth: Worth, items: list[Number]) -> None:
        super().__init__(name)
        self._worth = worth
        self._items = items

    def _emit(self, name: str, value: str, unit: str, *limits: object) -> nagiosplugin.Performance:
        """``limits``: warning, critical, min, max."""
        performance = nagiosplugin.Performance(name, value, unit, *limits)
        self._items.append(Number(str(performance), self._worth))
        return performance


def _specs(*limits: Optional[Range]) -> tuple[str, ...]:
    return tuple("" if limit is None else limit.spec for limit in limits)


class SummaryContext(_Numbers):
    """The context of counts and times, which are for perfdata only and always OK. The thresholds
    are for latencies, so only a latency carries them."""

    def __init__(self, wanted: bool, policy: Policy, items: list[Number]) -> None:
        super().__init__("summary", Worth.COUNT, items)
        self._wanted = wanted
        self._limits = _specs(policy.warning, policy.critical)

    def performance(self, metric: nagiosplugin.Metric, resource: Mounts) -> Optional[nagiosplugin.Performance]:
        """``timed_out=2;;;0``, ``slowest=0.012s;1;5``."""
        if not self._wanted:
            return None
        if not metric.uom:  # a count: a graph of it begins at 0
            return self._emit(metric.name, metric.value, "", "", "", 0)
        return self._emit(metric.name, metric.value, metric.uom, *(self._limits if metric.name == "slowest" else ()))


class MountContext(_Numbers):
    """The context of mounts, in the states that the policy gives them. ``wanted`` is the
    ``perfdata`` of Presentation."""

    def __init__(self, wanted: str, policy: Policy, items: list[Number]) -> None:
        super().__init__("mount", Worth.LATENCY, items)
        self._wanted = frozenset(wanted.split(","))
        self._policy = policy
        self._counted: set[tuple[int, int]] = set()
        self._told: set[bytes] = set()
        bounds = policy.bounds_usage or policy.exception is not None
        # Whether there may be numbers of single mounts.
        self.has_any = wanted != "none" and (wanted != "summary" or bounds)

    def evaluate(self, metric: nagiosplugin.Metric, resource: Mounts) -> nagiosplugin.Result:
        """The judgement as the library's result."""
        judgement: Judgement = metric.value
        return nagiosplugin.Result(_STATES[judgement.state], summary.line(judgement), metric)

    def performance(
        self, metric: nagiosplugin.Metric, resource: Optional[Mounts] = None
    ) -> Optional[nagiosplugin.Performance]:
        """``'/home'=0.000123s``; a mount that was not probed has no latency. The latency of a
        mount that hangs is the time that its probe has waited."""
        judgement: Judgement = metric.value
        return self.tell(judgement.finding) if self.has_any and judgement.is_counted else None

    def tell(self, finding: Finding) -> Optional[nagiosplugin.Performance]:
        """The numbers of a mount that was checked."""
        if finding.mount_point in self._told:  # a label occurs once, and the worse of two findings comes first
            return None
        if finding.outcome is not None or finding.latency is not None:
            self._told.add(finding.mount_point)
        policy = self._policy.of(finding.mount_point)
        whole = None if self._wanted.isdisjoint(("mounts", "steps")) else self._latencies(finding, policy)
        if "usage" in self._wanted:
            return self._whole_usage(finding, policy) or whole
        return (self._bounded_usage(finding, policy) if policy.bounds_usage else None) or whole

    def _latencies(self, finding: Finding, policy: Policy) -> Optional[nagiosplugin.Performance]:
        whole, name = None, label(finding.mount_point)
        if finding.latency is not None:
            whole = self._emit(name, f"{finding.latency:.6f}", "s", *_specs(policy.warning, policy.critical))
        if "steps" in self._wanted and finding.outcome is not None:
            for step, seconds in zip(Step, finding.outcome.seconds):
                if seconds is not None:
                    limits = _specs(policy.step_warning.get(step), policy.step_critical.get(step))
                    self._emit(f"{name} {step.word}", f"{seconds:.6f}", "s", *limits)
        if "steps" in self._wanted:
            self._emit_traffic(name, finding, policy)
        return whole

    def _emit_traffic(self, name: str, finding: Finding, policy: Policy) -> None:
        """``'/home rtt'=0.003100s;0.05``: what programs did on a mount."""
        if finding.traffic is not None:
            from check_mounts.report import done  # see there

            for word, *number in done.numbers(finding.traffic, policy):
                self._emit(f"{name} {word}", *number)

    def _whole_usage(self, finding: Finding, policy: Policy) -> Optional[nagiosplugin.Performance]:
        """``'/home used'=123B;900;950;0;1000 '/home free'=877B;;;0;1000``, and the same for inodes:
        for each mount, whether anybody bounds it or not. As df has it, all that is in use or
        available is the whole."""
        usage = None if numbers(finding) is None or finding.outcome is None else finding.outcome.usage
        if usage is None or finding.mount is None:
            return None
        name, performance = label(finding.mount_point), None
        judged = filesystems.fills_up(finding.mount)
        of_space, of_inodes = usage.space, usage.inode_counts
        if of_space is not None:
            limits = _limits(policy.usage_warning, policy.usage_critical, sum(of_space), usage.most_available)
            performance = self._emit_both(name, ("used", "free"), "B", of_space, limits if judged else ("", ""))
        if of_inodes is not None:
            limits = _limits(policy.inodes_warning, policy.inodes_critical, sum(of_inodes), usage.inodes)
            words = ("inodes", "inodes_free")
            performance = self._emit_both(name, words, "", of_inodes, limits if judged else ("", ""))
        return performance

    def _emit_both(
        self, name: str, words: tuple[str, str], unit: str, counts: tuple[int, int], limits: tuple[str, str]
    ) -> nagiosplugin.Performance:
        total = sum(counts)
        self._emit(f"{name} {words[0]}", str(counts[0]), unit, *limits, 0, total)
        return self._emit(f"{name} {words[1]}", str(counts[1]), unit, "", "", 0, total)

    def _bounded_usage(self, finding: Finding, policy: Policy) -> Optional[nagiosplugin.Performance]:
        """``'/home used'=123B;900;950;0;1000``: once for each superblock that has thresholds."""
        usage = None if finding.outcome is None else finding.outcome.usage
        if (
            usage is None
            or finding.mount is None
            or finding.mount.device in self._counted
            or not filesystems.fills_up(finding.mount)
        ):
            return None
        performance, name = None, label(finding.mount_point)
        space, inodes = usage.space, usage.inode_counts
        if space is not None and (policy.usage_warning or policy.usage_critical):
            used, total = space[0], sum(space)
            limits = _limits(policy.usage_warning, policy.usage_critical, total, usage.most_available)
            performance = self._emit(f"{name} used", str(used), "B", *limits, 0, total)
        if inodes is not None and (policy.inodes_warning or policy.inodes_critical):
            used, total = inodes[0], sum(inodes)
            limits = _limits(policy.inodes_warning, policy.inodes_critical, total, total)
            performance = self._emit(f"{name} inodes", str(used), "", *limits, 0, total)
        if performance is not None:
            self._counted.add(finding.mount.device)
        return performance


def _limits(warning: Optional[Capacity], critical: Optional[Capacity], total: int, most: int) -> tuple[str, str]:
    return _amount(warning, total, most), _amount(critical, total, most)


def _amount(limit: Optional[Capacity], total: int, most: int) -> str:
    """A limit in the form of perfdata: the amount in use above which it alerts. Empty if the limit
    cannot be written like that."""
    if limit is None or limit.range.inverted or not policies.is_for(limit, most):
        return ""
    start, end = limit.range.start, limit.range.end
    if limit.kind == "percent" and start <= 0 and end < math.inf:
        return str(int(total * end / 100))
    if limit.kind == "free" and end == math.inf:
        return str(max(0, int(total - start)))
    return ""


class WorstFirst(nagiosplugin.Results):
    """Results whose overall state comes from the policy: CRITICAL > UNKNOWN > WARNING > OK."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    @property
    def most_significant_state(self) -> nagiosplugin.state.ServiceState:
        """The state of the whole check."""
        return _STATES[self._state]


class MountsSummary(nagiosplugin.Summary):
    """The status line."""

    def __init__(self, judged: Judged, age_room: int) -> None:
        self._judged, self._age_room = judged, age_room

    def ok(self, results: nagiosplugin.Results) -> str:
        """``42 mounts checked in 0.1 s``."""
        return summary.headline(self._judged, self._age_room)

    problem = ok

    def empty(self) -> str:
        """The status line without any mount."""
        return summary.headline(self._judged, self._age_room)

    def verbose(self, results: nagiosplugin.Results) -> list[str]:
        """Nothing: the lines below the status line are parts of the report."""
        return []


# The other numbers of a mount. In a label, their names follow the mount point and a blank.
ASPECTS = frozenset(
    (
        *(step.word for step in Step),
        *("used", "free", "inodes", "inodes_free"),
        *("rtt", "exec", "queue", "retrans", "timeouts"),
    )
)


def label(mount_point: bytes) -> str:
    """A mount point as a label of perfdata. It differs from that of every other mount point, and
    from the labels of all other numbers.

    The guidelines forbid ``=``, and allow a quote only if it is doubled, which Icinga 2 does not
    undo. Icinga 2 takes ``::`` for the end of a name that check_multi has written, and puts that
    name before the labels that follow. All three are escaped as in mountinfo. So is the blank in a
    mount point such as ``/x used``, whose label would be that of the usage of ``/x``."""
    shown = text.printable(mount_point).replace("'", "\\047").replace("=", "\\075").replace("::", ":\\072")
    name, blank, last = shown.rpartition(" ")
    return f"{name}\\040{last}" if blank and last in ASPECTS else shown


Wants = Callable[[Finding], bool]


def report(judged: Judged, presentation: Presentation, wants: Optional[Wants] = None) -> Report:
    """The report on all mounts. It ends with a row for each mount that ``wants`` wants."""
    judgements, policy = judged.judgements, judged.policy
    items: list[Number] = []
    numbers = MountContext(presentation.perfdata, policy, items)
    check = nagiosplugin.Check(
        Mounts(judged, numbers),
        SummaryContext(presentation.perfdata != "none", policy, items),
        numbers,
        MountsSummary(judged, presentation.age_room),
        WorstFirst(judged.state),
    )
    check()
    lines: Sequence[Detail] = details.details(judged, presentation.verbosity)
    if wants is not None:
        rows = [
            _row(judgement, _own_report(judgement, policy, presentation), presentation)
            for judgement in worst_of_each(judgements).values()
            if wants(judgement.finding)
        ]
        lines = [*lines, *rows]
    return summary.report(judged)._replace(headline=check.summary_str, perfdata=items, lines=lines)


def report_each(judged: Judged, presentation: Presentation, wants: Wants = lambda finding: True) -> list[Report]:
    """A report on each mount point that ``wants`` wants, as a service of its own, the worst
    first."""
    return [
        _own_report(judgement, judged.policy, presentation)
        for judgement in worst_of_each(judged.judgements).values()
        if wants(judgement.finding)
    ]


def _own_report(judgement: Judgement, policy: Policy, presentation: Presentation) -> Report:
    """The report on a mount as a service of its own."""
    items: list[Number] = []
    # The latency of a single mount is of interest; counts are not.
    wanted = {"summary": "mounts", "usage": "mounts,usage"}.get(presentation.perfdata, presentation.perfdata)
    point = judgement.finding.mount_point
    MountContext(wanted, policy, items).performance(nagiosplugin.Metric(label(point), judgement, context="mount"))
    lines = [Detail(words, Worth.ABOUT_FAILED) for words in details.below(judgement, policy, presentation.verbosity)]
    mark = "" if judgement.drill is None else summary.DRILL
    return Report(judgement.state, mark + summary.line(judgement), perfdata=items, lines=lines, mount_point=point)


def _row(judgement: Judgement, own: Report, presentation: Presentation) -> Detail:
    """``/home<TAB>2<TAB>MOUNTS CRITICAL - ...``, for scripts. Names are printed without tabs."""
    first = parts.fitted(own, presentation.max_output, presentation.encoding).first_line
    words = (text.printable(judgement.finding.mount_point), str(judgement.state.value), first)
    return Detail("\t".join(words), Worth.REST if judgement.state is State.OK else Worth.FAILED)
