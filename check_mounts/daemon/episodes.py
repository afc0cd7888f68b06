"""The trouble of mount points across passes: lines of the log say when it begins, changes and ends.
No effects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from check_mounts import meaning, text
from check_mounts.judging.judgements import (
    Judgement,
    answered,
    bad_lines,
    drills,
    healthy,
    healthy_of,
    notable,
    worst_of_each,
)
from check_mounts.model import Condition, Finding, State
from check_mounts.probing import conditions
from check_mounts.typed import NamedTuple, Optional


class Episode(NamedTuple):
    """The trouble of one mount point: its condition, the time at which that began (``since``), and
    the time since which it has not answered (``hung``). Times are on CLOCK_BOOTTIME."""

    condition: Condition
    state: State
    since: float
    hung: Optional[float]


class Change(NamedTuple):
    """A change of one mount point: the trouble that it had (``was``) and that it has (``now``);
    None without any. ``judgement`` is the new one. None if nobody checks the mount point any more;
    then ``gone`` says what it no longer is: missing, checked or mounted."""

    mount_point: bytes
    was: Optional[Episode]
    now: Optional[Episode]
    judgement: Optional[Judgement]
    gone: str = ""


class News(NamedTuple):
    """A change, as a line of the log. ``state`` is the new state. ``change`` is None if it is about
    a line of a file, or a ghost."""

    state: State
    line: str
    change: Optional[Change] = None


class Episodes:
    """The mount points in trouble, and the lines that could not be understood. Each change is
    reported once."""

    def __init__(self) -> None:
        self._open: dict[bytes, Episode] = {}
        self._not_understood: dict[object, str] = {}

    @property
    def has_any(self) -> bool:
        """Whether a mount point was in trouble until now."""
        return bool(self._open)

    def is_hung(self, mount_point: bytes) -> bool:
        """Whether a mount point was hung already."""
        known = self._open.get(mount_point)
        return known is not None and known.hung is not None

    def follow(self, judgements: Sequence[Judgement], now: float, mounted: Collection[bytes] = ()) -> list[News]:
        """Take in new judgements, and return the changes since the last call. ``now`` is on
        CLOCK_BOOTTIME; ``mounted`` holds all mount points of the table."""
        told = notable(judgements)
        news = self._follow_others([judgement for judgement in told if _is_other(judgement)])
        present = worst_of_each(told)
        for finding in healthy_of(judgements) if self._open else ():
            if finding.mount_point in self._open:  # of the others, there was and is nothing to tell
                present.setdefault(finding.mount_point, healthy(finding))
        for mount_point, judgement in present.items():
            was = self._open.get(mount_point)
            line = self._follow_one(mount_point, judgement, now)
            if line is not None:
                change = Change(mount_point, was, self._open.get(mount_point), judgement)
                news.append(News(judgement.state, line, change))
        for gone in [mount_point for mount_point in self._open if mount_point not in present]:
            episode = self._open.pop(gone)
            was_missing = episode.condition is Condition.MISSING
            # It may also be mounted still: new filters or a new configuration may leave it out, or
            # it may no longer be expected.
            what = "missing" if was_missing else "checked" if gone in mounted else "mounted"
            change = Change(gone, episode, None, None, what)
            news.append(News(State.OK, f"{text.printable(gone)} is not {what} any more", change))
        return news

    def _follow_others(self, judgements: Iterable[Judgement]) -> list[News]:
        """The same for what does not count as a mount: lines of the mount table, of fstab and the
        like, and ghosts that fail. They have no mount point, so each is known by what is wrong with
        it."""
        before, self._not_understood = self._not_understood, {}
        news: list[News] = []
        for judgement in judgements:
            finding = judgement.finding
            words = _news_words(finding.mount_point, judgement) if finding.is_mount else finding.detail
            key = (finding.mount_point, judgement.condition) if finding.is_mount else _line_key(finding)
            if key not in before and key not in self._not_understood:
                news.append(News(judgement.state, words))
            self._not_understood.setdefault(key, before.get(key, words))
        return news + [
            News(State.OK, f"No longer: {words}") for key, words in before.items() if key not in self._not_understood
        ]

    def _follow_one(self, mount_point: bytes, judgement: Judgement, now: float) -> Optional[str]:
        finding, condition = judgement.finding, judgement.condition
        before = self._open.get(mount_point)
        if condition is Condition.BLOCKED:
            return None  # the news is the mount above it
        if condition is Condition.OK or (condition is Condition.IDLE and judgement.state is State.OK):
            self._open.pop(mount_point, None)
            return None if before is None else _recovery(mount_point, before, now)
        hung = None if before is None else before.hung
        if condition is Condition.TIMED_OUT:
            hung = min(each for each in (hung, finding.stuck_since, now - (finding.latency or 0.0)) if each is not None)
        elif answered(judgement):
            hung = None
        # The state of a missing mount changes by itself, when the boot grace ends.
        graver = before is not None and condition is Condition.MISSING and judgement.state.rank > before.state.rank
        same = before is not None and before.condition is condition and not graver
        self._open[mount_point] = Episode(
            condition, judgement.state, before.since if before is not None and same else now, hung
        )
        if before is not None and same:
            return None
        if before is not None and before.hung is not None and hung is None:
            return f"{_recovery(mount_point, before, now)}, but is {judgement.words}"
        return _news_words(mount_point, judgement)


def _is_other(judgement: Judgement) -> bool:
    finding = judgement.finding
    return not finding.is_mount or (not judgement.is_counted and judgement.state is not State.OK)


def _news_words(mount_point: bytes, judgement: Judgement) -> str:
    return meaning.of(judgement.condition).news.format(
        point=text.printable(mount_point), words=judgement.words, detail=judgement.finding.detail
    )


def _line_key(finding: Finding) -> object:
    """What distinguishes a line from others. The number of a line of the mount table does not: it
    changes once a mount before it has come or gone."""
    line = finding.line
    if line is None:
        return finding.detail
    return (line.file, line.why) if line.file == conditions.MOUNT_TABLE else (line.file, line.number, line.why)


def _recovery(mount_point: bytes, before: Episode, now: float) -> str:
    if before.hung is not None:
        return f"{text.printable(mount_point)} answers again after {duration_words(now - before.hung)}"
    was = before.condition.words
    return f"{text.printable(mount_point)} is ok again, after it was {was} for {duration_words(now - before.since)}"


def duration_words(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h 12 min``, ``2 d 3 h``: the two largest units that are not
    zero."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    words = [f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if number]
    return " ".join(words[:2])


def checked_words(judgements: Sequence[Judgement], counts: Iterable[tuple[str, int]], seconds: float) -> str:
    """``Checked 42 mounts in 5 seconds: 1 dead, 2 timed out``, in the words of
    MountStatusMonitor: some sites have rules for its log."""
    bad: dict[Condition, int] = {}
    for judgement in notable(judgements):
        if judgement.state is not State.OK and judgement.finding.is_mount:
            bad[judgement.condition] = bad.get(judgement.condition, 0) + 1
    parts = [f"{bad[condition]} {condition.words}" for condition in _IN_ORDER if condition in bad]
    lines = bad_lines(judgements)
    tail = ", ".join([*parts, f"{text.counted(lines, 'line')} not understood"] if lines else parts)
    total: Mapping[str, int] = dict(counts)
    mark = " (DRILL)" if drills(judgements) else ""
    return f"Checked {total['mounts']} mounts in {int(seconds)} seconds" + (f": {tail}" if tail else "") + mark


_IN_ORDER = (
    Condition.DEAD,
    Condition.TIMED_OUT,
    *(each for each in Condition if each not in (Condition.DEAD, Condition.TIMED_OUT)),
)
