"""Ghosts that fail are counted apart from mounts, and no user can hide one, or hang who looks."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from check_mounts.daemon.episodes import Episodes
from check_mounts.ghost import Ghost
from check_mounts.judging.policy import Judged, Policy, judged
from check_mounts.model import Condition, Finding, State, Survey
from check_mounts.report import summary, table
from check_mounts.report.table import Screen
from check_mounts.using.ghosts import findings
from check_mounts.using.tables import Tables
from tests.conftest import PYTHON, Fuse, Mounts, Plugin
from tests.test_ghosts import device_of, holding, told

_KEEP = """
import ctypes, os, sys
for _ in range(int(sys.argv[1])):
    end, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        made = ctypes.CDLL(None).unshare(0x10020000)  # CLONE_NEWUSER, CLONE_NEWNS
        os.write(begin, b"x" if made == 0 else b"")
        os.read(end if made else os.pipe()[0], 1)
        os._exit(0)
    os.close(begin)
    assert os.read(end, 1)
    os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    os.close(end)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
print(flush=True)
sys.stdin.read()
"""


def with_ghosts(number: int, *more: Finding) -> Judged:
    ghosts = [Ghost("FUSE", b"", ((0, 50 + each),), 1) for each in range(number)]
    survey = Survey((*more, *findings(ghosts)), duration=0.1)
    return judged(survey, Policy({Condition.GHOST: State.CRITICAL}))


def test_a_ghost_is_no_mount_that_failed() -> None:
    """It is none of those that were checked."""
    gone = Finding(b"/home", None, Condition.MISSING, "not mounted")
    headlines = [summary.headline(each) for each in (with_ghosts(1, gone), with_ghosts(2, gone), with_ghosts(1))]
    assert headlines[:2] == ["1 of 1 mounts failed, 1 ghost", "1 of 1 mounts failed, 2 ghosts"]
    assert headlines[2] == "no mount was selected (0 mounts left out, -vvv says why), 1 ghost"
    many = summary.report(with_ghosts(7)).failures
    assert [each.words.partition(" (")[0] for each in many] == ["7 filesystems are still there, unmounted lazily"]
    assert many[0].stands_for == 7


def test_a_table_has_ghosts_apart_from_mounts() -> None:
    gone = Finding(b"/home", None, Condition.MISSING, "not mounted")
    lines = table.made(with_ghosts(2, gone), Screen(100, 0, "utf-8", False), 0)
    assert "local: 1 of 1 mount failed" in lines and "unmounted lazily: 2 of 2 ghosts failed" in lines


def test_a_daemon_logs_each_ghost_that_fails_once() -> None:
    """It is no mount, so no program is run for it."""
    episodes = Episodes()
    (news,) = episodes.follow(with_ghosts(1).judgements, 1.0)
    assert news.line.startswith("old FUSE filesystem (device 0:50) is in no mount table")
    assert (news.state, news.change) == (State.CRITICAL, None)
    assert episodes.follow(with_ghosts(1).judgements, 2.0) == []
    (news,) = episodes.follow(with_ghosts(0).judgements, 3.0)
    assert news.state is State.OK and news.line.startswith("No longer: old FUSE filesystem (device 0:50)")


@contextmanager
def kept_namespaces(number: int) -> Iterator[None]:
    """An ordinary user keeps so many mount namespaces without processes."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-I", "-c", _KEEP, str(number)]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("users may make no namespaces here")
        yield
        process.communicate(timeout=60)


@pytest.mark.root
def test_a_user_with_many_namespaces_hides_no_ghost(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    path = fuse.mount("old")
    device = device_of(path)
    with holding(path):
        mounts.detach(path)
        with kept_namespaces(300):
            assert told(plugin, device)["ghost"]["number"] == 1


_MANY = """
import os, resource, sys
limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 20_000)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
for _ in range(limit - 20):
    os.open("/", os.O_PATH)
for _ in range(200):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print(limit, flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_user_with_millions_of_descriptors_hides_no_ghost(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    """A search that looks at all of them has no time for the rest."""
    path = fuse.mount("old")
    device = device_of(path)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-I", "-c", _MANY]
    with holding(path) as pid:
        mounts.detach(path)
        with subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 10_000
            found = told(plugin, device)["ghost"]
            process.communicate(timeout=60)
    assert pid in [each["pid"] for each in found["holders"]] and not found["whole"]


def test_what_a_descriptor_has_become_is_not_opened(tmp_path: Path) -> None:
    """Its owner may put a pipe in the place of a namespace, once it was seen to be one."""
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    tables = Tables()
    looking = threading.Thread(target=tables.note_kept, args=("mnt:[1]", f"self/fd/{descriptor}"), daemon=True)
    looking.start()
    looking.join(10)
    assert not looking.is_alive()
    entering = threading.Thread(target=tables.enter_unseen, daemon=True)
    entering.start()
    entering.join(10)
    assert not entering.is_alive() and tables.unseen == 1
    os.close(descriptor)
