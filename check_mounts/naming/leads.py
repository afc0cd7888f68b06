"""The look-ups of one check, where its names lead and which devices are the same: workers answer
the questions, and this module draws the conclusions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from check_mounts import filesystems, meaning, selection, text
from check_mounts.clocks import boottime
from check_mounts.model import Condition, ExpectedMount, Finding, Mount, MountIdentity, Survey
from check_mounts.naming import lookups
from check_mounts.naming.names import Ground, Lead, Leads, Stopped
from check_mounts.probing.stuck import Registry
from check_mounts.selection import Filters
from check_mounts.typed import NOTHING, TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.naming.devices import Compared

_OUR_OWN = re.compile(r"/proc/(self|thread-self|[0-9]+)/mountinfo\Z")


def is_our_own(mountinfo: str) -> bool:
    """Whether the mount table is that of this process. Links that we read say nothing about the
    table of another process, or about a copy."""
    match = _OUR_OWN.match(mountinfo)
    return match is not None and match[1] in ("self", "thread-self", str(os.getpid()))


class Asked(NamedTuple):
    """The names to look up: those that decide which mounts are probed, and those in declarations.
    ``links``: whether links may be read at all. ``base``: the root directory that they begin at,
    through procfs; empty for our own."""

    names: Sequence[bytes]
    declared: Sequence[ExpectedMount]
    links: bool
    base: bytes = b""


class Found(NamedTuple):
    """The results of the look-ups; empty where nothing was looked up.

    ``devices`` says which declared devices are the mounted ones. ``conditions`` has the condition
    of each mount at the time of the look-ups. ``left`` are the pids of the children that still
    exist although they got SIGKILL."""

    leads: Leads = Leads()
    devices: Optional[Compared] = None
    conditions: Mapping[MountIdentity, Condition] = NOTHING
    left: Sequence[int] = ()


def look_up(
    asked: Asked,
    mounts: Sequence[Mount],
    visible: frozenset[int],
    result: Optional[Survey],
    memory: Callable[[], Registry],
    patience: lookups.Patience,
) -> Found:
    """See :func:`checking.look_up`. ``memory`` opens the memory of stuck probes."""
    findings = () if result is None else result.findings
    conditions = {each.mount.identity: each.condition for each in findings if each.mount is not None}
    ground = Ground(mounts, visible, closed(mounts, conditions), asked.base)
    wanted = list(asked.names) + [each.name or each.mount_point for each in asked.declared]
    if result is not None:
        wanted += [source for source in map(_bound_from, asked.declared) if source is not None]
    known: dict[bytes, Lead] = {}
    unread: list[bytes] = []
    for name in dict.fromkeys(wanted) if asked.links else ():
        by_text = lookups.by_text(name, ground)
        if by_text is None:
            unread.append(name)
        else:
            known[name] = by_text
    questions = [lookups.leading(name, ground) for name in unread]
    pairs = _pairs(asked, mounts, known) if asked.declared and result is not None else []
    questions += [_comparing(source, mount, ground) for source, mount in pairs]
    answers, left = ask(questions, ground, memory, patience)
    known.update({name: lookups.understood(name, answer, ground) for name, answer in zip(unread, answers)})
    return Found(Leads(known), _same(pairs, answers[len(unread) :]), conditions, left)


def closed(mounts: Iterable[Mount], conditions: Mapping[MountIdentity, Condition]) -> set[int]:
    """The IDs of the mounts that no look-up may enter: they have failed, or they may hang and have
    not answered, or a look-up would keep them from expiring."""
    triggers = {mount.mount_id for mount in mounts if filesystems.expires_after(mount)}

    def is_closed(mount: Mount) -> bool:
        condition = conditions.get(mount.identity)
        if condition is None:
            return mount.parent_id in triggers or selection.can_hang_on_the_way(mount)
        return not meaning.of(condition).passable

    return {mount.mount_id for mount in mounts if is_closed(mount)}


def _pairs(asked: Asked, mounts: Sequence[Mount], known: dict[bytes, Lead]) -> list[tuple[bytes, Mount]]:
    """The declared devices, each with a mount in its place."""
    # Imported late, here and below: a run that declares nothing does not load this module.
    from check_mounts.naming.devices import to_be_compared

    found = Found(Leads(known))
    return to_be_compared([led(each, found) for each in asked.declared], mounts)


def _comparing(source: bytes, mount: Mount, ground: Ground) -> lookups.Question:
    from check_mounts.naming.devices import Devices  # before the fork: the worker might hang while it loads this

    if not ground.base:
        return lambda enter: Devices().same(source, mount)

    def question(enter: lookups.Enter) -> Optional[bool]:
        try:
            root = lookups.open_root(ground, enter)
        except (OSError, Stopped):
            return None
        try:
            return Devices(root=root).same(source, mount)
        finally:
            os.close(root)

    return question


def _same(pairs: Sequence[tuple[bytes, Mount]], answers: Sequence[object]) -> Optional[Compared]:
    if not pairs:
        return None
    from check_mounts.naming.devices import Compared

    same = {(source, mount.identity): answer for (source, mount), answer in zip(pairs, answers)}
    return Compared({key: answer for key, answer in same.items() if isinstance(answer, bool)})


def ask(
    questions: Sequence[lookups.Question],
    ground: Ground,
    memory: Callable[[], Registry],
    patience: lookups.Patience,
) -> tuple[list[object], list[int]]:
    """The answers of workers, see :func:`lookups.ask_all`; no mount is entered that a probe of
    another run is stuck in. ``memory`` opens the memory of stuck probes."""
    if not questions:
        return [], []
    registry = memory()
    left: list[int] = []
    try:
        # A probe that another run began a moment ago does not count as stuck: it will soon have
        # its answer.
        latest = boottime() - patience.each
        stuck = {probe.device for probe in registry.probes if probe.since < latest and not probe.writing}
        ground.closed |= {mount.mount_id for mount in ground.by_id.values() if mount.device in stuck}
        answers, left = lookups.ask_all(questions, ground, registry, patience)
    finally:
        registry.close(any_stuck=bool(left))
    return answers, left


# Conclusions
# ------------------------------------------------------------------------------------------------


def led(each: ExpectedMount, found: Found) -> ExpectedMount:
    """A declaration with the kernel's paths for its mount point and, for a bind mount, for the
    directory that it shows."""
    name = each.name or each.mount_point
    lead = found.leads.of(name)
    doubt = None if lead.is_settled else _doubt(lead, found)
    each = each._replace(mount_point=lead.path, origin=each.origin + _alias("declared as", name, lead), doubt=doubt)
    directory = _bound_from(each)
    if directory is None:
        return each
    source = found.leads.of(directory)
    # If we do not know where the source leads, we compare nothing with it.
    return each._replace(source=source.path if source.is_settled else b"none")


def _bound_from(each: ExpectedMount) -> Optional[bytes]:
    """The directory that a declared bind mount shows; None for other declarations."""
    return each.source if each.source is not None and each.source.startswith(b"/") and each.is_bind else None


def _alias(how: str, name: bytes, lead: Lead) -> str:
    """The name that people use, if it differs from the kernel's: ``, declared as /home``; else
    empty."""
    if lead.is_settled and lead.errno:
        return (
            f", {how} {text.printable(name)}, {lead.why}"
            if lead.path != selection.normalised(name)
            else f", {lead.why}"
        )
    return "" if lead.path == selection.normalised(name) else f", {how} {text.printable(name)}"


def _doubt(lead: Lead, found: Found) -> tuple[Condition, str]:
    """The condition and the words for a name that leads to an unknown place."""
    if lead.stopped is None:
        return Condition.UNPROBED, f"a link on its path cannot be read: {lead.why}"
    point = text.printable(lead.stopped.mount_point)
    condition = found.conditions.get(lead.stopped.identity)
    if condition is not None and meaning.of(condition).spreads:
        how = "timed out" if condition is Condition.TIMED_OUT else f"is {condition.words}"
        return Condition.BLOCKED, f"below {point}, which {how}"
    if condition is None:
        return Condition.UNPROBED, f"below {point}, which is not checked"
    if condition is Condition.IDLE:
        return Condition.UNPROBED, f"below {point}, which is idle: links in it are not read (see --automounted)"
    return Condition.UNPROBED, f"a link on its path cannot be read: {point} does not answer"


def on_the_way(asked: Iterable[bytes], found: Found, filters: Filters) -> frozenset[int]:
    """The IDs of the mounts that must answer before we know where these names lead, without those
    that the filters forbid to ask."""
    leads = [found.leads.of(name) for name in asked if name]
    crossed = [mount for lead in leads for mount in lead.through if selection.can_hang_on_the_way(mount)]
    # It may be a local filesystem that an automounter unmounts.
    crossed += [lead.stopped for lead in leads if lead.stopped is not None and _answers(lead.stopped)]
    return frozenset(mount.mount_id for mount in crossed if selection.may_enter(mount, filters))


def _answers(mount: Mount) -> bool:
    """Whether the mount can be asked: it is neither a trigger nor the kernel's own."""
    known = filesystems.traits(mount.fs_type)
    return not (known.trigger or known.pseudo)


def named(result: Survey, points: Iterable[bytes], found: Found) -> Survey:
    """The same survey, but each finding mentions the name of its mount point on the command line if
    that differs from the path."""
    by_path = {found.leads.of(name).path: name for name in points}
    return result._replace(findings=tuple([_named(each, by_path, found) for each in result.findings]))


def _named(finding: Finding, by_path: dict[bytes, bytes], found: Found) -> Finding:
    name = by_path.get(finding.mount_point)
    if name is None or finding.condition is Condition.OK:
        return finding
    lead = found.leads.of(name)
    if finding.condition is Condition.MISSING and not lead.is_settled:
        condition, detail = _doubt(lead, found)
        finding = finding._replace(condition=condition, detail=detail)
    alias = _alias("named as", name, lead)
    return finding._replace(detail=f"{finding.detail} ({alias[2:]})") if alias else finding
