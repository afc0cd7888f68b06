"""The files of icinga2/ in a real Icinga 2: commands, services, dependencies, notifications, and
how much of the perfdata arrives."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import median
from typing import Any, Optional

import pytest

from check_mounts.options import command_line
from check_mounts.options.option import Option
from check_mounts.options.option_table import BY_WORD, MOUNT_POINTS
from check_mounts.system import printing
from tests.conftest import PYTHON, ROOT, Fuse, Mounts, in_time, remaining, without_note
from tests.monitoring.icinga import MASTER, SHIPPED, ApiError, Authority, Icinga, host, messages, seconds
from tests.monitoring.stack import PROGRAM, Stack, free_port

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

OK, WARNING, CRITICAL, UNKNOWN = range(4)
# Options that a check has no use for, and why.
NOT_FOR_A_CHECK = {
    "--json": "Icinga reads the output of a plugin, not JSON",
    "--brief": "goes with --json",
    "--table": "is for people",
    "--explain": "is for people",
    "--version": "prints no verdict",
    "--completion": "prints no verdict",
    "--help": "prints no verdict",
    "--help-all": "prints no verdict",
    "--check-config": "checks no mount",
    "--write-config": "checks no mount",
    "--daemon": "a check ends; the daemon is started by systemd on the checked host",
    "--boot-grace": "how long a host needs to mount all it declares is said in its configuration",
    "--namespaces": "whether a host has containers is said in its configuration",
    "--namespace": "is for a daemon in a container, whose command line is its own",
    "--wait": "a check that waits is late; it is for those who start services",
    "--interval": "the daemon's",
    "--foreground": "the daemon's",
    "--metrics": "the daemon's",
    "--syslog-facility": "the daemon's",
    "--syslog-ident": "the daemon's",
    "--log-changes": "the daemon's",
    "--submit": "sends its results by another way than a check does",
    "--submit-host": "goes with --submit",
    "--submit-service": "goes with --submit",
    "--submit-timeout": "goes with --submit",
    "--canary": "what a filesystem must hold is said in the configuration of its host",
    "--pretend": "is for a person who tries the way to the pager",
    "--for": "goes with --pretend",
    "--debug": "says more on stderr, for those who look for a defect",
    "--per-mount": "has several results where a check has one",
    "--incidents": "checks no mount",
    "--users": "checks no mount",
    "--since": "goes with --incidents",
    "--incident-file": "the daemon's",
    "--on-change": "the daemon's",
    "--on-change-drill": "the daemon's",
    "--unusual": "the daemon's",
    "--cached": "is what check_mounts_cached runs",
}
OF_CACHED = {"--cache", "--max-age", "--verbose"}
HOSTILE = "/mnt/a b'c\"d;e|f$(g)ü\\h"
# Values of variables, where not any string will do.
EXAMPLES: dict[str, object] = {
    "--verbose": 2,
    "--autofs": "probe",
    "--automounted": "probe",
    "--perfdata": "steps",
    "--max-workers": 7,
    "--max-output": 2048,
    "--timeout": 3,
    "--deadline": 7,
    "--expect": ["/srv,source=filer1:/srv,type=nfs4,nodev", "/a\\,b"],
    "--extra-opts": ["one@/etc/mp.ini", "two"],
    "--warning": ["0.5", "statfs=1"],
    "--critical": ["2", "read=@1:2"],
    "--severity": ["denied=ok", "slow=critical"],
    "--include-type": ["nfs*", "ext4"],
    "--exclude-type": ["fuse.*", "9p"],
    "--usage-warning": "90",
    "--usage-critical": "10GiB:",
    "--inodes-warning": "90",
    "--inodes-critical": "95",
    MOUNT_POINTS: [HOSTILE, "/home"],
}
CLIENT_COUNT = 100
GRACE = 3600
# Clients of filer1; one that needs no server; one that needs two; one with a service for each
# mount.
CLIENTS = f"""
object User "admin" {{ email = "admin@example.org" }}
template Host "client" {{
    check_command = "dummy"
    vars.mounts_via = "passive"
    vars.notification["mail"] = {{ users = [ "admin" ] }}
}}
for (number in range({CLIENT_COUNT})) {{
    object Host "client" + string(number) {{ import "client"; vars.nfs_servers = "filer1" }}
}}
object Host "other" {{ import "client" }}
object Host "newcomer" {{ import "client" }}
object Service "mounts for the first time" {{
    import "mounts-passive"
    host_name = "newcomer"
    enable_active_checks = false
}}
object Host "both" {{ import "client"; vars.nfs_servers = [ "filer1", "filer2" ] }}
object Host "apart" {{
    import "client"
    vars.mounts_via = null
    vars.nfs_servers = [ "filer1", "filer2" ]
    vars.mounts["/one"] = {{ nfs_servers = [ "filer1" ] }}
    vars.mounts["/two"] = {{ nfs_servers = [ "filer2" ] }}
    vars.mounts["/var"] = {{ }}
}}
"""
MAIL = f"""#!{PYTHON} -IS
import json, os, sys
line = json.dumps([sys.argv[1:], sys.stdin.read()]) + "\\n"
os.write(os.open("@", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), line.encode())
"""
STUB = f"""#!{PYTHON} -IS
import json, sys
print("MOUNTS OK - " + json.dumps(sys.argv[1:]).replace("|", "\\\\u007c"))
"""


def options() -> dict[str, Optional[Option]]:
    """The options of the program by their long names; None for its positional arguments."""
    return {MOUNT_POINTS: None, **{word: option for word, option in BY_WORD.items() if word == option.long}}


def words(option: Optional[Option]) -> Sequence[str]:
    """How the command line of a CheckCommand spells it."""
    return ["MOUNTPOINT"] if option is None else option.words


def of_command_line(arguments: Sequence[str]) -> Any:
    return command_line.with_defaults(command_line.given(arguments))


def dest(option: Optional[Option]) -> str:
    return MOUNT_POINTS if option is None else option.dest


def variable(option: str) -> str:
    return "mounts_" + option.lstrip("-").replace("-", "_")


def repeatable(option: Optional[Option]) -> bool:
    return option is None or (option.repeatable and option.takes_value)


def is_flag(option: Optional[Option]) -> bool:
    return option is not None and not option.takes_value


def of_check_mounts() -> dict[str, Optional[Option]]:
    without = NOT_FOR_A_CHECK.keys() | (OF_CACHED - {"--verbose"})
    return {name: option for name, option in options().items() if name not in without}


def example(name: str, option: Optional[Option]) -> object:
    """A value of the option's variable that is not its default."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if is_flag(option):
        return True
    return [HOSTILE, "/mnt/*"] if repeatable(option) else HOSTILE


