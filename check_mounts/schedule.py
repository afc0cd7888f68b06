"""When passes over all mounts begin."""

from __future__ import annotations

import time

from check_mounts.clocks import Monotonic, monotonic

# A pass that a change of the mount table asks for, though the table read again is the same (mounts
# came and went meanwhile, say), begins at least this long after the last one, in seconds.
_BETWEEN_EARLY_PASSES = 10.0
# A host that was suspended for longer than this has results that are old, in seconds.
_SUSPENDED = 2.0


class Schedule:
    """The time of the next pass over all mounts."""

    def __init__(self) -> None:
        self.due = monotonic()
        self._begun = self.due
        self._asleep = _suspended()

    def now(self) -> None:
        """A pass is wanted at once."""
        self.due = monotonic()

    def early(self, now: Monotonic) -> None:
        """A pass is wanted soon, but none soon after another."""
        self.due = min(self.due, max(now, Monotonic(self._begun + _BETWEEN_EARLY_PASSES)))

    def notice_suspension(self) -> None:
        """If the host was suspended, a pass is wanted at once: what was measured before is old."""
        asleep = _suspended()
        if asleep - self._asleep > _SUSPENDED:
            self.now()
        self._asleep = asleep

    def advance(self, now: Monotonic, interval: float) -> None:
        """The turn that is due is taken. Missed turns are left out, and the others stay where they
        were: no drift."""
        self.due = Monotonic(self.due + (int((now - self.due) / interval) + 1) * interval)

    def restart(self, now: Monotonic, interval: float) -> None:
        """Turns count from now on."""
        self.due = Monotonic(now + interval)

    def begun(self, now: Monotonic) -> None:
        """A pass has begun."""
        self._begun = now


def _suspended() -> float:
    """How many seconds this host has been suspended since its boot: CLOCK_MONOTONIC leaves them out
    (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
