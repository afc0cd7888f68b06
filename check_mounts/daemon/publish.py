"""All outputs of the daemon, made from a judged survey: the log, systemd, the files of the result,
the metrics and the monitoring servers."""

from __future__ import annotations

import syslog
import time
from collections.abc import Callable, Mapping, Sequence

from check_mounts import cache, text
from check_mounts.clocks import Boottime, boottime
from check_mounts.daemon import episodes, status_file
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.daemon.drills import Drills
from check_mounts.daemon.home import Home, Refused
from check_mounts.daemon.known import Known
from check_mounts.daemon.metrics_file import MetricsFile
from check_mounts.daemon.newsroom import Newsroom
from check_mounts.guard import defects
from check_mounts.judging.judgements import Judgement, bad_lines, drills
from check_mounts.judging.policy import Judged
from check_mounts.model import State
from check_mounts.options.understood import Options
from check_mounts.passive import submitting
from check_mounts.passive.delivery import Courier, Receipt
from check_mounts.report import details, jsontext, library, parts, plugin, summary
from check_mounts.report import done as _done  # noqa: F401  a healthy mount of NFS needs it after the first pass
from check_mounts.report.parts import Detail, Report, Worth
from check_mounts.system.notify import Notifier
from check_mounts.system.tasks import Task
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.report.metrics import Memory

# The status for systemd names this many mounts of each condition.
_NAMED = 3
# How many characters of each trouble it holds.
_LONGEST_NOTE = 300
# How long systemd should wait for the end of a reload, in seconds: two readings of many files.
_LONGEST_RELOAD = 150.0


