"""What is compared by ``make versus``: how each peer is started and asked, and what counts as its
verdict.

``Peer.read`` is the rule: what a peer said about one mount in one round. It reads text only, so
tests/test_versus.py tries it with recorded outputs. Imports nothing but the standard library: it
runs in the guest, too."""

from __future__ import annotations

import enum
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

CHECKOUT = Path(__file__).resolve().parent.parent
# Debian's packages, unpacked by `make versus`.
PACKAGES = CHECKOUT / ".venv" / "versus" / "root"
CHECK_DISK = str(PACKAGES / "usr/lib/nagios/plugins/check_disk")
NODE_EXPORTER = str(PACKAGES / "usr/bin/prometheus-node-exporter")
COLLECTD = str(PACKAGES / "usr/sbin/collectd")
PYTHON = "/usr/bin/python3"
# Seconds that a peer may give one mount, where it can be told.
TIMEOUT = 5
INTERVAL = 10.0


class Said(enum.Enum):
    """What a peer says about one mount in one round."""

    TROUBLE = "trouble"
    UNNAMED = "trouble, but not where"
    WELL = "well"
    NOTHING = "nothing"
    HANGS = "hangs"


class Answer(NamedTuple):
    """What came within the round. ``code`` is an exit status or that of HTTP; None: no answer."""

    code: Optional[int]
    out: str
    errors: str
    seconds: float


class Place(NamedTuple):
    """Where a peer works: mount points, those that should be mounted, a directory and a port on
    loopback of its own."""

    mounts: Sequence[str]
    expected: Sequence[str]
    directory: Path
    port: int
    timeout: int = TIMEOUT


# What must be said about a mount, by the condition that the zoo expects of it (tests/lab/kinds.py).
_BAD = frozenset({Said.TROUBLE, Said.UNNAMED})
RIGHT = {
    "timed-out": _BAD,
    "dead": _BAD,
    "denied": _BAD,
    "not mounted": _BAD,
    "blocked": _BAD | {Said.NOTHING},
    "not probed": frozenset(Said) - {Said.HANGS},
    "failing": frozenset(Said) - {Said.HANGS},
    "ok": frozenset({Said.WELL, Said.NOTHING}),
}


class Peer:
    """One of those compared: a command for each round, or a service that is asked. ``rule`` is what
    ``read`` does, in words."""

    name = ""
    rule = ""

    def prepare(self, place: Place) -> None:
        """Write what the service reads."""

    def service(self, place: Place) -> Sequence[str]:
        """The command of a service that is started before the fault; empty where there is none."""
        return ()

    def command(self, place: Place) -> Sequence[str]:
        """The command of a round; empty where a service is asked with ``ask``."""
        return ()

    def ask(self, place: Place, process: subprocess.Popen[str], until: float) -> Answer:
        """Ask the service, until a time of CLOCK_MONOTONIC."""
        raise NotImplementedError

    def read(self, answer: Answer, mount: str) -> Said:
        """The rule: what was said about ``mount`` in an answer that came."""
        raise NotImplementedError

    def said(self, answer: Answer, mount: str) -> Said:
        return Said.HANGS if answer.code is None else self.read(answer, mount)

    def shown(self, place: Place) -> list[str]:
        """Its commands, as the page has them."""
        return [shlex.join(words) for words in (self.service(place), self.command(place)) if words]


class CheckDisk(Peer):
    name = "check_disk"
    rule = "exit 2 or 3, and the text has `MOUNT is not accessible` or `MOUNT not found`; well: perfdata of the mount"

    def command(self, place: Place) -> Sequence[str]:
        paths = [word for mount in place.mounts for word in ("-p", mount)]
        return [CHECK_DISK, "-w", "1%", "-c", "1%", "-t", str(TIMEOUT), "-E", *paths]

    def read(self, answer: Answer, mount: str) -> Said:
        if re.search(rf"(?<!\S){re.escape(mount)}(?: is not accessible|:? not found)", answer.out):
            return Said.TROUBLE
        if re.search(rf"\|(?:.*\s)?'?{re.escape(mount)}'?=", answer.out):
            return Said.WELL
        names_another = re.search(r"not accessible|not found|\|", answer.out)
        return Said.UNNAMED if answer.code and not names_another else Said.NOTHING


