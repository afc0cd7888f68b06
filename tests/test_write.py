"""Writing where reading works: what it finds, what it leaves behind (nothing), and what it does not
follow.

A full quota is a case of the zoo (tests/lab): kernels of test machines often come without quota.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts import mounttable
from check_mounts.model import Mount
from check_mounts.outcome import Step
from check_mounts.probing import frames, requests, stuck, writeprobe
from check_mounts.system import processes
from tests.conftest import Fuse, Mounts, Plugin, remaining, until
from tests.kernel import state, workers_alive

pytestmark = pytest.mark.root

_OWNER = 1000


@pytest.fixture
def xfs(tmp_path: Path, mounts: Mounts) -> Iterator[Path]:
    image, path = tmp_path / "image", mounts.point("xfs")
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", "-t", "xfs", str(image), str(path)], check=True)
    os.chown(path, _OWNER, _OWNER)
    yield path
    subprocess.run(["fsfreeze", "-u", str(path)], stderr=subprocess.DEVNULL, check=False)
    remaining(0)
    subprocess.run(["umount", str(path)], check=True)


def _names(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith(writeprobe.PREFIX))


def _promises(plugin: Plugin) -> list[str]:
    return sorted(name for name in os.listdir(plugin.state_dir) if name.startswith("write."))


def test_each_filesystem_is_written_to_once_and_nothing_is_left(mounts: Mounts, plugin: Plugin) -> None:
    tmpfs = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    mounts.bind(tmpfs, "bind")
    result = plugin("--write", "-vvv")
    assert result.code == 0
    assert [line.split(":")[0] for line in result.lines if line.startswith("  ")].count("  create") == 1
    assert f", as uid {_OWNER}" in next(line for line in result.lines if line.startswith("  read"))
    assert (_names(tmpfs), _promises(plugin)) == ([], [])


def test_without_the_option_nothing_is_written(mounts: Mounts, plugin: Plugin) -> None:
    tmpfs = mounts.tmpfs("tmpfs")
    before = tmpfs.stat().st_mtime_ns
    assert not any(line.startswith("  create") for line in plugin("-vvv").lines)
    assert tmpfs.stat().st_mtime_ns == before
    assert any(line.startswith("  create") for line in plugin("-vvv", "--write").lines)
    assert tmpfs.stat().st_mtime_ns > before


def test_what_is_mounted_read_only_is_not_written_to(mounts: Mounts, plugin: Plugin) -> None:
    mounts.mount("ro", "tmpfs", flags=1)
    result = plugin("--write", "-vvv")
    assert result.code == 0
    assert not any(line.startswith("  create") for line in result.lines)


def test_a_full_filesystem(mounts: Mounts, plugin: Plugin) -> None:
    full = mounts.tmpfs("full", "size=64k")
    with pytest.raises(OSError, match="No space left"), (full / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    result = plugin("--write", "-v")
    assert result.code == 2
    assert result.line(full).endswith(" full: No space left on device (ENOSPC) at write")
    assert result.count("full") == 1
    assert (_names(full), _promises(plugin)) == ([], [])
    assert plugin("-v").code == 0


def test_the_owner_may_not_write(mounts: Mounts, plugin: Plugin) -> None:
    closed = mounts.tmpfs("closed", f"uid={_OWNER},mode=0555")
    result = plugin("--write", "-v")
    assert result.line(closed).endswith(f" denied: Permission denied (EACCES) at create for its owner, uid {_OWNER}")
    assert _promises(plugin) == []


def test_a_frozen_filesystem_reads_and_does_not_write(xfs: Path, plugin: Plugin) -> None:
    subprocess.run(["fsfreeze", "-f", str(xfs)], check=True)
    assert plugin("-t", "0.5").code == 0
    result = plugin("-t", "0.5", "--write", "-vvv")
    assert result.code == 2
    assert " timed out after 0.5 s at create" in result.line(xfs)
    assert "  create: no answer" in result.lines
    (worker,) = remaining(1)
    for _ in range(3):
        again = plugin("-t", "0.5", "--write", "-v")
        assert " timed out: a write has been stuck in it since " in again.line(xfs)
        assert f"(pid {worker})" in again.line(xfs)
    assert plugin("-t", "0.5").code == 0  # reading is as good as ever
    assert remaining(1) == {worker}
    subprocess.run(["fsfreeze", "-u", str(xfs)], check=True)
    remaining(0)
    assert plugin("--write").code == 0
    assert (_names(xfs), _promises(plugin)) == ([], [])


def test_a_write_that_fails_on_a_fuse_server(fuse: Fuse, plugin: Plugin) -> None:
    """What was measured by reading is not lost."""
    path = fuse.mount("fuse")
    fuse.command("fail", "fuse", "create", "5")
    result = plugin("--write", "-v")
    assert result.code == 2
    assert " dead: " in result.line(path)
    assert " at create" in result.line(path)
    assert _promises(plugin) == []


class Killed:
    """A write probe in a process of its own, which is killed when it comes to a step."""

    def __init__(
        self,
        path: Path,
        state: Path,
        step: Step,
        token: Optional[bytes] = None,
        unlink: Optional[Callable[[str], None]] = None,
    ) -> None:
        """``unlink`` is called with each name that is removed from the mount, before it is."""
        mounts = mounttable.parse(Path("/proc/self/mountinfo").read_bytes())[0]
        self.mount: Mount = next(mount for mount in mounts if mount.mount_point == os.fsencode(path))
        self.state, self.step, self.token, self.unlink = state, step, token, unlink

    def run(self) -> int:
        """The wait status."""
        registry = stuck.Registry(str(self.state), slots=1)
        pid = os.fork()
        if pid == 0:
            if self.token is not None:
                fixed = self.token
                os.urandom = lambda size: (fixed * size)[:size]
            if self.unlink is not None:
                os.unlink = self._unlinked  # type: ignore[assignment]
            request = requests.Request(self.mount.mount_id, self.mount.mount_point, as_owner=True)
            frame = writeprobe.answer(request, self.mount.device, registry.promises, self._note, os.getppid())[0]
            os._exit(frames.unpack_answer(frame).errno or 0)
        status = os.waitpid(pid, 0)[1]
        registry.close(any_stuck=False)
        return status

    def _unlinked(self, path: str, *, dir_fd: Optional[int] = None, original: Callable[..., None] = os.unlink) -> None:
        if self.unlink is not None and dir_fd is not None:
            self.unlink(path)
        original(path, dir_fd=dir_fd)

    def _note(self, progress: bytes) -> None:
        if progress[0] == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", [Step.CREATE, Step.WRITE, Step.VERIFY, Step.REMOVE])
def test_killed_in_the_middle_leaves_nothing_after_the_next_run(mounts: Mounts, plugin: Plugin, step: Step) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    (path / f"{writeprobe.PREFIX}{'0' * 32}").touch()  # looks like ours, and is not
    assert Killed(path, plugin.state_dir, step).run() == signal.SIGKILL
    assert len(_names(path)) == (1 if step is Step.CREATE else 2)
    assert len(_promises(plugin)) == 1
    result = plugin("--write")
    assert result.code == 0
    assert _names(path) == [f"{writeprobe.PREFIX}{'0' * 32}"]
    assert _promises(plugin) == []


@pytest.mark.parametrize("step", [Step.CREATE, Step.WRITE, Step.VERIFY, Step.REMOVE])
def test_however_often_it_is_killed_one_file_and_one_name_are_left(mounts: Mounts, plugin: Plugin, step: Step) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    for _ in range(6):
        assert Killed(path, plugin.state_dir, step).run() == signal.SIGKILL
        assert len(_promises(plugin)) == 1
        assert len(_names(path)) <= 1
    assert plugin("--write").code == 0
    assert (_names(path), _promises(plugin)) == ([], [])


def _leave(path: Path, plugin: Plugin, count: int) -> list[str]:
    """As workers did that are gone: the names of their files."""
    plugin.state_dir.mkdir(mode=0o700, exist_ok=True)
    seen = path.stat()
    device = f"{os.major(seen.st_dev)}:{os.minor(seen.st_dev)}"
    tokens = [f"{number:032x}" for number in range(count)]
    for token in tokens:
        (path / (writeprobe.PREFIX + token)).touch()
        (plugin.state_dir / f"write.{token}.{device}:{seen.st_ino}.4194305.1").touch()  # no pid is as large
    return [writeprobe.PREFIX + token for token in tokens]


def test_what_has_piled_up_goes_step_by_step(mounts: Mounts, plugin: Plugin) -> None:
    """Each removal takes its time, and the probe is killed for it again and again: there is less
    each time all the same."""
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    _leave(path, plugin, 7)
    left = []
    for _ in range(7):
        assert Killed(path, plugin.state_dir, Step.CREATE, unlink=lambda name: time.sleep(0.06)).run() == signal.SIGKILL
        left.append(len(_promises(plugin)))
    assert left == [6, 5, 4, 3, 2, 1, 1]
    assert _names(path) == []


def test_what_has_piled_up_goes_at_once_where_that_is_quick(
    mounts: Mounts, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writeprobe, "_TIDYING", 10.0)
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    _leave(path, plugin, 300)
    assert os.waitstatus_to_exitcode(Killed(path, plugin.state_dir, Step.READ).run()) == 0
    assert (_names(path), _promises(plugin)) == ([], [])


def test_a_removal_that_hangs_is_told_and_leaves_what_was_there(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    names = _leave(path, plugin, 1)
    for _ in range(3):
        assert (
            Killed(path, plugin.state_dir, Step.REMOVE).run() == signal.SIGKILL
        )  # that is what it says before it tries
        assert _names(path) == names
        assert len(_promises(plugin)) == 1


def test_what_cannot_be_removed_is_not_all_remembered(mounts: Mounts, plugin: Plugin) -> None:
    """Not by this owner, maybe by the next; but nobody can make the memory grow with that."""
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    names = _leave(path, plugin, 9)

    def refuse(name: str) -> None:
        if name in names:
            raise PermissionError(1, "Operation not permitted")

    for _ in range(3):
        assert (
            os.waitstatus_to_exitcode(Killed(path, plugin.state_dir, Step.READ, unlink=refuse).run()) == 1
        )  # and no more are made
        assert len(_promises(plugin)) == writeprobe._UNREMOVABLE
    assert _names(path) == names
    assert plugin("--write").code == 0
    assert _promises(plugin) == []
    assert _names(path) == names[writeprobe._UNREMOVABLE :]


def test_a_directory_that_only_takes_is_not_filled(fuse: Fuse, mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    image, appended = tmp_path / "image", mounts.point("appended")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(appended)], check=True)
    mounts.adopt(appended)
    subprocess.run(["chattr", "+a", str(appended)], check=True)
    refusing = fuse.mount("refusing")
    fuse.command("fail", "refusing", "unlink", "13")
    for _ in range(writeprobe._UNREMOVABLE + 3):
        result = plugin("--write", "-v")
        assert result.line(appended).endswith(" denied: Operation not permitted (EPERM) at remove for its owner, uid 0")
        assert result.line(refusing).endswith(" denied: Permission denied (EACCES) at remove for its owner, uid 0")
    assert len(_names(appended)) == writeprobe._UNREMOVABLE
    assert fuse.command("asked", "refusing").split().count("create") == writeprobe._UNREMOVABLE
    subprocess.run(["chattr", "-a", str(appended)], check=True)
    fuse.command("fail", "refusing", "unlink", "0")
    assert plugin("--write").code == 0
    assert (_names(appended), _promises(plugin)) == ([], [])


def test_a_leftover_replaced_by_a_directory_is_none_of_ours(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    (name,) = _leave(path, plugin, 1)
    (path / name).unlink()
    (path / name).mkdir()
    assert plugin("--write").code == 0
    assert _names(path) == [name]
    assert _promises(plugin) == []


def test_a_file_that_is_not_made_is_not_remembered(mounts: Mounts, plugin: Plugin) -> None:
    """It cannot act as the owner: that is our inability, and says nothing about him."""
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    process = plugin.start("--write", "-v", wrapper=["setpriv", "--bounding-set=-setuid", "--"])
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    assert f"OK: {path} (tmpfs none) ok in " in output
    assert "\n  not written: refused, and this process cannot act as the owner\n" in output
    assert _promises(plugin) == []


def test_what_was_left_where_nothing_is_mounted_is_forgotten_some_day(mounts: Mounts, plugin: Plugin) -> None:
    """And nothing else: not for what is mounted and was not asked, not by those who are there, and
    not before its time."""
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    _leave(path, plugin, 1)
    (mounted,) = _promises(plugin)
    start = processes.process_start(os.getpid())
    gone, alive, fresh, odd = (
        f"write.{number * 32}.{rest}"
        for number, rest in zip(
            "abcd",
            ("1048575:7:1.4194305.1", f"1048575:7:1.{os.getpid()}.{start}", "1048575:7:1.4194305.1", "1:::1.1.1"),
        )
    )
    old = time.time() - 3 * 86400
    for name in (gone, alive, fresh, odd):
        (plugin.state_dir / name).touch()
    for name in (mounted, gone, alive, odd):
        os.utime(plugin.state_dir / name, (old, old))
    assert plugin().code == 0
    assert _promises(plugin) == sorted((mounted, alive, fresh, odd))


def test_leftovers_of_one_directory_are_not_forgotten_in_another(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("a")
    below = path / "below"
    below.mkdir()
    bind = mounts.bind(below, "b")
    assert Killed(bind, plugin.state_dir, Step.WRITE).run() == signal.SIGKILL
    assert plugin("--write", "-x", str(bind)).code == 0
    assert len(_names(bind)) == len(_promises(plugin)) == 1
    assert plugin("--write", "-x", str(path)).code == 0
    assert _names(bind) == _promises(plugin) == []


def test_a_symlink_under_the_name_is_not_followed(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    target = tmp_path / "target"
    link = path / (writeprobe.PREFIX + "61" * 16)
    link.symlink_to(target)
    plugin.state_dir.mkdir(mode=0o700)
    status = Killed(path, plugin.state_dir, Step.REMOVE, token=b"a").run()
    assert os.waitstatus_to_exitcode(status) == 17  # EEXIST
    assert link.is_symlink()
    assert not target.exists()
    assert _promises(plugin) == []


def test_a_leftover_replaced_by_a_symlink_costs_the_symlink(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("tmpfs", f"uid={_OWNER},mode=0700")
    assert Killed(path, plugin.state_dir, Step.WRITE).run() == signal.SIGKILL
    (name,) = _names(path)
    target = tmp_path / "target"
    target.write_text("precious")
    (path / name).unlink()
    (path / name).symlink_to(target)
    assert plugin("--write").code == 0
    assert _names(path) == []
    assert target.read_text() == "precious"


def test_what_is_read_back_is_compared(mounts: Mounts, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mounts.tmpfs("tmpfs")
    plugin.state_dir.mkdir(mode=0o700)
    monkeypatch.setattr(os, "pread", lambda file, size, offset: bytes(size))
    assert os.waitstatus_to_exitcode(Killed(path, plugin.state_dir, Step.READ).run()) == 74  # EBADMSG
    assert _names(path) == []


def test_without_a_memory_nothing_is_written(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("tmpfs")
    plugin.state_dir.mkdir(mode=0o777)
    plugin.state_dir.chmod(0o777)
    result = plugin("--write", "-vvv")
    assert result.code == 0
    why = "without a state directory, no run could remove the file of a killed worker"
    assert f"note: nothing is written to {path}: {why}" in result.lines
    assert not any(line.startswith("  create") for line in result.lines)


def test_killed_run_leaves_nothing_after_the_next(xfs: Path, plugin: Plugin) -> None:
    subprocess.run(["fsfreeze", "-f", str(xfs)], check=True)
    process = plugin.start("-t", "30", "--write")
    until(lambda: plugin.state_dir.exists() and _promises(plugin))
    until(lambda: "D" in map(state, workers_alive()))  # at the create, which comes after the promise
    process.kill()
    process.communicate()
    assert workers_alive()
    subprocess.run(["fsfreeze", "-u", str(xfs)], check=True)
    remaining(0)
    assert plugin("--write").code == 0
    assert (_names(xfs), _promises(plugin)) == ([], [])


def test_a_bind_mounted_file_does_not_take_the_place_of_its_filesystem(mounts: Mounts, plugin: Plugin) -> None:
    source = mounts.tmpfs("z", "mode=0555,uid=1000")
    (source / "file").touch()
    mounts.point("")
    (mounts.base / "file").touch()
    subprocess.run(["mount", "--bind", str(source / "file"), str(mounts.base / "file")], check=True)
    mounts.adopt(mounts.base / "file")
    table = plugin.base.parent / "table"
    lines = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
    table.write_text("".join(sorted(lines, key=lambda line: f" {source} " in line)))  # the file first
    result = plugin("--write", "-v", "--mountinfo", str(table))
    assert result.line(source).endswith(f" denied: Permission denied (EACCES) at create for its owner, uid {_OWNER}")


def test_a_memory_that_is_full_is_not_the_mounts_fault(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("tmpfs")
    state = tmp_path / "state-fs"
    state.mkdir()
    mounts.mount_at(state, "tmpfs", options="nr_inodes=2,mode=0700")
    result = plugin("--write", "-v", "--state-dir", str(state), state=False)
    assert result.code == 0
    assert any(
        line.startswith(f"note: nothing is written to {path}: the file could not be remembered: No space")
        for line in result.lines
    )


def test_runs_at_the_same_time_agree_on_a_write_that_hangs(xfs: Path, plugin: Plugin) -> None:
    subprocess.run(["fsfreeze", "-f", str(xfs)], check=True)
    runs = [plugin.start("-t", "1", "--write") for _ in range(3)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [2, 2, 2], outputs
    remaining(1)
