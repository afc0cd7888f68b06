"""What the daemon says of programs that use a real NFS: over a slow wire, after an outage, after a
remount, and while it hangs; and of SMB that connected again. Runs in the
guest: ``python3 -m tests.lab.traffic`` writes traffic.json."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from check_mounts.probing import operations
from tests.lab import ghosts
from tests.lab.evidence import mount, until
from tests.lab.kinds import DROP, PYTHON, SERVERS, UNDROP, V3
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

SERVER = next(each for each in SERVERS if each.name == "drop")
SMB = next(each for each in SERVERS if each.name == "smb")
# Each stat(2) asks the server; a request is sent again after a second.
OPTIONS = "noac,timeo=10,retrans=10"
DELAY = 0.1
# How long the server is away, in seconds.
OUTAGE = 4.0


class Watching:
    """A daemon that makes a pass when it is told to."""

    def __init__(self, at: Path) -> None:
        self._command = [PYTHON, "-m", "check_mounts", "--cache", f"/run/{at.name}/status"]
        options = ["--daemon", "--foreground", "--interval", "600", "-t", "3", "--perfdata", "steps"]
        limits = ["-w", f"rtt={int(DELAY * 500)}ms", "-c", "retrans=0.1%"]
        self._process = subprocess.Popen(
            [*self._command, *options, *limits, str(at)],
            **{"cwd": "/", "env": environment(), "stderr": subprocess.PIPE, "text": True},  # type: ignore[call-overload]
        )
        self._until_checked()

    def _until_checked(self) -> None:
        for line in self._process.stderr:
            if "Checked " in line:
                return
        raise AssertionError("the daemon has ended")

    def passed(self) -> dict[str, Any]:
        """What it says after one more pass."""
        self._process.send_signal(signal.SIGUSR1)
        self._until_checked()
        value = json.loads(self._cached("--json"))
        (found,) = value["findings"]
        return {**found, "notes": value["notes"], "first_line": self._cached().decode().split("\n")[0]}

    def _cached(self, *more: str) -> bytes:
        command = [*self._command, "--cached", *more]
        return subprocess.run(command, cwd="/", env=environment(), capture_output=True, check=False).stdout

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()


def use(at: Path, times: int = 40) -> None:
    """What a program does."""
    (at / "file").write_bytes(b"x" * 4096)
    for _ in range(times):
        os.stat(at / "file")


def until_old(at: Path) -> None:
    """Until the mount can be told from one that came since."""
    until(lambda: (operations.read().mounts[os.fsencode(at)].age or 0) > 5)


def looked() -> float:
    """How long it takes to read the counters, in seconds."""
    began = time.monotonic()
    assert operations.read().mounts
    return time.monotonic() - began


def smb(guest: Guest) -> dict[str, Any]:
    """An SMB server that closes its connections for a moment, while a program waits for it."""
    at = Path("/mnt/smb")
    at.mkdir()
    guest.start(SMB)
    mounting = "mount -t cifs -o guest,vers=3.0,nosharesock,actimeo=0 //{host}/share {at}"
    guest.shell(f"until {mounting}; do sleep 0.2; done", SMB.name, str(at))  # smbd may take a moment
    daemon = Watching(at)
    said: dict[str, Any] = {"well": daemon.passed()}
    guest.shell("{ns} iptables-legacy -A INPUT -p tcp -j REJECT --reject-with tcp-reset", SMB.name)
    program = subprocess.Popen([PYTHON, "-c", f"import os\nfor _ in range(5): os.listdir('{at}')"])
    time.sleep(OUTAGE)
    guest.shell(UNDROP, SMB.name)
    program.wait()
    said["after"] = [daemon.passed() for _ in range(3)]
    daemon.end()
    return said


def nfs(guest: Guest) -> dict[str, Any]:
    """All that is about NFS."""
    guest.start(SERVER)
    at = mount(guest, "used", V3, OPTIONS)
    use(at)
    until_old(at)
    daemon = Watching(at)
    said: dict[str, Any] = {"idle": daemon.passed()}
    use(at)
    said["well"] = daemon.passed()

    guest.shell(f"{{ns}} tc qdisc add dev eth0 root netem delay {int(DELAY * 1000)}ms", SERVER.name)
    use(at)
    said["slow"] = daemon.passed()
    guest.shell("{ns} tc qdisc del dev eth0 root", SERVER.name)
    use(at)
    said["well again"] = daemon.passed()

    guest.shell(f"umount {at}; {V3.replace('{more}', ',' + OPTIONS).replace('{export}', 'a')}", SERVER.name, str(at))
    use(at)
    said["remounted"] = daemon.passed()
    until_old(at)
    daemon.passed()
    use(at)
    said["after that"] = daemon.passed()

    guest.shell(DROP, SERVER.name)
    program = subprocess.Popen([PYTHON, "-c", f"import os\nfor _ in range(40): os.stat('{at}/file')"])
    time.sleep(OUTAGE)
    said["hung"] = {**daemon.passed(), "took": looked(), "held": program.poll() is None}
    guest.shell(UNDROP, SERVER.name)
    program.wait()
    said["after an outage"] = [daemon.passed() for _ in range(3)]
    daemon.end()
    return said


def main() -> None:
    """All acts."""
    provide_product()
    load_modules()
    guest = Guest()
    (LAB / "traffic.json").write_text(json.dumps({**nfs(guest), "smb": smb(guest)}))
    (LAB / "ghosts.json").write_text(json.dumps(ghosts.main(guest)))


if __name__ == "__main__":
    main()
