"""HTTP to a server that may misbehave in every way: its name is not found, it accepts no connection
or no TLS, it sends one byte a second.

Import budget: ``http.client``, ``os``, ``socket``, ``ssl``, ``stat``, ``time``. Only ``deliver``
loads this module, in a worker. It may wait for ever: it notes what it waits for, and its worker is
killed when the time is up.

It follows no redirects and uses no proxies of the environment: only the server that the user has
named gets the credentials."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from check_mounts import __version__, text
from check_mounts.passive import Settings, Undelivered, quiet, records
from check_mounts.passive.address import Url
from check_mounts.passive.progress import Progress, Waiting
from check_mounts.typed import Any, NamedTuple, NoReturn, Optional

LONGEST_ANSWER = 1 << 16
_MOST_ADDRESSES = 8
_PORTS = {"http": 80, "https": 443}
# The errors of a connection that the other side has closed; RemoteDisconnected is a
# ConnectionError, too.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
# Errors of this host, for example for an IPv6 address on a host without IPv6: they say nothing
# about the server.
_NO_WAY = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH))


class Answer(NamedTuple):
    """The answer of a server: ``body`` up to LONGEST_ANSWER, ``reason`` unchanged."""

    status: int
    reason: str
    body: bytes


@contextmanager
def connection(url: Url, settings: Settings, until: float, progress: Progress) -> Iterator[Connection]:
    """A connection, which is made at its first use. Raises Undelivered for files that cannot be
    used."""
    tls = context(settings) if url.scheme == "https" else None
    result = Connection(_Client(url, tls, until, progress))
    with quiet.broken_pipes():
        try:
            yield result
        finally:
            result.close()


def context(settings: Settings) -> ssl.SSLContext:
    """Trusted authorities, and our own certificate. Raises Undelivered for files that cannot be
    used."""
    for key, path in (("ca", settings.ca), ("certificate", settings.certificate), ("key", settings.key)):
        if path is not None:
            _check_readable(key, path)
    try:
        # With a file here, the context does not trust the system's authorities.
        result = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ValueError):
        raise Undelivered(f"ca {text.printable_argument(settings.ca or '')}: contains no certificate (PEM)") from None
    # Python 3.13 sets this flag. Chain, name and dates are verified without it, too. The flag adds
    # formalities of RFC 5280 that other programs do not require, and that private certificates
    # often lack: those of Icinga 2 have no key identifiers (Icinga/icinga2#10469).
    result.verify_flags &= ~ssl.VERIFY_X509_STRICT
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.verify is False:
        result.check_hostname = False
        result.verify_mode = ssl.CERT_NONE
    if settings.certificate is not None:
        _load_certificate(result, settings.certificate, settings.key)
    return result


def _check_readable(key: str, path: str) -> None:
    """Raises Undelivered, which names the file: ssl's own errors do not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
        if not regular:  # with a FIFO, ssl would wait for a writer
            raise Undelivered(f"{key} {text.printable_argument(path)}: not a regular file")
    except OSError as error:
        raise Undelivered(f"{key} {text.printable_argument(path)}: {os.strerror(error.errno or 0)}") from None


def _load_certificate(context_: ssl.SSLContext, certificate: str, key: Optional[str]) -> None:
    def no_password() -> NoReturn:
        # Without this function OpenSSL would ask on the terminal.
        raise ValueError("the key is encrypted")

    try:
        context_.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError):
            why = (
                _words_of(error)
                if error.reason
                else "the file holds no certificate, or the key is not that of the certificate (PEM)"
            )
        else:
            why = str(error)
        raise Undelivered(f"certificate {text.printable_argument(certificate)}: {records.shown(why)}") from None


def _words_of(error: ssl.SSLError) -> str:
    """``wrong version number`` for WRONG_VERSION_NUMBER."""
    return error.reason.replace("_", " ").lower() if error.reason else str(error).partition(" (_ssl.c")[0]


