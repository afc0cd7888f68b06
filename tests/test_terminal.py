"""What a person sees who runs the program on a terminal: a real one, of tmux."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from check_mounts import text
from check_mounts.guard import notes, progress
from check_mounts.options import option_parser
from check_mounts.system import colours
from check_mounts.system import terminal as system_terminal
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, until
from tests.kernel import runs_alive, workers_alive
from tests.terminal import Start, Terminal, terminal

__all__ = ["terminal"]

_PROGRAM = (PYTHON, "-m", "check_mounts")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def short(mounts: Mounts) -> Path:
    """A directory with a short name, where mount points fit on a line."""
    base = Path("/srv")
    mounts.mount_at(base, "tmpfs")
    mounts.base = base
    return base


Open = Callable[..., Terminal]


@pytest.fixture
def user(short: Path, terminal: Start, plugin: Plugin) -> Open:
    """Opens a terminal with ``./c``, which checks the mounts below /m."""

    def start(columns: int = 80, lines: int = 24, **more: object) -> Terminal:
        environment = {**plugin.environment, **more.pop("environment", {})}  # type: ignore[dict-item]
        screen = terminal(columns, lines, environment=environment, **more)
        screen.shorten("c", [*_PROGRAM, "-p", f"{short}/*", "--state-dir", str(plugin.state_dir)])
        return screen

    return start


# -- help


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


# -- colours

_WORDS = some.text(alphabet="aO|:; K\t=é世", max_size=12).map(lambda words: text.printable(words.encode()))
_STATES = some.sampled_from(["OK", "WARNING", "CRITICAL", "UNKNOWN", "note", "  statfs", "left out", ""])
_LINES = some.tuples(_STATES, _WORDS).map(lambda parts: ": ".join(parts))


@given(_STATES, _WORDS, some.sampled_from(["", " | mounts=1 'a'=2s"]), some.lists(_LINES))
@example("CRITICAL", "/a", " | b=1", ["OK: /a: b"])
def test_colours_change_no_word(state: str, words: str, perfdata: str, lines: list[str]) -> None:
    output = "\n".join([f"MOUNTS {state} - {words}{perfdata}", *lines, ""])
    painted = colours.painted(output.encode()).decode()
    assert _ESCAPES.sub("", painted) == output
    assert ("\x1b" in painted) == any(
        line.startswith(tuple(f"{name}: " for name in notes.STATES)) for line in lines
    ) | (state in notes.STATES) | bool(perfdata)


@pytest.mark.parametrize(
    ("environment", "painted"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({"TERM": "vt100"}, True),
        ({"LC_ALL": "C"}, True),
    ],
    ids=str,
)
@pytest.mark.root
def test_colours_of_a_terminal(user: Open, mounts: Mounts, environment: dict[str, str], painted: bool) -> None:
    mounts.tmpfs("a")
    screen = user(200)
    screen.run(" ".join([*(f"{name}={value}" for name, value in environment.items()), "./c -vv"]))
    assert screen.until_done() == 0
    written = screen.written()
    assert ("MOUNTS \x1b[1;32mOK\x1b[0m - 1 mount checked" in written) == painted
    assert ("\x1b[2m | mounts=1" in written) == painted
    assert ("\n\x1b[32mOK\x1b[0m: /srv/a (tmpfs " in written) == painted
    assert painted or "\x1b" not in written.replace("\x1b[?2004", "")  # bash's own


@pytest.mark.root
def test_a_terminal_gets_what_a_pipe_gets(user: Open, mounts: Mounts, plugin: Plugin) -> None:
    """Byte for byte, but for times; and nothing in a name reaches the terminal as it is."""
    for name in ("a", "b |; 'x", "c\x1b[31m\x1b]0;title\x07", "d\ne", "世界é"):
        mounts.tmpfs(name)
    screen = user(300)
    command = [*_PROGRAM, "-vvv", "-p", "/srv/*", "--state-dir", str(plugin.state_dir)]
    piped = subprocess.run(command, env=plugin.environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    screen.run("./c -vvv")
    screen.until_done()
    digits = re.compile(r"\d+\.\d+")
    assert [digits.sub("N", line) for line in screen.output()] == [
        part for line in digits.sub("N", piped).split("\n")[:-1] for part in _wrapped(line, 300)
    ]


def _wrapped(line: str, width: int) -> list[str]:
    return [line[begin : begin + width].rstrip() for begin in range(0, len(line), width)]


@pytest.mark.root
def test_cached_has_colours(terminal: Start, plugin: Plugin) -> None:
    screen = terminal(80, 24, environment=plugin.environment)
    screen.shorten("c", _PROGRAM)
    for count, path in enumerate(("/run/nothing/here", "/nothing"), 1):
        screen.run(f"./c --cached --cache={path}")
        screen.until_done()
        assert screen.written().count("MOUNTS \x1b[1;35mUNKNOWN\x1b[0m - ") == count


# -- the line that says what is waited for

_LINE = re.compile(r"^(\d+)/(\d+) answered; waiting for (.*)$", re.M)


@pytest.fixture
def hanging(short: Path, fuse: Fuse) -> Iterator[Fuse]:
    """/srv/home and /srv/data hang, /srv/ok does not."""
    for name in ("home", "data", "ok"):
        fuse.mount(name)
    for name in ("home", "data"):
        fuse.command("hang", name)
    yield fuse
    for name in ("home", "data"):
        fuse.command("answer", name)
    until(lambda: not workers_alive() | runs_alive())


def _both(screen: Terminal) -> tuple[str, str, str]:
    """What the line says, once it has both mounts: how many have answered, of how many, and the
    names."""

    def has_both(seen: str) -> bool:
        found = _LINE.search(seen)
        return found is not None and "/srv/home" in found[3] and "/srv/data" in found[3]

    seen = screen.until(has_both)
    found = _LINE.search(seen)
    assert found is not None
    return found[1], found[2], found[3]


@pytest.mark.root
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24), (200, 50)])
def test_the_line_says_what_is_waited_for(user: Open, hanging: Fuse, columns: int, lines: int, locale: str) -> None:
    screen = user(columns, lines, locale=locale)
    screen.run("./c -t 3 --perfdata none")
    if columns == 40:
        screen.until(re.compile(r"^1/3: /srv/.{4} \d\.\d s, /srv/.{4} \d\.\d s$", re.M).search)
    else:
        answered, total, names = _both(screen)
        assert (answered, total) == ("1", "3")
        assert re.fullmatch(r"(/srv/(home|data) \d\.\d s(, )?){2}", names)
        before = re.findall(r"\d\.\d", names)
        later = screen.until(lambda seen: (again := _LINE.search(seen)) and again[3] != names)
        assert re.findall(r"\d\.\d", later) > before
    assert screen.until_done() == 2
    seen = screen.screen(history=True)
    assert "waiting" not in seen and "answered" not in seen
    assert seen.split("\n")[1].startswith("MOUNTS CRITICAL - 2 of 3 mounts failed: "[:columns].rstrip())


@pytest.mark.root
def test_a_quick_run_draws_nothing(user: Open, mounts: Mounts) -> None:
    mounts.tmpfs("a")
    screen = user()
    screen.run("./c --perfdata none")
    screen.until_done()
    assert "\x1b[J" not in screen.written()
    assert "answered" not in screen.written()


@pytest.mark.root
@pytest.mark.parametrize(
    "command",
    [
        "TERM=dumb ./c -t 1",
        "./c -t 1 2>/dev/null",
        "(set -m; ./c -t 1 & wait)",
        "setsid -w ./c -t 1",
        "./c -t 1 2>&1 | cat",
    ],
)
def test_where_no_line_is_drawn(user: Open, hanging: Fuse, command: str) -> None:
    """Not on a dumb terminal, not in a file, not from the background, not on another's terminal."""
    screen = user()
    screen.run(command)
    screen.until_done()
    assert "2 of 3 mounts failed" in screen.screen()
    assert "answered" not in screen.written()


