"""The canaries of a pass: one look at a time for each filesystem, after the reading steps of its
mount have answered.

A mount whose canary is not as it should be has changed: another volume is mounted, or an empty
one."""

from __future__ import annotations

import collections
import errno
import stat
from collections.abc import Callable, Iterable

from check_mounts import text
from check_mounts.clocks import Boottime, boottime
from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import DENIED_ERRORS, NOT_OFFERED, Outcome, Step
from check_mounts.probing import conditions, frames
from check_mounts.probing.asking import Timeouts
from check_mounts.probing.book import Book
from check_mounts.probing.causes import Causes
from check_mounts.probing.others import Others, age, stuck_words
from check_mounts.probing.requests import EMPTY, NO_FILE, OTHER_CONTENT, Canary
from check_mounts.system import workers
from check_mounts.typed import Optional

_WRONG = "wrong content: "
# A look-up that finds another thing than a file of this filesystem; all of them mean that the
# canary is not there as it should be.
_NOT_THERE = {
    errno.ENOENT: "{} is not there",
    errno.ENOTDIR: "{} is not there",
    errno.ENAMETOOLONG: "{} is not there",
    errno.ELOOP: "{} is a symbolic link, or one leads to it",
    errno.EXDEV: "{} is on another mount",
    errno.ENXIO: "{} is no regular file",
    errno.EISDIR: "{} is no regular file",
    NO_FILE: "{} is no regular file",
    OTHER_CONTENT: "{} does not hold what it should",
    EMPTY: "its root directory is empty",
}