class CheckDiskEach(CheckDisk):
    name = "check_disk, a service for each mount"

    def command(self, place: Place) -> Sequence[str]:
        single = CheckDisk.command(self, place._replace(mounts=()))
        each = [f"{shlex.join([*single, '-p', mount])} &" for mount in place.mounts]
        return ["sh", "-c", "\n".join([*each, "wait"])]

    def said(self, answer: Answer, mount: str) -> Said:
        """The other services answer, whatever hangs."""
        said = self.read(answer, mount)
        return Said.HANGS if answer.code is None and said is Said.NOTHING else said


class NodeExporter(Peer):
    name = "node_exporter"
    rule = "`node_filesystem_device_error` of the mount is 1, or the scrape has no series of it; well: it is 0"

    def prepare(self, place: Place) -> None:
        """It reads the mounts of process 1, which is in another namespace here."""
        own = place.directory / "proc/1"
        own.mkdir(parents=True)
        for name in ("mounts", "mountinfo"):  # the latter since 1.9
            (own / name).symlink_to(f"/proc/self/{name}")

    def service(self, place: Place) -> Sequence[str]:
        return [
            NODE_EXPORTER, "--collector.disable-defaults", "--collector.filesystem",
            f"--web.listen-address=127.0.0.1:{place.port}", f"--path.procfs={place.directory}/proc",
            f"--collector.filesystem.mount-timeout={TIMEOUT}s",
            "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run)($|/)",
            "--collector.filesystem.fs-types-exclude=^(autofs|proc|sysfs|cgroup2?|devpts|hostfs)$",
        ]  # fmt: skip

    def ask(self, place: Place, process: subprocess.Popen[str], until: float) -> Answer:
        began, data = time.monotonic(), b""
        try:
            with socket.create_connection(("127.0.0.1", place.port), until - began) as connection:
                connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                while part := _received(connection, until):
                    data += part
        except OSError as error:
            return Answer(None, "", str(error), time.monotonic() - began)
        head, _, body = data.decode().partition("\r\n\r\n")
        code = int(head.split()[1]) if head else None
        return Answer(code, body, "", time.monotonic() - began)

    def read(self, answer: Answer, mount: str) -> Said:
        found = re.search(
            rf'^node_filesystem_device_error{{.*mountpoint="{re.escape(mount)}"}} ([01])', answer.out, re.M
        )
        return Said.WELL if found and found[1] == "0" else Said.TROUBLE


def _received(connection: socket.socket, until: float) -> bytes:
    connection.settimeout(max(0.01, until - time.monotonic()))
    return connection.recv(1 << 16)


_COLLECTD = """
Hostname "host"
BaseDir "{directory}"
PIDFile "{directory}/pid"
PluginDir "{packages}/usr/lib/collectd"
TypesDB "{packages}/usr/share/collectd/types.db"
Interval {interval:g}
Timeout 2
LoadPlugin logfile
<Plugin logfile>
    LogLevel notice
    File "{directory}/log"
</Plugin>
LoadPlugin unixsock
<Plugin unixsock>
    SocketFile "{directory}/socket"
</Plugin>
LoadPlugin df
<Plugin df>
{mounts}
    IgnoreSelected false
    ValuesPercentage true
</Plugin>
LoadPlugin threshold
<Plugin threshold>
    <Type percent_bytes>
        Instance "free"
        FailureMin 0
        Interesting true
    </Type>
</Plugin>
"""


