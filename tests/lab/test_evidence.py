"""What is said of a real NFS that fails or is slow: see evidence.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.lab import guest, verdict

LEASED = "10.9.3.2"


@pytest.fixture(scope="module")
def report() -> Any:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.evidence"], 600, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    return json.loads(result.files["evidence.json"])


@pytest.mark.guest
def test_a_soft_mount_is_dead_because_its_server_is_silent(report: Any) -> None:
    said = report["soft"]
    assert said["healthy"]["condition"] == "ok"
    silent = "Input/output error (EIO): server 10.9.1.2 does not answer on port 2049"
    assert said["silent"]["text"] == f"dead: {silent}"
    assert said["silent"]["duration"] < said["silent"]["latency"] + 1.25


@pytest.mark.guest
def test_an_export_is_gone_while_its_server_answers(report: Any) -> None:
    gone = report["soft"]["gone"]
    assert gone["text"] == "dead: Stale file handle (ESTALE): server 10.9.1.2 answers RPC: export is gone"


@pytest.mark.guest
def test_a_slow_wire_shows_in_the_time_of_the_server(report: Any) -> None:
    said = report["slow"]
    assert said["well"]["condition"] == "ok"
    assert said["well"]["diagnosis"] is None
    wire = said["wire"]
    assert wire["condition"] == "slow"
    head, within = wire["diagnosis"].rsplit(" within ", 1)
    assert head == "server 10.9.1.2 answers RPC"
    assert float(within.removesuffix(" s")) >= 0.4  # two round trips


@pytest.mark.guest
def test_a_partition_that_outlasts_the_lease(report: Any) -> None:
    said = report["lease"]
    assert said["healthy"]["remarks"] == said["healed"]["remarks"] == []
    assert (said["cut"]["condition"], said["healed"]["condition"]) == ("timed-out", "ok")
    lost = [each for each in said["cut"]["remarks"] if "lease" in each]
    assert len(lost) == 1
    assert re.fullmatch(r"its NFSv4 lease expired \d+ s ago: the server may .* open files", lost[0])


@pytest.mark.guest
def test_a_server_that_closes_each_connection(report: Any) -> None:
    said = report["impostors"]["close"]
    assert said["condition"] == "timed-out"
    assert said["diagnosis"] == f"server {LEASED} closes the connection on port 2049"
    (words,) = [each for each in said["remarks"] if "connect" in each]
    assert re.fullmatch(r"the client began to connect at least \d\d+ times in [0-9.]+ s", words)


@pytest.mark.guest
def test_replies_that_belong_to_no_request(report: Any) -> None:
    said = report["impostors"]["mumble"]
    assert said["diagnosis"] == f"server {LEASED} accepts connections on port 2049 but does not answer RPC"
    assert [each for each in said["remarks"] if each.endswith(" to no request (bad XIDs)")]


@pytest.mark.guest
def test_the_daemon_compares_with_the_pass_before(report: Any) -> None:
    """It asks for one second, every five."""
    said = report["impostors"]["daemon"]
    words = [" ".join(each["remarks"]) for each in said]
    times = [float(match[1]) for match in (re.search(r" in ([0-9.]+) s belong", each) for each in words) if match]
    assert times and max(times) > 2, words  # longer than it asks


@pytest.mark.guest
def test_the_mapping_of_ids_begins_to_fail(report: Any) -> None:
    """The server sends names of a domain that is not this client's."""
    said = report["mapping"]
    assert said["before"]["remarks"] == said["mended"]["remarks"] == []
    assert said["before"]["outcome"]["uid"] == said["mended"]["outcome"]["uid"] == 4321
    (words,) = said["failing"]["remarks"]
    assert words.startswith("its root directory belongs to nobody (uid 65534")
    assert "and belonged to uid 4321" in words


@pytest.mark.guest
@pytest.mark.parametrize("name", ["smb", "diod"])
def test_cifs_and_9p_are_dead_because_their_servers_are_gone(report: Any, name: str) -> None:
    said = report["others"][name]
    assert said["healthy"]["condition"] == "ok"
    assert said["ended"]["condition"] == "dead"
    assert said["ended"]["diagnosis"].endswith(f" refuses connections on port {said['port']}")
