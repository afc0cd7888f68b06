"""Destinations of passive results: what is composed of hostile names, what is refused, servers that
do not behave."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import functools
import html
import itertools
import json
import os
import re
import select
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
import xml.etree.ElementTree as etree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.model import State
from check_mounts.passive import (
    Destination,
    Result,
    Settings,
    Undelivered,
    command_file,
    credentials,
    icinga2,
    nrdp,
    nsca,
    records,
    web,
)
from check_mounts.passive.address import parse_url
from check_mounts.passive.destinations import KINDS, destination
from check_mounts.passive.progress import Progress, unread
from check_mounts.report.parts import Detail, Failure, Number, Report, Worth
from tests.conftest import undelivered, until
from tests.reported import reported

PRINTED = (
    b"MOUNTS CRITICAL - 2 of 3 mounts failed: /srv/a timed out; /srv/\\012b dead | ok=1 'free on /a b'=2s;;;0\n"
    b"critical: /srv/a (nfs4) timed out\n"
    b"ok: /\n"
)
PERFDATA = ("ok=1", "'free on /a b'=2s;;;0")
NAGIOS = Settings(token="t0k3n")
USER = Settings(user="root", password="s3cr3t")


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """Who blocks for ever fails."""

    def too_long(*_: object) -> None:
        pytest.fail("blocked")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def result(**changes: object) -> Result:
    values: dict[str, object] = {
        "host": "client1", "service": "mounts", "report": reported(PRINTED, PERFDATA), "taken": 1700000000.5,
        "ttl": 120.0,
        "source": "client1.example.org",
    }  # fmt: skip
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def refused(where: Destination, results: Sequence[Result], seconds: float = 5.0) -> str:
    """What Undelivered says, in time."""
    words = str(undelivered(where, results, seconds))
    assert words.isprintable() and "|" not in words
    return words


def in_vain(words: str) -> str:
    """What was waited for, whatever time there was for it."""
    match = re.fullmatch(r"(.*) within [0-9.]+ s", words)
    assert match, words
    return match[1]


# --- what is written to the configuration


@pytest.mark.parametrize(
    ("word", "settings", "name"),
    [
        ("command-file:/run/icinga2/cmd/icinga2.cmd", Settings(), "command-file:/run/icinga2/cmd/icinga2.cmd"),
        ("command-file:/a\nb", Settings(), r"command-file:/a\012b"),
        ("nsca:monitor.example.org", Settings(), "nsca:monitor.example.org"),
        ("nsca:[::1]:5667", Settings(client="/usr/bin/send_nsca", client_config="/etc/x"), "nsca:[::1]:5667"),
        ("icinga2:https://master", USER, "icinga2:https://master:5665"),
        ("icinga2:https://master:5666/", Settings(certificate="/c"), "icinga2:https://master:5666"),
        ("nrdp:https://nagios/nrdp/", NAGIOS, "nrdp:https://nagios/nrdp/"),
        ("nrdp:http://localhost:8080/nrdp/", NAGIOS, "nrdp:http://localhost:8080/nrdp/"),
        ("nrdp:http://nagios/nrdp/", Settings(token="t", verify=False), "nrdp:http://nagios/nrdp/"),
    ],
)
def test_destinations(word: str, settings: Settings, name: str) -> None:
    found = destination(word, settings)
    assert found.name == name
    assert found.confirms == (not word.startswith(("command-file", "nsca")))


@pytest.mark.parametrize(
    ("word", "settings", "words"),
    [
        ("", Settings(), f"'' is not a destination; the destinations are {', '.join(map(str, KINDS))}"),
        ("https://u:s3cr3t@h", Settings(), "'https:...' is not a destination; "),
        ("nsca", Settings(), "'nsca' is not a destination; "),
        ("a\nb:s3cr3t", Settings(), r"'a\012b:...' is not a destination; "),
        ("command-file:nagios.cmd", Settings(), "command-file: the path must be absolute"),
        ("command-file:/a", Settings(token="s3cr3t"), "command-file: 'token' does not fit; settings that do: none"),
        ("nsca:", Settings(), "nsca: the host is missing"),
        ("nsca:::1", Settings(), "nsca: an IPv6 address belongs in brackets: [::1]"),
        ("nsca:[::1", Settings(), "nsca: the address in brackets is not an IPv6 address"),
        ("nsca:[-H]", Settings(), "nsca: the address in brackets is not an IPv6 address"),
        ("nsca:[::1]5667", Settings(), "nsca: the port is not a number from 1 to 65535"),
        ("nsca:h:0", Settings(), "nsca: the port is not a number from 1 to 65535"),
        ("nsca:h:65536", Settings(), "nsca: the port is not a number from 1 to 65535"),
        ("nsca:h:1e3", Settings(), "nsca: the port is not a number from 1 to 65535"),
        ("nsca:-c/etc/shadow", Settings(), "nsca: the host is neither a name nor an address"),
        ("nsca:a b", Settings(), "nsca: the host is neither a name nor an address"),
        ("nsca:a..b", Settings(), "nsca: the host is neither a name nor an address"),
        ("nsca:" + "a" * 64, Settings(), "nsca: the host is neither a name nor an address"),
        ("nsca:s3cr3t@h", Settings(),
         "nsca: a user or password is not allowed there: secrets belong in the configuration"),
        ("nsca:h", Settings(password="s3cr3t"),
         "nsca: 'password' does not fit; settings that do: client, client-config"),
        ("nsca:h", Settings(client="send_nsca"), "nsca: 'client' must be an absolute path"),
        ("nsca:h", Settings(client_config="x"), "nsca: 'client-config' must be an absolute path"),
        ("icinga2:master:5665", USER, "icinga2: the URL must begin with https:// or http://"),
        ("icinga2:http://master:5665", USER, "icinga2: the API of Icinga 2 needs https:"),
        ("icinga2:https://root:s3cr3t@master", Settings(),
         "icinga2: a user or password is not allowed there: secrets belong in the configuration"),
        ("icinga2:https://master/v1", USER, "icinga2: the URL must not have a path: https://HOST:5665"),
        ("icinga2:https://ma\nster", USER,
         "icinga2: a URL contains no blanks, no control characters, and only ASCII"),
        ("icinga2:https://master", Settings(), "icinga2: either 'user' and 'password' or 'certificate' is needed"),
        ("icinga2:https://master", Settings(user="root"), "icinga2: 'user' needs 'password'"),
        ("icinga2:https://master", Settings(password="s3cr3t"), "icinga2: 'password' needs 'user'"),
        ("icinga2:https://master", Settings(user="a:b", password="s3cr3t"),
         "icinga2: 'user' is empty or contains a colon"),
        ("icinga2:https://master", Settings(key="/k"), "icinga2: 'key' needs 'certificate'"),
        ("icinga2:https://master", Settings(certificate="c"), "icinga2: 'certificate' must be an absolute path"),
        ("icinga2:https://master", USER._replace(verify=False, ca="/c"),
         "icinga2: 'ca' makes no sense with 'verify = no'"),
        ("icinga2:https://master", USER._replace(token="s3cr3t"),
         "icinga2: 'token' does not fit; settings that do: ca, "),
        ("nrdp:https://h/nrdp/?token=s3cr3t", NAGIOS,
         "nrdp: a query or fragment is not allowed in the URL: secrets belong in the configuration"),
        ("nrdp:https://s3cr3t@h/nrdp/", NAGIOS,
         "nrdp: a user or password is not allowed there: secrets belong in the configuration"),
        ("nrdp:https://h/nrdp/", Settings(), "nrdp: 'token' is missing"),
        ("nrdp:ftp://h/nrdp/", NAGIOS, "nrdp: the URL must begin with https:// or http://"),
        ("nrdp:http://h/nrdp/", NAGIOS,
         "nrdp: with http:, everybody on the network path can read the token; 'verify = no' accepts that"),
        ("nrdp:http://127.evil.org/n/", NAGIOS,
         "nrdp: with http:, everybody on the network path can read the token; 'verify = no' accepts that"),
        ("nrdp:http://localhost/", NAGIOS._replace(ca="/c"), "nrdp: 'ca' needs https:"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_not_repeated(word: str, settings: Settings, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        destination(word, settings)
    assert str(caught.value).startswith(words)
    assert str(caught.value) == words or words.endswith((" ", "ca, "))
    assert "s3cr3t" not in str(caught.value) and str(caught.value).isprintable()


def test_secrets_are_not_in_the_repr_of_settings() -> None:
    assert "s3cr3t" not in repr(Settings(user="u", password="s3cr3t", token="s3cr3t"))


# --- what is composed. A mount point may hold any byte but NUL, and ends up in the name of a
# service and in the output.

# Everything that could end a field, a record or a line somewhere, and whole attacks.
POISON = st.sampled_from(
    [
        "\n", "\r", "\0", "\t", "\x17", ";", "|", " | ", "\\", "\\n", "\\\\", "!", "\x1b[2J", "\u2028", "\x85",
        "\udcff", "\ud800",
        "\u202e", "<", "&", "'", '"', "]]>", "\n[0] DISABLE_NOTIFICATIONS\n", "\x17host\tservice\t0\tfine\x17", "; ",
        "=", "ü",
    ]
)  # fmt: skip
WORDS = st.lists(st.one_of(POISON, st.text(max_size=8), st.text(st.characters(), max_size=4)), max_size=12).map("".join)


@given(st.sampled_from((*(kind.word for kind in KINDS), "")), WORDS)
def test_any_word_is_understood_or_refused_in_one_line(kind: str, rest: str) -> None:
    try:
        assert destination(f"{kind}:{rest}", Settings()).name.isprintable()
    except ValueError as error:
        assert str(error).isprintable()


LONG = st.tuples(WORDS, st.integers(1, 200)).map(lambda pair: pair[0] * pair[1])
REPORTS = st.builds(
    Report,
    state=st.sampled_from(State), headline=LONG, failures=st.lists(st.builds(Failure, LONG, st.integers(0, 9)),
     max_size=6),
    unnamed=st.integers(0, 99), perfdata=st.lists(st.builds(Number, WORDS, st.just(Worth.COUNT)), max_size=60),
    lines=st.lists(st.builds(Detail, LONG, st.just(Worth.REST), st.none() | st.integers()), max_size=9),
    mount_point=st.none(),
)  # fmt: skip
RESULTS = st.builds(
    Result,
    host=WORDS, service=WORDS, report=REPORTS, taken=st.floats(0, 2e9), ttl=st.none() | st.floats(-1, 1e6),
    source=WORDS,
)  # fmt: skip


def clean(line: bytes, allowed: str = "") -> str:
    """Valid UTF-8 without a character that anything would act on."""
    words = line.decode("utf-8")
    assert all(char.isprintable() or char in allowed for char in words)
    return words


def as_nagios_reads(text: str) -> str:
    """parse_check_output() of Nagios 4 undoes what escape_newlines() does."""
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n") for part in parts)


@given(RESULTS)
def test_a_result_is_one_command_with_its_five_fields(given_: Result) -> None:
    try:
        line = command_file.command(given_)
    except Undelivered:
        assert not given_.host.strip() or not given_.service.strip() or len(given_.host) + len(given_.service) > 100
        return
    assert line.endswith(b"\n") and len(line) <= select.PIPE_BUF
    head, host, service, state, text = clean(line[:-1]).split(";", 4)
    assert head == f"[{int(given_.taken)}] PROCESS_SERVICE_CHECK_RESULT"
    assert (host, service) == (records.name(given_.host, ";"), records.name(given_.service, ";"))
    assert state in ("0", "1", "2", "3")
    # Nagios and Icinga 2 see the same lines, and no backslash that is not one.
    assert as_nagios_reads(text) == text.replace("\\n", "\n")
    first = text.split("\\n")[0]
    assert first and first.count("|") <= 1


@given(st.lists(RESULTS, max_size=4))
def test_a_result_is_one_record_with_its_four_fields(given_: list[Result]) -> None:
    failures, data = nsca.compose(given_, ng=False)
    assert b"\0" not in data and len(failures) + data.count(b"\x17") == len(given_)
    for record in data.split(b"\x17")[:-1]:
        host, service, state, text = clean(record, "\t\n").split("\t")
        assert host.strip() and service.strip() and text.strip() and state in ("0", "1", "2", "3")
        assert not any(char in host + service for char in "\n;")
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
        assert len(host.encode()) <= 63 and len(service.encode()) <= 127 and len(escaped.encode()) <= 4095
        assert len(record) < 5120


@given(st.lists(RESULTS, max_size=4))
def test_for_nsca_ng_a_result_is_one_line_of_the_command_file(given_: list[Result]) -> None:
    failures, data = nsca.compose(given_, ng=True)
    lines = data.split(b"\n")
    assert len(failures) + len(lines) - 1 == len(given_) and not lines[-1]
    assert all(line.startswith(b"[") and len(line) < select.PIPE_BUF for line in lines[:-1])


@given(RESULTS)
def test_a_result_is_one_object_for_icinga(given_: Result) -> None:
    try:
        fields = json.loads(icinga2.request(given_, now=given_.taken))
    except Undelivered:
        assert not given_.host.strip() or not given_.service.strip()
        return
    assert (
        fields["service"] == f"{records.name(given_.host)}!{records.name(given_.service)}"
        and fields["service"].isprintable()
    )
    assert fields["type"] == "Service" and fields["exit_status"] in (0, 1, 2, 3)
    for words in (*fields["performance_data"], fields["check_source"], *fields["plugin_output"].split("\n")):
        assert words.isprintable() and "|" not in words
    assert fields["plugin_output"] and len(fields["plugin_output"].encode()) <= 1 << 16


@given(st.lists(RESULTS, min_size=1, max_size=4))
def test_a_result_is_one_element_for_nrdp(given_: list[Result]) -> None:
    elements = []
    for each in given_:
        with contextlib.suppress(Undelivered):
            elements.append(nrdp.element(each))
    form = {
        key: values[0]
        for key, values in parse_qs(nrdp.request(elements, "a&b=\udcff").decode(), errors="surrogateescape").items()
    }
    assert form["token"] == "a&b=\udcff" and form["cmd"] == "submitcheck" and form["XMLDATA"].isascii()
    root = etree.fromstring(form["XMLDATA"])
    assert root.tag == "checkresults" and len(root) == len(elements)
    for element in root:
        assert element.attrib == {"type": "service", "checktype": "1"}
        assert [child.tag for child in element] == ["hostname", "servicename", "state", "output"]
        # One line of the server's file each.
        assert all(child.text and child.text.isprintable() for child in element)


def test_what_is_printed_is_what_is_sent() -> None:
    """Byte for byte, as written down from the documentation of each."""
    assert command_file.command(result()) == (
        b"[1700000000] PROCESS_SERVICE_CHECK_RESULT;client1;mounts;2;"
        b"MOUNTS CRITICAL - 2 of 3 mounts failed: /srv/a timed out; /srv/\\012b dead | ok=1 'free on /a b'=2s;;;0"
        b"\\ncritical: /srv/a (nfs4) timed out\\nok: /\n"
    )
    assert nsca.compose([result(), result(service="a;b")], ng=False) == (
        [],
        b"client1\tmounts\t2\t" + PRINTED[:-1] + b"\x17client1\ta\\073b\t2\t" + PRINTED[:-1] + b"\x17",
    )
    assert json.loads(icinga2.request(result(service='it\'s a "b";c|d'), now=1700000060.0)) == {
        "type": "Service",
        "service": 'client1!it\'s a "b";c|d',
        "exit_status": 2,
        "plugin_output": "MOUNTS CRITICAL - 2 of 3 mounts failed: /srv/a timed out; /srv/\\012b dead\n"
        "critical: /srv/a (nfs4) timed out\nok: /",
        "performance_data": ["ok=1", "'free on /a b'=2s;;;0"],
        "check_source": "client1.example.org",
        "execution_start": 1700000000.5,
        "execution_end": 1700000000.5,
        "ttl": 120.0,
    }
    assert nrdp.element(result(report=reported("a<b>&ü\nc\n".encode()))) == (
        '<checkresult type="service" '
        'checktype="1"><hostname>client1</hostname><servicename>mounts</servicename><state>2</state>'
        "<output>MOUNTS CRITICAL - a&lt;b&gt;&amp;&#252;\\nc</output></checkresult>"
    )


def test_a_fresh_result_is_one_of_the_moment_for_icinga() -> None:
    """Icinga 2 would throw it away, and answer 200, where our clock is behind."""
    assert "execution_end" not in json.loads(icinga2.request(result(), now=1700000003.0))
    assert "ttl" not in json.loads(icinga2.request(result(ttl=None), now=1700000003.0))


def test_without_output_it_is_still_a_result_of_the_service() -> None:
    """send_nsca takes a record of three fields for a result of the host."""
    assert nsca.compose([result(report=Report(State.CRITICAL, ""))], ng=False)[1] == (
        b"client1\tmounts\t2\tMOUNTS CRITICAL - \x17"
    )


def test_names_that_nsca_would_cut_are_refused() -> None:
    names = [{"host": "h" * 63}, {"host": "h" * 64}, {"service": "s" * 127}, {"service": "s" * 128}]
    failures, data = nsca.compose([result(**name) for name in names], ng=False)
    assert data.count(b"\x17") == 2
    assert [words.rpartition(": ")[2] for words in failures] == [
        "NSCA cuts the name of a host at 63 bytes",
        "NSCA cuts the name of a service at 127 bytes",
    ]


def test_what_does_not_fit_is_left_out_in_whole_pieces() -> None:
    failed = "; ".join(f"/srv/mount-{number} timed out" for number in range(400))
    numbers = tuple(f"'/srv/mount-{number}'={number}s;1;2" for number in range(400))
    lines = "\n".join(f"critical: /srv/mount-{number} (nfs4) timed out" for number in range(400))
    summary = ("ok=0", "timed_out=400")

    def sent(verdict: str, perfdata: Sequence[str], below: str) -> str:
        output = f"{verdict} | {' '.join(perfdata)}\n{below}\n".encode()
        line = command_file.command(result(report=reported(output, perfdata)))
        assert 3900 < len(line) <= 4096
        return line.decode().split(";", 4)[4].rstrip("\n")

    # A verdict that is too long loses whole failures, and leaves room for perfdata.
    verdict, _, perfdata = sent("MOUNTS CRITICAL - 400 of 400 mounts failed: " + failed, summary, lines).partition(
        " | "
    )
    named, _, more = verdict.partition(" failed: ")[2].rpartition("; ")
    assert failed.startswith(named + "; ") and more == f"and {400 - named.count(' timed out')} more"
    assert perfdata.split("\\n")[0] == "ok=0 timed_out=400"
    # Perfdata loses whole items, beyond its half before the lines, which say what fails.
    verdict, _, rest = sent("MOUNTS CRITICAL - x", numbers, lines).partition(" | ")
    assert verdict == "MOUNTS CRITICAL - x"
    perfdata, *below = rest.split("\\n")
    items = perfdata.split(" ")
    assert tuple(items) == numbers[: len(items)] and 70 < len(items) < 100
    assert len(below) > 25 and below[-1] == f"({401 - len(below)} more lines left out)"
    # Where the lines take little room, perfdata has the rest.
    _, _, rest = sent("MOUNTS CRITICAL - x", numbers, "critical: /srv/mount-1").partition(" | ")
    assert len(rest.split("\\n")[0].split(" ")) > 100 and rest.endswith("\\ncritical: /srv/mount-1")
    # Lines are left out last to first, and that is said.
    verdict, _, rest = sent("MOUNTS CRITICAL - x", summary, lines).partition(" | ")
    kept = rest.split("\\n")[1:-1]
    assert "\n".join(kept) == lines[: len("\n".join(kept))] and kept
    assert rest.split("\\n")[-1] == f"({400 - len(kept)} more lines left out)"


@given(RESULTS, st.integers(100, 5000))
def test_what_fits_is_no_longer_than_the_limit(given_: Result, limit: int) -> None:
    parts = records.safe(given_.report)
    words = records.fitted(parts, limit, lambda piece: len(piece.encode()))
    assert len(words.encode()) <= limit
    verdict = words.split("\n")[0].partition(" | ")[0]
    counts = range(len(parts.failures) + 1)
    fewer = [
        parts._replace(failures=parts.failures[:count], unnamed=parts.failed - _stand_for(parts, count))
        for count in counts
    ]
    assert verdict in [each.verdict for each in fewer] or (
        verdict.endswith("...") and fewer[0].verdict.startswith(verdict[:-3])
    )
    items = words.split("\n")[0].partition(" | ")[2]
    numbers = [each.words for each in parts.perfdata]
    assert any(items == " ".join(numbers[:count]) for count in range(len(numbers) + 1))


def _stand_for(report: Report, count: int) -> int:
    return sum(failure.stands_for for failure in report.failures[:count])


def test_a_failure_whose_words_look_like_several_is_left_out_as_a_whole() -> None:
    """Words that come from a server or a configuration may contain what stands between failures,
    and a part of them could say the contrary."""
    failures = [Failure(f"/srv/{number} dead: {'x' * 200}; nothing is wrong", 1) for number in range(6)]
    report = Report(State.CRITICAL, "6 of 6 mounts failed", failures)
    for limit in range(100, len(report.verdict)):
        words = records.fitted(report, limit, len)
        assert words.count(" dead: ") == words.count("; nothing is wrong"), words
        assert len(words) <= limit


# --- the command file


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "cmd")
    return tmp_path / "cmd"


@contextlib.contextmanager
def reader(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def to(path: Path) -> Destination:
    return destination(f"command-file:{path}", Settings())


def test_who_reads_gets_one_line_for_each_result(pipe: Path) -> None:
    results = [result(), result(service="x\n[0] DISABLE_NOTIFICATIONS")]
    with reader(pipe) as reading:
        to(pipe).deliver(results, time.monotonic() + 5, unread())
        assert os.read(reading, 65536) == b"".join(map(command_file.command, results))
    assert rb";x\012[0] DISABLE_NOTIFICATIONS;" in command_file.command(results[1])


def test_one_bad_name_does_not_keep_the_others(pipe: Path) -> None:
    with reader(pipe) as reading:
        words = refused(to(pipe), [result(service=" "), result()])
        assert os.read(reading, 65536) == command_file.command(result())
    assert words == "1 of 2 results were refused, the first: client1! : a host or service without a name"


def test_nobody_reads(pipe: Path) -> None:
    assert refused(to(pipe), [result()]) == (
        "no process reads from it: the monitoring system does not run, or it accepts no external commands"
    )


def test_a_full_pipe_costs_no_more_than_the_time_given_and_gets_no_piece_of_a_line(pipe: Path) -> None:
    with reader(pipe) as reading:
        writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4000)
        os.close(writing)
        assert refused(to(pipe), [result()], 0.3) == "it is full, and was not read in time"
        while data := os.read(reading, 65536):
            assert not data.strip(b"x")


def test_a_full_pipe_that_is_read_in_time(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(pipe) as reading:
        writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        os.close(writing)
        os.set_blocking(reading, True)
        got: list[bytes] = []
        full = threading.Event()
        real = select.poll

        def read() -> None:
            full.wait(10)
            while not got or not got[-1].endswith(b"\n"):
                got.append(os.read(reading, 4096))

        def poll() -> object:
            full.set()
            return real()

        later = threading.Thread(target=read)
        later.start()
        monkeypatch.setattr(select, "poll", poll)
        to(pipe).deliver([result()], time.monotonic() + 5, unread())
        later.join()
    assert b"".join(got).lstrip(b"x") == command_file.command(result())


def test_a_reader_that_goes_away_does_not_end_us(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default of SIGPIPE, as workers have it."""
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(reading)
        return real(descriptor, data)

    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    monkeypatch.setattr(os, "write", write)
    try:
        with pytest.raises(Undelivered, match=r"\Aits reader has closed it\Z"):
            to(pipe).deliver([result()], time.monotonic() + 5, unread())
    finally:
        monkeypatch.undo()
        assert signal.signal(signal.SIGPIPE, before) == signal.SIG_DFL


