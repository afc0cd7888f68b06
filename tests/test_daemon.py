"""The daemon, over real mounts: what it finds, when, what it says of it, and that nothing ends it
but who may."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts import __version__, text
from check_mounts.daemon import diary
from check_mounts.daemon.watch import Endings
from check_mounts.system import logs
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Result, in_time, remaining, until
from tests.daemon import Daemon, children, daemon, descriptors, nurseries
from tests.kernel import workers_alive
from tests.test_logs import Syslogd, syslogd

__all__ = ["daemon", "syslogd"]

pytestmark = pytest.mark.root


def _is(code: int) -> "object":
    return lambda result: result.code == code


def test_the_first_result_is_that_of_a_run(mounts: Mounts, daemon: Daemon) -> None:
    home = mounts.tmpfs("home")
    daemon.start()
    cached = daemon.cached("-vv")
    assert cached.code == 0
    assert re.fullmatch(r"MOUNTS OK - 1 mount checked in \d\.\d s", cached.verdict)
    assert cached.line(home).startswith(f"OK: {home} (tmpfs none) ok in ")
    assert daemon.lines[0] == f"Checking every 1 s (check_mounts {__version__})"
    assert re.fullmatch(r"Checked 1 mounts in \d seconds", daemon.lines[1])
    survey = json.loads(daemon.cache.with_name("status.json").read_text())
    assert survey["check_mounts"] == __version__
    assert (survey["state"], [each["mount_point"] for each in survey["findings"]]) == ("OK", [str(home)])
    assert oct(daemon.cache.stat().st_mode & 0o7777) == "0o644"


def test_hang_and_release(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    mounts.tmpfs("healthy")
    home = fuse.mount("home", source="filer1:/home")
    daemon.interval = 2.0
    daemon.start()
    hung: list[float] = []

    def attempt() -> Result:
        fuse.command("answer", "home")
        daemon.until(lambda result: result.code == 0)
        hung.append(time.monotonic())
        fuse.command("hang", "home")
        return daemon.until(lambda result: result.code == 2)

    result = in_time(daemon.interval + daemon.timeout + 1, attempt, lambda _: time.monotonic() - hung[-1])
    assert (
        result.verdict
        == f"MOUNTS CRITICAL - 1 of 2 mounts failed: {home} (fuse.test filer1:/home) timed out after 0.5 s"
    )
    (stuck,) = remaining(1)
    assert daemon.says(f"Timed out waiting for child process {stuck} checking {home}: sending SIGKILL")
    assert daemon.says(f"{home} timed out after 0.5 s")
    until(lambda: re.fullmatch(r"Checked 2 mounts in \d seconds: 1 timed out", daemon.lines[-1]))
    daemon.until_checked(2)
    assert remaining(1) == {stuck}  # one process, whatever the number of passes
    result = daemon.cached()
    assert re.search(rf" timed out: a probe has been stuck in it since 20[-0-9: ]+ \(pid {stuck}\)", result.verdict)
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0, 3)  # the end of the process is noticed, not the next pass awaited
    until(lambda: sum(line.startswith(f"{home} answers again after ") for line in daemon.lines) == len(hung))
    assert sum(line.startswith(f"{home} ") for line in daemon.lines) == 2 * len(hung)  # each change once
    remaining(0)


def test_what_can_be_killed_is_well_only_once_a_probe_has_come_back(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    home = fuse.mount("home")
    daemon.start()
    fuse.command("freeze", "home")
    daemon.until(lambda result: result.code == 2)
    daemon.until_checked(2)
    assert re.search(r" timed out after 0.5 s, and has hung since 20", daemon.cached().verdict)
    assert not any("answers again" in line for line in daemon.lines)
    fuse.command("error", "home", "5")
    fuse.command("answer", "home")
    daemon.until(lambda result: " dead: " in result.verdict)
    assert not any("answers again" in line for line in daemon.lines)  # that it fails is not that it is well
    fuse.command("error", "home", "0")
    daemon.until(lambda result: result.code == 0)
    until(lambda: any(line.startswith(f"{home} answers again after ") for line in daemon.lines))
    assert [line.split(" ")[1] for line in daemon.lines if line.startswith(f"{home} ")] == ["timed", "is", "answers"]


def _delay(daemon: Daemon, change: Callable[[], object], count: int) -> float:
    """How long it takes until the result of ``count`` mounts is written. Who asks for it again and
    again would add his own time."""
    began = time.time()
    change()
    daemon.until(lambda result: result.count("mounts") == count)
    return daemon.cache.stat().st_mtime - began


def test_the_nursery_forks_its_workers_and_may_die(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    mounts.tmpfs("healthy")
    home = fuse.mount("home")
    daemon.start()
    (nursery,) = nurseries(daemon)
    fuse.command("hang", "home")
    daemon.check()
    assert daemon.cached("-v").line(home).startswith("CRITICAL")
    assert len(workers_alive() & set(children(nursery))) == 1
    # Those that look for the processes that wait are the daemon's own, and end soon.
    until(lambda: not children(daemon.process.pid))
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0)
    os.kill(nursery, signal.SIGKILL)
    for _ in range(2):
        daemon.check()
        assert daemon.cached().code == 0
    assert not nurseries(daemon)
    fuse.command("hang", "home")
    daemon.until(lambda result: result.code == 2)
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0)


def test_what_the_nursery_has_forked_has_not_ended_because_it_is_no_child() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    pid = int(shell.stdout.readline())
    endings = Endings()
    try:
        endings.follow((), {pid})
        # As where the kernel cannot tell about its end: it is looked at.
        assert not endings._has_ended(pid)
        os.kill(pid, signal.SIGKILL)

        def is_noticed() -> bool:
            endings.step()
            return pid in set.union(*endings.take_ended())

        until(is_noticed)
    finally:
        endings.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        shell.communicate()


def test_mounts_come_and_go(mounts: Mounts, daemon: Daemon) -> None:
    daemon.interval = 3600
    mounts.tmpfs("first")
    daemon.start("-v")

    def attempt() -> float:
        came = _delay(daemon, lambda: mounts.tmpfs("second"), 2)
        return max(came, _delay(daemon, lambda: mounts.detach(mounts.base / "second"), 1))

    in_time(1.0, attempt, float)
    assert daemon.log.count("\nChecked ") == 1


def test_a_mount_that_comes_while_another_hangs(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """A pass that waits for a mount does not keep the next one from being checked."""
    daemon.interval, daemon.timeout = 3600, 20
    mounts.tmpfs("first")
    fuse.mount("hung")
    daemon.start("--deadline", "25")
    fuse.command("hang", "hung")
    daemon.signal(signal.SIGUSR1)
    until(lambda: fuse.waiting("hung"))
    counts = itertools.count(3)

    def attempt() -> float:
        count = next(counts)
        return _delay(daemon, lambda: mounts.tmpfs(f"late{count}"), count)

    in_time(1.0, attempt, float)
    assert daemon.log.count("\nChecked ") == 1


def test_a_mount_that_comes_and_hangs(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    daemon.interval = 3600
    daemon.start("--allow-none")
    fuse.mount("other")
    hung = fuse.mount("hung", mode=0, default_permissions=1)
    daemon.until(lambda result: result.code == 1, 10)
    assert daemon.says(f"Couldn't check mountpoint {hung}: mode 0000 does not allow access")


def test_remounted_read_only(mounts: Mounts, daemon: Daemon) -> None:
    home = mounts.tmpfs("home")
    daemon.interval = 3600
    daemon.start("--expect", f"{home},rw")
    mounts.mount_at(home, "none", flags=32 | 1)  # MS_REMOUNT | MS_RDONLY
    daemon.until(lambda result: "read-only" in result.verdict, 10)
    assert daemon.says(f"{home} is read-only: the filesystem is mounted ro, expected rw") or [
        line for line in daemon.lines if line.startswith(f"{home} is read-only: ")
    ]


def test_usr1_checks_now(mounts: Mounts, daemon: Daemon) -> None:
    mounts.tmpfs("home")
    daemon.interval = 3600
    daemon.start()
    daemon.check()


def test_only_changes_are_logged_if_that_is_wanted(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    home = fuse.mount("home")
    configuration = tmp_path / "c.conf"
    configuration.write_text("[check_mounts]\nlog-changes = yes\n")
    daemon.start("--config", str(configuration))
    daemon.until_published(3)
    fuse.command("freeze", "home")
    daemon.until(lambda result: result.code == 2)
    daemon.until_published(3)
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0)
    killed, timed_out, again = daemon.lines[-3:]
    assert re.fullmatch(rf"Timed out waiting for child process \d+ checking {home}: sending SIGKILL", killed)
    assert timed_out.startswith(f"{home} timed out after 0.5 s")
    assert again.startswith(f"{home} answers again after ")
    assert daemon.log.count("\nChecked ") == 1
    configuration.write_text("")
    daemon.signal(signal.SIGHUP)
    daemon.until_checked(2)


def test_what_is_no_change_is_logged_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    class Lines(logs.Log):
        def _put(self, priority: int, line: str) -> bool:
            lines.append(line)
            return True

    now = 1000.0
    monkeypatch.setattr("check_mounts.daemon.diary.boottime", lambda: now)
    log = diary.Diary(Lines())
    log.note_pass("1")
    log.note_pass("2")
    log.only_changes = True
    for now in (1060.0, 87399.0, 87400.0, 87460.0, 173800.0):
        log.note_pass(f"{now:g}")
    log.only_changes = False
    log.note_pass("last")
    assert lines == ["1", "2", "87400", "173800", "last"]


def test_hup(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """A wrong file changes nothing but the log; a right one counts at once."""
    home, other = mounts.tmpfs("home"), mounts.tmpfs("other")
    daemon.interval = 3600
    configuration = tmp_path / "check_mounts.conf"
    configuration.write_text(f'[mount "{other}"]\nignore = yes\n')
    daemon.start("--config", str(configuration))
    assert daemon.cached().count("mounts") == 1
    configuration.write_text("[check_mounts]\ntimeuot = 3\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: any(line.startswith("The configuration is kept as it was: ") for line in daemon.lines))
    (line,) = [line for line in daemon.lines if line.startswith("The configuration is kept")]
    assert f"{configuration} line 2: " in line
    daemon.check()
    assert daemon.log.count("\nChecked 1 mounts ") == 2
    configuration.write_text(f'[mount "{home}"]\nseverity = ok=critical\n')
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda result: (result.code, result.count("mounts")) == (2, 2))
    assert daemon.says("The configuration was read again")


def test_fstab_is_followed(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    home = mounts.tmpfs("home")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"none {home} tmpfs rw 0 0\n")
    daemon.start(f"--fstab={fstab}")
    assert daemon.cached().code == 0
    fstab.write_text(f"none {home} tmpfs rw 0 0\nnone {mounts.base}/gone tmpfs rw 0 0\n")
    result = daemon.until(lambda result: result.code == 2)
    assert f"{mounts.base}/gone missing: not mounted" in result.verdict
    assert daemon.says("fstab has changed")


def test_term_with_fifty_unkillable_workers(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    for number in range(50):
        fuse.mount(f"m{number}")
        fuse.command("hang", f"m{number}")
    daemon.start()
    remaining(50)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2
    assert daemon.lines[-1] == "Stopped by SIGTERM"
    remaining(50)


def test_term_in_the_middle_of_a_pass(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    fuse.mount("home")
    fuse.command("hang", "home")
    daemon.timeout = 30
    daemon.start(first=False)
    until(lambda: fuse.waiting("home"))
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2
    assert not daemon.cache.exists()


def test_killed_and_started_again(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    home = fuse.mount("home")
    daemon.start()
    fuse.command("hang", "home")
    daemon.until(lambda result: result.code == 2)
    stuck = remaining(1)
    waiting = fuse.waiting("home")
    daemon.process.kill()
    daemon.process.wait()
    result = daemon.until(lambda result: result.code == 3)  # nobody renews it
    assert result.verdict.startswith(f"MOUNTS UNKNOWN - the result in {daemon.cache} is ")
    assert "is the daemon running?" in result.verdict
    daemon.start()
    assert daemon.cached().code == 2
    daemon.until_checked(2)
    assert remaining(1) == stuck
    assert fuse.waiting("home") == waiting  # nobody has asked again
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0, 3)  # though it is not the daemon's own child
    until(lambda: any(line.startswith(f"{home} answers again after ") for line in daemon.lines))


def test_the_second_refuses(mounts: Mounts, daemon: Daemon) -> None:
    mounts.tmpfs("home")
    first = daemon.start()
    second = Result(daemon.start(first=False))
    assert second.code == 3
    assert second.lines[0] == f"MOUNTS UNKNOWN - another daemon (pid {first.pid}) keeps {daemon.cache} up to date"
    daemon._started.pop()
    daemon.until_checked()
    daemon.stop()
    assert not [suffix for suffix in (".pid", ".lock") if daemon.cache.with_name(f"status{suffix}").exists()]
    daemon.start()


def test_detached(mounts: Mounts, daemon: Daemon) -> None:
    """What a terminal or an init script sees: a verdict, once the first result is there."""
    mounts.tmpfs("home")
    words = ("--daemon", "--interval", "1", "-t", "0.5", "--cache", str(daemon.cache))
    result = daemon.plugin(*words)
    pid = int(daemon.cache.with_name("status.pid").read_text())
    try:
        assert (result.code, result.lines) == (0, [f"MOUNTS OK - the daemon is running (pid {pid})", ""])
        assert daemon.cached().code == 0
        again = daemon.plugin(*words)
        assert (again.code, again.lines[0]) == (
            3,
            f"MOUNTS UNKNOWN - another daemon (pid {pid}) keeps {daemon.cache} up to date",
        )
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.fixture
def home(fuse: Fuse) -> Path:
    """A mount that hangs; made before /dev, and /dev/fuse with it, are replaced."""
    path = fuse.mount("home")
    fuse.command("hang", "home")
    return path


def test_what_arrives_at_syslogd(mounts: Mounts, home: Path, daemon: Daemon, syslogd: Syslogd) -> None:
    """Whole lines, in the words that rules for logs know; a mount point cannot forge one."""
    evil = mounts.tmpfs("evil\n<0>Jan  1 00:00:00 host kernel[1]: panic", "mode=0")
    words = (
        "--daemon",
        "--interval",
        "3600",
        "-t",
        "0.5",
        "--cache",
        str(daemon.cache),
        "--syslog-facility",
        "local3",
        "--syslog-ident",
        "mounts",
    )
    assert daemon.plugin(*words).code == 0
    pid = int(daemon.cache.with_name("status.pid").read_text())
    (worker,) = remaining(1)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists())
    local3, err, warning, notice, info = 19 << 3, 3, 4, 5, 6
    name = str(evil).replace("\n", "\\012")
    expected = [
        (info, f"Checking every 3600 s (check_mounts {__version__})"),
        (warning, f"Timed out waiting for child process {worker} checking {home}: sending SIGKILL"),
        (err, f"{home} timed out after 0.5 s"),
        (warning, f"Couldn't check mountpoint {name}: mode 0000 does not allow access"),
        (info, "Checked 2 mounts in N seconds: 1 timed out, 1 denied"),
        (notice, "Stopped by SIGTERM"),
    ]
    found = [syslogd.read() for _ in expected]
    assert syslogd.read_now() == []
    for data, (level, line) in zip(found, expected):
        match = re.fullmatch(rb"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\S+): (.*)", data)
        assert match, data
        said = re.sub(r"in \d seconds", "in N seconds", match[3].decode())
        assert (int(match[1]), match[2].decode(), said) == (local3 | level, f"mounts[{pid}]", line)


def test_systemd_is_told(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    home = fuse.mount("home")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)

        def next_with(word: str) -> str:
            for _ in range(1000):
                if word in (message := manager.recv(4096).decode()):
                    return message
            raise AssertionError(message)

        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        daemon.start(env={**daemon.plugin.environment, **told})
        assert "STATUS=1 mount\n" in next_with("READY=1") + "\n"
        fuse.command("hang", "home")
        next_with(f"STATUS=1 mount, 1 timed out: {text.clipped(str(home), 60)}")
        daemon.signal(signal.SIGHUP)
        assert re.search(r"^MONOTONIC_USEC=\d+$", next_with("RELOADING=1"), re.M)
        next_with("READY=1")
        for _ in range(5):
            next_with("WATCHDOG=1")
        daemon.freeze()
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while manager.recv(4096):
                pass
        manager.settimeout(1.0)
        with pytest.raises(socket.timeout):  # no helper thread or process feeds it
            manager.recv(4096)
        daemon.process.send_signal(signal.SIGCONT)
        manager.settimeout(10)
        next_with("WATCHDOG=1")
        assert daemon.stop() == 0
        next_with("STOPPING=1")


_DEFECTIVE = """
import sys
from check_mounts.daemon import loop
from check_mounts.report import jsontext
from check_mounts.__main__ import main
failed = []

