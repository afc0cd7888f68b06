"""What happened to the connections and the lease of an NFS mount, by two looks at counters."""

from __future__ import annotations

import random
from typing import Any

import pytest

from check_mounts.clocks import Monotonic
from check_mounts.model import Mount, Seen
from check_mounts.probing import mountstats, transports
from check_mounts.probing.mountstats import Transport
from check_mounts.probing.transports import Look
from tests.test_mountstats import TCP_V42, UDP_V3

AT = b"/mnt/x"
MOUNT = Mount(1, 0, (0, 1), b"/", AT, (), (), b"nfs4", b"filer:/x", ())
THEN = Transport("tcp", 1, 100, 90, 2, 0, connects=4, age_seconds=1000, lease_expired=0)


def said(then: Transport, now: Transport, elapsed: float = 5.0) -> list[str]:
    before = Look(Monotonic(50.0), {AT: then})
    return transports.remarks(before, Look(Monotonic(50.0 + elapsed), {AT: now}), MOUNT)


def later(elapsed: int = 5, **changes: Any) -> Transport:
    return THEN._replace(age_seconds=(THEN.age_seconds or 0) + elapsed, **changes)


def test_nothing_changed() -> None:
    assert said(THEN, later(sends=200, receives=180)) == []


@pytest.mark.parametrize(("connects", "times"), [(5, "once"), (6, "once"), (7, "2 times"), (17404, "8700 times")])
def test_attempts_to_connect(connects: int, times: str) -> None:
    """One that succeeds may count twice."""
    assert said(THEN, later(connects=connects)) == [f"the client began to connect at least {times} in 5 s"]


def test_rdma_counts_connections_only() -> None:
    rdma = THEN._replace(protocol="rdma")
    assert said(rdma, later(protocol="rdma", connects=7)) == ["the client began to connect at least 3 times in 5 s"]


def test_replies_that_nobody_asked_for() -> None:
    assert said(THEN, later(bad_xids=3)) == ["1 reply in 5 s belongs to no request (bad XIDs)"]
    assert said(THEN, later(60, bad_xids=12), 60.4) == ["10 replies in 60 s belong to no request (bad XIDs)"]


@pytest.mark.parametrize(
    "now",
    [
        later(connects=1),  # a new client, or a counter that wrapped
        later(bad_xids=0, connects=9),
        later(0, connects=9),  # it is as old as before
        THEN._replace(age_seconds=1, connects=9),  # a new mount
        later(500, connects=9),  # or an old one, moved here
        later(connections=2, connects=9),
        later(protocol="rdma", connects=9),
        THEN._replace(age_seconds=None, connects=9),
    ],
)
def test_other_counters_are_no_change(now: Transport) -> None:
    assert said(THEN, now) == []


def test_counters_that_the_protocol_does_not_have() -> None:
    udp = THEN._replace(protocol="udp", connects=None)
    assert said(udp, later(protocol="udp", connects=None)) == []


def test_a_mount_of_which_nothing_is_known() -> None:
    now = Look(Monotonic(9.0), {AT: later(connects=9)})
    assert transports.remarks(None, now, MOUNT) == []
    assert transports.remarks(Look(Monotonic(4.0), {}), now, MOUNT) == []
    assert transports.remarks(None, now, MOUNT._replace(mount_point=b"/mnt/y")) == []
    elsewhere = MOUNT._replace(seen_at=Seen(b"/proc/812/root", AT))  # its counters are in another file
    before = Look(Monotonic(4.0), {AT: THEN})
    assert transports.remarks(before, now, elsewhere) == []
    there = Look(Monotonic(9.0), now.counters, "/proc/812/mountstats")
    assert transports.remarks(Look(*before[:2], there.file), there, elsewhere) != []


def test_an_expired_lease() -> None:
    lost = "its NFSv4 lease expired 42 s ago: the server may have released its locks and open files"
    assert transports.remarks(None, Look(Monotonic(9.0), {AT: THEN._replace(lease_expired=42)}), MOUNT) == [lost]
    assert said(THEN, later(connects=6, lease_expired=42)) == ["the client began to connect at least once in 5 s", lost]


def test_ordinary_days_have_no_words() -> None:
    """Requests come and go, other mounts take the place, times are rounded."""
    chance = random.Random(15)
    then = THEN
    for _ in range(10_000):
        elapsed = chance.uniform(5.0, 3600.0)
        if chance.random() < 0.1:  # another mount, which came meanwhile
            now = THEN._replace(age_seconds=int(chance.uniform(0, elapsed)), connects=chance.randrange(99), bad_xids=9)
        else:
            age = int((then.age_seconds or 0) + elapsed + chance.uniform(-1, 1))
            now = then._replace(sends=then.sends + chance.randrange(10**6), age_seconds=age)
        assert said(then, now, elapsed) == []
        then = now


# -- the kernel's text


def lease(text: bytes) -> list[object]:
    return [transport.lease_expired for transport in mountstats.parse_mountstats(text).values()]


def test_the_lease_in_the_kernels_text() -> None:
    assert lease(TCP_V42) == [0]
    assert lease(TCP_V42.replace(b"lease_expired=0", b"lease_expired=4711")) == [4711]
    assert lease(TCP_V42.replace(b",lease_time=90,lease_expired=0", b"")) == [None]  # before Linux 5.3
    assert lease(TCP_V42.replace(b"lease_expired=0", b"lease_expired=-7")) == [None]
    assert lease(UDP_V3) == [None]


def test_a_server_cannot_make_up_a_lease() -> None:
    """The kernel prints the name of the server's implementation as the server sent it."""
    name = b"name='\n\tnfsv4:\tbm0=0x1,lease_time=1,lease_expired=9'"
    assert lease(TCP_V42.replace(b"name=''", name)) == [0]
