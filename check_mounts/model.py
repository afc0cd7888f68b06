"""The values that cross from module to module: frozen, and free of effects.

Import budget: ``dataclasses``, ``enum``, ``outcome``. Nothing here may look at the system.

Byte strings stay byte strings: a mount point or a source is whatever the kernel says, any byte but
NUL. They become text in one place only, :func:`check_mounts.text.printable`."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection
from typing import Optional

from check_mounts.outcome import Outcome


class Condition(enum.Enum):
    """What is the matter with one mount, in the field's words. The value is the name on the command
    line."""

    OK = "ok"
    SLOW = "slow"
    DENIED = "denied"
    TIMED_OUT = "timed-out"
    DEAD = "dead"
    MISSING = "missing"
    READ_ONLY = "read-only"
    CHANGED = "changed"
    FULL = "full"
    BLOCKED = "blocked"
    SHADOWED = "shadowed"
    UNPROBED = "unprobed"

    @property
    def identifier(self) -> str:
        """The name as perfdata and JSON write it: ``timed_out``."""
        return self.value.replace("-", "_")

    @property
    def words(self) -> str:
        """The name in a sentence: ``timed out``."""
        return self.value.replace("-", " ")


class State(enum.Enum):
    """A monitoring state; the value is the plugin's exit code (Monitoring Plugins Development
    Guidelines)."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def rank(self) -> int:
        """How bad it is. CRITICAL outranks UNKNOWN: one odd mount must not hide a dead one."""
        return _RANK[self]


_RANK = {State.OK: 0, State.WARNING: 1, State.UNKNOWN: 2, State.CRITICAL: 3}


MountIdentity = tuple[int, tuple[int, int], bytes]


@dataclasses.dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)), unescaped.

    ``options`` are those of this mount (``ro`` here is a read-only bind mount), ``super_options``
    those of the superblock, which all its mounts share. ``device`` is ``(major, minor)``: what the
    mounts of one superblock have in common."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    root: bytes
    mount_point: bytes
    options: tuple[bytes, ...]
    optional_fields: tuple[bytes, ...]
    fs_type: bytes
    source: bytes
    super_options: tuple[bytes, ...]

    @property
    def identity(self) -> MountIdentity:
        """What it is known by as long as it is mounted, wherever.

        Anything else may change meanwhile: whoever owns a directory above it, or above what is
        bound there, renames it as he likes, and some types make the source of such names (nfs, zfs)
        or of the first of their devices (btrfs)."""
        return self.mount_id, self.device, self.fs_type

    @property
    def place(self) -> tuple[bytes, bytes, bytes]:
        """Where it is, and what it shows there.

        Where this is another one than before it may be another mount: an ID, and an anonymous
        device, are given again as soon as they are free."""
        return self.mount_point, self.root, self.source

    def super_option(self, name: bytes) -> Optional[bytes]:
        """The value of the superblock option ``name=``; None without it.

        Of several the last: kernels write an address and the like after what a user may have
        chosen, such as a ``username=`` with a comma in it, which older ones do not escape."""
        prefix = name + b"="
        for option in reversed(self.super_options):
            if option.startswith(prefix):
                return option[len(prefix) :]
        return None


@dataclasses.dataclass(frozen=True)
class Unparsed:
    """A line of the mount table that could not be understood; ``number`` counts from 1. ``twice``:
    another one has its mount ID. Of a long ``line`` both ends are kept."""

    number: int
    line: bytes
    why: str
    twice: bool = False


@dataclasses.dataclass(frozen=True)
class BadLine:
    """A line of a file that was to say something of mounts and makes no sense: ``number`` counts
    from 1, ``why`` is fit for output.

    It holds nothing of the line: a password with a blank in it is what makes some lines bad.
    ``file`` is its name in words; ``more`` is how many other lines there make no sense."""

    file: str
    number: int
    why: str
    more: int = 0

    def __str__(self) -> str:
        return f"{self.file} line {self.number}: {self.why}"


class Declarer(enum.Enum):
    """Where a declaration stands: in a file that is for the whole host (fstab, a unit), or in
    something that only check_mounts reads."""

    HOST = "host"
    CONFIGURATION = "configuration"
    COMMAND_LINE = "command line"


