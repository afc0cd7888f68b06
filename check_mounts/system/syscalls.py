"""System calls that Python does not wrap, each under its own name; their errno becomes an OSError
here and nowhere else.

Import budget: ``ctypes``, ``fcntl``, ``os``, ``termios``. Every function is a thin wrapper: no
policy, no path of its own."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable

from check_mounts.typed import Any, Optional

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_NO_AUTOMOUNT = 0x800
AT_STATX_FORCE_SYNC = 0x2000
AT_STATX_DONT_SYNC = 0x4000
# The kernel may answer an empty mask from its cache even with FORCE_SYNC (statx(2)), so we always
# ask for real fields.
STATX_BASIC_STATS = 0x7FF
STATX_MNT_ID = 0x1000
_STATX_FLAGS, _STATX_MASK = AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
# openat2(2) has this number on all architectures but alpha, which has an offset: new system calls
# have had unified numbers since before openat2.
_NR_OPENAT2 = 437

CAP_DAC_OVERRIDE = 1 << 1
CAP_DAC_READ_SEARCH = 1 << 2
CAP_SETGID = 1 << 6
CAP_SETUID = 1 << 7
CAP_SYS_PTRACE = 1 << 19
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class NoSuchCall(OSError):
    """The kernel, the C library or a filter of system calls does not know the call. So the error
    says nothing about the file."""


class Statx(ctypes.Structure):
    """``struct statx`` (statx(2)): the fields that we use, padded to its 256 bytes."""

    _fields_ = [
        ("stx_mask", ctypes.c_uint32),
        ("stx_blksize", ctypes.c_uint32),
        ("stx_attributes", ctypes.c_uint64),
        ("stx_nlink", ctypes.c_uint32),
        ("stx_uid", ctypes.c_uint32),
        ("stx_gid", ctypes.c_uint32),
        ("stx_mode", ctypes.c_uint16),
        ("_spare0", ctypes.c_uint16),
        ("stx_ino", ctypes.c_uint64),
        ("_until_mnt_id", ctypes.c_uint8 * (0x90 - 0x28)),
        ("stx_mnt_id", ctypes.c_uint64),
        ("_rest", ctypes.c_uint8 * (0x100 - 0x98)),
    ]


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _function(name: str, *argument_types: Any) -> Optional[Any]:
    function = getattr(_libc, name, None)
    if function is not None:
        function.argtypes = argument_types
    return function


_prctl = _function("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_prctl_text = ctypes.CDLL(None, use_errno=True).prctl  # a handle of its own, so that its argument types are its own
_prctl_text.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_statx = _function("statx", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Statx))
# We call statx by its number where we know that: after ENOSYS, even from a FUSE server, glibc tries
# fstatat, which has no FORCE_SYNC, and returns EINVAL.
_NR_STATX = {"x86_64": 332, "aarch64": 291, "riscv64": 291, "loongarch64": 291, "ppc64le": 383, "s390x": 379}.get(
    os.uname().machine
)
_syscall_statx = ctypes.CDLL(None, use_errno=True).syscall  # a handle of its own, as above
_syscall_statx.argtypes = (
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.POINTER(Statx),
)
_close_range = _function("close_range", ctypes.c_uint, ctypes.c_uint, ctypes.c_int)
_getdents64 = _function("getdents64", ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_setns = _function("setns", ctypes.c_int, ctypes.c_int)
_capget = _function("capget", ctypes.POINTER(_CapabilityHeader), ctypes.POINTER(_CapabilityData))
_capset = _function("capset", ctypes.POINTER(_CapabilityHeader), ctypes.POINTER(_CapabilityData))
_syscall = _function("syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def last_error() -> OSError:
    """The error of the last call that failed."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _checked(result: int) -> int:
    if result == -1:
        raise last_error()
    return result


def prctl(option: int, value: int) -> None:
    """prctl(2) with one number. Raises OSError."""
    assert _prctl is not None
    _checked(_prctl(option, value, 0, 0, 0))


def set_name(name: bytes) -> None:
    """Set the name of this process in ps(1) (PR_SET_NAME, at most 15 bytes). An error is ignored:
    only a filter of system calls refuses this call, and the name matters little."""
    _prctl_text(PR_SET_NAME, name, 0, 0, 0)


# The errors of a call that is not available: ENOSYS from the kernel, EPERM from the filters of old
# container runtimes (libseccomp before 2.4), EACCES from other filters, EINVAL from glibc's statx
# (see there).
_NOT_THERE = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL})
_there: dict[str, bool] = {}


