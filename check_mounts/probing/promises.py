"""The files that write probes make are remembered until they are removed.

Import budget: ``os``, ``re``, ``time``; processes.

A write probe that is killed leaves its file behind. So an empty file in the state directory stands
for each such file, from before it is made until it is removed; the next run that writes to that
filesystem removes what is left, by its name, as the owner.

The name of the empty file holds everything, so one system call remembers, and one forgets."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from check_mounts.system.processes import process_start

# How long a file is remembered that was left in a filesystem that is no longer mounted, in seconds.
# A filesystem that a backup mounts each night, or that only runs in another mount namespace see, is
# met again before that.
_LONG_GONE = 2 * 86400.0
# A file that stands for one that a write probe makes: token, device and inode of the directory, pid
# and start time of the worker.
_NAME = re.compile(r"write\.([0-9a-f]{32})\.([0-9:]{5,50})\.([0-9]{1,10})\.([0-9]{1,20})\Z")


class Promises:
    """The files of write probes that are remembered in the state directory ``path``, which is open
    as ``directory`` in the parent (-1: there is none)."""

    def __init__(self, path: str, directory: int) -> None:
        self._path, self._directory = path, directory

    def promise(self, token: str, directory: tuple[int, int, int]) -> str:
        """In a worker: remember the file that it is about to make, with this token (32 hexadecimal
        digits) in its name. ``directory`` says where: major, minor, inode. Returns the path that
        :meth:`kept` needs. Raises OSError: then no file must be made."""
        pid = os.getpid()
        path = f"{self._path}/write.{token}.{_words(directory)}.{pid}.{process_start(pid) or 0}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return path

    def broken_promises(self, directory: tuple[int, int, int]) -> list[tuple[str, str]]:
        """In a worker: (path, token) of each file that workers which are gone have left in a
        directory. Raises OSError."""
        found = []
        for name in sorted(os.listdir(self._path)):
            match = _NAME.match(name)
            if match and match[2] == _words(directory) and process_start(int(match[3])) != int(match[4]):
                found.append((f"{self._path}/{name}", match[1]))
        return found

    def forget_long_gone(self, is_mounted: Callable[[tuple[int, int]], bool]) -> None:
        """Forget the files of workers that are gone, in filesystems that have not been mounted for
        long.

        Each run that meets such a filesystem removes what is left and promises anew, so no promise
        in use is old. If another filesystem has got the number meanwhile, that does no harm: the
        name is not there."""
        if self._directory < 0:
            return
        latest = time.time() - _LONG_GONE
        for name in filter(_NAME.match, _names(self._directory)):
            try:
                if os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime > latest:
                    continue
                _, _, place, pid, start = name.split(".")
                major, minor, _ = map(int, place.split(":"))
                if process_start(int(pid)) != int(start) and not is_mounted((major, minor)):
                    os.unlink(name, dir_fd=self._directory)
            except (OSError, ValueError):
                pass  # a concurrent run was quicker, or the file is not ours

    def kept(self, path: str) -> None:
        """In a worker: forget a file that is removed. Raises OSError."""
        os.unlink(path)


def _words(directory: tuple[int, int, int]) -> str:
    return ":".join(map(str, directory))


def _names(directory: int) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []  # the registry has said that it cannot be read
