"""Judged -> JSON (``--json``). check_mounts(8) documents the format; ``jsonform.VERSION`` counts
its changes.

Strings made of bytes (mount points, sources, types, options) are escaped as in mountinfo if they
are not printable UTF-8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.clocks import Boottime, epoch_of
from check_mounts.judging.judgements import Drill, Judgement, Judgements, drills, healthy
from check_mounts.judging.policy import Judged
from check_mounts.judging.usage import numbers
from check_mounts.model import Finding, LeftOut, Mount
from check_mounts.outcome import NOT_TAKEN, Outcome, Step
from check_mounts.report import jsonform, summary
from check_mounts.report.inventory import option_words
from check_mounts.report.jsonform import encode
from check_mounts.report.parts import Report
from check_mounts.typed import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.ghost import Ghost

_WORDS = tuple(step.word for step in Step)
# So many processes that hold a ghost are listed: an ordinary user may have thousands.
_MOST_HOLDERS = 100
_READS = sum(not step.writes for step in Step)


class Pieces(NamedTuple):
    """The object of a healthy mount without its latencies, its usage and what programs did: what
    stands before, between and after them. ``of`` is the finding; the pieces are good for all
    that differ from it in nothing else. ``usage`` is that of the finding, as it is told of the
    mount and of the probe."""

    of: Finding
    head: str
    middle: str
    between: str
    tail: str
    usage: tuple[str, str]


# By mount ID. A process that makes one object after the other keeps them.
Memory = dict[int, Pieces]


def report(judged: Judged, memory: Optional[Memory] = None, brief: bool = False) -> bytes:
    """One JSON object whose first line holds version, state and summary; each finding has a line of
    its own. ``memory`` is that of the last object; it becomes that of this one. ``brief``: only
    what jsonform.brief keeps, and nothing about mounts that were left out."""
    survey, judgements = judged.survey, judged.judgements
    rest: dict[str, Any] = {
        "started": round(survey.started, 3),
        "duration": round(survey.duration, 6),
        "timeout": survey.timeout,
        "interrupted": survey.interrupted,
        "drill": bool(drills(judgements)),
        "counts": dict(summary.counts(judgements)),
        "notes": summary.notes(survey),
    }
    said = summary.report(judged).said
    if brief:
        shorter = map(jsonform.brief, map(_judgement, judgements))
        return jsonform.composed(jsonform.head(judged.state.name, said), rest, {"findings": map(encode, shorter)})
    findings: Iterator[str] = map(encode, map(_judgement, judgements))
    if memory is not None and isinstance(judgements, Judgements):
        findings = _remembered(judgements, memory)
    left_out = map(encode, map(_left_out, survey.left_out))
    return jsonform.composed(jsonform.head(judged.state.name, said), rest, {"findings": findings, "left_out": left_out})


def failure(report: Report, started: float, notes: Sequence[str] = ()) -> bytes:
    """The object for a pass that could measure nothing, or whose report failed. ``started`` is in
    seconds since the epoch."""
    return jsonform.failure(report.state.name, report.said, started, notes)


def _remembered(judgements: Judgements, memory: Memory) -> Iterator[str]:
    """The objects of all mounts, those of healthy ones from pieces."""
    before, now = dict(memory), memory
    now.clear()
    for each in judgements.in_order():
        if isinstance(each, Judgement):
            yield encode(_judgement(each))
            continue
        mount, outcome, latency = each.mount, each.outcome, each.latency
        if mount is None or outcome is None or latency is None or outcome.seconds[_READS:] != NOT_TAKEN[_READS:]:
            yield encode(_judgement(healthy(each)))
            continue
        known = before.get(mount.mount_id)
        if known is None or not _differ_in_numbers_alone(known.of, each):
            known = _pieces(each, outcome)
        usage = known.usage if known.of.outcome and known.of.outcome.usage == outcome.usage else _usage_of(each)
        # Nothing should be kept only because it was the first of its kind.
        now[mount.mount_id] = Pieces(each, known.head, known.middle, known.between, known.tail, usage)
        seconds = ["null" if each is None else repr(round(each, 6)) for each in outcome.seconds[:_READS]]
        yield (
            f'{known.head}{latency:.3f} s", "latency": {round(latency, 6)!r}, "usage": {usage[0]}, '
            f'"traffic": {encode(_traffic(each))}, {known.middle}'
            f'{_SECONDS % tuple(seconds)}{known.between}"usage": {usage[1]}, {known.tail}'
        )


_OUTCOME, _LATENCY, _TRAFFIC = map(Finding._fields.index, ("outcome", "latency", "traffic"))
_AT, _USAGE = Outcome._fields.index("seconds"), Outcome._fields.index("usage")
_SECONDS = ", ".join([f'"{word}": ' + ("%s" if place < _READS else "null") for place, word in enumerate(_WORDS)])


def _differ_in_numbers_alone(one: Finding, other: Finding) -> bool:
    """Whether only latencies, usage and what programs did are different."""
    first, second = one.outcome, other.outcome
    return (
        first is not None
        and second is not None
        and one[:_OUTCOME] == other[:_OUTCOME]
        and one[_LATENCY + 1 : _TRAFFIC] == other[_LATENCY + 1 : _TRAFFIC]
        and one[_TRAFFIC + 1 :] == other[_TRAFFIC + 1 :]
        and first[:_AT] == second[:_AT]
        and first[_AT + 1 : _USAGE] == second[_AT + 1 : _USAGE]
        and first[_USAGE + 1 :] == second[_USAGE + 1 :]
    )


def _pieces(finding: Finding, outcome: Outcome) -> Pieces:
    """The pieces of a healthy mount, cut out of its object, in which the latencies are 0."""
    zeros = outcome._replace(seconds=(0.0,) * _READS + NOT_TAKEN[_READS:], usage=None)
    whole = encode(_judgement(healthy(finding._replace(latency=0.0, outcome=zeros, traffic=None))))
    head, found, rest = whole.partition('0.000 s", "latency": 0.0, "usage": null, "traffic": null, ')
    middle, again, rest = rest.partition(_SECONDS % (("0.0",) * _READS))
    between, last, tail = rest.partition('"usage": null, ')
    assert found and again and last
    return Pieces(finding, head, middle, between, tail, _usage_of(finding))


def _usage_of(finding: Finding) -> tuple[str, str]:
    assert finding.outcome is not None
    return encode(_usage(finding)), encode(_counted(finding.outcome))


def _judgement(judgement: Judgement) -> dict[str, Any]:
    finding = judgement.finding
    return {
        "mount_point": text.printable(finding.mount_point),
        "condition": judgement.condition.value,
        "state": judgement.state.name,
        "text": judgement.words,
        "latency": None if finding.latency is None else round(finding.latency, 6),
        "usage": _usage(finding),
        "traffic": _traffic(finding),
        "unusual": _unusual(finding),
        "diagnosis": finding.diagnosis or None,
        "remarks": finding.remarks,
        "drill": None if judgement.drill is None else _drill(judgement.drill),
        "stuck": _stuck(finding),
        "ghost": None if finding.ghost is None else _ghost(finding.ghost),
        "line": None if finding.line is None else {"file": finding.line.file, "number": finding.line.number},
        "mount": None if finding.mount is None else _mount(finding.mount),
        "outcome": None if finding.outcome is None else _outcome(finding.outcome),
    }


def _drill(drill: Drill) -> dict[str, Any]:
    truth = drill.truth
    really = {"condition": truth.condition.value, "state": truth.state.name, "text": truth.words}
    return {"condition": drill.condition.value, "shown": drill.shown, "really": really}


def _usage(finding: Finding) -> Optional[dict[str, Any]]:
    found = numbers(finding)
    return None if found is None else found._asdict()


def _traffic(finding: Finding) -> Optional[dict[str, Any]]:
    if finding.traffic is None:
        return None
    from check_mounts.report import done  # see there

    return done.as_json(finding.traffic)


def _unusual(finding: Finding) -> Optional[dict[str, Any]]:
    unusual = finding.unusual
    if unusual is None:
        return None
    connect, null = (None, None) if unusual.asked is None else unusual.asked
    return {
        "operation": unusual.operation,
        "seconds": round(unusual.seconds, 6),
        "usual": round(unusual.usual, 6),
        "connect": connect,
        "null": null,
        "where": None if unusual.place is None else unusual.place.name.lower(),
    }


def _stuck(finding: Finding) -> Optional[dict[str, Any]]:
    if finding.stuck_pid is None:
        return None
    since = None if finding.stuck_since is None else round(epoch_of(Boottime(finding.stuck_since)), 3)
    return {"pid": finding.stuck_pid, "since": since}


def _ghost(ghost: Ghost) -> dict[str, Any]:
    return {
        "family": ghost.family,
        "server": text.printable(text.without_secrets(ghost.server)) or None,
        "devices": ["{}:{}".format(*device) for device in ghost.devices],
        "number": ghost.number,
        "mount_points": [text.printable(point) for point in ghost.mount_points],
        "sources": [filesystems.source_words(source) for source in ghost.sources],
        "certain": ghost.certain,
        "whole": ghost.whole,
        "holders": [
            {**holder._asdict(), "name": text.printable(holder.name)} for holder in ghost.holders[:_MOST_HOLDERS]
        ],
        "holders_in_all": len(ghost.holders),
    }


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "id": mount.mount_id,
        "parent_id": mount.parent_id,
        "device": f"{mount.device[0]}:{mount.device[1]}",
        "root": text.printable(mount.root),
        "type": text.printable(mount.fs_type),
        "source": filesystems.source_words(mount.source, mount.fs_type),
        "server": _server(mount),
        "options": [text.printable(option) for option in mount.options],
        "super_options": list(map(option_words, mount.super_options)),
        "namespace": _namespace(mount) if mount.is_elsewhere else None,
    }


def _namespace(mount: Mount) -> dict[str, Any]:
    """Where a mount of another mount namespace is."""
    base = b"" if mount.seen_at is None else mount.seen_at.base
    name = mount.mount_point[: -len(b": " + mount.path)]
    return {"name": text.printable(name), "path": text.printable(mount.path), "pid": int(base.split(b"/")[-2])}


def _server(mount: Mount) -> Optional[str]:
    server = selection.server(mount)
    return None if server is None else text.printable(server)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    errnos = dict(zip(_WORDS, outcome.errnos))
    if outcome.step is not None:
        errnos[outcome.step.word] = outcome.errno
    return {
        "failed_step": None if outcome.step is None else outcome.step.word,
        "errno": outcome.errno,
        "error": None if outcome.errno is None else text.error_words(outcome.errno),
        "seconds": {
            word: None if seconds is None else round(seconds, 6) for word, seconds in zip(_WORDS, outcome.seconds)
        },
        "mode": None if outcome.mode is None else f"{outcome.mode:06o}",
        "uid": outcome.uid,
        "gid": outcome.gid,
        "nlink": outcome.nlink,
        "acted_as": outcome.acted_as,
        "not_owner": outcome.not_owner,
        "usage": _counted(outcome),
        "errnos": errnos,
    }


def _counted(outcome: Outcome) -> Optional[dict[str, Any]]:
    return None if outcome.usage is None else outcome.usage.as_counted()._asdict()


def _left_out(out: LeftOut) -> dict[str, Any]:
    return {
        "mount_point": text.printable(out.mount.mount_point),
        "why": selection.why_left_out(out),
        "mount": _mount(out.mount),
    }
