"""A result in pieces, as much of it as fits, and names that stay within their field: what all kinds
of destination share.

Import budget: ``dataclasses``, ``re``. Pure: bytes and texts in, texts out. All that comes out of
here is on one line each, is valid UTF-8 and has no control character, whatever unprivileged users
called their mount points."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

from check_mounts import text
from check_mounts.passive import Refused, Result, Undelivered

_NOTHING = "(no output)"
_CUT = "..."
_MORE = "({} more lines left out)"
# Nagios takes \n for a line break and \\ for a backslash in what comes by its command pipe, Icinga
# 2 the former only. \ooo, as mount points are printed, passes through both; so any other backslash
# is written like that, too.
_AMBIGUOUS = re.compile(r"\\(?![0-7])")


def shown(words: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """What somebody else said, for a message of ours: on one line, not too long, and without
    secrets if he repeated one."""
    for secret in secrets:
        words = words.replace(secret, "***") if secret else words
    return text.clipped(text.one_line(words.strip()), limit)


def name(words: str, forbidden: str = "") -> str:
    """The name of a host or service as one field; what could end it is escaped as in mountinfo.
    Raises Undelivered for a blank one.

    A backslash is left alone: the name is how somebody has defined it on the server, maybe after
    what --per-mount prints."""
    safe = "".join(char if char.isprintable() and char not in forbidden else text.escaped(char) for char in words)
    if not safe.strip():
        raise Undelivered("a host or service without a name")
    # Nagios drops the blanks at the end of a name that is defined, so none could be defined for a
    # mount point that ends in one.
    return safe[:-1] + text.escaped(" ") if forbidden and safe.endswith(" ") else safe


def state(result: Result) -> int:
    """0 to 3; anything else is UNKNOWN. Nagios takes an empty one for OK."""
    return result.state if result.state in (0, 1, 2, 3) else 3


def label(result: Result) -> str:
    """How to call a result in a message."""
    return text.clipped(text.one_line(f"{result.host}!{result.service}"), 200)


def summed_up(failures: Sequence[str], total: int, for_now: bool = False) -> Undelivered:
    """What to raise for results that were refused one by one; ``for_now``: some of them might be
    taken a little later."""
    if total == 1:
        return Undelivered(failures[0])
    words = f"{len(failures)} of {total} results were refused, the first: {failures[0]}"
    return Refused(words) if len(failures) < total and not for_now else Undelivered(words)


@dataclasses.dataclass(frozen=True)
class Message:
    """The pieces of an output: none has a ``|`` or a line break in it, and there is always a
    verdict."""

    verdict: str
    perfdata: tuple[str, ...]
    lines: tuple[str, ...]

    def unambiguous(self) -> Message:
        """The same for a server that takes backslashes for its own."""
        return Message(_literal(self.verdict), tuple(map(_literal, self.perfdata)), tuple(map(_literal, self.lines)))


def _literal(words: str) -> str:
    return _AMBIGUOUS.sub(r"\\134", words)


def message(result: Result) -> Message:
    """An output in pieces. Perfdata is taken from where it is item by item, so no label can be cut
    at a blank in it."""
    first, *rest = result.output.decode("utf-8", "surrogateescape").split("\n")
    while rest and not rest[-1]:
        rest.pop()
    verdict = text.one_line(first.partition("|")[0].rstrip(" "))
    # Without output send_nsca takes a result for one of the host, whose state then is the name of
    # the service.
    return Message(
        verdict if verdict.strip() else _NOTHING,
        tuple(text.one_line(item.strip(" ")) for item in result.perfdata if item.strip(" ")),
        tuple(map(text.one_line, rest)),
    )


def fitted(parts: Message, limit: int, size: Callable[[str], int], newline: str = "\n") -> str:
    """As much of an output as ``size`` finds to be no more than ``limit``: the verdict, whole
    lines, whole items of perfdata.

    Of a verdict that is too long, whole failures are left out at its end; half of the room is kept
    for perfdata, so that graphs do not break off where many mounts fail, and what is said of lines
    that are left out. The other items are worth less than the lines, which say what fails. ``size``
    has to be additive."""
    numbers = [(" " if position else " | ") + item for position, item in enumerate(parts.perfdata)]
    sizes = list(map(size, numbers))
    notice = size(newline + _MORE.format(len(parts.lines))) if parts.lines else 0
    kept = min(sum(sizes), limit // 2)
    words = _shortened(parts.verdict, limit - kept - notice, size)
    left = limit - size(words)
    first = _count(sizes, min(left - notice, max(kept, left - sum(size(newline + line) for line in parts.lines))))
    lines = _lines(parts.lines, left - sum(sizes[:first]), size, newline)
    count = first + _count(sizes[first:], left - sum(sizes[:first]) - size(lines))
    return words + "".join(numbers[:count]) + lines


def _count(sizes: Sequence[int], room: int) -> int:
    """How many of the first there is room for."""
    count = 0
    while count < len(sizes) and sizes[count] <= room:
        room -= sizes[count]
        count += 1
    return count


def _shortened(verdict: str, room: int, size: Callable[[str], int]) -> str:
    if size(verdict) <= room:
        return verdict
    failures = verdict.split("; ")
    while len(failures) > 1:
        failures.pop()
        shorter = "; ".join([*failures, _CUT])
        if size(shorter) <= room:
            return shorter
    while verdict and size(verdict + _CUT) > room:
        verdict = verdict[
            : -max(1, (size(verdict + _CUT) - room) // 8)
        ]  # a character has 4 bytes at the most, maybe escaped
    return verdict + _CUT


def _lines(lines: Sequence[str], left: int, size: Callable[[str], int], newline: str) -> str:
    sizes = [size(newline + line) for line in lines]
    count, left = text.fitting(sizes, left, size(newline + _MORE.format(len(lines))))
    closing = [_MORE.format(len(lines) - count)] if count < len(lines) and left >= 0 else []
    return "".join(newline + line for line in (*lines[:count], *closing))
