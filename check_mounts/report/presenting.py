"""The options that say how a result is printed."""

from __future__ import annotations

from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.report.each import Each


class Output(NamedTuple):
    """``verbosity`` is 0 to 3, ``perfdata`` summary, none, or some of mounts, steps and usage,
    separated by commas. ``max_output`` is in bytes (0: no limit). ``brief``: shorter JSON.
    ``per_mount``: which mounts have a result of their own as well; None if there are no such
    results. ``table``: a table in place of lines below the first one."""

    verbosity: int
    perfdata: str
    max_output: int
    json: bool
    brief: bool
    per_mount: Optional[Each]
    table: bool = False
