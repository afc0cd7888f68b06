"""How often SMB sessions and shares were connected again between two passes."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts import filesystems
from check_mounts.clocks import Monotonic, monotonic
from check_mounts.model import Mount, Survey
from check_mounts.probing import smbstats
from check_mounts.probing.smbstats import Reconnects
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol


class Reconnected:
    """The counters at the last look, and a note of what they had moved by."""

    def __init__(self) -> None:
        self._last: Optional[tuple[Monotonic, Optional[Reconnects]]] = None
        self._note = ""

    def look(self, mounts: Sequence[Mount]) -> None:
        """Look at the counters, if one of these mounts is of SMB."""
        before, self._last, self._note = self._last, None, ""
        if any(filesystems.protocol(mount) is Protocol.SMB for mount in mounts):
            now = self._last = monotonic(), smbstats.read()
            moved = None if before is None else smbstats.moved(before[1], now[1])
            if moved is not None and before is not None:
                self._note = smbstats.words(moved, now[0] - before[0])

    def told(self, survey: Survey) -> Survey:
        """The survey with the note. The kernel counts for the whole host, so no mount has it."""
        return survey._replace(notes=(*survey.notes, self._note)) if self._note else survey
