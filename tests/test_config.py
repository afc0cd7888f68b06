"""Configuration files: what each key means, what is refused and in which words, whose files are
trusted."""

from __future__ import annotations

import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from check_mounts.judging.policy import Policy
from check_mounts.judging.thresholds import Range, parse_capacity
from check_mounts.model import Condition, ExpectedMount, State
from check_mounts.options import command_line, config, config_text, extra_opts, trusted_file, values
from check_mounts.options.configuration import Configuration, MountSection, Overrides, Said
from check_mounts.options.option_table import ADDED_UP, BY_NAME, MOUNT_KEYS
from check_mounts.options.refusals import ConfigError, Origin
from check_mounts.passive import Settings
from check_mounts.selection import PathGlob, compile_glob, normalised
from tests.conftest import PYTHON, ROOT
from tests.test_manual import agree

MANUAL = (ROOT / "man/check_mounts.conf.5").read_text()


def _parsed(*lines: str) -> Configuration:
    return config_text.parse("\n".join(lines).encode(), "/f")


def _mount(*lines: str) -> MountSection:
    (section,) = _parsed('[mount "/m"]', *lines).sections
    return section


def _said(*lines: str) -> Overrides:
    return _mount(*lines).overrides


def _told(said: Sequence[Said]) -> dict[str, object]:
    """The values of the options that are given, by name; of patterns, what was written."""
    values = command_line.with_defaults(*({line.option.dest: line.value} for line in said))
    return {line.option.name: _written(getattr(values, line.option.dest)) for line in said}


def _written(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_written(each) for each in value]
    return value._as_written.pattern if isinstance(value, PathGlob) else getattr(value, "pattern", value)


def _pattern(glob: bytes) -> bytes:
    return compile_glob(glob).pattern


def _options(*lines: str) -> dict[str, object]:
    return _told(_parsed("[check_mounts]", *lines).options)


def _refusal(content: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        config_text.parse(content, "/f")
    return str(caught.value)


# --- the section [check_mounts]


def test_options_and_their_origins() -> None:
    found = _parsed(
        "# a comment",
        "",
        "[check_mounts]",
        "timeout = 4",
        "  exclude=/a b ",
        "\texclude\t=\t/-c",
        "; another",
        "remote = yes",
    )
    assert [(str(line.origin), line.option.name) for line in found.options] == [
        ("/f line 4", "timeout"),
        ("/f line 5", "exclude"),
        ("/f line 6", "exclude"),
        ("/f line 8", "remote"),
    ]
    assert _told(found.options) == {
        "timeout": 4.0,
        "exclude": [_pattern(b"/a b"), _pattern(b"/-c")],
        "remote": True,
    }


@pytest.mark.parametrize("word", ["yes", "true", "on", "1", "YES", "On"])
def test_a_flag_is_on(word: str) -> None:
    assert _options(f"remote = {word}") == {"remote": True}
    assert _said(f"ignore = {word}").ignore is True


@pytest.mark.parametrize("word", ["no", "false", "off", "0", "NO", "False"])
def test_a_flag_is_off(word: str) -> None:
    assert _options(f"remote = {word}") == {}
    assert _said(f"ignore = {word}").ignore is False


def test_a_repeatable_flag_is_counted() -> None:
    assert _options("verbose = 3") == {"verbose": 3}
    assert _options("verbose = yes") == {"verbose": 1}
    assert _options("verbose = 0") == _options("verbose = no") == {}


def test_several_values_on_one_line_only_where_no_value_has_a_comma() -> None:
    severities = [[Condition.DEAD, State.OK], [Condition.DENIED, State.WARNING]]
    assert _options("severity = dead=ok , denied=warning") == {"severity": severities}
    assert _options("exclude-type = ext4, xfs") == {"exclude-type": [_pattern(b"ext4"), _pattern(b"xfs")]}
    assert _options("exclude = /a,b") == {"exclude": [_pattern(b"/a,b")]}


def test_the_command_line_comes_after_the_files() -> None:
    lines = ("timeout = 4", "exclude = /-x", 'exclude = "/ "', "severity = dead=ok", "verbose = 2", "as = self")
    said = _parsed("[check_mounts]", *lines).options
    given = command_line.given(["--timeout", "7", "-v", "-x", "/y"])
    values = command_line.with_defaults(*({line.option.dest: line.value} for line in said), given)
    assert (values.timeout, len(values.exclude), values.verbose, values.identity) == (7.0, 3, 3, "self")
    assert values.severity == [(Condition.DEAD, State.OK)]
    assert values.max_workers == 1024


def test_bytes_become_what_python_makes_of_arguments() -> None:
    found = config_text.parse(b"[check_mounts]\nexclude = /\xff\xfe|\x01\nstate-dir = /\xff\x01", "/f").options
    assert _told(found)["exclude"] == [_pattern(b"/\xff\xfe|\x01")]
    assert os.fsencode(str(_told(found)["state-dir"])) == b"/\xff\x01"


def test_the_section_may_occur_twice() -> None:
    found = _parsed("[check_mounts]", "timeout = 4", '[mount "/m"]', "[check_mounts]", "timeout = 5")
    assert [line.value for line in found.options] == [4.0, 5.0]


# --- the format


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (b"a b", b"a b"),
        (b'" a b\t"', b" a b\t"),
        (rb'"\"\\"', b'"\\'),
        (rb'a"b\c', rb'a"b\c'),
        (b"a # b ; c", b"a # b ; c"),
        (b"a = b", b"a = b"),
        (b"\xff\x01\v\f", b"\xff\x01\v\f"),
        (b'"\xff]"', b"\xff]"),
    ],
)
def test_values(written: bytes, meant: bytes) -> None:
    for end in (b"", b"\n", b"\r\n", b" \t\r\n"):
        found = config_text.parse(b'[mount "/m"]\nsource = ' + written + end, "/f")
        assert found.for_mount(b"/m").source == meant


