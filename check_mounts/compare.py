"""What should be mounted, and whether what is mounted is as declared.

Declarations come from fstab(5), from ``--expect`` and from systemd's units; all become
:class:`~check_mounts.model.ExpectedMount`. They are compared with the text of the mount table. No
mount point is ever looked up: the only paths touched are the declaring files themselves and names
below ``/dev``, followed link by link and never out of it.

One rule decides in doubt: a difference is told only where it is certain. What the kernel does not
show, what only DNS or a look into a directory could decide, what a server may negotiate: of these
nothing is said."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Optional, Union

from check_mounts import filesystems, meaning, reading
from check_mounts.devices import Compared, Devices, device_names, tag_of
from check_mounts.filesystems import CIFS_TYPES, NFS_TYPES, is_fuse, source_words
from check_mounts.model import BadLine, Condition, ExpectedMount, Mount
from check_mounts.mountoptions import (
    Comparison,
    Mode,
    flag_differences,
    is_automount,
    is_bind,
    is_control,
    is_flag,
    may_be_absent,
    mode,
    split_options,
    stays_unmounted,
    takes_after_its_source,
)
from check_mounts.mounttable import LONGEST_LINE, LONGEST_PATH, contents, covered_by
from check_mounts.selection import Glob, leads_over, normalised, unprivileged_owner
from check_mounts.text import printable, without_secrets

DEFAULT_FSTAB = "/etc/fstab"
# The largest files that are read, in bytes, and how many units.
LARGEST_FSTAB, LARGEST_UNIT, MOST_UNITS = 16 << 20, 1 << 20, 10000
# The longest options that can be meant, in bytes: mount(2) takes one page of them.
LONGEST_OPTIONS = 64 << 10

# systemd.unit(5), "System Unit Search Path"; an earlier one hides units of the same name in later
# ones.
UNIT_DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
)


@dataclasses.dataclass(frozen=True)
class Complaint:
    """A declaration that was left out: where it stands and why, in words fit for output."""

    origin: str
    why: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.why}"


@dataclasses.dataclass(frozen=True)
class Deviation:
    """What is not as declared at one mount point. ``mount`` is None where nothing is mounted;
    ``detail`` is fit for output."""

    mount_point: bytes
    mount: Optional[Mount]
    condition: Condition
    detail: str


@dataclasses.dataclass(frozen=True)
class Excused:
    """A declared mount whose absence is no failure, and why."""

    mount_point: bytes
    detail: str


# One declaration
# ------------------------------------------------------------------------------------------------


def _mount_point(path: bytes) -> bytes:
    """A declared mount point as the kernel spells it, if there is no link on the way. Raises
    ValueError."""
    if b"\0" in path:
        raise ValueError("the mount point holds a NUL")
    if len(path) > LONGEST_PATH:
        raise ValueError(f"the mount point is longer than {LONGEST_PATH} bytes, which no system call takes")
    if not path.startswith(b"/"):
        raise ValueError(
            f"the mount point {printable(without_secrets(path))} is not an absolute path"
            if path
            else "the mount point is missing"
        )
    return normalised(path)


def _entry(
    point: bytes, source: Optional[bytes], fs_type: Optional[bytes], options: tuple[bytes, ...], origin: str
) -> ExpectedMount:
    """An expected mount of these fields; ``nofail`` and ``automount`` by its options
    (systemd.mount(5)). Raises ValueError."""
    if sum(map(len, options)) > LONGEST_OPTIONS:
        raise ValueError(f"its options are longer than {LONGEST_OPTIONS >> 10} KiB")
    path, name = _mount_point(point), point if b".." in point else b""
    if path == b"/":  # systemd mounts it whatever noauto, nofail or an automount say (add_mount in fstab-generator.c)
        return ExpectedMount(path, source or None, fs_type or None, options, origin, name=name)
    return ExpectedMount(
        path, source or None, fs_type or None, options, origin, may_be_absent(options), is_automount(options), name
    )


# fstab(5)
# ------------------------------------------------------------------------------------------------

_OCTAL = re.compile(rb"\\([0-7]{3})")
_NUMBER = re.compile(rb"[+-]?[0-9]+\Z")


@dataclasses.dataclass(frozen=True)
class FstabLine:
    """The fields of one line of fstab(5), unescaped. ``options`` is None where there are none;
    ``number`` counts from 1."""

    number: int
    source: bytes
    target: bytes
    fs_type: bytes
    options: Optional[bytes]


def _unescape(field: bytes) -> bytes:
    """Every octal escape turned into its byte, modulo 256, as libmount's unmangle() does."""
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8) & 0xFF]), field)


def parse_fstab_line(line: bytes, number: int) -> Optional[FstabLine]:
    """One line without its newline; None where it is blank or a comment.

    Raises ValueError with a reason in words where mount(8) would ignore the line
    (mnt_table_parse_next in libmount)."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE >> 20} MiB")
    text = line[:-1] if line.endswith(b"\r") else line
    fields = [field for field in re.split(rb"[ \t]+", text) if field]
    if not fields or fields[0].startswith(b"#"):
        return None
    words = [_unescape(field) for field in fields[:4]]
    if any(b"\0" in word for word in words):
        raise ValueError("it holds a NUL")
    if len(words) < 3:
        raise ValueError("it has no " + ("mount point" if len(words) < 2 else "filesystem type"))
    for place, field in zip(("fifth", "sixth"), fields[4:6]):
        if not _NUMBER.match(field):
            # It is not shown: an option with a blank in it, which may be a password, moves its rest
            # into this field.
            raise ValueError(f"its {place} field is not a number (a blank within a field is written \\040)")
    return FstabLine(number, words[0], words[1], words[2], words[3] if len(words) > 3 else None)


def parse_fstab(data: bytes, name: str) -> tuple[list[FstabLine], list[BadLine]]:
    """All lines of a table that mount(8) takes, and complaints of the others. ``name`` is the
    file's, for the origin."""
    lines, complaints = [], []
    for number, text in enumerate(data.split(b"\n"), 1):
        try:
            line = parse_fstab_line(text, number)
        except ValueError as error:
            complaints.append(BadLine(printable(os.fsencode(name)), number, str(error)))
            continue
        if line is not None:
            lines.append(line)
    return lines, complaints


