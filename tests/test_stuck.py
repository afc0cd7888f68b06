"""The memory of stuck probes, and a state directory that is not as it should be."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Optional

import pytest

from check_mounts import mounttable, selection
from check_mounts.checks import checking
from check_mounts.probing import asking
from check_mounts.probing.lines import RECORD_SIZE
from check_mounts.probing.stuck import Registry
from check_mounts.system import directories, workers
from check_mounts.system.processes import process_start
from tests.conftest import Fuse, Mounts, Plugin, remaining


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def _file(directory: Path, *records: bytes, boot: str = "", name: str = "run.1.1") -> Path:
    boot = (
        boot or f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    )
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / name
    path.write_bytes(
        b"".join(record.ljust(RECORD_SIZE - 1) + b"\n" for record in (f"check_mounts 1 {boot}".encode(), *records))
    )
    return path


def _record(pid: int, start: Optional[int] = None) -> bytes:
    return f"={pid} {process_start(pid) if start is None else start} 63 0:39 12.345".encode()


def test_a_shortage_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon tries again at each turn: what is left open or lying about would add up."""
    state = tmp_path / "state"
    before = os.listdir("/proc/self/fd")

    def fails(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Registry, "load", fails)
    with pytest.raises(MemoryError):
        Registry(str(state), slots=4)
    monkeypatch.undo()
    monkeypatch.setattr(select, "epoll", fails)
    with pytest.raises(MemoryError):
        workers.Pool(lambda key, content, desk: (b"", True), 1, 1.0, 1)
    options: Any = SimpleNamespace(
        state_dir=str(state), root=None, mountinfo="", settings=asking.Settings(max_workers=4)
    )
    with pytest.raises(MemoryError):
        checking.begin(options, ([], []), selection.select([], selection.Filters()))
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(state) == []


def test_a_live_process_counts(tmp_path: Path, sleeper: int) -> None:
    path = _file(tmp_path / "state", b"-5 1 1 0:1 1.0", _record(sleeper))
    registry = Registry(str(tmp_path / "state"))
    (probe,) = registry.probes
    assert (probe.pid, probe.mount_id, probe.device, probe.since) == (sleeper, 63, (0, 39), 12.345)
    assert registry.still_stuck(probe)
    assert registry.notes == []
    path.write_bytes(path.read_bytes().replace(b"\n=", b"\n-"))
    assert not registry.still_stuck(probe)
    registry.close(any_stuck=False)
    assert path.exists()


def test_who_has_ended_is_forgotten_with_its_file(tmp_path: Path, sleeper: int) -> None:
    other_start = _file(tmp_path / "state", _record(sleeper, start=1), name="run.1.1")
    other_boot = _file(tmp_path / "state", _record(sleeper), boot="another 1", name="run.2.2")
    zombie = subprocess.Popen(["true"])
    while process_start(zombie.pid) is not None:
        time.sleep(0.001)
    ended = _file(tmp_path / "state", f"={zombie.pid} 5 63 0:39 1.0".encode(), name="run.3.3")
    registry = Registry(str(tmp_path / "state"))
    zombie.wait()
    assert registry.probes == []
    assert registry.notes == []
    assert not any(path.exists() for path in (other_start, other_boot, ended))
    registry.close(any_stuck=False)


@pytest.mark.parametrize("junk", [b"=x y z", b"= 1 2", b"\xff\xfe", b"=-1 1 1 0:1 1", b"=1 1 1 0:1 nan", b"=1 1 1 1 1"])
def test_corrupt_lines_cost_themselves(tmp_path: Path, sleeper: int, junk: bytes) -> None:
    _file(tmp_path / "state", junk, _record(sleeper))
    registry = Registry(str(tmp_path / "state"))
    assert [probe.pid for probe in registry.probes] == [sleeper]
    assert registry.notes == ["the memory of stuck probes is incomplete: 'run.1.1' is corrupt"]
    registry.close(any_stuck=False)


@pytest.mark.parametrize(
    "content",
    [b"garbage", b"\0" * 500, random.Random(0).randbytes(5000), b"check_mounts 9 x".ljust(RECORD_SIZE)],
    ids=["garbage", "zeros", "random", "another version"],
)
def test_a_corrupt_file_is_mentioned_once_and_removed(tmp_path: Path, content: bytes) -> None:
    path = _file(tmp_path / "state")
    path.write_bytes(content)
    registry = Registry(str(tmp_path / "state"))
    registry.close(any_stuck=False)
    assert registry.notes == ["the memory of stuck probes is incomplete: 'run.1.1' is corrupt"]
    registry = Registry(str(tmp_path / "state"))
    registry.close(any_stuck=False)
    assert registry.notes == []


