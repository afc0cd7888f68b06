"""The daemon's result file: what is written is printed as it is, and whatever is wrong with it is
UNKNOWN in one line."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from check_mounts import cache
from check_mounts.daemon import status_file
from check_mounts.system import replacing
from tests.conftest import PYTHON, ROOT, Mounts, ageless, until

TEXTS = (
    b"MOUNTS WARNING - 1 of 2 mounts failed: /srv | mounts=2 ok=1\n",
    b"MOUNTS WARNING - 1 of 2 mounts failed: /srv | mounts=2 ok=1\nWARNING: /srv (ext4) denied\n",
    "MOUNTS WARNING - 1 of 2 mounts failed: /srv | mounts=2 ok=1\n"
    "WARNING: /srv (ext4) denied\nOK: /home/ü (ext4)\n".encode(),
    b"MOUNTS WARNING - 1 of 2 mounts failed: /srv | mounts=2 ok=1\n"
    b"WARNING: /srv (ext4) denied\nOK: /home (ext4)\nstat 0.001 s\n",
)
# What the shell of every test does first: give the rest of the words to the program.
WITHOUT_STDOUT = ["sh", "-c", 'exec "$@" >&-', "sh"]
LITTLE_MEMORY = ["sh", "-c", 'ulimit -v 80000; exec "$@"', "sh"]
WITHOUT_PROC = ["unshare", "--mount", "sh", "-c", 'umount -l /proc; exec "$@"', "sh"]


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(path: Path, state: int = 1, texts: Sequence[bytes] = TEXTS, age: float = 0, valid: float = 600) -> None:
    taken = now() - age
    status_file.write(str(path), state, texts, taken, taken + valid)


def ask(
    path: object, *arguments: str | bytes, wrapper: Sequence[str] = (), program: Path = ROOT
) -> subprocess.CompletedProcess[bytes]:
    """The command line on a file; a hang is a failure."""
    command = [*wrapper, PYTHON, "-m", "check_mounts", "--cached", f"--cache={path}", *arguments]
    return subprocess.run(
        command,
        env={"PYTHONPATH": str(program), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=20,
        check=False,
    )


def refusal(path: object, *arguments: str | bytes, wrapper: Sequence[str] = (), program: Path = ROOT) -> str:
    """The reason that the command line gives for printing no result."""
    return reason(ask(path, *arguments, wrapper=wrapper, program=program))


def reason(result: subprocess.CompletedProcess[bytes]) -> str:
    assert (result.returncode, result.stderr) == (3, b""), result
    line = result.stdout.decode()
    assert line.startswith("MOUNTS UNKNOWN - ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "|" not in line
    return line[len("MOUNTS UNKNOWN - ") : -1]


@pytest.fixture
def status(tmp_path: Path) -> Path:
    """Where a result would be, in a directory that nobody else can write to."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    return directory / "status"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("prefix")
    install(f"PREFIX={prefix}")
    return prefix


def install(*arguments: str) -> None:
    """As with root's umask at its strictest, which is not to keep others from running the
    program."""
    subprocess.run(["make", "-s", "-C", ROOT, "install", *arguments], check=True, capture_output=True, umask=0o077)


def modules(command: Sequence[str]) -> set[str]:
    """What an interpreter imports on the way, built in or not."""
    result = subprocess.run([PYTHON, "-IS", "-X", "importtime", *command], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()} - {"imported package"}


# -- what is printed


@pytest.mark.parametrize("state", range(4))
@pytest.mark.parametrize(
    ("arguments", "verbosity"),
    [
        ((), 0),
        (("-v",), 1),
        (("--verbose",), 1),
        (("-vv",), 2),
        (("-v", "--verbose"), 2),
        (("-vvv",), 3),
        (("-vvvvv",), 3),
    ],
)
def test_a_result_is_printed_as_it_was_written(
    status: Path, state: int, arguments: Sequence[str], verbosity: int
) -> None:
    write(status, state)
    result = ask(status, *arguments)
    assert (result.returncode, ageless(result.stdout), result.stderr) == (state, TEXTS[verbosity], b"")


