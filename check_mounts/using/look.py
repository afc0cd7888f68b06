"""A look at all processes, for those that use some mounts: as a task, or at once.

The files of procfs are read by forked workers (see worker). One that makes no step for a while is
killed and never waited for; another one goes on after the process at which it hung, and reads of
that one only what never hangs. What was sent before is kept.

Import budget: ``marshal``, ``mmap``, ``os``, ``re``, ``select``, ``time``; forked, processes; what
the worker needs, because a worker must find all modules loaded."""

from __future__ import annotations

import marshal
import mmap
import os
import re
import select
import time
from collections.abc import Iterator

from check_mounts import text
from check_mounts.clocks import PAST, Monotonic, after, monotonic
from check_mounts.system import forked, processes
from check_mounts.typed import Any, NoReturn, Protocol
from check_mounts.using import procfs, worker
from check_mounts.using.findings import Findings
from check_mounts.using.model import Users, Wanted

# A worker that has made no step for so long is given up, in seconds; and how often we look.
_STILL, _MOMENT = 1.0, 0.05
# One that is seen to sleep in procfs is given up after so many looks in a row: a reader of procfs
# needs microseconds, and sleeps for nothing but a lock that the process holds.
_ASLEEP = 4
# Where wchan says so: do_task_stat, proc_pid_stack, call_proc_get_link, proc_ns_readlink.
_IN_PROCFS = re.compile(rb"proc_|task_stat|lock_trace|pid_")
# If we look so late, in seconds, the whole host was stopped, and the worker with it.
_LATE = 1.0
# The pause of the worker before its second look is no standstill.
_PAUSE = worker.APART
# How long a worker that was killed may take to end, in seconds.
_TO_END = 0.05
# How many workers that were killed may still exist: then no other one is started.
_MOST_LEFT = 8
# How many workers may hang or die before they come to a process.
_MOST_IDLE = 8
_CHUNK = 1 << 16
_LONGEST = 64 << 20
_MOST_WORKERS = 4


class Records(Protocol):
    """Takes what the workers send. ``troubles``: why something may be missing. ``ours``: the
    workers."""

    troubles: list[str]
    ours: set[int]

    def take(self, record: tuple[Any, ...]) -> None:
        """Take a record."""

    def lost(self, pid: int) -> None:
        """Note a process at which a worker hung."""


def begin(wanted: Wanted, seconds: float) -> UsersLook:
    """Begin a look that takes at most so long. Never raises: where no worker can be forked, the
    look is done, and its result says why."""
    return UsersLook(wanted, seconds)


def take(wanted: Wanted, seconds: float) -> Users:
    """Look, and wait for the result."""
    look = begin(wanted, seconds)
    wait(look)
    return look.users()


def wait(look: Look) -> None:
    """Wait until a look is done, and close it."""
    try:
        poll = select.poll()
        if not look.done:
            poll.register(look.fileno(), select.POLLIN)
        while not look.done:
            poll.poll(max(0.0, look.due - monotonic()) * 1000 + 1)
            look.step()
    finally:
        look.close()


class _Worker:
    """A worker, its pipe, and how far it was when we last looked."""

    def __init__(self, task: worker.Task, maker: type[worker.Worker]) -> None:
        self.task, self._maker = task, maker
        # The pipe has ended; all processes were looked at.
        self.is_done = self.has_finished = False
        self.data = b""
        self._memory = mmap.mmap(-1, worker.PROGRESS.size)
        self._steps, self._since, self._seen, self._asleep = -1, monotonic(), monotonic(), 0
        parent = os.getpid()
        made: list[int] = []
        try:
            made += [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), *os.pipe()]
            devnull, self.fd, end = made
            self.pid = os.fork()
        except OSError:
            for fd in made:
                os.close(fd)
            raise
        if self.pid == 0:
            self._serve(end, devnull, parent)
        os.close(end)
        os.close(devnull)
        os.set_blocking(self.fd, False)

    def _serve(self, end: int, devnull: int, parent: int) -> NoReturn:
        try:
            # With our groups: an unprivileged caller may read what its groups may read (hidepid).
            forked.settle(end, devnull, devnull, parent, tuple(os.getgroups()))
            worker.run(self._maker, self.task, forked.REQUEST_FD, self._memory)
        finally:
            os._exit(0)

    @property
    def at(self) -> tuple[int, bool]:
        """The process that it looks at, 0 at its start; whether it walks already."""
        _, pid, walks = worker.PROGRESS.unpack_from(self._memory, 0)
        return pid, walks

    def is_still(self) -> bool:
        """Whether it hangs: it has made no step for a while, and does not want a processor. Only
        looks that are a moment apart count."""
        now, before = monotonic(), self._seen
        if now - before < _MOMENT / 2:
            return False
        self._seen = now
        steps = worker.PROGRESS.unpack_from(self._memory, 0)[0]
        if steps != self._steps or now - before > _LATE or processes.is_runnable(self.pid):
            self._steps, self._since, self._asleep = steps, now, 0
            return False
        self._asleep = self._asleep + 1 if self._is_in_procfs() else 0
        return self._asleep >= _ASLEEP or now - self._since > _STILL + _PAUSE

    def _is_in_procfs(self) -> bool:
        """Whether it sleeps in a function of procfs, as far as the kernel says."""
        try:
            directory = procfs.open_directory(f"/proc/{self.pid}")
        except OSError:
            return False
        with procfs.closing(directory):
            return bool(_IN_PROCFS.search(procfs.content(directory, "wchan", 256)))

    def records(self) -> Iterator[tuple[Any, ...]]:
        """The records that have come; sets ``is_done`` at the end of the pipe."""
        while True:
            try:
                data = os.read(self.fd, _CHUNK)
            except OSError:  # nothing has come
                break
            if not data:
                self.is_done = True
                break
            self.data += data
        begin, head = 0, worker.LENGTH.size
        while len(self.data) >= begin + head:
            size = worker.LENGTH.unpack_from(self.data, begin)[0]
            if size > _LONGEST or len(self.data) < begin + head + size:
                break
            record = marshal.loads(self.data[begin + head : begin + head + size])
            self.has_finished = self.has_finished or record[0] == "done"
            yield record
            begin += head + size
        self.data = self.data[begin:]

    def end(self) -> bool:
        """Have it end; return whether it has."""
        self.is_done = True
        os.close(self.fd)
        processes.kill(self.pid)
        return processes.reap(self.pid)


