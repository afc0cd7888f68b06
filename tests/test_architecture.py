"""The architecture as a test: who imports whom, and who may name a path."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "check_mounts"

# Calls that take a path. Only probe.py may use them on a mount; the others need them for what is
# named here.
PATH_CALLS = {
    "open", "stat", "lstat", "statvfs", "access", "listdir", "scandir", "readlink", "realpath", "ismount", "exists",
    "isdir",
    "isfile", "islink", "lexists", "chdir", "mkdir", "unlink", "rename", "truncate", "walk", "glob", "getsize",
    "openat2",
    "open_without_symlinks", "abspath",
}  # fmt: skip
PATH_USERS = {
    "__main__": {"open"},  # /dev/null
    "mounttable": {"open"},  # the mount table, fstab, units
    "syscalls": {"listdir", "open", "scandir"},  # /proc/self; read_entries itself
    "processes": {"open", "stat"},  # /proc/self, /proc/PID/stat
    "walk": {"open", "openat2"},  # open_without_symlinks itself, /proc/self
    "crew": {"open"},  # /dev/null
    "forked": {"chdir"},  # /
    "directories": {
        "open",
        "open_without_symlinks",
        "stat",
        "mkdir",
        "unlink",
    },  # the state directory, that of the result
    "stuck": {"open", "listdir", "unlink", "truncate"},  # the state directory
    "promises": {"open", "listdir", "stat", "unlink"},  # the state directory
    "sandbox": {"readlink"},  # /proc/PID/ns/mnt
    "caught": {"listdir", "open", "unlink"},  # the entries of runs
    "trial": {"open"},  # /dev/null
    "watcher": {"chdir"},  # /
    "cache": {"open"},  # the result
    "replacing": {"open", "rename", "unlink", "listdir"},  # the result, the metrics
    "watch": {"open"},  # the mount table
    "serve": {"chdir"},  # /
    "reload": {"stat"},  # in a worker: fstab
    "detach": {"listdir", "open"},  # /proc/self/fd, /dev/null
    "home": {"open_without_symlinks"},  # the directories of the result and of the metrics
    "logs": {"open", "chdir"},  # /dev/null, /
    "run": {"chdir"},  # /
    "probe": {"open", "open_without_symlinks"},
    "writeprobe": {"open", "unlink"},
    "trusted_file": {"open"},  # the configuration, the file of --extra-opts
    "extra_opts": {"access"},  # the places where that may be
    "units": {"listdir", "readlink"},  # units
    "devices": {"listdir", "open", "readlink"},  # in a worker: names below /dev
    "lookups": {"open", "readlink"},  # in a worker: links
    "sysfs": {"open", "readlink"},  # /sys/dev/block, /sys/fs/ext4
    "passive.command_file": {"open", "open_without_symlinks"},  # the FIFO
    "passive.nsca": {"access", "lstat", "open", "readlink"},  # send_nsca
    "passive.web": {"access", "open"},  # certificates
    "kernelstack": {"open"},  # /proc/PID/stack
    "mountstats": {"open"},  # /proc/self/mountstats
}


def _path(module: str) -> Path:
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text())


@functools.cache
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


def _all_below(module: str, seen: tuple[str, ...] = ()) -> set[str]:
    assert module not in seen, f"a circle: {' -> '.join((*seen, module))}"
    own = _imports(module)[0]
    return own.union(*(_all_below(name, (*seen, module)) for name in own))


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    assert module not in _all_below(module)


@pytest.mark.parametrize("module", MODULES)
def test_nagiosplugin_is_imported_in_one_place(module: str) -> None:
    assert ("nagiosplugin" in _imports(module)[1]) == (module == "plugin")


@pytest.mark.parametrize("module", MODULES)
def test_prometheus_client_is_imported_in_one_place(module: str) -> None:
    assert ("prometheus_client" in _imports(module)[1]) == (module == "metrics")


@pytest.mark.parametrize("module", MODULES)
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


@pytest.mark.parametrize("module", MODULES)
def test_path_calls(module: str) -> None:
    used = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in PATH_CALLS:
                used.add(name)
    assert used <= PATH_USERS.get(module, set())


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(_tree(module))
