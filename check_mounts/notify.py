"""sd_notify(3) without libsystemd: tell systemd that we are ready, well, and what we are at.

Import budget: ``os``, ``socket``, ``time``. Without NOTIFY_SOCKET everything here does nothing, and
nothing here ever blocks or raises: whether systemd listens is not what decides about the checks.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Optional

from check_mounts import text

# systemd ignores a message of more than 4,096 bytes (NOTIFY_BUFFER_MAX). A character has four bytes
# at the most.
_LONGEST_STATUS = 1000
_NO_WATCHDOG = 2**64 - 1  # USEC_INFINITY


class Notifier:
    """Who is told is in NOTIFY_SOCKET, for how often in WATCHDOG_USEC and WATCHDOG_PID
    (sd_watchdog_enabled(3)).

    To be made in the process that systemd calls the main one. Values that make no sense are as good
    as none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: Optional[socket.socket] = None
        self._interval: Optional[float] = None
        if self._address is None:
            return
        try:
            # Close-on-exec, as all that Python makes. Not connected: systemd may make its socket
            # again.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return
        self._interval = _interval(environment)

    @property
    def watchdog_interval(self) -> Optional[float]:
        """How often, in seconds, :meth:`watchdog` is to be called: half of what systemd waits. None
        where it does not wait."""
        return self._interval

    def ready(self, status: str) -> None:
        """Started up, or done with reading the configuration again."""
        self._tell(b"READY=1\n" + _status(status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """Reading the configuration again; :meth:`ready` has to follow. The time is what
        Type=notify-reload tells reloads apart by."""
        self._tell(b"RELOADING=1\nMONOTONIC_USEC=%d" % (time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self, status: str) -> None:
        """On the way to the end."""
        self._tell(b"STOPPING=1\n" + _status(status))

    def watchdog(self) -> None:
        """All is well."""
        self._tell(b"WATCHDOG=1")

    def _tell(self, message: bytes) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            # A datagram goes as a whole or not at all; a full queue is EAGAIN and not a wait.
            self._socket.sendto(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except OSError:
            pass


def _address(word: str) -> Optional[bytes]:
    """The address of an AF_UNIX socket: a path, or after ``@`` a name in the abstract namespace.
    None where it is neither."""
    if len(word) < 2 or word[0] not in "/@" or "\0" in word:
        return None
    try:
        address = os.fsencode(word)
    except UnicodeEncodeError:  # no environment holds that
        return None
    return b"\0" + address[1:] if word[0] == "@" else address


def _interval(environment: Mapping[str, str]) -> Optional[float]:
    microseconds = _number(environment.get("WATCHDOG_USEC", ""))
    if not microseconds or microseconds >= _NO_WATCHDOG:
        return None
    # Without a pid it is meant for whoever reads it; with one that is not ours, for a process
    # further up.
    if "WATCHDOG_PID" in environment and _number(environment["WATCHDOG_PID"]) != os.getpid():
        return None
    return microseconds / 2e6


def _number(word: str) -> Optional[int]:
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None


def _status(status: str) -> bytes:
    """An assignment of its own line: a newline in the words would begin another one."""
    return b"STATUS=" + text.clipped(text.one_line(status), _LONGEST_STATUS).encode("utf-8")
