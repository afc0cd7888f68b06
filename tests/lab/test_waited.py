"""``--wait`` with a real NFS: see waited.py."""

from __future__ import annotations

import json

import pytest

from tests.lab import guest, verdict
from tests.lab.waited import OUTAGE


@pytest.mark.guest
def test_a_wait_for_nfs_ends_when_it_is_mounted_and_when_its_server_is_back() -> None:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.waited"], 200, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    report = json.loads(result.files["waited.json"])
    late, hung = report["late"], report["hung"]
    assert (late["code"], late["state"]) == (0, "OK")
    assert (hung["code"], hung["state"]) == (0, "OK")
    assert hung["held"] <= 1, hung
    assert hung["seconds"] < 2 * OUTAGE + 10
