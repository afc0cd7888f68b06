"""Options -> settings -> a survey -> the output. What is wrong with the options is said in one line, exit 3."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import math
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Optional

from check_mounts import __version__, mounttable, privilege, selection, stuck, survey, text
from check_mounts.model import Condition, Mount, State, Survey
from check_mounts.policy import Policy, Range, judge_all, worst
from check_mounts.signals import Interrupts

# What the deadline leaves for the start and the end of a run: with the default timeout, one second less than check_nrpe waits.
_BESIDE_TIMEOUT = 4.0
# NRPE cuts the output off after so many bytes without a word (packet version 4).
_NRPE_LIMIT = 65504
_SMALLEST_OUTPUT = 128
# How long a reader that does not read, or reads slowly, may keep us in all.
_WRITE_PATIENCE = 4.0


class UsageError(Exception):
    """Something is wrong with the options; the message says what, on one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse would print and exit with 2, which monitoring reads as CRITICAL."""
        raise UsageError(message)


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line, understood."""

    filters: selection.Filters
    settings: survey.Settings
    policy: Policy
    mountinfo: str
    state_dir: str
    verbosity: int
    perfdata: str
    max_output: int
    json: bool
    allow_none: bool


def _seconds(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a positive number of seconds")
    return value


def _whole(least: int, most: int, none: Optional[int] = None) -> Callable[[str], int]:
    def parse(word: str) -> int:
        value = int(word) if word.isascii() and word.isdigit() and len(word) < 12 else -1
        if not least <= value <= most and (none is None or value != none):
            or_none = "" if none is None else f", or {none}"
            shown = text.printable_argument(word)
            raise argparse.ArgumentTypeError(f"'{shown}' is not a whole number from {least} to {most}{or_none}")
        return value

    return parse


def _range(word: str) -> Range:
    try:
        return Range.parse(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a range: {error}") from None


def _glob(word: str) -> selection.Glob:
    return _compiled(word, os.fsencode(word))


def _compiled(word: str, pattern: bytes) -> selection.Glob:
    try:
        return selection.compile_glob(pattern)
    except selection.GlobError as error:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a pattern: {error}") from None


def _path_glob(word: str) -> selection.Glob:
    # The kernel writes no trailing slash; people do.
    return _compiled(word, os.fsencode(word).rstrip(b"/") or os.fsencode(word)[:1])


def _type_globs(word: str) -> list[selection.Glob]:
    return [_compiled(word, part) for part in os.fsencode(word).split(b",")]


def _mount_point(word: str) -> bytes:
    """Judged after all options: of a misspelt option the option is to be named, not its value. Raises UsageError."""
    if not word.startswith("/"):
        _refuse("MOUNTPOINT", f"'{text.printable_argument(word)}' is not an absolute path")
    return selection.normalised(os.fsencode(word))


def _severity(word: str) -> tuple[Condition, State]:
    name, equals, state = word.partition("=")
    conditions = {condition.value: condition for condition in Condition}
    states = {known.name.lower(): known for known in State}
    shown = text.printable_argument(word)
    if not equals:
        raise argparse.ArgumentTypeError(f"'{shown}' is not CONDITION=STATE")
    condition = conditions.get(name.lower().replace("_", "-"))
    if condition is None:
        raise argparse.ArgumentTypeError(f"'{shown}': the conditions are {', '.join(conditions)}")
    if state.lower() not in states:
        raise argparse.ArgumentTypeError(f"'{shown}': the states are {', '.join(states)}")
    return condition, states[state.lower()]


def parser() -> argparse.ArgumentParser:
    """All options, as -h and the man page list them."""
    result = _Parser(
        prog="check_mounts",
        usage="check_mounts [OPTION]... [MOUNTPOINT]...",
        description="Check every mounted filesystem, each in a worker that can be given up, and never hang.",
        epilog="GLOBs are shell patterns that match as a whole; '*' matches '/' too. Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
        allow_abbrev=False,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
    )
    result.add_argument("mount_points", metavar="MOUNTPOINT", nargs="*", help="check only these; one that is not mounted is missing")
    _add_selection(result.add_argument_group("which mounts"))
    _add_probing(result.add_argument_group("how to probe"))
    _add_judging(result.add_argument_group("how bad it is"))
    _add_output(result.add_argument_group("output"))
    return result


def _add_selection(group: argparse._ArgumentGroup) -> None:
    def globs(short: list[str], long: str, what: str, kind: object = _glob, metavar: str = "GLOB") -> None:
        action = "extend" if kind is _type_globs else "append"
        group.add_argument(*short, long, action=action, default=[], type=kind, metavar=metavar, help=what)  # type: ignore[arg-type]

    globs(["-N"], "--include-type", "only filesystems of this type (repeatable, or separated by commas)", _type_globs)
    globs(["-X"], "--exclude-type", "no filesystems of this type (repeatable, or separated by commas)", _type_globs)
    globs(["-p"], "--path", "only these mount points (repeatable)", _path_glob)
    globs(["-x"], "--exclude", "not these mount points (repeatable)", _path_glob)
    globs([], "--include-source", "only mounts of this source (repeatable)")
    globs([], "--exclude-source", "no mounts of this source (repeatable)")
    group.add_argument("--remote", action="store_true", help="network filesystems only")
    group.add_argument("--user-mounts", action="store_true", help="FUSE mounts of unprivileged users, too")
    group.add_argument(
        "--autofs", choices=("skip", "probe"), default="skip",
        help="autofs triggers: leave them alone (default), or have them mounted and probe that",
    )  # fmt: skip
    group.add_argument("--allow-none", action="store_true", help="OK, not UNKNOWN, where no mount is selected")
    group.add_argument("--mountinfo", metavar="FILE", default=mounttable.DEFAULT_PATH, help="the mount table (default: %(default)s)")


def _add_probing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-t", "--timeout", metavar="SECONDS", type=_seconds, default=5.0, help="for one mount (default: 5)")
    group.add_argument("--deadline", metavar="SECONDS", type=_seconds, help="for the whole run (default: 4 more than the timeout)")
    group.add_argument(
        "--as", dest="identity", metavar="USER", default="owner",
        help="look into each mount as its owner ('owner', the default), as the caller ('self'), or as this user",
    )  # fmt: skip
    group.add_argument(
        "--max-workers", metavar="N", type=_whole(1, 32768), default=1024,
        help="processes at the same time, at most (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--state-dir", metavar="DIR", help="where stuck probes are remembered (default for root: /run/check_mounts)")


def _add_judging(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-w", "--warning", metavar="RANGE", type=_range, help="latency in seconds outside of which is WARNING")
    group.add_argument("-c", "--critical", metavar="RANGE", type=_range, help="latency in seconds outside of which is CRITICAL")
    group.add_argument(
        "--severity", action="append", default=[], type=_severity, metavar="CONDITION=STATE",
        help="the state of a condition (repeatable): " + ", ".join(condition.value for condition in Condition),
    )  # fmt: skip


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-v", "--verbose", action="count", default=0, help="mounts that are not ok (-v), all mounts (-vv), all steps (-vvv)")
    group.add_argument(
        "--perfdata", choices=("summary", "mounts", "none"), default="summary", help="counts (default), each mount, too, or none"
    )
    group.add_argument(
        "--max-output", metavar="BYTES", type=_whole(_SMALLEST_OUTPUT, 1 << 30, 0), default=_NRPE_LIMIT,
        help="drop whole lines and perfdata items beyond this (default: %(default)s; 0: no limit)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print everything as JSON")
    group.add_argument("-V", "--version", action="store_true", help="print the version")
    group.add_argument("-h", "--help", action="store_true", help="print this")


def _understood(values: argparse.Namespace) -> Options:
    """The parsed command line -> Options. Raises UsageError."""
    deadline = values.timeout + _BESIDE_TIMEOUT if values.deadline is None else values.deadline
    if deadline < values.timeout:
        raise UsageError(f"argument --deadline: {deadline:g} s is shorter than the timeout of {values.timeout:g} s for one mount")
    return Options(
        filters=selection.Filters(
            include_types=values.include_type,
            exclude_types=values.exclude_type,
            include_paths=values.path,
            exclude_paths=values.exclude,
            include_sources=values.include_source,
            exclude_sources=values.exclude_source,
            remote=values.remote,
            user_mounts=values.user_mounts,
            autofs=values.autofs == "probe",
            mount_points=[_mount_point(word) for word in values.mount_points],
        ),
        settings=survey.Settings(
            timeout=values.timeout,
            deadline=deadline,
            max_workers=values.max_workers,
            as_owner=values.identity == "owner",
            identity=_identity(values.identity),
        ),
        policy=Policy(dict(values.severity), values.warning, values.critical),
        mountinfo=_absolute("--mountinfo", values.mountinfo),
        state_dir=stuck.default_directory() if values.state_dir is None else _absolute("--state-dir", values.state_dir),
        verbosity=values.verbose,
        perfdata=values.perfdata,
        max_output=values.max_output,
        json=values.json,
        allow_none=values.allow_none,
    )


def _identity(user: str) -> Optional[privilege.Identity]:
    if user in ("owner", "self"):
        return None
    try:
        identity = privilege.resolve(user)
    except privilege.UnknownUser:
        raise UsageError(f"argument --as: there is no user '{text.printable_argument(user)}'") from None
    if os.geteuid() == identity.uid:
        return None
    if os.geteuid() != 0:
        raise UsageError("argument --as: only root can act as another user")
    return identity


def _absolute(option: str, path: str) -> str:
    """Our own working directory becomes / before the first probe. Raises UsageError."""
    if path.startswith("/"):
        return path
    try:
        return f"{os.getcwd()}/{path}" if path else _refuse(option, "the path is empty")
    except OSError as error:
        return _refuse(option, f"the working directory is not known: {error.strerror}")


def _refuse(option: str, why: str) -> NoReturn:
    raise UsageError(f"argument {option}: {why}")


def _read_table(options: Options) -> survey.Table:
    try:
        return mounttable.read(options.mountinfo)
    except OSError as error:
        path = text.printable_argument(options.mountinfo)
        raise UsageError(f"argument --mountinfo: {path}: {error.strerror}") from None


def _registry(directory: str, mounts: Sequence[Mount], visible: frozenset[int], slots: int) -> stuck.Registry:
    """The memory of stuck probes, unless it lies on a filesystem that could hang us."""
    path = selection.normalised(os.fsencode(directory))
    for mount in mounts:
        on_the_way = mount.mount_id in visible and _slash(path).startswith(_slash(mount.mount_point))
        if on_the_way and (selection.can_hang_on_the_way(mount) or mount.fs_type == b"autofs"):
            kind = text.printable(mount.fs_type)
            return stuck.Registry(None, f"{text.printable(path)} is on {kind}, which may hang; see --state-dir")
    return stuck.Registry(directory, slots=slots)


def _slash(path: bytes) -> str:
    return path.rstrip(b"/").decode("latin-1") + "/"


def _take(options: Options, interrupts: Interrupts) -> Survey:
    table = _read_table(options)
    chosen = selection.select(table[0], options.filters)
    registry = _registry(options.state_dir, table[0], chosen.visible, options.settings.max_workers)
    os.chdir("/")
    # What exists now is shared with all workers; the collector would touch, and so copy, its pages in each.
    gc.freeze()
    return survey.take(
        table, chosen, options.settings, registry, lambda: mounttable.read(options.mountinfo), interrupts, interrupts.wake_fd
    )


def _report(result: Survey, options: Options) -> tuple[bytes, State]:
    if options.json:
        from check_mounts import jsontext

        return jsontext.report(result, options.policy, options.allow_none)
    # Loaded only now: a fork costs three times as much once it is.
    from check_mounts import plugin

    presentation = plugin.Presentation(options.verbosity, options.perfdata, options.max_output, options.allow_none, _stdout_encoding())
    return plugin.report(result, options.policy, presentation)


def _report_plainly(result: Survey, options: Options, error: Exception) -> tuple[bytes, State]:
    """What was measured is not lost because the report failed: the verdict in plain words, at least UNKNOWN."""
    from check_mounts import summary

    judgements = judge_all(result, options.policy)
    state = max(worst(judgements, result, options.allow_none), State.UNKNOWN, key=lambda state: state.rank)
    why = text.one_line(f"the report failed: {type(error).__name__}: {error}")
    words = "; ".join([summary.headline(judgements, result), *summary.failures(judgements), why])
    return text.encoded(f"MOUNTS {state.name} - {words}\n", _stdout_encoding()), state


def _stdout_encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _write(data: bytes, interrupts: Interrupts) -> None:
    """Write to stdout, in pieces that a pipe takes without blocking: a reader that does not read must not keep us for ever.

    A signal that comes now ends it; the first piece, which has the verdict, has its chance even so.
    """
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    until = time.monotonic() + _WRITE_PATIENCE
    view = memoryview(data)
    known = interrupts.count
    while view:
        left = until - time.monotonic()
        # A signal does not end a poll (PEP 475), so it is a short one.
        if left <= 0 or (interrupts.count > known and len(view) < len(data)):
            return
        if not poll.poll(min(int(left * 1000) + 1, 100)):
            if interrupts.count > known:
                return
            continue
        try:
            view = view[os.write(1, view[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue
        except OSError:  # EPIPE, ENOSPC, EBADF: nobody to tell; the exit code still says it
            return


def run(arguments: list[str], interrupts: Interrupts) -> int:
    """The plugin with these arguments; the exit code. The state of -h and -V is UNKNOWN, as the guidelines demand."""
    options_parser = parser()
    try:
        values = options_parser.parse_intermixed_args(arguments)
        if values.help or values.version:
            _write((options_parser.format_help() if values.help else f"check_mounts {__version__}\n").encode("utf-8"), interrupts)
            return State.UNKNOWN.value
        options = _understood(values)
        result = _take(options, interrupts)
    except UsageError as error:
        line = f"MOUNTS UNKNOWN - {text.one_line(str(error))}\n"
        _write(text.encoded(line + options_parser.format_usage(), _stdout_encoding()), interrupts)
        return State.UNKNOWN.value
    except OSError as error:  # no descriptor to be had, no /dev/null: not even a pool can be made
        what = f"{error.strerror}: {text.printable_argument(str(error.filename))}" if error.filename else error.strerror
        _write(text.encoded(f"MOUNTS UNKNOWN - cannot start: {what}\n", _stdout_encoding()), interrupts)
        return State.UNKNOWN.value
    try:
        output, state = _report(result, options)
    except Exception as error:  # nagiosplugin is not installed, or a defect of ours
        output, state = _report_plainly(result, options, error)
    _write(output, interrupts)
    return state.value
