"""A filter of system calls (seccomp) that does not know a call is not the filesystem's errno. Real
filters; the numbers are x86-64's."""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest

from check_mounts.system import syscalls
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")]

CALLS = {
    "statx": 332, "openat2": 437, "close_range": 436, "pidfd_open": 434, "prlimit64": 302, "sched_getaffinity": 204,
    "prctl": 157,
    "capget": 125, "capset": 126, "fadvise64": 221, "memfd_create": 319, "mlockall": 151, "fsync": 74, "setsid": 112,
    "setpgid": 109,
}  # fmt: skip

# Has the calls with these numbers answered with an errno, from here on and for all children, and
# becomes the program that follows.
WRAPPER = """
import ctypes, os, struct, sys
number, calls, command = int(sys.argv[1]), [int(call) for call in sys.argv[2].split(",")], sys.argv[3:]
def instruction(code, jump_true, jump_false, value):
    return struct.pack("=HBBI", code, jump_true, jump_false, value)
program = instruction(0x20, 0, 0, 0)  # load the number of the call
for call in calls:
    program += instruction(0x15, 0, 1, call) + instruction(0x06, 0, 0, 0x00050000 | number)  # SECCOMP_RET_ERRNO
program += instruction(0x06, 0, 0, 0x7FFF0000)  # SECCOMP_RET_ALLOW
buffer = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
given = Program(len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.addressof(given), 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
os.execvp(command[0], command)
"""


def _without(number: int, *calls: str) -> list[str]:
    return [PYTHON, "-c", WRAPPER, str(number), ",".join(str(CALLS[call]) for call in calls)]


@pytest.mark.parametrize(
    ("number", "call"),
    [*itertools.product((errno.EPERM, errno.ENOSYS), CALLS), (errno.EACCES, "statx"), (errno.EACCES, "openat2")],
)
def test_without_a_call_the_verdicts_are_the_same(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, number: int, call: str
) -> None:
    mounts.tmpfs("private", "mode=0700,uid=1000")
    mounts.tmpfs("roots")
    closed = mounts.tmpfs("closed", "mode=0070,uid=1000")
    dead = fuse.mount("dead")
    fuse.command("die", "dead")
    fuse.mount("users", user_id=1000, group_id=1000, uid=1000, gid=1000, mode="700", allow_other=0)
    result = Result(plugin.start("--user-mounts", "--write", "-v", wrapper=_without(number, call)))
    assert (result.code, result.count("ok"), result.count("dead"), result.count("denied")) == (2, 3, 1, 1), (
        result.stdout,
        result.stderr,
    )
    assert result.line(dead).endswith(" dead: Transport endpoint is not connected (ENOTCONN)")
    assert result.line(closed).endswith(" denied: Permission denied (EACCES) for its owner, uid 1000")
    assert not result.stderr


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_without_any_of_them(mounts: Mounts, fuse: Fuse, plugin: Plugin, number: int) -> None:
    mounts.tmpfs("private", "mode=0700,uid=1000")
    hung = fuse.mount("hung")
    fuse.command("freeze", "hung")
    result = Result(plugin.start("-t", "1", wrapper=_without(number, *CALLS)))
    assert (result.code, result.count("ok"), result.count("timed_out")) == (2, 1, 1), (result.stdout, result.stderr)
    assert f"{hung} (fuse.test fuse) timed out after 1 s" in result.verdict


def test_unprivileged_callers_are_filtered_as_well(mounts: Mounts, public: Path) -> None:
    path = public / "mount"
    path.mkdir()
    mounts.mount_at(path, "tmpfs", options="mode=0755")
    command = [
        "setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", *_without(errno.EPERM, *CALLS), PYTHON, "-m",
        "check_mounts", str(path)
    ]  # fmt: skip
    # Without a watcher, whose memory is refused, it keeps its directory; that is not to stay in
    # /tmp.
    runtime = public / "runtime"
    runtime.mkdir()
    os.chown(runtime, 1001, 1001)
    environment = {"PYTHONPATH": str(public), "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(runtime)}
    process = subprocess.run(command, cwd=public, env=environment, stdout=subprocess.PIPE, check=False)
    mounts.detach(path)
    assert process.returncode == 0, process.stdout


def test_an_errno_of_the_filesystem_is_no_filter(fuse: Fuse, plugin: Plugin) -> None:
    """EPERM of a server is EPERM, and no reason to believe the kernel's cache from then on."""
    fuse.mount("a")
    fuse.command("fail", "a", "getattr", str(errno.EPERM))
    result = plugin()
    assert result.code == 0  # its root directory can be listed
    fuse.command("fail", "a", "opendir", str(errno.EPERM))
    assert plugin().verdict.endswith("denied: Operation not permitted (EPERM) at statx")


def test_a_filesystem_on_the_way_does_not_lead_us_over_links(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    """EPERM of a look-up in it is not taken for a kernel without openat2, which would follow
    them."""
    path = fuse.mount("above")
    below = path / "sub"
    mounts.mount_at(below, "tmpfs")
    fuse.command("fail", "above", "lookup", str(errno.EPERM))
    log = plugin.base.parent / "strace"
    plugin("-v", wrapper=["strace", "-f", "-qq", "-o", str(log), "-e", "trace=open,openat,openat2"])
    named = [line for line in log.read_text().splitlines() if f'"{below}"' in line]
    assert named and all("openat2(" in line for line in named)


def test_it_is_asked_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(*_: object) -> None:
        asked.append(1)
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(syscalls, "_raw_statx", refused)
    monkeypatch.setattr(syscalls, "_there", {})
    for _ in range(5):
        with pytest.raises(syscalls.NoSuchCall):
            syscalls.statx(0, syscalls.Statx())
    assert len(asked) == 2  # of what was to be looked at, and of a pipe


def test_a_daemon_starts_without_any_of_them(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("private", "mode=0700,uid=1000")
    status = tmp_path / "run" / "status"
    status.parent.mkdir(mode=0o755)
    process = plugin.start(
        "--daemon", "--foreground", "--interval", "1", "--cache", str(status), wrapper=_without(errno.EPERM, *CALLS)
    )  # fmt: skip
    try:
        until(lambda: status.exists() or process.poll() is not None, 30)
        assert process.poll() is None, process.communicate()
        result = plugin("--cached", "--cache", str(status), below=False, state=False)
        assert re.match(r"MOUNTS OK - 1 mount checked", result.verdict), result.stdout
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
