"""``--on-change``: the program that the daemon runs for each change of a mount, and the daemon
beside one that hangs, fails, floods or was replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from check_mounts.clocks import Boottime, after, boottime, epoch_of, monotonic
from check_mounts.daemon import on_change
from check_mounts.daemon.episodes import Change, Episode
from check_mounts.daemon.on_change import Event, OnChange
from check_mounts.daemon.subjects import Subject
from check_mounts.judging.judgements import Judgement
from check_mounts.model import Condition, Finding, State
from check_mounts.options import values
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, until
from tests.daemon import Daemon, children, daemon
from tests.kernel import state

__all__ = ["daemon"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that only root can write to, as all above it are; /tmp is not."""
    path = Path(tempfile.mkdtemp(prefix="check_mounts-test-", dir="/run"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def script(path: Path, words: str) -> Path:
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)
    return path


class Lines:
    def __init__(self) -> None:
        self.lines: list[tuple[State, str]] = []

    def __call__(self, state: State, line: str) -> None:
        self.lines.append((state, line))

    def __contains__(self, words: str) -> bool:
        return any(words in line for _, line in self.lines)


def run_until_idle(running: OnChange, seconds: float = 40.0) -> None:
    until_ = after(seconds)
    while any(run.errand.is_under_way for run in running._runs) or running._waiting:
        assert monotonic() < until_
        running.step()
        time.sleep(0.005)


def event(point: bytes = b"/home", condition: str = "timed-out", was: bytes = b"ok") -> Event:
    return Event(point, condition, {b"CHECK_MOUNTS_WAS": was, b"CHECK_MOUNTS_CONDITION": condition.encode()})


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def running(lines: Lines) -> Iterator[OnChange]:
    result = OnChange(lines)
    yield result
    result.close()


# -- what it gets


def _environment(output: Path) -> Mapping[bytes, bytes]:
    return dict(each.split(b"=", 1) for each in output.read_bytes().split(b"\0") if each)


def test_what_the_program_gets() -> None:
    now = boottime()
    finding = Finding(b"/a\nb\xff", None, Condition.TIMED_OUT)
    judgement = Judgement(finding, Condition.TIMED_OUT, State.CRITICAL, "timed out after 5 s")
    episode = Episode(Condition.TIMED_OUT, State.CRITICAL, now, now - 100)
    subject = Subject(b"/a\nb\xff", b"//u:secret@filer1/x\xff", b"cifs", b"filer1")
    found = on_change.event(Change(b"/a\nb\xff", None, episode, judgement), subject, False)
    given = {key.removeprefix(b"CHECK_MOUNTS_"): value for key, value in found.variables.items()}
    since = int(given.pop(b"SINCE"))
    assert abs(since - epoch_of(Boottime(now - 100))) < 2
    assert given == {
        b"MOUNT_POINT": b"/a\nb\xff",
        b"SOURCE": b"//u:***@filer1/x\xff",
        b"TYPE": b"cifs",
        b"SERVER": b"filer1",
        b"CONDITION": b"timed-out",
        b"WAS": b"ok",
        b"STATE": b"CRITICAL",
        b"WORDS": b"timed out after 5 s",
        b"DRILL": b"no",
        b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"LC_ALL": b"C",
    }
    gone = on_change.event(Change(b"/a\nb\xff", episode, None, None, "mounted"), subject, True)
    told = {key.removeprefix(b"CHECK_MOUNTS_"): value for key, value in gone.variables.items()}
    assert [told[name] for name in (b"CONDITION", b"WAS", b"STATE", b"WORDS", b"DRILL")] == [
        b"gone",
        b"timed-out",
        b"OK",
        b"not mounted any more",
        b"yes",
    ]


@pytest.mark.parametrize(
    ("word", "words"),
    [("/bin/x", ("/bin/x",)), ("/bin/x  -a b=c\t/d", ("/bin/x", "-a", "b=c", "/d"))],
)
def test_commands(word: str, words: tuple[str, ...]) -> None:
    assert values.command(word) == words


@pytest.mark.parametrize(
    "word", ["", " ", "x", "bin/x", "/bin/x 'a b'", "/bin/x > /tmp/y", "/bin/x; rm", "/bin/x $HOME", "/bin/x \\"]
)
def test_what_is_no_command(word: str) -> None:
    with pytest.raises(ValueError):
        values.command(word)


# -- how it is run


def test_what_it_says_and_how_it_ends_is_one_line(running: OnChange, lines: Lines, place: Path) -> None:
    for words, expected in (
        ("exit 0", None),
        ("echo one; echo; printf '\\033[31m two' >&2", (State.OK, "one; \\033[31m two")),
        ("echo bad; exit 3", (State.WARNING, "exit status 3: bad")),
        ("kill -9 $$", (State.WARNING, "ended by signal 9")),
        ("yes | head -c 100000", (State.OK, "y; y; ")),
    ):
        lines.lines.clear()
        running.serve([str(script(place / "x", words))])
        running.follow(event())
        run_until_idle(running)
        if expected is None:
            assert not lines.lines
        else:
            ((state_, line),) = lines.lines
            assert state_ is expected[0] and line.startswith("--on-change for /home (timed-out): " + expected[1]), line
            assert line.isprintable() and len(line) < 600


def test_what_cannot_be_run_is_one_line(running: OnChange, lines: Lines, place: Path) -> None:
    other = script(place / "writable", "exit 0")
    other.chmod(0o777)
    for path, why in (
        (place / "missing", f"{place}/missing: No such file or directory"),
        (other, f"{other} is not run, because not only its owner may write to {other} (mode 0777)"),
        (Path("/tmp/x"), "/tmp/x is not run, because not only its owner may write to /tmp (mode 1777)"),
    ):
        lines.lines.clear()
        running.serve([str(path)])
        running.follow(event())
        run_until_idle(running)
        assert lines.lines == [(State.WARNING, f"--on-change for /home (timed-out): {why}")]
    (place / "text").write_text("x")
    lines.lines.clear()
    running.serve([str(place / "text")])
    running.follow(event())
    run_until_idle(running)
    assert f"{place}/text cannot be run: Permission denied" in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_what_another_user_could_replace_is_not_run(running: OnChange, lines: Lines, place: Path) -> None:
    path = script(place / "x", "exit 0")
    os.chown(path, 1000, 0)
    running.serve([str(path)])
    running.follow(event())
    run_until_idle(running)
    assert f"{path} is not run, because {path} belongs to uid 1000" in lines


def test_one_at_a_time_for_a_mount_and_the_newest_counts(running: OnChange, lines: Lines, place: Path) -> None:
    log, go = place / "log", place / "go"
    words = f'echo "$CHECK_MOUNTS_WAS $CHECK_MOUNTS_CONDITION" >> {log}; while ! [ -e {go} ]; do sleep 0.01; done'
    running.serve([str(script(place / "x", words))])
    running.follow(event(condition="timed-out"))
    running.step()
    running.follow(event(condition="dead", was=b"timed-out"))
    running.follow(event(condition="denied", was=b"dead"))
    running.follow(event(condition="ok", was=b"denied"))

    def begun() -> bool:
        running.step()
        return log.exists() and bool(log.read_text())

    until(begun)
    assert log.read_text() == "ok timed-out\n"
    go.touch()
    run_until_idle(running)
    assert log.read_text() == "ok timed-out\ntimed-out ok\n"
    assert "--on-change: 2 changes had no program: a newer one of the same mount came first" in lines


def test_trouble_that_came_and_went_meanwhile_is_left_out(running: OnChange, lines: Lines, place: Path) -> None:
    running.serve([str(script(place / "x", f"echo $CHECK_MOUNTS_CONDITION >> {place}/log"))])
    running.follow(event(condition="timed-out"))
    running.follow(event(condition="ok", was=b"timed-out"))
    running.step()
    assert not running._waiting and not any(run.errand.is_under_way for run in running._runs)
    running.follow(event(condition="dead"))
    run_until_idle(running)
    assert (place / "log").read_text() == "dead\n"
    assert "--on-change: 2 changes had no program" in lines


def test_only_so_many_at_once_and_in_a_minute(running: OnChange, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_change, "MOST_IN_A_MINUTE", 10)
    log, go = place / "log", place / "go"
    log.touch()
    words = f"echo x >> {log}; while ! [ -e {go} ]; do sleep 0.01; done"
    running.serve([str(script(place / "x", words))])
    for number in range(30):
        running.follow(event(b"/%d" % number))

    def begun(count: int) -> bool:
        running.step()
        return len(log.read_text().split()) == count

    until(lambda: begun(on_change.MOST_AT_ONCE))
    running.step()
    assert sum(run.errand.is_under_way for run in running._runs) == on_change.MOST_AT_ONCE
    go.touch()
    until(lambda: begun(10))

    def is_idle() -> bool:
        running.step()
        return not any(run.errand.is_under_way for run in running._runs)

    until(is_idle)
    assert len(running._waiting) == 20
    assert 50 < running.due - monotonic() <= 60
    running._begun = [type(when)(when - 60) for when in running._begun]
    until(lambda: begun(20))


def test_one_that_takes_too_long_is_killed_with_all_that_it_started(
    running: OnChange, lines: Lines, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_change, "LONGEST_RUN", 0.5)
    pids = place / "pids"
    words = f"trap '' TERM; sleep 1000 & echo $! $$ > {pids}; wait"
    running.serve([str(script(place / "x", words))])
    running.follow(event())
    run_until_idle(running)
    assert lines.lines == [
        (
            State.WARNING,
            "--on-change for /home (timed-out): it did not end within 0.5 s, and was killed",
        )
    ]
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: _ended(pid))  # type: ignore[misc]


