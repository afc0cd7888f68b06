"""Asks the servers of hung mounts over TCP, to tell the fault of a server from that of the network
or this client.

Import budget: ``errno``, ``select``, ``socket``, ``time``.

A hung mount cannot be asked, so we ask its server. Does it accept a TCP connection? If it is NFS,
does it answer a remote procedure call that does nothing (RFC 5531: procedure 0 needs no rights and
touches no file)? No mount is touched, and no name is looked up.

Invariants:

- Nothing here blocks longer than allowed, whatever a server sends or does not send, and memory is
  bounded for each server.
- A server is called silent only if it had enough time: a server that was asked at the last moment,
  or by a late caller, is not blamed.
- Whatever a server does, the result is a value and not an exception."""

from __future__ import annotations

import errno as errno_module
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from check_mounts.probing import rpc
from check_mounts.probing.replies import SHORT_OF, Reply, Verdict, verdict_of
from check_mounts.probing.servers import Server
from check_mounts.typed import Optional, Union

_Address = tuple[socket.AddressFamily, Union[tuple[str, int], tuple[str, int, int, int]]]


def _socket_address(server: Server) -> _Address:
    """Family and address for connect(2). Raises OSError if the address or its scope is not numeric:
    Python would ask the DNS for a name."""
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
        number = getattr(error, "errno", None)  # inet_pton sets no errno
        raise OSError(number or errno_module.EINVAL, "no address") from error


