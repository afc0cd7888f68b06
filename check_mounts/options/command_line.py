"""The command line -> the values that it gives.

A line that is plainly regular is read here: each of its words is an option in full, a value, or a
mount point. For all others, for errors and for help, argparse (option_parser) does the same; but to
load it and to make its parser takes a tenth of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace

from check_mounts import text
from check_mounts.options.option import Option
from check_mounts.options.option_table import BY_NAME, BY_WORD, MOUNT_POINTS, OPTIONS
from check_mounts.options.refusals import UsageError, refuse
from check_mounts.outcome import Step
from check_mounts.typed import Any, Optional

# The values of all options, by their names in Python.
Values = SimpleNamespace

# The part of the deadline for the start and the end of a run, in seconds: with the default timeout,
# the deadline is one second less than check_nrpe waits.
BESIDE_TIMEOUT = 4.0
# How long --wait waits if the command line does not say, in seconds.
WAIT = 60.0
# The options whose value may be left out. If it is given, it must follow an equals sign.
_LEFT_OUT = {option.long: option for option in OPTIONS if option.left_out is not None}


def given(arguments: Sequence[str]) -> dict[str, Any]:
    """The values and mount points that the command line gives. Raises UsageError."""
    words = with_values(arguments)
    known = regular(words)
    values = by_argparse(words) if known is None else known
    return _with_limit_of_wait(values) if values.get("wait") else values


def _with_limit_of_wait(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a line with ``--wait``, where ``--timeout`` limits the whole wait, as
    ``--deadline`` does. Only together with that option does it limit one mount."""
    if "deadline" not in values:
        values["deadline"] = values.pop("timeout", WAIT)
    return values


def by_argparse(words: Sequence[str]) -> dict[str, Any]:
    """The values that any line gives. Raises UsageError."""
    from check_mounts.options import option_parser  # nothing hangs yet: this is before the first probe

    _refuse_single_dashes(words)
    values, unknown = option_parser.read(words)
    if unknown:
        raise UsageError("", "; ".join(map(_unknown, unknown)))
    return values


def _refuse_single_dashes(words: Sequence[str]) -> None:
    """Raises UsageError for ``-timeout``, which argparse would take for ``-t imeout``."""
    for word in _before_end(words):
        name = word.partition("=")[0]
        if len(name) > 2 and f"-{name}" in BY_WORD:
            raise UsageError("", f"{name}: unknown option; the nearest is -{name}")


def _unknown(word: str) -> str:
    """The message for an unknown option, without its value, which may be a secret."""
    from check_mounts import nearest  # a run without errors does not need it

    name = without_value(word.partition("=")[0])
    close = nearest.hint(name, [option.long for option in OPTIONS], quote="") if name[:2] == "--" else ""
    return f"{name}: unknown option{close}"


def regular(words: Sequence[str]) -> Optional[dict[str, Any]]:
    """The values that a regular line gives; None for any other."""
    values: dict[str, Any] = {MOUNT_POINTS: []}
    try:
        for option, word in _pairs(iter(words)):
            if option is None:
                values[MOUNT_POINTS].append(word)
            elif option.parse is None:
                values[option.dest] = values.get(option.dest, 0) + len(word) if option.repeatable else True
            elif option.repeatable:
                values.setdefault(option.dest, []).extend(option.given(option.parse(word)))
            else:
                values[option.dest] = option.parse(word)
    except ValueError:
        return None
    return values


def _pairs(words: Iterator[str]) -> Iterator[tuple[Optional[Option], str]]:
    """Each option with its value, and each mount point as (None, its word). A flag has a word as
    long as the number of times that it is given. Raises ValueError for what is not regular."""
    for word in words:
        name, equals, value = word.partition("=")
        option = BY_WORD.get(name)
        if not word.startswith("-"):
            yield None, word
        elif option is None and word == "-" + "v" * (len(word) - 1) != "-":
            yield BY_WORD["-v"], word[1:]
        elif option is None or value == "--" or (equals and not (option.takes_value and word.startswith("--"))):
            raise ValueError(word)
        elif equals:
            yield option, value
        elif option.takes_value:
            following = next(words, "-")
            if following.startswith("-"):
                raise ValueError(word)
            yield option, following
        else:
            yield option, "1"


