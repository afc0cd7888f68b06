"""Where the traceback of a defect goes: nowhere, unless ``--debug`` asks for it. The verdict is the
same either way.

Import budget: ``os``; traceback only where one is said. A boundary that turns an exception into
words calls :func:`say` with it."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in __main__
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional


class _Through:
    write: "Optional[Callable[[str], object]]" = None


_through = _Through()


def say_to(write: "Callable[[str], object]") -> None:
    """From now on, the traceback of each defect is written with this, in lines."""
    _through.write = write


def to_stderr(lines: str) -> None:
    """Write to stderr. A terminal acts on nothing but the ends of lines."""
    safe = "".join(character if character.isprintable() or character == "\n" else "?" for character in lines)
    os.write(2, safe.encode("ascii", "backslashreplace"))


def say(error: BaseException) -> None:
    """Say where an exception comes from, if that was asked for. Raises nothing: this is called in
    the last boundaries, where memory may be what is lacking."""
    if _through.write is None:
        return
    try:
        import traceback

        _through.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    except BaseException:
        pass
