"""A configuration file -> words for the command line, and what is said of single mounts.

Import budget: ``functools``, ``re``, ``stat``; difflib only where a key is misspelt. The format, as
in check_mounts.conf(5):

* Lines end with LF or CRLF; a byte order mark of UTF-8 is skipped. Blanks are spaces and tabs;
  those around a line, a key and a value do not count. Any byte but NUL may occur. A line goes on
  nowhere.
* A line that is empty, or begins with ``#`` or ``;``, says nothing. There are no comments behind a
  value.
* ``[check_mounts]``, ``[mount "GLOB"]`` and ``[submit "DESTINATION"]`` begin a section, ``key =
  value`` belongs to the last one begun.
* A value that begins with ``"`` ends with ``"``; in between, a backslash comes before ``"`` or
  another backslash only. Elsewhere quotes and backslashes are ordinary bytes.

configparser is not used: it knows no line numbers of values, and no bytes. The files of
--extra-opts have the format of the Monitoring Plugins, which has no quotes; see
:func:`extra_words`."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Optional

from check_mounts import passive, reading, selection, text
from check_mounts.model import Condition, Declarer, ExpectedMount, State
from check_mounts.policy import Policy
from check_mounts.thresholds import Capacity, Range, parse_capacity

DEFAULT_PATH = "/etc/check_mounts.conf"
MAX_SIZE = 1 << 20
# Longer than any interval or timeout that means something, and so short that all sums are times.
MOST_SECONDS = 366 * 86400.0

# Options that are about the run or about files like this one: a file cannot say them.
REFUSED = frozenset(("config", "extra-opts", "help", "version", "daemon", "foreground", "cached", "max-age"))

_PLUGIN = "check_mounts"
_MAX_GLOB = 4096  # PATH_MAX; a pattern takes far more memory once it is compiled
_MAX_FLAG = 9
_BLANKS = b" \t"
_BOM = b"\xef\xbb\xbf"
_KEY = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\["\\])*)(.?)', re.DOTALL)
_NO_WORD = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(rb'\\(["\\])')
_NUMBER = re.compile(rb"(?:[0-9]+\.?[0-9]*|\.[0-9]+)\Z")
# A pattern that can match one path only: what glob characters it has stand in brackets of their
# own.
_LITERAL = re.compile(rb"(?:[^*?[]|\[[*?[]\])*\Z")
_BRACKETED = re.compile(rb"\[([*?[])\]")
_BOOLEANS = {
    b"yes": True,
    b"true": True,
    b"on": True,
    b"1": True,
    b"no": False,
    b"false": False,
    b"off": False,
    b"0": False,
}

# Where the Monitoring Plugins look, in their order (lib/parse_ini.c; those with "nagios" in them
# are older names).
EXTRA_OPTS_NAMES = ("monitoring-plugins.ini", "plugins.ini", "nagios-plugins.ini")
EXTRA_OPTS_PATHS = (
    "/usr/local/etc/monitoring-plugins/monitoring-plugins.ini",
    "/usr/local/etc/monitoring-plugins.ini",
    "/etc/monitoring-plugins/monitoring-plugins.ini",
    "/etc/monitoring-plugins.ini",
    "/etc/nagios/plugins.ini",
    "/usr/local/nagios/etc/plugins.ini",
    "/usr/local/etc/nagios/plugins.ini",
    "/etc/opt/nagios/plugins.ini",
    "/etc/nagios-plugins.ini",
    "/usr/local/etc/nagios-plugins.ini",
    "/etc/opt/nagios-plugins.ini",
)


class ConfigError(Exception):
    """Something is wrong with a file; the message says what and where, on one line fit for any
    output."""


@dataclasses.dataclass(frozen=True)
class Option:
    """What a long option is like: does it take a value, may it be given more than once?

    ``commas``: a value may be several, separated by commas. A repeatable option without value
    (``--verbose``) is given a number."""

    takes_value: bool
    repeatable: bool = False
    commas: bool = False


@dataclasses.dataclass(frozen=True)
class Words:
    """One line of a file as words of the command line (``--timeout=5``), decoded as Python decodes
    arguments.

    ``origin`` is fit for output: ``/etc/check_mounts.conf line 3``. ``words`` is empty where a flag
    is switched off."""

    origin: str
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What the sections say about one mount; None where they say nothing.

    ``timeout`` is in seconds, ``warning`` and ``critical`` are ranges of seconds. ``severity``
    holds only what is said. ``identity`` is ``owner``, ``self`` or a user, not looked up.
    ``expect``, ``source``, ``fs_type`` and ``options`` say what should be mounted there, and
    ``declared_in`` where the last of them was said; :meth:`Configuration.declared` makes use of
    them."""

    timeout: Optional[float] = None
    severity: Mapping[Condition, State] = dataclasses.field(default_factory=dict)
    warning: Optional[Range] = None
    critical: Optional[Range] = None
    usage_warning: Optional[Capacity] = None
    usage_critical: Optional[Capacity] = None
    inodes_warning: Optional[Capacity] = None
    inodes_critical: Optional[Capacity] = None
    expect_ro: Optional[bool] = None
    write: Optional[bool] = None
    identity: Optional[str] = None
    ignore_options: Optional[tuple[selection.Glob, ...]] = None
    ignore: Optional[bool] = None
    expect: Optional[bool] = None
    source: Optional[bytes] = None
    fs_type: Optional[bytes] = None
    options: Optional[tuple[bytes, ...]] = None
    declared_in: str = ""

    @property
    def declares(self) -> bool:
        """Do they say what should be mounted?"""
        return bool(self.expect) or not (self.source is None and self.fs_type is None and self.options is None)

    def policy(self, general: Policy) -> Policy:
        """``general`` with what is said here in its place."""
        said: dict[str, Any] = {name: getattr(self, name) for name in _RANGES if getattr(self, name) is not None}
        return dataclasses.replace(general, severity={**general.severity, **self.severity}, **said)


