"""The straight line of the probe and its general code: the same calls, and the same answers."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from pathlib import Path
from typing import Optional

import pytest

from check_mounts import mounttable
from check_mounts.model import Mount
from check_mounts.outcome import Outcome, Step
from check_mounts.probing import frames, probe, requests
from check_mounts.probing.requests import Call, Made, Request
from check_mounts.probing.straight import Straight, calls
from check_mounts.system import syscalls
from check_mounts.system.desks import PROGRESS_SIZE
from tests.conftest import Fuse, Mounts, until

pytestmark = pytest.mark.root
TAKEN = ("statfs", "getattr", "opendir", "readdir", "lookup")


def _mount_at(path: Path) -> Mount:
    mounts = mounttable.parse(Path("/proc/self/mountinfo").read_bytes())[0]
    return next(mount for mount in reversed(mounts) if mount.mount_point == os.fsencode(path))


def _calls() -> syscalls.Swift:
    made = calls()
    assert made is not None
    return made


def _straight(mount_id: int, path: bytes, as_owner: bool = True) -> tuple[Outcome, Optional[Made]]:
    """The outcome of the straight line, and what it had made where the general code went on."""
    straight = Straight(_calls(), memoryview(bytearray(PROGRESS_SIZE)), lambda: None, os.getppid())
    before = len(os.listdir("/proc/self/fd")) + 1  # the file in fdinfo stays open
    answer = straight.probe(mount_id, path, as_owner)
    made = None if isinstance(answer, bytes) else Made(dict(answer.results), dict(answer.seconds))
    if not isinstance(answer, bytes):
        request = Request(mount_id, path, as_owner)
        answer = probe.answer(request, lambda progress: None, os.getppid(), answer)[0]
    after = len(os.listdir("/proc/self/fd"))
    assert after <= before
    for fd in straight._fdinfo.values():
        os.close(fd)
    return frames.unpack_answer(answer), made


def _general(mount_id: int, path: bytes, as_owner: bool = True) -> Outcome:
    return frames.unpack_answer(probe.answer(Request(mount_id, path, as_owner), lambda progress: None, os.getppid())[0])


def _timeless(outcome: Outcome) -> object:
    taken = [seconds is not None for seconds in outcome.seconds]
    return (
        (outcome.step, outcome.errno, taken, outcome.mode, outcome.uid, outcome.gid, outcome.nlink, outcome.acted_as),
        (outcome.usage, outcome.errnos, outcome.cached, outcome.alone, outcome.not_owner, outcome.gone, outcome.moved),
    )


PECULIARITIES = [
    [],
    *[[f"fail {operation} {number}"] for operation in ("statfs", "getattr", "opendir", "readdir")
      for number in (errno.EIO, errno.EACCES, errno.ESTALE, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)],
    ["nostatfs"],
    [f"refuse-noatime {errno.EPERM}"],
    [f"refuse-noatime {errno.EIO}"],
    [f"fail getattr {errno.EACCES}", f"fail opendir {errno.EACCES}"],
    [f"fail statfs {errno.EPERM}", f"fail readdir {errno.EIO}"],
    ["attr uid=1000 gid=1000"],
    ["attr uid=1000 gid=1000", f"fail opendir {errno.EACCES}"],
    ["attr uid=1000 gid=1000", f"fail readdir {errno.EIO}"],
    ["attr uid=1000 gid=1000", "refuse-noatime 1"],
    ["attr uid=4294967295 gid=1"],
    ["attr nlink=0"],
    ["attr mode=0"],
    ["statfs blocks=18446744073709551615 bfree=9223372036854775808 frsize=4096"],
    ["entries"],
    ["die"],
]  # fmt: skip


@pytest.mark.parametrize("said", PECULIARITIES, ids=" ".join)
@pytest.mark.parametrize("as_owner", [True, False])
def test_the_same_calls_and_the_same_outcome(fuse: Fuse, said: list[str], as_owner: bool) -> None:
    found = []
    for name, way in (("one", lambda *given: _straight(*given)[0]), ("other", _general)):
        path = fuse.mount(name, allow_other="1")
        for words in said:
            command, *rest = words.split()
            fuse.command(command, name, *rest)
        mount = _mount_at(path)
        before = len(fuse.command("asked", name).split()) if "die" not in said else 0
        outcome = way(mount.mount_id, mount.mount_point, as_owner)
        assert outcome.mount_id == mount.mount_id
        asked = [each for each in fuse.command("asked", name).split() if each in TAKEN] if "die" not in said else []
        found.append((_timeless(outcome), asked))
    assert found[0] == found[1]
    assert before >= 0


def test_what_is_unusual_is_not_asked_again(fuse: Fuse) -> None:
    mount = _mount_at(fuse.mount("fs", allow_other="1"))
    outcome, made = _straight(mount.mount_id, mount.mount_point)
    assert made is None and outcome.step is None
    fuse.command("fail", "fs", "readdir", str(errno.EIO))
    outcome, made = _straight(mount.mount_id, mount.mount_point)
    assert made is not None and list(made.results) == list(Call) and list(made.seconds) == list(Step)[:4]
    assert (outcome.step, outcome.errno) == (Step.READ, errno.EIO)


def test_another_owner_is_straight_too(mounts: Mounts) -> None:
    path = mounts.tmpfs("fs")
    os.chmod(path, 0o700)
    os.chown(path, 1234, 4321)
    mount = _mount_at(path)
    before = os.getresuid(), os.getresgid()
    outcome, made = _straight(mount.mount_id, mount.mount_point)
    assert made is None and outcome.acted_as == outcome.uid == 1234 and outcome.answered(Step.READ)
    os.chmod(path, 0o000)
    refused, made = _straight(mount.mount_id, mount.mount_point)
    assert made is not None and (refused.step, refused.errno, refused.acted_as) == (Step.READ, errno.EACCES, 1234)
    assert before == (os.getresuid(), os.getresgid())


def test_paths_that_lead_elsewhere(mounts: Mounts) -> None:
    mount = _mount_at(mounts.tmpfs("fs"))
    (mounts.base / "link").symlink_to("fs")
    origin = mounts.tmpfs("origin") / "file"
    origin.write_text("x")
    (mounts.base / "file").touch()
    mounts.mount_at(mounts.base / "file", "none", str(origin), flags=4096)
    file = _mount_at(mounts.base / "file")
    below = os.fsencode(mounts.base)
    for mount_id, path in (
        (mount.mount_id, below + b"/fs"),
        (mount.mount_id, below + b"/fs/"),
        (mount.mount_id, below + b"/link"),
        (mount.mount_id, below + b"/link/."),
        (mount.mount_id, below + b"/nothing"),
        (mount.mount_id, below + b"/file/nothing"),
        (mount.mount_id, below + b"/" + b"x" * 300),
        (mount.mount_id, below),
        (mount.mount_id + 10, below + b"/fs"),
        (file.mount_id, file.mount_point),
    ):
        for as_owner in (True, False):
            outcome, general = _straight(mount_id, path, as_owner)[0], _general(mount_id, path, as_owner)
            assert (_timeless(outcome), outcome.mount_id) == (_timeless(general), general.mount_id), path


@pytest.mark.parametrize("fails", ["", "opendir", "readdir"])
def test_fuse_of_root(fuse: Fuse, fails: str) -> None:
    """The kernel may keep its listing, which is not asked for then."""
    mount = _mount_at(fuse.mount("fs"))
    if fails:
        fuse.command("fail", "fs", fails, str(errno.EACCES))
    request = Request(mount.mount_id, mount.mount_point, True, owner=(0, 0), keeps_listings=True)
    straight = Straight(_calls(), memoryview(bytearray(PROGRESS_SIZE)), lambda: None, os.getppid())
    answer = straight.probe(mount.mount_id, mount.mount_point, False, True)
    asked = fuse.command("asked", "fs").split()
    if not isinstance(answer, bytes):
        answer = probe.answer(request, lambda progress: None, os.getppid(), answer)[0]
    general = probe.answer(request, lambda progress: None, os.getppid())[0]
    assert asked.count("readdir") == (fails != "opendir")
    outcome, other = frames.unpack_answer(answer), frames.unpack_answer(general)
    assert _timeless(outcome) == _timeless(other)
    for fd in straight._fdinfo.values():
        os.close(fd)


def test_the_mount_id_is_that_of_the_descriptor_of_now(mounts: Mounts) -> None:
    straight = Straight(_calls(), memoryview(bytearray(PROGRESS_SIZE)), lambda: None, os.getppid())
    for each in [_mount_at(mounts.tmpfs(f"fs{number}")) for number in range(5)]:
        fd = os.open(each.mount_point, os.O_PATH)
        assert straight._is_on(fd, each.mount_id)
        assert not straight._is_on(fd, each.mount_id + 1)
        assert not straight._is_on(fd, each.mount_id // 10)
        os.close(fd)
        assert not straight._is_on(fd, each.mount_id)
    assert len(straight._fdinfo) == 1
    for fd in straight._fdinfo.values():
        os.close(fd)


def test_without_openat2_the_path_is_walked(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = _mount_at(mounts.tmpfs("fs"))
    monkeypatch.setattr(syscalls, "_NR_OPENAT2", 9999)
    monkeypatch.setattr(syscalls, "_there", {})
    outcome, made = _straight(mount.mount_id, mount.mount_point)
    assert made is not None and not made.results
    assert outcome.step is None and outcome.mount_id == mount.mount_id and outcome.answered(Step.READ)


@pytest.mark.parametrize(
    ("operation", "step"),
    [("statfs", Step.STATFS), ("getattr", Step.STATX), ("opendir", Step.READ), ("readdir", Step.READ)],
)
def test_the_progress_says_where_it_hangs(fuse: Fuse, operation: str, step: Step) -> None:
    mount = _mount_at(fuse.mount("fs", allow_other="1"))
    fuse.command("hang-at", "fs", operation)
    memory = mmap.mmap(-1, PROGRESS_SIZE)
    arrived = mmap.mmap(-1, 1)

    def arrive() -> None:
        arrived[0] = 1

    pid = os.fork()
    if pid == 0:
        try:
            Straight(_calls(), memoryview(memory), arrive, os.getppid()).probe(mount.mount_id, mount.mount_point, True)
        finally:
            os._exit(0)
    until(lambda: fuse.waiting("fs"))
    outcome = frames.unpack_progress(memory[:])
    os.kill(pid, signal.SIGKILL)
    fuse.command("answer", "fs")
    os.waitpid(pid, 0)
    assert outcome.step is step and arrived[0]
    assert [seconds is not None for seconds in outcome.seconds] == [number < step for number in range(1, 9)]
    assert not any(outcome.errnos)


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        Request(7, b"/m"),
        Request(2**31 - 1, b"/" + b"x" * 4094, as_owner=True),
        Request(7, b"/m", True, (1000, 100), None, True, True, False, False),
        Request(7, b"/m", False, None, (0, 0), False, False, True, True),
        Request(7, b"/m", True, (2**32 - 2, 0), (1, 2**32 - 2)),
    ],
)
def test_a_request_travels(request_: Request, writes: bool) -> None:
    payload = requests.encoded(request_, (2**31 - 1, 5), b"fuse.x", writes)
    assert requests.decoded(payload) == (request_, (request_.mount_id, (2**31 - 1, 5), b"fuse.x"), writes)
    ordinary = requests.ordinary((7, (1, 2), b"nfs4"), b"/m", True)
    assert requests.decoded(ordinary) == (Request(7, b"/m", as_owner=True), (7, (1, 2), b"nfs4"), False)
    assert ordinary == requests.encoded(Request(7, b"/m", as_owner=True), (1, 2), b"nfs4")
