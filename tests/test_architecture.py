"""The architecture as a test: who imports whom, what a room gives away, and who may name a path."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import DOCUMENT, ORDER, foreign, gifts, modules, room_of, rooms, tree_of, uses, written

MODULES = modules()

# Calls that take a path. Only probing.probe and probing.writeprobe may use them on a mount; the
# others need them for what is named here.
PATH_CALLS = {
    "open", "stat", "lstat", "statvfs", "access", "listdir", "scandir", "readlink", "realpath", "ismount", "exists",
    "isdir",
    "isfile", "islink", "lexists", "chdir", "mkdir", "unlink", "rename", "truncate", "walk", "glob", "getsize",
    "openat2",
    "open_without_symlinks", "abspath", "opener", "_opener",
}  # fmt: skip
PATH_USERS = {
    "__main__": {"exists", "open"},  # the directories of site, which may hang as an import may; /dev/null
    "tablelines": {"opener"},  # the mount table, fstab, units
    "system.syscalls": {"listdir", "open", "scandir"},  # /proc/self; read_entries itself
    "system.processes": {"open", "stat"},  # /proc/self, /proc/PID/stat
    "declared.units": {"_opener", "listdir", "readlink"},  # the units of systemd, as a run is watched
    "system.procroot": {"open", "openat2", "readlink"},  # /proc/PID; files of the host with --namespace
    "system.walk": {"open", "openat2"},  # open_without_symlinks itself, /proc/self
    "system.nest": {"open"},  # /dev/null
    "system.starters": {"open"},  # /dev/null
    "system.forked": {"chdir"},  # /
    "system.directories": {
        "open",
        "open_without_symlinks",
        "access",
        "stat",
        "mkdir",
        "unlink",
    },  # the state directory, that of the result
    "probing.lines": {"open", "listdir"},  # the state directory
    "probing.stuck": {"open", "listdir", "unlink", "truncate"},  # the state directory
    "probing.promises": {"open", "listdir", "stat", "unlink"},  # the state directory
    "probing.owners": {"open"},  # /proc/sys
    "checks.sandbox": {"readlink"},  # /proc/PID/ns/mnt
    "checks.aftermath": {"open_without_symlinks", "scandir"},  # in a worker: the place of a missing mount
    "checks.kernellog": {"open"},  # in a worker: /dev/kmsg
    "checks.unitstates": {"access"},  # in a worker: systemctl, /run/systemd/system
    "guard.caught": {"listdir", "open", "unlink"},  # the entries of runs
    "guard.loading": {"open", "stat"},  # our own modules, as an import does
    "guard.trial": {"open"},  # /dev/null
    "guard.watcher": {"chdir"},  # /
    "guard.progress": {"open"},  # /dev/tty, which never blocks
    "cache": {"open"},  # the result
    "unreadable": {"open"},  # its directory, which was opened before
    "system.replacing": {"open", "rename", "unlink", "listdir"},  # the result, the metrics
    "daemon.watch": {"open"},  # the mount table
    "daemon.serve": {"chdir"},  # /
    "daemon.drill_file": {"open", "stat"},  # in the directory of the result
    "daemon.reload": {"opener"},  # in a worker: fstab
    "incidents.files": {"open", "rename"},  # in a worker, or watched: the incidents; beside the result
    "daemon.detach": {"listdir", "open"},  # /proc/self/fd, /dev/null
    "daemon.home": {"access", "open_without_symlinks"},  # the directories of the result and of the metrics
    "system.logs": {"open", "chdir"},  # /dev/null, /
    "run": {"chdir"},  # /
    "users": {"chdir"},  # /
    "drill_order": {"chdir", "open"},  # /, /proc/PID/status
    "check_config": {"access", "isdir", "stat"},  # files of the configuration's destinations, programs
    "probing.serving": {"open"},  # /proc
    "probing.sysfs": {"listdir", "open", "readlink", "scandir"},  # /sys, which waits for no device
    "probing.probe": {"open", "open_without_symlinks"},
    "probing.straight": {"open", "openat2"},  # and /proc/self/fdinfo
    "probing.writeprobe": {"open", "unlink"},
    "probing.canaryprobe": {"open", "openat2", "scandir"},  # in a worker
    "probing.through": {"open"},  # in a worker: /proc/PID/uid_map
    "options.trusted_file": {"opener"},  # the configuration, the file of --extra-opts
    "options.extra_opts": {"access"},  # the places where that may be
    "spaces.seeing": {"scandir", "stat"},  # /proc/PID: files that take no lock of the process
    "spaces.tables": {"open"},  # /proc/PID/mountinfo
    "using.look": {"open"},  # /dev/null
    "using.namespaces": {"readlink"},  # in a worker, as all that is of /proc/PID: ns/mnt, root
    "using.procfs": {"listdir", "open", "readlink"},
    "using.seeker": {"isdir", "listdir", "open", "readlink", "stat"},  # in a worker: /sys, /proc/PID, and its links
    "using.tables": {"listdir", "open", "readlink"},  # in a worker: /proc/PID, bind mounts of namespaces
    "using.sight": {"readlink", "stat"},  # /proc/self/ns/pid, /proc/1/stat
    "using.walk": {"listdir", "readlink"},
    "naming.devices": {"listdir", "open", "open_without_symlinks", "readlink"},  # in a worker: names below /dev
    "naming.lookups": {"open", "readlink"},  # in a worker: links
    "passive.command_file": {"open", "open_without_symlinks"},  # the FIFO
    "passive.nsca": {"access"},  # send_nsca
    "system.programs": {"lstat", "open", "readlink"},  # in a worker: send_nsca, the program of --on-change
    "passive.web": {"open"},  # certificates
    "probing.kernelstack": {"open"},  # /proc/PID/stack
    "probing.mountstats": {"open"},  # /proc/self/mountstats
    "probing.smbstats": {"open"},  # /proc/fs/cifs/Stats
}


def test_every_module_has_its_place() -> None:
    assert {room_of(module) for module in MODULES} == set(ORDER)


def test_the_document_shows_the_package_as_it_is() -> None:
    """Each import and each name that is given away, no more and no less."""
    document = DOCUMENT.read_text()
    assert written(document) == document, ".venv/bin/python -m tests.architecture writes it anew: read the diff"


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    order, own = rooms(), room_of(module)
    others = {room_of(used) for used in uses(module)} - {own}
    assert not [room for room in others if order.index(room) <= order.index(own)]


def _all_below(module: str, seen: tuple[str, ...] = ()) -> None:
    assert module not in seen, f"a circle: {' -> '.join((*seen, module))}"
    for name in uses(module):
        _all_below(name, (*seen, module))


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES}))
def test_no_circle_in_a_room(room: str) -> None:
    for module in MODULES:
        if room_of(module) == room:
            inside = {name for name in uses(module) if room_of(name) == room}
            assert module not in inside
            _all_below(module)


@pytest.mark.parametrize("room", ORDER)
def test_no_private_name_leaves_a_room(room: str) -> None:
    given = gifts().get(room, {})
    assert not [name for names in given.values() for name in names if name.startswith("_") and not name.endswith("__")]


@pytest.mark.parametrize(
    ("library", "only"), [("nagiosplugin", "report.library"), ("prometheus_client", "report.metrics")]
)
def test_a_library_is_imported_in_one_place(library: str, only: str) -> None:
    assert [module for module in MODULES if library in foreign(module)] == [only]


@pytest.mark.parametrize("module", MODULES)
def test_no_subprocess_thread_or_library_that_stats(module: str) -> None:
    assert not foreign(module) & {
        "subprocess", "multiprocessing", "threading", "asyncio", "psutil", "shutil", "pathlib", "glob",
    }  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_path_calls(module: str) -> None:
    used = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in PATH_CALLS:
                used.add(name)
    assert used == PATH_USERS.get(module, set()), (
        f"{module} makes other calls than its row in PATH_USERS has. If no path of a new call can be on a mount that "
        "hangs, or a worker makes it, change the row and say what the path is"
    )


def test_path_users_are_modules() -> None:
    assert set(PATH_USERS) <= set(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree_of(module))
