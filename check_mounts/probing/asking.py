"""How mounts are probed: the settings for all mounts, the request for one mount, and the work of
the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from check_mounts import filesystems, selection
from check_mounts.model import Mount
from check_mounts.outcome import Step
from check_mounts.probing import frames, probe, writeprobe
from check_mounts.probing.stuck import Registry
from check_mounts.system.desks import Desk
from check_mounts.system.privilege import Identity
from check_mounts.typed import NamedTuple, Optional

# This bit of a key marks a request to write; the other bits are the ID of the mount. The kernel's
# IDs stay small: they begin at 1, and are used again.
_WRITE = 1 << 31


class Override(NamedTuple):
    """How to probe one mount, where that differs from the settings. None: as the settings say."""

    timeout: Optional[float] = None
    as_owner: Optional[bool] = None
    identity: Optional[Identity] = None


class Settings(NamedTuple):
    """How to probe. ``timeout`` (per mount) and ``deadline`` (for the whole run) are in seconds.

    ``identity``: that of ``--as USER``. ``as_owner``: each directory is read as the mount's owner.
    With neither, as the caller. ``writes`` says whether a file is written to a mount that answered.
    ``diagnosis``: the servers of mounts that do not answer are asked. ``override`` has the settings
    of single mounts from the configuration."""

    timeout: float = 5.0
    deadline: float = 9.0
    max_workers: int = 1024
    as_owner: bool = True
    identity: Optional[Identity] = None
    writes: Callable[[Mount], bool] = lambda mount: False
    diagnosis: bool = True
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


def key_of(mount: Mount, writing: bool = False) -> int:
    """The key of the request to probe a mount, or to write to it."""
    return mount.mount_id | (_WRITE if writing else 0)


def mount_id_of(key: int) -> int:
    """The ID of the mount that a request is about."""
    return key & ~_WRITE


def is_write(key: int) -> bool:
    """Whether a request asks for writing."""
    return bool(key & _WRITE)


class Asking:
    """Serves the requests of a pass, in its workers. ``mounts`` are those that may be asked, by
    their IDs.

    ``place_now`` gives the present path of a mount, as :func:`check_mounts.mounttable.place_now`
    does."""

    def __init__(
        self,
        mounts: Mapping[int, Mount],
        settings: Settings,
        registry: Registry,
        place_now: Optional[Callable[[Mount], Optional[bytes]]],
    ) -> None:
        self._mounts = mounts
        self._settings = settings
        self._registry = registry
        self._place_now = place_now

    def serve(self, key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In a worker: serve a request; return the answer, and whether it is the worker's last. An
        exception in our own code becomes an answer as well, which is the last one."""
        try:
            return self._serve(self._mounts[mount_id_of(key)], is_write(key), desk)
        except Exception as error:
            return frames.exception_answer(error), True

    def _serve(self, mount: Mount, writing: bool, desk: Desk) -> tuple[bytes, bool]:
        """Write the line in the registry, then touch the mount. Raises any exception of our own
        code."""
        if not self._registry.enter(desk.slot, mount.mount_id, mount.device, writing):
            return frames.BUSY, False

        def note(progress: bytes) -> None:
            if progress[0] == Step.STATFS:
                self._registry.arrive(desk.slot)
            desk.note(progress)

        request, place_now = request_for(mount, self._settings), self._place_now
        if place_now is not None:
            request = request._replace(place_now=lambda: place_now(mount))
        if writing:
            answer = writeprobe.answer(request, mount.device, self._registry.promises, desk.note, desk.parent)
        else:
            answer = probe.answer(request, note, desk.parent)
        self._registry.leave(desk.slot)
        return answer


def request_for(mount: Mount, settings: Settings) -> probe.Request:
    """The request to the worker of a mount."""
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
