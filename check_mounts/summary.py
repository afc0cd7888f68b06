"""Judgements -> words for people: the status line and the lines of -v. Pure text, shared by all outputs.

The status line names the worst first and stays readable with hundreds of failures: from a few on they are grouped by the file
server that their sources name.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Optional

from check_mounts import selection, text
from check_mounts.model import Condition, Mount, Outcome, State, Step, Survey
from check_mounts.policy import Judgement, Policy, judge_all, worst

# More failures than this are grouped; more groups than this are counted.
_NAMED = 5
_GROUPS = 6
_EXAMPLES = 3
_NAME_WIDTH = 120
_EXAMPLE_WIDTH = 60


@dataclasses.dataclass(frozen=True)
class Report:
    """What is said: ``output`` ready to be written, the ``state`` that the exit code says, and the items of its ``perfdata``.

    ``mount_point`` is what it is about, None where that is all of them.
    """

    output: bytes
    state: State
    perfdata: Sequence[str]
    mount_point: Optional[bytes] = None


def described(mount: Mount) -> str:
    """``/home (nfs4 filer1:/export/home)``."""
    return f"{text.printable(mount.mount_point)} ({text.printable(mount.fs_type)} {text.printable(mount.source)})"


def line(judgement: Judgement) -> str:
    """One finding in full: mount point, type, source and what is the matter."""
    finding = judgement.finding
    if finding.mount is not None:
        return f"{described(finding.mount)} {judgement.words}"
    if not finding.mount_point:
        return finding.detail
    return f"{text.printable(finding.mount_point)} {judgement.words}"


def _short_line(judgement: Judgement) -> str:
    """The same for the status line: overlong names are cut in the middle, -v has them whole."""
    finding = judgement.finding
    if finding.mount is None:
        return text.clipped(line(judgement), 2 * _NAME_WIDTH)
    mount = finding.mount
    point, source = (text.clipped(text.printable(name), _NAME_WIDTH) for name in (mount.mount_point, mount.source))
    kind = text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)
    return f"{point} ({kind} {source}) {text.clipped(judgement.words, 2 * _NAME_WIDTH)}"


def relevant(judgements: Iterable[Judgement]) -> list[Judgement]:
    """All but the shadowed: what a path leads to, or should."""
    return [judgement for judgement in judgements if judgement.condition is not Condition.SHADOWED]


def failed(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that are not OK, the worst first as they come."""
    return [judgement for judgement in judgements if judgement.state is not State.OK]


def headline(judgements: Sequence[Judgement], survey: Survey) -> str:
    """The status line without the failures: ``2 of 42 mounts failed``, ``42 mounts checked in 0.1 s``."""
    total, bad = len(relevant(judgements)), len(failed(judgements))
    cut = f"interrupted by {survey.interrupted} after {survey.duration:.1f} s, " if survey.interrupted else ""
    if bad:
        return f"{cut}{bad} of {max(total, bad)} mounts failed"
    if total == 0:
        return f"{cut}no mount was selected ({text.counted(len(survey.left_out), 'mount')} left out, -vvv says why)"
    return f"{cut}{text.counted(total, 'mount')} checked in {survey.duration:.1f} s"


def failures(judgements: Sequence[Judgement]) -> list[str]:
    """The failures as items of the status line, the worst first."""
    bad = failed(judgements)
    if len(bad) <= _NAMED:
        return [_short_line(judgement) for judgement in bad]
    groups: dict[tuple[int, Condition, str], list[Judgement]] = {}
    for judgement in bad:
        groups.setdefault((judgement.state.rank, judgement.condition, _origin(judgement)), []).append(judgement)
    ordered = sorted(groups.items(), key=lambda group: (-group[0][0], -len(group[1])))
    totals = collections.Counter(_origin(judgement) for judgement in relevant(judgements))
    items = [_group_line(key[2], members, totals[key[2]]) for key, members in ordered[:_GROUPS]]
    rest = sum(len(members) for _, members in ordered[_GROUPS:])
    return [*items, f"and {rest} more"] if rest else items


def _origin(judgement: Judgement) -> str:
    """What failures are grouped by: ``mounts of filer1``, ``local xfs mounts``."""
    mount = judgement.finding.mount
    if mount is None:
        return "mounts"
    server = selection.server(mount)
    if server is not None:
        return f"mounts of {text.clipped(text.printable(server), _EXAMPLE_WIDTH)}"
    return f"{text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)} mounts"


