"""The servers of mounts that are slower than usual are asked, to find out where the time is.

A worker asks, which does nothing else meanwhile: the daemon itself may be busy for a second, and
would take that for a slow connection."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from check_mounts.clocks import PAST, Monotonic, after, monotonic
from check_mounts.daemon.errand import Errand, Result
from check_mounts.probing import timing
from check_mounts.probing.servers import Server
from check_mounts.slowness import Asked
from check_mounts.typed import Optional

# A server is asked again after so many seconds, as long as its mounts are slow.
_AGAIN = 50.0
# The size of a worker's answer, in bytes: two numbers for each server.
_ANSWER = 64 * timing.MOST


class Whereabouts:
    """Asks servers, some at a time. A task that never ends (see tasks.Task)."""

    done = False

    def __init__(self) -> None:
        self._errand = Errand(self._work, _ANSWER, timing.LONGEST + 1, self._take)
        # What each server took; None if it could not be asked.
        self._asked: dict[Server, Optional[Asked]] = {}
        self._waiting: list[Server] = []
        self._given: Sequence[Server] = ()
        self._next = PAST
        self._is_news = False

    def want(self, servers: Collection[Server]) -> None:
        """Ask these servers, and forget all others."""
        self._asked = {server: asked for server, asked in self._asked.items() if server in servers}
        all_again = monotonic() >= self._next
        if all_again:
            self._next = after(_AGAIN)
        due = [each for each in servers if (all_again or each not in self._asked) and each not in self._given]
        self._waiting = list(dict.fromkeys(due))
        self.step()

    def is_settled(self, server: Server) -> bool:
        """Whether there is no first answer of this server to wait for."""
        return server in self._asked or self._errand.is_stuck or server not in (*self._given, *self._waiting)

    def of(self, server: Server) -> Optional[Asked]:
        """What the server took; None if that is not known."""
        return self._asked.get(server)

    def take_news(self) -> bool:
        """Whether a server was asked for the first time since this was called."""
        is_news, self._is_news = self._is_news, False
        return is_news

    # -- the task

    def fileno(self) -> int:
        """A descriptor that is readable once the worker has answered."""
        return self._errand.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        return self._errand.due(bool(self._waiting))

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._errand.step(until)
        if self._waiting and not (self._errand.is_under_way or self._errand.is_stuck):
            self._given, self._waiting = self._waiting[: timing.MOST], self._waiting[timing.MOST :]
            try:
                self._errand.begin()
            except OSError:  # then nobody can be asked now
                self._note([])

    def _work(self) -> bytes:
        """In the worker: ask."""
        found = timing.measure(self._given)
        return json.dumps([_rounded(found.get(server)) for server in self._given], separators=(",", ":")).encode()

    def _take(self, result: Result) -> None:
        self._note([] if result.answer is None else json.loads(result.answer))

    def _note(self, answers: Sequence[Optional[Sequence[float]]]) -> None:
        for place, server in enumerate(self._given):
            answer = answers[place] if place < len(answers) else None
            self._is_news = self._is_news or server not in self._asked
            self._asked[server] = None if answer is None else Asked(*answer)
        self._given = ()

    def close(self) -> None:
        """Stop."""
        self._errand.end()


def _rounded(asked: Optional[Asked]) -> Optional[Sequence[Optional[float]]]:
    return None if asked is None else [None if each is None else round(each, 6) for each in asked]
