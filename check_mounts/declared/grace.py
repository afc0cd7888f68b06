"""The boot grace: for some minutes after boot, a declared network mount may not be mounted yet.

systemd mounts these once the network is up, mount(8) may retry in the background, and the daemon is
faster than both."""

from __future__ import annotations

import os
import re

from check_mounts import filesystems
from check_mounts.clocks import Boottime, boottime
from check_mounts.model import BootGrace, ExpectedMount, Mount
from check_mounts.system import processes
from check_mounts.text import seconds_words
from check_mounts.typed import NamedTuple, Optional

_SPAN = re.compile(rb"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)")
# The units of systemd.time(7) that make sense here, in seconds.
_UNITS = {
    **dict.fromkeys((b"us", b"usec"), 1e-6),
    **dict.fromkeys((b"ms", b"msec"), 1e-3),
    **dict.fromkeys((b"", b"s", b"sec", b"second", b"seconds"), 1.0),
    **dict.fromkeys((b"m", b"min", b"minute", b"minutes"), 60.0),
    **dict.fromkeys((b"h", b"hr", b"hour", b"hours"), 3600.0),
    **dict.fromkeys((b"d", b"day", b"days"), 86400.0),
}
# Longer, and systemd does not mean to give up.
_LONGEST = 86400.0


class Grace(NamedTuple):
    """That a mount may be missing until ``until``, and why, in words."""

    until: Boottime
    words: str


def booted(procfs: str = processes.OWN) -> Boottime:
    """When this host was booted, or the container that ``procfs`` shows: that is when its PID 1
    began."""
    start = processes.process_start(1, procfs)
    began = 0.0 if start is None else start / os.sysconf("SC_CLK_TCK")
    # In a time namespace whose clock is behind, PID 1 may seem to begin later than now.
    return Boottime(began if began <= boottime() else 0.0)


def of(expected: ExpectedMount, said: BootGrace) -> Optional[Grace]:
    """The grace that a missing mount still has; None if it has none.

    A mount for which systemd has a time of its own has that in addition."""
    if said.seconds <= 0 or not (said.for_any or is_network(expected)):
        return None
    seconds = said.seconds + (0.0 if said.for_any else _mount_timeout(expected))
    until = Boottime(booted(said.procfs) + seconds)
    if boottime() >= until:
        return None
    return Grace(until, f"not mounted yet, less than {seconds_words(seconds)} after boot")


def is_network(expected: ExpectedMount) -> bool:
    """Whether a declared mount needs the network: it says so, or its type or source does."""
    if expected.remote or b"_netdev" in expected.options or b"_rnetdev" in expected.options:
        return True
    if expected.is_bind:
        return False
    source = expected.source or b""
    types = (expected.fs_type or b"auto").split(b",")
    return any(filesystems.traits(b"fuse." + each).network or _is_network(each, source) for each in types)


def _is_network(fs_type: bytes, source: bytes) -> bool:
    return filesystems.is_network(Mount(0, 0, (0, 0), b"/", b"", (), (), fs_type, source, ()))


def _mount_timeout(expected: ExpectedMount) -> float:
    """The value of ``x-systemd.mount-timeout=``, in seconds; 0 if it is no time, or infinite."""
    values = [
        option.partition(b"=")[2] for option in expected.options if option.startswith(b"x-systemd.mount-timeout=")
    ]
    return _span(values[-1]) if values else 0.0


def _span(value: bytes) -> float:
    """A time span of systemd.time(7) in seconds: ``5min``, ``1h 30s``; 0 if it makes no sense."""
    total, place = 0.0, 0
    while value[place:].strip():
        found = _SPAN.match(value, place)
        if found is None or found[2] not in _UNITS:
            return 0.0
        total, place = total + float(found[1]) * _UNITS[found[2]], found.end()
    return total if total <= _LONGEST else 0.0
