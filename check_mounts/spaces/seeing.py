"""The mount namespaces of this host, found by the processes in them.

Only files of /proc/PID are read that wait for nothing a process may hold: ``mountinfo``,
``status``, ``uid_map`` and ``cgroup``. On Linux 6.18 links such as ``ns/mnt`` and ``root`` take a
lock that a process holds which hangs in execve(2) (exec_update_lock). So the first line of its
table tells the namespace of a process: mount IDs are unique on a host. It is in another namespace
than ours if our own table does not have this mount. The path in that line tells the root directory:
two processes that have different ones see different mounts, even where the first one is the same.

No descriptor of a table stays open: it would keep the namespace alive.

Import budget: ``itertools``, ``os``, ``time``; names, procfs."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Sequence

from check_mounts.clocks import Monotonic, monotonic
from check_mounts.spaces import names
from check_mounts.typed import NamedTuple, Optional, Union
from check_mounts.using import procfs

# Enough for the ID and the path of most first lines, and for those of each one. The kernel makes no
# more lines than fit (seq_read_iter in fs/seq_file.c).
_USUAL, _LONGEST = 128, 65536
# How many processes of a namespace are remembered, the first ones: the others are for when one has
# ended.
_KEPT = 4
# A user can make the first line of a table dear, with a root directory that none of 100,000 mounts
# is below. So what costs more than this counts, in seconds of the processor, and after that much
# of it, that user's processes, or those of all users, are skipped.
_DEAR, _MOST_OF_USER, _MOST_OF_USERS = 0.002, 0.1, 0.3
# The links of /proc/PID/task with one thread (proc_task_getattr in fs/proc/base.c). Asking for them
# costs a third of what listing it costs, and a user may have many zombies.
_OF_ONE_THREAD = 3
_SYS_PTRACE = 19  # include/uapi/linux/capability.h

# (first ID inside, first ID outside, count): the lines of user_namespaces(7).
IdMap = tuple[tuple[int, int, int], ...]


class First(NamedTuple):
    """The first mount of a table, and its path as the table has it."""

    mount_id: int
    path: bytes


class Space(NamedTuple):
    """A mount namespace, as it is seen from the root directory of a process in it.

    ``key``: the first mount of its table. ``pids``: processes in it, the outermost one
    first, which also has the real user ``uid`` and the ``name`` of its container or unit (empty
    without one). ``ids``: how the user namespace of these processes maps IDs to ours; None if at
    least one of them is in our own. ``groups``: the same of groups.
    ``same_network``: the outermost process is in our network namespace."""

    key: First
    pids: tuple[int, ...]
    uid: int
    name: bytes = b""
    ids: Optional[IdMap] = None
    groups: IdMap = ()
    same_network: bool = True

    @property
    def is_users(self) -> bool:
        """Whether its mounts were made by somebody who is root only there."""
        return self.ids is not None and host_id(self.ids, 0) != 0


class Found(NamedTuple):
    """The namespaces besides our own, those of our own user namespace first. ``skipped``: the users
    whose processes were not all looked at; ``is_whole``: whether there was time for all others."""

    spaces: tuple[Space, ...]
    skipped: frozenset[int] = frozenset()
    is_whole: bool = True


def look(own: Collection[int], until: Monotonic) -> Found:
    """Look at all processes until ``until``. ``own``: the IDs of all mounts of our own namespace.
    Never raises."""
    return _Look(own, until).seen()


def sees_all() -> bool:
    """Whether this process may look through the root directories of all processes (ptrace(2))."""
    return bool(_own_capabilities() >> _SYS_PTRACE & 1)


def first(pid: int) -> Optional[First]:
    """The first mount that a process, or a thread, sees; None if it sees none, or has ended."""
    fields = _content(pid, "mountinfo", _USUAL).split(b" ", 5)
    if 1 < len(fields) < 6:
        fields = _content(pid, "mountinfo", _LONGEST).split(b" ", 5)
    return First(int(fields[0]), fields[4]) if len(fields) == 6 else None


def host_id(ids: IdMap, number: int) -> Optional[int]:
    """The ID here of a user or group of that user namespace; None if it is no one's."""
    for inside, outside, count in ids:
        if inside <= number < inside + count:
            return outside + number - inside
    return None


