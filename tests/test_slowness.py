"""Where the time of a slow operation is, and what people read of it."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Optional

import pytest

from check_mounts.probing import timing
from check_mounts.probing.servers import Server
from check_mounts.slowness import Asked, Place, Unusual, milliseconds
from tests.test_diagnosis import Rpc, reply

SLOW = Unusual("READ", 0.18, 0.003)


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        pytest.param(Asked(0.0003, 0.0004), Place.DISKS, id="both are quick"),
        pytest.param(Asked(0.0003, 0.17), Place.THREADS, id="the call waits"),
        pytest.param(Asked(0.175, 0.176), Place.WIRE, id="the connection waits"),
        pytest.param(Asked(0.04, 0.041), Place.DISKS, id="a wire that was always long"),
        pytest.param(Asked(0.1, 0.01), Place.WIRE, id="a call that overtakes"),
        pytest.param(Asked(0.175), Place.WIRE, id="no answer to the call, and a slow connection"),
        pytest.param(Asked(0.0003), None, id="no answer to the call"),
        pytest.param(None, None, id="not asked"),
    ],
)
def test_where_the_time_is(asked: Optional[Asked], place: Optional[Place]) -> None:
    assert SLOW._replace(asked=asked).place is place


def test_a_call_waits_for_those_on_its_own_connection() -> None:
    """nfsd serves one call of each connection in turn: ten calls take ten turns, and NULL one."""
    asked = Asked(0.0003, 0.02)
    assert SLOW._replace(asked=asked).place is Place.DISKS
    assert SLOW._replace(asked=asked, waiting=9.0).place is Place.THREADS


def test_many_bytes_take_several_round_trips() -> None:
    asked = Asked(0.025, 0.0255)
    assert SLOW._replace(asked=asked).place is Place.DISKS
    assert SLOW._replace(asked=asked, size=1 << 20).place is Place.WIRE


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(0.0003, 0.0004), "READ 180 ms, usually 3 ms; connect 0.3 ms, NULL 0.4 ms: its disks"),
        (Asked(0.00031, 0.1712), "READ 180 ms, usually 3 ms; connect 0.3 ms, NULL 171 ms: its threads"),
        (Asked(0.1501, 0.1503), "READ 180 ms, usually 3 ms; connect 150 ms, NULL 150 ms: the wire"),
        (Asked(0.15), "READ 180 ms, usually 3 ms; connect 150 ms: the wire"),
        (Asked(0.00004), "READ 180 ms, usually 3 ms; connect 0.04 ms"),
        (None, "READ 180 ms, usually 3 ms"),
    ],
)
def test_in_words(asked: Optional[Asked], words: str) -> None:
    assert SLOW._replace(asked=asked).words == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"), (0.000004, "0 ms"), (0.00004, "0.04 ms"), (0.000096, "0.1 ms"), (0.0032, "3.2 ms"),
        (0.00996, "10 ms"), (0.1804, "180 ms"), (1.25, "1250 ms"), (9.9999, "10000 ms"), (12.34, "12.3 s"),
    ],
)  # fmt: skip
def test_milliseconds(seconds: float, words: str) -> None:
    assert milliseconds(seconds) == words


# -- real connections


def server(rpc: Rpc) -> Server:
    return Server("127.0.0.1", rpc.port, "nfs", 4)


def test_the_median_of_what_a_server_takes() -> None:
    """One of five calls comes at a bad moment."""
    asked = 0

    def answer(connection: socket.socket, call: bytes) -> None:
        nonlocal asked
        asked += 1
        time.sleep(0.6 if asked == 2 else 0.05)
        connection.sendall(reply(call))

    with contextlib.closing(Rpc(answer)) as rpc:
        (found,) = timing.measure([server(rpc)]).values()
    assert asked == 5
    assert found.null is not None and 0.05 <= found.null < 0.6
    assert found.connect < 0.05


def test_an_error_is_an_answer_too() -> None:
    with contextlib.closing(Rpc(lambda connection, call: connection.sendall(reply(call, 1, 1, 1)))) as rpc:
        (found,) = timing.measure([server(rpc)]).values()
    assert found.null is not None


def test_a_server_that_answers_no_call() -> None:
    with contextlib.closing(Rpc(lambda connection, call: None)) as rpc:
        (found,) = timing.measure([server(rpc)]).values()
    assert found.null is None


def test_servers_that_cannot_be_asked_are_left_out() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = Server("127.0.0.1", unused.getsockname()[1], "nfs", 4)
        assert timing.measure([refusing, Server("not an address", 1, "nfs", 4)]) == {}


def test_it_takes_no_longer_than_it_may_and_asks_no_more_servers_than_it_may() -> None:
    many = [Server("not an address", number, "nfs", 4) for number in range(1, 200)]
    assert timing.measure(many) == {}
    assert timing.LONGEST < 10
