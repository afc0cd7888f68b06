"""What programs did on NFS mounts: thresholds, and what all outputs say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.clocks import Monotonic
from check_mounts.daemon.tally import Tally
from check_mounts.judging.policy import Part, Policy, judge, judged
from check_mounts.judging.thresholds import Range
from check_mounts.judging.units import in_numbers, parse_share, parse_time
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.options import command_line, config_text, overruled, settled, values
from check_mounts.options.refusals import ConfigError, UsageError
from check_mounts.outcome import Outcome, Step
from check_mounts.probing import operations
from check_mounts.probing.operations import Reading
from check_mounts.report import details, jsontext, plugin
from check_mounts.report.plugin import Presentation
from check_mounts.traffic import FEWEST, Measure, Measured, Operation, Traffic, by_kind, time_words, total
from tests.conftest import Mounts, Plugin
from tests.mountstats import NAMES, nfs, numbers

MOUNT = Mount(7, 1, (0, 40), b"/", b"/home", (b"rw",), (), b"nfs4", b"filer1:/home", (b"rw", b"vers=4.2"))


def operation(name: bytes, *columns: int) -> Operation:
    return Operation._make((name, *columns))


def traffic(**kinds: tuple[int, ...]) -> Traffic:
    moved = {name.encode(): operation(name.encode(), *columns) for name, columns in kinds.items()}
    return Traffic(moved, moved, 60.0)


def finding(done: Traffic, condition: Condition = Condition.OK) -> Finding:
    outcome = Outcome(seconds=(0.001, 0.001, 0.001, 0.001, None, None, None, None))
    return Finding(b"/home", MOUNT, condition, "", outcome, 0.004, traffic=done)


SLOW = traffic(READ=numbers(412, 74160, 30, 5), GETATTR=numbers(9, 90000), COPY=numbers(50, 900000))


# -- what is measured


def test_the_slowest_kind_counts() -> None:
    assert SLOW.measured(Measure.RTT) == Measured(0.18, b"READ", 412)
    # GETATTR was done too rarely, and a COPY lasts as long as what it copies.
    assert SLOW.measured(Measure.RETRANS) == Measured(100 * 30 / 471, b"", 471)
    assert SLOW.measured(Measure.TIMEOUTS) == Measured(100 * 5 / 471, b"", 471)


@pytest.mark.parametrize("measure", list(Measure))
def test_few_operations_say_nothing(measure: Measure) -> None:
    few = traffic(READ=numbers(FEWEST - 1, 99999, 5, 5))
    assert few.measured(measure) is None
    assert traffic(READ=numbers(FEWEST, 99999, 5, 5)).measured(measure) is not None
    assert Traffic(few.counters, None, 0.0).measured(measure) is None
    assert traffic().measured(measure) is None


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(*[st.integers(0, 2**63)] * 9), max_size=8))
def test_the_kinds_add_up_to_the_whole(rows: dict[str, tuple[int, ...]]) -> None:
    every = {name.encode(): operation(name.encode(), *columns) for name, columns in rows.items()}
    parts, whole = list(by_kind(every)), total(every.values())
    assert len(parts) <= 5
    for field in ("operations", "timeouts", "bytes_sent", "bytes_received", "queue", "rtt", "execute"):
        assert sum(getattr(each, field) for each in parts) == getattr(whole, field)
    assert sum(each.retransmissions for each in parts) == whole.retransmissions
    assert whole.retransmissions == sum(each.retransmissions for each in every.values())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 ms"),
        (0.00312, "3.1 ms"),
        (0.0994, "99.4 ms"),
        (0.18, "180 ms"),
        (0.9994, "999 ms"),
        (2.413, "2.413 s"),
    ],
)
def test_times_as_people_read_them(seconds: float, words: str) -> None:
    assert time_words(seconds) == words


# -- ranges


@pytest.mark.parametrize(
    ("word", "start", "end", "inverted", "plain"),
    [
        ("50ms", 0, 0.05, False, "0.05"),
        ("0.05", 0, 0.05, False, "0.05"),
        ("2s", 0, 2, False, "2"),
        (".5s", 0, 0.5, False, "0.5"),
        ("1.5ms:", 0.0015, float("inf"), False, "0.0015:"),
        ("@5ms:0.5s", 0.005, 0.5, True, "@0.005:0.5"),
        ("~:50ms", float("-inf"), 0.05, False, "~:0.05"),
        ("0", 0, 0, False, "0"),
    ],
)
def test_ranges_of_times(word: str, start: float, end: float, inverted: bool, plain: str) -> None:
    found = parse_time(word)
    assert found == Range(word, start, end, inverted)
    assert in_numbers(found) == plain


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("rtt=50", "'50' is not a range: write 50ms or 50s"),
        ("rtt=1:2", "'1:2' is not a range: write 1ms or 1s"),
        ("exec=5%", "'5%' is not a range: '5%' is not a time such as 50ms or 0.05s"),
        ("queue=-5ms", "'-5ms' is not a range: '-5ms' is not a time such as 50ms or 0.05s"),
        ("rtt=5 ms", "'5 ms' is not a range: '5 ms' is not a time such as 50ms or 0.05s"),
        ("rtt=", "'' is not a range: it is empty"),
        ("rtt=50ms:5ms", "'50ms:5ms' is not a range: its start is greater than its end"),
        ("rtt=" + "9" * 400 + "s", "the number is too great"),
        ("retrans=5ms", "'5ms' is not a range: '5ms' is not a percentage such as 5%"),
        ("timeouts=-1", "'-1' is not a range: '-1' is not a percentage such as 5%"),
        ("retrans=x%", "'x%' is not a range: 'x%' is not a percentage such as 5%"),
        ("retrans=%", "'%' is not a range: '%' is not a percentage such as 5%"),
        (
            "rrt=5ms",
            "'rrt=5ms': the steps are look-up, statfs, statx, read, create, write, verify, remove; the measures of a "
            "daemon are rtt, exec, queue, retrans, timeouts; the nearest is 'rtt'",
        ),
        ("=5ms", "'=5ms': the steps are "),
    ],
)
def test_nonsense_is_refused(word: str, why: str) -> None:
    with pytest.raises(ValueError) as raised:
        values.limit(word)
    assert why in str(raised.value)


def test_percentages() -> None:
    assert values.limit("retrans=5%") == (Measure.RETRANS, Range("5%", 0, 5, False))
    assert values.limit("TIMEOUTS=@1:2") == (Measure.TIMEOUTS, Range("@1:2", 1, 2, True))
    assert parse_share("250%").end == 250  # one request can be sent again several times


def test_a_run_without_a_daemon_refuses_them() -> None:
    for name, short, word in (("warning", "-w", "rtt=50ms"), ("critical", "-c", "retrans=5%")):
        with pytest.raises(UsageError, match=rf"argument {short}/--{name}: '{word}' goes with --daemon only"):
            settled.understand(command_line.given([f"--{name}={word}"]))
    settled.understand(command_line.given(["-w", "read=1"]))
    assert settled.understand(command_line.given(["--daemon", "-w", "rtt=50ms"])).policy.step_warning


@pytest.mark.root
def test_a_file_may_have_them_for_the_daemon(plugin: Plugin, mounts: Mounts, tmp_path: Path) -> None:
    point = mounts.tmpfs("a")
    file = tmp_path / "check_mounts.conf"
    file.write_text(f'[check_mounts]\nwarning = rtt=50ms\n[mount "{point}"]\ncritical = retrans=5%\n')
    assert plugin("--config", str(file)).verdict.startswith("MOUNTS OK - 1 mount checked")


SECTIONS = b"""[mount "/home"]
warning = 2
warning = rtt=50ms
warning = READ=0.5
critical = retrans=5%
[mount "/home"]
warning = rtt=20ms
"""


def test_sections_have_them() -> None:
    said = config_text.parse(SECTIONS, "/f")
    general = Policy(step_warning={Step.STATX: Range.parse("1"), Measure.QUEUE: parse_time("1ms")})
    found = said.for_mount(b"/home").policy(general)
    assert found.warning == Range.parse("2")
    measured = {Measure.QUEUE: parse_time("1ms"), Measure.RTT: parse_time("20ms")}
    assert found.step_warning == {Step.STATX: Range.parse("1"), Step.READ: Range.parse("0.5")} | measured
    assert found.step_critical == {Measure.RETRANS: parse_share("5%")}
    assert said.for_mount(b"/other").policy(general) == general
    with pytest.raises(ConfigError, match="line 3: duplicate key 'warning'"):
        config_text.parse(b'[mount "/home"]\nwarning = rtt=5ms\nwarning = rtt=6ms\n', "/f")


def test_the_command_line_wins_part_by_part() -> None:
    said = config_text.parse(SECTIONS, "/f")
    left = overruled.without(said, {"warning": values.limit("rtt=1ms") and [values.limit("rtt=1ms")]})
    assert set(left.for_mount(b"/home").limits) == {"warning", ("warning", Step.READ), ("critical", Measure.RETRANS)}
    assert "warning" in left.sections[0].origins and "warning" not in left.sections[1].origins
    left = overruled.without(said, {"warning": [values.limit("1")]})
    assert "warning" not in left.for_mount(b"/home").limits
    assert ("warning", Measure.RTT) in left.for_mount(b"/home").limits


def test_the_rules_of_a_mount_say_them(tmp_path: Path) -> None:
    file = tmp_path / "check_mounts.conf"
    file.write_bytes(SECTIONS.replace(b"/home", b"/"))
    options = settled.understand(command_line.given(["--daemon", "--config", str(file), "-c", "3"]))
    told = options.policy.told(b"/")
    assert f"warning = 2, rtt=20ms, read=0.5 ({file} line 2, {file} line 7)" in told
    assert f"critical = 3, retrans=5% (command line, {file} line 5)" in told


def test_a_warning_that_could_never_be_is_refused() -> None:
    with pytest.raises(UsageError, match="'rtt=50ms' could never be WARNING, because all of it is CRITICAL already"):
        settled.understand(command_line.given(["--daemon", "-w", "rtt=50ms", "-c", "rtt=20ms"]))


# -- judged


def policy(warning: Mapping[Measure, str] = {}, critical: Mapping[Measure, str] = {}) -> Policy:
    bounds: list[dict[Part, Range]] = [
        {measure: parse_time(word) if measure.is_time else parse_share(word) for measure, word in each.items()}
        for each in (warning, critical)
    ]
    return Policy(step_warning=bounds[0], step_critical=bounds[1])


@pytest.mark.parametrize(
    ("bounds", "state", "words"),
    [
        (
            policy({Measure.RTT: "50ms"}),
            State.WARNING,
            "slow: READ rtt 180 ms, the mean of 412 operations (warning range 50ms)",
        ),
        (
            policy({Measure.RTT: "50ms"}, {Measure.EXEC: "0.1"}),
            State.CRITICAL,
            "slow: READ exec 180 ms, the mean of 412 operations (critical range 0.1)",
        ),
        (
            policy({Measure.RETRANS: "5%"}),
            State.WARNING,
            "slow: 6.4 % of 471 operations retransmitted (warning range 5%)",
        ),
        (policy({Measure.TIMEOUTS: "1"}), State.WARNING, "slow: 1.1 % of 471 operations timed out (warning range 1)"),
        (policy({Measure.RTT: "200ms", Measure.RETRANS: "7%"}), State.OK, "ok in 0.004 s"),
        (policy({Measure.QUEUE: "0"}), State.OK, "ok in 0.004 s"),
    ],
)
def test_a_mount_outside_of_its_range_is_slow(bounds: Policy, state: State, words: str) -> None:
    found = judge(finding(SLOW), bounds)
    assert (found.condition, found.state, found.words) == (
        Condition.OK if state is State.OK else Condition.SLOW,
        state,
        words,
    )
    whole = judged(Survey((finding(SLOW),)), bounds)
    assert [each.words for each in whole.judgements] == [words]
    assert whole.state is state
    # The finding itself is ok, and another condition stays what it is.
    assert found.finding.condition is Condition.OK
    assert judge(finding(SLOW, Condition.DENIED), bounds).condition is Condition.DENIED


def test_severity_replaces_the_state() -> None:
    bounds = policy({Measure.RTT: "50ms"})._replace(severity={Condition.SLOW: State.CRITICAL})
    assert judge(finding(SLOW), bounds).state is State.CRITICAL


def test_a_mount_without_numbers_is_not_judged() -> None:
    bounds = policy({Measure.RTT: "0"}, {Measure.RETRANS: "@0:"})
    for done in (None, Traffic(), traffic(), traffic(READ=numbers(9, 9999))):
        assert judge(finding(SLOW)._replace(traffic=done), bounds).condition is Condition.OK


# -- told


def test_perfdata() -> None:
    bounds = policy({Measure.RTT: "50ms", Measure.RETRANS: "5%"}, {Measure.RTT: "0.5s"})
    report = plugin.report(judged(Survey((finding(SLOW),)), bounds), Presentation(perfdata="steps"))
    own = [each.words for each in report.perfdata if each.words.split("=")[0].strip("'").startswith("/home ")]
    assert own[4:] == [
        "'/home rtt'=0.180000s;0.05;0.5",
        "'/home exec'=0.180000s",
        "'/home queue'=0.000000s",
        "'/home retrans'=6.369%;5",
        "'/home timeouts'=1.062%",
    ]
    for kind in ("summary", "mounts", "usage", "none"):
        report = plugin.report(judged(Survey((finding(SLOW),)), bounds), Presentation(perfdata=kind))
        assert not any("rtt" in each.words for each in report.perfdata)


@pytest.mark.parametrize("word", [each.word for each in Measure])
def test_no_mount_point_takes_the_label_of_a_number(word: str) -> None:
    assert plugin.label(b"/home " + word.encode()) == f"/home\\040{word}"


def test_json() -> None:
    value = json.loads(jsontext.report(judged(Survey((finding(SLOW),)), Policy())))
    (told,) = value["findings"]
    read = told["traffic"]["between_looks"]["READ"]
    assert (read["operations"], read["retransmissions"], read["timeouts"], read["rtt"]) == (412, 30, 5, 74.16)
    assert set(told["traffic"]["between_looks"]) == {"READ", "GETATTR", "other"}
    assert (told["traffic"]["seconds"], told["traffic"]["rtt"]) == (60.0, 0.18)
    first = finding(Traffic(SLOW.counters))  # of the first interval nothing is known
    (told,) = json.loads(jsontext.report(judged(Survey((first,)), Policy())))["findings"]
    assert (told["traffic"]["seconds"], told["traffic"]["between_looks"], told["traffic"]["rtt"]) == (None, None, None)
    assert told["traffic"]["since_mount"]["READ"]["operations"] == 412
    (told,) = json.loads(jsontext.report(judged(Survey((first._replace(traffic=None),)), Policy())))["findings"]
    assert told["traffic"] is None
    (told,) = json.loads(jsontext.report(judged(Survey((first,)), Policy()), brief=True))["findings"]
    assert "traffic" not in told


def test_the_line_for_people() -> None:
    lines = list(details.details(judged(Survey((finding(SLOW),)), Policy()), 3))
    assert lines[-1].words == (
        "  programs: 412 READ (rtt 180 ms), 9 GETATTR (rtt 10.000 s), 50 other (rtt 18.000 s) in 60 s, "
        "30 retransmissions, 5 timeouts"
    )
    idle = list(details.details(judged(Survey((finding(traffic()),)), Policy()), 3))
    assert idle[-1].words == "  programs: no operation in 60 s"
    unknown = list(details.details(judged(Survey((finding(Traffic(SLOW.counters)),)), Policy()), 3))
    assert not any("programs" in each.words for each in unknown)


# -- the daemon's looks


class Kernel:
    """Stands for the file, and for the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.data, self.looks = 1000.0, b"", 0
        monkeypatch.setattr(operations, "read", self.read)

    def read(self, file: str) -> operations.Reading:
        self.looks += 1
        return operations.parse(self.data, Monotonic(self.now))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def told_by(tally: Tally, *findings: Finding) -> list[Traffic]:
    found = tally.told(Survey(findings)).findings
    return [each.traffic for each in found if each.traffic is not None]


