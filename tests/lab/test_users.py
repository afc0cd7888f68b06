"""``--users`` with a real NFS: see users.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.victims import CERTAIN, PROBABLE


def _by(asked: dict[str, Any], *hows: str) -> set[int]:
    return {each["pid"] for each in asked["processes"] if each["how"] in hows}


@pytest.mark.guest
def test_who_hangs_in_nfs_is_found_and_no_bystander_ten_times_in_a_row() -> None:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.users"], 400, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    report = json.loads(result.files["users.json"])
    pids = {way: set(pids) for way, pids in report["pids"].items()}
    certain, probable = (set.union(*(pids[way] for way in ways)) for ways in (CERTAIN, PROBABLE))
    assert (len(certain), len(probable), len(pids["bystander"])) == (15, 15, 200)
    before = report["before"]
    assert _by(before, "waits", "probably") == set()
    assert _by(before, "open", "stands") == certain | pids["cwd"] | pids["open"] | pids["stands"]
    for asked in report["asked"]:
        assert (asked["code"], asked["state"], asked["incomplete"]) == (0, "OK", [])
        assert _by(asked, "waits") == certain
        assert _by(asked, "probably") == probable
        assert _by(asked, "open", "stands") == pids["open"] | pids["stands"]
        assert not {each["pid"] for each in asked["processes"]} & pids["bystander"]
    # Of a healthy NFS mount beside it: only those that may wait for either, by what can be read.
    healthy = report["healthy"]
    assert _by(healthy, "probably") == pids["look-up"] | pids["mmap"]
    assert {each["device"] for each in healthy["processes"]} == {None}
    assert report["left"] == []
