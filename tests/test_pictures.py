"""The pictures in docs/pictures show what the program prints now."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests import pictures
from tests.conftest import ROOT

EVERY = sorted(pictures.PLACE.glob("*.svg"))


@pytest.mark.root
@pytest.mark.program
def test_pictures_are_of_this_program() -> None:
    check = [sys.executable, "-m", "tests.pictures", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_picture_needs_nothing_else(path: object) -> None:
    """GitHub shows no script, no style of another place and no foreign object."""
    root = ET.parse(str(path)).getroot()
    assert {node.tag.rpartition("}")[2] for node in root.iter()} == {"svg", "title", "rect", "text"}
    assert not [name for node in root.iter() for name in node.attrib if "href" in name or name.startswith("on")]


def test_each_picture_is_shown() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    assert EVERY and [path.name for path in EVERY if f"pictures/{path.name})" not in pages] == []


def test_times_and_their_bars_do_not_count() -> None:
    assert pictures.said('<text x="1.0">ok in 1.3 s \u2588\u258c </text>') == pictures.said(
        '<text x="2.0">ok in 12 ms \u258f </text>'
    )
    assert pictures.said("<text>ok</text>") != pictures.said("<text>dead</text>")
