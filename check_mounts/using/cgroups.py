"""The unit or container that a process belongs to, from its cgroups (cgroups(7)). Pure.

Import budget: ``text``."""

from __future__ import annotations

from check_mounts import text

_LONGEST = 100
_UNITS = (b".service", b".scope")


def unit_of(data: bytes) -> str:
    """The unit that a file /proc/PID/cgroup names, fit for output; empty without one.

    systemd's own hierarchy decides, else that of cgroup v2, else the longest path: container
    engines without systemd use all hierarchies alike."""
    name = next((name for name in map(unit_in, paths(data)) if name), b"")
    return text.clipped(text.printable(name), _LONGEST)


def paths(data: bytes) -> list[bytes]:
    """The paths that may name the unit or the container, the one that decides first."""
    found: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        _, _, rest = line.partition(b":")
        controllers, colon, path = rest.partition(b":")
        if colon:
            found[controllers] = path.removesuffix(b" (deleted)")
    return [found.get(b"name=systemd", b""), found.get(b"", b""), max(found.values(), key=len, default=b"")]


def parts(path: bytes) -> list[bytes]:
    """The names on a path. Outside our cgroup namespace, it begins with `/..`
    (cgroup_namespaces(7))."""
    return [part for part in path.split(b"/") if part and part != b".."]


def unit_in(path: bytes) -> bytes:
    """The outermost unit of a path: a container's systemd has units of its own below that. Within a
    user's manager, a unit of that manager."""
    names, found = parts(path), b""
    for part in names:
        if part.endswith(b".slice"):
            continue
        if not part.endswith(_UNITS):
            # A container's manager that is not systemd: lxc.payload.NAME, docker/ID, kubepods/...
            found = found or b"/".join(names[names.index(part) :])
            break
        if found and part == b"init.scope":  # the user's manager itself
            break
        found = part
        if not part.startswith(b"user@"):
            break
    if found.startswith((b"lxc.payload.", b"lxc.monitor.")):
        found = found.partition(b"/")[0]
    # cg_escape in systemd's src/basic/cgroup-util.c puts `_` before names that the kernel may want.
    return found.removeprefix(b"_")
