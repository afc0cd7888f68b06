"""Who waits for the mounts that have failed: for ``-v`` one line at each of them, for ``--explain``
all of it. One look at the processes serves all mounts, and it has little time.

This is loaded only once a mount has failed, or with its option. The verdict is noted by then, and
the look is taken by workers that can be given up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence

from check_mounts import meaning
from check_mounts.judging.judgements import notable
from check_mounts.judging.policy import Judged
from check_mounts.model import Finding, Mount, Survey
from check_mounts.system import reading
from check_mounts.typed import NamedTuple
from check_mounts.using import grouping, look
from check_mounts.using.model import Device, How, Process, Users, Wanted

# How long a look for -v may take, and less is not worth a look; in seconds.
_LONGEST, _SHORTEST = 3.0, 0.2
# More processes than this are only counted.
_LISTED = 8


def with_waiting(judged: Judged, mounts: Sequence[Mount], until: float) -> Survey:
    """The survey, in which each failed mount has a line about the processes that wait for it, until
    a time (CLOCK_MONOTONIC)."""
    survey = judged.survey
    failed = [each.finding for each in notable(judged.judgements) if each.finding.condition in meaning.FAILED]
    devices = frozenset(each.mount.device for each in failed if each.mount is not None)
    seconds = min(_LONGEST, until - time.monotonic())
    if not devices or seconds < _SHORTEST or survey.interrupted is not None:
        return survey
    reading.step("looking for the processes that wait")
    users = grouping.without(look.take(Wanted(_of(mounts, devices), devices), seconds), pids_of(failed))
    findings = tuple([_with_line(each, users, len(devices) == 1) for each in survey.findings])
    return survey._replace(findings=findings, notes=(*survey.notes, *_notes(users, len(devices))))


def _with_line(finding: Finding, users: Users, alone: bool) -> Finding:
    if finding.mount is None or finding.condition not in meaning.FAILED:
        return finding
    own = users.of(finding.mount.device)
    # If several mounts hang, those that may wait for any of them are counted together.
    words = grouping.waiting_words(own if alone else own._replace(probable=()))
    if not words and not users.is_whole and not users.probable:
        words = f"{grouping.NONE_SEEN} that waits"
    return finding._replace(remarks=(*finding.remarks, words)) if words else finding


def _notes(users: Users, count: int) -> Iterator[str]:
    if users.probable and count > 1:
        yield f"{grouping.waiting_words(users._replace(processes=()))}, each for one of the mounts that failed"
    if users.incomplete:
        yield f"not all who wait may be known: {'; '.join(users.incomplete)}"


def pids_of(findings: Iterable[Finding]) -> frozenset[int]:
    """Our own workers that are stuck in mounts."""
    return frozenset(each.stuck_pid for each in findings if each.stuck_pid is not None)


def _of(mounts: Sequence[Mount], devices: frozenset[Device]) -> tuple[Mount, ...]:
    return tuple(mount for mount in mounts if mount.device in devices)


# -- for --explain


class Use(NamedTuple):
    """``lines`` say who uses a mount. ``waiting`` and ``holding`` are the services that a systemctl
    can restart, those whose processes wait first."""

    lines: tuple[str, ...]
    waiting: tuple[bytes, ...] = ()
    holding: tuple[bytes, ...] = ()


def use_of(mount: Mount, mounts: Sequence[Mount], hung: frozenset[Device], ours: frozenset[int], seconds: float) -> Use:
    """Who uses a mount. ``hung`` are the devices of all mounts that are known to hang, ``ours`` the
    processes that do not count."""
    wanted = Wanted(_of(mounts, hung | {mount.device}), hung)
    users = grouping.without(look.take(wanted, seconds), ours).of(mount.device)
    waiting = [each for each in (*users.processes, *users.probable) if each.how.hangs]
    lines = [*_waiting(mount, users, waiting, hung), *_holding(users)]
    lines += [f"note: {words}" for words in users.incomplete]
    return Use(tuple(lines), services(waiting), services(each for each in users.processes if not each.how.hangs))


def _waiting(mount: Mount, users: Users, waiting: Sequence[Process], hung: frozenset[Device]) -> Iterator[str]:
    words = grouping.waiting_words(users)
    if not words and mount.device in hung:
        yield "no process waits for it, as far as can be seen" if users.is_whole else f"{grouping.NONE_SEEN} that waits"
    elif words:
        yield words
    for each in sorted(waiting, key=lambda each: each.how is not How.WAITS)[:_LISTED]:
        yield f"  {grouping.line(each)}"
    if len(waiting) > _LISTED:
        yield f"  and {len(waiting) - _LISTED} more"
    if users.probable and len(hung) > 1:
        yield "note: those who probably wait may wait for another mount that hangs"


def _holding(users: Users) -> Iterator[str]:
    words = grouping.holding_words(users)
    nobody = "nobody has a file of it open or stands in it, as far as can be seen"
    if not users.is_whole:
        nobody = f"{grouping.NONE_SEEN} that has a file of it open or stands in it"
    yield from words.split("; ") if words else [nobody]


# Names of services of the system's own manager, without escapes. The first users of a host have the
# ID 1000 (SYS_UID_MAX in login.defs): a service of theirs may have the name of one of the system's.
# From 61184 on, systemd gives IDs to services (DynamicUser= in systemd.exec(5)).
_SERVICE = re.compile(r"[A-Za-z0-9_.:@][A-Za-z0-9_.:@-]*\.service")
_USERS = range(1000, 61184)


def services(processes: Iterable[Process]) -> tuple[bytes, ...]:
    """The services of the system that processes belong to, as far as they are certain."""
    found = [
        each.unit.encode("ascii")
        for each in processes
        if each.uid not in _USERS and _SERVICE.fullmatch(each.unit) and not each.unit.startswith("user@")
    ]
    return tuple(dict.fromkeys(found))
