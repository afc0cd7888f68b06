"""The files of nrpe/ and nagios/ as they stand there: their options, paths and names are those of
the program and of one another."""

from __future__ import annotations

import bz2
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_mounts.cache import DEFAULT_PATH
from check_mounts.options.option_table import DEFAULT_CONFIG as CONFIGURATION
from check_mounts.options.option_table import INCIDENTS
from tests.conftest import PYTHON, ROOT, Mounts
from tests.monitoring.stack import PROGRAM, ROOT_OF_PACKAGES, Stack

pytestmark = pytest.mark.monitoring

NRPE, NAGIOS = ROOT / "nrpe", ROOT / "nagios"
FILES = sorted([*NRPE.iterdir(), *NAGIOS.iterdir()])
TOOLS = ROOT_OF_PACKAGES / "usr/bin"
of_each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")

# What may stand before a command line, and what ends it.
_COMMAND_LINE = re.compile(
    rf"(?:^#?command\[\w+\]=|NOPASSWD: |command_line\s+|sudo -u nagios |; )(?:sudo )?(?:-n )?{PROGRAM}( [^>#|\n]*|$)",
    re.MULTILINE,
)
_OPTION = re.compile(r"(?<![\w/`-])--[a-z][a-z-]+")
# systemctl's.
_OF_OTHERS = {"--now", "--no-block"}
_PATH = re.compile(r"(?<![\w.*/:-])/(?:etc|home|proc|run|usr|var)(?:/[\w.@-]*\w)*")
OURS = {
    str(PROGRAM),
    CONFIGURATION,
    DEFAULT_PATH,
    str(Path(DEFAULT_PATH).parent),
    str(Path(INCIDENTS).parent),
    "/usr/local/share/check_mounts/nrpe",  # DATADIR in the Makefile
    "/usr/local/share/check_mounts/nagios",
    "/var/lib/nagios/check_mounts",  # is made
    "/etc/nagios/nrpe.d/check_mounts.cfg",
    "/etc/nagios4/conf.d/check_mounts.cfg",
    "/etc/nagios4/conf.d/check_mounts_localhost.cfg",  # is made
    "/etc/systemd/system/check_mounts.service",
    "/etc/sudoers.d/check_mounts",
    "/etc/cron.d/check_mounts",
}
# There on every Linux, on other distributions, or an example.
FOREIGN = {
    "/run", "/var/lib", "/var/run/check_mounts", "/var/lib/nagios", "/proc/PID/wchan", "/proc/PID/stack", "/home",
    "/etc/systemd/system", "/etc/machine-id", "/etc/hostname", "/etc/sudoers.d", "/etc/nrpe.d",
}  # fmt: skip
OF_PACKAGES = {
    "/etc/nagios/nrpe.d", "/etc/nagios4/conf.d", "/etc/nagios4/nagios.cfg", "/usr/sbin", "/usr/bin",
    "/usr/lib/nagios/plugins/check_nrpe",
}  # fmt: skip


