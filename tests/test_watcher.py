"""The process that the caller waits for, while the one that checks is caught by what hangs. With
real hung filesystems."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.guard import caught, notes, watcher
from check_mounts.system import directories
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin, Result, until
from tests.daemon import children
from tests.kernel import runs_alive, state, workers_alive

_ASK = ("-t", "0.3", "--deadline", "0.5")
# How late the watcher may be on a busy host, beyond the deadline and its half second.
_LATE = 5.0


def _alone(count: int = 1) -> set[int]:
    until(lambda: len(runs_alive()) == count)
    return runs_alive()


def _child(process: subprocess.Popen[bytes]) -> int:
    """The process that checks."""
    until(lambda: children(process.pid))
    return children(process.pid)[0]


def _named(hung: Path, base: Path, how: str) -> Path:
    """A file on what hangs: by its own name, below a link to its directory, by a link to a link to
    it."""
    if how == "file":
        return hung / "file"
    link, again = base / "link", base / "again"
    link.symlink_to(hung if how == "directory" else hung / "file")
    again.symlink_to(link)
    return link / "sub" / "file" if how == "directory" else again


_OPTIONS = {
    "--config={}": "reading {}",
    "--fstab={}": "reading {}",
    "--mountinfo={}": "reading the mount table {}",
    "--extra-opts=@{}": "reading {}",
}


@pytest.mark.root
@pytest.mark.parametrize("how", ["file", "directory", "twice"])
@pytest.mark.parametrize("option", _OPTIONS)
def test_a_file_that_hangs(plugin: Plugin, hung: Path, tmp_path: Path, option: str, how: str) -> None:
    path = _named(hung, tmp_path, how)
    began = time.monotonic()
    result = plugin(*_ASK, option.format(path), below=False)
    assert time.monotonic() - began < 1.0 + _LATE
    (stuck,) = _alone()
    assert (result.code, result.stderr) == (3, b"")
    assert (
        result.stdout.decode()
        == f"MOUNTS UNKNOWN - stuck {_OPTIONS[option].format(path)} (pid {stuck}), nothing was checked\n"
    )


@pytest.mark.root
def test_the_environment_may_name_it_too(plugin: Plugin, hung: Path) -> None:
    for variable, step in (
        ("MP_CONFIG_FILE", f"reading {hung}/file"),
        ("NAGIOS_CONFIG_PATH", f"looking for {hung}/file/monitoring-plugins.ini"),
    ):
        result = plugin(*_ASK, "--extra-opts", below=False, env={**plugin.environment, variable: f"{hung}/file"})
        assert result.verdict.startswith(f"MOUNTS UNKNOWN - stuck {step} (pid ")
    _alone(2)  # another environment is another run


@pytest.mark.root
def test_twenty_runs_leave_one_process(fuse: Fuse, plugin: Plugin, hung: Path) -> None:
    words = (*_ASK, f"--config={hung}/file")
    first = plugin(*words, below=False)
    (stuck,) = _alone()
    for _ in range(19):
        result = plugin(*words, below=False)
        assert (result.code, re.sub(r" since [-0-9: ]{19}", "", result.verdict)) == (3, first.verdict)
        assert f"(pid {stuck})" in result.verdict
        assert runs_alive() == {stuck}
    assert result.verdict != first.verdict
    fuse.command("answer", "hung")
    until(lambda: not runs_alive())
    # One that has ended is forgotten.
    assert "stuck" not in plugin(*words, below=False).verdict
    assert not list(Path("/run/check_mounts").glob(f"caught.*.{stuck}.*"))


@pytest.mark.root
def test_another_run_is_not_kept(plugin: Plugin, hung: Path) -> None:
    plugin(*_ASK, f"--config={hung}/file", below=False)
    assert plugin("-p", "/", below=False).code == 0
    assert plugin(*_ASK, f"--config={hung}/other", below=False).verdict.startswith(
        f"MOUNTS UNKNOWN - stuck reading {hung}/other "
    )
    _alone(2)


@pytest.mark.root
def test_libraries_below_usr_local_that_hang(mounts: Mounts, fuse: Fuse, tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"PREFIX={tmp_path}/p"], check=True, capture_output=True)
    version = (
        subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout.split()[1].rpartition(".")[0]
    )
    place_of = f"/usr/local/lib/python{version}/dist-packages"
    fuse.mount(place_of)
    fuse.command("hang", place_of)
    result = Result(
        subprocess.Popen([f"{tmp_path}/p/bin/check_mounts", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    )
    assert result.verdict.startswith("MOUNTS UNKNOWN - stuck looking for the libraries of Python (pid ")
    assert result.code == 3
    _alone()
    fuse.command("answer", place_of)


@pytest.mark.root
@pytest.mark.parametrize("user", ["bob", "1000"])
def test_the_database_of_users_hangs(fuse: Fuse, plugin: Plugin, user: str) -> None:
    file = fuse.mount("users") / "file"
    file.touch()
    script = f'mount --bind {file} /etc/passwd && echo >&2 && read x && exec "$@"'
    wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    process = plugin.start(
        *_ASK,
        "--as",
        user,
        below=False,
        wrapper=wrapper,
        stdin=subprocess.PIPE,
        env={**plugin.environment, "HOME": "/"},
    )
    assert process.stdin is not None and process.stderr is not None
    process.stderr.read(1)
    fuse.command("hang", "users")
    process.stdin.write(b"\n")
    process.stdin.flush()
    result = Result(process)
    assert re.fullmatch(
        rf"MOUNTS UNKNOWN - stuck looking up the user {user} \(pid \d+\), nothing was checked", result.verdict
    )
    fuse.command("answer", "users")


@pytest.mark.root
def test_a_fifo_is_no_file_and_a_mount_point_no_value(plugin: Plugin, hung: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for option in _OPTIONS:
        assert plugin(option.format(tmp_path / "fifo"), below=False).lines[0].endswith("/fifo: not a regular file")
    # A slip for --fstab and a mount point: the mount point is checked, by a worker.
    result = plugin("-t", "0.3", "--fstab", str(hung), below=False, state=True)
    assert (result.code, result.numbers["timed_out"]) == (2, "1")
    assert f"{hung} (fuse.test fuse) timed out" in result.verdict


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fstab", "/etc/fstab"], "argument --fstab: '/etc/fstab' would be a MOUNTPOINT; write --fstab=/etc/fstab"),
        (
            ["--fstab", "/srv/fstab.new"],
            "argument --fstab: '/srv/fstab.new' would be a MOUNTPOINT; write --fstab=/srv/fstab.new",
        ),
        (
            ["--extra-opts", "mounts@/x.ini"],
            "argument --extra-opts: 'mounts@/x.ini' would be a MOUNTPOINT; write --extra-opts=mounts@/x.ini",
        ),
        (
            ["--extra-opts", "@/x.ini"],
            "argument --extra-opts: '@/x.ini' would be a MOUNTPOINT; write --extra-opts=@/x.ini",
        ),
        (["--fstab="], "argument --fstab: the path is empty"),
    ],
)
def test_a_file_by_an_equals_sign_only(plugin: Plugin, words: Sequence[str], said: str) -> None:
    result = plugin(*words, below=False, state=False)
    assert (result.code, result.lines[0]) == (3, f"MOUNTS UNKNOWN - {said}")


def test_what_stands_behind_is_a_mount_point(plugin: Plugin, tmp_path: Path) -> None:
    result = plugin("--fstab", "/nowhere", "--", "--fstab", below=False)
    assert result.lines[0] == "MOUNTS UNKNOWN - argument MOUNTPOINT: '--fstab' is not an absolute path"
    assert "/nowhere missing" in plugin("--fstab", "/nowhere", "--severity", "changed=ok", below=False).verdict


_LATE_LIBRARY = """
import importlib.machinery, sys
from check_mounts import run
from check_mounts.__main__ import main
noting, directory, wanted = run._noting, sys.argv.pop(1), sys.argv.pop(1)
class Late:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, [directory]) if name == wanted else None
def with_it(*arguments):
    sys.path.append(directory)  # so the run knows that modules may hang
    sys.meta_path.insert(0, Late)
    return noting(*arguments)
