"""Whose fault it is that a mount does not answer: found out beside its probe, which is still waiting, so that it adds no time.

Each server is asked once, however many of its mounts hang. Nothing here touches a mount, and nothing waits: sockets are non-blocking,
and of a process only its kernel stack is read.
"""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional

from check_mounts.model import Condition, Finding, Mount

if TYPE_CHECKING:
    from check_mounts import diagnosis

# A probe that has been waiting for so long, or for this part of its timeout, is a reason to ask the server.
_SUSPICIOUS, _PART = 1.0, 0.25
# What is known to be stuck is not waited for. Its server is given so many seconds after the begin of the run, and part of the timeout.
_PATIENCE, _PATIENCE_PART = 0.5, 0.5
_NFS = frozenset({b"nfs", b"nfs4"})


class Causes:
    """What has been found out about the servers and workers of mounts that do not answer. ``timeout`` is that of a probe."""

    def __init__(self, wanted: bool, timeout: float) -> None:
        self.wanted = wanted
        self.delay = min(_SUSPICIOUS, timeout * _PART)
        self._timeout = timeout
        self._until = time.monotonic() + min(_PATIENCE, timeout * _PATIENCE_PART)
        self._asked: set[diagnosis.Server] = set()
        self._running: list[diagnosis.Examination] = []
        self._replies: dict[diagnosis.Server, diagnosis.Reply] = {}
        self._stacks: dict[int, str] = {}

    @property
    def busy(self) -> bool:
        """Whether a server has not replied yet and still may."""
        return any(not examination.finished for examination in self._running)

    def suspect(self, waiting: Iterable[tuple[Mount, int, float]]) -> None:
        """Mounts whose probes (by process ID) have been waiting for :attr:`delay` seconds or more: look at the process, ask the
        server."""
        servers, longest = [], 0.0
        for mount, pid, waited in waiting:
            if mount.mount_id not in self._stacks:
                from check_mounts import diagnosis  # only now: most runs need no cause, and all fork cheaper without it

                self._stacks[mount.mount_id] = diagnosis.kernel_stack(pid) or ""
                servers.append(diagnosis.server_of(mount))
                longest = max(longest, waited)
        # Done a little before the probe is given up.
        self._ask(servers, time.monotonic() + max(0.0, self._timeout - longest) * 0.9)

    def know_stuck(self, mount: Mount, pid: int) -> None:
        """A mount that a probe of an earlier run is stuck in: nobody waits for it, so its server has only a moment."""
        if self.wanted:
            from check_mounts import diagnosis

            self._stacks[mount.mount_id] = diagnosis.kernel_stack(pid) or ""
            self._ask([diagnosis.server_of(mount)], max(self._until, time.monotonic()))

    def _ask(self, servers: Iterable[Optional[diagnosis.Server]], deadline: float) -> None:
        new = {server for server in servers if server is not None} - self._asked
        if new:
            from check_mounts import diagnosis

            self._asked |= new
            self._running.append(diagnosis.Examination(new, deadline))

    def step(self, timeout: float = 0.0) -> None:
        """Go on with what can go on, for ``timeout`` seconds at the most."""
        for examination in self._running:
            if not examination.finished:
                examination.step(timeout)

    def close(self, in_a_hurry: bool) -> None:
        """Take all replies. Only right after the begin of a run, for what was known to be stuck, is any waited for."""
        while not in_a_hurry and self.busy and time.monotonic() < self._until:
            self.step(0.01)
        for examination in self._running:
            self._replies.update(examination.replies)
            examination.close()

    def explained(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings with what was found out."""
        findings = list(findings)
        hung = [finding for finding in findings if finding.condition is Condition.TIMED_OUT and finding.mount is not None]
        counters = self._counters(hung)
        return [self._explained(finding, counters) for finding in findings] if self.wanted else findings

    def _counters(self, hung: list[Finding]) -> dict[bytes, diagnosis.Transport]:
        if not self.wanted or not any(finding.mount is not None and finding.mount.fs_type in _NFS for finding in hung):
            return {}
        from check_mounts import diagnosis

        try:
            return diagnosis.read_mountstats()
        except OSError:
            return {}

    def _explained(self, finding: Finding, counters: dict[bytes, diagnosis.Transport]) -> Finding:
        mount = finding.mount
        if mount is None:
            return finding
        if finding.condition is Condition.DEAD and mount.fs_type in _NFS:
            gone = finding.outcome is not None and finding.outcome.errno == errno.ESTALE
            return dataclasses.replace(finding, diagnosis="export is gone") if gone else finding
        if finding.condition is not Condition.TIMED_OUT:
            return finding
        from check_mounts import diagnosis

        server = diagnosis.server_of(mount)
        reply = None if server is None else self._replies.get(server)
        known = server is not None and reply is not None and reply.verdict is not diagnosis.Verdict.NOT_ASKED
        words = diagnosis.words(server, reply) if known and server is not None and reply is not None else ""
        remarks = []
        if self._stacks.get(mount.mount_id):
            remarks.append(diagnosis.stack_words(self._stacks[mount.mount_id]))
        if mount.mount_point in counters:
            remarks.append(diagnosis.transport_words(counters[mount.mount_point]))
        return dataclasses.replace(finding, diagnosis=words, remarks=tuple(remarks))
