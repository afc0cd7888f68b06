"""The real daemon over the mounts of a test, and what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Mounts, Plugin, Result, until
from tests.kernel import state


class Daemon:
    """``check_mounts --daemon --foreground`` with files of its own below ``base``; its log is a
    file."""

    def __init__(self, plugin: Plugin, base: Path, interval: float = 1.0, timeout: float = 0.5) -> None:
        self.plugin = plugin
        self.base = base
        base.mkdir(exist_ok=True)
        self.cache = base / "run" / "status"
        self.log_path = base / "log"
        self.interval, self.timeout = interval, timeout
        self._marks: list[int] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, first: bool = True, **options: object) -> subprocess.Popen[bytes]:
        """Start it, and wait for its first result (``first``)."""
        before = self.log.count("\nChecked ")
        words = [
            "--daemon",
            "--foreground",
            "--interval",
            str(self.interval),
            "-t",
            str(self.timeout),
            "--cache",
            str(self.cache),
        ]
        with open(self.log_path, "ab") as log:
            process = self.plugin.start(*words, *arguments, stderr=log, **options)  # type: ignore[arg-type]
        self._started.append(process)
        if first:
            until(lambda: self.log.count("\nChecked ") > before or process.poll() is not None)
            assert process.poll() is None, (process.stdout and process.stdout.read(), self.log)
        return process

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._started[-1]

    @property
    def log(self) -> str:
        return "\n" + (self.log_path.read_text("utf-8") if self.log_path.exists() else "")

    @property
    def lines(self) -> list[str]:
        return self.log.split("\n")[1:-1]

    def says(self, line: str, times: int = 1) -> bool:
        return self.lines.count(line) >= times

    def cached(self, *arguments: str) -> Result:
        process = self.plugin.start("--cached", "--cache", str(self.cache), *arguments, below=False, state=False)
        return Result(process)

    def until(self, condition: Callable[[Result], bool], seconds: float = 60.0) -> Result:
        """Wait for a cached result."""
        results: list[Result] = []

        def holds() -> bool:
            results[:] = [self.cached()]
            return condition(results[0])

        try:
            until(holds, seconds)
        except AssertionError:
            raise AssertionError((results[0].lines, self.log)) from None
        return results[0]

    def until_checked(self, times: int = 1, seconds: float = 60.0) -> None:
        """Wait for so many more passes over all mounts."""
        before = self.log.count("\nChecked ")
        until(lambda: self.log.count("\nChecked ") >= before + times, seconds)

    def until_published(self, times: int) -> None:
        """Wait for so many more passes over all mounts, whatever is logged."""
        for _ in range(times):
            before = self._taken()
            until(lambda before=before: self._taken() != before)  # type: ignore[misc]

    def _taken(self) -> str:
        return self.cache.read_text("utf-8").split(" ", 4)[3]

    def check(self) -> None:
        """Have it check now, and wait until it has."""
        before = self.log.count("\nChecked ")
        self.signal(signal.SIGUSR1)
        until(lambda: self.log.count("\nChecked ") > before)

    def freeze(self) -> None:
        """SIGSTOP, and wait until it has come to a stop."""
        self.signal(signal.SIGSTOP)
        until(lambda: state(self.process.pid) == "T")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """What happens in here, it sees when it is over, and does nothing meanwhile."""
        self.freeze()
        yield
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def daemon(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> Iterator[Daemon]:
    """Made after the mounts, so that it is gone before them."""
    result = Daemon(plugin, tmp_path / "daemon")
    yield result
    result.close()


def children(pid: int) -> Sequence[int]:
    """The processes that a process has forked and not reaped, but for the one that writes its log
    and the one that forks workers."""
    found = []
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if Path(f"/proc/{word}/comm").read_text() not in ("check_mounts:l\n", "check_mounts:n\n"):
                found.append(int(word))
    return found


def nurseries(daemon: Daemon) -> list[int]:
    """The children of the daemon that fork workers; zombies count."""
    found = []
    for word in Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if Path(f"/proc/{word}/comm").read_text() == "check_mounts:n\n":
                found.append(int(word))
    return found


def descriptors(pid: int) -> Sequence[str]:
    """What the descriptors of a process refer to."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return sorted(found)


__all__ = ["PYTHON", "Daemon", "children", "daemon", "descriptors"]
