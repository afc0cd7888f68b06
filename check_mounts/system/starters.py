"""Two ways to start the workers of a pool: in the nursery, and as children of this process.

Both only report what has happened. A worker that has died is gone once its parent has reaped it.

Import budget: ``_socket``, ``os``, ``resource``, ``select``, ``struct``; what nursery and forked
need."""

from __future__ import annotations

import errno
import os
import resource
import select
import struct
from collections.abc import Collection, Iterable, Sequence

from check_mounts.clocks import NEVER, after, monotonic
from check_mounts.system import forked, nursery, processes, signals, syscalls
from check_mounts.system.desks import Layout
from check_mounts.system.forked import Life
from check_mounts.system.nursery import Nursery
from check_mounts.system.pending import Contents
from check_mounts.typed import NamedTuple, NoReturn, Optional, Protocol

# If the nursery has not told for so long, in seconds, that it has started a worker, the pool does
# without it: it may hang at a file that it loads.
_PATIENCE = 2.0
# If this process looks for news so late, in seconds, the whole host was stopped or is overloaded.
_LATE = 0.3


class News(NamedTuple):
    """What has happened to a slot: its process has a ``pid``, or could not be forked (``errno``),
    or, with neither, has died."""

    slot: int
    pid: int = 0
    errno: int = 0


class Starter(Protocol):
    """A way to start workers. ``is_dead``: it starts no worker any more, and those that it started
    are dead, or die once no system call holds them. ``are_children``: the workers are children of
    this process."""

    are_children: bool
    is_dead: bool

    def start(self, slots: Sequence[int]) -> None:
        """Start workers in these slots."""

    def news(self, ready: Collection[int]) -> list[News]:
        """What has happened since the last call; ``ready`` are the descriptors with news."""

    def kill(self, slots: Iterable[int]) -> None:
        """Send SIGKILL to workers, and do not wait. They may be in a system call that no signal
        ends. Where the kernel refuses it, a worker is gone already, or runs as a user whose
        processes we may not kill (EPERM without CAP_KILL)."""

    def forget(self, slot: int) -> None:
        """Expect no more news of a worker."""

    def is_gone(self, slot: int) -> bool:
        """Whether the process of a slot does not exist any more. Then the slot is free."""

    def close(self) -> None:
        """Start no worker any more."""


class Here:
    """Workers are children of this process.

    Each wakes its parent through a pipe of its own; when it dies, there is the end of file."""

    are_children = True

    def __init__(self, life: Life, request_fd: int, contents: Contents, poll: select.epoll) -> None:
        """Raises OSError."""
        _allow_descriptors(life.desks.layout.count + 64)
        self.is_dead = False
        self._contents = contents
        self._life, self._request_fd, self._poll, self._parent = life, request_fd, poll, os.getpid()
        self._pids: dict[int, int] = {}
        self._slots: dict[int, int] = {}  # by the read ends of the pipes
        self._pipes: dict[int, int] = {}  # the read ends by the slots
        self._news: list[News] = []
        self._devnull = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def start(self, slots: Sequence[int]) -> None:
        """Fork. After a failure, the rest of the slots fail as well."""
        for number, slot in enumerate(slots):
            pipe: tuple[int, ...] = ()
            try:
                pipe = os.pipe()
                for fd in pipe:
                    os.set_blocking(fd, False)
                self._poll.register(pipe[0], select.EPOLLIN)
                pid = os.fork()
            except OSError as error:
                for fd in pipe:  # closing them also removes them from the epoll
                    syscalls.close(fd)
                self._news += [News(each, errno=error.errno or errno.EAGAIN) for each in slots[number:]]
                return
            if pid == 0:
                self._live(slot, pipe[1])
            os.close(pipe[1])
            self._pids[slot], self._slots[pipe[0]], self._pipes[slot] = pid, slot, pipe[0]
            self._news.append(News(slot, pid))

    def _live(self, slot: int, wake_fd: int) -> NoReturn:
        """Be a worker. This never returns into the parent's code, not even after an exception."""
        try:
            self._poll.close()  # what follows takes descriptors, and a limit may leave none
            self._life.contents = self._contents.mapped()
            if self._contents.fd >= 0:
                os.close(self._contents.fd)
            forked.settle(self._request_fd, wake_fd, self._devnull, self._parent, self._life.groups)
            self._life.serve(slot, self._parent)
        finally:
            os._exit(0)

    def news(self, ready: Collection[int]) -> list[News]:
        """What has happened since the last call."""
        for fd in ready:
            if fd in self._slots:
                self._read(fd)
        news, self._news = self._news, []
        return news

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, 4096)
        except OSError:  # EAGAIN; or no memory: the next look at the worker finds what it missed
            return
        if not data:
            slot = self._slots[fd]
            self._news.append(News(slot))
            self.forget(slot)

    def forget(self, slot: int) -> None:
        """Close the pipe of a worker: a stuck one must not keep a descriptor of this process."""
        fd = self._pipes.pop(slot, None)
        if fd is not None:
            del self._slots[fd]
            try:
                self._poll.unregister(fd)
            except OSError:  # closing the descriptor removes it anyway
                pass
            syscalls.close(fd)

    def kill(self, slots: Iterable[int]) -> None:
        """Send SIGKILL to workers that are not reaped yet."""
        for slot in slots:
            if slot in self._pids:
                processes.kill(self._pids[slot])

    def is_gone(self, slot: int) -> bool:
        """Whether the worker is reaped; reap it if it has ended."""
        if slot in self._pids and processes.reap(self._pids[slot]):
            del self._pids[slot]
        return slot not in self._pids

    def close(self) -> None:
        """Start no worker any more."""
        self.is_dead = True
        for fd in (*self._slots, self._devnull):
            syscalls.close(fd)
        self._slots.clear()
        self._pipes.clear()


