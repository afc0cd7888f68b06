"""sd_notify(3) without libsystemd: tells systemd that the daemon is ready and well, and its status.

Import budget: ``os``, ``socket``, ``time``. Without NOTIFY_SOCKET everything here does nothing, and
nothing here ever blocks or raises: the checks do not depend on systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from check_mounts import text
from check_mounts.typed import Optional

# In characters, of up to four bytes each: systemd ignores a message of more than 4,096 bytes
# (NOTIFY_BUFFER_MAX).
_LONGEST_STATUS = 1000
_NO_WATCHDOG = 2**64 - 1  # USEC_INFINITY
_LONGEST_EXTENSION = 2**63 - 1


class Notifier:
    """Sends messages to the socket that NOTIFY_SOCKET names. WATCHDOG_USEC and WATCHDOG_PID tell
    how often systemd expects a message (sd_watchdog_enabled(3)).

    Make this object in the process that systemd regards as the main one. A value that makes no
    sense counts as not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: Optional[socket.socket] = None
        self._interval: Optional[float] = None
        if self._address is None:
            return
        try:
            # Close-on-exec, like every descriptor that Python makes. Not connected: systemd may
            # replace its socket, and a connected one would still send to the old socket.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return
        self._interval = _interval(environment)

    @property
    def watchdog_interval(self) -> Optional[float]:
        """How often to call :meth:`watchdog`, in seconds: half of the time that systemd waits for a
        message. None where systemd does not wait."""
        return self._interval

    def ready(self, status: str) -> None:
        """Say that the start, or the reload, is complete."""
        self._tell(b"READY=1\n" + _status(status))

    def status(self, status: str) -> None:
        """Set the text that `systemctl status` shows."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """Say that a reload has begun; :meth:`ready` must follow. With Type=notify-reload systemd
        tells reloads apart by the time in the message."""
        self._tell(b"RELOADING=1\nMONOTONIC_USEC=%d" % (time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self, status: str) -> None:
        """Say that the daemon has begun to end."""
        self._tell(b"STOPPING=1\n" + _status(status))

    def extend(self, seconds: float) -> None:
        """Ask for so much more time from now on, for a start, a reload or a stop that goes on. What
        the unit allows by itself (TimeoutStartSec=, TimeoutStopSec=) becomes no shorter."""
        self._tell(b"EXTEND_TIMEOUT_USEC=%d" % min(_LONGEST_EXTENSION, int(seconds * 1e6)))

    def watchdog(self) -> None:
        """Say that all is well."""
        self._tell(b"WATCHDOG=1")

    def _tell(self, message: bytes) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            # A datagram is sent as a whole or not at all; a full queue gives EAGAIN and no wait.
            self._socket.sendto(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except OSError:
            pass


def _address(word: str) -> Optional[bytes]:
    """The address of an AF_UNIX socket: a path, or ``@`` and a name in the abstract namespace. None
    where the word is neither."""
    if len(word) < 2 or word[0] not in "/@" or "\0" in word:
        return None
    try:
        address = os.fsencode(word)
    except UnicodeEncodeError:  # cannot come from a real environment
        return None
    return b"\0" + address[1:] if word[0] == "@" else address


def _interval(environment: Mapping[str, str]) -> Optional[float]:
    microseconds = _number(environment.get("WATCHDOG_USEC", ""))
    if not microseconds or microseconds >= _NO_WATCHDOG:
        return None
    # Without a pid the value is meant for any process that reads it; with a pid that is not ours,
    # for an ancestor of this process.
    if "WATCHDOG_PID" in environment and _number(environment["WATCHDOG_PID"]) != os.getpid():
        return None
    return microseconds / 2e6


def _number(word: str) -> Optional[int]:
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None


def _status(status: str) -> bytes:
    """The assignment of the status, on one line: a newline would begin another assignment."""
    return b"STATUS=" + text.clipped(text.one_line(status), _LONGEST_STATUS).encode("utf-8")
