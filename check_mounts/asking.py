"""How mounts are asked: what was said for all of them, and what that means for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Optional

from check_mounts import filesystems, probe, selection
from check_mounts.model import Mount
from check_mounts.privilege import Identity


@dataclasses.dataclass(frozen=True)
class Override:
    """How to probe one mount, where that is not what the settings say: None is as they say."""

    timeout: Optional[float] = None
    as_owner: Optional[bool] = None
    identity: Optional[Identity] = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to probe. ``timeout`` (per mount) and ``deadline`` (the whole run) are in seconds.

    ``identity`` is that of ``--as USER``; ``as_owner`` that each mount is looked into as its owner;
    with neither, as the caller. ``writes`` says to which mounts, of those that answered, a file is
    to be written. ``diagnosis``: the servers of those that do not answer are asked. ``override``
    says of single mounts what the configuration does."""

    timeout: float = 5.0
    deadline: float = 9.0
    max_workers: int = 1024
    as_owner: bool = True
    identity: Optional[Identity] = None
    writes: Callable[[Mount], bool] = lambda mount: False
    diagnosis: bool = True
    override: Optional[Callable[[Mount], Override]] = None


def request_for(mount: Mount, settings: Settings) -> probe.Request:
    """What the worker of a mount is asked."""
    owner = selection.fuse_owner(mount)
    identity, as_owner = settings.identity, settings.as_owner
    override = None if settings.override is None else settings.override(mount)
    if override is not None and override.as_owner is not None:
        identity, as_owner = override.identity, override.as_owner
    security = mount.super_option(b"sec") or b""
    return probe.Request(
        mount_id=mount.mount_id,
        path=mount.mount_point,
        as_owner=as_owner,
        owner=owner,
        fixed=(identity.uid, identity.gid) if identity else None,
        fuse_private=owner is not None and b"allow_other" not in mount.super_options,
        keeps_listings=filesystems.is_fuse(mount),
        root_decides=as_owner and security.startswith(b"krb5"),
        trigger=filesystems.is_trigger(mount),
    )
