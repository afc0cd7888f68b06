"""Judgements -> words for people: the status line and the lines of -v. Pure text, shared by all
outputs.

The status line names the worst first and stays readable with hundreds of failures: from a few on
they are grouped by the file server that their sources name."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from check_mounts import filesystems, meaning, selection, text
from check_mounts.model import Condition, Mount, State, Survey
from check_mounts.outcome import Outcome, Step
from check_mounts.parts import Detail, Failure, Report, Worth
from check_mounts.policy import Judged, Judgement, bad_lines

# More failures than this are grouped; more groups than this are counted.
_NAMED = 5
_MOST_GROUPS = 6
_EXAMPLES = 3
_REASONS = 2
_BOUNDS = 2
_NAME_WIDTH = 120
_EXAMPLE_WIDTH = 60


def described(mount: Mount) -> str:
    """``/home (nfs4 filer1:/export/home)``."""
    return f"{text.printable(mount.mount_point)} ({text.printable(mount.fs_type)} {filesystems.source_words(mount.source, mount.fs_type)})"


def line(judgement: Judgement) -> str:
    """One finding in full: mount point, type, source and what is the matter."""
    finding = judgement.finding
    if finding.mount is not None:
        return f"{described(finding.mount)} {judgement.words}"
    if not finding.is_mount:
        return finding.detail
    return f"{text.printable(finding.mount_point)} {judgement.words}"


def _short_line(judgement: Judgement) -> str:
    """The same for the status line: overlong names are cut in the middle, -v has them whole."""
    finding = judgement.finding
    if finding.mount is None:
        return text.clipped(line(judgement), 2 * _NAME_WIDTH)
    mount = finding.mount
    point = text.clipped(text.printable(mount.mount_point), _NAME_WIDTH)
    source = text.clipped(filesystems.source_words(mount.source, mount.fs_type), _NAME_WIDTH)
    kind = text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)
    return f"{point} ({kind} {source}) {text.clipped(judgement.words, 2 * _NAME_WIDTH)}"


def relevant(judgements: Iterable[Judgement]) -> list[Judgement]:
    """All mounts but the shadowed: what a path leads to, or should."""
    return [judgement for judgement in judgements if judgement.is_counted]


def failed(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that are not OK, the worst first as they come; lines that make no sense included."""
    return [judgement for judgement in judgements if judgement.state is not State.OK]


