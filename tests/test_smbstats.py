"""How often SMB sessions and shares were connected again: texts of the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.daemon.reconnected import Reconnected
from check_mounts.model import Finding, Mount, Survey
from check_mounts.probing import smbstats
from check_mounts.probing.smbstats import Reconnects

SMB3 = rb"""Resources in use
CIFS Session: 1
Share (unique mount targets): 2
SMB Request/Response Buffer: 1 Pool size: 5
SMB Small Req/Resp Buffer: 1 Pool size: 30
Operations (MIDs): 0

3 session 5 share reconnects
Total vfs operations: 73 maximum at one time: 2

Max requests in flight: 2
1) \\filer1\9 session 9 share reconnects
SMBs: 47
Bytes read: 0  Bytes written: 0
Open files: 0 total (local), 0 open on server
TreeConnects: 1 total 0 failed
"""
MOUNT = Mount(7, 1, (0, 40), b"/", b"/s", (b"rw",), (), b"cifs", b"//filer1/s", (b"rw",))


def test_the_counters() -> None:
    assert smbstats.parse(SMB3) == Reconnects(3, 5)  # a share cannot look like the line
    assert smbstats.parse(SMB3.replace(b"3 session 5", b"-3 session 5")) is None
    assert smbstats.parse(b"Resources in use\nCIFS Session: 1\n") is None
    assert smbstats.read("/nonexistent") is None


@given(st.binary(max_size=200), st.integers(0, len(SMB3)))
def test_garbage(noise: bytes, place: int) -> None:
    found = smbstats.parse(SMB3[:place] + noise)
    assert found is None or min(found) >= 0


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((3, 5), (4, 7), "SMB: 1 session and 2 shares were connected again within 60 s"),
        ((3, 5), (3, 6), "SMB: 1 share was connected again within 60 s"),
        ((3, 5), (5, 5), "SMB: 2 sessions were connected again within 60 s"),
        ((3, 5), (3, 5), ""),
        ((3, 5), (0, 0), ""),  # somebody wrote 0 into the file
        ((3, 5), (9, 0), ""),
        (None, (9, 9), ""),
        ((3, 5), None, ""),
    ],
)
def test_only_what_moved_is_said(
    before: Optional[tuple[int, int]], after: Optional[tuple[int, int]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([None if each is None else Reconnects(*each) for each in (before, after, after)])
    times = iter([100.0, 160.0, 220.0])
    monkeypatch.setattr(smbstats, "read", lambda: next(looks))
    monkeypatch.setattr("check_mounts.daemon.reconnected.monotonic", lambda: next(times))
    counted, survey = Reconnected(), Survey((Finding(b"/s", MOUNT, None),), notes=("x",))  # type: ignore[arg-type]
    counted.look([MOUNT])
    assert counted.told(survey).notes == ("x",)
    counted.look([MOUNT])
    assert counted.told(survey).notes == ("x", *([words] if words else []))
    counted.look([MOUNT])
    assert counted.told(survey).notes == ("x",)


def test_without_smb_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smbstats, "read", lambda: pytest.fail("it was read"))
    Reconnected().look([MOUNT._replace(fs_type=b"nfs4")])


def test_the_file(tmp_path: Path) -> None:
    (tmp_path / "Stats").write_bytes(SMB3)
    assert smbstats.read(str(tmp_path / "Stats")) == Reconnects(3, 5)
