"""What its watcher costs a single run, against the same run without it.

Run as root: ``python -m bench.watched``. The program is installed as `make install` does it. Prints milliseconds from the start of the
process to its end; each figure is the median of 100 runs, which alternate, so both meet the same noise. The claim is 2 ms at most.
"""

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
CLAIM = 2.0

_WITHOUT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from check_mounts import __main__
os._exit(__main__._check_unwatched(sys.argv[2:]))
"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        prefix = f"{place}/prefix"
        subprocess.run(["make", "-s", "-C", ROOT, "install", f"PREFIX={prefix}", f"PYTHON={sys.executable}"], check=True, stdout=sys.stderr)
        words = ["-p", "/", "--state-dir", f"{place}/state"]
        with_it = [f"{prefix}/bin/check_mounts", *words]
        without = [sys.executable, "-I", "-S", "-c", _WITHOUT, f"{prefix}/lib/check_mounts", *words]
        null = os.open("/dev/null", os.O_WRONLY)
        plain, watched = [], []
        for _ in range(RUNS):
            plain.append(milliseconds(without, null))
            watched.append(milliseconds(with_it, null))
    before, after = statistics.median(plain), statistics.median(watched)
    print("one run over one mount, milliseconds:")
    print(f"without its watcher {before:.2f}, with it {after:.2f} (+ {after - before:.2f}, claimed: {CLAIM})")


if __name__ == "__main__":
    main()
