"""What the measurements share: interleaved rounds, figures, a private mount table, installations,
and the time and memory of processes.

Nothing here outlives a measurement: mounts are in a mount namespace of this process, everything
else is below one temporary directory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
CHECK_DISK = "/usr/lib/nagios/plugins/check_disk"
ROUNDS = 9
# This tree's installation; others are called by their paths.
HERE = "here"
_CLONE_NEWNS, _MNT_DETACH = 0x20000, 2
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PR_SET_CHILD_SUBREAPER = 36
# Two that measure at the same time would measure each other.
_ALONE = Path(sys.prefix) / "bench.lock"
_libc = ctypes.CDLL(None, use_errno=True)


class Sample(NamedTuple):
    """The figures of all rounds, in one unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, digits: int) -> str:
        """The median, and the least and the greatest figure."""
        if len(self.values) == 1:
            return f"{self.median:,.{digits}f} (once)"
        return f"{self.median:,.{digits}f} ({min(self.values):,.{digits}f}-{max(self.values):,.{digits}f})"


class Target(NamedTuple):
    """The most that a figure may be: itself, or its ratio to the peer's."""

    most: float
    of_peer: bool = True
    words: str = ""

    def __str__(self) -> str:
        return self.words or (f"<= {self.most:g} x" if self.of_peer else f"<= {self.most:g}")


class Line(NamedTuple):
    """A line of the table: the figure of each program, and that of a peer in the same rounds."""

    what: str
    unit: str
    programs: Mapping[str, Sample]
    peer: str = ""
    peers: Optional[Sample] = None
    target: Optional[Target] = None
    digits: int = 1

    def ratio(self, program: str = HERE) -> Optional[float]:
        if self.peers is None or program not in self.programs:
            return None
        return self.programs[program].median / self.peers.median

    @property
    def is_met(self) -> Optional[bool]:
        if self.target is None or HERE not in self.programs:
            return None
        reached = self.ratio() if self.target.of_peer else self.programs[HERE].median
        return None if reached is None else reached <= self.target.most


class Setting(NamedTuple):
    """What all rows are measured with: a directory of their own, and the programs by name."""

    place: Path
    programs: Mapping[str, str]
    # Whether processes that end are measured by the CPU time of them and of all that they start.
    cpu: bool = False


def interleaved(
    actions: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, fewer: Optional[Mapping[str, int]] = None
) -> dict[str, Sample]:
    """Each action gives its figure, once in each round, so that all meet the same noise. Every
    second round runs backwards. ``fewer`` has the rounds of those that take too long; a first call
    of each action does not count, except of those."""
    fewer = fewer or {}
    figures: dict[str, list[float]] = {name: [] for name in actions}
    for name, action in actions.items():
        if name not in fewer:
            action()
    for number in range(rounds):
        names = list(actions)[:: -1 if number % 2 else 1]
        for name in names:
            if number < fewer.get(name, rounds):
                figures[name].append(actions[name]())
    return {name: Sample(tuple(values)) for name, values in figures.items()}


