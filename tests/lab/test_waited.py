"""``--wait`` with a real NFS: see waited.py; ``--namespaces`` with NFS and CIFS: see spaces.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.lab.spaces import MOUNTS
from tests.lab.waited import OUTAGE


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What both plays say, in one guest."""
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.waited"], 300, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    value: dict[str, Any] = json.loads(result.files["waited.json"])
    return value


@pytest.mark.guest
def test_a_wait_for_nfs_ends_when_it_is_mounted_and_when_its_server_is_back(report: dict[str, Any]) -> None:
    late, hung = report["late"], report["hung"]
    assert (late["code"], late["state"]) == (0, "OK")
    assert (hung["code"], hung["state"]) == (0, "OK")
    assert hung["held"] <= 1, hung
    assert hung["seconds"] < 2 * OUTAGE + 10


@pytest.mark.guest
def test_nfs_and_cifs_of_another_mount_namespace_are_found(report: dict[str, Any]) -> None:
    said = report["spaces"]
    assert not said["own"]
    before = f"pid {said['pid']} (uid 0): /mnt/"
    assert said["well"] == {"code": 0, "found": {before + name: "ok" for name in MOUNTS}, "notes": []}
    ill = {"s-healthy": "ok", "s-stale": "dead", "s-hung": "timed-out", "s-cifs": "timed-out"}
    assert said["ill"]["code"] == 2
    assert said["ill"]["found"] == {before + name: condition for name, condition in ill.items()}
