"""The file that asks the daemon for a drill, beside its result: ``status.drill``.

It holds to which process it is addressed, so it means nothing to the next daemon or after the next
boot; when it was written; how long the drill lasts; and a line for each mount. Only root can have
written it, in a directory that is the daemon's alone."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from check_mounts import tablelines
from check_mounts.clocks import Boottime, boottime
from check_mounts.model import Condition
from check_mounts.options.drill_values import LONGEST
from check_mounts.system import directories, processes
from check_mounts.typed import NamedTuple, Optional

SUFFIX = ".drill"
# Only a moment passes until the daemon reads it, in seconds. It may be in the middle of a reload.
_FRESH = 300.0
_LARGEST = 64 << 10
_FORM = re.compile(
    rb"check_mounts drill 1\nto (?P<to>[ -~]{1,200})\nat (?P<at>[0-9]{1,12}\.[0-9]{1,9})\n"
    rb"for (?P<seconds>[0-9]{1,4}\.[0-9]{1,9})\n(?P<mounts>(?:[a-z-]{1,20} /[!-~]*\n)+)\Z"
)
_CONDITIONS = {each.value.encode(): each for each in Condition if each is not Condition.OK}


class Refused(Exception):
    """Why a file is no order, in words."""


class Order(NamedTuple):
    """A drill that the daemon should hold, for so many ``seconds``. ``to``: the daemon, as
    :func:`address` names it. ``at``: when it was written."""

    to: str
    at: Boottime
    seconds: float
    conditions: Mapping[bytes, Condition]


# What distinguishes a file from another one in its place.
Identity = tuple[int, ...]


def address(pid: int, start: int) -> str:
    """The name of a process, for all times."""
    return f"{processes.here()} {pid} {start}"


def compose(order: Order) -> bytes:
    """The content of a file. Raises ValueError if it would be too large."""
    mounts = b"".join(b"%b %b\n" % (each.value.encode(), _escaped(point)) for point, each in order.conditions.items())
    head = f"check_mounts drill 1\nto {order.to}\nat {order.at:.9f}\nfor {order.seconds:.9f}\n"
    data = head.encode("ascii") + mounts
    if len(data) > _LARGEST:
        raise ValueError("too many mount points for one drill")
    return data


def _escaped(point: bytes) -> bytes:
    return b"".join(b"%c" % byte if 32 < byte < 127 and byte != 92 else b"\\%03o" % byte for byte in point)


def parse(data: bytes) -> Order:
    """The inverse of :func:`compose`. Raises Refused."""
    match = _FORM.match(data)
    if match is None:
        raise Refused("it makes no sense")
    conditions = {}
    for line in match["mounts"].split(b"\n")[:-1]:
        name, _, point = line.partition(b" ")
        if name not in _CONDITIONS:
            raise Refused("it names a condition that nobody can pretend")
        conditions[tablelines.unescaped(point)] = _CONDITIONS[name]
    order = Order(match["to"].decode("ascii"), Boottime(float(match["at"])), float(match["seconds"]), conditions)
    if not 0 < order.seconds <= LONGEST:
        raise Refused("its time is more than an hour, or none")
    return order


def check_fresh(order: Order) -> None:
    """Raises Refused for a file that was not written just now."""
    if not 0 <= boottime() - order.at <= _FRESH:
        raise Refused("it was not written just now")


def is_there(directory: int, name: str) -> bool:
    """Whether there is a file. This asks no filesystem that somebody may have mounted on it."""
    try:
        os.close(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
    except OSError:
        return False
    return True


def look(directory: int, name: str) -> Optional[Identity]:
    """The identity of the file; None without a file. Raises OSError."""
    try:
        return _identity(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def read(directory: int, name: str) -> Order:
    """Read a file that only root can have written. Raises Refused."""
    place = os.fstat(directory)
    if place.st_uid not in (0, os.geteuid()) or place.st_mode & 0o022:
        raise Refused("other users can write to its directory")
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is no regular file")
        if status.st_uid != 0:
            raise Refused(f"it belongs to uid {status.st_uid}, and only root can start a drill")
        if status.st_mode & 0o022:
            raise Refused(f"mode {stat.S_IMODE(status.st_mode):04o} lets others write to it")
        data = directories.read_beginning(directory, name, _LARGEST + 1)
    except OSError as error:
        raise Refused(str(error.strerror)) from None
    except directories.Unusable as error:
        raise Refused(str(error)) from None
    return parse(data)
