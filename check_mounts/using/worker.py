"""The worker of a look: it looks at one process after the other, and sends what it finds at once.

It can hang in a file of /proc (see procfs), and be killed meanwhile: what it sent is kept. So it
tells in shared memory at which process it is, and reads what may hang last.

A thread waits if it is found in the same wait twice: a busy filesystem, or one that was slow for a
moment, has each process waiting now and then.

Import budget: ``marshal``, ``os``, ``struct``, ``time``; what the walk needs."""

from __future__ import annotations

import marshal
import os
import struct
import time
from collections.abc import Callable

from check_mounts.typed import TYPE_CHECKING, Any, NamedTuple, Optional
from check_mounts.using import cgroups, namespaces, procfs, waits, walk
from check_mounts.using.model import Device, How
from check_mounts.using.namespaces import Namespaces
from check_mounts.using.procfs import Stat
from check_mounts.using.threads import Threads, Waiting

if TYPE_CHECKING:
    import mmap

LENGTH = struct.Struct("<I")
# In shared memory: how many steps were taken, the process of the last one, and whether it is part
# of the walk (and not of what comes before it).
PROGRESS = struct.Struct("<QI?")
_RUN, _NURSERY = b"check_mounts:r", b"check_mounts:n"
# What the names of all processes of a check begin with.
_OURS = b"check_mounts:"
# The time between the two looks at a thread that waits, in seconds.
APART = 0.25


class Task(NamedTuple):
    """The task of one worker: it looks at the processes after ``after`` whose pid modulo
    ``share[1]`` is ``share[0]``; at those in ``careful`` only at what never hangs.
    ``devices`` are those of all mounts that count, each with its type; those that hang; and those
    whose processes are wanted. ``single``: see :class:`Wanted`. ``always``: look
    at processes though no ghost is known (see seeker)."""

    devices: dict[Device, bytes]
    hung: frozenset[Device]
    wanted: frozenset[Device]
    share: tuple[int, int] = (0, 1)
    after: int = 0
    careful: frozenset[int] = frozenset()
    always: bool = False
    single: frozenset[int] = frozenset()


