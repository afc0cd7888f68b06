"""How many hosts can send passive results to one Icinga 2: daemons of check_mounts, each for a host
of its own, and the results that arrive.

Run as root: ``python -m bench.scale [HOSTS [INTERVALS]]`` (500 and 3 unless told otherwise), with
the packages of ``make test``. Everything runs on this machine: Icinga 2 with a host and a passive
service for each, and as many real daemons with an interval of 60 s, which submit through its API,
with TLS and a password. Their starts are spread, because 500 separate hosts never start at once.
Each event on the event stream of Icinga 2 is counted, for each host, and so is each pass in the log
of its daemon; a result that was measured and did not arrive is lost. The floor is the number of
results that the same Icinga 2 takes from one client that does nothing else."""

from __future__ import annotations

import base64
import collections
import ctypes
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.monitoring.icinga import Authority, Icinga, host
from tests.monitoring.stack import PROGRAM, Stack

INTERVAL = 60.0
# The starts are spread over this many intervals. A start takes a quarter of a second of CPU time,
# and all share the processors of this machine.
_STARTING = 4
_CLONE_NEWNS = 0x20000
_FLOOR_SECONDS = 5.0
# --submit-timeout, a second attempt after it, and a reserve.
_DELIVERY = 30.0
_USER, _PASSWORD = "check_mounts", "of the bench only"
_API_USER = f"""
object ApiUser "{_USER}" {{
	password = "{_PASSWORD}"
	permissions = [ "actions/process-check-result", "events/CheckResult" ]
}}
"""


class Server:
    """Icinga 2, and its events about results."""

    def __init__(self, stack: Stack, names: list[str]) -> None:
        authority = Authority(stack)
        self.authority_file = authority.certificate
        text = "".join(host(name, mounts_via="passive") for name in names) + _API_USER
        self.icinga = Icinga(stack, authority, text).start()
        self.destination = f"icinga2:https://{self.icinga.address[0]}:{self.icinga.address[1]}"
        self.arrived: collections.Counter[str] = collections.Counter()
        self.is_listening = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self.is_listening.wait(20)

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.authority_file))
        context.check_hostname = False  # its certificate is for a name, and this is an address
        return http.client.HTTPSConnection(*self.icinga.address, context=context, timeout=120)

    @staticmethod
    def headers() -> dict[str, str]:
        return {
            "Accept": "application/json",
            "Authorization": "Basic " + base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode(),
        }

    def _listen(self) -> None:
        connection = self.connection()
        connection.request(
            "POST", "/v1/events", json.dumps({"queue": "scale", "types": ["CheckResult"]}), self.headers()
        )
        response = connection.getresponse()
        assert response.status == 200, response.read()
        self.is_listening.set()
        while line := response.readline():
            event = json.loads(line)
            if not event["check_result"]["active"]:
                self.arrived[event["host"]] += 1

    def floor(self, name: str, output: str) -> float:
        """The results per second from one client that is already connected."""
        connection, body = self.connection(), json.dumps({
            "type": "Service", "service": f"{name}!mounts", "exit_status": 0, "plugin_output": output,
            "performance_data": [], "ttl": 129,
        })  # fmt: skip
        began, count = time.monotonic(), 0
        while time.monotonic() - began < _FLOOR_SECONDS:
            connection.request("POST", "/v1/actions/process-check-result", body, self.headers())
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            count += 1
        seconds = time.monotonic() - began
        while self.arrived[name] < count:  # events come a little later
            time.sleep(0.05)
        self.arrived.clear()
        return count / seconds


class Client:
    """A host: a daemon with files of its own."""

    def __init__(self, name: str, base: Path, server: Server, configuration: Path) -> None:
        self.name = name
        self.base = base / name
        self.base.mkdir()
        self.log = self.base / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAM, "--daemon", "--foreground", "--interval", str(INTERVAL), "--config", configuration, "-p",
                    "/",
                    "--cache", self.base / "run/status", "--state-dir", self.base / "state",
                    "--submit", server.destination, "--submit-host", name,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}, cwd="/",
            )  # fmt: skip

    def passes(self) -> int:
        return len(re.findall(r"^Checked ", self.log.read_text(), re.M))

    def complaints(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(("Cannot", "Internal", "MOUNTS"))]


def measure(stack: Stack, hosts: int, intervals: int) -> bool:
    """Measure and print. Returns whether nothing was lost."""
    names = [f"client{number}" for number in range(hosts)]
    server = Server(stack, names)
    floor = server.floor(names[0], "MOUNTS OK - 1 mount checked in 0.0 s")
    base = stack.base / "clients"
    base.mkdir()
    # The certificate names a host; the daemons ask for an address.
    configuration = stack.write(
        base / "c.conf",
        f'[submit "{server.destination}"]\nuser = {_USER}\npassword = {_PASSWORD}\nverify = no\n',
        0o600,
    )
    clients: list[Client] = []
    began = time.monotonic()
    try:
        for number, name in enumerate(names):
            time.sleep(max(0.0, began + _STARTING * number * INTERVAL / hosts - time.monotonic()))
            clients.append(Client(name, base, server, configuration))
        started, before = time.monotonic(), sum(server.arrived.values())
        time.sleep(intervals * INTERVAL)
        seconds, arrived = time.monotonic() - started, sum(server.arrived.values()) - before
        lost = _settled(server, clients)
    finally:
        for client in clients:
            client.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.process.wait(120)
    passes = sum(client.passes() for client in clients)
    complaints = [f"{client.name}: {line}" for client in clients for line in client.complaints()]
    print(f"{hosts} daemons, started over {started - began:.0f} s; one client alone: {floor:.0f} results/s (the floor)")
    print(
        f"within the next {seconds:.0f} s: {arrived} results arrived, {arrived / seconds:.2f}/s, wanted "
        f"{hosts / INTERVAL:.2f}/s"
    )
    print(f"all in all {passes} passes, of which lost: {lost}; complaints: {len(complaints)}")
    print("\n".join(complaints[:5]))
    return lost == 0


def _settled(server: Server, clients: list[Client]) -> int:
    """The number of results of the passes until now that do not arrive within the time that a
    delivery may take."""
    passes = {client.name: client.passes() for client in clients}
    end = time.monotonic() + _DELIVERY
    while (lost := sum(max(0, passes[name] - server.arrived[name]) for name in passes)) and time.monotonic() < end:
        time.sleep(0.2)
    return lost


def main() -> int:
    """The command line."""
    hosts, intervals = (int(word) for word in [*sys.argv[1:], *("500", "3")[len(sys.argv) - 1 :]])
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNS) != 0:
        print("bench.scale needs root", file=sys.stderr)
        return 3
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    stack = Stack()
    try:
        stack.install()
        return 0 if measure(stack, hosts, intervals) else 1
    finally:
        stack.close()


if __name__ == "__main__":
    sys.exit(main())
