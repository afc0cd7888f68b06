"""What systemd waits for: the start, which may take as long as a pass, and then the watchdog, which
the daemon feeds as long as it does its work."""

from __future__ import annotations

from check_mounts.clocks import NEVER, Monotonic, monotonic
from check_mounts.system.notify import Notifier

# If no pass ends for two intervals, the deadline and this many seconds, the daemon no longer tells
# systemd that it is well. A start may take this many seconds more than its first pass.
_PATIENCE = 10.0


class Watchdog:
    """Tells systemd that the daemon is well, but only while passes end. A loop that merely runs is
    not enough."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._fed = self._progress = monotonic()
        self._longest = 0.0

    def expect(self, interval: float, deadline: float) -> None:
        """From now on, passes begin this often, and take this long at most.

        The start ends with the first pass, which a mount that hangs makes as long as its timeout.
        systemd must not call that a start that failed (TimeoutStartSec=). After the start it
        ignores this."""
        self._longest = 2 * interval + deadline
        self._notifier.extend(deadline + _PATIENCE)

    def note_progress(self) -> None:
        """Note that a pass has ended."""
        self._progress = monotonic()

    @property
    def due(self) -> Monotonic:
        """When :meth:`feed` must be called; clocks.NEVER if systemd does not wait for it."""
        interval = self._notifier.watchdog_interval
        return NEVER if interval is None else Monotonic(self._fed + interval)

    def feed(self) -> None:
        """Tell systemd, if it is time."""
        now = monotonic()
        if now >= self.due and now - self._progress < self._longest + _PATIENCE:
            self._fed = now
            self._notifier.watchdog()
