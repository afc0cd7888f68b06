"""The counters of NFS mounts: real texts of the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from check_mounts.probing import mountstats
from check_mounts.probing.mountstats import Transport


def kernels(text: bytes) -> bytes:
    """The names of operations as the kernel aligns them."""
    return re.sub(rb"(?m)^\t([A-Z]+): ", lambda line: b"\t%12s: " % line[1], text)


TCP_V42 = kernels(rb"""no device mounted on / with fstype rootfs
device proc mounted on /proc with fstype proc
device 10.0.0.5:/export mounted on /mnt/with\040space\134 with fstype nfs4 statvers=1.1
	opts:	rw,vers=4.2,rsize=1048576,wsize=1048576,acregmin=3,hard,proto=tcp,timeo=600,retrans=2,sec=sys,addr=10.0.0.5
	age:	86400
	impl_id:	name='',domain='',date='0,0'
	caps:	caps=0x3ffbffff,wtmult=512,dtsize=1048576,bsize=0,namlen=255
	nfsv4:	bm0=0xfdffbfff,bm1=0xf9be3e,bm2=0x60800,acl=0x3,sessions,pnfs=not configured,lease_time=90,lease_expired=0
	sec:	flavor=1,pseudoflavor=1
	events:	52 1310 2 90 10 12 1360 60 0 20 0 0 0 0 30 0 0 5 0 0 0 0 0 0 0 0 0
	bytes:	1000 2000 0 0 1000 2000 1 1
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	tcp 875 1 2 3 84 1207 1204 5 1420 7 16 11 1330
	per-op statistics
	NULL: 1 1 0 44 24 0 0 0 0
	READ: 100 105 2 20000 900000 1 400 402 0
	WRITE: 50 57 3 20000 9000 1 400 402 1
	COMMIT: 0 0 0 0 0 0 0 0 0
	LAYOUTSTATS: 4 4 0 1 1 1 1 1 0

device tmpfs mounted on /tmp with fstype tmpfs
""")
UDP_V3 = kernels(b"""device nas:/home mounted on /home with fstype nfs statvers=1.1
	opts:	rw,vers=3,proto=udp
	age:	7
	RPC iostats version: 1.1  p/v: 100003/3 (nfs)
	xprt:	udp 703 1 300 299 4 310 0 2 5 290
	per-op statistics
	NULL: 0 0 0 0 0 0 0 0 0
	GETATTR: 300 302 1 1 1 1 1 1 0
""")
OLD_TCP_V3 = kernels(b"""device nas:/home mounted on /home with fstype nfs statvers=1.0
	age:	1234
	RPC iostats version: 1.0  p/v: 100003/3 (nfs)
	xprt:	tcp 875 1 1 0 0 50 50 0 50 0
	per-op statistics
	NULL: 0 0 0 0 0 0 0 0
	GETATTR: 60 50 0 1 1 1 1 1
	READ: 10 13 0 1 1 1 1 1
""")
RDMA = kernels(b"""device nas:/fast mounted on /fast with fstype nfs4 statvers=1.1
	age:	99
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	rdma 0 0 1 0 12 500 498 0 510 0 10 20 0 4096 8192 0 0 0 0 0 0 0 0 0 0 0 0
	per-op statistics
	NULL: 1 1 0 44 24 0 0 0 0
""")
NCONNECT = kernels(b"""device nas:/wide mounted on /wide with fstype nfs4 statvers=1.1
	age:	99
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	tcp 875 1 1 0 30 100 98 1 100 1 10 2 300
	xprt:	tcp 876 1 2 0 20 200 199 0 200 2 10 2 400
	xprt:	tcp 877 0 3 0 25 300 300 0 300 3 10 2 500
	per-op statistics
	NULL: 1 1 0 44 24 0 0 0 0