class Collectd(Peer):
    name = "collectd df"
    rule = (
        "the log has an error or a notification FAILURE (of the plugin threshold: no value since 2 intervals) of the "
        "mount, and none since that it is well; well: a value of it"
    )

    def prepare(self, place: Place) -> None:
        (place.directory / "collectd.conf").write_text(self._configuration(place))

    def _configuration(self, place: Place) -> str:
        mounts = "\n".join(f'    MountPoint "{mount}"' for mount in place.mounts)
        return _COLLECTD.format(directory=place.directory, packages=PACKAGES, interval=INTERVAL, mounts=mounts)

    def shown(self, place: Place) -> list[str]:
        lines = self._configuration(place).strip().splitlines()
        return [*super().shown(place), *(f"    {line}" for line in lines)]

    def service(self, place: Place) -> Sequence[str]:
        return [COLLECTD, "-f", "-C", str(place.directory / "collectd.conf")]

    def ask(self, place: Place, process: subprocess.Popen[str], until: float) -> Answer:
        began, data = time.monotonic(), b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(place.directory / "socket"))
                connection.sendall(b"LISTVAL\n")
                while not _is_whole(data):
                    data += _received(connection, until)
        except OSError as error:
            return Answer(None, "", str(error), time.monotonic() - began)
        log = (place.directory / "log").read_text("utf-8", "replace")
        return Answer(0, data.decode(), log, time.monotonic() - began)

    def read(self, answer: Answer, mount: str) -> Said:
        instance = re.escape(mount.strip("/").replace("/", "-"))
        last = re.findall(
            rf"severity = (\w+),.* plugin_instance = {instance},|(df plugin: statv?fs\({re.escape(mount)}\) failed)",
            answer.errors,
        )
        if last and (last[-1][1] or last[-1][0] != "OKAY"):
            return Said.TROUBLE
        return Said.WELL if re.search(rf"/df-{instance}/", answer.out) else Said.NOTHING


def _is_whole(data: bytes) -> bool:
    """Whether an answer of unixsock has as many lines as its first line promises."""
    head, _, rest = data.partition(b"\n")
    return b"\n" in data and rest.count(b"\n") >= int(head.split()[0])


class Psutil(Peer):
    name = "psutil"
    rule = "`disk_usage(MOUNT)` raised OSError; well: it returned"

    def service(self, place: Place) -> Sequence[str]:
        return [PYTHON, "-E", "-S", __file__, "psutil", *place.mounts]

    def ask(self, place: Place, process: subprocess.Popen[str], until: float) -> Answer:
        assert process.stdin is not None
        began = time.monotonic()
        out = place.directory / "out"
        passes = out.read_text().count("end\n")
        process.stdin.write("pass\n")
        process.stdin.flush()
        while (text := out.read_text()).count("end\n") == passes:
            if time.monotonic() > until:
                return Answer(None, "", "", time.monotonic() - began)
            time.sleep(0.1)
        return Answer(0, text.split("end\n")[-2], "", time.monotonic() - began)

    def read(self, answer: Answer, mount: str) -> Said:
        found = re.search(rf"^(ok|error) {re.escape(mount)}:", answer.out, re.M)
        return Said.NOTHING if not found else Said.WELL if found[1] == "ok" else Said.TROUBLE


def psutil_loop(mounts: Sequence[str]) -> None:
    """What runs as psutil's loop: a pass over the mounts for each line on stdin.

    The mount points are given, because ``disk_partitions`` of this version asks each mount for
    its longest name (pathconf), and hangs where that does."""
    sys.path.insert(0, str(PACKAGES / "usr/lib/python3/dist-packages"))
    import psutil  # type: ignore[import-untyped,unused-ignore]

    for _ in sys.stdin:
        for mount in mounts:
            try:
                print(f"ok {mount}: {psutil.disk_usage(mount).percent} %", flush=True)
            except OSError as error:
                print(f"error {mount}: {error}", flush=True)
        print("end", flush=True)


