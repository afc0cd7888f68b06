"""The write probes of a pass: one for each filesystem that a file should be written to, after its
reading steps have answered.

The result of a write probe is added to the mount's finding, which keeps the results of the reading
steps."""

from __future__ import annotations

import stat
from collections.abc import Callable

from check_mounts import text
from check_mounts.clocks import Boottime, boottime
from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import Outcome, Step
from check_mounts.probing import conditions, frames
from check_mounts.probing.asking import Timeouts
from check_mounts.probing.book import Book
from check_mounts.probing.causes import Causes
from check_mounts.probing.others import Others, age, stuck_words
from check_mounts.system import workers
from check_mounts.typed import NamedTuple, Optional


class Writing:
    """The write probes of one pass. ``submit`` makes a worker write to a mount."""

    def __init__(
        self, submit: Callable[[Mount], None], others: Others, book: Book, timeouts: Timeouts, causes: Causes
    ) -> None:
        self._submit = submit
        self._others = others
        self._book = book
        self._timeouts = timeouts
        self._causes = causes
        self._begun: set[tuple[int, int]] = set()
        self._held: dict[int, Mount] = {}

    @property
    def holds_any(self) -> bool:
        """Whether mounts wait for the write probe of a concurrent run."""
        return bool(self._held)

    def begin(self, mount: Mount) -> None:
        """Have a worker write a file, once for each filesystem."""
        outcome = self._book.of(mount).outcome
        if mount.device in self._begun or outcome is None or not stat.S_ISDIR(outcome.mode or 0):
            return  # a bind-mounted file: another mount of the same superblock may be a directory
        self._begun.add(mount.device)
        stuck = self._others.writing.get(mount.device)
        if not self._others.remembers:
            self._remark(mount, "without a state directory, no run could remove the file of a killed worker")
        elif stuck is None or not self._others.is_still_stuck(stuck):
            self._submit(mount)
        elif age(stuck) < self._timeouts.of(mount):  # a concurrent run is writing
            self._held[mount.mount_id] = mount
        else:
            self._enter(mount, Condition.TIMED_OUT, stuck_words(stuck), hang=_Hang(age(stuck), stuck.pid, stuck.since))
            self._causes.know_stuck(mount, stuck.pid)

    def look_at_held(self) -> None:
        """Continue with the mounts where the write probe of a concurrent run has come back or
        hangs."""
        for mount in list(self._held.values()):
            stuck = self._others.writing.get(mount.device)
            if stuck is None or self._others.is_over(stuck, self._timeouts.of(mount)):
                del self._held[mount.mount_id]
                self._begun.discard(mount.device)
                self.begin(mount)

    def handle(self, mount: Mount, event: workers.Event) -> None:
        """Judge the result of a write probe."""
        if isinstance(event, workers.Answered):
            self._handle_answer(mount, event.answer)
        elif isinstance(event, workers.TimedOut):
            self._time_out(mount, event)
        else:
            self.give_up(mount, conditions.death_words(event.pid, frames.unpack_progress(event.progress).step))

    def give_up(self, mount: Mount, why: str) -> None:
        """Enter that we do not know whether this mount can be written to, and ``why``."""
        self._enter(mount, Condition.UNPROBED, f"not written: {why}")

    def give_up_held(self, why: str) -> None:
        """Enter the same for the mounts that still wait for a concurrent run."""
        for mount in self._held.values():
            self.give_up(mount, f"another run is writing, and {why}")

    def _handle_answer(self, mount: Mount, answer: bytes) -> None:
        outcome = conditions.of_later_visit(mount, answer)
        if isinstance(outcome, str):
            self.give_up(mount, outcome)
        elif outcome.busy:
            self._others.reload()
            self._held[mount.mount_id] = mount
        elif outcome.unremembered:
            self._remark(mount, f"the file could not be remembered: {text.error_words(outcome.errno or 0)}")
        elif outcome.not_owner:
            self._enter(
                mount, Condition.OK, "not written: refused, and this process cannot act as the owner", outcome=outcome
            )
        else:
            self._enter(mount, *conditions.classify_write(outcome), outcome=outcome)

    def _time_out(self, mount: Mount, event: workers.TimedOut) -> None:
        self._book.killed.append((event.pid, mount))
        outcome, timeout = frames.unpack_progress(event.progress), self._timeouts.of(mount)
        detail = f"after {text.seconds_words(timeout)} at {conditions.step_word(outcome.step)}"
        self._enter(mount, Condition.TIMED_OUT, detail, outcome, _Hang(event.waited, event.pid, after=timeout))

    def _remark(self, mount: Mount, why: str) -> None:
        self._book.notes.append(f"nothing is written to {text.printable(mount.mount_point)}: {why}")

    def _enter(
        self,
        mount: Mount,
        condition: Condition,
        detail: str,
        outcome: Optional[Outcome] = None,
        hang: Optional[_Hang] = None,
    ) -> None:
        """Add the result of writing to the finding. If the condition is OK, ``detail`` is a
        remark."""
        finding = self._book.of(mount)
        if finding.outcome is None:
            return
        read = finding.outcome if outcome is None else _joined(finding.outcome, outcome)
        remarks = finding.remarks
        if condition is Condition.OK and detail:
            remarks, detail = (*remarks, detail), ""
        finding = Finding(mount.mount_point, mount, condition, detail, read, read.latency, remarks=remarks)
        if hang is not None:
            finding = finding._replace(
                latency=hang.seconds,
                stuck_pid=hang.pid,
                stuck_since=Boottime(boottime() - hang.seconds),
                since=hang.since,
                after=hang.after,
            )
        self._book.enter(mount, finding)
        self._causes.know(finding)


class _Hang(NamedTuple):
    """A process that has been writing for ``seconds``. ``since`` and ``after`` are those of a
    :class:`~check_mounts.model.Finding`."""

    seconds: float
    pid: int
    since: Optional[Boottime] = None
    after: Optional[float] = None


def _joined(read: Outcome, written: Outcome) -> Outcome:
    """The outcome of the reading steps and of the writing steps in one."""
    failed = written if written.step is not None and written.step.writes else read
    return read._replace(
        step=failed.step,
        errno=failed.errno,
        seconds=(*read.seconds[: Step.READ], *written.seconds[Step.READ :]),
        errnos=(*read.errnos[: Step.READ], *written.errnos[Step.READ :]),
        acted_as=written.acted_as if written.acted_as is not None else read.acted_as,
    )