def escaped(value: object) -> object:
    """``$`` is the one character that means something in the value of a variable."""
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def hosts(stub: Path, ports: dict[str, int]) -> str:
    """Hosts for every rule, so that none is without a match. The agent of all of them is the master
    itself."""
    everything = {variable(option): escaped(example(option, action)) for option, action in of_check_mounts().items()}
    agent = {"mounts_via": "agent", "agent_endpoint": MASTER}
    stubbed = {**agent, "mounts_program": str(stub)}
    filer = {"nfs_server": "tcp", "nfs_grace": GRACE, "notification": {"mail": {"users": ["admin"]}}}
    local = 'address = "127.0.0.1"'
    return "\n".join([
        CLIENTS,
        host("plain", **stubbed),
        host("full", **{**stubbed, **everything}),
        host("single", **stubbed, mounts_path="/home", mounts_extra_opts="one", mounts_verbose="7"),
        host("direct", **agent, mounts_sudo=True),
        host("unprivileged", **agent),
        host("cached", mounts_via="agent-cached", agent_endpoint=MASTER, mounts_verbose=1),
        host("nrpe", local, mounts_via="nrpe", nrpe_port=ports["nrpe"]),
        host("nrpe-cached", local, mounts_via="nrpe-cached", nrpe_port=ports["nrpe"]),
        host("passive", mounts_via="passive", mounts={"/home": {}, "/a b\\012c'd$": {}}),
        *(host(name, local, **filer, nfs_port=ports[name]) for name in ("filer1", "filer2")),
        host("old", local, nfs_server="rpc"),
        host("cifs", local, nfs_server="tcp", nfs_port=445, nfs_grace=77),
    ])  # fmt: skip


class Sink(HTTPServer):
    """Takes what Icinga's InfluxdbWriter sends: the perfdata as Icinga has understood it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def values(self, host_name: str) -> dict[str, float]:
        """Label -> value, of a host that was checked once."""
        found = {}
        for line in list(self.lines):
            match = re.fullmatch(r"check,host=(.*?)(?<!\\),metric=(.*?)(?<!\\) (?:unit=\"\w+\",)?value=(.*?) \d+", line)
            if match and match[1] == host_name:
                found[re.sub(r'\\([, ="])', r"\1", match[2])] = float(match[3])
        return found

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8")
        assert isinstance(self.server, Sink)
        self.server.lines += body.split("\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


WRITER = """
object InfluxdbWriter "sink" {{
    host = "127.0.0.1"
    port = {port}
    flush_interval = 1s
    host_template = {{ measurement = "check" }}
    service_template = {{ measurement = "check"; tags = {{ host = "$host.name$" }} }}
}}
"""


class Listener:
    """The port that a file server answers on, or does not."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def up(self) -> None:
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", self._port))
            self._socket.listen(64)

    def down(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.fixture(scope="module")
def authority(stack: Stack) -> Authority:
    return Authority(stack)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    result = Sink()
    yield result
    result.close()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("nrpe", "filer1", "filer2")}


