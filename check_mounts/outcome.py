"""The result of a probe of one mount: its steps, and the answer to each.

Import budget: ``enum``, ``errno``. Nothing here may look at the system."""

from __future__ import annotations

import enum
import errno

from check_mounts.typed import NamedTuple, Optional

# The owner or the caller may not enter. ENOKEY and the errors like it: that user has no key or
# ticket (cifs multiuser, Kerberos, fscrypt).
DENIED_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EKEYREJECTED}
)

# The call is not offered: 524 is the kernel's own ENOTSUPP, which NFS and overlayfs return by
# mistake. Such an answer proves neither that the filesystem lives nor that it is dead.
NOT_OFFERED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, 524})
# The path leads elsewhere by now: somebody renamed or removed the mount point, or replaced it by a
# symbolic link.
PATH_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Step(enum.IntEnum):
    """The steps of a probe, in their order; only a write probe takes those from CREATE on."""

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
        """The step's name for people."""
        return _STEP_WORDS[self - 1]

    @property
    def writes(self) -> bool:
        """Whether the step belongs to the write probe."""
        return self >= Step.CREATE


_STEP_WORDS = ("look-up", "statfs", "statx", "read", "create", "write", "verify", "remove")
NOT_TAKEN: tuple[None, ...] = (None,) * len(Step)


class Numbers(NamedTuple):
    """The usage of a filesystem as all outputs give it: space in bytes, and inodes. ``free`` is for
    root, ``available`` for everybody else. What the filesystem does not count is None."""

    size: Optional[int] = None
    used: Optional[int] = None
    free: Optional[int] = None
    available: Optional[int] = None
    inodes: Optional[int] = None
    inodes_used: Optional[int] = None
    inodes_free: Optional[int] = None


class Usage(NamedTuple):
    """The numbers of fstatfs for a superblock (statvfs(3)).

    ``size``, ``free`` and ``available`` (to unprivileged users) are in bytes.

    A server may send any number: a count of 2^63 and more is negative here, and bytes may need more
    than 64 bits. :attr:`space` and :attr:`inode_counts` interpret the numbers; no other code judges
    usage."""

    size: int
    free: int
    available: int
    inodes: int
    inodes_free: int

    @property
    def space(self) -> Optional[tuple[int, int]]:
        """Bytes in use, and bytes available to unprivileged users; None if no space is counted.

        The available bytes are negative once the reserve for root is in use (FreeBSD's UFS). An NFS
        client takes that for a huge number, and shifts it (nfs_statfs in fs/nfs/super.c). So "more
        than the whole filesystem holds" means that no space is available, too."""
        if self.size <= 0:
            return None
        free = _of_whole(self.free, self.size)
        used, available = self.size - free, min(free, _of_whole(self.available, self.size))
        # Nothing used and nothing available: everything is in use.
        return used or (0 if available else self.size), available

    @property
    def most_available(self) -> int:
        """The bytes that an empty filesystem could make available: all but the reserve for root.

        The size of the reserve cannot be seen where nothing is available: a Btrfs without room for
        metadata reports that, however much is free (btrfs_statfs in fs/btrfs/super.c)."""
        used, available = self.space or (0, 0)
        return used + available if available else self.size

    @property
    def inode_counts(self) -> Optional[tuple[int, int]]:
        """Inodes in use and free; None if the filesystem does not count them.

        CephFS says that 2^64 - 1 are free."""
        if self.inodes <= 0 or not 0 <= self.inodes_free <= self.inodes:
            return None
        return self.inodes - self.inodes_free, self.inodes_free

    @property
    def numbers(self) -> Numbers:
        """The numbers for people and programs: no impossible ones, and no 0 for what is not
        counted."""
        space, inodes = self.space, self.inode_counts
        of_space = (None,) * 4 if space is None else (self.size, space[0], self.size - space[0], space[1])
        return Numbers(*of_space, *((None,) * 3 if inodes is None else (self.inodes, *inodes)))

    def as_counted(self) -> Usage:
        """The same numbers without impossible ones: 0 for everything that is not counted."""
        used, available = self.space or (0, 0)
        inodes_used, inodes_free = self.inode_counts or (0, 0)
        size = self.size if self.space else 0
        return Usage(size, size - used, available, inodes_used + inodes_free, inodes_free)


def _of_whole(part: int, whole: int) -> int:
    return part if 0 <= part <= whole else 0


class Outcome(NamedTuple):
    """The result of a worker's probe of one mount.

    ``step`` and ``errno`` name the step that failed; both are None if every step answered.
    ``seconds`` holds the latency of each step in its order, None for a step that the worker did not
    reach or need. ``mode``, ``uid``, ``gid`` and ``nlink`` are those of the root directory, None if
    statx did not answer. ``acted_as`` is the uid of the last step. ``mount_id`` is that of the
    mount the path led to, None if the kernel cannot say. ``not_owner``: the caller, not root, may
    not look into another user's directory. ``busy``: the worker asked nothing, because another run
    was asking. ``usage`` is None if fstatfs did not answer. ``unremembered``: the worker wrote
    nothing, because ``errno`` kept it from remembering what it would write. ``errnos`` has the
    error of each step, None for success; not every error is a failure. ``cached``: mode and the
    like may come from the kernel's cache. ``differs``: the worker read back other bytes than it
    wrote. ``alone``: the owner may not look in, but this process's own attempt counts, and it
    succeeded. ``exception`` is an exception of ours, in words: nothing else is known then.
    ``gone``: the worker did not reach the mount, and did not find it in the mount table when it
    looked. ``moved``: the worker reached the mount at another place than it was sent to. ``lost``:
    the root directory that the mount is seen from could not be opened."""

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
    lost: bool = False

    def answered(self, step: Step) -> bool:
        """Whether the worker took a step, and it succeeded."""
        succeeded = self.error_of(step) is None or (self.alone and step is Step.READ)
        return self.seconds[step - 1] is not None and succeeded

    def error_of(self, step: Step) -> Optional[int]:
        """The errno of a step; None for success."""
        return self.errno if self.step is step else self.errnos[step - 1]

    @property
    def latency(self) -> float:
        """The seconds of all steps together."""
        return sum(seconds for seconds in self.seconds if seconds is not None)
