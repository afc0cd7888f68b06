"""Processes that hang in a real NFS in each way, beside bystanders: who finds them. Runs in the
guest: ``python3 -m tests.lab.users`` writes users.json."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.kernel import workers_alive
from tests.lab.kinds import PYTHON, SERVERS, V4
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

AT, HEALTHY, ELSEWHERE = Path("/mnt/nfs"), Path("/mnt/other"), Path("/mnt/tmp")
TIMES = 10


def _asked(*arguments: str) -> dict[str, Any]:
    """What --users says as JSON."""
    began = time.monotonic()
    result = subprocess.run(
        [PYTHON, "-m", "check_mounts", "--json", *arguments], capture_output=True, text=True, cwd="/", env=environment()
    )
    return {"code": result.returncode, "seconds": time.monotonic() - began, **json.loads(result.stdout)}


def _victims(bystanders: int) -> tuple[subprocess.Popen[str], dict[str, list[int]]]:
    for directory in (AT, ELSEWHERE):
        for name in ("read", "write", "open", "mapped"):
            (directory / name).write_bytes(b"x" * 8192)
            (directory / name).chmod(0o666)
    program = Path(__file__).parent.parent / "victims.py"
    command = [PYTHON, "-I", str(program), str(AT), str(ELSEWHERE), str(bystanders), "2:1001", "2:1002", "1:1003"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def _say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == word


def main() -> None:
    """All acts."""
    guest = Guest()
    provide_product()
    load_modules()
    drop, alive = (next(each for each in SERVERS if each.name == name) for name in ("drop", "alive"))
    for server, at in ((drop, AT), (alive, HEALTHY)):
        guest.start(server)
        at.mkdir(parents=True)
        guest.shell(V4.replace("{more}", "").replace("{export}", "a"), server.name, str(at))
        at.chmod(0o777)
    ELSEWHERE.mkdir()
    guest.shell("mount -t tmpfs -o mode=777 none {at}", "", str(ELSEWHERE))
    process, pids = _victims(200)
    report: dict[str, Any] = {"pids": pids, "before": _asked("--users", str(AT))}
    guest.shell(drop.fault, drop.name)
    _say(process, "go")
    time.sleep(5)  # attributes that are known are asked for again after some seconds
    report["asked"] = [_asked("--users", str(AT)) for _ in range(TIMES)]
    report["healthy"] = _asked("--users", str(HEALTHY))
    report["left"] = sorted(workers_alive())
    guest.shell(drop.heal, drop.name)
    _say(process, "end")
    (LAB / "users.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
