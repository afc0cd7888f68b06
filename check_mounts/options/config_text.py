"""The text of a configuration file -> options for the whole run and rules for single mounts.

:mod:`check_mounts.options.ini_syntax` reads the format; the table of options has the keys.

Import budget: ``re``, and :mod:`check_mounts.passive`, which is small."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping

from check_mounts import passive, selection
from check_mounts.judging.thresholds import Capacity
from check_mounts.options import ini_syntax, patterns, values
from check_mounts.options.configuration import (
    LIMITS,
    Configuration,
    LimitKey,
    MountSection,
    Overrides,
    Said,
    SubmitSection,
)
from check_mounts.options.ini_syntax import Entry, Section, check_keys, parsed_at
from check_mounts.options.option import Option, Scope
from check_mounts.options.option_table import ADDED_UP, BY_NAME, MOUNT_KEYS, OPTIONS
from check_mounts.options.refusals import ConfigError, Origin
from check_mounts.typed import Any, Optional

# Options about the run, or about files like this one: a file cannot give them.
REFUSED = frozenset(option.name for option in OPTIONS if option.scope is Scope.COMMAND_LINE)

# A pattern that can match only one path: each of its glob characters is alone in brackets.
_LITERAL = re.compile(selection.LITERAL + rb"\Z")

# The keys of [submit], which are the fields of passive.Settings -> the parser of the value, and its
# words for the value that it wants.
SUBMIT_KEYS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "user": (values.some, "a name"),
    "password": (values.some, "a password"),
    "token": (values.some, "a token"),
    "ca": (values.absolute_path, "an absolute path"),
    "certificate": (values.absolute_path, "an absolute path"),
    "key": (values.absolute_path, "an absolute path"),
    "verify": (values.boolean, "yes or no"),
    "client": (values.absolute_path, "an absolute path"),
    "client-config": (values.absolute_path, "an absolute path"),
}
SECRET_KEYS = frozenset(("password", "token"))

# The keys of [mount] whose field in Overrides has another name.
_FIELDS = {"as": "identity", "type": "fs_type"}


def parse(data: bytes, name: str) -> Configuration:
    """The content of a file, parsed. Raises ConfigError.

    ``name`` is the name of the file in messages, fit for output."""
    options: list[Said] = []
    sections: list[MountSection] = []
    destinations: dict[str, SubmitSection] = {}
    for section in ini_syntax.sections(data, name):
        if section.kind == ini_syntax.PLUGIN:
            options += _options(section)
        elif section.kind == "mount":
            sections.append(_mount_section(section))
        else:
            said = _submit_section(section)
            first = destinations.get(said.destination)
            destinations[said.destination] = said if first is None else _together(first, said)
    return Configuration(tuple(options), tuple(sections), tuple(destinations.values()))


def _options(section: Section) -> Iterator[Said]:
    """The options of a section ``[check_mounts]``. Raises ConfigError."""
    for entry in section.entries:
        if entry.key in REFUSED:
            raise ConfigError(entry.origin, f"'{entry.key}' is allowed on the command line only")
    allowed = {name: option for name, option in BY_NAME.items() if name not in REFUSED}
    check_keys(section, allowed, lambda key: allowed[key].repeatable)
    for entry in section.entries:
        option = allowed[entry.key]
        value = parsed_at(entry.origin, _value_parser(option), os.fsdecode(entry.value), f"{entry.key}: ")
        if option.takes_value or value:  # a flag that is switched off gives nothing
            yield Said(option, option.given(value), entry.origin)


def _value_parser(option: Option) -> Callable[[str], Any]:
    if option.parse is not None:
        return option.parse
    return values.times if option.repeatable else values.boolean


def _mount_section(section: Section) -> MountSection:
    check_keys(section, MOUNT_KEYS, ADDED_UP.__contains__)
    glob, pattern, path = parsed_at(section.origin, _mount_glob, section.name, f"{section.title}: ")
    said: dict[str, Any] = {}
    limits: dict[LimitKey, Any] = {}
    origins: dict[str, Origin] = {}
    fs_type = next((entry.value for entry in section.entries if entry.key == "type"), None)
    for entry in section.entries:
        value = _mount_value(entry, fs_type)
        if entry.key == "expect" and value and path is None:
            raise ConfigError(entry.origin, f"expect: {section.title} does not name a single path")
        if isinstance(value, Capacity) and path is not None:
            value = value._replace(for_one=True)
        field = _FIELDS.get(entry.key, entry.key.replace("-", "_"))
        if field in LIMITS:
            _add_limit(limits, entry, field, value)
        else:
            said[field] = (*said.get(field, ()), *value) if entry.key in ADDED_UP else value
        origins.setdefault(entry.key, entry.origin)
    if "severity" in said:
        said["severity"] = dict(said["severity"])
    said["canary"] = {key: said.pop(key) for key in ("canary", "contains", "not_empty") if key in said}
    return MountSection(glob, pattern, path, Overrides(**said, limits=limits), section.origin, origins)


def _add_limit(limits: dict[LimitKey, Any], entry: Entry, field: str, value: Any) -> None:
    """Raises ConfigError if the section has a limit for the same thing already."""
    part, limit = value if entry.key in ADDED_UP else (None, value)
    key = field if part is None else (field, part)
    if key in limits:
        raise ConfigError(entry.origin, f"duplicate key '{entry.key}': the section has a range for the same thing")
    limits[key] = limit


def _mount_value(entry: Entry, fs_type: Optional[bytes]) -> Any:
    """The parsed value of an entry of [mount]. Raises ConfigError."""
    understand = MOUNT_KEYS[entry.key]
    if entry.key == "options":
        understand = functools.partial(values.mount_options, of_type=fs_type)
    return parsed_at(entry.origin, understand, os.fsdecode(entry.value), f"{entry.key}: ")


def _mount_glob(glob: bytes) -> tuple[bytes, selection.PathGlob, Optional[bytes]]:
    """The pattern, compiled, and the path, if it can match only one. Raises ValueError."""
    if glob[:1] not in (b"/", b"*", b"?", b"["):
        raise ValueError("it must begin with '/' or a pattern character")
    if _LITERAL.match(glob):
        path = selection.normalised(re.sub(selection.BRACKETED, rb"\1", glob))
        return glob, values.path_glob_as_written(os.fsdecode(glob)), path
    patterns.check_one(glob)
    return glob, values.path_glob(os.fsdecode(glob)), None


def _submit_section(section: Section) -> SubmitSection:
    check_keys(section, SUBMIT_KEYS, lambda key: False)
    settings = {entry.key.replace("-", "_"): _submit_value(entry) for entry in section.entries}
    origins = {entry.key: entry.origin for entry in section.entries}
    return SubmitSection(os.fsdecode(section.name), passive.Settings(**settings), section.origin, origins)


def _submit_value(entry: Entry) -> Any:
    """The parsed value. Raises ConfigError.

    The message never shows the value, whatever the key: people put tokens into ``key``."""
    understand, wanted = SUBMIT_KEYS[entry.key]
    try:
        return understand(os.fsdecode(entry.value))
    except ValueError:
        why = f"this is not {wanted} ({ini_syntax.NOT_SHOWN})" if entry.value else "the value is empty"
        raise ConfigError(entry.origin, f"{entry.key}: {why}") from None


def _together(first: SubmitSection, later: SubmitSection) -> SubmitSection:
    """Two sections of one destination, merged: the later one wins, key by key."""
    said = {name: value for name, value in later.settings._asdict().items() if value is not None}
    settings = first.settings._replace(**said)
    return later._replace(settings=settings, origins={**first.origins, **later.origins})
