"""Judged -> JSON (``--json``). check_mounts(8) documents the format; :data:`VERSION` counts its
changes.

Strings made of bytes (mount points, sources, types, options) are escaped as in mountinfo if they
are not printable UTF-8."""

from __future__ import annotations

import json

from check_mounts import filesystems, selection, text
from check_mounts.clocks import Boottime, epoch_of
from check_mounts.judging.judgements import Judgement
from check_mounts.judging.policy import Judged
from check_mounts.model import Finding, LeftOut, Mount, State
from check_mounts.outcome import Outcome, Step
from check_mounts.report import summary
from check_mounts.report.parts import Report
from check_mounts.typed import Any, Optional

# It is raised when a member is removed or changes its meaning; new members do not change it.
VERSION = 1


def report(judged: Judged) -> bytes:
    """One JSON object whose first line holds version, state and summary; each finding has a line of
    its own."""
    survey, judgements = judged.survey, judged.judgements
    rest: dict[str, Any] = {
        "started": round(survey.started, 3),
        "duration": round(survey.duration, 6),
        "timeout": survey.timeout,
        "interrupted": survey.interrupted,
        "counts": dict(summary.counts(judgements)),
        "notes": summary.notes(survey),
    }
    findings = [_judgement(judgement) for judgement in judgements]
    left_out = [_left_out(out) for out in survey.left_out]
    return _object(judged.state, summary.report(judged).said, rest, findings, left_out)


def failure(report: Report, started: float) -> bytes:
    """The object for a pass that could measure nothing, or whose report failed. ``started`` is in
    seconds since the epoch."""
    rest: dict[str, Any] = {
        "started": round(started, 3),
        "duration": 0.0,
        "timeout": 0.0,
        "interrupted": None,
        "counts": {},
        "notes": [],
    }
    return _object(report.state, report.said, rest, [], [])


def _object(
    state: State, words: str, rest: dict[str, Any], findings: list[dict[str, Any]], left_out: list[dict[str, Any]]
) -> bytes:
    head = {"version": VERSION, "state": state.name, "summary": words}
    parts = [_dump(head)[:-1], _dump(rest)[1:-1], _list("findings", findings), _list("left_out", left_out)]
    return (",\n".join(parts) + "}\n").encode("ascii")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _list(name: str, values: list[dict[str, Any]]) -> str:
    return f'"{name}": [' + ",".join("\n" + _dump(value) for value in values) + "]"


def _judgement(judgement: Judgement) -> dict[str, Any]:
    finding = judgement.finding
    return {
        "mount_point": text.printable(finding.mount_point),
        "condition": judgement.condition.value,
        "state": judgement.state.name,
        "text": judgement.words,
        "latency": None if finding.latency is None else round(finding.latency, 6),
        "diagnosis": finding.diagnosis or None,
        "remarks": finding.remarks,
        "stuck": _stuck(finding),
        "line": None if finding.line is None else {"file": finding.line.file, "number": finding.line.number},
        "mount": None if finding.mount is None else _mount(finding.mount),
        "outcome": None if finding.outcome is None else _outcome(finding.outcome),
    }


def _stuck(finding: Finding) -> Optional[dict[str, Any]]:
    if finding.stuck_pid is None:
        return None
    since = None if finding.stuck_since is None else round(epoch_of(Boottime(finding.stuck_since)), 3)
    return {"pid": finding.stuck_pid, "since": since}


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "id": mount.mount_id,
        "parent_id": mount.parent_id,
        "device": f"{mount.device[0]}:{mount.device[1]}",
        "root": text.printable(mount.root),
        "type": text.printable(mount.fs_type),
        "source": filesystems.source_words(mount.source, mount.fs_type),
        "options": [text.printable(option) for option in mount.options],
        "super_options": [text.printable(text.without_secrets(option)) for option in mount.super_options],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "failed_step": None if outcome.step is None else outcome.step.word,
        "errno": outcome.errno,
        "error": None if outcome.errno is None else text.error_words(outcome.errno),
        "seconds": {
            step.word: None if seconds is None else round(seconds, 6) for step, seconds in zip(Step, outcome.seconds)
        },
        "mode": None if outcome.mode is None else f"{outcome.mode:06o}",
        "uid": outcome.uid,
        "gid": outcome.gid,
        "nlink": outcome.nlink,
        "acted_as": outcome.acted_as,
        "not_owner": outcome.not_owner,
        "usage": None if outcome.usage is None else outcome.usage.as_counted()._asdict(),
        "errnos": {step.word: outcome.error_of(step) for step in Step},
    }


def _left_out(out: LeftOut) -> dict[str, Any]:
    return {
        "mount_point": text.printable(out.mount.mount_point),
        "why": selection.why_left_out(out),
        "mount": _mount(out.mount),
    }
