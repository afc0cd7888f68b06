"""The kernel's log: the newest message about a server or a device.

Only a worker reads it. Messages of programs are left out: the kernel gives no program's message its
own facility (devkmsg_write in kernel/printk/printk.c). Some parts of the kernel's messages are
still chosen by users, such as the name of a process; so a message counts only for the server or
device that stands at its beginning, or after fixed words."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Mapping, Sequence

from check_mounts.typed import Optional

_PLACE = "/dev/kmsg"
# Twice the size of the largest record (PRINTK_MESSAGE_MAX in kernel/printk/internal.h).
_RECORD = 8192
# How many records are read at most: the log of a large host has some ten thousand.
_MOST = 500_000
# No message that is older than this counts, in seconds.
_OLDEST = 86400.0
# printk's levels. NFS says as a notice that a server does not respond, xfs that it was mounted.
_WARNING, _NOTICE = 4, 5
_KERNEL = 0  # LOG_KERN
# What speaks of servers (fs/nfs, net/sunrpc, fs/smb, net/ceph, fs/ceph, net/9p, fs/lockd, fs/afs).
_CLIENTS = rb"(?:nfs|NFS|lockd|RPC|CIFS|smb|libceph|ceph|9pnet\w*|9p|kAFS|Lustre\w*)\b[^:]*:"

# Times are in microseconds since boot.
Message = tuple[int, bytes]


def about_server(server: bytes) -> bytes:
    """The pattern of messages about a server."""
    return rb"%s.{0,80}(?<![\w.\-])%s(?![\w\-]|\.\w)" % (_CLIENTS, re.escape(server))


def about_device(device: bytes) -> bytes:
    """The pattern of messages about a device, or about the filesystem on it."""
    name = re.escape(device)
    of_filesystem = rb"[\w\-]+:?[^(:]{0,40}\((?:device )?%s(?: state \w+)?\)" % name
    of_disk = rb"(?:[\w ]+: )?[\w /]*error,? (?:on )?dev %s," % name
    return rb"(?:%s|%s|[\w ]+[\d:]+ \[%s\]|%s: )" % (of_filesystem, of_disk, name, name)


def newest(patterns: Mapping[str, Sequence[bytes]], place: str = _PLACE) -> dict[str, Message]:
    """The newest message for each key. The keys are ours; the patterns match at the beginning.
    Raises OSError if the log may not be read."""
    wanted = {key: re.compile(rb"|".join(some), re.S) for key, some in patterns.items() if some}
    found: dict[str, Message] = {}
    oldest = (time.monotonic() - _OLDEST) * 1e6
    fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for _ in range(_MOST):
            record = _next(fd)
            if record is None:
                break
            parsed = parse(record)
            if parsed is None or parsed[1] < oldest:
                continue
            level, when, words = parsed
            for key, pattern in wanted.items():
                if level <= (_NOTICE if key.startswith("server ") else _WARNING) and pattern.match(words):
                    found[key] = when, words
    finally:
        os.close(fd)
    return found


def _next(fd: int) -> Optional[bytes]:
    """The next record; None at the end. Raises OSError."""
    while True:
        try:
            return os.read(fd, _RECORD) or None
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EPIPE:  # the kernel has overwritten it: the next read gives a later one
                raise


def parse(record: bytes) -> Optional[tuple[int, int, bytes]]:
    """The level, the time and the words of a record of the kernel; None for others.

    Documentation/ABI/testing/dev-kmsg. What cannot be printed, and a backslash, is ``\\x1b``
    there."""
    head, _, rest = record.partition(b";")
    fields = head.split(b",")
    if len(fields) < 3 or not fields[0].isdigit() or not fields[2].isdigit():
        return None
    if int(fields[0]) >> 3 != _KERNEL:
        return None
    words = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), rest.partition(b"\n")[0])
    return int(fields[0]) & 7, int(fields[2]), words
