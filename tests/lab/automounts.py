"""Automounts that are checked all the time, by a daemon and by single runs: those that nobody uses
expire, and those that hang are told. Runs in the guest: ``python3 -m tests.lab.automounts`` writes
automounts.json."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.automounter import Trigger
from tests.lab.kinds import DROP, PYTHON, SERVERS
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

# After how many seconds a mount may expire; how often the daemon checks, and single runs do.
TIMEOUT = 10
INTERVAL, EACH = 2.0, 3.0
SERVER = next(each for each in SERVERS if each.name == "drop")
SMB = next(each for each in SERVERS if each.name == "smb")
NFS = "-fstype=nfs4,vers=4.2,nosharecache"
MAPS = {
    "/etc/auto.master": f"""
/- /etc/auto.direct -t {TIMEOUT}
/mnt/map /etc/auto.map -t {TIMEOUT}
/mnt/long /etc/auto.long -t 300
""",
    # These do not expire before their server is silent.
    "/etc/auto.long": f"""
v3 -fstype=nfs,vers=3,nolock,mountport=20048,nosharecache {{nfs}}:/b
alice -fstype=nfs4,vers=4.2 {{nfs}}:/a
bob -fstype=nfs4,vers=4.2 {{nfs}}:/a
multi {NFS} /x {{nfs}}:/a
""",
    "/etc/auto.direct": f"""
/mnt/direct {NFS} {{nfs}}:/a
/mnt/v3 -fstype=nfs,vers=3,nolock,mountport=20048,nosharecache {{nfs}}:/b
/mnt/smb -fstype=cifs,guest,vers=3.0 ://{{smb}}/share
/mnt/used {NFS} {{nfs}}:/b
""",
    # Two that share a superblock; two of one entry, without a mount on its root directory, and with
    # one.
    "/etc/auto.map": f"""
alice -fstype=nfs4,vers=4.2 {{nfs}}:/a
bob -fstype=nfs4,vers=4.2 {{nfs}}:/a
multi {NFS} /x {{nfs}}:/a /y {{nfs}}:/b
nested {NFS} / {{nfs}}:/a /in {{nfs}}:/b
""",
}
UNUSED = [
    "/mnt/direct", "/mnt/v3", "/mnt/smb", "/mnt/map/alice", "/mnt/map/multi/x", "/mnt/map/multi/y", "/mnt/map/nested",
    "/mnt/map/nested/in",
]  # fmt: skip
USED, SYSTEMD = "/mnt/used", "/mnt/systemd"
HANGS = ["/mnt/long/v3", "/mnt/long/alice", "/mnt/long/bob", "/mnt/long/multi/x"]
PLAIN = ["-t", "2", "--deadline", "10", "-p", "/mnt/*"]
# How long programs use one of them, in seconds.
USE = 6.0


def mounted() -> set[str]:
    """The mount points in the table that are no triggers."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {line[4] for line in lines if line[line.index("-") + 1] != "autofs"}


class Systemd(threading.Thread):
    """What systemd does for an automount unit with TimeoutIdleSec=: a direct trigger, which it asks
    now and then what expires."""

    def __init__(self, source: str) -> None:
        super().__init__(daemon=True)
        os.mkdir(SYSTEMD)
        self._source, self._trigger = source, Trigger(self._mount, Path(SYSTEMD), TIMEOUT)

    def _mount(self, path: Path, fs_type: str, source: str, options: str) -> None:
        words = (os.fsencode(each) for each in (source, path, fs_type))
        assert ctypes.CDLL(None).mount(*words, 0, os.fsencode(options)) == 0

    def fill(self) -> None:
        """Mount what the trigger stands for, for a program that uses it."""
        subprocess.run(["mount", "-t", "nfs4", "-o", "vers=4.2,nosharecache", self._source, SYSTEMD], check=True)
        subprocess.run(["setsid", "ls", SYSTEMD], check=True)

    def run(self) -> None:
        while True:
            if SYSTEMD in mounted():
                self._trigger.expires(lambda: subprocess.run(["umount", SYSTEMD], check=False))
            time.sleep(TIMEOUT / 4)


