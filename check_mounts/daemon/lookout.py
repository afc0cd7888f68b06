"""Where the names and devices in the options lead. They are looked up again whenever that may have
changed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from check_mounts.checks import checking
from check_mounts.checks.aftermath import Aftermath
from check_mounts.checks.checking import Check
from check_mounts.clocks import after
from check_mounts.model import Mount, Survey
from check_mounts.mounttable import Table
from check_mounts.naming import lookups
from check_mounts.naming.leads import Found
from check_mounts.selection import Selection
from check_mounts.system import processes
from check_mounts.typed import Optional

# How long the daemon waits for all look-ups of links and devices, in seconds.
_LONGEST = 2.0
# How long one question about mounts that have failed may take, and all of them, in seconds.
_EACH, _AFTERMATH = 0.6, 1.0


class Lookout:
    """The result of the last look-up, and the options that it was for."""

    def __init__(self, interrupted: Callable[[], Optional[str]]) -> None:
        self._interrupted = interrupted
        self.found: Optional[Found] = None
        self.aftermath = Aftermath()
        self._options: Optional[Check] = None
        self._left: list[int] = []
        # The last choice of mounts, and its basis.
        self._chosen: Optional[tuple[tuple[Check, Table, Optional[Found]], Selection]] = None

    def ask_about_failures(self, options: Check, concluded: Survey, mounts: Sequence[Mount]) -> None:
        """Ask this host about mounts that have failed."""
        self.aftermath.ask(options, concluded, mounts, lookups.Patience(_EACH, after(_AFTERMATH), self._interrupted))

    def knows(self, options: Check) -> bool:
        """Whether the last look-up was for these options. Other options have other names, and
        nothing is known about them before they have been looked up."""
        return self._options is options

    def look_up(self, options: Check, mounts: Sequence[Mount], result: Optional[Survey]) -> bool:
        """Look up the names in ``options``. Returns whether one leads elsewhere than before.
        ``result`` says which mounts the look-up may enter."""
        before = self.found
        found = checking.look_up(options, mounts, result, after(_LONGEST), self._interrupted)
        moved = found is not None and (before is None or found.leads != before.leads)
        self.found, self._options = found, options
        self._left = processes.reap_ended([*self._left, *(found.left if found is not None else ())])
        return moved

    def led(self, options: Check) -> Check:
        """The options with all names as the kernel spells them, if that is known."""
        return checking.with_leads(options, self.found)

    def choose(self, options: Check, table: Table) -> Selection:
        """The choice of the mounts in the table that should be probed; the same object as before if
        nothing has changed."""
        basis = options, table, self.found
        if self._chosen is None or any(map(operator.is_not, self._chosen[0], basis)):
            self._chosen = basis, options.select(table[0], self.led(options).filters)
        return self._chosen[1]

    def places(self, options: Check) -> dict[bytes, bytes]:
        """The mount points that arguments and declarations lead to, by their names as written, if
        that is known."""
        if self.found is None:
            return {}
        names = [*options.filters.mount_points, *(each.name or each.mount_point for each in options.demands.expected)]
        return {name: self.found.leads.of(name).path for name in names}
