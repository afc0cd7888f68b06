"""Which processes use a mount: real processes that hang in an unkillable FUSE mount, or hold it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from check_mounts import mounttable
from check_mounts.using import grouping, look
from check_mounts.using.model import How, Users, Wanted
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, until
from tests.victims import CERTAIN, PROBABLE

pytestmark = pytest.mark.root
PAIRS = ("2:1001", "2:1002", "1:1003")


class Victims:
    """The processes of victims.py."""

    def __init__(self, at: Path, elsewhere: Path, bystanders: int, pairs: Sequence[str]) -> None:
        for directory in (at, elsewhere):
            for name in ("read", "write", "open", "mapped"):
                (directory / name).write_bytes(b"x" * 8192)
                (directory / name).chmod(0o666)
        command = [PYTHON, "-I", str(ROOT / "tests/victims.py"), str(at), str(elsewhere), str(bystanders), *pairs]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pids: dict[str, set[int]] = {way: set(pids) for way, pids in json.loads(self._line()).items()}

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert json.loads(self._line()) == word

    def of(self, *ways: str) -> set[int]:
        return {pid for way in ways for pid in self.pids[way]}

    def close(self) -> None:
        self.say("end")
        self._process.communicate(timeout=30)


@contextlib.contextmanager
def victims(
    fuse: Fuse, at: Path, elsewhere: Path, bystanders: int = 0, pairs: Sequence[str] = PAIRS
) -> Iterator[Victims]:
    made = Victims(at, elsewhere, bystanders, pairs)
    try:
        yield made
    finally:
        fuse.command("answer", at.name)
        made.close()


def wanted(*points: Path, hang: bool = True) -> Wanted:
    names = [bytes(point) for point in points]
    mounts = tuple(mount for mount in mounttable.read("/proc/self/mountinfo")[0] if mount.mount_point in names)
    return Wanted(mounts, frozenset(mount.device for mount in mounts) if hang else frozenset())


def by(users: Users, *hows: How) -> set[int]:
    return {each.pid for each in (*users.processes, *users.probable) if each.how in hows}


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts where other users get in."""
    with tempfile.TemporaryDirectory(prefix="check_mounts-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        result = Mounts(Path(directory))
        yield result
        result.close()


@pytest.fixture
def shared(fuse: Fuse) -> Path:
    """A FUSE mount for all users."""
    return fuse.mount("shared", allow_other=1, mode="777", file_mode="666")


def test_who_hangs_in_a_fuse_mount_is_found_and_no_bystander(fuse: Fuse, shared: Path, mounts: Mounts) -> None:
    elsewhere = mounts.tmpfs("elsewhere", "mode=777")
    with victims(fuse, shared, elsewhere, bystanders=200) as found:
        fuse.command("hang", "shared")
        found.say("go")
        until(lambda: fuse.waiting("shared") >= 4)
        waiting = found.of(*CERTAIN, *PROBABLE)
        until(lambda: by(look.take(wanted(shared), 20), How.WAITS, How.PROBABLY) >= waiting)
        users = look.take(wanted(shared), 20)
        assert users.incomplete == ()
        assert by(users, How.WAITS) == found.of(*CERTAIN)
        assert by(users, How.PROBABLY) == found.of(*PROBABLE)
        assert by(users, How.OPEN, How.STANDS) == found.of("open", "stands")
        assert not by(users, *How) & found.of("bystander")
        assert {each.uid for each in users.processes} == {1001, 1002, 1003}
        words = grouping.waiting_words(users)
        assert words.startswith("15 processes of 3 users wait: v read x5"), words
        assert "15 more probably: v cwd x5" in words
