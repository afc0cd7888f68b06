"""How mounts are probed: the settings for all mounts, and the request for one mount."""

from __future__ import annotations

from collections.abc import Callable

from check_mounts import filesystems, selection
from check_mounts.model import Finding, Mount
from check_mounts.probing import requests
from check_mounts.system.privilege import Identity
from check_mounts.typed import NamedTuple, Optional

# A key is the ID of a mount (31 bits), which asks for a probe. With the highest bit, it asks for a
# write or, with the next one, too, for a look at its canary. So these take IDs of 30 bits: the
# kernel's stay small, because it uses the smallest free number (mnt_alloc_id in fs/namespace.c).
_WRITE, _LOOK, _ID = 1 << 31, 3 << 30, (1 << 30) - 1


class Override(NamedTuple):
    """How to probe one mount, where that differs from the settings. None: as the settings say."""

    timeout: Optional[float] = None
    as_owner: Optional[bool] = None
    identity: Optional[Identity] = None


class Settings(NamedTuple):
    """How to probe. ``timeout`` (per mount) and ``deadline`` (for the whole run) are in seconds.

    ``identity``: that of ``--as USER``. ``as_owner``: each directory is read as the mount's owner.
    With neither, as the caller. ``writes`` says whether a file is written to a mount that answered.
    ``canary`` is what must be found in it, None if nothing in any.
    ``spares``: a mount that an automounter unmounts once nobody uses it is not looked up meanwhile.
    ``diagnosis``: the servers of mounts that fail or are slow are asked. ``slow_from``: below so
    many seconds, no mount is slow; ``is_slow`` says whether a mount that answered is. ``override``
    has the settings of single mounts from the configuration."""

    timeout: float = 5.0
    deadline: float = 9.0
    max_workers: int = 1024
    as_owner: bool = True
    identity: Optional[Identity] = None
    writes: Callable[[Mount], bool] = lambda mount: False
    canary: Optional[Callable[[Mount], Optional[requests.Canary]]] = None
    spares: bool = True
    diagnosis: bool = True
    slow_from: float = float("inf")
    is_slow: Callable[[Finding], bool] = lambda finding: False
    override: Optional[Callable[[Mount], Override]] = None

    @property
    def groups(self) -> Optional[tuple[int, ...]]:
        """The supplementary groups of the workers; None means those of the caller."""
        if self.identity is not None:
            return self.identity.groups
        return () if self.as_owner or self.override else None


class Timeouts:
    """How long a probe may take, in seconds: usually (``usual``), and for a single mount."""

    def __init__(self, settings: Settings) -> None:
        # A mount without an answer at the deadline is unprobed (UNKNOWN). A timeout must come
        # before that even if it is set to the same length, or a hung mount would never be CRITICAL.
        self._latest = settings.deadline - min(0.5, settings.deadline / 10)
        self.usual = min(settings.timeout, self._latest)
        self._override = settings.override

    def of(self, mount: Mount) -> float:
        """The timeout of this mount."""
        said = None if self._override is None else self._override(mount).timeout
        return self.usual if said is None else min(said, self._latest)


def key_of(mount: Mount, writing: bool = False, looking: bool = False) -> int:
    """The key of the request to probe a mount, to write to it, or to look at its canary."""
    return mount.mount_id | (_WRITE if writing else _LOOK if looking else 0)


def mount_id_of(key: int) -> int:
    """The ID of the mount that a request is about."""
    return key & _ID if key & _WRITE else key


def is_write(key: int) -> bool:
    """Whether a request asks for writing."""
    return key & _LOOK == _WRITE


def is_look(key: int) -> bool:
    """Whether a request asks for a look at a canary."""
    return key & _LOOK == _LOOK


class Requests:
    """The bytes of the requests of a pass, as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._has_one_user = settings.override is None and settings.identity is None
        self._ordinary: dict[tuple[bytes, tuple[bytes, ...]], bool] = {}

    def of(self, mount: Mount, writing: bool = False, canary: Optional[requests.Canary] = None) -> bytes:
        """The request to probe a mount, to write to it, or to look at its canary."""
        identity, as_owner = (None, self._settings.as_owner) if self._has_one_user else self._user(mount)
        plain = not writing and canary is None and mount.seen_at is None
        if plain and identity is None and self._is_ordinary(mount):
            return requests.ordinary(mount.identity, mount.mount_point, as_owner)
        request = _request_for(mount, identity, as_owner)._replace(canary=canary)
        return requests.encoded(request, mount.device, mount.fs_type, writing)

    def _user(self, mount: Mount) -> tuple[Optional[Identity], bool]:
        """The fixed user of a mount, and whether its owner is that user."""
        settings = self._settings
        if settings.override is not None:
            override = settings.override(mount)
            if override.as_owner is not None:
                return override.identity, override.as_owner
        return settings.identity, settings.as_owner

    def _is_ordinary(self, mount: Mount) -> bool:
        """Whether a mount has none of the peculiarities that a request can have. Its type and the
        options of its superblock tell, which most mounts of a host have in common."""
        known = mount.fs_type, mount.super_options
        ordinary = self._ordinary.get(known)
        if ordinary is None:
            request = _request_for(mount, None, True)
            ordinary = request == requests.Request(mount.mount_id, mount.mount_point, as_owner=True)
            self._ordinary[known] = ordinary
        return ordinary


def _request_for(mount: Mount, identity: Optional[Identity], as_owner: bool) -> requests.Request:
    owner = selection.fuse_owner(mount)
    security = mount.super_option(b"sec") or b""
    return requests.Request(
        mount_id=mount.mount_id,
        path=mount.path,
        as_owner=as_owner,
        owner=owner,
        fixed=(identity.uid, identity.gid) if identity else None,
        fuse_private=owner is not None and b"allow_other" not in mount.super_options,
        keeps_listings=filesystems.is_fuse(mount),
        root_decides=as_owner and security.startswith(b"krb5"),
        trigger=filesystems.is_trigger(mount),
        base=b"" if mount.seen_at is None else mount.seen_at.base,
        translated=mount.is_elsewhere,  # see spaces.tables
    )
