"""Whose fault it is that a mount does not answer: the server's, the network's or this client's.

Import budget: ``dataclasses``, ``enum``, ``errno``, ``os``, ``re``, ``select``, ``socket``,
``struct``, ``time``.

A server is asked what its mount cannot be: does it take a TCP connection, and, for NFS, does it
answer a remote procedure call that does nothing (RFC 5531: procedure 0 needs no rights and touches
no file). Next to that stand what the kernel counts for an NFS transport (/proc/self/mountstats) and
what it says a stuck process waits in (/proc/PID/stack). No mount is touched, no name looked up.

Invariants:

- Nothing here blocks longer than it was allowed, whatever a server sends or does not send, and
  memory is bounded for each server.
- Silence is only called so where the server had its time: what was asked in the last moment, or by
  a late caller, is not blamed.
- All that a server, a mount table or /proc can cause ends in a value, not in an exception.
"""

from __future__ import annotations

import dataclasses
import enum
import errno as errno_module
import os
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Optional, Union

from check_mounts import text
from check_mounts.model import Mount

# IANA: nfs, microsoft-ds, the 9P port of the kernel (P9_FD_PORT), and a Ceph monitor's for its
# protocols 1 and 2.
NFS_PORT, CIFS_PORT, P9_PORT, CEPH_PORT, CEPH_PORT_2 = 2049, 445, 564, 6789, 3300

_LONGEST_PORT = 5
# Patterns are compiled when they are needed: to compile them all takes longer than to fork a
# worker.
_SCOPE = rb"[A-Za-z0-9_.:-]{1,15}\Z"  # an interface's name (IFNAMSIZ) or number
_ENDPOINT = rb"(?:\[([^]]*)\]|([^]\[:]*))(?::([0-9]+))?\Z"


# -- which server a mount has


@dataclasses.dataclass(frozen=True)
class Server:
    """Where the server of a mount listens. ``address`` is numeric, an IPv6 one perhaps with a
    scope: ``fe80::1%eth0``.

    ``kind`` is ``nfs``, ``cifs``, ``9p`` or ``ceph``; ``version`` the version of the RPC program
    NFS, 0 for the others."""

    address: str
    port: int
    kind: str
    version: int = 0


def server_of(mount: Mount) -> Optional[Server]:
    """The server of a mount, from what its superblock says; None where there is none, or none that
    a TCP connection reaches.

    Only filesystems whose options the kernel writes itself are believed: those of FUSE are its
    user's choice."""
    finder = _FINDERS.get(mount.fs_type)
    return None if finder is None else finder(mount)


def _nfs_server(mount: Mount) -> Optional[Server]:
    """nfs_show_mount_options in fs/nfs/super.c. Version 3 without ``port=`` has asked rpcbind,
    which says 2049 nearly everywhere."""
    if _last(mount, b"proto") not in (None, b"tcp", b"tcp6"):
        return None
    version = _last(mount, b"vers") or (b"4" if mount.fs_type == b"nfs4" else b"3")
    number = int(version[:1]) if version[:1] in (b"2", b"3", b"4") else 4
    return _server(_last(mount, b"addr"), _last(mount, b"port"), "nfs", NFS_PORT, number)


def _cifs_server(mount: Mount) -> Optional[Server]:
    """cifs_show_address in fs/smb/client/cifsfs.c. ``rdma`` is no TCP; a port other than 445 is not
    shown by all kernels."""
    if b"rdma" in mount.super_options:
        return None
    return _server(_last(mount, b"addr"), _last(mount, b"port"), "cifs", CIFS_PORT)


def _p9_server(mount: Mount) -> Optional[Server]:
    """p9_fd_show_options in net/9p/trans_fd.c: the address is the source, the port is shown where
    it is not 564."""
    if _last(mount, b"trans") != b"tcp":
        return None
    return _server(mount.source, _last(mount, b"port"), "9p", P9_PORT)


def _ceph_server(mount: Mount) -> Optional[Server]:
    """The first monitor (mount.ceph(8)): of ``mon_addr=A:PORT/B:PORT``, or of a source
    ``A:PORT,B:PORT:/PATH``."""
    listed = _last(mount, b"mon_addr")
    first = mount.source.partition(b":/")[0].partition(b",")[0] if listed is None else listed.partition(b"/")[0]
    match = re.match(_ENDPOINT, first)
    if match is None:
        return None
    port = CEPH_PORT if _last(mount, b"ms_mode") in (None, b"legacy") else CEPH_PORT_2
    return _server(match[1] or match[2], match[3], "ceph", port)