""")


def only(data: bytes) -> Transport:
    (found,) = mountstats.parse_mountstats(data).values()
    return found


def test_nfs_over_tcp() -> None:
    found = mountstats.parse_mountstats(TCP_V42)
    assert list(found) == [b"/mnt/with space\\"]
    transport = found[b"/mnt/with space\\"]
    assert transport == Transport("tcp", 1, 1207, 1204, 5, 7, 1330, 2, 3, 84, 5 + 7, 2 + 3, 86400, 0)
    assert transport.in_flight == 3
    assert (
        mountstats.transport_words(transport)
        == "up to 3 requests in flight, 12 retransmissions, no request finished for 84 s"
    )


def test_nfs_over_udp_says_nothing_of_connections() -> None:
    transport = only(UDP_V3)
    assert transport == Transport("udp", 1, 300, 299, 4, 0, 290, None, None, None, 2, 1, 7)
    assert mountstats.transport_words(transport) == "up to 1 request in flight, 2 retransmissions"


def test_an_old_kernel() -> None:
    transport = only(OLD_TCP_V3)
    # Operations that were never sent make good for no retransmission. 0 s idle is what a broken
    # connection has as well.
    assert transport == Transport("tcp", 1, 50, 50, 0, 0, None, 1, 0, None, 3, 0, 1234)
    assert mountstats.transport_words(transport) == "no request in flight, 3 retransmissions"


def test_nfs_over_rdma() -> None:
    assert only(RDMA) == Transport("rdma", 1, 500, 498, 0, 0, None, 1, 0, 12, 0, 0, 99)
    assert mountstats.transport_words(only(RDMA)) == "up to 2 requests in flight, no request finished for 12 s"


def test_several_connections_are_added_up() -> None:
    transport = only(NCONNECT)
    assert transport == Transport("tcp", 3, 600, 597, 1, 6, 1200, 6, 0, 20, 0, 0, 99)
    # A part of them would be no sum.
    assert mountstats.parse_mountstats(NCONNECT.replace(b"tcp 876", b"quic 876")) == {}
    # One of them is not connected, or was just used: nobody knows.
    assert only(NCONNECT.replace(b"876 1 2 0 20", b"876 1 2 0 0")).idle_seconds is None


def test_the_last_mount_on_a_point_counts() -> None:
    again = UDP_V3.replace(b"300 299", b"400 390").replace(b"nas:/home", b"nas:/other")
    assert only(UDP_V3 + again).in_flight == 10
    # Of the one on top nothing is known: that of the one below would be a lie.
    assert (
        mountstats.parse_mountstats(
            UDP_V3 + b"device nas:/x mounted on /home with fstype nfs4 statvers=1.1\n\tage:\t1\n"
        )
        == {}
    )


@pytest.mark.parametrize("text", [TCP_V42, UDP_V3, OLD_TCP_V3, RDMA, NCONNECT])
def test_truncated_anywhere(text: bytes) -> None:
    whole = only(text)
    for length in range(len(text)):
        for found in mountstats.parse_mountstats(text[:length]).values():
            # What is said is said of whole lines: never a number that has lost its end.
            assert (found.protocol, found.bad_xids <= whole.bad_xids) == (whole.protocol, True)
            assert found.connections < whole.connections or (found.sends, found.receives) == (
                whole.sends,
                whole.receives,
            )
            assert found.connections < whole.connections or found.pending == whole.pending
            assert found.timeouts is None or found.timeouts <= (whole.timeouts or 0)
            assert found.retransmissions is None or found.retransmissions <= (whole.retransmissions or 0)
            mountstats.transport_words(found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"statvers=1.1", b"statvers=2.0"),
        (b"statvers=1.1", b""),
        (b"fstype nfs4", b"fstype nfs5"),
        (b"fstype nfs4", b"fstype fuse.nfs4"),
        (b"xprt:\ttcp", b"xprt:\tquic"),
        (b"xprt:\ttcp 875 1 2 3 84 1207", b"xprt:\ttcp 875 1 2 3 84 x"),
        (b"xprt:\ttcp 875 1 2 3 84 1207", b"xprt:\ttcp 875 1 2 3 84 1_0"),
        (b"xprt:\ttcp 875", b"xprt:\ttcp " + b"9" * 5000),
        (b" 1204 5 1420 7 16 11 1330", b""),
        (b"\txprt:", b"\typrt:"),
        (b"device 10", b"device a b 10"),
    ],
)
def test_unknown_formats_give_nothing(old: bytes, new: bytes) -> None:
    assert old in TCP_V42
    assert mountstats.parse_mountstats(TCP_V42.replace(old, new)) == {}


def test_operations_that_are_not_understood_give_nothing() -> None:
    for new in (b"READ: 100 x 2", b"READ: 1", b"READ", b"READ: 100 105 \xb2"):
        found = only(TCP_V42.replace(b"READ: 100 105 2 20000 900000 1 400 402 0", new))
        assert (found.retransmissions, found.timeouts, found.in_flight) == (None, None, 3)
    assert only(TCP_V42.replace(b"tcp 875 1 2 3 84", b"tcp 875 1 2 3 -84")).idle_seconds is None
    assert only(TCP_V42.replace(b"1207 1204", b"1204 1207")).in_flight == 0  # read while they changed
    assert only(TCP_V42.replace(b"age:\t86400", b"age:\tx")).age_seconds is None


def test_any_bytes_in_a_mount_point() -> None:
    line = b"device \xff\\134 mounted on /\\040\\011\\012\\134\xff\r\x0b\xc3\xa4 with fstype nfs4 statvers=1.1"
    data = TCP_V42.replace(
        rb"device 10.0.0.5:/export mounted on /mnt/with\040space\134 with fstype nfs4 statvers=1.1", line
    )
    assert list(mountstats.parse_mountstats(data)) == [b"/ \t\n\\\xff\r\x0b\xc3\xa4"]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"device", b"device \n", b"\txprt:\ttcp 1\n", b"\0\xff" * 1000, b"xprt: " * 1000 + b"\n"]
)
def test_garbage_in_mountstats(data: bytes) -> None:
    assert mountstats.parse_mountstats(data) == {}


def test_the_file(tmp_path: Path) -> None:
    (tmp_path / "mountstats").write_bytes(UDP_V3)
    assert mountstats.read_mountstats(str(tmp_path / "mountstats")) == {b"/home": only(UDP_V3)}
    assert mountstats.read_mountstats(str(tmp_path / "none")) == {}
    assert isinstance(mountstats.read_mountstats(), dict)
