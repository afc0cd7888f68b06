"""Survey -> what a Nagios-like core reads. The only module that imports nagiosplugin, and it is loaded after the probes.

The library's Resource, Context, Result, Results, Summary and Check are used; its Runtime is not: it ends a run with SIGALRM,
which no wait in the kernel heeds, and throws away what was measured. Three of its habits are replaced on purpose:

- UNKNOWN outranks CRITICAL there: one odd mount would hide a dead one (:class:`WorstFirst`);
- perfdata is sorted by label and the summary lost among the mounts: the order of the resource is kept;
- a ``'`` or ``=`` in a label raises: labels are escaped before they get there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Optional

import nagiosplugin

from check_mounts import policy as policies
from check_mounts import summary, text
from check_mounts.model import Condition, Finding, State, Step, Survey
from check_mounts.policy import Capacity, Judgement, Policy, Range
from check_mounts.summary import Report

_STATES = {
    State.OK: nagiosplugin.Ok,
    State.WARNING: nagiosplugin.Warn,
    State.CRITICAL: nagiosplugin.Critical,
    State.UNKNOWN: nagiosplugin.Unknown,
}


@dataclasses.dataclass(frozen=True)
class Presentation:
    """How to print: ``verbosity`` 0 to 3, ``perfdata`` summary, mounts, steps or none, ``max_output`` in bytes (0: no limit)."""

    verbosity: int = 0
    perfdata: str = "summary"
    max_output: int = 0
    allow_none: bool = False
    encoding: str = "utf-8"


class Mounts(nagiosplugin.Resource):
    """What was acquired: counts and times first, then each mount."""

    def __init__(self, survey: Survey, judgements: Sequence[Judgement]) -> None:
        self.survey = survey
        self.judgements = judgements

    def probe(self) -> Iterator[nagiosplugin.Metric]:
        """The metrics in the order in which perfdata names them."""
        for name, number in summary.counts(self.judgements, self.survey):
            yield nagiosplugin.Metric(name, str(number), context="summary")
        yield nagiosplugin.Metric("time", f"{self.survey.duration:.3f}", "s", context="summary")
        yield nagiosplugin.Metric("slowest", f"{summary.slowest(self.judgements):.3f}", "s", context="summary")
        for judgement in self.judgements:
            yield nagiosplugin.Metric(label(judgement.finding.mount_point), judgement, context="mount")


class _Numbers(nagiosplugin.Context):
    """Perfdata in the order of the metrics."""

    def __init__(self, name: str, items: list[str]) -> None:
        super().__init__(name)
        self._items = items

    def _emit(self, name: str, value: str, unit: str, *limits: object) -> nagiosplugin.Performance:
        """``limits``: warning, critical, min, max."""
        performance = nagiosplugin.Performance(name, value, unit, *limits)
        self._items.append(str(performance))
        return performance


def _specs(*limits: Optional[Range]) -> tuple[str, ...]:
    return tuple("" if limit is None else limit.spec for limit in limits)


class SummaryContext(_Numbers):
    """Counts and times: always OK, there for perfdata. Its thresholds are those of latencies, so only a latency carries them."""

    def __init__(self, wanted: bool, policy: Policy, items: list[str]) -> None:
        super().__init__("summary", items)
        self._wanted = wanted
        self._limits = _specs(policy.warning, policy.critical)

    def performance(self, metric: nagiosplugin.Metric, resource: Mounts) -> Optional[nagiosplugin.Performance]:
        """``timed_out=2``, ``slowest=0.012s;1;5``."""
        limits = self._limits if metric.name == "slowest" else ()
        return self._emit(metric.name, metric.value, metric.uom or "", *limits) if self._wanted else None


class MountContext(_Numbers):
    """A mount: the state that the policy gives it. ``wanted`` is what Presentation calls perfdata."""

    def __init__(self, wanted: str, policy: Policy, items: list[str]) -> None:
        super().__init__("mount", items)
        self._wanted = wanted
        self._policy = policy
        self._counted: set[tuple[int, int]] = set()

    def evaluate(self, metric: nagiosplugin.Metric, resource: Mounts) -> nagiosplugin.Result:
        """The judgement as the library's result."""
        judgement: Judgement = metric.value
        return nagiosplugin.Result(_STATES[judgement.state], summary.line(judgement), metric)

    def performance(self, metric: nagiosplugin.Metric, resource: Mounts) -> Optional[nagiosplugin.Performance]:
        """``'/home'=0.000123s``; a mount that was not asked has no latency. One that hangs has waited so long at least."""
        judgement: Judgement = metric.value
        finding = judgement.finding
        if self._wanted == "none" or judgement.condition is Condition.SHADOWED:
            return None
        policy = self._policy.of(finding.mount_point)
        whole = None
        if self._wanted != "summary" and finding.latency is not None:
            whole = self._emit(metric.name, f"{finding.latency:.6f}", "s", *_specs(policy.warning, policy.critical))
        if self._wanted == "steps" and finding.outcome is not None:
            for step, seconds in zip(Step, finding.outcome.seconds):
                if seconds is not None:
                    limits = _specs(policy.step_warning.get(step), policy.step_critical.get(step))
                    self._emit(f"{metric.name} {step.word}", f"{seconds:.6f}", "s", *limits)
        return self._usage(metric.name, finding, policy) or whole

    def _usage(self, name: str, finding: Finding, policy: Policy) -> Optional[nagiosplugin.Performance]:
        """``'/home used'=123B;900;950;0;1000``: of each superblock once, where thresholds ask for it."""
        usage = None if finding.outcome is None else finding.outcome.usage
        if usage is None or finding.mount is None or finding.mount.device in self._counted:
            return None
        performance = None
        space, inodes = usage.space, usage.inode_counts
        if space is not None and (policy.usage_warning or policy.usage_critical):
            used, total = space[0], sum(space)
            limits = [_amount(limit, total) for limit in (policy.usage_warning, policy.usage_critical)]
            performance = self._emit(f"{name} used", str(used), "B", *limits, 0, total)
        if inodes is not None and (policy.inodes_warning or policy.inodes_critical):
            used, total = inodes[0], sum(inodes)
            limits = [_amount(limit, total) for limit in (policy.inodes_warning, policy.inodes_critical)]
            performance = self._emit(f"{name} inodes", str(used), "", *limits, 0, total)
        if performance is not None:
            self._counted.add(finding.mount.device)
        return performance


