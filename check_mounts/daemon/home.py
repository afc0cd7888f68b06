"""The daemon's files: the directory of the result, which belongs to it alone, and the file of the
metrics. Something that hangs may be mounted over either."""

from __future__ import annotations

import errno
import os
import re

from check_mounts import cache, mounttable, tablelines, text
from check_mounts.checks import checking
from check_mounts.daemon import drill_file
from check_mounts.incidents import records
from check_mounts.options.understood import Options, Service
from check_mounts.system import directories, replacing, walk
from check_mounts.typed import Optional

# How our files begin: the files in the directory of the result, by their suffix, and the file of
# the metrics.
_PID = rb"\d+\n?\Z"
_BEGINNINGS = (rb"check_mounts ", rb'\{"version": \d+, "state": "', _PID, _PID, re.escape(records.BEGINNING))
_OURS = dict(zip(cache.SUFFIXES, map(re.compile, _BEGINNINGS)))
# The option whose file holds the incidents.
INCIDENTS = "--incident-file"
# The same for what is usual.
USUAL = "--unusual"
_METRICS = re.compile(rb"(# (HELP|TYPE) )?check_mounts_")


class Refused(Exception):
    """The daemon cannot use its files; the message says why, on one line."""


class Home:
    """The directory of the result, which is ours as long as we hold the lock in it.

    All access goes through its descriptor: even if the path leads elsewhere later, nothing is
    written anywhere else."""

    def __init__(self, service: Service, options: Options, only_check: bool = False) -> None:
        """Lock the directory, unless another daemon uses it. Raises Refused.

        ``only_check``: change nothing and lock nothing, but refuse what a start would refuse, and
        metrics that nothing could write now."""
        self._service = service
        self._mountinfo = options.check.mountinfo if options.check.root is None else mounttable.DEFAULT_PATH
        self._table: Optional[int] = None
        self._paths = {
            "--cache": [service.cache + suffix for suffix in (*_OURS, drill_file.SUFFIX)],
            "--metrics": [service.metrics] if service.metrics else [],
        }
        # No daemon should refuse to start because of these, so they are not among the others.
        kept = {INCIDENTS: service.incidents, USUAL: service.usual}
        self._kept = {option: path for option, path in kept.items() if path is not None}
        self._whys: dict[str, Optional[str]] = {}
        try:
            self._look_at_table()
        except OSError as error:
            raise Refused(
                f"argument --mountinfo: {text.printable_argument(self._mountinfo)}: {error.strerror}"
            ) from None
        for option in self._paths:
            if self._whys[option] is not None:
                raise Refused(f"argument {option}: {self._whys[option]}")
        self._path, _, self.name = service.cache.rpartition("/")
        if service.metrics is not None:
            _check_metrics(service.metrics, writable=only_check)
        if only_check:
            self._check()
        else:
            self.directory, self._lock = self._take(starting=True)

    def _check(self) -> None:
        """Look at the directory that a daemon would take. Raises Refused."""
        path = self._path or "/"
        try:
            fd = directories.open_directory(path, rooted=True, make=False)
        except directories.Missing:
            return
        except directories.Unusable as error:
            raise Refused(f"argument --cache: {text.printable_argument(path)}: {error}") from None
        try:
            for suffix, pattern in _OURS.items():
                _check_ours("--cache", self._service.cache + suffix, fd, pattern)
        finally:
            os.close(fd)

    def may_hang(self, option: str) -> Optional[str]:
        """Why a process that opens the file of this option could hang now: something that hangs may
        have been mounted over the file or over a directory above it. None if it could not hang.

        If the mount table cannot be read, the last answer counts: even the result that nothing can
        be checked must be written."""
        try:
            self._look_at_table()
        except OSError:
            pass
        return self._whys[option]

    def _look_at_table(self) -> None:
        """Find out again what may hang. Raises OSError."""
        data = tablelines.contents(self._mountinfo)
        if hash(data) == self._table:  # parsing a large table takes time
            return
        mounts = mounttable.parse(data, torn=True)[0]
        visible = frozenset(mounttable.visible(mounts))
        for option, paths in self._paths.items():
            whys = [checking.may_hang(path, mounts, visible) for path in paths]
            self._whys[option] = next((why for why in whys if why is not None), None)
        for option, path in self._kept.items():
            self._whys[option] = checking.may_hang(path, mounts, visible)
        self._table = hash(data)

    def _take(self, starting: bool = False) -> tuple[int, directories.Lock]:
        """Open the directory, make it if it does not exist, and lock it. Raises Refused."""
        path, lock = self._path or "/", f"{self.name}.lock"
        where = text.printable_argument(path)
        try:
            fd = directories.open_directory(path, 0o755, rooted=True)
        except directories.Unusable as error:
            raise Refused(f"argument --cache: {where}: {error}") from None
        try:
            if self._service.cache == cache.DEFAULT_PATH:
                # An earlier run may have made the directory with mode 0700, to remember stuck
                # probes in it. But NRPE's user must be able to read the result.
                os.fchmod(fd, 0o755)
            if starting:
                for suffix, pattern in _OURS.items():
                    _check_ours("--cache", self._service.cache + suffix, fd, pattern)
                # A daemon of an earlier release, which may still run, has locked this file.
                directories.check_unlocked(f"{self.name}.pid", fd)
            held = directories.Lock(lock, fd)
            self._tell_pid(fd)
            return fd, held
        except Refused as error:
            why = str(error)
        except directories.Held as error:
            why = f"another daemon (pid {error.pid}) keeps {text.printable_argument(self._service.cache)} up to date"
        except OSError as error:
            why = f"argument --cache: {where.rstrip('/')}/{text.printable_argument(lock)}: {error.strerror}"
        os.close(fd)
        raise Refused(why)

    def _tell_pid(self, directory: int) -> None:
        """Write our process ID to a file, for administrators and their scripts. This program does
        not depend on it."""
        name, words = f"{self.name}.pid", b"%d\n" % os.getpid()
        try:
            if directories.read_beginning(directory, name) != words:
                replacing.replace_in(directory, name, words)
        except (OSError, directories.Unusable):
            pass

    def restore(self) -> None:
        """Make the lock or the whole directory again if it was removed. Raises Refused; OSError if
        it is impossible to find out whether it was."""
        if self._lock.holds and _is_same(self.directory, self._path or "/"):
            self._tell_pid(self.directory)
            return
        directory, lock = self._take()
        self.close()
        self.directory, self._lock = directory, lock

    def close(self) -> None:
        """Give the directory up. If something may have been mounted over the lock, it is not
        touched: it ends with the process."""
        if self.may_hang("--cache") is None:
            if self._lock.holds:
                replacing.remove(self.directory, f"{self.name}.pid")
            self._lock.close()
        os.close(self.directory)


