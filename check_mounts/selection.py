"""The choice of mounts: which are probed, which are left out and why, and which are missing.

The text of the mount table decides everything here, without looking up a path: when a user excludes
a mount that hangs, nothing may touch it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from check_mounts import filesystems, mounttable, systemds
from check_mounts.filesystems import is_fuse
from check_mounts.model import LeftOut, Mount, Reason
from check_mounts.typed import NOTHING, NamedTuple, Optional, Union

_NOBODY = 0xFFFFFFFE

Glob = re.Pattern[bytes]


class GlobError(ValueError):
    """A pattern that makes no sense; the message says why."""


def compile_glob(pattern: bytes) -> Glob:
    """A shell pattern (`*`, `?`, `[...]`; `*` also matches `/`) that must match a whole value.

    Raises GlobError for an empty pattern and for a bracket that is never closed, which fnmatch
    would silently take for the character itself."""
    if not pattern:
        raise GlobError("the pattern is empty")
    position = 0
    while (position := pattern.find(b"[", position)) >= 0:
        # As in fnmatch: a `]` that comes first, even after `!`, belongs to the set.
        start = position + 2 if pattern[position + 1 : position + 2] == b"!" else position + 1
        position = pattern.find(b"]", start + 1)
        if position < 0:
            raise GlobError("a '[' is not closed (write '[[]' for the character itself)")
    import fnmatch  # most runs have no pattern; a daemon has loaded it

    translated = fnmatch.translate(pattern.decode("latin-1")).encode("latin-1")
    if b"(?!)" in translated:  # before Python 3.11, re says so
        raise GlobError("a set in brackets holds nothing, so it matches nothing")
    try:
        return re.compile(translated)
    except re.error as error:  # '[z-a]', before Python 3.11
        raise GlobError(str(error)) from None


# The beginning of a pattern, up to the first glob character that is not alone in brackets. Braces
# and commas may stand there, too (options/patterns.py).
LITERAL = rb"(?:[^*?[]|\[[*?[{,]\])*"
BRACKETED = rb"\[([*?[{,])\]"
_GLOB_CHARACTER = rb"[*?[]"


class PathGlob:
    """A pattern of mount points.

    ``leading`` is the path that the pattern begins with; empty if it begins with a glob character.
    ``names`` has all that a pattern without glob characters can match.

    If that path holds a link, no mount point matches the pattern as written; after :meth:`follow`
    it also matches the place that the link leads to."""

    def __init__(self, pattern: bytes) -> None:
        """Raises GlobError."""
        self._as_written = compile_glob(pattern)
        self._led: Optional[Glob] = None
        match = re.match(LITERAL, pattern)
        literal = match.group() if match else b""
        end = len(pattern) if len(literal) == len(pattern) else literal.rfind(b"/")
        self._rest = pattern[max(0, end) :]
        self.leading = re.sub(BRACKETED, rb"\1", pattern[: max(0, end)]).rstrip(b"/")
        self.names = [self.leading or b"/"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathGlob) and (self._as_written, self._led) == (other._as_written, other._led)

    def __hash__(self) -> int:
        return hash(self._as_written)

    def match(self, mount_point: bytes) -> bool:
        """Whether the pattern matches a whole mount point."""
        led = self._led is not None and self._led.match(mount_point) is not None
        return led or self._as_written.match(mount_point) is not None

    def follow(self, path: bytes) -> None:
        """Also match ``path``, which is where ``leading`` leads."""
        self.names = [self.leading or b"/", path.rstrip(b"/") or b"/"]
        escaped = re.sub(_GLOB_CHARACTER, rb"[\g<0>]", path.rstrip(b"/"))
        self._led = None if path == self.leading else compile_glob(escaped + self._rest or b"/")


PathPattern = Union[Glob, PathGlob]


def normalised(path: bytes) -> bytes:
    """A mount point as the kernel spells it: no trailing or doubled slash, no `.` or `..`.

    Only the text decides, so a link before a `..` is not seen."""
    return b"/" + os.path.normpath(path).lstrip(b"/")


def leads_over(path: bytes, mount_point: bytes) -> bool:
    """Whether a look-up of ``path`` crosses ``mount_point``; both must be normalised."""
    return _slash(path).startswith(_slash(mount_point))


def _slash(path: bytes) -> bytes:
    return path.rstrip(b"/") + b"/"


class Filters(NamedTuple):
    """The filters of the command line and the configuration; an empty sequence filters nothing.

    ``ignored`` says whether the configuration ignores a mount point. ``declared`` says whether a
    mount is declared; then the defaults do not leave it out, just as if it were named. ``also`` are
    the IDs of mounts on the way to named mount points: they must answer before it is known where
    the names lead."""

    include_types: Sequence[Glob] = ()
    exclude_types: Sequence[Glob] = ()
    include_paths: Sequence[PathPattern] = ()
    exclude_paths: Sequence[PathPattern] = ()
    include_sources: Sequence[Glob] = ()
    exclude_sources: Sequence[Glob] = ()
    remote: bool = False
    local: bool = False
    user_mounts: bool = False
    autofs: bool = False
    mount_points: Sequence[bytes] = ()
    also: frozenset[int] = frozenset()
    ignored: Callable[[bytes], bool] = lambda mount_point: False
    declared: Callable[[Mount], bool] = lambda mount: False


class Selection(NamedTuple):
    """The mounts to probe, the shadowed ones, and the others, each with a reason.

    They keep the order of the table. ``named`` are the mount points that were asked for by name;
    ``missing`` those of them where nothing is mounted, with a reason. ``visible`` are the IDs of
    all mounts of the table that their own path leads to; ``covers`` has the ID of each shadowed
    mount, and the mount that covers it."""

    selected: tuple[Mount, ...]
    shadowed: tuple[Mount, ...]
    left_out: tuple[LeftOut, ...]
    missing: tuple[tuple[bytes, str], ...]
    named: frozenset[bytes]
    visible: frozenset[int]
    covers: Mapping[int, Mount] = NOTHING


def fuse_owner(mount: Mount) -> Optional[tuple[int, int]]:
    """The uid and gid that a FUSE filesystem was mounted for; None for other filesystems.

    The options ``user_id=`` and ``group_id=`` name them. Without these options they are root's:
    virtiofs does not have them, and only root can mount it."""
    if not is_fuse(mount):
        return None
    return _fuse_id(mount, b"user_id"), _fuse_id(mount, b"group_id")


def unprivileged_owner(mount: Mount) -> Optional[int]:
    """The uid of the user, if not root, who mounted a FUSE filesystem; None for other mounts."""
    owner = fuse_owner(mount)
    return None if owner is None or owner[0] == 0 else owner[0]


def _fuse_id(mount: Mount, option: bytes) -> int:
    word = mount.super_option(option) or b"0"
    # The kernel prints only such numbers; for anything else, act as nobody.
    return int(word) if word.isdigit() and len(word) <= 10 and int(word) < _NOBODY else _NOBODY


def can_hang_on_the_way(mount: Mount) -> bool:
    """Whether a look-up that crosses the mount may wait for its server or daemon.

    The kernel asks them to revalidate each step of the path."""
    return is_fuse(mount) or is_remote(mount)


def server(mount: Mount) -> Optional[bytes]:
    """The first file server that the source names; None without one."""
    return next(iter(filesystems.servers(mount)), None)


def is_remote(mount: Mount) -> bool:
    """Whether the mount is a network filesystem.

    Its type decides or, if the type is unknown, a source that names a host."""
    return filesystems.is_network(mount)


def _any(globs: Sequence[PathPattern], value: bytes) -> bool:
    return any(glob.match(value) for glob in globs)


def why_filtered(mount: Mount, filters: Filters) -> Optional[Reason]:
    """The filter that leaves a mount out; None if no filter does."""
    return _Sieve(filters).why_filtered(mount)


# Globs, whether a match leaves a mount out, and the reason.
_Test = tuple[Sequence[PathPattern], bool, Reason]


class _Sieve:
    """Filters, for many mounts: what follows from a type or a source alone is found out once."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._types = _given(
            (filters.exclude_types, True, Reason.TYPE_EXCLUDED),
            (filters.include_types, False, Reason.TYPE_NOT_INCLUDED),
        )
        self._places = _given(
            (filters.exclude_paths, True, Reason.PLACE_EXCLUDED),
            (filters.include_paths, False, Reason.PLACE_NOT_INCLUDED),
        )
        self._sources = _given(
            (filters.exclude_sources, True, Reason.SOURCE_EXCLUDED),
            (filters.include_sources, False, Reason.SOURCE_NOT_INCLUDED),
        )
        self._of_type: dict[bytes, Optional[Reason]] = {}
        self._of_source: dict[bytes, Optional[Reason]] = {}
        self._is_plain: dict[bytes, bool] = {}

    def why_default(self, mount: Mount, is_named: bool) -> Optional[Reason]:
        """See :func:`_why_default`."""
        fs_type = mount.fs_type
        is_plain = self._is_plain.get(fs_type)
        if is_plain is None:
            known = filesystems.traits(fs_type)
            is_plain = not (known.trigger or known.pseudo or filesystems.is_fuse_type(fs_type))
            self._is_plain[fs_type] = is_plain
        if is_plain and not mount.mount_point.startswith(b"/run/"):
            return None
        return _why_default(mount, self._filters, is_named)

    def why_filtered(self, mount: Mount) -> Optional[Reason]:
        """See :func:`why_filtered`."""
        reason = None
        if self._types:
            reason = _remembered(self._of_type, self._types, mount.fs_type)
        if reason is None and self._places:
            reason = _failed(self._places, mount.mount_point)
        if reason is None and self._sources:
            reason = _remembered(self._of_source, self._sources, mount.source)
        if reason is not None:
            return reason
        if self._filters.ignored(mount.mount_point):
            return Reason.IGNORED
        if self._filters.remote and not is_remote(mount):
            return Reason.NOT_NETWORK
        return Reason.NETWORK if self._filters.local and is_remote(mount) else None


