"""The probe of a healthy mount as one straight line: the calls of :mod:`probe`, in the same order
and with the same meaning, for a worker that probes thousands of mounts.

Import budget: ``os``, ``struct``, ``time``; what probe needs.

Whatever is unusual (an error, another mount, a file) continues in
:class:`~check_mounts.probing.probe.Probe`, which gets the results of the calls that were made: no
call that may hang is made twice."""

from __future__ import annotations

import operator
import os
import struct
from collections.abc import Callable, Sequence
from os import close, fstatvfs, pread
from time import monotonic

from check_mounts.outcome import Step
from check_mounts.probing import probe
from check_mounts.probing.frames import AT_READ, AT_STATFS, AT_STATX, HEALTHY, LOOKING_UP, SHORT
from check_mounts.probing.requests import Call, Made
from check_mounts.system import privilege, syscalls
from check_mounts.system.syscalls import STATX_MNT_ID
from check_mounts.typed import Optional, Union

# stx_mask, stx_nlink, stx_uid, stx_gid, stx_mode and stx_mnt_id of struct statx.
_ATTRIBUTES = struct.Struct("=I12xIIIH114xQ")
_STATFS, _STATX, _READ = map(int, (Step.STATFS, Step.STATX, Step.READ))
_TYPE, _DIRECTORY = 0o170000, 0o040000
_TO_READ = probe.DIRECTORY_FLAGS | os.O_NOATIME
# The mount ID stands in these first bytes of a file in fdinfo.
_ENOUGH = 128


class Straight:
    """The probes of one worker. ``calls`` come from :func:`calls`; ``progress`` is the memory for
    its progress; ``arrive`` is called whenever a mount is reached; ``parent`` is the pid of its
    parent."""

    def __init__(self, calls: syscalls.Swift, progress: memoryview, arrive: Callable[[], None], parent: int) -> None:
        self._calls, self._progress, self._arrive, self._parent = calls, progress, arrive, parent
        self._euid = os.geteuid()
        self._acts = self._euid == 0 or privilege.can_act_as_others()
        self._fdinfo: dict[int, int] = {}

    def probe(self, mount_id: int, path: bytes, as_owner: bool, keeps_listings: bool = False) -> Union[bytes, Made]:
        """Probe a mount; return the frame of its answer or, before anything unusual, the calls that
        were made. ``as_owner``: act as the owner of the root directory. ``keeps_listings`` is only
        for a process that acts as itself."""
        calls, progress = self._calls, self._progress
        progress[: len(LOOKING_UP)] = LOOKING_UP
        made: list[object] = []
        times = [began := monotonic()]
        try:
            made.append(fd := calls.openat2(path))
            if not self._is_on(fd, mount_id):
                return _so_far(made, times)
            self._arrive()
            times.append(reached := monotonic())
            AT_STATFS.pack_into(progress, 0, _STATFS, reached - began)
            made.append(usage := fstatvfs(fd))
            times.append(counted := monotonic())
            AT_STATX.pack_into(progress, 0, _STATX, reached - began, counted - reached)
            calls.statx(fd)
            made.append(calls.attributes)
            mask, links, uid, gid, mode, actual = _ATTRIBUTES.unpack_from(calls.attributes)
            elsewhere = mask & STATX_MNT_ID and actual != mount_id
            if elsewhere or mode & _TYPE != _DIRECTORY:
                return _so_far(made, times)
            times.append(known := monotonic())
            AT_READ.pack_into(progress, 0, _READ, reached - began, counted - reached, known - counted)
            acted = uid if as_owner else self._euid
            if acted == self._euid:
                self._read(fd, made, keeps_listings)
            elif not self._read_as(uid, gid, fd, made):
                return _so_far(made, times)
        except OSError as error:
            made.append(error)
            return _so_far(made, times)
        times.append(monotonic())
        close(fd)
        return _frame(times, links, uid, gid, mode, acted, mount_id, usage)

    def _read(self, fd: int, made: list[object], keeps_listings: bool = False) -> None:
        """Read a batch of entries. Raises OSError."""
        made.append(directory := os.open(".", _TO_READ, dir_fd=fd))
        if keeps_listings:
            probe.forget_listing(directory)
        self._calls.read_entries(directory)
        close(directory)

    def _read_as(self, uid: int, gid: int, fd: int, made: list[object]) -> bool:
        """Read a batch of entries as this user; return False if this process cannot act as that
        user. Raises OSError."""
        if not self._acts:
            return False
        acting = privilege.Acting(uid, gid, self._parent)
        try:
            acting.__enter__()
        except OSError:
            return False
        try:
            self._read(fd, made)
        finally:
            acting.__exit__()
        return True

    def _is_on(self, fd: int, mount_id: int) -> bool:
        """Whether a descriptor is on this mount. procfs knows that without asking the filesystem,
        and makes the text anew for each pread(2), about the file that has the number by then
        (seq_show in fs/proc/fd.c): so the file of each number is opened once."""
        try:
            text = pread(self._fdinfo[fd], _ENOUGH, 0)
        except (KeyError, OSError):
            text = self._opened_fdinfo(fd)
        return b"\nmnt_id:\t%d\n" % mount_id in text

    def _opened_fdinfo(self, fd: int) -> bytes:
        try:
            self._fdinfo[fd] = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            return pread(self._fdinfo[fd], _ENOUGH, 0)
        except OSError:
            return b""


def calls() -> Optional[syscalls.Swift]:
    """The system calls of all workers, to be made ready before they are forked; None where a call
    is not known on this machine."""
    try:
        return syscalls.Swift(probe.LOOK_UP_FLAGS, syscalls.RESOLVE_NO_SYMLINKS)
    except syscalls.NoSuchCall:
        return None


_counts = operator.attrgetter("f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")


def _frame(
    times: Sequence[float], links: int, uid: int, gid: int, mode: int, acted: int, mount_id: int, usage: object
) -> bytes:
    began, reached, counted, known, ended = times
    seconds = reached - began, counted - reached, known - counted, ended - known
    microseconds = [int(each * 1e6) for each in seconds]
    return SHORT.pack(HEALTHY, *microseconds, mode, uid, gid, links, acted, mount_id, *_counts(usage))


def _so_far(made: list[object], times: Sequence[float]) -> Made:
    """The calls in the order of their names, and the seconds of the steps that began at these
    times; the last one goes on."""
    if isinstance(made[0], syscalls.NoSuchCall):  # probe has its own way to look up a path without openat2
        del made[0]
    ends = (*times[1:], monotonic())
    return Made(dict(zip(Call, made)), {step: end - began for step, began, end in zip(Step, times, ends)})