def _is_there(name: str, works: Callable[[], object]) -> bool:
    """Whether a call is available. Each process finds that out once: ``works`` makes the call in a
    way that must succeed and that reaches no filesystem."""
    if name not in _there:
        try:
            works()
            _there[name] = True
        except OSError as error:
            if error.errno not in _NOT_THERE:
                return True
            _there[name] = False
    return _there[name]


def _no_such_call() -> NoSuchCall:
    return NoSuchCall(errno.ENOSYS, os.strerror(errno.ENOSYS))


def statx(fd: int, into: Statx) -> None:
    """statx(2) on the file that ``fd`` refers to; the filesystem itself answers, not its attribute
    cache.

    Raises OSError; NoSuchCall where statx is not available (Linux before 4.11, or a filter that
    does not know it)."""
    if not _there.get("statx", True):
        raise _no_such_call()
    try:
        _raw_statx(fd, into)
    except OSError as error:
        raise _statx_error(error) from None


def _statx_error(error: OSError) -> OSError:
    lacking = error.errno in _NOT_THERE and not _is_there("statx", _statx_of_a_pipe)
    return _no_such_call() if lacking else error


def _raw_statx(fd: int, into: Statx, sync: int = AT_STATX_FORCE_SYNC) -> None:
    arguments = (fd, b"", _STATX_FLAGS | sync, _STATX_MASK, ctypes.byref(into))
    if _NR_STATX is not None and sys.maxsize > 2**32:
        _checked(_syscall_statx(_NR_STATX, *arguments))
    elif _statx is not None:
        _checked(_statx(*arguments))
    else:
        raise _no_such_call()


def is_let_in(fd: int) -> bool:
    """Whether this process may see the attributes of the file that ``fd`` refers to. The kernel
    answers without asking the filesystem's server."""
    try:
        _raw_statx(fd, Statx(), AT_STATX_DONT_SYNC)
    except OSError:
        return False
    return True


def has_all_ids(uid_map: bytes = b"/proc/self/uid_map") -> bool:
    """Whether users have the same numbers in this user namespace as in the initial one
    (user_namespaces(7)); or as here, in the namespace with another ``uid_map``."""
    try:
        with open(uid_map, "rb") as file:
            return file.read().split() == [b"0", b"0", b"4294967295"]
    except OSError:  # a kernel without user namespaces
        return True


def _statx_of_a_pipe() -> None:
    fds = os.pipe()
    try:
        _raw_statx(fds[0], Statx())
    finally:
        for fd in fds:
            os.close(fd)


def setns(fd: int, kind: int) -> None:
    """Enter a namespace. Raises OSError."""
    if _setns is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(_setns(fd, kind))


def fsync(fd: int) -> None:
    """fsync(2). Raises OSError; NoSuchCall where a filter does not know fsync."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno in _NOT_THERE and not _is_there("fsync", _fsync_of_a_pipe):
            raise _no_such_call() from None
        raise


def _fsync_of_a_pipe() -> None:
    """Call fsync(2) on a pipe, which must fail with EINVAL, because a pipe cannot be synced. Raises
    OSError for any other error."""
    fds = os.pipe()
    try:
        os.fsync(fds[1])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        for fd in fds:
            os.close(fd)


def capabilities() -> tuple[int, int]:
    """The (effective, permitted) capabilities of this process, as sets of bits. Raises OSError."""
    if _capget is None:
        raise _no_such_call()
    data = (_CapabilityData * 2)()
    _checked(_capget(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), data))
    return data[0].effective | data[1].effective << 32, data[0].permitted | data[1].permitted << 32


def set_capabilities(effective: int, permitted: int) -> None:
    """capset(2) for this process; the inheritable set becomes empty. Raises OSError."""
    if _capset is None:
        raise _no_such_call()
    data = (_CapabilityData * 2)()
    for half in range(2):
        data[half].effective = effective >> 32 * half & 0xFFFFFFFF
        data[half].permitted = permitted >> 32 * half & 0xFFFFFFFF
    _checked(_capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), data))


def read_entries(fd: int) -> None:
    """Read one batch of a directory's entries, up to 32 KiB, and ignore what they are. Raises
    OSError.

    This is one getdents64(2) and nothing else. readdir(3) goes on until it has an entry whose inode
    is not 0, and os.scandir until it has an entry other than ``.`` and ``..``. Both ask for the
    attributes first, which may come from a cache."""
    if _getdents64 is not None:
        _checked(_getdents64(fd, ctypes.create_string_buffer(1 << 15), 1 << 15))
        return
    with os.scandir(fd) as entries:  # glibc before 2.30
        next(entries, None)


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2) (Linux 5.6): open, and refuse the look-ups that ``resolve`` rules out. Raises
    OSError; NoSuchCall where openat2 is not available.

    EPERM may come from a filter, or from a filesystem that the path crosses. An EPERM of a
    filesystem must not make us use a call that follows symbolic links."""
    assert _syscall is not None
    how = _OpenHow(flags, 0, resolve)
    try:
        return int(_checked(_syscall(_NR_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how))))
    except OSError as error:
        raise _openat2_error(error) from None


