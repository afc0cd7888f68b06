"""Finds out why a mount does not answer, is dead or slow: because of its server, the network, this
client or its device.

A server is asked while the probe is still waiting, so that it adds no time. If the probe came back
with an error, or late, its server has a moment more. Each server is asked once, however many of its
mounts fail. Nothing here touches a mount or waits: sockets do not block, and of a process only the
kernel stack is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from check_mounts import filesystems
from check_mounts.clocks import NEVER, Monotonic, after, boottime, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.probing import conditions, sysfs
from check_mounts.probing.asking import Settings
from check_mounts.typed import TYPE_CHECKING, Optional
from check_mounts.typetable import Protocol

if TYPE_CHECKING:
    from check_mounts.probing.counters import Counter
    from check_mounts.probing.idleness import Entry, Key
    from check_mounts.probing.interviews import Interviews
    from check_mounts.probing.owners import Owners
    from check_mounts.probing.stuck import Registry
    from check_mounts.probing.suspension import Suspensions
    from check_mounts.probing.transports import Look

# When a probe has been waiting for this many seconds, or for this part of its timeout, its server
# is asked.
_SUSPICIOUS, _PART = 1.0, 0.25
# The time between two looks for such probes, in seconds.
_LOOK = 0.1
# A run does not wait for a probe that an earlier run left behind. The server of that mount has this
# many seconds from the beginning of the run, and at most this part of the timeout.
_PATIENCE, _PATIENCE_PART = 0.5, 0.5
# The server of a mount that is dead or slow has this many seconds since it was asked, and at most
# this part of the timeout: TCP sends a lost SYN again after a second (RFC 6298).
_MOMENT, _MOMENT_PART = 1.25, 0.5
# The name of what the registry remembers for the next look at the counters of errors.
_COUNTERS = "counters"


class Past:
    """What a pass knows of earlier ones of its process: ``look`` is the last look at the counters
    of NFS mounts, or the first one of this pass. None if no NFS mount was in trouble. A process
    that makes one pass has no ``owners``, nor ``automounts``: what sparing remembers, where nothing
    can be kept for other processes."""

    def __init__(self, owners: Optional[Owners] = None) -> None:
        self.look: Optional[Look] = None
        self.owners = owners
        self.automounts: Optional[dict[Key, Entry]] = None if owners is None else {}


class Causes:
    """The servers of mounts that fail or are slow, and the workers that wait. ``timeout``: that of
    a probe, in seconds. ``deadline``: that of the pass. ``due``: when :meth:`look` must be called
    next. ``past`` is updated at the end. ``slow_from``: below so many seconds, no mount that
    answered needs :meth:`know`. ``procfs`` shows the processes of other runs."""

    def __init__(
        self, settings: Settings, timeout: float, deadline: Monotonic, past: Past, procfs: str = "/proc"
    ) -> None:
        self._procfs = procfs
        self._wanted, self._is_slow = settings.diagnosis, settings.is_slow
        self.slow_from = settings.slow_from if self._wanted else math.inf
        self._delay = min(_SUSPICIOUS, timeout * _PART)
        self._timeout, self._deadline = timeout, deadline
        self.due = after(self._delay) if self._wanted else NEVER
        self._until = after(min(_PATIENCE, timeout * _PATIENCE_PART))
        self._interviews: Optional[Interviews] = None
        # The IDs of mounts whose probes came back with an error or late, and the stacks of those
        # whose probes have been waiting.
        self._known: set[int] = set()
        self._past = past
        self._stacks: dict[int, str] = {}

    @property
    def busy(self) -> bool:
        """Whether a server may still reply."""
        return self._interviews is not None and self._interviews.busy

    @property
    def awaits_any(self) -> bool:
        """Whether the pass should go on for the reply of a server."""
        return self._interviews is not None and self._interviews.awaits_any

    def look(self, waiting_for: Callable[[float], Iterable[tuple[Mount, int, float]]]) -> None:
        """If it is due, look at the processes of probes that have been waiting for long, and begin
        to ask their servers.

        ``waiting_for`` takes a number of seconds, and gives (mount, process ID, seconds) of each
        probe that has been waiting for at least as long."""
        if monotonic() < self.due:
            return
        self.due = after(min(_LOOK, self._delay))
        new = [each for each in waiting_for(self._delay) if each[0].mount_id not in self._stacks]
        longest = max((waited for _, _, waited in new), default=0.0)
        # The servers get a little less time than the probe.
        deadline = after(max(0.0, self._timeout - longest) * 0.9)
        self._investigate([(mount, pid) for mount, pid, _ in new], deadline, wait=False)

    def know_stuck(self, mount: Mount, pid: int) -> None:
        """Begin to ask the server of a mount that a probe of an earlier run is stuck in. The run
        does not wait for that mount, so its server has only a moment."""
        if self._wanted:
            self._investigate([(mount, pid)], max(self._until, monotonic()), wait=True, procfs=self._procfs)

    def know(self, finding: Finding) -> None:
        """Begin to ask the server of a mount whose probe came back with an error, or too late, if
        that may be the server's fault."""
        mount = finding.mount
        if not self._wanted or mount is None or filesystems.protocol(mount) is None:
            return
        if conditions.may_be_servers_fault(finding) or (finding.condition is Condition.OK and self._is_slow(finding)):
            self._known.add(mount.mount_id)
            self._ask([mount])

    def _investigate(
        self, hung: list[tuple[Mount, int]], deadline: Monotonic, wait: bool, procfs: str = "/proc"
    ) -> None:
        if hung:
            # Imported late: most runs need no causes, and forks are cheaper without these modules.
            from check_mounts.probing import kernelstack

            read = kernelstack.read_kernel_stack
            self._stacks.update((mount.mount_id, read(pid, procfs) or "") for mount, pid in hung)
            self._ask([mount for mount, _ in hung], deadline, wait)

    def _ask(self, mounts: list[Mount], until: Optional[Monotonic] = None, wait: bool = True) -> None:
        """Have the servers of these mounts asked; see :meth:`Interviews.ask`."""
        from check_mounts.probing import interviews, servers, transports

        nfs = next((mount for mount in mounts if filesystems.protocol(mount) is Protocol.NFS), None)
        if self._past.look is None and nfs is not None:
            self._past.look = transports.look(nfs)
        if self._interviews is None:
            moment = min(_MOMENT, self._timeout * _MOMENT_PART)
            self._interviews = interviews.Interviews(moment, self._deadline)
        found = (servers.server_of(mount) for mount in mounts)
        self._interviews.ask([server for server in found if server is not None], until, wait)

    def step(self) -> None:
        """Continue the conversations with all servers, without waiting."""
        if self._interviews is not None:
            self._interviews.step()

    def close(self) -> None:
        """Take all replies. A server that has not replied is silent if it had enough time."""
        if self._interviews is not None:
            self._interviews.close()

    def explain(self, findings: Iterable[Finding]) -> list[Finding]:
        """Add the causes to the findings."""
        findings = list(findings) if self._past.owners is None else self._past.owners.remarked(findings)
        concerned = [place for place, finding in enumerate(findings) if self._concerns(finding)] if self._wanted else []
        before, self._past.look = self._past.look, None
        if concerned:
            from check_mounts.probing import explaining  # most runs need no causes

            replies = {} if self._interviews is None else self._interviews.replies
            evidence = explaining.Evidence(replies, self._stacks, before)
            for place in concerned:
                findings[place] = evidence.explained(findings[place])
            self._past.look = evidence.look
        return findings

    def _concerns(self, finding: Finding) -> bool:
        mount = finding.mount
        if mount is None:
            return False
        waited = mount.mount_id in self._stacks or mount.mount_id in self._known
        return waited or finding.condition is Condition.TIMED_OUT


