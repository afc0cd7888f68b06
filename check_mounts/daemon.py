"""Check again and again: the schedule, signals, changes of the mount table, the log, the result
files.

One thread, one poll. Nothing here waits for a mount, for a reader of the log or for systemd; what
is imported and opened is so before the first pass, because later it might lie on a mount that
hangs."""

from __future__ import annotations

import dataclasses
import errno
import gc
import marshal
import os
import re
import resource
import select
import signal
import syslog
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from check_mounts import (
    cache,
    checking,
    history,
    jsontext,
    mounttable,
    place,
    plugin,
    policy,
    reading,
    selection,
    stuck,
    submitting,
    summary,
    syscalls,
    text,
    workers,
)

# Causes loads these when a mount hangs, which is too late in a process that lives long.
from check_mounts import examination as _examination  # noqa: F401
from check_mounts import kernelstack as _kernelstack  # noqa: F401
from check_mounts import mountstats as _mountstats  # noqa: F401
from check_mounts.checking import Options, Service
from check_mounts.delivery import Courier
from check_mounts.leads import Found
from check_mounts.logs import Log, Stderr, Syslog
from check_mounts.model import Mount, MountIdentity, State, StuckProbe, Survey
from check_mounts.mounttable import Table
from check_mounts.notify import Notifier
from check_mounts.policy import Judged, Judgement
from check_mounts.selection import Selection
from check_mounts.signals import Interrupts
from check_mounts.survey import Pass
from check_mounts.trial import Trial
from check_mounts.watch import Endings, TableWatch

# A change of the mount table is looked at so many seconds after the last one: a host that starts
# containers changes it all the time.
_BETWEEN_LOOKS = 0.2
# A pass that a change of the table asks for which the table does not show, by the mounts that come
# and go meanwhile, say, comes so many seconds after the last one.
_BETWEEN_EARLY_PASSES = 10.0
# Passes over what is new that may be under way beside each other, each kept by something that
# hangs.
_MOST_PASSES = 4
# The longest sleep: a host that was suspended is noticed so soon after, for what was measured
# before is old.
_LONGEST_SLEEP = 5.0
_SUSPENDED = 2.0
# How long the reading of the configuration may stand still, which is what it does while a file
# hangs, and how long it may take in all: one that is large is slow, and not to be refused for that.
# In seconds.
_TRIAL, _LONGEST_TRIAL = 1.0, 60.0
# How long the loop waits, in seconds, for the links and devices that are looked up.
_LONGEST_LOOK = 2.0
# How often is looked at what no event tells: that a process stands still, or that it has ended.
_MOMENT = 0.05
# How many processes may hang in files of the configuration. The next SIGHUP may come because
# somebody has written a file that does not hang into it; by looking at fstab, which the daemon does
# by itself, no more than one comes to them.
_MOST_TRIALS = 4
# How long the metrics may be on their way to their file before their process is killed, and how
# much longer the daemon stays for them at its end; how often is looked whether one has ended that
# could not be killed. In seconds.
_LONGEST_WRITE, _LAST_WRITE, _AGAIN = 10.0, 0.3, 0.5
# Why it could not write them, in bytes; nothing where it could.
_WRITE_ANSWER = 256
# How long the parent waits for word of its detached child, beyond the deadline of the first pass,
# and for its end.
_PATIENCE = 10.0
_NAMED = 3
# How the files begin that we write beside each other, by what is added to the name of the result;
# and that of the metrics.
_PID = rb"\d+\n?\Z"
_OURS = dict(zip(cache.SUFFIXES, map(re.compile, (rb"check_mounts ", rb'\{"version": \d+, "state": "', _PID, _PID))))
_METRICS = re.compile(rb"(# (HELP|TYPE) )?check_mounts_")
_PRIORITIES = {
    State.OK: syslog.LOG_NOTICE,
    State.WARNING: syslog.LOG_WARNING,
    State.CRITICAL: syslog.LOG_ERR,
    State.UNKNOWN: syslog.LOG_WARNING,
}

Say = Callable[[State, str], None]


class Refused(Exception):
    """The daemon cannot start, or cannot take over its configuration; the message says why, on one
    line."""


def run(options: Options, reload: Callable[[], Options], interrupts: Interrupts, say: Say) -> State:
    """Be the daemon until a signal asks for the end; detached from the caller unless
    ``--foreground``.

    ``reload`` gives the options as the files say now, or raises Refused. ``say`` prints a verdict:
    that the daemon runs (the caller of a detached one) or why it does not. The state is what the
    exit code says."""
    service = options.service
    assert service is not None
    if service.foreground:
        return _serve(options, service, reload, interrupts, say, lambda: None)
    return _detached(options, service, reload, interrupts, say)


def rehearsed(understand: Callable[[], object]) -> bytes:
    """In a process that may hang: what is asked of files and of the database of users to understand
    the options, and answered."""
    with reading.recorded() as answers:
        try:
            understand()
        except Exception:  # it has come to its end, and so will we, who say what is wrong
            pass
    return marshal.dumps(answers)


def again(answers: bytes, understand: Callable[[], Options]) -> Options:
    """The options, understood from these answers alone: what could be read a moment ago may hang by
    now. Raises Refused."""
    try:
        with reading.given(marshal.loads(answers)):
            return understand()
    except reading.Changed as error:
        raise Refused(f"not the same files were asked for twice: {error}") from None


