"""Records -> incidents, whatever is missing among the records. Pure.

Durations come from the uptime, so a clock that was set makes none of them negative. A reboot ends
all incidents. A daemon that starts goes on with an incident if its first check finds the mount
point in trouble; otherwise the incident has ended at some time while no daemon looked."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from check_mounts.clocks import Boottime, Epoch
from check_mounts.incidents.records import Kind, Record, Stamp, Status, Subject, Waiting
from check_mounts.typed import NamedTuple, Optional


class End(enum.Enum):
    """How an incident has ended. ``UNSEEN``: while no daemon looked; ``REBOOT``: with the boot."""

    SEEN = "seen"
    UNSEEN = "unseen"
    REBOOT = "reboot"


class Incident(NamedTuple):
    """The trouble of one mount point. ``statuses`` are all that it had, in order. ``since`` and
    ``until`` are uptimes of the boot; ``began`` and ``ended`` the same for people. ``until`` is the
    last time at which something was recorded, if the incident is not over (``end`` is None).
    ``blocked`` is the greatest number of mounts below that could not be asked. ``place`` orders
    incidents as they began."""

    incident: str
    subject: Subject
    statuses: tuple[Status, ...]
    boot: str
    since: Boottime
    until: Boottime
    began: Epoch
    ended: Epoch
    place: int
    end: Optional[End] = None
    why: str = ""
    waiting: Optional[Waiting] = None

    @property
    def seconds(self) -> float:
        """How long it took, or has taken until the last record."""
        return max(0.0, self.until - self.since)

    @property
    def is_drill(self) -> bool:
        """Whether somebody only tried the alarm."""
        return self.statuses[-1].drill

    @property
    def blocked(self) -> int:
        """How many mounts below could not be asked, at most."""
        return max(status.blocked for status in self.statuses)


class History(NamedTuple):
    """What a file tells: the incidents, in the order in which they began, and the times of its
    first and last records; None if it has none. ``is_stopped``: the last record says that the
    daemon stopped."""

    incidents: Sequence[Incident]
    first: Optional[Stamp] = None
    last: Optional[Stamp] = None
    is_stopped: bool = False


def read(records: Iterable[Record]) -> History:
    """Understand the records, in the order in which they were written."""
    reading = _Reading()
    for record in records:
        reading.take(record)
    return History(reading.finish(), reading.first, reading.last, reading.is_stopped)


class _Reading:
    """The state after some records. ``_open`` has the incidents that are not over, by their IDs;
    ``_adopted`` those of an earlier daemon that the present one has not found again."""

    def __init__(self) -> None:
        self.first: Optional[Stamp] = None
        self.last: Optional[Stamp] = None
        self.is_stopped = False
        self._known: list[Incident] = []
        self._open: dict[str, int] = {}
        self._adopted: dict[tuple[str, bool], int] = {}

    def finish(self) -> Sequence[Incident]:
        """All incidents, in the order in which they began."""
        for place in (*self._open.values(), *self._adopted.values()):
            self._known[place] = _until(self._known[place], self.last)
        return self._known

    def take(self, record: Record) -> None:
        """Take in one more record."""
        if self.last is not None and record.stamp.boot != self.last.boot:
            self._end_all(End.REBOOT, self.last)
        if record.kind is Kind.START:
            self._adopt()
        elif record.kind is Kind.CHECKED:
            self._let_go(record.stamp)
        elif record.kind is not Kind.STOP:
            self._follow(record)
        self.is_stopped = record.kind is Kind.STOP
        self.first, self.last = self.first or record.stamp, record.stamp

    def _adopt(self) -> None:
        for place in self._open.values():
            each = self._known[place] = _until(self._known[place], self.last)
            self._adopted[_key(each)] = place
        self._open.clear()

    def _let_go(self, stamp: Stamp) -> None:
        """End what the first check of a daemon has not found."""
        for place in self._adopted.values():
            self._known[place] = _until(self._known[place], stamp)._replace(end=End.UNSEEN)
        self._adopted.clear()

    def _end_all(self, end: End, stamp: Stamp) -> None:
        for place in (*self._open.values(), *self._adopted.values()):
            self._known[place] = _until(self._known[place], stamp)._replace(end=end)
        self._open.clear()
        self._adopted.clear()

    def _follow(self, record: Record) -> None:
        place = self._open.get(record.incident)
        if place is None:
            place = self._place_of(record)
        known = _until(self._known[place], record.stamp)
        if record.status is not None and record.status != known.statuses[-1]:
            known = known._replace(statuses=(*known.statuses, record.status))
        if record.waiting is not None:
            known = known._replace(waiting=_more(known.waiting, record.waiting))
        if record.kind is Kind.END:
            known = known._replace(end=End.SEEN, why=record.why)
            self._open.pop(record.incident, None)
        self._known[place] = known

    def _place_of(self, record: Record) -> int:
        """The place of an incident that is new, or that an earlier daemon has begun."""
        assert record.subject is not None and record.status is not None and record.since is not None
        place = self._adopted.pop((record.subject.mount_point, record.status.drill), None)
        if place is None:
            place = len(self._known)
            self._known.append(_begun(record, place))
        self._open[record.incident] = place
        return place


def _key(incident: Incident) -> tuple[str, bool]:
    return incident.subject.mount_point, incident.is_drill


def _begun(record: Record, place: int) -> Incident:
    assert record.subject is not None and record.status is not None and record.since is not None
    stamp = record.stamp
    since = min(record.since, stamp.uptime)
    return Incident(
        record.incident,
        record.subject,
        (record.status,),
        stamp.boot,
        since,
        stamp.uptime,
        Epoch(max(0.0, stamp.at - (stamp.uptime - since))),
        stamp.at,
        place,
    )


def _until(incident: Incident, stamp: Optional[Stamp]) -> Incident:
    """The incident, which went on until then."""
    if stamp is None or stamp.boot != incident.boot or stamp.uptime < incident.until:
        return incident
    return incident._replace(until=stamp.uptime, ended=stamp.at)


def _more(known: Optional[Waiting], now: Waiting) -> Waiting:
    return now if known is None or now.number >= known.number else known
