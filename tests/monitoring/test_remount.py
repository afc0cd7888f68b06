"""integrations/remount, under a real systemd and the daemon's unit as it is shipped: what is
missing is mounted again, and nothing else is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, until
from tests.monitoring.booted import Booted, booted
from tests.monitoring.stack import Stack

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]
PAGE = ROOT / "integrations/remount/README.md"
SERVICE = Path("/usr/local/share/check_mounts/nrpe/check_mounts.service")
LOG = "/var/once/log"
SETTINGS = f"[Service]\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n"
HOSTILE = "/srv/a b$HOME%h-x;y'\"\\é*[z]?\t`id`$(id)"


def _block(kind: str) -> str:
    (block,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return str(block)


class Host:
    """A host with mount units, and the daemon."""

    def __init__(self, stack: Stack, booted: Booted) -> None:
        self.booted, self._stack = booted, stack

    def declare(self, path: str) -> str:
        """A mount unit, which is mounted; its name."""
        name = self.booted.run("systemd-escape", "--path", "--suffix=mount", path).stdout.rstrip("\n")
        where = path.replace("%", "%%")
        self.booted.unit(name, f"[Mount]\nWhat=none\nWhere={where}\nType=tmpfs\n[Install]\nWantedBy=local-fs.target\n")
        self.booted.systemctl("daemon-reload")
        self.booted.systemctl("enable", name)
        self.start(name)
        return name

    def start(self, name: str) -> None:
        result = self.booted.systemctl("start", name)
        assert result.returncode == 0, (result.stderr, self.booted.console)

    def is_mounted(self, path: str) -> bool:
        return self.booted.run("mountpoint", "-q", path).returncode == 0

    def unmount(self, path: str) -> None:
        assert self.booted.run("umount", path).returncode == 0

    @property
    def log(self) -> str:
        return self.booted.run("cat", LOG).stdout

    def says(self, words: str) -> bool:
        return words in self.log


@pytest.fixture
def host(stack: Stack, booted: Booted) -> Iterator[Host]:
    assert booted.run("sh", "-ec", _block("sh")).returncode == 0
    stack.write("/etc/check_mounts.conf", _block("ini") + "path = /srv/*\nallow-none = yes\n")
    booted.unit("check_mounts.service", SERVICE.read_text())
    booted.drop_in("check_mounts.service", SETTINGS)
    booted.run("rm", "-f", LOG)
    booted.systemctl("daemon-reload")
    result = Host(stack, booted)
    yield result
    print(result.log, booted.systemctl("list-units", "--all", "srv-*", "check_mounts*").stdout)  # of a failure
    booted.systemctl("stop", "check_mounts.service")
    stack.write("/etc/check_mounts.conf", "")
    for unit in booted.units.glob("srv-*.mount"):
        booted.systemctl("disable", "--now", unit.name)
        unit.unlink()
    booted.systemctl("daemon-reload")


@pytest.mark.parametrize("path", ["/srv/again", HOSTILE], ids=["plain", "hostile"])
def test_what_is_missing_is_mounted_again(host: Host, path: str) -> None:
    unit = host.declare(path)
    host.start("check_mounts.service")
    assert host.is_mounted(path)
    host.unmount(path)
    until(lambda: host.is_mounted(path), 30)
    until(lambda: host.says(f"{unit.replace(chr(92), chr(92) + '134')}: systemd was asked to mount it"))
    until(lambda: host.says("is ok again, after it was missing for"))
    assert not host.says("exit status"), host.log


def test_what_somebody_holds_is_left_alone(host: Host) -> None:
    unit = host.declare("/srv/held")
    host.start("check_mounts.service")
    host.unmount("/srv/held")
    until(lambda: host.is_mounted("/srv/held"), 30)
    host.booted.unit("holder.service", "[Service]\nExecStart=/bin/sh -c 'cd /srv/held && exec sleep 1000'\n")
    host.booted.systemctl("stop", "check_mounts.service")
    host.unmount("/srv/held")
    host.start("holder.service")  # in the directory below
    try:
        host.start("check_mounts.service")
        until(lambda: host.says(f"{unit} is held by the process "))
        assert not host.is_mounted("/srv/held")
    finally:
        host.booted.systemctl("stop", "holder.service")


def test_what_is_not_declared_to_systemd_is_left_alone_and_all_if_so_said(host: Host, stack: Stack) -> None:
    host.declare("/srv/again")
    stack.write(
        "/etc/check_mounts.conf", _block("ini") + 'path = /srv/*\n[mount "/srv/other"]\nexpect = yes\n'
        '[mount "/srv/again"]\nexpect = yes\n',
    )  # fmt: skip
    try:
        host.start("check_mounts.service")
        until(lambda: host.says("srv-other.mount is not declared to systemd: left alone"))
        host.booted.run("touch", "/run/check_mounts-remount.off")
        host.unmount("/srv/again")
        until(lambda: host.says("left alone, because of /run/check_mounts-remount.off"))
        assert not host.is_mounted("/srv/again")
    finally:
        host.booted.run("rm", "/run/check_mounts-remount.off")
