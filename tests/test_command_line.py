"""The two readers of a command line, ours for regular ones and argparse, agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from check_mounts.options import command_line, option_parser
from check_mounts.options.option_table import OPTIONS, SYNOPSIS
from check_mounts.options.refusals import UsageError

ROOT = Path(__file__).resolve().parent.parent
VALUES = [
    "", "5", "0.5", "-5", "-", "--", "-x", "a b", "-a b", "ext4,xfs", "*", "[", "/", "/srv", "=", "a=b", "--json",
    "dead=ok", "statfs=1", "1:2", "90%", "10GiB:", "skip", "mounts", "owner", "/etc/fstab", "s@/f", "/m,ro",
    "\udcff", "ü", "@f",
]  # fmt: skip
FLAGS = [word for option in OPTIONS for word in option.words]
WORDS = some.one_of(
    some.sampled_from(FLAGS),
    some.sampled_from(VALUES),
    some.tuples(some.sampled_from(FLAGS), some.sampled_from(["=", ""]), some.sampled_from(VALUES)).map("".join),
    some.sampled_from(["-vv", "-vvv", "-vV", "-vt", "-v5", "--no-such", "--time", "--verbos", "-t5", "-Next4"]),
    some.text(max_size=4),
)
# What a check's command definition has: an option with its value, in one word or in two.
USUAL = some.one_of(
    some.sampled_from([option for option in OPTIONS if option.takes_value]).flatmap(
        lambda option: some.tuples(some.sampled_from(option.words), some.sampled_from(VALUES))
    ),
    some.tuples(some.sampled_from([word for option in OPTIONS if not option.takes_value for word in option.words])),
    some.tuples(some.sampled_from(["/", "/srv", "-vv"])),
)


def told(found: Any) -> Any:
    """What can be compared: patterns by what was written."""
    if isinstance(found, (list, tuple)):
        return [told(each) for each in found]
    if isinstance(found, dict):
        return {name: told(value) for name, value in found.items()}
    return getattr(found, "_as_written", found)


def outcome(arguments: list[str], ours: bool) -> Any:
    try:
        words = command_line.with_values(arguments)
        known = command_line.regular(words) if ours else None
        return told(command_line.by_argparse(words) if known is None else known)
    except UsageError as error:
        return str(error), error.option, error.short


@given(some.lists(WORDS, max_size=6))
@example(["--fstab"])
@example(["--fstab", "/etc/fstab"])
@example(["--extra-opts", "s"])
@example(["--extra-opts", "/x"])
@example(["-v", "--", "-v"])
@example(["/a", "-t", "5", "/b"])
def test_any_line(arguments: list[str]) -> None:
    assert outcome(arguments, ours=True) == outcome(arguments, ours=False)


@given(some.lists(USUAL, max_size=4))
def test_a_usual_line(pairs: list[tuple[str, ...]]) -> None:
    arguments = [word for pair in pairs for word in pair]
    assert outcome(arguments, ours=True) == outcome(arguments, ours=False)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_is_regular(option: Any) -> None:
    """Or the reader would be correct, and of no use."""
    example = {
        "RANGE": "5:",
        "SECONDS": "5",
        "N": "5",
        "BYTES": "500",
        "CONDITION=STATE": "dead=ok",
        "SPEC": "/m",
        "MOUNTPOINT=CONDITION": "/m=dead",
        "TIME": "5m",
        "FACTOR": "5",
        "GLOB": "/m",
        "GLOB=FILE": "/m=a",
        "COMMAND": "/m",
    }
    value = option.choices[0] if option.choices else example.get(option.metavar, "daemon")
    value = "5" if option.metavar == "[STEP=]RANGE" else "ext4" if option.name.endswith("-type") else value
    for word in option.words:
        lines: list[list[str]] = [[word]] if not option.takes_value else [[word, value]]
        if option.takes_value and word == option.long:
            lines.append([f"{word}={value}"])
        if option.left_out is not None:
            lines = [[word], [f"{word}={value}"]]
        for line in lines:
            found = command_line.regular(command_line.with_values(line))
            assert found is not None and option.dest in found, line
            assert told(found) == told(command_line.by_argparse(command_line.with_values(line)))


@pytest.mark.parametrize(
    "line", [["--"], ["-"], ["-t"], ["-t5"], ["-t", "-5"], ["--json=yes"], ["-v=1"], ["--time", "5"], ["-vt", "5"],
             ["-t", "x"]],
)  # fmt: skip
def test_what_argparse_has_to_read(line: list[str]) -> None:
    assert command_line.regular(line) is None


def test_the_synopsis_is_what_argparse_prints() -> None:
    assert option_parser.parser().format_usage() == f"usage: {SYNOPSIS}\n"


@pytest.mark.parametrize(("argument", "wanted"), [("-vv", None), ("--timeout=5", None), ("--no-such", "argparse")])
def test_argparse_is_loaded_only_for_others(argument: str, wanted: Optional[str]) -> None:
    code = (
        "import sys; from check_mounts import run; from check_mounts.options import command_line\n"
        "try: command_line.given(sys.argv[1:])\n"
        "except Exception: pass\n"
        "print({'argparse', 'gettext'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ("argparse" in result.stdout) is (wanted is not None)
