"""The canary of one mount: a file that must be there and readable, what it must hold, and whether
the root directory must hold anything. Its worker serves no other request after it.

Import budget: that of probe. Off by default (``--canary``), and only after the reading steps have
been answered: this looks up a fixed name, and while such a look-up hangs on NFS, all later ones of
that name, and of others in its directory, ignore SIGKILL (d_alloc_parallel in fs/dcache.c). So
there is one at a time for each filesystem. Reading may wait for it, too (fuse_lock_inode in
fs/fuse/inode.c), so in the registry it is a probe like any other: as long as it hangs, nobody asks
the filesystem anything.

Everything below the mount point is done as the owner. No link is followed, no other mount is
entered, and nothing but a regular file is opened: opening a device runs its driver. At most
MOST_READ bytes are read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from check_mounts.outcome import Step
from check_mounts.probing.frames import NOT_OWNER
from check_mounts.probing.probe import Ended, Probe
from check_mounts.probing.requests import EMPTY, NO_FILE, OTHER_CONTENT, Canary, Request
from check_mounts.system import syscalls, walk

MOST_READ = 4096
# A directory with nothing but these is empty: mkfs makes the first, quotas the others, and servers
# show their snapshots.
_NOTHING = frozenset(
    (b".", b"..", b"lost+found", b".snapshot", b".snapshots", b".zfs", b"aquota.user", b"aquota.group")
)
_RESOLVE = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_XDEV | syscalls.RESOLVE_BENEATH


class CanaryProbe(Probe):
    """One look at a canary. Its outcome has the steps look-up, statx and read; the errno of the
    last one may be a flaw (see requests)."""

    def __init__(self, request: Request, canary: Canary, note: Callable[[bytes], None], parent: int) -> None:
        super().__init__(request, note, parent)
        self._canary = canary

    def _ask(self, fd: int) -> None:
        self._become_user(fd)
        self._take(Step.STATX, lambda: self._statx(fd))
        if self._seen.denied is None and self._is_the_directory():
            self._take(Step.READ, lambda: self._acting(lambda: self._look(fd), self._refuse))
            if self._seen.denied is not None and self._is_stranger:
                self._seen.denied = None
                self._seen.mark(NOT_OWNER)

    def _refuse(self, error: OSError) -> None:
        """Note that this process cannot act as the owner, so that the mount is not blamed."""
        self._seen.mark(NOT_OWNER)

    def _sort_out(self, step: Step, number: int) -> None:
        """Any error of the look ends the probe, but a refusal, which may be about another user."""
        if step is Step.READ and number not in (errno.EACCES, errno.EPERM):
            self._seen.failed = (step, number)
            raise Ended
        super()._sort_out(step, number)

    def _look(self, fd: int) -> None:
        """Raises OSError, whose errno may be a flaw."""
        self._seen.acted = os.geteuid()
        if self._canary.file:
            self._look_at_file(fd)
        if self._canary.not_empty and not _holds_any(fd):
            raise OSError(EMPTY, "")

    def _look_at_file(self, fd: int) -> None:
        place = _open_beneath(fd, self._canary.file)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise OSError(NO_FILE, "")
        finally:
            os.close(place)
        # It may be another file by now: O_NONBLOCK and O_NOCTTY make that harmless.
        file = _open_for_reading(fd, self._canary.file)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(NO_FILE, "")
            _forget_pages(file)
            data = _read(file)
        finally:
            os.close(file)
        if self._canary.contains not in data:
            raise OSError(OTHER_CONTENT, "")


def _open_beneath(fd: int, file: bytes, flags: int = os.O_PATH | os.O_NOFOLLOW) -> int:
    """Open a file below a directory; no link and no other mount on the way. Raises OSError: ELOOP,
    EXDEV."""
    flags |= os.O_CLOEXEC
    try:
        return syscalls.openat2(fd, file, flags & ~os.O_NOFOLLOW, _RESOLVE)
    except syscalls.NoSuchCall:
        pass
    *above, last = file.split(b"/")
    directory = os.dup(fd)
    try:
        for part in above:
            below = walk.open_in_mount(directory, part, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.close(directory)
            directory = below
        return walk.open_in_mount(directory, last, flags)
    finally:
        os.close(directory)


def _open_for_reading(fd: int, file: bytes) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return _open_beneath(fd, file, flags | os.O_NOATIME)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    return _open_beneath(fd, file, flags)  # the file is another user's (open(2)), or a server does not know O_NOATIME


def _forget_pages(file: int) -> None:
    """Have the server asked, not the page cache."""
    try:
        os.posix_fadvise(file, 0, MOST_READ, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass


def _read(file: int) -> bytes:
    data = b""
    while len(data) < MOST_READ and (piece := os.read(file, MOST_READ - len(data))):
        data += piece
    return data


def _holds_any(fd: int) -> bool:
    """Whether a directory has an entry that says that it is in use."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        with os.scandir(directory) as entries:
            return any(os.fsencode(entry.name) not in _NOTHING for entry in entries)
    finally:
        os.close(directory)


def answer(request: Request, note: Callable[[bytes], None], parent: int) -> tuple[bytes, bool]:
    """Look at the canary of a mount; return the frame of the answer, and True: this process can
    serve no other request after it."""
    assert request.canary is not None
    return CanaryProbe(request, request.canary, note, parent).run(), True