def test_a_byte_order_mark_and_carriage_returns() -> None:
    found = config_text.parse(
        b'\xef\xbb\xbf[check_mounts]\r\ntimeout = 4\r\n\r\n[mount "/m"]\r\nignore = yes\r\n', "/f"
    )
    assert found.options[0].value == 4.0
    assert found.for_mount(b"/m").ignore


def test_blanks_within_brackets() -> None:
    assert config_text.parse(b'  [ check_mounts ]\n[\tmount \t"/m"\t]\n [mount"/n"]', "/f").sections[1].path == b"/n"


def test_nothing() -> None:
    for content in (b"", b"\n", b"# [x]\n;y", b"\xef\xbb\xbf", b"\r\n"):
        assert config_text.parse(content, "/f") == Configuration()
    assert Configuration().for_mount(b"/m") == Overrides()
    assert Configuration().declared(b"/m") is None
    assert Configuration().expected() == []


CONDITIONS = ", ".join(condition.value for condition in Condition)
M = b'[mount "/m"]\n'
C = b"[check_mounts]\n"
CAPACITY = "is not a range of the percentage in use or of the free amount"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"timeout = 1", "1: key 'timeout' stands before the first section"),
        (b"\n[mounts]", "2: unknown section [mounts]; the nearest is 'mount'"),
        (b"[Check_Mounts]", "1: unknown section [Check_Mounts]; the nearest is 'check_mounts'"),
        (b"[]", "1: unknown section []"),
        (b"[check_mounts x]", "1: unknown section [check_mounts ...]; the nearest is 'check_mounts'"),
        (b"[check_mounts", "1: '[check_mounts' does not end with ']'"),
        (b"[check_mounts] # x", "1: '[check_mounts ...' does not end with ']'"),
        (b"[ check_mounts \t", "1: '[check_mounts' does not end with ']'"),
        (b"[\xff x]", "1: unknown section [...]"),
        (b'[mount "/m"] # x', "1: '[mount \"/m\"] # x' does not end with ']'"),
        (b"[mount]", '1: [mount] must be written [mount "PATTERN"]'),
        (b"[mount /home]", '1: [mount /home] must be written [mount "PATTERN"]'),
        (b'[mount "/home]', '1: [mount "/home]: the quote is not closed'),
        (b'[mount "/home" x]', '1: [mount "/home" x]: something follows the closing quote'),
        (b'[mount ""]', "1: [mount \"\"]: it must begin with '/' or a pattern character"),
        (b'[mount "home"]', "1: [mount \"home\"]: it must begin with '/' or a pattern character"),
        (
            b'[mount "/[a"]',
            "1: [mount \"/[a\"]: '/[a' is not a pattern: a '[' is not closed (write '[[]' for the character itself)",
        ),
        (C + b"timeot = 1", "2: unknown key 'timeot' in [check_mounts]; the nearest is 'timeout'"),
        (C + b"versio = 1", "2: unknown key 'versio' in [check_mounts]"),
        (C + b"hel = 1", "2: unknown key 'hel' in [check_mounts]"),
        (C + b"zzz = 1", "2: unknown key 'zzz' in [check_mounts]"),
        (C + b"Timeout = 1", "2: unknown key 'Timeout' in [check_mounts]; the nearest is 'timeout'"),
        (M + b"timeot = 1", "2: unknown key 'timeot' in [mount \"/m\"]; the nearest is 'timeout'"),
        (M + b"remote = yes", "2: unknown key 'remote' in [mount \"/m\"]"),
        (C + b"help = yes", "2: 'help' is allowed on the command line only"),
        (C + b"version = yes", "2: 'version' is allowed on the command line only"),
        (C + b"config = /x", "2: 'config' is allowed on the command line only"),
        (C + b"extra-opts = x", "2: 'extra-opts' is allowed on the command line only"),
        (C + b"timeout = 1\n\ntimeout = 2", "4: duplicate key 'timeout' in [check_mounts], first on line 2"),
        (C + b"remote = 1\nremote = 1", "3: duplicate key 'remote' in [check_mounts], first on line 2"),
        (M + b"timeout = 1\ntimeout = 2", "3: duplicate key 'timeout' in [mount \"/m\"], first on line 2"),
        (C + b"remote", "2: 'remote' is neither a section nor a comment, and has no '='"),
        (M + b"timeout = 1\n continued", "3: 'continued' is neither a section nor a comment, and has no '='"),
        (C + b"= 1", "2: '' is not a key"),
        (C + b"--timeout = 1", "2: '--timeout' is not a key"),
        (C + b"time out = 1", "2: 'time ...' is not a key"),
        (C + b"a|\x1b = 1", "2: 'a ...' is not a key"),
        (M + b"a|\x1b = 1", r"2: 'a\174\033' is not a key"),
        (M + b"two words", "2: 'two words' is neither a section nor a comment, and has no '='"),
        (M + b"source = a\0b", "2: the line holds a NUL byte"),
        (b"# \0", "1: the line holds a NUL byte"),
        (M + b'source = "a', "2: source: the quote is not closed"),
        (M + b'source = "', "2: source: the quote is not closed"),
        (M + rb'source = "a\"', "2: source: the quote is not closed"),
        (M + b'source = "a\\', "2: source: the quote is not closed"),
        (M + rb'source = "a\b"', "2: source: within quotes, a backslash must be written twice"),
        (M + b'source = "a" # b', "2: source: something follows the closing quote"),
        (C + b"remote = maybe", "2: remote: 'maybe' is neither yes nor no"),
        (C + b"remote =", "2: remote: '' is neither yes nor no"),
        (C + b"verbose = 10", "2: verbose: '10' is not a number from 0 to 9"),
        (C + b"verbose = \xb2", r"2: verbose: '\262' is not a number from 0 to 9"),
        (C + b"severity = a,,b", "2: severity: 'a,,b' has an empty part"),
        (M + b"timeout = abc", "2: timeout: 'abc' is not a positive number of seconds"),
        (M + b"timeout = 0", "2: timeout: '0' is not a positive number of seconds"),
        (M + b"timeout = -1", "2: timeout: '-1' is not a positive number of seconds"),
        (M + b"timeout = nan", "2: timeout: 'nan' is not a positive number of seconds"),
        (M + b"timeout = 1e3", "2: timeout: '1e3' is not a positive number of seconds"),
        (
            M + b"timeout = " + b"9" * 400,
            "2: timeout: '" + "9" * 58 + "..." + "9" * 59 + "' is more than a year",
        ),
        (M + b"timeout = 5 # fast", "2: timeout: '5 # fast' is not a positive number of seconds"),
        (M + b"timeout =", "2: timeout: '' is not a positive number of seconds"),
        (M + b"severity = dead", "2: severity: 'dead' is not CONDITION=STATE"),
        (M + b"severity =", "2: severity: the value is empty"),
        (M + b"severity = gone=ok", f"2: severity: 'gone=ok': the conditions are {CONDITIONS}"),
        (M + b"severity = dead=bad", "2: severity: 'dead=bad': the states are ok, warning, critical, unknown"),
        (M + b"warning = x", "2: warning: 'x' is not a range: 'x' is not a number"),
        (M + b"critical = 2:1", "2: critical: '2:1' is not a range: its start is greater than its end"),
        (M + b"warning = \\|", r"2: warning: '\134\174' is not a range: '\134\174' is not a number"),
        (M + b"usage-warning = 101", f"2: usage-warning: '101' {CAPACITY}: more than 100 % is impossible"),
        (M + b"usage-critical =", f"2: usage-critical: '' {CAPACITY}: it is empty"),
        (
            M + b"inodes-warning = 1G:50%",
            f"2: inodes-warning: '1G:50%' {CAPACITY}: either all or none of its numbers must have a unit",
        ),
        (M + b"inodes-critical = 2:1", f"2: inodes-critical: '2:1' {CAPACITY}: its start is greater than its end"),
        (M + b"source =", "2: source: the value is empty"),
        (M + b'type = ""', "2: type: the value is empty"),
        (M + b"options = a,", "2: options: 'a,' has an empty part"),
        (M + b"expect-ro = x", "2: expect-ro: 'x' is neither yes nor no"),
        (M + b"write = x", "2: write: 'x' is neither yes nor no"),
        (M + b"ignore = x", "2: ignore: 'x' is neither yes nor no"),
        (M + b"expect = x", "2: expect: 'x' is neither yes nor no"),
        (M + b"as =", "2: as: the value is empty"),
        (
            M + b"ignore-option = a, [",
            "2: ignore-option: '[' is not a pattern: a '[' is not closed (write '[[]' for the character itself)",
        ),
        (M + b"ignore-option = " + b"x" * 4097, "2: ignore-option: a pattern of more than 4096 bytes"),
        (b'[mount "/*"]\nexpect = yes', '2: expect: [mount "/*"] does not name a single path'),
        (b'[mount "/m\xff|\n"]', "1: '[mount \"/m\\377\\174' does not end with ']'"),
    ],
)
def test_refusals(content: bytes, words: str) -> None:
    assert _refusal(content) == f"/f line {words}"
    assert _refusal(content.replace(b"\n", b"\r\n")) == f"/f line {words}"


