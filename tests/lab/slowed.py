"""check_mounts --unusual on real NFS that becomes slow in three ways: the wire, the threads of the
server, its disks. Runs in the guest: ``python3 -m tests.lab.slowed`` writes slowed.json."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from check_mounts.judging.courses import Courses, Key
from check_mounts.judging.past import DAY
from check_mounts.traffic import Operation
from tests.lab.kinds import PYTHON, SERVERS
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

# The servers, by what becomes slow. Nothing happens to the last one.
NAMES = {"disks": "rst", "threads": "stopped", "wire": "address", "nothing": "link"}
THREADS = {"disks": 8, "threads": 1, "wire": 8, "nothing": 8}
# How long a disk takes for each write, and packets on the wire, in milliseconds.
DISK, WIRE = 50, 150
# What an operation usually took, in seconds.
USUAL = 0.010
CACHE = "/run/check_mounts/status"
# Where a daemon with that cache keeps what is usual.
KEPT = Path("/var/lib/check_mounts/usual")

# A disk that can be made slow, below the export.
SLOW_DISK = """
truncate -s 64M /srv/VOLUME.img
device=$(losetup -f --show /srv/VOLUME.img)
mkfs.ext4 -q $device
echo "0 131072 delay $device 0 0 $device 0 0" | dmsetup create VOLUME
{ns} mount /dev/mapper/VOLUME {srv}/a
{ns} exportfs -f
"""
SPOIL_DISK = f"""
device=$(dmsetup table VOLUME | cut -d' ' -f4)
dmsetup suspend VOLUME
echo "0 131072 delay $device 0 0 $device 0 {DISK}" | dmsetup load VOLUME
dmsetup resume VOLUME
"""


class Work(threading.Thread):
    """A program that reads, or writes and syncs, 4 KiB of a file again and again, past all caches
    of the client."""

    def __init__(self, path: Path, writes: bool, pause: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._path, self._writes, self._pause = path, writes, pause

    def run(self) -> None:
        with mmap.mmap(-1, 4096) as page:  # O_DIRECT wants whole pages
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_SYNC)
            os.pwritev(fd, [page], 0)
            while True:
                if self._writes:
                    os.pwritev(fd, [page], 0)
                else:
                    os.preadv(fd, [page], 0)
                time.sleep(self._pause)


def past() -> bytes:
    """What daemons would have learnt in ten days."""
    courses = Courses()
    for _ in range(int(10 * DAY / 300)):
        moved = {
            Key(source(what).encode(), str(at(what)).encode()): {
                name: Operation(name, 1000, 1000, 0, 100_000, 4_000_000, 0, int(1e6 * USUAL), 0, 0)
                for name in (b"READ", b"WRITE")
            }
            for what in NAMES
        }
        courses.take(300.0, moved, lambda mount_point: 5.0)
    return courses.told()


def at(what: str) -> Path:
    return Path("/mnt") / what


def source(what: str) -> str:
    names = [each.name for each in SERVERS]
    return f"10.9.{names.index(NAMES[what]) + 1}.2:/a"


def build(guest: Guest) -> None:
    for what, name in NAMES.items():
        guest.start(next(each for each in SERVERS if each.name == name))
        if what in ("disks", "threads"):
            guest.shell(SLOW_DISK.replace("VOLUME", name), name)
        guest.shell(f"{{ns}} rpc.nfsd {THREADS[what]}", name)
        at(what).mkdir(parents=True)
        guest.shell("mount -t nfs -o vers=4.2 {host}:/a {at}", name, str(at(what)))
    # Another client of the server with one thread: another version is another connection.
    Path("/mnt/other").mkdir()
    guest.shell("mount -t nfs -o vers=4.1 {host}:/a {at}", NAMES["threads"], "/mnt/other")


def work() -> None:
    for what in NAMES:
        Work(at(what) / "file", writes=what == "disks").start()
    for number in range(2):
        Work(Path(f"/mnt/other/busy{number}"), writes=True, pause=0.0).start()


def spoil(guest: Guest) -> None:
    for what in ("disks", "threads"):
        guest.shell(SPOIL_DISK.replace("VOLUME", NAMES[what]))
    guest.shell(f"{{ns}} tc qdisc add dev eth0 root netem delay {WIRE}ms", NAMES["wire"])


def daemon(log: Path) -> subprocess.Popen[bytes]:
    words = [PYTHON, "-m", "check_mounts", "--daemon", "--foreground", "--interval=5", "--timeout=20", "-p", "/mnt/*"]
    with log.open("wb") as file:
        return subprocess.Popen([*words, "--cache", CACHE, "--unusual"], stderr=file, cwd="/", env=environment())


def result() -> dict[str, Any]:
    """The daemon's result: the findings by their mount points."""
    words = [PYTHON, "-m", "check_mounts", "--cached", "--cache", CACHE, "--json"]
    run = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment(), check=False)
    try:
        return {each["mount_point"]: each for each in json.loads(run.stdout)["findings"]}
    except (ValueError, KeyError):
        return {}


def main() -> None:
    """The whole play."""
    guest = Guest()
    provide_product()
    load_modules()
    subprocess.run(["modprobe", "-a", "dm_delay", "sch_netem"], check=True)
    build(guest)
    work()
    KEPT.parent.mkdir(mode=0o755)
    KEPT.write_bytes(past())
    log = LAB / "daemon.log"
    process = daemon(log)
    spoil(guest)
    end, found = time.monotonic() + 200, result()
    while time.monotonic() < end and process.poll() is None:
        found = result()
        if sum(each["condition"] == "slow" for each in found.values()) >= 3:
            break
        time.sleep(1)
    process.terminate()
    report = {"found": found, "code": process.wait(30), "log": log.read_text("utf-8", "replace")}
    (LAB / "slowed.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
