"""How a worker acts as a mount's owner, and becomes root again.

Import budget: ``ctypes`` through syscalls, ``os``; ``pwd`` only where a name must be resolved.
Workers use the numbers alone: a look-up in NSS may ask a directory service, which may be down.

Every switch is verified. A changed effective uid also changes the filesystem uid and removes the
effective capabilities (capabilities(7)), so the worker is refused whatever the owner is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from check_mounts.system import processes, reading, syscalls
from check_mounts.typed import NamedTuple, Optional

# (uid_t) -1: system calls take it for "leave the id as it is", so we would stay root.
NO_ID = 0xFFFFFFFF
# The kernel shows this in place of an id that a user namespace, or an idmapped mount, does not map
# (/proc/sys/kernel/overflowuid).
UNMAPPED = 65534
_NEEDED = syscalls.CAP_SETUID | syscalls.CAP_SETGID


class UnknownUser(ValueError):
    """A user that does not exist."""


class Identity(NamedTuple):
    """The numeric ids to act with; ``groups`` are the supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def resolve(user: str) -> Identity:
    """Look up a user by name or number; return the ids, with the groups in the system's database.

    A number needs no entry in the database; its group is then the same number. Call this before any
    fork. Raises UnknownUser."""
    ids = reading.ask("looking up the user", user, _look_up)
    if ids is None:
        raise UnknownUser(user)
    return Identity(*ids)


def _look_up(user: str) -> Optional[tuple[int, int, tuple[int, ...]]]:
    import pwd

    number = int(user) if user.isascii() and user.isdigit() and len(user) <= 10 else None
    try:
        entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except (KeyError, OverflowError, ValueError):
        return (number, number, ()) if number is not None and number < NO_ID else None
    return entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))


def can_act_as_others() -> bool:
    """Whether this process may become another user. That depends on capabilities: uid 0 may lack
    them, and other users may have them."""
    try:
        return syscalls.capabilities()[0] & _NEEDED == _NEEDED
    except OSError:
        return os.geteuid() == 0


def drop_groups(groups: tuple[int, ...] = ()) -> None:
    """Replace the supplementary groups, which could give access that the owner does not have.
    Raises OSError."""
    os.setgroups(groups)
    if sorted(os.getgroups()) != sorted(set(groups)):
        raise PermissionError("the supplementary groups were not replaced")


class Acting:
    """``with Acting(uid, gid, parent):`` makes the process act as that user inside the block, and
    as root again after it.

    Only the effective ids change. The real and the saved ids stay root's, so the owner can neither
    signal nor trace the worker (kill(2), ptrace(2)). Raises OSError where the switch is not
    possible: EPERM without CAP_SETUID, EINVAL for an id that a user namespace does not map. A
    process that cannot become root again ends at once: it would do everything else as that user."""

    def __init__(self, uid: int, gid: int, parent: int) -> None:
        self._ids = (uid, gid)
        self._back = (os.geteuid(), os.getegid())
        self._parent = parent
        self._capabilities: Optional[tuple[int, int]] = None

    def __enter__(self) -> None:
        uid, gid = _real_ids(*self._ids)
        if self._back[0] != 0:
            # A process of another user that has acted as root would lose even its permitted
            # capabilities when it switches back (capabilities(7)).
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setresgid(-1, gid, -1)
        try:
            os.setresuid(-1, uid, -1)
        except OSError:
            self._come_back(lambda: os.setresgid(-1, self._back[1], -1))
            raise
        self._verify(uid, gid)
        self._lay_down_capabilities()

    def __exit__(self, *_: object) -> None:
        self._come_back(lambda: os.setresuid(-1, self._back[0], -1), lambda: os.setresgid(-1, self._back[1], -1))

    def _lay_down_capabilities(self) -> None:
        """Give up the effective capabilities. Root loses them with its effective uid, unless its
        securebits keep them; other users do not (capabilities(7))."""
        try:
            effective, permitted = syscalls.capabilities()
            if effective:
                syscalls.set_capabilities(0, permitted)
                self._capabilities = effective, permitted
        except OSError:
            if self._back[0] != 0:
                os._exit(1)  # we would have access that the owner does not have

    def _come_back(self, *steps: Callable[[], None]) -> None:
        try:
            for step in steps:
                step()
            if self._capabilities is not None:
                syscalls.set_capabilities(*self._capabilities)
        except OSError:
            os._exit(1)
        self._verify(*self._back)

    def _verify(self, uid: int, gid: int) -> None:
        if os.geteuid() != uid or os.getegid() != gid:
            os._exit(1)  # not the ids that we set: nothing that this process does now can be trusted
        processes.die_with_parent(self._parent)


def _real_ids(uid: int, gid: int) -> tuple[int, int]:
    """The same ids. Raises OSError (EINVAL) where one of them is NO_ID."""
    if NO_ID in (uid, gid):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return uid, gid


def become(uid: int, gid: int, parent: int) -> None:
    """Become that user for good, with all ids. The process must not serve another mount afterwards.

    Without ``allow_other``, FUSE admits only the user of the mount, and compares the real, the
    effective and the saved ids (fuse_allow_current_process in fs/fuse/dir.c), so effective ids are
    not enough. The user may now signal this process, but cannot trace it, because it is not
    dumpable. So the user can spoil only the answer about their own mount. Raises OSError."""
    uid, gid = _real_ids(uid, gid)
    before = os.getresgid()
    os.setresgid(gid, gid, gid)
    try:
        os.setresuid(uid, uid, uid)
    except OSError:
        try:
            os.setresgid(*before)
        finally:
            if os.getresgid() != before:
                os._exit(1)
        processes.die_with_parent(parent)
        raise
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        os._exit(1)
    try:
        syscalls.set_capabilities(0, 0)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    except OSError:  # a filter of system calls; root's capabilities are gone anyway
        pass
    processes.die_with_parent(parent)
