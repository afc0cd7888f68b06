"""The daemon is told to read its configuration again, or that its start is called off, while mounts
hang."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Fuse, Mounts, Result, remaining, until
from tests.daemon import Daemon, daemon, descriptors

__all__ = ["daemon"]

pytestmark = pytest.mark.root

_KEPT = "The configuration is kept as it was: one of its files cannot be read"
_UNITS = "/usr/local/lib/systemd/system"


@pytest.fixture(autouse=True)
def answers(fuse: Fuse, daemon: Daemon) -> Iterator[None]:
    """At the end all that hangs answers again: a daemon that did hang could not be killed, and
    nobody would see the test fail."""
    yield
    for name in ("home", "hung", _UNITS):
        with contextlib.suppress(AssertionError):  # there is none of that name
            fuse.command("answer", name)


def _configured(mounts: Mounts, fuse: Fuse, daemon: Daemon, base: Path) -> tuple[Path, Path]:
    """A mount that hangs beside what is checked, which a daemon with this configuration leaves
    alone."""
    mounts.tmpfs("home")
    hung, configuration = fuse.mount("hung"), base / "c.conf"
    configuration.write_text(f'[mount "{hung}"]\nignore = yes\n')
    daemon.start("--config", str(configuration))
    fuse.command("hang", "hung")
    return hung, configuration


def _hangs_without_the_daemon(daemon: Daemon, fuse: Fuse, name: str) -> None:
    """SIGHUP while a file hangs: it is logged within seconds, passes go on, and what waits for the
    file is one worker."""
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says(_KEPT), 5)
    daemon.until_checked(2, 10)
    assert fuse.waiting(name) > 0
    remaining(1)
    fuse.command("answer", name)
    remaining(0)
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again"), 5)


def test_units_below_usr_local_that_hang(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """No option names their directory."""
    mounts.tmpfs("home")
    mounts.mount_at(Path("/usr/local/lib"), "tmpfs")
    fuse.mount(_UNITS)
    daemon.start("--systemd", "--severity", "missing=ok")
    fuse.command("hang", _UNITS)
    _hangs_without_the_daemon(daemon, fuse, _UNITS)


@pytest.mark.parametrize("variable", ["MP_CONFIG_FILE", "NAGIOS_CONFIG_PATH"])
def test_an_ini_file_that_only_the_environment_names(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path, variable: str
) -> None:
    mounts.tmpfs("home")
    hung, link, good = fuse.mount("hung"), tmp_path / "link", tmp_path / "good"
    good.mkdir()
    ini = good / "plugins.ini"
    ini.write_text("[check_mounts]\nexpect-ro=/nowhere\n")
    ini.chmod(0o644)
    link.symlink_to(good)
    named = str(link / "plugins.ini" if variable == "MP_CONFIG_FILE" else link)
    # Not among what is checked: the mount of the files is not what this is about.
    fstab = tmp_path / "fstab"
    fstab.write_text("")
    daemon.start(
        "--extra-opts", "-x", str(hung), f"--fstab={fstab}", env={**daemon.plugin.environment, variable: named}
    )
    fuse.command("hang", "hung")
    link.unlink()
    link.symlink_to(hung)
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says(_KEPT), 5)
    daemon.until_checked(2, 10)
    remaining(1)
    # Somebody leads it back: the one that still waits does not stand in the way of that.
    link.unlink()
    link.symlink_to(good)
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again"), 5)
    fstab.write_text("# changed\n")
    until(lambda: daemon.says("fstab has changed") and daemon.says("The configuration was read again", 2), 5)
    remaining(1)


def test_a_file_that_only_the_new_configuration_names(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path
) -> None:
    hung, configuration = _configured(mounts, fuse, daemon, tmp_path)
    old = configuration.read_text()
    configuration.write_text(f"{old}[check_mounts]\nfstab = {hung}/sub/fstab\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says(_KEPT), 5)
    daemon.until_checked(2, 10)
    (worker,) = remaining(1)
    # Each call leaves one at the most, and there is an end to that.
    for times in range(2, 7):
        daemon.signal(signal.SIGHUP)
        until(lambda times=times: daemon.says(_KEPT, times), 5)  # type: ignore[misc]
    assert worker in remaining(4)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2


def test_what_else_is_read_with_a_changed_fstab_hangs(
    mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path
) -> None:
    """Nobody has asked for that: it is the daemon that sees the change."""
    mounts.tmpfs("home")
    hung, ini, fstab = fuse.mount("hung"), tmp_path / "plugins.ini", tmp_path / "fstab"
    ini.write_text("[check_mounts]\nexpect-ro=/nowhere\n")
    ini.chmod(0o644)
    fstab.write_text("")
    words = ("--extra-opts", "-x", str(hung), f"--fstab={fstab}")
    daemon.start(*words, env={**daemon.plugin.environment, "MP_CONFIG_FILE": str(ini)})
    fuse.command("hang", "hung")
    ini.unlink()
    ini.symlink_to(hung / "file")
    fstab.write_text("# changed\n")
    until(lambda: daemon.says("fstab has changed") and daemon.says(_KEPT), 10)
    daemon.until_checked(2, 10)
    remaining(1)


def test_term_while_a_file_is_tried(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    hung, configuration = _configured(mounts, fuse, daemon, tmp_path)
    configuration.unlink()
    configuration.symlink_to(hung / "file")
    daemon.signal(signal.SIGHUP)
    until(lambda: fuse.waiting("hung"))
    assert daemon.stop() == 0
    assert daemon.lines[-1] == "Stopped by SIGTERM"
    assert not daemon.says(_KEPT)


def test_a_configuration_that_is_slow_is_read(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """What counts is that it stands still, not how long it takes."""
    mounts.tmpfs("home")
    configuration, script = tmp_path / "c.conf", tmp_path / "slow.py"
    configuration.write_text("")
    script.write_text(
        "import os, time\nfrom check_mounts.daemon import reload\nfrom check_mounts.options import config\n"
        "from check_mounts.__main__ import main\n"
        "read, reload._TRIAL, started = config.read, 0.3, os.getpid()\n"
        "def slow(*arguments, **options):\n"
        "    if os.getpid() != started:\n"  # the worker that tries it
        "        end = time.process_time() + 1.5\n        while time.process_time() < end: pass\n"
        "    return read(*arguments, **options)\n"
        "config.read = slow\nmain()\n"
    )
    command = [PYTHON, str(script), "--daemon", "--foreground", "--interval", "3600", "--cache", str(daemon.cache)]
    with open(daemon.log_path, "ab") as log:
        process = subprocess.Popen(
            [*command, "--state-dir", str(tmp_path / "state"), "-p", f"{mounts.base}/*", "--config",
             str(configuration)],
            env=daemon.plugin.environment, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: "\nChecked " in daemon.log)
        process.send_signal(signal.SIGHUP)
        until(lambda: "onfiguration" in daemon.log)
        assert daemon.says("The configuration was read again")
    finally:
        process.kill()
        process.wait()


def test_ready_is_said_after_the_first_pass_only(fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    fuse.mount("home")
    fuse.command("hang", "home")
    daemon.timeout, daemon.interval = 2.0, 3600
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        daemon.start(first=False, env={**daemon.plugin.environment, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        until(lambda: fuse.waiting("home"))
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.says("The configuration was read again"))
        told: list[str] = []
        while not told or "READY=1" not in told[-1]:
            told.append(manager.recv(4096).decode())
        assert "STATUS=1 mount, 1 timed out" in told[-1]
        # Each time that it has read its options.
        more = [int(each[20:]) / 1e6 for each in told if each.startswith("EXTEND_TIMEOUT_USEC=")]
        assert (len(more), min(more) > daemon.timeout + 4 + 5) == (2, True)
        assert daemon.cache.exists()
        assert not any("RELOADING" in message for message in told)
        daemon.signal(signal.SIGHUP)
        while "RELOADING=1" not in manager.recv(4096).decode():
            pass
        while "READY=1" not in manager.recv(4096).decode():
            pass


_FAILS_ONCE = """
import errno, os
from check_mounts import __main__, mounttable
read, failed = mounttable.Reader.read, []
def fails_once(reader):
    if not failed:
        failed.append(reader)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return read(reader)
