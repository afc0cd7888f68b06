"""What is known across passes, and what of it is news."""

from __future__ import annotations

import time
from typing import Optional

import pytest

from check_mounts import text
from check_mounts.clocks import Boottime, Epoch
from check_mounts.daemon import episodes
from check_mounts.daemon.episodes import Episodes
from check_mounts.daemon.known import Known
from check_mounts.judging.policy import Policy, judge_all
from check_mounts.model import BadLine, Condition, Finding, Mount, State, Survey
from check_mounts.outcome import Outcome
from check_mounts.probing.conditions import MOUNT_TABLE
from check_mounts.selection import Selection

NOW = 1_000_000.0  # on whatever clock
HOME = Mount(30, 1, (0, 40), b"/", b"/home", (b"rw",), (), b"nfs4", b"filer1:/home", (b"rw",))
BELOW = HOME._replace(mount_id=31, parent_id=30, device=(0, 41), mount_point=b"/home/a")
OTHER = HOME._replace(mount_id=32, device=(0, 42), mount_point=b"/other")


def chosen(*mounts: Mount) -> Selection:
    empty = dict.fromkeys(Selection._fields, ())
    return Selection(**{**empty, "selected": mounts, "visible": frozenset(), "covers": {}})  # type: ignore[arg-type]


def finding(mount: Mount, condition: Condition, pid: Optional[int] = None, since: Optional[float] = None) -> Finding:
    outcome = None if condition in (Condition.TIMED_OUT, Condition.BLOCKED, Condition.UNPROBED) else Outcome()
    stuck_since, after = None if since is None else Boottime(since), 2.0 if condition is Condition.TIMED_OUT else None
    return Finding(mount.mount_point, mount, condition, "after 2 s", outcome, 2.0, pid, stuck_since, after=after)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def known(*mounts: Mount) -> Known:
    result = Known()
    result.see((list(mounts), []), chosen(*mounts))
    return result


def merged(into: Known, begun: float, *answers: tuple[Finding, float], whole: bool = True) -> list[Condition]:
    """A pass that began then, with its findings and when each came; what is known after it."""
    noted = {answer.mount.mount_id: when for answer, when in answers if answer.mount is not None}
    into.merge(
        Survey(tuple(answer for answer, _ in answers), started=Epoch(begun), duration=9.0, timeout=2.0), whole, noted
    )
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
    ever = boottime() - 2e6
    merged(home, NOW, (finding(HOME, Condition.TIMED_OUT, 7, ever), 3))
    assert (home.stuck(), home.survey().findings[0].stuck_since) == ({7}, ever)
    merged(home, NOW + 60, (finding(HOME, Condition.TIMED_OUT), 63))
    words = f", and has hung since {text.moment(ever)}"
    assert home.survey().findings[0].detail.endswith(words)
    merged(home, NOW + 120, (finding(HOME, Condition.DEAD), 120))
    merged(home, NOW + 180, (finding(HOME, Condition.TIMED_OUT), 183))
    assert home.survey().findings[0].detail.endswith(words)  # that it fails is not that it is well
    merged(home, NOW + 240, (finding(HOME, Condition.OK), 240))
    merged(home, NOW + 300, (finding(HOME, Condition.TIMED_OUT), 303))
    assert "hung since" not in home.survey().findings[0].detail


def test_when_a_mount_last_answered() -> None:
    """Not when somebody last asked what is known."""
    home = known(HOME, OTHER)
    answered = time.monotonic() - 100
    merged(home, NOW, (finding(HOME, Condition.OK), answered), (finding(OTHER, Condition.TIMED_OUT), answered))
    assert home.last_success.keys() == {b"/home"}
    assert abs(time.time() - 100 - home.last_success[b"/home"]) < 10
    merged(
        home,
        NOW + 60,
        (finding(HOME, Condition.DEAD), answered + 60),
        (finding(OTHER, Condition.DENIED), answered + 60),
    )
    assert abs(time.time() - 100 - home.last_success[b"/home"]) < 10
    assert abs(time.time() - 40 - home.last_success[b"/other"]) < 10
    home.see(([OTHER], []), chosen(OTHER))
    assert home.last_success.keys() == {b"/other"}


