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

Import budget: ``_socket``, ``marshal``, ``os``; in the nursery also ``_signal``, ``gc`` and
``select``, and what desks and forked need. socket would import selectors and enum."""

from __future__ import annotations

import _socket
import marshal
import os
import struct

from check_mounts.typed import TYPE_CHECKING, NoReturn, Optional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from check_mounts.system.desks import Layout
    from check_mounts.system.forked import Handler, Life

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
# The descriptors of a message that opens a pool: its socket, desks, contents, requests, wake-up.
_FDS, _MOST_FDS = 5, 16
# How many workers the nursery forks between two looks at its sockets.
_AT_ONCE = 8


class Nursery:
    """The nursery, as its parent knows it."""

    def __init__(self, pid: int, control: _socket.socket) -> None:
        self.pid, self._control = pid, control

    def open(
        self, layout: Layout, contents_size: int, groups: Optional[tuple[int, ...]], config: bytes, fds: Sequence[int]
    ) -> _socket.socket:
        """Open a pool; return the socket for its commands. ``fds``: the memory of its desks, the
        contents of its requests, the pipe of requests, the wake-up pipe, and what ``config`` speaks
        of. Raises OSError where there is no nursery any more."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            message = marshal.dumps((layout.count, layout.answer_size, contents_size, groups, config))
            passed = struct.pack(f"{1 + len(fds)}i", theirs.fileno(), *fds)
            self._control.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)], _socket.MSG_NOSIGNAL)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours


_current: list[Nursery] = []


def current() -> Optional[Nursery]:
    """The nursery of this process, if it has one."""
    return _current[0] if _current else None


def leave() -> None:
    """Have no nursery any more. It ends if it has not ended yet."""
    for each in _current:
        each._control.close()
    _current.clear()


def begin(load: Callable[[], Make]) -> None:
    """Fork the nursery. ``load`` imports what the workers need. Where no process can be forked,
    there is no nursery."""
    parent = os.getpid()
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        pid = os.fork()
    except OSError:
        return
    if pid == 0:
        _live(theirs.detach(), load, parent)
    theirs.close()
    _current[:] = [Nursery(pid, ours)]


# -- in the nursery


def _live(control: int, load: Callable[[], Make], parent: int) -> NoReturn:
    """Be the nursery. Never returns into the parent's code."""
    try:
        _current.clear()
        _settle(control, parent)
        make = load()
        _forget_garbage()
        _Broods(_socket.socket(fileno=_CONTROL_FD), make).run()
    finally:
        os._exit(0)


# Numbers 3 and 4 are taken, so that a descriptor that a message brings never has a number that a
# worker's own descriptors get.
_CONTROL_FD = 5


def _settle(control: int, parent: int) -> None:
    from check_mounts.system import forked, processes, syscalls

    forked.reset_signals()
    # A supervisor or a terminal that ends the whole service sends signals here, too. They must not
    # end the workers before our parent has taken their answers.
    forked.block_signals()
    try:
        os.setsid()
    except OSError:
        pass  # a filter of system calls
    devnull = os.open("/dev/null", os.O_RDWR)
    forked.keep_only((devnull, devnull, control), devnull)
    os.chdir("/")
    syscalls.set_name(b"check_mounts:n")
    processes.survive_shutdown()
    processes.die_with_parent(parent)


def _forget_garbage() -> None:
    """Have no garbage, and never look for any: that would write to the pages that workers share."""
    import gc

    gc.disable()
    gc.collect()
    gc.freeze()


class _Brood:
    """The workers of one pool: their pids by their slots."""

    __slots__ = ("life", "news", "pids", "request_fd", "socket", "wake_fd")

    def __init__(self, sock: _socket.socket, life: Life, request_fd: int, wake_fd: int) -> None:
        self.socket, self.life, self.request_fd, self.wake_fd = sock, life, request_fd, wake_fd
        self.pids: dict[int, int] = {}
        self.news: list[bytes] = []

    def tell(self, slot: int, what: int, number: int) -> None:
        """Have news for the parent."""
        self.news.append(NEWS.pack(slot, what, number))

    def send(self) -> None:
        """Send the news. Raises OSError where the parent has closed the pool."""
        news, self.news = self.news, []
        if news:
            self.socket.send(b"".join(news), _socket.MSG_NOSIGNAL)


