"""How full each mount is, told without a threshold: perfdata, -vv, JSON. And the status line, which
is short where nothing failed."""

from __future__ import annotations

import json
import os
import random
import re
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.judging.policy import Policy, judged
from check_mounts.judging.thresholds import parse_capacity
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.outcome import Numbers, Outcome, Usage
from check_mounts.report import details, jsontext, parts, plugin, summary
from check_mounts.report.plugin import Presentation
from tests.conftest import Mounts, Plugin
from tests.test_healthy import random_policy, random_survey

GIB = 1 << 30
HALF = Usage(100 * GIB, 60 * GIB, 50 * GIB, 1000, 900)


def found(point: str, usage: Optional[Usage], number: int = 1, fs_type: str = "ext4", ro: bool = False) -> Finding:
    options = (b"ro",) if ro else (b"rw",)
    mount = Mount(number, 0, (8, 1), b"/", os.fsencode(point), options, (), fs_type.encode(), b"/dev/sda1", options)
    return Finding(mount.mount_point, mount, Condition.OK, "", Outcome(usage=usage), 0.25)


def perfdata(*findings: Finding, wanted: str = "usage", policy: Optional[Policy] = None) -> list[str]:
    """The perfdata without counts and times."""
    report = plugin.report(judged(Survey(findings), policy or Policy()), Presentation(perfdata=wanted))
    return [each.words for each in report.perfdata if each.worth is parts.Worth.LATENCY]


def test_each_mount_has_its_numbers() -> None:
    """Also two of one superblock; with the minimum and maximum, and no bound."""
    one, other = found("/a", HALF), found("/b c", HALF, 2)
    assert perfdata(one, other) == [
        f"'/a used'={40 * GIB}B;;;0;{90 * GIB}",
        f"'/a free'={50 * GIB}B;;;0;{90 * GIB}",
        "'/a inodes'=100;;;0;1000",
        "'/a inodes_free'=900;;;0;1000",
        f"'/b c used'={40 * GIB}B;;;0;{90 * GIB}",
        f"'/b c free'={50 * GIB}B;;;0;{90 * GIB}",
        "'/b c inodes'=100;;;0;1000",
        "'/b c inodes_free'=900;;;0;1000",
    ]


@pytest.mark.parametrize(
    ("usage", "labels"),
    [
        (HALF._replace(inodes=0, inodes_free=0), ["used", "free"]),
        (HALF._replace(inodes=5, inodes_free=-1), ["used", "free"]),
        (Usage(0, 0, 0, 1000, 900), ["inodes", "inodes_free"]),
        (Usage(0, 0, 0, 0, 0), []),
        (None, []),
    ],
)
def test_what_is_not_counted_has_no_number(usage: Optional[Usage], labels: list[str]) -> None:
    finding = found("/x", usage)
    assert [re.split(r"[ ']", each)[2] for each in perfdata(finding)] == labels
    told = json.loads(jsontext.report(judged(Survey((finding,)), Policy())))["findings"][0]["usage"]
    if not labels:
        assert told is None
    else:
        assert (told["size"] is None) == ("used" not in labels) == (told["available"] is None)
        assert (told["inodes"] is None) == ("inodes" not in labels) == (told["inodes_free"] is None)


def test_bounds_stand_with_what_is_in_use() -> None:
    policy = Policy(usage_warning=parse_capacity("80"), usage_critical=parse_capacity("9GiB:"))
    used, free = perfdata(found("/x", HALF), policy=policy)[:2]
    assert used == f"'/x used'={40 * GIB}B;{72 * GIB};{81 * GIB};0;{90 * GIB}"
    assert free == f"'/x free'={50 * GIB}B;;;0;{90 * GIB}"
    # What nobody can fill up is told, and not judged.
    (image, *_) = perfdata(found("/x", Usage(GIB, 0, 0, 0, 0), fs_type="squashfs", ro=True), policy=policy)
    assert image == f"'/x used'={GIB}B;;;0;{GIB}"


