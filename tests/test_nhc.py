"""integrations/nhc/check_mounts.nhc, in a bash that offers what NHC 1.4 and 1.5 offer a check: the
functions die, log, syslog and dbg, $RUNDIR, no globbing, and lines of nhc.conf. NHC itself is in no
distribution that the tests can install."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT, Mounts
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]
pytestmark = pytest.mark.root
SCRIPT = ROOT / "integrations/nhc/check_mounts.nhc"
README = ROOT / "integrations/nhc/README.md"

# As NHC's README says: a failed check calls die with a return code and a message; with -a (all
# checks) that returns 0, otherwise the process ends. A check that is not found has failed as well.
DRIVER = r"""
die() {
    [[ "$1" == +([0-9]) ]] && shift
    printf 'ERROR:  nhc:  Health check failed:  %s\n' "$*"
    [[ "$NHC_CHECK_ALL" == 1 ]] && return 0
    exit 1
}
log() { printf 'LOG:  %s\n' "$*"; }
syslog() { :; }
dbg() { [[ "$DEBUG" != 1 ]] || printf 'DEBUG:  %s\n' "$*"; }
shopt -s extglob
set -f
. "$SCRIPT"
while read -r target bars check; do
    [[ "$target $bars" == '* ||' ]] || continue
    eval $check || { echo "Check $check returned $?"; [[ "$NHC_CHECK_ALL" == 1 ]] || exit 1; }
