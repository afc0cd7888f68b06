"""The architecture as a test: who imports whom, and who may name a path."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "check_mounts"

# In the order of README's ARCHITECTURE: each may import what its line names, and nothing else of
# the package.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "model": set(),
    "text": set(),
    "syscalls": set(),
    "signals": set(),
    "notes": set(),
    "reading": {"text"},
    "mounttable": {"model"},
    "filesystems": {"model", "text"},
    "mountoptions": {"filesystems", "model"},
    "option_rules": {"filesystems", "model", "mountoptions", "text"},
    "selection": {"filesystems", "model", "mounttable"},
    "passive": {"text"},
    "passive.address": set(),
    "passive.credentials": {"passive", "passive.address"},
    "passive.quiet": set(),
    "passive.records": {"passive", "text"},
    "passive.web": {"__init__", "passive", "passive.address", "passive.quiet", "passive.records", "syscalls", "text"},
    "passive.command_file": {"passive", "passive.quiet", "passive.records", "syscalls", "text"},
    "passive.icinga2": {"passive", "passive.address", "passive.credentials", "passive.records", "passive.web", "text"},
    "passive.nrdp": {"passive", "passive.address", "passive.credentials", "passive.records", "passive.web", "text"},
    "passive.nsca": {"signals", "syscalls", "passive", "passive.address", "passive.command_file", "passive.records", "text"},
    "privilege": {"reading", "syscalls"},
    "probe": {"model", "privilege", "syscalls", "text"},
    "conditions": {"filesystems", "model", "text"},
    "writeprobe": {"model", "probe", "syscalls"},
    "workers": {"privilege", "signals", "syscalls"},
    "place": {"syscalls"},
    "stuck": {"model", "place", "syscalls", "text"},
    "caught": {"notes", "place", "syscalls", "text"},
    "watcher": {"notes"},
    "trial": {"caught", "notes", "reading", "syscalls", "watcher", "workers"},
    "diagnosis": {"model", "text"},
    "causes": {"diagnosis", "filesystems", "model", "selection"},
    "survey": {
        "causes", "conditions", "filesystems", "model", "mounttable", "privilege", "probe", "selection", "stuck", "text", "workers",
        "writeprobe",
    },
    "names": {"model", "mounttable", "selection", "text"},
    "lookups": {"filesystems", "model", "names", "selection", "stuck", "syscalls", "workers"},
    "expected": {"filesystems", "model", "mountoptions", "mounttable", "option_rules", "reading", "selection", "syscalls", "text"},
    "leads": {"expected", "lookups", "model", "mountoptions", "names", "selection", "stuck", "text"},
    "sysfs": {"model"},
    "undeclared": {"expected", "filesystems", "model", "text"},
    "demands": {"expected", "model", "mounttable", "selection", "text", "undeclared"},
    "usage": {"filesystems", "model"},
    "policy": {"filesystems", "model", "text", "usage"},
    "config": {"model", "option_rules", "passive", "policy", "reading", "selection", "text"},
    "summary": {"filesystems", "model", "policy", "selection", "text"},
    "plugin": {"filesystems", "model", "policy", "summary", "text"},
    "jsontext": {"filesystems", "model", "policy", "summary", "text"},
    "delivery": {"passive", "syscalls", "text", "workers"},
    "sandbox": {"model", "mounttable", "selection"},
    "checking": {
        "delivery", "demands", "leads", "lookups", "model", "mounttable", "policy", "reading", "sandbox", "selection", "stuck", "survey",
        "text",
    },
    "cache": {"text"},
    "notify": {"text"},
    "logs": {"signals", "syscalls", "text"},
    "watch": {"stuck", "syscalls"},
    "history": {"conditions", "model", "mounttable", "policy", "selection", "text"},
    "metrics": {"filesystems", "model", "policy", "summary", "text"},
    "submitting": {"checking", "delivery", "model", "passive", "plugin", "selection", "summary", "text"},
    "daemon": {
        "cache", "checking", "delivery", "diagnosis", "history", "jsontext", "leads", "logs", "metrics", "model", "mounttable", "notify",
        "place", "plugin", "policy", "reading", "selection", "signals", "stuck", "submitting", "summary", "survey", "syscalls", "text",
        "trial", "watch", "workers",
    },
    "cli": {
        "__init__", "cache", "checking", "config", "daemon", "delivery", "demands", "expected", "filesystems", "jsontext", "logs",
        "metrics", "model", "mounttable", "names", "notes", "option_rules", "passive", "passive.command_file", "passive.icinga2",
        "passive.nrdp", "passive.nsca", "plugin", "policy", "privilege", "reading", "selection", "signals", "stuck", "submitting",
        "summary", "survey", "sysfs", "text",
    },
    "starting": {"logs", "notify", "signals", "text", "trial"},
    "__main__": {"cache", "caught", "cli", "notes", "reading", "signals", "starting", "syscalls", "watcher"},
}  # fmt: skip

# Calls that take a path. Only probe.py may use them on a mount; the others need them for what is
# named here.
PATH_CALLS = {
    "open", "stat", "lstat", "statvfs", "access", "listdir", "scandir", "readlink", "realpath", "ismount", "exists", "isdir",
    "isfile", "islink", "lexists", "chdir", "mkdir", "unlink", "rename", "truncate", "walk", "glob", "getsize", "openat2",
    "open_without_symlinks", "abspath",
}  # fmt: skip
PATH_USERS = {
    "__main__": {"open"},  # /dev/null
    "mounttable": {"open"},  # the mount table, fstab, units
    "syscalls": {
        "listdir",
        "open",
        "openat2",
        "scandir",
        "stat",
    },  # /proc/self, /proc/PID/stat; open_without_symlinks and read_entries themselves
    "workers": {"open", "chdir"},  # /dev/null, /
    "place": {"open", "open_without_symlinks", "stat", "mkdir", "unlink"},  # the state directory, that of the result
    "stuck": {"open", "listdir", "stat", "unlink", "truncate"},  # the state directory
    "sandbox": {"readlink"},  # /proc/PID/ns/mnt
    "caught": {"listdir", "open", "unlink"},  # the entries of runs
    "trial": {"open"},  # /dev/null
    "watcher": {"chdir"},  # /
    "cache": {"open", "rename", "unlink", "listdir"},  # the result
    "watch": {"open"},  # the mount table
    "daemon": {
        "chdir",
        "listdir",
        "open",
        "open_without_symlinks",
        "stat",
    },  # /, /dev/null, fstab, the directory of the metrics
    "logs": {"open", "chdir"},  # /dev/null, /
    "cli": {"chdir"},  # /
    "probe": {"open", "open_without_symlinks"},
    "writeprobe": {"open", "unlink"},
    "config": {"access", "open"},  # the configuration
    "expected": {"listdir", "open", "readlink"},  # units; in a worker: names below /dev
    "lookups": {"open", "readlink"},  # in a worker: links
    "sysfs": {"open", "readlink"},  # /sys/dev/block, /sys/fs/ext4
    "passive.command_file": {"open", "open_without_symlinks"},  # the FIFO
    "passive.nsca": {"access", "lstat", "open", "readlink"},  # send_nsca
    "passive.web": {"access", "open"},  # certificates
    "diagnosis": {"open"},  # /proc/PID/stack, /proc/self/mountstats
}


def _path(module: str) -> Path:
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text())


def _imports(module: str) -> tuple[set[str], set[str]]:
    """Modules of the package, and top-level names of all others. A package's own choice among its
    modules is not told."""
    own, foreign = set(), set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "check_mounts":
            own |= {alias.name if _path(alias.name).exists() else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == f"check_mounts.{module}":
            continue
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("check_mounts."):
            name = str(node.module).partition(".")[2]
            below = {f"{name}.{alias.name}" for alias in node.names if _path(f"{name}.{alias.name}").exists()}
            own |= below | ({name} if len(below) < len(node.names) or not below else set())
        elif isinstance(node, ast.ImportFrom):
            foreign.add(str(node.module).split(".")[0])
    return own, foreign


def test_every_module_has_its_place() -> None:
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert {name.removesuffix(".__init__") for name in files} == set(ALLOWED)


@pytest.mark.parametrize("module", ALLOWED)
def test_imports(module: str) -> None:
    own, _ = _imports(module)
    assert own <= ALLOWED[module]
    order = list(ALLOWED)
    assert all(order.index(name) < order.index(module) for name in own), "arrows point up the list only"


@pytest.mark.parametrize("module", ALLOWED)
def test_nagiosplugin_is_imported_in_one_place(module: str) -> None:
    assert ("nagiosplugin" in _imports(module)[1]) == (module == "plugin")


@pytest.mark.parametrize("module", ALLOWED)
def test_no_subprocess_thread_or_library_that_stats(module: str) -> None:
    assert not _imports(module)[1] & {
        "subprocess",
        "multiprocessing",
        "threading",
        "asyncio",
        "psutil",
        "shutil",
        "pathlib",
        "glob",
    }


@pytest.mark.parametrize("module", ALLOWED)
def test_path_calls(module: str) -> None:
    used = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in PATH_CALLS:
                used.add(name)
    assert used <= PATH_USERS.get(module, set())


@pytest.mark.parametrize("module", [name for name in ALLOWED if name != "__init__"])
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(_tree(module))
