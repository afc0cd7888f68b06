"""The daemon's log: what changes, and the lines that come with each pass.

``--log-changes`` leaves out the latter, but for one a day: a log without lines does not show that
the daemon works."""

from __future__ import annotations

import syslog

from check_mounts.clocks import NEVER, boottime
from check_mounts.model import State
from check_mounts.system.logs import Log

# The priority of a line about something in this state.
PRIORITIES = {
    State.OK: syslog.LOG_NOTICE,
    State.WARNING: syslog.LOG_WARNING,
    State.CRITICAL: syslog.LOG_ERR,
    State.UNKNOWN: syslog.LOG_WARNING,
}
# How often a line comes that is no change, in seconds.
_DAY = 86400.0


class Diary:
    """A log. ``only_changes``: without the lines that come with each pass."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.only_changes = False
        # The last line about a pass, on CLOCK_BOOTTIME.
        self._told: float = -float(NEVER)

    def write(self, priority: int, line: str) -> None:
        """Log one event; ``priority`` is LOG_ERR and the like."""
        self._log.write(priority, line)

    def note_pass(self, line: str) -> None:
        """Log that a pass has ended, unless that is no news."""
        now = boottime()
        if not self.only_changes or now - self._told >= _DAY:
            self._told = now
            self._log.write(syslog.LOG_INFO, line)
