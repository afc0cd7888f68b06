"""nagiosplugin, loaded without what only its unused parts need.

It imports ``tempfile``, ``json`` and ``traceback``, with some twenty modules below them, for
cookies and for its own Runtime. We use neither, and that takes a third of the time of its import.
So for the time of the import, stand-ins load these modules at their first use.

That breaks no law: nothing that we call uses them, so nothing is loaded late."""

from __future__ import annotations

import sys
from types import ModuleType

from check_mounts.typed import Any

_UNUSED = ("json", "tempfile", "traceback")


class _Later(ModuleType):
    """Stands for a module of Python's own until one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        _stand_down(self.__name__)
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


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
