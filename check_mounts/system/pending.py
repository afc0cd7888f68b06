"""The requests of a pool that have no event yet, and the pipe that all its workers take them from.

Import budget: ``os``, ``select``; what forked needs."""

from __future__ import annotations

import os
import select
from collections import deque

from check_mounts.clocks import monotonic
from check_mounts.system import syscalls
from check_mounts.system.forked import KEY
from check_mounts.typed import Optional

# After this time, in seconds, a request that no worker seems to have is lost. It is long because
# the kernel may stop a worker between taking a request and noting it.
LOST_AFTER = 2.0


class _Request:
    """``timeout``: in seconds after a worker begins. ``missed_since``: since when no worker seems
    to have the request (CLOCK_MONOTONIC)."""

    __slots__ = ("missed_since", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.missed_since: Optional[float] = None


class Pending:
    """Requests by their keys (32 bits). The pipe holds the requests that were sent and not yet
    taken."""

    def __init__(self) -> None:
        """Raises OSError; then nothing is left open."""
        self._open: dict[int, _Request] = {}
        self._unsent: deque[int] = deque()
        self._misses_some = False
        self.request_fd, self._send_fd = os.pipe()
        try:
            os.set_blocking(self._send_fd, False)
        except BaseException:  # a daemon tries again, and must not lose descriptors
            self.close()
            raise

    def __contains__(self, key: object) -> bool:
        return key in self._open

    def __len__(self) -> int:
        return len(self._open)

    def add(self, key: int, timeout: float) -> None:
        """Queue a request."""
        self._open[key] = _Request(timeout)
        self._unsent.append(key)

    def timeout(self, key: int) -> float:
        """How long a request may take, in seconds."""
        return self._open[key].timeout

    def close_one(self, key: int) -> None:
        """Close a request that has its event."""
        self._open.pop(key, None)

    def take_all(self) -> list[int]:
        """Give up all requests; return their keys."""
        keys = list(self._open)
        self._open.clear()
        self._unsent.clear()
        return keys

    @property
    def all_sent(self) -> bool:
        """Whether all requests were written into the pipe."""
        return not self._unsent

    def send(self) -> None:
        """Write as many requests as the pipe takes. Up to PIPE_BUF bytes are written as a whole or
        not at all (pipe(7))."""
        while self._unsent:
            keys = [self._unsent[i] for i in range(min(len(self._unsent), select.PIPE_BUF // KEY.size))]
            try:
                os.write(self._send_fd, b"".join(map(KEY.pack, keys)))
            except OSError:
                # The pipe is full of thousands of requests: send more after the next answers. Or no
                # memory is left: send more a little later.
                return
            for _ in keys:
                self._unsent.popleft()

    def give_up_lost(self, known: int) -> list[int]:
        """Give up the requests that no worker has; return their keys.

        The worker that took such a request was killed before it could note that, or it answered
        nonsense. A request is given up only after a while, because a worker may be about to note
        it. ``known``: how many requests have a worker or an answer."""
        if known or self._unsent or bytes_waiting(self.request_fd) != 0:
            self._miss_none()
            return []
        now = monotonic()
        lost = []
        for key, request in self._open.items():
            if request.missed_since is None:
                request.missed_since = now
            if now - request.missed_since >= LOST_AFTER:
                lost.append(key)
        self._misses_some = True
        for key in lost:
            self.close_one(key)
        return lost

    def _miss_none(self) -> None:
        if self._misses_some:
            for request in self._open.values():
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
