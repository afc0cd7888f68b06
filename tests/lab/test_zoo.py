"""check_mounts among real NFS, CIFS, 9p, FUSE, sshfs, autofs and disks, healthy, spoilt and healed:
one guest, all of kinds.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import verdict
from tests.lab.kinds import KINDS, NOT_PROBED, Kind
from tests.lab.watched import fails, recovers


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return verdict.report()


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind(report: dict[str, Any], kind: Kind) -> None:
    assert not list(verdict.of_kind(report, kind))


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind_watched_by_the_daemon(report: dict[str, Any], kind: Kind) -> None:
    """Hang and recovery are told once each, and the result follows."""
    assert not list(verdict.of_watched(report, kind))


@pytest.mark.guest
def test_the_daemon_as_a_whole(report: dict[str, Any]) -> None:
    """One process at each filesystem that hangs, whatever the number of passes; nothing else in the
    log; it ends when it is told to."""
    assert not list(verdict.of_watch(report))


def test_the_daemon_has_something_to_tell() -> None:
    assert sum(map(fails, KINDS)) >= 35
    assert sum(map(recovers, KINDS)) >= 35
    assert {kind.name.split("-")[0] for kind in KINDS if recovers(kind)} >= {
        "nfs3",
        "nfs4",
        "cifs",
        "9p",
        "fuse",
        "sshfs",
        "autofs",
    }


def test_the_zoo_is_large_and_proves_its_point() -> None:
    assert sum(kind.expected not in ("ok", NOT_PROBED) for kind in KINDS) >= 40
    assert sum(kind.warm for kind in KINDS) >= 20


@pytest.mark.guest
def test_runs_of_their_own(report: dict[str, Any]) -> None:
    assert not list(verdict.of_runs(report))


@pytest.mark.guest
def test_nothing_is_stuck_but_what_cannot_be_killed(report: dict[str, Any]) -> None:
    assert len(report["again"]) == 9
    assert not list(verdict.of_processes(report))


@pytest.mark.guest
def test_exit_codes(report: dict[str, Any]) -> None:
    assert report["healthy"]["code"] == 1  # a root directory of mode 0000, and nothing else
    assert report["spoilt"]["code"] == report["nagios"]["code"] == 2
    assert {act["code"] for act in report["again"]} == {2}
