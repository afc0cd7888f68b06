"""The cost of the watcher for a single run over one mount, compared with the same run without it.

A bare fork at the same place is measured, too, because that alone may take longer: the child gets a
copy of each page that it touches."""

from __future__ import annotations

from collections.abc import Iterator

from bench.common import HERE, PYTHON, Line, Output, Setting, Target, interleaved

_ROUNDS = 30
_WITHOUT = """
import os, sys
if {forks} and (pid := os.fork()):
    os._exit(os.waitpid(pid, 0)[1] >> 8)
sys.path.insert(0, sys.argv[1])
from check_mounts import __main__
os._exit(__main__._check_unwatched(sys.argv[2:]))
"""


def lines(setting: Setting) -> Iterator[Line]:
    """A run with its watcher beside runs without it."""
    if HERE not in setting.programs:
        return
    output = Output()
    words = ["-p", "/", "--state-dir", str(setting.place / "state")]
    library = str(setting.place / "prefix/lib/check_mounts")

    def run(*command: str) -> float:
        return output.milliseconds([*command, *words], 0, b"MOUNTS OK - 1 mount checked")

    without, forked = ([PYTHON, "-I", "-S", "-c", _WITHOUT.format(forks=forks), library] for forks in (False, True))
    figures = interleaved({
        "without": lambda: run(*without),
        "forked": lambda: run(*forked),
        HERE: lambda: run(setting.programs[HERE]),
    }, _ROUNDS)  # fmt: skip
    aim = Target(1 + 2 / figures["without"].median, words="+ <= 2 ms")
    with_it = {HERE: figures[HERE]}
    yield Line("one-shot, 1 mount, watched", "ms", with_it, "without its watcher", figures["without"], aim, 2)
    yield Line("one-shot, 1 mount, watched", "ms", with_it, "with a bare fork instead", figures["forked"], digits=2)
