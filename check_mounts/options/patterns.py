"""Patterns as people write them -> patterns that can match something: a list becomes its parts,
doubled slashes become one; what can match nothing is refused. Pure.

Most runs have no patterns, and do not load this. A pattern that can match nothing would leave out
nothing, or everything, and nobody would notice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from check_mounts import filesystems
from check_mounts.selection import compile_glob
from check_mounts.text import excerpt

# A set in brackets, or one byte: as fnmatch reads a pattern.
_TOKEN = re.compile(rb"\[!?\]?[^\]]*\]|.", re.DOTALL)
# A comma ends a pattern if a path follows, or nothing. In the name of a directory it can be written
# as a set.
_BETWEEN = re.compile(rb"[ \t]*,[ \t]*(?=/|\Z)")
_BRACES = re.compile(rb"\{[^{}]*,[^{}]*\}")
_GLOB_CHARACTERS = re.compile(rb"[*?[]")
_QUOTED = re.compile(rb"(['\"]).*\1\Z", re.DOTALL)
# The characters of the types that there are. The subtype of a FUSE mount may hold any.
_TYPE = re.compile(rb"[\w.+-]+\Z", re.ASCII)


def of_mount_points(word: bytes) -> Sequence[bytes]:
    """The patterns of mount points in a word, as the kernel spells paths. Raises ValueError."""
    check_quotes(word)
    check_braces(word)
    parts = _BETWEEN.split(word.lstrip(b" \t"))
    if len(parts) > 1 and any(not part or part.endswith(b",") for part in parts):
        raise ValueError(f"'{excerpt(word)}' has an empty part (write '[,]' for the character itself)")
    parts[-1] = parts[-1].rstrip(b" \t") if len(parts) > 1 else parts[-1]
    return [_of_mount_point(part) for part in parts]


def of_mount_point(pattern: bytes) -> bytes:
    """One pattern of mount points, as the kernel spells paths. Raises ValueError."""
    check_quotes(pattern)
    check_braces(pattern)
    return _of_mount_point(pattern)


def _of_mount_point(pattern: bytes) -> bytes:
    tokens = _TOKEN.findall(pattern)
    if not tokens:
        raise ValueError("the pattern is blank")
    if not _may_be_slash(tokens[0]):
        raise ValueError(f"'{excerpt(pattern)}' can match no mount point, because these begin with '/'")
    return _simplified(tokens)


def _may_be_slash(token: bytes) -> bool:
    return token in (b"/", b"*", b"?") or (len(token) > 1 and compile_glob(token).match(b"/") is not None)


def _simplified(tokens: Sequence[bytes]) -> bytes:
    """The pattern without empty parts and ``.``, which no mount point has. Raises ValueError."""
    parts: list[list[bytes]] = [[]]
    for token in tokens:
        if token == b"/":
            parts.append([])
        else:
            parts[-1].append(token)
    words = [b"".join(part) for part in parts]
    patterned = [any(_GLOB_CHARACTERS.match(token) for token in part) for part in parts]
    if b".." in words and any(patterned[: len(words) - 1 - words[::-1].index(b"..")]):
        raise ValueError(
            f"'{excerpt(b'/'.join(words))}' can match no mount point, because of the '..' after a pattern character"
        )
    deleted = words[-2:] == [b"", b"deleted"]  # as the kernel writes it (d_path in fs/d_path.c)
    kept = [word for word in words[1:] if word not in (b"", b".")]
    if deleted:
        kept[-1:] = [b"", b"deleted"]
    return b"/".join([words[0], *kept]) or b"/"


def check_one(pattern: bytes) -> None:
    """Raises ValueError for several patterns where there can be one only."""
    if _BETWEEN.search(pattern):
        raise ValueError("a section has one pattern only (write '[,]' for the character itself)")


def check_braces(pattern: bytes) -> None:
    """Raises ValueError for braces as in a shell."""
    if _BRACES.search(re.sub(rb"\[!?\]?[^\]]*\]", b"", pattern)):
        raise ValueError(
            f"'{excerpt(pattern)}': braces have no meaning: write each pattern for itself "
            "(write '[{]' for the character itself)"
        )


def check_quotes(pattern: bytes) -> None:
    """Raises ValueError for quotes that a shell or a file should have removed."""
    if len(pattern) > 1 and _QUOTED.match(pattern):
        raise ValueError(f"{excerpt(pattern)}: the quotes are a part of it; leave them out")


def check_type(pattern: bytes) -> None:
    """Raises ValueError for a pattern of types that certainly matches none."""
    literal = (_GLOB_CHARACTERS.split(pattern) or [b""])[0]
    if literal.startswith(b"fuse") or filesystems.names_type(pattern):
        return
    if not _GLOB_CHARACTERS.search(pattern) and not _TYPE.match(pattern):
        raise ValueError(f"'{excerpt(pattern)}' is not a filesystem type (separate several by commas)")
    lower = compile_glob(pattern.lower())
    if literal != literal.lower() and not any(map(compile_glob(pattern).match, filesystems.all_types())):
        known = sorted(filter(lower.match, filesystems.all_types()))
        if known:
            raise ValueError(f"'{excerpt(pattern)}' matches no type: write '{excerpt(pattern.lower())}'")
    if literal == pattern and pattern.startswith(b"no") and filesystems.names_type(pattern[2:]):
        raise ValueError(f"'{excerpt(pattern)}' is not a filesystem type (exclude types with --exclude-type)")
    if literal == pattern:
        from check_mounts.declared import option_spelling  # takes some milliseconds; known types do not need it

        option_spelling.check_type(pattern)
