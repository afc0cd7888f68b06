"""Whose fault it is, end to end: probes that hang, and servers on loopback that answer RPC, are
silent, or refuse.

The mount table is made up (``--mountinfo``): what hangs is FUSE, and it says that it is an NFS of a
server of ours."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Fuse, Plugin, Result, in_time, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

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
                with contextlib.suppress(OSError):  # who asks may end before that
                    call = connection.recv(4096)
                    reply = call[4:8] + struct.pack(">IIIII", 1, 0, 0, 0, 0)
                    connection.sendall(struct.pack(">I", 0x80000000 | len(reply)) + reply)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
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
    table = _shown_as(fuse, tmp_path, shown)
    for number in range(len(shown)):
        fuse.command("hang", f"hung{number}")
    return table


def _fail(fuse: Fuse, tmp_path: Path, port: int, error: int, count: int = 1) -> Path:
    """Mounts that fail at once, as NFS of 127.0.0.1."""
    table = _shown_as(fuse, tmp_path, [f"nfs4 filer1:/export rw,vers=4.2,addr=127.0.0.1,port={port}"] * count)
    for number in range(count):
        fuse.command("error", f"hung{number}", str(error))
    return table


def _shown_as(fuse: Fuse, tmp_path: Path, shown: list[str]) -> Path:
    """Mounts, and a mount table in which they have these types, sources and options."""
    points = [str(fuse.mount(f"hung{number}")) for number in range(len(shown))]
    lines = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] in points:
            fields[fields.index("-") + 1 :] = shown[points.index(fields[4])].split(" ")
        lines.append(" ".join(fields) + "\n")
    table = tmp_path / "mountinfo"
    table.write_text("".join(lines))
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


@pytest.fixture
def vanishing() -> Iterator[int]:
    """A port at which packets vanish."""
    with socket.socket() as listener, socket.socket() as filler, socket.socket() as more:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for client in (filler, more):  # a full queue of connections: the kernel drops whoever comes next
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port


def test_packets_vanish(fuse: Fuse, plugin: Plugin, tmp_path: Path, vanishing: int) -> None:
    result = _run(fuse, plugin, _hang(fuse, tmp_path, vanishing))
    assert result.verdict.endswith(f": server 127.0.0.1 does not answer on port {vanishing}")


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


# -- mounts that come back with an error, or late


def test_a_mount_is_dead_because_its_server_is_silent(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, vanishing: int
) -> None:
    """The error came at once, so its server gets a moment, but not more."""
    table = _fail(fuse, tmp_path, vanishing, errno.EIO)
    result = in_time(
        2.0,
        lambda: plugin("--mountinfo", str(table), "--json"),
        lambda result: float(json.loads(result.stdout)["duration"]),
    )
    (found,) = json.loads(result.stdout)["findings"]
    assert found["condition"] == "dead"
    assert found["diagnosis"] == f"server 127.0.0.1 does not answer on port {vanishing}"
    words = plugin("--mountinfo", str(table)).verdict
    assert words.endswith(f" dead: Input/output error (EIO): server 127.0.0.1 does not answer on port {vanishing}")


def test_a_mount_is_dead_though_its_server_answers(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, errno.EIO)
    result = plugin("--mountinfo", str(table))
    failed = "this mount, its export or its credentials failed"
    assert result.verdict.endswith(f" dead: Input/output error (EIO): server 127.0.0.1 answers RPC: {failed}")
    fuse.command("fail", "hung0", "all", str(errno.EACCES))
    result = plugin("--mountinfo", str(table))
    assert result.code == 1
    assert "server 127.0.0.1 answers RPC: this client or its credentials are refused" in result.verdict


def test_an_export_is_gone_only_if_its_server_is_there(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    """A soft mount makes ESTALE of silence, too (nfs_d_weak_revalidate)."""
    table = _fail(fuse, tmp_path, answering.port, errno.ESTALE)
    result = plugin("--mountinfo", str(table))
    assert result.verdict.endswith(" (ESTALE): server 127.0.0.1 answers RPC: export is gone")
    result = plugin("--mountinfo", str(table), "--no-diagnosis")
    assert result.verdict.endswith(" (ESTALE)")
    port = answering.port
    answering.close()
    result = plugin("--mountinfo", str(table))
    assert result.verdict.endswith(f" (ESTALE): server 127.0.0.1 refuses connections on port {port}")


def test_fifty_dead_mounts_one_connection(fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server) -> None:
    result = plugin("--mountinfo", str(_fail(fuse, tmp_path, answering.port, errno.EIO, 50)))
    assert ": all 50 mounts of filer1 dead: Input/output error (EIO): server 127.0.0.1 answers RPC: " in result.verdict
    assert len(answering.connections) == 1


def test_a_slow_mount_and_how_soon_its_server_answers(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, 0)
    fuse.command("delay", "hung0", "0.1")
    patient = plugin("--mountinfo", str(table), "-w", "60")
    assert (patient.code, len(answering.connections)) == (0, 0)
    result = plugin("--mountinfo", str(table), "-w", "0.2")
    assert result.code == 1
    assert re.search(r" \(warning range 0\.2\): server 127\.0\.0\.1 answers RPC within [0-9.]+ s", result.verdict)
    section = tmp_path / "conf"
    section.write_text(f'[mount "{plugin.base}/hung0"]\ncritical = 0.2\n')
    result = plugin("--mountinfo", str(table), "--config", str(section))
    assert result.code == 2
    assert " answers RPC within " in result.verdict
    assert len(answering.connections) == 2


def test_many_slow_mounts_of_a_server_have_one_cause(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, 0, 7)
    for number in range(7):
        fuse.command("delay", f"hung{number}", "0.05")
    result = plugin("--mountinfo", str(table), "-w", "0.1")
    assert re.search(r" all 7 mounts of filer1 slow: server 127\.0\.0\.1 answers RPC within [0-9.]+ s", result.verdict)
    assert len(answering.connections) == 1


def test_a_mount_that_took_long_has_a_cause_without_a_threshold(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, 0)
    fuse.command("delay", "hung0", "1.5")
    result = plugin("--mountinfo", str(table), "-t", "20", "--deadline", "40", "--json")
    assert result.code == 0
    (found,) = json.loads(result.stdout)["findings"]
    assert found["diagnosis"].startswith("server 127.0.0.1 answers RPC within ")


def test_a_mount_that_cannot_be_written_to_has_a_cause(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, 0)
    fuse.command("fail", "hung0", "write", str(errno.EIO))
    result = plugin("--mountinfo", str(table), "--write")
    assert " dead: Input/output error (EIO) at write: server 127.0.0.1 answers RPC: this mount, " in result.verdict


def test_mounts_that_are_well_or_keep_others_out_ask_nobody(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, answering: Server
) -> None:
    table = _fail(fuse, tmp_path, answering.port, 0)
    assert plugin("--mountinfo", str(table)).code == 0
    fuse.command("fail", "hung0", "opendir", str(errno.EACCES))
    assert plugin("--mountinfo", str(table)).code == 1
    assert not answering.connections


def test_a_daemon_asks_for_dead_mounts_as_well(
    fuse: Fuse, plugin: Plugin, tmp_path: Path, daemon: Daemon, answering: Server
) -> None:
    daemon.start("--mountinfo", str(_fail(fuse, tmp_path, answering.port, errno.EIO)))
    daemon.until(lambda result: " (EIO): server 127.0.0.1 answers RPC: this mount, " in result.verdict)
    asked = len(answering.connections)
    until(lambda: len(answering.connections) > asked)  # each pass asks
    port = answering.port
    answering.close()
    daemon.until(lambda result: f" (EIO): server 127.0.0.1 refuses connections on port {port}" in result.verdict)