def test_choices_can_be_combined() -> None:
    labels = {
        wanted: [each.split("=")[0].strip("'") for each in perfdata(found("/x", HALF), wanted=wanted)]
        for wanted in ("summary", "mounts", "usage", "mounts,usage", "none")
    }
    usage = ["/x used", "/x free", "/x inodes", "/x inodes_free"]
    assert labels == {"summary": [], "mounts": ["/x"], "usage": usage, "mounts,usage": ["/x", *usage], "none": []}


@pytest.mark.parametrize("word", ["usage", "mounts,usage", "usage, steps", "usage,usage"])
def test_what_may_be_asked_for(plugin: Plugin, word: str) -> None:
    assert "MOUNTS " in plugin("--perfdata", word, "--allow-none").verdict
    assert "argument --perfdata" not in plugin("--perfdata", word, "--allow-none").verdict


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("free", "'free' is not one of summary, mounts, steps, usage, none"),
        ("usage,", "'' is not one of summary, mounts, steps, usage, none"),
        ("usage,none", "'none' cannot be combined with others"),
        ("summary,mounts", "'summary' cannot be combined with others"),
    ],
)
def test_what_may_not(plugin: Plugin, word: str, why: str) -> None:
    result = plugin("--perfdata", word)
    assert (result.code, result.verdict) == (3, f"MOUNTS UNKNOWN - argument --perfdata: {why}")


def test_labels_of_hostile_mount_points_stay_apart() -> None:
    names = ["/x", "/x free", "/x used", "/x inodes_free", "/it's", "/a=b", "/a::b", "/a|b\n"]
    items = perfdata(*(found(name, HALF, number) for number, name in enumerate(names)), wanted="mounts,usage")
    labels = [each.rpartition("=")[0] for each in items]
    assert len(set(labels)) == len(labels) == 5 * len(names)
    assert all(re.fullmatch(r"'[^'=|\n]+'=[\d.]+(B|s)?(;\d*)*", each) for each in items)


