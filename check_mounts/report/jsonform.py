"""The form of the JSON: its version, its lines, and its brief kind. It knows no survey, so the
reader of the daemon's result needs no more than this.

Import budget: json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from check_mounts import __version__
from check_mounts.typed import Any

# It is raised when a member is removed or changes its meaning; new members do not change it.
VERSION = 1
# What --brief leaves out of a finding: the line of a table, the single steps of a probe, what
# programs did, and what is known of a ghost, whose holders may be many.
_LEFT_OUT = frozenset(("line", "outcome", "traffic", "ghost"))
_OF_MOUNT = ("type", "source", "server")

encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def head(state: str, words: str) -> dict[str, Any]:
    """The members of the first line."""
    return {"version": VERSION, "state": state, "summary": words, "check_mounts": __version__}


def composed(first: dict[str, Any], rest: dict[str, Any], lists: dict[str, Iterator[str]]) -> bytes:
    """One object in ASCII. Its first line holds ``first``; each element of a list, which is JSON
    already, has a line of its own."""
    # With many mounts it is large, and must not be in memory three times while it is made.
    pieces = (piece for name, values in lists.items() for piece in _list(name, values))
    return b"".join((encode(first)[:-1].encode("ascii"), b",\n", encode(rest)[1:-1].encode("ascii"), *pieces, b"}\n"))


def failure(state: str, words: str, started: float, notes: Sequence[str] = (), is_brief: bool = False) -> bytes:
    """The object of a pass that could measure nothing. ``started`` is in seconds since the
    epoch."""
    rest = {
        "started": round(started, 3),
        "duration": 0.0,
        "timeout": 0.0,
        "interrupted": None,
        "drill": False,
        "counts": dict[str, int](),
        "notes": list(notes),
    }
    names = ("findings",) if is_brief else ("findings", "left_out")
    return composed(head(state, words), rest, {name: iter(()) for name in names})


def shortened(whole: dict[str, Any]) -> bytes:
    """The brief object of a whole one."""
    first = {name: whole.pop(name) for name in head("", "") if name in whole}
    findings = whole.pop("findings")
    del whole["left_out"]
    return composed(first, whole, {"findings": map(encode, map(brief, findings))})


def _list(name: str, values: Iterator[str]) -> Iterator[bytes]:
    yield f',\n"{name}": ['.encode("ascii")
    separator = "\n"
    for value in values:
        yield f"{separator}{value}".encode("ascii")
        separator = ",\n"
    yield b"]"


def brief(finding: dict[str, Any]) -> dict[str, Any]:
    """A finding without what takes three quarters of its room, and which programs that only show
    states do not read."""
    mount = finding["mount"]
    few = None if mount is None else {name: mount[name] for name in _OF_MOUNT}
    return {name: value for name, value in finding.items() if name not in _LEFT_OUT} | {"mount": few}
