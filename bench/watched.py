"""The cost of the watcher for a single run, compared with the same run without it.

Run as root: ``python -m bench.watched``. The program is installed as by `make install`. Prints
milliseconds from the start of the process to its end; each figure is the median of 100 runs, which
alternate, so all meet the same noise. The aim is 2 ms. The cost of a bare fork at the same
place is measured, too, because that alone may take longer: the child gets a copy of each page that
it touches."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.cached import milliseconds

ROOT = Path(__file__).resolve().parent.parent
RUNS = 100
AIM = 2.0

_WITHOUT = """
import os, sys
if {forks} and (pid := os.fork()):
    os._exit(os.waitpid(pid, 0)[1] >> 8)
sys.path.insert(0, sys.argv[1])
from check_mounts import __main__
os._exit(__main__._check_unwatched(sys.argv[2:]))
"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        prefix = f"{place}/prefix"
        subprocess.run(
            ["make", "-s", "-C", ROOT, "install", f"PREFIX={prefix}", f"PYTHON={sys.executable}"],
            check=True,
            stdout=sys.stderr,
        )
        words = ["-p", "/", "--state-dir", f"{place}/state"]
        with_it = [f"{prefix}/bin/check_mounts", *words]
        place_of_program = f"{prefix}/lib/check_mounts"
        without, forked = (
            [sys.executable, "-I", "-S", "-c", _WITHOUT.format(forks=forks), place_of_program, *words]
            for forks in (False, True)
        )
        null = os.open("/dev/null", os.O_WRONLY)
        times = [[milliseconds(command, null) for command in (without, forked, with_it)] for _ in range(RUNS)]
    plain, floor, watched = map(statistics.median, zip(*times))
    print("one run over one mount, milliseconds:")
    print(f"without its watcher {plain:.2f}, with a bare fork {floor:.2f} (+ {floor - plain:.2f})")
    print(f"with its watcher {watched:.2f} (+ {watched - plain:.2f}, aim: {AIM})")


if __name__ == "__main__":
    main()