NOT_SHOWN = "this line is not 'KEY = VALUE', or its quotes are wrong (it is not shown, because it may hold a secret)"
SUBMIT = b'[submit "icinga2:https://h"]\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[submit "icinga2:https://root:geheim@127.0.0.1:1"', "1: '[submit ...' does not end with ']'"),
        (b'[submit "icinga2:https://root:geheim@127.0.0.1:1"] # x', "1: '[submit ...' does not end with ']'"),
        (b"[submit icinga2:https://root:geheim@127.0.0.1:1]", '1: [submit ...] must be written [submit "DESTINATION"]'),
        (b'[submit "icinga2:https://root:geheim@127.0.0.1:1]', "1: [submit ...]: the quote is not closed"),
        (b'[submit "nrdp:https://127.0.0.1:1/" token=geheim]', "1: [submit ...]: something follows the closing quote"),
        (b'[Submit "nrdp:https://127.0.0.1:1/?token=geheim"]',
         "1: unknown section [Submit ...]; the nearest is 'submit'"),
        (b'[submits "nrdp:https://u:geheim@h/"]', "1: unknown section [submits ...]; the nearest is 'submit'"),
        (b"[submit:nrdp:https://u:geheim@h/]", "1: unknown section [submit ...]; the nearest is 'submit'"),
        (b'["nrdp:https://u:geheim@h/"]', "1: unknown section [...]"),
        (b'[submit "nrdp-https//u:geheim@h/"]\nzzz = 1', '2: unknown key \'zzz\' in [submit "nrdp-https:..."]'),
        (C + b"submit nrdp:https://u:geheim@127.0.0.1:1/", f"2: {NOT_SHOWN}"),
        (C + b"submit nrdp:https://h/?token=geheim", f"2: {NOT_SHOWN}"),
        (C + b"Submit: nrdp:https://u:geheim@h/", f"2: {NOT_SHOWN}"),
        (C + b"sumbit nrdp:https://u:geheim@h/", "2: 'sumbit ...' is neither a section nor a comment, and has no '='"),
        (C + b"sumbit nrdp:https://h/?token=geheim", "2: 'sumbit ...' is not a key"),
        (C + b'sumbit = "nrdp:https://h/"?token=geheim', "2: sumbit: something follows the closing quote"),
        (M + b"submit nrdp:https://u:geheim@h/", f"2: {NOT_SHOWN}"),
        (b"sumbit nrdp:https://u:geheim@h/", "1: 'sumbit ...' is neither a section nor a comment, and has no '='"),
        (SUBMIT + b"pasword: geheim", f"2: {NOT_SHOWN}"),
        (SUBMIT + b"pasword geheim = x", f"2: {NOT_SHOWN}"),
        (SUBMIT + b'pasword = "x"geheim', f"2: {NOT_SHOWN}"),
        (SUBMIT + b"password =\n  geheim", f"3: {NOT_SHOWN}"),
    ],
)  # fmt: skip
def test_secrets_in_lines_that_are_none_are_not_shown(content: bytes, words: str) -> None:
    assert _refusal(content) == f"/f line {words}"


