"""Work of the daemon that may hang, such as writing a file. A worker does it, and can be given
up."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from check_mounts import text
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.system import processes, workers
from check_mounts.system.desks import Desk
from check_mounts.typed import NamedTuple, Optional

# How often to look whether a worker that could not be killed has ended, in seconds.
_AGAIN = 0.5


class Result(NamedTuple):
    """What became of the work: the worker's ``answer``, or in words ``why`` it is missing.
    ``is_late``: it was killed after its time, and may have done its work."""

    answer: Optional[bytes]
    why: str = ""
    is_late: bool = False


class Errand:
    """One worker at a time, so no more than one process ever hangs.

    ``work`` is done in the worker; it returns at most ``size`` bytes, which do not end with a NUL.
    It may take ``seconds``. ``take`` is called with each result. A part of a task that never ends
    (see tasks.Task): its owner begins the work, and calls ``step``."""

    def __init__(self, work: Callable[[], bytes], size: int, seconds: float, take: Callable[[Result], None]) -> None:
        self._work, self._size, self._seconds, self._take = work, size, seconds, take
        self._epoll = select.epoll()
        self._pool: Optional[workers.Pool] = None
        self._latest = PAST
        # Processes that were killed and have not ended yet.
        self._left: list[int] = []

    @property
    def is_under_way(self) -> bool:
        """Whether a worker is at work."""
        return self._pool is not None

    @property
    def is_stuck(self) -> bool:
        """Whether a worker that was killed still exists."""
        return bool(self._left)

    def begin_unless(self, why: Optional[str]) -> Optional[str]:
        """Start a worker; there must be none. ``why`` says why it may hang, if it may: then none is
        started. Returns why none was started; None if one was."""
        try:
            if why is None:
                self.begin()
        except OSError as error:
            why = str(error.strerror)
        return why

    def begin(self) -> None:
        """Start a worker; there must be none. Raises OSError."""
        # The worker keeps our groups, so that it may write wherever we may.
        pool = workers.Pool(self._serve, self._size, self._seconds, 1, groups=tuple(os.getgroups()))
        try:
            self._epoll.register(pool.fileno(), select.EPOLLIN)
        except OSError:  # no memory
            pool.close()
            raise
        self._pool = pool
        self._latest = after(self._seconds + workers.TO_BEGIN)
        pool.submit(0)
        self._go_on(pool, PAST)

    def fileno(self) -> int:
        """A descriptor that is readable once the worker has answered."""
        return self._epoll.fileno()

    def due(self, waits: bool) -> Monotonic:
        """When to call :meth:`step` at the latest; ``waits``: there is work for the next worker."""
        if self._pool is not None:
            return Monotonic(min(self._pool.due, self._latest))
        if not waits:
            return NEVER
        return after(_AGAIN) if self._left else PAST

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, or comes before ``until``."""
        self._left = processes.reap_ended(self._left)
        if self._pool is not None:
            self._go_on(self._pool, until)

    def _go_on(self, pool: workers.Pool, until: Monotonic) -> None:
        event = next(iter(pool.wait(until)), None)
        if event is None and monotonic() < self._latest:
            return
        trouble = pool.trouble
        self.end()
        if isinstance(event, workers.Answered):
            self._take(Result(event.answer.rstrip(b"\0")))
        elif isinstance(event, workers.Died):
            self._take(Result(None, "the process that should have written it has ended"))
        elif event is None:
            self._take(Result(None, f"no process could be started for it ({trouble})"))
        else:
            stuck_in = "".join(f" (pid {pid} is stuck in it)" for pid in self._left)
            self._take(Result(None, f"no answer within {text.seconds_words(self._seconds)}{stuck_in}", True))

    def _serve(self, key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In the worker."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # RLIMIT_FSIZE becomes an error like any other
        return self._work()[: self._size].ljust(self._size, b"\0"), True

    def end(self) -> None:
        """End the worker, if there is one."""
        if self._pool is not None:
            self._epoll.unregister(self._pool.fileno())
            self._left += self._pool.close()
            self._pool = None
