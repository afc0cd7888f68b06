"""fstab(5) is read as libmount reads it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.declared import mountoptions
from check_mounts.declared.fstab import parse_fstab, read_fstab

FIXTURES = Path(__file__).parent / "fixtures" / "fstab"
NAMES = sorted(path.name for path in FIXTURES.iterdir())


def of_findmnt(path: Path) -> list[tuple[str, str, str, Optional[str]]]:
    command = [
        "findmnt",
        "--fstab",
        "--tab-file",
        str(path),
        "--json",
        "--list",
        "--output",
        "SOURCE,TARGET,FSTYPE,OPTIONS",
    ]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=30, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    if not done.stdout.strip():
        return []
    rows = json.loads(done.stdout.decode("utf-8"))["filesystems"]
    return [(row["source"], row["target"], row["fstype"], row["options"]) for row in rows]


def of_ours(path: Path) -> list[tuple[str, str, str, Optional[str]]]:
    lines, _ = parse_fstab(path.read_bytes(), str(path))
    return [
        (one.source.decode(), one.target.decode(), one.fs_type.decode(), (one.options or b"").decode() or None)
        for one in lines
    ]


@pytest.mark.parametrize("name", NAMES)
def test_fixture_reads_as_in_libmount(name: str) -> None:
    ours = of_ours(FIXTURES / name / "fstab")
    assert ours and ours == of_findmnt(FIXTURES / name / "fstab")


_SOURCES = [
    "/dev/sda1",
    'UUID="AbC-1"',
    "LABEL=a\\040b",
    "filer:/x\\134y",
    "none",
    "//s/a#b",
    "#x",
    "",
    "[fe80::1]:/x",
    "é",
]

_TARGETS = [
    "/",
    "/a\\040b",
    "/tab\\054c",
    "none",
    "/a//b/",
    "rel/ative",
    "",
    "/x#y",
    '"/q',
    "/\\08",
    "/new\\0401",
    "/ü",
]

_TYPES = ["ext4", "nfs4", "auto", "swap", "ext4,xfs", "", "ignore"]

_OPTIONS = [
    "defaults",
    'context="a:b,c",ro',
    "noauto",
    "",
    "rw,,x",
    "a\\,b",
    'x="open',
    "nofail,x-systemd.automount",
    "b\\040c",
]

_NUMBERS = ["0", "1", "", "+2", "-1", "x", "1 ", "# c", "2 3"]
_GAPS = [" ", "\t", "  ", " \t "]
_ENDS = ["\n", "\n", "\n", "\r\n", " \n", "\t\n", "\n\n", "\n# comment\n", "\n   # comment\n", " \r\n"]


def random_fstab(random_: random.Random) -> str:
    text = "# first\n"
    for _ in range(random_.randint(1, 8)):
        fields = [random_.choice(choice) for choice in (_SOURCES, _TARGETS, _TYPES, _OPTIONS, _NUMBERS, _NUMBERS)]
        fields = fields[: random_.choice([1, 2, 3, 4, 4, 5, 6, 6, 6])]
        text += (
            random_.choice(["", "", " ", "\t"])
            + "".join(field + random_.choice(_GAPS) for field in fields)
            + random_.choice(_ENDS)
        )
    return text if random_.random() < 0.8 else text.rstrip("\n")


@pytest.mark.parametrize("seed", range(60))
def test_random_fstab_reads_as_in_libmount(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    path.write_bytes(random_fstab(random.Random(seed)).encode())
    assert of_ours(path) == of_findmnt(path)


@given(st.binary(max_size=300))
def test_any_bytes_are_lines_or_complaints(data: bytes) -> None:
    lines, complaints = parse_fstab(data, "fstab")
    assert len(lines) + len(complaints) <= data.count(b"\n") + 1
    assert all(str(complaint).isprintable() for complaint in complaints)


def test_any_byte_but_nul(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_bytes(b"/dev/\xff /\\012\\174\xfe ext4 x=\\303\n/dev/a /n\\000 ext4\n")
    entries, complaints = read_fstab(str(fstab))
    assert [(one.source, one.mount_point, one.options) for one in entries] == [
        (b"/dev/\xff", b"/\n|\xfe", (b"x=\xc3",))
    ]
    assert [str(one) for one in complaints] == [f"{fstab} line 2: it holds a NUL"]
    with pytest.raises(FileNotFoundError):
        read_fstab(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_fstab(str(tmp_path / "fifo"))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (b"", ()),
        (b"a,,b,", (b"a", b"b")),
        (b'context="u:r:t:s0:c0,c1",ro', (b'context="u:r:t:s0:c0,c1"', b"ro")),
        (b"a\\,b,c", (b"a\\,b", b"c")),
        (b'x="open,ro', (b'x="open', b"ro")),
        (b"x=\\", (b"x=\\",)),
    ],
)
def test_split_options(text: bytes, options: tuple[bytes, ...]) -> None:
    assert mountoptions.split_options(text) == options
