"""The values that modules hand to each other: frozen, and free of effects.

Import budget: ``enum``; outcome, clocks. Nothing here may look at the system.

Byte strings stay byte strings: a mount point or a source may hold any byte but NUL. They become
text in one place only, :func:`check_mounts.text.printable`."""

from __future__ import annotations

import enum
from collections.abc import Collection

from check_mounts.clocks import Boottime, Epoch
from check_mounts.outcome import Outcome
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.ghost import Ghost
    from check_mounts.slowness import Unusual
    from check_mounts.traffic import Traffic


class Condition(enum.Enum):
    """The condition of one mount. Its value is the name on the command line."""

    OK = "ok"
    SLOW = "slow"
    DENIED = "denied"
    TIMED_OUT = "timed-out"
    DEAD = "dead"
    MISSING = "missing"
    READ_ONLY = "read-only"
    CHANGED = "changed"
    FULL = "full"
    FAILING = "failing"
    BLOCKED = "blocked"
    SHADOWED = "shadowed"
    IDLE = "idle"
    GHOST = "ghost"
    UNPROBED = "unprobed"

    @property
    def identifier(self) -> str:
        """The condition's name in perfdata and JSON: ``timed_out``."""
        return self.value.replace("-", "_")

    @property
    def words(self) -> str:
        """The name in a sentence: ``timed out``."""
        return self.value.replace("-", " ")


class State(enum.Enum):
    """A monitoring state. Its value is the plugin's exit code.

    See the Monitoring Plugins Development Guidelines."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def rank(self) -> int:
        """The severity: CRITICAL outranks UNKNOWN, so that one odd mount hides no dead one."""
        return _RANK[self]


_RANK = {State.OK: 0, State.WARNING: 1, State.UNKNOWN: 2, State.CRITICAL: 3}


MountIdentity = tuple[int, tuple[int, int], bytes]


class Known(NamedTuple):
    """What identifies a mount as long as it is mounted, for a worker, which knows no more of it."""

    mount_id: int
    device: tuple[int, int]
    fs_type: bytes

    @property
    def identity(self) -> MountIdentity:
        """As :attr:`Mount.identity`."""
        return self.mount_id, self.device, self.fs_type


class Seen(NamedTuple):
    """Where a mount is that is not reached from our own root directory: ``base`` is another one,
    through procfs (``/proc/812/root``), ``path`` the mount point as seen from there.
    ``same_network``: its process is in our network namespace."""

    base: bytes
    path: bytes
    same_network: bool = True


class Mount(NamedTuple):
    """One line of mountinfo (proc_pid_mountinfo(5)), unescaped.

    ``options`` are those of this mount (``ro`` here is a read-only bind mount), ``super_options``
    those of the superblock, which all its mounts share. ``device`` is ``(major, minor)``: what the
    mounts of one superblock have in common. ``seen_at``: None for a mount that is seen from our own
    root directory, at ``mount_point``; otherwise ``mount_point`` is its name in all outputs."""

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
    seen_at: Optional[Seen] = None

    @property
    def path(self) -> bytes:
        """The path of its mount point: from our own root directory, or from that of ``seen_at``."""
        return self.mount_point if self.seen_at is None else self.seen_at.path

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is a mount of another mount namespace, among those of our own: what is
        declared or named is about our own."""
        return self.seen_at is not None and self.seen_at.path != self.mount_point

    @property
    def identity(self) -> MountIdentity:
        """The values that identify a mount as long as it is mounted, even if it moves.

        Everything else may change meanwhile. The owner of a directory above the mount point, or
        above the source of a bind mount, can rename that directory. Some types show such names as
        their source (nfs, zfs), or the first of their devices (btrfs)."""
        return self.mount_id, self.device, self.fs_type

    @property
    def place(self) -> tuple[bytes, bytes, bytes]:
        """The mount point, and what the mount shows there.

        A mount whose place differs from before may be another one: the kernel reuses an ID, and the
        number of an anonymous device, as soon as it is free."""
        return self.mount_point, self.root, self.source

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written through the mount, or to its filesystem."""
        return b"ro" in self.options or b"ro" in self.super_options

    def super_option(self, name: bytes) -> Optional[bytes]:
        """The value of the superblock option ``name=``; None without it.

        The last occurrence counts: kernels write an address and the like after options that a user
        may choose, such as a ``username=`` with a comma in it, which older kernels do not
        escape."""
        prefix = name + b"="
        for option in reversed(self.super_options):
            if option.startswith(prefix):
                return option[len(prefix) :]
        return None


class Unparsed(NamedTuple):
    """A line of the mount table that makes no sense.

    ``number`` counts from 1. ``twice``: another line has its mount ID. If ``line`` is long, only
    its two ends are kept."""

    number: int
    line: bytes
    why: str
    twice: bool = False


class BadLine(NamedTuple):
    """A line of a file about mounts that makes no sense.

    ``number`` counts from 1, ``why`` is fit for output.

    It holds nothing of the line's text: in some bad lines the fault is a password with a blank in
    it. ``file`` is the file's name in words; ``more`` counts the other bad lines of the file."""

    file: str
    number: int
    why: str
    more: int = 0

    def __str__(self) -> str:
        return f"{self.file} line {self.number}: {self.why}"