class _Look:
    def __init__(self, own: Collection[int], until: Monotonic) -> None:
        self._own, self._until = own, until
        self._ids, self._network = _content("self", "uid_map"), _network("self")
        self._capabilities, self._may_see_all = _own_capabilities(), sees_all()
        self._found: dict[First, list[int]] = {}
        self._dear: dict[int, float] = {}
        self._skipped: set[int] = set()
        self._is_whole = True

    def seen(self) -> Found:
        try:
            pids = procfs.pids()
        except OSError:  # no /proc, or no descriptor
            return Found((), is_whole=False)
        for pid in pids:
            if monotonic() >= self._until:
                self._is_whole = False
                break
            self._note(pid)
        spaces = sorted((space for item in self._found.items() for space in self._space(*item)), key=_rank)
        return Found(tuple(spaces), frozenset(self._skipped), self._is_whole)

    def _note(self, pid: int) -> None:
        if self._skipped and (user := self._user_elsewhere(pid)) is not None and self._is_too_dear(user):
            self._skipped.add(user)
            return
        begun = time.thread_time()
        pid, key = _seen_by(pid)
        taken = time.thread_time() - begun
        if taken > _DEAR and (user := self._user_elsewhere(pid)) is not None:
            self._dear[user] = self._dear.get(user, 0.0) + taken
            if self._is_too_dear(user):
                self._skipped.add(user)
        if key is None or key.mount_id in self._own:
            return
        if not (self._may_see_all or self._may_look_through(pid)):
            return
        pids = self._found.setdefault(key, [])
        if len(pids) < _KEPT:
            pids.append(pid)

    def _may_look_through(self, pid: int) -> bool:
        """Whether ptrace(2) lets us look through a process without CAP_SYS_PTRACE: it is ours, and
        has no capability that we lack, unless it is in another user namespace, which is ours then.
        Whether it is dumpable is not asked."""
        data = _content(pid, "status")
        uids = set(procfs.status_field(data, b"Uid").split()[:3])
        if uids != {b"%d" % os.geteuid()}:
            return False
        return not _capabilities(data, b"CapPrm") & ~self._capabilities or _content(pid, "uid_map") != self._ids

    def _is_too_dear(self, user: int) -> bool:
        return self._dear.get(user, 0.0) > _MOST_OF_USER or sum(self._dear.values()) > _MOST_OF_USERS

    def _user_elsewhere(self, pid: int) -> Optional[int]:
        """The real user of a process in another user namespace; None if it is in ours: only these
        can be sure that a table of theirs is no container of root's. None, too, if it has ended."""
        user = -1 if _content(pid, "uid_map") == self._ids else _status(pid)[0]
        return None if user < 0 else user

    def _space(self, key: First, pids: Sequence[int]) -> Sequence[Space]:
        known = [(not is_first, pid, uid) for pid in pids for uid, is_first in [_status(pid)] if uid >= 0]
        if not known:  # they have ended
            return ()
        maps = [_content(pid, "uid_map") for _, pid, _ in known]
        ordered = sorted(known)
        pid, uid = ordered[0][1:]
        name = names.name_of(_content(pid, "cgroup", 65536))
        ids = None if self._ids in maps else _parsed(maps[known.index(ordered[0])])
        groups = () if ids is None else _parsed(_content(pid, "gid_map"))
        return (
            Space(key, tuple(each for _, each, _ in ordered), uid, name, ids, groups, _network(pid) == self._network),
        )


def _rank(space: Space) -> tuple[bool, bool, int]:
    return space.is_users, space.uid != 0, space.pids[0]


def _status(pid: int) -> tuple[int, bool]:
    """The real user of a process, -1 if it has ended; whether it is the first one of a PID
    namespace."""
    data = _content(pid, "status")
    uids = procfs.status_field(data, b"Uid").split()
    levels = procfs.status_field(data, b"NSpid").split()
    return (int(uids[0]) if len(uids) == 4 else -1), len(levels) > 1 and levels[-1] == b"1"


def _network(pid: Union[int, str]) -> int:
    """What tells the network namespace of a process: each has a file of its own there. Unlike the
    link ns/net, it takes no lock of the process. 0 if it cannot be read."""
    try:
        return os.stat(f"/proc/{pid}/net/dev").st_ino
    except OSError:
        return 0


def _parsed(data: bytes) -> IdMap:
    lines = (line.split() for line in data.split(b"\n"))
    return tuple((int(inside), int(outside), int(count)) for inside, outside, count in filter(None, lines))


def _own_capabilities() -> int:
    return _capabilities(_content("self", "status"), b"CapEff")


def _capabilities(status: bytes, name: bytes) -> int:
    try:
        return int(procfs.status_field(status, name), 16)
    except ValueError:
        return 0


def _seen_by(pid: int) -> tuple[int, Optional[First]]:
    """A process, and the first mount that it sees. If its first thread has ended, which leaves
    nothing to be seen through it, another one stands for it."""
    key = first(pid)
    if key is not None:
        return pid, key
    tasks = f"/proc/{pid}/task"
    try:
        if os.stat(tasks).st_nlink <= _OF_ONE_THREAD:
            return pid, None
        with os.scandir(tasks) as threads:
            others = [int(thread.name) for thread in itertools.islice(threads, 2)]
    except OSError:
        return pid, None
    return (others[-1], first(others[-1])) if len(others) > 1 else (pid, None)


def _content(pid: Union[int, str], name: str, most: int = 16384) -> bytes:
    """The beginning of a file of a process; empty if it cannot be read."""
    return procfs.content(None, f"/proc/{pid}/{name}", most)
