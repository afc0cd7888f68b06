"""The options, understood: a check, and what becomes of its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from check_mounts.checks.checking import Check
from check_mounts.judging.policy import Policy
from check_mounts.options.refusals import Origin
from check_mounts.report.presenting import Output

if TYPE_CHECKING:
    from check_mounts.passive.delivery import Submission


@dataclasses.dataclass(frozen=True)
class Service:
    """The work of the daemon beside checking. ``interval`` is in seconds; ``metrics`` None: no
    metrics are written."""

    interval: float
    foreground: bool
    cache: str
    metrics: Optional[str]
    facility: str
    ident: str


@dataclasses.dataclass(frozen=True)
class Options(Check):
    """The command line and the files, understood. ``fstab`` is the file that some of the demands
    come from. ``origins`` has the lines that gave options, by the names of these. ``debug``: the
    tracebacks of defects are printed, or logged."""

    policy: Policy
    allow_none: bool
    output: Output
    fstab: Optional[str]
    origins: Mapping[str, Origin]
    service: Optional[Service]
    submission: Optional[Submission]
    debug: bool
