"""Whether the type of a mount is the declared one. Pure."""

from __future__ import annotations

from typing import Optional

from check_mounts import filesystems
from check_mounts.model import ExpectedMount, Mount
from check_mounts.text import printable, without_secrets


def type_difference(expected: ExpectedMount, mount: Mount) -> Optional[str]:
    """How the type differs, in words; None where it does not."""
    declared = expected.fs_type
    if declared in (None, b"auto", b"none") or declared is None or expected.is_bind:
        return None
    if any(filesystems.is_of_type(mount, one) for one in declared.split(b",")):
        return None
    return f"type is {printable(mount.fs_type)}, expected {printable(without_secrets(declared))}"


def is_uncompared(expected: ExpectedMount, mount: Mount) -> bool:
    """Is the declared type unknown, a mount helper's or a slip, so that the mount may or may not be
    of that type?"""
    declared = expected.fs_type
    if declared in (None, b"auto", b"none") or declared is None or expected.is_bind:
        return False
    return not any(filesystems.is_compared(mount, one) for one in declared.split(b","))
