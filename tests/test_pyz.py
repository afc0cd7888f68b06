"""check_mounts.pyz: the same bytes from each Python, and all of the program without its file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT, Fuse, Mounts, until

FAILS = "raise SystemExit('this must not run')\n"


PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def pythons() -> list[str]:
    """The users' interpreter, and those of other versions, if this host has them."""
    found = [
        next(iter(sorted(PYENV.glob(f"versions/{version}.*/bin/python3"))), None) for version in ("3.9", "3.11", "3.13")
    ]
    return [PYTHON, *(str(path) for path in found if path is not None)]


def make(place: Path, **variables: str) -> Path:
    """What ``make pyz`` makes, from the sources in ``place``."""
    command = ["make", "-s", "-C", str(place), "pyz", f"VENV={ROOT}/.venv", "-o", f"{ROOT}/.venv/carried"]
    subprocess.run([*command, *(f"{name}={value}" for name, value in variables.items())], check=True)
    return place / "dist/check_mounts.pyz"


def sources(place: Path) -> Path:
    for name in ("check_mounts", "tools"):
        shutil.copytree(
            ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copy
        )
    for name in ("Makefile", "LICENSE"):
        shutil.copy(ROOT / name, place)
    return place


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make(sources(tmp_path_factory.mktemp("pyz")))
    path.parent.parent.chmod(0o755)
    return path


def run(*command: object, **variables: str) -> tuple[int, str]:
    result = subprocess.run(
        [str(word) for word in command], env=variables, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""
    return result.returncode, result.stdout


def checks(*command: object, **variables: str) -> None:
    place = Path(str(command[-1])).parent
    state, said = run(*command, "-p", "/", "--state-dir", place / "state", **variables)
    assert (state, said.partition(" checked")[0]) == (0, "MOUNTS OK - 1 mount"), said


@pytest.mark.parametrize("python", pythons())
def test_each_python_makes_the_same_bytes(pyz: Path, tmp_path: Path, python: str) -> None:
    place = sources(tmp_path / "ein Ort")
    (place / "check_mounts/text.py").touch()
    (place / "check_mounts/__pycache__").mkdir()
    (place / "check_mounts/__pycache__/text.cpython-39.pyc").touch()
    (place / "check_mounts/text.py").chmod(0o600)
    before = os.umask(0o077)
    try:
        made = make(place, PYTHON=python, SOURCE_DATE_EPOCH="1", LC_ALL="C", TZ="Pacific/Auckland")
    finally:
        os.umask(before)
    assert made.read_bytes() == pyz.read_bytes()
    assert made.stat().st_mode & 0o777 == 0o755
    assert not list(made.parent.glob("*.new"))


def test_it_holds_the_program_and_the_license_of_what_it_carries(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as packed:
        names = set(packed.namelist())
        told = {name: packed.read(name).decode() for name in names if "LICENSE" in name or name == "NOTICE"}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "check_mounts").rglob("*.py")}
    assert {"check_mounts/py.typed", "LICENSE", "NOTICE", "__main__.py"} | ours <= names
    (license,) = (name for name in told if name.startswith("nagiosplugin"))
    assert "Zope Public License" in told[license] and license in told["NOTICE"]
    assert told["LICENSE"] == (ROOT / "LICENSE").read_text()
    assert pyz.read_bytes().startswith(b"#!/usr/bin/python3 -IS\n")


@pytest.mark.parametrize("python", pythons())
def test_each_python_runs_it(pyz: Path, python: str) -> None:
    checks(python, pyz)
    checks(python, "-IS", pyz)
    assert run(python, pyz, "--cached", f"--cache={pyz.parent}/none")[1].startswith("MOUNTS UNKNOWN - /")
    assert " is not there: " in run(python, pyz, "--cached", "--cache=/none")[1]


def test_it_is_a_command(pyz: Path, tmp_path: Path) -> None:
    checks(pyz)
    (tmp_path / "check_mounts").symlink_to(pyz)
    checks(tmp_path / "check_mounts")


def test_an_old_python_is_unknown(pyz: Path) -> None:
    """If this host has none, one that says so of itself."""
    script = "import runpy, sys; sys.version_info = (3, 6, 9, 'final', 0); sys.argv = sys.argv[1:]\n"
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    old = sorted(PYENV.glob("versions/[23].[678].*/bin/python[23]"))
    for command in [[PYTHON, "-c", script], *([str(python)] for python in old)]:
        state, said = run(*command, pyz, "--cached")
        assert state == 3
        assert re.fullmatch(r"MOUNTS UNKNOWN - check_mounts needs Python 3\.9 or later, and this is \d\.\d: .*\n", said)


