"""The worker's side of a pool: how a forked child gives up its parent's descriptors, signals and
groups, and how it serves requests until it is killed or its parent is gone.

Import budget: ``gc``, ``os``, ``struct``; ``_signal``, which is part of the interpreter (signal is
not, and imports enum); ctypes and fcntl through syscalls. Every module is loaded before the fork: a
worker cannot load one from a filesystem that hangs."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import struct

from check_mounts.system import birth, privilege, processes, signals, syscalls
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from check_mounts.system.desks import Desk, Desks

    # Serves a request: its key, its content, the worker's desk. Returns the answer, and whether the
    # worker must end after it.
    Handler = Callable[[int, bytes, Desk], "tuple[bytes, bool]"]

# Where requests come from, and where a worker wakes its parent.
REQUEST_FD, WAKE_FD = 3, 4
# A request: its serial number, its key, its place, and the size and offset of its content.
REQUEST = struct.Struct("<5I")


def share_objects(*thresholds: int) -> None:
    """Let the workers share the objects that exist now, and collect garbage at these thresholds
    (gc.set_threshold). The collector would touch the objects' pages, and so copy them, in each
    worker."""
    gc.freeze()
    gc.set_threshold(*thresholds)
    gc.enable()


class Life:
    """What the workers of one pool share: their handler, their desks, the contents of the requests
    (which a child may map after the fork), and their supplementary groups (None: those of the
    parent; but workers of root get no groups)."""

    __slots__ = ("contents", "desks", "groups", "handler")

    def __init__(
        self, handler: Handler, desks: Desks, contents: Optional[mmap.mmap], groups: Optional[tuple[int, ...]]
    ) -> None:
        self.handler, self.desks, self.contents, self.groups = handler, desks, contents, groups

    def serve(self, slot: int, parent: int) -> None:
        """Serve requests until there are no more, or until the last answer of this process."""
        handler, contents, desks = self.handler, self.contents, self.desks
        assert contents is not None
        read, unpack, begin, answer = os.read, REQUEST.unpack, desks.begin, desks.answer
        desk = desks.desk(slot, parent)
        last = False
        while not last and (request := read(REQUEST_FD, REQUEST.size)):
            serial, key, place, size, offset = unpack(request)
            begin(slot, serial)
            given, last = handler(key, contents[offset : offset + size], desk)
            if answer(slot, serial, place, last, given):
                try:
                    os.write(WAKE_FD, b"\0")
                except OSError:  # EAGAIN: the parent has many reasons to wake already; EPIPE: it is gone
                    pass


def settle(request_fd: int, wake_fd: int, devnull: int, parent: int, groups: Optional[tuple[int, ...]]) -> None:
    """Give up everything that comes from the parent, except two descriptors, which become
    REQUEST_FD and WAKE_FD."""
    signals.reset_to_default()
    take_groups(groups)
    leave((request_fd, wake_fd), devnull, b"check_mounts:w", parent)


def leave(fds: tuple[int, ...], devnull: int, name: bytes, parent: int) -> None:
    """Leave the parent's session, descriptors but for ``fds`` (see :func:`keep_only`) and working
    directory; take a name of one's own in ps(1), and end with the parent."""
    try:
        os.setsid()
    except OSError:
        pass  # a filter of system calls: then signals to the caller's process group come here, too
    keep_only(fds, devnull)
    os.chdir("/")
    syscalls.set_name(name)
    processes.survive_shutdown()
    processes.die_with_parent(parent)


def take_groups(groups: Optional[tuple[int, ...]]) -> None:
    """Take these supplementary groups, if this process may."""
    try:
        if groups is not None or os.geteuid() == 0:
            privilege.drop_groups(groups or ())
    except OSError:
        pass  # no CAP_SETGID: then the caller's groups stay


def keep_only(fds: tuple[int, ...], devnull: int) -> None:
    """Close all descriptors but these, which get the numbers from 3 on, and put /dev/null in place
    of stdin, stdout and stderr.

    nrpe waits for the end of file on pipes that it leaks to plugins (fds 5 and 6), and a worker
    that cannot die would keep them open for ever."""
    # First copy them to higher numbers: they may have any number, even 3 and 4 swapped.
    highest = REQUEST_FD + len(fds)
    keep = [os.dup(fd) for fd in fds]
    while min(keep) < highest:
        keep = [os.dup(fd) for fd in keep]
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    for number, fd in enumerate(keep, REQUEST_FD):
        os.dup2(fd, number)
    syscalls.close_from(highest)


# -- in the nursery and its children


def block_signals() -> None:
    """Block all signals that can be blocked."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())


def wake_at_ends() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    read, write = os.pipe()
    for fd in (read, write):
        os.set_blocking(fd, False)
    _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda number, frame: None)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGCHLD,))
    return read


_be_born = birth.at_birth(b"check_mounts:w", WAKE_FD + 1, _signal.SIGKILL)
# The nursery has a handler for this signal; a worker has no children, and never gets it.
_BLOCKED = (_signal.SIGCHLD,)


def hatch(request_fd: int, wake_fd: int, nursery: int) -> None:
    """Give up what comes from the nursery, as :func:`settle` does in a child of another process.
    The nursery has settled itself, so little is left to do for each worker. It stands here as a
    whole: each function that is called is memory of each worker."""
    try:
        os.setsid()
    except OSError:
        pass  # a filter of system calls
    os.dup2(request_fd, REQUEST_FD)
    os.dup2(wake_fd, WAKE_FD)
    _be_born()
    if os.getppid() != nursery:
        os._exit(0)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _BLOCKED)
