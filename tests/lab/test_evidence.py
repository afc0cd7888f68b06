"""What is said of a real NFS that fails or is slow: see evidence.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict


@pytest.fixture(scope="module")
def report() -> Any:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.evidence"], 300, verdict.environment())
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
