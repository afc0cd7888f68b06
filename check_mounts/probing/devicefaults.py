"""What the kernel knows about the devices of mounts: added to their findings at the end of a pass.

Loaded only if a mount on a device has failed, or its device has."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from check_mounts.model import Condition, Finding, Mount
from check_mounts.probing import counters, sysfs
from check_mounts.probing.counters import Counter
from check_mounts.probing.storage import Storage
from check_mounts.probing.suspension import Suspensions, words
from check_mounts.typed import Optional


def explained(
    findings: list[Finding],
    mounts: Sequence[Mount],
    suspensions: Optional[Suspensions] = None,
    counted: Sequence[Counter] = (),
    sys: str = "/sys",
) -> list[Finding]:
    """The findings, with what is known about their devices. ``mounts``: the whole mount table."""
    storage, suspended = Storage(mounts, sys), sysfs.suspended(sys)
    if counted:
        findings = counters.added(findings, counted, storage, sys)
    if suspended:
        findings = [_with_suspended(finding, suspended, storage) for finding in findings]
    return findings if suspensions is None else suspensions.time_out(findings, suspended, storage)


def _with_suspended(finding: Finding, suspended: Collection[str], storage: Storage) -> Finding:
    """The finding; if its mount has failed, with the device that is suspended."""
    mount = finding.mount
    if mount is None or not sysfs.is_failure_on_device(finding):
        return finding
    name = next((name for name in storage.of(mount) if name in suspended), None)
    if name is None:
        return finding
    said = f"{words(mount, name, storage)} is suspended"
    if finding.condition is Condition.TIMED_OUT and not finding.diagnosis:
        return finding._replace(diagnosis=said)
    return finding._replace(remarks=(*finding.remarks, said))
