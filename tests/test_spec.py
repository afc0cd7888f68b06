"""--expect is understood, or refused in words."""

from __future__ import annotations

import pytest

from check_mounts.declared.spec import parse_spec
from check_mounts.model import ExpectedMount


def test_spec() -> None:
    spec = b"/srv//x/,source=\\\\fs\\share\\,1,type=cifs,rw,vers=4.2,nofail"
    entry = parse_spec(spec)
    options = (b"rw", b"vers=4.2", b"nofail")
    assert entry == ExpectedMount(b"/srv/x", b"\\\\fs\\share,1", b"cifs", options, "--expect", nofail=True)
    assert parse_spec(b"/") == ExpectedMount(b"/", None, None, (), "--expect")
    assert parse_spec(b"/a\\,b,x-systemd.automount").automount


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (b"", "the mount point is missing"),
        (b"relative,ro", "not an absolute path"),
        (b"/a,,ro", "an option is empty"),
        (b"/a,source=", "source= has no value"),
        (b"/a,type=x,type=y", "type= is given twice"),
        (b"/a,type=swap", "swap"),
        (b"/a\0", "NUL"),
    ],
)
def test_bad_spec(spec: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_spec(spec)
