"""What check_mounts says of a real NFS that fails or is slow: because of its server, or not. Runs
in the guest: ``python3 -m tests.lab.evidence`` writes evidence.json."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab.kinds import DROP, KINDS, PYTHON, SERVERS, UNDROP, V3, V4, Server
from tests.lab.zoo import LAB, Guest, check, environment, load_modules, provide_product

SERVER = next(each for each in SERVERS if each.name == "drop")
# Its leases are as short as they can be.
LEASED = dataclasses.replace(next(each for each in SERVERS if each.name == "stopped"), serves="lease")


def mount(guest: Guest, name: str, how: str, options: str, export: str = "a", server: Server = SERVER) -> Path:
    at = Path("/mnt") / name
    at.mkdir(parents=True)
    guest.shell(how.replace("{more}", options and f",{options}").replace("{export}", export), server.name, str(at))
    return at


def finding(at: Path, *arguments: str) -> dict[str, Any]:
    """What a run says of one mount."""
    result = check(*arguments, str(at))
    (found,) = [each for each in result["survey"]["findings"] if each["mount_point"] == str(at)]
    return {**found, "duration": result["survey"]["duration"]}


def soft(guest: Guest) -> dict[str, Any]:
    """A soft mount whose server is silent, and one whose export is gone."""
    at, gone = mount(guest, "soft", V3, "soft,timeo=10,retrans=1"), mount(guest, "gone", V4, "", "gone")
    guest.shell("{ns} exportfs -u '*:/gone'", SERVER.name)
    said = {"healthy": finding(at), "gone": finding(gone, "-t", "10")}
    guest.shell(DROP, SERVER.name)
    said["silent"] = finding(at, "-t", "20")
    guest.shell(UNDROP, SERVER.name)
    return said


def slow(guest: Guest) -> dict[str, Any]:
    """A slow wire, and slow for another reason."""
    at = mount(guest, "slow", V3, "")
    guest.shell("{ns} tc qdisc add dev eth0 root netem delay 200ms", SERVER.name)
    wire = finding(at, "-w", "0.3")
    guest.shell("{ns} tc qdisc del dev eth0 root", SERVER.name)
    return {"wire": wire, "well": finding(at, "-w", "0.3")}


def started(guest: Guest, command: str) -> subprocess.Popen[bytes]:
    """A program on the server."""
    return subprocess.Popen([*guest.inside(LEASED.name).split(), *shlex.split(command)])


def expired() -> int:
    """For how long the lease of the only mount that has one is expired, as the kernel says."""
    return max(map(int, re.findall(r"lease_expired=(\d+)", Path("/proc/self/mountstats").read_text())), default=0)


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def lease(guest: Guest) -> dict[str, Any]:
    """A partition that lasts longer than the lease, and its end."""
    at = mount(guest, "leased", V4, "", server=LEASED)
    said = {"healthy": finding(at)}
    guest.shell(DROP, LEASED.name)
    until(lambda: expired() > 2)
    said["cut"] = finding(at, "-t", "2")
    guest.shell(UNDROP, LEASED.name)
    until(lambda: expired() == 0)
    said["healed"] = finding(at, "-t", "20")
    return said


def impostors(guest: Guest) -> dict[str, Any]:
    """Programs in the place of the server: one that closes each connection, one whose replies
    belong to no request. The daemon sees the second one for several passes."""
    at = Path("/mnt/leased")
    guest.shell("{ns} rpc.nfsd 0", LEASED.name)
    said: dict[str, Any] = {}
    for name in ("close", "mumble"):
        program = started(guest, f"{PYTHON} -m tests.lab.impostor {name} {guest.host(LEASED.name)}")
        try:
            time.sleep(1)
            said[name] = finding(at, "-t", "4")
            if name == "mumble":
                said["daemon"] = daemon(at)
        finally:
            program.kill()
            program.wait()
    return said


def listens(place: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(place):
        return True
    return False


def others(guest: Guest) -> dict[str, Any]:
    """CIFS and 9p whose servers have ended: the errors come soon, and from this host's kernel."""
    said = {}
    for name, port, program in (("smb", 445, "smbd"), ("diod", 564, "diod")):
        server = next(each for each in SERVERS if each.name == name)
        with open("/etc/hosts", "a") as hosts:  # diod refuses a peer that it has no name for
            hosts.write(f"{guest.host(name)[:-1]}1 client-{name}\n")
        guest.start(server)
        until(functools.partial(listens, (guest.host(name), port)))
        kind = next(each for each in KINDS if each.server == name)
        at = mount(guest, name, kind.make, "", server=server)
        healthy = finding(at, "-t", "20")
        guest.shell(f"pkill -KILL --ns {{pid}} --nslist net {program}", name)
        until(lambda at=at: finding(at, "-t", "30")["condition"] != "ok")  # type: ignore[misc]
        said[name] = {"healthy": healthy, "ended": finding(at, "-t", "30"), "port": port}
    return said