def _fstab_origin(name: str, number: int) -> str:
    return f"{printable(os.fsencode(name))} line {number}"


def _is_mounted_at_boot(line: FstabLine, options: tuple[bytes, ...]) -> bool:
    """Swap, ``ignore`` (glibc's MNTTYPE_IGNORE) and lines without a mount point are none.

    ``noauto`` is left to whoever wants it, but ``noauto,x-systemd.automount`` is the usual way to
    write an automount, and `/` is there all the same."""
    if line.fs_type in (b"swap", b"ignore") or line.target in (b"none", b"swap"):
        return False
    return not stays_unmounted(options) or is_automount(options) or normalised(line.target) == b"/"


def read_fstab(path: str = DEFAULT_FSTAB) -> tuple[list[ExpectedMount], list[BadLine]]:
    """What an fstab(5) says is mounted at boot, in its order. Several entries for one mount point
    are stacked: all are expected.

    A bad line is a complaint and stops nothing. Raises OSError where the file cannot be read.
    """
    lines, complaints = parse_fstab(reading.asked("reading", path, lambda name: contents(name, LARGEST_FSTAB)), path)
    entries = []
    for line in lines:
        options = split_options(line.options or b"")
        origin = _fstab_origin(path, line.number)
        if not _is_mounted_at_boot(line, options):
            continue
        try:
            if not line.target.startswith(b"/"):
                # It is not shown: where the source has a blank in it, this is its end, and may be
                # that of a password.
                raise ValueError("the mount point is not an absolute path")
            entries.append(_entry(line.target, line.source, line.fs_type, options, origin))
        except ValueError as error:
            complaints.append(BadLine(printable(os.fsencode(path)), line.number, str(error)))
    return entries, complaints


# --expect
# ------------------------------------------------------------------------------------------------

_UNESCAPED_COMMA = re.compile(rb"(?<!\\),")


def parse_spec(spec: bytes) -> ExpectedMount:
    """``MOUNTPOINT[,source=SOURCE][,type=TYPE][,OPTION]...``; ``\\,`` is a comma of a value, other
    backslashes stand for themselves.

    Raises ValueError with a reason in words.
    """
    if b"\0" in spec:
        raise ValueError("it holds a NUL")
    point, *words = (word.replace(b"\\,", b",") for word in _UNESCAPED_COMMA.split(spec))
    known: dict[bytes, bytes] = {}
    options = []
    for word in words:
        key, _, value = word.partition(b"=")
        if not word:
            raise ValueError("an option is empty (write '\\,' for a comma that belongs to a value)")
        if key not in (b"source", b"type"):
            options.append(word)
        elif not value or key in known:
            raise ValueError(f"{printable(key)}= " + ("is given twice" if value else "has no value"))
        else:
            known[key] = value
    if known.get(b"type") == b"swap":
        raise ValueError("swap is not mounted")
    from check_mounts import option_rules  # takes some milliseconds, and a run without declarations has no use for it

    option_rules.check_type(known.get(b"type", b"auto"))
    for option in options:
        option_rules.check_spelling(option, known.get(b"type"))
    return dataclasses.replace(
        _entry(point, known.get(b"source"), known.get(b"type"), tuple(options), "--expect"), own=True
    )


# systemd.mount(5), systemd.automount(5)
# ------------------------------------------------------------------------------------------

# Targets that a running host has reached. What others want may rightly not be mounted.
_ALWAYS_REACHED = frozenset(
    f"{name}.target" for name in ("basic", "default", "local-fs", "local-fs-pre", "multi-user", "remote-fs", "sysinit")
)
_MAX_LINKS = 40  # MAXSYMLINKS in the kernel

_Settings = dict[tuple[str, str], bytes]  # (section, key) -> value; the last assignment wins


def parse_unit(data: bytes) -> _Settings:
    """The assignments of a unit file (systemd.syntax(7)): comments, and lines continued by a
    backslash at their end."""
    settings: _Settings = {}
    section = ""
    for line in _logical_lines(data):
        if line.startswith(b"[") and line.endswith(b"]"):
            section = line[1:-1].decode("latin-1")
        elif b"=" in line:
            key, _, value = line.partition(b"=")
            settings[section, key.strip().decode("latin-1")] = value.strip()
    return settings


def _logical_lines(data: bytes) -> Iterator[bytes]:
    """Lines with their continuations: the backslash becomes a space, comments in between are
    skipped."""
    begun = b""
    for line in data.split(b"\n"):
        stripped = line.strip(b" \t\r")
        if stripped.startswith((b"#", b";")):
            continue
        if stripped.endswith(b"\\"):
            begun += stripped[:-1] + b" "
            continue
        if begun + stripped:
            yield (begun + stripped).strip()
        begun = b""
    if begun:
        yield begun.strip()


def _listed(directory: str) -> list[str]:
    try:
        return sorted(reading.asked("listing", directory, os.listdir))
    except OSError:  # most of the search path does not exist on any one host
        return []


def _link(path: str) -> Optional[str]:
    """Where a symbolic link leads, None where ``path`` is none."""
    try:
        return reading.asked("looking at", path, os.readlink)
    except OSError:
        return None


def _final(path: str, directories: Sequence[str]) -> str:
    """The file behind the links of a unit, followed by hand. Raises ValueError where they leave the
    trees of the search path.

    ``systemctl link`` may point anywhere, also to a file server that hangs; that is not followed.
    """
    trees = tuple("/" + directory.split("/")[1] + "/" for directory in directories)
    for _ in range(_MAX_LINKS):
        target = _link(path)
        if target is None or target == "/dev/null":
            return target or path
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not path.startswith(trees):
            raise ValueError("it is a link that leads out of systemd's directories")
    raise ValueError("it is a link that leads round in circles")


