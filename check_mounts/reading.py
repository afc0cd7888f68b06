"""What is asked of files, directories and the database of users to understand what is configured:
said before it is asked, and, where it is to be asked once only, recorded and given again.

Import budget: text. What is asked may hang. A single run has a watcher, which is to know what was
asked last. The daemon has none: it has all asked in a process that it can give up, and understands
what that has recorded, without asking anything itself."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional, TypeVar

from check_mounts import text

Value = TypeVar("Value")
# (what for, of whom) -> what was answered; number and words of an error. Nothing but what marshal
# takes.
Answers = dict[tuple[str, str], tuple[Any, int, str]]


class Changed(Exception):
    """Something is asked that was not asked when the answers were recorded."""


class _Through:
    """How this process asks."""

    say: Callable[[str], None] = staticmethod(lambda words: None)
    recorded: Optional[Answers] = None
    given: Optional[Answers] = None


_through = _Through()


def say_to(say: Callable[[str], None]) -> None:
    """From now on, each step is said here before it is taken: ``reading /etc/fstab``."""
    _through.say = say


def step(words: str) -> None:
    """About to do this."""
    _through.say(words)


def asked(what: str, name: str, ask: Callable[[str], Value]) -> Value:
    """``ask(name)``, said as ``what`` before. Raises OSError as that does; Changed where answers
    are given again, and this is none."""
    if _through.given is not None:
        return _again(what, name, _through.given)  # type: ignore[no-any-return]
    step(f"{what} {text.clipped(text.printable_argument(name), 400)}")
    try:
        answer = ask(name)
    except OSError as error:
        if _through.recorded is not None:
            _through.recorded[what, name] = (None, error.errno or errno.EIO, error.strerror or "")
        raise
    if _through.recorded is not None:
        _through.recorded[what, name] = (answer, 0, "")
    return answer


def _again(what: str, name: str, answers: Answers) -> Any:
    if (what, name) not in answers:
        raise Changed(f"{what} {text.printable_argument(name)}")
    value, number, words = answers[what, name]
    if number:
        raise OSError(number, words)
    return value


@contextmanager
def recorded() -> Iterator[Answers]:
    """What is asked in here, and what was answered."""
    answers: Answers = {}
    _through.recorded = answers
    try:
        yield answers
    finally:
        _through.recorded = None


@contextmanager
def given(answers: Answers) -> Iterator[None]:
    """In here, what was recorded is answered again, and nobody is asked."""
    _through.given = answers
    try:
        yield
    finally:
        _through.given = None
