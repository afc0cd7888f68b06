"""Real autofs, and systemd's part of it, while a daemon checks every 2 s and single runs every 3 s:
see automounts.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.lab.automounts import HANGS, SYSTEMD, UNUSED, USED


@pytest.fixture(scope="module")
def report() -> Any:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.automounts"], 300, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    return json.loads(result.files["automounts.json"])


@pytest.mark.guest
def test_mounts_that_nobody_uses_expire(report: Any) -> None:
    """Direct, indirect and multi-mount maps, nested, NFS 3 and 4, SMB. A guest on a busy host may
    take ten seconds for a mount or a run, and automount unmounts one after the other; so only
    tests/test_automounts.py has the time within which they must."""
    found = report["unused"]["expired"]
    assert set(found) == {*UNUSED, SYSTEMD, USED}, report["table"]
    assert "idle" in {condition for _, _, condition, _ in report["unused"]["said"]}


@pytest.mark.guest
def test_a_mount_that_is_used_is_ok_and_one_whose_server_is_silent_is_timed_out(report: Any) -> None:
    """That it is idle, ok once a program looks up names, and idle again, the guest waits for."""
    conditions = {point: condition for _, point, condition, _ in report["hung"]["first"]}
    assert conditions == dict.fromkeys(HANGS, "timed-out")
