"""Options -> settings -> a survey -> the output. What is wrong with the options is said in one
line, exit 3."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import functools
import gc
import math
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Optional, TypeVar

from check_mounts import (
    __version__,
    asking,
    cache,
    checking,
    config,
    delivery,
    demands,
    filesystems,
    logs,
    mounttable,
    names,
    one_check,
    parts,
    passive,
    policy,
    privilege,
    reading,
    replacing,
    selection,
    stuck,
    summary,
    survey,
    sysfs,
    text,
)
from check_mounts.checking import Options
from check_mounts.config import Configuration
from check_mounts.model import BadLine, Condition, ExpectedMount, Finding, Mount, State
from check_mounts.notes import Notes
from check_mounts.outcome import Step
from check_mounts.policy import Judged, Judgement, Policy
from check_mounts.signals import Interrupts
from check_mounts.thresholds import Capacity, Range, parse_capacity

# What the deadline leaves for the start and the end of a run: with the default timeout, one second
# less than check_nrpe waits.
_BESIDE_TIMEOUT = 4.0
# How much more than the timeout of a mount a run has where reading has taken its time, in seconds.
_TO_FIND = 0.5
# NRPE cuts the output off after so many bytes without a word (packet version 4).
_NRPE_LIMIT = 65504
_SMALLEST_OUTPUT = 128
# What the options stand for whose FILE may be left out, and has to be written with an equals sign
# where it is not.
_DEFAULT_FSTAB = "/etc/fstab"
_FILES = {"--fstab": _DEFAULT_FSTAB, "--extra-opts": ""}
# How long a reader that does not read, or reads slowly, may keep us in all.
_WRITE_PATIENCE = 4.0
# How often a write may fail for want of memory, say.
_MOST_FAILURES = 5


_Pattern = TypeVar("_Pattern")


class UsageError(Exception):
    """Something is wrong with the options; the message says what, on one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse would print and exit with 2, which monitoring reads as CRITICAL. Of an option
        that is none of ours only the name is told: its value may be a secret of another program."""
        raise UsageError(
            re.sub(r"(?<= )(-[^\s=]+)=\S+", r"\1=...", message)
            if message.startswith("unrecognized arguments: ")
            else message
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(_with_files(args), namespace)

    def parse_known_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_intermixed_args(_with_files(args), namespace)


def _with_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with the file of each ``--fstab`` and ``--extra-opts`` that names none.
    argparse would take the next word for it: of ``--fstab /srv`` the mount point, which may hang
    whoever opens it. Raises UsageError."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [f"{word}={_FILES[word]}" if word in _FILES else word for word in arguments[:end]]
    for option, meant in zip(arguments[:end], arguments[1:end]):
        if _is_meant_for(option, meant):
            shown = text.printable_argument(meant)
            _refuse(option, f"'{shown}' would be a MOUNTPOINT; write {option}={shown}")
    return [*words, *arguments[end:]]


def _is_meant_for(option: str, word: str) -> bool:
    """Whether somebody has written the file of such an option with a blank. A mount point is no
    file that is called fstab, and begins with a slash."""
    if option == "--fstab":
        return word.startswith("/") and "fstab" in word.rpartition("/")[2]
    return option == "--extra-opts" and not word.startswith(("/", "-"))


def _seconds(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a positive number of seconds")
    if value > config.MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is more than a year")
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


def _limit(word: str) -> tuple[Optional[Step], Range]:
    """``RANGE`` for the whole probe, ``STEP=RANGE`` for one of its steps."""
    name, equals, rest = word.rpartition("=")
    if not equals:
        return None, _range(word)
    steps = {step.word: step for step in Step}
    if name.lower() not in steps:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}': the steps are {', '.join(steps)}")
    return steps[name.lower()], _range(rest)


def _capacity(word: str) -> Capacity:
    try:
        return parse_capacity(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a range: {error}") from None


def _spec(word: str) -> ExpectedMount:
    from check_mounts import spec  # with the tables of options; a run that declares nothing has no use for them

    try:
        return spec.parse_spec(os.fsencode(word))
    except ValueError as error:
        # An option that it names may be a password.
        shown = word.partition(",")[0] + ",..." * ("," in word)
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(shown)}': {error}") from None


def _ident(word: str) -> str:
    try:
        return logs.check_ident(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}': {error}") from None


def _object_name(word: str) -> str:
    """A host or service, as a monitoring server knows it: nothing that a command file, NSCA or
    Icinga 2 would take for an end of it."""
    if not word.strip() or not word.isprintable() or any(char in ";!" for char in word):
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not the name of a host or service")
    return word


def _glob(word: str) -> selection.Glob:
    return _compiled(word, os.fsencode(word), selection.compile_glob)


def _compiled(word: str, pattern: bytes, kind: Callable[[bytes], _Pattern]) -> _Pattern:
    try:
        return kind(pattern)
    except selection.GlobError as error:
        raise argparse.ArgumentTypeError(f"'{text.printable_argument(word)}' is not a pattern: {error}") from None


def _path_glob(word: str) -> selection.PathGlob:
    # The kernel writes no trailing slash; people do.
    return _compiled(word, os.fsencode(word).rstrip(b"/") or os.fsencode(word)[:1], selection.PathGlob)


def _type_globs(word: str) -> list[selection.Glob]:
    return [_compiled(word, part, selection.compile_glob) for part in os.fsencode(word).split(b",")]


def _mount_point(word: str) -> bytes:
    """Judged after all options: of a misspelt option the option is to be named, not its value.
    Raises UsageError."""
    if not word.startswith("/"):
        _refuse("MOUNTPOINT", f"'{text.printable_argument(word)}' is not an absolute path")
    return names.simplified(os.fsencode(word))


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
    result.add_argument(
        "mount_points", metavar="MOUNTPOINT", nargs="*", help="check only these; one that is not mounted is missing"
    )
    _add_selection(result.add_argument_group("which mounts"))
    _add_demands(result.add_argument_group("what should be mounted"))
    _add_probing(result.add_argument_group("how to probe"))
    _add_judging(result.add_argument_group("how bad it is"))
    _add_output(result.add_argument_group("output"))
    _add_service(result.add_argument_group("as a daemon, and what it found"))
    _add_submission(result.add_argument_group("results for servers that do not ask (passive checks)"))
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
    group.add_argument(
        "--mountinfo", metavar="FILE", default=mounttable.DEFAULT_PATH, help="the mount table (default: %(default)s)"
    )


def _add_demands(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fstab", metavar="FILE", nargs="?", const=_DEFAULT_FSTAB,
        help="what fstab declares should be mounted, and mounted so (default: %(const)s); write --fstab=FILE",
    )  # fmt: skip
    group.add_argument(
        "--systemd", action="store_true", help="so should the mount and automount units of systemd that are wanted"
    )
    group.add_argument(
        "--expect", action="append", default=[], metavar="SPEC", type=_spec,
        help="so should this: MOUNTPOINT[,source=SOURCE][,type=TYPE][,OPTION]... (repeatable)",
    )  # fmt: skip
    group.add_argument(
        "--expect-ro",
        action="append",
        default=[],
        metavar="GLOB",
        type=_path_glob,
        help="these mount points are to be read-only (repeatable)",
    )
    group.add_argument(
        "--ignore-option",
        action="append",
        default=[],
        metavar="GLOB",
        type=_glob,
        help="declared options not to be compared (repeatable)",
    )
    group.add_argument(
        "--config", metavar="FILE", help=f"the configuration (default: {config.DEFAULT_PATH}, if there is one)"
    )
    group.add_argument(
        "--extra-opts", action="append", default=[], metavar="[SECTION][@FILE]", nargs="?", const="",
        help="take more options from a section of an ini file of the Monitoring Plugins; write --extra-opts=...",
    )  # fmt: skip


def _add_probing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-t", "--timeout", metavar="SECONDS", type=_seconds, default=5.0, help="for one mount (default: 5)"
    )
    group.add_argument(
        "--deadline", metavar="SECONDS", type=_seconds, help="for the whole run (default: 4 more than the timeout)"
    )
    group.add_argument(
        "--as", dest="identity", metavar="USER", default="owner",
        help="look into each mount as its owner ('owner', the default), as the caller ('self'), or as this user",
    )  # fmt: skip
    group.add_argument(
        "--max-workers", metavar="N", type=_whole(1, 32768), default=1024,
        help="processes at the same time, at most (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--write", action="store_true",
        help="also write a file to each filesystem that answers and is not read-only, as its owner, and remove it again",
    )  # fmt: skip
    group.add_argument(
        "--no-diagnosis", action="store_true", help="do not ask the servers of mounts that do not answer"
    )
    group.add_argument(
        "--state-dir", metavar="DIR", help="where stuck probes are remembered (default for root: /run/check_mounts)"
    )


def _add_judging(group: argparse._ArgumentGroup) -> None:
    for short, long in (("-w", "--warning"), ("-c", "--critical")):
        group.add_argument(
            short, long, action="append", default=[], metavar="[STEP=]RANGE", type=_limit,
            help=f"latency in seconds outside of which is {long[2:].upper()}, of the whole probe or of one step (repeatable)",
        )  # fmt: skip
    for what in ("usage", "inodes"):
        for state in ("warning", "critical"):
            group.add_argument(
                f"--{what}-{state}", metavar="RANGE", type=_capacity,
                help=f"{'space' if what == 'usage' else what} used in percent, or free ({'10GiB:' if what == 'usage' else '10K:'}), "
                f"outside of which is {state.upper()}",
            )  # fmt: skip
    group.add_argument(
        "--severity", action="append", default=[], type=_severity, metavar="CONDITION=STATE",
        help="the state of a condition (repeatable): " + ", ".join(condition.value for condition in Condition),
    )  # fmt: skip


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="mounts that are not ok (-v), all mounts (-vv), all steps (-vvv)",
    )
    group.add_argument(
        "--perfdata",
        choices=("summary", "mounts", "steps", "none"),
        default="summary",
        help="counts (default), each mount, too, and each of its steps, too, or none",
    )
    group.add_argument(
        "--max-output", metavar="BYTES", type=_whole(_SMALLEST_OUTPUT, 1 << 30, 0), default=_NRPE_LIMIT,
        help="drop whole lines and perfdata items beyond this (default: %(default)s; 0: no limit)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print everything as JSON")
    group.add_argument("-V", "--version", action="store_true", help="print the version")
    group.add_argument("-h", "--help", action="store_true", help="print this")


def _add_service(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--daemon", action="store_true", help="check again and again, log to syslog, and keep the result for --cached"
    )
    group.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=60.0, help="from one check to the next (default: 60)"
    )
    group.add_argument("--foreground", action="store_true", help="do not detach, and log to stderr")
    group.add_argument(
        "--cache", metavar="FILE", default=cache.DEFAULT_PATH, help="where the result is kept (default: %(default)s)"
    )
    group.add_argument(
        "--metrics", metavar="FILE.prom", help="write metrics for node_exporter's textfile collector, too"
    )
    group.add_argument(
        "--syslog-facility",
        metavar="NAME",
        choices=tuple(logs.FACILITIES),
        default="daemon",
        help="of what is logged (default: daemon)",
    )
    group.add_argument(
        "--syslog-ident", metavar="NAME", type=_ident, default="check_mounts", help="the same (default: check_mounts)"
    )
    group.add_argument(
        "--cached", action="store_true",
        help="print what the daemon has found, UNKNOWN if that is too old; goes with --cache, --max-age and -v only",
    )  # fmt: skip
    group.add_argument(
        "--max-age", metavar="SECONDS", type=_seconds, help="with --cached: UNKNOWN if it is older than that"
    )


def _add_submission(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--submit", action="append", default=[], metavar="DESTINATION",
        help="submit the result to command-file:PATH, nsca:HOST[:PORT], icinga2:https://HOST:PORT or nrdp:URL, too (repeatable); "
        'passwords are in the configuration, section [submit "DESTINATION"]',
    )  # fmt: skip
    group.add_argument(
        "--submit-host", metavar="NAME", type=_object_name, help="as the result of this host (default: the host name)"
    )
    group.add_argument(
        "--submit-service",
        metavar="NAME",
        type=_object_name,
        default="mounts",
        help="and of this service of its (default: %(default)s)",
    )
    group.add_argument(
        "--submit-timeout", metavar="SECONDS", type=_seconds, default=5.0, help="for each destination (default: 5)"
    )
    group.add_argument(
        "--per-mount",
        action="store_true",
        help="a result for each mount as well, of the service 'mounts MOUNTPOINT', submitted or printed",
    )


def known_options(options_parser: argparse.ArgumentParser) -> dict[str, config.Option]:
    """The long options, as the configuration may name them."""
    known = {}
    for action in options_parser._actions:
        for name in action.option_strings:
            if name.startswith("--"):
                repeatable = isinstance(action, (argparse._AppendAction, argparse._ExtendAction, argparse._CountAction))
                known[name[2:]] = config.Option(action.nargs != 0, repeatable, commas=action.dest == "severity")
    return known


def _from_files(
    options_parser: argparse.ArgumentParser, arguments: list[str], values: argparse.Namespace
) -> tuple[argparse.Namespace, Configuration]:
    """The values with what the files say that the command line names. Raises UsageError, which
    names file and line."""
    try:
        path = config.DEFAULT_PATH if values.config is None else _absolute("--config", values.config)
        configuration = config.read(path, known_options(options_parser), optional=values.config is None)
        extra = [words for spec in values.extra_opts for words in config.extra_words(spec, os.environ)]
    except config.ConfigError as error:
        # Of what is wrong within the file, its line is told, which says enough.
        of_file = values.config is not None and str(error).startswith(f"{text.printable_argument(path)}: ")
        raise UsageError(f"argument --config: {error}" if of_file else str(error)) from None
    for line in extra:
        for word in line.words:
            if _option_of(word) in (config.REFUSED | {"h", "V"}):
                raise UsageError(
                    f"{line.origin}: '{text.printable_argument(word)}' can be said on the command line only"
                )
            # argparse would repeat the value, and such a file has the passwords of other plugins.
            if word.partition("=")[0] not in options_parser._option_string_actions:
                raise UsageError(f"{line.origin}: unknown key '{text.printable_argument(_option_of(word))}'")
    said = configuration.words
    if values.config is None and not values.daemon:
        # Who checks one mount by hand must not tell the server that all of this host are well. Nor
        # is what goes along with it meant.
        unmeant = {"submit"} if values.submit else {"submit", "per-mount"}
        said = tuple(line for line in said if not any(_option_of(word) in unmeant for word in line.words))
    lines = [*said, *extra]
    values.origins = {}
    if not lines and not configuration.sections:
        return values, configuration
    for line in lines:
        try:
            options_parser.parse_args(list(line.words))
        except UsageError as error:
            raise UsageError(f"{line.origin}: {error}") from None
    words = [(word, line.origin) for line in lines for word in line.words]
    given = _given(arguments)
    merged = options_parser.parse_intermixed_args([*(word for word, _ in words), *arguments])
    # Where a value comes from, for what turns out to be wrong with it only later.
    merged.origins = {
        _option_of(word): origin for word, origin in words if _option_of(word).replace("-", "_") not in given
    }
    return merged, _below_the_command_line(configuration, given, values)


def _option_of(word: str) -> str:
    """``--timeout=5`` -> ``timeout``."""
    return word.lstrip("-").partition("=")[0]


def _given(arguments: list[str]) -> set[str]:
    """Which options the command line names, as argparse calls them."""
    silent = parser()
    for action in silent._actions:
        action.default = argparse.SUPPRESS
    given = set(vars(silent.parse_intermixed_args(arguments)))
    return given | ({"as"} if "identity" in given else set())


def _below_the_command_line(configuration: Configuration, given: set[str], values: argparse.Namespace) -> Configuration:
    """The configuration without what the command line says otherwise: that is for one run, and
    wins."""
    plain = ("timeout", "identity", "write", "usage_warning", "usage_critical", "inodes_warning", "inodes_critical")
    taken: dict[str, None] = {name: None for name in plain if name in given}
    taken |= {name: None for name in ("warning", "critical") if any(step is None for step, _ in getattr(values, name))}
    said = {condition for condition, _ in values.severity}
    if not taken and not said:
        return configuration
    sections = []
    for section in configuration.sections:
        severity = {
            condition: state for condition, state in section.overrides.severity.items() if condition not in said
        }
        overrides = dataclasses.replace(section.overrides, severity=severity, **taken)  # type: ignore[arg-type]
        sections.append(dataclasses.replace(section, overrides=overrides))
    # Not dataclasses.replace(): what is known of single mounts was that of the old sections.
    return Configuration(configuration.words, tuple(sections), configuration.destinations)


def _blamed(error: UsageError, origins: Mapping[str, str]) -> UsageError:
    """The error with the file and line that the value came from, if it came from a file."""
    match = re.match(r"argument (?:-\w/)?--([a-z-]+)", str(error))
    origin = origins.get(match[1]) if match else None
    return UsageError(f"{origin}: {error}") if origin else error


def _declarations(
    values: argparse.Namespace, configuration: Configuration
) -> tuple[list[ExpectedMount], list[BadLine], list[str]]:
    """What was declared to be mounted, the lines of fstab that are wrong, and notes on units.
    Raises UsageError."""
    if values.fstab is not None or values.systemd or values.expect or values.expect_ro or configuration.sections:
        from check_mounts import compare  # noqa: F401  what is found must not be lost by an import that fails later

    declared: list[ExpectedMount] = []
    wrong: list[BadLine] = []
    notes: list[str] = []
    if values.fstab is not None:
        from check_mounts import fstab

        try:
            entries, bad = fstab.read_fstab(_absolute("--fstab", values.fstab))
        except OSError as error:
            _refuse("--fstab", f"{text.printable_argument(values.fstab)}: {error.strerror}")
        declared += entries
        wrong += bad
    if values.systemd:
        from check_mounts import units

        entries, complaints = units.read_units()
        known = {each.mount_point for each in declared}  # the generator's units repeat fstab
        declared += [each for each in entries if each.mount_point not in known]
        notes += map(str, complaints)
    return [*declared, *configuration.expected(), *values.expect], wrong, notes


def _demands(
    values: argparse.Namespace, configuration: Configuration, declared: Sequence[ExpectedMount]
) -> demands.Demands:
    def expect_ro(mount_point: bytes) -> Optional[bool]:
        said = configuration.for_mount(mount_point).expect_ro
        return True if said is None and any(glob.match(mount_point) for glob in values.expect_ro) else said

    def ignored(mount_point: bytes) -> Sequence[selection.Glob]:
        said = configuration.for_mount(mount_point).ignore_options
        return (*values.ignore_option, *(said or ()))

    any_ro = bool(declared or values.expect_ro) or values.fstab is not None or values.systemd
    # Device numbers of another host's table say nothing here.
    why_read_only = sysfs.why_read_only if values.mountinfo == mounttable.DEFAULT_PATH else lambda mount: None
    return demands.Demands(declared, configuration.declared, ignored, expect_ro, any_ro, why_read_only)


def _is_declared(configuration: Configuration) -> Callable[[Mount], bool]:
    """Whether a section has declared what is to be mounted in the place of a mount.

    A pattern of the configuration does not mean the kernel's own filesystems: ``[mount "*"]`` with
    ``options = nodev`` is not about /dev. By its path any mount is declared."""
    by_path = [section for section in configuration.sections if section.path is not None]

    def is_declared(mount: Mount) -> bool:
        point = mount.mount_point
        meant = not filesystems.traits(mount.fs_type).pseudo or any(section.matches(point) for section in by_path)
        return meant and configuration.for_mount(point).declares

    return is_declared


def _overrides(configuration: Configuration, deadline: float) -> Optional[Callable[[Mount], asking.Override]]:
    """What the configuration says about how to probe single mounts. Raises UsageError."""
    if not configuration.sections:
        return None
    users: dict[str, Optional[privilege.Identity]] = {"owner": None, "self": None}
    for user, origin in configuration.identities().items():
        try:
            users[user] = _identity(user)
        except UsageError as error:
            raise UsageError(f"{origin}: {str(error).replace('argument --as', 'as')}") from None
    for section in configuration.sections:
        timeout = section.overrides.timeout
        if timeout is not None and timeout > deadline:
            raise UsageError(
                f"{section.origins['timeout']}: a timeout of {timeout:g} s is longer than the deadline of {deadline:g} s"
            )

    def override(mount: Mount) -> asking.Override:
        said = configuration.for_mount(mount.mount_point)
        if said.identity is None:
            return asking.Override(said.timeout)
        return asking.Override(said.timeout, said.identity == "owner", users[said.identity])

    return override


def _understood(
    options_parser: argparse.ArgumentParser, arguments: list[str], values: argparse.Namespace, again: bool = False
) -> Options:
    """The parsed command line -> Options. ``again``: for a daemon that runs already. Raises
    UsageError."""
    values, configuration = _from_files(options_parser, arguments, values)
    try:
        return _settled(values, configuration, _given(arguments), again)
    except UsageError as error:
        raise _blamed(error, values.origins) from None


def _deadline(values: argparse.Namespace) -> float:
    deadline = values.deadline
    return float(values.timeout + _BESIDE_TIMEOUT if deadline is None else deadline)


def _settled(values: argparse.Namespace, configuration: Configuration, given: set[str], again: bool) -> Options:
    """All values, wherever they come from -> Options. ``given``: what the command line names;
    ``again``: see _service. Raises UsageError."""
    deadline = _deadline(values)
    if deadline < values.timeout:
        raise UsageError(
            f"argument --deadline: {deadline:g} s is shorter than the timeout of {values.timeout:g} s for one mount"
        )
    declared, wrong, notes = _declarations(values, configuration)

    def writes(mount: Mount) -> bool:
        said = configuration.for_mount(mount.mount_point)
        wanted = values.write if said.write is None else said.write
        return bool(wanted) and not said.expect_ro and selection.writable(mount)

    globs: list[selection.PathGlob] = [*values.path, *values.exclude, *values.expect_ro]

    def follow(lead: Callable[[bytes], bytes]) -> None:
        for glob in globs:
            if glob.leading:
                glob.follow(lead(glob.leading))
        configuration.follow(lead)

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
            ignored=lambda mount_point: bool(configuration.for_mount(mount_point).ignore),
            declared=_is_declared(configuration),
        ),
        settings=asking.Settings(
            timeout=values.timeout,
            deadline=deadline,
            max_workers=values.max_workers,
            as_owner=values.identity == "owner",
            identity=_identity(values.identity),
            diagnosis=not values.no_diagnosis,
            writes=writes,
            override=_overrides(configuration, deadline),
        ),
        policy=_policy(values, configuration),
        demands=_demands(values, configuration, declared),
        notes=notes,
        wrong=wrong,
        origins=values.origins,
        mountinfo=_absolute("--mountinfo", values.mountinfo),
        state_dir=stuck.default_directory() if values.state_dir is None else _absolute("--state-dir", values.state_dir),
        verbosity=values.verbose,
        perfdata=values.perfdata,
        max_output=values.max_output,
        json=values.json,
        allow_none=values.allow_none,
        fstab=None if values.fstab is None else _absolute("--fstab", values.fstab),
        service=_service(values, given, again),
        submission=_submission(values, configuration, given),
        per_mount=values.per_mount,
        patterns=[path for path in (*[glob.leading for glob in globs], *configuration.leading()) if path],
        follow=follow,
    )


def _service(values: argparse.Namespace, given: set[str], again: bool) -> Optional[checking.Service]:
    """What the daemon is to do; None where none is wanted. ``again``: it runs already. Raises
    UsageError."""
    if values.cached:  # the fast path (cache.py) would have seen it
        _refuse("--cached", "stands before all mount points, and goes with --cache, --max-age and -v only")
    if not values.daemon:
        # In a file they may stand for a daemon that reads it as well.
        for option in ("interval", "foreground", "cache", "metrics", "syslog_facility", "syslog_ident"):
            if option in given:
                _refuse(
                    f"--{option.replace('_', '-')}",
                    "goes with --daemon only" + (" or --cached" if option == "cache" else ""),
                )
        if "max_age" in given:
            _refuse("--max-age", "goes with --cached only")
        return None
    for option in ("json", "max_age"):
        if option in given:
            _refuse(f"--{option.replace('_', '-')}", "does not go with --daemon")
    if "per_mount" in given and not values.submit:
        _refuse("--per-mount", "goes with --submit only, if the daemon is to do it")
    return checking.Service(
        interval=values.interval,
        foreground=values.foreground,
        cache=_cache(values),
        metrics=None if values.metrics is None else _metrics(values.metrics, load=not again),
        facility=values.syslog_facility,
        ident=values.syslog_ident,
    )


def _submission(
    values: argparse.Namespace, configuration: Configuration, given: set[str]
) -> Optional[delivery.Submission]:
    """Raises UsageError."""
    if values.json and "per_mount" in given:
        _refuse("--per-mount", "does not go with --json, which has each mount anyway")
    sections = {section.destination: section for section in configuration.destinations}
    destinations = {word: _destination(word, sections.get(word)) for word in values.submit}
    names = [each.name for each in destinations.values()]
    for name in names:
        if names.count(name) > 1:
            _refuse("--submit", f"{name} is named twice, in different words")
    if not destinations:
        for option in ("submit_host", "submit_service", "submit_timeout"):
            if option in given:
                _refuse(f"--{option.replace('_', '-')}", "goes with --submit only")
        return None
    # Not the fully qualified one: to find that out, a name server is asked, which may be what is
    # down.
    host = values.submit_host if values.submit_host is not None else os.uname().nodename
    return delivery.Submission(tuple(destinations.values()), host, values.submit_service, values.submit_timeout)


def _destination(word: str, section: Optional[config.SubmitSection]) -> passive.Destination:
    """Raises UsageError."""
    from check_mounts.passive import destinations

    try:
        return destinations.destination(word, section.settings if section is not None else passive.Settings())
    except ValueError as error:
        if section is not None:
            raise UsageError(f"{section.origin}: {error}") from None
        return _refuse("--submit", str(error))


def _cache(values: argparse.Namespace) -> str:
    """Raises UsageError."""
    path = _absolute("--cache", values.cache)
    shown, name = text.printable_argument(path), path.rpartition("/")[2]
    if name in ("", ".", ".."):
        _refuse("--cache", f"'{shown}' is not the name of a file")
    files = [selection.normalised(os.fsencode(path + suffix)) for suffix in cache.SUFFIXES]
    if files[0].count(b"/") == 1:
        _refuse(
            "--cache",
            f"'{shown}' is in the root directory: the result needs one of its own, as in {cache.DEFAULT_PATH}",
        )
    _check_length("--cache", name + ".json")
    if (
        values.metrics is not None
        and selection.normalised(os.fsencode(_absolute("--metrics", values.metrics))) in files
    ):
        _refuse("--metrics", "names a file of --cache")
    return path


def _missing(library: str, error: ImportError) -> str:
    return f"the library {library} is missing ({error}): apt-get install python3-{library.replace('_', '-')}"


def _check_length(option: str, name: str) -> None:
    """Raises UsageError."""
    excess = len(os.fsencode(name)) - replacing.LONGEST_NAME
    if excess > 0:
        _refuse(option, f"the name of the file is too long by {text.counted(excess, 'byte')}")


def _metrics(path: str, load: bool) -> str:
    """``load``: see that it can be written. Raises UsageError."""
    if not path.endswith(".prom"):
        _refuse(
            "--metrics", f"'{text.printable_argument(path)}' does not end in .prom, so node_exporter would not read it"
        )
    try:
        if load:
            from check_mounts import metrics  # noqa: F401
    except ImportError as error:
        _refuse("--metrics", _missing("prometheus_client", error))
    _check_length("--metrics", path.rpartition("/")[2])
    return _absolute("--metrics", path)


def _policy(values: argparse.Namespace, configuration: Configuration) -> Policy:
    warning, critical = dict(values.warning), dict(values.critical)
    general = Policy(
        severity=dict(values.severity),
        warning=warning.pop(None, None),
        critical=critical.pop(None, None),
        usage_warning=values.usage_warning,
        usage_critical=values.usage_critical,
        inodes_warning=values.inodes_warning,
        inodes_critical=values.inodes_critical,
        step_warning=warning,
        step_critical=critical,
    )
    if not configuration.sections:
        return general
    return dataclasses.replace(
        general, exception=lambda mount_point: configuration.for_mount(mount_point).policy(general)
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
    if not privilege.can_act_as_others():
        raise UsageError("argument --as: only root can act as another user (or who has CAP_SETUID and CAP_SETGID)")
    return identity


def _absolute(option: str, path: str) -> str:
    """Our own working directory becomes / before the first probe. Raises UsageError."""
    if path.startswith("/"):
        return path
    try:
        return f"{_started_in()}/{path}" if path else _refuse(option, "the path is empty")
    except OSError as error:
        return _refuse(option, f"the working directory is not known: {error.strerror}")


@functools.lru_cache(maxsize=1)
def _started_in() -> str:
    """The working directory when it was first asked for: a daemon that reads its options again is
    in /. Raises OSError."""
    return os.getcwd()


def _refuse(option: str, why: str) -> NoReturn:
    raise UsageError(f"argument {option}: {why}")


def _read_table(options: Options) -> mounttable.Table:
    reading.step(f"reading the mount table {text.clipped(text.printable_argument(options.mountinfo), 400)}")
    try:
        return mounttable.read(options.mountinfo)
    except OSError as error:
        path = text.printable_argument(options.mountinfo)
        raise UsageError(f"argument --mountinfo: {path}: {error.strerror}") from None


def _take(options: Options, begun: float, interrupts: Interrupts, noted: Notes) -> Judged:
    """Check what is mounted, and judge it. ``begun``: when this run was (CLOCK_MONOTONIC), from
    which its deadline counts."""
    try:
        table = _read_table(options)
    except UsageError as error:
        raise _blamed(error, options.origins) from None
    try:
        os.chdir("/")
    except OSError:
        pass  # then the caller's directory is kept busy
    # What exists now is shared with all workers; the collector would touch, and so copy, its pages
    # in each.
    gc.freeze()
    gc.enable()
    options = _with_what_is_left(options, begun)
    noted.until(time.monotonic() + options.settings.deadline)

    def follow(under_way: survey.Pass) -> None:
        noted.selected(len(under_way.chosen.selected))
        under_way.book.tell = _noting(options, noted)

    result = one_check.take(
        options, table, lambda: mounttable.read(options.mountinfo), interrupts, interrupts.wake_fd, follow
    )
    judged = policy.judged(result, options.policy, options.allow_none)
    noted.replace(_failures(judged.judgements))
    return judged


def _with_what_is_left(options: Options, begun: float) -> Options:
    """The options with as much of the deadline as reading has left; with enough to find a mount
    that hangs in any case."""
    settings = options.settings
    enough = min(settings.deadline, settings.timeout + _TO_FIND)
    left = max(enough, begun + settings.deadline - time.monotonic())
    return dataclasses.replace(options, settings=dataclasses.replace(settings, deadline=left))


def _noting(options: Options, noted: Notes) -> Callable[[Finding, int], None]:
    """Notes what has been found of each mount, for the case that this process is caught before it
    can say so."""

    def tell(finding: Finding, count: int) -> None:
        noted.checked(count)
        for state, line in _failures([policy.judge(finding, options.policy.of(finding.mount_point))]):
            noted.failed(state, line)

    return tell


def _failures(judgements: Iterable[Judgement]) -> Iterator[tuple[int, str]]:
    """State and words of those that fail by themselves."""
    for judgement in judgements:
        finding = judgement.finding
        if judgement.state is not State.OK:
            where = text.printable(finding.mount_point)
            yield judgement.state.value, text.clipped(f"{where} {judgement.words}" if where else finding.detail, 400)


def _report(judged: Judged, options: Options) -> tuple[bytes, State]:
    if options.json:
        from check_mounts import jsontext

        return jsontext.report(judged), judged.state
    # Loaded only now: a fork costs three times as much once it is.
    reading.step("loading nagiosplugin")
    from check_mounts import plugin

    reading.step("making the report")

    presentation = plugin.Presentation(options.verbosity, options.perfdata, options.max_output, _stdout_encoding())
    report = plugin.report(judged, presentation, options.per_mount and options.submission is None)
    return parts.printed(report, options.max_output, presentation.encoding), report.state


def _submit(judged: Judged, options: Options, submission: delivery.Submission, interrupts: Interrupts) -> None:
    """Hand the result over. What goes wrong with that is said on stderr, for it changes neither the
    verdict nor the exit code.

    To cron, which mails what is printed, that is the only news.
    """
    if judged.survey.interrupted is not None:
        _complain(f"not submitted: interrupted by {judged.survey.interrupted}", interrupts)
        return
    try:
        _hand_over(judged, options, submission, interrupts)
    except Exception as error:  # a defect of ours, or no descriptor to be had
        _complain(f"not submitted: {_internal(error)}", interrupts)
        raise


def _hand_over(judged: Judged, options: Options, submission: delivery.Submission, interrupts: Interrupts) -> None:
    from check_mounts import submitting

    results = submitting.results(judged, options, submission, None)
    held_up = submitting.held_up(judged.survey, submission)
    for receipt in delivery.deliver(submission, results, held_up, interrupts, interrupts.wake_fd):
        if receipt.error is not None:
            _complain(receipt.words, interrupts)
        elif options.verbosity and not options.json:
            _write(text.encoded(f"note: {receipt.words}\n", _stdout_encoding()), interrupts)


def _complain(words: str, interrupts: Interrupts) -> None:
    _write(text.encoded(f"check_mounts: {text.one_line(words)}\n", "utf-8"), interrupts, fd=2)


def _report_plainly(judged: Judged, error: Exception) -> tuple[bytes, State]:
    # What this needs is loaded before the first probe: by now it may be that nothing can be opened.
    plain = summary.plain_report(judged, error)
    return parts.printed(plain, 0, _stdout_encoding()), plain.state


def _stdout_encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _write(data: bytes, interrupts: Interrupts, fd: int = 1) -> None:
    """Write to stdout (or stderr), in pieces that a pipe takes without blocking: a reader that does
    not read must not keep us for ever.

    A signal that comes now ends it; the first piece, which has the verdict, has its chance even so.
    """
    until = time.monotonic() + _WRITE_PATIENCE
    view = memoryview(data)
    known, failures = interrupts.count, 0
    while view:
        left = until - time.monotonic()
        # A signal does not end a poll (PEP 475), so it is a short one.
        if left <= 0 or (interrupts.count > known and len(view) < len(data)):
            return
        if not _has_room(fd, min(left, 0.1)):
            if interrupts.count > known:
                return
            continue
        try:
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue
        except OSError as error:  # EPIPE, EBADF: nobody to tell; the exit code still says it
            failures += 1
            if failures == _MOST_FAILURES or error.errno in (errno.EPIPE, errno.EBADF):
                return
            time.sleep(0.01)


def _has_room(fd: int, seconds: float) -> bool:
    """Whether something can be written to a descriptor, or will be in so many seconds; where nobody
    can say that, it is tried."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        return bool(poll.poll(int(seconds * 1000) + 1))
    except OSError:
        return True


