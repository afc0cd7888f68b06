"""Two events that the daemon waits for besides its passes: the mount table changes, and a process
that a hung filesystem held ends.

Import budget: ``os``, ``resource``, ``select``, ``time``; clocks, mounttable, processes for
/proc/PID/stat and children."""

from __future__ import annotations

import os
import resource
import select
import time
from collections.abc import Iterable

from check_mounts.checks.checking import TableReader
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.mounttable import Table
from check_mounts.system import processes
from check_mounts.typed import Optional

# The time between two looks at a changing mount table, in seconds: a host that starts containers
# changes it all the time.
_BETWEEN_LOOKS = 0.2
# How often to look whether a process has ended, in seconds, if the kernel cannot tell (no
# pidfd_open(2) before Linux 5.3, or a seccomp filter that does not know it).
_LOOK = 1.0
# The time that a killed process may need to end, in seconds. If it ends within that time, it is not
# known whether anything held it.
_MOMENT = 1.0
# This many descriptors stay free for other uses: workers' answers, the result.
_KEPT_FREE = 64


def _descriptors() -> int:
    """The number of descriptors that this process may have open."""
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError:  # a seccomp filter
        return 1024


class TableWatch:
    """Tells when the mount table in ``path`` has changed.

    The kernel reports a change of the mount namespace as POLLERR and POLLPRI on an open mountinfo,
    once for each descriptor and change (proc_pid_mounts(5)). For any other file it reports
    nothing."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)

    def fileno(self) -> int:
        """The descriptor. It should be polled for POLLPRI alone."""
        return self._fd

    def changed(self) -> bool:
        """Whether the table has changed since the last call."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Stop."""
        os.close(self._fd)


class Changes:
    """Whether to look at the mount table: it has changed, or a mount may answer again.

    ``recovered``: a mount may answer again. The owner sets it."""

    def __init__(self, path: Optional[str], reader: TableReader) -> None:
        """``path`` is that of the table, None if it should not be watched: an open mountinfo keeps
        all mounts of its namespace mounted, even if the last process there has ended."""
        self._table = reader
        self._watch = TableWatch(path or os.devnull)
        # Whether there is a change that was not looked at yet; whether the table that was last read
        # may show it already.
        self._changed = self._seen = False
        self.recovered = False
        self._next_look = monotonic()

    def fileno(self) -> int:
        """A descriptor. It should be polled for POLLPRI alone. When it is ready, call
        :meth:`notice`."""
        return self._watch.fileno()

    @property
    def due(self) -> Monotonic:
        """When a look is due; clocks.NEVER if nothing asks for one."""
        return self._next_look if self._changed or self.recovered else NEVER

    def notice(self) -> None:
        """Note that the kernel has reported a change."""
        self._changed = True

    def expect(self) -> None:
        """Ask for a look at a change that the table may show already."""
        self._changed = self._seen = True

    def read_with(self, reader: TableReader) -> None:
        """Read the table with this reader from now on."""
        self._table = reader

    def read(self, known: Table, after_probes: bool = False) -> tuple[Table, bool]:
        """Read the mount table. Returns it, and whether it is the same as ``known``. Raises
        OSError."""
        table = self._table.reread() if after_probes else self._table.read()
        # The kernel reports a change before a reader can see it (touch_mnt_namespace in
        # fs/namespace.c). So a change that it reports after this read is not in this table.
        self._changed = self._watch.changed() or self._changed
        same = table == known
        self._seen = self._seen or (self._changed and not same)
        return table, same

    def look(self) -> tuple[bool, bool]:
        """Begin a look. Returns whether the table has changed since it was last read, and whether a
        mount may answer again."""
        recovered, self.recovered = self.recovered, False
        news = self._watch.changed() or (self._changed and not self._seen)
        self._changed = self._seen = False
        return news, recovered

    def ask_again(self, recovered: bool) -> None:
        """Ask for the look once more, because it has failed."""
        self._changed, self.recovered = True, recovered or self.recovered

    def note_look(self, begun: Monotonic) -> None:
        """Note the end of a look that began at ``begun``. A large table takes long, and most of the
        time should be left for other work."""
        self._next_look = after(max(_BETWEEN_LOOKS, 3 * (monotonic() - begun)))

    def close(self) -> None:
        """Stop."""
        self._watch.close()


class Endings:
    """Tells when processes that could not be killed have ended. Children of ours are reaped.

    A task that never ends (see tasks.Task). ``procfs`` shows the strangers."""

    done = False

    def __init__(self, procfs: str = processes.OWN) -> None:
        self._procfs = procfs
        self._epoll = select.epoll()
        self._since: dict[int, float] = {}
        self._pidfds: dict[int, int] = {}
        self._children: set[int] = set()
        self._next_look = PAST
        self._held: set[int] = set()
        self._soon: set[int] = set()

    def fileno(self) -> int:
        """A descriptor that is readable once a process has ended, if the kernel can tell."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to look at the latest; clocks.NEVER if the kernel tells about all processes."""
        return self._next_look if len(self._pidfds) < len(self._since) else NEVER

    def follow(self, strangers: Iterable[int], children: Iterable[int]) -> None:
        """Watch these processes. ``strangers`` replace all earlier strangers; ``children`` are
        ours or the nursery's, and are watched until they have ended."""
        self._children |= set(children)
        wanted = self._children | set(strangers)
        for pid in [pid for pid in self._since if pid not in wanted]:
            self._forget(pid)
        for pid in wanted - self._since.keys():
            self._since[pid] = time.monotonic()
            if self._procfs != processes.OWN and pid not in self._children:
                continue  # it may have no ID here
            try:
                fd = os.pidfd_open(pid)  # close-on-exec by itself
            except (AttributeError, OSError):  # it is looked at every second instead, even if it has ended already
                continue
            try:
                if fd < _descriptors() - _KEPT_FREE:
                    self._epoll.register(fd, select.EPOLLIN)
                    self._pidfds[pid] = fd
            except OSError:  # no memory: it is looked at every second, too
                pass
            if pid not in self._pidfds:
                os.close(fd)

    def step(self, until: Monotonic = PAST) -> None:
        """Reap and forget the processes that have ended."""
        if not self._epoll.poll(0) and monotonic() < self.due:
            return
        self._next_look = after(_LOOK)
        for pid in list(self._since):
            if self._has_ended(pid):
                was_held = pid not in self._children or time.monotonic() - self._since[pid] > _MOMENT
                (self._held if was_held else self._soon).add(pid)
                self._children.discard(pid)
                self._forget(pid)

    def take_ended(self) -> tuple[set[int], set[int]]:
        """Take out the processes that have ended since the last call: those that something had
        held, and those that had only just been killed."""
        held, soon = self._held, self._soon
        self._held, self._soon = set(), set()
        return held, soon

    def _has_ended(self, pid: int) -> bool:
        if pid not in self._children:
            return processes.process_start(pid, self._procfs) is None
        # What the nursery has forked is no child of this process: waitpid(2) says that it is gone.
        return processes.reap(pid) and processes.process_start(pid) is None

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