@pytest.fixture(scope="module")
def icinga(stack: Stack, installed: Path, authority: Authority, sink: Sink, ports: dict[str, int]) -> Iterator[Icinga]:
    mail = stack.own(stack.base / "mail")
    stack.write(stack.base / "bin/mail", MAIL.replace("@", str(mail / "sent")), mode=0o755)
    stub = stack.write(stack.base / "stub", STUB, mode=0o755)
    stack.write("/etc/sudoers.d/check_mounts", (ROOT / "nrpe/check_mounts.sudoers").read_text(), mode=0o440)
    env = {"PATH": f"{stack.base}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    result = Icinga(stack, authority, hosts(stub, ports), features=WRITER.format(port=sink.server_address[1]), env=env)
    result.start()
    # Checks come when a test wants them, and else only to find stale results. Not those of hosts
    # whose users are told: on a day when the tests take minutes, these would be told of clients
    # that nobody has submitted a result for.
    scheduled = 'service.check_command != "passive" || host.vars.notification'
    result.call("POST", "/v1/objects/services", {"filter": scheduled, "attrs": {"enable_active_checks": False}})
    delay_notifications(result, 0)
    yield result
    result.stop()


@pytest.fixture
def only(stack: Stack, mounts: Mounts) -> Iterator[Callable[..., None]]:
    """Limit the commands, whose arguments are not a test's, to the mounts of the test."""
    path = Path("/etc/check_mounts.conf")

    def write(*more: str) -> None:
        stack.write(path, "\n".join(["[check_mounts]", f"path = {mounts.base}/*", *more, ""]))

    write()
    yield write
    path.unlink()


def arguments(icinga: Icinga, name: str) -> list[str]:
    """What the program is called with for the service "mounts" of this host."""
    result = icinga.check(name, "mounts")
    verdict, _, words = result["output"].partition(" - ")
    assert verdict == "MOUNTS OK", result
    return list(json.loads(words))


# -- configuration and commands


def test_the_configuration_is_clean(icinga: Icinga) -> None:
    done = icinga.validate()
    assert done.returncode == 0, done.stdout
    assert not messages(done.stdout, "warning", "critical"), done.stdout
    # Of clients and mounts with a server, and one within each of the four servers.
    assert f"Instantiated {CLIENT_COUNT + 2 + 2 + 4} Dependencies" in done.stdout


def test_a_server_that_is_not_monitored_is_refused(stack: Stack, authority: Authority) -> None:
    wrong = Icinga(
        stack, authority, host("client", mounts_via="passive", nfs_servers=["filr1"]), name="wrong.example.org"
    )
    done = wrong.validate()
    assert done.returncode != 0
    assert "filr1" in done.stdout, done.stdout


def test_every_option_has_its_argument(icinga: Icinga) -> None:
    names = {word: name for name, option in options().items() for word in words(option)}
    direct, cached = (
        icinga.attributes("checkcommands", name)["arguments"] for name in ("check_mounts", "check_mounts_cached")
    )
    said = {names[key] for key in direct if key not in ("-n", "PROGRAM")}
    assert said ^ of_check_mounts().keys() == set(), (
        "each option has an argument in icinga2/check_mounts-command.conf, or its reason in NOT_FOR_A_CHECK"
    )
    assert {names[key] for key in cached} == OF_CACHED


def test_arguments_are_in_the_style_of_the_itl(icinga: Icinga) -> None:
    command = icinga.attributes("checkcommands", "check_mounts")
    for option, action in of_check_mounts().items():
        (argument,) = (command["arguments"][key] for key in words(action) if key in command["arguments"])
        assert argument["description"].endswith("."), option
        assert argument.get("repeat_key", False) == repeatable(action), option
        if option == "--extra-opts":
            continue  # a function
        wanted = argument["set_if"] if is_flag(action) else argument["value"]
        assert f"${variable(option)}$" in wanted
        if is_flag(action) and not (action and action.repeatable):
            assert command["vars"][variable(option)] is False
    # It is for a program that does not end by itself.
    deadline = command["vars"]["mounts_timeout"] + command_line.BESIDE_TIMEOUT
    assert command["timeout"] > deadline + printing.WRITE_PATIENCE


def test_no_variable_no_argument(icinga: Icinga) -> None:
    assert arguments(icinga, "plain") == ["-t", "5"]


def test_every_variable_arrives(icinga: Icinga) -> None:
    given = arguments(icinga, "full")
    understood, default = of_command_line(given), of_command_line([])
    for option, action in of_check_mounts().items():
        assert getattr(understood, dest(action)) != getattr(default, dest(action)), option
        value = example(option, action)
        if value is not True and option != "--verbose":
            prefix = f"{option}=" if option in ("--fstab", "--extra-opts") else ""
            spelt = [f"{prefix}{each}" for each in (value if isinstance(value, list) else [value])]
            assert all(given.count(word) >= 1 for word in spelt), (option, given)
    assert understood.mount_points == [HOSTILE, "/home"]
    assert understood.extra_opts == EXAMPLES["--extra-opts"]
    assert understood.verbose == 2
    assert len(understood.path) == len(understood.expect) == len(understood.warning) == len(understood.severity) == 2


def test_a_single_value_needs_no_array(icinga: Icinga) -> None:
    assert sorted(arguments(icinga, "single")) == sorted(["--extra-opts=one", "-p", "/home", "-t", "5", "-vvv"])


@pytest.mark.parametrize("wanted", [True, "true", 1, "1", "2", "1.5", -1])
def test_sudo_is_wanted(icinga: Icinga, stack: Stack, wanted: object) -> None:
    assert command_with_sudo(icinga, wanted) == ["sudo", "-n", str(stack.base / "stub"), "-t", "5"]


@pytest.mark.parametrize("wanted", [False, "false", 0, "0", "", "0.5", "no", "yes", None, []])
def test_sudo_is_not_wanted(icinga: Icinga, stack: Stack, wanted: object) -> None:
    """What comes from a CMDB may be strings; and what set_if does not understand, it takes for
    no."""
    assert command_with_sudo(icinga, wanted) == [str(stack.base / "stub"), "-t", "5"]


def command_with_sudo(icinga: Icinga, wanted: object) -> object:
    def say(value: object) -> None:
        icinga.call("POST", "/v1/objects/services", {"service": "plain!mounts", "attrs": {"vars.mounts_sudo": value}})

    say(wanted)
    try:
        return icinga.check("plain", "mounts")["command"]
    finally:
        say(False)


# -- the ways to check a host


def test_direct(icinga: Icinga, mounts: Mounts, only: Callable[..., None]) -> None:
    # As root, by the rule that is shipped: the mount is root's, and closed.
    mounts.tmpfs("closed", "mode=0700")
    result = icinga.check("direct", "mounts")
    assert (result["state"], result["output"][:31]) == (OK, "MOUNTS OK - 1 mount checked in "), result
    assert result["command"] == ["sudo", "-n", str(PROGRAM), "-t", "5"]


def test_what_sudo_refuses_is_a_warning(icinga: Icinga) -> None:
    """As the README says: the rule that is shipped allows one command line, and sudo ends as a
    plugin does that warns."""
    name = {"service": "direct!mounts"}
    icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"vars.mounts_timeout": 6}})
    try:
        result = icinga.check("direct", "mounts")
    finally:
        icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"vars.mounts_timeout": 5}})
    assert (result["state"], result["output"].strip()) == (WARNING, "sudo: a password is required")
    readme = " ".join((SHIPPED / "README.md").read_text().split())
    assert "`sudo: a password is required` and WARNING" in readme


