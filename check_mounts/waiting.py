"""``--wait``: a check that is repeated until the mounts have answered, or the time is over.

Between two checks nothing is asked. The kernel tells when the mount table changes, and when a
process that a hung mount holds has ended, which is when that mount answers again. Only what the
kernel does not tell is looked at again and again: a mount that is dead, one whose probe could be
killed, a link on the way to a name."""

from __future__ import annotations

import gc
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence

from check_mounts import meaning, mounttable, text
from check_mounts.checks import checking, one_check
from check_mounts.checks.checking import SHORTEST
from check_mounts.daemon.watch import Endings, TableWatch
from check_mounts.judging import policy
from check_mounts.judging.judgements import is_any_counted, notable
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, Finding, State, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.options import command_line
from check_mounts.options.understood import Options
from check_mounts.probing.survey import Pass
from check_mounts.system import processes
from check_mounts.system.printing import complain
from check_mounts.system.signals import Interrupts
from check_mounts.typed import NamedTuple

# The pause after a check, in seconds, whatever happens: a host that starts containers changes its
# mount table all the time.
_REST = 0.2
# From the start of one check to that of the next, in seconds, if the kernel does not tell when
# there is something new: it grows from the first to the second, by a twentieth of the time waited.
_SOON, _LATER, _GROWTH = 1.0, 5.0, 20.0
# The number of mounts that a message names.
_NAMED = 3


class Outside(NamedTuple):
    """What a wait asks of its run. ``reread`` reads the mount table. ``follow`` is called with each
    pass, ``note`` with each result."""

    reread: Callable[[], Table]
    follow: Callable[[Pass], None]
    note: Callable[[Judged], None]


def take(options: Options, table: Table, interrupts: Interrupts, outside: Outside) -> Judged:
    """Check until all mounts have answered, or until the deadline; return the last result.

    Raises OSError if nothing was measured yet (see one_check)."""
    wait = _Wait(options, interrupts, outside)
    try:
        return wait.take(table)
    finally:
        wait.close()


