"""The kernel's counters of NFS mounts (/proc/self/mountstats).

Import budget: ``os``, ``re``. Reading the file touches no mount, like reading the mount
table. Whatever the file says, the result is a value and not an exception."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from check_mounts import tablelines, text
from check_mounts.model import Mount
from check_mounts.typed import NamedTuple, Optional


class Transport(NamedTuple):
    """The counters of the connections of an NFS mount, those of ``nconnect=`` added up.

    The kernel counts per client and server, so mounts of one server share the counters. A value
    that the file does not have is None.

    - ``sends`` and ``receives`` count transmissions and replies, ``bad_xids`` replies that belong
      to no open request.
    - ``connect_time`` is in seconds, with old kernels in jiffies.
    - ``backlog`` and ``pending`` are not the lengths of queues, but sums: each transmission adds
      the length that the queue had then.
    - ``idle_seconds``: the time since last_used in struct rpc_xprt, that is, since a request was
      last finished (answered or given up) or a connection was made, not since one was sent. The
      kernel writes 0 where it is not connected, so 0 becomes None.
    - ``retransmissions`` and ``timeouts`` are of finished requests; those that hang do not count
      yet.
    - ``age_seconds``: the time since the mount was mounted.
    - ``lease_expired``: for how many seconds the lease of NFS 4 has been expired, 0 if it is
      valid. None for other versions, and before Linux 5.3."""

    protocol: str
    connections: int
    sends: int
    receives: int
    bad_xids: int
    backlog: int
    pending: Optional[int] = None
    connects: Optional[int] = None
    connect_time: Optional[int] = None
    idle_seconds: Optional[int] = None
    retransmissions: Optional[int] = None
    timeouts: Optional[int] = None
    age_seconds: Optional[int] = None
    lease_expired: Optional[int] = None

    @property
    def in_flight(self) -> int:
        """The number of transmissions without a reply, which is at least that of the requests in
        flight. A request that was sent twice and answered once adds one for good, and so does a
        request that was given up."""
        return max(0, self.sends - self.receives)


# show_vfsstat in fs/proc_namespace.c: it escapes blanks, newlines and backslashes of what users may
# choose, so only the first line of a mount begins with ``device`` or ``no device``.
_NFS = rb"([^ \t\n]+) mounted on ([^ \t\n]+) with fstype nfs4? statvers=1\.[01]\Z"
_COUNTED = ("sends", "receives", "bad_xids", "requests", "backlog")
_QUEUES = ("slots", "sending", "pending")  # since statvers 1.1
_CONNECTION = ("bind", "connects", "connect_time", "idle")
# xs_tcp_print_stats and similar functions in net/sunrpc/xprtsock.c, xprt_rdma_print_stats:
# protocol -> the columns that are always there, and those that may be there.
_COLUMNS: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {
    b"tcp": (("port", *_CONNECTION, *_COUNTED), _QUEUES),
    b"udp": (("port", "bind", *_COUNTED), _QUEUES),
    b"rdma": (("port", *_CONNECTION, *_COUNTED), ()),  # the columns after these are special to RDMA
    b"local": ((*_CONNECTION, *_COUNTED), _QUEUES),
}


class Entry(NamedTuple):
    """What the file says of one NFS mount. Its source and its mount point are unescaped; ``text``
    are the whole lines below the first one."""

    source: bytes
    mount_point: bytes
    text: bytes


OUR_OWN = "/proc/self/mountstats"


def path_for(mount: Mount) -> str:
    """The file that has the counters of a mount: ours, or that of the process that the mount is
    seen through."""
    if mount.seen_at is None:
        return OUR_OWN
    return os.fsdecode(os.path.dirname(mount.seen_at.base) + b"/mountstats")


def contents(path: str = OUR_OWN) -> bytes:
    """The file; empty if it cannot be read. This takes no longer than reading the mount table:
    the kernel prints counters that it has, and asks no server."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def read_mountstats(path: str = OUR_OWN) -> dict[bytes, Transport]:
    """Read the counters of all NFS mounts; return an empty dict if the file cannot be read."""
    return parse_mountstats(contents(path))


def parse_mountstats(data: bytes) -> dict[bytes, Transport]:
    """Mount point (unescaped) -> its transport, of NFS mounts (nfs_show_stats in fs/nfs/super.c).

    If several mounts are on one point, the last one counts, which is on top. Lines that cannot be
    understood are left out. Never raises."""
    found: dict[bytes, Transport] = {}
    for entry in entries(data):
        found.pop(entry.mount_point, None)
        transport = _transport([line.strip(b"\t ") for line in entry.text.split(b"\n")])
        if transport is not None:
            found[entry.mount_point] = transport
    return found