class Connection:
    """A connection to one server, for several requests one after the other."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request. Returns the answer; raises Undelivered if no answer comes. The server may
        get the same request twice."""
        try:
            if self._client.sock is None:
                return self._answer(path, body, headers)
            try:
                return self._answer(path, body, headers)
            except _HUNG_UP:
                # Servers close idle connections, and all connections when they restart. Only the
                # next request shows that.
                self.close()
            return self._answer(path, body, headers)
        except (OSError, http.client.HTTPException, _InTheMiddle, ValueError) as error:
            self.close()
            raise Undelivered(self._why(error)) from None

    def _answer(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, over the existing connection or a new one. Raises OSError, HTTPException,
        ValueError."""
        self._client.request("POST", path, body, {"User-Agent": f"check_mounts/{__version__}", **headers})
        response = self._client.getresponse()
        with response, _in_the_middle():
            data = response.read(LONGEST_ANSWER)
            if not response.isclosed():  # the answer is too long; the next one must not begin in its middle
                self._client.close()
        return Answer(response.status, response.reason, data)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _why(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {records.shown(error.verify_message)}"
        if isinstance(error, (http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "it closed the connection without an answer"
        if isinstance(error, ssl.SSLError):
            return f"TLS: {records.shown(_words_of(error))}"
        # An alias of TimeoutError since Python 3.10.
        if isinstance(error, (socket.timeout, TimeoutError)):
            return self._client.missed
        if isinstance(error, _InTheMiddle):
            return "it closed the connection in the middle of an answer"
        if isinstance(error, socket.gaierror):
            return records.shown(f"{self._client.host}: {error.strerror}")
        if isinstance(error, OSError):
            return records.shown(error.strerror or "the connection failed")
        return "its answer is not HTTP"


class _InTheMiddle(Exception):
    """The other side closed the connection in the middle of its answer."""


@contextmanager
def _in_the_middle() -> Iterator[None]:
    try:
        yield
    except _HUNG_UP as error:
        raise _InTheMiddle from error


class _Response(http.client.HTTPResponse):
    """An answer. The error says whether the connection was closed before or after the first byte:
    after it, the request must not be repeated."""

    def begin(self) -> None:
        if not self.fp.peek(1):
            raise http.client.RemoteDisconnected("no answer")
        with _in_the_middle():
            super().begin()


class _Client(http.client.HTTPConnection):
    """http.client's connection, which notes what it waits for."""

    response_class = _Response

    def __init__(self, url: Url, tls: Optional[ssl.SSLContext], until: float, progress: Progress) -> None:
        super().__init__(url.address.host, url.address.port or _PORTS[url.scheme])
        self.default_port = _PORTS[url.scheme]  # not named in the Host header
        self._tls = tls
        self._began, self._until = time.monotonic(), until
        self._progress = progress

    @property
    def missed(self) -> str:
        """``no connection within 5 s``."""
        seconds = max(0.0, round(self._until - self._began, 1))
        return f"{self._progress.waiting.words} within {text.seconds_words(seconds)}"

    def connect(self) -> None:
        """Connect to the first address that accepts. Raises the OSError that says most."""
        self._progress.waits_for(Waiting.NAME)
        addresses = resolve(self.host, self.port)
        self._progress.waits_for(Waiting.CONNECTION)
        errors: list[OSError] = []
        for position, (family, target) in enumerate(addresses):
            try:
                # An address that never answers leaves time for the others.
                plain = _connect(family, target, _seconds_left(self._until) / (len(addresses) - position))
                break
            except OSError as error:
                errors.append(error)
        else:
            raise min(errors, key=_reach)
        self.sock = self._start_tls(plain)
        self._progress.waits_for(Waiting.ANSWER)

    def _start_tls(self, plain: socket.socket) -> socket.socket:
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return plain
            self._progress.waits_for(Waiting.HANDSHAKE)
            return self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _connect(family: int, target: Any, seconds: float) -> socket.socket:
    """Raises OSError."""
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(seconds)
        plain.connect(target)
        plain.settimeout(None)
    except BaseException:
        plain.close()
        raise
    return plain


def _reach(error: OSError) -> int:
    """How little an error says about the server: a refusal says most, a timeout less, and an error
    of this host nothing."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return 1
    return 2 if error.errno in _NO_WAY else 0


def _seconds_left(until: float) -> float:
    """The seconds that are left. Raises TimeoutError if no time is left, because a timeout of 0
    would make the socket non-blocking."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """Look up the addresses of a server: (family, address). Raises OSError.

    getaddrinfo(3) takes no timeout, and no signal but SIGKILL ends its wait: if no name server
    answers, it takes 5 to 30 seconds."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(each[0], each[4]) for each in found[:_MOST_ADDRESSES]]
