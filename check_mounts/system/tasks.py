"""The protocol of all work that the daemon's loop or a single run waits for: a pass, a delivery, a
file being written.

Import budget: clocks."""

from __future__ import annotations

from check_mounts.clocks import PAST, Monotonic
from check_mounts.typed import Protocol


class Task(Protocol):
    """Work whose owner does the waiting, so that one loop can wait for many tasks.

    The owner calls :meth:`step` whenever :meth:`fileno` is readable and when the task is
    :attr:`due`, until it is :attr:`done`. Then the owner takes the result, through the task's own
    method for that, and never steps it again.

    - A step never blocks beyond ``until``. Work that may hang is done in a worker of the task.
    - A step never raises because of a mount, a server or a lack of memory: the task keeps what it
      has, and tries the rest again when it is due.
    - ``due`` and ``done`` are cheap and change nothing. A ``due`` in the past means now.
    - A task ends by itself, at its own deadline at the latest. Some tasks of the daemon never end:
      they say so, and are ``due`` at clocks.NEVER while they have nothing to do."""

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`step` has something to do before :attr:`due`.
        It stays the same until the task is done."""
        ...

    @property
    def due(self) -> Monotonic:
        """When :meth:`step` must be called at the latest; clocks.NEVER where only the descriptor
        counts."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing is left to wait for, or no time is left."""
        ...

    def step(self, until: Monotonic = PAST) -> None:
        """Process what has come, or comes until ``until``; without a time, do not wait."""
        ...
