"""The libraries that this program needs, and the packages that have them.

Import budget: text."""

from __future__ import annotations

from check_mounts import text
from check_mounts.typed import NamedTuple


class _Library(NamedTuple):
    """``oldest`` is the first version that will do; ``debian`` and ``fedora`` name the package."""

    oldest: str
    debian: str
    fedora: str


_LIBRARIES = {
    "nagiosplugin": _Library("1.3.2", "python3-nagiosplugin", "python3-nagiosplugin"),
    "prometheus_client": _Library("0.9", "python3-prometheus-client", "python3-prometheus_client"),
    "rich": _Library("10.0", "python3-rich", "python3-rich"),
}


def missing(name: str, error: Exception) -> str:
    """Why a library cannot be used, and which package to install."""
    library = _LIBRARIES[name]
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        what, apt, dnf, pip = f"is missing ({error})", "install", "install", "install"
    else:  # it is too old, too new, of another Python, or half of it is gone
        why = text.clipped(text.one_line(f"{type(error).__name__}: {error}"), 200)
        what = f"cannot be used ({why}); {library.oldest} or later is needed"
        apt, dnf, pip = "install --reinstall", "reinstall", "install --force-reinstall"
    commands = f"apt-get {apt} {library.debian}, dnf {dnf} {library.fedora}, or pip {pip} {name}"
    return f"the library {name} {what}: {commands}"