def _openat2_error(error: OSError) -> OSError:
    lacking = error.errno in _NOT_THERE and not _is_there("openat2", _openat2_of_nothing)
    return _no_such_call() if lacking else error


class Swift:
    """openat2, statx and getdents64 for a process that makes these calls thousands of times: their
    arguments and buffers are made once. ``attributes`` has the result of statx."""

    def __init__(self, flags: int, resolve: int) -> None:
        """``flags`` and ``resolve`` are those of openat2. Raises NoSuchCall where a call has no
        number here."""
        if _NR_STATX is None or _getdents64 is None or sys.maxsize <= 2**32:
            raise _no_such_call()
        libc, number = ctypes.CDLL(None, use_errno=True), ctypes.c_long  # a handle of its own: nothing to convert
        self._call, self._getdents = libc.syscall, libc.getdents64
        self.attributes = Statx()
        self._openat2, self._cwd, self._statx = number(_NR_OPENAT2), number(AT_FDCWD), number(_NR_STATX)
        self._how, self._how_size = ctypes.byref(_OpenHow(flags, 0, resolve)), number(ctypes.sizeof(_OpenHow))
        self._itself, self._mask = ctypes.c_char_p(b""), number(_STATX_MASK)
        self._sync, self._into = number(_STATX_FLAGS | AT_STATX_FORCE_SYNC), ctypes.byref(self.attributes)
        self._entries, self._room = ctypes.create_string_buffer(1 << 15), number(1 << 15)

    def openat2(self, path: bytes) -> int:
        """Open an absolute path. Raises the same as :func:`openat2`."""
        fd: int = self._call(self._openat2, self._cwd, path, self._how, self._how_size)
        if fd < 0:
            raise _openat2_error(last_error())
        return fd

    def statx(self, fd: int) -> None:
        """Fill ``attributes``. Raises the same as :func:`statx`."""
        if self._call(self._statx, fd, self._itself, self._sync, self._mask, self._into) < 0:
            raise _statx_error(last_error())

    def read_entries(self, fd: int) -> None:
        """Read a batch of entries. Raises the same as :func:`read_entries`."""
        if self._getdents(fd, self._entries, self._room) < 0:
            raise last_error()


def is_on_procfs(fd: int) -> bool:
    """Whether a descriptor is on a procfs (PROC_SUPER_MAGIC in linux/magic.h), by fstatfs(2).
    Raises OSError."""
    fstatfs, result = _function("fstatfs", ctypes.c_int, ctypes.c_char_p), ctypes.create_string_buffer(256)
    assert fstatfs is not None
    _checked(fstatfs(fd, result))
    # The type is a long, or an int on s390x.
    return 0x9FA0 in (ctypes.c_long.from_buffer(result).value, ctypes.c_uint.from_buffer(result).value)


def _openat2_of_nothing() -> None:
    """Call openat2(2) with a size of 0, which answers EINVAL before it looks at anything else.
    Raises OSError for any other error."""
    assert _syscall is not None
    try:
        _checked(_syscall(_NR_OPENAT2, AT_FDCWD, b"/", ctypes.byref(_OpenHow(0, 0, 0)), 0))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def close(fd: int) -> None:
    """close(2). Errors are ignored: the kernel has freed the descriptor even then."""
    try:
        os.close(fd)
    except OSError:
        pass


def bytes_waiting(fd: int) -> int:
    """FIONREAD: how many bytes are in a pipe (ioctl_tty(2), pipe(7)). Raises OSError."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def close_from(lowest: int) -> None:
    """Close every descriptor from ``lowest`` up.

    close_range(2) does that in one call. Without it (Linux before 5.9, glibc before 2.34) we list
    the descriptors, because trying every number up to a limit of a million takes longer than the
    probes. Raises OSError where /proc is not available either."""
    if _close_range is not None and _close_range(lowest, 0xFFFFFFFF, 0) == 0:
        return  # an error means a filter: with these arguments the call itself cannot fail
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= lowest:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of the listing itself
                pass
