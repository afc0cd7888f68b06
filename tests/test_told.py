"""What is told, and how: lines that are no mounts, what is left out where there is no room, since
when, and no secrets."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import text
from check_mounts.daemon import episodes
from check_mounts.declared.fstab import read_fstab
from check_mounts.judging.policy import Policy, judge, judge_all, judged, worst
from check_mounts.judging.thresholds import parse_capacity
from check_mounts.model import BadLine, Condition, Finding, Mount, State, Survey, Unparsed
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.probing import conditions
from check_mounts.report import jsontext, parts, summary
from check_mounts.report import plugin as plugins
from check_mounts.report.plugin import Presentation, Wants, report, report_each
from tests.conftest import Fuse, Mounts, Plugin, Result, remaining, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

DETAIL = {Condition.TIMED_OUT: "after 5 s", Condition.DEAD: "Stale file handle (ESTALE)"}


def mount(point: bytes, source: bytes = b"/dev/sda1", fs_type: bytes = b"xfs", mount_id: int = 1) -> Mount:
    return Mount(mount_id, 0, (8, mount_id), b"/", point, (b"rw",), (), fs_type, source, (b"rw",))


def _after(detail: str) -> Optional[float]:
    """Given up by this pass, as its detail says."""
    return 5.0 if detail.startswith("after ") else None


def finding(
    point: bytes, condition: Condition = Condition.OK, detail: Optional[str] = None, **members: object
) -> Finding:
    words = DETAIL.get(condition, "why") if detail is None else detail
    members["after"] = _after(words)
    return Finding(point, mount(point), condition, words, Outcome(), 0.012, **members)  # type: ignore[arg-type]


def hung(number: int, detail: str = "after 5 s", **members: object) -> Finding:
    point = b"/home/u%d" % number
    there = mount(point, b"filer1:/u%d" % number, b"nfs4", number)
    members["after"] = _after(detail)
    return Finding(point, there, Condition.TIMED_OUT, detail, None, 5.0, **members)  # type: ignore[arg-type]


def bad_line(number: int, file: str = "/etc/fstab", why: str = "it has no filesystem type") -> Finding:
    line = BadLine(file, number, why)
    return Finding(b"", None, Condition.UNPROBED, str(line), line=line)


def survey(*findings: Finding, **members: object) -> Survey:
    return Survey(findings, started=1e9, duration=0.083, timeout=5.0, **members)  # type: ignore[arg-type]


def _rows(per_mount: bool) -> Optional[Wants]:
    return (lambda finding: True) if per_mount else None


def printed(result: Survey, policy: Optional[Policy] = None, per_mount: bool = False, **presentation: object) -> str:
    shown = Presentation(**presentation)  # type: ignore[arg-type]
    whole = report(judged(result, policy or Policy()), shown, _rows(per_mount))
    return parts.printed(whole, shown.max_output).decode("utf-8")


def verdict(result: Survey) -> str:
    return printed(result, perfdata="none").rstrip("\n").partition(" - ")[2]


# -- lines are not mounts

HEALTHY = [finding(b"/m%d" % number) for number in range(42)]
LINES = [bad_line(number) for number in range(3, 10)]


def test_many_lines_are_told_as_lines() -> None:
    assert verdict(survey(*HEALTHY, *LINES)) == (
        "42 mounts checked in 0.1 s, 7 lines not understood: 7 lines of /etc/fstab make no sense (3, 4, 5, ...)"
    )


def test_few_lines_are_told_one_by_one() -> None:
    assert verdict(survey(HEALTHY[0], *LINES[:2])) == (
        "1 mount checked in 0.1 s, 2 lines not understood: /etc/fstab line 3: it has no filesystem type; "
        "/etc/fstab line 4: it has no filesystem type"
    )


def test_lines_and_mounts_are_counted_and_named_apart() -> None:
    dead = finding(b"/d", Condition.DEAD)
    assert verdict(survey(*HEALTHY, dead, *LINES)) == (
        "1 of 43 mounts failed, 7 lines not understood: /d (xfs /dev/sda1) dead: Stale file handle (ESTALE); "
        "7 lines of /etc/fstab make no sense (3, 4, 5, ...)"
    )


def test_lines_of_several_files_are_told_apart() -> None:
    others = [bad_line(number, "/srv/fstab") for number in range(2)]
    (table,) = conditions.not_understood([Unparsed(number, b"x", "it is short") for number in (4, 5, 6)])
    assert verdict(survey(*HEALTHY, *LINES, *others, table)) == (
        "42 mounts checked in 0.1 s, 12 lines not understood: 7 lines of /etc/fstab make no sense (3, 4, 5, ...); "
        "2 lines of /srv/fstab make no sense (0, 1); line 4 of the mount table cannot be understood: it is "
        "short (and 2 lines more)"
    )


def test_lines_do_not_group_the_mounts() -> None:
    """Two failures are named in full, however many lines there are."""
    words = verdict(survey(hung(1), hung(2), *LINES))
    assert (
        "/home/u1 (nfs4 filer1:/u1) timed out after 5 s; /home/u2 (nfs4 filer1:/u2) timed out after 5 s; 7 lines of"
        in words
    )


def test_lines_are_in_no_count_of_mounts() -> None:
    judgements = judge_all(survey(HEALTHY[0], *LINES), Policy())
    counts = dict(summary.counts(judgements))
    assert (counts["mounts"], counts["ok"], counts["unprobed"]) == (1, 1, 0)
    assert (
        episodes.checked_words(judgements, counts.items(), 5.0)
        == "Checked 1 mounts in 5 seconds: 7 lines not understood"
    )


def test_lines_alone_check_nothing() -> None:
    """With unprobed=ok they are no alarm, but that no mount was checked still is."""
    result = survey(*LINES)
    policy = Policy({Condition.UNPROBED: State.OK})
    assert worst(judge_all(result, policy), result, False) is State.UNKNOWN
    assert worst(judge_all(result, policy), result, True) is State.OK
    assert verdict(result).startswith(
        "no mount was selected (0 mounts left out, -vvv says why), 7 lines not understood: "
    )


def test_lines_have_no_service_and_no_label() -> None:
    result = survey(HEALTHY[0], *LINES)
    assert [each.mount_point for each in report_each(judged(result, Policy()), Presentation())] == [b"/m0"]
    assert printed(result, per_mount=True).count("\t") == 2
    assert "mount table" not in printed(result, perfdata="steps", verbosity=3)


def test_lines_in_json_say_file_and_number() -> None:
    value = json.loads(jsontext.report(judged(survey(HEALTHY[0], *LINES), Policy())))
    assert (value["counts"]["mounts"], value["counts"]["unprobed"]) == (1, 0)
    assert [each["line"] for each in value["findings"]] == [
        *({"file": "/etc/fstab", "number": n} for n in range(3, 10)),
        None,
    ]
    assert {each["mount_point"] for each in value["findings"]} == {"", "/m0"}
    assert value["findings"][0]["text"] == "/etc/fstab line 3: it has no filesystem type"


def test_each_line_is_named_below() -> None:
    lines = printed(survey(*HEALTHY, *LINES), verbosity=1, perfdata="none").split("\n")[1:-1]
    assert lines == [f"UNKNOWN: /etc/fstab line {number}: it has no filesystem type" for number in range(3, 10)]


@pytest.mark.root
def test_lines_of_a_real_fstab(mounts: Mounts, plugin: Plugin, daemon: Daemon, tmp_path: Path) -> None:
    home = mounts.tmpfs("home")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"none {home} tmpfs rw 0 0\n" + "broken\n" * 7)
    result = plugin(f"--fstab={fstab}")
    assert (result.code, result.count("mounts"), result.count("unprobed")) == (3, 1, 0)
    assert result.verdict.endswith(f" s, 7 lines not understood: 7 lines of {fstab} make no sense (2, 3, 4, ...)")
    daemon.start(f"--fstab={fstab}")
    assert daemon.cached().verdict.partition(" s, ")[2] == result.verdict.partition(" s, ")[2]
    assert any(re.fullmatch(r"Checked 1 mounts in \d+ seconds: 7 lines not understood", line) for line in daemon.lines)


# -- what is left out where there is no room


def crowd(failing: int = 40, healthy: int = 60) -> Survey:
    findings = [finding(b"/home/user%03d" % number, Condition.DEAD) for number in range(failing)]
    findings += [finding(b"/srv/project%03d" % number) for number in range(healthy)]
    return survey(*findings, notes=("something",))


@pytest.mark.parametrize("limit", [128, 150, 200, 400, 1023, 2000, 4096, 8000, 20000])
@pytest.mark.parametrize(
    ("verbosity", "perfdata", "per_mount"),
    list(itertools.product(range(4), ("summary", "mounts", "steps", "none"), (False, True))),
)
def test_what_is_worth_most_is_kept(limit: int, verbosity: int, perfdata: str, per_mount: bool) -> None:
    words = printed(crowd(), verbosity=verbosity, perfdata=perfdata, max_output=limit, per_mount=per_mount)
    whole = printed(crowd(), verbosity=verbosity, perfdata=perfdata, per_mount=per_mount)
    assert len(words) <= limit or (words == whole and len(whole) <= limit)
    assert words.startswith("MOUNTS CRITICAL - 40 of 100 mounts failed")
    if words == whole:
        return
    assert re.fullmatch(
        r"\((\d+ (failures|more lines?|more values?)(, | and )?)+ left out: --max-output\)", words.split("\n")[-2]
    )
    first, *below = words.split("\n")[:-2]
    assert set(below) <= set(whole.split("\n"))
    numbers = first.partition(" | ")[2].split()
    latencies = [item for item in numbers if item.startswith("'/")]
    about_failures = [line for line in below if line.startswith("CRITICAL: ")]
    if latencies or any(line.startswith("OK: ") for line in below):
        assert len(about_failures) == (40 if verbosity else 0), "a latency displaces what fails"
        assert perfdata == "none" or "mounts=100;;;0" in numbers
    left_out = {kind: int(count) for count, kind in re.findall(r"(\d+) more (line|value)", words)}
    assert left_out.get("line", 0) == len(whole.split("\n")) - 2 - len(below)
    assert left_out.get("value", 0) == len(whole.split("\n")[0].partition(" | ")[2].split()) - len(numbers)


def test_latencies_displace_no_failures() -> None:
    words = printed(crowd(40, 400), verbosity=1, perfdata="mounts", max_output=4096)
    assert words.count("\nCRITICAL: /home/user") == 40
    assert "mounts=440;;;0" in words and "'/home/user000'=" in words
    assert words.endswith("left out: --max-output)\n")


def test_one_long_name_keeps_no_other_failure_out() -> None:
    """A user may call his mount point as he likes, and have it fail."""
    long = finding(b"/" + b"x" * 3000, Condition.TIMED_OUT)
    others = [finding(b"/home/user%d" % number, Condition.DEAD) for number in range(3)]
    words = printed(survey(long, *others), verbosity=1, max_output=1023)
    assert words.count("\nCRITICAL: /home/user") == 3
    assert "x" * 3000 not in words


def test_what_stands_below_a_line_goes_with_it() -> None:
    long = finding(b"/" + b"x" * 3000, Condition.TIMED_OUT, remarks=("a remark of the long one",))
    short = finding(b"/s", Condition.DEAD, remarks=("a remark of the short one",))
    words = printed(survey(long, short), verbosity=1, max_output=1023)
    assert "  a remark of the short one\n" in words
    assert "a remark of the long one" not in words


def test_how_many_more_fail_is_said_in_mounts() -> None:
    """The items of the status line may be groups."""
    failing = [
        Finding(
            b"/%d/%d" % (server, number),
            mount(b"/%d/%d" % (server, number), b"filer%d:/" % server, b"nfs4"),
            Condition.DEAD,
            "gone",
        )
        for server in range(9)
        for number in range(3)
    ]
    assert verdict(survey(*failing)).endswith("; and 9 more")
    first = printed(survey(*failing), perfdata="none", max_output=250).split("\n")[0]
    named = first.count("all 3 mounts of")
    assert 0 < named < 6 and first.endswith(f"; and {27 - 3 * named} more")


@given(
    st.lists(
        st.tuples(st.binary(max_size=300), st.sampled_from([Condition.OK, Condition.DEAD, Condition.TIMED_OUT])),
        max_size=9,
    ),
    st.integers(105, 3000),
    st.integers(0, 3),
    st.sampled_from(["mounts", "steps", "none"]),
    st.booleans(),
    st.sampled_from(["utf-8", "ascii"]),
)
def test_no_output_is_longer_than_it_may_be(
    names: list[tuple[bytes, Condition]], limit: int, verbosity: int, perfdata: str, per_mount: bool, encoding: str
) -> None:
    findings = [finding(b"/" + name.replace(b"\0", b""), condition) for name, condition in names]
    presentation = Presentation(verbosity, perfdata, limit, encoding=encoding)
    result = judged(survey(*findings), Policy())
    unlimited = report(result, Presentation(verbosity, perfdata, 0, encoding=encoding), _rows(per_mount))
    whole = parts.printed(unlimited, 0, encoding)
    output = parts.printed(report(result, presentation, _rows(per_mount)), limit, encoding)
    assert len(output) <= limit
    assert output == whole if len(whole) <= limit else b" left out: --max-output)\n" in output or b"; and " in output
    for each in report_each(result, presentation):
        own = parts.printed(each, limit, encoding)
        assert len(own) <= limit
        assert own.startswith(b"MOUNTS ")


def test_json_is_never_cut(plugin: Plugin) -> None:
    assert json.loads(plugin("--json", "--max-output", "128", "-vvv", below=False).stdout)["left_out"]


@pytest.mark.root
@pytest.mark.parametrize("limit", [128, 300, 1023])
def test_what_the_daemon_keeps_fits_with_its_age(mounts: Mounts, daemon: Daemon, limit: int) -> None:
    for number in range(12):
        mounts.tmpfs(f"home/user{number}", "mode=0000")
    daemon.interval = 3600
    daemon.start("--max-output", str(limit), "--perfdata", "mounts")
    until(lambda: b" s ago)" in daemon.cached().stdout)
    for words in ((), ("-v",), ("-vv",), ("-vvv",)):
        output = daemon.cached(*words).stdout
        assert len(output) <= limit
        assert output.endswith(b" left out: --max-output)\n")


# -- what was being asked when the end came


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_how_long_there_was_no_answer_when_a_signal_came(fuse: Fuse, plugin: Plugin, number: signal.Signals) -> None:
    mount_point = fuse.mount("hung")
    fuse.command("hang", "hung")
    process = plugin.start("-t", "30", wrapper=["env", "--default-signal=INT,TERM"])
    until(lambda: fuse.waiting("hung") == 1)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 3
    assert re.search(
        rf": {mount_point} \(fuse.test fuse\) no answer for [0-9.]+ s at \S+ when {number.name} came \|", output
    )
    assert "not probed" not in output


@pytest.mark.root
def test_how_long_there_was_no_answer_at_the_deadline(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """It was asked late, because what it hangs from answered late."""
    above, elsewhere = fuse.mount("above"), fuse.mount("elsewhere")
    below = above / "sub"
    mounts.mount_at(below, "none", str(elsewhere), flags=4096)
    for name in ("above", "elsewhere"):
        fuse.command("hang", name)
    process = plugin.start("-t", "4", "--deadline", "4", "-x", str(elsewhere))
    until(lambda: fuse.waiting("above") == 1)
    time.sleep(0.8)  # of 4 s only the first 3.6 s count for a timeout
    fuse.command("answer", "above")
    result = Result(process)
    assert (result.code, result.count("ok"), result.count("unprobed")) == (3, 1, 1)
    assert re.search(
        rf"{below} \(fuse.test fuse\) no answer for [23]\.?\d* s at \S+ when the run's deadline came$", result.verdict
    )
    remaining(1)


@pytest.mark.root
def test_many_without_an_answer_when_a_signal_came(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    """Each was asked for a time of its own; that they were asked is what a group of them says. What
    is not declared is not missed."""
    for number in range(7):
        fuse.mount(f"hung{number}", source=f"me@filer1:/h{number}", type="fuse.sshfs")
        fuse.command("hang", f"hung{number}")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"none {mounts.base}/missing tmpfs rw 0 0\n")
    for more in ((), (f"--fstab={fstab}",)):
        process = plugin.start("-t", "30", "--max-workers", "5", *more, wrapper=["env", "--default-signal=INT"])
        until(lambda: sum(fuse.waiting(f"hung{number}") for number in range(7)) >= 5)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 3
        assert "compared" not in output
        assert re.search(
            r": 5 mounts of filer1 (unanswered, the longest: )?no answer for [0-9.]+ s at \S+ when SIGINT came \(",
            output,
        )
        assert "; 2 mounts not probed: SIGINT came first (" in output
        assert (f"; {mounts.base}/missing " in output) == bool(more)
        fuse.hang_anew(*(f"hung{number}" for number in range(7)))


def test_a_group_says_how_long_there_was_no_answer() -> None:
    def unanswered(number: int, waited: float) -> Finding:
        words = f"no answer for {waited} s at statfs when SIGINT came"
        point = b"/home/u%d" % number
        where = mount(point, b"filer1:/u%d" % number, b"nfs4", number)
        return Finding(point, where, Condition.UNPROBED, words, Outcome(Step.STATFS), waited)

    def unasked(number: int) -> Finding:
        point = b"/home/u%d" % number
        where = mount(point, b"filer1:/u%d" % number, b"nfs4", number)
        return Finding(point, where, Condition.UNPROBED, "SIGINT came first")

    assert verdict(
        survey(*(unanswered(number, 1.2 + number % 2 / 10) for number in range(6)), unasked(7), unasked(8))
    ) == (
        "8 of 8 mounts failed: 6 mounts of filer1 unanswered, the longest: no answer for 1.3 s at statfs when "
        "SIGINT came "
        "(/home/u0, /home/u1, /home/u2, ...); 2 mounts not probed: SIGINT came first (/home/u7, /home/u8)"
    )
    # That one hangs is said first, however many others nobody has asked, of however many servers.
    others = [
        Finding(each.mount_point, each.mount, Condition.UNPROBED, "SIGINT came first")
        for each in map(dead_of, range(40))
    ]
    assert verdict(survey(*others, unanswered(1, 1.2))) == (
        "41 of 41 mounts failed: /home/u1 (nfs4 filer1:/u1) no answer for 1.2 s at statfs when SIGINT came; "
        "40 mounts not probed: SIGINT came first (/0, /1, /2, ...)"
    )


def dead_of(server: int) -> Finding:
    point = b"/%d" % server
    return Finding(point, mount(point, b"filer%d:/" % server, b"nfs4", 100 + server), Condition.DEAD, "gone")


@pytest.mark.parametrize(
    ("outcome", "detail", "words"),
    [
        (None, "SIGINT came first", "not probed: SIGINT came first"),
        (
            Outcome(Step.READ, 24),
            "read: Too many open files (EMFILE)",
            "not probed: read: Too many open files (EMFILE)",
        ),
        (
            Outcome(Step.STATFS),
            "no answer for 2.9 s at statfs when SIGINT came",
            "no answer for 2.9 s at statfs when SIGINT came",
        ),
        (Outcome(mode=0o40755), "not written: SIGINT came first", "not written: SIGINT came first"),
        (
            Outcome(Step.CREATE, 24),
            "Too many open files (EMFILE) at create",
            "not written: Too many open files (EMFILE) at create",
        ),
    ],
)
def test_only_what_was_not_asked_is_not_probed(outcome: Optional[Outcome], detail: str, words: str) -> None:
    judgement = judge(Finding(b"/x", mount(b"/x"), Condition.UNPROBED, detail, outcome, 2.9), Policy())
    assert (judgement.words, judgement.state) == (words, State.UNKNOWN)


# -- since when

LONG_AGO = 50.0


def stuck(number: int, since: float, diagnosis: str = "") -> Finding:
    words = f"a probe has been stuck in it since {text.moment(since)} (pid {number})"
    return hung(number, words, stuck_pid=number, stuck_since=since, since=since, diagnosis=diagnosis)


def test_a_group_says_since_when() -> None:
    assert verdict(survey(*(stuck(number, LONG_AGO + number * 60) for number in range(1, 8)))) == (
        f"7 of 7 mounts failed: all 7 mounts of filer1 timed out, the first since {text.moment(LONG_AGO + 60)} "
        "(/home/u1, /home/u2, /home/u3, ...)"
    )
    at_once = [stuck(number, LONG_AGO) for number in range(7)]
    assert f"all 7 mounts of filer1 timed out since {text.moment(LONG_AGO)} (" in verdict(survey(*at_once))


def test_a_group_of_old_and_new_says_since_when_the_first() -> None:
    words = verdict(
        survey(*(stuck(number, LONG_AGO) for number in range(3)), *(hung(number) for number in range(3, 9)))
    )
    assert f"all 9 mounts of filer1 timed out, the first since {text.moment(LONG_AGO)} (" in words


def test_a_group_says_since_when_and_why() -> None:
    words = verdict(
        survey(*(stuck(number, LONG_AGO, "server 10.0.0.5 does not answer on port 2049") for number in range(7)))
    )
    assert f"timed out since {text.moment(LONG_AGO)}: server 10.0.0.5 does not answer on port 2049 (/home/u0" in words


def test_a_group_of_several_causes_names_them() -> None:
    causes = ["server 10.0.0.5 refuses connections on port 2049"] * 2 + [
        "server 10.0.0.6 does not answer on port 2049"
    ] * 5
    words = verdict(survey(*(hung(number, diagnosis=cause) for number, cause in enumerate(causes))))
    assert (
        "timed out: server 10.0.0.6 does not answer on port 2049 (5), server 10.0.0.5 refuses connections on "
        "port 2049 (2) (/home" in words
    )


def test_a_group_of_many_causes_names_some() -> None:
    """As of seven mounts of a tunnel, each by a port of its own."""
    words = verdict(
        survey(
            *(
                hung(number, diagnosis=f"server 127.0.0.1 does not answer on port {20049 + number}")
                for number in range(7)
            )
        )
    )
    assert (
        "timed out: server 127.0.0.1 does not answer on port 20049 (1), server 127.0.0.1 does not answer on "
        "port 20050 (1), and others" in words
    )


def test_a_cause_that_is_not_known_of_all_is_told() -> None:
    findings = [
        hung(number, f"same filesystem as /{number}", diagnosis="server is down" if number else "")
        for number in range(7)
    ]
    assert "all 7 mounts of filer1 timed out: server is down (/home/u0" in verdict(survey(*findings))


def test_a_group_of_dead_mounts_says_of_what() -> None:
    errors = ["Stale file handle (ESTALE)"] * 4 + ["Input/output error (EIO)"] * 3 + ["Host is down (EHOSTDOWN)"]
    words = verdict(survey(*(finding(b"/d%d" % number, Condition.DEAD, error) for number, error in enumerate(errors))))
    assert "8 xfs mounts dead: Stale file handle (ESTALE) (4), Input/output error (EIO) (3), and others (/d0" in words


def test_reasons_that_none_share_are_left_to_the_lines_below() -> None:
    words = verdict(survey(*(finding(b"/d%d" % number, Condition.MISSING, f"by line {number}") for number in range(8))))
    assert words == "8 of 8 mounts failed: 8 xfs mounts missing (/d0, /d1, /d2, ...)"


@pytest.mark.root
def test_the_second_run_says_since_when(fuse: Fuse, plugin: Plugin) -> None:
    names = [f"hung{number}" for number in range(6)]
    for name in names:
        fuse.mount(name)
        fuse.command("hang", name)
    first, second = plugin("-t", "0.5"), plugin("-t", "0.5")
    assert "6 fuse.test mounts timed out after 0.5 s (" in first.verdict
    assert re.search(
        r"6 fuse.test mounts timed out(, the first)? since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(", second.verdict
    )
    remaining(6)


@pytest.mark.root
def test_the_daemon_says_since_when(fuse: Fuse, daemon: Daemon) -> None:
    """Of probes that can be killed none is left to tell."""
    names = [f"frozen{number}" for number in range(6)]
    for name in names:
        fuse.mount(name)
        fuse.command("freeze", name)
    daemon.interval = 3600
    daemon.start()
    daemon.check()
    assert re.search(r"6 fuse.test mounts timed out.* since \d{4}-\d\d-\d\d ", daemon.cached().verdict)


# -- no secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"//filer1/home /home cifs user=bob,password=my {SECRET} 0 0",
        f"//filer1/home /home cifs user=bob,password=a b {SECRET}",
        f"//filer1/home /home cifs user=bob,password=a 0 {SECRET}",
        f"curlftpfs#ftp://bob:my {SECRET}@host/ /mnt fuse rw 0 0",
        f"curlftpfs#ftp://bob:{SECRET} /mnt",
        f"https://bob:{SECRET}@host/ ",
        f"https://bob:{SECRET}@host/ relative davfs",
        f"//h/s /mnt cifs password={SECRET}\\000 0 0",
    ],
)
def test_a_bad_line_of_fstab_shows_nothing_of_itself(line: str, tmp_path: Path, plugin: Plugin) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(line + "\n")
    _, complaints = read_fstab(str(fstab))
    assert [(one.file, one.number) for one in complaints] == [(str(fstab), 1)]
    assert SECRET not in str(complaints)
    result = plugin(f"--fstab={fstab}", "-vvv", "-p", "/nowhere", below=False)
    assert result.code == 3 and f"{fstab} line 1: " in result.verdict
    assert (
        SECRET.encode()
        not in result.stdout
        + result.stderr
        + plugin(f"--fstab={fstab}", "--json", "-p", "/nowhere", below=False).stdout
    )


@pytest.mark.parametrize(
    "line",
    [
        f"21 1 0:1 / /home rw - cifs //filer1/home rw,password={SECRET} x".replace(" - ", " "),
        f"x 1 0:1 / /home rw - fuse.x ftp://bob:{SECRET}@host/ rw",
        f"21 1 0:1 / home-{SECRET} rw - tmpfs x rw",
    ],
)
def test_a_bad_line_of_the_mount_table_shows_nothing_of_itself(line: str, tmp_path: Path, plugin: Plugin) -> None:
    table = tmp_path / "table"
    table.write_text(line + "\n")
    result = plugin("--mountinfo", str(table), "-vvv", below=False)
    assert "line 1 of the mount table cannot be understood: " in result.verdict
    assert SECRET.encode() not in result.stdout + plugin("--mountinfo", str(table), "--json", below=False).stdout


@pytest.mark.parametrize(
    "spec",
    [
        f"/home,password={SECRET},",
        f"/home,,password={SECRET}",
        f"home,password={SECRET}",
        f"/home,type=,password={SECRET}",
    ],
)
def test_a_bad_declaration_shows_no_option(spec: str, plugin: Plugin) -> None:
    result = plugin("--expect", spec, below=False)
    assert result.code == 3 and "argument --expect: '" in result.verdict and "home,...': " in result.verdict
    assert SECRET.encode() not in result.stdout + result.stderr


def test_an_unknown_option_shows_no_value(plugin: Plugin) -> None:
    result = plugin(f"--password={SECRET}", f"--token={SECRET}=", below=False)
    assert result.verdict == "MOUNTS UNKNOWN - --password: unknown option; --token: unknown option"
    assert SECRET.encode() not in result.stdout + result.stderr


# -- labels


def labels(words: str) -> Sequence[str]:
    """As Nagios and Icinga 2 take perfdata apart."""
    first = words.split("\n")[0].partition(" | ")[2]
    return [quoted or plain for quoted, plain in re.findall(r"(?:'([^']+)'|([^ '=]+))=[^ ]+", first)]


ASPECTS = [step.word for step in Step] + ["used", "inodes"]
hostile = st.one_of(
    st.binary(max_size=12),
    st.lists(
        st.sampled_from(
            [b"/x", b" ", b"used", b"read", b"inodes", b"'", b"=", b":", b"\\040", b"\\", b"\xff", "é".encode(), b"|"]
        ),
        max_size=6,
    ).map(b"".join),
).map(lambda name: b"/" + name.replace(b"\0", b""))


@given(st.lists(hostile, max_size=8), st.sampled_from(["mounts", "steps"]))
def test_no_two_labels_are_the_same(points: list[bytes], perfdata: str) -> None:
    points += [b"/x", b"/x used", b"/x inodes", b"/x read", b"/x read used", b"/x\\040used", b"/x"]
    found = labels(printed(survey(*map(_told_in_full, points)), _judged(), perfdata=perfdata))
    assert len(found) == len(set(found))
    assert set(map(plugins.label, points)) <= set(found)


def _told_in_full(point: bytes) -> Finding:
    outcome = Outcome(seconds=(0.001,) * len(Step), usage=Usage(1 << 40, 1 << 39, 1 << 39, 1000, 500))
    return Finding(point, mount(point, mount_id=hash(point) % 100000), Condition.OK, "", outcome, 0.012)


def _judged() -> Policy:
    return Policy(usage_warning=parse_capacity("90"), inodes_warning=parse_capacity("90"))


@given(hostile, hostile)
def test_labels_tell_mount_points_apart(one: bytes, other: bytes) -> None:
    assert (plugins.label(one) == plugins.label(other)) == (one == other)
    for aspect, another in itertools.product(["", *ASPECTS], repeat=2):
        first, second = f"{plugins.label(one)} {aspect}".rstrip(), f"{plugins.label(other)} {another}".rstrip()
        if aspect and not another:
            assert first != plugins.label(other)
        elif aspect and another:
            assert (first == second) == (one == other and aspect == another)


def test_labels_that_were_documented_stay() -> None:
    assert plugins.label(b"/home") + " used" == "/home used"
    assert plugins.label(b"/My Documents") == "/My Documents"
    assert plugins.label(b"/home used") == "/home\\040used"