class _Units:
    """The units below ``directories``, each file read when it is asked for."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.directories = directories
        self.names = {directory: _listed(directory) for directory in directories}

    def wanted(self) -> dict[str, bool]:
        """Names of the mount and automount units that something wants -> must they be there, or may
        they be absent?"""
        seen: set[tuple[str, str]] = set()
        wanted: dict[str, bool] = {}
        for directory in self.directories:
            for holder in self.names[directory]:
                stem, _, relation = holder.rpartition(".")
                if relation not in ("wants", "requires"):
                    continue
                for name in _listed(os.path.join(directory, holder)):
                    if not name.endswith((".mount", ".automount")) or (holder, name) in seen:
                        continue
                    seen.add((holder, name))
                    # A dependency that an earlier directory links to /dev/null is switched off.
                    if _link(os.path.join(directory, holder, name)) != "/dev/null":
                        wanted[name] = wanted.get(name, False) or _is_certain(directory, stem, relation)
        return wanted

    def path(self, name: str) -> Optional[str]:
        """The file of a unit in the first directory that has one."""
        return next(
            (os.path.join(directory, name) for directory in self.directories if name in self.names[directory]), None
        )

    def settings(self, name: str) -> Optional[_Settings]:
        """The unit with its drop-ins; None where there is none or it is masked. Raises OSError,
        ValueError."""
        path = self.path(name)
        data = b"" if path is None else self._data(path)
        if not data.strip():  # an empty file masks as well as /dev/null
            return None
        settings = parse_unit(data)
        for drop_in in self._drop_ins(name):
            settings.update(parse_unit(self._data(drop_in)))
        return settings

    def _data(self, path: str) -> bytes:
        final = _final(path, self.directories)
        return (
            b"" if final == "/dev/null" else reading.asked("reading", final, lambda name: contents(name, LARGEST_UNIT))
        )

    def _drop_ins(self, name: str) -> list[str]:
        """The ``NAME.d/*.conf`` in the order in which they are applied: by their names, wherever
        they are."""
        files: dict[str, str] = {}
        *own, of_type = _drop_in_names(name)
        for directory, holder in [
            (each, holder) for holders in (own, [of_type]) for each in self.directories for holder in holders
        ]:
            if holder in self.names[directory]:
                below = os.path.join(directory, holder)
                for conf in _listed(below):
                    if conf.endswith(".conf"):
                        files.setdefault(conf, os.path.join(below, conf))
        return [files[conf] for conf in sorted(files)]


def _drop_in_names(name: str) -> list[str]:
    """``a-b.mount`` has drop-ins in ``a-b.mount.d``, ``a-.mount.d`` and ``mount.d``
    (systemd.unit(5)), the first one counts."""
    stem, _, kind = name.rpartition(".")
    dashes = [place for place, letter in enumerate(stem[:-1]) if letter == "-"]
    return [f"{name}.d", *(f"{stem[: dash + 1]}.{kind}.d" for dash in reversed(dashes)), f"{kind}.d"]


def _is_certain(directory: str, wanting: str, relation: str) -> bool:
    """Must a unit be there that ``wanting`` wants or requires?

    fstab's generator lets local-fs.target only want what is ``nofail``. An administrator's own
    units are usually wanted."""
    generated = os.path.basename(directory).startswith("generator")
    return wanting in _ALWAYS_REACHED and (relation == "requires" or not generated)


def _without_specifiers(value: bytes) -> Optional[bytes]:
    """A value with ``%%`` turned into ``%``; None where it has another specifier, for which only
    systemd knows what stands there."""
    return value.replace(b"%%", b"%") if set(re.findall(rb"%(.?)", value)) <= {b"%"} else None


def _value(settings: _Settings, section: str, key: str) -> bytes:
    """The value of a setting; empty where there is none or it is not known."""
    return _without_specifiers(settings.get((section, key), b"")) or b""


def _where_of_name(name: str) -> bytes:
    """The mount point that a unit's name stands for (systemd-escape(1) --unescape --path)."""
    path = os.fsencode(name.rpartition(".")[0]).replace(b"-", b"/")
    return b"/" + re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match.group(1), 16)]), path).strip(b"/")


def _unit_entry(units: _Units, name: str, certain: bool) -> Optional[ExpectedMount]:
    """What a wanted unit declares; None where it is masked or of a pseudo-filesystem. Raises
    OSError, ValueError."""
    own = units.settings(name)
    if own is None:
        return None
    automount = name.endswith(".automount")
    kind, section = (name.rpartition(".")[0] + ".mount", "Automount") if automount else (name, "Mount")
    mount = (units.settings(kind) or {}) if automount else own
    fs_type = _value(mount, "Mount", "Type")
    if filesystems.traits(fs_type).pseudo:
        return None
    where = _value(own, section, "Where") or _where_of_name(name)
    declared = (_without_specifiers(option.strip()) for option in split_options(mount.get(("Mount", "Options"), b"")))
    options = tuple(option for option in declared if option is not None)
    path = units.path(name) or name
    entry = _entry(where, _value(mount, "Mount", "What"), fs_type, options, f"unit {printable(os.fsencode(path))}")
    # A unit with conditions may rightly have been skipped; whether they held at boot cannot be
    # known.
    conditional = any(
        section == "Unit" and key.startswith(("Condition", "Assert")) and value for (section, key), value in own.items()
    )
    return dataclasses.replace(
        entry, automount=entry.automount or automount, nofail=entry.nofail or conditional or not certain
    )


def read_units(directories: Sequence[str] = UNIT_DIRECTORIES) -> tuple[list[ExpectedMount], list[Complaint]]:
    """What systemd's mount and automount units say is mounted, as far as something wants or
    requires them.

    A unit that cannot be understood or read is a complaint. Units of pseudo-filesystems, which
    systemd itself ships, are left out."""
    units = _Units(directories)
    entries: dict[bytes, ExpectedMount] = {}
    complaints = []
    wanted = units.wanted()
    if len(wanted) > MOST_UNITS:
        complaints.append(Complaint("units", f"there are {len(wanted)}, of which {MOST_UNITS} are read"))
    for name in sorted(wanted)[
        :MOST_UNITS
    ]:  # foo.automount comes before foo.mount, so where both are wanted a trigger will do
        try:
            entry = _unit_entry(units, name, wanted[name])
        except (OSError, ValueError) as error:
            why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            complaints.append(Complaint(f"unit {printable(os.fsencode(units.path(name) or name))}", why))
            continue
        if entry is not None:
            entries.setdefault(entry.mount_point, entry)
    return list(entries.values()), complaints


# The table that is compared with
# ------------------------------------------------------------------------------------------------


class _Table:
    """The mount table as declarations are compared with it."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        visible: Collection[int],
        devices: Union[Devices, Compared],
        ignored: Sequence[Glob],
    ) -> None:
        self.at: dict[bytes, list[Mount]] = {}
        self.seen: dict[bytes, Mount] = {}
        self._by_id: dict[int, Mount] = {}
        for mount in mounts:
            self._by_id[mount.mount_id] = mount
            self.at.setdefault(mount.mount_point, []).append(mount)
            if mount.mount_id in visible:
                self.seen[mount.mount_point] = mount
        self.devices = devices
        self.ignored = ignored
        self.container = self._is_container()
        self._types = collections.Counter(mount.fs_type for each in self.at.values() for mount in each)
        self._declared: dict[tuple[int, int], set[int]] = {}

    def _is_container(self) -> bool:
        """Is this the table of a container? systemd too leaves devices of fstab alone where /sys is
        read-only."""
        sys = self.seen.get(b"/sys")
        lxcfs = any(
            mount.fs_type == b"fuse.lxcfs" and point.startswith(b"/proc/") for point, mount in self.seen.items()
        )
        return lxcfs or (sys is not None and _is_ro(sys))

    def users_cover(self, mount_point: bytes) -> Optional[Mount]:
        """The FUSE mount of an unprivileged user that covers what is mounted there; None where it
        is none."""
        covers = covered_by(self._by_id.values())
        found = (covers.get(mount.mount_id) for mount in self.at.get(mount_point, ()))
        return next((cover for cover in found if cover is not None and unprivileged_owner(cover) is not None), None)

    def declare(self, expected: Iterable[ExpectedMount]) -> None:
        """Remember which filesystems are declared to be mounted, by device; a bind mount only shows
        one."""
        for each in expected:
            mount = self.seen.get(each.mount_point)
            if mount is not None and not _is_bind(each):
                self._declared.setdefault(mount.device, set()).add(mount.mount_id)

    def is_alone(self, mount: Mount) -> bool:
        """Is its superblock, with the options that were given first, not that of another declared
        mount? A device has one, however often it is mounted, and btrfs one for all subvolumes, of
        which others than those declared may have been mounted first."""
        if mount.fs_type == b"btrfs":
            return self._types[mount.fs_type] == 1
        return not filesystems.traits(mount.fs_type).device or len(self._declared.get(mount.device, ())) < 2

    def bound_from(self, directory: bytes, mount: Mount) -> Optional[Mount]:
        """The mount that holds the source of a bind mount. Beneath a directory that is bound on
        itself lies its parent.

        None where that cannot be seen any more: it is bound over a directory above.
        """
        if directory == mount.mount_point:
            return self._by_id.get(mount.parent_id)
        return None if leads_over(directory, mount.mount_point) else self.holder(directory)

    def is_ignored(self, option: bytes) -> bool:
        return any(glob.match(option) for glob in self.ignored)

    def holder(self, path: bytes) -> Optional[Mount]:
        """The deepest visible mount that holds ``path``, on the text alone; none of what no system
        call takes."""
        if len(path) > LONGEST_PATH:
            return None
        while path not in self.seen:
            if path == b"/":
                return None
            path = path[: path.rfind(b"/")] or b"/"
        return self.seen[path]


def _is_ro(mount: Mount) -> bool:
    return b"ro" in mount.options or b"ro" in mount.super_options


# Sources
# ------------------------------------------------------------------------------------------------

_EXPORT = re.compile(rb"(\[[^\]/]+\]|[^:/\[\]]+):(/.*)", re.DOTALL)


def _is_bind(expected: ExpectedMount) -> bool:
    return is_bind(expected.options)


def _same_host(one: bytes, other: bytes, mount: Mount) -> bool:
    """Are two names of a server the same, literally, as addresses, or by the address that the
    kernel shows?"""
    one, other = (host.strip(b"[]").lower() for host in (one, other))
    address = (mount.super_option(b"addr") or b"").lower()
    if one == other or _address(one) in (_address(other), _address(address)):
        return True
    # With and without its domain it is the same name; and which name goes with which address, only
    # DNS could say.
    if isinstance(_address(one), bytes) and isinstance(_address(other), bytes):
        return one.startswith(other + b".") or other.startswith(one + b".")
    return isinstance(_address(one), bytes)


def _address(host: bytes) -> object:
    """A host as something that compares: IPv6 addresses have many spellings. Names stay
    themselves."""
    try:
        return ipaddress.ip_address(host.decode("ascii").partition("%")[0])
    except ValueError:
        return host


def _slashes(path: bytes) -> bytes:
    """A path on a server without doubled and trailing slashes."""
    return re.sub(rb"/+", b"/", path).rstrip(b"/") or b"/"


def _same_export(source: bytes, mount: Mount) -> Optional[bool]:
    """NFS: ``host:/path``; mount.nfs also takes ``nfs://host/path``, and makes that of it."""
    url = re.fullmatch(rb"nfs://([^/:]+|\[[^\]/]+\])(?::\d*)?(/.*)", source, re.DOTALL)
    ours, theirs = url or _EXPORT.fullmatch(source), _EXPORT.fullmatch(mount.source)
    if ours is None or theirs is None:
        return False if source.startswith((b"/dev/", b"//")) or tag_of(source) else None
    # Of several servers with the same content (host1,host2:/path) one is mounted.
    same = any(_same_host(host, theirs[1], mount) for host in ours[1].split(b","))
    return same and _slashes(ours[2]) == _slashes(theirs[2])


def _share(source: bytes) -> Optional[tuple[bytes, bytes, bytes]]:
    """Server, share and the path below it of ``//user@server/share/path`` or
    ``\\\\server\\share``."""
    parts = source.replace(b"\\", b"/").split(b"/", 4)
    if len(parts) < 4 or parts[0] or parts[1] or not parts[3]:
        return None
    return parts[2].rpartition(b"@")[2], parts[3].lower(), _slashes(parts[4] if len(parts) > 4 else b"").strip(b"/")


def _same_share(source: bytes, mount: Mount) -> Optional[bool]:
    """CIFS. Mounts of two directories of a share may have one superblock, whose source is that of
    the first; then root tells."""
    ours, theirs = _share(source), _share(mount.source)
    if ours is None or theirs is None:
        return False if source.startswith(b"/dev/") or tag_of(source) or _EXPORT.fullmatch(source) else None
    if not _same_host(ours[0], theirs[0], mount) or ours[1] != theirs[1]:
        return False
    return ours[2] == theirs[2] or ours[2] == mount.root.strip(b"/")


def _same_fuse(source: bytes, mount: Mount) -> Optional[bool]:
    """Of FUSE daemons only few show the source they were given; of the others nothing can be
    said."""
    if mount.fs_type not in (b"fuse.sshfs", b"fuse.glusterfs") and not source.startswith(b"sshfs#"):
        return None
    ours = source.partition(b"#")[2] if source.startswith(b"sshfs#") else source
    if b":" not in ours or b":" not in mount.source:
        return None
    (host, _, path), (their_host, _, their_path) = ours.partition(b":"), mount.source.partition(b":")
    if (
        mount.fs_type == b"fuse.glusterfs"
    ):  # a volume may be written with a slash before it, and each of its servers will do
        return path.strip(b"/") == their_path.strip(b"/")
    return host.lower() == their_host.lower() and (
        path == their_path or path.rstrip(b"/") == their_path.rstrip(b"/") != b""
    )


def _same_tree(source: bytes, mount: Mount) -> Optional[bool]:
    """Ceph and Lustre: mount helpers resolve the servers and write them in another way, but what is
    mounted of them stays.

    ``mon1,mon2:/path`` becomes ``user@fsid.fsname=/path`` (mount.ceph since Ceph 17),
    ``mgs:/fsname`` becomes ``10.0.0.1@tcp:/fsname``."""
    ours, theirs = (re.search(rb"[:=](/.*)\Z", each, re.DOTALL) for each in (source, mount.source))
    return None if ours is None or theirs is None else _slashes(ours[1]) == _slashes(theirs[1])


# What stands for the root filesystem until the kernel or the initramfs has found it, or instead of
# it ever after: root= of kernels that boot over the network
# (Documentation/admin-guide/nfs/nfsroot.rst, filesystems/cifs/cifsroot.rst), live images, overlays
# over it.
_ROOTS = frozenset(
    b"""/dev/nfs /dev/cifs /dev/root /dev/ram /dev/live rootfs root nfsroot none overlay overlayroot overlayfs aufs airootfs cow /cow
    live-rw tmpfs""".split()
)
_ROOT_PREFIXES = (b"/dev/ram", b"/dev/zram", b"/dev/loop", b"/dev/mapper/live-", b"overlayfs:")


def _is_placeholder(source: bytes) -> bool:
    return source in _ROOTS or source.startswith(_ROOT_PREFIXES)


def _is_root_of_another_name(source: bytes, mount: Mount) -> bool:
    """Is it `/`, and one of both names no name of what is mounted? `/dev/root` in the table says
    nothing, but its number does."""
    if mount.mount_point != b"/":
        return False
    return _is_placeholder(source) or (
        _is_placeholder(mount.source) and not (mount.source == b"/dev/root" and device_names(source))
    )


def _same_source(expected: ExpectedMount, mount: Mount, table: _Table) -> Optional[bool]:
    """Is the source the declared one? None where that cannot be decided."""
    source = expected.source
    if (
        source is None
        or source in (b"none", b"nodev", b"-", mount.source)
        or source.rstrip(b"/") == mount.source.rstrip(b"/")
    ):
        return True
    names_device = bool(device_names(source))
    if _is_root_of_another_name(source, mount):
        return None
    if filesystems.traits(mount.fs_type).sourceless:
        plain = names_device or _EXPORT.fullmatch(source) or source.startswith(b"//")
        return None if not plain or expected.fs_type == mount.fs_type else False
    if b"loop" in expected.options or any(option.startswith(b"loop=") for option in expected.options):
        return None
    if source.startswith(b"/") and not source.startswith((b"//", b"/dev/")):
        return None  # a file on a loop device
    if not (names_device or filesystems.keeps_source(expected.fs_type, mount)):
        return None if is_fuse(mount) else _disk_for_server(source, mount)
    if mount.fs_type in NFS_TYPES:
        return _same_export(source, mount)
    if mount.fs_type in CIFS_TYPES:
        return _same_share(source, mount)
    if names_device:
        return table.devices.same(source, mount)
    if mount.fs_type in (b"ceph", b"lustre", b"lustre_lite"):
        return _same_tree(source, mount)
    if is_fuse(mount):
        return _same_fuse(source, mount)
    if mount.fs_type in (b"zfs", b"9p", b"virtiofs"):
        return False
    return _disk_for_server(source, mount)


def _disk_for_server(source: bytes, mount: Mount) -> Optional[bool]:
    """False where a server was declared, and a disk of our own is there; else it cannot be
    decided."""
    return (
        False if mount.source.startswith(b"/dev/") and (_EXPORT.fullmatch(source) or source.startswith(b"//")) else None
    )


def _source_difference(expected: ExpectedMount, mount: Mount, table: _Table) -> Optional[str]:
    if expected.source is None:
        return None
    if _is_bind(expected):
        return _bind_difference(normalised(expected.source), mount, table) if expected.source.startswith(b"/") else None
    if _same_source(expected, mount, table) is not False:
        return None
    there, declared = (
        source_words(mount.source, mount.fs_type),
        source_words(expected.source, expected.fs_type or mount.fs_type),
    )
    return f"source is {there}, expected {declared}"


def _bind_difference(directory: bytes, mount: Mount, table: _Table) -> Optional[str]:
    """A bind mount shows a directory of another mount: that directory relative to the mount's root,
    on the same device."""
    holder = table.bound_from(directory, mount)
    if holder is None or holder.fs_type == b"autofs":
        return None
    rest = directory[len(holder.mount_point.rstrip(b"/")) :]
    root = (holder.root.rstrip(b"/") + rest).rstrip(b"/") or b"/"
    if (mount.device, mount.root) == (holder.device, root):
        return None
    if mount.device != holder.device and _may_be_below(mount, holder):
        return None
    if mount.device != holder.device:
        there, declared = (source_words(each.source, each.fs_type) for each in (mount, holder))
        return f"it shows {printable(mount.root)} of {there}, expected {printable(root)} of {declared}"
    return f"it shows {printable(mount.root)}, expected {printable(root)} (bound from {printable(directory)})"


def _may_be_below(mount: Mount, holder: Mount) -> bool:
    """May it come from a filesystem that was mounted below ``holder`` by itself, and has expired
    since? NFS does so with exports below exports, CIFS with DFS, ZFS with snapshots; their sources
    are below that of ``holder``."""
    if mount.fs_type == holder.fs_type == b"zfs":
        return mount.source.startswith(holder.source + b"@")
    alike = any({mount.fs_type, holder.fs_type} <= family for family in (NFS_TYPES, CIFS_TYPES))
    return alike and mount.source.startswith(holder.source.rstrip(b"/") + b"/")


# Types
# ------------------------------------------------------------------------------------------------


def _type_difference(expected: ExpectedMount, mount: Mount) -> Optional[str]:
    declared = expected.fs_type
    if declared in (None, b"auto", b"none") or declared is None or _is_bind(expected):
        return None
    if any(filesystems.is_of_type(mount, one) for one in declared.split(b",")):
        return None
    return f"type is {printable(mount.fs_type)}, expected {printable(without_secrets(declared))}"


def _is_type_uncompared(expected: ExpectedMount, mount: Mount) -> bool:
    """Is the declared type one of a mount helper that nobody knows of, or a slip, so that it may be
    what is mounted or not?"""
    declared = expected.fs_type
    if declared in (None, b"auto", b"none") or declared is None or _is_bind(expected):
        return False
    return not any(filesystems.is_compared(mount, one) for one in declared.split(b","))


# Options
# ------------------------------------------------------------------------------------------------


def _bound_from(expected: ExpectedMount, mount: Mount, table: _Table) -> Optional[Mount]:
    """What a declared bind mount takes its flags from, where that can be seen."""
    if not _is_bind(expected) or expected.source is None or not expected.source.startswith(b"/"):
        return None
    return table.bound_from(normalised(expected.source), mount)


def _compared(expected: ExpectedMount, mount: Mount, table: _Table) -> Comparison:
    """The declared options, those of the mount and, unless it is a bind mount, those of the
    filesystem."""
    options = [option for option in expected.options if not table.is_ignored(option)]
    holder = _bound_from(expected, mount, table)
    flags = list(flag_differences(options, mount, None if holder is None else holder.options))
    if _is_bind(expected):  # a bind mount has nothing to say about the superblock
        return Comparison(flags, [option for option in options if not is_flag(option) and not is_control(option)])
    from check_mounts import option_rules  # see parse_spec

    of_filesystem = option_rules.compared(options, mount, table.is_alone(mount))
    return Comparison([*flags, *of_filesystem.differences], of_filesystem.uncompared)


# Read-only
# ------------------------------------------------------------------------------------------------


def _is_normally_writable(mount: Mount) -> bool:
    """Without ``rw`` being said: an overlay without an upper layer, and a FUSE daemon, may rightly
    be read-only."""
    if mount.fs_type in (b"overlay", b"overlayfs"):
        return not _lacks_upper(mount)
    known = filesystems.traits(mount.fs_type)
    if known.pseudo or known.image or mount.fs_type == b"autofs":
        return False
    if b"nfs=nostale_ro" in mount.super_options:  # FAT makes itself read-only then (fat_fill_super in fs/fat/inode.c)
        return False
    return not is_fuse(mount) or mount.fs_type.startswith(b"fuseblk")


# ext4 stops writing after an error and says so in these words (EXT4_FLAGS_EMERGENCY_RO, _SHUTDOWN)
# while still `rw`.
_STOPPED = (b"emergency_ro", b"shutdown")


def _why_read_only(mount: Mount) -> Optional[str]:
    """How a mount refuses to be written to, in words; None where it does not. The words of options
    are exact."""
    if b"ro" in mount.options or b"ro" in mount.super_options:
        return "mounted ro"
    for word in _STOPPED:
        if word in mount.super_options:
            return f"mounted rw, but stopped ({printable(word)})"
    return None


def read_only(mount: Mount, expected_ro: bool) -> Optional[str]:
    """Words where a mount without a declaration is read-only though its type is normally writable;
    None where all is well."""
    return _why_read_only(mount) if not expected_ro and _is_normally_writable(mount) else None


def _read_only_words(expected: ExpectedMount, mount: Mount, table: _Table) -> Optional[str]:
    declared, why = mode(expected.options), _why_read_only(mount)
    if why is None or declared.word == b"ro" or (declared.word is None and not _is_normally_writable(mount)):
        return None
    if declared.word == b"rw" and not _is_violated(declared, mount):
        return None
    if _inherits_ro(expected, mount, table):
        return None
    return None if table.is_ignored(declared.word or b"rw") else f"{why}, expected rw"


def _is_violated(declared: Mode, mount: Mount) -> bool:
    """Is what is declared rw, the mount or its superblock, read-only or stopped? A superblock that
    can only be ro violates nothing."""
    itself = declared.mount is not None and b"ro" in mount.options
    can_be_rw = not filesystems.traits(mount.fs_type).image and not _lacks_upper(mount)
    stopped = can_be_rw and any(word in mount.super_options for word in (b"ro", *_STOPPED))
    return itself or (declared.superblock is not None and stopped)


def _lacks_upper(mount: Mount) -> bool:
    """Is it an overlay without an upper layer?"""
    return mount.fs_type in (b"overlay", b"overlayfs") and mount.super_option(b"upperdir") is None


def _inherits_ro(expected: ExpectedMount, mount: Mount, table: _Table) -> bool:
    """Is a bind mount as read-only as what it is bound from, which has its own declaration?"""
    if not _is_bind(expected) or expected.source is None:
        return False
    holder = _bound_from(expected, mount, table)
    if mode(expected.options).word == b"rw":
        # What the kernel has stopped is another matter.
        inherited = holder is not None and b"ro" in holder.options and b"ro" in mount.options
        return inherited and takes_after_its_source(expected.options)
    return holder is None or _why_read_only(holder) is not None


def _writable_words(expected: ExpectedMount, mount: Mount, table: _Table) -> Optional[str]:
    declared = mode(expected.options)
    if declared.word != b"ro" or table.is_ignored(b"ro"):
        return None
    if declared.mount is None and b"ro" not in mount.super_options:
        return "the filesystem is rw, expected ro"
    return None if _is_ro(mount) else "mounted rw, expected ro"


# Comparison
# ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """What one declaration comes to."""

    expected: ExpectedMount
    mount: Optional[Mount] = None
    condition: Optional[Condition] = None
    words: tuple[str, ...] = ()
    excuse: Optional[str] = None
    uncompared: Sequence[bytes] = ()
    empty: str = ""


def _is_foreign_root(mount: Mount, table: _Table) -> bool:
    """Is `/` what a container or a live image made of it, whatever the fstab in there says?"""
    return mount.mount_point == b"/" and (table.container or filesystems.traits(mount.fs_type).sourceless)


# systemd and other init systems mount these before they read fstab, and of its lines take the
# options at most (mount_point_is_api in src/shared/mount-setup.c, remount-fs.c): /sys/fs/cgroup is
# of the version that the kernel was booted with.
_EARLY = re.compile(
    rb"/(proc|sys|dev|run|dev/(shm|pts)|sys/(kernel/security|fs/(cgroup(/.*)?|smackfs|pstore|bpf)|firmware/efi/efivars))",
    re.DOTALL,
)


def _is_mounted_early(expected: ExpectedMount, mount: Mount) -> bool:
    """Was it mounted by the init system itself, whatever a line of fstab says of source and
    type?"""
    return (
        not expected.own
        and _EARLY.fullmatch(mount.mount_point) is not None
        and filesystems.traits(mount.fs_type).sourceless
    )


def _compare_one(expected: ExpectedMount, mount: Mount, table: _Table) -> _Verdict:
    """A declaration with a mount at its mount point."""
    if _is_mounted_early(expected, mount):
        expected = dataclasses.replace(expected, source=None, fs_type=None)
    if _is_foreign_root(mount, table) and expected.fs_type != mount.fs_type and not expected.origin.startswith("--"):
        return _Verdict(expected, mount)
    differences = [_source_difference(expected, mount, table), _type_difference(expected, mount)]
    comparison = _compared(expected, mount, table)
    unsure = [b"type"] if _is_type_uncompared(expected, mount) else []
    differences += [*comparison.differences, _writable_words(expected, mount, table)]
    words = [difference for difference in differences if difference is not None]
    unwritable = _read_only_words(expected, mount, table)
    if unwritable is not None:
        return _Verdict(expected, mount, Condition.READ_ONLY, (unwritable, *words))
    if words:
        return _Verdict(expected, mount, Condition.CHANGED, tuple(words))
    if expected.own and not _says_anything(expected, mount, comparison, table):
        return _Verdict(
            expected,
            mount,
            empty=f"nothing that is declared could be compared{_named([*unsure, *comparison.uncompared])}",
        )
    return _Verdict(expected, mount, uncompared=[*unsure, *comparison.uncompared])


def _says_anything(expected: ExpectedMount, mount: Mount, comparison: Comparison, table: _Table) -> bool:
    """Could anything of a declaration be compared? One that says no more than that something is
    mounted there has been."""
    told = [option for option in expected.options if not is_control(option) and not table.is_ignored(option)]
    unsure = _is_type_uncompared(expected, mount)
    type_counts = expected.fs_type not in (None, b"auto", b"none") and not unsure
    source_counts = expected.source is not None and (
        _is_bind(expected) or _same_source(expected, mount, table) is not None
    )
    return (
        type_counts
        or source_counts
        or len(comparison.uncompared) < len(dict.fromkeys(told))
        or not (told or unsure or expected.source)
    )


def _named(options: Iterable[bytes]) -> str:
    """Options by their names: a value may be a secret."""
    return "".join(
        f"{',' if place else ':'} {printable(option.partition(b'=')[0])}" for place, option in enumerate(options)
    )


def _absent(expected: ExpectedMount, trigger: bool, table: _Table) -> _Verdict:
    """A declaration at whose mount point nothing can be seen but perhaps an autofs trigger."""
    if expected.mount_point in table.at and not trigger:
        cover = table.users_cover(expected.mount_point)
        if cover is not None:  # nobody meant that
            words = f"covered by the FUSE mount of uid {unprivileged_owner(cover)} at {printable(cover.mount_point)}"
            return _Verdict(expected, None, Condition.MISSING, (words,))
        # It is there, but a mount over a directory above hides it: that is the other mount's doing,
        # and told as shadowed.
        return _Verdict(expected, excuse="covered by another mount")
    if expected.nofail:
        return _Verdict(expected, excuse="not mounted, which its declaration allows")
    if table.container and expected.source is not None and device_names(expected.source):
        return _Verdict(expected, excuse="not mounted: a device, and this is a container")
    if expected.doubt is not None and not trigger:
        return _Verdict(expected, None, expected.doubt[0], (expected.doubt[1],))
    return _Verdict(
        expected, None, Condition.MISSING, ("only its autofs trigger is mounted" if trigger else "not mounted",)
    )


def _judge(expected: ExpectedMount, table: _Table) -> _Verdict:
    mount = table.seen.get(expected.mount_point)
    if mount is None:
        return _absent(expected, False, table)
    if mount.fs_type != b"autofs" or expected.fs_type == b"autofs":
        return _compare_one(expected, mount, table)
    return _Verdict(expected, mount) if expected.automount else _absent(expected, True, table)


def _stacked(verdict: _Verdict, others: Sequence[_Verdict], position: int, table: _Table) -> _Verdict:
    """The verdict on one of several declarations of a mount point: those before the last may lie
    beneath it.

    Two entries with ``nofail`` for one mount point are alternatives (disks that take turns): one of
    them is enough."""
    expected = verdict.expected
    if verdict.condition in (None, Condition.MISSING) or len(others) == 1:
        return verdict
    beneath = [
        mount for mount in table.at[expected.mount_point] if mount != verdict.mount and mount.fs_type != b"autofs"
    ]
    if position < len(others) - 1 and any(_compare_one(expected, mount, table).condition is None for mount in beneath):
        return _Verdict(expected, verdict.mount)
    if expected.nofail and any(other.condition is None and other.excuse is None for other in others):
        return _Verdict(expected, excuse="another declaration of its mount point holds")
    return verdict


def _below_an_excused(verdicts: Sequence[_Verdict]) -> dict[bytes, bytes]:
    """Mount points that are missing because what they lie on is excused -> where that is."""
    excused = {verdict.expected.mount_point for verdict in verdicts if verdict.excuse is not None}
    triggers = {
        verdict.mount.mount_point
        for verdict in verdicts
        if verdict.mount is not None and verdict.mount.fs_type == b"autofs"
    }
    holders = excused | triggers
    below: dict[bytes, bytes] = {}
    for verdict in verdicts:
        way = verdict.expected.mount_point
        while verdict.condition is Condition.MISSING and (way := way[: way.rfind(b"/")]):
            if way in holders:
                below.setdefault(verdict.expected.mount_point, way)
    return below


def _verdicts(expected: Iterable[ExpectedMount], table: _Table) -> list[_Verdict]:
    points: dict[bytes, list[_Verdict]] = {}
    for one in expected:
        points.setdefault(one.mount_point, []).append(_judge(one, table))
    verdicts = [_stacked(one, group, place, table) for group in points.values() for place, one in enumerate(group)]
    below = _below_an_excused(verdicts)
    return [
        _Verdict(
            one.expected,
            excuse=f"not mounted, as it lies below {printable(below[one.expected.mount_point])}, which is not",
        )
        if one.condition is Condition.MISSING and one.expected.mount_point in below
        else one
        for one in verdicts
    ]


def _told(verdicts: Sequence[_Verdict]) -> str:
    """All differences at one mount point in one text; what several declarations say alike is said
    once, with their origins."""
    origins: dict[str, list[str]] = {}
    for verdict in verdicts:
        origins.setdefault("; ".join(verdict.words), []).append(verdict.expected.origin)
    return "; ".join(f"{words} ({', '.join(dict.fromkeys(places))})" for words, places in origins.items())


class Held(NamedTuple):
    """What declarations come to: see :func:`compare`. ``empty`` are those of which nothing could be
    compared, ``uncompared`` the options of others that could not, in words. ``late``: how many
    declarations were not looked at."""

    deviations: list[Deviation]
    excused: list[Excused]
    empty: list[Deviation]
    uncompared: list[str]
    late: int = 0


def compare(
    expected: Iterable[ExpectedMount],
    mounts: Iterable[Mount],
    visible: Collection[int],
    ignore_options: Sequence[Glob] = (),
    devices: Union[Devices, Compared, None] = None,
) -> tuple[list[Deviation], list[Excused]]:
    """What is not as declared, one Deviation for each mount point in the order of the declarations;
    and what may be absent.

    ``visible`` are the IDs of the mounts that paths lead to
    (:func:`check_mounts.mounttable.visible`). Declared options that match one of ``ignore_options``
    as a whole are not compared. Of devices, ``devices`` says what is the same."""
    held = hold(expected, mounts, visible, ignore_options, devices)
    return held.deviations, held.excused


def hold(
    expected: Iterable[ExpectedMount],
    mounts: Iterable[Mount],
    visible: Collection[int],
    ignore_options: Sequence[Glob] = (),
    devices: Union[Devices, Compared, None] = None,
    late: Callable[[], object] = lambda: None,
) -> Held:
    """As :func:`compare`, and what could not be compared. Once it is ``late``, no further
    declaration is looked at."""
    expected = list(expected)
    table = _Table(mounts, visible, Compared({}) if devices is None else devices, ignore_options)
    expected = list(expected)
    table.declare(expected)
    bad: dict[bytes, list[_Verdict]] = {}
    excused: list[Excused] = []
    empty: list[Deviation] = []
    uncompared: list[str] = []
    verdicts = _verdicts(itertools.takewhile(lambda each: not late(), expected), table)
    for verdict in verdicts:
        point = verdict.expected.mount_point
        if verdict.excuse is not None:
            excused.append(Excused(point, f"{verdict.excuse} ({verdict.expected.origin})"))
        elif verdict.condition is not None:
            bad.setdefault(point, []).append(verdict)
        elif verdict.empty:
            empty.append(
                Deviation(point, verdict.mount, Condition.UNPROBED, f"{verdict.empty} ({verdict.expected.origin})")
            )
        elif verdict.uncompared:
            uncompared.append(f"{printable(point)}{_named(verdict.uncompared)} ({verdict.expected.origin})")
    deviations = [_deviation(point, group) for point, group in bad.items()]
    return Held(deviations, excused, empty, uncompared, len(expected) - len(verdicts))


def _deviation(point: bytes, verdicts: Sequence[_Verdict]) -> Deviation:
    worst = max((verdict.condition for verdict in verdicts if verdict.condition is not None), key=meaning.gravity)
    return Deviation(point, verdicts[0].mount, worst, _told(verdicts))
