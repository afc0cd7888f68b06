"""What happened to the connections and the lease of an NFS mount, by two looks at the kernel's
counters.

Import budget: ``re``; mountstats. Reading them touches no mount."""

from __future__ import annotations

from collections.abc import Mapping

from check_mounts import text
from check_mounts.clocks import Monotonic, monotonic
from check_mounts.model import Mount
from check_mounts.probing import mountstats
from check_mounts.probing.mountstats import Transport
from check_mounts.typed import NamedTuple, Optional


class Look(NamedTuple):
    """One look at the counters of all NFS mounts: when it was, each mount point's, and the file
    that they are in."""

    time: Monotonic
    counters: Mapping[bytes, Transport]
    file: str = mountstats.OUR_OWN

    def of(self, mount: Mount) -> Optional[Transport]:
        """The counters of a mount."""
        return self.counters.get(mount.path) if mountstats.path_for(mount) == self.file else None


def look(mount: Mount) -> Look:
    """Look now at the counters of this mount, and of those that are in the same file. Raises
    nothing."""
    file = mountstats.path_for(mount)
    return Look(monotonic(), mountstats.read_mountstats(file), file)


def remarks(before: Optional[Look], now: Look, mount: Mount) -> list[str]:
    """What changed at a mount between two looks, and whether its lease has expired, in words; empty
    if there is nothing to say."""
    transport = now.of(mount)
    if transport is None:
        return []
    then = None if before is None else before.of(mount)
    elapsed = 0.0 if before is None else now.time - before.time
    changes = _changes(then, transport, elapsed) if then is not None and _is_same(then, transport, elapsed) else []
    return [*changes, *_lease_words(transport)]


def _is_same(then: Transport, now: Transport, elapsed: float) -> bool:
    """Whether both are of one mount, and no counter has fallen. The mount's age has grown by the
    time between the looks, apart from rounding; that of another mount, which came to the same place
    meanwhile, has not, unless the first one was new as well."""
    if then.age_seconds is None or now.age_seconds is None or (then.protocol, then.connections) != now[:2]:
        return False
    slack = 2.0 + 0.01 * elapsed
    grown = then.age_seconds > slack and abs(now.age_seconds - then.age_seconds - elapsed) <= slack
    fallen = (now.connects or 0) < (then.connects or 0) or now.bad_xids < then.bad_xids
    return elapsed > 0 and grown and not fallen


def _changes(then: Transport, now: Transport, elapsed: float) -> list[str]:
    within = f"in {text.seconds_words(round(elapsed, 1 if elapsed < 10 else 0))}"
    attempts = _attempts(now.protocol, (now.connects or 0) - (then.connects or 0))
    unasked = now.bad_xids - then.bad_xids
    found = []
    if attempts:
        times = "once" if attempts == 1 else f"{attempts} times"
        found.append(f"the client began to connect at least {times} {within}")
    if unasked:
        belong = "belongs" if unasked == 1 else "belong"
        replies = "1 reply" if unasked == 1 else f"{unasked} replies"
        found.append(f"{replies} {within} {belong} to no request (bad XIDs)")
    return found


def _attempts(protocol: str, connects: int) -> int:
    """The fewest attempts to connect that make the counter rise so far.

    Over TCP, an attempt that succeeds adds one or two: one when it begins (xs_stream_start_connect;
    not in all versions), one once the connection is made (xs_tcp_state_change, formerly
    xprt_connect_status). Over RDMA it adds one (xprt_rdma_connect_worker)."""
    return connects if protocol == "rdma" else -(-connects // 2)


def _lease_words(transport: Transport) -> list[str]:
    """The client counts from its last renewal that succeeded (show_lease in fs/nfs/super.c, since
    Linux 5.3). Whether the server has let go of the state, only the server knows."""
    expired = transport.lease_expired
    if not expired:
        return []
    return [f"its NFSv4 lease expired {expired} s ago: the server may have released its locks and open files"]
