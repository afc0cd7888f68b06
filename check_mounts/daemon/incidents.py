"""The incidents that the daemon keeps: what begins, changes and ends, as lines of a file.

The file must outlive a reboot, so it lies on a disk, which may be frozen or full. A worker writes
to it, and lines wait for that in memory. Until they are written they also stand in a file in the
directory of the result, which the daemon writes to anyway: what is killed loses none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from check_mounts import cache, filesystems, text
from check_mounts.clocks import PAST, Boottime, Monotonic, after, boottime, epoch, monotonic
from check_mounts.daemon.episodes import Change, Episode
from check_mounts.daemon.errand import Errand, Result
from check_mounts.daemon.home import INCIDENTS, Home
from check_mounts.daemon.subjects import Subject
from check_mounts.incidents import files, records
from check_mounts.incidents.records import Kind, Record, Stamp, Status, Waiting
from check_mounts.judging.judgements import Judgement
from check_mounts.system import directories, replacing
from check_mounts.typed import NamedTuple, Optional

# In seconds: how long a worker may take to write before it is killed; how long the daemon waits for
# it when the daemon ends; how soon the next worker tries what could not be written.
_LONGEST_WRITE, _LAST_WRITE, _AGAIN = 10.0, 0.3, 20.0
# The size of a worker's answer, in bytes: how many bytes it has written, and why not all.
_ANSWER = 256
# How many bytes of lines one worker writes, and how many may wait.
_BATCH, _MOST_WAITING = 256 << 10, 1 << 20
# Records about what was found out later, for each incident: a cause that changes with each pass
# must not fill the file.
_MOST_EVIDENCE = 5
_LONGEST_SOURCE = 1000
# The suffix of the lines that wait, beside the result.
PENDING = cache.SUFFIXES[-1]


class _Open(NamedTuple):
    """An incident that is not over, as it was last recorded. ``evidence`` counts records."""

    incident: str
    since: Boottime
    subject: records.Subject
    status: Status
    evidence: int = 0


class Incidents:
    """Keeps incidents in the file at ``path``. A task that never ends (see tasks.Task). ``tell`` is
    called after each attempt to write, with why the file cannot be written to; None if it was."""

    done = False

    def __init__(self, path: str, home: Home, tell: Callable[[Optional[str]], None]) -> None:
        self._path, self._home, self._tell = path, home, tell
        self._errand = Errand(self._write, _ANSWER, _LONGEST_WRITE, self._take)
        # By mount point, and whether it is only tried.
        self._open: dict[tuple[bytes, bool], _Open] = {}
        self._given = b""
        self._not_before = PAST
        self._boot = _boot()
        self._begun = 0
        self._has_checked = False
        self._waiting = self._left_by_another()
        self._note(Kind.START)

    # -- what happens

    def follow(self, change: Change, subject: Subject, blocked: int, is_drill: bool) -> None:
        """Take in a change. ``blocked`` is the number of mounts below that could not be asked."""
        key = change.mount_point, is_drill
        known = self._open.get(key)
        if change.now is None or change.judgement is None:
            if known is not None:
                del self._open[key]
                self._note(Kind.END, known, why=f"not {change.gone} any more" if change.gone else "ok again")
            return
        status = _status(change.judgement, blocked)._replace(drill=is_drill)
        if known is None:
            self._begin(change.now, subject, status)
        else:
            self._open[key] = now = known._replace(status=status)
            self._note(Kind.CHANGE, now, was=known.status.condition)

    def follow_cause(self, judgement: Judgement, blocked: int) -> None:
        """Take in what was found out about a mount point whose condition has not changed."""
        key = judgement.finding.mount_point, False
        known = self._open.get(key)
        if known is None or known.evidence >= _MOST_EVIDENCE or judgement.condition.value != known.status.condition:
            return
        diagnosis, blocked = judgement.finding.diagnosis, max(blocked, known.status.blocked)
        if (diagnosis and diagnosis != known.status.diagnosis) or blocked > known.status.blocked:
            status = _status(judgement, blocked)
            self._open[key] = now = known._replace(status=status, evidence=known.evidence + 1)
            self._note(Kind.EVIDENCE, now)

    def follow_waiting(self, mount_points: Sequence[bytes], waiting: Waiting) -> None:
        """Take in which processes wait for the mounts at these mount points."""
        for mount_point in mount_points:
            known = self._open.get((mount_point, False))
            if known is not None:
                self._note(Kind.EVIDENCE, known, waiting=waiting)

    def note_checked(self) -> None:
        """Note that all mounts were checked."""
        if not self._has_checked:
            self._has_checked = True
            self._note(Kind.CHECKED)

    @property
    def has_any(self) -> bool:
        """Whether an incident is not over."""
        return bool(self._open)

    def _begin(self, episode: Episode, subject: Subject, status: Status) -> None:
        self._begun += 1
        now = boottime()
        since = Boottime(max(0.0, min(now, episode.since if episode.hung is None else episode.hung)))
        name = f"{self._boot[:8]}-{now:.3f}-{self._begun}"
        known = self._open[subject.mount_point, status.drill] = _Open(name, since, _shown(subject), status)
        self._note(Kind.BEGIN, known)

    def _note(
        self,
        kind: Kind,
        known: Optional[_Open] = None,
        was: str = "",
        why: str = "",
        waiting: Optional[Waiting] = None,
    ) -> None:
        record = Record(kind, Stamp(epoch(), boottime(), self._boot), was=was, why=why, waiting=waiting)
        if known is not None:
            record = record._replace(
                incident=known.incident, since=known.since, subject=known.subject, status=known.status
            )
        line = records.encoded(record)
        self._put_aside(line)
        self._waiting.append(line)
        while sum(map(len, self._waiting)) > _MOST_WAITING:
            del self._waiting[0]

    # -- the lines that wait

    def _left_by_another(self) -> list[bytes]:
        """The lines that an earlier daemon could not write any more."""
        try:
            data = files.read_in(self._home.directory, self._pending) or b""
        except (OSError, files.Untrusted):
            return []
        return [line + b"\n" for line in data.split(b"\n") if records.decoded(line) is not None]

    def _put_aside(self, line: bytes) -> None:
        """Keep a line in the directory of the result until a worker has written it."""
        if self._home.may_hang("--cache") is not None:
            return
        try:
            files.append(self._home.directory, self._pending, line, _MOST_WAITING, lasts=False)
        except (OSError, files.Untrusted):
            pass  # the worker tells if it cannot write either

    @property
    def _pending(self) -> str:
        return self._home.name + PENDING

    # -- the task

    def fileno(self) -> int:
        """A descriptor that is readable once a worker has answered."""
        return self._errand.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        due = self._errand.due(bool(self._waiting))
        return due if self._errand.is_under_way else max(due, self._not_before)

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._errand.step(until)
        if (
            self._waiting
            and not (self._errand.is_under_way or self._errand.is_stuck)
            and monotonic() >= self._not_before
        ):
            self._begin_to_write()

    def _begin_to_write(self) -> None:
        self._given = _beginning(self._waiting)
        why = self._errand.begin_unless(self._home.may_hang(INCIDENTS))
        if why is not None:
            self._fail(why)

    def _take(self, result: Result) -> None:
        if result.answer is None:
            self._fail(result.why)
            return
        size, _, why = result.answer.decode("utf-8", "replace").partition(" ")
        self._drop(int(size) if size.isdigit() else 0)
        if why:
            self._fail(why)
        else:
            self._not_before = PAST
            self._tell(None)

    def _drop(self, size: int) -> None:
        """Forget the lines that were written: so many bytes of those that a worker was given."""
        written = self._given[:size]
        while self._waiting and written.startswith(self._waiting[0]):
            written = written[len(self._waiting[0]) :]
            del self._waiting[0]
        if not self._waiting and self._home.may_hang("--cache") is None:
            replacing.remove(self._home.directory, self._pending)

    def _fail(self, why: str) -> None:
        self._not_before = after(_AGAIN)
        self._tell(why)

    def _write(self) -> bytes:
        """In the worker: append to the file."""
        written, why = 0, ""
        head, _, name = self._path.rpartition("/")
        try:
            directory = directories.open_directory(head or "/", 0o755, rooted=True)
            try:
                written = files.append(directory, name, self._given, files.MOST)
                why = "" if written == len(self._given) else "the disk is full"
            finally:
                os.close(directory)
        except OSError as error:
            why = str(error.strerror)
        except (directories.Unusable, files.Untrusted) as error:
            why = str(error)
        return text.encoded(f"{written} {why}", "utf-8")

    def close(self) -> None:
        """Note the end of the daemon, and stop. What waits gets a moment more."""
        self._note(Kind.STOP)
        until, self._not_before = after(_LAST_WRITE), min(self._not_before, monotonic())
        while (self._waiting or self._errand.is_under_way) and not self._errand.is_stuck and monotonic() < until:
            if monotonic() < self._not_before:
                break
            self.step(until)
        self._errand.end()


def _boot() -> str:
    """The ID of this boot; the same for all if /proc does not show it."""
    try:
        return cache.boot_id().decode("ascii", "replace")
    except OSError:
        return "unknown"


def _beginning(lines: Sequence[bytes]) -> bytes:
    """As many lines as one worker writes, at least one."""
    size, count = 0, 0
    for line in lines:
        if count and size + len(line) > _BATCH:
            break
        size, count = size + len(line), count + 1
    return b"".join(lines[:count])


def _shown(subject: Subject) -> records.Subject:
    source = filesystems.source_words(subject.source, subject.fs_type or None)
    server = None if subject.server is None else text.printable(subject.server)
    return records.Subject(
        text.printable(subject.mount_point),
        source[:_LONGEST_SOURCE] or None,
        text.printable(subject.fs_type) or None,
        server and server[:_LONGEST_SOURCE],
    )


def _status(judgement: Judgement, blocked: int) -> Status:
    finding = judgement.finding
    return Status(
        judgement.condition.value, judgement.state.name, judgement.words, finding.diagnosis, finding.remarks, blocked
    )
