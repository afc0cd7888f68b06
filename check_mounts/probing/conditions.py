"""The meaning of a probe's outcome: errno, mode and mount ID -> condition and words; no other
module judges an errno, and this one makes no system call."""

from __future__ import annotations

import enum
import errno
import stat
from collections.abc import Sequence

from check_mounts import filesystems, text
from check_mounts.model import BadLine, Condition, Finding, Mount, Unparsed
from check_mounts.outcome import DENIED_ERRORS, NOT_OFFERED, PATH_GONE, Outcome, Step
from check_mounts.probing import frames
from check_mounts.typed import Optional, Union

# The name of the file with the mount table in messages.
MOUNT_TABLE = "the mount table"

# These errors say nothing about the filesystem: this machine is short of something, or an id is not
# mapped in our user namespace or on an idmapped mount (EOVERFLOW).
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENAMETOOLONG, errno.EOVERFLOW})
# Errors of writing or removing a file on a filesystem that is well: it does not offer the call, or
# does not accept the name or the size; we have reached a limit of our own; somebody has removed,
# replaced or locked our file.
_NOT_DEATH = NOT_OFFERED | {
    errno.ENAMETOOLONG, errno.EILSEQ, errno.EMLINK, errno.EXDEV, errno.EFBIG, errno.EOVERFLOW,
    errno.ENOTTY, errno.ESPIPE,
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY,
    errno.ETXTBSY, errno.EBUSY, errno.EAGAIN, errno.EDEADLK, errno.ENOLCK,
}  # fmt: skip


class Elsewhere(enum.Enum):
    """The place where a look-up ended that did not reach the mount. Only a fresh mount table can
    say whether the mount is gone or hidden."""

    OTHER_MOUNT = "its mount point leads to another mount"
    NO_PATH = "its mount point cannot be reached"
    NO_PROCESS = "the process that it is seen through has ended"
    NO_ENTRY = "the root directory that it is seen from cannot be opened"


def shut_down(mount: Mount) -> bool:
    """Whether the filesystem was shut down, by an I/O error or on purpose. ext4 and xfs show that
    in their options. ext4 still answers from the page cache then, as if nothing had happened."""
    return filesystems.traits(mount.fs_type).shutdown and b"shutdown" in mount.super_options


def led_elsewhere_by_end(finding: Finding) -> bool:
    """Whether a mount was not asked because the process that it is seen through has ended."""
    mount, outcome = finding.mount, finding.outcome
    return mount is not None and outcome is not None and led_elsewhere(mount, outcome) is Elsewhere.NO_PROCESS


def led_elsewhere(mount: Mount, outcome: Outcome, trigger: bool = False) -> Optional[Elsewhere]:
    """Where the probe ended if it did not reach the mount, else None. ``trigger``: an autofs mount,
    whose path should lead to another mount."""
    if outcome.lost:
        return Elsewhere.NO_PROCESS if outcome.errno in (errno.ENOENT, errno.ESRCH) else Elsewhere.NO_ENTRY
    if outcome.step == Step.LOOK_UP and outcome.errno in PATH_GONE:
        return Elsewhere.NO_PATH
    if not trigger and outcome.mount_id is not None and outcome.mount_id != mount.mount_id:
        return Elsewhere.OTHER_MOUNT
    return None


def of_later_visit(mount: Mount, answer: bytes) -> Union[Outcome, str]:
    """What a worker has found on a mount that had answered before: the outcome, or the reason, in
    words, why it says nothing about the mount."""
    try:
        outcome = frames.unpack_answer(answer)
    except ValueError as error:
        return f"its worker's answer makes no sense: {error}"
    if outcome.exception:
        return exception_words(outcome)
    elsewhere = led_elsewhere(mount, outcome)
    return outcome if elsewhere is None else elsewhere.value