def _given(*tests: _Test) -> list[_Test]:
    return [test for test in tests if test[0]]


def _failed(tests: Iterable[_Test], value: bytes) -> Optional[Reason]:
    for globs, if_it_matches, reason in tests:
        if _any(globs, value) is if_it_matches:
            return reason
    return None


def _remembered(known: dict[bytes, Optional[Reason]], tests: Iterable[_Test], value: bytes) -> Optional[Reason]:
    if value not in known:
        known[value] = _failed(tests, value)
    return known[value]


def _why_default(mount: Mount, filters: Filters, named: bool) -> Optional[Reason]:
    """The default that leaves a mount out; None if no default does.

    Most defaults do not hold for a mount that is declared, or asked for by name or type."""
    if filesystems.is_trigger(mount):
        return None if filters.autofs else Reason.TRIGGER
    if named or filters.declared(mount):
        return None
    if systemds.is_its_own(mount.mount_point):
        return Reason.SYSTEMDS
    if filesystems.traits(mount.fs_type).pseudo and not _any(filters.include_types, mount.fs_type):
        return Reason.PSEUDO
    # An unprivileged user decides whether such a mount answers, but must not decide the state of
    # the host.
    return Reason.USERS_FUSE if unprivileged_owner(mount) is not None and not filters.user_mounts else None