def test_the_daemon_tells_what_was_done_between_two_looks(kernel: Kernel) -> None:
    tally, plain = Tally(), finding(traffic())._replace(traffic=None)
    kernel.data = nfs(b"/home", 500, {"READ": numbers(1000, 3000)}, b"filer1:/home")
    tally.look([MOUNT])
    (first,) = told_by(tally, plain)
    assert (first.moved, first.counters[b"READ"].operations) == (None, 1000)
    kernel.now += 60
    kernel.data = nfs(b"/home", 560, {"READ": numbers(1412, 77160)}, b"filer1:/home")
    tally.look([MOUNT])
    (second,) = told_by(tally, plain)
    assert second.seconds == 60.0
    assert second.measured(Measure.RTT) == Measured(0.18, b"READ", 412)
    # A remount: nothing is known of its first interval, and then of its own.
    kernel.now += 60
    kernel.data = nfs(b"/home", 20, {"READ": numbers(5000, 900000)}, b"filer1:/home")
    tally.look([MOUNT])
    assert [each.moved for each in told_by(tally, plain)] == [None]
    kernel.now += 60
    kernel.data = nfs(b"/home", 80, {"READ": numbers(5020, 900020)}, b"filer1:/home")
    tally.look([MOUNT])
    assert [each.measured(Measure.RTT) for each in told_by(tally, plain)] == [Measured(0.001, b"READ", 20)]


