"""Sandboxes: this process has another mount namespace than PID 1, but the same root directory.

Import budget: ``os``. systemd's PrivateTmp=, ProtectSystem= and the like (systemd.exec(5)) give a
service a mount namespace of its own: the host's mounts, some of them read-only there, hidden, or
covered. A change that only the sandbox made is no fault of the host. This module reads only mount
tables below /proc, which takes no lock of any filesystem."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from check_mounts import filesystems, meaning, mounttable, systemds, tablelines
from check_mounts.model import Condition, ExpectedMount, Finding, Mount, Survey
from check_mounts.typed import NamedTuple, Optional

_INIT = "/proc/1"
NOTE = (
    "this process is in another mount namespace than PID 1, for example by systemd's PrivateTmp=,"
    " so it may see the host's mounts differently"
)
_MAYBE = "maybe for this process alone: it is in a sandbox, and cannot see what PID 1 has mounted"
_HIDDEN = "this process does not see it: a sandbox (a mount namespace of its own) hides what PID 1 has mounted there"


class Outside(NamedTuple):
    """The mounts that PID 1 sees, if this process is in another mount namespace.

    There are no ``mounts`` in a container, which has another root directory, too, and if the table
    of PID 1 cannot be read. In the latter case ``is_known`` is False: ProtectProc= and hidepid=
    hide PID 1."""

    mounts: Sequence[Mount] = ()
    is_known: bool = True

    @property
    def at(self) -> dict[bytes, Mount]:
        """Mount point -> the visible mount there."""
        visible = mounttable.visible(self.mounts)
        return {
            mount.mount_point: mount
            for mount in self.mounts
            if mount.mount_id in visible and not filesystems.is_trigger(mount)
        }


def look_outside(mountinfo: str, mounted: Callable[[], Sequence[Mount]], init: str = _INIT) -> Optional[Outside]:
    """Read the mounts outside of this process's sandbox; None if it is not in one, or cannot know.

    ``mounted`` returns the mounts of the table in ``mountinfo``; only this process's own table says
    anything about its namespace."""
    if mountinfo != mounttable.DEFAULT_PATH:
        return None
    try:
        if os.readlink("/proc/self/ns/mnt") == os.readlink(f"{init}/ns/mnt"):
            return None
    except OSError:  # only a process that may trace PID 1 can read it; but mount IDs are unique over all namespaces
        return _by_ids(mounted(), init)
    return _with_our_root(_read_mounts(init), mounted())


def _by_ids(mounts: Sequence[Mount], init: str) -> Optional[Outside]:
    ids = _read_ids(init)
    if not ids:
        return Outside(is_known=False) if systemds.masks(mounts) or _is_fed(mounts) else None
    if any([b"%d" % mount.mount_id in ids for mount in mounts]):
        return Outside() if systemds.masks(mounts) else None
    return _with_our_root(_read_mounts(init), mounts)


def _read_ids(init: str) -> set[bytes]:
    """The IDs of the mounts that PID 1 sees, as the table has them; parsing all of it would take
    ten times as long. Empty if the table cannot be read."""
    try:
        data = tablelines.contents(f"{init}/mountinfo")
    except OSError:
        return set()
    return {line.partition(b" ")[0] for line in data.split(b"\n")} - {b""}


def _is_fed(mounts: Sequence[Mount]) -> bool:
    """Whether mounts propagate from another namespace to this one, but not back.

    In a sandbox systemd makes `/` a slave (mount_namespaces(7))."""
    return any(
        mount.mount_point == b"/" and any(each.startswith(b"master:") for each in mount.optional_fields)
        for mount in mounts
    )


def _read_mounts(init: str) -> Sequence[Mount]:
    try:
        return mounttable.read(f"{init}/mountinfo")[0]
    except OSError:
        return ()


def _with_our_root(table: Sequence[Mount], mounts: Sequence[Mount]) -> Outside:
    found = Outside(table)
    visible = mounttable.visible(mounts)
    own = next((mount for mount in mounts if mount.mount_point == b"/" and mount.mount_id in visible), None)
    root = found.at.get(b"/")
    return (
        found if own is not None and root is not None and _is_same(own, root) and own.root == root.root else Outside()
    )


def _is_same(one: Mount, other: Mount) -> bool:
    return (one.device, one.fs_type) == (other.device, other.fs_type)


def as_outside(mounts: Sequence[Mount], beyond: Outside, declared: Collection[bytes] = ()) -> list[Mount]:
    """The mounts as they are outside.

    A sandbox makes a copy of a mount read-only, nosuid and so on, shows a part of it, or shows it
    at another place. At another place the mount keeps its own options if it is declared there."""
    at, masks = beyond.at, systemds.masks(mounts)
    elsewhere = {
        (mount.device, mount.fs_type): mount
        for mount in sorted(at.values(), key=lambda mount: b"ro" not in mount.options)
    }

    def as_there(mount: Mount) -> Mount:
        other = at.get(mount.mount_point)
        if other is not None and _is_same(mount, other):
            if (mount.options, mount.root) == (other.options, other.root):
                return mount
            return mount._replace(options=other.options, root=other.root)
        other = elsewhere.get((mount.device, mount.fs_type))
        return mount if other is None or mount.mount_point in declared else mount._replace(options=other.options)

    outer = [as_there(mount) for mount in mounts if mount.mount_id not in masks]
    return outer if beyond.is_known else list(map(_with_sys, outer))


def _with_sys(mount: Mount) -> Mount:
    """The mount at /sys as rw; any other mount as it is.

    A read-only /sys is the mark of a container, but ProtectKernelTunables= makes it read-only, too.
    Only in a container is its filesystem read-only."""
    return mount._replace(options=(b"rw",)) if mount.mount_point == b"/sys" and _may_be_rw(mount) else mount


def _may_be_rw(mount: Mount) -> bool:
    """Whether the mount is read-only, but not its filesystem: outside, the mount may be rw."""
    return b"ro" in mount.options and b"ro" not in mount.super_options


def _with_mounts(survey: Survey, mounts: Mapping[int, Mount]) -> Survey:
    def moved(finding: Finding) -> Finding:
        mount = finding.mount
        there = mount if mount is None else mounts.get(mount.mount_id, mount)
        return finding if there is mount else finding._replace(mount=there)

    return survey._replace(findings=tuple([moved(finding) for finding in survey.findings]))


def compared_outside(
    survey: Survey,
    mounts: Sequence[Mount],
    beyond: Outside,
    compare: Callable[[Survey, Sequence[Mount]], Survey],
    expected: Collection[ExpectedMount],
) -> Survey:
    """The survey that ``compare`` makes of the mounts as they are outside.

    It also has the expected mounts that this process does not see."""
    outer = as_outside(mounts, beyond, {each.mount_point for each in expected})
    before = {finding.mount.mount_id: finding for finding in survey.findings if finding.mount is not None}
    found = compare(_with_mounts(survey, {mount.mount_id: mount for mount in outer}), outer)
    found = _with_mounts(found, {key: finding.mount for key, finding in before.items() if finding.mount is not None})
    if not beyond.is_known:
        found = found._replace(findings=tuple([_doubted(finding, before) for finding in found.findings]))
    result = _with_hidden(found, hidden(mounts, beyond), expected)
    return result._replace(notes=(*result.notes, NOTE))


def _doubted(finding: Finding, before: Mapping[int, Finding]) -> Finding:
    """The finding, with only a remark about a mount that may be read-only in this sandbox alone."""
    was = None if finding.mount is None else before.get(finding.mount.mount_id)
    if (
        was is None
        or finding.mount is None
        or finding.condition is not Condition.READ_ONLY
        or not _may_be_rw(finding.mount)
    ):
        return finding
    return was._replace(remarks=(*finding.remarks, f"read-only: {finding.detail}; {_MAYBE}"))


def hidden(mounts: Sequence[Mount], beyond: Outside) -> set[bytes]:
    """The mount points where this process sees another mount than PID 1 does, or no mount."""
    masks = systemds.masks(mounts)
    if not masks and not beyond.mounts:
        return set()
    visible, there = mounttable.visible(mounts), beyond.at
    seen = [mount for mount in mounts if mount.mount_id in visible]
    here = {
        mount.mount_point: mount for mount in seen if mount.mount_point in there and not filesystems.is_trigger(mount)
    }
    masked = {mount.mount_point for mount in seen if mount.mount_id in masks}
    return masked | {point for point, mount in there.items() if point not in here or not _is_same(mount, here[point])}


def _with_hidden(survey: Survey, points: set[bytes], expected: Collection[ExpectedMount]) -> Survey:
    """The survey, with mounts expected at hidden mount points as unprobed, not missing or changed.

    ``points`` are the hidden mount points."""
    findings = list(survey.findings)
    told: set[bytes] = set()
    for at, finding in enumerate(findings) if points else ():
        shadowed = finding.condition is Condition.SHADOWED
        if finding.mount_point in points and _is_deviation(finding) and not shadowed:
            findings[at] = finding._replace(condition=Condition.UNPROBED, detail=_HIDDEN)
            told.add(finding.mount_point)
    unseen = dict.fromkeys(each.mount_point for each in expected if each.mount_point in points - told)
    return survey._replace(
        findings=(*findings, *(Finding(point, None, Condition.UNPROBED, _HIDDEN) for point in unseen))
    )


def _is_deviation(finding: Finding) -> bool:
    return meaning.of(finding.condition).from_table
