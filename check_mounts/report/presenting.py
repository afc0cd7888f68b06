"""The options that say how a result is printed."""

from __future__ import annotations

from check_mounts.typed import NamedTuple


class Output(NamedTuple):
    """``verbosity`` is 0 to 3, ``perfdata`` summary, none, or some of mounts, steps and usage,
    separated by commas. ``max_output`` is in bytes (0: no limit). ``brief``: shorter JSON.
    ``per_mount``: a result for each mount as well."""

    verbosity: int
    perfdata: str
    max_output: int
    json: bool
    brief: bool
    per_mount: bool
