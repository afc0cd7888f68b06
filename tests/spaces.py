"""Many mount namespaces in one tree of processes, which a test asks for by JSON on stdin:

    {"count": 100, "mounts": 50, "at": "/tmp/x", "extra": 0}

Each child has a namespace of its own with so many tmpfs below ``at``; ``extra`` more, with
long names, in the first one. It answers with the pids, and all end with its stdin. Run as a program
of its own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 16384, 1 << 18


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    task = json.loads(sys.stdin.readline())
    at = os.fsencode(task["at"])
    pids = []
    for number in range(task["count"]):
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)
            ok = libc.unshare(CLONE_NEWNS) == 0
            ok = ok and libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
            ok = ok and libc.mount(b"none", at, b"tmpfs", 0, b"size=4k") == 0
            for each in range(task["mounts"]):
                point = at + b"/%d" % each
                os.mkdir(point)
                ok = ok and libc.mount(b"none", point, b"tmpfs", 0, b"size=4k") == 0
            long = at + b"/" + b"n" * 240
            os.mkdir(long)
            for each in range(task["extra"] if number == 0 else 0):
                point = long + b"/%d" % each
                os.mkdir(point)
                ok = ok and libc.mount(b"none", point, b"tmpfs", 0, b"size=4k") == 0
            os.write(tell, b"y" if ok else b"n")
            signal.pause()
        os.close(tell)
        assert os.read(ready, 1) == b"y", number
        os.close(ready)
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    sys.stdin.read()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
