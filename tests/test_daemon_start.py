"""The daemon's start while something that it reads or loads hangs. For real."""

from __future__ import annotations

import marshal
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.guard import trial
from check_mounts.system import reading
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Result, in_time, remaining, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]


# With less patience than it has: three seconds.
_IMPATIENT = """
from check_mounts.guard import starting
from check_mounts.__main__ import main
starting._STILL = 0.5
main()
"""


def _started(
    daemon: Daemon, *words: str, foreground: bool = True, environment: Optional[Mapping[str, str]] = None
) -> Result:
    command = [
        PYTHON,
        "-c",
        _IMPATIENT,
        "--daemon",
        *(["--foreground"] if foreground else []),
        "--cache",
        str(daemon.cache),
        *words,
    ]
    options: dict[str, object] = {
        "env": {**daemon.plugin.environment, **(environment or {})},
        "stdin": subprocess.DEVNULL,
    }
    pipe = subprocess.PIPE
    return Result(subprocess.Popen(command, stdout=pipe, stderr=pipe, **options))  # type: ignore[call-overload]


@pytest.mark.root
@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("--config={}", "reading {}"),
        ("--fstab={}", "reading {}"),
        ("--extra-opts=@{}", "reading {}"),
        ("--mountinfo={}", "reading the mount table {}"),
    ],
)
def test_a_start_that_is_caught(
    daemon: Daemon, hung: Path, tmp_path: Path, words: str, step: str, link: bool, foreground: bool
) -> None:
    path = tmp_path / "link" if link else hung / "file"
    if link:
        path.symlink_to(hung / "file")
    began = time.monotonic()
    result = _started(daemon, words.format(path), foreground=foreground)
    assert time.monotonic() - began < 20
    (stuck,) = remaining(1)
    assert (result.code, result.lines) == (
        3,
        [f"MOUNTS UNKNOWN - cannot start: stuck {step.format(path)} (pid {stuck})", ""],
    )
    # The log, which is syslog where it was to be detached.
    assert result.stderr.decode() == (f"Cannot start: stuck {step.format(path)} (pid {stuck})\n" if foreground else "")
    assert not daemon.cache.exists()


@pytest.mark.root
def test_each_start_says_the_same_and_one_process_is_left(
    fuse: Fuse, daemon: Daemon, hung: Path, mounts: Mounts
) -> None:
    """systemd starts it again and again."""
    mounts.tmpfs("home")
    words = (f"--fstab={hung}/fstab",)
    first = _started(daemon, *words)
    (stuck,) = remaining(1)
    for _ in range(5):
        began = time.monotonic()
        result = _started(daemon, *words)
        assert time.monotonic() - began < 10
        assert (result.code, re.sub(r" since [-0-9: ]{19}", "", result.verdict)) == (3, first.verdict)
        assert remaining(1) == {stuck}
    fuse.command("answer", "hung")
    remaining(0)
    assert "stuck" not in _started(daemon, *words).verdict


