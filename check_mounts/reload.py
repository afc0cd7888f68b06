"""The files that the options come from, read again: by a process that can be given up, once."""

from __future__ import annotations

import marshal
from collections.abc import Callable

from check_mounts import reading
from check_mounts.checking import Options


class Rejected(Exception):
    """The options cannot be taken over as the files say them; the message says why, on one
    line."""


def rehearsed(understand: Callable[[], object]) -> bytes:
    """In a process that may hang: what is asked of files and of the database of users to understand
    the options, and answered."""
    with reading.recorded() as answers:
        try:
            understand()
        except Exception:  # it has come to its end, and so will we, who say what is wrong
            pass
    return marshal.dumps(answers)


def again(answers: bytes, understand: Callable[[], Options]) -> Options:
    """The options, understood from these answers alone: what could be read a moment ago may hang by
    now. Raises Rejected."""
    try:
        with reading.given(marshal.loads(answers)):
            return understand()
    except reading.Changed as error:
        raise Rejected(f"not the same files were asked for twice: {error}") from None
