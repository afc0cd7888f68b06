"""``--incidents``: what the daemon has seen happen to mounts. It reads the daemon's files, and
touches no mount."""

from __future__ import annotations

import time
from collections.abc import Mapping

from check_mounts import cache, text
from check_mounts.clocks import Boottime, Epoch, epoch
from check_mounts.guard.notes import Notes
from check_mounts.incidents import files, grouping, histories, records
from check_mounts.incidents.histories import History, Incident
from check_mounts.incidents.records import Record
from check_mounts.incidents.since import Since
from check_mounts.model import State
from check_mounts.options import command_line, service_options, settled
from check_mounts.options.command_line import Values
from check_mounts.options.refusals import UsageError, blamed
from check_mounts.options.working_directory import absolute
from check_mounts.report import incidents as report
from check_mounts.system import reading
from check_mounts.system.printing import stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Any, NamedTuple, Optional

# In seconds: how long the files may take, as long as nothing hangs.
_LONGEST = 10.0
# What goes with --incidents on a command line.
_TAKEN = frozenset(("incidents", "since", "incident_file", "cache", "config", "json", "verbose", "debug", "extra_opts"))
_ASK = "is the daemon running? systemctl status check_mounts"


class Unreadable(Exception):
    """Why nothing can be told, on one line fit for any output."""


class Present(NamedTuple):
    """The present: the time, the boot, and its uptime if a daemon is watching now; otherwise
    ``why`` says why not."""

    now: Epoch
    boot: str
    uptime: Boottime
    why: str = ""


def run(given: Mapping[str, Any], interrupts: Interrupts, noted: Notes) -> int:
    """Print the incidents, and return the exit code. Raises UsageError."""
    noted.until(time.monotonic() + _LONGEST)
    said = _said(given)
    try:
        told = _told(said)
    except Unreadable as error:
        write(_encoded(f"MOUNTS UNKNOWN - {error}\n"), interrupts)
        return State.UNKNOWN.value
    if said.json:
        write(report.as_json(told), interrupts)
        return State.OK.value
    below = "".join(f"{line}\n" for line in report.lines(told, said.verbose))
    write(_encoded(f"MOUNTS OK - {report.summary(told)}\n{below}"), interrupts)
    return State.OK.value


def _encoded(words: str) -> bytes:
    return text.encoded(words, stdout_encoding())


def _said(given: Mapping[str, Any]) -> Values:
    """The values of all options, with those that the configuration gives. Raises UsageError."""
    _, from_files = settled.read_files(given)
    said = command_line.with_defaults(*({line.option.dest: line.value} for line in from_files), given)
    command_line.check_combination(given, said)
    command_line.refuse_beside("incidents", _TAKEN, given)
    origins = {line.option.name: line.origin for line in from_files if line.option.dest not in given}
    try:
        said.incident_file = service_options.incident_file(said)
    except UsageError as error:
        raise blamed(error, origins) from None
    said.mount_points = [settled.mount_point(word) for word in said.mount_points]
    if said.incident_file is None:
        raise UsageError("--incident-file", "none are kept", origin=origins.get("incident-file"))
    if "json" not in given:  # a file gives it for checks
        said.json = False
    return said


def _told(said: Values) -> report.Told:
    """Raises Unreadable."""
    path, status = said.incident_file, absolute("--cache", said.cache)
    kept, damage = _records(path, status)
    history = histories.read(kept)
    present = _present(status)
    if history.last is not None and history.is_stopped:
        present = present._replace(why="the daemon was stopped then")
    since = _since(said.since, present.now)
    incidents = [_up_to_now(each, present) for each in history.incidents]
    wanted = [each for each in incidents if _is_since(each, said.since, since, present)]
    if said.mount_points:
        points = set(map(text.printable, said.mount_points))
        wanted = [each for each in wanted if each.subject.mount_point in points]
    first = None if history.first is None else history.first.at
    notes = damage + ([_unwatched(history, present)] if present.why else [])
    return report.Told(grouping.grouped(wanted), since, first, present.now, notes)


