"""One pass over all mounts: table -> plan -> probes -> :class:`~check_mounts.model.Survey`.

A mount is probed once what it hangs from has answered, and once one representative of its
superblock has. So a hung filesystem costs exactly one stuck process, however many bind mounts show
it, and what is mounted below it is blocked, not an alarm.

A look-up can also hang on the way to a mount, in a network or FUSE filesystem that its path leads
through. That says nothing about the mount's own filesystem, so both are asked one at a time
("gates"), and the one that hangs is the one that is blamed.

This module never touches a mount. It hands requests to a pool of workers and thinks about what
comes back."""

from __future__ import annotations

import collections
import dataclasses
import functools
import stat
import time
from collections.abc import Callable
from typing import Optional

from check_mounts import (
    asking,
    conditions,
    filesystems,
    mounttable,
    probe,
    selection,
    settle,
    text,
    workers,
    writeprobe,
)
from check_mounts.asking import Settings
from check_mounts.causes import Causes
from check_mounts.desks import Desk
from check_mounts.model import Condition, Finding, Mount, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.outcome import Outcome, Step
from check_mounts.plan import Gate, Plan
from check_mounts.selection import Selection
from check_mounts.settle import Settled
from check_mounts.stuck import Registry, process_start

# How often to look whether the probe of a concurrent run has come back.
_LOOK_AGAIN = 0.02
# How often to look whether a probe waits for so long that its server should be asked.
_LOOK_FOR_HUNG = 0.1
# How much longer than its deadline a pass takes at most, where it was late itself.
_CATCH_UP = 0.25
_TRIES = 2
# After an error, in seconds: what fails each time does not take all of a processor until the
# deadline.
_BREATH = 0.01

# Marks a request to write to the mount whose ID is the rest of it. The kernel's IDs start from 1
# and are given again.
_WRITE = 1 << 31


def take(
    under_way: Pass, reread: Callable[[], Table], interruption: Callable[[], Optional[str]] = lambda: None
) -> Survey:
    """Carry out a pass and say what was found.

    ``reread`` gives the mount table as it is then. ``interruption`` names a signal that has asked
    for the end. Raises nothing that a mount can cause."""
    interrupted = None
    while under_way.goes_on:
        interrupted = interruption()
        if interrupted is not None:
            break
        under_way.step(under_way.due)
    return under_way.finish(reread, interrupted)


