"""The inside of the nursery: it forks, kills and reaps workers as it is told (see nursery).

Import budget: ``_signal``, ``_socket``, ``gc``, ``marshal``, ``os``, ``select``, ``struct``; what
desks and forked need. All of it is memory of each worker."""

from __future__ import annotations

import _socket
import gc
import marshal
import os
import select
import struct

from check_mounts.system import forked, processes, signals
from check_mounts.system.desks import Desks, Layout, shared
from check_mounts.system.nursery import ENDED, FAILED, KILL, LARGEST, NEWS, QUIETLY, START, STARTED
from check_mounts.typed import TYPE_CHECKING, NoReturn, Optional

if TYPE_CHECKING:
    from check_mounts.system.nursery import Make

# The descriptors of a message that opens a pool: its socket, desks, contents, requests, wake-up.
_FDS, _MOST_FDS = 5, 16
# How many workers are forked between two looks at the sockets.
_AT_ONCE = 32
# Numbers 3 and 4 are taken, so that a descriptor that a message brings never has a number that a
# worker's own descriptors get.
_CONTROL_FD = 5


def settle(control: int, parent: int) -> None:
    """Leave the parent's session, descriptors and signals; keep the control socket."""
    signals.reset_to_default()
    # A supervisor or a terminal that ends the whole service sends signals here, too. They must not
    # end the workers before our parent has taken their answers.
    forked.block_signals()
    devnull = os.open("/dev/null", os.O_RDWR)
    forked.leave((devnull, devnull, control), devnull, b"check_mounts:n", parent)


def run(make: Make) -> None:
    """Be the nursery until the parent is gone. Call :func:`settle` before."""
    # Never a look for garbage, not even now: that would write to all pages, which this process
    # shares with its parent, and its workers share with this process.
    gc.disable()
    gc.freeze()
    _Broods(_socket.socket(fileno=_CONTROL_FD), make).run()


class _Brood:
    """The workers of one pool: their pids by their slots."""

    __slots__ = ("life", "news", "pids", "request_fd", "socket", "wake_fd")

    def __init__(self, sock: _socket.socket, life: forked.Life, request_fd: int, wake_fd: int) -> None:
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
            self.socket.send(b"".join(news), QUIETLY)


class _Broods:
    """All workers, by the pools that they work for."""

    def __init__(self, control: _socket.socket, make: Make) -> None:
        self._control, self._make, self._pid = control, make, os.getpid()
        self._poll = select.poll()
        self._wake_fd = forked.wake_at_ends()
        self._broods: dict[int, _Brood] = {}  # by the descriptors of their sockets
        self._of: dict[int, tuple[_Brood, int]] = {}  # pid -> its brood and slot
        self._to_start: list[tuple[_Brood, int]] = []
        for fd in (control.fileno(), self._wake_fd):
            self._poll.register(fd, select.POLLIN)
        self._event = select.POLLIN
        # The groups that this process has now, as pools name them; and those that it had at first
        # (workers of root get none).
        self._own_groups = None if os.geteuid() == 0 else tuple(os.getgroups())
        self._groups: Optional[tuple[int, ...]] = None
        forked.take_groups(None)

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
        if not self._to_start:
            return
        brood = self._to_start[0][0]
        slots: list[int] = []
        while self._to_start and self._to_start[0][0] is brood and len(slots) < _AT_ONCE:
            slots.append(self._to_start.pop(0)[1])
        self._take_groups(brood.life.groups)
        pids: list[int] = []
        errno = _fork_all(brood, slots, pids, self._pid)
        for slot, pid in zip(slots, pids):
            brood.pids[slot] = pid
            self._of[pid] = brood, slot
            brood.tell(slot, STARTED, pid)
        for slot in slots[len(pids) :]:
            brood.tell(slot, FAILED, errno)

    def _take_groups(self, groups: Optional[tuple[int, ...]]) -> None:
        """Take the supplementary groups of the next workers, which inherit them."""
        if groups != self._groups:
            forked.take_groups(self._own_groups if groups is None else groups)
            self._groups = groups

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
    settings: tuple[int, int, int, int, Optional[tuple[int, ...]], bytes],
    sock: _socket.socket,
    fds: list[int],
    make: Make,
) -> _Brood:
    """The brood of a pool that is opened. Raises OSError, and what ``make`` raises."""
    count, answer_size, most_open, contents_size, groups, config = settings
    layout = Layout(count, answer_size, most_open)
    desks = Desks(layout, shared(fds[0], layout.size))
    os.close(fds[0])  # at once: a limit may leave few descriptors
    contents = shared(fds[1], contents_size, read_only=True)
    os.close(fds[1])
    handler = make(config, fds[_FDS - 1 :])
    return _Brood(sock, forked.Life(handler, desks, contents, groups), fds[2], fds[3])


def _fork_all(brood: _Brood, slots: list[int], pids: list[int], nursery: int) -> int:
    """Fork a worker for each slot. After a failure, stop and return its errno, else 0.

    A page that this process writes to between two forks is copied, and the workers from before keep
    the old one: so as little as possible happens between them."""
    fork, append = os.fork, pids.append
    try:
        for slot in slots:
            pid = fork()
            if not pid:
                _work(brood, slot, nursery)
            append(pid)
    except OSError as error:
        return error.errno or 0
    return 0


def _work(brood: _Brood, slot: int, nursery: int) -> NoReturn:
    """In a child of the nursery: be a worker."""
    try:
        forked.hatch(brood.request_fd, brood.wake_fd, nursery)
        brood.life.serve(slot, nursery)
    finally:
        os._exit(0)