run._noting = with_it
main()
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("module", "stuck_in"),
    [
        ("nagiosplugin", "loading nagiosplugin"),
        ("check_mounts.checks.aftermath", "asking this host about mounts that have failed"),
    ],
)
def test_what_was_found_before_is_told(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, hung: Path, module: str, stuck_in: str
) -> None:
    """The files of a module hang, of that which makes the report or that which asks this host: the
    failures are there all the same."""
    gone = mounts.base / "gone"
    fuse.mount("dead")
    fuse.command("die", "dead")
    for _ in range(2):  # one covers the other, which is not checked
        mounts.tmpfs("healthy")
    command = [
        PYTHON,
        "-c",
        _LATE_LIBRARY,
        str(hung),
        module,
        "-t",
        "1",
        "--deadline",
        "2",
        "-p",
        f"{mounts.base}/*",
        "-x",
        str(hung),
        "--expect",
        str(gone),
    ]
    command += ["--state-dir", str(plugin.state_dir)]
    process = subprocess.Popen(
        command, env={"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    result = Result(process)
    assert result.code == 2, result.stdout
    assert re.match(rf"MOUNTS CRITICAL - stuck {stuck_in} \(pid \d+\), ", result.lines[0])
    assert ", 2 of 2 mounts were checked, 2 failed: " in result.lines[0]  # what is missing is no mount
    assert f"CRITICAL: {gone} missing: not mounted (--expect)" in result.lines
    assert not [line for line in result.lines if line.startswith("OK")]


# -- what is passed on


def _written(plugin: Plugin, script: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """The plugin with something else in place of a check: what the script defines as
    ``check(arguments, noted)``."""
    code = f"import os, sys, time, signal\nfrom check_mounts import __main__\n{script}\n"
    code += "__main__._check = check\n__main__.main()"
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    command = [PYTHON, "-c", code, *arguments]
    return subprocess.Popen(command, env=plugin.environment, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("code", range(4))
def test_output_errors_and_exit_code(plugin: Plugin, code: int) -> None:
    script = (
        f"def check(arguments, noted):\n    os.write(1, b'a\\0\\xff' * 99999); os.write(2, b'e' * 99999); return {code}"
    )
    result = _written(plugin, script)
    assert result.communicate(timeout=60) == (b"a\0\xff" * 99999, b"e" * 99999)
    assert result.returncode == code


def test_errors_come_as_they_come(plugin: Plugin) -> None:
    read, write = os.pipe()
    script = "def check(arguments, noted):\n    os.write(2, b'now'); sys.stdin.read(1); os.write(1, b'then'); return 1"
    process = _written(plugin, script, stdin=read)
    os.close(read)
    assert process.stderr is not None
    assert os.read(process.stderr.fileno(), 10) == b"now"
    os.close(write)
    assert process.communicate(timeout=60) == (b"then", b"")
    assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGXFSZ])
def test_one_that_died_is_unknown(plugin: Plugin, number: signal.Signals) -> None:
    script = "def check(arguments, noted):\n    noted.step('reading x')\n"
    script += f"    signal.signal({number:d}, signal.SIG_DFL)\n" if number != signal.SIGKILL else ""
    process = _written(plugin, f"{script}    os.kill(os.getpid(), {number:d})")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (3, b"")
    said = rb"MOUNTS UNKNOWN - the check was ended by %b while reading x \(pid \d+\), nothing was checked\n"
    assert re.fullmatch(said % number.name.encode(), output)


@pytest.mark.parametrize("end", ["os._exit(0)", "os._exit(2)", "sys.exit(0)", "raise KeyboardInterrupt"])
def test_one_that_says_nothing_is_never_ok(plugin: Plugin, end: str) -> None:
    process = _written(plugin, f"def check(arguments, noted):\n    {end}")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert output.startswith(b"MOUNTS UNKNOWN - ")


def test_one_that_died_after_its_verdict(plugin: Plugin) -> None:
    script = "def check(arguments, noted):\n    os.write(1, b'MOUNTS OK - x\\n'); noted.told(0)\n"
    process = _written(plugin, f"{script}    noted.step('submitting'); os.kill(os.getpid(), 9)")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, b"MOUNTS OK - x\n")
    assert re.fullmatch(rb"check_mounts: the check was ended by SIGKILL while submitting \(pid \d+\)\n", errors)


_SLEEPS = """
def check(arguments, noted):
    from check_mounts.system.signals import Interrupts
    interrupts = Interrupts()
    noted.until(time.monotonic() + 60)
    os.write(2, b'.')
    import select
    select.select([interrupts.wake_fd], [], [])
    time.sleep(0.01)
    os.write(1, ','.join(interrupts.names).encode())
    return 3
"""


@pytest.mark.parametrize("number", watcher.ENDING)
def test_signals_are_passed_on_once(plugin: Plugin, number: int) -> None:
    process = _written(plugin, _SLEEPS, start_new_session=True)
    assert process.stderr is not None
    process.stderr.read(1)
    os.killpg(process.pid, number)  # as a terminal does, and some supervisors
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (3, signal.Signals(number).name.encode(), b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_was_blocked_or_ignored(plugin: Plugin, number: signal.Signals) -> None:
    """A caller may have blocked what asks for the end; what it ignores (nohup) stays ignored."""
    blocked = _written(plugin, _SLEEPS, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [number]))
    ignored = _written(plugin, _SLEEPS, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    for process in (blocked, ignored):
        assert process.stderr is not None
        process.stderr.read(1)
        process.send_signal(number)
    assert blocked.communicate(timeout=60)[0] == number.name.encode()
    ignored.send_signal(signal.SIGINT)
    assert ignored.communicate(timeout=60)[0] == b"SIGINT"


@pytest.mark.root
def test_a_signal_while_it_is_stuck(plugin: Plugin, hung: Path, fuse: Fuse) -> None:
    process = plugin.start("-t", "60", "--deadline", "90", f"--config={hung}/file", below=False)
    until(lambda: fuse.waiting("hung"))
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = Result(process)
    assert time.monotonic() - began < _LATE
    assert re.fullmatch(
        rf"MOUNTS UNKNOWN - interrupted by SIGTERM, stuck reading {hung}/file \(pid \d+\), nothing was checked",
        result.verdict,
    )
    assert result.code == 3


@pytest.mark.root
def test_a_watcher_that_was_killed(plugin: Plugin, hung: Path, fuse: Fuse, mounts: Mounts) -> None:
    """Its check ends with it; one that is stuck cannot, and the next run knows."""
    frozen = fuse.mount("frozen")
    fuse.command("freeze", "frozen")
    process = plugin.start("-t", "30", "-x", str(hung))
    checking = _child(process)
    until(workers_alive)  # forked by its nursery
    process.kill()
    process.communicate()
    until(lambda: state(checking) in "XZ")
    words = ("-t", "30", f"--config={hung}/file")
    process = plugin.start(*words, below=False)
    until(lambda: fuse.waiting("hung"))
    process.kill()
    process.communicate()
    (stuck,) = _alone()
    assert re.search(
        rf"stuck reading {hung}/file since .* \(pid {stuck}\), nothing was checked$",
        plugin(*words, below=False).verdict,
    )
    assert frozen


@pytest.mark.root
def test_what_the_caller_leaks_reaches_its_end(plugin: Plugin, hung: Path) -> None:
    read, write = os.pipe()
    process = plugin.start(*_ASK, f"--config={hung}/file", below=False, pass_fds=[write])
    os.close(write)
    assert Result(process).code == 3
    _alone()
    assert select.select([read], [], [], 60)[0] and os.read(read, 1) == b""
    os.close(read)


def test_a_host_that_was_stopped_for_a_while(plugin: Plugin) -> None:
    """Both processes, as when a virtual machine or a control group is frozen: what comes in the
    moment after it counts."""
    script = "def check(arguments, noted):\n    noted.until(time.monotonic() + 0.5); os.write(2, b'.')\n"
    read, write = os.pipe()
    process = _written(plugin, f"{script}    sys.stdin.read(1); os.write(1, b'late'); return 0", stdin=read)
    os.close(read)
    assert process.stderr is not None
    process.stderr.read(1)
    pids = (process.pid, _child(process))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(state(pid) == "T" for pid in pids))
    time.sleep(1.5)
    os.close(write)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == b"late"
    assert process.returncode == 0


_COMPUTES = """
def check(arguments, noted):
    noted.step("counting")
    noted.until(time.monotonic() - 0.1)
    end = time.process_time() + {}
    while time.process_time() < end:
        pass
    os.write(1, b"done")
    return 0
"""


def test_one_that_computes_is_not_stuck(plugin: Plugin) -> None:
    # This host may give it no processor for a while, but not each time.
    tries = (_written(plugin, _COMPUTES.format(0.45)).communicate(timeout=60)[0] for _ in range(3))
    assert b"done" in tries
    began = time.monotonic()
    process = _written(plugin, _COMPUTES.format(60))  # but there is an end to that
    assert process.communicate(timeout=60)[0].startswith(b"MOUNTS UNKNOWN - still counting (pid ")
    assert time.monotonic() - began < 2 + _LATE


def test_a_terminal_is_the_checks_own(plugin: Plugin) -> None:
    leader, follower = pty.openpty()
    script = "def check(arguments, noted):\n    print(os.isatty(1), os.isatty(2), flush=True); return 1"
    process = _written(plugin, script, stdout=follower)
    os.close(follower)
    assert process.communicate(timeout=60)[1] == b""
    assert os.read(leader, 100) == b"True False\r\n"
    assert process.returncode == 1
    os.close(leader)


def test_stopped_at_a_terminal_both_stop(plugin: Plugin) -> None:
    process = _written(plugin, _SLEEPS)
    assert process.stderr is not None
    process.stderr.read(1)
    pids = (process.pid, _child(process))
    process.send_signal(signal.SIGTSTP)
    until(lambda: all(state(pid) == "T" for pid in pids))
    process.send_signal(signal.SIGCONT)
    until(lambda: not any(state(pid) == "T" for pid in pids))
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == b"SIGINT"


@pytest.mark.root
def test_the_watcher_names_no_file(plugin: Plugin, tmp_path: Path) -> None:
    """From its fork to its end."""
    log = tmp_path / "strace"
    wrapper = ["strace", "-f", "-qq", "-e", "trace=%file,openat2,%process", "-o", str(log)]
    assert Result(plugin.start("-p", "/", below=False, wrapper=wrapper)).code == 0
    lines = log.read_text().splitlines()
    first = lines[0].split()[0]
    forked = next(
        number
        for number, line in enumerate(lines)
        if line.startswith(first) and re.search(r" (clone3?|v?fork)\(", line)
    )
    named = [
        line
        for line in lines[forked + 1 :]
        if line.startswith(first) and re.search(r"(open|stat|readlink|access)\w*\(", line)
    ]
    assert not named
    assert any('chdir("/"' in line for line in lines[forked:] if line.startswith(first))


_NO_FORK = """
import errno
real = os.fork
def fork():
    raise OSError(errno.EAGAIN, "x")
os.fork = fork
def check(arguments, noted):
    os.fork = real
    os.write(1, b"alone")
    return 1
"""


def test_without_a_process_it_checks_by_itself(plugin: Plugin) -> None:
    process = _written(plugin, _NO_FORK)
    assert process.communicate(timeout=60) == (b"alone", b"")
    assert process.returncode == 1


@pytest.mark.root
@pytest.mark.parametrize("words", [("--cached", "--cache={}/file"), ("-v", "--cached", "--cache", "{}/sub/status")])
def test_a_result_that_hangs(plugin: Plugin, hung: Path, words: Sequence[str]) -> None:
    process = plugin.start(*(word.format(hung) for word in words), below=False, state=False)
    _child(process)
    process.send_signal(signal.SIGTERM)  # or it would take its whole nine seconds
    assert Result(process).verdict.startswith("MOUNTS UNKNOWN - interrupted by SIGTERM, stuck ")
    _alone()


@pytest.mark.root
@pytest.mark.parametrize("how", ["a link in the middle", "a directory that is mounted", "a file that is mounted"])
def test_a_result_below_run_that_leads_to_what_hangs(mounts: Mounts, fuse: Fuse, plugin: Plugin, how: str) -> None:
    other = fuse.mount("results")
    (other / "status").touch()
    below = Path(tempfile.mkdtemp(prefix="check_mounts-test-", dir="/run"))
    path = below / "there" / "status"
    try:
        if how == "a link in the middle":
            path.parent.symlink_to(other)
        elif how == "a directory that is mounted":
            path.parent.mkdir()
            mounts.mount_at(path.parent, "none", str(other), flags=4096)
        else:
            path.parent.mkdir()
            path.touch()
            mounts.mount_at(path, "none", str(other / "status"), flags=4096)
        fuse.command("hang", "results")
        process = plugin.start("--cached", f"--cache={path}", below=False, state=False)
        _child(process)
        until(lambda: fuse.waiting("results"))
        process.send_signal(signal.SIGTERM)  # or it would take its whole nine seconds
        assert Result(process).verdict.startswith(
            "MOUNTS UNKNOWN - interrupted by SIGTERM, stuck reading the result (pid "
        )
    finally:
        fuse.command("answer", "results")
        until(lambda: not runs_alive())
        if not path.parent.is_symlink():
            mounts.detach(path)
            mounts.detach(path.parent)
        shutil.rmtree(below)


@pytest.mark.root
def test_nothing_is_submitted_is_said_on_stderr(plugin: Plugin, hung: Path) -> None:
    words = (*_ASK, f"--config={hung}/file", "--submit=command-file:/nowhere")
    for _ in range(2):
        result = plugin(*words, below=False)
        assert result.code == 3
        told = re.fullmatch(r"check_mounts: not submitted: (stuck reading .*)\n", result.stderr.decode())
        assert told and result.verdict.startswith(f"MOUNTS UNKNOWN - {told[1]}")


@pytest.mark.root
@pytest.mark.parametrize("number", ["ENOMEM", "EPERM"])
@pytest.mark.parametrize(
    "call",
    [
        "memfd_create", "ftruncate", "pipe2", "poll", "wait4", "setpgid", "getcwd", "pwrite64", "mkdirat", "unlinkat",
        "prctl",
        "close_range", "kill", "ioctl",
    ],
)  # fmt: skip
def test_a_call_that_fails_loses_no_verdict(plugin: Plugin, tmp_path: Path, call: str, number: str) -> None:
    """The first of its kind in each process. EPERM is what a filter of system calls answers."""
    wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={number}:when=1",
    ]
    result = plugin("-p", "/", below=False, wrapper=wrapper)
    assert (result.code, result.stderr) == (0, b""), result.stdout
    assert result.verdict.startswith("MOUNTS OK - 1 mount checked in ")