_NOTHING = Overrides()
_RANGES = ("warning", "critical", "usage_warning", "usage_critical", "inodes_warning", "inodes_critical")


def _merged(below: Overrides, above: Overrides) -> Overrides:
    """What ``above`` says wins, key by key; of the severities, condition by condition."""
    said = {field.name: getattr(above, field.name) for field in dataclasses.fields(above)}
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    changes["severity"] = {**below.severity, **above.severity}
    changes["declared_in"] = above.declared_in or below.declared_in
    return dataclasses.replace(below, **changes)


@dataclasses.dataclass(frozen=True)
class MountSection:
    """One ``[mount "GLOB"]``. ``path`` is the mount point of a pattern that can match one only,
    else None.

    ``origin`` is that of its first line, ``origins`` those of its keys (the first line of each).
    """

    glob: bytes
    pattern: selection.PathGlob
    path: Optional[bytes]
    overrides: Overrides
    origin: str
    origins: Mapping[str, str]

    def matches(self, mount_point: bytes) -> bool:
        """Is it about this mount point (as the kernel spells it)?"""
        return mount_point == self.path or self.pattern.match(mount_point)


@dataclasses.dataclass(frozen=True)
class SubmitSection:
    """What all ``[submit "DESTINATION"]`` of one destination say: ``origin`` is that of the last
    one's first line, ``origins`` those of the keys."""

    destination: str
    settings: passive.Settings
    origin: str
    origins: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A file, understood; without arguments that of no file at all."""

    words: tuple[Words, ...] = ()
    sections: tuple[MountSection, ...] = ()
    destinations: tuple[SubmitSection, ...] = ()
    _known: dict[bytes, Overrides] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def for_mount(self, mount_point: bytes) -> Overrides:
        """What all sections that match say together, the later ones winning. Looks nothing up."""
        if mount_point not in self._known:
            result = _NOTHING
            for section in self.sections:
                if section.matches(mount_point):
                    result = _merged(result, section.overrides)
            self._known[mount_point] = result
        return self._known[mount_point]

    def leading(self) -> list[bytes]:
        """The paths that the patterns begin with."""
        return [section.pattern.leading for section in self.sections if section.pattern.leading]

    def follow(self, lead: Callable[[bytes], bytes]) -> None:
        """Take over where the paths lead that the patterns begin with."""
        for section in self.sections:
            if section.pattern.leading:
                section.pattern.follow(lead(section.pattern.leading))
        self._known.clear()

    def declared(self, mount_point: bytes) -> Optional[ExpectedMount]:
        """What should be mounted there, if anything is; None where nothing is said of it.

        That nothing is mounted there is a failure only for those of :meth:`expected`.
        """
        said = self.for_mount(mount_point)
        if not said.declares:
            return None
        return ExpectedMount(
            mount_point, said.source, said.fs_type, said.options or (), said.declared_in, by=Declarer.CONFIGURATION
        )

    def expected(self) -> list[ExpectedMount]:
        """What has to be mounted (``expect = yes``), in the order of the file; without what is to
        be ignored."""
        names = {section.path: section.pattern.leading for section in self.sections[::-1] if section.path is not None}
        paths = dict.fromkeys(section.path for section in self.sections if section.path is not None)
        wanted = [path for path in paths if self.for_mount(path).expect and not self.for_mount(path).ignore]
        found = [(names[path], self.declared(path)) for path in wanted]
        return [
            dataclasses.replace(each, name=name if b".." in name else b"") for name, each in found if each is not None
        ]

    def identities(self) -> dict[str, str]:
        """The users to look up (neither ``owner`` nor ``self``), each with where it was said first,
        for an error message."""
        found: dict[str, str] = {}
        for section in self.sections:
            user = section.overrides.identity
            if user not in (None, "owner", "self"):
                found.setdefault(user, section.origins["as"])
        return found


# --- values: bytes -> what they mean; ValueError with a reason in words


def _clipped(value: bytes) -> str:
    return text.clipped(text.printable(text.without_secrets(value)[:1000]), 120)


def _word(line: bytes) -> bytes:
    """The word that it begins with."""
    return _NO_WORD.split(line, maxsplit=1)[0]


def _begun(line: bytes) -> str:
    """The same for a message, which goes everywhere: the rest may hold a secret, such as the
    password in a URL."""
    word = _word(line)
    return _clipped(word) if word == line else f"{_clipped(word)} ...".lstrip()


def _seconds(value: bytes) -> float:
    seconds = float(value) if _NUMBER.match(value) else math.nan
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"'{_clipped(value)}' is not a number of seconds above 0")
    return seconds


def _range(value: bytes) -> Range:
    try:
        return Range.parse(os.fsdecode(value))
    except ValueError as error:
        raise ValueError(f"'{_clipped(value)}' is not a range: {text.clipped(str(error), 200)}") from None


def _capacity(value: bytes) -> Capacity:
    try:
        return parse_capacity(os.fsdecode(value))
    except ValueError as error:
        raise ValueError(
            f"'{_clipped(value)}' is not a range of percent used or of what is free: {text.clipped(str(error), 200)}"
        ) from None


def _boolean(value: bytes) -> bool:
    if value.lower() not in _BOOLEANS:
        raise ValueError(f"'{_clipped(value)}' is neither yes nor no")
    return _BOOLEANS[value.lower()]


def _some(value: bytes) -> bytes:
    if not value:
        raise ValueError("the value is empty")
    return value


def _user(value: bytes) -> str:
    return os.fsdecode(_some(value))


def _list(value: bytes) -> tuple[bytes, ...]:
    parts = tuple(part.strip(_BLANKS) for part in value.split(b","))
    if not all(parts):
        raise ValueError(f"'{_clipped(value)}' has an empty part" if value else "the value is empty")
    return parts


def _glob(value: bytes) -> selection.Glob:
    if len(value) > _MAX_GLOB:
        raise ValueError(f"a pattern of more than {_MAX_GLOB} bytes")
    try:
        return selection.compile_glob(value)
    except selection.GlobError as error:
        raise ValueError(f"'{_clipped(value)}' is not a pattern: {error}") from None


def _path_glob(value: bytes) -> selection.PathGlob:
    _glob(value)
    return selection.PathGlob(value)


def _type(value: bytes) -> bytes:
    from check_mounts import option_spelling  # with the tables of options; see cli._spec

    option_spelling.check_type(_some(value))
    return value


def _options(value: bytes, fs_type: Optional[bytes] = None) -> tuple[bytes, ...]:
    from check_mounts import option_spelling  # with the tables of options; see cli._spec

    options = _list(value)
    for option in options:
        option_spelling.check_spelling(option, fs_type)
    return options


def _globs(value: bytes) -> tuple[selection.Glob, ...]:
    return tuple(_glob(part) for part in _list(value))


def _severity(value: bytes) -> dict[Condition, State]:
    return dict(_one_severity(part) for part in _list(value))


def _one_severity(part: bytes) -> tuple[Condition, State]:
    # As --severity has it: upper or lower case, underscores for hyphens.
    name, equals, state = os.fsdecode(part).lower().partition("=")
    conditions = {condition.value: condition for condition in Condition}
    states = {known.name.lower(): known for known in State}
    if not equals:
        raise ValueError(f"'{_clipped(part)}' is not CONDITION=STATE")
    condition = conditions.get(name.strip().replace("_", "-"))
    if condition is None:
        raise ValueError(f"'{_clipped(part)}': the conditions are {', '.join(conditions)}")
    if state.strip() not in states:
        raise ValueError(f"'{_clipped(part)}': the states are {', '.join(states)}")
    return condition, states[state.strip()]


# The keys of [mount]: the field of Overrides, and how its value is understood.
MOUNT_KEYS: Mapping[str, tuple[str, Callable[[bytes], Any]]] = {
    "timeout": ("timeout", _seconds),
    "severity": ("severity", _severity),
    "warning": ("warning", _range),
    "critical": ("critical", _range),
    "usage-warning": ("usage_warning", _capacity),
    "usage-critical": ("usage_critical", _capacity),
    "inodes-warning": ("inodes_warning", _capacity),
    "inodes-critical": ("inodes_critical", _capacity),
    "expect": ("expect", _boolean),
    "source": ("source", _some),
    "type": ("fs_type", _type),
    "options": ("options", _options),
    "expect-ro": ("expect_ro", _boolean),
    "write": ("write", _boolean),
    "as": ("identity", _user),
    "ignore-option": ("ignore_options", _globs),
    "ignore": ("ignore", _boolean),
}
# These add up within a section, the others are allowed once.
_REPEATABLE = frozenset(("severity", "options", "ignore-option"))
_DECLARING = frozenset(("expect", "source", "type", "options"))


def _path(value: bytes) -> str:
    if _some(value)[:1] != b"/":
        raise ValueError("no absolute path")
    return os.fsdecode(value)


# The keys of [submit], which are the fields of passive.Settings, how their values are understood,
# and what they have to be.
SUBMIT_KEYS: Mapping[str, tuple[Callable[[bytes], Any], str]] = {
    "user": (_user, "a name"),
    "password": (_user, "a password"),
    "token": (_user, "a token"),
    "ca": (_path, "an absolute path"),
    "certificate": (_path, "an absolute path"),
    "key": (_path, "an absolute path"),
    "verify": (_boolean, "yes or no"),
    "client": (_path, "an absolute path"),
    "client-config": (_path, "an absolute path"),
}
SECRET_KEYS = frozenset(("password", "token"))
# How a line begins of which nothing is shown where it is none. People write passwords into URLs,
# though they are refused there.
_SECRETS = tuple(key.encode("ascii") for key in sorted(SECRET_KEYS | {"submit"}))


# --- the format: bytes -> sections and entries


@dataclasses.dataclass(frozen=True)
class _Entry:
    origin: str
    key: str
    value: bytes


@dataclasses.dataclass(frozen=True)
class _Section:
    """``title`` is how it is written, ``kind`` its first word, ``name`` what stands in quotes
    behind it."""

    origin: str
    title: str
    kind: str
    name: bytes
    entries: list[_Entry] = dataclasses.field(default_factory=list)


def _lines(data: bytes, name: str, blanks: bytes = _BLANKS) -> Iterator[tuple[str, bytes]]:
    """The origin of each line that says something, and the line, stripped. Raises ConfigError for a
    NUL byte."""
    data = data[len(_BOM) :] if data.startswith(_BOM) else data
    for number, raw in enumerate(data.split(b"\n"), 1):
        origin = f"{name} line {number}"
        if b"\0" in raw:
            raise ConfigError(f"{origin}: a NUL byte")
        line = (raw[:-1] if raw.endswith(b"\r") else raw).strip(blanks)
        if line and line[:1] not in (b"#", b";"):
            yield origin, line


def _at(origin: str, parse: Callable[[bytes], Any], value: bytes, what: str = "") -> Any:
    """``parse(value)``, whose ValueError becomes a ConfigError that says where."""
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{origin}: {what}{error}") from None


def _unquoted(value: bytes) -> bytes:
    """A value without its quotes, if it has any. Raises ValueError."""
    match = _QUOTED.match(value)
    if match is None:
        return value
    if match[2] == b'"' and match.end() == len(value):
        return _ESCAPED.sub(rb"\1", match[1])
    if match[2] == b'"':
        raise ValueError("something follows the closing quote")
    if match[2] == b"\\" and match.end() < len(value):
        raise ValueError("within quotes a backslash has to be written twice")
    raise ValueError("the quote is not closed")


def _sections(data: bytes, name: str) -> Iterator[_Section]:
    """The sections in their order, each once it is complete."""
    section: Optional[_Section] = None
    for origin, line in _lines(data, name):
        if line.startswith(b"["):
            if section is not None:
                yield section
            section = _section(origin, line)
            continue
        entry = _entry(origin, line, section.kind if section is not None else "")
        if section is None:
            raise ConfigError(f"{origin}: key '{entry.key}' outside of a section")
        section.entries.append(entry)
    if section is not None:
        yield section


def _section(origin: str, line: bytes) -> _Section:
    closed = line.endswith(b"]")
    inner = (line[1:-1] if closed else line[1:]).strip(_BLANKS)
    kind, *rest = re.split(rb"[ \t]+|(?=\")", inner, maxsplit=1)
    title = _clipped(line) if kind == b"mount" else f"[{_begun(inner)}" + "]" * closed
    if not closed:
        raise ConfigError(f"{origin}: '{title}' does not end with ']'")
    if inner == _PLUGIN.encode():
        return _Section(origin, title, _PLUGIN, b"")
    what = {b"mount": "PATTERN", b"submit": "DESTINATION"}.get(kind)
    if what is None:
        raise ConfigError(f"{origin}: unknown section {title}{_suggestion(_word(inner), (_PLUGIN, 'mount', 'submit'))}")
    if not rest or not rest[0].startswith(b'"'):
        raise ConfigError(f'{origin}: {title} is to be written [{kind.decode()} "{what}"]')
    name = _at(origin, _unquoted, rest[0], f"{title}: ")
    if kind == b"submit":
        title = f'[submit "{_clipped(_word(name))}:..."]'
    return _Section(origin, title, kind.decode(), name)


def _entry(origin: str, line: bytes, kind: str) -> _Entry:
    """``kind`` is that of the section, or empty. A line that is none is shown as a whole only in
    [mount], where no secrets are."""
    key, equals, value = line.partition(b"=")
    key = key.strip(_BLANKS)
    if kind == "submit" or line.lower().startswith(_SECRETS):
        return _secret_entry(origin, key, equals, value.strip(_BLANKS))
    shown = _clipped if kind == "mount" else _begun
    if not equals:
        raise ConfigError(f"{origin}: '{shown(line)}' is no section, no comment, and has no '='")
    if not _KEY.match(key):
        raise ConfigError(f"{origin}: '{shown(key)}' is not a key")
    return _Entry(origin, key.decode("ascii"), _at(origin, _unquoted, value.strip(_BLANKS), f"{_clipped(key)}: "))


def _secret_entry(origin: str, key: bytes, equals: bytes, value: bytes) -> _Entry:
    """The same, but nothing of the line is in a message."""
    try:
        if equals and _KEY.match(key):
            return _Entry(origin, key.decode("ascii"), _unquoted(value))
    except ValueError:
        pass
    raise ConfigError(
        f"{origin}: this is no 'KEY = VALUE', or its quotes are wrong (it is not shown, because it may hold a secret)"
    )


def _suggestion(word: bytes, known: Iterable[str]) -> str:
    # Loaded only now: a run without errors has no use for it.
    from difflib import get_close_matches

    close = get_close_matches(os.fsdecode(word), list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _check_keys(section: _Section, known: Iterable[str], repeatable: Callable[[str], bool]) -> None:
    """Raises ConfigError for a key that is unknown, or there twice."""
    known = list(known)
    seen: dict[str, str] = {}
    for entry in section.entries:
        if entry.key not in known:
            close = _suggestion(entry.key.encode(), known)
            raise ConfigError(f"{entry.origin}: unknown key '{_clipped(entry.key.encode())}' in {section.title}{close}")
        if entry.key in seen and not repeatable(entry.key):
            raise ConfigError(
                f"{entry.origin}: duplicate key '{entry.key}' in {section.title}, first on {_line(seen[entry.key])}"
            )
        seen.setdefault(entry.key, entry.origin)


def _line(origin: str) -> str:
    return origin[origin.rindex("line ") :]


# --- the sections: what they mean


def _defaults(section: _Section, known: Mapping[str, Option]) -> Iterator[Words]:
    for entry in section.entries:
        if entry.key in REFUSED:
            raise ConfigError(f"{entry.origin}: '{entry.key}' can be said on the command line only")
    allowed = {key: option for key, option in known.items() if key not in REFUSED}
    _check_keys(section, allowed, lambda key: allowed[key].repeatable)
    for entry in section.entries:
        parse_words = functools.partial(_option_words, entry.key, allowed[entry.key])
        yield Words(entry.origin, _at(entry.origin, parse_words, entry.value, f"{entry.key}: "))


def _option_words(key: str, option: Option, value: bytes) -> tuple[str, ...]:
    if option.takes_value:
        values = _list(value) if option.commas else (value,)
        return tuple(f"--{key}={os.fsdecode(part)}" for part in values)
    if not option.repeatable:
        return (f"--{key}",) * _boolean(value)
    if len(value) == 1 and value.isdigit():
        return (f"--{key}",) * int(value)
    if value.lower() in _BOOLEANS:
        return (f"--{key}",) * _BOOLEANS[value.lower()]
    raise ValueError(f"'{_clipped(value)}' is not a number from 0 to {_MAX_FLAG}")


def _mount_section(section: _Section) -> MountSection:
    _check_keys(section, MOUNT_KEYS, _REPEATABLE.__contains__)
    glob, pattern, path = _at(section.origin, _mount_glob, section.name, f"{section.title}: ")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    fs_type = next((entry.value for entry in section.entries if entry.key == "type"), None)
    for entry in section.entries:
        field, parse = MOUNT_KEYS[entry.key]
        parse = functools.partial(_options, fs_type=fs_type) if entry.key == "options" else parse
        value = _at(entry.origin, parse, entry.value, f"{entry.key}: ")
        if entry.key == "expect" and value and path is None:
            raise ConfigError(f"{entry.origin}: expect: {section.title} does not name one path")
        values[field] = _added(values[field], value) if field in values else value
        origins.setdefault(entry.key, entry.origin)
    if path is not None:
        values = {
            key: dataclasses.replace(value, for_one=True) if isinstance(value, Capacity) else value
            for key, value in values.items()
        }
    if _DECLARING & origins.keys():
        values["declared_in"] = section.origin
    return MountSection(glob, pattern, path, Overrides(**values), section.origin, origins)


def _submit_section(section: _Section) -> SubmitSection:
    _check_keys(section, SUBMIT_KEYS, lambda key: False)
    values = {entry.key.replace("-", "_"): _submit_value(entry) for entry in section.entries}
    origins = {entry.key: entry.origin for entry in section.entries}
    return SubmitSection(os.fsdecode(section.name), passive.Settings(**values), section.origin, origins)


def _submit_value(entry: _Entry) -> Any:
    """What it means. The message never has the value, whatever the key: people take ``key`` for
    where a token belongs."""
    parse, wanted = SUBMIT_KEYS[entry.key]
    try:
        return parse(entry.value)
    except ValueError:
        why = (
            f"this is not {wanted} (it is not shown, because it may hold a secret)"
            if entry.value
            else "the value is empty"
        )
        raise ConfigError(f"{entry.origin}: {entry.key}: {why}") from None


def _together(first: SubmitSection, later: SubmitSection) -> SubmitSection:
    """Two sections of one destination: the later one wins, key by key."""
    said = {field.name: getattr(later.settings, field.name) for field in dataclasses.fields(later.settings)}
    settings = dataclasses.replace(first.settings, **{name: value for name, value in said.items() if value is not None})
    return dataclasses.replace(later, settings=settings, origins={**first.origins, **later.origins})


def _added(first: Any, second: Any) -> Any:
    return {**first, **second} if isinstance(first, dict) else first + second


def _mount_glob(glob: bytes) -> tuple[bytes, selection.PathGlob, Optional[bytes]]:
    """The pattern, compiled, and the path if it can be one only. Raises ValueError."""
    if glob[:1] not in (b"/", b"*", b"?", b"["):
        raise ValueError("it has to begin with '/', or match something that does")
    if _LITERAL.match(glob):
        return glob, _path_glob(glob), selection.normalised(_BRACKETED.sub(rb"\1", glob))
    # The kernel writes no trailing slash; people do.
    return glob, _path_glob(glob.rstrip(b"/")), None


def parse(data: bytes, name: str, known: Mapping[str, Option]) -> Configuration:
    """The content of a file; ``name`` is how to call it in messages, fit for output. Raises
    ConfigError.

    ``known`` are the long options, without dashes; those that are REFUSED may be among them.
    """
    words: list[Words] = []
    sections: list[MountSection] = []
    destinations: dict[str, SubmitSection] = {}
    for section in _sections(data, name):
        if section.kind == _PLUGIN:
            words += _defaults(section, known)
        elif section.kind == "mount":
            sections.append(_mount_section(section))
        else:
            said = _submit_section(section)
            first = destinations.get(said.destination)
            destinations[said.destination] = said if first is None else _together(first, said)
    return Configuration(tuple(words), tuple(sections), tuple(destinations.values()))


# --- the file


def read(path: str, known: Mapping[str, Option], optional: bool = False) -> Configuration:
    """The file at ``path``, see :func:`parse`. Raises ConfigError. ``optional``: one that does not
    exist says nothing.

    One that exists and cannot be read is an error even then: a check without the exceptions it was
    told would raise false alarms."""
    try:
        data, mode = _content(path)
    except FileNotFoundError:
        if not optional:
            raise ConfigError(f"{_shown(path)}: No such file or directory") from None
        return Configuration()
    configuration = parse(data, _shown(path), known)
    if mode & stat.S_IROTH:
        for origin, key in (
            (section.origins[key], key) for section in configuration.destinations for key in section.origins
        ):
            if key in SECRET_KEYS:
                raise ConfigError(
                    f"{origin}: {key}: refused, because everybody may read it (mode {mode:04o}): chmod o-r {_shown(path)}"
                )
    return configuration


def _shown(path: str) -> str:
    return text.clipped(text.printable_argument(path), 400)


def _content(path: str) -> tuple[bytes, int]:
    """What is in a file that nobody else can have written, and its mode. Raises ConfigError, and
    FileNotFoundError as it is."""
    try:
        mode, uid, data = reading.asked("reading", path, _opened)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{_shown(path)}: {error.strerror}") from None
    _check_status(_shown(path), mode, uid)
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{_shown(path)}: larger than 1 MiB")
    return data, stat.S_IMODE(mode)


def _opened(path: str) -> tuple[int, int, bytes]:
    """Mode, owner and content of a file; no content where it is not a regular one. Raises
    OSError."""
    # Without O_NONBLOCK a FIFO would keep us until somebody opens it for writing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        return status.st_mode, status.st_uid, _bytes_of(descriptor) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)


def _bytes_of(descriptor: int) -> bytes:
    """What is left to read, but little more than MAX_SIZE bytes: it may be growing."""
    data = b""
    while len(data) <= MAX_SIZE and (chunk := os.read(descriptor, 1 << 18)):
        data += chunk
    return data


def _check_status(shown: str, mode: int, uid: int) -> None:
    """Raises ConfigError for what is no file, and for a file by which somebody else could steer the
    caller.

    It names users to act as and switches alarms off. POSIX ACLs that let others write show in the
    bits of the group."""
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{shown}: a directory")
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{shown}: not a regular file")
    if uid not in (0, os.geteuid()):
        raise ConfigError(f"{shown}: refused, because it belongs to uid {uid}, neither root nor the caller")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{shown}: refused, because others than its owner may write to it (mode {stat.S_IMODE(mode):04o})"
        )


# --- --extra-opts


def extra_options(spec: str, environment: Mapping[str, str]) -> list[str]:
    """:func:`extra_words` without the origins."""
    return [word for words in extra_words(spec, environment) for word in words.words]


def extra_words(spec: str, environment: Mapping[str, str]) -> tuple[Words, ...]:
    """What ``--extra-opts=[SECTION][@FILE]`` stands for: words to come before those of the command
    line. Raises ConfigError.

    As the Monitoring Plugins do it (https://www.monitoring-plugins.org/doc/extra-opts.html,
    lib/parse_ini.c): the section is named like the plugin unless said otherwise; ``key=value`` is
    ``--key=value``, ``key=`` is ``--key``, a key of one letter has one dash; values have no quotes;
    a key may be repeated; a section that occurs twice is the sum of both; other sections may hold
    anything."""
    section, at, path = spec.partition("@")
    path = path if at else _extra_file(environment)
    if not path:
        raise ConfigError("--extra-opts: no file is named after the '@'")
    try:
        data, _ = _content(path)
    except FileNotFoundError:
        raise ConfigError(f"--extra-opts: {_shown(path)}: No such file or directory") from None
    except ConfigError as error:
        raise ConfigError(f"--extra-opts: {error}") from None
    return _extra_section(data, _shown(path), os.fsencode(section or _PLUGIN))


def _extra_file(environment: Mapping[str, str]) -> str:
    """MP_CONFIG_FILE, else the first file that exists in NAGIOS_CONFIG_PATH and then in the fixed
    places. Raises ConfigError."""
    if environment.get("MP_CONFIG_FILE"):
        return environment["MP_CONFIG_FILE"]
    directories = [directory for directory in environment.get("NAGIOS_CONFIG_PATH", "").split(":") if directory]
    named = [f"{directory}/{name}" for directory in directories for name in EXTRA_OPTS_NAMES]
    for path in (*named, *EXTRA_OPTS_PATHS):
        if reading.asked("looking for", path, _exists):
            return path
    raise ConfigError(
        f"--extra-opts: there is no {EXTRA_OPTS_NAMES[0]} or {EXTRA_OPTS_NAMES[1]} in any of the usual places"
    )


def _exists(path: str) -> bool:
    return os.access(path, os.F_OK)


def _extra_section(data: bytes, name: str, wanted: bytes) -> tuple[Words, ...]:
    blanks = _BLANKS + b"\v\f\r"  # isspace(3)
    current: Optional[bytes] = None
    found = False
    result: list[Words] = []
    for origin, line in _lines(data, name, blanks):
        if line.startswith(b"["):
            current = line[1:].partition(b"]")[0].strip(blanks)
            found = found or current == wanted
        elif current is None:
            raise ConfigError(f"{origin}: '{_begun(line)}' outside of a section")
        elif current == wanted:
            result.append(Words(origin, (_extra_word(origin, line, blanks),)))
    if not found:
        raise ConfigError(f"--extra-opts: there is no section [{_clipped(wanted)}] in {name}")
    return tuple(result)


def _extra_word(origin: str, line: bytes, blanks: bytes) -> str:
    raw_key, equals, value = line.partition(b"=")
    key, value = raw_key.strip(blanks), value.strip(blanks)
    if not _KEY.match(key):
        raise ConfigError(f"{origin}: '{_begun(key)}' is not a key")
    if not equals:
        raise ConfigError(
            f"{origin}: '{_clipped(key)}' has no '=' (an option without value is written '{_clipped(key)}=')"
        )
    if key == b"extra-opts":
        raise ConfigError(f"{origin}: 'extra-opts' can be said on the command line only")
    dashes = b"-" if len(key) == 1 else b"--"
    return os.fsdecode(dashes + key + (b"=" + value if value else b""))
