"""The traceback of a defect is written only if ``--debug`` asks for it; the verdict is the same
with and without it.

Import budget: ``os``. A boundary that turns an exception into words calls :func:`say` with it. The
traceback has no lines of source code: Python would read them from the program's files, which may
lie on a mount that hangs by then."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in __main__
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Optional


class _Sink:
    write: "Optional[Callable[[str], object]]" = None


_sink = _Sink()


def say_to(write: "Callable[[str], object]") -> None:
    """Write the traceback of each defect with ``write`` from now on; it gets whole lines."""
    _sink.write = write


def to_stderr(lines: str) -> None:
    """Write to stderr. The only control character that reaches a terminal is the newline."""
    safe = "".join(character if character.isprintable() or character == "\n" else "?" for character in lines)
    os.write(2, safe.encode("ascii", "backslashreplace"))


def say(error: BaseException) -> None:
    """Write where an exception comes from, if ``--debug`` asks for that. Never raises: the
    outermost boundaries call this, perhaps when no memory is left."""
    if _sink.write is None:
        return
    try:
        _sink.write("".join(f"{line}\n" for line in traceback(error)))
    except BaseException:
        pass


def place(error: BaseException) -> str:
    """The place where an exception was raised: ``survey.py:123``; empty if that is not known."""
    frames = _frames(error.__traceback__)
    return f"{os.path.basename(frames[-1].tb_frame.f_code.co_filename)}:{frames[-1].tb_lineno}" if frames else ""


def traceback(error: BaseException) -> "list[str]":
    """The lines of a traceback as Python writes them, but without source code; the traceback of the
    exception's cause comes first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [
        *(traceback(before) if before is not None else ()),
        "Traceback (most recent call last):",
        *(
            f'  File "{frame.tb_frame.f_code.co_filename}", line {frame.tb_lineno}, in {frame.tb_frame.f_code.co_name}'
            for frame in _frames(error.__traceback__)
        ),
        f"{type(error).__name__}: {error}",
    ]


def _frames(trace: "Optional[TracebackType]") -> "list[TracebackType]":
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames
