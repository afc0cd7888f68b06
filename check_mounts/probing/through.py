"""A request about a mount that is seen from the root directory of another process, in its worker:
the table that the mount is in, and who its owner is here.

Import budget: ``os``; tablelines, syscalls. Hardly any run has such a mount, so only a worker that
gets such a request loads this."""

from __future__ import annotations

import os

from check_mounts import tablelines
from check_mounts.model import Known
from check_mounts.probing.requests import Request
from check_mounts.system import syscalls
from check_mounts.typed import Optional


def settled(request: Request, known: Known) -> Request:
    """The request, with what the files of its process say. They may be those of another process
    already, and then the mount is not found below its root directory."""
    process = os.path.dirname(request.base)
    table = os.fsdecode(process + b"/mountinfo")
    request = request._replace(place_now=lambda: tablelines.place_now(table, *known))
    if request.owner is None or syscalls.has_all_ids(process + b"/uid_map"):
        return request
    owner = request.owner if request.translated else _owner_here(process, request.owner)
    return request._replace(owner=owner, foreign=True)


def _owner_here(process: bytes, owner: tuple[int, int]) -> Optional[tuple[int, int]]:
    """The ids here of the owner of a FUSE mount; None if they are not known. The mount table has
    the ids in the user namespace where FUSE was mounted (fuse_show_options): usually that of the
    process, but the mount may have come from another one."""
    uid, gid = (_mapped(process + name, number) for name, number in zip((b"/uid_map", b"/gid_map"), owner))
    return None if uid is None or gid is None else (uid, gid)


def _mapped(path: bytes, number: int) -> Optional[int]:
    """What an id in a user namespace is in ours (user_namespaces(7))."""
    try:
        with open(path, "rb") as file:
            lines = [list(map(int, line.split())) for line in file]
    except (OSError, ValueError):
        return None
    for inside, outside, count in lines:
        if inside <= number < inside + count:
            return outside + number - inside
    return None
