"""Judgements -> the lines below the status line: all that -v, -vv and -vvv say. Pure.

Where thousands of mounts are healthy, ``--max-output`` leaves out most of these lines. So those
about a healthy mount, or a mount that was left out, are made only if they are printed."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts import selection, text
from check_mounts.judging.judgements import Judgement, Judgements, healthy, notable, ok_words
from check_mounts.judging.policy import Judged, Policy
from check_mounts.judging.usage import numbers
from check_mounts.model import Condition, Finding, LeftOut, Reason, State
from check_mounts.outcome import Outcome, Step
from check_mounts.report.parts import Detail, Lines, Worth
from check_mounts.report.summary import described, line, notes
from check_mounts.typed import Optional, Union

_OK_STATE = f"{State.OK.name}: "
_STEPS = tuple((step, step.word) for step in Step)
# The fewest characters of ``OK: / ( ) ok in 0.000 s`` and ``left out: / ( ):`` without the names,
# with a line feed.
_OK, _LATENCY, _LEFT_OUT = 12, 11, 15


def details(judged: Judged, verbosity: int) -> Lines:
    """The lines below the status line: mounts that are not OK or have remarks (1), all mounts (2),
    all steps, all rules of the configuration and the mounts that were left out (3)."""
    survey, policy = judged.survey, judged.policy
    first = [Detail(f"note: {note}", Worth.NOTE) for note in notes(survey)]
    said = notable(judged.judgements) if verbosity >= 1 else ()
    bad = [judgement for judgement in said if judgement.state is not State.OK]
    for judgement in bad:  # the worst come first, so the others follow
        head, *others = _about(judgement, policy, verbosity)
        place = len(first)
        first.append(Detail(head, Worth.FAILED))
        first += [Detail(words, Worth.ABOUT_FAILED, place) for words in others]
    rest: list[_Item] = []
    if verbosity >= 2:
        judgements = judged.judgements
        ordered = judgements.in_order() if isinstance(judgements, Judgements) else judgements
        rest += [each for each in ordered if isinstance(each, Finding) or each.state is State.OK]
    else:
        rest += [each for each in said[len(bad) :] if not _is_plain(each)]
    if verbosity >= 3:
        rest += survey.left_out
    if verbosity >= 1:
        rest += [f"absent: {words}" for words in survey.excused]
        rest += [f"not compared: {words}" for words in survey.uncompared]
    return Lines(first, _Blocks(rest, policy, verbosity))


def _is_plain(judgement: Judgement) -> bool:
    return judgement.condition is Condition.OK and not judgement.finding.remarks


_Item = Union[Finding, Judgement, LeftOut, str]


class _Blocks:
    """The lines that are made only if they are printed (see parts.Blocks). A Finding among
    ``items`` is that of a healthy mount."""

    def __init__(self, items: Sequence[_Item], policy: Policy, verbosity: int) -> None:
        self._items, self._policy, self._verbosity = items, policy, verbosity

    def __len__(self) -> int:
        return len(self._items)

    def least(self, place: int) -> int:
        """The fewest bytes that the first line of a block may have."""
        item = self._items[place]
        if isinstance(item, Finding):
            return _OK + (0 if item.latency is None else _LATENCY) + _least(item.mount_point)
        return _LEFT_OUT + _least(item.mount.mount_point) if isinstance(item, LeftOut) else 0

    def count(self, place: int) -> int:
        """The number of lines of a block."""
        item = self._items[place]
        if not isinstance(item, Finding):
            return len(self.words(place))
        outcome = item.outcome
        if self._verbosity < 3 or outcome is None:
            steps = 0
        elif outcome.step is None:
            steps = len(outcome.seconds) - outcome.seconds.count(None) + (outcome.mode is not None)
        else:
            steps = len(steps_words(outcome))
        if self._verbosity >= 3:
            steps += len(_done(item))
        return 1 + steps + (len(_rules(item.mount_point, self._policy)) if self._verbosity >= 3 else 0)

    def words(self, place: int) -> list[str]:
        """The lines of a block."""
        item = self._items[place]
        if isinstance(item, Finding) and item.mount is not None:
            head = f"{_OK_STATE}{described(item.mount)} {ok_words(item.latency)}{usage_words(item, ', ')}"
            if self._verbosity < 3:
                return [head]
            more = [*steps_words(item.outcome), *_done(item), *_rules(item.mount_point, self._policy)]
            return [head, *[f"  {words}" for words in more]]
        if isinstance(item, Finding):
            return _about(healthy(item), self._policy, self._verbosity)
        if isinstance(item, Judgement):
            return _about(item, self._policy, self._verbosity)
        if isinstance(item, str):
            return [item]
        rules = _rules(item.mount.mount_point, self._policy) if item.why is Reason.IGNORED else []
        return [
            f"left out: {described(item.mount)}: {selection.why_left_out(item)}",
            *(f"  {rule}" for rule in rules),
        ]


def _least(name: bytes) -> int:
    """The fewest bytes that a name may have in an output. An escaped byte has more of them, and a
    character of four bytes may have one in another encoding than UTF-8."""
    return len(name) if name.isascii() else len(name) // 4


def _about(judgement: Judgement, policy: Policy, verbosity: int) -> list[str]:
    beside = usage_words(judgement.finding, ", ") if verbosity >= 2 and _has_usage_beside(judgement) else ""
    return [
        f"{judgement.state.name}: {line(judgement)}{beside}",
        *[f"  {words}" for words in below(judgement, policy, verbosity)],
    ]


def below(judgement: Judgement, policy: Policy, verbosity: int) -> list[str]:
    """The lines about one mount: its remarks (1), all steps, its usage, what programs
    did on it, and its rules (3)."""
    finding = judgement.finding
    remarks = list(finding.remarks) if verbosity >= 1 else []
    if verbosity < 3:
        return remarks
    usage = "" if _has_usage_beside(judgement) else usage_words(finding)
    more = [*([usage] if usage else []), *_done(finding)]
    return [*remarks, *steps_words(finding.outcome), *more, *_rules(finding.mount_point, policy)]


def _has_usage_beside(judgement: Judgement) -> bool:
    """Whether the usage follows the words in one line: they are short, and say nothing of a
    failure."""
    return judgement.condition is Condition.OK


def usage_words(finding: Finding, before: str = "") -> str:
    """``1.2 TiB of 4.0 TiB used (32 %), inodes 3 %``, like df; empty if nothing is known."""
    found, parts = numbers(finding), []
    if found is not None and found.size is not None:
        assert found.used is not None and found.available is not None
        percent = _percent(found.used, found.used + found.available)
        parts.append(f"{text.size_words(found.used)} of {text.size_words(found.size)} used ({percent} %)")
    if found is not None and found.inodes is not None:
        parts.append(f"inodes {_percent(found.inodes_used or 0, found.inodes)} %")
    return before + ", ".join(parts) if parts else ""


def _percent(part: int, whole: int) -> int:
    """Rounded up, as by df: 100 means that nearly nothing is left, 0 that nothing is in use."""
    return -(-100 * part // whole)


def _done(finding: Finding) -> list[str]:
    """What programs did on the mount, in a line."""
    if finding.traffic is None:
        return []
    from check_mounts.report import done  # see there

    words = done.line(finding.traffic)
    return [words] if words else []


def _rules(mount_point: bytes, policy: Policy) -> list[str]:
    """What the configuration says of a mount, and where."""
    return [f"rule: {words}" for words in policy.told(mount_point)]


_REFUSED = ", refused, and this process cannot act as the owner"


def _reading(outcome: Outcome) -> str:
    """How the directory was read: as which user, and whether its owner was refused."""
    acting = "" if outcome.acted_as is None else f", as uid {outcome.acted_as}"
    if outcome.alone:
        return f"{acting}, though its owner was refused"
    return f"{acting}{_REFUSED}" if outcome.not_owner else acting


def steps_words(outcome: Optional[Outcome]) -> list[str]:
    """A line for each step that a probe has taken: how long it took, and its error."""
    if outcome is None:
        return []
    lines, failed = [], outcome.step
    for (step, word), seconds, number in zip(_STEPS, outcome.seconds, outcome.errnos):
        if seconds is None and failed is not step:
            continue
        took = f"{word}: no answer" if seconds is None else f"{word}: {seconds:.6f} s"
        if step is Step.READ:
            took += _reading(outcome)
        error = outcome.errno if failed is step else number
        lines.append(took if error is None else f"{took}, {text.error_words(error)}")
    if outcome.mode is not None:
        lines.append(f"root directory: mode {outcome.mode & 0o7777:04o}, uid {outcome.uid}, gid {outcome.gid}")
    return lines
