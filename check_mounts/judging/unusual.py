"""Whether an operation of a mount takes much longer than it usually does (--unusual). Pure.

Import budget: what past needs.

Time is cut into windows: a window ends when the operation has been done often enough, and not
before some seconds have passed. An operation is unusual if it takes too long in three windows on
end, and usual again after three windows on end that are well below the limit. So no single window
decides, whatever is in it: the end of an outage, a suspension, one request that waited for
minutes."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts.judging import past
from check_mounts.judging.past import DAY, Past
from check_mounts.typed import Any, Optional

# A window has at least so many operations, and takes at least so many seconds. One that has too few
# operations after _LONGEST seconds says nothing, and is not taken into account.
LEAST_OPERATIONS, SHORTEST, _LONGEST = 20, 20.0, 600.0
# So many windows on end make an operation unusual, or usual again.
WINDOWS = 3
# It must fall to this part of the limit to become usual again.
_WELL_BELOW = 0.5
# Unusual is forgotten if the operation has not been done, or not often enough, for so long.
_UNUSED = 1800.0
# What has been beyond the limit for so long is usual from now on: the past begins anew.
ACCEPTED = 7 * DAY


class Course:
    """One operation of one mount from window to window."""

    __slots__ = (
        "_begun",
        "_calm",
        "_count",
        "_last",
        "_most",
        "_since",
        "_sum",
        "ended",
        "is_unusual",
        "past",
        "seconds",
    )

    def __init__(self, own_past: Past) -> None:
        self.past = own_past
        # The window under way: when it began, the operations in it, and the time they took in all.
        self._begun, self._count, self._sum = own_past.born, 0, 0.0
        # When the last window ended, and what the last ones took on average.
        self.ended = own_past.born
        self._last: Sequence[float] = ()
        # Since when the operation has been beyond the limit; None if it is not. How long it took at
        # most since then, and how many windows on end were well below the limit.
        self._since: Optional[float] = None
        self._most, self._calm = 0.0, 0
        # Whether it is beyond the limit, and that is not expected at this time of day; and how long
        # it took in the last window that was not well below the limit.
        self.is_unusual, self.seconds = False, 0.0

    @property
    def usual(self) -> Optional[float]:
        """What it usually takes; None if that is not known yet."""
        usual = self.past.usual(self.ended)
        return None if usual is None else usual.seconds

    def add(self, begun: float, ended: float, count: int, seconds: float, factor: float) -> None:
        """Take in that the operation was done ``count`` times between two ages, and took so many
        seconds in all. ``factor``: it is unusual if it takes so many times the usual, and more."""
        if not (count > 0 and seconds >= 0 and ended > begun):
            return
        if begun - self._begun > _LONGEST or not self._count:
            self._begun, self._count, self._sum = begun, 0, 0.0
        self._count += count
        self._sum += seconds
        if self._count >= LEAST_OPERATIONS and ended - self._begun >= SHORTEST:
            self._end_window(ended, self._sum / self._count, factor)

    def _end_window(self, age: float, seconds: float, factor: float) -> None:
        if self._begun - self.ended > _LONGEST:
            self._last = ()
        self._last = (*self._last[1 - WINDOWS :], seconds)
        self.ended, self._count, self._sum = age, 0, 0.0
        self.past.go_on(age)
        usual = self.past.usual(age)
        at_least = min(self._last) if len(self._last) == WINDOWS else 0.0
        limit = None if usual is None else usual.limit(factor)
        if limit is not None and (self._since is not None or at_least > limit):
            self._stay_beyond(age, seconds, at_least, limit)
        else:
            # Two windows on end make a peak, once the third one has not made them unusual.
            self.past.note(seconds, min(self._last[:-1]) if len(self._last) == WINDOWS else 0.0)

    def _stay_beyond(self, age: float, seconds: float, at_least: float, limit: float) -> None:
        """Go on with an operation that is beyond the limit. How long it takes meanwhile has no
        influence on what is usual."""
        if self._since is None:
            self._since, self._most, self._calm = age, 0.0, 0
        self._most = max(self._most, at_least)
        if seconds < limit * _WELL_BELOW:
            self._calm += 1
        else:
            self._calm, self.seconds = 0, seconds
        if self._calm == WINDOWS:
            self._come_back(age)
        elif age - self._since > ACCEPTED:
            self._come_back(age)
            self.past = Past(age)
        elif not self.is_unusual:
            self.is_unusual = at_least > limit and not self.past.expects(age, at_least)

    def _come_back(self, age: float) -> None:
        self.past.note_beyond(age, self._most)
        self._since, self.is_unusual = None, False

    def pass_by(self, age: float) -> None:
        """Take in that it is so late: an operation that nobody does is not unusual for long."""
        if self._since is not None and age - self.ended > max(_UNUSED, 2 * (self.ended - self._begun)):
            self._come_back(self.ended)
            self._last = ()

    # -- for a file

    def told(self) -> Sequence[object]:
        """All that matters after a pause, in numbers; :func:`remembered` takes them."""
        beyond = [] if self._since is None else [round(self._since), self._most, self.seconds, int(self.is_unusual)]
        return [round(self.ended), beyond, self.past.told()]


def remembered(told: Sequence[Any]) -> Course:
    """The course that was told. Raises an exception of any kind if that makes no sense."""
    ended, beyond, own_past = told
    course = Course(past.remembered(own_past))
    course.ended = float(ended)
    if beyond:
        since, most, seconds, is_unusual = beyond
        course._since, course._most, course.seconds = float(since), float(most), float(seconds)
        course.is_unusual = bool(is_unusual)
    return course
