"""Whose fault it is: real connections on loopback and in network namespaces of the tests' own; real
texts of the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from check_mounts.model import Mount
from check_mounts.probing import examination
from check_mounts.probing.examination import Examination, examine
from check_mounts.probing.replies import Reply, Verdict, words
from check_mounts.probing.servers import Server, server_of
from tests.conftest import until

CLONE_NEWNET = 0x40000000
LONG = 20.0  # for what answers: no test waits that long
# Where silence has to be waited for.
SHORT = 0.8

Behaviour = Callable[[socket.socket, bytes], None]


# -- servers


def reply(call: bytes, *fields: int, xid: Optional[int] = None) -> bytes:
    """A record that answers ``call``; without ``fields``, accepted with success."""
    number = struct.unpack_from(">I", call, 4)[0] if xid is None else xid
    body = struct.pack(f">{1 + len(fields or (0,) * 5)}I", number, *(fields or (1, 0, 0, 0, 0)))
    return struct.pack(">I", 0x80000000 | len(body)) + body


class Rpc:
    """A server in threads. Each connection is counted, its call read, and ``behaviour`` does the
    rest before it is closed."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0, backlog: int = 512) -> None:
        self.connections, self.calls, self.ends = 0, [], 0  # type: tuple[int, list[bytes], int]
        self._behaviour = behaviour
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(backlog)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call = connection.recv(44, socket.MSG_WAITALL)
            self.calls.append(call)
            with contextlib.suppress(OSError):
                if call:
                    self._behaviour(connection, call)
        self.ends += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(30)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def stay(connection: socket.socket, _: bytes) -> None:
    """Silent, until the other side ends it."""
    connection.recv(1)


def says(data: Callable[[bytes], bytes]) -> Behaviour:
    """Answers a call with ``data(call)``, and stays."""

    def behaviour(connection: socket.socket, call: bytes) -> None:
        connection.sendall(data(call))
        stay(connection, call)

    return behaviour


def answer(connection: socket.socket, call: bytes) -> None:
    says(reply)(connection, call)


