"""The clocks that we read times from. Each has a type of its own, so that a time of one cannot be
taken for a time of another.

Import budget: ``time``.

- ``Monotonic``: seconds on CLOCK_MONOTONIC, for deadlines and for measuring. It stands still while
  the host is suspended, so a wait does not run out meanwhile. It means nothing outside this boot.
- ``Boottime``: seconds on CLOCK_BOOTTIME, for what another process reads later (the status file,
  the registry, notes). It counts a suspension, and nobody can set it. Written beside the boot's ID.
- ``Epoch``: seconds since 1970 (time(2)), for people and servers. The host's clock may be set at
  any moment, so no code decides by it.

A duration is a plain ``float`` of seconds: the difference of two times of one clock. The sum of a
time and a duration is a ``float``, too, until it is given its type again: ``Monotonic(now + 5)``.

The watcher, the notes and the fast path of ``--cached`` do not import this, to save time, and use
plain numbers."""

from __future__ import annotations

import time
from collections.abc import Callable

from check_mounts.typed import NewType, cast

Monotonic = NewType("Monotonic", float)
Boottime = NewType("Boottime", float)
Epoch = NewType("Epoch", float)

# A wait until then does not wait; a task that is due then is due now.
PAST = Monotonic(0.0)
# A task that waits only for its descriptor is due then.
NEVER = Monotonic(float("inf"))

# The function itself: the pool calls it several times for each answer, and a wrapper would cost.
monotonic = cast("Callable[[], Monotonic]", time.monotonic)


def after(seconds: float) -> Monotonic:
    """The time in ``seconds`` from now."""
    return Monotonic(time.monotonic() + seconds)


def boottime() -> Boottime:
    """The time now, for records that outlive this process."""
    return Boottime(time.clock_gettime(time.CLOCK_BOOTTIME))


def epoch() -> Epoch:
    """The time now, for people."""
    return Epoch(time.time())


def epoch_of(when: Boottime) -> Epoch:
    """The time, for people, of something that happened in this boot.

    The host's clock as it is now decides: it may have been set since then, above all on a host that
    has no clock of its own."""
    return Epoch(epoch() - (boottime() - when))
