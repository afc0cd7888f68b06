"""What is known across passes, and what of it is news."""

from __future__ import annotations

import dataclasses
import time
from typing import Optional

import pytest

from check_mounts import history
from check_mounts.history import Episodes, Known
from check_mounts.model import Condition, Finding, Mount, Outcome, State, Survey
from check_mounts.policy import Policy, judge_all
from check_mounts.selection import Selection

NOW = 1_000_000.0
HOME = Mount(30, 1, (0, 40), b"/", b"/home", (b"rw",), (), b"nfs4", b"filer1:/home", (b"rw",))
BELOW = dataclasses.replace(HOME, mount_id=31, parent_id=30, device=(0, 41), mount_point=b"/home/a")
OTHER = dataclasses.replace(HOME, mount_id=32, device=(0, 42), mount_point=b"/other")


def chosen(*mounts: Mount) -> Selection:
    empty = {field.name: () for field in dataclasses.fields(Selection)}
    return Selection(**{**empty, "selected": mounts, "visible": frozenset()})  # type: ignore[arg-type]


def finding(mount: Mount, condition: Condition, pid: Optional[int] = None, since: Optional[float] = None) -> Finding:
    outcome = None if condition in (Condition.TIMED_OUT, Condition.BLOCKED, Condition.UNPROBED) else Outcome()
    return Finding(mount.mount_point, mount, condition, "after 2 s", outcome, 2.0, pid, since)


def known(*mounts: Mount) -> Known:
    result = Known()
    result.see((list(mounts), []), chosen(*mounts))
    return result


def merged(into: Known, begun: float, *answers: tuple[Finding, float], whole: bool = True) -> list[Condition]:
    """A pass that began then, with its findings and when each came; what is known after it."""
    noted = {answer.mount.mount_id: when for answer, when in answers if answer.mount is not None}
    into.merge(Survey(tuple(answer for answer, _ in answers), started=begun, duration=9.0, timeout=2.0), whole, noted)
    return [each.condition for each in into.survey().findings]


def test_the_later_answer_counts_whichever_pass_it_is_of() -> None:
    """The pass that began first waited until the other was done at the mount, and asked last."""
    home = known(HOME)
    assert merged(home, 98, (finding(HOME, Condition.OK), 108)) == [Condition.OK]
    assert merged(home, 101, (finding(HOME, Condition.TIMED_OUT), 105), whole=False) == [Condition.OK]
    assert merged(home, 107, (finding(HOME, Condition.TIMED_OUT), 109), whole=False) == [Condition.TIMED_OUT]


def test_that_nobody_came_round_to_ask_is_no_news() -> None:
    home = known(HOME)
    assert merged(home, 1, (finding(HOME, Condition.TIMED_OUT), 3)) == [Condition.TIMED_OUT]
    assert merged(home, 4, (finding(HOME, Condition.UNPROBED), 4)) == [Condition.TIMED_OUT]
    assert merged(home, 5, (finding(HOME, Condition.OK), 5)) == [Condition.OK]
    assert merged(home, 6, (finding(HOME, Condition.UNPROBED), 6)) == [Condition.UNPROBED]


def test_since_when_it_hangs_until_a_probe_comes_back() -> None:
    home = known(HOME)
    merged(home, NOW, (finding(HOME, Condition.TIMED_OUT, 7, NOW + 1), 3))
    assert (home.stuck(), home.survey().findings[0].stuck_since) == ({7}, NOW + 1)
    merged(home, NOW + 60, (finding(HOME, Condition.TIMED_OUT), 63))
    assert ", as ever since 1970-01-12 " in home.survey().findings[0].detail
    merged(home, NOW + 120, (finding(HOME, Condition.DEAD), 120))
    merged(home, NOW + 180, (finding(HOME, Condition.TIMED_OUT), 183))
    assert ", as ever since 1970-01-12 " in home.survey().findings[0].detail  # that it fails is not that it is well
    merged(home, NOW + 240, (finding(HOME, Condition.OK), 240))
    merged(home, NOW + 300, (finding(HOME, Condition.TIMED_OUT), 303))
    assert "ever since" not in home.survey().findings[0].detail


def test_when_a_mount_last_answered() -> None:
    """Not when somebody last asked what is known."""
    home = known(HOME, OTHER)
    answered = time.monotonic() - 100
    merged(home, NOW, (finding(HOME, Condition.OK), answered), (finding(OTHER, Condition.TIMED_OUT), answered))
    assert home.last_success.keys() == {b"/home"}
    assert abs(time.time() - 100 - home.last_success[b"/home"]) < 10
    merged(home, NOW + 60, (finding(HOME, Condition.DEAD), answered + 60), (finding(OTHER, Condition.DENIED), answered + 60))
    assert abs(time.time() - 100 - home.last_success[b"/home"]) < 10
    assert abs(time.time() - 40 - home.last_success[b"/other"]) < 10
    home.see(([OTHER], []), chosen(OTHER))
    assert home.last_success.keys() == {b"/other"}


