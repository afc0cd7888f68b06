"""Addresses of servers: HOST:PORT and URLs. Pure.

Import budget: ``re``; ``socket`` for an IPv6 address. urllib's urlsplit is not used, because it
silently drops tabs and line breaks. No message repeats the input, because it may contain a
password."""

from __future__ import annotations

import re

from check_mounts.typed import NamedTuple, Optional

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_URL = re.compile(r"(https?)://([^/]*)(/.*)?\Z")
_PRINTABLE = re.compile(r"[!-~]*\Z")
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|::1)\Z", re.IGNORECASE)
_SECRET = "a user or password is not allowed there: secrets belong in the configuration"


class Address(NamedTuple):
    """A name or an address, without brackets, and a port; None for the default port."""

    host: str
    port: Optional[int]

    @property
    def bracketed(self) -> str:
        """The host as it is written in URLs."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether data sent there stays on this host."""
        return _LOOPBACK.match(self.host) is not None

    def __str__(self) -> str:
        return self.bracketed if self.port is None else f"{self.bracketed}:{self.port}"


class Url(NamedTuple):
    """``scheme`` is http or https; ``path`` is empty or begins with a slash."""

    scheme: str
    address: Address
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}{self.path}"


def parse_address(words: str) -> Address:
    """``HOST``, ``HOST:PORT``, ``[IPv6]:PORT``. Raises ValueError."""
    if "@" in words:
        raise ValueError(_SECRET)
    if words.startswith("["):
        host, bracket, rest = words[1:].partition("]")
        if not bracket or not _is_ipv6(host):
            raise ValueError("the address in brackets is not an IPv6 address")
    else:
        if words.count(":") > 1:
            raise ValueError("an IPv6 address belongs in brackets: [::1]")
        host, colon, port = words.partition(":")
        rest = colon + port
        if not host:
            raise ValueError("the host is missing")
        # A name that begins with a dash would be an option to send_nsca.
        if not _NAME.match(host) or len(host) > 253:
            raise ValueError("the host is neither a name nor an address")
    return Address(host, _port(rest))


def _is_ipv6(words: str) -> bool:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, words)
    except (OSError, ValueError):
        return False
    return True


def _port(rest: str) -> Optional[int]:
    """The port, from the text that follows the host."""
    if not rest:
        return None
    if rest[0] != ":" or not _PORT.match(rest[1:]) or not 0 < int(rest[1:]) < 1 << 16:
        raise ValueError("the port is not a number from 1 to 65535")
    return int(rest[1:])


def parse_url(words: str) -> Url:
    """``http[s]://HOST[:PORT][/PATH]``. Raises ValueError."""
    if not _PRINTABLE.match(words):
        raise ValueError("a URL contains no blanks, no control characters, and only ASCII")
    match = _URL.match(words)
    if match is None:
        raise ValueError("the URL must begin with https:// or http://")
    if "?" in words or "#" in words:
        raise ValueError("a query or fragment is not allowed in the URL: secrets belong in the configuration")
    return Url(match[1], parse_address(match[2]), match[3] or "")
