"""The fenced blocks of README.md and the other pages for administrators, as tests read them.

A block's info string says what it is: ``sh`` are commands, ``cron`` lines of a crontab, ``text``
something to look at; others name the format of a file. tests/monitoring/test_documents.py runs the
commands of each page in order, on a host of their own. A block that needs another place names the
test that runs it, in a comment directly above: ``<!-- run by tests/test_x.py::test_y -->``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = ("README.md", "*/README.md", "integrations/*/README.md")
_FENCE = re.compile(r" {0,3}```(.*)")
_RUN_BY = re.compile(r"<!-- run by (\S+) -->")


class Block(NamedTuple):
    """``line`` is the number of its first line of content. ``run_by`` is the test that the comment
    above names, or empty."""

    page: Path
    line: int
    info: str
    text: str
    run_by: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md comes first: what it installs, other pages take for granted."""
    return [path for pattern in PAGES for path in sorted(ROOT.glob(pattern)) if path.parent.name != "tests"]


def blocks(page: Path) -> list[Block]:
    return list(_blocks(page, page.read_text("utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    inside: list[str] | None = None
    info, run_by, begin = "", "", 0
    for number, line in enumerate(lines, 1):
        fence = _FENCE.fullmatch(line)
        if fence is None:
            if inside is not None:
                inside.append(line)
        elif inside is None:
            above = _RUN_BY.fullmatch(lines[number - 2].strip()) if number > 1 else None
            inside, info, run_by, begin = [], fence[1].strip(), above[1] if above else "", number + 1
        else:
            yield Block(page, begin, info, "".join(f"{each}\n" for each in inside), run_by)
            inside = None
    assert inside is None, f"{page}:{begin}: a block without an end"


def commands(text: str) -> list[str]:
    """The commands of a script, one after the other; each may have several lines."""
    found, pending = [], ""
    for line in text.splitlines(keepends=True):
        if not pending and not line.partition("#")[0].strip():
            continue
        pending += line
        if not line.endswith("\\\n") and _is_whole(pending):
            found.append(pending.strip())
            pending = ""
    assert not pending, f"not a command: {pending}"
    return found


def _is_whole(script: str) -> bool:
    """bash warns where a here-document has no end, and takes what there is."""
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    return read.returncode == 0 and not read.stderr
