"""Functions that the kinds of destination share: reports within the limit of a destination, names
that stay within their field, and words for failures.

Import budget: ``re``. Pure: reports and texts in, texts out. Each part that comes
out is one line of valid UTF-8 without control characters, even if unprivileged users have given
strange names to their mount points."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from check_mounts import text
from check_mounts.passive import Refused, Result, Undelivered
from check_mounts.report.parts import Report

_CUT = "..."
_MORE = "({} more lines left out)"
# In its command pipe, Nagios takes \n for a line break and \\ for a backslash; Icinga 2 knows only
# the former. \ooo, which is in printed mount points, passes through both unchanged. So every other
# backslash is written like that, too.
_AMBIGUOUS = re.compile(r"\\(?![0-7])")


def shown(words: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """Words of a server or program, for a message of ours: on one line, not too long, and without
    secrets that it might repeat."""
    for secret in secrets:
        words = words.replace(secret, "***") if secret else words
    return text.clipped(text.one_line(words.strip()), limit)


def name(words: str, forbidden: str = "") -> str:
    """The name of a host or service as one field. Characters that could end it are escaped as in
    mountinfo. Raises Undelivered for a blank name.

    A backslash is not escaped: the name must be the one that is defined on the server, which may
    have been copied from --per-mount."""
    safe = "".join(char if char.isprintable() and char not in forbidden else text.escaped(char) for char in words)
    if not safe.strip():
        raise Undelivered("a host or service without a name")
    # Nagios drops blanks at the end of a name in a definition. So no service could be defined for a
    # mount point that ends in a blank.
    return safe[:-1] + text.escaped(" ") if forbidden and safe.endswith(" ") else safe


def label(result: Result) -> str:
    """The name of a result in a message."""
    return text.clipped(text.one_line(f"{result.host}!{result.service}"), 200)


def summed_up(failures: Sequence[str], total: int, for_now: bool = False, refused: Sequence[int] = ()) -> Undelivered:
    """The error for results that were refused one by one. ``for_now``: some of them may be accepted
    a little later. ``refused``: the positions of those that will not."""
    if total == 1:
        return Undelivered(failures[0], refused)
    words = f"{len(failures)} of {total} results were refused, the first: {failures[0]}"
    kind = Refused if len(failures) < total and not for_now else Undelivered
    return kind(words, refused)


def safe(report: Report) -> Report:
    """The report in parts of one line each. No part contains a ``|``, which would end the verdict,
    and no item of perfdata is blank."""
    numbers = [each._replace(words=each.words.strip(" ")) for each in report.perfdata if each.words.strip(" ")]
    return _mapped(report._replace(perfdata=numbers), text.one_line)


def unambiguous(report: Report) -> Report:
    """The report for a server that interprets backslashes."""
    return _mapped(report, lambda words: _AMBIGUOUS.sub(r"\\134", words))


def _mapped(report: Report, change: Callable[[str], str]) -> Report:
    return report._replace(
        headline=change(report.headline),
        failures=[each._replace(words=change(each.words)) for each in report.failures],
        perfdata=[each._replace(words=change(each.words)) for each in report.perfdata],
        lines=[each._replace(words=change(each.words)) for each in report.lines],
    )


def fitted(report: Report, limit: int, size: Callable[[str], int], newline: str = "\n") -> str:
    """The output with as many parts as fit into ``limit``, as measured by ``size``: the verdict,
    whole lines, whole items of perfdata.

    A verdict that is too long loses whole failures at its end. Half of the room is kept for
    perfdata, so that graphs have no gap when many mounts fail, and for the number of lines left
    out. Further items of perfdata are worth less than the lines, which say what fails. ``size``
    must be additive."""
    lines = [each.words for each in report.lines]
    numbers = [(" " if position else " | ") + each.words for position, each in enumerate(report.perfdata)]
    sizes = list(map(size, numbers))
    notice = size(newline + _MORE.format(len(lines))) if lines else 0
    kept = min(sum(sizes), limit // 2)
    words = _verdict(report, limit - kept - notice, size)
    left = limit - size(words)
    first = _count(sizes, min(left - notice, max(kept, left - sum(size(newline + line) for line in lines))))
    below = _lines(lines, left - sum(sizes[:first]), size, newline)
    count = first + _count(sizes[first:], left - sum(sizes[:first]) - size(below))
    return words + "".join(numbers[:count]) + below


def _count(sizes: Sequence[int], room: int) -> int:
    """How many of the first items fit."""
    count = 0
    while count < len(sizes) and sizes[count] <= room:
        room -= sizes[count]
        count += 1
    return count


def _verdict(report: Report, room: int, size: Callable[[str], int]) -> str:
    """The verdict with as many failures as fit; the first ones, which are the worst, stay."""
    named = list(report.failures)
    while size(report.verdict) > room and named:
        unnamed = report.unnamed + named.pop().stands_for
        report = report._replace(failures=tuple(named), unnamed=unnamed)
    return _cut(report.verdict, room, size)


def _cut(verdict: str, room: int, size: Callable[[str], int]) -> str:
    if size(verdict) <= room:
        return verdict
    while verdict and (excess := size(verdict + _CUT) - room) > 0:
        verdict = verdict[: -max(1, excess // 8)]  # a character has at most 4 bytes, which may be escaped
    return verdict + _CUT


def _lines(lines: Sequence[str], left: int, size: Callable[[str], int], newline: str) -> str:
    sizes = [size(newline + line) for line in lines]
    count, left = text.fitting(sizes, left, size(newline + _MORE.format(len(lines))))
    closing = [_MORE.format(len(lines) - count)] if count < len(lines) and left >= 0 else []
    return "".join(newline + line for line in (*lines[:count], *closing))
