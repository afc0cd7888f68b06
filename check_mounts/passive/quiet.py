"""Deliveries that SIGPIPE does not end: a server that hangs up is an error with words.

Import budget: ``contextlib``, ``signal``.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def broken_pipes() -> Iterator[None]:
    """Within this context, writing to a closed pipe or connection is EPIPE. Python does that by
    itself, but workers have default signals."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if before is None else before)