_FINDERS: dict[bytes, Callable[[Mount], Optional[Server]]] = {
    b"nfs": _nfs_server,
    b"nfs4": _nfs_server,
    b"cifs": _cifs_server,
    b"smb3": _cifs_server,
    b"9p": _p9_server,
    b"ceph": _ceph_server,
}


def _last(mount: Mount, name: bytes) -> Optional[bytes]:
    """The value of a superblock option, of its last occurrence: kernels write the address after
    what a user may have chosen, such as a ``username=`` with a comma in it."""
    prefix = name + b"="
    for option in reversed(mount.super_options):
        if option.startswith(prefix):
            return option[len(prefix) :]
    return None


def _server(
    address: Optional[bytes], port: Optional[bytes], kind: str, default: int, version: int = 0
) -> Optional[Server]:
    host, number = _numeric(address), _port(port, default)
    return None if host is None or number is None else Server(host, number, kind, version)


def _numeric(address: Optional[bytes]) -> Optional[str]:
    """The address as inet_ntop(3) writes it, so that one server is one; None where it is no
    address, or the unspecified one."""
    host, percent, scope = (address or b"").partition(b"%")
    family = socket.AF_INET6 if b":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(family, host.decode("ascii"))
    except (OSError, ValueError):
        return None
    if not any(packed) or (percent and (family == socket.AF_INET or not re.match(_SCOPE, scope))):
        return None
    return socket.inet_ntop(family, packed) + (percent + scope).decode("ascii")


def _port(value: Optional[bytes], default: int) -> Optional[int]:
    """A port; ``default`` where there is none, or 0, which means the same; None where it makes no
    sense."""
    if value is None:
        return default
    if not value.isdigit() or len(value) > _LONGEST_PORT or int(value) > 0xFFFF:
        return None
    return int(value) or default


# -- what it says


class Verdict(enum.Enum):
    """What became of a connection to a server."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    RPC_ANSWERED = "rpc-answered"
    RPC_ERROR = "rpc-error"
    RPC_SILENT = "rpc-silent"
    CLOSED = "closed"
    GARBAGE = "garbage"
    NOT_ASKED = "not-asked"


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a server replied. ``seconds`` lie between the attempt to connect and the verdict,
    ``connect_seconds`` between the attempt and the connection; None where there was no attempt or
    no connection.

    ``errno`` is the error of UNREACHABLE and REFUSED, and what kept us from asking for NOT_ASKED,
    None if it was the time. ``error`` is the name of the error that RFC 5531 has for RPC_ERROR."""

    verdict: Verdict
    seconds: Optional[float] = None
    connect_seconds: Optional[float] = None
    errno: Optional[int] = None
    error: str = ""


def words(server: Server, reply: Reply) -> str:
    """A sentence fit for any output: ``server 10.0.0.5 does not answer on port 2049``. For Ceph it
    is a ``monitor``."""
    address = text.printable_argument(server.address)
    name = f"{'monitor' if server.kind == 'ceph' else 'server'} {f'[{address}]' if ':' in address else address}"
    reason = "not in time" if reply.errno is None else os.strerror(reply.errno)
    return name + {
        Verdict.CONNECTED: f" accepts connections on port {server.port}",
        Verdict.REFUSED: f" refuses connections on port {server.port}",
        Verdict.UNREACHABLE: f" is unreachable ({reason})",
        Verdict.SILENT: f" does not answer on port {server.port}",
        Verdict.RPC_ANSWERED: " answers RPC: this client is stuck",
        Verdict.RPC_ERROR: f" answers RPC with an error ({reply.error})",
        Verdict.RPC_SILENT: f" accepts connections on port {server.port} but does not answer RPC",
        Verdict.CLOSED: f" closes the connection on port {server.port}",
        Verdict.GARBAGE: f" does not speak RPC on port {server.port}",
        Verdict.NOT_ASKED: f" was not asked ({reason})",
    }.get(reply.verdict, "")


