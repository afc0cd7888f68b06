"""The daemon's drill: what ``check_mounts --pretend ... --for`` asks it to pretend, until the time
is over, the file is removed, or the daemon ends."""

from __future__ import annotations

import os
import syslog

from check_mounts import meaning, text
from check_mounts.clocks import NEVER, Boottime, Monotonic, after, boottime
from check_mounts.daemon import drill_file
from check_mounts.daemon.diary import PRIORITIES, Diary
from check_mounts.daemon.drill_file import Identity, Order
from check_mounts.daemon.episodes import duration_words
from check_mounts.daemon.home import Home
from check_mounts.judging import drilling
from check_mounts.judging.drilling import Pretended
from check_mounts.judging.judgements import Judgement, drills
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, State
from check_mounts.options.understood import Options
from check_mounts.system import processes, replacing
from check_mounts.typed import NamedTuple, Optional

# How many mounts a line of the log names.
_NAMED = 5


class _Running(NamedTuple):
    """A drill from ``begun`` to ``until``. ``words``: what it pretends."""

    pretended: Pretended
    words: str
    begun: Boottime
    until: Boottime


class Drills:
    """The drill that the daemon holds, if any: one at a time."""

    def __init__(self, home: Home, log: Diary) -> None:
        self._home, self._log = home, log
        self._address = drill_file.address(os.getpid(), processes.own_start())
        self._running: Optional[_Running] = None
        # The file that was looked at last.
        self._seen: Optional[Identity] = None
        # The mounts whose pretended conditions were logged, as they were judged last.
        self._told: dict[bytes, Judgement] = {}
        # The refusals that were logged.
        self._refused: set[str] = set()

    @property
    def due(self) -> Monotonic:
        """When to call :meth:`step` at the latest."""
        return NEVER if self._running is None else after(self._running.until - boottime())

    def step(self) -> bool:
        """End the drill if its time is over. Returns whether it has ended."""
        if self._running is None or boottime() < self._running.until:
            return False
        self._end()
        return True

    def look(self) -> bool:
        """Look at the file. Returns whether a drill has begun or ended."""
        try:
            found = None
            if drill_file.is_there(self._home.directory, self._name):
                if self._home.may_hang("--cache") is not None:
                    return False
                found = drill_file.look(self._home.directory, self._name)
        except OSError:
            return False  # the next look may find it
        if found == self._seen:
            return False
        had_one = self._running is not None
        if had_one:
            self._end("" if found is not None else ", because its file was removed", remove=False)
        self._seen = found
        return (found is not None and self._take()) or had_one

    @property
    def _name(self) -> str:
        return self._home.name + drill_file.SUFFIX

    def _take(self) -> bool:
        """Begin what the file asks for. Returns whether a drill has begun."""
        try:
            order = drill_file.read(self._home.directory, self._name)
            if order.to != self._address:
                self._log.write(syslog.LOG_NOTICE, "A drill ended with the daemon that held it")
                self._remove()
                return False
            drill_file.check_fresh(order)
        except drill_file.Refused as error:
            self._log.write(syslog.LOG_WARNING, f"No drill: {text.printable_argument(self._name)}: {error}")
            return False
        self._begin(order)
        return True

    def _begin(self, order: Order) -> None:
        now = boottime()
        words = _words(order)
        pretended = Pretended(order.conditions)
        self._running = _Running(pretended, words, now, Boottime(now + order.seconds))
        self._log.write(syslog.LOG_NOTICE, f"Drill begins: {words}, for {duration_words(order.seconds)}")

    def _end(self, why: str = "", remove: bool = True) -> None:
        assert self._running is not None
        lasted = duration_words(boottime() - self._running.begun)
        for point, judgement in self._told.items():
            if judgement.truth.state is State.OK:
                was = judgement.condition
                words = "answers again" if was is Condition.TIMED_OUT else f"is ok again, after it was {was.words}"
                line = f"DRILL: {text.printable(point)} {words}"
                self._log.write(syslog.LOG_NOTICE, line)
        self._log.write(syslog.LOG_NOTICE, f"Drill ended: {self._running.words}, after {lasted}{why}")
        self._running = None
        self._told.clear()
        self._refused.clear()
        if remove:
            self._remove()

    def _remove(self) -> None:
        if self._home.may_hang("--cache") is None:
            replacing.remove(self._home.directory, self._name)
            self._seen = None

    def close(self) -> None:
        """End the drill with the daemon."""
        if self._running is not None:
            self._end(", because the daemon ends")

    def shown(self, truth: Judged, options: Options) -> Judged:
        """What is published: the truth, or the drill."""
        if self._running is None:
            return truth
        found = drilling.rehearsed(truth, self._running.pretended, drilling.points(options.demands.expected))
        for why in found.refused:
            if why not in self._refused:
                self._refused.add(why)
                self._log.write(syslog.LOG_WARNING, f"No drill: {why}")
        held = drills(found.judged.judgements)
        if not held:  # nothing would show it
            self._running = self._running._replace(until=boottime())
        for judgement in held:
            self._tell(judgement)
        return found.judged

    def _tell(self, judgement: Judgement) -> None:
        """Log once what a drill pretends, as if it were so."""
        if judgement.drill is None or not judgement.drill.shown:
            return
        point, is_new = judgement.finding.mount_point, judgement.finding.mount_point not in self._told
        self._told[point] = judgement
        if is_new:
            detail = f"DRILL, really {judgement.truth.words}"
            line = meaning.of(judgement.condition).news.format(
                point=text.printable(point), words=judgement.words, detail=detail
            )
            self._log.write(PRIORITIES[judgement.state], f"DRILL: {line}")


def _words(order: Order) -> str:
    """``/home=dead, /srv=slow and 3 more``."""
    shown = [
        f"{text.clipped(text.printable(point), 200)}={condition.value}"
        for point, condition in [*order.conditions.items()][:_NAMED]
    ]
    more = len(order.conditions) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
