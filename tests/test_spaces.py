"""--namespaces: mounts that exist only in other mount namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts import mounttable
from check_mounts.clocks import after
from check_mounts.spaces import reader, seeing
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, until
from tests.kernel import runs_alive, workers_alive

pytestmark = pytest.mark.root
APART = ("unshare", "--mount", "--propagation", "private")

Elsewhere = Callable[..., Fuse]


@pytest.fixture
def elsewhere(mounts: Mounts) -> Iterator[Elsewhere]:
    """FUSE servers in mount namespaces of their own."""
    made: list[Fuse] = []

    def make(enter: tuple[str, ...] = APART) -> Fuse:
        made.append(Fuse(mounts, enter))
        return made[-1]

    yield make
    for server in made:
        server.close()
    until(lambda: not workers_alive() | runs_alive())


@contextlib.contextmanager
def tree(count: int, mounts: int, at: Path, extra: int = 0, enter: tuple[str, ...] = ()) -> Iterator[list[int]]:
    """So many namespaces, and one process in each: see spaces.py."""
    at.mkdir(parents=True, exist_ok=True)
    command = [*enter, PYTHON, "-I", str(ROOT / "tests/spaces.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps({"count": count, "mounts": mounts, "at": str(at), "extra": extra}) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def pid_of(server: Fuse) -> int:
    return server._process.pid


def name_of(server: Fuse, path: Path) -> str:
    return f"pid {pid_of(server)} (uid 0): {path}"


def found(document: bytes) -> dict[str, Any]:
    return {each["mount_point"]: each for each in json.loads(document)["findings"]}


def test_hung_dead_and_healthy_mounts_of_other_namespaces(elsewhere: Elsewhere, plugin: Plugin) -> None:
    hung, dead, healthy = elsewhere(), elsewhere(), elsewhere()
    paths = [server.mount(name) for server, name in ((hung, "hung"), (dead, "dead"), (healthy, "healthy"))]
    hung.command("hang", "hung")
    dead.command("die", "dead")
    assert plugin("--allow-none").verdict.startswith("MOUNTS OK - no mount was selected")
    result = plugin("--namespaces", "-t", "1", "-vv")
    assert result.code == 2
    assert result.count("mounts") == 3
    places = [name_of(server, path) for server, path in zip((hung, dead, healthy), paths)]
    assert f"CRITICAL: {places[0]} (fuse.test fuse) timed out after 1 s" in result.line(places[0])
    assert result.line(places[1]).startswith(f"CRITICAL: {places[1]} (fuse.test fuse) dead: Transport endpoint")
    assert result.line(places[2]).startswith(f"OK: {places[2]} (fuse.test fuse) ok in ")
    again = plugin("--namespaces", "-t", "1", "--json")
    told = found(again.stdout)
    assert told[places[0]]["condition"] == "timed-out" and told[places[0]]["stuck"] is not None
    space = {"name": f"pid {pid_of(healthy)} (uid 0)", "path": str(paths[2]), "pid": pid_of(healthy)}
    assert told[places[2]]["mount"]["namespace"] == space
    assert len(workers_alive()) == 1  # the second run knew of the first one's probe
    hung.command("answer", "hung")


def test_a_superblock_that_our_table_shows_is_probed_there_only(
    elsewhere: Elsewhere, mounts: Mounts, plugin: Plugin, fuse: Fuse
) -> None:
    path = fuse.mount("shared")
    server = elsewhere()  # its namespace has a copy
    own = server.mount("own")
    result = plugin("--namespaces", "-vv")
    assert result.count("mounts") == 2
    result.line(path)
    result.line(name_of(server, own))


def test_each_superblock_is_probed_once(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    path = server.mount("hung")
    server.command("hang", "hung")
    enter = ("nsenter", "--mount", "--target", str(pid_of(server)))
    with tree(3, 0, Path("/mnt"), enter=enter):
        result = plugin("--namespaces", "-t", "0.5", "-v")
    assert (result.count("mounts"), result.count("timed_out")) == (1, 1)
    result.line(name_of(server, path))
    server.command("answer", "hung")


def test_filters_are_about_the_path_there(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    paths = [server.mount(name) for name in ("a", "b")]
    result = plugin("--namespaces", "-x", str(paths[0]), "-vvv")
    assert result.count("mounts") == 1
    result.line(name_of(server, paths[1]))
    assert f"left out: {name_of(server, paths[0])} (fuse.test fuse): its mount point is excluded" in result.lines
    assert plugin("--namespaces", "-X", "fuse.test", "--allow-none").count("mounts") == 0
    assert plugin("--namespaces", "--remote", "--allow-none").count("mounts") == 0
    assert plugin("--namespaces", "-N", "fuse.*").count("mounts") == 2


def test_containers_own_mounts_are_left_out(plugin: Plugin, tmp_path: Path) -> None:
    with tree(2, 5, tmp_path / "mnt"):
        assert plugin("--namespaces", "--allow-none").count("mounts") == 0


def test_a_path_that_crosses_a_hung_mount_is_not_taken(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    path = server.mount("above")
    other = elsewhere(("nsenter", "--mount", "--target", str(pid_of(server))))
    below = path / "sub"
    other.command("mount", "below", str(below), "source=below")
    server.command("hang", "above")
    result = plugin("--namespaces", "-t", "0.5", "-vv")
    assert (result.count("timed_out"), result.count("blocked")) == (1, 1)
    assert len(workers_alive()) == 1
    place = name_of(server, path)
    assert f"below {place}, which timed out" in result.line(name_of(server, below))
    server.command("answer", "above")


def test_a_path_that_crosses_a_hung_mount_of_our_own(elsewhere: Elsewhere, plugin: Plugin, fuse: Fuse) -> None:
    path = fuse.mount("above")
    server = elsewhere()
    below = path / "sub"
    server.command("mount", "below", str(below), "source=below")
    fuse.command("hang", "above")
    result = plugin("--namespaces", "-t", "0.5", "-vv")
    assert (result.count("timed_out"), result.count("blocked")) == (1, 1)
    assert f"below {path}, which timed out" in result.line(name_of(server, below))
    assert len(workers_alive()) == 1
    fuse.command("answer", "above")


def test_nothing_crosses_what_is_excluded(elsewhere: Elsewhere, plugin: Plugin, fuse: Fuse) -> None:
    path = fuse.mount("above")
    server = elsewhere()
    below = path / "sub"
    server.command("mount", "below", str(below), "source=below")
    fuse.command("hang", "above")
    result = plugin("--namespaces", "-t", "0.5", "-vv", "-x", str(path))
    assert result.count("blocked") == 1
    assert not workers_alive()
    assert "which is not checked" in result.line(name_of(server, below))
    fuse.command("answer", "above")


def test_a_pod_like_tree_costs_what_one_table_costs(elsewhere: Elsewhere, plugin: Plugin, tmp_path: Path) -> None:
    server = elsewhere()
    path = server.mount("hung")
    server.command("hang", "hung")
    with tree(100, 50, tmp_path / "mnt/pods"):
        result = plugin("--namespaces", "-t", "1", "-v")
    assert (result.count("mounts"), result.count("timed_out")) == (1, 1)
    result.line(name_of(server, path))
    assert len(workers_alive()) == 1
    server.command("answer", "hung")


def test_a_look_at_many_namespaces_is_cheap_again(tmp_path: Path) -> None:
    """A second look parses no table that has not changed."""
    with tree(100, 50, tmp_path / "mnt/pods") as pids:
        made = reader.Reader(mounttable.DEFAULT_PATH)

        def known() -> dict[int, int]:
            made.renew()
            made.read()
            return {each.pid: id(each) for each in made._known.values() if each.pid in pids}

        first = known()
        assert first.keys() == set(pids)
        assert known() == first
        assert {seen.pids[0] for seen in look() if seen.pids[0] in pids} == set(pids)


def look() -> tuple[seeing.Space, ...]:
    own = {mount.mount_id for mount in mounttable.read(mounttable.DEFAULT_PATH)[0]}
    return seeing.look(own, after(10)).spaces


def test_a_namespace_that_goes_away_during_a_pass_is_no_failure(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server, other = elsewhere(), elsewhere()
    server.mount("hung")
    server.command("hang", "hung")
    other.mount("healthy")
    process = plugin.start("--namespaces", "-t", "3", "-vvv")
    until(lambda: server.waiting("hung"))
    server.close()  # and with it the only process of the namespace
    output = process.communicate(timeout=60)[0].decode()
    assert output.startswith("MOUNTS OK - 1 mount checked"), output
    assert re.search(r"left out: pid \d+ \(uid 0\): .*/hung \(fuse.test fuse\): unmounted during the run", output)


def test_a_process_that_ends_is_not_the_namespace(elsewhere: Elsewhere, plugin: Plugin) -> None:
    """Another process of it is looked through."""
    with tree(1, 0, Path("/mnt")) as (first,):
        server = elsewhere(("nsenter", "--mount", "--target", str(first)))
        path = server.mount("healthy")
        made = reader.Reader(mounttable.DEFAULT_PATH)

        def there() -> list[str]:
            return [str(each.seen_at and each.seen_at.base) for each in made.reread()[0] if each.path == bytes(path)]

        made.read()
        assert there() == [str(b"/proc/%d/root" % first)]
        os.kill(first, signal.SIGKILL)
        until(lambda: seeing.first_id(first) is None)
        assert there() == [str(b"/proc/%d/root" % pid_of(server))]
        server.close()
        assert there() == []
