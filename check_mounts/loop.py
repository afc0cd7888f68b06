"""Check again and again: the schedule, signals, changes of the mount table, the log, the result
files.

One thread, one poll. Nothing here waits for a mount, for a reader of the log or for systemd; what
is imported and opened is so before the first pass, because later it might lie on a mount that
hangs."""

from __future__ import annotations

import dataclasses
import gc
import os
import resource
import select
import signal
import syslog
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from check_mounts import (
    cache,
    checking,
    detach,
    episodes,
    filesystems,
    jsontext,
    mounttable,
    parts,
    plugin,
    policy,
    processes,
    replacing,
    selection,
    status_file,
    stuck,
    submitting,
    summary,
    syscalls,
    text,
)

# Causes loads these when a mount hangs, which is too late in a process that lives long.
from check_mounts import examination as _examination  # noqa: F401
from check_mounts import kernelstack as _kernelstack  # noqa: F401
from check_mounts import mountstats as _mountstats  # noqa: F401
from check_mounts.checking import Options, Service
from check_mounts.delivery import Courier
from check_mounts.detach import Say
from check_mounts.episodes import Episodes
from check_mounts.home import Home, Refused
from check_mounts.known import Known
from check_mounts.leads import Found
from check_mounts.logs import Log, Stderr, Syslog
from check_mounts.metrics_file import MetricsFile
from check_mounts.model import Mount, MountIdentity, State, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.notify import Notifier
from check_mounts.parts import Report
from check_mounts.policy import Judged, Judgement
from check_mounts.reload import Rejected, again, rehearsed
from check_mounts.selection import Selection
from check_mounts.signals import Interrupts
from check_mounts.survey import Pass
from check_mounts.trial import Trial
from check_mounts.watch import Endings, TableWatch

# A change of the mount table is looked at so many seconds after the last one: a host that starts
# containers changes it all the time.
_BETWEEN_LOOKS = 0.2
# A pass that a change of the table asks for which the table does not show, by the mounts that come
# and go meanwhile, say, comes so many seconds after the last one.
_BETWEEN_EARLY_PASSES = 10.0
# Passes over what is new that may be under way beside each other, each kept by something that
# hangs.
_MOST_PASSES = 4
# The longest sleep: a host that was suspended is noticed so soon after, for what was measured
# before is old.
_LONGEST_SLEEP = 5.0
_SUSPENDED = 2.0
# How long the reading of the configuration may stand still, which is what it does while a file
# hangs, and how long it may take in all: one that is large is slow, and not to be refused for that.
# In seconds.
_TRIAL, _LONGEST_TRIAL = 1.0, 60.0
# How long the loop waits, in seconds, for the links and devices that are looked up.
_LONGEST_LOOK = 2.0
# How many processes may hang in files of the configuration. The next SIGHUP may come because
# somebody has written a file that does not hang into it; by looking at fstab, which the daemon does
# by itself, no more than one comes to them.
_MOST_TRIALS = 4
# How much longer than two intervals and the deadline the daemon may go without a pass that comes to
# its end before it no longer tells systemd that it is well.
_PATIENCE = 10.0
_NAMED = 3
_PRIORITIES = {
    State.OK: syslog.LOG_NOTICE,
    State.WARNING: syslog.LOG_WARNING,
    State.CRITICAL: syslog.LOG_ERR,
    State.UNKNOWN: syslog.LOG_WARNING,
}


def run(options: Options, reload: Callable[[], Options], interrupts: Interrupts, say: Say) -> State:
    """Be the daemon until a signal asks for the end; detached from the caller unless
    ``--foreground``.

    ``reload`` gives the options as the files say now, or raises Rejected. ``say`` prints a verdict:
    that the daemon runs (the caller of a detached one) or why it does not. The state is what the
    exit code says."""
    service = options.service
    assert service is not None

    def serve(refuse: Say, settled: Callable[[], None]) -> State:
        return _serve(options, service, reload, interrupts, refuse, settled)

    if service.foreground:
        return serve(say, lambda: None)
    return detach.run(serve, options.settings.deadline, interrupts, say)


