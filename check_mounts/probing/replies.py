"""The reply of a server to a connection, as a value and in words.

Import budget: ``enum``, ``errno``, ``math``, ``os``."""

from __future__ import annotations

import enum
import errno as errno_module
import math
import os

from check_mounts import text
from check_mounts.probing.servers import Server
from check_mounts.typed import NamedTuple, Optional


class Verdict(enum.Enum):
    """The result of a connection to a server."""

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


class Reply(NamedTuple):
    """The reply of a server. ``seconds``: the time from the attempt to connect until the verdict.
    ``connect_seconds``: the time until the connection was made. None without an attempt or a
    connection.

    ``errno``: the error of UNREACHABLE and REFUSED; for NOT_ASKED the error that kept this process
    from asking, None if the time was too short. ``error``: for RPC_ERROR, the name of the error in
    RFC 5531."""

    verdict: Verdict
    seconds: Optional[float] = None
    connect_seconds: Optional[float] = None
    errno: Optional[int] = None
    error: str = ""


def words(server: Server, reply: Reply, conclusion: str = "this client is stuck") -> str:
    """A sentence that is fit for any output: ``server 10.0.0.5 does not answer on port 2049``. For
    Ceph it says ``monitor``. ``conclusion``: what follows if the server answers."""
    address = text.printable_argument(server.address)
    name = f"{'monitor' if server.kind == 'ceph' else 'server'} {f'[{address}]' if ':' in address else address}"
    reason = "not in time" if reply.errno is None else os.strerror(reply.errno)
    return name + {
        Verdict.CONNECTED: f" accepts connections on port {server.port}",
        Verdict.REFUSED: f" refuses connections on port {server.port}",
        Verdict.UNREACHABLE: f" is unreachable ({reason})",
        Verdict.SILENT: f" does not answer on port {server.port}",
        Verdict.RPC_ANSWERED: f" answers RPC{': ' if conclusion else ''}{conclusion}",
        Verdict.RPC_ERROR: f" answers RPC with an error ({reply.error})",
        Verdict.RPC_SILENT: f" accepts connections on port {server.port} but does not answer RPC",
        Verdict.CLOSED: f" closes the connection on port {server.port}",
        Verdict.GARBAGE: f" does not speak RPC on port {server.port}",
        Verdict.NOT_ASKED: f" was not asked ({reason})",
    }.get(reply.verdict, "")


def words_of_slow(server: Server, reply: Reply) -> str:
    """The same for a mount that is slow: if the server answers, also how soon, at most. The time is
    that of connecting and asking; a pass looks for answers only now and then."""
    said = words(server, reply, "")
    if reply.seconds is None or reply.verdict not in (Verdict.RPC_ANSWERED, Verdict.CONNECTED):
        return said
    return f"{said} within {text.seconds_words(math.ceil(reply.seconds * 100) / 100)}"


SHORT_OF = frozenset({errno_module.EMFILE, errno_module.ENFILE, errno_module.ENOBUFS, errno_module.ENOMEM})
# Errors of connect(2) that are about this machine, not about the server or the network.
# EADDRNOTAVAIL: no port or no address of our own; EACCES, EPERM: SELinux, a filter or a route of
# this machine. (ICMP "prohibited" from elsewhere is EHOSTUNREACH.)
_OWN_TROUBLE = SHORT_OF | {
    errno_module.EADDRNOTAVAIL,
    errno_module.EAFNOSUPPORT,
    errno_module.EAGAIN,
    errno_module.ENODEV,
}
_OWN_TROUBLE |= {errno_module.EACCES, errno_module.EPERM}


def verdict_of(error: int) -> Verdict:
    """The meaning of an error of connect(2). An error that is not listed here comes from the
    network, also EINVAL, which comes from a blackhole route (ip-route(8))."""
    if error == errno_module.ECONNREFUSED:
        return Verdict.REFUSED
    if error == errno_module.ETIMEDOUT:  # the kernel's own word for silence
        return Verdict.SILENT
    if error in (errno_module.ECONNRESET, errno_module.EPIPE):  # the connection was made and closed already
        return Verdict.CLOSED
    return Verdict.NOT_ASKED if error in _OWN_TROUBLE else Verdict.UNREACHABLE
