"""The engine alone: reading the mount table, choosing, probing and settling, without the start of
an interpreter, options and the report.

Run as root: ``python -m bench.engine [COUNT]``. It mounts so many tmpfs (1,000 unless told
otherwise) and prints the microseconds per mount, beside a floor of the same rounds: the probes'
system calls, one after the other in one process.

For the table of ``python -m bench``, a process for each number of mounts measures one round
whenever a line comes on its stdin, so that all numbers of mounts and all versions of the program
alternate."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.common import HERE, PYTHON, ROOT, Line, Mounts, Sample, Setting, Target, interleaved, own_mounts
from check_mounts import mounttable, selection
from check_mounts.probing import asking, stuck, survey
from check_mounts.system import syscalls

_FEW, _MANY = 1_000, 20_000
_PER_MOUNT, _GROWTH = Target(25, of_peer=False, words="<= 25 us"), Target(1.2)
_libc = ctypes.CDLL(None, use_errno=True)
# With the program of another installation before the one of this tree.
_SERVE = "import sys; sys.path[:0] = sys.argv[1:3]; from bench import engine; engine.serve(int(sys.argv[3]))"


def floor(paths: list[bytes]) -> None:
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


class Engine:
    """The engine over so many healthy mounts, in this process."""

    def __init__(self, count: int, place: Path) -> None:
        self.count = count
        self._state = str(place)
        mounts = Mounts(place / "mnt")
        mounts.healthy(count)
        self._filters = selection.Filters(include_paths=[selection.compile_glob(os.fsencode(mounts.base) + b"/*")])
        chosen = selection.select(mounttable.read(mounttable.DEFAULT_PATH)[0], self._filters).selected
        self._paths = [mount.mount_point for mount in chosen]

    def whole(self) -> None:
        """One pass, with all mounts ok."""
        table = mounttable.read(mounttable.DEFAULT_PATH)
        chosen = selection.select(table[0], self._filters)
        registry = stuck.Registry(self._state, slots=asking.Settings().max_workers)
        result = survey.take(
            survey.Pass(table, chosen, asking.Settings(), registry), lambda: mounttable.read(mounttable.DEFAULT_PATH)
        )
        assert len(result.findings) == self.count
        assert all(finding.condition.value == "ok" for finding in result.findings)

    def floor(self) -> None:
        floor(self._paths)

    def microseconds(self, action: Callable[[], object]) -> float:
        """The time that it takes for each mount."""
        began = time.perf_counter()
        action()
        return (time.perf_counter() - began) / self.count * 1e6


def serve(count: int) -> None:
    """Measure a round for each line of stdin."""
    own_mounts()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        engine = Engine(count, Path(place))
        gc.freeze()  # as in run
        gc.set_threshold(200_000, 100, 100)
        try:
            for line in sys.stdin:
                print(engine.microseconds(engine.floor if line == "floor\n" else engine.whole), flush=True)
        finally:
            _libc.umount2(os.fsencode(f"{place}/mnt"), 2)


class _Server:
    """A process that measures the engine of an installation."""

    def __init__(self, program: str, count: int) -> None:
        library = str(Path(program).resolve().parent.parent / "lib/check_mounts")
        command = [PYTHON, "-c", _SERVE, library, str(ROOT), str(count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str = "whole") -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def lines(setting: Setting) -> Iterator[Line]:
    """The cost per mount of 1,000 and of 20,000 mounts."""
    servers = {
        (name, count): _Server(path, count) for count in (_FEW, _MANY) for name, path in setting.programs.items()
    }
    first = next(iter(setting.programs))
    actions: dict[str, Callable[[], float]] = {f"{name} {count}": servers[name, count].ask for name, count in servers}
    for count in (_FEW, _MANY):
        actions[f"floor {count}"] = functools.partial(servers[first, count].ask, "floor")
    try:
        figures = interleaved(actions, 7)
    finally:
        for server in servers.values():
            server.close()

    def of(count: int) -> dict[str, Sample]:
        return {name: figures[f"{name} {count}"] for name in setting.programs}

    floor_words = "the system calls alone"
    yield Line(f"engine, {_FEW:,} healthy", "us/mount", of(_FEW), floor_words, figures[f"floor {_FEW}"])
    yield Line(f"engine, {_MANY:,} healthy", "us/mount", of(_MANY), floor_words, figures[f"floor {_MANY}"], _PER_MOUNT)
    if HERE in setting.programs:
        peers = figures[f"{HERE} {_FEW}"]
        yield Line(f"engine, {_MANY:,} healthy", "us/mount", of(_MANY), f"itself at {_FEW:,}", peers, _GROWTH)


def main() -> None:
    """Measure this tree's engine and print."""
    own_mounts()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _FEW
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        engine = Engine(count, Path(place))
        figures = interleaved({
            "floor": lambda: engine.microseconds(engine.floor),
            "engine": lambda: engine.microseconds(engine.whole),
        }, 7)  # fmt: skip
        _libc.umount2(os.fsencode(f"{place}/mnt"), 2)
    floors, whole = figures["floor"], figures["engine"]
    print(f"{count} healthy tmpfs mounts, microseconds per mount:")
    print(f"system calls alone {floors.text(1)}, engine {whole.text(1)} (x {whole.median / floors.median:.1f})")


if __name__ == "__main__":
    main()
