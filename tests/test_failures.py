"""Filesystems that answer, but not well: dead, denied, shadowed, stale. All real."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, Plugin, remaining
from tests.kernel import shut_down

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path, mounts: Mounts, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A filesystem of the type asked for, on a loop device."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    make = {"xfs": ["mkfs.xfs", "-q"], "ext4": ["mkfs.ext4", "-q"]}[request.param]
    subprocess.run([*make, str(image)], check=True)
    path = mounts.point("disk")
    subprocess.run(["mount", "-o", "loop", "-t", request.param, str(image), str(path)], check=True)
    mounts.adopt(path)
    yield path


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_xfs_shut_down_is_dead(disk: Path, plugin: Plugin) -> None:
    assert plugin().code == 0
    shut_down(disk)
    os.statvfs(disk)  # statfs still says that all is well
    result = plugin()
    assert result.code == 2
    assert result.verdict.endswith("dead: Input/output error (EIO)")


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_ext4_shut_down_is_dead(disk: Path, plugin: Plugin) -> None:
    assert plugin().code == 0
    shut_down(disk)
    assert "lost+found" in os.listdir(disk)  # and so do stat and readdir, from the cache
    result = plugin()
    assert result.code == 2
    assert result.verdict.endswith("dead: the filesystem was shut down")


def test_dead_fuse_daemon(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    dead, healthy = fuse.mount("dead"), mounts.tmpfs("healthy")
    below = dead / "sub"
    mounts.mount_at(below, "tmpfs")
    fuse.command("die", "dead")
    result = plugin("-vv")
    assert result.verdict == (
        f"MOUNTS CRITICAL - 1 of 3 mounts failed: {dead} (fuse.test fuse) dead: Transport endpoint is not "
        f"connected (ENOTCONN)"
    )
    assert result.line(below) == f"OK: {below} (tmpfs none) blocked: below {dead}, which is dead"
    assert result.line(healthy).startswith("OK: ")
    # A look-up through the dead one would have made the kernel detach what is mounted below it.
    assert f" {below} " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_below_a_dead_disk_is_still_probed(disk: Path, mounts: Mounts, plugin: Plugin) -> None:
    (disk / "sub").mkdir()
    below = disk / "sub"
    mounts.mount_at(below, "tmpfs")
    shut_down(disk)
    result = plugin("-vv")
    assert (result.count("dead"), result.count("ok")) == (1, 1)
    assert result.line(below).startswith(f"OK: {below} (tmpfs none) ok in ")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (116, "Stale file handle (ESTALE)"),
        (5, "Input/output error (EIO)"),
        (110, "Connection timed out (ETIMEDOUT)"),
        (112, "Host is down (EHOSTDOWN)"),
        (11, "Resource temporarily unavailable (EAGAIN)"),
        (511, "errno 511"),
    ],
)
def test_what_the_server_says_is_what_is_reported(fuse: Fuse, plugin: Plugin, number: int, words: str) -> None:
    fuse.mount("fs")
    fuse.command("error", "fs", str(number))
    result = plugin()
    assert result.code == 2
    assert result.verdict.endswith(f"dead: {words}")


def test_a_call_that_is_not_offered_proves_nothing(fuse: Fuse, plugin: Plugin) -> None:
    """But others are, so it lives."""
    fuse.mount("fs", nlink=1)
    fuse.command("nostatfs", "fs")
    assert plugin().code == 0


def test_a_file_that_was_replaced_is_as_good_as_before(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """The life of /etc/resolv.conf in a container: a bind-mounted file, replaced by a rename, has
    no link any more."""
    source, target = tmp_path / "source", mounts.point("dir") / "file"
    source.write_text("")
    target.write_text("")
    mounts.mount_at(target, "none", str(source), flags=4096)
    (tmp_path / "new").write_text("")
    (tmp_path / "new").rename(source)
    assert target.stat().st_nlink == 0
    assert plugin().code == 0


def test_mode_0000_of_a_user_is_denied(mounts: Mounts, plugin: Plugin) -> None:
    example = mounts.tmpfs("example", "mode=0000,uid=1000", "filer1:/example")
    result = plugin()
    assert result.code == 1
    assert result.verdict == (
        f"MOUNTS WARNING - 1 of 1 mounts failed: {example} (tmpfs filer1:/example) denied: mode 0000 does not "
        f"allow access"
    )


@pytest.mark.parametrize("mode", ["0000", "0644", "4000", "1666"])
def test_no_execute_bit_is_denied_whoever_asks(mounts: Mounts, plugin: Plugin, mode: str) -> None:
    mounts.tmpfs("root", f"mode={mode}")
    assert f"denied: mode {mode} does not allow access" in plugin().verdict
    assert f"denied: mode {mode} does not allow access" in plugin("--as", "self").verdict


def test_the_owner_is_kept_out_though_root_gets_in(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("group", "mode=0070,uid=1000,gid=2000")
    result = plugin()
    assert result.code == 1
    assert result.verdict.endswith("denied: Permission denied (EACCES) for its owner, uid 1000")
    assert plugin("--as", "self").code == 0


def test_as_a_user(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("private", "mode=0700,uid=1000")
    assert plugin("--as", "1000").code == 0
    result = plugin("--as", "nobody")
    assert result.code == 1
    assert result.verdict.endswith("denied: Permission denied (EACCES) for uid 65534")


def test_fuse_for_its_user_alone(fuse: Fuse, plugin: Plugin) -> None:
    """Without allow_other FUSE refuses even root; with all ids of the user it does not."""
    for number in range(3):
        fuse.mount(f"private{number}", user_id=1000, group_id=1000, uid=1000, gid=1000, mode="700", allow_other=0)
    fuse.mount("shared", user_id=1000, group_id=1000, uid=1000, gid=1000, mode="700")
    result = plugin("--user-mounts", "-vvv")
    assert (result.code, result.count("ok")) == (0, 4)
    assert sum("as uid 1000" in line for line in result.lines) == 4
    denied = plugin("--user-mounts", "--as", "self")
    assert (denied.code, denied.count("denied"), denied.count("ok")) == (1, 3, 1)
    assert "denied: Permission denied (EACCES) at statx" in denied.verdict


def test_below_a_directory_that_the_owner_may_not_traverse(mounts: Mounts, plugin: Plugin) -> None:
    (mounts.point("closed")).chmod(0o700)
    inside = mounts.tmpfs("closed/inside", "mode=0700,uid=1000")
    result = plugin("-vvv")
    assert result.code == 0
    assert "as uid 1000" in result.lines[result.lines.index(result.line(inside)) + 4]


def test_shadowed(mounts: Mounts, plugin: Plugin) -> None:
    """Covered at its root, covered by a mount above it, and hanging from one that is covered."""
    stacked = mounts.tmpfs("stacked", source="under")
    mounts.mount_at(stacked, "tmpfs", "top")
    hidden = mounts.tmpfs("above/hidden", source="hidden")
    mounts.tmpfs("above/hidden/deeper", source="deeper")
    mounts.tmpfs("above", source="above")
    result = plugin("-v")
    assert (result.code, result.count("mounts"), result.count("ok"), result.count("shadowed")) == (0, 2, 2, 3)
    assert f"OK: {stacked} (tmpfs under) shadowed: another mount covers it" in result.lines
    assert f"OK: {hidden} (tmpfs hidden) shadowed: another mount covers it" in result.lines
    assert f"OK: {hidden}/deeper (tmpfs deeper) shadowed: another mount covers it" in result.lines


def test_over_mounted_after_the_table_was_read(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """The mount ID tells: what answers is not what was asked for. By this table it is there to be
    reached, so that is not well."""
    path = mounts.tmpfs("fs", "mode=0000")
    table = tmp_path / "table"
    table.write_bytes(Path("/proc/self/mountinfo").read_bytes())
    mounts.mount_at(path, "tmpfs")
    result = plugin("--mountinfo", str(table), "-v")
    assert (result.code, result.count("unprobed")) == (3, 1)
    assert result.line(path) == f"UNKNOWN: {path} (tmpfs none) its mount point leads to another mount"


def test_unmounted_after_the_table_was_read(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("fs", "mode=0000")
    table = tmp_path / "table"
    table.write_bytes(Path("/proc/self/mountinfo").read_bytes())
    mounts.detach(path)
    path.rmdir()
    result = plugin("--mountinfo", str(table), "-v")
    assert result.line(path) == f"UNKNOWN: {path} (tmpfs none) not probed: its mount point cannot be reached"


def test_a_symlink_in_the_way_is_not_followed(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    """Root must not be led into a user's hung filesystem by a directory that he replaces."""
    path = mounts.tmpfs("dir/fs")
    trap = fuse.mount("trap", user_id=1000)
    table = tmp_path / "table"
    table.write_bytes(Path("/proc/self/mountinfo").read_bytes())
    mounts.detach(path)
    path.rmdir()
    path.parent.rmdir()
    path.parent.symlink_to(trap)
    fuse.command("hang", "trap")
    result = plugin("--mountinfo", str(table), "-v", "-t", "1")
    assert (result.code, result.count("unprobed")) == (3, 1)
    remaining(0)


