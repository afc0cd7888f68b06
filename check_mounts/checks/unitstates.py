"""What systemd says of the units of mounts that are missing. Only a worker asks: systemctl waits
for PID 1."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Mapping, Sequence

from check_mounts import text
from check_mounts.clocks import boottime
from check_mounts.system import processes, signals
from check_mounts.typed import Optional

_PROGRAMS = ("/usr/bin/systemctl", "/bin/systemctl")
_RUNS = "/run/systemd/system"  # sd_booted(3)
_PROPERTIES = "Id,LoadState,ActiveState,Result,ExecMount,StateChangeTimestampMonotonic"
_LONGEST_NAME = 255  # UNIT_NAME_MAX in systemd
_MOST = 1 << 20  # bytes of an answer
_LOOKS, _BETWEEN_LOOKS = 20, 0.005
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
    """The name of the unit of a mount point (systemd-escape(1) --path); None if it is too long."""
    path = b"/".join(part for part in mount_point.split(b"/") if part)
    parts = []
    for place, byte in enumerate(path):
        char = chr(byte)
        if char == "/":
            parts.append("-")
        elif (char.isascii() and char.isalnum()) or char in ":_" or (char == "." and place):
            parts.append(char)
        else:
            parts.append(f"\\x{byte:02x}")
    name = ("".join(parts) or "-") + ".mount"
    return name if len(name) <= _LONGEST_NAME else None


def ask(units: Sequence[str], seconds: float) -> dict[str, str]:
    """The state of each unit in words: ``srv.mount has failed since 2026-11-30 08:41:07: mount
    exited with 32``. Empty if this host does not run systemd, or it does not answer in time. Raises
    OSError."""
    program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None or not os.access(_RUNS, os.F_OK):
        return {}
    said = _run([program, "show", "--no-pager", f"--property={_PROPERTIES}", "--", *units], seconds)
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


def _run(words: Sequence[str], seconds: float) -> str:
    """The output of a program; empty if it does not end in time. Raises OSError."""
    until = time.monotonic() + seconds
    output, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(words, theirs)
    os.close(theirs)
    said, ended = b"", False
    try:
        waiting = select.poll()
        waiting.register(output, select.POLLIN)
        while not ended and waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            chunk = os.read(output, 1 << 16)
            said, ended = said + chunk, not chunk or len(said) > _MOST
    finally:
        os.close(output)
        processes.kill(pid)
        # Else it would stay as a zombie if PID 1 hangs. It has a moment to end, and no more.
        for _ in range(_LOOKS):
            if processes.reap(pid):
                break
            time.sleep(_BETWEEN_LOOKS)
    return said.decode("utf-8", "surrogateescape").strip() if ended else ""


def _become(words: Sequence[str], output: int) -> None:
    try:
        signals.reset_to_default()
        processes.die_with_parent(os.getppid())
        nothing = os.open("/dev/null", os.O_RDWR)
        for ours, its in ((nothing, 0), (output, 1), (nothing, 2)):
            os.dup2(ours, its)
        os.execve(words[0], [os.fsencode(word) for word in words], {"LC_ALL": "C", "SYSTEMD_COLORS": "0"})
    finally:
        os._exit(127)
