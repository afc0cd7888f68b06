"""The format of a configuration file: bytes -> sections and entries, as in check_mounts.conf(5).

  * Lines end with LF or CRLF; a byte order mark of UTF-8 is skipped. Blanks are spaces and tabs;
    they do not count around a line, a key and a value. Any byte but NUL may occur. A line cannot
    continue on the next one.
* A line that is empty, or begins with ``#`` or ``;``, is ignored. A comment cannot follow a value.
* ``[check_mounts]``, ``[mount "GLOB"]`` and ``[submit "DESTINATION"]`` begin a section, ``key =
  value`` belongs to the last one begun.
* A value that begins with ``"`` ends with ``"``; in between, a backslash comes before ``"``,
  another backslash, or a byte in three octal digits only. Elsewhere quotes and backslashes are
  ordinary bytes.

configparser does not fit: it knows neither the line numbers of values nor bytes. Import budget:
``re``; nearest only if a word is misspelt."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator

from check_mounts.options.refusals import ConfigError, Origin
from check_mounts.text import excerpt
from check_mounts.typed import NamedTuple, TypeVar

PLUGIN = "check_mounts"
BLANKS = b" \t"
KEY = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")
NOT_SHOWN = "it is not shown, because it may hold a secret"

_BOM = b"\xef\xbb\xbf"
_OCTAL = rb"(?!000)[0-3][0-7]{2}"
_QUOTED = re.compile(rb'"((?:[^"\\]|\\(?:["\\]|' + _OCTAL + rb"))*)(.?)", re.DOTALL)
_NO_WORD = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(rb'\\(["\\]|' + _OCTAL + rb")")
# Messages show nothing of a line that begins with one of these. People write passwords into URLs,
# although passwords are refused there.
_SECRETS = (b"password", b"submit", b"token")

_Value = TypeVar("_Value")
_Text = TypeVar("_Text", str, bytes)


class Entry(NamedTuple):
    """``key = value``, without quotes."""

    origin: Origin
    key: str
    value: bytes


class Section(NamedTuple):
    """One section of a file.

    ``title`` is its first line, fit for output; ``kind`` is the first word of that, and ``name``
    the part in quotes."""

    origin: Origin
    title: str
    kind: str
    name: bytes
    entries: list[Entry]


def _word(line: bytes) -> bytes:
    """The word that a line begins with."""
    return _NO_WORD.split(line, maxsplit=1)[0]


def first_word(line: bytes) -> str:
    """The word that a line begins with, fit for a message.

    The rest may hold a secret, such as a password in a URL, and anybody may see the message."""
    word = _word(line)
    return excerpt(word) if word == line else f"{excerpt(word)} ...".lstrip()


# Lines that are read as if they were not there, each section with its entries: --check-config has
# reported what is wrong with them, and looks for more.
skipped: set[Origin] = set()


def lines(data: bytes, name: str, blanks: bytes = BLANKS) -> Iterator[tuple[Origin, bytes]]:
    """Each line that is neither empty nor a comment, stripped, with its origin.

    Messages call the file ``name``. Raises ConfigError for a NUL byte."""
    data = data[len(_BOM) :] if data.startswith(_BOM) else data
    skips = False
    for number, raw in enumerate(data.split(b"\n"), 1):
        origin = Origin(name, number)
        line = (raw[:-1] if raw.endswith(b"\r") else raw).strip(blanks)
        if line[:1] == b"[":
            skips = origin in skipped
        if skips or origin in skipped:
            continue
        if b"\0" in raw:
            raise ConfigError(origin, "the line holds a NUL byte")
        if line and line[:1] not in (b"#", b";"):
            yield origin, line


def parsed_at(origin: Origin, parse: Callable[[_Text], _Value], value: _Text, what: str = "") -> _Value:
    """``parse(value)``, whose ValueError becomes a ConfigError that names the line."""
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(origin, f"{what}{error}") from None


def _unquoted(value: bytes) -> bytes:
    """A value without its quotes. Raises ValueError."""
    match = _QUOTED.match(value)
    if match is None:
        return value
    if match[2] == b'"' and match.end() == len(value):
        return _ESCAPED.sub(_unescaped, match[1])
    if match[2] == b'"':
        raise ValueError("something follows the closing quote")
    if match[2] == b"\\" and match.end() < len(value):
        raise ValueError("within quotes, a backslash must be written twice")
    raise ValueError("the quote is not closed")


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)]) if match[1].isdigit() else match[1]


def sections(data: bytes, name: str) -> Iterator[Section]:
    """The sections in their order. Raises ConfigError."""
    section = None
    for origin, line in lines(data, name):
        if line.startswith(b"["):
            if section is not None:
                yield section
            section = _section(origin, line)
            continue
        entry = _entry(origin, line, section.kind if section is not None else "")
        if section is None:
            raise ConfigError(origin, f"key '{entry.key}' stands before the first section")
        section.entries.append(entry)
    if section is not None:
        yield section


def _section(origin: Origin, line: bytes) -> Section:
    closed = line.endswith(b"]")
    inner = (line[1:-1] if closed else line[1:]).strip(BLANKS)
    kind, *rest = re.split(rb"[ \t]+|(?=\")", inner, maxsplit=1)
    title = excerpt(line) if kind == b"mount" else f"[{first_word(inner)}" + "]" * closed
    if not closed:
        raise ConfigError(origin, f"'{title}' does not end with ']'")
    if inner == PLUGIN.encode():
        return Section(origin, title, PLUGIN, b"", [])
    what = {b"mount": "PATTERN", b"submit": "DESTINATION"}.get(kind)
    if what is None:
        close = suggestion(_word(inner), (PLUGIN, "mount", "submit"))
        raise ConfigError(origin, f"unknown section {title}{close}")
    if not rest or not rest[0].startswith(b'"'):
        raise ConfigError(origin, f'{title} must be written [{kind.decode()} "{what}"]')
    name = parsed_at(origin, _unquoted, rest[0], f"{title}: ")
    if kind == b"submit":
        title = f'[submit "{excerpt(_word(name))}:..."]'
    return Section(origin, title, kind.decode(), name, [])


def _entry(origin: Origin, line: bytes, kind: str) -> Entry:
    """A line of a section of this kind (empty before the first section).

    Errors show the whole line only in [mount], which holds no secrets."""
    key, equals, value = line.partition(b"=")
    key = key.strip(BLANKS)
    if kind == "submit" or line.lower().startswith(_SECRETS):
        return _secret_entry(origin, key, equals, value.strip(BLANKS))
    shown = excerpt if kind == "mount" else first_word
    if not equals:
        raise ConfigError(origin, f"'{shown(line)}' is neither a section nor a comment, and has no '='")
    if not KEY.match(key):
        raise ConfigError(origin, f"'{shown(key)}' is not a key")
    return Entry(origin, key.decode("ascii"), parsed_at(origin, _unquoted, value.strip(BLANKS), f"{excerpt(key)}: "))


def _secret_entry(origin: Origin, key: bytes, equals: bytes, value: bytes) -> Entry:
    """A line that may hold a secret: errors show nothing of it."""
    try:
        if equals and KEY.match(key):
            return Entry(origin, key.decode("ascii"), _unquoted(value))
    except ValueError:
        pass
    raise ConfigError(origin, f"this line is not 'KEY = VALUE', or its quotes are wrong ({NOT_SHOWN})")


def suggestion(word: bytes, known: Iterable[str]) -> str:
    """``; the nearest is '...'``; empty if no known word resembles it."""
    from check_mounts import nearest  # a run without errors does not need it

    return nearest.hint(os.fsdecode(word), known)


def check_keys(section: Section, known: Iterable[str], repeatable: Callable[[str], bool]) -> None:
    """Raises ConfigError for an unknown key, and for one that occurs twice."""
    known = list(known)
    seen: dict[str, Origin] = {}
    for entry in section.entries:
        if entry.key not in known:
            close = suggestion(entry.key.encode(), known)
            raise ConfigError(entry.origin, f"unknown key '{excerpt(entry.key.encode())}' in {section.title}{close}")
        if entry.key in seen and not repeatable(entry.key):
            first = seen[entry.key].line
            raise ConfigError(entry.origin, f"duplicate key '{entry.key}' in {section.title}, first on line {first}")
        seen.setdefault(entry.key, entry.origin)
