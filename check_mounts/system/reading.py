"""Questions to files, directories and the database of users, asked for options and configuration
files: each is announced before it is asked, and its answer can be recorded and given again.

Import budget: ``marshal``; text. A question may hang. A single run has a watcher, which must know
the last question. The daemon has no watcher. A process that the daemon can give up asks everything
and records the answers; the daemon works with these, and asks nothing itself."""

from __future__ import annotations

import errno
import marshal
from collections.abc import Callable

from check_mounts import text
from check_mounts.typed import Any, Optional, TypeVar

Value = TypeVar("Value")
# (the question, the name) -> (the answer, errno, the words of an error). marshal must be able to
# write all of it.
Answers = dict[tuple[str, str], tuple[Any, int, str]]


# How long all recorded answers together may be, in bytes: the largest fstab that is read (16 MiB),
# and as much again for everything else.
MOST = 32 << 20
# Recorded in place of an errno: this answer had no room.
_NO_ROOM = -1


class Unanswered(Exception):
    """A question without a recorded answer; the message says why."""


class Changed(Unanswered):
    """A question that was not asked when the answers were recorded."""


class TooMuch(Unanswered):
    """The answers would be too long to record."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            f"{what} {text.clipped(text.printable_argument(name), 400)}: "
            f"too much to read, more than {MOST >> 20} MiB in all"
        )


class _Mode:
    """How this process asks its questions."""

    say: Callable[[str], None] = staticmethod(lambda words: None)
    recorded: Optional[Answers] = None
    room = 0
    given: Optional[Answers] = None


_mode = _Mode()


def say_to(say: Callable[[str], None]) -> None:
    """Have each step announced through ``say`` before it is taken: ``reading /etc/fstab``."""
    _mode.say = say


def step(words: str) -> None:
    """Announce a step."""
    _mode.say(words)


def ask(what: str, name: str, read: Callable[[str], Value]) -> Value:
    """Announce the question as ``what``, then ask ``read(name)`` and return the answer.

    Where recorded answers are given, return the recorded one instead. Raises OSError as ``read``
    does; TooMuch where answers are recorded and this one is too long; Changed where recorded
    answers are given and this one is missing."""
    if _mode.given is not None:
        return _again(what, name, _mode.given)  # type: ignore[no-any-return]
    step(f"{what} {text.clipped(text.printable_argument(name), 400)}")
    try:
        answer = read(name)
    except OSError as error:
        if _mode.recorded is not None:
            _record(_mode.recorded, what, name, (None, error.errno or errno.EIO, error.strerror or ""))
        raise
    if _mode.recorded is not None:
        _record(_mode.recorded, what, name, (answer, 0, ""))
    return answer


def _record(answers: Answers, what: str, name: str, answer: tuple[Any, int, str]) -> None:
    """Raises TooMuch."""
    _mode.room -= len(marshal.dumps((what, name, answer)))
    if _mode.room < 0:
        answers[what, name] = (None, _NO_ROOM, "")
        raise TooMuch(what, name)
    answers[what, name] = answer


def _again(what: str, name: str, answers: Answers) -> Any:
    if (what, name) not in answers:
        raise Changed(f"{what} {text.printable_argument(name)}")
    value, number, words = answers[what, name]
    if number == _NO_ROOM:
        raise TooMuch(what, name)
    if number:
        raise OSError(number, words)
    return value


class recorded:
    """Record the questions that are asked in this context, with their answers."""

    def __enter__(self) -> Answers:
        answers: Answers = {}
        _mode.recorded, _mode.room = answers, MOST
        return answers

    def __exit__(self, *error: object) -> None:
        _mode.recorded = None


class given:
    """Give recorded answers in this context, and ask nothing."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __enter__(self) -> None:
        _mode.given = self._answers

    def __exit__(self, *error: object) -> None:
        _mode.given = None
