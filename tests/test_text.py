"""Bytes of unknown origin -> text that breaks nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import text


def unescape(words: str) -> bytes:
    return re.sub(rb"\\(\d{3})", lambda match: bytes([int(match[1], 8)]), words.encode("utf-8"))


@given(st.binary())
def test_printable_is_safe_and_can_be_turned_back(data: bytes) -> None:
    words = text.printable(data)
    assert words.isprintable()
    assert "|" not in words
    assert unescape(words) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"/plain path", "/plain path"),
        ("/übung".encode(), "/übung"),
        (b"a\nb\tc\\d", r"a\012b\011c\134d"),
        (b"a|b", r"a\174b"),
        (b"\xff\xfe", r"\377\376"),
        ("a\u2028b\u202ec\x85".encode(), r"a\342\200\250b\342\200\256c\302\205"),
        (b"\x1b[31m", r"\033[31m"),
    ],
)
def test_printable(data: bytes, words: str) -> None:
    assert text.printable(data) == words


@given(st.text())
def test_encoded_never_raises(words: str) -> None:
    for encoding in ("ascii", "latin-1", "utf-8", "no-such-encoding"):
        assert isinstance(text.encoded(words, encoding), bytes)


def test_encoded() -> None:
    assert text.encoded("/übung", "ascii") == rb"/\303\274bung"
    assert text.encoded("/übung", "utf-8") == "/übung".encode()


def test_errors_have_names() -> None:
    assert text.error_words(5) == "Input/output error (EIO)"
    assert text.error_words(512) == "errno 512"


def test_clipped() -> None:
    assert text.clipped("x" * 10, 10) == "x" * 10
    assert text.clipped("abcdefghijk", 10) == "abc...hijk"


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (0.25, "0.25 s"), (10, "10 s"), (1.5, "1.5 s")])
def test_seconds(seconds: float, words: str) -> None:
    assert text.seconds_words(seconds) == words