class Worker:
    """Does its task; ``send`` gets the records, each a tuple that begins with its kind:

    - ``uses``: an identity (pid, start time, user, name, unit, state, elsewhere), and pairs of a
      :class:`How` by its name and a device;
    - ``single``: the single mounts that a process uses which is not one of ours;
    - ``waits``: an identity, then what :class:`Waiting` has;
    - ``over``: the process and the thread of a wait that has ended;
    - ``refused``: a process that we may not look into;
    - ``afar``: a process of which only what never hangs was read, though nothing hung at it;
    - ``tables``: how many mount tables were not read, because there are too many;
    - ``done``."""

    def __init__(self, task: Task, send: Callable[[tuple[Any, ...]], None], step: Callable[[int, bool], None]) -> None:
        self._task, self._send, self._step = task, send, step
        self._spaces = Namespaces(task.devices)
        hung = {device: fs_type for device, fs_type in task.devices.items() if device in task.hung}
        self._threads = Threads(waits.families(hung))
        self._opens = not procfs.knows_9p()
        self._own = namespaces.key_of(os.getpid())
        self._ours = _ours(os.getppid())
        self._waiting: list[tuple[float, Waiting]] = []

    def work(self) -> None:
        """Look at all processes."""
        ours, share = self._task.share
        pids = procfs.pids()
        for pid in pids:
            if not self._is_careful(pid):
                self._step(pid, False)
                self._spaces.learn(pid)
        self._send(("tables", self._spaces.missing))
        for pid in pids:
            if pid > self._task.after and pid % share == ours:
                self._step(pid, True)
                self._look_at(pid)
        self._look_again()
        self._send(("done",))

    def _is_careful(self, pid: int) -> bool:
        """Whether only what never hangs is read of a process. Once one has hung its reader, those
        that are most likely to do the same are known before: each would cost a worker."""
        return pid in self._task.careful or (bool(self._task.careful) and procfs.is_in_execve(pid))

    def _look_at(self, pid: int) -> None:
        try:
            process = procfs.open_directory(f"/proc/{pid}")
        except OSError:  # it has ended
            return
        try:
            if self._is_careful(pid):
                self._look_from_afar(pid, process)
                return
            stat = procfs.state_of(process)
            if stat is not None and not stat.is_kernels and not self._is_own(pid, stat):
                self._look_into(pid, process, stat)
        finally:
            os.close(process)

    def _is_own(self, pid: int, stat: Stat) -> bool:
        """Whether a process only serves this run, and ends with it: the run itself, its watcher and
        its nursery. Workers of probes count: they may hang."""
        return pid in self._ours or (stat.parent in self._ours and stat.name == _NURSERY)

    def _look_into(self, pid: int, process: int, stat: Stat) -> None:
        key = namespaces.key_of(pid)
        table = self._spaces.of(key)
        alive = procfs.first_alive(process) if stat.state in ("Z", "X") else process
        found: list[tuple[walk.Use, Device]] = []
        try:
            for use in walk.uses(alive, table, self._spaces.places, self._opens):
                device = self._spaces.devices.get(use.mount_id)
                if device is not None:
                    found.append((use, device))
        except walk.Refused:
            self._send(("refused", pid))
        finally:
            if alive != process and alive >= 0:
                os.close(alive)
        single = {use.mount_id for use, _ in found} & self._task.single
        if single and not is_ours(stat.name):
            self._send(("single", tuple(single)))
        held = waits.held(found, None if table is None else table.devices)
        identity: Optional[tuple[Any, ...]] = None
        uses = [(how.name, device) for how, device in sorted(held.uses, key=_by_order) if device in self._task.wanted]
        if uses:
            identity = self._identity(pid, process, stat, key)
            self._send(("uses", identity, uses))
        for waiting in self._threads.waiting(pid, process, stat, held):
            if self._task.wanted.isdisjoint(waiting.devices):
                continue
            identity = identity or self._identity(pid, process, stat, key)
            self._send(("waits", identity, tuple(waiting)))
            self._waiting.append((time.monotonic(), waiting))

    def _look_from_afar(self, pid: int, process: int) -> None:
        """Look at a process whose files hang their readers. It holds its own lock and sleeps: it is
        most likely in execve(2), and waits for one of the hung mounts to close a file there."""
        if pid not in self._task.careful:
            self._send(("afar", pid))
        status = procfs.content(process, "status")
        state = procfs.status_field(status, b"State")[:1].decode("latin-1")
        # execve(2) has ended all other threads by then (de_thread).
        if state not in ("D", "S") or procfs.status_field(status, b"Threads") != b"1" or not self._task.hung:
            return
        name = procfs.status_field(b"\n" + status, b"Name")
        unit = cgroups.unit_of(procfs.content(process, "cgroup", 65536))
        identity = pid, 0, procfs.uid_of(status), name, unit, state, False
        devices = tuple(sorted(self._task.hung))
        waiting = Waiting(pid, pid, state, None, How.PROBABLY.name, devices, "", procfs.switches(process))
        self._send(("waits", identity, tuple(waiting)))
        self._waiting.append((time.monotonic(), waiting))

    def _identity(self, pid: int, process: int, stat: Stat, key: Optional[tuple[str, str]]) -> tuple[Any, ...]:
        uid = procfs.uid_of(procfs.content(process, "status"))
        unit = cgroups.unit_of(procfs.content(process, "cgroup", 65536))
        elsewhere = key is not None and self._own is not None and key[0] != self._own[0]
        return pid, stat.start_time, uid, stat.name, unit, stat.state, elsewhere

    def _look_again(self) -> None:
        """Take back each wait that has ended."""
        for since, waiting in self._waiting:
            time.sleep(max(0.0, since + APART - time.monotonic()))
            self._step(waiting.pid, True)
            if not self._threads.still_waits(waiting):
                self._send(("over", waiting.pid, waiting.thread))


def is_ours(name: bytes) -> bool:
    """Whether a process, by its name, is one of a check_mounts. Who takes such a name is not seen
    to use a mount, and loses nothing by it."""
    return name.startswith(_OURS)


def _ours(run: int) -> frozenset[int]:
    """The process that wants to know, and its watcher if it has one: then it has this name."""
    try:
        directory = procfs.open_directory(f"/proc/{run}")
    except OSError:
        return frozenset((run,))
    with procfs.closing(directory):
        stat = procfs.state_of(directory)
    return frozenset((run, stat.parent) if stat is not None and stat.name == _RUN else (run,))


def _by_order(use: tuple[How, Device]) -> tuple[int, Device]:
    return list(How).index(use[0]), use[1]


def run(maker: type[Worker], task: Task, end: int, progress: mmap.mmap) -> None:
    """Do a task in a process of its own, with the worker that ``maker`` makes: send records through
    the pipe ``end``, and tell each step in ``progress``."""
    steps = 0

    def send(record: tuple[Any, ...]) -> None:
        data = marshal.dumps(record)
        rest = memoryview(LENGTH.pack(len(data)) + data)
        while rest:
            rest = rest[os.write(end, rest) :]

    def step(pid: int, walks: bool) -> None:
        nonlocal steps
        steps += 1
        PROGRESS.pack_into(progress, 0, steps, pid, walks)

    maker(task, send, step).work()