def test_direct_without_privileges(icinga: Icinga, mounts: Mounts, only: Callable[..., None]) -> None:
    only(f"state-dir = {Path('/var/lib/nagios/check_mounts')}")
    mounts.tmpfs("healthy")
    result = icinga.check("unprivileged", "mounts")
    assert result["command"] == [str(PROGRAM), "-t", "5"]
    assert result["state"] in (OK, WARNING), result  # where pytest keeps its files may be closed to others


def test_a_hung_mount(icinga: Icinga, mounts: Mounts, fuse: Fuse, only: Callable[..., None]) -> None:
    path = fuse.mount("hung", source="filer1:/home")

    def attempt() -> Any:
        fuse.hang_anew("hung")
        return icinga.check("direct", "mounts")

    first = in_time(5 + 1.5, attempt, seconds, attempts=2)
    assert first["state"] == CRITICAL
    output = "\n".join(line.rstrip() for line in first["output"].split("\n"))
    assert (
        without_note(output).rstrip()
        == f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} (fuse.test filer1:/home) timed out after 5 s"
    ), first
    (stuck,) = remaining(1)
    later = [icinga.check("direct", "mounts") for _ in range(5)]
    assert all("a probe has been stuck in it since" in each["output"] and each["state"] == CRITICAL for each in later)
    assert median(map(seconds, later)) < 2
    assert remaining(1) == {stuck}


def test_cached(icinga: Icinga, stack: Stack, mounts: Mounts, fuse: Fuse, only: Callable[..., None]) -> None:
    mounts.tmpfs("healthy")
    with stack.daemon():
        result = icinga.check("cached", "mounts")
        assert (result["state"], result["command"]) == (OK, [str(PROGRAM), "--cached", "-v"]), result
        fuse.mount("hung")
        fuse.command("hang", "hung")
        icinga.until(lambda: icinga.check("cached", "mounts")["state"] == CRITICAL)
        result = in_time(1, lambda: icinga.check("cached", "mounts"), seconds)
        assert "\nCRITICAL: " in result["output"], result  # the line of -v
    # A daemon that has gone is no OK.
    Path("/run/check_mounts/status").unlink(missing_ok=True)
    assert icinga.check("cached", "mounts")["state"] == UNKNOWN


