"""What was asked for, understood: a check, and what is done with its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from check_mounts.checking import Check
from check_mounts.policy import Policy
from check_mounts.presenting import Output
from check_mounts.refusals import Origin

if TYPE_CHECKING:
    from check_mounts.delivery import Submission


@dataclasses.dataclass(frozen=True)
class Service:
    """What the daemon does beside checking. ``interval`` is in seconds; ``metrics`` None: no
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
    came from. ``origins`` are the lines that gave options, by their names. ``debug``: where a
    defect was met is told."""

    policy: Policy
    allow_none: bool
    output: Output
    fstab: Optional[str]
    origins: Mapping[str, Origin]
    service: Optional[Service]
    submission: Optional[Submission]
    debug: bool
