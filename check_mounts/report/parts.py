"""A report in typed parts, and as much of it as fits into a limit.

Import budget: ``enum``. Pure.

A report stays in parts until it is printed. Finished text is never split again, because the words
about one mount may contain any separator."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence

from check_mounts import text
from check_mounts.model import State
from check_mounts.typed import NamedTuple, Optional, Protocol


class Worth(enum.IntEnum):
    """How much a part is worth if there is no room for all: the first ones are left out last."""

    FAILURE = enum.auto()  # in the status line
    FAILED = enum.auto()  # a line about something that is not OK
    ABOUT_FAILED = enum.auto()  # the lines below it
    NOTE = enum.auto()
    COUNT = enum.auto()  # perfdata of the whole
    LATENCY = enum.auto()  # perfdata of single mounts
    REST = enum.auto()


class Failure(NamedTuple):
    """An item of the status line, and how many failures it stands for."""

    words: str
    stands_for: int


class Number(NamedTuple):
    """An item of perfdata."""

    words: str
    worth: Worth


class Detail(NamedTuple):
    """A line below the status line. ``head``: the position of the line that it belongs to, without
    which it means nothing; or None."""

    words: str
    worth: Worth
    head: Optional[int] = None


class Blocks(Protocol):
    """Lines that can be made one by one. A block is a line, and the lines that mean nothing without
    it. All are worth Worth.REST."""

    def __len__(self) -> int:
        """The number of blocks."""
        ...

    def least(self, place: int) -> int:
        """The fewest bytes that the first line of a block may have, with its line feed."""
        ...

    def count(self, place: int) -> int:
        """The number of lines of a block."""
        ...

    def words(self, place: int) -> Sequence[str]:
        """The lines of a block."""
        ...


class Lines(Sequence[Detail]):
    """Lines of which those in ``blocks``, which come after ``first``, are made only as somebody
    reads them."""

    def __init__(self, first: Sequence[Detail], blocks: Blocks) -> None:
        self.first, self.blocks = first, blocks
        self._count: Optional[int] = None
        self._made: list[Sequence[str]] = []

    def words(self, place: int) -> Sequence[str]:
        """The lines of a block. Those of the first blocks, which are needed twice, are kept."""
        if place < len(self._made):
            return self._made[place]
        words = self.blocks.words(place)
        if place == len(self._made):
            self._made.append(words)
        return words

    def __iter__(self) -> Iterator[Detail]:
        yield from self.first
        at = len(self.first)
        for place in range(len(self.blocks)):
            for number, words in enumerate(self.words(place)):
                yield Detail(words, Worth.REST, at if number else None)
            at += len(self.words(place))

    def __len__(self) -> int:
        if self._count is None:
            self._count = len(self.first) + sum(map(self.blocks.count, range(len(self.blocks))))
        return self._count

    def __getitem__(self, place):  # type: ignore[no-untyped-def]  # an index or a slice, as for a list
        return list(self)[place]

    def texts(self) -> Iterator[str]:
        """The words of all lines."""
        yield from [each.words for each in self.first]
        for place in range(len(self.blocks)):
            yield from self.words(place)


def _texts(lines: Sequence[Detail]) -> Iterator[str]:
    return lines.texts() if isinstance(lines, Lines) else iter([each.words for each in lines])


class Report(NamedTuple):
    """The parts of an output, and the ``state`` of its exit code.

    ``failures`` are the failures that the status line names, ``unnamed`` is the number of all
    others. ``mount_point`` is the mount that the report is about; None if it is about all
    mounts."""

    state: State
    headline: str
    failures: Sequence[Failure] = ()
    unnamed: int = 0
    perfdata: Sequence[Number] = ()
    lines: Sequence[Detail] = ()
    mount_point: Optional[bytes] = None

    @property
    def said(self) -> str:
        """``1 of 42 mounts failed: /home (nfs4 filer1:/x) timed out after 5 s``."""
        more = [f"and {self.unnamed} more"] if self.unnamed else []
        named = [*(failure.words for failure in self.failures), *more]
        return self.headline + (": " + "; ".join(named) if self.failures else "")

    @property
    def verdict(self) -> str:
        """The status line without perfdata."""
        return f"MOUNTS {self.state.name} - {self.said}"

    @property
    def first_line(self) -> str:
        """The status line with perfdata, whose items single spaces separate: Icinga 2 reads
        perfdata nowhere else."""
        return self.verdict + (" | " + " ".join(number.words for number in self.perfdata) if self.perfdata else "")

    @property
    def whole(self) -> str:
        """The whole output, as a plugin prints it."""
        return "\n".join([self.first_line, *_texts(self.lines), ""])

    @property
    def failed(self) -> int:
        """How many failures there are."""
        return self.unnamed + sum(failure.stands_for for failure in self.failures)


def printed(report: Report, limit: int, encoding: str = "utf-8") -> bytes:
    """The output, ready to be written, of no more than ``limit`` bytes (0: no limit)."""
    return text.encoded(fitted(report, limit, encoding).whole, encoding)


def fitted(report: Report, limit: int, encoding: str = "utf-8") -> Report:
    """The report within the limit: always the verdict, then the parts that are worth most, and how
    much was left out."""

    def size(words: str) -> int:
        return len(text.encoded(words, encoding))

    if limit == 0 or _fits(report, limit, encoding, size):
        return report
    closing = _left_out(report.failed, len(report.lines), len(report.perfdata))
    bare = report._replace(headline="", failures=(), perfdata=(), lines=())
    headline = _squeezed(report.headline, limit - len(closing) - 2 - size(bare.verdict), size)  # two line feeds
    bare = bare._replace(headline=headline)
    room = limit - size(bare.verdict) - len(closing) - 2 - len(f"; and {report.failed} more") - len(" |")
    return _with_what_fits(report, bare, room, size)


# Encodings in which a text has as many bytes as its parts.
_PLAIN = frozenset({"utf-8", "ascii", "iso8859-1", "latin-1"})


# How many blocks are made and measured at once.
_AT_ONCE = 64


def _fits(report: Report, limit: int, encoding: str, size: Callable[[str], int]) -> bool:
    """Whether the whole output fits. No more of it is made than that takes."""
    if encoding not in _PLAIN:
        return size(report.whole) <= limit
    lazy = report.lines if isinstance(report.lines, Lines) else None
    room = limit - size(report.first_line) - 1
    room -= sum([size(each.words) + 1 for each in (report.lines if lazy is None else lazy.first)])
    if lazy is None:
        return room >= 0
    blocks = range(len(lazy.blocks))
    for begin in blocks[::_AT_ONCE]:
        if room < 0:
            break
        made = [words for place in blocks[begin : begin + _AT_ONCE] for words in lazy.words(place)]
        room -= size("\n".join(made)) + 1
    return room >= 0


class _Piece(NamedTuple):
    """A part that is printed as a whole or not at all. ``size``: in bytes, with what joins it to
    the others."""

    part: object
    worth: Worth
    size: int
    head: Optional[int] = None


def _with_what_fits(report: Report, bare: Report, room: int, size: Callable[[str], int]) -> Report:
    pieces = [_Piece(each, Worth.FAILURE, size(each.words) + 2) for each in report.failures]
    pieces += [_Piece(each, each.worth, size(each.words) + 1) for each in report.perfdata]
    first = len(pieces)
    lazy = report.lines if isinstance(report.lines, Lines) else None
    pieces += [
        _Piece(each, each.worth, size(each.words) + 1, None if each.head is None else first + each.head)
        for each in (report.lines if lazy is None else lazy.first)
    ]
    kept = _kept(pieces, room)
    parts = [pieces[index].part for index in sorted(kept)]
    failures = [part for part in parts if isinstance(part, Failure)]
    numbers = [part for part in parts if isinstance(part, Number)]
    lines = [part._replace(head=None) for part in parts if isinstance(part, Detail)]
    if lazy is not None:
        lines += _kept_blocks(lazy, room - sum(pieces[index].size for index in kept), size)
    unsaid = 0 if failures else report.failed
    closing = _left_out(unsaid, len(report.lines) - len(lines), len(report.perfdata) - len(numbers))
    lines += [Detail(closing, Worth.REST)] if closing else []
    unnamed = report.failed - sum(failure.stands_for for failure in failures) if failures else 0
    return bare._replace(failures=failures, unnamed=unnamed, perfdata=numbers, lines=lines)


def _kept(pieces: Sequence[_Piece], room: int) -> set[int]:
    """The positions of the pieces that there is room for, chosen by their worth. A piece that is
    too long does not keep others out."""
    kept: set[int] = set()
    for index in sorted(range(len(pieces)), key=lambda index: pieces[index].worth):
        piece = pieces[index]
        if piece.size <= room and (piece.head is None or piece.head in kept):
            kept.add(index)
            room -= piece.size
    return kept


def _kept_blocks(lines: Lines, room: int, size: Callable[[str], int]) -> list[Detail]:
    """The lines of blocks that there is room for, as :func:`_kept` would choose them."""
    kept: list[Detail] = []
    least = lines.blocks.least
    for place in range(len(lines.blocks)):
        if least(place) > room:
            continue
        head, *others = lines.words(place)
        if (needed := size(head) + 1) > room:
            continue
        kept.append(Detail(head, Worth.REST))
        room -= needed
        for words in others:
            if (needed := size(words) + 1) <= room:
                kept.append(Detail(words, Worth.REST))
                room -= needed
    return kept


def _left_out(failures: int, lines: int, numbers: int) -> str:
    """The last line: how many parts were left out, if any. It counts failures only if no failure is
    named; otherwise the status line counts them."""
    counts = ((failures, "failure"), (lines, "more line"), (numbers, "more value"))
    parts = [text.counted(count, noun) for count, noun in counts if count]
    return f"({', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]} left out: --max-output)" if parts else ""


def _squeezed(words: str, room: int, size: Callable[[str], int]) -> str:
    """A headline; without its middle if it is too long. That of a single mount may be: it has all
    names in full."""
    while (excess := size(words) - room) > 0:
        words = text.clipped(words, len(words) - max(1, excess // 16))  # an escaped character has at most 16 bytes
    return words