class Df(Peer):
    name = "df"
    rule = "a line `df: MOUNT: …` on stderr; well: a row of the mount"
    words: tuple[str, ...] = ("df", "-P")

    def command(self, place: Place) -> Sequence[str]:
        return self.words

    def read(self, answer: Answer, mount: str) -> Said:
        if re.search(rf"^df: {re.escape(mount)}: ", answer.errors, re.M):
            return Said.TROUBLE
        return Said.WELL if re.search(rf"\s{re.escape(mount)}$", answer.out, re.M) else Said.NOTHING


class DfLocal(Df):
    name = "df -l"
    words = ("df", "-P", "-l")


class StatLoop(Peer):
    name = "timeout stat -f"
    rule = "the exit status for the mount is not 0 (124, 137: timeout); well: it is 0"

    def command(self, place: Place) -> Sequence[str]:
        loop = f'for m; do timeout -k 1 {TIMEOUT} stat -f "$m" >/dev/null; echo "$m: $?"; done'
        return ["sh", "-c", loop, "sh", *place.mounts]

    def read(self, answer: Answer, mount: str) -> Said:
        found = re.search(rf"^{re.escape(mount)}: ([0-9]+)$", answer.out, re.M)
        return Said.NOTHING if not found else Said.WELL if found[1] == "0" else Said.TROUBLE


class CheckMounts(Peer):
    name = "check_mounts"
    rule = "its JSON has another condition than `ok` for the mount; well: `ok`"

    def options(self, place: Place) -> list[str]:
        patterns = sorted({os.path.dirname(mount) + "/*" for mount in place.mounts})
        expected = [word for mount in place.expected for word in ("--expect", mount)]
        return [*(word for pattern in patterns for word in ("-p", pattern)), *expected]

    def command(self, place: Place) -> Sequence[str]:
        words = ["--json", "-t", str(place.timeout), "--deadline", "9", "--state-dir", str(place.directory)]
        return [*program(), *words, *self.options(place)]

    def read(self, answer: Answer, mount: str) -> Said:
        if not answer.out.startswith("{"):  # a daemon that has no result yet
            return Said.NOTHING
        findings = json.loads(answer.out)["findings"]
        found = [each["condition"] for each in findings if each["mount_point"] == mount]
        seen = [condition for condition in found if condition not in ("shadowed", "idle")]
        return Said.NOTHING if not seen else Said.WELL if set(seen) == {"ok"} else Said.TROUBLE


class Daemon(CheckMounts):
    name = "check_mounts --cached"
    rule = "the same, of the result beside the cached one"

    def service(self, place: Place) -> Sequence[str]:
        words = ["-t", str(place.timeout), "--interval", f"{INTERVAL:g}", "--cache", str(place.directory / "status")]
        return [*program(), "--daemon", "--foreground", *words, *self.options(place)]

    def command(self, place: Place) -> Sequence[str]:
        cached = shlex.join([*program(), "--cached", "--cache", str(place.directory / "status")])
        return ["sh", "-c", f"{cached} >&2; code=$?; cat {place.directory}/status.json; exit $code"]


def program() -> list[str]:
    """check_mounts, installed where the environment of this process says."""
    return shlex.split(os.environ.get("VERSUS_PROGRAM", "check_mounts"))


PEERS: list[Peer] = [
    CheckMounts(), Daemon(), CheckDisk(), CheckDiskEach(), NodeExporter(), Collectd(), Psutil(), Df(), DfLocal(),
    StatLoop(),
]  # fmt: skip

# What is tried in the zoo: a guest for each group, so that others do not make it late.
GROUPS = (
    ("check_mounts",), ("check_mounts --cached",), ("check_disk",), ("node_exporter",), ("collectd df", "psutil"),
    ("df", "df -l"), ("timeout stat -f",),
)  # fmt: skip
IN_ZOO = [name for group in GROUPS for name in group]

if __name__ == "__main__":
    psutil_loop(sys.argv[2:])
