"""The vocabulary of the tables of remedies: kinds of filesystems, what else may be known of a
mount, and a row. Pure.

Import budget: ``enum``; model."""

from __future__ import annotations

import enum
from collections.abc import Collection

from check_mounts.model import Condition
from check_mounts.typed import NamedTuple


class Kind(enum.Enum):
    """The kinds of filesystems that need different remedies."""

    NFS = enum.auto()
    SMB = enum.auto()
    FUSE = enum.auto()
    NETWORK = enum.auto()  # another network filesystem of the kernel: 9p, ceph, lustre, ...
    OVERLAY = enum.auto()
    TRIGGER = enum.auto()
    MEMORY = enum.auto()
    KERNEL = enum.auto()
    DISK = enum.auto()


class Sign(enum.Enum):
    """What else may be known of a mount, and decides about a step."""

    SERVER_SILENT = enum.auto()
    SERVER_ANSWERS = enum.auto()
    SOFT = enum.auto()
    STALE = enum.auto()
    DISCONNECTED = enum.auto()  # the FUSE daemon has closed its connection
    STOPPED = enum.auto()  # read-only, though it is mounted rw
    DEVICE = enum.auto()  # its source is a block device
    SERVES_NETWORK = enum.auto()  # FUSE, for a network filesystem
    NO_FUSECTL = enum.auto()
    RESTARTED = enum.auto()  # units are known whose processes wait for it or hold it
    SHARED = enum.auto()  # other mounts show the same superblock
    STACKED = enum.auto()  # mounts hang from it
    DECLARED = enum.auto()  # fstab or a unit declares it
    NAMED_UNIT = enum.auto()  # the name of its unit is known
    AUTOMOUNTED = enum.auto()
    ONLY_OPTIONS = enum.auto()  # its source and type are as declared, its options are not
    INODES = enum.auto()
    QUOTA = enum.auto()
    BY_MODE = enum.auto()
    NO_KEY = enum.auto()
    SCRUBBED = enum.auto()  # Btrfs
    ROOT = enum.auto()  # the root directory of the host
    EARLY = enum.auto()  # it may still be missing, so soon after boot
    LAYERED = enum.auto()  # the mounts that hold the layers of an overlay are known
    ABOVE_FAILED = enum.auto()  # a mount on its path has failed
    COVERED = enum.auto()  # the mount that covers it is known


class Remedy(NamedTuple):
    """A row of a table of remedies.

    ``do`` says what to try, and ``effect`` what that does to the processes that use the mount.
    ``command`` holds the words of a command line; none if there is no command. ``{point}`` and the
    like, the fields of :class:`~check_mounts.report.advice.Facts`, stand for what is known. A word
    that names a field with several values stands for all of them; with ``each``, there is one
    command for each.

    The row applies in one of ``conditions``, to one of ``kinds``, if all signs of ``when`` are
    there and none of ``unless``."""

    conditions: frozenset[Condition]
    kinds: frozenset[Kind]
    do: str
    command: tuple[str, ...]
    effect: str
    when: frozenset[Sign]
    unless: frozenset[Sign]
    each: bool


ANY = frozenset(Kind)
# The descriptors of all processes, as a pattern for the shell. Their links can be read even if the
# process hangs. In the rest of /proc, find would wait for it: map_files takes the lock of its
# memory.
DESCRIPTORS = "/proc/[0-9]*/fd"


class Chapter:
    """Makes the rows for some conditions."""

    def __init__(self, *conditions: Condition) -> None:
        self._conditions = frozenset(conditions)

    def row(
        self,
        kinds: Collection[Kind],
        do: str,
        command: tuple[str, ...] = (),
        effect: str = "",
        when: Collection[Sign] = (),
        unless: Collection[Sign] = (),
        each: bool = False,
    ) -> Remedy:
        """A row."""
        return Remedy(
            self._conditions, frozenset(kinds), do, command, effect, frozenset(when), frozenset(unless), each
        )  # fmt: skip
