"""Devices of device mapper that are suspended: the kernel keeps all reads and writes until somebody
resumes them, and meanwhile answers a probe from its cache.

Loaded only if a device is suspended.

A snapshot suspends its device for some milliseconds. So a mount has timed out only if its device
was suspended at each look from the beginning of the pass until the mount's timeout. A pass waits
for that only if its first look finds such a device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from check_mounts import text
from check_mounts.clocks import NEVER, Monotonic, after, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.probing import sysfs
from check_mounts.probing.storage import Storage

# The time between two looks, in seconds.
_LOOK = 0.05


class Suspensions:
    """The mounts of a pass on devices that were suspended at each look so far.

    ``found`` are the devices that are suspended at the beginning of the pass. ``mounts``: the whole
    mount table; ``asked``: the mounts of the pass. ``due``: when :meth:`look` must be called
    next."""

    def __init__(
        self,
        found: Collection[str],
        mounts: Sequence[Mount],
        asked: Iterable[Mount],
        timeout_of: Callable[[Mount], float],
    ) -> None:
        self._timeout_of = timeout_of
        self._began = monotonic()
        self._held: dict[int, tuple[Mount, str]] = {}
        storage = Storage(mounts)
        for mount in asked:
            on = next((name for name in storage.of(mount) if name in found), None)
            if on is not None:
                self._held[mount.mount_id] = mount, on
        self.due = after(_LOOK) if self._held else NEVER

    @property
    def is_waiting(self) -> bool:
        """Whether a device that was suspended at each look may still be resumed in time."""
        return any(monotonic() < self._over(mount) for mount, _ in self._held.values())

    def _over(self, mount: Mount) -> Monotonic:
        return Monotonic(self._began + self._timeout_of(mount))

    def look(self) -> None:
        """If it is due, look which devices are still suspended."""
        if monotonic() >= self.due:
            self._look_again(sysfs.suspended())
            self.due = after(_LOOK) if self.is_waiting else NEVER

    def _look_again(self, found: Collection[str]) -> None:
        self._held = {key: (mount, name) for key, (mount, name) in self._held.items() if name in found}

    def time_out(self, findings: list[Finding], found: Collection[str], storage: Storage) -> list[Finding]:
        """The findings, in which mounts have timed out that were answered from a cache, because
        their devices were suspended all the time. ``found``: the devices that are suspended now."""
        self._look_again(found)
        return [self._judged(finding, storage) for finding in findings]

    def _judged(self, finding: Finding, storage: Storage) -> Finding:
        mount = finding.mount
        held = None if mount is None else self._held.get(mount.mount_id)
        if mount is None or held is None or finding.condition is not Condition.OK:
            return finding
        device, waited = words(mount, held[1], storage), monotonic() - self._began
        if waited < self._timeout_of(mount):  # the deadline or a signal came first
            return finding._replace(remarks=(*finding.remarks, f"{device} is suspended"))
        detail = f"{device} has been suspended for at least {text.seconds_words(self._timeout_of(mount))}"
        return finding._replace(condition=Condition.TIMED_OUT, detail=detail, latency=waited)


def words(mount: Mount, name: str, storage: Storage) -> str:
    """A device of a mount in words: ``its device dm-3 (vg-home)``, or one below that."""
    return f"{'its device' if name in storage.own(mount) else 'below its device,'} {storage.label(name)}"
