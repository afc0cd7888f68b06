"""A drill: ``--pretend`` in a run and in the daemon, in every output that people and programs
read."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts.clocks import Boottime, boottime
from check_mounts.daemon import drill_file
from check_mounts.daemon.drill_file import Order, Refused
from check_mounts.judging.drilling import Pretended, rehearsed
from check_mounts.judging.policy import Judged, Policy, judged
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.options import drill_values
from check_mounts.outcome import Outcome
from check_mounts.report import summary
from check_mounts.system import processes
from tests.conftest import Fuse, Mounts, Plugin, until
from tests.daemon import Daemon, daemon
from tests.test_submit import Reader, reader

__all__ = ["daemon", "reader"]

HOSTILE = "a=b |\n'\\ DRILL=ok"
OTHERS = [condition for condition in Condition if condition is not Condition.OK]


# -- what is judged


def _mount(point: bytes) -> Mount:
    return Mount(1, 0, (0, 1), b"/", point, (), (), b"nfs4", b"filer1:/x", ())


def _judged(*conditions: Condition, drill: dict[int, Condition] | None = None, policy: Policy | None = None) -> Judged:
    """Of the mounts /0, /1, ..., of which some are in a drill."""
    findings = [
        Finding(b"/%d" % place, _mount(b"/%d" % place), condition, "why", Outcome(), 0.001 + place / 1000)
        for place, condition in enumerate(conditions)
    ]
    pretended = Pretended({b"/%d" % place: condition for place, condition in (drill or {}).items()})
    found = rehearsed(judged(Survey(tuple(findings)), policy or Policy()), pretended, ())
    assert not found.refused
    return found.judged


@pytest.mark.parametrize("condition", OTHERS, ids=lambda each: each.value)
@pytest.mark.parametrize("true", list(Condition), ids=lambda each: each.value)
def test_nothing_is_better_than_it_is(true: Condition, condition: Condition) -> None:
    if true in (Condition.SHADOWED, Condition.GHOST):  # it is not checked: another mount is, or none
        return
    truth, drill = _judged(true), _judged(true, drill={0: condition})
    (real,), (shown,) = truth.judgements, drill.judgements
    assert drill.state.rank >= truth.state.rank
    assert shown.state.rank == max(real.state.rank, Policy().state_of(condition).rank)
    assert shown.finding == real.finding and shown.truth == real and shown.drill is not None
    assert shown.condition is (condition if shown.is_drill else true)
    if real.state is not State.OK:  # what failed stays visible
        assert real.words in shown.words
    assert "DRILL" in shown.words and summary.headline(drill).startswith("DRILL: ")


def test_real_failures_are_counted_and_come_first() -> None:
    found = _judged(Condition.OK, Condition.DENIED, Condition.DEAD, Condition.OK, drill={0: Condition.TIMED_OUT})
    line = summary.report(found).said
    assert line.startswith("DRILL: 3 of 4 mounts failed, 2 really: /2 (nfs4 filer1:/x) dead: why; /0 (nfs4 filer1:/x) ")
    assert "/0 (nfs4 filer1:/x) timed out: DRILL, really ok in 0.001 s; /1 (nfs4 filer1:/x) denied: why" in line


def test_groups_of_real_and_pretended_failures_are_apart() -> None:
    drill = dict.fromkeys(range(6), Condition.DEAD)
    line = summary.report(_judged(*[Condition.OK] * 6, *[Condition.DEAD] * 6, drill=drill)).said
    assert line == (
        "DRILL: 12 of 12 mounts failed, 6 really: 6 mounts of filer1 dead: why (/6, /7, /8, ...); "
        "6 mounts of filer1 dead: DRILL, really ok (/0, /1, /2, ...)"
    )


def test_severities_apply() -> None:
    found = _judged(Condition.OK, drill={0: Condition.DEAD}, policy=Policy(severity={Condition.DEAD: State.WARNING}))
    assert found.state is State.WARNING


def test_a_mount_that_is_declared_and_may_be_absent() -> None:
    truth = judged(Survey(()), Policy(), allow_none=True)
    found = rehearsed(truth, Pretended({b"/usb": Condition.DEAD}), {b"/usb"})
    (each,) = found.judged.judgements
    assert (each.words, found.judged.state) == ("dead: DRILL, really it is absent, as it may be", State.CRITICAL)
    assert rehearsed(truth, Pretended({b"/usb": Condition.DEAD}), {b"/usc"}).refused == [
        "'/usb' is neither mounted nor declared; the nearest is '/usc'"
    ]


# -- the words of the command line


def test_the_last_equals_sign_counts() -> None:
    assert drill_values.pretended("/a=dead=timed_out") == (b"/a=dead", Condition.TIMED_OUT)
    assert drill_values.pretended("//x/./y/=Dead") == (b"/x/y", Condition.DEAD)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("/=ok",), "a drill cannot make a mount ok, which could hide a failure"),
        (("/",), "is not MOUNTPOINT=CONDITION"),
        (("=dead",), "is not an absolute path"),
        (("home=dead",), "is not an absolute path"),
        (("/=daed",), "the nearest is 'dead'"),
        (("/=dead", "--pretend", "/=slow"), "is pretended to be in two conditions"),
        (("/nowhere-at-all=dead",), "'/nowhere-at-all' is neither mounted nor declared"),
        (("/proc=dead",), "is not checked, so nobody is told of it: kernel pseudo-filesystem"),
        (("/=dead", "--wait"), "argument --pretend: does not go with --wait"),
        (("/=dead", "--for", "61m"), "is more than an hour"),
        (("/=dead", "--for", "5d"), "is not a positive number of seconds"),
        (("/=dead", "--daemon"), "argument --pretend: does not go with --daemon"),
        (("/=dead", "--cached"), "argument --pretend: does not go with --cached"),
    ],
)
def test_wrong_words(plugin: Plugin, words: tuple[str, ...], why: str) -> None:
    result = plugin("--pretend", *words, below=False)
    assert result.code == 3 and why in result.lines[0]


@pytest.mark.root
def test_the_nearest_mount_point_is_named(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("home")
    result = plugin("--pretend", f"{str(path)[:-1]}=dead")
    assert result.code == 3
    if len(str(path)) < 40:
        assert f"the nearest is '{path}'" in result.lines[0]


# -- a run


@pytest.mark.root
@pytest.mark.parametrize("condition", OTHERS, ids=lambda each: each.value)
def test_each_condition_in_a_run(mounts: Mounts, plugin: Plugin, condition: Condition) -> None:
    path = mounts.tmpfs(HOSTILE)
    mounts.tmpfs("other")
    result = plugin("-v", "--pretend", f"{path}={condition.value}")
    state = Policy().state_of(condition)
    assert result.code == state.value
    assert result.verdict.startswith(f"MOUNTS {state.name} - DRILL: ")
    assert f"{condition.identifier}=1;;;0" in result.lines[0]
    assert re.search(r"^note: DRILL: .* is only pretended to be .*, and really ok in ", "\n".join(result.lines), re.M)
    value = json.loads(plugin("--json", "--pretend", f"{path}={condition.value}").stdout)
    assert value["drill"] is True
    (mine,) = (each for each in value["findings"] if each["drill"])
    assert (mine["condition"], mine["drill"]["condition"]) == (condition.value, condition.value)
    assert mine["drill"]["really"]["condition"] == "ok" and mine["outcome"]["failed_step"] is None
    assert json.loads(plugin("--json").stdout)["drill"] is False


@pytest.mark.root
def test_a_real_failure_stays_visible(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("dead", source="filer1:/x")
    other = mounts.tmpfs("closed", "mode=0")
    fuse.command("fail", "dead", "statfs", str(errno.ESTALE))
    result = plugin("-v", "-t", "1", "--pretend", f"{path}=slow")
    assert result.code == 2
    assert "DRILL: 2 of 2 mounts failed, 2 really: " in result.lines[0]
    assert f"{path} (fuse.test filer1:/x) dead: Stale file handle (ESTALE) (DRILL: slow)" in result.lines[0]
    assert f"WARNING: {other} (tmpfs none) denied: " in "\n".join(result.lines)


@pytest.mark.root
def test_a_link_is_followed(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("home")
    (tmp_path / "link").symlink_to(path)
    result = plugin("--pretend", f"{tmp_path}/link=dead")
    assert result.code == 2 and f"{path} (tmpfs none) dead: DRILL, really ok" in result.lines[0]


@pytest.mark.root
def test_each_mount_and_the_table(mounts: Mounts, plugin: Plugin) -> None:
    path, other = mounts.tmpfs("home"), mounts.tmpfs("other")
    result = plugin("--per-mount", "--pretend", f"{path}=dead")
    rows = [line.split("\t") for line in result.lines if "\t" in line]
    assert rows[0][:2] == [str(path), "2"] and rows[0][2].startswith(
        f"MOUNTS CRITICAL - DRILL: {path} (tmpfs none) dead"
    )
    assert rows[1][:2] == [str(other), "0"] and "DRILL" not in rows[1][2]
    table = plugin("--table", "--pretend", f"{path}=dead").lines
    assert any("dead" in line and "DRILL" in line for line in table[1:])


@pytest.mark.root
def test_a_passive_result_of_a_run(mounts: Mounts, plugin: Plugin, reader: Reader) -> None:
    path = mounts.tmpfs("home")
    result = plugin(
        "--submit", f"command-file:{reader.path}", "--per-mount", "--submit-host", "h", "--pretend", f"{path}=dead"
    )
    assert result.code == 2
    whole, each = reader.lines()
    assert ";h;mounts;2;MOUNTS CRITICAL - DRILL: 1 of 1 mounts failed: " in whole
    assert f";h;mounts {path};2;MOUNTS CRITICAL - DRILL: {path} (tmpfs none) dead: DRILL, really ok in " in each


# -- the daemon


def _ask(daemon: Daemon, what: str, seconds: str = "1m") -> list[str]:
    result = daemon.plugin("--pretend", what, "--for", seconds, "--cache", str(daemon.cache), below=False)
    return [str(result.code), *result.lines]


def _file(daemon: Daemon) -> Path:
    return daemon.cache.with_name("status.drill")


@pytest.mark.root
def test_the_whole_chain(mounts: Mounts, daemon: Daemon, reader: Reader, tmp_path: Path) -> None:
    """From its begin to its end, which nobody asks for: the log, the result in all its forms, the
    metrics, passive results."""
    path, metrics = mounts.tmpfs(HOSTILE), tmp_path / "m.prom"
    daemon.interval = 3600.0
    daemon.start("--metrics", str(metrics), "--submit", f"command-file:{reader.path}", "--submit-host", "h")
    done = _ask(daemon, f"{path}=dead", "2s")
    assert done[0] == "0" and done[1].startswith("MOUNTS OK - the daemon (pid ") and "drill of 2 s: " in done[1]
    shown = str(path).replace("\\", "\\134").replace("|", "\\174").replace("\n", "\\012")
    result = daemon.until(lambda result: result.code == 2)
    assert result.lines[0].startswith("MOUNTS CRITICAL - DRILL: 1 of 1 mounts failed: ")
    assert daemon.cached("-v").lines[1].startswith("note: DRILL: ")
    assert json.loads(daemon.cached("--json").stdout)["findings"][0]["drill"]["really"]["state"] == "OK"
    until(lambda: 'drill="yes"' in metrics.read_text() and "check_mounts_drill{" in metrics.read_text())
    until(lambda: any(";2;MOUNTS CRITICAL - DRILL: " in line for line in reader.lines()))
    daemon.until(lambda result: result.code == 0 and "DRILL" not in result.lines[0])
    until(lambda: ";0;MOUNTS OK - 1 mount checked" in reader.lines()[-1])
    until(lambda: 'drill="yes"' not in metrics.read_text() and "check_mounts_drill{" not in metrics.read_text())
    lines = [line for line in daemon.lines if "rill" in line.lower()]
    assert lines[0] == f"Drill begins: {shown}=dead, for 2 s"
    assert lines[1].startswith(f"DRILL: {shown} is dead: DRILL, really ok in ")
    assert lines[-2:] == [f"DRILL: {shown} is ok again, after it was dead", f"Drill ended: {shown}=dead, after 2 s"]
    assert not _file(daemon).exists()


@pytest.mark.root
def test_the_truth_is_logged_as_ever(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """A mount that hangs while a drill says that it is slow; and one that nobody pretends anything
    of."""
    path, other = fuse.mount("home", source="filer1:/home"), mounts.tmpfs("other")
    daemon.start()
    assert _ask(daemon, f"{path}=slow")[0] == "0"
    daemon.until(lambda result: result.code == 1)
    fuse.command("hang", "home")
    result = daemon.until(lambda result: result.code == 2)
    assert (
        f"{path} (fuse.test filer1:/home) timed out after 0.5 s" in result.lines[0]
        and ", 1 really: " in result.lines[0]
    )
    other.chmod(0)
    daemon.until(lambda result: ", 2 really: " in result.lines[0])
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 1)
    until(lambda: any(line.startswith(f"{path} answers again") for line in daemon.lines))
    assert any(line.startswith(f"{path} timed out after 0.5 s") for line in daemon.lines)
    assert any(line.startswith(f"Couldn't check mountpoint {other}: ") for line in daemon.lines)


@pytest.mark.root
def test_a_restart_ends_it(mounts: Mounts, daemon: Daemon) -> None:
    path = mounts.tmpfs("home")
    daemon.start()
    _ask(daemon, f"{path}=dead")
    daemon.until(lambda result: result.code == 2)
    daemon.stop()
    assert daemon.lines[-2].endswith(", because the daemon ends") and not _file(daemon).exists()
    daemon.start()
    assert daemon.cached().code == 0
    _ask(daemon, f"{path}=dead")
    daemon.until(lambda result: result.code == 2)
    daemon.process.kill()
    daemon.process.wait()
    assert _file(daemon).exists()
    daemon.start()
    assert daemon.cached().code == 0
    until(lambda: daemon.says("A drill ended with the daemon that held it") and not _file(daemon).exists())


@pytest.mark.root
def test_another_one_takes_its_place_and_who_removes_the_file_ends_it(mounts: Mounts, daemon: Daemon) -> None:
    one, other = mounts.tmpfs("one"), mounts.tmpfs("other")
    daemon.start()
    _ask(daemon, f"{one}=dead")
    daemon.until(lambda result: f"{one} (tmpfs none) dead" in result.lines[0])
    _ask(daemon, f"{other}=slow")
    daemon.until(lambda result: f"{other} (tmpfs none) slow" in result.lines[0] and result.code == 1)
    _file(daemon).unlink()
    daemon.signal(signal.SIGUSR1)
    daemon.until(lambda result: result.code == 0)
    until(lambda: daemon.lines[-1].startswith("Checked") or "its file was removed" in daemon.log)
    assert "because its file was removed" in daemon.log


@pytest.mark.root
def test_who_may_and_where(mounts: Mounts, daemon: Daemon, public: Path) -> None:
    path = mounts.tmpfs("home")
    refused = _ask(daemon, f"{path}=dead")
    assert refused[0] == "3" and "argument --cache: " in refused[1]
    daemon.start()
    refused = _ask(daemon, f"{path}x=dead")
    assert refused[0] == "3" and "is neither mounted nor declared" in refused[1]
    before = daemon.plugin(
        "--pretend", f"{path}=dead", "--for", "1m", "--cache", str(daemon.cache), str(path), below=False
    )
    assert before.code == 3 and "goes without MOUNTPOINT" in before.lines[0]
    daemon.stop()
    refused = _ask(daemon, f"{path}=dead")
    assert refused[0] == "3" and "no daemon keeps it up to date" in refused[1]
    assert not _file(daemon).exists()


@pytest.mark.root
def test_only_root_asks(plugin: Plugin, public: Path) -> None:
    code = "import os, sys; os.setuid(65534); sys.path.insert(0, %r); from check_mounts.__main__ import main; main()"
    import subprocess

    command = ["/usr/bin/python3", "-c", code % str(public), "--pretend", "/=dead", "--for", "5m"]
    environment = {"XDG_RUNTIME_DIR": str(public)}  # where nothing can be left
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, env=environment)
    assert done.returncode == 3
    assert done.stdout.startswith("MOUNTS UNKNOWN - argument --for: only root can start a drill in the daemon")


def _order(daemon: Daemon, path: Path, at: Boottime | None = None) -> bytes:
    pid = daemon.process.pid
    start = processes.process_start(pid)
    assert start is not None
    order = Order(drill_file.address(pid, start), at or boottime(), 60.0, {os.fsencode(path): Condition.DEAD})
    return drill_file.compose(order)


def _make_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


@pytest.mark.root
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda file: os.chown(file, 65534, 65534), "it belongs to uid 65534, and only root can start a drill"),
        (lambda file: file.chmod(0o620), "mode 0620 lets others write to it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "it makes no sense"),
        (lambda file: file.write_bytes(b""), "it makes no sense"),
        (lambda file: file.write_bytes(os.urandom(100000)), "it makes no sense"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"\ndead ", b"\nok ")), "nobody can pretend"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"for 60", b"for 6000")), "more than an hour"),
        (lambda file: (file.rename(f"{file}.x"), file.symlink_to(f"{file}.x")), "it is no regular file"),
        (_make_a_pipe, "it is no regular file"),
        (lambda file: (file.unlink(), file.mkdir()), "it is no regular file"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_a_line(mounts: Mounts, daemon: Daemon, spoil: Callable[[Path], object], why: str) -> None:
    path = mounts.tmpfs("home")
    daemon.start()
    with daemon.frozen():
        file = _file(daemon)
        file.write_bytes(_order(daemon, path))
        file.chmod(0o600)
        spoil(file)
    daemon.check()
    daemon.check()
    lines = [line for line in daemon.lines if "rill" in line]
    assert len(lines) == 1 and lines[0].startswith("No drill: status.drill: ") and why in lines[0]
    assert daemon.cached().code == 0


@pytest.mark.root
def test_an_old_file_is_refused_and_a_good_one_is_taken(mounts: Mounts, daemon: Daemon) -> None:
    path = mounts.tmpfs("home")
    daemon.start()
    for at in (Boottime(boottime() - 301), Boottime(boottime() + 3600)):
        _file(daemon).write_bytes(_order(daemon, path, at))
        daemon.check()
        assert daemon.cached().code == 0
    assert daemon.log.count("No drill: status.drill: it was not written just now") == 2
    _file(daemon).write_bytes(_order(daemon, path))
    daemon.check()
    daemon.until(lambda result: result.code == 2)


@pytest.mark.root
def test_what_the_client_writes_is_for_root_alone(mounts: Mounts, daemon: Daemon) -> None:
    path = mounts.tmpfs("home")
    daemon.start()
    _ask(daemon, f"{path}=dead")
    status = _file(daemon).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)


@pytest.mark.root
def test_a_mount_that_is_not_checked_has_no_drill(mounts: Mounts, daemon: Daemon) -> None:
    mounts.tmpfs("home")
    left_out = mounts.tmpfs("out")
    daemon.start("-x", str(left_out))
    assert _ask(daemon, f"{left_out}=dead")[0] == "0"
    until(lambda: "Drill ended: " in daemon.log)
    assert f"No drill: '{left_out}' is not checked, so nobody is told of it: " in daemon.log
    assert daemon.cached().code == 0


def test_what_is_written_is_what_is_read() -> None:
    conditions = {os.fsencode(f"/{HOSTILE}") + b"\xff\x01": Condition.TIMED_OUT, b"/": Condition.READ_ONLY}
    order = Order("a 1 2 3", Boottime(12.5), 300.0, conditions)
    assert drill_file.parse(drill_file.compose(order)) == order
    with pytest.raises(ValueError, match="too many"):
        drill_file.compose(order._replace(conditions={b"/%05d" % n + b"x" * 100: Condition.DEAD for n in range(1000)}))
    for data in (b"", b"\0", drill_file.compose(order)[:-1], drill_file.compose(order) + b"x\n"):
        with pytest.raises(Refused):
            drill_file.parse(data)
