"""The daemon over many passes, while mounts come, go, hang and recover: it must not grow. ``make
soak`` takes 2,000 of them."""

from __future__ import annotations

import os
import random
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, Plugin, until
from tests.daemon import Daemon, children, descriptors
from tests.kernel import workers_alive

pytestmark = pytest.mark.root

PASSES = int(os.environ.get("SOAK_PASSES", "120"))
SAMPLES = 12
# What the allocator may take after the first samples, in KiB: a leak of one finding a pass would be
# more in 2,000.
SLACK = 1024


@pytest.fixture
def daemon(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> Iterator[Daemon]:
    result = Daemon(plugin, tmp_path / "daemon", interval=0.02, timeout=0.2)
    yield result
    result.close()


class Passes:
    """How many passes over all mounts the log tells of, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.count = 0

    def __call__(self) -> int:
        self.count += self._file.read().count(b"Checked ")
        return self.count

    def wait(self, more: int) -> None:
        wanted = self() + more
        until(lambda: self() >= wanted, 60)

    def close(self) -> None:
        self._file.close()


class Turmoil:
    """Something happens to a mount, and is undone."""

    def __init__(self, mounts: Mounts, fuse: Fuse, names: list[str]) -> None:
        self._mounts, self._fuse, self._names = mounts, fuse, names
        self._random = random.Random(1)
        self._silent: set[str] = set()
        self._extra: list[Path] = []
        self.events = 0

    def happen(self) -> None:
        self.events += 1
        name = self._random.choice(self._names)
        what = self._random.choice(("hang", "freeze", "error", "mount", "unmount", "answer"))
        if what == "mount":
            path = self._mounts.point(f"extra{self.events}")
            self._mounts.mount_at(path, "tmpfs")
            self._extra.append(path)
        elif what == "unmount" and self._extra:
            self._mounts.detach(self._extra.pop(0))
        elif what == "error":
            self._fuse.command("error", name, "5")
            self._silent.add(name)
        elif what in ("hang", "freeze", "answer"):
            self._fuse.command(what, name)
            self._silent.add(name)

    def end(self) -> None:
        for name in self._silent:
            self._fuse.command("error", name, "0")
            self._fuse.command("answer", name)
        self._silent.clear()
        while self._extra:
            self._mounts.detach(self._extra.pop())


def _resident(pid: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


def test_it_does_not_grow(mounts: Mounts, fuse: Fuse, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"home{number}" for number in range(6)]
    for name in names:
        fuse.mount(name)
    mounts.tmpfs("healthy")
    daemon.start("--perfdata", "steps")
    pid = daemon.process.pid
    passes, turmoil = Passes(daemon.log_path), Turmoil(mounts, fuse, names)
    resident: list[int] = []
    at_rest = min(len(descriptors(pid)) for _ in range(100))  # between two passes
    for _ in range(SAMPLES):
        target = passes() + PASSES // SAMPLES
        while passes() < target:
            turmoil.happen()
            passes.wait(1)
        turmoil.end()
        daemon.until(lambda result: (result.code, result.count("mounts")) == (0, 7), 30)
        until(lambda: not children(pid) and not workers_alive())
        until(lambda: len(descriptors(pid)) == at_rest, 30)
        resident.append(_resident(pid))
    passes.close()
    with capsys.disabled():
        print(f"\n{passes.count} passes, {turmoil.events} events: resident {resident} KiB, {at_rest} descriptors")
    settled = resident[SAMPLES // 3 :]
    assert statistics.median(settled[-3:]) - statistics.median(settled[:3]) <= SLACK
    assert len(list(daemon.plugin.state_dir.iterdir())) <= 2  # nor does its memory of stuck probes