@pytest.mark.root
def test_a_file_gets_the_output_and_the_terminal_the_line(user: Open, hanging: Fuse) -> None:
    screen = user()
    screen.run("./c -t 2 --json >json")
    _both(screen)
    assert screen.until_done() == 2
    assert "answered" not in screen.screen()
    output = (screen.place / "json").read_bytes()
    assert output.startswith(b"{") and output.endswith(b"}\n") and b"\x1b" not in output


@pytest.mark.root
@pytest.mark.parametrize("columns", [100, 30])
def test_the_terminal_changes_its_size_meanwhile(user: Open, hanging: Fuse, columns: int) -> None:
    """A line that was broken into several by that leaves nothing."""
    screen = user(60, 20)
    screen.run("./c -t 3 --perfdata none")
    _both(screen)
    screen.resize(columns, 20)
    expected = r"^1/3 answered; .*data" if columns == 100 else r"^1/3: /srv/.{4} \d\.\d s, 1 more$"
    screen.until(re.compile(expected, re.M).search)
    screen.until_done()
    seen = screen.screen(history=True)
    assert not re.search(r"answered|waiting|more", seen), seen
    assert seen.split("\n")[1].startswith("MOUNTS CRITICAL - 2 of 3 mount")


@pytest.mark.root
def test_the_user_interrupts(user: Open, hanging: Fuse) -> None:
    screen = user()
    screen.run("./c -t 30 --perfdata none")
    _both(screen)
    screen.press("C-c")
    assert screen.until_done() == 3
    first = screen.output()[0]
    assert re.match(r"MOUNTS UNKNOWN - interrupted by SIGINT after \d\.\d s, 2 of 3 mounts failed: ", first), first
    assert "answered" not in screen.screen()


