"""Passive results by way of send_nsca: the real programs and servers of NSCA and of NSCA-ng, and a
real Nagios 4 behind them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts.passive import Destination, Result, Settings
from check_mounts.passive.destinations import destination
from check_mounts.passive.progress import unread
from tests.conftest import undelivered
from tests.monitoring.nagios import Nagios, as_status
from tests.monitoring.stack import SEND_NSCA_NG, Stack, free_port
from tests.reported import reported

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

PRINTED = (
    "MOUNTS CRITICAL - 2 of 4 mounts failed: /srv/a timed out; /srv/\\012ü dead | ok=2 'free on /a b'=2s;;;0\n"
    "critical: /srv/a (nfs4) timed out\n"
    "\n"
    "ok: /with \\134 a backslash\n"
).encode()
PERFDATA = ("ok=2", "'free on /a b'=2s;;;0")
ATTACK = "x\x17client1\tmounts\t0\tfine\x17\n[0] DISABLE_NOTIFICATIONS;y\tz"
SHOWN = r"x\027client1\011mounts\0110\011fine\027\012[0] DISABLE_NOTIFICATIONS\073y\011z"
NAMES = ("mounts", SHOWN, "first", "second", "long", "lost", "next")


def result(service: str, output: bytes = PRINTED, perfdata: tuple[str, ...] = PERFDATA) -> Result:
    return Result("client1", service, reported(output, perfdata), time.time(), 60.0, "client1")


class Submission:
    """A server, and how to reach it: ``where`` with the right password, ``wrong`` with another
    one."""

    def __init__(self, nagios: Nagios, port: int, client: str | None, right: Path, wrong: Path) -> None:
        self.nagios = nagios
        self._client, self._right, self._wrong = client, right, wrong
        self.where = self.to(f"127.0.0.1:{port}")
        self.wrong = self.to(f"127.0.0.1:{port}", wrong)

    def to(self, address: str, configuration: Path | None = None) -> Destination:
        configuration = configuration or self._right
        return destination(f"nsca:{address}", Settings(client=self._client, client_config=str(configuration)))

    def submit(self, *results: Result) -> None:
        self.where.deliver(results, time.monotonic() + 10, unread())


def refused(where: Destination, results: tuple[Result, ...], seconds: float = 10.0) -> str:
    words = str(undelivered(where, results, seconds))
    assert words.isprintable() and "hunter2" not in words and "s3cr3t" not in words
    return words


@pytest.fixture(scope="module")
def classic(stack: Stack) -> Submission:
    nagios = Nagios(stack, [("client1", name) for name in NAMES], "behind-nsca")
    port = free_port()
    settings = {
        "server_address": "127.0.0.1", "server_port": port, "nsca_user": "nagios", "nsca_group": "nagios",
        "max_packet_age": 30,
        "command_file": nagios.commands, "alternate_dump_file": nagios.base / "dump", "password": "s3cr3t",
        "decryption_method": 16,
    }  # fmt: skip
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    server = stack.server("nsca", "-c", stack.write(stack.base / "nsca.cfg", text), "-f", "--daemon")
    server.until_port(port)
    right = stack.write(stack.base / "send_nsca.cfg", "password=s3cr3t\nencryption_method=16\n", mode=0o600)
    wrong = stack.write(stack.base / "send_nsca.wrong.cfg", "password=hunter2\nencryption_method=16\n", mode=0o600)
    return Submission(nagios, port, None, right, wrong)


@pytest.fixture(scope="module")
def ng(stack: Stack) -> Submission:
    nagios = Nagios(stack, [("client1", name) for name in NAMES], "behind-nsca-ng")
    port = free_port()
    text = f'command_file = "{nagios.commands}"\nlisten = "127.0.0.1:{port}"\ntemp_directory = "{nagios.base}/tmp"\n'
    text += 'authorize "client1" {\n\tpassword = "s3cr3t"\n\tservices = ".*"\n}\n'
    text += 'authorize "client2" {\n\tpassword = "s3cr3t"\n\thosts = "client2"\n\tservices = "mounts@client2"\n}\n'
    server = stack.server("nsca-ng", "-F", "-S", "-c", stack.write(stack.base / "nsca-ng.cfg", text, owner="nagios"))
    server.until_port(port)
    right = stack.write(
        stack.base / "send_nsca-ng.cfg", 'identity = "client1"\npassword = "s3cr3t"\ndelay = 30\n', mode=0o600
    )
    wrong = stack.write(
        stack.base / "send_nsca-ng.wrong.cfg", 'identity = "client1"\npassword = "hunter2"\n', mode=0o600
    )
    return Submission(nagios, port, str(SEND_NSCA_NG), right, wrong)


@pytest.fixture(params=["classic", "ng"])
def submission(request: pytest.FixtureRequest) -> Submission:
    found: Submission = request.getfixturevalue(request.param)
    return found


def test_what_was_printed_is_delivered(submission: Submission) -> None:
    submission.submit(result("mounts"))
    status = submission.nagios.until_checked("client1", "mounts")
    assert status.items() >= as_status(PRINTED).items() and status["current_state"] == "2"


def test_several_results_at_once(submission: Submission) -> None:
    submission.submit(result("first"), result("second", b"MOUNTS OK - others\nand lines\n", ()))
    assert submission.nagios.until_checked("client1", "first").items() >= as_status(PRINTED).items()
    assert (
        submission.nagios.until_checked("client1", "second").items()
        >= as_status(b"MOUNTS OK - others\nand lines\n").items()
    )


def test_a_mount_point_is_no_other_record_and_no_command(submission: Submission) -> None:
    submission.submit(result("mounts"), result(ATTACK))
    status = submission.nagios.until_checked("client1", SHOWN)
    assert status.items() >= as_status(PRINTED).items()
    assert submission.nagios.service("client1", "mounts")["current_state"] == "2"
    assert submission.nagios.program()["enable_notifications"] == "1"


def test_of_an_output_that_is_too_long_the_verdict_and_whole_perfdata_arrive(submission: Submission) -> None:
    """Backslashes and line breaks take two bytes each on the way, and what is beyond 4,095 would be
    cut anywhere, or kill send_nsca."""
    items = tuple(f"'/srv/\\040{number}'={number}s" for number in range(60))
    lines = [f"ok: /srv/\\040{number} (nfs4)" for number in range(1000)]
    output = "\n".join([f"MOUNTS OK - fine | {' '.join(items)}", *lines, ""]).encode()
    submission.submit(result("long", output, items))
    status = submission.nagios.until_checked("client1", "long")
    assert status["plugin_output"] == "MOUNTS OK - fine" and status["performance_data"] == " ".join(items)
    *kept, last = status["long_plugin_output"].replace("\\\\", "\\").split("\\n")
    assert kept == lines[: len(kept)] and len(kept) > 40 and last == f"({1000 - len(kept)} more lines left out)"


def test_a_wrong_password_is_lost_by_nsca_without_a_word(classic: Submission) -> None:
    """So the transport does not claim to confirm anything."""
    classic.wrong.deliver((result("lost"),), time.monotonic() + 10, unread())
    assert not classic.wrong.confirms and not classic.where.confirms
    classic.submit(result("next"))
    classic.nagios.until_checked("client1", "next")
    assert classic.nagios.service("client1", "lost")["has_been_checked"] == "0"


def test_what_nsca_ng_refuses_is_known(ng: Submission, stack: Stack) -> None:
    assert refused(ng.wrong, (result("lost"),)).endswith(" (identity or password wrong?)")
    stranger = stack.write(stack.base / "stranger.cfg", 'identity = "client3"\npassword = "s3cr3t"\n', mode=0o600)
    where = ng.where.name.removeprefix("nsca:")
    assert refused(ng.to(where, stranger), (result("lost"),)).endswith(" (identity or password wrong?)")
    other = stack.write(stack.base / "other.cfg", 'identity = "client2"\npassword = "s3cr3t"\n', mode=0o600)
    assert refused(ng.to(where, other), (result("lost"),)) == "send_nsca: Server said: FAIL You're not authorized"
    ng.submit(result("next"))
    assert ng.where.confirms
    ng.nagios.until_checked("client1", "next")
    assert ng.nagios.service("client1", "lost")["has_been_checked"] == "0"


def test_nobody_listens(submission: Submission) -> None:
    words = refused(submission.to(f"127.0.0.1:{free_port()}"), (result("lost"),))
    assert words.startswith("send_nsca: Connection refused by host; Error: ") or words.endswith(
        " (no server listens there?)"
    )
    assert refused(submission.to(f"[::1]:{free_port()}"), (result("lost"),)) != ""
    assert refused(submission.to("nagios.invalid"), (result("lost"),)).startswith(
        ("send_nsca: Host name lookup failed: 'nagios.invalid'", "send_nsca: Cannot create socket: ")
    )


@pytest.fixture
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_accepts_and_never_answers(submission: Submission, silent: int) -> None:
    assert (
        refused(submission.to(f"127.0.0.1:{silent}"), (result("lost"),), 1.9)
        == "send_nsca did not end in time, and was killed"
    )
    # The client's own timeout is in whole seconds, and may be the first.
    words = refused(submission.to(f"127.0.0.1:{silent}"), (result("lost"),), 2.95)
    assert words.startswith("send_nsca")


def test_a_configuration_that_is_wrong_is_not_quoted(submission: Submission, stack: Stack) -> None:
    bad = stack.write(stack.base / "bad.cfg", "password = hunter2 hunter2\nhunter2\n", mode=0o600)
    assert str(bad) in refused(submission.to("127.0.0.1", bad), (result("lost"),))
    assert "/none" in refused(submission.to("127.0.0.1", Path("/none")), (result("lost"),))
