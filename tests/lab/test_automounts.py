"""Real autofs, and systemd's part of it, while a daemon checks every 2 s and single runs every 3 s:
see automounts.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.lab.automounts import HANGS, OLD, SYSTEMD, TIMEOUT, UNUSED, USED


def late(report: Any) -> float:
    """How late all may be in this guest, in seconds: a mount, an unmount and a run take about as
    long there, and automount does one after the other."""
    return float(10 * report["pace"])


@pytest.fixture(scope="module")
def report() -> Any:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.automounts"], 300, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    return json.loads(result.files["automounts.json"])


@pytest.mark.guest
def test_mounts_that_nobody_uses_expire(report: Any) -> None:
    """Direct, indirect and multi-mount maps, nested, NFS 3 and 4, SMB, mounts of one superblock."""
    found = {point: after for point, after in report["unused"]["expired"].items() if point != OLD}
    assert set(found) == {*UNUSED, SYSTEMD, USED}, report["table"]
    assert max(found.values()) < 2 * TIMEOUT + late(report), (found, report["pace"])
    idle = {point for _, point, condition, _ in report["unused"]["said"] if condition == "idle"}
    assert idle >= {*UNUSED, SYSTEMD}


@pytest.mark.guest
def test_what_is_looked_up_each_time_never_expires(report: Any) -> None:
    assert OLD not in report["unused"]["expired"]


@pytest.mark.guest
def test_a_mount_that_others_use_is_looked_up(report: Any) -> None:
    assert (USED, "ok") in {(point, condition) for _, point, condition, _ in report["unused"]["said"]}


@pytest.mark.guest
def test_a_mount_whose_server_is_silent_is_timed_out(report: Any) -> None:
    conditions = {point: condition for _, point, condition, _ in report["hung"]["first"]}
    assert conditions == dict.fromkeys(HANGS, "timed-out")
    assert report["hung"]["took"] < 2 + late(report), report
    assert report["hung"]["daemon"] < 2 + 2 + 3 + late(report), report
