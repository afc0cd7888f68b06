"""Mounts that are renamed, moved, replaced and covered while somebody looks for them. Moved is not
gone, and covered by a user is told."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest

from check_mounts import mounttable, selection
from check_mounts.checks import checking, demands
from check_mounts.daemon.lookout import Lookout
from check_mounts.model import Condition, ExpectedMount, Finding, Mount
from check_mounts.naming import leads
from check_mounts.naming.names import Lead, Leads
from check_mounts.outcome import Outcome, Step
from check_mounts.probing import asking, settle, stuck, survey
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon, daemon
from tests.test_history import HOME, OTHER, chosen, finding, known, merged

__all__ = ["daemon"]
MS_MOVE = 8192
RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)

# In a process of its own, which nothing of this one slows down. It stops at the end of its stdin.
_TO_AND_FRO = """
import ctypes, os, select, sys, time
libc = ctypes.CDLL(None, use_errno=True)
kind, pause, here, *there = sys.argv[1], float(sys.argv[2]), *map(os.fsencode, sys.argv[3:])
places = [here, *there]
print("ready", flush=True)
at = 0
while not select.select([0], [], [], 0)[0]:
    new = (at + 1) % len(places)
    if kind == "exchange":
        assert libc.renameat2(-100, places[at], -100, places[new], 2) == 0
    elif kind == "link" and new:
        os.rename(here, places[new]), os.symlink(places[new], here)
    elif kind == "link":
        os.unlink(here), os.rename(places[at], here)
    elif kind == "move":
        assert libc.mount(places[at], places[new], None, 8192, None) == 0
    else:
        os.rename(places[at], places[new])
    at = new
    time.sleep(pause)
"""


@contextmanager
def to_and_fro(kind: str, *places: Path, pause: float = 0.003) -> Iterator[None]:
    """Somebody renames what is at the first of these places to the next, and so on, and after the
    last to the first again."""
    command = [PYTHON, "-c", _TO_AND_FRO, kind, str(pause), *map(str, places)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield
        assert process.poll() is None


def _hung_below(fuse: Fuse, base: Path, name: str = "d") -> Path:
    """The directory, somebody's own, that a hung mount is in."""
    fuse.mount(f"{name}/m")
    fuse.command("hang", f"{name}/m")
    return base / name


def _never_ok(plugin: Plugin, runs: int, *arguments: str) -> set[int]:
    codes = {plugin("-t", "0.5", "--deadline", "2", *arguments).code for _ in range(runs)}
    assert codes <= {2, 3}
    return codes


@pytest.mark.root
@pytest.mark.parametrize("kind", ["rename", "exchange", "link", "move"])
def test_a_hung_mount_that_moves_to_and_fro_is_never_ok(mounts: Mounts, fuse: Fuse, plugin: Plugin, kind: str) -> None:
    directory = _hung_below(fuse, mounts.base)
    other = mounts.base / "e"
    if kind in ("exchange", "move"):
        mounts.point("e/m")
    places = (directory / "m", other / "m") if kind == "move" else (directory, other)
    with to_and_fro(kind, *places):
        assert 2 in _never_ok(plugin, 25 if kind == "rename" else 8)
    mounts.adopt(other / "m")


