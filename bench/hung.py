"""Mounts that hang, 1, 50 and 500 of 1,000: how long after the timeout the verdict comes, and the
memory that each stuck worker keeps for itself.

They are FUSE mounts whose server reads each request and never answers, so nobody can end what
waits in them (tests/fuse_server.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator

from bench.common import (
    PYTHON,
    ROOT,
    Line,
    Mounts,
    Output,
    Sample,
    Setting,
    Target,
    healthy,
    interleaved,
    private_kilobytes,
)
from tests import kernel

_MOUNTS, _TIMEOUT, _ROUNDS = 1_000, 1.0, 7
_SERVERS = 10
_SECONDS, _KILOBYTES = {1: 0.2, 50: 0.3, 500: 0.8}, {1: 6 * 1024, 50: 400, 500: 400}
# As many forks of a bare interpreter, which ends as a run does.
_FORKS = """
import os, signal, sys
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os.close(1)
        signal.pause()
    print(pid)
"""


class Hanging:
    """So many mounts that hang, and the server that could answer."""

    def __init__(self, mounts: Mounts, count: int) -> None:
        command = [PYTHON, "-I", str(ROOT / "tests/fuse_server.py")]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._names = [str(number) for number in range(count)]
        for number, name in enumerate(self._names):
            source = f"source=filer{number % _SERVERS}:/export/{number}"
            self._command("mount", name, str(mounts.point()), source)
        self._all("hang")

    def _command(self, *words: str) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write("\t".join(words) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer.startswith("ok "), answer

    def _all(self, word: str) -> None:
        for name in self._names:
            self._command(word, name)

    def anew(self) -> None:
        """Let everything that waits go, and hang again."""
        self._all("answer")
        end = time.monotonic() + 60
        while kernel.workers_alive():
            assert time.monotonic() < end, "workers are left"
            time.sleep(0.01)
        self._all("hang")

    def close(self) -> None:
        """The death of the server closes all connections, and ends what waits."""
        self._server.kill()
        self._server.communicate()


class _Run:
    """A run of a program over 1,000 mounts of which some hang."""

    def __init__(self, setting: Setting, program: str, mounts: Mounts, hanging: Hanging, count: int) -> None:
        self._state = setting.place / "state.hung"
        self._command = [program, "-p", f"{mounts.base}/*", "-t", str(_TIMEOUT), "--state-dir", str(self._state)]
        self._hanging, self._count, self._output = hanging, count, Output()
        self.private: list[float] = []

    def seconds(self) -> float:
        """From the timeout to the verdict; the time until the first probe counts, too."""
        said = b"MOUNTS CRITICAL - %d of %d mounts failed: " % (self._count, _MOUNTS)
        seconds = self._output.milliseconds(self._command, 2, said) / 1e3 - _TIMEOUT
        self.private = list(_private(kernel.workers_alive()))
        self._hanging.anew()
        shutil.rmtree(self._state)
        return seconds


def _private(pids: Iterable[int]) -> Iterator[float]:
    for pid in pids:
        with contextlib.suppress(OSError):  # a worker without work, which ended meanwhile
            yield private_kilobytes(pid)


def _forks(count: int) -> Sample:
    """The private memory of each of so many forks of a bare interpreter that has ended."""
    command = [PYTHON, "-I", "-S", "-c", _FORKS, str(count)]
    pids = [int(line) for line in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()]
    try:
        return Sample(tuple(_private(pids)))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def lines(setting: Setting) -> Iterator[Line]:
    """Seconds and memory for each number of hung mounts."""
    for count, most in _SECONDS.items():
        with healthy(setting, _MOUNTS - count) as mounts:
            hanging = Hanging(mounts, count)
            try:
                runs = {name: _Run(setting, path, mounts, hanging, count) for name, path in setting.programs.items()}
                figures = interleaved({name: run.seconds for name, run in runs.items()}, _ROUNDS)
            finally:
                hanging.close()
        what = f"{count} hung of {_MOUNTS:,}"
        target = Target(most, of_peer=False, words=f"<= {most} s")
        yield Line(f"{what}: verdict after the timeout", "s", figures, target=target, digits=2)
        private = {name: Sample(tuple(run.private)) for name, run in runs.items()}
        target = Target(_KILOBYTES[count], of_peer=False, words=f"<= {_KILOBYTES[count]:,} kB")
        peer = "a fork of a bare interpreter"
        yield Line(f"{what}: private memory of a worker", "kB", private, peer, _forks(count), target, 0)
