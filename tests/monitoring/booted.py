"""A real systemd as PID 1 of namespaces of its own, over the files of the stack: units as Debian
has them, and a shutdown.

    booted                            (fixture, one for each module) what has been started
    booted.unit(name, text)           write a unit
    booted.drop_in(unit, text)        write a part of one
    booted.systemctl(...), .run(...)  run something in there, as root; give the CompletedProcess,
                                      with text
    booted.once(command, settings)    run a command in a unit of its own with these settings:
                                      (exit status, output)
    booted.power_off()                ask for a shutdown
    booted.has_shut_down              whether systemd-shutdown has come to its end
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import groups
from tests.conftest import ROOT, Fuse, Mounts, until
from tests.monitoring.stack import Stack

_NAMESPACES = ("--pid", "--mount", "--cgroup", "--uts", "--ipc", "--net")
_TARGET = "[Unit]\nDescription=Tests\n"
_numbers = itertools.count()


class Booted:
    """See the module's docstring."""

    def __init__(self, stack: Stack) -> None:
        self.base = Path(f"/run/check_mounts-tests/booted.{next(_numbers)}")
        self.base.mkdir()
        self._console = self.base / "console"
        self._console.touch()
        self.units = Path("/etc/systemd/system")
        for old in self.units.iterdir():  # nothing of this host's is started
            old.unlink() if not old.is_dir() else subprocess.run(["rm", "-rf", str(old)], check=True)
        stack.write(self.units / "tests.target", _TARGET)
        (self.units / "default.target").symlink_to("tests.target")
        stack.write("/etc/fstab", "")
        Path("/var/once").mkdir(exist_ok=True)
        Path("/var/once").chmod(0o777)
        self._group = groups.make(self.base.name)
        words = ["unshare", *_NAMESPACES, "--fork", "--kill-child", str(ROOT / "tests/monitoring/boot"), str(self.base)]
        words = groups.entering(self._group, words)
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._enter = [""]
        self.pid = 0
        try:
            until(self._has_begun)
            until(
                lambda: (
                    self._process.poll() is not None or self.systemctl("is-active", "tests.target").stdout == "active\n"
                )
            )
        except BaseException:
            self.close()
            raise

    def _has_begun(self) -> bool:
        children = groups.children_of(self._process)
        if not children or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
            return False
        self.pid = children[0]
        self._enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-n", "-i", "-u"]
        return True

    @property
    def console(self) -> str:
        return self._console.read_text("utf-8", "replace")

    @property
    def enter(self) -> list[str]:
        """What stands before a command that should run in there."""
        return self._enter

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, check=False, timeout=60, cwd="/"
        )

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *words)

    def unit(self, name: str, text: str) -> None:
        (self.units / name).write_text(text)

    def drop_in(self, unit: str, text: str) -> None:
        directory = self.units / f"{unit}.d"
        directory.mkdir(exist_ok=True)
        (directory / "tests.conf").write_text(text)

    def once(self, command: str, *settings: str) -> tuple[int, str]:
        name = f"once{next(_numbers)}.service"
        script = f"{command} > /var/once/{name}.out 2>&1; echo $? > /var/once/{name}.status"
        run = f"ExecStart=/bin/sh -c {shlex.quote(script)}"
        self.unit(
            name,
            "\n".join(
                [
                    "[Service]",
                    "Type=oneshot",
                    run,
                    *(["ReadWritePaths=/var"] if "ProtectSystem=strict" in settings else []),
                    *settings,
                    "",
                ]
            ),
        )
        self.systemctl("daemon-reload")
        result = self.systemctl("start", name)
        assert result.returncode == 0, (result.stderr, self.console)
        status = int(self.run("cat", f"/var/once/{name}.status").stdout)
        return status, self.run("cat", f"/var/once/{name}.out").stdout

    def fuse(self, *names: str) -> Fuse:
        """A FUSE server outside of the processes that systemd knows; /srv/NAME is mounted by it in
        there, and hangs."""
        base = Path("/srv")
        self.run("mkdir", "-p", *(str(base / name) for name in names))
        # The checkout may lie where something else is mounted in there.
        program = Path("/usr/local/share/check_mounts/fuse_server.py")
        shutil.copy(ROOT / "tests/fuse_server.py", program)
        server = Fuse(Mounts(base), ["nsenter", "-t", str(self.pid), "-m"], program)
        for name in names:
            server.command("mount", name, str(base / name))
            server.command("hang", name)
        return server

    def power_off(self) -> None:
        os.kill(self.pid, signal.SIGRTMIN + 4)

    @property
    def has_shut_down(self) -> bool:
        """Whether its PID 1 is on its way out. It stays as long as anything of its namespace is
        left, what hangs included."""
        try:
            return not Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except FileNotFoundError:
            return True

    def workers(self) -> set[int]:
        """The workers of check_mounts in there, by their pids out here."""
        found, own = set(), os.readlink(f"/proc/{self.pid}/ns/pid_for_children")
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it ended meanwhile
                comm = Path(f"/proc/{entry}/comm").read_text()
                if comm == "check_mounts:w\n" and os.readlink(f"/proc/{entry}/ns/pid") == own:
                    found.add(int(entry))
        return found

    def close(self) -> None:
        """The death of its PID 1 is that of all; who hangs in a FUSE mount there has been let go
        before."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()
        until(lambda: groups.is_empty(self._group))
        groups.remove(self._group)


@pytest.fixture(scope="module")
def booted(stack: Stack, installed: Path) -> Iterator[Booted]:
    result = Booted(stack)
    yield result
    result.close()