@pytest.mark.parametrize("age", [1.0, 9.0, 59.0])
@pytest.mark.parametrize("verbosity", range(4))
def test_it_says_how_old_it_is(status: Path, age: float, verbosity: int) -> None:
    write(status, age=age)
    result = ask(status, *["-v"] * verbosity)
    first, below = result.stdout.split(b"\n", 1)
    match = re.fullmatch(
        rb"(MOUNTS WARNING - 1 of 2 mounts failed: /srv) \(as of (\d+) s ago\) \| mounts=2 ok=1", first
    )
    assert match and age <= int(match[2]) < age + 60
    assert below == TEXTS[verbosity].split(b"\n", 1)[1]


def test_a_result_without_perfdata_says_how_old_it_is(status: Path) -> None:
    """A bar below the first line is not where its perfdata begins."""
    write(status, 3, [b"MOUNTS UNKNOWN - cannot check\n/home\t0\tMOUNTS OK - x | y=1\n"] * 4, age=7)
    assert re.fullmatch(
        rb"MOUNTS UNKNOWN - cannot check \(as of \d+ s ago\)\n/home\t0\tMOUNTS OK - x \| y=1\n", ask(status).stdout
    )


def test_of_less_than_a_second_nothing_is_said(status: Path) -> None:
    """Whoever asks right after a pass has a result of now."""
    assert cache._with_age(TEXTS[0], 0.99) == TEXTS[0]
    assert cache._with_age(TEXTS[0], 1.0) != TEXTS[0]


def test_the_installed_script_and_that_of_pip_print_it_too(status: Path, installed: Path) -> None:
    write(status)
    for script in (installed / "bin/check_mounts", Path(sys.executable).parent / "check_mounts"):
        result = subprocess.run([script, "-v", "--cache", status, "--cached"], env={}, capture_output=True, check=False)
        assert (result.returncode, ageless(result.stdout), result.stderr) == (1, TEXTS[1], b"")


def test_after_two_dashes_it_is_no_option(status: Path) -> None:
    result = subprocess.run(
        [PYTHON, "-m", "check_mounts", "-w", "x", "--", "--cached"], cwd=ROOT, capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (3, b"")
    assert b"\nusage: check_mounts " in result.stdout, "which only the long way round prints"


@pytest.fixture
def in_run() -> Iterator[Path]:
    """Where a result would be, below /run."""
    with tempfile.TemporaryDirectory(prefix="check_mounts-test-", dir="/run") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "status"


@pytest.mark.root
def test_nothing_is_imported_that_takes_time(in_run: Path, installed: Path) -> None:
    status = in_run
    write(status, 0)
    begun = modules(["-c", "pass"])
    imported = modules([str(installed / "bin/check_mounts"), "--cached", f"--cache={status}", "-v"]) - begun
    ours = {"check_mounts", "check_mounts.__main__", "check_mounts.cache"}
    assert ours <= imported
    assert imported - ours <= {"posix", "time", "binascii"}
    heavy = {
        "nagiosplugin",
        "os",
        "argparse",
        "json",
        "logging",
        "typing",
        "re",
        "enum",
        "dataclasses",
        "ctypes",
        "check_mounts.run",
        "site",
    }
    assert not imported & heavy


@pytest.mark.parametrize(
    ("words", "alone"),
    [
        ([], True),
        (["-v", "--max-age=60"], True),
        (["--cache=/run/x/status"], True),
        (["--cache", "/run/x/status"], True),
        (["--cache=/run/x/../../srv/status"], False),
        (["--cache=/var/run/x/status"], False),
        (["--cache=/srv/status"], False),
        (["--cache", "/running/status"], False),
        (["--cache=status"], False),
        (["--cache=/srv/status", "--cache=/run/x/status"], True),
        (["--cache"], True),
        (["--no-such-option", "--cache=/srv/status"], True),
    ],
)
def test_what_lies_below_run_cannot_hang(words: Sequence[str], alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "DEFAULT_PATH", "/run/none/status")  # the real directory may be closed to a user
    assert cache.is_in_run([*words, "--cached"]) is alone


def test_the_header_is_one_line_of_words(status: Path) -> None:
    write(status, 2, age=5, valid=60)
    header, _, body = status.read_bytes().partition(b"\n")
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    lengths = ",".join(str(len(text)) for text in TEXTS).encode()
    match = re.fullmatch(
        rb"check_mounts 1 CRITICAL (\d+\.\d+) (\d+\.\d+) %b %b [0-9a-f]{8}" % (re.escape(boot), lengths), header
    )
    assert match
    assert float(match[2]) - float(match[1]) == pytest.approx(60)
    assert body == b"".join(TEXTS)


def test_a_reader_that_is_gone_changes_no_exit_code(status: Path) -> None:
    write(status, 2)
    assert ask(status, wrapper=WITHOUT_STDOUT).returncode == 2
    command = [PYTHON, "-m", "check_mounts", "--cached", f"--cache={status}"]
    read, gone = os.pipe()
    os.close(read)
    with open("/dev/full", "wb") as full:
        for stdout in (gone, full):
            result = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False)
            assert (result.returncode, result.stderr) == (2, b"")
    os.close(gone)