@pytest.mark.parametrize("key", config_text.SUBMIT_KEYS)
@pytest.mark.parametrize("value", [b"geheim", b"geheim/geheim=", b"", b'""', b'"geheim"', b"geheim\xff", b"no geheim"])
def test_no_value_of_a_submit_section_is_shown(key: str, value: bytes) -> None:
    content = SUBMIT + key.encode() + b" = " + value
    is_empty = not value.strip(b'"')
    if key in ("user", "password", "token") and not is_empty:
        config_text.parse(content, "/f")
        return
    wanted = "yes or no" if key == "verify" else "an absolute path"
    not_shown = f"this is not {wanted} (it is not shown, because it may hold a secret)"
    assert _refusal(content) == f"/f line 2: {key}: {'the value is empty' if is_empty else not_shown}"


# --- the sections [submit]


def test_later_sections_of_one_destination_win_key_by_key() -> None:
    x, y = '[submit "nrdp:https://h/"]', '[submit "nrdp:https://i/"]'
    found = _parsed(x, "token = a", "ca = /a", "verify = yes", y, "token = b", x, "token = c", "verify = no", x)
    first, second = found.destinations
    assert (first.destination, first.settings) == ("nrdp:https://h/", Settings(token="c", ca="/a", verify=False))
    assert (second.destination, second.settings) == ("nrdp:https://i/", Settings(token="b"))
    assert first.origins == {"token": Origin("/f", 8), "ca": Origin("/f", 3), "verify": Origin("/f", 9)}
    assert (first.origin, second.origin) == (Origin("/f", 10), Origin("/f", 5))
    assert "duplicate key 'token' in [submit \"nrdp:...\"], first on line 2" in _refusal(
        f"{x}\ntoken = a\ntoken = b".encode()
    )


def test_the_first_of_several_errors_is_reported() -> None:
    assert _refusal(M + b"timeout = x\n[nonsense]").startswith("/f line 2: timeout")


_MARKS = b'[ ] " \\ = , : @ ~ # yes 5 90% 10GiB \xff dead=ok'.split(b" ")
_PIECES = [b"[check_mounts]", b'[mount "/m"]', b'[mount "/*"]', b"\n", b"\r", b"\0", b" ", *_MARKS]
_PIECES += [key.encode() for key in [*MOUNT_KEYS, *BY_NAME]]


@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)))
@example(b'[mount "/[[a]"]')
@example(b'[mount "/[a&&b]"]')
@example(b"[check_mounts]\n" + b"k" * 100_000 + b"=1")
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = config_text.parse(content, "/f")
        except ConfigError as error:
            assert str(error).isprintable()
            assert "|" not in str(error)
            assert re.match(r"/f line [0-9]+: ", str(error))
            assert len(str(error)) < 1000
        else:
            found.expected()
            found.for_mount(b"/m")


@given(st.binary(min_size=1).filter(lambda value: b"\0" not in value and b"\n" not in value))
def test_every_value_can_be_written(value: bytes) -> None:
    quoted = b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    found = config_text.parse(M + b"source = " + quoted + b"\r\n", "/f")
    assert found.for_mount(b"/m").source == value


