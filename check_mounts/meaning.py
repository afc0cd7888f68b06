"""What a condition means: one row for each, worst first, with all that the package asks about it.

Import budget: ``dataclasses``. Pure.

To add a condition: a member of :class:`check_mounts.model.Condition`, a row here, and the code that
finds it (conditions, or compare)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional

from check_mounts.model import Condition, State


@dataclasses.dataclass(frozen=True)
class Meaning:
    """A row of the table.

    ``severity`` is the state without ``--severity``; None where a threshold says it. ``words`` is
    how a finding's detail is told, ``news`` a change in the daemon's log.

    ``counted``: it is one of the mounts that were checked. ``timed``: its latency is that of an
    answer. ``passable``: it has answered, so names can be looked up below it, even if it is not as
    it should be. ``spreads``: it has failed, and what lies below is counted with it. ``silent``: it
    may have come back without being asked again. ``doubtful``: it is asked again when something new
    hangs from it. ``kept``: it is wrong by itself, so what differs from its
    declaration is only remarked. ``from_table``: the
    mount table alone says so, and no probe."""

    condition: Condition
    severity: Optional[State]
    words: str
    news: str = "{point} is {words}"
    counted: bool = True
    timed: bool = False
    passable: bool = False
    spreads: bool = False
    silent: bool = False
    doubtful: bool = False
    kept: bool = False
    from_table: bool = False


# Within a state this is the order in which mounts are told: those that fail by themselves before
# their consequences.
TABLE = (
    Meaning(
        Condition.TIMED_OUT,
        State.CRITICAL,
        "timed out: {}",
        news="{point} {words}",
        spreads=True,
        silent=True,
        doubtful=True,
        kept=True,
    ),
    Meaning(Condition.DEAD, State.CRITICAL, "dead: {}", spreads=True, doubtful=True, kept=True),
    Meaning(Condition.MISSING, State.CRITICAL, "missing: {}", from_table=True),
    Meaning(Condition.READ_ONLY, State.CRITICAL, "read-only: {}", passable=True, from_table=True),
    Meaning(Condition.FULL, State.CRITICAL, "full: {}", timed=True, passable=True, kept=True),
    Meaning(
        Condition.DENIED,
        State.WARNING,
        "denied: {}",
        # In the words of MountStatusMonitor, which rules for logs know.
        news="Couldn't check mountpoint {point}: {detail}",
        passable=True,
        kept=True,
    ),
    Meaning(Condition.CHANGED, State.WARNING, "changed: {}", passable=True, from_table=True),
    Meaning(Condition.SLOW, None, "slow: {}", timed=True, passable=True),
    Meaning(Condition.UNPROBED, State.UNKNOWN, "not probed: {}", news="{point} {words}", doubtful=True, kept=True),
    Meaning(Condition.BLOCKED, State.OK, "blocked: {}", spreads=True, silent=True, doubtful=True),
    Meaning(Condition.SHADOWED, State.OK, "shadowed: {}", counted=False, from_table=True),
    Meaning(Condition.OK, State.OK, "ok", timed=True, passable=True),
)

_ROWS: Mapping[Condition, Meaning] = {row.condition: row for row in TABLE}
_GRAVITY: Mapping[Condition, int] = {row.condition: -position for position, row in enumerate(TABLE)}


def of(condition: Condition) -> Meaning:
    """The row of a condition."""
    return _ROWS[condition]


def gravity(condition: Condition) -> int:
    """How bad a condition is beside others of the same state: the greatest is the worst."""
    return _GRAVITY[condition]