class _Broods:
    """All workers, by the pools that they work for."""

    def __init__(self, control: _socket.socket, make: Make) -> None:
        import select

        from check_mounts.system import forked

        self._control, self._make, self._pid = control, make, os.getpid()
        self._poll = select.poll()
        self._wake_fd = forked.wake_at_ends()
        self._broods: dict[int, _Brood] = {}  # by the descriptors of their sockets
        self._of: dict[int, tuple[_Brood, int]] = {}  # pid -> its brood and slot
        self._to_start: list[tuple[_Brood, int]] = []
        for fd in (control.fileno(), self._wake_fd):
            self._poll.register(fd, select.POLLIN)
        self._event = select.POLLIN

    def run(self) -> None:
        """Obey until the parent is gone."""
        while True:
            for fd, _ in self._poll.poll(0 if self._to_start else None):
                if fd in self._broods:
                    self._obey(self._broods[fd])
                elif fd == self._wake_fd:
                    os.read(fd, 4096)
                    self._reap()
                elif fd == self._control.fileno() and not self._open():
                    return
            self._start_some()
            for brood in list(self._broods.values()):
                try:
                    brood.send()
                except OSError:
                    self._close(brood)

    def _open(self) -> bool:
        """Open a pool; return False at the end of file."""
        size = _socket.CMSG_SPACE(_MOST_FDS * 4)
        message, ancillary, _, _ = self._control.recvmsg(LARGEST, size)
        if not message:
            return False
        fds = [fd for _, _, data in ancillary for fd in struct.unpack(f"{len(data) // 4}i", data)]
        sock = _socket.socket(fileno=fds[0])
        try:
            brood = _brood(marshal.loads(message), sock, fds[1:], self._make)
        except Exception:  # no memory: the parent forks the workers itself
            sock.close()
            return True
        self._broods[sock.fileno()] = brood
        self._poll.register(sock.fileno(), self._event)
        return True

    def _obey(self, brood: _Brood) -> None:
        try:
            message = brood.socket.recv(LARGEST)
        except OSError:
            message = b""
        slots = struct.unpack(f"<{len(message) // 2}H", message[1:])
        if message[:1] == START:
            self._to_start += [(brood, slot) for slot in slots]
        elif message[:1] == KILL:
            for slot in slots:
                self._kill(brood, slot)
        else:
            self._close(brood)

    def _kill(self, brood: _Brood, slot: int) -> None:
        from check_mounts.system import processes

        if slot in brood.pids:
            processes.kill(brood.pids[slot])
        elif (brood, slot) in self._to_start:
            self._to_start.remove((brood, slot))
            brood.tell(slot, ENDED, 0)

    def _close(self, brood: _Brood) -> None:
        """Kill the workers of a pool that its owner has closed. What SIGKILL does not end is reaped
        when it ends."""
        self._to_start = [each for each in self._to_start if each[0] is not brood]
        for slot in brood.pids:
            self._kill(brood, slot)
        if self._broods.pop(brood.socket.fileno(), None) is not None:
            self._poll.unregister(brood.socket.fileno())
            brood.socket.close()
            for fd in (brood.request_fd, brood.wake_fd):
                os.close(fd)

    def _start_some(self) -> None:
        some, self._to_start = self._to_start[:_AT_ONCE], self._to_start[_AT_ONCE:]
        for brood, slot in some:
            try:
                pid = os.fork()
            except OSError as error:
                brood.tell(slot, FAILED, error.errno or 0)
                continue
            if pid == 0:
                _work(brood, slot, self._pid)
            brood.pids[slot] = pid
            self._of[pid] = brood, slot
            brood.tell(slot, STARTED, pid)

    def _reap(self) -> None:
        """Reap the workers that have ended. The nursery has no other children."""
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                brood, slot = self._of.pop(pid)
                del brood.pids[slot]
                brood.tell(slot, ENDED, pid)
        except ChildProcessError:  # no children any more
            pass


def _brood(
    settings: tuple[int, int, int, Optional[tuple[int, ...]], bytes], sock: _socket.socket, fds: list[int], make: Make
) -> _Brood:
    """The brood of a pool that is opened. Raises OSError, and what ``make`` raises."""
    from check_mounts.system import forked
    from check_mounts.system.desks import Desks, Layout, shared

    count, answer_size, contents_size, groups, config = settings
    layout = Layout(count, answer_size)
    desks = Desks(layout, shared(fds[0], layout.size))
    contents = shared(fds[1], contents_size, read_only=True)
    handler = make(config, fds[_FDS - 1 :])
    for fd in fds[:2]:
        os.close(fd)
    return _Brood(sock, forked.Life(handler, desks, contents, groups), fds[2], fds[3])


def _work(brood: _Brood, slot: int, nursery: int) -> NoReturn:
    """In a child of the nursery: be a worker."""
    try:
        from check_mounts.system import forked

        forked.hatch(brood.request_fd, brood.wake_fd, nursery, brood.life.groups)
        brood.life.serve(slot, nursery)
    finally:
        os._exit(0)
