"""The work of a worker: requests to probe mounts -> the frames of their answers.

Import budget: ``marshal``, ``mmap``, ``os``; what probe, straight and writeprobe need; lines and
promises of the registry. All of it is memory of the nursery."""

from __future__ import annotations

import functools
import marshal
import mmap
import os

from check_mounts import tablelines
from check_mounts.outcome import Step
from check_mounts.probing import frames, probe, requests, straight, writeprobe
from check_mounts.probing.lines import RECORD_SIZE, Lines
from check_mounts.probing.promises import Promises
from check_mounts.probing.requests import Made
from check_mounts.probing.straight import Straight
from check_mounts.system import walk
from check_mounts.system.desks import Desks, Layout, shared
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from check_mounts.system.desks import Desk
    from check_mounts.system.forked import Handler

# How often to serve a request before workers are forked: the interpreter adapts code that has run
# some eight times.
_WARM = 9


def config(table: Optional[str], path: str, name: str, alone: bool, procfs: str) -> bytes:
    """What :func:`make` needs besides the file of the registry: the path of the mount table (None:
    no mount is looked for in it), and what Lines needs."""
    return marshal.dumps((table, path, name, alone, procfs))


def make(settings: bytes, fds: Sequence[int]) -> Handler:
    """In the nursery: the handler of a pass. ``settings`` come from :func:`config`; ``fds`` has the
    file of the registry, if there is one. Raises OSError."""
    table, path, name, alone, procfs = marshal.loads(settings)
    memory = None
    for fd in fds:
        memory = mmap.mmap(fd, 0)
        os.close(fd)
    return Serving(Lines(memory, path, name, alone, procfs), Promises(path, -1, procfs), table).serve


def warm_up() -> None:
    """In the nursery: serve a few requests about /proc, which asks nobody. What the interpreter
    makes and notes when code runs for the first times, it would else make anew in each worker, and
    keep there."""
    layout = Layout(1, frames.ANSWER_SIZE, 1)
    desk = Desks(layout, shared(-1, layout.size)).desk(0, os.getppid())
    serving = Serving(Lines(shared(-1, 2 * RECORD_SIZE)), Promises("", -1), None)
    try:
        fd = os.open("/proc", probe.LOOK_UP_FLAGS)
        mount_id = walk.mount_id(fd)
        os.close(fd)
    except OSError:
        return
    usual = requests.Request(mount_id or 0, b"/proc", as_owner=True)
    for request in (usual, usual._replace(owner=(0, 0), keeps_listings=True)):
        for _ in range(_WARM):
            serving.serve(0, requests.encoded(request, (0, 0), b"none"), desk)


class Serving:
    """Serves the requests of a pass, in its workers. ``table``: the path of the mount table, which
    has the present paths of mounts."""

    def __init__(self, lines: Lines, promises: Promises, table: Optional[str]) -> None:
        self._lines, self._promises = lines, promises
        self._table = table
        self._calls = straight.calls()
        # Made for the first request: a process that serves is a worker, which has one desk.
        self._straight: Optional[Straight] = None

    def serve(self, key: int, payload: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In a worker: serve a request; return the answer, and whether it is the worker's last. An
        exception in our own code becomes an answer as well, which is the last one."""
        try:
            mount_id, major, minor, flags, name, length = requests.HEAD.unpack_from(payload)
            # First the line in the registry: then the mount may be touched.
            if not self._lines.enter(desk.slot, mount_id, (major, minor), bool(flags & requests.WRITES)):
                return frames.BUSY, False
            made = None
            begin = requests.HEAD.size + name
            # The owner of a FUSE mount of root is this process, if it is root's.
            fuse = flags in requests.OWNED_FUSE and len(payload) == begin + length and not os.geteuid()
            if (fuse or flags in requests.ORDINARY) and (way := self._straight or self._go_straight(desk)):
                answer = way.probe(mount_id, payload[begin:], bool(flags) and not fuse, fuse)
                if isinstance(answer, bytes):
                    self._lines.leave(desk.slot)
                    return answer, False
                made = answer
            return self._serve(payload, desk, made)
        except Exception as error:
            return frames.exception_answer(error), True

    def _go_straight(self, desk: Desk) -> Optional[Straight]:
        if self._calls is not None:
            arrive = functools.partial(self._lines.arrive, desk.slot)
            self._straight = Straight(self._calls, desk.progress, arrive, desk.parent)
        return self._straight

    def _serve(self, payload: bytes, desk: Desk, made: Optional[Made]) -> tuple[bytes, bool]:
        """Serve any request. ``made``: the calls that were made already. Raises any exception of
        our own code."""
        request, known, writes = requests.decoded(payload)
        if request.base:
            from check_mounts.probing import through  # few runs have any; a worker can be given up

            request = through.settled(request, known)
        elif (table := self._table) is not None:
            request = request._replace(place_now=lambda: tablelines.place_now(table, *known))

        def note(progress: bytes) -> None:
            if progress[0] == Step.STATFS:
                self._lines.arrive(desk.slot)
            desk.note(progress)

        if request.canary is not None:
            from check_mounts.probing import canaryprobe  # few runs have any; a worker can be given up

            self._lines.arrive(desk.slot)
            answer = canaryprobe.answer(request, desk.note, desk.parent)
        elif writes:
            answer = writeprobe.answer(request, known.device, self._promises, desk.note, desk.parent)
        else:
            answer = probe.answer(request, note, desk.parent, made)
        self._lines.leave(desk.slot)
        return answer