def test_what_lies_about_is_not_opened_blindly(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    os.mkfifo(directory / "run.fifo")
    (directory / "run.link").symlink_to("/dev/zero")
    (directory / "run.dir").mkdir()
    (directory / "other").write_text("x")
    registry = Registry(str(directory))
    registry.close(any_stuck=False)
    assert registry.notes == [
        "the memory of stuck probes is incomplete: 'run.dir' is not a file of ours (and 1 file more)",
        "the memory of stuck probes is incomplete: 'run.link' cannot be read (Too many levels of symbolic links)",
    ]
    assert (directory / "other").exists()


def test_a_run_that_is_just_beginning_is_not_corrupt(tmp_path: Path, sleeper: int) -> None:
    path = _file(tmp_path / "state", name=f"run.{sleeper}.{process_start(sleeper)}.1")
    for content in (b"", b"\0" * 1000):
        path.write_bytes(content)
        registry = Registry(str(tmp_path / "state"))
        registry.close(any_stuck=False)
        assert registry.notes == []
        assert path.exists()


def test_lines_of_this_run(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "state"), slots=4)
    registry.lines.enter(2, 63, (0, 39))
    (seen,) = Registry(str(tmp_path / "state")).probes
    assert (seen.pid, seen.mount_id, seen.device) == (os.getpid(), 63, (0, 39))
    registry.lines.leave(2)
    assert Registry(str(tmp_path / "state")).probes == []
    registry.lines.enter(3, 64, (0, 40))
    registry.close(any_stuck=True)
    (path,) = (tmp_path / "state").iterdir()
    assert path.stat().st_size == 5 * RECORD_SIZE
    assert len(Registry(str(tmp_path / "state")).probes) == 1


def test_of_two_runs_one_steps_back(tmp_path: Path) -> None:
    """Whatever the order in which they begin: two at the same filesystem there are never."""
    path = str(tmp_path / "state")
    first, second = _Run(path), _Run(path)
    assert first.try_to_enter((0, 39))
    assert not second.try_to_enter((0, 39))
    assert second.try_to_enter((0, 40))
    assert not first.try_to_enter((0, 40))
    first.leave()
    assert second.try_to_enter((0, 39))
    for run in (first, second):
        run.end()


class _Run:
    """A run in a process of its own, with one worker: it answers each try to enter a device."""

    def __init__(self, path: str) -> None:
        script = (
            "import sys; from check_mounts.probing.stuck import Registry\n"
            "r = Registry(sys.argv[1], slots=9); slot = 0\n"
            "print('ready', flush=True)\n"
            "for line in sys.stdin:\n"
            "    if line.strip() == 'leave':\n"
            "        [r.lines.leave(s) for s in range(slot)]; print('left', flush=True)\n"
            "    else:\n"
            "        slot += 1; print(r.lines.enter(slot - 1, slot, (0, int(line))), flush=True)\n"
            "r.close(any_stuck=False)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def try_to_enter(self, device: tuple[int, int]) -> bool:
        self._say(str(device[1]))
        return self._answer() == "True"

    def leave(self) -> None:
        self._say("leave")
        assert self._answer() == "left"

    def end(self) -> None:
        self._process.communicate()


def test_another_pid_namespace_is_left_alone(tmp_path: Path, sleeper: int) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = _file(tmp_path / "state", _record(sleeper), boot=f"{boot} 12345")
    registry = Registry(str(tmp_path / "state"))
    registry.close(any_stuck=False)
    assert (registry.probes, registry.notes) == ([], [])
    assert path.exists()


def test_the_start_of_a_process() -> None:
    assert process_start(os.getpid()) is not None
    assert process_start(2**22 + 1) is None


@pytest.mark.root
@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("ln -s /tmp {}", "it is a symbolic link"),
        ("mkdir -m 700 {0} && chown 1000 {0}", "it belongs to uid 1000"),
        ("mkdir -m 777 {}", "mode 0777 lets others write to it"),
        ("touch {}", "it is not a directory"),
        ("mkdir -m 700 {0} && mount -t tmpfs -o mode=700 none {0} && mount -o remount,ro {0}", "Read-only file system"),
        (
            "mkdir -m 700 {0} && mount -t tmpfs -o mode=700,size=8k none {0} && cp /bin/sh {0} 2>/dev/null;:",
            "No space left on device",
        ),
        (
            "mkdir -p -m 700 {0}.real/state && ln -s {0}.real {0}.link && rmdir {0} 2>/dev/null; ln -s {0}.real {0}",
            "it is a symbolic link",
        ),
        ("chmod 700 $(dirname {0}) && mount -t tmpfs none $(dirname {0}) -o ro", "Read-only file system"),
    ],
)
def test_an_unusable_directory_costs_the_memory_and_not_the_check(
    tmp_path: Path, mounts: Mounts, fuse: Fuse, plugin: Plugin, prepare: str, words: str
) -> None:
    fuse.mount("hung")
    healthy = mounts.tmpfs("healthy")
    fuse.command("hang", "hung")
    parent = tmp_path / "parent"
    parent.mkdir()
    plugin.state_dir = parent / "state"
    subprocess.run(["sh", "-c", prepare.format(plugin.state_dir)], check=True)
    mounts.adopt(parent)
    mounts.adopt(plugin.state_dir)
    result = plugin("-t", "0.3", "-vv")
    assert (result.code, result.count("timed_out"), result.count("ok")) == (2, 1, 1)
    assert result.line(healthy).startswith("OK: ")
    assert result.lines[1].startswith("note: stuck probes are not remembered: ")
    assert result.lines[1].endswith(words)


