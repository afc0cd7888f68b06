"""--namespaces: mounts that exist only in other mount namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts import mounttable
from check_mounts.checks import one_check
from check_mounts.clocks import PAST, after
from check_mounts.model import Condition, Seen
from check_mounts.options import command_line, settled
from check_mounts.probing import servers
from check_mounts.spaces import reader, seeing
from tests import groups
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, until
from tests.daemon import Daemon, daemon
from tests.kernel import runs_alive, workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root
APART = ("unshare", "--mount", "--propagation", "private")

# With time for a look at all namespaces of a busy host.
ALL = ("--namespaces", "--deadline", "60")

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
def tree(
    count: int,
    mounts: int,
    at: Path,
    extra: int = 0,
    enter: tuple[str, ...] = (),
    program: Path = ROOT / "tests/spaces.py",
) -> Iterator[list[int]]:
    """So many namespaces, and one process in each: see spaces.py."""
    at.mkdir(parents=True, exist_ok=True)
    command = [*enter, PYTHON, "-I", str(program)]
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


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody may enter, with the FUSE server and its device."""
    path = Path(tempfile.mkdtemp(prefix="check_mounts-test-", dir="/tmp"))
    path.chmod(0o755)
    for name in ("fuse_server.py", "spaces.py"):
        shutil.copy(ROOT / "tests" / name, path / name)
    os.mknod(path / "fuse", stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    (path / "fuse").chmod(0o666)
    yield path
    shutil.rmtree(path)


NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@contextlib.contextmanager
def fuse_of_nobody(directory: Path) -> Iterator[Fuse]:
    """A FUSE server of an unprivileged user who is root in a user namespace."""
    inside = f'mount --bind {directory}/fuse /dev/fuse && exec "$@"'
    enter = (*AS_NOBODY, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh")
    server = Fuse(Mounts(directory / "mnt"), enter, directory / "fuse_server.py")
    try:
        yield server
    finally:
        server.close()


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
    result = plugin(*ALL, "-t", "1", "-vv")
    assert result.code == 2
    assert result.count("mounts") == 3
    places = [name_of(server, path) for server, path in zip((hung, dead, healthy), paths)]
    assert f"CRITICAL: {places[0]} (fuse.test fuse) timed out after 1 s" in result.line(places[0])
    assert result.line(places[1]).startswith(f"CRITICAL: {places[1]} (fuse.test fuse) dead: Transport endpoint")
    assert result.line(places[2]).startswith(f"OK: {places[2]} (fuse.test fuse) ok in ")
    again = plugin(*ALL, "-t", "1", "--json")
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
    result = plugin(*ALL, "-vv")
    assert result.count("mounts") == 2
    result.line(path)
    result.line(name_of(server, own))


def test_each_superblock_is_probed_once(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    path = server.mount("hung")
    server.command("hang", "hung")
    enter = ("nsenter", "--mount", "--target", str(pid_of(server)))
    with tree(3, 0, Path("/mnt"), enter=enter):
        result = plugin(*ALL, "-t", "0.5", "-v")
    assert (result.count("mounts"), result.count("timed_out")) == (1, 1)
    result.line(name_of(server, path))
    server.command("answer", "hung")


def test_a_container_is_named_by_its_cgroup(elsewhere: Elsewhere, plugin: Plugin) -> None:
    """The second one in the same group has its process added."""
    container = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
    group = groups.make("spaces")
    inside = group / f"docker-{container}.scope"
    inside.mkdir()
    try:
        enter = tuple(groups.entering(inside, APART))
        first, second = sorted((elsewhere(enter), elsewhere(enter)), key=pid_of)
        paths = [server.mount(name) for server, name in ((first, "a"), (second, "b"))]
        result = plugin(*ALL, "-vv")
        assert result.count("mounts") == 2
        result.line(f"docker {container[:12]}: {paths[0]}")
        result.line(f"docker {container[:12]} (pid {pid_of(second)}): {paths[1]}")
        for server in (first, second):
            server.close()
        until(lambda: groups.is_empty(group))
    finally:
        groups.remove(group)


def test_filters_are_about_the_path_there(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    paths = [server.mount(name) for name in ("a", "b")]
    result = plugin(*ALL, "-x", str(paths[0]), "-vvv")
    assert result.count("mounts") == 1
    result.line(name_of(server, paths[1]))
    assert f"left out: {name_of(server, paths[0])} (fuse.test fuse): its mount point is excluded" in result.lines
    assert plugin(*ALL, "-X", "fuse.test", "--allow-none").count("mounts") == 0
    assert plugin(*ALL, "--remote", "--allow-none").count("mounts") == 0
    assert plugin(*ALL, "-N", "fuse.*").count("mounts") == 2


def test_containers_own_mounts_are_left_out(plugin: Plugin, tmp_path: Path) -> None:
    with tree(2, 5, tmp_path / "mnt"):
        assert plugin(*ALL, "--allow-none").count("mounts") == 0


def test_a_path_that_crosses_a_hung_mount_is_not_taken(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    path = server.mount("above")
    other = elsewhere(("nsenter", "--mount", "--target", str(pid_of(server))))
    below = path / "sub"
    other.command("mount", "below", str(below), "source=below")
    server.command("hang", "above")
    result = plugin(*ALL, "-t", "0.5", "-vv")
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
    result = plugin(*ALL, "-t", "0.5", "-vv")
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
    result = plugin(*ALL, "-t", "0.5", "-vv", "-x", str(path))
    assert result.count("blocked") == 1
    assert not workers_alive()
    assert "which is not checked" in result.line(name_of(server, below))
    fuse.command("answer", "above")


def test_a_pod_like_tree_costs_what_one_table_costs(elsewhere: Elsewhere, plugin: Plugin, tmp_path: Path) -> None:
    server = elsewhere()
    path = server.mount("hung")
    server.command("hang", "hung")
    with tree(100, 50, tmp_path / "mnt/pods"):
        result = plugin(*ALL, "-t", "1", "-v")
    assert (result.count("mounts"), result.count("timed_out")) == (1, 1)
    result.line(name_of(server, path))
    assert len(workers_alive()) == 1
    server.command("answer", "hung")


def test_a_look_at_many_namespaces_is_cheap_again(tmp_path: Path) -> None:
    """A second look parses no table that has not changed."""
    with tree(100, 50, tmp_path / "mnt/pods") as pids:
        made = reader.Reader(mounttable.DEFAULT_PATH, 60)

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
    process = plugin.start(*ALL, "-t", "3", "-vvv")
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
        made = reader.Reader(mounttable.DEFAULT_PATH, 60)

        def there() -> list[str]:
            return [str(each.seen_at and each.seen_at.base) for each in made.reread()[0] if each.path == bytes(path)]

        made.read()
        made._looked = PAST  # the next look comes when it is needed
        assert there() == [str(b"/proc/%d/root" % first)]
        os.kill(first, signal.SIGKILL)
        until(lambda: seeing.first(first) is None)
        assert there() == [str(b"/proc/%d/root" % pid_of(server))]
        made._looked = PAST
        server.close()
        assert there() == []


def test_a_table_that_changes_all_the_time_costs_no_look(
    elsewhere: Elsewhere, mounts: Mounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = elsewhere()
    path = server.mount("one")
    made = reader.Reader(mounttable.DEFAULT_PATH, 60)

    def there() -> list[bytes]:
        return [each.path for each in made.reread()[0] if each.path.startswith(bytes(mounts.base))]

    made.read()
    looks: list[object] = []
    monkeypatch.setattr(seeing, "look", lambda *arguments: looks.append(arguments))
    assert there() == [bytes(path)]
    more = server.mount("two")
    assert there() == [bytes(path), bytes(more)]
    server.close()
    assert there() == []
    assert not looks


def test_a_mount_is_asked_through_another_process(elsewhere: Elsewhere, plugin: Plugin, tmp_path: Path) -> None:
    """The one that was chosen ends before it is asked."""
    words = [*ALL, "-p", f"*/{tmp_path.name}/*", "--state-dir", str(tmp_path / "state"), "-t", "2"]
    with tree(1, 0, Path("/mnt")) as (first,):
        server = elsewhere(("nsenter", "--mount", "--target", str(first)))
        path = server.mount("healthy")
        options = settled.understand(command_line.given(words))
        made = options.check.reader()
        table = made.read()
        os.kill(first, signal.SIGKILL)
        until(lambda: seeing.first(first) is None)
        survey = one_check.take(options.check, table, made.reread)
    place = f"pid {pid_of(server)} (uid 0): {path}"
    assert [(each.mount_point.decode(), each.condition) for each in survey.findings] == [(place, Condition.OK)]


def test_root_of_a_user_namespace_is_not_root(open_to_all: Path, plugin: Plugin) -> None:
    below = ("-p", f"{open_to_all}/*")
    with fuse_of_nobody(open_to_all) as server:
        path = server.mount("private", allow_other=0)
        shared = server.mount("shared")
        server.command("hang", "shared")
        place = f"pid {pid_of(server)} (uid {NOBODY}): {path}"
        result = plugin(*ALL, *below, "--allow-none", "-vvv", below=False)
        assert (result.code, result.count("mounts")) == (0, 0)
        assert f"left out: {place} (fuse.test fuse): FUSE mount of uid {NOBODY}" in result.lines
        result = plugin(*ALL, *below, "--user-mounts", "-vvv", "-t", "1", below=False)
        assert (result.code, result.count("mounts")) == (0, 1)
        assert result.line(place).startswith("OK")
        assert f", as uid {NOBODY}" in result.stdout.decode()
        assert f"{shared} (fuse.test fuse): FUSE mount of uid {NOBODY}" in result.stdout.decode()


def test_a_user_with_many_namespaces_hides_nothing(
    open_to_all: Path, elsewhere: Elsewhere, plugin: Plugin, fuse: Fuse
) -> None:
    own, server = fuse.mount("own"), elsewhere()
    path = server.mount("container")
    enter = (*AS_NOBODY, "unshare", "--user", "--map-root-user", "--mount")
    with tree(1000, 1, Path("/mnt"), enter=enter, program=open_to_all / "spaces.py"):
        result = plugin(*ALL, "-vv", "-t", "5")
    assert (result.code, result.count("mounts")) == (0, 2)
    result.line(own)
    result.line(name_of(server, path))
    # One of the processes is the one that has made the others.
    assert f"note: 951 mount namespaces of uid {NOBODY} not looked at: there are too many" in result.lines


def test_a_user_with_many_mounts_hides_nothing(
    open_to_all: Path, elsewhere: Elsewhere, plugin: Plugin, fuse: Fuse
) -> None:
    server = elsewhere()
    path = server.mount("container")
    enter = (*AS_NOBODY, "unshare", "--user", "--map-root-user", "--mount")
    with tree(1, 1, Path("/mnt"), extra=4000, enter=enter, program=open_to_all / "spaces.py") as pids:
        result = plugin(*ALL, "-vv", "-t", "5")
    assert (result.code, result.count("mounts")) == (0, 1)
    result.line(name_of(server, path))
    cut = f"pid {pids[0]} (uid {NOBODY}): only the first 1.0 MiB of its mount table were looked at"
    assert f"note: {cut}" in result.lines


def test_without_root_only_own_namespaces_are_seen(public: Path, plugin: Plugin, elsewhere: Elsewhere) -> None:
    server = elsewhere()
    server.mount("roots")
    plugin.environment["PYTHONPATH"] = str(public)
    result = plugin(*ALL, "--allow-none", "--state-dir", "/nowhere", state=False, wrapper=AS_NOBODY, cwd="/")
    assert (result.code, result.count("mounts")) == (0, 0), result.stdout
    assert "note: only root (with CAP_SYS_PTRACE) sees all mount namespaces" in result.stdout.decode()


def test_the_daemon_follows_other_namespaces(elsewhere: Elsewhere, daemon: Daemon) -> None:
    server = elsewhere()
    path = server.mount("hung")
    place = name_of(server, path)
    daemon.start("--namespaces", "--allow-none", "--metrics", str(daemon.base / "mounts.prom"))
    assert daemon.cached().verdict.startswith("MOUNTS OK - 1 mount checked")
    server.command("hang", "hung")
    daemon.until(lambda result: f": {place} (fuse.test fuse) timed out" in result.verdict)
    assert f'mountpoint="{place}"' in (daemon.base / "mounts.prom").read_text()
    server.command("answer", "hung")
    daemon.until(lambda result: result.verdict.startswith("MOUNTS OK - 1 mount checked"))
    server.command("hang", "hung")
    daemon.until(lambda result: "timed out" in result.verdict)
    late = elsewhere()
    late.mount("late")
    daemon.until(lambda result: "1 of 2 mounts failed" in result.verdict)
    server.close()
    daemon.until(lambda result: result.verdict.startswith("MOUNTS OK - 1 mount checked"))
    assert daemon.stop() == 0


def test_the_daemon_takes_the_option_from_its_configuration(elsewhere: Elsewhere, daemon: Daemon) -> None:
    elsewhere().mount("healthy")
    configuration = daemon.base / "conf"
    configuration.write_text("")
    daemon.start("--allow-none", "--config", str(configuration))
    assert "no mount was selected" in daemon.cached().verdict
    configuration.write_text("[check_mounts]\nnamespaces = yes\n")
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda result: result.verdict.startswith("MOUNTS OK - 1 mount checked"))
    configuration.write_text("")
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda result: "no mount was selected" in result.verdict)


def test_a_process_in_execve_hangs_no_look(fuse: Fuse, elsewhere: Elsewhere, plugin: Plugin) -> None:
    """It holds the lock that readers of its links wait for (exec_update_lock)."""
    path, server = fuse.mount("files"), elsewhere()
    server.mount("seen")
    script = f"import os; os.open({str(path / 'file')!r}, os.O_RDWR | os.O_CREAT); os.execv('/bin/true', ['true'])"
    fuse.command("hang-at", "files", "flush")
    enter = ["nsenter", "--mount", "--target", str(pid_of(server))]
    with subprocess.Popen([*enter, PYTHON, "-I", "-c", script.replace("O_CREAT)", "O_CREAT | os.O_CLOEXEC)")]):
        until(lambda: fuse.waiting("files"))
        result = plugin(*ALL, "-v", "-x", str(path))
        assert (result.code, result.count("mounts")) == (0, 1)
        assert result.seconds() < 3
        fuse.command("answer", "files")


def test_a_wrong_combination_is_refused(plugin: Plugin) -> None:
    result = plugin("--namespaces", "--mountinfo", "/proc/1/mountinfo")
    words = "MOUNTS UNKNOWN - argument --namespaces: does not go with --mountinfo: it is about this host's own mounts"
    assert (result.code, result.verdict) == (3, words)


def test_other_networks_are_told_apart() -> None:
    """What a server says in our network means nothing for them."""
    with tree(1, 0, Path("/mnt")) as (near,), tree(1, 0, Path("/mnt"), enter=("unshare", "--net")) as (far,):
        networks = {space.pids[0]: space.same_network for space in look()}
    assert (networks[near], networks[far]) == (True, False)
    mount = mounttable.parse_line(b"1 0 0:1 / /m rw - nfs4 filer:/x rw,addr=10.0.0.1,vers=4.2")
    assert servers.server_of(mount._replace(seen_at=Seen(b"/proc/1/root", b"/m"))) is not None
    assert servers.server_of(mount._replace(seen_at=Seen(b"/proc/1/root", b"/m", False))) is None


def test_users_whose_tables_are_dear_are_skipped(open_to_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user can use up the time for the containers of root."""
    monkeypatch.setattr(seeing, "_DEAR", 0.0)
    monkeypatch.setattr(seeing, "_MOST_OF_USER", 0.0)
    enter = (*AS_NOBODY, "unshare", "--user", "--map-root-user", "--mount")
    users = tree(20, 0, Path("/mnt"), enter=enter, program=open_to_all / "spaces.py")
    with users as theirs, tree(20, 0, Path("/mnt")) as ours:
        own = {mount.mount_id for mount in mounttable.read(mounttable.DEFAULT_PATH)[0]}
        found = seeing.look(own, after(10))
        made = reader.Reader(mounttable.DEFAULT_PATH, 60)
        made.read()
    pids = {pid for space in found.spaces for pid in space.pids}
    assert set(ours) <= pids and len(pids & set(theirs)) <= 1
    assert found.skipped == {NOBODY}
    assert f"looking at the mount tables of uid {NOBODY} takes too long: some were left out" in made.notes