def run(*arguments: str) -> str:
    return subprocess.run(
        [PYTHON, "-m", "check_mounts", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


@pytest.fixture(scope="module")
def options() -> set[str]:
    return set(_OPTION.findall(run("--help-all")))


@of_each_file
def test_options_are_those_of_the_program(path: Path, options: set[str]) -> None:
    assert "--cached" in options
    assert set(_OPTION.findall(path.read_text())) <= options | _OF_OTHERS


@of_each_file
def test_paths_are_there(path: Path) -> None:
    assert set(_PATH.findall(path.read_text())) <= OURS | FOREIGN | OF_PACKAGES


def test_paths_of_packages_are_there() -> None:
    for name in OF_PACKAGES:
        assert (ROOT_OF_PACKAGES / name[1:]).exists(), name


def command_lines() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for match in _COMMAND_LINE.finditer(path.read_text()):
            yield path.name, match[1].strip()


@pytest.mark.parametrize(("name", "words"), sorted(set(command_lines())))
def test_command_lines_are_understood(name: str, words: str) -> None:
    filled = words.replace('"$MONITOR"', "nsca:192.0.2.1").replace('"$SERVICE"', "mounts").split()
    missing = ["--cache" if "--cached" in filled else "--mountinfo", "/nowhere/file"]
    assert re.match(r"MOUNTS UNKNOWN - .*/nowhere/file", run(*filled, *missing)), words


def test_each_kind_of_command_line_was_found() -> None:
    assert {name for name, _ in command_lines()} == {
        "README.md",
        "check_mounts.cfg",
        "check_mounts.cron",
        "check_mounts.sudoers",
    }


@of_each_file
def test_files_that_are_named_are_there(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(r"\bcheck_mounts\.(?:cfg|cron|fc|service|sudoers|te)\b|\bexample\.cfg\b", text):
        assert (NRPE / name).exists() or (NAGIOS / name).exists(), name
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / link).exists(), link


def test_all_name_the_same_commands() -> None:
    defined = dict(re.findall(r"^command\[(\w+)\]=(.*)$", (NRPE / "check_mounts.cfg").read_text(), re.M))
    nagios = (NAGIOS / "check_mounts.cfg").read_text()
    assert set(re.findall(r"check_mounts_by_nrpe!(\w+)", nagios)) == set(defined)
    on_the_server = dict(re.findall(r"command_name\s+(\w+)\n\tcommand_line\s+(.*)$", nagios, re.M))
    assert {name: on_the_server[name] for name in defined} == defined
    assert f"NOPASSWD: {defined['check_mounts'].removeprefix('sudo ')}\n" in (NRPE / "check_mounts.sudoers").read_text()


@pytest.mark.parametrize("line", ["max-output = 1023", "submit = nsca:192.0.2.1"])
def test_the_configuration_knows_what_the_files_say(line: str, tmp_path: Path) -> None:
    key = line.partition("=")[0] + "="
    assert any(key in path.read_text() for path in FILES)
    file = tmp_path / "check_mounts.conf"
    file.write_text(f"[check_mounts]\n{line}\n")
    assert "/nowhere/file" in run("--config", str(file), "--mountinfo", "/nowhere/file")


def test_secrets_of_the_destination_are_where_cron_says() -> None:
    from check_mounts.passive.destinations import KINDS

    text = (NRPE / "check_mounts.cron").read_text()
    for kind in KINDS:
        assert f"{kind.word}:" in text


# -- cron


def cron_line() -> tuple[dict[str, str], str]:
    """The variables of the file, and the command as cron gives it to the shell."""
    lines = [
        line for line in (NRPE / "check_mounts.cron").read_text().splitlines() if line and not line.startswith("#")
    ]
    variables = dict(line.split("=", 1) for line in lines[:-1])
    fields = lines[-1].split(maxsplit=6)
    assert fields[:6] == ["*", "*", "*", "*", "*", "root"]
    # crontab(5): what follows a % that is not escaped would be standard input.
    assert "%" not in fields[6].replace("\\%", "")
    return variables, fields[6].replace("\\%", "%")


@pytest.fixture
def machine_id(stack: Stack) -> str:
    """One with which, beside this host's name, the command has not to wait."""
    name = Path("/etc/hostname").read_text() if Path("/etc/hostname").exists() else ""
    number = 0
    while True:
        text = f"{number:032x}\n"
        checksum = subprocess.run(
            ["cksum"], input=text + name, capture_output=True, text=True, check=True
        ).stdout.split()[0]
        if int(checksum) % 45 == 0:
            stack.write("/etc/machine-id", text)
            return text
        number += 1


@pytest.mark.root
def test_cron_hands_its_result_over(stack: Stack, installed: Path, machine_id: str, mounts: Mounts) -> None:
    mounts.tmpfs("a")
    stack.write(CONFIGURATION, f"[check_mounts]\npath = {mounts.base}/*\n")
    variables, command = cron_line()
    pipe = stack.base / "pipe"
    os.mkfifo(pipe, 0o600)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    environment = {**variables, "MONITOR": f"command-file:{pipe}"}
    done = stack.run("/bin/sh", "-c", command, user="root", env=environment)
    assert (done.stdout, done.stderr) == ("", "")
    expected = (
        rf"\[\d+\] PROCESS_SERVICE_CHECK_RESULT;{os.uname().nodename};mounts;0;MOUNTS OK - 1 mount "
        rf"checked in .* \| .*\n"
    )
    assert re.fullmatch(expected, os.read(reader, 65536).decode())
    os.close(reader)
    # What cron mails.
    done = stack.run("/bin/sh", "-c", command, user="root", env=environment)
    assert done.stdout == ""
    assert re.fullmatch(rf"[^\n]*command-file:{pipe}[^\n]*\n", done.stderr)


@pytest.mark.root
def test_cron_mails_what_is_wrong_with_the_set_up(stack: Stack, installed: Path, machine_id: str) -> None:
    variables, command = cron_line()

    def mailed(**changes: str) -> str:
        done = stack.run("/bin/sh", "-c", command, user="root", env={**variables, **changes})
        assert (done.returncode, done.stdout) == (3, "")
        return done.stderr

    stack.write(CONFIGURATION, '[submit "nrdp:https://127.0.0.1/"]\ntoken = geheim\n')
    refused = (
        f"{CONFIGURATION} line 2: token: refused, because everybody can read the file (mode 0644): "
        f"chmod o-r {CONFIGURATION}"
    )
    assert mailed(MONITOR="nsca:127.0.0.1") == f"check_mounts: not submitted: {refused}\n"
    stack.write(CONFIGURATION, "")
    missing = "argument --submit: icinga2: either 'user' and 'password' or 'certificate' is needed"
    assert mailed(MONITOR="icinga2:https://127.0.0.1") == f"check_mounts: not submitted: {missing}\n"
    service = "argument --submit-service: 'a;b' is not the name of a host or service"
    assert mailed(SERVICE="a;b") == f"check_mounts: not submitted: {service}\n"


# -- SELinux


def tool(name: str, *arguments: str | Path) -> None:
    done = subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_selinux_module_grants_what_it_says(tmp_path: Path) -> None:
    """It is compiled, linked with Debian's reference policy, and what comes out is read again."""
    built = [tmp_path / name for name in ("check_mounts.mod", "check_mounts.pp")]
    tool("checkmodule", "-M", "-m", "-o", built[0], NRPE / "check_mounts.te")
    tool("semodule_package", "-o", built[1], "-m", built[0], "-f", NRPE / "check_mounts.fc")
    modules = []
    for name in ("base", "nagios", "unconfined"):
        compressed = (ROOT_OF_PACKAGES / f"usr/share/selinux/default/{name}.pp.bz2").read_bytes()
        modules.append(tmp_path / f"{name}.pp")
        modules[-1].write_bytes(bz2.decompress(compressed))
    linked, binary, text = (tmp_path / name for name in ("linked", "policy", "policy.conf"))
    tool("semodule_link", "-o", linked, *modules, built[1])
    tool("semodule_expand", linked, binary)
    tool("checkpolicy", "-M", "-b", "-F", "-o", text, binary)
    rules = text.read_text()
    granted = {
        kind: set(words.split())
        for kind, words in re.findall(r"^allow nrpe_t check_mounts_runtime_t:(\w+) {([^}]*)}", rules, re.M)
    }
    assert granted == {"dir": {"getattr", "open", "search"}, "file": {"getattr", "open", "read"}}
    assert len(re.findall(r"^ *allow .*\bcheck_mounts_runtime_t\b", rules, re.M)) == 3  # and its filesystem's
    # The policy's own part in it, as the module's comments have it.
    for target, wanted in {
        "bin_t:file": "execute_no_trans",
        "usr_t:file": "read",
        "sysctl_kernel_t:file": "read",
        "var_run_t:dir": "search",
    }.items():
        (found,) = re.findall(rf"^allow nrpe_t {target} {{([^}}]*)}}", rules, re.M)
        assert wanted in found.split(), target
    assert not re.search(r"allow nrpe_t (var_run_t:file|sudo_exec_t)", rules)
