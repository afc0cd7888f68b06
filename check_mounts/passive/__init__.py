"""Results for monitoring servers that do not ask for them (passive checks): one module for each
kind of destination.

Import budget of this file: ``dataclasses``, ``typing``; parts, progress. The table,
:mod:`check_mounts.passive.destinations`, loads a kind's module where that kind is asked for. The
module is small: heavy libraries (ssl, http.client, urllib) are loaded by ``deliver``, because a
fork costs less without them. Everything that can block is in ``deliver``, too, which runs in a
worker of its own that is killed when its time is up; nothing here may assume that it comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Optional, Protocol

from check_mounts.passive.progress import Progress
from check_mounts.report.parts import Report


class Undelivered(Exception):
    """A destination did not accept the results. The message says why, on one line fit for any
    output, without secrets."""


class Refused(Undelivered):
    """A destination was reached and has accepted some of the results, but not all. Another attempt
    would change nothing."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One result of one service.

    ``report`` is in parts: each destination fits it into a limit of its own (records.fitted).
    ``taken`` is when it was measured, in seconds since the epoch, ``ttl`` for how many seconds the
    server may take it for the present; None where the time of the next one is not known. ``source``
    is the name of the host that measured it."""

    host: str
    service: str
    report: Report
    taken: float
    ttl: Optional[float]
    source: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a destination in the configuration, ``[submit "DESTINATION"]``; None where it
    has none.

    ``ca``, ``certificate`` and ``key`` are files (PEM). ``client`` is the program send_nsca,
    ``client_config`` its configuration. repr() leaves secrets out."""

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
    """Where results go.

    ``confirms`` must be read after the delivery, in the process that made it: only then is it known
    which of two programs send_nsca is, and until then the answer is no."""

    @property
    def name(self) -> str:
        """The destination as the user writes it, fit for any output, without secrets."""
        ...

    @property
    def confirms(self) -> bool:
        """Whether results are known to have arrived once a delivery has succeeded."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """The files that it opens on this host, as absolute paths. While one of them is on a mount
        that was found to hang, nobody calls ``deliver`` (submitting.held_up)."""
        ...

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """Hand over the results, or as many as possible, until that time (CLOCK_MONOTONIC). Raises
        Undelivered.

        It runs in a process of its own and may block: a little later that process is killed, and
        ``progress`` says what it waited for.

        A result that the server refuses (no such service) does not keep it from handing over the
        others."""
        ...


def named(*paths: Optional[str]) -> tuple[str, ...]:
    """The paths without None."""
    return tuple(path for path in paths if path is not None)