class Devices:
    """The block devices of the mounts of a pass. Most passes have nothing to say about them, and
    load nothing more. ``known``: the table is that of this host."""

    def __init__(
        self, table: Sequence[Mount], asked: Sequence[Mount], timeout_of: Callable[[Mount], float], known: bool
    ) -> None:
        self._table = table
        # The device numbers in another host's table mean nothing here.
        self._known = known and sysfs.any_on_device(asked)
        self._suspensions: Optional[Suspensions] = None
        self._counters: Sequence[Counter] = ()
        found = sysfs.suspended() if self._known else ()
        if found:
            from check_mounts.probing.suspension import Suspensions

            self._suspensions = Suspensions(found, table, asked, timeout_of)

    @property
    def are_awaited(self) -> bool:
        """Whether a suspended device may be resumed in time."""
        return self._suspensions is not None and self._suspensions.is_waiting

    @property
    def due(self) -> Monotonic:
        """When :meth:`look` must be called at the latest."""
        return NEVER if self._suspensions is None else self._suspensions.due

    def look(self) -> None:
        """If it is due, look at the suspended devices."""
        if self._suspensions is not None:
            self._suspensions.look()

    def explain(self, findings: list[Finding]) -> list[Finding]:
        """Add to the findings what is known about the devices."""
        failed = self._known and any(sysfs.is_failure_on_device(finding) for finding in findings)
        if not failed and not self._counters and self._suspensions is None:
            return findings
        from check_mounts.probing import devicefaults

        return devicefaults.explained(findings, self._table, self._suspensions, self._counters)

    def count(self, registry: Registry) -> None:
        """Read the counters of errors. The registry remembers them for the next look."""
        seen = sysfs.counted() if self._known else []
        if not seen:
            return
        before = registry.note(_COUNTERS)
        if (before is None or before == sysfs.written(seen)) and not any(count for _, count in seen):
            return
        from check_mounts.probing import counters

        now, self._counters = counters.compared(seen, before or b"", boottime())
        if before is not None and before != now:
            registry.keep(_COUNTERS, now)
