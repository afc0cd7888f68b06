"""The request to probe a mount: a value, and the bytes that a worker gets. They hold all that the
worker must know, because its process has no mount table.

Import budget: ``enum``, ``struct``."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

from check_mounts.model import Known, MountIdentity
from check_mounts.outcome import Step
from check_mounts.typed import NamedTuple, Optional

# What may be wrong with a canary, in place of an errno. No kernel or server has such a number
# (MAX_ERRNO in include/linux/err.h).
NO_FILE, OTHER_CONTENT, EMPTY = 60001, 60002, 60003


class Canary(NamedTuple):
    """What must be found below the root directory of a mount: a regular file that holds
    ``contains`` (no file if the name is empty), and with ``not_empty`` any entry at all."""

    file: bytes = b""
    contains: bytes = b""
    not_empty: bool = False


class Request(NamedTuple):
    """The request to a worker.

    - ``as_owner``: act as the mount's owner. ``owner``: the owner that the mount table names
      (FUSE), None if only statx can tell.
    - ``fixed``: the identity of ``--as USER``. With neither ``as_owner`` nor ``fixed`` the worker
      acts as the caller.
    - ``fuse_private``: the filesystem admits only the user that it was mounted for.
    - ``root_decides``: a refusal to the owner does not count if root gets in (Kerberos: we cannot
      use the owner's ticket).
    - ``keeps_listings``: the kernel may list the directory without asking the filesystem.
    - ``trigger``: an autofs mount whose filesystem should be mounted.
    - ``canary``: look at it, and ask nothing else.
    - ``base``: the root directory that ``path`` begins at, through procfs; empty for our own.
    - ``translated``: ``owner`` is as we number users, though the mount is seen through ``base``.
    - ``foreign``: ``owner`` may be another user here, because the mount is seen from a process of
      another user namespace.
    - ``place_now`` gives the present path of the mount, None if it is no longer mounted. It raises
      OSError if the mount table cannot be read."""

    mount_id: int
    path: bytes
    as_owner: bool = False
    owner: Optional[tuple[int, int]] = None
    fixed: Optional[tuple[int, int]] = None
    fuse_private: bool = False
    keeps_listings: bool = False
    root_decides: bool = False
    trigger: bool = False
    canary: Optional[Canary] = None
    base: bytes = b""
    translated: bool = False
    foreign: bool = False
    place_now: Optional[Callable[[], Optional[bytes]]] = None


# Mount ID, device, flags, the lengths of the type's name and of the path; then both; and then, with
# IDS, the ids of the owner and of the fixed identity. With LOOKS, the ids are always there, and
# the canary follows: not_empty, the lengths of its name and of what it holds, and both. With
# THROUGH, the path follows the base and a NUL, which is in no path.
HEAD = struct.Struct("<IIIHIH")
_IDS = struct.Struct("<IIII")
_CANARY = struct.Struct("<?HH")
# The flags. An ordinary request has no other flag than the first one.
AS_OWNER = 1
_HAS_OWNER, _HAS_FIXED, _FUSE_PRIVATE, _KEEPS_LISTINGS, _ROOT_DECIDES, _TRIGGER = (1 << bit for bit in range(1, 7))
WRITES = 1 << 7
_LOOKS = 1 << 8
_THROUGH = 1 << 9
_TRANSLATED = 1 << 10
ORDINARY = (0, AS_OWNER)
# The flags of a FUSE mount with the owner that its table names. Without ids that is root.
OWNED_FUSE = (
    AS_OWNER | _HAS_OWNER | _KEEPS_LISTINGS,
    AS_OWNER | _HAS_OWNER | _KEEPS_LISTINGS | _FUSE_PRIVATE,
)


def ordinary(known: MountIdentity, path: bytes, as_owner: bool) -> bytes:
    """The bytes of an ordinary request. ``known`` is the identity of the mount."""
    mount_id, (major, minor), fs_type = known
    return HEAD.pack(mount_id, major, minor, as_owner, len(fs_type), len(path)) + fs_type + path


def encoded(request: Request, device: tuple[int, int], fs_type: bytes, writes: bool = False) -> bytes:
    """The bytes of a request. ``place_now`` and ``foreign`` are not in them: the worker adds them.
    ``writes``: it asks for writing a file."""
    flags = 0
    for flag, on in (
        (AS_OWNER, request.as_owner),
        (_HAS_OWNER, request.owner is not None),
        (_HAS_FIXED, request.fixed is not None),
        (_FUSE_PRIVATE, request.fuse_private),
        (_KEEPS_LISTINGS, request.keeps_listings),
        (_ROOT_DECIDES, request.root_decides),
        (_TRIGGER, request.trigger),
        (WRITES, writes),
        (_LOOKS, request.canary is not None),
        (_THROUGH, bool(request.base)),
        (_TRANSLATED, request.translated),
    ):
        flags |= flag if on else 0
    path = request.base + b"\0" + request.path if request.base else request.path
    head = HEAD.pack(request.mount_id, *device, flags, len(fs_type), len(path))
    ids = (*(request.owner or (0, 0)), *(request.fixed or (0, 0)))
    begin = head + fs_type + path
    if (canary := request.canary) is not None:
        sizes = _CANARY.pack(canary.not_empty, len(canary.file), len(canary.contains))
        return begin + _IDS.pack(*ids) + sizes + canary.file + canary.contains
    return begin + (_IDS.pack(*ids) if any(ids) else b"")


def decoded(payload: bytes) -> tuple[Request, Known, bool]:
    """The request in these bytes, its mount, and whether it asks for writing.

    Raises struct.error."""
    mount_id, major, minor, flags, name, length = HEAD.unpack_from(payload)
    fs_type, rest = payload[HEAD.size : HEAD.size + name], payload[HEAD.size + name :]
    ids = _IDS.unpack_from(rest, length) if len(rest) > length else (0, 0, 0, 0)
    base, _, path = rest[:length].rpartition(b"\0") if flags & _THROUGH else (b"", b"", rest[:length])
    request = Request(
        mount_id=mount_id,
        path=path,
        as_owner=bool(flags & AS_OWNER),
        owner=ids[:2] if flags & _HAS_OWNER else None,
        fixed=ids[2:] if flags & _HAS_FIXED else None,
        fuse_private=bool(flags & _FUSE_PRIVATE),
        keeps_listings=bool(flags & _KEEPS_LISTINGS),
        root_decides=bool(flags & _ROOT_DECIDES),
        trigger=bool(flags & _TRIGGER),
        canary=_canary(rest[length + _IDS.size :]) if flags & _LOOKS else None,
        base=base,
        translated=bool(flags & _TRANSLATED),
    )
    return request, Known(mount_id, (major, minor), fs_type), bool(flags & WRITES)


def _canary(data: bytes) -> Canary:
    """Raises struct.error."""
    not_empty, name, size = _CANARY.unpack_from(data)
    file = data[_CANARY.size :]
    return Canary(file[:name], file[name : name + size], not_empty)


class Call(enum.Enum):
    """The calls of a probe that may hang."""

    OPEN = "openat2"
    STATFS = "fstatfs"
    STATX = "statx"
    OPEN_DIRECTORY = "openat"
    READ_ENTRIES = "getdents64"


class Made(NamedTuple):
    """The calls of a probe that were made already: the result of each, or its error, and the
    seconds that each step has taken so far."""

    results: dict[Call, object]
    seconds: dict[Step, float]
