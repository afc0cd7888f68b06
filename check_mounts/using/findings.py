"""What the workers of a look have sent -> the users of the mounts.

Import budget: model, sight, threads."""

from __future__ import annotations

from check_mounts import text
from check_mounts.clocks import Boottime
from check_mounts.typed import Any, Optional
from check_mounts.using import sight
from check_mounts.using.model import Device, How, Process, Users
from check_mounts.using.threads import Waiting

# How many of the processes are named at which a reader hung.
_NAMED = 20
_ORDER = {how: place for place, how in enumerate(How)}


class Findings:
    """The records of a look. ``troubles``: why something may be missing. ``ours``: the workers,
    which see each other."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self.ours: set[int] = set()
        # (pid, start time) -> what was sent about it.
        self._known: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._uses: dict[tuple[int, int], dict[Device, How]] = {}
        self._waits: dict[tuple[int, int], dict[int, Waiting]] = {}
        self._refused: set[int] = set()
        self._lost: set[int] = set()
        self._afar: set[int] = set()
        self._tables = 0
        self._single: set[int] = set()

    def take(self, record: tuple[Any, ...]) -> None:
        """Take a record of a worker (see worker.Worker)."""
        kind, *rest = record
        if kind == "uses":
            uses = self._uses.setdefault(self._know(rest[0]), {})
            for name, device in rest[1]:
                uses.setdefault(device, How[name])
        elif kind == "waits":
            waiting = Waiting._make(rest[1])
            self._waits.setdefault(self._know(rest[0]), {})[waiting.thread] = waiting
        elif kind == "over":
            for (pid, _), waits in self._waits.items():
                if pid == rest[0]:
                    waits.pop(rest[1], None)
        elif kind == "refused":
            self._refused.add(rest[0])
        elif kind == "afar":
            self._afar.add(rest[0])
        elif kind == "single":
            self._single.update(rest[0])
        elif kind == "tables":
            self._tables = max(self._tables, rest[0])

    def _know(self, identity: tuple[Any, ...]) -> tuple[int, int]:
        key = identity[0], identity[1]
        self._known[key] = identity
        return key

    def lost(self, pid: int) -> None:
        """Note a process at which a worker hung."""
        self._lost.add(pid)

    def users(self, left: tuple[int, ...]) -> Users:
        """The users of the mounts."""
        processes: list[Process] = []
        probable: list[Process] = []
        for key, identity in sorted(self._known.items()):
            if key[0] in self.ours:
                continue
            for each in self._of(key, identity):
                (probable if each.device is None else processes).append(each)
        lines, single = tuple(self._incomplete()), frozenset(self._single)
        return Users(tuple(processes), tuple(probable), lines, not self.troubles, left, single)

    def _of(self, key: tuple[int, int], identity: tuple[Any, ...]) -> list[Process]:
        """What one process does with each mount: of several ways, the first one of :class:`How`."""
        best: dict[Optional[Device], tuple[How, Optional[Waiting]]] = {
            device: (how, None) for device, how in self._uses.get(key, {}).items()
        }
        counts: dict[Optional[Device], int] = {}
        for waiting in self._waits.get(key, {}).values():
            how = How[waiting.how]
            device = waiting.devices[0] if len(waiting.devices) == 1 else None
            counts[device] = counts.get(device, 0) + 1
            if device not in best or _ORDER[how] < _ORDER[best[device][0]]:
                best[device] = how, waiting
        return [
            _process(identity, how, device, waiting, counts.get(device, 0)) for device, (how, waiting) in best.items()
        ]

    def _incomplete(self) -> list[str]:
        lines = sight.limits(len(self._refused)) + self.troubles
        if self._lost:
            lines.append(f"a reader of /proc hung at {_named(self._lost)}")
        if self._afar - self._lost:
            lines.append(f"files of {_named(self._afar - self._lost)} in execve(2) were not looked at: readers hang")
        if self._tables:
            lines.append(f"{text.counted(self._tables, 'mount table')} of other mount namespaces were not read")
        return lines


def _named(pids: set[int]) -> str:
    """So many processes, and which."""
    more = ", ..." if len(pids) > _NAMED else ""
    return f"{text.counted(len(pids), 'process')} ({', '.join(map(str, sorted(pids)[:_NAMED]))}{more})"


def _process(
    identity: tuple[Any, ...], how: How, device: Optional[Device], waiting: Optional[Waiting], count: int
) -> Process:
    pid, start_time, uid, name, unit, state, elsewhere = identity
    if waiting is None:
        return Process(pid, start_time, uid, name, unit, state, None, how, device, elsewhere=elsewhere)
    since = None if waiting.since is None else Boottime(waiting.since)
    thread = 0 if waiting.thread == pid else waiting.thread
    return Process(
        pid, start_time, uid, name, unit, waiting.state, since, how, device, thread, count, waiting.function, elsewhere
    )
