"""One run over 100 mount namespaces with 50 mounts each (``--namespaces``), beside a run over one
table with all of these mounts."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from bench.common import ROOT, Line, Output, Setting, Target, healthy, interleaved

_NAMESPACES, _MOUNTS, _ROUNDS = 100, 50, 9


@contextlib.contextmanager
def _pods(setting: Setting) -> Iterator[None]:
    place = setting.place / "pods"
    place.mkdir(exist_ok=True)
    task = {"count": _NAMESPACES, "mounts": _MOUNTS, "at": str(place), "extra": 0}
    words = [sys.executable, str(ROOT / "tests/spaces.py")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        assert len(json.loads(process.stdout.readline())) == _NAMESPACES
        yield
        process.stdin.close()


def lines(setting: Setting) -> Iterator[Line]:
    """The run over all namespaces, beside the run over one table."""
    output = Output()

    def run(program: str, *words: str) -> Callable[[], float]:
        command = [program, *words, "--state-dir", str(setting.place / "state")]
        return lambda: output.milliseconds(command, 0, b"MOUNTS OK - ")

    with healthy(setting, _NAMESPACES * _MOUNTS) as mounts:
        table = interleaved(
            {name: run(path, "-p", f"{mounts.base}/*") for name, path in setting.programs.items()}, _ROUNDS
        )
    with _pods(setting):
        spaces = interleaved({name: run(path, "--namespaces") for name, path in setting.programs.items()}, _ROUNDS)
    for name in setting.programs:
        what = f"--namespaces, {_NAMESPACES} of {_MOUNTS} mounts"
        yield Line(what, "ms", {name: spaces[name]}, "one table of them", table[name], Target(1.0, words="<= 1 x"))
