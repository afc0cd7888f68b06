"""What programs do on the network mounts, what is usual there, and what is not (--unusual)."""

from __future__ import annotations

import syslog
from collections.abc import Mapping, Sequence

from check_mounts import text
from check_mounts.clocks import Monotonic, monotonic
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.daemon.home import Home
from check_mounts.daemon.tally import Tally
from check_mounts.daemon.usual_file import UsualFile
from check_mounts.daemon.whereabouts import Whereabouts
from check_mounts.judging import courses
from check_mounts.judging.courses import Courses, Key
from check_mounts.judging.policy import Policy
from check_mounts.model import Condition, Finding, Mount, Survey
from check_mounts.options.understood import Options
from check_mounts.probing import servers
from check_mounts.probing.servers import Server
from check_mounts.slowness import Unusual
from check_mounts.system.tasks import Task
from check_mounts.traffic import Traffic
from check_mounts.typed import NamedTuple, Optional


class _Told(NamedTuple):
    """An operation that is slower than usual, and the server to ask; None if it cannot be asked."""

    unusual: Unusual
    server: Optional[Server]


class Habits:
    """Tells what was done on mounts. If that is wanted, it learns what is usual, once the file says
    what earlier daemons have learnt."""

    def __init__(self, path: str, home: Home, complaints: Complaints, log: Diary) -> None:
        self._path, self._complaints, self._log = path, complaints, log
        self._file = UsualFile(path, home, self._content, self._remember, self._tell)
        self._whereabouts = Whereabouts()
        self._tally = Tally()
        self._courses: Optional[Courses] = None
        self._looked: Optional[Monotonic] = None
        self._told: Mapping[Key, _Told] = {}
        self._asks = False

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The work that goes on between two passes."""
        return self._file, self._whereabouts

    def serve(self, options: Options) -> None:
        """Use these options from now on."""
        assert options.service is not None
        self._file.is_wanted = options.service.learns
        self._asks = options.settings.diagnosis
        if not options.service.learns:
            self._told, self._looked = {}, None
            self._tell(None)

    # -- what is learnt

    def look(self, mounts: Sequence[Mount], policy: Policy) -> None:
        """Take in what was done on the mounts since the last look."""
        self._tally.look(mounts)
        if self._courses is None or not self._file.is_wanted:
            return
        now, before = monotonic(), self._looked
        self._looked = now
        self._learn(self._courses, 0.0 if before is None else now - before, mounts, policy)

    def _learn(self, learnt: Courses, seconds: float, mounts: Sequence[Mount], policy: Policy) -> None:
        keys = {Key(mount.source, mount.mount_point): mount for mount in mounts}
        done = {key: (mount, each) for key, mount in keys.items() if (each := self._tally.of(*key)) is not None}
        moved = {key: each.moved for key, (_, each) in done.items() if each.moved is not None}
        learnt.take(seconds, moved, lambda point: policy.of(point).unusual or None)
        self._told = {
            key: _Told(_with_load(unusual, mount, each), servers.server_of(mount) if self._asks else None)
            for key, (mount, each) in done.items()
            if (unusual := learnt.unusual(key)) is not None
        }
        self._whereabouts.want({told.server for told in self._told.values() if told.server is not None})

    def told(self, survey: Survey) -> Survey:
        """The survey, in which each finding has what was done on its mount, and what of that is
        unusual. What has become unusual is told once the server was asked, which takes seconds."""
        survey = self._tally.told(survey)
        if not self._told:
            return survey
        return survey._replace(findings=tuple(map(self._with_unusual, survey.findings)))

    def _with_unusual(self, finding: Finding) -> Finding:
        if finding.condition is not Condition.OK or finding.mount is None:
            return finding
        told = self._told.get(Key(finding.mount.source, finding.mount_point))
        if told is None:
            return finding
        if told.server is None:
            return finding._replace(unusual=told.unusual)
        if not self._whereabouts.is_settled(told.server):
            return finding
        return finding._replace(unusual=told.unusual._replace(asked=self._whereabouts.of(told.server)))

    def take_news(self) -> bool:
        """Whether something that waited for a server can be told now."""
        return self._whereabouts.take_news()

    def close(self) -> None:
        """Stop, and keep what was learnt."""
        self._file.close()
        self._whereabouts.close()

    # -- the file

    def _content(self) -> bytes:
        assert self._courses is not None
        return self._courses.told()

    def _remember(self, data: Optional[bytes]) -> None:
        self._courses = Courses()
        if data is None:
            return
        try:
            self._courses = courses.remembered(data)
        except ValueError as error:
            path = text.printable_argument(self._path)
            self._log.write(syslog.LOG_WARNING, f"Learning anew what is usual on mounts: {path}: {error}")

    def _tell(self, words: Optional[str]) -> None:
        self._complaints.tell(Part.USUAL, words)


def _with_load(unusual: Unusual, mount: Mount, traffic: Traffic) -> Unusual:
    """With the size of one operation, and how many wait for the server on one connection: the mean
    number in flight, which is the time that all took in a second (Little's law)."""
    if traffic.moved is None or traffic.seconds <= 0:
        return unusual
    done = traffic.moved.get(unusual.operation.encode("ascii"))
    size = 0.0 if done is None else (done.bytes_sent + done.bytes_received) / done.operations
    in_flight = sum(each.rtt for each in traffic.moved.values()) / 1000.0 / traffic.seconds
    connections = mount.super_option(b"nconnect") or b"1"
    number = int(connections) if connections.isdigit() and len(connections) < 4 else 1
    return unusual._replace(size=size, waiting=max(1.0, in_flight / max(1, number)))