@pytest.mark.root
def test_the_user_suspends_the_check(user: Open, hanging: Fuse) -> None:
    screen = user()
    screen.run("./c -t 4 --perfdata none")
    _both(screen)
    screen.press("C-z")
    seen = screen.until("Stopped")
    assert "answered" not in seen
    screen.run("fg")
    _both(screen)
    screen.until("2 of 3 mounts failed")
    assert "answered" not in screen.until(lambda seen: "<3:2>" in seen)


@pytest.mark.root
def test_a_stopped_terminal_does_not_hold_up_the_check(user: Open, hanging: Fuse) -> None:
    screen = user()
    began = time.monotonic()
    screen.run("./c -t 2 --perfdata none; date +%s.%N >ended")
    _both(screen)
    screen.press("C-s")
    # The check has 2 s, and who reads its output has 4 s.
    until((screen.place / "ended").exists, 15)
    assert time.monotonic() - began < 12
    screen.press("C-q")
    screen.until_done()


@pytest.mark.root
def test_a_terminal_that_goes_on_in_time_gets_all(user: Open, hanging: Fuse) -> None:
    screen = user()
    screen.run("./c -t 2 -vv --perfdata none")
    _both(screen)
    screen.press("C-s")
    until(lambda: all(hanging.waiting(name) for name in ("home", "data")) and _verdict_is_due(screen))
    screen.press("C-q")
    assert screen.until_done() == 2
    lines = screen.output()
    assert lines[0].startswith("MOUNTS CRITICAL - 2 of 3") and "answered" not in screen.screen()
    assert [line for line in lines if line.startswith("OK: /srv/ok")]


def _verdict_is_due(screen: Terminal) -> bool:
    """Whether the check has ended, and its watcher waits for the terminal."""
    return not runs_alive()


@pytest.mark.root
def test_what_hangs_is_said_even_if_the_check_itself_hangs(user: Open, hanging: Fuse) -> None:
    screen = user()
    screen.run("./c -t 1 --deadline 1.5 --config=/srv/home/file")
    screen.until(re.compile(r"^reading /srv/home/file, \d s$", re.M).search)
    assert screen.until_done() == 3
    assert "\r \x1b[J\rMOUNTS \x1b[1;35mUNKNOWN\x1b[0m - stuck reading /srv/home/file" in screen.written()
    assert ", 1 s" not in screen.screen()


# -- the text of the line


def _waiting(*names: str, answered: int = 1, total: int = 3, unnamed: int = 0) -> notes.Waiting:
    fd = os.memfd_create("notes")
    try:
        os.ftruncate(fd, notes.SIZE + notes.FOR_WAITING)
        noted = notes.Notes(fd)
        noted.waiting(answered, total, [(time.monotonic() - 3.2, name) for name in names])
        waiting = notes.Waiting(fd)
    finally:
        os.close(fd)
    waiting.unnamed += unnamed
    return waiting


def test_what_the_line_says() -> None:
    waiting = _waiting("/home", "/data", answered=40, total=42)
    assert progress.line("", 0, waiting, 79, "utf-8") == b"40/42 answered; waiting for /home 3.2 s, /data 3.2 s"
    assert progress.line("", 0, waiting, 50, "utf-8") == b"40/42 answered; waiting for /home 3.2 s, 1 more"
    assert progress.line("reading /etc/fstab", 3.4, _waiting(total=0, answered=0), 79, "utf-8") == (
        b"reading /etc/fstab, 3 s"
    )


_NAMES = some.text(some.characters(exclude_categories=["Cs"]), max_size=200).map(
    lambda name: text.printable(f"/{name}".encode())
)


@given(
    some.lists(_NAMES, max_size=40),
    some.integers(1, 300),
    some.sampled_from(["utf-8", "ascii", "iso8859-1", "euc-jp"]),
)
@example(["/世界" * 40, "/é" * 100], 40, "utf-8")
@example(["/世界" * 40], 1, "ascii")
def test_the_line_never_wraps(names: list[str], width: int, encoding: str) -> None:
    line = progress.line("looking up the named mount points", 1.0, _waiting(*names), width, encoding)
    shown = line.decode(encoding)
    assert system_terminal.cells(shown) <= width
    assert shown.isprintable()


def test_thousands_of_names_fit() -> None:
    waiting = _waiting(*(f"/srv/data/{number}" for number in range(5000)), total=9000)
    assert waiting.unnamed + len(waiting.names) == 5000
    line = progress.line("", 0, waiting, 79, "utf-8").decode()
    assert re.fullmatch(r"1/9000 answered; waiting for /srv/data/0 3.2 s, /srv/data/1 3.2 s, 4998 more", line)
