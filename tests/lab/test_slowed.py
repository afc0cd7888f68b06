"""``--unusual`` with a real NFS: see slowed.py."""

from __future__ import annotations

import json

import pytest

from tests.lab import guest, verdict


@pytest.mark.guest
def test_the_wire_the_threads_and_the_disks_are_told_apart() -> None:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.slowed"], 500, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    report = json.loads(result.files["slowed.json"])
    found = {point.rpartition("/")[2]: each for point, each in report["found"].items()}
    slow = {name: each["unusual"] for name, each in found.items() if each["condition"] == "slow"}
    assert {name: each["where"] for name, each in slow.items()} == {
        "disks": "disks",
        "threads": "threads",
        "wire": "wire",
    }, report["log"]
    assert [slow[name]["operation"] for name in ("disks", "threads", "wire")] == ["WRITE", "READ", "READ"]
    for name, words in (("disks", "its disks"), ("threads", "its threads"), ("wire", "the wire")):
        assert found[name]["state"] == "WARNING"
        assert found[name]["text"].startswith("slow: ") and found[name]["text"].endswith(f" ms: {words}")
        assert found[name]["text"] + "\n" in report["log"].replace(f"/mnt/{name} is ", "")
    assert report["code"] == 0
