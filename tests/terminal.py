"""A real terminal for tests: tmux, with a shell in it.

    def test_it(terminal: Start) -> None:
        screen = terminal(80, 24)
        screen.run("ls --color=always")
        screen.until_done()
        assert screen.lines()

A test types, waits until something stands on the screen, and reads the screen."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import pytest

from tests.conftest import until

# Each prompt has a number of its own, and the exit code of the command before: "<2:0> ".
_PROMPT = r"<\#:$?> "
_SHELL = ("bash", "--noprofile", "--norc", "-i")


class Terminal:
    """A terminal of so many columns and lines. Its shell has the environment that is given, with
    nothing of the tests'. A ``command`` of several words takes the place of the shell."""

    def __init__(
        self,
        place: Path,
        columns: int,
        lines: int,
        locale: str,
        environment: Mapping[str, str],
        command: Sequence[str] = _SHELL,
    ) -> None:
        self.place, self._log = place, place / "log"
        self._tmux = ["tmux", "-u", "-S", str(place / "socket"), "-f", "/dev/null"]
        home = {"PATH": os.environ["PATH"], "HOME": str(place), "LANG": locale, "LC_ALL": locale}
        # In the foreground, so that it can be ended by its pid.
        self._server = subprocess.Popen([*self._tmux, "-D"], env=home, cwd="/")
        until((place / "socket").exists)
        more = {"PS1": _PROMPT, "HISTFILE": "", **environment}
        words = ["new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(place)]
        for name, value in more.items():
            words += ["-e", f"{name}={value}"]
        self.tmux("set-option", "-g", "history-limit", "100000", ";", *words, "cat")
        self.tmux("pipe-pane", f"exec cat >{shlex.quote(str(self._log))}", ";", "respawn-pane", "-k", *command)
        self._typed = 0
        if command is _SHELL:
            self.until_done()

    def tmux(self, *words: str) -> str:
        """What a command of tmux prints."""
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True, timeout=60).stdout

    # -- what a user does

    def type(self, words: str) -> None:
        """Type text, without the Enter key."""
        self.tmux("send-keys", "-l", "--", words)

    def press(self, *keys: str) -> None:
        """Press keys by their names in tmux(1): ``Enter``, ``Tab``, ``C-c``."""
        self.tmux("send-keys", *keys)

    def run(self, command: Union[str, Sequence[str]]) -> None:
        """Give the shell a command line, and do not wait for its end."""
        self.type(command if isinstance(command, str) else shlex.join(command))
        self.press("Enter")
        self._typed += 1

    def shorten(self, name: str, command: Sequence[str]) -> None:
        """Give a command a short name, ``./NAME``, so that its line fits on narrow screens."""
        script = self.place / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal larger or smaller, as a user does with a window."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    # -- what a user sees

    def screen(self, colours: bool = False, history: bool = False) -> str:
        """What stands on the screen, without blanks at the ends of lines. ``colours``: with the
        escape sequences for them. ``history``: also what has scrolled away."""
        words = ["capture-pane", "-p", *(["-e"] if colours else []), *(["-S", "-"] if history else [])]
        return "\n".join(line.rstrip() for line in self.tmux(*words).split("\n")).rstrip("\n")

    def lines(self, colours: bool = False, history: bool = False) -> list[str]:
        """The lines of :meth:`screen`."""
        return self.screen(colours, history).split("\n")

    def until(self, seen: Union[str, Callable[[str], object]], seconds: float = 60.0) -> str:
        """Wait until a text, or what a function looks for, is on the screen; return the screen."""
        found = ""

        def is_there() -> bool:
            nonlocal found
            found = self.screen()
            return bool(seen(found) if callable(seen) else seen in found)

        try:
            until(is_there, seconds)
        except AssertionError:
            raise AssertionError(f"not seen: {seen!r} in\n{found}") from None
        return found

    def until_done(self, seconds: float = 60.0) -> int:
        """Wait until the shell prompts again; return the exit code of the last command."""
        prompt = rf"^<{self._typed + 1}:(\d+)>"
        found = re.search(prompt, self.until(lambda seen: re.search(prompt, seen, re.M), seconds), re.M)
        assert found
        return int(found[1])

    def output(self, colours: bool = False) -> list[str]:
        """The lines between the last command line and the prompt after it."""
        lines = self.lines(colours, history=True)
        (begin,) = (place for place, line in enumerate(lines) if line.startswith(f"<{self._typed}:"))
        (end,) = (place for place, line in enumerate(lines) if line.startswith(f"<{self._typed + 1}:"))
        return lines[begin + 1 : end]

    def written(self) -> str:
        """All that programs have written to the terminal until the last prompt, as it was."""
        until(lambda: f"<{self._typed + 1}:".encode() in self._log.read_bytes())
        return self._log.read_bytes().decode("utf-8", "backslashreplace").replace("\r\n", "\n")

    def close(self) -> None:
        """Hang up, and wait until all that ran here has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._server.send_signal(signal.SIGTERM)
        self._server.wait(30)


Start = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Start]:
    """Starts terminals, ``terminal(80, 24, locale="C")``. ``environment`` has more variables for
    the shell, ``command`` is run in place of it."""
    made: list[Terminal] = []

    def start(
        columns: int = 80,
        lines: int = 24,
        locale: str = "C.UTF-8",
        environment: Optional[Mapping[str, str]] = None,
        command: Sequence[str] = _SHELL,
    ) -> Terminal:
        place = tmp_path / f"terminal{len(made)}"
        place.mkdir()
        made.append(Terminal(place, columns, lines, locale, environment or {}, command))
        return made[-1]

    yield start
    for each in made:
        each.close()
