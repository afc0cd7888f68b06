"""The command that pip installs: it starts in each way to install, and only what was installed
decides what runs."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import nagiosplugin
import pytest
from readme_renderer import markdown

from check_mounts import __version__, completion
from check_mounts.options.option_table import SHELLS
from tests.conftest import PYTHON, ROOT, Fuse, Mounts
from tests.test_install import EXPECTED, project

LIBRARIES = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
FAILS = "raise SystemExit('this must not run')\n"
PIP = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    return build(project(place), place)


def build(source: Path, place: Path) -> Path:
    command = [*PIP, "wheel", "--no-index", "--no-build-isolation", "--no-deps", "-w", str(place), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = place.glob("*.whl")
    return made


def environment(place: Path) -> Path:
    """An environment that has nagiosplugin."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    libraries = place / LIBRARIES
    shutil.copytree(Path(nagiosplugin.__file__).parent, libraries / "nagiosplugin")
    return libraries


def install(wheel: Path, *where: str) -> None:
    subprocess.run([*PIP, *where, "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    place = tmp_path_factory.mktemp("installed") / "e"
    environment(place)
    install(wheel, "--python", f"{place}/bin/python", "install")
    return place


def run(command: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [command, *arguments], env=variables, cwd="/", capture_output=True, text=True, timeout=30, check=False
    )
    assert result.stderr == ""
    return result


def checks(command: Path, **variables: str) -> None:
    state = command.parent.parent / "state"
    result = run(command, "-p", "/", "--state-dir", str(state), **variables)
    assert (result.returncode, result.stdout.partition(" checked")[0]) == (0, "MOUNTS OK - 1 mount"), result


def test_it_is_the_script_and_no_entry_point(wheel: Path, installed: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        entry_points = [packed.read(name) for name in names if name.endswith("/entry_points.txt")]
    assert any(name.endswith(".data/scripts/check_mounts") for name in names)
    assert not any(b"check_mounts" in text for text in entry_points)
    script = (installed / "bin/check_mounts").read_text()
    assert script == (ROOT / "bin/check_mounts").read_text().replace("#!python\n", f"#!{installed}/bin/python\n", 1)


def test_it_checks_from_everywhere(installed: Path, tmp_path: Path) -> None:
    checks(installed / "bin/check_mounts")
    link = tmp_path / "link"
    link.symlink_to(installed / "bin/check_mounts")
    checks(link)
    (tmp_path / "directory").symlink_to(installed / "bin")
    checks(tmp_path / "directory/check_mounts")


@pytest.mark.parametrize("how", ["--target", "--prefix"])
def test_it_finds_its_modules_beside_it(wheel: Path, tmp_path: Path, how: str) -> None:
    interpreter = tmp_path / "e"
    environment(interpreter)
    install(wheel, "--python", f"{interpreter}/bin/python", "install", how, f"{tmp_path}/place")
    checks(tmp_path / "place/bin/check_mounts")


def test_it_starts_from_a_home_directory_only_if_it_is_there(wheel: Path, tmp_path: Path) -> None:
    """An environment has no such directory, so this takes the interpreter below it."""
    home = tmp_path / "home"
    libraries = home / ".local" / LIBRARIES
    install(wheel, "install", "--target", str(libraries))
    (home / ".local/bin").mkdir()
    script = (ROOT / "bin/check_mounts").read_text().replace("#!python\n", f"#!{_base()}\n", 1)
    inside, outside = home / ".local/bin/check_mounts", tmp_path / "outside"
    for path in (inside, outside):
        path.write_text(script)
        path.chmod(0o755)
    words = ("--cached", f"--cache={tmp_path}/none")
    assert " is not there: " in run(inside, *words, HOME=str(home)).stdout
    found = run(outside, *words, HOME=str(home))
    assert (found.returncode, found.stdout) == (3, _cannot_load())


def _base() -> str:
    """The interpreter that this environment was made from."""
    return os.path.realpath(sys.executable)


def _cannot_load() -> str:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"MOUNTS UNKNOWN - Python {version} cannot load check_mounts (ModuleNotFoundError): pip install it again\n"


@pytest.mark.parametrize("name", ["check_mounts", "nagiosplugin", "typing", "re"])
def test_neither_the_environment_nor_its_directory_decides_what_runs(
    installed: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(FAILS)
    checks(installed / "bin/check_mounts", PYTHONPATH=str(tmp_path))
    beside = installed / f"bin/{name}.py"
    beside.write_text(FAILS)
    try:
        checks(installed / "bin/check_mounts")
        checks(installed / "bin/check_mounts", PYTHONSAFEPATH="1")
    finally:
        beside.unlink()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *((f"PYTHON{each}", True) for each in ("PATH", "HOME", "WARNINGS", "INSPECT", "OPTIMIZE", "USERBASE")),
        *((name, False) for name in ("PYTHON_VERSION", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PATH")),
    ],
)
def test_variables_that_decide_what_runs_are_ignored(tmp_path: Path, name: str, counts: bool) -> None:
    """A stand-in for the package tells how it was started."""
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], check=True, capture_output=True, text=True
    ).stdout.strip()
    package = tmp_path / f"lib/python{version}/site-packages/check_mounts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys\ndef main(): print(sys.flags.ignore_environment)\n")
    script = tmp_path / "bin/check_mounts"
    script.parent.mkdir()
    script.write_text((ROOT / "bin/check_mounts").read_text().replace("#!python\n", f"#!{PYTHON}\n", 1))
    script.chmod(0o755)
    value = {"PYTHONHOME": "/usr", "PYTHONWARNINGS": "ignore"}.get(name, "1")
    assert run(script, **{name: value}).stdout == ("1\n" if counts else "0\n")


def test_modules_that_are_gone_are_unknown(wheel: Path, tmp_path: Path) -> None:
    """As after an upgrade of Python: the environment has a directory for each minor version."""
    libraries = environment(tmp_path / "e")
    install(wheel, "--python", f"{tmp_path}/e/bin/python", "install")
    shutil.rmtree(libraries / "check_mounts")
    result = run(tmp_path / "e/bin/check_mounts", "--cached")
    assert (result.returncode, result.stdout) == (3, _cannot_load())


def tree(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if "/nagiosplugin/__pycache__" not in str(path)}


def test_it_has_what_make_install_puts_beside_the_program(installed: Path) -> None:
    found = [path for path in (installed / "share").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    share = {str(path.relative_to(installed)) for path in found}
    assert share == {name for name in EXPECTED if name.startswith("share/")}
    for shell in SHELLS:
        (script,) = (name for name in share if name.startswith(f"share/{shell}"))
        assert (installed / script).read_text() == completion.script(shell)


def older(place: Path) -> Path:
    """The wheel of a version before, with what is no more."""
    source = project(place)
    module = source / "check_mounts/__init__.py"
    module.write_text(module.read_text().replace(f'"{__version__}"', '"0.0.9"'))
    for name in ("check_mounts/gone.py", "check_mounts/old/__init__.py", "nrpe/gone.cfg", "man/check_mounts-old.1"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("# gone\n")
    return build(source, place)


def test_an_upgrade_and_a_removal_leave_nothing(wheel: Path, tmp_path: Path) -> None:
    environment(tmp_path / "e")
    (tmp_path / "new").mkdir()
    environment(tmp_path / "new/e")
    before = tree(tmp_path / "e")
    install(wheel, "--python", f"{tmp_path}/new/e/bin/python", "install")
    python = ["--python", f"{tmp_path}/e/bin/python"]
    install(older(tmp_path / "old"), *python, "install")
    assert "share/check_mounts/nrpe/gone.cfg" in tree(tmp_path / "e")
    assert run(tmp_path / "e/bin/check_mounts", "-V").stdout == "check_mounts 0.0.9\n"
    install(wheel, *python, "install", "--upgrade")
    assert run(tmp_path / "e/bin/check_mounts", "-V").stdout == f"check_mounts {__version__}\n"
    assert tree(tmp_path / "e") == tree(tmp_path / "new/e")
    checks(tmp_path / "e/bin/check_mounts")
    shutil.rmtree(tmp_path / "e/state", ignore_errors=True)
    subprocess.run([*PIP, *python, "uninstall", "-y", "check_mounts"], check=True, capture_output=True)
    # pip leaves directories that are empty now.
    assert not [path for path in tree(tmp_path / "e") - before if not (tmp_path / "e" / path).is_dir()]
    assert not list((tmp_path / "e").rglob("check_mounts*"))


@pytest.mark.root
def test_it_checks_a_hung_mount(installed: Path, mounts: Mounts, hung: Path, tmp_path: Path) -> None:
    words = ("-t", "1", "-p", f"{mounts.base}/*", "--state-dir", str(tmp_path / "state"))
    result = run(installed / "bin/check_mounts", *words)
    assert result.returncode == 2 and f"{hung} (fuse.test fuse) timed out after 1 s" in result.stdout


@pytest.mark.skipif(
    int(metadata.version("setuptools").partition(".")[0]) < 61,
    reason="this setuptools reads no [project]; no release is made with it",
)
def test_pypi_can_show_its_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (told,) = (packed.read(name).decode() for name in packed.namelist() if name.endswith("/METADATA"))
        assert any(name.endswith("/LICENSE") for name in packed.namelist())
    head, _, page = told.partition("\n\n")
    for line in ("Description-Content-Type: text/markdown", "Project-URL: Homepage, ", "Keywords: ", "License-File: "):
        assert f"\n{line}" in head
    shown = markdown.render(page)
    assert shown is not None and ">check_mounts<" in shown and "<table>" in shown
    # What a link names in the sources is not on PyPI.
    assert set(re.findall('href="([^"#]+)"', shown)) <= {link for link in re.findall(r"https?://[^\s)\"]*", page)}
    assert "states.md" in page and "](docs" not in page


def test_the_kernel_cannot_start_every_interpreter() -> None:
    """pip knows a way, but only for entry points."""
    start_script = runpy.run_path(str(ROOT / "setup.py"))["start_script"]
    for path in ("/opt/my e/bin/python", f"/opt/{'e' * 120}/bin/python"):
        made = start_script(path)
        assert made["entry_points"]["console_scripts"] == ["check_mounts = check_mounts.__main__:main"]
        assert not made["scripts"]
    assert start_script("/opt/e/bin/python") == {
        "scripts": ["bin/check_mounts"],
        "entry_points": {"console_scripts": []},
    }


@pytest.mark.root
def test_it_starts_in_a_directory_that_hangs(fuse: Fuse, installed: Path) -> None:
    """A shell would not: it looks at its directory first."""
    path, here = fuse.mount("hung"), os.getcwd()
    os.chdir(path)
    try:
        fuse.command("hang", "hung")
        time.sleep(1.1)  # the kernel forgets what it knows of the directory
        result = subprocess.run(
            [installed / "bin/check_mounts", "--cached", "--cache=/nonexistent/status"],
            env={"PWD": str(path)}, stdout=subprocess.PIPE, timeout=30, check=False,
        )  # fmt: skip
        assert result.stdout.startswith(b"MOUNTS UNKNOWN - /nonexistent/status is not there: ")
    finally:
        fuse.command("answer", "hung")
        os.chdir(here)
