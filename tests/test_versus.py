"""The rules of ``make versus``: recorded outputs of each peer, and what counts as its verdict."""

from __future__ import annotations

import json

import pytest

from bench.peers import (
    RIGHT,
    Answer,
    CheckDisk,
    CheckDiskEach,
    CheckMounts,
    Collectd,
    Daemon,
    Df,
    NodeExporter,
    Peer,
    Psutil,
    Said,
    StatLoop,
)  # fmt: skip
from bench.versus import kinds
from bench.versus_page import PAGE, cell, commands, rules

_NOTIFICATION = (
    "[2026-11-30 00:16:41] Notification: severity = {}, host = host, plugin = df, plugin_instance = run-vs-{}, "
    "type = percent_bytes, type_instance = free, message = host/df-run-vs-{}/percent_bytes-free has not been updated "
    "for 20.000 seconds.\n"
)
_SERIES = 'node_filesystem_device_error{{device="fuse",fstype="fuse.test",mountpoint="/run/vs/{}"}} {}\n'
_VALUES = (
    "2 Values found\n1790000000.123 host/df-run-vs-h1/df_complex-free\n1790000000.123 host/df-root/df_complex-free\n"
)


def _came(out: str = "", errors: str = "", code: int = 0) -> Answer:
    return Answer(code, out, errors, 0.1)


def _survey(**conditions: str) -> Answer:
    findings = [{"mount_point": f"/run/vs/{name}", "condition": value} for name, value in conditions.items()]
    return _came(json.dumps({"findings": findings}), code=2)


@pytest.mark.parametrize(
    ("peer", "answer", "mount", "said"),
    [
        (
            CheckDisk(),
            _came("DISK CRITICAL - /run/vs/dead is not accessible: Transport endpoint is not connected\n", code=2),
            "dead",
            "trouble",
        ),
        (
            CheckDisk(),
            _came("DISK CRITICAL - /run/vs/dead is not accessible: Transport endpoint is not connected\n", code=2),
            "dea",
            "nothing",
        ),
        (CheckDisk(), _came("DISK CRITICAL: /run/vs/gone not found\n", code=2), "gone", "trouble"),
        (
            CheckDisk(),
            _came(
                "DISK OK - free space: /run/vs/h1 1MiB (50% inode=50%);| /run/vs/h1=1048576B;3114270;3114270;0;3145728"
            ),
            "h1",
            "well",
        ),
        (CheckDisk(), _came("CRITICAL - Plugin timed out after 5 seconds\n", code=2), "h1", "trouble, but not where"),
        (CheckDisk(), Answer(None, "", "", 10.0), "hung", "hangs"),
        (
            CheckDiskEach(),
            Answer(None, "DISK OK - free space: /run/vs/h1 1MiB (50% inode=50%);| /run/vs/h1=1048576B;3;3;0;3", "", 10),
            "h1",
            "well",
        ),
        (CheckDiskEach(), Answer(None, "", "", 10.0), "hung", "hangs"),
        (NodeExporter(), _came(_SERIES.format("hung", 1), code=200), "hung", "trouble"),
        (NodeExporter(), _came(_SERIES.format("h1", 0), code=200), "h1", "well"),
        (NodeExporter(), _came(_SERIES.format("h1", 0), code=200), "h", "trouble"),
        (NodeExporter(), Answer(None, "", "timed out", 10.0), "hung", "hangs"),
        (Collectd(), _came(_VALUES), "h1", "well"),
        (Collectd(), _came(_VALUES), "h", "nothing"),
        (Collectd(), _came("0 Values found\n", _NOTIFICATION.format("FAILURE", "hung", "hung")), "hung", "trouble"),
        (
            Collectd(),
            _came(
                _VALUES, _NOTIFICATION.format("FAILURE", "h1", "h1") + _NOTIFICATION.format("OKAY", "h1", "h1")
            ),
            "h1",
            "well",
        ),
        (Psutil(), _came("ok /run/vs/h1: 50.0 %\n"), "h1", "well"),
        (
            Psutil(),
            _came("error /run/vs/stale: [Errno 116] Stale file handle: '/run/vs/stale'\n"),
            "stale",
            "trouble",
        ),
        (Df(), _came("fuse 4000 2000 2000 50% /run/vs/h1\n"), "h1", "well"),
        (Df(), _came("", "df: /run/vs/dead: Transport endpoint is not connected\n", 1), "dead", "trouble"),
        (Df(), _came("fuse 4000 2000 2000 50% /run/vs/h1\n"), "remote", "nothing"),
        (StatLoop(), _came("/run/vs/h1: 0\n/run/vs/hung: 137\n"), "hung", "trouble"),
        (StatLoop(), _came("/run/vs/h1: 0\n/run/vs/hung: 137\n"), "h1", "well"),
        (CheckMounts(), _survey(hung="timed-out", h1="ok"), "hung", "trouble"),
        (CheckMounts(), _survey(hung="timed-out", h1="ok"), "h1", "well"),
        (CheckMounts(), _survey(hung="timed-out", h1="ok"), "other", "nothing"),
        (Daemon(), _came("", "MOUNTS UNKNOWN - there is no result\n", 3), "h1", "nothing"),
    ],
)  # fmt: skip
def test_what_a_peer_says(peer: Peer, answer: Answer, mount: str, said: str) -> None:
    assert peer.said(answer, f"/run/vs/{mount}") is Said(said)


@pytest.mark.parametrize(
    ("said", "expected", "is_told"),
    [
        (["trouble"] * 5, "timed-out", "yes"),
        (["hangs"] * 5, "timed-out", "hangs"),
        (["well", "well", "trouble", "trouble", "trouble"], "dead", "3 of 5"),
        (["trouble"] * 5, "ok", "trouble"),
        (["nothing"] * 5, "ok", "yes"),
        (["nothing"] * 5, "not mounted", "nothing"),
    ],
)
def test_a_cell(said: list[str], expected: str, is_told: str) -> None:
    assert cell(said, expected) == is_told


def test_each_condition_of_the_zoo_has_its_rule() -> None:
    assert {kind.expected for kind in kinds()} <= RIGHT.keys()


def test_the_page_has_the_rules_and_the_commands_of_the_code() -> None:
    """After a change of either: ``make versus``, or ``python -m bench.versus --page`` for words."""
    text = PAGE.read_text()
    assert rules() in text
    assert commands() in text
