"""The probe of one mount. The only module that touches a mount's path, and it runs in a worker
only.

Import budget: ``os``, ``stat``, ``time``; what frames needs.

The calls and their order were measured against hung, stale, dead and denied mounts of many kinds:

1. one look-up with O_PATH, which does not wait for a dead server, and from then on only that
   descriptor: no race with a rename or a symlink, and the owner needs no access to the directories
   above;
2. fstatfs: of all calls the one that met a dead server at once on every network and FUSE filesystem
   tried, where stat(2) is answered from the attribute cache for up to a minute;
3. statx with FORCE_SYNC: finds what fstatfs misses, a stale root directory and an xfs that was shut
   down;
4. one batch of directory entries, as the owner: finds permissions that do not let him in.

The first error that means that the filesystem is gone ends the probe: on NFS later calls hang, or
turn a timeout into ESTALE. Nothing below the root directory is ever named: on NFS a second look-up
of a name that already hangs cannot even be killed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from time import monotonic, sleep
from typing import NamedTuple, Optional, cast

from check_mounts import privilege, syscalls, walk
from check_mounts.frames import ALONE, CACHED, GONE, MOVED, NOT_OWNER, Record
from check_mounts.outcome import DENIED_ERRORS, NOT_OFFERED, PATH_GONE, Step

_MASK = 2**64 - 1
# How often a mount is looked for whose path does not lead to it, and how long is waited in between,
# in seconds: whoever owns a directory above it may rename that to and fro all the time, but is not
# in time to hide it from all of these.
_LOOKS, _BETWEEN_LOOKS = 20, 0.001


class Request(NamedTuple):
    """What a worker is asked.

    ``owner`` is the owner as the mount table knows it (FUSE), None where only statx can tell.
    ``fixed`` is the identity of ``--as USER``. With neither ``as_owner`` nor ``fixed`` the worker
    acts as the caller. ``fuse_private``: the filesystem lets nobody in but the user it was mounted
    for. ``root_decides``: a refusal to the owner does not count if root gets in (Kerberos: the
    owner's ticket is not ours to use). ``keeps_listings``: the kernel may list the directory
    without asking anybody. ``trigger``: an autofs mount that is to be mounted. ``place_now`` gives
    the path where the mount is by now, None where it is not mounted any more; it raises OSError
    where that cannot be said."""

    mount_id: int
    path: bytes
    as_owner: bool = False
    owner: Optional[tuple[int, int]] = None
    fixed: Optional[tuple[int, int]] = None
    fuse_private: bool = False
    keeps_listings: bool = False
    root_decides: bool = False
    trigger: bool = False
    place_now: Optional[Callable[[], Optional[bytes]]] = None


class Ended(Exception):
    """The probe is over: a step gave its last word."""


class Probe:
    """One probe; ``run`` gives the frame of its answer.

    ``note`` gets the progress before each step, so that the parent knows where a hung worker is.
    """

    def __init__(self, request: Request, note: Callable[[bytes], None], parent: int) -> None:
        self._request = request
        self._note = note
        self._parent = parent
        self._acts = os.geteuid() == 0 or privilege.can_act_as_others()
        self._private = False  # this process has become another user for good
        self._seen = Record()
        self._read_worked = False

    @property
    def used_up(self) -> bool:
        """Whether this process can serve no other probe."""
        return self._private

    def run(self) -> bytes:
        """Take all steps. Raises nothing that a filesystem can cause."""
        fd = -1
        try:
            fd = cast(int, self._take(Step.LOOK_UP, self._look_up))
            self._ask(fd)
        except Ended:
            pass
        if fd >= 0:
            os.close(fd)
        return self._seen.answer()

    def _ask(self, fd: int) -> None:
        """The steps after the look-up. Raises Ended."""
        self._become_user(fd)
        self._take(Step.STATFS, lambda: self._statfs(fd))
        self._take(Step.STATX, lambda: self._statx(fd))
        self._read_as_owner(fd)

    def _take(self, step: Step, action: Callable[[], object]) -> object:
        """Take one step, note its latency, and sort out its error. Raises Ended."""
        self._announce(step)
        began = monotonic()
        try:
            return action()
        except OSError as error:
            self._seen.errnos[step - 1] = error.errno or errno.EIO
            self._sort_out(step, self._seen.errnos[step - 1])
            return None
        finally:
            self._seen.times[step - 1] = monotonic() - began

    def _announce(self, step: Step) -> None:
        """Note what may hang now."""
        self._note(self._seen.progress(step))

    def _sort_out(self, step: Step, number: int) -> None:
        """An error of a step: denied goes on, a call that is not offered goes on, the rest ends the
        probe. Raises Ended."""
        if number in DENIED_ERRORS and step != Step.LOOK_UP:
            self._seen.denied = self._seen.denied or (step, number)
        elif step == Step.READ and number == errno.ENOTDIR and self._seen.stat is None:
            pass  # a bind-mounted file, of which nothing was known
        elif number not in NOT_OFFERED or step == Step.LOOK_UP:
            self._seen.failed = (step, number)
            raise Ended

    def _look_up(self) -> int:
        """The mount's root directory. Where its path leads elsewhere it may have been moved
        meanwhile: then it is at its new place. Raises OSError, and Ended where it is another mount:
        nothing is asked of that, it may be anybody's."""
        path = self._request.path
        if self._request.trigger:
            # O_PATH does not trigger (open(2)); without it the look-up mounts what the trigger
            # stands for, and waits for it.
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        for left in reversed(range(_LOOKS if self._request.place_now else 1)):
            fd = self._reached(path, last=not left)
            if fd is not None:
                self._seen.mark(GONE, False)
                self._seen.mark(MOVED, path != self._request.path)
                return fd
            if left:
                sleep(_BETWEEN_LOOKS)
                path = self._place_now() or path
        raise Ended

    def _reached(self, path: bytes, last: bool) -> Optional[int]:
        """The mount, open; None where the path leads elsewhere. Raises OSError, that it leads
        nowhere only at the ``last`` attempt."""
        self._seen.mount_id = None
        try:
            # The kernel prints mount points without symlinks. Where there is one on the way now,
            # somebody has put it there, and root does not follow it.
            fd = walk.open_without_symlinks(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in PATH_GONE and not last:
                return None
            raise
        self._identify(fd)
        if not self._wrong_mount():
            return fd
        os.close(fd)
        return None

    def _place_now(self) -> Optional[bytes]:
        assert self._request.place_now is not None
        try:
            place = self._request.place_now()
        except OSError:
            return None
        self._seen.mark(GONE, self._seen.has(GONE) or place is None)
        return place

    def _become_user(self, fd: int) -> None:
        """On a FUSE filesystem that lets only its user in, be that user from here on: root's own
        calls would all be refused."""
        request = self._request
        ids = request.fixed or (request.owner if request.as_owner else None)
        if request.fuse_private and ids is not None and self._acts and ids[0] != os.geteuid():
            if self._is_foreign and syscalls.is_let_in(fd):
                return
            try:
                privilege.become(*ids, self._parent)
            except OSError:
                return  # no CAP_SETUID, or an id that is not mapped: as far as the caller may
            self._private = True

    def _statfs(self, fd: int) -> None:
        status = os.fstatvfs(fd)
        # Python gives them as signed numbers of the machine's size, whatever the C library has
        # (Modules/posixmodule.c).
        counts = (status.f_frsize, status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree)
        self._seen.usage = tuple([count & _MASK for count in counts])

    def _statx(self, fd: int) -> None:
        buffer = syscalls.Statx()
        try:
            syscalls.statx(fd, buffer)
        except syscalls.NoSuchCall:
            result = os.fstat(fd)
            self._seen.mark(CACHED)
            buffer.stx_mode, buffer.stx_nlink = result.st_mode, result.st_nlink
            buffer.stx_uid, buffer.stx_gid = result.st_uid, result.st_gid
        self._seen.stat = buffer
        if buffer.stx_mask & syscalls.STATX_MNT_ID:
            self._seen.mount_id = buffer.stx_mnt_id

    def _read_as_owner(self, fd: int) -> None:
        """Read a batch of entries as whoever is to be let in; directories only: a bind-mounted file
        has none."""
        if not self._is_the_directory():
            return
        earlier = self._seen.denied

        def read() -> None:
            self._read(fd)

        # Where it cannot be him (user namespace, no CAP_SETUID), as far as the caller may.
        self._take(Step.READ, lambda: self._acting(read, lambda error: read()))
        if self._refused_read and self._decides_alone:
            self._seen.denied = None
            self._take(Step.READ, read)
            self._seen.mark(ALONE, self._read_worked)
        if self._refused_read and self._is_stranger:
            self._seen.denied = None  # the filesystem did answer
            self._seen.mark(NOT_OWNER)
        elif earlier and self._read_worked:
            self._seen.denied = None  # root was refused a look, the owner was not (root_squash): he decides

    def _is_the_directory(self) -> bool:
        """Whether there is anything to read or write: not in a bind-mounted file, nor in another
        mount. Its type may not be known."""
        return not self._wrong_mount() and (self._seen.stat is None or stat.S_ISDIR(self._seen.stat.stx_mode))

    @property
    def _owner(self) -> Optional[tuple[int, int]]:
        """Whom the mount belongs to, as far as that is known, where it is he who is to be let
        in."""
        request, seen = self._request, self._seen.stat
        if request.fixed or not request.as_owner:
            return None
        return request.owner or (None if seen is None else (seen.stx_uid, seen.stx_gid))

    @property
    def _is_stranger(self) -> bool:
        """It is the owner's door, and maybe it is not he who was refused, because this process
        could not be him: that says nothing. Where it is enough that root gets in, its own refusal
        counts."""
        if self._request.root_decides and self._acts:
            return False
        return self._owner is not None and (self._seen.acted != self._owner[0] or self._is_unmapped)

    @property
    def _is_unmapped(self) -> bool:
        """Whether the owner may be somebody whose id is not mapped here (user namespaces, idmapped
        mounts), or is another one here."""
        return self._owner is not None and (self._owner[0] == privilege.UNMAPPED or self._is_foreign)

    @property
    def _is_foreign(self) -> bool:
        """Whether the user that the mount table names may be another one for this process: it names
        him as he is known in the user namespace where FUSE was mounted (fuse_show_options), which a
        container need not share."""
        request = self._request
        return request.as_owner and not request.fixed and request.owner is not None and not syscalls.has_all_ids()

    @property
    def _decides_alone(self) -> bool:
        """Whether it counts if this process itself gets in: the ticket of the one it acted as is
        not ours to use, or who that is is not known here."""
        return (
            (self._request.root_decides or self._is_unmapped) and not self._private and self._seen.acted != os.geteuid()
        )

    @property
    def _ids(self) -> Optional[tuple[int, int]]:
        """Whom to act as from here on; None: as this process is."""
        ids = self._request.fixed or self._owner
        return None if ids is None or ids[0] == os.geteuid() or not self._acts or self._private else ids

    @property
    def _refused_read(self) -> bool:
        return self._seen.denied is not None and self._seen.denied[0] == Step.READ

    def _read(self, fd: int) -> None:
        self._seen.acted = os.geteuid()
        directory = _open_directory(fd)
        try:
            if self._request.keeps_listings:
                _forget_listing(directory)
            syscalls.read_entries(directory)
        finally:
            os.close(directory)
        self._read_worked = True

    def _acting(self, action: Callable[[], None], impossible: Callable[[OSError], None]) -> None:
        """Do something as whoever is to be asked; ``impossible`` is done instead where this process
        cannot act as him."""
        ids = self._ids
        if ids is None:
            return action()
        acting = privilege.Acting(*ids, self._parent)
        try:
            acting.__enter__()
        except OSError as error:
            return impossible(error)
        try:
            action()
        finally:
            acting.__exit__()

    def _wrong_mount(self) -> bool:
        return (
            not self._request.trigger
            and self._seen.mount_id is not None
            and self._seen.mount_id != self._request.mount_id
        )

    def _identify(self, fd: int) -> None:
        """Which mount is it? Procfs knows it from the descriptor alone, without a question to the
        filesystem."""
        try:
            with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
                self._seen.mount_id = int(file.read().partition(b"mnt_id:")[2].split()[0])
        except (OSError, IndexError, ValueError):
            pass


def _open_directory(fd: int) -> int:
    """Open for reading what a descriptor is of, with no name looked up but ".". Raises OSError.

    Reading would move its access time: a disk would be woken for that each minute. O_NOATIME is for
    the owner and root (EPERM for others, open(2)); a server that is handed it may know nothing of
    it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_NOATIME, dir_fd=fd)
    except OSError as error:
        if error.errno not in NOT_OFFERED | {errno.EPERM}:
            raise
    return os.open(".", flags, dir_fd=fd)


def _forget_listing(directory: int) -> None:
    """Have the next look at an open directory of a FUSE filesystem asked of its daemon.

    It may let the kernel keep what it has listed (FOPEN_CACHE_DIR), and it does so where it needs
    no opening of directories: from then on nobody asks it any more (fuse_readdir_cached in
    fs/fuse/readdir.c), alive or not. It starts anew where a page is gone."""
    try:
        os.posix_fadvise(directory, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass  # a kernel without it (CONFIG_ADVISE_SYSCALLS), or a filter: then the kernel may answer


def answer(request: Request, note: Callable[[bytes], None], parent: int) -> tuple[bytes, bool]:
    """Probe a mount: the frame of the answer, and whether this process is used up by it."""
    probe = Probe(request, note, parent)
    return probe.run(), probe.used_up
