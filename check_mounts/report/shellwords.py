"""Bytes that others chose -> words of a command line that a tired administrator can paste. Pure.

Import budget: nothing. A mount point may hold any byte but NUL. Pasted, it must be one word of the
command, and no byte of it may mean anything to a terminal or a shell."""

from __future__ import annotations

from collections.abc import Sequence

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Bytes that mean nothing to a shell, wherever they stand in a word.
_PLAIN = frozenset(_LETTERS + b"/._-+,:@%")
# Bytes that mean nothing within single quotes. Two more printable ones are left out: a bar ends the
# text of a check, and interactive shells expand an exclamation mark, once even within quotes.
_QUOTED = frozenset(range(0x20, 0x7F)) - frozenset(b"'|!")


def quoted(word: bytes) -> str:
    """A word for a shell. The result is ASCII, whatever the word holds: as it is, in single quotes,
    or in ``$'...'`` with escapes, which bash, zsh, ksh and busybox understand."""
    kinds = frozenset(word)
    if word and kinds <= _PLAIN:
        return word.decode("ascii")
    if kinds <= _QUOTED:
        return f"'{word.decode('ascii')}'"
    plain = _QUOTED - frozenset(b"\\")
    return "$'" + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in word) + "'"


def command(words: Sequence[bytes]) -> str:
    """A command line of these words."""
    return " ".join(map(quoted, words))
