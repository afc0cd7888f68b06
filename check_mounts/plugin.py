"""Survey -> what a Nagios-like core reads. The only module that imports nagiosplugin, and it is
loaded after the probes.

The library's Resource, Context, Result, Results, Summary and Check are used; its Runtime is not: it
ends a run with SIGALRM, which no wait in the kernel heeds, and throws away what was measured. Three
of its habits are replaced on purpose:

- UNKNOWN outranks CRITICAL there: one odd mount would hide a dead one (:class:`WorstFirst`);
- perfdata is sorted by label and the summary lost among the mounts: the order of the resource is
  kept;
- a ``'`` or ``=`` in a label raises: labels are escaped before they get there.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional

import nagiosplugin

from check_mounts import filesystems, summary, text
from check_mounts import policy as policies
from check_mounts.model import Finding, State
from check_mounts.outcome import Step
from check_mounts.policy import Judged, Judgement, Policy
from check_mounts.summary import MOST_GROUPS, Detail, Failure, Report, Worth
from check_mounts.thresholds import Capacity, Range

_STATES = {
    State.OK: nagiosplugin.Ok,
    State.WARNING: nagiosplugin.Warn,
    State.CRITICAL: nagiosplugin.Critical,
    State.UNKNOWN: nagiosplugin.Unknown,
}


@dataclasses.dataclass(frozen=True)
class Presentation:
    """How to print: ``verbosity`` 0 to 3, ``perfdata`` summary, mounts, steps or none,
    ``max_output`` in bytes (0: no limit)."""

    verbosity: int = 0
    perfdata: str = "summary"
    max_output: int = 0
    encoding: str = "utf-8"


class Mounts(nagiosplugin.Resource):
    """What was acquired: counts and times first, then each mount."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged

    def probe(self) -> Iterator[nagiosplugin.Metric]:
        """The metrics in the order in which perfdata names them."""
        judgements = self.judged.judgements
        for name, number in summary.counts(judgements):
            yield nagiosplugin.Metric(name, str(number), context="summary")
        yield nagiosplugin.Metric("time", f"{self.judged.survey.duration:.3f}", "s", context="summary")
        yield nagiosplugin.Metric("slowest", f"{summary.slowest(judgements):.3f}", "s", context="summary")
        for judgement in judgements:
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
    """Counts and times: always OK, there for perfdata. Its thresholds are those of latencies, so
    only a latency carries them."""

    def __init__(self, wanted: bool, policy: Policy, items: list[str]) -> None:
        super().__init__("summary", items)
        self._wanted = wanted
        self._limits = _specs(policy.warning, policy.critical)

    def performance(self, metric: nagiosplugin.Metric, resource: Mounts) -> Optional[nagiosplugin.Performance]:
        """``timed_out=2``, ``slowest=0.012s;1;5``."""
        limits = self._limits if metric.name == "slowest" else ()
        return self._emit(metric.name, metric.value, metric.uom or "", *limits) if self._wanted else None


class MountContext(_Numbers):
    """A mount: the state that the policy gives it. ``wanted`` is what Presentation calls
    perfdata."""

    def __init__(self, wanted: str, policy: Policy, items: list[str]) -> None:
        super().__init__("mount", items)
        self._wanted = wanted
        self._policy = policy
        self._counted: set[tuple[int, int]] = set()
        self._told: set[bytes] = set()

    def evaluate(self, metric: nagiosplugin.Metric, resource: Mounts) -> nagiosplugin.Result:
        """The judgement as the library's result."""
        judgement: Judgement = metric.value
        return nagiosplugin.Result(_STATES[judgement.state], summary.line(judgement), metric)

    def performance(
        self, metric: nagiosplugin.Metric, resource: Optional[Mounts] = None
    ) -> Optional[nagiosplugin.Performance]:
        """``'/home'=0.000123s``; a mount that was not asked has no latency. One that hangs has
        waited so long at least."""
        judgement: Judgement = metric.value
        finding = judgement.finding
        if self._wanted == "none" or not judgement.is_counted:
            return None
        if (
            finding.mount_point in self._told
        ):  # of two findings of a mount point the worse comes first, and its label once
            return None
        if finding.outcome is not None or finding.latency is not None:
            self._told.add(finding.mount_point)
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
        """``'/home used'=123B;900;950;0;1000``: of each superblock once, where thresholds ask for
        it."""
        usage = None if finding.outcome is None else finding.outcome.usage
        if (
            usage is None
            or finding.mount is None
            or finding.mount.device in self._counted
            or not filesystems.fills_up(finding.mount)
        ):
            return None
        performance = None
        space, inodes = usage.space, usage.inode_counts
        if space is not None and (policy.usage_warning or policy.usage_critical):
            used, total = space[0], sum(space)
            limits = [
                _amount(limit, total, usage.most_available) for limit in (policy.usage_warning, policy.usage_critical)
            ]
            performance = self._emit(f"{name} used", str(used), "B", *limits, 0, total)
        if inodes is not None and (policy.inodes_warning or policy.inodes_critical):
            used, total = inodes[0], sum(inodes)
            limits = [_amount(limit, total, total) for limit in (policy.inodes_warning, policy.inodes_critical)]
            performance = self._emit(f"{name} inodes", str(used), "", *limits, 0, total)
        if performance is not None:
            self._counted.add(finding.mount.device)
        return performance


