"""What the daemon makes of mounts that change: what takes the place of one that was bad, and what
answers at an odd moment."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.conftest import Fuse, Mounts, until
from tests.daemon import Daemon, children, daemon, nurseries
from tests.kernel import workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def _told(daemon: Daemon) -> Any:
    """The result as it is now. It is replaced as a whole, so each one can be seen, if only it
    stands for a moment."""
    return json.loads(daemon.cache.with_name("status.json").read_text())


def _finding(told: Any, path: Path) -> Any:
    """What is said of a mount point, without what is shadowed."""
    found = [each for each in told["findings"] if each["mount_point"] == str(path) and each["condition"] != "shadowed"]
    assert len(found) < 2
    return found[0] if found else {"condition": None, "mount": None}


def _states_until(daemon: Daemon, condition: Callable[[Any], bool]) -> set[str]:
    """All states that were told up to then."""
    states = set()

    def holds() -> bool:
        told = _told(daemon)
        states.add(told["state"])
        return condition(told)

    until(holds)
    return states


def _is(path: Path, condition: Optional[str]) -> Callable[[Any], bool]:
    return lambda told: _finding(told, path)["condition"] == condition


def _lines(daemon: Daemon, path: Path) -> list[str]:
    """What the log has of a mount point, without figures, and without who hangs there."""
    lines = [line[len(str(path)) + 1 :] for line in daemon.lines if line.startswith(f"{path} ")]
    return [
        re.sub(r"\d[\d.]* (s|min)\b", "N s", line).partition(": a probe has been stuck in it since")[0]
        for line in lines
    ]


@pytest.mark.parametrize("named", [False, True])
def test_what_was_missing_is_well_once_it_has_answered(mounts: Mounts, fuse: Fuse, daemon: Daemon, named: bool) -> None:
    daemon.interval, daemon.timeout = 3600, 1.0
    well, late = mounts.tmpfs("well"), mounts.point("late")
    daemon.start(*([str(late), str(well)] if named else ["--expect", str(late)]))
    assert _told(daemon)["state"] == "CRITICAL"
    with daemon.frozen():
        fuse.mount("late")
        fuse.command("hang", "late")
    assert _states_until(daemon, _is(late, "timed-out")) == {"CRITICAL"}
    fuse.command("answer", "late")
    _states_until(daemon, _is(late, "ok"))
    until(lambda: len(_lines(daemon, late)) == 3)
    why = "" if named else " (--expect)"
    assert _lines(daemon, late) == [f"is missing: not mounted{why}", "timed out after N s", "answers again after N s"]


@pytest.mark.parametrize("named", [False, True])
def test_what_was_missing_is_ok_again(mounts: Mounts, daemon: Daemon, named: bool) -> None:
    daemon.interval = 3600
    well, late = mounts.tmpfs("well"), mounts.point("late")
    daemon.start(*([str(late), str(well)] if named else ["--expect", str(late)]))
    mounts.tmpfs("late")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, late)) == 2)
    mounts.detach(late)
    _states_until(daemon, lambda told: told["state"] == "CRITICAL")
    until(lambda: len(_lines(daemon, late)) == 3)
    missing = "is missing: not mounted" + ("" if named else " (--expect)")
    assert _lines(daemon, late) == [missing, "is ok again, after it was missing for N s", missing]


def _hung(fuse: Fuse, daemon: Daemon, name: str = "home") -> Path:
    """A mount that hangs, as is known."""
    daemon.interval, daemon.timeout = 3600, 1.0
    home = fuse.mount(name)
    daemon.start()
    fuse.command("hang", name)
    daemon.signal(signal.SIGUSR1)
    _states_until(daemon, _is(home, "timed-out"))
    return home


def test_what_takes_the_place_of_what_hung(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """Nothing is well before it has answered, and what is mounted is not said to be not."""
    mounts.tmpfs("well")
    home = _hung(fuse, daemon)
    old = _finding(_told(daemon), home)["mount"]
    with daemon.frozen():
        mounts.detach(home)
        fuse.command("mount", "second", str(home))
        mounts.adopt(home)
        fuse.command("hang", "second")
    assert _states_until(daemon, lambda told: _finding(told, home)["mount"] != old) == {"CRITICAL"}
    assert _finding(_told(daemon), home)["condition"] == "timed-out"
    fuse.command("answer", "second")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home) == ["timed out after N s", "answers again after N s"]


def test_what_is_mounted_over_what_hangs(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """And is taken away again."""
    mounts.tmpfs("well")
    home = _hung(fuse, daemon)
    below = _finding(_told(daemon), home)["mount"]
    with daemon.frozen():
        fuse.command("mount", "above", str(home))
        mounts.adopt(home)
        fuse.command("hang", "above")
    conditions = set()

    def is_asked(told: Any) -> bool:
        conditions.add(tuple(each["condition"] for each in told["findings"] if each["mount"] == below))
        return bool(_finding(told, home)["mount"] != below)

    assert _states_until(daemon, is_asked) == {"CRITICAL"}
    assert conditions <= {("timed-out",), ("shadowed",)}  # one or the other
    fuse.command("answer", "above")
    _states_until(daemon, lambda told: told["state"] == "OK")
    mounts.detach(home)
    _states_until(daemon, lambda told: _finding(told, home)["mount"] == below and _is(home, "timed-out")(told))
    fuse.command("answer", "home")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 4)
    again = "answers again after N s"
    assert _lines(daemon, home) == ["timed out after N s", again, "timed out", again]


def test_the_same_filesystem_mounted_there_again(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """A bind mount of what hangs hangs, too, and costs no other process."""
    mounts.tmpfs("well")
    elsewhere = mounts.point("elsewhere")
    home = fuse.mount("home")
    mounts.mount_at(elsewhere, "none", str(home), flags=4096)
    daemon.interval, daemon.timeout = 3600, 1.0
    daemon.start()
    fuse.command("hang", "home")
    daemon.signal(signal.SIGUSR1)
    _states_until(daemon, _is(home, "timed-out"))
    (nursery,) = nurseries(daemon)
    stuck, old = workers_alive() & set(children(nursery)), _finding(_told(daemon), home)["mount"]
    assert len(stuck) == 1
    with daemon.frozen():
        mounts.mount_at(home, "none", str(elsewhere), flags=4096)
    assert _states_until(daemon, lambda told: _finding(told, home)["mount"] != old) == {"CRITICAL"}
    # Those that look for the processes that wait are the daemon's own, and end soon.
    until(lambda: workers_alive() == stuck)
    assert len(_lines(daemon, home)) == 1
    fuse.command("answer", "home")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home)[1] == "answers again after N s"


def test_what_is_really_gone_is_told_at_once(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    mounts.tmpfs("well")
    home = _hung(fuse, daemon)
    mounts.detach(home)
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home) == ["timed out after N s", "is not mounted any more"]


@pytest.mark.parametrize("was", ["hung", "missing"])
def test_what_is_left_alone_takes_its_place(mounts: Mounts, fuse: Fuse, daemon: Daemon, was: str) -> None:
    """It is never asked, so nothing is waited for; and it is mounted."""
    well, home = fuse.mount("well"), mounts.point("home")
    daemon.interval, daemon.timeout = 3600, 1.0
    if was == "hung":
        fuse.mount("home")
        fuse.command("hang", "home")
    daemon.start("-X", "tmpfs", *(["--expect", str(home)] if was == "missing" else []))
    assert _told(daemon)["state"] == "CRITICAL"
    with daemon.frozen():
        if was == "hung":
            mounts.detach(home)
        mounts.tmpfs("home")
    _states_until(daemon, lambda told: told["state"] == "OK")
    assert [each["mount_point"] for each in _told(daemon)["findings"]] == [str(well)]
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home)[1] == ("is not checked any more" if was == "hung" else "is not missing any more")


def test_what_is_covered_while_it_is_asked(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    """The pass comes to its end before the daemon has heard of the change: here it does not hear of
    any, the table being a copy."""
    mounts.tmpfs("well")
    home, table = fuse.mount("home"), tmp_path / "mountinfo"
    shutil.copyfile("/proc/self/mountinfo", table)
    daemon.interval, daemon.timeout = 3600, 5.0
    daemon.start(f"--mountinfo={table}")
    fuse.command("hang", "home")
    daemon.signal(signal.SIGUSR1)
    _states_until(daemon, _is(home, "timed-out"))
    below = _finding(_told(daemon), home)["mount"]
    # Each pass over all mounts now waits for this one.
    slow = fuse.mount("slow")
    fuse.command("hang", "slow")
    shutil.copyfile("/proc/self/mountinfo", table)
    daemon.signal(signal.SIGUSR1)
    until(lambda: fuse.waiting("slow"))
    fuse.command("mount", "above", str(home))
    mounts.adopt(home)
    fuse.command("hang", "above")
    shutil.copyfile("/proc/self/mountinfo", table)
    assert _states_until(daemon, lambda told: _finding(told, home)["mount"] not in (None, below)) == {"CRITICAL"}
    assert _is(home, "timed-out")(_told(daemon))
    fuse.command("answer", "above")
    fuse.command("answer", "slow")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home) == ["timed out after N s", "answers again after N s"]
    assert _is(slow, "ok")(_told(daemon))


def test_what_answers_right_after_its_probe_was_killed(fuse: Fuse, daemon: Daemon) -> None:
    """Whether the process has ended because of that, nobody knows."""
    home = _hung(fuse, daemon)
    fuse.command("answer", "home")
    _states_until(daemon, lambda told: told["state"] == "OK")
    until(lambda: len(_lines(daemon, home)) == 2)
    assert _lines(daemon, home) == ["timed out after N s", "answers again after N s"]
    assert daemon.log.count("\nChecked ") == 2


def test_what_can_be_killed_and_answers_right_after(fuse: Fuse, daemon: Daemon) -> None:
    daemon.interval, daemon.timeout = 3600, 5.0
    home = fuse.mount("home")
    daemon.start()
    fuse.command("freeze", "home")
    daemon.signal(signal.SIGUSR1)
    _states_until(daemon, _is(home, "timed-out"))
    fuse.command("answer", "home")
    _states_until(daemon, lambda told: told["state"] == "OK")
    assert daemon.log.count("\nChecked ") == 2


def test_what_can_be_killed_is_asked_once_more_and_no_further(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """All its probes end like this, and each would be a reason for the next one."""
    daemon.interval = 3600
    home = fuse.mount("home")
    daemon.start()
    fuse.command("freeze", "home")

    def killed() -> int:
        return sum(line.endswith(f" checking {home}: sending SIGKILL") for line in daemon.lines)

    daemon.signal(signal.SIGUSR1)
    until(lambda: killed() == 2)
    for more in range(1, 4):
        daemon.check()
        assert killed() == 2 + more
    # A mount that comes has it asked nothing either.
    mounts.tmpfs("late")
    daemon.until(lambda result: result.count("mounts") == 2)
    assert killed() == 5


def test_wrong_lines_of_fstab(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """Each is told once, and that it has been corrected."""
    home, fstab = mounts.tmpfs("home"), tmp_path / "fstab"
    good = f"none {home} tmpfs rw 0 0\n"
    daemon.interval = 3600
    fstab.write_text(good + "x\ny /y\nz relative tmpfs rw\n")
    daemon.start(f"--fstab={fstab}")
    wrong = [
        f"{fstab} line 2: it has no mount point",
        f"{fstab} line 3: it has no filesystem type",
        f"{fstab} line 4: the mount point is not an absolute path",
    ]
    until(lambda: all(map(daemon.says, wrong)))
    fstab.write_text(good + "\ny /y\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says(f"No longer: {wrong[0]}") and daemon.says(f"No longer: {wrong[2]}"))
    fstab.write_text(good)
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says(f"No longer: {wrong[1]}"))
    assert [daemon.log.count(words) for words in wrong] == [2, 2, 2]
    assert "the mount table" not in daemon.log


def test_wrong_lines_of_the_mount_table(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """A mount that goes moves the others up: that is no news of what is wrong with them."""
    mounts.tmpfs("home")
    table = tmp_path / "mountinfo"
    lines = [line for line in Path("/proc/self/mountinfo").read_text().splitlines(True) if f" {mounts.base}/" in line]
    table.write_text(f"{lines[0]}garbage\n")
    daemon.interval = 3600
    daemon.start(f"--mountinfo={table}")
    (line,) = [line for line in daemon.lines if line.startswith("line 2 of the mount table cannot be understood: ")]
    table.write_text(f"garbage\n{lines[0]}")
    daemon.signal(signal.SIGUSR1)
    until(lambda: daemon.log.count("\nChecked ") == 2)
    table.write_text(lines[0])
    daemon.signal(signal.SIGUSR1)
    until(lambda: daemon.says(f"No longer: {line}"))
    assert daemon.log.count("cannot be understood") == 2


def _place_in_table(path: Path) -> list[str]:
    """Mount ID, parent's ID and device."""
    (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {path} " in line]
    return line.split()[:3]


def _unlike(what: Callable[[], object], mounts: Mounts, fuse: Fuse, daemon: Daemon, home: Path) -> bool:
    """Unseen, what hangs takes the place of a mount; whether the table tells them apart by
    ``what``. It does where somebody else on this host has mounted something in between, whose ID
    would have been the mount's."""
    with daemon.frozen():
        before = what()
        mounts.detach(home)
        fuse.command("mount", "another", str(home), "source=filer:/home")
        mounts.adopt(home)
        fuse.command("hang", "another")
        return what() != before


def _begin_again(mounts: Mounts, fuse: Fuse, daemon: Daemon, home: Path, mount: Callable[[], object]) -> None:
    until(lambda: _is(home, "timed-out")(_told(daemon)))
    mounts.detach(home)
    fuse.command("die", "another")
    mount()
    daemon.until(lambda result: result.code == 0)


def test_another_one_of_the_same_id_is_not_the_same(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """The kernel gives IDs and devices again at once. What took the place of a healthy mount is not
    well for that."""
    home = mounts.tmpfs("home")
    daemon.interval = 3600
    daemon.start()
    while _unlike(lambda: _place_in_table(home), mounts, fuse, daemon, home):
        _begin_again(mounts, fuse, daemon, home, lambda: mounts.tmpfs("home"))
    _states_until(daemon, _is(home, "timed-out"))
    assert daemon.log.count("\nChecked ") == 1


def test_the_same_once_more_is_checked_soon(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """The table is as before, to the last byte; that there was a change is all that the kernel
    tells."""
    home = fuse.mount("home", source="filer:/home")
    daemon.interval = 3600
    daemon.start()
    while _unlike(Path("/proc/self/mountinfo").read_bytes, mounts, fuse, daemon, home):
        _begin_again(mounts, fuse, daemon, home, lambda: fuse.mount("home", source="filer:/home"))
    passes = daemon.log.count("\nChecked ")
    _states_until(daemon, _is(home, "timed-out"))
    until(lambda: daemon.log.count("\nChecked ") > passes)
    fuse.command("answer", "another")
    daemon.until(lambda result: result.code == 0)


def test_a_host_without_descriptors(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """That nothing can be opened must not keep an old OK: what hangs is told, or the result is
    removed."""
    for number in range(60):
        fuse.mount(f"hung{number}")
    mounts.tmpfs("well")
    daemon.interval = 3600
    daemon.start("--deadline", "5", wrapper=["prlimit", "--nofile=64:64"])
    assert daemon.cached().code == 0
    for number in range(60):
        fuse.command("hang", f"hung{number}")
    daemon.signal(signal.SIGUSR1)
    daemon.until_checked()
    result = daemon.until(lambda result: result.code != 0)
    assert (result.code, result.count("ok"), result.count("mounts")) == (2, 1, 61)
    for number in range(60):
        fuse.command("answer", f"hung{number}")
    daemon.until(lambda result: result.code == 0)


def test_a_look_that_fails_is_made_up_for(mounts: Mounts, daemon: Daemon) -> None:
    """As soon as this host has the means, and not only with the next pass; the log says it once."""
    mounts.tmpfs("home")
    daemon.interval = 3600
    process = daemon.start()
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    # Below that no descriptor is free, but poll(2) still takes all that the loop waits for: beyond
    # the limit it says EINVAL. Higher ones come and go.
    taken = 16
    assert {str(number) for number in range(taken)} <= set(os.listdir(f"/proc/{process.pid}/fd"))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken, limits[1]))
    mounts.tmpfs("new")
    words = "Cannot check new mounts: Too many open files"
    until(lambda: daemon.says(words))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    daemon.until(lambda result: result.count("mounts") == 2)
    until(lambda: daemon.says(f"No longer: {words}"))
    assert daemon.lines.count(words) == 1
    assert daemon.log.count("\nChecked ") == 1
