"""The cost of the engine on 1,000 healthy tmpfs mounts, compared with a floor of the same run: the
same system calls in one process.

Run as root: ``python -m bench.engine``. Prints microseconds per mount and the ratio; each figure is
the median of 7 rounds."""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from check_mounts import mounttable, selection
from check_mounts.probing import asking, stuck, survey
from check_mounts.system import syscalls

MOUNTS = 1000
ROUNDS = 7
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: bytes, target: str, fs_type: bytes, flags: int) -> None:
    if _libc.mount(source, os.fsencode(target), fs_type, flags, b"") != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _zoo(base: str) -> None:
    """Make the mounts in a mount namespace of our own, which removes them when we end."""
    if _libc.unshare(0x20000) != 0:
        sys.exit("bench.engine: unshare failed: run it as root")
    _mount(b"none", "/", b"", 0x4000 | 0x40000)
    _mount(b"none", base, b"tmpfs", 0)
    for number in range(MOUNTS):
        path = f"{base}/{number}"
        os.mkdir(path)
        _mount(b"none", path, b"tmpfs", 0)


def _floor(paths: list[bytes]) -> None:
    """The probe's system calls on each mount, one after the other, in this process."""
    for path in paths:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fstatvfs(fd)
        syscalls.statx(fd, syscalls.Statx())
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        with os.scandir(directory) as entries:
            next(entries, None)
        os.close(directory)
        os.close(fd)


def _microseconds(action: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        rounds.append((time.perf_counter() - began) / MOUNTS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Measure and print."""
    base, state = tempfile.mkdtemp(), tempfile.mkdtemp(dir="/dev/shm")
    _zoo(base)
    filters = selection.Filters(include_paths=[selection.compile_glob(os.fsencode(base) + b"/*")])

    def engine() -> None:
        table = mounttable.read(mounttable.DEFAULT_PATH)
        chosen = selection.select(table[0], filters)
        registry = stuck.Registry(state, slots=asking.Settings().max_workers)
        result = survey.take(
            survey.Pass(table, chosen, asking.Settings(), registry), lambda: mounttable.read(mounttable.DEFAULT_PATH)
        )
        assert len(result.findings) == MOUNTS
        assert all(finding.condition.value == "ok" for finding in result.findings)

    paths = [
        mount.mount_point for mount in selection.select(mounttable.read(mounttable.DEFAULT_PATH)[0], filters).selected
    ]
    floor, whole = _microseconds(lambda: _floor(paths)), _microseconds(engine)
    print(f"{MOUNTS} healthy tmpfs mounts, microseconds per mount:")
    print(f"system calls alone {floor:.1f}, engine {whole:.1f} (x {whole / floor:.1f})")
    _libc.umount2(os.fsencode(base), 2)
    os.rmdir(base)
    os.rmdir(state)


if __name__ == "__main__":
    main()