def test_what_it_leaves_in_its_group_ends_with_it(running: OnChange, lines: Lines, place: Path) -> None:
    pids = place / "pids"
    running.serve([str(script(place / "x", f"sleep 1000 & echo $! > {pids}; echo said"))])
    running.follow(event())
    begun = monotonic()
    run_until_idle(running)
    assert monotonic() - begun < 20
    assert lines.lines == [(State.OK, "--on-change for /home (timed-out): said")]
    until(lambda: _ended(int(pids.read_text())))


def _ended(pid: int) -> bool:
    return state(pid) in ("X", "Z")


def test_no_program_after_it_was_taken_back(running: OnChange, lines: Lines, place: Path) -> None:
    running.serve([str(script(place / "x", "echo said"))])
    running.follow(event())
    running.serve([])
    running.step()
    running.follow(event())
    running.step()
    assert not lines.lines and not any(run.errand.is_under_way for run in running._runs)


@pytest.mark.root
def test_a_program_on_a_mount_that_hangs_costs_one_process(
    mounts: Mounts, fuse: Fuse, running: OnChange, lines: Lines, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_change, "LONGEST_RUN", 0.5)
    monkeypatch.setattr(on_change, "_BEYOND", 0.5)
    for run in running._runs:
        run.errand._seconds = 1.0

    def says(words: str) -> bool:
        running.step()
        return words in lines

    tools = fuse.mount("tools")
    fuse.command("hang", "tools")
    running.serve([str(tools / "x")])
    for number in range(12):
        running.follow(event(b"/%d" % number))
    until(lambda: says("no further programs"))
    stuck = fuse.waiting("tools")
    assert 1 <= stuck <= on_change.MOST_AT_ONCE
    running.follow(event(b"/another"))
    for _ in range(20):
        running.step()
    assert fuse.waiting("tools") == stuck  # nothing has come to it
    fuse.command("answer", "tools")
    until(lambda: says("Programs of --on-change are run again"))


