"""Finds out why a mount does not answer: because of its server, the network or this client.

This is done while the probe is still waiting, so that it adds no time. Each server is asked once,
however many of its mounts hang. Nothing here touches a mount or waits: sockets do not block, and of
a process only the kernel stack is read."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from check_mounts import filesystems
from check_mounts.clocks import NEVER, after, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.typed import TYPE_CHECKING
from check_mounts.typetable import Protocol

if TYPE_CHECKING:
    from check_mounts.probing.examination import Examination
    from check_mounts.probing.replies import Reply
    from check_mounts.probing.servers import Server

# When a probe has been waiting for this many seconds, or for this part of its timeout, its server
# is asked.
_SUSPICIOUS, _PART = 1.0, 0.25
# The time between two looks for such probes, in seconds.
_LOOK = 0.1
# A run does not wait for a probe that an earlier run left behind. The server of that mount has this
# many seconds from the beginning of the run, and at most this part of the timeout.
_PATIENCE, _PATIENCE_PART = 0.5, 0.5


class Causes:
    """The servers and workers of mounts that do not answer. ``timeout``: that of a probe, in
    seconds. ``due``: when :meth:`look` must be called next."""

    def __init__(self, wanted: bool, timeout: float) -> None:
        self._wanted = wanted
        self._delay = min(_SUSPICIOUS, timeout * _PART)
        self._timeout = timeout
        self.due = after(self._delay) if wanted else NEVER
        self._until = monotonic() + min(_PATIENCE, timeout * _PATIENCE_PART)
        self._asked: set[Server] = set()
        self._running: list[Examination] = []
        self._replies: dict[Server, Reply] = {}
        self._stacks: dict[int, str] = {}

    @property
    def busy(self) -> bool:
        """Whether a server may still reply."""
        return any(not examination.finished for examination in self._running)

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
        self._investigate(
            [(mount, pid) for mount, pid, _ in new], monotonic() + max(0.0, self._timeout - longest) * 0.9
        )

    def know_stuck(self, mount: Mount, pid: int) -> None:
        """Begin to ask the server of a mount that a probe of an earlier run is stuck in. The run
        does not wait for that mount, so its server has only a moment."""
        if self._wanted:
            self._investigate([(mount, pid)], max(self._until, monotonic()))

    def _investigate(self, hung: list[tuple[Mount, int]], deadline: float) -> None:
        if not hung:
            return
        # Imported late: most runs need no causes, and forks are cheaper without these modules.
        from check_mounts.probing import examination, kernelstack, servers

        self._stacks.update((mount.mount_id, kernelstack.read_kernel_stack(pid) or "") for mount, pid in hung)
        new = {server for server in (servers.server_of(mount) for mount, _ in hung) if server is not None} - self._asked
        if new:
            self._asked |= new
            self._running.append(examination.Examination(new, deadline))

    def step(self, timeout: float = 0.0) -> None:
        """Continue the conversations with all servers, for at most ``timeout`` seconds."""
        for examination in self._running:
            if not examination.finished:
                examination.step(timeout)

    def close(self, in_a_hurry: bool) -> None:
        """Take all replies. This waits for replies only if the run has just begun: then the servers
        of probes that an earlier run left behind have had no time yet."""
        while not in_a_hurry and self.busy and monotonic() < self._until:
            self.step(0.01)
        for examination in self._running:
            self._replies.update(examination.replies)
            examination.close()

    def explain(self, findings: Iterable[Finding]) -> list[Finding]:
        """Add the causes to the findings."""
        findings = list(findings)
        if not self._wanted:
            return findings
        hung = [
            finding.mount
            for finding in findings
            if finding.condition is Condition.TIMED_OUT and finding.mount is not None
        ]
        found = self._find_causes(hung)
        return [self._explained(finding, found) for finding in findings]

    def _find_causes(self, hung: list[Mount]) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Collect (diagnosis, remarks) by mount ID."""
        if not hung:
            return {}
        from check_mounts.probing import kernelstack, mountstats

        try:
            counters = mountstats.read_mountstats() if any(map(_is_nfs, hung)) else {}
        except OSError:
            counters = {}
        result = {}
        for mount in hung:
            remarks = []
            if self._stacks.get(mount.mount_id):
                remarks.append(kernelstack.stack_words(self._stacks[mount.mount_id]))
            if mount.mount_point in counters:
                remarks.append(mountstats.transport_words(counters[mount.mount_point]))
            result[mount.mount_id] = self._whose_fault(mount), tuple(remarks)
        return result

    def _whose_fault(self, mount: Mount) -> str:
        from check_mounts.probing import replies, servers

        server = servers.server_of(mount)
        reply = None if server is None else self._replies.get(server)
        if server is None or reply is None or reply.verdict is replies.Verdict.NOT_ASKED:
            return ""
        return replies.words(server, reply)

    def _explained(self, finding: Finding, hung: dict[int, tuple[str, tuple[str, ...]]]) -> Finding:
        mount = finding.mount
        if mount is not None and finding.condition is Condition.TIMED_OUT:
            words, remarks = hung[mount.mount_id]
            return finding._replace(diagnosis=words, remarks=(*finding.remarks, *remarks))
        if mount is not None and finding.condition is Condition.DEAD and _is_nfs(mount):
            gone = finding.outcome is not None and finding.outcome.errno == errno.ESTALE
            return finding._replace(diagnosis="export is gone") if gone else finding
        return finding


def _is_nfs(mount: Mount) -> bool:
    return filesystems.protocol(mount) is Protocol.NFS