class Declarer(enum.Enum):
    """The place of a declaration.

    ``HOST`` is a file for the whole host: fstab, a unit. Only check_mounts reads the others."""

    HOST = "host"
    CONFIGURATION = "configuration"
    COMMAND_LINE = "command line"


class ExpectedMount(NamedTuple):
    """A declared mount: from fstab(5), an option, a section of the configuration, or a unit.

    ``source`` and ``fs_type`` are None if any will do. ``options`` are the declared ones only.
    ``origin`` says where the declaration stands, in words fit for output: ``/etc/fstab line 3``.
    ``nofail``: its absence is not a failure. ``automount``: an autofs trigger in its place is
    enough. ``name`` is the mount point as it was written, if it holds ``..``, which leads elsewhere
    after a link. ``doubt`` is for a name that could not be followed to its end: the condition and
    the words to report if nothing is mounted there. ``remote``: the declaration stands among those
    that need the network."""

    mount_point: bytes
    source: Optional[bytes]
    fs_type: Optional[bytes]
    options: tuple[bytes, ...]
    origin: str
    nofail: bool = False
    automount: bool = False
    name: bytes = b""
    doubt: Optional[tuple[Condition, str]] = None
    by: Declarer = Declarer.HOST
    remote: bool = False

    # The same declaration in two places is one: ``by`` and ``remote`` do not count.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExpectedMount) and self[:-2] == other[:-2]

    def __ne__(self, other: object) -> bool:  # that of a tuple would count it
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:-2])

    @property
    def is_own(self) -> bool:
        """Whether only check_mounts reads the declaration.

        Then an unknown option in it is misspelt, and not meant for another program."""
        return self.by is not Declarer.HOST

    @property
    def is_bind(self) -> bool:
        """Whether the declaration asks for a bind mount: of a directory, not of a filesystem."""
        return is_bind(self.options)


class BootGrace(NamedTuple):
    """How long after boot a declared mount may be missing, in seconds. ``for_any``: any mount, as a
    section says so for this one; otherwise only network mounts. ``procfs``: of the booted host."""

    seconds: float
    for_any: bool = False
    procfs: str = "/proc"


NO_GRACE = BootGrace(0.0)


def is_bind(options: Collection[bytes]) -> bool:
    """Whether options ask for a bind mount: of a directory, not of a filesystem."""
    return b"bind" in options or b"rbind" in options


class StuckProbe(NamedTuple):
    """A probe that has not come back: its process, its mount, and when it began.

    ``since`` is in seconds on CLOCK_BOOTTIME. ``arrived``: its look-up has reached the mount.
    Otherwise a mount on the way may hang. ``writing``: it is a write probe; if that hangs, it
    proves nothing about reading."""

    pid: int
    start_time: int
    mount_id: int
    device: tuple[int, int]
    since: Boottime
    arrived: bool = True
    writing: bool = False


