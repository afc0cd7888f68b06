"""What a person sees who runs the program on a terminal: a real one, of tmux."""

from __future__ import annotations

import subprocess

import pytest

from check_mounts.options import option_parser
from check_mounts.system import terminal as system_terminal
from tests.conftest import PYTHON, Plugin
from tests.terminal import Start, terminal

__all__ = ["terminal"]

_PROGRAM = (PYTHON, "-m", "check_mounts")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_is_as_wide_as_the_terminal(terminal: Start, plugin: Plugin, columns: int) -> None:
    screen = terminal(columns, 24, environment=plugin.environment)
    screen.shorten("c", _PROGRAM)
    screen.run("./c -h")
    assert screen.until_done() == 3
    assert screen.output() == option_parser.help_text(False, columns).rstrip("\n").split("\n")


@pytest.mark.parametrize("in_full", [False, True])
@pytest.mark.parametrize("width", range(40, 110))
def test_no_line_of_help_is_too_wide(width: int, in_full: bool) -> None:
    words = option_parser.help_text(in_full, width)
    assert max(map(len, words.split("\n"))) <= min(width, option_parser.WIDTH)
    assert "".join(words.split()) == "".join(option_parser.help_text(in_full).split())


def test_the_user_may_say_how_wide_help_is(terminal: Start, plugin: Plugin) -> None:
    screen = terminal(80, 24, environment=plugin.environment)
    screen.shorten("c", _PROGRAM)
    for said, columns in (("50", 50), ("7", 40), ("", 80), ("-1", 80)):
        screen.run(f"COLUMNS={said} ./c -h")
        screen.until_done()
        assert screen.output()[-5:] == option_parser.help_text(False, columns).rstrip("\n").split("\n")[-5:]


@pytest.mark.parametrize(("said", "columns"), [("0", 80), ("x", 80), ("9" * 5000, 80), ("²", 80), ("41", 41)])
def test_what_the_user_says_may_be_nonsense(said: str, columns: int) -> None:
    """With a descriptor that is no terminal, as one that has hung up."""
    with open("/dev/null") as nothing:
        assert system_terminal.columns(nothing.fileno(), {"COLUMNS": said}) == columns


def test_help_of_a_pipe_has_its_own_width(plugin: Plugin) -> None:
    command = [*_PROGRAM, "-h"]
    result = subprocess.run(command, capture_output=True, text=True, env={**plugin.environment, "COLUMNS": "50"})
    assert result.stdout == option_parser.help_text(False)
