"""The write probe of one mount makes a file, writes it, reads it back and removes it; its worker
serves no other request after it.

Import budget: that of probe. Write probes are off by default (``--write``), and come only after the
reading steps have been answered.

- The file's name is unpredictable, and it is opened with O_EXCL and O_NOFOLLOW: the owner of the
  directory can neither redirect us nor have another file overwritten. Everything below the mount
  point is done as the owner, so root does nothing in a directory that a user controls.
- fsync(2) sends the data to the disk or server, and the page cache is dropped before we read the
  data back. Without both, the data might come from our own memory and prove nothing.
- The name is remembered before the file is made, so that the next run can remove the file that a
  killed worker has left, and no other file.
- A file that was left is removed first, and its name forgotten, before another name is remembered.
  So a directory whose writes hang has one file left in it and one name remembered, however many
  runs try it. A name is never used again: a user who has seen it could make a file of that name
  before us.

While a file is being made on a server that has just died, the kernel holds the lock of the root
directory, and other processes that look up a new name there wait as well. That is why the reading
steps come first, and why writing is not the default."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import stat
from collections.abc import Callable
from time import monotonic

from check_mounts.outcome import DENIED_ERRORS, NOT_OFFERED, Step
from check_mounts.probing.frames import CACHED, DIFFERS, NOT_OWNER, UNREMEMBERED
from check_mounts.probing.probe import Ended, Probe
from check_mounts.probing.requests import Request
from check_mounts.system import syscalls
from check_mounts.typed import Optional, Protocol, cast

PREFIX = ".check_mounts-"
SIZE = 4096
# Each write probe removes at least _REMOVED files that were left, so that their number falls, and
# more of them for _TIDYING seconds. Each file costs the probe a round trip.
_REMOVED, _TIDYING = 2, 0.05
# How many files that cannot be removed, although their server answers, stay remembered so that a
# later run tries again. If there are as many, we make no more: otherwise a directory that only
# accepts files (append-only directories, drop boxes, archives that keep all) would fill up.
_UNREMOVABLE = 4


class Memory(Protocol):
    """The memory of files that have not been removed yet
    (:class:`check_mounts.probing.promises.Promises`)."""

    def promise(self, token: str, directory: tuple[int, int, int]) -> str:
        """Remember a file with this token, which is about to be made in this directory."""

    def broken_promises(self, directory: tuple[int, int, int]) -> list[tuple[str, str]]:
        """List (path for :meth:`forget`, token) of each file that other workers have left there."""

    def forget(self, path: str) -> None:
        """Forget a file that has been removed."""


class WriteProbe(Probe):
    """One write probe. Its outcome has the steps look-up, statx, and those from CREATE on."""

    def __init__(
        self, request: Request, device: tuple[int, int], memory: Memory, note: Callable[[bytes], None], parent: int
    ) -> None:
        super().__init__(request, note, parent)
        self._device = device
        self._memory = memory
        self._left = False  # whether our file exists

    def _ask(self, fd: int) -> None:
        self._take(Step.STATX, lambda: self._statx(fd))
        if self._seen.denied is None and self._seen.stat is not None and self._is_the_directory():
            # A write beyond the caller's limit of file sizes must give an error, and not kill this
            # process.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            self._write_as_owner(fd, self._seen.stat)
            self._check_stale_handle(fd)

    def _sort_out(self, step: Step, number: int) -> None:
        """Note the error of a step. Any error of writing ends the probe, and the first one is
        reported. Raises Ended."""
        if not step.writes:
            return super()._sort_out(step, number)
        if self._seen.failed is None and self._seen.denied is None:
            if number in DENIED_ERRORS:
                self._seen.denied = (step, number)
            else:
                self._seen.failed = (step, number)
        raise Ended

    def _check_stale_handle(self, fd: int) -> None:
        """After ESTALE, ask whether the root directory still answers. If it does, only the handle
        of our file was stale, because somebody has removed the file on the server."""
        failed, seen, self._seen.stat = self._seen.failed, self._seen.stat, None
        if failed is not None and failed[1] == errno.ESTALE:
            try:
                self._take(Step.STATX, lambda: self._statx(fd))
            except Ended:
                pass
            answered = self._seen.stat is not None and not self._seen.has(CACHED)
            self._seen.failed, self._seen.denied = None if answered else failed, None
            self._seen.errnos[failed[0] - 1] = failed[1]
        self._seen.stat = self._seen.stat or seen

    def _write_as_owner(self, fd: int, seen: syscalls.Statx) -> None:
        """Write as the owner or not at all: root does not write into another user's directory."""
        directory = (*self._device, seen.stx_ino)
        token = os.urandom(16).hex()
        try:
            if self._tidy(fd, self._memory.broken_promises(directory)):
                return
            promise = self._memory.promise(token, directory)
        except OSError as error:
            # The memory has failed, not the mount.
            self._seen.failed = (Step.CREATE, error.errno or errno.EIO)
            self._seen.mark(UNREMEMBERED)
            return
        self._left = False
        try:
            self._acting(lambda: self._write(fd, token), self._refuse)
        except Ended:
            pass
        finally:
            if not self._left:
                self._forget(promise)

    def _tidy(self, fd: int, leftovers: list[tuple[str, str]]) -> bool:
        """Remove files that were left; return whether too many of them cannot be removed, which is
        then the result of the probe."""
        began = monotonic()
        number = self._remove_leftovers(fd, leftovers)
        if number:
            self._seen.times[Step.REMOVE - 1] = monotonic() - began
            self._seen.errnos[Step.REMOVE - 1] = number
            try:
                self._sort_out(Step.REMOVE, number)
            except Ended:
                pass
        return bool(number)

    def _remove_leftovers(self, fd: int, leftovers: list[tuple[str, str]]) -> int:
        """Remove files that killed workers have left, one by one, so that a removed file is
        forgotten even if the next one hangs. If too many cannot be removed, return the errno of
        one, else 0."""
        removed = kept = last = 0
        began = monotonic()
        for path, token in leftovers:
            if removed >= _REMOVED and monotonic() - began >= _TIDYING:
                break
            number = self._remove_one(fd, token)
            if number is None:
                return 0
            if not number or kept >= _UNREMOVABLE:
                self._forget(path)
                removed += 1
            else:
                kept += 1
                last = number
        return last if kept >= _UNREMOVABLE else 0

    def _remove_one(self, fd: int, token: str) -> Optional[int]:
        """Remove a file that was left; return 0 if it is gone, else the errno, or None if this
        process cannot act as the owner."""
        numbers: list[int] = []

        def remove() -> None:
            self._seen.acted = os.geteuid()
            numbers.append(_remove_leftover(fd, token))

        self._announce(Step.REMOVE)
        self._acting(remove, lambda error: None)
        return numbers[0] if numbers else None

    def _forget(self, promise: str) -> None:
        try:
            self._memory.forget(promise)
        except OSError:
            pass  # the name stays remembered for nothing, but the measurement counts

    def _refuse(self, error: OSError) -> None:
        """Note that this process cannot act as the owner (EPERM without CAP_SETUID, EINVAL for an
        id that is not mapped), so that the mount is not blamed."""
        self._seen.errnos[Step.CREATE - 1] = error.errno or errno.EPERM
        self._seen.mark(NOT_OWNER)

    def _write(self, fd: int, token: str) -> None:
        """Make, write, read back and remove the file with this token. Raises Ended."""
        self._seen.acted = os.geteuid()
        try:
            file = cast(int, self._take(Step.CREATE, lambda: _create(fd, token)))
        except Ended:
            if self._seen.denied is not None and self._is_stranger:
                self._seen.denied = None
                self._seen.mark(NOT_OWNER)
            raise
        self._left = True
        try:
            try:
                self._write_into(fd, file)
            finally:
                _close(file)
        finally:
            # Closed before it is removed: NFS only renames an open file (.nfs...).
            self._remove(fd, token)

    def _remove(self, fd: int, token: str) -> None:
        try:
            self._take(Step.REMOVE, lambda: os.unlink(PREFIX + token, dir_fd=fd))
        finally:
            self._left = self._seen.errnos[Step.REMOVE - 1] not in (0, errno.ENOENT, errno.EISDIR)

    def _write_into(self, fd: int, file: int) -> None:
        data = os.urandom(SIZE)
        self._take(Step.WRITE, lambda: self._put(file, data))
        if self._take(Step.VERIFY, lambda: _reads_back(file, data)) is False:
            self._seen.mark(DIFFERS)
            if self._rule_out_others(fd, file):
                self._sort_out(Step.VERIFY, errno.EBADMSG)

    def _put(self, file: int, data: bytes) -> None:
        _put(file, data)
        try:
            syscalls.fsync(file)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            self._seen.errnos[Step.WRITE - 1] = error.errno or errno.EINVAL  # not offered; reading back says more

    def _rule_out_others(self, fd: int, written: int) -> bool:
        """Rule out that somebody else has changed the data that we read back; return whether that
        succeeded.

        The owner could write to our file, but not to a file without a name, so we try that. Where
        the filesystem cannot make one: only root can write to root's file, unless the mode allows
        others (vfat and cifs show each file with the owner and mode of the mount options)."""
        try:
            file = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0, dir_fd=fd)
        except OSError:
            return self._seen.acted == 0 and _is_ours_alone(written)
        try:
            data = os.urandom(SIZE)
            _put(file, data)
            syscalls.fsync(file)
            return not _reads_back(file, data)
        except OSError:
            return False
        finally:
            _close(file)