class Damage(str):
    """A remark: the errors that the kernel has counted on the devices of a filesystem, in words.
    ``is_new``: a counter has moved."""

    is_new: bool

    def __new__(cls, words: str, is_new: bool) -> Damage:
        """The remark."""
        self = super().__new__(cls, words)
        self.is_new = is_new
        return self


class Finding(NamedTuple):
    """The result for one mount point, or for a line that makes no sense (not :attr:`is_mount`).

    ``mount`` is None if nothing is mounted (missing) and for a ``line``. ``detail`` is text fit for
    any output. ``latency`` is in seconds: how long the probe took, or has been waiting; None
    without a probe. ``stuck_pid`` and ``stuck_since`` (on CLOCK_BOOTTIME) name a process that a
    hung filesystem holds; ``since`` is when it was first found to hang, if that was before this
    pass. ``diagnosis`` says whose fault it is, if that is known; ``remarks`` add whatever else was
    found out, a line each; a :class:`Damage` among them is judged. ``cover`` is the mount that
    covers a shadowed one. ``after`` is the number of seconds after which its probe was given up
    (``detail`` says it in words); None if no probe of this pass timed out in it. ``grace_until``:
    it is missing, which is WARNING at most until then (CLOCK_BOOTTIME). ``traffic``: what programs
    did on it, if a daemon knows; ``unusual``: what of that takes longer than usual. With a
    ``ghost``, ``mount_point`` is a name for it, which is no path."""

    mount_point: bytes
    mount: Optional[Mount]
    condition: Condition
    detail: str = ""
    outcome: Optional[Outcome] = None
    latency: Optional[float] = None
    stuck_pid: Optional[int] = None
    stuck_since: Optional[Boottime] = None
    diagnosis: str = ""
    remarks: tuple[str, ...] = ()
    since: Optional[Boottime] = None
    line: Optional[BadLine] = None
    cover: Optional[Mount] = None
    after: Optional[float] = None
    grace_until: Optional[Boottime] = None
    traffic: Optional[Traffic] = None
    unusual: Optional[Unusual] = None
    ghost: Optional[Ghost] = None

    @property
    def is_mount(self) -> bool:
        """Whether the finding is about a mount that exists or should exist, and so counts."""
        return bool(self.mount_point)


class Reason(enum.Enum):
    """The reason why a mount is not probed.

    :func:`check_mounts.selection.why_left_out` has the words for it."""

    TYPE_EXCLUDED = enum.auto()
    PLACE_EXCLUDED = enum.auto()
    SOURCE_EXCLUDED = enum.auto()
    TYPE_NOT_INCLUDED = enum.auto()
    PLACE_NOT_INCLUDED = enum.auto()
    SOURCE_NOT_INCLUDED = enum.auto()
    IGNORED = enum.auto()
    NOT_NETWORK = enum.auto()
    NETWORK = enum.auto()
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
        """Whether look-ups must avoid the mount, too, if they could hang in it.

        Excluding a mount means leaving it alone; not including it only means that others count."""
        return self in _AVOIDED


_AVOIDED = frozenset(
    {Reason.TYPE_EXCLUDED, Reason.PLACE_EXCLUDED, Reason.SOURCE_EXCLUDED, Reason.IGNORED, Reason.USERS_FUSE}
)


class LeftOut(NamedTuple):
    """A mount that is not probed, and why."""

    mount: Mount
    why: Reason


_NEVER = Epoch(0.0)


class Survey(NamedTuple):
    """The result of one pass over all mounts.

    ``started`` is in seconds since the epoch, ``duration`` and ``timeout`` are in seconds.

    ``notes`` tell an administrator things that change no verdict. ``interrupted`` names the signal
    that cut the pass short. ``excused`` describes the declared mounts that are absent and may be;
    ``uncompared`` the declared options that could not be compared with anything. ``unremembered``
    says why stuck probes are not remembered; empty if they are."""

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    started: Epoch = _NEVER
    duration: float = 0.0
    timeout: float = 0.0
    interrupted: Optional[str] = None
    excused: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    unremembered: str = ""