def defective(judged, memory):
    raise ValueError(f"the report of pass {len(failed)}")

def defective_once(self):
    if not failed:
        failed.append(1)
        raise RuntimeError("a round")
    return heed(self)

jsontext.report, heed, loop.Daemon._heed_calls = defective, loop.Daemon._heed_calls, defective_once
main()
"""


@pytest.mark.parametrize("debug", [True, False])
def test_with_debug_the_traceback_of_a_defect_is_in_the_log(
    mounts: Mounts, daemon: Daemon, tmp_path: Path, debug: bool
) -> None:
    """Once; the verdict and the passes are as without it."""
    mounts.tmpfs("home")
    script = tmp_path / "defective.py"
    script.write_text(_DEFECTIVE)
    words = ["--daemon", "--foreground", "--interval", "0.3", "--cache", str(daemon.cache), "-p", f"{mounts.base}/*"]
    words += ["--state-dir", str(tmp_path / "state"), *["--debug"][:debug]]
    with open(daemon.log_path, "ab") as log:
        process = subprocess.Popen([PYTHON, str(script), *words], env=daemon.plugin.environment, stderr=log)
    try:
        until(lambda: daemon.log.count("\nChecked 1 mounts in 0 seconds") >= 3)
    finally:
        process.kill()
        process.wait()
    result = daemon.cached()
    assert result.code == 3
    assert (
        "1 mount checked" in result.lines[0]
        and "the report failed: ValueError: the report of pass 1" in result.lines[0]
    )
    assert any(
        re.fullmatch(r"Internal error in a round: RuntimeError: a round \(defective\.py:\d+\)", line)
        for line in daemon.lines
    )
    assert daemon.says("The report failed: ValueError: the report of pass 1")
    assert daemon.lines.count("Traceback (most recent call last):") == (2 if debug else 0)
    assert daemon.lines.count("ValueError: the report of pass 1") == debug
    assert any(line.endswith(", in _round") for line in daemon.lines) == debug


def test_a_loop_that_is_stuck_is_not_fed(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """Injected: the file of the result is opened, and that does not come back; or each round
    fails."""
    mounts.tmpfs("home")
    script = tmp_path / "stuck.py"
    for injected in ("os.read(os.pipe()[0], 1)", "raise RuntimeError('injected')"):
        script.write_text(
            "import os, sys\nfrom check_mounts.daemon import status_file, watchdog\n"
            "from check_mounts.__main__ import main\n"
            "watchdog._PATIENCE = 0.1\nwrite, passes = status_file.write_in, []\n"
            f"def stuck(*arguments):\n    passes.append(1)\n    if len(passes) > 3: {injected}\n    write(*arguments)\n"
            "status_file.write_in = stuck\nmain()\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            path = tmp_path / f"notify{injected[0]}"
            manager.bind(str(path))
            told = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
            command = [
                PYTHON,
                str(script),
                "--daemon",
                "--foreground",
                "--interval",
                "0.3",
                "-t",
                "0.2",
                "--deadline",
                "0.3",
            ]
            process = subprocess.Popen(
                [*command, "--cache", str(daemon.cache), "--state-dir", str(tmp_path / "state"), "-p",
                 f"{mounts.base}/*"],
                env={**daemon.plugin.environment, **told}, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                manager.settimeout(60)
                assert manager.recv(4096)  # Python has started
                manager.settimeout(0.2)
                fed, last = 0, time.monotonic()
                while (
                    time.monotonic() - last < 2.0
                ):  # it may go on telling its status, as long as it is not said to be well
                    assert fed < 100
                    with contextlib.suppress(socket.timeout):
                        if manager.recv(4096) == b"WATCHDOG=1":
                            fed, last = fed + 1, time.monotonic()
                assert fed > 2
                assert process.poll() is None
            finally:
                process.kill()
                process.wait()


def test_nothing_is_loaded_or_kept_open_later(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    """After its start the daemon maps no file and keeps none open that it did not have then,
    whatever happens to the mounts."""
    mounts.tmpfs("healthy")
    fuse.mount("home", source="127.0.0.1:/home")
    configuration = tmp_path / "c.conf"
    configuration.write_text("")
    environment = {**daemon.plugin.environment, "PYTHONPROFILEIMPORTTIME": "1", "LANG": "de_DE.UTF-8"}
    daemon.start("--config", str(configuration), env=environment)
    pid = daemon.process.pid
    imports = daemon.log.count("import time:")
    assert imports > 50

    def mapped() -> set[str]:
        return {
            line.split(maxsplit=5)[5] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if " /" in line
        }

    files, fds = mapped(), descriptors(pid)
    fuse.command("hang", "home")
    daemon.until(lambda result: result.code == 2)
    # Whatever is written into the configuration, right or wrong, needs no more than is there.
    for text_, said in (
        ("timeuot = 3", "The configuration is kept as it was"),
        ("timeout = x", "The configuration is kept as it was"),
        (
            f"metrics = {tmp_path}/x.prom\nsubmit = command-file:{tmp_path}/none",
            "Needs a restart: --metrics has changed",
        ),
        ("submit = nsca:", "The configuration is kept as it was"),
        ("", "The configuration was read again"),
    ):
        configuration.write_text(f"[check_mounts]\n{text_}\n")
        count = daemon.log.count(f"\n{said}")
        daemon.signal(signal.SIGHUP)
        until(lambda said=said, count=count: daemon.log.count(f"\n{said}") > count)  # type: ignore[misc]
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0)
    daemon.until_checked()
    # At the beginning a worker may have been at work.
    until(lambda: not collections.Counter(descriptors(pid)) - collections.Counter(fds))
    assert mapped() <= files
    assert daemon.log.count("import time:") == imports
    assert int(re.findall(r"VmLck:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) > 5000
    until(lambda: not children(pid) and not workers_alive())


def test_a_signal_that_comes_before_it_is_listened_for() -> None:
    script = (
        "import os, signal\nfrom check_mounts.system.signals import Interrupts\n"
        "interrupts = Interrupts()\nfor number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP): "
        "os.kill(os.getpid(), number)\n"
        "assert interrupts.name == 'SIGHUP'\ninterrupts.listen(signal.SIGHUP, signal.SIGUSR1)\n"
        "print(interrupts.name, [interrupts.take_call(each) for each in (signal.SIGHUP, signal.SIGHUP, "
        "signal.SIGUSR1)], interrupts.count)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nprint(interrupts.name)\n"
    )
    output = subprocess.run(
        [PYTHON, "-c", script], env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert output == "None [True, False, True] 0\nSIGTERM\n"


def test_one_process_though_nothing_can_be_remembered(fuse: Fuse, daemon: Daemon) -> None:
    """The daemon knows its own."""
    fuse.mount("home")
    fuse.command("hang", "home")
    daemon.start("--state-dir", "/nonexistent/x", state=False)
    stuck = remaining(1)
    daemon.until_checked(3)
    assert remaining(1) == stuck
    (line,) = (line for line in daemon.lines if "remembered" in line)
    assert line == "stuck probes are not remembered: /nonexistent/x: No such file or directory"
    assert f"(pid {stuck.pop()})" in daemon.cached().verdict
    fuse.command("answer", "home")
    daemon.until(lambda result: result.code == 0)


def test_another_state_directory_needs_a_restart(fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    fuse.mount("home")
    fuse.command("hang", "home")
    configuration = tmp_path / "c.conf"
    configuration.write_text(f"[check_mounts]\nstate-dir = {tmp_path}/one\n")
    daemon.start("--config", str(configuration), state=False)
    stuck = remaining(1)
    configuration.write_text(f"[check_mounts]\nstate-dir = {tmp_path}/two\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again"))
    daemon.until_checked(2)
    assert daemon.says("Needs a restart: --state-dir has changed")
    assert remaining(1) == stuck


@pytest.mark.parametrize("what", ["fstab", "config"])
def test_a_file_that_comes_to_lie_on_what_hangs(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path, what: str
) -> None:
    """It is not the daemon that hangs in it, and of others only one."""
    home, hung = mounts.tmpfs("home"), fuse.mount("hung")
    good, link = tmp_path / "good", tmp_path / "link"
    good.write_text(f"none {home} tmpfs rw 0 0\n" if what == "fstab" else "")
    link.symlink_to(good)
    daemon.start(f"--{what}={link}")
    fuse.command("hang", "hung")
    link.unlink()
    link.symlink_to(hung / "file")
    if what == "config":
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.says("The configuration is kept as it was: one of its files cannot be read"))
    daemon.until_checked(3)
    remaining(2)  # that of the mount, and the one that tried
    assert not daemon.says("fstab has changed")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2


def test_a_directory_that_is_removed_is_made_again(mounts: Mounts, daemon: Daemon) -> None:
    """And so is the lock: a second daemon refuses as ever."""
    mounts.tmpfs("home")
    first = daemon.start()
    files = [daemon.cache.with_name(f"status{suffix}") for suffix in (".pid", ".lock")]
    for removed in (*files, daemon.cache.parent):
        with daemon.frozen():
            if removed.is_dir():
                shutil.rmtree(removed)
            else:
                removed.unlink()
        until(lambda: all(file.exists() and file.read_text() == f"{first.pid}\n" for file in files))
        daemon.until(lambda result: result.code == 0)
        second = Result(daemon.start(first=False))
        assert second.lines[0] == f"MOUNTS UNKNOWN - another daemon (pid {first.pid}) keeps {daemon.cache} up to date"
        daemon._started.pop()


def test_nothing_is_written_where_somebody_else_leads(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """The owner of the directory above could put a link to any other in its place."""
    mounts.tmpfs("home")
    os.chown(daemon.base, 1000, 1000)
    result = Result(daemon.start(first=False))
    assert (
        result.lines[0]
        == f"MOUNTS UNKNOWN - argument --cache: {daemon.cache.parent}: the directory above belongs to uid 1000"
    )
    os.chown(daemon.base, 0, 0)
    daemon.start()
    victim = tmp_path / "victim"
    victim.mkdir()
    with daemon.frozen():
        daemon.cache.parent.rename(tmp_path / "old")
        daemon.cache.parent.symlink_to(victim)
    until(lambda: any(line.endswith(f"{daemon.cache.parent}: it is a symbolic link") for line in daemon.lines))
    assert os.listdir(victim) == []


def test_a_caller_that_does_not_wait(fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    """Detached, the daemon lets go of all that was its caller's, whatever becomes of him."""
    fuse.mount("home")
    fuse.command("hang", "home")
    with open(tmp_path / "lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        words = ("--daemon", "--interval", "1", "-t", "2", "--cache", str(daemon.cache))
        caller = daemon.plugin.start(*words, close_fds=False)
    pid_file = daemon.cache.with_name("status.pid")
    until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    try:
        caller.kill()
        caller.communicate()  # comes to its end: nobody else has its stdout, once the first pass is over
        until(lambda: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3)
        assert not [target for target in descriptors(pid) if target.endswith("/lock")]
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_broken_fstab_is_told_once(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    home, fstab = mounts.tmpfs("home"), tmp_path / "fstab"
    fstab.write_text(f"none {home} tmpfs rw 0 0\n")
    daemon.start(f"--fstab={fstab}")
    fstab.unlink()
    until(lambda: daemon.says("fstab has changed"))
    daemon.until_checked(3)
    assert sum("kept as it was" in line for line in daemon.lines) == daemon.lines.count("fstab has changed") == 1
    fstab.write_text(f"none {home} tmpfs rw 0 0\n")
    until(lambda: daemon.says("The configuration was read again"))


def test_wrong_beginnings(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for words, expected in (
        (
            ("--cache", f"{tmp_path}/open/status"),
            f"argument --cache: {tmp_path}/open: mode 0777 lets others write to it",
        ),
        (("--interval", "0"), "argument --interval: '0' is not a positive number of seconds"),
        (
            ("--metrics", "/tmp/x"),
            "argument --metrics: '/tmp/x' does not end in .prom, so node_exporter would not read it",
        ),
        (("--interval", "1e12"), "argument --interval: '1e12' is not a positive number of seconds"),
        (("--interval", "1" + 12 * "0"), "argument --interval: '1000000000000' is more than a year"),
        (("--cache", f"{tmp_path}/run/"), f"argument --cache: '{tmp_path}/run/' is not the name of a file"),
        (("--cache", "/run/x.prom", "--metrics", "/run/x.prom"), "argument --metrics: this is a file of --cache"),
        (("--json",), "argument --json: does not go with --daemon"),
        (("--max-age", "3"), "argument --max-age: does not go with --daemon"),
        (("--syslog-ident", "a b"), "argument --syslog-ident: 'a b': "),
    ):
        result = daemon.plugin("--daemon", *words)
        assert result.code == 3
        assert result.lines[0].startswith(f"MOUNTS UNKNOWN - {expected}")
    for option in ("--interval=3", "--foreground", "--metrics=x.prom", "--syslog-ident=x"):
        result = daemon.plugin(option)
        assert (result.code, result.lines[0]) == (
            3,
            f"MOUNTS UNKNOWN - argument {option.partition('=')[0]}: goes with --daemon only",
        )