_SHORT_OF = frozenset({errno_module.EMFILE, errno_module.ENFILE, errno_module.ENOBUFS, errno_module.ENOMEM})
# What connect(2) says of this machine, not of the server or the way to it. EADDRNOTAVAIL: no port
# or no address of our own; EACCES, EPERM: SELinux, a filter or a route of this machine. (ICMP
# "prohibited" from elsewhere is EHOSTUNREACH.)
_OWN_TROUBLE = _SHORT_OF | {
    errno_module.EADDRNOTAVAIL,
    errno_module.EAFNOSUPPORT,
    errno_module.EAGAIN,
    errno_module.ENODEV,
}
_OWN_TROUBLE |= {errno_module.EACCES, errno_module.EPERM}


def _verdict_of(error: int) -> Verdict:
    """What an error of connecting means. What is not listed is the way's, also EINVAL: a blackhole
    route (ip-route(8)) says so."""
    if error == errno_module.ECONNREFUSED:
        return Verdict.REFUSED
    if error == errno_module.ETIMEDOUT:  # the kernel's own word for silence
        return Verdict.SILENT
    if error in (errno_module.ECONNRESET, errno_module.EPIPE):  # it stood, and was over before we looked
        return Verdict.CLOSED
    return Verdict.NOT_ASKED if error in _OWN_TROUBLE else Verdict.UNREACHABLE


# -- remote procedure calls (RFC 5531; the numbers of NFS: RFC 1813 and RFC 8881)

_NFS_PROGRAM, _RPC_VERSION = 100003, 2
_CALL, _REPLY = 0, 1
_ACCEPTED, _DENIED = 0, 1
_AUTH_NONE = 0
_LAST_FRAGMENT = 0x80000000
_WORD = struct.Struct(">I")
_ACCEPT_ERRORS = {1: "PROG_UNAVAIL", 2: "PROG_MISMATCH", 3: "PROC_UNAVAIL", 4: "GARBAGE_ARGS", 5: "SYSTEM_ERR"}
_DENIALS = {0: "RPC_MISMATCH", 1: "AUTH_ERROR"}
# A reply to NULL has 24 bytes and a verifier of up to 400. More than that in one record is none,
# and nobody has to listen forever.
_LONGEST_VERIFIER, _LONGEST_RECORD, _MOST_BYTES = 400, 4096, 65536


def null_call(xid: int, version: int) -> bytes:
    """The call of procedure 0 of NFS without credentials, as one record of one fragment (RFC 5531,
    sections 9 and 11)."""
    words_of_call = (xid, _CALL, _RPC_VERSION, _NFS_PROGRAM, version, 0, _AUTH_NONE, 0, _AUTH_NONE, 0)
    return struct.pack(">11I", _LAST_FRAGMENT | 4 * len(words_of_call), *words_of_call)


def _read_reply(record: bytes, xid: int) -> Optional[tuple[Verdict, str]]:
    """What a record says about the call ``xid``; None where it is about another. Errors prove that
    somebody is alive."""
    size = len(record) // 4
    fields = struct.unpack_from(f">{size}I", record)
    if size < 4:
        return Verdict.GARBAGE, ""
    if fields[0] != xid:
        return None
    if fields[1:3] == (_REPLY, _ACCEPTED):
        return _read_status(fields)
    error = _DENIALS.get(fields[3], "") if fields[1:3] == (_REPLY, _DENIED) else ""
    return (Verdict.RPC_ERROR if error else Verdict.GARBAGE), error


def _read_status(fields: tuple[int, ...]) -> tuple[Verdict, str]:
    """Of an accepted call: after a verifier (flavour, length, bytes padded to words) comes the
    status."""
    at = 5 + (fields[4] + 3) // 4 if len(fields) > 4 and fields[4] <= _LONGEST_VERIFIER else len(fields)
    if at >= len(fields):
        return Verdict.GARBAGE, ""
    if fields[at] == 0:
        return Verdict.RPC_ANSWERED, ""
    error = _ACCEPT_ERRORS.get(fields[at], "")
    return (Verdict.RPC_ERROR if error else Verdict.GARBAGE), error


