"""Passive results by the command file of a real Nagios 4 and of a real Icinga 2, with mount points
that want to be commands."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts.passive import Result, Settings
from check_mounts.passive.destinations import destination
from check_mounts.passive.progress import unread
from tests.conftest import Mounts, Plugin, undelivered
from tests.monitoring.icinga import Authority, Icinga, host, quoted
from tests.monitoring.nagios import Nagios, as_status
from tests.monitoring.stack import Stack
from tests.reported import reported

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

ATTACK = "x\n[0] DISABLE_NOTIFICATIONS"
# Its mount point as the program prints it, and so as somebody would call a service.
SHOWN = r"x\012[0] DISABLE_NOTIFICATIONS"
PERFDATA = re.compile(r"(?:'[^']+'|[^' =]+)=[^ ]+")


@pytest.fixture
def printed(mounts: Mounts, plugin: Plugin) -> bytes:
    """What the program prints of mounts with hostile names."""
    for name in (ATTACK, "a;b|c", "ü 'quoted' = \\n", "\udcff"):
        mounts.tmpfs(name)
    run = plugin("-vv", "--perfdata", "mounts", "--expect", str(mounts.base / "missing;1"))
    assert run.code == 2 and SHOWN in run.stdout.decode()
    return run.stdout


def result(output: bytes, service: str = "mounts", **changes: object) -> Result:
    perfdata = PERFDATA.findall(output.decode().split("\n")[0].partition(" | ")[2])
    return Result("client1", service, reported(output, perfdata), time.time(), 60.0, "client1")


def submit(path: Path, *results: Result) -> None:
    destination(f"command-file:{path}", Settings()).deliver(results, time.monotonic() + 5, unread())


def refused(path: Path, seconds: float = 5.0) -> str:
    return str(
        undelivered(destination(f"command-file:{path}", Settings()), [result(b"x" * 1000 + b"\n")] * 2000, seconds)
    )


# --- Nagios 4


@pytest.fixture(scope="module")
def nagios(stack: Stack) -> Iterator[Nagios]:
    names = ["mounts", f"mount {SHOWN}", "before", "after", r"a\073b", "long"]
    server = Nagios(stack, [("client1", name) for name in names])
    yield server
    server.stop()


def test_status_dat_holds_exactly_what_was_printed(nagios: Nagios, printed: bytes) -> None:
    submit(nagios.commands, result(printed))
    status = nagios.until_checked("client1", "mounts")
    assert status.items() >= as_status(printed).items()
    assert status["current_state"] == "2" and status["check_type"] == "1"


def test_a_mount_point_does_not_command_nagios(nagios: Nagios, printed: bytes) -> None:
    submit(
        nagios.commands,
        result(printed, "before"),
        result(printed, f"mount {ATTACK}"),
        result(printed, "a;b"),
        result(printed, "after"),
    )
    assert nagios.until_checked("client1", f"mount {SHOWN}").items() >= as_status(printed).items()
    assert nagios.until_checked("client1", r"a\073b").items() >= as_status(printed).items()
    nagios.until_checked("client1", "after")
    assert nagios.program()["enable_notifications"] == "1"
    commands = [
        line.partition("EXTERNAL COMMAND: ")[2] for line in nagios.log.split("\n") if "EXTERNAL COMMAND: " in line
    ]
    assert commands and all(line.startswith("PROCESS_SERVICE_CHECK_RESULT;client1;") for line in commands)
    # That it would work, if it got through.
    with nagios.commands.open("w") as pipe:
        pipe.write(f"[{int(time.time())}] PROCESS_SERVICE_CHECK_RESULT;client1;mount {ATTACK};2;x\n")
    nagios.server.until(lambda: nagios.program().get("enable_notifications") == "0")
    with nagios.commands.open("w") as pipe:
        pipe.write("[0] ENABLE_NOTIFICATIONS\n")
    nagios.server.until(lambda: nagios.program().get("enable_notifications") == "1")


def test_of_an_output_that_is_too_long_whole_pieces_arrive(nagios: Nagios) -> None:
    items = [f"'/srv/{number}'={number}s" for number in range(60)]
    lines = [f"ok: /srv/{number} (nfs4)" for number in range(1000)]
    submit(nagios.commands, result("\n".join([f"MOUNTS OK - fine | {' '.join(items)}", *lines, ""]).encode(), "long"))
    status = nagios.until_checked("client1", "long")
    assert status["plugin_output"] == "MOUNTS OK - fine" and status["performance_data"] == " ".join(items)
    *kept, last = status["long_plugin_output"].split("\\n")
    assert kept == lines[: len(kept)] and len(kept) > 50 and last == f"({1000 - len(kept)} more lines left out)"


def test_a_nagios_that_hangs_and_one_that_is_gone(stack: Stack) -> None:
    server = Nagios(stack, [("client1", "mounts")], "hanging")
    os.killpg(server.server.pid, signal.SIGSTOP)
    try:
        assert refused(server.commands, 0.5) == "it is full, and was not read in time"
    finally:
        os.killpg(server.server.pid, signal.SIGCONT)
    server.server.signal(signal.SIGKILL)
    server.stop()
    assert (
        refused(server.commands)
        == "no process reads from it: the monitoring system does not run, or it accepts no external commands"
    )


# --- Icinga 2


@pytest.fixture(scope="module")
def icinga(stack: Stack) -> Iterator[Icinga]:
    services = [
        f"object Service {quoted(name)} "
        f'{{\n\thost_name = "client1"\n\tcheck_command = "passive"\n\tenable_active_checks = false\n}}\n'
        for name in ("mounts", f"mount {SHOWN}", "after")
    ]
    pipe = f'object ExternalCommandListener "pipe" {{ command_path = {quoted(str(stack.base / "pipe/cmd"))} }}\n'
    stack.own(stack.base / "pipe")
    zones = 'object Endpoint "localhost" { }\nobject Zone "localhost" { endpoints = [ "localhost" ] }\n'
    server = Icinga(
        stack, Authority(stack), name="localhost", zones=zones, features="".join([host("client1"), *services, pipe])
    )
    server.start()
    yield server
    server.stop()


def test_icinga_gets_exactly_what_was_printed(icinga: Icinga, stack: Stack, printed: bytes) -> None:
    submit(stack.base / "pipe/cmd", result(printed))
    got = until_checked(icinga, "mounts")
    first, _, below = printed.decode().rstrip("\n").partition("\n")
    verdict, _, perfdata = first.partition(" | ")
    # As with a plugin that it runs itself: the blank before the bar stays, quotes that are not
    # needed do not.
    assert got["output"] == f"{verdict} \n{below}"
    assert " ".join(got["performance_data"]).replace("'", "") == perfdata.replace("'", "") and got["state"] == 2


def test_a_mount_point_does_not_command_icinga(icinga: Icinga, stack: Stack, printed: bytes) -> None:
    pipe = stack.base / "pipe/cmd"
    attack = ATTACK.replace("[0]", "[1]")  # a time that Icinga does not refuse
    submit(pipe, result(printed, f"mount {ATTACK}"), result(printed, f"mount {attack}"), result(printed, "after"))
    until_checked(icinga, "after")
    assert until_checked(icinga, f"mount {SHOWN}")["output"].startswith("MOUNTS CRITICAL - ")
    assert is_notifying(icinga)
    commands = re.findall(r"Executing external command: \[[0-9]+\] ([A-Z_]+)", icinga.log)
    assert commands and set(commands) == {"PROCESS_SERVICE_CHECK_RESULT"}
    # That it would work, if it got through.
    pipe.write_text(f"[{int(time.time())}] PROCESS_SERVICE_CHECK_RESULT;client1;mount {attack};2;x\n")
    icinga.until(lambda: not is_notifying(icinga))
    pipe.write_text("[1] ENABLE_NOTIFICATIONS\n")
    icinga.until(lambda: is_notifying(icinga))


def until_checked(icinga: Icinga, service: str) -> Any:
    icinga.until(lambda: icinga.service("client1", service)["last_check_result"])
    return icinga.service("client1", service)["last_check_result"]


def is_notifying(icinga: Icinga) -> bool:
    status = icinga.call("GET", "/v1/status/IcingaApplication")
    return bool(status[0]["status"]["icingaapplication"]["app"]["enable_notifications"])
