"""Which processes use a mount: real processes that hang in an unkillable FUSE mount, or hold it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from check_mounts import hanging, mounttable, users
from check_mounts.model import Condition, Finding, Mount
from check_mounts.options.refusals import UsageError
from check_mounts.using import cgroups, grouping, look, procfs
from check_mounts.using.model import How, Process, Users, Wanted
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until
from tests.kernel import state, workers_alive
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


def by(told: Users, *hows: How) -> set[int]:
    return {each.pid for each in (*told.processes, *told.probable) if each.how in hows}


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
        told = look.take(wanted(shared), 20)
        assert told.is_whole
        assert by(told, How.WAITS) == found.of(*CERTAIN)
        assert by(told, How.PROBABLY) == found.of(*PROBABLE)
        assert by(told, How.OPEN, How.STANDS) == found.of("open", "stands")
        assert not by(told, *How) & found.of("bystander")
        assert {each.uid for each in told.processes} == {1001, 1002, 1003}
        words = grouping.waiting_words(told)
        assert words.startswith("15 processes of 3 users wait: v read x5"), words
        assert "15 more probably: v cwd x5" in words


# -- what hangs a reader of /proc


@contextlib.contextmanager
def acting(fuse: Fuse, prepare: Callable[[], Callable[[], object]]) -> Iterator[tuple[int, Callable[[], None]]]:
    """A process that prepares, and acts when the function that comes with its pid is called."""
    ready, is_ready = os.pipe()
    go, may_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            act = prepare()
            os.write(is_ready, b".")
            os.read(go, 1)
            act()
        os._exit(1)
    os.close(is_ready)
    try:
        assert os.read(ready, 1) == b"."
        yield pid, lambda: (os.write(may_go, b"."), None)[1]
    finally:
        fuse.command("answer", "shared")
        for fd in (ready, go, may_go):
            os.close(fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def the_only(pid: int, told: Users) -> Process:
    found = [each for each in (*told.processes, *told.probable) if each.pid == pid]
    assert len(found) == 1, told
    return found[0]


def lost(told: Users) -> set[int]:
    """The processes at which a worker hung: other tests of this host may have some, too."""
    found = re.findall(r"a reader of /proc hung at .* \(([\d, ]+)\)", "\n".join(told.incomplete))
    return {int(pid) for pids in found for pid in pids.split(", ")}


@contextlib.contextmanager
def hanging_reader(fuse: Fuse, path: str) -> Iterator[None]:
    """The control: a reader of this file hangs, before and after."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            Path(path).read_bytes()
        os._exit(0)
    try:
        until(lambda: state(pid) == "D")
        yield
        assert state(pid) == "D"
    finally:
        fuse.command("answer", "shared")
        os.waitpid(pid, 0)


def test_a_command_line_whose_reader_hangs(fuse: Fuse, shared: Path) -> None:
    """mmap(2) of a file waits for its server, and holds the lock of the memory map that a reader of
    the command line wants (fuse_file_mmap; nfs_file_mmap does the same)."""
    fuse.command("direct", "shared")

    def prepare() -> Callable[[], object]:
        made = os.open(shared / "mapped", os.O_RDWR | os.O_CREAT)  # CREATE, and so with a cache
        os.write(made, b"x" * 4096)
        again = os.open(shared / "mapped", os.O_RDWR)
        pages = mmap.mmap(made, 4096)
        pages[0] = 1  # what is not written yet must be, before the kernel forgets it
        libc = ctypes.CDLL(None)  # the module mmap asks for the size first

        def act() -> None:
            libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, again, 0)
            pages.close()

        return act

    with acting(fuse, prepare) as (pid, act):
        fuse.command("hang", "shared")
        act()
        until(lambda: fuse.waiting("shared"))
        with hanging_reader(fuse, f"/proc/{pid}/cmdline"):
            told = look.take(wanted(shared), 20)
        assert pid not in lost(told)
        assert the_only(pid, told).how is How.PROBABLY


def test_an_epoll_whose_reader_hangs(fuse: Fuse, shared: Path) -> None:
    """epoll_ctl(2) asks a file whether it is ready, and holds the lock that a reader of the epoll's
    fdinfo wants."""
    numbers = os.pipe()

    def prepare() -> Callable[[], object]:
        fd, poll = os.open(shared / "file", os.O_RDWR | os.O_CREAT), select.epoll()
        os.write(numbers[1], str(poll.fileno()).encode())
        return lambda: poll.register(fd)

    fuse.command("hang-at", "shared", "poll")
    with acting(fuse, prepare) as (pid, act):
        number = int(os.read(numbers[0], 10))
        act()
        until(lambda: fuse.waiting("shared"))
        with hanging_reader(fuse, f"/proc/{pid}/fdinfo/{number}"):
            told = look.take(wanted(shared), 20)
        assert pid not in lost(told)
        assert the_only(pid, told).how.hangs


