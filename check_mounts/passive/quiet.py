"""SIGPIPE must not end a worker in the middle of a delivery: a server that hangs up is an error
with words.

Import budget: ``contextlib``, ``signal``.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def broken_pipes() -> Iterator[None]:
    """Within it, writing to who is gone is EPIPE. Python sees to that itself, but workers have the
    signals' defaults."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if before is None else before)
