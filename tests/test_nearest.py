"""What is misspelt names the nearest known word of its kind, and never an unrelated one."""

from __future__ import annotations

import string
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from check_mounts.model import Condition, State
from check_mounts.nearest import nearest
from check_mounts.options import config_text, extra_opts, values
from check_mounts.options.command_line import given as given_by
from check_mounts.options.option_table import MOUNT_KEYS, OPTIONS
from check_mounts.options.refusals import ConfigError, UsageError
from check_mounts.outcome import Step
from check_mounts.passive import Settings, destinations
from tests.conftest import ROOT, Plugin

LONG = [option.long for option in OPTIONS]
KINDS: dict[str, Sequence[str]] = {
    "options": [option.name for option in OPTIONS],
    "keys of [mount]": list(MOUNT_KEYS),
    "keys of [submit]": list(config_text.SUBMIT_KEYS),
    "conditions": [condition.value for condition in Condition],
    "states": [state.name.lower() for state in State],
    "steps": [step.word for step in Step],
    "destinations": [kind.word for kind in destinations.KINDS],
    **{option.name: option.choices for option in OPTIONS if option.choices},
}


def slips(word: str, letter: str = "q") -> Iterator[str]:
    """The word with one letter too few or too many, a wrong one, or two that are swapped."""
    yield word + letter
    for place in range(len(word)):
        before, here, after = word[:place], word[place], word[place + 1 :]
        yield before + after
        yield before + here + here + after
        yield before + letter + here + after
        yield before + letter + after
        if after:
            yield before + after[0] + here + after[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_each_slip_names_the_word(kind: str) -> None:
    known = KINDS[kind]
    for word in known:
        for slip in slips(word) if len(word) > 2 else ():
            if slip not in known:
                near = nearest(slip, known)
                assert near is not None
                # ``cachd`` may be either of two words that are as near: cache, cached.
                assert near == word or any(slip in slips(near, letter) for letter in slip), slip


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("--Timeout", "--timeout"), ("--max_workers", "--max-workers"), ("--maxworkers", "--max-workers"),
        ("--warn", "--warning"), ("--crit", "--critical"), ("--time", "--timeout"), ("--perf", "--perfdata"),
        ("--wanring", "--warning"), ("--config-file", "--config"), ("--fstab-file", "--fstab"), ("--sa", "--as"),
        ("---timeout", "--timeout"), ("--user", "--users"), ("--expct-ro", "--expect-ro"),
    ],
)  # fmt: skip
def test_what_people_write(word: str, known: str) -> None:
    assert nearest(word, LONG) == known


@pytest.mark.parametrize(
    "word",
    [
        "--frobnicate", "--hostname", "--host", "--port", "--password", "--export", "--report", "--format", "--units",
        "--is", "--at", "--a", "--ls", "--pathological", "--all", "--list", "--colour", "--type", "--sort", "--", "-",
        "", "--no-such-option", "--test", "x" * 4096, "\udcff\udcfe", "--ünïx", "versio", "expire", "ridge",
    ],
)  # fmt: skip
def test_unrelated_words_name_nothing(word: str) -> None:
    assert nearest(word, LONG) is None or word == "versio"
    # A key that a file may not have is not named either.
    allowed = [option.name for option in OPTIONS if option.name not in config_text.REFUSED]
    assert nearest(word, allowed) is None


@given(some.text(string.ascii_lowercase + "-_", max_size=50), some.sampled_from(sorted(KINDS)))
def test_a_word_that_is_named_resembles(word: str, kind: str) -> None:
    near = nearest(word, KINDS[kind])
    if near is not None:
        plain = word.lower().replace("_", "-").strip("-")
        shared = set(plain) & set(near)
        assert 2 * len(shared) > len(set(near)) or near.startswith(plain) or plain.startswith(f"{near}-")


