"""Completion in bash, zsh and fish, with real Tab keys: what is offered, that hostile names stay
names, and that no mount is asked."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from check_mounts import completion
from check_mounts.completion import offers
from check_mounts.model import Condition
from check_mounts.options.option_table import OPTIONS, SHELLS
from tests.conftest import ROOT, Fuse, Mounts, Plugin, until
from tests.terminal import Start, Terminal, terminal

__all__ = ["terminal"]

CHECK = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}
FILES = {
    "bash": "share/bash-completion/completions/check_mounts",
    "zsh": "share/zsh/site-functions/_check_mounts",
    "fish": "share/fish/vendor_completions.d/check_mounts.fish",
}
PLACEHOLDER = "/etc/check_mounts.conf"
# Stands for the program, and writes down what it is given.
STUB = """#!/usr/bin/python3 -I
import os, sys
with open({given!r} + ".new", "wb") as file:
    file.write(b"\\0".join(map(os.fsencode, sys.argv[1:])))
os.rename({given!r} + ".new", {given!r})
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion.script(shell))
    subprocess.run([*CHECK[shell], script], check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_program_prints_what_is_installed(plugin: Plugin, shell: str) -> None:
    result = plugin("--completion", shell, below=False, state=False)
    assert (result.code, result.stdout.decode()) == (0, completion.script(shell))
    made = subprocess.run([sys.executable, ROOT / "tools/completion.py", shell], capture_output=True, check=True)
    assert made.stdout == result.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_each_option_and_condition_is_in_it(shell: str) -> None:
    script = completion.script(shell)
    for option in OPTIONS:
        assert (f"-l {option.name} " if shell == "fish" else option.long) in script
    for condition in Condition:
        assert condition.value in script
    assert not re.search("@[A-Z]+@", script)


def test_what_is_declared_says_how_to_complete() -> None:
    found = {offer.long: offer for offer in offers.offers()}
    kinds = {long: offer.kind for long, offer in found.items()}
    assert kinds["--path"] == offers.MOUNTS and kinds["--expect"] == offers.POINTS and kinds["--remote"] == ""
    assert kinds["--config"] == kinds["--metrics"] == kinds["--fstab"] == offers.FILES
    assert kinds["--state-dir"] == offers.DIRECTORIES and kinds["--timeout"] == offers.NOTHING
    assert found["--autofs"].words == ("skip", "probe")
    assert found["--json"].excludes and "--json" in found["--daemon"].excludes
    assert found["--interval"].needs == ("--daemon",)


class Shell:
    """A real shell with the installed completion, and a program that writes down its arguments."""

    def __init__(self, terminal: Start, shell: str, prefix: Path) -> None:
        self.shell, self.home = shell, prefix / "home"
        self.given = self.home / "given"
        self.config = self.home / "check_mounts.conf"
        (self.home / "fish").mkdir(parents=True)
        (prefix / "bin").mkdir()
        program = prefix / "bin/check_mounts"
        program.write_text(STUB.format(given=str(self.given)))
        program.chmod(0o755)
        script = prefix / FILES[shell]
        script.parent.mkdir(parents=True)
        script.write_text(completion.script(shell).replace(PLACEHOLDER, str(self.config)))
        command = {
            "bash": ["bash", "--noprofile", "--rcfile", f"{self.home}/.zshrc", "-i"],
            "zsh": ["zsh", "-d", "-i"],
            "fish": ["fish", "--private", "-i"],
        }
        rc = {
            "bash": f"PS1='ready> '\n. {script}\n",
            "zsh": f"PS1='ready> '\nfpath=({script.parent} $fpath)\nautoload -Uz compinit\ncompinit -u -D\n",
            "fish": "function fish_prompt\necho 'ready> '\nend\nfunction fish_greeting\nend\n"
            "set -g fish_autosuggestion_enabled 0\n",
        }
        path = f"set -x PATH {prefix}/bin $PATH\n" if shell == "fish" else f"PATH={prefix}/bin:$PATH\n"
        (self.home / ".zshrc").write_text(path + rc[shell])
        (self.home / "fish/config.fish").write_text(path + rc[shell])
        environment = {
            "ZDOTDIR": str(self.home), "XDG_CONFIG_HOME": str(self.home), "XDG_DATA_DIRS": f"{prefix}/share:/usr/share",
            "MP_CONFIG_FILE": f"{self.home}/plugins.ini",
        }  # fmt: skip
        self.terminal: Terminal = terminal(200, 50, environment=environment, command=command[shell])
        self.terminal.until("ready>")

    def gives(self, *typed: str) -> list[bytes]:
        """The arguments that the program gets once these words are typed, with a Tab after each."""
        self.given.unlink(missing_ok=True)
        self.terminal.type("check_mounts ")
        for words in typed:
            self.terminal.type(words)
            self.terminal.press("Tab")
        self.terminal.press("Enter")
        until(self.given.exists)
        return self.given.read_bytes().split(b"\0")

    def tries(self, typed: str) -> None:
        """Type this, and Tab until the shell shows all that it could be."""
        self.terminal.press("C-u")
        self.terminal.press("C-l")
        self.terminal.until(lambda seen: seen.strip() == "ready>")
        self.terminal.type(f"check_mounts {typed}")
        self.terminal.press("Tab", *(["Tab"] if self.shell == "bash" else []))

    def shows(self, typed: str, *words: str) -> str:
        """What stands on the screen once all these words do."""
        self.tries(typed)
        return self.terminal.until(lambda seen: all(word in seen for word in words))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, terminal: Start, tmp_path: Path) -> Shell:
    return Shell(terminal, request.param, tmp_path / "prefix")


