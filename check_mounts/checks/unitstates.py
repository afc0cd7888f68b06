"""What systemd says of the units of mounts that are missing. Only a worker asks: systemctl waits
for PID 1."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence

from check_mounts import text, unitnames
from check_mounts.clocks import boottime
from check_mounts.system import programs
from check_mounts.typed import Optional

_PROGRAMS = ("/usr/bin/systemctl", "/bin/systemctl")
_RUNS = "/run/systemd/system"  # sd_booted(3)
_PROPERTIES = "Id,LoadState,ActiveState,Result,ExecMount,StateChangeTimestampMonotonic"
_MOST = 1 << 20  # bytes of an answer
_ENVIRONMENT = {b"LC_ALL": b"C", b"SYSTEMD_COLORS": b"0"}
_EXIT = re.compile(r"code=(\w+) ; status=([\w/]+) \}\Z")
_RESULTS = {
    "timeout": "mount took too long",
    "start-limit-hit": "it was started too often",
    "resources": "systemd lacks resources for it",
    "protocol": "mount ended, but nothing is mounted",
}
_STATES = {
    "failed": "has failed",
    "activating": "has been starting",
    "inactive": "has been inactive",
    "deactivating": "has been stopping",
}


def unit_of(mount_point: bytes) -> Optional[str]:
    """The name of the unit of a mount point; None if it is too long."""
    name = unitnames.mount_unit(mount_point)
    return None if name is None else name.decode("ascii")


def ask(units: Sequence[str], seconds: float) -> dict[str, str]:
    """The state of each unit in words: ``srv.mount has failed since 2026-11-30 08:41:07: mount
    exited with 32``. Empty if this host does not run systemd, or it does not answer in time."""
    program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None or not os.access(_RUNS, os.F_OK):
        return {}
    said = _said([program, "show", "--no-pager", f"--property={_PROPERTIES}", "--", *units], seconds)
    blocks = [dict(line.partition("=")[::2] for line in block.split("\n")) for block in said.split("\n\n")]
    return {block.get("Id", ""): words for block in blocks if (words := words_of(block))}


def words_of(unit: Mapping[str, str]) -> str:
    """The words about a unit; empty if systemd does not know it, or it is well."""
    name, state = text.printable_argument(unit.get("Id", "")), _STATES.get(unit.get("ActiveState", ""), "")
    if unit.get("LoadState") == "masked":
        return f"{name} is masked"
    if unit.get("LoadState") != "loaded" or not state:
        return ""
    since = unit.get("StateChangeTimestampMonotonic", "")
    if since.isdecimal() and int(since):
        # systemd's clock does not count suspensions, ours does: the time is right if the host was
        # not suspended since.
        state += f" since {text.moment(boottime() - (time.monotonic() - int(since) / 1e6))}"
    why = _why(unit)
    return f"{name} {state}{f': {why}' if why else ''}"


def _why(unit: Mapping[str, str]) -> str:
    result = unit.get("Result", "")
    ended = _EXIT.search(unit.get("ExecMount", ""))
    if result in ("exit-code", "signal", "core-dump") and ended is not None:
        return f"mount {'exited with' if ended[1] == 'exited' else 'was killed by'} {ended[2]}"
    return "" if result in ("", "success") else _RESULTS.get(result, text.printable_argument(result))


def _said(words: Sequence[str], seconds: float) -> str:
    """The output of a program; empty if it cannot be run or does not end in time."""
    try:
        ran = programs.run(words, b"", _ENVIRONMENT, time.monotonic() + seconds, _MOST, is_alone=True)
    except (programs.NotRun, programs.Late):
        return ""
    return ran.said.decode("utf-8", "surrogateescape").strip()
