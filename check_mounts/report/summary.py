"""Judgements -> words for people: the status line and the lines of -v. Pure, and shared by all
outputs.

The status line names the worst first, and stays readable with hundreds of failures: if there are
more than a few, they are grouped by the file server that their sources name."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence

from check_mounts import filesystems, meaning, selection, text
from check_mounts.judging import judgements as told
from check_mounts.judging.judgements import Judgement, bad_lines
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, Finding, Mount, State, Survey
from check_mounts.report.parts import Failure, Report
from check_mounts.typed import NamedTuple, Optional

# More failures than this are grouped; more groups than this are counted.
_NAMED = 5
_MOST_GROUPS = 6
_EXAMPLES = 3
_REASONS = 2
_BOUNDS = 2
_NAME_WIDTH = 120
# The most characters of the status line before perfdata, where nothing failed.
_WIDTH = 79
_EXAMPLE_WIDTH = 60
# How the status line begins while anything is pretended.
DRILL = "DRILL: "


# By mount ID, for a process that tells of the same mounts again and again. No more of them fit into
# an output that is limited; and where mounts come and go, those that are gone stay for a while.
_described: dict[int, tuple[Mount, str]] = {}
_MOST_KEPT = 1 << 11


def described(mount: Mount) -> str:
    """``/home (nfs4 filer1:/export/home)``."""
    known = _described.get(mount.mount_id)
    if known is None or known[0] is not mount:
        if len(_described) >= _MOST_KEPT:
            _described.clear()
        known = _described[mount.mount_id] = mount, _description(mount)
    return known[1]


def _description(mount: Mount) -> str:
    source = filesystems.source_words(mount.source, mount.fs_type)
    return f"{text.printable(mount.mount_point)} ({text.printable(mount.fs_type)} {source})"


def line(judgement: Judgement) -> str:
    """One finding in full: mount point, type, source and words about its condition."""
    finding = judgement.finding
    if finding.mount is not None:
        return f"{described(finding.mount)} {judgement.words}"
    if not finding.is_mount:
        return finding.detail
    return f"{text.printable(finding.mount_point)} {judgement.words}"


def _short_line(judgement: Judgement) -> str:
    """The finding for the status line: names that are too long lose their middle; -v prints them in
    full."""
    finding = judgement.finding
    if finding.mount is None:
        return text.clipped(line(judgement), 2 * _NAME_WIDTH)
    mount = finding.mount
    point = text.clipped(text.printable(mount.mount_point), _NAME_WIDTH)
    source = text.clipped(filesystems.source_words(mount.source, mount.fs_type), _NAME_WIDTH)
    kind = text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)
    return f"{point} ({kind} {source}) {text.clipped(judgement.words, 2 * _NAME_WIDTH)}"


def relevant(judgements: Iterable[Judgement]) -> int:
    """How many mounts there are without the shadowed ones: those that a path leads to, or should
    lead to."""
    counted = sum([judgement.is_counted for judgement in told.notable(judgements)])
    return counted + len(told.healthy_of(judgements))


def failed(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The judgements that are not OK, the worst first, including lines that make no sense."""
    return [judgement for judgement in told.notable(judgements) if judgement.state is not State.OK]


def in_short(judgements: Iterable[Judgement]) -> Iterator[tuple[int, str]]:
    """The state and words of each judgement that is not OK, as a run notes them for its watcher."""
    for judgement in told.notable(judgements):
        finding = judgement.finding
        if judgement.state is not State.OK:
            where = text.printable(finding.mount_point)
            yield judgement.state.value, text.clipped(f"{where} {judgement.words}" if where else finding.detail, 400)


