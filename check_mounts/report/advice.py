"""What is known of a mount -> what to try, in order. Pure: text for an administrator, never
executed."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from check_mounts import filesystems, selection
from check_mounts.model import Condition, Mount
from check_mounts.outcome import Outcome
from check_mounts.report.remedies import DESCRIPTORS, Kind, Remedy, Sign
from check_mounts.report.remedies_failed import FAILED
from check_mounts.report.remedies_other import OTHER
from check_mounts.report.shellwords import quoted
from check_mounts.typed import NamedTuple, Optional, Union
from check_mounts.typetable import Protocol

TABLE: tuple[Remedy, ...] = (*FAILED, *OTHER)

_Words = Sequence[bytes]


class Facts(NamedTuple):
    """What is known of a mount, for the words of remedies.

    ``above``: the mount on its path that has failed. ``cover``: the mount that covers it.
    ``unit`` is the name of its unit. ``below``: the mounts that hang from it,
    the innermost first; ``layers``: those that hold the layers of an overlay. ``others``: other
    mounts of its superblock. ``units``: those whose processes wait for it or hold it. ``server``
    is a name for a sentence, ``connection`` the number of a FUSE connection. ``remount``: the
    value of ``mount -o`` for the declared options."""

    condition: Condition
    kind: Kind
    signs: frozenset[Sign]
    point: bytes
    source: bytes = b""
    above: bytes = b""
    cover: bytes = b""
    unit: bytes = b""
    below: _Words = ()
    layers: _Words = ()
    others: _Words = ()
    units: _Words = ()
    server: str = "its server"
    connection: int = 0
    remount: bytes = b""


class Advice(NamedTuple):
    """A step: what to try, the command lines for it, and what they do to the processes."""

    do: str
    commands: tuple[str, ...]
    effect: str


# More commands for one step help nobody; more names in a sentence neither.
_MOST, _NAMED = 5, 3
# Words of commands that the shell should understand.
_OF_THE_SHELL = frozenset((">", DESCRIPTORS))


def steps(facts: Facts) -> list[Advice]:
    """What to try, in order."""
    return [_filled(remedy, facts) for remedy in TABLE if _applies(remedy, facts)]


def _applies(remedy: Remedy, facts: Facts) -> bool:
    return (
        facts.condition in remedy.conditions
        and facts.kind in remedy.kinds
        and remedy.when <= facts.signs
        and remedy.unless.isdisjoint(facts.signs)
    )


def _filled(remedy: Remedy, facts: Facts) -> Advice:
    return Advice(_sentence(remedy.do, facts), tuple(_commands(remedy, facts)), _sentence(remedy.effect, facts))


def _sentence(words: str, facts: Facts) -> str:
    more = f" and {len(facts.others) - _NAMED} more" if len(facts.others) > _NAMED else ""
    others = ", ".join(map(quoted, facts.others[:_NAMED])) + more
    filled = words.format(server=facts.server, others=others)
    return filled[:1].upper() + filled[1:]


def _commands(remedy: Remedy, facts: Facts) -> Iterator[str]:
    if not remedy.command:
        return
    several = [_value(word, facts) for word in remedy.command] if remedy.each else []
    count = max((len(value) for value in several if not isinstance(value, (str, bytes))), default=1)
    for place in range(min(count, _MOST)):
        yield " ".join(_word(word, facts, place) for word in remedy.command)
    if count > _MOST:
        yield f"# and {count - _MOST} more"


def _value(word: str, facts: Facts) -> Union[str, bytes, _Words]:
    """What a word of a command stands for: itself, or a field."""
    name = word[1:-1]
    if word[:1] + word[-1:] == "{}" and name in Facts._fields:
        value: Union[bytes, _Words] = getattr(facts, name)
        return value
    return word


def _word(word: str, facts: Facts, place: int) -> str:
    value = _value(word, facts)
    if isinstance(value, bytes):
        return quoted(value)
    if not isinstance(value, str):
        return quoted(value[place])
    if value in _OF_THE_SHELL:
        return value
    return quoted(value.format(connection=facts.connection).encode("ascii"))


# Kinds and signs
# ------------------------------------------------------------------------------------------------


def kind_of(mount: Mount) -> Kind:
    """The kind of a mount's filesystem."""
    known, protocol = filesystems.of(mount), filesystems.protocol(mount)
    if known.trigger:
        return Kind.TRIGGER
    if filesystems.is_fuse(mount):
        return Kind.FUSE
    if protocol is Protocol.NFS or mount.fs_type == b"nfs3":
        return Kind.NFS
    if protocol is Protocol.SMB:
        return Kind.SMB
    if filesystems.is_network(mount) and not known.device:
        return Kind.NETWORK
    if known.upper:
        return Kind.OVERLAY
    return Kind.MEMORY if known.in_memory else Kind.KERNEL if known.pseudo else Kind.DISK


def connection_of(mount: Mount) -> int:
    """The number of a FUSE connection below /sys/fs/fuse/connections: the device of the superblock
    as the kernel counts it (fuse_ctl_add_conn in fs/fuse/control.c prints ``fc->dev``). That is the
    minor number, unless the filesystem is on a block device, which has a major number as well."""
    major, minor = mount.device
    return major << 20 | minor


def signs_of(mount: Mount, outcome: Optional[Outcome]) -> Iterator[Sign]:
    """What the mount itself and its answers say."""
    if b"soft" in mount.super_options or b"softerr" in mount.super_options:
        yield Sign.SOFT
    if b"ro" not in mount.options and not {b"ro", b"emergency_ro"}.isdisjoint(mount.super_options):
        yield Sign.STOPPED
    if mount.source.startswith(b"/dev/") and kind_of(mount) in (Kind.DISK, Kind.FUSE):
        yield Sign.DEVICE
    if mount.fs_type == b"btrfs":
        yield Sign.SCRUBBED
    if filesystems.is_fuse(mount) and selection.is_remote(mount):
        yield Sign.SERVES_NETWORK
    if outcome is not None:
        yield from _signs_of_outcome(mount, outcome)


_KEYS = frozenset({errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EKEYREJECTED})


def _signs_of_outcome(mount: Mount, outcome: Outcome) -> Iterator[Sign]:
    number, directory = outcome.errno, (outcome.mode or 0) & 0o170000 == 0o040000
    if number == errno.ESTALE or (outcome.nlink == 0 and directory and filesystems.counts_links(mount)):
        yield Sign.STALE
    if number in (errno.ENOTCONN, errno.ECONNABORTED) and filesystems.is_fuse(mount):
        yield Sign.DISCONNECTED
    if number in _KEYS:
        yield Sign.NO_KEY
    if number == errno.EDQUOT:
        yield Sign.QUOTA
    if directory and not (outcome.mode or 0) & 0o111 and filesystems.decides_by_mode(mount):
        yield Sign.BY_MODE