class _Wait:
    def __init__(self, options: Options, interrupts: Interrupts, outside: Outside) -> None:
        self._options, self._interrupts, self._outside = options, interrupts, outside
        self._began = time.monotonic()
        self._until = self._began + options.settings.deadline
        # Before the table is read again: what changes from now on is seen.
        self._changes = TableWatch(os.devnull if options.check.root else options.check.mountinfo)
        self._tells = options.check.mountinfo == mounttable.DEFAULT_PATH and options.check.root is None
        self._endings = Endings(checking.procfs_of(options.check))
        self._lost: list[StuckProbe] = []
        self._said: set[tuple[bytes, Condition]] = set()
        # The number of checks, and when the last one began.
        self._checks, self._begun = 0, self._began

    def take(self, table: Table) -> Judged:
        """Take all checks."""
        judged, held = self._check(table)
        while held and judged.survey.interrupted is None and self._await(held):
            try:
                table = self._outside.reread()
            except OSError:  # no memory: the next time
                continue
            judged, held = self._check(table)
        return self._with_note(self._interrupted(judged) if held else judged)

    # -- one check

    def _check(self, table: Table) -> tuple[Judged, list[Finding]]:
        """Check once. Returns the result, and the findings that another check may change."""
        self._checks, self._begun = self._checks + 1, time.monotonic()
        judged = policy.judged(self._survey(table), self._options.policy, self._options.allow_none)
        self._outside.note(judged)
        held = list(_held(judged, self._options))
        self._tell(held, judged)
        return judged, held

    def _survey(self, table: Table) -> Survey:
        under_way: list[Pass] = []

        def follow(each: Pass) -> None:
            under_way.append(each)
            self._outside.follow(each)

        self._lost = [probe for probe in self._lost if processes.process_start(probe.pid) == probe.start_time]
        survey = one_check.take(
            self._in_time(table).check, table, self._outside.reread, self._interrupts, self._interrupts.wake_fd, follow,
            self._lost,
        )  # fmt: skip
        for each in under_way:
            self._lost += each.left.probes
        strangers = {each.stuck_pid for each in survey.findings if each.stuck_pid is not None}
        self._endings.follow(strangers, [pid for each in under_way for pid in each.left.pids])
        return survey

    def _in_time(self, table: Table) -> Options:
        """The options for a check that ends in time, and in which each mount gets its own."""
        check = self._options.check
        left = max(SHORTEST, self._until - time.monotonic())
        override = check.settings.override
        own = [] if override is None else [override(mount).timeout or 0.0 for mount in table[0]]
        deadline = min(left, max([check.settings.timeout, *own]) + command_line.BESIDE_TIMEOUT)
        return self._options._replace(check=check._replace(settings=check.settings._replace(deadline=deadline)))

    # -- between two checks

    def _await(self, held: Sequence[Finding]) -> bool:
        """Wait for the time of another check. Returns False if none is left for it."""
        gc.collect()  # the objects of a pass refer to each other
        rested = time.monotonic() + _REST
        due = max(rested, self._begun + self._pace(held))
        while time.monotonic() < min(due, self._until) and self._interrupts() is None:
            if self._is_news(rested, min(due, self._until)):
                break
        return self._interrupts() is None and time.monotonic() + SHORTEST <= self._until

    def _pace(self, held: Sequence[Finding]) -> float:
        """The longest time from the start of one check to that of the next, in seconds."""
        if self._tells and all(map(_is_told, held)):
            return _LATER
        return min(_LATER, max(_SOON, (time.monotonic() - self._began) / _GROWTH))

    def _is_news(self, rested: float, until: float) -> bool:
        """Wait for news until ``until``, but return no earlier than at ``rested`` unless a signal
        comes. Returns whether there are any."""
        poll = select.poll()
        poll.register(self._interrupts.wake_fd, select.POLLIN)
        poll.register(self._changes, select.POLLPRI)
        poll.register(self._endings, select.POLLIN)
        wake = min(until, self._endings.due)
        ready = {fd for fd, _ in poll.poll(max(0.0, wake - time.monotonic()) * 1000 + 1)}
        if self._interrupts.wake_fd in ready:
            self._interrupts.drain()
        self._endings.step()
        held, soon = self._endings.take_ended()
        news = self._changes.fileno() in ready or bool(held or soon)
        if news and (left := min(rested, until) - time.monotonic()) > 0:
            _sleep(self._interrupts.wake_fd, left)
            self._changes.changed()  # the table that is read next has it already
        return news

    # -- what people read

    def _tell(self, held: Sequence[Finding], judged: Judged) -> None:
        """Say what is being waited for, if that has changed."""
        before, self._said = self._said, {(each.mount_point, each.condition) for each in held}
        if not held or before == self._said:
            return
        words = [
            f"{text.clipped(text.printable(each.finding.mount_point), 200)} {each.words}"
            for each in notable(judged.judgements)
            if (each.finding.mount_point, each.finding.condition) in self._said and each.finding.is_mount
        ]
        more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
        if self._options.output.verbosity:
            complain(f"waiting for {'; '.join(words[:_NAMED]) or 'a mount to check'}{more}", self._interrupts)

    def _with_note(self, judged: Judged) -> Judged:
        """The result, with the time that was waited if there was more than one check."""
        if self._checks == 1:
            return judged
        waited = text.seconds_words(round(time.monotonic() - self._began, 1))
        survey = judged.survey
        note = f"waited {waited}, {text.counted(self._checks, 'check')}"
        return judged._replace(survey=survey._replace(notes=(*survey.notes, note)))

    def _interrupted(self, judged: Judged) -> Judged:
        """The result of the last check, and the signal that has ended the wait after it, if any."""
        survey = judged.survey._replace(interrupted=judged.survey.interrupted or self._interrupts())
        return policy.judged(survey, self._options.policy, self._options.allow_none)

    def close(self) -> None:
        """Stop watching."""
        self._changes.close()
        self._endings.close()


def _held(judged: Judged, options: Options) -> Iterator[Finding]:
    """The findings that another check may change: mounts that have not answered, and mounts that
    are not what they should be, if that is CRITICAL.

    A mount that is full, slow or refuses its owner has answered. Without any mount, a finding
    without a mount point."""
    if not is_any_counted(judged.judgements) and not options.allow_none:
        yield Finding(b"", None, Condition.MISSING)
    for finding in judged.survey.findings:
        row = meaning.of(finding.condition)
        if not finding.is_mount or not row.counted or finding.condition in (Condition.OK, Condition.IDLE):
            continue
        state = options.policy.of(finding.mount_point).state_of(finding.condition)
        if not row.passable or (row.from_table and state in (State.CRITICAL, State.UNKNOWN)):
            yield finding


def _is_told(finding: Finding) -> bool:
    """Whether the kernel tells when this finding may be out of date."""
    if finding.condition is Condition.TIMED_OUT:
        return finding.stuck_pid is not None
    return meaning.of(finding.condition).from_table or finding.condition is Condition.BLOCKED


def _sleep(wake_fd: int, seconds: float) -> None:
    """Sleep, but no longer than until a signal comes."""
    poll = select.poll()
    poll.register(wake_fd, select.POLLIN)
    poll.poll(seconds * 1000 + 1)
