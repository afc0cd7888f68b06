"""``check_mounts --wait`` for a real NFS that comes late, and that hangs for a while. Runs in the
guest: ``python3 -m tests.lab.waited`` writes waited.json."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.kernel import state, workers_alive
from tests.lab import spaces
from tests.lab.kinds import PYTHON, SERVERS, V4
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

AT = Path("/mnt/nfs")
# How long the server is away, in seconds. TCP sends again after as long as it was, at the latest.
OUTAGE = 8.0


class Waiting:
    """A run with --wait, and what it says on stderr."""

    def __init__(self) -> None:
        self.said: list[str] = []
        words = [PYTHON, "-m", "check_mounts", "--wait", str(AT), "--deadline", "100", "-t", "2", "--json", "-v"]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", env=environment()
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def until_said(self, words: str) -> None:
        while not any(words in line for line in self.said):
            assert self.process.poll() is None, self.said
            time.sleep(0.01)

    def end(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        began = time.monotonic()
        value = json.loads(self.process.stdout.read())
        return {
            "code": self.process.wait(),
            "seconds": time.monotonic() - began,
            "state": value["state"],
            "notes": value["notes"],
            "said": self.said,
        }


def main() -> None:
    """Both acts, and those of spaces.py."""
    guest, server = Guest(), next(each for each in SERVERS if each.name == "drop")
    provide_product()
    load_modules()
    guest.start(server)
    AT.mkdir(parents=True)
    late = Waiting()
    late.until_said("missing: not mounted")
    guest.shell(V4.replace("{more}", "").replace("{export}", "a"), server.name, str(AT))
    report = {"late": late.end()}
    guest.shell(server.fault, server.name)
    hung = Waiting()
    hung.until_said("timed out")
    time.sleep(OUTAGE)
    # Those without work wait for some.
    held = sum(state(pid) == "D" for pid in workers_alive())
    guest.shell(server.heal, server.name)
    report["hung"] = {**hung.end(), "held": held}
    report["spaces"] = spaces.play(guest)
    (LAB / "waited.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
