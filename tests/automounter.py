"""An automounter of the tests' own: the kernel's side of autofs, spoken to as automount(8) and
systemd do (linux/auto_fs.h). So a test can ask whether a mount would expire now, and need not wait
until it does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable
from pathlib import Path

# _IO(0x93, 0x61), _IOWR(0x93, 0x64, unsigned long), _IOW(0x93, 0x66, int)
_FAIL, _SET_TIMEOUT, _EXPIRE_MULTI = 0x9361, 0xC0089364, 0x40049366
# What mounts a type on a path, with options.
Mount = Callable[[Path, str, str, str], object]
# struct autofs_packet_hdr and the token, with which both packets begin that we get.
_HEAD = struct.Struct("=iiI")
_EXPIRE_KINDS = (2, 4, 6)  # autofs_ptype_expire_multi, _expire_indirect, _expire_direct


class Trigger:
    """An autofs trigger, whose daemon this process group is: it may mount on it, and its look-ups
    do not count (autofs_oz_mode). Those of all workers count: each has a session of its own."""

    def __init__(self, mount: Mount, path: Path, timeout: int = 1, kind: str = "direct", more: str = "") -> None:
        self.path = path
        self._packets, end = os.pipe()
        options = f"fd={end},pgrp={os.getpgrp()},minproto=5,maxproto=5,{kind}{more}"
        mount(path, "autofs", "map", options)
        os.close(end)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.set_timeout(timeout)

    def set_timeout(self, seconds: int) -> None:
        """After so many seconds without a look-up, what is mounted here may expire."""
        fcntl.ioctl(self._fd, _SET_TIMEOUT, struct.pack("L", seconds))

    def expires(self, unmount: Callable[[], object] = lambda: None) -> bool:
        """Whether the kernel wants something unmounted now. ``unmount`` may do so; otherwise that
        is refused, and the time until it expires begins anew (autofs_do_expire_multi)."""
        asking = threading.Thread(target=self._ask)
        asking.start()
        wanted = False
        while asking.is_alive():
            asking.join(0.005)
            if select.select([self._packets], [], [], 0)[0]:
                _, kind, token = _HEAD.unpack_from(os.read(self._packets, 1024))
                if kind in _EXPIRE_KINDS:
                    wanted = True
                    unmount()
                fcntl.ioctl(self._fd, _FAIL, token)
        return wanted

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # EAGAIN: nothing expires; else the answer that it got
            fcntl.ioctl(self._fd, _EXPIRE_MULTI, struct.pack("i", 0))

    def close(self) -> None:
        """Let go of it; its mounts are unmounted by those who have mounted them."""
        os.close(self._fd)
        os.close(self._packets)
