"""Names of devices that users choose are looked up by nobody: below /dev no other mount is entered,
what is no device is not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts.naming.devices import Devices
from tests.conftest import Fuse, Mounts, Plugin, Result, in_time
from tests.daemon import Daemon, daemon
from tests.kernel import workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root

ALICE = {"uid": 4711, "user_id": 4711, "group_id": 4711}


@pytest.fixture
def silent(mounts: Mounts, fuse: Fuse) -> Iterator[Path]:
    """alice's silent filesystem below /dev/shm."""
    shm = Path("/dev/shm")
    mounts.mount_at(shm, "tmpfs")
    point = shm / "alice" / "m"
    point.mkdir(parents=True)
    fuse.command("mount", "silent", str(point), "uid=4711", "user_id=4711", "group_id=4711")
    mounts.adopt(point)
    (shm / "alice" / "link").symlink_to("m/x")
    fuse.command("hang", "silent")
    yield point
    assert fuse.waiting("silent") == 0, "it was touched"
    fuse.command("answer", "silent")


def _in_time(plugin: Plugin, *arguments: str) -> Result:
    return in_time(4, lambda: plugin("-t", "1", "--deadline", "3", *arguments, "-v"))


@pytest.mark.parametrize(
    "source", ["/dev/shm/alice/m/x", "/dev/shm/alice/link", "/dev/shm/alice/m", "/dev//shm/../shm/alice/m/x"]
)
@pytest.mark.parametrize(
    "declared", ["/dev/sdz9", "UUID=0-0", "/dev/null", "/dev/shm/alice/m/x", "/dev/shm/alice/link"]
)
def test_a_source_that_leads_into_a_silent_mount(
    tmp_path: Path, silent: Path, fuse: Fuse, plugin: Plugin, source: str, declared: str
) -> None:
    home = fuse.mount("home", **ALICE, source=source)
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{declared} {home} ext4 defaults 0 2\n")
    result = _in_time(plugin, f"--fstab={fstab}")
    assert result.code == 1, result.stdout
    assert "type is fuse.test, expected ext4" in result.line(home)
    assert not workers_alive()


def test_a_mounted_device_whose_name_is_below_it(silent: Path, mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("data", source=f"{silent}/x")
    result = _in_time(plugin, "--expect", f"{path},source=/dev/null")
    assert result.code == 1 and " changed: source is " in result.line(path)


def test_the_daemon(tmp_path: Path, silent: Path, fuse: Fuse, daemon: Daemon) -> None:
    home = fuse.mount("home", **ALICE, source=f"{silent}/x")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"/dev/null {home} ext4 defaults 0 2\n")
    daemon.start(f"--fstab={fstab}")
    result = daemon.until(lambda result: result.code == 1)
    assert "type is fuse.test" in result.verdict
    daemon.until_checked(2)
    assert not workers_alive()


def test_nothing_that_is_mounted_below_is_entered(tmp_path: Path, fuse: Fuse, mounts: Mounts) -> None:
    point = fuse.mount("dev/m")
    (mounts.base / "dev/link").symlink_to("m/x")
    (mounts.base / "dev/here").symlink_to("there")
    (mounts.base / "dev/there").touch()
    fuse.command("hang", "dev/m")
    devices = Devices(str(point.parent))
    assert devices.resolve(b"/dev/here") == b"/dev/there"
    for name in (b"/dev/m", b"/dev/m/x", b"/dev/link", b"/dev/m/../m/x"):
        assert devices.resolve(name) is None, name
        assert devices.number(name) is None, name
        assert not devices.is_named_in(name, b"/dev/there", (8, 1)), name
    assert devices.is_named_in(b"/dev", b"/dev/there", (0, 0))
    assert fuse.waiting("dev/m") == 0
