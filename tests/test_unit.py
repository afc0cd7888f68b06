"""The unit for systemd, by systemd's own judgement, and what the program needs of what the unit
leaves it.

There is no systemd here that could start it. But the filter and the capabilities are the kernel's:
what the program calls is counted, and it is run with no more capabilities than the unit has."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from check_mounts import cache
from check_mounts.options import option_table
from check_mounts.system import directories
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until

UNIT = ROOT / "nrpe/check_mounts.service"
# exec_needs_mount_namespace() in src/core/execute.c of systemd 252 to 259, what implies one of
# these, and what maps users away.
NAMESPACES = {
    "BindLogSockets", "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories",
    "ExtensionImages",
    "IPCNamespacePath", "InaccessiblePaths", "JoinsNamespaceOf", "LogNamespace", "MountAPIVFS", "MountFlags",
    "MountImages",
    "NetworkNamespacePath", "NoExecPaths", "PrivateBPF", "PrivateDevices", "PrivateIPC", "PrivateMounts",
    "PrivateNetwork",
    "PrivatePIDs", "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectControlGroups", "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths",
    "RootDirectory", "RootImage", "TemporaryFileSystem", "UserNamespacePath",
    # names of old versions
    "InaccessibleDirectories", "ReadOnlyDirectories", "ReadWriteDirectories",
}  # fmt: skip

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")


def _directives() -> list[tuple[str, str]]:
    """(name, value) of each, in their order."""
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#;["]
    assert not any(line.endswith("\\") for line in lines)
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def _value(name: str) -> str:
    (value,) = (value for each, value in _directives() if each == name)
    return value


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_PAGER": "cat", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, env=environment)


@needs_systemd
def test_systemd_understands_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/check_mounts", "/bin/true"))
    result = _analyze("verify", "--man=no", str(copy))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@needs_systemd
def test_the_figure_in_the_comment(tmp_path: Path) -> None:
    stated = re.search(r"^# systemd-analyze security \(systemd (\d+)\): ([\d.]+) (\w+)", UNIT.read_text(), re.M)
    assert stated
    version = _analyze("--version").stdout.split()[1]
    if version != stated[1]:
        pytest.skip(f"the figure is that of systemd {stated[1]}, this is {version}")
    result = _analyze("security", "--offline=true", "--no-pager", str(UNIT))
    assert f"exposure level for check_mounts.service: {stated[2]} {stated[3]}" in result.stdout
    said = UNIT.read_text().partition("[Unit]")[0]
    table = json.loads(_analyze("security", "--offline=true", "--json=short", str(UNIT)).stdout)
    exposed = [each["name"] for each in table if each["exposure"] is not None and float(each["exposure"]) > 0]
    assert len(exposed) > 10
    assert [name for name in exposed if f"{name.partition('=')[0]}=" not in said] == []


def test_it_stays_in_the_mount_namespace_of_the_host() -> None:
    assert {name for name, _ in _directives()} & NAMESPACES == set()
    assert ":" not in _value("RuntimeDirectory")  # NAME::ro would be a mount


def test_stopping_takes_five_seconds_at_the_most() -> None:
    assert 0 < int(_value("TimeoutStopSec")) <= 5
    assert _value("KillMode") == "process"
    assert not {"SendSIGKILL", "FinalKillSignal", "TimeoutSec", "ExecStop", "ExecStopPost"} & {
        name for name, _ in _directives()
    }


def test_it_starts_though_remote_mounts_hang() -> None:
    words = " ".join(
        value for name, value in _directives() if name in ("After", "Wants", "Requires", "BindsTo", "RequiresMountsFor")
    )
    assert words == "local-fs.target"


def test_paths_and_names() -> None:
    program, *options = _value("ExecStart").split()
    assert program == "/usr/local/bin/check_mounts"  # what `make install` replaces
    assert options == ["--daemon", "--foreground"]
    check, reload = (value.split() for name, value in _directives() if name == "ExecReload")
    assert check == [program, "--check-config", *options]  # the very same, and first
    assert os.access(reload[0], os.X_OK)
    assert reload[1:] == ["-HUP", "$MAINPID"]
    runtime = f"/run/{_value('RuntimeDirectory')}"
    assert os.path.dirname(cache.DEFAULT_PATH) == runtime
    if os.geteuid() == 0:
        assert directories.default_directory() == runtime
    assert option_table.DEFAULT_CONFIG in UNIT.read_text()
    for page in re.findall(r"man:(\S+)\((\d)\)", _value("Documentation")):
        assert (ROOT / "man" / ".".join(page)).is_file()
    assert max(map(len, UNIT.read_text().splitlines())) <= 140


def test_room_for_the_workers(plugin: Plugin) -> None:
    text = " ".join(plugin("--help-all", below=False, state=False).stdout.decode().split())
    workers = re.search(r"--max-workers N at most this many processes at the same time \(default: (\d+)\)", text)
    assert workers
    assert int(_value("TasksMax")) >= 4 * int(workers[1]) + 1024
    assert int(_value("LimitNOFILE")) >= 2 * 4 * int(workers[1])


def _set(name: str) -> set[str]:
    """The system calls of one of systemd's sets, or the one of that name."""
    if not name.startswith("@"):
        return {name}
    lines = _analyze("syscall-filter", "--no-pager", name).stdout.splitlines()[1:]
    words = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return set().union(*map(_set, words))


