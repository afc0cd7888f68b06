"""What is declared is probed, also what is left out by default: users' FUSE mounts and the kernel's
own filesystems."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from check_mounts import mounttable, selection
from check_mounts.selection import Filters
from tests.conftest import Fuse, Mounts, Plugin
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

USER = {"user_id": 4711, "group_id": 4711}


def _config(tmp_path: Path, words: str) -> str:
    path = tmp_path / "check_mounts.conf"
    path.write_text(words)
    path.chmod(0o644)
    return f"--config={path}"


def _fstab(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "fstab"
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"--fstab={path}"


def _ways(tmp_path: Path, path: Path) -> list[list[str]]:
    """Each way to declare it, one after the other: they share the files."""
    return [
        ["--expect", f"{path},type=fuse.test"],
        ["--expect", str(path)],
        [_fstab(tmp_path, f"cloud {path} fuse.test defaults 0 0")],
        [_fstab(tmp_path, f"cloud {path} fuse.test nofail 0 0")],
        [_config(tmp_path, f'[mount "{path}"]\nexpect = yes\n')],
    ]


@pytest.mark.root
def test_a_users_fuse_mount_that_is_declared_is_probed(tmp_path: Path, fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("cloud", **USER)
    assert "no mount was selected" in plugin().verdict
    for words in _ways(tmp_path, path):
        result = plugin(*words)
        assert (result.code, result.count("ok"), result.count("mounts")) == (0, 1, 1), words
    fuse.command("die", "cloud")
    for words in _ways(tmp_path, path):
        result = plugin(*words, "-v")
        assert (result.code, " dead: " in result.line(path)) == (2, True), words
    found = json.loads(plugin("--expect", str(path), "--json").stdout)["findings"]
    assert [(each["mount_point"], each["condition"]) for each in found] == [(str(path), "dead")]


@pytest.mark.root
@pytest.mark.parametrize("key", ["source = fuse", "type = fuse.test", "options = nosuid"])
@pytest.mark.parametrize("glob", ["cloud", "c*"])
def test_a_section_that_declares_lifts_the_default(
    tmp_path: Path, mounts: Mounts, fuse: Fuse, plugin: Plugin, key: str, glob: str
) -> None:
    path = fuse.mount("cloud", **USER)
    fuse.command("die", "cloud")
    result = plugin(_config(tmp_path, f'[mount "{mounts.base}/{glob}"]\n{key}\n'), "-v")
    assert (result.code, " dead: " in result.line(path)) == (2, True)
    result = plugin(_config(tmp_path, f'[mount "{mounts.base}/{glob}"]\ntimeout = 1\n'), "--allow-none")
    assert (result.code, result.count("mounts")) == (0, 0), "it declares nothing"


@pytest.mark.root
def test_a_declared_one_that_hangs_is_timed_out(fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("cloud", **USER)
    fuse.command("hang", "cloud")
    result = plugin("-t", "0.5", "--expect", str(path), "-v")
    assert (result.code, " timed out" in result.line(path)) == (2, True)


@pytest.mark.root
def test_what_is_excluded_stays_out_though_it_is_declared(tmp_path: Path, fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("cloud", **USER)
    fuse.command("hang", "cloud")
    for words in (
        ["-X", "fuse.test"],
        ["-x", str(path)],
        ["--exclude-source", "fuse"],
        ["-N", "ext4"],
        ["-p", "/nowhere"],
    ):
        result = plugin(
            "--expect", f"{path},type=fuse.test,source=fuse", *words, "--allow-none", below=words[0] != "-p"
        )
        assert (result.code, result.count("mounts")) == (0, 0), words
    ignored = _config(tmp_path, f'[mount "{path}"]\nexpect = yes\nignore = yes\n')
    assert plugin(ignored, "--allow-none").count("mounts") == 0
    assert fuse.waiting("cloud") == 0, "it was touched"


@pytest.mark.root
def test_others_fuse_mounts_stay_out(fuse: Fuse, plugin: Plugin) -> None:
    path, _ = fuse.mount("cloud", **USER), fuse.mount("other", **USER)
    fuse.command("hang", "other")
    assert plugin("--expect", str(path)).count("mounts") == 1
    assert fuse.waiting("other") == 0


@pytest.mark.root
def test_the_kernels_own_filesystem_is_probed_where_it_is_declared(
    tmp_path: Path, mounts: Mounts, plugin: Plugin
) -> None:
    path = mounts.mount("proc", "proc", "proc")
    assert plugin(_config(tmp_path, '[mount "*"]\noptions = nosuid\n'), "--allow-none").count("mounts") == 0, (
        "that means no /proc"
    )
    result = plugin("--expect", f"{path},type=proc", "--write")
    assert (result.code, result.count("ok")) == (0, 1), result.stdout
    assert plugin(_config(tmp_path, f'[mount "{path}"]\ntype = proc\n')).count("ok") == 1


@pytest.mark.root
def test_the_daemon_probes_it_and_takes_over_what_is_declared_anew(
    tmp_path: Path, mounts: Mounts, fuse: Fuse, daemon: Daemon
) -> None:
    mounts.tmpfs("data")
    cloud, other = fuse.mount("cloud", **USER), fuse.mount("other", **USER)
    for name in ("cloud", "other"):
        fuse.command("die", name)
    lines = [f"cloud {cloud} fuse.test defaults 0 0"]
    daemon.start(_fstab(tmp_path, *lines))
    result = daemon.until(lambda result: result.code == 2)
    assert f"1 of 2 mounts failed: {cloud} (fuse.test fuse) dead" in result.verdict
    _fstab(tmp_path, *lines, f"other {other} fuse.test defaults 0 0")
    daemon.until(lambda result: "2 of 3 mounts failed" in result.verdict)
    _fstab(tmp_path)
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda result: (result.code, result.count("mounts")) == (0, 1))


TABLE = rb"""
1 1 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:2 / /home rw - autofs systemd-1 rw,fd=5,direct
3 1 0:3 / /proc rw - proc proc rw
4 1 0:4 / /mnt/cloud rw - fuse.rclone gdrive: rw,user_id=1000,group_id=1000,allow_other
"""


def test_the_trigger_of_a_declared_automount_is_left_alone() -> None:
    chosen = selection.select(mounttable.parse(TABLE)[0], Filters(declared=lambda mount: True))
    assert [mount.mount_point for mount in chosen.selected] == [b"/", b"/proc", b"/mnt/cloud"]
    assert [(out.mount.mount_point, selection.why_left_out(out)) for out in chosen.left_out] == [
        (b"/home", "autofs trigger")
    ]
