"""How long servers take for the least that can be asked of them: a connection, and a call that does
nothing.

Import budget: that of examination. A worker measures, because it does nothing else meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from check_mounts.probing.examination import examine
from check_mounts.probing.replies import Reply, Verdict
from check_mounts.probing.servers import Server
from check_mounts.slowness import Asked
from check_mounts.typed import Optional

# Each server is asked so often. The median of the calls counts, because one may come at a good or a
# bad moment; and the second quickest connection, because this process may be late, and no
# connection is quicker than the wire.
_TIMES, _SECOND = 5, 1
# The most servers that are asked, and how long for each time, in seconds.
MOST, _PATIENCE = 32, 1.5
# The longest that it all takes.
LONGEST = _TIMES * _PATIENCE
_ANSWERED = frozenset((Verdict.RPC_ANSWERED, Verdict.RPC_ERROR))


def measure(
    servers: Iterable[Server], clock: Callable[[], float] = time.monotonic, times: int = _TIMES
) -> Mapping[Server, Asked]:
    """Ask all servers at the same time, again and again. Servers that most times accept no
    connection are left out. Nothing that a server does raises an exception."""
    replies: dict[Server, list[Reply]] = {server: [] for server in list(dict.fromkeys(servers))[:MOST]}
    for _ in range(times):
        for server, reply in examine(replies, _PATIENCE, clock).items():
            replies[server].append(reply)
    found = {server: _asked(each) for server, each in replies.items()}
    return {server: asked for server, asked in found.items() if asked is not None}


def _asked(replies: Sequence[Reply]) -> Optional[Asked]:
    made = sorted([reply.connect_seconds for reply in replies if reply.connect_seconds is not None])
    if len(made) <= len(replies) // 2:
        return None
    return Asked(made[min(_SECOND, len(made) - 1)], _median([_null(reply) for reply in replies]))


def _null(reply: Reply) -> Optional[float]:
    if reply.verdict not in _ANSWERED or reply.seconds is None or reply.connect_seconds is None:
        return None
    return reply.seconds - reply.connect_seconds


def _median(times: Sequence[Optional[float]]) -> Optional[float]:
    """The median, where None is longer than any time."""
    known = sorted([each for each in times if each is not None])
    middle = len(times) // 2
    return known[middle] if middle < len(known) else None
