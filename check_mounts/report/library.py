"""nagiosplugin, loaded without what only its unused parts need.

It imports ``json``, ``logging``, ``tempfile``, ``traceback`` and ``warnings``, with some thirty
modules below them, for cookies and for its own Runtime. We use neither, and that takes two thirds
of the time of its import. So for the time of the import, stand-ins load these modules at their
first use.

That breaks no law: nothing that we call uses them, so nothing is loaded late."""

from __future__ import annotations

import sys
from types import ModuleType

from check_mounts.typed import Any

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
    sys.modules.update((name, _Later(name)) for name in _UNUSED if name not in sys.modules)
    try:
        import nagiosplugin

        return nagiosplugin
    finally:
        for name in _UNUSED:
            _stand_down(name)


nagiosplugin = _loaded()
