"""nagiosplugin, loaded without what only its unused parts need. Where it cannot be loaded, a
stand-in has its place, and ``why`` says why; otherwise ``why`` is empty.

It imports ``json``, ``logging``, ``tempfile``, ``traceback`` and ``warnings``, with some thirty
modules below them, for cookies and for its own Runtime. We use neither, and that takes two thirds
of the time of its import. So for the time of the import, stand-ins load these modules at their
first use.

That breaks no law: nothing that we call uses them, so nothing is loaded late."""

from __future__ import annotations

import sys
from types import ModuleType

from check_mounts.typed import Any

# What plugin uses, and stand_in has.
_NEEDED = (
    "Ok", "Warn", "Critical", "Unknown", "Metric", "Performance", "Resource", "Context", "Result", "Results",
    "Summary", "Check",
)  # fmt: skip
_UNUSED = ("json", "logging", "tempfile", "traceback", "warnings")


class _Later(ModuleType):
    """Stands for a module of Python's own until one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if (self.__name__, name) == ("logging", "getLogger"):  # called when nagiosplugin is imported
            return _Logger
        _stand_down(self.__name__)
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


class _Logger:
    """Stands for a logger until it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        _stand_down("logging")
        import logging

        return getattr(logging.getLogger(self._name), name)


def _stand_down(name: str) -> None:
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]


def _loaded() -> Any:
    """Raises an exception of any kind: whatever is installed under this name is run."""
    sys.modules.update((name, _Later(name)) for name in _UNUSED if name not in sys.modules)
    try:
        import nagiosplugin

        _check(nagiosplugin)
        return nagiosplugin
    finally:
        for name in _UNUSED:
            _stand_down(name)


def _check(library: Any) -> None:
    """Raises an exception of any kind if the library does not do what is needed."""
    missing = [name for name in _NEEDED if not hasattr(library, name)]
    if missing:
        raise ImportError(f"version {getattr(library, '__version__', 'unknown')} has no {', '.join(missing)}")
    item = str(library.Performance("a b", "1", "s", "2", "", 0))
    if item != "'a b'=1s;2;;0" or not hasattr(library.Check, "summary_str"):
        raise ImportError("it is not the library that plugins use")


nagiosplugin: Any
why = ""
try:
    nagiosplugin = _loaded()
except Exception as error:
    from check_mounts.guard import defects
    from check_mounts.report import packages, stand_in

    defects.say(error)
    nagiosplugin, why = stand_in, packages.missing("nagiosplugin", error)
