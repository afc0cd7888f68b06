"""Ranges with units, for what programs did on a mount. Pure. Loaded only where there is such a
range."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from check_mounts import text
from check_mounts.judging.thresholds import Range
from check_mounts.traffic import Measure

MEASURES = {measure.word: measure for measure in Measure}
_TIME = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ms|s)?\Z"
_SHARE = r"([0-9]+\.?[0-9]*|\.[0-9]+)%?\Z"


def parse_time(word: str) -> Range:
    """``50ms``, ``0.05``, ``5ms:50ms``: a range of short times, in seconds unless a unit says
    otherwise. Raises ValueError with a reason in words.

    A whole second or more needs its unit: most people think of such times in milliseconds, and a
    limit of 50 seconds would never alert."""
    return _with_units(word, _seconds)


def parse_share(word: str) -> Range:
    """``5%``, ``5``, ``1:5``: a range of numbers for each hundred. Raises ValueError with a reason
    in words."""
    return _with_units(word, _per_hundred)


def _with_units(word: str, parse: Callable[[str], float]) -> Range:
    inverted, rest = word[:1] == "@", word[1:] if word[:1] == "@" else word
    plain = ":".join(part if part in ("", "~") else repr(parse(part)) for part in rest.split(":"))
    return Range.parse("@" * inverted + plain)._replace(spec=word)


def _seconds(word: str) -> float:
    match = re.match(_TIME, word)
    if match is None:
        raise ValueError(f"'{text.printable_argument(word)}' is not a time such as 50ms or 0.05s")
    number = float(match[1])
    if match[2] is None and number >= 1:
        raise ValueError(f"write {word}ms or {word}s")
    seconds = number / 1000 if match[2] == "ms" else number
    if not math.isfinite(seconds):
        raise ValueError("the number is too great")
    return seconds


def _per_hundred(word: str) -> float:
    match = re.match(_SHARE, word)
    if match is None:
        raise ValueError(f"'{text.printable_argument(word)}' is not a percentage such as 5%")
    if not math.isfinite(float(match[1])):
        raise ValueError("the number is too great")
    return float(match[1])


def in_numbers(limit: Range) -> str:
    """A range without units, as perfdata has it: ``0.05`` of ``50ms``."""
    start = "~:" if limit.start == -math.inf else f"{limit.start:g}:" if limit.start else ""
    end = "" if limit.end == math.inf else f"{limit.end:g}"
    return f"{'@' * limit.inverted}{start}{end}"
