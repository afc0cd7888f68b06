"""The work that the daemon's loop, or a single run, waits for: a pass, a delivery, a file being
written.

Import budget: ``typing``; clocks."""

from __future__ import annotations

from typing import Protocol

from check_mounts.clocks import PAST, Monotonic


class Task(Protocol):
    """Work that leaves the waiting to its owner, so that one loop can wait for many tasks.

    The owner calls :meth:`step` whenever :meth:`fileno` is readable and when the task is
    :attr:`due`, until it is :attr:`done`. Then the owner takes the result, through the task's own
    method for that, and never steps it again.

    - A step never blocks beyond ``until``. What may hang is done in a worker of the task's own.
    - A step raises nothing that a mount, a server or a lack of memory can cause: the task keeps
      what it has, and tries the rest again when it is due.
    - ``due`` and ``done`` are cheap and change nothing. ``due`` may lie in the past: now.
    - A task comes to its end by itself, at its own deadline at the latest. Some of the daemon's
      never do: they say so, and are ``due`` at clocks.NEVER while they have nothing to do."""

    def fileno(self) -> int:
        """A descriptor that is readable where :meth:`step` has something to do before it is
        :attr:`due`. It stays the same until the task is done."""
        ...

    @property
    def due(self) -> Monotonic:
        """When :meth:`step` must be called at the latest; clocks.NEVER where only its descriptor
        counts."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing is left to wait for, or no time to wait for it."""
        ...

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes until then; without a time, wait for nothing."""
        ...
