"""A search for ghosts: filesystems that no mount table shows any more, and who holds them.

Import budget: look, seeker, which a worker must find loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.ghost import Ghost, Holder
from check_mounts.model import Condition, Finding, Mount
from check_mounts.selection import Filters
from check_mounts.typed import NOTHING, Any, Optional
from check_mounts.using import look, seeker, sight, tables, worker
from check_mounts.using.model import Device
from check_mounts.using.seeker import Piece

# What a mount table calls them.
_TYPES = {"NFS": (b"nfs", b"nfs4"), "FUSE": filesystems.FUSE}
_NAMED = 3
_WIDTH, _LONGEST = 100, 200


class Found:
    """The records of a search (see seeker.Seeker), for look.Look. ``troubles``: why something may
    be missing."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self.ours: set[int] = set()
        self._holders: dict[int, dict[tuple[Any, ...], list[Piece]]] = {}
        self._devices: list[tuple[Device, str, bytes, Optional[int]]] = []
        self._counts: list[tuple[bytes, int]] = []
        self._shares: list[bytes] = []
        self._lost: set[int] = set()
        self._refused: set[int] = set()
        self._unseen = self._missing = 0
        self._finished = False

    def take(self, record: tuple[Any, ...]) -> None:
        """Take a record of the worker."""
        kind, *rest = record
        if kind == "pieces":
            identity, pieces = rest
            for each in map(Piece._make, pieces):
                self._holders.setdefault(each.mount_id, {}).setdefault(tuple(identity), []).append(each)
        elif kind == "listed":
            for mount_id in rest[0]:
                self._holders.pop(mount_id, None)
        elif kind == "unlisted":
            self._devices, self._counts, self._shares = rest
        elif kind == "refused":
            self._refused.add(rest[0])
        elif kind == "afar":
            self._lost.add(rest[0])
        elif kind == "unseen":
            self._unseen = rest[0]
        elif kind == "tables":
            self._missing = rest[0]
        elif kind == "done":
            self._finished = True

    def lost(self, pid: int) -> None:
        """Note a process at which the worker hung."""
        self._lost.add(pid)

    def ghosts(self, before: Mapping[int, Mount] = NOTHING) -> list[Ghost]:
        """The ghosts. ``before``: mounts that a table has shown and that are gone, by their IDs.

        None are told if something may be mounted where we cannot see it: without root's rights, in
        a container, in a namespace without processes."""
        if not self._finished or self._unseen or self._missing or sight.limits(len(self._refused)):
            return []
        known = self._known(before)
        perhaps = self._holders_of([mount_id for mount_id, was in known.items() if was is None])
        found = []
        for ghost in (*self._by_server(before), *self._by_type(before)):
            ids = [mount_id for mount_id, was in known.items() if was is not None and _is_of(was, ghost)]
            holders = self._holders_of(ids)
            whole = not self._lost and not self.troubles
            found.append(ghost._replace(holders=holders or perhaps, certain=bool(holders), whole=whole))
        return found

    def unlisted(self) -> tuple[Holder, ...]:
        """Who has something of mounts that were unmounted lazily, of whatever type. Where a mount
        namespace cannot be seen, such a mount may be in its table."""
        return self._holders_of([] if self._unseen or self._missing else self._known({}))

    def _known(self, before: Mapping[int, Mount]) -> dict[int, Optional[tuple[Device, bytes]]]:
        """The device and type of each mount in no table that a process has something of; None if
        nobody knows. Without mounts that cannot be of a ghost."""
        known: dict[int, Optional[tuple[Device, bytes]]] = {}
        for mount_id, holders in self._holders.items():
            pieces = [piece for some in holders.values() for piece in some]
            locks = {piece.device for piece in pieces if piece.device is not None}
            if mount_id in before:
                known[mount_id] = before[mount_id].device, before[mount_id].fs_type
            elif len(locks) == 1:
                known[mount_id] = locks.pop(), b""
            elif not all(piece.doubtful for piece in pieces) and not any(piece.bare for piece in _others(holders)):
                known[mount_id] = None
        return known

    def _by_server(self, before: Mapping[int, Mount]) -> list[Ghost]:
        """The NFS and FUSE filesystems in no table, those of one server together."""
        made: dict[tuple[str, bytes], Ghost] = {}
        for device, family, server, owner in self._devices:
            was = [mount for mount in before.values() if mount.device == device]
            named = server or next((name for mount in was for name in (*filesystems.servers(mount), mount.source)), b"")
            user = owner if owner is not None or not was else (selection.fuse_owner(was[0]) or (None,))[0]
            key = family, named or b"%d:%d" % device
            first = made.get(key, Ghost(family, named, (), 0, owner=user))
            made[key] = _with_past(first._replace(devices=(*first.devices, device), number=first.number + 1), was)
        return [made[key] for key in sorted(made)]

    def _by_type(self, before: Mapping[int, Mount]) -> Iterator[Ghost]:
        """The filesystems of other types, of which only the number is known, and the shares."""
        for fs_type, count in self._counts:
            was = [mount for mount in before.values() if mount.fs_type == fs_type]
            shares = tuple(self._shares) if fs_type in tables.SMB else ()
            servers = {*(server for mount in was for server in filesystems.servers(mount))}
            servers = servers or {share.split(b"/")[2] for share in shares}
            server = servers.pop() if len(servers) == 1 else b""
            yield _with_past(Ghost(text.printable(fs_type), server, (), count, sources=() if was else shares), was)

    def _holders_of(self, ids: Iterable[int]) -> tuple[Holder, ...]:
        found: dict[int, Holder] = {}
        for mount_id in ids:
            for (pid, start, uid, name, unit, *_), pieces in self._holders[mount_id].items():
                found.setdefault(pid, Holder(pid, start, uid, name, unit, pieces[0].how))
        return tuple(found[pid] for pid in sorted(found))


