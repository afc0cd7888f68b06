"""``--submit`` and ``--per-mount``, from the command line, the configuration and the daemon, into a
pipe that the test reads."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Fuse, Mounts, Plugin, until, without_note
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.root
MS_BIND = 4096


class Reader:
    """Who reads commands, as Nagios does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._data = b""

    def lines(self) -> list[str]:
        """All that has come so far."""
        try:
            while data := os.read(self._fd, 65536):
                self._data += data
        except BlockingIOError:
            pass
        return self._data.decode("utf-8").splitlines()

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    result = Reader(tmp_path / "nagios.cmd")
    yield result
    result.close()


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Takes each connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    connections.append(listening.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def with_password(place: Path, destination: str) -> str:
    path = place / "secret.conf"
    path.write_text(f'[submit "{destination}"]\nuser = u\npassword = "s\\"3cret"\n')
    path.chmod(0o600)
    return str(path)


def test_what_is_printed_is_what_arrives(mounts: Mounts, fuse: Fuse, plugin: Plugin, reader: Reader) -> None:
    mounts.tmpfs("healthy")
    fuse.mount("home", source="filer1:/home")
    fuse.command("hang", "home")
    result = plugin(
        "-t",
        "0.5",
        "-v",
        "--submit",
        f"command-file:{reader.path}",
        "--submit-host",
        "client7",
        "--submit-service",
        "all mounts",
    )
    assert (result.code, result.stderr) == (2, b"")
    (line,) = reader.lines()
    *printed, note, end = result.lines
    assert (note, end) == (
        f"note: 1 result submitted to command-file:{reader.path}, which does not confirm that anything has arrived",
        "",
    )
    match = re.fullmatch(r"\[\d{10}\] PROCESS_SERVICE_CHECK_RESULT;client7;all mounts;2;(.*)", line)
    assert match
    assert without_note(match[1].replace("\\n", "\n")).split("\n") == printed


def test_a_change_between_passes_is_of_now(mounts: Mounts, daemon: Daemon, reader: Reader) -> None:
    """Or Icinga 2 would take it for older than what it has, and throw it away."""
    mounts.tmpfs("home")
    daemon.interval = 3600
    daemon.start("--submit", f"command-file:{reader.path}")
    until(lambda: reader.lines())
    first = int(reader.lines()[0][1:11])
    until(lambda: time.time() >= first + 1)
    mounts.tmpfs("second")
    until(lambda: " | mounts=2;;;0 " in reader.lines()[-1])
    assert int(reader.lines()[-1][1:11]) > first


def test_a_service_for_each_mount(mounts: Mounts, plugin: Plugin, reader: Reader) -> None:
    home, closed = mounts.tmpfs("home"), mounts.tmpfs("closed;x\n[0] DISABLE_NOTIFICATIONS", "mode=0")
    result = plugin("--per-mount", "--submit", f"command-file:{reader.path}", "--submit-host", "h")
    assert (result.code, result.stderr, len(result.lines)) == (1, b"", 2)
    found = [line.split(";", 3)[2:] for line in reader.lines()]
    name = str(closed).replace("\n", "\\012").replace(";", "\\073")
    assert [each[0] for each in found] == ["mounts", f"mounts {name}", f"mounts {home}"]
    assert [each[1][:2] for each in found] == ["1;", "1;", "0;"]
    assert re.fullmatch(rf"0;MOUNTS OK - {home} \(tmpfs none\) ok in 0\.\d{{3}} s \| '{home}'=0\.\d{{6}}s", found[2][1])


def test_each_mount_for_scripts(mounts: Mounts, plugin: Plugin) -> None:
    home, closed = mounts.tmpfs("home"), mounts.tmpfs("clo\tsed", "mode=0")
    result = plugin("--per-mount")
    assert (result.code, result.lines[0][:18]) == (1, "MOUNTS WARNING - 1")
    name = str(closed).replace("\t", "\\011")
    first, second, end = (line.split("\t") for line in result.lines[1:])
    assert first == [
        name,
        "1",
        f"MOUNTS WARNING - {name} (tmpfs none) denied: mode 0000 does not allow access | {first[2].split(' | ')[1]}",
    ]
    assert second[:2] == [str(home), "0"]
    assert end == [""]


def test_the_table_of_all_mounts_keeps_to_the_limit(mounts: Mounts, plugin: Plugin) -> None:
    for number in range(60):
        mounts.tmpfs(f"m{number:02}")
    whole = plugin("--per-mount", "--perfdata", "none", "--max-output", "0").lines
    cut = plugin("--per-mount", "--perfdata", "none", "--max-output", "1023")
    assert len(whole) == 62
    assert len(cut.stdout) <= 1023
    names = [line.split("\t")[0] for line in cut.lines[1:-2]]
    assert 1 < len(names) < 60  # how many depends on where pytest puts this test's directory
    assert cut.lines[-2] == f"({60 - len(names)} more lines left out: --max-output)"


def test_json_stays_json(mounts: Mounts, plugin: Plugin, reader: Reader) -> None:
    mounts.tmpfs("home")
    result = plugin("--json", "-v", "--submit", f"command-file:{reader.path}")
    assert json.loads(result.stdout)["state"] == "OK"
    assert len(reader.lines()) == 1


def test_a_stderr_that_nobody_reads(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    process = plugin.start("--submit", f"command-file:{tmp_path}/none", stderr=write)
    os.close(write)
    output, _ = process.communicate(timeout=60)
    os.close(read)
    assert (process.returncode, output[:9]) == (0, b"MOUNTS OK")


def test_what_goes_wrong_changes_nothing_else(
    mounts: Mounts, plugin: Plugin, reader: Reader, silent_server: int, tmp_path: Path
) -> None:
    """One line each on stderr; the other destinations get the result."""
    mounts.tmpfs("home")
    os.mkfifo(tmp_path / "unread")
    dead, unread = f"icinga2:https://127.0.0.1:{silent_server}", f"command-file:{tmp_path}/unread"
    words = [f"--submit={each}" for each in (unread, dead, f"command-file:{reader.path}")]
    result = plugin(*words, "--submit-timeout=1", "--config", with_password(tmp_path, dead))
    assert (result.code, len(result.lines), result.verdict[:9]) == (0, 2, "MOUNTS OK")
    first, second, end = result.stderr.decode().split("\n")
    assert first == (
        f"check_mounts: not submitted to {unread}: no process reads from it: the monitoring system does not run, or "
        "it accepts no external commands"
    )
    assert second.startswith(f"check_mounts: not submitted to {dead}: ")
    assert end == ""
    assert len(reader.lines()) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--submit", "carrier-pigeon:x"],
            "argument --submit: 'carrier-pigeon:...' is not a destination; the destinations are command-file:PATH, ",
        ),
        (["--submit", "command-file:x"], "argument --submit: command-file: the path must be absolute"),
        (["--submit", "icinga2:https://u:s3cret@h"], "argument --submit: "),
        (["--submit-host", "a;b"], "argument --submit-host: 'a;b' is not the name of a host or service"),
        (["--submit-service", "a\nb"], "argument --submit-service: 'a\\012b' is not the name of a host or service"),
        (["--submit-service", " "], "argument --submit-service: ' ' is not the name of a host or service"),
        (
            ["--submit=nsca:h:5667", "--submit=nsca:h:05667"],
            "argument --submit: nsca:h:5667 is named twice, in different words",
        ),
        (["--submit-host", "h"], "argument --submit-host: goes with --submit only"),
        (["--submit-timeout", "3"], "argument --submit-timeout: goes with --submit only"),
        (
            ["--submit-timeout", "0", "--submit", "command-file:/x"],
            "argument --submit-timeout: '0' is not a positive number of seconds",
        ),
        (["--per-mount", "--json"], "argument --per-mount: does not go with --json, which has each mount anyway"),
        (["--per-mount", "--daemon"], "argument --per-mount: goes with --submit only, in a daemon"),
    ],
)
def test_wrong_words(plugin: Plugin, words: list[str], why: str) -> None:
    result = plugin(*words)
    assert result.code == 3
    assert result.lines[0].startswith(f"MOUNTS UNKNOWN - {why}")
    assert "s3cret" not in result.stdout.decode()
    # Stderr is for who throws stdout away, if he wants something submitted.
    wanted = any(word.startswith("--submit") for word in words)
    assert result.stderr.decode() == (f"check_mounts: not submitted: {result.lines[0][17:]}\n" if wanted else "")


