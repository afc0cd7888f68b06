"""Which processes use a mount, on a host with 2,000 processes of 50 descriptors each, beside a bare
walk that only reads the links of all descriptors, one after the other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

from bench.common import PYTHON, Line, Output, Setting, Target, healthy, interleaved

_PROCESSES, _DESCRIPTORS, _ROUNDS = 2_000, 50, 7
_MOST = 1000.0
# Ten of the files are on the mount in question, in every hundredth process.
_MANY = """
import os, signal, sys
place, elsewhere = sys.argv[1:3]
for number in range(int(sys.argv[3])):
    pid = os.fork()
    if not pid:
        for each in range(3, int(sys.argv[4])):
            at = place if each % 5 == 0 and number % 100 == 0 else elsewhere
            os.open(f"{at}/file", os.O_RDWR | os.O_CREAT)
        os.write(1, b".")
        signal.pause()
os.close(1)
signal.pause()
"""
_WALK = """
import os
for pid in os.listdir("/proc"):
    if pid.isdigit():
        try:
            directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY)
            for name in os.listdir(directory):
                os.readlink(name, dir_fd=directory)
            os.close(directory)
        except OSError:  # it has ended
            pass
"""


@contextlib.contextmanager
def _processes(place: str, elsewhere: str) -> Iterator[None]:
    words = [PYTHON, "-I", "-S", "-c", _MANY, place, elsewhere, str(_PROCESSES), str(_DESCRIPTORS)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        left = _PROCESSES
        while left:
            left -= len(os.read(process.stdout.fileno(), left))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _asking(output: Output, program: str, place: str) -> Callable[[], float]:
    verdict = f"MOUNTS OK - {_PROCESSES // 100} processes use {place}".encode()
    return lambda: output.milliseconds([program, "--users", place], 0, verdict)


def lines(setting: Setting) -> Iterator[Line]:
    """The whole command, beside the walk."""
    output = Output()
    with healthy(setting, 2) as mounts:
        place, elsewhere = f"{mounts.base}/0", f"{mounts.base}/1"
        with _processes(place, elsewhere):
            actions = {name: _asking(output, path, place) for name, path in setting.programs.items()}
            walk = [PYTHON, "-I", "-S", "-c", _WALK]
            figures = interleaved({"walk": lambda: output.milliseconds(walk), **actions}, _ROUNDS)
    named = {name: figures[name] for name in setting.programs}
    what = f"--users, {_PROCESSES:,} processes of {_DESCRIPTORS} descriptors"
    yield Line(what, "ms", named, target=Target(_MOST, of_peer=False, words="<= 1 s"), digits=0)
    yield Line(what, "ms", named, "their links in one process", figures["walk"], digits=0)