def _records(path: str, status: str) -> tuple[list[Record], list[str]]:
    """The records in all files, each once, and notes about damaged lines. Raises Unreadable.

    A line may stand in two files, or twice in one, if a process was killed between writing it and
    telling so."""
    found = {name: _read(name) for name in (path + files.OLDER, path)}
    pending = status + cache.SUFFIXES[-1]
    found[pending] = _read(pending, needed=False)
    if all(data is None for data in found.values()):
        raise Unreadable(f"{text.printable_argument(path)} is not there: {_ASK}")
    known: dict[bytes, Record] = {}
    notes = [_take_in(data, name, known) for name, data in found.items() if data is not None]
    return list(known.values()), list(filter(None, notes))


def _take_in(data: bytes, path: str, known: dict[bytes, Record]) -> str:
    """Add the records of a file to those that are known by their lines. Returns a note about
    damaged lines. Raises Unreadable without any record."""
    content = records.read(data, known)
    shown = text.printable_argument(path)
    if content.first and not content.good:
        raise Unreadable(f"{shown} is no file of incidents, or damaged: line {content.first} cannot be understood")
    if content.bad > 1:
        return f"{shown}: {content.bad} lines cannot be understood, the first is line {content.first}"
    return f"{shown}: line {content.first} cannot be understood" if content.bad else ""


def _read(path: str, needed: bool = True) -> Optional[bytes]:
    """The content of a file; None without a file. Raises Unreadable."""
    shown = text.printable_argument(path)
    reading.step(f"reading {text.clipped(shown, 400)}")
    try:
        return files.read(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        if not needed:  # a few lines, for some moments
            return None
        raise Unreadable(f"{shown} cannot be read: {text.error_of(error)}: only root and its group may") from None
    except OSError as error:
        raise Unreadable(f"{shown} cannot be read: {text.error_of(error)}") from None
    except files.Untrusted as error:
        raise Unreadable(f"{shown} is not trusted: {error}") from None


def _present(status: str) -> Present:
    """The present, and whether a daemon is watching."""
    try:
        boot, uptime = cache.present()
    except cache.Refused as error:
        return Present(epoch(), "", Boottime(0.0), str(error))
    here = Present(epoch(), boot.decode("ascii", "replace"), Boottime(uptime))
    try:
        reading.step(f"reading {text.clipped(text.printable_argument(status), 400)}")
        cache.check_valid(cache.load(status, cache.parse), status, float("inf"), boot, uptime)
    except cache.Refused as error:
        return here._replace(why=str(error))
    return here


def _unwatched(history: History, present: Present) -> str:
    when = "" if history.last is None else f"the last record is of {text.moment_of(history.last.at)}: "
    return f"{when}{present.why}"


def _up_to_now(incident: Incident, present: Present) -> Incident:
    """The incident; if it is not over, and a daemon is watching, it has lasted until now. If the
    host was booted since, it is over."""
    if incident.end is not None:
        return incident
    if incident.boot != present.boot:
        return incident._replace(end=histories.End.REBOOT) if present.boot else incident
    if present.why:
        return incident
    return incident._replace(until=Boottime(max(incident.until, present.uptime)), ended=present.now)


def _since(since: Optional[Since], now: Epoch) -> Optional[Epoch]:
    if since is None:
        return None
    return since.at if since.ago is None else Epoch(max(0.0, now - since.ago))


def _is_since(incident: Incident, asked: Optional[Since], since: Optional[Epoch], present: Present) -> bool:
    """Whether an incident was not over at a time. In this boot the uptime tells how long ago that
    was: the clock may have been set."""
    if since is None or incident.end is None:
        return True
    if asked is not None and asked.ago is not None and incident.boot == present.boot:
        return incident.until >= present.uptime - asked.ago
    return incident.ended >= since
