"""Passive checks: results that are sent to monitoring servers, which do not ask for them. Each kind
of destination has a module.

Import budget of this file: parts, progress. The table,
:mod:`check_mounts.passive.destinations`, loads the module of a kind once that kind is asked for.
The module is small: ``deliver`` loads heavy libraries (ssl, http.client, urllib), because a fork
costs less without them. Everything that can block is in ``deliver``, too. It runs in a worker of
its own, which is killed when its time is up. Nothing here may assume that it returns."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts.passive.progress import Progress
from check_mounts.report.parts import Report
from check_mounts.typed import NamedTuple, Optional, Protocol


class Undelivered(Exception):
    """A destination did not accept the results. The message says why, on one line that is fit for
    any output and holds no secrets.

    ``refused``: the positions of results that the server has refused for a reason of their own, so
    that it would refuse them again."""

    def __init__(self, why: str, refused: Sequence[int] = ()) -> None:
        super().__init__(why)
        self.refused = refused


class Refused(Undelivered):
    """A destination was reached and has accepted some of the results, but not all. Another attempt
    would change nothing."""


class Result(NamedTuple):
    """One result of one service.

    ``report`` is in parts: each destination fits it into a limit of its own (records.fitted).
    ``taken`` is when it was measured, in seconds since the epoch. ``ttl`` is the number of seconds
    for which the server may take it as current; None if the time of the next result is not known.
    ``source`` is the name of the host that measured it."""

    host: str
    service: str
    report: Report
    taken: float
    ttl: Optional[float]
    source: str


class Settings(NamedTuple):
    """The settings of a destination in the configuration, ``[submit "DESTINATION"]``; each is None
    unless it is given.

    ``ca``, ``certificate`` and ``key`` are files (PEM). ``client`` is the program send_nsca,
    ``client_config`` is its configuration. repr() omits secrets."""

    user: Optional[str] = None
    password: Optional[str] = None
    token: Optional[str] = None
    ca: Optional[str] = None
    certificate: Optional[str] = None
    key: Optional[str] = None
    verify: Optional[bool] = None
    client: Optional[str] = None
    client_config: Optional[str] = None

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self._asdict().items() if name not in ("password", "token")]
        return f"Settings({', '.join(shown)})"


class Destination(Protocol):
    """Where results go.

    ``confirms`` must be read after the delivery, in the process that made it: only the delivery
    finds out which of two programs send_nsca is, and until then the answer is no."""

    @property
    def name(self) -> str:
        """The destination as the user writes it: fit for any output, and without secrets."""
        ...

    @property
    def confirms(self) -> bool:
        """Whether a delivery that succeeded proves that the results have arrived."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """The files that it opens on this host, as absolute paths. While one of them is on a mount
        that was found to hang, nobody calls ``deliver`` (submitting.held_up)."""
        ...

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """Hand over the results, or as many as possible, before ``until`` (CLOCK_MONOTONIC). Raises
        Undelivered.

        This runs in a process of its own and may block: a little after ``until`` that process is
        killed, and ``progress`` says what it waited for.

        If the server refuses a result (no such service), the others are handed over nevertheless.
        """
        ...


def named(*paths: Optional[str]) -> tuple[str, ...]:
    """The paths that are not None."""
    return tuple(path for path in paths if path is not None)
