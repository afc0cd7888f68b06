"""What the daemon waits for beside its passes: a changed mount table, and the end of processes that
hung filesystems hold.

Import budget: ``os``, ``resource``, ``select``, ``time``; stuck for /proc/PID/stat, syscalls for
children."""

from __future__ import annotations

import os
import resource
import select
import time
from collections.abc import Iterable
from typing import Optional

from check_mounts import processes, stuck

# How often to look where the kernel cannot tell (no pidfd_open(2) before Linux 5.3, or a seccomp
# filter that does not know it).
_LOOK = 1.0
# A killed process may need a moment to end. Of one that ends so soon nobody knows whether anything
# had held it.
_MOMENT = 1.0
# So many descriptors are left for what needs one: workers' answers, the result.
_KEPT_FREE = 64


def _descriptors() -> int:
    """How many this process may have open."""
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError:  # a filter of system calls
        return 1024


class TableWatch:
    """Tells when the mount table in ``path`` has changed.

    The kernel reports a change of the mount namespace as POLLERR and POLLPRI on an open mountinfo,
    once for each descriptor and change (proc_pid_mounts(5)). On anything but the kernel's own file
    it never does."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)

    def fileno(self) -> int:
        """To be polled for POLLPRI alone."""
        return self._fd

    def changed(self) -> bool:
        """Whether it has changed since somebody has last been told."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Stop."""
        os.close(self._fd)


class Endings:
    """Tells when processes end that cannot be killed. Those that are children of ours are
    reaped."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._since: dict[int, float] = {}
        self._pidfds: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._children: set[int] = set()
        self._next_look = 0.0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def due(self) -> Optional[float]:
        """When to call :meth:`ended` at the latest (CLOCK_MONOTONIC); None where the kernel
        tells."""
        return self._next_look if len(self._pidfds) < len(self._since) else None

    def knows(self, fd: int) -> bool:
        """Whether a descriptor is one of ours."""
        return fd in self._pids

    def follow(self, strangers: Iterable[int], children: Iterable[int]) -> None:
        """Watch these, too, and no strangers but these. ``children`` are ours, and followed until
        they have ended."""
        self._children |= set(children)
        wanted = self._children | set(strangers)
        for pid in [pid for pid in self._since if pid not in wanted]:
            self._forget(pid)
        for pid in wanted - self._since.keys():
            self._since[pid] = time.monotonic()
            try:
                fd = os.pidfd_open(pid)  # close-on-exec by itself
            except (AttributeError, OSError):  # looked at every second instead; also who has ended already
                continue
            if fd >= _descriptors() - _KEPT_FREE:
                os.close(fd)
                continue
            self._pidfds[pid], self._pids[fd] = fd, pid
            self._poll.register(fd, select.POLLIN)

    def ended(self) -> tuple[set[int], set[int]]:
        """Reap and forget who has ended: those whom something had held, and those who had only just
        been killed."""
        now = time.monotonic()
        self._next_look = now + _LOOK
        held: set[int] = set()
        soon: set[int] = set()
        for pid in list(self._since):
            if self._has_ended(pid):
                (held if pid not in self._children or now - self._since[pid] > _MOMENT else soon).add(pid)
                self._children.discard(pid)
                self._forget(pid)
        return held, soon

    def _has_ended(self, pid: int) -> bool:
        return processes.reaped(pid) if pid in self._children else stuck.process_start(pid) is None

    def _forget(self, pid: int) -> None:
        del self._since[pid]
        fd = self._pidfds.pop(pid, None)
        if fd is not None:
            self._poll.unregister(fd)
            del self._pids[fd]
            os.close(fd)

    def close(self) -> None:
        """Stop."""
        for pid in list(self._since):
            self._forget(pid)
