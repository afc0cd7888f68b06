"""OK needs a success, and dead needs a proof: what servers and kernels may answer, and what it
means. All mounts are real."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from check_mounts import filesystems
from check_mounts.model import Condition, Mount
from check_mounts.outcome import Outcome, Usage
from check_mounts.probing import conditions, writeprobe
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result, until

pytestmark = pytest.mark.root

MS_STRICTATIME = 1 << 24
_OWNER = 1000


def _outcome(result: Result) -> dict[str, Any]:
    (finding,) = json.loads(result.stdout)["findings"]
    outcome: dict[str, Any] = finding["outcome"]
    return {**outcome, "condition": finding["condition"], "text": finding["text"], "remarks": finding["remarks"]}


# -- OK needs a success


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("arguments", [(), ("--write",), ("--as", "self"), ("--as", "1000")])
def test_where_nothing_succeeds_it_is_dead(fuse: Fuse, plugin: Plugin, number: int, arguments: tuple[str, ...]) -> None:
    path = fuse.mount("fs")
    fuse.command("fail", "fs", "all", str(number))
    result = plugin("-vvv", *arguments)
    assert result.code == 2, result.stdout
    assert result.verdict.endswith(f"dead: {os.strerror(number)} ({errno.errorcode[number]})")
    for step in ("statfs", "statx", "read"):
        (line,) = [line for line in result.lines if line.startswith(f"  {step}: ")]
        assert line.endswith(f", {os.strerror(number)} ({errno.errorcode[number]})")
    told = _outcome(plugin("--json", *arguments))
    assert [told["errnos"][step] for step in ("look-up", "statfs", "statx", "read")] == [None, number, number, number]
    assert plugin("-v", str(path), below=False).code == 2


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("operation", ["readdir", "opendir"])
def test_what_lives_and_cannot_be_listed_is_denied(fuse: Fuse, plugin: Plugin, number: int, operation: str) -> None:
    fuse.mount("fs")
    fuse.command("fail", "fs", operation, str(number))
    if (operation, number) == ("opendir", errno.ENOSYS):
        fuse.command("fail", "fs", "readdir", str(number))  # since Linux 5.1 that alone means that it needs no opening
    result = plugin()
    assert result.code == 1
    assert result.verdict.endswith(f"denied: {os.strerror(number)} ({errno.errorcode[number]}) at read")


@pytest.mark.parametrize("failing", [("statfs",), ("getattr",), ("statfs", "getattr")])
def test_one_success_is_enough(fuse: Fuse, plugin: Plugin, failing: tuple[str, ...]) -> None:
    fuse.mount("fs")
    for operation in failing:
        fuse.command("fail", "fs", operation, str(errno.EINVAL))
    result = plugin("--json")
    told = _outcome(result)
    assert (told["condition"], told["failed_step"]) == ("ok", None)
    names = {"statfs": "statfs", "getattr": "statx"}
    assert {step for step, number in told["errnos"].items() if number == errno.EINVAL} == {
        names[each] for each in failing
    }


def test_errors_before_it_hung_are_told(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("fs")
    fuse.command("fail", "fs", "statfs", str(errno.EINVAL))
    fuse.command("hang-at", "fs", "getattr")
    result = plugin("-t", "0.5", "-vvv")
    assert result.code == 2
    assert any(
        line.startswith("  statfs: ") and line.endswith(" s, Invalid argument (EINVAL)") for line in result.lines
    )
    assert "  statx: no answer" in result.lines


@pytest.mark.parametrize("failing", ["readdir", "getattr"])
def test_zeroes_for_who_is_not_its_user_are_the_kernels(fuse: Fuse, plugin: Plugin, failing: str) -> None:
    """fstatfs succeeds, though its daemon has not been asked."""
    fuse.mount("fs", user_id=_OWNER, group_id=_OWNER, uid=_OWNER, gid=_OWNER, allow_other=0)
    fuse.command("fail", "fs", failing, str(errno.EINVAL))
    told = _outcome(plugin("--user-mounts", "--as", "self", "--json"))
    assert told["errnos"]["statfs"] is None and not any(told["usage"].values())
    assert told["condition"] == "denied"
    assert fuse.command("asked", "fs").split() == ["init"]
    fuse.command("fail", "fs", "all", str(errno.EINVAL))
    assert plugin("--user-mounts").code == 2  # as its user


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ESTALE])
def test_a_listing_that_the_kernel_keeps_is_no_answer(fuse: Fuse, plugin: Plugin, number: int) -> None:
    """A daemon that needs no opening of directories is not asked for a listing twice."""
    path = fuse.mount("fs")
    fuse.command("entries", "fs", f"7:8:{b'a'.hex()}")
    fuse.command("fail", "fs", "opendir", str(errno.ENOSYS))
    assert os.listdir(path) == os.listdir(path) == ["a"]
    assert fuse.command("asked", "fs").split().count("readdir") == 2  # its entry, and that there are no more
    result = plugin("-vvv")
    assert result.code == 0
    assert fuse.command("asked", "fs").split().count("readdir") == 3
    fuse.command("fail", "fs", "readdir", str(number))
    assert plugin().code == (1 if number == errno.EINVAL else 2)
    fuse.command("fail", "fs", "all", str(number))
    assert plugin().verdict.endswith(f"dead: {os.strerror(number)} ({errno.errorcode[number]})")


@pytest.mark.parametrize("failing", [("statfs",), ("statfs", "getattr")])
def test_files_as_mount_points_need_a_success_as_well(
    fuse: Fuse, mounts: Mounts, plugin: Plugin, failing: tuple[str, ...]
) -> None:
    source = fuse.mount("fs")
    (source / "file").touch()
    target = mounts.point("bound") / "file"
    target.touch()
    mounts.mount_at(target, "none", str(source / "file"), flags=4096)
    for operation in failing:
        fuse.command("fail", "fs", operation, str(errno.EINVAL))
    result = plugin("-x", str(source), "-v")
    assert result.code == (0 if len(failing) == 1 else 2), result.stdout


def test_unprivileged_callers_need_one_as_well(fuse: Fuse, mounts: Mounts, public: Path) -> None:
    name = str(public / "fs")
    path = fuse.mount(name, uid=_OWNER, mode="700")
    command = [
        "setpriv",
        "--reuid=1001",
        "--regid=1001",
        "--clear-groups",
        "/usr/bin/python3",
        "-m",
        "check_mounts",
        str(path),
    ]

    def code() -> int:
        return subprocess.run(
            command, cwd=public, env={"PYTHONPATH": str(public), "PATH": os.environ["PATH"]}, check=False
        ).returncode

    fuse.command("fail", name, "opendir", str(errno.EACCES))
    assert code() == 0  # it has answered, and the owner could not be asked
    for operation in ("statfs", "getattr"):
        fuse.command("fail", name, operation, str(errno.EINVAL))
    assert code() == 1
    fuse.command("fail", name, "opendir", str(errno.EINVAL))
    assert code() == 2
    mounts.detach(path)


def _mount(fs_type: bytes, *super_options: bytes) -> Mount:
    return Mount(1, 0, (0, 1), b"/", b"/m", (b"rw",), (), fs_type, b"src", super_options)


def _seen(
    read: Optional[int] = None, statx: Optional[int] = None, statfs: Optional[int] = None, **more: Any
) -> Outcome:
    """All four steps taken, with these errors."""
    errnos = (None, statfs, statx, read, None, None, None, None)
    usage = None if statfs else Usage(4096, 0, 0, 0, 0)
    mode = None if statx else 0o040755
    return Outcome(
        **{"seconds": (0.1,) * 4 + (None,) * 4, "errnos": errnos, "usage": usage, "mode": mode, "nlink": 2, **more}
    )


_EINVAL, _EACCES = errno.EINVAL, errno.EACCES


@pytest.mark.parametrize(
    ("fs_type", "outcome", "condition"),
    [
        (b"nfs4", _seen(), Condition.OK),
        (b"9p", _seen(read=_EINVAL, statx=_EINVAL), Condition.DEAD),  # simple_statfs
        (b"cifs", _seen(read=_EINVAL, statx=_EINVAL), Condition.DEAD),
        (b"coda", _seen(read=errno.EOPNOTSUPP, statx=_EINVAL), Condition.DEAD),
        (b"nfs4", _seen(read=_EINVAL, statx=_EINVAL), Condition.DENIED),
        (b"ext4", _seen(read=524, statx=524, statfs=524), Condition.DEAD),
        (b"fuse.x", _seen(read=_EINVAL, statfs=_EINVAL, cached=True), Condition.DEAD),  # fstat, from the cache
        (b"ext4", _seen(read=_EINVAL, statfs=_EINVAL, cached=True), Condition.DENIED),
        (b"fuse.x", _seen(read=_EINVAL, statfs=_EINVAL), Condition.DENIED),
        (b"fuse.x", _seen(read=_EINVAL, statx=_EINVAL, usage=Usage(0, 0, 0, 0, 0)), Condition.DEAD),
        (b"fuse.x", _seen(read=_EACCES, statx=_EINVAL, statfs=_EINVAL, not_owner=True), Condition.DENIED),
        (b"fuse.x", _seen(read=_EACCES, not_owner=True), Condition.OK),
        (b"fuse.x", _seen(read=_EINVAL, nlink=0), Condition.DENIED),
        (b"fuse.x", _seen(mode=0o100644, read=errno.ENOTDIR, statfs=_EINVAL), Condition.OK),
        (b"fuse.x", _seen(read=errno.ENOTDIR, statx=_EINVAL, statfs=_EINVAL), Condition.DEAD),
        (b"fuse.x", _seen(read=errno.ENOTDIR, statx=_EINVAL), Condition.DENIED),
        (b"9p", _seen(mode=0o100644, read=errno.ENOTDIR, cached=True), Condition.UNPROBED),
        (b"9p", _seen(mode=0o100644, read=errno.ENOTDIR), Condition.OK),
    ],
)
def test_signs_of_life(fs_type: bytes, outcome: Outcome, condition: Condition) -> None:
    assert conditions.classify(_mount(fs_type), outcome)[0] is condition


# -- dead needs a proof


@pytest.mark.parametrize(
    "attributes", [{"nlink": 0}, {"mode": "0"}, {"mode": "644", "uid": _OWNER}, {"nlink": 0, "mode": "4000"}]
)
def test_what_a_fuse_server_fills_in_proves_nothing(fuse: Fuse, plugin: Plugin, attributes: dict[str, object]) -> None:
    fuse.mount("fs", **attributes)
    result = plugin("-v")
    assert result.code == 0, result.stdout
    assert plugin("--as", "self").code == 0


def test_the_mode_counts_where_the_kernel_goes_by_it(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("fs", mode="0", default_permissions=1)
    assert "denied: mode 0000 does not allow access" in plugin().verdict


@pytest.mark.parametrize(
    ("fs_type", "outcome", "condition"),
    [
        *[
            (each, {"nlink": 0}, Condition.DEAD)
            for each in (b"nfs", b"nfs4", b"ext4", b"xfs", b"btrfs", b"tmpfs", b"overlay", b"zfs")
        ],
        *[
            (each, {"nlink": 0}, Condition.OK)
            for each in (b"9p", b"virtiofs", b"cifs", b"smb3", b"ceph", b"fuseblk", b"squashfs", b"novel")
        ],
        *[(each, {"mode": 0o040000}, Condition.DENIED) for each in (b"nfs4", b"ext4", b"vfat", b"iso9660", b"tmpfs")],
        *[
            (each, {"mode": 0o040000}, Condition.OK)
            for each in (b"9p", b"cifs", b"afs", b"fuse.sshfs", b"lustre", b"novel")
        ],
    ],
)
def test_which_attributes_prove_what(fs_type: bytes, outcome: dict[str, Any], condition: Condition) -> None:
    assert conditions.classify(_mount(fs_type), _seen(**outcome))[0] is condition


@pytest.mark.parametrize("fs_type", [b"ext2", b"ext4", b"xfs", b"9p", b"fuse.x", b"novel"])
def test_shutdown_is_an_option_of_few(fs_type: bytes) -> None:
    assert conditions.shut_down(_mount(fs_type, b"rw", b"shutdown")) == (fs_type in filesystems.types("shutdown"))


def test_a_removed_directory_is_dead_by_its_error_too(mounts: Mounts, plugin: Plugin) -> None:
    source = mounts.tmpfs("tmpfs") / "source"
    source.mkdir()
    bound = mounts.bind(source, "bound")
    source.rmdir()
    result = plugin("-vvv", "-p", str(bound), below=False)
    assert result.verdict.endswith("dead: its root directory was removed (nlink 0)")
    assert any(
        line.startswith("  read: ") and line.endswith("No such file or directory (ENOENT)") for line in result.lines
    )


def test_an_owner_that_is_not_mapped_is_our_trouble(mounts: Mounts, plugin: Plugin) -> None:
    """In a user namespace his id is shown as 65534, and to act as that one is to act as somebody
    else."""
    mounts.tmpfs("private", f"mode=0700,uid={_OWNER}")
    mounts.tmpfs("nobodys", "mode=0070,uid=65534")
    result = plugin("-vvv")
    assert result.code == 0, result.stdout
    assert any(line.endswith(", though its owner was refused, Permission denied (EACCES)") for line in result.lines)
    result = Result(plugin.start("-vv", wrapper=["unshare", "--user", "--map-root-user", "--"]))
    assert (result.code, result.count("ok")) == (0, 2), result.stdout


# Becomes the program that follows in a user namespace where uid and gid 0 are 1000 outside, and all
# others some of nobody's, as for `podman run` of that user.
_ROOTLESS = """
import ctypes, os, sys
here, there = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(here[1], b"x")
    os.read(there[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(here[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 1000 1\\n1 100000 65535")
os.write(there[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("arguments", [(), ("--write",), ("--as", "self")])
def test_the_user_of_a_fuse_mount_is_another_number_in_a_container(
    fuse: Fuse, mounts: Mounts, public: Path, arguments: tuple[str, ...]
) -> None:
    """The mount table names him as he is known outside. To act as who has that number here is to be
    refused what he is not."""
    paths = []
    for name, more in (("private", {"allow_other": 0}), ("shared", {"default_permissions": 1})):
        paths.append(public / name)
        paths[-1].mkdir()
        fuse.command("mount", name, str(paths[-1]), "user_id=1000", "group_id=1000", "uid=1000", "gid=1000", "mode=700",
                     *(f"{key}={value}" for key, value in more.items()))  # fmt: skip
        mounts.adopt(paths[-1])
    plugin = Plugin(public, public / "state")
    plugin.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(public), "XDG_RUNTIME_DIR": ""}
    start = plugin.start(
        *arguments, *map(str, paths), wrapper=[PYTHON, "-c", _ROOTLESS], below=False, state=False, cwd=public
    )
    result = Result(start)
    for path in paths:
        mounts.detach(path)
    assert (result.code, result.count("ok")) == (0, 2), result.stdout


class _Attributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    ]


@pytest.fixture
def idmapped(mounts: Mounts) -> Iterator[Callable[[Path, Path], None]]:
    """Binds a mount elsewhere, where uid and gid 1000 of its filesystem are 2000, and no other is
    mapped."""
    namespace = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
    own = os.readlink("/proc/self/ns/user")
    until(lambda: os.readlink(f"/proc/{namespace.pid}/ns/user") != own)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{namespace.pid}/{name}").write_text("1000 2000 1")
    libc = ctypes.CDLL(None, use_errno=True)
    clone, empty_path, idmap = 1, 0x1000, 0x100000

    def bind(source: Path, target: Path) -> None:
        tree = libc.syscall(428, -100, os.fsencode(source), clone)  # open_tree
        fd = os.open(f"/proc/{namespace.pid}/ns/user", os.O_RDONLY)
        attributes = _Attributes(set=idmap, userns=fd)
        if libc.syscall(442, tree, b"", empty_path, ctypes.byref(attributes), ctypes.sizeof(attributes)) != 0:
            pytest.skip("no idmapped mounts here")
        assert libc.syscall(429, tree, b"", -100, os.fsencode(target), 4) == 0  # move_mount, MOVE_MOUNT_F_EMPTY_PATH
        mounts.adopt(target)
        os.close(fd)
        os.close(tree)

    yield bind
    namespace.kill()
    namespace.wait()


@pytest.mark.parametrize(
    ("options", "arguments", "acted"),
    [
        ("mode=0700,uid=1000,gid=1000", (), 2000),
        ("mode=0700,uid=1000,gid=1000", ("--write",), 2000),
        ("mode=0700", (), None),  # shown as 65534, whom nobody can be; not even root gets in
        ("mode=0700", ("--write",), None),
        ("mode=0755", ("--write",), 65534),
        ("mode=0777,uid=1000,gid=1000", ("--write", "--as", "3000"), 3000),  # EOVERFLOW
    ],
)
def test_idmapped_mounts(
    mounts: Mounts,
    plugin: Plugin,
    idmapped: Callable[[Path, Path], None],
    options: str,
    arguments: tuple[str, ...],
    acted: Optional[int],
) -> None:
    source, target = mounts.tmpfs("source", options), mounts.point("target")
    idmapped(source, target)
    result = plugin("--json", "-x", str(source), *arguments)
    told = _outcome(result)
    assert (result.code, told["condition"]) == (0, "ok"), result.stdout
    assert acted is None or told["acted_as"] == acted
    assert told["errnos"]["create"] in (None, errno.EOVERFLOW, errno.EACCES)


@pytest.mark.parametrize("step", ["statfs", "getattr", "opendir", "readdir"])
def test_an_id_that_does_not_fit_is_not_the_end(fuse: Fuse, plugin: Plugin, step: str) -> None:
    fuse.mount("fs")
    fuse.command("fail", "fs", step, str(errno.EOVERFLOW))
    assert (plugin().code, "EOVERFLOW" in plugin().verdict) == (3, True)


# -- writing

_REMARKS = [
    errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST,
    errno.EMLINK,
    errno.EFBIG, errno.ETXTBSY, errno.EBUSY, errno.ENAMETOOLONG, errno.EOVERFLOW, errno.EAGAIN, errno.ENOTEMPTY,
    errno.EXDEV, errno.ENOLCK,
]  # fmt: skip


def _written(fuse: Fuse, plugin: Plugin, operation: str, *numbers: int) -> dict[int, dict[str, Any]]:
    """What is told of a filesystem for each errno, where that is what it answers to an operation of
    a write probe."""
    for number in numbers:
        fuse.mount(str(number))
        fuse.command("fail", str(number), operation, str(number))
        if operation == "create" and number == errno.ENOSYS:
            fuse.command("fail", str(number), "mknod", str(number))
    found = json.loads(plugin("--write", "--json").stdout)["findings"]
    return {int(os.path.basename(each["mount_point"])): {**each["outcome"], **each} for each in found}


@pytest.mark.parametrize("operation", ["create", "write", "read", "unlink"])
def test_errors_that_are_no_death(fuse: Fuse, plugin: Plugin, operation: str) -> None:
    step = {"read": "verify", "unlink": "remove"}.get(operation, operation)
    told = _written(fuse, plugin, operation, *_REMARKS)
    assert sorted(told) == sorted(set(_REMARKS))
    for number, each in told.items():
        assert (each["condition"], each["errnos"][step]) == ("ok", number)
        (remark,) = each["remarks"]
        assert remark.endswith(f"({errno.errorcode[number]}) at {step}")


@pytest.mark.parametrize("operation", ["create", "write", "fsync", "unlink"])
def test_errors_that_mean_what_they_say(fuse: Fuse, plugin: Plugin, operation: str) -> None:
    conditions_ = {
        **dict.fromkeys(
            (errno.EIO, errno.ENXIO, errno.EUCLEAN, errno.ENOTCONN, errno.ENODEV, errno.EBADMSG, errno.ETIMEDOUT),
            "dead",
        ),
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full"),
        errno.EROFS: "read-only",
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOKEY), "denied"),
        errno.ENOMEM: "unprobed",
    }
    told = _written(fuse, plugin, operation, *conditions_)
    assert {number: each["condition"] for number, each in told.items()} == conditions_


@pytest.mark.parametrize("operation", ["create", "write", "read", "unlink"])
def test_a_stale_handle_of_our_file_is_not_that_of_the_mount(fuse: Fuse, plugin: Plugin, operation: str) -> None:
    told = _written(fuse, plugin, operation, errno.ESTALE)[errno.ESTALE]
    assert told["condition"] == "ok"
    assert "Stale file handle" in told["remarks"][0]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EINVAL, errno.EACCES])
