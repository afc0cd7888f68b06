"""What a process has of mounts: its descriptors, its working and root directories and its program.

Import budget: ``errno``, ``os``; procfs, namespaces."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from check_mounts.typed import NamedTuple, Optional
from check_mounts.using import procfs
from check_mounts.using.model import How
from check_mounts.using.namespaces import Namespace

# How many descriptors of one process are looked at.
MOST_DESCRIPTORS = 200_000
_LINKS = (("cwd", How.STANDS), ("root", How.ROOT), ("exe", How.RUNS))


class Use(NamedTuple):
    """A use of a mount: how, the mount's ID, the number of the descriptor (-1: another kind of
    use), and the text of the link."""

    how: How
    mount_id: int
    descriptor: int
    path: str


class Refused(Exception):
    """We may not look into this process."""


def uses(
    process: int, table: Optional[Namespace], places: Optional[tuple[str, ...]] = None, opens: bool = False
) -> Iterator[Use]:
    """The uses that a process makes of mounts, or a thread: ``process`` is a descriptor of its
    directory in procfs. ``table`` are the mounts that it sees. ``places``: only what is at or below
    one of these paths; where they cover each other, other mounts may be among the results.
    ``opens``: links may be opened (see procfs.mount_of_link). Otherwise their text decides, and
    that of a link to a mount that was unmounted lazily names another one: it begins at the mount's
    own root directory (prepend_path in fs/d_path.c).

    Raises Refused."""
    for name, how in _LINKS:
        path = procfs.link(process, name)
        if path and (places is None or path.startswith(places)) and table is not None:
            found = procfs.mount_of_link(process, name) if opens else None
            found = table.mount_of(path) if found is None else found
            if found is not None:
                yield Use(how, found, -1, path)
    yield from _descriptors(process, places)


def _descriptors(process: int, places: Optional[tuple[str, ...]]) -> Iterator[Use]:
    try:
        links = procfs.open_directory("fd", process)
    except PermissionError:
        raise Refused from None
    except OSError:  # it has ended
        return
    infos = -1
    try:
        for number in os.listdir(links)[:MOST_DESCRIPTORS]:
            try:
                path = os.readlink(number, dir_fd=links)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    continue
                path = ""
            if path and (not path.startswith("/") if places is None else not path.startswith(places)):
                continue
            if infos < 0:
                infos = procfs.open_directory("fdinfo", process)
            mount_id = procfs.mount_id(infos, number)
            if mount_id is not None:
                yield Use(How.OPEN, mount_id, int(number), path)
    except OSError:  # it has ended
        return
    finally:
        os.close(links)
        if infos >= 0:
            os.close(infos)
