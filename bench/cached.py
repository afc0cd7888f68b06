"""The cost of `check_mounts --cached`, compared with a floor of the same run: the same interpreter,
started to do nothing.

Run as root: ``python -m bench.cached``. The program is installed as by `make install`, and the
status file holds its result about 42 tmpfs mounts. Prints milliseconds from the start of the
process to its end and the ratio; each figure is the median of 100 runs, which alternate, so both
meet the same noise. The claim is a ratio of at most 1.5."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_mounts.daemon import status_file

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
MOUNTS = 42
RUNS = 100
CLAIM = 1.5


# In a mount namespace of its own, which takes the mounts with it: $0 is the directory, $1 their
# number, the rest the plugin.
_ZOO = """
for number in $(seq "$1"); do mkdir -p "$0/$number" && mount -t tmpfs none "$0/$number" || exit; done
shift
exec "$@"
"""


def _texts(base: str, state: str) -> tuple[bytes, bytes, bytes, bytes]:
    """The plugin's output about real mounts, at each verbosity."""
    zoo = ["unshare", "--mount", "sh", "-c", _ZOO, base, str(MOUNTS)]
    plugin = [sys.executable, "-m", "check_mounts", "-p", f"{base}/*", "--state-dir", state]

    def text(*more: str) -> bytes:
        output = subprocess.run([*zoo, *plugin, *more], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        assert output.startswith(b"MOUNTS OK - %d mounts checked" % MOUNTS), output
        return output

    return text(), text("-v"), text("-vv"), text("-vvv")


def milliseconds(command: list[str], null: int) -> float:
    """The time from before the start of the process until it was waited for; subprocess would add
    noise."""
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, {}, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
    _, status = os.waitpid(pid, 0)
    took = time.perf_counter() - began
    assert status == 0, command
    return took * 1e3


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir="/run") as place:
        prefix, status = f"{place}/prefix", f"{place}/status"
        subprocess.run(
            ["make", "-s", "-C", ROOT, "install", f"PREFIX={prefix}", f"PYTHON={PYTHON}"], check=True, stdout=sys.stderr
        )
        texts, now = _texts(f"{place}/mnt", f"{place}/state"), time.clock_gettime(time.CLOCK_BOOTTIME)
        # A result that is some seconds old, as most are: printing its age is part of the cost.
        status_file.write(status, 0, texts, now - 7, now + 3600)
        floor_command = [PYTHON, "-I", "-S", "-c", "pass"]
        cached_command = [f"{prefix}/bin/check_mounts", "--cached", f"--cache={status}"]
        # The floor proves nothing about the output, so this checks it.
        output = subprocess.run(cached_command, stdout=subprocess.PIPE, check=True).stdout
        assert re.sub(rb" \(as of \d+ s ago\)", b"", output) == texts[0]
        null = os.open("/dev/null", os.O_WRONLY)
        floors, wholes = [], []
        for _ in range(RUNS):
            floors.append(milliseconds(floor_command, null))
            wholes.append(milliseconds(cached_command, null))
    floor, whole = statistics.median(floors), statistics.median(wholes)
    print(f"the daemon's result about {MOUNTS} mounts, milliseconds for each question:")
    print(
        f"{' '.join(floor_command)} {floor:.2f}, check_mounts --cached {whole:.2f} (x {whole / floor:.2f}, "
        f"claimed: {CLAIM})"
    )


if __name__ == "__main__":
    main()
