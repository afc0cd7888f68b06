"""HTTP with a deadline for everything: names, connections, TLS, and servers that answer one byte a
second.

Import budget: ``http.client``, ``os``, ``select``, ``signal``, ``socket``, ``ssl``, ``time``;
ctypes by way of syscalls. Loaded by ``deliver`` only, in a worker.

Redirects are not followed and proxies of the environment not used: nobody but the server that was
named gets to see credentials."""

from __future__ import annotations

import dataclasses
import errno
import http.client
import io
import os
import select
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, Optional

from check_mounts import __version__, processes, text
from check_mounts.passive import Settings, Undelivered, quiet, records
from check_mounts.passive.address import Url

LONGEST_ANSWER = 1 << 16
_PORTS = {"http": 80, "https": 443}
# How it looks when the other side has closed the connection; RemoteDisconnected is a
# ConnectionError, too.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
# What never left this host, as with an address of IPv6 where there is no IPv6, says nothing of the
# server.
_NO_WAY = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server said: ``body`` as far as LONGEST_ANSWER, ``reason`` as it came."""

    status: int
    reason: str
    body: bytes


@contextmanager
def connection(url: Url, settings: Settings, until: float) -> Iterator[Connection]:
    """A connection that is there when it is first used. Raises Undelivered for files that cannot be
    used."""
    began = time.monotonic()
    result = Connection(url, context(settings) if url.scheme == "https" else None, began, until)
    with quiet.broken_pipes():
        try:
            yield result
        finally:
            result.close()


def context(settings: Settings) -> ssl.SSLContext:
    """Whom we trust, and who we are. Raises Undelivered for files that cannot be used."""
    for key, path in (("ca", settings.ca), ("certificate", settings.certificate), ("key", settings.key)):
        if path is not None:
            _check_readable(key, path)
    try:
        # With a file of ours, those of the system are not trusted.
        result = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ValueError):
        raise Undelivered(f"ca {text.printable_argument(settings.ca or '')}: no certificate (PEM) in it") from None
    # Python 3.13 sets it. Chain, name and dates are verified without it, too; with it, so are
    # formalities of RFC 5280 that other programs do not ask for, and that certificates of one's own
    # often lack: those of Icinga 2 have no key identifiers (Icinga/icinga2#10469).
    result.verify_flags &= ~ssl.VERIFY_X509_STRICT
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.verify is False:
        result.check_hostname = False
        result.verify_mode = ssl.CERT_NONE
    if settings.certificate is not None:
        _show(result, settings.certificate, settings.key)
    return result


def _check_readable(key: str, path: str) -> None:
    """ssl's own errors do not say which file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
        if not regular:  # a FIFO would have ssl wait for a writer
            raise Undelivered(f"{key} {text.printable_argument(path)}: not a regular file")
    except OSError as error:
        raise Undelivered(f"{key} {text.printable_argument(path)}: {os.strerror(error.errno or 0)}") from None


def _show(context_: ssl.SSLContext, certificate: str, key: Optional[str]) -> None:
    def no_password() -> NoReturn:
        # Without this, OpenSSL would ask on the terminal.
        raise ValueError("the key is encrypted")

    try:
        context_.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError):
            why = _words_of(error) if error.reason else "no certificate, or not its key (PEM)"
        else:
            why = str(error)
        raise Undelivered(f"certificate {text.printable_argument(certificate)}: {records.shown(why)}") from None


def _words_of(error: ssl.SSLError) -> str:
    """``WRONG_VERSION_NUMBER`` in words."""
    return error.reason.replace("_", " ").lower() if error.reason else str(error).partition(" (_ssl.c")[0]


