"""Survey and policy -> judgements: the condition, state and words of each finding. Pure."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from check_mounts import filesystems, meaning, text
from check_mounts.judging.judgements import Judgement, Judgements, is_any_counted, ok_words
from check_mounts.judging.judgements import worst as worst_state
from check_mounts.judging.thresholds import Capacity, Range
from check_mounts.judging.usage import Spaces
from check_mounts.model import Condition, Damage, Finding, Mount, State, Survey
from check_mounts.outcome import Step, Usage
from check_mounts.typed import NOTHING, TYPE_CHECKING, NamedTuple, Optional, Union

if TYPE_CHECKING:
    from check_mounts.traffic import Measure


Part = Union[Step, "Measure"]


class Policy(NamedTuple):
    """The administrator's thresholds and severities. ``severity`` holds only the severities that
    differ from the default.

    ``warning`` and ``critical`` are ranges of seconds for the whole probe, ``step_warning`` and
    ``step_critical`` for single steps, and for what programs did (traffic.Measure). ``unusual``:
    how many times the usual time is slow, 0 for none. ``exception`` returns the policy of a mount
    point that has other rules; ``told`` returns these, in words, each with its place in a file."""

    severity: Mapping[Condition, State] = NOTHING
    warning: Optional[Range] = None
    critical: Optional[Range] = None
    usage_warning: Optional[Capacity] = None
    usage_critical: Optional[Capacity] = None
    inodes_warning: Optional[Capacity] = None
    inodes_critical: Optional[Capacity] = None
    step_warning: Mapping[Part, Range] = NOTHING
    step_critical: Mapping[Part, Range] = NOTHING
    unusual: float = 0.0
    exception: Optional[Callable[[bytes], Optional[Policy]]] = None
    told: Callable[[bytes], Sequence[str]] = lambda mount_point: ()

    @property
    def bounds_usage(self) -> bool:
        """Whether usage is judged at all."""
        return any((self.usage_warning, self.usage_critical, self.inodes_warning, self.inodes_critical))

    @property
    def slow_from(self) -> float:
        """The number of seconds below which these thresholds call no probe slow."""
        parts = (*self.step_warning.items(), *self.step_critical.items())
        limits = (self.warning, self.critical, *[limit for part, limit in parts if isinstance(part, Step)])
        return min((limit.alerts_from for limit in limits if limit is not None), default=math.inf)

    def of(self, mount_point: bytes) -> Policy:
        """The policy of one mount."""
        return (self.exception(mount_point) if self.exception is not None else None) or self

    def state_of(self, condition: Condition) -> State:
        """The state of a condition. The state of ``slow`` depends on the threshold, unless
        --severity gives it."""
        return self.severity.get(condition, meaning.of(condition).severity or State.WARNING)


def judge(finding: Finding, policy: Policy) -> Judgement:
    """The judgement of one finding.

    If several things are wrong, the worst is the condition, and the others become remarks."""
    return _combined(_judge_alone(finding, policy), _judge_usage(finding, policy))


def _judge_alone(finding: Finding, policy: Policy) -> Judgement:
    if finding.condition is Condition.OK:
        damage = next((remark for remark in finding.remarks if isinstance(remark, Damage)), None)
        if damage is not None:
            return _judge_damaged(finding, damage, policy)
        return _judge_latency(finding, policy)
    return _judge_condition(finding, policy)


def _judge_damaged(finding: Finding, damage: Damage, policy: Policy) -> Judgement:
    """The judgement of a mount that answered, and whose devices have had errors. These may have
    been repaired since, so old ones are a remark unless --severity says more."""
    is_told = damage.is_new or Condition.FAILING in policy.severity
    state = policy.state_of(Condition.FAILING) if is_told else State.OK
    if state is State.OK:
        return _judge_latency(finding, policy)
    finding = finding._replace(remarks=tuple([remark for remark in finding.remarks if remark is not damage]))
    words = meaning.of(Condition.FAILING).words.format(damage)
    return _combined(_judge_latency(finding, policy), Judgement(finding, Condition.FAILING, state, words))


def _combined(first: Judgement, more: Optional[Judgement]) -> Judgement:
    if more is None:
        return first
    worse, other = (
        (more, first) if more.state.rank > first.state.rank or first.condition is Condition.OK else (first, more)
    )
    if other.condition is Condition.OK:
        return worse
    finding = first.finding
    return worse._replace(finding=finding._replace(remarks=(*finding.remarks, other.words)))


def _judge_condition(finding: Finding, policy: Policy) -> Judgement:
    words = _with_diagnosis(_condition_words(finding), finding)
    state = policy.state_of(finding.condition)
    if finding.grace_until is not None:
        state = min(state, State.WARNING, key=lambda each: each.rank)
    return Judgement(finding, finding.condition, state, words)


def _with_diagnosis(words: str, finding: Finding) -> str:
    return f"{words}: {finding.diagnosis}" if finding.diagnosis else words


def _condition_words(finding: Finding) -> str:
    outcome = finding.outcome
    if finding.condition is Condition.TIMED_OUT and finding.after is not None:
        return f"{finding.condition.words} {finding.detail}"
    if finding.condition is Condition.UNPROBED and outcome is not None:
        if outcome.errno is None:  # the probe began, but no answer came, or the mount was read but not written to
            return finding.detail
        if (outcome.step or 0) >= Step.CREATE:
            return f"not written: {finding.detail}"
    if not finding.is_mount:
        return finding.detail
    return meaning.of(finding.condition).words.format(finding.detail)


def _judge_latency(finding: Finding, policy: Policy) -> Judgement:
    for state, whole, parts in (
        (State.CRITICAL, policy.critical, policy.step_critical),
        (State.WARNING, policy.warning, policy.step_warning),
    ):
        for took, limit in _latencies(finding, whole, parts):
            words = meaning.of(Condition.SLOW).words.format(f"{took} ({state.name.lower()} range {limit.spec})")
            words = _with_diagnosis(words, finding)
            if finding.unusual is not None:
                finding = finding._replace(remarks=(*finding.remarks, finding.unusual.words))
            return Judgement(finding, Condition.SLOW, policy.severity.get(Condition.SLOW, state), words)
    if finding.unusual is not None:
        words = meaning.of(Condition.SLOW).words.format(finding.unusual.words)
        return Judgement(finding, Condition.SLOW, policy.state_of(Condition.SLOW), words)
    return Judgement(finding, Condition.OK, policy.state_of(Condition.OK), ok_words(finding.latency))


def is_slow(finding: Finding, policy: Policy) -> bool:
    """Whether a mount that answered was too slow."""
    return _judge_latency(finding, policy).condition is Condition.SLOW


def _latencies(finding: Finding, whole: Optional[Range], parts: Mapping[Part, Range]) -> Iterator[tuple[str, Range]]:
    """The latencies and measures that raise an alert, in words, and the range of each."""
    if whole is not None and finding.latency is not None and whole.alerts(finding.latency):
        yield f"{finding.latency:.3f} s", whole
    for part, limit in parts.items():
        if isinstance(part, Step):
            seconds = None if finding.outcome is None else finding.outcome.seconds[part - 1]
            if seconds is not None and limit.alerts(seconds):
                yield f"{part.word} took {seconds:.3f} s", limit
        elif finding.traffic is not None:
            found = finding.traffic.measured(part)
            if found is not None and limit.alerts(found.value):
                yield found.words(part), limit


def _judge_usage(finding: Finding, policy: Policy) -> Optional[Judgement]:
    usage = _usage(finding) if policy.bounds_usage else None
    if usage is None:
        return None
    for state, of_space, of_inodes in (
        (State.CRITICAL, policy.usage_critical, policy.inodes_critical),
        (State.WARNING, policy.usage_warning, policy.inodes_warning),
    ):
        for limit, counts, most, unit in (
            (of_space, usage.space, usage.most_available, "bytes"),
            (of_inodes, usage.inode_counts, usage.inodes, "inodes"),
        ):
            if limit is not None and counts is not None and is_for(limit, most) and limit.alerts(*counts):
                used = f"{_usage_words(*counts, unit)} ({state.name.lower()} range {limit.range.spec})"
                words = meaning.of(Condition.FULL).words.format(used)
                return Judgement(finding, Condition.FULL, policy.severity.get(Condition.FULL, state), words)
    return None


def _usage(finding: Finding) -> Optional[Usage]:
    """The usage that is judged. A shadowed mount has none: its probe may have reached the mount
    that covers it."""
    if finding.mount is None or finding.outcome is None or not meaning.of(finding.condition).counted:
        return None
    return finding.outcome.usage if filesystems.fills_up(finding.mount) else None


def is_for(limit: Capacity, most: int) -> bool:
    """Whether a bound applies to a filesystem in which at most this amount can be available. A
    bound for a single mount always applies."""
    return limit.for_one or limit.can_be_met(most)


def _too_small(finding: Finding, policy: Policy) -> tuple[str, ...]:
    """The bounds that do not apply to the filesystem because of its size."""
    usage = _usage(finding) if policy.bounds_usage else None
    if usage is None:
        return ()
    bounds = [(limit, usage.space, usage.most_available, "") for limit in (policy.usage_warning, policy.usage_critical)]
    bounds += [
        (limit, usage.inode_counts, usage.inodes, " inodes")
        for limit in (policy.inodes_warning, policy.inodes_critical)
    ]
    return tuple(
        f"'{limit.range.spec}'{unit}"
        for limit, counts, most, unit in bounds
        if limit is not None and counts is not None and not is_for(limit, most)
    )


def _usage_words(used: int, available: int, unit: str) -> str:
    """``91.3 % used, 1.2 GiB free``, ``91.3 % of the inodes used, 4711 free``."""
    percent = 100.0 * used / (used + available) if used + available > 0 else 100.0
    if unit == "inodes":
        return f"{percent:.1f} % of the inodes used, {available} free"
    return f"{percent:.1f} % used, {text.size_words(available)} free"


def judge_all(survey: Survey, policy: Policy) -> Judgements:
    """The judgements of all findings, the worst first; within a state, mounts that fail by
    themselves come before mounts that fail as a consequence.

    Most mounts are healthy. These are recognised in one look, and cost nothing more."""
    findings = survey.findings
    policies = {place: policy.of(findings[place].mount_point) for place in _remarkable(findings, policy)}
    full = {
        place: found for place, own in policies.items() if (found := _judge_usage(findings[place], own)) is not None
    }
    small = {place: bounds for place, own in policies.items() if (bounds := _too_small(findings[place], own))}
    ranks = {place: found.state.rank for place, found in full.items()}
    for place, own in policies.items():
        if _is_out_of_space(findings[place]):
            ranks[place] = max(ranks.get(place, 0), own.state_of(Condition.FULL).rank)
    full_elsewhere = _reported_elsewhere(survey, ranks)
    small_elsewhere = _reported_elsewhere(survey, dict.fromkeys(small, 0))
    judgements = {}
    for place, own in policies.items():
        finding = findings[place]
        told = place in full and place not in full_elsewhere
        unmet = () if place in small_elsewhere else small.get(place, ())
        remarks = _usage_remarks(finding, unmet, full_elsewhere.get(place))
        remarked = finding._replace(remarks=(*finding.remarks, *remarks)) if remarks else finding
        if place in full_elsewhere and _is_out_of_space(finding):
            remarked = _with_full_as_remark(remarked)
        judgement = _combined(_judge_alone(remarked, own), full[place] if told else None)
        judgements[place] = judgement._replace(too_small=unmet) if unmet else judgement
    return Judgements(findings, judgements)


def judge_remarkable(findings: Sequence[Finding], policy: Policy) -> list[Judgement]:
    """The judgements of the findings about which there may be something to say, each for itself."""
    some = [findings[place] for place in _remarkable(findings, policy)]
    return [judge(finding, policy.of(finding.mount_point)) for finding in some]


def _remarkable(findings: Sequence[Finding], policy: Policy) -> list[int]:
    """The places of the findings about which there may be something to say."""
    if policy.exception is None:
        is_healthy = _look(policy)
        return [place for place, finding in enumerate(findings) if not is_healthy(finding)]
    looks: dict[int, tuple[Policy, Callable[[Finding], bool]]] = {}  # a policy that is kept keeps its id()
    places = []
    for place, finding in enumerate(findings):
        own = policy.of(finding.mount_point)
        known = looks.get(id(own)) or looks.setdefault(id(own), (own, _look(own)))
        if not known[1](finding):
            places.append(place)
    return places


def _look(policy: Policy) -> Callable[[Finding], bool]:
    """A function that tells at a look that a mount is OK and that this policy has no words for it.
    It says no in doubt. It is called for each mount of each run."""
    ok = Condition.OK
    whole = [limit for limit in (policy.warning, policy.critical) if limit is not None]
    parts = (*policy.step_warning.items(), *policy.step_critical.items())
    steps = [(part - 1, limit) for part, limit in parts if isinstance(part, Step)]
    measures = len(steps) < len(parts)
    space = [limit for limit in (policy.usage_warning, policy.usage_critical) if limit is not None]
    inodes = [limit for limit in (policy.inodes_warning, policy.inodes_critical) if limit is not None]

    def is_plain(finding: Finding) -> bool:
        return finding.condition is ok and not finding.remarks and finding.is_mount

    def is_within(finding: Finding) -> bool:
        if finding.condition is not ok or finding.remarks or finding.unusual or not finding.is_mount:
            return False
        latency, outcome = finding.latency, finding.outcome
        if measures and finding.traffic is not None:
            return False  # it is judged in full
        if latency is not None and any([limit.alerts(latency) for limit in whole]):
            return False
        if outcome is None:
            return True
        taken = outcome.seconds
        for place, limit in steps:
            seconds = taken[place]
            if seconds is not None and limit.alerts(seconds):
                return False
        usage = outcome.usage
        return usage is None or (_is_within(space, usage.space) and _is_within(inodes, usage.inode_counts))

    if policy.state_of(ok) is not State.OK:
        return lambda finding: False
    return is_within if whole or steps or space or inodes or measures or policy.unusual else is_plain


def _is_within(limits: Sequence[Capacity], counts: Optional[tuple[int, int]]) -> bool:
    """Whether a usage is certainly within bounds, and none of them is too small for it."""
    if counts is None:
        return True
    most = sum(counts) if counts[1] > 0 else 0  # see Usage.most_available; 0: in doubt
    return all([not limit.alerts(*counts) and is_for(limit, most) for limit in limits])


def _is_out_of_space(finding: Finding) -> bool:
    """Whether a write found no space. A quota (EDQUOT) concerns only one user."""
    return finding.condition is Condition.FULL and finding.outcome is not None and finding.outcome.errno == errno.ENOSPC


def _with_full_as_remark(finding: Finding) -> Finding:
    """The finding of a mount that has answered, and whose lack of space is reported with another
    mount."""
    remarks = (*finding.remarks, meaning.of(Condition.FULL).words.format(finding.detail))
    return finding._replace(condition=Condition.OK, detail="", remarks=remarks)


def _reported_elsewhere(survey: Survey, badness: Mapping[int, int]) -> dict[int, Optional[Finding]]:
    """The positions of the findings whose space is reported with another finding, and that finding.
    It is None for mounts of one superblock: nobody needs to be told that these have one usage.

    ``badness`` says how bad each of the findings in question is."""
    result: dict[int, Optional[Finding]] = {}
    devices: set[tuple[int, int]] = set()
    alone: list[int] = []
    for index in sorted(badness, key=lambda index: -badness[index]):
        mount = survey.findings[index].mount
        if mount is not None and mount.device in devices:
            result[index] = None
        elif mount is not None:
            devices.add(mount.device)
            alone.append(index)
    if len(alone) > 1:
        alone.sort()
        tellers = Spaces(_reachable(survey)).reporters([(survey.findings[index], badness[index]) for index in alone])
        result.update((index, teller) for index, teller in zip(alone, tellers) if teller is not None)
    return result


def _reachable(survey: Survey) -> Iterator[Mount]:
    """The mounts that a path can lead to, as far as the survey knows."""
    yield from (out.mount for out in survey.left_out)
    yield from (each.mount for each in survey.findings if each.mount is not None and meaning.of(each.condition).counted)


def _usage_remarks(finding: Finding, bounds: Sequence[str], teller: Optional[Finding]) -> list[str]:
    remarks = [] if teller is None else [f"same space as {text.printable(teller.mount_point)}"]
    usage = _usage(finding)
    if bounds and usage is not None:
        space = [text.size_words(sum(usage.space))] if usage.space is not None else []
        inodes = [text.counted(sum(usage.inode_counts), "inode")] if usage.inode_counts is not None else []
        remarks.append(f"too small for {' and '.join(bounds)} ({', '.join(space + inodes)} in all)")
    return remarks


class Judged(NamedTuple):
    """A survey with its judgements, the worst first, the state of the whole, and the policy that
    was applied. It is made once per pass, and every output is made from it."""

    survey: Survey
    judgements: Sequence[Judgement]
    state: State
    policy: Policy


def judged(survey: Survey, policy: Policy, allow_none: bool = False) -> Judged:
    """The judgements of a pass. ``allow_none``: a pass that checked no mount is OK."""
    judgements = judge_all(survey, policy)
    return Judged(survey, judgements, worst(judgements, survey, allow_none), policy)


def worst(judgements: Sequence[Judgement], survey: Survey, allow_none: bool) -> State:
    """The state of the whole: that of the worst mount, UNKNOWN if no mount was checked or the run
    was cut short."""
    if survey.interrupted is not None:
        return State.UNKNOWN
    if not is_any_counted(judgements) and not allow_none:
        return max(worst_state(judgements), State.UNKNOWN, key=lambda state: state.rank)
    return worst_state(judgements)
