"""The known word that a misspelt one stands for. Pure.

A run without errors does not load this."""

from __future__ import annotations

from collections.abc import Iterable

from check_mounts.typed import Optional

# Longer words are no slips, and comparing them would take long.
_LONGEST = 40
# The beginning of a known word stands for the whole from this length on, and from one letter more
# if it ends within one of its parts: ``all`` is not ``allow-none``.
_SHORTEST_BEGINNING = 3


def hint(word: str, known: Iterable[str], quote: str = "'") -> str:
    """``; the nearest is '...'``; empty if the word resembles no known one."""
    near = nearest(word, known)
    return "" if near is None else f"; the nearest is {quote}{near}{quote}"


def nearest(word: str, known: Iterable[str]) -> Optional[str]:
    """The known word that this one resembles most; None if it resembles none.

    An unrelated word would mislead. So the word must be the same but for a few slips, be the
    beginning of the known one, or begin with it (``config-file``). The first of equals wins."""
    plain = _plain(word)
    if not 1 < len(plain) <= _LONGEST:
        return None
    found = [(score, each) for each in known if (score := _unlikeness(plain, _plain(each))) is not None]
    return min(found, key=lambda one: one[0])[1] if found else None


def _plain(word: str) -> str:
    """A word without what people mix up: case, underscores, dashes before it."""
    return word.lower().replace("_", "-").strip("-")


def _unlikeness(word: str, known: str) -> Optional[tuple[int, int]]:
    """A measure of how little two plain words resemble each other; None if they do not."""
    if word.replace("-", "") == known.replace("-", ""):
        return 0, 0
    slips = _slips(word, known)
    if slips <= _most_slips(word, known):
        return slips, int(not (known.startswith(word) or word.startswith(known)))
    longer = abs(len(word) - len(known))
    if len(word) >= _SHORTEST_BEGINNING + (not known.startswith(f"{word}-")) and known.startswith(word):
        return _LONGEST, longer
    if len(known) > _SHORTEST_BEGINNING and word.startswith(f"{known}-"):
        return _LONGEST + 1, longer
    return None


def _most_slips(word: str, known: str) -> int:
    """How many slips two words may be apart. Short ones differ little without being related: ``as``
    and ``is``; there only the same letters count."""
    if len(known) < 3:
        return int(set(word) == set(known))
    return 1 if len(known) < 7 else 2 if len(known) < 12 else 3


def _slips(one: str, other: str) -> int:
    """The number of letters to add, to remove, to replace, or to swap with their neighbour, that
    make one word of the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before = before, row
        row = [i]
        for j, theirs in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != theirs))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == theirs:
                best = min(best, earlier[j - 2] + 1)
            row.append(best)
    return row[-1]