_WORDS = {
    Reason.TYPE_EXCLUDED: "its type is excluded",
    Reason.PLACE_EXCLUDED: "its mount point is excluded",
    Reason.SOURCE_EXCLUDED: "its source is excluded",
    Reason.TYPE_NOT_INCLUDED: "its type is not among those included",
    Reason.PLACE_NOT_INCLUDED: "its mount point is not among those included",
    Reason.SOURCE_NOT_INCLUDED: "its source is not among those included",
    Reason.IGNORED: "the configuration says to ignore it",
    Reason.NOT_NETWORK: "not a network filesystem",
    Reason.NETWORK: "a network filesystem",
    Reason.NOT_NAMED: "not among the mount points named",
    Reason.INACCESSIBLE: "made inaccessible in systemd's sandbox",
    Reason.IN_SANDBOX: "systemd's own, in its sandbox",
    Reason.SYSTEMDS: "systemd's own",
    Reason.TRIGGER: "autofs trigger",
    Reason.PSEUDO: "kernel pseudo-filesystem",
    Reason.USERS_FUSE: "FUSE mount of uid {}",
    Reason.UNMOUNTED: "unmounted during the run",
}


def why_left_out(out: LeftOut) -> str:
    """The reason why a mount is not probed, in words."""
    return _WORDS[out.why].format(unprivileged_owner(out.mount))


