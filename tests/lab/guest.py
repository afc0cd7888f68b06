"""Boot a user-mode Linux guest, run one command in it, collect what it leaves.

The guest needs neither root nor KVM and boots in about two seconds. It sees the host's ``/`` (same
Python, same checkout) with a tmpfs laid over it, has a real NFS, CIFS and 9p client, and may do to
its kernel what it likes.

    python -m tests.lab.guest COMMAND...     one command
    python -m tests.lab.guest --shell        an interactive shell (``make lab``: one with the zoo
                                             mounted)
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Optional

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
LAYER = CHECKOUT / ".venv" / "lab" / "root"
MEMORY_MIB = 1024


class Failure(Exception):
    """A guest that did not do what it was for, or that could not be had; the message says why."""


@dataclasses.dataclass(frozen=True)
class Result:
    """``status`` is the command's exit status, None where it did not get that far. ``console`` is
    what the kernel had to say."""

    status: Optional[int]
    output: str
    console: str
    timed_out: bool
    files: Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class Machine:
    """How a kernel is started. Both functions get the directory that is shared with it."""

    command: Callable[[Path], list[str]]
    environment: Callable[[Path], Mapping[str, str]]


def run(
    command: Sequence[str],
    timeout: float,
    environment: Optional[Mapping[str, str]] = None,
    machine: Optional[Machine] = None,
) -> Result:
    """Run a command in a guest of its own, for ``timeout`` seconds at the most; then the guest is
    ended.

    The command's working directory is the checkout. What it writes into ``/run/lab`` is in
    ``files``. Raises OSError where the guest cannot be started. ``machine`` is user-mode Linux
    unless told."""
    with _shared() as share:
        _write_command(share, command, environment or {})
        console, timed_out = _boot(machine or USER_MODE, share, timeout)
        status = share / "status"
        return Result(
            status=int(status.read_text()) if status.exists() and status.read_text().strip() else None,
            output=_text(share / "output"),
            console=console,
            timed_out=timed_out,
            files={
                path.name: path.read_bytes() for path in share.iterdir() if path.is_file() and os.access(path, os.R_OK)
            },
        )


def shell(command: Sequence[str] = ("bash", "-i"), environment: Optional[Mapping[str, str]] = None) -> int:
    """An interactive command in a guest, on this terminal. Gives the exit status of the guest's
    kernel."""
    with _shared() as share:
        _write_command(
            share, command, {"TERM": os.environ.get("TERM", "linux"), **(environment or {})}, interactive=True
        )
        process = subprocess.Popen([*_linux(share), "con0=fd:0,fd:1", "loglevel=2"], env=_environment(share))
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _shared() -> Iterator[Path]:
    """A directory shared with the guest, for as long as that lives. SIGTERM and SIGHUP end it as
    SIGINT does: nothing is left."""
    share = Path(tempfile.mkdtemp(prefix="lab-"))
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield share
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(share, ignore_errors=True)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _memory() -> str:
    """A directory for the file that is the guest's memory, which it maps executable."""
    for place in ("/dev/shm", tempfile.gettempdir()):
        if os.access(place, os.W_OK):
            room = os.statvfs(place)
            if not room.f_flag & os.ST_NOEXEC and room.f_bavail * room.f_frsize > 1.5 * MEMORY_MIB * 2**20:
                return place
    raise OSError(f"neither /dev/shm nor {tempfile.gettempdir()} has {MEMORY_MIB * 3 // 2} MiB for the guest's memory")


def _write_command(
    share: Path, command: Sequence[str], environment: Mapping[str, str], interactive: bool = False
) -> None:
    """What the guest's first process reads: words of a command line must not hold spaces, these
    may."""
    shutil.copy(HERE / "init", share)
    layer = str(LAYER) if LAYER.is_dir() else ""
    settings = {"checkout": str(CHECKOUT), "layer": layer, "interactive": "yes" if interactive else ""}
    (share / "settings").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()))
    assignments = {"HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in assignments.items()]
    (share / "command").write_text("\n".join([*lines, "exec " + shlex.join(command)]) + "\n")


def _processor() -> str:
    """The processor that a user-mode kernel is kept on.

    It runs one process at a time, and follows each by ptrace(2): every system call and page fault
    in it is two switches to another process of the host. Between processors such a switch is an
    interrupt that wakes the other, which costs a host that is a virtual machine itself five times
    as much: 106 us a system call against 21, 370 us a page fault against 80 (measured)."""
    return str(max(os.sched_getaffinity(0)))


def _linux(share: Path) -> list[str]:
    own = LAYER / "usr/bin/linux.uml"
    if not own.exists() and shutil.which("linux.uml") is None:
        raise Failure("there is no linux.uml; 'make zoo' fetches it")
    if " " in str(share):
        raise Failure(f"TMPDIR must not hold a space, the kernel's command line cannot: {share}")
    return [
        "taskset", "-c", _processor(),
        str(own) if own.exists() else "linux.uml",
        f"mem={MEMORY_MIB}M", f"umid={share.name}", f"uml_dir={share}/uml/",
        "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={share}/init", "con=null", "con1=null",
        "ssl=null", "panic=1",
        f"lab_share={share}",
    ]  # fmt: skip


def _environment(share: Path) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": _memory(), "HOME": str(share)}
    if "amx" in Path("/proc/cpuinfo").read_text():
        environment["LD_PRELOAD"] = str(_preload(share))
    return environment


def _preload(share: Path) -> Path:
    library = share / "xstate.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "xstate.c")], check=True)
    return library


USER_MODE = Machine(lambda share: [*_linux(share), "con0=null,fd:1"], _environment)


def _boot(machine: Machine, share: Path, timeout: float) -> tuple[str, bool]:
    """The console's text, and whether the time was up."""
    log = share / "console"
    (share / "uml").mkdir()
    with log.open("wb") as console:
        process = subprocess.Popen(
            machine.command(share),
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=machine.environment(share),
            start_new_session=True,
        )  # fmt: skip
        watchdog = _watchdog(process.pid)
        try:
            process.wait(timeout)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            watchdog.kill()
            watchdog.communicate()
            _end(process)
    return _text(log), timed_out


def _watchdog(group: int) -> subprocess.Popen[bytes]:
    """A process that ends the guest when this one is gone, however it goes: then its standard input
    ends."""
    script = 'read line; kill -s KILL -- "-$1"'
    return subprocess.Popen(["sh", "-c", script, "sh", str(group)], stdin=subprocess.PIPE, start_new_session=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The guest's kernel and all its processes are processes of one session here."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def plainly(main: Callable[[], int]) -> NoReturn:
    """Run a command line and leave; what goes wrong is said in a line, not in a traceback."""
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    except (OSError, Failure) as failure:
        print(f"lab: {failure}", file=sys.stderr)
        status = 3
    sys.exit(status)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests.lab.guest", description="Run a command in a guest.", allow_abbrev=False
    )
    parser.add_argument("--shell", action="store_true", help="on this terminal")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...")
    values = parser.parse_args()
    if values.shell:
        return shell(values.command or ("bash", "-i"))
    if not values.command:
        parser.error("a command is needed, or --shell")
    result = run(values.command, 600)
    print(result.output, end="")
    if result.status is None:
        raise Failure(
            f"the guest did not come to the end{' in time' if result.timed_out else ''}; its console:\n{result.console}"
        )
    return result.status


if __name__ == "__main__":
    plainly(main)