def _first_understood(
    options_parser: argparse.ArgumentParser, arguments: list[str], values: argparse.Namespace, answers: Optional[bytes]
) -> Options:
    """Raises UsageError."""
    if answers is None:
        return _understood(options_parser, arguments, values)
    _load_daemon()
    from check_mounts import reload

    try:
        return reload.again(answers, lambda: _understood(options_parser, arguments, values))
    except reload.Rejected as error:
        raise UsageError(str(error)) from None


def _understood_again(arguments: list[str]) -> Options:
    """The same command line, with what the files say now. Raises reload.Rejected."""
    from check_mounts import reload

    options_parser = parser()
    try:
        return _understood(options_parser, arguments, options_parser.parse_intermixed_args(arguments), again=True)
    except UsageError as error:
        raise reload.Rejected(str(error)) from None


def rehearse(arguments: list[str]) -> bytes:
    """In a process that may hang: do what a daemon with these arguments does before its first pass;
    what it asks, and the answers."""
    os.environ["LANGUAGE"] = "C"  # see run
    options_parser = parser()
    _load_daemon()
    from check_mounts import reload

    def understood() -> None:
        options = _understood(options_parser, arguments, options_parser.parse_intermixed_args(arguments))
        _read_table(
            options
        )  # which is asked for again and again; but where it hangs at once, the daemon must not begin

    return reload.rehearsed(understood)


