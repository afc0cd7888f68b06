"""Healthy mounts cost nearly nothing: they are judged at a look, and their lines are made only
where they are printed. Nothing that is told depends on that."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from typing import Optional

import pytest

from check_mounts.clocks import Epoch
from check_mounts.judging import policy as policies
from check_mounts.judging.judgements import Judgements
from check_mounts.judging.policy import Part, Policy, judged
from check_mounts.judging.thresholds import Range, parse_capacity
from check_mounts.judging.units import parse_time
from check_mounts.model import BadLine, Condition, Finding, LeftOut, Mount, Reason, State, Survey
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.report import jsontext, parts, plugin, summary
from check_mounts.report.parts import Report
from check_mounts.report.plugin import Presentation
from check_mounts.traffic import Measure, Operation, Traffic

_TYPES = (
    (b"ext4", b"/dev/sd%d", (b"rw",)),
    (b"nfs4", b"filer%d:/export/\xc3\xa4", (b"rw", b"vers=4.2")),
    (b"tmpfs", b"none", (b"rw", b"inode64")),
    (b"squashfs", b"/dev/loop%d", (b"ro",)),
    (b"overlay", b"overlay", (b"rw", b"upperdir=/m/1/u")),
    (b"fuse.sshfs", b"user:secret@host%d:/x", (b"rw", b"user_id=0")),
)


def random_mount(chance: random.Random, number: int) -> Mount:
    fs_type, source, options = chance.choice(_TYPES)
    source = source % (number % 7) if b"%" in source else source
    name = chance.choice((b"/m/%d", b"/m/%d/d e\n", b"/\xff%d", b"/m/\xc3\xbc%d", b"/m/%d" + b"x" * 200)) % number
    return Mount(number, 1, (8, chance.choice((number, 3))), b"/", name, (b"rw",), (), fs_type, source, options)


def random_outcome(chance: random.Random, errno_of: Optional[int] = None) -> Outcome:
    step = None if errno_of is None else chance.choice(list(Step)[:4])
    seconds = tuple(chance.random() * chance.choice((1e-5, 2.0)) for _ in range(4))
    usage = Usage(
        chance.choice((0, 1 << 20, 1 << 33)), chance.choice((0, 1 << 19)), chance.choice((0, 1 << 19)), 100, 9
    )
    return Outcome(
        step,
        errno_of,
        (*(None if chance.random() < 0.1 else each for each in seconds), None, None, None, None),
        chance.choice((None, 0o40755)),
        0,
        0,
        2,
        chance.choice((None, 0, 1000)),
        not_owner=chance.random() < 0.1,
        usage=chance.choice((None, usage, usage)),
        errnos=(*(chance.choice((None, None, None, errno.EACCES)) for _ in range(4)), None, None, None, None),
        alone=chance.random() < 0.1,
    )


def random_traffic(chance: random.Random) -> Traffic:
    def counted() -> dict[bytes, Operation]:
        kinds = chance.sample([b"READ", b"WRITE", b"GETATTR", b"COPY", b"26"], chance.randrange(4))
        return {kind: random_operation(chance, kind) for kind in kinds}

    return Traffic(counted(), chance.choice((None, counted())), chance.random() * 60)


def random_operation(chance: random.Random, kind: bytes) -> Operation:
    numbers = [chance.randrange(10 ** chance.randrange(1, 5)) for _ in range(8)]
    return Operation._make((kind, numbers[0] + 1, *numbers[1:], chance.choice((None, 3))))


def random_finding(chance: random.Random, number: int) -> Finding:
    if chance.random() < 0.03:
        line = BadLine("/etc/fstab", number, "it has no type", more=chance.randrange(3))
        return Finding(b"", None, Condition.UNPROBED, str(line), line=line)
    mount = random_mount(chance, number)
    condition = Condition.OK if chance.random() < 0.85 else chance.choice(list(Condition))
    if condition is Condition.MISSING:
        return Finding(mount.mount_point, None, condition, "not mounted")
    bad = None if condition is Condition.OK else chance.choice((None, errno.ENOSPC, errno.EIO))
    outcome = random_outcome(chance, bad) if chance.random() < 0.9 else None
    return Finding(
        mount.mount_point,
        mount,
        condition,
        "" if condition is Condition.OK else "for a reason",
        outcome,
        None if outcome is None else outcome.latency,
        remarks=("a remark", "é | remark") if chance.random() < 0.05 else (),
        traffic=random_traffic(chance) if mount.fs_type == b"nfs4" and chance.random() < 0.8 else None,
    )


def random_survey(chance: random.Random, most: int = 60) -> Survey:
    found = [random_finding(chance, number) for number in range(2, 2 + chance.randrange(most))]
    left = [LeftOut(random_mount(chance, 900 + number), chance.choice(list(Reason))) for number in range(5)]
    more = (
        {"notes": ("a note",), "excused": ("/x: it may be",), "uncompared": ("/y: x",)} if chance.random() < 0.5 else {}
    )
    return Survey(tuple(found), tuple(left), started=1e9, duration=0.1, timeout=5.0, **more)  # type: ignore[arg-type]


def random_policy(chance: random.Random, deep: bool = True) -> Policy:
    def maybe(*values: object) -> object:
        return chance.choice((None, None, *values))

    ranges = [Range.parse(word) for word in ("1", "@0:0.000001", "0.5:")]
    capacities = [parse_capacity(word) for word in ("90", "10:", "512K:", "1G:", "@1M:2M", "@0:50")]
    members: dict[str, object] = {name: maybe(*ranges) for name in ("warning", "critical")}
    for name in ("usage_warning", "usage_critical", "inodes_warning", "inodes_critical"):
        members[name] = maybe(*capacities)
    measured: dict[Part, Range] = {Measure.RTT: parse_time("20ms"), Measure.RETRANS: ranges[0]}
    members["step_warning"] = chance.choice(({}, {}, {Step.READ: ranges[0]}, {**measured, Step.READ: ranges[0]}))
    members["severity"] = chance.choice(
        ({}, {}, {}, {Condition.SHADOWED: State.WARNING}, {Condition.OK: State.WARNING})
    )
    if deep and chance.random() < 0.3:
        others = [None, random_policy(chance, deep=False), random_policy(chance, deep=False)]
        members["exception"] = lambda point: others[len(point) % 3]
        members["told"] = lambda point: ["x = 1"] * (len(point) % 3)
    return Policy(**members)  # type: ignore[arg-type]


def reports(result: Survey, policy: Policy) -> list[Report]:
    whole = judged(result, policy)
    kinds = [Presentation(verbosity, perfdata) for verbosity in range(4) for perfdata in ("summary", "steps")]
    return [*(plugin.report(whole, kind) for kind in kinds), *plugin.report_each(whole, kinds[0])]


def told(result: Survey, policy: Policy) -> tuple[object, ...]:
    """All that is told of a survey."""
    whole = judged(result, policy)
    return (
        whole.state,
        list(whole.judgements),
        jsontext.report(whole),
        summary.counts(whole.judgements),
        summary.slowest(whole.judgements),
        [parts.printed(each, 0) for each in reports(result, policy)],
    )


@pytest.mark.parametrize("seed", range(60))
def test_what_is_told_is_the_same_as_without_the_quick_look(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    result, policy = random_survey(chance), random_policy(chance)
    quick = told(result, policy)
    monkeypatch.setattr(policies, "_look", lambda policy: lambda finding: False)
    slow = told(result, policy)
    assert quick == slow


def test_the_quick_look_sees_healthy_mounts() -> None:
    chance = random.Random(1)
    healthy = [random_finding(chance, number) for number in range(1000)]
    healthy = [each for each in healthy if each.condition is Condition.OK and not each.remarks]
    for policy in (
        Policy(),
        Policy(warning=Range.parse("100"), critical=Range.parse("200"), step_critical={Step.READ: Range.parse("9")}),
        Policy(usage_warning=parse_capacity("101K:"), inodes_critical=parse_capacity("1:")),
        Policy(exception=lambda point: Policy(usage_critical=parse_capacity("100"))),
    ):
        judgements = policies.judge_all(Survey(tuple(healthy)), policy)
        assert isinstance(judgements, Judgements)
        assert len(judgements.healthy) > len(healthy) / 3
    assert len(policies.judge_all(Survey(tuple(healthy)), Policy()).notable) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "utf-16", "iso2022_jp", "nonsense"])
@pytest.mark.parametrize("limit", [130, 700, 1500, 4096, 9000])
def test_what_fits_is_the_same_as_if_all_lines_were_made(limit: int, encoding: str) -> None:
    for seed in range(4):
        chance = random.Random(seed)
        for report in reports(random_survey(chance, 120), random_policy(chance))[:12]:
            eager = report._replace(lines=list(report.lines))
            assert len(report.lines) == len(eager.lines)
            assert parts.printed(report, limit, encoding) == parts.printed(eager, limit, encoding)


def test_lines_that_do_not_fit_are_not_made() -> None:
    chance = random.Random(3)
    healthy = [random_finding(chance, number) for number in range(5000)]
    result = judged(Survey(tuple(each for each in healthy if each.condition is Condition.OK)), Policy())
    made: list[int] = []

    class Counted:
        def __init__(self, blocks: parts.Blocks) -> None:
            self._blocks = blocks

        def __len__(self) -> int:
            return len(self._blocks)

        def least(self, place: int) -> int:
            return self._blocks.least(place)

        def count(self, place: int) -> int:
            return self._blocks.count(place)

        def words(self, place: int) -> Sequence[str]:
            made.append(place)
            return self._blocks.words(place)

    report = plugin.report(result, Presentation(3))
    assert isinstance(report.lines, parts.Lines)
    text = parts.printed(report._replace(lines=parts.Lines(report.lines.first, Counted(report.lines.blocks))), 65536)
    assert len(text) <= 65536
    assert len(made) < 2000, len(made)


def next_pass(chance: random.Random, found: Sequence[Finding]) -> list[Finding]:
    """Most mounts answer as before, after another time; a few have other options, numbers or
    faults, have gone, or are other mounts with the same ID."""
    result = []
    for finding in found:
        outcome, mount = finding.outcome, finding.mount
        dice = chance.random()
        if outcome is not None:
            seconds = tuple(None if each is None else chance.random() * 1e-4 for each in outcome.seconds)
            outcome = outcome._replace(seconds=seconds)
            finding = finding._replace(outcome=outcome, latency=outcome.latency)
        if finding.traffic is not None:
            finding = finding._replace(traffic=random_traffic(chance))
        if dice < 0.03 and mount is not None:
            finding = random_finding(chance, mount.mount_id)
        elif dice < 0.06 and mount is not None:
            finding = finding._replace(mount=mount._replace(options=(b"ro",)))
        elif dice < 0.09 and outcome is not None:
            finding = finding._replace(outcome=random_outcome(chance), diagnosis=chance.choice(("", "for that")))
        if dice < 0.97:
            result.append(finding)
    return result


@pytest.mark.parametrize("seed", range(10))
def test_json_from_pieces_of_the_last_pass_is_the_same_as_made_anew(seed: int) -> None:
    chance = random.Random(seed)
    memory: jsontext.Memory = {}
    found: Sequence[Finding] = random_survey(chance, 120).findings
    policy = random_policy(chance) if seed % 2 else Policy()
    for _ in range(20):
        result = judged(Survey(tuple(found), started=Epoch(1e9), duration=0.1, timeout=5.0), policy)
        assert jsontext.report(result, memory) == jsontext.report(result)
        found = next_pass(chance, found)


def test_a_healthy_mount_costs_no_new_pieces() -> None:
    chance = random.Random(2)
    found = [each for each in random_survey(chance, 120).findings if each.condition is Condition.OK]
    memory: jsontext.Memory = {}
    jsontext.report(judged(Survey(tuple(found)), Policy()), memory)
    before = dict(memory)
    later = [each._replace(latency=None if each.latency is None else 0.5) for each in found]
    jsontext.report(judged(Survey(tuple(later)), Policy()), memory)
    assert len(memory) > len(found) / 3
    assert all(memory[key].middle is pieces.middle for key, pieces in before.items())
