"""The mount table that another process sees (``--namespace``).

Import budget: mounttable, roots, procroot. Only runs with that option load it."""

from __future__ import annotations

from check_mounts import mounttable
from check_mounts.model import Mount, Unparsed

# Workers that are forked from here need not load it.
from check_mounts.probing import through as _through  # noqa: F401
from check_mounts.roots import Root
from check_mounts.system import procroot
from check_mounts.typed import Optional

_Table = tuple[list[Mount], list[Unparsed]]


class Reader(mounttable.Reader):
    """Reads the mount table of a process again and again, as its super class does. It keeps the
    directory of the process open, so that it never reads the table of another process that got the
    ID."""

    def __init__(self, root: Root) -> None:
        """Raises OSError; procroot.Ended if the process has ended."""
        super().__init__(f"/proc/self/fd/{procroot.opened(root.process, root.start)}/mountinfo")
        self._root = root
        self._as_read: Optional[_Table] = None
        self._seen: _Table = ([], [])

    def read(self) -> _Table:
        """The table as it is now. Raises OSError; procroot.Ended if the process has ended."""
        try:
            table = super().read()
        except OSError as error:
            if procroot.is_end(error):
                raise procroot.Ended from error
            raise
        if table is not self._as_read:
            self._as_read, self._seen = table, (self._root.seen(table[0]), table[1])
        return self._seen