def _amount(limit: Optional[Capacity], total: int, most: int) -> str:
    """A limit as perfdata can say it: an amount in use beyond which is the alert. One that is no
    such thing is left out."""
    if limit is None or limit.range.inverted or not policies.is_for(limit, most):
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
    """The status line."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged

    def ok(self, results: nagiosplugin.Results) -> str:
        """``42 mounts checked in 0.1 s``."""
        return summary.headline(self._judged)

    problem = ok

    def empty(self) -> str:
        """No mount was selected."""
        return summary.headline(self._judged)

    def verbose(self, results: nagiosplugin.Results) -> list[str]:
        """The lines below are put together with all else, by what they are worth."""
        return []


# What is told of a mount beside its latency, and so stands behind a blank in a label.
_ASPECTS = (*(step.word for step in Step), "used", "inodes")
_ASPECT = re.compile(f" (?=(?:{'|'.join(map(re.escape, _ASPECTS))})\\Z)")


def label(mount_point: bytes) -> str:
    """A mount point as a label of perfdata; no two are the same, nor the same as that of something
    else that is told of a mount.

    The guidelines forbid ``=`` and allow a quote only doubled, which Icinga 2 does not undo; ``::``
    it takes for the end of a name by check_multi, which it then puts before the labels that follow.
    All three are escaped as in mountinfo, and so is the blank in a mount point such as ``/x used``,
    which is not what is used of ``/x``."""
    shown = text.printable(mount_point).replace("'", "\\047").replace("=", "\\075").replace("::", ":\\072")
    return _ASPECT.sub(r"\\040", shown)


def report(judged: Judged, presentation: Presentation, per_mount: bool = False) -> Report:
    """The whole output. ``per_mount``: below it, a row for each mount: mount point, state and
    output, with a tab in between."""
    judgements, policy = judged.judgements, judged.policy
    items: list[str] = []
    check = nagiosplugin.Check(
        Mounts(judged),
        SummaryContext(presentation.perfdata != "none", policy, items),
        MountContext(presentation.perfdata, policy, items),
        MountsSummary(judged),
        WorstFirst(judged.state),
    )
    check()
    verdict = f"{check.name.upper()} {str(check.state).upper()} - {check.summary_str}"
    lines = summary.details(judged, presentation.verbosity)
    if per_mount:
        lines += [
            _row(judgement, _own_text(judgement, policy, presentation)[0])
            for judgement in policies.worst_of_each(judgements).values()
        ]
    output = _fitted(verdict, summary.failure_items(judgements), items, lines, presentation)
    return Report(text.encoded(output, presentation.encoding), judged.state, items)


def report_each(judged: Judged, presentation: Presentation) -> list[Report]:
    """An output for each mount point, as if it were a service of its own; their order is that of
    the judgements, the worst first."""
    reports = []
    for mount_point, judgement in policies.worst_of_each(judged.judgements).items():
        output, items = _own_text(judgement, judged.policy, presentation)
        reports.append(Report(text.encoded(output, presentation.encoding), judgement.state, items, mount_point))
    return reports


def _own_text(judgement: Judgement, policy: Policy, presentation: Presentation) -> tuple[str, list[str]]:
    """The output of a mount as a service of its own, and its perfdata."""
    items: list[str] = []
    # The latency is what such a service has to show; counts of one mount say nothing.
    wanted = "mounts" if presentation.perfdata == "summary" else presentation.perfdata
    metric = nagiosplugin.Metric(label(judgement.finding.mount_point), judgement, context="mount")
    MountContext(wanted, policy, items).performance(metric)
    lines = [Detail(words, Worth.ABOUT_FAILED) for words in summary.below(judgement, presentation.verbosity)]
    verdict = f"MOUNTS {judgement.state.name} - {summary.line(judgement)}"
    return _fitted(verdict, [], items, lines, presentation), items


def _row(judgement: Judgement, output: str) -> Detail:
    """``/home<TAB>2<TAB>MOUNTS CRITICAL - ...``, for scripts. No name as it is printed holds a
    tab."""
    words = (text.printable(judgement.finding.mount_point), str(judgement.state.value), output.split("\n", 1)[0])
    return Detail("\t".join(words), Worth.REST if judgement.state is State.OK else Worth.FAILED)


class _Piece(NamedTuple):
    """A part of an output that is told as a whole or not at all. ``size``: in bytes, with what
    joins it to the others."""

    words: str
    worth: Worth
    size: int
    head: Optional[int] = None


def _fitted(
    verdict: str,
    failures: Sequence[Failure],
    perfdata: Sequence[str],
    lines: Sequence[Detail],
    presentation: Presentation,
) -> str:
    """An output within the limit: the verdict always, then what is worth most, piece by piece, and
    how much was left out."""
    named = failures[:MOST_GROUPS]
    whole = _joined(verdict, _listed(named, failures), perfdata, [line.words for line in lines])
    limit = presentation.max_output

    def size(words: str) -> int:
        return len(text.encoded(words, presentation.encoding))

    if limit == 0 or size(whole) <= limit:
        return whole
    closing = _left_out(_total(failures), len(lines), len(perfdata))
    verdict = _squeezed(verdict, limit - len(closing) - 2, size)  # two line feeds
    room = limit - size(verdict) - len(closing) - 2 - len(f"; and {_total(failures)} more") - len(" |")
    pieces = [_Piece(item.words, Worth.FAILURE, size(item.words) + 2) for item in named]
    pieces += [_Piece(item, Worth.LATENCY if _is_of_mount(item) else Worth.COUNT, size(item) + 1) for item in perfdata]
    first = len(pieces)
    pieces += [
        _Piece(each.words, each.worth, size(each.words) + 1, None if each.head is None else first + each.head)
        for each in lines
    ]
    kept = _kept(pieces, room)
    shown = [failure for index, failure in enumerate(named) if index in kept]
    numbers = [pieces[index].words for index in range(len(named), first) if index in kept]
    below = [pieces[index].words for index in range(first, len(pieces)) if index in kept]
    closing = _left_out(0 if shown else _total(failures), len(lines) - len(below), len(perfdata) - len(numbers))
    return _joined(verdict, _listed(shown, failures) if shown else [], numbers, [*below, closing] if closing else below)


def _kept(pieces: Sequence[_Piece], room: int) -> set[int]:
    """The positions of those that there is room for, chosen by what they are worth. One that is too
    long does not keep others out."""
    kept: set[int] = set()
    for index in sorted(range(len(pieces)), key=lambda index: pieces[index].worth):
        piece = pieces[index]
        if piece.size <= room and (piece.head is None or piece.head in kept):
            kept.add(index)
            room -= piece.size
    return kept


def _joined(verdict: str, failures: Sequence[str], perfdata: Sequence[str], lines: Sequence[str]) -> str:
    """Perfdata stands on the first line, separated by single spaces: Icinga 2 reads it nowhere
    else."""
    named = ": " + "; ".join(failures) if failures else ""
    numbers = " | " + " ".join(perfdata) if perfdata else ""
    return "".join(f"{each}\n" for each in (verdict + named + numbers, *lines))


def _listed(named: Sequence[Failure], failures: Sequence[Failure]) -> list[str]:
    """The words of some failures, and how many more there are."""
    rest = _total(failures) - _total(named)
    return [*(each.words for each in named), *([f"and {rest} more"] if rest else [])]


def _total(failures: Sequence[Failure]) -> int:
    return sum(each.stands_for for each in failures)


def _left_out(failures: int, lines: int, numbers: int) -> str:
    """What is said of them at the end; nothing where there are none. Failures only where none is
    named: else it is said there."""
    counts = ((failures, "failure"), (lines, "more line"), (numbers, "more value"))
    parts = [text.counted(count, noun) for count, noun in counts if count]
    return f"({', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]} left out: --max-output)" if parts else ""


def _is_of_mount(item: str) -> bool:
    """Mount points begin with a slash, and the names of counts and times do not."""
    return item.startswith(("'/", "/"))


def _squeezed(words: str, room: int, size: Callable[[str], int]) -> str:
    """A verdict without its middle where it is too long, as that of a mount by itself may be: it
    has all names in full."""
    while (excess := size(words) - room) > 0:
        words = text.clipped(words, len(words) - max(1, excess // 16))  # a character has 16 bytes at the most, escaped
    return words
