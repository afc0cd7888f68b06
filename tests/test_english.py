"""The English of code, messages and documents: what can be grepped for (see CONTRIBUTING.md)."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Each with the reason; a plain way to say it stands behind the arrow.
AVOIDED = {
    r"\bby way of\b": "-> through, with",
    r"\bto be had\b": "-> available",
    r"\b(?:is|are) none\b": "-> no X, not a X",
    r"\b(?:is|are|was|were|has|have|had) (?:not )?to (?:be\b|[a-z]{2,}\b)": "-> must, should, will",
    r"\blets? (?:itself|themselves|himself)\b": "-> can be",
    r"\b[Ww]hoever\b|\b[Ww]homever\b": "-> name the actor",
    r"(?:^|[.:;] )Of (?!course)[a-z]": "-> begin with the subject",
    r"\bthat which\b|\bthat who\b": "-> name the thing",
    r"\bbe it\b|\bbe they\b": "-> whether it is",
    r"\bdoes not let\b|\bdo not let\b": "-> cannot be",
    r"\bin vain\b": "-> without success",
    r"\bcome(?:s)? round\b": "-> gets to it",
    r"\bthe same as that (?:of|to)\b": "-> name the thing twice",
}
SOURCES = sorted((ROOT / "check_mounts").rglob("*.py"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "man").iterdir()),
    *(ROOT / place / "README.md" for place in ("container", "nrpe", "icinga2", "nagios", "prometheus")),
    *sorted((ROOT / "integrations").rglob("*.md")),
]


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, words) of what people read in a file: comments and strings of code, all of a page."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.split("\n"), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            for number, line in enumerate(token.string.split("\n"), token.start[0]):
                yield number, line.strip("# \"'")


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_avoided(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}  {instead}"
        for number, line in _prose(path)
        for pattern, instead in AVOIDED.items()
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_begins_with_what_it_is(path: Path) -> None:
    """Its first paragraph is the row of docs/architecture.md."""
    first = path.read_text().partition('"""')[2].partition('"""')[0].partition("\n\n")[0]
    assert first and len(" ".join(first.split())) <= 200
