"""Where the daemon's result is kept: what is not replaced, what is mounted over it, a full disk,
names that cannot be."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts import cache
from check_mounts.daemon import status_file
from check_mounts.system import directories, replacing
from tests.conftest import Fuse, Mounts, Plugin, Result, until
from tests.daemon import Daemon, daemon, descriptors

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def refusal(daemon: Daemon, *arguments: str) -> str:
    """Why it does not start; one that does is a failure, and ended by the fixture."""
    process = daemon.start(*arguments, first=False)
    until(lambda: process.poll() is not None or "\nChecking every" in daemon.log)
    assert process.poll() == 3, daemon.log
    line = Result(process).lines[0]
    daemon._started.pop()
    assert line.startswith("MOUNTS UNKNOWN - ")
    assert daemon.log == "\n"
    return line[len("MOUNTS UNKNOWN - ") :]


def identity(path: Path) -> tuple[int, int, int, int, bytes]:
    """What would be another if it were replaced, opened for writing or given another mode."""
    status = path.lstat()
    content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
    return status.st_ino, status.st_mode, status.st_rdev, status.st_mtime_ns, content


def copy_of_null(path: Path) -> None:
    """A node of our own: that of the system is not to be tried on."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def link(path: Path) -> None:
    path.with_name("victim").write_text("precious")
    path.symlink_to("victim")


def precious(path: Path) -> None:
    path.write_text("precious\n")


MADE: list[tuple[Callable[[Path], None], str]] = [
    (copy_of_null, "it is not a regular file"),
    (os.mkfifo, "it is not a regular file"),
    (os.mkdir, "it is not a regular file"),
    (link, "it is a symbolic link"),
    (precious, "it is not a file that check_mounts has written"),
]


@pytest.mark.parametrize("name", ["status", "status.json", "status.pid", "x.prom"])
def test_what_is_not_ours_is_not_replaced(daemon: Daemon, name: str) -> None:
    directory = daemon.cache.parent
    directory.mkdir(mode=0o755)
    path = directory / name
    option = "--metrics" if name == "x.prom" else "--cache"
    for make, why in MADE:
        make(path)
        before = identity(path)
        arguments = ["--metrics", str(path)] if option == "--metrics" else []
        assert refusal(daemon, *arguments) == f"argument {option}: {path}: {why}, so it is not replaced"
        assert identity(path) == before
        assert set(os.listdir(directory)) <= {name, "victim"}
        if make is os.mkdir:
            path.rmdir()
        else:
            path.unlink()


def test_the_caller_of_a_detached_one_hears_of_it_too(daemon: Daemon, plugin: Plugin) -> None:
    daemon.cache.parent.mkdir(mode=0o755)
    copy_of_null(daemon.cache)
    result = plugin("--daemon", "--cache", str(daemon.cache))
    pid_file = daemon.cache.with_name("status.pid")
    if pid_file.exists():  # not refused: nobody else would end it
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    assert result.code == 3
    assert result.lines == [
        f"MOUNTS UNKNOWN - argument --cache: {daemon.cache}: it is not a regular file, so it is not replaced", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "json", "pid", "metrics"),
    [
        (b"", b"", b"", b""),
        (
            b"check_mounts 7 no more of it",
            b'{"version": 12, "state": "OK", "su',
            b"4194304\n",
            b"check_mounts_state 0.0\n",
        ),
    ],
)
def test_what_is_ours_is_replaced_however_damaged(
    mounts: Mounts, daemon: Daemon, result: bytes, json: bytes, pid: bytes, metrics: bytes
) -> None:
    mounts.tmpfs("home")
    daemon.cache.parent.mkdir(mode=0o755)
    files = {"status": result, "status.json": json, "status.pid": pid, "x.prom": metrics}
    for name, content in files.items():
        (daemon.cache.parent / name).write_bytes(content)
    daemon.start("--metrics", f"{daemon.cache.parent}/x.prom")
    assert daemon.cached().code == 0
    until(lambda: all((daemon.cache.parent / name).read_bytes() != content for name, content in files.items()))
    # And so is what it has written itself.
    daemon.process.kill()
    daemon.process.wait()
    daemon.start("--metrics", f"{daemon.cache.parent}/x.prom")
    assert daemon.stop() == 0


