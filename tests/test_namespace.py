"""--namespace: the mounts, names and files that another process sees, which has another root
directory or another mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.naming.devices import Devices
from check_mounts.system import procroot
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon, daemon
from tests.kernel import runs_alive, state, workers_alive
from tests.test_through import Space

__all__ = ["daemon"]
pytestmark = pytest.mark.root

# Changes its root directory, and stays there; what it needs is loaded by then.
_CHROOT = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print('here', flush=True); sys.stdin.read()"


class There(Space):
    """A mount namespace; :meth:`chroot` starts a process in it that has another root directory."""

    def __init__(self, mounts: Mounts) -> None:
        super().__init__(mounts)
        self._more: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> str:
        return str(self.process.pid)

    def chroot(self, path: Path) -> str:
        command = ["nsenter", "-t", self.pid, "-m", PYTHON, "-IS", "-c", _CHROOT, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._more.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        return str(process.pid)

    def sh(self, script: str) -> None:
        self.run("sh", "-ec", f"cd {self.base}\n{script}")

    def close(self) -> None:
        self.fuse.close()
        for process in (*self._more, self.process):
            process.kill()
            process.communicate()


@pytest.fixture
def there(mounts: Mounts) -> Iterator[There]:
    mounts.base.mkdir(parents=True)
    result = There(mounts)
    yield result
    result.close()
    until(lambda: not workers_alive() | runs_alive())


def test_healthy_dead_and_hung(there: There, plugin: Plugin) -> None:
    for name in ("well", "dead", "hung"):
        there.fuse.mount(name)
    there.fuse.command("die", "dead")
    there.fuse.command("hang", "hung")
    ours = plugin("--allow-none")
    assert (ours.code, ours.count("mounts")) == (0, 0)
    found = plugin("--namespace", there.pid, "-t", "0.5", "-vv")
    assert (found.code, found.count("ok"), found.count("dead"), found.count("timed_out")) == (2, 1, 1, 1)
    stuck = workers_alive()
    assert {state(pid) for pid in stuck} == {"D"} and len(stuck) == 1
    document = json.loads(plugin("--namespace", f"/proc/{there.pid}/", "-t", "0.5", "--json").stdout)
    (hung,) = [each for each in document["findings"] if each["mount_point"].endswith("/hung")]
    assert hung["condition"] == "timed-out" and f"(pid {min(stuck)})" in hung["text"]
    table = plugin("--namespace", there.pid, "-t", "0.5", "--table")
    assert (table.code, workers_alive()) == (2, stuck)
    assert any("hung" in line for line in table.lines[1:]), table.stdout


_PLACE = """
mount -t tmpfs place root
mkdir -p root/etc/systemd/system/multi-user.target.wants root/real root/var/data root/mnt/unit root/srv root/dev
mount -t tmpfs data root/var/data
mount -t tmpfs unit root/mnt/unit
ln -s /var/data root/data
ln -s /real/fstab root/etc/fstab
echo 'data /data tmpfs defaults 0 0' >root/real/fstab
echo 'gone /srv/gone tmpfs defaults 0 0' >>root/real/fstab
ln -s ../../../real/check_mounts.conf root/etc/check_mounts.conf
printf '[mount "/mnt/unit"]\\nexpect-ro = yes\\n' >root/real/check_mounts.conf
printf '[Mount]\\nWhat=other\\nWhere=/mnt/unit\\nType=tmpfs\\n' >root/etc/systemd/system/mnt-unit.mount
ln -s /etc/systemd/system/mnt-unit.mount root/etc/systemd/system/multi-user.target.wants/mnt-unit.mount
printf '[Mount]\\nWhat=none\\nWhere=/mnt/lost\\nType=tmpfs\\n' >root/etc/systemd/system/mnt-lost.mount
ln -s /etc/systemd/system/mnt-lost.mount root/etc/systemd/system/multi-user.target.wants/mnt-lost.mount
"""


@pytest.fixture
def place(there: There) -> str:
    """A process with a root directory of its own, with links that lead to it and not to ours."""
    (there.base / "root").mkdir()
    there.sh(_PLACE)
    return there.chroot(there.base / "root")


def _look(plugin: Plugin, place: str, *arguments: str) -> Result:
    return plugin("--namespace", place, "-v", *arguments, below=False)


def test_declarations_names_and_configuration_are_those_of_the_place(plugin: Plugin, place: str) -> None:
    found = _look(plugin, place, "--fstab", "--systemd", "--config", "/etc/check_mounts.conf")
    assert found.code == 2
    assert found.line("/srv/gone").startswith("CRITICAL: /srv/gone missing")
    assert "(/etc/fstab line 2)" in found.line("/srv/gone")
    assert "missing" in found.line("/mnt/lost")
    assert "/var/data" not in "\n".join(found.lines)
    assert "read-only" in found.line("/mnt/unit") or "ro" in found.line("/mnt/unit")
    assert _look(plugin, place, "/data").code == 0  # by its link
    assert _look(plugin, place, "/srv").code == 2


def test_a_file_that_is_not_there_is_not_taken_from_here(plugin: Plugin, place: str, tmp_path: Path) -> None:
    ours = tmp_path / "check_mounts.conf"
    ours.write_text("timeout = 1\n")
    assert os.path.isfile("/etc/passwd")
    for option, path in (("--fstab=", "/etc/passwd"), ("--config=", str(ours))):
        refused = _look(plugin, place, option + path)
        assert refused.code == 3
        assert refused.verdict.endswith(f"{path}: No such file or directory")
    assert "must be absolute" in _look(plugin, place, "--fstab=etc/fstab").verdict
    assert "must be absolute" in _look(plugin, place, "--config=c").verdict


def test_a_configuration_of_ours_may_name_the_place(plugin: Plugin, place: str, tmp_path: Path) -> None:
    ours = tmp_path / "check_mounts.conf"
    ours.write_text(f"[check_mounts]\nnamespace = {place}\n")
    assert plugin("--config", str(ours), "/data", below=False).code == 0
    ours.write_text("[check_mounts]\nnamespace = /tmp/1\n")
    refused = plugin("--config", str(ours), "/data", below=False)
    assert refused.code == 3 and f"{ours} line 2: namespace: /tmp/1: /tmp is no procfs" in refused.verdict


def test_devices_are_named_as_there(there: There, place: str) -> None:
    there.sh("cd root; mkdir -p dev/disk/by-uuid; mknod dev/vdx b 7 77; ln -s /dev/vdx dev/disk/by-uuid/12-34")
    root = os.open(f"/proc/{place}/root", os.O_PATH)
    devices = Devices(root=root)
    assert devices.resolve(b"/dev/disk/by-uuid/12-34") == b"/dev/vdx"
    assert devices.number(b"/dev/vdx") == (7, 77)
    assert Devices().resolve(b"/dev/disk/by-uuid/12-34") is None
    os.close(root)


def test_our_own_namespace_is_one_as_well(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("a")
    assert plugin("--namespace", str(os.getpid())).count("ok") == 1
    assert plugin("--namespace", "/proc/self").count("ok") == 1


def test_a_root_directory_that_hangs(there: There, plugin: Plugin) -> None:
    path = there.fuse.mount("root")
    pid = there.chroot(path)
    there.fuse.command("hang", "root")
    for options in ([], ["--fstab"]):
        for _ in range(2):
            found = plugin("--namespace", pid, "-t", "0.5", "--deadline", "2", "-v", *options, below=False)
            assert found.code in ((2,) if not options else (2, 3)), found.stdout
            assert found.seconds() < 10 if "time" in found.numbers else "stuck" in found.verdict
    # One that asked the mount, and one that read fstab: the next run knows of both.
    assert len(workers_alive()) == 1 and len(runs_alive()) <= 1


def test_our_own_files_may_hang_in_our_own_mounts_only(fuse: Fuse, there: There, plugin: Plugin) -> None:
    """The state directory is ours: what is mounted there in the other namespace does not matter."""
    there.fuse.mount("hung")
    there.fuse.command("hang", "hung")
    plugin.state_dir.mkdir()
    there.fuse.command("mount", "state", str(plugin.state_dir))
    for _ in range(2):
        found = plugin("--namespace", there.pid, "-t", "0.5", "-v")
        assert found.code == 2 and "--state-dir" not in "\n".join(found.lines)
    assert len(workers_alive()) == 1
    fuse.command("mount", "ours", str(plugin.state_dir))
    found = plugin("--namespace", there.pid, "-t", "0.5", "-v")
    assert "may hang; see --state-dir" in "\n".join(found.lines)
    fuse.command("die", "ours")
    subprocess.run(["umount", "-l", plugin.state_dir], check=True)


def test_the_process_ends_meanwhile(there: There, plugin: Plugin) -> None:
    for name in ("well", "hung"):
        there.fuse.mount(name)
    there.fuse.command("hang", "hung")
    process = plugin.start("--namespace", there.pid, "-t", "2", "-vv")
    until(lambda: there.fuse.waiting("hung") > 0)
    there.end()
    found = Result(process)
    assert (found.code, found.count("timed_out"), found.count("ok")) == (2, 1, 1)
    assert "the process has ended" in "\n".join(found.lines)
    later = plugin("--namespace", there.pid)
    assert (later.code, later.verdict) == (
        3, f"MOUNTS UNKNOWN - argument --namespace: /proc/{there.pid}: there is no such process"
    )  # fmt: skip


def test_another_process_with_its_id_is_another_one(there: There) -> None:
    why, start, procfs, same = procroot.look(f"/proc/{there.pid}")
    assert (why, procfs, same) == ("", "/proc", True)
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as other:
        until(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        assert procroot.look(f"/proc/{other.pid}")[3] is False  # its servers are not ours to ask
    files = procroot.Files(f"/proc/{there.pid}", start)
    os.close(files("/etc", os.O_PATH))
    with pytest.raises(procroot.Ended):
        procroot.Files(f"/proc/{there.pid}", start - 1)("/etc", os.O_PATH)
    with pytest.raises(OSError, match="the process has ended"):
        procroot.opened(f"/proc/{there.pid}", start + 1)


def _with_pid(pid: int) -> subprocess.Popen[bytes]:
    """A process of ours that gets this ID, which is free."""
    for _ in range(100):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "1000"])
        if process.pid == pid:
            return process
        process.kill()  # another process was quicker
        process.wait()
    raise AssertionError("the ID was not given again")


def test_its_id_is_given_again(there: There, daemon: Daemon, mounts: Mounts) -> None:
    """A daemon says that the process has ended, and does not take the other one's mounts for those
    of that process."""
    there.fuse.mount("well")
    there.fuse.mount("dead")
    there.fuse.command("die", "dead")
    mounts.tmpfs("ours")
    daemon.start("--namespace", there.pid)
    assert daemon.until(lambda result: result.code == 2).count("mounts") == 2
    there.end()
    other = _with_pid(int(there.pid))
    ended = daemon.until(lambda result: result.code == 3)
    assert "cannot check: the process has ended" in ended.verdict
    passes = daemon.log.count("Cannot check")
    assert passes == 1 and "/ours" not in daemon.log
    other.kill()
    other.wait()


def _without(*capabilities: str) -> list[str]:
    return ["setpriv", "--bounding-set=" + ",".join(f"-{each}" for each in capabilities), "--"]


# In a container: with processes of its own, and the /proc of the host, if at all, elsewhere.
_CONTAINER = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-ec"]


@pytest.mark.parametrize(
    ("wrapper", "named", "says"),
    [
        ((), "4194305", "there is no such process"),
        ((), "filer1", "'filer1' is neither the ID of a process nor its directory in a procfs, such as /host/proc/1"),
        ((), "/proc/1/ns/mnt", "is neither the ID of a process"),
        ((), "{base}/1", "{base} is no procfs: mount the /proc of the host there"),
        ((), "{base}/2", "{base} is no procfs: mount the /proc of the host there"),
        (_without("sys_ptrace"), "{pid}", "CAP_SYS_PTRACE is missing"),
        (_without("dac_read_search", "dac_override"), "{pid}", "CAP_DAC_READ_SEARCH is missing"),
        ([*_CONTAINER, 'mount -t proc proc /proc; exec "$@"', "sh"], "1", "hostPID is missing"),
        ([*_CONTAINER, 'mount -t proc proc /proc; exec "$@"', "sh"], "4194305", "hostPID is missing"),
        ([*_CONTAINER, 'mount -t proc proc {base}; exec "$@"', "sh"], "{base}/1", "hostPID is missing"),
    ],
)
def test_what_is_missing_is_said(
    there: There, plugin: Plugin, mounts: Mounts, wrapper: list[str], named: str, says: str
) -> None:
    mounts.point("1")
    words = {"base": str(mounts.base), "pid": there.pid}
    wrapper = [word.replace("{base}", str(mounts.base)) for word in wrapper]
    found = plugin("--namespace", named.format(**words), wrapper=wrapper)
    assert found.code == 3
    assert says.format(**words) in found.verdict
    assert found.verdict.startswith("MOUNTS UNKNOWN - argument --namespace: ")


def test_without_openat2(there: There, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    from check_mounts.system import syscalls

    monkeypatch.setitem(syscalls._there, "openat2", False)
    monkeypatch.setattr(syscalls, "_NR_OPENAT2", 100_000)
    assert procroot.look(f"/proc/{there.pid}")[0].startswith("openat2(2) cannot be used")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (["--explain", "/"], "--explain"),
        (["--users", "/"], "does not go with --users"),
        (["--mountinfo", "/proc/1/mountinfo"], "does not go with --mountinfo"),
        (["--pretend", "/=dead", "--for", "5m"], "does not go with"),
    ],
)
def test_what_does_not_go_with_it(plugin: Plugin, other: list[str], says: str) -> None:
    found = plugin("--namespace", str(os.getpid()), *other, below=False, state=False)
    assert found.code == 3 and says in found.verdict


def test_a_wait(there: There, plugin: Plugin) -> None:
    there.fuse.mount("late")
    there.fuse.command("hang", "late")
    process = plugin.start("--namespace", there.pid, "--wait", "--timeout", "30")
    until(lambda: there.fuse.waiting("late") > 0)
    there.fuse.command("answer", "late")
    assert Result(process).code == 0


def test_a_daemon_reads_the_place_anew_in_each_pass(there: There, daemon: Daemon, mounts: Mounts) -> None:
    there.fuse.mount("well")
    daemon.start("--namespace", there.pid)
    daemon.until(lambda result: result.code == 0 and result.count("ok") == 1)
    there.fuse.mount("hung")
    there.fuse.command("hang", "hung")
    found: Optional[Result] = daemon.until(lambda result: result.code == 2)
    assert found is not None and "/hung (fuse.test fuse) timed out" in found.verdict
    passes = daemon.log.count("\nChecked ")
    until(lambda: daemon.log.count("\nChecked ") >= passes + 2)
    assert len(workers_alive() - {daemon.process.pid}) <= 1
    there.end()
    ended = daemon.until(lambda result: result.code == 3)
    assert "cannot check: the process has ended" in ended.verdict
    assert "Cannot check: the process has ended" in daemon.log
