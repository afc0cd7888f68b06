"""Any number that a kernel or a server may send: it travels, is judged with sense, and is printed.
Through a real FUSE filesystem."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check_mounts import mounttable
from check_mounts.model import Mount
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.probing import asking, frames, probe, requests, straight, stuck, survey, writeprobe
from check_mounts.selection import Filters, compile_glob, select
from tests.conftest import Fuse, Mounts, Plugin

_ALL_ONES = 2**64 - 1
_EXTREMES = [0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**52, 2**63 - 1, 2**63, 2**64 - 4096, _ALL_ONES]
_COUNT = st.one_of(st.sampled_from(_EXTREMES), st.integers(0, _ALL_ONES))
_SMALL = st.one_of(st.sampled_from([0, 1, 512, 4096, 2**20, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
_COUNTS = ("blocks", "bfree", "bavail", "files", "ffree")


@pytest.mark.parametrize(
    ("said", "space"),
    [
        ((1000, 400, 300), (600, 300)),
        ((1000, 400, -30), (600, 0)),  # FreeBSD: the reserve is in use
        ((1000, 50, 2**44 - 3), (950, 0)),  # the same through an NFS client, which shifts it
        ((1000, 50, 1001), (950, 0)),
        ((1000, 100, 900), (900, 100)),  # no more is available than is free
        ((1000, -1, -1), (1000, 0)),
        ((1000, 2000, 500), (1000, 0)),
        ((1000, 1000, 1000), (0, 1000)),
        ((1000, 1000, -5), (1000, 0)),
        ((1000, 1000, 0), (1000, 0)),
        ((0, 0, 0), None),
        ((0, 5, 5), None),
        ((-1, -1, -1), None),  # "unknown", as df has it
        ((2**80, 2**79, 2**78), (2**79, 2**78)),
    ],
)
def test_space(said: tuple[int, int, int], space: Optional[tuple[int, int]]) -> None:
    assert Usage(*said, 0, 0).space == space


@pytest.mark.parametrize(
    ("inodes", "free", "counts"),
    [
        (100, 50, (50, 50)),
        (100, 0, (100, 0)),
        (100, 100, (0, 100)),
        (4711, -1, None),  # CephFS
        (100, 101, None),
        (0, 0, None),
        (0, 7, None),
        (-1, -1, None),
        (-5, 3, None),
    ],
)
def test_inode_counts(inodes: int, free: int, counts: Optional[tuple[int, int]]) -> None:
    assert Usage(0, 0, 0, inodes, free).inode_counts == counts


@given(st.tuples(*[st.integers(-(2**96), 2**96)] * 5))
def test_usage_makes_sense_whatever_was_said(said: tuple[int, int, int, int, int]) -> None:
    usage = Usage(*said)
    if usage.space is not None:
        used, available = usage.space
        assert 0 <= used <= usage.size and 0 <= available <= usage.size - used
    if usage.inode_counts is not None:
        assert min(usage.inode_counts) >= 0 and sum(usage.inode_counts) == usage.inodes
    counted = usage.as_counted()
    assert counted.as_counted() == counted and min(counted) >= 0


def _frame(**changes: Any) -> bytes:
    """An answer as a worker would pack it."""
    values: dict[str, Any] = dict(kind=0, step=0, times=[2**32 - 1] * 8, errnos=[0] * 8, flags=0, rest=[0] * 12)
    values.update(changes)
    return frames._ANSWER.pack(
        values["kind"], values["step"], *values["times"], *values["errnos"], values["flags"], *values["rest"]
    )


@given(
    st.integers(0, 8), st.lists(st.integers(0, 65535), min_size=8, max_size=8), st.integers(0, 65535), st.integers(0,
     65535),
    st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), st.lists(_COUNT, min_size=7, max_size=7),
)  # fmt: skip
def test_every_frame_is_an_outcome_or_a_reason(
    step: int, errnos: list[int], flags: int, mode: int, ids: list[int], counts: list[int]
) -> None:
    frame = _frame(step=step, errnos=errnos, flags=flags, rest=[mode, *ids, *counts])
    try:
        outcome = frames.unpack_answer(frame)
    except ValueError:
        assert (step and not errnos[step - 1]) or flags > 511
    else:
        assert outcome.errnos == tuple(number or None for number in errnos)
        assert (outcome.step is None) == (outcome.errno is None) == (step == 0)


@given(st.binary(min_size=frames.ANSWER_SIZE, max_size=frames.ANSWER_SIZE))
def test_no_frame_raises_anything_but_a_reason(frame: bytes) -> None:
    for data in (frame, bytes([frame[0] % 4]) + frame[1:]):
        try:
            frames.unpack_answer(data)
        except ValueError:
            pass


@given(st.text(max_size=600))
def test_an_exception_comes_back_as_words(words: str) -> None:
    try:
        raise RuntimeError(words)
    except RuntimeError as error:
        frame = frames.exception_answer(error)
    outcome = frames.unpack_answer(frame)
    assert outcome.exception.startswith("RuntimeError (test_numbers.py line ")
    assert outcome.exception.isprintable()


class Asking:
    """Asks one mount as a worker would, in this process."""

    def __init__(self, path: Path) -> None:
        mounts = mounttable.parse(Path("/proc/self/mountinfo").read_bytes())[0]
        self.mount: Mount = next(mount for mount in mounts if mount.mount_point == os.fsencode(path))

    def __call__(self) -> Outcome:
        request = requests.Request(self.mount.mount_id, self.mount.mount_point)
        return frames.unpack_answer(probe.answer(request, lambda progress: None, os.getppid())[0])


@pytest.mark.root
def test_every_count_travels(fuse: Fuse) -> None:
    path = fuse.mount("fs")
    ask = Asking(path)

    @settings(max_examples=150)
    @given(st.tuples(_COUNT, _COUNT, _COUNT, _COUNT, _COUNT), _SMALL, _SMALL)
    def travels(counts: tuple[int, ...], bsize: int, frsize: int) -> None:
        fuse.command("statfs", "fs", f"bsize={bsize}", f"frsize={frsize}", *map("{}={}".format, _COUNTS, counts))
        outcome = ask()
        assert outcome.step is None and outcome.usage is not None
        block = frsize or bsize  # glibc
        signed = [count - 2**64 if count >= 2**63 else count for count in counts]
        assert outcome.usage == Usage(*(count * block for count in signed[:3]), *signed[3:])

    travels()


@pytest.mark.root
def test_every_attribute_travels(fuse: Fuse) -> None:
    path = fuse.mount("fs")
    ask = Asking(path)
    small = st.one_of(st.sampled_from([0, 1, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 2]), st.integers(0, 2**32 - 2))

    @settings(max_examples=100)
    @given(small, small, small, st.integers(0, 0o7777))
    def travels(uid: int, gid: int, nlink: int, mode: int) -> None:
        fuse.command("attr", "fs", f"uid={uid}", f"gid={gid}", f"nlink={nlink}", f"mode={mode:o}")
        outcome = ask()
        assert (outcome.uid, outcome.gid, outcome.nlink, outcome.mode) == (uid, gid, nlink, 0o040000 | mode)

    travels()


@pytest.mark.root
@pytest.mark.parametrize(
    ("said", "bad", "used"),
    [
        (dict(blocks=1000000, bfree=500000, bavail=500000, files=4711, ffree=_ALL_ONES), False, 500000 * 4096),
        (dict(bavail=2**64 - 30), True, 500 * 4096),
        (dict(bavail=2**52 - 3), True, 500 * 4096),
        (dict(bavail=1001), True, 500 * 4096),
        (dict(bfree=1000, bavail=2**64 - 1), True, 1000 * 4096),
        (dict(bfree=2**64 - 1, bavail=2**64 - 1), True, 1000 * 4096),
        (dict(blocks=_ALL_ONES, bfree=_ALL_ONES, bavail=_ALL_ONES), False, None),
        (dict(blocks=0, bfree=0, bavail=0, files=0, ffree=0), False, None),
        (dict(blocks=2**62, bfree=2**61, bavail=2**61, frsize=2**32 - 1), False, 2**61 * (2**32 - 1)),
        (dict(blocks=2**62, bfree=2**40, bavail=0, frsize=2**32 - 1), True, (2**62 - 2**40) * (2**32 - 1)),
        (dict(files=_ALL_ONES, ffree=0), False, 500 * 4096),
        (dict(files=100, ffree=2**63), False, 500 * 4096),
        (dict(files=100, ffree=3), True, 500 * 4096),
        (dict(frsize=0, bsize=512), False, 500 * 512),
        (dict(frsize=0, bsize=0), False, None),
    ],
)
def test_what_is_said_of_it(fuse: Fuse, plugin: Plugin, said: dict[str, int], bad: bool, used: Optional[int]) -> None:
    path = fuse.mount("fs")
    fuse.command("statfs", "fs", *(f"{key}={value}" for key, value in said.items()))
    assert plugin("-v").code == 0
    arguments = ("--usage-critical", "90", "--inodes-critical", "90", "-vvv")
    result = plugin(*arguments)
    assert result.code == (2 if bad else 0), result.stdout
    assert (" full: " in result.line(path)) == bad
    printed = f"'{path} used'={used}B;" if used is not None else f"'{path} used'="
    assert (printed in result.lines[0]) == (used is not None)
    assert "-" not in result.lines[0].partition(" | ")[2].replace(str(path), "")
    value = json.loads(plugin("--json").stdout)
    assert min(value["findings"][0]["outcome"]["usage"].values()) >= 0


def _entry(name: bytes, inode: int = 7, kind: int = 8) -> str:
    return f"{inode}:{kind}:{name.hex()}"


@pytest.mark.root
@pytest.mark.parametrize(
    "entries",
    [
        [],
        [_entry(b"."), _entry(b"..")],
        [_entry(b"a", inode=0)],
        [_entry(b"a", inode=_ALL_ONES), _entry(b"b", inode=2**63)],
        [_entry(b"a", kind=0), _entry(b"b", kind=15), _entry(b"c", kind=2**32 - 1)],
        [_entry(b"\xff\xfe\x80"), _entry(b"\n"), _entry(b"|'\";"), _entry(bytes(range(1, 47)))],
        [_entry(b"x" * 255)],
        [_entry(b"%05d" % number * 20) for number in range(2000)],
        [_entry(b"same"), _entry(b"same")],
    ],
)
def test_any_entry_is_an_answer(fuse: Fuse, plugin: Plugin, entries: list[str]) -> None:
    path = fuse.mount("fs")
    fuse.command("entries", "fs", *entries)
    result = plugin("-vvv")
    assert result.code == 0, result.stdout
    assert fuse.command("asked", "fs").split().count("readdir") == 1
    assert result.line(path).startswith("OK: ")


@pytest.mark.root
@pytest.mark.parametrize("name", [b"a/b", b"", b"/"])
def test_entries_that_the_kernel_refuses_are_an_error_of_the_filesystem(
    fuse: Fuse, plugin: Plugin, name: bytes
) -> None:
    fuse.mount("fs")
    fuse.command("entries", "fs", _entry(name))
    result = plugin()
    assert (result.code, "dead: Input/output error (EIO)" in result.verdict) == (2, True), result.stdout


@pytest.mark.root
@pytest.mark.parametrize("arguments", [(), ("--write",)])
def test_an_error_of_our_own_is_told_as_one(
    mounts: Mounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Not as a worker that somebody has killed; and each is told at once, by a worker that serves
    no other mount."""
    paths = [mounts.tmpfs(name) for name in "abc"]
    table = mounttable.read(mounttable.DEFAULT_PATH)

    def fail(*_: object) -> None:
        raise struct.error("argument out of range, | and\n\xff")

    where = (writeprobe.WriteProbe, "_ask") if arguments else (straight.Straight, "probe")
    monkeypatch.setattr(where[0], where[1], fail)
    chosen = select(table[0], Filters(include_paths=[compile_glob(os.fsencode(f"{mounts.base}/*"))]))
    registry = stuck.Registry(str(tmp_path / "state"), slots=16)
    how = asking.Settings(max_workers=16, writes=lambda mount: bool(arguments))
    result = survey.take(survey.Pass(table, chosen, how, registry), lambda: table)
    assert [finding.mount_point for finding in result.findings] == [os.fsencode(path) for path in paths]
    for finding in result.findings:
        assert finding.condition.value == "unprobed"
        assert "internal error in its worker: error (test_numbers.py line " in finding.detail
        assert finding.detail.isprintable() and "died" not in finding.detail
        answered = finding.outcome is not None and finding.outcome.seconds[Step.READ - 1] is not None
        assert answered == bool(arguments), "what was measured by reading is still there"
