"""The metrics as a real node_exporter hands them on, and what is made of them: alerts, the
dashboard.

The programs of Prometheus are in .venv/monitoring/root, where `make test` unpacks them.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from check_mounts import __version__, filesystems, text
from check_mounts.clocks import Epoch
from check_mounts.ghost import Ghost, Holder
from check_mounts.judging.drilling import Pretended, rehearsed
from check_mounts.judging.judgements import Judgement, answered
from check_mounts.judging.policy import Policy, judged
from check_mounts.judging.usage import numbers
from check_mounts.model import BadLine, Condition, Finding, Mount, State, Survey
from check_mounts.outcome import Outcome, Usage
from check_mounts.report import inventory, metrics
from check_mounts.slowness import Unusual
from check_mounts.traffic import Operation, Traffic
from check_mounts.using.ghosts import findings as of_ghosts
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, remaining, until
from tests.daemon import Daemon, daemon
from tests.test_healthy import next_pass, random_policy, random_survey
from tests.test_logs import Disk, disk

__all__ = ["daemon", "disk"]

PROGRAMS = ROOT / ".venv/monitoring/root/usr/bin"
PROMETHEUS = ROOT / "prometheus"
RULES = PROMETHEUS / "check_mounts.rules.yml"
RULE_TESTS = PROMETHEUS / "check_mounts.rules.test.yml"
USAGE_TESTS = PROMETHEUS / "check_mounts.usage.test.yml"
PROMTOOL = PROGRAMS / "promtool"
DASHBOARD = PROMETHEUS / "check_mounts-dashboard.json"


class Samples:
    """What a text in the format of Prometheus says."""

    def __init__(self, text: str) -> None:
        self._all = [
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def of(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The series of a name that have these labels, among others, by all their labels."""
        found = [
            (found, value)
            for its_name, found, value in self._all
            if its_name == name and labels.items() <= dict(found).items()
        ]
        assert len(dict(found)) == len(found), found
        return dict(found)

    def value(self, name: str, **labels: str) -> float:
        (value,) = self.of(name, **labels).values()
        return value

    def values(self, name: str, label: str, **labels: str) -> list[str]:
        """The values of one label, sorted."""
        return sorted(dict(found)[label] for found in self.of(name, **labels))

    @property
    def series(self) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        return [(name, labels) for name, labels, _ in self._all]