def classify_write(outcome: Outcome) -> tuple[Condition, str]:
    """The condition and detail of a write probe that came back. The reading steps of its mount have
    succeeded. If the condition is OK, the detail is a remark."""
    if outcome.errno is None or outcome.step is None:
        return Condition.OK, _write_remark(outcome)
    words = f"{text.error_words(outcome.errno)} at {outcome.step.word}"
    if outcome.differs and outcome.step is Step.VERIFY:
        return Condition.DEAD, _DIFFERS
    if outcome.errno in _NOT_DEATH:
        return (
            Condition.OK,
            f"not written: {words}"
            if outcome.step is not Step.REMOVE
            else f"a written file could not be removed: {words}",
        )
    if outcome.errno in OURS:
        return Condition.UNPROBED, words
    if outcome.errno in (errno.ENOSPC, errno.EDQUOT):
        return Condition.FULL, words
    if outcome.errno == errno.EROFS:
        return Condition.READ_ONLY, words
    if outcome.errno in DENIED_ERRORS:
        return Condition.DENIED, f"{words} for {whose(outcome)}" if outcome.acted_as is not None else words
    return Condition.DEAD, words


_DIFFERS = "the data read back differs from the data written"


def _write_remark(outcome: Outcome) -> str:
    if outcome.differs:
        return f"{_DIFFERS}: maybe its owner wrote to the file"
    stale = [step for step in Step if step.writes and outcome.error_of(step) == errno.ESTALE]
    return f"a written file is gone: {text.error_words(errno.ESTALE)} at {stale[0].word}" if stale else ""


def classify(mount: Mount, outcome: Outcome) -> tuple[Condition, str]:
    """The condition and detail of a mount that its probe has reached (:func:`led_elsewhere` is
    None).

    An error is a proof. An attribute is a proof only for types of filesystems that maintain it
    (:mod:`check_mounts.filesystems`):

    - no link (the root directory was removed): types whose attributes the kernel or an NFS server
      maintains, but not images
    - ``shutdown`` in the options: ext2, ext3, ext4, xfs
    - no execute bit in the mode: the types of the first line, images, and FUSE with
      ``default_permissions``

    OK needs a call that succeeded: a call that is not offered proves nothing."""
    directory = stat.S_ISDIR(outcome.mode or 0)
    if outcome.nlink == 0 and directory and filesystems.counts_links(mount):
        # A bind-mounted file that was replaced by a rename has no link any more and still works;
        # but a directory without links does not. On NFS it means that the export's root directory
        # was removed while the server still has it open: every use fails with ESTALE.
        return Condition.DEAD, "its root directory was removed (nlink 0)"
    if outcome.errno is not None and outcome.step is not None and outcome.errno not in DENIED_ERRORS:
        if outcome.errno in OURS:
            return Condition.UNPROBED, f"{outcome.step.word}: {text.error_words(outcome.errno)}"
        return Condition.DEAD, text.error_words(outcome.errno)
    if shut_down(mount):
        return Condition.DEAD, "the filesystem was shut down"
    if outcome.mode is not None and directory and not outcome.mode & 0o111 and filesystems.decides_by_mode(mount):
        return Condition.DENIED, f"mode {stat.S_IMODE(outcome.mode):04o} does not allow access"
    if outcome.errno is not None and outcome.step is not None:
        return Condition.DENIED, _refusal(outcome)
    return _by_signs_of_life(mount, outcome)


def is_healthy(mount: Mount, outcome: Outcome) -> bool:
    """Whether a probe whose four steps have all succeeded means OK at a look: if so,
    :func:`led_elsewhere` is None and :func:`classify` says OK. If not, they decide."""
    mode = outcome.mode or 0
    return (
        mode & 0o170000 == 0o040000  # a directory
        and mode & 0o111 != 0
        and outcome.nlink != 0
        and outcome.mount_id == mount.mount_id
        and b"shutdown" not in mount.super_options
    )


def may_be_servers_fault(finding: Finding) -> bool:
    """Whether a probe came back with an error that may be the fault of the server as a whole. Who
    may read a root directory is for its owner to decide, and no fault."""
    outcome = finding.outcome
    if outcome is None or outcome.errno is None:
        return False
    if finding.condition is Condition.DENIED:
        return outcome.step in (Step.STATFS, Step.STATX)
    return finding.condition is Condition.DEAD


