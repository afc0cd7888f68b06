"""What an option is. All of them stand in option_table.

Import budget: ``enum``; what values needs."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from check_mounts.options.values import Parser
from check_mounts.typed import Any, NamedTuple, Optional


class Scope(enum.Enum):
    """The places that may give an option."""

    ANYWHERE = enum.auto()
    # The option is about the run, or about files that hold options, so a file cannot give it.
    COMMAND_LINE = enum.auto()


class Group(enum.Enum):
    """The groups of -h, by their titles."""

    SELECTION = "which mounts"
    DEMANDS = "what should be mounted"
    PROBING = "how to probe"
    JUDGING = "how bad it is"
    OUTPUT = "output"
    SERVICE = "the daemon, and its result"
    SUBMISSION = "results for servers that do not ask (passive checks)"


# Names that mean something else in Python.
_KEYWORDS: Mapping[str, str] = {"as": "identity", "for": "drill_length"}


class Option(NamedTuple):
    """One option. Its ``name`` is the long one, without dashes; ``short`` includes its dash.

    ``parse`` turns a word into its value; None for a flag. ``default`` is the value if nothing
    gives the option. The values of a ``repeatable`` option are collected in a list; a repeatable
    flag is counted. ``left_out`` is the value if the command line names the option without a value;
    None if it must give one. ``commas``: one word may hold several values, separated by commas, and
    ``parse`` returns a sequence. ``choices`` are all its values, if they can be listed.

    On the command line, the option needs one of those in ``only_with``, and cannot be combined with
    those in ``not_with``. ``in_mount`` parses the key of that name in a section ``[mount "GLOB"]``;
    None if there is no such key."""

    name: str
    group: Group
    help: str
    short: str = ""
    metavar: str = ""
    parse: Optional[Parser] = None
    default: Any = None
    repeatable: bool = False
    commas: bool = False
    choices: tuple[str, ...] = ()
    left_out: Optional[str] = None
    scope: Scope = Scope.ANYWHERE
    only_with: tuple[str, ...] = ()
    not_with: tuple[str, ...] = ()
    in_mount: Optional[Parser] = None

    @property
    def takes_value(self) -> bool:
        """False for a flag."""
        return self.parse is not None

    @property
    def dest(self) -> str:
        """The name of its value in Python."""
        return _KEYWORDS.get(self.name) or self.name.replace("-", "_")

    @property
    def long(self) -> str:
        """``--timeout``."""
        return f"--{self.name}"

    @property
    def words(self) -> tuple[str, ...]:
        """How the command line spells it: ``-t``, ``--timeout``."""
        return (self.short, self.long) if self.short else (self.long,)

    def given(self, value: Any) -> Any:
        """The value of the option if it is given once.

        ``value`` is the parsed word, or the number of times that the flag counts."""
        if self.repeatable and self.takes_value:
            return list(value) if self.commas else [value]
        return value

    @property
    def if_not_given(self) -> Any:
        """The value of the option if nothing gives it."""
        if self.repeatable and self.takes_value:
            return []
        return 0 if self.repeatable else self.default if self.takes_value else False