def test_a_set_up_that_is_wrong_is_no_secret(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """To cron, which mails what is on stderr, nothing would be wrong."""
    mounts.tmpfs("home")
    secret, told = Path(with_password(tmp_path, "nrdp:https://h/")), tmp_path / "told.conf"
    told.write_text(f"[check_mounts]\nsubmit = command-file:{tmp_path}/none\n")
    secret.chmod(0o644)
    pipe = f"--submit=command-file:{tmp_path}/none"
    for words in (
        ["--submit", "icinga2:https://127.0.0.1"],  # no credentials
        [pipe, "--config", str(secret)],
        [pipe, "--config", "/nowhere"],
        [pipe, "--no-such|option"],
        ["--submit"],
        ["--sumbit", "nsca:h", "--submit-service", "mounts"],
        [pipe, "--mountinfo", "/nowhere"],
        ["--config", str(told), "--mountinfo", "/nowhere"],
    ):
        result = plugin(*words)
        assert (result.code, result.verdict[:17]) == (3, "MOUNTS UNKNOWN - "), words
        assert result.stderr.decode() == f"check_mounts: not submitted: {result.lines[0][17:]}\n"
    # Who wants nothing submitted reads stdout.
    for words in (
        ["--no-such-option"],
        ["--", "--submit"],
        ["--config", "/nowhere"],
        ["--submit", "nsca:h", "--version"],
    ):
        assert (plugin(*words).code, plugin(*words).stderr) == (3, b""), words


def test_a_run_that_cannot_start_or_has_a_defect_says_so_to_cron(
    mounts: Mounts, plugin: Plugin, tmp_path: Path
) -> None:
    mounts.tmpfs("home")
    pipe = f"--submit=command-file:{tmp_path}/none"
    script = (
        "import check_mounts.{0} as module\ndef broken(*_): raise {2}\nmodule.{1} = broken\nfrom "
        "check_mounts.__main__ import main; main()"
    )
    for module, name, error, verdict, words in (
        ("probing.survey", "take", "OSError(24, 'Too many open files')", "", "cannot start: Too many open files"),
        ("probing.survey", "take", "ImportError('no module')", "", "cannot start: no module"),
        ("probing.survey", "take", "TypeError('a|b')", "", r"internal error: TypeError: a\174b"),
        ("passive.submitting", "results", "TypeError('x')", "MOUNTS OK - ", "internal error: TypeError: x"),
    ):
        defect = script.format(module, name, error)
        command = [PYTHON, "-c", defect, pipe, "-p", f"{mounts.base}/*", "--state-dir", str(tmp_path / "state")]
        done = subprocess.run(command, env=plugin.environment, cwd="/", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (3, f"check_mounts: not submitted: {words}\n")
        assert done.stdout.startswith(verdict or f"MOUNTS UNKNOWN - {words.replace(chr(92) + '174', '/')}")


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ('[submit "nsca:h"]\npassword = s3cret\n', 0o644,
         "{} line 2: password: refused, because everybody can read the file (mode 0644)"),
        ('[submit "nrdp:https://h/"]\n\ntoken = s3cret\n', 0o604,
         "{} line 3: token: refused, because everybody can read the file (mode 0604)"),
        ('[submit "nsca:h"]\npasword = s3cret\n', 0o600,
         "{} line 2: unknown key 'pasword' in [submit \"nsca:...\"]; the nearest is"),
        ('[submit "nsca:h"]\nca = ca.crt\n', 0o600, "{} line 2: ca: this is not an absolute path (it is not shown"),
        ('[submit "nsca:h"]\nverify = maybe\n', 0o600, "{} line 2: verify: this is not yes or no (it is not shown"),
        ('[check_mounts]\nsubmit = nsca:h\n[submit "nsca:h"]\n[submit "nsca:h"]\nuser = s3cret\n', 0o600,
         "{} line 4: nsca: 'user' does not fit; "),
        ('[submit "nsca:h"]\npassword: s3cret\n', 0o600,
         "{} line 2: this line is not 'KEY = VALUE', or its quotes are wrong (it is not shown"),
        ('[submit "nsca:h"]\npassword s3cret = 2\n', 0o600, "{} line 2: this line is not 'KEY = VALUE'"),
        ('[submit "nsca:h"]\npassword = "x"s3cret\n', 0o600, "{} line 2: this line is not 'KEY = VALUE'"),
        ('[submit "nrdp:https://h/?token=s3cret"]\nusr = u\n', 0o600,
         "{} line 2: unknown key 'usr' in [submit \"nrdp:...\"]"),
        ("[submit nsca]\n", 0o600, '{} line 1: [submit ...] must be written [submit "DESTINATION"]'),
        ('[submit "icinga2:https://root:s3cret@127.0.0.1:1"\n', 0o600,
         "{} line 1: '[submit ...' does not end with ']'"),
        ("[check_mounts]\nsubmit nrdp:https://u:s3cret@127.0.0.1:1/\n", 0o600,
         "{} line 2: this line is not 'KEY = VALUE'"),
        ('[check_mounts]\nsubmit = nsca:h\n\n[submit "nsca:h"]\nuser = s3cret\n', 0o600,
         "{} line 4: nsca: 'user' does not fit; "),
        ("[check_mounts]\nsubmit = nsca:\n", 0o600, "{} line 2: submit: nsca: "),
    ],
)  # fmt: skip
def test_wrong_lines(plugin: Plugin, tmp_path: Path, text: str, mode: int, why: str) -> None:
    configuration = tmp_path / "c.conf"
    configuration.write_text(text)
    configuration.chmod(mode)
    result = plugin("--config", str(configuration))
    assert (result.code, result.stderr) == (3, b"")
    assert result.lines[0].startswith("MOUNTS UNKNOWN - " + why.format(configuration))
    assert "s3cret" not in result.stdout.decode()