def test_a_pipe_that_does_not_block_gets_all(status: Path) -> None:
    texts = [text + b"x" * 300_000 + b"\n" for text in TEXTS]
    write(status, texts=texts)
    read, end = os.pipe()
    os.set_blocking(end, False)
    process = subprocess.Popen([PYTHON, "-m", "check_mounts", "--cached", f"--cache={status}"], cwd=ROOT, stdout=end)
    os.close(end)
    with open(read, "rb") as pipe:
        assert ageless(pipe.read()) == texts[0]
    assert process.wait() == 1


# -- what is refused


def test_what_is_not_there(status: Path) -> None:
    asked = "is the daemon running? systemctl status check_mounts"
    assert refusal(status) == f"{status} is not there: {asked}"
    assert refusal(status.parent / "none/status") == f"{status.parent}/none/status is not there: {asked}"
    assert refusal("x|\n\udcff") == f"x\\174\\012\\377 is not there: {asked}"


def test_what_is_too_old(status: Path) -> None:
    # No older than the boot of the machine that tests.
    write(status, age=30, valid=12)
    asked = "is the daemon running? systemctl status check_mounts"
    line = refusal(status)
    assert (
        re.sub(r"3\d(\.\d)? s", "30 s", line) == f"the result in {status} is 30 s old, and was valid for 12 s: {asked}"
    )
    write(status, age=30, valid=600)
    assert ask(status).returncode == ask(status, "--max-age=400").returncode == 1
    line = refusal(status, "--max-age", "10.5")
    assert re.sub(r"3\d(\.\d)? s", "30 s", line) == f"the result in {status} is 30 s old, --max-age is 10.5 s: {asked}"


def test_what_is_from_the_future_or_of_another_boot(status: Path) -> None:
    write(status, age=-3600)
    assert re.search(r" is 3[56]\d\d(\.\d)? s from the future: systemctl restart check_mounts ", refusal(status))
    taken = now()
    other = cache.Result(0, TEXTS, taken, taken + 600, b"00000000-0000-4000-8000-000000000000")
    replacing.replace(str(status), status_file.compose(other))
    assert (
        refusal(status)
        == f"the result in {status} is from another boot: is the daemon running? systemctl status check_mounts"
    )


@pytest.mark.parametrize(
    "times", [(float("nan"), 9.0), (1.0, float("nan")), (float("nan"), float("nan")), (5.0, 4.0), (9.0, 20.0)]
)
def test_times_that_make_no_sense_are_not_the_present(times: tuple[float, float]) -> None:
    with pytest.raises(cache.Refused):
        cache.check_valid(cache.Result(0, TEXTS, *times, b"boot"), "/status", float("inf"), b"boot", 5.0)


def test_what_is_no_regular_file(status: Path) -> None:
    for make in (os.mkfifo, os.mkdir):
        make(status)
        assert refusal(status).startswith(f"{status} is not a regular file: ")
        os.rmdir(status) if status.is_dir() else status.unlink()
    write(status.with_name("other"))
    status.symlink_to("other")
    assert refusal(status).startswith(f"{status} cannot be read: Too many levels of symbolic links (ELOOP): ")
    status.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(status))
        assert refusal(status).startswith(f"{status} cannot be read: No such device or address (ENXIO): ")
    for path in (f"{status.parent}/", f"{status.parent}/.", "/", "..", "/dev/null"):
        assert refusal(path).startswith(f"{path} is not a regular file: ")
    assert refusal(f"{status}/x").startswith(f"{status}/x cannot be read: Not a directory (ENOTDIR): ")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_to(status: Path, mode: int) -> None:
    write(status)
    status.chmod(mode)
    assert refusal(status) == f"users other than its owner can write to {status}: chmod go-w"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_can_write_to(status: Path, mode: int) -> None:
    write(status)
    status.parent.chmod(mode)
    line = f"users other than its owner can write to {status.parent}: chmod go-w, or use another directory"
    assert refusal(status) == line
    status.unlink()
    assert refusal(status) == line, "others can create it"


