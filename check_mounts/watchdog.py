"""systemd's watchdog is fed as long as the daemon does its work."""

from __future__ import annotations

from check_mounts.clocks import NEVER, Monotonic, monotonic
from check_mounts.notify import Notifier

# How much longer than two intervals and the deadline the daemon may go without a pass that comes to
# its end, in seconds, before it no longer tells systemd that it is well.
_PATIENCE = 10.0


class Watchdog:
    """Tells systemd that the daemon is well: only while passes come to their end, not because its
    loop turns."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._fed = self._progress = monotonic()
        self._longest = 0.0

    def expect(self, interval: float, deadline: float) -> None:
        """From now on, this is how often passes begin and how long one takes at most."""
        self._longest = 2 * interval + deadline

    def progress(self) -> None:
        """A pass has come to its end."""
        self._progress = monotonic()

    @property
    def due(self) -> Monotonic:
        """When :meth:`feed` must be called; clocks.NEVER where systemd does not wait."""
        interval = self._notifier.watchdog_interval
        return NEVER if interval is None else Monotonic(self._fed + interval)

    def feed(self) -> None:
        """Tell it, if it is due."""
        now = monotonic()
        if now >= self.due and now - self._progress < self._longest + _PATIENCE:
            self._fed = now
            self._notifier.watchdog()
