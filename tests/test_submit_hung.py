"""Destinations whose files lie on a mount that hangs: no run adds a process to those that it holds
already."""

from __future__ import annotations

import pytest

from tests.conftest import Fuse, Mounts, Plugin, remaining, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def test_single_runs_hold_one_process(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    home = fuse.mount("home")
    fuse.command("hang", "home")
    words = ("-t", "0.5", "--submit", f"command-file:{home}/../home/nagios.cmd", "--submit-timeout", "1000")
    for _ in range(3):
        result = plugin(*words)
        assert (result.code, result.count("timed_out")) == (2, 1)
        why = f"{home}/nagios.cmd is on {home}, which timed out"
        assert (
            result.stderr.decode() == f"check_mounts: not submitted to command-file:{home}/../home/nagios.cmd: {why}\n"
        )
    remaining(1)
    assert fuse.waiting("home") == 1


def test_nor_does_the_daemon(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    home = fuse.mount("home")
    fuse.command("hang", "home")
    daemon.start("--submit", f"command-file:{home}/nagios.cmd")
    line = f"Cannot submit to command-file:{home}/nagios.cmd: {home}/nagios.cmd is on {home}, which timed out"
    until(lambda: daemon.says(line))
    remaining(1)
    fuse.command("answer", "home")
    until(
        lambda: (
            daemon.says(f"No longer: {line}")
            or f"Cannot submit to command-file:{home}/nagios.cmd: No such file" in daemon.log
        )
    )
