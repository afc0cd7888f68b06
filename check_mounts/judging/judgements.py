"""The judgements of a pass. Those of healthy mounts, nearly all of them, are made only when an
output asks for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from check_mounts import meaning
from check_mounts.model import Condition, Finding, State
from check_mounts.typed import NamedTuple, Optional, Union


class Drill(NamedTuple):
    """What ``--pretend`` says of a mount: the pretended condition, and the ``truth``.

    ``shown``: the judgement has the pretended condition. Otherwise the truth is at least as bad,
    and shown."""

    condition: Condition
    truth: Judgement
    shown: bool


class Judgement(NamedTuple):
    """A finding with its final condition, its state, and words about it: ``timed out after 5 s``.

    ``too_small`` holds the bounds that were not applied, because the filesystem could never meet
    them: ``10GiB:``. ``drill``: what a drill says of the mount; the finding is always true."""

    finding: Finding
    condition: Condition
    state: State
    words: str
    too_small: tuple[str, ...] = ()
    drill: Optional[Drill] = None

    @property
    def is_counted(self) -> bool:
        """Whether it is about one of the mounts that were checked."""
        return self.finding.is_mount and meaning.of(self.condition).counted

    @property
    def is_drill(self) -> bool:
        """Whether condition, state and words are only pretended."""
        return self.drill is not None and self.drill.shown

    @property
    def truth(self) -> Judgement:
        """The judgement without a drill."""
        return self if self.drill is None else self.drill.truth


_OK = meaning.of(Condition.OK).words


def healthy(finding: Finding) -> Judgement:
    """The judgement of a mount that is OK, and about which there is nothing to say."""
    return Judgement(finding, Condition.OK, State.OK, ok_words(finding.latency))


def ok_words(latency: Optional[float]) -> str:
    """``ok in 0.012 s``; ``latency`` is in seconds, None if it is not known."""
    return _OK if latency is None else f"{_OK} in {latency:.3f} s"


class Judgements(Sequence[Judgement]):
    """The judgements of a pass, the worst first; within a state, mounts that fail by themselves
    come before mounts that fail as a consequence.

    ``notable`` are those about which there may be something to say, in the same order. ``healthy``
    are the findings of all others, in the order of the survey: mounts that are OK, and have no
    remarks. Failures are all in ``notable``. ``by_place`` has these by the places of their
    ``findings``."""

    def __init__(self, findings: Sequence[Finding], notable: Mapping[int, Judgement]) -> None:
        """``notable``: by the position of its finding."""
        self.findings, self.by_place = findings, notable
        self.notable = sorted(notable.values(), key=badness)
        self.healthy: Sequence[Finding] = findings
        if notable:
            self.healthy = [finding for place, finding in enumerate(findings) if place not in notable]

    def in_order(self) -> Iterator[Union[Judgement, Finding]]:
        """The judgements, and the findings of healthy mounts in their places."""
        last = [place for place, each in self.by_place.items() if badness(each) == _LAST]
        yield from self.notable[: len(self.notable) - len(last)]
        if not last:  # a healthy mount comes after all others
            yield from self.healthy
            return
        for place, finding in enumerate(self.findings):
            each = self.by_place.get(place)
            if each is None:
                yield finding
            elif badness(each) == _LAST:
                yield each

    def __iter__(self) -> Iterator[Judgement]:
        return (each if isinstance(each, Judgement) else healthy(each) for each in self.in_order())

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]  # an index or a slice, as for a list
        return list(self)[place]


def badness(judgement: Judgement) -> tuple[int, bool, int]:
    """The order of judgements; the worst is the least."""
    return -judgement.state.rank, judgement.is_drill, -meaning.gravity(judgement.condition)


_LAST = (-State.OK.rank, False, -meaning.gravity(Condition.OK))


def notable(judgements: Iterable[Judgement]) -> Sequence[Judgement]:
    """The judgements about which there may be something to say."""
    return judgements.notable if isinstance(judgements, Judgements) else list(judgements)


def healthy_of(judgements: Iterable[Judgement]) -> Sequence[Finding]:
    """The findings of the mounts that :func:`notable` leaves out."""
    return judgements.healthy if isinstance(judgements, Judgements) else ()


def answered(judgement: Judgement) -> bool:
    """Whether a probe came back without a failure, or the mount has no need of one."""
    row = meaning.of(judgement.condition)
    if judgement.condition is Condition.IDLE:
        return True
    return judgement.finding.outcome is not None and row.counted and not row.doubtful


def bad_lines(judgements: Iterable[Judgement]) -> int:
    """The number of lines that make no sense and are not OK."""
    lines = (judgement.finding.line for judgement in notable(judgements) if judgement.state is not State.OK)
    return sum(1 + line.more for line in lines if line is not None)


def worst_of_each(judgements: Iterable[Judgement]) -> dict[bytes, Judgement]:
    """The judgement of each mount point that was checked; the worst if there are several."""
    found: dict[bytes, Judgement] = {}
    for judgement in judgements:
        if judgement.is_counted:
            found.setdefault(judgement.finding.mount_point, judgement)
    return found


def drills(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The judgements of the mounts for which there is a drill."""
    return [judgement for judgement in notable(judgements) if judgement.drill is not None]


def is_any_counted(judgements: Iterable[Judgement]) -> bool:
    """Whether any mount was checked."""
    return bool(healthy_of(judgements)) or any(judgement.is_counted for judgement in notable(judgements))


def worst(judgements: Iterable[Judgement]) -> State:
    """The worst of the states; OK without any."""
    return max((judgement.state for judgement in notable(judgements)), key=lambda state: state.rank, default=State.OK)
