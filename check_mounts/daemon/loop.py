"""The daemon's loop: it waits for tasks and signals, and decides what to do next.

One thread, one poll. Nothing here waits for a mount, for a reader of the log or for systemd. All
modules are imported, and all files opened, before the first pass: later they might lie on a mount
that hangs."""

from __future__ import annotations

import gc
import os
import select
import signal
import syslog
from collections.abc import Callable

from check_mounts import __version__, text
from check_mounts.checks import checking, conclude

# A later configuration may need it.
from check_mounts.checks import elsewhere as _elsewhere  # noqa: F401
from check_mounts.clocks import Monotonic, after, monotonic
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.daemon.habits import Habits
from check_mounts.daemon.home import Home
from check_mounts.daemon.known import Known
from check_mounts.daemon.lookout import Lookout
from check_mounts.daemon.newsroom import Newsroom
from check_mounts.daemon.passes import Passes, UnderWay
from check_mounts.daemon.publish import Publisher
from check_mounts.daemon.reload import Reloader
from check_mounts.daemon.schedule import Schedule
from check_mounts.daemon.watch import Changes, Endings
from check_mounts.daemon.watchdog import Watchdog
from check_mounts.judging import policy
from check_mounts.judging.judgements import notable
from check_mounts.judging.policy import Judged
from check_mounts.model import MountIdentity, Survey
from check_mounts.mounttable import Table
from check_mounts.options.understood import Options

# A pass loads these when a mount hangs, which is too late in a process that lives long.
from check_mounts.probing import devicefaults as _devicefaults  # noqa: F401
from check_mounts.probing import explaining as _explaining  # noqa: F401
from check_mounts.probing import interviews as _interviews  # noqa: F401
from check_mounts.probing import sparing as _sparing  # noqa: F401
from check_mounts.report import summary
from check_mounts.selection import Selection
from check_mounts.system import memory
from check_mounts.system.logs import Log
from check_mounts.system.notify import Notifier
from check_mounts.system.signals import Interrupts
from check_mounts.system.tasks import Task
from check_mounts.typed import Optional

# The longest sleep, in seconds. The loop notices a suspension of the host no later than this after
# its end.
_LONGEST_SLEEP = 5.0


