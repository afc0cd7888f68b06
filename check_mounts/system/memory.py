"""The daemon's memory: kept out of swap, and given back when it is no longer used.

Import budget: ``ctypes``."""

from __future__ import annotations

import ctypes

from check_mounts.system import syscalls

MCL_CURRENT = 1
MCL_FUTURE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def mlockall(flags: int) -> None:
    """mlockall(2): keep the pages of this process in memory. Raises OSError."""
    if _libc.mlockall(ctypes.c_int(flags)) == -1:
        raise syscalls.last_error()


def give_back() -> None:
    """malloc_trim(3): give memory that is no longer used back to the kernel."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:  # musl has no such function
        trim(ctypes.c_size_t(0))
