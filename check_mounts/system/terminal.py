"""What the terminal of the caller is like, for those who write to it.

Import budget: ``os``."""

from __future__ import annotations

import os
from collections.abc import Mapping

# Where neither the user nor the terminal tells its width.
_USUAL = 80
# Less cannot be laid out.
_NARROWEST = 40
_NO_CAPABILITIES = frozenset({"", "dumb", "unknown"})


def columns(fd: int, environment: Mapping[str, str]) -> int:
    """The width of a terminal: what the user says with COLUMNS, else what the terminal says."""
    said = environment.get("COLUMNS", "")
    try:
        width = int(said) if said.isascii() and said.isdigit() else os.get_terminal_size(fd).columns
    except (OSError, ValueError):  # it hung up; a number with thousands of digits
        width = 0
    return max(width or _USUAL, _NARROWEST)


def moves(environment: Mapping[str, str]) -> bool:
    """Whether terminals of this kind obey escape sequences. All do that are still in use, but for
    what calls itself dumb: a buffer of an editor, a log of a build."""
    return environment.get("TERM", "") not in _NO_CAPABILITIES


def colours(environment: Mapping[str, str]) -> bool:
    """Whether to print colours on a terminal: not if NO_COLOR is set to anything
    (https://no-color.org)."""
    return moves(environment) and not environment.get("NO_COLOR")