def test_by_nrpe(
    icinga: Icinga, stack: Stack, mounts: Mounts, only: Callable[..., None], ports: dict[str, int]
) -> None:
    mounts.tmpfs("healthy")
    assert icinga.check("nrpe", "mounts")["state"] == UNKNOWN  # nobody listens there: nothing is known about its mounts
    text = re.sub(
        r"^server_port=.*$", f"server_port={ports['nrpe']}", Path("/etc/nagios/nrpe.cfg").read_text(), flags=re.M
    )
    # A copy: the checkout may lie where nrpe's user does not get in.
    commands = stack.write(stack.base / "check_mounts.cfg", (ROOT / "nrpe/check_mounts.cfg").read_text())
    text = re.sub(r"^include_dir=.*$", f"include={commands}", text, flags=re.M)
    with stack.server("/usr/sbin/nrpe", "-c", stack.write(stack.base / "nrpe.cfg", text), "-f") as nrpe, stack.daemon():
        nrpe.until_port(ports["nrpe"])
        for name in ("nrpe", "nrpe-cached"):
            result = icinga.check(name, "mounts")
            assert (result["state"], result["output"][:27]) == (OK, "MOUNTS OK - 1 mount checked"), result


def test_passive(icinga: Icinga) -> None:
    icinga.submit("passive", "mounts", WARNING, "MOUNTS WARNING - text\nmore", ["ok=1", "'/a b'=0.1s"])
    service = icinga.service("passive", "mounts")
    assert (service["state"], service["last_check_result"]["output"]) == (WARNING, "MOUNTS WARNING - text\nmore")
    assert service["last_check_result"]["performance_data"] == ["ok=1", "'/a b'=0.1s"]
    # Three results may be missed, not more.
    assert service["check_interval"] == 180
    assert 170 < service["next_check"] - time.time() <= 180


def test_a_service_for_each_mount(icinga: Icinga) -> None:
    for mount in ("/home", "/a b\\012c'd$"):
        icinga.submit("passive", f"mounts {mount}", CRITICAL, f"MOUNTS CRITICAL - {mount} timed out after 5 s")
        assert icinga.service("passive", f"mounts {mount}")["state"] == CRITICAL
    with pytest.raises(ApiError, match="404"):
        icinga.submit("passive", "mounts /not configured", OK, "MOUNTS OK - x")


def silence(output: str, name: str) -> int:
    """For how many seconds nothing came, as a stale result says."""
    match = re.fullmatch(
        rf"MOUNTS UNKNOWN - no result came from {name} for (\d+) s: does check_mounts --submit run there\?", output
    )
    assert match, output
    return int(match[1])


def stale(icinga: Icinga, service: str) -> int:
    icinga.until(lambda: icinga.service("passive", service)["state"] == UNKNOWN)
    return silence(icinga.service("passive", service)["last_check_result"]["output"], "passive")


def test_a_stale_result_is_unknown(icinga: Icinga) -> None:
    name = {"service": "passive!mounts /home"}
    icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"check_interval": 2}})
    for _ in range(2):
        icinga.submit("passive", "mounts /home", OK, "MOUNTS OK - fresh")
        assert icinga.service("passive", "mounts /home")["state"] == OK
        assert 2 <= stale(icinga, "mounts /home") < 60


def test_a_result_past_its_ttl_is_unknown(icinga: Icinga) -> None:
    icinga.submit("passive", "mounts", OK, "MOUNTS OK - fresh", ttl=1)
    assert icinga.service("passive", "mounts")["state"] == OK
    # It says how long ago the last one came, and not how long others are good for.
    assert 1 <= stale(icinga, "mounts") < 60


# -- perfdata


def test_all_perfdata_arrives(
    icinga: Icinga, stack: Stack, sink: Sink, mounts: Mounts, only: Callable[..., None]
) -> None:
    marks = ["\n", "|", "'", '"', "=", ";", "\t", "\\", "%", "$x$", ",", "ü ☃", "\u202e", " ", "::"]
    names = ["plain", "'", "=", "x" * 200, *(f"a{mark}b" for mark in marks)]
    for name in names:
        mounts.tmpfs(name)
    mounts.tmpfs("invalid\udcff\udcfe")
    only("perfdata = steps", "usage-warning = 99")
    result = icinga.check("direct", "mounts")
    assert (result["state"], result["output"][:21]) == (OK, f"MOUNTS OK - {len(names) + 1} mounts"[:21]), result
    items = [re.fullmatch(r"(?:'([^']*)'|([^' =]+))=([0-9.]+)\S*", item) for item in result["performance_data"]]
    sent = {item[1] or item[2]: float(item[3]) for item in items if item}
    assert len(sent) == len(items)
    printed = stack.run(PROGRAM, "-t", "5", user="root").stdout.split("\n")[0].partition(" | ")[2]
    assert sent.keys() == set(re.findall(r"'([^']*)'=|(?<=\S )", "x " + printed)) - {""} | set(
        re.findall(r"(?:^| )([a-z_]+)=", printed)
    )
    # Of each mount the whole probe, its four steps and its usage.
    assert len([label for label in sent if label.startswith(str(mounts.base))]) == 6 * (len(names) + 1)
    icinga.until(lambda: len(sink.values("direct")) >= len(sent))
    assert sink.values("direct") == pytest.approx(sent, abs=1e-6)
    assert not [line for line in messages(icinga.log, "warning", "critical") if "perfdata" in line.lower()]