@dataclasses.dataclass(frozen=True)
class ExpectedMount:
    """What should be mounted, as somebody declared it: a line of fstab(5), an option, a section of
    the configuration, a unit.

    ``source`` and ``fs_type`` are None where any will do. ``options`` are only those that were
    declared. ``origin`` says where, in words fit for output: ``/etc/fstab line 3``. ``nofail``: its
    absence is no failure. ``automount``: an autofs trigger in its place is as good. ``name`` is how
    the mount point was written, where ``..`` is in it, which after a link leads elsewhere.
    ``doubt``: what is to be said, and how bad it is, if nothing is mounted there, because it is not
    known where the name leads."""

    mount_point: bytes
    source: Optional[bytes]
    fs_type: Optional[bytes]
    options: tuple[bytes, ...]
    origin: str
    nofail: bool = False
    automount: bool = False
    name: bytes = b""
    doubt: Optional[tuple[Condition, str]] = None
    by: Declarer = dataclasses.field(default=Declarer.HOST, compare=False)

    @property
    def is_own(self) -> bool:
        """Whether only check_mounts reads it, so that an unknown option in it is a slip, not
        meant for somebody else."""
        return self.by is not Declarer.HOST

    @property
    def is_bind(self) -> bool:
        """Whether a directory is to be mounted, not a filesystem."""
        return is_bind(self.options)


def is_bind(options: Collection[bytes]) -> bool:
    """Whether options ask for a directory to be mounted, not for a filesystem."""
    return b"bind" in options or b"rbind" in options


@dataclasses.dataclass(frozen=True)
class StuckProbe:
    """A probe that has not come back: its process, what it was sent to, and when (seconds on
    CLOCK_BOOTTIME).

    ``arrived``: its look-up has come to the mount. If not, what hangs may be a mount on the way.
    ``writing``: it is a write probe, whose hanging says nothing about reading."""

    pid: int
    start_time: int
    mount_id: int
    device: tuple[int, int]
    since: float
    arrived: bool = True
    writing: bool = False


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is to be said of one mount point; or of a line that makes no sense, which is no mount
    (:attr:`is_mount`).

    ``mount`` is None where nothing is mounted (missing) and for a ``line``. ``detail`` is text fit
    for any output. ``latency`` is in seconds: how long the probe took, or has been waiting; None
    where there was none. ``stuck_pid`` and ``stuck_since`` (seconds on CLOCK_BOOTTIME) name a
    process that a hung filesystem holds; ``since`` is when it was first found to hang, where that
    was before this pass. ``diagnosis`` says whose fault it is, where that is known; ``remarks``
    what else was found out, a line each. ``cover`` is what covers a shadowed mount."""

    mount_point: bytes
    mount: Optional[Mount]
    condition: Condition
    detail: str = ""
    outcome: Optional[Outcome] = None
    latency: Optional[float] = None
    stuck_pid: Optional[int] = None
    stuck_since: Optional[float] = None
    diagnosis: str = ""
    remarks: tuple[str, ...] = ()
    since: Optional[float] = None
    line: Optional[BadLine] = None
    cover: Optional[Mount] = None

    @property
    def is_mount(self) -> bool:
        """Whether it is about a mount, or one that should be there; if not, it counts as none."""
        return bool(self.mount_point)


class Reason(enum.Enum):
    """Why a mount is not probed. :func:`check_mounts.selection.why_left_out` puts it in words."""

    TYPE_EXCLUDED = enum.auto()
    PLACE_EXCLUDED = enum.auto()
    SOURCE_EXCLUDED = enum.auto()
    TYPE_NOT_INCLUDED = enum.auto()
    PLACE_NOT_INCLUDED = enum.auto()
    SOURCE_NOT_INCLUDED = enum.auto()
    IGNORED = enum.auto()
    NOT_NETWORK = enum.auto()
    NOT_NAMED = enum.auto()
    INACCESSIBLE = enum.auto()
    IN_SANDBOX = enum.auto()
    SYSTEMDS = enum.auto()
    TRIGGER = enum.auto()
    PSEUDO = enum.auto()
    USERS_FUSE = enum.auto()
    UNMOUNTED = enum.auto()

    @property
    def avoids(self) -> bool:
        """Whether no path may be looked up through the mount either, where that could hang. To
        exclude a mount means to leave it alone; not to include it only means that others count."""
        return self in _AVOIDED


_AVOIDED = frozenset(
    {Reason.TYPE_EXCLUDED, Reason.PLACE_EXCLUDED, Reason.SOURCE_EXCLUDED, Reason.IGNORED, Reason.USERS_FUSE}
)


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A mount that is not probed, and why."""

    mount: Mount
    why: Reason


@dataclasses.dataclass(frozen=True)
class Survey:
    """One pass over all mounts. ``started`` is in seconds since the epoch, ``duration`` and
    ``timeout`` in seconds.

    ``notes`` are things an administrator should know that change no verdict. ``interrupted`` names
    the signal that cut the pass short. ``excused`` are mounts that were declared and may be absent,
    and are, in words; ``uncompared`` declared options that could be compared with nothing.
    ``unremembered``: why stuck probes are not remembered, in words; empty where they are."""

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    started: float = 0.0
    duration: float = 0.0
    timeout: float = 0.0
    interrupted: Optional[str] = None
    excused: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    unremembered: str = ""