def may_enter(mount: Mount, filters: Filters) -> bool:
    """Whether a look-up may cross a mount that can hang.

    It may not if the mount should be left alone."""
    reasons = (_why_default(mount, filters, mount.mount_point in filters.mount_points), why_filtered(mount, filters))
    return not any(reason is not None and reason.avoids for reason in reasons)


def is_wanted(mount: Mount, filters: Filters) -> bool:
    """Whether a mount is selected for itself.

    Some are selected only because they are on the way to a named mount point."""
    return why_filtered(mount, filters) is None and (
        not filters.mount_points or mount.mount_point in filters.mount_points
    )


def select(mounts: Iterable[Mount], filters: Filters) -> Selection:
    """Sort the mounts of a table into those to probe and the others.

    Filters come before visibility, so a covered mount that a filter leaves out is not listed as
    shadowed. The defaults do not hold for a mount point that is named as an argument or declared,
    but the filters do; an autofs trigger needs ``--autofs probe`` even then."""
    mounts = list(mounts)
    covers = mounttable.covered_by(mounts)
    visible = frozenset([mount.mount_id for mount in mounts]) - covers.keys()
    named, sieve = frozenset(filters.mount_points), _Sieve(filters)
    masked = systemds.masks(mounts)
    selected: list[Mount] = []
    shadowed: list[Mount] = []
    left_out: list[LeftOut] = []
    mounted: set[bytes] = set()
    for mount in mounts:
        is_named = mount.mount_point in named
        if named and not is_named and mount.mount_id not in filters.also:
            left_out.append(LeftOut(mount, Reason.NOT_NAMED))
            continue
        reason = systemds.why_mask(mount) if mount.mount_id in masked else sieve.why_default(mount, is_named)
        if reason is None:
            # A named mount point must be reachable: if another mount covers it, it counts as
            # missing.
            if mount.mount_id in visible:
                mounted.add(mount.mount_point)
            reason = sieve.why_filtered(mount)
        if reason is not None and (reason.avoids or mount.mount_id not in filters.also):
            left_out.append(LeftOut(mount, reason))
        elif mount.mount_id in visible:
            selected.append(mount)
        else:
            shadowed.append(mount)
    why_not = {mount.mount_point: "covered by another mount" for mount in shadowed}
    triggers = [out.mount.mount_point for out in left_out if out.why is Reason.TRIGGER]
    why_not.update(dict.fromkeys(triggers, "only its autofs trigger is mounted"))
    absent = [path for path in dict.fromkeys(filters.mount_points) if path not in mounted]
    missing = tuple((path, why_not.get(path, "not mounted")) for path in absent)
    return Selection(tuple(selected), tuple(shadowed), tuple(left_out), missing, named, visible, covers)


def narrowed(chosen: Selection, wanted: Collection[int]) -> Selection:
    """The selection, reduced to the mounts with the wanted IDs."""
    selected = tuple(mount for mount in chosen.selected if mount.mount_id in wanted)
    return chosen._replace(selected=selected, shadowed=(), missing=())


def writable(mount: Mount) -> bool:
    """Whether a write probe makes sense on the mount.

    It does if the mount is rw, of a type that can be written to, and not private to a user.

    It does not on the kernel's own filesystems (probed if they are named or declared), where a file
    is not an ordinary file.

    It does not on a user's FUSE filesystem without ``allow_other``: only a process that has become
    that user for good gets in, and that process could not remember the file that it made."""
    known = filesystems.traits(mount.fs_type)
    if known.image or known.pseudo or known.trigger or mount.is_read_only:
        return False
    owner = fuse_owner(mount)
    return owner is None or owner[0] == 0 or b"allow_other" in mount.super_options
