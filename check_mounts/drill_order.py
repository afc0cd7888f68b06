"""``--pretend ... --for TIME``: ask the daemon for a drill. No mount is probed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from check_mounts import mounttable, text
from check_mounts.checks import checking
from check_mounts.clocks import boottime
from check_mounts.daemon import drill_file
from check_mounts.daemon.drill_file import Order
from check_mounts.guard.notes import Notes
from check_mounts.judging import drilling
from check_mounts.model import Condition, Mount, State
from check_mounts.options.drill_options import Drill
from check_mounts.options.refusals import refuse
from check_mounts.options.understood import Options, read_table
from check_mounts.system import directories, processes, replacing
from check_mounts.system.printing import stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Optional

# How long it may take to find out where links lead, in seconds.
_PATIENCE = 5.0


def run(options: Options, drill: Drill, interrupts: Interrupts, noted: Notes) -> int:
    """Ask for the drill, and return the exit code. Raises UsageError."""
    assert drill.seconds is not None
    if os.geteuid() != 0:
        refuse("--for", "only root can start a drill in the daemon; without --for, a single run pretends by itself")
    if options.filters.mount_points:
        refuse("--for", "goes without MOUNTPOINT: the daemon knows what it checks")
    mounts = read_table(options)[0]
    os.chdir("/")
    noted.until(time.monotonic() + 2 * _PATIENCE)
    conditions = _conditions(options, drill, mounts, interrupts)
    why = checking.may_hang(drill.cache, mounts, frozenset(mounttable.visible(mounts)))
    if why is not None:
        refuse("--cache", why)
    pid = _hand_over(drill, conditions)
    lasts = text.seconds_words(drill.seconds)
    named = ", ".join(f"{text.printable(point)}={each.value}" for point, each in conditions.items())
    words = f"the daemon (pid {pid}) was asked for a drill of {lasts}: {named}; its log says when it begins and ends"
    write(text.encoded(f"MOUNTS OK - {text.one_line(words)}\n", stdout_encoding()), interrupts)
    return State.OK.value


def _conditions(
    options: Options, drill: Drill, mounts: Sequence[Mount], interrupts: Interrupts
) -> dict[bytes, Condition]:
    """The pretended conditions, by mount points as the kernel spells them. Raises UsageError."""
    found = checking.look_up(options.check, mounts, None, time.monotonic() + _PATIENCE, interrupts)
    ready = checking.with_leads(options.check, found)
    known = {mount.mount_point for mount in mounts}
    known |= {*drilling.points(options.demands.expected), *drilling.points(ready.demands.expected)}
    conditions = {}
    for path, (name, condition) in drill.pretended.by_path().items():
        if path not in known and name not in known:
            refuse("--pretend", drilling.unknown(name, known))
        conditions[path if path in known else name] = condition
    return conditions


def _hand_over(drill: Drill, conditions: dict[bytes, Condition]) -> int:
    """Write the order, and wake the daemon. Returns its process ID. Raises UsageError."""
    assert drill.seconds is not None
    path, _, name = drill.cache.rpartition("/")
    shown, none = text.printable_argument(drill.cache), "no daemon keeps it up to date"
    try:
        directory = directories.open_directory(path or "/", rooted=True, make=False)
    except directories.Missing:
        refuse("--cache", f"{shown}: {none}")
    except directories.Unusable as error:
        refuse("--cache", f"{text.printable_argument(path or '/')}: {error}")
    try:
        pid = _pid_of_daemon(directory, name)
        start = None if pid is None else processes.process_start(pid)
        if pid is None or start is None:
            refuse("--cache", f"{shown}: {none}, or it is in another container")
        order = Order(drill_file.address(pid, start), boottime(), drill.seconds, conditions)
        replacing.replace_in(directory, name + drill_file.SUFFIX, drill_file.compose(order), 0o600)
        _wake(pid, start)
        return pid
    except (OSError, ValueError) as error:
        refuse("--cache", f"{shown}{drill_file.SUFFIX}: {text.error_of(error)}")
    finally:
        os.close(directory)


def _pid_of_daemon(directory: int, name: str) -> Optional[int]:
    """The process that holds the lock of the result; None without one. Raises OSError."""
    try:
        directories.check_unlocked(f"{name}.lock", directory)
    except directories.Held as held:
        return held.pid or None
    return None


def _wake(pid: int, start: int) -> None:
    """Have the daemon look at the file now. Without the signal, it looks after its next pass."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # before Linux 5.3
        return
    try:
        # A daemon that is just starting does not catch the signal yet, which would end it.
        if processes.process_start(pid) == start and _catches(pid, signal.SIGUSR1):
            signal.pidfd_send_signal(fd, signal.SIGUSR1)
    except OSError:
        pass
    finally:
        os.close(fd)


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal (``SigCgt`` in proc_pid_status(5))."""
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        caught = os.read(fd, 1 << 16).partition(b"\nSigCgt:")[2].split(b"\n", 1)[0]
        return bool(int(caught, 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        return False
    finally:
        os.close(fd)
