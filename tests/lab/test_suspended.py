"""Devices of device mapper that are suspended: see suspended.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.lab.suspended import MOMENT, TIMEOUT

SUSPENDED = f"dm-0 (vg-lower) has been suspended for at least {TIMEOUT:g} s"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.suspended"], 200, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    value: dict[str, Any] = json.loads(result.files["suspended.json"])
    return value


def conditions(act: dict[str, Any]) -> dict[str, str]:
    return {point.rpartition("/")[2]: each["condition"] for point, each in act["found"].items()}


@pytest.mark.guest
def test_a_volume_that_is_suspended_all_the_time_has_timed_out(report: dict[str, Any]) -> None:
    """All of it is answered from the cache. The file system in a file of the first one is not
    served either."""
    lower = report["lower"]
    assert conditions(lower) == {"lower": "timed-out", "upper": "ok", "inner": "timed-out"}, lower
    assert lower["code"] == 2
    assert lower["found"]["/mnt/lower"]["text"] == f"timed out: its device {SUSPENDED}"
    assert lower["found"]["/mnt/inner"]["text"] == f"timed out: below its device, {SUSPENDED}"
    assert lower["seconds"] >= TIMEOUT


@pytest.mark.guest
def test_a_volume_on_top_of_one_that_is_suspended(report: dict[str, Any]) -> None:
    base = report["base"]
    assert conditions(base) == {"lower": "ok", "upper": "timed-out", "inner": "ok"}, base
    assert base["found"]["/mnt/upper"]["text"].startswith("timed out: below its device, dm-1 (vg-base) has been")


@pytest.mark.guest
def test_a_moment_is_waited_for_and_no_longer(report: dict[str, Any]) -> None:
    assert set(conditions(report["moment"]).values()) == {"ok"}, report["moment"]
    assert MOMENT / 2 < report["moment"]["seconds"] < 20
    assert not any(each["remarks"] for each in report["moment"]["found"].values())


@pytest.mark.guest
def test_what_is_not_suspended_waits_for_nothing(report: dict[str, Any]) -> None:
    for act in (report["healthy"], report["again"]):
        assert set(conditions(act).values()) == {"ok"}, act
        assert not any(each["remarks"] for each in act["found"].values())


@pytest.mark.guest
def test_a_probe_that_hangs_in_a_suspended_device_is_told_why(report: dict[str, Any]) -> None:
    upper = report["uncached"]["found"]["/mnt/upper"]
    assert upper["condition"] == "timed-out"
    assert upper["diagnosis"] == "below its device, dm-1 (vg-base) is suspended", upper
