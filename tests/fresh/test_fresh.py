"""The fresh Debian itself: what tests of packages and of documents rely on."""

from __future__ import annotations

import pytest

from tests.conftest import until
from tests.fresh import DIRECTORY, fresh_root

pytestmark = [pytest.mark.root, pytest.mark.packages]


def test_it_is_fresh_each_time_and_nothing_is_seen_outside() -> None:
    with fresh_root() as root:
        before = root.tree()
        assert {"/etc/passwd", "/usr/bin/python3"} < before
        assert "/usr/bin/check_mounts" not in before
        root.write("/srv/x", "x")
        assert root.run(["cat", "/srv/x"]).stdout == "x"
        assert root.tree() - before == {"/srv/x"}
        assert root.run(["id", "-u"]).stdout == "0\n"
        assert root.processes() == ["sleep"]
        assert not (DIRECTORY / "root/srv/x").exists()
    with fresh_root() as root:
        assert root.tree() == before


def test_packages_are_installed_without_a_network() -> None:
    with fresh_root() as root:
        root.offline()
        root.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "python3-nagiosplugin"])
        root.run(["python3", "-c", "import nagiosplugin"])
        assert root.run(["cat", "/proc/net/route"]).stdout.count("\n") == 1


def test_a_mount_hangs_there_and_systemd_is_pid_1() -> None:
    with fresh_root(boot=True) as root:
        assert root.run(["cat", "/proc/1/comm"]).stdout == "systemd\n"
        server = root.hung("/srv/hung")
        unit = "[Service]\nExecStart=/usr/bin/stat /srv/hung\n"
        root.write("/etc/systemd/system/stuck.service", unit)
        root.run(["systemctl", "daemon-reload"])
        root.run(["systemctl", "start", "stuck"])
        until(lambda: server.waiting("/srv/hung") == 1)
        assert "stat" in root.processes()
        assert {"/srv", "/srv/hung"} & root.tree() == {"/srv"}
