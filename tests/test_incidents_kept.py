"""The incidents that a real daemon keeps, whatever happens to it and to its disk, and what
``--incidents`` tells of them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from check_mounts import text
from check_mounts.clocks import Boottime, Epoch
from check_mounts.incidents import records
from check_mounts.incidents.records import Kind
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon, children, daemon
from tests.kernel import workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def _file(daemon: Daemon) -> Path:
    return daemon.cache.with_name("status.incidents")


def _read(path: Path) -> list[records.Record]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [record for line in lines if (record := records.decoded(line)) is not None]


def _events(path: Path) -> list[str]:
    return [record.kind.value for record in _read(path)]


def _ask(daemon: Daemon, *arguments: str, **options: Any) -> Result:
    words = ["--incidents", "--cache", str(daemon.cache), "--config", "/dev/null", *arguments]
    result = Result(daemon.plugin.start(*words, below=False, state=False, **options))
    result.lines = result.lines[:-1]  # after the last newline
    return result


def _told(daemon: Daemon, *arguments: str) -> Any:
    result = _ask(daemon, "--json", *arguments)
    assert result.code == 0, result.lines
    return json.loads(result.stdout)


def _fail(fuse: Fuse, daemon: Daemon, name: str = "home") -> Path:
    """A mount that comes to hang, as is logged."""
    path = fuse.mount(name)
    if not daemon._started:
        daemon.start()
    fuse.command("hang", name)
    until(lambda: f"{path} timed out" in daemon.log)
    return path


def test_what_hangs_and_answers_again(fuse: Fuse, daemon: Daemon) -> None:
    home = _fail(fuse, daemon)
    until(lambda: _events(_file(daemon))[-1:] == ["begin"])
    lasting = _ask(daemon)
    assert (lasting.code, lasting.lines[0][:36]) == (0, "MOUNTS OK - 1 incident of 1 mount si")
    assert lasting.lines[0].endswith(", 1 not over")
    assert f"{home}: since " in lasting.lines[1] and "not over): timed out after 0.5 s" in lasting.lines[1]
    fuse.command("answer", "home")
    until(lambda: _events(_file(daemon))[-1:] == ["end"])
    told = _told(daemon)
    (each,) = told["incidents"]
    assert (each["mount_point"], each["condition"], each["state"]) == (str(home), "timed-out", "CRITICAL")
    assert (each["ended"], each["why"], each["type"]) == ("seen", "ok again", "fuse.test")
    # It began when its probe did, not when that was given up.
    assert abs(each["end"] - each["begin"] - each["seconds"]) < 0.1 and each["seconds"] >= 0.5
    assert told["groups"][0]["incidents"] == [each["incident"]]
    assert stat.S_IMODE(_file(daemon).stat().st_mode) == 0o640
    assert not daemon.cache.with_name("status.pending").exists()
    assert _told(daemon, "--since", "0s")["incidents"] == []
    assert len(_told(daemon, "--since", "1h")["incidents"]) == 1
    assert _told(daemon, "/elsewhere")["incidents"] == []


def test_a_killed_daemon_loses_nothing_that_its_log_has(fuse: Fuse, daemon: Daemon) -> None:
    """Killed at the very moment when the log says it; the next one goes on."""
    names = [f"m{number}" for number in range(8)]
    paths = [fuse.mount(name) for name in names]
    daemon.start()
    for name in names:
        fuse.command("hang", name)
    until(lambda: " timed out after" in daemon.log)
    daemon.signal(signal.SIGKILL)
    daemon.process.wait()
    logged = {path for path in paths if f"\n{path} timed out" in daemon.log}
    told = _told(daemon)
    assert {each["mount_point"] for each in told["incidents"]} >= {str(path) for path in logged}
    daemon.start()
    until(lambda: all(f"\n{path} timed out" in daemon.log for path in paths))
    for name in names:
        fuse.command("answer", name)
    until(lambda: len([event for event in _events(_file(daemon)) if event == "end"]) == 8)
    incidents = _told(daemon)["incidents"]
    assert len(incidents) == 8  # the next daemon went on with each
    assert {each["ended"] for each in incidents} == {"seen"}


def test_what_was_well_before_the_next_daemon_looked(fuse: Fuse, daemon: Daemon) -> None:
    home = _fail(fuse, daemon)
    until(lambda: "begin" in _events(_file(daemon)))
    assert daemon.stop() == 0
    assert _events(_file(daemon))[-1] == "stop"
    result = _ask(daemon)
    assert result.lines[-1].startswith("note: the last record is of "), result.lines
    fuse.command("answer", "home")
    daemon.start()
    until(lambda: _events(_file(daemon))[-1] == "checked")
    (each,) = _told(daemon)["incidents"]
    assert (each["mount_point"], each["ended"]) == (str(home), "unseen")
    assert _ask(daemon).lines[1].endswith("; over at the next start of the daemon")


def test_a_full_disk_is_one_line_and_loses_nothing(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    disk = mounts.tmpfs("disk", "size=64k,mode=0755")
    path = disk / "incidents"
    fuse.mount("home")
    daemon.start("--incident-file", str(path))
    until(lambda: "checked" in _events(path))
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    number = 0
    while "Cannot write" not in daemon.log:  # there is room in the last page
        number += 1
        assert number < 20
        fuse.command("hang", "home")
        until(lambda number=number: daemon.log.count(" timed out after") == number)  # type: ignore[misc]
        fuse.command("answer", "home")
        until(lambda number=number: daemon.log.count(" answers again") == number)  # type: ignore[misc]
    ends = daemon.log.count("answers again")
    told = _told(daemon, "--incident-file", str(path))
    assert len(told["incidents"]) == ends > 0  # what waits is told, too
    filler.unlink()
    daemon.signal(signal.SIGTERM)
    daemon.process.wait()
    assert len([event for event in _events(path) if event == "end"]) == ends
    assert all(records.decoded(line) for line in path.read_bytes().split(b"\n") if line)
    full = {line for line in daemon.lines if line.startswith("Cannot write")}
    assert full <= {f"Cannot write {path}: {why}" for why in ("No space left on device", "the disk is full")}


def test_what_a_daemon_could_not_write_the_next_one_writes(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    path = mounts.point("place") / "incidents"
    path.parent.rmdir()
    path.parent.write_text("in the way\n")
    _fail_with(fuse, daemon, path)
    daemon.signal(signal.SIGKILL)
    daemon.process.wait()
    assert f"Cannot write {path}: it is not a directory" in daemon.log
    assert _events(daemon.cache.with_name("status.pending"))[:2] == ["start", "checked"]
    path.parent.unlink()
    daemon.start("--incident-file", str(path))
    until(lambda: _events(path).count("start") == 2)
    assert _events(path)[:3] == ["start", "checked", "begin"]
    until(lambda: not daemon.cache.with_name("status.pending").exists())


def _fail_with(fuse: Fuse, daemon: Daemon, path: Path) -> None:
    home = fuse.mount("home")
    daemon.start("--incident-file", str(path))
    fuse.command("hang", "home")
    until(lambda: f"{home} timed out" in daemon.log and "Cannot write" in daemon.log)
    fuse.command("answer", "home")


def test_a_place_that_hangs_costs_one_process_and_delays_nothing(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, plugin: Plugin
) -> None:
    """It is on a FUSE filesystem: not touched at all. A reader hangs there, and is given up."""
    place = fuse.mount("place")
    daemon.start("--incident-file", str(place / "incidents"), "-x", str(place))
    fuse.command("hang", "place")
    daemon.until_checked(2)
    assert f"Cannot write {place}/incidents: {place}/incidents is on fuse.test, which may hang" in daemon.log
    assert fuse.waiting("place") == 0
    assert children(daemon.process.pid) == []
    fuse.command("answer", "place")


def test_none_are_kept_if_so_said(fuse: Fuse, daemon: Daemon) -> None:
    fuse.mount("home")
    daemon.start("--incident-file", "none")
    fuse.command("hang", "home")
    until(lambda: "timed out after" in daemon.log)
    fuse.command("answer", "home")
    assert not [path for path in daemon.cache.parent.iterdir() if "incidents" in path.name or "pending" in path.name]
    result = _ask(daemon, "--incident-file", "none")
    assert (result.code, result.lines[0]) == (3, "MOUNTS UNKNOWN - argument --incident-file: none are kept")


def test_another_file_needs_a_restart(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    configuration = tmp_path / "conf"
    configuration.write_text(f"[check_mounts]\nincident-file = {tmp_path}/one/incidents\n")
    daemon.start("--config", str(configuration))
    until(lambda: "checked" in _events(tmp_path / "one/incidents"))
    configuration.write_text(f"[check_mounts]\nincident-file = {tmp_path}/two/incidents\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("Needs a restart: --incident-file has changed"))


# -- names and numbers


def test_hostile_names_are_escaped(mounts: Mounts, daemon: Daemon, plugin: Plugin) -> None:
    names = ["a\nMOUNTS CRITICAL - x", "b|c\\d", "e\x1b[31m", "f\udcff", 'g"h', "ü"]
    base = mounts.point("base")
    points = [os.path.join(str(base), name) for name in names]
    for point in points:
        os.mkdir(point)
        mounts.tmpfs(os.path.relpath(point, mounts.base))
    daemon.start(*[f"--expect-ro={base}/*"])
    until(lambda: _events(_file(daemon)).count("begin") == len(names))
    told = _told(daemon)
    expected = {text.printable(os.fsencode(point)) for point in points}
    assert {each["mount_point"] for each in told["incidents"]} == expected
    lines = _ask(daemon, "-v").lines
    assert len(lines) == 1 + 2 * len(names) and all(map(str.isprintable, lines))
    assert all(line.count(b"\n") == 0 and line.isascii() for line in _file(daemon).read_bytes().split(b"\n"))


def test_what_is_blocked_is_counted_with_its_cause(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    home = fuse.mount("home")
    mounts.tmpfs("home/sub")
    daemon.start()
    fuse.command("hang", "home")
    until(lambda: f"{home} timed out" in daemon.log)
    until(lambda: _events(_file(daemon))[-1:] in (["begin"], ["evidence"]))
    (each,) = _told(daemon)["incidents"]
    assert (each["mount_point"], each["blocked"]) == (str(home), 1)
    assert "; 1 mount below could not be asked" in _ask(daemon).lines[1]
    fuse.command("answer", "home")


# -- the command


def _reason(daemon: Daemon, *arguments: str, wrapper: Sequence[str] = (), program: Path = ROOT) -> str:
    words = [*wrapper, PYTHON, "-m", "check_mounts", "--incidents", "--cache", str(daemon.cache), *arguments]
    environment = {"PYTHONPATH": str(program), "PATH": os.environ["PATH"]}
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert found.returncode == 3 and found.stdout.startswith("MOUNTS UNKNOWN - "), found
    return found.stdout.split("\n")[0][len("MOUNTS UNKNOWN - ") :]


def test_who_may_not_read_it_is_told_so(mounts: Mounts, daemon: Daemon, public: Path) -> None:
    mounts.tmpfs("home")
    daemon.cache = public / "run" / "status"
    daemon.start()
    until(lambda: "checked" in _events(_file(daemon)))
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    why = _reason(daemon, wrapper=nobody, program=public)
    assert why == f"{_file(daemon)} cannot be read: Permission denied (EACCES): only root and its group may"
    _file(daemon).chmod(0o666)
    assert _reason(daemon) == f"{_file(daemon)} is not trusted: mode 0666 lets others write to it"
    _file(daemon).unlink()
    assert _reason(daemon).startswith(f"{_file(daemon)} is not there: is the daemon running?")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--since", "soon"], "argument --since: 'soon': write a duration such as 24h"),
        (["--since", "24"], "argument --since: '24': write a duration"),
        (["--since"], "argument --since: expected one argument"),
        (["-x", "/home"], "argument --exclude: does not go with --incidents"),
        (["--brief", "--json"], "argument --incidents: does not go with --brief"),
        (["home"], "argument MOUNTPOINT: 'home' is not an absolute path"),
        (["--daemon"], "argument --incidents: does not go with --daemon"),
        (["--incident-file", "/x"], "argument --incident-file: '/x' is in the root directory"),
    ],
)
def test_what_it_refuses(daemon: Daemon, arguments: list[str], why: str) -> None:
    assert _reason(daemon, *arguments).startswith(why)


def test_since_needs_incidents(plugin: Plugin) -> None:
    assert plugin("--since", "24h").verdict == "MOUNTS UNKNOWN - argument --since: goes with --incidents only"


def test_no_incidents_is_a_verdict(mounts: Mounts, daemon: Daemon) -> None:
    mounts.tmpfs("home")
    daemon.start()
    until(lambda: "checked" in _events(_file(daemon)))
    day = time.strftime("%Y-%m-")
    (line,) = _ask(daemon).lines
    assert line.startswith(f"MOUNTS OK - no incidents since {day}")
    (line,) = _ask(daemon, "--since", "24h").lines
    assert line.endswith(", when the record begins")


def test_damage_hides_no_other_line(mounts: Mounts, daemon: Daemon) -> None:
    home = mounts.tmpfs("home")
    daemon.start(f"--expect-ro={home}")
    until(lambda: "begin" in _events(_file(daemon)))
    assert daemon.stop() == 0
    whole = _file(daemon).read_bytes().split(b"\n")
    for place in range(len(whole)):
        spoilt = [line if number != place else b"\xff" + line[: len(line) // 2] for number, line in enumerate(whole)]
        _file(daemon).write_bytes(b"\n".join(spoilt))
        assert len(_told(daemon)["incidents"]) == (b'"begin"' not in whole[place])


def _kept(daemon: Daemon, name: str, data: bytes) -> Path:
    path = daemon.cache.with_name(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o640)
    return path


_STAMP = records.Stamp(Epoch(1e9), Boottime(5.0), "b")
_LINE = records.encoded(records.Record(Kind.START, _STAMP))


@pytest.mark.parametrize("name", ["status.incidents", "status.incidents.1", "status.pending"])
@pytest.mark.parametrize(
    ("data", "number"),
    [(b"root:x:0:0\nbin:x:1:1\n", 1), (os.urandom(4000).replace(b"\n", b""), 1), (b"\n\n\0\n" + _LINE[:40], 3)],
    ids=["passwd", "noise", "torn"],
)
def test_a_file_without_any_record_is_unknown(daemon: Daemon, name: str, data: bytes, number: int) -> None:
    _kept(daemon, "status.incidents", _LINE)
    path = _kept(daemon, name, data)
    assert _reason(daemon) == f"{path} is no file of incidents, or damaged: line {number} cannot be understood"
    assert _reason(daemon, "--json") == _reason(daemon, "-vv") == _reason(daemon)


def test_any_file_of_the_system_is_no_file_of_incidents(daemon: Daemon) -> None:
    why = _reason(daemon, "--incident-file", "/etc/passwd")
    assert why == "/etc/passwd is no file of incidents, or damaged: line 1 cannot be understood"


def test_lines_that_cannot_be_understood_are_noted(daemon: Daemon) -> None:
    path = _kept(daemon, "status.incidents", _LINE + b"\xff\n" + _LINE + b"{}\n" + _LINE)
    older = _kept(daemon, "status.incidents.1", b"noise\n" + _LINE)
    result = _ask(daemon)
    assert result.code == 0 and result.lines[0].startswith("MOUNTS OK - no incidents since ")
    notes = [
        f"{older}: line 1 cannot be understood",
        f"{path}: 2 lines cannot be understood, the first is line 2",
    ]
    assert result.lines[1:3] == [f"note: {note}" for note in notes]
    assert _told(daemon)["notes"][:2] == notes


@pytest.mark.parametrize("data", [b"", _LINE, _LINE[:-1], _LINE + _LINE[:40], _LINE[:40], _LINE + b"\0" * 40])
def test_a_last_line_without_its_end_is_silent(daemon: Daemon, data: bytes) -> None:
    _kept(daemon, "status.incidents", data)
    assert "cannot be understood" not in "".join(_ask(daemon).lines) and _ask(daemon).code == 0


def test_kinds_have_names() -> None:
    assert len({kind.value for kind in Kind}) == len(Kind)


# -- the processes that wait


def test_processes_that_wait_are_told(fuse: Fuse, daemon: Daemon) -> None:
    """Two mounts, each with processes that read it, and bystanders; the probes of check_mounts
    itself do not count."""
    points = [fuse.mount(name) for name in ("home", "data")]
    daemon.start()
    for name in ("home", "data"):
        fuse.command("hang", name)
    waiting = [
        subprocess.Popen(["ls", str(point)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for point in points
        for _ in range(3)
    ]
    bystanders = [subprocess.Popen(["sleep", "1000"]) for _ in range(5)]
    try:
        until(lambda: all(fuse.waiting(name) >= 3 for name in ("home", "data")))
        until(lambda: _events(_file(daemon)).count("evidence") >= 2)
        told = _told(daemon)
        for each in told["incidents"]:
            found = each["waiting"]
            assert 3 <= found["number"] <= 6, told
            assert "sleep" not in found["groups"] and "check_mounts" not in found["groups"], found
            assert "ls x" in found["groups"] and " waited" in found["words"], found
        lines = _ask(daemon).lines
        assert all(re.search(r"; \d processes (probably )?waited", line) for line in lines[1:3]), lines
        assert "; waited: ls x" in "".join(_ask(daemon, "-v").lines)
    finally:
        for name in ("home", "data"):
            fuse.command("answer", name)
        for process in (*waiting, *bystanders):
            process.kill()
            process.wait()


def test_a_kill_during_a_look_leaves_nothing(fuse: Fuse, daemon: Daemon) -> None:
    _fail(fuse, daemon)
    assert daemon.stop() == 0
    until(lambda: len(workers_alive()) <= 1)
    fuse.command("answer", "home")
