"""Which servers a pass asks, when, and which it waits for: servers on loopback."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from check_mounts.clocks import Monotonic, after
from check_mounts.probing.interviews import Interviews
from check_mounts.probing.replies import Verdict
from check_mounts.probing.servers import Server


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that accepts, and never answers."""
    with socket.create_server(("", 0), backlog=1024) as listener:
        yield listener.getsockname()[1]


def servers(port: int, count: int, net: int = 1) -> list[Server]:
    return [Server(f"127.0.{net}.{number + 1}", port, "nfs", 4) for number in range(count)]


def sockets() -> int:
    return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in _descriptors())


def _descriptors() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]


def test_each_server_is_asked_once_and_waited_for_a_moment(mute: int) -> None:
    interviews, before = Interviews(0.5, after(60)), sockets()
    assert not interviews.busy and not interviews.awaits_any
    (server,) = servers(mute, 1)
    interviews.ask([server])
    interviews.step()
    interviews.ask([server], after(50), wait=False)
    interviews.step()
    assert sockets() == before + 1
    assert interviews.busy and interviews.awaits_any
    while interviews.busy:
        interviews.step()
    assert not interviews.awaits_any
    assert interviews.replies[server].verdict is Verdict.RPC_SILENT


def test_a_server_that_was_asked_long_ago_gets_no_further_moment(mute: int) -> None:
    interviews = Interviews(0.2, after(60))
    (server,) = servers(mute, 1)
    interviews.ask([server], after(50), wait=False)
    interviews.step()
    assert not interviews.awaits_any
    time.sleep(0.25)
    interviews.ask([server])
    assert not interviews.awaits_any
    interviews.close()
    assert interviews.replies[server].verdict is Verdict.CONNECTED  # it had no time to answer


def test_the_end_of_the_pass_is_the_end(mute: int) -> None:
    interviews = Interviews(5.0, Monotonic(time.monotonic()))
    interviews.ask(servers(mute, 1))
    assert not interviews.awaits_any
    interviews.close()
    assert interviews.replies == {}


def test_connections_are_bounded_however_many_servers_fail_one_after_the_other(mute: int) -> None:
    interviews, before, most = Interviews(1.0, after(60)), sockets(), 0
    groups = [servers(mute, 100, net) for net in range(1, 7)]
    everyone = {server for group in groups for server in group}
    for group in groups:
        interviews.ask(group)
        interviews.step()
        most = max(most, sockets() - before)
    while interviews.busy:
        interviews.step()
        most = max(most, sockets() - before)
    assert interviews.replies.keys() == everyone
    assert 100 <= most <= 256
    assert sockets() == before
