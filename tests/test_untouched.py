"""What is excluded is not touched by anybody, and the main process touches no mount at all: shown
by strace."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result

pytestmark = pytest.mark.root

# All calls that name a file; the rest of what strace shows (read of the mount table, arguments of
# execve) may name mounts.
TRACE = [
    "strace",
    "-f",
    "-qq",
    "-s",
    "65536",
    "-e",
    "trace=%file,openat2,statfs,statx,name_to_handle_at,open_tree,fsopen,mount",
]


def _calls(plugin: Plugin, tmp_path: Path, *arguments: str) -> tuple[Result, dict[int, list[str]]]:
    """The result, and by process the calls that name a file, execve left out. The first process is
    the watcher, the second the check."""
    log = tmp_path / "strace"
    result = Result(plugin.start(*arguments, wrapper=[*TRACE, "-o", str(log)]))
    calls: dict[int, list[str]] = {}
    for line in log.read_text(errors="surrogateescape").splitlines():
        match = re.match(r"(\d+) +(.*)", line)
        assert match, line
        calls.setdefault(int(match[1]), [])
        if not match[2].startswith("execve("):
            calls[int(match[1])].append(match[2])
    return result, calls


def test_excluded_mounts_are_not_touched(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    selected = mounts.tmpfs("selected")
    excluded = [
        mounts.tmpfs("by-path"),
        mounts.tmpfs("by-source", source="filer9:/x"),
        mounts.mount("by-type", "ramfs"),
        fuse.mount("of-a-user", user_id=1000),
        mounts.mount("kernel", "proc", "proc"),
    ]
    fuse.command("hang", "of-a-user")
    result, calls = _calls(
        plugin, tmp_path, "-x", str(excluded[0]), "--exclude-source", "filer9:*", "-X", "ramfs", "-vv", "-t", "3"
    )
    assert (result.code, result.count("mounts")) == (0, 1)
    everything = [call for lines in calls.values() for call in lines]
    assert sum(f'"{selected}"' in call for call in everything) == 1
    for path in excluded:
        assert not [call for call in everything if str(path) in call]


def test_the_main_process_names_no_mount(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path) -> None:
    paths = [mounts.tmpfs("healthy"), mounts.tmpfs("denied", "mode=0000"), fuse.mount("hung"), fuse.mount("dead")]
    mounts.mount_at(paths[0], "tmpfs", "over")
    fuse.command("freeze", "hung")  # strace waits for whom it traces, so it has to be one that can be killed
    fuse.command("die", "dead")
    result, calls = _calls(
        plugin, tmp_path, "-vvv", "-t", "1", str(paths[0]), str(paths[2]), str(paths[3]), f"{mounts.base}/gone"
    )
    assert result.code == 2
    watcher, main, *workers = calls
    assert len(workers) >= 2
    assert not [call for call in calls[watcher] if str(mounts.base) in call]
    assert not [call for call in calls[main] if str(mounts.base) in call]
    named = [call for worker in workers for call in calls[worker] if str(mounts.base) in call]
    # One look-up for each mount, and for the place of the missing one, to count what lies there.
    assert sorted(re.sub(r'.*"([^"]*)".*', r"\1", call) for call in named) == sorted(
        str(path) for path in (paths[0], *paths[2:], mounts.base / "gone")
    )
    of_mounts = [call for call in named if "/gone" not in call]
    assert all(call.startswith("openat2(") and "O_PATH" in call for call in of_mounts)


def test_a_mount_is_looked_up_once(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("of-a-user", "uid=1000,mode=0700")
    _, calls = _calls(plugin, tmp_path)
    named = [call for lines in calls.values() for call in lines if str(mounts.base) in call]
    assert len(named) == 1


def test_no_name_service_is_asked(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("of-a-user", f"uid={os.getuid() + 1000},mode=0700")
    plugin.environment["HOME"] = "/"  # Python itself would look it up
    _, calls = _calls(plugin, tmp_path)
    assert not [
        call
        for lines in calls.values()
        for call in lines
        if re.search(r"/etc/(passwd|group|nsswitch)|nscd|/sss/", call)
    ]


# Not under strace: what each fork then costs would look like slow mounts, for which the pool
# rightly grows.
_FORKS = """
import sys
from check_mounts import mounttable, selection
from check_mounts.probing import asking, stuck, survey
table = mounttable.read(mounttable.DEFAULT_PATH)
filters = selection.Filters(include_paths=[selection.compile_glob(sys.argv[1].encode())])
settings = asking.Settings()
registry = stuck.Registry(sys.argv[2], slots=settings.max_workers)
passing = survey.Pass(table, selection.select(table[0], filters), settings, registry)
result = survey.take(passing, lambda: table)
print(sum(finding.condition.value == "ok" for finding in result.findings), passing._pool.forks)
"""


def test_a_thousand_healthy_mounts_need_no_fork_each(mounts: Mounts, plugin: Plugin) -> None:
    for number in range(1000):
        mounts.tmpfs(str(number))
    command = [PYTHON, "-c", _FORKS, f"{mounts.base}/*", str(plugin.state_dir)]
    ok, forks = map(
        int, subprocess.run(command, env=plugin.environment, stdout=subprocess.PIPE, check=True).stdout.split()
    )
    assert ok == 1000
    assert 1 <= forks <= 32
