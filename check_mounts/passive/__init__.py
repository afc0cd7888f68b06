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

from check_mounts.parts import Report
from check_mounts.passive.progress import Progress


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

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """Hand over the results, all of them or as far as it goes, until that time
        (CLOCK_MONOTONIC). Raises Undelivered.

        It may block: a little later its process is killed. What it waited for is then said by
        ``progress``.

        One that is refused for itself (no such service) does not keep the others from being handed
        over. Runs in a process of its own."""
        ...


def named(*paths: Optional[str]) -> tuple[str, ...]:
    """Those that are."""
    return tuple(path for path in paths if path is not None)
