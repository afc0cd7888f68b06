"""integrations/systemd: units that are ordered after mounts that answer, under a real systemd."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Fuse, until
from tests.kernel import state
from tests.monitoring.booted import Booted, booted
from tests.monitoring.stack import Stack
from tests.test_unit import NAMESPACES

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]
UNIT = ROOT / "integrations/systemd/check_mounts-wait@.service"
README = ROOT / "integrations/systemd/README.md"
STARTED = Path("/var/once/started")
CONSUMER = "[Service]\nType=oneshot\nExecStart=/bin/touch {}\n"
# There is no journal in there.
TO_FILE = "[Service]\nStandardOutput=append:/var/once/said\nStandardError=append:/var/once/said\n"


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(), re.M | re.S)


class Consumer:
    """A service that requires the mount of an instance."""

    def __init__(self, booted: Booted, instance: str) -> None:
        self._booted = booted
        self.wait = f"check_mounts-wait@{instance}.service"
        requires, _ = _blocks("ini")
        booted.unit("consumer.service", CONSUMER.format(STARTED) + requires.replace("srv-data", instance))
        booted.systemctl("daemon-reload")
        for path in ("/var/once/started", "/var/once/said"):
            booted.run("rm", "-f", path)

    def start(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._booted.systemctl("start", *words, "consumer.service")

    @property
    def has_started(self) -> bool:
        return self._booted.run("test", "-e", str(STARTED)).returncode == 0

    @property
    def said(self) -> str:
        return self._booted.run("cat", "/var/once/said").stdout

    def property(self, name: str, unit: str = "") -> str:
        return self._booted.systemctl("show", "-P", name, unit or self.wait).stdout.rstrip("\n")


@pytest.fixture(scope="module", autouse=True)
def shipped(booted: Booted) -> None:
    (commands,) = _blocks("sh")
    assert booted.run("sh", "-ec", commands).returncode == 0
    booted.drop_in("check_mounts-wait@.service", TO_FILE)


@pytest.fixture
def fuse(booted: Booted) -> Iterator[Fuse]:
    server = booted.fuse("hung")
    yield server
    server.close()
    booted.run("umount", "-l", "/srv/hung")


@pytest.fixture
def short(booted: Booted) -> Iterator[None]:
    """A wait of two seconds."""
    text = next(line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    booted.drop_in("check_mounts-wait@.service", f"{TO_FILE}ExecStart=\n{text.replace('60', '2')}\n")
    yield
    booted.drop_in("check_mounts-wait@.service", TO_FILE)


def test_a_service_starts_when_its_mount_answers(booted: Booted, fuse: Fuse) -> None:
    consumer = Consumer(booted, "srv-hung")
    assert consumer.start("--no-block").returncode == 0
    until(lambda: "check_mounts: waiting for /srv/hung timed out after 5 s" in consumer.said)
    assert (consumer.has_started, consumer.property("ActiveState")) == (False, "activating")
    (stuck,) = booted.workers()
    assert state(stuck) == "D"
    fuse.command("answer", "hung")
    until(lambda: consumer.has_started, 20)
    assert re.search(r"^MOUNTS OK - 1 mount checked in [\d.]+ s\n(note: .*\n)*note: waited ", consumer.said, re.M)
    until(lambda: not booted.workers())


def test_a_restart_asks_again(booted: Booted, fuse: Fuse) -> None:
    fuse.command("answer", "hung")
    consumer = Consumer(booted, "srv-hung")
    assert (consumer.start().returncode, consumer.has_started) == (0, True)
    assert consumer.property("ActiveState") == "inactive"
    booted.run("rm", str(STARTED))
    fuse.command("hang", "hung")
    consumer.start("--no-block")
    until(lambda: "waiting for /srv/hung" in consumer.said)
    assert not consumer.has_started
    fuse.command("answer", "hung")
    until(lambda: consumer.has_started)


def test_when_the_time_is_over_the_dependency_fails(booted: Booted, fuse: Fuse, short: None) -> None:
    consumer = Consumer(booted, "srv-hung")
    begun = time.monotonic()
    result = consumer.start()
    assert result.returncode != 0
    assert "A dependency job for consumer.service failed" in result.stderr
    assert time.monotonic() - begun < 15  # systemd does not wait for the process that hangs
    assert not consumer.has_started
    assert (consumer.property("Result"), consumer.property("ExecMainStatus")) == ("exit-code", "2")
    assert "MOUNTS CRITICAL - 1 of 1 mounts failed: /srv/hung (fuse.test fuse) timed out after 1.8 s" in consumer.said
    assert len(booted.workers()) == 1
    consumer.start()
    assert len(booted.workers()) == 1  # and no second one for the second start
    fuse.command("answer", "hung")
    assert consumer.start().returncode == 0
    assert consumer.has_started


@pytest.mark.parametrize("path", ["/srv/late", "/srv/a b$HOME%h-x;y'\"\\é", "/srv/${PATH}"])
def test_a_mount_that_comes_later(booted: Booted, path: str) -> None:
    """It has no unit, and its name means something to others."""
    instance = booted.run("systemd-escape", "--path", path).stdout.rstrip("\n")
    consumer = Consumer(booted, instance)
    assert booted.run("systemd-escape", "--unescape", "--path", instance).stdout.rstrip("\n") == path
    consumer.start("--no-block")
    until(lambda: "waiting for /srv/" in consumer.said)
    assert not consumer.has_started
    booted.run("mkdir", "-p", path)
    assert booted.run("mount", "-t", "tmpfs", "tmpfs", path).returncode == 0
    until(lambda: consumer.has_started)
    booted.run("umount", path)


def test_a_mount_unit_that_fails_is_no_end(booted: Booted, stack: Stack) -> None:
    booted.unit("srv-unit.mount", "[Mount]\nWhat=/nonexistent/device\nWhere=/srv/unit\nType=ext4\n")
    consumer = Consumer(booted, "srv-unit")
    consumer.start("--no-block")
    until(lambda: "waiting for /srv/unit missing" in consumer.said)
    assert consumer.property("ActiveState", "srv-unit.mount") == "failed"
    booted.run("mkdir", "-p", "/srv/unit")
    booted.run("mount", "-t", "tmpfs", "tmpfs", "/srv/unit")
    until(lambda: consumer.has_started)
    booted.run("umount", "/srv/unit")


def test_what_has_answered_starts_and_what_has_not_does_not(
    booted: Booted, stack: Stack, fuse: Fuse, short: None
) -> None:
    """Whatever the configuration says for monitoring."""
    booted.run("mkdir", "-p", "/srv/closed")
    booted.run("mount", "-t", "tmpfs", "-o", "mode=0", "tmpfs", "/srv/closed")
    closed = Consumer(booted, "srv-closed")
    assert (closed.start().returncode, closed.has_started) == (0, True)
    assert "MOUNTS WARNING - " in closed.said
    booted.run("umount", "/srv/closed")
    stack.write("/etc/check_mounts.conf", "[check_mounts]\nseverity = timed-out=ok, missing=warning, dead=warning\n")
    try:
        for instance in ("srv-hung", "srv-nothing"):
            consumer = Consumer(booted, instance)
            assert (consumer.start().returncode != 0, consumer.has_started) == (True, False)
    finally:
        Path("/etc/check_mounts.conf").unlink()
        fuse.command("answer", "hung")


def test_it_can_be_stopped(booted: Booted, fuse: Fuse) -> None:
    consumer = Consumer(booted, "srv-hung")
    consumer.start("--no-block")
    until(lambda: "waiting for /srv/hung" in consumer.said)
    begun = time.monotonic()
    booted.systemctl("stop", consumer.wait)
    assert time.monotonic() - begun < 5
    assert "MOUNTS UNKNOWN - interrupted by SIGTERM" in consumer.said
    assert not consumer.has_started
    fuse.command("answer", "hung")


def test_all_that_fstab_declares(booted: Booted, stack: Stack) -> None:
    """The second block of the README."""
    _, command = _blocks("ini")
    stack.write("/etc/fstab", "filer:/x /srv/declared nfs4 defaults 0 0\n/dev/x /srv/local ext4 defaults 0 0\n")
    directory = booted.units / "check_mounts-wait@remote.service.d"
    directory.mkdir()
    (directory / "override.conf").write_text(command.replace("300", "2"))  # as `systemctl edit` does
    try:
        consumer = Consumer(booted, "remote")
        assert consumer.start().returncode != 0
        assert "MOUNTS CRITICAL - 1 of 1 mounts failed: /srv/declared missing: not mounted" in consumer.said
    finally:
        stack.write("/etc/fstab", "")


def test_systemd_understands_the_unit(booted: Booted) -> None:
    result = booted.run("systemd-analyze", "verify", "--man=no", "check_mounts-wait@srv-data.service")
    assert (result.returncode, result.stderr) == (0, "")


def test_it_stays_in_the_mount_namespace_of_the_host_and_may_do_what_the_daemon_may() -> None:
    names = re.findall(r"^(\w+)=", UNIT.read_text(), re.M)
    assert set(names) & NAMESPACES == set()
    daemon = (ROOT / "nrpe/check_mounts.service").read_text()
    filters = re.compile(r"^(?:SystemCall|Capability|Restrict|Protect|NoNew|Lock|Device|Keyring)\w+=.*", re.M)
    assert filters.findall(UNIT.read_text()) == filters.findall(daemon)
