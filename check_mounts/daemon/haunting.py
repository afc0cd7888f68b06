"""The filesystems that were unmounted lazily and are still held: a search when the kernel has one
more, or one less, than the mount table explains, and from time to time as long as it has any.

The daemon has seen mounts before they were unmounted. So it knows what a process holds, while a
single run knows only that it holds something."""

from __future__ import annotations

import select
from collections.abc import Sequence

from check_mounts import backings
from check_mounts.checks import checking
from check_mounts.checks.checking import Check
from check_mounts.clocks import NEVER, PAST, Monotonic, after, monotonic
from check_mounts.ghost import Ghost
from check_mounts.model import Mount, Survey
from check_mounts.probing import sysfs
from check_mounts.system import processes
from check_mounts.typed import Optional
from check_mounts.using import ghosts

# How long a search may take, and how much later the next one comes if nothing changes, in seconds.
_LONGEST, _AGAIN = 10.0, 300.0
# How many mounts that are gone are remembered.
_MOST = 2000


class Haunting:
    """A task that never ends (see tasks.Task)."""

    done = False

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._search: Optional[ghosts.Search] = None
        # The mounts of the table, and those that are gone, by their IDs.
        self._mounts: dict[int, Mount] = {}
        self._gone: dict[int, Mount] = {}
        # What the last search was for, and when the next one is due.
        self._unlisted: Optional[backings.Unlisted] = None
        self._next = PAST
        self._found: Sequence[Ghost] = ()
        self._is_news = False
        # Workers of earlier searches that could not be ended.
        self._left: list[int] = []

    def see(self, mounts: Sequence[Mount]) -> None:
        """Take in the mount table."""
        now = {mount.mount_id: mount for mount in mounts}
        for mount_id, mount in self._mounts.items():
            if mount_id not in now:
                self._gone[mount_id] = mount
        for mount_id in self._gone.keys() & now.keys():
            del self._gone[mount_id]
        for mount_id in list(self._gone)[: max(0, len(self._gone) - _MOST)]:
            del self._gone[mount_id]
        self._mounts = now

    def look(self, check: Check) -> None:
        """Compare what the kernel has with the mount table, and begin a search if it is due."""
        if not checking.seeks_ghosts(check):
            self._forget()
            return
        mounts = ((mount.device, mount.fs_type) for mount in self._mounts.values())
        unlisted = backings.unlisted(sysfs.backing_names(), mounts)
        self._gone = {key: mount for key, mount in self._gone.items() if _may_exist(mount, unlisted)}
        if not unlisted:
            self._forget()
        elif self._search is None and not self._left and (unlisted != self._unlisted or monotonic() >= self._next):
            self._unlisted, self._next = unlisted, after(_AGAIN)
            self._search = ghosts.Search(_LONGEST)
            self._epoll.register(self._search.fileno(), select.EPOLLIN)

    def _forget(self) -> None:
        self._unlisted, self._found = None, ()

    def told(self, survey: Survey, check: Check) -> Survey:
        """The survey, with the ghosts that the filters want."""
        if not self._found:
            return survey
        return survey._replace(findings=(*survey.findings, *ghosts.findings(ghosts.wanted(self._found, check.filters))))

    def fileno(self) -> int:
        """A descriptor that is readable once a search has found something."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        return NEVER if self._search is None else self._search.due

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with a search."""
        self._left = processes.reap_ended(self._left)
        search = self._search
        if search is None:
            return
        search.step(until)
        if search.done:
            self._epoll.unregister(search.fileno())
            search.close()
            self._search = None
            self._left += search.left
            found = search.found.ghosts(self._gone)
            self._is_news = self._is_news or list(found) != list(self._found)
            self._found = found

    def take_news(self) -> bool:
        """Whether ghosts have come or gone, or others hold them, since the last call."""
        news, self._is_news = self._is_news, False
        return news

    def close(self) -> None:
        """Stop."""
        if self._search is not None:
            self._search.close()
            self._search = None


def _may_exist(mount: Mount, unlisted: backings.Unlisted) -> bool:
    """Whether a process may hold a mount that is gone. Nothing says whether local filesystems live
    on. They are remembered, so that no process that holds one is taken for the holder of another
    one."""
    if mount.device in unlisted.devices or mount.fs_type in unlisted.counts:
        return True
    return not backings.is_covered(mount.fs_type)
