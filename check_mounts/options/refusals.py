"""The errors of options and of files that hold options, with the lines that they come from."""

from __future__ import annotations

from collections.abc import Mapping

from check_mounts.typed import NamedTuple, NoReturn, Optional


class Origin(NamedTuple):
    """A line of a file. ``file`` is its path, fit for any output."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


class UsageError(Exception):
    """An option makes no sense; the message says why, on one line fit for any output.

    ``option`` is its long name (``--timeout``), or MOUNTPOINT; empty if the error is not about a
    single option. ``short`` is its short name. ``origin`` is the line of the file that gave the
    value; None if the command line gave it."""

    def __init__(self, option: str, why: str, short: str = "", origin: Optional[Origin] = None) -> None:
        super().__init__(option, why)
        self.option, self.why, self.short, self.origin = option, why, short, origin

    def __str__(self) -> str:
        if self.origin is not None:
            return f"{self.origin}: {self.option[2:]}: {self.why}" if self.option else f"{self.origin}: {self.why}"
        names = "/".join(name for name in (self.short, self.option) if name)
        return f"argument {names}: {self.why}" if names else self.why


class ConfigError(Exception):
    """A file that holds options makes no sense, or must not be trusted.

    The message says what is wrong and where, on one line fit for any output.

    ``origin`` is the line; None if the error is about the whole file, which ``why`` then names."""

    def __init__(self, origin: Optional[Origin], why: str) -> None:
        super().__init__(origin, why)
        self.origin, self.why = origin, why

    def __str__(self) -> str:
        return self.why if self.origin is None else f"{self.origin}: {self.why}"


class Unreadable(ConfigError):
    """The caller may not read the file."""


def blamed(error: UsageError, origins: Mapping[str, Origin]) -> UsageError:
    """The error with the file and line that the value came from, if it came from a file."""
    origin = origins.get(error.option[2:])
    if origin is None or error.origin is not None:
        return error
    return UsageError(error.option, error.why, error.short, origin)


def refuse(option: str, why: str) -> NoReturn:
    """Raises UsageError for an option, named by its long name."""
    raise UsageError(option, why)
