"""Incidents -> text and JSON (``--incidents``). check_mounts(8) documents both."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from check_mounts import text
from check_mounts.clocks import Epoch
from check_mounts.incidents.grouping import Group
from check_mounts.incidents.histories import End, Incident
from check_mounts.incidents.records import Status, Waiting
from check_mounts.model import Condition, State
from check_mounts.report import jsonform
from check_mounts.typed import Any, NamedTuple, Optional

_RANK = {state.name: state.rank for state in State}
_WORDS: Mapping[str, str] = {condition.value: condition.words for condition in Condition}
# How many of the reasons of a group are shown.
_MOST_REASONS = 3


class Told(NamedTuple):
    """What is told: ``groups`` of incidents since a time. ``first`` is when the record begins, None
    if it is empty. ``is_whole``: it goes back to ``since``. ``notes`` are further lines. ``now`` is
    the present time."""

    groups: Sequence[Group]
    since: Optional[Epoch]
    first: Optional[Epoch]
    now: Epoch
    notes: Sequence[str] = ()

    @property
    def incidents(self) -> list[Incident]:
        """All of them, the newest last."""
        return sorted((each for group in self.groups for each in group.incidents), key=lambda each: each.place)


def summary(told: Told) -> str:
    """``3 incidents of 8 mounts since 2026-11-29 08:12:00, 1 not over``."""
    incidents = told.incidents
    words = "no incidents"
    if incidents:
        mounts = {each.subject.mount_point for each in incidents}
        words = f"{text.counted(len(incidents), 'incident')} of {text.counted(len(mounts), 'mount')}"
    since = max((when for when in (told.since, told.first) if when is not None), default=None)
    if since is not None:
        words += f" since {_moment(since)}"
    if told.since is not None and told.first is not None and told.first > told.since:
        words += ", when the record begins"
    lasting = sum(each.end is None for each in incidents)
    drills = sum(each.is_drill for each in incidents)
    words += f", {lasting} not over" if lasting else ""
    return words + (f", {text.counted(drills, 'drill')} among them" if drills else "")


def lines(told: Told, verbosity: int) -> Iterator[str]:
    """The lines below the verdict: one for each group, with ``verbosity`` also one for each
    incident."""
    for group in told.groups:
        yield _of_group(group, told.now)
        if verbosity:
            yield from (f"  {_of_incident(each, told.now)}" for each in group.incidents)
    yield from (f"note: {note}" for note in told.notes)


def as_json(told: Told) -> bytes:
    """The same as JSON."""
    rest: dict[str, Any] = {
        "since": _rounded(told.since),
        "record_begins": _rounded(told.first),
        "now": _rounded(told.now),
        "notes": list(told.notes),
    }
    numbers = {each.place: number for number, group in enumerate(told.groups) for each in group.incidents}
    incidents = (jsonform.encode(_incident(each, numbers[each.place])) for each in told.incidents)
    groups = (jsonform.encode(_group(group)) for group in told.groups)
    first = jsonform.head(State.OK.name, summary(told))
    return jsonform.composed(first, rest, {"incidents": incidents, "groups": groups})


# -- in words


def _of_group(group: Group, now: Epoch) -> str:
    points = group.mount_points
    many = len(points) > 1 or group.name != points[0]
    words = f"{group.name}: " + (f"{text.counted(len(points), 'mount')}, " if many else "")
    words += f"{_span(group.began, group.ended, group.seconds, group.is_over, now)}: {_reasons(group)}"
    if group.blocked:
        words += f"; {text.counted(group.blocked, 'mount')} below could not be asked"
    waiting = _most_waiting(group)
    words += f"; {waiting.words}" if waiting is not None else ""
    words += "".join(f"; {how}" for how in dict.fromkeys(map(_how, group.incidents)) if how)
    return f"DRILL: {words}" if group.is_drill else words


def _reasons(group: Group) -> str:
    """``6 timed out: server 10.0.0.5 does not answer on port 2049``."""
    counts: dict[str, int] = {}
    for each in group.incidents:
        reason = _reason(each)
        counts[reason] = counts.get(reason, 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    frequent = sorted(counts.items(), key=lambda each: -each[1])
    more = len(frequent) - _MOST_REASONS
    words = [f"{count} {reason}" for reason, count in frequent[:_MOST_REASONS]]
    return ", ".join(words) + (f", and {more} more" if more > 0 else "")


def _reason(incident: Incident) -> str:
    """What was wrong: each condition once, and whose fault it was, if that is known."""
    found = [_WORDS.get(status.condition, status.condition) for status in incident.statuses]
    diagnosis = next((status.diagnosis for status in reversed(incident.statuses) if status.diagnosis), "")
    if diagnosis:
        return f"{', then '.join(dict.fromkeys(found))}: {diagnosis}"
    return ", then ".join(status.words for status in _different(incident))


def _of_incident(incident: Incident, now: Epoch) -> str:
    span = _span(incident.began, incident.ended, incident.seconds, incident.end is not None, now)
    words = ", then ".join(f"{status.state} {status.words}" for status in _different(incident))
    ends = f"; waited: {incident.waiting.groups}" if incident.waiting and incident.waiting.groups else ""
    ends += f"; {incident.why}" if incident.why else ""
    return f"{incident.subject.mount_point}: {span}: {words}{ends}"


def _different(incident: Incident) -> Sequence[Status]:
    """What was wrong, without what only has other words, such as since when it hangs."""
    found: dict[tuple[str, str], Status] = {}
    for status in incident.statuses:
        found.setdefault((status.condition, status.state), status)
    return list(found.values())


def _span(began: Epoch, ended: Epoch, seconds: float, is_over: bool, now: Epoch) -> str:
    """``02:14:10 to 02:31:55 (17 min 45 s)``; with the day if that is not today."""
    if not is_over:
        return f"since {_moment(began, now)} ({duration(seconds)}, not over)"
    return f"{_moment(began, now)} to {_moment(ended, began if _is_same_day(began, ended) else now)}" + (
        f" ({duration(seconds)})"
    )


def _how(incident: Incident) -> str:
    if incident.end is End.REBOOT:
        return "then the host was booted again"
    return "over at the next start of the daemon" if incident.end is End.UNSEEN else ""


def _most_waiting(group: Group) -> Optional[Waiting]:
    """The look at processes that has found most: each one was for all mounts that hung then."""
    found = [each.waiting for each in group.incidents if each.waiting is not None]
    return max(found, key=lambda waiting: waiting.number, default=None)


def _is_same_day(one: Epoch, other: Epoch) -> bool:
    return time.localtime(one)[:3] == time.localtime(other)[:3]


def _moment(when: Epoch, now: Optional[Epoch] = None) -> str:
    """A time as people read it; without the day if that is the day of ``now``."""
    local = time.localtime(when)
    short = now is not None and _is_same_day(when, now)
    return time.strftime("%H:%M:%S" if short else "%Y-%m-%d %H:%M:%S", local)


def duration(seconds: float) -> str:
    """``0.4 s``, ``17 min 45 s``, ``3 h 12 min``, ``2 d 3 h``: the two largest units."""
    if seconds < 10:
        return text.seconds_words(round(seconds, 1))
    whole = round(seconds)
    parts = (whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")
    first = next(place for place, (number, _) in enumerate(parts) if number)
    return " ".join([f"{number} {unit}" for number, unit in parts[first : first + 2] if number])


# -- as JSON


def _incident(incident: Incident, group: int) -> dict[str, Any]:
    subject, worst = incident.subject, max(incident.statuses, key=lambda status: _RANK.get(status.state, 0))
    return {
        "incident": incident.incident,
        "group": group,
        "mount_point": subject.mount_point,
        "source": subject.source,
        "type": subject.fs_type,
        "server": subject.server,
        "condition": worst.condition,
        "state": worst.state,
        "text": worst.words,
        "diagnosis": next((status.diagnosis for status in reversed(incident.statuses) if status.diagnosis), None),
        "remarks": worst.remarks,
        "blocked": incident.blocked,
        "drill": incident.is_drill,
        "begin": _rounded(incident.began),
        "end": None if incident.end is None else _rounded(incident.ended),
        "seconds": round(incident.seconds, 3),
        "ended": None if incident.end is None else incident.end.value,
        "why": incident.why or None,
        "statuses": [
            {"condition": status.condition, "state": status.state, "text": status.words} for status in incident.statuses
        ],
        "waiting": None if incident.waiting is None else incident.waiting._asdict(),
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "mount_points": list(group.mount_points),
        "incidents": [each.incident for each in group.incidents],
        "begin": _rounded(group.began),
        "end": _rounded(group.ended) if group.is_over else None,
        "seconds": round(group.seconds, 3),
        "blocked": group.blocked,
        "drill": group.is_drill,
        "text": _reasons(group),
    }


def _rounded(when: Optional[Epoch]) -> Optional[float]:
    return None if when is None else round(when, 3)