def _detached(
    options: Options, service: Service, reload: Callable[[], Options], interrupts: Interrupts, say: Say
) -> State:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        interrupts.part()
        os.setsid()
        # Nothing of the caller's: a lock would be held, and a mount kept busy, as long as we live.
        _close_all_but({0, 1, 2, write, *interrupts.fds})

        def tell(state: State, words: str) -> None:
            try:
                os.write(write, f"{state.value}{words}".encode("utf-8", "surrogateescape")[: select.PIPE_BUF])
            except OSError:  # our parent is gone; who called it has gone on
                pass
            os.close(write)

        def settled() -> None:
            tell(State.OK, f"the daemon is running (pid {os.getpid()})")
            _leave_terminal()

        return _serve(options, service, reload, interrupts, tell, settled)
    os.close(write)
    answer = _answer(read, interrupts, time.monotonic() + options.settings.deadline + _PATIENCE)
    if answer is None:
        say(State.UNKNOWN, _called_off(pid, str(interrupts())))
        return State.UNKNOWN
    state = State(int(answer[:1])) if answer[:1].isdigit() else State.UNKNOWN
    say(
        state,
        answer[1:].decode("utf-8", "surrogateescape") or "the daemon does not say whether it has started, see the log",
    )
    return state


def _answer(read: int, interrupts: Interrupts, until: float) -> Optional[bytes]:
    """What the child says: empty where it has ended without a word, or the time is up; None where a
    signal came first."""
    poll = select.poll()
    for fd in (read, interrupts.wake_fd):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)}
        if read in ready:
            return os.read(read, select.PIPE_BUF)
        if interrupts.wake_fd in ready:
            _drain(interrupts.wake_fd)
        if interrupts() is not None:
            return None
        if time.monotonic() >= until:
            return b""


def _called_off(pid: int, name: str) -> str:
    """End the child whose start a signal has called off; what has become of that.

    An init script takes a start that exits with 3 for failed: if a daemon ran all the same, the
    script would not know of it, and the next start would be refused."""
    words = f"the start was interrupted by {name}"
    os.kill(pid, signal.SIGTERM)  # not reaped yet, so the number is still its own
    until = time.monotonic() + _PATIENCE
    while not syscalls.reaped(pid):
        if time.monotonic() >= until:
            return f"{words}, but the daemon (pid {pid}) does not end"
        time.sleep(_MOMENT)
    return f"{words}, and the daemon was ended"


def _close_all_but(wanted: set[int]) -> None:
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for fd in map(int, names):
        if fd not in wanted:
            try:
                os.close(fd)
            except OSError:  # that of the listing itself
                pass


def _leave_terminal() -> None:
    devnull = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    os.close(devnull)


def _serve(
    options: Options,
    service: Service,
    reload: Callable[[], Options],
    interrupts: Interrupts,
    refuse: Say,
    settled: Callable[[], None],
) -> State:
    try:
        home = _Home(service, options)
    except Refused as error:
        refuse(State.UNKNOWN, str(error))
        return State.UNKNOWN
    os.chdir("/")
    os.umask(0o022)
    # Before the process grows: the child that talks to syslogd is forked from it.
    log: Log = Stderr() if service.foreground else Syslog(service.facility, service.ident)
    try:
        interrupts.listen(signal.SIGHUP, signal.SIGUSR1)
        _stay_in_memory(log)
        # What exists now is shared with all workers; the collector would touch, and so copy, its
        # pages in each.
        gc.freeze()
        gc.enable()
        Daemon(options, service, home, reload, interrupts, log, settled).run()
    finally:
        log.close()
        home.close()
    return State.OK


class _Home:
    """The directory of the result, ours as long as we hold the lock in it.

    All is done by way of its descriptor: whatever becomes of the path, nothing is written anywhere
    else."""

    def __init__(self, service: Service, options: Options) -> None:
        """Make it ours, and see that no other daemon uses it. Raises Refused."""
        self._service = service
        self._mountinfo = options.mountinfo
        self._table: Optional[int] = None
        self._paths = {
            "--cache": [service.cache + suffix for suffix in _OURS],
            "--metrics": [service.metrics] if service.metrics else [],
        }
        self._whys: dict[str, Optional[str]] = {}
        try:
            self._look_at_table()
        except OSError as error:
            raise Refused(
                f"argument --mountinfo: {text.printable_argument(options.mountinfo)}: {error.strerror}"
            ) from None
        for option, why in self._whys.items():
            if why is not None:
                raise Refused(f"argument {option}: {why}")
        self._path, _, self.name = service.cache.rpartition("/")
        if service.metrics is not None:
            _check_metrics(service.metrics)
        self.directory, self._lock = self._taken(starting=True)

    def may_hang(self, option: str) -> Optional[str]:
        """Why whoever opens the file that an option names could hang now: something that does may
        have been mounted over it or over a directory above. None where it could not.

        What was found last counts where the table cannot be read: that nothing can be checked is a
        result, too."""
        try:
            self._look_at_table()
        except OSError:
            pass
        return self._whys[option]

    def _look_at_table(self) -> None:
        """Raises OSError."""
        data = mounttable.contents(self._mountinfo)
        if hash(data) == self._table:  # to understand a large one takes its time
            return
        mounts = mounttable.parse(data, torn=True)[0]
        visible = frozenset(mounttable.visible(mounts))
        for option, paths in self._paths.items():
            whys = [checking.may_hang(path, mounts, visible) for path in paths]
            self._whys[option] = next((why for why in whys if why is not None), None)
        self._table = hash(data)

    def _taken(self, starting: bool = False) -> tuple[int, place.Lock]:
        path, lock = self._path or "/", f"{self.name}.lock"
        where = text.printable_argument(path)
        try:
            fd = place.open_directory(path, 0o755, rooted=True)
        except place.Unusable as error:
            raise Refused(f"argument --cache: {where}: {error}") from None
        try:
            if self._service.cache == cache.DEFAULT_PATH:
                # An earlier run may have made it for its memory alone, but NRPE's user is to read
                # the result.
                os.fchmod(fd, 0o755)
            if starting:
                for suffix, pattern in _OURS.items():
                    _check_ours("--cache", self._service.cache + suffix, fd, pattern)
                # A daemon of an earlier release, which may still run, has locked this file.
                place.check_unlocked(f"{self.name}.pid", fd)
            held = place.Lock(lock, fd)
            self._tell_pid(fd)
            return fd, held
        except Refused as error:
            why = str(error)
        except place.Held as error:
            why = f"another daemon (pid {error.pid}) keeps {text.printable_argument(self._service.cache)} up to date"
        except OSError as error:
            why = f"argument --cache: {where.rstrip('/')}/{text.printable_argument(lock)}: {error.strerror}"
        os.close(fd)
        raise Refused(why)

    def _tell_pid(self, directory: int) -> None:
        """For administrators and their scripts; nothing here depends on it."""
        name, words = f"{self.name}.pid", b"%d\n" % os.getpid()
        try:
            if place.beginning(directory, name) != words:
                cache.replace_in(directory, name, words)
        except (OSError, place.Unusable):
            pass

    def see_to_it(self) -> None:
        """If somebody has removed the lock, or the whole directory, make all of it again. Raises
        Refused; OSError where it cannot be said whether somebody has."""
        if self._lock.holds and _is_same(self.directory, self._path or "/"):
            self._tell_pid(self.directory)
            return
        directory, lock = self._taken()
        self.close()
        self.directory, self._lock = directory, lock

    def close(self) -> None:
        """Leave it. A lock that something may have been mounted over is not looked at, and ends
        with the process."""
        if self.may_hang("--cache") is None:
            if self._lock.holds:
                cache.remove(self.directory, f"{self.name}.pid")
            self._lock.close()
        os.close(self.directory)


