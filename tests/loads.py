"""Days in the life of an NFS mount, as the kernel's counters show them: for tests of what is usual.

A load is what makes one operation of one mount take as long as it does, and be done as often as it
is: a cache and the disks behind it, tides of the day, weekends, bursts of work, a backup each night
or week, single requests that take long, outages of the server."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import NamedTuple, Optional

from check_mounts.clocks import Monotonic
from check_mounts.probing.operations import Counters, Reading
from check_mounts.traffic import Operation

POINT, SOURCE = b"/data", b"nas:/data"
WINDOW = 300.0
DAY_OF_WINDOWS = 288


class Window(NamedTuple):
    """How often the operation was done, and how long it took on average, in seconds."""

    done: int
    seconds: float


class Load:
    """A load chosen at random; ``plain``: one without great changes, such as most mounts have."""

    def __init__(self, chance: random.Random, plain: bool = False) -> None:
        self._chance = chance
        self._fast = math.exp(chance.uniform(math.log(0.002 if plain else 0.0002), math.log(0.02)))
        self._slower = 0.0 if plain else chance.choice((0.0, 0.005, 0.015, 0.04))  # what is not in the cache
        self._missed = chance.choice((0.0, 0.1, 0.5, 0.9))
        self._noise = chance.choice((0.1, 0.3)) if plain else chance.choice((0.1, 0.3, 0.6))
        self._tide = chance.uniform(0, 0.5 if plain else 1.2)
        self._burst = chance.uniform(0, 1 if plain else 8)
        self._backup = chance.randrange(DAY_OF_WINDOWS), chance.randrange(3, 40)
        self._strength = chance.uniform(1, 1.5) if plain else chance.uniform(2, 20)
        self._every = chance.choice((1, 1, 1, 7, 7))
        self._often = chance.choice((500, 5000)) if plain else chance.choice((5, 40, 500, 5000, 100_000))

    def day(self, number: int) -> Iterator[Window]:
        """The windows of a day."""
        chance, draw = self._chance, self._chance.random
        week = 0.3 if number % 7 >= 5 else 1.0
        begin = self._backup[0] + chance.randrange(-3, 4)
        backup = range(begin, begin + self._backup[1]) if number % self._every == 0 else range(0)
        strength = self._strength * math.exp(chance.gauss(0, 0.15))
        missed, left, burst, away = self._missed, 0, 1.0, 0
        for place in range(DAY_OF_WINDOWS):
            event = draw()
            if event < 0.03:
                missed = min(1.0, self._missed * (0.5 + draw()))
            elif event < 0.04:
                left, burst = chance.randrange(1, 7), 1 + draw() * self._burst
            elif event < 0.0402:
                away = chance.randrange(1, 6)
            tide = math.sin(place * 2 * math.pi / DAY_OF_WINDOWS)
            count = int(self._often * week * draw() * (1 + tide))
            noise = math.exp(chance.gauss(0, self._noise) + self._tide * week * tide)
            factor = 1.0
            if left:
                left, count, factor = left - 1, count * 5, burst
            if place in backup:
                count, factor = count * 10 + 100, max(factor, strength)
            seconds = (self._fast + self._slower * missed) * noise * factor + (draw() / 2 if draw() < 0.003 else 0.0)
            if away:  # the requests wait until the server is back
                away -= 1
                yield Window(0, 0.0) if away else Window(count + 1, 30.0)
            else:
                yield Window(count, seconds)


class Host:
    """The kernel's counters of one mount, and the clock."""

    def __init__(self, wraps_at: int = 2**64) -> None:
        self._wraps_at = wraps_at
        self.now, self._mounted = 1e6, 1e6 - 100
        self._count = self._milliseconds = 0

    def work(self, window: Window, seconds: float = WINDOW) -> None:
        """Let time pass, in which a window's operations were done."""
        self.now += seconds
        self._count = (self._count + window.done) % self._wraps_at
        self._milliseconds = (self._milliseconds + int(window.done * window.seconds * 1000)) % self._wraps_at

    def mount_again(self) -> None:
        """Begin to count anew."""
        self._mounted, self._count, self._milliseconds = self.now, 0, 0

    def look(self, name: bytes = b"READ", size: int = 4096) -> Reading:
        """The counters as they are now."""
        count, time = self._count, self._milliseconds
        done = Operation(name, count, count, 0, 0, count * size, 0, time, time, 0)
        counters = Counters(SOURCE, int(self.now - self._mounted), {name: done} if count else {})
        return Reading(Monotonic(self.now), {POINT: counters})


def later(reading: Optional[Reading], other: Reading) -> float:
    """The seconds between two looks."""
    return 0.0 if reading is None else other.time - reading.time