mounttable.Reader.read = fails_once
__main__.main()
"""


def test_ready_is_said_also_where_the_first_pass_fails(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """There is a result then, that says so; and whoever waits for the start must not wait for
    ever."""
    mounts.tmpfs("home")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        words = ["--daemon", "--foreground", "--interval", "1", "--cache", str(daemon.cache), "-p", f"{mounts.base}/*"]
        environment = {**daemon.plugin.environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen([PYTHON, "-c", _FAILS_ONCE, *words], env=environment, stderr=subprocess.DEVNULL)
        try:
            told = [manager.recv(4096).decode()]
            while "READY=1" not in told[-1]:
                told.append(manager.recv(4096).decode())
            assert "STATUS=cannot check: Too many open files" in told[-1]
            while "STATUS=1 mount" not in told[-1]:
                told.append(manager.recv(4096).decode())
            assert sum("READY=1" in message for message in told) == 1
            daemon.until(lambda result: result.code == 0)  # systemd is told before that is written
        finally:
            process.kill()
            process.wait()


class Detached:
    """A daemon that detaches while a mount hangs, so that its start takes a while."""

    def __init__(self, daemon: Daemon, timeout: float) -> None:
        words = ("--daemon", "--interval", "3600", "-t", str(timeout), "--cache", str(daemon.cache))
        self.launcher = daemon.plugin.start(*words)
        self._pid_file = daemon.cache.with_name("status.pid")
        self.pid = 0

    def until_checking(self, fuse: Fuse) -> None:
        until(lambda: fuse.waiting("home"))
        self.pid = int(self._pid_file.read_text())

    @property
    def runs(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def close(self) -> None:
        if self.launcher.poll() is None:
            self.launcher.kill()
        self.launcher.communicate()
        if self.pid and self.runs:
            os.kill(self.pid, signal.SIGTERM)
            until(lambda: not self.runs)


@pytest.fixture
def detached(fuse: Fuse, daemon: Daemon) -> Iterator[Detached]:
    fuse.mount("home")
    fuse.command("hang", "home")
    result = Detached(daemon, 3.0)
    try:
        result.until_checking(fuse)
        yield result
    finally:
        result.close()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_what_the_daemon_is_told_is_not_taken_for_the_launcher(
    detached: Detached, daemon: Daemon, number: signal.Signals
) -> None:
    mine, its = (
        {pipe for pipe in descriptors(pid) if pipe.startswith("pipe:")} for pid in (detached.launcher.pid, detached.pid)
    )
    # Beside stdout and stderr, the one for the answer: what wakes either does not wake the other.
    assert len(mine & its) == 3
    os.kill(detached.pid, number)
    result = Result(detached.launcher)
    assert (result.code, result.lines) == (0, [f"MOUNTS OK - the daemon is running (pid {detached.pid})", ""])
    assert daemon.cached().code == 2
    assert detached.runs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_start_that_is_called_off(detached: Detached, daemon: Daemon, number: signal.Signals) -> None:
    """What an init script takes for failed does not run."""
    began = time.monotonic()
    detached.launcher.send_signal(number)
    result = Result(detached.launcher)
    assert time.monotonic() - began < 2  # not at the end of the pass
    assert result.code == 3
    assert result.lines == [
        f"MOUNTS UNKNOWN - the start was interrupted by {number.name}, and the daemon was ended",
        "",
    ]
    until(lambda: not detached.runs)
    assert not daemon.cache.with_name("status.pid").exists()


def test_a_configuration_that_cannot_be_read_names_the_option(daemon: Daemon, tmp_path: Path) -> None:
    result = daemon.plugin("--daemon", "--config", "/nonexistent")
    assert (result.code, result.lines[0]) == (
        3,
        "MOUNTS UNKNOWN - argument --config: /nonexistent: No such file or directory",
    )
    wrong = tmp_path / "c.conf"
    wrong.write_text("[check_mounts]\ntimeuot = 3\n")
    assert daemon.plugin("--config", str(wrong)).lines[0].startswith(f"MOUNTS UNKNOWN - {wrong} line 2: ")


# Somebody writes a line into fstab as soon as it has been read, but not by the worker that only
# tries whether it lets itself be.
_SOMEBODY = """
import os
import check_mounts.declared.fstab as fstab
read = fstab.read_fstab

