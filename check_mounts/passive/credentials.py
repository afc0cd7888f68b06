"""The settings of destinations that use HTTP: which of them go together, and what is sent.

Import budget: ``re``; ``base64``, ``json``, ``urllib.parse`` at the time of a delivery.
"""

from __future__ import annotations

import re

from check_mounts.passive import Settings, named
from check_mounts.passive.address import Url

# Quotes in XML and HTML, which write the apostrophe in several ways.
_QUOTES = (
    ("'", '"'),
    ("&#39;", "&quot;"),
    ("&#039;", "&quot;"),
    ("&apos;", "&quot;"),
    ("&#x27;", "&quot;"),
    ("'", "&quot;"),
)

_FILES = ("ca", "certificate", "key")


def check(settings: Settings, url: Url) -> None:
    """Raises ValueError for settings that contradict each other or are incomplete."""
    if settings.user is not None and settings.password is None:
        raise ValueError("'user' needs 'password'")
    if settings.password is not None and settings.user is None:
        raise ValueError("'password' needs 'user'")
    # The server takes the first colon for the end of the user (RFC 7617).
    if settings.user is not None and (":" in settings.user or not settings.user):
        raise ValueError("'user' is empty or contains a colon")
    if settings.key is not None and settings.certificate is None:
        raise ValueError("'key' needs 'certificate'")
    for key in _FILES:
        path = getattr(settings, key)
        if path is not None and (not path.startswith("/") or "\0" in path):
            raise ValueError(f"'{key}' must be an absolute path")
        if path is not None and url.scheme != "https":
            raise ValueError(f"'{key}' needs https:")
    if settings.verify is False and settings.ca is not None:
        raise ValueError("'ca' makes no sense with 'verify = no'")


def files(settings: Settings) -> tuple[str, ...]:
    """The files that are opened for TLS."""
    return named(*(getattr(settings, key) for key in _FILES))


def headers(settings: Settings) -> dict[str, str]:
    """The header of basic authentication, if there is a user."""
    if settings.user is None or settings.password is None:
        return {}
    return {"Authorization": f"Basic {_basic(settings)}"}


def _basic(settings: Settings) -> str:
    import base64

    pair = f"{settings.user}:{settings.password}"
    return base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")


def secrets(settings: Settings) -> list[str]:
    """All forms of the secrets that a server might repeat, and that must not be printed. The
    longest come first, so that none is masked in part."""
    found = [settings.password, settings.token, _basic(settings) if settings.user is not None else None]
    forms = {form for secret in found if secret for form in _forms(secret)}
    return sorted(forms, key=lambda form: (len(form), form), reverse=True)


def _forms(secret: str) -> set[str]:
    """A secret itself, and its forms in URLs, HTML forms, XML, HTML and JSON."""
    from json import dumps
    from urllib.parse import quote, quote_plus

    data = secret.encode("utf-8", "surrogateescape")
    # The server's bytes are decoded as UTF-8 in a body, and as Latin-1 in a reason.
    forms = {secret, data.decode("utf-8", "replace"), data.decode("latin-1")}
    urls = {quote_plus(data), quote_plus(data, safe="/"), quote(data), quote(data, safe="")}
    forms |= urls | {re.sub("%..", lambda match: match[0].lower(), url) for url in urls}
    for words in (dumps(secret)[1:-1], dumps(secret, ensure_ascii=False)[1:-1]):
        forms |= {words, words.replace("/", "\\/")}  # PHP escapes the slash
    for apostrophe, quotation in _QUOTES:
        words = secret.replace("&", "&amp;").replace("<", "&lt;")
        words = words.replace('"', quotation).replace("'", apostrophe)
        for each in (words, words.replace(">", "&gt;")):
            forms |= {each, each.encode("ascii", "xmlcharrefreplace").decode("ascii")}
    return forms