def _create(fd: int, token: str) -> int:
    return os.open(PREFIX + token, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)


def _is_ours_alone(file: int) -> bool:
    """Whether nobody else can open this file for writing."""
    try:
        return not os.fstat(file).st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    except OSError:
        return False


def _remove_leftover(fd: int, token: str) -> int:
    """Remove a file that was left; return 0 if it is gone, else the errno, and then it stays
    remembered."""
    try:
        os.unlink(PREFIX + token, dir_fd=fd)
    except (FileNotFoundError, IsADirectoryError):  # somebody has put a directory in its place
        pass
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _close(file: int) -> None:
    try:
        os.close(file)
    except OSError:  # fsync has already reported the same error (ENOSPC, EDQUOT: close(2))
        pass


def _put(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(file, view)
        if written == 0:  # a FUSE server may return 0 again and again
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _reads_back(file: int, data: bytes) -> bool:
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass  # a kernel without this call (CONFIG_ADVISE_SYSCALLS), or a filter: the cache may answer
    return os.pread(file, SIZE, 0) == data


def answer(
    request: Request, device: tuple[int, int], memory: Memory, note: Callable[[bytes], None], parent: int
) -> tuple[bytes, bool]:
    """Write to a mount; return the frame of the answer, and True: this process can serve no other
    request after it."""
    return WriteProbe(request, device, memory, note, parent).run(), True
