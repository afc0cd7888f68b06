"""What a run, --cached and a pass of the daemon cost, as far as it can be counted: a change that
costs more must raise a number here, and say why.

Times depend on what else a host does, these numbers do not. What the interpreter costs alone is
subtracted (the floor). Two runs, over 40 and over 80 mounts, tell what each mount costs, whatever
other mounts a host has. The table is MOST; `pytest -rP` prints today's numbers."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import nagiosplugin
import pytest

from check_mounts.daemon import status_file
from tests import counts
from tests.conftest import PYTHON, ROOT, Mounts, Plugin, until
from tests.counts import Counts
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

# A run -> what is counted -> the most of it. "calls" are system calls but for those of
# counts.WAITS, which depend on when a process gets its turn. What the interpreter costs alone is
# not counted.
MOST: dict[str, dict[str, float]] = {
    "one-shot": {
        # Those that both the run and its nursery load count twice. A slack of two.
        "modules of ours": 103,
        # Python 3.9 has one more.
        "modules of others": 61,
        "processes": 3,
        "calls of a probe": 7,
        # Besides those: what the registry needs. How much is done at once depends on the host.
        "calls per mount": 11,
        "readings of the table": 2,
        # 50 are for memory (mmap, brk, munmap), and for versions of the C library. The rest
        # is what this process and the nursery load, and the requests that warm the nursery up.
        "calls of the start": 2450,
        # A twentieth is for growth; 20 are for the counters of errors on devices, 10 for ranges of
        # what programs do, 15 for drills.
        "kB of files": 1940,
    },
    "cached": {
        "modules of ours": 3,
        "modules of others": 1,
        "processes": 0,
        # Those of 3.9; others have 10 less. A slack of 4: deep directories need more.
        "calls": 126,
        # The entry also knows how a single run begins, and the launcher what half an upgrade is.
        "kB of files": 47,
    },
    "pass": {
        "processes": 1,
        "calls of a probe": 7,
        "calls per mount": 10,
        "readings of the table": 2,
        # A slack of 20 for what a pass before has left to do.
        "calls": 200,
        "kB of files": 0,
    },
}
FEW, MANY = 40, 80
_NAGIOSPLUGIN = str(Path(nagiosplugin.__file__).parent.parent)


def _pythons() -> list[str]:
    """The users' interpreter, and those of the oldest and the newest version, if this host has
    them."""
    found = [
        next(iter(sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))), None)
        for version in ("3.9", "3.13")
    ]
    return [PYTHON, *(str(path) for path in found if path is not None)]


class Program:
    """The program as an interpreter runs it; the users' own runs what `make install` installs."""

    def __init__(self, python: str, place: Path) -> None:
        library = str(ROOT)
        self._place = place
        self._before = [python, "-X", f"pycache_prefix={place}/pycache"]
        if python == PYTHON:
            command = ["make", "-s", "-C", str(ROOT), "install", f"PREFIX={place}/prefix", f"PYTHON={python}"]
            subprocess.run(command, check=True, capture_output=True)
            library, self._before = f"{place}/prefix/lib/check_mounts", [python]
        self._start = place / "start"
        # The installed script, but that it finds nagiosplugin wherever the tests have it.
        text = (ROOT / "check_mounts.in").read_text().replace("@LIBDIR@", library)
        before, imports, after = text.partition("try:\n")
        self._start.write_text(f"{before}sys.path.append({_NAGIOSPLUGIN!r})\n{imports}{after}")

    def command(self, *arguments: str) -> list[str]:
        return [*self._before, "-I", "-S", str(self._start), *arguments]

    def floor(self, code: str = "pass") -> list[str]:
        """The interpreter alone."""
        return [*self._before, "-I", "-S", "-c", code]

    def modules(self, command: Sequence[str]) -> dict[str, float]:
        """Those that its processes load, each for itself, but for what this
        host's site-packages load (sitecustomize, .pth files): os and what that needs."""
        found, floor = counts.modules(command), counts.modules(self.floor("import site; site.main()"))
        ours = [name for name in found if name.partition(".")[0] == "check_mounts"]
        others = [name for name in found if name not in {*ours, *floor}]
        print("modules of others:", *sorted(others))
        return {"modules of ours": len(ours), "modules of others": len(others)}

    def counts(self, command: Sequence[str]) -> Counts:
        return counts.traced(self._place / "trace", command)