def test_the_default_configuration_is_for_the_daemon(
    mounts: Mounts, plugin: Plugin, daemon: Daemon, reader: Reader, tmp_path: Path
) -> None:
    """Who looks at one mount by hand must not tell the server that all are well."""
    mounts.tmpfs("home")
    configuration = tmp_path / "c.conf"
    configuration.write_text(f"[check_mounts]\nsubmit = command-file:{reader.path}\nsubmit-host = h\nper-mount = yes\n")
    target = Path("/etc/check_mounts.conf")
    made = not target.exists()
    if made:
        target.touch()
    try:
        mounts.mount_at(target, "none", str(configuration), flags=MS_BIND)
        result = plugin()
        assert (result.code, len(result.lines)) == (0, 2)
        assert reader.lines() == []
        daemon.start()
        until(lambda: reader.lines())
        daemon.stop()
        count = len(reader.lines())
        assert plugin("--config", str(configuration)).code == 0
        assert len(reader.lines()) == count + 2
    finally:
        mounts.detach(target)
        if made:
            target.unlink()


def test_the_daemon_submits_and_is_not_delayed(
    fuse: Fuse, daemon: Daemon, reader: Reader, silent_server: int, tmp_path: Path
) -> None:
    home = fuse.mount("home")
    daemon.interval = 0.5
    dead = f"icinga2:https://127.0.0.1:{silent_server}"
    configuration = with_password(tmp_path, dead)
    words = ["--submit", f"command-file:{reader.path}", "--submit", dead, "--submit-host", "h", "--submit-timeout", "2"]
    daemon.start(*words, "--config", configuration)
    until(lambda: reader.lines())
    assert re.match(r"\[\d+\] PROCESS_SERVICE_CHECK_RESULT;h;mounts;0;MOUNTS OK - 1 mount checked", reader.lines()[0])
    until(lambda: any(line.startswith(f"Cannot submit to {dead}: ") for line in daemon.lines))
    fuse.command("hang", "home")
    until(lambda: ";h;mounts;2;MOUNTS CRITICAL - " in reader.lines()[-1])
    assert str(home) in reader.lines()[-1]
    daemon.until_checked(3)
    assert sum(line.startswith(f"Cannot submit to {dead}: ") for line in daemon.lines) == 1
    # No pass waits for a destination to time out.
    assert all(int(seconds) < 2 for seconds in re.findall(r"\nChecked \d+ mounts in (\d+) seconds", daemon.log))
    assert daemon.stop() == 0