def test_a_stack_whose_reader_hangs_costs_that_stack_only(fuse: Fuse, shared: Path) -> None:
    """execve(2) closes files, waits for a server, and holds the lock that a reader of the stack
    wants. Those that come after it are found, too."""

    def prepare() -> Callable[[], object]:
        os.open(shared / "file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        return lambda: os.execv("/bin/true", ["true"])

    fuse.command("hang-at", "shared", "flush")
    with acting(fuse, prepare) as (pid, act), sleeping(shared) as later:
        act()
        until(lambda: fuse.waiting("shared"))
        with hanging_reader(fuse, f"/proc/{pid}/stack"):
            told = look.take(wanted(shared), 20)
        assert pid in lost(told)
        assert told.is_whole
        assert the_only(pid, told).how is How.PROBABLY
        assert the_only(later, told).how is How.STANDS
        assert told.left == ()


def test_processes_in_execve_blind_no_short_look(fuse: Fuse, shared: Path, plugin: Plugin) -> None:
    """Each of them hangs its reader, before the others are seen."""

    def closing() -> Callable[[], object]:
        os.open(shared / "file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        return lambda: os.execv("/bin/true", ["true"])

    def reading() -> Callable[[], object]:
        ctypes.CDLL(None).prctl(15, b"reader")
        fd = os.open(shared / "other", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return lambda: os.pread(fd, 100, 0)

    (shared / "other").write_bytes(b"x" * 9000)
    with contextlib.ExitStack() as stack:
        all_of = [stack.enter_context(acting(fuse, each)) for each in (*[closing] * 3, *[reading] * 10)]
        fuse.command("hang", "shared")
        for _, act in all_of:
            act()
        readers = {pid for pid, _ in all_of[3:]}
        until(lambda: by(look.take(wanted(shared), 20), How.WAITS) >= readers, 10)
        for arguments in (["-v"], ["--explain"]):
            result = plugin(*arguments, str(shared), "-t", "1", below=False, state=False)
            said = " ".join(result.stdout.decode().split())
            assert re.search(r" 10 processes of 1 user wait: reader x10.*; \d+ more probably: ", said), said
            assert "the time was over" not in said
            assert all(re.search(rf"[( ]{pid}[,)]", said) for pid, _ in all_of[:3]), said


# -- processes of all kinds


@contextlib.contextmanager
def living(words: Sequence[str]) -> Iterator[int]:
    """A program that prints a line once it is ready, and lives on."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def python(script: str, *words: object) -> list[str]:
    return [PYTHON, "-I", "-c", script, *map(str, words)]


_OPEN = """
import ctypes, os, signal, sys, threading, time
place = sys.argv[1]
file = open(place + "/file", "w")
def ready():
    os.write(1, b"ready\\n")
    signal.pause()
"""


def test_a_process_whose_main_thread_has_ended(mounts: Mounts) -> None:
    """Its descriptors are those of the threads that live on; those of the main thread are none."""
    place = mounts.tmpfs("place")
    script = f"""{_OPEN}
main = threading.get_native_id()
def act():
    while b"Z" not in open(f"/proc/self/task/{{main}}/stat", "rb").read().rpartition(b") ")[2][:1]:
        time.sleep(0.01)
    os.write(1, b"ready\\n")
    time.sleep(1000)
threading.Thread(target=act).start()
ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone
"""
    with living(python(script, place)) as pid:
        assert state(pid) == "Z"
        assert the_only(pid, look.take(wanted(place), 20)).how is How.OPEN


def test_a_process_in_another_mount_namespace_and_in_a_directory_as_its_root(mounts: Mounts) -> None:
    place = mounts.tmpfs("place")
    (place / "root" / "within").mkdir(parents=True)
    unshared = f"{_OPEN}\nos.close(file.fileno()); os.chdir(place); ready()"
    rooted = f"{_OPEN}\nos.close(file.fileno()); os.chroot(place + '/root'); os.chdir('/within'); ready()"
    with (
        living(["unshare", "-m", *python(unshared, place)]) as elsewhere,
        living(python(rooted, place)) as below,
        living(python(f"{_OPEN}\nready()", place)) as here,
    ):
        told = look.take(wanted(place), 20)
        assert told.is_whole
        assert (the_only(elsewhere, told).how, the_only(elsewhere, told).elsewhere) == (How.STANDS, True)
        assert (the_only(below, told).how, the_only(below, told).elsewhere) == (How.STANDS, False)
        assert the_only(here, told).how is How.OPEN


def test_a_file_of_a_mount_that_another_one_covers_is_told_by_its_mount(mounts: Mounts) -> None:
    """The text of the link is the same for both."""
    place = mounts.tmpfs("place")
    lower = wanted(place)
    with living(python(f"{_OPEN}\nready()", place)) as before:
        mounts.mount_at(place, "tmpfs")
        upper = wanted(place)
        with living(python(f"{_OPEN}\nready()", place)) as after:
            assert by(look.take(lower, 20), *How) == {before}
            told = look.take(Wanted(upper.mounts[1:], frozenset()), 20)
            assert by(told, *How) == {after}


def test_who_stands_in_what_was_unmounted_lazily_stands_in_no_mount_of_that_name(
    mounts: Mounts, plugin: Plugin
) -> None:
    """The text of a link to such a mount begins at the mount's own root directory."""
    other, old = mounts.tmpfs("other"), mounts.tmpfs("old")
    inside = old / str(other).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "file").touch()
    command = [PYTHON, "-c", "import sys; file = open('file'); print(flush=True); sys.stdin.read()"]
    pids = {}
    for place in (inside, other):
        (place / "file").touch()
        pids[place] = subprocess.Popen(command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdout = pids[place].stdout
        assert stdout is not None and stdout.readline()
    mounts.detach(old)
    assert os.readlink(f"/proc/{pids[inside].pid}/cwd") == str(other)
    try:
        (mount,) = [
            each for each in mounttable.read("/proc/self/mountinfo")[0] if each.mount_point == os.fsencode(other)
        ]
        found = look.take(Wanted((mount,), frozenset()), 30.0)
        # Where the kernel knows 9p, the text decides.
        wrong = {pids[inside].pid} if procfs.knows_9p() else set()
        assert {each.pid for each in found.processes} == {pids[other].pid} | wrong
        pid = pids[inside].pid  # of what it uses, nobody knows
        until(lambda: pid in json.loads(asked(plugin, str(other), "--json").stdout)["unlisted"])
        until(lambda: "unmounted lazily; nobody can say whether" in asked(plugin, str(other)).stdout.decode())
    finally:
        for each in pids.values():
            each.communicate(timeout=60)


def test_a_hostile_name_breaks_no_output(mounts: Mounts, plugin: Plugin) -> None:
    place = mounts.tmpfs("place")
    name = "libc = ctypes.CDLL(None); libc.prctl(15, b') R 1\\n|\\x1b[31m')"
    with living(python(f"{_OPEN}\n{name}; ready()", place)) as pid:
        (each,) = look.take(wanted(place), 20).processes
        assert (each.pid, each.name) == (pid, b") R 1\n|\x1b[31m")
        result = asked(plugin, str(place), "-v")
        assert len(result.lines) == 4
        assert f"pid {pid} () R 1\\012\\174\\033[31m), user 0" in result.lines[2]


def test_a_look_that_has_no_time_says_so(mounts: Mounts) -> None:
    place = mounts.tmpfs("place")
    with sleeping(place):
        told = look.take(wanted(place), 0)
    assert not told.is_whole
    assert told.incomplete[-1] == "the time was over before all processes were looked at"


# -- what may be said


def _users(cut: bool, *processes: Process, probable: Sequence[Process] = ()) -> Users:
    return Users(processes, tuple(probable), ("the time was over",) if cut else (), not cut)


def _process(pid: int, how: How, mount: Mount, name: bytes = b"p") -> Process:
    device = None if how is How.PROBABLY else mount.device
    return Process(pid, 1, 0, name, "", "D", None, how, device)


_ONE = mounttable.parse_line(b"1 0 0:1 / /one rw - nfs filer:/one rw")
_TWO = mounttable.parse_line(b"2 0 0:2 / /two rw - nfs filer:/two rw")


@pytest.mark.parametrize("cut", [False, True])
def test_a_look_that_was_cut_short_claims_nothing_of_what_it_did_not_see(cut: bool) -> None:
    least, none = ("at least ", grouping.NONE_SEEN) if cut else ("", "no process")
    nobody = _users(cut)
    assert users._summary([_ONE], nobody).startswith(none)
    assert next(users._lines([_ONE], nobody, 0)).endswith(f": {none}")
    told = " ".join([*hanging._waiting(_ONE, nobody, (), frozenset((_ONE.device,))), *hanging._holding(nobody)])
    assert told.count(grouping.NONE_SEEN) == (2 if cut else 0)
    finding = Finding(_ONE.mount_point, _ONE, Condition.TIMED_OUT)
    remarks = hanging._with_line(finding, nobody, True).remarks
    assert remarks == ((f"{grouping.NONE_SEEN} that waits",) if cut else ())
    some = _users(cut, _process(1, How.WAITS, _ONE), _process(2, How.OPEN, _ONE))
    assert users._summary([_ONE], some).startswith(f"{least}2 processes use /one")
    words = next(users._lines([_ONE], some, 0)).partition("): ")[2]
    assert words == f"{least}1 process of 1 user waits: p; {least}1 process of 1 user has it open: p"
    assert hanging._with_line(finding, some, True).remarks == (f"{least}1 process of 1 user waits: p",)


def test_who_may_wait_for_several_mounts_is_named_once() -> None:
    told = _users(False, probable=[_process(7, How.PROBABLY, _ONE)])
    for mounts in ([_ONE], [_ONE, _TWO]):
        lines = list(users._lines(mounts, told, 1))
        assert sum("1 process of 1 user probably waits: p" in line for line in lines) == 1, lines
        assert sum("pid 7 " in line for line in lines) == 1, lines
        assert not any("no process" in line for line in lines), lines


def test_workers_of_ours_do_not_count() -> None:
    ours, other = _process(1, How.WAITS, _ONE, b"check_mounts:w"), _process(2, How.WAITS, _ONE)
    told = grouping.without(_users(False, ours, other, probable=[_process(3, How.PROBABLY, _ONE, b"check_mounts:w")]))
    assert (told.processes, told.probable) == ((other,), ())


def test_a_probe_that_hangs_does_not_use_a_mount(fuse: Fuse, plugin: Plugin, shared: Path) -> None:
    fuse.command("hang", "shared")
    plugin(str(shared), "-t", "1", below=False)
    assert len(workers_alive()) == 1
    assert asked(plugin, str(shared)).verdict == f"MOUNTS OK - no process uses {shared}"


# -- the command line


@contextlib.contextmanager
def sleeping(at: Path, *words: str) -> Iterator[int]:
    """A process that stands in a directory."""
    with subprocess.Popen(words or ["sleep", "1000"], cwd=at) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def asked(plugin: Plugin, *arguments: str) -> Result:
    return plugin("--users", *arguments, below=False, state=False)


def test_a_mount_is_found_by_each_of_its_names_and_a_server_by_any(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    one, two = fuse.mount("one", source="filer1:/one"), fuse.mount("two", source="filer1:/two")
    again = mounts.bind(one, "again")
    with sleeping(one) as first, sleeping(two) as second:
        for word in (str(one), f"{one}/", str(again), "filer1:/one"):
            result = asked(plugin, word, "-v")
            assert result.code == 0
            assert result.verdict == f"MOUNTS OK - 1 process uses {'2 mounts' if 'filer' in word else word.rstrip('/')}"
            assert " (fuse.test filer1:/one): 1 process of 1 user stands in it: sleep" in result.lines[1]
            assert result.lines[2].startswith(f"  pid {first} (sleep), user 0")
            assert result.lines[2].endswith(": stands in it")
        result = asked(plugin, "filer1", "--json")
        found = json.loads(result.stdout)
        assert {each["pid"] for each in found["processes"]} == {first, second}
        assert [each["mount_point"] for each in found["mounts"]] == list(map(str, (one, two, again)))
        assert found["counts"] == {"waits": 0, "probably": 0, "open": 0, "stands": 2, "root": 0, "runs": 0}


def test_a_mount_that_nobody_uses(mounts: Mounts, plugin: Plugin) -> None:
    result = asked(plugin, str(mounts.tmpfs("idle")))
    assert (result.code, result.verdict) == (0, f"MOUNTS OK - no process uses {mounts.base}/idle")


def test_a_name_that_nothing_has_is_unknown(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    fuse.mount("one", source="filer1:/one")
    (mounts.base / "link").symlink_to("one")
    for word, why in (
        (f"{mounts.base}/ones", f"'{mounts.base}/ones' is no mount point; links are not followed; the nearest is "),
        (f"{mounts.base}/link", f"'{mounts.base}/link' is no mount point; links are not followed"),
        ("filer2", "no mount has a server 'filer2'; the nearest is 'filer1'"),
        ("a\nb|c", "no mount has a server 'a\\012b\\174c'"),
        ("", "no mount has a server ''"),
    ):
        result = asked(plugin, word)
        assert (result.code, result.lines[0].startswith(f"MOUNTS UNKNOWN - argument --users: {why}")) == (3, True), (
            result.lines
        )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--daemon"], "--users: does not go with --daemon"),
        (["-t", "3"], "--timeout: does not go with --users"),
        (["--as", "self"], "--as: does not go with --users"),
        (["/home"], "MOUNTPOINT: does not go with --users, which may be repeated"),
        (["--table"], "--users: does not go with --table"),
    ],
)
def test_what_does_not_go_with_it(plugin: Plugin, arguments: list[str], why: str) -> None:
    result = asked(plugin, "/", *arguments)
    assert (result.code, result.lines[0]) == (3, f"MOUNTS UNKNOWN - argument {why}")


def test_an_ordinary_user_sees_own_processes_and_is_told_so(mounts: Mounts, public: Path) -> None:
    one = mounts.tmpfs("one")
    with sleeping(one), sleeping(one, "setpriv", "--reuid", "1234", "--clear-groups", "sleep", "1000") as own:
        until(lambda: Path(f"/proc/{own}/comm").read_text() == "sleep\n")
        command = [
            "setpriv",
            "--reuid",
            "1234",
            "--clear-groups",
            PYTHON,
            "-m",
            "check_mounts",
            "--users",
            str(one),
            "-v",
        ]
        result = subprocess.run(command, cwd=public, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    assert (result.returncode, lines[0]) == (0, f"MOUNTS OK - 1 process uses {one}")
    assert lines[2].startswith(f"  pid {own} (sleep), user 1234")
    assert re.fullmatch(
        r"note: \d+ processes of other users could not be looked into: only root \(with CAP_SYS_PTRACE\) sees all",
        lines[3],
    )


# -- what the text says


@pytest.mark.parametrize(
    ("fs_type", "source", "options", "words", "others"),
    [
        (
            "nfs4",
            "filer1:/x",
            "rw,addr=10.0.0.5",
            ["filer1", "Filer1", "10.0.0.5", "filer1:/x"],
            ["filer", "10.0.0.7"],
        ),
        ("nfs4", "[fd00::1]:/x", "rw,addr=fd00::1", ["[fd00::1]", "fd00::1", "fd00:0:0::1"], ["fd00::2", "fd00"]),
        ("cifs", "//srv/share", "rw", ["srv", "//srv/share"], ["share", "/srv", "srv/share"]),
        ("lustre", "10.1.0.1@o2ib:/scratch", "rw", ["10.1.0.1@o2ib", "10.1.0.1"], ["o2ib"]),
        ("ceph", "mon1:6789,mon2:6789:/", "rw", ["mon1", "mon2"], ["mon3"]),
        ("ext4", "/dev/sda1", "rw", ["/m", "/m/", "/dev/sda1"], ["sda1", "/", "m"]),
    ],
)
def test_names_of_servers(fs_type: str, source: str, options: str, words: list[str], others: list[str]) -> None:
    mount = mounttable.parse_line(f"1 0 0:1 / /m rw - {fs_type} {source} {options}".encode())
    for word in words:
        assert users._chosen([mount], [word]) == (mount,), word
    for word in others:
        with pytest.raises(UsageError):
            users._chosen([mount], [word])


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/apache2.service\n", "apache2.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/foot.service\n", "foot.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "user@1000.service"),
        ("0::/system.slice/docker-0123abcd.scope\n", "docker-0123abcd.scope"),
        ("0::/system.slice/docker-0123abcd.scope/system.slice/cron.service\n", "docker-0123abcd.scope"),
        ("12:pids:/docker/0123abcd\n1:name=systemd:/docker/0123abcd\n0::/\n", "docker/0123abcd"),
        ("4:memory:/machine.slice/libpod-77.scope\n1:name=systemd:/machine.slice/libpod-77.scope\n", "libpod-77.scope"),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-9f.scope\n", "cri-containerd-9f.scope"),
        ("0::/kubepods.slice/kubepods-pod1.slice/crio-9f.scope/container\n", "crio-9f.scope"),
        ("0::/kubepods/besteffort/pod1/9f\n", "kubepods/besteffort/pod1/9f"),
        ("0::/lxc.payload.web/system.slice/apache2.service\n", "lxc.payload.web"),
        ("1:name=systemd:/system.slice/cron.service\n0::/\n", "cron.service"),
        ("4:cpu:/\n1:name=systemd:/\n0::/system.slice/cron.service\n", "cron.service"),
        ("0::/../../system.slice/cron.service\n", "cron.service"),
        ("0::/system.slice/gone.service (deleted)\n", "gone.service"),
        ("0::/system.slice/a\x1b|b.service\n", "a\\033\\174b.service"),
        ("0::/\n", ""),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_units(cgroup: str, unit: str) -> None:
    assert cgroups.unit_of(cgroup.encode()) == unit
