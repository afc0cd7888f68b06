"""What a pool is made of: the memory that it shares with its workers, the pipe of requests, and the
way to start workers.

Import budget: ``os``, ``select``; what pending and starters need."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from check_mounts.system import nursery
from check_mounts.system.desks import Desks, Layout, shared
from check_mounts.system.forked import Life
from check_mounts.system.pending import Contents, Pending
from check_mounts.system.starters import Here, Starter, There
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.system.forked import Handler


# How many requests may be open at a time besides those of workers that were given up. The memory of
# this process may be locked as a whole (mlockall(2)).
_OPEN_THERE, _OPEN_HERE = 2048, 1024


def most_slots(most: int) -> int:
    """How many slots a pool of ``most`` workers may use. Workers of a nursery that has died may not
    have died yet, so they keep their slots."""
    return 2 * most


class Outside(NamedTuple):
    """What the nursery needs to make the handler of a pool: see nursery.Make."""

    config: bytes
    fds: Sequence[int] = ()


class Quarters:
    """What a pool is made of: the shared memory, the pipe of requests, and how its workers are
    started. Where memory can be passed on and there is a nursery, that starts them; if it dies, and
    everywhere else, this process does."""

    def __init__(
        self,
        handler: Handler,
        answer_size: int,
        most: int,
        groups: Optional[tuple[int, ...]],
        outside: Optional[Outside],
        poll: select.epoll,
    ) -> None:
        """Raises OSError."""
        self._groups, self._outside, self._poll = groups, outside, poll
        nursery.reap()
        self._home = None if outside is None else nursery.current()
        self._fds: list[int] = []
        try:
            self._contents = self._make_contents()
            self.desks = self._make_desks(most, answer_size)
            self.pending = Pending(self.desks, self._contents)
        except BaseException:
            self._close_files()
            raise
        self._life = Life(handler, self.desks, self._contents.memory, groups)

    def _make_contents(self) -> Contents:
        """Raises OSError."""
        try:
            self._fds.append(os.memfd_create("check_mounts:contents"))
            return Contents(self._fds[0])
        except (AttributeError, OSError):  # an old C library; a limit of file sizes; no memory
            self._close_files()
            self._home = None
            return Contents(-1)

    def _make_desks(self, most: int, answer_size: int) -> Desks:
        """Raises OSError."""
        if self._home is not None:
            layout = Layout(most_slots(most), answer_size, _OPEN_THERE)
            try:
                self._fds.append(os.memfd_create("check_mounts:desks"))
                os.ftruncate(self._fds[1], layout.size)
                return Desks(layout, shared(self._fds[1], layout.size))
            except (OSError, ValueError):  # as above
                self._home = None
        layout = Layout(most, answer_size, _OPEN_HERE)
        return Desks(layout, shared(-1, layout.size))

    def starter(self) -> Starter:
        """The way to start workers from now on. Raises OSError."""
        home, self._home = self._home, None
        if home is not None and self._outside is not None:
            fds = (self._fds[1], self._fds[0], self.pending.request_fd, *self._outside.fds)
            config, size = self._outside.config, self._contents.size
            try:
                return There(home, self.desks.layout, self._groups, config, fds, size, self._poll)
            except OSError:
                nursery.leave()
            finally:  # a limit may leave few descriptors
                os.close(self._fds.pop())
        return Here(self._life, self.pending.request_fd, self._contents, self._poll)

    def _close_files(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def close(self) -> None:
        """Close what workers have as well. Those that wait for a request end."""
        self.pending.close()
        self._close_files()
