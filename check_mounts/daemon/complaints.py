"""Troubles of the daemon itself: each is logged once, and once more when it is over."""

from __future__ import annotations

import syslog
import time
from collections.abc import Callable

from check_mounts.guard import defects
from check_mounts.system.logs import Log
from check_mounts.typed import Optional

# After a defect, which may happen again at once, in seconds.
_BREATH = 0.1


class Complaints:
    """The parts of the daemon that do not work now, with the words that were logged about each."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._words: dict[str, str] = {}
        # The tracebacks that were logged; their number is limited by the size of the program.
        self._tracebacks: set[str] = set()

    def tell(self, what: str, words: Optional[str]) -> None:
        """Log the trouble with a part, unless it was logged already. With None, log that the part
        works again."""
        known = self._words.get(what)
        if words is None:
            if known is not None:
                del self._words[what]
                self._log.write(syslog.LOG_NOTICE, f"No longer: {known}")
        elif words != known:
            self._words[what] = words
            self._log.write(syslog.LOG_ERR, words)

    def forget(self, what: str) -> None:
        """Log the next trouble with this part, even if it is the same."""
        self._words.pop(what, None)

    def guard(self, what: str, action: Callable[[], None]) -> None:
        """Do ``action``. Neither a defect nor a lack of memory may end the daemon. If nothing works
        any more, the watchdog ends it."""
        try:
            action()
        except Exception as error:
            place = defects.place(error)
            where = f" ({place})" if place else ""
            self.tell(what, f"Internal error in {what}: {type(error).__name__}: {error}{where}")
            defects.say(error)
            time.sleep(_BREATH)

    def debug(self) -> None:
        """From now on, log each traceback once (--debug)."""
        defects.say_to(self._log_traceback)

    def _log_traceback(self, lines: str) -> None:
        places = lines.rstrip("\n").rpartition("\n")[0]  # an error may have other words each time
        if places in self._tracebacks:
            return
        self._tracebacks.add(places)
        for line in lines.splitlines():
            self._log.write(syslog.LOG_ERR, line)
