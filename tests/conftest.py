"""Real mounts in a mount namespace of the tests' own, a FUSE server that falls silent on command,
and runs of the plugin."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

import hypothesis
import pytest

from check_mounts.checks.sandbox import NOTE
from check_mounts.clocks import after
from check_mounts.passive import Destination, Refused, Undelivered
from check_mounts.passive import Result as Submitted
from check_mounts.passive.delivery import Delivery
from check_mounts.system import processes
from check_mounts.system.workers import Event, Pool
from tests import kernel, slow
from tests.kernel import runs_alive, workers_alive

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
CLONE_NEWNS = 0x20000
MNT_DETACH = 2
RUNS_THE_PROGRAM = {"plugin", "mounts", "fuse", "hung", "daemon", "public", "stack"}
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_Value = TypeVar("_Value")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: mounts real filesystems, which only root may; skipped for everybody else")
    config.addinivalue_line(
        "markers", "monitoring: runs real monitoring software, unpacked by make .venv/monitoring/root"
    )
    config.addinivalue_line("markers", "packages: installs in a fresh Debian, made by make .venv/fresh/root")
    config.addinivalue_line("markers", "guest: boots a guest, see tests/lab/README.md")
    config.addinivalue_line("markers", "slow: listed in slow.txt; make check leaves it out")
    config.addinivalue_line(
        "markers", "program: runs the program with the interpreter that users have, /usr/bin/python3"
    )
    # What nohup and a shell's background ignore, whoever is started here would ignore, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is a matter of what else this host does.
    slow = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("patient")
    if os.geteuid() == 0:
        # From here on no mount of a test is seen outside, and none outlives the tests.
        if _libc.unshare(CLONE_NEWNS) != 0:
            raise pytest.UsageError("unshare(CLONE_NEWNS) failed: real mounts need CAP_SYS_ADMIN")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    elif _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise pytest.UsageError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seconds = slow.slow()
    weights: dict[Path, dict[str, float]] = collections.defaultdict(dict)
    for item in items:
        name = item.name.partition("[")[0]
        weights[item.path][name] = seconds.get(name, 0.0)
        if name in seconds:
            item.add_marker(pytest.mark.slow)
        if not RUNS_THE_PROGRAM.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.program)
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="root only"))
    if hasattr(config, "workerinput"):  # several files at once: first what takes longest
        items.sort(key=lambda item: -sum(weights[item.path].values()))


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for an event that the kernel offers no handle for, on a host that has other things to do
    as well."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the event did not come"
        time.sleep(0.005)


def events_of(pool: Pool, seconds: float = 20.0) -> list[Event]:
    """The events of all requests that a pool has, as far as they come in time."""
    events: list[Event] = []
    end = after(seconds)
    while pool.busy and time.monotonic() < end:
        events += pool.wait(end)
    return events


def in_time(
    limit: float, attempt: Callable[[], _Value], seconds: Optional[Callable[[_Value], float]] = None, attempts: int = 3
) -> _Value:
    """What an attempt gives that takes less than so long, by the clock or by its own account
    (``seconds``).

    This host may be late, but not each time.
    """
    took: list[float] = []
    while len(took) < attempts:
        began = time.monotonic()
        value = attempt()
        took.append(time.monotonic() - began if seconds is None else seconds(value))
        if took[-1] < limit:
            return value
    raise AssertionError(f"{took} s, none of them less than {limit}")


def undelivered(where: Destination, results: Sequence[Submitted], seconds: float) -> Undelivered:
    """Why results are not delivered, which is to be said in time, whether by the destination or
    once its worker is killed. Where this host was late, a second try is what counts."""

    def attempt() -> Undelivered:
        delivery = Delivery([where], results, seconds)
        while not delivery.done:
            delivery.step(delivery.due)
        (receipt,), left = delivery.finish()
        assert receipt.error is not None
        until(lambda: not processes.reap_ended(left))
        return (Refused if receipt.reached else Undelivered)(receipt.error)

    return in_time(seconds + 0.5, attempt, attempts=2)


def remaining(count: int) -> set[int]:
    """The pids of the workers left, once they are so many: those without work end in a moment of
    their own, and a daemon's come and go."""
    left: set[int] = set()

    def are() -> bool:
        left.clear()
        left.update(workers_alive())
        return len(left) == count

    until(are)
    return left


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = workers_alive() | runs_alive()
    yield
    until(lambda: workers_alive() | runs_alive() <= before)


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    item.stash[_FAILED] = report.failed or item.stash.get(_FAILED, False)


