"""A context in which SIGPIPE does not end a delivery: if a server hangs up, that is an error with
words.

Import budget: ``contextlib``, ``signal``.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def broken_pipes() -> Iterator[None]:
    """In this context, writing to a closed pipe or connection fails with EPIPE. Python usually sees
    to that itself, but workers have default signals."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if before is None else before)
