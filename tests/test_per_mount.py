"""``--per-mount=SPEC`` and ``per-mount`` of a section: which mounts have a result of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from check_mounts.model import Condition, ExpectedMount, Finding, Mount
from check_mounts.options import values
from check_mounts.report.each import Each
from tests.conftest import Mounts, Plugin, until
from tests.daemon import Daemon, daemon
from tests.test_submit import Reader, reader

__all__ = ["daemon", "reader"]

MOUNTS = {
    b"/": (b"ext4", b"/dev/sda1"),
    b"/home": (b"nfs4", b"filer1:/home"),
    b"/home/a,b": (b"cifs", b"//filer2/a"),
    b"/srv/x": (b"xfs", b"/dev/sdb1"),
    b"/srv/y": (b"fuse.sshfs", b"u@filer3:/y"),
}
ALL = tuple(MOUNTS)


def _finding(point: bytes) -> Finding:
    fs_type, source = MOUNTS[point]
    return Finding(point, Mount(1, 0, (0, 1), b"/", point, (), (), fs_type, source, ()), Condition.OK)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("yes",), ALL),
        (("TRUE",), ALL),
        (("no",), ()),
        (("0",), ()),
        (("no", "yes"), ALL),
        (("/srv/*",), (b"/srv/x", b"/srv/y")),
        (("/srv/x/",), (b"/srv/x",)),
        (("/home/a?b",), (b"/home/a,b",)),
        (("*",), ALL),
        (("[/]",), (b"/",)),
        (("/", "type=nfs4"), (b"/", b"/home")),
        (("type=nfs*,type=cifs",), (b"/home", b"/home/a,b")),
        (("source=*filer*:*",), (b"/home", b"/srv/y")),
        (("source=//filer2/a, /srv/x",), (b"/home/a,b", b"/srv/x")),
        (("remote",), (b"/home", b"/home/a,b", b"/srv/y")),
        (("local",), (b"/", b"/srv/x")),
        (("remote,local",), ALL),
        (("type=nothing",), ()),
    ],
)
def test_who_is_chosen(words: Sequence[str], wanted: Sequence[bytes]) -> None:
    each = Each([chosen for word in words for chosen in values.per_mount(word)], lambda point: None, {})
    assert [point for point in MOUNTS if each.wants(_finding(point))] == list(wanted)


@pytest.mark.parametrize(
    ("said", "missing", "wanted"),
    [
        ("type=nfs4", (b"nfs", b"f:/x"), True),  # the kernel will show another name
        ("type=nfs4", (b"cifs", b"//f/x"), False),
        ("type=nfs4", (None, b"f:/x"), True),
        ("source=f:*", (b"nfs", b"f:/x"), True),
        ("source=f:*", (b"nfs", b"g:/x"), False),
        ("source=f:*", (b"nfs", None), True),
        ("remote", (b"nfs", None), True),
        ("remote", (b"xfs", b"/dev/sda"), False),
        ("remote", (None, None), True),
        ("local", (b"xfs", None), True),
        ("local", (b"nfs", None), False),
        ("/x", (None, None), True),
        ("/y", (None, None), False),
    ],
)
def test_what_is_missing_is_chosen_by_its_declaration(
    said: str, missing: tuple[bytes | None, bytes | None], wanted: bool
) -> None:
    declared = ExpectedMount(b"/x", missing[1], missing[0], (), "fstab")
    each = Each(values.per_mount(said), lambda point: None, {b"/x": declared})
    assert each.wants(Finding(b"/x", None, Condition.MISSING)) is wanted
    # A name of the command line, of which nothing is known.
    assert each.wants(Finding(b"/elsewhere", None, Condition.MISSING)) is (not said.startswith("/"))


def test_a_section_counts_more() -> None:
    says = {b"/home": values.per_mount("no"), b"/": values.per_mount("yes"), b"/srv/x": values.per_mount("type=nfs4")}
    each = Each(values.per_mount("remote"), says.get, {})
    assert [point for point in MOUNTS if each.wants(_finding(point))] == [b"/", b"/home/a,b", b"/srv/y"]


@pytest.mark.parametrize(
    "word", ["home", "type", "type=", "Remote", "nfs4", "yes,/x", "source=x[", "", "/x,", "=", "tpye=x"]
)
def test_wrong_words(plugin: Plugin, tmp_path: Path, word: str) -> None:
    result = plugin(f"--per-mount={word}")
    assert (result.code, result.lines[0].startswith("MOUNTS UNKNOWN - argument --per-mount: ")) == (3, True)
    configuration = tmp_path / "c.conf"
    configuration.write_text(f"[check_mounts]\nper-mount = {word}\n")
    result = plugin("--config", str(configuration))
    assert (result.code, f"{configuration} line 2: per-mount: " in result.lines[0]) == (3, True)


@pytest.mark.root
def test_from_the_command_line(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    home, ram, link = mounts.tmpfs("home"), mounts.mount("ram", "ramfs"), tmp_path / "link"
    link.symlink_to(mounts.base)

    def rows(*words: str) -> list[str]:
        return [line.split("\t")[0] for line in plugin(*words).lines[1:-1]]

    assert rows("--per-mount") == rows("--per-mount=yes") == sorted([str(home), str(ram)])
    assert rows(f"--per-mount={home}") == rows("--per-mount=type=tmpfs") == [str(home)]
    assert rows(f"--per-mount={link}/r*") == [str(ram)]  # links are followed
    assert rows("--per-mount=remote") == []
    configuration = tmp_path / "c.conf"
    configuration.write_text(f'[mount "{home}"]\nper-mount = no\n')
    assert rows("--per-mount", "--config", str(configuration)) == [str(ram)]
    configuration.write_text(f'[mount "{home}"]\nper-mount = yes\n')
    # What nobody asked for is not printed.
    assert rows("--config", str(configuration)) == []
    assert rows("--per-mount=remote", "--config", str(configuration)) == [str(home)]
    rules = plugin("-vvv", "--config", str(configuration)).lines
    assert f"  rule: per-mount = yes ({configuration} line 2)" in rules


@pytest.mark.root
def test_from_the_configuration_of_a_daemon(mounts: Mounts, daemon: Daemon, reader: Reader, tmp_path: Path) -> None:
    """A mount that is missing keeps its service."""
    home, ram = mounts.tmpfs("home"), mounts.mount("ram", "ramfs")
    fstab, configuration = tmp_path / "fstab", tmp_path / "c.conf"
    fstab.write_text(f"none {home} tmpfs rw 0 0\nnone {mounts.base}/gone ramfs rw 0 0\n")
    configuration.write_text(
        f"[check_mounts]\nsubmit = command-file:{reader.path}\nsubmit-host = h\nfstab = {fstab}\n"
        f'per-mount = type=tmpfs\n[mount "{ram}"]\nper-mount = yes\n'
    )
    daemon.start("--config", str(configuration))
    names = {"mounts", f"mounts {home}", f"mounts {ram}"}
    until(lambda: {line.split(";")[2] for line in reader.lines()} == names)
    mounts.detach(home)
    until(lambda: any(f";mounts {home};2;MOUNTS CRITICAL - {home} missing" in line for line in reader.lines()))
    assert {line.split(";")[2] for line in reader.lines()} == names
    assert os.path.ismount(ram)
