"""Whose fault it is, end to end: probes that hang, and servers on loopback that answer RPC, are
silent, or refuse.

The mount table is made up (``--mountinfo``): what hangs is FUSE, and it says that it is an NFS of a
server of ours."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Fuse, Plugin, Result, in_time, until

pytestmark = pytest.mark.root


class Server:
    """Accepts, and answers RPC NULL if told to. ``connections`` counts."""

    def __init__(self, answers: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            if self._answers:
                call = connection.recv(4096)
                reply = call[4:8] + struct.pack(">IIIII", 1, 0, 0, 0, 0)
                connection.sendall(struct.pack(">I", 0x80000000 | len(reply)) + reply)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def answering() -> Iterator[Server]:
    server = Server(True)
    yield server
    server.close()


@pytest.fixture
def silent() -> Iterator[Server]:
    server = Server(False)
    yield server
    server.close()


def _hang(fuse: Fuse, tmp_path: Path, port: int, count: int = 1) -> Path:
    """Hung mounts, and a mount table in which they are NFS of 127.0.0.1."""
    return _hang_as(fuse, tmp_path, [f"nfs4 filer1:/export rw,vers=4.2,addr=127.0.0.1,port={port}"] * count)


def _hang_as(fuse: Fuse, tmp_path: Path, shown: list[str]) -> Path:
    """Hung mounts, and a mount table in which they have these types, sources and options."""
    points = [str(fuse.mount(f"hung{number}")) for number in range(len(shown))]
    lines = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] in points:
            fields[fields.index("-") + 1 :] = shown[points.index(fields[4])].split(" ")
        lines.append(" ".join(fields) + "\n")
    table = tmp_path / "mountinfo"
    table.write_text("".join(lines))
    for number in range(len(shown)):
        fuse.command("hang", f"hung{number}")
    return table


def _run(fuse: Fuse, plugin: Plugin, table: Path, *arguments: str) -> Result:
    """A run that is over when its timeout is, or soon after."""

    def attempt() -> Result:
        fuse.hang_anew("hung0")
        return plugin("--mountinfo", str(table), "-t", "2", *arguments)

    result = in_time(2.5, attempt, Result.seconds)
    assert result.code == 2
    return result


def test_the_server_answers_so_this_client_is_stuck(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    result = _run(fuse, plugin, _hang(fuse, tmp_path, answering.port), "-v")
    assert result.verdict.endswith(" timed out after 2 s: server 127.0.0.1 answers RPC: this client is stuck")
    assert "  its probe waits in request_wait_answer" in result.lines


def test_the_server_is_silent(fuse: Fuse, plugin: Plugin, tmp_path: Path, silent: Server) -> None:
    result = _run(fuse, plugin, _hang(fuse, tmp_path, silent.port))
    assert result.verdict.endswith(
        f": server 127.0.0.1 accepts connections on port {silent.port} but does not answer RPC"
    )


def test_the_server_refuses(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = _run(fuse, plugin, _hang(fuse, tmp_path, port))
    assert result.verdict.endswith(f": server 127.0.0.1 refuses connections on port {port}")


def test_packets_vanish(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    with socket.socket() as listener, socket.socket() as filler, socket.socket() as more:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for client in (filler, more):  # a full queue of connections: the kernel drops whoever comes next
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        result = _run(fuse, plugin, _hang(fuse, tmp_path, port))
    assert result.verdict.endswith(f": server 127.0.0.1 does not answer on port {port}")


def test_fifty_mounts_one_connection(fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server) -> None:
    table = _hang(fuse, tmp_path, answering.port, 50)

    def attempt() -> Result:
        fuse.hang_anew(*(f"hung{number}" for number in range(50)))
        answering.connections.clear()
        return plugin("--mountinfo", str(table), "-t", "2", "--deadline", "20")

    result = in_time(3.0, attempt, Result.seconds)
    assert result.code == 2
    assert (
        ": all 50 mounts of filer1 timed out after 2 s: server 127.0.0.1 answers RPC: this client is stuck ("
        in result.verdict
    )
    assert len(answering.connections) == 1


def test_mounts_of_two_lustre_servers(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    sources = ["10.1.0.1@o2ib:10.1.0.2@o2ib:/a"] * 3 + ["10.2.0.1@o2ib:/b"] * 3
    table = _hang_as(fuse, tmp_path, [f"lustre {source} rw,flock,lazystatfs" for source in sources])
    result = plugin("--mountinfo", str(table), "-t", "1")
    assert "all 3 mounts of 10.1.0.1@o2ib timed out after 1 s (" in result.verdict
    assert "all 3 mounts of 10.2.0.1@o2ib timed out after 1 s (" in result.verdict


def _closed_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def test_each_tunnel_has_a_cause_of_its_own(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    """As efs-utils mount: one stunnel on 127.0.0.1 for each."""
    ports = _closed_ports(7)
    table = _hang_as(fuse, tmp_path, [f"nfs4 127.0.0.1:/ rw,vers=4.1,port={port},addr=127.0.0.1" for port in ports])
    result = plugin("--mountinfo", str(table), "-t", "1")
    assert (result.code, result.count("timed_out")) == (2, 7)
    for port in ports[:6]:
        assert (
            f" (nfs4 127.0.0.1:/) timed out after 1 s: server 127.0.0.1 refuses connections on port {port}"
            in result.verdict
        )
    assert result.verdict.endswith("; and 1 more")


def test_forwarded_ports_of_one_name_keep_their_causes(fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    ports = _closed_ports(6)
    table = _hang_as(fuse, tmp_path, [f"nfs4 filer1:/x rw,vers=4.1,port={port},addr=127.0.0.1" for port in ports])
    result = plugin("--mountinfo", str(table), "-t", "1")
    assert "all 6 mounts of filer1 timed out" in result.verdict
    assert f"server 127.0.0.1 refuses connections on port {ports[0]}" in result.verdict


def test_what_was_stuck_before_is_explained_as_well_and_costs_no_time(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _hang(fuse, tmp_path, answering.port)
    words = ("--mountinfo", str(table), "-t", "2")
    assert plugin(*words).code == 2
    result = in_time(0.5, lambda: plugin(*words), Result.seconds)
    assert result.code == 2
    assert ": server 127.0.0.1 answers RPC: this client is stuck" in result.verdict
    assert "a probe has been stuck in it since" in result.verdict


def test_without_diagnosis_nobody_is_asked(fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server) -> None:
    result = _run(fuse, plugin, _hang(fuse, tmp_path, answering.port), "--no-diagnosis")
    assert result.verdict.endswith(" timed out after 2 s")
    assert not answering.connections


def test_a_silent_server_does_not_keep_a_run_that_is_over(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, silent: Server
) -> None:
    table = _hang(fuse, tmp_path, silent.port)
    began = time.monotonic()
    process = plugin.start("--mountinfo", str(table), "-t", "40", "--deadline", "60")
    until(lambda: silent.connections)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0].startswith(b"MOUNTS UNKNOWN - interrupted by SIGTERM")
    process = plugin.start(
        "--mountinfo", str(table), "-t", "40", "--deadline", "60", "--state-dir", str(tmp_path / "other"), state=False
    )
    until(lambda: len(silent.connections) == 2)
    fuse.command("answer", "hung0")
    assert process.communicate(timeout=60)[0].startswith(b"MOUNTS OK")
    assert time.monotonic() - began < 20
