"""--unusual in the daemon: what it learns, the file that keeps it, the servers that it asks."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional, cast

import pytest

from check_mounts.clocks import Monotonic
from check_mounts.daemon import habits as module
from check_mounts.daemon.complaints import Complaints
from check_mounts.daemon.diary import Diary
from check_mounts.daemon.habits import Habits
from check_mounts.daemon.home import Home
from check_mounts.judging import courses
from check_mounts.judging.courses import Courses, Key
from check_mounts.judging.past import DAY
from check_mounts.judging.policy import Policy, judged
from check_mounts.judging.thresholds import Range
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.options import config_text, settled, values
from check_mounts.options.understood import Options
from check_mounts.probing import operations
from check_mounts.probing.operations import Counters, Reading
from check_mounts.report import jsontext, metrics
from check_mounts.slowness import Asked, Unusual
from check_mounts.system.logs import Log
from check_mounts.traffic import Operation
from tests.conftest import Plugin, until
from tests.daemon import Daemon as Service
from tests.daemon import daemon
from tests.test_diagnosis import Rpc, answer, closed_port

__all__ = ["daemon"]

POLICY = Policy(unusual=5.0)
POINT, SOURCE = b"/data", b"nas:/data"


def mount(port: int, point: bytes = POINT) -> Mount:
    options = (b"vers=4.2", b"proto=tcp", b"addr=127.0.0.1", b"port=%d" % port)
    return Mount(30, 1, (0, 50), b"/", point, (b"rw",), (), b"nfs4", SOURCE, (b"rw", *options))


class Lines(list[str]):
    """A log."""

    def write(self, priority: int, line: str) -> None:
        self.append(line)


class Anywhere:
    """A home whose files cannot hang, unless ``why`` says so."""

    why: Optional[str] = None

    def may_hang(self, option: str) -> Optional[str]:
        return self.why


class Wanted:
    """What the options say of it."""

    def __init__(self, learns: bool = True, diagnosis: bool = True) -> None:
        self.service, self.settings = self, self
        self.learns, self.diagnosis = learns, diagnosis


class Kernel:
    """Counters and a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.count, self.time = 1e5, 1000, 3000
        monkeypatch.setattr(operations, "read", self.read)
        monkeypatch.setattr(module, "monotonic", lambda: Monotonic(self.now))

    def work(self, seconds: float, times: int = 100, span: float = 60.0) -> None:
        self.now += span
        self.count += times
        self.time += int(times * seconds * 1000)

    def read(self, file: str) -> Reading:
        done = Operation(b"READ", self.count, self.count, 0, 0, self.count * 4096, 0, self.time, self.time, 0)
        return Reading(Monotonic(self.now), {POINT: Counters(SOURCE, int(self.now), {b"READ": done})})