class Output:
    """A file for the output of a program, so that nobody has to read a pipe meanwhile.

    With ``cpu``, :meth:`milliseconds` are those of CPU time; then this process must have no
    children of its own, because it adopts and waits for those that a program leaves behind."""

    def __init__(self, cpu: bool = False) -> None:
        self.fd = os.memfd_create("output")
        self._input = os.open("/dev/null", os.O_RDONLY)
        self._cpu = cpu
        if cpu:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def milliseconds(self, command: Sequence[str], state: int = 0, begins: bytes = b"") -> float:
        """The time from before the start of a process until it was waited for; subprocess would
        add noise. Its exit code and the beginning of its output must be these."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, self._input, 0), (os.POSIX_SPAWN_DUP2, self.fd, 1)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        pid = os.posix_spawn(command[0], list(command), {"PATH": "/usr/bin:/bin"}, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - began
        output = os.pread(self.fd, 4096, 0)
        if os.waitstatus_to_exitcode(status) != state or not output.startswith(begins):
            raise AssertionError(f"{' '.join(command)}: status {status}, expected {state} and {begins!r}; {output!r}")
        return (self._cpu_since(before) if self._cpu else took) * 1e3

    @staticmethod
    def _cpu_since(before: resource.struct_rusage) -> float:
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own_mounts() -> None:
    """Go into a mount namespace of our own, which removes all mounts of this process at its end."""
    if os.geteuid() != 0 or _libc.unshare(_CLONE_NEWNS) != 0:
        sys.exit("bench: it mounts filesystems: run it as root")
    mount(b"none", b"/", b"", _MS_REC | _MS_PRIVATE)


def go_first() -> None:
    """Wait until nobody else measures here. What else this host does must wait for us."""
    lock = os.open(_ALONE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("(another bench measures on this host; waiting until it ends)", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(OSError):
        os.nice(-15)


def mount(source: bytes, target: bytes, fs_type: bytes, flags: int = 0) -> None:
    if _libc.mount(source, target, fs_type, flags, b"") != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


class Mounts:
    """tmpfs mounts in one directory, as many as a row needs."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir()
        mount(b"none", os.fsencode(base), b"tmpfs")
        self._number = itertools.count()

    def point(self) -> Path:
        """A new directory to mount on."""
        path = self.base / str(next(self._number))
        path.mkdir()
        return path

    def healthy(self, count: int) -> None:
        """Mount so many more."""
        for _ in range(count):
            mount(b"none", os.fsencode(self.point()), b"tmpfs")

    def close(self) -> None:
        _libc.umount2(os.fsencode(self.base), _MNT_DETACH)
        self.base.rmdir()


@contextlib.contextmanager
def healthy(setting: Setting, count: int) -> Iterator[Mounts]:
    """So many tmpfs mounts, for as long as the context lasts."""
    mounts = Mounts(setting.place / "mnt")
    try:
        mounts.healthy(count)
        yield mounts
    finally:
        mounts.close()


def install(prefix: Path, python: str = PYTHON) -> str:
    """``make install`` for an interpreter. Returns the program."""
    command = ["make", "-s", "-C", str(ROOT), "install", f"PREFIX={prefix}", f"PYTHON={python}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return f"{prefix}/bin/check_mounts"


def environment(python: str, version: str) -> str:
    """An environment of an interpreter with nagiosplugin, made once. Returns its interpreter."""
    place = Path(sys.prefix) / "bench" / version
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent))
        subprocess.run([python, "-m", "venv", "--without-pip", made], check=True)
        # This pip may be too old for that interpreter; nagiosplugin is the same for all of them.
        (site,) = made.glob("lib/python3*/site-packages")
        pip("install", "--no-deps", "--target", str(site), "nagiosplugin")
        with contextlib.suppress(OSError):  # somebody else has made it meanwhile
            made.rename(place)
    return str(place / "bin/python3")


def pip(*words: str) -> None:
    """Run the pip of this environment."""
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words, "--root-user-action=ignore"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def output_of(*command: str) -> str:
    """The first line that a command prints, or "" if there is no such command."""
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.split("\n", 1)[0].strip()


class Interpreter(NamedTuple):
    """A supported interpreter of this host, and one of the same version that has nagiosplugin."""

    version: str
    python: str


def interpreters() -> list[Interpreter]:
    """One of each supported version, the users' own first."""
    found: dict[str, str] = {}
    for path in [PYTHON, *sorted(map(str, (Path.home() / ".pyenv/versions").glob("3.*/bin/python3")))]:
        version = output_of(path, "-c", "import platform; print(platform.python_version())")
        minor = version.rpartition(".")[0]
        if minor in ("3.9", "3.11", "3.13") and minor not in {known.rpartition(".")[0] for known in found}:
            found[version] = path
    return [Interpreter(version, _with_nagiosplugin(path, version)) for version, path in found.items()]


def _with_nagiosplugin(python: str, version: str) -> str:
    has_it = output_of(python, "-I", "-c", "import nagiosplugin; print('yes')")
    return python if has_it else environment(python, version)


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(process for child in children for process in descendants(int(child)))]


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, of its descendants, and of those that they have waited for."""
    ticks = 0
    for process in descendants(pid):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def kilobytes(pid: int, *names: str) -> int:
    """The sum of these lines of proc_pid_smaps(5)'s smaps_rollup."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(amount) for name, amount in re.findall(r"^(\w+): +(\d+) kB$", text, re.M) if name in names)


def private_kilobytes(pid: int) -> int:
    """The memory that no other process shares."""
    return kilobytes(pid, "Private_Clean", "Private_Dirty")
