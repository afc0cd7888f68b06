"""The names of systemd's units for mount points. Pure.

Import budget: nothing. declared/units reads such names."""

from __future__ import annotations

from check_mounts.typed import Optional

# unit_name_path_escape in src/basic/unit-name.c; a dot that comes first is escaped, too.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")
# A longer name becomes a hash (UNIT_NAME_MAX in src/basic/unit-name.h, with the final NUL).
_LONGEST = 255


def mount_unit(mount_point: bytes) -> Optional[bytes]:
    """The name of the unit of a mount point, as ``systemd-escape --path --suffix=mount`` makes it;
    None if it would be too long, where only systemd knows the name."""
    parts = [part for part in mount_point.split(b"/") if part not in (b"", b".")]
    if not parts:
        return b"-.mount"
    name = b"-".join(map(_escaped, parts))
    if name.startswith(b"."):
        name = b"\\x2e" + name[1:]
    return name + b".mount" if len(name) + len(b".mount") <= _LONGEST else None


def _escaped(part: bytes) -> bytes:
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"\\x%02x" % byte for byte in part)
