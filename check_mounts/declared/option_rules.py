"""How each filesystem shows the options that it was given, and how to compare them. Pure.

The kernel takes an option in one notation and shows it in another: ``check=relaxed`` as
``check=r``, ``umask=022`` as two values, ``size=1G`` in KiB. It rounds, and leaves defaults out.
The tables follow the ``show_options`` and the option parsers of Linux 5.10 to 6.12. A difference is
reported only if it is certain. It is not if a server negotiates, if a device may lack a feature, or
if another mount of the same superblock decides.

To add an option: one line in the table of its filesystem, in ``options_of_disks``,
``options_of_servers`` or ``options_of_memory``. To add a filesystem: a ``Kind`` there, and its
types in that module's ``KINDS``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts.declared import options_of_disks, options_of_memory, options_of_servers
from check_mounts.declared.mountoptions import Comparison, is_control, is_flag, last_of, split_options
from check_mounts.declared.option_kinds import ANY, COMMON, SUPER_FLAGS, Kind, Rule, ShownValues
from check_mounts.filesystems import is_fuse_type, traits
from check_mounts.model import Mount
from check_mounts.text import printable, value_words
from check_mounts.typed import NamedTuple

# The registry of all tables: type -> how it shows its options.
KINDS: dict[bytes, Kind] = {**options_of_disks.KINDS, **options_of_servers.KINDS, **options_of_memory.KINDS}
_OTHER = Kind()


def kind_of(fs_type: bytes) -> Kind:
    """How a type shows its options. A type without a table has only the common options."""
    if is_fuse_type(fs_type):
        return options_of_servers.FUSE
    return KINDS.get(fs_type, _OTHER)


class _Spelt(NamedTuple):
    """Declared options as the kernel spells them.

    Each flag and value has the option that it comes from; later ones win."""

    flags: dict[bytes, bytes]
    values: dict[bytes, tuple[bytes, bytes]]


def _respelt(option: bytes, kind: Kind) -> list[bytes]:
    """An option as the kernel spells it, which may be as several options."""
    key, equals, value = option.partition(b"=")
    others = kind.respelt.get(option) or (kind.respelt.get(key + b"=") if equals else None)
    return [option] if others is None else [other.replace(b"{}", value) for other in others]


def _spelt(options: Sequence[bytes], kind: Kind) -> _Spelt:
    found = _Spelt({}, {})
    for option in options:
        for other in _respelt(option, kind):
            key, equals, value = other.partition(b"=")
            if equals:
                found.values.pop(key, None)
                found.values[key] = (value.strip(b'"'), option)
            else:
                found.flags.pop(other, None)
                found.flags[other] = option
    minor, version = found.values.get(b"minorversion"), found.values.get(b"vers")
    if minor and version and version[0] == b"4":
        found.values[b"vers"] = (b"4." + minor[0], version[1])
    return found


class _Shown(NamedTuple):
    """The flags and values that the kernel shows for a mount."""

    flags: frozenset[bytes]
    values: ShownValues


def _shown(mount: Mount, kind: Kind) -> _Shown:
    """The flags and values of a mount and its superblock, in the spelling of the newest kernel."""
    # A quoted SELinux context holds commas, and the parser of the table has split it there.
    options = [*mount.options, *split_options(b",".join(mount.super_options))]
    flags, values = set(), dict[bytes, list[bytes]]()
    for option in (other for each in options for other in _respelt(each, kind)):
        key, equals, value = option.partition(b"=")
        if equals:
            values.setdefault(key, []).append(value.strip(b'"'))
        else:
            flags.add(option)
    return _Shown(frozenset(flags), values)


def compared(options: Sequence[bytes], mount: Mount, alone: bool) -> Comparison:
    """The declared options of a filesystem, compared with those that the kernel shows.

    ``alone``: no other declared mount can be on the same superblock, which keeps the options of its
    first mount."""
    kind = kind_of(mount.fs_type)
    ours = [option for option in options if not is_flag(option) and not is_control(option)]
    spelt, shown = _spelt(ours, kind), _shown(mount, kind)
    told: dict[str, None] = {}
    settled: set[bytes] = set()
    if not alone:
        spelt = _Spelt({}, {key: value for key, value in spelt.values.items() if key in (b"subvol", b"subvolid")})
    super_flags = _super_flags(ours, mount, shown, kind) if alone else ()
    for finding in (*super_flags, *_flags(spelt, shown, kind), *_values(spelt, shown, kind)):
        settled.add(finding.option)
        if finding.words:
            told[finding.words] = None
    uncompared = [option for option in dict.fromkeys(ours) if option not in settled]
    return Comparison(list(told), uncompared, "" if alone else "another declared mount may share its filesystem")


class _Finding(NamedTuple):
    """An option that could be compared, and how it differs; ``words`` is empty if it does not."""

    option: bytes
    words: str = ""


def _super_flags(options: Sequence[bytes], mount: Mount, shown: _Shown, kind: Kind) -> Iterator[_Finding]:
    if not traits(mount.fs_type).super_flags:
        return
    for option in options:
        flag = SUPER_FLAGS.get(option)
        if flag is None or option in kind.uncertain:
            continue
        rivals = [each for each, its in SUPER_FLAGS.items() if its == flag]
        wanted, in_force = option == flag, flag in shown.flags
        if wanted == in_force or last_of(options, rivals) != option:
            yield _Finding(option)
        elif wanted:
            yield _Finding(option, f"{flag.decode()} is not in force, but expected")
        else:
            yield _Finding(option, f"{flag.decode()} is in force, expected {option.decode()}")


def _flags(spelt: _Spelt, shown: _Shown, kind: Kind) -> Iterator[_Finding]:
    for flag, option in spelt.flags.items():
        if flag in SUPER_FLAGS:
            continue
        rivals = _rivals(flag, kind)
        contrary = sorted(rivals & shown.flags)
        if flag in shown.flags or last_of(list(spelt.flags), {flag, *rivals}) != flag:
            yield _Finding(option)  # in force, or overridden by a later option
        elif contrary and flag not in kind.uncertain:
            yield _Finding(option, f"{printable(contrary[0])} is in force, expected {printable(option)}")
        elif flag in kind.shown:
            yield _Finding(option, f"{printable(flag)} is not in force, but expected")


def _rivals(flag: bytes, kind: Kind) -> set[bytes]:
    """The flags that contradict a flag."""
    opposite = flag[2:] if flag.startswith(b"no") else b"no" + flag
    return {opposite}.union(*(group for group in kind.groups if flag in group)) - {flag}


def _values(spelt: _Spelt, shown: _Shown, kind: Kind) -> Iterator[_Finding]:
    for key, (value, option) in spelt.values.items():
        rule = kind.values.get(key) or COMMON.get(key, ANY)
        ours = rule.declared(value)
        if ours is None:
            continue
        theirs = shown.values.get(key) or _unshown(key, rule, spelt, shown, kind)
        meanings = [rule.shown(each) for each in theirs]
        if not meanings or None in meanings:
            continue
        fits = any(rule.fits(ours, meaning, shown.values) for meaning in meanings)
        declared = value if option.startswith(key + b"=") else option
        words = f"{printable(key)} is {value_words(key, theirs[-1])}, expected {value_words(key, declared)}"
        yield _Finding(option, "" if fits else words)


def _unshown(key: bytes, rule: Rule, spelt: _Spelt, shown: _Shown, kind: Kind) -> list[bytes]:
    """The value in force if the kernel shows no value for a key; empty if it is not known."""
    later = list(spelt.values)[list(spelt.values).index(key) :]
    replaced = kind.instead.get(key, frozenset()) & {*later, *spelt.flags, *shown.values, *shown.flags}
    return [] if rule.default is None or replaced else [rule.default]