@pytest.mark.root
def test_whose_file_is_trusted(public: Path) -> None:
    """Root's, the caller's, and that of the owner of the directory; the reader is somebody else, as
    NRPE's user is."""
    place = public / "run"
    place.mkdir()
    place.chmod(0o755)
    status = place / "status"
    write(status)
    nobody = as_user(65534)
    assert ask(status, wrapper=nobody, program=public).returncode == 1
    os.chown(status, 1000, 1000)
    distrust = f"{status} belongs to uid 1000, not to root, the caller or the owner of its directory: chown it"
    assert refusal(status, wrapper=nobody, program=public) == distrust
    assert refusal(status, program=public) == distrust, "root trusts no more than others"
    assert ask(status, wrapper=as_user(1000), program=public).returncode == 1
    os.chown(place, 1000, 1000)
    assert ask(status, wrapper=nobody, program=public).returncode == 1
    os.chown(status, 65534, 65534)
    assert ask(status, wrapper=nobody, program=public).returncode == 1
    assert refusal(status, program=public) == distrust.replace("1000", "65534")


@pytest.mark.root
def test_what_the_reader_may_not_read(public: Path) -> None:
    place = public / "run"
    place.mkdir()
    place.chmod(0o755)
    status = place / "status"
    write(status)
    line = (
        f"{status} cannot be read: Permission denied (EACCES): name a regular file (not a link) that uid 65534 may read"
    )
    status.chmod(0o600)
    assert refusal(status, wrapper=as_user(65534), program=public) == line
    status.chmod(0o644)
    place.chmod(0o711)
    assert ask(status, wrapper=as_user(65534), program=public).returncode == 1, "nothing is listed"
    status.unlink()
    status.mkdir(mode=0o700)
    assert refusal(status, wrapper=as_user(65534), program=public) == line


@pytest.mark.root
def test_a_directory_that_is_closed_to_the_reader(public: Path) -> None:
    """As root's own runs make it; the daemon opens it."""
    place = public / "run"
    place.mkdir(mode=0o700)
    line = (
        f"{place}/status cannot be read: Permission denied (EACCES): {place} is closed to uid 65534: "
        "is the daemon running? systemctl status check_mounts"
    )
    assert refusal(place / "status", wrapper=as_user(65534), program=public) == line
    write(place / "status")
    assert refusal(place / "status", wrapper=as_user(65534), program=public) == line
    assert refusal(place / "a/status", wrapper=as_user(65534), program=public) == line.replace(f"{place}", f"{place}/a")
    assert ask(place / "status", program=public).returncode == 1, "to root it is not"
    place.chmod(0o755)
    assert ask(place / "status", wrapper=as_user(65534), program=public).returncode == 1


def test_who_wants_it_submitted_hears_that_it_is_not(status: Path) -> None:
    """Cron throws stdout away."""
    write(status)
    words = "argument --submit: does not go with --cached"
    result = ask(status, "--submit", "nsca:h")
    assert (result.returncode, result.stdout) == (3, f"MOUNTS UNKNOWN - {words}\n".encode())
    assert result.stderr == f"check_mounts: not submitted: {words}\n".encode()


@pytest.mark.root
def test_without_proc_no_boot_is_known(status: Path) -> None:
    write(status)
    assert refusal(status, wrapper=WITHOUT_PROC).startswith(
        "/proc/sys/kernel/random/boot_id cannot be read: No such file or directory: "
    )