class Daemon:
    """``check_mounts --daemon`` for one mount."""

    def __init__(self, at: Path, *options: str) -> None:
        self._command = [PYTHON, "-m", "check_mounts", "--cache", "/run/evidence/status"]
        self.process = subprocess.Popen(
            [*self._command, "--daemon", "--foreground", *options, str(at)],
            cwd="/", env=environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def passes(self) -> Iterator[dict[str, Any]]:
        """What it says of the mount after each pass that it tells of."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Checked " in line:
                command = [*self._command, "--cached", "--json"]
                result = subprocess.run(command, cwd="/", env=environment(), capture_output=True, check=False)
                if result.returncode != 3:
                    yield from json.loads(result.stdout)["findings"]


def daemon(at: Path) -> list[dict[str, Any]]:
    """What the daemon says after each of some passes: it asks for one second, every five."""
    with Daemon(at, "--interval", "5", "-t", "1") as process:
        return list(itertools.islice(process.passes(), 4))


def idmapd(domain: str) -> str:
    return f"""[General]
Domain = {domain}
Pipefs-Directory = /run/pipefs
[Mapping]
Nobody-User = nobody
Nobody-Group = nogroup
[Translation]
Method = nsswitch
"""


def mapping(guest: Guest) -> dict[str, Any]:
    """The server begins to send names, of another domain than the client's; then the client has the
    same."""
    for path in ("/etc/passwd", "/etc/group"):
        with open(path, "a") as file:
            file.write("librarian:x:4321:4321::/:/bin/false\n" if path == "/etc/passwd" else "librarian:x:4321:\n")
    guest.shell("chown 4321:4321 {srv}/b", SERVER.name)
    at = mount(guest, "mapped", V4, "noac", "b")
    nobody, mine = "belongs to nobody", Path("/etc/idmapd.conf")
    mine.write_text(idmapd("b.example"))
    with Daemon(at, "--interval", "2", "-t", "10") as process:
        passes = process.passes()
        said = {"before": next(passes)}
        Path("/sys/module/nfsd/parameters/nfs4_disable_idmapping").write_text("N")
        Path(f"/srv/{SERVER.name}/idmapd.conf").write_text(idmapd("a.example"))
        guest.shell(
            "{ns} sh -c 'mkdir /run/pipefs; mount -t rpc_pipefs none /run/pipefs; rpc.idmapd -S -c {srv}/idmapd.conf'",
            SERVER.name,
        )
        said["failing"] = next(each for each in passes if any(nobody in words for words in each["remarks"]))
        mine.write_text(idmapd("a.example"))
        subprocess.run(["nfsidmap", "-c"], check=True)
        said["mended"] = next(each for each in passes if not each["remarks"])
    return said


def main() -> None:
    """All acts."""
    provide_product()
    load_modules()
    guest = Guest()
    guest.start(SERVER)
    guest.start(LEASED)
    report = {act.__name__: act(guest) for act in (soft, slow, mapping, others, lease, impostors)}
    (LAB / "evidence.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
