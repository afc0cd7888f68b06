"""Questions to files, directories and the database of users, which options and configuration files
raise. Each is announced before it is asked, and its answer can be recorded and given again.

Import budget: text. A question may hang. A single run has a watcher, which must know the last
question. The daemon has none: a process that it can give up asks everything and records the
answers, and the daemon works with these, without asking anything itself."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional, TypeVar

from check_mounts import text

Value = TypeVar("Value")
# (the question, the name) -> (the answer, errno, the words of an error). marshal must be able to
# write all of it.
Answers = dict[tuple[str, str], tuple[Any, int, str]]


class Changed(Exception):
    """A question that was not asked when the answers were recorded."""


class _Through:
    """How this process asks its questions."""

    say: Callable[[str], None] = staticmethod(lambda words: None)
    recorded: Optional[Answers] = None
    given: Optional[Answers] = None


_through = _Through()


def say_to(say: Callable[[str], None]) -> None:
    """Have each step announced through ``say`` before it is taken: ``reading /etc/fstab``."""
    _through.say = say


def step(words: str) -> None:
    """Announce a step."""
    _through.say(words)


def asked(what: str, name: str, ask: Callable[[str], Value]) -> Value:
    """Answer ``ask(name)``, which is announced as ``what``. Raises OSError as ``ask`` does; Changed
    where answers are given again, and this one was not recorded."""
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
    """Record the questions that are asked in this context, with their answers."""
    answers: Answers = {}
    _through.recorded = answers
    try:
        yield answers
    finally:
        _through.recorded = None


@contextmanager
def given(answers: Answers) -> Iterator[None]:
    """Give recorded answers in this context, and ask nothing."""
    _through.given = answers
    try:
        yield
    finally:
        _through.given = None
