"""The plan of a pass, on tables that no kernel would print, and on large ones. No mount is
touched."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from check_mounts import mounttable, selection
from check_mounts.model import Condition, Survey
from check_mounts.probing import asking, conditions, probe, stuck, survey


def _take(
    table: bytes,
    tmp_path: Path,
    later: Optional[bytes] = None,
    filters: Optional[selection.Filters] = None,
    **settings: float,
) -> Survey:
    parsed = mounttable.parse(table)
    again = parsed if later is None else mounttable.parse(later)
    chosen = selection.select(parsed[0], filters or selection.Filters())
    registry = stuck.Registry(str(tmp_path / "state"), slots=1024)
    how = asking.Settings(**settings)  # type: ignore[arg-type]
    return survey.take(survey.Pass(parsed, chosen, how, registry), lambda: again)


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
    assert all(finding.condition is Condition.UNPROBED for finding in result.findings)  # their mount IDs are made up


@pytest.mark.parametrize("other", [b"ext4 b", b"nfs4 a"])
def test_what_takes_the_place_of_a_mount_is_another_one(tmp_path: Path, other: bytes) -> None:
    """Though it has its ID and its device, which the kernel gives again at once: it has not
    failed."""
    table = b"2000000027 1 0:1 / /no/such/place rw - ext4 a rw\n"
    assert [each.condition for each in _take(table, tmp_path, table).findings] == [Condition.UNPROBED]
    result = _take(table, tmp_path, table.replace(b"ext4 a", other))
    assert (result.findings, [selection.why_left_out(out) for out in result.left_out]) == (
        (),
        ["unmounted during the run"],
    )


@pytest.mark.parametrize("root", [b"overlay overlayfs:/overlay", b"nfs4 filer1:/root", b"fuse.glusterfs gl:/root"])
def test_a_root_filesystem_that_is_left_out_blocks_nothing(tmp_path: Path, root: bytes) -> None:
    table = b"2000000001 1 0:1 / / rw - " + root + b" rw\n2000000002 2000000001 0:2 / /no/such/place rw - ext4 a rw\n"
    result = _take(table, tmp_path, filters=selection.Filters(exclude_types=[selection.compile_glob(root.split()[0])]))
    # It was looked for, and is not there: its mount ID is made up.
    assert [each.condition for each in result.findings] == [Condition.UNPROBED]
    assert result.findings[0].detail == conditions.Elsewhere.NO_PATH.value
    assert [selection.why_left_out(out) for out in result.left_out] == ["its type is excluded"]


def test_what_is_below_another_network_mount_that_is_left_out_is_blocked(tmp_path: Path) -> None:
    table = (
        b"2000000001 1 0:1 / / rw - ext4 a rw\n2000000002 2000000001 0:2 / /no rw - nfs4 filer1:/root rw\n"
        b"2000000003 2000000002 0:3 / /no/such rw - ext4 a rw\n"
    )
    result = _take(table, tmp_path, filters=selection.Filters(exclude_types=[selection.compile_glob(b"nfs4")]))
    assert [each.condition for each in result.findings if each.mount_point == b"/no/such"] == [Condition.BLOCKED]


def test_ids_out_of_this_world(tmp_path: Path) -> None:
    table = b"2147483647 1 1048575:2147483647 / /no/such/place rw - fuse x rw,user_id=4294967295,group_id=99999999999\n"
    result = _take(table, tmp_path)
    assert [selection.why_left_out(out) for out in result.left_out] == ["FUSE mount of uid 4294967294"]


def test_a_path_that_no_call_takes(tmp_path: Path) -> None:
    result = _take(b"1 0 0:1 / /" + b"x/" * 3000 + b" rw - tmpfs a rw\n", tmp_path)
    assert [finding.condition for finding in result.findings] == [Condition.UNPROBED]
    assert "PATH_MAX" in result.findings[0].detail


@pytest.mark.parametrize(("late", "deadline"), [(1.0, 20.0), (4.5, 1.5)])
def test_a_late_parent_makes_no_mount_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: float, deadline: float
) -> None:
    """Not even if the deadline is over when it goes on. There is more to be answered than the pipes
    take."""
    monkeypatch.setattr(survey, "_CATCH_UP", 10.0)  # so much the busiest machine has time for
    lines = [b"%d 0 0:%d / /no/such/place/%d rw - tmpfs a rw\n" % (number, number, number) for number in range(1, 2001)]
    parsed = mounttable.parse(b"".join(lines))
    chosen = selection.select(parsed[0], selection.Filters())
    registry = stuck.Registry(str(tmp_path / "state"), slots=1024)
    under_way = survey.Pass(parsed, chosen, asking.Settings(timeout=0.8, deadline=deadline), registry)
    under_way.step()
    time.sleep(late)  # as if stopped
    result = survey.take(under_way, lambda: parsed)
    # Their mount IDs are made up.
    assert [finding.condition for finding in result.findings] == [Condition.UNPROBED] * 2000
    assert {finding.detail for finding in result.findings} == {result.findings[0].detail}
    assert result.duration < late + 10


def test_a_deadline_on_time_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = mounttable.parse(
        b"".join(b"%d 0 0:%d / /no/such/place/%d rw - tmpfs a rw\n" % (n, n, n) for n in range(1, 1001))
    )
    chosen = selection.select(parsed[0], selection.Filters())
    registry = stuck.Registry(str(tmp_path / "state"), slots=4)
    original = probe.answer

    def slowly(*arguments: Any) -> tuple[bytes, bool]:
        time.sleep(0.01)
        return original(*arguments)

    monkeypatch.setattr(probe, "answer", slowly)
    under_way = survey.Pass(parsed, chosen, asking.Settings(timeout=1, deadline=1, max_workers=4), registry)
    result = survey.take(under_way, lambda: parsed)
    unprobed = sum(finding.detail == "the run's deadline came first" for finding in result.findings)
    assert 0 < unprobed < 1000 and len(result.findings) == 1000
    assert result.duration < 2.5


def test_twenty_thousand_mounts(tmp_path: Path) -> None:
    """Linear, or this would take minutes (check_disk: 23 s at 10,000)."""
    lines = [b"1 0 0:1 / / rw - ext4 a rw\n"]
    for number in range(2, 20001):
        parent = number // 2 if number % 3 else 1
        lines.append(b"%d %d 0:%d / /no/such/place/%d rw - tmpfs a rw\n" % (number, parent, number, number))
    began = sum(os.times()[:4])  # of the processor, which others have, too; workers included
    result = _take(b"".join(lines), tmp_path, timeout=300, deadline=400)
    assert len(result.findings) == 20000
    assert {finding.detail for finding in result.findings} <= {each.value for each in conditions.Elsewhere} | {
        "another mount covers it"
    }
    assert sum(os.times()[:4]) - began < 30
