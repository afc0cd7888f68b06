"""Each block of commands in a page for administrators is run by a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests import documents
from tests.conftest import ROOT

# What a block may be, beside commands: README readers see its colours, tests see how to read it.
KINDS = {"sh", "cron", "text", "ini", "conf", "json", "yaml", "sql", "promql"}
EVERY = [block for page in documents.pages() for block in documents.blocks(page)]
of_each_block = pytest.mark.parametrize("block", EVERY, ids=lambda block: block.place)


def test_pages_are_found() -> None:
    assert {str(page.relative_to(ROOT)) for page in documents.pages()} >= {"README.md", "nrpe/README.md"}
    assert sum(block.info == "sh" for block in EVERY) >= 5


@of_each_block
def test_a_block_says_what_it_is(block: documents.Block) -> None:
    assert block.info in KINDS, f"{block.place}: {block.info!r} is none of {sorted(KINDS)}"


@of_each_block
def test_the_test_that_a_block_names_is_there(block: documents.Block) -> None:
    if block.run_by:
        name, _, function = block.run_by.partition("::")
        tree = ast.parse((ROOT / name).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, block.place
        # It reads the page, so that it runs what stands there.
        assert block.page.name in (ROOT / name).read_text("utf-8"), block.place


def test_commands_are_told_apart(tmp_path: Path) -> None:
    script = "# a remark\n\na b   # c\nd \\\n  e\ncat > f <<EOF\n# not a remark\nEOF\nif g; then\n  h\nfi\n"
    assert documents.commands(script) == [
        "a b   # c", "d \\\n  e", "cat > f <<EOF\n# not a remark\nEOF", "if g; then\n  h\nfi",
    ]  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("<!-- run by tests/a.py::b -->\n```sh\nx\n```\n\n```text\ny\n```\n")
    first, second = documents.blocks(page)
    assert (first.line, first.info, first.text, first.run_by) == (3, "sh", "x\n", "tests/a.py::b")
    assert (second.info, second.run_by) == ("text", "")


def test_a_page_of_an_integration_is_one_screen() -> None:
    for page in ROOT.glob("integrations/*/README.md"):
        lines = page.read_text("utf-8").splitlines()
        assert len(lines) <= 60, f"{page.relative_to(ROOT)} has {len(lines)} lines"
        assert re.match(r"# \S", lines[0]), page
