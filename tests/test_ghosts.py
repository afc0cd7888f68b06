"""Filesystems that were unmounted lazily, and who holds them: real FUSE mounts on this host; those
of network filesystems are in tests/lab."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest

from check_mounts import backings, text
from check_mounts.ghost import Ghost, Holder
from check_mounts.judging.policy import Policy, judged
from check_mounts.model import Condition, State, Survey
from check_mounts.report import jsontext
from check_mounts.report import plugin as plugin_report
from check_mounts.report.plugin import Presentation
from check_mounts.using import clients
from check_mounts.using.ghosts import findings
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon, daemon
from tests.kernel import workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root
HOLDER = "import os, sys; {}; print(flush=True); sys.stdin.read()"


def device_of(path: Path) -> str:
    """As the mount table says it: no filesystem is asked."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return next(fields[2] for fields in lines if fields[4] == str(path))


def ghosts(plugin: Plugin, *arguments: str) -> list[dict[str, Any]]:
    """Those of FUSE that a run tells. Nobody can say here for whom they were mounted: the tests
    have no fusectl."""
    result = plugin("-N", "fuse", "--allow-none", "--user-mounts", "--json", *arguments, below=False)
    return [each for each in json.loads(result.stdout)["findings"] if each["condition"] == "ghost"]


def ghost(plugin: Plugin, device: str, *arguments: str) -> Optional[dict[str, Any]]:
    """The one on a device."""
    return next((each for each in ghosts(plugin, *arguments) if device in each["ghost"]["devices"]), None)


def told(plugin: Plugin, device: str, *arguments: str) -> dict[str, Any]:
    """The one on a device, once it is told. What other tests do meanwhile may keep a run from
    telling ghosts: a process that ends in the middle, a mount namespace without processes."""
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        found[:] = filter(None, [ghost(plugin, device, *arguments)])
        return bool(found)

    until(is_told)
    return found[0]


@contextmanager
def holding(path: Path, what: str = "pass") -> Iterator[int]:
    """A process in a directory, which does something there and then waits."""
    program = HOLDER.format(what)
    command = [PYTHON, "-I", "-c", program]
    with subprocess.Popen(command, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("what", "how"), [("file = open('file'); os.chdir('/')", "has it open"), ("pass", "stands in it")]
)
def test_a_ghost_and_who_holds_it(fuse: Fuse, mounts: Mounts, plugin: Plugin, what: str, how: str) -> None:
    path = fuse.mount("old")
    (path / "file").write_text("x")
    device = device_of(path)
    with holding(path, what) as pid:
        assert ghost(plugin, device) is None  # it is mounted
        mounts.detach(path)
        found = told(plugin, device)
        assert found["state"] == "OK" and found["mount"] is None
        assert found["ghost"]["family"] == "FUSE" and found["ghost"]["number"] == 1
        assert found["ghost"]["certain"] is False  # only a daemon has seen the mount
        (holder,) = [each for each in found["ghost"]["holders"] if each["pid"] == pid]
        assert holder["how"] == how
        assert found["text"].startswith("is still held by ") and found["text"].endswith("unmounted lazily")
    until(lambda: ghost(plugin, device) is None)