class _Conversation:
    """One connection: connects; for NFS, also sends a call and reads the answer. Raises OSError if
    no socket can be made."""

    def __init__(self, server: Server, xid: int, now: float) -> None:
        self.server = server
        self.began = self._asked = now
        self._connected: Optional[float] = None
        self._xid, self._records = xid, rpc.Records()
        self._unsent = rpc.null_call(xid, server.version) if server.kind == "nfs" else b""
        family, self._address = _socket_address(server)
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.fd = self._socket.fileno()

    @property
    def events(self) -> int:
        """The events to poll for."""
        return select.POLLOUT if self._connected is None or self._unsent else select.POLLIN

    def connect(self, now: float) -> Optional[Reply]:
        """Begin; return a reply if the kernel knows at once that the server cannot be reached."""
        error = self._socket.connect_ex(self._address)
        return None if error in (0, errno_module.EINPROGRESS) else self._failed(error, now)

    def advance(self, now: float) -> Optional[Reply]:
        """Continue without waiting, after the socket has become ready; return the reply once it is
        known."""
        try:
            if self._connected is None:
                reply = self._check_connection(now)
                if reply is not None or self._connected is None:
                    return reply
            self._send(now)
            return self._listen(now)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._broken(error.errno or errno_module.EIO, now)

    def given_up(self, now: float, patience: float) -> Reply:
        """The reply of a server that has sent none: silent if it had ``patience`` seconds, else the
        server is not blamed."""
        if self._connected is None:
            return self._reply(Verdict.SILENT if now - self.began >= patience else Verdict.NOT_ASKED, now)
        return self._reply(
            Verdict.RPC_SILENT if not self._unsent and now - self._asked >= patience else Verdict.CONNECTED, now
        )

    def close(self) -> None:
        """End the connection, even if a process that was forked meanwhile has a copy of the
        socket."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is not connected
        self._socket.close()

    def _check_connection(self, now: float) -> Optional[Reply]:
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
            # On this host the kernel has chosen, as our own port, the port that we connect to: the
            # socket is connected to itself (simultaneous open, RFC 9293, 3.5), and no server
            # listens.
            return self._failed(errno_module.ECONNREFUSED, now)
        self._connected = self._asked = now
        return None if self._unsent else self._reply(Verdict.CONNECTED, now)

    def _send(self, now: float) -> None:
        while self._unsent:
            sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            self._unsent = self._unsent[sent:]
            self._asked = now

    def _listen(self, now: float) -> Reply:
        """Read the answer, up to a limited number of bytes. Raises BlockingIOError if the answer is
        not complete yet."""
        while True:
            data = self._socket.recv(4096)
            if not data:
                return self._reply(Verdict.CLOSED, now)
            try:
                for record in self._records.feed(data):
                    meaning = rpc.read_reply(record, self._xid)
                    if meaning is not None:
                        return self._reply(meaning[0], now, error=meaning[1])
            except ValueError:
                return self._reply(Verdict.GARBAGE, now)

    def _failed(self, error: int, now: float) -> Reply:
        return self._reply(verdict_of(error), now, error)

    def _broken(self, error: int, now: float) -> Reply:
        """The reply for an error after the connection was made. If the kernel gave up waiting, the
        server is silent; an ICMP error means the network; a reset means a closed connection."""
        if error == errno_module.ETIMEDOUT:
            return self._reply(Verdict.RPC_SILENT, now, error)
        away = (errno_module.EHOSTUNREACH, errno_module.ENETUNREACH, errno_module.ENETDOWN, errno_module.EHOSTDOWN)
        return self._reply(Verdict.UNREACHABLE if error in away else Verdict.CLOSED, now, error)

    def _reply(self, verdict: Verdict, now: float, number: Optional[int] = None, error: str = "") -> Reply:
        took = None if self._connected is None else self._connected - self.began
        return Reply(verdict, now - self.began, took, number, error)


# -- all servers at the same time

# The most sockets at a time: the pool of workers needs descriptors as well.
_AT_ONCE = 256
# The part of the time that a server must have had before it is called silent. TCP sends a lost SYN
# again after a second (RFC 6298), so with the usual five seconds that makes two attempts; more time
# than for two attempts is always enough.
_FAIR_PART, _LEAST_PATIENCE, _MOST_PATIENCE = 0.25, 0.05, 1.2


class Examination:
    """A conversation with each of ``servers`` until ``deadline`` (CLOCK_MONOTONIC). The owner calls
    :meth:`step` to drive it.

    The constructor begins to connect. There is one connection per server, and 256 at a time. The
    owner must call :meth:`close`. ``replies`` has the replies so far; once ``finished``, that of
    each server."""

    def __init__(self, servers: Iterable[Server], deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.replies: dict[Server, Reply] = {}
        self._clock, self._deadline = clock, deadline
        now = clock()
        self._patience = max(_LEAST_PATIENCE, min(_MOST_PATIENCE, (deadline - now) * _FAIR_PART))
        self._waiting = deque(dict.fromkeys(servers))
        self._open: dict[int, _Conversation] = {}
        self._poll = select.poll()
        # Any number will do that distinguishes our answer from an old one. Not os.urandom(): it can
        # block while a machine starts.
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
        """For a poll loop of the caller: descriptor -> POLLIN or POLLOUT. Each step may change
        them."""
        return {fd: conversation.events for fd, conversation in self._open.items()}

    def step(self, timeout: float = 0.0) -> None:
        """Wait up to ``timeout`` seconds, but not beyond the deadline, for any server, and deal
        with what has come.

        However late this is called, data that has arrived is read before a server is called
        silent."""
        for fd, _ in self._poll.poll(_milliseconds(min(timeout, self._deadline - self._clock()))):
            conversation, now = self._open[fd], self._clock()
            self._settle(conversation, conversation.advance(now))
        now = self._clock()
        if now >= self._deadline:
            self.close()
        else:
            self._start(now)

    def close(self) -> None:
        """Give up the open conversations: a server that had enough time is silent, others were not
        asked. Closes all sockets; may be called again."""
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
                self._short_of = error.errno if error.errno in SHORT_OF else self._short_of
                if error.errno in SHORT_OF and self._open:
                    return  # try again when one of our sockets is closed
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
    """Ask all servers at the same time, for ``seconds`` at most; return a reply for each of them.
    Nothing that a server does raises an exception."""
    deadline = clock() + seconds
    with Examination(servers, deadline, clock) as examination:
        while not examination.finished:
            examination.step(seconds)
    return examination.replies


def _milliseconds(seconds: float) -> int:
    """Milliseconds for poll(2), rounded up: if rounded down, the caller would loop without waiting
    during the last millisecond."""
    return max(0, int(seconds * 1000) + 1) if seconds > 0 else 0
