"""The daemon among the mounts of the zoo, and what it says, writes and holds. Runs in the guest.

It is started once, meets the faults and their end by itself, and gets no signal but the last. What
is stuck is counted by asking the kernel, not the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tests.kernel import workers_alive
from tests.lab.kinds import KINDS, PYTHON, Kind

CACHE = "/run/daemon/status"
LOG = Path("/run/lab/daemon.log")
INTERVAL = 2.0
OPTIONS = ["--interval", f"{INTERVAL:g}", "--deadline", "60", "-p", "/mnt/*", "--cache", CACHE]
# Seconds for each mount, where the forks of a pass take next to none. All of them together share
# the guest's one processor with what is healthy, which has to answer in time on a host that has
# other things to do, too.
_TIMEOUT = 2.0
_TIMEOUT_BY_FORKS = 4.0
# So many passes over what hangs are seen, at the least.
PASSES = 5
# The kernel may take so long to be at work again with a server that is back: TCP sends again after
# as long as the outage was, or two minutes (TCP_RTO_MAX), whichever is less, and 9p, unlike NFS and
# CIFS, never connects anew.
PATIENCE = 150.0
# Who got SIGKILL and is still there after so long does not heed it.
_MOMENT = 1.0
_SIGKILL = 1 << (signal.SIGKILL - 1)

# How a line of the log begins that tells of a mount, by the condition that it has now.
_NEWS = (
    ("{at} timed out", "timed-out"),
    ("{at} is dead: ", "dead"),
    ("Couldn't check mountpoint {at}: ", "denied"),
    ("{at} answers again after ", "ok"),
    ("{at} is ok again, after it was ", "ok"),
)
TROUBLE = frozenset({"timed-out", "dead", "denied"})

Lines = Sequence[tuple[float, str]]


def patient(forks: float) -> float:
    """A timeout for each mount, where ``forks`` is how many seconds the processes of a pass take to
    be started here."""
    return max(_TIMEOUT, _TIMEOUT_BY_FORKS * forks)


def news(lines: Lines, kind: Kind) -> list[tuple[float, str]]:
    """What the log tells of a mount: when, and the condition that it has since; the line itself
    where that is of another form."""
    at = f"/mnt/{kind.name}"
    known = [(beginning.format(at=at), condition) for beginning, condition in _NEWS]
    found = []
    for when, line in lines:
        if line.startswith((f"{at} ", f"Couldn't check mountpoint {at}: ")):
            found.append(
                (when, next((condition for beginning, condition in known if line.startswith(beginning)), line))
            )
    return found


def conditions_of(kind: Kind) -> tuple[str, ...]:
    """What the daemon may say of it under the fault."""
    return kind.watched or (kind.expected,)


def fails(kind: Kind) -> bool:
    """Whether the daemon is to tell of its fault."""
    return kind.is_watched and conditions_of(kind)[0] in TROUBLE


def recovers(kind: Kind) -> bool:
    """Whether the daemon is to tell of its recovery."""
    return fails(kind) and (kind.healed or kind.healthy) == "ok"


class Watch:
    """``check_mounts --daemon --foreground``, running. ``lines`` has each line of its log and when
    it came, in seconds since the start."""

    def __init__(self, environment: Mapping[str, str], forks: float) -> None:
        self.timeout = patient(forks)
        self._environment = environment
        self._excluded = [word for kind in KINDS if not kind.is_watched for word in ("-x", f"/mnt/{kind.name}")]
        self._began = time.monotonic()
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            self._command("--daemon", "--foreground", "-t", f"{self.timeout:.1f}", *OPTIONS, *self._excluded),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", env=environment,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-m", "check_mounts", *arguments]

    def _read(self) -> None:
        assert self.process.stderr is not None
        with LOG.open("wb") as log:  # which the host has even if the guest does not come to its end
            for line in self.process.stderr:
                self.lines.append((self.now, line.decode("utf-8", "replace").rstrip("\n")))
                log.write(line)
                log.flush()

    @property
    def now(self) -> float:
        return round(time.monotonic() - self._began, 2)

    @property
    def passes(self) -> int:
        """How many passes over all mounts have come to their end."""
        return sum(line.startswith("Checked ") for _, line in list(self.lines))

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait for it; if it does not come, or the daemon ends, what is missing in the report says
        so."""
        end = time.monotonic() + seconds
        while not condition() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)

    def until_checked(self, times: int) -> None:
        """Wait for the end of so many passes more."""
        wanted = self.passes + times
        self.until(lambda: self.passes >= wanted)

    def until_told(self, kinds: Sequence[Kind], healed: bool) -> None:
        """Wait until the news of each of these is that it is well, or that it is not."""

        def told(kind: Kind) -> bool:
            known = news(list(self.lines), kind)
            return bool(known) and (known[-1][1] == "ok") == healed

        self.until(lambda: all(map(told, kinds)))

    def result(self) -> dict[str, Any]:
        """What ``--cached`` gives, and the survey beside it."""
        process = subprocess.run(
            self._command("--cached", "--cache", CACHE),
            capture_output=True,
            check=False,
            cwd="/",
            env=self._environment,
            timeout=30,
        )
        survey = json.loads(Path(f"{CACHE}.json").read_text())
        return {"at": self.now, "code": process.returncode, "text": process.stdout.decode(), "survey": survey}

    def held(self) -> dict[str, Any]:
        """The processes that something holds though they got SIGKILL, and where the daemon says
        that they are."""
        before = _killed()
        time.sleep(_MOMENT)
        stuck = sorted(before & _killed())
        findings = json.loads(Path(f"{CACHE}.json").read_text())["findings"]
        told = {each["mount_point"]: each["stuck"]["pid"] for each in findings if each["stuck"] is not None}
        return {
            "at": self.now,
            "passes": self.passes,
            "pids": stuck,
            "told": {at: pid for at, pid in told.items() if pid in stuck},
        }

    def end(self) -> dict[str, Any]:
        """SIGTERM: the exit status, how long it took, and the processes left."""
        began = time.monotonic()
        self.process.terminate()
        try:
            status: Optional[int] = self.process.wait(30)
        except subprocess.TimeoutExpired:
            status = None
            self.process.kill()
        seconds = round(time.monotonic() - began, 2)
        self._reader.join(5)
        return {"status": status, "seconds": seconds, "left": sorted(workers_alive())}


def _killed() -> set[int]:
    """The workers that SIGKILL is pending for: ``SigPnd`` or ``ShdPnd`` in /proc/PID/status
    (proc_pid_status(5))."""
    found = set()
    for pid in workers_alive():
        try:
            words = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if "Pnd:\t" in line
            )
        except OSError:
            continue
        if any(int(mask, 16) & _SIGKILL for mask in words.values()):
            found.add(pid)
    return found


def remains(pids: Sequence[int]) -> list[int]:
    """Those of the processes that exist, be it as zombies that nobody has reaped."""
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