def test_a_boot_that_is_hidden_is_not_known(status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_BOOT_ID", "/dev/null")
    with pytest.raises(OSError, match="Input/output error"):
        write(status)


def test_a_size_that_is_not_ours(status: Path) -> None:
    write(status)
    os.truncate(status, (256 << 20) + 1)
    assert refusal(status) == f"{status} is larger than 256 MiB: systemctl restart check_mounts makes a new one"


def test_what_nobody_expects_is_unknown(status: Path) -> None:
    write(status)
    os.truncate(status, 200 << 20)
    assert refusal(status, wrapper=LITTLE_MEMORY).startswith("internal error: MemoryError")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-w"], "argument -w: does not go with --cached"),
        (["-h"], "argument -h: does not go with --cached"),
        (["/home"], "argument /home: does not go with --cached"),
        ([""], "argument : does not go with --cached"),
        (["-"], "argument -: does not go with --cached"),
        (["v"], "argument v: does not go with --cached"),
        (["-vx"], "argument -vx: does not go with --cached"),
        (["-xv"], "argument -xv: does not go with --cached"),
        (["--verbose=2"], "argument --verbose=2: does not go with --cached"),
        (["--cached=1"], "argument --cached=1: does not go with --cached"),
        (["--cach=x"], "argument --cach=x: does not go with --cached"),
        (["--"], "argument --: does not go with --cached"),
        ([b"a|b\n\x1b[31m\xff\xc3\xa9\\"], "argument a\\174b\\012\\033[31m\\377é\\134: does not go with --cached"),
        (["\u2028\u202e"], "argument \\342\\200\\250\\342\\200\\256: does not go with --cached"),
        (["--cache"], "argument --cache: expected one argument"),
        (["--cache", "-v"], "argument --cache: expected one argument"),
        (["--cache", ""], "argument --cache: '' is not the name of a file"),
        (["--cache="], "argument --cache: '' is not the name of a file"),
        (["--max-age"], "argument --max-age: expected one argument"),
        *(
            ([b"--max-age=" + word], f"argument --max-age: '{shown}' is not a positive number of seconds")
            for word, shown in [
                *(
                    (bad, bad.decode())
                    for bad in (
                        b"",
                        b"0",
                        b"0.0",
                        b".",
                        b"1.2.3",
                        b"nan",
                        b"inf",
                        b"1e3",
                        b"+1",
                        b" 1",
                        b"1_0",
                    )
                ),
                ("\u0661".encode(), "\u0661"),
                (b"1|\n\xff", "1\\174\\012\\377"),
            ]
        ),
        (["--max-age=" + "9" * 400], f"argument --max-age: '{'9' * 400}' is more than a year"),
        (["--max-age=-1"], "argument --max-age: '-1' is not a positive number of seconds"),
    ],
)
def test_options_that_are_wrong(status: Path, arguments: list[str | bytes], line: str) -> None:
    write(status, 0)
    assert refusal(status, *arguments) == line


# -- what is damaged


def small() -> bytes:
    return status_file.compose(
        cache.Result(0, TEXTS, 4400.060766480, 4529.060766480, b"ee40b5b1-4d37-456a-9fe7-e12c3b1ebba1")
    )


def malformed(data: bytes) -> str:
    with pytest.raises(cache.Malformed) as caught:
        cache.parse(data)
    return str(caught.value)


def test_what_was_composed_is_parsed() -> None:
    result = cache.parse(small())
    assert (result.state, list(result.texts)) == (0, list(TEXTS))
    assert (result.taken, result.valid_until, result.boot) == (
        4400.06076648,
        4529.06076648,
        b"ee40b5b1-4d37-456a-9fe7-e12c3b1ebba1",
    )


def test_no_byte_can_be_another() -> None:
    """In the header every other value of every byte, in the texts enough of them."""
    data = bytearray(small())
    header = data.index(b"\n") + 1
    passed = []
    for position, byte in enumerate(bytes(data)):
        others = range(256) if position < header else {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 255 - byte, 0, 10, 32}
        for other in set(others) - {byte}:
            data[position] = other
            try:
                cache.parse(bytes(data))
            except cache.Malformed:
                continue
            passed.append((position, other))
        data[position] = byte
    assert not passed
    assert bytes(data) == small()


def test_no_byte_can_be_missing_at_the_end_or_added() -> None:
    data = small()
    for length in range(len(data)):
        malformed(data[:length])
    for more in (b"\n", b"\0", b" ", TEXTS[0], data):
        assert malformed(data + more) == "length"
        malformed(more + data)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b" OK ", b" CRITICAL ", "checksum"),
        (b" OK ", b" FINE ", "header"),
        (b" 4529.", b" nan", "header"),
        (b"4529.", b"4529,", "header"),
        (b"check_mounts 1", b"check_disk 1", "header"),
        (b"check_mounts 1", b"check_mounts 2", "version"),
        (b"-", b" -", "header"),
        (b",", b",1,", "length"),
        (b",", b",-", "length"),
        (b"/srv", b"/SRV", "checksum"),
        (b"/srv", b"/srv2", "length"),
    ],
)
def test_the_command_line_says_what_is_malformed(status: Path, old: bytes, new: bytes, what: str) -> None:
    write(status, 0)
    data = status.read_bytes().replace(b"%b" % re.findall(rb" \d+\.", status.read_bytes())[1], b" 4529.", 1)
    assert old in data
    replacing.replace(str(status), data.replace(old, new, 1))
    line = refusal(status, "-v")
    assert re.fullmatch(
        rf"{status} is malformed \({what}[^)]*\): systemctl restart check_mounts makes a new one", line
    ), line


