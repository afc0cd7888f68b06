"""What a pool is made of: the memory that it shares with its workers, the pipe of requests, and the
way to start workers.

Import budget: ``mmap``, ``os``, ``select``; what pending and starters need."""

from __future__ import annotations

import mmap
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
        self._home = None if outside is None else nursery.current()
        self._fds: list[int] = []
        # Workers of a nursery that has died may not have died yet, so they keep their desks.
        self._layout = Layout(most if self._home is None else 2 * most, answer_size)
        try:
            memory, contents = self._make_memory()
            self.desks = Desks(self._layout, memory)
            self.pending = Pending(self.desks, contents)
        except BaseException:
            self._close_files()
            raise
        self._contents = contents
        self._life: Optional[Life] = None
        self._handler = handler

    def _make_memory(self) -> tuple[mmap.mmap, Contents]:
        if self._home is not None:
            try:
                for name in ("desks", "contents"):
                    self._fds.append(os.memfd_create(f"check_mounts:{name}"))
                os.ftruncate(self._fds[0], self._layout.size)
                return shared(self._fds[0], self._layout.size), Contents(self._fds[1])
            except (AttributeError, OSError, ValueError):  # an old C library; a limit of file sizes; no memory
                self._close_files()
                self._home = None
        return shared(-1, self._layout.size), Contents(-1)

    def starter(self) -> Starter:
        """The way to start workers from now on. Raises OSError."""
        home, self._home = self._home, None
        if home is not None and self._outside is not None:
            fds = (*self._fds, self.pending.request_fd, *self._outside.fds)
            config, size = self._outside.config, self._contents.size
            try:
                return There(home, self._layout, self._groups, config, fds, size, self._poll)
            except OSError:
                nursery.leave()
        if self._life is None:
            contents = self._contents.memory or shared(self._fds[1], self._contents.size, read_only=True)
            self._life = Life(self._handler, self.desks, contents, self._groups)
        return Here(self._life, self.pending.request_fd, self._poll)

    def _close_files(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def close(self) -> None:
        """Close what workers have as well. Those that wait for a request end."""
        self.pending.close()
        self._close_files()
