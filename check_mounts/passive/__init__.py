"""Hand results to a monitoring server that does not ask for them (passive checks): one module for
each kind of destination.

Import budget of this file: ``dataclasses``, ``typing``. A kind's module is loaded by
:func:`destination` where somebody asks for that kind, and is small; what is heavy (ssl,
http.client, urllib) is loaded by ``deliver``, because a fork costs less without it. Everything that
can block is in ``deliver``, too, which runs in a worker of its own that is killed when its time is
up; nothing here may assume that it comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Optional, Protocol

from check_mounts import text
from check_mounts.parts import Report

# How a destination is written, for messages and help.
KINDS = ("command-file:PATH", "nsca:HOST[:PORT]", "icinga2:https://HOST:PORT", "nrdp:URL")


class Undelivered(Exception):
    """A destination did not take what it was given; the message says why, on one line fit for any
    output, without secrets."""


class Refused(Undelivered):
    """A destination was reached and has taken some of the results, but not all: to give it the same
    again would change nothing."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One result of one service.

    ``report`` is in parts: each destination fits it into a limit of its own. ``taken`` is when it
    was measured, in seconds since the epoch, ``ttl`` for how many seconds the server may take it
    for the present; None where the time of the next one is not known. ``source`` is the name of the
    host that measured it."""

    host: str
    service: str
    report: Report
    taken: float
    ttl: Optional[float]
    source: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the configuration says about a destination in ``[submit "DESTINATION"]``; None where it
    says nothing.

    ``ca``, ``certificate`` and ``key`` are files (PEM). ``client`` is the program send_nsca,
    ``client_config`` its configuration. Secrets are not in its repr()."""

    user: Optional[str] = None
    password: Optional[str] = dataclasses.field(default=None, repr=False)
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    ca: Optional[str] = None
    certificate: Optional[str] = None
    key: Optional[str] = None
    verify: Optional[bool] = None
    client: Optional[str] = None
    client_config: Optional[str] = None


class Destination(Protocol):
    """Where results go. ``name`` is fit for any output.

    ``confirms``: a delivery that succeeds is known to have arrived. It is to be read after the
    delivery, in the process that made it: which of two programs send_nsca is cannot be seen before,
    and until then the answer is no."""

    @property
    def name(self) -> str:
        """How the destination is written, fit for any output, without secrets."""
        ...

    @property
    def confirms(self) -> bool:
        """Is a delivery that succeeded known to have arrived?"""
        ...

    @property
    def files(self) -> Sequence[str]:
        """What it opens on this host, as absolute paths."""
        ...

    def deliver(self, results: Sequence[Result], until: float) -> None:
        """Hand over the results, all of them or as far as it goes, until that time
        (CLOCK_MONOTONIC). Raises Undelivered.

        One that is refused for itself (no such service) does not keep the others from being handed
        over. Runs in a process of its own."""
        ...


def named(*paths: Optional[str]) -> tuple[str, ...]:
    """Those that are."""
    return tuple(path for path in paths if path is not None)


def destination(word: str, settings: Settings) -> Destination:
    """``command-file:PATH``, ``nsca:HOST[:PORT]``, ``icinga2:https://HOST:PORT``, ``nrdp:URL`` ->
    where that is.

    Looks nothing up. Raises ValueError, with words fit for any output and without secrets, for what
    makes no sense."""
    kind, colon, rest = word.partition(":")
    if kind == "command-file" and colon:
        from check_mounts.passive import command_file

        _refuse_others(kind, settings, command_file.SETTINGS)
        return command_file.destination(rest)
    if kind == "nsca" and colon:
        from check_mounts.passive import nsca

        _refuse_others(kind, settings, nsca.SETTINGS)
        return nsca.destination(rest, settings)
    if kind == "icinga2" and colon:
        from check_mounts.passive import icinga2

        _refuse_others(kind, settings, icinga2.SETTINGS)
        return icinga2.destination(rest, settings)
    if kind == "nrdp" and colon:
        from check_mounts.passive import nrdp

        _refuse_others(kind, settings, nrdp.SETTINGS)
        return nrdp.destination(rest, settings)
    # What follows the first colon may hold a password.
    shown = text.clipped(text.printable_argument(kind), 60) + (":..." if colon else "")
    raise ValueError(f"'{shown}' is no destination; there are {', '.join(KINDS)}")


def _refuse_others(kind: str, settings: Settings, allowed: frozenset[str]) -> None:
    """Raises ValueError for a setting that does not fit the kind: whoever wrote it expects
    something of it."""
    for field in dataclasses.fields(settings):
        if getattr(settings, field.name) is not None and field.name not in allowed:
            fitting = ", ".join(key_of(name) for name in sorted(allowed)) or "none"
            raise ValueError(f"{kind}: '{key_of(field.name)}' does not fit; settings that do: {fitting}")


def key_of(field: str) -> str:
    """How the configuration spells a field of Settings."""
    return field.replace("_", "-")
