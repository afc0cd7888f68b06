"""This process and others, as procfs and the kernel know them: state, start and end.

Import budget: ``os``; ctypes through syscalls. The only file of another process that is read here
is ``stat``: reading it waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable

from check_mounts.system import syscalls
from check_mounts.typed import Optional

_SIGKILL = 9  # signal would import enum
# The procfs that shows the PID namespace of this process.
OWN = "/proc"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit at once if the parent has died
    already.

    Call this again after each change of ids, because that clears the setting (PR_SET_PDEATHSIG in
    prctl(2))."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
    except OSError:
        pass  # only a filter of system calls refuses it: then we notice the parent's death by ourselves
    if os.getppid() != parent:
        os._exit(0)


def survive_shutdown() -> None:
    """Have systemd spare this process when it kills all others at the end of a shutdown. systemd
    does that only for processes whose real uid is root's.

    A process that hangs in a filesystem heeds no signal, and systemd-shutdown waits for it: 90 s
    after SIGTERM and 90 s after SIGKILL. systemd-shutdown does not wait for a process whose
    ``argv[0]`` begins with `@` (https://systemd.io/ROOT_STORAGE_DAEMONS, ``ignore_proc`` in
    src/shared/killall.c). Nothing changes for a process that is not stuck: it ends with its parent.
    Best effort: without /proc the command line stays as it is."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The name in parentheses may hold anything; arg_start is field 48 (proc_pid_stat(5)), 0
            # where the kernel does not say.
            arg_start = int(file.read().rpartition(b")")[2].split()[48 - 3])
        # Not through a pointer: if the address is not writable, this call fails, but a store
        # through a pointer would kill the process.
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            if arg_start:
                os.pwrite(memory, b"@", arg_start)
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError, OverflowError):
        pass


def reap_ended(pids: Iterable[int]) -> list[int]:
    """Reap the children that have ended; return the others."""
    return [pid for pid in pids if not reap(pid)]


def reap(pid: int) -> bool:
    """Reap a child if it has ended; return whether it has.

    This child and no other: waitpid(-1) would also reap the workers of the pools."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # SIGCHLD is ignored, as our caller has set it: the kernel reaps
        return True
    except OSError:  # try again later
        return False


def kill(pid: int) -> None:
    """Send SIGKILL to a child that is not reaped yet, so that the pid is still its own; do not
    wait. It may have ended already, or run as a user whose processes we may not kill (EPERM)."""
    try:
        os.kill(pid, _SIGKILL)
    except OSError:
        pass


def process_start(pid: int, procfs: str = OWN) -> Optional[int]:
    """When a process started, in clock ticks after boot; None for one that has ended or is a
    zombie. ``pid`` is its ID in the PID namespace of ``procfs``."""
    fields = _stat_fields(pid, procfs)
    return None if len(fields) < 20 or fields[0] in (b"Z", b"X") else int(fields[19])


def is_held(pid: int) -> bool:
    """Whether a process is in a system call that signals do not interrupt. It may end with that
    call, or never."""
    return _stat_fields(pid)[:1] == [b"D"]


def is_runnable(pid: int) -> bool:
    """Whether a process runs, or waits for a processor and nothing else."""
    return _stat_fields(pid)[:1] == [b"R"]


def own_start() -> int:
    """When this process started, as in :func:`process_start`; 0 where procfs does not say."""
    return itself()[1]


def itself(procfs: str = OWN) -> tuple[int, int]:
    """The ID of this process in the PID namespace of a procfs, and when it started, as in
    :func:`process_start`; zeroes where procfs does not say. Each worker calls it, and keeps 30 kB
    less than with that function."""
    try:
        fd = os.open(f"{procfs}/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    data = os.read(fd, 4096)
    os.close(fd)
    return int(data[: data.index(b" ")]), int(data[data.rfind(b")") + 2 :].split(b" ", 20)[19])


def _stat_fields(pid: int, procfs: str = OWN) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; empty where the process does not exist.

    Only ``stat`` is read: ``cmdline`` of a process in state D waits for its memory map's lock
    (proc_pid_stat(5) is safe)."""
    try:
        fd = os.open(f"{procfs}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, 4096)
    except OSError:  # ESRCH: it ended between the two calls
        return []
    finally:
        os.close(fd)
    # The second field is the name in parentheses, which may hold spaces and parentheses.
    return data[data.rfind(b")") + 1 :].split()


def here(procfs: str = OWN) -> str:
    """The boot ID and the pid namespace, between which a pid is unique. In another namespace, such
    as that of a container with the same directory, the pid belongs to another process. With
    ``procfs`` it is the namespace that this shows, whose process 1 must be visible; otherwise the
    number of that procfs stands for it."""
    try:
        # In binary: a file opened as text needs a codec, which Python would load from a file.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = (file.read() or b"").decode("ascii").strip()
        if procfs == OWN:
            return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
        try:
            return f"{boot} {os.stat(f'{procfs}/1/ns/pid').st_ino}"
        except OSError:  # no CAP_SYS_PTRACE
            return f"{boot} {os.stat(procfs).st_dev}"
    except (OSError, ValueError):
        return "- -"