def test_what_takes_the_place_of_the_result_later_is_replaced(mounts: Mounts, daemon: Daemon) -> None:
    """Only a start is refused: later it is a matter of a result that everybody waits for, in a
    directory that is ours."""
    mounts.tmpfs("home")
    daemon.start()
    for make in (link, copy_of_null, precious):
        with daemon.frozen():
            daemon.cache.unlink()
            make(daemon.cache)
            daemon.cache.with_name("status.pid").unlink()  # so that all of it is made again
        daemon.until(lambda result: result.code == 0)
        assert stat.S_ISREG(daemon.cache.lstat().st_mode)
    assert daemon.cache.with_name("victim").read_text() == "precious"


@pytest.mark.parametrize("over", ["place", "place/run"])
def test_what_hangs_is_mounted_over_the_directory(mounts: Mounts, fuse: Fuse, daemon: Daemon, over: str) -> None:
    """Or over one above it, after the start: one line in the log, and the daemon goes on, and
    ends."""
    mounts.tmpfs("home")
    daemon.cache = mounts.point("place/run") / "status"
    daemon.start("--metrics", f"{daemon.cache.parent}/x.prom")
    mounted = fuse.mount(over)
    fuse.command("hang", over)
    try:
        words = f"Cannot write {daemon.cache}: {daemon.cache} is on fuse.test, which may hang"
        until(lambda: daemon.says(words))
        daemon.until_checked(2)
        assert sum(line.startswith(f"Cannot write {daemon.cache}:") for line in daemon.lines) == 1
        # Once it is gone, all is as before; nobody has looked into it meanwhile but the probes.
        mounts.detach(mounted)
        until(lambda: daemon.says(f"No longer: {words}"))
        daemon.until(lambda result: result.code == 0)
        mounted = fuse.mount(over)
        fuse.command("hang", over)
        until(lambda: daemon.says(words, 2))
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        fuse.command("answer", over)


@pytest.mark.parametrize("suffix", ["", ".json", ".pid"])
def test_what_hangs_is_mounted_over_a_file(mounts: Mounts, fuse: Fuse, daemon: Daemon, suffix: str) -> None:
    """Of a name only, as a bind mount of somebody's file is."""
    mounts.tmpfs("home")
    daemon.cache = mounts.point("place/run") / "status"
    daemon.start()
    hung = fuse.mount("hung")
    path = Path(f"{daemon.cache}{suffix}")
    # The FUSE server has directories only, so there is one for it to be mounted over.
    with daemon.frozen():
        path.unlink()
        path.mkdir()
        mounts.mount_at(path, "none", str(hung), flags=4096)
        fuse.command("hang", "hung")
    try:
        until(lambda: daemon.says(f"Cannot write {daemon.cache}: {path} is on fuse.test, which may hang"))
        daemon.until_checked(2)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        fuse.command("answer", "hung")


def fill(directory: Path) -> Path:
    """Leave no room on a filesystem."""
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return filler


def full(mounts: Mounts, fuse: Fuse, daemon: Daemon, count: int, *arguments: str) -> Path:
    """A daemon over ``count`` mounts that are well, whose result is on a disk that has become
    full."""
    for number in range(count):
        fuse.mount(f"m{number}")
    mounts.point("place")
    daemon.cache = mounts.tmpfs("place/run", "size=256k,mode=0755") / "status"
    daemon.interval = 3600
    daemon.start("-X", "tmpfs", *arguments)
    assert daemon.cached().code == 0
    # Between two passes, so that nothing of it is free in a moment.
    return fill(daemon.cache.parent)