def test_what_nobody_holds_is_no_ghost(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    """The kernel frees it at once."""
    path = fuse.mount("old")
    device = device_of(path)
    mounts.detach(path)
    backing = Path("/sys/class/bdi") / device
    until(lambda: not backing.exists())
    assert ghost(plugin, device) is None


def test_a_hung_one_that_only_a_probe_of_ours_holds(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    path = fuse.mount("hung")
    device = device_of(path)
    fuse.command("hang", "hung")
    assert plugin("-t", "0.3", "--deadline", "5").code == 2
    (stuck,) = workers_alive()
    mounts.detach(path)
    found = told(plugin, device)
    assert stuck in [each["pid"] for each in found["ghost"]["holders"]]
    assert workers_alive() == {stuck}  # nothing has asked it again
    fuse.command("answer", "hung")
    until(lambda: not workers_alive())


@pytest.mark.parametrize("by", ["process", "descriptor", "bind mount"])
def test_a_mount_that_another_namespace_has_is_no_ghost(fuse: Fuse, mounts: Mounts, plugin: Plugin, by: str) -> None:
    """Even if that namespace has no process, and so no table that anybody may read."""
    path = fuse.mount("moved")
    device = device_of(path)
    kept = mounts.tmpfs("kept") / "namespace"
    kept.touch()
    with holding(path) as holder:
        with namespace(kept if by == "bind mount" else None) as process:
            descriptor = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY) if by == "descriptor" else -1
            mounts.detach(path)
            if by != "process":
                process.communicate(timeout=60)
            for _ in range(3):
                assert ghost(plugin, device) is None
            if by == "descriptor":
                os.close(descriptor)
        mounts.detach(kept)
        assert holder in [each["pid"] for each in told(plugin, device)["ghost"]["holders"]]


@contextmanager
def namespace(kept: Optional[Path] = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a mount namespace of its own, which a bind mount keeps. That is possible only
    for a namespace with a greater ID than ours has (mnt_ns_loop), and since Linux 6.18 each
    processor gives IDs from a range of its own."""
    for _ in range(100):
        command = ["unshare", "-m", "--propagation", "private", PYTHON, "-I", "-c", HOLDER.format("pass")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline()
            source = f"/proc/{process.pid}/ns/mnt"
            if (
                kept is None
                or not subprocess.run(["mount", "--bind", source, str(kept)], capture_output=True).returncode
            ):
                yield process
                if process.poll() is None:
                    process.communicate(timeout=60)
                return
            process.communicate(timeout=60)
    raise AssertionError("no namespace can be kept")


def test_the_kernels_own_files_and_detached_trees_hold_nothing(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    """Memory files, pipes, sockets, a mount that never was in a table (open_tree(2)), and a local
    filesystem that was unmounted lazily: nothing of this is a ghost, or holds one for certain."""
    local = mounts.tmpfs("local")
    what = (
        "import ctypes, socket; memory = os.memfd_create('x'); pipe = os.pipe(); socket.socketpair();"
        # open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE)
        "tree = ctypes.CDLL(None).syscall(428, -100, b'.', 1)"
    )
    with holding(fuse.mount("new"), what) as pid, holding(local):
        mounts.detach(local)
        until(lambda: ghosts(plugin) == [each for each in ghosts(plugin) if each["ghost"]["devices"]])
        path = fuse.mount("old")
        (path / "file").write_text("x")
        device = device_of(path)
        with holding(path, "file = open('file'); os.chdir('/')") as holder:
            mounts.detach(path)
            pids = [each["pid"] for each in told(plugin, device)["ghost"]["holders"]]
            assert holder in pids and pid not in pids


def test_hostile_names(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    path = fuse.mount("old")
    device = device_of(path)
    what = "open('/proc/self/comm', 'wb').write(b'\\n|\\x1b[31m\\xff')"
    with holding(path, what) as pid:
        mounts.detach(path)
        (holder,) = [each for each in told(plugin, device)["ghost"]["holders"] if each["pid"] == pid]
        assert holder["name"] == "\\012\\174\\033[31m\\377"
        lines: list[str] = []

        def is_said() -> bool:
            result = plugin("-N", "fuse", "--allow-none", "--user-mounts", "-v", below=False)
            lines[:] = [line for line in result.lines if f"pid {pid} " in line]
            return bool(lines)

        until(is_said)
        assert all(line.isprintable() for line in lines)


SERVERS = b"""NV SERVER   PORT USE HOSTNAME
v4 0a090102  801   2 filer3
v3 20010db8000000000000000000000001  801   1 filer six
"""
VOLUMES = b"""NV SERVER   PORT DEV          FSID                              FSC
v4 0a090102  801 0:52         0:0                               no
v4 0a090102  801 0:0          0:0                               no
v3 20010db8000000000000000000000001  801 0:53         1f:2                              yes
v4 0a090103  801 0:54         0:0                               no
v4 nonsense  801 0:55
v4 0a090102  801 ../..        0:0                               no
"""


def test_what_the_nfs_client_shows() -> None:
    assert clients.nfs_volumes(SERVERS, VOLUMES) == [
        ((0, 52), b"filer3"),
        ((0, 53), b"filer six"),
        ((0, 54), b"10.9.1.3"),
        ((0, 55), b"nonsense"),
    ]
    assert clients.nfs_volumes(b"", b"") == clients.nfs_volumes(b"\xff\n v4\n", b"\x00\n\n v4 1 2\n") == []


@pytest.mark.parametrize(
    "line",
    [
        rb"	1) \\filer\Share Mounts: 1 Type: NTFS DevInfo: 0x20 Attributes: 0x1006f",
        rb"	1) \\filer\Share Mounts: 2 DevInfo: 0x20 Attributes: 0x801007f",
    ],
)
def test_what_the_cifs_client_shows(line: bytes) -> None:
    data = (
        rb"""
	Shares:
	0) IPC: \\filer\IPC$ Mounts: 1 DevInfo: 0x0 Attributes: 0x0
"""
        + line
        + b"\n\tPathComponentMax: 255\n"
    )
    assert clients.smb_shares(data) == [b"//filer/Share"]
    assert clients.unlisted_shares([b"//filer/Share", b"//b/x"], [b"//FILER/share/below"]) == [b"//b/x"]


def test_backing_devices_against_tables() -> None:
    names = [
        "0:52",
        "0:53",
        "8:0",
        "7:1",
        "8:1-fuseblk",
        "cifs-3",
        "cifs-4",
        "btrfs-1",
        "zfs-2",
        "9p-1",
        "x",
        "",
        "0:x",
    ]
    mounts = [((0, 52), b"nfs4"), ((0, 60), b"cifs"), ((8, 0), b"ext4"), ((0, 61), b"btrfs")]
    found = backings.unlisted(names, mounts)
    assert found.devices == {(0, 53), (8, 1)} and found.counts == {b"cifs": 1, b"9p": 1}
    assert not backings.unlisted(["8:0", "7:1", "0:52"], mounts) and not backings.unlisted([], mounts)


def test_words() -> None:
    """Names come from servers, tables and processes."""
    many = tuple([Holder(pid, 1, 0, b"a\n|b\xff" * 3, "", "has it open") for pid in range(1, 1001)])
    hostile = b"fi\nler|\x1b[2J:/" + b"x" * 5000
    ghosts = [
        Ghost("NFS", b"filer3", ((0, 52),), 1, (Holder(812, 1, 0, b"rsync", "backup.service", "stands in it"),)),
        Ghost("NFS", b"filer3", ((0, 53), (0, 54)), 2, many, mount_points=(hostile, b"/b")),
        Ghost("FUSE", b"https://bob:secret@host/", ((0, 55),), 1, many[:1], certain=False, owner=0),
        Ghost("ceph", b"", (), 2),
        Ghost("FUSE", hostile, ((0, 56),), 1, whole=False),
    ]
    found = judged(Survey(tuple(findings(ghosts))), Policy({Condition.GHOST: State.WARNING}))
    lines = [f"{text.printable(each.finding.mount_point)} {each.words}" for each in found.judgements]
    assert lines[0] == "old filer filer3 is still held by pid 812 (backup.service), unmounted lazily"
    assert lines[1].startswith(
        "2 filesystems of old filer filer3 are still held by 1000 processes: pid 1 (a\\012\\174b"
    )
    assert " and 997 more, unmounted lazily" in lines[1]
    assert lines[2].startswith("old FUSE filesystem https://bob:***@host/ is still held by pid 1 (")
    assert lines[2].endswith(", most likely, unmounted lazily")
    kept = "in no mount table, but the kernel still has"
    assert lines[3] == f"2 old ceph filesystems are {kept} them: no process is seen that holds them"
    assert lines[4].endswith(f"is {kept} it: not all processes could be looked at")
    report = b"".join((jsontext.report(found), plugin_report.report(found, Presentation(3)).whole.encode()))
    assert b"secret" not in report and b"\x1b" not in report and len(report) < 60_000


@pytest.mark.parametrize(
    ("arguments", "state"),
    [((), "OK"), (("--severity", "ghost=warning"), "WARNING"), (("--severity", "ghost=critical"), "CRITICAL")],
)
def test_its_severity(fuse: Fuse, mounts: Mounts, plugin: Plugin, arguments: Sequence[str], state: str) -> None:
    path = fuse.mount("old")
    device = device_of(path)
    with holding(path):
        mounts.detach(path)
        assert told(plugin, device, *arguments)["state"] == state
        results: list[Result] = []

        def is_counted() -> bool:
            results.append(plugin("-N", "fuse", "--allow-none", "--user-mounts", *arguments, below=False))
            return results[-1].count("ghost") >= 1

        until(is_counted)
        assert results[-1].count("mounts") == 0


@pytest.mark.parametrize(
    "filters", [("-X", "fuse"), ("-N", "nfs,nfs4"), ("--remote",), ("-N", "fuse", "-p", "/mnt/*"), ("-N", "fuse", "/")]
)
def test_who_asks_for_other_mounts_is_told_of_none(
    fuse: Fuse, mounts: Mounts, plugin: Plugin, filters: Sequence[str]
) -> None:
    path = fuse.mount("old")
    device = device_of(path)
    with holding(path):
        mounts.detach(path)
        told(plugin, device)
        result = plugin(*filters, "--allow-none", "--user-mounts", "--json", below=False)
        found = [each for each in json.loads(result.stdout)["findings"] if each["condition"] == "ghost"]
        assert not any(device in each["ghost"]["devices"] for each in found)


def test_a_users_ghost_is_told_only_with_user_mounts(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    control = Path("/sys/fs/fuse/connections")
    mounts.mount_at(control, "fusectl")
    for name, user in (("old", 0), ("users", 4711)):
        path = fuse.mount(name, user_id=user)
        device = device_of(path)
        with holding(path):
            mounts.detach(path)
            told(plugin, device)

            def is_told(device: str = device) -> bool:
                return device.encode() in plugin("-N", "fuse", "--allow-none", "--json", below=False).stdout

            if user == 0:
                until(is_told)
            else:
                assert not any(is_told() for _ in range(3))


def of_daemon(daemon: Daemon, device: str, pid: int) -> dict[str, Any]:
    """The ghost on a device, once the daemon has told that a process holds it."""
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        told = json.loads(daemon.cached("--json").stdout)["findings"]
        found[:] = [each for each in told if each["ghost"] and device in each["ghost"]["devices"]]
        return any(holder["pid"] == pid for each in found for holder in each["ghost"]["holders"])

    until(is_told)
    return found[0]


def test_a_daemon_knows_what_a_process_holds(fuse: Fuse, mounts: Mounts, daemon: Daemon) -> None:
    """And that another one holds something else."""
    daemon.interval = 0.5
    old, local = fuse.mount("old", source="filer3:/export"), mounts.tmpfs("local")
    device = device_of(old)
    with holding(old) as pid, holding(local) as other:
        daemon.start("-N", "fuse*,tmpfs", "--severity", "ghost=warning", below=False)
        mounts.detach(local)
        mounts.detach(old)
        found = of_daemon(daemon, device, pid)
        assert found["text"].startswith(f"is still held by pid {pid} (") and "likely" not in found["text"]
        assert found["mount_point"] == "old FUSE filesystem filer3"
        assert found["ghost"]["certain"] and found["ghost"]["mount_points"] == [str(old)]
        assert [each["pid"] for each in found["ghost"]["holders"]] == [pid]
        assert other not in [each["pid"] for each in found["ghost"]["holders"]]
        assert f"it was mounted at {old}" in found["remarks"]
        assert daemon.cached().code == 1 and daemon.cached().count("ghost") >= 1
    # It is gone with the process that held it.
    until(lambda: device not in daemon.cached("--json").stdout.decode())
