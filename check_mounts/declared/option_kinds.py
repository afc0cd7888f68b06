"""The form of the tables of mount options, and the options that all filesystems share. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from check_mounts.declared.option_values import (
    ValueOf,
    in_any_base,
    label_of,
    masked,
    never,
    number_of,
    permissions_of,
    size_of,
    word_of,
)
from check_mounts.typed import NamedTuple, Optional

# The options that the kernel shows: key -> its values, in their order.
ShownValues = Mapping[bytes, list[bytes]]


def last(shown: ShownValues, key: bytes) -> bytes:
    """The last value that the kernel shows for a key; empty without one (see
    Mount.super_option)."""
    return shown.get(key, [b""])[-1]


class Rule(NamedTuple):
    """How to compare the value of an option.

    ``declared`` turns the declared value into one that can be compared, ``shown`` does so with the
    value that the kernel shows; None: not certain. ``default`` is the value in force if the kernel
    shows no value (None: unknown). ``fits`` decides whether the two agree; its third argument is
    everything that the kernel shows."""

    declared: ValueOf
    shown: ValueOf
    default: Optional[bytes] = None
    fits: Callable[[object, object, ShownValues], bool] = lambda ours, theirs, _: ours == theirs


class Kind(NamedTuple):
    """How one type of filesystem shows its options.

    ``values``: the options with a value. ``respelt``: an option, or ``KEY=`` for any value -> how
    the kernel spells it; ``{}`` is the value. ``shown``: flags that the kernel always shows if they
    are in force. ``groups``: sets of flags with exactly one in force, so if another one is shown,
    that is a difference. ``uncertain``: flags that the kernel may ignore. ``instead``: an option ->
    the options that may replace it; if it is not shown, its default may not be in force."""

    values: Mapping[bytes, Rule] = {}
    respelt: Mapping[bytes, Sequence[bytes]] = {}
    shown: frozenset[bytes] = frozenset()
    groups: Sequence[frozenset[bytes]] = ()
    uncertain: frozenset[bytes] = frozenset()
    instead: Mapping[bytes, frozenset[bytes]] = {}


def rule(value_of: ValueOf, default: Optional[bytes] = None) -> Rule:
    """The rule of an option that the kernel shows in the notation in which it takes the option."""
    return Rule(value_of, value_of, default)


def words_of(text: str) -> frozenset[bytes]:
    """The words of a text."""
    return frozenset(text.encode().split())


def respellings(lines: str) -> dict[bytes, tuple[bytes, ...]]:
    """The spellings in a text: ``GIVEN SHOWN...`` on each line, or several, separated by ``;``."""
    words = (line.encode().split() for line in re.split("[\n;]", lines))
    return {line[0]: tuple(line[1:]) for line in words if line}


PAGES = (1 << 12, 1 << 14, 1 << 16)  # bytes; the mount table does not say which size this kernel has


def fits_whole_pages(ours: object, theirs: object, shown: ShownValues) -> bool:
    """tmpfs and Ceph round up to whole pages (ceph_parse_mount_param in fs/ceph/super.c)."""
    assert isinstance(ours, int)
    return theirs == ours or theirs in [-(-ours // page) * page for page in PAGES]


def _fits_mapped(ours: object, theirs: object, shown: ShownValues) -> bool:
    """A container with a user namespace declares its own IDs; the kernel shows the host's IDs."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    return ours == theirs or ours < 1 << 16 <= theirs


def _fits_blocks(ours: object, theirs: object, shown: ShownValues) -> bool:
    """A server makes requests smaller, never larger; 0 leaves the size to the server."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    return ours == 0 or theirs <= max(ours, 4096)


def _fits_any_base(ours: object, theirs: object, shown: ShownValues) -> bool:
    """iso9660 and udf keep only the bits of permissions."""
    assert isinstance(ours, frozenset) and isinstance(theirs, int)
    return theirs in ours or theirs in {each & 0o777 for each in ours}


ID = rule(number_of)
MODE = rule(permissions_of)  # ntfs3 of Linux 6.1 shows a mask with all bits above it: fmask=37777600022
ANY_BASE = Rule(in_any_base, permissions_of, fits=_fits_any_base)
WRITABLE = rule(masked(0o022), b"0")  # fat and exfat keep only the write bits, and show them if any is set
MAPPED = Rule(number_of, number_of, b"0", _fits_mapped)
FROM_ROOT = rule(number_of, b"0")  # not shown if it is root's: root mounts at boot
PLAIN = rule(word_of)
NEVER = rule(never)
_BLOCKS = Rule(number_of, number_of, fits=_fits_blocks)
_LABEL = rule(label_of)

# The kernel does not show these as declared: they are negotiated, made by mount helpers, secret, or
# shared with the superblock or connection of another mount.
_NEVER_COMPARED = frozenset(
    b"""addr clientaddr mountaddr mountport mountvers mountproto nconnect max_connect retry actimeo
    comment loop offset sizelimit encryption username user domain workgroup dom pass password
    password2 credentials cred ip unc prefixpath name secret secretfile key keyfile servern
    netbiosname fsname subtype max_read user_id group_id rootmode fd iocharset nls errors_count
    helper uhelper msize mon_addr lowerdir+ datadir+ minorversion size_percent""".split()
)

_MODES = b"mode umask dmask fmask dmode fmode file_mode dir_mode file_umask dir_umask ownmask othmask ptmxmode".split()

COMMON: dict[bytes, Rule] = {
    **dict.fromkeys(_NEVER_COMPARED, NEVER),
    **dict.fromkeys((b"uid", b"gid"), ID),
    **dict.fromkeys(_MODES, MODE),
    **dict.fromkeys((b"rsize", b"wsize", b"bsize"), _BLOCKS),
    **dict.fromkeys((b"context", b"fscontext", b"defcontext", b"rootcontext"), _LABEL),
    **dict.fromkeys(
        (b"size", b"nr_blocks", b"nr_inodes", b"allocsize", b"logbsize", b"pagesize", b"min_size"), rule(size_of)
    ),
}


def _anything(value: bytes) -> object:
    number = number_of(value)
    return value.lower().rstrip(b"/") if number is None else number


def _may_be(ours: object, theirs: object, shown: ShownValues) -> bool:
    """Without a rule, two values can differ only if both are numbers or both are words."""
    if isinstance(ours, bytes) and isinstance(theirs, bytes):
        return ours == theirs or theirs.startswith(ours + b":")
    return ours == theirs or type(ours) is not type(theirs)


ANY = Rule(_anything, _anything, fits=_may_be)

# The flags that show_sb_opts in fs/proc_namespace.c shows of each superblock -> the flag that they
# set or clear.
SUPER_FLAGS = {
    b"sync": b"sync",
    b"async": b"sync",
    b"lazytime": b"lazytime",
    b"nolazytime": b"lazytime",
    b"dirsync": b"dirsync",
    b"mand": b"mand",
    b"nomand": b"mand",
}