def _serve(
    options: Options,
    service: Service,
    reload: Callable[[], Options],
    interrupts: Interrupts,
    refuse: Say,
    settled: Callable[[], None],
) -> State:
    try:
        home = Home(service, options)
    except Refused as error:
        refuse(State.UNKNOWN, str(error))
        return State.UNKNOWN
    os.chdir("/")
    os.umask(0o022)
    # Before the process grows: the child that talks to syslogd is forked from it.
    log: Log = Stderr() if service.foreground else Syslog(service.facility, service.ident)
    try:
        interrupts.listen(signal.SIGHUP, signal.SIGUSR1)
        _stay_in_memory(log)
        # What exists now is shared with all workers; the collector would touch, and so copy, its
        # pages in each.
        gc.freeze()
        gc.enable()
        Daemon(options, service, home, reload, interrupts, log, settled).run()
    finally:
        log.close()
        home.close()
    return State.OK


def _stay_in_memory(log: Log) -> None:
    """Lock our pages: a page that was swapped out, or of a library not read yet, might have to come
    from what hangs.

    Future pages too only where no limit could then make an allocation fail (mlockall(2)).
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
    try:
        unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        syscalls.mlockall(syscalls.MCL_CURRENT | (syscalls.MCL_FUTURE if unlimited else 0))
    except OSError as error:
        log.write(syslog.LOG_INFO, f"Memory is not locked: {error.strerror}")


@dataclasses.dataclass
class _UnderWay:
    """A pass that goes on. ``whole``: over all mounts. ``begun`` is on CLOCK_BOOTTIME."""

    probing: Pass
    keys: set[MountIdentity]
    whole: bool
    begun: float


class Daemon:
    """The loop and what it remembers."""

    def __init__(
        self,
        options: Options,
        service: Service,
        home: Home,
        reload: Callable[[], Options],
        interrupts: Interrupts,
        log: Log,
        settled: Callable[[], None],
    ) -> None:
        self.options, self.service = options, service
        self._home = home
        self._lost: list[StuckProbe] = []
        self._trial_left: list[int] = []
        self._trial_excused = 0
        self._reload, self._interrupts, self._log, self._settled = reload, interrupts, log, settled
        self._notifier = Notifier(os.environ)
        self._known = Known()
        self._episodes = Episodes()
        self._poll = select.poll()
        self._poll.register(interrupts.wake_fd, select.POLLIN)
        self._table_watch = TableWatch(options.mountinfo)
        self._poll.register(self._table_watch, select.POLLPRI)
        self._endings = Endings(self._poll)
        self._courier = Courier(self._poll)
        self._courier.serve(options.submission)
        self._metrics = MetricsFile(home, self._poll, self._tell_of_metrics)
        # What was looked up of names and devices, and for which options.
        self._found: Optional[Found] = None
        # Where what was declared was last, by where it is now, if a link that leads there was
        # changed.
        self._led_before: dict[bytes, bytes] = {}
        self._looked_for: Optional[Options] = None
        self._lookups_left: list[int] = []
        self._passes: dict[int, _UnderWay] = {}
        now = time.monotonic()
        self._next_pass, self._next_look = now, now
        # A change that has not been looked at; whether it may be in a table that has been read
        # already.
        self._table_changed = self._change_seen = False
        self._recovered = False
        self._begun_all = now
        self._fed = self._progress = now
        self._asleep = _suspended()
        self._taken: Optional[float] = None
        self._held_up: Mapping[str, str] = {}
        self._is_ready = False
        self._complaints: dict[str, str] = {}
        self._fstab: object = None
        self._status_words = "checking for the first time"

    # -- the loop

    def run(self) -> None:
        """Until a signal asks for the end."""
        self._guarded("the start", self._look_at_fstab_first)
        self._log.write(syslog.LOG_INFO, f"Checking every {text.seconds_words(self.service.interval)}")
        while self._interrupts() is None:
            self._feed()
            self._guarded("a round", self._round)
        self._stop()

    def _round(self) -> None:
        ready = {fd for fd, _ in self._poll.poll(max(0.0, self._due() - time.monotonic()) * 1000 + 1)}
        if self._interrupts.wake_fd in ready:
            self._interrupts.drain()
        self._heed_calls()
        if self._table_watch.fileno() in ready:
            self._table_changed = True
        self._look_at_endings(ready)
        self._look_at_table()
        self._start_whole_pass()
        self._go_on(ready)
        self._submit()
        self._metrics.step()

    def _due(self) -> float:
        """When there is something to do at the latest (CLOCK_MONOTONIC)."""
        times = [time.monotonic() + _LONGEST_SLEEP, *(each.probing.due for each in self._passes.values())]
        if not self._is_checking_all():
            times.append(self._next_pass)
        if (self._table_changed or self._recovered) and self._may_begin():
            times.append(self._next_look)
        times += [due for due in (self._endings.due, self._courier.due, self._metrics.due) if due is not None]
        if self._notifier.watchdog_interval is not None:
            times.append(self._fed + self._notifier.watchdog_interval)
        return min(times)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """A defect, or a host that is out of memory, must not end the daemon. If nothing works any
        more, the watchdog does."""
        try:
            action()
        except Exception as error:
            place_of = error.__traceback__
            while place_of is not None and place_of.tb_next is not None:
                place_of = place_of.tb_next
            where = (
                ""
                if place_of is None
                else f" ({os.path.basename(place_of.tb_frame.f_code.co_filename)}:{place_of.tb_lineno})"
            )
            self._complain(what, f"Internal error in {what}: {type(error).__name__}: {error}{where}")
            time.sleep(0.1)  # it may happen again at once

    def _complain(self, what: str, words: Optional[str]) -> None:
        """Log what goes wrong with something once, and that it works again."""
        known = self._complaints.get(what)
        if words is None:
            if known is not None:
                del self._complaints[what]
                self._log.write(syslog.LOG_NOTICE, f"No longer: {known}")
        elif words != known:
            self._complaints[what] = words
            self._log.write(syslog.LOG_ERR, words)

    def _feed(self) -> None:
        """Tell systemd that we are well: only while passes come to their end, not because the loop
        turns."""
        interval = self._notifier.watchdog_interval
        now = time.monotonic()
        longest = 2 * self.service.interval + self.options.settings.deadline + _PATIENCE
        if interval is not None and now - self._fed >= interval and now - self._progress < longest:
            self._fed = now
            self._notifier.watchdog()

    # -- signals

    def _heed_calls(self) -> None:
        calls = self._interrupts.calls
        if "SIGUSR1" in calls:
            calls.discard("SIGUSR1")
            self._next_pass = time.monotonic()
        if "SIGHUP" in calls:
            calls.discard("SIGHUP")
            # Before the first pass the end of a reload is not what READY=1 would be taken for, and
            # systemd does not ask for one.
            is_ready = self._is_ready
            if is_ready:
                self._notifier.reloading()
            self._take_over()
            if is_ready:
                self._notifier.ready(self._status_words)

    def _take_over(self) -> None:
        """Read the configuration again; if it is wrong, go on with the old one and say so."""

        try:
            new, signature = self._read_again()
        except Rejected as error:
            if self._interrupts() is None:
                self._log.write(syslog.LOG_ERR, f"The configuration is kept as it was: {error}")
            return
        assert new.service is not None
        for name in ("cache", "metrics", "facility", "ident"):
            if getattr(new.service, name) != getattr(self.service, name):
                self._log.write(syslog.LOG_WARNING, f"Needs a restart: another {name}")
        # Those that are stuck are remembered in the old state directory only.
        for name in ("mountinfo", "state_dir"):
            if getattr(new, name) != getattr(self.options, name):
                self._log.write(syslog.LOG_WARNING, f"Needs a restart: another {name.replace('_', '-')}")
        self.service = dataclasses.replace(self.service, interval=new.service.interval)
        self.options = dataclasses.replace(new, mountinfo=self.options.mountinfo, state_dir=self.options.state_dir)
        self._courier.serve(self.options.submission)
        self._fstab = signature
        self._next_pass = time.monotonic()
        self._log.write(syslog.LOG_NOTICE, "The configuration was read again")

    def _read_again(self) -> tuple[Options, object]:
        """The options as the files say now, and the signature of the fstab that they were read
        from. Raises Rejected.

        It is taken before: what is written while they are read is the next change.
        """
        path = self.options.fstab
        while True:
            signature = self._fstab_signature(path)
            answers = self._tried(lambda: rehearsed(self._reload), _MOST_TRIALS)
            if answers is None:
                raise Rejected("a file of it does not let itself be read")
            # All files could be read: those that still hang do so in others, and are no reason not
            # to look at fstab.
            self._trial_excused = len(self._trial_left)
            new = again(answers, self._reload)
            if new.fstab == path:
                return new, signature
            path = new.fstab

    def _look_at_fstab_first(self) -> None:
        """The options that we begin with were read some time ago, and nobody knows which fstab that
        was."""
        if self.options.fstab is None:
            return
        try:
            new, self._fstab = self._read_again()
        except Rejected:  # the first pass finds another fstab than none, and says so
            return
        if new.fstab == self.options.fstab:
            demands = dataclasses.replace(self.options.demands, expected=new.demands.expected)
            self.options = dataclasses.replace(self.options, demands=demands, wrong=new.wrong, notes=new.notes)

    def _fstab_signature(self, path: Optional[str]) -> object:
        """What differs when fstab has been edited; the same as ever where it does not let itself be
        looked at."""
        if path is None:
            return None

        def look() -> bytes:
            try:
                status = os.stat(path)
            except OSError as error:
                return b"%d" % (error.errno or 0)
            return b"%d %d %d" % (status.st_mtime_ns, status.st_size, status.st_ino)

        signature = self._tried(look, self._trial_excused + 1)
        return self._fstab if signature is None else signature

    def _tried(self, action: Callable[[], bytes], most: int) -> Optional[bytes]:
        """What ``action`` gives, which reads files: done by a worker, for whatever links lead
        there, and however well they could be read before. None where it does not come to its end,
        or ``most`` workers hang already."""
        self._trial_left = processes.unreaped(self._trial_left)
        self._trial_excused = min(self._trial_excused, len(self._trial_left))  # those that were excused may have ended
        if len(self._trial_left) >= most:
            return None

        try:
            tried = Trial(action)
        except OSError:  # who has no means for a process has none for a pass, which says so
            return None
        self._trial_left += tried.wait(_TRIAL, _LONGEST_TRIAL, lambda: self._interrupts() is not None, self._feed).left
        if tried.left:
            self._log.write(syslog.LOG_WARNING, f"A process that reads for the daemon is {tried.words}")
        return tried.answer

    # -- what begins

    def _start_whole_pass(self) -> None:
        now = time.monotonic()
        asleep = _suspended()
        if asleep - self._asleep > _SUSPENDED:
            self._next_pass = now
        self._asleep = asleep
        if now < self._next_pass or self._is_checking_all():
            return
        # Missed turns are left out, and the others stay where they were: no drift.
        self._next_pass += (int((now - self._next_pass) / self.service.interval) + 1) * self.service.interval
        signature = self._fstab_signature(self.options.fstab)
        if signature != self._fstab:
            self._fstab = signature  # said once, also if it makes no sense
            self._log.write(syslog.LOG_NOTICE, "fstab has changed")
            self._take_over()
            self._next_pass = now + self.service.interval
        try:
            table, same = self._read_table()
            if not same:
                self._look_up(table[0])
            chosen = self._chosen(table)
            self._known.see(table, chosen)
            self._begun_all = now
            self._begin(table, chosen, whole=True)
        except OSError as error:
            self._complain("checking", f"Cannot check: {error.strerror}")
            self._publish_failure(f"cannot check: {error.strerror}")
        else:
            self._complain("checking", None)

    def _look_at_table(self) -> None:
        """Mounts that are new, gone or mounted otherwise; and those that may answer again."""
        now = time.monotonic()
        if not (self._table_changed or self._recovered) or now < self._next_look or not self._may_begin():
            return
        recovered, self._recovered = self._recovered, False
        news = self._table_watch.changed() or (self._table_changed and not self._change_seen)
        self._table_changed = self._change_seen = False
        try:
            table, same = self._read_table()
            if news and same:
                # Something has taken the place of another from which it differs in nothing that the
                # table shows: it once more.
                self._next_pass = min(self._next_pass, max(now, self._begun_all + _BETWEEN_EARLY_PASSES))
            if not same:
                self._look_up(table[0])
            chosen = self._chosen(table)
            new, different = self._known.see(table, chosen)
            new -= {key for each in self._passes.values() for key in each.keys}
            if new or recovered:
                wanted = self._known.to_be_asked(new, recovered)
                self._begin(table, _narrowed(chosen, wanted), whole=False)
            if different:
                self._publish()
            self._complain("a look at the mount table", None)
        except OSError as error:
            self._table_changed, self._recovered = True, recovered or self._recovered
            self._complain("a look at the mount table", f"Cannot look at what was mounted: {error.strerror}")
        # A large table takes its time, of which most should be left for other things.
        self._next_look = time.monotonic() + max(_BETWEEN_LOOKS, 3 * (time.monotonic() - now))

    def _read_table(self) -> tuple[Table, bool]:
        """The mount table as it is now, and whether it is the one that is known. Raises OSError."""
        table = mounttable.read(self.options.mountinfo)
        # The kernel tells of a change before anybody can read it (touch_mnt_namespace in
        # fs/namespace.c): what it tells later is not in.
        self._table_changed = self._table_watch.changed() or self._table_changed
        same = table == self._known.table
        self._change_seen = self._change_seen or (self._table_changed and not same)
        return table, same

    def _begin(self, table: Table, chosen: Selection, whole: bool) -> None:
        self._lost = [probe for probe in self._lost if stuck.process_start(probe.pid) == probe.start_time]
        probing = checking.begin(self.options, table, chosen, lost=self._lost)
        keys = {mount.identity for mount in chosen.selected}
        fd = probing.fileno()
        self._passes[fd] = _UnderWay(probing, keys, whole, time.clock_gettime(time.CLOCK_BOOTTIME))
        self._poll.register(fd, select.POLLIN)

    def _chosen(self, table: Table) -> Selection:
        self._look_up_what_is_new(table[0])
        return selection.select(table[0], checking.led(self.options, self._found).filters)

    def _look_up_what_is_new(self, mounts: Sequence[Mount]) -> None:
        """Other options name other things: nothing is to be said of these before they have been
        looked up."""
        if self._looked_for is not self.options:
            self._look_up(mounts)

    def _look_up(self, mounts: Sequence[Mount]) -> None:
        """Where the names lead now that decide what is probed, as far as it is known from the last
        pass what may be entered."""
        result = None if self._known.last is None else self._known.survey()
        self._take_over_found(
            checking.look_up(self.options, mounts, result, time.monotonic() + _LONGEST_LOOK, self._interrupts)
        )

    def _look_up_after(self, result: Survey) -> None:
        """The same, and all else that has to be looked up, after a pass over all mounts."""
        before = self._found
        self._take_over_found(
            checking.look_up(
                self.options, self._known.mounts, result, time.monotonic() + _LONGEST_LOOK, self._interrupts
            )
        )
        if (
            self._found is not None and before is not None and self._found.leads != before.leads
        ):  # something else may be wanted now
            self._table_changed = self._change_seen = True
            self._known.see(self._known.table, self._chosen(self._known.table))

    def _take_over_found(self, found: Optional[Found]) -> None:
        if (
            found is not None
            and self._found is not None
            and self._looked_for is self.options
            and found.leads != self._found.leads
        ):
            before, now = (checking.led(self.options, each).demands.expected for each in (self._found, found))
            self._led_before = {
                new.mount_point: old.mount_point for old, new in zip(before, now) if new.mount_point != old.mount_point
            }
        self._found, self._looked_for = found, self.options
        self._lookups_left = processes.unreaped([*self._lookups_left, *(found.left if found is not None else ())])

    def _is_checking_all(self) -> bool:
        return any(each.whole for each in self._passes.values())

    def _may_begin(self) -> bool:
        return len(self._passes) < _MOST_PASSES

    # -- what goes on and ends

    def _go_on(self, ready: set[int]) -> None:
        for fd, each in list(self._passes.items()):
            if fd in ready or time.monotonic() >= each.probing.due:
                each.probing.step()
                self._tell_killed(each.probing)
            if each.probing.done:
                self._finish(fd, each)

    def _tell_killed(self, probing: Pass) -> None:
        for pid, mount in probing.book.killed:
            path = text.printable(mount.mount_point)
            self._log.write(
                syslog.LOG_WARNING, f"Timed out waiting for child process {pid} checking {path}: sending SIGKILL"
            )
        probing.book.killed.clear()

    def _finish(self, fd: int, each: _UnderWay) -> None:
        self._poll.unregister(fd)
        del self._passes[fd]
        tables: list[Table] = []

        def reread() -> Table:
            table, same = self._read_table()
            if not same:
                tables.append(table)
            return table

        result = each.probing.finish(reread)
        if tables:
            # The pass has answered by this table: what hung and is covered by now is shadowed.
            # Known of what covers it, that is not the end of the matter.
            self._known.see(tables[-1], self._chosen(tables[-1]))
            self._table_changed = self._change_seen = True
        self._known.merge(result, each.whole, each.probing.book.noted)
        self._endings.follow(self._known.stuck(), each.probing.left.pids)
        self._recovered = self._known.wants_another_try() or self._recovered
        self._lost += each.probing.left.probes
        if each.whole:
            self._taken = each.begun
            # Without it nothing else says, once this daemon has ended, what it leaves behind.
            self._complain("memory", summary.unremembered(result))
        if each.whole:
            self._look_up_after(result)
        judged = self._publish()
        if each.whole:
            self._complaints.pop("a round", None)  # what goes wrong with another one is said again
            self._progress = time.monotonic()
            judgements = () if judged is None else judged.judgements
            words = episodes.checked_words(judgements, summary.counts(judgements), result.duration)
            self._log.write(syslog.LOG_INFO, words)
            self._tell_ready()

    def _tell_ready(self) -> None:
        """There is a first result, be it that nothing can be checked: the daemon runs, and whoever
        waits for it to start goes on."""
        if not self._is_ready:
            self._is_ready = True
            self._settled()
            self._notifier.ready(self._status_words)

    def _look_at_endings(self, ready: set[int]) -> None:
        due = self._endings.due
        if not any(map(self._endings.knows, ready)) and (due is None or time.monotonic() < due):
            return
        if self._known.wants_another_try(*self._endings.ended()):
            self._recovered = True

    # -- what is told

    def _publish(self) -> Optional[Judged]:
        """Log what is news, and write the result files."""
        if self._known.last is None:
            return None
        options = self.options
        self._look_up_what_is_new(self._known.mounts)
        survey_now = self._known.survey()
        late = checking.ToCompare(time.monotonic() + options.settings.deadline, self._interrupts).came
        concluded = checking.concluded(options, survey_now, lambda: self._known.mounts, self._found, late)
        result = self._known.until_asked(concluded, self._led_before)
        judged = policy.judged(result, options.policy, options.allow_none)
        if self._interrupts() is not None:  # it was called off, and what was left out for that is no news
            return judged
        # Where only an autofs trigger is left, what it mounts is not mounted.
        mounted = {mount.mount_point for mount in self._known.mounts if not filesystems.is_trigger(mount)}
        for news in self._episodes.follow(judged.judgements, time.clock_gettime(time.CLOCK_BOOTTIME), mounted):
            self._log.write(_PRIORITIES[news.state], news.line)
        self._status_words = _status_words(judged.judgements)
        self._notifier.status(self._status_words)
        try:
            state, texts, json = judged.state, self._texts(judged), jsontext.report(judged)
        except Exception as error:
            plain = summary.plain_report(judged, error)
            texts, json = [parts.printed(plain, 0)] * 4, jsontext.failure(plain, time.time())
            state = plain.state
            self._complain("the report", f"The report failed: {type(error).__name__}: {error}")
        else:
            self._complain("the report", None)
        assert self._taken is not None
        self._write(state, texts, json, self._taken)
        if self.service.metrics is not None:
            self._write_metrics(self.service.metrics, judged)
        if options.submission is not None:
            results = submitting.results(judged, options, options.submission, self._valid_for())
            self._held_up = submitting.held_up(result, options.submission)
            self._courier.offer(results, self._held_up)
        return judged

    def _texts(self, judged: Judged) -> list[bytes]:
        """The output as each verbosity wants it."""
        limit = self.options.max_output and self.options.max_output - cache.AGE_ROOM
        presentations = [plugin.Presentation(verbosity, self.options.perfdata, limit) for verbosity in range(4)]
        return [parts.printed(plugin.report(judged, presentation), limit) for presentation in presentations]

    def _valid_for(self) -> float:
        """Until the pass after the next one must have come to its end: seconds."""
        return 2 * self.service.interval + self.options.settings.deadline

    def _publish_failure(self, words: str) -> None:
        """Nothing can be measured: that is the result now."""
        words = text.one_line(words)
        report = Report(State.UNKNOWN, words)
        json = jsontext.failure(report, time.time())
        self._write(report.state, [parts.printed(report, 0)] * 4, json, time.clock_gettime(time.CLOCK_BOOTTIME))
        if (
            self.options.submission is not None
        ):  # or what still waits for a server would be delivered as what is true now
            self._courier.offer(submitting.failure(report, self.options.submission, self._valid_for()), self._held_up)
        self._status_words = words
        self._notifier.status(words)
        self._tell_ready()

    def _write(self, state: State, texts: Sequence[bytes], json: bytes, taken: float) -> None:
        home, path = self._home, self.service.cache
        why = home.may_hang("--cache")
        try:
            if why is None:
                home.see_to_it()
        except Refused as error:
            why = str(error)
        except (
            OSError
        ):  # what is open is ours: if there is nothing to write with either, what says otherwise is removed at least
            pass
        if why is None:
            try:
                status_file.write_in(home.directory, home.name, state.value, texts, taken, taken + self._valid_for())
            except OSError as error:
                why = str(error.strerror)
            # Even then: of neither is to stay what says that all is well.
            try:
                replacing.replace_in(home.directory, f"{home.name}.json", json, verdict=json.partition(b'"summary"')[0])
            except OSError as error:
                path, why = (path, why) if why is not None else (f"{path}.json", str(error.strerror))
        self._complain("the result", None if why is None else f"Cannot write {text.printable_argument(path)}: {why}")

    def _submit(self) -> None:
        """Go on with what is on its way to monitoring servers."""
        for receipt in self._courier.step():
            name = receipt.destination.name
            self._complain(
                f"submission to {name}", None if receipt.error is None else f"Cannot submit to {name}: {receipt.error}"
            )

    def _write_metrics(self, path: str, judged: Judged) -> None:
        from check_mounts import metrics  # loaded already where they are wanted

        last = self._known.last
        assert last is not None
        passes = metrics.Passes(
            count=self._known.passes,
            started=last.started,
            duration=last.duration,
            stuck=len(self._known.stuck()),
            interval=self.service.interval,
            last_success=self._known.last_success,
            submissions=self._courier.counts(),
        )
        try:
            self._metrics.offer(path, metrics.render(judged, passes))
        except Exception as error:  # a defect there costs the metrics, and nothing else
            self._tell_of_metrics(f"{type(error).__name__}: {error}")

    def _tell_of_metrics(self, why: Optional[str]) -> None:
        path = text.printable_argument(self.service.metrics or "")
        self._complain("metrics", None if why is None else f"Cannot write {path}: {why}")

    # -- the end

    def _stop(self) -> None:
        """Give up what is under way. What is stuck is remembered already; nobody waits for it."""
        name = self._interrupts()
        self._notifier.stopping(f"stopped by {name}")
        for each in self._passes.values():
            each.probing.abandon(str(name))
        self._courier.close()
        self._metrics.close()
        self._table_watch.close()
        self._endings.close()
        self._log.write(syslog.LOG_NOTICE, f"Stopped by {name}")


def _narrowed(chosen: Selection, wanted: set[MountIdentity]) -> Selection:
    """What was chosen, to be probed only as far as it is wanted."""
    selected = tuple(mount for mount in chosen.selected if mount.identity in wanted)
    return dataclasses.replace(chosen, selected=selected, shadowed=(), missing=())


def _suspended() -> float:
    """How many seconds this host has been suspended since its boot: CLOCK_MONOTONIC leaves them out
    (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _status_words(judgements: Sequence[Judgement]) -> str:
    """``42 mounts, 1 timed out: /home``."""
    words = [text.counted(len(summary.relevant(judgements)), "mount")]
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
    if lines := policy.bad_lines(judgements):
        words.append(f"{text.counted(lines, 'line')} not understood")
    return ", ".join(words)