def read_fstab(path, *more):
    result = read(path, *more)
    line = path + ".line"
    if not open("/proc/self/comm").read().startswith("check_mounts:w") and os.path.exists(line):
        with open(path, "a") as file:
            file.write(open(line).read())
        os.unlink(line)
    return result

fstab.read_fstab = read_fstab
"""


def test_fstab_is_edited_while_it_is_read(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """Nothing else would tell: the next look finds it as it was left."""
    home = mounts.tmpfs("home")
    (tmp_path / "sitecustomize.py").write_text(_SOMEBODY)
    environment = daemon.plugin.environment
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    fstab, line = tmp_path / "fstab", tmp_path / "fstab.line"
    fstab.write_text(f"none {home} tmpfs rw 0 0\n")
    line.write_text(f"none {mounts.base}/late tmpfs rw 0 0\n")
    daemon.start(f"--fstab={fstab}", env=environment)
    assert not line.exists()
    daemon.until(lambda result: (result.code, result.count("missing")) == (2, 1))
    line.write_text(f"none {mounts.base}/later tmpfs rw 0 0\n")
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda result: (result.code, result.count("missing")) == (2, 2))
    assert not line.exists()


# As soon as the worker has read the files, somebody replaces the configuration.
_BETWEEN = """
import os
import check_mounts.daemon.reload as reload
understood = reload.understood

