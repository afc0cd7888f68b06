"""The directories of integrations/: what all of them have in common."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLACE = ROOT / "integrations"
FILES = sorted(path for path in PLACE.rglob("*") if path.is_file() and path.suffix != ".pyc")
SYSTEMS = sorted(path for path in PLACE.iterdir() if path.is_dir())
SCRIPTS = [path for path in FILES if path.read_bytes().startswith(b"#!/bin/sh")]
# dash is sh of Debian, busybox that of Alpine and of most small systems, bash that of Red Hat.
SHELLS = (["dash"], ["bash", "--posix"], ["busybox", "sh"])


def of_each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(PLACE)))


@of_each(SYSTEMS)
def test_a_system_has_a_page_of_one_screen_that_the_index_names(path: Path) -> None:
    lines = (path / "README.md").read_text().splitlines()
    assert len(lines) <= 60
    prose = re.sub(r"^```.*?^```$", "", "\n".join(lines), flags=re.M | re.S).split("\n")
    prose = [line for line in prose if not line.startswith("|") and "](" not in line]
    assert [line for line in prose if len(line) > 100] == []
    assert f"]({path.name}/README.md)" in (PLACE / "README.md").read_text()


@of_each([path for path in FILES if path.suffix == ".md"])
def test_links_lead_to_files(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)[)#]", path.read_text()):
        assert (path.parent / link).exists(), link


@of_each([path for path in FILES if path.read_bytes().startswith(b"#!")])
def test_programs_can_be_run(path: Path) -> None:
    assert path.stat().st_mode & 0o111 == 0o111


@of_each(SCRIPTS)
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_scripts_are_understood_by_each_shell(path: Path, shell: list[str]) -> None:
    result = subprocess.run([*shell, "-n", path], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


@of_each(SCRIPTS)
def test_scripts_are_clean(path: Path) -> None:
    subprocess.run(["shellcheck", "--norc", path], check=True)