@pytest.fixture(autouse=True)
def _no_failure_leaves_a_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first, so that it is what remains when the test's other fixtures have ended what they
    started. Monitoring software stays: it is there for all tests of the session."""
    began = kernel.now()
    kernel.inherited.clear()
    kernel.inherited.update(kernel.children())
    yield
    if request.node.stash.get(_FAILED, False):
        name = "(check_mounts:" if request.node.get_closest_marker("monitoring") else "("
        for pid in kernel.started_since(began, name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):  # stuck
            until(lambda: not kernel.started_since(began, name), 10)


class Mounts:
    """A directory with mount points; everything mounted through it is unmounted at the end."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._mounted: list[Path] = []

    def point(self, name: str) -> Path:
        path = self.base / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def mount(self, name: str, fs_type: str, source: str = "none", options: str = "", flags: int = 0) -> Path:
        path = self.point(name)
        self.mount_at(path, fs_type, source, options, flags)
        return path

    def mount_at(self, path: Path, fs_type: str, source: str = "none", options: str = "", flags: int = 0) -> None:
        result = _libc.mount(os.fsencode(source), os.fsencode(path), fs_type.encode(), flags, options.encode())
        assert result == 0, f"mount {path}: {os.strerror(ctypes.get_errno())}"
        self._mounted.append(path)

    def tmpfs(self, name: str, options: str = "", source: str = "none") -> Path:
        return self.mount(name, "tmpfs", source, options)

    def bind(self, source: Path, name: str) -> Path:
        return self.mount(name, "none", str(source), flags=4096)

    def adopt(self, path: Path) -> None:
        self._mounted.append(path)

    def detach(self, path: Path) -> None:
        _libc.umount2(os.fsencode(path), MNT_DETACH)

    def close(self) -> None:
        for path in reversed(self._mounted):
            self.detach(path)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    result = Mounts(tmp_path / "mnt")
    yield result
    result.close()


