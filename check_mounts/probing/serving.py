"""The work of a worker: requests to probe mounts -> the frames of their answers.

Import budget: what probe, straight and writeprobe need; the registry."""

from __future__ import annotations

import functools
from collections.abc import Callable

from check_mounts.model import Known
from check_mounts.outcome import Step
from check_mounts.probing import frames, probe, requests, writeprobe
from check_mounts.probing.requests import Made
from check_mounts.probing.straight import Straight
from check_mounts.probing.stuck import Registry
from check_mounts.system.desks import Desk
from check_mounts.system.syscalls import NoSuchCall
from check_mounts.typed import Optional


class Serving:
    """Serves the requests of a pass, in its workers. ``place_now`` gives the present path of a
    mount, as :func:`check_mounts.mounttable.place_now` does."""

    def __init__(self, registry: Registry, place_now: Optional[Callable[[Known], Optional[bytes]]]) -> None:
        self._registry = registry
        self._place_now = place_now
        # Made for the first request: a process that serves is a worker, which has one desk.
        self._straight: Optional[Straight] = None
        self._can_go_straight = True

    def serve(self, key: int, payload: bytes, desk: Desk) -> tuple[bytes, bool]:
        """In a worker: serve a request; return the answer, and whether it is the worker's last. An
        exception in our own code becomes an answer as well, which is the last one."""
        try:
            mount_id, major, minor, flags, name, _ = requests.HEAD.unpack_from(payload)
            # First the line in the registry: then the mount may be touched.
            if not self._registry.enter(desk.slot, mount_id, (major, minor), bool(flags & requests.WRITES)):
                return frames.BUSY, False
            made = None
            if flags in requests.ORDINARY and (straight := self._straight or self._go_straight(desk)):
                answer = straight.probe(mount_id, payload[requests.HEAD.size + name :], bool(flags))
                if isinstance(answer, bytes):
                    self._registry.leave(desk.slot)
                    return answer, False
                made = answer
            return self._serve(payload, desk, made)
        except Exception as error:
            return frames.exception_answer(error), True

    def _go_straight(self, desk: Desk) -> Optional[Straight]:
        if self._can_go_straight:
            try:
                self._straight = Straight(desk.progress, functools.partial(self._registry.arrive, desk.slot))
            except NoSuchCall:
                self._can_go_straight = False
        return self._straight

    def _serve(self, payload: bytes, desk: Desk, made: Optional[Made]) -> tuple[bytes, bool]:
        """Serve any request. ``made``: the calls that were made already. Raises any exception of
        our own code."""
        request, known, writes = requests.decoded(payload)
        if (place_now := self._place_now) is not None:
            request = request._replace(place_now=lambda: place_now(known))

        def note(progress: bytes) -> None:
            if progress[0] == Step.STATFS:
                self._registry.arrive(desk.slot)
            desk.note(progress)

        if writes:
            answer = writeprobe.answer(request, known.device, self._registry.promises, desk.note, desk.parent)
        else:
            answer = probe.answer(request, note, desk.parent, made)
        self._registry.leave(desk.slot)
        return answer
