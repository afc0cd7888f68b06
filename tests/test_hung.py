"""Filesystems that do not answer: unkillable FUSE mounts, for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, in_time, remaining, until
from tests.daemon import children
from tests.kernel import state, workers_alive

pytestmark = pytest.mark.root


# What wchan says of a worker without work, and of one that waits for a FUSE server
# (proc_pid_wchan(5)).
_PIPE_WAIT, _FUSE_WAIT = "pipe_read", "request_wait_answer"


def _waits() -> list[str]:
    waits = []
    for pid in workers_alive():
        with contextlib.suppress(OSError):  # it ended meanwhile
            waits.append(Path(f"/proc/{pid}/wchan").read_text().replace("anon_", ""))
    return waits


def _ends(fd: int) -> bool:
    """Whether a pipe's end of file comes."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(60000)) and os.read(fd, 1) == b""


def _found_hung(limit: float, fuse: Fuse, plugin: Plugin, names: Sequence[str], *arguments: str) -> Result:
    """What a run over mounts that nobody knows to hang finds in less than so many seconds."""

    def attempt() -> Result:
        fuse.hang_anew(*names)
        return plugin(*arguments)

    return in_time(limit, attempt, Result.seconds)


def test_unkillable_is_timed_out_and_the_others_are_told(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung, healthy = fuse.mount("hung", source="filer1:/export"), mounts.tmpfs("healthy")
    result = _found_hung(1.5, fuse, plugin, ["hung"], "-t", "1", "-vv")
    assert result.code == 2
    assert (
        result.verdict
        == f"MOUNTS CRITICAL - 1 of 2 mounts failed: {hung} (fuse.test filer1:/export) timed out after 1 s"
    )
    assert result.line(healthy).startswith(f"OK: {healthy} (tmpfs none) ok in ")
    assert result.seconds() >= 1.0
    (stuck,) = remaining(1)
    assert state(stuck) == "D"


def test_callers_pipes_reach_their_end_though_a_worker_lives_on(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    leaks = [os.pipe() for _ in range(2)]
    process = plugin.start("-t", "0.5", pass_fds=[write for _, write in leaks])
    for _, write in leaks:
        os.close(write)
    assert process.stdout is not None
    process.wait(timeout=60)
    assert workers_alive()
    assert process.stdout.read().startswith(b"MOUNTS CRITICAL")
    for read, _ in leaks:
        assert _ends(read)
        os.close(read)


def test_twenty_runs_leave_one_stuck_process(fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    plugin("-t", "2")
    (stuck,) = remaining(1)
    times = []
    for _ in range(19):
        result = plugin("-t", "2", "-v")
        times.append(result.seconds())
        assert result.code == 2
        assert f"{hung} (fuse.test fuse) timed out: a probe has been stuck in it since 20" in result.line(hung)
        assert f"(pid {stuck})" in result.line(hung)
    assert min(times) < 0.3 and max(times) < 2  # nobody waits for what is known
    assert remaining(1) == {stuck}
    fuse.command("answer", "hung")
    remaining(0)
    assert plugin("-t", "5").code == 0
    # A run whose workers, killed at its end, are late to die leaves its file to the next.
    until(lambda: not list(plugin.state_dir.iterdir()) or plugin("-t", "5").code)
    assert not list(plugin.state_dir.iterdir())


def test_ten_bind_mounts_cost_one_stuck_process(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    binds = [mounts.bind(hung, f"bind{number}") for number in range(10)]
    fuse.command("hang", "hung")
    for _ in range(20):
        result = plugin("-t", "0.3", "-v")
        assert result.count("timed_out") == 11
        remaining(1)
    assert result.line(binds[3]).endswith(f"timed out: same filesystem as {hung}")
    fuse.command("answer", "hung")
    remaining(0)
    assert plugin("-t", "5").count("ok") == 11


def test_below_a_hung_mount_is_blocked(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    below = hung / "sub"
    mounts.mount_at(below, "tmpfs")
    deeper = below / "deeper"
    deeper.mkdir()
    mounts.mount_at(deeper, "tmpfs")
    fuse.command("hang", "hung")
    result = plugin("-t", "0.5", "-v")
    assert (result.count("timed_out"), result.count("blocked"), result.count("mounts")) == (1, 2, 3)
    assert result.line(below) == f"OK: {below} (tmpfs none) blocked: below {hung}, which timed out"
    assert result.line(deeper) == f"OK: {deeper} (tmpfs none) blocked: below {hung}, which timed out"
    remaining(1)
    fuse.command("answer", "hung")


def test_the_order_is_the_mount_tables_whoever_is_the_first_to_answer(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path
) -> None:
    """A text that changes from check to check for no reason is an event to those who archive it."""
    slow, quick, healthy = fuse.mount("slow"), fuse.mount("quick"), mounts.tmpfs("healthy")
    fuse.command("hang", "slow")
    fuse.command("hang", "quick")
    config = tmp_path / "conf"
    config.write_text(f'[mount "{slow}"]\ntimeout = 1\n[mount "{quick}"]\ntimeout = 0.3\n')
    result = plugin("--config", str(config), "-vv")
    assert [line.split()[1] for line in result.lines if line.startswith("CRITICAL:")] == [str(slow), str(quick)]
    assert result.line(healthy).startswith("OK:")
    again = plugin("--config", str(config), "-vv")  # of what is known to hang
    assert [line.split()[1] for line in again.lines if line.startswith("CRITICAL:")] == [str(slow), str(quick)]


def test_two_hundred_hung_two_hundred_healthy(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    names = [f"hung{number}" for number in range(200)]
    for number, name in enumerate(names):
        fuse.mount(name, source=f"filer{number % 2}:/export/{number}")
        mounts.tmpfs(f"healthy{number}")
    # Less than twice the timeout of one: they are not waited for one after the other.
    result = _found_hung(2 * 3, fuse, plugin, names, "-t", "3", "--deadline", "20")
    assert (result.count("timed_out"), result.count("ok"), result.count("mounts")) == (200, 200, 400)
    assert len(result.verdict) < 700
    assert result.verdict.startswith(
        "MOUNTS CRITICAL - 200 of 400 mounts failed: all 100 mounts of filer0 timed out after 3 s ("
    )
    remaining(200)
    again = plugin("-t", "3", "--deadline", "20")
    assert again.count("timed_out") == 200
    remaining(200)
    for name in names:
        fuse.command("answer", name)
    remaining(0)
    assert plugin().count("ok") == 400


def test_where_it_hangs_and_what_is_stuck_is_told(fuse: Fuse, plugin: Plugin) -> None:
    hung, frozen = fuse.mount("hung"), fuse.mount("frozen")
    fuse.command("hang", "hung")
    fuse.command("freeze", "frozen")
    result = plugin("-t", "0.3", "--json")
    (stuck,) = remaining(1)
    found = {finding["mount_point"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found[str(hung)]["stuck"]["pid"] == stuck
    assert found[str(frozen)]["stuck"] is None
    for path in (hung, frozen):
        assert found[str(path)]["outcome"]["failed_step"] == "statfs"
        assert found[str(path)]["outcome"]["seconds"]["look-up"] >= 0
        assert found[str(path)]["outcome"]["seconds"]["statfs"] is None
    fuse.command("answer", "frozen")
    lines = plugin("-t", "0.3", "-vvv", "--state-dir", str(plugin.state_dir / "other"), state=False).lines
    assert "  statfs: no answer" in lines
    remaining(2)  # another memory, another stuck process


def test_killable_probe_is_gone_when_the_run_ends(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("frozen")
    fuse.command("freeze", "frozen")
    result = plugin("-t", "0.3")
    assert result.count("timed_out") == 1
    remaining(0)
    assert not list(plugin.state_dir.iterdir())


def test_more_hung_mounts_than_workers(fuse: Fuse, plugin: Plugin) -> None:
    for number in range(6):
        fuse.mount(f"hung{number}")
        fuse.command("hang", f"hung{number}")
    result = plugin("-t", "0.3", "--deadline", "1", "--max-workers", "4", "-v")
    assert (result.count("timed_out"), result.count("unprobed")) == (4, 2)
    assert result.code == 2
    remaining(4)
    assert any("not probed: the run's deadline came first" in line for line in result.lines)


def test_a_deadline_as_short_as_the_timeout_is_still_critical(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    result = plugin("-t", "6", "--deadline", "6")
    assert result.code == 2
    assert result.verdict.endswith("timed out after 5.5 s")


def test_one_stuck_process_though_the_first_look_up_is_refused(mounts: Mounts, fuse: Fuse, public: Path) -> None:
    """A look-up that is refused on the way says nothing about the filesystem behind it."""
    zoo = Mounts(public / "mnt")
    hung = fuse.mount("hung")
    (public / "mnt").mkdir()
    (public / "mnt/closed").mkdir(mode=0o700)
    zoo.bind(hung, "closed/first")
    for number in range(5):
        zoo.bind(hung, f"open{number}")
    fuse.command("hang", "hung")
    nobody = Plugin(public / "mnt", public / "state")
    nobody.environment["PYTHONPATH"] = str(public)
    (public / "state").mkdir(mode=0o700)
    os.chown(public / "state", 65534, 65534)
    result = nobody("-t", "0.5", user=65534, group=65534, extra_groups=[])
    zoo.close()
    assert (result.count("denied"), result.count("timed_out")) == (1, 5)
    remaining(1)


def test_killed_in_the_middle_of_a_run_unkillable(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    leak, write = os.pipe()
    process = plugin.start("-t", "30", "--deadline", "40", pass_fds=[write])
    os.close(write)
    until(lambda: fuse.waiting("hung") == 1)
    process.kill()
    process.communicate()
    assert _ends(leak)
    os.close(leak)
    (stuck,) = remaining(1)
    result = plugin("-t", "0.5")
    assert f"(pid {stuck})" in result.verdict
    assert remaining(1) == {stuck}


@pytest.mark.parametrize("most", [1, 64])
def test_the_nursery_dies_amid_a_hang(mounts: Mounts, fuse: Fuse, plugin: Plugin, most: int) -> None:
    """What is stuck stays known, and nobody else tries the mount; the others are asked."""
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    for number in range(3):
        mounts.tmpfs(f"healthy{number}")
    process = plugin.start("-t", "2", "--deadline", "30", "--max-workers", str(most))
    until(lambda: fuse.waiting("hung") == 1)
    until(lambda: len(workers_alive("check_mounts:n")) == 1)  # a worker has this name, too, until it has its own
    (nursery,) = workers_alive("check_mounts:n")
    os.kill(nursery, signal.SIGKILL)
    result = Result(process)
    assert f"{hung} (fuse.test fuse) timed out after 2 s" in result.verdict
    assert result.count("timed_out") == 1
    # Where there may be one process, and that one is stuck, nobody can ask the others.
    assert result.count("ok") == (3 if most > 1 else 0)
    (stuck,) = remaining(1)
    assert f"(pid {stuck})" in plugin("-t", "2").verdict
    assert remaining(1) == {stuck}


def test_killed_in_the_middle_of_a_run_killable(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("frozen")
    fuse.command("freeze", "frozen")
    process = plugin.start("-t", "30", "--deadline", "40")
    until(lambda: _FUSE_WAIT in _waits())
    process.kill()
    process.communicate()
    remaining(0)
    fuse.command("answer", "frozen")
    assert plugin().count("ok") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_prints_what_is_known(mounts: Mounts, fuse: Fuse, plugin: Plugin, number: signal.Signals) -> None:
    hung, healthy = fuse.mount("hung"), mounts.tmpfs("healthy")
    dead = fuse.mount("dead")
    fuse.command("die", "dead")
    fuse.command("hang", "hung")
    # A shell that puts us into the background has SIGINT ignored, and so would be what we start.
    process = plugin.start("-t", "30", "-vv", wrapper=["env", "--default-signal=INT,TERM"])
    until(lambda: fuse.waiting("hung") == 1)
    # All the rest is answered: one worker is stuck, the others wait for work, and the parent for
    # either.
    until(lambda: _PIPE_WAIT in _waits() and sorted(set(_waits())) == [_PIPE_WAIT, _FUSE_WAIT])
    until(lambda: state(process.pid) == "S")
    assert os.readlink(f"/proc/{process.pid}/cwd") == "/"  # a working directory on a mount would keep it busy, or hang
    process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 3
    first = output.splitlines()[0]
    assert first.startswith(f"MOUNTS UNKNOWN - interrupted by {number.name} after ")
    assert f"{dead} (fuse.test fuse) dead: Transport endpoint is not connected (ENOTCONN)" in first
    assert f"OK: {healthy} (tmpfs none) ok in " in output
    assert re.search(
        rf"UNKNOWN: {hung} \(fuse\.test fuse\) no answer for [0-9.]+ s at \S+ when {number.name} came\n", output
    )


@pytest.mark.parametrize(("seconds", "asked"), [(1.0, 1200), (4.0, 496)])
def test_stopped_for_a_while_it_blames_the_hung_one_alone(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, seconds: float, asked: int
) -> None:
    """Even past its deadline: what is in the pipes is read, and a timeout declared. What they did
    not take may remain unasked then."""
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    for number in range(1200):
        mounts.tmpfs(f"healthy{number}", "size=4k")
    process = plugin.start("-t", "0.7", "--deadline", "3")
    until(lambda: fuse.waiting("hung") == 1)
    pids = (process.pid, *children(process.pid))  # as a group or a virtual machine is stopped: with its watcher
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    result = Result(process)
    assert f" mounts failed: {hung} (fuse.test fuse) timed out after 0.7 s" in result.verdict
    assert result.count("timed_out") == 1
    assert result.count("ok") >= asked
    assert result.count("ok") + result.count("unprobed") == 1200
    remaining(1)


def test_unmounted_during_the_probe_is_no_failure(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    mounts.tmpfs("healthy")
    fuse.command("hang", "hung")
    process = plugin.start("-t", "3", "-vvv")
    until(lambda: fuse.waiting("hung") == 1)
    mounts.detach(hung)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    assert output.startswith("MOUNTS OK - 1 mount checked in ")
    assert f"left out: {hung} (fuse.test fuse): unmounted during the run" in output


def test_unmounted_during_the_probe_but_expected_is_missing(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    process = plugin.start("-t", "3", str(hung), below=False)
    until(lambda: fuse.waiting("hung") == 1)
    mounts.detach(hung)
    output = process.communicate(timeout=60)[0].decode()
    assert output.startswith(f"MOUNTS CRITICAL - 1 of 1 mounts failed: {hung} missing: unmounted during the run | ")


def test_over_mounted_during_the_probe_is_shadowed(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    process = plugin.start("-t", "3", "-v", "--allow-none")
    until(lambda: fuse.waiting("hung") == 1)
    mounts.mount_at(hung, "tmpfs")
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0, output
    assert f"OK: {hung} (fuse.test fuse) shadowed: another mount covers it" in output


def test_concurrent_runs_cost_one_stuck_process(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    first = plugin.start("-t", "1")
    until(lambda: fuse.waiting("hung") == 1)
    second = plugin.start("-t", "1")
    for process in (first, second):
        assert process.communicate(timeout=60)[0].startswith(b"MOUNTS CRITICAL - 1 of 1 mounts failed")
    remaining(1)
    assert fuse.waiting("hung") == 1


def test_a_concurrent_run_goes_on_when_the_other_probe_is_back(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    first = plugin.start("-t", "20")
    until(lambda: fuse.waiting("hung") == 1)
    second = plugin.start("-t", "20", "--deadline", "30")
    until(lambda: len(list(plugin.state_dir.iterdir())) == 2)
    fuse.command("answer", "hung")
    for process in (first, second):
        assert process.communicate(timeout=60)[0].startswith(b"MOUNTS OK - 1 mount checked")


def test_pairs_of_runs_at_the_same_moment(fuse: Fuse, plugin: Plugin) -> None:
    for number in range(6):
        fuse.mount(f"hung{number}")
        fuse.command("hang", f"hung{number}")
    runs = [plugin.start("-t", "0.5") for _ in range(4)]
    for run in runs:
        assert run.communicate(timeout=60)[0].startswith(b"MOUNTS CRITICAL - 6 of 6 mounts failed")
    remaining(6)


def test_a_hang_on_the_way_is_not_the_fault_of_the_mount(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """The root directory of the FUSE answers, the look-up below it does not; what is mounted there
    is healthy elsewhere."""
    way = fuse.mount("way")
    below = way / "sub"
    mounts.mount_at(below, "tmpfs")
    elsewhere = mounts.bind(below, "elsewhere")
    fuse.command("hang-lookup", "way")
    for _ in range(3):
        result = plugin("-t", "0.5", "-vv")
        assert (result.count("ok"), result.count("timed_out")) == (2, 1)
        assert "timed out" in result.line(below)
        assert result.line(elsewhere).startswith("OK: ")
        remaining(1)


def test_behind_one_way_that_hangs_one_process_is_stuck(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """The FUSE itself is not selected, so nobody has asked it before; four mounts below it are."""
    way = fuse.mount("way")
    first = way / "sub"
    for number in range(4):
        mounts.mount_at(first, "tmpfs", f"stacked{number}")
        first = first / "deeper"
        first.mkdir()
    for number in range(3):
        fuse.mount(f"other{number}")
    fuse.command("hang-lookup", "way")
    result = plugin("-t", "0.5", "-v", "-N", "tmpfs")
    assert result.code == 2
    remaining(1)


def test_what_is_excluded_is_not_walked_through(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """Neither does a look-up hang in it nor, where it is dead, detach what is mounted below."""
    user, dead = fuse.mount("user", user_id=1000), fuse.mount("dead")
    for way in (user, dead):
        mounts.mount_at(way / "sub", "tmpfs")
    fuse.command("hang", "user")
    fuse.command("die", "dead")
    result = plugin("-t", "0.5", "-v", "-x", str(dead))
    assert (result.code, result.count("blocked")) == (0, 2)
    assert result.line(user / "sub").endswith(f"blocked: below {user}, which is not checked (FUSE mount of uid 1000)")
    assert result.line(dead / "sub").endswith(
        f"blocked: below {dead}, which is not checked (its mount point is excluded)"
    )
    remaining(0)
    assert f" {dead}/sub " in Path("/proc/self/mountinfo").read_text()


def test_behind_many_slow_mounts_a_hung_one_is_found_in_time(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    for number in range(300):
        fuse.mount(f"slow{number}")
        fuse.command("delay", f"slow{number}", "0.001")
    fuse.mount("z-hung")
    # By as many workers as a pool begins with. If it stayed with them, the hung one would begin
    # only then.
    alone = plugin("-t", "10", "--deadline", "60", "--max-workers", str(len(os.sched_getaffinity(0))))
    assert alone.count("ok") == 301
    result = _found_hung(10 + 0.85 * alone.seconds(), fuse, plugin, ["z-hung"], "-t", "10", "--deadline", "60")
    assert (result.count("timed_out"), result.count("unprobed")) == (1, 0)


def test_named_but_covered_during_the_run_is_missing(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    process = plugin.start("-t", "3", str(hung), below=False)
    until(lambda: fuse.waiting("hung") == 1)
    mounts.mount_at(hung, "tmpfs")
    output = process.communicate(timeout=60)[0].decode()
    assert output.startswith(f"MOUNTS CRITICAL - 1 of 1 mounts failed: {hung} missing: covered by another mount | ")


@pytest.mark.parametrize("capability", ["cap_setuid", "cap_setgid"])
def test_without_a_capability_workers_still_die_with_their_parent(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, capability: str
) -> None:
    mounts.tmpfs("of-a-user", "uid=1000,mode=0700")
    fuse.mount("frozen")
    fuse.command("freeze", "frozen")
    process = plugin.start(
        "-t", "30", "--max-workers", "1", wrapper=["setpriv", f"--bounding-set=-{capability[4:]}", "--"]
    )
    until(lambda: _FUSE_WAIT in _waits())
    process.kill()
    process.communicate()
    remaining(0)


def test_a_shutdown_does_not_wait_for_a_stuck_worker(fuse: Fuse, plugin: Plugin) -> None:
    """systemd-shutdown leaves root's processes alone whose argv[0] begins with an @, and only
    those."""
    fuse.mount("hung")
    fuse.command("hang", "hung")
    assert plugin("-t", "0.5").code == 2
    (stuck,) = remaining(1)
    command_line = Path(f"/proc/{stuck}/cmdline").read_bytes()
    assert command_line.startswith(b"@" + PYTHON[1:].encode() + b"\0-m\0check_mounts\0")
    assert Path(f"/proc/{stuck}/status").read_text().partition("Uid:\t")[2].startswith("0\t")


def test_a_worker_that_has_become_a_user_is_no_longer_roots(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("private", allow_other=0, user_id=1000, group_id=1000, uid=1000)
    fuse.command("hang", "private")
    assert plugin("-t", "0.5", "--user-mounts").code == 2
    (stuck,) = remaining(1)
    assert Path(f"/proc/{stuck}/status").read_text().partition("Uid:\t")[2].startswith("1000\t")
