"""The options of the daemon -> :class:`Service`."""

from __future__ import annotations

import os

from check_mounts import cache, selection, text
from check_mounts.guard import defects
from check_mounts.options import space_options as _space_options  # noqa: F401  for what a reload may ask
from check_mounts.options.command_line import Values
from check_mounts.options.option_table import INCIDENTS, NO_INCIDENTS, USUAL
from check_mounts.options.refusals import refuse
from check_mounts.options.understood import Service
from check_mounts.options.working_directory import absolute
from check_mounts.system import replacing
from check_mounts.typed import Optional


def settled(said: Values, again: bool, section_learns: bool) -> Service:
    """The work of the daemon. ``again``: the daemon runs already. ``section_learns``: a section
    says that what is unusual is slow. Raises UsageError."""
    return Service(
        interval=said.interval,
        foreground=said.foreground,
        cache=_cache(said),
        metrics=None if said.metrics is None else _metrics(said.metrics),
        no_metrics="" if said.metrics is None or again else _why_no_metrics(),
        facility=said.syslog_facility,
        ident=said.syslog_ident,
        log_changes=said.log_changes,
        incidents=incident_file(said),
        on_change=said.on_change or (),
        on_change_drill=said.on_change_drill,
        usual=_beside(said, USUAL, "usual"),
        learns=bool(said.unusual) or section_learns,
    )


def incident_file(said: Values) -> Optional[str]:
    """The file of the incidents; None to keep none. Raises UsageError."""
    if said.incident_file == NO_INCIDENTS:
        return None
    if said.incident_file is None:
        return _beside(said, INCIDENTS, "incidents")
    path = absolute("--incident-file", said.incident_file)
    shown, (head, _, name) = text.printable_argument(path), path.rpartition("/")
    if name in ("", ".", ".."):
        refuse("--incident-file", f"'{shown}' is not the name of a file")
    if not head.strip("/"):
        refuse("--incident-file", f"'{shown}' is in the root directory: it needs another one, as in {INCIDENTS}")
    _check_length("--incident-file", name)
    normal = selection.normalised(os.fsencode(path))
    others = [absolute("--cache", said.cache) + suffix for suffix in cache.SUFFIXES]
    others += [] if said.metrics is None else [absolute("--metrics", said.metrics)]
    if normal in [selection.normalised(os.fsencode(other)) for other in others]:
        refuse("--incident-file", "this is a file of --cache or --metrics")
    return path


def _beside(said: Values, path: str, suffix: str) -> str:
    """A file that must outlive a reboot. Another daemon than the host's has its files in one
    place."""
    return path if said.cache == cache.DEFAULT_PATH else f"{_cache(said)}.{suffix}"


def _cache(said: Values) -> str:
    """The absolute path of the result. Raises UsageError."""
    path = absolute("--cache", said.cache)
    shown, name = text.printable_argument(path), path.rpartition("/")[2]
    if name in ("", ".", ".."):
        refuse("--cache", f"'{shown}' is not the name of a file")
    files = [selection.normalised(os.fsencode(path + suffix)) for suffix in cache.SUFFIXES]
    if files[0].count(b"/") == 1:
        own = f"the result needs a directory of its own, as in {cache.DEFAULT_PATH}"
        refuse("--cache", f"'{shown}' is in the root directory: {own}")
    _check_length("--cache", name + ".json")
    if said.metrics is not None and selection.normalised(os.fsencode(absolute("--metrics", said.metrics))) in files:
        refuse("--metrics", "this is a file of --cache")
    return path


def _metrics(path: str) -> str:
    """The file for metrics. Raises UsageError."""
    if not path.endswith(".prom"):
        shown = text.printable_argument(path)
        refuse("--metrics", f"'{shown}' does not end in .prom, so node_exporter would not read it")
    _check_length("--metrics", path.rpartition("/")[2])
    return absolute("--metrics", path)


def _why_no_metrics() -> str:
    """Load the library that writes metrics. Returns why it cannot be used; empty if it can.

    The checks go on without metrics."""
    try:
        from check_mounts.report import metrics

        metrics.check()
    except Exception as error:  # whatever is installed under this name is run
        from check_mounts.report import packages

        defects.say(error)
        return packages.missing("prometheus_client", error)
    return ""


def _check_length(option: str, name: str) -> None:
    """Raises UsageError if the name of a file is too long."""
    excess = len(os.fsencode(name)) - replacing.LONGEST_NAME
    if excess > 0:
        refuse(option, f"the name of the file is too long by {text.counted(excess, 'byte')}")