LINES = [
    (["--autof", "pr"], ["--autofs=probe"]),
    (["--autofs pr"], ["--autofs", "probe"]),
    (["--sever", "timed-o", "warn"], ["--severity=timed-out=warning"]),
    (["--severity=denied=ok,timed-out=w"], ["--severity=denied=ok,timed-out=warning"]),
    (["-w timeo", "5%"], ["-w", "timeouts=5%"]),
    (["-N tmpf"], ["-N", "tmpfs"]),
    (["-N ext4,tmpf"], ["-N", "ext4,tmpfs"]),
    (["--daemon --interv", "5"], ["--daemon", "--interval=5"]),
    (["--interv"], ["--interv"]),
    (["--json --jso"], ["--json", "--jso"]),
    (["--daemon --jso"], ["--daemon", "--jso"]),
    (["--remote --expect-r"], ["--remote", "--expect-ro="]),
    (["-- --remot"], ["--", "--remot"]),
    (["-w lookup=1 --remot"], ["-w", "lookup=1", "--remote"]),
    (["--extra-opts=loc"], ["--extra-opts=local mounts"]),
    (["--submit=nsca:mon"], ["--submit=nsca:monitor.example:5667"]),
    (["--as no"], ["--as", "nobody"]),
    (["-p /gl"], ["-p", "/glob/*"]),
]  # fmt: skip


def test_options_and_values(shell: Shell) -> None:
    (shell.home / "plugins.ini").write_text("[other]\n[local mounts]\nremote=\n")
    shell.config.write_text('[check_mounts]\n [submit "nsca:monitor.example:5667"] \n[mount "/glob/*"]\n')
    for typed, given in LINES:
        found = b" ".join(shell.gives(*typed)).decode()
        # Whether an equals sign or a blank follows an option is up to the shell.
        assert found.replace("=", " ").rstrip() == " ".join(given).replace("=", " ").rstrip(), typed


NAMES = [
    b"plain", b"a blank", b"$(touch PWNED)", b"`touch PWNED`", b";touch PWNED;", b"quo'te", b'dou"ble',
    b"back\\slash", b"&touch PWNED&", b"|bar", b"st*r?[x]", b"{a,b}", b"~tilde", b"#comment", b"!history",
    b"a:colon=equals", b"\xc3\xa4", b"a\x1b[31mred", b"two\nlines", b"a\ttab", b"\xff\xfe", b"%s%n", b"a>b<c",
    b"-dash", b"(paren)", b"$HOME", b"\\n\\040",
]  # fmt: skip


@pytest.mark.root
def test_each_name_stays_a_name(shell: Shell, mounts: Mounts) -> None:
    points = [mounts.tmpfs(f"{number:02d}{os.fsdecode(name)}") for number, name in enumerate(NAMES)]
    for number, point in enumerate(points):
        typed = f"{mounts.base}/{number:02d}"
        for before, front in (("", b""), ("-p ", b""), ("--path=", b"--path=")):
            wanted = front + os.fsencode(point)
            if shell.shell == "fish" and {"\n", "\t"} & set(str(point)):
                wanted = front + typed.encode()  # it is not offered
            assert shell.gives(before + typed)[-1] == wanted, point
    if shell.shell != "fish":
        for quote in "'\"":
            for number in (0, 1, 2, 3, 6, 7, 16):
                typed = f"{mounts.base}/{number:02d}"
                assert shell.gives(quote + typed)[-1] == os.fsencode(points[number]), (quote, points[number])
    shell.shows(f"{mounts.base}/", "00plain")
    assert not list(shell.terminal.place.rglob("PWNED")) and not list(shell.home.rglob("PWNED"))


@pytest.mark.root
def test_no_mount_is_asked(shell: Shell, mounts: Mounts, fuse: Fuse) -> None:
    """Neither as a mount point, nor as a neighbour of files."""
    (mounts.base / "aaa").mkdir(parents=True)
    (mounts.base / "a.conf").touch()
    hung = fuse.mount("hung")
    (mounts.base / "link").symlink_to(hung)
    fuse.command("hang", "hung")
    before = fuse.command("asked", "hung")
    tried = [f"{mounts.base}/h"]
    for word in ("--config=", "--config ", "--state-dir=", "-p ", "--submit=", "--extra-opts=@"):
        tried += [f"{word}{mounts.base}/", f"{word}{hung}/", f"{word}{mounts.base}/link/"]
    if shell.shell == "fish":
        # As a user types, fish itself looks at paths, in the background. So here nobody types.
        script = shell.home.parent / FILES["fish"]
        for typed in tried:
            subprocess.run(
                ["fish", "-c", f"source {script}; complete -C {shlex.quote(f'check_mounts {typed}')}"], check=True
            )
    else:
        for typed in tried:
            shell.tries(typed)
        shell.terminal.press("C-u")
        assert shell.gives(tried[0])[-1] == os.fsencode(hung)
    assert (fuse.command("asked", "hung"), fuse.waiting("hung")) == (before, 0)
    for word in ("--config=", "--config ", "--state-dir="):
        seen = shell.shows(f"{word}{mounts.base}/", "aaa/", "hung/")
        assert ("a.conf" in seen) == (word != "--state-dir=")
    shell.terminal.press("C-u")
    assert shell.gives("--remot") == [b"--remote"]
