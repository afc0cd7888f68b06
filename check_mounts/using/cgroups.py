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
    paths: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        _, _, rest = line.partition(b":")
        controllers, colon, path = rest.partition(b":")
        if colon:
            paths[controllers] = path.removesuffix(b" (deleted)")
    candidates = [paths.get(b"name=systemd", b""), paths.get(b"", b""), max(paths.values(), key=len, default=b"")]
    return next((name for name in map(_unit, candidates) if name), "")


def _unit(path: bytes) -> str:
    """The outermost unit of a path: a container's systemd has units of its own below that. Within a
    user's manager, a unit of that manager."""
    # Outside our cgroup namespace, a path begins with `/..` (cgroup_namespaces(7)).
    parts = [part for part in path.split(b"/") if part and part != b".."]
    found = b""
    for part in parts:
        if part.endswith(b".slice"):
            continue
        if not part.endswith(_UNITS):
            # A container's manager that is not systemd: lxc.payload.NAME, docker/ID, kubepods/...
            found = found or b"/".join(parts[parts.index(part) :])
            break
        if found and part == b"init.scope":  # the user's manager itself
            break
        found = part
        if not part.startswith(b"user@"):
            break
    if found.startswith((b"lxc.payload.", b"lxc.monitor.")):
        found = found.partition(b"/")[0]
    # cg_escape in systemd's src/basic/cgroup-util.c puts `_` before names that the kernel may want.
    return text.clipped(text.printable(found.removeprefix(b"_")), _LONGEST)
