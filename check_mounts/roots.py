"""The place that a check looks from, if that is not where this process is: the root directory and
the mount namespace of another process (``--namespace``). Pure.

Import budget: ``os``; model. Only runs with that option load it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from check_mounts.model import Mount, Seen
from check_mounts.typed import NamedTuple


class Root(NamedTuple):
    """The root directory of a process.

    ``process`` is the directory of the process in a procfs, which may be that of the host, mounted
    elsewhere: ``/proc/1``, ``/host/proc/1``. ``start`` is when the process started, in clock ticks
    after boot: another process with its ID has another one. ``procfs`` shows the processes of more
    than our PID namespace, if that procfs is such a one. ``same_network``: the process is in our
    network namespace, so that we reach the servers that it reaches."""

    process: str
    start: int
    procfs: str = "/proc"
    same_network: bool = True

    @property
    def base(self) -> bytes:
        """The path of the root directory itself."""
        return os.fsencode(f"{self.process}/root")

    @property
    def mountinfo(self) -> str:
        """The path of its mount table."""
        return f"{self.process}/mountinfo"

    @property
    def pid(self) -> str:
        """The ID of the process, in the namespace of its procfs."""
        return self.process.rpartition("/")[2]

    def seen(self, mounts: Sequence[Mount]) -> list[Mount]:
        """The mounts of its table, to be reached through it."""
        base, same = self.base, self.same_network
        return [mount._replace(seen_at=Seen(base, mount.mount_point, same)) for mount in mounts]
