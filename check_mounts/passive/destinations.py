"""The table of destinations: one row for each kind.

Import budget: ``importlib``, and the module of a kind once that kind is asked for: a fork costs
less without the others.

To add a kind, write a module of this package with ``SETTINGS`` (the fields of Settings that it
takes) and ``destination(rest, settings)``, and add a row here. Everything that may block belongs
into ``deliver``, and so does every import of a large module. CONTRIBUTING.md has the whole
recipe."""

from __future__ import annotations

import importlib

from check_mounts import text
from check_mounts.passive import Destination, Settings
from check_mounts.typed import NamedTuple, Protocol, cast


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
    """The contents of the module of a kind."""

    SETTINGS: frozenset[str]

    def destination(self, rest: str, settings: Settings) -> Destination:
        """The destination with this word after the colon. Raises ValueError."""
        ...


def destination(word: str, settings: Settings) -> Destination:
    """The destination that the user has written as ``word``. Looks nothing up.

    Raises ValueError if it makes no sense. Its words are fit for any output, and without
    secrets."""
    name, colon, rest = word.partition(":")
    kind = next((each for each in KINDS if each.word == name), None)
    if kind is None or not colon:
        # What follows the first colon may hold a password.
        shown = text.clipped(text.printable_argument(name), 60) + (":..." if colon else "")
        from check_mounts import nearest  # a run without errors does not need it

        close = nearest.hint(name, [each.word for each in KINDS]) if kind is None else ""
        raise ValueError(f"'{shown}' is not a destination; the destinations are {', '.join(map(str, KINDS))}{close}")
    module = _load(kind)
    _refuse_others(name, settings, module.SETTINGS)
    return module.destination(rest, settings)


def load_all() -> None:
    """Load all kinds, for a daemon: later the modules could be on a mount that hangs. Raises
    ImportError."""
    for kind in KINDS:
        _load(kind)


def _load(kind: Kind) -> _Module:
    return cast(_Module, importlib.import_module(f"check_mounts.passive.{kind.module}"))


def _refuse_others(kind: str, settings: Settings, allowed: frozenset[str]) -> None:
    """Raises ValueError for a setting that does not fit the kind: its author expects that it has an
    effect."""
    for field, value in settings._asdict().items():
        if value is not None and field not in allowed:
            fitting = ", ".join(map(key_of, sorted(allowed))) or "none"
            raise ValueError(f"{kind}: '{key_of(field)}' does not fit; settings that do: {fitting}")


def key_of(field: str) -> str:
    """How the configuration spells a field of Settings."""
    return field.replace("_", "-")
