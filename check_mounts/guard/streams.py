"""An output of a watched run, on its way to the caller.

Import budget: ``os``."""

import os

_PIPE_BUF = 4096  # bytes that a pipe takes as a whole (limits.h)


class Stream:
    """One output of the child: what came from its pipe, and has not been written yet."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        os.set_blocking(source, False)
        # Taking bytes from its beginning copies nothing; the JSON of many mounts has megabytes.
        self.waiting = bytearray()
        self.passed = 0  # bytes
        self.is_open, self.is_read = True, True

    def read(self) -> None:
        """Read all data that has come."""
        try:
            while self.is_open:
                data = os.read(self.source, 1 << 16)
                self.is_open = bool(data)
                self.add(data)
        except OSError:  # EAGAIN: nothing has come; any other error: try again next time
            pass

    def add(self, data: bytes) -> None:
        """Add what is written next."""
        if self.is_read:
            self.waiting += data

    def write(self) -> None:
        """Write as much as a pipe takes without blocking. Call this once poll says that there is
        room."""
        try:
            count = os.write(self.target, self.waiting[:_PIPE_BUF])
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ENOSPC, EBADF: nobody reads this; the exit code still tells the state
            self.waiting, self.is_read = bytearray(), False
            return
        del self.waiting[:count]
        self.passed += count