def test_the_clock_of_the_host_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts at 1970 where there is none without power, or was wrong for an hour: what is
    remembered keeps its age."""
    home, episodes = known(HOME, OTHER), Episodes()
    clock, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: clock() + ahead[0])
    answered = time.monotonic() - 100
    ahead[0] = 3e8
    merged(
        home,
        NOW,
        (finding(HOME, Condition.TIMED_OUT, 7, boottime() - 100), answered),
        (finding(OTHER, Condition.OK), answered),
    )
    assert news(episodes, boottime(), *home.survey().findings) == [(State.CRITICAL, "/home timed out after 2 s")]
    assert abs(clock() + 3e8 - 100 - home.last_success[b"/other"]) < 10
    assert home.last_success == home.last_success
    ahead[0] = 0.0
    assert abs(clock() - 100 - home.last_success[b"/other"]) < 10
    merged(
        home,
        NOW + 60,
        (finding(HOME, Condition.TIMED_OUT), answered + 60),
        (finding(OTHER, Condition.DEAD), answered + 60),
    )
    assert abs(clock() - 100 - home.last_success[b"/other"]) < 10
    assert f", and has hung since {text.moment(boottime() - 100)[:10]}" in home.survey().findings[0].detail
    merged(home, NOW + 90, (finding(HOME, Condition.OK), answered + 90))
    assert (State.OK, "/home answers again after 3 min") in news(episodes, boottime() + 80, *home.survey().findings)


def test_a_mount_that_goes_is_forgotten_and_one_like_it_is_new() -> None:
    home = known(HOME, OTHER)
    merged(home, 1, (finding(HOME, Condition.OK), 1), (finding(OTHER, Condition.OK), 1))
    assert home.see(([HOME, OTHER], []), chosen(HOME, OTHER)) == (set(), False)
    assert home.see(([HOME], []), chosen(HOME)) == (set(), True)
    assert home.see(([HOME], []), chosen(HOME)) == (set(), True)  # whoever saw it first has not told it
    assert [each.mount for each in home.survey().findings] == [HOME]
    again = OTHER._replace(device=(0, 50))
    assert home.see(([HOME, again], []), chosen(HOME, again)) == ({again.identity}, True)
    # The kernel gives an ID and a device again at once: what else there is to see of a mount makes
    # it another one.
    for other in ({"root": b"/a"}, {"fs_type": b"nfs"}, {"source": b"filer2:/home"}):
        replaced = HOME._replace(**other)  # type: ignore[arg-type]
        assert known(HOME).see(([replaced], []), chosen(replaced))[0] == {replaced.identity}
    remounted = HOME._replace(options=(b"ro",))
    assert home.see(([remounted, again], []), chosen(remounted, again)) == ({again.identity}, True)
    assert home.survey().findings[0].mount == remounted


def test_what_is_to_be_asked() -> None:
    home = known(HOME, BELOW, OTHER)
    findings = (finding(HOME, Condition.TIMED_OUT), finding(BELOW, Condition.BLOCKED), finding(OTHER, Condition.OK))
    merged(home, 1, *((each, 1.0) for each in findings))
    keys = {name: mount.identity for name, mount in (("home", HOME), ("below", BELOW), ("other", OTHER))}
    assert home.to_be_asked({keys["below"]}, silent=False) == {
        keys["below"],
        keys["home"],
    }  # it hangs from what is in doubt
    assert home.to_be_asked(set(), silent=True) == {keys["below"], keys["home"]}
    assert home.to_be_asked({keys["other"]}, silent=False) == {keys["other"]}


def told(home: Known, *demanded: Finding) -> list[tuple[Condition, Optional[Mount]]]:
    """What is told, with what the demands have found."""
    survey = home.survey()
    survey = home.until_asked(survey._replace(findings=(*survey.findings, *demanded)))
    return sorted(((each.condition, each.mount) for each in survey.findings), key=lambda each: each[0].value)


def test_the_old_counts_until_the_new_has_answered() -> None:
    """Of the same mount point, whatever is there now: nothing is well because somebody has mounted
    something."""
    home = known(HOME, OTHER)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1), (finding(OTHER, Condition.OK), 1))
    missing = Finding(b"/missing", None, Condition.MISSING, "not mounted")
    before = [(Condition.MISSING, None), (Condition.OK, OTHER), (Condition.TIMED_OUT, HOME)]
    assert told(home, missing) == before
    again = HOME._replace(device=(0, 50))
    late = OTHER._replace(mount_id=40, device=(0, 51), mount_point=b"/missing")
    unknown = OTHER._replace(mount_id=41, device=(0, 52), mount_point=b"/unknown")
    mounts = (again, OTHER, late, unknown)
    assert home.see((list(mounts), []), chosen(*mounts))[0] == {each.identity for each in (again, late, unknown)}
    assert told(home) == before  # of what is new where nothing was there is nothing to say
    assert told(home, Finding(b"/missing", late, Condition.CHANGED)) == before  # however often
    assert merged(home, 2, (finding(late, Condition.OK), 2), whole=False) == [Condition.OK, Condition.OK]
    assert told(home) == [(Condition.OK, OTHER), (Condition.OK, late), (Condition.TIMED_OUT, HOME)]
    merged(home, 3, (finding(again, Condition.DEAD), 3), whole=False)
    assert told(home) == [(Condition.DEAD, again), (Condition.OK, OTHER), (Condition.OK, late)]
    home.see(([OTHER], []), chosen(OTHER))  # but what is gone is gone
    assert told(home) == [(Condition.OK, OTHER)]
    home.see(([OTHER, HOME], []), chosen(OTHER, HOME))
    assert told(home) == [(Condition.OK, OTHER)]


def test_what_is_covered_by_what_has_not_answered_is_not_told_twice() -> None:
    home = known(HOME)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1))
    assert told(home) == [(Condition.TIMED_OUT, HOME)]
    above = HOME._replace(mount_id=50, parent_id=30, device=(0, 50))
    home.see(([HOME, above], []), chosen(above)._replace(shadowed=(HOME,)))
    assert told(home) == [(Condition.TIMED_OUT, HOME)]
    merged(home, 2, (finding(above, Condition.OK), 2), whole=False)
    assert told(home) == [(Condition.OK, above), (Condition.SHADOWED, HOME)]


def test_what_hangs_and_holds_nobody_is_tried_again_once() -> None:
    """Until it has answered: the next time is another matter."""
    home = known(HOME, OTHER)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1), (finding(OTHER, Condition.OK), 1))
    assert not home.grant_another_try()  # it is waited for
    assert home.grant_another_try(soon={7})
    assert home.stuck() == set()
    hung = finding(HOME, Condition.TIMED_OUT)._replace(outcome=Outcome())
    for begun in (2, 3):
        merged(home, begun, (hung, begun))
        assert not home.grant_another_try()
    merged(home, 4, (finding(HOME, Condition.OK), 4))
    assert not home.grant_another_try()
    merged(home, 5, (hung, 5))
    assert home.grant_another_try()
    assert not home.grant_another_try()
    merged(home, 5.5, (finding(HOME, Condition.TIMED_OUT, 9), 5.5))
    assert home.grant_another_try(held={9})  # whoever did not heed SIGKILL tells by his end, whenever
    merged(home, 5.6, (finding(HOME, Condition.TIMED_OUT, 10), 5.6))
    assert home.grant_another_try(soon={10})
    merged(home, 5.7, (finding(HOME, Condition.TIMED_OUT, 11), 5.7))
    assert not home.grant_another_try(soon={11})
    shares = finding(OTHER, Condition.TIMED_OUT)
    merged(home, 6, (shares, 6))
    assert not home.grant_another_try()  # whose fate it shares is the one to try
    home.see(([OTHER], []), chosen(OTHER))
    assert home.grant_another_try(soon={8})  # and if that is gone, its process tells


def news(
    episodes: Episodes, now: float, *findings: Finding, mounted: tuple[bytes, ...] = ()
) -> list[tuple[State, str]]:
    survey = Survey(findings, started=Epoch(now), duration=1.0, timeout=2.0)
    return [(each.state, each.line) for each in episodes.follow(judge_all(survey, Policy()), now, mounted)]


def test_each_change_is_told_once() -> None:
    episodes = Episodes()
    assert news(episodes, NOW, finding(HOME, Condition.OK)) == []
    hung = finding(HOME, Condition.TIMED_OUT, 7, NOW + 58)
    assert news(episodes, NOW + 60, hung) == [(State.CRITICAL, "/home timed out after 2 s")]
    assert news(episodes, NOW + 120, hung) == []
    assert news(episodes, NOW + 180, finding(HOME, Condition.DEAD)) == [(State.CRITICAL, "/home is dead: after 2 s")]
    assert news(episodes, NOW + 240, hung) == [(State.CRITICAL, "/home timed out after 2 s")]
    assert news(episodes, NOW + 58 + 11520, finding(HOME, Condition.OK)) == [
        (State.OK, "/home answers again after 3 h 12 min")
    ]
    denied = finding(HOME, Condition.DENIED)._replace(detail="mode 0000 does not allow access")
    expected = "Couldn't check mountpoint /home: mode 0000 does not allow access"
    assert news(episodes, NOW + 20000, denied) == [(State.WARNING, expected)]
    assert news(episodes, NOW + 20300, finding(HOME, Condition.OK)) == [
        (State.OK, "/home is ok again, after it was denied for 5 min")
    ]


def test_what_is_blocked_is_no_news_and_what_goes_is() -> None:
    episodes = Episodes()
    hung, blocked = finding(HOME, Condition.TIMED_OUT, 7, NOW), finding(BELOW, Condition.BLOCKED)
    assert [line for _, line in news(episodes, NOW, hung, blocked)] == ["/home timed out after 2 s"]
    assert news(episodes, NOW + 60) == [(State.OK, "/home is not mounted any more")]
    assert news(episodes, NOW + 120) == []


def test_what_is_left_alone_from_now_on() -> None:
    episodes = Episodes()
    hung, missing = (
        finding(HOME, Condition.TIMED_OUT, 7, NOW),
        Finding(b"/missing", None, Condition.MISSING, "not mounted"),
    )
    assert len(news(episodes, NOW, hung, missing)) == 2
    expected = [(State.OK, "/home is not checked any more"), (State.OK, "/missing is not missing any more")]
    assert sorted(news(episodes, NOW + 60, mounted=(b"/home", b"/missing")), key=lambda each: each[1]) == expected


def test_lines_that_are_no_mounts() -> None:
    """Each is told, once, and so is that it is well again; that it has another number now is no
    news."""
    episodes = Episodes()

    def wrong(*lines: str) -> list[Finding]:
        return [Finding(b"", None, Condition.UNPROBED, line, line=_of_table(line)) for line in lines]

    def _of_table(line: str) -> Optional[BadLine]:
        return BadLine(MOUNT_TABLE, int(line.split()[1]), "it is garbage") if MOUNT_TABLE in line else None

    table = "line {} of the mount table cannot be understood: it is garbage"
    lines = ("fstab line 3: it has no mount point", "fstab line 4: it has no type", table.format(7))
    assert news(episodes, NOW, *wrong(*lines)) == [(State.UNKNOWN, line) for line in lines]
    assert news(episodes, NOW, *wrong(*lines)) == []
    other = finding(HOME, Condition.DEAD)
    assert [line for _, line in news(episodes, NOW, *wrong(*lines[:2], table.format(8)), other)] == [
        "/home is dead: after 2 s"
    ]
    assert news(episodes, NOW, *wrong(lines[1], table.format(9)), other) == [(State.OK, f"No longer: {lines[0]}")]
    assert news(episodes, NOW, *wrong(lines[1]), other) == [(State.OK, f"No longer: {lines[2]}")]
    assert [line for _, line in news(episodes, NOW)] == [f"No longer: {lines[1]}", "/home is not mounted any more"]


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
    assert episodes.duration_words(seconds) == words


def test_the_line_of_a_pass() -> None:
    survey = Survey((finding(HOME, Condition.TIMED_OUT), finding(OTHER, Condition.DEAD), finding(BELOW, Condition.OK)))
    judgements = judge_all(survey, Policy())
    assert (
        episodes.checked_words(judgements, [("mounts", 3)], 5.9) == "Checked 3 mounts in 5 seconds: 1 dead, 1 timed out"
    )
    assert episodes.checked_words(judgements[2:], [("mounts", 42)], 0.1) == "Checked 42 mounts in 0 seconds"