def without_value(unknown: str) -> str:
    """An unknown option without its value, which may be a secret of another program."""
    name, equals, _ = unknown.partition("=")
    if name[:2] != "--" and len(name) > 2:
        return text.printable_argument(name[:2]) + "..."
    return text.printable_argument(name) + ("=..." if equals else "")


def refuse_measures(given: Mapping[str, Any]) -> None:
    """Raises UsageError for a threshold that only a daemon can judge."""
    parts = {part for bound in ("warning", "critical") for part, _ in given.get(bound, ())}
    if "daemon" not in given and parts - {None, *Step}:
        from check_mounts.options import contradictions

        contradictions.refuse_measures(given)


def with_defaults(*given_in_turn: Mapping[str, Any]) -> Values:
    """The values of all options. Later ones win, or are added to earlier ones."""
    values: dict[str, Any] = {MOUNT_POINTS: [], **{option.dest: option.if_not_given for option in OPTIONS}}
    for each in given_in_turn:
        for option in OPTIONS:
            if option.dest in each:
                said = each[option.dest]
                values[option.dest] = values[option.dest] + said if option.repeatable else said
        values[MOUNT_POINTS] = each.get(MOUNT_POINTS, values[MOUNT_POINTS])
    return Values(**values)


def deadline_of(said: Values) -> float:
    """The deadline of the whole run, in seconds."""
    return float(said.timeout + BESIDE_TIMEOUT if said.deadline is None else said.deadline)


def checked_deadline(said: Values, given: Collection[str]) -> float:
    """The deadline. Raises UsageError if the timeout is longer. A short wait shortens the timeout
    instead, unless the command line gives both."""
    deadline = deadline_of(said)
    if said.wait and "timeout" not in given:
        said.timeout = min(said.timeout, deadline)
    if deadline < said.timeout:
        refuse("--deadline", f"{deadline:g} s is shorter than the timeout of {said.timeout:g} s for one mount")
    return deadline


def check_combination(given: Collection[str], said: Values) -> None:
    """Raises UsageError for an option that cannot be combined with another, or needs another.

    Only the command line counts: a file may also hold options for a daemon that reads it, too."""
    for option in OPTIONS:
        if option.dest not in given:
            continue
        for other in option.not_with:
            if getattr(said, BY_NAME[other].dest):
                refuse(option.long, f"does not go with --{other}")
        if option.only_with and not any(getattr(said, BY_NAME[other].dest) for other in option.only_with):
            refuse(option.long, f"goes with {' or '.join(f'--{other}' for other in option.only_with)} only")
    if "per_mount" in given and said.json:
        refuse("--per-mount", "does not go with --json, which has each mount anyway")
    if "per_mount" in given and said.daemon and not said.submit:
        refuse("--per-mount", "goes with --submit only, in a daemon")


def refuse_beside(mode: str, taken: Collection[str], given: Collection[str]) -> None:
    """Raises UsageError for an option that does not go with ``--mode``, which takes only those in
    ``taken``."""
    for option in OPTIONS:
        if option.dest in given and option.dest not in taken:
            refuse(option.long, f"does not go with --{mode}")


def names(arguments: Sequence[str], wanted: Iterable[str]) -> bool:
    """Whether the command line names one of these options, such as ``--submit``.

    It may be a wrong command line, so nothing but the names counts."""
    words = {word.partition("=")[0] for word in _before_end(arguments)}
    return not words.isdisjoint(wanted)


def _before_end(arguments: Sequence[str]) -> Sequence[str]:
    """The words before ``--``; there are no options after it."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def with_values(arguments: Sequence[str]) -> list[str]:
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
    After the others, it does not begin with a slash, as a mount point would."""
    if option == "--fstab":
        return word.startswith("/") and "fstab" in word.rpartition("/")[2]
    return option in ("--extra-opts", "--write-config") and not word.startswith(("/", "-"))