def test_a_stale_handle_is_death_unless_the_root_directory_answers(fuse: Fuse, plugin: Plugin, number: int) -> None:
    fuse.mount("fs")
    fuse.command("fail", "fs", "write", str(errno.ESTALE))
    fuse.command("fail-after", "fs", "write", "getattr", str(number))
    told = _outcome(plugin("--write", "--json"))
    assert (told["text"], told["failed_step"]) == ("dead: Stale file handle (ESTALE) at write", "write")


def test_an_fsync_that_is_not_offered_is_told(fuse: Fuse, plugin: Plugin) -> None:
    told = _written(fuse, plugin, "fsync", errno.EINVAL)[errno.EINVAL]
    assert (told["condition"], told["errnos"]["write"], told["failed_step"], told["remarks"]) == (
        "ok",
        errno.EINVAL,
        None,
        [],
    )


def test_what_is_read_back_of_roots_is_proof(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("fs")
    fuse.command("spoil", "fs")
    told = _outcome(plugin("--write", "--json"))
    assert told["text"] == "dead: the data read back differs from the data written"


@pytest.mark.parametrize("mode", ["666", "620", "777"])
def test_what_is_read_back_is_none_where_others_may_write(fuse: Fuse, plugin: Plugin, mode: str) -> None:
    """Whatever mode was asked for: so vfat, exfat, ntfs3 and cifs show their files."""
    fuse.mount("fs", file_mode=mode)
    fuse.command("spoil", "fs")
    told = _outcome(plugin("--write", "--json"))
    assert (told["condition"], len(told["remarks"])) == ("ok", 1)


def test_what_is_read_back_of_a_users_is_none(fuse: Fuse, plugin: Plugin) -> None:
    """He could have written to the file himself, and FUSE makes none without a name."""
    fuse.mount("fs", user_id=_OWNER, group_id=_OWNER, uid=_OWNER)
    fuse.command("spoil", "fs")
    told = _outcome(plugin("--write", "--user-mounts", "--json"))
    assert told["condition"] == "ok"
    assert told["remarks"] == ["the data read back differs from the data written: maybe its owner wrote to the file"]


class _Meddler:
    """Somebody who does something to each file of ours as soon as he sees it."""

    def __init__(self, path: Path, action: Any) -> None:
        self._path, self._action, self._over = path, action, threading.Event()
        self.done = 0
        self._thread = threading.Thread(target=self._meddle)

    def _meddle(self) -> None:
        while not self._over.is_set():
            for name in os.listdir(self._path):
                if name.startswith(writeprobe.PREFIX):
                    try:
                        self._action(self._path / name)
                        self.done += 1
                    except OSError:
                        pass

    def __enter__(self) -> _Meddler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _overwrite(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(b"x" * writeprobe.SIZE)


def _replace_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    "action", [os.unlink, _replace_by_a_directory, _overwrite, _replace_by_a_link, lambda path: os.truncate(path, 0)]
)
@pytest.mark.parametrize("options", [f"uid={_OWNER},mode=0777"])
def test_whoever_meddles_with_our_file_does_not_kill_the_mount(
    mounts: Mounts, plugin: Plugin, action: Any, options: str
) -> None:
    path = mounts.tmpfs("tmpfs", options)
    with _Meddler(path, action) as meddler:
        codes: list[int] = []
        until = time.monotonic() + 5
        while (len(codes) < 5 or meddler.done < 3) and time.monotonic() < until:
            codes.append(plugin("--write").code)
    assert set(codes) == {0}


def test_a_limit_of_file_sizes_is_our_callers(mounts: Mounts, plugin: Plugin) -> None:
    """SIGXFSZ does not end the worker; the registry itself is a file in memory that has its
    size."""
    mounts.tmpfs("tmpfs")
    assert plugin().code == 0
    result = Result(plugin.start("--write", "-vv", wrapper=["prlimit", "--fsize=2048:2048"], state=True))
    assert b"died" not in result.stdout and b"dead" not in result.verdict.encode(), result.stdout


def test_a_write_that_takes_nothing_is_no_endless_loop(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("fs")
    fuse.command("take-nothing", "fs")
    told = _outcome(plugin("--write", "--json", "-t", "5"))
    assert told["condition"] in ("dead", "full")


# -- looking leaves no traces


@pytest.fixture
def strict(mounts: Mounts, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    if request.param == "tmpfs":
        path = mounts.mount("strict", "tmpfs", flags=MS_STRICTATIME)
    else:
        image, path = tmp_path / "image", mounts.point("strict")
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run([f"mkfs.{request.param}", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop,strictatime", "-t", request.param, str(image), str(path)], check=True)
        mounts.adopt(path)
    yield path


@pytest.mark.parametrize("strict", ["tmpfs", "ext4"], indirect=True)
@pytest.mark.parametrize("uid", [0, _OWNER])
@pytest.mark.parametrize("arguments", [(), ("--write",), ("--as", "self")])
def test_the_access_time_is_not_moved(strict: Path, plugin: Plugin, uid: int, arguments: tuple[str, ...]) -> None:
    os.chown(strict, uid, uid)
    os.utime(strict, (1, 1))
    assert plugin(*arguments).code == 0
    assert strict.stat().st_atime == 1
    os.listdir(strict)
    assert strict.stat().st_atime != 1, "anybody else's look does move it"


@pytest.mark.parametrize("strict", ["tmpfs"], indirect=True)
def test_who_may_not_leave_no_traces_is_not_refused(strict: Path, plugin: Plugin) -> None:
    result = plugin("--as", "1001", "-vvv")
    assert result.code == 0
    assert any(line.startswith("  read: ") and line.endswith(", as uid 1001") for line in result.lines)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_a_server_that_knows_no_o_noatime(fuse: Fuse, plugin: Plugin, number: int) -> None:
    fuse.mount("fs")
    fuse.command("refuse-noatime", "fs", str(number))
    told = _outcome(plugin("--json"))
    assert (told["condition"], told["errnos"]["read"]) == ("ok", None)
