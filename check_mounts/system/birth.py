"""The first system calls of a process that was just forked, with arguments that were made before.

Import budget: ``ctypes`` through syscalls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from check_mounts.system.syscalls import PR_SET_NAME, PR_SET_PDEATHSIG, close_from


def at_birth(name: bytes, lowest: int, signal: int) -> Callable[[], None]:
    """A function for a process that was just forked: it closes every descriptor from ``lowest`` up
    and sets the name of the process, and the signal that comes when its parent dies. All arguments
    are made now: what a process makes, it keeps as memory of its own.

    That function raises OSError as :func:`check_mounts.system.syscalls.close_from` does."""
    libc, word = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong  # a handle of its own: nothing to convert
    call, close_range, none = libc.prctl, getattr(libc, "close_range", None), word(0)
    first, most, text = word(lowest), word(0xFFFFFFFF), ctypes.c_char_p(name)
    to_name, to_follow, how = word(PR_SET_NAME), word(PR_SET_PDEATHSIG), word(signal)

    def be_born() -> None:
        if close_range is None or close_range(first, most, none):
            close_from(lowest)
        call(to_name, text, none, none, none)
        call(to_follow, how, none, none, none)

    return be_born