def test_a_full_disk_keeps_a_result_that_is_still_true(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    filler = full(mounts, fuse, daemon, 1)
    before = identity(daemon.cache)
    daemon.check()
    words = f"Cannot write {daemon.cache}: No space left on device"
    assert daemon.says(words)
    assert identity(daemon.cache) == before
    assert daemon.cached().code == 0
    filler.unlink()
    daemon.check()
    assert daemon.says(f"No longer: {words}")
    assert identity(daemon.cache) != before


def test_a_full_disk_has_room_for_a_result_as_short_as_the_old_one(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """Both fill one page."""
    full(mounts, fuse, daemon, 1, "--perfdata", "none")
    fuse.command("hang", "m0")
    daemon.check()
    assert daemon.cached().code == 2
    assert daemon.cache.with_name("status.json").read_bytes().startswith(b'{"version": 1, "state": "CRITICAL"')


def test_a_full_disk_does_not_keep_what_is_no_longer_true(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    """The result of mounts that hang is longer by far: it has no room, and that of before is not
    there any more either."""
    filler = full(mounts, fuse, daemon, 40)
    before = daemon.cache.stat().st_size
    for number in range(40):
        fuse.command("hang", f"m{number}")
    daemon.check()
    assert daemon.says(f"Cannot write {daemon.cache}: No space left on device")
    cached = daemon.cached()
    assert (cached.code, cached.verdict.partition(":")[0]) == (3, f"MOUNTS UNKNOWN - {daemon.cache} is not there")
    json = daemon.cache.with_name("status.json")
    assert not json.exists() or json.read_bytes().startswith(b'{"version": 1, "state": "CRITICAL"')
    filler.unlink()
    daemon.check()
    assert daemon.cached().code == 2
    assert daemon.cache.stat().st_size > before + 4096


def test_metrics_of_a_full_disk_stay(mounts: Mounts) -> None:
    """Without a verdict that would be another, nothing is removed."""
    directory = mounts.tmpfs("full", "size=64k,mode=0755")
    (directory / "x.prom").write_text("check_mounts_state 0.0\n")
    link(directory / "y.prom")
    fill(directory)
    fd = os.open(directory, os.O_RDONLY)
    for name in ("x.prom", "y.prom"):
        with pytest.raises(OSError, match="No space left"):
            replacing.replace_in(fd, name, b"x" * 10000)
    assert sorted(os.listdir(directory)) == ["filler", "victim", "x.prom", "y.prom"]
    os.close(fd)


def test_no_descriptor_is_lost_where_a_lock_cannot_be_written(mounts: Mounts) -> None:
    directory = mounts.tmpfs("full", "size=64k,mode=0755")
    fill(directory)
    fd = os.open(directory, os.O_RDONLY)
    before = descriptors(os.getpid())
    with pytest.raises(OSError, match="No space left"):
        directories.Lock("pid", fd)
    assert descriptors(os.getpid()) == before
    os.close(fd)


def test_names_that_cannot_be(daemon: Daemon, plugin: Plugin, tmp_path: Path) -> None:
    longest = "n" * 237
    for words, expected in (
        (
            ("/x",),
            "argument --cache: '/x' is in the root directory: "
            "the result needs a directory of its own, as in /run/check_mounts/status",
        ),
        (("/run/../x",), "argument --cache: '/run/../x' is in the root directory: "),
        (("//x",), "argument --cache: '//x' is in the root directory: "),
        ((f"{tmp_path}/run/{longest}n",), "argument --cache: the name of the file is too long by 1 byte"),
        ((f"{tmp_path}/run/{'n' * 250}",), "argument --cache: the name of the file is too long by 13 bytes"),
        ((f"{tmp_path}/run/{'ü' * 119}",), "argument --cache: the name of the file is too long by 1 byte"),
        (
            (f"{tmp_path}/run/x", "--metrics", f"{tmp_path}/{'n' * 238}.prom"),
            "argument --metrics: the name of the file is too long by 1 byte",
        ),
        (
            (f"{tmp_path}/c/x.prom", "--metrics", f"{tmp_path}/c//x.prom"),
            "argument --metrics: this is a file of --cache",
        ),
        (
            (f"{tmp_path}/c/x.prom", "--metrics", f"{tmp_path}/c/d/../x.prom"),
            "argument --metrics: this is a file of --cache",
        ),
    ):
        result = plugin("--daemon", "--cache", *words)
        assert result.code == 3
        assert result.lines[0].startswith(f"MOUNTS UNKNOWN - {expected}"), result.lines[0]
    assert not (tmp_path / "run").exists()


def test_the_longest_names_work(mounts: Mounts, daemon: Daemon) -> None:
    mounts.tmpfs("home")
    daemon.cache = daemon.cache.with_name("n" * 237)
    metrics = daemon.cache.with_name("m" * 237 + ".prom")
    daemon.start("--metrics", str(metrics))
    assert daemon.cached().code == 0
    assert daemon.cache.with_name(daemon.cache.name + ".json").exists()
    until(metrics.exists)
    assert not any("Cannot write" in line for line in daemon.lines)


def test_the_root_directory_is_not_ours_alone() -> None:
    for path in ("/", "//"):
        with pytest.raises(directories.Unusable, match="root directory"):
            directories.open_directory(path)


# -- what is taken for a result

TEXTS = [b"MOUNTS OK - 1\n"] * 4
BOOT = b"ee40b5b1-4d37-456a-9fe7-e12c3b1ebba1"


def sealed(header: bytes, body: bytes) -> bytes:
    """With a checksum that is right."""
    return header + cache.checksum(header, body) + b"\n" + body


def test_a_device_is_not_to_be_removed(tmp_path: Path, plugin: Plugin) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    path = tmp_path / "run/null"
    copy_of_null(path)
    result = plugin("--cached", "--cache", str(path), below=False, state=False)
    words = f"MOUNTS UNKNOWN - {path} is not a regular file: name the file that the daemon writes, its --cache"
    assert (result.code, result.lines) == (3, [words, ""])


def test_sealed() -> None:
    header = b"check_mounts 1 OK 1.500000000 2.000000000 %b 14,14,14,14 " % BOOT
    assert sealed(header, b"".join(TEXTS)) == status_file.compose(cache.Result(0, TEXTS, 1.5, 2.0, BOOT))


@pytest.mark.parametrize(
    ("taken", "valid_until"),
    [
        (b"-inf", b"inf"), (b"1.500000000", b"inf"), (b"-inf", b"2.000000000"), (b"nan", b"nan"),
        (b"-1.000000000", b"2.000000000"),
        (b"1.500000000", b"1000000000000.000000000"), (b"2.000000000", b"1.500000000"), (b"1.5", b"2.000000000"),
        (b"1.500000000", b"2e0"), (b"1_0.500000000", b"20.000000000"), (b"+1.500000000", b"2.000000000"),
    ],
)  # fmt: skip
def test_times_that_are_never_written_are_not_read(taken: bytes, valid_until: bytes) -> None:
    header = b"check_mounts 1 OK %b %b %b 14,14,14,14 " % (taken, valid_until, BOOT)
    with pytest.raises(cache.Malformed, match="header"):
        cache.parse(sealed(header, b"".join(TEXTS)))


@pytest.mark.parametrize("text", [b"\n", b"\n\n", b"\nMOUNTS OK\n", b"MOUNTS OK"])
def test_texts_that_are_never_written_are_not_read(text: bytes) -> None:
    header = b"check_mounts 1 OK 1.500000000 2.000000000 %b " % BOOT + b",".join([b"%d" % len(text)] * 4) + b" "
    with pytest.raises(cache.Malformed):
        cache.parse(sealed(header, text * 4))
    with pytest.raises(ValueError, match="finished"):
        status_file.compose(cache.Result(0, [text] * 4, 1.5, 2.0, BOOT))


@pytest.mark.parametrize("lengths", [b"014,14,14,14", b"+14,14,14,14", b"1_4,14,14,14"])
def test_lengths_that_are_never_written_are_not_read(lengths: bytes) -> None:
    header = b"check_mounts 1 OK 1.500000000 2.000000000 %b %b " % (BOOT, lengths)
    with pytest.raises(cache.Malformed, match="header"):
        cache.parse(sealed(header, b"".join(TEXTS)))


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 123456.789, 8388608.1, 1e8 / 3, 1e10 / 7, 1e12 / 1.1])
def test_all_times_that_are_written_are_read(scale: float) -> None:
    for number in range(1, 200):
        taken = scale * number / 200
        result = cache.parse(status_file.compose(cache.Result(0, TEXTS, taken, scale, BOOT)))
        assert abs(result.taken - taken) <= 1e-9


def test_without_a_boot_no_result_of_another_state_stays(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = mounts.tmpfs("run")
    fd = os.open(directory, os.O_RDONLY)
    status_file.write_in(fd, "status", 0, TEXTS, 1.0, 2.0)
    monkeypatch.setattr(cache, "_BOOT_ID", "/dev/null")
    for state, left in ((0, ["status"]), (3, [])):
        with pytest.raises(OSError, match="Input/output error"):
            status_file.write_in(fd, "status", state, TEXTS, 1.0, 2.0)
        assert os.listdir(directory) == left
    os.close(fd)
