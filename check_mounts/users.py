"""``--users``: which processes use the mounts of a server, or a mount. No mount is touched."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from check_mounts import filesystems, mounttable, nearest, text
from check_mounts.ghost import Holder
from check_mounts.guard.notes import Notes
from check_mounts.model import Mount, State
from check_mounts.naming import names
from check_mounts.options import command_line
from check_mounts.options.command_line import Values
from check_mounts.options.refusals import UsageError, refuse
from check_mounts.options.working_directory import absolute
from check_mounts.probing import servers
from check_mounts.report import jsonform
from check_mounts.system import reading
from check_mounts.system.printing import stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Any, Optional
from check_mounts.using import ghosts, grouping, look, stacks
from check_mounts.using.model import Users, Wanted

# What goes with --users on a command line.
_TAKEN = frozenset(("users", "json", "verbose", "mountinfo", "deadline", "debug"))
# For the output, in seconds of the deadline.
_BESIDE = 0.5
_NAMED = 5


def run(given: Mapping[str, Any], interrupts: Interrupts, noted: Notes) -> int:
    """Print the users of the mounts, and return the exit code. Raises UsageError."""
    said = _said(given)
    seconds = command_line.deadline_of(said)
    noted.until(time.monotonic() + seconds)
    table = _table(said.mountinfo)
    mounts = _chosen(table, said.users)
    noted.step("looking at the processes of this host")
    os.chdir("/")  # this process would stand in its caller's directory
    left = max(_BESIDE, seconds - _BESIDE)
    search = ghosts.Search(left, always=True)
    users = grouping.without(look.take(_wanted(mounts, table), left))
    look.wait(search)
    unlisted = search.found.unlisted()
    state = State.OK if users.is_whole else State.UNKNOWN
    if said.json:
        write(_json(state, mounts, users, unlisted), interrupts)
    else:
        lines = [
            f"MOUNTS {state.name} - {_summary(mounts, users)}",
            *_lines(mounts, users, said.verbose),
            *_notes(unlisted),
        ]
        write(text.encoded("".join(f"{line}\n" for line in lines), stdout_encoding()), interrupts)
    return state.value


def _said(given: Mapping[str, Any]) -> Values:
    """The values of all options. No file gives any: who asks this may have no time for a
    configuration that hangs. Raises UsageError."""
    said = command_line.with_defaults(given)
    command_line.check_combination(given, said)
    command_line.refuse_beside("users", _TAKEN, given)
    if said.mount_points:
        refuse("MOUNTPOINT", "does not go with --users, which may be repeated")
    return said


def _table(path: str) -> Sequence[Mount]:
    """The mount table. Raises UsageError."""
    reading.step("reading the mount table")
    try:
        return mounttable.read(absolute("--mountinfo", path))[0]
    except OSError as error:
        raise UsageError("--mountinfo", f"{text.printable_argument(path)}: {error.strerror}") from None


# -- which mounts


def _chosen(table: Sequence[Mount], words: Iterable[str]) -> tuple[Mount, ...]:
    """The mounts that the words name, in the order of the table. Raises UsageError for a word that
    names none."""
    chosen: set[int] = set()
    for word in words:
        named = {mount.mount_id for mount in table if _is_named(mount, os.fsencode(word))}
        if not named:
            refuse("--users", _unknown(word, table))
        chosen |= named
    return tuple(mount for mount in table if mount.mount_id in chosen)


def _is_named(mount: Mount, word: bytes) -> bool:
    if word.startswith(b"/") and mount.mount_point == names.simplified(word):
        return True
    return word == mount.source or (not word.startswith(b"/") and _plain(word) in _servers_of(mount))


def _servers_of(mount: Mount) -> Iterator[bytes]:
    """The names of a mount's servers, with and without ports and networks, and the address that the
    kernel uses."""
    for server in filesystems.servers(mount):
        yield _plain(server)
        yield _plain(server.partition(b"@")[0])
        host, colon, port = server.rpartition(b":")
        if colon and port.isdigit() and (b":" not in host or host.endswith(b"]")):
            yield _plain(host)
    address = servers.server_of(mount)
    if address is not None:
        yield _plain(address.address.encode("ascii"))


def _plain(server: bytes) -> bytes:
    """A server's name in one spelling: in lower case, an IPv6 address without brackets and as
    short as can be."""
    bare = server[1:-1] if server.startswith(b"[") and server.endswith(b"]") else server
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare.decode("ascii"))).encode()
    except (OSError, ValueError):
        return bare.lower()


def _unknown(word: str, table: Sequence[Mount]) -> str:
    """Why a word names no mount."""
    shown = text.printable_argument(word)
    if word.startswith("/"):
        known = [text.printable(mount.mount_point) for mount in table]
        return f"'{shown}' is no mount point; links are not followed{nearest.hint(shown, known)}"
    known = sorted({text.printable(server) for mount in table for server in filesystems.servers(mount)})
    return f"no mount has a server '{shown}'{nearest.hint(shown, known)}"


def _wanted(mounts: tuple[Mount, ...], table: Sequence[Mount]) -> Wanted:
    """The question. Nobody knows here which mounts hang, so each mount of the same family may."""
    families = {stacks.family_of(mount.fs_type) for mount in mounts}
    chosen = {mount.device for mount in mounts}
    others = [each for each in table if each.device not in chosen and stacks.family_of(each.fs_type) in families]
    return Wanted(mounts, frozenset(each.device for each in (*mounts, *others)), tuple(others))


# -- the output


def _summary(mounts: Sequence[Mount], users: Users) -> str:
    """The first line's words: the mounts, and how many processes use them."""
    every = grouping.each_once((*users.processes, *users.probable))
    waits = sum(each.how.hangs for each in every)
    which = text.printable(mounts[0].mount_point) if len(mounts) == 1 else text.counted(len(mounts), "mount")
    if not every and not users.is_whole:
        return f"{grouping.NONE_SEEN} that uses {which}"
    if not every:
        return f"no process uses {which}" + (" as far as was seen" if users.incomplete else "")
    count = "1 process uses" if len(every) == 1 else f"{len(every)} processes use"
    count = grouping.least(users) + count
    return f"{count} {which}: {waits} of them wait, or probably do" if waits else f"{count} {which}"


