"""The table of destinations: one row for each kind.

Import budget: ``importlib``, and the module of a kind where that kind is asked for: a fork costs
less without the others.

To add a kind: a module of this package with ``SETTINGS`` (the fields of Settings that it takes) and
``destination(rest, settings)``, and a row here. What it may block on belongs into ``deliver``, and
so does whatever is heavy to load. CONTRIBUTING.md has the whole recipe."""

from __future__ import annotations

import dataclasses
import importlib
from typing import NamedTuple, Protocol, cast

from check_mounts import text
from check_mounts.passive import Destination, Settings


class Kind(NamedTuple):
    """A row: the word before the colon, what follows it, and the module."""

    word: str
    rest: str
    module: str

    def __str__(self) -> str:
        """How such a destination is written, for messages and help."""
        return f"{self.word}:{self.rest}"


KINDS = (
    Kind("command-file", "PATH", "command_file"),
    Kind("nsca", "HOST[:PORT]", "nsca"),
    Kind("icinga2", "https://HOST:PORT", "icinga2"),
    Kind("nrdp", "URL", "nrdp"),
)


class _Module(Protocol):
    """What the module of a kind offers."""

    SETTINGS: frozenset[str]

    def destination(self, rest: str, settings: Settings) -> Destination:
        """The destination that is written like this. Raises ValueError."""
        ...


def destination(word: str, settings: Settings) -> Destination:
    """The destination that is written like this. Looks nothing up.

    Raises ValueError, with words fit for any output and without secrets, if it makes no sense."""
    name, colon, rest = word.partition(":")
    kind = next((each for each in KINDS if each.word == name), None)
    if kind is None or not colon:
        # What follows the first colon may hold a password.
        shown = text.clipped(text.printable_argument(name), 60) + (":..." if colon else "")
        raise ValueError(f"'{shown}' is not a destination; there are {', '.join(map(str, KINDS))}")
    module = _loaded(kind)
    _refuse_others(name, settings, module.SETTINGS)
    return module.destination(rest, settings)


def load_all() -> None:
    """Load every kind, for a daemon: later the modules could be on a mount that hangs. Raises
    ImportError."""
    for kind in KINDS:
        _loaded(kind)


def _loaded(kind: Kind) -> _Module:
    return cast(_Module, importlib.import_module(f"check_mounts.passive.{kind.module}"))


def _refuse_others(kind: str, settings: Settings, allowed: frozenset[str]) -> None:
    """Raises ValueError for a setting that does not fit the kind: whoever wrote it expects
    something of it."""
    for field in dataclasses.fields(settings):
        if getattr(settings, field.name) is not None and field.name not in allowed:
            fitting = ", ".join(map(key_of, sorted(allowed))) or "none"
            raise ValueError(f"{kind}: '{key_of(field.name)}' does not fit; settings that do: {fitting}")


def key_of(field: str) -> str:
    """How the configuration spells a field of Settings."""
    return field.replace("_", "-")
