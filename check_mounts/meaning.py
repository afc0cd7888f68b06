"""What a condition means: one row for each, worst first, with everything that the package asks
about it.

Import budget: nothing. Pure.

CONTRIBUTING.md has the recipe for a condition."""

from __future__ import annotations

from collections.abc import Mapping

from check_mounts.model import Condition, State
from check_mounts.typed import NamedTuple, Optional


class Meaning(NamedTuple):
    """A row of the table.

    ``severity`` is the state without ``--severity``; None where a threshold decides. ``words`` is
    the text for a finding's detail, ``news`` the text for a change in the daemon's log.

    ``counted``: the mount is one of those that were checked. ``timed``: its latency is that of an
    answer. ``passable``: it has answered, so names can be looked up below it, even if something
    else is wrong with it. ``spreads``: it has failed, and the mounts below are counted with it.
    ``silent``: it may have recovered without being asked again. ``doubtful``: it is asked again
    when a new mount hangs from it. ``kept``: it has failed by itself, so a difference from its
    declaration is only a remark. ``from_table``: the mount table says so, not a probe.

    ``passable``, ``spreads``, ``silent``, ``kept`` and ``from_table`` are asked of findings. Where
    a threshold or a counter makes the condition (``slow``, ``failing``), the finding is ok, and
    only its judgement is not."""

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


# Within a state, reports list mounts in this order: those that fail by themselves before those that
# fail because of others.
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
        # These are the words of MountStatusMonitor, which people's rules for logs know.
        news="Couldn't check mountpoint {point}: {detail}",
        passable=True,
        kept=True,
    ),
    Meaning(Condition.CHANGED, State.WARNING, "changed: {}", passable=True, from_table=True),
    Meaning(Condition.FAILING, State.WARNING, "failing: {}", timed=True, passable=True),
    Meaning(Condition.SLOW, None, "slow: {}", timed=True, passable=True),
    Meaning(Condition.UNPROBED, State.UNKNOWN, "not probed: {}", news="{point} {words}", doubtful=True, kept=True),
    Meaning(Condition.BLOCKED, State.OK, "blocked: {}", spreads=True, silent=True, doubtful=True),
    Meaning(Condition.SHADOWED, State.OK, "shadowed: {}", counted=False, from_table=True),
    Meaning(Condition.IDLE, State.OK, "idle: {}"),
    Meaning(Condition.GHOST, State.OK, "{}", news="{point} {words}", counted=False, from_table=True),
    Meaning(Condition.OK, State.OK, "ok", timed=True, passable=True),
)

_ROWS: Mapping[Condition, Meaning] = {row.condition: row for row in TABLE}
_GRAVITY: Mapping[Condition, int] = {row.condition: -position for position, row in enumerate(TABLE)}
# A mount that has failed by itself, and with which the mounts below are counted.
FAILED = frozenset(row.condition for row in TABLE if row.spreads and row.kept)


def of(condition: Condition) -> Meaning:
    """The row of a condition."""
    return _ROWS[condition]


def gravity(condition: Condition) -> int:
    """How bad a condition is compared with others of the same state; the greatest is the worst."""
    return _GRAVITY[condition]
