"""The file of the metrics, which is written by a worker that can be given up."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable

from check_mounts import text
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.daemon.home import Home, open_above
from check_mounts.system import processes, replacing, workers
from check_mounts.system.desks import Desk
from check_mounts.typed import Optional

# In seconds: how long a worker may take to write the file before it is killed; how long the daemon
# waits for it when the daemon ends; how often to look whether a worker that could not be killed has
# ended.
_LONGEST_WRITE, _LAST_WRITE, _AGAIN = 10.0, 0.3, 0.5
# The size of a worker's answer, in bytes: why it could not write the file, or nothing if it could.
_WRITE_ANSWER = 256


class MetricsFile:
    """Writes the metrics in a worker. The file may be on a local disk, which a snapshot or a backup
    freezes now and then (fsfreeze(8)). A process that makes a file there then waits until the disk
    is thawed: no signal ends it, and nothing shows that beforehand. There is one worker at a time,
    so no more than one process ever hangs. Newer metrics replace those that wait.

    A task that never ends (see tasks.Task). ``tell`` is called after each attempt, with the path
    and why the file cannot be written; None if it was written."""

    done = False

    def __init__(self, home: Home, tell: Callable[[str, Optional[str]], None]) -> None:
        self._home, self._tell = home, tell
        self._epoll = select.epoll()
        self._path = ""
        self._waiting: Optional[bytes] = None
        self._given = b""
        self._pool: Optional[workers.Pool] = None
        self._latest = PAST
        # Processes that were killed and have not ended yet.
        self._left: list[int] = []

    def offer(self, path: str, data: bytes) -> None:
        """Write these metrics, which are the newest."""
        self._path, self._waiting = path, data
        self.step()

    def fileno(self) -> int:
        """A descriptor that is readable once the worker has answered."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        if self._pool is not None:
            return Monotonic(min(self._pool.due, self._latest))
        if self._waiting is None:
            return NEVER
        return after(_AGAIN) if self._left else PAST

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._left = processes.reap_ended(self._left)
        if self._pool is not None:
            self._go_on(self._pool, until)
        elif self._waiting is not None and not self._left:
            self._begin(self._waiting)

    def _begin(self, data: bytes) -> None:
        self._given, self._waiting = data, None
        why = self._home.may_hang("--metrics")
        if why is None:
            try:
                self._pool = self._open_pool()
            except OSError as error:
                why = str(error.strerror)
        if self._pool is None:
            self._tell(self._path, why)
            return
        self._latest = after(_LONGEST_WRITE + workers.TO_BEGIN)
        self._pool.submit(0)
        self._go_on(self._pool)

    def _open_pool(self) -> workers.Pool:
        """Raises OSError."""
        # The worker keeps our groups, so that it may write wherever we may.
        pool = workers.Pool(self._serve, _WRITE_ANSWER, _LONGEST_WRITE, 1, groups=tuple(os.getgroups()))
        try:
            self._epoll.register(pool.fileno(), select.EPOLLIN)
        except OSError:  # no memory
            pool.close()
            raise
        return pool

    def _go_on(self, pool: workers.Pool, until: Monotonic = PAST) -> None:
        event = next(iter(pool.wait(until)), None)
        if event is None and monotonic() < self._latest:
            return
        trouble = pool.trouble
        self._end(pool)
        if isinstance(event, workers.Answered):
            self._tell(self._path, event.answer.rstrip(b"\0").decode("utf-8", "replace") or None)
        elif isinstance(event, workers.Died):
            self._tell(self._path, "the process that should have written it has ended")
        elif event is None:
            self._tell(self._path, f"no process could be started for it ({trouble})")
        else:
            # The disk may be thawed long before the next pass.
            self._waiting = self._given if self._waiting is None else self._waiting
            stuck_in = "".join(f" (pid {pid} is stuck in it)" for pid in self._left)
            self._tell(self._path, f"no answer within {text.seconds_words(_LONGEST_WRITE)}{stuck_in}")

    def _end(self, pool: workers.Pool) -> None:
        self._epoll.unregister(pool.fileno())
        self._left += pool.close()
        self._pool = None

    def _serve(self, key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In the worker: write the file."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # RLIMIT_FSIZE becomes an error like any other
        why = _replace_metrics(self._path, self._given)
        return text.encoded(why or "", "utf-8")[:_WRITE_ANSWER].ljust(_WRITE_ANSWER, b"\0"), True

    def close(self) -> None:
        """Stop. A worker, and metrics that wait, get a moment more: the file should hold the last
        state, and no half-written file should stay beside it."""
        until = after(_LAST_WRITE)
        while (self._pool is not None or self._waiting is not None) and not self._left and monotonic() < until:
            self.step(until)
        if self._pool is not None:
            self._end(self._pool)


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
