"""What a real systemd says of the units of mounts that are missing."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.conftest import ROOT, until
from tests.kernel import state
from tests.monitoring.booted import Booted, booted

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]
UNIT = "[Mount]\nWhat={}\nWhere={}\nType={}\n"
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


SERVICE = (ROOT / "nrpe/check_mounts.service").read_text()
KERNEL_LOG = "dd if=/dev/kmsg of=/dev/null bs=8192 count=1 iflag=nonblock"


def said(booted: Booted, *arguments: str) -> str:
    return booted.run("check_mounts", "-v", *arguments).stdout


def test_units_of_missing_mounts(booted: Booted) -> None:
    booted.unit("srv-gone.mount", UNIT.format("/dev/gone|x", "/srv/gone", "ext4"))
    booted.unit(r"srv-a\x2db\x3bc.mount", UNIT.format("none", "/srv/a-b;c", "tmpfs"))
    booted.systemctl("daemon-reload")
    booted.run("mkdir", "-p", "/srv/unknown")
    assert booted.systemctl("start", "srv-gone.mount").returncode != 0
    found = said(booted, "/srv/gone", "/srv/a-b;c", "/srv/unknown")
    assert re.search(rf"^  srv-gone\.mount has failed since {MOMENT}: mount exited with \d+$", found, re.M), found
    assert re.search(r"^  srv-a\\134x2db\\134x3bc\.mount has been inactive", found, re.M), found
    assert "unknown.mount" not in found


def test_a_systemd_that_does_not_answer(booted: Booted) -> None:
    """The run ends in time, and systemctl with it."""
    os.kill(booted.pid, signal.SIGSTOP)
    try:
        until(lambda: state(booted.pid) == "T")
        found = said(booted, "/srv/gone")
        assert "missing: not mounted" in found and "srv-gone.mount" not in found
        assert booted.run("pgrep", "-x", "systemctl").stdout == ""
    finally:
        os.kill(booted.pid, signal.SIGCONT)


def test_the_unit_may_read_the_kernels_log_with_its_drop_in(booted: Booted) -> None:
    """Where everybody may read it, that shows the device's part only."""
    own = [line for line in SERVICE.splitlines() if line.startswith(("CapabilityBoundingSet=", "DevicePolicy="))]
    (drop_in,) = re.findall(r"^# What the kernel's log(?:.*\n)*?#   \[Service\]\n((?:#   .*\n)+)", SERVICE, re.M)
    more = [line[len("#   ") :] for line in drop_in.splitlines()]
    booted.run("mknod", "/dev/kmsg", "c", "1", "11")
    try:
        assert booted.once(KERNEL_LOG, *own)[0] != 0
        status, output = booted.once(KERNEL_LOG, *own, *more)
        assert status == 0, output
    finally:
        booted.run("rm", "/dev/kmsg")