def _by_signs_of_life(mount: Mount, outcome: Outcome) -> tuple[Condition, str]:
    """The condition and detail of a probe in which no call failed, by the calls that succeeded."""
    if outcome.answered(Step.READ):
        return Condition.OK, ""
    unlisted = outcome.mode is None or stat.S_ISDIR(outcome.mode)
    asked = [
        step for step in (Step.READ, Step.STATX, Step.STATFS) if outcome.error_of(step) not in (None, errno.ENOTDIR)
    ]
    words = text.error_words(outcome.error_of(asked[0]) or 0) if asked else ""
    if not _lives(mount, outcome):
        if not asked:
            return Condition.UNPROBED, "only the kernel's cache answered, not the filesystem"
        refused = outcome.error_of(Step.READ) in DENIED_ERRORS
        return (Condition.DENIED, f"{words} at {Step.READ.word}") if refused else (Condition.DEAD, words)
    if not unlisted or outcome.not_owner:
        return Condition.OK, ""
    return Condition.DENIED, f"{words} at {asked[0].word}" if asked else "its root directory was not listed"


def _lives(mount: Mount, outcome: Outcome) -> bool:
    """Whether the filesystem itself has answered any call.

    For FUSE, the kernel itself answers statfs, with zeroes only, if the mount does not serve the
    user of this process (fuse_statfs), or if the FUSE daemon is in another user namespace. The
    kernel may answer fstat from its cache."""
    served = filesystems.is_served(mount)
    numbers = outcome.usage is not None and (not served or any(outcome.usage))
    by_statfs = outcome.answered(Step.STATFS) and numbers and not filesystems.traits(mount.fs_type).own_statfs
    return by_statfs or (outcome.answered(Step.STATX) and not (served and outcome.cached))


def _refusal(outcome: Outcome) -> str:
    assert outcome.errno is not None and outcome.step is not None
    words = text.error_words(outcome.errno)
    if outcome.step != Step.READ or outcome.acted_as is None:
        return f"{words} at {outcome.step.word}"
    return f"{words} for {whose(outcome)}"


def whose(outcome: Outcome) -> str:
    """The user that was refused: ``its owner, uid 1000``."""
    return f"{'its owner, ' if outcome.acted_as == outcome.uid else ''}uid {outcome.acted_as}"


def exception_words(outcome: Outcome) -> str:
    """The detail of a mount whose worker raised an exception in our own code."""
    return f"internal error in its worker: {text.clipped(outcome.exception, 200)}"


def death_words(pid: Optional[int], step: Optional[Step]) -> str:
    """The detail of a mount whose worker died at a step. ``pid`` is None if it is not known."""
    worker = "its worker" if pid is None else f"its worker (pid {pid})"
    return f"{worker} died at {step_word(step)}"


def step_word(step: Optional[Step]) -> str:
    """The name of a worker's step; ``step`` is None before the first one."""
    return "its start" if step is None else step.word


def not_understood(unparsed: Sequence[Unparsed]) -> list[Finding]:
    """One finding for all lines of the mount table that cannot be understood: it names the first
    line, and the number of the others. A line's options may hold a password, so no line is
    shown."""
    if not unparsed:
        return []
    line = BadLine(MOUNT_TABLE, unparsed[0].number, unparsed[0].why, more=len(unparsed) - 1)
    more = f" (and {text.counted(line.more, 'line')} more)" if line.more else ""
    detail = f"line {line.number} of the mount table cannot be understood: {line.why}{more}"
    return [Finding(b"", None, Condition.UNPROBED, detail, line=line)]


def shadowed(mount: Mount, cover: Optional[Mount]) -> Finding:
    """The finding of a mount that cannot be reached by its path, because ``cover`` is mounted over
    it."""
    return Finding(mount.mount_point, mount, Condition.SHADOWED, "another mount covers it", cover=cover)
