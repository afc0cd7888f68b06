"""The probe of one mount; no other module touches a mount's path, and this one does so only in
workers.

Import budget: ``os``, ``stat``, ``time``; what frames needs.

The calls and their order were measured against hung, stale, dead and denied mounts of many kinds:

1. one look-up with O_PATH, which does not wait for a dead server. All later steps use only that
   descriptor: no race with a rename or a symlink, and the owner needs no access to the directories
   above;
2. fstatfs: the only call that noticed a dead server at once on every network and FUSE filesystem
   that we tried; stat(2) is answered from the attribute cache for up to a minute;
3. statx with FORCE_SYNC: finds faults that fstatfs does not find, such as a stale root directory
   and an xfs that was shut down;
4. one batch of directory entries, read as the owner: finds permissions that keep the owner out.

The first error that means that the filesystem is gone ends the probe: on NFS later calls hang, or
turn a timeout into ESTALE. No name below the root directory is ever looked up: on NFS, a process in
a second look-up of a name that already hangs cannot even be killed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from time import monotonic, sleep

from check_mounts.outcome import DENIED_ERRORS, NOT_OFFERED, PATH_GONE, Step
from check_mounts.probing.frames import ALONE, CACHED, GONE, LOST, MOVED, NOT_OWNER, Record
from check_mounts.probing.requests import Call, Made, Request
from check_mounts.system import privilege, syscalls, walk
from check_mounts.typed import Optional, TypeVar, cast

_MASK = 2**64 - 1
LOOK_UP_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIGGER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_Result = TypeVar("_Result")
# How often we look for a mount whose path leads elsewhere, and the pause between two looks, in
# seconds. The owner of a directory above the mount may rename that directory back and forth all the
# time, but cannot hide the mount from all of these looks.
_LOOKS, _BETWEEN_LOOKS = 20, 0.001


class Ended(Exception):
    """Raised by the step that ends the probe."""


class Probe:
    """One probe. :meth:`run` returns the frame of its answer.

    ``note`` gets the progress before each step, so that the parent knows at which step a worker
    hangs. ``made``: calls that are not made again."""

    def __init__(
        self, request: Request, note: Callable[[bytes], None], parent: int, made: Optional[Made] = None
    ) -> None:
        self._request = request
        self._made = made or Made({}, {})
        self._note = note
        self._parent = parent
        self._acts = os.geteuid() == 0 or privilege.can_act_as_others()
        self._private = False  # this process has become another user for good
        self._seen = Record()
        self._read_worked = False
        self._root: Optional[int] = None  # the root directory that the path begins at, if it is not our own

    @property
    def used_up(self) -> bool:
        """Whether this process can serve no other probe after this one."""
        return self._private

    def run(self) -> bytes:
        """Take all steps; return the frame of the answer. Nothing that a filesystem does raises an
        exception."""
        fd = -1
        try:
            fd = cast(int, self._take(Step.LOOK_UP, self._look_up))
            self._ask(fd)
        except Ended:
            pass
        for each in (fd, self._root):
            if each is not None and each >= 0:
                os.close(each)
        return self._seen.answer()

    def _ask(self, fd: int) -> None:
        """Take the steps after the look-up. Raises Ended."""
        self._become_user(fd)
        self._take(Step.STATFS, lambda: self._statfs(fd))
        self._take(Step.STATX, lambda: self._statx(fd))
        self._read_as_owner(fd)

    def _take(self, step: Step, action: Callable[[], object]) -> object:
        """Take one step; note its latency and its error. Raises Ended."""
        self._announce(step)
        began = monotonic() - self._made.seconds.pop(step, 0.0)
        try:
            return action()
        except OSError as error:
            self._seen.errnos[step - 1] = error.errno or errno.EIO
            self._sort_out(step, self._seen.errnos[step - 1])
            return None
        finally:
            self._seen.times[step - 1] = monotonic() - began

    def _once(self, call: Call, action: Callable[[], _Result]) -> _Result:
        """The result of a call: that of the one that was made already, or of ``action``. Raises
        OSError."""
        if call not in self._made.results:
            return action()
        result = self._made.results.pop(call)
        if isinstance(result, OSError):
            raise result
        return cast(_Result, result)

    def _announce(self, step: Step) -> None:
        """Note the step that begins now, and may hang."""
        self._note(self._seen.progress(step))

    def _sort_out(self, step: Step, number: int) -> None:
        """Note the error of a step. After a refusal, or a call that is not offered, the probe
        continues; any other error ends it. Raises Ended."""
        if number in DENIED_ERRORS and step != Step.LOOK_UP:
            self._seen.denied = self._seen.denied or (step, number)
        elif step == Step.READ and number == errno.ENOTDIR and self._seen.stat is None:
            pass  # a bind-mounted file, whose type was not known
        elif number not in NOT_OFFERED or step == Step.LOOK_UP:
            self._seen.failed = (step, number)
            raise Ended

    def _look_up(self) -> int:
        """Open the mount's root directory. If its path leads elsewhere, the mount may have been
        moved meanwhile: then open it at its new path. Raises OSError; Ended if the path leads to
        another mount. That mount may belong to any user, so it is not asked anything."""
        path, self._root = self._request.path, self._open_root()
        if self._request.trigger and self._root is None:
            # With O_PATH, a look-up does not trigger an automount (open(2)). Without it, the
            # look-up mounts the filesystem and waits for that.
            return os.open(path, _TRIGGER_FLAGS)
        if self._request.trigger:
            return walk.open_without_symlinks(path, _TRIGGER_FLAGS, self._root)
        for left in reversed(range(_LOOKS if self._request.place_now else 1)):
            fd = self._open_mount(path, last=not left)
            if fd is not None:
                self._seen.mark(GONE, False)
                self._seen.mark(MOVED, path != self._request.path)
                return fd
            if left:
                sleep(_BETWEEN_LOOKS)
                path = self._place_now() or path
        raise Ended

    def _open_root(self) -> Optional[int]:
        """Open the root directory of the request, which is a link of procfs that only this open
        follows. Its process may be another one by now: the mount's ID tells. Raises OSError."""
        if not self._request.base:
            return None
        try:
            return os.open(self._request.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._seen.mark(LOST)
            raise

    def _open_mount(self, path: bytes, last: bool) -> Optional[int]:
        """Open the mount; return None if the path leads elsewhere. Raises OSError; but if the path
        does not exist, only at the ``last`` attempt."""
        self._seen.mount_id = None
        try:
            # The kernel prints mount points without symlinks. If the path has one now, somebody has
            # put it there, and root must not follow it.
            fd = self._once(Call.OPEN, lambda: walk.open_without_symlinks(path, LOOK_UP_FLAGS, self._root))
        except OSError as error:
            if error.errno in PATH_GONE and not last:
                return None
            raise
        self._seen.mount_id = walk.mount_id(fd)
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
        # The process that the mount is seen through may be another one by now, with another table.
        self._seen.mark(GONE, self._seen.has(GONE) or (place is None and self._root is None))
        return place

    def _become_user(self, fd: int) -> None:
        """Become, for good, the user that a FUSE filesystem was mounted for, if it admits nobody
        else: it would refuse all calls of root."""
        request = self._request
        ids = request.fixed or (request.owner if request.as_owner else None)
        if request.fuse_private and ids is not None and self._acts and ids[0] != os.geteuid():
            if self._is_foreign and syscalls.is_let_in(fd):
                return
            try:
                privilege.become(*ids, self._parent)
            except OSError:
                return  # no CAP_SETUID, or an id that is not mapped: go on as the caller
            self._private = True

    def _statfs(self, fd: int) -> None:
        status = self._once(Call.STATFS, lambda: os.fstatvfs(fd))
        # Python returns them as signed numbers of the machine's size, although they are unsigned in
        # the C library (Modules/posixmodule.c).
        counts = (status.f_frsize, status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree)
        self._seen.usage = tuple([count & _MASK for count in counts])

    def _statx(self, fd: int) -> None:
        try:
            buffer = self._once(Call.STATX, lambda: _attributes(fd))
        except syscalls.NoSuchCall:
            buffer, result = syscalls.Statx(), os.fstat(fd)
            self._seen.mark(CACHED)
            buffer.stx_mode, buffer.stx_nlink = result.st_mode, result.st_nlink
            buffer.stx_uid, buffer.stx_gid = result.st_uid, result.st_gid
        self._seen.stat = buffer
        if buffer.stx_mask & syscalls.STATX_MNT_ID:
            self._seen.mount_id = buffer.stx_mnt_id

    def _read_as_owner(self, fd: int) -> None:
        """Read a batch of entries as the user that should have access. A bind-mounted file has no
        entries, so this is for directories only."""
        if not self._is_the_directory():
            return
        earlier = self._seen.denied

        def read() -> None:
            self._read(fd)

        # If this process cannot act as that user (user namespace, no CAP_SETUID), it acts as the
        # caller.
        self._take(Step.READ, lambda: self._acting(read, lambda error: read()))
        if self._refused_read and self._decides_alone:
            self._seen.denied = None
            self._take(Step.READ, read)
            self._seen.mark(ALONE, self._read_worked)
        if self._refused_read and self._is_stranger:
            self._seen.denied = None  # the filesystem did answer
            self._seen.mark(NOT_OWNER)
        elif earlier and self._read_worked:
            self._seen.denied = None  # root was refused, the owner was not (root_squash): the owner decides

    def _is_the_directory(self) -> bool:
        """Whether we have reached the mount and its root is a directory, not a bind-mounted file.
        If its type is not known, it counts as a directory."""
        return not self._wrong_mount() and (self._seen.stat is None or stat.S_ISDIR(self._seen.stat.stx_mode))

    @property
    def _owner(self) -> Optional[tuple[int, int]]:
        """The owner of the mount, if the probe should act as the owner; None if not, or if the
        owner is not known."""
        request, seen = self._request, self._seen.stat
        if request.fixed or not request.as_owner:
            return None
        return request.owner or (None if seen is None else (seen.stx_uid, seen.stx_gid))

    @property
    def _is_stranger(self) -> bool:
        """Whether a refusal says nothing: the owner should have access, but this process could not
        act as the owner, so it may have been another user that was refused. If root's access is
        enough, a refusal to root counts."""
        if self._request.root_decides and self._acts:
            return False
        return self._owner is not None and (self._seen.acted != self._owner[0] or self._is_unmapped)

    @property
    def _is_unmapped(self) -> bool:
        """Whether the owner's id may be unmapped here, or may be the id of another user here (user
        namespaces, idmapped mounts)."""
        return self._owner is not None and (self._owner[0] == privilege.UNMAPPED or self._is_foreign)

    @property
    def _is_foreign(self) -> bool:
        """Whether the user ID in the mount table may mean another user to this process. It is the
        ID in the user namespace where FUSE was mounted (fuse_show_options), and a container may
        have another namespace."""
        request = self._request
        named = request.as_owner and not request.fixed and request.owner is not None
        return named and (request.foreign or not syscalls.has_all_ids())

    @property
    def _decides_alone(self) -> bool:
        """Whether it is enough if this process itself has access, after the owner was refused: we
        cannot use the owner's ticket, or do not know the owner's id here."""
        return (
            (self._request.root_decides or self._is_unmapped) and not self._private and self._seen.acted != os.geteuid()
        )

    @property
    def _ids(self) -> Optional[tuple[int, int]]:
        """The user to act as from now on; None if this process should not change its ids."""
        ids = self._request.fixed or self._owner
        return None if ids is None or ids[0] == os.geteuid() or not self._acts or self._private else ids

    @property
    def _refused_read(self) -> bool:
        return self._seen.denied is not None and self._seen.denied[0] == Step.READ

    def _read(self, fd: int) -> None:
        self._seen.acted = os.geteuid()
        directory = self._open_directory(fd)
        try:
            if self._request.keeps_listings:
                forget_listing(directory)
            self._once(Call.READ_ENTRIES, lambda: syscalls.read_entries(directory))
        finally:
            os.close(directory)
        self._read_worked = True

    def _open_directory(self, fd: int) -> int:
        """Open the directory of a descriptor for reading; the only name looked up is ".". Raises
        OSError.

        O_NOATIME, because reading would change the access time, and so might wake a disk with each
        check. Only the owner and root may use it (EPERM for others, open(2)), and a server may not
        know it; then we open without it."""
        try:
            return self._once(Call.OPEN_DIRECTORY, lambda: os.open(".", DIRECTORY_FLAGS | os.O_NOATIME, dir_fd=fd))
        except OSError as error:
            if error.errno not in NOT_OFFERED | {errno.EPERM}:
                raise
        return os.open(".", DIRECTORY_FLAGS, dir_fd=fd)

    def _acting(self, action: Callable[[], None], impossible: Callable[[OSError], None]) -> None:
        """Do ``action`` as the user that should have access. If this process cannot act as that
        user, do ``impossible`` instead."""
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


def _attributes(fd: int) -> syscalls.Statx:
    buffer = syscalls.Statx()
    syscalls.statx(fd, buffer)
    return buffer


def forget_listing(directory: int) -> None:
    """Make the kernel ask the FUSE daemon again when an open directory is read.

    The daemon may allow the kernel to cache a listing (FOPEN_CACHE_DIR); a daemon that does not
    handle the opening of directories always does. From then on the kernel no longer asks the
    daemon, dead or alive (fuse_readdir_cached in fs/fuse/readdir.c). The kernel asks again if a
    page of its cache is gone."""
    try:
        os.posix_fadvise(directory, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass  # a kernel without this call (CONFIG_ADVISE_SYSCALLS), or a filter: the kernel may answer


def answer(
    request: Request, note: Callable[[bytes], None], parent: int, made: Optional[Made] = None
) -> tuple[bytes, bool]:
    """Probe a mount; return the frame of the answer, and whether this process must end after it."""
    probe = Probe(request, note, parent, made)
    return probe.run(), probe.used_up