def test_a_broken_file_is_unknown(pyz: Path, tmp_path: Path) -> None:
    data = pyz.read_bytes()
    broken = tmp_path / "bro|ken\n.pyz"
    with zipfile.ZipFile(pyz) as packed:
        name = "check_mounts/guard/watcher.py"
        place = packed.getinfo(name).header_offset + 30 + len(name)
    broken.write_bytes(data[:place] + b"(" * 40 + data[place + 40 :])
    state, said = run(PYTHON, "-IS", broken)
    assert state == 3 and said.startswith("MOUNTS UNKNOWN - ") and said.count("\n") == 1


@pytest.mark.parametrize("name", ["check_mounts", "nagiosplugin", "typing", "re", "sitecustomize"])
def test_only_the_file_decides_what_runs(pyz: Path, tmp_path: Path, name: str) -> None:
    for place in (tmp_path / "path", tmp_path / "beside"):
        place.mkdir()
        (place / f"{name}.py").write_text(FAILS)
    mine = tmp_path / "beside/check_mounts.pyz"
    shutil.copy(pyz, mine)
    checks(mine, PYTHONPATH=str(tmp_path / "path"))
    if name != "sitecustomize":  # this has run before anything of ours
        checks(PYTHON, mine, PYTHONPATH=str(tmp_path / "path"))
    assert sorted(path.name for path in mine.parent.iterdir()) == sorted(["check_mounts.pyz", f"{name}.py", "state"])


def test_it_is_read_once(pyz: Path, tmp_path: Path) -> None:
    """By the process that starts, and not by those that it forks."""
    log = tmp_path / "log"
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,execve", "-o", log, PYTHON, "-IS", pyz]
    run(*command, "-v", "-p", "/", "--state-dir", tmp_path / "state", PATH=os.environ["PATH"])
    lines = log.read_text().split("\n")
    first = lines[0].split()[0]
    opened = [line for line in lines if f'{pyz}"' in line and "execve" not in line]
    assert {line.split()[0] for line in opened} == {first}
    assert not [line for line in lines if "nagiosplugin" in line and line not in opened]


@pytest.mark.root
def test_its_file_may_hang_once_it_runs(pyz: Path, mounts: Mounts, fuse: Fuse, tmp_path: Path) -> None:
    place, hung = fuse.mount("place"), fuse.mount("hung")
    shutil.copy(pyz, place / "check_mounts.pyz")
    fuse.command("hang", "hung")
    words = ["-v", "-t", "1", "-p", f"{mounts.base}/*", "-x", str(place), "--state-dir", str(tmp_path / "state")]
    process = subprocess.Popen([PYTHON, "-IS", place / "check_mounts.pyz", *words], stdout=subprocess.PIPE, text=True)
    until(lambda: fuse.waiting("hung"))
    fuse.command("hang", "place")
    said, _ = process.communicate(timeout=30)
    fuse.command("answer", "place")
    fuse.command("answer", "hung")
    assert process.returncode == 2
    assert re.match(rf"MOUNTS CRITICAL - 1 of 1 mounts failed: {hung} .* timed out after 1 s", said), said
    assert f"\nCRITICAL: {hung} (" in said


def test_the_daemon_outlives_its_file(pyz: Path, tmp_path: Path) -> None:
    """It goes on when another version takes the place, or when the file is removed; and it finds
    prometheus_client where the interpreter does."""
    mine, cache = tmp_path / "check_mounts.pyz", tmp_path / "run/status"
    shutil.copy(pyz, mine)
    words = [
        "--cache",
        str(cache),
        "-p",
        "/",
        "--state-dir",
        f"{tmp_path}/state",
        f"--metrics={tmp_path}/check_mounts.prom",
    ]
    command: list[str | Path] = [sys.executable, mine, "--daemon", "--foreground", "--interval", "0.5", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={}, cwd="/") as daemon:
        until(lambda: cache.exists() or daemon.poll() is not None)
        shutil.copy(pyz, tmp_path / "new")
        (tmp_path / "new").replace(mine)
        state, said = run(mine, "--cached", "--cache", cache)
        assert (state, said[:24]) == (0, "MOUNTS OK - 1 mount chec"), said
        mine.unlink()
        (tmp_path / "check_mounts.prom").unlink()
        cache.unlink()
        daemon.send_signal(signal.SIGHUP)
        until(lambda: cache.exists() and (tmp_path / "check_mounts.prom").exists())
        daemon.terminate()
    assert daemon.returncode == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"run", "state", "check_mounts.prom"}
