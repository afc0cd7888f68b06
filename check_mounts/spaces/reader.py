"""The mount table together with the mounts of other mount namespaces, and the choice among those.

A mount of another namespace has a ``seen_at``, and a mount point that names the namespace, as in
``web.service: /data``. So it begins with no slash: no path, pattern or declaration that is meant
for our own table is about it, unless this module says so.

Import budget: seeing, tables."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from check_mounts import filesystems, mounttable, selection, text
from check_mounts.clocks import PAST, after, monotonic
from check_mounts.model import LeftOut, Mount, Reason
from check_mounts.mounttable import Table
from check_mounts.selection import Filters, Selection
from check_mounts.spaces import seeing, tables
from check_mounts.spaces.seeing import First, Space
from check_mounts.spaces.tables import Kept
from check_mounts.typed import NamedTuple, Optional
from check_mounts.using import sight

# How long a look at all processes may take, and the reading of all tables, in seconds; but each no
# longer than this part of the deadline. A second look within one pass comes this much later.
_LONGEST, _PART, _NOT_AGAIN = 2.0, 1 / 6, 1.0


class Bounds(NamedTuple):
    """How many namespaces are looked at, how many bytes of a table and of all tables are read, how
    many mounts are kept, and how many seconds of the processor that may take."""

    spaces: int
    table: int
    tables: int
    mounts: int
    seconds: float


# Those of all namespaces of our own user namespace, of one user there who is not root, and the same
# for other user namespaces. Root's come first.
_ALL, _ONE = Bounds(5000, 16 << 20, 64 << 20, 20_000, 2.0), Bounds(1000, 16 << 20, 32 << 20, 5000, 1.0)
_USERS, _USER = Bounds(1000, 1 << 20, 16 << 20, 2000, 1.0), Bounds(50, 1 << 20, 4 << 20, 500, 0.3)
_NAMED = 3


class Known(NamedTuple):
    """What was read of a namespace: its processes, the one that gave the table, the hash of the
    table, the name in outputs, what is kept, and how many bytes of the table are read at most."""

    space: Space
    pid: int
    digest: int
    name: bytes
    kept: Kept
    mounts: tuple[Mount, ...]
    most: int


class _Spent:
    """What was spent within bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._spaces = self._bytes = self._mounts = 0
        self._seconds = 0.0

    @property
    def left(self) -> int:
        """How many bytes of the next table may be read; 0 if none."""
        bounds = self._bounds
        if self._spaces >= bounds.spaces or self._mounts >= bounds.mounts or self._seconds >= bounds.seconds:
            return 0
        return max(0, min(bounds.table, bounds.tables - self._bytes))

    def add(self, size: int, mounts: int, seconds: float) -> None:
        self._spaces += 1
        self._bytes += size
        self._mounts += mounts
        self._seconds += seconds


class _Budgets:
    """What was spent: on all namespaces of a kind, and on those of one user."""

    def __init__(self) -> None:
        self._all = {False: _Spent(_ALL), True: _Spent(_USERS)}
        self._one: dict[tuple[bool, int], _Spent] = {}

    def of(self, space: Space) -> list[_Spent]:
        """The budgets that a namespace counts for."""
        spent = [self._all[space.is_users]]
        if space.uid or space.is_users:
            bounds = _USER if space.is_users else _ONE
            spent.append(self._one.setdefault((space.is_users, space.uid), _Spent(bounds)))
        return spent


