"""Processes that use a mount in each way there is, and bystanders that do not. Imports nothing but
the standard library, because the guest runs it, too.

``python3 -I victims.py DIRECTORY ELSEWHERE BYSTANDERS EACH:USER...`` makes, for each pair, so many
processes of that user for each of WAYS. DIRECTORY is on a mount that answers still, with files
``read``, ``write``, ``open`` and ``mapped`` in it that have two pages each; the bystanders use
files in ELSEWHERE in the same ways. Then it obeys lines on its standard input:

    go        each begins with what hangs, once the mount does
    end       all end, as far as they can

It answers each, and its start, with a line of JSON: at its start ``{WAY: [PID...]}``, with the
bystanders as ``bystander``."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

# The ways to hang, and the ways to hold without a wait.
CERTAIN = ("read", "write", "thread")
PROBABLE = ("look-up", "cwd", "mmap")
HOLDING = ("open", "stands", "runs")
WAYS = (*CERTAIN, *PROBABLE, *HOLDING)
_libc = ctypes.CDLL(None, use_errno=True)


def _fresh(fd: int) -> None:
    """Have the kernel forget the pages of a file, so that it must ask for them again."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _reading(at: str) -> Callable[[], object]:
    fd = os.open(f"{at}/read", os.O_RDONLY)
    _fresh(fd)
    return lambda: os.pread(fd, 1, 4096)


def _writing(at: str) -> Callable[[], object]:
    fd = os.open(f"{at}/write", os.O_RDWR)

    def act() -> None:
        os.pwrite(fd, b"x" * 4096, 0)
        os.fsync(fd)

    return act


def _thread(at: str) -> Callable[[], object]:
    fd = os.open(f"{at}/read", os.O_RDONLY)
    _fresh(fd)

    def act() -> None:
        threading.Thread(target=os.pread, args=(fd, 1, 0)).start()
        signal.pause()

    return act


def _looking_up(at: str) -> Callable[[], object]:
    return lambda: os.stat(f"{at}/new-{os.getpid()}")


def _standing(at: str) -> Callable[[], object]:
    os.chdir(at)
    return lambda: os.stat(f"new-{os.getpid()}")


def _mapping(at: str) -> Callable[[], object]:
    fd = os.open(f"{at}/mapped", os.O_RDONLY)
    # Not by the module mmap, which keeps a descriptor.
    _libc.mmap.restype, _libc.mmap.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4)
    pages = _libc.mmap(None, 8192, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    _fresh(fd)
    os.close(fd)
    return lambda: ctypes.string_at(pages + 4096, 1)


def _open(at: str) -> Callable[[], object]:
    os.open(f"{at}/open", os.O_RDONLY)
    return signal.pause


def _stands(at: str) -> Callable[[], object]:
    os.chdir(at)
    return signal.pause


_MAKERS: dict[str, Callable[[str], Callable[[], object]]] = {
    "read": _reading,
    "write": _writing,
    "thread": _thread,
    "look-up": _looking_up,
    "cwd": _standing,
    "mmap": _mapping,
    "open": _open,
    "stands": _stands,
}
# Each in its turn.
_OF_BYSTANDERS = ("read", "write", "thread", "cwd", "mmap", "open", "stands")


def _forked(way: str, at: str, user: int, ready: int, go: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(15, f"v {way}".encode(), 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # with the one that made it
        os.dup2(2, 1)
        act = _MAKERS[way](at)
        os.write(ready, b".")
        select.select([go], [], [])
        os.write(ready, b".")
        with contextlib.suppress(FileNotFoundError):  # a bystander's, and whoever waits for an answer
            act()
        signal.pause()
    except BaseException as error:
        os.write(2, f"{way}: {error!r}\n".encode())
        os.write(ready, b"!")
    finally:
        os._exit(0)


def main() -> None:
    """See above."""
    at, elsewhere, count, *pairs = sys.argv[1:]
    ready, is_ready = os.pipe()
    go, may_go = os.pipe()
    made: dict[str, list[int]] = {}
    for pair in pairs:
        each, user = map(int, pair.split(":"))
        for way in (way for way in WAYS if way in _MAKERS):
            made.setdefault(way, []).extend(_forked(way, at, user, is_ready, go) for _ in range(each))
    users = [int(pair.split(":")[1]) for pair in pairs]
    made["bystander"] = [
        _forked(_OF_BYSTANDERS[number % len(_OF_BYSTANDERS)], elsewhere, users[number % len(users)], is_ready, go)
        for number in range(int(count))
    ]
    total = sum(map(len, made.values()))
    _await(ready, total)
    _say(made)
    for line in sys.stdin:
        if line == "go\n":
            os.write(may_go, b".")
            _await(ready, total)
        _say(line.strip())
        if line == "end\n":
            break
    for pid in (pid for pids in made.values() for pid in pids):
        os.kill(pid, signal.SIGKILL)
    for pid in (pid for pids in made.values() for pid in pids):
        os.waitpid(pid, 0)


def _await(ready: int, count: int) -> None:
    while count:
        said = os.read(ready, count)
        if b"!" in said:
            sys.exit("a process could not begin")
        count -= len(said)


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
