"""Which settings make sense together, and what is sent of them: shared by what speaks HTTP.

Import budget: ``base64``, by the time of a delivery.
"""

from __future__ import annotations

from check_mounts.passive import Settings
from check_mounts.passive.address import Url

_FILES = ("ca", "certificate", "key")


def check(settings: Settings, url: Url) -> None:
    """Raises ValueError for settings that say two things, or half a thing."""
    if settings.user is not None and settings.password is None:
        raise ValueError("'user' without 'password'")
    if settings.password is not None and settings.user is None:
        raise ValueError("'password' without 'user'")
    # The colon is what the server finds the end of the user by (RFC 7617).
    if settings.user is not None and (":" in settings.user or not settings.user):
        raise ValueError("'user' is empty, or has a colon in it")
    if settings.key is not None and settings.certificate is None:
        raise ValueError("'key' without 'certificate'")
    for key in _FILES:
        path = getattr(settings, key)
        if path is not None and (not path.startswith("/") or "\0" in path):
            raise ValueError(f"'{key}' has to be an absolute path")
        if path is not None and url.scheme != "https":
            raise ValueError(f"'{key}' is for https: only")
    if settings.verify is False and settings.ca is not None:
        raise ValueError("'ca' makes no sense with 'verify = no'")


def headers(settings: Settings) -> dict[str, str]:
    """Basic authentication, if there is a user."""
    if settings.user is None or settings.password is None:
        return {}
    return {"Authorization": f"Basic {_basic(settings)}"}


def _basic(settings: Settings) -> str:
    import base64

    pair = f"{settings.user}:{settings.password}"
    return base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")


def secrets(settings: Settings) -> list[str]:
    """What must not be printed, should a server repeat it."""
    found = [settings.password, settings.token, _basic(settings) if settings.user is not None else None]
    return sorted((secret for secret in found if secret), key=len, reverse=True)
