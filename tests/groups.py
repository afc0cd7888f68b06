"""Control groups of our own, for a systemd in namespaces."""

from __future__ import annotations

import os
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


def is_empty(group: Path) -> bool:
    return "populated 0" in (group / "cgroup.events").read_text()


def remove(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        os.rmdir(directory)