def _allowed() -> set[str]:
    """What SystemCallFilter leaves: the first line makes it a list of what is allowed, ``~`` takes
    away from it (systemd.exec(5))."""
    allowed = _set("@default")
    lines = [value for name, value in _directives() if name == "SystemCallFilter"]
    assert not lines[0].startswith("~")
    for line in lines:
        names = set().union(*map(_set, line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _counted(log: Path) -> set[str]:
    """The names in the table of strace -c."""
    return {line.split()[-1] for line in log.read_text().splitlines() if re.match(r" *\d+\.\d+ ", line)} - {"total"}


_ASK = """
import socket
from check_mounts.probing import examination, servers as _servers
listening = socket.create_server(("127.0.0.1", 0))
hosts = [("127.0.0.1", listening.getsockname()[1]), ("127.0.0.1", 1), ("::1", 1), ("fe80::1%lo", 1)]
servers = [_servers.Server(host, port, "nfs", 4) for host, port in hosts]
assert len(examination.examine(servers, 0.3)) == 4
"""


# What it takes to submit results: a program that is run (here one that is no send_nsca), a
# connection to nobody, a pipe.
_SUBMIT = """
import os, sys, time
from check_mounts import model, passive
from check_mounts.passive import delivery
from check_mounts.report import parts
from check_mounts.passive import destinations
os.mkfifo(sys.argv[1])
reader = os.open(sys.argv[1], os.O_RDWR)
client = passive.Settings(client="/bin/true")
password = passive.Settings(user="u", password="p", verify=False)
pipe = f"command-file:{sys.argv[1]}"
words = [("nsca:127.0.0.1:1", client), ("icinga2:https://localhost:1", password), (pipe, passive.Settings())]
result = passive.Result("h", "s", parts.Report(model.State.OK, "x"), time.time(), None, "h")
submission = delivery.Submission([destinations.destination(*each) for each in words], "h", "s", 20.0)
receipts = delivery.deliver(submission, [result], {}, lambda: None, os.pipe()[0])
assert [receipt.error is None for receipt in receipts] == [False, False, True], receipts
assert "neither the send_nsca" in receipts[0].error and "refused" in receipts[1].error, receipts
"""


@pytest.mark.root
@needs_systemd
def test_no_system_call_that_it_makes_is_filtered(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("healthy", "uid=1000,mode=0700")
    mounts.tmpfs("closed", "mode=0000")
    fuse.mount("hung")
    fuse.mount("dead")
    fuse.command("freeze", "hung")  # strace waits for whom it traces, so it has to be one that can be killed
    fuse.command("die", "dead")
    allowed, called = _allowed(), set()

    def wrapper(name: str) -> list[str]:
        return ["strace", "-f", "-qq", "-c", "-o", str(tmp_path / name)]

    fstab = tmp_path / "fstab"
    fstab.write_text(f"none {mounts.base}/healthy tmpfs uid=1000 0 0\n")
    result = Result(
        plugin.start("-vvv", "--write", "-t", "1", f"--fstab={fstab}", "--systemd", wrapper=wrapper("once"))
    )
    assert result.code == 2, result.stdout
    assert "timed out after 1 s" in result.line(mounts.base / "hung")
    called |= _counted(tmp_path / "once")
    subprocess.run([*wrapper("asked"), PYTHON, "-c", _ASK], check=True, env=plugin.environment)
    called |= _counted(tmp_path / "asked") - {"listen", "accept4"}  # the servers' own
    submit = [PYTHON, "-c", _SUBMIT, str(tmp_path / "pipe")]
    subprocess.run([*wrapper("submitted"), *submit], check=True, env=plugin.environment)
    called |= _counted(tmp_path / "submitted") - {"mknod", "mknodat"}  # the server's own
    result_file = tmp_path / "cache/status"
    daemon = plugin.start(
        *("--daemon", "--foreground", "--interval", "2", "-t", "1", "--write", "--cache", str(result_file)),
        wrapper=wrapper("daemon"),
    )
    until(lambda: result_file.exists() or daemon.poll() is not None, 30)
    (main,) = map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(main, number)
    daemon.communicate(timeout=60)
    called |= _counted(tmp_path / "daemon")
    assert {
        "execve",
        "openat2",
        "statx",
        "fsync",
        "setresuid",
        "setresgid",
        "setgroups",
        "prctl",
        "kill",
        "connect",
        "mlockall",
    } <= called
    assert called - allowed == set()
    # And the filter does filter.
    assert not allowed & {
        "ptrace",
        "mount",
        "umount2",
        "chroot",
        "pivot_root",
        "init_module",
        "reboot",
        "bpf",
        "io_uring_setup",
        "keyctl",
    }


@pytest.mark.root
def test_the_capabilities_suffice(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    mounts.tmpfs("closed", "uid=1001,mode=0700")
    mounts.mount_at(mounts.point("closed/below"), "tmpfs", options="uid=1000,mode=0700")
    for name, options in (("hung", {}), ("of-a-user", {"user_id": 1000, "group_id": 1000})):
        fuse.mount(name, **options)
        fuse.command("hang", name)
    names = [name.lower().replace("cap_", "+") for name in _value("CapabilityBoundingSet").split()]
    wrapper = ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{','.join(names)}"]
    result = Result(plugin.start("-vvv", "--write", "-t", "2", "--user-mounts", wrapper=wrapper))
    assert result.code == 2, result.stderr
    assert "timed out after 2 s" in result.line(mounts.base / "hung")
    assert sum("its probe waits in request_wait_answer" in line for line in result.lines) == 2
    for name, uid in (("closed", 1001), ("closed/below", 1000)):
        place = result.lines.index(result.line(mounts.base / name))
        assert result.lines[place].startswith("OK: ")
        steps = [line.split(":")[0].strip() for line in result.lines[place + 1 : place + 9]]
        assert steps == ["look-up", "statfs", "statx", "read", "create", "write", "verify", "remove"]
        assert any(line.endswith(f", as uid {uid}") for line in result.lines[place + 1 : place + 9])
    assert "timed out after 2 s" in result.line(mounts.base / "of-a-user")
