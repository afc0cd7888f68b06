"""Keeps which mount is at which gate, and which mounts wait there.

A gate lets one mount through at a time until one of them has answered. So a hung filesystem costs
exactly one stuck process, however many bind mounts show it."""

from __future__ import annotations

from collections.abc import Callable

from check_mounts.model import Finding, Mount, StuckProbe
from check_mounts.probing.others import Others
from check_mounts.probing.plan import Gate, Plan
from check_mounts.typed import NamedTuple, Optional, Union


class Hung(NamedTuple):
    """A mount hangs at this gate, with this ``finding``. Each mount that must pass hangs, too."""

    gate: Gate
    finding: Finding


class Taken(NamedTuple):
    """A probe of another run is at this gate."""

    gate: Gate
    stuck: StuckProbe


class Queued:
    """Another mount is at a gate. The new mount waits there until :meth:`Gates.leave` or
    :meth:`Gates.reopen` returns it."""


Obstacle = Union[Hung, Taken, Queued]


class Gates:
    """The gates of one pass."""

    def __init__(self, plan: Plan, others: Others) -> None:
        self._plan, self._others = plan, others
        self._at: dict[int, list[Gate]] = {}
        self._waiting: dict[Gate, list[Mount]] = {}
        self._passed: set[Gate] = set()
        self._hung: dict[Gate, Finding] = {}
        self._held: dict[Gate, list[Mount]] = {}

    @property
    def holds_any(self) -> bool:
        """Whether mounts wait for the probe of a concurrent run."""
        return bool(self._held)

    def is_free(self, mount: Mount) -> bool:
        """Whether the mount has no gate where it could meet another one, or another run's probe."""
        return mount.mount_id not in self._plan.gated and not self._others.at

    def approach(self, mount: Mount) -> Optional[Obstacle]:
        """Bring a mount to its gates, one after the other; return the first obstacle, None if all
        gates are free."""
        for gate in self._plan.gates(mount):
            if gate in self._hung:
                return Hung(gate, self._hung[gate])
            if gate in self._held:
                self._held[gate].append(mount)
                return Queued()
            if gate in self._others.at:
                return Taken(gate, self._others.at[gate])
            if gate in self._waiting:
                self._waiting[gate].append(mount)
                return Queued()
        return None

    def enter(self, mount: Mount) -> None:
        """Close the gates of a mount to other mounts, except gates that a mount has passed
        before."""
        gates = [gate for gate in self._plan.gates(mount) if gate not in self._passed]
        self._waiting.update((gate, []) for gate in gates)
        self._at[mount.mount_id] = gates

    def leave(self, mount: Mount, passed: bool = False, answered: bool = False) -> list[Mount]:
        """Take a mount away from its gates; return the mounts that waited there, which must
        approach again.

        ``passed``: the mount has come through the gate on its path. ``answered``: its own
        filesystem has answered."""
        freed: list[Mount] = []
        for gate in self._at.pop(mount.mount_id, ()):
            if passed if gate.on_the_way else answered:
                self._passed.add(gate)
            freed.extend(self._waiting.pop(gate))
        return freed

    def hang(self, gate: Gate, finding: Finding) -> None:
        """Close a gate for good: a mount hangs there."""
        self._hung[gate] = finding

    def hold(self, gate: Gate, mount: Mount) -> None:
        """Make a mount, and those that come after it, wait for the probe of a concurrent run."""
        self._held[gate] = [mount]

    def reopen(self, timeout_of: Callable[[Mount], float]) -> list[Mount]:
        """Return the mounts that no longer wait for the probe of a concurrent run, because that has
        come back or hangs."""
        freed: list[Mount] = []
        for gate, mounts in list(self._held.items()):
            stuck = self._others.at.get(gate)
            if stuck is None or self._others.is_over(stuck, min(map(timeout_of, mounts))):
                freed.extend(self._held.pop(gate))
        return freed
