"""The daemon over 1,000 healthy mounts: CPU time for each pass over all of them, and memory.

The CPU time is that of the daemon and of everything that descends from it. Passes begin by SIGUSR1,
one after the other; each is waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.common import (
    Line,
    Mounts,
    Sample,
    Setting,
    Target,
    cpu_seconds,
    descendants,
    healthy,
    interleaved,
    kilobytes,
    private_kilobytes,
)

_MOUNTS, _PASSES = 1_000, 5
_CPU = Target(60, of_peer=False, words="<= 60 ms")
_MEMORY = Target(30, of_peer=False, words="<= 30 MB")


class Daemon:
    """A daemon of a program over the mounts, with files of its own, until it is closed."""

    def __init__(self, setting: Setting, program: str, mounts: Mounts, name: str) -> None:
        self._run = Path(f"/run/check_mounts-bench.{os.getpid()}.{name}")
        self.status = self._run / "status"
        self._log = setting.place / f"log.{name}"
        state = setting.place / f"state.{name}"
        words = ["-p", f"{mounts.base}/*", "--state-dir", str(state), "--cache", str(self.status), "--interval", "3600"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "--daemon", "--foreground", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._passes = 0
        self._wait()

    def _wait(self) -> None:
        self._passes += 1
        end = time.monotonic() + 60
        while (b"\n" + self._log.read_bytes()).count(b"\nChecked ") < self._passes:
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"the daemon has not checked: {self._log.read_text()}")
            time.sleep(0.005)

    def check(self) -> None:
        """Have it check all mounts once more, and wait until it has."""
        self.process.send_signal(signal.SIGUSR1)
        self._wait()

    def milliseconds(self) -> float:
        """The CPU time of a pass, from some passes."""
        before = cpu_seconds(self.process.pid)
        for _ in range(_PASSES):
            self.check()
        time.sleep(0.1)  # for what it does after it has logged the pass
        return (cpu_seconds(self.process.pid) - before) / _PASSES * 1e3

    def megabytes(self) -> float:
        """The memory that its own process has resident."""
        return kilobytes(self.process.pid, "Rss") / 1024

    def megabytes_of_all(self) -> float:
        """The same, and what no other process shares of its descendants."""
        others = [pid for pid in descendants(self.process.pid) if pid != self.process.pid]
        return self.megabytes() + sum(map(private_kilobytes, others)) / 1024

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self._run)


def lines(setting: Setting) -> Iterator[Line]:
    """CPU time and memory."""
    daemons: dict[str, Daemon] = {}
    with healthy(setting, _MOUNTS) as mounts:
        try:
            for number, (name, program) in enumerate(setting.programs.items()):
                daemons[name] = Daemon(setting, program, mounts, str(number))
            cpu = interleaved({name: daemon.milliseconds for name, daemon in daemons.items()}, 7)
            memory = {name: Sample((daemon.megabytes(),)) for name, daemon in daemons.items()}
            of_all = {name: Sample((daemon.megabytes_of_all(),)) for name, daemon in daemons.items()}
        finally:
            for daemon in daemons.values():
                daemon.close()
    yield Line(f"daemon, {_MOUNTS:,} healthy, CPU for each pass", "ms", cpu, target=_CPU)
    yield Line(f"daemon, {_MOUNTS:,} healthy, resident", "MB", memory, target=_MEMORY)
    yield Line("the same, and what is private of its helpers", "MB", of_all)
