"""The threads of a process that wait for a hung mount.

A thread that waits for a server is in state D, with one exception: it is in state S while it waits
for a FUSE daemon and no signal has come yet (request_wait_answer in fs/fuse/dev.c). Most sleeping
threads are in S as well; ``wchan`` tells the ones from the others, and takes no lock.

Import budget: procfs, stacks, waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from check_mounts.typed import NamedTuple, Optional
from check_mounts.using import procfs, stacks, waits
from check_mounts.using.model import Device
from check_mounts.using.procfs import Stat
from check_mounts.using.stacks import Wait

# How many threads of one process are looked at.
_MOST = 10_000
# Some waits are loops: that for an NFS server that says "later" (nfs4_delay) begins anew at least
# each 0.1 s. A thread that works goes to sleep more often between two looks.
_FEW = 3


class Waiting(NamedTuple):
    """A thread that waits. ``thread`` is its ID, ``since`` on CLOCK_BOOTTIME. ``how`` is the name
    of a How; ``devices``: it waits for one of them. ``switches`` stays the same as long as it
    sleeps."""

    pid: int
    thread: int
    state: str
    since: Optional[float]
    how: str
    devices: tuple[Device, ...]
    function: str
    switches: int


class Threads:
    """Looks at threads. ``hung``: the device of each mount that hangs -> its family."""

    def __init__(self, hung: Mapping[Device, str]) -> None:
        self._hung = hung
        self._families = frozenset(hung.values())
        self._known: dict[str, Optional[Wait]] = {}

    def waiting(self, pid: int, process: int, stat: Stat, held: waits.Held) -> Iterator[Waiting]:
        """The threads of a process that wait. ``held``: what it has of the mounts."""
        if not self._hung:
            return
        if stat.threads <= 1:
            found = self._waits(pid, pid, process, stat, held)
            if found is not None:
                yield found
            return
        for thread, directory in procfs.threads(process, _MOST):
            each = procfs.state_of(directory)
            found = None if each is None else self._waits(pid, thread, directory, each, held)
            if found is not None:
                yield found

    def still_waits(self, before: Waiting) -> bool:
        """Whether a thread is in the same wait as before."""
        try:
            directory = procfs.open_directory(f"/proc/{before.pid}/task/{before.thread}")
        except OSError:
            return False
        with procfs.closing(directory):
            now = procfs.switches(directory)
            if now == before.switches:
                return True
            stat = procfs.state_of(directory)
            found = None if stat is None else self._wait(directory, stat)
            return now - before.switches <= _FEW and found is not None and found[0].function == before.function

    def _waits(self, pid: int, thread: int, directory: int, stat: Stat, held: waits.Held) -> Optional[Waiting]:
        switches = procfs.switches(directory) if stat.state == "D" else -1
        found = self._wait(directory, stat)
        if found is None:
            return None
        wait, has_stack = found
        arguments = procfs.arguments(directory)
        numbers = [] if arguments is None else waits.named_by(wait, arguments)
        others = frozenset(each for each in numbers if each not in held.descriptors and procfs.is_open(directory, each))
        verdict = waits.judged(wait, held._replace(others=others), arguments, has_stack, self._hung)
        if verdict is None:
            return None
        return Waiting(
            pid, thread, stat.state, None, verdict.how.name, tuple(sorted(verdict.devices)), wait.function,
            switches if switches >= 0 else procfs.switches(directory),
        )  # fmt: skip

    def _wait(self, directory: int, stat: Stat) -> Optional[tuple[Wait, bool]]:
        """What a thread waits for, and whether its whole stack says so."""
        if stat.state not in ("D", "S"):
            return None
        names = procfs.functions(directory, "wchan")
        alone = self._understood(names[0]) if names else None
        if stat.state == "S" and names and (alone is None or not alone.families):
            return None
        stack = procfs.functions(directory, "stack")
        if stack:
            wait = stacks.understood(stack, self._families)
            return None if wait is None or (stat.state == "S" and not wait.families) else (wait, True)
        return None if alone is None else (alone, False)

    def _understood(self, function: str) -> Optional[Wait]:
        if function not in self._known:
            self._known[function] = stacks.understood([function], self._families)
        return self._known[function]
