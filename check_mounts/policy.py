"""How bad it is: (Finding, Policy) -> condition, state and words. Pure."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Optional

from check_mounts import text
from check_mounts.model import Condition, Finding, State, Survey

DEFAULT_SEVERITY: Mapping[Condition, State] = {
    Condition.OK: State.OK,
    Condition.DENIED: State.WARNING,
    Condition.TIMED_OUT: State.CRITICAL,
    Condition.DEAD: State.CRITICAL,
    Condition.MISSING: State.CRITICAL,
    Condition.READ_ONLY: State.CRITICAL,
    Condition.CHANGED: State.WARNING,
    Condition.BLOCKED: State.OK,
    Condition.SHADOWED: State.OK,
    Condition.UNPROBED: State.UNKNOWN,
}


_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")


@dataclasses.dataclass(frozen=True)
class Range:
    """A threshold as the Monitoring Plugins Development Guidelines write it: ``[@][start:][end]``, alert outside of it.

    ``spec`` is what was given. It is parsed before any probe, therefore not with nagiosplugin, which is loaded after the forks.
    """

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
    # float() would also take blanks, newlines, underscores and digits of other scripts; the words end up in perfdata.
    if not _NUMBER.match(word) or not math.isfinite(float(word)):
        raise ValueError(f"'{text.printable_argument(word)}' is not a number")
    return float(word)


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the administrator says about severities and latencies. ``severity`` holds only what differs from the default."""

    severity: Mapping[Condition, State] = dataclasses.field(default_factory=dict)
    warning: Optional[Range] = None
    critical: Optional[Range] = None

    def state_of(self, condition: Condition) -> State:
        """The state of a condition; of ``slow`` the one that --severity says, if it does."""
        return self.severity.get(condition, DEFAULT_SEVERITY.get(condition, State.WARNING))


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A finding with its final condition, its state, and what to say about it: ``timed out after 5 s``."""

    finding: Finding
    condition: Condition
    state: State
    words: str


_WORDS = {
    Condition.DENIED: "denied: {}",
    Condition.DEAD: "dead: {}",
    Condition.MISSING: "missing: {}",
    Condition.READ_ONLY: "read-only: {}",
    Condition.CHANGED: "changed: {}",
    Condition.BLOCKED: "blocked: {}",
    Condition.SHADOWED: "shadowed: {}",
    Condition.UNPROBED: "not probed: {}",
}


def judge(finding: Finding, policy: Policy) -> Judgement:
    """Condition, state and words of one finding."""
    if finding.condition is Condition.OK:
        return _judge_latency(finding, policy)
    if finding.condition is Condition.TIMED_OUT:
        joint = " " if finding.detail.startswith("after ") else ": "
        words = f"timed out{joint}{finding.detail}"
    else:
        words = _WORDS[finding.condition].format(finding.detail)
    return Judgement(finding, finding.condition, policy.state_of(finding.condition), words)


def _judge_latency(finding: Finding, policy: Policy) -> Judgement:
    for limit, state in ((policy.critical, State.CRITICAL), (policy.warning, State.WARNING)):
        if limit is not None and finding.latency is not None and limit.alerts(finding.latency):
            words = f"slow: {finding.latency:.3f} s ({state.name.lower()} range {limit.spec})"
            return Judgement(finding, Condition.SLOW, policy.severity.get(Condition.SLOW, state), words)
    took = "" if finding.latency is None else f" in {finding.latency:.3f} s"
    return Judgement(finding, Condition.OK, policy.state_of(Condition.OK), f"ok{took}")


def judge_all(survey: Survey, policy: Policy) -> list[Judgement]:
    """All findings, the worst first; within a state those that fail by themselves before their consequences."""
    order = {condition: position for position, condition in enumerate(_BY_GRAVITY)}
    judgements = [judge(finding, policy) for finding in survey.findings]
    return sorted(judgements, key=lambda judgement: (-judgement.state.rank, order[judgement.condition]))


_BY_GRAVITY = (
    Condition.TIMED_OUT,
    Condition.DEAD,
    Condition.MISSING,
    Condition.READ_ONLY,
    Condition.DENIED,
    Condition.CHANGED,
    Condition.SLOW,
    Condition.UNPROBED,
    Condition.BLOCKED,
    Condition.SHADOWED,
    Condition.OK,
)


def worst(judgements: list[Judgement], survey: Survey, allow_none: bool) -> State:
    """The state of the whole: the worst of all mounts, UNKNOWN where none was checked or the run was cut short."""
    if survey.interrupted is not None:
        return State.UNKNOWN
    states = [judgement.state for judgement in judgements]
    if not any(judgement.condition is not Condition.SHADOWED for judgement in judgements) and not allow_none:
        states.append(State.UNKNOWN)
    return max(states, key=lambda state: state.rank, default=State.OK)