def _lines(mounts: Sequence[Mount], users: Users, verbosity: int) -> Iterator[str]:
    """What follows the first line: the groups of each filesystem, with -v each process; why some
    processes may be missing."""
    groups = _by_device(mounts)
    nobody = "no process" if users.is_whole else grouping.NONE_SEEN
    nobody = "none for certain" if users.probable else nobody
    for here in groups:
        these = users.of(here[0].device)
        these = these if len(groups) == 1 else these._replace(probable=())
        words = [each for each in (grouping.waiting_words(these), grouping.holding_words(these)) if each]
        yield f"{_name(here)}: {'; '.join(words) or nobody}"
        for each in (*these.processes, *these.probable) if verbosity else ():
            yield f"  {grouping.line(each)}"
    if users.probable and len(groups) > 1:
        shared = users._replace(processes=())
        yield f"one of these, nobody can say which: {grouping.waiting_words(shared)}"
        for each in users.probable if verbosity else ():
            yield f"  {grouping.line(each)}"
    elif users.probable:
        yield "note: those who probably wait may wait for another mount that hangs"
    for note in users.incomplete:
        yield f"note: {text.one_line(note)}"


def _notes(unlisted: Sequence[Holder]) -> Iterator[str]:
    """A note about processes that may be users, too: of such a mount, nobody knows the
    filesystem."""
    if unlisted:
        uses, which = ("process uses", "it") if len(unlisted) == 1 else ("processes use", "they")
        words = ghosts.holders_words(unlisted)
        yield f"note: {len(unlisted)} {uses} what was unmounted lazily; nobody can say whether {which} count: {words}"


def _by_device(mounts: Sequence[Mount]) -> Collection[list[Mount]]:
    """The mounts of each filesystem: its users use them all."""
    found: dict[tuple[int, int], list[Mount]] = {}
    for mount in mounts:
        found.setdefault(mount.device, []).append(mount)
    return found.values()


def _name(mounts: Sequence[Mount]) -> str:
    """The places of one filesystem, its type and its source."""
    points = list(dict.fromkeys(text.printable(mount.mount_point) for mount in mounts))
    more = f" and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
    source = filesystems.source_words(mounts[0].source, mounts[0].fs_type)
    return f"{', '.join(points[:_NAMED])}{more} ({text.printable(mounts[0].fs_type)} {source})"


def _json(state: State, mounts: Sequence[Mount], users: Users, unlisted: Sequence[Holder]) -> bytes:
    """One object; each mount and each process has a line of its own."""
    form = grouping.json_form(users)
    pids = [each.pid for each in unlisted]
    rest = {"counts": form["counts"], "incomplete": form["incomplete"], "unlisted": pids}
    lists: dict[str, Iterator[str]] = {
        "mounts": map(jsonform.encode, map(_mount_form, mounts)),
        "processes": map(jsonform.encode, form["processes"]),
    }
    return jsonform.composed(jsonform.head(state.name, _summary(mounts, users)), rest, lists)


def _mount_form(mount: Mount) -> dict[str, Optional[str]]:
    return {
        "mount_point": text.printable(mount.mount_point),
        "type": text.printable(mount.fs_type),
        "source": filesystems.source_words(mount.source, mount.fs_type),
        "device": "{}:{}".format(*mount.device),
    }
