"""The line on the terminal that says what a run waits for: ``40/42 answered; waiting for /home
3.2 s, /data 3.2 s``.

The watcher draws it, so it moves on while the check itself is caught. It uses a description of the
terminal that is its own and never blocks: the user may have stopped the terminal (^S), and a write
would wait for ^Q. For the same reason, the watcher then prints the child's output, too, and the two
cannot meet on one line.

After each drawing the cursor is at the beginning of the line. Where the user makes the terminal
narrower, and the terminal breaks the line into several, the cursor stays at the beginning of the
first one; so erasing "from here to the end of the screen" leaves nothing of it.

Import budget: ``os``, ``sys``, ``time``; text, colours, terminal. Loaded only on a terminal, by the
watcher, before anything is checked."""

from __future__ import annotations

import os
import sys
import time

from check_mounts import text
from check_mounts.guard.notes import Noted, Waiting
from check_mounts.system import colours, terminal
from check_mounts.typed import Optional

# When the line appears, and how often it changes, in seconds. A quick run shows nothing.
_AFTER, PERIOD = 0.5, 0.25
# Erase to the end of the screen, but never from its very first place: tmux would keep a copy.
_ERASE = b"\r \33[J\r"
# In between, a character that has no room takes the place of the last one. So a line stays one even
# while the terminal has become narrower, and does not say so yet.
_BEGIN, _END = b"\r\33[?7l", b"\33[J\33[?7h\r"
# How much of a name is kept, in characters.
_LONGEST_NAMES = 60, 30, 12
# More names fit on no line.
_MOST_NAMES = 20


def open_screen() -> Optional[Screen]:
    """The terminal that stderr leads to, if a line may be drawn there: not in the background, and
    not on a terminal that knows no escape sequences."""
    try:
        if not colours.obeyed() or not _in_foreground(2):
            return None
        # The group in the foreground is known only of the controlling terminal, which this is.
        return Screen(os.open("/dev/tty", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None


def _in_foreground(fd: int) -> bool:
    """Raises OSError if this is not the controlling terminal."""
    return os.tcgetpgrp(fd) == os.getpgrp()


class Screen:
    """A terminal, and the line that is drawn on it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._encoding = terminal.drawable(getattr(sys.stderr, "encoding", None))
        self._next = time.monotonic() + _AFTER
        self._step, self._since = b"", time.monotonic()
        self._is_drawn = False

    def shows(self, fd: int) -> bool:
        """Whether a descriptor leads to this terminal."""
        try:
            return os.tcgetpgrp(fd) > 0
        except OSError:
            return False

    def painted(self, output: bytes, fd: int) -> bytes:
        """An output for a descriptor: with colours if that is this terminal."""
        return colours.painted(output) if fd == self.fd and colours.wanted() else output

    def draw(self, noted: Noted, waiting: Waiting) -> None:
        """Draw the line again if it is time to, with what it says now."""
        now = time.monotonic()
        if noted.step != self._step:
            self._step, self._since = noted.step, now
        if now < self._next:
            return
        self._next = now + PERIOD
        try:
            width = os.get_terminal_size(self.fd).columns
            if width > 1 and _in_foreground(self.fd):
                step = noted.step.decode("utf-8", "replace")
                words = line(step, now - self._since, waiting, width - 1, self._encoding)
                os.write(self.fd, _BEGIN + words + _END)
                self._is_drawn = True
        except OSError:  # it is stopped, or it hung up
            pass

    def erase(self) -> bool:
        """Remove the line; return whether it is gone."""
        if self._is_drawn:
            try:
                if _in_foreground(self.fd):
                    os.write(self.fd, _ERASE)
            except BlockingIOError:
                return False
            except OSError:
                pass
            self._is_drawn = False
            self._next = max(self._next, time.monotonic() + PERIOD)
        return True


def line(step: str, seconds: float, waiting: Waiting, width: int, encoding: str) -> bytes:
    """What the line says, in no more than ``width`` columns. ``seconds``: how long the step has
    taken so far."""
    if not waiting.total or waiting.answered >= waiting.total:
        words = [f"{step}, {seconds:.0f} s" if seconds >= 1 else step]
    else:
        now = time.monotonic()
        names = [(_drawn(name, encoding), now - since) for since, name in waiting.names[:_MOST_NAMES]]
        words = _ways(f"{waiting.answered}/{waiting.total}", names, waiting.unnamed + len(waiting.names) - len(names))
    fitting = next((each for each in words if terminal.cells(each) <= width), words[-1])
    return text.encoded(terminal.cut(_drawn(fitting, encoding), width), encoding)


def _drawn(words: str, encoding: str) -> str:
    """Words as the terminal will show them. A note may have been read while it was written."""
    return text.encoded(text.one_line(words), encoding).decode(encoding, "replace")


def _ways(counts: str, names: list[tuple[str, float]], unnamed: int) -> list[str]:
    """Ways to say it, from the longest to the shortest: with all names, with fewer, and at last
    with one that has lost its middle."""
    if not names:
        return [f"{counts} answered"]
    ways = []
    for head in (f"{counts} answered; waiting for", f"{counts}:"):
        for limit in _LONGEST_NAMES:
            items = [f"{text.clipped(name, limit)} {seconds:.1f} s" for name, seconds in names]
            for count in range(len(items) if limit == _LONGEST_NAMES[0] else 1, 0, -1):
                more = len(items) - count + unnamed
                ways.append(f"{head} {', '.join([*items[:count], *([f'{more} more'] if more else [])])}")
    return ways