def test_a_server_that_comes_back_gets_the_newest(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    path = tmp_path / "late.cmd"
    daemon.interval = 0.3
    daemon.start("--submit", f"command-file:{path}", "--submit-host", "h")
    until(lambda: daemon.says(f"Cannot submit to command-file:{path}: No such file or directory"))
    mounts.tmpfs("second")
    daemon.until(lambda result: result.count("mounts") == 2)
    reader = Reader(path)
    try:
        until(lambda: reader.lines())
        assert " | mounts=2;;;0 " in reader.lines()[0]
    finally:
        reader.close()
    until(lambda: daemon.says(f"No longer: Cannot submit to command-file:{path}: No such file or directory"))


def test_hup_takes_other_destinations(mounts: Mounts, daemon: Daemon, reader: Reader, tmp_path: Path) -> None:
    mounts.tmpfs("home")
    configuration = tmp_path / "c.conf"
    configuration.write_text("")
    daemon.start("--config", str(configuration))
    configuration.write_text(f"[check_mounts]\nsubmit = command-file:{reader.path}\nper-mount = yes\nsubmit-host = h\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: len(reader.lines()) >= 2)
    assert [line.split(";")[2] for line in reader.lines()[:2]] == ["mounts", f"mounts {mounts.base}/home"]


def test_a_host_without_processes_is_said_in_time(plugin: Plugin, public: Path) -> None:
    """A run of cron's that waited for a process to be had would be one more that stands in the
    way."""
    pipe = public / "nagios.cmd"
    os.mkfifo(pipe)
    os.chown(pipe, 54321, -1)
    # RLIMIT_NPROC binds nobody who is root.
    limited = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "prlimit", "--nproc=1"]
    words = [
        "-p",
        "/",
        "--state-dir",
        f"{public}/none",
        "-t",
        "0.5",
        "--deadline",
        "1",
        "--submit-timeout",
        "0.5",
        "--submit",
        f"command-file:{pipe}",
        "-v",
    ]
    environment = {**plugin.environment, "PYTHONPATH": str(public)}
    process = plugin.start(*words, below=False, state=False, wrapper=limited, cwd="/", env=environment)
    output, errors = process.communicate(timeout=60)
    why = "Resource temporarily unavailable"
    assert output.startswith(b"MOUNTS UNKNOWN - 1 of 1 mounts failed")
    assert f"no worker could be started ({why})" in output.decode()
    assert (
        errors.decode()
        == f"check_mounts: not submitted to command-file:{pipe}: no process could be started for it ({why})\n"
    )
    assert process.returncode == 3


def test_that_nothing_can_be_checked_is_submitted_and_no_older_ok(
    mounts: Mounts, daemon: Daemon, tmp_path: Path
) -> None:
    """It replaces what still waits for the server, which would arrive as what is true now."""
    mounts.tmpfs("home")
    table, path = tmp_path / "mountinfo", tmp_path / "late.cmd"
    shutil.copyfile("/proc/self/mountinfo", table)
    daemon.interval = 0.5
    daemon.start(f"--mountinfo={table}", "--deadline", "1", "--submit", f"command-file:{path}", "--submit-host", "h")
    until(lambda: daemon.says(f"Cannot submit to command-file:{path}: No such file or directory"))
    table.unlink()
    daemon.until(lambda result: result.code == 3)
    reader = Reader(path)
    try:
        until(lambda: reader.lines())
        why = "cannot check: No such file or directory"
        told = json.loads(daemon.cache.with_name("status.json").read_text())
        assert (told["version"], told["state"], told["summary"], told["counts"], told["findings"]) == (
            1,
            "UNKNOWN",
            why,
            {},
            [],
        )
        assert reader.lines()[0].endswith(f" PROCESS_SERVICE_CHECK_RESULT;h;mounts;3;MOUNTS UNKNOWN - {why}")
        shutil.copyfile("/proc/self/mountinfo", table)
        until(lambda: ";h;mounts;0;MOUNTS OK" in reader.lines()[-1])
        first = daemon.cached()
        table.unlink()
        daemon.until(lambda result: result.code == 3)
    finally:
        reader.close()
    assert first.code == 0
    # As long as it lasts it is said, and not that the daemon does not run.
    valid_until = float(daemon.cache.read_bytes().split(b"\n", 1)[0].split()[4])
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > valid_until)
    assert daemon.cached().verdict == f"MOUNTS UNKNOWN - {why}"