def _refused(*arguments: str) -> str:
    with pytest.raises(UsageError) as raised:
        given_by(arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--timout", "5"], "--timout: unknown option; the nearest is --timeout"),
        (["--timout=5"], "--timout: unknown option; the nearest is --timeout"),
        (["-timeout", "5"], "-timeout: unknown option; the nearest is --timeout"),
        (["-fstab=/x"], "-fstab: unknown option; the nearest is --fstab"),
        (["--vrebose", "--colour=x"], "--vrebose: unknown option; the nearest is --verbose; --colour: unknown option"),
        (["--severity", "daed=ok"], "unprobed; the nearest is 'dead'"),
        (["--severity", "dead=critcal"], "unknown; the nearest is 'critical'"),
        (["--severity", "dead=crit"], "unknown; the nearest is 'critical'"),
        (["--severity", "banana=ok"], "shadowed, idle, ghost, unprobed"),
        (["-w", "raed=1"], "timeouts; the nearest is 'read'"),
        (["-c", "lookup=1"], "timeouts; the nearest is 'look-up'"),
        (["--autofs", "prob"], "is not one of skip, probe; the nearest is 'probe'"),
        (["--perfdata", "Steps"], "none; the nearest is 'steps'"),
        (["--perfdata", "json"], "is not one of summary, mounts, steps, usage, none"),
        (["--syslog-facility", "deamon"], "the nearest is 'daemon'"),
        (["--expect", "/srv,typ=nfs4"], "'typ' is not known; did you mean 'type'?"),
        (["--expect", "/srv,type=nsf4"], "the type 'nsf4' is not known; did you mean 'nfs4'?"),
    ],
)
def test_on_the_command_line(arguments: list[str], words: str) -> None:
    line = _refused(*arguments)
    assert line.endswith(words)
    assert "nearest" in words or "nearest" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[check_mounts]\ntimout = 5", "unknown key 'timout' in [check_mounts]; the nearest is 'timeout'"),
        ("[check_mounts]\nversio = yes", "unknown key 'versio' in [check_mounts]"),
        ('[mount "/m"]\nexepct = yes', "unknown key 'exepct' in [mount \"/m\"]; the nearest is 'expect'"),
        ('[mount "/m"]\nhostname = x', "unknown key 'hostname' in [mount \"/m\"]"),
        ('[submit "nsca:h"]\nuesr = x', "unknown key 'uesr' in [submit \"nsca:...\"]; the nearest is 'user'"),
        ('[mounts "/m"]', "unknown section [mounts ...]; the nearest is 'mount'"),
        ("[check-mounts]", "unknown section [check-mounts]; the nearest is 'check_mounts'"),
        ("[plugin]", "unknown section [plugin]"),
        ("[check_mounts]\nseverity = deda=ok", "unprobed; the nearest is 'dead'"),
        ("[check_mounts]\nautofs = porbe", "skip, probe; the nearest is 'probe'"),
    ],
)
def test_in_a_file(content: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_text.parse(content.encode(), "f")
    assert str(raised.value).endswith(words)


def test_in_a_file_of_the_monitoring_plugins() -> None:
    for data, words in (
        (b"[check_mounts]\ntimout=5", "f line 2: unknown key 'timout'; the nearest is 'timeout'"),
        (b"[check_mounts]\nbanana=5", "f line 2: unknown key 'banana'"),
        (b"[chek_mounts]\n[other]", "--extra-opts: f has no section [check_mounts]; the nearest is 'chek_mounts'"),
        (b"[other]\n", "--extra-opts: f has no section [check_mounts]"),
    ):
        with pytest.raises(ConfigError) as raised:
            extra_opts.of_section(data, "f", b"check_mounts")
        assert str(raised.value) == words


def test_destinations() -> None:
    with pytest.raises(ValueError, match=r"; the nearest is 'nsca'$"):
        destinations.destination("ncsa:host", Settings())
    with pytest.raises(ValueError, match=r"nrdp:URL$"):
        destinations.destination("smtp:host", Settings())


def test_it_is_the_verdict(plugin: Plugin) -> None:
    result = plugin("--timout", "5", below=False, state=False)
    assert (result.code, result.stderr) == (3, b"")
    assert result.lines[0] == "MOUNTS UNKNOWN - --timout: unknown option; the nearest is --timeout"


@pytest.mark.parametrize(("argument", "loaded"), [("-v", False), ("--autofs=skip", False), ("--timout=5", True)])
def test_it_is_loaded_only_for_an_error(argument: str, loaded: bool) -> None:
    code = (
        "import sys; from check_mounts import run; from check_mounts.options import command_line\n"
        "try: command_line.given(sys.argv[1:])\n"
        "except Exception: pass\n"
        "print('check_mounts.nearest' in sys.modules, 'difflib' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True, cwd=Path(ROOT)
    )
    assert result.stdout.split() == [str(loaded), "False"]


def test_choices_are_parsed_by_their_words() -> None:
    assert values.choice("a", "b")("a") == "a"
