"""Servers that hang up between the results that they are to take: what is asked again, and what is
said of it."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts.passive import Refused, Undelivered
from check_mounts.passive.progress import unread
from tests.conftest import undelivered
from tests.test_passive import (
    HUNG_UP,
    TAKEN,
    UNKNOWN,
    Server,
    Start,
    answering,
    authority,
    guard,
    http,
    icinga,
    result,
    start,
)

__all__ = ["authority", "guard", "start"]  # fixtures

FIVE = [result(service=f"m{number}") for number in range(5)]


def refused(server: Server, base: Path, seconds: float = 5.0) -> Undelivered:
    return undelivered(icinga(server, base), FIVE, seconds)


def politely(connection: socket.socket) -> None:
    """With what TLS has for it."""
    if isinstance(connection, ssl.SSLSocket):
        connection.unwrap()


def plainly(connection: socket.socket) -> None:
    """As a process does that ends."""


def rudely(connection: socket.socket) -> None:
    """With RST, as a host does that was started anew."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def services(server: Server) -> list[str]:
    return [str(request).partition("client1!")[2][:2] for request in server.requests]


@pytest.mark.parametrize("way", [politely, plainly, rudely])
def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    start: Start, authority: Path, way: Callable[[socket.socket], None]
) -> None:
    """By a server that does not say so with its last answer."""

    def handler(server: Server, connection: socket.socket) -> None:
        for _ in range(2):
            if server.request(connection):
                connection.sendall(TAKEN)
        way(connection)

    server = start(handler)
    icinga(server, authority).deliver(FIVE, time.monotonic() + 5, unread())
    assert server.connections == 3
    assert services(server) == ["m0", "m1", "m2", "m3", "m4"]


def test_a_request_that_was_read_is_asked_once_more(start: Start, authority: Path) -> None:
    """Whether it was taken nobody knows; to submit it twice does no harm."""

    def handler(server: Server, connection: socket.socket) -> None:
        while server.request(connection):
            if len(server.requests) == 2:
                return
            connection.sendall(TAKEN)

    server = start(handler)
    icinga(server, authority).deliver(FIVE, time.monotonic() + 5, unread())
    assert (server.connections, services(server)) == (2, ["m0", "m1", "m1", "m2", "m3", "m4"])


def test_a_server_that_goes_away_midway_has_refused_nothing(start: Start, authority: Path) -> None:
    """The connection is made anew once. What was not delivered is worth another try, unlike what is
    Refused."""

    def handler(server: Server, connection: socket.socket) -> None:
        while server.request(connection) and len(server.requests) < 3:
            connection.sendall(TAKEN)

    server = start(handler)
    error = refused(server, authority)
    assert str(error) in [f"{words}, after 2 of 5 results" for words in HUNG_UP]
    assert not isinstance(error, Refused)
    assert (server.connections, services(server)) == (2, ["m0", "m1", "m2", "m2"])


def test_a_new_connection_is_not_made_anew(start: Start, authority: Path) -> None:
    server = start(lambda server, connection: server.request(connection))
    assert str(refused(server, authority)) in HUNG_UP
    assert server.connections == 1


def test_an_answer_that_has_begun_is_not_asked_for_again(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        while server.request(connection):
            if len(server.requests) == 2:
                connection.sendall(b"HTTP/1.1 2")
                return
            connection.sendall(TAKEN)

    server = start(handler)
    error = refused(server, authority)
    assert str(error).endswith(", after 1 of 5 results") and not isinstance(error, Refused)
    assert (server.connections, services(server)) == (1, ["m0", "m1"])


def test_the_time_is_for_both_attempts(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        if server.connections % 2:
            server.request(connection)
            connection.sendall(TAKEN)
        else:
            server.over.wait(10)

    server = start(handler)
    error = refused(server, authority, 2.0)
    assert re.fullmatch(r"no answer within [0-9.]+ s, after 1 of 5 results", str(error))
    assert not isinstance(error, Refused)


def test_who_said_no_to_some_has_refused_them(start: Start, authority: Path) -> None:
    """That is not changed by a server that hangs up in between."""

    def handler(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            connection.sendall(UNKNOWN if len(server.requests) == 2 else TAKEN)

    error = refused(start(handler), authority)
    assert isinstance(error, Refused)
    assert str(error).startswith("1 of 5 results were refused, the first: client1!m1: no such service")


def outcome(code: int) -> bytes:
    return b'{"results":[{"code":%d,"status":"why"}]}' % code


@pytest.mark.parametrize(
    ("answer", "for_now"),
    [
        (http("503 Service Unavailable", b'{"error":503,"status":"Shutting down."}'), True),
        (http("503 Service Unavailable", outcome(503)), True),
        (http("502 Bad Gateway", b"<h1>proxy</h1>"), True),
        (http("200 OK", outcome(503)), True),
        (http("500 Internal Server Error", outcome(500)), True),
        (http("500 Internal Server Error", outcome(403)), False),
        (http("409 Conflict", outcome(409)), False),
        (http("200 OK", outcome(409)), False),
    ],
)
def test_what_the_server_cannot_do_for_now_is_worth_another_try(
    start: Start, authority: Path, answer: bytes, for_now: bool
) -> None:
    """It keeps none of the others from being delivered, before or after, and is no less worth it
    beside what is refused for good."""
    server = start(answering(TAKEN, answer, UNKNOWN, TAKEN))
    error = refused(server, authority)
    assert isinstance(error, Refused) != for_now
    assert str(error).startswith("2 of 5 results were refused, the first: client1!m1: ")
    assert services(server) == ["m0", "m1", "m2", "m3", "m4"]


def test_one_connection_for_all_where_it_stays(start: Start, authority: Path) -> None:
    server = start(answering(TAKEN))
    icinga(server, authority).deliver(FIVE, time.monotonic() + 5, unread())
    assert (server.connections, services(server)) == (1, ["m0", "m1", "m2", "m3", "m4"])