def test_the_line_of_each_mount() -> None:
    def lines(finding: Finding, verbosity: int, policy: Optional[Policy] = None) -> list[str]:
        return [each.words for each in details.details(judged(Survey((finding,)), policy or Policy()), verbosity)]

    tib = 1000 << 30
    home = found("/home", Usage(4 * tib, 28 * tib // 10, 28 * tib // 10, 1000, 970))
    begin = "OK: /home (ext4 /dev/sda1) ok in 0.250 s"
    assert lines(home, 2) == [f"{begin}, 1.2 TiB of 3.9 TiB used (30 %), inodes 3 %"]
    assert lines(home, 3)[0] == lines(home, 2)[0]
    assert lines(home, 1) == []
    assert lines(found("/home", HALF._replace(inodes=0)), 2) == [f"{begin}, 40.0 GiB of 100.0 GiB used (45 %)"]
    assert lines(found("/home", Usage(0, 0, 0, 0, 0)), 2) == [begin]
    # Words about a failure are not mixed with it.
    slow = home._replace(condition=Condition.DENIED, detail="mode 0000 does not allow access")
    assert lines(slow, 1) == lines(slow, 2)
    assert lines(slow, 3)[1:] == ["  1.2 TiB of 3.9 TiB used (30 %), inodes 3 %"]
    # Nearly full is not 100 %, nearly empty not 0 %... as df rounds: up.
    assert "(100 %)" in lines(found("/home", Usage(1000, 1, 1, 0, 0)), 2)[0]
    assert "(0 %)" in lines(found("/home", Usage(1000, 1000, 1000, 0, 0)), 2)[0]


@given(st.tuples(*[st.integers(-(2**96), 2**96)] * 5))
def test_numbers_make_sense_whatever_was_said(said: tuple[int, int, int, int, int]) -> None:
    told = Usage(*said).numbers
    assert (told.size is None) == (told.used is None) == (told.free is None) == (told.available is None)
    if told.size is not None and told.used is not None and told.free is not None and told.available is not None:
        assert told.used + told.free == told.size > 0 and 0 <= told.available <= told.free
    assert (told.inodes is None) == (told.inodes_used is None) == (told.inodes_free is None)
    if told.inodes is not None and told.inodes_used is not None and told.inodes_free is not None:
        assert told.inodes_used + told.inodes_free == told.inodes > 0 and min(told.inodes_used, told.inodes_free) >= 0


@pytest.mark.root
def test_the_numbers_are_those_of_the_kernel(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("x y", "size=1M,nr_inodes=50")
    (path / "file").write_bytes(b"x" * 300_000)
    bind = mounts.bind(path, "bind")
    data = os.statvfs(path)
    size, free = data.f_blocks * data.f_frsize, data.f_bfree * data.f_frsize
    expected = Numbers(size, size - free, free, free, 50, 50 - data.f_ffree, data.f_ffree)._asdict()
    told = {each["mount_point"]: each["usage"] for each in json.loads(plugin("--json").stdout)["findings"]}
    assert told == {str(path): expected, str(bind): expected}
    first = plugin("--perfdata", "usage").lines[0]
    for point in (path, bind):
        assert f" '{point} used'={size - free}B;;;0;{size} '{point} free'={free}B;;;0;{size} " in first
        assert f" '{point} inodes'={50 - data.f_ffree};;;0;50 '{point} inodes_free'={data.f_ffree};;;0;50" in first
    line = plugin("-vv").line(path)
    assert re.search(r"ok in \d\.\d{3} s, 296\.0 KiB of 1\.0 MiB used \(29 %\), inodes \d %$", line), line


def _fits(report: parts.Report) -> bool:
    return len(report.verdict) < 80 and report.verdict.isprintable()


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("age_room", [0, 23])
def test_where_nothing_failed_the_status_line_is_short(seed: int, age_room: int) -> None:
    """Over mixtures of notes, remarks, bounds that are not applied, thousands that were
    left out, long passes."""
    chance = random.Random(seed)
    policy = random_policy(chance)._replace(
        severity=dict.fromkeys(Condition, State.OK),
        usage_warning=parse_capacity(chance.choice(("1000000GiB:", "10TiB:", "123456789012345678GiB:"))),
        inodes_critical=parse_capacity(chance.choice(("10K:", "1000000000000000K:"))),
    )
    survey = random_survey(chance, chance.choice((1, 3, 120)))
    survey = survey._replace(
        left_out=survey.left_out * chance.choice((0, 1, 30_000)),
        duration=chance.choice((0.01, 123.4, 12345.6)),
        notes=("a note that is long " * 20,) * chance.randrange(3),
        interrupted=chance.choice((None, None, "SIGTERM")),
    )
    whole = judged(survey, policy, allow_none=True)
    if summary.failed(whole.judgements):
        return
    report = plugin.report(whole, Presentation(age_room=age_room))
    assert _fits(report), report.verdict
    assert len(report.verdict) + age_room < 80 or survey.interrupted, report.verdict  # no daemon is interrupted
    assert _fits(summary.report(whole))
    # No more is lost than must be.
    count = summary.relevant(whole.judgements)
    assert str(count or "no mount") in report.headline
    if any(each.too_small for each in whole.judgements) and not survey.interrupted:
        assert " too small" in report.headline


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (["10GiB:"], "42 mounts checked in 0.1 s, 42 too small for '10GiB:'"),
        (["1000000GiB:", "2000000GiB:"], "42 mounts checked in 0.1 s, 42 too small for their bounds"),
    ],
)
def test_shorter_words_are_only_for_want_of_room(bounds: list[str], words: str) -> None:
    small = [found(f"/{number}", Usage(GIB, GIB, GIB, 0, 0), number) for number in range(42)]
    small = [
        each._replace(mount=each.mount._replace(device=(8, number))) for number, each in enumerate(small) if each.mount
    ]
    limits = dict(zip(("usage_warning", "usage_critical"), map(parse_capacity, bounds)))
    whole = judged(Survey(tuple(small), duration=0.1), Policy(**limits))  # type: ignore[arg-type]
    assert summary.report(whole).headline == words
