"""One pass over all mounts: table -> plan -> probes -> :class:`~check_mounts.model.Survey`.

A mount is probed once the mount above it has answered, and once one representative of its
superblock has answered. So a hung filesystem costs exactly one stuck process, however many bind
mounts show it, and the mounts below it are blocked, not an alarm (plan, gates, inquiry).

This module never touches a mount. It gives requests to a pool of workers, waits for their answers,
and ends the pass with everything that is known by then."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator, Sequence

from check_mounts import filesystems, text
from check_mounts.clocks import PAST, Boottime, Monotonic, after, boottime, monotonic
from check_mounts.guard import defects
from check_mounts.model import Condition, Finding, Mount, StuckProbe, Survey
from check_mounts.mounttable import DEFAULT_PATH, Table
from check_mounts.outcome import Step
from check_mounts.probing import asking, conditions, frames, serving, settle
from check_mounts.probing.asking import Settings, Timeouts
from check_mounts.probing.book import Book
from check_mounts.probing.causes import Causes, Devices, Past
from check_mounts.probing.inquiry import Inquiry
from check_mounts.probing.others import Others
from check_mounts.probing.plan import Plan
from check_mounts.probing.serving import Serving
from check_mounts.probing.settle import Settled
from check_mounts.probing.stuck import Registry
from check_mounts.selection import Selection
from check_mounts.system import workers
from check_mounts.system.processes import process_start
from check_mounts.system.quarters import Outside
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.probing.sparing import Sparing

# How often to look whether the probe of a concurrent run has come back, in seconds.
_LOOK_AGAIN = 0.02
# How often to look whether the servers have replied that a pass waits for, in seconds.
_LISTEN = 0.005
# How long a pass may go on after its deadline, in seconds, if this process was late.
_CATCH_UP = 0.25
# How long no answer may come meanwhile, in seconds: workers may be late, too.
_QUIET = 0.1
# The pause after an error, in seconds: an action that fails each time must not keep a processor
# busy until the deadline.
_BREATH = 0.01


def take(
    under_way: Pass, reread: Callable[[], Table], interruption: Callable[[], Optional[str]] = lambda: None
) -> Survey:
    """Carry out a pass; return the survey.

    ``reread`` reads the mount table again. ``interruption`` gives the name of a signal that has
    asked for the end. Nothing that a mount does raises an exception."""
    interrupted = None
    while not under_way.done:
        interrupted = interruption()
        if interrupted is not None:
            break
        under_way.step(min(under_way.due, under_way.show()))
    return under_way.finish(reread, interrupted)


class Left(NamedTuple):
    """The processes that a pass leaves behind: children that still exist although they got SIGKILL,
    which the owner of the pass must reap, and their probes."""

    pids: frozenset[int]
    probes: tuple[StuckProbe, ...]


class _Guard:
    """Lets a pass continue after an action that failed: no memory, no descriptor, a module that
    cannot be loaded, a defect of ours. So no measurement is lost, and the deadline ends an action
    that fails each time. ``trouble`` is the last error, in words."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.trouble = ""

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Do an action; if it raises an exception, note that and continue."""
        try:
            action()
        except Exception as error:
            defects.say(error)
            self.trouble = text.error_of(error)
            self._book.remark(f"an error in the middle of the check ({what}): {self.trouble}")
            time.sleep(_BREATH)


class Pass:
    """The plan and its execution, step by step: a :class:`check_mounts.system.tasks.Task`. At the
    end, each selected mount has exactly one finding in the ``book``.

    ``wake_fd`` becomes readable when a signal interrupts the pass. The owner calls :meth:`finish`
    at the end. Several passes may run at the same time; they see each other in the registry, like
    separate runs.

    ``mountinfo``: the path of the mount table, in which workers look for mounts that were moved.
    ``past``: what the passes of this process have in common.
    ``left`` is known at the end. ``show`` is called before each step; it returns when it must be
    called again."""

    def __init__(
        self,
        table: Table,
        chosen: Selection,
        settings: Settings,
        registry: Registry,
        wake_fd: Optional[int] = None,
        mountinfo: Optional[str] = None,
        past: Optional[Past] = None,
    ) -> None:
        """Raises OSError if this host has no memory or descriptors for a single worker."""
        self.chosen, self.book = chosen, Book(chosen)
        self.left = Left(frozenset(), ())
        self.show: Callable[[], Monotonic] = lambda: self._deadline
        self._spared: Optional[Sparing] = None
        self._unparsed, self._registry = table[1], registry
        self._deadline = Monotonic(self.book.began + settings.deadline)
        self._guard = _Guard(self.book)
        self._arrived: collections.deque[workers.Event] = collections.deque()
        plan, timeouts = Plan(table[0], chosen), Timeouts(settings)
        self._causes = Causes(settings, timeouts.usual, self._deadline, past := past or Past(), registry.procfs)
        self._devices = Devices(table[0], chosen.selected, timeouts.of, _is_here(mountinfo, table[0]))
        self._pool = _pool(settings, timeouts.usual, registry, wake_fd, mountinfo)
        requests = asking.Requests(settings)

        def submit(mount: Mount, writing: bool = False, looking: bool = False) -> None:
            request = requests.of(mount, writing, settings.canary(mount) if looking and settings.canary else None)
            self._pool.submit(asking.key_of(mount, writing, looking), request, timeouts.of(mount))

        try:
            for mount in chosen.shadowed:
                self.book.findings[mount.mount_id] = conditions.shadowed(mount, chosen.covers.get(mount.mount_id))
            self._guard.attempt("the automounts", lambda: self._spare(table[0], settings, past))
            parts = (self.book, timeouts, self._causes, submit, settings, self._spared)
            self._inquiry = Inquiry(plan, Others(registry, plan), *parts)
            self._inquiry.start_ready()
        except BaseException:
            self._pool.close()
            raise
        self._look_again = self._next_look()

    def _spare(self, mounts: Sequence[Mount], settings: Settings, past: Past) -> None:
        """Begin to ask for the mounts that are not looked up while nobody uses them. Most hosts
        have no autofs trigger with a timeout."""
        if settings.spares and filesystems.any_expires(mounts):
            from check_mounts.probing import sparing

            self._spared = sparing.begin(mounts, self.chosen.selected, settings, self._registry, past, self._deadline)

    # -- while it runs

    @property
    def done(self) -> bool:
        """Whether each request has its answer, and no suspended device must be waited for; or
        the deadline has come."""
        return not (self._is_open or self._devices.are_awaited) or monotonic() >= self._deadline

    @property
    def _is_open(self) -> bool:
        busy = self._pool.busy or self._inquiry.holds_any or self._inquiry.has_ready
        return busy or self._causes.awaits_any

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`step` has something to do."""
        return self._pool.fileno()

    @property
    def due(self) -> Monotonic:
        """When :meth:`step` must be called at the latest."""
        return PAST if self._inquiry.has_ready else min(self._deadline, self._pool.due, self._look_again)

    def step(self, until: Monotonic = PAST) -> None:
        """Handle the answers that have come, or come until ``until``."""
        self._go_on(until)

    def _go_on(self, until: Monotonic) -> bool:
        """Do one step; return whether any answer has come."""
        attempt = self._guard.attempt
        attempt("waiting for workers", lambda: self._arrived.extend(self._pool.wait(until)))
        something = bool(self._arrived)
        self._handle_arrived()
        attempt("looking at concurrent runs", self._inquiry.look_at_held)
        attempt("looking for causes", self._look_for_causes)
        attempt("looking at suspended devices", self._devices.look)
        attempt("starting probes", self._inquiry.start_ready)
        self._look_again = self._next_look()
        return something

    def _handle_arrived(self) -> None:
        while self._arrived:
            self._guard.attempt("an answer", lambda: self._inquiry.handle_all(self._arrived))

    def _next_look(self) -> Monotonic:
        if self._causes.awaits_any or (self._spared is not None and self._spared.holds_any):
            return after(_LISTEN)
        if self._inquiry.holds_any or self._causes.busy:
            return after(_LOOK_AGAIN)
        return min(self._causes.due, self._devices.due, self._deadline)

    def _look_for_causes(self) -> None:
        self._causes.look(self.waiting_for)
        self._causes.step()

    def waiting_for(self, seconds: float) -> Iterator[tuple[Mount, int, float]]:
        """(mount, pid, seconds) of each probe that has been waiting for at least ``seconds``."""
        mount_of = self._inquiry.mount_of
        return ((mount_of(key), pid, waited) for key, pid, waited in self._pool.at_work(seconds))

    # -- the end

    def finish(self, reread: Callable[[], Table], interrupted: Optional[str] = None) -> Survey:
        """Give up the open requests and return the survey. ``interrupted`` names the signal that
        ended the pass early."""
        if interrupted is None:
            self._guard.attempt("the last answers", self._catch_up)
        self._end(interrupted)
        settled = self._settle(reread)
        findings = self._explain(settled.findings)
        return Survey(
            findings=(*findings, *conditions.not_understood(self._unparsed)),
            left_out=(*self.chosen.left_out, *settled.vanished),
            notes=(*self._registry.notes, *self.book.notes),
            unremembered=self._registry.unremembered,
            started=self.book.started,
            duration=monotonic() - self.book.began,
            timeout=self._inquiry.timeouts.usual,
            interrupted=interrupted,
        )

    def abandon(self, why: str) -> None:
        """Give up the open requests and drop the findings. ``why`` names what ended the pass
        early."""
        self._end(why)

    def _catch_up(self) -> None:
        """Read the answers that were in the pipes at the deadline.

        The deadline may have passed a while ago, if this process was stopped or got no processor.
        Then go on while answers come, but for no longer than this process was late: because of it,
        some mounts were not asked, or could not time out."""
        now = monotonic()
        quiet, latest = after(_QUIET), Monotonic(now + min(_CATCH_UP, now - self._deadline))
        while self._is_open and now < latest:
            something = self._go_on(min(quiet, latest))
            now = monotonic()
            if something:
                quiet = Monotonic(now + _QUIET)
            elif now >= quiet:
                break

    def _end(self, interrupted: Optional[str]) -> None:
        """Give up the open requests, and kill the workers that have not answered. Their lines are
        in the registry already."""
        attempt, came = self._guard.attempt, interrupted or "the run's deadline"
        why = self._note_why_open(came)
        attempt("the last answers", lambda: self._arrived.extend(self._pool.take_last_answers()))
        self._handle_arrived()
        attempt("the missing answers", lambda: self._inquiry.give_up_unserved(self._pool.abandon_all(), came, why))
        for mount in self.chosen.selected:
            if not self.book.has(mount):
                self.book.say(mount, Condition.UNPROBED, why)
        self.left = Left(frozenset(self._pool.close()), ())
        attempt("the counters of errors", lambda: self._devices.count(self._registry))
        if self._spared is not None:
            spared = self._spared
            attempt("the automounts", lambda: spared.end(self.book.findings))
        attempt("the stuck probes", self._settle_stuck)
        attempt("the causes", self._causes.close)

    def _note_why_open(self, came: str) -> str:
        """Note and return why requests have no answer yet."""
        if self._pool.trouble is not None:
            self.book.notes.append(f"workers could not be started: {self._pool.trouble}")
            return f"no worker could be started ({self._pool.trouble})"
        trouble = self._guard.trouble
        return f"{came} came first" + (f", after an error ({trouble})" if trouble else "")

    def _settle_stuck(self) -> None:
        """Keep the process IDs of the workers that SIGKILL did not end in the findings, and remove
        those of the workers that have ended."""
        left, found = self.left.pids, self.book.findings
        # A mount that hangs because of another mount has no outcome of its own.
        lost = [_lost(each) for each in found.values() if each.stuck_pid in left and each.outcome]
        self.left = Left(left, tuple(lost))
        self._registry.promises.forget_long_gone(self._inquiry.plan.has_device)
        self._registry.close(any_stuck=bool(left))
        stuck = left | {each.pid for each in self._registry.probes}
        for key, finding in found.items():
            if finding.stuck_pid is not None and finding.stuck_pid not in stuck:
                found[key] = finding._replace(stuck_pid=None, stuck_since=None)

    def _settle(self, reread: Callable[[], Table]) -> Settled:
        """Correct the findings by the mount table as it is now, if that can be read.

        The findings get the order of the mount table, which is the same from run to run, while the
        order of the answers is chance. So a verdict names the same mounts first each time, and its
        text changes only when something has changed: archives take each new text for an event."""
        known = self.book.findings
        findings = {key: known[key] for key in self._inquiry.plan.by_id if key in known}
        result = Settled(list(findings.values()), [])

        def look() -> None:
            nonlocal result
            result = settle.settle(findings, self.chosen, reread)

        self._guard.attempt("reading the mount table again", look)
        if result.note:
            self.book.notes.append(result.note)
        return result

    def _explain(self, findings: list[Finding]) -> list[Finding]:
        """Add the causes to the findings, if that does not fail."""
        result = findings

        def explain(by: Callable[[list[Finding]], list[Finding]]) -> None:
            nonlocal result
            result = by(result)

        self._guard.attempt("the causes", lambda: explain(self._causes.explain))
        self._guard.attempt("the devices", lambda: explain(self._devices.explain))
        return result


def _pool(
    settings: Settings, timeout: float, registry: Registry, wake_fd: Optional[int], mountinfo: Optional[str]
) -> workers.Pool:
    """Raises OSError."""
    serve = Serving(registry.lines, registry.promises, mountinfo).serve
    outside = Outside(serving.config(mountinfo, *registry.place), registry.fds)
    return workers.Pool(serve, frames.ANSWER_SIZE, timeout, settings.max_workers, wake_fd, settings.groups, outside)


def _is_here(mountinfo: Optional[str], mounts: Sequence[Mount]) -> bool:
    """Whether a table is that of this host."""
    return mountinfo == DEFAULT_PATH or any(mount.seen_at is not None for mount in mounts[:1])


def _lost(finding: Finding) -> StuckProbe:
    """The probe of a finding that has not come back, as a record of the registry."""
    mount, pid, outcome = finding.mount, finding.stuck_pid, finding.outcome
    assert mount is not None and pid is not None and outcome is not None
    step, since = outcome.step, Boottime(boottime() - (finding.latency or 0.0))
    arrived = step not in (None, Step.LOOK_UP)
    writing = step is not None and step.writes
    return StuckProbe(pid, process_start(pid) or 0, mount.mount_id, mount.device, since, arrived, writing)
