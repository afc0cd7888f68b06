"""NFS and CIFS that were unmounted lazily, with a silent server: what is told of them, and that
nobody asks them. Runs in the guest, after traffic.py, with its servers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.kernel import workers_alive
from tests.lab.evidence import mount, until
from tests.lab.kinds import DROP, PYTHON, UNDROP, V3, V4
from tests.lab.zoo import Guest, check

SERVER, SMB = "drop", "smb"
_HOLDER = "import os, sys; {}; print(flush=True); sys.stdin.read()"


class Holder:
    """A process that does something in a directory, and then waits."""

    def __init__(self, at: Path, what: str = "pass", wrapper: Sequence[str] = ()) -> None:
        command = [*wrapper, PYTHON, "-I", "-c", _HOLDER.format(what)]
        self._process = subprocess.Popen(command, cwd=at, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None and self._process.stdout.readline()
        self.pid = self._process.pid

    def end(self) -> None:
        self._process.communicate()


def told() -> dict[str, Any]:
    """What a run says of all mounts: its ghosts, and what it left behind."""
    began = time.monotonic()
    result = check("-t", "2", "-N", "nfs,nfs4,cifs", "--allow-none", "--no-diagnosis")
    survey = result["survey"]
    return {
        "ghosts": [each for each in survey["findings"] if each["condition"] == "ghost"],
        "state": survey["state"],
        "mounts": survey["counts"]["mounts"],
        "seconds": time.monotonic() - began,
        "workers": sorted(workers_alive()),
    }


def _until(holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_so() -> bool:
        found[:] = [told()]
        return holds(found[0])

    until(is_so)
    return found[0]


def nfs(guest: Guest) -> dict[str, Any]:
    """Held by an open file and by a working directory, then by one, then by nobody."""
    at = mount(guest, "old", V4, "")
    (at / "sub").mkdir(exist_ok=True)
    (at / "file").write_bytes(b"x")
    opened, stands = Holder(at, "file = open('file'); os.chdir('/')"), Holder(at / "sub")
    said: dict[str, Any] = {"pids": {"open": opened.pid, "stands": stands.pid}, "mounted": told()}
    guest.shell(DROP, SERVER)
    guest.shell(f"umount -l {at}")
    said["both"] = told()
    guest.shell(UNDROP, SERVER)
    stands.end()
    said["one"] = _until(lambda found: len(found["ghosts"][0]["ghost"]["holders"]) == 1)
    opened.end()
    said["none"] = _until(lambda found: not found["ghosts"])
    return said


def idle(guest: Guest) -> dict[str, Any]:
    """Nobody has anything of it: it is gone with its place."""
    at = mount(guest, "idle", V3, "")
    guest.shell(f"umount -l {at}")
    return _until(lambda found: not found["ghosts"])


def waiting(guest: Guest) -> dict[str, Any]:
    """Only a call that the server never answered has something of it."""
    at = mount(guest, "waiting", V3, "noac")
    guest.shell(DROP, SERVER)
    program = subprocess.Popen(["stat", "-f", str(at)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: Path(f"/proc/{program.pid}/stat").read_text().rpartition(") ")[2][0] == "D")
    guest.shell(f"umount -l {at}")
    said = {"hung": told()}
    guest.shell(UNDROP, SERVER)
    program.wait()
    said["over"] = _until(lambda found: not found["ghosts"])
    return said


def moved(guest: Guest) -> dict[str, Any]:
    """It lives on in another mount namespace, with a file that is open here."""
    at = mount(guest, "moved", V4, "")
    (at / "file").write_bytes(b"x")
    holder = Holder(at, "file = open('file'); os.chdir('/')")
    elsewhere = Holder(Path("/"), wrapper=("unshare", "-m", "--propagation", "private"))
    guest.shell(f"umount -l {at}")
    said = {"elsewhere": told()}
    elsewhere.end()
    said["nowhere"] = _until(lambda found: bool(found["ghosts"]))
    holder.end()
    said["none"] = _until(lambda found: not found["ghosts"])
    return said


def smb(guest: Guest) -> dict[str, Any]:
    """The share that traffic.py has mounted."""
    at = Path("/mnt/smb")
    (at / "file").write_bytes(b"x")
    holder = Holder(at, "file = open('file'); os.chdir('/')")
    guest.shell(f"umount -l {at}")
    said = {"pid": holder.pid, "open": told()}
    holder.end()
    said["none"] = _until(lambda found: not found["ghosts"])
    return said


def main(guest: Guest) -> dict[str, Any]:
    """All acts. While the kernel knows 9p, no link of a process is looked at."""
    subprocess.run(["rmmod", "9p"], check=True)
    subprocess.run(["umount", "/mnt/used"], check=True)  # that of traffic.py
    said = {"nfs": nfs(guest), "idle": idle(guest), "waiting": waiting(guest), "moved": moved(guest)}
    return {**said, "smb": smb(guest), "hosts": {name: guest.host(name) for name in (SERVER, SMB)}}
