"""System calls of the main process that fail, one at a time, in the middle of a check: which, how,
and what comes of it.

strace(1) makes them fail; workers are not traced. What the interpreter needs to get as far as the
check is left alone: where nothing was measured yet, nothing can be lost."""

from __future__ import annotations

import collections
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import PYTHON, Plugin, Result

# The process that does the check, whatever watches over it.
_RUN = """
import os, sys
from check_mounts import __main__
try:
    state = __main__._check_unwatched(sys.argv[1:])
except BaseException as error:
    state = __main__._give_up(error)
os._exit(state)
"""
# The check begins with this call: what is before it, is the start.
_BEGIN = re.compile(r"chdir\(\"/\"")
_CALL = re.compile(r"(\w+)\(")

# What the man pages name for a call that was right, and what a filter or a kernel short of memory
# says to any.
_ANY = ("ENOMEM", "EINTR", "EPERM")
_ERRORS: dict[str, tuple[str, ...]] = {
    "clone": ("EAGAIN", "ENOMEM", "EPERM", "ENOSYS"),
    "close": ("EIO", "EINTR", "EBADF"),
    "epoll_create1": ("EMFILE", "ENFILE", *_ANY),
    "epoll_ctl": ("ENOSPC", "EEXIST", "ENOENT", *_ANY),
    "epoll_wait": ("EINVAL", "EBADF", *_ANY),
    "fallocate": ("ENOSPC", "EOPNOTSUPP", "EFBIG", "EIO", *_ANY),
    "fcntl": ("EACCES", "EAGAIN", *_ANY),
    "getdents64": ("EIO", "ENOENT", *_ANY),
    "ioctl": ("ENOTTY", "EINVAL", *_ANY),
    "kill": ("ESRCH", *_ANY),
    "mmap": ("EAGAIN", "ENFILE", "EACCES", *_ANY),
    "openat": ("EMFILE", "ENFILE", "EACCES", "EIO", "ENOENT", *_ANY),
    "pipe2": ("EMFILE", "ENFILE", *_ANY),
    "poll": ("EINVAL", *_ANY),
    "read": ("EIO", "EAGAIN", "EISDIR", *_ANY),
    "unlinkat": ("ENOENT", "EACCES", "EROFS", "EIO", *_ANY),
    "wait4": ("ECHILD", "EINVAL", *_ANY),
    "write": ("EIO", "EAGAIN", "ENOSPC", "EFBIG", *_ANY),
}
# They do not fail, or what fails is the interpreter's own affair.
_NEVER = {
    "exit_group",
    "rt_sigreturn",
    "getpid",
    "brk",
    "futex",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "gettid",
    "getppid",
}


class Fault(NamedTuple):
    """``number``: the how-manyth of these calls it is."""

    call: str
    error: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}:{self.error}:{self.number}"


def command(*arguments: str, before: str = "") -> list[str]:
    """``before``: what is done to the interpreter first."""
    return [PYTHON, "-c", before + _RUN, *arguments]


def strace(*options: str) -> list[str]:
    return ["strace", "-qq", "-e", "signal=none", *options]


def calls(plugin: Plugin, trace: Path, arguments: Sequence[str]) -> list[tuple[str, int]]:
    """(call, how-manyth) of all that the check does, in their order."""
    run(plugin, ["-o", str(trace)], arguments)
    counts: collections.Counter[str] = collections.Counter()
    found, begun = [], False
    for line in trace.read_text("utf-8", "replace").splitlines():
        match = _CALL.match(line)
        if match is not None:
            counts[match[1]] += 1
            begun = begun or bool(_BEGIN.match(line))
            if begun and match[1] not in _NEVER:
                found.append((match[1], counts[match[1]]))
    assert found, "the check has not begun"
    return found


def faults(found: Sequence[tuple[str, int]]) -> Iterator[Fault]:
    """Each call with each of its errors."""
    for call, number in found:
        for error in _ERRORS.get(call, _ANY):
            yield Fault(call, error, number)


def run(plugin: Plugin, options: Sequence[str], arguments: Sequence[str]) -> Result:
    return start(plugin, [*strace(*options), *command(*arguments)])


def start(plugin: Plugin, words: Sequence[str], **options: Any) -> Result:
    environment = {**plugin.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    return Result(
        subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, **options)
    )


def inject(plugin: Plugin, fault: Fault, arguments: Sequence[str], lasting: bool = False) -> Result:
    """``lasting``: from then on each of these calls."""
    when = f"{fault.number}+" if lasting else str(fault.number)
    return run(
        plugin,
        ["-o", "/dev/null", "-e", f"trace={fault.call}", "-e", f"inject={fault.call}:error={fault.error}:when={when}"],
        arguments,
    )
