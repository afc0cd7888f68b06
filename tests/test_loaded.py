"""What a run loads: a part of the program that it has no use for costs it nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nagiosplugin
import pytest

from tests.conftest import PYTHON, Plugin

ROOT = Path(__file__).resolve().parent.parent
# Starts the program as the installed script does.
# The interpreter that users have may lack the library.
LIBRARY = str(Path(nagiosplugin.__file__).parent.parent)
START = f"import sys; sys.path[:0] = [{LIBRARY!r}, {str(ROOT)!r}]; from check_mounts.__main__ import main; main()"

# What compares the mount table with declarations.
DECLARED = {
    "compare", "declared_options", "devices", "entry", "fstab", "fstypes", "mounted", "mountoptions", "option_kinds",
    "option_rules", "option_spelling", "option_values", "options_of_disks", "options_of_memory", "options_of_servers",
    "sources", "spec", "units",
}  # fmt: skip

# What reads files that hold options.
FILES = {"config_text", "extra_opts", "ini_syntax"}
# What hands results to servers, and what the daemon needs.
PASSIVE = {"passive", "delivery", "destinations", "submission_options", "submitting"}
SERVICE = {"logs", "serve", "service_options"}

# A part of the program -> its modules, by their last names. Each exists (test_modules_exist), so
# none is forgotten when it gets another name.
WAITING = {"waiting", "watch"}
EXPLAINING = {
    "explaining", "explain_options", "explanation", "advice", "facts", "page", "relatives", "remedies",
    "remedies_failed", "remedies_other", "shellwords",
}  # fmt: skip
USING = {"hanging", "using", "look", "grouping", "findings", "procfs", "worker", "ghosts", "seeker"}
PARTS = {
    "using": USING,
    "waiting": WAITING, "explaining": EXPLAINING, "declared": DECLARED, "files": FILES, "passive": PASSIVE,
    "service": SERVICE,
}  # fmt: skip
ALL = list(PARTS)
# A run -> the parts that it has no use for.
RUNS: list[tuple[list[str], list[str]]] = [
    ([], ALL),
    (["/"], ALL),
    (["-v", "/"], ALL),
    (["--json"], ALL),
    (["-vvv", "--include-type", "ext4", "--timeout", "3", "--write"], ALL),
    (["--systemd"], ["files", "passive", "service", "waiting", "explaining"]),
    (["--submit=command-file:/nonexistent"], ["declared", "files", "service", "waiting", "explaining"]),
    (["--extra-opts=@/nonexistent"], ["declared", "passive", "service", "waiting", "explaining"]),
]


def loaded(plugin: Plugin, *arguments: str) -> set[str]:
    """The modules of ours that a run and its workers have loaded."""
    command = [PYTHON, "-X", "importtime", "-m", "check_mounts", "--state-dir", str(plugin.state_dir), *arguments]
    if os.geteuid() == 0:  # this host may have FUSE mounts in other namespaces, and then a run looks for ghosts
        without = ["sh", "-c", 'mount -t tmpfs none /sys/class/bdi && exec "$@"', "sh"]
        command = ["unshare", "-m", "--propagation", "private", *without, *command]
    result = subprocess.run(command, env=plugin.environment, capture_output=True, text=True, timeout=60)
    assert "MOUNTS UNKNOWN - argument" not in result.stdout
    names = (line.rpartition("|")[2].strip() for line in result.stderr.splitlines())
    found = {name.rpartition(".")[2] for name in names if name.startswith("check_mounts.")}
    assert "checking" in found
    return found


@pytest.mark.parametrize("part", PARTS)
def test_modules_exist(part: str) -> None:
    package = Path(__file__).resolve().parent.parent / "check_mounts"
    assert PARTS[part] <= {path.stem for path in package.rglob("*")}


@pytest.mark.parametrize(("arguments", "parts"), RUNS, ids=lambda value: " ".join(value) or "nothing")
def test_no_use_for(plugin: Plugin, arguments: list[str], parts: list[str]) -> None:
    found = loaded(plugin, *arguments)
    assert {part: found & PARTS[part] for part in parts} == {part: set() for part in parts}


@pytest.mark.parametrize(
    "arguments", [["--fstab", "/dev/null"], ["--systemd"], ["--expect", "/"], ["--expect-ro", "/nonexistent"]]
)
def test_what_is_declared_is_loaded_before_anything_is_asked(plugin: Plugin, arguments: list[str]) -> None:
    assert {"compare", "devices"} <= loaded(plugin, *arguments)


def test_a_daemon_loads_all_that_a_later_configuration_may_need() -> None:
    """Later it may lie on a mount that hangs. ``metrics``, ``rpc_metrics`` and ``inventory`` are
    loaded with their option, ``web`` by a delivery in a worker; ``starting`` and ``__main__`` come
    before all else, and ``option_parser``, if at all, with the command line; ``loading`` is for
    single runs, ``check_config``, ``write_config``, ``drill_order`` and ``describing`` for options
    that check nothing, as are ``recalling``, ``grouping``, ``histories`` and ``since``,
    ``drill_options`` for a drill of a single run, ``unreadable`` for --cached, and ``nest`` is the
    inside of another process; ``packages`` and ``stand_in`` come in place of a library that is
    missing."""
    package = Path(__file__).resolve().parent.parent / "check_mounts"
    code = "import sys; from check_mounts import run; run._load_daemon(); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=package.parent
    )
    found = {name.rpartition(".")[2] for name in result.stdout.split() if name.startswith("check_mounts.")}
    every = {path.stem for path in package.rglob("*.py")}
    late = (
        "__init__ __main__ canaryprobe describing drill_options drill_order grouping histories inventory loading "
        "metrics nest option_parser packages recalling rpc_metrics since stand_in starting through unreadable waiting "
        "web"
    )
    of_users = "cgroups findings look namespaces procfs sight stacks threads users waits worker"
    of_ghosts = "backings clients ghost ghosts seeker tables"
    on_a_terminal = "colours people progress shown table tabling terminal"
    every -= EXPLAINING | {"hanging"}
    every -= {"bash", "fish", "offers", "zsh"}  # a shell asks for these, and no monitoring
    assert every - found <= {
        *late.split(),
        *of_users.split(),
        *of_ghosts.split(),
        *on_a_terminal.split(),
        "check_config",
        "options_to_keep",
        "write_config",
    }


# -- modules that are not ours

# Modules of Python's own that a plain run has no use for.
UNUSED = {
    "typing", "dataclasses", "inspect", "argparse", "gettext", "locale", "json", "tempfile", "traceback", "tokenize",
    "random", "shutil", "logging", "string", "threading", "warnings", "weakref",
}  # fmt: skip


def test_a_run_loads_little_of_pythons_library(plugin: Plugin) -> None:
    command = [PYTHON, "-IS", "-X", "importtime", "-c", START, "--state-dir", str(plugin.state_dir), "-v", "/"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("MOUNTS OK"), result
    found = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert {"nagiosplugin", "check_mounts.report.plugin"} <= found
    assert not found & UNUSED


def test_what_nagiosplugin_may_still_want_is_there() -> None:
    """The stand-ins for what it does not need load the modules at their first use."""
    code = (
        "import sys\n"
        "from check_mounts.report.library import nagiosplugin\n"
        "from nagiosplugin import compat, cookie, runtime\n"
        "before = sorted({'json', 'logging', 'tempfile', 'traceback'} & set(sys.modules))\n"
        "import json as ours\n"
        "cookie = cookie.json.dumps([1]), runtime.traceback.format_exc(), compat.TemporaryFile().read()\n"
        "import json, logging, tempfile, traceback\n"
        "told = runtime.Runtime().logchan\n"
        "log = sys.modules['nagiosplugin.check']._log\n"
        "log.warning('said %d', 1)\n"
        "print(told.stream.getvalue().strip(), log.name, type(logging).__name__)\n"
        "print(before, cookie, ours is json, type(json).__name__, [each.__spec__.name for each in (json, tempfile)])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    words = "said 1 nagiosplugin.check module\n[] ('[1]', 'NoneType: None\\n', b'') True module ['json', 'tempfile']"
    assert result.stdout.strip() == words


# What the entry makes of the directories of ``site``, and which of its functions it calls.
SITE = """
import sys
sys.path.insert(0, {root!r})
import os, site
site.getsitepackages = lambda prefixes=None: {places!r}
whole = site.main
site.main = lambda: (print("all of site"), whole())
sys.executable = {executable!r}
from check_mounts import __main__ as entry
entry._add_nagiosplugin()
import nagiosplugin
print(os.path.dirname(os.path.dirname(nagiosplugin.__file__)))
"""


def found(executable: Path, *places: Path) -> list[str]:
    """Whether all of site was needed, and where nagiosplugin was found."""
    code = SITE.format(root=str(ROOT), places=[str(place) for place in places], executable=str(executable))
    result = subprocess.run(["/usr/bin/python3", "-IS", "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split("\n")[:-1]


def test_where_nagiosplugin_is_looked_for(tmp_path: Path) -> None:
    empty, direct, other, linked = (tmp_path / name for name in ("empty", "direct", "other", "linked"))
    for place in (direct, other):
        (place / "nagiosplugin").mkdir(parents=True)
        (place / "nagiosplugin" / "__init__.py").touch()
    linked.mkdir()
    (linked / "eggs.pth").write_text(f"{other}\n")
    python = tmp_path / "bin" / "python3"
    assert found(python, empty, direct, other) == [str(direct)]
    assert found(python, linked, direct) == [str(direct)]
    assert found(python, empty, linked) == ["all of site", str(other)]
    python.parent.mkdir()
    (tmp_path / "pyvenv.cfg").touch()  # a virtual environment: site knows what that means
    assert found(python, direct) == ["all of site", str(direct)]