def test_mount_points_that_are_files(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    source = tmp_path / "hosts"
    source.write_text("")
    source.chmod(0o000)
    target = mounts.point("dir") / "file"
    target.write_text("")
    mounts.mount_at(target, "none", str(source), flags=4096)
    result = plugin("-vvv")
    assert (result.code, result.count("ok")) == (0, 1)
    assert not any("read:" in line for line in result.lines)


def _autofs(mounts: Mounts) -> tuple[Path, int]:
    read, write = os.pipe()
    path = mounts.mount("auto", "autofs", "map", f"fd={write},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct")
    os.close(write)
    return path, read


def test_autofs_is_not_triggered(mounts: Mounts, plugin: Plugin) -> None:
    path, requests = _autofs(mounts)
    mounts.tmpfs("healthy")
    result = plugin("-vvv")
    assert (result.code, result.count("mounts")) == (0, 1)
    assert f"left out: {path} (autofs map): autofs trigger" in result.lines
    assert plugin(str(path), below=False).verdict == (
        f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} missing: only its autofs trigger is mounted"
    )
    assert select.select([requests], [], [], 0)[0] == []
    os.close(requests)


def test_autofs_is_triggered_on_demand(mounts: Mounts, plugin: Plugin) -> None:
    _, requests = _autofs(mounts)
    result = plugin("--autofs", "probe", "-t", "0.5")
    assert select.select([requests], [], [], 0)[0] == [requests]
    assert result.count("timed_out") == 1  # its daemon does not answer
    os.close(requests)
    remaining(0)


def test_a_mount_over_the_root_directory(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """An absolute path starts below what is mounted over `/`, so it is `/` that is probed and the
    other that is shadowed."""
    script = 'mount --make-rprivate / && mount -t tmpfs over / && exec "$0" "$@"'
    wrapper = ["unshare", "-m", "sh", "-c", script]
    result = plugin("-v", "-p", "/", wrapper=wrapper, below=False)
    assert (result.code, result.count("ok"), result.count("shadowed")) == (0, 1, 1), result.stdout
    assert result.line("/") == "OK: / (tmpfs over) shadowed: another mount covers it"
