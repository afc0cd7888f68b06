"""``--extra-opts``: options from a section of an ini file of the Monitoring Plugins.

This follows the Monitoring Plugins (https://www.monitoring-plugins.org/doc/extra-opts.html,
lib/parse_ini.c): the section has the name of the plugin unless the option names another;
``key=value`` is ``--key=value``, ``key=`` is ``--key``, a key of one letter has one dash; values
have no quotes; a key may be repeated; a section that occurs twice is the sum of both; other
sections may hold anything."""

from __future__ import annotations

import os
from collections.abc import Mapping

from check_mounts.options import ini_syntax, trusted_file
from check_mounts.options.configuration import Said
from check_mounts.options.ini_syntax import first_word, parsed_at, suggestion
from check_mounts.options.option import Option, Scope
from check_mounts.options.option_table import BY_WORD
from check_mounts.options.refusals import ConfigError, Origin
from check_mounts.options.trusted_file import shown
from check_mounts.system import reading
from check_mounts.text import excerpt
from check_mounts.typed import Optional

# The files that the Monitoring Plugins look for, in their order (lib/parse_ini.c; the names with
# "nagios" in them are older).
NAMES = ("monitoring-plugins.ini", "plugins.ini", "nagios-plugins.ini")
PATHS = (
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
_BLANKS = ini_syntax.BLANKS + b"\v\f\r"  # isspace(3)


def read(spec: str, environment: Mapping[str, str]) -> tuple[Said, ...]:
    """Read the options that ``--extra-opts=[SECTION][@FILE]`` stands for. Raises ConfigError.

    The options of the command line come after them."""
    section, at, path = spec.partition("@")
    path = path if at else _find_file(environment)
    if not path:
        raise ConfigError(None, "--extra-opts: the '@' must be followed by a file")
    try:
        data, _ = trusted_file.read(path)
    except FileNotFoundError:
        raise ConfigError(None, f"--extra-opts: {trusted_file.missing(path)}") from None
    except ConfigError as error:
        raise ConfigError(None, f"--extra-opts: {error}") from None
    return of_section(data, shown(path), os.fsencode(section or ini_syntax.PLUGIN))


def _find_file(environment: Mapping[str, str]) -> str:
    """Look for the file to read if the option names no file. Raises ConfigError.

    It is MP_CONFIG_FILE, else the first file that exists in NAGIOS_CONFIG_PATH, else in the fixed
    places."""
    if environment.get("MP_CONFIG_FILE"):
        return environment["MP_CONFIG_FILE"]
    directories = [directory for directory in environment.get("NAGIOS_CONFIG_PATH", "").split(":") if directory]
    named = [f"{directory}/{name}" for directory in directories for name in NAMES]
    for path in (*named, *PATHS):
        if reading.ask("looking for", path, _exists):
            return path
    raise ConfigError(None, f"--extra-opts: none of the usual places has a file {NAMES[0]} or {NAMES[1]}")


def _exists(path: str) -> bool:
    return os.access(path, os.F_OK)


def of_section(data: bytes, name: str, wanted: bytes) -> tuple[Said, ...]:
    """The options of one section of a file; messages call the file ``name``. Raises ConfigError."""
    current: Optional[bytes] = None
    there: dict[str, None] = {}
    result: list[Said] = []
    for origin, line in ini_syntax.lines(data, name, _BLANKS):
        if line.startswith(b"["):
            current = line[1:].partition(b"]")[0].strip(_BLANKS)
            there[excerpt(current)] = None
        elif current is None:
            raise ConfigError(origin, f"'{first_word(line)}' stands before the first section")
        elif current == wanted:
            result.append(_said(origin, line))
    if excerpt(wanted) not in there:
        close = suggestion(wanted, there)
        raise ConfigError(None, f"--extra-opts: {name} has no section [{excerpt(wanted)}]{close}")
    return tuple(result)


def _said(origin: Origin, line: bytes) -> Said:
    raw_key, equals, value = line.partition(b"=")
    key, value = raw_key.strip(_BLANKS), value.strip(_BLANKS)
    if not ini_syntax.KEY.match(key):
        raise ConfigError(origin, f"'{first_word(key)}' is not a key")
    if not equals:
        raise ConfigError(origin, f"'{excerpt(key)}' has no '=' (an option without value is written '{excerpt(key)}=')")
    option = BY_WORD.get((b"-" if len(key) == 1 else b"--").decode() + key.decode("ascii"))
    # The message does not show the value: such a file may hold the passwords of other plugins.
    if option is None:
        known = [word.lstrip("-") for word, option in BY_WORD.items() if option.scope is not Scope.COMMAND_LINE]
        raise ConfigError(origin, f"unknown key '{excerpt(key)}'{suggestion(key, known)}")
    if option.scope is Scope.COMMAND_LINE:
        raise ConfigError(origin, f"'{excerpt(key)}' is allowed on the command line only")
    return Said(
        option, parsed_at(origin, lambda word: _meant(option, word), os.fsdecode(value), f"{excerpt(key)}: "), origin
    )


def _meant(option: Option, word: str) -> object:
    """The value of an option, from the word after ``=``, which may be empty. Raises ValueError."""
    if option.parse is None:
        if word:
            raise ValueError("takes no value")
        return option.given(1)
    word = word or option.left_out or ""
    if not word and option.left_out is None:
        raise ValueError("the value is empty")
    return option.given(option.parse(word))
