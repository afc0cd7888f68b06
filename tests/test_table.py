"""``--table``: laid out by the real library, for terminals of any width and locale."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from rich.text import Text

from check_mounts.clocks import Boottime, boottime
from check_mounts.judging.policy import Judged, Policy, judged
from check_mounts.model import BadLine, Condition, Finding, Mount, Survey
from check_mounts.report import table
from check_mounts.report.table import Screen
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until, without
from tests.kernel import runs_alive, workers_alive
from tests.terminal import Start, terminal

__all__ = ["terminal"]

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def _mount(number: int, point: bytes, source: bytes, fs_type: bytes) -> Mount:
    return Mount(number, 0, (0, number), b"/", point, (b"rw",), (), fs_type, source, (b"rw",))


def _finding(number: int, point: bytes, source: bytes, condition: Condition = Condition.OK, **more: object) -> Finding:
    kind = b"nfs4" if b":" in source else b"ext4"
    mount = _mount(number, point, source, kind)
    return Finding(point, mount, condition, latency=more.pop("latency", 0.002), **more)  # type: ignore[arg-type]


def _hung(number: int, point: bytes, source: bytes) -> Finding:
    since = Boottime(boottime() - 3 * 86400)
    why = "server 10.0.0.5 does not answer on port 2049"
    return _finding(
        number, point, source, Condition.TIMED_OUT, detail="after 5 s", latency=5.0, stuck_pid=4711, stuck_since=since,
        diagnosis=why,
    )  # fmt: skip


def _of(*findings: Finding) -> Judged:
    return judged(Survey(findings), Policy())


def _lines(
    result: Judged, columns: int = 120, lines: int = 0, encoding: str = "utf-8", verbosity: int = 0
) -> list[str]:
    return table.made(result, Screen(columns, lines, encoding, False), verbosity).rstrip("\n").split("\n")


_SOME = _of(
    *(_finding(number, b"/p%d" % number, b"filer2:/p%d" % number) for number in range(20)),
    _finding(50, b"/", b"/dev/sda1"),
    _hung(60, b"/home", b"filer1:/export/home"),
    _finding(61, b"/data", b"filer1:/data", Condition.DEAD, detail="Stale file handle (ESTALE)"),
    _finding(62, b"/closed", b"/dev/sdb1", Condition.DENIED, detail="Permission denied (EACCES)"),
)


def test_a_table() -> None:
    lines = _lines(_SOME)
    assert lines[0].split() == ["CONDITION", "MOUNT", "SOURCE", "TYPE", "LATENCY", "SINCE", "WHY"]
    assert lines[1] == "filer1: 2 of 2 mounts failed"
    assert re.fullmatch(
        r"timed out +/home +filer1:/export/home +nfs4 +███████▌ +5\.0 s +20\d\d-\d\d-\d\d +after 5 s: server .*",
        lines[2],
    )
    titles = [line for line in lines if re.match(r"\S+: ", line)]
    assert titles == ["filer1: 2 of 2 mounts failed", "local: 1 of 2 mounts failed", "filer2: 20 mounts ok"]
    assert len(lines) == 1 + 3 + 24 + 1  # a reason takes two lines


def test_mounts_that_are_ok_share_a_row_where_the_screen_is_small() -> None:
    (row,) = (line for line in _lines(_SOME, lines=24) if "mounts" in line and line.startswith("ok"))
    assert re.fullmatch(r"ok +20 mounts +█.* 2\.0 ms +the slowest is /p0", row)
    assert len(_lines(_SOME, lines=24, verbosity=1)) == len(_lines(_SOME)) == len(_lines(_SOME, lines=40))
    assert len(_lines(_SOME, lines=24)) < 24


@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (120, "CONDITION MOUNT SOURCE TYPE LATENCY SINCE WHY"),
        (80, "CONDITION MOUNT LATENCY SINCE WHY"),
        (60, "CONDITION MOUNT LATENCY WHY"),
        (40, "CONDITION MOUNT WHY"),
    ],
)
def test_columns_that_one_can_do_without_go_first(columns: int, titles: str) -> None:
    lines = _lines(_SOME, columns)
    assert lines[0].split() == titles.split()
    assert max(Text(line).cell_len for line in lines) <= columns
    # Nothing is cut off: what has no room is folded.
    begin = lines[0].index("WHY")
    reasons = " ".join(" ".join(line[begin:] for line in lines[1:]).split())
    assert "after 5 s: server 10.0.0.5 does not answer on port 2049" in reasons


def test_a_thousand_mounts() -> None:
    findings = [_finding(number, b"/srv/%d" % number, b"filer%d:/x" % (number % 10)) for number in range(1000)]
    findings[500] = _hung(500, b"/srv/500", b"filer0:/x")
    assert len(_lines(_of(*findings), columns=80, lines=24)) < 1 + 10 + 10 + 5
    assert len(_lines(_of(*findings), columns=80, lines=24, verbosity=1)) >= 1 + 10 + 1000


def test_lines_of_files_and_what_is_missing() -> None:
    bad = Finding(b"", None, Condition.UNPROBED, "/etc/fstab line 3: x", line=BadLine("/etc/fstab", 3, "x"))
    missing = Finding(b"/gone", None, Condition.MISSING, "/etc/fstab line 4 declares it")
    lines = [" ".join(line.split()) for line in _lines(_of(bad, missing))]
    assert lines[1:3] == ["local: 1 of 1 mount failed", "missing /gone /etc/fstab line 4 declares it"]
    assert lines[3] == "files: 1 of 1 line failed" and "line 3: x" in lines[4]


_BYTES = some.one_of(some.binary(max_size=60), some.text(max_size=60).map(lambda name: name.encode("utf-8", "replace")))


@settings(max_examples=150)
@given(
    some.lists(some.tuples(_BYTES, _BYTES, some.sampled_from(Condition)), min_size=1, max_size=4),
    some.integers(40, 200),
    some.sampled_from(["utf-8", "ascii", "iso8859-1", "euc-jp"]),
    some.booleans(),
)
@example([(b"[red]x[/]\x1b[31m", b":smile:[link=http://x]y", Condition.DEAD)], 40, "utf-8", True)
@example([("世界\u0301\U0001f468\u200d\U0001f469".encode() * 9, b"\xff\n|", Condition.TIMED_OUT)], 41, "utf-8", False)
def test_hostile_names(names: list[tuple[bytes, bytes, Condition]], columns: int, encoding: str, colours: bool) -> None:
    """No markup, no escape, no line feed of theirs; no line too wide."""
    findings = [
        _finding(number, b"/" + point.replace(b"\0", b""), source.replace(b"\0", b""), condition, detail="why")
        for number, (point, source, condition) in enumerate(names)
    ]
    made = table.made(_of(*findings), Screen(columns, 0, encoding, colours), 2)
    for line in made.split("\n"):
        plain = _ESCAPES.sub("", line)
        assert plain.isprintable()
        assert Text(plain).cell_len <= columns
        assert colours or plain == line
        plain.encode(encoding)


# -- the program

_PROGRAM = (PYTHON, "-m", "check_mounts")


def _run(plugin: Plugin, *arguments: str, **environment: str) -> Result:
    return plugin(*arguments, env={**plugin.environment, **environment})


@pytest.fixture
def short(mounts: Mounts) -> Path:
    """A directory with a short name, where mount points fit into columns."""
    mounts.mount_at(Path("/srv"), "tmpfs")
    mounts.base = Path("/srv")
    return mounts.base


@pytest.mark.root
def test_in_a_pipe(mounts: Mounts, short: Path, plugin: Plugin) -> None:
    plugin.base = short
    for name in ("a", "é"):
        mounts.tmpfs(name)
    usual = _run(plugin)
    result = _run(plugin, "--table", COLUMNS="60", LC_ALL="C.UTF-8")
    number = re.compile(r"\d+\.\d+")
    assert number.sub("", result.lines[0]) == number.sub("", usual.lines[0])
    rows = result.lines[result.lines.index("local: 2 mounts ok") - 1 :]
    assert rows[0].split() == ["CONDITION", "MOUNT", "SOURCE", "TYPE", "LATENCY"]
    assert re.fullmatch(r"ok +/srv/é +none +tmpfs +[▏▎▍▌▋▊▉█]+ +\d.*ms", rows[3])
    assert max(Text(row).cell_len for row in rows) <= 60 and b"\x1b" not in result.stdout
    in_ascii = _run(plugin, "--table", LC_ALL="C").stdout.partition(b"CONDITION")[2]
    assert rb"/srv/\303\251 " in in_ascii and in_ascii.isascii()


@pytest.mark.root
def test_without_the_library(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """The mounts are checked all the same, and one line says what to install."""
    mounts.tmpfs("a")
    hidden = without(tmp_path / "hidden", "rich")
    result = _run(plugin, "--table", "-c", "0.0000001", PYTHONPATH=f"{hidden}:{plugin.environment['PYTHONPATH']}")
    assert result.code == 2 and result.lines[0].startswith("MOUNTS CRITICAL - 1 of 1 mounts failed")
    assert result.line(mounts.base / "a").startswith("CRITICAL: ")
    assert "note: no table: the library rich is missing" in result.lines[-2]
    assert "apt-get install python3-rich" in result.lines[-2]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("--json", "argument --table: not allowed with argument --json"), ("--daemon", "--table: ")],
)
def test_where_there_is_no_table(plugin: Plugin, argument: str, words: str) -> None:
    result = plugin("--table", argument, below=False)
    assert result.code == 3 and words.split(":")[0] in result.lines[0]


@pytest.mark.root
@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24), (200, 50)])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_on_a_terminal(
    mounts: Mounts,
    short: Path,
    fuse: Fuse,
    terminal: Start,
    plugin: Plugin,
    columns: int,
    lines: int,
    locale: str,
) -> None:
    fuse.mount("home", source="filer1:/export/home", type="fuse.sshfs")
    for number in range(20):
        mounts.tmpfs(f"p{number}")
    fuse.command("hang", "home")
    screen = terminal(columns, lines, locale=locale, environment=plugin.environment)
    screen.shorten("c", [*_PROGRAM, "-p", f"{short}/*", "--state-dir", str(plugin.state_dir), "-t", "1"])
    screen.run("./c --table --perfdata none")
    assert screen.until_done() == 2
    output = screen.output()
    begin = next(place for place, line in enumerate(output) if line.startswith("CONDITION"))
    assert max(Text(line).cell_len for line in output) <= columns
    assert re.match(r"timed out  /srv/home ", output[begin + 2])
    assert [line for line in output if re.match(r"ok +20 mounts", line)] or lines == 50
    assert any("█" in line for line in output) == (locale != "C" and columns == 200)
    assert "\x1b[31mtimed out" in screen.written()
    fuse.command("answer", "home")
    until(lambda: not workers_alive() | runs_alive())


@pytest.mark.parametrize("stands", ["rich/console.py", "rich.py"])
def test_a_library_that_does_not_fit(plugin: Plugin, tmp_path: Path, stands: str) -> None:
    """Whatever is installed under this name is run, and may do anything."""
    path = tmp_path / "lib" / stands
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    path.write_text("raise TypeError('a|b')\n")
    command = [*_PROGRAM, "--table", "/", "--state-dir", str(plugin.state_dir)]
    environment = {**plugin.environment, "PYTHONPATH": f"{tmp_path}/lib:{plugin.environment['PYTHONPATH']}"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0 and result.stdout.startswith("MOUNTS OK - 1 mount checked"), result
    assert "note: no table: the library rich cannot be used (" in result.stdout
