"""What the terminal of the caller is like, for those who write to it.

Import budget: ``os``, ``sys``, ``unicodedata``."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping

from check_mounts.typed import Optional

# Where neither the user nor the terminal tells its width.
_USUAL = 80
# Less cannot be laid out.
_NARROWEST = 40


def columns(fd: int, environment: Mapping[str, str]) -> int:
    """The width of a terminal: what the user says with COLUMNS, else what the terminal says."""
    said = environment.get("COLUMNS", "")
    try:
        width = int(said) if said.isascii() and said.isdigit() else os.get_terminal_size(fd).columns
    except (OSError, ValueError):  # it hung up; a number with thousands of digits
        width = 0
    return max(width or _USUAL, _NARROWEST)


def lines(fd: int) -> int:
    """The height of a terminal; 0 if it does not say."""
    try:
        return os.get_terminal_size(fd).lines
    except OSError:
        return 0


def drawable(encoding: Optional[str]) -> str:
    """The encoding of the characters that a terminal can draw, from that of the stream.

    In the locale C, Python takes UTF-8, because names of files may well be written in it; but the
    terminal may be any."""
    return encoding if encoding and not sys.flags.utf8_mode else "ascii"


def cells(words: str) -> int:
    """How many columns printable words take, in doubt more."""
    return len(words) if words.isascii() else sum(map(_cells, words))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    # Terminals may show characters that are "ambiguous" in two columns (Unicode, UAX #11).
    return 2 if unicodedata.east_asian_width(character) in "WFA" else 1


def cut(words: str, width: int) -> str:
    """The beginning of printable words that fits into so many columns."""
    if cells(words) <= width:
        return words
    room, kept = width - 3, ""
    for character in words:
        room -= _cells(character)
        if room < 0:
            break
        kept += character
    return (kept + "...")[: max(width, 0)]
