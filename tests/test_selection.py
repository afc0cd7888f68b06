"""Which mounts are probed, decided on text."""

from __future__ import annotations

import pytest

from check_mounts import mounttable, selection
from check_mounts.model import LeftOut, Reason
from check_mounts.selection import Filters, GlobError, compile_glob, select

TABLE = rb"""
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:30 / /home rw - nfs4 filer1:/export/home rw,vers=4.2
4 1 0:31 / /net rw - autofs /etc/auto.net rw,fd=5
5 1 0:32 / /run/user/1000/doc rw - fuse.portal portal rw,user_id=1000,group_id=1000
6 1 0:33 / /share rw - cifs //filer2/share rw
7 1 0:34 / /lxcfs rw - fuse.lxcfs lxcfs rw,user_id=0,group_id=0,allow_other
8 1 0:35 / /cheap rw - tmpfs filer3:/export rw
9 1 0:36 / /sshfs rw - fuse.sshfs user@host:/x rw,user_id=0,group_id=0
10 1 0:37 / /tank rw - zfs tank/a:/b rw
11 1 0:38 / /v6 rw - nfs [fe80::1]:/x rw
12 1 0:39 / /tmp rw - tmpfs tmpfs rw
""".strip()
MOUNTS = mounttable.parse(TABLE)[0]
DEFAULT = {b"/", b"/home", b"/share", b"/lxcfs", b"/cheap", b"/sshfs", b"/tank", b"/v6", b"/tmp"}
# What a tmpfs calls its source is no server.
REMOTE = {b"/home", b"/share", b"/sshfs", b"/v6"}


def globs(*patterns: bytes) -> list[selection.Glob]:
    return [compile_glob(pattern) for pattern in patterns]


def test_the_table_is_understood() -> None:
    assert len(MOUNTS) == 12


@pytest.mark.parametrize(
    ("filters", "selected"),
    [
        (Filters(), DEFAULT),
        (Filters(remote=True), REMOTE),
        (Filters(local=True), DEFAULT - REMOTE),
        (Filters(include_types=globs(b"nfs*", b"cifs")), {b"/home", b"/share", b"/v6"}),
        (Filters(include_types=globs(b"proc")), {b"/proc"}),
        (Filters(exclude_types=globs(b"tmpfs", b"fuse*")), DEFAULT - {b"/cheap", b"/tmp", b"/lxcfs", b"/sshfs"}),
        (Filters(include_paths=globs(b"/*s*")), {b"/share", b"/lxcfs", b"/sshfs"}),
        (Filters(exclude_paths=globs(b"/home", b"/v?")), DEFAULT - {b"/home", b"/v6"}),
        (Filters(exclude_paths=globs(b"/hom")), DEFAULT),
        (Filters(include_sources=globs(b"filer[13]:*")), {b"/home", b"/cheap"}),
        (Filters(exclude_sources=globs(b"filer1:*")), DEFAULT - {b"/home"}),
        (Filters(user_mounts=True), DEFAULT | {b"/run/user/1000/doc"}),
        (Filters(autofs=True), DEFAULT | {b"/net"}),
        (Filters(mount_points=[b"/home", b"/proc"]), {b"/home", b"/proc"}),
        (Filters(mount_points=[b"/run/user/1000/doc"]), {b"/run/user/1000/doc"}),
        (Filters(mount_points=[b"/home", b"/tmp"], exclude_types=globs(b"tmpfs")), {b"/home"}),
    ],
)
def test_selected(filters: Filters, selected: set[bytes]) -> None:
    chosen = select(MOUNTS, filters)
    assert {mount.mount_point for mount in chosen.selected} == selected
    assert len(chosen.selected) + len(chosen.left_out) + len(chosen.shadowed) == len(MOUNTS)
    assert chosen.missing == ()


def test_missing() -> None:
    chosen = select(MOUNTS, Filters(mount_points=[b"/home", b"/gone", b"/net", b"/gone"]))
    assert chosen.missing == ((b"/gone", "not mounted"), (b"/net", "only its autofs trigger is mounted"))


def test_named_but_covered_is_missing() -> None:
    table = mounttable.parse(
        b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - tmpfs b rw\n3 1 0:3 / /a rw - tmpfs c rw\n"
    )[0]
    chosen = select(table, Filters(mount_points=[b"/a/b"]))
    assert chosen.missing == ((b"/a/b", "covered by another mount"),)


@pytest.mark.parametrize("why", ["autofs trigger", "FUSE mount of uid 1000", "kernel pseudo-filesystem"])
def test_the_reason_is_said(why: str) -> None:
    assert why in {selection.why_left_out(out) for out in select(MOUNTS, Filters()).left_out}


@pytest.mark.parametrize(
    ("pattern", "matches", "fails"),
    [
        (b"/a*", b"/a/b/c\nd", b"/b"),
        (b"[[]x]", b"[x]", b"x"),
        (b"[!a]b", b"cb", b"ab"),
        (b"[]]", b"]", b"a"),
        (b"\xff?", b"\xff\xfe", b"\xff"),
        (b"a.b", b"a.b", b"axb"),
    ],
)
def test_globs(pattern: bytes, matches: bytes, fails: bytes) -> None:
    glob = compile_glob(pattern)
    assert glob.match(matches)
    assert not glob.match(fails)


@pytest.mark.parametrize("pattern", [b"", b"[", b"a[b", b"[]", b"[!]", b"[a][b"])
def test_bad_globs(pattern: bytes) -> None:
    with pytest.raises(GlobError):
        compile_glob(pattern)


@pytest.mark.parametrize(
    ("source", "server"),
    [
        ("filer1:/x", "filer1"),
        ("[fe80::1]:/x", "[fe80::1]"),
        ("//srv/share", "srv"),
        ("//user@srv/share/sub", "srv"),
        ("me@host:/home", "host"),
        ("/dev/sda1", None),
        ("none", None),
        ("C:\\x", None),
        ("mon1:6789,mon2:6789:/", None),
    ],
)
def test_server(source: str, server: object) -> None:
    mount = mounttable.parse_line(f"1 0 0:1 / /m rw - nfs {source} rw".encode())
    assert selection.server(mount) == (server.encode() if isinstance(server, str) else None)


@pytest.mark.parametrize(
    ("given", "kernel"), [(b"/a//b/", b"/a/b"), (b"//a", b"/a"), (b"/", b"/"), (b"/a/./b/../c", b"/a/c")]
)
def test_normalised(given: bytes, kernel: bytes) -> None:
    assert selection.normalised(given) == kernel


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_of_its_own(reason: Reason) -> None:
    said = {each: selection.why_left_out(LeftOut(MOUNTS[4], each)) for each in Reason}
    assert [each for each, words in said.items() if words == said[reason]] == [reason]
