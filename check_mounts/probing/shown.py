"""What a pass waits for, told again and again to the watcher, which shows it to the user."""

from __future__ import annotations

from collections.abc import Iterable

from check_mounts import meaning, text
from check_mounts.clocks import PAST, Monotonic, after, boottime, monotonic
from check_mounts.guard.notes import Notes
from check_mounts.model import Condition, Finding
from check_mounts.probing.survey import Pass

# How often it is told, in seconds; how long a probe must have taken.
_PERIOD, _LONG = 0.2, 0.4
_LONGEST_NAME = 120
_UNANSWERED = frozenset(row.condition for row in meaning.TABLE if row.silent) | {Condition.UNPROBED}


class Shown:
    """Tells what the passes of a run wait for."""

    def __init__(self, noted: Notes) -> None:
        self._noted, self._next = noted, PAST

    def follow(self, under_way: Pass) -> None:
        """Tell of this pass from now on."""
        under_way.show = lambda: self._in_time(under_way)

    def _in_time(self, under_way: Pass) -> Monotonic:
        """Tell it, if it is time to; return the next time."""
        if monotonic() >= self._next:
            self._next = after(_PERIOD)
            self._tell(under_way)
        return self._next

    def tell_result(self, findings: Iterable[Finding]) -> None:
        """Between two passes, when nothing is asked: tell what the next one will wait for."""
        counted = [each for each in findings if each.is_mount and meaning.of(each.condition).counted]
        bad = [each for each in counted if each.condition in _UNANSWERED]
        now, booted = monotonic(), boottime()
        names = [
            (now - (booted - (each.since or each.stuck_since or booted)), _name(each.mount_point))
            for each in bad
            if each.condition is not Condition.BLOCKED
        ]
        self._noted.waiting(len(counted) - len(bad), len(counted), sorted(names))

    def _tell(self, under_way: Pass) -> None:
        chosen, findings = under_way.chosen.selected, under_way.book.findings
        known = (findings.get(mount.mount_id) for mount in chosen)
        answered = sum([each is not None and each.condition not in _UNANSWERED for each in known])
        now, waited = monotonic(), [(seconds, mount.mount_point) for mount, _, seconds in under_way.waiting_for(_LONG)]
        names = [(now - seconds, _name(point)) for seconds, point in sorted(waited, reverse=True)]
        self._noted.waiting(answered, len(chosen), names)


def _name(mount_point: bytes) -> str:
    return text.clipped(text.printable(mount_point), _LONGEST_NAME)
