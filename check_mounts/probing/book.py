"""The book of a pass: what it has found so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from check_mounts.clocks import Monotonic, epoch, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import Outcome
from check_mounts.selection import Selection


class Book:
    """A finding for each mount that has one, by mount ID, and notes for the administrator.

    ``noted`` says when each finding was made. ``tell`` is called with each finding of a selected
    mount as it is made, and with the number of selected mounts that have one by then; the end of
    the pass may still change one. ``killed`` has (pid, mount) of each worker that got SIGKILL
    because its time was over; the owner of the pass takes them away."""

    def __init__(self, chosen: Selection) -> None:
        self.started, self.began = epoch(), monotonic()
        self.findings: dict[int, Finding] = {}
        self.noted: dict[int, Monotonic] = {}
        self.notes: list[str] = []
        self.killed: list[tuple[int, Mount]] = []
        self.tell: Callable[[Finding, int], None] = lambda finding, count: None
        self._uncounted = len(chosen.shadowed)

    def has(self, mount: Mount) -> bool:
        """Whether there is a finding of this mount."""
        return mount.mount_id in self.findings

    def of(self, mount: Mount) -> Finding:
        """The finding of a mount that has one."""
        return self.findings[mount.mount_id]

    def enter(self, mount: Mount, finding: Finding) -> Finding:
        """Write down what was found of a mount, in place of what was found before."""
        self.findings[mount.mount_id] = finding
        self.tell(finding, len(self.findings) - self._uncounted)
        # That the pass did not get round to a mount is as old as the pass.
        self.noted[mount.mount_id] = self.began if finding.condition is Condition.UNPROBED else monotonic()
        return finding

    def say(self, mount: Mount, condition: Condition, detail: str, outcome: Optional[Outcome] = None) -> Finding:
        """Write down a finding that needs no more than words, and the outcome of the probe if there
        is one."""
        latency = None if outcome is None else outcome.latency
        return self.enter(mount, Finding(mount.mount_point, mount, condition, detail, outcome, latency))

    def remark(self, words: str) -> None:
        """Add a note, unless it is there already."""
        if words not in self.notes:
            self.notes.append(words)
