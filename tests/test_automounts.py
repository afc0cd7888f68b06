"""Mounts on autofs triggers with a timeout: they expire although they are checked. All real, with
an automounter of the tests' own; tests/lab/test_automounts.py has the real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from check_mounts.clocks import Boottime
from check_mounts.model import Mount
from check_mounts.probing import idleness
from check_mounts.probing.idleness import Counters, Entry
from tests.automounter import Trigger
from tests.conftest import Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon

root = pytest.mark.root


@pytest.fixture
def trigger(mounts: Mounts) -> Iterator[Trigger]:
    made = Trigger(mounts.mount_at, mounts.point("auto"))
    yield made
    made.close()


@pytest.fixture
def filled(trigger: Trigger, mounts: Mounts) -> Trigger:
    """One with a tmpfs on it, which has no server."""
    mounts.mount_at(trigger.path, "tmpfs")
    return trigger


def idle(result: Result) -> int:
    return result.count("idle")


def expires_while(trigger: Trigger, plugin: Plugin, *arguments: str) -> bool:
    """Whether what is on a trigger expires within twice its timeout, though it is checked again and
    again. The kernel counts in whole jiffies, and this host may be late once."""
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        plugin(*arguments)
        if trigger.expires():
            return True
    return False


@root
def test_a_mount_that_nobody_uses_expires(filled: Trigger, mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("static")
    assert plugin("-v").count("ok") == 2
    result = plugin("-v")
    assert (result.code, idle(result), result.count("ok"), result.count("mounts")) == (0, 1, 1, 2)
    assert result.verdict.startswith("MOUNTS OK - 2 mounts checked in ") and result.verdict.endswith(" s, 1 idle")
    assert " idle: not used since 20" in result.line(filled.path)
    assert expires_while(filled, plugin)


@root
def test_a_mount_that_is_looked_up_each_time_never_expires(filled: Trigger, plugin: Plugin) -> None:
    def is_kept() -> bool:
        time.sleep(1.1)  # now it would expire
        return plugin("--automounted", "probe").count("ok") == 1 and not filled.expires()

    assert any(is_kept() for _ in range(3))  # unless this host is late by a second


@root
def test_neither_names_nor_files_below_it_are_looked_up(filled: Trigger, mounts: Mounts, plugin: Plugin) -> None:
    """A declared name below it, a file to write, a canary, a page about it."""
    (filled.path / "marker").touch()
    mounts.tmpfs("static")
    below = filled.path / "link"
    arguments = ["-v", "--write", "--canary", "*=marker", "--expect", str(filled.path), "--expect", f"{below},ro"]
    plugin(*arguments)
    result = plugin(*arguments)
    assert idle(result) == 1
    assert any(str(below) in line and f"below {filled.path}, which is idle" in line for line in result.lines)
    plugin("--explain", str(filled.path), below=False)
    assert expires_while(filled, plugin, *arguments)


@root
@pytest.mark.parametrize("use", ["os.open('{}', 0)", "os.chdir('{}')"])
def test_a_mount_that_a_process_has_open_is_looked_up(filled: Trigger, plugin: Plugin, use: str) -> None:
    plugin()
    code = f"import os; {use.format(filled.path)}; print(flush=True); input()"
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(["/usr/bin/python3", "-c", code], cwd="/", **options)
    assert process.stdout is not None
    process.stdout.readline()
    until(lambda: plugin().count("ok") == 1)
    process.communicate(b"\n")
    until(lambda: idle(plugin()) == 1)


@root
def test_where_look_ups_do_not_count_mounts_are_looked_up(mounts: Mounts, plugin: Plugin) -> None:
    triggers = [Trigger(mounts.mount_at, mounts.point("never"), timeout=0)]
    triggers.append(Trigger(mounts.mount_at, mounts.point("strict"), more=",strictexpire"))
    for each in triggers:
        mounts.mount_at(each.path, "tmpfs")
    for _ in range(3):
        assert plugin().count("ok") == 2
    for each in triggers:
        each.close()


@root
def test_what_is_mounted_below_it_is_spared_too(filled: Trigger, mounts: Mounts, plugin: Plugin) -> None:
    inner = filled.path / "inner"
    inner.mkdir()
    mounts.mount_at(inner, "tmpfs")
    assert plugin().count("ok") == 2
    assert idle(plugin()) == 2


@root
def test_a_mount_that_hangs_stays_timed_out_until_it_has_answered(
    trigger: Trigger, fuse: Fuse, mounts: Mounts, plugin: Plugin
) -> None:
    fuse.mount("auto")
    assert plugin().count("ok") == 1
    assert idle(plugin()) == 1
    fuse.command("hang", "auto")
    (plugin.state_dir / "automounts").unlink()
    for _ in range(2):
        assert plugin("-t", "0.5").count("timed_out") == 1
    fuse.command("answer", "auto")
    until(lambda: plugin("-t", "0.5").count("ok") == 1)
    assert idle(plugin()) == 1


@root
def test_a_mount_that_others_hang_in_is_looked_up(trigger: Trigger, fuse: Fuse, plugin: Plugin) -> None:
    """They hold nothing of it: their look-ups hang."""
    path = fuse.mount("auto")
    plugin()
    assert idle(plugin()) == 1
    fuse.command("hang", "auto")
    process = subprocess.Popen(
        ["stat", str(path / "file")], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: plugin("-t", "1").count("timed_out") == 1)
    fuse.command("answer", "auto")
    process.wait()
    until(lambda: plugin("-t", "1").count("ok") == 1)


@root
def test_who_hangs_is_seen_within_a_minute_whatever_the_timeout(trigger: Trigger, fuse: Fuse, plugin: Plugin) -> None:
    trigger.set_timeout(86400)
    path = fuse.mount("auto")
    plugin()
    assert idle(plugin()) == 1
    memory = plugin.state_dir / "automounts"
    head, line = memory.read_text().splitlines()
    words = line.split(" ")
    words[6] = str(int(words[6]) - 61)  # when processes were looked at
    memory.write_text(f"{head}\n{' '.join(words)}\n")
    fuse.command("hang", "auto")
    command = ["stat", str(path / "file")]
    with subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: fuse.waiting("auto"))
        assert plugin("-t", "1").count("timed_out") == 1
        fuse.command("answer", "auto")
        process.wait()


def with_type(mounts: Mounts, path: Path, base: Path, fs_type: str, source: str, options: str) -> list[str]:
    """The option for a mount table in which a mount has another type: this kernel has no SMB."""
    table = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
    lines = []
    for line in table:
        head, dash, tail = line.partition(" - ")
        if f" {path} " in head and tail.startswith("tmpfs"):
            tail = f"{fs_type} {source} rw,{options}\n"
        lines.append(head + dash + tail)
    file = base / "mountinfo"
    file.write_text("".join(lines))
    return ["--mountinfo", str(file)]


@root
def test_its_server_is_asked(filled: Trigger, mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        options = f"addr=127.0.0.1,port={port}"
        table = with_type(mounts, filled.path, tmp_path, "cifs", "//filer/share", options)
        assert plugin("-v", *table).count("ok") == 1
        result = plugin("-v", *table)
        assert result.line(filled.path).endswith(f"; server 127.0.0.1 accepts connections on port {port}")
        # Without a memory, the server alone decides.
        assert idle(plugin("--state-dir", "/dev/null/x", *table, state=False)) == 1
        assert plugin("-v", *table).count("idle") == 1
    assert plugin("-v", *table).count("ok") == 1  # it was looked up, and answered


@root
def test_without_a_memory_a_mount_without_a_server_is_looked_up(filled: Trigger, plugin: Plugin) -> None:
    for _ in range(2):
        assert plugin("--state-dir", "/dev/null/x", state=False).count("ok") == 1


@root
@pytest.mark.parametrize("content", [b"", b"\xff\0" * 100_000, b"check_mounts 1 x\n1 2:3 4 1 5 6 7 8\n", None])
def test_a_memory_that_makes_no_sense(filled: Trigger, plugin: Plugin, content: Any) -> None:
    plugin()
    path = plugin.state_dir / "automounts"
    path.unlink()
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    result = plugin()
    assert (result.code, result.count("ok")) == (0, 1)
    assert idle(plugin()) == 1


@root
def test_a_memory_that_cannot_be_kept_is_none(filled: Trigger, plugin: Plugin, mounts: Mounts) -> None:
    """What lies on a full disk, or a read-only one, would be true for ever."""
    plugin()
    state = str(plugin.state_dir)
    mounts.mount_at(plugin.state_dir, "none", state, flags=4096)
    subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
    for _ in range(2):
        assert plugin().count("ok") == 1


@root
def test_what_is_declared_is_compared_with_an_idle_mount(filled: Trigger, plugin: Plugin) -> None:
    path = filled.path
    plugin()
    assert idle(plugin("--expect", f"{path},type=tmpfs")) == 1
    result = plugin("--expect", f"{path},type=ext4")
    assert (result.code, result.count("changed")) == (1, 1)
    assert plugin("--expect", f"{path}", "--expect-ro", str(path)).code == 1
    assert plugin("--severity", "idle=warning").code == 1
    assert plugin(str(path), below=False).verdict.endswith(" s, 1 idle")


@root
def test_a_wait_is_over_when_a_mount_is_idle(filled: Trigger, plugin: Plugin) -> None:
    plugin()
    result = plugin("--wait", "-t", "30")
    assert (result.code, idle(result)) == (0, 1)


@root
def test_a_caller_without_rights_spares_what_it_sees(filled: Trigger, mounts: Mounts, public: Path) -> None:
    plugin = Plugin(mounts.base, public / "state")
    plugin.environment["PYTHONPATH"] = str(public)
    for path in (*mounts.base.parents, mounts.base):
        if path.stat().st_uid == os.geteuid() and str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    plugin.state_dir.mkdir()
    os.chown(plugin.state_dir, 4711, 4711)
    as_nobody = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
    options: dict[str, Any] = {"wrapper": as_nobody, "cwd": "/"}
    assert plugin(**options).count("ok") == 1
    assert idle(plugin(**options)) == 1


@root
@pytest.mark.parametrize("remembers", [True, False])
def test_a_daemon_spares_as_well(filled: Trigger, plugin: Plugin, tmp_path: Path, remembers: bool) -> None:
    daemon = Daemon(plugin, tmp_path / "daemon", interval=0.3)
    daemon.start(*(() if remembers else ("--state-dir", "/dev/null/x")), state=remembers)
    try:
        daemon.until(lambda result: idle(result) == 1)
        end = time.monotonic() + 3
        while not filled.expires() and time.monotonic() < end:
            if remembers:  # else each run looks it up
                plugin()
        assert time.monotonic() < end, daemon.log
        assert "idle" not in daemon.log  # no news
        assert daemon.cached("--json").code == 0
    finally:
        daemon.process.terminate()
        daemon.process.communicate()


# -- pure


def mount(mount_id: int, parent: int, fs_type: str = "nfs4", options: str = "rw") -> Mount:
    point = b"/m%d" % mount_id
    return Mount(
        mount_id,
        parent,
        (0, mount_id),
        b"/",
        point,
        (),
        (),
        fs_type.encode(),
        b"f:/",
        tuple(options.encode().split(b",")),
    )


def spared(*table: Mount) -> dict[int, float]:
    return idleness.spared(table, table)


def test_which_mounts_are_spared() -> None:
    outer, inner = mount(1, 0, "autofs", "rw,timeout=300,direct"), mount(3, 2, "autofs", "timeout=60")
    assert spared(mount(9, 0)) == {}
    assert spared(outer, mount(2, 1), inner, mount(4, 3), mount(5, 4)) == {2: 300, 4: 60, 5: 60}
    strict = mount(3, 2, "autofs", "timeout=60,strictexpire")
    assert spared(outer, mount(2, 1), strict, mount(4, 3)) == {2: 300, 4: 300}
    for odd in ("timeout=0", "timeout=", "timeout=-1", "timeout=9999999999999", "timeout=x"):
        assert spared(mount(1, 0, "autofs", odd), mount(2, 1)) == {}
    assert spared(mount(1, 2, "autofs", "timeout=5"), mount(2, 1)) == {2: 5}  # a circle


@pytest.mark.parametrize(
    ("after", "used"),
    [
        ((5, 5, 5), False),
        ((5, 9, 6), False),  # the probe of another check_mounts
        ((5, 6, 6), False),  # df
        ((5, 6, 5), True),  # ls, once
        ((6, 5, 5), True),
        ((5, 500, 6), True),
        ((0, 5, 5), True),  # a new mount
        ((5, 0, 5), True),
        ((5, 5, 0), True),
    ],
)
def test_what_counts_as_a_use(after: tuple[int, int, int], used: bool) -> None:
    assert Counters(*after).is_more_than_probes(Counters(5, 5, 5)) is used


ENTRIES = strategies.dictionaries(
    strategies.tuples(*[strategies.integers(0, 1 << 31)] * 4),
    strategies.builds(
        Entry,
        strategies.booleans(),
        *[strategies.integers(0, 1000)] * 4,
        strategies.none() | strategies.builds(Counters, *[strategies.integers(0, 1 << 63)] * 3),
    ),
    max_size=5,
)


@given(ENTRIES)
def test_what_is_kept_is_what_was_known(entries: dict[idleness.Key, Entry]) -> None:
    assert idleness.decoded(idleness.encoded(entries), Boottime(1000.0)) == entries


@given(
    strategies.binary(),
    strategies.sampled_from(["", "1 0:3 5 1 1 1 1 1", "1 0:3 5 1 9 9 9 9 1", "1 0:3 5 1 1 1 1 99999"]),
)
def test_hostile_content_is_a_value(content: bytes, line: str) -> None:
    found = idleness.decoded(content + b"\n" + line.encode() + b"\n" + content, Boottime(10.0))
    assert all(max(each[1:5]) <= 11 for each in found.values())


def test_no_more_is_kept_than_fits() -> None:
    entries: dict[idleness.Key, Entry] = {
        (number, 0, number, 1): Entry(True, 0, 0, 0, number) for number in range(20_000)
    }
    left = idleness.kept(entries, [mount(1, 0)], Boottime(20_000.0))
    assert (1, 0, 1, 1) in left and (2, 0, 2, 1) not in left  # the one is mounted, the other is long gone
    assert max(left) == (19_999, 0, 19_999, 1)
    left = idleness.kept(entries, [], Boottime(0.0))
    assert len(left) == 8000
    assert len(idleness.encoded(left)) < 1 << 20
