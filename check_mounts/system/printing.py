"""Printing in pieces, so that a reader that does not read cannot block this process."""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from collections.abc import Callable

from check_mounts import text
from check_mounts.system.signals import Interrupts

# The longest time that all writing to a slow reader may take, in seconds.
WRITE_PATIENCE = 4.0
# How often a write may fail, for lack of memory for example.
_MOST_FAILURES = 5


class _Mode:
    """What is done with all that goes to stdout."""

    paint: Callable[[bytes], bytes] = bytes


_mode = _Mode()


def paint_with(paint: Callable[[bytes], bytes]) -> None:
    """From now on, stdout gets colours from this function."""
    _mode.paint = paint


def stdout_encoding() -> str:
    """The encoding of stdout, as the locale asks for it."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def complain(words: str, interrupts: Interrupts) -> None:
    """Print a message on stderr, on one line."""
    write(text.encoded(f"check_mounts: {text.one_line(words)}\n", "utf-8"), interrupts, fd=2)


def write(data: bytes, interrupts: Interrupts, fd: int = 1) -> None:
    """Write to a descriptor, in pieces that a pipe takes without blocking: a reader that does not
    read must not hold us for ever.

    A signal that comes now ends the writing. But the first piece, which has the verdict, is tried
    once even then."""
    until = time.monotonic() + WRITE_PATIENCE
    data = _mode.paint(data) if fd == 1 else data
    view = memoryview(data)
    known, failures = interrupts.count, 0
    while view:
        left = until - time.monotonic()
        # A signal does not end a poll (PEP 475), so it is a short one.
        if left <= 0 or (interrupts.count > known and len(view) < len(data)):
            return
        if not _has_room(fd, min(left, 0.1)):
            if interrupts.count > known:
                return
            continue
        try:
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue
        except OSError as error:  # EPIPE, EBADF: nobody reads this; the exit code still tells the state
            failures += 1
            if failures == _MOST_FAILURES or error.errno in (errno.EPIPE, errno.EBADF):
                return
            time.sleep(0.01)


def _has_room(fd: int, seconds: float) -> bool:
    """Whether a descriptor takes data within ``seconds``. Where the kernel cannot say, the answer
    is yes, and the caller tries it."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        return bool(poll.poll(int(seconds * 1000) + 1))
    except OSError:
        return True