class Canaries:
    """The looks of one pass. ``submit`` has a worker look at a mount's canary; ``then`` is called
    with each mount whose canary is well, or need not be looked at. ``selected`` are all mounts of
    the pass."""

    def __init__(
        self,
        canary_of: Callable[[Mount], Optional[Canary]],
        submit: Callable[[Mount], None],
        then: Callable[[Mount], None],
        selected: Iterable[Mount],
        others: Others,
        book: Book,
        timeouts: Timeouts,
        causes: Causes,
    ) -> None:
        self._canary_of, self._submit, self._then = canary_of, submit, then
        self._mounts_of: dict[tuple[int, int], list[Mount]] = {}
        for mount in selected:
            self._mounts_of.setdefault(mount.device, []).append(mount)
        self._others, self._book, self._timeouts, self._causes = others, book, timeouts, causes
        # The mounts whose canaries were not looked at yet; the filesystems with a look under way.
        self._waiting: dict[tuple[int, int], collections.deque[Mount]] = {}
        self._under_way: set[tuple[int, int]] = set()
        self._held: dict[int, Mount] = {}

    @property
    def holds_any(self) -> bool:
        """Whether mounts wait for another one, or for a concurrent run."""
        return bool(self._held or self._waiting)

    def begin(self, mount: Mount) -> None:
        """Look at the canary of a mount that has answered, if it has one: once all other mounts of
        its filesystem were asked, whose reading steps might wait for it."""
        if self._canary_of(mount) is not None:
            outcome = self._book.of(mount).outcome
            if outcome is not None and stat.S_ISDIR(outcome.mode or 0):  # a bind-mounted file has nothing below it
                self._waiting.setdefault(mount.device, collections.deque()).append(mount)
                return
        self._then(mount)

    def go_on(self) -> None:
        """Start the looks that nothing is in the way of."""
        for mount in list(self._held.values()):
            stuck = self._others.at_filesystem(mount.device)
            if stuck is None or self._others.is_over(stuck, self._timeouts.of(mount)):
                del self._held[mount.mount_id]
                self._start(mount)
        for device in [each for each in self._waiting if each not in self._under_way and not self._is_open(each)]:
            queue = self._waiting[device]
            mount = queue.popleft()
            if not queue:
                del self._waiting[device]
            self._under_way.add(device)
            self._start(mount)

    def _is_open(self, device: tuple[int, int]) -> bool:
        """Whether a mount of this filesystem was not asked yet."""
        return any(not self._book.has(each) for each in self._mounts_of.get(device, ()))

    def _start(self, mount: Mount) -> None:
        stuck = self._others.at_filesystem(mount.device)
        if stuck is None or not self._others.is_still_stuck(stuck):
            self._submit(mount)
        elif age(stuck) < self._timeouts.of(mount):  # a concurrent run asks it
            self._held[mount.mount_id] = mount
        else:
            self._hang(mount, stuck_words(stuck), age(stuck), stuck.pid, since=stuck.since)
            self._causes.know_stuck(mount, stuck.pid)

    def handle(self, mount: Mount, event: workers.Event) -> None:
        """Judge the result of a look."""
        if isinstance(event, workers.Answered):
            self._handle_answer(mount, event.answer)
        elif isinstance(event, workers.TimedOut):
            self._book.killed.append((event.pid, mount))
            timeout = self._timeouts.of(mount)
            words = f"after {text.seconds_words(timeout)} at its canary"
            self._hang(mount, words, event.waited, event.pid, after=timeout)
        else:
            self.give_up(mount, conditions.death_words(event.pid, frames.unpack_progress(event.progress).step))

    def give_up(self, mount: Mount, why: str) -> None:
        """Enter that the canary is not known, and ``why``."""
        self._enter(mount, Condition.UNPROBED, f"its canary was not looked at: {why}")

    def give_up_last(self, mount: Mount, why: str) -> None:
        """The same at the end of the pass, after which no other look begins."""
        words = f"its canary was not looked at: {why}"
        self._book.enter(mount, self._with(mount, Condition.UNPROBED, words))

    def give_up_held(self, why: str) -> None:
        """Enter the same for the mounts that still wait."""
        for mount in [*self._held.values(), *(each for queue in self._waiting.values() for each in queue)]:
            self.give_up_last(mount, why)

    def _handle_answer(self, mount: Mount, answer: bytes) -> None:
        outcome = conditions.of_later_visit(mount, answer)
        if isinstance(outcome, str):
            self.give_up(mount, outcome)
        elif outcome.busy:
            self._others.reload()
            self._held[mount.mount_id] = mount
        elif outcome.not_owner:
            self._enter(mount, Condition.OK, "its canary was not looked at: this process cannot act as the owner")
        else:
            self._enter(mount, *self._judged(mount, outcome))

    def _judged(self, mount: Mount, outcome: Outcome) -> tuple[Condition, str]:
        """The condition and detail of a look that came back."""
        canary, number = self._canary_of(mount), outcome.errno
        if number is None or canary is None:
            return Condition.OK, ""
        shown = text.clipped(text.printable(canary.file), 200)
        if outcome.step is Step.READ and number in _NOT_THERE:
            return Condition.CHANGED, _WRONG + _NOT_THERE[number].format(shown)
        words = f"{text.error_words(number)} at its canary {shown}".rstrip()
        if number in DENIED_ERRORS:
            return (
                Condition.DENIED,
                f"{words} for {conditions.whose(outcome)}" if outcome.acted_as is not None else words,
            )
        if number in conditions.OURS or number in NOT_OFFERED:
            return Condition.UNPROBED, words
        return Condition.DEAD, words

    def _hang(
        self,
        mount: Mount,
        words: str,
        seconds: float,
        pid: int,
        since: Optional[Boottime] = None,
        after: Optional[float] = None,
    ) -> None:
        """Enter that a process hangs at the canary; all other mounts of the filesystem with one
        would hang, too."""
        hung = self._waiting.pop(mount.device, collections.deque())
        finding = self._with(mount, Condition.TIMED_OUT, words)._replace(
            latency=seconds, stuck_pid=pid, stuck_since=Boottime(boottime() - seconds), since=since, after=after
        )
        self._book.enter(mount, finding)
        self._causes.know(finding)
        for other in hung:
            point = text.printable(mount.mount_point)
            self._book.enter(
                other, self._with(other, Condition.TIMED_OUT, f"at its canary: same filesystem as {point}")
            )

    def _with(self, mount: Mount, condition: Condition, detail: str) -> Finding:
        """The finding of a mount, which keeps the results of its reading steps."""
        known = self._book.of(mount)
        return Finding(mount.mount_point, mount, condition, detail, known.outcome, known.latency, remarks=known.remarks)

    def _enter(self, mount: Mount, condition: Condition, detail: str) -> None:
        """Add the result to the finding, and go on. If the condition is OK, ``detail`` is a
        remark."""
        if condition is not Condition.OK:
            finding = self._with(mount, condition, detail)
            self._book.enter(mount, finding)
            self._causes.know(finding)
        elif detail:
            known = self._book.of(mount)
            self._book.enter(mount, known._replace(remarks=(*known.remarks, detail)))
        self._under_way.discard(mount.device)
        if condition is Condition.OK:
            self._then(mount)