def _amount(limit: Optional[Capacity], total: int) -> str:
    """A limit as perfdata can say it: an amount in use beyond which is the alert. One that is no such thing is left out."""
    if limit is None or limit.range.inverted:
        return ""
    start, end = limit.range.start, limit.range.end
    if limit.kind == "percent" and start <= 0 and end < math.inf:
        return str(int(total * end / 100))
    if limit.kind == "free" and end == math.inf:
        return str(max(0, int(total - start)))
    return ""


class WorstFirst(nagiosplugin.Results):
    """Results whose overall state is the policy's: CRITICAL > UNKNOWN > WARNING > OK."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    @property
    def most_significant_state(self) -> nagiosplugin.state.ServiceState:
        """Which the library takes for the check's state."""
        return _STATES[self._state]


class MountsSummary(nagiosplugin.Summary):
    """The status line, and the lines below it."""

    def __init__(self, survey: Survey, judgements: Sequence[Judgement], verbosity: int) -> None:
        self._survey = survey
        self._judgements = judgements
        self._verbosity = verbosity

    def ok(self, results: nagiosplugin.Results) -> str:
        """``42 mounts checked in 0.1 s``."""
        return summary.headline(self._judgements, self._survey)

    problem = ok

    def empty(self) -> str:
        """No mount was selected."""
        return summary.headline(self._judgements, self._survey)

    def verbose(self, results: nagiosplugin.Results) -> list[str]:
        """Notes, then the mounts that the verbosity asks for."""
        return summary.details(self._judgements, self._survey, self._verbosity)