def _group_line(origin: str, members: Sequence[Judgement], total: int) -> str:
    if len(members) == 1:
        return _short_line(members[0])
    words = members[0].words
    if any(member.words != words for member in members):
        words = members[0].condition.value.replace("-", " ")
        causes = {member.finding.diagnosis for member in members}
        if len(causes) == 1:
            words += "".join(f": {cause}" for cause in causes if cause)
    names = [text.clipped(text.printable(member.finding.mount_point), _EXAMPLE_WIDTH) for member in members[:_EXAMPLES]]
    dots = ", ..." if len(members) > _EXAMPLES else ""
    every = "all " if origin.startswith("mounts of ") and len(members) == total else ""
    return f"{every}{len(members)} {origin} {text.clipped(words, 2 * _NAME_WIDTH)} ({', '.join(names)}{dots})"


def details(judgements: Sequence[Judgement], survey: Survey, verbosity: int) -> list[str]:
    """The lines below the status line: what is not ok (1), every mount (2), every step and what was left out (3)."""
    lines = [f"note: {note}" for note in survey.notes]
    for judgement in judgements:
        if verbosity >= 2 or (verbosity == 1 and judgement.condition is not Condition.OK) or (verbosity and judgement.state.rank):
            lines.append(f"{judgement.state.name}: {line(judgement)}")
            lines.extend(f"  {words}" for words in below(judgement, verbosity))
    if verbosity >= 3:
        lines.extend(f"left out: {described(out.mount)}: {out.why}" for out in survey.left_out)
    if verbosity >= 1:
        lines.extend(f"absent: {words}" for words in survey.excused)
    return lines


def below(judgement: Judgement, verbosity: int) -> list[str]:
    """What else there is to say of one mount: what was found out about it (1), every step (3)."""
    remarks = list(judgement.finding.remarks) if verbosity >= 1 else []
    return [*remarks, *(_steps(judgement.finding.outcome) if verbosity >= 3 else [])]


def _steps(outcome: Optional[Outcome]) -> list[str]:
    if outcome is None:
        return []
    lines = []
    for step in Step:
        seconds = outcome.seconds[step - 1]
        if seconds is None and outcome.step is not step:
            continue
        took = "no answer" if seconds is None else f"{seconds:.6f} s"
        number = outcome.error_of(step)
        error = "" if number is None else f", {text.error_words(number)}"
        who = f", as uid {outcome.acted_as}" if step is Step.READ and outcome.acted_as is not None else ""
        refused = ", refused, and the owner could not be asked" if step is Step.READ and outcome.not_owner else ""
        lines.append(f"{step.word}: {took}{who}{refused}{error}")
    if outcome.mode is not None:
        lines.append(f"root directory: mode {outcome.mode & 0o7777:04o}, uid {outcome.uid}, gid {outcome.gid}")
    return lines


def counts(judgements: Sequence[Judgement], survey: Survey) -> list[tuple[str, int]]:
    """How many mounts there are of each condition, ``mounts`` being all that are not shadowed."""
    numbers = dict.fromkeys(Condition, 0)
    for judgement in judgements:
        numbers[judgement.condition] += 1
    return [("mounts", len(relevant(judgements))), *((condition.identifier, numbers[condition]) for condition in _ORDER)]


_ORDER = (
    Condition.OK,
    Condition.SLOW,
    Condition.DENIED,
    Condition.TIMED_OUT,
    Condition.DEAD,
    Condition.MISSING,
    Condition.READ_ONLY,
    Condition.CHANGED,
    Condition.FULL,
    Condition.BLOCKED,
    Condition.SHADOWED,
    Condition.UNPROBED,
)


def slowest(judgements: Iterable[Judgement]) -> float:
    """The longest latency of a mount that answered, in seconds; 0 where none did."""
    answered = (judgement.finding for judgement in judgements if judgement.condition in (Condition.OK, Condition.SLOW, Condition.FULL))
    return max((finding.latency or 0.0 for finding in answered), default=0.0)


def plain_verdict(survey: Survey, policy: Policy, allow_none: bool, error: Exception) -> tuple[str, State]:
    """What was measured is not lost because the report failed: the verdict in plain words, one line, at least UNKNOWN."""
    judgements = judge_all(survey, policy)
    state = max(worst(judgements, survey, allow_none), State.UNKNOWN, key=lambda state: state.rank)
    why = text.one_line(f"the report failed: {type(error).__name__}: {error}")
    words = "; ".join([headline(judgements, survey), *failures(judgements), why])
    return f"MOUNTS {state.name} - {words}\n", state
