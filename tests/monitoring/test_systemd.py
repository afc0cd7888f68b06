"""Under a real systemd: nrpe's unit as Debian has it, the sandboxes that units can ask for, and a
shutdown with a stuck probe."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import until
from tests.kernel import state
from tests.monitoring.booted import Booted, booted
from tests.monitoring.stack import Stack

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]
SHIPPED = Path("/usr/local/share/check_mounts/nrpe")
CHECK_NRPE = "/usr/lib/nagios/plugins/check_nrpe"
CHECK = "/usr/local/bin/check_mounts -t 2"
UNPRIVILEGED = (
    "command[check_mounts_unprivileged]=/usr/local/bin/check_mounts -t 2 --state-dir /var/lib/nagios/check_mounts\n"
)


def _nrpe(stack: Stack, booted: Booted) -> None:
    stack.write("/etc/sudoers.d/check_mounts", (SHIPPED / "check_mounts.sudoers").read_text(), mode=0o440)
    stack.write("/etc/nagios/nrpe.d/check_mounts.cfg", (SHIPPED / "check_mounts.cfg").read_text() + UNPRIVILEGED)
    booted.systemctl("start", "nagios-nrpe-server")
    until(lambda: _ask(booted, "check_users")[1].startswith("USERS") or "5666" in booted.run("ss", "-ltn").stdout)


def _ask(booted: Booted, command: str) -> tuple[int, str]:
    result = booted.run(CHECK_NRPE, "-H", "127.0.0.1", "-t", "30", "-c", command)
    return result.returncode, result.stdout


def test_nrpe_under_the_unit_that_debian_has(stack: Stack, booted: Booted) -> None:
    assert "PrivateTmp=true" in booted.run("cat", "/lib/systemd/system/nagios-nrpe-server.service").stdout
    _nrpe(stack, booted)
    for command in ("check_mounts", "check_mounts_unprivileged"):
        code, output = _ask(booted, command)
        assert (code, output[:11]) == (0, "MOUNTS OK -"), output
        assert "/run/credentials" not in output and "/run/systemd/incoming" not in output
    fuse = booted.fuse("hung")
    try:
        for command in ("check_mounts", "check_mounts_unprivileged"):
            code, output = _ask(booted, command)
            assert (code, "/srv/hung (fuse.test fuse) timed out" in output) == (2, True), output
    finally:
        fuse.close()
        booted.run("umount", "-l", "/srv/hung")


@pytest.mark.parametrize(
    "settings",
    [
        ("PrivateTmp=yes",),
        ("ProtectHome=yes",),
        ("ProtectHome=tmpfs",),
        ("ProtectHome=read-only", "ReadOnlyPaths=/var/tmp"),
        ("ProtectSystem=full", "PrivateDevices=yes"),
        (
            "ProtectSystem=strict",
            "PrivateTmp=yes",
            "ProtectKernelTunables=yes",
            "ProtectControlGroups=yes",
            "ProtectKernelLogs=yes",
        ),
        ("InaccessiblePaths=/srv /usr/share/doc /etc/hostname", "TemporaryFileSystem=/opt", "ProtectKernelModules=yes"),
        ("BindReadOnlyPaths=/usr/share:/mnt", "ProtectProc=invisible", "PrivateMounts=yes"),
        ("PrivateUsers=yes", "PrivateTmp=yes"),
        ("LoadCredential=a:/etc/hostname", "PrivateTmp=yes"),
        ("User=nagios", "PrivateTmp=yes", "ProtectSystem=strict", "ProtectHome=yes"),
    ],
    ids=" ".join,
)
def test_a_healthy_host_is_ok_in_each_sandbox(stack: Stack, booted: Booted, settings: tuple[str, ...]) -> None:
    stack.write("/etc/fstab", "overlay / overlay defaults,rw 0 0\ntmpfs /run tmpfs defaults,rw 0 0\n")
    unprivileged = " --state-dir /tmp/check_mounts-test" if "User=nagios" in settings else ""
    code, output = booted.once(f"{CHECK} --fstab{unprivileged}", *settings)
    assert (code, output[:11]) == (0, "MOUNTS OK -"), output
    if "User=nagios" not in settings:
        assert "note: this process is in another mount namespace than PID 1" in output


def test_without_a_sandbox_there_is_no_note(booted: Booted) -> None:
    code, output = booted.once(CHECK)
    assert (code, "note:" in output) == (0, False), output


def test_what_a_sandbox_hides_is_not_missing_and_not_ok(stack: Stack, booted: Booted) -> None:
    booted.run("mount", "-t", "tmpfs", "tmpfs", "/home")
    try:
        stack.write("/etc/fstab", "tmpfs /home tmpfs defaults 0 0\n")
        assert booted.once(f"{CHECK} --fstab")[0] == 0
        for settings in ("ProtectHome=yes", "InaccessiblePaths=/home", "TemporaryFileSystem=/home"):
            code, output = booted.once(f"{CHECK} --fstab", settings)
            assert (code, "a sandbox" in output) == (3, True), output
    finally:
        booted.run("umount", "/home")
        stack.write("/etc/fstab", "")


def test_what_is_read_only_outside_is_told_in_a_sandbox(stack: Stack, booted: Booted) -> None:
    booted.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/opt")
    try:
        stack.write("/etc/fstab", "tmpfs /opt tmpfs rw 0 0\n")
        code, output = booted.once(f"{CHECK} --fstab", "PrivateTmp=yes", "ProtectSystem=strict")
        assert (code, "/opt (tmpfs tmpfs) read-only" in output) == (2, True), output
    finally:
        booted.run("umount", "/opt")
        stack.write("/etc/fstab", "")


def test_a_start_may_take_as_long_as_the_timeout(stack: Stack, booted: Booted) -> None:
    """The unit as it is shipped, but that its patience is short: a mount that hangs makes the first
    pass, and so the start, longer than that."""
    stack.write("/etc/check_mounts.conf", "[check_mounts]\ntimeout = 6\npath = /srv/*\n")
    booted.unit("check_mounts.service", (SHIPPED / "check_mounts.service").read_text())
    booted.drop_in("check_mounts.service", "[Service]\nTimeoutStartSec=3\nWatchdogSec=3\n")
    fuse = booted.fuse("hung")
    try:
        booted.systemctl("daemon-reload")
        began = time.monotonic()
        result = booted.systemctl("start", "check_mounts.service")
        assert result.returncode == 0, (result.stderr, booted.console)
        assert time.monotonic() - began > 5
        shown = booted.systemctl("show", "-P", "StatusText", "-P", "NRestarts", "-P", "ActiveState", "check_mounts")
        assert sorted(shown.stdout.split("\n")) == ["", "0", "1 mount, 1 timed out: /srv/hung", "active"]
    finally:
        booted.systemctl("stop", "check_mounts.service")
        fuse.close()
        booted.run("umount", "-l", "/srv/hung")
        stack.write("/etc/check_mounts.conf", "")


def test_a_reload_is_refused_while_the_configuration_is_wrong(stack: Stack, booted: Booted) -> None:
    """The unit as it is shipped, with its sandbox."""
    stack.write("/etc/check_mounts.conf", "[check_mounts]\ntimeout = 6\n")
    booted.unit("check_mounts.service", (SHIPPED / "check_mounts.service").read_text())
    booted.drop_in("check_mounts.service", "")
    try:
        booted.systemctl("daemon-reload")
        result = booted.systemctl("start", "check_mounts.service")
        assert result.returncode == 0, (result.stderr, booted.console)
        for content, refused in (("timout = 6", True), ("timeout = 7", False)):
            stack.write("/etc/check_mounts.conf", f"[check_mounts]\n{content}\n")
            assert (booted.systemctl("reload", "check_mounts.service").returncode != 0) is refused
            shown = booted.systemctl("show", "-P", "ExecReload", "check_mounts").stdout
            # Only after a check that is OK.
            sent = next(line for line in shown.splitlines() if "-HUP" in line)
            assert ("start_time=[n/a]" in sent) is refused, shown
            assert booted.systemctl("is-active", "check_mounts").stdout == "active\n"
    finally:
        booted.systemctl("stop", "check_mounts.service")
        stack.write("/etc/check_mounts.conf", "")


def test_a_shutdown_does_not_wait_for_a_stuck_probe(stack: Stack, booted: Booted) -> None:
    """The last: systemd-shutdown waits 90 s after SIGTERM and 90 s after SIGKILL for who does not
    end."""
    fuse = booted.fuse("hung")
    code, output = booted.once(CHECK, "KillMode=process")
    assert code == 2, output
    (stuck,) = booted.workers()
    try:
        booted.power_off()
        until(lambda: booted.has_shut_down, 80)
        assert state(stuck) == "D"
    finally:
        fuse.close()