@pytest.mark.parametrize("length", [0, 1, 20, 110, 200, -1])
def test_the_command_line_refuses_what_was_cut_off(status: Path, length: int) -> None:
    write(status, 0)
    os.truncate(status, length if length >= 0 else status.stat().st_size + length)
    assert refusal(status).startswith(f"{status} is malformed (")


def test_a_checksum_is_no_proof_of_sense() -> None:
    """Lengths, texts and times that nobody refuses when they are written could not be printed."""
    for state, texts, taken, valid_until in [
        (4, TEXTS, 1.0, 2.0),
        (-1, TEXTS, 1.0, 2.0),
        (0, TEXTS[:3], 1.0, 2.0),
        (0, (*TEXTS[:3], b""), 1.0, 2.0),
        (0, (*TEXTS[:3], b"unfinished"), 1.0, 2.0),
        (0, TEXTS, 2.0, 1.0),
        (0, TEXTS, -1.0, 1.0),
        (0, TEXTS, float("nan"), 1.0),
        (0, TEXTS, 1.0, float("nan")),
        (0, TEXTS, 1.0, float("inf")),
    ]:
        with pytest.raises(ValueError, match="needed"):
            status_file.compose(cache.Result(state, texts, taken, valid_until, b"boot"))


# -- how it is written

WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from check_mounts.daemon import status_file
count = int(sys.argv[3])
print("begun", flush=True)
for number in range(count):
    text = b"MOUNTS OK - %d\\n" % (number % 7) * (100 + 500 * (number % 7))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    status_file.write(sys.argv[2], number % 4, (text, text + text, text, text), now, now + 60)