def replaced(answers, understand):
    with open(os.environ["REPLACED"], "w") as file:
        file.write("nonsense")
    return understood(answers, understand)

reload.understood = replaced
"""


def test_what_the_worker_has_read_counts(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """Not what is there by the time that the daemon understands it."""
    mounts.tmpfs("home")
    configuration, site = tmp_path / "c.conf", tmp_path / "site"
    site.mkdir()
    environment = {**daemon.plugin.environment, "REPLACED": str(configuration)}
    environment["PYTHONPATH"] = os.pathsep.join([str(site), environment["PYTHONPATH"]])
    (site / "sitecustomize.py").write_text(_BETWEEN)
    configuration.write_text("")
    daemon.start("--config", str(configuration), env=environment)
    assert configuration.read_text() == "nonsense"  # at the start as well
    configuration.write_text(f'[mount "{mounts.base}/home"]\nexpect-ro = yes\n')
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again"))
    daemon.until(lambda result: "expected ro" in result.lines[0])
    assert configuration.read_text() == "nonsense"
    configuration.write_text("")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.says("The configuration was read again", 2))


def test_the_daemon_opens_no_file_of_the_configuration(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    """Only the worker does, which can be given up: not the configuration, not fstab, no ini file,
    no unit, no database of users, no certificate."""
    mounts.tmpfs("home")
    configuration, fstab, ini, ca = (tmp_path / name for name in ("c.conf", "fstab", "plugins.ini", "ca.pem"))
    configuration.write_text(
        f'[mount "{mounts.base}/home"]\nas = nobody\n[submit "nrdp:https://127.0.0.1:1/nrdp"]\ntoken = x\nca = {ca}\n'
    )
    configuration.chmod(0o600)
    fstab.write_text("")
    ini.write_text("[check_mounts]\nexpect-ro=/nowhere\n")
    ca.write_text("")
    daemon.interval = 3600
    daemon.start("--config", str(configuration), f"--fstab={fstab}", f"--extra-opts=@{ini}", "--systemd",
                 "--severity", "missing=ok", "--submit", "nrdp:https://127.0.0.1:1/nrdp")  # fmt: skip
    pid, trace = daemon.process.pid, tmp_path / "trace"
    with subprocess.Popen(["strace", "-qq", "-e", "trace=%file", "-o", str(trace), "-p", str(pid)]) as tracer:
        until(lambda: f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{pid}/status").read_text())
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.says("The configuration was read again"))
        daemon.until_checked()
        tracer.terminate()
    named = [line.split('"')[1] for line in trace.read_text().splitlines() if '"' in line]
    assert "/proc/self/mountinfo" in named or any("mountinfo" in path for path in named)  # it was traced
    own = ("/proc/", "/sys/", "/dev/null", str(daemon.cache.parent), str(daemon.plugin.state_dir))
    above = {"/", *map(str, daemon.cache.parents), *map(str, daemon.plugin.state_dir.parents)}
    assert [path for path in named if path[:1] == "/" and path not in above and not path.startswith(own)] == []


def test_a_file_that_is_too_large(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    configuration = tmp_path / "c.conf"
    configuration.write_text("")
    daemon.start("--config", str(configuration))
    configuration.write_text("#" * (1 << 20) + "\n")
    daemon.signal(signal.SIGHUP)
    told = f"The configuration is kept as it was: argument --config: {configuration}: larger than 1 MiB"
    until(lambda: daemon.says(told))
    daemon.until_checked()
