"""Whether the type of a mount is the declared one. Pure."""

from __future__ import annotations

from check_mounts import filesystems
from check_mounts.model import ExpectedMount, Mount
from check_mounts.text import printable, without_secrets
from check_mounts.typed import Optional


def type_difference(expected: ExpectedMount, mount: Mount) -> Optional[str]:
    """How the type of a mount differs from the declared one, in words; None if it does not."""
    types = _types(expected)
    if not types or any(filesystems.is_of_type(mount, each) for each in types):
        return None
    return f"type is {printable(mount.fs_type)}, expected {printable(without_secrets(b','.join(types)))}"


def is_uncompared(expected: ExpectedMount, mount: Mount) -> bool:
    """Is the declared type unknown, so that it cannot be compared?

    It is that of a mount helper, or misspelt."""
    types = _types(expected)
    return bool(types) and not any(filesystems.is_compared(mount, each) for each in types)


def _types(expected: ExpectedMount) -> list[bytes]:
    """The types that the declaration allows; empty if it allows any, as for a bind mount."""
    if expected.fs_type in (None, b"auto", b"none") or expected.is_bind:
        return []
    return (expected.fs_type or b"").split(b",")