class Look:
    """A look under way: a :class:`check_mounts.system.tasks.Task`. Call :meth:`close` in any case.

    ``task`` is shared by so many workers, which ``maker`` makes; ``found`` gets what they send.
    ``left`` are workers that were killed, and still exist."""

    def __init__(
        self,
        task: worker.Task,
        found: Records,
        seconds: float,
        count: int = _MOST_WORKERS,
        maker: type[worker.Worker] = worker.Worker,
    ) -> None:
        self._until, self._maker = after(seconds), maker
        self._poll = select.epoll()
        self._workers: dict[int, _Worker] = {}
        self._found = found
        # How many workers came to no process; the processes at which one hung: all others keep off.
        self._idle = 0
        self._careful: frozenset[int] = frozenset()
        self.left: list[int] = []
        self._next = after(_MOMENT)
        count = min(count, len(os.sched_getaffinity(0)))
        for share in range(count):
            self._start(task._replace(share=(share, count)))

    def _start(self, task: worker.Task) -> None:
        try:
            made = _Worker(task, self._maker)
        except OSError as error:
            self._found.troubles.append(f"no worker could be started: {text.error_of(error)}")
            return
        self._workers[made.fd] = made
        self._found.ours.add(made.pid)
        self._poll.register(made.fd, select.EPOLLIN)

    def fileno(self) -> int:
        """A descriptor that is readable when a worker has sent something, or has ended."""
        return self._poll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to look whether a worker hangs."""
        return Monotonic(min(self._until, self._next))

    @property
    def done(self) -> bool:
        """Whether all workers have ended, or were given up."""
        return not self._workers

    def step(self, until: Monotonic = PAST) -> None:
        """Take what the workers have sent, and give up one that hangs."""
        if until > monotonic():
            self._poll.poll(max(0.0, until - monotonic()))
        self._next = after(_MOMENT)
        for made in list(self._workers.values()):
            for record in made.records():
                self._found.take(record)
            if made.is_done or made.is_still():
                self._give_up(made)
                if not made.has_finished:
                    self._go_on_after(made)
        if monotonic() >= self._until and self._workers:
            self._stop()
        self.left = processes.reap_ended(self.left)

    def close(self) -> None:
        """End all workers."""
        for made in list(self._workers.values()):
            self._give_up(made)
        until = after(_TO_END)
        while self.left and monotonic() < until:
            self.left = processes.reap_ended(self.left)
            time.sleep(0.001)
        self._poll.close()

    def _give_up(self, made: _Worker) -> None:
        del self._workers[made.fd]
        self._poll.unregister(made.fd)
        if not made.end():
            self.left.append(made.pid)

    def _go_on_after(self, made: _Worker) -> None:
        """Start a worker that goes on where this one has hung, or has died."""
        pid, walks = made.at
        if pid:
            self._found.lost(pid)
            self._careful |= {pid}
        else:
            self._idle += 1
        if len(self.left) >= _MOST_LEFT or self._idle > _MOST_IDLE:
            self._found.troubles.append("too many of its workers hung in /proc")
        elif pid in made.task.careful:
            self._start(made.task._replace(after=max(pid, made.task.after), careful=self._careful))
        else:
            after = max(pid - 1, made.task.after) if walks else made.task.after
            self._start(made.task._replace(after=after, careful=self._careful))

    def _stop(self) -> None:
        self._found.troubles.append("the time was over before all processes were looked at")
        for made in list(self._workers.values()):
            self._give_up(made)


class UsersLook(Look):
    """A look for the users of mounts. :meth:`users` gives its result, also before it is done."""

    def __init__(self, wanted: Wanted, seconds: float) -> None:
        self._users = Findings()
        task = worker.Task(
            {mount.device: mount.fs_type for mount in (*wanted.others, *wanted.mounts)},
            wanted.hung,
            frozenset(mount.device for mount in wanted.mounts),
            single=wanted.single,
        )
        super().__init__(task, self._users, seconds)

    def users(self) -> Users:
        """What was found so far."""
        return self._users.users(tuple(self.left))
