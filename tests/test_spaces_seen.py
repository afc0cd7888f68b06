"""--namespaces: through which processes other mount namespaces are seen."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from check_mounts.checks import one_check
from check_mounts.model import Condition
from check_mounts.mounttable import Table
from check_mounts.options import command_line, settled
from check_mounts.spaces import seeing
from tests.conftest import PYTHON, Mounts, Plugin, until
from tests.test_spaces import APART, Elsewhere, elsewhere, pid_of, tree

__all__ = ["elsewhere"]

pytestmark = pytest.mark.root

IN_ROOT = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print(flush=True); sys.stdin.read()"
# The first thread ends (exit, 60 on x86-64, 93 on arm64), another one goes on.
WITHOUT_FIRST_THREAD = """
import ctypes, os, sys, threading
threading.Thread(target=sys.stdin.read).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
"""


@contextmanager
def process_in(pid: int, program: str, *arguments: object) -> Iterator[int]:
    """A process in the mount namespace of another one."""
    command = ["nsenter", "--mount", "--target", str(pid), PYTHON, "-c", program, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process.pid
    finally:
        process.communicate()


def test_two_root_directories_that_begin_with_one_mount(elsewhere: Elsewhere, plugin: Plugin, mounts: Mounts) -> None:
    """A mount that is older than the root directory it was moved into is the first one of the table
    of the container, and of the process whose root directory it is."""
    server = elsewhere()
    path, old, new = server.mount("data"), mounts.point("old"), mounts.point("new")
    script = f"""
        mount -t tmpfs none {old} && mount -t tmpfs none {new} && mkdir {new}/old {new}/data || exit
        mount --bind {path} {new}/data && mount --move {old} {new}/old && echo && read line"""
    command = ["nsenter", "--mount", "--target", str(pid_of(server)), *APART, "sh", "-c", script]
    container = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert container.stdout is not None and container.stdout.readline()
    with process_in(container.pid, IN_ROOT, new / "old"), process_in(container.pid, IN_ROOT, new):
        container.communicate()
        server.command("die", "data")
        server.close()
        result = plugin("--namespaces", "-p", "/data")
    assert (result.code, ": /data (fuse.test fuse) dead: " in result.verdict) == (2, True), result.stdout


def test_a_process_whose_first_thread_has_ended(elsewhere: Elsewhere, plugin: Plugin) -> None:
    server = elsewhere()
    path = server.mount("data")
    with process_in(pid_of(server), WITHOUT_FIRST_THREAD) as pid:
        until(lambda: seeing.first(pid) is None)
        server.command("die", "data")
        server.close()
        result = plugin("--namespaces")
    assert (result.code, f": {path} (fuse.test fuse) dead: " in result.verdict) == (2, True), result.stdout


def test_what_a_mount_said_through_a_process_that_has_ended_is_asked_again(
    elsewhere: Elsewhere, plugin: Plugin, tmp_path: Path
) -> None:
    """A container ends, and a mount of the next one gets the ID and the device of its mount."""
    words = ["--namespaces", "-p", f"{plugin.base}/*", "--state-dir", str(tmp_path / "state")]
    with tree(1, 0, Path("/mnt")) as (first,):
        server = elsewhere(("nsenter", "--mount", "--target", str(first)))
        path = server.mount("data")
        server.command("error", "data", str(errno.ENOTCONN))
        check = settled.understand(command_line.given(words)).check
        made = check.reader()

        def reread() -> Table:
            if seeing.first(first) is not None:
                os.kill(first, signal.SIGKILL)
                until(lambda: seeing.first(first) is None)
                server.command("error", "data", "0")
            return made.reread()

        survey = one_check.take(check, made.read(), reread)
    place = f"pid {pid_of(server)} (uid 0): {path}"
    assert [(each.mount_point.decode(), each.condition) for each in survey.findings] == [(place, Condition.OK)]


def test_a_first_line_of_any_length(tmp_path: Path) -> None:
    """The path in it tells root directories apart, however long it is."""
    deep = tmp_path.joinpath(*("\n" * 250 for _ in range(12)))
    deep.mkdir(parents=True)
    script = 'mount --bind "$1" "$1" && echo && read line'
    command = [*APART, "sh", "-c", script, "sh", str(deep)]
    apart = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert apart.stdout is not None and apart.stdout.readline()
    with process_in(apart.pid, IN_ROOT, tmp_path) as outer, process_in(apart.pid, IN_ROOT, deep.parent) as inner:
        apart.communicate()
        one, other = seeing.first(outer), seeing.first(inner)
    assert one is not None and other is not None
    assert (one.mount_id, one.path) == (other.mount_id, 11 * (b"/" + b"\\012" * 250) + other.path)


def test_who_has_more_capabilities_is_not_looked_through(elsewhere: Elsewhere, plugin: Plugin) -> None:
    """By root in a container with the process IDs of the host, but without CAP_SYS_PTRACE."""
    lacking = ("setpriv", "--bounding-set=-sys_ptrace")
    elsewhere().mount("roots")
    path = elsewhere((*APART, *lacking)).mount("own")
    result = plugin("--namespaces", "-vv", wrapper=lacking)
    assert (result.code, result.count("mounts")) == (0, 1), result.stdout
    output = result.stdout.decode()
    assert f"{path} (fuse.test fuse) ok" in output and "those of others were not looked at" in output
