"""The tests themselves: one that fails leaves nothing behind, and none looks at what others run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, until
from tests.kernel import state, workers_alive

WORKER = "open('/proc/self/comm', 'w').write('check_mounts:w'); print(flush=True); input()"


@pytest.fixture
def worker() -> Iterator[int]:
    """A process with the name of a worker."""
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def _pytest(tmp_path: Path, source: str) -> str:
    """What other tests say, with this configuration."""
    (tmp_path / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-q", "test_inner.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WHERE": str(tmp_path)}
    return subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=120
    ).stdout


def test_a_failure_leaves_no_process_behind(tmp_path: Path) -> None:
    source = """
import os, subprocess
from pathlib import Path
from tests.kernel import children, state

PIDS = Path(os.environ["WHERE"], "pids")
SCRIPT = "sleep 1000 & echo $!; sleep 1000 & echo $!; wait"

def test_fails():
    process = subprocess.Popen(["setsid", "sh", "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    pids = [str(process.pid), *(process.stdout.readline().strip() for _ in range(2))]
    PIDS.write_text(" ".join(pids))
    assert {state(int(pid)) for pid in pids} <= {"S", "R", "D"}
    raise ValueError("on purpose")

def test_that_follows():
    assert {state(int(pid)) for pid in PIDS.read_text().split()} <= {"X", "Z"}
    assert children() == []
"""
    output = _pytest(tmp_path, source)
    assert "1 failed, 1 passed" in output, output
    assert "on purpose" in output
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        until(lambda pid=pid: state(pid) in "XZ", 5)  # type: ignore[misc]


def test_workers_of_others_do_not_count(tmp_path: Path, worker: int) -> None:
    assert worker in workers_alive()
    source = """
from tests.kernel import workers_alive

def test_counts():
    assert not workers_alive()
"""
    output = _pytest(tmp_path, source)
    assert "1 passed" in output, output
