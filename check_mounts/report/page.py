"""Sections -> the lines of a page that fits a terminal of 80 columns. Pure.

Import budget: terminal. Names that are longer stay whole, because a name without its middle cannot
be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts.system.terminal import cells
from check_mounts.typed import NamedTuple

WIDTH = 79
# The column in which the words of a labelled line begin.
_LABEL = 15


class Line(NamedTuple):
    """A line: a ``label`` and words, or words alone. ``column``: where the words begin. ``whole``:
    it is not wrapped, because somebody may paste it."""

    words: str
    label: str = ""
    column: int = 2
    whole: bool = False


def fact(label: str, words: str) -> Line:
    """A line with a label; without a label, it continues the one above."""
    return Line(words, label, _LABEL)


class Section(NamedTuple):
    """A part of the page."""

    title: str
    lines: Sequence[Line]


def laid_out(sections: Sequence[Section]) -> Iterator[str]:
    """The lines of all sections, with an empty line before each title."""
    for section in sections:
        yield ""
        yield section.title
        for line in section.lines:
            yield from _wrapped(line)


def _wrapped(line: Line) -> Iterator[str]:
    first = f"  {line.label:<{line.column - 2}}"
    if line.whole:
        yield first + line.words
        return
    rest, current = " " * len(first), first
    empty = first
    for word in line.words.split(" "):
        joined = current + word if current is empty else f"{current} {word}"
        if cells(joined) > WIDTH and current is not empty:
            yield current
            current = empty = rest
            joined = rest + word
        current = joined
    yield current