def failed_mounts(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The mounts among them."""
    return [judgement for judgement in failed(judgements) if judgement.finding.is_mount]


def headline(judged: Judged) -> str:
    """The status line without the failures: ``2 of 42 mounts failed``, ``42 mounts checked in 0.1
    s, 7 lines not understood``."""
    survey, judgements = judged.survey, judged.judgements
    total, bad = len(relevant(judgements)), len(failed_mounts(judgements))
    cut = f"interrupted by {survey.interrupted} after {survey.duration:.1f} s, " if survey.interrupted else ""
    lines = bad_lines(judgements)
    also = (f", {text.counted(lines, 'line')} not understood" if lines else "") + _too_small_words(judgements)
    if bad:
        return f"{cut}{bad} of {max(total, bad)} mounts failed{also}"
    if total == 0:
        return (
            f"{cut}no mount was selected ({text.counted(len(survey.left_out), 'mount')} left out, -vvv says why){also}"
        )
    return f"{cut}{text.counted(total, 'mount')} checked in {survey.duration:.1f} s{also}"


def _too_small_words(judgements: Iterable[Judgement]) -> str:
    """What was not judged is not left out in silence: ``, 3 too small for '10GiB:'``. -v names
    them."""
    numbers = collections.Counter(bound for judgement in judgements for bound in judgement.too_small)
    if len(numbers) > _BOUNDS:
        return f", {sum(bool(judgement.too_small) for judgement in judgements)} too small for their bounds"
    return "".join(f", {number} too small for {bound}" for bound, number in numbers.items())


def report(judged: Judged) -> Report:
    """The status line: what every output begins with."""
    items = _failure_items(judged.judgements)
    named, rest = items[:_MOST_GROUPS], items[_MOST_GROUPS:]
    return Report(judged.state, headline(judged), named, sum(item.stands_for for item in rest))


def _failure_items(judgements: Sequence[Judgement]) -> list[Failure]:
    """All of them, a few by name, many in groups. Lines are no mounts, and so are not grouped with
    them."""
    bad = failed(judgements)
    many = {True: len(failed_mounts(bad)) > _NAMED, False: len(bad) > _NAMED}
    groups: dict[tuple[object, ...], list[Judgement]] = {}
    for position, judgement in enumerate(bad):
        grouped = many[judgement.finding.is_mount]
        alike = (
            judgement.condition,
            _is_unanswered(judgement),
            judgement.finding.mount is None,
            _group_name(judgement),
        )
        key: tuple[object, ...] = alike if grouped else (position,)
        groups.setdefault((judgement.state.rank, *key), []).append(judgement)
    totals = collections.Counter(_origin(judgement) for judgement in relevant(judgements))
    ordered = sorted(
        groups.values(), key=lambda members: (-members[0].state.rank, not _is_unanswered(members[0]), -len(members))
    )
    return [Failure(_group_line(members, totals), len(members)) for members in ordered]


def _is_unanswered(judgement: Judgement) -> bool:
    """Was it being asked when the end of the run came?"""
    outcome = judgement.finding.outcome
    return (
        judgement.condition is Condition.UNPROBED
        and outcome is not None
        and outcome.errno is None
        and outcome.step is not None
    )


def _origin(judgement: Judgement) -> str:
    """Where a failure comes from: ``mounts of filer1``, ``local xfs mounts``, ``lines of
    /etc/fstab``."""
    finding = judgement.finding
    if not finding.is_mount:  # what is no line either stands for itself
        return finding.detail if finding.line is None else f"lines of {text.clipped(finding.line.file, _NAME_WIDTH)}"
    mount = finding.mount
    if mount is None:
        return "mounts"
    server = selection.server(mount)
    if server is not None:
        return f"mounts of {text.clipped(text.printable(server), _EXAMPLE_WIDTH)}"
    return f"{text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)} mounts"


def _group_name(judgement: Judgement) -> str:
    """Where they come from; of mounts that nobody has asked, whose server is none of the matter,
    that they are mounts."""
    finding = judgement.finding
    unasked = judgement.condition is Condition.UNPROBED and finding.is_mount and finding.outcome is None
    return "mounts" if unasked else _origin(judgement)


def _group_line(members: Sequence[Judgement], totals: Mapping[str, int]) -> str:
    if len(members) == 1:
        return _short_line(members[0])
    origin = _group_name(members[0])
    dots = ", ..." if len(members) > _EXAMPLES else ""
    lines = [member.finding.line for member in members if member.finding.line is not None]
    if lines:
        numbers = ", ".join(str(line.number) for line in lines[:_EXAMPLES])
        return f"{len(lines)} {origin} make no sense ({numbers}{dots})"
    names = [text.clipped(text.printable(member.finding.mount_point), _EXAMPLE_WIDTH) for member in members[:_EXAMPLES]]
    every = "all " if origin.startswith("mounts of ") and len(members) == totals[origin] else ""
    return f"{every}{len(members)} {origin} {text.clipped(_common_words(members), 2 * _NAME_WIDTH)} ({', '.join(names)}{dots})"


def _common_words(members: Sequence[Judgement]) -> str:
    """What is the matter with all of them: their condition, since when, and why, as far as they
    have that in common."""
    words = members[0].words
    if all(member.words == words for member in members):
        return words
    if _is_unanswered(members[0]):  # each was asked for a time of its own
        return "unanswered, the longest: " + max(members, key=lambda member: member.finding.latency or 0.0).words
    said = members[0].condition.words + _since_words(members)
    hung = members[0].condition is Condition.TIMED_OUT
    reasons = collections.Counter(filter(None, map(_reason, members)))
    # A reason of its own that each of them has is found with -v; whose fault it is that some hang,
    # no administrator should miss.
    shown = [(reason, count) for reason, count in reasons.most_common(_REASONS) if hung or count > 1]
    if not shown:
        return said
    more = ", and others" if len(reasons) > len(shown) else ""
    alone = len(reasons) == 1
    return f"{said}: " + ", ".join(reason if alone else f"{reason} ({count})" for reason, count in shown) + more


def _since_words(members: Sequence[Judgement]) -> str:
    moments = [None if member.finding.since is None else text.moment(member.finding.since) for member in members]
    known = sorted(filter(None, moments))
    if not known:
        return ""
    return f" since {known[0]}" if len(set(moments)) == 1 else f", the first since {known[0]}"


def _reason(member: Judgement) -> str:
    finding = member.finding
    if member.condition is Condition.TIMED_OUT:
        return finding.diagnosis
    if member.condition is not finding.condition:  # slow, full: each is so in numbers of its own
        return ""
    return f"{finding.detail}: {finding.diagnosis}" if finding.diagnosis else finding.detail


def unremembered(survey: Survey) -> Optional[str]:
    """Why stuck probes are not remembered, as a message; None where they are."""
    return f"stuck probes are not remembered: {survey.unremembered}" if survey.unremembered else None


def notes(survey: Survey) -> list[str]:
    """The survey's notes, in the order in which they are printed."""
    without_memory = unremembered(survey)
    return [*([without_memory] if without_memory else []), *survey.notes]


def details(judged: Judged, verbosity: int) -> list[Detail]:
    """The lines below the status line: what is not ok, or remarkable (1), every mount (2), every
    step and what was left out (3)."""
    survey = judged.survey
    lines = [Detail(f"note: {note}", Worth.NOTE) for note in notes(survey)]
    for judgement in judged.judgements:
        plain = judgement.condition is Condition.OK and not judgement.state.rank and not judgement.finding.remarks
        if verbosity >= (2 if plain else 1):
            bad, head = judgement.state is not State.OK, len(lines)
            lines.append(Detail(f"{judgement.state.name}: {line(judgement)}", Worth.FAILED if bad else Worth.REST))
            worth = Worth.ABOUT_FAILED if bad else Worth.REST
            lines.extend(Detail(f"  {words}", worth, head) for words in below(judgement, verbosity))
    if verbosity >= 3:
        lines.extend(
            Detail(f"left out: {described(out.mount)}: {selection.why_left_out(out)}", Worth.REST)
            for out in survey.left_out
        )
    if verbosity >= 1:
        lines.extend(Detail(f"absent: {words}", Worth.REST) for words in survey.excused)
        lines.extend(Detail(f"not compared: {words}", Worth.REST) for words in survey.uncompared)
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
        if step is Step.READ and outcome.alone:
            refused = ", though its owner was refused"
        lines.append(f"{step.word}: {took}{who}{refused}{error}")
    if outcome.mode is not None:
        lines.append(f"root directory: mode {outcome.mode & 0o7777:04o}, uid {outcome.uid}, gid {outcome.gid}")
    return lines


def counts(judgements: Sequence[Judgement]) -> list[tuple[str, int]]:
    """How many mounts there are of each condition, ``mounts`` being all that are not shadowed."""
    numbers = dict.fromkeys(Condition, 0)
    for judgement in judgements:
        numbers[judgement.condition] += judgement.finding.is_mount
    return [
        ("mounts", len(relevant(judgements))),
        *((condition.identifier, numbers[condition]) for condition in Condition),
    ]


def slowest(judgements: Iterable[Judgement]) -> float:
    """The longest latency of a mount that answered, in seconds; 0 where none did."""
    answered = (judgement.finding for judgement in judgements if meaning.of(judgement.condition).timed)
    return max((finding.latency or 0.0 for finding in answered), default=0.0)


def plain_report(judged: Judged, error: Exception) -> Report:
    """What was measured is not lost because the report failed: the verdict in plain words, one
    line, at least UNKNOWN."""
    plain = report(judged)
    why = text.one_line(f"the report failed: {type(error).__name__}: {error}")
    return dataclasses.replace(
        plain,
        state=max(plain.state, State.UNKNOWN, key=lambda state: state.rank),
        failures=[*plain.failures, Failure(why, 0)],
    )