def label(mount_point: bytes) -> str:
    """A mount point as a label of perfdata.

    The guidelines forbid ``=`` and allow a quote only doubled, which Icinga 2 does not undo; ``::`` it takes for the end of a name by
    check_multi, which it then puts before the labels that follow. All three are escaped as in mountinfo.
    """
    return text.printable(mount_point).replace("'", "\\047").replace("=", "\\075").replace("::", ":\\072") or "mount table"


def report(survey: Survey, policy: Policy, presentation: Presentation) -> Report:
    """The whole output."""
    judgements = policies.judge_all(survey, policy)
    state = policies.worst(judgements, survey, presentation.allow_none)
    items: list[str] = []
    check = nagiosplugin.Check(
        Mounts(survey, judgements),
        SummaryContext(presentation.perfdata != "none", policy, items),
        MountContext(presentation.perfdata, policy, items),
        MountsSummary(survey, judgements, presentation.verbosity),
        WorstFirst(state),
    )
    check()
    verdict = f"{check.name.upper()} {str(check.state).upper()} - {check.summary_str}"
    failures = summary.failures(judgements)
    return _assemble(verdict, failures, items, check.verbose_str or [], presentation, state)


def report_each(survey: Survey, policy: Policy, presentation: Presentation) -> list[Report]:
    """An output for each mount point, as if it were a service of its own; their order is that of the judgements, the worst first."""
    reports = []
    for mount_point, judgement in policies.worst_of_each(policies.judge_all(survey, policy)).items():
        items: list[str] = []
        # The latency is what such a service has to show; counts of one mount say nothing.
        wanted = "mounts" if presentation.perfdata == "summary" else presentation.perfdata
        metric = nagiosplugin.Metric(label(mount_point), judgement, context="mount")
        MountContext(wanted, policy, items).performance(metric, Mounts(survey, [judgement]))
        verdict = f"MOUNTS {judgement.state.name} - {summary.line(judgement)}"
        lines = summary.below(judgement, presentation.verbosity)
        report = _assemble(verdict, [], items, lines, presentation, judgement.state)
        reports.append(dataclasses.replace(report, mount_point=mount_point))
    return reports


def _assemble(
    verdict: str, failures: Sequence[str], perfdata: Sequence[str], lines: Sequence[str], presentation: Presentation, state: State
) -> Report:
    """Put it together within the limit: the verdict always, then whole failures, whole perfdata items, whole lines.

    Perfdata stands on the first line, separated by single spaces: Icinga 2 reads it nowhere else.
    """
    budget = _Budget(presentation)
    budget.take(verdict + "\n")
    named = budget.fitting(failures, first=": ", then="; ", more="; and {} more")
    numbers = budget.fitting(perfdata, first=" | ", then=" ", more="")
    below = budget.fitting(lines, first="", then="\n", more="\n({} more lines left out: --max-output)", tail="\n")
    return Report(text.encoded(verdict + named + numbers + "\n" + below, presentation.encoding), state, perfdata)


class _Budget:
    """The bytes that are left of ``--max-output``."""

    def __init__(self, presentation: Presentation) -> None:
        self._encoding = presentation.encoding
        self._limited = presentation.max_output > 0
        self._left = presentation.max_output

    def _size(self, words: str) -> int:
        return len(text.encoded(words, self._encoding)) if self._limited else 0

    def take(self, words: str) -> None:
        self._left -= self._size(words)

    def fitting(self, items: Sequence[str], first: str, then: str, more: str, tail: str = "") -> str:
        """As many whole items as fit, joined; where some do not, ``more`` says how many, if that fits."""
        if not items:
            return ""
        sizes = [self._size((then if position else first) + item) for position, item in enumerate(items)]
        count, closing = len(items), ""
        if self._limited:
            count, _ = text.fitting(sizes, self._left - self._size(tail), self._size(more.format(len(items))))
        if count == 0:
            return ""
        if count < len(items):
            closing = more.format(len(items) - count)
        words = first + then.join(items[:count]) + closing + tail
        self.take(words)
        return words