def failed_mounts(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The mounts that are not OK."""
    return [judgement for judgement in failed(judgements) if judgement.finding.is_mount]


def headline(judged: Judged, age_room: int = 0) -> str:
    """``2 of 42 mounts failed``, ``42 mounts checked in 0.1 s, 7 lines not understood``: the status
    line without the failures. In a drill: ``DRILL: 2 of 42 mounts failed, 1 really``.

    Where nothing failed, the whole status line is short enough for a pager or a table, together
    with the ``age_room`` that a reader needs."""
    survey, judgements = judged.survey, judged.judgements
    bad = [judgement for judgement in failed_mounts(judgements) if judgement.is_counted]
    total, drills = relevant(judgements), told.drills(judgements)
    cut = DRILL if drills else ""
    cut += f"interrupted by {survey.interrupted} after {survey.duration:.1f} s, " if survey.interrupted else ""
    lines = bad_lines(judgements)
    also = _uncounted_words(judgements) + (f", {text.counted(lines, 'line')} not understood" if lines else "")
    small = _too_small_words(judgements)
    if bad:
        real = sum(judgement.truth.state is not State.OK for judgement in bad)
        really = f", {real} really" if drills and real else ""
        return f"{cut}{len(bad)} of {total} mounts failed{really}{also}{small[0]}"
    room = _WIDTH - len(Report(judged.state, "").verdict) - age_room
    if total == 0:
        count = text.counted(len(survey.left_out), "mount")
        whole = f"no mount was selected ({count} left out, -vvv says why)"
        shorter = [f"{cut}no mount was selected ({count} left out)", f"{cut}no mount was selected"]
    else:
        checked = f"{text.counted(total, 'mount')} checked"
        idle = sum(each.condition is Condition.IDLE for each in told.notable(judgements))
        whole = f"{checked} in {survey.duration:.1f} s" + (f", {idle} idle" if idle else "")
        shorter = [f"{cut}{checked if survey.interrupted else whole}{words}" for words in small[1:]]
        shorter += [f"{cut}{checked}{words}" for words in (small[-1], "")]
    return _fitting([f"{cut}{whole}{also}{small[0]}", *([] if failed(judgements) else shorter)], room)


def _uncounted_words(judgements: Iterable[Judgement]) -> str:
    """``, 1 ghost``: what failed and does not count as a mount."""
    uncounted = [judgement.condition for judgement in failed_mounts(judgements) if not judgement.is_counted]
    number = collections.Counter(uncounted)
    ghosts = number.pop(Condition.GHOST, 0)
    words = [f"{count} {condition.words}" for condition, count in number.items()]
    return "".join(f", {each}" for each in (*words, *([text.counted(ghosts, "ghost")] if ghosts else [])))


def _fitting(words: Sequence[str], room: int) -> str:
    """The first that fits, or the last one."""
    return next((each for each in words if len(each) <= room), words[-1])


def _too_small_words(judgements: Iterable[Judgement]) -> Sequence[str]:
    """``, 3 too small for '10GiB:'``, and shorter and shorter words for it: mounts to which a bound
    was not applied are at least counted. -v names them."""
    numbers = collections.Counter(bound for judgement in told.notable(judgements) for bound in judgement.too_small)
    too_small = sum(bool(judgement.too_small) for judgement in told.notable(judgements))
    if not too_small:
        return [""]
    shorter = [f", {too_small} too small for their bounds", f", {too_small} too small"]
    if len(numbers) > _BOUNDS:
        return shorter
    return ["".join(f", {number} too small for {bound}" for bound, number in numbers.items()), *shorter]


def report(judged: Judged) -> Report:
    """The status line, with which every output begins."""
    items = _failure_items(judged.judgements)
    named, rest = items[:_MOST_GROUPS], items[_MOST_GROUPS:]
    return Report(judged.state, headline(judged), named, sum(item.stands_for for item in rest))


def _failure_items(judgements: Sequence[Judgement]) -> list[Failure]:
    """All failures: a few with their names, many in groups. Lines of files are not mounts, so they
    have groups of their own."""
    bad = failed(judgements)
    many = {True: len(failed_mounts(bad)) > _NAMED, False: len(bad) > _NAMED}
    groups: dict[tuple[object, ...], list[Judgement]] = {}
    for position, judgement in enumerate(bad):
        grouped = many[judgement.finding.is_mount]
        alike = (
            judgement.condition,
            _is_unanswered(judgement),
            judgement.finding.mount is None,
            judgement.is_drill,
            _group(judgement),
        )
        key: tuple[object, ...] = alike if grouped else (position,)
        groups.setdefault((judgement.state.rank, *key), []).append(judgement)
    totals = _totals(judgements) if any(len(members) > 1 for members in groups.values()) else {}
    ordered = sorted(
        groups.values(),
        key=lambda members: (
            -members[0].state.rank,
            members[0].is_drill,
            not _is_unanswered(members[0]),
            -len(members),
        ),
    )
    return [Failure(_group_line(members, totals), len(members)) for members in ordered]


def _totals(judgements: Iterable[Judgement]) -> Mapping[_Origin, int]:
    """How many mounts there are of each origin."""
    counted = [judgement.finding for judgement in told.notable(judgements) if judgement.is_counted]
    return collections.Counter(map(_origin, [*counted, *told.healthy_of(judgements)]))


def _is_unanswered(judgement: Judgement) -> bool:
    """Whether the mount's probe was under way when the run ended."""
    outcome = judgement.finding.outcome
    return (
        judgement.condition is Condition.UNPROBED
        and outcome is not None
        and outcome.errno is None
        and outcome.step is not None
    )


class _Origin(NamedTuple):
    """Where a failure comes from: ``mounts of filer1``, ``xfs mounts``, ``lines of /etc/fstab``."""

    words: str
    is_server: bool = False


_MOUNTS = _Origin("mounts")


def _origin(finding: Finding) -> _Origin:
    if not finding.is_mount:
        if finding.line is None:  # it is neither a mount nor a line, and has no group
            return _Origin(finding.detail)
        return _Origin(f"lines of {text.clipped(finding.line.file, _NAME_WIDTH)}")
    mount = finding.mount
    if mount is None:
        return _MOUNTS
    server = selection.server(mount)
    if server is not None:
        return _Origin(f"mounts of {text.clipped(text.printable(server), _EXAMPLE_WIDTH)}", is_server=True)
    return _Origin(f"{text.clipped(text.printable(mount.fs_type), _EXAMPLE_WIDTH)} mounts")


def _group(judgement: Judgement) -> _Origin:
    """The origin that failures are grouped by. The server does not matter for mounts that were
    never probed."""
    finding = judgement.finding
    unasked = judgement.condition is Condition.UNPROBED and finding.is_mount and finding.outcome is None
    return _MOUNTS if unasked else _origin(finding)


def _group_line(members: Sequence[Judgement], totals: Mapping[_Origin, int]) -> str:
    if len(members) == 1:
        return _short_line(members[0])
    origin = _group(members[0])
    dots = ", ..." if len(members) > _EXAMPLES else ""
    lines = [member.finding.line for member in members if member.finding.line is not None]
    if lines:
        numbers = ", ".join(str(line.number) for line in lines[:_EXAMPLES])
        return f"{len(lines)} {origin.words} make no sense ({numbers}{dots})"
    names = [text.clipped(text.printable(member.finding.mount_point), _EXAMPLE_WIDTH) for member in members[:_EXAMPLES]]
    if members[0].condition is Condition.GHOST:
        return f"{len(members)} filesystems are still there, unmounted lazily ({', '.join(names)}{dots})"
    every = "all " if origin.is_server and len(members) == totals[origin] else ""
    common = text.clipped(_common_words(members), 2 * _NAME_WIDTH)
    return f"{every}{len(members)} {origin.words} {common} ({', '.join(names)}{dots})"


def _common_words(members: Sequence[Judgement]) -> str:
    """What the members have in common: their condition, since when, and the reasons."""
    words = members[0].words
    if all(member.words == words for member in members):
        return words
    if _is_unanswered(members[0]):  # each probe was under way for a different time
        return "unanswered, the longest: " + max(members, key=lambda member: member.finding.latency or 0.0).words
    if members[0].is_drill:
        truly_ok = all(member.truth.condition is Condition.OK for member in members)
        return f"{members[0].condition.words}: DRILL" + (", really ok" if truly_ok else "")
    said = members[0].condition.words + _since_words(members)
    hung = members[0].condition is Condition.TIMED_OUT
    reasons = collections.Counter(filter(None, map(_reason, members)))
    # A reason of a single member is left to -v. But the reasons why mounts hang are too important
    # for that.
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
    if member.condition in (Condition.TIMED_OUT, Condition.SLOW):
        return finding.diagnosis
    if member.condition is not finding.condition:  # full: each member has other numbers
        return ""
    return f"{finding.detail}: {finding.diagnosis}" if finding.diagnosis else finding.detail


def unremembered(survey: Survey) -> Optional[str]:
    """The message that says why stuck probes are not remembered; None if they are."""
    return f"stuck probes are not remembered: {survey.unremembered}" if survey.unremembered else None


def notes(survey: Survey) -> list[str]:
    """The survey's notes, in the order in which they are printed."""
    without_memory = unremembered(survey)
    return [*([without_memory] if without_memory else []), *survey.notes]


def counts(judgements: Sequence[Judgement]) -> list[tuple[str, int]]:
    """The number of mounts in each condition; ``mounts`` counts all that are not shadowed."""
    numbers = dict.fromkeys(Condition, 0)
    for judgement in told.notable(judgements):
        numbers[judgement.condition] += judgement.finding.is_mount
    numbers[Condition.OK] += len(told.healthy_of(judgements))
    return [
        ("mounts", relevant(judgements)),
        *((condition.identifier, numbers[condition]) for condition in Condition),
    ]


def slowest(judgements: Iterable[Judgement]) -> float:
    """The longest latency of a mount that answered, in seconds; 0 if none did."""
    answered = [judgement.finding for judgement in told.notable(judgements) if meaning.of(judgement.condition).timed]
    return max([finding.latency or 0.0 for finding in (*answered, *told.healthy_of(judgements))], default=0.0)


def plain_report(judged: Judged, error: Exception) -> Report:
    """The verdict alone, at least UNKNOWN, with the reason why the report failed: the measurements
    must not be lost because of that."""
    return doubtful(report(judged), text.one_line(f"the report failed: {type(error).__name__}: {error}"))


def doubtful(whole: Report, why: str) -> Report:
    """A report that is at least UNKNOWN, for one more reason; the same without a reason."""
    if not why:
        return whole
    return whole._replace(
        state=max(whole.state, State.UNKNOWN, key=lambda state: state.rank),
        failures=[*whole.failures, Failure(why, 0)],
    )
