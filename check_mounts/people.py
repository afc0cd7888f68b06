"""What a run does for people and not for monitoring: ``--table``, ``--explain``, and the line on a
terminal that says what it waits for. All of it is loaded before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from check_mounts.guard.notes import Notes
from check_mounts.judging.policy import Judged
from check_mounts.model import Mount, State
from check_mounts.options.understood import Options
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.probing.shown import Shown


def prepare(options: Options, noted: Notes, mounts: Sequence[Mount]) -> tuple[Optional[Shown], Options]:
    """Load what is needed; return what tells a user what the run waits for, if anything does, and
    the options of the run."""
    if options.output.table:
        from check_mounts import tabling

        tabling.prepare(noted)
    if options.explain is not None:
        from check_mounts import explaining

        options = explaining.prepare(options, mounts)
    if not noted.is_shown:
        return None, options
    from check_mounts.probing import shown

    return shown.Shown(noted), options


def report(
    judged: Judged, options: Options, text_of: Callable[[Judged, Options], tuple[bytes, State]]
) -> tuple[bytes, State]:
    """The output and its state. ``text_of`` makes the output for monitoring."""
    if options.explain is not None:
        from check_mounts import explaining

        return explaining.report(judged, options, options.explain, text_of)
    from check_mounts import tabling

    return tabling.report(judged, options, text_of)