# -- dependencies and notifications


class Mails:
    """What was sent since :meth:`settle`, by the script that stands in for mail(1)."""

    def __init__(self, icinga: Icinga, path: Path) -> None:
        self._icinga = icinga
        self._path = path
        self._forgotten = 0

    def _lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def all(self) -> list[tuple[list[str], str]]:
        return [(words, text) for words, text in map(json.loads, self._lines()[self._forgotten :])]

    def subjects(self) -> list[str]:
        return [words[words.index("-s") + 1] for words, _ in self.all()]

    def settle(self) -> None:
        """Wait until whoever was told of a problem was told of its end, and no mail is under way;
        and forget them."""
        unsettled: tuple[list[str], int] = [], 0

        def is_settled() -> bool:
            nonlocal unsettled
            told = self._icinga.call("GET", "/v1/objects/notifications")
            open_ones = [each["name"] for each in told if each["attrs"]["notified_problem_users"]]
            unsettled = open_ones, self._icinga.log.count("/Notification: Sending ") - len(self._lines())
            return unsettled == ([], 0)

        try:
            self._icinga.until(is_settled)
        except AssertionError as error:
            raise AssertionError(f"problems without an end: {unsettled[0]}; mails under way: {unsettled[1]}") from error
        self._forgotten = len(self._lines())


@pytest.fixture
def mails(stack: Stack, icinga: Icinga) -> Mails:
    return Mails(icinga, stack.base / "mail/sent")


@pytest.fixture
def filers(icinga: Icinga, ports: dict[str, int], mails: Mails) -> Iterator[dict[str, Listener]]:
    """Two file servers that are up, clients without a complaint, and nothing that was sent."""
    result = {name: Listener(ports[name]) for name in ("filer1", "filer2")}
    try:
        for name, listener in result.items():
            listener.up()
            assert icinga.check(name, "nfs")["state"] == OK
            end_grace(icinga, name)
        submit_all(icinga, CLIENTS_OF_FILER1, OK)
        for name, service in OTHER_SERVICES:
            icinga.submit(name, service, OK, "MOUNTS OK - 1 mount checked")
        mails.settle()
        yield result
    finally:
        for listener in result.values():
            listener.down()


CLIENTS_OF_FILER1 = [f"client{number}" for number in range(CLIENT_COUNT)]
OTHER_SERVICES = [
    ("other", "mounts"),
    ("both", "mounts"),
    ("apart", "mounts /one"),
    ("apart", "mounts /two"),
    ("apart", "mounts /var"),
]
HUNG = "MOUNTS CRITICAL - 1 of 9 mounts failed: /home (nfs4 filer1:/home) timed out after 5 s"


def submit_all(icinga: Icinga, names: Sequence[str], state: int, times: int = 1) -> None:
    for _ in range(times):
        for name in names:
            icinga.submit(name, "mounts", state, HUNG if state else "MOUNTS OK - 9 mounts checked")


def end_grace(icinga: Icinga, server: str) -> None:
    """Make the grace period that is under way end now."""
    name = {"service": f"{server}!nfs clients"}
    icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"vars.nfs_grace": 0}})
    assert icinga.check(server, "nfs clients")["state"] == OK
    icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"vars.nfs_grace": GRACE}})


def fail(icinga: Icinga, name: str, service: str = "mounts") -> bool:
    """Have the service become CRITICAL, hard; whether it can be reached."""
    for _ in range(3):
        icinga.submit(name, service, CRITICAL, HUNG)
    attributes = icinga.service(name, service)
    assert (attributes["state"], attributes["state_type"]) == (CRITICAL, 1)
    return bool(attributes["last_reachable"])