def _load_daemon() -> None:
    """What it, and a configuration that is read again, may need: later it might lie on a mount that
    hangs. Raises ImportError."""
    import difflib  # noqa: F401  for what is misspelt there

    from check_mounts import compare, fstab, spec, units  # noqa: F401  for what is declared there

    try:
        from check_mounts import serve  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "nagiosplugin":
            raise
        raise ImportError(_missing("nagiosplugin", error)) from None
    from check_mounts.passive import destinations

    destinations.load_all()


def _serve(options: Options, reload: Callable[[], Options], interrupts: Interrupts) -> int:
    _load_daemon()
    from check_mounts import serve

    _started_in()

    def say(state: State, words: str) -> None:
        _write(text.encoded(f"MOUNTS {state.name} - {text.one_line(words)}\n", _stdout_encoding()), interrupts)

    return serve.run(options, reload, interrupts, say).value


def _internal(error: Exception) -> str:
    return f"internal error: {type(error).__name__}: {error}"


def _is_to_submit(arguments: list[str]) -> bool:
    """Does the command line ask for a single run's submission, as far as that can be told where it
    is wrong?"""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word.startswith("--submit") for word in words) and "--daemon" not in words


def _cannot(words: str, submits: bool, interrupts: Interrupts, below: str = "") -> int:
    """There is no result, and so nothing to submit. Where that was wanted it is said on stderr,
    too: the line of commands by which cron submits throws stdout away."""
    _write(text.encoded(f"MOUNTS UNKNOWN - {text.one_line(words)}\n{below}", _stdout_encoding()), interrupts)
    if submits:
        _complain(f"not submitted: {words}", interrupts)
    return State.UNKNOWN.value


