"""No error loses what is known: each system call of a check fails once, and the verdict is there
all the same.

Here a choice of them; ``make faults`` has them all, each with every error that it can have.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

import pytest

from tests import faults
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, remaining, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.root

ALL = os.environ.get("FAULTS") == "all"


class Wounded:
    """Healthy mounts, a dead one, and one that hangs."""

    def __init__(self, mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
        for number in range(3):
            mounts.tmpfs(f"healthy{number}")
        fuse.mount("answers")
        self.dead, self.hung = fuse.mount("dead"), fuse.mount("hung")
        fuse.command("die", "dead")
        fuse.command("freeze", "hung")  # who waits can be killed: the next run finds nobody stuck
        self.plugin, self.tmp_path = plugin, tmp_path

    def arguments(self, *more: str) -> list[str]:
        return [
            "-v",
            "-t",
            "0.3",
            "--deadline",
            "3",
            "-p",
            f"{self.plugin.base}/*",
            "--state-dir",
            str(self.plugin.state_dir),
            *more,
        ]

    def calls(self, *more: str) -> Sequence[tuple[str, int]]:
        faults.calls(self.plugin, self.tmp_path / "trace", self.arguments(*more))  # what is made once is there now
        return faults.calls(self.plugin, self.tmp_path / "trace", self.arguments(*more))

    def inject(self, fault: faults.Fault, *more: str, lasting: bool = False) -> Optional[str]:
        return self.lost(faults.inject(self.plugin, fault, self.arguments(*more), lasting))

    def lost(self, result: Result) -> Optional[str]:
        """What of the verdict is missing, None where nothing is."""
        output = result.stdout.decode()
        if output.startswith("MOUNTS UNKNOWN - cannot start: ") and result.code == 3:
            return None  # nothing was measured
        if result.code != 2 or not output.startswith("MOUNTS CRITICAL - "):
            return f"exit status {result.code}: {output or result.stderr!r}"
        for path, words in ((self.dead, "dead: "), (self.hung, "(timed out|not probed|unprobed)")):
            if not re.search(rf"{re.escape(str(path))} \(.*{words}", output):
                return f"{path.name}: {output}"
        return None


@pytest.fixture
def wounded(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> Wounded:
    return Wounded(mounts, fuse, plugin, tmp_path)


# Each of these calls so often, over the whole length of the check; the errors take turns.
_CHOSEN = {
    "clone": 2, "close": 2, "epoll_create1": 1, "epoll_ctl": 4, "epoll_wait": 4, "fallocate": 1, "fcntl": 1,
    "getdents64": 1, "ioctl": 1,
    "kill": 2, "mmap": 1, "openat": 3, "pipe2": 2, "poll": 1, "prlimit64": 1, "read": 3, "sched_getaffinity": 1,
    "unlinkat": 1,
    "wait4": 2, "write": 1,
}  # fmt: skip


def _spread(found: Sequence[faults.Fault]) -> list[faults.Fault]:
    chosen = []
    for call, count in _CHOSEN.items():
        some = [fault for fault in found if fault.call == call]
        chosen += [some[len(some) * place // count] for place in range(count)] if some else []
    return list(dict.fromkeys(chosen))


def test_no_failed_call_loses_a_verdict(wounded: Wounded) -> None:
    found = list(faults.faults(wounded.calls()))
    todo = found if ALL else _spread(found)
    bad = {str(fault): why for fault in todo if (why := wounded.inject(fault)) is not None}
    assert not bad, f"{len(bad)} of {len(todo)} lose something"


# What a filter says for good.
_LASTING = [
    ("kill", "EPERM"), ("epoll_wait", "EPERM"), ("poll", "ENOSYS"), ("ioctl", "EPERM"), ("wait4", "ECHILD"), ("close",
     "EIO"),
    ("fallocate", "EPERM"), ("prlimit64", "EPERM"), ("sched_getaffinity", "EPERM"), ("getdents64", "EPERM"),
    ("unlinkat", "EROFS"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error"), _LASTING)
def test_nor_does_one_that_fails_from_now_on(wounded: Wounded, call: str, error: str) -> None:
    numbers = [number for name, number in wounded.calls() if name == call]
    assert numbers
    assert wounded.inject(faults.Fault(call, error, numbers[0]), lasting=True) is None


_UNLOADABLE = """
import sys
class Finder:
    left = COUNT
    def find_spec(self, name, path=None, target=None):
        if name == "NAME" and self.left:
            self.left -= 1
            raise ERROR
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("error", ["ImportError('gone')", "OSError(24, 'Too many open files')", "MemoryError()"])
@pytest.mark.parametrize(
    "module", ["check_mounts.diagnosis", "check_mounts.report.plugin", "nagiosplugin", "check_mounts.report.jsontext"]
)
def test_a_module_that_cannot_be_loaded_in_the_middle(wounded: Wounded, module: str, error: str, count: int) -> None:
    before = _UNLOADABLE.replace("NAME", module).replace("ERROR", error).replace("COUNT", str(count))
    arguments = wounded.arguments(*(["--json"] if "json" in module else []))
    result = faults.start(wounded.plugin, faults.command(*arguments, before=before))
    output = result.stdout.decode()
    assert result.code == 2
    assert output.startswith(("MOUNTS CRITICAL - ", "{"))
    assert f"{wounded.dead}" in output and "ENOTCONN" in output


