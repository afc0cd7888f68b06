"""``--wait``: a run that ends when the mounts answer, or when its time is over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, Plugin, Result, remaining, until
from tests.kernel import runs_alive, state, workers_alive
from tests.test_cli import USAGE

pytestmark = pytest.mark.root
MS_REMOUNT, MS_BIND, MS_RDONLY = 32, 4096, 1


class Wait:
    """A run with --wait -v, and what it has said on stderr so far."""

    def __init__(self, plugin: Plugin, *arguments: object, state: bool = True) -> None:
        self.process = plugin.start("--wait", "-v", *map(str, arguments), below=False, state=state)
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line.decode().rstrip("\n"))

    def until_it_waits_for(self, words: str) -> None:
        until(lambda: any(line.startswith("check_mounts: waiting for ") and words in line for line in self._said))

    def until_it_no_longer_waits_for(self, path: Path) -> None:
        """That is, until another check has ended, if something else is still waited for."""
        until(lambda: self._said and str(path) not in self._said[-1])

    @property
    def said(self) -> list[str]:
        return list(self._said)

    def is_waiting(self) -> bool:
        return self.process.poll() is None

    def end(self) -> Result:
        self._reader.join(60)
        result = Result.__new__(Result)
        assert self.process.stdout is not None
        stdout = self.process.stdout.read()
        self.process.wait(60)
        result.stdout, result.code = stdout, self.process.returncode
        result.lines = stdout.decode().split("\n")
        result.verdict = result.lines[0].partition(" | ")[0]
        return result


def _took(begun: float) -> float:
    return time.monotonic() - begun


def test_it_ends_at_once_when_all_is_well(mounts: Mounts, plugin: Plugin) -> None:
    here = mounts.tmpfs("here")
    result = plugin("--wait", str(here), "--timeout", "60", below=False)
    assert (result.code, result.verdict[:33]) == (0, "MOUNTS OK - 1 mount checked in 0."[:33])
    assert "waited" not in result.stdout.decode()
    assert result.stderr == b""


def test_a_mount_that_comes_is_seen_at_once(mounts: Mounts, plugin: Plugin) -> None:
    late, later = mounts.point("late"), mounts.point("later")
    wait = Wait(plugin, late, later, "--timeout", "60")
    wait.until_it_waits_for(f"{late} missing: not mounted; {later} missing: not mounted")
    mounts.tmpfs("late")
    wait.until_it_waits_for(f"for {later} missing")
    mounts.tmpfs("later")
    result = wait.end()
    assert (result.code, result.verdict[:34]) == (0, "MOUNTS OK - 2 mounts checked in 0.")
    waited = re.search(r"^note: waited (.*) s, (\d+) checks$", result.stdout.decode(), re.M)
    assert waited and int(waited[2]) >= 3


def test_a_mount_that_hangs_costs_one_process_and_is_seen_when_it_answers(
    fuse: Fuse, mounts: Mounts, plugin: Plugin
) -> None:
    hung, late = fuse.mount("hung"), mounts.point("late")
    fuse.command("hang", "hung")
    wait = Wait(plugin, hung, late, "--deadline", "60", "-t", "0.5")
    wait.until_it_waits_for(f"{hung} timed out after 0.5 s")
    (stuck,) = remaining(1)
    assert state(stuck) == "D"
    mounts.tmpfs("late")  # so there is another check, which might ask again
    wait.until_it_no_longer_waits_for(late)
    assert wait.is_waiting()
    assert remaining(1) == {stuck}
    assert fuse.waiting("hung") == 1
    begun = time.monotonic()
    fuse.command("answer", "hung")
    result = wait.end()
    assert (result.code, result.verdict[:11]) == (0, "MOUNTS OK -")
    assert _took(begun) < 4  # without the kernel's word, five seconds pass from one check to the next


def test_no_memory_of_stuck_probes_is_needed_for_that(
    fuse: Fuse, mounts: Mounts, plugin: Plugin, tmp_path: Path
) -> None:
    hung, late = fuse.mount("hung"), mounts.point("late")
    fuse.command("hang", "hung")
    (tmp_path / "file").touch()
    wait = Wait(plugin, hung, late, "--deadline", "60", "-t", "0.5", "--state-dir", tmp_path / "file", state=False)
    wait.until_it_waits_for(f"{hung} timed out")
    mounts.tmpfs("late")  # another check
    wait.until_it_no_longer_waits_for(late)
    assert fuse.waiting("hung") == 1
    remaining(1)
    fuse.command("answer", "hung")
    assert wait.end().code == 0


def test_a_probe_that_can_be_killed_is_made_again(fuse: Fuse, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("freeze", "hung")
    wait = Wait(plugin, hung, "--deadline", "60", "-t", "0.3")
    wait.until_it_waits_for(f"{hung} timed out")
    time.sleep(1.5)
    fuse.command("answer", "hung")
    assert wait.end().code == 0


def test_a_dead_mount_that_is_mounted_again(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    dead = fuse.mount("dead")
    fuse.command("die", "dead")
    wait = Wait(plugin, dead, "--timeout", "60")
    wait.until_it_waits_for(f"{dead} dead")
    mounts.detach(dead)
    wait.until_it_waits_for(f"{dead} missing")
    mounts.tmpfs("dead")
    assert wait.end().code == 0


def test_a_hung_mount_that_is_replaced(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    wait = Wait(plugin, hung, "--deadline", "60", "-t", "0.5")
    wait.until_it_waits_for(f"{hung} timed out")
    mounts.detach(hung)
    mounts.tmpfs("hung")
    assert wait.end().code == 0
    fuse.command("answer", "hung")


def test_the_verdict_when_the_time_is_over(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    hung, missing = fuse.mount("hung"), mounts.point("missing")
    fuse.command("hang", "hung")
    begun = time.monotonic()
    result = plugin("--wait", str(hung), str(missing), "--timeout", "2", below=False)
    assert 1.9 < _took(begun) < 4.5
    assert result.code == 2
    assert re.match(
        rf"MOUNTS CRITICAL - 2 of 2 mounts failed: {hung} \(fuse.test fuse\) timed out after 1.8 s; "
        rf"{missing} missing: not mounted$",
        result.verdict,
    )
    assert result.stderr == b""


@pytest.mark.parametrize("moment", ["at rest", "in a check"])
def test_a_signal_ends_it_with_a_verdict(fuse: Fuse, mounts: Mounts, plugin: Plugin, moment: str) -> None:
    missing, hung = mounts.point("missing"), fuse.mount("hung")
    if moment == "in a check":
        fuse.command("hang", "hung")
        wait = Wait(plugin, hung, missing, "--timeout", "60")
        until(lambda: fuse.waiting("hung"))
    else:
        wait = Wait(plugin, missing, "--timeout", "60")
        wait.until_it_waits_for("missing")
    begun = time.monotonic()
    wait.process.send_signal(signal.SIGTERM)
    result = wait.end()
    assert _took(begun) < 2
    assert result.code == 3
    assert "interrupted by SIGTERM" in result.verdict
    assert str(missing) in result.stdout.decode()


def test_what_has_answered_is_not_waited_for(mounts: Mounts, plugin: Plugin) -> None:
    """Full, denied and changed: no wait helps there, and a unit must not hang at boot because of a
    threshold."""
    closed, full = mounts.tmpfs("closed", "mode=0"), mounts.tmpfs("full", "size=1m")
    (full / "file").write_bytes(bytes(1 << 20))
    changed = f"{mounts.tmpfs('changed')},type=ext4"
    begun = time.monotonic()
    result = plugin("--wait", str(closed), str(full), "--expect", changed, "--usage-critical", "50", below=False)
    assert _took(begun) < 30
    assert (result.code, "waited" in result.stdout.decode()) == (2, False)
    assert plugin("--wait", str(closed), below=False).code == 1


def test_a_mount_that_is_read_only_for_now(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("a", "ro")
    path = mounts.base / "a"
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    wait = Wait(plugin, path, "--expect", f"{path},rw", "--timeout", "60")
    wait.until_it_waits_for(f"{path} read-only")
    subprocess.run(["mount", "-o", "remount,rw", path], check=True)
    assert wait.end().code == 0


def test_what_fstab_declares(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    there, absent = mounts.point("there"), mounts.point("absent")
    (tmp_path / "fstab").write_text(f"x {there} tmpfs defaults 0 0\ny {absent} tmpfs nofail 0 0\n")
    wait = Wait(plugin, f"--fstab={tmp_path}/fstab", "-p", f"{mounts.base}/*", "--timeout", "60", "--json")
    wait.until_it_waits_for(f"{there} missing")
    mounts.tmpfs("there", source="x")
    result = wait.end()
    assert result.code == 0
    assert json.loads(result.stdout)["state"] == "OK"


def test_no_mount_at_all_is_waited_for(mounts: Mounts, plugin: Plugin) -> None:
    wait = Wait(plugin, "-p", f"{mounts.base}/*", "--timeout", "60")
    wait.until_it_waits_for("a mount to check")
    mounts.tmpfs("first")
    assert wait.end().code == 0
    assert plugin("--wait", "-p", "/no/such/*", "--allow-none", below=False).code == 0


def test_a_link_that_leads_there_later(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """No change of the mount table tells that."""
    real, link = mounts.tmpfs("real"), tmp_path / "link"
    link.symlink_to(tmp_path)
    wait = Wait(plugin, link, "--timeout", "60")
    wait.until_it_waits_for("missing")
    link.unlink()
    link.symlink_to(real)
    assert wait.end().code == 0


def test_another_table_is_read_again(plugin: Plugin, tmp_path: Path) -> None:
    table, new = tmp_path / "mountinfo", tmp_path / "new"
    lines = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if " / / " not in line))
    wait = Wait(plugin, "/", "--mountinfo", table, "--timeout", "60")
    wait.until_it_waits_for("/ missing")
    new.write_text("".join(lines))
    os.replace(new, table)
    assert wait.end().code == 0


def test_a_table_that_never_rests_makes_no_flood(mounts: Mounts, plugin: Plugin) -> None:
    wait = Wait(plugin, mounts.point("missing"), "--timeout", "3")
    while wait.is_waiting():
        mounts.detach(mounts.tmpfs("noise"))
        time.sleep(0.01)
    result = wait.end()
    checks = re.search(r"^note: waited .* s, (\d+) checks$", result.stdout.decode(), re.M)
    assert result.code == 2
    assert checks and 3 <= int(checks[1]) <= 15


def test_timeouts_of_the_configuration_are_for_one_mount(
    fuse: Fuse, mounts: Mounts, plugin: Plugin, tmp_path: Path
) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    config = tmp_path / "conf"
    config.write_text(
        f'[check_mounts]\ntimeout = 90\ndeadline = 100\n[mount "{hung}"]\ntimeout = 0.4\n[mount "/x"]\ntimeout = 99\n'
    )
    result = plugin("--wait", str(hung), "-t", "2", "--config", str(config), below=False)
    assert result.code == 2
    assert f"{hung} (fuse.test fuse) timed out after 0.4 s" in result.verdict


def test_a_mount_with_a_long_timeout_of_its_own_has_it(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    slow, config = fuse.mount("slow"), tmp_path / "conf"
    fuse.command("delay", "slow", "2")
    config.write_text(f'[check_mounts]\ntimeout = 0.5\n[mount "{slow}"]\ntimeout = 30\n')
    result = plugin("--wait", str(slow), "-t", "40", "--config", str(config), below=False)
    assert (result.code, "waited" in result.stdout.decode()) == (0, False)


def test_a_name_below_a_mount_that_hangs_costs_one_process(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    hung = fuse.mount("hung")
    fuse.command("hang", "hung")
    wait = Wait(plugin, hung / "a/b", hung, "--deadline", "60", "-t", "0.5")
    wait.until_it_waits_for(str(hung))
    mounts.tmpfs("noise")  # another check
    time.sleep(2)
    assert len(workers_alive()) == 1
    wait.process.send_signal(signal.SIGTERM)
    assert wait.end().code == 3
    fuse.command("answer", "hung")


def test_a_long_wait_keeps_nothing(mounts: Mounts, plugin: Plugin) -> None:
    missing = mounts.point("missing")
    wait = Wait(plugin, missing, "--timeout", "60")
    wait.until_it_waits_for("missing")
    (run,) = runs_alive()

    def kept() -> tuple[int, int]:
        pages = int(Path(f"/proc/{run}/statm").read_text().split()[1])
        return len(os.listdir(f"/proc/{run}/fd")), pages

    def noise() -> None:
        for _ in range(10):
            mounts.detach(mounts.tmpfs("noise"))
            time.sleep(0.21)

    noise()
    fds, pages = kept()
    noise()
    later = kept()
    assert abs(later[0] - fds) <= 6  # of a check under way
    assert later[1] - pages < 256
    mounts.tmpfs("missing")
    assert wait.end().code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--daemon"], "argument --wait: does not go with --daemon"),
        (["-t", "5", "--deadline", "4"], "argument --deadline: 4 s is shorter than the timeout of 5 s for one mount"),
        (["--timeout", "0"], "argument -t/--timeout: '0' is not a positive number of seconds"),
        (["--wait=/srv"], "argument --wait: takes no value"),
    ],
)
def test_refused(plugin: Plugin, arguments: list[str], words: str) -> None:
    result = plugin("--wait", *arguments, below=False, state=False)
    assert (result.code, result.lines) == (3, [f"MOUNTS UNKNOWN - {words}", USAGE, ""])


def test_the_daemons_result_is_not_waited_for(plugin: Plugin) -> None:
    result = plugin("--wait", "--cached", below=False, state=False)
    assert (result.code, "argument --wait: does not go with --cached" in result.verdict) == (3, True)


def test_a_file_cannot_ask_for_it(plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("[check_mounts]\nwait = yes\n")
    result = plugin("--config", str(tmp_path / "conf"), below=False, state=False)
    assert (result.code, "wait" in result.verdict) == (3, True)