def test_in_a_directory_that_was_removed(plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    wrapper = ["sh", "-c", f'cd "{tmp_path}/d" && rmdir "{tmp_path}/d" && exec "$@"', "sh"]
    assert plugin("/nowhere", below=False, wrapper=wrapper).code == 2


# -- notes


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=1500)), max_size=40), st.text(max_size=900))
def test_all_that_has_room_is_read_again(failures: list[tuple[int, str]], step: str) -> None:
    fd = notes.create()
    try:
        noted = notes.Notes(fd)
        noted.step(step.replace("\n", " "))
        for number, line in failures:
            noted.failed(number, line.replace("\n", " "))
        read = notes.Noted(fd)
        assert sum(read.failed) == len(failures)
        assert len(read.lines) <= len(failures)
        assert len(read.lines) == len(failures) or sum(len(line.encode()) for _, line in failures) > notes.SIZE // 2
        output, verdict = notes.report(read, b"stuck")
        assert verdict == (2 if any(number == 2 for number, _ in failures) else 3)
        assert output.startswith(b"MOUNTS ") and output.endswith(b"\n") and len(output) < 2 * notes.SIZE
    finally:
        os.close(fd)


def test_a_record_that_is_being_written_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call is the last that the writer makes, what is read is what was noted before or
    after."""
    writes: list[tuple[bytes, int]] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: writes.append((data, offset)))
    noted = notes.Notes(99)
    for number in range(3):
        noted.step(f"step {number}")
        noted.failed(2, f"line {number}")
    noted.replace([(1, "last")])
    monkeypatch.setattr(os, "pwrite", real)
    seen = []
    for count in range(len(writes) + 1):
        fd = notes.create()
        for data, offset in writes[:count]:
            os.pwrite(fd, data, offset)
        read = notes.Noted(fd)
        assert len(read.lines) == sum(read.failed)
        seen.append((read.step, [line for _, line in read.lines]))
        os.close(fd)
    assert seen[-1] == (b"step 2", [b"last"])
    assert (b"step 1", [b"line 0"]) in seen


@pytest.mark.parametrize(
    "data", [b"", b"\1" * 5000, b"\0" * 64 + b"1 2 3\nx\n", b"\0" * 64 + b"a b\nx\n" + b"\0" * 9000]
)
def test_what_are_no_notes(data: bytes) -> None:
    fd = os.memfd_create("x")
    os.pwrite(fd, data, 0)
    with pytest.raises((ValueError, IndexError)):
        notes.Noted(fd)
    os.close(fd)


def test_whose_entries_are_whose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of this run, of a run that goes on, of one that has ended, and files that are none."""
    (tmp_path / "d").mkdir(mode=0o700)
    monkeypatch.setattr(directories, "default_directory", lambda: str(tmp_path / "d"))
    monkeypatch.setattr(caught, "_place", directories.default_directory)
    own = caught.Run(["a"], notes.Notes(notes.create()), os.getpid())
    prefix = own._kind
    start = own._name.split(".")[4]
    for name in ("caught.x", f"{prefix}x.y.z", f"{prefix}1.2", f"{prefix}999999999.1.999999999.1"):
        (tmp_path / "d" / name).touch()
    assert own.find_caught() is None
    assert f"{prefix}999999999.1.999999999.1" not in os.listdir(tmp_path / "d")
    (tmp_path / "d" / f"{prefix}{os.getpid()}.{start}.999999999.1").write_bytes(b"damaged")
    earlier = own.find_caught()
    assert earlier is not None and earlier.what == b"stuck starting (pid %d)" % os.getpid()
    assert earlier.report() == (b"MOUNTS UNKNOWN - %b, nothing was checked\n" % earlier.what, 3)
    assert caught.Run(["b"], notes.Notes(notes.create()), os.getpid()).find_caught() is None
    own.leave()


@pytest.mark.root
def test_a_user_who_has_checked_leaves_nothing_in_tmp(mounts: Mounts, public: Path) -> None:
    mounts.tmpfs("healthy")
    own = Path("/tmp/check_mounts-4713")
    assert not own.exists()
    command = [
        "setpriv",
        "--reuid=4713",
        "--regid=4713",
        "--clear-groups",
        PYTHON,
        "-m",
        "check_mounts",
        "-p",
        f"{mounts.base}/*",
    ]
    for more in ([], ["--state-dir", str(own)]):
        subprocess.run(
            [*command, *more], cwd=public, env={"PATH": os.environ["PATH"]}, stdout=subprocess.DEVNULL, check=False
        )
        assert not own.exists()
