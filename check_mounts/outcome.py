"""What a worker saw of one mount: the steps of a probe, and what came of each.

Import budget: ``dataclasses``, ``enum``, ``errno``. Nothing here may look at the system."""

from __future__ import annotations

import dataclasses
import enum
import errno
from typing import NamedTuple, Optional

# The owner or the caller is kept out; ENOKEY and its kin: no key or ticket for him (cifs multiuser,
# Kerberos, fscrypt).
DENIED_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EKEYREJECTED}
)

# "I do not know how": 524 is the kernel's own ENOTSUPP, which NFS and overlayfs let slip. An answer
# like that proves nothing: neither that the filesystem lives nor that it is dead.
NOT_OFFERED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, 524})
# The path leads elsewhere by now: the mount point was renamed, removed, or replaced by a symbolic
# link.
PATH_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Step(enum.IntEnum):
    """The steps of a probe, in their order; those from CREATE on only where it is to write."""

    LOOK_UP = 1
    STATFS = 2
    STATX = 3
    READ = 4
    CREATE = 5
    WRITE = 6
    VERIFY = 7
    REMOVE = 8

    @property
    def word(self) -> str:
        """The name that people read."""
        return _STEP_WORDS[self - 1]

    @property
    def writes(self) -> bool:
        """Whether it belongs to the write probe."""
        return self >= Step.CREATE


_STEP_WORDS = ("look-up", "statfs", "statx", "read", "create", "write", "verify", "remove")
NOT_TAKEN: tuple[None, ...] = (None,) * len(Step)


class Usage(NamedTuple):
    """What fstatfs says of a superblock (statvfs(3)): ``size``, ``free`` and ``available`` (to the
    unprivileged) in bytes, and ``inodes``.

    A server may say anything: a count of 2^63 and more is a negative one here, and bytes may need
    more than 64 bits. What that means is said by :attr:`space` and :attr:`inode_counts`, and
    nothing else judges usage."""

    size: int
    free: int
    available: int
    inodes: int
    inodes_free: int

    @property
    def space(self) -> Optional[tuple[int, int]]:
        """Bytes in use, and bytes available to the unprivileged; None where it counts no space.

        Less than nothing is available once the reserve for root is in use (FreeBSD's UFS). An NFS
        client takes that for a great number, and shifts it (nfs_statfs in fs/nfs/super.c): more
        than the whole filesystem holds is no space either."""
        if self.size <= 0:
            return None
        free = _of_whole(self.free, self.size)
        used, available = self.size - free, min(free, _of_whole(self.available, self.size))
        return used or (
            0 if available else self.size
        ), available  # nothing used, and nothing available: what there is, is taken

    @property
    def most_available(self) -> int:
        """The bytes that could be available were it empty: all but what is kept for root. How much
        that is is not seen where nothing is available: a Btrfs without room for metadata says so,
        however much is free (btrfs_statfs in fs/btrfs/super.c)."""
        used, available = self.space or (0, 0)
        return used + available if available else self.size

    @property
    def inode_counts(self) -> Optional[tuple[int, int]]:
        """Inodes in use and free; None where it does not count them. CephFS says that 2^64 - 1 are
        free."""
        if self.inodes <= 0 or not 0 <= self.inodes_free <= self.inodes:
            return None
        return self.inodes - self.inodes_free, self.inodes_free

    def as_counted(self) -> Usage:
        """The same without what cannot be: 0 for all that is not counted."""
        used, available = self.space or (0, 0)
        inodes_used, inodes_free = self.inode_counts or (0, 0)
        size = self.size if self.space else 0
        return Usage(size, size - used, available, inodes_used + inodes_free, inodes_free)


def _of_whole(part: int, whole: int) -> int:
    return part if 0 <= part <= whole else 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker saw of one mount.

    ``step`` and ``errno`` name the step that failed; both are None where every step answered.
    ``seconds`` holds the latency of each step in its order, None for one that was not reached or
    not needed. ``mode``, ``uid``, ``gid`` and ``nlink`` are those of the root directory, None where
    statx did not answer. ``acted_as`` is the uid of the last step. ``mount_id`` is that of the
    mount the path led to, None where the kernel cannot say. ``not_owner``: the caller, not root,
    was refused a look into what belongs to somebody else. ``busy``: nothing was asked, because
    another run was asking. ``usage`` is None where fstatfs did not answer. ``unremembered``:
    nothing was written, because ``errno`` kept it from being remembered. ``errnos`` has the error
    of each step, None where there was none; not each of them is a failure. ``cached``: mode and the
    like may come from the kernel's cache. ``differs``: what was read back is not what was written.
    ``alone``: the owner was refused a look, but it is this process's own that counts, and it was
    let in. ``exception`` is one of our own, in words: nothing else is known then. ``gone``: the
    mount was not reached, and was not in the mount table at a moment when it was looked for.
    ``moved``: it was reached at another place than was asked for."""

    step: Optional[Step] = None
    errno: Optional[int] = None
    seconds: tuple[Optional[float], ...] = NOT_TAKEN
    mode: Optional[int] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    nlink: Optional[int] = None
    acted_as: Optional[int] = None
    mount_id: Optional[int] = None
    not_owner: bool = False
    busy: bool = False
    usage: Optional[Usage] = None
    unremembered: bool = False
    errnos: tuple[Optional[int], ...] = NOT_TAKEN
    cached: bool = False
    differs: bool = False
    alone: bool = False
    exception: str = ""
    gone: bool = False
    moved: bool = False

    def answered(self, step: Step) -> bool:
        """Whether a step was taken and succeeded."""
        succeeded = self.error_of(step) is None or (self.alone and step is Step.READ)
        return self.seconds[step - 1] is not None and succeeded

    def error_of(self, step: Step) -> Optional[int]:
        """The errno of a step; None where it had none."""
        return self.errno if self.step is step else self.errnos[step - 1]

    @property
    def latency(self) -> float:
        """Seconds over all steps that were taken."""
        return sum(seconds for seconds in self.seconds if seconds is not None)
