"""``--on-change``: a program of the administrator that the daemon runs for each change of a mount.

The daemon starts no program itself: a worker does, after it has found that nobody else could have
replaced the program. Only so many run at a time and in a minute, one for each mount point; while a
change waits for that, a newer one of the same mount point replaces it."""

from __future__ import annotations

import marshal
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence

from check_mounts import text
from check_mounts.clocks import PAST, Boottime, Monotonic, after, epoch_of, monotonic
from check_mounts.daemon.episodes import Change, Episode
from check_mounts.daemon.errand import Errand, Result
from check_mounts.daemon.subjects import Subject
from check_mounts.model import Condition, State
from check_mounts.system import processes, programs
from check_mounts.typed import NamedTuple, Optional

# How many programs run at a time, and begin in a minute.
MOST_AT_ONCE, MOST_IN_A_MINUTE = 4, 60
_MINUTE = 60.0
# In seconds: how long a program may take, and its worker beyond that; how long the daemon waits for
# programs when it ends; how often to look whether a process that hangs has ended.
LONGEST_RUN, _BEYOND, _LAST_RUN, _AGAIN = 30.0, 3.0, 0.3, 1.0
# How much of what a program says is read, and logged, in bytes and characters; the size of a
# worker's answer.
_LONGEST_SAID, _LONGEST_LOGGED, _LONGEST_TROUBLE, _ANSWER = 4096, 400, 600, 8192
_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a mount point has become that is not checked, mounted or missing any more.
GONE = "gone"

Variables = Mapping[bytes, bytes]


class Event(NamedTuple):
    """A change, as the program gets it: the variables of its environment."""

    mount_point: bytes
    condition: str
    variables: Variables


class _Ran(NamedTuple):
    """What became of a program: ``trouble`` in words, empty without any. ``pid`` and ``start`` are
    those of one that hangs although it was killed."""

    said: str
    trouble: str
    pid: int
    start: int


class _Run:
    """One program at a time, in a worker."""

    def __init__(self, take: Callable[[_Run, _Ran], None]) -> None:
        self.event: Optional[Event] = None
        self.command: Sequence[str] = ()
        self._finish = take
        self.errand = Errand(self._work, _ANSWER, LONGEST_RUN + _BEYOND, self._take)

    def begin(self, event: Event, command: Sequence[str]) -> None:
        """Raises OSError."""
        self.event, self.command = event, command
        try:
            self.errand.begin()
        except OSError:
            self.event = None
            raise

    def _work(self) -> bytes:
        """In the worker."""
        assert self.event is not None
        ran = _run(self.command, self.event.variables)
        # An errand cuts NULs off the end.
        return marshal.dumps(tuple(ran._replace(trouble=ran.trouble[:_LONGEST_TROUBLE]))) + b"."

    def _take(self, result: Result) -> None:
        ran = _Ran("", result.why, 0, 0)
        if result.answer is not None:
            try:
                ran = _Ran(*marshal.loads(result.answer[:-1]))
            except (ValueError, EOFError, TypeError):
                ran = _Ran("", "its worker has answered nonsense", 0, 0)
        self._finish(self, ran)