# -- in the daemon

pytestmark: list[pytest.MarkDecorator] = []


@pytest.mark.root
def test_a_daemon_runs_it_for_each_change(fuse: Fuse, daemon: Daemon, place: Path) -> None:
    home = fuse.mount("home")
    told = script(place / "x", f'env -0 > {place}/$CHECK_MOUNTS_CONDITION.new; cd {place}; '
                  'mv $CHECK_MOUNTS_CONDITION.new $CHECK_MOUNTS_CONDITION.env; echo "$1 $2"')  # fmt: skip
    daemon.start("--on-change", f"{told} one  two")
    fuse.command("hang", "home")
    until((place / "timed-out.env").exists)
    given = _environment(place / "timed-out.env")
    assert given[b"CHECK_MOUNTS_MOUNT_POINT"] == os.fsencode(home)
    assert (given[b"CHECK_MOUNTS_STATE"], given[b"CHECK_MOUNTS_TYPE"]) == (b"CRITICAL", b"fuse.test")
    fuse.command("answer", "home")
    until((place / "ok.env").exists)
    assert _environment(place / "ok.env")[b"CHECK_MOUNTS_WAS"] == b"timed-out"
    until(lambda: daemon.says(f"--on-change for {home} (ok): one two"))
    assert daemon.stop() == 0


