"""What tests on the host and in the guest of tests/lab both do with the kernel. Imports nothing but
the standard library."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Union

# XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN are the same number, _IOR('X', 125, __u32).
_SHUTDOWN, _WITHOUT_FLUSHING_THE_LOG = 0x8004587D, 2


def shut_down(path: Union[Path, str]) -> None:
    """Shut an xfs or ext4 down as an I/O error does."""
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_FLUSHING_THE_LOG.to_bytes(4, "little"))
    os.close(fd)


def state(pid: int) -> str:
    """Its letter in proc_pid_stat(5); X where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2][0]
    except OSError:
        return "X"


# What a session's fixtures or an earlier test have started; conftest sets it for each test.
inherited: set[int] = set()


def children() -> list[int]:
    """The pids of the children of this process that the present test has started."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [pid for pid in map(int, file.read().split()) if pid not in inherited]


def runs_alive() -> set[int]:
    """Those of the children of watchers, which check."""
    return workers_alive("check_mounts:r")


def workers_alive(name: str = "check_mounts:w") -> set[int]:
    """The pids of all worker processes of ours that exist and are no zombies."""
    return {pid for pid, _ in _own(f"({name})")}


def started_since(ticks: int, name: str = "(") -> set[int]:
    """The pids of our processes that are younger than a time since boot and are named like this."""
    return {pid for pid, began in _own(name) if began >= ticks}


def now() -> int:
    """In ticks since boot, as in proc_pid_stat(5)."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _own(name: str) -> Iterator[tuple[int, int]]:
    """Yield pid and start of the processes that these tests have started. Whatever else runs on
    this host, a daemon or another run of the tests, does not count.

    Root's tests have a mount namespace of their own; an ordinary user's adopt orphans (conftest),
    so that all descend from here.
    """
    own = os.getpid()
    namespace = os.readlink("/proc/self/ns/mnt") if os.geteuid() == 0 else None
    parents: dict[int, int] = {}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != own:
            try:
                before, _, after = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
                fields = after.split()
                parents[int(entry)] = int(fields[1])
                if name not in before + ")" or fields[0] in "ZX":
                    continue
                if namespace is not None and os.readlink(f"/proc/{entry}/ns/mnt") != namespace:
                    continue
            except OSError:
                continue
            found.append((int(entry), int(fields[19])))
    return ((pid, began) for pid, began in found if namespace is not None or _descends(pid, own, parents))


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid not in (0, ancestor):
        pid = parents.get(pid, 0)
    return pid == ancestor
