"""The options after parsing: the settings of a check, and where its result goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from check_mounts import text
from check_mounts.checks.checking import Check, TableReader
from check_mounts.checks.demands import Demands
from check_mounts.judging.policy import Policy
from check_mounts.model import ExpectedMount
from check_mounts.mounttable import Table
from check_mounts.options.refusals import Origin, UsageError, blamed
from check_mounts.probing import asking
from check_mounts.report.presenting import Output
from check_mounts.selection import Filters
from check_mounts.system import reading
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.options.drill_options import Drill
    from check_mounts.passive.delivery import Submission


class Service(NamedTuple):
    """The work of the daemon beside checking.

    ``interval`` is in seconds. Without ``metrics``, the daemon writes no metrics; nor if the
    library for them cannot be used: ``no_metrics`` says why. ``log_changes``: it logs no line for a
    pass that found nothing new. ``incidents`` is the file of the incidents; None to keep none.
    ``on_change`` is the program for changes, and its arguments; empty without one.
    ``on_change_drill``: it is run for drills, too. ``usual`` is the file of what is usual on
    mounts, if it ``learns`` that."""

    interval: float
    foreground: bool
    cache: str
    metrics: Optional[str]
    no_metrics: str
    facility: str
    ident: str
    log_changes: bool
    incidents: Optional[str]
    usual: str
    learns: bool
    on_change: Sequence[str] = ()
    on_change_drill: bool = False


class Explain(NamedTuple):
    """What ``--explain`` needs. ``name``: the mount point as it was given, without doubled slashes
    and the like. ``rules`` returns two lists for a mount point: a line for each rule that some
    place gives, and what holds by default. ``notes``: what could not be read of declarations.
    ``by_hand``: the mounts that fstab declares with noauto, which need not be there."""

    name: bytes
    rules: Callable[[bytes], tuple[Sequence[str], Sequence[str]]]
    notes: Sequence[str]
    by_hand: Sequence[ExpectedMount]


class Options(NamedTuple):
    """The options of the command line and the files.

    ``fstab`` is the file that some of the demands come from. ``origins``: the name of an option ->
    the line that gave it. ``debug``: print or log the tracebacks of defects. ``wait``: check until
    all mounts have answered, or until the deadline. ``explain``: tell all about one mount.
    ``drill``: what ``--pretend`` asks for."""

    check: Check
    policy: Policy
    allow_none: bool
    output: Output
    fstab: Optional[str]
    origins: Mapping[str, Origin]
    service: Optional[Service]
    submission: Optional[Submission]
    debug: bool
    wait: bool = False
    explain: Optional[Explain] = None
    drill: Optional[Drill] = None

    @property
    def is_for_people(self) -> bool:
        """Whether the output is for people, and not for monitoring."""
        return self.output.table or self.explain is not None

    @property
    def filters(self) -> Filters:
        """Which mounts the check selects."""
        return self.check.filters

    @property
    def settings(self) -> asking.Settings:
        """How the check probes."""
        return self.check.settings

    @property
    def demands(self) -> Demands:
        """What the check demands."""
        return self.check.demands


def table_reader(options: Options) -> TableReader:
    """What reads the mount table. Raises UsageError if its process has ended."""
    try:
        return options.check.reader()
    except OSError as error:
        raise _unreadable(options, error) from None


def read_table(options: Options, reader: Optional[TableReader] = None) -> Table:
    """The mount table. Raises UsageError, which names the line that gave its path."""
    path = text.printable_argument(options.check.mountinfo)
    reading.step(f"reading the mount table {text.clipped(path, 400)}")
    try:
        return (reader or table_reader(options)).read()
    except OSError as error:
        raise _unreadable(options, error) from None


def _unreadable(options: Options, error: OSError) -> UsageError:
    root = options.check.root
    option, path = ("--mountinfo", options.check.mountinfo) if root is None else ("--namespace", root.process)
    return blamed(UsageError(option, f"{text.printable_argument(path)}: {error.strerror}"), options.origins)
