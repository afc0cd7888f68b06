"""The headings of docs/troubleshooting.md are messages that the program prints."""

from __future__ import annotations

import ast
import errno
import functools
import os
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = [span for heading in re.findall(r"^## (.*)$", PAGE, re.M) for span in re.findall(r"`([^`]+)`", heading)]


@functools.cache
def _shingles() -> set[tuple[str, str]]:
    """All pairs of neighbouring words in the strings of the package and in the words of errors."""
    texts = [os.strerror(number) for number in errno.errorcode]
    for path in (ROOT / "check_mounts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                )
    return {pair for text in texts for pair in _pairs(text)}


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.split()
    plain = (re.fullmatch(r"[(]?([a-z]+) ([a-z]+)[:;,.)]?", " ".join(pair)) for pair in zip(words, words[1:]))
    return [(found[1], found[2]) for found in plain if found]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_heading_is_a_message(message: str) -> None:
    pairs = _pairs(message)
    missing = [" ".join(pair) for pair in pairs if pair not in _shingles()]
    # Where a word of two is put in by the code, the pair does not stand there.
    assert len(missing) <= max(1, len(pairs) // 2), missing


def test_each_message_has_an_answer() -> None:
    for heading, answer in re.findall(r"^## (.*)\n\n(.*)$", PAGE, re.M):
        assert answer and not answer.startswith("#"), heading
