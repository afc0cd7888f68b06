"""Time and memory are bounded, whatever a file says: twice as much of it takes about twice as long,
and the deadline ends it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import mounttable, selection, text
from check_mounts.checks import demands
from check_mounts.declared import compare, mountoptions
from check_mounts.declared.fstab import read_fstab
from check_mounts.model import Condition, ExpectedMount, Finding, Mount, Survey
from check_mounts.probing import plan
from tests.conftest import Mounts, Plugin, Result

ROOT = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
X = b"2 1 8:1 /x /x rw - ext4 /dev/sda1 rw\n"
# How long a run may take that ends at its deadline, on a host that has other things to do.
PATIENCE = 40


def _seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def _is_linear(action: Callable[[int], Callable[[], object]], size: int) -> None:
    """Eight times as much takes at most about eight times as long; where it would be quadratic, 64
    times."""
    small = min(_seconds(action(size)) for _ in range(3))
    large = min(_seconds(action(8 * size)) for _ in range(2))
    assert large < 24 * small + 0.05, (small, large)


def _mount(number: int, parent: int, point: bytes) -> Mount:
    return Mount(number, parent, (0, number), b"/", point, (b"rw",), (), b"tmpfs", b"none", (b"rw",))


def _declared(point: bytes, source: bytes = b"none", options: tuple[bytes, ...] = ()) -> ExpectedMount:
    return ExpectedMount(point, source, b"tmpfs", options, "/etc/fstab line 1")


TABLE = [_mount(1, 0, b"/")]


@pytest.mark.parametrize(
    "line",
    [
        lambda size: b"a" * size,
        lambda size: b"\0" * size,
        lambda size: b"\n" * size,
        lambda size: b"x\n" * (size // 10),
        lambda size: b" " * size,
        lambda size: b"1 0 8:1 / /" + b"a/" * (size // 2) + b" rw - ext4 a rw",
        lambda size: b"1 0 8:1 / / rw - ext4 a " + b"o," * (size // 2),
        lambda size: b"1 0 8:1 / / rw - ext4 " + b"\\040" * (size // 4) + b" rw",
        lambda size: b"1 0 8:1 / / rw " + b"shared:1 " * (size // 9) + b"- ext4 a rw",
        lambda size: b"".join(b"%d %d 0:5 / /%d rw - tmpfs a rw\n" % (n, n - 1, n) for n in range(1, size // 300)),
        lambda size: b"".join(b"%d %d 0:5 / / rw - tmpfs a rw\n" % (n, n + 1, ) for n in range(1, size // 300)),
    ],
)  # fmt: skip
def test_a_mount_table(line: Callable[[int], bytes]) -> None:
    def action(size: int) -> Callable[[], object]:
        data = line(size)
        return lambda: mounttable.visible(mounttable.parse(data)[0])

    _is_linear(action, 100_000)


@pytest.mark.parametrize(
    "line",
    [
        lambda size: b"/dev/sda1 " + b"/a" * (size // 2) + b" ext4 rw 0 0",
        lambda size: b"/a" * (size // 2) + b" /x none bind 0 0",
        lambda size: b"/dev/" + b"../" * (size // 3) + b" /x ext4 rw 0 0",
        lambda size: b"a:" * (size // 2) + b"/ /x nfs rw 0 0",
        lambda size: b"//" + b"@" * size + b"/ /x cifs rw 0 0",
        lambda size: b"/dev/sda1 /x ext4 " + b'"a,' * (size // 3) + b" 0 0",
        lambda size: b"/dev/sda1 /x ext4 " + b"\\" * size + b" 0 0",
        lambda size: b"/dev/sda1 /x ext4 " + b",".join(b"o%d=%d" % (n, n) for n in range(size // 10)) + b" 0 0",
        lambda size: b"/dev/sda1 /x ext4 rw " + b"9" * size + b" 0",
        lambda size: b"UUID=" + b"\"'" * (size // 2) + b" /x ext4 rw 0 0",
        lambda size: b"\t " * (size // 2),
        lambda size: b"\n".join(b"none /m%d tmpfs rw 0 0" % n for n in range(size // 100)),
        lambda size: b"\n".join(b"none /x tmpfs size=%d 0 0" % n for n in range(size // 1000)),
    ],
)
def test_an_fstab(tmp_path: Path, line: Callable[[int], bytes]) -> None:
    table = mounttable.parse(ROOT + X)[0]

    def action(size: int) -> Callable[[], object]:
        path = tmp_path / f"fstab{size}"
        path.write_bytes(line(size))

        def read_and_compare() -> None:
            entries, _ = read_fstab(str(path))
            compare.compared(entries, table, {1, 2})[:2]

        return read_and_compare

    _is_linear(action, 50_000)


@pytest.mark.parametrize(
    "pattern",
    [
        b"*a" * 30 + b"b",
        b"*" * 200 + b"b",
        b"*?" * 30 + b"b",
        b"[a]*" * 30 + b"b",
        b"*aa*a" * 15 + b"b",
        b"/*/*/*/*/*/*/*/*/b",
    ],
)
@pytest.mark.parametrize("unit", [b"a", b"/a", b"aa/"])
def test_a_pattern(pattern: bytes, unit: bytes) -> None:
    glob = selection.compile_glob(pattern)
    assert _seconds(lambda: glob.match(unit * (4095 // len(unit)))) < 5


@given(st.integers(0, 4), st.binary(min_size=1, max_size=4))
def test_text_of_any_bytes_is_linear(power: int, unit: bytes) -> None:
    data = unit * 10**power
    shown = text.printable(data)
    assert len(shown) <= 4 * len(data)
    assert len(text.clipped(shown, 100)) <= 100


@pytest.mark.parametrize(
    "field", ["/dev/v\\000da / ext4", "/dev/vda /\\000 ext4", "/dev/vda / e\\000xt4", "/dev/vda / ext4 a\\000b"]
)
def test_a_nul_in_any_field_of_fstab(tmp_path: Path, plugin: Plugin, field: str) -> None:
    table, fstab = tmp_path / "table", tmp_path / "fstab"
    table.write_bytes(ROOT)
    fstab.write_text(f"{field} rw 0 0\n" if field.count(" ") == 2 else f"{field} 0 0\n")
    result = plugin("--mountinfo", str(table), f"--fstab={fstab}", "-X", "*", "--allow-none", below=False)
    assert result.code == 3
    assert f"{fstab} line 1: it holds a NUL" in result.stdout.decode()


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("nul", ["\\000", "\0"])
def test_a_nul_in_any_field_of_the_table(tmp_path: Path, plugin: Plugin, place: int, nul: str) -> None:
    """No system call takes one."""
    fields = ["21", "1", "254:0", "/r", "/m", "rw", "-", "ext4", "/dev/vda", "rw"]
    fields[place] += nul
    table = tmp_path / "table"
    table.write_text(" ".join(fields) + "\n")
    result = plugin("--mountinfo", str(table), "--expect", "/m,source=/dev/vda", "--write", below=False)
    assert result.code in (2, 3)
    assert "internal error" not in result.stdout.decode()
    assert (
        "line 1 of the mount table cannot be understood: it holds a NUL"
        in plugin("--mountinfo", str(table), below=False).lines[0]
    )


def _run(plugin: Plugin, *arguments: str, megabytes: int = 1500) -> Result:
    """With so much memory, and no longer than the deadline and what a busy host adds to it."""
    began = time.monotonic()
    limit = megabytes << 20
    result = plugin(
        *arguments,
        "--deadline",
        "3",
        "-t",
        "1",
        below=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert time.monotonic() - began < PATIENCE
    assert result.code in (1, 2, 3)
    assert result.lines[0].startswith("MOUNTS ")
    assert "internal error" not in result.lines[0]
    return result


@pytest.mark.parametrize("megabytes", [30, 40, 60])
def test_small_address_space(plugin: Plugin, megabytes: int) -> None:
    """What ``ulimit -v`` leaves is enough for workers if it is enough for the check."""
    result = _run(plugin, "/", "/nowhere", megabytes=megabytes)
    assert "not probed" not in result.lines[0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * (50 << 20), "it is longer than 1 MiB"),
        (ROOT + b"2 1 0:5 / /" + b"x" * (10 << 20) + b" rw - tmpfs none rw\n", "it is longer than 1 MiB"),
        (b"\n" * (60 << 20), "MOUNTS UNKNOWN - "),
        (b"x\n" * (30 << 20), "line 1 of the mount table cannot be understood"),
        (b"x" * (65 << 20), "larger than 64 MiB"),
    ],
)
def test_hostile_tables(tmp_path: Path, plugin: Plugin, data: bytes, words: str) -> None:
    table = tmp_path / "table"
    table.write_bytes(data)
    assert words in _run(plugin, "--mountinfo", str(table)).stdout.decode()


def test_a_long_mount_point_of_fstab(tmp_path: Path, plugin: Plugin) -> None:
    table, fstab = tmp_path / "table", tmp_path / "fstab"
    table.write_bytes(ROOT)
    for size, words in (
        (600_000, "line 1: the mount point is longer than 4095 bytes"),
        (4_000_000, "line 1: it is longer than 1 MiB"),
    ):
        fstab.write_bytes(b"/dev/sda2 " + b"/a" * (size // 2) + b" ext4 defaults 0 0\n")
        result = _run(plugin, "--mountinfo", str(table), f"--fstab={fstab}")
        assert words in result.stdout.decode()
    fstab.write_bytes(b"#" * (17 << 20))
    assert (
        f"--fstab: {fstab}: larger than 16 MiB" in _run(plugin, "--mountinfo", str(table), f"--fstab={fstab}").lines[0]
    )


def test_very_many_mounts_and_declarations(tmp_path: Path, plugin: Plugin) -> None:
    """They cannot all be done by the deadline; there is a verdict all the same."""
    table, fstab = tmp_path / "table", tmp_path / "fstab"
    table.write_bytes(
        ROOT + b"".join(b"%d 1 0:%d / /no/m%d rw - tmpfs none rw\n" % (n, n, n) for n in range(2, 100_000))
    )
    fstab.write_bytes(b"".join(b"none /no/m%d tmpfs rw 0 0\n" % n for n in range(2, 50_000)))
    assert _run(plugin, "--mountinfo", str(table), f"--fstab={fstab}").code in (2, 3)


def _surveyed(findings: Sequence[Finding] = ()) -> Survey:
    return Survey(tuple(findings))


def test_what_was_not_compared_by_the_deadline_is_said() -> None:
    declared = [_declared(b"/m%d" % number) for number in range(1000)]
    looks = iter(range(10**6))

    def late() -> Optional[str]:
        return "the deadline" if next(looks) > 2200 else None

    wanted = demands.Demands(declared)
    result = demands.with_demands(_surveyed(), lambda: TABLE, selection.Filters(), wanted, late=late)
    (last,) = [finding for finding in result.findings if finding.condition is Condition.UNPROBED]
    missing = [finding for finding in result.findings if finding.condition is Condition.MISSING]
    assert 0 < len(missing) < 1000
    assert last.detail == f"{1000 - len(missing)} declared mounts not compared: the deadline came first"


def test_late_from_the_beginning() -> None:
    result = demands.with_demands(
        _surveyed(), lambda: TABLE, selection.Filters(), demands.Demands([_declared(b"/x")]), late=lambda: "SIGTERM"
    )
    assert [(each.condition, each.detail) for each in result.findings] == [
        (Condition.UNPROBED, "1 declared mount not compared: SIGTERM came first")
    ]


def test_nothing_is_late_that_is_done() -> None:
    result = demands.with_demands(_surveyed(), lambda: TABLE, selection.Filters(), demands.Demands([_declared(b"/x")]))
    assert [each.condition for each in result.findings] == [Condition.MISSING]


@pytest.mark.parametrize("shape", ["chain", "circle", "stack", "star", "twins"])
def test_the_plan_of_odd_tables(shape: str) -> None:
    def parent(number: int, size: int) -> int:
        return {
            "chain": number - 1,
            "circle": number % (size - 1) + 1,
            "stack": number - 1,
            "star": 1,
            "twins": number ^ 1,
        }[shape]

    def table(size: int) -> list[Mount]:
        return [_mount(n, parent(n, size), b"/" if shape == "stack" else b"/%d" % n) for n in range(1, size)]

    def action(size: int) -> Callable[[], object]:
        mounts = table(size)
        return lambda: plan.Plan(mounts, selection.select(mounts, selection.Filters()))

    _is_linear(action, 2000)


def test_options_as_before_where_there_are_few_quotes() -> None:
    assert mountoptions.split_options(b'a,context="x,y",b') == (b"a", b'context="x,y"', b"b")
    assert os.sep == "/"


@pytest.mark.root
@pytest.mark.parametrize("limit", ["--nofile=20:20", f"--as={40 << 20}"])
def test_where_few_descriptors_or_little_memory_is_allowed(mounts: Mounts, plugin: Plugin, limit: str) -> None:
    for number in range(3):
        mounts.tmpfs(f"healthy{number}")
    result = Result(plugin.start("--deadline", "5", wrapper=["prlimit", limit]))
    assert result.code == 0 and result.count("ok") == 3, result.stdout
