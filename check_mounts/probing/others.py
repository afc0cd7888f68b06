"""The probes of other runs, earlier and concurrent ones, that a pass must take into account."""

from __future__ import annotations

from check_mounts import text
from check_mounts.clocks import boottime
from check_mounts.model import Mount, StuckProbe
from check_mounts.probing.plan import Gate, Plan
from check_mounts.probing.stuck import Registry
from check_mounts.typed import Optional


class Others:
    """The probes in the registry. ``at``: by the gate that each is stuck at. ``writing``: the write
    probes, by the device of the filesystem that they write to."""

    def __init__(self, registry: Registry, plan: Plan) -> None:
        self._registry, self._plan = registry, plan
        self.at: dict[Gate, StuckProbe] = {}
        self.writing: dict[tuple[int, int], StuckProbe] = {}
        self._learn()

    @property
    def remembers(self) -> bool:
        """Whether the registry remembers the files that killed write probes leave."""
        return self._registry.remembers

    def reload(self) -> None:
        """Read the registry again."""
        self._registry.load()
        self._learn()

    def _learn(self) -> None:
        self.at, self.writing = {}, {}
        for stuck in self._registry.probes:
            if stuck.writing:
                self.writing[stuck.device] = stuck
                continue
            gate = self._plan.blamed(stuck.mount_id, stuck.device, stuck.arrived)
            if gate not in self.at or stuck.since < self.at[gate].since:
                self.at[gate] = stuck

    def at_filesystem(self, device: tuple[int, int]) -> Optional[StuckProbe]:
        """A probe that is at the filesystem with this device, and does not write; None without
        one."""
        found = [each for each in self._registry.probes if each.device == device and not each.writing]
        return min(found, key=lambda each: each.since, default=None)

    def age_at(self, mount: Mount) -> float:
        """For how many seconds a probe has been at the filesystem of a mount; 0 without one."""
        stuck = self.at_filesystem(mount.device)
        return 0.0 if stuck is None else age(stuck)

    def is_still_stuck(self, stuck: StuckProbe) -> bool:
        """Whether a probe is still stuck."""
        return self._registry.still_stuck(stuck)

    def is_over(self, stuck: StuckProbe, timeout: float) -> bool:
        """Whether a probe has come back, or has been away for ``timeout`` seconds, so that it
        hangs."""
        return age(stuck) >= timeout or not self._registry.still_stuck(stuck)


def age(stuck: StuckProbe) -> float:
    """For how many seconds a probe has been away."""
    return boottime() - stuck.since


def stuck_words(stuck: StuckProbe) -> str:
    """``a probe has been stuck in it since 2029-11-20 10:00:00 (pid 42)``."""
    what = "write" if stuck.writing else "probe"
    return f"a {what} has been stuck in it since {text.moment(stuck.since)} (pid {stuck.pid})"
