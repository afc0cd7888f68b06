"""The cost of the engine on 1,000 and on 20,000 healthy tmpfs mounts, compared with a floor of the
same run: the same system calls in one process.

Run as root: ``python -m bench.parts [MOUNTS ...]``. Prints microseconds per mount, each the median
of its rounds: wall time, and the CPU time of the floor, of the workers, of the parent, and of the
parts of the parent's work."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import statistics
import sys
import tempfile
import time

from check_mounts import mounttable, selection
from check_mounts.probing import asking, stuck, survey
from check_mounts.system import syscalls

SIZES = (1000, 20000)
PARTS = ("floor", "wall", "parent", "workers", "table", "select", "begin", "probes", "finish")
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: bytes, target: str, fs_type: bytes, flags: int) -> None:
    if _libc.mount(source, os.fsencode(target), fs_type, flags, b"") != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _zoo(base: str, mounts: int) -> None:
    """Make the mounts in a mount namespace of our own, which removes them when we end."""
    if _libc.unshare(0x20000) != 0:
        sys.exit("bench.parts: unshare failed: run it as root")
    _mount(b"none", "/", b"", 0x4000 | 0x40000)
    _mount(b"none", base, b"tmpfs", 0)
    for number in range(mounts):
        path = f"{base}/{number}"
        os.mkdir(path)
        _mount(b"none", path, b"tmpfs", 0)


def _floor(paths: list[bytes]) -> None:
    """The probe's system calls on each mount, one after the other, in this process."""
    into = syscalls.Statx()
    for path in paths:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fstatvfs(fd)
        syscalls.statx(fd, into)
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME | os.O_CLOEXEC, dir_fd=fd)
        syscalls.read_entries(directory)
        os.close(directory)
        os.close(fd)


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _engine(filters: selection.Filters, state: str, mounts: int) -> dict[str, float]:
    """One pass; the seconds of its parts."""
    own, others = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
    began, times = time.perf_counter(), [time.process_time()]

    def read() -> mounttable.Table:
        return mounttable.read(mounttable.DEFAULT_PATH)

    table = read()
    times.append(time.process_time())
    chosen = selection.select(table[0], filters)
    times.append(time.process_time())
    settings = asking.Settings(deadline=60.0)
    registry = stuck.Registry(state, slots=settings.max_workers)
    under_way = survey.Pass(table, chosen, settings, registry)
    times.append(time.process_time())
    while not under_way.done:
        under_way.step(under_way.due)
    times.append(time.process_time())
    result = under_way.finish(read)
    times.append(time.process_time())
    spent = {
        "wall": time.perf_counter() - began,
        "parent": _cpu(resource.RUSAGE_SELF) - own,
        "workers": _cpu(resource.RUSAGE_CHILDREN) - others,
    }
    assert len(result.findings) == mounts
    assert all(finding.condition.value == "ok" for finding in result.findings)
    return {**spent, **dict(zip(PARTS[4:], (after - before for before, after in zip(times, times[1:]))))}


def _measure(mounts: int) -> None:
    base, state = tempfile.mkdtemp(), tempfile.mkdtemp(dir="/dev/shm")
    _zoo(base, mounts)
    filters = selection.Filters(include_paths=[selection.compile_glob(os.fsencode(base) + b"/*")])
    paths = [
        mount.mount_point for mount in selection.select(mounttable.read(mounttable.DEFAULT_PATH)[0], filters).selected
    ]
    gc.freeze()  # as in run
    gc.set_threshold(200_000, 100, 100)
    rounds: list[dict[str, float]] = []
    for _ in range(9 if mounts < 5000 else 5):
        began = time.process_time()
        _floor(paths)
        floor = time.process_time() - began
        gc.collect()
        rounds.append({"floor": floor, **_engine(filters, state, mounts)})
    medians = [statistics.median(each[part] for each in rounds) / mounts * 1e6 for part in PARTS]
    print(f"{mounts:8,}" + "".join(f"{median:9.1f}" for median in medians), flush=True)
    _libc.umount2(os.fsencode(base), 2)
    os.rmdir(base)
    os.rmdir(state)


def main() -> None:
    """Measure and print."""
    print("microseconds per healthy tmpfs mount (floor: the system calls alone)")
    print("  mounts" + "".join(f"{part:>9}" for part in PARTS), flush=True)
    for mounts in [int(word) for word in sys.argv[1:]] or SIZES:
        pid = os.fork()
        if pid == 0:
            _measure(mounts)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    main()
