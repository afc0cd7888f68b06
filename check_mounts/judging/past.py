"""What one operation of one mount usually takes, from its own past. Pure.

Import budget: ``array``, ``math``.

Times are in seconds. An age is the time, in seconds, for which a daemon has watched this host
altogether: it stands still while no daemon runs and while the host is suspended, and nobody can set
it. Days are 24 hours of it.

The past has three parts, all of a bounded size:

- How often each time was seen, in steps of 19 %. Half of it is forgotten in a week. It tells the
  usual time (the median) and how much that varies.
- The peak of each of the last 28 days, as far as it was within the limit of its day. Bursts of work
  and nightly backups are usual, too, although no median shows them.
- What was beyond the limit in the last 28 days. If that comes twice at the same time of day, it is
  expected to come there once more. It is no peak: it says nothing about other times of day, and
  servers that fail again and again would hide behind it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from check_mounts.typed import Any, NamedTuple, Optional

DAY = 86400.0
# No operation is judged until it has been seen for two days, so that all that comes each day has
# come, and in so many windows that count. (The count fades, too: of an operation that is used for
# ten minutes a day it becomes about a hundred.)
FIRST_DAYS, _LEAST_WEIGHT = 2 * DAY, 60.0
# What comes each week has come after eight days. Until then, all limits are twice as high.
_FIRST_WEEK = 8 * DAY
# Days after which a time counts half, and for which peaks are remembered.
_HALF, _REMEMBERED = 7.0, 28
# The times that are told apart: from 10 us to 21 s, with four steps from each time to its double.
_SHORTEST, _STEPS, _LENGTH = 1e-5, 4, 84
# The part of all windows that took no longer than the usual time and one deviation, as with a
# normal distribution.
_ONE_DEVIATION = 0.8413
# An operation is beyond the limit if it takes longer than usual by so many seconds, by so many
# deviations (of the logarithm), and longer than so many times the peaks of other days.
LEAST_MORE, _DEVIATIONS, _PEAKS_OVER = 0.020, 3.0, 2.5
# What was beyond the limit so often, at this time of day or so many seconds sooner or later, is
# expected; and no more of it is remembered.
_OFTEN, _AROUND, _MOST_BEYOND = 2, 3 * 3600.0, 2 * _REMEMBERED


class Usual(NamedTuple):
    """What is usual: ``seconds`` is the median, ``deviation`` that of the logarithm. ``peak`` is
    the highest of other days. ``is_young``: the past is shorter than a week."""

    seconds: float
    deviation: float
    peak: float
    is_young: bool

    def limit(self, factor: float) -> float:
        """The time beyond which the operation is unusual; at least ``factor`` times the usual."""
        most = max(
            self.seconds * factor,
            self.seconds + LEAST_MORE,
            self.seconds * math.exp(_DEVIATIONS * self.deviation),
            self.peak * _PEAKS_OVER,
        )
        return most * 2 if self.is_young else most


class Past:
    """The past of one operation of one mount, which began at the age ``born``."""

    __slots__ = ("_beyond", "_day", "_peaks", "_usual", "_weights", "born")

    def __init__(self, born: float) -> None:
        self.born = born
        self._day = int(born // DAY)
        # For each step of time: how many windows took so long; older ones count less.
        self._weights = array("f", bytes(4 * _LENGTH))
        # The steps that the peaks of today and of the days before have reached, by the day modulo
        # their number; 0 without a peak. Today's is no measure for today.
        self._peaks = bytearray(_REMEMBERED)
        # (age, seconds) of what was beyond the limit: when it ended, and the most that it reached.
        self._beyond: list[tuple[float, float]] = []
        # The answer of :meth:`usual`, which changes little within a day.
        self._usual: Optional[Usual] = None

    # -- what is noted

    def note(self, seconds: float, peak: float) -> None:
        """Note how long the operation took on average in a window, and a peak (0 without one)."""
        self._weights[_step(seconds)] += 1
        today = self._day % _REMEMBERED
        self._peaks[today] = max(self._peaks[today], _step(peak))

    def note_beyond(self, age: float, seconds: float) -> None:
        """Note that the operation was beyond the limit until this age, and took at most so long."""
        self._beyond = [*self._beyond[1 - _MOST_BEYOND :], (age, seconds)]

    def go_on(self, age: float) -> None:
        """Begin a new day if it is time."""
        day = int(age // DAY)
        if day == self._day:
            return
        for new in range(self._day + 1, min(day, self._day + _REMEMBERED) + 1):
            self._peaks[new % _REMEMBERED] = 0
        self._beyond = [each for each in self._beyond if each[0] >= age - _REMEMBERED * DAY]
        kept = 0.5 ** ((day - self._day) / _HALF)
        self._weights = array("f", [weight * kept for weight in self._weights])
        self._day, self._usual = day, None

    # -- what is usual

    def usual(self, age: float) -> Optional[Usual]:
        """What is usual at this age; None as long as that is not known well enough."""
        if self._usual is None and age - self.born >= FIRST_DAYS:
            self._usual = self._found(age)
        return self._usual

    def expects(self, age: float, seconds: float) -> bool:
        """Whether so long a time, beyond the limit, was seen often enough at this time of day."""
        alike = [each for each in self._beyond if _is_at_time_of(age, each[0])]
        return sum(seconds <= most * _PEAKS_OVER for _, most in alike) >= _OFTEN

    def _found(self, age: float) -> Optional[Usual]:
        total = sum(self._weights)
        if total < _LEAST_WEIGHT:
            return None
        median, above = self._quantile(0.5 * total), self._quantile(_ONE_DEVIATION * total)
        others = [peak for place, peak in enumerate(self._peaks) if place != self._day % _REMEMBERED]
        return Usual(median, math.log(above / median), _seconds(max(others)), age - self.born < _FIRST_WEEK)

    def _quantile(self, weight: float) -> float:
        """The time that windows of this weight did not exceed."""
        below = 0.0
        for step, each in enumerate(self._weights):
            if each > 0 and below + each >= weight:
                return _seconds(step + (weight - below) / each)
            below += each
        return _seconds(_LENGTH)

    # -- for a file

    def told(self) -> Sequence[object]:
        """All of it, in whole numbers and lists of them; :func:`remembered` takes them."""
        seen = [[step, round(weight * 100)] for step, weight in enumerate(self._weights) if weight >= 0.005]
        beyond = [[round(age), round(seconds * 1e6)] for age, seconds in self._beyond]
        return [round(self.born), self._day, list(self._peaks), seen, beyond]


def remembered(told: Sequence[Any]) -> Past:
    """The past that was told. Raises an exception of any kind if that makes no sense."""
    born, day, peaks, seen, beyond = told
    past = Past(float(born))
    past._day, past._peaks = int(day), bytearray(min(peak, _LENGTH - 1) for peak in peaks)
    past._beyond = [(float(age), seconds / 1e6) for age, seconds in beyond]
    for step, weight in seen:
        past._weights[step] = weight / 100
    if len(past._peaks) != _REMEMBERED or not 0 <= born // DAY <= day or min(past._weights) < 0:
        raise ValueError("not a past")
    return past


def _step(seconds: float) -> int:
    if seconds <= _SHORTEST:
        return 0
    return min(_LENGTH - 1, int(math.log2(seconds / _SHORTEST) * _STEPS))


def _seconds(step: float) -> float:
    return _SHORTEST * math.pow(2.0, step / _STEPS)


def _is_at_time_of(age: float, other: float) -> bool:
    apart = (age - other) % DAY
    return age - other > DAY / 2 and min(apart, DAY - apart) <= _AROUND
