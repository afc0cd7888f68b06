"""Finds the kernel function in which a stuck process waits (/proc/PID/stack).

Import budget: ``os``, ``re``."""

from __future__ import annotations

import os
import re

from check_mounts import text
from check_mounts.typed import Optional

_FRAME = rb"(?:\[<[0-9a-fx]*>\] )?([A-Za-z_][A-Za-z0-9_.]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+.*)?\Z"
# Functions that say nothing: those for sleeping or waiting for a lock, which are the same whatever
# a process waits for, and those at the entry to the kernel.
_GENERIC = (
    r"(__)?(io_|preempt_)?schedule|__switch_to|(__|out_of_line_)?(wait_on_bit|bit_wait)"
    r"|(__|do_)?wait_for_(common|completion)|wait_woken|prepare_to_wait|finish_wait"
    r"|(__|call_|percpu_)?(mutex_lock|down(_|$)|rwsem_|rwbase_|rt_mutex)|__percpu_down"
    r"|(__)?(folio|lock_page|wait_on_page)_|do_syscall|x64_sys_call|__(x64|arm64|se|do|ia32)_sys_"
    r"|entry_|el0|invoke_syscall|ret_from_fork|ret_fast_syscall|system_call"
)


def read_kernel_stack(pid: int, procfs: str = "/proc") -> Optional[str]:
    """Read the name of the kernel function in which process ``pid`` waits: the innermost one that
    is not about sleeping or locks; None if it is not known. ``procfs`` shows the process.

    It comes from /proc/PID/stack, which only root may read and not every kernel has, else from
    /proc/PID/wchan (proc_pid_stack(5), proc_pid_wchan(5)). Call this for our own workers only: the
    kernel takes a lock of the process for it, and a process that hangs in execve(2) holds that
    lock."""
    functions = _read_functions(f"{procfs}/{pid:d}/stack") or _read_functions(f"{procfs}/{pid:d}/wchan")
    telling = [name for name in functions if not re.match(_GENERIC, name)]
    return telling[0] if telling else functions[0] if functions else None


def _read_functions(path: str) -> list[str]:
    """Read the functions that a file names, the innermost first; an empty list if the file cannot
    be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, 16384)
    except OSError:
        return []
    finally:
        os.close(fd)
    matches = (re.match(_FRAME, line) for line in data.split(b"\n"))
    return [match[1].decode("ascii") for match in matches if match is not None]


def stack_words(function: str) -> str:
    """``its probe waits in rpc_wait_bit_killable``."""
    return f"its probe waits in {text.printable_argument(function)}"
