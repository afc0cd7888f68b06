"""Troubles of the daemon itself: each is logged once, and once more when it is over. As long as it
lasts, the daemon's other outputs show it, too."""

from __future__ import annotations

import enum
import syslog
import time
from collections.abc import Callable, Iterable, Mapping

from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.daemon.diary import Diary
from check_mounts.guard import defects
from check_mounts.typed import NamedTuple, Optional

# After a defect, which may happen again at once, in seconds.
_BREATH = 0.1
# The outputs are made again no sooner than this after the last time, in seconds.
_BETWEEN = 1.0


class Part(enum.Enum):
    """The parts of the daemon that may not work, by their names in the metrics; those that concern
    most come first."""

    CONFIGURATION = "configuration"
    RESTART = "restart"
    FSTAB = "fstab"
    CHECKING = "checking"
    MOUNT_TABLE = "mount_table"
    MEMORY = "memory"
    LIBRARY = "library"
    REPORT = "report"
    RESULT = "result"
    METRICS = "metrics"
    SUBMISSION = "submission"
    SERVICES = "services"
    INCIDENTS = "incidents"
    USUAL = "usual"
    INTERNAL = "internal"


class _Trouble(NamedTuple):
    """``logged`` is its line in the log, ``note`` has the words for all other outputs."""

    logged: str
    note: str


_Key = tuple[Part, str]


class Complaints:
    """The parts of the daemon that do not work now, and why. ``name`` distinguishes several
    troubles with one part."""

    def __init__(self, log: Diary) -> None:
        self._log = log
        self._troubles: dict[_Key, _Trouble] = {}
        # The tracebacks that were logged; their number is limited by the size of the program.
        self._tracebacks: set[str] = set()
        # The troubles that the outputs show, and when they may be made again.
        self._shown: frozenset[_Key] = frozenset()
        self._not_before = PAST

    def tell(self, part: Part, words: Optional[str], name: str = "") -> None:
        """Log the trouble with a part, unless it was logged already. With None, log that the part
        works again."""
        known = self._troubles.get((part, name))
        if words is None:
            if known is not None:
                del self._troubles[part, name]
                self._log.write(syslog.LOG_NOTICE, f"No longer: {known.logged}")
        elif known is None or words != known.logged:
            self.show(part, words, name)
            self._log.write(syslog.LOG_ERR, words)

    def show(self, part: Part, words: Optional[str], name: str = "") -> None:
        """Show the trouble with a part, which somebody else has logged; with None, show it no
        more."""
        self._troubles.pop((part, name), None)
        if words is not None:
            self._troubles[part, name] = _Trouble(words, words[:1].lower() + words[1:])

    def forget(self, part: Part, name: str = "") -> None:
        """Log the next trouble with this part, even if it is the same."""
        self._troubles.pop((part, name), None)

    def keep(self, part: Part, names: Iterable[str]) -> None:
        """Forget the troubles with this part that have other names: nobody will say that they are
        over."""
        for key in [key for key in self._troubles if key[0] is part and key[1] not in names]:
            del self._troubles[key]

    def guard(self, what: str, action: Callable[[], None]) -> None:
        """Do ``action``. Neither a defect nor a lack of memory may end the daemon. If nothing works
        any more, the watchdog ends it."""
        try:
            action()
        except Exception as error:
            place = defects.place(error)
            where = f" ({place})" if place else ""
            self.tell(Part.INTERNAL, f"Internal error in {what}: {type(error).__name__}: {error}{where}", what)
            defects.say(error)
            time.sleep(_BREATH)

    # -- for the other outputs

    def notes(self, *without: Part) -> list[str]:
        """The troubles in words."""
        return [
            trouble.note
            for wanted in Part
            for (part, _), trouble in self._troubles.items()
            if part is wanted and part not in without
        ]

    def counts(self) -> Mapping[str, int]:
        """The number of troubles with each part."""
        found = dict.fromkeys(Part, 0)
        for part, _ in self._troubles:
            found[part] += 1
        return {part.value: number for part, number in found.items()}

    @property
    def due(self) -> Monotonic:
        """When the outputs should be made again; clocks.NEVER if they show what there is. A reason
        that has changed is no cause: it may change each time."""
        return NEVER if self._shown == self._troubles.keys() else self._not_before

    def note_shown(self) -> None:
        """Note that the outputs are about to show what there is."""
        self._shown, self._not_before = frozenset(self._troubles), after(_BETWEEN)

    @property
    def is_news(self) -> bool:
        """Whether the outputs should be made again now."""
        return monotonic() >= self.due

    # -- --debug

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
