"""The mounts that fstab(5) declares, read as mount(8) and systemd read it."""

from __future__ import annotations

import os
import re

from check_mounts.declared.entry import declared_mount
from check_mounts.declared.mountoptions import is_automount, split_options, stays_unmounted
from check_mounts.model import BadLine, ExpectedMount
from check_mounts.mounttable import LONGEST_LINE
from check_mounts.selection import normalised
from check_mounts.system import reading
from check_mounts.tablelines import contents
from check_mounts.text import printable
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.tablelines import Opener

_LARGEST = 16 << 20  # bytes
_OCTAL = re.compile(rb"\\([0-7]{3})")
_NUMBER = re.compile(rb"[+-]?[0-9]+\Z")


class FstabLine(NamedTuple):
    """The fields of one line of fstab(5), unescaped.

    ``options`` is None without that field; ``number`` counts from 1."""

    number: int
    source: bytes
    target: bytes
    fs_type: bytes
    options: Optional[bytes]


def _unescaped(field: bytes) -> bytes:
    """A field with each octal escape as its byte, modulo 256, as libmount's unmangle() does it."""
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8) & 0xFF]), field)


def parse_fstab_line(line: bytes, number: int) -> Optional[FstabLine]:
    """The fields of a line without its newline; None for a blank line or a comment.

    Raises ValueError, with the reason in words, if mount(8) would ignore the line
    (mnt_table_parse_next in libmount)."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE >> 20} MiB")
    text = line[:-1] if line.endswith(b"\r") else line
    fields = [field for field in re.split(rb"[ \t]+", text) if field]
    if not fields or fields[0].startswith(b"#"):
        return None
    words = [_unescaped(field) for field in fields[:4]]
    if any(b"\0" in word for word in words):
        raise ValueError("it holds a NUL")
    if len(words) < 3:
        raise ValueError("it has no " + ("mount point" if len(words) < 2 else "filesystem type"))
    for place, field in zip(("fifth", "sixth"), fields[4:6]):
        if not _NUMBER.match(field):
            # The message does not show the field: if an option holds a blank, the rest of it ends
            # up here, and may be a password.
            raise ValueError(f"its {place} field is not a number (a blank within a field is written \\040)")
    return FstabLine(number, words[0], words[1], words[2], words[3] if len(words) > 3 else None)


def parse_fstab(data: bytes, name: str) -> tuple[list[FstabLine], list[BadLine]]:
    """The lines of an fstab that mount(8) accepts, and complaints about the others.

    ``name`` is the name of the file, for the complaints."""
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
    """Does a line declare a mount that exists after boot?

    With ``noauto``, people mount it when they need it; but ``noauto,x-systemd.automount`` is the
    usual way to write an automount, and `/` is always mounted."""
    return not stays_unmounted(options) or is_automount(options) or normalised(line.target) == b"/"


class Fstab(NamedTuple):
    """What an fstab(5) declares, in its order: ``at_boot``, and ``by_hand``, which people mount
    when they need it. ``complaints`` are about bad lines."""

    at_boot: list[ExpectedMount]
    by_hand: list[ExpectedMount]
    complaints: list[BadLine]


def read(path: str, opener: Opener = os.open) -> Fstab:
    """All mounts that an fstab(5) declares. Raises OSError. ``opener`` opens the file.

    Several entries for one mount point are stacked: all are expected.

    A bad line becomes a complaint; the other lines still count. Swap, ``ignore`` (glibc's
    MNTTYPE_IGNORE) and lines without a mount point declare no mount."""
    data = reading.ask("reading", path, lambda name: contents(name, _LARGEST, opener))
    lines, complaints = parse_fstab(data, path)
    found = Fstab([], [], complaints)
    for line in lines:
        if line.fs_type in (b"swap", b"ignore") or line.target in (b"none", b"swap"):
            continue
        options = split_options(line.options or b"")
        origin = _fstab_origin(path, line.number)
        at_boot = _is_mounted_at_boot(line, options)
        try:
            if not line.target.startswith(b"/"):
                # The message does not show the field: if the source holds a blank, this is the rest
                # of the source, and may hold a password.
                raise ValueError("the mount point is not an absolute path")
            entry = declared_mount(line.target, line.source, line.fs_type, options, origin)
            (found.at_boot if at_boot else found.by_hand).append(entry)
        except ValueError as error:
            if at_boot:
                complaints.append(BadLine(printable(os.fsencode(path)), line.number, str(error)))
    return found


def read_fstab(path: str, opener: Opener = os.open) -> tuple[list[ExpectedMount], list[BadLine]]:
    """The mounts that an fstab(5) declares for boot, and complaints. Raises OSError."""
    found = read(path, opener)
    return found.at_boot, found.complaints
