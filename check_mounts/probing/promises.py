"""Remembers the files that write probes make until they are removed.

Import budget: ``os``, ``re``, ``time``; processes.

A write probe that is killed leaves its file behind. So, before a probe makes a file, it makes a
promise, an empty file in the state directory, and removes that only after its own file. A promise
whose worker is gone is broken: the next run that writes to the same filesystem removes the file
that was left, by its name, as the owner.

The name of a promise holds all information, so one system call makes it, and one removes it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from check_mounts.system.processes import OWN, itself, process_start

# How long we remember a file in a filesystem that is no longer mounted, in seconds. A filesystem
# that a backup mounts each night, or that only runs in another mount namespace see, is back sooner.
_LONG_GONE = 2 * 86400.0
# The name of a promise: token, device and inode of the directory, pid and start time of the worker.
# Compiled at the first use: few runs write.
_NAME = r"write\.([0-9a-f]{32})\.([0-9:]{5,50})\.([0-9]{1,10})\.([0-9]{1,20})\Z"


class Promises:
    """The files of write probes that the state directory ``path`` remembers. In the parent it is
    open as ``directory`` (-1: this run has no such directory). ``procfs`` shows the workers."""

    def __init__(self, path: str, directory: int, procfs: str = OWN) -> None:
        self._path, self._directory, self._procfs = path, directory, procfs

    def promise(self, token: str, directory: tuple[int, int, int]) -> str:
        """In a worker: remember the file that the worker is about to make.

        ``token``: 32 hexadecimal digits, which are part of the file's name. ``directory``: the
        directory of the file, as major, minor, inode. Returns the path for :meth:`forget`. Raises
        OSError; then the worker must not make the file."""
        pid, start = itself(self._procfs)
        path = f"{self._path}/write.{token}.{_words(directory)}.{pid}.{start}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return path

    def broken_promises(self, directory: tuple[int, int, int]) -> list[tuple[str, str]]:
        """In a worker: list (path, token) of each file that workers that are gone have left in a
        directory. Raises OSError."""
        found = []
        for name in sorted(os.listdir(self._path)):
            match = re.match(_NAME, name)
            if match and match[2] == _words(directory) and self._is_gone(match[3], match[4]):
                found.append((f"{self._path}/{name}", match[1]))
        return found

    def forget_long_gone(self, is_mounted: Callable[[tuple[int, int]], bool]) -> None:
        """Forget the files of workers that are gone, in filesystems that have not been mounted for
        a long time.

        Each run that writes to a filesystem removes the files that were left there, so nothing that
        is still needed is old. If another filesystem has the device number meanwhile, that does no
        harm: no file there has the name."""
        if self._directory < 0:
            return
        latest = time.time() - _LONG_GONE
        for name in _names(self._directory):
            if not re.match(_NAME, name):
                continue
            try:
                if os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime > latest:
                    continue
                _, _, place, pid, start = name.split(".")
                major, minor, _ = map(int, place.split(":"))
                if self._is_gone(pid, start) and not is_mounted((major, minor)):
                    os.unlink(name, dir_fd=self._directory)
            except (OSError, ValueError):
                pass  # a concurrent run was quicker, or the file is not ours

    def _is_gone(self, pid: str, start: str) -> bool:
        return process_start(int(pid), self._procfs) != int(start)

    def forget(self, path: str) -> None:
        """In a worker: forget a file that has been removed. Raises OSError."""
        os.unlink(path)


def _words(directory: tuple[int, int, int]) -> str:
    return ":".join(map(str, directory))


def _names(directory: int) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []  # the registry has already reported that the directory cannot be read
