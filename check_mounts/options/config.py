"""The configuration, read from its file and parsed.

Import budget: only modules that every run needs anyway. The parser,
:mod:`check_mounts.options.config_text`, is loaded only if there is a file."""

from __future__ import annotations

import os
import stat

from check_mounts.options import trusted_file
from check_mounts.options.configuration import Configuration
from check_mounts.options.refusals import ConfigError
from check_mounts.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from check_mounts.tablelines import Opener


def read(path: str, optional: bool = False, opener: Opener = os.open) -> Configuration:
    """The configuration in a file, which ``opener`` opens. Raises ConfigError. ``optional``: the
    file need not exist.

    A file that exists and cannot be read is always an error: without its exceptions, a check would
    raise false alarms."""
    if path == "/dev/null":  # the way to have none, whatever the default file says
        return Configuration()
    try:
        data, mode = trusted_file.read(path, opener)
    except FileNotFoundError:
        if not optional:
            raise trusted_file.missing(path) from None
        return Configuration()
    from check_mounts.options import config_text

    configuration = config_text.parse(data, trusted_file.shown(path))
    if mode & stat.S_IROTH:
        _refuse_secrets(configuration, config_text.SECRET_KEYS, mode, path)
    return configuration


def _refuse_secrets(configuration: Configuration, secret: frozenset[str], mode: int, path: str) -> None:
    """Raises ConfigError for a secret in a file that everybody can read."""
    for section in configuration.destinations:
        for key, origin in section.origins.items():
            if key in secret:
                why = f"refused, because everybody can read the file (mode {mode:04o})"
                raise ConfigError(origin, f"{key}: {why}: chmod o-r {trusted_file.shown(path)}")