class _Records:
    """Bytes -> records (RFC 5531, section 11). Holds no more than one record and what one read
    brought."""

    def __init__(self) -> None:
        self._bytes, self._record = bytearray(), bytearray()
        self._taken = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The records that are complete with ``data``. Raises ValueError for too long a record, and
        for too many bytes in all."""
        self._taken += len(data)
        self._bytes += data
        while len(self._bytes) >= _WORD.size:
            (mark,) = _WORD.unpack_from(self._bytes)
            end = _WORD.size + (mark & ~_LAST_FRAGMENT)
            if len(self._record) + end > _LONGEST_RECORD:
                raise ValueError("no record of a reply to NULL is that long")
            if len(self._bytes) < end:
                break
            self._record += self._bytes[_WORD.size : end]
            del self._bytes[:end]
            if mark & _LAST_FRAGMENT:
                yield bytes(self._record)
                self._record.clear()
        if self._taken > _MOST_BYTES:
            raise ValueError("bytes without end, and no reply among them")


# -- the conversation with one server

_Address = tuple[socket.AddressFamily, Union[tuple[str, int], tuple[str, int, int, int]]]


def _socket_address(server: Server) -> _Address:
    """Family and address for connect(2). Raises OSError for what is not numeric: Python would ask
    the DNS for it, and for a scope."""
    host, percent, scope = server.address.partition("%")
    try:
        if not 0 < server.port <= 0xFFFF:
            raise ValueError("no port")
        if ":" not in host:
            socket.inet_pton(socket.AF_INET, server.address)
            return socket.AF_INET, (host, server.port)
        socket.inet_pton(socket.AF_INET6, host)
        index = 0 if not percent else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
        return socket.AF_INET6, (host, server.port, 0, index & 0xFFFFFFFF)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)  # inet_pton sets none
        raise OSError(number or errno_module.EINVAL, "no address") from error


class _Conversation:
    """One connection: connects, for NFS calls, listens. Raises OSError where there is no socket to
    be had."""

    def __init__(self, server: Server, xid: int, now: float) -> None:
        self.server = server
        self.began = self._asked = now
        self._connected: Optional[float] = None
        self._xid, self._records = xid, _Records()
        self._unsent = null_call(xid, server.version) if server.kind == "nfs" else b""
        family, self._address = _socket_address(server)
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.fd = self._socket.fileno()

    @property
    def events(self) -> int:
        """What to poll for."""
        return select.POLLOUT if self._connected is None or self._unsent else select.POLLIN

    def connect(self, now: float) -> Optional[Reply]:
        """Begin; a reply where the kernel knows at once that there is no way."""
        error = self._socket.connect_ex(self._address)
        return None if error in (0, errno_module.EINPROGRESS) else self._failed(error, now)

    def advance(self, now: float) -> Optional[Reply]:
        """Go on, after the socket became ready, as far as it goes without waiting; the reply once
        there is one."""
        try:
            if self._connected is None:
                reply = self._connection(now)
                if reply is not None or self._connected is None:
                    return reply
            self._send(now)
            return self._listen(now)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._broken(error.errno or errno_module.EIO, now)

    def given_up(self, now: float, patience: float) -> Reply:
        """The reply of a server that has not given any, where it had ``patience`` seconds; else
        nothing is said against it."""
        if self._connected is None:
            return self._reply(Verdict.SILENT if now - self.began >= patience else Verdict.NOT_ASKED, now)
        return self._reply(
            Verdict.RPC_SILENT if not self._unsent and now - self._asked >= patience else Verdict.CONNECTED, now
        )

    def close(self) -> None:
        """End the connection, also where a process forked in the meantime has a copy of the
        socket."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it never was connected, or is no longer
        self._socket.close()

    def _connection(self, now: float) -> Optional[Reply]:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return self._failed(error, now)
        try:
            peer = self._socket.getpeername()
        except OSError as trouble:
            return (
                None if trouble.errno == errno_module.ENOTCONN else self._failed(trouble.errno or errno_module.EIO, now)
            )
        if peer == self._socket.getsockname():
            # The kernel chose the very port it was to connect to: a simultaneous open with itself
            # (RFC 9293, 3.5), nobody listens.
            return self._failed(errno_module.ECONNREFUSED, now)
        self._connected = self._asked = now
        return None if self._unsent else self._reply(Verdict.CONNECTED, now)

    def _send(self, now: float) -> None:
        while self._unsent:
            sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            self._unsent = self._unsent[sent:]
            self._asked = now

    def _listen(self, now: float) -> Reply:
        """Raises BlockingIOError where the answer is not complete yet; the number of bytes taken is
        limited."""
        while True:
            data = self._socket.recv(4096)
            if not data:
                return self._reply(Verdict.CLOSED, now)
            try:
                for record in self._records.feed(data):
                    meaning = _read_reply(record, self._xid)
                    if meaning is not None:
                        return self._reply(meaning[0], now, error=meaning[1])
            except ValueError:
                return self._reply(Verdict.GARBAGE, now)

    def _failed(self, error: int, now: float) -> Reply:
        return self._reply(_verdict_of(error), now, error)

    def _broken(self, error: int, now: float) -> Reply:
        """After the connection stood. What the kernel gave up waiting for is silence, an ICMP error
        is the way's, a reset its end."""
        if error == errno_module.ETIMEDOUT:
            return self._reply(Verdict.RPC_SILENT, now, error)
        away = (errno_module.EHOSTUNREACH, errno_module.ENETUNREACH, errno_module.ENETDOWN, errno_module.EHOSTDOWN)
        return self._reply(Verdict.UNREACHABLE if error in away else Verdict.CLOSED, now, error)

    def _reply(self, verdict: Verdict, now: float, number: Optional[int] = None, error: str = "") -> Reply:
        took = None if self._connected is None else self._connected - self.began
        return Reply(verdict, now - self.began, took, number, error)