class Daemon:
    """The part of a daemon that has habits."""

    def __init__(self, path: Path, wanted: Optional[Wanted] = None, home: Optional[Anywhere] = None) -> None:
        self.log = Lines()
        diary = Diary(cast(Log, self.log))
        self.habits = Habits(str(path), cast(Home, home or Anywhere()), Complaints(diary), diary)
        self.serve(wanted or Wanted())

    def serve(self, wanted: Wanted) -> None:
        self.habits.serve(cast(Options, wanted))

    def step(self) -> None:
        for task in self.habits.tasks:
            task.step()

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on with its tasks until something is so."""

        def holds() -> bool:
            self.step()
            return condition()

        until(holds)

    def ready(self) -> None:
        """Wait until the file was read."""
        self.until(lambda: self.habits._courses is not None)

    def look(self, mount: Mount) -> Finding:
        self.habits.look([mount], POLICY)
        return self.told(mount)

    def told(self, mount: Mount) -> Finding:
        return self.habits.told(Survey((Finding(POINT, mount, Condition.OK, latency=0.01),))).findings[0]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "usual"


def learnt() -> bytes:
    """What a daemon has learnt in ten days."""
    result = Courses()
    done = {b"READ": Operation(b"READ", 1000, 1000, 0, 0, 4096 * 1000, 0, 3000, 3000, 0)}
    for _ in range(int(10 * DAY / 300)):
        result.take(300.0, {Key(SOURCE, POINT): done}, lambda point: 5.0)
    return result.told()


# 3 ms, as well as the past knows it.
LEARNT = learnt()


def kept(place: Path, content: bytes) -> Path:
    place.parent.mkdir(mode=0o755, exist_ok=True)
    place.write_bytes(content)
    return place


def slowed(daemon: Daemon, kernel: Kernel, mount: Mount) -> Finding:
    """The finding after three passes of slow operations."""
    daemon.ready()
    daemon.look(mount)
    for _ in range(3):
        kernel.work(0.18)
        found = daemon.look(mount)
    return found


# -- what is told


def test_a_slow_operation_and_where_its_time_is(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT))
    with contextlib.closing(Rpc(answer)) as rpc:
        at = mount(rpc.port)
        assert slowed(daemon, kernel, at).unusual is None  # the server is being asked
        daemon.until(lambda: daemon.habits.take_news())
        assert rpc.connections == 5
        found = daemon.told(at)
        assert found.condition is Condition.OK and found.unusual is not None
        assert not daemon.habits.take_news()
        (judgement,) = judged(Survey((found,)), POLICY).judgements
        assert (judgement.condition, judgement.state) == (Condition.SLOW, State.WARNING)
        assert judgement.words.startswith("slow: READ 180 ms, usually 2.8 ms; connect ")
        assert judgement.words.endswith(" ms: its disks")
        critical = POLICY._replace(severity={Condition.SLOW: State.CRITICAL})
        assert judged(Survey((found,)), critical).state is State.CRITICAL
        for _ in range(3):
            kernel.work(0.003)
            found = daemon.look(at)
        assert found.unusual is None
    daemon.habits.close()


def test_without_diagnosis_nobody_is_asked(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT), Wanted(diagnosis=False))
    with contextlib.closing(Rpc(answer)) as rpc:
        found = slowed(daemon, kernel, mount(rpc.port))
        assert rpc.connections == 0
    assert found.unusual is not None and found.unusual.words == "READ 180 ms, usually 2.8 ms"


@pytest.mark.parametrize("options", [(b"proto=udp",), (b"proto=rdma",)])
def test_a_server_that_tcp_cannot_ask(kernel: Kernel, place: Path, options: tuple[bytes, ...]) -> None:
    daemon = Daemon(kept(place, LEARNT))
    at = mount(2049)._replace(super_options=(b"rw", b"addr=127.0.0.1", *options))
    found = slowed(daemon, kernel, at)
    assert found.unusual is not None and found.unusual.words == "READ 180 ms, usually 2.8 ms"


def test_a_server_that_refuses(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT))
    at = mount(closed_port())
    slowed(daemon, kernel, at)
    daemon.until(lambda: daemon.habits.take_news())
    found = daemon.told(at).unusual
    assert found is not None and found.words == "READ 180 ms, usually 2.8 ms"


def test_other_conditions_are_not_overruled(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT), Wanted(diagnosis=False))
    at = mount(2049)
    slowed(daemon, kernel, at)
    hung = Finding(POINT, at, Condition.TIMED_OUT)
    assert daemon.habits.told(Survey((hung,))).findings[0].unusual is None


def test_a_mount_that_is_not_judged(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT), Wanted(diagnosis=False))
    at = mount(2049)
    assert slowed(daemon, kernel, at).unusual is not None
    kernel.work(0.18)
    daemon.habits.look([at], Policy(unusual=5.0, exception=lambda point: Policy()))
    assert daemon.told(at).unusual is None


def test_a_reload_ends_it(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, LEARNT), Wanted(diagnosis=False))
    at = mount(2049)
    assert slowed(daemon, kernel, at).unusual is not None
    daemon.serve(Wanted(learns=False))
    assert daemon.told(at).unusual is None
    assert daemon.look(at).traffic is not None  # that is told as before


def test_without_the_option_there_is_no_file(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(place, Wanted(learns=False))
    assert slowed_without_file(daemon, kernel).unusual is None
    daemon.habits.close()
    assert not place.parent.exists()


def slowed_without_file(daemon: Daemon, kernel: Kernel) -> Finding:
    daemon.step()
    for _ in range(4):
        kernel.work(0.18)
        found = daemon.look(mount(2049))
    return found


# -- the file


def test_the_next_daemon_goes_on(kernel: Kernel, place: Path) -> None:
    daemon, at = Daemon(place), mount(2049)
    daemon.ready()
    for _ in range(5):
        daemon.look(at)
        kernel.work(0.003)
    daemon.habits.close()
    assert courses.remembered(place.read_bytes()).age == 240
    assert (place.stat().st_mode & 0o777, os.listdir(place.parent)) == (0o640, ["usual"])
    other = Daemon(place)
    other.ready()
    other.look(at)
    kernel.work(0.003)
    other.look(at)
    other.habits.close()
    assert courses.remembered(place.read_bytes()).age == 300
    assert other.log == []


@pytest.mark.parametrize("content", [LEARNT[:-9], LEARNT.replace(b"usual 1 ", b"usual 9 "), LEARNT[:25]])
def test_a_damaged_file_is_told_of_once(kernel: Kernel, place: Path, content: bytes) -> None:
    daemon = Daemon(kept(place, content))
    daemon.ready()
    (line,) = daemon.log
    assert line.startswith(f"Learning anew what is usual on mounts: {place}: it is ")
    daemon.look(mount(2049))
    daemon.habits.close()
    assert courses.remembered(place.read_bytes()).age == 0
    assert len(daemon.log) == 1


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_what_a_crash_may_leave_is_nothing(kernel: Kernel, place: Path, content: bytes) -> None:
    daemon = Daemon(kept(place, content))
    daemon.ready()
    daemon.habits.close()
    assert place.read_bytes().startswith(courses.BEGINNING)


def test_a_file_of_somebody_else_is_not_replaced(kernel: Kernel, place: Path) -> None:
    daemon = Daemon(kept(place, b"my notes"))
    daemon.until(lambda: bool(daemon.log))
    daemon.habits.close()
    assert daemon.log == [f"Cannot read {place}: it is not a file that check_mounts has written"]
    assert place.read_bytes() == b"my notes"


def test_a_link_is_not_followed(kernel: Kernel, place: Path, tmp_path: Path) -> None:
    place.parent.mkdir(mode=0o755)
    place.symlink_to(tmp_path / "elsewhere")
    daemon = Daemon(place)
    daemon.until(lambda: bool(daemon.log))
    assert daemon.log == [f"Cannot read {place}: it is a symbolic link"]


def test_what_may_hang_is_not_touched_and_nothing_is_lost(kernel: Kernel, place: Path) -> None:
    home = Anywhere()
    home.why = "nfs is mounted over it"
    daemon = Daemon(kept(place, LEARNT), home=home)
    daemon.step()
    assert daemon.log == [f"Cannot read {place}: nfs is mounted over it"]
    daemon.habits.close()
    assert place.read_bytes() == LEARNT


def test_what_is_no_file_is_refused(kernel: Kernel, place: Path) -> None:
    place.parent.mkdir(mode=0o755)
    os.mkfifo(place)
    daemon = Daemon(place)
    daemon.until(lambda: bool(daemon.log))
    assert daemon.log == [f"Cannot read {place}: it is not a regular file"]
    assert slowed_without_file(daemon, kernel).unusual is None
    daemon.habits.close()


# -- the option


def test_a_single_run_cannot_know_what_is_usual(plugin: Plugin) -> None:
    result = plugin("--unusual")
    assert (result.code, result.verdict) == (3, "MOUNTS UNKNOWN - argument --unusual: goes with --daemon only")


@pytest.mark.parametrize(
    ("word", "factor"), [("yes", 5.0), ("no", 0.0), ("0", 0.0), ("2", 2.0), ("7.5", 7.5), ("10000", 10000.0)]
)
def test_factors(word: str, factor: float) -> None:
    assert values.unusual(word) == factor


@pytest.mark.parametrize("word", ["", "1", "1.9", "-5", "inf", "nan", "5x", "10001", "always", "\u0665"])
def test_no_factors(word: str) -> None:
    with pytest.raises(ValueError, match="is not a number from 2 to 10000, yes or no"):
        values.unusual(word)


def test_a_section_says_otherwise() -> None:
    found = config_text.parse(b'[mount "/a"]\nunusual = 20\n[mount "/b"]\nunusual = no\n', "/f")
    general = Policy(unusual=5.0)
    factors = [found.for_mount(point).policy(general).unusual for point in (b"/a", b"/b", b"/c")]
    assert factors == [20.0, 0.0, 5.0]


@pytest.mark.parametrize(
    ("text", "learns"), [("", False), ("[check_mounts]\nunusual = yes\n", True), ('[mount "/a"]\nunusual = 5\n', True),
                         ('[mount "/a"]\nunusual = no\n', False)],
)  # fmt: skip
def test_the_daemon_learns_if_any_mount_is_judged(tmp_path: Path, text: str, learns: bool) -> None:
    (tmp_path / "conf").write_text(text)
    given = {"daemon": True, "config": str(tmp_path / "conf"), "cache": str(tmp_path / "run" / "status")}
    service = settled.understand(given).service
    assert service is not None
    assert (service.learns, service.usual) == (learns, f"{tmp_path}/run/status.usual")
    host = settled.understand({"daemon": True, "config": "/dev/null"}).service
    assert host is not None and host.usual == "/var/lib/check_mounts/usual"


def test_what_is_unusual_is_a_remark_beside_a_threshold() -> None:
    policy = Policy(critical=Range.parse("0.5"), unusual=5.0)
    slow = Finding(POINT, mount(1), Condition.OK, latency=1.0, unusual=Unusual("READ", 0.18, 0.003))
    (judgement,) = judged(Survey((slow,)), policy).judgements
    assert (judgement.state, judgement.words) == (State.CRITICAL, "slow: 1.000 s (critical range 0.5)")
    assert judgement.finding.remarks == ("READ 180 ms, usually 3 ms",)


def test_the_json_says_it_in_numbers() -> None:
    slow = Unusual("READ", 0.18, 0.003, asked=Asked(0.0003, 0.0004))
    survey = Survey((Finding(POINT, mount(1), Condition.OK, latency=0.1, unusual=slow),))
    found = json.loads(jsontext.report(judged(survey, POLICY)))["findings"][0]
    assert found["condition"] == "slow"
    assert found["unusual"] == {
        "operation": "READ", "seconds": 0.18, "usual": 0.003, "connect": 0.0003, "null": 0.0004, "where": "disks",
    }  # fmt: skip


def test_metrics_have_both_times_while_it_lasts() -> None:
    slow = Finding(POINT, mount(1), Condition.OK, latency=0.1, unusual=Unusual("READ", 0.18, 0.003))
    passes = metrics.Passes(1, 0.0, 0.1, 60.0, 0, {})
    labels = '{device="nas:/data",fstype="nfs4",mountpoint="/data"}'
    found = metrics.render(judged(Survey((slow,)), POLICY), passes).decode()
    assert f"\ncheck_mounts_mount_unusual_seconds{labels} 0.18\n" in found
    assert f"\ncheck_mounts_mount_usual_seconds{labels} 0.003\n" in found
    healthy = metrics.render(judged(Survey((slow._replace(unusual=None),)), POLICY), passes).decode()
    assert "usual_seconds{" not in healthy


def test_a_daemon_keeps_what_it_has_learnt(daemon: Service) -> None:
    daemon.start("--unusual")
    daemon.until_checked(3)
    assert daemon.stop() == 0
    data = (daemon.base / "run" / "status.usual").read_bytes()
    assert data.startswith(courses.BEGINNING) and courses.remembered(data).told() == data
