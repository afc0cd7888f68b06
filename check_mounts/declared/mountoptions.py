"""The mount options that every filesystem has, as libmount, the kernel and systemd understand them.
Pure.

These are the flags of the mount itself (nosuid, noatime, ...), ro and rw, and the options that
systemd reads in fstab. ``option_rules`` knows the options of single filesystems."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from check_mounts.filesystems import is_fuse, traits
from check_mounts.model import Mount, is_bind
from check_mounts.typed import NamedTuple, Optional

# Commas end an option, but not within double quotes nor after a backslash (ul_optstr_next in
# util-linux).
_OPTION = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|\\.|[^,"\\]|["\\])+', re.DOTALL)
_MOST_QUOTES = 100


def split_options(text: bytes) -> tuple[bytes, ...]:
    """The options of a comma-separated list, as libmount splits it.

    Quotes stay; empty options do not count."""
    # The pattern searches for the end of each unclosed quote, which takes quadratic time.
    if text.count(b'"') > _MOST_QUOTES:
        return tuple(option for option in text.split(b",") if option)
    return tuple(_OPTION.findall(text))


class Comparison(NamedTuple):
    """The ``differences`` in words, and the options that could not be compared (``uncompared``).

    ``why`` is a reason that all of them share. Without it, each has its own: the kernel does not
    show the option, or its meaning is not certain."""

    differences: list[str]
    uncompared: list[bytes]
    why: str = ""


def last_of(options: Sequence[bytes], words: Collection[bytes]) -> Optional[bytes]:
    """The last of these words among the options; None if no option is one of them."""
    return next((option for option in reversed(options) if option in words), None)


# systemd.mount(5)
# ------------------------------------------------------------------------------------------------


def stays_unmounted(options: Sequence[bytes]) -> bool:
    """Is ``noauto`` in force?"""
    return last_of(options, (b"auto", b"noauto")) == b"noauto"


def is_automount(options: Collection[bytes]) -> bool:
    """Does systemd make an automount of the line?

    It also accepts the older spelling (fstab-generator.c)."""
    return b"x-systemd.automount" in options or b"comment=systemd.automount" in options


def may_be_absent(options: Sequence[bytes]) -> bool:
    """May the mount with these options be absent after boot?

    An automount is there even with ``noauto``."""
    # With wanted-by or required-by, another unit starts the mount (not the automount), and that
    # unit may rightly not be running.
    elsewhere = any(option.startswith((b"x-systemd.wanted-by=", b"x-systemd.required-by=")) for option in options)
    left_alone = (stays_unmounted(options) or elsewhere) and not is_automount(options)
    return last_of(options, (b"nofail", b"fail")) == b"nofail" or left_alone


# Read-only
# ------------------------------------------------------------------------------------------------


class Mode(NamedTuple):
    """``ro`` or ``rw`` as declared, for the mount itself and for its superblock.

    None if nothing is declared."""

    mount: Optional[bytes] = None
    superblock: Optional[bytes] = None

    @property
    def word(self) -> Optional[bytes]:
        """``ro`` if one of the two must be read-only, else ``rw`` if one must be writable."""
        return b"ro" if b"ro" in self else b"rw" if b"rw" in self else None


def mode(options: Sequence[bytes]) -> Mode:
    """The mode that ``ro``, ``rw``, ``ro=vfs`` and the like declare.

    util-linux has ``ro=vfs``, ``ro=fs``, ``ro=recursive`` and their opposites since 2.39.

    The last of ro and rw wins, whatever its value (mnt_optlist_merge_opts in libmount);
    ``ro=vfs,ro=fs`` declares both layers ro."""
    found = Mode()
    for option in options:
        word, _, value = option.partition(b"=")
        if word not in (b"ro", b"rw"):
            continue
        if word != found.word:
            found = Mode()
        layers = _layers(value)
        found = Mode(word if b"vfs" in layers else found.mount, word if b"fs" in layers else found.superblock)
    return found


def _layers(value: bytes) -> set[bytes]:
    """The layers that the value of a flag names, ``vfs`` and ``fs``; both if there is no value.

    ``recursive`` concerns mounts only."""
    words = set(re.findall(rb"[a-z]+", value))
    return (words & {b"vfs", b"fs"}) | ({b"vfs"} if b"recursive" in words else set()) or {b"vfs", b"fs"}


# The flags of the mount
# ------------------------------------------------------------------------------------------------

# libmount turns each of these into a flag: a `no...` sets it, the opposite clears it, whatever
# stands between them.
_FLAGS = {
    b"suid": b"nosuid",
    b"dev": b"nodev",
    b"exec": b"noexec",
    b"diratime": b"nodiratime",
    b"symfollow": b"nosymfollow",
}
_NEGATIVE = frozenset(_FLAGS.values())
_ATIME_FLAGS = (b"noatime", b"relatime", b"strictatime")
# Each key clears the flag that is its value.
_ATIME_OPPOSITES = {b"atime": b"noatime", b"norelatime": b"relatime", b"nostrictatime": b"strictatime"}
# mount(8): these imply nosuid and nodev, some of them also noexec, and so override earlier options.
_IMPLIED = {
    b"user": (b"suid", b"dev", b"exec"),
    b"users": (b"suid", b"dev", b"exec"),
    b"owner": (b"suid", b"dev"),
    b"group": (b"suid", b"dev"),
}

FLAG_WORDS = frozenset({*_FLAGS, *_NEGATIVE, *_ATIME_FLAGS, *_ATIME_OPPOSITES, b"ro", b"rw"})
# These are for mount(8), systemd or readers of fstab, and say nothing about the mount itself.
CONTROL_WORDS = frozenset(
    b"""defaults auto noauto nofail fail _netdev _rnetdev user users owner group nouser nousers noowner
    nogroup bind rbind move remount silent loud quiet loop bg fg private rprivate shared rshared
    slave rslave unbindable runbindable pri comment sw""".split()
)
_CONTROL_PREFIXES = (b"x-", b"X-", b"comment=", b"user=", b"loop=", b"pri=")


def is_flag(option: bytes) -> bool:
    """Does an option concern the mount itself, not its filesystem?"""
    return option.partition(b"=")[0] in FLAG_WORDS and not _names_device(option)


def _names_device(option: bytes) -> bool:
    """Is it a device (``dev=gpfs1``, from mmmount(8) of GPFS in fstab) and not the flag ``dev``?"""
    word, equals, value = option.partition(b"=")
    return word == b"dev" and bool(equals) and not re.search(rb"\b(vfs|fs|recursive)\b", value)


def is_control(option: bytes) -> bool:
    """Does an option say nothing about the mount, so that it cannot be compared?"""
    return option in CONTROL_WORDS or option.startswith(_CONTROL_PREFIXES)


class _Flags(NamedTuple):
    """The flags that options set or clear: the negative ones and those of atime.

    ``cleared``: flag -> the word that clears it. ``implied``: an option such as ``user`` sets
    more flags."""

    set: dict[bytes, None]
    cleared: dict[bytes, bytes]
    implied: bool


def _flags(options: Sequence[bytes]) -> _Flags:
    found, cleared, implied = dict[bytes, None](), dict[bytes, bytes](), False
    for option in options:
        word, _, value = option.partition(b"=")
        if option in _IMPLIED:
            implied = True
            for positive in _IMPLIED[option]:
                cleared.pop(_FLAGS[positive], None)
        elif (value and b"vfs" not in _layers(value)) or _names_device(option):
            continue
        elif word in _NEGATIVE or word in _ATIME_FLAGS:
            found[word] = None
            cleared.pop(word, None)
        elif word in _FLAGS or word in _ATIME_OPPOSITES:
            flag = _FLAGS.get(word) or _ATIME_OPPOSITES[word]
            found.pop(flag, None)
            cleared[flag] = word
    return _Flags(found, cleared, implied)


def flag_differences(
    options: Sequence[bytes], mount: Mount, source: Optional[Collection[bytes]] = None
) -> Iterator[str]:
    """The flags of a mount that certainly differ from the options, in words.

    The kernel shows them through show_mnt_opts in fs/proc_namespace.c.

    ``source`` has the flags of the mount that a bind mount is bound from; None if they are not
    known. The bind mount inherits them unless its options say otherwise."""
    flags, shown = _flags(options), frozenset(mount.options)
    yield from _negative_differences(flags, shown)
    kept = _kept(flags, options, mount, frozenset(_SHOWN if source is None else source))
    if not is_fuse(mount):  # fusermount(1) adds nosuid and nodev unasked
        for flag, word in flags.cleared.items():
            if flag in _NEGATIVE and flag in shown and flag not in kept:
                yield f"{flag.decode()} is in force, expected {word.decode()}"
    yield from _atime_differences(flags, shown, kept, is_bind(options) or not traits(mount.fs_type).sourceless)


_SHOWN = _NEGATIVE | {b"noatime", b"relatime", b"strictatime"}


def _kept(flags: _Flags, options: Sequence[bytes], mount: Mount, source: frozenset[bytes]) -> frozenset[bytes]:
    """The flags that a mount may have kept from before, so that they cannot be compared.

    ``strictatime`` means that neither of the other two atime flags is set."""
    atimes = frozenset((b"noatime", b"relatime", b"strictatime", b"nodiratime"))
    if not is_bind(options):
        # When a mount of the initramfs is remounted, it keeps its atime flags if the options have
        # no atime flag (path_mount in fs/namespace.c).
        return atimes if mount.mount_point in _MOUNTED_BEFORE and not flags.set.keys() & atimes else frozenset()
    source |= frozenset() if source & {b"noatime", b"relatime"} else {b"strictatime"}
    if _keep_all(flags, options):
        return source
    return frozenset() if flags.set.keys() & atimes else source & atimes


def _keep_all(flags: _Flags, options: Sequence[bytes]) -> bool:
    """Does a bind mount keep all flags of its source?

    util-linux before 2.39 changes the flags only if the options set at least one, and then all
    flags but those of atime."""
    return not (flags.set.keys() - {b"strictatime"} or flags.implied or mode(options).mount == b"ro")


def takes_after_its_source(options: Sequence[bytes]) -> bool:
    """Does a bind mount have the flags of its source, whatever flags its options clear?"""
    return _keep_all(_flags(options), options)


def _negative_differences(flags: _Flags, shown: Collection[bytes]) -> Iterator[str]:
    for flag in flags.set:
        # noatime includes directories
        if flag in _NEGATIVE and flag not in shown and not (flag == b"nodiratime" and b"noatime" in shown):
            yield f"{flag.decode()} is not in force, but expected"


def _atime_differences(
    flags: _Flags, shown: Collection[bytes], kept: Collection[bytes], relative: bool
) -> Iterator[str]:
    """The atime flags that differ, in words.

    The kernel's order decides, not that of the options: strictatime, noatime, relatime (path_mount
    in fs/namespace.c).

    ``relative``: if relatime is in force, the kernel shows it. (systemd and container runtimes
    mount tmpfs and the like with strictatime, before anything reads fstab.)"""
    if b"strictatime" in flags.set:
        for other in (b"noatime", b"relatime"):
            if other in shown and other not in kept:
                yield f"{other.decode()} is in force, expected strictatime"
    elif b"noatime" in flags.set:
        if b"noatime" not in shown:
            yield "noatime is not in force, but expected"
    elif b"relatime" in flags.set:
        if b"noatime" in shown:
            yield "noatime is in force, expected relatime"
        elif b"relatime" not in shown and relative:
            yield "relatime is not in force, but expected"
    else:
        yield from _cleared_atimes(flags, shown, kept, relative)


def _cleared_atimes(flags: _Flags, shown: Collection[bytes], kept: Collection[bytes], relative: bool) -> Iterator[str]:
    word = flags.cleared.get(b"noatime")
    if word and b"noatime" in shown and b"noatime" not in kept:
        yield f"noatime is in force, expected {word.decode()}"
    word = flags.cleared.get(b"strictatime")
    if word and relative and not {b"noatime", b"relatime"} & set(shown) and b"strictatime" not in kept:
        yield f"strictatime is in force, expected {word.decode()}"


# The initramfs mounts these; systemd-remount-fs(8) applies fstab later.
_MOUNTED_BEFORE = (b"/", b"/usr")
