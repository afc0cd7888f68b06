"""``check_mounts --explain`` for a real NFS whose server is silent. Runs in the guest: ``python3 -m
tests.lab.explained`` writes explained.json."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.kernel import state, workers_alive
from tests.lab.kinds import PYTHON, SERVERS, V4
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

AT = Path("/mnt/nfs")
# Opens a file while all is well, and reads it when it is told to.
_READER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
print("ready", flush=True)
sys.stdin.readline()
try:
    os.preadv(fd, [memoryview(__import__("mmap").mmap(-1, 4096))], 0)
    print("read", flush=True)
except OSError as error:
    print(error.errno, flush=True)
"""


def explain(*more: str) -> dict[str, Any]:
    """A run."""
    words = [PYTHON, "-m", "check_mounts", "--explain", str(AT), "-t", "2", "--deadline", "20", *more]
    began = time.monotonic()
    result = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment(), check=False)
    return {
        "code": result.returncode,
        "output": result.stdout + result.stderr,
        "seconds": time.monotonic() - began,
        "held": sum(state(pid) == "D" for pid in workers_alive()),
    }


def main() -> None:
    """All acts: well; ten times hung; its own advice followed; the server back."""
    guest, server = Guest(), next(each for each in SERVERS if each.name == "drop")
    provide_product()
    load_modules()
    guest.start(server)
    AT.mkdir(parents=True)
    guest.shell(V4.replace("{more}", "").replace("{export}", "a"), server.name, str(AT))
    (AT / "file").write_bytes(b"x" * 8192)
    report: dict[str, Any] = {"well": explain()}
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(AT / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin is not None and reader.stdout is not None
    reader.stdout.readline()
    guest.shell(server.fault, server.name)
    reader.stdin.write("\n")
    reader.stdin.flush()
    report["reader"] = reader.pid
    report["hung"] = [explain() for _ in range(10)]
    words = [PYTHON, "-m", "check_mounts", "-v", str(AT), "-t", "2", "--deadline", "20"]
    report["verbose"] = subprocess.run(
        words, capture_output=True, text=True, cwd="/", env=environment(), check=False
    ).stdout
    advised = [line.strip() for line in report["hung"][-1]["output"].split("\n") if "umount -f" in line]
    forced = subprocess.run(["bash", "-c", advised[0]], capture_output=True, text=True, check=False)
    report["forced"] = {"code": forced.returncode, "stderr": forced.stderr, "read": reader.stdout.readline().strip()}
    guest.shell(server.heal, server.name)
    (LAB / "explained.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
