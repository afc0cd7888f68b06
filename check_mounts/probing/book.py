"""The book of a pass: all its findings so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from check_mounts.clocks import Monotonic, epoch, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import Outcome
from check_mounts.selection import Selection
from check_mounts.typed import Optional

# The fields of a finding after its latency, where there is nothing more to say.
_REST = Finding(b"", None, Condition.OK)[Finding._fields.index("latency") + 1 :]


class Book:
    """A finding for each mount that has one, by mount ID, and notes for the administrator.

    ``noted`` says when each finding was made. ``tell`` is called with new findings of selected
    mounts, and with the number of selected mounts that have a finding by then: with each finding
    that is not OK at once, and with the others of a batch together. The end of the pass may still
    change a finding. ``killed`` has (pid, mount) of each worker that got SIGKILL
    because its time was up; the owner of the pass removes them."""

    def __init__(self, chosen: Selection) -> None:
        self.started, self.began = epoch(), monotonic()
        self.findings: dict[int, Finding] = {}
        self.noted: dict[int, Monotonic] = {}
        self.notes: list[str] = []
        self.killed: list[tuple[int, Mount]] = []
        self.tell: Callable[[Sequence[Finding], int], None] = lambda findings, count: None
        self._untold: list[Finding] = []
        self._uncounted = len(chosen.shadowed)

    def has(self, mount: Mount) -> bool:
        """Whether this mount has a finding."""
        return mount.mount_id in self.findings

    def of(self, mount: Mount) -> Finding:
        """The finding of a mount that has one."""
        return self.findings[mount.mount_id]

    def enter(self, mount: Mount, finding: Finding) -> Finding:
        """Enter the finding of a mount, in place of an earlier one."""
        self.findings[mount.mount_id] = finding
        self._tell([finding])
        # A mount that the pass did not get to is unprobed since the beginning of the pass.
        self.noted[mount.mount_id] = self.began if finding.condition is Condition.UNPROBED else monotonic()
        return finding

    def enter_healthy(self, mount: Mount, outcome: Outcome, when: Monotonic) -> float:
        """Enter the finding of a mount that is OK, and return its latency; :meth:`count` must
        follow."""
        latency = outcome.latency
        finding = Finding._make((mount.mount_point, mount, Condition.OK, "", outcome, latency, *_REST))
        self.findings[mount.mount_id] = finding
        self.noted[mount.mount_id] = when
        self._untold.append(finding)
        return latency

    def count(self) -> None:
        """Tell the findings that were not told yet."""
        if self._untold:
            untold, self._untold = self._untold, []
            self._tell(untold)

    def _tell(self, findings: Sequence[Finding]) -> None:
        self.tell(findings, len(self.findings) - self._uncounted)

    def say(self, mount: Mount, condition: Condition, detail: str, outcome: Optional[Outcome] = None) -> Finding:
        """Enter a finding that consists of a condition, words, and the outcome of the probe if
        there is one."""
        latency = None if outcome is None else outcome.latency
        return self.enter(mount, Finding(mount.mount_point, mount, condition, detail, outcome, latency))

    def remark(self, words: str) -> None:
        """Add a note, unless it is there already."""
        if words not in self.notes:
            self.notes.append(words)