@pytest.fixture(scope="module", params=_pythons(), ids=lambda path: path.replace("/bin/python3", ""))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(request.param, tmp_path_factory.mktemp("counts"))


def compare(run: str, measure: Callable[[], dict[str, float]]) -> None:
    """This host may be late, and then a process waits, or looks, once more; but not each time."""
    most, least = MOST[run], dict[str, float]()
    for _ in range(3):
        for what, number in measure().items():
            least[what] = min(number, least.get(what, number))
        if all(least[what] <= most[what] for what in most):
            break
    print(f"{run}: {least}")
    assert {what: number for what, number in least.items() if number > most[what]} == {}, (least, most)
    assert least.keys() == most.keys()


def _mount(mounts: Mounts, numbers: Iterable[int]) -> int:
    """Mount them. Returns by how many bytes the mount table grows."""
    before = len(Path("/proc/self/mountinfo").read_bytes())
    for number in numbers:
        mounts.tmpfs(str(number))
    return len(Path("/proc/self/mountinfo").read_bytes()) - before


def _per_mount(few: Counts, many: Counts, added: int) -> dict[str, float]:
    more = MANY - FEW
    return {
        "calls of a probe": round((many.probes - few.probes) / more),
        "calls per mount": round((many.work - few.work) / more),
        "readings of the table": round((many.bytes_of_tables - few.bytes_of_tables) / added, 1),
    }


def _start_of(few: Counts, many: Counts) -> int:
    """The calls that do not grow with the number of mounts."""
    return round(few.work - (many.work - few.work) * FEW / (MANY - FEW))


def _kilobytes(run: Counts, floor: Counts) -> float:
    return max(0, round((run.bytes_of_files - floor.bytes_of_files) / 1024))


@pytest.mark.root
def test_what_a_run_costs(program: Program, mounts: Mounts, plugin: Plugin) -> None:
    command = program.command("-p", f"{mounts.base}/*", "--max-workers", "1", "--state-dir", str(plugin.state_dir))
    _mount(mounts, range(FEW))
    # The first run compiles.
    found = program.modules(command)
    runs = [(program.counts(program.floor()), program.counts(command)) for _ in range(3)]
    added = _mount(mounts, range(FEW, MANY))

    def measure() -> dict[str, float]:
        (nothing, few), many = runs.pop(), program.counts(command)
        return (
            found
            | _per_mount(few, many, added)
            | {
                "processes": many.processes,
                "calls of the start": _start_of(few, many) - nothing.work,
                "kB of files": _kilobytes(few, nothing),
            }
        )

    compare("one-shot", measure)


def test_what_cached_costs(program: Program) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as place:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        status_file.write(f"{place}/status", 0, [b"MOUNTS OK - 1 mount checked\n"] * 4, now - 7, now + 3600)
        command = program.command("--cached", f"--cache={place}/status")
        found = program.modules(command)

        def measure() -> dict[str, float]:
            run, nothing = program.counts(command), program.counts(program.floor())
            return found | {
                "processes": run.processes,
                "calls": run.work - nothing.work,
                "kB of files": _kilobytes(run, nothing),
            }

        compare("cached", measure)


def _passes(trace: Path, number: int, daemon: Daemon) -> list[Counts]:
    """What each of so many passes costs, from SIGUSR1 to SIGUSR1."""
    before = trace.read_text("utf-8", "replace").count("--- SIGUSR1 ")
    for _ in range(number + 1):
        daemon.check()
    until(lambda: trace.read_text("utf-8", "replace").count("--- SIGUSR1 ") == before + number + 1)
    parts = trace.read_text("utf-8", "replace").split("--- SIGUSR1 ")[before + 1 :]
    return [counts.counted(part.splitlines()) for part in parts[:number]]


@pytest.mark.root
def test_what_a_pass_costs(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    _mount(mounts, range(FEW))
    trace, daemon.interval = tmp_path / "trace", 3600.0
    daemon.start("--max-workers", "1", wrapper=counts.strace(trace))
    few = _passes(trace, 3, daemon)
    added = _mount(mounts, range(FEW, MANY))
    daemon.until(lambda result: result.count("ok") == MANY)
    many = _passes(trace, 3, daemon)

    def measure() -> dict[str, float]:
        one, other = few.pop(), many.pop()
        return _per_mount(one, other, added) | {
            "processes": one.processes,
            "calls": _start_of(one, other),
            "kB of files": round(one.bytes_of_files / 1024),
        }

    compare("pass", measure)
