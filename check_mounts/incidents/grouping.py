"""Incidents -> groups of those that have one cause, as far as times and servers show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from check_mounts.clocks import Boottime, Epoch
from check_mounts.incidents.histories import Incident
from check_mounts.typed import NamedTuple

# Incidents of one server with no more than this between them, in seconds, are one: its mounts are
# asked, and answer again, one after the other.
_BETWEEN = 60.0


class Group(NamedTuple):
    """Incidents of one server, or of one local mount point (``name``), that overlap or nearly
    do."""

    name: str
    incidents: Sequence[Incident]

    @property
    def mount_points(self) -> Sequence[str]:
        """Each once, in the order in which they failed."""
        return list(dict.fromkeys(each.subject.mount_point for each in self.incidents))

    @property
    def first(self) -> Incident:
        """The incident that began first."""
        return min(self.incidents, key=lambda each: each.since)

    @property
    def last(self) -> Incident:
        """The incident that ended last."""
        return max(self.incidents, key=lambda each: (each.end is None, each.until))

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended."""
        return all(each.end is not None for each in self.incidents)

    @property
    def seconds(self) -> float:
        """From the beginning of the first to the end of the last."""
        return max(0.0, self.last.until - self.first.since)

    @property
    def began(self) -> Epoch:
        """When the first one began, for people."""
        return self.first.began

    @property
    def ended(self) -> Epoch:
        """When the last one ended, for people."""
        return self.last.ended

    @property
    def blocked(self) -> int:
        """How many mounts below could not be asked, at most."""
        most: dict[str, int] = {}
        for each in self.incidents:
            most[each.subject.mount_point] = max(each.blocked, most.get(each.subject.mount_point, 0))
        return sum(most.values())

    @property
    def is_drill(self) -> bool:
        """Whether somebody only tried the alarm."""
        return self.incidents[0].is_drill


def grouped(incidents: Iterable[Incident]) -> list[Group]:
    """The groups, the newest last: in the order of their beginnings."""
    groups: dict[tuple[str, str, bool], list[list[Incident]]] = {}
    ends: dict[tuple[str, str, bool], float] = {}
    for each in sorted(incidents, key=lambda each: each.since):
        key = each.boot, _name(each), each.is_drill
        until = Boottime(float("inf")) if each.end is None else each.until
        if key in ends and each.since - ends[key] < _BETWEEN:
            groups[key][-1].append(each)
            ends[key] = max(ends[key], until)
        else:
            groups.setdefault(key, []).append([each])
            ends[key] = until
    found = [Group(key[1], members) for key, lists in groups.items() for members in lists]
    return sorted(found, key=lambda group: min(each.place for each in group.incidents))


def _name(incident: Incident) -> str:
    return incident.subject.server or incident.subject.mount_point
