"""What the daemon waits for beside its passes: a changed mount table, and the end of processes that
hung filesystems hold.

Import budget: ``os``, ``resource``, ``select``, ``time``; clocks, mounttable, processes for
/proc/PID/stat and children."""

from __future__ import annotations

import os
import resource
import select
import time
from collections.abc import Iterable

from check_mounts import mounttable, processes
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.mounttable import Table

# A change of the mount table is looked at this many seconds after the last one: a host that starts
# containers changes it all the time.
_BETWEEN_LOOKS = 0.2
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


class Changes:
    """Whether the mount table has to be looked at: it has changed, or something may answer again.

    ``recovered``: something may answer again (set by the owner)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._watch = TableWatch(path)
        # A change that has not been looked at; whether it may be in a table that has been read
        # already.
        self._changed = self._seen = False
        self.recovered = False
        self._next_look = monotonic()

    def fileno(self) -> int:
        """To be polled for POLLPRI alone; then :meth:`notice` must be called."""
        return self._watch.fileno()

    @property
    def due(self) -> Monotonic:
        """When a look is due; clocks.NEVER where nothing asks for one."""
        return self._next_look if self._changed or self.recovered else NEVER

    def notice(self) -> None:
        """The kernel has told of a change."""
        self._changed = True

    def expect(self) -> None:
        """Something is different that the table may show already."""
        self._changed = self._seen = True

    def read(self, known: Table) -> tuple[Table, bool]:
        """The mount table as it is now, and whether it is the one that is ``known``. Raises
        OSError."""
        table = mounttable.read(self._path)
        # The kernel tells of a change before anybody can read it (touch_mnt_namespace in
        # fs/namespace.c): what it tells later is not in.
        self._changed = self._watch.changed() or self._changed
        same = table == known
        self._seen = self._seen or (self._changed and not same)
        return table, same

    def look(self) -> tuple[bool, bool]:
        """A look begins: (whether the table has changed since it was last read, whether something
        may answer again)."""
        recovered, self.recovered = self.recovered, False
        news = self._watch.changed() or (self._changed and not self._seen)
        self._changed = self._seen = False
        return news, recovered

    def failed(self, recovered: bool) -> None:
        """The look has failed, and has to be repeated."""
        self._changed, self.recovered = True, recovered or self.recovered

    def looked(self, begun: Monotonic) -> None:
        """A look that began then has ended. A large table takes its time, of which most should be
        left for other things."""
        self._next_look = after(max(_BETWEEN_LOOKS, 3 * (monotonic() - begun)))

    def close(self) -> None:
        """Stop."""
        self._watch.close()


class Endings:
    """Tells when processes end that cannot be killed. Those that are children of ours are
    reaped. A task that never ends (see tasks.Task)."""

    done = False

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._since: dict[int, float] = {}
        self._pidfds: dict[int, int] = {}
        self._children: set[int] = set()
        self._next_look = PAST
        self._held: set[int] = set()
        self._soon: set[int] = set()

    def fileno(self) -> int:
        """A descriptor that is readable where one of them has ended, if the kernel tells."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to look at the latest; clocks.NEVER where the kernel tells."""
        return self._next_look if len(self._pidfds) < len(self._since) else NEVER

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
            except (AttributeError, OSError):  # looked at every second instead; also what has ended already
                continue
            if fd >= _descriptors() - _KEPT_FREE:
                os.close(fd)
                continue
            self._pidfds[pid] = fd
            self._epoll.register(fd, select.EPOLLIN)

    def step(self, until: Monotonic = PAST) -> None:
        """Reap and forget what has ended."""
        if not self._epoll.poll(0) and monotonic() < self.due:
            return
        self._next_look = after(_LOOK)
        for pid in list(self._since):
            if self._has_ended(pid):
                was_held = pid not in self._children or time.monotonic() - self._since[pid] > _MOMENT
                (self._held if was_held else self._soon).add(pid)
                self._children.discard(pid)
                self._forget(pid)

    def ended(self) -> tuple[set[int], set[int]]:
        """What has ended since the last call: the processes that something had held, and those
        that had only just been killed."""
        held, soon = self._held, self._soon
        self._held, self._soon = set(), set()
        return held, soon

    def _has_ended(self, pid: int) -> bool:
        return processes.reaped(pid) if pid in self._children else processes.process_start(pid) is None

    def _forget(self, pid: int) -> None:
        del self._since[pid]
        fd = self._pidfds.pop(pid, None)
        if fd is not None:
            self._epoll.unregister(fd)
            os.close(fd)

    def close(self) -> None:
        """Stop."""
        for pid in list(self._since):
            self._forget(pid)
