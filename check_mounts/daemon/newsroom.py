"""What is news about mounts, and those who are told: the log, the file of the incidents, and the
program of ``--on-change``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from check_mounts import filesystems, text
from check_mounts.clocks import boottime
from check_mounts.daemon import on_change
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import PRIORITIES, Diary
from check_mounts.daemon.episodes import Episodes, News
from check_mounts.daemon.home import Home
from check_mounts.daemon.incidents import Incidents
from check_mounts.daemon.on_change import OnChange
from check_mounts.daemon.subjects import blocked_below, subject
from check_mounts.daemon.witnesses import Witnesses
from check_mounts.judging.judgements import notable, worst_of_each
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, Mount, State
from check_mounts.options.understood import Options, Service
from check_mounts.system.tasks import Task
from check_mounts.typed import Optional


class Newsroom:
    """Finds out what is news, and tells it."""

    def __init__(self, home: Home, log: Diary, complaints: Complaints, incidents: Optional[str]) -> None:
        """``incidents`` is the file of the incidents; None to keep none."""
        self._log, self._complaints = log, complaints
        self._episodes, self._drills = Episodes(), Episodes()
        self._on_change = OnChange(self._write)
        self._with_drills = False
        self._path = incidents or ""
        self._incidents: Optional[Incidents] = None
        self._witnesses: Optional[Witnesses] = None
        if incidents is not None:
            self._incidents = Incidents(incidents, home, self._tell_of_incidents)
            self._witnesses = Witnesses(self._incidents.follow_waiting)

    @property
    def tasks(self) -> Sequence[Task]:
        """The work that goes on after the news were told."""
        return [task for task in (self._on_change, self._incidents, self._witnesses) if task is not None]

    def serve(self, service: Service) -> None:
        """Use these options from now on."""
        self._on_change.serve(service.on_change)
        self._with_drills = service.on_change_drill

    def is_hung(self, mount_point: bytes) -> bool:
        """Whether a mount point was hung already."""
        return self._episodes.is_hung(mount_point)

    def tell(self, judged: Judged, options: Options, mounts: Sequence[Mount]) -> None:
        """Tell what is news in a judged survey. ``mounts`` is the mount table."""
        # If only an autofs trigger is there, the filesystem that it mounts is not mounted.
        there = (mount.mount_point for mount in mounts if not filesystems.is_trigger(mount))
        mounted = frozenset(there if self._episodes.has_any else ())
        news = self._episodes.follow(judged.judgements, boottime(), mounted)
        blocked: Mapping[bytes, int] = {}
        if news or (self._incidents is not None and self._incidents.has_any):
            blocked = blocked_below(judged.judgements, mounts)
        self._hand_on(news, options, blocked)
        if self._incidents is not None and self._incidents.has_any:
            for mount_point, judgement in worst_of_each(notable(judged.judgements)).items():
                self._incidents.follow_cause(judgement, blocked.get(mount_point, 0))
        if self._witnesses is not None:
            self._witnesses.follow(_hung(judged), any(map(_begins_to_hang, news)))
        for each in news:
            self._write(each.state, each.line)

    def tell_drill(self, judged: Judged, options: Options) -> None:
        """Tell what a drill pretends, or no longer does, to all but the log, which has it."""
        pretended = [each for each in notable(judged.judgements) if each.is_drill]
        if not pretended and not self._drills.has_any:
            return
        news = self._drills.follow(pretended, boottime())
        changes = [each.change for each in news if each.change is not None]
        over = [change if change.now else change._replace(judgement=None, gone="pretended") for change in changes]
        self._hand_on([News(State.OK, "", change) for change in over], options, {}, is_drill=True)

    def _hand_on(
        self, news: Iterable[News], options: Options, blocked: Mapping[bytes, int], is_drill: bool = False
    ) -> None:
        """Hand changes on to the file of the incidents, and to the program."""
        for change in [each.change for each in news if each.change is not None]:
            mount = None if change.judgement is None else change.judgement.finding.mount
            about = subject(change.mount_point, mount, options.demands.expected)
            if self._incidents is not None:
                self._incidents.follow(change, about, blocked.get(change.mount_point, 0), is_drill)
            if self._with_drills or not is_drill:
                self._on_change.follow(on_change.event(change, about, is_drill))

    def note_checked(self) -> None:
        """Note that all mounts were checked."""
        if self._incidents is not None:
            self._incidents.note_checked()

    def _write(self, state: State, line: str) -> None:
        self._log.write(PRIORITIES[state], line)

    def _tell_of_incidents(self, why: Optional[str]) -> None:
        words = None if why is None else f"Cannot write {text.printable_argument(self._path)}: {why}"
        self._complaints.tell(Part.INCIDENTS, words)

    def close(self) -> None:
        """Stop."""
        self._on_change.close()
        if self._witnesses is not None:
            self._witnesses.close()
        if self._incidents is not None:
            self._incidents.close()


def _hung(judged: Judged) -> Sequence[Mount]:
    """The mounts that do not answer."""
    found = (each.finding.mount for each in notable(judged.judgements) if each.condition is Condition.TIMED_OUT)
    return [mount for mount in found if mount is not None]


def _begins_to_hang(news: News) -> bool:
    change = news.change
    if change is None or change.now is None or change.now.hung is None:
        return False
    return change.was is None or change.was.hung is None