class Connection:
    """To one server, for one request after the other."""

    def __init__(self, url: Url, tls: Optional[ssl.SSLContext], began: float, until: float) -> None:
        self._began, self._until = began, until
        self._client = _Client(url, tls, until)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises Undelivered for everything but an answer. The server may get the same request
        twice."""
        try:
            kept: Optional[_Timed] = self._client.sock
            if kept is None:
                return self._answer(path, body, headers)
            kept.silent = True
            try:
                return self._answer(path, body, headers)
            except _HUNG_UP:
                # Servers close a connection that was idle, or when they are restarted, and that
                # shows at the next request only.
                if not kept.silent:
                    raise
            self.close()
            return self._answer(path, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Undelivered(self._why(error)) from None

    def _answer(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """By the connection that there is, else by a new one. Raises OSError, HTTPException,
        ValueError."""
        self._client.request("POST", path, body, {"User-Agent": f"check_mounts/{__version__}", **headers})
        response = self._client.getresponse()
        with response:
            data = response.read(LONGEST_ANSWER)
            if (
                not response.isclosed()
            ):  # more than anybody has to say; the next answer is not to begin in the middle of it
                self._client.close()
        return Answer(response.status, response.reason, data)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _why(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {records.shown(error.verify_message)}"
        if isinstance(error, (http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "it has hung up without an answer"
        if isinstance(error, ssl.SSLError):
            return f"TLS: {records.shown(_words_of(error))}"
        # An alias of TimeoutError since Python 3.10.
        if isinstance(error, (socket.timeout, TimeoutError)):
            return f"{self._client.step} within {text.seconds_words(max(0.0, round(self._until - self._began, 1)))}"
        if isinstance(error, socket.gaierror):
            return records.shown(f"{self._client.host}: {error.strerror}")
        if isinstance(error, OSError):
            return records.shown(error.strerror or "the connection failed")
        return "what it answers is not HTTP"


class _Client(http.client.HTTPConnection):
    """http.client's, on a socket whose every call ends in time. ``step`` says what is being waited
    for, in vain if it takes too long."""

    def __init__(self, url: Url, tls: Optional[ssl.SSLContext], until: float) -> None:
        super().__init__(url.address.host, url.address.port or _PORTS[url.scheme])
        self.default_port = _PORTS[url.scheme]  # not named in the Host header
        self.step = "no connection"
        self._tls = tls
        self._until = until

    def connect(self) -> None:
        """A connection, by the first address that has one. Raises OSError, the most telling one."""
        self.step = "its name was not found"
        addresses = resolved(self.host, self.port, self._until)
        self.step = "no connection"
        errors: list[OSError] = []
        for position, (family, target) in enumerate(addresses):
            try:
                # One that never answers leaves time for the others.
                plain = _connected(family, target, _left(self._until) / (len(addresses) - position))
                break
            except OSError as error:
                errors.append(error)
        else:
            raise min(errors, key=_reach)
        self.sock: Any = _Timed(self._secured(plain), self._until)
        self.step = "no answer"

    def _secured(self, plain: socket.socket) -> socket.socket:
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return plain
            self.step = "no TLS handshake"
            plain.settimeout(_left(self._until))  # it is for the handshake as a whole
            return self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _connected(family: int, target: Any, seconds: float) -> socket.socket:
    """Raises OSError."""
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(seconds)
        plain.connect(target)
    except BaseException:
        plain.close()
        raise
    return plain


def _reach(error: OSError) -> int:
    """How little it says of the server: less than an answer (refused) does silence, and nothing
    what never left this host."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return 1
    return 2 if error.errno in _NO_WAY else 0


def _left(until: float) -> float:
    """The seconds that are left; raises TimeoutError where none are, because 0 would be a socket
    that does not block."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Timed:
    """As much of a socket as http.client uses. The timeout of a socket is for each call; here it is
    for all of them together.

    As with a socket, what makefile() gave keeps it open: http.client closes it before it reads an
    answer that ends with the connection. ``silent``: nothing has come since it was last set."""

    def __init__(self, wrapped: socket.socket, until: float) -> None:
        self._wrapped = wrapped
        self._until = until
        self._users = 1
        self._closed = False
        self.silent = True

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wrapped.settimeout(_left(self._until))
            rest = rest[self._wrapped.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        self._users += 1
        return io.BufferedReader(_Reader(self))

    def receive(self, buffer: Any) -> int:
        self._wrapped.settimeout(_left(self._until))
        count = self._wrapped.recv_into(buffer)
        self.silent = self.silent and not count
        return count

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.release()

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self._wrapped.close()


class _Reader(io.RawIOBase):
    def __init__(self, owner: _Timed) -> None:
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._owner.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.release()


# --- names


def resolved(host: str, port: int, until: float) -> list[tuple[int, Any]]:
    """The family and address of a server, several where it has them. Raises OSError, TimeoutError.

    getaddrinfo(3) takes no timeout, and no signal ends its wait: where no name server answers, it
    takes 5 to 30 seconds. So a child asks."""
    try:
        return _asked(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_and_exit(writing, host, port)
    os.close(writing)
    try:
        return _understood(_all_of(reading, until))
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # not reaped yet, so the pid is not somebody else's
        os.waitpid(child, 0)


def _asked(host: str, port: int, flags: int) -> list[tuple[int, Any]]:
    return [(found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]


def _answer_and_exit(writing: int, host: str, port: int) -> NoReturn:
    """Lines of text: an error's number and words, or a family and the parts of an address."""
    try:
        # Whoever ends this worker ends its child.
        processes.die_with_parent(os.getppid())
        try:
            lines = ["\t".join(map(str, (int(family), *target))) for family, target in _asked(host, port, 0)]
        except socket.gaierror as error:
            lines = [f"error\t{error.errno}\t{error.strerror}"]
        os.write(writing, "\n".join(lines[:8]).encode())
    finally:
        os._exit(0)


def _understood(data: bytes) -> list[tuple[int, Any]]:
    lines = [line.split("\t") for line in data.decode().split("\n") if line]
    if lines and lines[0][0] == "error":
        raise socket.gaierror(int(lines[0][1]), lines[0][2])
    if not lines:
        raise socket.gaierror(socket.EAI_FAIL, "the look-up failed")
    return [(int(family), (target, *map(int, numbers))) for family, target, *numbers in lines]


def _all_of(reading: int, until: float) -> bytes:
    data = b""
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    while True:
        if not waiting.poll(_left(until) * 1000):
            raise TimeoutError
        chunk = os.read(reading, 4096)
        if not chunk:
            return data
        data += chunk
