"""The parsers of the values of ``--pretend`` and ``--for``; as those in values."""

from __future__ import annotations

import os

from check_mounts.model import Condition
from check_mounts.naming import names
from check_mounts.options import values

# Nobody should forget a drill, and take the next failure for a part of it. In seconds.
LONGEST = 3600.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def length(word: str) -> float:
    """``30``, ``30s``, ``5m``: a time of at most an hour, in seconds."""
    value = values.seconds(word[:-1]) * _UNITS[word[-1]] if word[-1:] in _UNITS else values.seconds(word)
    if value > LONGEST:
        raise ValueError(f"'{values.shown(word)}' is more than an hour, the longest drill")
    return value


def pretended(word: str) -> tuple[bytes, Condition]:
    """``MOUNTPOINT=CONDITION``, split at the last ``=``."""
    point, equals, name = word.rpartition("=")
    if not equals:
        raise ValueError(f"'{values.shown(word)}' is not MOUNTPOINT=CONDITION")
    if not point.startswith("/"):
        raise ValueError(f"'{values.shown(point)}' is not an absolute path")
    condition = values.condition_of(name.strip(" \t"), word)
    if condition is Condition.OK:
        raise ValueError(f"'{values.shown(word)}': a drill cannot make a mount ok, which could hide a failure")
    return names.simplified(os.fsencode(point)), condition
