"""A fresh Debian to install things in: its own mounts, processes and, unless it is asked for
otherwise, its own empty network. Nothing that happens there is seen outside, and nothing stays.

    with fresh_root() as root:               what `make .venv/fresh/root` has made, unchanged
        root.run(["dpkg", "-l"])             as root there; a CompletedProcess with text, checked
        root.run(["false"], check=False)     not checked
        root.path("/etc/x")                  the same file, for open() and the like out here
        root.write("/etc/x", "text")         a file, with the directories above it
        root.copy(Path("x.deb"), "/srv")     a file or a tree from out here, into a directory there
        root.offline()                       let apt install from /repository (make.py, OFFERED)
        root.hung("/srv/a")                  mount something that hangs there: a Fuse
        root.tree()                          every path there, but for logs, caches and lists
        root.processes()                     the commands that run there

    fresh_root(boot=True)                    systemd is PID 1: root.run(["systemctl", ...])
    fresh_root(network=True)                 this host's network, for package registries
    fresh_root(layer=directory)              with what an overlay's upper directory has of it

Needs root. Tests that use it are marked `root` and `packages`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import groups
from tests.conftest import ROOT, Fuse, Mounts, until

__all__ = ["FreshRoot", "fresh_root"]
DIRECTORY = ROOT / ".venv/fresh"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_NAMESPACES = ("--pid", "--mount", "--uts", "--ipc")
# PID 1 that only waits, and reaps what has lost its parent.
_WAIT = ("/bin/sh", "-c", "trap : TERM; while :; do sleep 1000 & wait; done")
# Written by dpkg, apt and systemd about themselves.
_PASSING = re.compile(
    r"/(proc|sys|dev|tmp|run/systemd|run/log|run/lock|repository|var/log|var/cache|var/lib/(apt|dpkg|systemd)|var/tmp"
    r"|root/\.cache|run/credentials|run/sudo|etc/mtab|etc/ld\.so\.cache|run/mount|run/udev|run/user)(/|$)"
)
_numbers = itertools.count()


class FreshRoot:
    """See the module's docstring."""

    def __init__(self, boot: bool, network: bool, layer: Path | None) -> None:
        if not (DIRECTORY / "repository/Packages").exists():
            pytest.fail("there is no fresh Debian here: make .venv/fresh/root", pytrace=False)
        self._place = Path(tempfile.mkdtemp(prefix="check_mounts-fresh-"))
        self._group = groups.make(f"fresh.{next(_numbers)}") if boot else None
        self._at_the_end = contextlib.ExitStack()
        self.pid = 0
        words = ["unshare", *_NAMESPACES, *(["--cgroup"] if boot else []), *([] if network else ["--net"])]
        words += ["--fork", "--kill-child", str(ROOT / "tests/fresh/boot"), str(self._place), str(DIRECTORY)]
        words += ["/lib/systemd/systemd", "--log-target=console", "--show-status=no"] if boot else _WAIT
        if self._group:
            words = groups.entering(self._group, words)
        environment = {**os.environ, "FRESH_NETWORK": "1" if network else "", "FRESH_LAYER": str(layer or "")}
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        try:
            until(self._has_begun)
            if boot:
                until(self._has_booted)
        except BaseException:
            self.close()
            raise

    def _has_begun(self) -> bool:
        children = groups.children_of(self._process)
        if not children:
            return False
        with contextlib.suppress(OSError):
            # What boot has executed at its end has this.
            if b"container=tests" in Path(f"/proc/{children[0]}/environ").read_bytes():
                self.pid = children[0]
        return bool(self.pid)

    def _has_booted(self) -> bool:
        assert self._process.poll() is None, self._process.stderr and self._process.stderr.read()
        state = self.run(["systemctl", "is-system-running"], check=False).stdout
        return state in ("running\n", "degraded\n")

    @property
    def enter(self) -> list[str]:
        """The words before a command that is to run there."""
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-i", "-u", *(["-C"] if self._group else [])]

    def run(
        self, words: Sequence[str], check: bool = True, timeout: float = 120.0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """If it is to be checked and fails, what it printed is in the error."""
        result = subprocess.run(
            [*self.enter, *words], env={**ENVIRONMENT, **(env or {})}, cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="surrogateescape", timeout=timeout, check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, (words, result.returncode, result.stdout, result.stderr)
        return result

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def copy(self, source: Path, directory: str) -> str:
        """Give its path there."""
        place = self.path(directory)
        place.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place / source.name, symlinks=True)
        else:
            shutil.copy(source, place)
        return f"{directory}/{source.name}"

    def offline(self) -> None:
        for path in (*self.path("/etc/apt/sources.list.d").iterdir(), self.path("/etc/apt/sources.list")):
            path.unlink(missing_ok=True)
        self.write("/etc/apt/sources.list", "deb [trusted=yes] file:/repository ./\n")
        self.run(["apt-get", "-q", "update"])

    def hung(self, *points: str) -> Fuse:
        """Its server runs outside of the processes there. What waits for it cannot be killed."""
        program = self.copy(ROOT / "tests/fuse_server.py", "/tmp")
        server = Fuse(Mounts(self._place), ["nsenter", "-t", str(self.pid), "-m"], Path(program))
        self._at_the_end.callback(server.close)
        for point in points:
            self.path(point).mkdir(parents=True, exist_ok=True)
            server.command("mount", point, point)
            server.command("hang", point)
        return server

    def tree(self) -> set[str]:
        """Mounts are left out, /run and what is mounted by tests: they may hang. What is in /run is
        here all the same."""
        mounted = {line.split()[4] for line in self.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()}
        found: set[str] = set()
        pending = ["", "/run"]
        while pending:
            above = pending.pop()
            with os.scandir(self.path(above or "/")) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}"
                    if path in mounted or _PASSING.match(path):
                        continue
                    found.add(path)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
        return found

    def processes(self) -> list[str]:
        """Without PID 1."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == own and int(entry) != self.pid:
                    found.append(Path(f"/proc/{entry}/comm").read_text().rstrip("\n"))
        return sorted(found)

    def close(self) -> None:
        """The death of its PID 1 is that of all; what hangs there is let go before."""
        self._at_the_end.close()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()
        if self._group:
            group = self._group
            until(lambda: groups.is_empty(group))
            groups.remove(group)
        self._place.rmdir()


@contextlib.contextmanager
def fresh_root(boot: bool = False, network: bool = False, layer: Path | None = None) -> Iterator[FreshRoot]:
    """See the module's docstring."""
    root = FreshRoot(boot, network, layer)
    try:
        yield root
    finally:
        root.close()
