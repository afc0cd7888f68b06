"""One check as it was asked for: mount table -> selection -> pass -> what is demanded. Shared by the one-shot and the daemon."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from check_mounts import demands, selection, stuck, survey, text
from check_mounts.delivery import Submission
from check_mounts.model import BadLine, Condition, Finding, Mount, StuckProbe, Survey
from check_mounts.policy import Policy
from check_mounts.selection import Selection
from check_mounts.survey import Pass, Table


@dataclasses.dataclass(frozen=True)
class Service:
    """What the daemon is to do beside checking. ``interval`` is in seconds; ``metrics`` None: no metrics are written."""

    interval: float
    foreground: bool
    cache: str
    metrics: Optional[str]
    facility: str
    ident: str


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line, understood. ``fstab`` is the file that some of the demands came from; ``per_mount``: a result for each mount."""

    filters: selection.Filters
    settings: survey.Settings
    policy: Policy
    demands: demands.Demands
    notes: Sequence[str]
    wrong: Sequence[BadLine]
    origins: Mapping[str, str]
    mountinfo: str
    state_dir: str
    verbosity: int
    perfdata: str
    max_output: int
    json: bool
    allow_none: bool
    fstab: Optional[str]
    service: Optional[Service]
    submission: Optional[Submission]
    per_mount: bool


def may_hang(path: str, mounts: Sequence[Mount], visible: frozenset[int]) -> Optional[str]:
    """Why a file or directory could hang whoever opens it: it lies on a network, FUSE or autofs mount. None where it does not.

    Decided on the text of the mount table.
    """
    normal = selection.normalised(os.fsencode(path))
    on_the_way = [mount for mount in mounts if mount.mount_id in visible and selection.leads_over(normal, mount.mount_point)]
    # Where the root directory hangs (a diskless host's) nothing runs any more, we included: what is in /run is no worse for that.
    if any(mount.mount_point != b"/" for mount in on_the_way):
        on_the_way = [mount for mount in on_the_way if mount.mount_point != b"/"]
    for mount in on_the_way:
        if selection.can_hang_on_the_way(mount) or mount.fs_type == b"autofs":
            return f"{text.printable(normal)} is on {text.printable(mount.fs_type)}, which may hang"
    return None


def begin(options: Options, table: Table, chosen: Selection, wake_fd: Optional[int] = None, lost: Sequence[StuckProbe] = ()) -> Pass:
    """Start a pass over what was chosen from the table. ``lost``: what earlier passes of this process have stuck.

    Raises OSError where this host lacks the means for a single worker.
    """
    why = may_hang(options.state_dir, table[0], chosen.visible)
    if why is None:
        registry = stuck.Registry(options.state_dir, slots=options.settings.max_workers, own=lost)
    else:  # it must not hang us
        registry = stuck.Registry(None, f"{why}; see --state-dir", own=lost)
    try:
        return Pass(table, chosen, options.settings, registry, wake_fd)
    except BaseException:
        registry.close(any_stuck=False)
        raise


def concluded(options: Options, result: Survey, mounted_now: Callable[[], Sequence[Mount]]) -> Survey:
    """The survey with what is demanded. ``mounted_now`` gives the mount table; it is asked only where something is declared."""
    # What a wrong line was to declare is not checked: that is no OK, and costs nothing of what was measured.
    wrong = [Finding(b"", None, Condition.UNPROBED, str(line), line=line) for line in options.wrong]
    result = dataclasses.replace(result, notes=(*options.notes, *result.notes), findings=(*result.findings, *wrong))
    return demands.held_against(result, mounted_now, options.filters, options.demands)
