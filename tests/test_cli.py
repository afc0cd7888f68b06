"""The command line: what is refused and how, odd environments, odd descriptors."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import nagiosplugin
import pytest

from check_mounts.checks.sandbox import NOTE
from check_mounts.options.option_parser import EXAMPLES
from check_mounts.options.option_table import OPTIONS
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until
from tests.kernel import workers_alive

USAGE = "usage: check_mounts [OPTION]... [MOUNTPOINT]..."


def _refused(plugin: Plugin, *arguments: str) -> str:
    result = plugin(*arguments, below=False, state=False)
    assert (result.code, result.stderr) == (3, b"")
    assert result.lines[1:] == [USAGE, ""]
    return result.lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], "--no-such-option: unknown option"),
        (["--no\nsuch|option"], r"--no\012such\174option: unknown option"),
        (["--time", "3"], "--time: unknown option; the nearest is --timeout"),
        (["-t"], "argument -t/--timeout: expected one argument"),
        (["-t", "0"], "argument -t/--timeout: '0' is not a positive number of seconds"),
        (["-t", "-1"], "argument -t/--timeout: '-1' is not a positive number of seconds"),
        (["-t", "nan"], "argument -t/--timeout: 'nan' is not a positive number of seconds"),
        (["-t", "inf"], "argument -t/--timeout: 'inf' is not a positive number of seconds"),
        (["-t", "5s"], "argument -t/--timeout: '5s' is not a positive number of seconds"),
        (["--deadline", "0"], "argument --deadline: '0' is not a positive number of seconds"),
        (
            ["-t", "5", "--deadline", "4.5"],
            "argument --deadline: 4.5 s is shorter than the timeout of 5 s for one mount",
        ),
        (["-w", "x"], "argument -w/--warning: 'x' is not a range: 'x' is not a number"),
        (["-c", "5:1"], "argument -c/--critical: '5:1' is not a range: its start is greater than its end"),
        (["-w", "nan"], "argument -w/--warning: 'nan' is not a range: 'nan' is not a number"),
        (
            ["-w", "stat=1"],
            "argument -w/--warning: 'stat=1': the steps are look-up, statfs, statx, read, create, write, "
            "verify, remove; the measures of a daemon are rtt, exec, queue, retrans, timeouts; the nearest is 'statx'",
        ),
        (["-c", "statfs=x"], "argument -c/--critical: 'x' is not a range: 'x' is not a number"),
        (
            ["--usage-warning", "110"],
            "argument --usage-warning: '110' is not a range of the percentage in use or of the free amount: more than "
            "100 % is impossible",
        ),
        (
            ["--inodes-critical", "10X:"],
            "argument --inodes-critical: '10X:' is not a range of the percentage in use or of the free amount: '10X' "
            "is not a number, a percentage, or a number with one of K M G T P",
        ),
        (["--severity", "dead"], "argument --severity: 'dead' is not CONDITION=STATE"),
        (["--severity", "dead=bad"], "argument --severity: 'dead=bad': the states are ok, warning, critical, unknown"),
        (
            ["--severity", "gone=ok"],
            "argument --severity: 'gone=ok': the conditions are ok, slow, denied, timed-out, dead, missing, "
            "read-only, changed, "
            "full, failing, blocked, shadowed, idle, ghost, unprobed",
        ),
        (
            ["-p", "["],
            "argument -p/--path: '[' is not a pattern: a '[' is not closed (write '[[]' for the character itself)",
        ),
        (["-x", ""], "argument -x/--exclude: '' is not a pattern: the pattern is empty"),
        (["-X", "nfs,,cifs"], "argument -X/--exclude-type: 'nfs,,cifs' has an empty part"),
        (["--include-source", "a[b"], None),
        (["--mountinfo", "/no/such/file"], "argument --mountinfo: /no/such/file: No such file or directory"),
        (["--mountinfo", "/"], "argument --mountinfo: /: not a regular file"),
        (["--mountinfo", "/dev/zero"], "argument --mountinfo: /dev/zero: not a regular file"),
        (["--mountinfo", ""], "argument --mountinfo: the path is empty"),
        (["--max-workers", "0"], "argument --max-workers: '0' is not a whole number from 1 to 32768"),
        (["--max-workers", "99999999"], "argument --max-workers: '99999999' is not a whole number from 1 to 32768"),
        (["--max-output", "10"], "argument --max-output: '10' is not a whole number from 128 to 1073741824, or 0"),
        (["--as", "no-such-user"], "argument --as: there is no user 'no-such-user'"),
        (["--as", "99999999999"], "argument --as: there is no user '99999999999'"),
        (["relative"], "argument MOUNTPOINT: 'relative' is not an absolute path"),
        (["--perfdata", "all"], None),
        (["--autofs"], "argument --autofs: expected one argument"),
    ],
)
def test_refused(plugin: Plugin, arguments: list[str], words: Optional[str]) -> None:
    line = _refused(plugin, *arguments)
    assert line.startswith("MOUNTS UNKNOWN - ")
    if words is not None:
        assert line == f"MOUNTS UNKNOWN - {words}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("password=geheim", "unknown key 'password'"),
        ("x-=geheim", "unknown key 'x-'"),
        ("z=geheim", "unknown key 'z'"),
        ("remote=", None),
        ("v=", None),
    ],
)
def test_unknown_keys_of_extra_options_are_named_without_their_value(
    plugin: Plugin, tmp_path: Path, line: str, words: Optional[str]
) -> None:
    ini = tmp_path / "plugins.ini"
    ini.write_text(f"[check_mounts]\n{line}\nmountinfo=/nowhere\n")
    refused = _refused(plugin, f"--extra-opts=@{ini}")
    assert (
        refused.endswith("/nowhere: No such file or directory")
        if words is None
        else refused == f"MOUNTS UNKNOWN - {ini} line 2: {words}"
    )


def test_a_fifo_is_no_mount_table(plugin: Plugin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert _refused(plugin, "--mountinfo", str(tmp_path / "fifo")).endswith(": not a regular file")


@pytest.mark.parametrize("argument", [b"-t\xff", b"--mountinfo=/\xff\n|", b"\xff"])
def test_arguments_of_any_bytes(plugin: Plugin, argument: bytes) -> None:
    process = subprocess.run(
        [PYTHON, "-m", "check_mounts", argument], env=plugin.environment, capture_output=True, check=False
    )
    assert (process.returncode, process.stderr) == (3, b"")
    assert process.stdout.startswith(b"MOUNTS UNKNOWN - argument ")
    assert process.stdout.count(b"\n") == 2
    assert b"|" not in process.stdout


def test_a_user_that_only_root_can_be(plugin: Plugin, public: Path) -> None:
    result = _as_nobody(public, "--as", "root")
    assert (
        result.lines[0]
        == "MOUNTS UNKNOWN - argument --as: only root, or a process with CAP_SETUID and CAP_SETGID, can act as "
        "another user"
    )
    assert result.code == 3


def _listed(text: str) -> list[str]:
    """The long names of the options that a help text lists."""
    return re.findall(r"^  (?:-\w(?: \S+)?, )?(--[a-z-]+)", text, re.M)


def test_help_and_version(plugin: Plugin) -> None:
    result = plugin("--help", below=False, state=False)
    assert (result.code, result.lines[0]) == (3, USAGE)
    assert len(_listed("\n".join(result.lines))) == 10
    assert plugin("-h", below=False, state=False).stdout == result.stdout
    in_full = plugin("--help-all", below=False, state=False)
    assert (in_full.code, in_full.lines[0]) == (3, USAGE)
    assert sorted(_listed("\n".join(in_full.lines))) == sorted(option.long for option in OPTIONS)
    assert plugin("--help-all", "-h", "-V", below=False, state=False).stdout == in_full.stdout
    result = plugin("-V", below=False, state=False)
    assert result.code == 3
    assert re.fullmatch(r"check_mounts \d+\.\d+\.\d+", result.lines[0])


def test_the_examples_of_help(plugin: Plugin) -> None:
    text = " ".join(plugin("--help", below=False, state=False).stdout.decode().split())
    assert len(EXAMPLES) == 3
    for command, what in EXAMPLES:
        assert f" {command} {what} " in text
        program, *words = shlex.split(command)
        assert program == "check_mounts"
        assert USAGE not in plugin(*words, below=False).lines


def test_the_manual_names_every_option() -> None:
    manual = (ROOT / "man/check_mounts.8").read_text().replace("\\-", "-")
    for option in OPTIONS:
        for word in option.words:
            assert re.search(rf"\\fB{re.escape(word)}\b", manual), f"{word} is not in the manual"


def test_options_and_mount_points_may_be_mixed(plugin: Plugin) -> None:
    result = plugin("/", "-t", "3", "/gone", "-v", below=False)
    assert result.verdict == "MOUNTS CRITICAL - 1 of 2 mounts failed: /gone missing: not mounted"


def test_trailing_slashes_mean_the_same(plugin: Plugin) -> None:
    assert plugin("/proc/", below=False).count("ok") == 1
    assert plugin("-p", "/", below=False).count("ok") == 1


def test_zero_selected_is_unknown(plugin: Plugin) -> None:
    result = plugin("-p", "/no/such/mount", below=False)
    assert (result.code, result.verdict.split(" (")[0]) == (3, "MOUNTS UNKNOWN - no mount was selected")
    assert plugin("-p", "/no/such/mount", "--allow-none", below=False).code == 0


def test_a_relative_mount_table(plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("1 0 0:1 / /gone rw - tmpfs x rw\n")
    result = plugin("--mountinfo", "table", "-v", below=False, cwd=tmp_path)
    assert result.verdict.startswith(
        "MOUNTS UNKNOWN - 1 of 1 mounts failed: /gone (tmpfs x) not probed: its mount point cannot be reached"
    )
    assert "UNKNOWN: /gone (tmpfs x) not probed: its mount point cannot be reached" in result.lines


def test_a_line_that_is_none_is_unknown_and_the_rest_is_checked(plugin: Plugin, tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_bytes(b"gar\x1bbage|\n" + Path("/proc/self/mountinfo").read_bytes())
    result = plugin("--mountinfo", str(table), "-p", "/", "-v", below=False)
    assert (result.code, result.count("ok"), result.count("mounts"), result.count("unprobed")) == (3, 1, 1, 0)
    assert re.fullmatch(
        r"MOUNTS UNKNOWN - 1 mount checked in [0-9.]+ s, 1 line not understood: line 1 of the mount table "
        r"cannot be understood: "
        r"it has no separator ' - ' after at least six fields",
        result.verdict,
    )


def test_ranges_and_severities_reach_the_verdict(plugin: Plugin) -> None:
    result = plugin("-p", "/", "-w", "@0:60", "-c", "60", below=False)
    assert (result.code, result.count("slow")) == (1, 1)
    assert "slow: 0.0" in result.verdict
    assert plugin("-p", "/", "-w", "@0:60", "--severity", "slow=critical", below=False).code == 2
    assert plugin("/gone", "--severity", "missing=warning", below=False).code == 1
    assert plugin("/gone", "--severity", "MISSING=Unknown", below=False).code == 3


def test_json(plugin: Plugin) -> None:
    result = plugin("-p", "/", "--json", below=False)
    value = json.loads(result.stdout)
    assert (result.code, value["state"], value["findings"][0]["mount_point"]) == (0, "OK", "/")


def test_an_empty_environment(plugin: Plugin) -> None:
    paths = plugin.environment["PYTHONPATH"].split(":")
    script = f"import sys; sys.path[:0] = {paths!r}; from check_mounts.__main__ import main; sys.exit(main())"
    process = subprocess.run(["env", "-i", PYTHON, "-c", script, "-p", "/"], capture_output=True, check=False, cwd="/")
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.startswith(b"MOUNTS OK - 1 mount checked in ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(plugin: Plugin, closed: str) -> None:
    result = Result(plugin.start("-p", "/", below=False, wrapper=["sh", "-c", f'exec "$@" {closed}', "sh"]))
    assert (result.code, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"MOUNTS OK - ") == (">&-" not in re.sub("2>&-", "", closed))


def test_closed_standard_descriptors_are_taken_by_nothing_else(plugin: Plugin, tmp_path: Path) -> None:
    """A pipe with number 1 would get the verdict."""
    report = tmp_path / "report"
    script = (
        "import os; from check_mounts.__main__ import _open_standard_descriptors as o; o(); pipe = os.pipe(); "
        f"open({str(report)!r}, 'w').write(str(min(pipe) > 2 and [os.readlink(f'/proc/self/fd/{{n}}') for n in "
        f"range(3)]))"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", PYTHON, "-c", script]
    assert subprocess.run(command, env=plugin.environment, check=True).returncode == 0
    assert report.read_text() == str(["/dev/null"] * 3)


def test_a_reader_that_has_gone(plugin: Plugin) -> None:
    read, write = os.pipe()
    os.close(read)
    process = plugin.start("-p", "/", below=False, stdout=write)
    os.close(write)
    assert process.communicate()[1] == b""
    assert process.returncode == 0


def test_a_full_disk(plugin: Plugin) -> None:
    with open("/dev/full", "wb") as full:
        process = plugin.start("/gone", below=False, stdout=full)
        assert process.communicate()[1] == b""
    assert process.returncode == 2


def test_a_reader_that_does_not_read(plugin: Plugin, tmp_path: Path) -> None:
    read, write = os.pipe()
    process = plugin.start(
        "--max-output", "0", "--mountinfo", str(_large_table(tmp_path)), "-vv", below=False, stdout=write
    )
    os.close(write)
    process.wait(timeout=60)
    assert process.returncode in (0, 3)
    assert select.select([read], [], [], 0)[0]
    os.close(read)
    process.communicate()


def _large_table(tmp_path: Path) -> Path:
    table = tmp_path / "table"
    table.write_text("".join(f"{n} 0 0:{n} / /no/such/mount/point/{n} rw - tmpfs x rw\n" for n in range(1, 2000)))
    return table


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_the_encoding_of_stdout(plugin: Plugin, tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "table"
    table.write_bytes("1 0 0:1 / /übung\u20ac\xff rw - tmpfs x rw\n".encode() + b"2 0 0:2 / /\xff rw - tmpfs x rw\n")
    environment = {**plugin.environment, "PYTHONIOENCODING": encoding}
    result = plugin("--mountinfo", str(table), "-v", below=False, env=environment) if encoding != "latin-1" else None
    if result is not None:
        assert result.stderr == b""
        shown = "/übung\u20ac\xff" if encoding == "utf-8" else r"/\303\274bung\342\202\254\303\277"
        assert f"UNKNOWN: {shown} (tmpfs x) not probed: its mount point cannot be reached" in result.lines
        assert r"UNKNOWN: /\377 (tmpfs x) not probed: its mount point cannot be reached" in result.lines
    else:
        process = plugin.start("--mountinfo", str(table), "-v", below=False, env=environment)
        assert rb"/" + "übung".encode("latin-1") + rb"\342\202\254" in process.communicate()[0]


_REINSTALL = (
    "1.3.2 or later is needed: apt-get install --reinstall python3-nagiosplugin, dnf reinstall python3-nagiosplugin, "
    "or pip install --force-reinstall nagiosplugin"
)
# What may be there in place of nagiosplugin -> what is said of it.
LIBRARIES = {
    "raise ImportError('broken')": f"cannot be used (ImportError: broken); {_REINSTALL}",
    "raise RuntimeError('a|b\\nc')": f"cannot be used (RuntimeError: a\\174b\\012c); {_REINSTALL}",
    "def (": f"cannot be used (SyntaxError: invalid syntax (nagiosplugin.py, line 1)); {_REINSTALL}",
    "import of_another_python": (
        f"cannot be used (ModuleNotFoundError: No module named 'of_another_python'); {_REINSTALL}"
    ),
    "__version__ = '0.5'\nOk = Warn = Critical = Unknown = Metric = Performance = Resource = Context = Check = str": (
        f"cannot be used (ImportError: version 0.5 has no Result, Results, Summary); {_REINSTALL}"
    ),
    "raise ModuleNotFoundError('No module named \\'nagiosplugin\\'', name='nagiosplugin')": (
        "is missing (No module named 'nagiosplugin'): apt-get install python3-nagiosplugin, dnf install "
        "python3-nagiosplugin, or pip install nagiosplugin"
    ),
}


@pytest.mark.parametrize("code", LIBRARIES)
def test_without_nagiosplugin_what_was_measured_is_told(tmp_path: Path, code: str) -> None:
    """All of it: the lines of -v and perfdata, too."""
    (tmp_path / "nagiosplugin.py").write_text(f"{code}\n")

    def run(*words: str, path: str) -> tuple[int, str]:
        command = [PYTHON, "-m", "check_mounts", *words, "--state-dir", str(tmp_path / "state")]
        process = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, check=False, cwd="/")
        assert process.stderr == b""
        output = process.stdout.decode().replace(f"note: {NOTE}\n", "")
        return process.returncode, re.sub(r"\d\.\d+(?= ?s)", "N", output)

    said = f"the library nagiosplugin {LIBRARIES[code]}"
    words = ("/proc", "/gone", "-vv", "--perfdata", "mounts", "-w", "5", "-c", "60")
    libraries = f"{ROOT}:{Path(nagiosplugin.__file__).parent.parent}"
    code_with, output_with = run(*words, path=libraries)
    code_without, output_without = run(*words, path=f"{tmp_path}:{libraries}")
    assert (code_with, code_without) == (2, 2)
    assert "/gone missing: not mounted | mounts=2" in output_with
    assert output_without == output_with.replace("not mounted |", f"not mounted; {said} |")
    assert run("/proc", "--perfdata", "none", path=f"{tmp_path}:{libraries}") == (
        3,
        f"MOUNTS UNKNOWN - 1 mount checked in N s: {said}\n",
    )
    assert run("/proc", "--json", path=f"{tmp_path}:{libraries}")[0] == 0  # that needs no library


def test_a_defect_of_ours_is_unknown_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "fnmatch.py").write_text("raise RuntimeError('a|b\\nc')\n")
    process = subprocess.run(
        [PYTHON, "-m", "check_mounts", "-p", "/*"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        check=False,
        cwd="/",
    )
    assert (process.returncode, process.stderr) == (3, b"")
    assert process.stdout == b"MOUNTS UNKNOWN - internal error: RuntimeError: a/b c (fnmatch.py:1)\n"


def test_with_debug_a_defect_says_where_it_comes_from(tmp_path: Path) -> None:
    """On stderr, with nothing that a terminal acts on. The verdict is the same."""
    (tmp_path / "fnmatch.py").write_text("def defective():\n    raise RuntimeError('a|b\\033c')\ndefective()\n")
    for debug in ((), ("--debug",)):
        process = subprocess.run(
            [PYTHON, "-m", "check_mounts", "-p", "/*", *debug],
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True, check=False, cwd="/",
        )  # fmt: skip
        assert process.returncode == 3
        assert process.stdout == b"MOUNTS UNKNOWN - internal error: RuntimeError: a/b?c (fnmatch.py:2)\n"
        if debug:
            first, *_, above, last = process.stderr.decode().splitlines()
            assert first == "Traceback (most recent call last):"
            # No line of source: to read it, a file would be opened that may lie on what hangs.
            assert above == f'  File "{tmp_path}/fnmatch.py", line 2, in defective'
            assert last == "RuntimeError: a|b?c"
        else:
            assert process.stderr == b""


def test_debug_may_be_said_in_a_file(plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "nagiosplugin.py").write_text("raise ImportError('broken')\n")
    (tmp_path / "c.conf").write_text("[check_mounts]\ndebug = yes\n")
    (tmp_path / "c.conf").chmod(0o644)
    environment = {**plugin.environment, "PYTHONPATH": f"{tmp_path}:{plugin.environment['PYTHONPATH']}"}
    result = plugin("--config", str(tmp_path / "c.conf"), "/gone", below=False, env=environment)
    assert (result.code, "; the library nagiosplugin cannot be used (ImportError: broken); " in result.verdict) == (
        2,
        True,
    )
    lines = result.stderr.decode().splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ImportError: broken")
    assert any("in _loaded" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-kgeheim"], "-k...: unknown option"),
        (["--password=ge heim", "/"], "argument MOUNTPOINT: '--password=...' is not an absolute path"),
        (["--remote=geheim"], "argument --remote: takes no value"),
        (["-vz=geheim"], "argument -v/--verbose: takes no value"),
        (["--deadline", "1", "--expect", "/x,source=a,,password=geheim"], None),
    ],
)
def test_secrets_of_other_programs_are_not_shown(plugin: Plugin, arguments: list[str], told: Optional[str]) -> None:
    line = _refused(plugin, *arguments)
    assert "geheim" not in line
    assert told is None or line == f"MOUNTS UNKNOWN - {told}"


def _as_nobody(public: Path, *arguments: str) -> Result:
    command = [PYTHON, "-m", "check_mounts", *arguments]
    options: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"PYTHONPATH": str(public), "PATH": os.environ["PATH"]}
    return Result(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/", **options)  # type: ignore[call-overload]
    )


@pytest.mark.root
def test_as_an_unprivileged_user(public: Path, mounts: Mounts) -> None:
    base = public / "mnt"
    zoo = Mounts(base)
    zoo.tmpfs("open")
    zoo.tmpfs("group", "mode=0750")
    zoo.tmpfs("closed", "mode=0000")
    zoo.tmpfs("own", "mode=0700,uid=65534")
    (base / "dir").mkdir(mode=0o700)
    zoo.tmpfs("dir/unreachable")
    result = _as_nobody(public, "-p", f"{base}/*", "-vvv", "--state-dir", f"{public}/none")
    zoo.close()
    assert (result.code, result.stderr) == (1, b"")
    assert result.line(base / "open").startswith("OK: ")
    assert result.line(base / "own").startswith("OK: ")
    assert result.line(base / "closed").endswith("denied: mode 0000 does not allow access")
    assert result.line(base / "dir/unreachable").endswith("denied: Permission denied (EACCES) at look-up")
    # It answered, and that its door is closed to nobody does not mean that it is to its owner.
    assert result.line(base / "group").startswith("OK: ")
    assert any(
        "read: " in line and "refused, and this process cannot act as the owner" in line for line in result.lines
    )


@pytest.mark.root
def test_where_an_unprivileged_user_remembers(public: Path, mounts: Mounts) -> None:
    own = Path("/tmp/check_mounts-65534")
    shutil.rmtree(own, ignore_errors=True)
    result = _as_nobody(public, "-p", "/")
    assert (result.code, result.lines[1:]) == (0, [""])
    # There is nothing to remember but counters of errors, if an ext4 of this host has any just now.
    assert not own.exists() or os.listdir(own) == ["counters"]
    zoo = Mounts(public / "mnt")
    server = Fuse(zoo)
    path = server.mount("hung")
    server.command("hang", "hung")
    result = _as_nobody(public, "-t", "0.3", "-p", str(path))
    assert (own.stat().st_uid, own.stat().st_mode & 0o7777) == (65534, 0o700)
    server.close()
    until(lambda: not workers_alive())
    zoo.close()
    assert (result.code, result.count("timed_out")) == (2, 1)
    shutil.rmtree(own)
    own.symlink_to("/")
    result = _as_nobody(public, "-p", "/")
    own.unlink()
    assert result.code == 0
    assert result.lines[1] == "note: stuck probes are not remembered: /tmp/check_mounts-65534: it is a symbolic link"


@pytest.mark.root
def test_hostile_mount_points_for_real(mounts: Mounts, plugin: Plugin) -> None:
    names = [
        b"a b",
        b"a\nb",
        b"a\tb",
        b"a\\b",
        b"a#b",
        b"a|b",
        b"a'b",
        b"a=b",
        b"\xff\xfe",
        b"a;b",
        "ü".encode(),
        b"$(x)",
        b"-",
        b"\r",
        b"\\040",
    ]
    for name in names:
        path = mounts.base / os.fsdecode(name)
        path.mkdir(parents=True)
        mounts.mount_at(path, "tmpfs", os.fsdecode(b"src" + name), "mode=0000" if name == b"a\nb" else "")
    result = plugin("-vv", "--perfdata", "mounts")
    assert (result.code, result.count("ok"), result.count("denied")) == (1, len(names) - 1, 1)
    assert len(result.lines) == 1 + len(names) + 1
    assert rf"WARNING: {mounts.base}/a\012b (tmpfs srca\012b) denied: mode 0000 does not allow access" in result.lines
    assert rf"'{mounts.base}/a\047b'=0." in result.lines[0]
    assert result.lines[0].count("|") == 1
    picked = plugin(os.fsencode(mounts.base) + b"/a\nb", below=False)  # type: ignore[arg-type]
    assert picked.count("denied") == 1


def test_local_and_remote_are_opposites(plugin: Plugin, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /srv rw - nfs4 filer:/srv rw\n")
    told = [f"--mountinfo={table}", "--exclude=/", "-vvv"]  # neither of the two is probed
    line = next(line for line in plugin("--local", *told, below=False).lines if line.startswith("left out: /srv"))
    assert line.endswith("): a network filesystem")
    config = tmp_path / "c.conf"
    why = "does not go with --remote: no mount could be selected"
    assert _refused(plugin, "--local", "--remote") == f"MOUNTS UNKNOWN - argument --local: {why}"
    for content, option in (("local = yes", "--remote"), ("remote = yes", "--local")):
        config.write_text(f"[check_mounts]\n{content}\n")
        config.chmod(0o644)
        assert why in _refused(plugin, option, "--config", str(config))
    config.write_text("[check_mounts]\nremote = yes\nlocal = yes\n")
    assert _refused(plugin, "--config", str(config)) == f"MOUNTS UNKNOWN - {config} line 3: local: {why}"


@pytest.mark.root
def test_a_default_configuration_of_root_alone(plugin: Plugin, public: Path) -> None:
    """It locks no unprivileged run out that names another, or none."""
    other = public / "other.conf"
    other.write_text("[check_mounts]\ntimeout = 3\n")
    other.chmod(0o644)
    closed = public / "closed.conf"
    closed.write_text("[check_mounts]\ntimeout = 3\n")
    closed.chmod(0o600)
    code = (
        "import sys; from check_mounts.options import settled; settled.DEFAULT_CONFIG = sys.argv.pop(1)\n"
        "from check_mounts.__main__ import main; main()"
    )
    environment = {"PYTHONPATH": str(public), "PATH": os.environ["PATH"]}

    def run(*words: str) -> str:
        command = [PYTHON, "-c", code, str(closed), "-p", "/", *words]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, env=environment, cwd="/", user=65534, group=65534, extra_groups=[]
        )
        return done.stdout.decode().partition("\n")[0]

    assert run() == (
        f"MOUNTS UNKNOWN - {closed}: Permission denied; --config names another file, --config /dev/null none"
    )
    assert run("--config", str(other)).startswith("MOUNTS OK - ")
    assert run("--config", "/dev/null").startswith("MOUNTS OK - ")
