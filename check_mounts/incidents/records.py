"""The records of incidents: a JSON object on a line of its own for each event. Pure.

check_mounts(8) documents the form. A line is complete in itself: any other line may be missing,
the first one of an incident too, because old lines are dropped.

Import budget: ``enum``, ``json``."""

from __future__ import annotations

import enum
import json
import math

from check_mounts.clocks import Boottime, Epoch
from check_mounts.typed import Any, NamedTuple, Optional

# Raised when a member is removed or changes its meaning. The first bytes of a file tell that it is
# ours.
VERSION = 1
BEGINNING = b'{"check_mounts": '
# The longest line, in bytes. A path has up to 4,095 bytes, and each may be written as five.
LONGEST = 64 << 10
_LONGEST_TEXT, _MOST_TEXTS = 1000, 8
_ENCODE = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


class Kind(enum.Enum):
    """The kinds of records: a daemon starts, has checked all mounts for the first time, stops; an
    incident begins, changes, ends; something was found out about it."""

    START = "start"
    CHECKED = "checked"
    STOP = "stop"
    BEGIN = "begin"
    CHANGE = "change"
    END = "end"
    EVIDENCE = "evidence"


class Stamp(NamedTuple):
    """When a record was made: ``at`` as the host's clock was then, which may be set at any time;
    ``uptime`` counts from the boot that ``boot`` identifies, and so tells durations."""

    at: Epoch
    uptime: Boottime
    boot: str


class Subject(NamedTuple):
    """The mount point of an incident, and what is or should be mounted there, fit for any output.
    Without a ``server`` it is a local mount, or not known."""

    mount_point: str
    source: Optional[str] = None
    fs_type: Optional[str] = None
    server: Optional[str] = None


class Status(NamedTuple):
    """What is wrong: a condition by its name on the command line, a state, and words. ``diagnosis``
    says whose fault it is; ``blocked`` counts the mounts below that could not be asked because of
    it. ``drill``: somebody only tries the alarm."""

    condition: str
    state: str
    words: str
    diagnosis: str = ""
    remarks: tuple[str, ...] = ()
    blocked: int = 0
    drill: bool = False


class Waiting(NamedTuple):
    """The processes that wait for a mount, in words, and their number; ``mounts`` is the number of
    mounts that they were counted for, ``groups`` what these processes are."""

    number: int
    words: str
    mounts: int = 1
    groups: str = ""


class Record(NamedTuple):
    """One line. ``incident`` is the same in all records of an incident, and of no other. ``since``
    is when the trouble began (CLOCK_BOOTTIME), which may be before it was noticed. ``was`` is the
    condition before, ``why`` the reason of an end."""

    kind: Kind
    stamp: Stamp
    incident: str = ""
    since: Optional[Boottime] = None
    subject: Optional[Subject] = None
    status: Optional[Status] = None
    was: str = ""
    why: str = ""
    waiting: Optional[Waiting] = None


def encoded(record: Record) -> bytes:
    """The line of a record, with its newline."""
    stamp = record.stamp
    line: dict[str, Any] = {
        "check_mounts": VERSION,
        "event": record.kind.value,
        "at": round(stamp.at, 3),
        "uptime": round(stamp.uptime, 3),
        "boot": stamp.boot,
    }
    if record.incident:
        line["incident"] = record.incident
    if record.since is not None:
        line["since"] = round(record.since, 3)
    if record.subject is not None:
        point, source, fs_type, server = record.subject
        line |= {"mount_point": point, "source": source, "type": fs_type, "server": server}
    if record.status is not None:
        line |= _short(record.status)._asdict()
    for name in ("was", "why"):
        if getattr(record, name):
            line[name] = getattr(record, name)
    if record.waiting is not None:
        waiting = record.waiting
        line["waiting"] = waiting._replace(
            words=waiting.words[:_LONGEST_TEXT], groups=waiting.groups[:_LONGEST_TEXT]
        )._asdict()
    return _ENCODE(line).encode("ascii") + b"\n"


def _short(status: Status) -> Status:
    remarks = tuple(remark[:_LONGEST_TEXT] for remark in status.remarks[:_MOST_TEXTS])
    return status._replace(
        words=status.words[:_LONGEST_TEXT], diagnosis=status.diagnosis[:_LONGEST_TEXT], remarks=remarks
    )


def decoded(line: bytes) -> Optional[Record]:
    """The record of a line. None for a part of a line, and for anything else that is no record: one
    bad line must not hide the others."""
    try:
        return _record(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


class Content(NamedTuple):
    """What the lines of a file are: how many are records, how many are not, and the number of the
    first of those, from 1; 0 without any."""

    good: int
    bad: int
    first: int


def read(data: bytes, known: dict[bytes, Record]) -> Content:
    """Add the records of a file to those that are known by their lines.

    A last line without its newline is not counted: its writer crashed, or has not come to its end.
    But a file that has nothing else must begin like one of ours. Empty lines do not count either,
    unless there is nothing else."""
    *lines, last = data.split(b"\n")
    good = 0
    wrong: list[int] = []
    for number, line in enumerate(lines + [last] * bool(last), 1):
        record = known.get(line) or (decoded(line) if line else None)
        if record is not None:
            known[line], good = record, good + 1
        elif line and number <= len(lines):
            wrong.append(number)
    is_begun = not lines and BEGINNING.startswith(last[: len(BEGINNING)])
    first = wrong[0] if wrong else int(bool(data) and not good and not is_begun)
    return Content(good, len(wrong), first)


def _record(line: dict[str, Any]) -> Record:
    """Raises ValueError, TypeError, KeyError."""
    if line["check_mounts"] is True or line["check_mounts"] != VERSION:
        raise ValueError("version")
    kind = Kind(line["event"])
    stamp = Stamp(Epoch(_time(line["at"])), Boottime(_time(line["uptime"])), _text(line["boot"]))
    record = Record(kind, stamp, was=_text(line.get("was", "")), why=_text(line.get("why", "")))
    if kind in (Kind.START, Kind.CHECKED, Kind.STOP):
        return record
    waiting = line.get("waiting")
    return record._replace(
        incident=_text(line["incident"]),
        since=Boottime(_time(line["since"])),
        subject=Subject(_text(line["mount_point"]), *(_maybe(line[name]) for name in ("source", "type", "server"))),
        status=_status(line),
        waiting=None if waiting is None else _waiting(waiting),
    )


def _waiting(value: dict[str, Any]) -> Waiting:
    return Waiting(
        _count(value["number"]), _text(value["words"]), _count(value["mounts"]), _text(value.get("groups", ""))
    )


def _status(line: dict[str, Any]) -> Status:
    return Status(
        _text(line["condition"]),
        _text(line["state"]),
        _text(line["words"]),
        _text(line["diagnosis"]),
        tuple(map(_text, line["remarks"])),
        _count(line["blocked"]),
        line["drill"] is True,
    )


def _text(value: object) -> str:
    """The text of a member, which a terminal may show. Those who can write the file are trusted,
    but a disk that has lost its power is not."""
    if not isinstance(value, str) or not (value.isprintable() or not value):
        raise TypeError("a text is needed")
    return value


def _maybe(value: object) -> Optional[str]:
    return None if value is None else _text(value)


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("a number is needed")
    if not 0 <= value < 1e11:  # what localtime(3) can show
        raise ValueError("a time is needed")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise TypeError("a number is needed")
    return value
