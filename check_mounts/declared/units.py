"""The mounts that systemd's units declare (systemd.mount(5), systemd.automount(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from check_mounts import filesystems
from check_mounts.declared.entry import declared_mount
from check_mounts.declared.mountoptions import split_options
from check_mounts.model import ExpectedMount
from check_mounts.system import reading
from check_mounts.tablelines import contents
from check_mounts.text import printable
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.tablelines import Opener

_LARGEST = 1 << 20  # of a unit file, in bytes
_MOST = 10000  # units

# systemd.unit(5), "System Unit Search Path"; a unit in an earlier directory hides units of the same
# name in later ones.
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

# Targets that every running host has reached. The mounts that other units want may rightly be
# absent.
_ALWAYS_REACHED = frozenset(
    f"{name}.target" for name in ("basic", "default", "local-fs", "local-fs-pre", "multi-user", "remote-fs", "sysinit")
)

_MAX_LINKS = 40  # MAXSYMLINKS in the kernel
_Settings = dict[tuple[str, str], bytes]  # (section, key) -> value; the last assignment wins


class Complaint(NamedTuple):
    """A declaration that is left out: where it stands, and why, in words fit for output."""

    origin: str
    why: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.why}"


def parse_unit(data: bytes) -> _Settings:
    """The assignments of a unit file (systemd.syntax(7)), without its comments."""
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
    """The lines, each joined with its continuations.

    The backslash at the end becomes a space; comments in between are skipped."""
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


class _Files:
    """The files of the host, which ``opener`` opens."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    def listed(self, directory: str) -> list[str]:
        """The names in a directory; none if it cannot be listed."""
        try:
            return sorted(reading.ask("listing", directory, self._list))
        except OSError:  # most of the search path does not exist on any one host
            return []

    def _list(self, directory: str) -> list[str]:
        fd = self._opener(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def link(self, path: str) -> Optional[str]:
        """The target of a symbolic link; None if ``path`` is no link."""
        try:
            return reading.ask("looking at", path, self._read_link)
        except OSError:
            return None

    def _read_link(self, path: str) -> str:
        fd = self._opener(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.readlink("", dir_fd=fd)  # ENOENT if it is no link
        finally:
            os.close(fd)

    def read(self, path: str) -> bytes:
        """The bytes of a unit file. Raises OSError."""
        return reading.ask("reading", path, lambda name: contents(name, _LARGEST, self._opener))


def _final(path: str, directories: Sequence[str], files: _Files) -> str:
    """The file that the links of a unit lead to. Raises ValueError if they leave the search path.

    The links are followed by hand: ``systemctl link`` may point anywhere, even to a file server
    that hangs, so a link out of the trees of the search path is not followed.
    """
    trees = tuple("/" + directory.split("/")[1] + "/" for directory in directories)
    for _ in range(_MAX_LINKS):
        target = files.link(path)
        if target is None or target == "/dev/null":
            return target or path
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not path.startswith(trees):
            raise ValueError("its link leads out of systemd's directories")
    raise ValueError("its links form a loop")


class _Wanted(NamedTuple):
    """How a unit is wanted. ``certain``: the mount must exist; otherwise it may be absent.
    ``remote``: remote-fs.target wants it, so it needs the network, whatever its type is."""

    certain: bool
    remote: bool


class _Units:
    """The units below ``directories``; each file is read when it is needed."""

    def __init__(self, directories: Sequence[str], files: _Files) -> None:
        self.directories, self._files = directories, files
        self.names = {directory: files.listed(directory) for directory in directories}

    def wanted(self) -> dict[str, _Wanted]:
        """The mount and automount units that other units want or require."""
        seen: set[tuple[str, str]] = set()
        wanted: dict[str, _Wanted] = {}
        for directory, holder, name in self._dependencies():
            if not name.endswith((".mount", ".automount")) or (holder, name) in seen:
                continue
            seen.add((holder, name))
            # A dependency that an earlier directory links to /dev/null is switched off.
            if self._files.link(os.path.join(directory, holder, name)) != "/dev/null":
                known = wanted.get(name, _Wanted(False, False))
                remote = holder.startswith("remote-fs.target.")
                wanted[name] = _Wanted(known.certain or _is_certain(directory, holder), known.remote or remote)
        return wanted

    def _dependencies(self) -> Iterator[tuple[str, str, str]]:
        """Each dependency: directory, ``UNIT.wants`` or ``UNIT.requires`` in it, a name in that."""
        for directory in self.directories:
            for holder in self.names[directory]:
                if holder.endswith((".wants", ".requires")):
                    for name in self._files.listed(os.path.join(directory, holder)):
                        yield directory, holder, name

    def path(self, name: str) -> Optional[str]:
        """The file of a unit in the first directory that has one."""
        return next(
            (os.path.join(directory, name) for directory in self.directories if name in self.names[directory]), None
        )

    def settings(self, name: str) -> Optional[_Settings]:
        """The settings of a unit and its drop-ins; None if it does not exist or is masked.

        Raises OSError, ValueError."""
        path = self.path(name)
        data = b"" if path is None else self._data(path)
        if not data.strip():  # an empty file masks a unit just as /dev/null does
            return None
        settings = parse_unit(data)
        for drop_in in self._drop_ins(name):
            settings.update(parse_unit(self._data(drop_in)))
        return settings

    def _data(self, path: str) -> bytes:
        final = _final(path, self.directories, self._files)
        return b"" if final == "/dev/null" else self._files.read(final)

    def _drop_ins(self, name: str) -> list[str]:
        """The files ``NAME.d/*.conf`` in the order in which systemd applies them.

        That is the order of their names, whatever directory they are in."""
        files: dict[str, str] = {}
        *own, of_type = _drop_in_names(name)
        for directory, holder in [
            (each, holder) for holders in (own, [of_type]) for each in self.directories for holder in holders
        ]:
            if holder in self.names[directory]:
                below = os.path.join(directory, holder)
                for conf in self._files.listed(below):
                    if conf.endswith(".conf"):
                        files.setdefault(conf, os.path.join(below, conf))
        return [files[conf] for conf in sorted(files)]


def _drop_in_names(name: str) -> list[str]:
    """``a-b.mount.d``, ``a-.mount.d`` and ``mount.d`` for ``a-b.mount`` (systemd.unit(5)).

    If drop-ins have the same name, the first one counts."""
    stem, _, kind = name.rpartition(".")
    dashes = [place for place, letter in enumerate(stem[:-1]) if letter == "-"]
    return [f"{name}.d", *(f"{stem[: dash + 1]}.{kind}.d" for dash in reversed(dashes)), f"{kind}.d"]


def _is_certain(directory: str, holder: str) -> bool:
    """Must the units in this ``UNIT.wants`` or ``UNIT.requires`` be mounted?

    systemd's generator for fstab makes local-fs.target require mounts, but only want those with
    ``nofail``. An administrator's own units are usually wanted."""
    wanting, _, relation = holder.rpartition(".")
    generated = os.path.basename(directory).startswith("generator")
    return wanting in _ALWAYS_REACHED and (relation == "requires" or not generated)


def _without_specifiers(value: bytes) -> Optional[bytes]:
    """A value with ``%%`` turned into ``%``; None if it has another specifier.

    Only systemd knows the meaning of others."""
    return value.replace(b"%%", b"%") if set(re.findall(rb"%(.?)", value)) <= {b"%"} else None


def _value(settings: _Settings, section: str, key: str) -> bytes:
    """The value of a setting; empty if it is missing, or only systemd knows it."""
    return _without_specifiers(settings.get((section, key), b"")) or b""


def _where_of_name(name: str) -> bytes:
    """The mount point that a unit's name stands for (systemd-escape(1) --unescape --path)."""
    path = os.fsencode(name.rpartition(".")[0]).replace(b"-", b"/")
    return b"/" + re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match.group(1), 16)]), path).strip(b"/")


