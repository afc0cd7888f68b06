"""What is asked about processes, and what is found: values, free of effects.

Import budget: ``enum``; model, clocks."""

from __future__ import annotations

import enum

from check_mounts.clocks import Boottime
from check_mounts.model import Mount
from check_mounts.typed import NamedTuple, Optional

Device = tuple[int, int]


class How(enum.Enum):
    """How a process uses a mount. The order is that of lists: the first one that is true counts.

    ``WAITS``: it is in an operation on a file of the mount, and the operation does not end.
    ``PROBABLY``: it waits in a look-up, a page fault or the like, and the kernel does not say for
    which mount; its stack fits this one. ``OPEN``: it has a descriptor. ``STANDS``: its working
    directory is there. ``ROOT``: its root directory. ``RUNS``: its program."""

    WAITS = "waits"
    PROBABLY = "probably waits"
    OPEN = "has it open"
    STANDS = "stands in it"
    ROOT = "has its root in it"
    RUNS = "runs a program of it"

    @property
    def hangs(self) -> bool:
        """Whether the process waits, certainly or probably."""
        return self in (How.WAITS, How.PROBABLY)


class Process(NamedTuple):
    """A process that uses a mount, and how.

    ``start_time`` is in clock ticks after boot, as in proc_pid_stat(5). ``name`` is that of the
    kernel, at most 15 bytes, which the process chooses itself. ``unit`` is that of systemd, or the
    name of a container's cgroup, fit for output; empty if it has none. ``state`` is the letter of
    the thread that waits, or of the process. ``since``: when it began to wait, None if the kernel
    does not say. ``device`` is that of the mount's superblock; None if it may be one of several.

    ``thread`` is the thread that waits, where that is not the main thread, else 0. ``waiting``
    counts the threads that wait. ``function`` is the kernel function in which it waits, empty if
    that cannot be read. ``elsewhere``: it is in another mount namespace than we are."""

    pid: int
    start_time: int
    uid: int
    name: bytes
    unit: str
    state: str
    since: Optional[Boottime]
    how: How
    device: Optional[Device]
    thread: int = 0
    waiting: int = 0
    function: str = ""
    elsewhere: bool = False


class Wanted(NamedTuple):
    """The mounts whose processes are wanted, and the devices of those that hang, or may hang: only
    for them can a process wait. ``others`` are mounts that hang as well, or may, whose processes
    are not wanted: who waits for one of them does not wait for one of ``mounts``. ``single``: the
    IDs of mounts of which it is wanted whether a process uses this very mount, and not another one
    of the same superblock."""

    mounts: tuple[Mount, ...]
    hung: frozenset[Device]
    others: tuple[Mount, ...] = ()
    single: frozenset[int] = frozenset()


class Users(NamedTuple):
    """The processes that use the wanted mounts, in the order of pids. One that uses several of them
    is there for each.

    ``probable`` are those that wait for one of several hung mounts, and nobody can say for which.
    ``incomplete`` says why some may be missing, in words, one line each; empty if none can be.
    ``is_whole``: the look came to its end, and saw all that this process may see. ``left``: workers
    of this look that hang themselves and could not be killed. ``single``: those of the single
    mounts that other processes than ours use."""

    processes: tuple[Process, ...]
    probable: tuple[Process, ...] = ()
    incomplete: tuple[str, ...] = ()
    is_whole: bool = True
    left: tuple[int, ...] = ()
    single: frozenset[int] = frozenset()

    def of(self, device: Device) -> Users:
        """The users of one mount; those that may be its as well."""
        return self._replace(processes=tuple(each for each in self.processes if each.device == device))