@pytest.mark.root
def test_a_state_directory_that_may_hang(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    mounts.tmpfs("healthy")
    plugin.state_dir.mkdir(mode=0o700)
    fuse.command("mount", "state", str(plugin.state_dir), "mode=700")
    mounts.adopt(plugin.state_dir)
    fuse.command("hang", "state")
    result = plugin("-v")
    assert (result.code, result.count("ok")) == (0, 1)
    assert result.lines[1].endswith("is on fuse.test, which may hang; see --state-dir")


@pytest.mark.root
def test_a_tmpfs_does_not_hang_whatever_its_source_is_called(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("healthy")
    plugin.state_dir.mkdir(mode=0o700)
    mounts.mount_at(plugin.state_dir, "tmpfs", "filer:/x", "mode=700")
    result = plugin("-v")
    assert (result.code, result.count("ok")) == (0, 1)
    assert "which may hang" not in result.stdout.decode()


def test_a_root_directory_that_may_hang() -> None:
    """A diskless host's, or that of a container: nothing runs where it hangs, so what is mounted
    below it is no worse for it."""
    lines = (
        b"20 1 0:20 / / ro - nfs4 filer:/root ro\n21 20 0:21 / /run rw - tmpfs tmpfs rw\n22 20 0:22 / /srv "
        b"rw - nfs filer:/srv rw\n"
    )
    table, _ = mounttable.parse(lines)
    visible = frozenset(mounttable.visible(table))
    assert checking.may_hang("/run/check_mounts", table, visible) is None
    assert (
        checking.may_hang("/var/lib/check_mounts", table, visible) == "/var/lib/check_mounts is on nfs4, which may hang"
    )
    assert checking.may_hang("/srv/check_mounts", table, visible) == "/srv/check_mounts is on nfs, which may hang"


@pytest.mark.root
def test_a_link_that_leads_into_a_hung_mount(tmp_path: Path, mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """The main process must not be led there by its state directory, whose text looks local."""
    hung = fuse.mount("hung", user_id=1000)
    mounts.tmpfs("healthy")
    (tmp_path / "link").symlink_to(hung)
    fuse.command("hang-lookup", "hung")
    plugin.state_dir = tmp_path / "link/sub/state"
    result = plugin("-t", "1")
    assert result.code == 0
    assert result.lines[1] == f"note: stuck probes are not remembered: {plugin.state_dir}: a symbolic link leads to it"


@pytest.mark.root
def test_a_missing_directory_is_made(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    assert plugin("-t", "0.3").lines[1:] == [""]
    assert plugin.state_dir.stat().st_mode & 0o7777 == 0o700
    assert len(list(plugin.state_dir.iterdir())) == 1


@pytest.mark.root
def test_the_memory_survives_corruption_of_another_file(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("hung")
    fuse.command("hang", "hung")
    plugin("-t", "0.3")
    (plugin.state_dir / "run.9.9").write_bytes(b"junk")
    result = plugin("-t", "0.3")
    assert "a probe has been stuck in it since" in result.verdict
    assert result.lines[1] == "note: the memory of stuck probes is incomplete: 'run.9.9' is corrupt"
    remaining(1)


def test_default_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert directories.default_directory() == "/run/check_mounts"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert directories.default_directory() == "/run/user/1000/check_mounts"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert directories.default_directory() == "/tmp/check_mounts-1000"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert directories.default_directory() == "/tmp/check_mounts-1000"
