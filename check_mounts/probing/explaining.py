"""What the evidence says of a mount that failed or is slow: whose fault it is, and what else was
found out.

Nothing here touches a mount or waits."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from check_mounts import filesystems
from check_mounts.model import Condition, Finding, Mount
from check_mounts.probing import conditions, kernelstack, mountstats, replies, servers, transports
from check_mounts.probing.replies import Reply, Verdict
from check_mounts.probing.servers import Server
from check_mounts.probing.transports import Look
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol

_EXPORT_IS_GONE = "export is gone"
# What follows for a mount that failed although its server answers.
_FAILED, _REFUSED = "this mount, its export or its credentials failed", "this client or its credentials are refused"


class Evidence:
    """The replies of servers, the kernel stacks of waiting probes by mount ID, and the counters of
    NFS mounts at an earlier look. ``look`` is that of now; None if no NFS mount needed one."""

    def __init__(self, answers: Mapping[Server, Reply], stacks: Mapping[int, str], before: Optional[Look]) -> None:
        self._answers, self._stacks, self._before = answers, stacks, before
        self.look: Optional[Look] = None

    def explained(self, finding: Finding) -> Finding:
        """The finding, with a diagnosis and remarks."""
        remarks = [*finding.remarks, *self._of_waiting(finding)]
        if _is_nfs(finding) and finding.mount is not None:
            remarks += transports.remarks(self._before, self._looked(finding.mount), finding.mount)
        return finding._replace(diagnosis=self._whose_fault(finding), remarks=tuple(remarks))

    def _of_waiting(self, finding: Finding) -> list[str]:
        assert finding.mount is not None
        if finding.condition is not Condition.TIMED_OUT:
            return []
        stack = self._stacks.get(finding.mount.mount_id)
        transport = self._looked(finding.mount).of(finding.mount) if _is_nfs(finding) else None
        return [
            *([kernelstack.stack_words(stack)] if stack else []),
            *([] if transport is None else [mountstats.transport_words(transport)]),
        ]

    def _looked(self, mount: Mount) -> Look:
        if self.look is None:
            self.look = transports.look(mount)
        return self.look

    def _whose_fault(self, finding: Finding) -> str:
        assert finding.mount is not None
        server = servers.server_of(finding.mount)
        reply = None if server is None else self._answers.get(server)
        gone = _EXPORT_IS_GONE if _is_stale(finding) else ""
        if server is None or reply is None or reply.verdict is Verdict.NOT_ASKED:
            return gone
        if finding.condition is Condition.OK:
            return replies.words_of_slow(server, reply)
        if finding.condition in (Condition.TIMED_OUT, Condition.UNPROBED):
            return replies.words(server, reply)
        if not conditions.may_be_servers_fault(finding):
            return ""
        return replies.words(server, reply, gone or (_REFUSED if finding.condition is Condition.DENIED else _FAILED))


def _is_stale(finding: Finding) -> bool:
    stale = finding.outcome is not None and finding.outcome.errno == errno.ESTALE
    return stale and finding.condition is Condition.DEAD and _is_nfs(finding)


def _is_nfs(finding: Finding) -> bool:
    return finding.mount is not None and filesystems.protocol(finding.mount) is Protocol.NFS
