"""``--explain``: the page about one mount, on real mounts that are well, hang, are dead, and so
on."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts import explaining, hanging
from check_mounts.report.page import WIDTH
from check_mounts.report.shellwords import quoted
from check_mounts.using.model import How, Process
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, in_time, remaining, until
from tests.kernel import workers_alive

pytestmark = pytest.mark.root
MS_BIND, MS_REMOUNT, MS_RDONLY = 4096, 32, 1
TITLES = ["What it is", "What is expected", "What it answered", "Who uses it", "What to try"]


def _explain(plugin: Plugin, point: object, *more: str, **options: object) -> Result:
    return plugin("--explain", os.fsdecode(os.fspath(point)), *more, below=False, **options)  # type: ignore[call-overload]


def _page(result: Result) -> dict[str, list[str]]:
    """The page by its titles, each line without what precedes its words."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.lines[1:]:
        if line and not line.startswith((" ", "note: ")):
            lines = found.setdefault(line, [])
        elif line:
            lines.append(line)
    return found


def _said(result: Result, title: str) -> str:
    """A part of the page without its line ends."""
    return " ".join(" ".join(_page(result)[title]).split())


def test_a_mount_that_is_well(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("well", "size=1m", source="pool")
    result = _explain(plugin, path)
    assert (result.code, result.verdict) == (0, result.lines[0])
    assert re.fullmatch(r"MOUNTS OK - 1 mount checked in \d+\.\d s", result.verdict)
    assert list(_page(result)) == TITLES
    what = _said(result, "What it is")
    assert f"mount point {path}" in what and "source pool" in what and "type tmpfs, in this host's memory" in what
    assert f"device {os.major(path.stat().st_dev)}:{os.minor(path.stat().st_dev)}" in what
    assert "no declaration" in _said(result, "What is expected") and "timeout = 5" in _said(result, "What is expected")
    answered = _said(result, "What it answered")
    assert re.search(r"statfs: 0\.\d+ s", answered) and "1.0 MiB used (0 %)" in answered
    assert _said(result, "What to try") == "nothing: it answers"


def test_perfdata_only_if_it_is_asked_for(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("well")
    assert " | " not in _explain(plugin, path).stdout.decode()
    assert _explain(plugin, path, "--perfdata", "summary").count("ok") == 1


def test_a_mount_that_hangs(plugin: Plugin, mounts: Mounts, fuse: Fuse) -> None:
    hung = fuse.mount("hung")
    other = mounts.bind(hung, "other")
    fuse.command("hang", "hung")
    result = _explain(plugin, hung, "-t", "0.5")
    assert result.code == 2 and result.verdict.endswith("timed out after 0.5 s")
    what = _said(result, "What it is")
    minor = int(re.search(r"device 0:(\d+)", what)[1])  # type: ignore[index]
    assert f"FUSE connection {minor}" in what and f"also at {other} (fuse.test fuse)" in what
    assert "served by a FUSE daemon" in what
    answered = _said(result, "What it answered")
    assert "statfs: no answer" in answered
    (stuck,) = remaining(1)
    assert re.search(rf"its probe waits since [-\d]+ [:\d]+ \(\d+ s\), process {stuck}, in \w+", answered)
    tried = _said(result, "What to try")
    assert f"echo 1 > /sys/fs/fuse/connections/{minor}/abort" in tried
    assert f"umount -f {hung}" in tried and f"umount -l {hung}" in tried
    assert tried.index("abort") < tried.index("umount -l")


class User:
    """A process that has a file open and, if it is told to, reads it."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-c", _READS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def read(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


_READS = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(flush=True)
sys.stdin.readline()
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # the kernel must ask for it
os.read(fd, 4096)
sys.stdin.readline()
"""


@pytest.fixture
def used(fuse: Fuse) -> Iterator[tuple[Path, User, User]]:
    """A mount that hangs, a process that waits for it, and one that only has it open."""
    path = fuse.mount("used")
    (path / "file").write_bytes(b"x" * 4096)
    waiter, holder = User(path / "file"), User(path / "file")
    fuse.command("hang", "used")
    waiter.read()
    until(lambda: fuse.waiting("used") > 0)
    yield path, waiter, holder
    fuse.command("answer", "used")
    waiter.end()
    holder.end()


def test_who_waits_and_who_holds_it(plugin: Plugin, used: tuple[Path, User, User]) -> None:
    path, waiter, holder = used
    result = _explain(plugin, path, "-t", "0.5")
    users = _said(result, "Who uses it")
    assert users.startswith("1 process of 1 user waits: python3")
    assert re.search(rf"pid {waiter.pid} \(python3\), user 0,? ?\S*: waits in \w+ \(state [SD]", users)
    assert re.search(r"1 process of 1 user has it open: python3", users)
    assert f"pid {holder.pid}" not in users and "check_mounts" not in users


def test_who_holds_a_mount_that_is_well(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("a")
    (path / "file").touch()
    holder = User(path / "file")
    try:
        users = _said(_explain(plugin, path), "Who uses it")
        assert users.startswith("1 process of 1 user has it open: python3") and "waits" not in users
    finally:
        holder.end()
    assert "nobody has a file of it open" in _said(_explain(plugin, path), "Who uses it")


def test_with_v_each_failed_mount_says_who_waits(plugin: Plugin, fuse: Fuse, used: tuple[Path, User, User]) -> None:
    dead = fuse.mount("dead")
    fuse.command("die", "dead")
    result = plugin("-v", "-t", "0.5")
    at = result.lines.index(result.line(used[0]))
    assert any(line.startswith("  1 process of 1 user waits: python3") for line in result.lines[at : at + 4])
    at = result.lines.index(result.line(dead))
    assert not any("waits: " in line for line in result.lines[at : at + 2])
    assert "waits: python3" not in plugin("-t", "0.5").stdout.decode()


def test_processes_that_may_wait_for_several_mounts_are_counted_once(plugin: Plugin, fuse: Fuse) -> None:
    """A process that looks up a name says nothing of where."""
    paths = [fuse.mount("one"), fuse.mount("two")]
    for path in paths:
        fuse.command("hang", path.name)
    asking = [subprocess.Popen(["stat", "-f", str(paths[0])], stdout=subprocess.DEVNULL) for _ in range(2)]
    until(lambda: fuse.waiting("one") > 1)
    result = plugin("-v", "-t", "0.5")
    said = [line for line in result.lines if "stat x2" in line]
    words = r"note: \d+ processes of \d+ users? probably wait: .*stat x2.*, each for one of the mounts that failed"
    assert len(said) == 1 and re.fullmatch(words, said[0]), result.lines
    for path in paths:
        fuse.command("answer", path.name)
    for each in asking:
        each.wait(timeout=60)


def test_services_that_may_be_restarted() -> None:
    """Not those that a user could have named, and none whose name needs an escape."""

    def of(unit: str, uid: int = 0) -> Process:
        return Process(1, 1, uid, b"x", unit, "D", None, How.WAITS, (0, 1))

    found = hanging.services(
        [
            of("apache2.service", 33), of("apache2.service", 33), of("sshd.service", 1000), of("session-1.scope"),
            of("user@0.service"), of("a\\134x2db.service"), of("-x.service"), of("lxc.payload.x"),
            of("dyn.service", 61200), of("x.service;reboot"), of("at@1.service"),
        ]
    )  # fmt: skip
    assert found == (b"apache2.service", b"dyn.service", b"at@1.service")


def test_explained_ten_times_it_holds_one_process(plugin: Plugin, mounts: Mounts, fuse: Fuse) -> None:
    points = [fuse.mount("hung")]
    points.append(mounts.bind(points[0], "other"))
    fuse.command("hang", "hung")
    stuck: set[int] = set()
    for number in range(10):
        result = _explain(plugin, points[number % 2], "-t", "0.5")
        assert result.code == 2 and "What to try" in _page(result)
        stuck |= remaining(1)
    assert len(stuck) == 1


def test_the_deadline_bounds_it(plugin: Plugin, hung: Path) -> None:
    def attempt() -> Result:
        return _explain(plugin, hung, "-t", "0.5", "--deadline", "1")

    result = in_time(4, attempt)
    assert result.code == 2 and list(_page(result)) == TITLES


def test_a_part_that_comes_too_late_is_one_line(plugin: Plugin, hung: Path) -> None:
    result = _explain(plugin, hung, "-t", "1", "--deadline", "1")
    assert list(_page(result)) == TITLES
    assert _said(result, "Who uses it") == "not asked: no time was left"


def test_a_part_that_fails_is_one_line() -> None:
    def failing() -> Iterator[str]:
        yield "one"
        raise OSError(errno.EMFILE, "")

    assert list(explaining.asked(failing)) == ["one", "not known: Too many open files (EMFILE)"]


def test_a_signal_ends_it_soon(plugin: Plugin, fuse: Fuse, hung: Path) -> None:
    def attempt() -> Result:
        process = plugin.start("--explain", str(hung), "-t", "30", below=False)
        until(lambda: fuse.waiting("hung") > 0)
        process.send_signal(signal.SIGTERM)
        return Result(process)

    result = in_time(5, attempt)
    assert "interrupted by SIGTERM" in result.verdict and list(_page(result)) == TITLES


def test_umount_f_aborts_fuse_even_if_it_is_busy(plugin: Plugin, fuse: Fuse) -> None:
    """As the page says, for an administrator who pastes it."""
    path = fuse.mount("hung")
    fuse.command("hang", "hung")
    waiting = subprocess.Popen(["stat", "-f", str(path)], stderr=subprocess.PIPE, text=True, env={"LC_ALL": "C"})
    until(lambda: fuse.waiting("hung") > 0)
    (command,) = [
        line.strip() for line in _page(_explain(plugin, path, "-t", "0.5"))["What to try"] if "umount -f" in line
    ]
    subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert os.strerror(errno.ECONNABORTED) in waiting.communicate(timeout=60)[1]
    remaining(0)
    subprocess.run(["umount", str(path)], capture_output=True, timeout=60)
    assert f" {path} " not in Path("/proc/self/mountinfo").read_text()


def test_the_step_that_aborts_a_connection_does_what_it_says(plugin: Plugin, fuse: Fuse, mounts: Mounts) -> None:
    """Pasted as they stand, by an administrator: who waits gets the error, and all later calls
    ENOTCONN."""
    path = fuse.mount("hung")
    fuse.command("hang", "hung")
    control = mounts.point("connections")
    mounts.mount_at(control, "fusectl")
    waiting = subprocess.Popen(["stat", "-f", str(path)], stderr=subprocess.PIPE, text=True, env={"LC_ALL": "C"})
    result = _explain(plugin, path, "-t", "0.5")
    (command,) = [line.strip() for line in _page(result)["What to try"] if "/abort" in line]
    subprocess.run(["sh", "-c", command.replace("/sys/fs/fuse/connections", str(control))], check=True)
    assert os.strerror(errno.ECONNABORTED) in waiting.communicate(timeout=60)[1]
    remaining(0)
    later = _explain(plugin, path)
    assert later.code == 2 and "dead: Transport endpoint is not connected (ENOTCONN)" in later.verdict
    tried = _said(later, "What to try")
    assert "why its daemon has ended" in tried and f"umount {path}" in tried and "umount -f" not in tried


def test_a_fuse_mount_whose_daemon_is_gone(plugin: Plugin, fuse: Fuse) -> None:
    path = fuse.mount("gone")
    fuse.command("die", "gone")
    result = _explain(plugin, path)
    assert result.code == 2 and "ENOTCONN" in result.verdict
    assert "ENOTCONN" in _said(result, "What it answered")


def test_a_mount_below_one_that_hangs(plugin: Plugin, mounts: Mounts, fuse: Fuse) -> None:
    """The mount above is the cause; the one below is not asked, so nothing is stuck on its way."""
    hung = fuse.mount("hung")
    mounts.mount_at(hung / "sub", "tmpfs")
    fuse.command("hang", "hung")
    for _ in range(2):
        result = _explain(plugin, hung / "sub", "-t", "0.5")
        assert result.code == 2 and f"{hung} (fuse.test fuse) timed out" in result.verdict
        assert f"blocked: below {hung}, which timed out" in _said(result, "What it answered")
        assert f"check_mounts --explain {hung}" in _said(result, "What to try")
        assert "umount" not in _said(result, "What to try")
        remaining(1)


def test_a_mount_that_another_covers(plugin: Plugin, mounts: Mounts) -> None:
    below = mounts.tmpfs("a")
    (below / "b").mkdir()
    inner = mounts.tmpfs("a/b", source="inner")
    mounts.mount_at(below, "tmpfs", "cover")
    result = _explain(plugin, inner)
    assert result.code == 2 and "covered by another mount" in result.verdict
    assert f"covered by {below} (tmpfs cover)" in _said(result, "What it is")
    assert f"umount {below}" in _said(result, "What to try")


def test_of_mounts_at_one_place_the_one_that_is_seen_is_explained(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("a", source="lower")
    mounts.mount_at(path, "tmpfs", "upper")
    result = _explain(plugin, path)
    assert result.code == 0
    assert "source upper" in _said(result, "What it is") and f"covers {path} (tmpfs lower)" in _said(
        result, "What it is"
    )


def test_a_denied_mount(plugin: Plugin, fuse: Fuse) -> None:
    path = fuse.mount("denied")
    fuse.command("fail", "denied", "opendir", str(errno.EACCES))
    result = _explain(plugin, path)
    assert result.code == 1 and "denied: Permission denied (EACCES)" in result.verdict
    assert "It answers, so no process hangs" in _said(result, "What to try")


def test_a_mount_that_nobody_may_enter(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("closed", "mode=0000")
    result = _explain(plugin, path)
    assert result.code == 1
    assert f"chmod u+rwx {path}" in _said(result, "What to try")


def test_a_mount_that_is_missing(plugin: Plugin, mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.point("a-b")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"filer1:/x {path} nfs4 nosuid,_netdev,password=secret 0 0\nrubbish\n")
    result = _explain(plugin, path, f"--fstab={fstab}")
    assert result.code == 2 and f"{path} missing: not mounted" in result.verdict
    expected = _said(result, "What is expected")
    assert f"{fstab} line 1: filer1:/x, type nfs4, options nosuid,_netdev,password=***" in expected
    assert f"note: {fstab} line 2: it has no mount point" in expected
    unit = subprocess.run(
        ["systemd-escape", "--path", "--suffix=mount", str(path)], capture_output=True, check=True
    ).stdout[:-1]
    tried = _said(result, "What to try")
    assert f"systemctl start {quoted(unit)}" in tried and f"mount {path}" in tried
    assert "secret" not in result.stdout.decode()


def test_a_mount_that_is_mounted_by_hand(plugin: Plugin, mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.point("disk")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"/dev/sdz9 {path} ext4 noauto,nosuid 0 0\n/dev/sdz8 none swap sw 0 0\n")
    result = _explain(plugin, path, f"--fstab={fstab}")
    assert result.code == 2 and "missing: not mounted" in result.verdict
    assert f"{fstab} line 1: /dev/sdz9, type ext4, options noauto,nosuid" in _said(result, "What is expected")
    assert f"mount {path}" in _said(result, "What to try")
    mounts.mount_at(path, "tmpfs")
    assert _explain(plugin, path, f"--fstab={fstab}").code == 0  # nobody expects it


def test_a_mount_that_differs_from_its_declaration(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("a")
    result = _explain(plugin, path, "--expect", f"{path},type=tmpfs,nosuid,nodev")
    assert result.code == 1 and "changed" in result.verdict
    assert "it differs: changed: " in _said(result, "What is expected")
    command = f"mount -o remount,nosuid,nodev {path}"
    assert command in _said(result, "What to try")
    subprocess.run(["sh", "-c", command], check=True)
    assert _explain(plugin, path, "--expect", f"{path},type=tmpfs,nosuid,nodev").code == 0


def test_a_mount_of_another_type_than_declared(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("a")
    result = _explain(plugin, path, "--expect", f"{path},source=filer1:/x,type=nfs4")
    tried = _said(result, "What to try")
    assert f"umount {path}" in tried and "remount" not in tried


def test_a_mount_that_was_made_read_only(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.mount("a", "tmpfs", flags=MS_RDONLY)
    result = _explain(plugin, path, "--expect", f"{path},rw")
    assert result.code == 2 and "read-only" in result.verdict
    assert f"mount -o remount,rw {path}" in _said(result, "What to try")


def test_a_full_mount(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("full", "size=64k")
    (path / "file").write_bytes(b"x" * 65536)
    result = _explain(plugin, path, "--usage-critical", "90")
    assert result.code == 2 and f"du -x -h -d 2 {path}" in _said(result, "What to try")
    path = mounts.tmpfs("many", "nr_inodes=3,size=10m")
    for number in range(2):
        (path / str(number)).touch()
    result = _explain(plugin, path, "--inodes-critical", "90")
    assert result.code == 2 and f"du --inodes -x -d 2 {path}" in _said(result, "What to try")


def test_a_slow_mount(plugin: Plugin, fuse: Fuse) -> None:
    path = fuse.mount("slow")
    fuse.command("delay", "slow", "0.05")
    result = _explain(plugin, path, "-w", "0.01")
    assert result.code == 1 and "It answers, so processes go on" in _said(result, "What to try")


def test_a_bind_mount_shows_a_directory(plugin: Plugin, mounts: Mounts) -> None:
    source = mounts.tmpfs("source")
    (source / "dir").mkdir()
    bound = mounts.bind(source / "dir", "bound")
    what = _said(_explain(plugin, bound), "What it is")
    assert "shows /dir of that filesystem" in what and f"also at {source} (tmpfs none)" in what


def test_a_mount_that_is_left_out(plugin: Plugin, mounts: Mounts) -> None:
    path = mounts.tmpfs("a")
    result = _explain(plugin, path, "-X", "tmpfs")
    assert result.code == 3
    assert "not asked: its type is excluded" in _said(result, "What it answered")
    assert _said(result, "What to try") == "nothing is known of it: its type is excluded"


def test_options_of_files_that_are_about_all_mounts_do_not_count(
    plugin: Plugin, mounts: Mounts, tmp_path: Path
) -> None:
    path = mounts.tmpfs("a")
    config = tmp_path / "config"
    config.write_text(f'[check_mounts]\nremote = yes\njson = yes\ntimeout = 7\n[mount "{path}"]\nwarning = 3\n')
    result = _explain(plugin, path, "--config", str(config))
    assert result.code == 0
    expected = _said(result, "What is expected")
    assert f"rule: timeout = 7 ({config} line 4)" in expected and f"rule: warning = 3 ({config} line 6)" in expected


def test_a_table_of_another_host(plugin: Plugin, mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.tmpfs("a")
    table = tmp_path / "table"
    table.write_bytes(Path("/proc/self/mountinfo").read_bytes())
    result = _explain(plugin, path, "--mountinfo", str(table))
    assert _said(result, "Who uses it") == "not asked: the mount table is a copy"


def test_an_automount_that_nobody_has_used(plugin: Plugin, mounts: Mounts) -> None:
    table = f"90 1 0:90 / {mounts.base}/auto rw - autofs systemd-1 rw,fd=1,pgrp=1,timeout=0,direct"
    root = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/"]
    copy = mounts.base / "table"
    mounts.base.mkdir(exist_ok=True)
    copy.write_text("\n".join([*root, table.replace("90 1 ", f"90 {root[0].split()[0]} ", 1)]) + "\n")
    result = _explain(plugin, mounts.base / "auto", "--mountinfo", str(copy))
    assert "the trigger of an automounter" in _said(result, "What it is")
    assert f"check_mounts --explain {mounts.base}/auto --autofs probe" in _said(result, "What to try")


@pytest.mark.parametrize(
    "name",
    [b"a b", b"a'b", b"$(touch pasted)", b"a\nreboot\n", b"\xff", b"a;touch pasted", "ü".encode(), b"!!", b"\x1b[2J"],
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_that_others_chose(plugin: Plugin, mounts: Mounts, name: bytes, locale: str, tmp_path: Path) -> None:
    """Each command of the page is for this mount and nothing else, and nothing breaks a line."""
    path = Path(os.fsdecode(os.fsencode(mounts.base) + b"/" + name))
    path.mkdir(parents=True)
    mounts.mount_at(path, "tmpfs", flags=MS_RDONLY)
    environment = {**plugin.environment, "LC_ALL": locale}
    result = _explain(plugin, path, "--expect", f"{os.fsdecode(os.fsencode(path))},rw", env=environment)
    assert result.code == 2
    (command,) = [line.strip() for line in _page(result)["What to try"] if line.startswith("        ")]
    script = f"mount() {{ printf '%s\\0' \"$@\"; }}; {command}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True, cwd=tmp_path)
    assert ran.stdout.split(b"\0") == [b"-o", b"remount,rw", os.fsencode(path), b""]
    assert not (tmp_path / "pasted").exists()
    assert all(line.isprintable() for line in result.stdout.decode().split("\n"))


def test_the_page_fits_a_terminal(plugin: Plugin, mounts: Mounts) -> None:
    """All but the verdict, which is one line for monitoring, and names that are longer."""
    Path("/run/e").mkdir(exist_ok=True)
    for locale in ("C", "C.UTF-8"):
        mounts.mount_at(Path("/run/e"), "tmpfs", flags=MS_RDONLY)
        environment = {**plugin.environment, "LC_ALL": locale}
        result = _explain(plugin, "/run/e", "--expect", "/run/e,rw,nosuid", env=environment)
        lines = [line for line in result.lines[1:] if not line.startswith("note: ")]
        assert result.code == 2 and max(map(len, lines)) <= WIDTH
        assert result.stdout.isascii()
        mounts.detach(Path("/run/e"))
    Path("/run/e").rmdir()


@pytest.mark.parametrize("there", [True, False])
def test_a_path_that_is_no_mount_point(plugin: Plugin, mounts: Mounts, there: bool) -> None:
    path = mounts.tmpfs("a b", source="pool")
    if there:
        (path / "c" / "d").mkdir(parents=True)
    result = _explain(plugin, path / "c" / "d")
    words = f"{path}/c/d is not a mount point; it lies on {path} (tmpfs pool): use --explain '{path}'"
    assert (result.code, result.lines) == (3, [f"MOUNTS UNKNOWN - {words}", ""])


def test_a_path_on_a_mount_that_hangs_is_not_looked_up_there(plugin: Plugin, hung: Path) -> None:
    result = _explain(plugin, hung / "x" / "y", "-t", "0.5")
    assert result.code == 3 and f"it lies on {hung} (fuse.test fuse): use --explain {hung}" in result.verdict


def test_a_name_with_a_link(plugin: Plugin, mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.tmpfs("a")
    link = tmp_path / "link"
    link.symlink_to(mounts.base)
    result = _explain(plugin, f"{link}//a/")
    assert result.code == 0 and f"mount point {path}" in _said(result, "What it is")
    assert f"use --explain {mounts.base}" not in _explain(plugin, f"{link}/b").verdict


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--explain", "relative"], "argument --explain: 'relative' is not an absolute path"),
        (["--explain", "/", "/srv"], "argument --explain: explains one mount, so no other MOUNTPOINT goes with it"),
        (["--explain", "/", "--json"], "argument --explain: does not go with --json"),
        (["--explain", "/", "--table"], "argument --explain: does not go with --table"),
        (["--explain", "/", "--wait"], "argument --explain: does not go with --wait"),
        (["--explain", "/", "--remote"], "argument --explain: does not go with --remote"),
        (["--explain", "/", "--submit=command-file:/x"], "argument --explain: does not go with --submit"),
        (["--explain", "/", "--daemon"], "argument --explain: does not go with --daemon"),
        (["--explain", "/", "--users", "/"], "argument --explain: does not go with --users"),
        (["--explain", "/", "--incidents"], "argument --explain: does not go with --incidents"),
    ],
)
def test_what_does_not_go_together(plugin: Plugin, arguments: list[str], words: str) -> None:
    result = plugin(*arguments, below=False)
    assert (result.code, result.verdict) == (3, f"MOUNTS UNKNOWN - {words}")


def test_somebody_who_is_not_root(public: Path, mounts: Mounts) -> None:
    path = mounts.tmpfs("a")
    mounts.base.parent.chmod(stat.S_IRWXU | 0o055)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-m", "check_mounts"]
    result = Result(
        subprocess.Popen(
            [*command, "--explain", str(path)], cwd=public, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(public)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
    )  # fmt: skip
    assert result.stderr == b"" and "What it is" in _page(result)
    assert str(path) in _said(result, "What it is")
    assert "only root (with CAP_SYS_PTRACE) sees all" in _said(result, "Who uses it")


def test_it_leaves_no_process(plugin: Plugin, mounts: Mounts) -> None:
    _explain(plugin, mounts.tmpfs("a"))
    assert not workers_alive()
