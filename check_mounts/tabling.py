"""``--table`` in a run: its library is loaded before anything is asked, and the table is laid out
for whatever stdout leads to at the end.

Without the library, or if it fails, the lines of -v take the place of the table, with a note that
says why: nothing that was measured is lost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from check_mounts import text
from check_mounts.guard import defects
from check_mounts.guard.notes import Notes
from check_mounts.judging.policy import Judged
from check_mounts.model import State
from check_mounts.options.understood import Options
from check_mounts.report import packages
from check_mounts.system import colours, reading, terminal
from check_mounts.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from check_mounts.report import table

# The width where there is no terminal, as that of help.
_WIDTH = 100
# How long rich takes at most, in seconds: for all that is the same, and for a mount.
_SECONDS, _PER_MOUNT = 5.0, 0.01


class _Mode:
    """``trouble``: why there is no table; empty if there can be one."""

    notes = Notes()
    trouble = "not prepared"


_mode = _Mode()


def prepare(noted: Notes) -> None:
    """Load what makes the table, while nothing has been asked yet."""
    _mode.notes = noted
    try:
        reading.step("loading rich")
        from check_mounts.report import table

        table.check()
        _mode.trouble = ""
    except Exception as error:  # whatever is installed under this name is run
        defects.say(error)
        _mode.trouble = packages.missing("rich", error)


def report(
    judged: Judged, options: Options, text_of: Callable[[Judged, Options], tuple[bytes, State]]
) -> tuple[bytes, State]:
    """The output and its state. ``text_of`` makes the output without a table."""
    verbosity = options.output.verbosity
    if not _mode.trouble:
        try:
            output, state = text_of(judged, _with(options, 0))
            return output + _table(judged, verbosity), state
        except Exception as error:
            defects.say(error)
            _mode.trouble = text.error_of(error)
    output, state = text_of(judged, _with(options, max(1, verbosity)))
    return output + text.encoded(f"note: no table: {_mode.trouble}\n", _encoding()), state


def _with(options: Options, verbosity: int) -> Options:
    return options._replace(output=options.output._replace(verbosity=verbosity))


def _table(judged: Judged, verbosity: int) -> bytes:
    from check_mounts.report import table

    reading.step("laying out the table")
    _mode.notes.until(time.monotonic() + _SECONDS + _PER_MOUNT * len(judged.judgements))
    return text.encoded(table.made(judged, _screen(), verbosity), _encoding())


def _encoding() -> str:
    return terminal.drawable(getattr(sys.stdout, "encoding", None))


def _screen() -> table.Screen:
    from check_mounts.report import table

    fd = _mode.notes.terminal
    if fd is None:
        width = terminal.columns(-1, os.environ) if os.environ.get("COLUMNS") else _WIDTH
        return table.Screen(width, 0, _encoding(), False)
    return table.Screen(terminal.columns(fd, os.environ), terminal.lines(fd), _encoding(), colours.wanted())