# -- all servers at the same time

# No more sockets than that at a time: the pool of workers needs descriptors as well.
_AT_ONCE = 256
# What part of the time a server must have had before it is called silent. TCP sends a lost SYN
# again after a second (RFC 6298), so of the usual five seconds that leaves it two attempts.
_FAIR_PART, _LEAST_PATIENCE = 0.25, 0.05


class Examination:
    """A conversation with each of ``servers`` until ``deadline`` (CLOCK_MONOTONIC), to be driven
    step by step.

    It begins when it is made, takes one connection per server and 256 at a time. Whoever makes it
    closes it, in the same process. ``replies`` has what is known so far; of each server once
    ``finished``."""

    def __init__(self, servers: Iterable[Server], deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.replies: dict[Server, Reply] = {}
        self._clock, self._deadline = clock, deadline
        now = clock()
        self._patience = max(_LEAST_PATIENCE, (deadline - now) * _FAIR_PART)
        self._waiting = deque(dict.fromkeys(servers))
        self._open: dict[int, _Conversation] = {}
        self._poll = select.poll()
        # Any number will do that tells our answer from an old one; os.urandom() can block while a
        # machine starts.
        self._xid = time.monotonic_ns() & 0xFFFFFFFF
        self._short_of: Optional[int] = None
        self._start(now)

    def __enter__(self) -> Examination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        """Whether each server has its reply, and each socket is closed."""
        return not self._open and not self._waiting

    def fds(self) -> dict[int, int]:
        """For a poll loop of the caller: descriptor -> POLLIN or POLLOUT. They change with each
        step."""
        return {fd: conversation.events for fd, conversation in self._open.items()}

    def step(self, timeout: float = 0.0) -> None:
        """Wait up to ``timeout`` seconds, never beyond the deadline, until something happens, and
        deal with it.

        What has arrived is read before silence is declared, however late the call comes.
        """
        for fd, _ in self._poll.poll(_milliseconds(min(timeout, self._deadline - self._clock()))):
            conversation, now = self._open[fd], self._clock()
            self._settle(conversation, conversation.advance(now))
        now = self._clock()
        if now >= self._deadline:
            self.close()
        else:
            self._start(now)

    def close(self) -> None:
        """Give up what is open: silent where it had its time, else not asked. Closes all sockets;
        may be called again."""
        now = self._clock()
        for conversation in list(self._open.values()):
            self._settle(conversation, conversation.given_up(now, self._patience))
        for server in self._waiting:
            self.replies[server] = Reply(Verdict.NOT_ASKED, errno=self._short_of)
        self._waiting.clear()

    def _start(self, now: float) -> None:
        while self._waiting and len(self._open) < _AT_ONCE:
            try:
                conversation = _Conversation(self._waiting[0], self._xid, now)
            except OSError as error:
                self._short_of = error.errno if error.errno in _SHORT_OF else self._short_of
                if error.errno in _SHORT_OF and self._open:
                    return  # again when one of ours is closed
                self.replies[self._waiting.popleft()] = Reply(Verdict.NOT_ASKED, errno=error.errno)
                continue
            self._waiting.popleft()
            self._xid = (self._xid + 1) & 0xFFFFFFFF
            self._open[conversation.fd] = conversation
            self._poll.register(conversation.fd, conversation.events)
            self._settle(conversation, conversation.connect(now))

    def _settle(self, conversation: _Conversation, reply: Optional[Reply]) -> None:
        if reply is None:
            self._poll.modify(conversation.fd, conversation.events)
            return
        self.replies[conversation.server] = reply
        self._poll.unregister(conversation.fd)
        del self._open[conversation.fd]
        conversation.close()


def examine(
    servers: Iterable[Server], seconds: float, clock: Callable[[], float] = time.monotonic
) -> dict[Server, Reply]:
    """Ask all servers at the same time, for ``seconds`` at the most; a reply for each of them.
    Raises nothing that they can cause."""
    deadline = clock() + seconds
    with Examination(servers, deadline, clock) as examination:
        while not examination.finished:
            examination.step(seconds)
    return examination.replies


def _milliseconds(seconds: float) -> int:
    """For poll(2), rounded up: rounded down, the last millisecond would be spent spinning."""
    return max(0, int(seconds * 1000) + 1) if seconds > 0 else 0


# -- what the kernel counts for an NFS mount


@dataclasses.dataclass(frozen=True)
class Transport:
    """What the kernel says of the connections of an NFS mount, those of ``nconnect=`` added up.

    They belong to the client's view of a server, so mounts of one server share them. None is what
    its line does not say. ``sends`` and ``receives`` count transmissions and replies, ``bad_xids``
    replies to nothing that was open. ``connect_time`` is in seconds, in jiffies in old kernels.
    ``backlog`` and ``pending`` are sums over all transmissions of the length that the queue had
    then, not lengths. ``idle_seconds``: since last_used in struct rpc_xprt, which is when a request
    was last done with (answered or given up) or a connection made, not when one was sent. The
    kernel writes 0 where it is not connected, hence None for 0. ``retransmissions`` and
    ``timeouts`` are of requests that are done with; those that hang are not in them yet.
    ``age_seconds``: since it was mounted."""

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

    @property
    def in_flight(self) -> int:
        """Transmissions without a reply: no less than the requests in flight. A request sent twice
        and answered once leaves one behind for good, and so does one that was given up."""
        return max(0, self.sends - self.receives)


_HEAD = rb"device [^ \t\n]+ mounted on ([^ \t\n]+) with fstype nfs4? statvers=1\.[01]\Z"
_OCTAL = rb"\\([0-3][0-7][0-7])"
_COUNTED = ("sends", "receives", "bad_xids", "requests", "backlog")
_QUEUES = ("slots", "sending", "pending")  # since statvers 1.1
_CONNECTION = ("bind", "connects", "connect_time", "idle")
# xs_tcp_print_stats and its kin in net/sunrpc/xprtsock.c, xprt_rdma_print_stats: protocol ->
# columns always there, perhaps there.
_COLUMNS: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {
    b"tcp": (("port", *_CONNECTION, *_COUNTED), _QUEUES),
    b"udp": (("port", "bind", *_COUNTED), _QUEUES),
    b"rdma": (("port", *_CONNECTION, *_COUNTED), ()),  # what follows is RDMA's own
    b"local": ((*_CONNECTION, *_COUNTED), _QUEUES),
}


def read_mountstats(path: str = "/proc/self/mountstats") -> dict[bytes, Transport]:
    """What the file says, which takes no more than reading the mount table; nothing where it cannot
    be read."""
    try:
        with open(path, "rb") as file:
            return parse_mountstats(file.read())
    except OSError:
        return {}


def parse_mountstats(data: bytes) -> dict[bytes, Transport]:
    """Mount point (unescaped) -> its transport, of NFS mounts (show_vfsstat in fs/proc_namespace.c,
    nfs_show_stats in fs/nfs/super.c).

    Of several mounts on one point the last counts, which is on top. What is not understood is left
    out; never raises."""
    found: dict[bytes, Transport] = {}
    for head, lines in _entries(data):
        match = re.match(_HEAD, head)
        if match is None:
            continue
        point = re.sub(_OCTAL, lambda code: bytes([int(code[1], 8)]), match[1])
        found.pop(point, None)
        transport = _transport(lines)
        if transport is not None:
            found[point] = transport
    return found


def _entries(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """(first line, the lines below it). A line without its end is not used: of a number, the end
    may be missing."""
    head, lines = b"", list[bytes]()
    for line in data.split(b"\n")[:-1]:
        if line.startswith((b"device ", b"no device ")):
            yield head, lines
            head, lines = line, []
        else:
            lines.append(line.strip(b"\t "))
    yield head, lines


def _transport(lines: list[bytes]) -> Optional[Transport]:
    connections = [_connection(line) for line in lines if line.startswith(b"xprt:")]
    known = [connection for connection in connections if connection is not None]
    if not known or len(known) < len(connections):
        return None  # a part of them would be no sum

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
        # Of several connections the one that was last used; if one does not say, nobody knows.
        idle_seconds=idle if idle > 0 else None,
        retransmissions=retransmissions,
        timeouts=timeouts,
        age_seconds=_age(lines),
    )


def _connection(line: bytes) -> Optional[tuple[str, dict[str, int]]]:
    """``xprt: tcp 875 1 1 0 84 ...`` -> protocol and its columns; None where it is none that we
    know."""
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

    Old kernels count a request that was never sent as an operation without a transmission: that
    makes good for nothing."""
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
    """A number of the kernel's, which has 64 bits; a clock may make it negative."""
    return field.lstrip(b"-").isdigit() and len(field) <= 20 and field.rfind(b"-") <= 0


def _age(lines: list[bytes]) -> Optional[int]:
    for line in lines:
        fields = line.split()
        if len(fields) == 2 and fields[0] == b"age:" and _is_number(fields[1]):
            return int(fields[1])
    return None


def transport_words(transport: Transport) -> str:
    """``up to 3 requests in flight, 12 retransmissions, no request finished for 84 s``; what is not
    known is left out."""
    parts = [
        "no request in flight"
        if not transport.in_flight
        else f"up to {text.counted(transport.in_flight, 'request')} in flight"
    ]
    if transport.retransmissions:  # those of the requests that hang are not counted yet: 0 would say too much
        parts.append(text.counted(transport.retransmissions, "retransmission"))
    if transport.idle_seconds is not None:
        parts.append(f"no request finished for {transport.idle_seconds} s")
    return ", ".join(parts)


# -- what a process waits in

_FRAME = rb"(?:\[<[0-9a-fx]*>\] )?([A-Za-z_][A-Za-z0-9_.]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+.*)?\Z"
# How a process sleeps or waits for a lock, which is the same whatever it waits for, and how it came
# into the kernel.
_GENERIC = (
    r"(__)?(io_|preempt_)?schedule|__switch_to|(__|out_of_line_)?(wait_on_bit|bit_wait)|(__|do_)?wait_for_(common|completion)"
    r"|wait_woken|prepare_to_wait|finish_wait|(__|call_|percpu_)?(mutex_lock|down(_|$)|rwsem_|rwbase_|rt_mutex)|__percpu_down"
    r"|(__)?(folio|lock_page|wait_on_page)_|do_syscall|x64_sys_call|__(x64|arm64|se|do|ia32)_sys_|entry_|el0|invoke_syscall"
    r"|ret_from_fork|ret_fast_syscall|system_call"
)


def kernel_stack(pid: int) -> Optional[str]:
    """The name of the kernel function that process ``pid`` waits in: the innermost that is not
    about sleeping or locks.

    From /proc/PID/stack, which only root may read and not every kernel has, else /proc/PID/wchan
    (proc_pid_stack(5), proc_pid_wchan(5)); None where neither says. For own workers only: the
    kernel takes a lock of the process for it, which one that hangs in execve(2) holds."""
    functions = _functions(f"/proc/{pid:d}/stack") or _functions(f"/proc/{pid:d}/wchan")
    telling = [name for name in functions if not re.match(_GENERIC, name)]
    return telling[0] if telling else functions[0] if functions else None


def _functions(path: str) -> list[str]:
    """The functions that the file names, the innermost first; none where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, 16384)
    except OSError:
        return []
    finally:
        os.close(fd)
    matches = (re.match(_FRAME, line) for line in data.split(b"\n"))
    return [match[1].decode("ascii") for match in matches if match is not None]


def stack_words(function: str) -> str:
    """``its probe waits in rpc_wait_bit_killable``."""
    return f"its probe waits in {text.printable_argument(function)}"