def _unit_entry(units: _Units, name: str, wanted: _Wanted) -> Optional[ExpectedMount]:
    """The mount that a wanted unit declares. Raises OSError, ValueError.

    None if the unit is masked, or mounts a pseudo-filesystem."""
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
    entry = declared_mount(
        where, _value(mount, "Mount", "What"), fs_type, options, f"unit {printable(os.fsencode(path))}"
    )
    # systemd may rightly have skipped a unit with conditions; nothing tells whether they were true
    # at boot.
    conditional = any(
        section == "Unit" and key.startswith(("Condition", "Assert")) and value for (section, key), value in own.items()
    )
    return entry._replace(
        automount=entry.automount or automount,
        nofail=entry.nofail or conditional or not wanted.certain,
        remote=wanted.remote,
    )


def read_units(
    directories: Sequence[str] = UNIT_DIRECTORIES, opener: Opener = os.open
) -> tuple[list[ExpectedMount], list[Complaint]]:
    """The mounts that systemd's mount and automount units declare.

    Only units count that other units want or require.

    A unit that cannot be read or understood becomes a complaint. Units of pseudo-filesystems, which
    systemd itself ships, are left out."""
    units = _Units(directories, _Files(opener))
    entries: dict[bytes, ExpectedMount] = {}
    complaints = []
    wanted = units.wanted()
    if len(wanted) > _MOST:
        complaints.append(Complaint("units", f"only {_MOST} of {len(wanted)} are read"))
    # foo.automount comes before foo.mount, so if both are wanted, a trigger is enough.
    for name in sorted(wanted)[:_MOST]:
        try:
            entry = _unit_entry(units, name, wanted[name])
        except (OSError, ValueError) as error:
            why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            complaints.append(Complaint(f"unit {printable(os.fsencode(units.path(name) or name))}", why))
            continue
        if entry is not None:
            entries.setdefault(entry.mount_point, entry)
    return list(entries.values()), complaints
