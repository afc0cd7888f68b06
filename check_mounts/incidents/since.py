"""The times that ``--since`` takes: ``24h``, ``1d12h``, ``02:00``, ``2026-11-29 02:00``,
``yesterday``. Pure, but for the host's time zone.

Import budget: ``re``, ``time``."""

from __future__ import annotations

import re
import time

from check_mounts.clocks import Epoch
from check_mounts.typed import NamedTuple, Optional

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_PARTS = re.compile(r"([0-9]{1,9}) ?(min|s|m|h|d|w) ?", re.ASCII)
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday)?"
    r"(?:(?:(?<!\A)[ T]|\A)(?P<hour>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?))?\Z",
    re.ASCII,
)
_MOST = 100 * 366 * 86400


class Since(NamedTuple):
    """A time: so many seconds ``ago``, or a fixed one (``at``)."""

    ago: Optional[float] = None
    at: Optional[Epoch] = None


def parse(word: str, now: Epoch) -> Since:
    """The time that a word means. Raises ValueError with what is wrong with it."""
    ago = _duration(word)
    if ago is not None:
        if ago > _MOST:
            raise ValueError("it is more than a hundred years")
        return Since(ago=float(ago))
    found = _TIME.match(word)
    if not word or found is None:
        raise ValueError("write a duration such as 24h, 90m or 7d, or a time such as '2026-11-29 02:00' or 02:00")
    at = _moment(found["day"], found["hour"] or "00:00", now)
    if at > now:
        raise ValueError("it is in the future")
    return Since(at=at)


def _duration(word: str) -> Optional[int]:
    """The seconds of a duration; None for another word."""
    if not word or _PARTS.sub("", word):
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in _PARTS.findall(word))


def _moment(day: Optional[str], hour: str, now: Epoch) -> Epoch:
    """Raises ValueError."""
    today = time.localtime(now)
    date = (today.tm_year, today.tm_mon, today.tm_mday)
    if day == "yesterday":
        date = (today.tm_year, today.tm_mon, today.tm_mday - 1)
    elif day is not None and day != "today":
        year, month, number = map(int, day.split("-"))
        date = year, month, number
    hours, minutes, seconds = (*map(int, hour.split(":")), 0)[:3]
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("there is no such time")
    at = _local(date, hours, minutes, seconds)
    if day is None and at > now:  # the last night's
        at = _local((date[0], date[1], date[2] - 1), hours, minutes, seconds)
    if day is not None and day[0].isdigit() and time.localtime(at)[:3] != date:
        raise ValueError("there is no such day")
    return at


def _local(date: tuple[int, int, int], hours: int, minutes: int, seconds: int) -> Epoch:
    """mktime(3), which takes the 0th of a month for the last day of the one before. Raises
    ValueError."""
    try:
        return Epoch(time.mktime((*date, hours, minutes, seconds, 0, 0, -1)))
    except OverflowError:
        raise ValueError("there is no such day") from None
