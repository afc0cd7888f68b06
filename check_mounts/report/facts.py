"""What a run has found out about a mount -> the facts that decide what to try. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.model import Condition, Declarer, ExpectedMount, Mount
from check_mounts.outcome import Step
from check_mounts.report import advice
from check_mounts.report.advice import Facts
from check_mounts.report.explanation import Subject
from check_mounts.report.remedies import Kind, Sign
from check_mounts.typed import Optional
from check_mounts.unitnames import mount_unit

_CONNECTIONS = b"/sys/fs/fuse/connections"


def facts_of(subject: Subject, mounts: Sequence[Mount], more: Sequence[Sign], units: Sequence[bytes]) -> Facts:
    """The facts. ``more`` are signs that only the caller knows, ``units`` those whose processes
    wait for the mount or hold it."""
    mount, judgement, relatives = subject.mount, subject.judgement, subject.relatives
    condition = Condition.MISSING if judgement is None else judgement.condition
    unit = None if subject.point == b"/" else mount_unit(subject.point)
    return Facts(
        condition=condition,
        kind=kind(subject),
        signs=frozenset((*more, *_signs(subject, mounts, unit, units))),
        point=subject.point,
        source=b"" if mount is None else mount.source,
        above=b"" if subject.above is None else subject.above.finding.mount_point,
        cover=b"" if relatives.cover is None else relatives.cover.mount_point,
        unit=unit or b"",
        below=[each.mount_point for each in relatives.below],
        layers=[each.mount_point for each in relatives.layers],
        others=[each.mount_point for each in relatives.alike],
        units=units,
        server=_server(mount),
        connection=0 if mount is None else advice.connection_of(mount),
        remount=b",".join((b"remount", *_for_remount(subject.declared))),
    )


# Options for mount(8) and systemd alone, which a remount does not need.
_NOT_MOUNTED = (b"x-", b"comment=", b"_netdev", b"noauto", b"auto", b"nofail", b"user", b"group", b"owner", b"defaults")


def _for_remount(declared: Sequence[ExpectedMount]) -> Iterator[bytes]:
    """The declared options for ``mount -o remount,...``, without secrets."""
    for option in dict.fromkeys(option for each in declared for option in each.options):
        if not option.startswith(_NOT_MOUNTED) and text.without_secrets(option) == option and b"," not in option:
            yield option


def kind(subject: Subject) -> Kind:
    """The kind of the filesystem that is mounted, or else declared."""
    mount = subject.mount
    if mount is None:
        for each in subject.declared:
            source, fs_type = each.source or b"", each.fs_type or b""
            mount = Mount(0, 0, (0, 0), b"/", each.mount_point, (), (), fs_type, source, ())
    return Kind.DISK if mount is None else advice.kind_of(mount)


def _server(mount: Optional[Mount]) -> str:
    server = None if mount is None else selection.server(mount)
    return "its server" if server is None else f"its server {text.printable(server)}"


def _signs(subject: Subject, mounts: Sequence[Mount], unit: Optional[bytes], units: Sequence[bytes]) -> Iterator[Sign]:
    mount, relatives = subject.mount, subject.relatives
    of_host = [each for each in subject.declared if each.by is Declarer.HOST]
    by_name = {
        Sign.DECLARED: of_host,
        Sign.NAMED_UNIT: unit,
        Sign.AUTOMOUNTED: any(each.automount for each in of_host) or (mount and filesystems.is_trigger(mount)),
        Sign.ROOT: subject.point == b"/",
        Sign.EARLY: subject.judgement and subject.judgement.finding.grace_until is not None,
        Sign.RESTARTED: units,
        Sign.SHARED: relatives.alike,
        Sign.STACKED: relatives.below,
        Sign.LAYERED: relatives.layers,
        Sign.ABOVE_FAILED: subject.above,
        Sign.COVERED: relatives.cover,
        Sign.NO_FUSECTL: not any(each.mount_point == _CONNECTIONS for each in mounts),
    }
    yield from (sign for sign, found in by_name.items() if found)
    if mount is not None:
        yield from advice.signs_of(mount, None if subject.judgement is None else subject.judgement.finding.outcome)
        if subject.declared and all(is_as_declared(each, mount) for each in subject.declared):
            yield Sign.ONLY_OPTIONS


def is_as_declared(each: ExpectedMount, mount: Mount) -> bool:
    """Whether source and type are those of the declaration, word by word."""
    return each.source in (None, mount.source) and each.fs_type in (None, b"auto", b"none", mount.fs_type)


def has_no_inodes(subject: Subject) -> bool:
    """Whether inodes, and not space, have run out."""
    outcome = None if subject.judgement is None else subject.judgement.finding.outcome
    usage = None if outcome is None or not outcome.answered(Step.STATFS) else outcome.usage
    if usage is None or usage.inode_counts is None or usage.space is None:
        return False
    (used, free), (taken, room) = usage.inode_counts, usage.space
    return used / max(1, used + free) > taken / max(1, taken + room)
