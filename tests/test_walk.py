"""A path without symbolic links, where the kernel cannot see to that by itself (no openat2):
component by component."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.system import syscalls, walk
from tests.conftest import Fuse, Mounts, Plugin

FLAGS = [
    os.O_PATH | os.O_NOFOLLOW,
    os.O_PATH | os.O_DIRECTORY,
    os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW,
    os.O_PATH,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_NONBLOCK,
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    base = tmp_path_factory.mktemp("tree")
    (base / "a/b/c").mkdir(parents=True)
    (base / "a/file").write_text("x")
    (base / "a/link").symlink_to("b")
    (base / "a/out").symlink_to("/")
    (base / "a/round").symlink_to("round")
    (base / "a/nowhere").symlink_to("nothing")
    (base / "a/tofile").symlink_to("file")
    (base / ("n" * 255)).mkdir()
    yield os.fsencode(base)


def _opened(way: object, path: bytes, flags: int) -> Union[str, tuple[int, int, int, int]]:
    """What a descriptor refers to, and how; or the error."""
    try:
        fd = way(path, flags | os.O_CLOEXEC)  # type: ignore[operator]
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    status = os.fstat(fd)
    assert not os.get_inheritable(fd)
    mode = int(
        next(
            line for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines() if line.startswith("flags")
        ).split()[1],
        8,
    )
    os.close(fd)
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode), mode & os.O_PATH


def _kernel(path: bytes, flags: int) -> int:
    return syscalls.openat2(syscalls.AT_FDCWD, path, flags, syscalls.RESOLVE_NO_SYMLINKS)


parts = st.sampled_from(
    [
        b"a",
        b"b",
        b"c",
        b"file",
        b"link",
        b"out",
        b"round",
        b"nowhere",
        b"tofile",
        b"nothing",
        b".",
        b"..",
        b"",
        b"n" * 255,
    ]
)
ends = st.sampled_from([b"", b"", b"/", b"/.", b"//"])


@given(st.lists(parts, max_size=6), ends, st.sampled_from(FLAGS))
def test_as_the_kernel_does_it(tree: bytes, names: list[bytes], end: bytes, flags: int) -> None:
    path = b"/".join([tree, *names]) + end
    assert _opened(walk.open_step_by_step, path, flags) == _opened(_kernel, path, flags)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"//",
        b"/.",
        b"/..",
        b"/../..",
        b"/proc/self",
        b"/proc/self/root",
        b"/proc/self/root/",
        b"/proc/self/fd/0",
        b"/dev/null/",
        b"/dev/null/..",
    ],
)
def test_odd_paths(path: bytes, flags: int) -> None:
    assert _opened(walk.open_step_by_step, path, flags) == _opened(_kernel, path, flags)


@pytest.mark.parametrize("length", [4095, 4096, 5000, 1 << 20])
def test_long_paths(tree: bytes, length: int) -> None:
    path = tree + b"/a/.." * 2000
    path = path[: length - 1].rstrip(b"/.a") + b"/a" if length > 5000 else (tree + b"/./" * 2000)[:length]
    assert _opened(walk.open_step_by_step, path, os.O_PATH) == _opened(_kernel, path, os.O_PATH)


def test_deep_paths(tree: bytes) -> None:
    deep = tree
    while len(deep) < 4000:
        deep += b"/" + b"d" * 20
        os.mkdir(deep)
    before = len(os.listdir("/proc/self/fd"))
    assert _opened(walk.open_step_by_step, deep, os.O_PATH | os.O_NOFOLLOW) == _opened(
        _kernel, deep, os.O_PATH | os.O_NOFOLLOW
    )
    assert _opened(walk.open_step_by_step, deep + b"/x", os.O_PATH) == "ENOENT"
    assert len(os.listdir("/proc/self/fd")) == before
    while deep != tree:
        os.rmdir(deep)
        deep = os.path.dirname(deep)


def test_what_takes_its_place(tree: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> int:
        raise syscalls.NoSuchCall(errno.ENOSYS, os.strerror(errno.ENOSYS))

    usual = _opened(_kernel, tree + b"/a/b/c", os.O_PATH)
    monkeypatch.setattr(syscalls, "openat2", fails)
    assert _opened(walk.open_without_symlinks, tree + b"/a/link/c", os.O_PATH) == "ELOOP"
    assert _opened(walk.open_without_symlinks, tree + b"/a/b/c", os.O_PATH) == usual


def test_no_file_is_made(tree: bytes) -> None:
    with pytest.raises(AssertionError, match="no mode"):
        walk.open_without_symlinks(tree + b"/new", os.O_WRONLY | os.O_CREAT)
    assert not os.path.lexists(tree + b"/new")


@pytest.mark.root
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_a_check_without_openat2(mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path, error: str) -> None:
    """Neither root's state directory nor its probes are led anywhere by a link."""
    for name in ("deep/er/fs", "plain"):
        mounts.tmpfs(name)
    trap = fuse.mount("trap", user_id=1000)
    path = mounts.tmpfs("dir/fs")
    table = tmp_path / "table"
    table.write_bytes(Path("/proc/self/mountinfo").read_bytes())
    mounts.detach(path)
    path.rmdir()
    path.parent.rmdir()
    path.parent.symlink_to(trap)
    fuse.command("hang", "trap")
    wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "trace"),
        "-e",
        "trace=openat2",
        "-e",
        f"inject=openat2:error={error}",
    ]
    result = plugin("--mountinfo", str(table), "-vv", "-t", "2", wrapper=wrapper)
    assert (result.code, result.count("ok"), result.count("unprobed")) == (3, 2, 1), result.stdout
    assert error in (tmp_path / "trace").read_text()

    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    plugin.state_dir = tmp_path / "linked" / "state"
    result = plugin("-v", "-p", f"{plugin.base}/plain", below=False, wrapper=wrapper)
    assert any(
        "stuck probes are not remembered" in line and "a symbolic link leads to it" in line for line in result.lines
    )
    assert list((tmp_path / "elsewhere").iterdir()) == []