class Reader:
    """Reads our own table as mounttable.Reader does, and those of other namespaces. What has not
    changed is not parsed again: it is the same object as before. ``notes``: what was not looked at,
    and why, one line each."""

    def __init__(self, path: str, deadline: float) -> None:
        """``deadline``: that of a pass, in seconds."""
        self._own = mounttable.Reader(path)
        self._seconds = min(_LONGEST, deadline * _PART)
        self._known: dict[First, Known] = {}
        self._is_due, self._looked = True, PAST
        self._joined: Optional[tuple[Table, Table]] = None
        self.notes: tuple[str, ...] = ()

    def renew(self) -> None:
        """Have the next reading look for namespaces again."""
        self._is_due = True

    def read(self) -> Table:
        """The table as it is now; the other namespaces as they were when they were last looked at.
        Raises OSError."""
        own = self._own.read()
        if self._is_due:
            self._is_due = False
            self._look(own)
        return self._together(own)

    def reread(self) -> Table:
        """The table, and all mounts of other namespaces that are still there. Raises OSError."""
        own = self._own.read()
        now = {key: _again(known) if known.mounts else known for key, known in self._known.items()}
        if None in now.values() and monotonic() - self._looked >= _NOT_AGAIN:
            self._look(own)  # another process may be in it
            return self._together(own)
        left = {key: known for key, known in now.items() if known is not None}
        if left != self._known:
            self._known, self._joined = left, None
        return self._together(own)

    def _together(self, own: Table) -> Table:
        if self._joined is None or self._joined[0] is not own:
            more = [mount for known in self._known.values() for mount in known.mounts]
            self._joined = own, ([*own[0], *more], own[1]) if more else own
        return self._joined[1]

    # -- looking

    def _look(self, own: Table) -> None:
        ids = {mount.mount_id for mount in own[0]}
        seen = seeing.look(frozenset(ids), after(self._seconds))
        before, self._known = self._known, {}
        notes, names, budgets, until = _Notes(seen), _Names(), _Budgets(), after(self._seconds)
        for space in seen.spaces:
            spent = budgets.of(space)
            most = min(each.left for each in spent)
            if not most or monotonic() >= until:
                notes.leave_out(space, too_late=bool(most))
                continue
            begun = time.thread_time()
            known, size = _read(space, most, before.get(space.key), names)
            if known is None:
                continue
            if known.kept.is_cut:
                notes.cut(known)
            self._known[space.key] = known = _without(known, ids)
            ids.update(mount.mount_id for mount in known.mounts)
            for each in spent:
                each.add(size, len(known.mounts), time.thread_time() - begun)
        if before != self._known:
            self._joined = None
        self.notes, self._looked = tuple(notes.lines()), monotonic()

    # -- choosing

    def select(self, mounts: Sequence[Mount], filters: Filters) -> Selection:
        """As :func:`selection.select`; of the mounts of other namespaces, one of each superblock
        that our own table does not show. Patterns are about the paths in there. Mount points that
        are named are those of our own table."""
        own = [mount for mount in mounts if not mount.is_elsewhere]
        chosen = selection.select(own, filters)
        if len(own) == len(mounts) or filters.mount_points:
            return chosen
        others = _Others(own, chosen, filters, self._closed())
        for mount in mounts:
            if mount.is_elsewhere:
                others.add(mount)
        return chosen._replace(
            selected=(*chosen.selected, *others.selected()), left_out=(*chosen.left_out, *others.left_out())
        )

    def _closed(self) -> frozenset[int]:
        """The IDs of FUSE mounts that let in no process of our user namespace, not even root
        (fuse_allow_current_process)."""
        return frozenset(
            mount.mount_id
            for known in self._known.values()
            if known.space.ids is not None
            for mount in known.mounts
            if filesystems.is_fuse(mount) and b"allow_other" in mount.super_options
        )


def _read(space: Space, most: int, before: Optional[Known], names: _Names) -> tuple[Optional[Known], int]:
    """What is known of a namespace now, None if it is gone; and how many bytes were read."""
    pid, data, is_cut = tables.read(space, most)
    if pid is None:
        return None, 0
    name, digest = names.of(space, pid), hash(data)
    if before is not None and (space, pid, digest, name) == before[:4]:
        return before, len(data)
    kept = before.kept if before is not None and before.digest == digest else tables.kept(data, is_cut)
    mounts = tuple(tables.named(kept.mounts, space, pid, name))
    return Known(space, pid, digest, name, kept, mounts, most), len(data)


def _again(known: Known) -> Optional[Known]:
    """What is known of a namespace now, without a look for other processes; None if it is gone."""
    pid, data, is_cut = tables.read(known.space, known.most)
    if pid is None or (pid, hash(data)) == (known.pid, known.digest):
        return None if pid is None else known
    name = known.name if known.space.name or pid == known.pid else _neutral(known.space, pid)
    kept = tables.kept(data, is_cut)
    mounts = tuple(tables.named(kept.mounts, known.space, pid, name))
    return Known(known.space, pid, hash(data), name, kept, mounts, known.most)


def _neutral(space: Space, pid: int) -> bytes:
    return b"pid %d (uid %d)" % (pid, space.uid)


def _without(known: Known, ids: set[int]) -> Known:
    """Without mounts that are known already: of two processes in one namespace, one may have
    another root directory."""
    if ids.isdisjoint(mount.mount_id for mount in known.mounts):
        return known
    return known._replace(mounts=tuple(mount for mount in known.mounts if mount.mount_id not in ids))


