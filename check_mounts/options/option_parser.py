"""A parser of argparse, made from the table of options: for command lines that command_line does
not read itself, and for help.

Errors of argparse become a :class:`UsageError`. argparse must print nothing and end no process: its
exit code 2 would mean CRITICAL to monitoring."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence

from check_mounts.options.option import Group, Option
from check_mounts.options.option_table import (
    BY_NAME,
    BY_WORD,
    MOUNT_POINTS,
    OPTIONS,
    SYNOPSIS,
)
from check_mounts.options.refusals import UsageError
from check_mounts.typed import Any, NoReturn

# The width of help where there is no terminal. On wider ones, too: longer lines are hard to read.
WIDTH = 100
# The options that people need most, in the order in which -h shows them.
_COMMON = (
    "exclude-type",
    "exclude",
    "remote",
    "fstab",
    "timeout",
    "warning",
    "critical",
    "verbose",
    "daemon",
    "cached",
)
# The command lines that -h shows, and what each does.
EXAMPLES = (
    ("check_mounts -v", "all mounts, with a line for each that is not ok; best run as root"),
    ("check_mounts --fstab -X 'fuse.*' -x '/mnt/*'", "what fstab declares, too; no FUSE, nothing below /mnt"),
    ("check_mounts --remote -t 3 -w 0.5 -c 2", "network filesystems only, with limits in seconds"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("", message)


def parser(width: int = WIDTH) -> argparse.ArgumentParser:
    """The parser of all options, as --help-all and the man page list them. It gives no defaults.
    ``width`` is that of its help."""
    result = _parser(
        width,
        "GLOBs are shell patterns that match as a whole; '*' matches '/' too. "
        "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    )
    groups = {group: result.add_argument_group(group.value) for group in Group}
    for option in OPTIONS:
        groups[option.group].add_argument(*option.words, dest=option.dest, **_traits(option))
    return result


def _parser(width: int, epilog: str) -> argparse.ArgumentParser:
    """A parser without options."""
    result = _Parser(
        prog="check_mounts",
        usage=SYNOPSIS,
        description="Check every mounted filesystem, each in a worker that can be given up, and never hang.",
        epilog=epilog,
        allow_abbrev=False,
        add_help=False,
        exit_on_error=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=min(32, width // 3), width=width),
    )
    words = "check only these; one that is not mounted is missing"
    result.add_argument(MOUNT_POINTS, metavar="MOUNTPOINT", nargs="*", default=[], help=words)
    return result


def help_text(in_full: bool, width: int = WIDTH) -> str:
    """The text of --help-all, or that of -h: the options that people need most, with examples.

    No line has more than ``width`` columns."""
    width = min(width, WIDTH)
    words = (parser(width) if in_full else _short_parser(width)).format_help()
    return "".join(_folded(line, width) + "\n" for line in words.splitlines())


def _folded(line: str, width: int) -> str:
    """A line that argparse does not fold itself: a heading, an option with its value."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False)


def _short_parser(width: int) -> argparse.ArgumentParser:
    """A parser with the help of -h."""
    result = _parser(width, f"--help-all lists all {len(OPTIONS)} options; check_mounts(8) explains them.")
    group = result.add_argument_group("the options that people need most")
    for option in map(BY_NAME.__getitem__, _COMMON):
        group.add_argument(*option.words, dest=option.dest, **_traits(option))
    examples = result.add_argument_group("examples")
    for command, what in EXAMPLES:  # as if they were options: so their columns are those of the others
        examples.add_argument(f"{command}", help=what.replace("%", "%%"))
    return result


def _traits(option: Option) -> dict[str, Any]:
    """The arguments that declare an option to argparse."""
    traits: dict[str, Any] = {"help": option.help.replace("%", "%%")}
    if not option.takes_value:
        return {**traits, "action": "count" if option.repeatable else "store_true"}
    traits.update(metavar=option.metavar, type=_value_parser(option))
    if option.repeatable:
        traits["action"] = "extend" if option.commas else "append"
    if option.left_out is not None:
        traits["nargs"] = "?"
    return traits


def _value_parser(option: Option) -> Callable[[str], Any]:
    """The option's parser, with UsageError in place of ValueError.

    argparse would drop the words of a ValueError."""
    parse = option.parse
    assert parse is not None

    def understood(word: str) -> Any:
        try:
            return parse(word)
        except ValueError as error:
            raise UsageError(option.long, str(error), option.short) from None

    return understood


def read(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values and mount points that a command line gives, and its unknown words. Raises
    UsageError."""
    try:
        values, unknown = parser().parse_known_intermixed_args(words)
    except argparse.ArgumentError as error:
        option = BY_WORD.get((error.argument_name or "").rpartition("/")[2])
        if option is None:
            raise UsageError("", "the arguments make no sense") from None
        # argparse would repeat the value of a flag, which may be a secret of another program.
        why = "expected one argument" if option.takes_value else "takes no value"
        raise UsageError(option.long, why, option.short) from None
    return vars(values), unknown
