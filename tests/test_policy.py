"""Finding and Policy -> state."""

from __future__ import annotations

from typing import Optional

import pytest
from nagiosplugin import Range as LibraryRange

from check_mounts.judging.policy import Policy, judge, judge_all, worst
from check_mounts.judging.thresholds import Range, parse_capacity
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.outcome import Outcome, Usage


@pytest.mark.parametrize("spec", ["10", "10:", ":10", "~:10", "10:20", "@10:20", "@~:5", "1.5", "0", "-5:5", "@0:0.5"])
@pytest.mark.parametrize("value", [-10.0, -5.0, 0.0, 0.5, 1.5, 1.6, 9.99, 10.0, 15.0, 20.0, 21.0])
def test_ranges_mean_what_the_library_says(spec: str, value: float) -> None:
    assert Range.parse(spec).alerts(value) == (not LibraryRange(spec).match(value))


@pytest.mark.parametrize("spec", ["", "@", ":", "x", "1:2:3", "2:1", "nan", "inf", "1_0", "~", "5 s", "1,5"])
def test_bad_ranges(spec: str) -> None:
    with pytest.raises(ValueError):
        Range.parse(spec)


def _finding(condition: Condition, latency: Optional[float] = None) -> Finding:
    return Finding(b"/m", None, condition, "why", latency=latency)


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        (Condition.OK, State.OK),
        (Condition.DENIED, State.WARNING),
        (Condition.TIMED_OUT, State.CRITICAL),
        (Condition.DEAD, State.CRITICAL),
        (Condition.MISSING, State.CRITICAL),
        (Condition.READ_ONLY, State.CRITICAL),
        (Condition.CHANGED, State.WARNING),
        (Condition.BLOCKED, State.OK),
        (Condition.SHADOWED, State.OK),
        (Condition.GHOST, State.OK),
        (Condition.UNPROBED, State.UNKNOWN),
    ],
)
def test_default_severities(condition: Condition, state: State) -> None:
    assert judge(_finding(condition), Policy()).state is state
    changed = State.OK if state is State.CRITICAL else State.CRITICAL
    assert judge(_finding(condition), Policy({condition: changed})).state is changed


def test_slow() -> None:
    policy = Policy(warning=Range.parse("1"), critical=Range.parse("2"))
    found = [judge(_finding(Condition.OK, latency), policy) for latency in (0.5, 1.5, 2.5)]
    assert [judgement.condition for judgement in found] == [Condition.OK, Condition.SLOW, Condition.SLOW]
    assert [judgement.state for judgement in found] == [State.OK, State.WARNING, State.CRITICAL]
    assert found[2].words == "slow: 2.500 s (critical range 2)"
    lenient = Policy({Condition.SLOW: State.OK}, critical=Range.parse("2"))
    assert judge(_finding(Condition.OK, 3.0), lenient).state is State.OK


def _worst(*conditions: Condition, allow_none: bool = False, interrupted: Optional[str] = None) -> State:
    survey = Survey(tuple(_finding(condition) for condition in conditions), interrupted=interrupted)
    return worst(judge_all(survey, Policy()), survey, allow_none)


def test_the_worst() -> None:
    """CRITICAL > UNKNOWN > WARNING > OK, unlike nagiosplugin's order."""
    assert _worst(Condition.UNPROBED, Condition.DEAD, Condition.OK) is State.CRITICAL
    assert _worst(Condition.UNPROBED, Condition.DENIED, Condition.OK) is State.UNKNOWN
    assert _worst(Condition.DENIED, Condition.OK) is State.WARNING
    assert _worst(Condition.OK, Condition.BLOCKED) is State.OK
    assert _worst(Condition.OK, Condition.DEAD, interrupted="SIGTERM") is State.UNKNOWN


def test_nothing_to_check() -> None:
    assert _worst() is State.UNKNOWN
    assert _worst(Condition.SHADOWED) is State.UNKNOWN
    assert _worst(allow_none=True) is State.OK


def test_usage_seen_through_a_shadowed_mount_is_nobodys() -> None:
    mount = Mount(1, 0, (0, 1), b"/", b"/m", (b"rw",), (), b"xfs", b"/dev/a", (b"rw",))
    full = Outcome(usage=Usage(size=100, free=0, available=0, inodes=0, inodes_free=0))
    shadowed = Finding(b"/m", mount, Condition.SHADOWED, "another mount covers it", full)
    visible = shadowed._replace(condition=Condition.OK)
    policy = Policy(usage_critical=parse_capacity("90"))
    assert [each.condition for each in judge_all(Survey((shadowed,)), policy)] == [Condition.SHADOWED]
    assert [each.condition for each in judge_all(Survey((visible,)), policy)] == [Condition.FULL]
