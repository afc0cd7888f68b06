"""The servers that a pass asks: which of them is asked when, how many at a time, and which the pass
waits for.

Import budget: ``errno``, ``select``, ``socket``, ``time`` (examination). No mount is touched."""

from __future__ import annotations

from collections.abc import Iterable

from check_mounts.clocks import Monotonic, after, monotonic
from check_mounts.probing.examination import Examination
from check_mounts.probing.replies import Reply
from check_mounts.probing.servers import Server
from check_mounts.typed import Optional

# No further servers are asked while so many connections are open: the pool of workers needs
# descriptors as well.
_AT_ONCE = 256


class Interviews:
    """All servers of a pass; each is asked once. ``moment``: how long a server is waited for, in
    seconds since it was asked. ``latest``: when the pass ends (CLOCK_MONOTONIC). ``replies`` has
    the replies so far."""

    def __init__(self, moment: float, latest: Monotonic) -> None:
        self.replies: dict[Server, Reply] = {}
        self._moment, self._latest = moment, latest
        # Those that will be asked, and until when; None: for a moment.
        self._next: dict[Server, Optional[Monotonic]] = {}
        self._begun: dict[Server, Monotonic] = {}
        self._running: list[Examination] = []
        # Those that the pass waits for, and until when; None: for a moment.
        self._awaited: dict[Server, Optional[Monotonic]] = {}

    @property
    def busy(self) -> bool:
        """Whether a server may still reply."""
        return bool(self._running or self._next)

    @property
    def awaits_any(self) -> bool:
        """Whether the pass should go on for the reply of a server."""
        now = monotonic()
        return now < self._latest and any(
            server not in self.replies and now < self._until(server, until) for server, until in self._awaited.items()
        )

    def _until(self, server: Server, until: Optional[Monotonic]) -> Monotonic:
        if until is not None:
            return until
        begun = self._begun.get(server)
        return self._latest if begun is None else Monotonic(begun + self._moment)

    def ask(self, servers: Iterable[Server], until: Optional[Monotonic] = None, wait: bool = True) -> None:
        """Have :meth:`step` ask the servers that were not asked yet. ``until``: when they are given
        up; without it, after a moment. ``wait``: the pass should wait for them as long."""
        for server in servers:
            if server not in self._begun:
                self._next.setdefault(server, until)
            if wait:
                self._awaited[server] = None if until is None else self._awaited.get(server, until)

    def step(self) -> None:
        """Begin and continue conversations, without waiting."""
        if self._next:
            self._begin()
        for examination in self._running:
            examination.step()
        self._collect()

    def _begin(self) -> None:
        taken = sum(len(examination.fds()) for examination in self._running)
        if taken and taken + len(self._next) > _AT_ONCE:
            return
        together: dict[Optional[Monotonic], list[Server]] = {}
        for server, until in self._next.items():
            together.setdefault(until, []).append(server)
        self._begun.update(dict.fromkeys(self._next, monotonic()))
        self._next = {}
        for until, servers in together.items():
            self._running.append(Examination(servers, after(self._moment) if until is None else until))

    def _collect(self) -> None:
        for examination in self._running:
            self.replies.update(examination.replies)
        self._running = [each for each in self._running if not each.finished]

    def close(self) -> None:
        """Take all replies. A server that has not replied is silent if it had enough time."""
        for examination in self._running:
            examination.step()
            examination.close()
        self._collect()