def entries(data: bytes) -> Iterator[Entry]:
    """The NFS mounts of the file, in its order. A last line without a newline is ignored: a part of
    its last number may be missing."""
    whole = b"\n" + data[: data.rfind(b"\n") + 1]
    for part in whole.split(b"\ndevice ")[1:]:
        head, _, lines = part.partition(b"\n")
        nfs = re.match(_NFS, head)
        if nfs is not None:
            lines = (b"\n" + lines).partition(b"\nno device ")[0]
            yield Entry(tablelines.unescaped(nfs[1]), tablelines.unescaped(nfs[2]), lines)


def _transport(lines: list[bytes]) -> Optional[Transport]:
    connections = [_connection(line) for line in lines if line.startswith(b"xprt:")]
    known = [connection for connection in connections if connection is not None]
    if not known or len(known) < len(connections):
        return None  # the sum would be too small

    def total(name: str) -> Optional[int]:
        return sum(columns[name] for _, columns in known) if all(name in columns for _, columns in known) else None

    idle = min(columns.get("idle", 0) for _, columns in known)
    retransmissions, timeouts = _operations(lines)
    return Transport(
        protocol=known[0][0],
        connections=len(known),
        sends=total("sends") or 0,
        receives=total("receives") or 0,
        bad_xids=total("bad_xids") or 0,
        backlog=total("backlog") or 0,
        pending=total("pending"),
        connects=total("connects"),
        connect_time=total("connect_time"),
        # The connection that was used last counts; if the time of one is not known, neither is
        # this.
        idle_seconds=idle if idle > 0 else None,
        retransmissions=retransmissions,
        timeouts=timeouts,
        age_seconds=_age(lines),
        lease_expired=_lease(lines),
    )


def _connection(line: bytes) -> Optional[tuple[str, dict[str, int]]]:
    """``xprt: tcp 875 1 1 0 84 ...`` -> protocol and its columns; None if the protocol is not known
    here."""
    fields = line.split()
    if len(fields) < 2 or fields[1] not in _COLUMNS:
        return None
    required, optional = _COLUMNS[fields[1]]
    numbers = [int(field) for field in fields[2:] if _is_number(field)]
    if len(numbers) < max(len(required), len(fields) - 2):
        return None
    return fields[1].decode("ascii"), dict(zip(required + optional, numbers))


def _operations(lines: list[bytes]) -> tuple[Optional[int], Optional[int]]:
    """(retransmissions, timeouts) over ``NAME: ops ntrans timeouts ...`` (_print_rpc_iostats in
    net/sunrpc/stats.c).

    Old kernels count a request that was never sent as an operation without a transmission. That
    must not cancel out the retransmissions of another operation, so a negative number counts as
    0."""
    if b"per-op statistics" not in lines:
        return None, None
    retransmissions = timeouts = 0
    for line in lines[lines.index(b"per-op statistics") + 1 :]:
        fields = line.partition(b":")[2].split()
        if len(fields) >= 3 and all(map(_is_number, fields)):
            retransmissions += max(0, int(fields[1]) - int(fields[0]))
            timeouts += int(fields[2])
        elif line:
            return None, None
    return retransmissions, timeouts


def _is_number(field: bytes) -> bool:
    """Whether a field is a number of the kernel's, with 64 bits; a time may be negative."""
    return field.lstrip(b"-").isdigit() and len(field) <= 20 and field.rfind(b"-") <= 0


def _age(lines: list[bytes]) -> Optional[int]:
    for line in lines:
        fields = line.split()
        if len(fields) == 2 and fields[0] == b"age:" and _is_number(fields[1]):
            return int(fields[1])
    return None


def _lease(lines: list[bytes]) -> Optional[int]:
    """From ``nfsv4: bm0=0x...,lease_time=90,lease_expired=0`` (show_lease). The last such line
    counts: before it stands a name that the server chose, which may hold any byte."""
    for line in reversed(lines):
        if line.startswith(b"nfsv4:"):
            match = re.search(rb",lease_expired=(\d{1,19})\Z", line)
            return None if match is None else int(match[1])
    return None


def transport_words(transport: Transport) -> str:
    """``up to 3 requests in flight, 12 retransmissions, no request finished for 84 s``, without the
    parts that are not known."""
    parts = [
        "no request in flight"
        if not transport.in_flight
        else f"up to {text.counted(transport.in_flight, 'request')} in flight"
    ]
    if transport.retransmissions:  # requests that hang are not counted yet, so 0 would mislead
        parts.append(text.counted(transport.retransmissions, "retransmission"))
    if transport.idle_seconds is not None:
        parts.append(f"no request finished for {transport.idle_seconds} s")
    return ", ".join(parts)
