"""What tests on the host and in the guest of tests/lab both do with the kernel. Imports nothing but
the standard library."""

from __future__ import annotations

import fcntl
import os
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
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


def runs_alive() -> set[int]:
    """Those of the children of watchers, which check."""
    return workers_alive("check_mounts:r")


def workers_alive(name: str = "check_mounts:w") -> set[int]:
    """The pids of all worker processes of our mount namespace that exist and are no zombies."""
    found, own = set(), os.readlink("/proc/self/ns/mnt")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
                ours = f"({name})" in stat and os.readlink(f"/proc/{entry}/ns/mnt") == own
            except OSError:
                continue
            if ours and stat.rpartition(")")[2].split()[0] not in "ZX":
                found.add(int(entry))
    return found
