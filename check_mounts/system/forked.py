"""The worker's side of a pool: how a forked child gives up its parent's descriptors, signals and
groups, and how it serves requests until it is killed or its parent is gone.

Import budget: ``os``, ``struct``; ``signal`` through signals, ctypes and fcntl through syscalls.
Every module is loaded before the fork: a worker cannot load one from a filesystem that hangs."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from check_mounts.system import privilege, processes, signals, syscalls
from check_mounts.system.desks import Desk, Desks
from check_mounts.typed import NoReturn, Optional

REQUEST_FD, ANSWER_FD = 3, 4
KEY = struct.Struct("<I")  # a request
HEAD = struct.Struct("<IB")  # the head of an answer: its key, and whether it is the worker's last

# Serves a request; returns the answer, and whether the worker must end after it.
Handler = Callable[[int, Desk], "tuple[bytes, bool]"]


class Life:
    """What the workers of one pool share: their handler, their desks, the pipe that their requests
    come from, their parent and their supplementary groups (None: those of the parent; but workers
    of root get no groups)."""

    def __init__(
        self, handler: Handler, desks: Desks, request_fd: int, parent: int, groups: Optional[tuple[int, ...]]
    ) -> None:
        self.handler, self.desks, self.request_fd, self.parent, self.groups = handler, desks, request_fd, parent, groups

    def live(self, slot: int, answer_fd: int, devnull: int) -> NoReturn:
        """Be a worker. This never returns into the parent's code, not even after an exception."""
        try:
            settle(self.request_fd, answer_fd, devnull, self.parent, self.groups)
            self._serve(slot)
        finally:
            os._exit(0)

    def _serve(self, slot: int) -> None:
        desks = self.desks
        desk = Desk(slot, self.parent, lambda progress: desks.note(slot, progress))
        last = False
        while not last and (request := os.read(REQUEST_FD, KEY.size)):
            key = KEY.unpack(request)[0]
            desks.begin(slot, key)
            answer, last = self.handler(key, desk)
            desks.begin_answering(slot)
            os.write(ANSWER_FD, HEAD.pack(key, last) + answer)
            desks.leave(slot)


def settle(request_fd: int, answer_fd: int, devnull: int, parent: int, groups: Optional[tuple[int, ...]]) -> None:
    """Give up everything that comes from the parent, except two descriptors, which become
    REQUEST_FD and ANSWER_FD."""
    signals.reset_to_default()
    try:
        os.setsid()
    except OSError:
        pass  # a filter of system calls: then signals to the caller's process group come here, too
    _keep_only(request_fd, answer_fd, devnull)
    os.chdir("/")
    try:
        if groups is not None or os.geteuid() == 0:
            privilege.drop_groups(groups or ())
    except OSError:
        pass  # no CAP_SETGID: then the caller's groups stay
    syscalls.set_name(b"check_mounts:w")
    processes.survive_shutdown()
    processes.die_with_parent(parent)


def _keep_only(request_fd: int, answer_fd: int, devnull: int) -> None:
    """Close all descriptors but these two, and put /dev/null in place of stdin, stdout and stderr.

    nrpe waits for the end of file on pipes that it leaks to plugins (fds 5 and 6), and a worker
    that cannot die would keep them open for ever."""
    # First copy the two to higher numbers: they may have any number, even 3 and 4 swapped.
    keep = [os.dup(fd) for fd in (request_fd, answer_fd)]
    while min(keep) <= ANSWER_FD:
        keep = [os.dup(fd) for fd in keep]
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    os.dup2(keep[0], REQUEST_FD)
    os.dup2(keep[1], ANSWER_FD)
    syscalls.close_from(ANSWER_FD + 1)
