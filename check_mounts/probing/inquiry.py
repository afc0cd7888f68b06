"""The course of a pass: decides which mount is asked next, and what an answer means for the mounts
below it or waiting for it.

Nothing here touches a mount or waits."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable

from check_mounts import filesystems, mounttable, selection, text
from check_mounts.clocks import Boottime, boottime, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import Outcome, Step
from check_mounts.probing import asking, conditions, frames
from check_mounts.probing.asking import Settings, Timeouts
from check_mounts.probing.book import Book
from check_mounts.probing.causes import Causes
from check_mounts.probing.gates import Gates, Hung, Taken
from check_mounts.probing.others import Others, age, stuck_words
from check_mounts.probing.plan import Gate, Plan
from check_mounts.probing.writing import Writing
from check_mounts.system import workers
from check_mounts.typed import TYPE_CHECKING, Optional, Union

if TYPE_CHECKING:
    from check_mounts.probing.canaries import Canaries
    from check_mounts.probing.sparing import Sparing

# How many mounts are asked before the pool gets time for its workers.
_AT_ONCE = 256
# How often a mount is asked at most, if its worker dies or its path leads elsewhere.
_TRIES = 2


class Inquiry:
    """The questions of one pass. Each selected mount that is asked gets a finding in the book,
    unless the pass ends first.

    ``submit`` gives the request of a mount to the workers; ``submit(mount, writing=True)`` that to
    write. The settings say whether a file should be written to a mount that answered;
    ``submit(mount, looking=True)`` gives that to look at its canary, if it has one. ``spared`` are
    the mounts that are perhaps not looked up."""

    def __init__(
        self,
        plan: Plan,
        others: Others,
        book: Book,
        timeouts: Timeouts,
        causes: Causes,
        submit: Callable[..., None],
        settings: Settings,
        spared: Optional[Sparing] = None,
    ) -> None:
        self.plan = plan
        self._others = others
        self._book = book
        self.timeouts = timeouts
        self._causes = causes
        self._submit = submit
        self._writes = settings.writes
        self._gates = Gates(plan, others)
        self._writing = Writing(functools.partial(submit, writing=True), others, book, timeouts, causes)
        self._canaries = self._with_canaries(settings)
        self._spared = spared
        self._ready = collections.deque(plan.outermost)
        self._tries: collections.Counter[int] = collections.Counter()
        for mount, why in plan.avoided:
            book.say(mount, Condition.BLOCKED, why)

    @property
    def holds_any(self) -> bool:
        """Whether mounts wait for the probe of a concurrent run, or for what is asked before they
        are looked up."""
        return (
            self._gates.holds_any
            or self._writing.holds_any
            or (self._canaries is not None and self._canaries.holds_any)
            or (self._spared is not None and self._spared.holds_any)
        )

    # -- what comes next

    @property
    def has_ready(self) -> bool:
        """Whether there are mounts to ask that need not wait for another one."""
        return bool(self._ready)

    def start_ready(self) -> None:
        """Ask some of the mounts that need not wait for another one, and leave the rest for later:
        meanwhile, workers can begin."""
        ready, submit, is_free = self._ready, self._submit, self._gates.is_free
        for _ in range(min(len(ready), _AT_ONCE)):
            mount = ready.popleft()
            if self._spared is not None and self._spared.takes(mount, self._others.age_at):
                continue
            if is_free(mount) and len(mount.path) <= mounttable.LONGEST_PATH:
                submit(mount)
            else:
                self._start(mount)

    def look_at_held(self) -> None:
        """Continue with the mounts where the probe of a concurrent run has come back or hangs."""
        if self._canaries is not None:
            self._canaries.go_on()
        self._writing.look_at_held()
        for mount, why_idle in () if self._spared is None else self._spared.settled():
            if why_idle is None:
                self._ready.append(mount)
            else:
                self._answer(mount, Condition.IDLE, why_idle)
        self._ready.extend(self._gates.reopen(self.timeouts.of))

    def _start(self, mount: Mount) -> None:
        obstacle = self._gates.approach(mount)
        if obstacle is None:
            self._send(mount)
        elif isinstance(obstacle, Hung):
            self._hang_as_well(mount, obstacle)
        elif isinstance(obstacle, Taken):
            self._meet_other_run(mount, obstacle)

    def _send(self, mount: Mount) -> None:
        if len(mount.path) > mounttable.LONGEST_PATH:
            self._answer(mount, Condition.UNPROBED, "its path is longer than a system call accepts (PATH_MAX)")
            return
        self._gates.enter(mount)
        self._submit(mount)

    def _hang_as_well(self, mount: Mount, hung: Hung) -> None:
        point = text.printable(hung.finding.mount_point)
        detail = (
            f"its path crosses the same hung filesystem as {point}"
            if hung.gate.on_the_way
            else f"same filesystem as {point}"
        )
        finding = Finding(
            mount.mount_point,
            mount,
            Condition.TIMED_OUT,
            detail,
            latency=hung.finding.latency,
            since=hung.finding.since,
        )
        self._block_below(mount, self._book.enter(mount, finding), "timed out")

    def _meet_other_run(self, mount: Mount, taken: Taken) -> None:
        """Deal with a gate where another run, earlier or concurrent, has a probe: start no second
        probe there."""
        stuck, waited = taken.stuck, age(taken.stuck)
        if not self._others.is_still_stuck(stuck):
            self._others.reload()
            self._ready.appendleft(mount)
        elif waited < self.timeouts.of(mount):
            self._gates.hold(taken.gate, mount)
        else:
            finding = Finding(
                mount.mount_point,
                mount,
                Condition.TIMED_OUT,
                stuck_words(stuck),
                latency=waited,
                stuck_pid=stuck.pid,
                stuck_since=stuck.since,
                since=stuck.since,
            )
            self._causes.know_stuck(mount, stuck.pid)
            self._hang(mount, taken.gate, self._book.enter(mount, finding))

    # -- answers

    def handle_all(self, events: collections.deque[workers.Event]) -> None:
        """Judge the events of workers, and take them out of the queue. An exception while judging
        is noted in the book and raised again; the other events stay in the queue."""
        by_id, book, children = self.plan.by_id, self._book, self.plan.children
        when, slow_from = monotonic(), self._causes.slow_from
        while events:
            event = events.popleft()
            # The key of a request to write is no mount ID.
            if isinstance(event, workers.Answered) and (mount := by_id.get(event.key)) is not None:
                outcome = frames.unpack_healthy(event.answer)
                if outcome is not None and conditions.is_healthy(mount, outcome):
                    self._ready.extend(self._gates.leave(mount, passed=True, answered=True))
                    latency = book.enter_healthy(mount, outcome, when)
                    if event.key in children:
                        self._ready.extend(children[event.key])
                    self._look(mount)
                    if latency >= slow_from:
                        self._causes.know(book.of(mount))
                    continue
            self._handle_any(event)
        book.count()

    def _with_canaries(self, settings: Settings) -> Optional[Canaries]:
        if settings.canary is None:
            return None
        from check_mounts.probing import canaries  # most runs have none

        look = functools.partial(self._submit, looking=True)
        parts = (self._others, self._book, self.timeouts, self._causes)
        return canaries.Canaries(settings.canary, look, self._write, self.plan.selected, *parts)

    def _look(self, mount: Mount) -> None:
        """Look at the canary of a mount that has answered, and then write to it, if wanted."""
        if self._canaries is None:
            self._write(mount)
        else:
            self._canaries.begin(mount)

    def _write(self, mount: Mount) -> None:
        if self._writes(mount):
            self._writing.begin(mount)

    def _later(self, key: int) -> Union[Canaries, Writing, None]:
        """What a request belongs to that comes after the reading steps; None for these."""
        if self._canaries is not None and asking.is_look(key):
            return self._canaries
        return self._writing if asking.is_write(key) else None

    def _handle_any(self, event: workers.Event) -> None:
        mount, later = self.mount_of(event.key), self._later(event.key)
        try:
            (self._handle if later is None else later.handle)(mount, event)
        except Exception as error:
            why = f"its answer could not be judged: {text.error_of(error)}"
            if later is not None:
                later.give_up(mount, why)
            elif not self._book.has(mount):
                self._give_up(mount, why)
            raise

    def mount_of(self, key: int) -> Mount:
        """The mount that a request is about."""
        return self.plan.by_id[asking.mount_id_of(key)]

    def _handle(self, mount: Mount, event: workers.Event) -> None:
        if isinstance(event, workers.Answered):
            try:
                outcome = frames.unpack_answer(event.answer)
                self._handle_answer(mount, outcome)
            except ValueError as error:
                self._retry(mount, f"its worker's answer makes no sense: {error}")
        elif isinstance(event, workers.TimedOut):
            self._time_out(mount, event)
        else:
            self._retry(mount, conditions.death_words(event.pid, frames.unpack_progress(event.progress).step))

    def _handle_answer(self, mount: Mount, outcome: Outcome) -> None:
        if outcome.busy:
            self._others.reload()
            self._ready.extend((*self._gates.leave(mount), mount))
        elif outcome.exception:
            self._give_up(mount, conditions.exception_words(outcome))
        else:
            self._judge(mount, outcome)

    def _retry(self, mount: Mount, why: str) -> None:
        """Ask once more after a worker died, then give up. A user may have killed the worker of
        their own FUSE mount, or the kernel may have killed it for lack of memory."""
        self._tries[mount.mount_id] += 1
        if self._tries[mount.mount_id] < _TRIES:
            self._submit(mount)
        else:
            self._give_up(mount, why)

    def _give_up(self, mount: Mount, why: str) -> None:
        self._answer(mount, Condition.UNPROBED, why)
        self._ready.extend(self._gates.leave(mount))

    def _answer(self, mount: Mount, condition: Condition, detail: str) -> None:
        self._book.say(mount, condition, detail)
        self._ready.extend(self.plan.children.get(mount.mount_id, ()))

    def _judge(self, mount: Mount, outcome: Outcome) -> None:
        elsewhere = conditions.led_elsewhere(mount, outcome, trigger=filesystems.is_trigger(mount))
        if elsewhere is not None and not self._tries[mount.mount_id]:
            # Where mounts come and go without a pause, the next mount soon has the place and even
            # the ID of this one: look once more.
            self._tries[mount.mount_id] += 1
            self._submit(mount)
            return
        # A look-up that did not reach the mount, or reached another one, says nothing about its
        # filesystem: the next mount of that filesystem must try, and again only one at a time.
        arrived = outcome.step is not Step.LOOK_UP
        self._ready.extend(self._gates.leave(mount, passed=arrived, answered=arrived and elsewhere is None))
        if elsewhere is not None:  # a fresh mount table will say whether the mount is gone or covered
            outcome = outcome._replace(usage=None)
            finding = self._book.say(mount, Condition.UNPROBED, elsewhere.value, outcome)
        else:
            finding = self._book.say(mount, *self._condition_of(mount, outcome), outcome)
        self._go_below(mount, finding)
        if finding.condition is Condition.OK:
            self._look(mount)
        self._causes.know(finding)

    def _condition_of(self, mount: Mount, outcome: Outcome) -> tuple[Condition, str]:
        """The condition and detail of a mount whose probe came back."""
        condition, detail = conditions.classify(mount, outcome)
        if outcome.step == Step.LOOK_UP and condition is Condition.DEAD:
            above = self._book.findings.get(self.plan.parent.get(mount.mount_id, -1))
            if above is not None and above.condition is Condition.DEAD:
                # The mount was not even reached: the look-up failed in its parent.
                return Condition.BLOCKED, _below(above, "is dead")
        return condition, detail

    def _go_below(self, mount: Mount, finding: Finding) -> None:
        if finding.condition is Condition.DEAD and selection.can_hang_on_the_way(mount):
            # A look-up through a dead network or FUSE filesystem fails in d_revalidate, and then
            # the kernel drops the directory entry together with the mounts on it (d_invalidate in
            # fs/dcache.c): a probe would unmount them.
            self._block_below(mount, finding, "is dead")
        else:
            self._ready.extend(self.plan.children.get(mount.mount_id, ()))

    def _time_out(self, mount: Mount, event: workers.TimedOut) -> None:
        self._book.killed.append((event.pid, mount))
        outcome, timeout = frames.unpack_progress(event.progress), self.timeouts.of(mount)
        finding = Finding(
            mount.mount_point,
            mount,
            Condition.TIMED_OUT,
            f"after {text.seconds_words(timeout)}",
            outcome,
            event.waited,
            event.pid,
            Boottime(boottime() - event.waited),
            after=timeout,
        )
        gate = self.plan.blamed(mount.mount_id, mount.device, outcome.step not in (None, Step.LOOK_UP))
        self._hang(mount, gate, self._book.enter(mount, finding))

    def _hang(self, mount: Mount, gate: Gate, finding: Finding) -> None:
        """Note that a gate hangs: each mount that must pass it hangs, too, and the mounts below are
        blocked."""
        self._gates.hang(gate, finding)
        self._block_below(mount, finding, "timed out")
        self._ready.extend(self._gates.leave(mount))

    def _block_below(self, mount: Mount, finding: Finding, what: str) -> None:
        below = collections.deque(self.plan.children.get(mount.mount_id, ()))
        while below:
            child = below.popleft()
            self._book.say(child, Condition.BLOCKED, _below(finding, what))
            below.extend(self.plan.children.get(child.mount_id, ()))

    # -- the end

    def give_up_unserved(self, unserved: Iterable[Unserved], came: str, why: str) -> None:
        """Enter a finding for each request that has no answer. ``came`` names the event that ended
        the pass; ``why`` is the detail for a request that no worker had."""
        for key, pid, progress, waited in unserved:
            mount = self.mount_of(key)
            outcome = frames.unpack_progress(progress)
            # A worker was asking. If it has waited for long, the mount probably hangs, so the
            # detail says for how long.
            seconds = text.seconds_words(round(waited, 1))
            unanswered = f"no answer for {seconds} at {conditions.step_word(outcome.step)} when {came} came"
            if self._canaries is not None and asking.is_look(key):
                self._canaries.give_up_last(mount, why if pid is None else unanswered)
            elif asking.is_write(key):
                self._writing.give_up(mount, why if pid is None else unanswered)
            elif pid is None:
                self._book.say(mount, Condition.UNPROBED, why)
            else:
                since = Boottime(boottime() - waited)
                self._book.enter(
                    mount,
                    Finding(mount.mount_point, mount, Condition.UNPROBED, unanswered, outcome, waited, pid, since),
                )
        if self._canaries is not None:
            self._canaries.give_up_held(why)
        self._writing.give_up_held(why)


# Key, pid (None if no worker had it), progress, seconds waited: see workers.Pool.abandon_all.
Unserved = tuple[int, Optional[int], bytes, float]


def _below(above: Finding, what: str) -> str:
    return f"below {text.printable(above.mount_point)}, which {what}"