class OnChange:
    """Runs the program for changes. A task that never ends (see tasks.Task). ``log`` takes a
    priority and a line; priorities are states."""

    done = False

    def __init__(self, log: Callable[[State, str], None]) -> None:
        self._log = log
        self._command: Sequence[str] = ()
        self._epoll = select.epoll()
        self._runs = [_Run(self._finish) for _ in range(MOST_AT_ONCE)]
        for run in self._runs:
            self._epoll.register(run.errand.fileno(), select.EPOLLIN)
        self._waiting: dict[bytes, Event] = {}
        # When programs began in the last minute.
        self._begun: list[Monotonic] = []
        # A program that hangs although it was killed, and its start.
        self._stuck: list[tuple[int, int]] = []
        self._left_out = 0
        self._is_held = False

    def serve(self, command: Sequence[str]) -> None:
        """Run this program from now on; none if it is empty."""
        self._command = command
        if not command:
            self._waiting.clear()

    def follow(self, event: Event) -> None:
        """Run the program for this change, as soon as that is due."""
        if not self._command:
            return
        older = self._waiting.pop(event.mount_point, None)
        if older is not None:
            self._left_out += 1
            if event.condition.encode() == older.variables[_name("was")] == b"ok":
                self._left_out += 1  # it is again what the program knows
                return
            variables = {**event.variables, _name("was"): older.variables[_name("was")]}
            event = event._replace(variables=variables)
        self._waiting[event.mount_point] = event

    # -- the task

    def fileno(self) -> int:
        """A descriptor that is readable once a program has ended."""
        return self._epoll.fileno()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest; clocks.NEVER if there is nothing to do."""
        due = min(run.errand.due(False) for run in self._runs)
        if not self._waiting or self._next() is None:
            return due
        if self._is_stuck or not any(_is_free(run) for run in self._runs):
            return min(due, after(_AGAIN))
        return min(due, self._room())

    def step(self, until: Monotonic = PAST) -> None:
        """Go on with what has come, and begin what is due."""
        for run in self._runs:
            run.errand.step(PAST)
        self._stuck = [(pid, start) for pid, start in self._stuck if processes.process_start(pid) == start]
        while (event := self._next()) is not None and monotonic() >= self._room() and not self._is_stuck:
            run = next((run for run in self._runs if _is_free(run)), None)  # type: ignore[assignment]
            if run is None:
                break
            self._begin(run, event)
        if self._is_held and not self._is_stuck:
            self._is_held = False
            self._log(State.OK, "Programs of --on-change are run again")

    @property
    def _is_stuck(self) -> bool:
        """Whether a program, or a worker, hangs although it was killed: another one would hang
        beside it."""
        return bool(self._stuck) or any(run.errand.is_stuck for run in self._runs)

    def _next(self) -> Optional[Event]:
        """The change that has waited for longest, and whose mount point has no program now."""
        busy = {run.event.mount_point for run in self._runs if run.event is not None}
        return next((event for point, event in self._waiting.items() if point not in busy), None)

    def _room(self) -> Monotonic:
        """When another program may begin."""
        now = monotonic()
        self._begun = [when for when in self._begun if when > now - _MINUTE]
        if len(self._begun) < MOST_IN_A_MINUTE:
            return PAST
        return Monotonic(self._begun[-MOST_IN_A_MINUTE] + _MINUTE)

    def _begin(self, run: _Run, event: Event) -> None:
        del self._waiting[event.mount_point]
        self._begun.append(monotonic())
        if self._left_out:
            changes = text.counted(self._left_out, "change")
            self._left_out = 0
            self._log(State.OK, f"--on-change: {changes} had no program: a newer one of the same mount came first")
        try:
            run.begin(event, self._command)
        except OSError as error:
            self._tell(event, f"no process for it: {error.strerror}", "")

    def _finish(self, run: _Run, ran: _Ran) -> None:
        event, run.event = run.event, None
        assert event is not None
        if ran.pid:
            self._stuck.append((ran.pid, ran.start))
        self._tell(event, ran.trouble, ran.said)
        if self._is_stuck and not self._is_held:
            self._is_held = True
            pids = ", ".join(str(pid) for pid, _ in self._stuck) or "its worker"
            self._log(State.WARNING, f"--on-change: no further programs, until one that hangs has ended ({pids})")

    def _tell(self, event: Event, trouble: str, said: str) -> None:
        if not trouble and not said:
            return
        words = f"--on-change for {text.printable(event.mount_point)} ({event.condition})"
        words += "".join(f": {each}" for each in (trouble, said) if each)
        self._log(State.WARNING if trouble else State.OK, words)

    def close(self) -> None:
        """Stop. Programs that run get a moment more; then they are killed with their workers."""
        until = after(_LAST_RUN)
        self._waiting.clear()
        while any(run.errand.is_under_way for run in self._runs) and monotonic() < until:
            time.sleep(0.01)
            self.step()
        for run in self._runs:
            run.errand.end()


def _is_free(run: _Run) -> bool:
    return not (run.errand.is_under_way or run.errand.is_stuck)


# -- pure


def event(change: Change, subject: Subject, is_drill: bool) -> Event:
    """A change as the program gets it."""
    judgement, episode = change.judgement, change.now or change.was
    condition = GONE if judgement is None else judgement.condition.value
    state = State.OK if judgement is None else judgement.state
    words = f"not {change.gone} any more" if judgement is None else judgement.words
    values = {
        "mount_point": change.mount_point,
        "source": text.without_secrets(subject.source),
        "type": subject.fs_type,
        "server": subject.server or b"",
        "condition": condition.encode(),
        "was": (Condition.OK if change.was is None else change.was.condition).value.encode(),
        "state": state.name.encode(),
        "words": text.encoded(words, "utf-8"),
        "since": b"" if episode is None else b"%d" % _since(episode),
        "drill": b"yes" if is_drill else b"no",
    }
    variables = {_name(name): value for name, value in values.items()}
    return Event(change.mount_point, condition, {**variables, b"PATH": _PATH, b"LC_ALL": b"C"})


def _name(what: str) -> bytes:
    return b"CHECK_MOUNTS_" + what.upper().encode()


def _since(episode: Episode) -> float:
    return epoch_of(Boottime(episode.since if episode.hung is None else episode.hung))


# -- in the worker


def _run(command: Sequence[str], variables: Variables) -> _Ran:
    """Run the program."""
    programs.look_at(command[0])
    try:
        why = programs.why_replaceable(command[0], {0, os.geteuid()})
        if why is not None:
            return _Ran("", f"{text.printable_argument(command[0])} is not run, because {why}", 0, 0)
        ran = programs.run(command, b"", variables, time.monotonic() + LONGEST_RUN, _LONGEST_SAID, is_alone=True)
    except programs.Late as error:
        return _Ran(
            "", f"it did not end within {text.seconds_words(LONGEST_RUN)}, and was killed", error.pid, error.start
        )
    except programs.NotRun as error:
        return _Ran("", f"{text.printable_argument(command[0])} {error}", 0, 0)
    except OSError as error:
        return _Ran("", f"{text.printable_argument(command[0])}: {error.strerror}", 0, 0)
    trouble = "" if ran.code == 0 else f"ended by signal {-ran.code}" if ran.code < 0 else f"exit status {ran.code}"
    return _Ran(_one_line(ran.said), trouble, 0, 0)


def _one_line(said: bytes) -> str:
    """What a program says, on one line that is fit for the log."""
    lines = (text.printable(line.strip()) for line in said.splitlines())
    return text.clipped("; ".join(filter(None, lines)), _LONGEST_LOGGED)
