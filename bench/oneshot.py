"""One run over healthy mounts, from its start to its end: 40 for each supported interpreter, then
1,000 to 20,000, beside check_disk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

from bench.common import (
    CHECK_DISK,
    HERE,
    ROUNDS,
    Line,
    Mounts,
    Output,
    Setting,
    Target,
    healthy,
    install,
    interleaved,
    interpreters,
)

_FEW, _START = 40, Target(1.3)
# check_disk takes time that grows with the square of the number.
_MANY: dict[int, Optional[Target]] = {
    1_000: Target(1.5),
    2_000: Target(1 / 2, words="2 x faster"),
    4_000: Target(1 / 8, words="8 x faster"),
    10_000: Target(1 / 40, words="40 x faster"),
    20_000: None,
}
# Its rounds, where it takes a quarter of a minute and more than a minute.
_PEERS_ROUNDS = {10_000: 1, 20_000: 0}
_HAS_PEER = Path(CHECK_DISK).exists()
_FLOOR = "import nagiosplugin, argparse"
_UNIT = {False: "ms", True: "ms of CPU"}


def run_of(setting: Setting, program: str, count: int, mounts: Mounts, output: Output) -> Callable[[], float]:
    """A run of a program over so many healthy mounts, which gives its milliseconds."""
    command = [program, "-p", f"{mounts.base}/*", "--state-dir", str(setting.place / "state"), "--deadline", "60"]
    return lambda: output.milliseconds(command, 0, b"MOUNTS OK - %d mounts checked" % count)


def plain_run(setting: Setting, program: str, output: Output) -> Callable[[], float]:
    """A run without arguments over all mounts, which gives its milliseconds. To choose mounts by a
    pattern takes a worker more, which follows the links in the path that it begins with."""
    command = [program, "--state-dir", str(setting.place / "state")]
    return lambda: output.milliseconds(command, 0, b"MOUNTS OK - ")


def check_disk(output: Output) -> Callable[[], float]:
    """A run of check_disk over all mounts of this namespace."""
    return lambda: output.milliseconds([CHECK_DISK, "-w", "5%", "-c", "2%"], 0, b"DISK OK")


def start(setting: Setting) -> Iterator[Line]:
    """40 mounts beside those of this host: what the start costs."""
    output = Output(setting.cpu)
    with healthy(setting, _FEW) as mounts:
        for number, (version, python) in enumerate(interpreters()):
            programs = dict(setting.programs) if number == 0 else {}
            if number > 0 and HERE in setting.programs:
                programs[HERE] = install(setting.place / version, python)
            actions = {name: plain_run(setting, path, output) for name, path in programs.items()}
            chosen = {name: run_of(setting, path, _FEW, mounts, output) for name, path in programs.items()}
            actions.update((f"{name} -p", action) for name, action in chosen.items())
            actions["floor"] = lambda python=python: output.milliseconds([python, "-c", _FLOOR])  # type: ignore[misc]
            if number == 0 and _HAS_PEER:
                actions["check_disk"] = check_disk(output)
            figures = interleaved(actions, 2 * ROUNDS + 1)
            named = {name: figures[name] for name in programs}
            what = f"one-shot, {_FEW} healthy, Python {version}"
            yield Line(what, _UNIT[setting.cpu], named, f'python3 -c "{_FLOOR}"', figures["floor"], _START)
            by_pattern = {name: figures[f"{name} -p"] for name in programs}
            yield Line(f"{what}, chosen by -p", _UNIT[setting.cpu], by_pattern)
            if "check_disk" in figures:
                yield Line(what, _UNIT[setting.cpu], named, "check_disk", figures["check_disk"])


def many(count: int, setting: Setting) -> Iterator[Line]:
    """Many mounts."""
    output, rounds = Output(setting.cpu), _PEERS_ROUNDS.get(count, ROUNDS) if _HAS_PEER else 0
    with healthy(setting, count) as mounts:
        actions = {name: run_of(setting, path, count, mounts, output) for name, path in setting.programs.items()}
        if rounds:
            actions["check_disk"] = check_disk(output)
        figures = interleaved(actions, fewer={"check_disk": rounds} if rounds < ROUNDS else {})
    named = {name: figures[name] for name in setting.programs}
    peer = "check_disk" if rounds else ""
    yield Line(f"one-shot, {count:,} healthy", _UNIT[setting.cpu], named, peer, figures.get(peer), _MANY[count])


ROWS: dict[str, Callable[[Setting], Iterator[Line]]] = {
    "start": start,
    **{str(count): functools.partial(many, count) for count in _MANY},
}