class Program:
    """One of the programs of Prometheus, listening on a port of loopback that it chooses itself.
    Its log is a file."""

    def __init__(self, name: str, log: Path, *arguments: str) -> None:
        program = PROGRAMS / name
        assert program.exists(), "make .venv/monitoring/root"
        with open(log, "wb") as stream:
            command = [str(program), "--web.listen-address=127.0.0.1:0", *arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream, cwd=log.parent
            )

        self._log = log
        self.port = int(self._logs(r'msg="TLS is disabled." http2=false address=127\.0\.0\.1:(\d+)'))

    def _logs(self, pattern: str) -> str:
        """Wait for a line of the log; give the group of the pattern."""
        found: list[str] = []

        def logged() -> list[str]:
            assert self._process.poll() is None, self._log.read_text()
            found[:] = re.findall(pattern, self._log.read_text())
            return found

        try:
            until(logged)
        except BaseException:
            self.close()
            raise
        return found[0]

    def get(self, path: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return content

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Exporter(Program):
    """A node_exporter with the textfile collector alone."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "check_mounts.prom"
        directory.mkdir()
        words = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={directory}"]
        super().__init__("prometheus-node-exporter", directory.with_name("exporter.log"), *words)

    def scrape(self) -> Samples:
        return Samples(self.get("/metrics").decode("utf-8"))

    def until(self, name: str, value: float, **labels: str) -> Samples:
        """Wait until a series has this value."""
        seen: list[Samples] = []

        def holds() -> bool:
            seen[:] = [self.scrape()]
            return list(seen[0].of(name, **labels).values()) == [value]

        until(holds)
        return seen[0]


class Prometheus(Program):
    """A server that scrapes one exporter each second, and evaluates the rules as often."""

    def __init__(self, directory: Path, exporter: Exporter) -> None:
        directory.mkdir()
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}]}],
        }
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(configuration))
        super().__init__(
            "prometheus", directory / "log", f"--config.file={file}", f"--storage.tsdb.path={directory}/data"
        )
        self._logs("Server is ready to receive web requests.")  # until then it answers with 503

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = json.loads(self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/api/v1/alerts"))["data"]["alerts"]
        return found


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    result = Exporter(tmp_path / "textfile")
    yield result
    result.close()


def _start(daemon: Daemon, file: Path, *arguments: str, **options: object) -> None:
    """Start the daemon, and wait for its first metrics: they are written while it goes on."""
    daemon.start(*arguments, "--metrics", str(file), **options)  # type: ignore[arg-type]
    until(file.exists)


def _promtool(*arguments: object, stdin: bytes = b"") -> tuple[int, str]:
    result = subprocess.run([PROMTOOL, *map(str, arguments)], input=stdin, capture_output=True, check=False)
    return result.returncode, (result.stdout + result.stderr).decode("utf-8")


def _is_accepted(file: Path) -> bool:
    """promtool says what it dislikes; of what it likes it says nothing."""
    return _promtool("check", "metrics", stdin=file.read_bytes()) == (0, "")


# -- with the real daemon

# As bytes in the file system -> as a value of the label `mountpoint`, which has the escapes of
# mountinfo.
HOSTILE = {
    b"plain": "plain",
    b"a b": "a b",
    b"line\nfeed": r"line\012feed",
    b"\rreturn\ttab": r"\015return\011tab",
    b"pi|pe": r"pi\174pe",
    b"quo'te": "quo'te",
    b'double"quote': 'double"quote',
    b"back\\slash": r"back\134slash",
    b"trailing\\": "trailing\\134",
    b"\\n": r"\134n",
    b"\\040": r"\134040",
    b'{mountpoint="/"} 1': '{mountpoint="/"} 1',
    b"close}": "close}",
    b"equals=sign": "equals=sign",
    b"semi;colon,comma": "semi;colon,comma",
    b"# TYPE x counter": "# TYPE x counter",
    b"\xff\xfe": r"\377\376",
    b"\xc3": r"\303",
    b"\xed\xa0\x80": r"\355\240\200",
    "ü €".encode(): "ü €",
    "right\u202eleft".encode(): r"right\342\200\256left",
    "line\u2028separator".encode(): r"line\342\200\250separator",
    "\U000e0001tag".encode(): r"\363\240\200\201tag",
    b"$(reboot)`x`": "$(reboot)`x`",
}


def _long(mounts: Mounts, letter: str) -> Path:
    """A mount point of some 4,000 characters; of two only the letter in the middle differs."""
    path = mounts.base / "long"
    parts = (4000 - len(str(path))) // 201
    return path.joinpath(*("l" * 200 if number != parts // 2 else letter * 200 for number in range(parts)))


def _mount_all(mounts: Mounts) -> None:
    for name in HOSTILE:
        path = mounts.base / os.fsdecode(name)
        path.mkdir(parents=True)
        mounts.mount_at(path, "tmpfs", os.fsdecode(b"of " + name))
    for letter, mode in (("a", "0755"), ("b", "0000")):
        path = _long(mounts, letter)
        assert 3700 < len(str(path)) <= 4000
        path.mkdir(parents=True)
        mounts.mount_at(path, "tmpfs", "x" * 3000, f"mode={mode}")


@pytest.mark.root
@pytest.mark.monitoring
@pytest.mark.parametrize("version", ["0.9.0", "newest"])
def test_every_mount_is_scraped_whatever_its_name(
    mounts: Mounts, plugin: Plugin, daemon: Daemon, exporter: Exporter, version: str, tmp_path: Path
) -> None:
    """Also with the oldest prometheus_client that is supported, that of Debian 11; and `metrics` is
    a key of the configuration."""
    _mount_all(mounts)
    if version != "newest":
        library = ROOT / ".venv" / f"prometheus_client-{version}"
        assert library.exists(), "make .venv/test"
        plugin.environment["PYTHONPATH"] = os.pathsep.join([str(library), plugin.environment["PYTHONPATH"]])
    configuration = tmp_path / "check_mounts.conf"
    configuration.write_text(f"[check_mounts]\nmetrics = {exporter.file}\n")
    before = time.time()
    daemon.start("--config", str(configuration))
    until(exporter.file.exists)
    assert _is_accepted(exporter.file)
    assert oct(exporter.file.stat().st_mode & 0o7777) == "0o644"
    samples = exporter.scrape()
    assert samples.value("node_textfile_scrape_error") == 0
    assert samples.value("node_textfile_mtime_seconds", file=str(exporter.file)) >= int(before)
    base = str(mounts.base)
    up = samples.of("check_mounts_mount_up")
    assert len(up) == len(HOSTILE) + 1
    for name in HOSTILE.values():
        labels = {"mountpoint": f"{base}/{name}", "device": f"of {name}", "fstype": "tmpfs"}
        assert samples.value("check_mounts_mount_up", **labels) == 1
        assert samples.value("check_mounts_mount_state", **labels) == 0
        assert samples.of("check_mounts_mount_condition", **labels) == {
            tuple(sorted([*labels.items(), ("condition", "ok")])): 1
        }
        assert 0 < samples.value("check_mounts_mount_probe_duration_seconds", **labels) < 5
        assert before <= samples.value("check_mounts_mount_last_success_timestamp_seconds", **labels) <= time.time()
    # Both long names are cut to the same one. The mount that is denied is the one to be told.
    (cut,) = (dict(labels) for labels in up if "..." in dict(labels)["mountpoint"])
    assert (len(cut["mountpoint"]), len(cut["device"])) == (256, 256)
    assert cut["mountpoint"].startswith(f"{base}/long/lll") and cut["mountpoint"].endswith("lll")
    assert samples.values("check_mounts_mount_condition", "condition", **cut) == ["denied"]
    assert samples.value("check_mounts_mounts", condition="ok") == len(HOSTILE) + 1
    assert samples.value("check_mounts_mounts", condition="denied") == 1
    assert samples.value("check_mounts_state") == 1
    assert before <= samples.value("check_mounts_last_run_timestamp_seconds") <= time.time()
    assert samples.value("check_mounts_run_interval_seconds") == daemon.interval
    assert 0 < samples.value("check_mounts_run_duration_seconds") < 5
    assert samples.value("check_mounts_runs_total") >= 1


@pytest.mark.root
@pytest.mark.monitoring
def test_hang_and_release(mounts: Mounts, fuse: Fuse, daemon: Daemon, exporter: Exporter) -> None:
    healthy = {"mountpoint": str(mounts.tmpfs("healthy"))}
    home = {
        "mountpoint": str(fuse.mount("home", source="filer1:/home")),
        "device": "filer1:/home",
        "fstype": "fuse.test",
    }
    below = {"mountpoint": str(mounts.tmpfs("home/sub"))}
    _start(daemon, exporter.file)
    well = exporter.scrape()
    assert well.value("check_mounts_mount_up", **home) == 1
    assert well.value("check_mounts_stuck_probes") == well.value("check_mounts_state") == 0
    fuse.command("hang", "home")
    hung = exporter.until("check_mounts_mount_up", 0, **home)
    assert hung.values("check_mounts_mount_condition", "condition", **home) == ["timed_out"]
    assert hung.value("check_mounts_mount_state", **home) == hung.value("check_mounts_state") == 2
    assert hung.value("check_mounts_mount_probe_duration_seconds", **home) >= daemon.timeout
    assert hung.value("check_mounts_mounts", condition="timed_out") == hung.value("check_mounts_stuck_probes") == 1
    assert hung.values("check_mounts_mount_condition", "condition", **below) == ["blocked"]
    assert (hung.value("check_mounts_mount_up", **below), hung.value("check_mounts_mount_state", **below)) == (0, 0)
    assert hung.value("check_mounts_mount_up", **healthy) == 1
    assert not below.keys() & {name for name, _ in hung.of("check_mounts_mount_probe_duration_seconds", **below)}
    last = hung.value("check_mounts_mount_last_success_timestamp_seconds", **home)
    daemon.until_checked(2)
    later = exporter.scrape()
    assert later.value("check_mounts_stuck_probes") == 1
    assert later.value("check_mounts_mount_last_success_timestamp_seconds", **home) == last
    assert later.value("check_mounts_mount_last_success_timestamp_seconds", **healthy) > last
    assert later.value("check_mounts_runs_total") > well.value("check_mounts_runs_total")
    assert _is_accepted(exporter.file)
    fuse.command("answer", "home")
    again = exporter.until("check_mounts_mount_up", 1, **home)
    assert again.values("check_mounts_mount_condition", "condition", **home) == ["ok"]
    assert again.value("check_mounts_mount_last_success_timestamp_seconds", **home) > last
    until(lambda: exporter.scrape().value("check_mounts_state") == 0)
    assert exporter.scrape().value("check_mounts_stuck_probes") == 0


@pytest.mark.root
@pytest.mark.monitoring
def test_a_real_prometheus_alerts(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, exporter: Exporter, tmp_path: Path
) -> None:
    """What promtool tests with made-up series, with those of a scrape: labels of the target,
    hostile names in annotations."""
    mounts.tmpfs("healthy")
    name = """{{ $value }} |`'"\\"""
    home = fuse.mount(name, source="filer1:/home")
    fuse.command("hang", name)
    daemon.start("--metrics", str(exporter.file))
    with contextlib.closing(Prometheus(tmp_path / "prometheus", exporter)) as prometheus:
        until(lambda: len(prometheus.alerts()) == 2, 30)
        alert, stuck = sorted(prometheus.alerts(), key=lambda each: str(each["labels"]["alertname"]))
        shown = str(home).replace("\\", r"\134").replace("|", r"\174")
        target = f"127.0.0.1:{exporter.port}"
        mount = {"condition": "timed_out", "device": "filer1:/home", "fstype": "fuse.test", "mountpoint": shown}
        mine = {"alertname": "CheckMountsMountTimedOut", "severity": "critical", "fileserver": "filer1"}
        assert alert["labels"] == {**mount, **mine, "instance": target, "job": "node"}
        assert alert["annotations"]["summary"] == f"{target}: {shown} (fuse.test filer1:/home) does not answer"
        assert stuck["labels"]["alertname"] == "CheckMountsStuckProbes"
        assert alert["state"] == stuck["state"] == "pending"
        counts = {
            each: len(prometheus.query(each.replace("$instance", ".*").replace("$mountpoint", ".*")))
            for each in _dashboard_expressions()
        }
        # All panels have something to show but the one of mounts that have answered and no longer
        # do: this one never has. Nor is this one host a fleet, or its mount about to be full, and
        # it has no NFS.
        others = re.compile("last_success|_silent|failing:since|differs|full_in_4|_rpc_")
        assert {each for each, number in counts.items() if not number} == set(filter(others.search, counts))


@pytest.mark.root
@pytest.mark.monitoring
def test_no_series_is_there_twice(mounts: Mounts, daemon: Daemon, exporter: Exporter) -> None:
    """Of two, node_exporter drops one without a word: mounts on top of each other, what is missing
    twice, and comes and goes."""
    for _ in range(3):
        mounts.tmpfs("stack", source="same")
    for letter in "ab":
        mounts.mount_at(_made(_long(mounts, letter)), "tmpfs", "same")
    gone = mounts.base / "gone"
    arguments = [
        "--expect",
        f"{gone},type=tmpfs",
        "--expect",
        f"{gone},type=xfs",
        "--expect",
        f"{mounts.base}/stack,type=xfs",
    ]
    _start(daemon, exporter.file, *arguments)
    samples = exporter.scrape()
    series = Samples(exporter.file.read_text()).series
    assert [name for name, number in collections.Counter(series).items() if number > 1] == []
    assert {name for name in samples.series if name[0].startswith("check_mounts_")} == set(series)
    assert samples.value("node_textfile_scrape_error") == 0
    assert _is_accepted(exporter.file)
    stack = {"mountpoint": f"{mounts.base}/stack"}
    assert samples.values("check_mounts_mount_condition", "condition", **stack) == ["changed"]
    assert samples.value("check_mounts_mounts", condition="shadowed") == 2
    assert samples.of("check_mounts_mount_state", mountpoint=str(gone)) == {
        (("device", ""), ("fstype", ""), ("mountpoint", str(gone))): 2,
    }
    mounts.tmpfs("gone")
    exporter.until("check_mounts_mount_up", 1, mountpoint=str(gone), fstype="tmpfs")


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.root
@pytest.mark.monitoring
def test_the_collector_never_sees_half_a_file(
    mounts: Mounts, daemon: Daemon, exporter: Exporter, tmp_path: Path
) -> None:
    """It takes whatever ends with .prom. Nothing is made under such a name, it is renamed to it;
    what a killed daemon left is none."""
    mounts.tmpfs("home")
    killed = subprocess.Popen(["true"])
    killed.wait()
    leftover = exporter.file.with_name(f".check_mounts.prom.{killed.pid}.new")
    leftover.write_text("check_mounts_state{")
    assert exporter.scrape().value("node_textfile_scrape_error") == 0
    trace = tmp_path / "trace"
    calls = "trace=open,openat,openat2,creat,rename,renameat,renameat2,link,linkat"
    daemon.start(
        "--metrics",
        str(exporter.file),
        wrapper=["strace", "-D", "-f", "-y", "-s", "4096", "-o", str(trace), "-e", calls],
    )
    daemon.until_checked()
    assert daemon.stop() == 0
    inside = [
        line
        for line in trace.read_text().splitlines()
        if f"{exporter.file.parent}>" in line or f'"{exporter.file.parent}/' in line
    ]
    made = [re.search(r'"([^"]*)", [^"]*O_CREAT', line) for line in inside]
    names = {match[1] for match in made if match}
    assert names and all(re.fullmatch(r"\.check_mounts\.prom\.\d+\.new", name) for name in names), inside
    renamed = {words for line in inside if "rename" in line for words in [tuple(re.findall(r'"([^"]*)"', line))]}
    assert {new for _, new in renamed} == {exporter.file.name}
    assert {old for old, _ in renamed} == names
    assert os.listdir(exporter.file.parent) == [exporter.file.name]


@pytest.mark.root
def test_the_version_is_that_of_the_process(mounts: Mounts, daemon: Daemon, plugin: Plugin, tmp_path: Path) -> None:
    """After an upgrade on the disk, a daemon that was not restarted goes on with the old program,
    and says so: in the metrics, in the JSON, in its log."""
    mounts.tmpfs("home")
    place, file = tmp_path / "site", tmp_path / "check_mounts.prom"
    shutil.copytree(ROOT / "check_mounts", place / "check_mounts")
    here = plugin.environment["PYTHONPATH"]
    plugin.environment["PYTHONPATH"] = os.pathsep.join([str(place), here.partition(os.pathsep)[2]])
    _start(daemon, file, cwd=place)
    (place / "check_mounts/__init__.py").write_text('__version__ = "99.0"\nRESULT = "/run/check_mounts/status"\n')
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again"))
    daemon.until_checked(2)
    assert Samples(file.read_text()).values("check_mounts_build_info", "version") == [__version__]
    assert daemon.lines[0].endswith(f" (check_mounts {__version__})")
    assert json.loads(daemon.cache.with_name("status.json").read_text())["check_mounts"] == __version__
    assert plugin("-V", below=False, cwd=place).lines[0] == "check_mounts 99.0"
    cached = plugin("--cached", "--json", "--cache", str(daemon.cache), below=False, state=False, cwd=place)
    assert json.loads(cached.stdout)["check_mounts"] == __version__


@pytest.mark.root
def test_a_directory_that_is_not_there_does_not_stop_the_checks(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    file = tmp_path / "gone/check_mounts.prom"
    daemon.start("--metrics", str(file))
    daemon.until_checked()
    until(lambda: daemon.says(f"Cannot write {file}: No such file or directory"))
    file.parent.mkdir()
    until(lambda: daemon.says(f"No longer: Cannot write {file}: No such file or directory"))
    assert Samples(file.read_text()).value("check_mounts_state") == 0
    assert sum(line.startswith("Cannot write ") for line in daemon.lines) == 1
    assert daemon.cached().code == 0


def _frozen(mounts: Mounts, daemon: Daemon, disk: Disk) -> Path:
    """The metrics of a daemon on a disk that froze two passes ago."""
    mounts.tmpfs("home")
    file = disk.path / "check_mounts.prom"
    _start(daemon, file)
    disk.freeze()
    daemon.until_checked(2)
    return file


def _runs(file: Path) -> float:
    return Samples(file.read_text()).value("check_mounts_runs_total")


@pytest.mark.root
def test_a_frozen_disk_holds_up_one_process_and_nothing_else(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    """For whatever time: the checks go on, a new mount is seen, and what is written at last is the
    newest."""
    file = _frozen(mounts, daemon, disk)
    (stuck,) = remaining(1)
    assert Path(f"/proc/{stuck}/stat").read_text().rpartition(") ")[2][0] == "D"
    mounts.tmpfs("new")
    daemon.until(lambda result: result.code == 0 and result.count("mounts") == 2)
    words = f"Cannot write {file}: no answer within 10 s (pid {stuck} is stuck in it)"
    until(lambda: daemon.says(words))
    daemon.until_checked(3)
    assert remaining(1) == {stuck}
    runs, passes = _runs(file), daemon.log.count("\nChecked ")
    assert runs < 4 < passes
    disk.thaw()
    seen = set()

    def is_written() -> bool:
        seen.add(_runs(file))
        return daemon.says(f"No longer: {words}")

    until(is_written)
    seen.add(_runs(file))
    # Not first what had been waiting the longest.
    assert [each for each in seen if runs < each < passes] == []
    assert max(seen) >= passes
    assert Samples(file.read_text()).value("check_mounts_mounts", condition="ok") == 2
    assert sum("Cannot write " in line for line in daemon.lines) == 2
    assert daemon.stop() == 0
    assert os.listdir(disk.path) == [file.name]


@pytest.mark.root
def test_of_a_disk_that_is_frozen_for_a_moment_nobody_hears(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    file = _frozen(mounts, daemon, disk)
    runs = _runs(file)
    disk.thaw()
    until(lambda: _runs(file) > runs)
    assert daemon.stop() == 0
    # It had come to its end when the daemon did.
    assert _runs(file) >= daemon.log.count("\nChecked ")
    assert not any("Cannot write " in line for line in daemon.lines)
    assert os.listdir(disk.path) == [file.name]


@pytest.mark.root
def test_a_daemon_with_a_frozen_disk_ends_and_starts(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    """What it leaves there holds neither its lock nor anything else."""
    file = _frozen(mounts, daemon, disk)
    remaining(1)
    before = file.read_text()
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=10) == 0
    assert daemon.lines[-1] == "Stopped by SIGTERM"
    daemon.start("--metrics", str(file))
    assert daemon.cached().code == 0
    remaining(2)
    assert file.read_text() == before
    disk.thaw()
    until(lambda: os.listdir(disk.path) == [file.name])
    until(lambda: file.read_text() != before)
    assert _runs(file) >= 1


@pytest.mark.root
def test_a_process_that_is_killed_at_it_is_told_of(mounts: Mounts, daemon: Daemon, disk: Disk) -> None:
    """By the kernel for want of memory, for one; the next pass tries again."""
    file = _frozen(mounts, daemon, disk)
    (stuck,) = remaining(1)
    os.kill(stuck, signal.SIGKILL)
    disk.thaw()
    words = f"Cannot write {file}: the process that should have written it has ended"
    until(lambda: daemon.says(f"No longer: {words}"))
    assert daemon.lines.index(words) < daemon.lines.index(f"No longer: {words}")


# -- the module alone


def _mount(point: bytes, source: bytes = b"none") -> Mount:
    return Mount(1, 0, (0, 1), b"/", point, (), (), b"tmpfs", source, ())


def _render(
    *findings: Finding,
    last_success: dict[bytes, float] | None = None,
    submissions: Sequence[tuple[str, int, int]] = (),
    pretended: dict[bytes, Condition] | None = None,
    **more: Any,
) -> Samples:
    survey = Survey(findings, started=Epoch(1732500000.25), duration=0.125)
    passes = metrics.Passes(7, survey.started, survey.duration, 60.0, 3, last_success or {}, submissions, **more)
    found = rehearsed(judged(survey, Policy()), Pretended(pretended or {}), ()).judged
    return Samples(metrics.render(found._replace(state=State.CRITICAL), passes).decode("utf-8"))


def test_what_is_said_of_the_passes() -> None:
    samples = _render()
    assert {name: samples.value(name) for name, labels in samples.series if not labels} == {
        "check_mounts_state": 2,
        "check_mounts_run_duration_seconds": 0.125,
        "check_mounts_run_interval_seconds": 60,
        "check_mounts_last_run_timestamp_seconds": 1732500000.25,
        "check_mounts_stuck_probes": 3,
        "check_mounts_bad_lines": 0,
        "check_mounts_config_last_reload_successful": 1,
        "check_mounts_config_last_reload_success_timestamp_seconds": 0,
        "check_mounts_runs_total": 7,
    }
    assert samples.values("check_mounts_mounts", "condition") == sorted(condition.identifier for condition in Condition)


def test_what_is_said_of_the_daemon_itself() -> None:
    samples = _render(reloaded=1732500000.0, troubles={"configuration": 1, "result": 0, "submission": 2})
    assert samples.value("check_mounts_config_last_reload_successful") == 0
    assert samples.value("check_mounts_config_last_reload_success_timestamp_seconds") == 1732500000
    assert samples.values("check_mounts_trouble", "part") == ["result", "submission"]
    assert samples.value("check_mounts_trouble", part="submission") == 2


UNLISTED = (Condition.SHADOWED, Condition.GHOST, Condition.SLOW)


@pytest.mark.parametrize("condition", [each for each in Condition if each not in UNLISTED])
def test_each_condition(condition: Condition) -> None:
    """Up is what a probe came back from; the condition has the name that perfdata and JSON give
    it."""
    probed = condition not in (Condition.MISSING, Condition.BLOCKED, Condition.UNPROBED, Condition.TIMED_OUT)
    samples = _render(Finding(b"/x", _mount(b"/x"), condition, "why", Outcome() if probed else None))
    assert samples.values("check_mounts_mount_condition", "condition") == [condition.identifier]
    assert samples.value("check_mounts_mount_up") == (1 if probed and condition is not Condition.DEAD else 0)
    assert samples.value("check_mounts_mounts", condition=condition.identifier) == 1


def test_a_drill_has_a_label_and_a_metric() -> None:
    """Where only a drill says so, the condition has the label; where the truth is as bad, it has
    not."""
    findings = [Finding(b"/ok", _mount(b"/ok"), Condition.OK, "", Outcome(), 0.1)]
    findings += [Finding(b"/dead", _mount(b"/dead"), Condition.DEAD, "EIO", Outcome())]
    samples = _render(*findings, pretended={b"/ok": Condition.DEAD, b"/dead": Condition.TIMED_OUT})
    assert samples.value("check_mounts_mount_condition", mountpoint="/ok", condition="dead", drill="yes") == 1
    assert samples.value("check_mounts_mount_up", mountpoint="/ok") == 0
    assert samples.value("check_mounts_mount_state", mountpoint="/ok") == 2
    (real,) = samples.of("check_mounts_mount_condition", mountpoint="/dead")
    assert "drill" not in dict(real) and dict(real)["condition"] == "dead"
    assert samples.value("check_mounts_drill", mountpoint="/ok", condition="dead", really="ok") == 1
    assert samples.value("check_mounts_drill", mountpoint="/dead", condition="timed_out", really="dead") == 1
    assert not _render(*findings).of("check_mounts_drill")


def test_a_ghost_has_its_holders_and_nothing_of_a_mount() -> None:
    held = Ghost("NFS", b"filer3", ((0, 52),), 1, (Holder(812, 1, 0, b"rsync", "backup.service", "has it open"),))
    samples = _render(*of_ghosts([held, held._replace(server=b"filer4", holders=())]))
    assert samples.value("check_mounts_ghost_holders", ghost="old filer filer3") == 1
    assert samples.value("check_mounts_ghost_holders", ghost="old filer filer4") == 0
    assert samples.value("check_mounts_mounts", condition="ghost") == 2
    assert not samples.of("check_mounts_mount_up") and not samples.of("check_mounts_mount_state")


def test_a_drill_is_not_remembered() -> None:
    """The labels that are kept from the last file are those without the drill, and the other way
    round."""
    survey = Survey((Finding(b"/x", _mount(b"/x"), Condition.DENIED, "EACCES", Outcome(), 0.1),))
    truth, memory = judged(survey, Policy()), {}  # type: ignore[var-annotated]
    passes = metrics.Passes(1, 0.0, 0.1, 60.0, 0, {})
    for pretended in ({}, {b"/x": Condition.DEAD}, {}, {b"/x": Condition.READ_ONLY}, {b"/x": Condition.SLOW}):
        found = rehearsed(truth, Pretended(pretended), ()).judged
        assert metrics.render(found, passes, memory) == metrics.render(found, passes)


@pytest.mark.parametrize("conditions", list(itertools.permutations([Condition.OK, Condition.DEAD, Condition.DENIED])))
def test_the_worst_of_what_has_the_same_labels_counts(conditions: Sequence[Condition]) -> None:
    findings = [Finding(b"/x", _mount(b"/x"), condition, "why", Outcome()) for condition in conditions]
    samples = _render(*findings, last_success={b"/x": 5.0})
    assert samples.values("check_mounts_mount_condition", "condition") == ["dead"]
    assert samples.value("check_mounts_mount_up") == 0
    assert samples.value("check_mounts_mount_last_success_timestamp_seconds") == 5


_OF_USAGE = {
    "size_bytes": "size",
    "free_bytes": "free",
    "avail_bytes": "available",
    "files": "inodes",
    "files_free": "inodes_free",
}


def _add_traffic(families: dict[str, Any], labels: list[str], done: Traffic) -> None:
    every = done.counters.values()
    names = [b"READ", b"WRITE", b"GETATTR", b"LOOKUP"]
    kinds = {name.decode(): [each for each in every if each.name == name] for name in names}
    kinds["other"] = [each for each in every if each.name not in names]
    for name, what, unit in (
        ("operations", "operations", 1),
        ("rtt_seconds", "rtt", 1e3),
        ("execution_seconds", "execute", 1e3),
    ):
        family = families.setdefault(
            f"rpc_{name}",
            CounterMetricFamily(
                f"check_mounts_mount_rpc_{name}", "x", labels=["device", "fstype", "mountpoint", "operation"]
            ),
        )
        for kind, some in kinds.items():
            family.add_metric([*labels, kind], sum(getattr(each, what) for each in some) / unit)
    for name, what, unit in (
        ("queue_seconds", "queue", 1e3),
        ("retransmissions", "retransmissions", 1),
        ("timeouts", "timeouts", 1),
        ("errors", "errors", 1),
        ("sent_bytes", "bytes_sent", 1),
        ("received_bytes", "bytes_received", 1),
    ):
        family = families.setdefault(
            f"rpc_{name}",
            CounterMetricFamily(f"check_mounts_mount_rpc_{name}", "x", labels=["device", "fstype", "mountpoint"]),
        )
        numbers = [getattr(each, what) for each in every if getattr(each, what) is not None]
        if numbers or what != "errors":
            family.add_metric(labels, sum(numbers) / unit)


def _by_the_library(judgements: Sequence[Judgement], last_success: dict[bytes, float]) -> bytes:
    """The families of single mounts, as the library writes all of them."""
    kinds = {
        "up": ("Whether a probe of the mount came back, and not with a failure.", []),
        "condition": ("1 for the condition that the mount is in.", ["condition"]),
        "state": ("0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", []),
        "probe_duration_seconds": ("How long the probe of the mount took, or has waited so far.", []),
        "last_success_timestamp_seconds": ("When the mount last answered, since the daemon was started.", []),
        "unusual_seconds": (
            "How long an operation takes that takes longer than usual, as long as one does.",
            [],
        ),
        "usual_seconds": ("How long that operation usually takes.", []),
        "size_bytes": ("Size of the filesystem.", []),
        "free_bytes": ("Space that is free for root.", []),
        "avail_bytes": ("Space that is free for everybody else.", []),
        "files": ("Inodes of the filesystem.", []),
        "files_free": ("Inodes that are free.", []),
        "readonly": ("Whether the mount or its filesystem is read-only.", []),
        "info": ("1 for what the mount table says of the mount.", ["fileserver", "version", "options"]),
    }
    labels = ["device", "fstype", "mountpoint"]
    families = {
        name: GaugeMetricFamily(f"check_mounts_mount_{name}", words, labels=[*labels, *more])
        for name, (words, more) in kinds.items()
    }
    told = set()
    for each in judgements:
        finding, mount = each.finding, each.finding.mount
        device = "" if mount is None else filesystems.source_words(mount.source, mount.fs_type)
        names = (device, "" if mount is None else text.printable(mount.fs_type), text.printable(finding.mount_point))
        values = [text.clipped(name, 256) for name in names]
        if not each.is_counted or tuple(values) in told:
            continue
        told.add(tuple(values))
        families["up"].add_metric(values, float(answered(each)))
        families["condition"].add_metric([*values, each.condition.identifier], 1)
        families["state"].add_metric(values, each.state.value)
        if finding.latency is not None:
            families["probe_duration_seconds"].add_metric(values, finding.latency)
        if finding.unusual is not None:
            families["unusual_seconds"].add_metric(values, finding.unusual.seconds)
            families["usual_seconds"].add_metric(values, finding.unusual.usual)
        if finding.mount_point in last_success:
            families["last_success_timestamp_seconds"].add_metric(values, last_success[finding.mount_point])
        if mount is not None:
            families["readonly"].add_metric(values, b"ro" in (*mount.options, *mount.super_options))
            families["info"].add_metric([*values, *(text.clipped(each, 256) for each in inventory.of(mount))], 1)
        usage = numbers(finding)
        for name, member in _OF_USAGE.items():
            if usage is not None and (value := getattr(usage, member)) is not None:
                families[name].add_metric(values, value)
        if finding.traffic is not None:
            _add_traffic(families, values, finding.traffic)

    class Collector:
        def collect(self) -> Iterable[Metric]:
            return families.values()

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_from_the_last_file_changes_nothing(seed: int) -> None:
    """Over some passes, in which mounts come, change and go."""
    chance = random.Random(seed)
    memory: metrics.Memory = {}
    found: Sequence[Finding] = random_survey(chance, 80).findings
    policy = random_policy(chance)
    for number in range(12):
        whole = judged(Survey(tuple(found)), policy)
        points = [each.mount_point for each in found if each.outcome is not None]
        success = {point: 1.7e9 + chance.random() * 100 for point in points if chance.random() < 0.9}
        passes = metrics.Passes(number, 1e9, 0.1, 60.0, 0, success)
        data = metrics.render(whole, passes, memory)
        assert data == metrics.render(whole, passes)
        _, begin, of_mounts = data.partition(b"# HELP check_mounts_mount_up")
        made = (begin + of_mounts).decode("utf-8")
        expected = _by_the_library(list(whole.judgements), success).decode("utf-8")
        assert Samples(made).series == Samples(expected).series
        assert list(map(_numbered, made.splitlines())) == list(map(_numbered, expected.splitlines()))
        found = next_pass(chance, found)


def _numbered(line: str) -> tuple[str, float]:
    """A line without its number, and that: 1099511627776 is 1.099511627776e+12."""
    if line.startswith("# HELP check_mounts_mount_rpc"):
        return line.split(" ")[2], 0.0
    words, _, number = line.rpartition(" ")
    return (line, 0.0) if line.startswith("#") else (words, float(number))


_HOME = Mount(
    7,
    1,
    (0, 7),
    b"/",
    b"/home",
    (b"rw", b"nosuid", b"relatime"),
    (),
    b"nfs4",
    b"filer1:/home",
    tuple(b"rw,vers=4.2,rsize=1048576,hard,proto=tcp,clientaddr=10.0.0.7,local_lock=none,addr=10.0.0.1".split(b",")),
)


def test_usage_is_told_as_node_exporter_does() -> None:
    """Of each mount that answered, also of several of one superblock; nothing that the filesystem
    does not count."""
    usage = Usage(1 << 42, 1 << 41, 1 << 40, 1000, 999)
    bind = _HOME._replace(mount_id=8, mount_point=b"/home2")
    btrfs = _HOME._replace(mount_id=9, mount_point=b"/b", fs_type=b"btrfs", source=b"/dev/sdb")
    none = _HOME._replace(mount_id=10, mount_point=b"/none", fs_type=b"fuse.x", source=b"x")
    samples = _render(
        Finding(b"/home", _HOME, Condition.OK, "", Outcome(usage=usage), 0.1),
        Finding(b"/home2", bind, Condition.OK, "", Outcome(usage=usage), 0.1),
        Finding(b"/b", btrfs, Condition.OK, "", Outcome(usage=usage._replace(inodes=0, inodes_free=0)), 0.1),
        Finding(b"/none", none, Condition.OK, "", Outcome(usage=Usage(0, 0, 0, 0, 0)), 0.1),
        Finding(b"/hung", none._replace(mount_id=11), Condition.TIMED_OUT, "after 5 s", Outcome(), 5.0),
        Finding(b"/missing", None, Condition.MISSING, "not mounted"),
    )
    of_space = {"/home", "/home2", "/b"}
    for name, points, value in (
        ("size_bytes", of_space, 1 << 42),
        ("free_bytes", of_space, 1 << 41),
        ("avail_bytes", of_space, 1 << 40),
        ("files", of_space - {"/b"}, 1000),
        ("files_free", of_space - {"/b"}, 999),
    ):
        assert set(samples.values(f"check_mounts_mount_{name}", "mountpoint")) == points
        assert set(samples.of(f"check_mounts_mount_{name}").values()) == {value}


def test_what_a_fleet_can_compare() -> None:
    """The server, the version and the options, without what differs from host to host."""

    def info(mount: Mount) -> dict[str, str]:
        ((labels, value),) = (
            _render(Finding(mount.mount_point, mount, Condition.OK, "", Outcome(), 0.1))
            .of("check_mounts_mount_info")
            .items()
        )
        assert value == 1
        return dict(labels)

    home = info(_HOME)
    assert home == {
        "device": "filer1:/home",
        "fstype": "nfs4",
        "mountpoint": "/home",
        "fileserver": "filer1",
        "version": "4.2",
        "options": "hard,local_lock=none,nosuid,proto=tcp,relatime,rsize=1048576,rw",
    }
    elsewhere = [each.replace(b"10.0.0.", b"10.9.9.") for each in reversed(_HOME.super_options)]
    assert info(_HOME._replace(mount_id=99, super_options=tuple(elsewhere))) == home
    assert info(_HOME._replace(options=(b"ro",)))["options"] == "hard,local_lock=none,proto=tcp,ro,rsize=1048576"
    share = info(_HOME._replace(fs_type=b"cifs", source=b"//nas/x", super_options=(b"vers=3.1.1", b"username=h1$")))
    assert (share["fileserver"], share["version"], share["options"]) == ("nas", "3.1.1", "nosuid,relatime,rw")
    for source in (b"127.0.0.1:/", b"localhost:/x", b"[::1]:/x", b"/dev/sda1"):
        assert info(_HOME._replace(source=source))["fileserver"] == ""
    secret = info(_HOME._replace(fs_type=b"ceph", source=b"10.0.0.1:/", super_options=(b"password=geheim", b"acl")))
    assert "geheim" not in str(secret) and secret["options"].startswith("acl,")
    hostile = info(_HOME._replace(super_options=(b'x="\n\\},\xff', b"y=" + b"z" * 1000)))
    assert len(hostile["options"]) == 256 and hostile["options"].isprintable()


def test_the_version_that_runs() -> None:
    assert _render().values("check_mounts_build_info", "version") == [__version__]


def test_what_is_read_only() -> None:
    image = _HOME._replace(mount_id=8, mount_point=b"/i", super_options=(b"ro",))
    samples = _render(*(Finding(each.mount_point, each, Condition.OK, "", Outcome()) for each in (_HOME, image)))
    assert {
        dict(labels)["mountpoint"]: value for labels, value in samples.of("check_mounts_mount_readonly").items()
    } == {
        "/home": 0,
        "/i": 1,
    }


def test_what_is_no_mount_has_no_series() -> None:
    """Shadowed ones, which no path leads to, and lines of the mount table that make no sense; they
    are counted, but not as mounts."""
    shadowed = Finding(b"/x", _mount(b"/x"), Condition.SHADOWED, "another mount covers it")
    line = BadLine("the mount table", 3, "it is garbage", more=2)
    samples = _render(shadowed, Finding(b"", None, Condition.UNPROBED, "what it is", line=line))
    assert not samples.of("check_mounts_mount_up")
    assert samples.value("check_mounts_mounts", condition="shadowed") == 1
    assert samples.value("check_mounts_mounts", condition="unprobed") == 0
    assert samples.value("check_mounts_bad_lines") == 3


def test_nothing_is_loaded_while_it_renders() -> None:
    """Later than at the start, a module might lie on a mount that hangs."""
    script = (
        "import sys\n"
        "from check_mounts.daemon import serve; from check_mounts.report import metrics\n"
        "from check_mounts.model import *\n"
        "from check_mounts.judging.policy import Policy, judged\n"
        "before = set(sys.modules)\n"
        "mount = Mount(1, 0, (0, 1), b'/', b'/x', (), (), b'tmpfs', b'', ())\n"
        "survey = Survey((Finding(b'/x', mount, Condition.OK, '', Outcome(), 0.1),))\n"
        "out = metrics.render(judged(survey, Policy()), metrics.Passes(1, 1.0, 1.0, 60.0, 0, {b'/x': 1.0}))\n"
        "print(len(out) > 1000, set(sys.modules) - before)"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(prometheus_client.__file__).parent.parent)])}
    assert subprocess.check_output([PYTHON, "-c", script], env=environment, text=True) == "True set()\n"


# -- alert rules and dashboard


@pytest.mark.monitoring
def test_promtool_accepts_the_rules() -> None:
    for path in (RULES, PROMETHEUS / "check_mounts-node_filesystem.rules.yml"):
        code, output = _promtool("check", "rules", "--lint=all", "--lint-fatal", path)
        assert (code, "SUCCESS" in output) == (0, True), output


@pytest.mark.monitoring
def test_each_rule_fires_when_it_should() -> None:
    for path in (RULE_TESTS, USAGE_TESTS):
        code, output = _promtool("test", "rules", path)
        assert (code, "SUCCESS" in output) == (0, True), output
    fires: set[str] = set()
    silent: set[str] = set()
    for name, empty in re.findall(
        r"^ +alertname: (\w+)\n +exp_alerts:( \[\])?", RULE_TESTS.read_text() + USAGE_TESTS.read_text(), re.M
    ):
        (silent if empty else fires).add(name)
    alerts = set(_alerts())
    assert (alerts ^ fires, alerts ^ silent) == (set(), set()), (
        f"for each alert, {RULE_TESTS} or {USAGE_TESTS} has a case in which it fires and one in which it does not"
    )


def _alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M)


def _rule_expressions() -> list[str]:
    """Of a file that promtool has understood, and that keeps to one style."""
    found = re.findall(r"^( +)expr: (?!\|)(.*)$|^( +)expr: \|\n((?:\3  .*\n)+)", RULES.read_text(), re.M)
    expressions = [line or block for _, line, _, block in found]
    assert len(expressions) == len(_alerts()) + len(re.findall(r"^ +- record: ", RULES.read_text(), re.M))
    return expressions


def _dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def _dashboard_expressions() -> list[str]:
    dashboard = _dashboard()
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert match, variable
        found.append(f"count by ({match[2]}) ({match[1]})")
    return found


_KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
_WITH_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")


def _names(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that an expression of PromQL names."""
    labels = set()
    for made, read in re.findall(r'"(\w+)", "[^"]*", "(\w+)", `', expression):  # label_replace()
        labels |= {made, read}
    bare = re.sub(r'"[^"]*"|`[^`]*`', "0", expression)
    for words in [*_WITH_LABELS.findall(bare), *re.findall(r"\{([^{}]*)\}", bare)]:
        labels |= set(re.findall(r"[A-Za-z_]\w*", words))
    bare = re.sub(r"\{[^{}]*\}|\[[^][]*\]", "", _WITH_LABELS.sub("", bare))
    metric_names = {
        name for name in re.findall(r"(?<![\w:])[A-Za-z_:][\w:]*(?!\s*\(|[\w:])", bare) if name not in _KEYWORDS
    }
    return metric_names, labels


def test_names() -> None:
    """The test's own reader of expressions."""
    assert _names('sum by (a) (m{b="x{y}", c=~`z`} > 1) unless on (d) rate(n:o[5m:1m]) or vector(0)') == (
        {"m", "n:o"},
        {"a", "b", "c", "d"},
    )
    assert _names('label_replace(m, "new", "$1", "old", `(.*)`)') == ({"m"}, {"new", "old"})


def _emitted() -> tuple[set[str], set[str]]:
    outcome, done = Outcome(usage=Usage(5, 4, 3, 2, 1)), {b"READ": Operation(b"READ", *[1] * 9)}
    finding = Finding(b"/x", _mount(b"/x"), Condition.OK, "", outcome, 0.1, traffic=Traffic(done))
    finding = finding._replace(unusual=Unusual("READ", 0.18, 0.003))
    samples = _render(
        finding,
        *of_ghosts([Ghost("NFS", b"filer3", ((0, 52),), 1)]),
        last_success={b"/x": 5.0},
        submissions=[("nsca:h", 3, 4)],
        troubles={"result": 0},
        pretended={b"/x": Condition.DEAD},
    )
    assert samples.value("check_mounts_submissions_total", destination="nsca:h") == 3
    assert samples.value("check_mounts_submission_failures_total", destination="nsca:h") == 4
    series = samples.series
    return {name for name, _ in series}, {label for _, labels in series for label, _ in labels}


def test_rules_and_dashboard_name_only_what_is_there() -> None:
    metric_names, labels = _emitted()
    # Of Prometheus itself and of the textfile collector; the others are made by the first rule.
    metric_names |= {
        "ALERTS",
        "node_textfile_mtime_seconds",
        "node_textfile_scrape_error",
        *re.findall(r"- record: (\S+)", RULES.read_text()),
    }
    labels |= {"job", "instance", "file", "alertname", "alertstate", "fileserver", "resource", "differs"}
    for expression in _dashboard_expressions():
        assert _names(expression)[0] <= metric_names, expression
        assert _names(expression)[1] <= labels, expression
    for expression in _rule_expressions():
        assert _names(expression)[0] <= metric_names, expression
        assert _names(expression)[1] <= labels, expression
    # Also in annotations, and in the tables of the manual.
    assert set(re.findall(r"\$labels\.(\w+)", RULES.read_text())) <= labels
    for path in (RULES, RULE_TESTS, USAGE_TESTS, PROMETHEUS / "README.md"):
        words = set(re.findall(r"\bcheck_mounts_[a-z_]+\b|\bnode_textfile_\w+", path.read_text()))
        assert words - {"check_mounts_absent"} <= metric_names, path
    conditions = {
        name for path in (RULES, DASHBOARD) for name in re.findall(r'condition\\?!?="(\w+?)\\?"', path.read_text())
    }
    assert conditions <= {condition.identifier for condition in Condition}


def test_each_condition_has_one_alert() -> None:
    own = re.findall(r'expr: (?:\|\n +)?check_mounts:mount_not_ok:state\{condition="(\w+)"\}', RULES.read_text())
    (rest,) = re.findall(r'condition!~"([\w|]+)"', RULES.read_text())
    assert len(set(own)) == len(own), f"{RULES} has two alerts for one condition: {sorted(own)}"
    unalarming = ("ok", "blocked", "shadowed", "idle", "ghost")
    wanted = {each.identifier for each in Condition if each.value not in unalarming}
    assert set(own) == wanted, f"{RULES} should have one alert for each of these, and no other"
    assert set(rest.split("|")) == wanted, f"CheckMountsMountNotOk in {RULES} should leave these out, and no other"


@pytest.mark.monitoring
def test_each_expression_of_the_dashboard_can_be_understood(tmp_path: Path) -> None:
    """As a recording rule, which is what promtool reads; JSON is YAML."""
    rules = [
        {"record": f"x:{number}", "expr": expression} for number, expression in enumerate(_dashboard_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, output = _promtool("check", "rules", "--lint=none", path)
    assert code == 0, output
    assert f"SUCCESS: {len(rules)} rules found" in output


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana asks for: the source of data as an input, variables that exist, panels that have
    an ID and a place of their own."""
    dashboard = _dashboard()
    assert dashboard["id"] is None and dashboard["schemaVersion"] >= 36 and dashboard["title"] and dashboard["uid"]
    assert [(each["name"], each["type"], each["pluginId"]) for each in dashboard["__inputs"]] == [
        ("DS_PROMETHEUS", "datasource", "prometheus")
    ]
    variables = [each["name"] for each in dashboard["templating"]["list"]]
    assert variables == ["instance", "mountpoint"]
    panels = dashboard["panels"]
    assert {panel["type"] for panel in panels} == {
        each["id"] for each in dashboard["__requires"] if each["type"] == "panel"
    }
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    for each in [
        *panels,
        *(target for panel in panels for target in panel["targets"]),
        *dashboard["templating"]["list"],
    ]:
        assert each["datasource"] == source
    assert set(re.findall(r"\$(\w+)", " ".join(_dashboard_expressions()))) <= set(variables)


def test_the_manual_lists_what_there_is() -> None:
    manual = (PROMETHEUS / "README.md").read_text()
    assert set(re.findall(r"^\| `(check_mounts_\w+)` ", manual, re.M)) == _emitted()[0]
    assert set(re.findall(r"^\| `(CheckMounts\w+)` ", manual, re.M)) == set(_alerts())