def _is_same(directory: int, path: str) -> bool:
    """Whether a path leads to an open directory. Raises OSError where that cannot be said: no
    descriptor, no memory."""
    try:
        fd = syscalls.open_without_symlinks(os.fsencode(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENFILE, errno.EMFILE, errno.ENOMEM):
            raise
        return False
    try:
        here, there = os.fstat(directory), os.fstat(fd)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    finally:
        os.close(fd)


def _check_ours(option: str, path: str, directory: int, pattern: re.Pattern[bytes]) -> None:
    """Raises Refused where there is something that we have not written: it would be replaced,
    whatever it is."""
    shown = text.printable_argument(path)
    try:
        beginning = place.beginning(directory, path.rpartition("/")[2])
    except place.Unusable as error:
        raise Refused(f"argument {option}: {shown}: {error}, so it is not replaced") from None
    if beginning and not pattern.match(beginning):
        raise Refused(
            f"argument {option}: {shown}: it is not a file that check_mounts has written, so it is not replaced"
        )


def _check_metrics(path: str) -> None:
    """The same for metrics. That their directory cannot be opened is said, once, whenever they are
    written: it may come."""
    try:
        directory, _ = _open_above(path)
    except OSError:
        return
    try:
        _check_ours("--metrics", path, directory, _METRICS)
    finally:
        os.close(directory)


def _open_above(path: str) -> tuple[int, str]:
    """The directory that a file is in, open, and its name there. Raises OSError; ELOOP where a
    symbolic link leads to it."""
    directory, _, name = path.rpartition("/")
    return syscalls.open_without_symlinks(
        os.fsencode(directory or "/"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    ), name


class _Metrics:
    """The metrics on their way to their file, in a worker, for that may be on a local disk, and
    such a one is frozen (fsfreeze(8)) for a snapshot or a backup now and then. Whoever makes a file
    there then waits until it is thawed, no signal ends him, and nothing tells beforehand. One at a
    time, so that no more than one process ever hangs; those that wait are replaced by what is
    newer.

    Its owner calls :meth:`step` when ``poll`` says so and when it is :attr:`due`. ``tell`` is told
    of each how it went: why the file cannot be written, None where it is."""

    def __init__(self, home: _Home, poll: select.poll, tell: Callable[[Optional[str]], None]) -> None:
        self._home, self._poll, self._tell = home, poll, tell
        self._path = ""
        self._waiting: Optional[bytes] = None
        self._given = b""
        self._pool: Optional[workers.Pool] = None
        self._latest = 0.0
        # Processes that were killed and have not ended yet.
        self._left: list[int] = []

    def offer(self, path: str, data: bytes) -> None:
        """These are the newest."""
        self._path, self._waiting = path, data
        self.step()

    @property
    def due(self) -> Optional[float]:
        """When to call :meth:`step` at the latest (CLOCK_MONOTONIC); None where there is nothing to
        do."""
        if self._pool is not None:
            return min(self._pool.due, self._latest)
        if self._waiting is None:
            return None
        return time.monotonic() + _AGAIN if self._left else 0.0

    def step(self, until: float = 0.0) -> None:
        """Go on with what has come, or comes until then (CLOCK_MONOTONIC)."""
        self._left = syscalls.unreaped(self._left)
        if self._pool is not None:
            self._go_on(self._pool, until)
        elif self._waiting is not None and not self._left:
            self._begin(self._waiting)

    def _begin(self, data: bytes) -> None:
        self._given, self._waiting = data, None
        why = self._home.may_hang("--metrics")
        if why is None:
            try:
                # With our groups: where we may write, it may.
                self._pool = workers.Pool(self._serve, _WRITE_ANSWER, _LONGEST_WRITE, 1, groups=tuple(os.getgroups()))
            except OSError as error:
                why = str(error.strerror)
        if self._pool is None:
            self._tell(why)
            return
        self._latest = time.monotonic() + _LONGEST_WRITE + workers.TO_BEGIN
        self._poll.register(self._pool.fileno(), select.POLLIN)
        self._pool.submit(0)
        self._go_on(self._pool)

    def _go_on(self, pool: workers.Pool, until: float = 0.0) -> None:
        event = next(iter(pool.wait(until)), None)
        if event is None and time.monotonic() < self._latest:
            return
        trouble = pool.trouble
        self._end(pool)
        if isinstance(event, workers.Answered):
            self._tell(event.answer.rstrip(b"\0").decode("utf-8", "replace") or None)
        elif isinstance(event, workers.Died):
            self._tell("the process that was to write it has ended")
        elif event is None:
            self._tell(f"no process could be started for it ({trouble})")
        else:
            # It may answer again long before the next pass.
            self._waiting = self._given if self._waiting is None else self._waiting
            stuck_in = "".join(f" (pid {pid} is stuck in it)" for pid in self._left)
            self._tell(f"no answer within {text.seconds_words(_LONGEST_WRITE)}{stuck_in}")

    def _end(self, pool: workers.Pool) -> None:
        self._poll.unregister(pool.fileno())
        self._left += pool.close()
        self._pool = None

    def _serve(self, key: int, desk: workers.Desk) -> tuple[bytes, bool]:
        """In the worker."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # RLIMIT_FSIZE is to be an error like any other
        why = _replace_metrics(self._path, self._given)
        return text.encoded(why or "", "utf-8")[:_WRITE_ANSWER].ljust(_WRITE_ANSWER, b"\0"), True

    def close(self) -> None:
        """The end. What is under way or waits has a moment more: the file is to say how it was
        last, with no half of another beside it."""
        until = time.monotonic() + _LAST_WRITE
        while (self._pool is not None or self._waiting is not None) and not self._left and time.monotonic() < until:
            self.step(until)
        if self._pool is not None:
            self._end(self._pool)


def _replace_metrics(path: str, data: bytes) -> Optional[str]:
    """Why the file cannot be written; None where it is.

    Unlike that of the result, its directory, or the one above (it does on Debian), may belong to
    the exporter's user, who could mount something there, or lead us elsewhere by a symbolic link.
    """
    try:
        fd, name = _open_above(path)
        try:
            cache.replace_in(fd, name, data)
        finally:
            os.close(fd)
    except OSError as error:
        return "a symbolic link leads to it" if error.errno == errno.ELOOP else str(error.strerror)
    except Exception as error:  # a defect there costs the metrics, and nothing else
        return f"{type(error).__name__}: {error}"
    return None


def _stay_in_memory(log: Log) -> None:
    """Lock our pages: a page that was swapped out, or of a library not read yet, might have to come
    from what hangs.

    Future pages too only where no limit could then make an allocation fail (mlockall(2)).
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
    try:
        unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        syscalls.mlockall(syscalls.MCL_CURRENT | (syscalls.MCL_FUTURE if unlimited else 0))
    except OSError as error:
        log.write(syslog.LOG_INFO, f"Memory is not locked: {error.strerror}")


@dataclasses.dataclass
class _UnderWay:
    """A pass that goes on. ``whole``: over all mounts. ``begun`` is on CLOCK_BOOTTIME."""

    probing: Pass
    keys: set[MountIdentity]
    whole: bool
    begun: float


class Daemon:
    """The loop and what it remembers."""

    def __init__(
        self,
        options: Options,
        service: Service,
        home: _Home,
        reload: Callable[[], Options],
        interrupts: Interrupts,
        log: Log,
        settled: Callable[[], None],
    ) -> None:
        self.options, self.service = options, service
        self._home = home
        self._lost: list[StuckProbe] = []
        self._trial_left: list[int] = []
        self._trial_excused = 0
        self._reload, self._interrupts, self._log, self._settled = reload, interrupts, log, settled
        self._notifier = Notifier(os.environ)
        self._known = history.Known()
        self._episodes = history.Episodes()
        self._poll = select.poll()
        self._poll.register(interrupts.wake_fd, select.POLLIN)
        self._table_watch = TableWatch(options.mountinfo)
        self._poll.register(self._table_watch, select.POLLPRI)
        self._endings = Endings(self._poll)
        self._courier = Courier(self._poll)
        self._courier.serve(options.submission)
        self._metrics = _Metrics(home, self._poll, self._tell_of_metrics)
        # What was looked up of names and devices, and for which options.
        self._found: Optional[Found] = None
        # Where what was declared was last, by where it is now, if a link that leads there was
        # changed.
        self._led_before: dict[bytes, bytes] = {}
        self._looked_for: Optional[Options] = None
        self._lookups_left: list[int] = []
        self._passes: dict[int, _UnderWay] = {}
        now = time.monotonic()
        self._next_pass, self._next_look = now, now
        # A change that has not been looked at; whether it may be in a table that has been read
        # already.
        self._table_changed = self._change_seen = False
        self._recovered = False
        self._begun_all = now
        self._fed = self._progress = now
        self._asleep = _suspended()
        self._taken: Optional[float] = None
        self._held_up: Mapping[str, str] = {}
        self._is_ready = False
        self._complaints: dict[str, str] = {}
        self._fstab: object = None
        self._status_words = "checking for the first time"

    # -- the loop

    def run(self) -> None:
        """Until a signal asks for the end."""
        self._guarded("the start", self._look_at_fstab_first)
        self._log.write(syslog.LOG_INFO, f"Checking every {text.seconds_words(self.service.interval)}")
        while self._interrupts() is None:
            self._feed()
            self._guarded("a round", self._round)
        self._stop()

    def _round(self) -> None:
        ready = {fd for fd, _ in self._poll.poll(max(0.0, self._due() - time.monotonic()) * 1000 + 1)}
        if self._interrupts.wake_fd in ready:
            _drain(self._interrupts.wake_fd)
        self._heed_calls()
        if self._table_watch.fileno() in ready:
            self._table_changed = True
        self._look_at_endings(ready)
        self._look_at_table()
        self._start_whole_pass()
        self._go_on(ready)
        self._submit()
        self._metrics.step()

    def _due(self) -> float:
        """When there is something to do at the latest (CLOCK_MONOTONIC)."""
        times = [time.monotonic() + _LONGEST_SLEEP, *(each.probing.due for each in self._passes.values())]
        if not self._is_checking_all():
            times.append(self._next_pass)
        if (self._table_changed or self._recovered) and self._may_begin():
            times.append(self._next_look)
        times += [due for due in (self._endings.due, self._courier.due, self._metrics.due) if due is not None]
        if self._notifier.watchdog_interval is not None:
            times.append(self._fed + self._notifier.watchdog_interval)
        return min(times)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """A defect, or a host that is out of memory, must not end the daemon. If nothing works any
        more, the watchdog does."""
        try:
            action()
        except Exception as error:
            place_of = error.__traceback__
            while place_of is not None and place_of.tb_next is not None:
                place_of = place_of.tb_next
            where = (
                ""
                if place_of is None
                else f" ({os.path.basename(place_of.tb_frame.f_code.co_filename)}:{place_of.tb_lineno})"
            )
            self._complain(what, f"Internal error in {what}: {type(error).__name__}: {error}{where}")
            time.sleep(0.1)  # it may happen again at once

    def _complain(self, what: str, words: Optional[str]) -> None:
        """Log what goes wrong with something once, and that it works again."""
        known = self._complaints.get(what)
        if words is None:
            if known is not None:
                del self._complaints[what]
                self._log.write(syslog.LOG_NOTICE, f"No longer: {known}")
        elif words != known:
            self._complaints[what] = words
            self._log.write(syslog.LOG_ERR, words)

    def _feed(self) -> None:
        """Tell systemd that we are well: only while passes come to their end, not because the loop
        turns."""
        interval = self._notifier.watchdog_interval
        now = time.monotonic()
        longest = 2 * self.service.interval + self.options.settings.deadline + _PATIENCE
        if interval is not None and now - self._fed >= interval and now - self._progress < longest:
            self._fed = now
            self._notifier.watchdog()

    # -- signals

    def _heed_calls(self) -> None:
        calls = self._interrupts.calls
        if "SIGUSR1" in calls:
            calls.discard("SIGUSR1")
            self._next_pass = time.monotonic()
        if "SIGHUP" in calls:
            calls.discard("SIGHUP")
            # Before the first pass the end of a reload is not what READY=1 would be taken for, and
            # systemd does not ask for one.
            is_ready = self._is_ready
            if is_ready:
                self._notifier.reloading()
            self._take_over()
            if is_ready:
                self._notifier.ready(self._status_words)

    def _take_over(self) -> None:
        """Read the configuration again; if it is wrong, go on with the old one and say so."""

        try:
            new, signature = self._read_again()
        except Refused as error:
            if self._interrupts() is None:
                self._log.write(syslog.LOG_ERR, f"The configuration is kept as it was: {error}")
            return
        assert new.service is not None
        for name in ("cache", "metrics", "facility", "ident"):
            if getattr(new.service, name) != getattr(self.service, name):
                self._log.write(syslog.LOG_WARNING, f"Needs a restart: another {name}")
        # Those that are stuck are remembered in the old state directory only.
        for name in ("mountinfo", "state_dir"):
            if getattr(new, name) != getattr(self.options, name):
                self._log.write(syslog.LOG_WARNING, f"Needs a restart: another {name.replace('_', '-')}")
        self.service = dataclasses.replace(self.service, interval=new.service.interval)
        self.options = dataclasses.replace(new, mountinfo=self.options.mountinfo, state_dir=self.options.state_dir)
        self._courier.serve(self.options.submission)
        self._fstab = signature
        self._next_pass = time.monotonic()
        self._log.write(syslog.LOG_NOTICE, "The configuration was read again")

    def _read_again(self) -> tuple[Options, object]:
        """The options as the files say now, and the signature of the fstab that they were read
        from. Raises Refused.

        It is taken before: what is written while they are read is the next change.
        """
        path = self.options.fstab
        while True:
            signature = self._fstab_signature(path)
            answers = self._tried(lambda: rehearsed(self._reload), _MOST_TRIALS)
            if answers is None:
                raise Refused("a file of it does not let itself be read")
            # All files could be read: those that still hang do so in others, and are no reason not
            # to look at fstab.
            self._trial_excused = len(self._trial_left)
            new = again(answers, self._reload)
            if new.fstab == path:
                return new, signature
            path = new.fstab

    def _look_at_fstab_first(self) -> None:
        """The options that we begin with were read some time ago, and nobody knows which fstab that
        was."""
        if self.options.fstab is None:
            return
        try:
            new, self._fstab = self._read_again()
        except Refused:  # the first pass finds another fstab than none, and says so
            return
        if new.fstab == self.options.fstab:
            demands = dataclasses.replace(self.options.demands, expected=new.demands.expected)
            self.options = dataclasses.replace(self.options, demands=demands, wrong=new.wrong, notes=new.notes)

    def _fstab_signature(self, path: Optional[str]) -> object:
        """What differs when fstab has been edited; the same as ever where it does not let itself be
        looked at."""
        if path is None:
            return None

        def look() -> bytes:
            try:
                status = os.stat(path)
            except OSError as error:
                return b"%d" % (error.errno or 0)
            return b"%d %d %d" % (status.st_mtime_ns, status.st_size, status.st_ino)

        signature = self._tried(look, self._trial_excused + 1)
        return self._fstab if signature is None else signature

    def _tried(self, action: Callable[[], bytes], most: int) -> Optional[bytes]:
        """What ``action`` gives, which reads files: done by a worker, for whatever links lead
        there, and however well they could be read before. None where it does not come to its end,
        or ``most`` workers hang already."""
        self._trial_left = syscalls.unreaped(self._trial_left)
        self._trial_excused = min(self._trial_excused, len(self._trial_left))  # those that were excused may have ended
        if len(self._trial_left) >= most:
            return None

        try:
            tried = Trial(action)
        except OSError:  # who has no means for a process has none for a pass, which says so
            return None
        self._trial_left += tried.wait(_TRIAL, _LONGEST_TRIAL, lambda: self._interrupts() is not None, self._feed).left
        if tried.left:
            self._log.write(syslog.LOG_WARNING, f"A process that reads for the daemon is {tried.words}")
        return tried.answer

    # -- what begins

    def _start_whole_pass(self) -> None:
        now = time.monotonic()
        asleep = _suspended()
        if asleep - self._asleep > _SUSPENDED:
            self._next_pass = now
        self._asleep = asleep
        if now < self._next_pass or self._is_checking_all():
            return
        # Missed turns are left out, and the others stay where they were: no drift.
        self._next_pass += (int((now - self._next_pass) / self.service.interval) + 1) * self.service.interval
        signature = self._fstab_signature(self.options.fstab)
        if signature != self._fstab:
            self._fstab = signature  # said once, also if it makes no sense
            self._log.write(syslog.LOG_NOTICE, "fstab has changed")
            self._take_over()
            self._next_pass = now + self.service.interval
        try:
            table, same = self._read_table()
            if not same:
                self._look_up(table[0])
            chosen = self._chosen(table)
            self._known.see(table, chosen)
            self._begun_all = now
            self._begin(table, chosen, whole=True)
        except OSError as error:
            self._complain("checking", f"Cannot check: {error.strerror}")
            self._publish_failure(f"cannot check: {error.strerror}")
        else:
            self._complain("checking", None)

    def _look_at_table(self) -> None:
        """Mounts that are new, gone or mounted otherwise; and those that may answer again."""
        now = time.monotonic()
        if not (self._table_changed or self._recovered) or now < self._next_look or not self._may_begin():
            return
        recovered, self._recovered = self._recovered, False
        news = self._table_watch.changed() or (self._table_changed and not self._change_seen)
        self._table_changed = self._change_seen = False
        try:
            table, same = self._read_table()
            if news and same:
                # Something has taken the place of another from which it differs in nothing that the
                # table shows: it once more.
                self._next_pass = min(self._next_pass, max(now, self._begun_all + _BETWEEN_EARLY_PASSES))
            if not same:
                self._look_up(table[0])
            chosen = self._chosen(table)
            new, different = self._known.see(table, chosen)
            new -= {key for each in self._passes.values() for key in each.keys}
            if new or recovered:
                wanted = self._known.to_be_asked(new, recovered)
                self._begin(table, _narrowed(chosen, wanted), whole=False)
            if different:
                self._publish()
            self._complain("a look at the mount table", None)
        except OSError as error:
            self._table_changed, self._recovered = True, recovered or self._recovered
            self._complain("a look at the mount table", f"Cannot look at what was mounted: {error.strerror}")
        # A large table takes its time, of which most should be left for other things.
        self._next_look = time.monotonic() + max(_BETWEEN_LOOKS, 3 * (time.monotonic() - now))

    def _read_table(self) -> tuple[Table, bool]:
        """The mount table as it is now, and whether it is the one that is known. Raises OSError."""
        table = mounttable.read(self.options.mountinfo)
        # The kernel tells of a change before anybody can read it (touch_mnt_namespace in
        # fs/namespace.c): what it tells later is not in.
        self._table_changed = self._table_watch.changed() or self._table_changed
        same = table == self._known.table
        self._change_seen = self._change_seen or (self._table_changed and not same)
        return table, same

    def _begin(self, table: Table, chosen: Selection, whole: bool) -> None:
        self._lost = [probe for probe in self._lost if stuck.process_start(probe.pid) == probe.start_time]
        probing = checking.begin(self.options, table, chosen, lost=self._lost)
        keys = {mount.identity for mount in chosen.selected}
        fd = probing.fileno()
        self._passes[fd] = _UnderWay(probing, keys, whole, time.clock_gettime(time.CLOCK_BOOTTIME))
        self._poll.register(fd, select.POLLIN)

    def _chosen(self, table: Table) -> Selection:
        self._look_up_what_is_new(table[0])
        return selection.select(table[0], checking.led(self.options, self._found).filters)

    def _look_up_what_is_new(self, mounts: Sequence[Mount]) -> None:
        """Other options name other things: nothing is to be said of these before they have been
        looked up."""
        if self._looked_for is not self.options:
            self._look_up(mounts)

    def _look_up(self, mounts: Sequence[Mount]) -> None:
        """Where the names lead now that decide what is probed, as far as it is known from the last
        pass what may be entered."""
        result = None if self._known.last is None else self._known.survey()
        self._take_over_found(
            checking.look_up(self.options, mounts, result, time.monotonic() + _LONGEST_LOOK, self._interrupts)
        )

    def _look_up_after(self, result: Survey) -> None:
        """The same, and all else that has to be looked up, after a pass over all mounts."""
        before = self._found
        self._take_over_found(
            checking.look_up(
                self.options, self._known.mounts, result, time.monotonic() + _LONGEST_LOOK, self._interrupts
            )
        )
        if (
            self._found is not None and before is not None and self._found.leads != before.leads
        ):  # something else may be wanted now
            self._table_changed = self._change_seen = True
            self._known.see(self._known.table, self._chosen(self._known.table))

    def _take_over_found(self, found: Optional[Found]) -> None:
        if (
            found is not None
            and self._found is not None
            and self._looked_for is self.options
            and found.leads != self._found.leads
        ):
            before, now = (checking.led(self.options, each).demands.expected for each in (self._found, found))
            self._led_before = {
                new.mount_point: old.mount_point for old, new in zip(before, now) if new.mount_point != old.mount_point
            }
        self._found, self._looked_for = found, self.options
        self._lookups_left = syscalls.unreaped([*self._lookups_left, *(found.left if found is not None else ())])

    def _is_checking_all(self) -> bool:
        return any(each.whole for each in self._passes.values())

    def _may_begin(self) -> bool:
        return len(self._passes) < _MOST_PASSES

    # -- what goes on and ends

    def _go_on(self, ready: set[int]) -> None:
        for fd, each in list(self._passes.items()):
            if fd in ready or time.monotonic() >= each.probing.due:
                each.probing.step()
                self._tell_killed(each.probing)
            if not each.probing.goes_on:
                self._finish(fd, each)

    def _tell_killed(self, probing: Pass) -> None:
        for pid, mount in probing.killed:
            path = text.printable(mount.mount_point)
            self._log.write(
                syslog.LOG_WARNING, f"Timed out waiting for child process {pid} checking {path}: sending SIGKILL"
            )
        probing.killed.clear()

    def _finish(self, fd: int, each: _UnderWay) -> None:
        self._poll.unregister(fd)
        del self._passes[fd]
        tables: list[Table] = []

        def reread() -> Table:
            table, same = self._read_table()
            if not same:
                tables.append(table)
            return table

        result = each.probing.finish(reread)
        if tables:
            # The pass has answered by this table: what hung and is covered by now is shadowed.
            # Known of what covers it, that is not the end of the matter.
            self._known.see(tables[-1], self._chosen(tables[-1]))
            self._table_changed = self._change_seen = True
        self._known.merge(result, each.whole, each.probing.noted)
        self._endings.follow(self._known.stuck(), each.probing.left)
        self._recovered = self._known.wants_another_try() or self._recovered
        self._lost += each.probing.lost
        if each.whole:
            self._taken = each.begun
            # Without it nothing else says, once this daemon has ended, what it leaves behind.
            self._complain("memory", summary.unremembered(result))
        if each.whole:
            self._look_up_after(result)
        judged = self._publish()
        if each.whole:
            self._complaints.pop("a round", None)  # what goes wrong with another one is said again
            self._progress = time.monotonic()
            judgements = () if judged is None else judged.judgements
            words = history.checked_words(judgements, summary.counts(judgements), result.duration)
            self._log.write(syslog.LOG_INFO, words)
            self._tell_ready()

    def _tell_ready(self) -> None:
        """There is a first result, be it that nothing can be checked: the daemon runs, and whoever
        waits for it to start goes on."""
        if not self._is_ready:
            self._is_ready = True
            self._settled()
            self._notifier.ready(self._status_words)

    def _look_at_endings(self, ready: set[int]) -> None:
        due = self._endings.due
        if not any(map(self._endings.knows, ready)) and (due is None or time.monotonic() < due):
            return
        if self._known.wants_another_try(*self._endings.ended()):
            self._recovered = True

    # -- what is told

    def _publish(self) -> Optional[Judged]:
        """Log what is news, and write the result files."""
        if self._known.last is None:
            return None
        options = self.options
        self._look_up_what_is_new(self._known.mounts)
        survey_now = self._known.survey()
        late = checking.ToCompare(time.monotonic() + options.settings.deadline, self._interrupts).came
        concluded = checking.concluded(options, survey_now, lambda: self._known.mounts, self._found, late)
        result = self._known.until_asked(concluded, self._led_before)
        judged = policy.judged(result, options.policy, options.allow_none)
        if self._interrupts() is not None:  # it was called off, and what was left out for that is no news
            return judged
        # Where only an autofs trigger is left, what it mounts is not mounted.
        mounted = {mount.mount_point for mount in self._known.mounts if mount.fs_type != b"autofs"}
        for news in self._episodes.follow(judged.judgements, time.clock_gettime(time.CLOCK_BOOTTIME), mounted):
            self._log.write(_PRIORITIES[news.state], news.line)
        self._status_words = _status_words(judged.judgements)
        self._notifier.status(self._status_words)
        try:
            state, texts, json = judged.state, self._texts(judged), jsontext.report(judged)
        except Exception as error:
            line, state = summary.plain_verdict(judged, error)
            texts, json = (
                [text.encoded(line, "utf-8")] * 4,
                jsontext.failure(state, line.partition(" - ")[2].rstrip("\n"), time.time()),
            )
            self._complain("the report", f"The report failed: {type(error).__name__}: {error}")
        else:
            self._complain("the report", None)
        assert self._taken is not None
        self._write(state, texts, json, self._taken)
        if self.service.metrics is not None:
            self._write_metrics(self.service.metrics, judged)
        if options.submission is not None:
            results = submitting.results(judged, options, options.submission, self._valid_for())
            self._held_up = submitting.held_up(result, options.submission)
            self._courier.offer(results, self._held_up)
        return judged

    def _texts(self, judged: Judged) -> list[bytes]:
        """The output as each verbosity wants it."""
        limit = self.options.max_output and self.options.max_output - cache.AGE_ROOM
        presentations = [plugin.Presentation(verbosity, self.options.perfdata, limit) for verbosity in range(4)]
        return [plugin.report(judged, presentation).output for presentation in presentations]

    def _valid_for(self) -> float:
        """Until the pass after the next one must have come to its end: seconds."""
        return 2 * self.service.interval + self.options.settings.deadline

    def _publish_failure(self, words: str) -> None:
        """Nothing can be measured: that is the result now."""
        words = text.one_line(words)
        output, json = (
            text.encoded(f"MOUNTS UNKNOWN - {words}\n", "utf-8"),
            jsontext.failure(State.UNKNOWN, words, time.time()),
        )
        self._write(State.UNKNOWN, [output] * 4, json, time.clock_gettime(time.CLOCK_BOOTTIME))
        if (
            self.options.submission is not None
        ):  # or what still waits for a server would be delivered as what is true now
            self._courier.offer(submitting.failure(output, self.options.submission, self._valid_for()), self._held_up)
        self._status_words = words
        self._notifier.status(words)
        self._tell_ready()

    def _write(self, state: State, texts: Sequence[bytes], json: bytes, taken: float) -> None:
        home, path = self._home, self.service.cache
        why = home.may_hang("--cache")
        try:
            if why is None:
                home.see_to_it()
        except Refused as error:
            why = str(error)
        except (
            OSError
        ):  # what is open is ours: if there is nothing to write with either, what says otherwise is removed at least
            pass
        if why is None:
            try:
                cache.write_in(home.directory, home.name, state.value, texts, taken, taken + self._valid_for())
            except OSError as error:
                why = str(error.strerror)
            # Even then: of neither is to stay what says that all is well.
            try:
                cache.replace_in(home.directory, f"{home.name}.json", json, verdict=json.partition(b'"summary"')[0])
            except OSError as error:
                path, why = (path, why) if why is not None else (f"{path}.json", str(error.strerror))
        self._complain("the result", None if why is None else f"Cannot write {text.printable_argument(path)}: {why}")

    def _submit(self) -> None:
        """Go on with what is on its way to monitoring servers."""
        for receipt in self._courier.step():
            name = receipt.destination.name
            self._complain(
                f"submission to {name}", None if receipt.error is None else f"Cannot submit to {name}: {receipt.error}"
            )

    def _write_metrics(self, path: str, judged: Judged) -> None:
        from check_mounts import metrics  # loaded already where they are wanted

        last = self._known.last
        assert last is not None
        passes = metrics.Passes(
            count=self._known.passes,
            started=last.started,
            duration=last.duration,
            stuck=len(self._known.stuck()),
            interval=self.service.interval,
            last_success=self._known.last_success,
            submissions=self._courier.counts(),
        )
        try:
            self._metrics.offer(path, metrics.render(judged, passes))
        except Exception as error:  # a defect there costs the metrics, and nothing else
            self._tell_of_metrics(f"{type(error).__name__}: {error}")

    def _tell_of_metrics(self, why: Optional[str]) -> None:
        path = text.printable_argument(self.service.metrics or "")
        self._complain("metrics", None if why is None else f"Cannot write {path}: {why}")

    # -- the end

    def _stop(self) -> None:
        """Give up what is under way. What is stuck is remembered already; nobody waits for it."""
        name = self._interrupts()
        self._notifier.stopping(f"stopped by {name}")
        for each in self._passes.values():
            each.probing.abandon(str(name))
        self._courier.close()
        self._metrics.close()
        self._table_watch.close()
        self._endings.close()
        self._log.write(syslog.LOG_NOTICE, f"Stopped by {name}")


def _narrowed(chosen: Selection, wanted: set[MountIdentity]) -> Selection:
    """What was chosen, to be probed only as far as it is wanted."""
    selected = tuple(mount for mount in chosen.selected if mount.identity in wanted)
    return dataclasses.replace(chosen, selected=selected, shadowed=(), missing=())


def _suspended() -> float:
    """How many seconds this host has been suspended since its boot: CLOCK_MONOTONIC leaves them out
    (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _status_words(judgements: Sequence[Judgement]) -> str:
    """``42 mounts, 1 timed out: /home``."""
    words = [text.counted(len(summary.relevant(judgements)), "mount")]
    groups: dict[str, list[str]] = {}
    for judgement in summary.failed_mounts(judgements):
        names = groups.setdefault(judgement.condition.value.replace("-", " "), [])
        names.append(text.clipped(text.printable(judgement.finding.mount_point), 60))
    for condition, names in groups.items():
        dots = ", ..." if len(names) > _NAMED else ""
        words.append(f"{len(names)} {condition}: {', '.join(names[:_NAMED])}{dots}")
    words += [
        text.clipped(each.finding.detail, 100)
        for each in summary.failed(judgements)
        if not (each.finding.is_mount or each.finding.line)
    ]
    if lines := policy.bad_lines(judgements):
        words.append(f"{text.counted(lines, 'line')} not understood")
    return ", ".join(words)


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except OSError:
        pass
