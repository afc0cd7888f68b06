"""The declared options of a mount, compared with those of the mount and of its filesystem. Pure."""

from __future__ import annotations

from check_mounts import filesystems
from check_mounts.declared import option_rules
from check_mounts.declared.mounted import Mounted, bound_from, is_ro
from check_mounts.declared.mountoptions import (
    Comparison,
    Mode,
    flag_differences,
    is_control,
    is_flag,
    mode,
    takes_after_its_source,
)
from check_mounts.filesystems import lacks_upper
from check_mounts.model import ExpectedMount, Mount
from check_mounts.readonly import STOPPED, is_normally_writable, why_read_only
from check_mounts.typed import Optional


def compared(expected: ExpectedMount, mount: Mount, table: Mounted) -> Comparison:
    """The declared options, compared with the mount's and the filesystem's options.

    The options of a bind mount are compared with the mount's only."""
    options = [option for option in expected.options if not table.is_ignored(option)]
    holder = bound_from(expected, mount, table)
    flags = list(flag_differences(options, mount, None if holder is None else holder.options))
    if expected.is_bind:
        others = [option for option in options if not is_flag(option) and not is_control(option)]
        return Comparison(flags, others, "a bind mount does not set the options of its filesystem")
    of_filesystem = option_rules.compared(options, mount, table.is_alone(mount))
    return of_filesystem._replace(differences=[*flags, *of_filesystem.differences])


def read_only_difference(expected: ExpectedMount, mount: Mount, table: Mounted) -> Optional[str]:
    """How a mount is read-only though it should be writable, in words; None if it is not."""
    declared, why = mode(expected.options), why_read_only(mount)
    if why is None or declared.word == b"ro" or (declared.word is None and not is_normally_writable(mount)):
        return None
    if declared.word == b"rw" and not _is_violated(declared, mount):
        return None
    if _inherits_ro(expected, mount, table):
        return None
    return None if table.is_ignored(declared.word or b"rw") else f"{why}, expected rw"


def _is_violated(declared: Mode, mount: Mount) -> bool:
    """Is the layer that is declared rw, the mount or its superblock, read-only or stopped?

    A superblock that can only be ro does not count."""
    itself = declared.mount is not None and b"ro" in mount.options
    can_be_rw = not filesystems.traits(mount.fs_type).image and not lacks_upper(mount)
    stopped = can_be_rw and any(word in mount.super_options for word in (b"ro", *STOPPED))
    return itself or (declared.superblock is not None and stopped)


def _inherits_ro(expected: ExpectedMount, mount: Mount, table: Mounted) -> bool:
    """Is a bind mount read-only only because its source is? The source has its own declaration."""
    if not expected.is_bind or expected.source is None:
        return False
    holder = bound_from(expected, mount, table)
    if mode(expected.options).word == b"rw":
        # A source that the kernel has stopped still violates the declared rw.
        inherited = holder is not None and b"ro" in holder.options and b"ro" in mount.options
        return inherited and takes_after_its_source(expected.options)
    return holder is None or why_read_only(holder) is not None


def writable_difference(expected: ExpectedMount, mount: Mount, table: Mounted) -> Optional[str]:
    """How a mount is writable though it should be read-only, in words; None if it is not."""
    declared = mode(expected.options)
    if declared.word != b"ro" or table.is_ignored(b"ro"):
        return None
    if declared.mount is None and b"ro" not in mount.super_options:
        return "the filesystem is rw, expected ro"
    return None if is_ro(mount) else "mounted rw, expected ro"