def test_only_its_own_mount_has_the_numbers(kernel: Kernel) -> None:
    tally, plain = Tally(), finding(traffic())._replace(traffic=None)
    kernel.data = nfs(b"/home", 500, {"READ": numbers(1000, 3000)}, b"filer1:/home")
    tally.look([MOUNT])
    assert len(told_by(tally, plain)) == 1
    assert told_by(tally, plain._replace(mount=MOUNT._replace(source=b"filer2:/home"))) == []
    assert told_by(tally, plain._replace(mount=MOUNT._replace(fs_type=b"ext4"))) == []
    assert told_by(tally, plain._replace(condition=Condition.SHADOWED)) == []
    assert told_by(tally, plain._replace(mount=None, condition=Condition.MISSING)) == []
    assert told_by(tally, plain._replace(mount_point=b"/elsewhere")) == []


def test_without_nfs_nothing_is_read(kernel: Kernel) -> None:
    tally, plain = Tally(), Survey((finding(traffic())._replace(traffic=None),))
    tally.look([MOUNT._replace(fs_type=b"ext4"), MOUNT._replace(fs_type=b"tmpfs")])
    assert kernel.looks == 0
    assert tally.told(plain) is plain


@given(
    st.lists(
        st.tuples(
            st.floats(1, 600), st.integers(0, 500), st.integers(0, 50), st.sampled_from(["", "remount", "wrap", "gone"])
        ),
        max_size=30,
    )
)
def test_no_number_is_greater_than_what_happened(steps: list[tuple[float, int, int, str]]) -> None:
    """Whatever happens to the counters between two looks: a mean is never above that of what was
    done, and there are no more operations."""
    reading: Optional[Reading] = None
    now, age, operations_done, rtt = 1000.0, 100.0, 0, 0
    for seconds, more, each, event in steps:
        now, age = now + seconds, age + seconds
        operations_done, rtt = operations_done + more, rtt + more * each
        if event == "remount":
            age, operations_done, rtt = seconds / 2, more, more * each
        elif event == "wrap":
            operations_done %= 7  # as unsigned long of 32 bits would; times have 64
        data = nfs(b"/home", int(age), {"READ": numbers(operations_done, rtt)})
        new = operations.parse(b"" if event == "gone" else data, Monotonic(now))
        moved = {} if reading is None else operations.delta(reading, new)
        for done in moved.get(b"/home", {}).values():
            assert done.operations <= more and done.rtt <= more * each
        reading = new