class Fuse:
    """The FUSE server of fuse_server.py, by its commands."""

    def __init__(
        self, mounts: Mounts, enter: Sequence[str] = (), program: Path = ROOT / "tests/fuse_server.py"
    ) -> None:
        self._mounts = mounts
        self._process = subprocess.Popen(
            [*enter, PYTHON, "-I", str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def command(self, *words: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\t".join(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().rstrip("\n")
        assert answer.startswith("ok "), answer
        return answer[3:]

    def mount(self, name: str, **options: object) -> Path:
        path = self._mounts.point(name)
        self.command("mount", name, str(path), *(f"{key}={value}" for key, value in options.items()))
        self._mounts.adopt(path)
        return path

    def hang_anew(self, *names: str) -> None:
        """Hang, whatever was before, with no process stuck in them and nobody who knows of it."""
        for name in names:
            self.command("answer", name)
        remaining(0)
        for name in names:
            self.command("hang", name)

    def waiting(self, name: str) -> int:
        return int(self.command("waiting", name))

    def close(self) -> None:
        """The death of the server closes all connections: whoever hangs gets ENOTCONN."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def fuse(mounts: Mounts) -> Iterator[Fuse]:
    server = Fuse(mounts)
    yield server
    server.close()
    until(lambda: not workers_alive() | runs_alive())


def ageless(output: bytes) -> bytes:
    """What --cached prints, without its age: this host may be late."""
    return re.sub(rb"\A([^|\n]*?) \(as of \d+ s ago\)", rb"\1", output)


def without_note(output: str) -> str:
    """Without the line that says that the tests have a mount namespace of their own."""
    return "\n".join(line for line in output.split("\n") if line != f"note: {NOTE}")


@pytest.fixture
def hung(fuse: Fuse) -> Iterator[Path]:
    """A filesystem that hangs, and answers at the end: what is stuck in it could not be ended
    otherwise."""
    path = fuse.mount("hung")
    fuse.command("hang", "hung")
    yield path
    with contextlib.suppress(AssertionError):
        fuse.command("answer", "hung")
    until(lambda: not workers_alive() | runs_alive())


class Result:
    """What a run printed and how it ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        try:
            self.stdout, self.stderr = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.code = process.returncode
        self.lines = without_note(self.stdout.decode("utf-8")).split("\n")
        first, _, perfdata = self.lines[0].partition(" | ")
        self.verdict = ageless(first.encode()).decode()
        self.numbers = dict(re.findall(r"(\w+)=([\d.]+)", perfdata))

    def line(self, path: object) -> str:
        """The line of -v about a mount point."""
        found = [line for line in self.lines[1:] if f": {path} (" in line or f": {path} missing" in line]
        assert len(found) == 1, self.stdout
        return found[0]

    def count(self, name: str) -> int:
        return int(self.numbers[name])

    def seconds(self) -> float:
        return float(self.numbers["time"])


class Plugin:
    """Runs check_mounts over the mounts below one directory, with a state directory of its own."""

    def __init__(self, base: Path, state_dir: Path) -> None:
        self.base = base
        self.state_dir = state_dir
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(ROOT), *_site()])}

    def start(
        self, *arguments: str, below: bool = True, state: bool = True, wrapper: Sequence[str] = (), **options: object
    ) -> subprocess.Popen[bytes]:
        command = [PYTHON, "-m", "check_mounts", *arguments]
        if below:
            command += ["-p", f"{self.base}/*"]
        if state:
            command += ["--state-dir", str(self.state_dir)]
        options.setdefault("env", self.environment)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([*wrapper, *command], **options)  # type: ignore[call-overload,no-any-return]

    def __call__(self, *arguments: str, **options: object) -> Result:
        return Result(self.start(*arguments, **options))  # type: ignore[arg-type]


def _site() -> list[str]:
    """Where nagiosplugin is, for the interpreter that users have."""
    import nagiosplugin

    return [str(Path(nagiosplugin.__file__).parent.parent)]


def without(directory: Path, library: str) -> Path:
    """A directory for PYTHONPATH that hides a library, wherever this host has it."""
    directory.mkdir()
    said = f"No module named {library!r}"
    (directory / f"{library}.py").write_text(f"raise ModuleNotFoundError({said!r}, name={library!r})\n")
    (directory / "__pycache__").touch()  # nothing is written here
    return directory


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "mnt", tmp_path / "state")


@pytest.fixture
def strict_ssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what Python 3.13 has for a default, also where this one is older."""
    real = ssl.create_default_context

    def strict(*arguments: Any, **more: Any) -> ssl.SSLContext:
        context = real(*arguments, **more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that everybody may read, with a copy of the program: the checkout may lie where
    only root gets in."""
    import tempfile

    import nagiosplugin

    path = Path(tempfile.mkdtemp(prefix="check_mounts-test-", dir="/tmp"))
    path.chmod(0o755)
    shutil.copytree(ROOT / "check_mounts", path / "check_mounts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        Path(nagiosplugin.__file__).parent, path / "nagiosplugin", ignore=shutil.ignore_patterns("__pycache__")
    )
    for item in path.rglob("*"):
        item.chmod(0o755 if item.is_dir() else 0o644)
    yield path
    shutil.rmtree(path)
