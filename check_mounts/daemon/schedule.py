"""The times at which passes over all mounts begin, and at which the boot grace of a mount ends."""

from __future__ import annotations

from collections.abc import Iterable

from check_mounts.clocks import NEVER, Boottime, Monotonic, after, boottime, monotonic
from check_mounts.typed import Optional

# The kernel may report a change of the mount table although the table reads the same (mounts came
# and went meanwhile, for example). The pass that this asks for begins no earlier than this many
# seconds after the beginning of the last one.
_BETWEEN_EARLY_PASSES = 10.0
# If the host was suspended for longer than this, in seconds, its results are old.
_SUSPENDED = 2.0


class Schedule:
    """The time of the next pass over all mounts."""

    def __init__(self) -> None:
        self.due = monotonic()
        self._begun = self.due
        self._asleep = _suspended()
        self._grace_ends: Optional[Boottime] = None

    @property
    def grace_due(self) -> Monotonic:
        """When the next boot grace ends, and with it what was published."""
        return NEVER if self._grace_ends is None else after(self._grace_ends - boottime())

    def note_graces(self, ends: Iterable[Optional[Boottime]]) -> None:
        """Note when the graces of missing mounts end."""
        now = boottime()
        self._grace_ends = min((each for each in ends if each is not None and each > now), default=None)

    def take_end_of_grace(self) -> bool:
        """Whether a grace has ended since the last time we asked."""
        if monotonic() < self.grace_due:
            return False
        self._grace_ends = None
        return True

    def ask_now(self) -> None:
        """Ask for a pass at once."""
        self.due = monotonic()

    def ask_soon(self, now: Monotonic) -> None:
        """Ask for a pass soon, but not soon after another one."""
        self.due = min(self.due, max(now, Monotonic(self._begun + _BETWEEN_EARLY_PASSES)))

    def notice_suspension(self) -> None:
        """Ask for a pass at once if the host was suspended: its results are old."""
        asleep = _suspended()
        if asleep - self._asleep > _SUSPENDED:
            self.ask_now()
        self._asleep = asleep

    def advance(self, now: Monotonic, interval: float) -> None:
        """Go on to the next turn. Turns that were missed are left out, and the others stay where
        they were, so that they do not drift."""
        self.due = Monotonic(self.due + (int((now - self.due) / interval) + 1) * interval)

    def restart(self, now: Monotonic, interval: float) -> None:
        """Count turns from now on."""
        self.due = Monotonic(now + interval)

    def note_begin(self, now: Monotonic) -> None:
        """Note that a pass has begun."""
        self._begun = now


def _suspended() -> float:
    """How many seconds this host has been suspended since its boot: CLOCK_MONOTONIC leaves them out
    (clock_gettime(2))."""
    return boottime() - monotonic()
