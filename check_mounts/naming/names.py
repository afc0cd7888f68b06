"""The kernel's paths for names, such as declared mount points and arguments, which may have links
in them; this module touches no file.

The kernel lists a mount by a path without links, but people write the path that they are used to:
/home, although that is a link to /var/home. The text of the mount table settles most names: a path
with a mount on it, or below it, is a directory and not a link. For the other names a process must
read the links on the path, which only workers do (:mod:`check_mounts.naming.lookups`)."""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from check_mounts import filesystems, mounttable, text
from check_mounts.model import Mount
from check_mounts.selection import normalised
from check_mounts.typed import NOTHING, NamedTuple, Optional

# MAXSYMLINKS in the kernel (include/linux/namei.h).
MAX_LINKS = 40
# These errors prove that the path does not exist, so nothing can be mounted there.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
# Links that every distribution has had for ten years. They help where we know only the text of a
# mount table, such as that of another host.
_KNOWN_LINKS = ((b"/var/run", b"/run"), (b"/var/lock", b"/run/lock"))

# Takes a directory, a name in it, and the mount that holds the directory; returns the target of the
# link with this name, None if it is not a link. Raises OSError, Stopped.
Reader = Callable[[Sequence[bytes], bytes, Mount], Optional[bytes]]


class Stopped(Exception):
    """A mount cannot be read now: it hangs, or may hang, or another process is reading it."""

    def __init__(self, mount: Mount) -> None:
        super().__init__(mount.mount_point)
        self.mount = mount


class Lead(NamedTuple):
    """The ``path`` that a name leads to, without links as far as we know.

    ``through``: the mounts in which links were read for that. ``stopped``: the mount that must
    answer before we know more. ``errno``: why a link on the path cannot be read."""

    path: bytes
    through: tuple[Mount, ...] = ()
    stopped: Optional[Mount] = None
    errno: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the lead is final: the path is known, or is known not to exist."""
        return self.stopped is None and self.errno in (0, *_ABSENT)

    @property
    def why(self) -> str:
        """The errno in words; empty without one."""
        if self.errno == errno.ELOOP:
            return "its links form a loop"
        if self.errno == errno.EAGAIN:
            return "no time was left to read it"
        if self.errno == errno.EXDEV:  # RESOLVE_NO_XDEV
            return "something was mounted there meanwhile"
        return text.error_words(self.errno) if self.errno else ""


class Leads(NamedTuple):
    """The leads of names. A name that is not in ``known`` has a lead by its text alone."""

    known: Mapping[bytes, Lead] = NOTHING

    def of(self, name: bytes) -> Lead:
        """The lead of an absolute path."""
        lead = self.known.get(name)
        return by_text(name) if lead is None else lead


def by_text(name: bytes) -> Lead:
    """The lead of a name by its text alone."""
    path = normalised(name)
    for link, target in _KNOWN_LINKS:
        if path == link or path.startswith(link + b"/"):
            path = target + path[len(link) :]
    return Lead(path)


def simplified(name: bytes) -> bytes:
    """An absolute path without trailing and doubled slashes and without ``.``. Each ``..`` stays:
    after a link, it leads to the parent of the link's target."""
    return _joined(part for part in name.split(b"/") if part not in (b"", b"."))


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"/" + b"/".join(parts)


class Ground:
    """The visible mounts, by their mount points. ``closed`` are the IDs of the mounts that no
    look-up may enter. ``base``: the root directory that all paths begin at, through procfs; empty
    for our own."""

    def __init__(
        self, mounts: Iterable[Mount], visible: Collection[int], closed: Iterable[int] = (), base: bytes = b""
    ) -> None:
        self.base = base
        self.at = {mount.mount_point: mount for mount in mounts if mount.mount_id in visible}
        self.by_id = {mount.mount_id: mount for mount in self.at.values()}
        self.closed = set(closed)
        self._points = sorted(self.at)

    def is_on_the_way(self, path: bytes) -> bool:
        """Whether something is mounted on the path or below it. Then the path is a directory, or a
        file with a mount on it, and not a link."""
        if path in self.at:
            return True
        index = bisect.bisect_left(self._points, path + b"/")
        return index < len(self._points) and self._points[index].startswith(path + b"/")

    def way(self, parts: Sequence[bytes]) -> list[Mount]:
        """The mounts that a path crosses, outermost first; the last one holds the end of the
        path."""
        found = [self.at[b"/"]] if b"/" in self.at else []
        path = b""
        for part in parts:
            path += b"/" + part
            if path in self.at:
                found.append(self.at[path])
            elif not self.is_on_the_way(path):  # nothing is mounted below
                break
        return found


def lead(name: bytes, ground: Ground, read: Reader) -> Lead:
    """Follow a name from the root, component by component, as the kernel does (path_resolution(7));
    ``read`` reads the links."""
    return _Walk(name, ground, read).lead()


class _Walk:
    """One name being followed. ``_done``: the path so far, as components without links. ``_todo``:
    the components that follow, in reverse order."""

    def __init__(self, name: bytes, ground: Ground, read: Reader) -> None:
        self._name, self._ground, self._read = name, ground, read
        self._todo = _parts(name)
        self._done: list[bytes] = []
        self._through: dict[int, Mount] = {}
        self._links = 0

    def lead(self) -> Lead:
        """Follow the name to its end."""
        if len(self._name) > mounttable.LONGEST_PATH:
            return self._absent(errno.ENAMETOOLONG)
        while self._todo:
            part = self._todo.pop()
            try:
                self._step(part)
            except Stopped as stop:
                return self._rest(part)._replace(stopped=stop.mount)
            except OSError as error:
                number = error.errno or errno.EIO
                if number in (errno.ELOOP, errno.ENAMETOOLONG):
                    return self._absent(number)
                return self._rest(part) if number in _ABSENT else self._rest(part)._replace(errno=number)
        return Lead(_joined(self._done), tuple(self._through.values()))

    def _rest(self, part: bytes) -> Lead:
        """The lead of a name of which we know nothing from this component on. A ``..`` stays: after
        a component that does not exist, it leads nowhere."""
        return Lead(_joined([*self._done, part, *self._todo[::-1]]), tuple(self._through.values()))

    def _absent(self, number: int) -> Lead:
        return Lead(by_text(self._name).path, errno=number)

    def _step(self, part: bytes) -> None:
        """Follow one component. Raises OSError, Stopped."""
        path = _joined([*self._done, part])
        if part == b"..":
            del self._done[-1:]
        elif len(path) > mounttable.LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, "")
        elif self._ground.is_on_the_way(path) or (target := self._read_target(part)) is None:
            self._done.append(part)
        else:
            self._follow(target)

    def _read_target(self, part: bytes) -> Optional[bytes]:
        """Read the target of a link; return None if the part is not a link. Raises OSError,
        Stopped."""
        way = self._ground.way(self._done)
        known = filesystems.traits(way[-1].fs_type) if way else None
        if known is None or known.magic_links or known.trigger:
            raise OSError(errno.ENOENT, "")
        for mount in way:
            if mount.mount_id in self._ground.closed:
                raise Stopped(mount)
        self._through[way[-1].mount_id] = way[-1]
        return self._read(self._done, part, way[-1])

    def _follow(self, target: bytes) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, "")
        if not target:  # the kernel makes no empty link, but a server may send one
            raise OSError(errno.ENOENT, "")
        if target.startswith(b"/"):
            self._done.clear()
        self._todo += _parts(target)


def _parts(path: bytes) -> list[bytes]:
    """The components of a path in reverse order."""
    return [part for part in path.split(b"/")[::-1] if part not in (b"", b".")]
