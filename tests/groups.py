"""Control groups and processes of our own, for a systemd in namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HIERARCHIES = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


def make(name: str) -> Path:
    """A group of our own in the second hierarchy of control groups."""
    parent = next(
        path for path in _HIERARCHIES if (path / "cgroup.procs").exists() and (path / "cgroup.controllers").exists()
    )
    group = parent / f"check_mounts-tests-{os.getpid()}-{name}"
    group.mkdir()
    return group


def entering(group: Path, words: Sequence[str]) -> list[str]:
    """A command in this group."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *words]


def is_empty(group: Path) -> bool:
    return "populated 0" in (group / "cgroup.events").read_text()


def remove(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        os.rmdir(directory)


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The pids of the children of a process that must be alive; if it is not, what it said."""
    assert process.poll() is None, process.stderr and process.stderr.read()
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