done < "$CONFFILE"
echo 'Node Health Check completed successfully'
"""


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(), re.M | re.S)


class Nhc:
    """NHC, with a configuration of these checks."""

    def __init__(self, daemon: Daemon, base: Path) -> None:
        self.daemon = daemon
        self._base = base
        self.run_dir = base / "run"
        self.run_dir.mkdir(parents=True)
        self._program = base / "check_mounts"
        path = daemon.plugin.environment["PYTHONPATH"]
        self._program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(path)} exec {PYTHON} -m check_mounts "$@"\n')
        self._program.chmod(0o755)

    def __call__(self, *options: str, conf: str = "", wrapper: tuple[str, ...] = (), **more: str) -> tuple[int, str]:
        check = f"* || check_mounts_cached -f {self.daemon.cache} {' '.join(options)}\n"
        (self._base / "nhc.conf").write_text(conf or check)
        environment = {
            "PATH": os.environ["PATH"],
            "SCRIPT": str(SCRIPT),
            "CONFFILE": str(self._base / "nhc.conf"),
            "RUNDIR": str(self.run_dir),
            "CHECK_MOUNTS": str(self._program),
            **more,
        }
        result = subprocess.run(
            [*wrapper, "bash", "-c", DRIVER], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert result.stderr == ""
        return result.returncode, result.stdout


@pytest.fixture
def nhc(daemon: Daemon, tmp_path: Path) -> Iterator[Nhc]:
    yield Nhc(daemon, tmp_path / "nhc")


PASSED = (0, "Node Health Check completed successfully\n")


def _failed(words: str) -> tuple[int, str]:
    return 1, f"ERROR:  nhc:  Health check failed:  check_mounts_cached:  {words}\n"


def test_it_fails_with_the_reason_and_passes_again(nhc: Nhc, mounts: Mounts) -> None:
    path = mounts.tmpfs("data")
    nhc.daemon.start("--expect", str(path))
    assert nhc() == PASSED
    mounts.detach(path)
    nhc.daemon.until(lambda result: result.code == 2)
    assert nhc() == _failed(f"1 of 1 mounts failed: {path} missing: not mounted (--expect)")
    mounts.tmpfs("data")
    nhc.daemon.until(lambda result: result.code == 0)
    assert nhc() == PASSED
    assert list(nhc.run_dir.iterdir()) == []
    assert nhc(DEBUG="1")[1].startswith("DEBUG:  check_mounts_cached:  OK\n")


def test_with_all_checks_die_returns(nhc: Nhc, mounts: Mounts) -> None:
    nhc.daemon.start("--expect", str(mounts.point("data")))
    code, output = nhc(NHC_CHECK_ALL="1")
    assert (code, output.count("Health check failed")) == (0, 1)


@pytest.mark.parametrize(("options", "fails"), [((), False), (("-w",), True), (("-u",), False), (("-uw",), True)])
def test_a_warning(nhc: Nhc, mounts: Mounts, options: tuple[str, ...], fails: bool) -> None:
    mounts.tmpfs("closed", "mode=0")
    nhc.daemon.start()
    code, output = nhc(*options)
    assert (code, "closed (tmpfs none) denied" in output) == (int(fails), fails)


def test_no_result_changes_nothing(nhc: Nhc, mounts: Mounts) -> None:
    path = mounts.tmpfs("data")
    said = "check_mounts_cached:  UNKNOWN, which changes nothing:  "
    code, output = nhc()
    assert (code, output.startswith(f"LOG:  {said}")) == (0, True), output
    assert nhc("-u")[0] == 1
    assert nhc()[0] == 0  # no failure of a mount is remembered for that
    nhc.daemon.start("--expect", str(path))
    mounts.detach(path)
    nhc.daemon.until(lambda result: result.code == 2)
    assert nhc()[0] == 1
    nhc.daemon.stop()
    nhc.daemon.cache.unlink(missing_ok=True)
    code, output = nhc()
    assert (code, "failed before, and now there is no result: " in output) == (1, True)
    mounts.tmpfs("data")
    nhc.daemon.start("--expect", str(path))
    assert nhc() == PASSED


def test_a_run_directory_that_cannot_be_written(nhc: Nhc, mounts: Mounts) -> None:
    nhc.daemon.start("--expect", str(mounts.point("data")))
    assert nhc(RUNDIR="/nonexistent")[0] == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a \"b' c;d|e$(f)`g`\\h", "a ?b? c?d?174e?(f)?g??134h"),
        ("line\nMOUNTS OK - x", "line?012MOUNTS OK - x"),
        ("x (as of 3 s ago) y", "x (as of 3 s ago) y"),
        ("ü\x1b[31m*?[", None),
    ],
)
def test_a_name_that_means_something_to_others(nhc: Nhc, mounts: Mounts, name: str, shown: str) -> None:
    nhc.daemon.start("--expect", str(mounts.base / name))
    code, output = nhc()
    assert (code, output.count("\n")) == (1, 1)
    assert re.fullmatch(r"[A-Za-z0-9 ./:_,()+@%?\n-]+", output), output
    assert shown is None or f"/{shown} missing" in output


def test_a_long_message_is_cut(nhc: Nhc, mounts: Mounts) -> None:
    nhc.daemon.start("--expect", f"{mounts.base}/{'x/' * 1000}")
    assert len(nhc()[1]) < 300


@pytest.mark.parametrize(
    ("option", "words"), [("-x", "Invalid option:  -x"), ("-f", "Option -f requires an argument.")]
)
def test_wrong_options(nhc: Nhc, option: str, words: str) -> None:
    assert nhc(conf=f"* || check_mounts_cached {option}\n") == _failed(words)


def test_a_program_that_is_not_there(nhc: Nhc) -> None:
    assert nhc("-u", CHECK_MOUNTS="/nonexistent/check_mounts")[0] == 1


@pytest.mark.parametrize("code", [0, 1, 2])
def test_an_exit_code_without_a_verdict_changes_nothing(nhc: Nhc, tmp_path: Path, code: int) -> None:
    """As of Python that cannot load the program."""
    program = tmp_path / "broken"
    program.write_text(f"#!/bin/sh\necho 'ModuleNotFoundError: No module named' >&2\nexit {code}\n")
    program.chmod(0o755)
    found, output = nhc(CHECK_MOUNTS=str(program))
    assert (found, "UNKNOWN, which changes nothing:  ModuleNotFoundError" in output) == (0, True)
    assert list(nhc.run_dir.iterdir()) == []
    (nhc.run_dir / "check_mounts.failed").touch()
    found, output = nhc(CHECK_MOUNTS=str(program))
    assert (found, "failed before, and now there is no result" in output) == (1, True)


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "file", "directory"])
def test_what_others_put_into_a_run_directory(nhc: Nhc, mounts: Mounts, tmp_path: Path, kind: str) -> None:
    """It is neither believed nor followed."""
    precious, kept = tmp_path / "precious", nhc.run_dir / "check_mounts.failed"
    if kind != "dangling":
        precious.write_text("data")
    plant: dict[str, Callable[[], object]] = {
        "link": lambda: kept.symlink_to(precious),
        "dangling": lambda: kept.symlink_to(precious),
        "fifo": lambda: os.mkfifo(kept),
        "file": kept.touch,
        "directory": kept.mkdir,
    }
    plant[kind]()
    os.chown(kept, 65534, 65534, follow_symlinks=False)
    assert nhc()[0] == 0  # no result, and no failure that is known
    nhc.daemon.start("--expect", str(mounts.point("data")))
    assert nhc()[0] == 1
    assert nhc()[0] == 1
    assert kind == "directory" or (kept.is_file() and not kept.is_symlink() and kept.stat().st_uid == 0)
    assert precious.exists() == (kind != "dangling")
    assert kind == "dangling" or precious.read_text() == "data"


def test_it_starts_one_program_and_changes_no_variable(nhc: Nhc, mounts: Mounts, tmp_path: Path) -> None:
    mounts.tmpfs("data")
    nhc.daemon.start()
    trace = tmp_path / "trace"
    assert (
        nhc(wrapper=("strace", "-f", "-qq", "-e", "trace=execve", "-e", "status=successful", "-o", str(trace)))
        == PASSED
    )
    # bash, the stand-in for the installed program, and Python
    assert trace.read_text().count(" execve(") == 3
    names = (
        "compgen -v | grep -vxE 'BASH.*|PIPESTATUS|_|OPTIND|OPTARG|before|after|COLUMNS|LINES|RANDOM|SRANDOM|EPOCH.*'"
    )
    conf = f"* || before=$({names})\n* || check_mounts_cached -f {nhc.daemon.cache}\n* || after=$({names})\n"
    assert nhc(conf=conf + '* || [[ "$before" == "$after" ]]\n') == PASSED


def test_the_lines_of_the_readme(nhc: Nhc, mounts: Mounts) -> None:
    first, second = _blocks("conf")
    mounts.tmpfs("closed", "mode=0")
    nhc.daemon.start()
    assert (
        nhc(conf=second.replace("/run/mounts/status", str(nhc.daemon.cache)).replace("/opt/", "/nonexistent/"))[0] == 0
    )
    _, check = second.splitlines(keepends=True)
    assert "denied" in nhc(conf=check.replace("/run/mounts/status", str(nhc.daemon.cache)))[1]
    assert "No such" not in nhc(conf=first)[1]


def test_what_the_readme_installs(tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"PREFIX={tmp_path}/usr/local"], check=True)
    (command,) = _blocks("sh")
    scripts = tmp_path / "etc/nhc/scripts"
    scripts.mkdir(parents=True)
    there = command.replace("/usr/local/", f"{tmp_path}/usr/local/").replace("/etc/", f"{tmp_path}/etc/")
    subprocess.run(["sh", "-ec", there], check=True)
    text = (scripts / "check_mounts.nhc").read_text()
    assert f"{tmp_path}/usr/local/bin/check_mounts" in text
    subprocess.run(["bash", "-n", scripts / "check_mounts.nhc"], check=True)
