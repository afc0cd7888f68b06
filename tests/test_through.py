"""Mounts of another mount namespace, probed through the root directory of one of its processes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from check_mounts import mounttable, selection
from check_mounts.model import Condition, Finding, Known, Mount, Reason, Seen, Survey
from check_mounts.outcome import Step
from check_mounts.probing import asking, conditions, probe, requests, stuck, survey, through
from check_mounts.probing.requests import Canary, Request
from check_mounts.system import syscalls, walk
from tests.conftest import Fuse, Mounts, until

pytestmark = pytest.mark.root


class Space:
    """A process in a mount namespace of its own, and the FUSE server there."""

    def __init__(self, mounts: Mounts, *unshare: str) -> None:
        self.base = mounts.base
        self.process = subprocess.Popen(["unshare", "-m", *unshare, "cat"], stdin=subprocess.PIPE, stdout=-1)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"here\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"here\n"
        self.root = b"/proc/%d/root" % self.process.pid
        self.fuse = Fuse(mounts, ["nsenter", "-t", str(self.process.pid), "-m"])

    def run(self, *command: object) -> None:
        subprocess.run(["nsenter", "-t", str(self.process.pid), "-m", *map(str, command)], check=True)

    def table(self) -> list[Mount]:
        """Its mounts below the directory of the test, named as another program would."""
        found = mounttable.read(f"/proc/{self.process.pid}/mountinfo")[0]
        below = [each for each in found if each.mount_point.startswith(os.fsencode(self.base))]
        return [
            each._replace(seen_at=Seen(self.root, each.mount_point), mount_point=b"it: " + each.mount_point)
            for each in below
        ]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def space(mounts: Mounts) -> Iterator[Space]:
    result = Space(mounts)
    yield result
    result.fuse.close()
    result.end()


def _take(table: Sequence[Mount], state: Path, again: Sequence[Mount] = (), **settings: Any) -> Survey:
    chosen = selection.select(list(table), selection.Filters())
    registry = stuck.Registry(str(state), slots=1024)
    how = asking.Settings(**{"timeout": 1.0, "deadline": 10.0, **settings})
    return survey.take(survey.Pass((table, []), chosen, how, registry), lambda: (again or table, []))


def _by_name(result: Survey) -> dict[str, Finding]:
    return {os.fsdecode(each.mount_point).rpartition("/")[2]: each for each in result.findings}


def test_healthy_dead_and_hung(space: Space, tmp_path: Path) -> None:
    for name in ("well", "dead", "hung"):
        space.fuse.mount(name)
    space.fuse.command("die", "dead")
    space.fuse.command("hang", "hung")
    space.run("mount", "-t", "tmpfs", "none", _directory(space, "tmp"))
    table = space.table()
    assert not os.path.ismount(space.base / "well")  # nothing is mounted there for us
    found = _by_name(_take(table, tmp_path / "state"))
    assert {name: each.condition for name, each in found.items()} == {
        "well": Condition.OK,
        "tmp": Condition.OK,
        "dead": Condition.DEAD,
        "hung": Condition.TIMED_OUT,
    }
    assert found["hung"].mount_point.startswith(b"it: /")
    assert found["hung"].stuck_pid is not None
    # The next run finds the stuck process, and starts no other one.
    again = _by_name(_take(table, tmp_path / "state"))["hung"]
    assert (again.stuck_pid, again.condition) == (found["hung"].stuck_pid, Condition.TIMED_OUT)
    space.fuse.command("answer", "hung")


def _directory(space: Space, name: str) -> Path:
    path = space.base / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_the_process_ended_before_the_look_up(space: Space, tmp_path: Path) -> None:
    space.run("mount", "-t", "tmpfs", "none", _directory(space, "tmp"))
    table = space.table()
    space.end()
    ours = [each._replace(mount_point=each.path) for each in table]  # of the namespace that is checked
    assert [(each.condition, each.detail) for each in _take(ours, tmp_path / "state").findings] == [
        (Condition.UNPROBED, conditions.Elsewhere.NO_PROCESS.value)
    ]
    result = _take(table, tmp_path / "state")
    assert [each.why for each in result.left_out] == [Reason.UNMOUNTED] and not result.findings
    gone = _take(table, tmp_path / "state", again=[table[0]._replace(mount_id=1)])
    assert [each.why for each in gone.left_out] == [Reason.UNMOUNTED] and not gone.findings


def test_the_pid_is_anothers_by_now(space: Space, mounts: Mounts, tmp_path: Path) -> None:
    """Its root directory is another one: what is found there is not asked anything."""
    space.run("mount", "-t", "tmpfs", "none", _directory(space, "tmp"))
    other = Space(mounts)
    other.fuse.mount("tmp")
    table = [each._replace(seen_at=each.seen_at and each.seen_at._replace(base=other.root)) for each in space.table()]
    result = _take(table, tmp_path / "state")
    assert [(each.condition, each.detail) for each in result.findings] == [
        (Condition.UNPROBED, conditions.Elsewhere.OTHER_MOUNT.value)
    ]
    assert other.fuse.command("asked", "tmp").split() == ["init"]
    other.fuse.close()
    other.end()


def test_a_mount_that_moves_is_found_in_the_table_of_its_namespace(space: Space, tmp_path: Path) -> None:
    first, second = _directory(space, "first"), _directory(space, "second")
    space.run("mount", "-t", "tmpfs", "none", first)
    table = space.table()
    space.run("mount", "--move", first, second)
    result = _take(table, tmp_path / "state")
    assert [each.condition for each in result.findings] == [Condition.OK]
    outcome = result.findings[0].outcome
    assert outcome is not None and outcome.moved


def test_links_and_dots_do_not_lead_out(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    link = _directory(space, "links") / "out"
    link.symlink_to("/")
    base = os.open(space.root, os.O_PATH)
    try:
        for way in (walk.open_without_symlinks, walk.open_step_by_step):
            with pytest.raises(OSError) as refused:
                way(os.fsencode(link / "etc"), probe.LOOK_UP_FLAGS, base)
            assert refused.value.errno == errno.ELOOP
            fd = way(b"/", probe.LOOK_UP_FLAGS, base)
            assert os.path.samestat(os.fstat(fd), os.fstat(base))
            os.close(fd)
        with pytest.raises(OSError) as refused:
            walk.open_step_by_step(b"/../etc", probe.LOOK_UP_FLAGS, base)
        assert refused.value.errno == errno.EXDEV
        fd = walk.open_without_symlinks(b"/../../etc", probe.LOOK_UP_FLAGS, base)
        assert os.path.samestat(os.fstat(fd), os.stat(space.root + b"/etc"))
        os.close(fd)
    finally:
        os.close(base)


def test_without_openat2(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(syscalls._there, "openat2", False)
    monkeypatch.setattr(syscalls, "_NR_OPENAT2", 100_000)
    space.fuse.mount("well")
    assert [each.condition for each in _take(space.table(), tmp_path / "state").findings] == [Condition.OK]


def test_written_and_looked_at(space: Space, tmp_path: Path) -> None:
    path = _directory(space, "tmp")
    space.run("mount", "-t", "tmpfs", "none", path)
    canary = Canary(b"here", b"well")
    settings: dict[str, Any] = {"writes": lambda mount: True, "canary": lambda mount: canary}
    table = space.table()
    (missing,) = _take(table, tmp_path / "state", **settings).findings
    assert (missing.condition, missing.detail) == (Condition.CHANGED, "wrong content: here is not there")
    space.run("sh", "-c", f"echo all is well >{path}/here")
    (written,) = _take(table, tmp_path / "state", **settings).findings
    assert written.condition is Condition.OK
    assert written.outcome is not None and written.outcome.answered(Step.REMOVE)
    assert not list(path.iterdir())  # where we see nothing mounted


def test_the_owner_is_that_of_the_hosts_ids(space: Space) -> None:
    """A FUSE mount's ``user_id`` is a number in the user namespace that mounted it."""
    known = Known(1, (0, 1), b"fuse")
    request = Request(1, b"/m", as_owner=True, owner=(0, 0), base=space.root)
    assert through.settled(request, known)._replace(place_now=None) == request
    with subprocess.Popen(["unshare", "-U", "cat"], stdin=subprocess.PIPE) as process:
        own = os.stat("/proc/self/ns/user").st_ino
        until(lambda: os.stat(f"/proc/{process.pid}/ns/user").st_ino != own)
        Path(f"/proc/{process.pid}/uid_map").write_text("0 70000 1000")
        Path(f"/proc/{process.pid}/gid_map").write_text("0 80000 1000")
        inside = request._replace(base=b"/proc/%d/root" % process.pid)
        found = through.settled(inside, known)
        assert (found.owner, found.foreign) == ((70000, 80000), True)
        assert through.settled(inside._replace(owner=(1, 5)), known).owner == (70001, 80005)
        assert through.settled(inside._replace(owner=(1000, 5)), known).owner is None
        process.kill()


def test_the_bytes_of_a_request() -> None:
    request = Request(7, b"/m\xff", as_owner=True, owner=(1, 2), base=b"/host/proc/1/root")
    for each in (request, request._replace(owner=None), request._replace(canary=Canary(b"f", b"c", True))):
        assert requests.decoded(requests.encoded(each, (3, 4), b"fuse.x", True)) == (
            each,
            Known(7, (3, 4), b"fuse.x"),
            True,
        )