class There:
    """Workers are children of the nursery. They share one pipe to wake the parent."""

    are_children = False

    def __init__(
        self,
        home: Nursery,
        layout: Layout,
        groups: Optional[tuple[int, ...]],
        config: bytes,
        fds: Sequence[int],
        contents_size: int,
        poll: select.epoll,
    ) -> None:
        """``fds``: the memory of the desks, the contents, the pipe of requests, and what ``config``
        speaks of. Raises OSError."""
        self.is_dead = False
        self._unsent: list[bytes] = []
        self._pids: dict[int, int] = {}
        self._orphans: dict[int, tuple[int, Optional[int]]] = {}  # slot -> pid and start
        self._gone: set[int] = set()
        self._awaited: set[int] = set()  # slots that have no process yet
        self._until = NEVER
        self._looked = monotonic()
        self._wake_fd, wake = os.pipe()
        try:
            for fd in (self._wake_fd, wake):
                os.set_blocking(fd, False)
            self._socket = home.open(layout, contents_size, groups, config, (*fds[:3], wake, *fds[3:]))
            for fd in (self._wake_fd, self._socket.fileno()):
                poll.register(fd, select.EPOLLIN)
        except BaseException:
            os.close(self._wake_fd)
            raise
        finally:
            os.close(wake)

    def start(self, slots: Sequence[int]) -> None:
        """Have the nursery fork."""
        self._gone.difference_update(slots)
        self._awaited.update(slots)
        self._until = after(_PATIENCE)
        self._command(nursery.START, slots)

    def kill(self, slots: Iterable[int]) -> None:
        """Have the nursery kill."""
        self._command(nursery.KILL, list(slots))

    def _command(self, what: bytes, slots: Sequence[int]) -> None:
        if slots:
            self._unsent.append(what + struct.pack(f"<{len(slots)}H", *slots))
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                self._socket.send(self._unsent[0], nursery.QUIETLY)
            except BlockingIOError:  # it is slow, or stopped
                return
            except OSError:
                self.is_dead = True
                return
            del self._unsent[0]

    def news(self, ready: Collection[int]) -> list[News]:
        """What the nursery tells. Without any word from it for too long, it is dead to us."""
        if self._wake_fd in ready:
            signals.drain(self._wake_fd)
        looked, self._looked = self._looked, monotonic()
        if self._looked - looked > _LATE:
            self._until = after(_PATIENCE)
        found: list[News] = []
        if not self._awaited and not self._unsent and self._socket.fileno() not in ready:
            return found
        try:
            while message := self._socket.recv(nursery.LARGEST):
                found += [self._understand(*each) for each in nursery.NEWS.iter_unpack(message)]
            self.is_dead = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_dead = True
        if found:
            self._until = after(_PATIENCE)
        self._flush()
        self.is_dead = self.is_dead or bool(self._awaited and monotonic() >= self._until)
        if self.is_dead:
            nursery.leave()
        return found

    def _understand(self, slot: int, what: int, number: int) -> News:
        self._awaited.discard(slot)
        if what == nursery.STARTED:
            self._pids[slot] = number
            return News(slot, pid=number)
        self._pids.pop(slot, None)
        self._gone.add(slot)
        return News(slot, errno=number) if what == nursery.FAILED else News(slot)

    def forget(self, slot: int) -> None:
        """Expect no more news of a worker, but that it is gone."""

    def is_gone(self, slot: int) -> bool:
        """Whether the nursery has reaped the worker, or never had it; without a nursery, whether
        its process has ended."""
        if slot in self._orphans:
            pid, start = self._orphans[slot]
            if start is None or processes.process_start(pid) != start:
                self._gone.add(slot)
        return slot in self._gone

    def close(self) -> None:
        """The nursery kills what is left."""
        self.is_dead = True
        self._orphans.update((slot, (pid, processes.process_start(pid))) for slot, pid in self._pids.items())
        self._pids.clear()
        self._socket.close()
        if self._wake_fd >= 0:
            syscalls.close(self._wake_fd)
            self._wake_fd = -1


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files to ``count``, or as far as the hard limit allows.

    The limit is 1,024 on most systems, and each worker takes one descriptor of the parent. Where
    the limit cannot be raised, there are fewer workers at a time."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # a filter of system calls: then there are fewer workers at a time
