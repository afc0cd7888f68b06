"""A report as a destination gets it, from what a plugin prints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from check_mounts.model import State
from check_mounts.report.parts import Detail, Failure, Number, Report, Worth


def reported(output: bytes, perfdata: Sequence[str] = ()) -> Report:
    """``perfdata``: the items of the first line, which may contain blanks. Without a verdict it is
    CRITICAL."""
    first, *lines = output.decode("utf-8").rstrip("\n").split("\n")
    match = re.fullmatch(r"(?:MOUNTS ([A-Z]+) - )?(.*?)(?:: (.*))?", first.partition(" | ")[0])
    assert match is not None
    return Report(
        State[match[1] or "CRITICAL"],
        match[2],
        [Failure(words, 1) for words in (match[3] or "").split("; ") if words],
        perfdata=[Number(item, Worth.COUNT) for item in perfdata],
        lines=[Detail(line, Worth.REST) for line in lines],
    )
