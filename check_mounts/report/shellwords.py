"""Bytes that others chose -> words of a command line that a tired administrator can paste, and the
names of systemd's units for mount points. Pure.

Import budget: nothing. A mount point may hold any byte but NUL. Pasted, it must be one word of the
command, and no byte of it may mean anything to a terminal or a shell."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts.typed import Optional

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Bytes that mean nothing to a shell, wherever they stand in a word.
_PLAIN = frozenset(_LETTERS + b"/._-+,:@%")
# Bytes that mean nothing within single quotes. Two more printable ones are left out: a bar ends the
# text of a check, and interactive shells expand an exclamation mark, once even within quotes.
_QUOTED = frozenset(range(0x20, 0x7F)) - frozenset(b"'|!")
# unit_name_path_escape in src/basic/unit-name.c; a dot that comes first is escaped, too.
_OF_UNITS = frozenset(_LETTERS + b":_.")
# A longer name becomes a hash (UNIT_NAME_MAX in src/basic/unit-name.h, with the final NUL).
_LONGEST_UNIT = 255


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


def mount_unit(mount_point: bytes) -> Optional[bytes]:
    """The name of the unit of a mount point, as ``systemd-escape --path --suffix=mount`` makes it;
    None if it would be too long, where only systemd knows the name."""
    parts = [part for part in mount_point.split(b"/") if part not in (b"", b".")]
    if not parts:
        return b"-.mount"
    name = b"-".join(map(_escaped, parts))
    if name.startswith(b"."):
        name = b"\\x2e" + name[1:]
    return name + b".mount" if len(name) + len(b".mount") <= _LONGEST_UNIT else None


def _escaped(part: bytes) -> bytes:
    return b"".join(bytes((byte,)) if byte in _OF_UNITS else b"\\x%02x" % byte for byte in part)
