"""The file of the metrics, which is written by a worker that can be given up."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from check_mounts import text
from check_mounts.clocks import PAST, Monotonic, after, monotonic
from check_mounts.daemon.errand import Errand, Result
from check_mounts.daemon.home import Home, open_above
from check_mounts.system import replacing
from check_mounts.typed import Optional

# In seconds: how long a worker may take to write the file before it is killed; how long the daemon
# waits for it when the daemon ends.
_LONGEST_WRITE, _LAST_WRITE = 10.0, 0.3
# The size of a worker's answer, in bytes: why it could not write the file, or nothing if it could.
_WRITE_ANSWER = 256


class MetricsFile:
    """Writes the metrics in a worker. The file may be on a local disk, which a snapshot or a backup
    freezes now and then (fsfreeze(8)). A process that makes a file there then waits until the disk
    is thawed: no signal ends it, and nothing shows that beforehand. Newer metrics replace those
    that wait.

    A task that never ends (see tasks.Task). ``tell`` is called after each attempt, with the path
    and why the file cannot be written; None if it was written."""

    done = False

    def __init__(self, home: Home, tell: Callable[[str, Optional[str]], None]) -> None:
        self._home, self._tell = home, tell
        self._errand = Errand(self._write, _WRITE_ANSWER, _LONGEST_WRITE, self._take)
        self._path = ""
        self._waiting: Optional[bytes] = None
        self._given = b""

    def offer(self, path: str, data: bytes) -> None:
        """Write these metrics, which are the newest."""
        self._path, self._waiting = path, data
        self.step()

    def fileno(self) -> int:
        """A descriptor that is readable once the worker has answered."""
        return self._errand.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        return self._errand.due(self._waiting is not None)

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._errand.step(until)
        if self._waiting is not None and not self._errand.is_under_way and not self._errand.is_stuck:
            self._begin(self._waiting)

    def _begin(self, data: bytes) -> None:
        self._given, self._waiting = data, None
        why = self._errand.begin_unless(self._home.may_hang("--metrics"))
        if why is not None:
            self._tell(self._path, why)

    def _take(self, result: Result) -> None:
        if result.answer is not None:
            self._tell(self._path, result.answer.decode("utf-8", "replace") or None)
            return
        if result.is_late and self._waiting is None:  # the disk may be thawed long before the next pass
            self._waiting = self._given
        self._tell(self._path, result.why)

    def _write(self) -> bytes:
        """In the worker: write the file."""
        return text.encoded(_replace_metrics(self._path, self._given) or "", "utf-8")

    def close(self) -> None:
        """Stop. A worker, and metrics that wait, get a moment more: the file should hold the last
        state, and no half-written file should stay beside it."""
        until = after(_LAST_WRITE)
        while (
            (self._errand.is_under_way or self._waiting is not None)
            and not self._errand.is_stuck
            and monotonic() < until
        ):
            self.step(until)
        self._errand.end()


def _replace_metrics(path: str, data: bytes) -> Optional[str]:
    """Replace the file. Returns why that is not possible; None if it was done.

    Unlike the directory of the result, the directory of the metrics or the one above it (as on
    Debian) may belong to the exporter's user. That user could mount something there, or lead us
    elsewhere with a symbolic link.
    """
    try:
        fd, name = open_above(path)
        try:
            replacing.replace_in(fd, name, data)
        finally:
            os.close(fd)
    except OSError as error:
        return "a symbolic link leads to it" if error.errno == errno.ELOOP else str(error.strerror)
    except Exception as error:  # a defect there must cost nothing but the metrics
        return f"{type(error).__name__}: {error}"
    return None