"""


@contextlib.contextmanager
def writer(path: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that rewrites the file so many times; it has begun. It is killed where it has not
    ended."""
    with subprocess.Popen([PYTHON, "-B", "-c", WRITER, ROOT, path, str(count)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield process
        finally:
            process.kill()


def written_number(path: Path) -> int:
    """Which of the writer's results is there, whole; fails for anything else."""
    result = cache.parse(cache.read(str(path)))
    number = int(result.texts[0][12:13])
    text = b"MOUNTS OK - %d\n" % number * (100 + 500 * number)
    assert list(result.texts) == [text, text + text, text, text]
    cache.check_valid(result, str(path), float("inf"), cache.boot_id(), now())
    return number


def test_readers_see_one_result_or_the_next(status: Path) -> None:
    write(
        status,
        texts=[b"MOUNTS OK - 0\n" * 100, b"MOUNTS OK - 0\n" * 200, b"MOUNTS OK - 0\n" * 100, b"MOUNTS OK - 0\n" * 100],
    )
    seen, reads = set(), 0
    with writer(status, 10_000) as process:
        while process.poll() is None:
            seen.add(written_number(status))
            reads += 1
    assert process.returncode == 0
    assert seen == set(range(7))
    assert reads > 500
    assert os.listdir(status.parent) == ["status"]


def test_a_writer_that_is_killed_leaves_a_whole_result(status: Path) -> None:
    with writer(status, 1) as process:
        assert process.wait() == 0
    for number in range(20):
        with writer(status, 1_000_000) as process:
            until(lambda: written_number(status) != 0)
            while written_number(status) != number % 7:  # it is killed at another moment each time
                assert process.poll() is None
        assert process.returncode == -signal.SIGKILL
        written_number(status)
    write(status)
    assert os.listdir(status.parent) == ["status"]


def _killed_while_writing(path: Path) -> None:
    """End a writer without any chance for it to clean up when its temporary file holds 1000
    bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # Python ignores the signal and would get an error instead.
    script = "import signal, sys; sys.path.insert(0, sys.argv[1]); from check_mounts.system import replacing; "
    script += "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); replacing.replace(sys.argv[2], b'x' * 5000)"
    result = subprocess.run([PYTHON, "-B", "-c", script, ROOT, path], preexec_fn=limit, check=False)
    assert result.returncode == -signal.SIGXFSZ


@pytest.mark.parametrize("name", ["status", "check_mounts.prom"])
def test_a_leftover_is_cleared_away_by_the_next(status: Path, name: str) -> None:
    path = status.with_name(name)
    write(path, 2)
    before = path.read_bytes()
    _killed_while_writing(path)
    (leftover,) = set(os.listdir(path.parent)) - {name}
    assert leftover.startswith(".")
    assert not leftover.endswith(".prom")
    assert path.with_name(leftover).stat().st_size == 1000
    assert path.read_bytes() == before
    assert ask(path).returncode == 2
    write(path)
    assert os.listdir(path.parent) == [name]


def test_only_what_is_left_over_is_cleared_away(status: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as alive:
        ours = f".status.{os.getpid()}.new"
        stay = {
            f".status.{alive.pid}.new",
            ".status..new",
            ".status.1x.new",
            ".status2.999999999.new",
            ".x",
            "status.999999999.new",
        }
        for name in {*stay, ours, ".status.999999999.new", f".status.{'9' * 40}.new"}:
            status.with_name(name).symlink_to(status.with_name("victim"))
        write(status)
        assert set(os.listdir(status.parent)) == {"status", *stay}, "ours, too, was one, and it was not written through"


def test_relative_paths(status: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); from check_mounts.system import replacing; "
    script += "replacing.replace('status', b'new', 0o640)"
    subprocess.run([PYTHON, "-B", "-c", script, ROOT], cwd=status.parent, check=True, umask=0o777)
    assert (status.read_bytes(), status.stat().st_mode) == (b"new", 0o100640)


def test_what_cannot_be_replaced_leaves_nothing_behind(status: Path) -> None:
    status.mkdir()
    with pytest.raises(IsADirectoryError):
        write(status)
    with pytest.raises(FileNotFoundError):
        write(Path(f"{status}/none/status"))
    with pytest.raises(OSError):
        replacing.replace(f"{status}/", b"")
    assert os.listdir(status.parent) == ["status"]
    assert os.listdir(status) == []


@pytest.mark.root
def test_a_full_disk_keeps_the_old_result(mounts: Mounts) -> None:
    status = mounts.tmpfs("full", "size=64k,mode=0755") / "status"
    write(status, 2)
    with pytest.raises(OSError, match="No space left"):
        write(status, 0, texts=[text * 1000 for text in TEXTS])
    assert os.listdir(status.parent) == ["status"]
    assert ask(status).returncode == 2


# -- how it is installed


def test_it_is_installed_compiled_readable_and_the_same_each_time(tmp_path: Path, installed: Path) -> None:
    """A user who cannot write there would compile it at each start; builds are to be the same
    whenever they are made."""
    for number, more in (("1", ()), ("2", ()), ("3", ("SOURCE_DATE_EPOCH=1",))):
        (tmp_path / number).mkdir()
        install(f"DESTDIR={tmp_path / number}", "PREFIX=/usr", *more)
    first, second, third = (tmp_path / number / "usr/lib/check_mounts/check_mounts" for number in ("1", "2", "3"))
    compiled = sorted((first / "__pycache__").iterdir())
    assert {path.name.partition(".")[0] for path in compiled} == {path.stem for path in first.glob("*.py")}
    assert (first / "__pycache__").stat().st_mode & 0o777 == 0o755
    for path in compiled:
        data = path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
        assert data[4:8] == bytes(4), "by time"
        assert (third / "__pycache__" / path.name).read_bytes()[4:8] == b"\3\0\0\0", "by hash, and checked"
        assert str(tmp_path).encode() not in data
        assert data == (second / "__pycache__" / path.name).read_bytes()


@pytest.mark.root
def test_nrpes_user_runs_what_root_has_installed(public: Path) -> None:
    place = public / "run"
    place.mkdir()
    place.chmod(0o755)
    write(place / "status")
    install(f"PREFIX={public}/prefix")
    for path in (public / "prefix").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    command = [f"{public}/prefix/bin/check_mounts", "--cached", "--cache", f"{place}/status", "-vvv"]
    result = subprocess.run([*as_user(65534), *command], cwd="/", env={}, capture_output=True, check=False)
    assert (result.returncode, ageless(result.stdout), result.stderr) == (1, TEXTS[3], b"")
