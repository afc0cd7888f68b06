"""The files of nrpe/ under a real NRPE that runs as user nagios, real sudo included: what arrives
at check_nrpe, and when."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, ageless, in_time, remaining
from tests.daemon import descriptors
from tests.monitoring.stack import Server, Stack, free_port

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

CHECK_NRPE = "/usr/lib/nagios/plugins/check_nrpe"
SHIPPED = Path("/usr/local/share/check_mounts/nrpe")
CONFIGURATION = Path("/etc/check_mounts.conf")
TIMEOUT = 5  # of the commands that are shipped
ITEM = re.compile(r"('(?:[^']|'')+'|[a-z_]+)=[0-9.]+s?(;[0-9.]*)*\Z")
# With a count's minimum, or all digits of a time.
WHOLE_ITEM = re.compile(r"\w+=\d+;;;0|\w+=\d+\.\d{3}s|'[^']+'=\d+\.\d{6}s")
BASE = Path("/run/check_mounts-tests/mounts")

Ask = Callable[..., "Answer"]


class Answer:
    """What check_nrpe printed, how it ended, and how long that took."""

    def __init__(self, result: subprocess.CompletedProcess[str], seconds: float) -> None:
        self.code, self.text, self.errors, self.seconds = result.returncode, result.stdout, result.stderr, seconds
        self.verdict, _, self.perfdata = self.text.split("\n")[0].partition("|")

    def __repr__(self) -> str:
        return f"{self.code} after {self.seconds:.3f} s: {self.text}{self.errors}"


def serve(stack: Stack, commands: Path, *options: str, allowed: str = "127.0.0.1") -> tuple[Server, int]:
    """Start nrpe with the configuration of its package, and ``commands`` among its files."""
    port = free_port()
    directory = stack.base / f"nrpe.{port}"
    stack.write(directory / commands.name, commands.read_text())
    text = Path("/etc/nagios/nrpe.cfg").read_text()
    for key, value in {
        "server_port": str(port),
        "pid_file": f"/run/nagios/nrpe.{port}.pid",
        "disable_syslog": "1",
        "allowed_hosts": allowed,
        "include_dir": str(directory),
    }.items():
        text, count = re.subn(rf"^{key}=.*$", f"{key}={value}", text, flags=re.M)
        assert count == 1, key
    server = stack.server("/usr/sbin/nrpe", "-c", stack.write(stack.base / f"nrpe.{port}.cfg", text), "-f", *options)
    server.until_port(port)
    return server, port


def client(stack: Stack, port: int, *options: str) -> Ask:
    def ask(command: str, *more: str) -> Answer:
        start = time.monotonic()
        result = stack.run(CHECK_NRPE, "-H", "127.0.0.1", "-p", str(port), *options, "-c", command, *more)
        return Answer(result, time.monotonic() - start)

    return ask


@pytest.fixture(scope="module", params=["tls", "plain"])
def ask(request: pytest.FixtureRequest, stack: Stack, installed: Path) -> Iterator[Ask]:
    """Ask an nrpe that is set up as nrpe/README.md says, for both ways at the same time."""
    stack.write("/etc/sudoers.d/check_mounts", (SHIPPED / "check_mounts.sudoers").read_text(), mode=0o440)
    options = () if request.param == "tls" else ("-n",)
    server, port = serve(stack, SHIPPED / "check_mounts.cfg", *options)
    yield client(stack, port, *options)
    server.stop()


@pytest.fixture
def mounts(stack: Stack) -> Iterator[Mounts]:
    """Where nagios gets in, too. The commands have no arguments of a test: the configuration limits
    them to these mounts."""
    result = Mounts(BASE)
    limit_to_the_mounts(stack)
    yield result
    result.close()
    CONFIGURATION.unlink()


def limit_to_the_mounts(stack: Stack, *more: str) -> None:
    stack.write(CONFIGURATION, "\n".join(["[check_mounts]", f"path = {BASE}/*", *more, ""]))


def hung(fuse: Fuse, name: str = "hung") -> Path:
    path = fuse.mount(name, source="filer:/home")
    fuse.command("hang", name)
    return path


def ask_first(ask: Ask, fuse: Fuse) -> Answer:
    """What the first one gets who asks for the mount that hangs, in time."""

    def attempt() -> Answer:
        fuse.hang_anew("hung")
        return ask("check_mounts")

    return in_time(TIMEOUT + 1.5, attempt, lambda answer: answer.seconds, attempts=2)


def test_healthy(ask: Ask, stack: Stack, mounts: Mounts) -> None:
    mounts.tmpfs("healthy")
    answer = ask("check_mounts")
    assert answer.code == 0
    assert re.match(r"MOUNTS OK - 1 mount checked in \d\.\d s \| ?mounts=1;;;0 ok=1;;;0 ", answer.text), answer
    with stack.daemon(interval=60):
        answer = ask("check_mounts_cached")
        cached = stack.run("/usr/local/bin/check_mounts", "--cached").stdout
        assert (answer.code, ageless(answer.text.encode())) == (0, ageless(cached.encode()))


def test_a_hung_mount_is_critical_in_time(ask: Ask, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    path = hung(fuse)
    mounts.tmpfs("healthy")
    first = ask_first(ask, fuse)
    assert (
        first.verdict.strip()
        == f"MOUNTS CRITICAL - 1 of 2 mounts failed: {path} (fuse.test filer:/home) timed out after 5 s"
    )
    assert first.code == 2
    assert "mounts=2;;;0 ok=1;;;0 slow=0;;;0 denied=0;;;0 timed_out=1;;;0 " in first.perfdata
    # The probe cannot be killed. Those who come later find it and do not wait.
    (stuck,) = remaining(1)
    for _ in range(20):
        later = in_time(TIMEOUT + 1.5, lambda: ask("check_mounts"), attempts=2)
        assert re.search(
            rf"1 of 2 mounts failed: {path} .* timed out: a probe has been stuck in it since .* \(pid {stuck}\)",
            later.text,
        )
        assert later.code == 2
    assert remaining(1) == {stuck}


def test_a_hung_mount_out_of_the_cache(ask: Ask, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    path = hung(fuse)
    with stack.daemon() as daemon:
        for _ in range(20):
            answer = in_time(TIMEOUT + 1.5, lambda: ask("check_mounts_cached"), attempts=2)
            assert answer.verdict.startswith(
                f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} (fuse.test filer:/home) timed out"
            )
            assert answer.code == 2
        daemon.until(lambda: daemon.log.count("\nChecked 1 mount") > 3)
    # It takes the workers with it that can be ended.
    remaining(1)


def test_no_daemon_is_unknown(ask: Ask, stack: Stack, mounts: Mounts) -> None:
    Path("/run/check_mounts/status").unlink(missing_ok=True)
    answer = ask("check_mounts_cached")
    expected = (
        "MOUNTS UNKNOWN - /run/check_mounts/status is not there: is the daemon running? systemctl status check_mounts\n"
    )
    assert (answer.code, answer.text) == (3, expected)


@pytest.mark.parametrize("command", ["check_mounts", "check_mounts_cached"])
def test_v2_packets_keep_the_verdict_and_whole_items(
    command: str, ask: Ask, stack: Stack, mounts: Mounts, fuse: Fuse
) -> None:
    path = hung(fuse)
    for number in range(30):
        mounts.tmpfs(f"healthy/{number}/{'x' * 40}")
    limit_to_the_mounts(stack, "perfdata = mounts")
    long = ask_either(command, ask, stack, "-2")
    # What nrpe cuts for itself ends anywhere.
    assert len(long.text.encode()) >= 1022
    assert long.code == 2
    assert not all(WHOLE_ITEM.fullmatch(item) for item in long.perfdata.split())
    limit_to_the_mounts(stack, "perfdata = mounts", "max-output = 1023")
    for options in (["-2"], []):
        answer = ask_either(command, ask, stack, *options)
        assert answer.verdict.startswith(
            f"MOUNTS CRITICAL - 1 of 31 mounts failed: {path} (fuse.test filer:/home) timed out"
        )
        assert answer.code == 2
        assert len(answer.perfdata.split()) > 14
        assert all(ITEM.match(item) for item in answer.perfdata.split()), answer
        assert len(answer.text.encode()) <= 1024


def ask_either(command: str, ask: Ask, stack: Stack, *options: str) -> Answer:
    if command == "check_mounts":
        return ask(command, *options)
    with stack.daemon():
        return ask(command, *options)


def test_sudo_refuses_other_arguments(ask: Ask, stack: Stack, mounts: Mounts) -> None:
    mounts.tmpfs("healthy")
    program = "/usr/local/bin/check_mounts"
    assert stack.run("sudo", "-n", program, "-t", "5").returncode == 0
    for words in ([], ["-t", "6"], ["-t", "5", "--mountinfo", "/etc/shadow"]):
        refused = stack.run("sudo", "-n", program, *words)
        assert refused.stdout == "", words
        assert refused.returncode == 1


def test_without_root(stack: Stack, installed: Path, mounts: Mounts, fuse: Fuse) -> None:
    path = hung(fuse)
    lines = (SHIPPED / "check_mounts.cfg").read_text().split("\n")
    instead = [line[1:] for line in lines if line.startswith("#command")]
    assert len(instead) == 1
    server, port = serve(stack, stack.write(stack.base / "unprivileged.cfg", instead[0] + "\n"))
    with server:
        ask = client(stack, port)
        first = ask_first(ask, fuse)
        assert first.verdict.startswith(
            f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} (fuse.test filer:/home) timed out after 5 s"
        )
        assert first.code == 2
        # nrpe leaks its connection and a pipe to plugins, and waits for a second if a process that
        # is left has them.
        (stuck,) = remaining(1)
        held = descriptors(stuck)
        assert "pipe" in " ".join(held)
        assert not [name for name in held if name.startswith("socket:")]
        assert (
            f"{path} (fuse.test filer:/home) timed out: a probe has been stuck in it since " in ask("check_mounts").text
        )
    assert Path("/var/lib/nagios/check_mounts").owner() == "nagios"
    assert remaining(1) == {stuck}


# -- what nrpe/README.md says about messages


def in_the_table(answer: Answer) -> bool:
    """Whether a message stands in the README as it was printed; numbers and addresses are examples
    there."""
    rows = re.findall(r"^\| `([^`]*)` \|", (SHIPPED / "README.md").read_text(), re.M)
    return without_numbers((answer.text + answer.errors).split("\n")[0]) in {without_numbers(row) for row in rows}


def without_numbers(text: str) -> str:
    return re.sub(r"[0-9]+", "0", re.sub(r"[0-9]+(\.[0-9]+){3}", "ADDRESS", text))


def test_messages_of_nrpe_are_explained(stack: Stack, installed: Path) -> None:
    lines = [
        "command[refused]=sudo /usr/local/bin/check_mounts -t 6",
        "command[slow]=/bin/sleep 30",
        "command_timeout=1",
    ]
    server, port = serve(stack, stack.write(stack.base / "messages.cfg", "\n".join([*lines, ""])))
    with server:
        ask = client(stack, port)
        answers = {
            "nothing printed": ask("refused"),
            "not defined": ask("check_mounts_cached"),
            "nrpe's timeout": ask("slow"),
        }
        strangers, other_port = serve(stack, stack.write(stack.base / "strangers.cfg", ""), allowed="192.0.2.1")
        with strangers:
            # Where nrpe closes the connection before check_nrpe writes, that one dies of it.
            tries = (client(stack, other_port)("check_mounts") for _ in range(20))
            answers["not allowed"] = next(answer for answer in tries if answer.code != -signal.SIGPIPE)
        answers["nobody"] = client(stack, other_port)("check_mounts")
    server, port = serve(stack, stack.write(stack.base / "slow.cfg", "command[slow]=/bin/sleep 30\n"))
    with server:
        answers["check_nrpe's timeout"] = client(stack, port)("slow", "-t", "1")
    assert {name: answer for name, answer in answers.items() if not in_the_table(answer)} == {}
    assert {answer.code for answer in answers.values()} == {2, 3}


def test_messages_of_the_cache_are_explained(ask: Ask, stack: Stack, mounts: Mounts) -> None:
    mounts.tmpfs("healthy")
    status = Path("/run/check_mounts/status")
    with stack.daemon(interval=60):
        pass
    status.chmod(0o600)
    unreadable = ask("check_mounts_cached")
    status.unlink()
    missing = ask("check_mounts_cached")
    for answer in (unreadable, missing):
        rows = re.findall(r"^\| `([^`]*?)(?:\.\.\.)?` \|", (SHIPPED / "README.md").read_text(), re.M)
        assert any(answer.text.startswith(row) for row in rows), answer
        assert answer.code == 3
