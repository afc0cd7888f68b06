"""Where the names that the options have lead, and what the devices are that they declare: looked up
again whenever that may have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

from check_mounts import checking, processes
from check_mounts.checking import Check
from check_mounts.clocks import after
from check_mounts.leads import Found
from check_mounts.model import Mount, Survey

# How long the daemon waits, in seconds, for the links and devices that are looked up.
_LONGEST = 2.0


class Lookout:
    """What was looked up last, and for which options."""

    def __init__(self, interrupted: Callable[[], Optional[str]]) -> None:
        self._interrupted = interrupted
        self.found: Optional[Found] = None
        # Where what was declared was last, by where it is now, if a link that leads there was
        # changed.
        self.led_before: dict[bytes, bytes] = {}
        self._options: Optional[Check] = None
        self._left: list[int] = []

    def knows(self, options: Check) -> bool:
        """Whether what was looked up is what these options name. Other options name other things:
        nothing can be said of those before they have been looked up."""
        return self._options is options

    def look_up(self, options: Check, mounts: Sequence[Mount], result: Optional[Survey]) -> bool:
        """Look up what ``options`` name, as far as ``result`` says what may be entered; whether
        something leads elsewhere than before."""
        before = self.found
        found = checking.look_up(options, mounts, result, after(_LONGEST), self._interrupted)
        moved = found is not None and before is not None and found.leads != before.leads
        if moved and found is not None and before is not None and self.knows(options):
            old, new = (checking.led(options, each).demands.expected for each in (before, found))
            self.led_before = {
                is_at.mount_point: was_at.mount_point
                for was_at, is_at in zip(old, new)
                if is_at.mount_point != was_at.mount_point
            }
        self.found, self._options = found, options
        self._left = processes.unreaped([*self._left, *(found.left if found is not None else ())])
        return moved

    def led(self, options: Check) -> Check:
        """The options with all names as the kernel has them, as far as that is known."""
        return checking.led(options, self.found)
