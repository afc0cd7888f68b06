"""The parts of a check that a single run and the daemon share: its settings, the start of a pass,
the look-up of names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

from check_mounts import filesystems, mounttable, selection, text
from check_mounts.checks import demands
from check_mounts.model import BadLine, Mount, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.probing import asking, stuck
from check_mounts.probing.causes import Past
from check_mounts.probing.survey import Pass
from check_mounts.selection import Selection
from check_mounts.system import processes
from check_mounts.system.quarters import most_slots
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional, Protocol

if TYPE_CHECKING:
    from check_mounts.naming.leads import Found
    from check_mounts.roots import Root
    from check_mounts.spaces.reader import Reader

# In seconds: how long a link or a device may keep its worker, and how long the look-ups may take
# even if no time is left.
_PATIENCE, SHORTEST = 1.0, 0.3


class TableReader(Protocol):
    """Reads the mount table again and again."""

    def read(self) -> Table:
        """The table as it is now. Raises OSError."""

    def reread(self) -> Table:
        """The table as it is after the probes. Raises OSError."""


class Check(NamedTuple):
    """The settings of a check: which mounts it selects, how to probe them, what should be mounted.

    ``wrong`` are lines of declarations that make no sense; ``notes`` go to the report as they are.
    ``patterns`` are the paths that the patterns of mount points begin with; ``follow`` tells the
    patterns where these paths lead. ``holders``: also probe the mounts that the named ones hang
    from, so that it is known which of them hangs. ``spaces`` reads the mounts of other mount
    namespaces, too, and chooses among them; None without ``--namespaces``. ``root``: the place to
    look from, whose names and files count; None for that of this process."""

    filters: selection.Filters
    settings: asking.Settings
    demands: demands.Demands
    notes: Sequence[str]
    wrong: Sequence[BadLine]
    mountinfo: str
    state_dir: str
    patterns: Sequence[bytes]
    follow: Callable[[Callable[[bytes], bytes]], None]
    holders: bool = False
    spaces: Optional[Reader] = None
    root: Optional[Root] = None

    def reader(self) -> TableReader:
        """What reads the mount table. Raises OSError."""
        if self.root is not None:
            from check_mounts.checks import elsewhere  # most runs look from where they are

            return elsewhere.Reader(self.root)
        return mounttable.Reader(self.mountinfo) if self.spaces is None else self.spaces

    def select(self, mounts: Sequence[Mount], filters: selection.Filters) -> Selection:
        """The choice among the mounts of the table."""
        return (selection.select if self.spaces is None else self.spaces.select)(mounts, filters)


def own(check: Check, mounts: Sequence[Mount]) -> Sequence[Mount]:
    """The mounts that this process sees, where it keeps its own files; ``mounts`` are those that it
    checks. With --namespace these are others."""
    if check.root is None:
        return mounts
    try:
        return mounttable.read(mounttable.DEFAULT_PATH)[0]
    except OSError:  # what hangs is not known then; nearly nothing of ours could run either
        return ()


def procfs_of(check: Check) -> str:
    """The procfs that the stuck processes are remembered by."""
    return processes.OWN if check.root is None else check.root.procfs


def may_hang(path: str, mounts: Sequence[Mount], visible: frozenset[int]) -> Optional[str]:
    """Why a process that opens this file or directory may hang, in words; None if it cannot.

    It may hang on a network, FUSE or autofs mount.

    Only the text of the mount table decides."""
    normal = selection.normalised(os.fsencode(path))
    on_the_way = [
        mount for mount in mounts if mount.mount_id in visible and selection.leads_over(normal, mount.mount_point)
    ]
    # If the root directory of a diskless host hangs, nothing runs any more, including this process;
    # so the root directory is no reason against a file in /run.
    if any(mount.mount_point != b"/" for mount in on_the_way):
        on_the_way = [mount for mount in on_the_way if mount.mount_point != b"/"]
    for mount in on_the_way:
        if selection.can_hang_on_the_way(mount) or filesystems.is_trigger(mount):
            return f"{text.printable(normal)} is on {text.printable(mount.fs_type)}, which may hang"
    return None


def may_modules_hang(check: Check, mounts: Sequence[Mount]) -> bool:
    """Whether this process may hang if it loads a module now. ``mounts`` are those that it
    checks."""
    mounts = own(check, mounts)
    visible = frozenset(mounttable.visible(mounts))
    return any(may_hang(place, mounts, visible) is not None for place in sys.path)


def memory(
    check: Check, mounts: Sequence[Mount], visible: frozenset[int], slots: int, lost: Sequence[StuckProbe] = ()
) -> stuck.Registry:
    """Open the memory of stuck probes, with room for the workers of a pool. ``mounts``: those that
    are checked."""
    if check.root is not None:
        mounts = own(check, mounts)
        visible = frozenset(mounttable.visible(mounts))
    why = may_hang(check.state_dir, mounts, visible)
    if why is None:
        return stuck.Registry(check.state_dir, slots=slots, own=lost, procfs=procfs_of(check))
    return stuck.Registry(None, f"{why}; see --state-dir", own=lost)  # the directory must not make us hang


def seeks_ghosts(check: Check) -> bool:
    """Whether a check is about all of this host, and so about what no mount table shows."""
    filters = check.filters
    if check.root is None and check.mountinfo != mounttable.DEFAULT_PATH:  # another host's, or a copy
        return False
    if filters.mount_points or filters.include_paths or filters.include_sources:
        return False
    # With types that are local, it is not about what can be a ghost.
    if not filters.include_types:
        return True
    types = (*filesystems.FUSE, *[each for each in filesystems.all_types() if filesystems.traits(each).network])
    return any(glob.match(each) for glob in filters.include_types for each in types)


def remembered(check: Check, mounts: Sequence[Mount]) -> Sequence[StuckProbe]:
    """The stuck probes that are remembered."""
    registry = memory(check, mounts, frozenset(mounttable.visible(mounts)), 0)
    registry.close(any_stuck=False)  # it has no file of its own
    return registry.probes


def begin(
    check: Check,
    table: Table,
    chosen: Selection,
    wake_fd: Optional[int] = None,
    lost: Sequence[StuckProbe] = (),
    past: Optional[Past] = None,
) -> Pass:
    """Start a pass over the mounts that were chosen from the table.

    ``lost`` are the stuck probes of earlier passes of this process, ``past`` is what else they
    found.

    Raises OSError if the host cannot start even one worker."""
    registry = memory(check, table[0], chosen.visible, most_slots(check.settings.max_workers), lost)
    try:
        return Pass(
            table,
            chosen,
            check.settings,
            registry,
            wake_fd,
            check.mountinfo,
            past,
        )
    except BaseException:
        registry.close(any_stuck=False)
        raise


def look_up(
    check: Check,
    mounts: Sequence[Mount],
    result: Optional[Survey] = None,
    until: float = 0.0,
    interrupted: Callable[[], Optional[str]] = lambda: None,
) -> Optional[Found]:
    """Look up where names lead; None if nothing is named or declared.

    Without ``result``, these are the names that decide which mounts are probed. With it, which says
    which mounts have answered, these are all names.

    This may take until ``until`` (CLOCK_MONOTONIC), and always gets a moment. No mount can make it
    raise an exception."""
    names = (*check.filters.mount_points, *check.patterns)
    if not names and not check.demands.expected:
        return None
    # A run that names nothing does not pay for it.
    from check_mounts.naming import leads, lookups

    base = b"" if check.root is None else check.root.base
    links = bool(base) or leads.is_our_own(check.mountinfo)
    asked = leads.Asked(names, check.demands.expected, links, base)
    visible = frozenset(mounttable.visible(mounts))
    each = min(_PATIENCE, check.settings.timeout)
    patience = lookups.Patience(each, max(until, time.monotonic() + SHORTEST), interrupted)
    return leads.look_up(
        asked, mounts, visible, result, lambda: memory(check, mounts, visible, lookups.MOST_WORKERS), patience
    )


def with_leads(check: Check, found: Optional[Found]) -> Check:
    """The check with all names as the kernel spells them, if that is known."""
    if found is None:
        return check
    from check_mounts.naming import leads

    check.follow(lambda name: found.leads.of(name).path)
    expected = [leads.led(each, found) for each in check.demands.expected]
    points = {each.mount_point for each in expected}
    known = check.filters
    filters = known._replace(
        mount_points=[found.leads.of(name).path for name in known.mount_points],
        also=known.also | leads.on_the_way((*known.mount_points, *check.patterns), found, known),
        declared=lambda mount: mount.mount_point in points or known.declared(mount),
    )
    return check._replace(filters=filters, demands=check.demands._replace(expected=expected))
