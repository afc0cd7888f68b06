"""Thresholds: ranges of numbers, and ranges for the usage of a filesystem. Pure."""

from __future__ import annotations

import math
import re

from check_mounts import text
from check_mounts.typed import NamedTuple, Optional

# Compiled at the first use: most runs have no thresholds.
_NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"


class Range(NamedTuple):
    """A threshold in the form of the Monitoring Plugins Development Guidelines,
    ``[@][start:][end]``: values outside of it raise an alert.

    ``spec`` is the text that the user gave. It is parsed before all probes, and therefore without
    nagiosplugin, which is loaded after the forks."""

    spec: str
    start: float
    end: float
    inverted: bool

    @classmethod
    def parse(cls, spec: str) -> Range:
        """Raises ValueError with a reason in words."""
        inverted, rest = spec.startswith("@"), spec[1:] if spec.startswith("@") else spec
        start_text, _, end_text = rest.rpartition(":")
        if not rest or not (start_text or end_text):
            raise ValueError("it is empty")
        start = -math.inf if start_text == "~" else _number(start_text) if start_text else 0.0
        end = _number(end_text) if end_text else math.inf
        if start > end:
            raise ValueError("its start is greater than its end")
        return cls(spec, start, end, inverted)

    @property
    def alerts_from(self) -> float:
        """No value from 0 to below this one raises the alert."""
        if self.inverted:
            return math.inf if self.end < 0 else max(0.0, self.start)
        return 0.0 if self.start > 0 else max(0.0, self.end)

    def alerts(self, value: float) -> bool:
        """Whether a value raises the alert."""
        return (self.start <= value <= self.end) == self.inverted


def _number(word: str) -> float:
    # float() would also accept blanks, newlines, underscores and digits of other scripts. But the
    # words become part of perfdata.
    if not re.match(_NUMBER, word) or not math.isfinite(float(word)):
        raise ValueError(f"'{text.printable_argument(word)}' is not a number")
    return float(word)


_AMOUNT = r"(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)(?:(?P<percent>%)|(?P<prefix>[kmgtp])(?P<suffix>i?b)?)?\Z"


class Capacity(NamedTuple):
    """A range of how full a filesystem is.

    Its ``kind`` is ``percent`` (percent in use of the space that may be used, as df(1) counts), or
    ``free`` (bytes or inodes available to unprivileged users). ``for_one``: it was given for a
    single mount."""

    range: Range
    kind: str
    for_one: bool = False

    # The same range is the same for one mount and for all: ``for_one`` does not count.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Capacity) and self[:-1] == other[:-1]

    def __ne__(self, other: object) -> bool:  # that of a tuple would count it
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:-1])

    def measure(self, used: int, available: int) -> Optional[float]:
        """The number to compare with the range, from bytes or inodes; None for a filesystem that
        has none (``f_files`` is 0)."""
        # The space that is reserved for root counts as neither: a filesystem is 100 % full once
        # only root can write.
        if used + available <= 0:
            return None
        return 100.0 * used / (used + available) if self.kind == "percent" else float(available)

    def can_be_met(self, total: int) -> bool:
        """Whether a filesystem of this size can be free of the alert, at least while it is empty:
        one of 5 MiB never has 10 GiB free."""
        if self.kind == "percent":
            return True
        if self.range.inverted:
            return self.range.start > 0 or self.range.end < total
        return self.range.start <= total and self.range.end >= 0

    def alerts(self, used: int, available: int) -> bool:
        """Whether this usage (``f_blocks - f_bfree``, and ``f_bavail``) raises the alert."""
        value = self.measure(used, available)
        return value is not None and self.range.alerts(value)


def parse_capacity(word: str) -> Capacity:
    """``90``, ``90%``, ``@10:20%``: percent used; ``10GiB:``, ``500M:``: bytes free. Raises
    ValueError with a reason in words.

    K and KiB are 1024, KB is 1000; the same with M, G, T and P; upper or lower case. A 0 without
    unit fits both kinds."""
    inverted, rest = word[:1] == "@", word[1:] if word[:1] == "@" else word
    amounts = [_amount(part) for part in rest.split(":") if part not in ("", "~")]
    kinds = {kind for number, kind in amounts if kind != "bare" or number}
    if "free" in kinds and len(kinds) > 1:
        raise ValueError("either all or none of its numbers must have a unit")
    if "free" in kinds and ":" not in rest and not inverted:
        # In the guidelines this means "alert above". Nobody wants an alert because much is free,
        # but many people write this and mean the opposite.
        raise ValueError(
            f"it would alert when more is free; write '{text.printable_argument(rest)}:' to alert when less is free"
        )
    numbers = iter(amounts)
    plain = ":".join(part if part in ("", "~") else repr(next(numbers)[0]) for part in rest.split(":"))
    parsed = Range.parse("@" * inverted + plain)
    if "free" not in kinds and any(number > 100 for number, _ in amounts):
        raise ValueError("more than 100 % is impossible")
    return Capacity(parsed._replace(spec=word), "free" if "free" in kinds else "percent")


def _amount(word: str) -> tuple[float, str]:
    match = re.match(_AMOUNT, word, re.IGNORECASE)
    if match is None or not word.isascii():  # with re.IGNORECASE, the Kelvin sign matches k
        raise ValueError(
            f"'{text.printable_argument(word)}' is not a number, a percentage, or a number with one of K M G T P"
        )
    number, prefix, suffix = float(match["number"]), match["prefix"], match["suffix"]
    if prefix is not None:
        base = 1000 if (suffix or "").lower() == "b" else 1024
        number *= base ** ("kmgtp".index(prefix.lower()) + 1)
    if not math.isfinite(number):
        raise ValueError("the number is too great")
    return number, "free" if prefix is not None else "percent" if match["percent"] else "bare"