class Pass:
    """The plan and its execution, step by step. Each selected mount ends up in ``findings`` exactly
    once.

    ``wake_fd`` becomes readable when there is an interruption. Its owner calls :meth:`step` while
    it :attr:`goes_on`, whenever :meth:`fileno` is readable and when it is :attr:`due`, and
    :meth:`finish` at the end. Several may be under way at the same time: they meet in the registry
    like the runs of several programs.

    ``place_now`` gives, in a worker, the path where a mount is by now, as
    :func:`check_mounts.mounttable.place_now` does.

    ``tell`` is called with each finding of a selected mount as it is made, and how many have one by
    then; one may still be made better at the end. ``killed`` has (pid, mount) of each worker that
    got SIGKILL for its time, to be taken away by the owner; ``left``, at the end, the children that
    have not ended although they got it, which are the owner's to reap, and ``lost`` what they were
    sent to."""

    def __init__(
        self,
        table: Table,
        chosen: Selection,
        settings: Settings,
        registry: Registry,
        wake_fd: Optional[int] = None,
        place_now: Optional[Callable[[Mount], Optional[bytes]]] = None,
    ) -> None:
        self.started, clock = time.time(), time.monotonic()
        self._clock = clock
        self._unparsed = table[1]
        self.chosen = chosen
        self.killed: list[tuple[int, Mount]] = []
        self.tell: Callable[[Finding, int], None] = lambda finding, count: None
        self.left: frozenset[int] = frozenset()
        self.lost: list[StuckProbe] = []
        self.findings: dict[int, Finding] = {}
        self.noted: dict[int, float] = {}  # when each was (CLOCK_MONOTONIC)
        self._arrived: collections.deque[workers.Event] = collections.deque()
        self._trouble: Optional[str] = None
        self.notes: list[str] = []
        self.interrupted: Optional[str] = None
        # What is unanswered when the deadline comes is unprobed (UNKNOWN). A timeout just as long
        # must still come first, or a hung mount would never be CRITICAL.
        self._latest = settings.deadline - min(0.5, settings.deadline / 10)
        self.timeout = min(settings.timeout, self._latest)
        self.settings = settings
        self._registry = registry
        self._place_now = place_now
        self._deadline = clock + settings.deadline
        self.causes = Causes(settings.diagnosis, self.timeout)
        self._look_for_hung = clock + self.causes.delay
        groups = (
            settings.identity.groups if settings.identity else () if settings.as_owner or settings.override else None
        )
        self._pool = workers.Pool(self._serve, probe.ANSWER_SIZE, self.timeout, settings.max_workers, wake_fd, groups)
        self._plan = Plan(table[0], chosen)
        self._place = {mount.mount_id: place for place, mount in enumerate(table[0])}
        self._mounts = {mount.mount_id: mount for mount in chosen.selected}
        self._ready = collections.deque(self._plan.outermost)
        # Which mount is at which gates, who waits there, which have answered, and why nobody else
        # need try the others.
        self._at: dict[int, list[Gate]] = {}
        self._probing: dict[Gate, list[Mount]] = {}
        self._passed: set[Gate] = set()
        self._hung: dict[Gate, Finding] = {}
        self._stuck: dict[Gate, StuckProbe] = {}
        self._stuck_writes: dict[tuple[int, int], StuckProbe] = {}
        self._learn_stuck()
        self._held: dict[Gate, list[Mount]] = {}
        self._written: set[tuple[int, int]] = set()
        self._writes_held: dict[int, Mount] = {}
        self._tries: collections.Counter[int] = collections.Counter()

        try:
            for mount in chosen.shadowed:
                self.findings[mount.mount_id] = conditions.shadowed(mount, chosen.covers.get(mount.mount_id))
            for mount, why in self._plan.avoided:
                self._note(mount, Condition.BLOCKED, why)
            self._start_ready()
        except BaseException:
            self._pool.close()
            raise
        self._look_again = time.monotonic() + self._pause()

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Do something, and go on where it fails: no memory, no descriptor, a module that cannot be
        loaded, a defect of ours. What was measured is not lost over that, and the deadline ends
        what fails each time."""
        try:
            action()
        except Exception as error:
            words = f"an error in the middle of the check ({what}): {text.error_of(error)}"
            if words not in self.notes:
                self.notes.append(words)
            self._trouble = text.error_of(error)
            time.sleep(_BREATH)

    @property
    def goes_on(self) -> bool:
        """False once everything has an answer, or the deadline has come."""
        return self._is_open and time.monotonic() < self._deadline

    @property
    def _is_open(self) -> bool:
        return self._pool.busy or bool(self._held) or bool(self._writes_held)

    def fileno(self) -> int:
        """A descriptor that is readable where :meth:`step` has something to do."""
        return self._pool.fileno()

    @property
    def due(self) -> float:
        """When :meth:`step` wants to be called at the latest (CLOCK_MONOTONIC)."""
        return min(self._deadline, self._pool.due, self._look_again)

    def step(self, until: float = 0.0) -> None:
        """Go on with what has come, or comes until then (CLOCK_MONOTONIC)."""
        self._go_on(until)

    def _go_on(self, until: float) -> bool:
        """Whether anything has come."""
        self._guarded("waiting for workers", lambda: self._arrived.extend(self._pool.wait(until)))
        something = bool(self._arrived)
        self._handle_arrived()
        self._guarded("runs at the same time", self._look_at_held)
        self._guarded("looking for causes", self._look_for_causes)
        self._guarded("starting probes", self._start_ready)
        self._look_again = time.monotonic() + self._pause()
        return something

    def _handle_arrived(self) -> None:
        while self._arrived:
            event = self._arrived.popleft()
            self._guarded("an answer", functools.partial(self._handle_or_say, event))

    def finish(self, reread: Callable[[], Table], interrupted: Optional[str] = None) -> Survey:
        """Give up what is open and say what was found. ``interrupted`` names what cut the pass
        short."""
        self.interrupted = interrupted
        if interrupted is None:
            self._guarded("the last answers", self._catch_up)
        self._end()
        # Who answers first is chance. The order of the mount table is the same from run to run, and
        # so are the mounts that a verdict names first: a text that changes from check to check is
        # an event to those who archive it.
        self.findings = dict(sorted(self.findings.items(), key=lambda item: self._place[item[0]]))
        settled = self._settled(reread)
        return Survey(
            findings=(*self._explained(settled.findings), *conditions.not_understood(self._unparsed)),
            left_out=(*self.chosen.left_out, *settled.vanished),
            notes=(*self._registry.notes, *self.notes),
            unremembered=self._registry.unremembered,
            started=self.started,
            duration=time.monotonic() - self._clock,
            timeout=self.timeout,
            interrupted=self.interrupted,
        )

    def _settled(self, reread: Callable[[], Table]) -> Settled:
        """The findings in the light of the table as it is now; as they are where that cannot be
        said."""
        result = Settled(list(self.findings.values()), [])

        def look() -> None:
            nonlocal result
            result = settle.settled(self.findings, self.chosen, reread)

        self._guarded("the mount table after it", look)
        if result.note:
            self.notes.append(result.note)
        return result

    def _explained(self, findings: list[Finding]) -> list[Finding]:
        """The findings with their causes; without, where those cannot be told."""

        def explain() -> None:
            findings[:] = self.causes.explained(findings)

        self._guarded("the causes", explain)
        return findings

    def abandon(self, why: str) -> None:
        """Give up what is open; what was found is of no interest. ``why`` names what cut the pass
        short."""
        self.interrupted = why
        self._end()

    def _catch_up(self) -> None:
        """Read what the deadline has found in the pipes. If it is over for a while, because this
        process was stopped or got no processor, what it has kept from being asked or timing out is
        made up for: as long as answers come, and as it was late."""
        quiet, now = 0.0, time.monotonic()
        latest = now + min(_CATCH_UP, now - self._deadline)
        while self._is_open and now < latest:
            something = self._go_on(min(quiet, latest))
            now = time.monotonic()
            if something:
                quiet = now + workers.PATIENCE
            elif now >= quiet:
                break

    def _pause(self) -> float:
        if self._held or self._writes_held or self.causes.busy:
            return _LOOK_AGAIN
        return _LOOK_FOR_HUNG if self.causes.wanted else self.settings.deadline

    def _look_for_causes(self) -> None:
        now = time.monotonic()
        if self.causes.wanted and now >= self._look_for_hung:
            self._look_for_hung = now + min(_LOOK_FOR_HUNG, self.causes.delay)
            waiting = self._pool.at_work(self.causes.delay)
            self.causes.suspect((self._mount_of(key), pid, waited) for key, pid, waited in waiting)
        self.causes.step()

    def _mount_of(self, key: int) -> Mount:
        return self._mounts[key & ~_WRITE]

    def _serve(self, key: int, desk: Desk) -> tuple[bytes, bool]:
        """In a worker: probe the mount ``key``. What goes wrong with ourselves is an answer as
        well, and the worker's last."""
        try:
            return self._serve_or_raise(key, desk)
        except Exception as error:
            return probe.exception_answer(error), True

    def _serve_or_raise(self, key: int, desk: Desk) -> tuple[bytes, bool]:
        """Its line in the registry stands before the mount is touched. Raises whatever is wrong
        with ourselves."""
        mount, writing = self._mount_of(key), bool(key & _WRITE)
        if not self._registry.enter(desk.slot, mount.mount_id, mount.device, writing):
            return probe.BUSY, False

        def note(progress: bytes) -> None:
            if progress[0] == Step.STATFS:
                self._registry.arrive(desk.slot)
            desk.note(progress)

        request, place_now = asking.request_for(mount, self.settings), self._place_now
        if place_now is not None:
            request = request._replace(place_now=lambda: place_now(mount))
        if writing:
            answer = writeprobe.answer(request, mount.device, self._registry, desk.note, desk.parent)
        else:
            answer = probe.answer(request, note, desk.parent)
        self._registry.leave(desk.slot)
        return answer

    # -- what comes next

    def _start_ready(self) -> None:
        while self._ready:
            self._start(self._ready.popleft())

    def _start(self, mount: Mount) -> None:
        for gate in self._plan.gates(mount):
            if gate in self._hung:
                self._share(mount, gate)
            elif gate in self._held:
                self._held[gate].append(mount)
            elif gate in self._stuck:
                self._meet_stuck(mount, gate)
            elif gate in self._probing:
                self._probing[gate].append(mount)
            else:
                continue
            return
        self._send(mount)

    def _send(self, mount: Mount) -> None:
        if len(mount.mount_point) > mounttable.LONGEST_PATH:
            self._answer(mount, Condition.UNPROBED, "its path is longer than a system call takes (PATH_MAX)")
            return
        gates = [gate for gate in self._plan.gates(mount) if gate not in self._passed]
        self._probing.update((gate, []) for gate in gates)
        self._at[mount.mount_id] = gates
        self._submit(mount)

    def _submit(self, mount: Mount, mark: int = 0) -> None:
        self._pool.submit(mount.mount_id | mark, None if self.settings.override is None else self._timeout_of(mount))

    def _timeout_of(self, mount: Mount) -> float:
        said = None if self.settings.override is None else self.settings.override(mount).timeout
        return self.timeout if said is None else min(said, self._latest)

    def _release(self, mount: Mount, passed: frozenset[str] = frozenset()) -> None:
        """The mount is no longer at its gates: whoever waits there goes on, or is the next to
        try."""
        for gate in self._at.pop(mount.mount_id, ()):
            if gate[0] in passed:
                self._passed.add(gate)
            self._ready.extend(self._probing.pop(gate))

    def _reload_stuck(self) -> None:
        self._registry.load()
        self._learn_stuck()

    def _learn_stuck(self) -> None:
        """Which gates, and which filesystems to be written to, earlier and concurrent runs have
        probes stuck at."""
        self._stuck, self._stuck_writes = {}, {}
        for stuck in self._registry.probes:
            if stuck.writing:
                self._stuck_writes[stuck.device] = stuck
                continue
            gate = self._plan.blamed(stuck.mount_id, stuck.device, stuck.arrived)
            if gate not in self._stuck or stuck.since < self._stuck[gate].since:
                self._stuck[gate] = stuck

    def _meet_stuck(self, mount: Mount, gate: Gate) -> None:
        """A probe of an earlier run, or of one that is under way, is there: no second one."""
        stuck = self._stuck[gate]
        age = _age(stuck)
        if not self._registry.still_stuck(stuck):
            self._reload_stuck()
            self._ready.appendleft(mount)
        elif age >= self._timeout_of(mount):
            self._note(mount, Condition.TIMED_OUT, _stuck_words(stuck), None, age, stuck.pid, stuck.since)
            finding = self._known_since(mount, stuck.since)
            self.causes.know_stuck(mount, stuck.pid)
            self._hang(mount, gate, finding)
        else:
            self._held[gate] = [mount]

    def _look_at_held(self) -> None:
        for mount in list(self._writes_held.values()):
            if self._is_decided(self._stuck_writes.get(mount.device), self._timeout_of(mount)):
                del self._writes_held[mount.mount_id]
                self._written.discard(mount.device)
                self._write(mount, self.findings[mount.mount_id])
        for gate, mounts in list(self._held.items()):
            if self._is_decided(self._stuck.get(gate), min(map(self._timeout_of, mounts))):
                self._ready.extend(self._held.pop(gate))

    def _is_decided(self, stuck: Optional[StuckProbe], timeout: float) -> bool:
        """Whether a probe of a concurrent run has come back, or has had so long that it hangs."""
        return stuck is None or _age(stuck) >= timeout or not self._registry.still_stuck(stuck)

    # -- what has come back

    def _handle_or_say(self, event: workers.Event) -> None:
        """Raises what kept the answer from being judged; then that is the finding."""
        try:
            self._handle(event)
        except Exception as error:
            mount, why = self._mount_of(event.key), f"its answer could not be judged: {text.error_of(error)}"
            if event.key & _WRITE:
                self._rewrite(self.findings[mount.mount_id], Condition.UNPROBED, f"not written: {why}")
            elif mount.mount_id not in self.findings:
                self._give_up(mount, why)
            raise

    def _handle(self, event: workers.Event) -> None:
        mount = self._mount_of(event.key)
        if event.key & _WRITE:
            self._handle_write(mount, event)
        elif isinstance(event, workers.Answered):
            try:
                outcome = probe.unpack_answer(event.answer)
                if outcome.busy:
                    self._reload_stuck()
                    self._release(mount)
                    self._ready.append(mount)
                elif outcome.exception:
                    self._give_up(mount, _exception_words(outcome))
                else:
                    self._judge(mount, outcome)
            except ValueError as error:
                self._retry(mount, f"its worker's answer makes no sense: {error}")
        elif isinstance(event, workers.TimedOut):
            self._time_out(mount, event.pid, event.waited, event.progress)
        else:
            self._retry(mount, _death_words(event))

    def _retry(self, mount: Mount, why: str) -> None:
        """Somebody ended a worker (a user his own FUSE probe's, the kernel short of memory): once
        more, then it is said."""
        self._tries[mount.mount_id] += 1
        if self._tries[mount.mount_id] < _TRIES:
            self._submit(mount)
        else:
            self._give_up(mount, why)

    def _give_up(self, mount: Mount, why: str) -> None:
        self._answer(mount, Condition.UNPROBED, why)
        self._release(mount)

    def _judge(self, mount: Mount, outcome: Outcome) -> None:
        elsewhere = conditions.led_elsewhere(mount, outcome, trigger=filesystems.is_trigger(mount))
        if elsewhere is not None and not self._tries[mount.mount_id]:
            # Where others mount and unmount without a pause, the next one has its place, and soon
            # its ID as well: look once more.
            self._tries[mount.mount_id] += 1
            self._submit(mount)
            return
        if elsewhere is not None:  # whether it is gone or covered, the mount table will say
            condition, detail, outcome = Condition.UNPROBED, elsewhere.value, dataclasses.replace(outcome, usage=None)
        else:
            condition, detail = conditions.classify(mount, outcome)
        below = self._plan.parent.get(mount.mount_id)
        if outcome.step == Step.LOOK_UP and condition is Condition.DEAD and below is not None:
            above = self.findings.get(below)
            if above is not None and above.condition is Condition.DEAD:
                # It was not even reached: the look-up failed on the way, in the mount it hangs
                # from.
                condition, detail = Condition.BLOCKED, f"below {text.printable(above.mount_point)}, which is dead"
        # A look-up that ended before the mount, or on another one, says nothing about its
        # filesystem: the next of its mounts has to try, and again only one of them.
        arrived = outcome.step is not Step.LOOK_UP
        self._release(mount, frozenset(("way", "fs") if arrived and elsewhere is None else ("way",) if arrived else ()))
        finding = self._note(mount, condition, detail, outcome, outcome.latency)
        if condition is Condition.DEAD and selection.can_hang_on_the_way(mount):
            # A look-up through a dead network or FUSE filesystem fails in d_revalidate, and then
            # the kernel drops the entry together with what is mounted on it (d_invalidate in
            # fs/dcache.c): asking would unmount.
            self._block_below(mount, finding, "is dead")
        else:
            self._ready.extend(self._plan.children.get(mount.mount_id, ()))
        if condition is Condition.OK and self.settings.writes(mount):
            self._write(mount, finding)

    # -- writing, where reading works

    def _write(self, mount: Mount, finding: Finding) -> None:
        """Have a file written, once for each filesystem, by a worker of its own."""
        mode = None if finding.outcome is None else finding.outcome.mode
        if mount.device in self._written or mode is None or not stat.S_ISDIR(mode):
            return  # a bind-mounted file is not the place; another mount of its superblock may be
        self._written.add(mount.device)
        stuck = self._stuck_writes.get(mount.device)
        if not self._registry.remembers:
            self._note_unwritten(mount, "what a killed worker leaves could not be removed")
        elif stuck is None or not self._registry.still_stuck(stuck):
            self._submit(mount, _WRITE)
        else:
            age = _age(stuck)
            if age < self._timeout_of(mount):  # a concurrent run is writing
                self._writes_held[mount.mount_id] = mount
            else:
                self._rewrite(finding, Condition.TIMED_OUT, _stuck_words(stuck), None, age, stuck.pid)
                self._known_since(mount, stuck.since)
                self.causes.know_stuck(mount, stuck.pid)

    def _note_unwritten(self, mount: Mount, why: str) -> None:
        self.notes.append(f"nothing is written to {text.printable(mount.mount_point)}: {why}")

    def _handle_write(self, mount: Mount, event: workers.Event) -> None:
        finding = self.findings[mount.mount_id]
        if isinstance(event, workers.Answered):
            try:
                outcome = probe.unpack_answer(event.answer)
            except ValueError as error:
                self._rewrite(finding, Condition.UNPROBED, f"not written: its worker's answer makes no sense: {error}")
                return
            if outcome.busy:
                self._reload_stuck()
                self._writes_held[mount.mount_id] = mount
                return
            if outcome.exception:
                self._rewrite(finding, Condition.UNPROBED, f"not written: {_exception_words(outcome)}")
                return
            if outcome.unremembered:
                self._note_unwritten(mount, f"it could not be remembered: {text.error_words(outcome.errno or 0)}")
                return
            if outcome.not_owner:
                self._rewrite(finding, Condition.OK, "not written: refused, and the owner could not be asked", outcome)
                return
            elsewhere = conditions.led_elsewhere(mount, outcome)
            if elsewhere is not None:
                self._rewrite(finding, Condition.UNPROBED, f"not written: {elsewhere.value}")
                return
            condition, detail = conditions.classify_write(outcome)
            self._rewrite(finding, condition, detail, outcome)
        elif isinstance(event, workers.TimedOut):
            self.killed.append((event.pid, mount))
            outcome = probe.unpack_progress(event.progress)
            detail = f"after {text.seconds_words(self._timeout_of(mount))} at {_step_word(event.progress)}"
            self._rewrite(finding, Condition.TIMED_OUT, detail, outcome, event.waited, event.pid)
        else:
            self._rewrite(finding, Condition.UNPROBED, f"not written: {_death_words(event)}")

    def _rewrite(
        self,
        finding: Finding,
        condition: Condition,
        detail: str,
        outcome: Optional[Outcome] = None,
        waited: Optional[float] = None,
        pid: Optional[int] = None,
    ) -> None:
        """Put what came of the writing into the finding of the reading."""
        mount, read = finding.mount, finding.outcome
        if mount is None or read is None:
            return
        if outcome is not None:
            seconds = (*read.seconds[: Step.READ], *outcome.seconds[Step.READ :])
            errnos = (*read.errnos[: Step.READ], *outcome.errnos[Step.READ :])
            failed = outcome if outcome.step is not None and outcome.step.writes else read
            acted = outcome.acted_as if outcome.acted_as is not None else read.acted_as
            read = dataclasses.replace(
                read, step=failed.step, errno=failed.errno, seconds=seconds, errnos=errnos, acted_as=acted
            )
        since = None if waited is None or pid is None else _boottime() - waited
        latency = read.latency if waited is None else waited
        remarks = (*finding.remarks, detail) if condition is Condition.OK and detail else finding.remarks
        rewritten = self._note(mount, condition, "" if condition is Condition.OK else detail, read, latency, pid, since)
        self.findings[mount.mount_id] = dataclasses.replace(rewritten, remarks=remarks)

    def _answer(self, mount: Mount, condition: Condition, detail: str) -> None:
        self._note(mount, condition, detail)
        self._ready.extend(self._plan.children.get(mount.mount_id, ()))

    def _time_out(self, mount: Mount, pid: int, waited: float, progress: bytes) -> None:
        self.killed.append((pid, mount))
        outcome = probe.unpack_progress(progress)
        detail = f"after {text.seconds_words(self._timeout_of(mount))}"
        finding = self._note(mount, Condition.TIMED_OUT, detail, outcome, waited, pid, _boottime() - waited)
        self._hang(
            mount, self._plan.blamed(mount.mount_id, mount.device, outcome.step not in (None, Step.LOOK_UP)), finding
        )

    def _hang(self, mount: Mount, gate: Gate, finding: Finding) -> None:
        """The gate is hung: so is everybody who has to pass it, and what is below is blocked."""
        self._hung[gate] = finding
        self._block_below(mount, finding)
        self._release(mount)

    def _share(self, mount: Mount, gate: Gate) -> None:
        hung = self._hung[gate]
        what = "same filesystem as" if gate[0] == "fs" else "the way to it leads through the same filesystem as that to"
        self._note(mount, Condition.TIMED_OUT, f"{what} {text.printable(hung.mount_point)}", None, hung.latency)
        finding = self._known_since(mount, hung.since)
        self._block_below(mount, finding)

    def _block_below(self, mount: Mount, finding: Finding, what: str = "timed out") -> None:
        below = collections.deque(self._plan.children.get(mount.mount_id, ()))
        detail = f"below {text.printable(finding.mount_point)}, which {what}"
        while below:
            child = below.popleft()
            self._note(child, Condition.BLOCKED, detail)
            below.extend(self._plan.children.get(child.mount_id, ()))

    def _note(
        self,
        mount: Mount,
        condition: Condition,
        detail: str,
        outcome: Optional[Outcome] = None,
        latency: Optional[float] = None,
        pid: Optional[int] = None,
        since: Optional[float] = None,
    ) -> Finding:
        finding = Finding(mount.mount_point, mount, condition, detail, outcome, latency, pid, since)
        self.findings[mount.mount_id] = finding
        self.tell(finding, len(self.findings) - len(self.chosen.shadowed))
        # That nobody came round to ask is as old as the pass.
        self.noted[mount.mount_id] = self._clock if condition is Condition.UNPROBED else time.monotonic()
        return finding

    def _known_since(self, mount: Mount, since: Optional[float]) -> Finding:
        """The finding of a mount, which was found to hang before this pass."""
        finding = self.findings[mount.mount_id] = dataclasses.replace(self.findings[mount.mount_id], since=since)
        return finding

    # -- the end

    def _end(self) -> None:
        """Give up what is open. The workers that did not answer are killed; their lines in the
        registry stand already."""
        came = self.interrupted or "the run's deadline"
        why = self._why_open(came)
        self._guarded("the last answers", lambda: self._arrived.extend(self._pool.last_answers()))
        self._handle_arrived()
        self._guarded("what has no answer", lambda: self._note_unserved(came, why))
        for mount in self.chosen.selected:
            if mount.mount_id not in self.findings:
                self._note(mount, Condition.UNPROBED, why)
        self.left = frozenset(self._pool.close())
        self._guarded("what is stuck", lambda: self._settle_stuck(self.left))
        self._guarded("the causes", lambda: self.causes.close(in_a_hurry=self.interrupted is not None))

    def _why_open(self, came: str) -> str:
        """Why something has no answer yet."""
        if self._pool.trouble is not None:
            self.notes.append(f"workers could not be started: {self._pool.trouble}")
            return f"no worker could be started ({self._pool.trouble})"
        return f"{came} came first" + (f", after an error ({self._trouble})" if self._trouble else "")

    def _note_unserved(self, came: str, why: str) -> None:
        for key, pid, progress, waited in self._pool.unserved():
            mount = self._mount_of(key)
            # Somebody was asking: how long in vain is what points to a mount that hangs.
            unanswered = (
                f"no answer for {text.seconds_words(round(waited, 1))} at {_step_word(progress)} when {came} came"
            )
            if key & _WRITE:
                words = f"not written: {why if pid is None else unanswered}"
                self._rewrite(self.findings[mount.mount_id], Condition.UNPROBED, words)
            elif pid is None:
                self._note(mount, Condition.UNPROBED, why)
            else:
                outcome = probe.unpack_progress(progress)
                self._note(mount, Condition.UNPROBED, unanswered, outcome, waited, pid, _boottime() - waited)
        for mount in self._writes_held.values():
            self._rewrite(
                self.findings[mount.mount_id], Condition.UNPROBED, f"not written: another run is writing, and {why}"
            )

    def _settle_stuck(self, left: frozenset[int]) -> None:
        """Only who did not heed SIGKILL is stuck; what else timed out leaves no process behind."""
        # What shares the fate of another mount has no outcome of its own.
        self.lost = [
            _lost(finding) for finding in self.findings.values() if finding.stuck_pid in left and finding.outcome
        ]
        self._registry.forget_promises(self._plan.has_device)
        self._registry.close(any_stuck=bool(left))
        earlier = {probe.pid for probe in self._registry.probes}
        for key, finding in self.findings.items():
            if finding.stuck_pid is not None and finding.stuck_pid not in left | earlier:
                self.findings[key] = dataclasses.replace(finding, stuck_pid=None, stuck_since=None)


def _exception_words(outcome: Outcome) -> str:
    return f"internal error in its worker: {text.clipped(outcome.exception, 200)}"


def _death_words(event: workers.Died) -> str:
    who = "its worker" if event.pid is None else f"its worker (pid {event.pid})"
    return f"{who} died at {_step_word(event.progress)}"


def _step_word(progress: bytes) -> str:
    step = probe.unpack_progress(progress).step
    return "its start" if step is None else step.word


def _lost(finding: Finding) -> StuckProbe:
    """What the registry would say of a probe that has not come back."""
    mount, pid, outcome = finding.mount, finding.stuck_pid, finding.outcome
    assert mount is not None and pid is not None and outcome is not None
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - (finding.latency or 0.0)
    step = outcome.step
    arrived = step is not None and step is not Step.LOOK_UP
    return StuckProbe(
        pid, process_start(pid) or 0, mount.mount_id, mount.device, since, arrived, step is not None and step.writes
    )


def _age(stuck: StuckProbe) -> float:
    return _boottime() - stuck.since


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _stuck_words(stuck: StuckProbe) -> str:
    return f"a {'write' if stuck.writing else 'probe'} has been stuck in it since {text.moment(stuck.since)} (pid {stuck.pid})"
