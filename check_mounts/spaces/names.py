"""The name of the container or unit that a mount namespace belongs to, from the cgroup of a process
in it. Pure.

Only the forms that engines and systemd write are understood; all else has no name, and nothing is
guessed. Names are bytes: an engine or a user has chosen parts of them.

Import budget: ``re``; cgroups."""

from __future__ import annotations

import re
from collections.abc import Sequence

from check_mounts.typed import Optional
from check_mounts.using import cgroups

_ID = rb"(?P<id>[0-9a-f]{64})"
_UID = rb"(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
# kubelet: `pod<uid>` with the driver cgroupfs, `kubepods-burstable-pod<uid with _>.slice` with
# systemd; the UID of a static pod is a hash. kind and others put a prefix before kubepods.
_POD = re.compile(rb"(?:[a-z-]*kubepods[a-z-]*-)?pod" + _UID + rb"(?:\.slice)?")
# containerd with the driver cgroupfs in a kubelet that uses systemd (kubernetes/kubernetes#106514).
_POD_AND_ID = re.compile(rb"(?:[a-z-]*kubepods[a-z-]*-)?pod" + _UID + rb"\.slice:[a-z-]+:" + _ID)
# The systemd driver of each engine, and podman with the driver cgroupfs, without `.scope`.
_SCOPE = re.compile(rb"(?P<engine>docker|cri-containerd|crio|libpod|libpod-payload|nerdctl)-" + _ID + rb"(?:\.scope)?")
_BARE = re.compile(_ID)
_ENGINES = {
    b"docker": b"docker",
    b"cri-containerd": b"containerd",
    b"crio": b"cri-o",
    b"libpod": b"podman",
    b"libpod-payload": b"podman",
    b"nerdctl": b"containerd",
}
# systemd-nspawn from a unit, or on the command line; libvirt's containers.
_MACHINE = re.compile(rb"(?s)(?:systemd-nspawn@(?P<unit>.+)\.service|machine-(?P<scope>.+)\.scope)")
_LXC = re.compile(rb"(?s)lxc\.payload\.(.+)")
# The namespaces of containerd itself that its own tools use, with the driver cgroupfs.
_CONTAINERDS = (b"default", b"k8s.io")
_MANAGER = re.compile(rb"user@([0-9]+)\.service")
_UNITS = (b".service", b".scope")
# The characters of a container's ID that engines show, and the bytes of a name that are kept.
_SHORT, _LONGEST = 12, 100


def name_of(data: bytes) -> bytes:
    """The name that a file /proc/PID/cgroup gives; empty if it gives none."""
    paths = cgroups.paths(data)
    for path in paths:
        found = _container(cgroups.parts(path))
        if found:
            return _clipped(found)
    return next((_clipped(found) for found in map(_unit, paths) if found), b"")


def _container(parts: Sequence[bytes]) -> bytes:
    """The innermost container of a path: a node of a cluster may be a container itself."""
    found = b""
    pod: Optional[bytes] = None
    for place, part in enumerate(parts):
        before = parts[place - 1] if place else b""
        both = _POD_AND_ID.fullmatch(part)
        pod_here = _POD.fullmatch(part)
        if both is not None:
            found = _pod(both["uid"]) + b"/" + both["id"][:_SHORT]
        elif pod_here is not None:
            pod = found = _pod(pod_here["uid"])
        elif pod is not None and (container := _BARE.fullmatch(part) or _SCOPE.fullmatch(part)):
            found, pod = pod + b"/" + container["id"][:_SHORT], None
        else:
            found = _single(part, before, parts) or found
    return found


def _pod(uid: bytes) -> bytes:
    return b"pod " + uid.replace(b"_", b"-")


def _single(part: bytes, before: bytes, parts: Sequence[bytes]) -> bytes:
    """A container that belongs to no pod."""
    scope = _SCOPE.fullmatch(part)
    if scope is not None and not (scope["engine"] == b"libpod-payload" and before.endswith(b".service")):
        return _ENGINES[scope["engine"]] + b" " + scope["id"][:_SHORT]
    if before == b"docker" and _BARE.fullmatch(part):
        return b"docker " + part[:_SHORT]
    if (lxc := _LXC.fullmatch(part)) is not None:
        return b"lxc " + lxc[1]
    if before == b"lxc.payload" or (before == b"lxc" and parts[0] == b"lxc"):
        return b"lxc " + part
    if (machine := _MACHINE.fullmatch(part)) is not None:
        return b"machine " + _unescaped(machine["unit"] or machine["scope"])
    if before in _CONTAINERDS and len(parts) == 2:
        return b"containerd " + before + b"/" + part
    return b""


def _unescaped(name: bytes) -> bytes:
    """A part of a unit's name as it was before systemd escaped it (systemd.unit(5))."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes((int(match[1], 16),)), name).replace(b"\0", b"")


def _unit(path: bytes) -> bytes:
    """The unit of a path, and of which user's manager it is."""
    unit = cgroups.unit_in(path)
    if b"/" in unit or not unit.endswith(_UNITS):
        return b""
    managers = [match[1] for match in map(_MANAGER.fullmatch, cgroups.parts(path)) if match is not None]
    return unit + b" of uid " + managers[0] if managers else unit


def _clipped(name: bytes) -> bytes:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 3] + b"..."