def _is_of(was: tuple[Device, bytes], ghost: Ghost) -> bool:
    """Whether what was mounted is one of these ghosts, by device and type."""
    return was[0] in ghost.devices or (not ghost.devices and text.printable(was[1]) == ghost.family)


def _with_past(ghost: Ghost, was: Iterable[Mount]) -> Ghost:
    was = list(was)
    return ghost._replace(
        mount_points=_joined(ghost.mount_points, [mount.mount_point for mount in was]),
        sources=_joined(ghost.sources, [mount.source for mount in was]),
        types=_joined(ghost.types, [mount.fs_type for mount in was]),
    )


def _joined(some: Sequence[bytes], more: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys((*some, *more)))


def _others(holders: Mapping[tuple[Any, ...], Sequence[Piece]]) -> Iterator[Piece]:
    """The pieces of processes that are not ours: a probe that is stuck has the root directory of a
    mount that was in a table."""
    for identity, pieces in holders.items():
        if not identity[3].startswith(b"check_mounts:"):
            yield from pieces


class Search(look.Look):
    """A search under way. ``found`` has its result."""

    def __init__(self, seconds: float, always: bool = False) -> None:
        """``always``: also without any ghost, find who has something of mounts in no table."""
        self.found = Found()
        task = worker.Task({}, frozenset(), frozenset(), always=always)
        super().__init__(task, self.found, seconds, count=1, maker=seeker.Seeker)


def sought(search: Search, waits: bool) -> list[Ghost]:
    """The ghosts that a search finds, which is waited for and ended."""
    if waits:
        look.wait(search)
    else:
        search.close()
    return search.found.ghosts()


# -- pure


def wanted(ghosts: Iterable[Ghost], filters: Filters) -> list[Ghost]:
    """The ghosts that the filters of a check want. An unprivileged user may make FUSE filesystems,
    and must not decide the state of the host."""
    return [each for each in ghosts if _is_wanted(each, filters)]


def _is_wanted(ghost: Ghost, filters: Filters) -> bool:
    is_fuse = ghost.family == "FUSE"
    if is_fuse and ghost.owner != 0 and not filters.user_mounts:
        return False
    if (filters.local and not is_fuse) or (filters.remote and is_fuse):
        return False
    types = ghost.types or _TYPES.get(ghost.family, (ghost.family.encode(),))
    included = not filters.include_types or any(glob.match(each) for glob in filters.include_types for each in types)
    return included and not any(glob.match(each) for glob in filters.exclude_types for each in types)


def findings(ghosts: Sequence[Ghost]) -> list[Finding]:
    """A finding for each ghost. Each has a name of its own, which is no path."""
    names: set[bytes] = set()
    found = []
    for ghost in ghosts:
        name = _name(ghost)
        if name in names and ghost.devices:
            name += b" (device %d:%d)" % ghost.devices[0]
        names.add(name)
        found.append(Finding(name, None, Condition.GHOST, words(ghost), remarks=_remarks(ghost), ghost=ghost))
    return found


def _name(ghost: Ghost) -> bytes:
    many = b"" if ghost.number == 1 else b"%d filesystems of " % ghost.number
    server = text.without_secrets(ghost.server)[:_LONGEST]
    if ghost.family == "NFS" and server:
        return many + b"old filer " + server
    if server:
        return many + b"old %s filesystem " % ghost.family.encode() + server
    if ghost.number > 1:
        return b"%d old %s filesystems" % (ghost.number, ghost.family.encode())
    device = b" (device %d:%d)" % ghost.devices[0] if ghost.devices else b""
    return b"old %s filesystem" % ghost.family.encode() + device


def holders_words(holders: Sequence[Holder]) -> str:
    """``pid 812 (backup.service), pid 900 (bash) and 7 more``."""
    more = len(holders) - _NAMED
    return ", ".join(map(_holder_words, holders[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def words(ghost: Ghost) -> str:
    """``is still held by pid 812 (backup.service), unmounted lazily``."""
    verb = "is" if ghost.number == 1 else "are"
    if not ghost.holders:
        it = "it" if ghost.number == 1 else "them"
        seen = f"no process is seen that holds {it}" if ghost.whole else "not all processes could be looked at"
        return f"{verb} in no mount table, but the kernel still has {it}: {seen}"
    named = holders_words(ghost.holders)
    least = "" if ghost.whole else "at least "
    who = named if len(ghost.holders) == 1 else f"{least}{len(ghost.holders)} processes: {named}"
    return f"{verb} still held by {who}{'' if ghost.certain else ', most likely'}, unmounted lazily"


def _holder_words(holder: Holder) -> str:
    return f"pid {holder.pid} ({holder.unit or text.clipped(text.printable(holder.name), _WIDTH)})"


def _remarks(ghost: Ghost) -> tuple[str, ...]:
    lines = []
    points = [text.clipped(text.printable(point), _WIDTH) for point in ghost.mount_points[:_NAMED]]
    if points:
        more = len(ghost.mount_points) - len(points)
        lines.append(f"it was mounted at {', '.join(points)}{f' and {more} more' if more else ''}")
    return tuple(lines)
