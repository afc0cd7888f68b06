"""The command line -> the values that it gives, through an argparse parser made from the table of
options.

Errors of argparse become a :class:`UsageError`. argparse must print nothing and end no process: its
exit code 2 would mean CRITICAL to monitoring."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence

from check_mounts import text
from check_mounts.options.option_table import BY_WORD, OPTIONS, Group, Option
from check_mounts.options.refusals import UsageError
from check_mounts.typed import Any, NoReturn

MOUNT_POINTS = "mount_points"

# The options whose value may be left out. If it is given, it must follow an equals sign.
_LEFT_OUT = {option.long: option for option in OPTIONS if option.left_out is not None}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("", message)


def parser() -> argparse.ArgumentParser:
    """The parser of all options, as -h and the man page list them. It gives no defaults."""
    result = _Parser(
        prog="check_mounts",
        usage="check_mounts [OPTION]... [MOUNTPOINT]...",
        description="Check every mounted filesystem, each in a worker that can be given up, and never hang.",
        epilog="GLOBs are shell patterns that match as a whole; '*' matches '/' too. "
        "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
        allow_abbrev=False,
        add_help=False,
        exit_on_error=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
    )
    words = "check only these; one that is not mounted is missing"
    result.add_argument(MOUNT_POINTS, metavar="MOUNTPOINT", nargs="*", default=[], help=words)
    groups = {group: result.add_argument_group(group.value) for group in Group}
    for option in OPTIONS:
        groups[option.group].add_argument(*option.words, dest=option.dest, **_traits(option))
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


def given(options_parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """The values and mount points that the command line gives. Raises UsageError."""
    try:
        values, unknown = options_parser.parse_known_intermixed_args(_with_values(arguments))
    except argparse.ArgumentError as error:
        option = BY_WORD.get((error.argument_name or "").rpartition("/")[2])
        if option is None:
            raise UsageError("", "the arguments make no sense") from None
        # argparse would repeat the value of a flag, which may be a secret of another program.
        why = "expected one argument" if option.takes_value else "takes no value"
        raise UsageError(option.long, why, option.short) from None
    if unknown:
        raise UsageError("", f"unrecognized arguments: {' '.join(map(without_value, unknown))}")
    return vars(values)


def without_value(unknown: str) -> str:
    """An unknown option without its value, which may be a secret of another program."""
    name, equals, _ = unknown.partition("=")
    if name[:2] != "--" and len(name) > 2:
        return text.printable_argument(name[:2]) + "..."
    return text.printable_argument(name) + ("=..." if equals else "")


def with_defaults(*given_in_turn: Mapping[str, Any]) -> argparse.Namespace:
    """The values of all options. Later ones win, or are added to earlier ones."""
    values: dict[str, Any] = {MOUNT_POINTS: [], **{option.dest: option.if_not_given for option in OPTIONS}}
    for each in given_in_turn:
        for option in OPTIONS:
            if option.dest in each:
                said = each[option.dest]
                values[option.dest] = values[option.dest] + said if option.repeatable else said
        values[MOUNT_POINTS] = each.get(MOUNT_POINTS, values[MOUNT_POINTS])
    return argparse.Namespace(**values)


def names(arguments: Sequence[str], wanted: Iterable[str]) -> bool:
    """Whether the command line names one of these options, such as ``--submit``.

    It may be a wrong command line, so nothing but the names counts."""
    words = {word.partition("=")[0] for word in _before_end(arguments)}
    return not words.isdisjoint(wanted)


def _before_end(arguments: Sequence[str]) -> Sequence[str]:
    """The words before ``--``; there are no options after it."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _with_values(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a value for each option whose value was left out. Raises UsageError.

    argparse would take the next word: in ``--fstab /srv`` the mount point, which may hang when it
    is opened."""
    words = _before_end(arguments)
    for word, next_word in zip(words, words[1:]):
        if word in _LEFT_OUT and _is_meant_for(word, next_word):
            shown = text.printable_argument(next_word)
            raise UsageError(word, f"'{shown}' would be a MOUNTPOINT; write {word}={shown}")
    filled = [f"{word}={_LEFT_OUT[word].left_out}" if word in _LEFT_OUT else word for word in words]
    return [*filled, *arguments[len(words) :]]


def _is_meant_for(option: str, word: str) -> bool:
    """Whether a word that follows such an option is meant as its value.

    After ``--fstab``, that is a path whose last part holds "fstab": no mount point is called so.
    After ``--extra-opts``, it does not begin with a slash, as a mount point would."""
    if option == "--fstab":
        return word.startswith("/") and "fstab" in word.rpartition("/")[2]
    return option == "--extra-opts" and not word.startswith(("/", "-"))
