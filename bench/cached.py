"""The cost of `check_mounts --cached`, compared with a floor of the same run: the same interpreter,
started to do nothing.

A daemon has written its result about 42 tmpfs mounts. The program that asks for it is installed as
by `make install`, and once more by pip, in an environment, where pip's start script is
`check_mounts`."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.common import HERE, PYTHON, ROOT, Line, Output, Setting, Target, healthy, interleaved, pip
from bench.daemon import Daemon

_MOUNTS, _ROUNDS = 42, 100
_INSTALLED, _BY_PIP = Target(1.15), Target(1.3)
_FLOOR = "python3 -I -S -c pass"
# What pip needs of this tree. It builds where the sources are, so it gets a copy.
_SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def _by_pip(place: Path) -> str:
    """The program, installed by pip in a new environment of the users' interpreter."""
    sources = place / "sources"
    shutil.copytree(ROOT / "check_mounts", sources / "check_mounts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "bin", sources / "bin")
    for name in _SOURCES:
        shutil.copy(ROOT / name, sources)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", place], check=True)
    pip("--python", f"{place}/bin/python3", "install", str(sources))
    return f"{place}/bin/check_mounts"


def _asking(program: str, daemon: Daemon, output: Output) -> Callable[[], float]:
    command = [program, "--cached", f"--cache={daemon.status}"]
    begins = b"MOUNTS OK - %d mounts checked" % _MOUNTS
    # A result that is some seconds old, as most are: printing its age is part of the cost.
    time.sleep(1.1)
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert re.match(rb"%b .*\(as of \d+ s ago\)" % begins, said), said
    return lambda: output.milliseconds(command, 0, begins)


def lines(setting: Setting) -> Iterator[Line]:
    """After make install, and from an environment of pip's."""
    output, by_pip = Output(), f"{HERE}, by pip"
    programs = dict(setting.programs)
    if HERE in programs:
        programs[by_pip] = _by_pip(setting.place / "pip")
    daemons: dict[str, Daemon] = {}
    with healthy(setting, _MOUNTS) as mounts:
        try:
            for number, (name, program) in enumerate(setting.programs.items()):
                daemons[name] = Daemon(setting, program, mounts, str(number))
            actions = {
                name: _asking(path, daemons[HERE if name == by_pip else name], output)
                for name, path in programs.items()
            }
            actions["floor"] = lambda: output.milliseconds([PYTHON, *_FLOOR.split()[1:]])
            figures = interleaved(actions, _ROUNDS)
        finally:
            for daemon in daemons.values():
                daemon.close()
    installed = {name: figures[name] for name in setting.programs}
    yield Line("--cached, after make install", "ms", installed, _FLOOR, figures["floor"], _INSTALLED, 2)
    if by_pip in figures:
        pips = {HERE: figures[by_pip]}
        yield Line("--cached, from a pip environment", "ms", pips, _FLOOR, figures["floor"], _BY_PIP, 2)
