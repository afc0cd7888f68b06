"""The nursery: a small process that forks the workers of pools, reaps them, and kills them on
command.

A fork copies what the forking process has in memory, and a worker that hangs keeps it. So the
nursery is forked before the process that checks grows; it loads only what workers need, on another
core, while its parent loads the rest. It touches no mount and waits for nothing but commands. It
ends with its parent, and its workers end with it.

The parent of the nursery opens a pool with a message on their control socket. The message brings
the pool's own socket, which takes commands and returns news. Each end notices the end of the other
one by the end of file. Sockets of this type keep the boundaries of messages (SOCK_SEQPACKET in
unix(7)).

This module is the parent's side, nest is the inside. Import budget: ``_socket``, ``marshal``,
``os``. socket would import selectors and enum."""

from __future__ import annotations

import _socket
import marshal
import os
import struct
import time

from check_mounts.typed import TYPE_CHECKING, NoReturn, Optional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from check_mounts.system.desks import Layout
    from check_mounts.system.forked import Handler

    # Makes the handler of a pool from its configuration and the descriptors that came with it,
    # which it may keep.
    Make = Callable[[bytes, Sequence[int]], Handler]

# Commands on a pool's socket: one letter, then slots. News: the slot, what has happened, and the
# pid of the worker, or the errno where it could not be forked.
START, KILL = b"s", b"k"
NEWS = struct.Struct("<HHI")
STARTED, ENDED, FAILED = range(3)
# The largest message in bytes. A command is smaller: a slot takes two bytes.
LARGEST = 1 << 17
QUIETLY = _socket.MSG_NOSIGNAL


class Nursery:
    """The nursery, as its parent knows it."""

    def __init__(self, pid: int, control: _socket.socket) -> None:
        self.pid, self._control = pid, control

    def end(self) -> None:
        """End it. It is a child of this process that is not reaped yet."""
        from check_mounts.system import processes

        self._control.close()
        processes.kill(self.pid)

    def open(
        self, layout: Layout, contents_size: int, groups: Optional[tuple[int, ...]], config: bytes, fds: Sequence[int]
    ) -> _socket.socket:
        """Open a pool; return the socket for its commands. ``fds``: the memory of its desks, the
        contents of its requests, the pipe of requests, the wake-up pipe, and what ``config`` speaks
        of. Raises OSError where there is no nursery any more."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            message = marshal.dumps((layout.count, layout.answer_size, layout.most_open, contents_size, groups, config))
            passed = struct.pack(f"{1 + len(fds)}i", theirs.fileno(), *fds)
            self._control.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)], _socket.MSG_NOSIGNAL)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours


_current: list[Nursery] = []
# The pids of those that this process has left and not reaped yet.
_left: list[int] = []


def current() -> Optional[Nursery]:
    """The nursery of this process, if it has one."""
    return _current[0] if _current else None


def leave() -> None:
    """Have no nursery any more. It and its workers end if they have not ended yet."""
    for each in _current:
        each.end()
        _left.append(each.pid)
    _current.clear()


def reap(patience: float = 0.0) -> None:
    """Reap the nurseries that this process has left; wait for their end for ``patience`` seconds at
    most. They wait for nothing, so they end at once."""
    from check_mounts.system import processes

    until = time.monotonic() + patience
    while _left:
        _left[:] = processes.reap_ended(_left)
        if time.monotonic() >= until:
            break
        if _left:
            time.sleep(0.0005)


def begin(live: Callable[[int, int], None]) -> None:
    """Fork the nursery, where ``live`` is called with the descriptor of its control socket and the
    pid of its parent: see nest. Where no process can be forked, there is no nursery."""
    parent = os.getpid()
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        pid = os.fork()
    except OSError:
        return
    if pid == 0:
        _live(theirs.detach(), live, parent)
    theirs.close()
    _current[:] = [Nursery(pid, ours)]


def _live(control: int, live: Callable[[int, int], None], parent: int) -> NoReturn:
    """Be the nursery. Never returns into the parent's code."""
    try:
        _current.clear()
        _left.clear()
        live(control, parent)
    finally:
        os._exit(0)
