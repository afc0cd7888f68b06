"""The fields of one declaration -> an :class:`~check_mounts.model.ExpectedMount`, checked. Pure."""

from __future__ import annotations

from check_mounts.declared.mountoptions import is_automount, may_be_absent
from check_mounts.model import ExpectedMount
from check_mounts.mounttable import LONGEST_PATH
from check_mounts.selection import normalised
from check_mounts.text import printable, without_secrets
from check_mounts.typed import Optional

# The longest options that make sense, in bytes: mount(2) takes one page of them.
LONGEST_OPTIONS = 64 << 10


def _mount_point(path: bytes) -> bytes:
    """A declared mount point as the kernel spells it. Raises ValueError.

    Links in its path are not followed."""
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


def declared_mount(
    point: bytes, source: Optional[bytes], fs_type: Optional[bytes], options: tuple[bytes, ...], origin: str
) -> ExpectedMount:
    """The expected mount that these fields declare. Raises ValueError.

    The options decide ``nofail`` and ``automount`` (systemd.mount(5))."""
    if sum(map(len, options)) > LONGEST_OPTIONS:
        raise ValueError(f"its options are longer than {LONGEST_OPTIONS >> 10} KiB")
    path, name = _mount_point(point), point if b".." in point else b""
    if path == b"/":
        # systemd always mounts it, whatever noauto, nofail and x-systemd.automount say (add_mount
        # in fstab-generator.c).
        return ExpectedMount(path, source or None, fs_type or None, options, origin, name=name)
    return ExpectedMount(
        path, source or None, fs_type or None, options, origin, may_be_absent(options), is_automount(options), name
    )
