"""The program as it is installed, its daemon and its configuration, and a real Icinga 2 that takes
its results."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Fuse, Mounts, without_note
from tests.monitoring.icinga import MASTER, Authority, Icinga, host
from tests.monitoring.stack import Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

_USER = """
object ApiUser "client" {
	password = "s3cr3t"
	permissions = [ "actions/process-check-result" ]
}
"""


class Client:
    """The host that submits, and what the server knows of it."""

    def __init__(self, stack: Stack, program: Path, icinga: Icinga, authority: Authority) -> None:
        self._stack = stack
        self._program = program
        self.icinga = icinga
        # The certificate is that of a name.
        with open("/etc/hosts", "a") as hosts:
            hosts.write(f"{icinga.address[0]} {MASTER}\n")
        self.destination = f"icinga2:https://{MASTER}:{icinga.address[1]}"
        self.ca = str(authority.certificate)

    def configuration(self, name: str, more: str = "", **changes: str) -> str:
        said = {"user": "client", "password": "s3cr3t", "ca": self.ca, **changes}
        section = "".join(f"{key} = {value}\n" for key, value in said.items())
        text = f'[check_mounts]\n{more}\n[submit "{self.destination}"]\n{section}'
        return str(self._stack.write(self._stack.base / name, text, 0o600))

    def run(self, mounts: Mounts, *words: str) -> subprocess.CompletedProcess[str]:
        arguments = [
            "-p",
            f"{mounts.base}/*",
            "-t",
            "1",
            "--submit",
            self.destination,
            "--submit-host",
            "client1",
            *words,
        ]
        return self._stack.run(self._program, *arguments, user="root")

    def result(self, service: str) -> Any:
        return self.icinga.service("client1", service)["last_check_result"]


@pytest.fixture(scope="module")
def client(stack: Stack, installed: Path) -> Iterator[Client]:
    authority = Authority(stack)
    mounts: dict[str, dict[str, str]] = {"/mnt/a": {}, "/mnt/b": {}}
    icinga = Icinga(stack, authority, host("client1", mounts_via="passive", mounts=mounts) + _USER).start()
    yield Client(stack, installed, icinga, authority)
    icinga.stop()


def test_from_cron(client: Client, mounts: Mounts, fuse: Fuse) -> None:
    fuse.mount("home", source="filer1:/home")
    mounts.tmpfs("healthy")
    fuse.command("hang", "home")
    done = client.run(mounts, "--config", client.configuration("right.conf"))
    assert (done.returncode, done.stderr) == (2, "")
    text, _, perfdata = without_note(done.stdout).rstrip("\n").partition(" | ")
    got = client.result("mounts")
    assert (got["state"], without_note(got["output"]), " ".join(got["performance_data"])) == (2, text, perfdata)
    assert (got["active"], got["ttl"]) == (False, 0)
    done = client.run(mounts, "-v", "--config", client.configuration("right.conf"))
    assert done.stdout.endswith(f"\nnote: 1 result submitted to {client.destination}\n")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"password": "hunter2"}, "it refuses the credentials (401)"),
        ({"ca": "/etc/ssl/certs/ca-certificates.crt"}, ""),
        ({"ca": "/nowhere/ca.crt"}, ""),
    ],
)
def test_what_goes_wrong_is_a_line_and_changes_no_exit_code(
    client: Client, mounts: Mounts, changes: dict[str, str], why: str
) -> None:
    mounts.tmpfs("closed", "mode=0")
    before = client.result("mounts")
    done = client.run(mounts, "--config", client.configuration("wrong.conf", **changes))
    assert (done.returncode, done.stdout[:17]) == (1, "MOUNTS WARNING - ")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"check_mounts: not submitted to {client.destination}: {why}")
    assert "hunter2" not in line
    assert client.result("mounts") == before


def test_an_unknown_service(client: Client, mounts: Mounts) -> None:
    mounts.tmpfs("healthy")
    done = client.run(mounts, "--submit-service", "none", "--config", client.configuration("right.conf"))
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert "client1!none: no such service" in done.stderr


def test_the_daemon(client: Client, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    """It submits by itself, also one result for each mount; a hang and its end arrive, and each
    result knows how long it holds."""
    for name in ("a", "b"):
        Path(f"/mnt/{name}").mkdir(parents=True, exist_ok=True)
    mounts.mount_at(Path("/mnt/a"), "tmpfs")
    fuse.command("mount", "b", "/mnt/b")
    mounts.adopt(Path("/mnt/b"))
    more = f"submit = {client.destination}\nsubmit-host = client1\nper-mount = yes\npath = /mnt/[ab]\n"
    with stack.daemon("--config", client.configuration("daemon.conf", more)) as daemon:
        client.icinga.until(lambda: (client.result("mounts /mnt/b") or {}).get("state") == 0)
        assert client.result("mounts /mnt/a")["output"].startswith("MOUNTS OK - /mnt/a (tmpfs none) ok in ")
        assert 5 < client.result("mounts")["ttl"] < 10  # two intervals and the deadline
        fuse.command("hang", "b")
        client.icinga.until(lambda: client.result("mounts /mnt/b")["state"] == client.result("mounts")["state"] == 2)
        assert client.result("mounts /mnt/b")["output"].startswith("MOUNTS CRITICAL - /mnt/b (fuse.test ")
        assert client.result("mounts /mnt/a")["state"] == 0
        fuse.command("answer", "b")
        client.icinga.until(lambda: client.result("mounts /mnt/b")["state"] == client.result("mounts")["state"] == 0)
        assert "Cannot submit" not in daemon.log


def test_a_drill_and_its_end(client: Client, stack: Stack, mounts: Mounts) -> None:
    """The daemon submits it by itself, for all mounts and for the mount; and what is true
    afterwards."""
    Path("/mnt/a").mkdir(parents=True, exist_ok=True)
    mounts.mount_at(Path("/mnt/a"), "tmpfs")
    more = f"submit = {client.destination}\nsubmit-host = client1\nper-mount = yes\npath = /mnt/a\n"

    def until_state(state: int) -> None:
        client.icinga.until(
            lambda: all((client.result(name) or {}).get("state") == state for name in ("mounts", "mounts /mnt/a"))
        )

    with stack.daemon("--config", client.configuration("daemon.conf", more)) as daemon:
        until_state(0)
        asked = stack.run("/usr/local/bin/check_mounts", "--pretend", "/mnt/a=dead", "--for", "5s", user="root")
        assert (asked.returncode, asked.stderr) == (0, "")
        until_state(2)
        whole, each = client.result("mounts"), client.result("mounts /mnt/a")
        failed = "/mnt/a (tmpfs none) dead: DRILL, really ok in "
        assert whole["output"].startswith(f"MOUNTS CRITICAL - DRILL: 1 of 1 mounts failed: {failed}")
        assert each["output"].startswith(f"MOUNTS CRITICAL - DRILL: {failed}")
        assert "dead=1;;;0" in whole["performance_data"]
        until_state(0)
        assert "DRILL" not in client.result("mounts")["output"] + client.result("mounts /mnt/a")["output"]
        assert "Drill ended: /mnt/a=dead, after 5 s" in daemon.log
    done = client.run(
        mounts, "-p", "/mnt/a", "--pretend", "/mnt/a=slow", "--config", client.configuration("right.conf")
    )
    assert (done.returncode, done.stderr) == (1, "")
    got = client.result("mounts")
    assert (got["state"], got["output"][:45]) == (1, "MOUNTS WARNING - DRILL: 1 of 1 mounts failed:")


def test_a_mount_without_a_service(client: Client, stack: Stack, mounts: Mounts) -> None:
    """It is told once, by name, and not sent again; all others arrive."""
    for name in ("a", "c"):
        Path(f"/mnt/{name}").mkdir(parents=True, exist_ok=True)
        mounts.mount_at(Path(f"/mnt/{name}"), "tmpfs")
    more = f"submit = {client.destination}\nsubmit-host = client1\nper-mount = /mnt/*\npath = /mnt/[ac]\n"
    with stack.daemon("--config", client.configuration("daemon.conf", more)) as daemon:
        began = time.time()
        daemon.until(lambda: daemon.log.count("Checked ") >= 3)
        client.icinga.until(lambda: (client.result("mounts /mnt/a") or {}).get("execution_end", 0) > began + 2)
        (line,) = (line for line in daemon.log.splitlines() if "submit" in line)
        assert line == (
            f"Cannot submit all to {client.destination}: 1 of 3 results were refused, the first: "
            "client1!mounts /mnt/c: no such service, "
            "or no permission actions/process-check-result for it (404); 1 service gets no results "
            "until a reload, or for an hour: client1!mounts /mnt/c"
        )
        assert f"note: {line[:1].lower()}{line[1:]}" in client.result("mounts")["output"]


def test_a_server_that_is_away_for_a_while(client: Client, stack: Stack, mounts: Mounts) -> None:
    """It is told once; passes go on; what is true when the server is back arrives."""
    mounts.tmpfs("healthy")
    configuration = client.configuration(
        "away.conf", f"submit = {client.destination}\nsubmit-host = client1\npath = {mounts.base}/*\n"
    )
    client.icinga.stop()
    with stack.daemon("--config", configuration, "--submit-timeout", "2") as daemon:
        daemon.until(lambda: daemon.log.count("Checked ") >= 3)
        (line,) = (line for line in daemon.log.splitlines() if "submit" in line)
        assert line == f"Cannot submit to {client.destination}: Connection refused"
        mounts.tmpfs("second")
        client.icinga.start()
        daemon.until(lambda: f"No longer: {line}" in daemon.log, 30)
        assert "mounts=2;;;0" in client.result("mounts")["performance_data"]
