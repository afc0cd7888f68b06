"""The options of a drill -> what is pretended, and for how long a daemon should do so. Only a drill
loads this."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts import text
from check_mounts.judging import drilling
from check_mounts.judging.drilling import Pretended
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, ExpectedMount
from check_mounts.options.command_line import Values
from check_mounts.options.refusals import refuse
from check_mounts.options.working_directory import absolute
from check_mounts.typed import NamedTuple, Optional


class Drill(NamedTuple):
    """A drill: of this run, or for so many ``seconds`` of the daemon that writes the file
    ``cache``."""

    pretended: Pretended
    seconds: Optional[float]
    cache: str

    def rehearsed(self, judged: Judged, declared: Sequence[ExpectedMount]) -> Judged:
        """The drill of this run. Raises UsageError if there is no such mount."""
        found = drilling.rehearsed(judged, self.pretended, drilling.points(declared))
        if found.refused:
            refuse("--pretend", "; ".join(found.refused))
        return found.judged


def settled(said: Values) -> Drill:
    """Raises UsageError."""
    conditions: dict[bytes, Condition] = {}
    for point, condition in said.pretend:
        if conditions.setdefault(point, condition) is not condition:
            refuse("--pretend", f"'{text.printable(point)}' is pretended to be in two conditions")
    return Drill(Pretended(conditions), said.drill_length, absolute("--cache", said.cache))