@pytest.mark.root
def test_without_a_pause_and_through_many_names(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    directory = _hung_below(fuse, mounts.base, "a/b/d")
    above = directory.parent
    with to_and_fro("rename", directory, *(above / f"e{number}" for number in range(40)), pause=0):
        _never_ok(plugin, 8)
    for number in range(40):
        mounts.adopt(above / f"e{number}" / "m")


@pytest.mark.root
def test_a_directory_far_above_is_renamed(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    _hung_below(fuse, mounts.base, "a/b/c/d")
    with to_and_fro("rename", mounts.base / "a", mounts.base / "z", pause=0.0005):
        assert 2 in _never_ok(plugin, 8)
    mounts.adopt(mounts.base / "z/b/c/d/m")


@pytest.mark.root
def test_of_many_that_move_all_are_found_hung(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    for number in range(12):
        fuse.mount(f"d/{number}")
        fuse.command("hang", f"d/{number}")
    with to_and_fro("rename", mounts.base / "d", mounts.base / "e"):
        for _ in range(4):
            result = plugin("-t", "0.5", "--deadline", "2")
            assert result.code in (2, 3)
            assert result.count("timed_out") + result.count("unprobed") == 12
    for number in range(12):
        mounts.adopt(mounts.base / f"e/{number}")


@pytest.mark.root
def test_a_mount_that_was_moved_is_asked_at_its_new_place(mounts: Mounts, tmp_path: Path) -> None:
    """The table was read before it was moved."""
    path = mounts.tmpfs("d/m", "mode=0000")  # so that who answers is known
    (found,) = _after(lambda: os.rename(path.parent, mounts.base / "e"), tmp_path, path)
    mounts.adopt(mounts.base / "e/m")
    assert (found.condition, found.detail) == (Condition.DENIED, "mode 0000 does not allow access")
    assert found.mount_point == bytes(mounts.base / "e/m")
    assert found.remarks == (f"it was at {path} when the run began",)


def _pass_over(table: mounttable.Table, tmp_path: Path, *points: Path) -> tuple[Finding, ...]:
    """What a pass finds of some mounts that a table had which is out of date by now."""
    names = {os.fsencode(point) for point in points}
    picked = [mount for mount in table[0] if mount.mount_point in names]
    select = selection.select(picked, selection.Filters())
    registry = stuck.Registry(str(tmp_path / "state"), slots=16)
    own = "/proc/self/mountinfo"
    under_way = survey.Pass(
        (picked, []),
        select,
        asking.Settings(timeout=5, deadline=20),
        registry,
        None,
        own,
    )
    return survey.take(under_way, lambda: mounttable.read(own)).findings


def _after(change: Callable[[], object], tmp_path: Path, *points: Path) -> tuple[Finding, ...]:
    table = mounttable.read("/proc/self/mountinfo")
    change()
    return _pass_over(table, tmp_path, *points)


@pytest.mark.root
@pytest.mark.parametrize("what", ["directory", "file", "link", "mount", "exchange"])
def test_what_was_put_in_its_place_is_not_asked(mounts: Mounts, fuse: Fuse, tmp_path: Path, what: str) -> None:
    path = mounts.tmpfs("d/m", "mode=0000")
    new = mounts.base / "e"
    trap = fuse.mount("trap")
    fuse.command("hang", "trap")

    def change() -> None:
        if what == "exchange":
            (new / "m").mkdir(parents=True)
            assert _libc.renameat2(-100, bytes(path.parent), -100, bytes(new), RENAME_EXCHANGE) == 0
            return
        os.rename(path.parent, new)
        if what == "directory":
            path.mkdir(parents=True)
        elif what == "file":
            path.parent.touch()
        elif what == "link":
            path.parent.symlink_to(trap)
        else:
            fuse.mount("d/m")
            fuse.command("hang", "d/m")

    (found,) = _after(change, tmp_path, path)
    mounts.adopt(new / "m")
    assert (found.condition, found.mount_point, found.remarks) == (
        Condition.DENIED,
        bytes(new / "m"),
        (f"it was at {path} when the run began",),
    )
    assert what != "mount" or fuse.waiting("d/m") == 0
    assert fuse.waiting("trap") == 0


@pytest.mark.root
def test_what_is_gone_is_gone_and_what_is_covered_is_shadowed(mounts: Mounts, tmp_path: Path) -> None:
    gone, covered, kept = (mounts.tmpfs(name, "mode=0000") for name in ("gone", "covered", "kept"))

    def change() -> None:
        mounts.detach(gone)
        mounts.mount_at(covered, "tmpfs")

    findings = _after(change, tmp_path, gone, covered, kept)
    assert Condition.SHADOWED in {each.condition for each in findings if each.mount_point == bytes(covered)}
    found = {each.mount_point: each.condition for each in findings}
    assert bytes(gone) not in found and found.pop(bytes(kept)) is Condition.DENIED
    # What covers it may have the ID and the device of what is gone, and was asked then where it is.
    assert set(found) == {bytes(covered)}


@pytest.mark.root
def test_what_comes_and_goes_all_the_time_is_no_failure(mounts: Mounts, plugin: Plugin) -> None:
    """Its ID and its device are given again at once, so the next one looks like the one before."""
    mounts.tmpfs("stays")
    stop = threading.Event()

    def churn(path: Path) -> None:
        while not stop.is_set():
            _libc.mount(b"none", bytes(path), b"tmpfs", 0, None)
            _libc.umount2(bytes(path), 2)

    threads = [threading.Thread(target=churn, args=(mounts.point(name),)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    try:
        codes = [plugin().code for _ in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 12


@pytest.mark.root
def test_who_is_named_is_missed_where_it_was(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    directory = _hung_below(fuse, mounts.base)
    with to_and_fro("rename", directory, mounts.base / "e"):
        for _ in range(6):
            result = plugin("-t", "0.5", "--deadline", "2", str(directory / "m"), below=False)
            assert result.code in (2, 3)
    mounts.adopt(mounts.base / "e/m")


# A change that comes when the table has been read.
_AFTER_READING = """
import os, subprocess, sys
from check_mounts import __main__, run
change, *sys.argv[1:] = sys.argv[1:]
read = run.read_table

def read_before(*arguments):
    table = read(*arguments)
    subprocess.run(["sh", "-c", change], check=True)
    return table

run.read_table = read_before
__main__.main()
"""


def _run_with(plugin: Plugin, change: str, *arguments: str, code: str = _AFTER_READING) -> Result:
    command = [PYTHON, "-c", code, change, *arguments, "--state-dir", str(plugin.state_dir)]
    return Result(subprocess.Popen(command, env=plugin.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


@pytest.mark.root
@pytest.mark.parametrize("how", ["a user's, declared", "declared", "named", "pattern", "covered"])
@pytest.mark.parametrize("hangs", [True, False])
def test_what_comes_to_its_place_during_the_run_is_asked(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, how: str, hangs: bool
) -> None:
    """Where it was when the table was read it was of no interest. That it is in its place now is no
    answer."""
    healthy, path = mounts.tmpfs("healthy"), mounts.base / "d/m"
    fuse.mount("d/m", **({"user_id": 1000} if how.startswith("a user") else {}))
    if hangs:
        fuse.command("hang", "d/m")
    change = f"mv -T {mounts.base}/e {mounts.base}/d"
    if how == "covered":
        mounts.tmpfs("d")
        change = f"umount {mounts.base}/d"
    else:
        os.rename(mounts.base / "d", mounts.base / "e")
    arguments = ["-t", "0.5", "--deadline", "3", "-v", "-p", str(healthy), "-p", str(path)]
    if how in ("a user's, declared", "declared", "covered"):
        arguments += ["--expect", f"{path},type=fuse.test"]
    result = _run_with(plugin, change, *arguments, *([str(healthy), str(path)] if how == "named" else []))
    assert (result.code, result.count("mounts")) == (2 if hangs else 0, 2), result.stdout
    assert (f"{path} (fuse.test fuse) timed out after 0.5 s" in result.verdict) == hangs


@pytest.mark.root
def test_where_a_link_leads_at_the_end_is_asked(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """A user's mount is in a directory, then behind a link, and so on; in the table it is always at
    the other place."""
    base, healthy = mounts.base, mounts.tmpfs("healthy")
    fuse.mount("d/m", user_id=1000)
    fuse.command("hang", "d/m")
    behind = f"mv -T {base}/d {base}/e && ln -s e {base}/d"
    subprocess.run(["sh", "-c", behind], check=True)
    mounts.adopt(base / "e/m")
    hook = """
from check_mounts.checks import checking
looked_up = checking.look_up

def look_up_before(*arguments):
    found = looked_up(*arguments)
    checking.look_up = looked_up
    subprocess.run(["sh", "-c", BEHIND], check=True)
    return found

checking.look_up = look_up_before
__main__.main()
"""
    code = _AFTER_READING.replace("__main__.main()\n", hook.replace("BEHIND", repr(behind)))
    change = f"rm {base}/d && mv -T {base}/e {base}/d"
    arguments = [
        "-t",
        "0.5",
        "--deadline",
        "3",
        "-p",
        str(healthy),
        "-p",
        f"{base}/*/m",
        "--expect",
        f"{base}/d/m,type=fuse.test",
    ]
    result = _run_with(plugin, change, *arguments, code=code)
    assert result.code == 2, result.stdout
    assert f"{base}/e/m (fuse.test fuse) timed out after 0.5 s" in result.verdict


@pytest.mark.root
def test_what_comes_to_its_place_too_late_is_not_probed(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung, path = fuse.mount("hung"), fuse.mount("d/m")
    fuse.command("hang", "hung")
    os.rename(mounts.base / "d", mounts.base / "e")
    arguments = [
        "-t",
        "1",
        "--deadline",
        "1",
        "-v",
        "-p",
        str(hung),
        "-p",
        str(path),
        "--expect",
        f"{path},type=fuse.test",
    ]
    result = _run_with(plugin, f"mv -T {mounts.base}/e {mounts.base}/d", *arguments)
    assert result.code == 2, result.stdout
    assert result.line(path).endswith("not probed: it appeared during the run, and no time was left to probe it")


# -- the daemon


@pytest.mark.root
def test_the_daemon_does_not_lose_what_moves_to_and_fro(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    mounts.tmpfs("healthy")
    directory = _hung_below(fuse, mounts.base)
    daemon.interval = 0.2
    with to_and_fro("rename", directory, mounts.base / "e"):
        daemon.start()
        codes = set()
        for _ in range(12):
            daemon.until_checked()
            codes.add(daemon.cached().code)
    mounts.adopt(mounts.base / "e/m")
    assert codes <= {2, 3}


@pytest.mark.root
def test_the_daemon_does_not_lose_what_a_link_leads_to(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """A user's mount, which is asked only because it was declared; its directory is renamed, and a
    link put in its place."""
    mounts.tmpfs("healthy")
    fuse.mount("d/m", user_id=1000, group_id=1000)
    fuse.command("hang", "d/m")
    daemon.interval = 0.3
    with to_and_fro("link", mounts.base / "d", mounts.base / "e", pause=0.05):
        daemon.start("--expect", f"{mounts.base}/d/m,type=fuse.test")
        codes, passes = set(), daemon.log.count("\nChecked ") + 12
        while daemon.log.count("\nChecked ") < passes:
            codes.add(daemon.cached().code)
    mounts.adopt(mounts.base / "e/m")
    assert codes <= {2, 3}


# A directory is renamed, and a link put in its place, and so on, step by step: in the daemon
# itself, always right before it looks.
_BEFORE_A_LOOK = """
import os, random, sys
from check_mounts import __main__, mounttable
from check_mounts.checks import checking
from check_mounts.daemon.passes import Passes
from check_mounts.daemon.publish import Publisher
how, here, there, _, _, _, *sys.argv[1:] = sys.argv[1:]
steps = [
    lambda: os.rename(here, there),
    lambda: os.symlink(there, here),
    lambda: os.unlink(here),
    lambda: os.rename(there, here),
]
chance = random.Random(2)

def step():
    steps.append(steps.pop(0))
    steps[-1]()

def before(owner, name, change):
    do = getattr(owner, name)

    def changed(*arguments):
        change()
        return do(*arguments)

    setattr(owner, name, changed)

def one_step_or_more():
    while chance.random() < 0.5:
        step()

def first_to_its_other_place():
    if not ended:
        ended.append(True)
        step(), step()

def published(self, judged, *arguments, **more):
    if judged.state.name == "OK":
        os.write(2, b"Published that all is well\\n")
    publish(self, judged, *arguments, **more)

ended = []
publish, Publisher.publish = Publisher.publish, published
if how == "always":
    before(mounttable, "read", one_step_or_more)
    before(checking, "look_up", one_step_or_more)
else:
    before(Passes, "finish", first_to_its_other_place)
__main__.main()
"""


@pytest.mark.root
@pytest.mark.parametrize("how", ["declared", "named"])
@pytest.mark.parametrize("when", ["always", "at the end of the first pass"])
def test_whenever_a_link_is_changed_what_it_leads_to_is_never_well(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, how: str, when: str
) -> None:
    healthy = mounts.tmpfs("healthy")
    here, there = mounts.base / "d", mounts.base / "e"
    fuse.mount("d/m", user_id=1000, group_id=1000)
    fuse.command("hang", "d/m")
    daemon.interval = 0.2
    arguments = ["--expect", f"{here}/m,type=fuse.test"] if how == "declared" else [str(healthy), f"{here}/m"]
    daemon.start(*arguments, wrapper=[PYTHON, "-c", _BEFORE_A_LOOK, when, str(here), str(there)])
    daemon.until_checked(10 if when == "always" else 2)
    if when != "always":
        assert f"{there}/m (fuse.test fuse) timed out" in daemon.cached().verdict
    daemon.stop()
    mounts.adopt(there / "m")
    assert "Published" not in daemon.log


def test_until_it_is_asked_what_a_link_leads_to_is_as_it_was_where_it_led_before() -> None:
    moved = HOME._replace(mount_id=99, mount_point=b"/elsewhere")
    home = known(HOME)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1))
    home.until_asked(home.survey(), {b"/name": HOME.mount_point})
    home.see(([moved], []), chosen(moved))
    for _ in range(2):
        (told,) = home.until_asked(home.survey(), {b"/name": moved.mount_point}).findings
        assert (told.mount_point, told.condition) == (HOME.mount_point, Condition.TIMED_OUT)
    merged(home, 2, (finding(moved, Condition.OK), 2))
    (told,) = home.until_asked(home.survey(), {b"/name": moved.mount_point}).findings
    assert (told.mount_point, told.condition) == (b"/elsewhere", Condition.OK)


@pytest.mark.parametrize("how", ["declared", "named"])
def test_look_ups_before_it_is_asked_lose_nothing(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The second one finds a link less, the third one knows that by the text of the mount table."""
    name, moved = b"/name", HOME._replace(mount_id=99, mount_point=b"/name")
    found = iter([Lead(HOME.mount_point, (OTHER,)), Lead(name, (OTHER,)), Lead(name)])
    monkeypatch.setattr(checking, "look_up", lambda *arguments: leads.Found(Leads({name: next(found)})))
    demanded = [ExpectedMount(name, None, None, (), "--expect")] if how == "declared" else []
    check = checking.Check(
        selection.Filters(mount_points=[] if demanded else [name]),
        asking.Settings(timeout=5, deadline=20),
        demands.Demands(demanded),
        notes=(),
        wrong=(),
        mountinfo="/proc/self/mountinfo",
        state_dir="/nonexistent",
        patterns=(),
        follow=lambda tell: None,
    )
    lookout, home = Lookout(lambda: None), known(HOME)
    lookout.look_up(check, [HOME], None)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1))
    home.until_asked(home.survey(), lookout.places(check))
    home.see(([moved], []), chosen(moved))
    assert [lookout.look_up(check, [moved], None) for _ in range(2)] == [True, True]
    (told,) = home.until_asked(home.survey(), lookout.places(check)).findings
    assert (told.mount_point, told.condition) == (HOME.mount_point, Condition.TIMED_OUT)


def test_what_a_new_name_leads_to_is_not_well_before_it_is_asked() -> None:
    home = known(OTHER)
    merged(home, 1, (finding(OTHER, Condition.OK), 1))
    home.see(([OTHER, HOME], []), chosen(OTHER, HOME))
    places = {b"/name": HOME.mount_point}
    for _ in range(2):
        told = home.until_asked(home.survey(), places).findings
        assert [(each.mount_point, each.condition) for each in told] == [
            (OTHER.mount_point, Condition.OK),
            (HOME.mount_point, Condition.UNPROBED),
        ]
    merged(home, 2, (finding(HOME, Condition.OK), 2))
    assert {each.condition for each in home.until_asked(home.survey(), places).findings} == {Condition.OK}


@pytest.mark.root
def test_the_daemon_finds_it_at_its_new_place(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    directory = _hung_below(fuse, mounts.base)
    other = mounts.base / "e"
    daemon.start()
    assert f"{directory}/m (fuse.test fuse) timed out" in daemon.cached().verdict
    os.rename(directory, other)
    mounts.adopt(other / "m")
    daemon.check()
    assert f"{other}/m (fuse.test fuse) timed out" in daemon.cached().verdict
    fuse.command("answer", "d/m")
    daemon.until(lambda result: result.code == 0)


def test_what_is_known_to_be_bad_moves_along_and_is_asked_again() -> None:
    moved = HOME._replace(mount_point=b"/elsewhere")
    home = known(HOME)
    merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1))
    assert home.see(([moved], []), chosen(moved)) == ({HOME.identity}, True)
    (told,) = home.survey().findings
    assert (told.mount_point, told.mount, told.condition, told.stuck_pid) == (
        b"/elsewhere",
        moved,
        Condition.TIMED_OUT,
        7,
    )
    assert home.see(([moved], []), chosen(moved))[0] == {HOME.identity}  # until it is asked
    assert merged(home, 2, (finding(moved, Condition.UNPROBED), 2), whole=False) == [Condition.TIMED_OUT]
    assert home.see(([moved], []), chosen(moved))[0] == set()
    assert merged(home, 3, (finding(moved, Condition.OK), 3), whole=False) == [Condition.OK]


@pytest.mark.parametrize("other", [{"mount_point": b"/elsewhere"}, {"root": b"/a"}, {"source": b"filer2:/home"}])
@pytest.mark.parametrize("condition", [Condition.OK, Condition.DENIED])
def test_what_was_well_elsewhere_has_not_answered_here(other: dict[str, Any], condition: Condition) -> None:
    """It may be another mount with an ID and a device that were given again."""
    moved = HOME._replace(**other)
    home = known(HOME)
    merged(home, 1, (finding(HOME, condition), 1))
    assert home.see(([moved], []), chosen(moved)) == ({HOME.identity}, True)
    assert home.survey().findings == ()
    assert merged(home, 2, (finding(HOME, Condition.OK), 2)) == []  # asked when it was still there
    assert merged(home, 3, (finding(moved, Condition.OK), 3), whole=False) == [Condition.OK]


def test_an_answer_of_before_it_moved_is_told_where_it_is() -> None:
    moved = HOME._replace(mount_point=b"/elsewhere")
    home = known(HOME)
    home.see(([moved], []), chosen(moved))
    assert merged(home, 1, (finding(HOME, Condition.TIMED_OUT, 7), 1)) == [Condition.TIMED_OUT]
    assert home.survey().findings[0].mount_point == b"/elsewhere"


# -- what an unprivileged user covers


@pytest.mark.root
def test_what_a_user_covers_is_noted(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    mounts.tmpfs("alice/data")
    mounts.tmpfs("alice/more")
    mounts.tmpfs("other")
    fuse.mount("alice", user_id=1000, group_id=1000)
    note = (
        f"note: the FUSE mount of uid 1000 at {mounts.base}/alice covers {mounts.base}/alice/data, "
        f"{mounts.base}/alice/more"
    )
    result = plugin()
    assert (result.code, result.lines[1]) == (0, note)
    notes = json.loads(plugin("--json").stdout)["notes"]
    assert [words for words in notes if "covers" in words] == [note[len("note: ") :]]
    result = plugin("--expect", f"{mounts.base}/alice/data,type=tmpfs")
    assert result.code == 2, result.stdout
    assert "missing" in result.verdict and "covered" in result.verdict
    assert plugin(str(mounts.base / "alice/data"), below=False).code in (2, 3)


@pytest.mark.root
@pytest.mark.parametrize("cover", ["root's FUSE", "tmpfs"])
def test_what_root_covers_is_not_noted(mounts: Mounts, fuse: Fuse, plugin: Plugin, cover: str) -> None:
    mounts.tmpfs("alice/data")
    if cover == "tmpfs":
        mounts.tmpfs("alice")
    else:
        fuse.mount("alice")
    assert not [line for line in plugin().lines if line.startswith("note: ") and "covers" in line]


@pytest.mark.root
def test_a_user_cannot_hide_what_hangs_by_covering_it_meanwhile(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("alice/hung")
    fuse.command("hang", "alice/hung")
    process = plugin.start("-t", "2", "-v")
    until(lambda: fuse.waiting("alice/hung") == 1)
    fuse.mount("alice", user_id=1000)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 2
    assert f"{hung} (fuse.test fuse) timed out after 2 s" in output
    assert "covered during the run by an unprivileged user's FUSE mount" in output


@pytest.mark.root
def test_the_daemon_notes_it_too(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    mounts.tmpfs("alice/data")
    mounts.tmpfs("other")
    daemon.start()
    fuse.mount("alice", user_id=1000)
    daemon.check()
    assert (
        f"note: the FUSE mount of uid 1000 at {mounts.base}/alice covers {mounts.base}/alice/data"
        in daemon.cached().lines
    )


# -- what is certain of a table


LINE = b"%d 1 0:%d %s %s rw - %s %s rw\n"


def _mount(line: bytes) -> Mount:
    return mounttable.parse_line(line.rstrip(b"\n"))


@pytest.mark.parametrize(
    ("now", "place"),
    [
        (LINE % (30, 40, b"/", b"/e/m", b"fuse", b"x"), b"/e/m"),
        (LINE % (30, 40, b"/sub//deleted", b"/e\\040m", b"fuse", b"y"), b"/e m"),
        (LINE % (30, 41, b"/", b"/d/m", b"fuse", b"x"), None),
        (LINE % (30, 40, b"/", b"/d/m", b"tmpfs", b"x"), None),
        (LINE % (301, 40, b"/", b"/d/m", b"fuse", b"x"), None),
        (b"30 1 0:40 / /d/m rw -\n" + LINE % (30, 40, b"/", b"/e", b"fuse", b"x"), b"/e"),
        (b"30 damaged\n" + LINE % (30, 40, b"/", b"/e", b"fuse", b"x"), b"/e"),
        (LINE % (29, 40, b"/", b"/30 1", b"fuse", b"x") + (LINE % (30, 40, b"/", b"/e", b"fuse", b"x"))[:-1], b"/e"),
        (b"", None),
    ],
)
def test_where_a_mount_is_now(tmp_path: Path, now: bytes, place: Optional[bytes]) -> None:
    table = tmp_path / "table"
    table.write_bytes(now)
    assert mounttable.place_now(str(table), _mount(LINE % (30, 40, b"/", b"/d/m", b"fuse", b"x"))) == place


def test_a_mount_is_known_by_its_id_device_and_type() -> None:
    before = _mount(LINE % (30, 40, b"/", b"/d/m", b"fuse", b"x"))
    for same in (
        (30, 40, b"/a", b"/d/m", b"fuse", b"x"),
        (30, 40, b"/", b"/e", b"fuse", b"x"),
        (30, 40, b"/", b"/d/m", b"fuse", b"y"),
    ):
        assert _mount(LINE % same).identity == before.identity and _mount(LINE % same).place != before.place
    for other in (
        (31, 40, b"/", b"/d/m", b"fuse", b"x"),
        (30, 41, b"/", b"/d/m", b"fuse", b"x"),
        (30, 40, b"/", b"/d/m", b"nfs", b"x"),
    ):
        assert _mount(LINE % other).identity != before.identity


def test_what_covers_a_mount() -> None:
    table = (
        b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /srv/alice/d/m rw - tmpfs b rw\n3 2 0:3 / /srv/alice/d/m/n rw - "
        b"tmpfs c rw\n"
        b"4 1 0:4 / /srv/alice rw - fuse d rw,user_id=1000\n5 1 0:5 / /x rw - tmpfs e rw\n6 5 0:6 / /x rw - "
        b"tmpfs f rw\n"
    )
    mounts = mounttable.parse(table)[0]
    assert mounttable.covers(mounts) == {2: 4, 3: 4, 5: 6}
    assert mounttable.visible(mounts) == {1, 4, 6}
    assert {below: cover.source for below, cover in mounttable.covered_by(mounts).items()} == {
        2: b"d",
        3: b"d",
        5: b"f",
    }


def test_a_stuck_look_up_below_a_cover_is_no_proof() -> None:
    """What hung may be what covers it."""
    mount = _mount(LINE % (30, 40, b"/", b"/d/m", b"ext4", b"x"))
    cover = _mount(LINE % (31, 41, b"/", b"/d", b"fuse", b"y"))
    cover = cover._replace(super_options=(b"user_id=1000",))
    for step, condition in ((Step.LOOK_UP, Condition.SHADOWED), (Step.STATFS, Condition.TIMED_OUT)):
        found = Finding(b"/d/m", mount, Condition.TIMED_OUT, "after 5 s", Outcome(step=step))
        assert settle._in_its_place(found, settle._Now(mount, cover)).condition is condition