@given(st.binary().filter(lambda value: b"\0" not in value and b"\n" not in value))
def test_every_mount_point_can_be_named(name: bytes) -> None:
    path = normalised(b"/" + name)
    glob = re.sub(rb"[*?[]", rb"[\g<0>]", path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    if len(path) < 1000:
        found = config_text.parse(b'[mount "' + glob + b'"]\nexpect = yes', "/f")
        assert [expected.mount_point for expected in found.expected()] == [path]


# --- the keys of [mount]


def test_numbers_and_ranges() -> None:
    assert _said("timeout = 2.5").timeout == 2.5
    assert _said("warning = 0.5").limits["warning"] == Range.parse("0.5")
    assert _said("critical = @1:2").limits["critical"] == Range.parse("@1:2")


@pytest.mark.parametrize("key", ["usage-warning", "usage-critical", "inodes-warning", "inodes-critical"])
def test_capacities(key: str) -> None:
    said = _said(f"{key} = 10GiB:")
    assert said.limits == {key.replace("-", "_"): parse_capacity("10GiB:")}


def test_severities() -> None:
    said = _said("severity = denied=ok, Timed_Out=Warning", "severity = dead = unknown")
    assert said.severity == {
        Condition.DENIED: State.OK,
        Condition.TIMED_OUT: State.WARNING,
        Condition.DEAD: State.UNKNOWN,
    }


def test_flags() -> None:
    assert (_said("expect-ro = yes").expect_ro, _said("expect-ro = no").expect_ro, _said().expect_ro) == (
        True,
        False,
        None,
    )
    assert (_said("write = yes").write, _said("write = no").write, _said().write) == (True, False, None)
    assert (_said("ignore = yes").ignore, _said("ignore = no").ignore, _said().ignore) == (True, False, None)


def test_users() -> None:
    found = _parsed(
        '[mount "/a"]',
        "as = owner",
        '[mount "/b"]',
        "as = nobody",
        '[mount "/c"]',
        "",
        "as = nobody",
        '[mount "/d"]',
        "as = self",
    )
    assert found.for_mount(b"/a").identity == "owner"
    assert found.for_mount(b"/b").identity == "nobody"
    assert found.identities() == {"nobody": Origin("/f", 4)}


def test_lists() -> None:
    said = _said("options = rw, noexec", "options = nodev", "ignore-option = addr=*, x", "ignore-option = y")
    assert said.options == (b"rw", b"noexec", b"nodev")
    assert said.ignore_option is not None
    assert [bool(glob.match(b"addr=1.2.3.4")) for glob in said.ignore_option] == [True, False, False]


def test_origins() -> None:
    section = _mount("", "timeout = 5", "options = a", "options = b")
    assert section.origin == Origin("/f", 1)
    assert section.origins == {"timeout": Origin("/f", 3), "options": Origin("/f", 4)}


@pytest.mark.parametrize(
    ("glob", "mount_point", "path"),
    [
        ("/m", b"/m", b"/m"),
        ("/m/", b"/m", b"/m"),
        ("/a//b/../m", b"/a/m", b"/a/m"),
        ("/", b"/", b"/"),
        ("//", b"/", b"/"),
        ("/[[]x]", b"/[x]", b"/[x]"),
        ("/[*][?]", b"/*?", b"/*?"),
        ("/x]", b"/x]", b"/x]"),
        ("/*", b"/a/b", None),
        ("/*/", b"/a/b", None),
        ("*", b"/", None),
        ("?m", b"/m", None),
        ("[/]m", b"/m", None),
        ("/[ab]", b"/b", None),
        (r"/\\*", b"/\\x", None),
        (r"/\"q\"", b'/"q"', b'/"q"'),
    ],
)
def test_which_mounts_a_section_is_about(glob: str, mount_point: bytes, path: Optional[bytes]) -> None:
    found = _parsed(f'[mount "{glob}"]', "ignore = yes")
    assert found.sections[0].path == path
    assert found.for_mount(mount_point).ignore
    assert glob == "*" or found.for_mount(b"/else/where"[: 10 if path else 0]) == Overrides()


def test_later_sections_win_key_by_key() -> None:
    found = _parsed(
        '[mount "/home/*"]', "timeout = 8", "severity = dead=ok, denied=ok", "write = yes", "options = a",
        '[mount "/home/guest"]', "timeout = 3", "severity = dead=warning", "write = no", "options = b",
        '[mount "*"]', "timeout = 2",
    )  # fmt: skip
    guest, other = found.for_mount(b"/home/guest"), found.for_mount(b"/home/x")
    assert (guest.timeout, other.timeout, found.for_mount(b"/").timeout) == (2.0, 2.0, 2.0)
    assert guest.severity == {Condition.DEAD: State.WARNING, Condition.DENIED: State.OK}
    assert other.severity == {Condition.DEAD: State.OK, Condition.DENIED: State.OK}
    assert (guest.write, other.write) == (False, True)
    assert (guest.options, other.options) == ((b"b",), (b"a",))
    assert found.for_mount(b"/home/guest") is guest


def test_a_policy_for_one_mount() -> None:
    general = Policy({Condition.DEAD: State.OK, Condition.DENIED: State.OK}, Range.parse("1"), Range.parse("2"))
    assert _said().policy(general) == general
    special = _said("warning = 3", "severity = dead=warning", "usage-warning = 90", "inodes-critical = 1K:").policy(
        general
    )
    assert special == Policy(
        {Condition.DEAD: State.WARNING, Condition.DENIED: State.OK},
        Range.parse("3"),
        Range.parse("2"),
        usage_warning=parse_capacity("90"),
        inodes_critical=parse_capacity("1K:"),
    )


# --- what should be mounted


def test_what_is_expected() -> None:
    found = _parsed(
        '[mount "/a"]', "expect = yes", '[mount "/b"]', "expect = yes", "source = s", "type = nfs4",
        "options = rw,hard",
        '[mount "/c"]', "source = t", '[mount "/d"]', "timeout = 1",
    )  # fmt: skip
    a = ExpectedMount(b"/a", None, None, (), "/f line 1")
    b = ExpectedMount(b"/b", b"s", b"nfs4", (b"rw", b"hard"), "/f line 3")
    c = ExpectedMount(b"/c", b"t", None, (), "/f line 8")
    assert found.expected() == [a, b]
    assert [found.declared(path) for path in (b"/a", b"/b", b"/c", b"/d", b"/e")] == [a, b, c, None, None]


def test_patterns_declare_what_paths_expect() -> None:
    found = _parsed(
        '[mount "/home/*"]', "type = nfs4", "source = f:/e", '[mount "/home/x"]', "expect = yes", "source = g:/e",
        '[mount "/home/*"]', "timeout = 3", '[mount "/home/y"]', "expect = yes", '[mount "/home/x"]', "write = yes",
    )  # fmt: skip
    assert found.expected() == [
        ExpectedMount(b"/home/x", b"g:/e", b"nfs4", (), "/f line 1, /f line 4"),
        ExpectedMount(b"/home/y", b"f:/e", b"nfs4", (), "/f line 1, /f line 9"),
    ]
    assert found.declared(b"/home/z") == ExpectedMount(b"/home/z", b"f:/e", b"nfs4", (), "/f line 1")


def test_what_is_no_longer_expected() -> None:
    found = _parsed(
        '[mount "/a"]',
        "expect = yes",
        '[mount "/b"]',
        "expect = yes",
        '[mount "/a*"]',
        "expect = no",
        '[mount "/b"]',
        "ignore = yes",
    )
    assert found.expected() == []
    assert found.declared(b"/a") is None


# --- capacities


@pytest.mark.parametrize(
    ("word", "kind", "start", "end", "inverted"),
    [
        ("90", "percent", 0, 90, False),
        ("90%", "percent", 0, 90, False),
        ("@10:20%", "percent", 10, 20, True),
        ("@10%:20%", "percent", 10, 20, True),
        ("~:99.5", "percent", -float("inf"), 99.5, False),
        ("0", "percent", 0, 0, False),
        ("10:", "percent", 10, float("inf"), False),
        ("10GiB:", "free", 10 << 30, float("inf"), False),
        ("500M:", "free", 500 << 20, float("inf"), False),
        ("500m:", "free", 500 << 20, float("inf"), False),
        ("1KB:", "free", 1000, float("inf"), False),
        ("1kib:", "free", 1024, float("inf"), False),
        ("1TB:", "free", 10**12, float("inf"), False),
        ("1.5P:", "free", 3 << 49, float("inf"), False),
        ("@0:500M", "free", 0, 500 << 20, True),
        ("@500M", "free", 0, 500 << 20, True),
        (":10G", "free", 0, 10 << 30, False),
        ("1M:2G", "free", 1 << 20, 2 << 30, False),
        ("~:2G", "free", -float("inf"), 2 << 30, False),
    ],
)
def test_capacity_ranges(word: str, kind: str, start: float, end: float, inverted: bool) -> None:
    found = parse_capacity(word)
    assert found.kind == kind
    assert found.range == Range(word, start, end, inverted)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "it is empty"),
        ("@", "it is empty"),
        (":", "it is empty"),
        ("x", "'x' is not a number, a percentage, or a number with one of K M G T P"),
        ("10 G:", "'10 G' is not a number, a percentage, or a number with one of K M G T P"),
        ("10X:", "'10X' is not a number, a percentage, or a number with one of K M G T P"),
        ("10\u212a:", "'10\u212a' is not a number, a percentage, or a number with one of K M G T P"),
        ("-5", "'-5' is not a number, a percentage, or a number with one of K M G T P"),
        ("nan", "'nan' is not a number, a percentage, or a number with one of K M G T P"),
        ("1:2:3", "'1:2' is not a number"),
        ("20:10", "its start is greater than its end"),
        ("2G:1G", "its start is greater than its end"),
        ("1:2G", "either all or none of its numbers must have a unit"),
        ("1%:2G", "either all or none of its numbers must have a unit"),
        ("0%:2G", "either all or none of its numbers must have a unit"),
        ("101", "more than 100 % is impossible"),
        ("900%", "more than 100 % is impossible"),
        ("10G", "it would alert when more is free; write '10G:' to alert when less is free"),
        ("9" * 400 + "G:", "the number is too great"),
    ],
)
def test_bad_capacities(word: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_capacity(word)
    assert str(caught.value).replace(".0", "") == reason


@given(st.text())
def test_no_word_raises_anything_else(word: str) -> None:
    try:
        parse_capacity(word)
    except ValueError:
        pass


def test_alerts() -> None:
    # df(1): 100 blocks, 5 of them kept for root, 86 in use: 86 / 95 = 90.5 %
    assert parse_capacity("90").alerts(used=86, available=9)
    assert not parse_capacity("90.6").alerts(used=86, available=9)
    assert parse_capacity("@50%:100").alerts(used=1, available=1)
    assert parse_capacity("1K:").alerts(used=10**9, available=1023)
    assert not parse_capacity("1K:").alerts(used=0, available=1024)
    assert parse_capacity("0").alerts(used=1, available=0)
    assert parse_capacity("90").measure(used=1, available=0) == 100.0


@pytest.mark.parametrize("word", ["90", "@0:100", "1K:", "@0:1K"])
def test_what_has_no_capacity_never_alerts(word: str) -> None:
    assert not parse_capacity(word).alerts(used=0, available=0)


# --- the file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_text("[check_mounts]\ntimeout = 4\n")
    path.chmod(0o644)
    return path


def _unreadable(path: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config.read(str(path), optional=True)
    with pytest.raises(ConfigError) as again:
        config.read(str(path))
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def test_a_file(file: Path) -> None:
    found = config.read(str(file))
    assert [(str(line.origin), line.value) for line in found.options] == [(f"{file} line 2", 4.0)]


def test_a_symbolic_link(file: Path) -> None:
    (file.parent / "link").symlink_to(file)
    assert config.read(str(file.parent / "link")).options


def test_a_missing_file(tmp_path: Path) -> None:
    assert config.read(str(tmp_path / "none"), optional=True) == Configuration()
    with pytest.raises(ConfigError) as caught:
        config.read(str(tmp_path / "none"))
    assert str(caught.value) == f"{tmp_path}/none: No such file or directory"


def test_names_are_escaped(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff|\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert str(caught.value) == f"{tmp_path}/\\377\\174\\012: No such file or directory"


def test_what_is_no_file(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert _unreadable(tmp_path) == f"{tmp_path}: it is a directory"
    assert _unreadable(tmp_path / "fifo") == f"{tmp_path}/fifo: not a regular file"
    assert _unreadable("/dev/zero") == "/dev/zero: not a regular file"
    assert _unreadable(f"{tmp_path}/fifo/x") == f"{tmp_path}/fifo/x: Not a directory"
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_large_file(file: Path) -> None:
    file.write_bytes(b"#" * trusted_file.MAX_SIZE)
    assert config.read(str(file)) == Configuration()
    file.write_bytes(b"#" * (trusted_file.MAX_SIZE + 1))
    assert _unreadable(file) == f"{file}: larger than 1 MiB"


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602, 0o620])
def test_a_file_that_others_can_write(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert _unreadable(file) == f"{file}: refused, because not only its owner can write to it (mode {mode:04o})"


@pytest.mark.root
def test_a_file_of_somebody_else(file: Path) -> None:
    os.chown(file, 65534, 0)
    assert _unreadable(file) == f"{file}: refused, because it belongs to uid 65534, neither root nor the caller"
    os.chown(file, 0, 65534)
    assert config.read(str(file)).options


@pytest.mark.root
def test_users_have_files_of_their_own_and_those_of_root(public: Path) -> None:
    own, roots, closed = public / "own", public / "roots", public / "closed"
    for path in (own, roots, closed):
        path.write_text("[check_mounts]\ntimeout = 4\n")
        path.chmod(0o600 if path is not roots else 0o644)
    os.chown(own, 65534, 65534)
    script = "import sys; from check_mounts.options import config\nprint(len(config.read(sys.argv[1]).options))"

    def read(path: Path) -> tuple[str, str]:
        command = [PYTHON, "-B", "-c", script, str(path)]
        done = subprocess.run(
            command, cwd=public, user=65534, group=65534, extra_groups=[], capture_output=True, text=True
        )
        return done.stdout.strip(), done.stderr.strip().rpartition("\n")[2]

    assert read(own) == ("1", "")
    assert read(roots) == ("1", "")
    assert read(closed) == ("", f"check_mounts.options.refusals.Unreadable: {closed}: Permission denied")


# --- --extra-opts

INI = """# foreign
[check_disk]
this is not even a key
[check_mounts]
timeout=4
 exclude = /a "b"\x20
exclude=/c#d
remote=
v=
; comment
[ more ]
t = 2
[check_mounts]
perfdata=none
[empty]
"""


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "plugins.ini"
    path.write_text(INI)
    path.chmod(0o644)
    return path


OPTIONS = {
    "timeout": 4.0,
    "exclude": [_pattern(b'/a "b"'), _pattern(b"/c#d")],
    "remote": 1,
    "verbose": 1,
    "perfdata": "none",
}


def _extra(spec: str, environment: Optional[dict[str, str]] = None) -> dict[str, object]:
    return _told(extra_opts.read(spec, environment or {}))


def _extra_refusal(spec: str, environment: Optional[dict[str, str]] = None) -> str:
    with pytest.raises(ConfigError) as caught:
        extra_opts.read(spec, environment or {})
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_extra_options(ini: Path) -> None:
    assert _extra(f"@{ini}") == OPTIONS
    assert _extra(f"check_mounts@{ini}") == OPTIONS
    assert _extra(f"more@{ini}") == {"timeout": 2.0}
    assert _extra(f"empty@{ini}") == {}
    assert str(extra_opts.read(f"@{ini}", {})[2].origin) == f"{ini} line 7"


def test_where_extra_options_are_looked_for(ini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_opts, "PATHS", (str(tmp_path / "none"), str(tmp_path / "fixed")))
    nowhere = "--extra-opts: none of the usual places has a file monitoring-plugins.ini or plugins.ini"
    assert _extra_refusal("") == nowhere
    assert _extra_refusal("", {"NAGIOS_CONFIG_PATH": f":{tmp_path}/no::"}) == nowhere
    (tmp_path / "fixed").write_text("[check_mounts]\ntimeout=1\n")
    assert _extra("") == {"timeout": 1.0}
    search = {"NAGIOS_CONFIG_PATH": f"/nowhere:{tmp_path}"}
    assert _extra("", search) == OPTIONS
    (tmp_path / "monitoring-plugins.ini").write_text("[check_mounts]\ntimeout=2\n")
    assert _extra("", search) == {"timeout": 2.0}
    assert _extra("more", {**search, "MP_CONFIG_FILE": str(ini)}) == {"timeout": 2.0}


def test_the_usual_places_are_those_of_the_man_page() -> None:
    part = re.search(r"in this order:\n\.PP\n\.EX\n(.*?)\.EE", _plain(MANUAL), re.DOTALL)
    assert part is not None
    assert part[1].split() == list(extra_opts.PATHS)


def test_bad_extra_options(ini: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ini"

    def refused(content: bytes) -> str:
        bad.write_bytes(content)
        return _extra_refusal(f"@{bad}")

    assert _extra_refusal(f"more|@{ini}") == f"--extra-opts: {ini} has no section [more\\174]; the nearest is 'more'"
    assert _extra_refusal(f"@{tmp_path}/none") == f"--extra-opts: {tmp_path}/none: No such file or directory"
    assert _extra_refusal("@") == "--extra-opts: the '@' must be followed by a file"
    assert _extra_refusal(f"@{tmp_path}") == f"--extra-opts: {tmp_path}: it is a directory"
    assert (
        _extra_refusal("", {"MP_CONFIG_FILE": f"{tmp_path}/none"})
        == f"--extra-opts: {tmp_path}/none: No such file or directory"
    )
    assert refused(b"timeout=1") == f"{bad} line 1: 'timeout ...' stands before the first section"
    assert (
        refused(b"[check_mounts]\nremote")
        == f"{bad} line 2: 'remote' has no '=' (an option without value is written 'remote=')"
    )
    assert refused(b"[check_mounts]\n--remote=") == f"{bad} line 2: '--remote' is not a key"
    assert refused(b"[check_mounts]\nextra-opts=x") == f"{bad} line 2: 'extra-opts' is allowed on the command line only"
    assert refused(b"[check_mounts]\npassword geheim") == f"{bad} line 2: 'password ...' is not a key"
    assert refused(b"password=geheim") == f"{bad} line 1: 'password ...' stands before the first section"
    assert refused(b"[x]\n\0") == f"{bad} line 2: the line holds a NUL byte"
    ini.chmod(0o666)
    assert (
        _extra_refusal(f"@{ini}")
        == f"--extra-opts: {ini}: refused, because not only its owner can write to it (mode 0666)"
    )


@given(
    st.one_of(
        st.binary(max_size=200), st.lists(st.sampled_from([*_PIECES, b"[check_mounts]\n"]), max_size=20).map(b"".join)
    )
)
def test_no_extra_options_raise_anything_else(content: bytes) -> None:
    try:
        extra_opts.of_section(content, "/f", b"check_mounts")
    except ConfigError as error:
        assert str(error).isprintable()


# --- the man page


def _plain(roff: str) -> str:
    return roff.replace("\\-", "-").replace("\\(dq", '"').replace("\\(rs", "\\")


def test_the_man_page_knows_the_keys() -> None:
    mount, submit, rest = (
        MANUAL.index(title) for title in ('.SH "THE SECTIONS [mount', '.SH "THE SECTIONS [submit', ".SH CAPACITIES")
    )
    for part, keys in ((MANUAL[mount:submit], MOUNT_KEYS), (MANUAL[submit:rest], config_text.SUBMIT_KEYS)):
        entries = re.findall(r"^\.TP\n(\\fB.+)$", _plain(part), re.MULTILINE)
        said = {key for entry in entries for key in re.findall(r"\\fB([a-z-]+)\\fR = ", entry)}
        agree("man/check_mounts.conf.5", said, keys)


def test_the_man_page_says_what_can_be_repeated() -> None:
    entries = re.findall(r"^\.TP\n\\fB(.+?)\\fR = (.*?)(?=^\.TP|^\.S)", _plain(MANUAL), re.MULTILINE | re.DOTALL)
    repeatable = {key for key, words in entries if "\nRepeatable.\n" in words}
    assert repeatable == ADDED_UP
    for key in MOUNT_KEYS:
        value = {"severity": "dead=ok", "type": "x"}.get(key) or ("yes" if MOUNT_KEYS[key] is values.boolean else "1")
        other = "retrans=5%" if key in ("warning", "critical") else value
        content = M + f"{key} = {value}\n{key} = {other}\n".encode()
        if key in repeatable:
            config_text.parse(content, "/f")
        else:
            assert "duplicate" in _refusal(content)


def test_the_example_of_the_man_page() -> None:
    part = re.search(r"^\.SH EXAMPLES\n\.EX\n(.*?)\.EE", MANUAL, re.MULTILINE | re.DOTALL)
    assert part is not None
    found = config_text.parse(_plain(part[1]).encode(), "/f")
    assert set(MOUNT_KEYS) == {key for section in found.sections for key in section.origins}
    assert [expected.source for expected in found.expected()] == [b"filer1:/export/data"]
    assert found.for_mount(b"/home/guest").ignore


@pytest.mark.parametrize(
    "command", [["groff", "-man", "-ww", "-Tutf8", "-z"], ["groff", "-man", "-ww", "-Tascii", "-z"]]
)
def test_the_man_page_is_well_formed(command: list[str]) -> None:
    done = subprocess.run([*command, str(ROOT / "man/check_mounts.conf.5")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


_NAMES = st.sampled_from(
    [b"/", b"/a", b"/a/b", b"/b", b"/a*", b"/*", b"/[*]", b"/[a]", b"/a/../b", b"/a/", b"/?", b"//a"]
)


@given(st.lists(_NAMES, max_size=6), st.sampled_from([b"/", b"/b", b"/x", b"/*"]))
@example([b"/a", b"/*"], b"/b")
def test_the_sections_that_match_are_found(globs: list[bytes], lead: bytes) -> None:
    """As if each section were tried, before and after the patterns know where they lead."""
    text = b"".join(b'[mount "%s"]\ntimeout = %d\n' % (glob, at + 1) for at, glob in enumerate(globs))
    found = config_text.parse(text, "/f")
    for _ in range(2):
        for point in (b"/", b"/a", b"/a/b", b"/b", b"/x", b"/*", b"/x/b", b"/*/b", b"/y"):
            assert found.matching(point) == [section for section in found.sections if section.matches(point)]
        found.follow(lambda name: lead if name == b"/a" else name)


def test_thousands_of_sections_are_not_tried_for_each_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config_text.parse(b"".join(b'[mount "/m%d"]\ntimeout = 1\n' % number for number in range(3000)), "/f")
    tried: list[bytes] = []
    match = MountSection.matches

    def matches(self: MountSection, point: bytes) -> bool:
        tried.append(point)
        return match(self, point)

    monkeypatch.setattr(MountSection, "matches", matches)
    assert all(found.for_mount(b"/m%d" % number).timeout == 1 for number in range(3000))
    assert len(tried) == 3000
