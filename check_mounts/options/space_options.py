"""What ``--namespaces`` needs."""

from __future__ import annotations

from check_mounts import mounttable
from check_mounts.options.refusals import refuse
from check_mounts.spaces.reader import Reader


def settled(mountinfo: str, deadline: float) -> Reader:
    """What reads the mounts of other namespaces with our own. Raises UsageError."""
    if mountinfo != mounttable.DEFAULT_PATH:
        refuse("--namespaces", "does not go with --mountinfo: it is about this host's own mounts")
    return Reader(mountinfo, deadline)
