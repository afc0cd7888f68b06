"""How bad it is: (Finding, Policy) -> condition, state and words. Pure."""

from __future__ import annotations

import dataclasses
import errno
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Optional

from check_mounts import filesystems, text
from check_mounts.model import Condition, Finding, Mount, State, Step, Survey, Usage
from check_mounts.usage import Spaces

# Somebody may have come back meanwhile who was not asked since.
SILENT = frozenset({Condition.TIMED_OUT, Condition.BLOCKED})
# What to ask anew when something new hangs from it.
DOUBTFUL = SILENT | {Condition.DEAD, Condition.UNPROBED}

DEFAULT_SEVERITY: Mapping[Condition, State] = {
    Condition.OK: State.OK,
    Condition.DENIED: State.WARNING,
    Condition.TIMED_OUT: State.CRITICAL,
    Condition.DEAD: State.CRITICAL,
    Condition.MISSING: State.CRITICAL,
    Condition.READ_ONLY: State.CRITICAL,
    Condition.CHANGED: State.WARNING,
    Condition.FULL: State.CRITICAL,
    Condition.BLOCKED: State.OK,
    Condition.SHADOWED: State.OK,
    Condition.UNPROBED: State.UNKNOWN,
}


_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")


@dataclasses.dataclass(frozen=True)
class Range:
    """A threshold as the Monitoring Plugins Development Guidelines write it: ``[@][start:][end]``,
    alert outside of it.

    ``spec`` is what was given. It is parsed before any probe, therefore not with nagiosplugin,
    which is loaded after the forks."""

    spec: str
    start: float
    end: float
    inverted: bool

    @classmethod
    def parse(cls, spec: str) -> Range:
        """Raises ValueError with a reason in words."""
        inverted, rest = spec.startswith("@"), spec[1:] if spec.startswith("@") else spec
        start_text, _, end_text = rest.rpartition(":")
        if not rest or not (start_text or end_text):
            raise ValueError("it is empty")
        start = -math.inf if start_text == "~" else _number(start_text) if start_text else 0.0
        end = _number(end_text) if end_text else math.inf
        if start > end:
            raise ValueError("its start is greater than its end")
        return cls(spec, start, end, inverted)

    def alerts(self, value: float) -> bool:
        """Whether a value calls for the alert."""
        return (self.start <= value <= self.end) == self.inverted


def _number(word: str) -> float:
    # float() would also take blanks, newlines, underscores and digits of other scripts; the words
    # end up in perfdata.
    if not _NUMBER.match(word) or not math.isfinite(float(word)):
        raise ValueError(f"'{text.printable_argument(word)}' is not a number")
    return float(word)


