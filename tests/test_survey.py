"""The plan of a pass, on tables that no kernel would print, and on large ones. No mount is touched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from check_mounts import mounttable, selection, stuck, survey
from check_mounts.model import Condition, Survey


def _take(table: bytes, tmp_path: Path, **settings: float) -> Survey:
    parsed = mounttable.parse(table)
    chosen = selection.select(parsed[0], selection.Filters())
    registry = stuck.Registry(str(tmp_path / "state"), slots=1024)
    return survey.take(survey.Pass(parsed, chosen, survey.Settings(**settings), registry), lambda: parsed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "table",
    [
        b"2000000027 2000000028 0:1 / / rw - ext4 a rw\n2000000028 2000000027 0:2 / /no/such/place rw - tmpfs b rw\n",
        b"2000000027 2000000027 0:1 / /no/such/place rw - ext4 a rw\n",
        b"1 2 0:1 / /no/1 rw - tmpfs a rw\n2 3 0:2 / /no/2 rw - tmpfs b rw\n3 1 0:3 / /no/3 rw - tmpfs c rw\n",
    ],
)
def test_mounts_that_hang_from_each_other_are_probed_all_the_same(tmp_path: Path, table: bytes) -> None:
    result = _take(table, tmp_path)
    assert len(result.findings) == table.count(b"\n")
    assert all(finding.condition is Condition.SHADOWED for finding in result.findings)  # their mount IDs are made up


def test_ids_out_of_this_world(tmp_path: Path) -> None:
    table = b"2147483647 1 1048575:2147483647 / /no/such/place rw - fuse x rw,user_id=4294967295,group_id=99999999999\n"
    result = _take(table, tmp_path)
    assert [out.why for out in result.left_out] == ["FUSE mount of uid 4294967294"]


def test_a_path_that_no_call_takes(tmp_path: Path) -> None:
    result = _take(b"1 0 0:1 / /" + b"x/" * 3000 + b" rw - tmpfs a rw\n", tmp_path)
    assert [finding.condition for finding in result.findings] == [Condition.UNPROBED]
    assert "PATH_MAX" in result.findings[0].detail


def test_twenty_thousand_mounts(tmp_path: Path) -> None:
    """Linear, or this would take minutes (check_disk: 23 s at 10,000)."""
    lines = [b"1 0 0:1 / / rw - ext4 a rw\n"]
    for number in range(2, 20001):
        parent = number // 2 if number % 3 else 1
        lines.append(b"%d %d 0:%d / /no/such/place/%d rw - tmpfs a rw\n" % (number, parent, number, number))
    began = time.monotonic()
    result = _take(b"".join(lines), tmp_path, timeout=50, deadline=60)
    assert len(result.findings) == 20000
    assert not [finding for finding in result.findings if finding.condition is Condition.UNPROBED]
    assert time.monotonic() - began < 30