class Daemon:
    """All that the daemon remembers, and the loop that uses it."""

    def __init__(
        self,
        options: Options,
        home: Home,
        reload: Callable[[], Options],
        interrupts: Interrupts,
        log: Log,
        settled: Callable[[], None],
    ) -> None:
        self._interrupts, self._log = interrupts, Diary(log)
        self._complaints = Complaints(self._log)
        notifier = Notifier(os.environ)
        self._watchdog = Watchdog(notifier)
        assert options.service is not None
        newsroom = Newsroom(home, self._log, self._complaints, options.service.incidents)
        self._publisher = Publisher(home, self._log, self._complaints, notifier, settled, newsroom)
        self._reloader = Reloader(reload, self._complaints, self._log, interrupts, self._watchdog.feed)
        self._known = Known()
        self._lookout = Lookout(interrupts)
        self._schedule = Schedule()
        check = options.check
        check = options.check
        self._changes = Changes(None if check.root else check.mountinfo, check.reader())
        self._endings = Endings(checking.procfs_of(check))
        habits = Habits(options.service.usual, home, self._complaints, self._log)
        self._passes = Passes(self._publisher.log_kill, habits)
        self._is_untidy = True
        self._poll = select.poll()
        self._poll.register(interrupts.wake_fd, select.POLLIN)
        self._poll.register(self._changes, select.POLLPRI)
        for task in self._tasks:
            self._poll.register(task, select.POLLIN)
        self._adopt(options)

    @property
    def _tasks(self) -> tuple[Task, ...]:
        return self._endings, self._passes, *self._publisher.tasks, *self._passes.others

    def _adopt(self, options: Options) -> None:
        """Use these options from now on."""
        self._options = options
        if options.debug:
            self._complaints.debug()
        self._publisher.serve(options)
        self._passes.habits.serve(options)
        if options.check.root is None:  # a daemon keeps to the process that it began with
            self._changes.read_with(options.check.reader())
        self._watchdog.expect(self._interval, options.settings.deadline)

    @property
    def _interval(self) -> float:
        assert self._options.service is not None
        return self._options.service.interval

    # -- the loop

    def run(self) -> None:
        """Serve until a signal asks for the end."""
        self._complaints.guard("the start", self._start)
        every = text.seconds_words(self._interval)
        # After an upgrade without a restart, this is another version than that on the disk.
        self._log.write(syslog.LOG_INFO, f"Checking every {every} (check_mounts {__version__})")
        while self._interrupts() is None:
            self._watchdog.feed()
            self._complaints.guard("a round", self._round)
            self._complaints.guard("the outputs", self._show_troubles)
            self._tidy()
        self._stop()

    def _tidy(self) -> None:
        """Give back the memory of passes that have ended, which would otherwise stay in use for
        some passes more: the objects of a pass refer to each other."""
        if self._is_untidy:
            self._is_untidy = False
            gc.collect()
            memory.give_back()

    def _start(self) -> None:
        self._options = self._reloader.read_fstab_again(self._options)

    def _show_troubles(self) -> None:
        """Make the outputs again if a trouble of the daemon itself has begun or ended."""
        if self._complaints.is_news:
            self._publish(again=True)

    def _round(self) -> None:
        ready = {fd for fd, _ in self._poll.poll(max(0.0, self._due() - monotonic()) * 1000 + 1)}
        if self._interrupts.wake_fd in ready:
            self._interrupts.drain()
        self._heed_calls()
        if self._changes.fileno() in ready:
            self._changes.notice()
        self._endings.step()
        self._heed_endings()
        if monotonic() >= self._changes.due and self._passes.has_room:
            self._look_at_table()
        self._schedule.notice_suspension()
        if monotonic() >= self._schedule.due and not self._passes.is_checking_all:
            self._start_whole_pass()
        if self._schedule.take_end_of_grace():
            self._publish()
        if self._publisher.drills.step():
            self._publish()
        self._passes.step()
        for each in self._passes.take_ended():
            self._is_untidy = True
            self._finish(each)
        for task in (*self._publisher.tasks, *self._passes.others):
            task.step()
        if self._passes.take_news():
            self._publish()

    def _due(self) -> Monotonic:
        """The time of the next round, at the latest."""
        times = [
            after(_LONGEST_SLEEP),
            self._watchdog.due,
            self._complaints.due,
            self._schedule.grace_due,
            self._publisher.drills.due,
            *(task.due for task in self._tasks),
        ]
        if not self._passes.is_checking_all:
            times.append(self._schedule.due)
        if self._passes.has_room:
            times.append(self._changes.due)
        return min(times)

    def _heed_calls(self) -> None:
        if self._interrupts.take_call(signal.SIGUSR1):
            self._schedule.ask_now()
            if self._publisher.drills.look():
                self._publish()
        if self._interrupts.take_call(signal.SIGHUP):
            self._publisher.reload(self._take_over)

    def _take_over(self) -> None:
        """Read the configuration again. If it is wrong, the old one stays in force."""
        new = self._reloader.take_over(self._options)
        if new is not None:
            self._adopt(new)
            self._schedule.ask_now()
            self._log.write(syslog.LOG_NOTICE, "The configuration was read again")

    def _heed_endings(self) -> None:
        held, soon = self._endings.take_ended()
        if (held or soon) and self._known.grant_another_try(held, soon):
            self._changes.recovered = True

    # -- what begins

    def _start_whole_pass(self) -> None:
        now = monotonic()
        self._schedule.advance(now, self._interval)
        if self._reloader.look_at_fstab(self._options):  # logged once, even if it makes no sense
            self._log.write(syslog.LOG_NOTICE, "fstab has changed")
            self._take_over()
            self._schedule.restart(now, self._interval)
        if self._options.check.spaces is not None:
            self._options.check.spaces.renew()
        try:
            table, chosen, _ = self._read_table()
            self._known.see(table, chosen)
            self._schedule.note_begin(now)
            self._passes.begin(self._options.check, table, chosen, whole=True)
        except OSError as error:
            self._complaints.tell(Part.CHECKING, f"Cannot check: {error.strerror}")
            self._publisher.fail(f"cannot check: {error.strerror}", self._options)
        else:
            self._complaints.tell(Part.CHECKING, None)

    def _look_at_table(self) -> None:
        """Look for mounts that are new or gone, that have other options, or that may answer
        again."""
        now = monotonic()
        changed, recovered = self._changes.look()
        try:
            self._begin_what_is_new(now, changed, recovered)
            self._complaints.tell(Part.MOUNT_TABLE, None)
        except OSError as error:
            self._changes.ask_again(recovered)
            self._complaints.tell(Part.MOUNT_TABLE, f"Cannot check new mounts: {error.strerror}")
        self._changes.note_look(now)

    def _begin_what_is_new(self, now: Monotonic, changed: bool, recovered: bool) -> None:
        """Begin a pass over the mounts that are new or may answer again. Raises OSError."""
        table, chosen, same = self._read_table()
        if changed and same:
            # A mount has taken the place of another one, and in the table they look the same. So
            # all mounts are asked once more.
            self._schedule.ask_soon(now)
        new, different = self._known.see(table, chosen)
        new -= self._passes.keys
        if new or recovered:
            wanted = self._known.to_be_asked(new, recovered)
            self._passes.begin(self._options.check, table, _narrowed(chosen, wanted), whole=False)
        if different:
            self._publish()

    def _read_table(self) -> tuple[Table, Selection, bool]:
        """Read the mount table. Returns it, the mounts that should be probed, and whether the table
        is the one already known. Raises OSError."""
        table, same = self._changes.read(self._known.table)
        if not same:
            self._passes.haunting.see(table[0])
            self._look_up(table)
        return table, self._choose(table), same

    def _choose(self, table: Table) -> Selection:
        """Select the mounts that should be probed."""
        if not self._lookout.knows(self._options.check):
            self._look_up(table)
        return self._lookout.choose(self._options.check, table)

    def _look_up(self, table: Table) -> None:
        """Look up where the names lead that decide what is probed. The last pass tells which mounts
        the look-up may enter."""
        result = None if self._known.last is None else self._known.survey()
        self._lookout.look_up(self._options.check, table[0], result)

    # -- what ends

    def _finish(self, each: UnderWay) -> None:
        tables: list[Table] = []

        def reread() -> Table:
            table, same = self._changes.read(self._known.table, after_probes=True)
            if not same:
                tables.append(table)
            return table

        result = self._passes.finish(each, reread)
        if tables:
            # The result of the pass is based on this table: a mount that hung and is now covered
            # counts as shadowed. The mount that covers it has not been asked, so another look is
            # due.
            self._passes.haunting.see(tables[-1][0])
            self._known.see(tables[-1], self._choose(tables[-1]))
            self._changes.expect()
        self._known.merge(result, each.whole, each.probing.book.noted)
        self._endings.follow(self._known.stuck(), each.probing.left.pids)
        if self._known.grant_another_try():
            self._changes.recovered = True
        if each.whole:
            self._finish_whole(result)
        else:
            self._publish()

    def _finish_whole(self, result: Survey) -> None:
        # Only this memory tells the next daemon which processes this one leaves behind at its end.
        self._complaints.tell(Part.MEMORY, summary.unremembered(result))
        # Now that the mounts have answered, all other names can be looked up.
        if self._lookout.look_up(self._options.check, self._known.mounts, result):  # other mounts may be selected now
            self._changes.expect()
            self._known.see(self._known.table, self._choose(self._known.table))
        self._complaints.forget(Part.INTERNAL, "a round")
        self._passes.habits.look(self._known.mounts, self._options.policy)
        self._passes.haunting.look(self._options.check)
        self._publisher.drills.look()
        judged = self._publish(whole=True)
        self._watchdog.note_progress()
        self._publisher.log_pass(judged, result.duration)
        self._publisher.get_ready()

    def _publish(self, again: bool = False, whole: bool = False) -> Optional[Judged]:
        """Judge all that is known, and publish it; ``again``: all that is new is a trouble of the
        daemon itself, and no server waits for that. ``whole``: a pass over all mounts has just
        ended."""
        self._complaints.note_shown()
        if self._known.last is None:
            return None
        judged = policy.judged(self._conclude(whole), self._options.policy, self._options.allow_none)
        self._schedule.note_graces(each.finding.grace_until for each in notable(judged.judgements))
        if self._interrupts() is None:  # the signal made the pass leave mounts out, which is no news
            assert self._passes.taken is not None
            taken = self._passes.taken
            return self._publisher.publish(judged, self._options, self._known, taken, submits=not again)
        return judged

    def _conclude(self, whole: bool) -> Survey:
        """Compare all that is known with what is demanded. After a pass over all mounts, ask this
        host what else it knows about those that have failed."""
        if not self._lookout.knows(self._options.check):  # other mounts may be wanted now
            self._known.see(self._known.table, self._choose(self._known.table))
        survey_now = self._known.survey()
        late = conclude.TimeToCompare(after(self._options.settings.deadline), self._interrupts).ended_by
        found = self._lookout.found
        concluded = conclude.concluded(self._options.check, survey_now, lambda: self._known.mounts, found, late)
        concluded = self._known.until_asked(concluded, self._lookout.places(self._options.check))
        if whole:
            self._lookout.ask_about_failures(self._options.check, concluded, self._known.mounts)
        concluded = self._passes.habits.told(self._lookout.aftermath.told(concluded))
        return self._passes.haunting.told(concluded, self._options.check)

    def _stop(self) -> None:
        """Give up all tasks. Stuck processes are remembered already, and are not waited for."""
        name = str(self._interrupts())
        self._publisher.stopping(name)
        self._passes.abandon(name)
        self._passes.close()
        self._publisher.close()
        self._changes.close()
        self._endings.close()
        self._log.write(syslog.LOG_NOTICE, f"Stopped by {name}")


def _narrowed(chosen: Selection, wanted: set[MountIdentity]) -> Selection:
    """The selection, in which only these mounts are probed."""
    selected = tuple(mount for mount in chosen.selected if mount.identity in wanted)
    return chosen._replace(selected=selected, shadowed=(), missing=())