@pytest.mark.root
@pytest.mark.parametrize("asked", [False, True])
def test_a_drill_is_told_only_if_so_asked_and_marked(
    mounts: Mounts, daemon: Daemon, place: Path, plugin: Plugin, asked: bool
) -> None:
    home = mounts.tmpfs("home")
    words = "$CHECK_MOUNTS_MOUNT_POINT $CHECK_MOUNTS_CONDITION $CHECK_MOUNTS_DRILL"
    told = script(place / "x", f'echo "{words}" >> {place}/log')
    daemon.start("--on-change", str(told), *(["--on-change-drill"] if asked else []))
    drill = ["--pretend", f"{home}=dead", "--for", "1s", "--cache", str(daemon.cache)]
    assert plugin(*drill).code == 0
    until(lambda: "Drill ended" in daemon.log)
    told_words = [f"{home} dead yes", f"{home} gone yes"] if asked else []
    daemon.check()
    assert daemon.stop() == 0
    log = place / "log"
    assert (log.read_text().splitlines() if log.exists() else []) == told_words
    found = subprocess.run(
        [PYTHON, "-m", "check_mounts", "--incidents", "--cache", str(daemon.cache), "--config", "/dev/null", "--json"],
        env=plugin.environment, capture_output=True, check=True,
    )  # fmt: skip
    (incident,) = json.loads(found.stdout)["incidents"]
    assert (incident["mount_point"], incident["drill"], incident["why"]) == (str(home), True, "not pretended any more")


@pytest.mark.root
def test_a_reload_changes_it(mounts: Mounts, daemon: Daemon, place: Path, tmp_path: Path) -> None:
    home, configuration = mounts.tmpfs("home"), tmp_path / "conf"
    for name in ("one", "two"):
        script(place / name, f"touch {place}/{name}.ran")
    configuration.write_text(f"[check_mounts]\non-change = {place}/one\nexpect-ro = {home}\n")
    daemon.start("--config", str(configuration))
    until((place / "one.ran").exists)
    configuration.write_text(f"[check_mounts]\non-change = {place}/two\n")
    daemon.signal(signal.SIGHUP)
    until((place / "two.ran").exists)


@pytest.mark.root
def test_a_flood_of_changes_keeps_no_daemon_from_its_checks(mounts: Mounts, daemon: Daemon, place: Path) -> None:
    names = [f"m{number}" for number in range(40)]
    for name in names:
        mounts.tmpfs(name)
    slow = script(place / "x", f"echo x >> {place}/log; sleep 0.2")
    daemon.start("--on-change", str(slow), f"--expect-ro={mounts.base}/*")
    before = (place / "log").read_text().count("x") if (place / "log").exists() else 0
    daemon.until_checked(2)
    assert before < 40
    assert len(children(daemon.process.pid)) <= 4 + on_change.MOST_AT_ONCE
    until(lambda: (place / "log").read_text().count("x") == 40)
    assert daemon.stop() == 0


@pytest.mark.root
def test_the_configuration_is_checked_with_its_program(plugin: Plugin, place: Path, tmp_path: Path) -> None:
    path, configuration = script(place / "x", "exit 0"), tmp_path / "conf"
    configuration.write_text(f"[check_mounts]\non-change = {path}\n")
    words = "--check-config", "--config", str(configuration), "--cache", str(place / "run" / "status")
    assert plugin(*words, below=False).code == 0
    for mode, why in ((0o777, f"it would not be run, because not only its owner may write to {path} (mode 0777)"),
                      (0o644, "it is not a program")):  # fmt: skip
        path.chmod(mode)
        verdict = plugin(*words, below=False).verdict
        assert verdict == f"MOUNTS UNKNOWN - {configuration} line 2: on-change: {path}: {why}"


def test_a_single_run_does_not_take_it(plugin: Plugin) -> None:
    verdict = plugin("--on-change", "/bin/true").verdict
    assert re.match("MOUNTS UNKNOWN - argument --on-change: goes with --daemon only", verdict), verdict
