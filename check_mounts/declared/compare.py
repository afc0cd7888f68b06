"""The comparison of the mount table with the declarations.

Declarations come from fstab(5), ``--expect``, the configuration and systemd's units; each is an
:class:`~check_mounts.model.ExpectedMount`. They are compared with the text of the mount table; no
mount point is ever looked up.

One rule decides in doubt: a difference is reported only if it is certain. Values are not compared
if the kernel does not show them, if only DNS or a look into a directory could decide, or if a
server may negotiate them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from check_mounts import filesystems, meaning
from check_mounts.clocks import Boottime
from check_mounts.declared import declared_options, fstypes, sources
from check_mounts.declared.grace import Grace
from check_mounts.declared.mounted import Mounted
from check_mounts.declared.mountoptions import Comparison, is_control
from check_mounts.model import Condition, Declarer, ExpectedMount, Finding, Mount
from check_mounts.naming.devices import Compared, Devices, device_names
from check_mounts.selection import Glob, normalised, unprivileged_owner
from check_mounts.text import printable
from check_mounts.typed import NamedTuple, Optional, Union


class Excused(NamedTuple):
    """A declared mount whose absence is not a failure, and why."""

    mount_point: bytes
    detail: str


class _Result(NamedTuple):
    """The result of one declaration.

    Without a ``condition`` there is no difference. ``excuse`` says why the absence of the mount is
    not a failure; ``empty`` says that no part of the declaration could be compared. ``unsettled``
    names the options that could not be compared, in words, whether the others are as declared or
    not. ``grace_until``: see Finding."""

    expected: ExpectedMount
    mount: Optional[Mount] = None
    condition: Optional[Condition] = None
    words: tuple[str, ...] = ()
    excuse: Optional[str] = None
    unsettled: str = ""
    empty: str = ""
    grace_until: Optional[Boottime] = None


def _is_foreign_root(mount: Mount, table: Mounted) -> bool:
    """Is this the own `/` of a container or a live image, which does not follow the fstab in it?"""
    return mount.mount_point == b"/" and (table.container or filesystems.traits(mount.fs_type).sourceless)


# systemd and other init systems mount these before they read fstab, and take at most the options
# from its lines (mount_point_is_api in src/shared/mount-setup.c, remount-fs.c): /sys/fs/cgroup has
# the version that the kernel was booted with.
_EARLY = re.compile(
    rb"/(proc|sys|dev|run|dev/(shm|pts)"
    rb"|sys/(kernel/security|fs/(cgroup(/.*)?|smackfs|pstore|bpf)|firmware/efi/efivars))",
    re.DOTALL,
)


def _is_mounted_early(expected: ExpectedMount, mount: Mount) -> bool:
    """Did the init system mount it with its own source and type, not those of fstab?"""
    return (
        not expected.is_own
        and _EARLY.fullmatch(mount.mount_point) is not None
        and filesystems.traits(mount.fs_type).sourceless
    )


def _result_on(expected: ExpectedMount, mount: Mount, table: Mounted) -> _Result:
    """The result of a declaration with a mount at its mount point."""
    if _is_mounted_early(expected, mount):
        expected = expected._replace(source=None, fs_type=None)
    if (
        _is_foreign_root(mount, table)
        and expected.fs_type != mount.fs_type
        and expected.by is not Declarer.COMMAND_LINE
    ):
        return _Result(expected, mount)
    differences = [sources.source_difference(expected, mount, table), fstypes.type_difference(expected, mount)]
    comparison = declared_options.compared(expected, mount, table)
    unsure = _unsure(expected, mount, table)
    differences += [*comparison.differences, declared_options.writable_difference(expected, mount, table)]
    words = [difference for difference in differences if difference is not None]
    unsettled = _named([*unsure, *comparison.uncompared], comparison.why)
    unwritable = declared_options.read_only_difference(expected, mount, table)
    if unwritable is not None:
        return _Result(expected, mount, Condition.READ_ONLY, (unwritable, *words), unsettled=unsettled)
    if words:
        return _Result(expected, mount, Condition.CHANGED, tuple(words), unsettled=unsettled)
    if expected.is_own and not _says_anything(expected, unsure, comparison, table):
        return _Result(expected, mount, empty=f"nothing in the declaration could be compared{unsettled}")
    return _Result(expected, mount, unsettled=unsettled)


def _unsure(expected: ExpectedMount, mount: Mount, table: Mounted) -> list[bytes]:
    """The words ``type`` and ``source``, if these could not be compared."""
    parts = [b"type"] if fstypes.is_uncompared(expected, mount) else []
    if not expected.is_bind and sources.same_source(expected, mount, table) is None:
        parts.append(b"source")
    return parts


def _says_anything(expected: ExpectedMount, unsure: Sequence[bytes], comparison: Comparison, table: Mounted) -> bool:
    """Could any part of a declaration be compared?

    A bare mount point counts as compared: something is mounted there."""
    told = [option for option in expected.options if not is_control(option) and not table.is_ignored(option)]
    type_counts = expected.fs_type not in (None, b"auto", b"none") and b"type" not in unsure
    source_counts = expected.source is not None and b"source" not in unsure
    return (
        type_counts
        or source_counts
        or len(comparison.uncompared) < len(dict.fromkeys(told))
        or not (told or unsure or expected.source)
    )


def _named(options: Sequence[bytes], why: str) -> str:
    """``: option, option; why``: only the names, because a value may be a secret."""
    names = "".join(
        f"{',' if place else ':'} {printable(option.partition(b'=')[0])}" for place, option in enumerate(options)
    )
    return f"{names}; {why}" if names and why else names


def _absent(expected: ExpectedMount, trigger: bool, table: Mounted) -> _Result:
    """The result of a declaration if nothing, or only an autofs trigger, is visible there."""
    if expected.mount_point in table.at and not trigger:
        cover = table.users_cover(expected.mount_point)
        if cover is not None:  # no administrator intended this
            words = f"covered by the FUSE mount of uid {unprivileged_owner(cover)} at {printable(cover.mount_point)}"
            return _Result(expected, None, Condition.MISSING, (words,))
        # It is mounted, but a mount on a directory above it covers it. That mount is the
        # cause; this one is reported as shadowed.
        return _Result(expected, excuse="covered by another mount")
    if expected.nofail:
        return _Result(expected, excuse="not mounted, which its declaration allows")
    if table.container and expected.source is not None and device_names(expected.source):
        return _Result(expected, excuse="not mounted: its source is a device, and this is a container")
    if expected.doubt is not None and not trigger:
        return _Result(expected, None, expected.doubt[0], (expected.doubt[1],))
    grace = table.grace(expected)
    if grace is not None:
        return _Result(expected, None, Condition.MISSING, (grace.words,), grace_until=grace.until)
    return _Result(
        expected, None, Condition.MISSING, ("only its autofs trigger is mounted" if trigger else "not mounted",)
    )


def _result(expected: ExpectedMount, table: Mounted) -> _Result:
    """The result of one declaration, without regard to others."""
    mount = table.seen.get(expected.mount_point)
    if mount is None:
        return _absent(expected, False, table)
    if not filesystems.is_trigger(mount) or filesystems.traits(expected.fs_type or b"").trigger:
        return _result_on(expected, mount, table)
    return _Result(expected, mount) if expected.automount else _absent(expected, True, table)


def _stacked(result: _Result, others: Sequence[_Result], position: int, table: Mounted) -> _Result:
    """The result of one of several declarations of a mount point.

    The mounts of all but the last declaration may lie beneath the visible mount.

    Two entries with ``nofail`` for one mount point are alternatives (disks that take turns): one
    mounted disk is enough."""
    expected = result.expected
    if result.condition in (None, Condition.MISSING) or len(others) == 1:
        return result
    beneath = [
        mount for mount in table.at[expected.mount_point] if mount != result.mount and not filesystems.is_trigger(mount)
    ]
    if position < len(others) - 1 and any(_result_on(expected, mount, table).condition is None for mount in beneath):
        return _Result(expected, result.mount)
    if expected.nofail and any(other.condition is None and other.excuse is None for other in others):
        return _Result(expected, excuse="another declaration of this mount point fits the mount")
    return result


def _below_an_excused(results: Sequence[_Result]) -> dict[bytes, bytes]:
    """Mount points that are missing because a mount above them is excused -> the one above."""
    excused = {result.expected.mount_point for result in results if result.excuse is not None}
    triggers = {
        result.mount.mount_point
        for result in results
        if result.mount is not None and filesystems.is_trigger(result.mount)
    }
    holders = excused | triggers
    below: dict[bytes, bytes] = {}
    for result in results:
        above = result.expected.mount_point
        while result.condition is Condition.MISSING and (above := above[: above.rfind(b"/")]):
            if above in holders:
                below.setdefault(result.expected.mount_point, above)
    return below


def _with_dependents(results: Sequence[_Result]) -> list[_Result]:
    """The results, in which a mount that needs one with a grace has the same grace: the directory
    that it is mounted on, or that it is bound from, is not there yet."""
    graces = {result.expected.mount_point: result.grace_until for result in results if result.grace_until is not None}
    return [_with_grace_of(result, graces) for result in results] if graces else list(results)


def _with_grace_of(result: _Result, graces: Mapping[bytes, Optional[Boottime]]) -> _Result:
    expected = result.expected
    if result.condition is not Condition.MISSING or result.grace_until is not None:
        return result
    needed = [expected.mount_point, *([normalised(expected.source)] if expected.is_bind and expected.source else ())]
    for path in needed:
        while path := path[: path.rfind(b"/")] if path not in graces else path:
            if path in graces:
                words = f"not mounted yet, because {printable(path)} is not"
                return result._replace(words=(words,), grace_until=graces[path])
    return result


def _each_result(expected: Iterable[ExpectedMount], table: Mounted) -> list[_Result]:
    """The results of all declarations; a declaration may excuse others."""
    points: dict[bytes, list[_Result]] = {}
    for one in expected:
        points.setdefault(one.mount_point, []).append(_result(one, table))
    results = [_stacked(one, group, place, table) for group in points.values() for place, one in enumerate(group)]
    results = _with_dependents(results)
    below = _below_an_excused(results)
    return [
        _Result(
            one.expected,
            excuse=f"not mounted, because {printable(below[one.expected.mount_point])} above it is not",
        )
        if one.condition is Condition.MISSING and one.expected.mount_point in below
        else one
        for one in results
    ]


def _told(results: Sequence[_Result]) -> str:
    """All differences at one mount point in one text.

    A difference from several declarations stands there once, with all origins."""
    origins: dict[str, list[str]] = {}
    for result in results:
        origins.setdefault("; ".join(result.words), []).append(result.expected.origin)
    return "; ".join(f"{words} ({', '.join(dict.fromkeys(places))})" for words, places in origins.items())


class Results(NamedTuple):
    """The results of all declarations.

    ``deviations``: one Finding for each mount point that differs, in the order of the declarations.
    ``excused``: the declared mounts that are absent and may be. ``empty``: a Finding for each
    declaration that could not be compared at all. ``uncompared``: the options of other declarations
    that could not be compared, in words, whether the rest is as declared or not. ``late``: the
    number of declarations that were not compared because no time was left."""

    deviations: list[Finding]
    excused: list[Excused]
    empty: list[Finding]
    uncompared: list[str]
    late: int = 0


def compared(
    expected: Iterable[ExpectedMount],
    mounts: Iterable[Mount],
    visible: Collection[int],
    ignore_options: Sequence[Glob] = (),
    devices: Union[Devices, Compared, None] = None,
    late: Callable[[], object] = lambda: None,
    grace: Callable[[ExpectedMount], Optional[Grace]] = lambda expected: None,
) -> Results:
    """The declarations compared with the mount table.

    ``visible`` holds the IDs of the mounts that paths lead to
    (:func:`check_mounts.mounttable.visible`). Declared options that match one of ``ignore_options``
    as a whole are not compared. ``devices`` knows whether two names stand for one device. Once it
    is ``late``, no other declaration is compared. ``grace``: how much longer a mount may be
    missing."""
    expected = list(expected)
    table = Mounted(mounts, visible, Compared({}) if devices is None else devices, ignore_options, grace)
    table.declare(expected)
    results = _each_result(itertools.takewhile(lambda each: not late(), expected), table)
    return _results(results, len(expected) - len(results))


def _results(results: Sequence[_Result], late: int) -> Results:
    bad: dict[bytes, list[_Result]] = {}
    excused: list[Excused] = []
    empty: list[Finding] = []
    uncompared: list[str] = []
    for result in results:
        point = result.expected.mount_point
        if result.excuse is not None:
            excused.append(Excused(point, f"{result.excuse} ({result.expected.origin})"))
        elif result.condition is not None:
            bad.setdefault(point, []).append(result)
        elif result.empty:
            empty.append(Finding(point, result.mount, Condition.UNPROBED, f"{result.empty} ({result.expected.origin})"))
        if result.unsettled:
            uncompared.append(f"{printable(point)}{result.unsettled} ({result.expected.origin})")
    deviations = [_deviation(point, group) for point, group in bad.items()]
    return Results(deviations, excused, empty, uncompared, late)


def _deviation(point: bytes, results: Sequence[_Result]) -> Finding:
    worst = max((result.condition for result in results if result.condition is not None), key=meaning.gravity)
    graces = [result.grace_until for result in results if result.condition is worst]
    until = None if None in graces else min(filter(None, graces))
    return Finding(point, results[0].mount, worst, _told(results), grace_until=until)