@pytest.fixture
def serve() -> Iterator[Callable[..., Rpc]]:
    servers: list[Rpc] = []

    def start(*arguments: Any, **options: Any) -> Rpc:
        servers.append(Rpc(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ready(fd: int, events: int, seconds: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(1000 * seconds))


@contextlib.contextmanager
def full_backlog(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that drops what comes: nobody accepts, and the queue is full (tcp(7), listen(2))."""
    listener = socket.socket()
    listener.bind((host, 0))
    listener.listen(0)
    filling = []
    for _ in range(4):
        filling.append(socket.socket())
        filling[-1].setblocking(False)
        filling[-1].connect_ex(listener.getsockname())
    until(lambda: any(ready(sock.fileno(), select.POLLOUT) for sock in filling))
    yield listener.getsockname()[1]
    for each in (*filling, listener):
        each.close()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def nfs(port: int, address: str = "127.0.0.1", version: int = 4) -> Server:
    return Server(address, port, "nfs", version)


def ask(server: Server, seconds: float = LONG) -> Reply:
    """The reply of one server; never later than a second after its time."""
    start = time.monotonic()
    replies = examine([server], seconds)
    assert time.monotonic() - start < seconds + 1
    assert set(replies) == {server}
    found = replies[server]
    assert found.seconds is None or 0 <= found.seconds < seconds + 1
    return found


@pytest.fixture(autouse=True)
def no_socket_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[examination._Conversation] = []

    class Recorded(examination._Conversation):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(examination, "_Conversation", Recorded)
    yield
    assert [conversation._socket.fileno() for conversation in made if conversation._socket.fileno() != -1] == []


# -- the five sentences


def test_a_server_that_answers(serve: Callable[..., Rpc]) -> None:
    server = serve(answer)
    found = ask(nfs(server.port))
    assert found.verdict is Verdict.RPC_ANSWERED
    assert (
        found.seconds is not None and found.connect_seconds is not None and 0 <= found.connect_seconds <= found.seconds
    )
    assert words(nfs(server.port), found) == "server 127.0.0.1 answers RPC: this client is stuck"


@pytest.mark.parametrize("version", [3, 4])
def test_the_call_is_null_of_the_mounts_version(serve: Callable[..., Rpc], version: int) -> None:
    server = serve(answer)
    assert ask(nfs(server.port, version=version)).verdict is Verdict.RPC_ANSWERED
    (call,) = server.calls
    assert struct.unpack(">I", call[:4]) == (0x80000028,)
    assert struct.unpack(">9I", call[8:]) == (0, 2, 100003, version, 0, 0, 0, 0, 0)


def test_a_server_that_accepts_and_stays_silent(serve: Callable[..., Rpc]) -> None:
    server = serve(stay)
    found = ask(nfs(server.port), SHORT)
    assert found.verdict is Verdict.RPC_SILENT
    assert found.seconds is not None and found.seconds >= SHORT
    assert (
        words(nfs(server.port), found)
        == f"server 127.0.0.1 accepts connections on port {server.port} but does not answer RPC"
    )


def test_a_server_that_refuses() -> None:
    server = nfs(closed_port())
    found = ask(server)
    assert (found.verdict, found.connect_seconds) == (Verdict.REFUSED, None)
    assert words(server, found) == f"server 127.0.0.1 refuses connections on port {server.port}"


def test_a_server_that_drops_packets() -> None:
    with full_backlog() as port:
        found = ask(nfs(port), SHORT)
        assert found.verdict is Verdict.SILENT
        assert words(nfs(port), found) == f"server 127.0.0.1 does not answer on port {port}"


class Network:
    """A network namespace: a thread of its own is in it, and with the thread it goes."""

    def __call__(self, function: Callable[[], object]) -> None:
        trouble: list[BaseException] = []

        def inside() -> None:
            try:
                assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
                self.ip("link set lo up")
                function()
            except BaseException as error:
                trouble.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        if trouble:
            raise trouble[0]

    @staticmethod
    def ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    @staticmethod
    def set(name: str, value: str) -> None:
        # /proc/self is the process, /proc/thread-self the thread; /proc/sys/net is whoever asks.
        Path("/proc/sys/net", name).write_text(value)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.mark.root
def test_a_server_that_no_route_leads_to(network: Network) -> None:
    def inside() -> None:
        network.ip("route add unreachable 10.99.0.1")
        network.ip("route add blackhole 10.99.0.2")
        servers = [nfs(2049, "10.99.0.1"), nfs(2049, "10.99.0.2"), nfs(2049, "10.99.0.3"), nfs(2049, "2001:db8::1")]
        replies = examine(servers, LONG)
        assert [words(server, replies[server]) for server in servers] == [
            "server 10.99.0.1 is unreachable (No route to host)",
            "server 10.99.0.2 is unreachable (Invalid argument)",
            "server 10.99.0.3 is unreachable (Network is unreachable)",
            "server [2001:db8::1] is unreachable (Network is unreachable)",
        ]
        assert [replies[server].errno for server in servers[:2]] == [errno.EHOSTUNREACH, errno.EINVAL]

    network(inside)


@pytest.mark.root
def test_our_own_refusal_is_not_the_servers(network: Network) -> None:
    def inside() -> None:
        network.ip("route add prohibit 10.99.0.1")
        server = nfs(2049, "10.99.0.1")
        assert words(server, ask(server)) == "server 10.99.0.1 was not asked (Permission denied)"

    network(inside)


@pytest.mark.root
def test_a_host_that_is_gone_and_one_that_swallows_packets(network: Network) -> None:
    def inside() -> None:
        network.ip("link add v0 type veth peer name v1")
        network.ip("address add 10.99.0.254/24 dev v0")
        network.ip("link set v0 up")
        network.ip("link set v1 arp off up")
        # Nobody has this address on the link: v1 gets the packets, which are for another host.
        network.ip("neighbour add 10.99.0.1 lladdr 02:00:00:00:00:01 dev v0 nud permanent")
        network.set("ipv4/neigh/v0/retrans_time_ms", "50")
        silent, gone = nfs(2049, "10.99.0.1"), nfs(2049, "10.99.0.2")
        start = time.monotonic()
        replies = examine([silent, gone], 1.5)
        assert time.monotonic() - start < 2.5
        assert words(silent, replies[silent]) == "server 10.99.0.1 does not answer on port 2049"
        assert words(gone, replies[gone]) == "server 10.99.0.2 is unreachable (No route to host)"

    network(inside)


@pytest.mark.root
def test_a_connection_with_itself_is_none(network: Network) -> None:
    def inside() -> None:
        network.set("ipv4/ip_local_port_range", "40000 40000")
        assert ask(nfs(40000)).verdict is Verdict.REFUSED

    network(inside)


@pytest.mark.root
def test_a_scope_leads_to_its_link(network: Network) -> None:
    def inside() -> None:
        network.ip("link add v0 type veth peer name v1")
        for name in ("v0", "v1"):
            network.ip(f"link set {name} up")
        network.ip("address add fe80::1/64 dev v1 nodad")
        network.ip("address add fe80::2/64 dev v0 nodad")
        server = Rpc(answer, "::")
        try:
            near = nfs(server.port, "fe80::1%v1")
            assert words(near, ask(near)) == "server [fe80::1%v1] answers RPC: this client is stuck"
            assert ask(nfs(server.port, "fe80::1%" + str(socket.if_nametoindex("v1")))).verdict is Verdict.RPC_ANSWERED
            # An interface that is gone is no reason to ask the DNS for it.
            assert ask(nfs(server.port, "fe80::1%nosuch")).verdict is Verdict.NOT_ASKED
        finally:
            server.close()

    network(inside)


def test_ipv6(serve: Callable[..., Rpc]) -> None:
    try:
        server = serve(answer, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert (
        words(nfs(server.port, "::1"), ask(nfs(server.port, "::1"))) == "server [::1] answers RPC: this client is stuck"
    )


# -- servers of all kinds


def one_byte_at_a_time(connection: socket.socket, call: bytes) -> None:
    for byte in reply(call):
        connection.sendall(bytes([byte]))
    stay(connection, call)


def another_first(connection: socket.socket, call: bytes) -> None:
    connection.sendall(reply(call, 1, 1, 1, 5, xid=struct.unpack_from(">I", call, 4)[0] ^ 1) + reply(call))
    stay(connection, call)


def in_fragments(connection: socket.socket, call: bytes) -> None:
    body = reply(call)[4:]
    connection.sendall(struct.pack(">I", 0) + struct.pack(">I", 10) + body[:10])
    connection.sendall(struct.pack(">I", 0x80000000 | len(body) - 10) + body[10:])
    stay(connection, call)


def with_a_verifier(connection: socket.socket, call: bytes) -> None:
    connection.sendall(reply(call, 1, 0, 6, 5, 0x61626364, 0x65000000, 0))  # five bytes take two words
    stay(connection, call)


@pytest.mark.parametrize("behaviour", [one_byte_at_a_time, another_first, in_fragments, with_a_verifier])
def test_an_answer_is_an_answer(serve: Callable[..., Rpc], behaviour: Behaviour) -> None:
    assert ask(nfs(serve(behaviour).port)).verdict is Verdict.RPC_ANSWERED


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((1, 0, 0, 0, 1), "PROG_UNAVAIL"),
        ((1, 0, 0, 0, 2, 3, 3), "PROG_MISMATCH"),
        ((1, 0, 0, 0, 3), "PROC_UNAVAIL"),
        ((1, 0, 0, 0, 4), "GARBAGE_ARGS"),
        ((1, 0, 0, 0, 5), "SYSTEM_ERR"),
        ((1, 1, 0, 3, 3), "RPC_MISMATCH"),
        ((1, 1, 1, 5), "AUTH_ERROR"),
    ],
)
def test_an_error_proves_that_somebody_is_alive(serve: Callable[..., Rpc], fields: tuple[int, ...], error: str) -> None:
    server = serve(lambda connection, call: connection.sendall(reply(call, *fields)))
    found = ask(nfs(server.port))
    assert (found.verdict, found.error) == (Verdict.RPC_ERROR, error)
    assert words(nfs(server.port), found) == f"server 127.0.0.1 answers RPC with an error ({error})"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">I", 0xFFFFFFFF) + bytes(100),  # 2 GiB
        struct.pack(">I", 4000) + bytes(4000) + struct.pack(">I", 0x80000000 | 4000),  # too long in two parts
        struct.pack(">I", 0x80000000),
        struct.pack(">I", 0x80000002) + b"ab",
    ],
)
def test_garbage(serve: Callable[..., Rpc], data: bytes) -> None:
    server = serve(says(lambda call: data))
    found = ask(nfs(server.port))
    assert found.verdict is Verdict.GARBAGE
    assert words(nfs(server.port), found) == f"server 127.0.0.1 does not speak RPC on port {server.port}"


@pytest.mark.parametrize(
    "fields",
    [
        (0, 2, 100003, 4, 0),  # a call
        (1, 0, 0, 0, 6),  # no such status
        (1, 0, 0, 0),  # no status at all
        (1, 0, 0, 401, 0),  # too long a verifier
        (1, 0, 0, 0xFFFFFFFF, 0),
        (1, 0, 0, 400, 0),  # a verifier beyond the end
        (1, 1, 2, 0),
        (1, 2, 0, 0, 0),
        (2, 0, 0, 0, 0),
        (1, 0),
    ],
)
def test_what_has_our_number_and_makes_no_sense(serve: Callable[..., Rpc], fields: tuple[int, ...]) -> None:
    server = serve(says(lambda call: reply(call, *fields)))
    assert ask(nfs(server.port)).verdict is Verdict.GARBAGE


def test_bytes_without_end(serve: Callable[..., Rpc]) -> None:
    def flood(connection: socket.socket, call: bytes) -> None:
        while True:  # until it is closed
            connection.sendall(reply(call, xid=0xDEAD) * 100)

    assert ask(nfs(serve(flood).port)).verdict is Verdict.GARBAGE


def test_an_answer_that_is_never_complete(serve: Callable[..., Rpc]) -> None:
    server = serve(says(lambda call: reply(call)[:-1]))
    assert ask(nfs(server.port), SHORT).verdict is Verdict.RPC_SILENT


@pytest.mark.parametrize("sent", [0, 3, 27])
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_connection_that_is_closed(serve: Callable[..., Rpc], how: str, sent: int) -> None:
    def end(connection: socket.socket, call: bytes) -> None:
        connection.sendall(reply(call)[:sent])
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    server = serve(end)
    found = ask(nfs(server.port))
    assert found.verdict is Verdict.CLOSED
    assert words(nfs(server.port), found) == f"server 127.0.0.1 closes the connection on port {server.port}"


def test_a_reset_before_we_look() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with Examination([nfs(listener.getsockname()[1])], time.monotonic() + LONG) as examination:
            connection = listener.accept()[0]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            while not examination.finished:
                examination.step(1)
    assert [found.verdict for found in examination.replies.values()] == [Verdict.CLOSED]


@pytest.mark.parametrize(("kind", "name"), [("cifs", "server"), ("9p", "server"), ("ceph", "monitor")])
def test_of_the_others_a_connection_is_all_we_ask(serve: Callable[..., Rpc], kind: str, name: str) -> None:
    server = serve(stay)
    other = Server("127.0.0.1", server.port, kind)
    found = ask(other)
    assert found.verdict is Verdict.CONNECTED
    assert words(other, found) == f"{name} 127.0.0.1 accepts connections on port {server.port}"
    until(lambda: server.calls == [b""])


# -- many servers, few descriptors


def test_mounts_of_one_server_make_one_connection(serve: Callable[..., Rpc]) -> None:
    server = serve(answer)
    options = f"rw,vers=4.2,proto=tcp,port={server.port},addr=127.0.0.1"
    found = [server_of(mount("nfs4", options, f"127.0.0.1:/export/{number}")) for number in range(50)]
    replies = examine([each for each in found if each is not None], LONG)
    assert [reply.verdict for reply in replies.values()] == [Verdict.RPC_ANSWERED]
    assert server.connections == 1


def test_two_hundred_servers_at_once(serve: Callable[..., Rpc]) -> None:
    alive, silent = serve(answer, "0.0.0.0"), serve(stay, "0.0.0.0")
    servers = [nfs((alive, silent)[number % 2].port, f"127.0.0.{number + 1}") for number in range(200)]
    start = time.monotonic()
    replies = examine(servers, 2.0)
    assert time.monotonic() - start < 3.0
    assert [replies[server].verdict for server in servers] == [Verdict.RPC_ANSWERED, Verdict.RPC_SILENT] * 100
    assert (alive.connections, silent.connections) == (100, 100)


def test_more_servers_than_sockets_at_a_time(monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Rpc]) -> None:
    monkeypatch.setattr("check_mounts.probing.examination._AT_ONCE", 3)
    server = serve(answer, "0.0.0.0")
    most = 0
    with Examination(
        [nfs(server.port, f"127.0.0.{number + 1}") for number in range(20)], time.monotonic() + LONG
    ) as examination:
        while not examination.finished:
            most = max(most, len(examination.fds()))
            examination.step(1)
    assert most == 3
    assert [found.verdict for found in examination.replies.values()] == [Verdict.RPC_ANSWERED] * 20


@contextlib.contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """No more than ``count`` can be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 16, limits[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port where connections come to stand, though nobody does anything with them."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def test_out_of_descriptors_the_rest_is_not_asked() -> None:
    with listening() as port:
        servers = [nfs(port, f"127.0.0.{number + 1}") for number in range(10)]
        with few_descriptors(3):
            replies = examine(servers, SHORT)
    assert [replies[server].verdict for server in servers] == [Verdict.RPC_SILENT] * 3 + [Verdict.NOT_ASKED] * 7
    assert words(servers[9], replies[servers[9]]) == "server 127.0.0.10 was not asked (Too many open files)"
    assert replies[servers[9]].seconds is None


def test_not_one_descriptor() -> None:
    with few_descriptors(0):
        start = time.monotonic()
        replies = examine([nfs(2049, f"127.0.0.{number + 1}") for number in range(10)], LONG)
    assert time.monotonic() - start < LONG  # there was nothing to wait for
    assert {(found.verdict, found.errno) for found in replies.values()} == {(Verdict.NOT_ASKED, errno.EMFILE)}


def test_a_descriptor_is_used_again() -> None:
    port = closed_port()
    with few_descriptors(1):
        replies = examine([nfs(port, f"127.0.0.{number + 1}") for number in range(10)], LONG)
    assert [found.verdict for found in replies.values()] == [Verdict.REFUSED] * 10


@pytest.mark.parametrize(
    "server",
    [nfs(0), nfs(70000), nfs(-1), *(nfs(2049, each) for each in ("", "localhost", "1.2.3", "::1%", "::g", "a\0"))],
)
def test_no_address_no_question(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))
    found = ask(server)
    assert (found.verdict, found.errno in (errno.EINVAL, errno.ENODEV)) == (Verdict.NOT_ASKED, True)
    assert words(server, found).isprintable()


def test_nobody_to_ask() -> None:
    assert examine([], LONG) == {}


# -- step by step


def test_in_a_loop_of_the_caller(serve: Callable[..., Rpc]) -> None:
    alive, refusing = nfs(serve(answer).port), nfs(closed_port())
    with Examination([alive, refusing, alive], time.monotonic() + LONG) as examination:
        while not examination.finished:
            poll = select.poll()
            for fd, events in examination.fds().items():
                poll.register(fd, events)
            assert poll.poll(1000 * LONG)
            examination.step()
    assert {server: found.verdict for server, found in examination.replies.items()} == {
        alive: Verdict.RPC_ANSWERED,
        refusing: Verdict.REFUSED,
    }
    assert examination.fds() == {}


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def settled(examination: Examination) -> None:
    """Wait until all sockets have something to say."""
    poll = select.poll()
    for fd, events in examination.fds().items():
        poll.register(fd, events)
    assert len(poll.poll(1000 * LONG)) == len(examination.fds())


def test_a_late_caller_blames_nobody_for_silence() -> None:
    clock = Clock()
    with listening() as port:
        examination = Examination([nfs(port)], clock.now + 10, clock)
        settled(examination)  # connected; as if stopped from here on
        clock.now += 11
        examination.step(LONG)
    assert [found.verdict for found in examination.replies.values()] == [Verdict.CONNECTED]


def test_what_has_arrived_is_read_before_silence_is_declared(serve: Callable[..., Rpc]) -> None:
    clock, asked = Clock(), threading.Event()

    def answer_when_told(connection: socket.socket, call: bytes) -> None:
        asked.wait(LONG)
        answer(connection, call)

    examination = Examination([nfs(serve(answer_when_told).port)], clock.now + 10, clock)
    settled(examination)
    examination.step()  # asks
    assert not examination.finished
    asked.set()
    settled(examination)
    clock.now += 11
    examination.step(LONG)
    assert [found.verdict for found in examination.replies.values()] == [Verdict.RPC_ANSWERED]


@pytest.mark.parametrize(
    ("waited", "verdict"), [(0.0, Verdict.NOT_ASKED), (1.0, Verdict.NOT_ASKED), (1.5, Verdict.SILENT)]
)
def test_given_up_early(waited: float, verdict: Verdict) -> None:
    clock = Clock()
    with full_backlog() as port:
        with Examination([nfs(port)], clock.now + 10, clock) as examination:
            clock.now += waited
        assert examination.finished
        assert [found.verdict for found in examination.replies.values()] == [verdict]
        examination.close()
        if verdict is Verdict.NOT_ASKED:
            assert words(nfs(port), examination.replies[nfs(port)]) == "server 127.0.0.1 was not asked (not in time)"


def test_no_time_at_all() -> None:
    with full_backlog() as port:
        assert ask(nfs(port), 0.0).verdict is Verdict.NOT_ASKED


def test_a_copy_in_a_forked_process_keeps_no_connection(serve: Callable[..., Rpc]) -> None:
    server = serve(stay)
    examination = Examination([nfs(server.port)], time.monotonic() + LONG)
    copies = [os.dup(fd) for fd in examination.fds()]
    while not server.calls:
        examination.step(0.01)
    examination.close()
    until(lambda: server.ends == 1)
    for fd in copies:
        os.close(fd)


# -- which server a mount has


def mount(fs_type: str, options: str = "rw", source: str = "server:/export") -> Mount:
    encoded = tuple(option.encode("utf-8", "surrogateescape") for option in options.split(","))
    return Mount(
        1, 0, (0, 1), b"/", b"/mnt", (b"rw",), (), fs_type.encode(), source.encode("utf-8", "surrogateescape"), encoded
    )


V4 = (
    "rw,vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,"
    "clientaddr=10.0.0.2,local_lock=none,addr=10.0.0.5"
)
V3 = (
    "rw,vers=3,proto=tcp,timeo=600,sec=sys,"
    "mountaddr=10.0.0.7,mountvers=3,mountport=20048,mountproto=udp,local_lock=none,addr=10.0.0.5"
)
CIFS = "rw,vers=3.1.1,cache=strict,username=guest,uid=0,noforceuid,addr=10.0.0.6,file_mode=0755,soft,nounix,serverino"


@pytest.mark.parametrize(
    ("mounted", "server"),
    [
        (mount("nfs4", V4), Server("10.0.0.5", 2049, "nfs", 4)),
        (mount("nfs", V3), Server("10.0.0.5", 2049, "nfs", 3)),
        (mount("nfs", V3 + ",port=20490"), Server("10.0.0.5", 20490, "nfs", 3)),
        (mount("nfs", V3 + ",port=0"), Server("10.0.0.5", 2049, "nfs", 3)),
        (mount("nfs", "addr=10.0.0.5"), Server("10.0.0.5", 2049, "nfs", 3)),
        (mount("nfs4", "addr=10.0.0.5"), Server("10.0.0.5", 2049, "nfs", 4)),
        (mount("nfs4", "proto=tcp6,addr=fe80::1%eth0"), Server("fe80::1%eth0", 2049, "nfs", 4)),
        (mount("nfs4", "proto=tcp6,addr=FE80:0:0::0001%2"), Server("fe80::1%2", 2049, "nfs", 4)),
        (mount("nfs4", V4.replace("proto=tcp", "proto=rdma")), None),
        (mount("nfs", V3.replace("proto=tcp", "proto=udp")), None),
        (mount("nfs", V3.replace("proto=tcp", "proto=udp6")), None),
        (mount("cifs", CIFS), Server("10.0.0.6", 445, "cifs")),
        (mount("smb3", CIFS + ",port=4450"), Server("10.0.0.6", 4450, "cifs")),
        (mount("cifs", CIFS + ",rdma"), None),
        (mount("cifs", "addr=fe80:0000:0000:0000:0000:0000:0000:0001%2"), Server("fe80::1%2", 445, "cifs")),
        (mount("cifs", "username=x,addr=6.6.6.6,addr=10.0.0.6"), Server("10.0.0.6", 445, "cifs")),
        (mount("9p", "rw,access=client,trans=tcp", "10.0.0.8"), Server("10.0.0.8", 564, "9p")),
        (mount("9p", "rw,trans=tcp,port=5640", "::1"), Server("::1", 5640, "9p")),
        (mount("9p", "rw,trans=tcp", "host"), None),
        (mount("9p", "rw,trans=virtio", "10.0.0.8"), None),
        (mount("9p", "rw", "10.0.0.8"), None),
        (mount("ceph", "name=a", "10.0.0.9:6790,10.0.0.10:6789:/dir"), Server("10.0.0.9", 6790, "ceph")),
        (mount("ceph", "name=a", "10.0.0.9,10.0.0.10:/"), Server("10.0.0.9", 6789, "ceph")),
        (mount("ceph", "name=a", "[::1]:6789:/"), Server("::1", 6789, "ceph")),
        (mount("ceph", "ms_mode=crc,mon_addr=10.0.0.9/10.0.0.10:3300", "a@b.c=/"), Server("10.0.0.9", 3300, "ceph")),
        (mount("ceph", "mon_addr=[::1]:3301/10.0.0.10:3300", "a@b.c=/"), Server("::1", 3301, "ceph")),
        (mount("ceph", "name=a", "a@b.c=/"), None),
        (mount("ceph", "name=a", "mon1,mon2:/"), None),
        # Chosen by users, or of no server at all.
        (mount("fuse.nfs", V4), None),
        (mount("fuse.sshfs", "addr=10.0.0.5", "10.0.0.5:/"), None),
        (mount("fuse", V4), None),
        (mount("fuse.glusterfs", "addr=10.0.0.5", "10.0.0.5:/v"), None),
        (mount("tmpfs", "addr=10.0.0.5"), None),
        (mount("nfsd", "addr=10.0.0.5"), None),
    ],
)
def test_the_server_of_a_mount(mounted: Mount, server: Optional[Server]) -> None:
    assert server_of(mounted) == server


@pytest.mark.parametrize(
    "value",
    (
        *(
            "",
            "%",
            "server",
            "1.2.3",
            "1.2.3.4.5",
            "256.0.0.1",
            "0.0.0.0",
            "::",
            "1.2.3.4%eth0",
            "fe80::1%",
            "fe80::1%a b",
        ),
        *(
            "fe80::1%" + "x" * 16,
            "::1]",
            "(unknown)",
            "unix:/socket",
            "\udcff\udcfe",
            "1.2.3.4\0",
            "1.2.3.4|",
            "\u0661.2.3.4",
            "x" * 100000,
        ),
    ),
)
def test_what_is_no_address(value: str) -> None:
    assert server_of(mount("nfs4", f"addr={value}")) is None
    assert server_of(mount("cifs", f"addr={value}")) is None
    assert server_of(mount("9p", "trans=tcp", value)) is None
    assert server_of(mount("ceph", "rw", value + ":/")) is None


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "65536", "99999", "999999999999", "1" * 5000, "+1", "1_0", " 1", "²", "\udcb2"]
)
def test_what_is_no_port(value: str) -> None:
    assert server_of(mount("nfs4", f"addr=10.0.0.5,port={value}")) is None


def test_words_are_fit_for_any_output() -> None:
    for verdict in Verdict:
        for number in (None, errno.EHOSTUNREACH, 512):
            found = words(Server("1.2|3\n4\udcff", 1, "nfs"), Reply(verdict, errno=number))
            assert found.isprintable() and "|" not in found and found.startswith("server 1.2\\1743\\0124\\377 ")