def run(arguments: list[str], interrupts: Interrupts, noted: Notes, answers: Optional[bytes] = None) -> int:
    """The plugin with these arguments; the exit code. The state of -h and -V is UNKNOWN, as the
    guidelines demand.

    ``noted`` is told what comes next, for whoever watches this process. ``answers`` is what
    :func:`rehearse` gave, in a daemon."""
    begun = time.monotonic()
    reading.say_to(noted.step)
    # argparse looks for translations of its messages, in files, each time that it has something to
    # say (gettext(3)).
    os.environ["LANGUAGE"] = "C"
    options_parser = parser()
    submits = _is_to_submit(arguments)
    try:
        values = options_parser.parse_intermixed_args(arguments)
        if values.help or values.version:
            _write(
                (options_parser.format_help() if values.help else f"check_mounts {__version__}\n").encode("utf-8"),
                interrupts,
            )
            return State.UNKNOWN.value
        noted.until(begun + _deadline(values))
        options = _first_understood(options_parser, arguments, values, answers)
        submits = options.submission is not None and options.service is None
        if options.service is not None:
            return _serve(options, lambda: _understood_again(arguments), interrupts)
        noted.until(begun + options.settings.deadline)
        judged = _take(options, begun, interrupts, noted)
    except UsageError as error:
        return _cannot(str(error), submits, interrupts, below=options_parser.format_usage())
    except ImportError as error:  # a module of Python's own that cannot be opened: no descriptor to be had
        return _cannot(f"cannot start: {error}", submits, interrupts)
    except OSError as error:  # no descriptor to be had, no /dev/null: not even a pool can be made
        what = f"{error.strerror}: {text.printable_argument(str(error.filename))}" if error.filename else error.strerror
        return _cannot(f"cannot start: {what}", submits, interrupts)
    except Exception as error:  # a defect of ours; the last boundary, in __main__, says so on stdout
        if submits:
            _complain(f"not submitted: {_internal(error)}", interrupts)
        raise
    try:
        output, state = _report(judged, options)
    except Exception as error:  # nagiosplugin is not installed, or a defect of ours
        output, state = _report_plainly(judged, error)
    reading.step("writing the result")
    _write(output, interrupts)
    noted.told(state.value)
    if options.submission is not None:
        reading.step("submitting the result")
        noted.until(time.monotonic() + options.submission.timeout + _BESIDE_TIMEOUT)
        _submit(judged, options, options.submission, interrupts)
    return state.value
