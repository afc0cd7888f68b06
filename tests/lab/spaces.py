"""NFS and CIFS that are mounted in another mount namespace only: healthy, hung, stale. Runs in the
guest, at the end of waited.py: ``play`` says what ``check_mounts --namespaces`` finds there."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.lab.kinds import KINDS, SERVERS, V3, V4
from tests.lab.zoo import Guest, check

# name -> how it is mounted, the export, and the server
MOUNTS = {
    "s-healthy": (V4, "a", "alive"),
    "s-stale": (V4, "gone", "alive"),
    "s-hung": (V3, "a", "drop"),
    "s-cifs": (next(each for each in KINDS if each.name == "cifs-drop").make, "", "smbdrop"),
}


def _apart() -> subprocess.Popen[bytes]:
    """A process in a mount namespace of its own."""
    process = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "1000000"])
    while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
        time.sleep(0.005)
    return process


def _findings(*arguments: str) -> dict[str, Any]:
    result = check("--namespaces", "-p", "/mnt/s-*", *arguments)
    found = {each["mount_point"]: each["condition"] for each in result["survey"]["findings"]}
    return {"code": result["code"], "found": found, "notes": result["survey"].get("notes")}


def play(guest: Guest) -> dict[str, Any]:
    """All acts. The server ``drop`` runs already."""
    servers = {each.name: each for each in SERVERS}
    for name in ("alive", "smbdrop"):
        guest.start(servers[name])
    place = _apart()
    for name, (how, export, server) in MOUNTS.items():
        at = Path("/mnt") / name
        at.mkdir(parents=True)
        make = how.replace("{more}", "").replace("{export}", export)
        guest.shell(f"for i in $(seq 50); do nsenter -t {place.pid} -m {make} && exit; sleep 0.2; done; false", server,
                    str(at))  # fmt: skip
    report: dict[str, Any] = {"pid": place.pid, "own": os.path.ismount("/mnt/s-healthy")}
    report["well"] = _findings("-t", "20")
    guest.shell("{ns} exportfs -u '*:/gone'", "alive")
    for name in ("drop", "smbdrop"):
        guest.shell(servers[name].fault, name)
    report["ill"] = _findings("-t", "4")
    # Now its last process could not end: that unmounts, and waits for the servers.
    for name in ("drop", "smbdrop"):
        guest.shell(servers[name].heal, name)
    place.kill()
    return report
