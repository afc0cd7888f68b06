"""The requests of a pool that have no event yet, the pipe that all its workers take them from, and
the memory in which the workers find their contents.

Import budget: ``os``, ``resource``, ``select``; what desks and forked need."""

from __future__ import annotations

import mmap
import os
import resource
import select
from collections import deque

from check_mounts.clocks import monotonic
from check_mounts.system import syscalls
from check_mounts.system.desks import Desks, shared
from check_mounts.system.forked import REQUEST
from check_mounts.typed import Optional

# After this time, in seconds, a request that no worker seems to have is lost. It is long because
# the kernel may stop a worker between taking a request and noting it.
LOST_AFTER = 2.0
# How many bytes of contents may be in use at the same time: in a file in memory, which takes no
# more than what was written; and in memory that only children share, which may be locked as a whole
# (mlockall(2)). Other requests wait until there is room.
_FILE_ROOM, _MEMORY_ROOM = 1 << 25, 1 << 20


class Contents:
    """The contents of requests, one behind the other. ``fd``: the file in memory (-1: there is
    none)."""

    def __init__(self, fd: int) -> None:
        """Raises OSError."""
        self.fd, self.size = fd, _MEMORY_ROOM if fd < 0 or _is_address_space_limited() else _FILE_ROOM
        if fd >= 0:
            os.ftruncate(fd, self.size)
        # The parent writes into the file and does not map it, so that locked memory stays small.
        self.memory = shared(-1, self.size) if fd < 0 else None
        self._end = 0

    def mapped(self) -> mmap.mmap:
        """In a child of this process: the memory. Raises OSError."""
        return self.memory or shared(self.fd, self.size, read_only=True)

    def reset(self) -> None:
        """Begin again: nobody reads what is there."""
        self._end = 0

    def put(self, data: bytes) -> Optional[int]:
        """Add contents; return their offset, or None where there is no room."""
        offset, end = self._end, self._end + len(data)
        if end > self.size:
            return None
        if self.memory is not None:
            self.memory[offset:end] = data
        elif data:
            try:
                if os.pwrite(self.fd, data, offset) != len(data):
                    return None
            except OSError:  # no memory
                return None
        self._end = end
        return offset


def _is_address_space_limited() -> bool:
    """Whether ``ulimit -v`` may refuse a worker the map of a large file. A worker that cannot map
    it dies, and so does the next one."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


class Request:
    """``timeout``: in seconds after a worker begins. ``place``: where its answer comes to; -1
    before it is sent. ``missed_since``: since when no worker seems to have the request
    (CLOCK_MONOTONIC)."""

    __slots__ = ("content", "key", "missed_since", "place", "serial", "timeout")

    def __init__(self, serial: int, key: int, content: bytes, timeout: float) -> None:
        self.serial, self.key, self.content, self.timeout = serial, key, content, timeout
        self.place = -1
        self.missed_since: Optional[float] = None


class Pending:
    """Requests by their serial numbers (32 bits). The pipe holds the requests that were sent and
    not yet taken."""

    def __init__(self, desks: Desks, contents: Contents) -> None:
        """Raises OSError; then nothing is left open."""
        self.open: dict[int, Request] = {}
        self._desks, self._contents = desks, contents
        self._unsent: deque[Request] = deque()
        self._free = list(range(desks.layout.places - 1, -1, -1))
        self.used = 0  # all places that were ever given to a request are below this one
        self._serial = self._sent = 0
        self._misses_some = self._lost_some = False
        self.request_fd, self._send_fd = os.pipe()
        try:
            os.set_blocking(self._send_fd, False)
        except BaseException:  # a daemon tries again, and must not lose descriptors
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.open)

    def add(self, key: int, content: bytes, timeout: float) -> None:
        """Queue a request."""
        self._serial = self._serial % 0xFFFFFFFF + 1
        request = self.open[self._serial] = Request(self._serial, key, content, timeout)
        self._unsent.append(request)

    def answered(self, serial: int) -> Request:
        """Close a request that has its answer. Its worker does not write to the place again."""
        request = self.open.pop(serial)
        self._free.append(request.place)
        return request

    def free(self, place: int) -> None:
        """Use the place of a request again: the worker that had it is gone."""
        self._free.append(place)

    def take_all(self) -> list[int]:
        """Give up all requests; return their keys."""
        keys = [request.key for request in self.open.values()]
        self.open.clear()
        self._unsent.clear()
        return keys

    @property
    def all_sent(self) -> bool:
        """Whether all requests were written into the pipe."""
        return not self._unsent

    def send(self) -> None:
        """Write as many requests as there are places for, and as the pipe takes. Up to PIPE_BUF
        bytes are written as a whole or not at all (pipe(7))."""
        if len(self._unsent) == len(self.open) and not self._lost_some:
            self._contents.reset()
        most = select.PIPE_BUF // REQUEST.size
        while self._unsent and self._free and self._send_some(min(most, len(self._unsent), len(self._free))):
            pass

    def _send_some(self, count: int) -> bool:
        some = [self._unsent[number] for number in range(count)]
        offset = self._contents.put(b"".join([request.content for request in some]))
        if offset is None:
            return False
        records, pack = [], REQUEST.pack
        for request, place in zip(some, self._free[: -count - 1 : -1]):
            size = len(request.content)
            records.append(pack(request.serial, request.key, place, size, offset))
            request.place = place
            offset += size
        last = some[-1].serial
        self._desks.announce(last)
        try:
            os.write(self._send_fd, b"".join(records))
        except OSError:
            # The pipe is full of thousands of requests: send more after the next answers. Or no
            # memory is left: send more a little later.
            self._desks.announce(self._sent)
            return False
        self._sent = last
        del self._free[-count:]
        for _ in some:
            self._unsent.popleft()
        self.used = max(self.used, max(request.place for request in some) + 1)
        return True

    def give_up_lost(self, known: int) -> list[Request]:
        """Give up the requests that no worker has, and return them.

        The worker that took such a request was killed before it could note that, or it answered
        nonsense. A request is given up only after a while, because a worker may be about to note
        it. ``known``: how many requests have a worker."""
        if known or self._unsent or bytes_waiting(self.request_fd) != 0:
            self._miss_none()
            return []
        now = monotonic()
        lost = []
        for request in self.open.values():
            if request.missed_since is None:
                request.missed_since = now
            if now - request.missed_since >= LOST_AFTER:
                lost.append(request)
        self._misses_some = True
        for request in lost:
            # Its place and its content stay as they are: a worker that was stopped for long may
            # still read the one and write to the other.
            del self.open[request.serial]
            self._lost_some = True
        return lost

    def _miss_none(self) -> None:
        if self._misses_some:
            for request in self.open.values():
                request.missed_since = None
            self._misses_some = False

    def close(self) -> None:
        """Close the pipe. Workers that wait for a request then end."""
        for fd in (self._send_fd, self.request_fd):
            syscalls.close(fd)


def bytes_waiting(fd: int) -> Optional[int]:
    """How many bytes are in a pipe; None where the kernel does not say."""
    try:
        return syscalls.bytes_waiting(fd)
    except OSError:
        return None