def test_a_server_that_is_down_is_one_alarm(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    filers["filer1"].down()
    assert icinga.check("filer1", "nfs")["state"] == CRITICAL
    # A soft state of the server is enough: clients may be faster than its second and third check.
    assert icinga.service("filer1", "nfs")["state_type"] == 0
    submit_all(icinga, CLIENTS_OF_FILER1, CRITICAL, times=3)
    for _ in range(2):
        icinga.check("filer1", "nfs")
    assert icinga.service("filer1", "nfs")["state_type"] == 1
    assert icinga.check("filer1", "nfs clients")["state"] == WARNING
    services = icinga.services()
    for name in CLIENTS_OF_FILER1:
        attributes = services[f"{name}!mounts"]
        assert (attributes["state"], attributes["state_type"], attributes["last_reachable"]) == (CRITICAL, 1, False)
    # It is the dependency that keeps them quiet: who needs no server is heard.
    assert fail(icinga, "other")
    icinga.until(lambda: len(mails.all()) >= 2)
    assert sorted(mails.subjects()) == ["PROBLEM: filer1 nfs is CRITICAL", "PROBLEM: other mounts is CRITICAL"]
    # The server is back; its clients follow one after the other, and one does not.
    filers["filer1"].up()
    assert icinga.check("filer1", "nfs")["state"] == OK
    assert not fail(icinga, "client1")
    submit_all(icinga, CLIENTS_OF_FILER1[1:], OK)
    end_grace(icinga, "filer1")

    def is_told() -> bool:
        # As a daemon does, again and again: what Icinga held back it tells with a result that is
        # newer than the server's recovery.
        icinga.submit("client0", "mounts", CRITICAL, HUNG)
        return len(mails.all()) >= 4

    icinga.until(is_told)
    assert sorted(mails.subjects()[2:]) == ["PROBLEM: client0 mounts is CRITICAL", "RECOVERY: filer1 nfs is OK"]


def test_a_check_that_comes_too_early_repeats_the_result(icinga: Icinga) -> None:
    # When a parent recovers, Icinga checks its children that have a problem, whatever is known
    # about them.
    perfdata = ["ok=8;;;0", "'/a b$'=0.1s;;;0", "'/c=d'=2s"]
    for state, text in ((CRITICAL, HUNG + " $user.email$\ncritical: /home"), (OK, "MOUNTS OK - 9 mounts checked")):
        icinga.submit("other", "mounts", state, text, perfdata)
        # Somebody presses "check now" again and again: what is repeated is what was submitted, and
        # is no older for it.
        for _ in range(3):
            result = icinga.check("other", "mounts")
            assert (result["active"], result["state"], result["output"], result["performance_data"]) == (
                True,
                state,
                text,
                perfdata,
            )
    icinga.submit("other", "mounts", OK, "MOUNTS OK - no mounts", ttl=2)
    result = icinga.check("other", "mounts")
    assert (result["state"], result["output"], result["performance_data"]) == (OK, "MOUNTS OK - no mounts", [])
    # It is no younger either.
    icinga.until(lambda: icinga.check("other", "mounts")["state"] == UNKNOWN)
    for _ in range(2):
        assert 2 <= silence(icinga.check("other", "mounts")["output"], "other") < 60
    icinga.submit("other", "mounts", OK, "MOUNTS OK - 9 mounts checked")
    assert icinga.check("other", "mounts")["state"] == OK


def test_a_repeated_result_outlives_a_start_of_icinga(stack: Stack, authority: Authority) -> None:
    """Icinga is started anew for each new configuration, and knows the last result then, but not
    what it repeats."""
    text = host("client", mounts_via="passive", mounts={"/new": {}, "/silent": {}, "/changed": {}})
    icinga = Icinga(stack, authority, text, name="again.example.org").start()
    changed = {"service": "client!mounts /changed"}
    try:
        icinga.submit("client", "mounts", CRITICAL, HUNG, ["ok=8"])
        icinga.submit("client", "mounts /silent", OK, "MOUNTS OK - fresh", ttl=1)
        icinga.until(lambda: icinga.check("client", "mounts /silent")["state"] == UNKNOWN)
        icinga.call("POST", "/v1/objects/services", {**changed, "attrs": {"check_command": "random"}})
        for service in ("mounts", "mounts /changed"):
            icinga.check("client", service)
        icinga.call("POST", "/v1/objects/services", {**changed, "attrs": {"check_command": "passive"}})
        icinga.stop()
        icinga.start()
        for _ in range(2):
            result = icinga.check("client", "mounts")
            assert (result["state"], result["output"], result["performance_data"]) == (CRITICAL, HUNG, ["ok=8"])
            # Nothing is said of how long it is, because that is not known; least of all is it a
            # result.
            for service in ("mounts /new", "mounts /silent", "mounts /changed"):
                result = icinga.check("client", service)
                assert result["state"] == UNKNOWN
                assert (
                    result["output"]
                    == "MOUNTS UNKNOWN - no result came from client: does check_mounts --submit run there?"
                )
        # For one interval.
        icinga.call("POST", "/v1/objects/services", {"service": "client!mounts", "attrs": {"check_interval": 1}})
        icinga.until(lambda: icinga.check("client", "mounts")["state"] == UNKNOWN)
        assert 1 <= silence(icinga.check("client", "mounts")["output"], "client") < 60
    finally:
        icinga.stop()


def delay_notifications(icinga: Icinga, seconds: int) -> None:
    """Of services of clients."""
    of_clients = {"filter": 'match("mounts*", service.name)'}
    icinga.call("POST", "/v1/objects/notifications", {**of_clients, "attrs": {"times": {"begin": seconds}}})


def test_clients_may_be_faster_than_the_server(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    delay_notifications(icinga, 15)
    try:
        # Three results within a moment, and nothing is known about the server yet.
        assert fail(icinga, "client3")
        assert fail(icinga, "other")
        filers["filer1"].down()
        for _ in range(3):
            icinga.check("filer1", "nfs")
        icinga.until(lambda: "PROBLEM: other mounts is CRITICAL" in mails.subjects())
    finally:
        delay_notifications(icinga, 0)
    # It was the first to fail, and would have been the first to be told.
    assert sorted(mails.subjects()) == ["PROBLEM: filer1 nfs is CRITICAL", "PROBLEM: other mounts is CRITICAL"]


def test_the_server_is_known_first(icinga: Icinga) -> None:
    text = (SHIPPED / "check_mounts-notifications.conf").read_text()
    (minutes,) = re.findall(r"times = \{ begin = (\d+)m \}", text)
    nfs = icinga.service("filer1", "nfs")
    assert nfs["check_interval"] + nfs["vars"]["tcp_timeout"] < 60 * int(minutes)
    # The grace period is known of before it is needed.
    assert icinga.service("filer1", "nfs clients")["check_interval"] < 60 * int(minutes)


def test_servers_may_differ(icinga: Icinga) -> None:
    assert (
        icinga.service("old", "nfs")["check_command"],
        icinga.service("old", "nfs clients")["vars"]["nfs_grace"],
    ) == ("rpc", 300)
    assert icinga.service("cifs", "nfs")["vars"]["tcp_port"] == 445
    assert icinga.service("cifs", "nfs clients")["vars"]["nfs_grace"] == 77


def test_the_mail_says_what_is_needed_at_night(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    for _ in range(3):
        icinga.submit("client5", "mounts", CRITICAL, HUNG + "\n$user.email$ `id` $(id) ü\n~! id")
    icinga.until(lambda: mails.all())
    filers["filer1"].down()
    for _ in range(3):
        icinga.check("filer1", "nfs")
    icinga.until(lambda: len(mails.all()) >= 2)
    (words, client), (_, server) = mails.all()
    assert words[0] == "-s"
    assert words[1:] == ["PROBLEM: client5 mounts is CRITICAL", "admin@example.org"]
    assert client.startswith("CRITICAL: mounts on client5\n")
    # No macro, nothing for a shell, no command of mail(1), which begins a line.
    assert HUNG + "\n$user.email$ `id` $(id) ü\n ~! id\n" in client
    assert re.search(r"\nsince \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, checked .* by client5\n", client)
    assert "\nfile server filer1: TCP OK" in client
    assert "\nOn client5 this is safe: check_mounts -vvv\n" in client
    assert server.startswith("CRITICAL: nfs on filer1 (127.0.0.1)\n")
    assert f"\n{CLIENT_COUNT + 2} services of clients depend on it" in server


def test_a_service_without_a_result_can_be_told(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    target = {
        "type": "Service",
        "service": "newcomer!mounts for the first time",
        "author": "admin",
        "comment": "rolled out today",
        "force": True,
    }
    icinga.call("POST", "/v1/actions/send-custom-notification", target)
    icinga.until(lambda: mails.all())
    ((_, text),) = mails.all()
    assert "\nno result yet\n" in text
    assert "\nadmin: rolled out today\n" in text


def test_a_long_output_is_no_obstacle(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    for _ in range(3):
        icinga.submit("other", "mounts", CRITICAL, HUNG + "\n" + "x" * 200_000)
    icinga.until(mails.all)
    ((_, mail),) = mails.all()
    assert HUNG in mail
    assert len(mail) < 32_000


def test_unknown_is_no_evidence(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    for _ in range(3):
        icinga.submit("filer1", "nfs", UNKNOWN, "check_tcp: Invalid hostname/address")
    assert fail(icinga, "client7")
    icinga.until(lambda: "PROBLEM: client7 mounts is CRITICAL" in mails.subjects())


def test_a_host_that_is_down_takes_its_service_along(icinga: Icinga, filers: dict[str, Listener]) -> None:
    dead = {"type": "Host", "host": "filer1", "exit_status": 1, "plugin_output": "PING CRITICAL"}
    alive = {**dead, "exit_status": 0, "plugin_output": "PING OK"}
    for _ in range(3):
        icinga.call("POST", "/v1/actions/process-check-result", dead)
    try:
        assert not fail(icinga, "client8")
    finally:
        icinga.call("POST", "/v1/actions/process-check-result", alive)


def test_one_of_two_servers(icinga: Icinga, filers: dict[str, Listener], mails: Mails) -> None:
    filers["filer1"].down()
    assert icinga.check("filer1", "nfs")["state"] == CRITICAL
    # All in one service: silent, because one server is down. A service for each mount: only what is
    # that server's.
    assert not fail(icinga, "both")
    assert not fail(icinga, "apart", "mounts /one")
    assert fail(icinga, "apart", "mounts /two")
    assert fail(icinga, "apart", "mounts /var")
    icinga.until(lambda: len(mails.all()) >= 2)
    assert sorted(mails.subjects()) == [
        "PROBLEM: apart mounts /two is CRITICAL",
        "PROBLEM: apart mounts /var is CRITICAL",
    ]