class Watch:
    """The daemon, and single runs beside it. ``said``: who said it, about which mount, its
    condition and the words."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []
        self._over = threading.Event()
        command = ["--daemon", "--foreground", "--interval", str(INTERVAL), *PLAIN]
        self._daemon = subprocess.Popen([PYTHON, "-m", "check_mounts", *command], cwd="/", env=environment())
        self._runs = threading.Thread(target=self._loop)
        self._runs.start()

    def _loop(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            for who, arguments in (("run", PLAIN), ("cached", ["--cached"])):
                self.said += said(who, *arguments)
            self._over.wait(max(0.0, EACH - (time.monotonic() - began)))

    def end(self) -> None:
        self._over.set()
        self._runs.join()
        self._daemon.terminate()
        self._daemon.wait()


def said(who: str, *arguments: str) -> list[tuple[str, str, str, str]]:
    """What a run says of each mount."""
    command = [PYTHON, "-m", "check_mounts", "--json", *arguments]
    result = subprocess.run(command, capture_output=True, cwd="/", env=environment(), check=False)
    try:
        findings = json.loads(result.stdout)["findings"]
    except ValueError:  # the daemon has said nothing yet
        return []
    return [(who, each["mount_point"], each["condition"], each["text"]) for each in findings]


class Use(threading.Thread):
    """What programs do: names that were never asked for are looked up at the server."""

    def __init__(self, place: str, seconds: float) -> None:
        super().__init__()
        self._place, self.until = place, time.monotonic() + seconds
        self.start()

    def run(self) -> None:
        number = 0
        while time.monotonic() < self.until:
            number += 1
            os.path.exists(f"{self._place}/{number}")
            time.sleep(0.5)


class Gone(threading.Thread):
    """Notes when each mount is unmounted after its last use (``used``, by its mount point), in
    seconds."""

    def __init__(self, used: Mapping[str, float]) -> None:
        super().__init__()
        self.used, self.after = used, dict[str, float]()
        self.is_over = False

    def run(self) -> None:
        seen: set[str] = set()
        while not self.is_over:
            there = mounted()
            seen |= there
            for each in seen - there:
                if each in self.used:
                    self.after.setdefault(each, time.monotonic() - self.used[each])
            time.sleep(0.2)


def unused(systemd: Systemd, watch: Watch) -> dict[str, Any]:
    """All are mounted, one of them is used for a while."""
    used: dict[str, float] = {}
    gone = Gone(used)
    systemd.fill()
    used[SYSTEMD] = time.monotonic()
    gone.start()
    used[USED] = Use(USED, USE).until
    for each in UNUSED:
        os.listdir(each)
        used[each] = time.monotonic()
    used["/mnt/map/nested"] = used["/mnt/map/nested/in"]  # the look-up of the one passes the other
    while used.keys() - gone.after.keys() and time.monotonic() < max(used.values()) + 6 * TIMEOUT:
        time.sleep(0.1)
    gone.is_over = True
    return {"expired": gone.after, "said": list(watch.said)}


def until_said(watch: Watch, condition: str, places: list[str]) -> None:
    watch.said.clear()
    end = time.monotonic() + 100
    while not {each[1] for each in list(watch.said) if each[2] == condition} >= set(places):
        assert time.monotonic() < end, (condition, watch.said[-20:])
        time.sleep(0.1)


def hung(guest: Guest, watch: Watch) -> dict[str, Any]:
    """Some are idle, then one of them is used, and is idle again; then their server is silent."""
    for each in HANGS:
        os.listdir(each)
    until_said(watch, "idle", HANGS)
    using = Use(HANGS[0], 120)
    until_said(watch, "ok", HANGS[:1])
    using.until = 0
    using.join()
    until_said(watch, "idle", HANGS)
    guest.shell(DROP, SERVER.name)
    began = time.monotonic()
    first = said("run", "-t", "2", "--deadline", "30", *HANGS)
    took = time.monotonic() - began
    watch.said.clear()
    while not any(each[0] == "cached" and each[2] == "timed-out" for each in list(watch.said)):
        time.sleep(0.1)
    return {"first": first, "took": took, "daemon": time.monotonic() - began}


def main() -> None:
    """All acts."""
    provide_product()
    load_modules()
    guest = Guest()
    for server in (SERVER, SMB):
        guest.start(server)
    guest.shell("mkdir {srv}/a/in", SERVER.name)
    hosts = {"nfs": guest.host(SERVER.name), "smb": guest.host(SMB.name)}
    for path, content in MAPS.items():
        Path(path).write_text(content.format(**hosts))
    Path("/etc/autofs.conf").touch()
    systemd = Systemd(f"{hosts['nfs']}:/b")
    systemd.start()
    watch = Watch()
    # With a process group of its own; else it says "test mount forbidden".
    subprocess.run(["setsid", "automount"], check=True)
    report: dict[str, Any] = {"unused": unused(systemd, watch), "table": Path("/proc/self/mountinfo").read_text()}
    report["hung"] = hung(guest, watch)
    (LAB / "automounts.json").write_text(json.dumps(report))
    watch.end()


if __name__ == "__main__":
    main()
