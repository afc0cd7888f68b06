"""A canary: a file that must be in a filesystem, what it holds; and a filesystem that must not be
empty."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts.options import values
from check_mounts.probing import requests
from tests.conftest import Fuse, Mounts, Plugin, remaining, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def _config(tmp_path: Path, words: str, glob: str = "*") -> tuple[str, str]:
    path = tmp_path / "canary.conf"
    path.write_text(f'[mount "{glob}"]\n{words}\n')
    path.chmod(0o600)
    return "--config", str(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path / ".canary")


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: (path / ".canary").write_text("x"), 0, ""),
        (lambda path: (path / ".canary").write_bytes(b""), 0, ""),
        (lambda path: (path / ".canary").write_bytes(b"x" * 1000000), 0, ""),
        (lambda path: None, 1, "changed: wrong content: .canary is not there"),
        (lambda path: (path / ".canary").mkdir(), 1, "wrong content: .canary is no regular file"),
        (_pipe, 1, "wrong content: .canary is no regular file"),
        (lambda path: os.mknod(path / ".canary", 0o600 | 0o020000, os.makedev(1, 3)), 1, ".canary is no regular file"),
        (lambda path: (path / ".canary").symlink_to("/etc/passwd"), 1, ".canary is a symbolic link, or one leads"),
    ],
)  # fmt: skip
def test_what_is_there(mounts: Mounts, plugin: Plugin, make: Callable[[Path], object], code: int, words: str) -> None:
    path = mounts.tmpfs("home")
    make(path)
    result = plugin("-v", "--canary", f"{path}=.canary")
    assert result.code == code and words in result.lines[0], result.lines


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        ("canary = a/b\ncontains = volume 7", b"this is volume 7\n", 0),
        ("canary = a/b\ncontains = volume 8", b"this is volume 7\n", 1),
        ("canary = a/b\ncontains = x", b"y" * 4096 + b"x", 1),
        ("canary = a/b\ncontains = x", b"y" * 4095 + b"x", 0),
        ("canary = a/b\nnot-empty = yes", b"", 0),
        ("canary = a/c", b"", 1),
    ],
)
def test_what_it_holds(mounts: Mounts, plugin: Plugin, tmp_path: Path, words: str, content: bytes, code: int) -> None:
    path = mounts.tmpfs("home")
    (path / "a").mkdir()
    (path / "a/b").write_bytes(content)
    result = plugin("-vvv", *_config(tmp_path, words, str(path)))
    assert result.code == code, result.lines
    assert any("rule: canary = a/" in line for line in result.lines)


def test_a_section_says_what_the_file_of_the_option_holds(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.tmpfs("home")
    (path / ".canary").write_text("volume 7")
    for contains, code in (("volume 7", 0), ("volume 8", 1)):
        words = _config(tmp_path, f"contains = {contains}", str(path))
        result = plugin("-vvv", *words, "--canary", f"{path}=.canary")
        assert result.code == code, result.lines
        assert any("rule: canary = .canary (command line)" in line for line in result.lines)


@pytest.mark.parametrize("glob", ["/", "/*"])
def test_contains_without_a_file_is_refused(plugin: Plugin, tmp_path: Path, glob: str) -> None:
    result = plugin(*_config(tmp_path, "contains = x", glob), below=False)
    assert result.code == 3
    assert "canary.conf line 2: contains: no canary names the file that should hold it" in result.lines[0]


@pytest.mark.parametrize(("names", "code"), [((), 1), (("lost+found", ".snapshot"), 1), (("x",), 0)])
def test_not_empty(mounts: Mounts, plugin: Plugin, tmp_path: Path, names: tuple[str, ...], code: int) -> None:
    path = mounts.tmpfs("home")
    for name in names:
        (path / name).mkdir()
    result = plugin(*_config(tmp_path, "not-empty = yes", str(path)))
    assert result.code == code
    assert ("changed: wrong content: its root directory is empty" in result.lines[0]) is bool(code)


def test_another_mount_is_not_entered(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    path = mounts.tmpfs("home")
    (path / "below").mkdir()
    fuse.command("mount", "below", str(path / "below"))
    mounts.adopt(path / "below")
    fuse.command("hang", "below")
    result = plugin("-t", "1", "-p", str(path), "--canary", f"{path}=below/x", below=False)
    assert "below/x is on another mount" in result.lines[0]


def test_the_owner_looks(mounts: Mounts, plugin: Plugin) -> None:
    path = mounts.tmpfs("home", "uid=1000,mode=0755")
    (path / ".canary").write_text("x")
    (path / ".canary").chmod(0o600)
    result = plugin("--canary", f"{path}=.canary")
    assert result.code == 1 and "denied: Permission denied (EACCES) at its canary .canary" in result.lines[0]
    os.chown(path / ".canary", 1000, 1000)
    assert plugin("--canary", f"{path}=.canary").code == 0


def test_one_process_hangs_however_often(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    """The look-up of the name hangs after the mount has answered: ten runs, and bind mounts of one
    filesystem, leave one process."""
    path = fuse.mount("home", source="filer1:/home")
    mounts.bind(path, "bind")
    fuse.command("hang-lookup", "home")
    for _ in range(10):
        result = plugin("-v", "-t", "0.5", "--canary", "*=.canary")
        assert result.code == 2 and "timed out" in result.lines[0], result.lines
    remaining(1)
    fuse.command("answer", "home")
    until(lambda: plugin("-t", "0.5", "--canary", "*=.canary").code == 1)
    remaining(0)


def test_a_mount_that_has_failed_is_not_looked_at(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("home", source="filer1:/home")
    fuse.command("error", "home", str(errno.ESTALE))
    result = plugin("-t", "1", "--canary", f"{path}=.canary")
    assert "dead: Stale file handle (ESTALE)" in result.lines[0] and "canary" not in result.lines[0]
    file = mounts.tmpfs("other") / "file"
    file.write_text("x")
    assert plugin("--canary", "/no/such=.canary", "-p", str(file.parent), below=False).code == 0


def test_a_daemon_looks_in_each_pass(mounts: Mounts, daemon: Daemon) -> None:
    path = mounts.tmpfs("home")
    (path / ".canary").write_text("x")
    daemon.start("--canary", f"{path}=.canary")
    assert daemon.cached().code == 0
    (path / ".canary").unlink()
    result = daemon.until(lambda result: result.code == 1)
    assert "changed: wrong content: .canary is not there" in result.lines[0]
    (path / ".canary").write_text("x")
    daemon.until(lambda result: result.code == 0)


@pytest.mark.parametrize("word", ["/x", "*=/etc/passwd", "*=..", "*=a/../b", "*=", "*=a/", "*=" + "a" * 2000])
def test_wrong_words(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.canary(word)


def test_a_request_is_what_was_meant() -> None:
    canary = requests.Canary(b"a/b", b"\xff=x", True)
    for ids in (None, (5, 6)):
        request = requests.Request(7, b"/x", as_owner=True, owner=ids, canary=canary)
        found, known, writes = requests.decoded(requests.encoded(request, (1, 2), b"nfs4"))
        assert (found, known.device, writes) == (request, (1, 2), False)