def test_what_is_no_pipe_is_left_alone(tmp_path: Path, pipe: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    link, directory, by_link = tmp_path / "link", tmp_path / "directory", tmp_path / "by-link"
    link.symlink_to(pipe)
    directory.mkdir()
    by_link.symlink_to(tmp_path)
    no_links = "a symbolic link leads to it; give the path without one (/run, not /var/run)"
    with reader(pipe) as reading:
        assert refused(to(file), [result()]) == "it is not a pipe (FIFO)"
        assert refused(to(directory), [result()]) == "it is not a pipe (FIFO)"
        assert refused(to(Path("/dev/null")), [result()]) == "it is not a pipe (FIFO)"
        assert refused(to(link), [result()]) == no_links
        assert refused(to(by_link / "cmd"), [result()]) == no_links
        assert refused(to(tmp_path / "none"), [result()]) == "No such file or directory"
        assert os.read(reading, 100) == b""
    assert file.read_bytes() == b"before"


def test_no_link_at_the_end_is_followed_where_the_kernel_has_no_openat2(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("check_mounts.system.walk.open_without_symlinks", os.open)
    (pipe.parent / "link").symlink_to(pipe)
    with reader(pipe) as reading:
        assert refused(to(pipe.parent / "link"), [result()]).startswith("a symbolic link leads to it")
        assert os.read(reading, 100) == b""


def test_a_blank_at_the_end_of_a_name_can_be_seen() -> None:
    """Nagios drops it from a service_description; Icinga's names are left as they are."""
    odd = result(service="mounts /a ")
    assert b";mounts /a\\040;" in command_file.command(odd)
    assert b"\tmounts /a\\040\t" in nsca.compose([odd], ng=False)[1]
    assert b";mounts /a\\040;" in nsca.compose([odd], ng=True)[1]
    assert "<servicename>mounts /a\\040</servicename>" in nrdp.element(odd)
    assert json.loads(icinga2.request(odd, now=0.0))["service"] == "client1!mounts /a "


# --- send_nsca, played by scripts


class Client:
    """A program in the place of send_nsca: says on ``-V`` which one it is, and else does ``body``,
    a piece of shell."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "send_nsca"

    def __call__(self, body: str, version: str = "NSCA Client 2.10.2", code: int = 3) -> Destination:
        version = f'if [ "$1" = -V ]; then echo; echo "{version}"; exit {code}; fi'
        self.path.write_text(f'#!/bin/sh\n{version}\necho "$@" > {self.base}/arguments\n{body}\n')
        self.path.chmod(0o755)
        return destination("nsca:[::1]:5667", Settings(client=str(self.path), client_config="/etc/send nsca.cfg"))

    @property
    def arguments(self) -> str:
        return (self.base / "arguments").read_text().rstrip("\n")


NG = ("send_nsca 1.6 (OpenSSL 3.0.19, libev 4.33 with epoll)", 0)
SENT = 'echo "1 data packet(s) sent to host successfully."'


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_the_client_of_nsca_gets_its_options_and_cannot_confirm(client: Client, tmp_path: Path) -> None:
    where = client(f"cat > {tmp_path}/input; {SENT}")
    where.deliver([result()], time.monotonic() + 4.9, unread())
    assert client.arguments == "-H ::1 -p 5667 -c /etc/send nsca.cfg -to 5"
    assert (tmp_path / "input").read_bytes() == nsca.compose([result()], False)[1]
    assert not where.confirms


def test_the_client_of_nsca_ng_gets_its_options_and_confirms(client: Client, tmp_path: Path) -> None:
    where = client(f"cat > {tmp_path}/input", *NG)
    assert not where.confirms, "which client it is shows only once it runs"
    where.deliver([result()], time.monotonic() + 4.9, unread())
    assert client.arguments == "-H [::1] -p 5667 -c /etc/send nsca.cfg -o 5 -D 0 -C"
    assert (tmp_path / "input").read_bytes() == nsca.compose([result()], True)[1]
    assert where.confirms


@pytest.mark.parametrize(
    ("body", "version", "words"),
    [
        ("echo Connection refused by host >&2; echo 'Error: no'; exit 2", (),
         "send_nsca: Connection refused by host; Error: no"),
        ("exit 7", (), "send_nsca: exit status 7, without output"),
        ("kill -9 $$", (), "send_nsca: ended by signal 9"),
        ("printf 'a\\033[2J|\\377b\\n' >&2; exit 1", (), r"send_nsca: a\033[2J\174\377b"),
        ("echo '0 data packet(s) sent to host successfully.'", (),
         "send_nsca has not sent all of 1 result: 0 data packet(s) sent to host successfully."),
        ("true", (), "send_nsca has not sent all of 1 result: exit status 0, without output"),
        ("echo \"send_nsca: [FATAL] /etc/send_nsca.cfg:2: Unexpected stuff after \\`s3cr3t'\" >&2; exit 1", NG,
         "send_nsca: /etc/send_nsca.cfg:2: Unexpected stuff after"),
        ("echo 'send_nsca: [FATAL] TLS error (h): sslv3 alert illegal parameter' >&2; exit 1", NG,
         "send_nsca: TLS error (h): sslv3 alert illegal parameter (identity or password wrong?)"),
    ],
)  # fmt: skip
def test_what_the_client_says_is_on_one_line(client: Client, body: str, version: tuple[str, int], words: str) -> None:
    assert refused(client(body, *version), [result()]) == words


def is_over(pid: int) -> bool:
    """Ended; whoever adopted it may be slow to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_client_that_overstays_is_killed_with_all_it_has_started(client: Client, tmp_path: Path) -> None:
    body = f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; trap '' TERM ALRM; sleep 1000"
    assert refused(client(body), [result()], 0.7) == "send_nsca did not end in time, and was killed"
    for name in ("self", "child"):
        pid = int((tmp_path / name).read_text())
        until(functools.partial(is_over, pid))
    with pytest.raises(ChildProcessError):
        os.waitpid(int((tmp_path / "self").read_text()), os.WNOHANG)


def test_a_client_that_closes_its_output_and_stays(client: Client) -> None:
    assert (
        refused(client("exec >&- 2>&-; sleep 1000"), [result()], 0.5) == "send_nsca did not end in time, and was killed"
    )


def test_a_client_that_never_stops_talking(client: Client) -> None:
    assert refused(client("exec yes"), [result()], 0.5) == "send_nsca did not end in time, and was killed"


def test_a_client_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "send_nsca"
    where = destination("nsca:h", Settings(client=str(path)))
    assert refused(where, [result()]) == f"client {path} is missing, or not a program"
    path.write_text("what the kernel does not run")
    path.chmod(0o755)
    assert refused(where, [result()]) == "send_nsca cannot be run: Exec format error"
    path.write_text("#!/bin/sh\necho hello\n")
    assert refused(where, [result()]) == f"{path} is neither the send_nsca of NSCA nor that of NSCA-ng: hello"
    monkeypatch.setattr(nsca, "PLACES", ())
    assert refused(destination("nsca:h", Settings()), [result()]) == (
        "the program send_nsca is not installed (Debian: nsca-client or nsca-ng-client), or 'client' must say "
        "where it is"
    )


def test_results_that_cannot_be_sent_are_named_and_the_others_sent(client: Client, tmp_path: Path) -> None:
    words = refused(client(f"cat > {tmp_path}/input; {SENT}"), [result(host="h" * 64), result()])
    assert (
        words == f"1 of 2 results were refused, the first: {'h' * 64}!mounts: NSCA cuts the name of a host at 63 bytes"
    )
    assert (tmp_path / "input").read_bytes() == nsca.compose([result()], False)[1]


# --- HTTP, with servers that do what no real one would


class Server:
    """Answers each connection by ``handler``, and keeps what it was asked."""

    def __init__(self, handler: Callable[[Server, socket.socket], None], tls: ssl.SSLContext | None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._handler, self._tls = handler, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            with plain:
                if self.over.is_set():
                    return
                self.connections += 1
                with contextlib.suppress(OSError):
                    if self._tls is None:
                        self._handler(self, plain)
                    else:
                        with self._tls.wrap_socket(plain, server_side=True) as secured:
                            self._handler(self, secured)

    def request(self, connection: socket.socket) -> bytes:
        """The next request; empty where there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                return b""
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        self._thread.join()
        self._listener.close()


Start = Callable[..., Server]


@dataclasses.dataclass
class Elsewhere:
    """A destination that does what it is told."""

    deliver: Callable[[Sequence[Result], float, Progress], None]
    name: str = "elsewhere"
    confirms: bool = True
    files: Sequence[str] = ()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    base = tmp_path_factory.mktemp("authority")
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
    ]
    words += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-days",
        "2",
        "-keyout",
        f"{base}/key.pem",
        "-out",
        f"{base}/certificate.pem",
    ]
    subprocess.run(words, check=True, capture_output=True)
    return base


@pytest.fixture
def start(authority: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def begin(handler: Callable[[Server, socket.socket], None], secured: bool = True) -> Server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority / "certificate.pem", authority / "key.pem")
        servers.append(Server(handler, tls if secured else None))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def answering(*answers: bytes) -> Callable[[Server, socket.socket], None]:
    """Each request gets the next answer, the last one again and again; the connection stays."""

    def handler(server: Server, connection: socket.socket) -> None:
        while server.request(connection):
            connection.sendall(answers[min(len(server.requests), len(answers)) - 1])

    return handler


def http(status: str, body: bytes, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


TAKEN = http(
    "200 OK",
    b'{"results":[{"code":200.0,"status":"Successfully processed check result for object \'client1!mounts\'."}]}',
)
HUNG_UP = ("it closed the connection without an answer", "Connection reset by peer", "Broken pipe")
NO_SUCH = "no such service, or no permission actions/process-check-result for it (404)"
UNKNOWN = http("404 Not Found", b'{"error":404,"status":"No objects found."}')


def icinga(server: Server, authority: Path, settings: Settings = USER) -> Destination:
    return destination(
        f"icinga2:https://127.0.0.1:{server.port}", settings._replace(ca=str(authority / "certificate.pem"))
    )


def test_several_results_go_by_one_connection(start: Start, authority: Path) -> None:
    server = start(answering(TAKEN))
    icinga(server, authority).deliver(
        [result(service=f"m{number}") for number in range(3)], time.monotonic() + 5, unread()
    )
    assert server.connections == 1 and len(server.requests) == 3
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/actions/process-check-result HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines and "Accept: application/json" in lines
    assert "Authorization: Basic cm9vdDpzM2NyM3Q=" in lines
    assert json.loads(body)["service"] == "client1!m1"


def test_a_server_that_hangs_up_after_each_answer(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        server.request(connection)
        connection.sendall(TAKEN.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    server = start(handler)
    icinga(server, authority).deliver([result(), result()], time.monotonic() + 5, unread())
    assert server.connections == 2


def test_one_unknown_service_does_not_keep_the_others(start: Start, authority: Path) -> None:
    server = start(answering(TAKEN, UNKNOWN, TAKEN))
    words = refused(icinga(server, authority), [result(), result(service="no\nsuch"), result()])
    assert words == rf"1 of 3 results were refused, the first: client1!no\012such: {NO_SUCH}"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("401 Unauthorized", b'{"error":401,"status":"Unauthorized."}'),
         "it refuses the credentials (401): user, password or certificate do not belong to an ApiUser"),
        (UNKNOWN, f"client1!mounts: {NO_SUCH}"),
        (http("503 Busy", b"<h1>later</h1>"), "client1!mounts: Busy (503)"),
        (http("500 Oops", b'{"error":500,"status":"a\\nb | s3cr3t cm9vdDpzM2NyM3Q= \\ud800"}'),
         r"client1!mounts: a\012b \174 *** *** \355\240\200 (500)"),
        (http("200 OK", b'{"results":[{"code":409,"status":"Newest check result already present."}]}'),
         "client1!mounts: Newest check result already present. (200)"),
        (http("200 OK", b'{"results":[]}'), "its answer is not in the format of Icinga 2"),
        (http("200 OK", b'{"results":[{"code":"x"}]}'), "its answer is not in the format of Icinga 2"),
        (http("200 OK", b"[" * 60000), "its answer is not in the format of Icinga 2"),
        (http("200 OK", b"<html>It works!</html>"), "its answer is not in the format of Icinga 2"),
        (http("200 OK", b"\xff\xfe"), "its answer is not in the format of Icinga 2"),
        (http("302 Found", b"", "Location: http://127.0.0.1/\r\n"),
         "it answers with a redirect (302), which is not followed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n", "its answer is not HTTP"),
    ],
)  # fmt: skip
def test_answers_that_are_no_success(start: Start, authority: Path, answer: bytes, words: str) -> None:
    server = start(answering(answer))
    said = refused(icinga(server, authority), [result()], 1 if words == "no answer" else 5)
    assert words == (in_vain(said) if words == "no answer" else said)
    assert server.connections == 1


def test_wrong_credentials_are_tried_once(start: Start, authority: Path) -> None:
    server = start(answering(http("401 Unauthorized", b"")))
    assert refused(icinga(server, authority), [result()] * 50).startswith("it refuses the credentials (401)")
    assert len(server.requests) == 1


def test_an_answer_without_end_is_not_read_to_its_end(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        server.request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    assert refused(icinga(start(handler), authority), [result(), result()]).endswith(
        "its answer is not in the format of Icinga 2"
    )


def test_a_server_that_accepts_and_never_answers(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    assert in_vain(refused(icinga(start(handler), authority), [result()], 2.0)) == "no answer"
    assert in_vain(refused(icinga(start(handler, secured=False), authority), [result()], 2.0)) == "no TLS handshake"


def test_a_server_that_answers_one_byte_at_a_time(start: Start, authority: Path) -> None:
    """Each of them well within what a timeout for single reads would allow."""

    def handler(server: Server, connection: socket.socket) -> None:
        server.request(connection)
        for byte in TAKEN:
            connection.sendall(bytes((byte,)))
            if server.over.wait(0.1):
                return

    assert in_vain(refused(icinga(start(handler), authority), [result()], 2.0)) == "no answer"


def test_a_server_that_reads_nothing(start: Start) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        server.over.wait(30)

    server = start(handler)

    def post(results: Sequence[Result], until_: float, progress: Progress) -> None:
        url = parse_url(f"https://127.0.0.1:{server.port}")
        with web.connection(url, Settings(verify=False), until_, progress) as connection:
            connection.post("/", b"x" * (32 << 20), {})

    assert in_vain(refused(Elsewhere(post), [result()], 2.0)) == "no answer"


def test_a_server_that_hangs_up(start: Start, authority: Path) -> None:
    assert refused(icinga(start(lambda server, connection: None), authority), [result()]) in HUNG_UP


def test_a_server_that_speaks_no_tls(start: Start, authority: Path) -> None:
    def handler(server: Server, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert refused(icinga(start(handler, secured=False), authority), [result()]).startswith("TLS: ")


def test_nobody_listens(authority: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refused(destination(f"icinga2:https://127.0.0.1:{port}", USER), [result()]) == "Connection refused"


def test_whom_to_trust(start: Start, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "resolve", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
    server = start(answering(TAKEN))
    url = f"icinga2:https://127.0.0.1:{server.port}"
    # With or without a hyphen, as OpenSSL is new or old.
    assert (
        refused(destination(url, USER), [result()]).replace("-", " ")
        == "its certificate is refused: self signed certificate"
    )
    wrong_name = destination(
        f"icinga2:https://localhost:{server.port}", USER._replace(ca=str(authority / "certificate.pem"))
    )
    assert refused(wrong_name, [result()]).startswith("its certificate is refused: Hostname mismatch")
    assert not server.requests, "nothing was said to somebody else"
    destination(url, USER._replace(verify=False)).deliver([result()], time.monotonic() + 5, unread())
    empty = tmp_path / "empty.pem"
    empty.touch()
    for settings, words in (
        (USER._replace(ca="/none"), "ca /none: No such file or directory"),
        (USER._replace(ca=str(empty)), f"ca {empty}: contains no certificate (PEM)"),
        (USER._replace(ca="/"), "ca /: not a regular file"),
        (Settings(certificate="/none"), "certificate /none: No such file or directory"),
        (
            Settings(certificate=str(empty), key=str(empty)),
            f"certificate {empty}: the file holds no certificate, or the key is not that of the certificate (PEM)",
        ),
    ):
        assert refused(destination(url, settings), [result()]) == words


@pytest.mark.usefixtures("strict_ssl")
def test_certificates_without_key_identifiers_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are those of Icinga 2."""
    key, ca, request, certificate = (tmp_path / name for name in ("key", "ca", "request", "certificate"))
    extensions = tmp_path / "extensions"
    none = "subjectKeyIdentifier = none\nauthorityKeyIdentifier = none\n"
    extensions.write_text(
        f"[req]\ndistinguished_name = name\n[name]\n[ca]\nbasicConstraints = critical, CA:TRUE\n{none}"
        f"[server]\nsubjectAltName = IP:127.0.0.1\n{none}"
    )
    new = f"openssl req -config {extensions} -newkey rsa:2048 -nodes -days 2"
    for words in (
        f"{new} -x509 -extensions ca -subj /CN=ca -keyout {key}.ca -out {ca}",
        f"{new} -subj /CN=127.0.0.1 -keyout {key} -out {request}",
        f"openssl x509 -req -in {request} -CA {ca} -CAkey {key}.ca -set_serial 2 -days 2 -extfile {extensions} "
        f"-extensions server "
        f"-out {certificate}",
    ):
        subprocess.run(words.split(), check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = Server(answering(TAKEN), tls)
    try:
        trusting = USER._replace(ca=str(ca))
        destination(f"icinga2:https://127.0.0.1:{server.port}", trusting).deliver(
            [result()], time.monotonic() + 5, unread()
        )
        wrong_name = destination(f"icinga2:https://localhost:{server.port}", trusting)
        monkeypatch.setattr(web, "resolve", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
        assert refused(wrong_name, [result()]).startswith("its certificate is refused: Hostname mismatch")
        assert len(server.requests) == 1
    finally:
        server.close()


def test_an_encrypted_key_does_not_ask_on_the_terminal(authority: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    words = ["openssl", "ec", "-in", str(authority / "key.pem"), "-aes256", "-passout", "pass:x", "-out", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    certificate = authority / "certificate.pem"
    where = destination("icinga2:https://127.0.0.1:1", Settings(certificate=str(certificate), key=str(key)))
    assert refused(where, [result()]) == f"certificate {certificate}: the key is encrypted"


def test_a_client_certificate_is_shown(authority: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority / "certificate.pem", authority / "key.pem")
    tls.load_verify_locations(authority / "certificate.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    server = Server(answering(TAKEN), tls)
    try:
        own = Settings(certificate=str(authority / "certificate.pem"), key=str(authority / "key.pem"))
        icinga(server, authority, own).deliver([result()], time.monotonic() + 5, unread())
        assert b"Authorization" not in server.requests[0]
        # The server's alert may or may not get here before we write to who is gone.
        assert refused(icinga(server, authority), [result()]) in ("TLS: tlsv13 alert certificate required", *HUNG_UP)
    finally:
        server.close()


def test_name_servers_that_do_not_answer_cost_no_more_than_the_time_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo(3) heeds no timeout and no signal; so is its double."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: int, flags: int = 0, **more: int) -> object:
        if flags == socket.AI_NUMERICHOST:
            return real(host, port, flags=flags, **more)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        time.sleep(1000)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    assert (
        in_vain(refused(destination("icinga2:https://master.example.org", USER), [result()], 0.5))
        == "its name was not found"
    )
    assert children.read_text() == before


def test_no_such_name() -> None:
    words = refused(destination("icinga2:https://master.invalid", USER), [result()], 20)
    assert words.startswith("master.invalid: ")


@contextlib.contextmanager
def unanswered() -> Iterator[int]:
    """A port where connections are neither made nor refused: the queue of its listener is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        connected = True
        while connected:
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
            waiting = select.poll()
            waiting.register(client, select.POLLOUT)
            connected = bool(waiting.poll(100))
        yield address[1]


def test_all_addresses_of_a_name_are_tried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(answering(http("200 OK", b"<result><status>0</status></result>")), secured=False)
    with unanswered() as port:
        targets = [("127.0.0.1", each) for each in (port, 1, server.port)]
        monkeypatch.setattr(web, "resolve", lambda host, port: [(socket.AF_INET, target) for target in targets])
        destination("nrdp:http://localhost/", NAGIOS).deliver([result()], time.monotonic() + 3, unread())
        assert len(server.requests) == 1
        targets.pop()
        assert refused(destination("nrdp:http://localhost/", NAGIOS), [result()], 0.6) == "Connection refused"
        targets.pop()
        assert in_vain(refused(destination("nrdp:http://localhost/", NAGIOS), [result()], 0.6)) == "no connection"


def test_what_is_told_of_several_addresses_is_what_says_most(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a host has no IPv6, the family is not supported; nothing is known of the server
    then."""
    server = start(answering(http("200 OK", b"<result><status>0</status></result>")), secured=False)
    targets: list[tuple[int, Any]] = []
    monkeypatch.setattr(web, "resolve", lambda host, port: list(targets))
    impossible = (1000, ("::1", 1, 0, 0))
    refusing = (socket.AF_INET, ("127.0.0.1", 1))

    def told(*those: tuple[int, Any]) -> str:
        targets[:] = those
        return refused(destination("nrdp:http://localhost/", NAGIOS), [result()], 0.6)

    with unanswered() as port:
        silent = (socket.AF_INET, ("127.0.0.1", port))
        for order in itertools.permutations((impossible, silent, refusing)):
            assert told(*order) == "Connection refused"
        assert told(refusing, impossible) == told(impossible, refusing) == "Connection refused"
        assert in_vain(told(silent, impossible)) == in_vain(told(impossible, silent)) == "no connection"
        assert told(impossible) == told(impossible, impossible) == os.strerror(errno.EAFNOSUPPORT)
        targets[:] = [impossible, silent, impossible, (socket.AF_INET, ("127.0.0.1", server.port))]
        destination("nrdp:http://localhost/", NAGIOS).deliver([result()], time.monotonic() + 3, unread())


def test_a_name_is_resolved() -> None:
    found = web.resolve("localhost", 80)
    assert {(family, target[:2]) for family, target in found} <= {
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET6, ("::1", 80)),
    }
    assert found
    assert web.resolve("::1", 80) == [(socket.AF_INET6, ("::1", 80, 0, 0))]


# --- NRDP

META = b"<meta><output>1 checks processed</output></meta>"
PROCESSED = http(
    "200 OK", b"<?xml version='1.0'?>\n<result><status>0</status><message>OK</message>" + META + b"</result>"
)
PROCESSED_JSON = http(
    "200 OK", b'{"result": {"status": 0, "message": "OK", "meta": {"output": "1 checks processed."}}}'
)


def at(server: Server, settings: Settings = NAGIOS) -> Destination:
    return destination(f"nrdp:http://127.0.0.1:{server.port}/nrdp/", settings)


def test_all_results_go_by_one_form(start: Start) -> None:
    server = start(answering(PROCESSED.replace(b"1 checks", b"2 checks")), secured=False)
    settings = NAGIOS._replace(user="nrdp", password="s3cr3t")
    at(server, settings).deliver(
        [result(), result(service="x\n[0] DISABLE_NOTIFICATIONS")], time.monotonic() + 5, unread()
    )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /nrdp/ HTTP/1.1\r\n") and b"t0k3n" not in head
    assert b"\r\nContent-Type: application/x-www-form-urlencoded" in head and b"\r\nAuthorization: Basic " in head
    form = parse_qs(body.decode())
    assert form["token"] == ["t0k3n"] and form["cmd"] == ["submitcheck"]
    names = [element.text for element in etree.fromstring(form["XMLDATA"][0]).iter("servicename")]
    assert names == ["mounts", r"x\012[0] DISABLE_NOTIFICATIONS"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("200 OK", b"<result>\n  <status>-1</status>\n  <message>BAD TOKEN t0k3n</message>\n</result>"),
         "BAD TOKEN *** (status -1)"),
        (http("200 OK", b'{"result": {"status": -1, "message": "NO DATA"}}'), "NO DATA (status -1)"),
        (http("200 OK", b"<result><status>-1</status></result>"), "no reason given (status -1)"),
        (http("200 OK", b"<strong>Submit Nagios Command:</strong>"), "its answer is not in the format of NRDP"),
        (http("200 OK", b"<status>" + b"9" * 5000 + b"</status>"), "its answer is not in the format of NRDP"),
        (http("200 OK", b"NO REQUEST HANDLER"), "its answer is not in the format of NRDP"),
        (PROCESSED.replace(b"1 checks", b"0 checks"), "it has accepted 0 of 1 results"),
        (http("401 Unauthorized", b""), "it refuses the credentials (401): user, password or certificate"),
        (http("301 Moved Permanently", b"", "Location: http://127.0.0.1/\r\n"),
         "it answers with a redirect (301), which is not followed; maybe the path must end with a slash"),
        (http("500 Internal Server Error", b"t0k3n"), "Internal Server Error (500)"),
    ],
)  # fmt: skip
def test_answers_of_nrdp_that_are_no_success(start: Start, answer: bytes, words: str) -> None:
    server = start(answering(answer), secured=False)
    assert refused(at(server), [result()], 2) == words
    assert server.connections == 1


ODD = "t0k3n/+ &<\"'\\>ü"


@pytest.mark.parametrize(
    "repeated",
    [
        ODD,
        quote_plus(ODD),
        quote(ODD),
        quote(ODD, safe="").lower(),
        ODD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        html.escape(ODD),  # as xmlstarlet and others, with &#x27;
        html.escape(ODD).replace("&#x27;", "&#039;"),  # htmlspecialchars() of PHP 8
        html.escape(ODD).replace("&#x27;", "&apos;").replace("ü", "&#252;"),
        json.dumps(ODD)[1:-1],
        json.dumps(ODD)[1:-1].replace("/", "\\/"),  # json_encode() of PHP
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        base64.b64encode(f"nrdp:{ODD}".encode()).decode(),
        quote_plus(base64.b64encode(f"nrdp:{ODD}".encode())),
    ],
)
def test_a_secret_that_is_repeated_in_other_letters_is_not_printed(repeated: str) -> None:
    secrets = credentials.secrets(Settings(user="nrdp", password=ODD, token=f"{ODD}+longer"))
    assert records.shown(f"BAD {repeated}, BAD", secrets) == "BAD ***, BAD"
    assert secrets == sorted(secrets, key=len, reverse=True), "or the shorter would leave the end of the longer"


def test_a_secret_of_any_characters_has_its_forms() -> None:
    secrets = credentials.secrets(Settings(token="a\udcff\n\0b"))
    assert {"a\udcff\n\0b", "a\xff\n\0b", "a%FF%0A%00b", "a%ff%0a%00b", "a\\udcff\\n\\u0000b"} <= set(secrets)
    assert "a\ufffd\n\0b" in secrets


@pytest.mark.parametrize(
    "body",
    [
        f"<result><status>-1</status><message>BAD TOKEN {html.escape(ODD)}</message></result>",
        json.dumps({"result": {"status": -1, "message": f"BAD TOKEN {ODD}"}}),
        json.dumps({"result": {"status": -1, "message": f"BAD TOKEN {ODD}"}}).replace("/", "\\/"),
    ],
)
def test_a_token_that_nrdp_repeats_is_not_printed(start: Start, body: str) -> None:
    server = start(answering(http("200 OK", body.encode())), secured=False)
    assert refused(at(server, Settings(token=ODD)), [result()], 2) == "BAD TOKEN *** (status -1)"


@pytest.mark.parametrize("answer", [PROCESSED, PROCESSED_JSON])
def test_success_in_xml_and_json(start: Start, answer: bytes) -> None:
    at(start(answering(answer), secured=False)).deliver([result()], time.monotonic() + 5, unread())
