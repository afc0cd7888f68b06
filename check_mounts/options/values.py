"""The parsers of the values of options, which the command line and the configuration share.

A parser takes a word as Python decodes arguments (surrogateescape) and raises ValueError with a
reason in words, on one line fit for any output. Import budget: only modules that every run needs
anyway."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.clocks import epoch
from check_mounts.judging.thresholds import Capacity, Range, parse_capacity
from check_mounts.model import Condition, ExpectedMount, State
from check_mounts.outcome import Step
from check_mounts.typed import TYPE_CHECKING, Any, Optional, TypeVar, Union

if TYPE_CHECKING:
    from check_mounts.incidents.since import Since
    from check_mounts.report.each import Chosen
    from check_mounts.traffic import Measure

# Longer than any sensible interval or timeout, and short enough that all sums are valid times.
MOST_SECONDS = 366 * 86400.0
MOST_FLAGS = 9
UNUSUAL, _MOST_TIMES = 5.0, 10_000  # how many times the usual time is slow: by default, at most

Parser = Callable[[str], Any]
_Value = TypeVar("_Value")

_BLANKS = " \t"
_MAX_CANARY = 1024
_MAX_GLOB = 4096  # PATH_MAX; a pattern takes far more memory once it is compiled
# float() would also take blanks, underscores, digits of other scripts, nan and inf.
_DECIMAL = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)\Z"
# Patterns that neither are lists nor hold anything strange. Compiled only where there is one.
_USUAL_PATH = r"(?:/[\w*?-][\w.*?-]*)+\Z"
_USUAL_TYPES = r"[a-z0-9.*?-]*[*?][a-z0-9.*?-]*\Z"
_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def shown(word: str) -> str:
    """A word fit for a message: printable, without secrets, and not too long."""
    return text.excerpt(os.fsencode(word))


def seconds(word: str) -> float:
    """A decimal number of seconds above 0, at most a year."""
    value = float(word) if re.match(_DECIMAL, word) else math.nan
    if not value > 0:
        raise ValueError(f"'{shown(word)}' is not a positive number of seconds")
    if value > MOST_SECONDS:
        raise ValueError(f"'{shown(word)}' is more than a year")
    return value


def seconds_or_none(word: str) -> float:
    """The same, or 0."""
    return 0.0 if re.match(_DECIMAL, word) and float(word) == 0 else seconds(word)


def whole(least: int, most: int, also: Optional[int] = None) -> Callable[[str], int]:
    """The parser of whole numbers within these bounds; it also takes ``also``, outside of them."""

    def parse(word: str) -> int:
        value = int(word) if word.isascii() and word.isdigit() and len(word) < 12 else -1
        if not least <= value <= most and (also is None or value != also):
            other = "" if also is None else f", or {also}"
            raise ValueError(f"'{shown(word)}' is not a whole number from {least} to {most}{other}")
        return value

    return parse


def _hint(word: str, known: Iterable[str]) -> str:
    from check_mounts import nearest  # a run without errors does not need it

    return nearest.hint(word, known)


def choice(*words: str) -> Callable[[str], str]:
    """The parser that takes one of these words."""

    def parse(word: str) -> str:
        if word not in words:
            raise ValueError(f"'{shown(word)}' is not one of {', '.join(words)}{_hint(word, words)}")
        return word

    return parse


def choices(*words: str, alone: Collection[str]) -> Callable[[str], str]:
    """The parser that takes some of these words, separated by commas; those in ``alone`` only by
    themselves."""

    def parse(word: str) -> str:
        given = [choice(*words)(each.strip()) for each in word.split(",")]
        lonely = next((each for each in given if each in alone and len(set(given)) > 1), None)
        if lonely is not None:
            raise ValueError(f"'{lonely}' cannot be combined with others")
        return ",".join([each for each in words if each in given])

    return parse


def boolean(word: str) -> bool:
    """``yes``/``no``, ``true``/``false``, ``on``/``off`` or ``1``/``0``, in upper or lower case."""
    if not word.isascii() or word.lower() not in _BOOLEANS:
        raise ValueError(f"'{shown(word)}' is neither yes nor no")
    return _BOOLEANS[word.lower()]


def times(word: str) -> int:
    """The number of times that a flag counts: a digit, or ``yes`` for once."""
    if not word.isascii() or not (word.lower() in _BOOLEANS or (len(word) == 1 and word.isdigit())):
        raise ValueError(f"'{shown(word)}' is not a number from 0 to {MOST_FLAGS}")
    return int(_BOOLEANS.get(word.lower(), word))


def some(word: str) -> str:
    """Any word but an empty one."""
    if not word:
        raise ValueError("the value is empty")
    return word


def some_bytes(word: str) -> bytes:
    """Any word but an empty one, as bytes."""
    return os.fsencode(some(word))


def absolute_path(word: str) -> str:
    """A path that begins with a slash."""
    if not some(word).startswith("/"):
        raise ValueError(f"'{shown(word)}' is not an absolute path")
    return word


def parts(word: str) -> Sequence[str]:
    """The parts of a list, separated by commas; blanks around them do not count."""
    found = [part.strip(_BLANKS) for part in word.split(",")]
    if not all(found):
        raise ValueError(f"'{shown(word)}' has an empty part" if word else "the value is empty")
    return found


def latency(word: str) -> Range:
    """A range of seconds."""
    return _parsed_as("range", word, Range.parse)


def limit(word: str) -> tuple[Union[Step, Measure, None], Range]:
    """``RANGE`` for the whole probe, ``STEP=RANGE`` for one of its steps, ``MEASURE=RANGE`` for
    what programs did."""
    name, equals, rest = word.rpartition("=")
    if not equals:
        return None, latency(word)
    steps = {step.word: step for step in Step}
    lower = name.lower() if name.isascii() else ""
    if lower in steps:
        return steps[lower], latency(rest)
    from check_mounts.judging import units  # most runs have no such threshold

    if lower not in units.MEASURES:
        words = f"the steps are {', '.join(steps)}; the measures of a daemon are {', '.join(units.MEASURES)}"
        raise ValueError(f"'{shown(word)}': {words}{_hint(name, (*steps, *units.MEASURES))}")
    measure = units.MEASURES[lower]
    return measure, _parsed_as("range", rest, units.parse_time if measure.is_time else units.parse_share)


def unusual(word: str) -> float:
    """How many times the usual time is slow: a number, ``yes``, or ``no`` for never."""
    if word.isascii() and word.lower() in _BOOLEANS and word != "1":
        return UNUSUAL * _BOOLEANS[word.lower()]
    if not re.match(_DECIMAL, word) or not 2 <= float(word) <= _MOST_TIMES:
        raise ValueError(f"'{shown(word)}' is not a number from 2 to {_MOST_TIMES}, yes or no")
    return float(word)


def capacity(word: str) -> Capacity:
    """A range of the percentage in use, or of the free amount."""
    return _parsed_as("range of the percentage in use or of the free amount", word, parse_capacity)


def severities(word: str) -> tuple[tuple[Condition, State], ...]:
    """One or several ``CONDITION=STATE``."""
    return tuple(_severity(part) for part in parts(word))


def _severity(part: str) -> tuple[Condition, State]:
    name, equals, state = (each.strip(_BLANKS) for each in part.partition("="))
    states = {known.name.lower(): known for known in State}
    if not equals:
        raise ValueError(f"'{shown(part)}' is not CONDITION=STATE")
    condition = condition_of(name, part)
    if not state.isascii() or state.lower() not in states:
        raise ValueError(f"'{shown(part)}': the states are {', '.join(states)}{_hint(state, states)}")
    return condition, states[state.lower()]


def condition_of(name: str, word: str) -> Condition:
    """The condition of this name, which stands in ``word``."""
    conditions = {condition.value: condition for condition in Condition}
    # lower() turns some other letters into ASCII: the Kelvin sign into a k.
    condition = conditions.get(name.lower().replace("_", "-")) if name.isascii() else None
    if condition is None:
        raise ValueError(f"'{shown(word)}': the conditions are {', '.join(conditions)}{_hint(name, conditions)}")
    return condition


def pattern(word: str) -> selection.Glob:
    """A shell pattern."""
    if word[:1] in ("'", '"'):
        from check_mounts.options import patterns  # see types

        patterns.check_quotes(os.fsencode(word))
    return _pattern(word, selection.compile_glob)


def patterns(word: str) -> tuple[selection.Glob, ...]:
    """One or several shell patterns."""
    return tuple(pattern(part) for part in parts(word))


def types(word: str) -> tuple[selection.Glob, ...]:
    """One or several shell patterns of types of filesystems."""
    found = [(part, pattern(part)) for part in parts(word)]
    for part, _ in found:
        if not (re.match(_USUAL_TYPES, part, re.ASCII) or filesystems.names_type(os.fsencode(part))):
            from check_mounts.options import patterns  # usual words do not need it

            patterns.check_type(os.fsencode(part))
    return tuple(compiled for _, compiled in found)


def path_globs(word: str) -> tuple[selection.PathGlob, ...]:
    """One or several shell patterns of mount points, as the kernel spells them."""
    if re.match(_USUAL_PATH, word, re.ASCII):
        return (path_glob_as_written(word),)
    from check_mounts.options import patterns  # see types

    _pattern(word, selection.compile_glob)  # if it is no pattern at all, that is the reason
    return tuple(path_glob_as_written(os.fsdecode(part)) for part in patterns.of_mount_points(os.fsencode(word)))


def path_glob(word: str) -> selection.PathGlob:
    """A shell pattern of mount points, as the kernel spells them."""
    from check_mounts.options import patterns  # see types

    _pattern(word, selection.compile_glob)
    return path_glob_as_written(os.fsdecode(patterns.of_mount_point(os.fsencode(word))))


def path_glob_as_written(word: str) -> selection.PathGlob:
    """A shell pattern of mount points, trailing slash and all."""
    return _pattern(word, selection.PathGlob)


def canary(word: str) -> tuple[selection.PathGlob, bytes]:
    """``GLOB=FILE``, split at the last ``=``."""
    glob, equals, file = word.rpartition("=")
    if not equals:
        raise ValueError(f"'{shown(word)}' is not GLOB=FILE")
    return path_glob(glob), canary_file(file)


def canary_file(word: str) -> bytes:
    """A path below a mount point."""
    if word.startswith("/"):
        raise ValueError(f"'{shown(word)}' must be relative to the mount point")
    parts = [part for part in some_bytes(word).split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts or word.endswith("/"):
        raise ValueError(f"'{shown(word)}' is not the path of a file below a mount point, without '..'")
    if len(word) > _MAX_CANARY:
        raise ValueError(f"a path of more than {_MAX_CANARY} bytes")
    return b"/".join(parts)


def _pattern(word: str, compiled: Callable[[bytes], _Value]) -> _Value:
    encoded = os.fsencode(word)
    if len(encoded) > _MAX_GLOB:
        raise ValueError(f"a pattern of more than {_MAX_GLOB} bytes")
    return _parsed_as("pattern", word, lambda _: compiled(encoded))


def _parsed_as(what: str, word: str, parse: Callable[[str], _Value]) -> _Value:
    """``parse(word)``; its ValueError also says that the word is not a ``what``."""
    try:
        return parse(word)
    except ValueError as error:
        raise ValueError(f"'{shown(word)}' is not a {what}: {text.clipped(str(error), 200)}") from None


def user(word: str) -> str:
    """``owner``, ``self``, or the name or number of a user, not looked up."""
    return some(word)


def fs_type(word: str) -> bytes:
    """A filesystem type."""
    from check_mounts.declared import option_spelling  # takes some milliseconds, and most runs declare no mount

    option_spelling.check_type(some_bytes(word))
    return os.fsencode(word)


def mount_options(word: str, of_type: Optional[bytes] = None) -> tuple[bytes, ...]:
    """Mount options, separated by commas, that a filesystem of type ``of_type`` can have."""
    from check_mounts.declared import option_spelling  # see fs_type

    found = tuple(map(os.fsencode, parts(word)))
    for option in found:
        option_spelling.check_spelling(option, of_type)
    return found


def expected_mount(word: str) -> ExpectedMount:
    """A declaration: ``MOUNTPOINT[,source=SOURCE][,type=TYPE][,OPTION]...``."""
    from check_mounts.declared import spec  # see fs_type

    try:
        return spec.parse_spec(os.fsencode(word))
    except ValueError as error:
        # One of the options may be a password.
        point = word.partition(",")[0] + ",..." * ("," in word)
        raise ValueError(f"'{shown(point)}': {error}") from None


def per_mount(word: str) -> Sequence[Chosen]:
    """Which mounts have a result of their own: ``yes`` for all, ``no`` for none, or some."""
    from check_mounts.report import each  # most runs have one result only

    if word.isascii() and word.lower() in _BOOLEANS:
        return (each.Chosen("yes", each.By.ALL),) if _BOOLEANS[word.lower()] else ()
    return tuple(map(_chosen, parts(word)))


def _chosen(part: str) -> Chosen:
    from check_mounts.report import each

    if part[:1] in ("/", "*", "?", "["):
        return each.Chosen(shown(part), each.By.PATH, path_glob(part))
    name, equals, rest = part.partition("=")
    if equals and name in ("type", "source"):
        return each.Chosen(shown(part), each.By[name.upper()], pattern(rest))
    if part in ("remote", "local"):
        return each.Chosen(part, each.By[part.upper()])
    wanted = "a pattern of mount points, type=GLOB, source=GLOB, remote, local, yes or no"
    raise ValueError(f"'{shown(part)}' is not {wanted}")


def command(word: str) -> tuple[str, ...]:
    """A program and its arguments, separated by blanks. No shell reads them, so what only a shell
    would understand is refused."""
    words = tuple(word.split())
    strange = next((char for char in word if char in "'\"\\`$;&|<>*?~#()"), None)
    if strange is not None:
        raise ValueError(f"'{shown(word)}': no shell reads this, so {strange} means nothing: put it into a script")
    if not words or not words[0].startswith("/"):
        raise ValueError(f"'{shown(word)}' does not begin with an absolute path")
    return words


def since(word: str) -> Since:
    """A duration, or a time that is over."""
    from check_mounts.incidents import since as times  # only --incidents needs it

    try:
        return times.parse(word, epoch())
    except ValueError as error:
        raise ValueError(f"'{shown(word)}': {error}") from None


def log_facility(word: str) -> str:
    """A facility of syslog(3)."""
    from check_mounts.system import logs  # of no use to a single run

    return choice(*logs.FACILITIES)(word)


def log_ident(word: str) -> str:
    """The name that log lines begin with."""
    from check_mounts.system import logs  # see log_facility

    try:
        return logs.check_ident(word)
    except ValueError as error:
        raise ValueError(f"'{shown(word)}': {error}") from None


def object_name(word: str) -> str:
    """The name of a host or service, as a monitoring server knows it.

    It must not hold a character that a command file, NSCA or Icinga 2 would take for its end."""
    if not word.strip() or not word.isprintable() or any(char in ";!" for char in word):
        raise ValueError(f"'{shown(word)}' is not the name of a host or service")
    return word