def _is_same(directory: int, path: str) -> bool:
    """Whether a path leads to this open directory. Raises OSError if a lack of descriptors or
    memory prevents the comparison."""
    try:
        fd = walk.open_without_symlinks(os.fsencode(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENFILE, errno.EMFILE, errno.ENOMEM):
            raise
        return False
    try:
        here, there = os.fstat(directory), os.fstat(fd)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    finally:
        os.close(fd)


def _check_ours(option: str, path: str, directory: int, pattern: re.Pattern[bytes]) -> None:
    """Refuse a file that we have not written: we would replace it, whatever it holds. Raises
    Refused."""
    shown = text.printable_argument(path)
    try:
        beginning = directories.read_beginning(directory, path.rpartition("/")[2])
    except directories.Unusable as error:
        raise Refused(f"argument {option}: {shown}: {error}, so it is not replaced") from None
    if beginning and not pattern.match(beginning):
        raise Refused(
            f"argument {option}: {shown}: it is not a file that check_mounts has written, so it is not replaced"
        )


def _check_metrics(path: str, writable: bool) -> None:
    """Refuse a file of metrics that we have not written. Raises Refused.

    Its directory need not exist yet, unless it must be ``writable``: the daemon opens it whenever
    it writes metrics, and logs it if that fails."""
    try:
        directory, _ = open_above(path)
    except OSError as error:
        if not writable:
            return
        raise _no_metrics(path, error.errno) from None
    try:
        if writable and not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
            raise _no_metrics(path, errno.EACCES)
        _check_ours("--metrics", path, directory, _METRICS)
    finally:
        os.close(directory)


def _no_metrics(path: str, number: Optional[int]) -> Refused:
    why = "a symbolic link leads to it" if number == errno.ELOOP else os.strerror(number or errno.EIO)
    return Refused(f"argument --metrics: {text.printable_argument(path.rpartition('/')[0] or '/')}: {why}")


def open_above(path: str) -> tuple[int, str]:
    """Open the directory of a file. Returns its descriptor, and the name of the file in it. Raises
    OSError; ELOOP if a symbolic link leads to the directory."""
    directory, _, name = path.rpartition("/")
    return walk.open_without_symlinks(os.fsencode(directory or "/"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name
