"""The archive of the sources for PyPI: whole, and all that can be done in a checkout can be done in
it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_install import EXPECTED, _files, _make

# For those who work on it with git.
LEFT_OUT = {
    ".editorconfig", ".git-blame-ignore-revs", ".github/ISSUE_TEMPLATE/bug.yml", ".github/workflows/ci.yml",
    ".gitignore", ".pre-commit-config.yaml",
}  # fmt: skip
MADE = {"PKG-INFO", "setup.cfg"}


def known() -> set[str]:
    """The files that git knows."""
    command = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sdist")
    for name in known():
        (place / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / "checkout" / name)
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(place)]
    subprocess.run(command, cwd=place / "checkout", check=True, capture_output=True)
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        if sys.version_info >= (3, 12):
            packed.extractall(place, filter="data")
        else:
            packed.extractall(place)
    return place / archive.name[: -len(".tar.gz")]


def test_it_has_all_that_git_has(unpacked: Path) -> None:
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if not path.is_dir()}
    made = {name for name in found if name in MADE or ".egg-info/" in name}
    assert found - made == known() - LEFT_OUT
    assert known() >= LEFT_OUT
    for name in found - made:
        assert (unpacked / name).stat().st_mode & 0o111 == (ROOT / name).stat().st_mode & 0o111, name


def test_it_can_be_installed(unpacked: Path, tmp_path: Path) -> None:
    _make("install", f"PREFIX={tmp_path}", f"PYTHON={sys.executable}", source=unpacked)
    assert _files(tmp_path) == EXPECTED


def test_its_tests_run(unpacked: Path) -> None:
    """All are found, with what they import; some run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    listed = subprocess.run([*command, "--collect-only"], cwd=unpacked, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout[-2000:]
    subprocess.run(
        [*command, "tests/test_sample.py", "tests/test_text.py"], cwd=unpacked, check=True, capture_output=True
    )


def test_another_archive_can_be_made_from_it(unpacked: Path, tmp_path: Path) -> None:
    """As distributions do that patch it."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis", "build")
    again = shutil.copytree(unpacked, tmp_path / "again", ignore=ignored)
    expected = {str(path.relative_to(again)) for path in again.rglob("*") if not path.is_dir()}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path], cwd=again, check=True, capture_output=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames() if not packed.getmember(name).isdir()}
    assert names == expected
