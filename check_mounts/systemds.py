"""The mounts that systemd makes for itself: for the sandboxes of services, for secrets, and on the
way to a unit. Pure.

Import budget: ``re``; filesystems."""

from __future__ import annotations

import re
from collections.abc import Sequence

from check_mounts import filesystems
from check_mounts.model import Mount, Reason

# Nodes in the tmpfs at /run, with mode 0000 or 0600. systemd lays some of them over paths that a
# service must not see, and hands mounts to the service through others (make_inaccessible_nodes in
# src/core/mount-setup.c, src/core/namespace.c; systemd-nspawn does the latter, too).
_MASK = rb"(/run)?/systemd/(inaccessible/(reg|dir|chr|fifo|sock|blk)|(nspawn/)?propagate/[^/]+)(//deleted)?"
# The places where systemd mounts for itself: the secrets of units, mounts on their way to a unit,
# and the root directory of a unit that it is making.
_RUN = rb"/run(/user/[0-9]+)?"
_SYSTEMDS = rb"(?s)/run/(credentials/[^/]+|host/incoming|systemd/(incoming|unit-root|mount-rootfs|propagate)(/.*)?)"
# Only a path that holds one of these words can match. To compile the patterns takes longer than to
# look at the few mounts of a host.
_SYSTEMDS_WORDS = (b"/run/credentials/", b"/run/host/", b"/run/systemd/")


def masks(mounts: Sequence[Mount]) -> frozenset[int]:
    """The IDs of the mounts that systemd made for the sandbox of a service.

    They cover paths that the service must not see, or hand mounts to the service.

    They are never in a tmpfs that is mounted elsewhere than at /run: anybody could have made
    directories of these names there."""
    found = [mount for mount in mounts if b"/systemd/" in mount.root and re.fullmatch(_MASK, mount.root)]
    if not found:
        return frozenset()
    foreign = {mount.device for mount in mounts if mount.root == b"/" and not re.fullmatch(_RUN, mount.mount_point)}
    outermost = {mount.device for mount in mounts if mount.mount_point == b"/"}
    return frozenset(
        mount.mount_id
        for mount in found
        if (
            mount.device in outermost
            if mount.root.startswith(b"/run/")
            else filesystems.traits(mount.fs_type).in_memory and mount.device not in foreign
        )
    )


def why_mask(mount: Mount) -> Reason:
    """The reason why a mask is not probed."""
    return Reason.INACCESSIBLE if b"/inaccessible/" in mount.root else Reason.IN_SANDBOX


def is_its_own(mount_point: bytes) -> bool:
    """Whether systemd mounts for itself at this place."""
    return mount_point.startswith(_SYSTEMDS_WORDS) and re.fullmatch(_SYSTEMDS, mount_point) is not None
