"""How often the SMB client of the kernel connected again (/proc/fs/cifs/Stats).

Import budget: ``re``; text. Reading the file asks no server: cifs_stats_proc_show
(fs/smb/client/cifs_debug.c) holds spin locks only. It counts for the whole host, not for a
mount."""

from __future__ import annotations

import re

from check_mounts import text
from check_mounts.typed import NamedTuple, Optional

# All kernels have this line, unless they are built without these statistics. Writing 0 into the
# file sets both to 0. They are signed, and are not understood once they have become negative.
_LINE = rb"(?m)^(\d{1,10}) session (\d{1,10}) share reconnects$"


class Reconnects(NamedTuple):
    """How many sessions with servers, and how many shares, were connected again."""

    sessions: int
    shares: int


def read(path: str = "/proc/fs/cifs/Stats") -> Optional[Reconnects]:
    """The counters now; None if the kernel has none, or does not say so. Raises nothing."""
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except OSError:
        return None


def parse(data: bytes) -> Optional[Reconnects]:
    """The counters in the text of the file."""
    found = re.search(_LINE, data)
    return None if found is None else Reconnects(int(found[1]), int(found[2]))


def moved(before: Optional[Reconnects], after: Optional[Reconnects]) -> Optional[Reconnects]:
    """What the counters moved by; None if that is nothing, or not known because they began
    again."""
    if before is None or after is None:
        return None
    difference = Reconnects(after.sessions - before.sessions, after.shares - before.shares)
    return difference if min(difference) >= 0 < max(difference) else None


def words(difference: Reconnects, seconds: float) -> str:
    """``SMB: 1 session and 2 shares were connected again within 60 s``."""
    parts = ((difference.sessions, "session"), (difference.shares, "share"))
    said = " and ".join([text.counted(number, noun) for number, noun in parts if number])
    verb = "was" if sum(difference) == 1 else "were"
    return f"SMB: {said} {verb} connected again within {seconds:.0f} s"