def test_a_users_worker_that_root_may_not_kill(wounded: Wounded, mounts: Mounts, fuse: Fuse) -> None:
    """Without CAP_KILL: the worker has become that user, and waits for his server."""
    private = fuse.mount("private", user_id=1000, group_id=1000, uid=1000, gid=1000, mode="700", allow_other=0)
    fuse.command("freeze", "private")
    words = [
        "setpriv",
        "--bounding-set=-kill",
        "--inh-caps=-kill",
        PYTHON,
        "-m",
        "check_mounts",
        *wounded.arguments("--user-mounts"),
    ]
    result = faults.start(wounded.plugin, words)
    assert wounded.lost(result) is None
    assert re.search(rf"{private} \(.*timed out", result.stdout.decode())
    fuse.command("answer", "private")
    remaining(0)


def _limited(number: int, soft: int, hard: Optional[int] = None) -> Callable[[], None]:
    return lambda: resource.setrlimit(number, (soft, soft if hard is None else hard))


@pytest.mark.parametrize(
    "limit",
    [
        _limited(resource.RLIMIT_NOFILE, 24),
        _limited(resource.RLIMIT_NOFILE, 16, 4096),
        _limited(resource.RLIMIT_FSIZE, 0),
        _limited(resource.RLIMIT_CORE, 0),
        _limited(resource.RLIMIT_STACK, 256 << 10),
        _limited(resource.RLIMIT_DATA, 64 << 20),
        _limited(resource.RLIMIT_AS, 256 << 20),
        _limited(resource.RLIMIT_MEMLOCK, 0),
        _limited(resource.RLIMIT_SIGPENDING, 0),
    ],
)  # fmt: skip
def test_limits_of_the_caller(wounded: Wounded, limit: Callable[[], None]) -> None:
    words = [PYTHON, "-m", "check_mounts", *wounded.arguments()]
    assert wounded.lost(faults.start(wounded.plugin, words, preexec_fn=limit)) is None


@pytest.mark.parametrize("descriptors", range(6, 30, 4))
def test_any_number_of_descriptors_gives_a_verdict(wounded: Wounded, descriptors: int) -> None:
    """With the fewest, not even the start; with a few more a pass, and then the report: what was
    measured is told."""
    words = [PYTHON, "-m", "check_mounts", *wounded.arguments("-t", "0.2", "--deadline", "1")]
    result = faults.start(wounded.plugin, words, preexec_fn=_limited(resource.RLIMIT_NOFILE, descriptors))
    assert result.code in (2, 3)
    assert re.match("MOUNTS (CRITICAL|UNKNOWN) - ", result.lines[0])
    assert result.stderr == b""


def test_the_daemon_goes_on(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """Errors now and then, for as long as it runs, of what a pass needs: its results are there, and
    right."""
    for number in range(3):
        mounts.tmpfs(f"healthy{number}")
    dead, hung = fuse.mount("dead"), fuse.mount("hung")
    fuse.command("die", "dead")
    fuse.command("freeze", "hung")
    often = [
        "epoll_ctl:error=ENOMEM:when=5+7", "epoll_wait:error=ENOMEM:when=6+5", "kill:error=EPERM:when=2+3",
        "pipe2:error=EMFILE:when=6+5",
        "poll:error=ENOMEM:when=9+5", "wait4:error=ECHILD:when=7+9",
    ]  # fmt: skip
    options = [word for each in often for word in ("-e", f"inject={each}")]
    daemon.start(wrapper=["strace", "-qq", "-o", "/dev/null", *options])
    daemon.until_checked(6)
    # A pass that no process could be started for is UNKNOWN until the next one; none is ever OK.
    results = [daemon.cached("-v")]

    def is_known() -> bool:
        if results[-1].code == 3:
            results.append(daemon.cached("-v"))
        return results[-1].code != 3

    until(is_known)
    result = results[-1]
    assert result.code == 2
    assert f"{dead} (fuse.test fuse) dead: " in result.stdout.decode()
    assert f"{hung} (fuse.test fuse) timed out " in result.stdout.decode()
    # strace has it for a child: it is the tracee that is told.
    os.kill(int(daemon.cache.with_name("status.pid").read_text()), signal.SIGTERM)
    assert daemon.process.wait(60) == 0


def test_what_cannot_be_compared_is_said(mounts: Mounts, plugin: Plugin) -> None:
    """What was measured stands."""
    dead = mounts.tmpfs("private", "mode=0000")
    before = """
import check_mounts.checks.checking
def fails(*arguments, **more):
    raise MemoryError
check_mounts.checks.demands.with_demands = fails
"""
    words = ["-v", "-p", f"{plugin.base}/*", "--state-dir", str(plugin.state_dir), "--expect", "/nowhere"]
    result = faults.start(plugin, faults.command(*words, before=before))
    assert result.code == 3
    assert "UNKNOWN: named and declared mounts were not compared: MemoryError: " in result.lines
    assert result.line(dead).startswith(f"WARNING: {dead} (tmpfs none) denied: ")
