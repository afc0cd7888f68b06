"""The sample configuration: each line of it is valid once its comment sign is removed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from check_mounts.options import config_text
from tests.conftest import ROOT

NAME = "check_mounts.conf.sample"
LINES = (ROOT / NAME).read_text().split("\n")
# "#key = value" and "#[section]" are lines to use; "# Words." are for people.
CODE = re.compile(r"#(?=\[|[a-z][a-z-]* = )")


def sections() -> Iterator[tuple[str, list[str]]]:
    """Each section with its lines, all without the comment sign."""
    found: list[tuple[str, list[str]]] = []
    for line in LINES:
        code = CODE.sub("", line, count=1)
        if code.startswith("["):
            found.append((code, []))
        elif code != line:
            found[-1][1].append(code)
    yield from found


def test_as_it_is_it_says_nothing() -> None:
    assert config_text.parse("\n".join(LINES).encode(), NAME) == config_text.parse(b"", NAME)


def test_all_of_it_is_valid() -> None:
    data = "\n".join(CODE.sub("", line, count=1) for line in LINES)
    parsed = config_text.parse(data.encode(), NAME)
    assert len(parsed.options) > 10 and len(parsed.sections) == 3 and len(parsed.destinations) == 1


@pytest.mark.parametrize(("section", "line"), [(head, line) for head, lines in sections() for line in lines])
def test_each_line_is_valid_alone(section: str, line: str) -> None:
    parsed = config_text.parse(f"{section}\n{line}\n".encode(), NAME)
    assert parsed != config_text.parse(b"", NAME)


def test_what_looks_like_a_line_is_one() -> None:
    """Nothing is commented out in another way."""
    for line in LINES:
        assert not line or CODE.match(line) or re.match(r"# [A-Za-z]|\[check_mounts\]\Z", line), line
