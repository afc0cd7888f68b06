"""What is news about mounts, and those who are told: the log and the file of the incidents."""

from __future__ import annotations

import syslog
from collections.abc import Iterable, Sequence

from check_mounts import filesystems, text
from check_mounts.clocks import boottime
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.daemon.episodes import Episodes, News
from check_mounts.daemon.home import Home
from check_mounts.daemon.incidents import Incidents
from check_mounts.daemon.subjects import blocked_below, subject
from check_mounts.judging.judgements import notable, worst_of_each
from check_mounts.judging.policy import Judged
from check_mounts.model import Mount, State
from check_mounts.options.understood import Options
from check_mounts.system.tasks import Task
from check_mounts.typed import Optional

_PRIORITIES = {
    State.OK: syslog.LOG_NOTICE,
    State.WARNING: syslog.LOG_WARNING,
    State.CRITICAL: syslog.LOG_ERR,
    State.UNKNOWN: syslog.LOG_WARNING,
}


class Newsroom:
    """Finds out what is news, and tells it."""

    def __init__(self, home: Home, log: Diary, complaints: Complaints, incidents: Optional[str]) -> None:
        """``incidents`` is the file of the incidents; None to keep none."""
        self._log, self._complaints = log, complaints
        self._episodes = Episodes()
        self._path = incidents or ""
        self._incidents = None if incidents is None else Incidents(incidents, home, self._tell_of_incidents)

    @property
    def tasks(self) -> Sequence[Task]:
        """The work that goes on after the news were told."""
        return () if self._incidents is None else (self._incidents,)

    def is_hung(self, mount_point: bytes) -> bool:
        """Whether a mount point was hung already."""
        return self._episodes.is_hung(mount_point)

    def tell(self, judged: Judged, options: Options, mounts: Sequence[Mount]) -> None:
        """Tell what is news in a judged survey. ``mounts`` is the mount table."""
        # If only an autofs trigger is there, the filesystem that it mounts is not mounted.
        there = (mount.mount_point for mount in mounts if not filesystems.is_trigger(mount))
        mounted = frozenset(there if self._episodes.has_any else ())
        news = self._episodes.follow(judged.judgements, boottime(), mounted)
        if self._incidents is not None:
            self._record(self._incidents, news, judged, options, mounts)
        for each in news:
            self._log.write(_PRIORITIES[each.state], each.line)

    def _record(
        self, incidents: Incidents, news: Iterable[News], judged: Judged, options: Options, mounts: Sequence[Mount]
    ) -> None:
        changes = [each.change for each in news if each.change is not None]
        if not changes and not incidents.has_any:
            return
        blocked = blocked_below(judged.judgements, mounts)
        for change in changes:
            mount = None if change.judgement is None else change.judgement.finding.mount
            about = subject(change.mount_point, mount, options.demands.expected)
            incidents.follow(change, about, blocked.get(change.mount_point, 0))
        for mount_point, judgement in worst_of_each(notable(judged.judgements)).items():
            incidents.follow_cause(judgement, blocked.get(mount_point, 0))
        incidents.step()

    def note_checked(self) -> None:
        """Note that all mounts were checked."""
        if self._incidents is not None:
            self._incidents.note_checked()

    def _tell_of_incidents(self, why: Optional[str]) -> None:
        words = None if why is None else f"Cannot write {text.printable_argument(self._path)}: {why}"
        self._complaints.tell(Part.INCIDENTS, words)

    def close(self) -> None:
        """Stop."""
        if self._incidents is not None:
            self._incidents.close()
