"""What /proc says about another process, read so that it waits for nothing that the process may
hold.

Never read here: cmdline, environ, maps, smaps, numa_maps, map_files, mem. They wait for the lock of
the process's memory map (mmap_lock), which a thread holds that hangs in mmap(2), for example.
``stack`` and ``syscall`` take another lock (lock_trace in fs/proc/base.c: exec_update_lock), which
a process holds that hangs while execve(2) closes its files; on Linux 6.18 ``stat``, ``wchan`` and
all links take it, too (measured). A worker that waits for it can be killed. ``status`` and
``cgroup`` take neither.

``fdinfo`` of an epoll takes a lock that a process holds which asks a hung file whether it is ready
(ep_show_fdinfo in fs/eventpoll.c), and that wait can not be killed: so it is read only where the
link says that the descriptor is on a filesystem. The text of links comes from the kernel's own
names (d_path); no filesystem is asked for it.

Import budget: ``os``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from check_mounts.typed import NamedTuple, Optional

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in include/linux/sched.h
_FRAME = re.compile(rb"(?:\[<[0-9a-fx]*>\] )?([A-Za-z_][A-Za-z0-9_]*)(?:\.[A-Za-z0-9_.]*)?(?:\+0x.*)?\Z")


class Stat(NamedTuple):
    """What is used of proc_pid_stat(5). ``processor`` is the one it last ran on."""

    name: bytes
    state: str
    parent: int
    threads: int
    start_time: int
    is_kernels: bool
    processor: int


def pids() -> list[int]:
    """The processes that we see. Raises OSError."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def open_directory(path: str, beside: Optional[int] = None) -> int:
    """A descriptor of a directory of procfs. As long as it is open, it names the same process: once
    that has ended, nothing can be read through it. Raises OSError."""
    return os.open(path, _FLAGS | os.O_DIRECTORY, dir_fd=beside)


def content(directory: Optional[int], name: str, most: int = 16384) -> bytes:
    """The beginning of a file of procfs; empty if it cannot be read. ``name`` is in this directory,
    or without one a path."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def link(directory: int, name: str) -> str:
    """The text of a link of procfs; empty if it cannot be read."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


def state_of(directory: int) -> Optional[Stat]:
    """The state of a process or thread; None if it has ended."""
    data = content(directory, "stat", 4096)
    begin, end = data.find(b"("), data.rfind(b")")
    fields = data[end + 2 :].split()
    if begin < 0 or end < begin or len(fields) < 37:
        return None
    flags = int(fields[6])
    return Stat(
        name=data[begin + 1 : end],
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        threads=int(fields[17]),
        start_time=int(fields[19]),
        is_kernels=bool(flags & _KERNEL_THREAD),
        processor=int(fields[36]),
    )


def status_field(data: bytes, name: bytes) -> bytes:
    """A field of proc_pid_status(5); empty without it. A name cannot break a line: the kernel
    escapes newlines in it."""
    at = data.find(b"\n" + name + b":")
    return b"" if at < 0 else data[at + len(name) + 2 : data.find(b"\n", at + 1)].strip()


def uid_of(status: bytes) -> int:
    """The effective user; -1 if it is not known. The owner of /proc/PID would be root for a process
    that may not be traced."""
    fields = status_field(status, b"Uid").split()
    return int(fields[1]) if len(fields) == 4 else -1


def is_in_execve(pid: int) -> bool:
    """Whether a process has no program, no library and no data at the moment, but a stack: so it is
    while execve(2) closes files, after it has made the new memory (begin_new_exec in fs/exec.c)."""
    try:
        directory = open_directory(f"/proc/{pid}")
    except OSError:
        return False
    with closing(directory):
        status = content(directory, "status")
    return all(status_field(status, name) == b"0 kB" for name in (b"VmExe", b"VmLib", b"VmData"))


def switches(directory: int) -> int:
    """How often a thread has gone to sleep or was made to: the same as long as it sleeps. -1 if it
    cannot be read."""
    status = content(directory, "status")
    words = [status_field(status, name) for name in (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")]
    return sum(map(int, words)) if all(words) else -1


def mount_id(fdinfo: int, number: str) -> Optional[int]:
    """The mount that a descriptor is on; None if it was closed."""
    data = content(fdinfo, number, 4096)
    at = data.find(b"mnt_id:")
    if at < 0:
        return None
    word = data[at + 7 : data.find(b"\n", at)].strip()
    return int(word) if word.isdigit() else None


def knows_9p() -> bool:
    """Whether the kernel can have a 9p filesystem: opening a link that leads to one asks its
    server, and nothing ends that wait (d_weak_revalidate)."""
    with closing(open_directory("/proc")) as proc:
        known = content(proc, "filesystems")
    return not known or b"\t9p\n" in known


def mount_of_link(process: int, name: str) -> Optional[int]:
    """The mount that a link of a process leads to; None if that cannot be told. Not to be asked
    where the kernel knows 9p: the link is opened with O_PATH, which follows no path, and asks no
    server of another type (NFS looks at a counter in its memory, nfs_weak_revalidate)."""
    try:
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=process)
    except OSError:
        return None
    try:
        with closing(open_directory("/proc/self/fdinfo")) as infos:
            return mount_id(infos, str(fd))
    except OSError:
        return None
    finally:
        os.close(fd)


def functions(directory: int, name: str) -> list[str]:
    """The kernel functions that ``stack`` or ``wchan`` name, the innermost first."""
    matches = (_FRAME.match(line) for line in content(directory, name).split(b"\n"))
    return [match[1].decode("ascii") for match in matches if match is not None]


def arguments(directory: int) -> Optional[list[int]]:
    """The number of the system call that a thread waits in, and its six arguments; None if it is in
    none (a page fault), or if that cannot be read."""
    words = content(directory, "syscall", 4096).split()
    try:
        return [int(words[0]), *(int(word, 16) for word in words[1:7])] if len(words) == 9 else None
    except ValueError:
        return None


def threads(directory: int, most: int) -> Iterator[tuple[int, int]]:
    """The threads of a process, at most so many: their IDs, and a descriptor of the directory of
    each, which is closed afterwards."""
    try:
        tasks = open_directory("task", directory)
    except OSError:
        return
    try:
        for name in os.listdir(tasks)[:most]:
            try:
                thread = open_directory(name, tasks)
            except OSError:  # it has ended
                continue
            try:
                yield int(name), thread
            finally:
                os.close(thread)
    except OSError:
        return
    finally:
        os.close(tasks)


def is_open(directory: int, number: int) -> bool:
    """Whether a process has a descriptor of this number."""
    return bool(link(directory, f"fd/{number}"))


def first_alive(process: int) -> int:
    """A descriptor of the directory of a thread that lives on, of a process whose main thread has
    ended: /proc/PID/fd is that of the main thread, and then empty. -1 without such a thread."""
    for _, thread in threads(process, 1000):
        found = state_of(thread)
        if found is not None and found.state not in ("Z", "X"):
            return os.dup(thread)
    return -1


@contextlib.contextmanager
def closing(directory: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield directory
    finally:
        os.close(directory)