class _Names:
    """Names of namespaces, each of them once. Root's come first, so no user can take the name of
    one of them."""

    def __init__(self) -> None:
        self._taken: set[bytes] = set()

    def of(self, space: Space, pid: int) -> bytes:
        name = space.name
        if name and space.is_users:
            name += b" (uid %d)" % space.uid
        if not name or name in self._taken:
            name = b"%s (pid %d)" % (name, pid) if name else _neutral(space, pid)
        self._taken.add(name)
        return name


class _Others:
    """The mounts of other namespaces that are probed, and those that are left out."""

    def __init__(self, own: Sequence[Mount], chosen: Selection, filters: Filters, closed: frozenset[int]) -> None:
        self._filters, self._closed = filters, closed
        self._shown = {mount.device for mount in own if mount.mount_id in chosen.visible}
        # A superblock -> the mount that is probed for it, or why it must be left alone.
        self._probed = {mount.device: mount for mount in reversed(chosen.selected)}
        self._avoided = {out.mount.device: out.why for out in chosen.left_out if out.why.avoids}
        self._by_id: dict[int, Mount] = {}
        self._selected: list[Mount] = []
        self._left: list[LeftOut] = []

    def add(self, mount: Mount) -> None:
        """Take the next mount."""
        self._by_id[mount.mount_id] = mount
        if mount.device in self._shown:
            if mount.device in self._avoided:  # no path may cross it in any namespace
                self._left.append(LeftOut(mount, self._avoided[mount.device]))
            return
        why = self._why_not(mount)
        if why is not None:
            self._left.append(LeftOut(mount, why))
        elif mount.device not in self._probed:
            self._probed[mount.device] = mount
            self._selected.append(mount)

    def _why_not(self, mount: Mount) -> Optional[Reason]:
        is_users = selection.unprivileged_owner(mount) is not None
        if is_users and (mount.mount_id in self._closed or not self._filters.user_mounts):
            return Reason.USERS_FUSE
        return selection.why_filtered(mount._replace(mount_point=mount.path), self._filters)

    def selected(self) -> Iterator[Mount]:
        """The mounts to probe. One that hangs from a superblock that is probed elsewhere waits for
        that."""
        for mount in self._selected:
            above = self._by_id.get(mount.parent_id)
            found = None if above is None else self._probed.get(above.device)
            if above is None or found is None or above.device == mount.device or above.device in self._avoided:
                yield mount
            else:
                yield mount._replace(parent_id=found.mount_id)

    def left_out(self) -> Iterator[LeftOut]:
        """The others; each superblock once, but all that no path may cross."""
        told: set[tuple[int, int]] = set()
        for out in self._left:
            device = out.mount.device
            if out.why.avoids or not (device in told or device in self._probed):
                told.add(device)
                yield out


class _Notes:
    """What was not looked at, in words."""

    def __init__(self, seen: seeing.Found) -> None:
        self._seen = seen
        self._left: dict[int, int] = {}
        self._cut: list[str] = []
        self._is_late = False

    def leave_out(self, space: Space, too_late: bool) -> None:
        if too_late:
            self._is_late = True
        else:
            self._left[space.uid] = self._left.get(space.uid, 0) + 1

    def cut(self, known: Known) -> None:
        size = text.size_words(known.most)
        self._cut.append(f"{text.printable(known.name)}: only the first {size} of its mount table were looked at")

    def lines(self) -> Iterator[str]:
        if not seeing.sees_all():
            yield "only root (with CAP_SYS_PTRACE) sees all mount namespaces: those of others were not looked at"
        else:
            yield from sight.limits(0)
        if self._is_late or not self._seen.is_whole:
            yield "there was no time to look at all mount namespaces: some were left out"
        if self._seen.skipped:
            yield f"looking at the mount tables of {_users(self._seen.skipped)} takes too long: some were left out"
        if self._left:
            count = text.counted(sum(self._left.values()), "mount namespace")
            yield f"{count} of {_users(self._left)} not looked at: there are too many"
        yield from self._cut[:_NAMED]
        if len(self._cut) > _NAMED:
            yield f"so with {len(self._cut) - _NAMED} more mount namespaces"


def _users(uids: Collection[int]) -> str:
    named = [f"uid {uid}" for uid in sorted(uids)]
    more = f" and {len(named) - _NAMED} more users" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
