"""What a run costs that can be counted, so that it does not depend on what else this host does:
system calls, processes, bytes and modules. For tests/test_counts.py."""

from __future__ import annotations

import collections
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# How many there are depends on how quickly processes get their turn: whether an answer is there or
# must be waited for, and how many answers come at once.
WAITS = {
    "clock_nanosleep", "epoll_pwait", "epoll_wait", "futex", "ioctl", "poll", "ppoll", "read", "recvfrom", "recvmsg",
    "restart_syscall", "sched_yield", "sendmsg", "sendto", "wait4", "waitid", "write",
}  # fmt: skip
# The calls of a probe. They never depend on that.
PROBES = {"close", "fstatfs", "getdents64", "openat", "openat2", "statfs", "statx"}
_FORKS = {"clone", "clone3", "fork", "vfork"}
_READS = {"pread64", "preadv", "read", "readv"}
_CALL = re.compile(r"(\d+) +(\w+)\((?:\d+<([^>]*)>)?")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>")
_RESULT = re.compile(r" = (\d+)(?:<[^>]*>)?$")


class Counts(NamedTuple):
    """The system calls of some processes by name, and the bytes that they read by path."""

    calls: Mapping[str, int]
    bytes_of: Mapping[str, int]

    @property
    def processes(self) -> int:
        """Those that were forked; a thread is one, too."""
        return sum(self.calls.get(name, 0) for name in _FORKS)

    @property
    def work(self) -> int:
        """The system calls that do not depend on when processes get their turn."""
        return sum(number for name, number in self.calls.items() if name not in WAITS)

    @property
    def probes(self) -> int:
        """The system calls that look at mounts, and others of the same names."""
        return sum(self.calls.get(name, 0) for name in PROBES)

    @property
    def bytes_of_tables(self) -> int:
        """What was read of mount tables."""
        return sum(number for path, number in self.bytes_of.items() if path.endswith(("/mountinfo", "/mountstats")))

    @property
    def bytes_of_files(self) -> int:
        """What was read of files, but for /proc, whose contents depend on this host, and for shared
        memory."""
        return sum(
            number
            for path, number in self.bytes_of.items()
            if path.startswith("/") and not path.startswith(("/proc/", "/memfd:"))
        )


def counted(lines: Sequence[str]) -> Counts:
    """Count in the output of ``strace -f -y``."""
    calls: collections.Counter[str] = collections.Counter()
    bytes_of: collections.Counter[str] = collections.Counter()
    paths: dict[str, str] = {}
    for line in lines:
        call = _CALL.match(line)
        if call is not None:
            pid, name, path = call.groups()
            calls[name] += 1
            paths[pid] = path or ""
        else:
            resumed = _RESUMED.match(line)
            if resumed is None:
                continue
            pid, name = resumed.groups()
        result = _RESULT.search(line)
        if name in _READS and result is not None:
            bytes_of[paths.get(pid, "")] += int(result[1])
    return Counts(calls, bytes_of)


def strace(trace: Path) -> list[str]:
    """The beginning of a command that is traced with all its children."""
    return ["strace", "-D", "-f", "-y", "-s", "0", "-o", str(trace)]


def traced(trace: Path, command: Sequence[str]) -> Counts:
    """Run a command, which must succeed."""
    result = subprocess.run(
        ["strace", "-f", "-y", "-s", "0", "-e", "signal=none", "-qq", "-o", str(trace), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, (result.stdout, result.stderr)
    return counted(trace.read_text("utf-8", "replace").splitlines())


def modules(command: Sequence[str]) -> list[str]:
    """What a run of an interpreter loads, in all its processes. ``command`` begins with the
    interpreter."""
    words = [command[0], "-X", "importtime", *command[1:]]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, (result.stdout, result.stderr)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return [line.rpartition("|")[2].strip() for line in lines[1:]]
