"""Why we do not see all processes, or not into them.

Import budget: ``os``; text."""

from __future__ import annotations

import os

from check_mounts import text

# PROC_PID_INIT_INO in include/linux/proc_ns.h
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


def limits(refused: int) -> list[str]:
    """The limits in words, one line each. ``refused``: how many processes we may not look into."""
    lines = []
    if refused or (os.geteuid() != 0 and _is_hidden()):
        count = text.counted(refused, "process")
        lines.append(
            ("other processes are hidden" if not refused else f"{count} of other users could not be looked into")
            + ": only root (with CAP_SYS_PTRACE) sees all"
        )
    try:
        if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:
            lines.append("only the processes of this container (PID namespace) are seen")
    except OSError:
        lines.append("/proc cannot be read")
    return lines


def _is_hidden() -> bool:
    """Whether /proc shows a user only that user's processes (hidepid= in proc(5)). Where it does,
    not even PID 1 is there, unless it is the user's."""
    try:
        os.stat("/proc/1/stat")
    except OSError:
        return True
    return False