class Publisher:
    """Keeps all outputs of the daemon up to date. ``settled`` is called once there is a first
    result."""

    def __init__(
        self,
        home: Home,
        log: Diary,
        complaints: Complaints,
        notifier: Notifier,
        settled: Callable[[], None],
        newsroom: Newsroom,
    ) -> None:
        self._home, self._log, self._complaints = home, log, complaints
        self._notifier, self._settled = notifier, settled
        self._newsroom = newsroom
        self._courier = Courier(self._log_receipt)
        self._metrics = MetricsFile(home, self._tell_of_metrics)
        self.drills = Drills(home, log)
        # The destinations that must not be tried, and why.
        self._held_up: Mapping[str, str] = {}
        # What stays the same from one result to the next, for the JSON and the metrics.
        self._pieces: jsontext.Memory = {}
        self._labels: Memory = {}
        self._is_ready = False
        self._reloaded = time.time()
        self._status_words = "checking for the first time"

    @property
    def tasks(self) -> Sequence[Task]:
        """The work that goes on after a result was published."""
        return self._courier, self._metrics, *self._newsroom.tasks

    def serve(self, options: Options) -> None:
        """Use these options from now on."""
        assert options.service is not None
        self._log.only_changes = options.service.log_changes
        self._reloaded = time.time()
        self._courier.serve(options.submission)
        self._newsroom.serve(options.service)
        for name, why in (("nagiosplugin", library.why), ("prometheus_client", options.service.no_metrics)):
            words = f"{why[:1].upper()}{why[1:]}, and restart the daemon"
            self._complaints.tell(Part.LIBRARY, words if why else None, name)
        self._complaints.keep(Part.SERVICES, ())  # they are tried again
        self._complaints.keep(Part.SUBMISSION, [name for name, _, _ in self._courier.counts()])

    def publish(self, truth: Judged, options: Options, known: Known, taken: Boottime, submits: bool = True) -> Judged:
        """Log what is new, and write the result. ``taken``: when the pass over all mounts began.
        ``submits``: also to the monitoring servers. Returns what was published: during a drill, it
        differs from the ``truth``."""
        self._newsroom.tell(truth, options, known.mounts)
        judged = self.drills.shown(truth, options)
        self._newsroom.tell_drill(judged, options)
        self._status_words = _status_words(judged.judgements)
        self._notifier.status(self._status)
        # On a full disk, a longer result finds no room; the other outputs show that.
        state, texts, json = self._report(self._noted(judged, Part.RESULT), options)
        self._write(options, state, texts, json, taken)
        assert options.service is not None
        if options.service.metrics is not None and not options.service.no_metrics:
            self._write_metrics(options.service.metrics, judged, options.service.interval, known)
        if options.submission is not None and submits:
            # One that fails to be delivered would arrive only once that is no longer true.
            noted = self._noted(judged, Part.SUBMISSION)
            results = submitting.results(noted, options.output, options.submission, _valid_for(options))
            self._held_up = submitting.held_up(judged.survey, options.submission)
            self._courier.offer(results, self._held_up)
        return judged

    def _noted(self, judged: Judged, *without: Part) -> Judged:
        """The judged survey, with a note on each trouble of the daemon itself."""
        # A note of the survey says already that nothing can be remembered.
        notes = self._complaints.notes(Part.MEMORY, *without)
        return judged._replace(survey=judged.survey._replace(notes=(*notes, *judged.survey.notes)))

    def fail(self, words: str, options: Options) -> None:
        """Publish that nothing can be checked, and why."""
        words = text.one_line(words)
        notes = self._complaints.notes(Part.CHECKING)
        report = Report(State.UNKNOWN, words)
        noted = report._replace(lines=[Detail(f"note: {note}", Worth.NOTE) for note in notes])
        json = jsontext.failure(report, time.time(), notes)
        self._write(options, report.state, [parts.printed(noted, 0)] * 4, json, boottime())
        # Without this, older results that still wait for a server would be delivered as current.
        if options.submission is not None:
            failure = submitting.failure(report, options.submission, _valid_for(options))
            self._courier.offer(failure, self._held_up)
        self._status_words = words
        self._notifier.status(self._status)
        self.get_ready()

    @property
    def _status(self) -> str:
        """The status for systemd."""
        notes = (text.clipped(note, _LONGEST_NOTE) for note in self._complaints.notes(Part.CHECKING))
        return "; ".join([self._status_words, *notes])

    def get_ready(self) -> None:
        """Say once that the daemon runs: there is a first result, even if it says that nothing can
        be checked."""
        if not self._is_ready:
            self._is_ready = True
            self._settled()
            self._notifier.ready(self._status)

    def reload(self, action: Callable[[], None]) -> None:
        """Do ``action``, which reads the configuration again, and tell systemd when that begins and
        ends.

        Before the end of the first pass, systemd is not told: it would take the end of a reload for
        the end of the start. Nor does it ask for a reload before that."""
        is_ready = self._is_ready
        if is_ready:
            self._notifier.reloading()
            self._notifier.extend(_LONGEST_RELOAD)
        action()
        if is_ready:
            self._notifier.ready(self._status)

    def log_pass(self, judged: Optional[Judged], seconds: float) -> None:
        """Log that a pass over all mounts has ended."""
        judgements = () if judged is None else judged.judgements
        self._newsroom.note_checked()
        self._log.note_pass(episodes.checked_words(judgements, summary.counts(judgements), seconds))

    def log_kill(self, pid: int, mount_point: bytes) -> None:
        """Log that a probe was killed, because its mount timed out."""
        if self._log.only_changes and self._newsroom.is_hung(mount_point):
            return
        path = text.printable(mount_point)
        line = f"Timed out waiting for child process {pid} checking {path}: sending SIGKILL"
        self._log.write(syslog.LOG_WARNING, line)

    def stopping(self, name: str) -> None:
        """Tell systemd that this signal has asked for the end."""
        self._notifier.stopping(f"stopped by {name}")

    def close(self) -> None:
        """Stop."""
        self.drills.close()
        self._courier.close()
        self._metrics.close()
        self._newsroom.close()

    def _report(self, judged: Judged, options: Options) -> tuple[State, Sequence[bytes], bytes]:
        """Make the reports: the state, the output for each verbosity, and the JSON. If one of the
        two fails, the other one holds what was measured."""
        try:
            state, texts = self._texts(judged, options)
            error = None
        except Exception as caught:
            error = caught
            plain = summary.plain_report(judged, error)
            state, texts = plain.state, [parts.printed(plain, 0)] * 4
        try:
            json = jsontext.report(judged, self._pieces)
        except Exception as caught:
            plain = summary.plain_report(judged, caught)
            json = jsontext.failure(plain, time.time())
            if error is None:
                error = caught
                state, texts = self._texts(judged, options, plain.failures[-1].words)
        words = None if error is None else f"The report failed: {type(error).__name__}: {error}"
        self._complaints.tell(Part.REPORT, words)
        if error is not None:
            defects.say(error)
        return state, texts, json

    def _texts(self, judged: Judged, options: Options, why: str = "") -> tuple[State, Sequence[bytes]]:
        """The state, and the output for each verbosity; at least UNKNOWN if ``why`` says so."""
        limit = options.output.max_output and options.output.max_output - cache.AGE_ROOM
        shown = plugin.Presentation(0, options.output.perfdata, limit, age_room=cache.AGE_ROOM)
        plain = summary.doubtful(plugin.report(judged, shown), why)
        reports = [plain, *[plain._replace(lines=details.details(judged, verbosity)) for verbosity in (1, 2, 3)]]
        return plain.state, [parts.printed(report, limit) for report in reports]

    def _write(self, options: Options, state: State, texts: Sequence[bytes], json: bytes, taken: float) -> None:
        assert options.service is not None
        home, path = self._home, options.service.cache
        until = taken + _valid_for(options)
        why = self._prepare_home()
        if why is None:
            try:
                status_file.write_in(home.directory, home.name, state.value, texts, taken, until)
            except OSError as error:
                why = str(error.strerror)
            # The JSON is written even if that failed: neither file may go on saying that all is
            # well.
            try:
                status_file.write_json_in(home.directory, f"{home.name}.json", json, taken, until)
            except OSError as error:
                path, why = (path, why) if why is not None else (f"{path}.json", str(error.strerror))
        self._complaints.tell(
            Part.RESULT, None if why is None else f"Cannot write {text.printable_argument(path)}: {why}"
        )

    def _prepare_home(self) -> Optional[str]:
        """Make the directory of the result ready. Returns why it cannot be written to; None if it
        can."""
        why = self._home.may_hang("--cache")
        try:
            if why is None:
                self._home.restore()
        except Refused as error:
            return str(error)
        except OSError:
            # The open directory is ours. Even if it cannot be written to, old files that say that
            # all is well are at least removed.
            pass
        return why

    def _log_receipt(self, receipt: Receipt) -> None:
        name = receipt.destination.name
        parked = self._courier.parked(name)
        self._complaints.tell(Part.SERVICES, parked and f"Cannot submit all to {name}: {parked}", name)
        is_well = receipt.error is None or receipt.lacks_services_only
        words = None if is_well else f"Cannot submit to {name}: {receipt.error}"
        self._complaints.tell(Part.SUBMISSION, words, name)

    def _write_metrics(self, path: str, judged: Judged, interval: float, known: Known) -> None:
        from check_mounts.report import metrics  # loaded already if metrics are wanted

        assert known.last is not None
        passes = metrics.Passes(
            made=known.passes,
            started=known.last.started,
            duration=known.last.duration,
            stuck=len(known.stuck()),
            interval=interval,
            last_success=known.last_success,
            submissions=self._courier.counts(),
            reloaded=self._reloaded,
            troubles=self._complaints.counts(),
        )
        try:
            self._metrics.offer(path, metrics.render(judged, passes, self._labels))
        except Exception as error:  # a defect there must cost nothing but the metrics
            self._tell_of_metrics(path, f"{type(error).__name__}: {error}")
            defects.say(error)

    def _tell_of_metrics(self, path: str, why: Optional[str]) -> None:
        words = None if why is None else f"Cannot write {text.printable_argument(path)}: {why}"
        self._complaints.tell(Part.METRICS, words)


def _valid_for(options: Options) -> float:
    """For how many seconds a result is valid: until the pass after the next one must have ended."""
    assert options.service is not None
    return 2 * options.service.interval + options.settings.deadline


def _status_words(judgements: Sequence[Judgement]) -> str:
    """``42 mounts, 1 timed out: /home``."""
    mark = summary.DRILL if drills(judgements) else ""
    words = [mark + text.counted(summary.relevant(judgements), "mount")]
    groups: dict[str, list[str]] = {}
    for judgement in summary.failed_mounts(judgements):
        names = groups.setdefault(judgement.condition.words, [])
        names.append(text.clipped(text.printable(judgement.finding.mount_point), 60))
    for condition, names in groups.items():
        dots = ", ..." if len(names) > _NAMED else ""
        words.append(f"{len(names)} {condition}: {', '.join(names[:_NAMED])}{dots}")
    words += [
        text.clipped(each.finding.detail, 100)
        for each in summary.failed(judgements)
        if not (each.finding.is_mount or each.finding.line)
    ]
    if lines := bad_lines(judgements):
        words.append(f"{text.counted(lines, 'line')} not understood")
    return ", ".join(words)