@pytest.mark.root
def test_systemd_is_told(daemon: Daemon, hung: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        result = _started(daemon, f"--config={hung}/file", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(4096).decode() == f"STATUS={result.verdict.partition(' - ')[2]}"


@pytest.mark.root
@pytest.mark.parametrize("variable", ["MP_CONFIG_FILE", "NAGIOS_CONFIG_PATH"])
def test_an_ini_file_that_the_environment_names(daemon: Daemon, hung: Path, variable: str) -> None:
    step = "reading" if variable == "MP_CONFIG_FILE" else "looking for"
    result = _started(daemon, "--extra-opts", environment={variable: f"{hung}/file"})
    assert f"cannot start: stuck {step} {hung}/" in result.verdict


@pytest.mark.root
def test_units_that_hang(daemon: Daemon, fuse: Fuse, mounts: Mounts) -> None:
    units = "/usr/local/lib/systemd/system"
    mounts.mount_at(Path("/usr/local/lib"), "tmpfs")
    fuse.mount(units)
    fuse.command("hang", units)
    assert f"cannot start: stuck listing {units} (pid " in _started(daemon, "--systemd").verdict
    fuse.command("answer", units)


@pytest.mark.root
def test_the_database_of_users_hangs(daemon: Daemon, fuse: Fuse) -> None:
    file = fuse.mount("users") / "file"
    file.touch()
    script = f'mount --bind {file} /etc/passwd && echo >&2 && read x && exec "$@"'
    wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    words = ["--daemon", "--foreground", "--cache", str(daemon.cache), "--as", "bob"]
    process = daemon.plugin.start(
        *words, wrapper=wrapper, stdin=subprocess.PIPE, env={**daemon.plugin.environment, "HOME": "/"}
    )
    assert process.stdin is not None and process.stderr is not None
    process.stderr.read(1)
    fuse.command("hang", "users")
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert "cannot start: stuck looking up the user bob (pid " in Result(process).verdict
    fuse.command("answer", "users")


@pytest.mark.root
def test_libraries_that_hang(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"PREFIX={tmp_path}/p"], check=True, capture_output=True)
    version = (
        subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout.split()[1].rpartition(".")[0]
    )
    libraries = f"/usr/local/lib/python{version}/dist-packages"
    fuse.mount(libraries)
    fuse.command("hang", libraries)
    command = [f"{tmp_path}/p/bin/check_mounts", "--daemon", "--foreground", "--cache", str(daemon.cache)]
    result = Result(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert result.code == 3
    assert "MOUNTS UNKNOWN - cannot start: stuck looking for the libraries of Python (pid " in result.verdict
    fuse.command("answer", libraries)


@pytest.mark.root
@pytest.mark.parametrize("foreground", [True, False])
def test_a_start_that_is_caught_can_be_called_off(daemon: Daemon, hung: Path, fuse: Fuse, foreground: bool) -> None:
    words = [
        "--daemon",
        *(["--foreground"] if foreground else []),
        "--cache",
        str(daemon.cache),
        f"--config={hung}/file",
    ]
    process = daemon.plugin.start(*words)
    until(lambda: fuse.waiting("hung"))
    process.send_signal(signal.SIGHUP)  # is for later
    process.send_signal(signal.SIGTERM)
    result = Result(process)
    assert result.code == 3
    assert result.lines[0].startswith("MOUNTS UNKNOWN - the start was interrupted by SIG")


# The first answer is of the process that may hang. What comes between that and the daemon's own
# understanding makes everything hang.
_BETWEEN = """
import sys
from check_mounts import run
real, done = run._understand_first, []
def later(*arguments):
    print(flush=True)
    sys.stdin.read(1)
    return real(*arguments)
run._understand_first = later
from check_mounts.__main__ import main
main()
"""


@pytest.mark.root
def test_what_could_be_read_is_not_read_again(mounts: Mounts, fuse: Fuse, daemon: Daemon, tmp_path: Path) -> None:
    home, way = mounts.tmpfs("home"), fuse.mount("way")
    configuration, fstab = tmp_path / "c.conf", tmp_path / "fstab"
    configuration.write_text("[check_mounts]\nseverity = missing=warning\n")
    fstab.write_text(f"none {home} tmpfs rw 0 0\nnone {mounts.base}/late tmpfs rw 0 0\n")
    words = [
        "--daemon",
        "--foreground",
        "--interval",
        "3600",
        "--cache",
        str(daemon.cache),
        "--state-dir",
        str(tmp_path / "state"),
    ]
    words += ["-p", f"{mounts.base}/*", "-x", str(way), f"--config={configuration}", f"--fstab={fstab}"]
    with open(daemon.log_path, "ab") as log:
        process = subprocess.Popen(
            [PYTHON, "-c", _BETWEEN, *words],
            env=daemon.plugin.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.read(1)
        for path in (configuration, fstab):
            path.unlink()
            path.symlink_to(way / "file")
        fuse.command("hang", "way")
        process.stdin.write(b"\n")
        process.stdin.flush()
        until(lambda: "\nChecked " in daemon.log)
        result = daemon.cached()
        assert (result.code, result.count("missing")) == (1, 1)
    finally:
        process.kill()
        process.communicate()
        fuse.command("answer", "way")


def _answer(action: object, still: float = 1.0, longest: float = 10.0) -> trial.Trial:
    return trial.Trial(action).wait(still, longest, lambda: False)  # type: ignore[arg-type]


def test_answers_of_any_length() -> None:
    for data in (b"", b"x", os.urandom(5_000_000)):
        tried = _answer(lambda data=data: data)
        assert (tried.answer == data, tried.words, tried.left) == (True, "", [])


def test_an_answer_that_is_too_long_is_none() -> None:
    tried = _answer(lambda: bytes(trial._LONGEST))  # and the byte that says what it is
    assert (tried.answer, tried.left) == (None, [])
    assert len(_answer(lambda: bytes(trial._LONGEST - 1)).answer or b"") == trial._LONGEST - 1


def _raise() -> bytes:
    raise RuntimeError


@pytest.mark.parametrize(
    "action",
    [
        _raise,
        lambda: os._exit(0),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: b"x" * (os.write(4, b"\1") + 1),
    ],
)
def test_one_that_ends_without_an_answer(action: object) -> None:
    tried = _answer(action)
    assert tried.answer is None
    assert tried.words.startswith("ended while starting (pid ") or tried.words == ""


def test_one_that_stands_still_is_given_up() -> None:
    def action() -> bytes:
        reading.step("waiting")
        time.sleep(60)
        return b""

    def attempt() -> trial.Trial:
        tried = _answer(action, still=0.3)
        assert tried.answer is None and tried.words.startswith("stuck waiting (pid ")
        return tried

    # A busy host may be late to end what was killed.
    tries = (in_time(10, attempt) for _ in range(3))
    assert not all(tried.left for tried in tries)


def test_one_that_computes_goes_on_but_not_for_ever() -> None:
    def action(seconds: float) -> bytes:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return b"done"

    assert _answer(lambda: action(0.8), still=0.4).answer == b"done"
    assert _answer(lambda: action(60), still=0.4, longest=1).answer is None


def test_recorded_and_given_again(tmp_path: Path) -> None:
    def ask() -> Sequence[object]:
        answers: list[object] = []
        for what, name, how in (
            ("a", "x", str.upper),
            ("b", "x", os.readlink),
            ("c", str(tmp_path), os.listdir),
            ("d", "/", os.access),
        ):
            try:
                ask = how if how is not os.access else lambda path: os.access(path, os.F_OK)
                answers.append(reading.ask(what, name, ask))  # type: ignore[arg-type]
            except OSError as error:
                answers.append((type(error), error.errno, error.strerror))
        return answers

    with reading.recorded() as answers:
        first = ask()
    (tmp_path / "new").touch()
    with reading.given(marshal.loads(marshal.dumps(answers))):
        assert ask() == first
        with pytest.raises(reading.Changed):
            reading.ask("a", "y", str.upper)
    assert ask() != first


def test_what_is_too_long_to_be_recorded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be taken for a file that is not there."""
    monkeypatch.setattr(reading, "MOST", 3 << 20)

    def ask() -> None:
        for name in ("/a", "/b", "/c", "/d"):
            reading.ask("reading", name, lambda name: b"x" * (1 << 20))

    words = "reading /c: too much to read, more than 3 MiB in all"
    with reading.recorded() as answers, pytest.raises(reading.TooMuch, match=words):
        ask()
    assert len(marshal.dumps(answers)) <= (3 << 20)
    with reading.given(answers), pytest.raises(reading.TooMuch, match=words):
        ask()
    ask()  # a run that records nothing has no such limit
