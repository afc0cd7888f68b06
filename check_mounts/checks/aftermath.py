"""What this host can still say about mounts that have failed: the kernel's log, systemd's units,
and what lies in the place of a missing mount.

Loaded only if a mount has failed. Workers ask; nothing here is waited for longer than
:class:`Patience` allows, and a question without an answer adds nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from check_mounts import filesystems, mounttable, text
from check_mounts.checks import checking, conclude, kernellog, unitstates
from check_mounts.checks.checking import Check
from check_mounts.clocks import Epoch, epoch
from check_mounts.model import Condition, Finding, Mount, Survey
from check_mounts.naming import leads, lookups
from check_mounts.naming.lookups import Enter, Patience, Question
from check_mounts.naming.names import Ground, Stopped
from check_mounts.probing.storage import Storage
from check_mounts.system import processes, walk
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.probing.stuck import Registry

# How many missing mounts are asked about: their units, and their places.
_MOST_UNITS, _MOST_PLACES = 64, 16
# How many entries of a directory are counted.
_MOST_ENTRIES = 1000
_LONGEST_MESSAGE = 200
_Key = tuple[bytes, Condition]


class Aftermath:
    """The remarks about failed mounts, by mount point and condition, as they were last asked
    for."""

    def __init__(self) -> None:
        self._remarks: dict[_Key, list[str]] = {}
        self._left: list[int] = []

    def ask(self, check: Check, survey: Survey, mounts: Sequence[Mount], patience: Patience) -> None:
        """Ask about all mounts of the survey that have failed. ``mounts``: the mount table."""
        self._remarks = {}
        failed = [finding for finding in survey.findings if conclude.has_failed(finding)]
        if not failed or not check.settings.diagnosis or not leads.is_our_own(check.mountinfo):
            return
        inquest = _Inquest(check, survey, failed, mounts)
        answers, left = inquest.ask(patience)
        self._left = processes.reap_ended([*self._left, *left])
        for key, words in answers:
            self._remarks.setdefault(key, []).append(words)

    def told(self, survey: Survey) -> Survey:
        """The survey with the remarks."""
        if not self._remarks:
            return survey
        return survey._replace(findings=tuple([self._told(finding) for finding in survey.findings]))

    def _told(self, finding: Finding) -> Finding:
        more = self._remarks.get((finding.mount_point, finding.condition)) if conclude.has_failed(finding) else None
        return finding if more is None else finding._replace(remarks=(*finding.remarks, *more))


class _Inquest:
    """The questions of one check, and what their answers mean."""

    def __init__(self, check: Check, survey: Survey, failed: Sequence[Finding], mounts: Sequence[Mount]) -> None:
        self._check, self._failed, self._mounts = check, failed, mounts
        visible = frozenset(mounttable.visible(mounts))
        conditions = {each.mount.identity: each.condition for each in survey.findings if each.mount is not None}
        self._ground = Ground(mounts, visible, leads.closed(mounts, conditions))
        self._visible = visible
        self._storage = Storage(mounts)
        self._missing = [each for each in failed if each.condition is Condition.MISSING]
        self._declared = {each.mount_point: each for each in check.demands.expected}

    def ask(self, patience: Patience) -> tuple[list[tuple[_Key, str]], list[int]]:
        """(key, words) for each answer, and the pids of workers that SIGKILL did not end."""
        subjects = {id(each): self._subjects(each) for each in self._failed}
        patterns = {key: some for found in subjects.values() for key, some in found.items()}
        units = {unit: each for each in self._missing[:_MOST_UNITS] if (unit := unitstates.unit_of(each.mount_point))}
        places = [(each, holder) for each in self._missing[:_MOST_PLACES] if (holder := self._holder(each)) is not None]
        questions: list[Question] = [
            lambda enter: _quietly(lambda: kernellog.newest(patterns)),
            lambda enter: _quietly(lambda: unitstates.ask(list(units), patience.each * 0.8) if units else {}),
            *[_counting(each.mount_point, holder) for each, holder in places],
        ]
        answers, left = leads.ask(questions, self._ground, self._memory, patience)
        said = [*self._by_log(answers[0], subjects), *self._by_units(answers[1], units)]
        return said + self._by_places(places, answers[2:]), left

    def _memory(self) -> Registry:
        return checking.memory(self._check, self._mounts, self._visible, lookups.MOST_WORKERS)

    def _subjects(self, finding: Finding) -> dict[str, list[bytes]]:
        """What the kernel may speak of, if it speaks of this mount, and the patterns for that."""
        mount = finding.mount or self._as_declared(finding.mount_point)
        if mount is None:
            return {}
        servers = [each.strip(b"[]") for each in (*filesystems.servers(mount), mount.super_option(b"addr") or b"")]
        found = {f"server {os.fsdecode(each)}": [kernellog.about_server(each)] for each in servers if each}
        devices = self._storage.of(mount) if finding.mount is not None else _devices(mount)
        found.update({f"device {name}": [kernellog.about_device(os.fsencode(name))] for name in devices})
        return found

    def _as_declared(self, mount_point: bytes) -> Optional[Mount]:
        each = self._declared.get(mount_point)
        if each is None or each.source is None:
            return None
        return Mount(0, 0, (0, 0), b"/", mount_point, (), (), each.fs_type or b"", each.source, ())

    def _by_log(self, answer: object, subjects: dict[int, dict[str, list[bytes]]]) -> Iterable[tuple[_Key, str]]:
        messages = answer if isinstance(answer, dict) else {}
        for finding in self._failed:
            found = [messages[key] for key in subjects[id(finding)] if key in messages]
            if found:
                yield (finding.mount_point, finding.condition), _message_words(*max(found))

    def _by_units(self, answer: object, units: dict[str, Finding]) -> Iterable[tuple[_Key, str]]:
        for unit, words in answer.items() if isinstance(answer, dict) else ():
            if unit in units:
                yield (units[unit].mount_point, Condition.MISSING), words

    def _by_places(self, places: Sequence[tuple[Finding, Mount]], answers: Sequence[object]) -> list[tuple[_Key, str]]:
        counts = [(each.mount_point, count) for (each, _), count in zip(places, answers) if isinstance(count, int)]
        return [((point, Condition.MISSING), _entries_words(count)) for point, count in counts if count]

    def _holder(self, finding: Finding) -> Optional[Mount]:
        """The mount that has the directory of a missing mount, if all mounts on its path may be
        entered; None also if something is mounted there."""
        above = self._ground.way(finding.mount_point.strip(b"/").split(b"/"))
        holder = above[-1]
        may_enter = not any(mount.mount_id in self._ground.closed for mount in above)
        if not may_enter or holder.mount_point == finding.mount_point or filesystems.is_trigger(holder):
            return None
        return holder


def _quietly(action: Callable[[], object]) -> object:
    """In a worker: what ``action`` returns; None if the host refuses it."""
    try:
        return action()
    except OSError:
        return None


def _counting(mount_point: bytes, holder: Mount) -> Question:
    """The question how many entries lie in the place of a missing mount."""

    def question(enter: Enter) -> Optional[int]:
        try:
            enter(holder)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
            fd = walk.open_without_symlinks(mount_point, flags)
        except (OSError, Stopped):
            return None
        try:
            if walk.mount_id(fd) != holder.mount_id:  # it was mounted meanwhile
                return None
            count = 0
            with os.scandir(fd) as entries:
                for _ in entries:
                    count += 1
                    if count > _MOST_ENTRIES:
                        break
            return count
        except OSError:
            return None
        finally:
            os.close(fd)

    return question


def _devices(declared: Mount) -> list[str]:
    """The kernel's name of a declared device that has one."""
    source = declared.source
    name = os.fsdecode(source[len(b"/dev/") :]) if source.startswith(b"/dev/") else ""
    return [name] if name and "/" not in name else []


def _entries_words(count: int) -> str:
    if count > _MOST_ENTRIES:
        return f"more than {_MOST_ENTRIES} entries lie in its place"
    return "1 entry lies in its place" if count == 1 else f"{count} entries lie in its place"


def _message_words(microseconds: int, message: bytes) -> str:
    """The kernel's clock stands still while the host is suspended, so after that the time is too
    early."""
    when = text.moment_of(Epoch(epoch() - (time.monotonic() - microseconds / 1e6)))
    said = text.clipped(text.printable(message), _LONGEST_MESSAGE)
    return f"kernel, {when}: {said}"
