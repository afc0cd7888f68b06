"""A pass is judged once, however many outputs are made of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Mounts, Plugin, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

# Loaded by the interpreter before all else: one letter for each pass that is judged, and for each
# result of the daemon that is written.
_COUNTING = """
import os
from check_mounts.daemon import status_file
from check_mounts.judging import policy
def counted(function, letter):
    def counting(*arguments):
        with open(os.environ["COUNTED"], "a") as file:
            file.write(letter)
        return function(*arguments)
    return counting
policy.judge_all = counted(policy.judge_all, "j")
status_file.write_in = counted(status_file.write_in, "w")
"""


@pytest.fixture
def counted(plugin: Plugin, tmp_path: Path) -> Callable[[], str]:
    """What the plugin, and its daemon, have done so far."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(_COUNTING)
    plugin.environment["PYTHONPATH"] = f"{directory}{os.pathsep}{plugin.environment['PYTHONPATH']}"
    plugin.environment["COUNTED"] = str(tmp_path / "counted")
    return lambda: (tmp_path / "counted").read_text()


@pytest.mark.root
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_run_judges_once(
    mounts: Mounts, plugin: Plugin, counted: Callable[[], str], tmp_path: Path, more: tuple[str, ...]
) -> None:
    mounts.tmpfs("one")
    mounts.tmpfs("two")
    os.mkfifo(tmp_path / "commands")
    reader = os.open(tmp_path / "commands", os.O_RDONLY | os.O_NONBLOCK)
    each = () if more else ("--per-mount",)
    result = plugin("--submit", f"command-file:{tmp_path / 'commands'}", *each, *more)
    assert (result.code, result.stderr) == (0, b"")
    assert os.read(reader, 65536).count(b"\n") == (3 if each else 1)
    os.close(reader)
    assert counted() == "j"


@pytest.mark.root
def test_a_pass_of_the_daemon_is_judged_once(
    mounts: Mounts, daemon: Daemon, counted: Callable[[], str], tmp_path: Path
) -> None:
    """However many texts, files and destinations it is for; one that nobody reads from, too."""
    mounts.tmpfs("one")
    daemon.start("--per-mount", "--submit", f"command-file:{tmp_path / 'commands'}", "--metrics", f"{tmp_path}/m.prom")
    until(lambda: counted().count("w") >= 2)
    daemon.stop()
    assert set(counted().split("w")) <= {"j", ""}