def test_a_mount_that_goes_is_forgotten_and_one_like_it_is_new() -> None:
    home = known(HOME, OTHER)
    merged(home, 1, (finding(HOME, Condition.OK), 1), (finding(OTHER, Condition.OK), 1))
    assert home.see(([HOME, OTHER], []), chosen(HOME, OTHER)) == (set(), False)
    assert home.see(([HOME], []), chosen(HOME)) == (set(), True)
    assert [each.mount for each in home.survey().findings] == [HOME]
    again = dataclasses.replace(OTHER, device=(0, 50))
    assert home.see(([HOME, again], []), chosen(HOME, again)) == ({history.key_of(again)}, True)
    remounted = dataclasses.replace(HOME, options=(b"ro",))
    assert home.see(([remounted, again], []), chosen(remounted, again)) == ({history.key_of(again)}, True)
    assert home.survey().findings[0].mount == remounted


def test_what_is_to_be_asked() -> None:
    home = known(HOME, BELOW, OTHER)
    findings = (finding(HOME, Condition.TIMED_OUT), finding(BELOW, Condition.BLOCKED), finding(OTHER, Condition.OK))
    merged(home, 1, *((each, 1.0) for each in findings))
    keys = {name: history.key_of(mount) for name, mount in (("home", HOME), ("below", BELOW), ("other", OTHER))}
    assert home.to_be_asked({keys["below"]}, silent=False) == {keys["below"], keys["home"]}  # it hangs from what is in doubt
    assert home.to_be_asked(set(), silent=True) == {keys["below"], keys["home"]}
    assert home.to_be_asked({keys["other"]}, silent=False) == {keys["other"]}


def news(episodes: Episodes, now: float, *findings: Finding) -> list[tuple[State, str]]:
    survey = Survey(findings, started=now, duration=1.0, timeout=2.0)
    return [(each.state, each.line) for each in episodes.follow(judge_all(survey, Policy()), now)]


def test_each_change_is_told_once() -> None:
    episodes = Episodes()
    assert news(episodes, NOW, finding(HOME, Condition.OK)) == []
    hung = finding(HOME, Condition.TIMED_OUT, 7, NOW + 58)
    assert news(episodes, NOW + 60, hung) == [(State.CRITICAL, "/home timed out after 2 s")]
    assert news(episodes, NOW + 120, hung) == []
    assert news(episodes, NOW + 180, finding(HOME, Condition.DEAD)) == [(State.CRITICAL, "/home is dead: after 2 s")]
    assert news(episodes, NOW + 240, hung) == [(State.CRITICAL, "/home timed out after 2 s")]
    assert news(episodes, NOW + 58 + 11520, finding(HOME, Condition.OK)) == [(State.OK, "/home answers again after 3 h 12 min")]
    denied = dataclasses.replace(finding(HOME, Condition.DENIED), detail="mode 0000 does not allow access")
    expected = "Couldn't check mountpoint /home: mode 0000 does not allow access"
    assert news(episodes, NOW + 20000, denied) == [(State.WARNING, expected)]
    assert news(episodes, NOW + 20300, finding(HOME, Condition.OK)) == [(State.OK, "/home is ok again, after it was denied for 5 min")]


def test_what_is_blocked_is_no_news_and_what_goes_is() -> None:
    episodes = Episodes()
    hung, blocked = finding(HOME, Condition.TIMED_OUT, 7, NOW), finding(BELOW, Condition.BLOCKED)
    assert [line for _, line in news(episodes, NOW, hung, blocked)] == ["/home timed out after 2 s"]
    assert news(episodes, NOW + 60) == [(State.OK, "/home is not mounted any more")]
    assert news(episodes, NOW + 120) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (11520, "3 h 12 min"),
        (90000, "1 d 1 h"),
        (86460, "1 d 1 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert history.duration_words(seconds) == words


def test_the_line_of_a_pass() -> None:
    survey = Survey((finding(HOME, Condition.TIMED_OUT), finding(OTHER, Condition.DEAD), finding(BELOW, Condition.OK)))
    judgements = judge_all(survey, Policy())
    assert history.checked_words(judgements, [("mounts", 3)], 5.9) == "Checked 3 mounts in 5 seconds: 1 dead, 1 timed out"
    assert history.checked_words(judgements[2:], [("mounts", 42)], 0.1) == "Checked 42 mounts in 0 seconds"
