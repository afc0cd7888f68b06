"""A filesystem that no mount table shows and that the kernel still has: it was unmounted lazily
(``umount -l``), and something holds it. Values, free of effects.

Import budget: nothing. Only what has found one loads this."""

from __future__ import annotations

from check_mounts.typed import NamedTuple, Optional


class Holder(NamedTuple):
    """A process that holds a ghost: by a descriptor, or by its working directory, root or program
    (``how``, in words). ``name`` and ``unit`` are as in using.model.Process."""

    pid: int
    start_time: int
    uid: int
    name: bytes
    unit: str
    how: str


class Ghost(NamedTuple):
    """The ghosts of one server, or one without a known server.

    ``family`` is ``NFS``, ``FUSE`` or the type of another network filesystem. ``devices`` are those
    of the superblocks, as far as they are known, ``number`` is how many there are. ``mount_points``
    ``sources`` and ``types`` are what a mount table said of them; only a daemon knows that.
    ``certain``: the holders hold one of these; otherwise they hold something that no table shows,
    and nobody can say what. ``whole``: all processes could be looked at. ``owner`` is the user for
    whom a FUSE filesystem was mounted; None if that is not known."""

    family: str
    server: bytes
    devices: tuple[tuple[int, int], ...]
    number: int
    holders: tuple[Holder, ...] = ()
    certain: bool = True
    mount_points: tuple[bytes, ...] = ()
    sources: tuple[bytes, ...] = ()
    whole: bool = True
    owner: Optional[int] = None
    types: tuple[bytes, ...] = ()
