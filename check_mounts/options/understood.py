"""The options after parsing: the settings of a check, and where its result goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Optional

from check_mounts.checks.checking import Check
from check_mounts.judging.policy import Policy
from check_mounts.options.refusals import Origin
from check_mounts.report.presenting import Output

if TYPE_CHECKING:
    from check_mounts.passive.delivery import Submission


class Service(NamedTuple):
    """The work of the daemon beside checking.

    ``interval`` is in seconds. Without ``metrics``, the daemon writes no metrics."""

    interval: float
    foreground: bool
    cache: str
    metrics: Optional[str]
    facility: str
    ident: str


@dataclasses.dataclass(frozen=True)
class Options(Check):
    """The options of the command line and the files.

    ``fstab`` is the file that some of the demands come from. ``origins``: the name of an option ->
    the line that gave it. ``debug``: print or log the tracebacks of defects."""

    policy: Policy
    allow_none: bool
    output: Output
    fstab: Optional[str]
    origins: Mapping[str, Origin]
    service: Optional[Service]
    submission: Optional[Submission]
    debug: bool
