"""The values of options: the command line and the configuration understand each the same way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from check_mounts import cache, text
from check_mounts.options import command_line, config_text, extra_opts, values
from check_mounts.options.configuration import LIMITS
from check_mounts.options.option import Option, Scope
from check_mounts.options.option_table import ADDED_UP, BY_NAME, MOUNT_KEYS, OPTIONS
from check_mounts.options.refusals import ConfigError, UsageError

HOSTILE = [
    "", " ", "0", "-1", "5", "5.", ".5", "1_0", " 5 ", "5 ", "\u0665", "5s", "1e3", "1e400", "inf", "-inf", "nan",
    "NaN", "0x5", "+5", "²", "1,5", "9" * 400, "99999999", "1:2", "2:1", "~:5", "@5", "@1:2", "1:2:3", "1e400:",
    "nan:1", "90%", "101", "10GiB", "10GiB:", "10\u212aiB:", "1_0K:", "yes", "YES", "no", "On", "ye\u017f", "true ",
    "owner", "self", "nobody", "no body", "\udcff", "a\nb", "a|b", "[", "[z-a]", "[[]", "*", "/srv/", "x" * 5000,
    "dead=ok", " dead = ok ", "DEAD=Ok", "timed_out=warning", "bloc\u212aed=ok", "dead=o\u212a",
    "dead=ok,slow=critical", "dead=ok,", "gone=ok", "dead", "=", "statfs=1", "statfs=1_0", "ro,nodev", "addr=*, x",
    ",", "password=geheim", "ftp://u:geheim@h/",
]  # fmt: skip
# What a section says in the same words as the command line.
SAME = [option for option in OPTIONS if option.in_mount is not None and option.in_mount is option.parse]
WITH_VALUE = [option for option in OPTIONS if option.takes_value and option.scope is Scope.ANYWHERE]


def _told(value: Any) -> Any:
    """What can be compared with another of its kind."""
    if type(value) in (list, tuple):
        return [_told(each) for each in value]
    if isinstance(value, dict):
        return list(map(list, value.items()))
    return getattr(value, "_as_written", value)


def _reason(error: Exception) -> str:
    return error.why if isinstance(error, UsageError) else str(error).partition(": ")[2].partition(": ")[2]


def of_command_line(option: Option, word: str) -> tuple[Any, str]:
    try:
        found = command_line.given([f"{option.long}={word}"])
        return _told(found[option.dest]), ""
    except UsageError as error:
        assert (error.option, error.origin) == (option.long, None)
        return None, _reason(error)


def _line(name: str, word: str) -> bytes:
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{quoted}"\n'.encode("utf-8", "surrogateescape")


def of_configuration(option: Option, word: str) -> tuple[Any, str]:
    try:
        (said,) = config_text.parse(b"[check_mounts]\n" + _line(option.name, word), "/f").options
        return _told(said.value), ""
    except ConfigError as error:
        assert str(error).startswith(f"/f line 2: {option.name}: ")
        return None, _reason(error)


def of_section(option: Option, word: str) -> tuple[Any, str]:
    try:
        said = config_text.parse(b'[mount "/m"]\n' + _line(option.name, word), "/f").for_mount(b"/m")
        value = _limit(said.limits, option) if option.dest in LIMITS else getattr(said, option.dest)
        return _told(value if option.commas or not option.repeatable else [value]), ""
    except ConfigError as error:
        assert str(error).startswith(f"/f line 2: {option.name}: ")
        return None, _reason(error)


def _limit(limits: Mapping[Any, Any], option: Option) -> Any:
    ((key, limit),) = limits.items()
    assert option.dest == (key if isinstance(key, str) else key[0])
    return limit if option.name not in ADDED_UP else (None if isinstance(key, str) else key[1], limit)


def of_extra_opts(option: Option, word: str) -> tuple[Any, str]:
    try:
        line = f"{option.name}={word}".encode("utf-8", "surrogateescape")
        (said,) = extra_opts.of_section(b"[check_mounts]\n" + line, "/f", b"check_mounts")
        return _told(said.value), ""
    except ConfigError as error:
        assert str(error).startswith(f"/f line 2: {option.name}: ")
        return None, _reason(error)


@pytest.mark.parametrize("option", WITH_VALUE, ids=lambda option: option.name)
def test_the_command_line_and_the_configuration_agree(option: Option) -> None:
    for word in HOSTILE:
        if "\n" not in word:
            assert of_command_line(option, word) == of_configuration(option, word), word


@pytest.mark.parametrize("option", WITH_VALUE, ids=lambda option: option.name)
def test_the_command_line_and_extra_options_agree(option: Option) -> None:
    for word in HOSTILE:
        if word == word.strip() != "" and "\n" not in word:  # blanks around a value do not count there
            assert of_command_line(option, word) == of_extra_opts(option, word), word


@pytest.mark.parametrize("option", SAME, ids=lambda option: option.name)
def test_the_command_line_and_a_section_agree(option: Option) -> None:
    for word in HOSTILE:
        if "\n" not in word:
            assert of_command_line(option, word) == of_section(option, word), word


def test_most_keys_of_a_section_are_understood_as_on_the_command_line() -> None:
    others = {name for name in MOUNT_KEYS if name in BY_NAME} - {option.name for option in SAME}
    assert others == {"write", "expect", "expect-ro", "canary"}


def test_the_reader_of_the_result_understands_seconds_alike() -> None:
    """It has a parser of its own, because importing this one takes too long."""
    for word in [*HOSTILE, "31622400", "31622401", "1.2.3", ".", "1."]:
        if len(word) < 100:  # the reader shows the whole word
            value, why = of_command_line(BY_NAME["max-age"], word)
            try:
                assert cache._seconds(word) == value, word
            except cache.Refused as error:
                assert value is None and str(error).startswith("argument --max-age: "), (word, why)


@pytest.mark.parametrize(
    "word", ["1_0", " 5 ", "\u0665", "1e3", "1e400", "inf", "nan", "0", "-1", "+5", "", "0x5", "5s"]
)
def test_what_is_no_number_of_seconds(word: str) -> None:
    for option in OPTIONS:
        if option.parse is values.seconds:
            value, why = of_command_line(option, word)
            assert (value, why) == (None, f"'{word}' is not a positive number of seconds")


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)), st.sampled_from(WITH_VALUE))
@example("\u0665", BY_NAME["timeout"])
def test_no_word_raises_anything_else(word: str, option: Option) -> None:
    if "\0" in word or any("\ud800" <= char < "\udc80" or "\udcff" < char <= "\udfff" for char in word):
        return  # no argument that Python has decoded
    assert option.parse is not None
    try:
        option.parse(word)
    except ValueError as error:
        if option.parse is not str:
            assert str(error).isprintable() and "|" not in str(error), option.name


@pytest.mark.parametrize("option", WITH_VALUE, ids=lambda option: option.name)
def test_no_reason_shows_a_secret(option: Option) -> None:
    for word in ("password=geheim", "ftp://u:geheim@h/", "x,password=geheim"):
        for understand in (of_command_line, of_configuration, of_extra_opts):
            assert "geheim" not in understand(option, word)[1]
        if option in SAME:
            assert "geheim" not in of_section(option, word)[1]


def test_what_is_shown_of_a_word() -> None:
    assert values.shown("a|\n\udcff") == r"a\174\012\377"
    assert len(values.shown("x" * 5000)) <= 120
    assert values.shown("password=" + 2000 * "geheim") == "password=" + text.MASK.decode()
    assert os.fsencode(values.shown("ü")) == "ü".encode()
