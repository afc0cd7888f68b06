"""A master and an agent in two network namespaces, with icinga2/example-zones.conf; and why no
plugin may touch a mount itself."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.conftest import ROOT, Fuse, Mounts, in_time, remaining, until
from tests.kernel import workers_alive
from tests.monitoring.icinga import SHIPPED, ApiError, Authority, Icinga, host, messages, seconds
from tests.monitoring.stack import PROGRAM, Network, Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

AGENT = "web07.example.org"
OK, CRITICAL = 0, 2
# Beside the services that are shipped: another check of the agent's, and the one that hangs with
# its mount.
OTHERS = f"""
object Service "load" {{
    host_name = "{AGENT}"
    check_command = "load"
    command_endpoint = host_name
    vars.load_wload1 = 1000
    vars.load_wload5 = 1000
    vars.load_wload15 = 1000
    vars.load_cload1 = 1000
    vars.load_cload5 = 1000
    vars.load_cload15 = 1000
    enable_active_checks = false
}}
object Service "disk" {{
    host_name = "{AGENT}"
    check_command = "disk"
    command_endpoint = host_name
    vars.disk_partitions = [ "/run/check_mounts-tests/hung" ]
    check_timeout = 2s
    enable_active_checks = false
}}
"""
STUB = """#!/bin/sh
echo "MOUNTS OK - $*"
"""


@pytest.fixture(scope="module")
def network(stack: Stack) -> Network:
    return stack.network()


@pytest.fixture(scope="module")
def master(stack: Stack, installed: Path, network: Network) -> Iterator[Icinga]:
    """The master; its agent is connected, and has what it needs from it."""
    stub = stack.write(stack.base / "stub", STUB, mode=0o755)
    stack.write("/etc/sudoers.d/check_mounts", (ROOT / "nrpe/check_mounts.sudoers").read_text(), mode=0o440)
    authority = Authority(stack)
    zones = (SHIPPED / "example-zones.conf").read_text()
    zones = zones.replace("192.0.2.1", network.left.address).replace("192.0.2.2", network.right.address)
    words = {
        "mounts_extra_opts": ["a", "b@/c"],
        "mounts_fstab": "/etc/fstab",
        "mounts_mount_points": ["/x y", "/z"],
        "mounts_verbose": 2,
    }
    hosts = [
        host(AGENT, mounts_via="agent", mounts_sudo=True),
        host("words", mounts_via="agent", agent_endpoint=AGENT, mounts_program=str(stub), **words),
        host("cached", mounts_via="agent-cached", agent_endpoint=AGENT),
        OTHERS,
    ]
    result = Icinga(stack, authority, "\n".join(hosts), zones=zones, node=network.left)
    agent = Icinga(stack, authority, name=AGENT, zones=zones, node=network.right)
    assert not messages(result.validate().stdout, "critical")
    result.start()
    agent.start()
    result.until(lambda: knows_the_commands(agent) and answers(result), 60)
    own = 'match("*mounts*", service.check_command)'
    result.call("POST", "/v1/objects/services", {"filter": own, "attrs": {"enable_active_checks": False}})
    yield result
    agent.stop()
    result.stop()


def knows_the_commands(agent: Icinga) -> bool:
    """The agent has nothing of this in its own configuration: it comes from the global zone, and
    the agent starts anew with it."""
    try:
        return bool(agent.attributes("checkcommands", "check_mounts_cached"))
    except (ApiError, OSError, http.client.HTTPException):
        return False


def answers(master: Icinga) -> bool:
    return bool(master.attributes("endpoints", AGENT)["connected"])


@pytest.fixture
def only(stack: Stack, mounts: Mounts) -> Iterator[None]:
    """Limit the command, whose arguments are not a test's, to the mounts of the test."""
    path = stack.write(
        "/etc/check_mounts.conf", f"[check_mounts]\npath = {mounts.base}/*\npath = /run/check_mounts-tests/hung\n"
    )
    yield
    path.unlink()


def test_direct_by_agent(master: Icinga, mounts: Mounts, only: None) -> None:
    mounts.tmpfs("healthy")
    result = master.check(AGENT, "mounts")
    assert (result["state"], result["check_source"]) == (OK, AGENT)
    assert result["output"].startswith("MOUNTS OK - 1 mount checked")
    assert result["command"] == ["sudo", "-n", str(PROGRAM), "-t", "5"]


def test_cached_by_agent(master: Icinga, stack: Stack, mounts: Mounts, only: None) -> None:
    mounts.tmpfs("healthy")
    with stack.daemon():
        result = master.check("cached", "mounts")
    assert (result["state"], result["check_source"]) == (OK, AGENT)
    assert result["output"].startswith("MOUNTS OK - 1 mount checked")


def test_variables_of_the_master_reach_the_agent(master: Icinga) -> None:
    result = master.check("words", "mounts")
    assert result["check_source"] == AGENT
    assert result["output"] == "MOUNTS OK - --extra-opts=a --extra-opts=b@/c --fstab=/etc/fstab -t 5 -vv /x y /z"


@pytest.fixture
def hung(mounts: Mounts, fuse: Fuse) -> Path:
    path = Path("/run/check_mounts-tests/hung")
    path.mkdir(exist_ok=True)
    fuse.command("mount", "hung", str(path))
    mounts.adopt(path)
    fuse.command("hang", "hung")
    return path


def test_a_hung_mount_does_not_keep_the_agent_from_its_other_checks(
    master: Icinga, hung: Path, fuse: Fuse, only: None
) -> None:
    during: list[Any] = []

    def attempt() -> Any:
        fuse.hang_anew("hung")
        begin = time.time()
        master.call(
            "POST", "/v1/actions/reschedule-check", {"type": "Service", "service": f"{AGENT}!mounts", "force": True}
        )
        until(workers_alive)
        during[:] = [master.check(AGENT, "load") for _ in range(3)]
        return master.result_since(begin, AGENT, "mounts")

    result = in_time(5 + 1.5, attempt, seconds, attempts=2)
    assert (result["state"], result["check_source"]) == (CRITICAL, AGENT)
    assert f"{hung} (fuse.test fuse) timed out after 5 s" in result["output"], result
    # While it waits for the mount, and when a process is left in it for good.
    assert min(each["execution_end"] for each in during) < result["execution_end"]
    later = [master.check(AGENT, "load") for _ in range(10)]
    assert median(map(seconds, during + later)) < 1
    remaining(1)


def test_check_disk_does(master: Icinga, hung: Path, fuse: Fuse) -> None:
    """What the program is for: a plugin that touches the mount itself stops all checks of the
    agent, for as long as the mount hangs."""
    assert master.check(AGENT, "load")["state"] == OK
    master.call("POST", "/v1/actions/reschedule-check", {"type": "Service", "service": f"{AGENT}!disk", "force": True})
    until(lambda: fuse.waiting("hung"))
    begin = time.time()
    # After its timeout (2 s, else a minute) the process that starts the plugins waits for one that
    # cannot be ended.
    with pytest.raises(AssertionError, match="the event did not come"):
        while time.time() < begin + 20:
            last = master.check(AGENT, "load", 5)
    stalled = time.time()
    assert stalled - last["execution_end"] > 5
    fuse.command("die", "hung")
    assert master.result_since(stalled, AGENT, "load")["execution_end"] > stalled
