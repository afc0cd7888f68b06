"""``--pretend``: Judged -> what would be judged if mounts were in other conditions. Pure.

The way from a failure to the pager is tried so. Nothing is ever better in a drill than it is: where
the truth is at least as bad, the truth is shown. The findings stay true.

Only a drill loads this."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from check_mounts import meaning, nearest, selection, text
from check_mounts.judging.judgements import Drill, Judgement, Judgements, badness, healthy
from check_mounts.judging.judgements import worst as worst_state
from check_mounts.judging.policy import Judged, Policy
from check_mounts.model import Condition, ExpectedMount, Finding, Reason, State
from check_mounts.typed import NamedTuple


class _Name(selection.PathGlob):
    """A mount point as somebody wrote it, and the ``path`` that it leads to."""

    def __init__(self, name: bytes) -> None:
        super().__init__(b"/")
        self.leading = self.path = name

    def follow(self, path: bytes) -> None:
        """Take in where the name leads."""
        self.path = path


class Pretended:
    """The pretended conditions, by mount point. Once ``globs`` were followed, a name that holds a
    link is the mount point that it leads to."""

    def __init__(self, conditions: Mapping[bytes, Condition]) -> None:
        self._conditions = [(_Name(name), condition) for name, condition in conditions.items()]

    @property
    def globs(self) -> Sequence[selection.PathGlob]:
        """The mount points, for those who follow links."""
        return [name for name, _ in self._conditions]

    def by_path(self) -> Mapping[bytes, tuple[bytes, Condition]]:
        """By the mount point as the kernel spells it: the name as given, and the condition."""
        return {name.path: (name.leading, condition) for name, condition in self._conditions}


class Rehearsed(NamedTuple):
    """A survey with its drill. ``refused`` says, for each mount point that has none, why."""

    judged: Judged
    refused: Sequence[str]


def rehearsed(judged: Judged, pretended: Pretended, declared: Collection[bytes]) -> Rehearsed:
    """What would be judged. ``declared`` are the declared mount points."""
    judgements = judged.judgements
    assert isinstance(judgements, Judgements)
    wanted = pretended.by_path()
    checked = {each.finding.mount_point for each in judgements if each.is_counted}
    left_out = {out.mount.mount_point: out for out in judged.survey.left_out}
    refused, absent = [], []
    for path, (name, _) in wanted.items():
        out = left_out.get(path)
        if path in checked:
            continue
        if (out is None or out.why is Reason.TRIGGER) and (path in declared or name in declared):
            absent.append(_absent(path))
        elif out is not None:
            refused.append(
                f"'{text.printable(name)}' is not checked, so nobody is told of it: {selection.why_left_out(out)}"
            )
        else:
            refused.append(unknown(name, [*checked, *left_out, *declared]))

    def change(judgement: Judgement) -> Judgement:
        return _in_drill(judgement, wanted[judgement.finding.mount_point][1], judged.policy)

    changed = _changed(judgements, wanted.keys(), change, [change(each) for each in absent])
    return Rehearsed(_with(judged, changed), refused)


def _changed(
    known: Judgements,
    points: Collection[bytes],
    change: Callable[[Judgement], Judgement],
    more: Sequence[Judgement],
) -> Judgements:
    """The judgements, but that of each of these mount points changed: the worst of those that are
    counted. ``more`` are added."""
    found: dict[bytes, tuple[int, Judgement]] = {}
    for place, finding in enumerate(known.findings):
        if finding.mount_point in points:
            each, worst = known.by_place.get(place) or healthy(finding), found.get(finding.mount_point)
            if each.is_counted and (worst is None or badness(each) < badness(worst[1])):
                found[finding.mount_point] = place, each
    changed = {place: change(each) for place, each in found.values()}
    added = dict(enumerate(more, len(known.findings)))
    findings = [*known.findings, *(each.finding for each in more)]
    return Judgements(findings, {**known.by_place, **changed, **added})


def points(declared: Iterable[ExpectedMount]) -> Collection[bytes]:
    """The declared mount points, as they were written and as the kernel spells them."""
    return {path for each in declared for path in (each.mount_point, each.name) if path}


def unknown(name: bytes, known: Collection[bytes]) -> str:
    """Why there can be no drill at a place where nothing is mounted or declared."""
    near = nearest.hint(text.printable(name), map(text.printable, known))
    return f"'{text.printable(name)}' is neither mounted nor declared{near}"


def _absent(path: bytes) -> Judgement:
    """The judgement of a declared mount that need not be there, about which nothing is said
    otherwise."""
    finding = Finding(path, None, Condition.UNPROBED, "it is absent, as it may be")
    return Judgement(finding, Condition.UNPROBED, State.OK, finding.detail)


def _in_drill(truth: Judgement, condition: Condition, policy: Policy) -> Judgement:
    state = policy.of(truth.finding.mount_point).state_of(condition)
    worse = state.rank > truth.state.rank
    if worse or (state is truth.state and truth.condition is Condition.OK):
        words = meaning.of(condition).words.format(f"DRILL, really {truth.words}")
        return Judgement(truth.finding, condition, state, words, truth.too_small, Drill(condition, truth, True))
    return truth._replace(words=f"{truth.words} (DRILL: {condition.words})", drill=Drill(condition, truth, False))


def _with(judged: Judged, judgements: Judgements) -> Judged:
    notes = [*_notes(judgements), *judged.survey.notes]
    state = max(judged.state, worst_state(judgements), key=lambda each: each.rank)
    return judged._replace(judgements=judgements, state=state, survey=judged.survey._replace(notes=tuple(notes)))


def _notes(judgements: Judgements) -> Iterator[str]:
    for each in judgements.notable:
        if each.drill is not None:
            point = text.clipped(text.printable(each.finding.mount_point), 200)
            yield f"DRILL: {point} is only pretended to be {each.drill.condition.words}, and really {each.truth.words}"
