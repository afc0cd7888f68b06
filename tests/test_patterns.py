"""Patterns that can match nothing are refused or understood, on the command line as in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from check_mounts.options import config_text, extra_opts, patterns, values
from check_mounts.options.command_line import given as given_by
from check_mounts.options.refusals import ConfigError, UsageError
from check_mounts.selection import PathGlob
from tests.conftest import Plugin

ALIKE = [
    ("/mnt/*, /media/*", ["/mnt/*", "/media/*"]),
    ("/mnt/*,/media/*", ["/mnt/*", "/media/*"]),
    ("/mnt , /media/", ["/mnt", "/media"]),
    ("/mnt/", ["/mnt"]),
    ("//mnt//x//", ["/mnt/x"]),
    ("/mnt/./x/.", ["/mnt/x"]),
    ("/mnt/**", ["/mnt/**"]),
    ("/a,b", ["/a,b"]),
    ("/a,*", ["/a,*"]),
    ("/a, b", ["/a, b"]),
    ("/a[,]/b", ["/a[,]/b"]),
    ("/a[/]/b", ["/a[/]/b"]),
    ("/[{]a,b}", ["/[{]a,b}"]),
    ("/{12-34}", ["/{12-34}"]),
    ("/a'b", ["/a'b"]),
    ("/x//deleted", ["/x//deleted"]),
    ("*", ["*"]),
    ("?mnt", ["?mnt"]),
    ("[/x]mnt", ["[/x]mnt"]),
    ("[!x]mnt", ["[!x]mnt"]),
    ("/", ["/"]),
    ("//", ["/"]),
]
REFUSED = [
    ("home", "can match no mount point, because these begin with '/'"),
    ("./x", "can match no mount point"),
    ("../x", "can match no mount point"),
    ("~/x", "can match no mount point"),
    ("$HOME/*", "can match no mount point"),
    ("mnt/*", "can match no mount point"),
    ("[!/]x", "can match no mount point"),
    ("[abc]/x", "can match no mount point"),
    ("/mnt/*/../x", "because of the '..'"),
    ("'/mnt/*'", "the quotes are a part of it; leave them out"),
    ('"/mnt/*"', "the quotes are a part of it; leave them out"),
    ("/mnt/{a,b}", "braces have no meaning"),
    ("{/a,/b}", "braces have no meaning"),
    ("/mnt/*,", "has an empty part"),
    ("/mnt/*,,/media/*", "has an empty part"),
    (",", "has an empty part"),
    ("/[z-a]", "is not a pattern"),
    ("/[a", "is not a pattern"),
    ("", "the pattern is empty"),
    ("/x" * 3000, "a pattern of more than 4096 bytes"),
]


def globs(found: list[PathGlob]) -> list[object]:
    return [each._as_written for each in found]


@pytest.mark.parametrize(("word", "meant"), ALIKE)
def test_what_is_understood(word: str, meant: list[str]) -> None:
    wanted = [PathGlob(os.fsencode(each))._as_written for each in meant]
    for option in ("-x", "-p", "--expect-ro"):
        (found,) = [value for name, value in given_by([option, word]).items() if name != "mount_points"]
        assert globs(found) == wanted
    (said,) = config_text.parse(f"[check_mounts]\nexclude = {word}\n".encode(), "f").options
    assert globs(said.value) == wanted
    (said,) = extra_opts.of_section(f"[x]\nexclude={word}\n".encode(), "f", b"x")
    assert globs(said.value) == wanted


@pytest.mark.parametrize(("word", "why"), REFUSED)
def test_what_is_refused(word: str, why: str) -> None:
    for option in ("-x", "--path", "--expect-ro"):
        with pytest.raises(UsageError) as raised:
            given_by([option, word])
        assert why in str(raised.value) and option.strip("-") in str(raised.value)
    quoted = word.replace('"', r"\"")
    with pytest.raises(ConfigError) as refused:
        config_text.parse(f'[check_mounts]\npath = "{quoted}"\n'.encode(), "f")
    assert str(refused.value).startswith("f line 2: path: ") and why in str(refused.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/home/*, /srv/*", "a section has one pattern only"),
        ("/mnt/{a,b}*", "braces have no meaning"),
        ("[!/]x*", "can match no mount point"),
        ("/*/../x", "because of the '..'"),
        ("home/*", "must begin with '/'"),
    ],
)
def test_names_of_sections(name: str, why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_text.parse(f'[mount "{name}"]\n'.encode(), "f")
    assert why in str(raised.value)


@pytest.mark.parametrize("word", ["nfs", "nfs*", "fuse.*", "fuse.JuiceFS", "fuse.any thing", "ext?", "ourfs", "[nN]fs"])
def test_types_that_may_match(word: str) -> None:
    assert len(values.types(word)) == 1


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("NFS", "'NFS' matches no type: write 'nfs'"),
        ("EXT4,xfs", "'EXT4' matches no type: write 'ext4'"),
        ("NFS*", "'NFS*' matches no type: write 'nfs*'"),
        ("nfs,", "has an empty part"),
        ("nfs cifs", "separate several by commas"),
        ("nfs|cifs", "separate several by commas"),
        ("nfs;cifs", "separate several by commas"),
        ("/mnt", "is not a filesystem type"),
        ("{nfs,cifs}", "is not a filesystem type"),
        ("'nfs'", "the quotes are a part of it"),
        ("nonfs4", "exclude types with --exclude-type"),
        ("nsf4", "did you mean 'nfs4'?"),
    ],
)
def test_types_that_match_nothing(word: str, why: str) -> None:
    for option in ("-N", "-X"):
        with pytest.raises(UsageError) as raised:
            given_by([option, word])
        assert why in str(raised.value)


def test_quotes_around_sources() -> None:
    with pytest.raises(UsageError, match="the quotes are a part of it"):
        given_by(["--include-source", "'filer1:*'"])
    assert given_by(["--include-source", "'filer1"])["include_source"]


_paths = some.lists(
    some.binary(min_size=1, max_size=6)
    .map(lambda part: part.replace(b"\0", b"").replace(b"/", b""))
    .filter(lambda part: part not in (b"", b".", b"..")),
    max_size=4,
).map(lambda parts: b"/" + b"/".join(parts))


@given(_paths)
@example(b"/a,/b")
@example(b"/{a,b}")
@example(b"/ a ")
def test_every_mount_point_has_a_pattern(path: bytes) -> None:
    word = b"".join(b"[%c]" % byte if byte in b"*?[{," else bytes([byte]) for byte in path)
    (pattern,) = values.path_globs(os.fsdecode(word))
    assert pattern.match(path)
    assert pattern.leading == path.rstrip(b"/") or pattern.leading == path


@given(some.binary(max_size=30).filter(lambda data: b"\0" not in data), _paths)
def test_what_is_simplified_matches_what_it_did(word: bytes, path: bytes) -> None:
    """For paths as the kernel spells them, nothing that matched is lost."""
    try:
        before = PathGlob(word)
        found = patterns.of_mount_points(word)
    except ValueError:
        return
    if len(found) == 1 and before.match(path) and not word.startswith((b" ", b"\t")):
        assert PathGlob(found[0]).match(path)


def test_it_is_the_verdict(plugin: Plugin, tmp_path: Path) -> None:
    result = plugin("-x", "mnt/*", below=False, state=False)
    assert result.code == 3
    assert result.verdict == (
        "MOUNTS UNKNOWN - argument -x/--exclude: 'mnt/*' can match no mount point, because these begin with '/'"
    )
    config = tmp_path / "c.conf"
    config.write_text("[check_mounts]\nexclude = /mnt/*, /media/*\n")
    config.chmod(0o644)
    table = tmp_path / "mountinfo"
    table.write_text("".join(f"{n} 0 0:{n} / {path} rw - tmpfs x rw\n" for n, path in ((2, "/mnt/a"), (3, "/media/b"))))
    for words in (["--config", str(config)], ["-x", "/mnt/*, /media/*"]):
        told = plugin(*words, f"--mountinfo={table}", "-vvv", below=False, state=False).stdout.decode()
        assert told.count("its mount point is excluded") == 2