_AMOUNT = re.compile(
    r"(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)(?:(?P<percent>%)|(?P<prefix>[kmgtp])(?P<suffix>i?b)?)?\Z", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Capacity:
    """A range for how full a filesystem is. ``kind`` says what it is a range of.

    ``percent``: percent used of what may be used, as df(1) has it. ``free``: bytes (inodes) left to
    unprivileged users. ``for_one``: it was said for a single mount."""

    range: Range
    kind: str
    for_one: bool = dataclasses.field(default=False, compare=False)

    def measure(self, used: int, available: int) -> Optional[float]:
        """What the range is compared with, from bytes or inodes; None for a filesystem that has
        none (``f_files`` is 0)."""
        # What is kept for root is neither: a filesystem is full, 100 %, once nobody else can write.
        if used + available <= 0:
            return None
        return 100.0 * used / (used + available) if self.kind == "percent" else float(available)

    def can_be_met(self, total: int) -> bool:
        """Whether a filesystem of this size can be without the alert, be it empty: one of 5 MiB
        never has 10 GiB free."""
        if self.kind == "percent":
            return True
        if self.range.inverted:
            return self.range.start > 0 or self.range.end < total
        return self.range.start <= total and self.range.end >= 0

    def alerts(self, used: int, available: int) -> bool:
        """Whether so much in use (``f_blocks - f_bfree``) and so much left (``f_bavail``) calls for
        the alert."""
        value = self.measure(used, available)
        return value is not None and self.range.alerts(value)


def parse_capacity(word: str) -> Capacity:
    """``90``, ``90%``, ``@10:20%``: percent used; ``10GiB:``, ``500M:``: bytes free. Raises
    ValueError with a reason in words.

    K, KiB is 1024, KB is 1000; also M, G, T, P; upper or lower case. A mere 0 fits both.
    """
    inverted, rest = word[:1] == "@", word[1:] if word[:1] == "@" else word
    amounts = [_amount(part) for part in rest.split(":") if part not in ("", "~")]
    kinds = {kind for number, kind in amounts if kind != "bare" or number}
    if "free" in kinds and len(kinds) > 1:
        raise ValueError("either all its numbers have a unit, or none has")
    if "free" in kinds and ":" not in rest and not inverted:
        # The guidelines have it mean "alert above": nobody wants to know that there is room, many
        # write it for the contrary.
        raise ValueError(f"it would alert where more is free; '{text.printable_argument(rest)}:' alerts where less is")
    numbers = iter(amounts)
    plain = ":".join(part if part in ("", "~") else repr(next(numbers)[0]) for part in rest.split(":"))
    parsed = Range.parse("@" * inverted + plain)
    if "free" not in kinds and any(number > 100 for number, _ in amounts):
        raise ValueError("there is no more than 100 %")
    return Capacity(dataclasses.replace(parsed, spec=word), "free" if "free" in kinds else "percent")


def _amount(word: str) -> tuple[float, str]:
    match = _AMOUNT.match(word)
    if match is None or not word.isascii():  # re.IGNORECASE takes the Kelvin sign for a k
        raise ValueError(
            f"'{text.printable_argument(word)}' is not a number, a percentage, or a number with one of K M G T P"
        )
    number, prefix, suffix = float(match["number"]), match["prefix"], match["suffix"]
    if prefix is not None:
        base = 1000 if (suffix or "").lower() == "b" else 1024
        number *= base ** ("kmgtp".index(prefix.lower()) + 1)
    if not math.isfinite(number):
        raise ValueError("it is too great")
    return number, "free" if prefix is not None else "percent" if match["percent"] else "bare"


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the administrator says about severities, latencies and usage. ``severity`` holds only
    what differs from the default.

    ``warning`` and ``critical`` are ranges of seconds for the whole probe, ``step_warning`` and
    ``step_critical`` for single steps. ``exception`` gives the policy of a mount point that the
    configuration says something else about."""

    severity: Mapping[Condition, State] = dataclasses.field(default_factory=dict)
    warning: Optional[Range] = None
    critical: Optional[Range] = None
    usage_warning: Optional[Capacity] = None
    usage_critical: Optional[Capacity] = None
    inodes_warning: Optional[Capacity] = None
    inodes_critical: Optional[Capacity] = None
    step_warning: Mapping[Step, Range] = dataclasses.field(default_factory=dict)
    step_critical: Mapping[Step, Range] = dataclasses.field(default_factory=dict)
    exception: Optional[Callable[[bytes], Optional[Policy]]] = None

    @property
    def bounds_usage(self) -> bool:
        """Whether usage is judged at all."""
        return any((self.usage_warning, self.usage_critical, self.inodes_warning, self.inodes_critical))

    def of(self, mount_point: bytes) -> Policy:
        """The policy of one mount."""
        return (self.exception(mount_point) if self.exception is not None else None) or self

    def state_of(self, condition: Condition) -> State:
        """The state of a condition; of ``slow`` the one that --severity says, if it does."""
        return self.severity.get(condition, DEFAULT_SEVERITY.get(condition, State.WARNING))


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A finding with its final condition, its state, and what to say about it: ``timed out after 5
    s``.

    ``too_small`` are the bounds that it was not judged by because it could never meet them:
    ``10GiB:``."""

    finding: Finding
    condition: Condition
    state: State
    words: str
    too_small: tuple[str, ...] = ()


_WORDS = {
    Condition.DENIED: "denied: {}",
    Condition.DEAD: "dead: {}",
    Condition.MISSING: "missing: {}",
    Condition.READ_ONLY: "read-only: {}",
    Condition.CHANGED: "changed: {}",
    Condition.FULL: "full: {}",
    Condition.BLOCKED: "blocked: {}",
    Condition.SHADOWED: "shadowed: {}",
    Condition.UNPROBED: "not probed: {}",
}


def judge(finding: Finding, policy: Policy) -> Judgement:
    """Condition, state and words of one finding.

    Where several things are wrong, the worst is the condition, and the others are remarked.
    """
    return _together(_judge_alone(finding, policy), _judge_usage(finding, policy))


def _judge_alone(finding: Finding, policy: Policy) -> Judgement:
    return _judge_latency(finding, policy) if finding.condition is Condition.OK else _judge_condition(finding, policy)


def _together(first: Judgement, full: Optional[Judgement]) -> Judgement:
    if full is None:
        return first
    worse, other = (
        (full, first) if full.state.rank > first.state.rank or first.condition is Condition.OK else (first, full)
    )
    if other.condition is Condition.OK:
        return worse
    finding = first.finding
    return dataclasses.replace(worse, finding=dataclasses.replace(finding, remarks=(*finding.remarks, other.words)))


def _judge_condition(finding: Finding, policy: Policy) -> Judgement:
    if finding.condition is Condition.TIMED_OUT:
        joint = " " if finding.detail.startswith("after ") else ": "
        words = f"timed out{joint}{finding.detail}"
    elif finding.condition is Condition.UNPROBED and finding.outcome is not None and finding.outcome.errno is None:
        words = finding.detail  # it was asked: its answer did not come, or it was read and not written to
    elif (
        finding.condition is Condition.UNPROBED
        and finding.outcome is not None
        and (finding.outcome.step or 0) >= Step.CREATE
    ):
        words = f"not written: {finding.detail}"
    elif not finding.is_mount:
        words = finding.detail
    else:
        words = _WORDS[finding.condition].format(finding.detail)
    if finding.diagnosis:
        words = f"{words}: {finding.diagnosis}"
    return Judgement(finding, finding.condition, policy.state_of(finding.condition), words)


def _judge_latency(finding: Finding, policy: Policy) -> Judgement:
    for state, whole, steps in (
        (State.CRITICAL, policy.critical, policy.step_critical),
        (State.WARNING, policy.warning, policy.step_warning),
    ):
        for what, seconds, limit in _latencies(finding, whole, steps):
            if limit.alerts(seconds):
                words = f"slow: {what}{seconds:.3f} s ({state.name.lower()} range {limit.spec})"
                return Judgement(finding, Condition.SLOW, policy.severity.get(Condition.SLOW, state), words)
    took = "" if finding.latency is None else f" in {finding.latency:.3f} s"
    return Judgement(finding, Condition.OK, policy.state_of(Condition.OK), f"ok{took}")


def _latencies(
    finding: Finding, whole: Optional[Range], steps: Mapping[Step, Range]
) -> Iterator[tuple[str, float, Range]]:
    if whole is not None and finding.latency is not None:
        yield "", finding.latency, whole
    for step, limit in steps.items():
        seconds = None if finding.outcome is None else finding.outcome.seconds[step - 1]
        if seconds is not None:
            yield f"{step.word} took ", seconds, limit


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
                words = f"full: {_usage_words(*counts, unit)} ({state.name.lower()} range {limit.range.spec})"
                return Judgement(finding, Condition.FULL, policy.severity.get(Condition.FULL, state), words)
    return None


def _usage(finding: Finding) -> Optional[Usage]:
    """What is to be judged of it. Shadowed: what the probe met may be what covers it."""
    if finding.mount is None or finding.outcome is None or finding.condition is Condition.SHADOWED:
        return None
    return finding.outcome.usage if filesystems.fills_up(finding.mount) else None


def is_for(limit: Capacity, most: int) -> bool:
    """Whether a bound is for a filesystem where so much can be available; what was said for a
    single mount is meant."""
    return limit.for_one or limit.can_be_met(most)


def _too_small(finding: Finding, policy: Policy) -> tuple[str, ...]:
    """The bounds that are not for it."""
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


def answered(judgement: Judgement) -> bool:
    """Whether a probe has come back with anything but a failure."""
    return judgement.finding.outcome is not None and judgement.condition not in DOUBTFUL | {Condition.SHADOWED}


def judge_all(survey: Survey, policy: Policy) -> list[Judgement]:
    """All findings, the worst first; within a state those that fail by themselves before their
    consequences."""
    order = {condition: position for position, condition in enumerate(_BY_GRAVITY)}
    findings, rules = survey.findings, [policy.of(finding.mount_point) for finding in survey.findings]
    full = {
        index: found
        for index, finding in enumerate(findings)
        if (found := _judge_usage(finding, rules[index])) is not None
    }
    small = {index: bounds for index, finding in enumerate(findings) if (bounds := _too_small(finding, rules[index]))}
    ranks = {index: found.state.rank for index, found in full.items()}
    for index, finding in enumerate(findings):
        if _is_out_of_space(finding):
            ranks[index] = max(ranks.get(index, 0), rules[index].state_of(Condition.FULL).rank)
    full_elsewhere = _told_elsewhere(survey, ranks)
    small_elsewhere = _told_elsewhere(survey, dict.fromkeys(small, 0))
    judgements = []
    for index, finding in enumerate(findings):
        told = index in full and index not in full_elsewhere
        unmet = () if index in small_elsewhere else small.get(index, ())
        remarks = _usage_remarks(finding, unmet, full_elsewhere.get(index))
        remarked = dataclasses.replace(finding, remarks=(*finding.remarks, *remarks)) if remarks else finding
        if index in full_elsewhere and _is_out_of_space(finding):
            remarked = _with_full_remarked(remarked)
        judgement = _together(_judge_alone(remarked, rules[index]), full[index] if told else None)
        judgements.append(dataclasses.replace(judgement, too_small=unmet) if unmet else judgement)
    return sorted(judgements, key=lambda judgement: (-judgement.state.rank, order[judgement.condition]))


def _is_out_of_space(finding: Finding) -> bool:
    """Did writing find no space? A quota (EDQUOT) is another matter: that of a user."""
    return finding.condition is Condition.FULL and finding.outcome is not None and finding.outcome.errno == errno.ENOSPC


def _with_full_remarked(finding: Finding) -> Finding:
    """It has answered, and its space is told by another."""
    remarks = (*finding.remarks, _WORDS[Condition.FULL].format(finding.detail))
    return dataclasses.replace(finding, condition=Condition.OK, detail="", remarks=remarks)


def _told_elsewhere(survey: Survey, badness: Mapping[int, int]) -> dict[int, Optional[Finding]]:
    """Of findings, by their positions, with how bad that is, those whose space is told by another;
    by which, where that is news: the mounts of one superblock have one usage."""
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
        tellers = Spaces(_reachable(survey)).told_by([(survey.findings[index], badness[index]) for index in alone])
        result.update((index, teller) for index, teller in zip(alone, tellers) if teller is not None)
    return result


def _reachable(survey: Survey) -> Iterator[Mount]:
    """The mounts that paths lead to, as far as the survey knows."""
    yield from (out.mount for out in survey.left_out)
    yield from (
        each.mount for each in survey.findings if each.mount is not None and each.condition is not Condition.SHADOWED
    )


def _usage_remarks(finding: Finding, bounds: Sequence[str], teller: Optional[Finding]) -> list[str]:
    remarks = [] if teller is None else [f"same space as {text.printable(teller.mount_point)}"]
    usage = _usage(finding)
    if bounds and usage is not None:
        space = [text.size_words(sum(usage.space))] if usage.space is not None else []
        inodes = [text.counted(sum(usage.inode_counts), "inode")] if usage.inode_counts is not None else []
        remarks.append(f"too small for {' and '.join(bounds)} ({', '.join(space + inodes)} in all)")
    return remarks


_BY_GRAVITY = (
    Condition.TIMED_OUT,
    Condition.DEAD,
    Condition.MISSING,
    Condition.READ_ONLY,
    Condition.FULL,
    Condition.DENIED,
    Condition.CHANGED,
    Condition.SLOW,
    Condition.UNPROBED,
    Condition.BLOCKED,
    Condition.SHADOWED,
    Condition.OK,
)


def bad_lines(judgements: Iterable[Judgement]) -> int:
    """How many lines of files make no sense, as far as that is not OK."""
    lines = (judgement.finding.line for judgement in judgements if judgement.state is not State.OK)
    return sum(1 + line.more for line in lines if line is not None)


def worst_of_each(judgements: Iterable[Judgement]) -> dict[bytes, Judgement]:
    """By mount point, without what is shadowed or no mount. The worst come first, and count, where
    several findings are of one mount point."""
    found: dict[bytes, Judgement] = {}
    for judgement in judgements:
        if judgement.finding.is_mount and judgement.condition is not Condition.SHADOWED:
            found.setdefault(judgement.finding.mount_point, judgement)
    return found


def worst(judgements: list[Judgement], survey: Survey, allow_none: bool) -> State:
    """The state of the whole: the worst of all mounts, UNKNOWN where none was checked or the run
    was cut short."""
    if survey.interrupted is not None:
        return State.UNKNOWN
    states = [judgement.state for judgement in judgements]
    checked = any(
        judgement.finding.is_mount and judgement.condition is not Condition.SHADOWED for judgement in judgements
    )
    if not checked and not allow_none:
        states.append(State.UNKNOWN)
    return max(states, key=lambda state: state.rank, default=State.OK)
