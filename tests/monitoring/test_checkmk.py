"""The files of integrations/checkmk, against the published formats: what the agent of Checkmk 2.3
does with its configuration, and how the server reads what it sends."""

from __future__ import annotations

import enum
import re
import runpy
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import documents
from tests.conftest import Fuse, Mounts
from tests.monitoring.stack import Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

SHIPPED = Path("/usr/local/share/check_mounts/integrations/checkmk")
LIBDIR, CONFDIR = Path("/usr/lib/check_mk_agent"), Path("/etc/check_mk")
BASE = Path("/run/check_mounts-tests/mounts")
HOSTILE = ('a"b', "c\\nd", "e\nf", "g|h", "i'j", "\x1b[31m", "\udcff", "ü", "<<<x>>>", "l m", "k%27")
# docs.checkmk.com, "Local checks": status, name (in quotes if it has blanks), metrics or -, text.
LOCAL = re.compile(r"""(cached\(\d+,\d+\) )?([0-3P]) (?:"([^"']+)"|([^ "']+)) ([^ ]+)(?: +(.*))?""")
METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[0-9.e+-]+(;[^|]*)?")


class Local(NamedTuple):
    """A service as the server understands the line of a local check."""

    state: int
    metrics: dict[str, float]
    text: str
    cached: bool


@pytest.fixture(scope="module")
def agent(stack: Stack, installed: Path) -> Path:
    """The directories of the agent."""
    for path in (LIBDIR / "local", LIBDIR / "plugins", CONFDIR):
        path.mkdir(parents=True)
    (block,) = (block for block in documents.blocks(SHIPPED / "README.md") if block.info == "sh")
    done = stack.run("sh", "-ec", f"cd {SHIPPED}\n{block.text}", user="root")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return LIBDIR


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    result = Mounts(BASE)
    yield result
    result.close()


def run(path: Path) -> str:
    """A program of the agent's, which runs as root and has a locale of its own choice."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([path], cwd=path.parent, env=environment, capture_output=True, check=False, timeout=20)
    assert done.stderr == b""
    return done.stdout.decode()


def local() -> dict[str, Local]:
    """The services out of the section <<<local:sep(0)>>>."""
    services: dict[str, Local] = {}
    for line in run(LIBDIR / "local/check_mounts.local").splitlines():
        match = LOCAL.fullmatch(line)
        assert match, line
        cached, state, quoted, bare, metrics, text = match.groups()
        items = [] if metrics == "-" else metrics.split("|")
        assert all(map(METRIC.fullmatch, items)), metrics
        name = quoted or bare
        assert name not in services
        numbers = {key: float(value) for key, value in (item.split("=") for item in items)}
        services[name] = Local(int(state), numbers, text.replace("\\n", "\n"), bool(cached))
    return services


def mrpe() -> tuple[str, str, int, list[str]]:
    """The plugin, service, state and output of the agent's section <<<mrpe>>>."""
    lines = [line for line in (CONFDIR / "mrpe.cfg").read_text().splitlines() if line and not line.startswith("#")]
    (line,) = lines
    name, command = line.split(None, 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd="/")
    return command.split()[0].rpartition("/")[2], name, done.returncode, done.stdout.splitlines()


# -- on the host


def test_mrpe(agent: Path, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    path = fuse.mount("one", source="filer:/home")
    fuse.command("hang", "one")
    with stack.daemon("-p", f"{BASE}/*"):
        plugin, name, state, output = mrpe()
    assert (plugin, name, state) == ("check_mounts", "Mounts", 2)
    assert output[0].startswith(f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} (fuse.test filer:/home) timed out")
    assert any(line.startswith(f"CRITICAL: {path} ") for line in output[1:])
    fuse.command("answer", "one")


def test_local_check_with_hostile_mounts(agent: Path, stack: Stack, mounts: Mounts) -> None:
    for name in HOSTILE:
        mounts.tmpfs(name, source='"x|y')
    with stack.daemon("-p", f"{BASE}/*"):
        services = local()
    assert len(services) == 1 + len(HOSTILE)
    assert {service.state for service in services.values()} == {0}
    assert all(service.cached for service in services.values())
    assert services["Mounts"].metrics["ok"] == services["Mounts"].metrics["mounts"] == len(HOSTILE)
    assert f"Mount {BASE}/i%27j" in services and f"Mount {BASE}/k%2527" in services
    (plain,) = (service for name, service in services.items() if name.endswith("/l m"))
    assert plain.metrics.keys() == {"latency", "fs_used_percent"}


def test_local_check_of_a_hung_mount(agent: Path, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    path = fuse.mount("one", source="filer:/home")
    mounts.tmpfs("fine")
    fuse.command("hang", "one")
    with stack.daemon("-p", f"{BASE}/*"):
        services = local()
    first, *others = services["Mounts"].text.split("\n")
    assert first.startswith(f"1 of 2 mounts failed: {path} (fuse.test filer:/home) timed out")
    assert len(others) == 1 and others[0].startswith(f"{path}: timed out")
    states = {name: service.state for name, service in services.items()}
    assert states == {"Mounts": 2, f"Mount {path}": 2, f"Mount {BASE}/fine": 0}
    fuse.command("answer", "one")


def test_an_old_result_keeps_its_services(agent: Path, stack: Stack, mounts: Mounts) -> None:
    mounts.tmpfs("fine")
    status = Path("/run/check_mounts/status.json")
    with stack.daemon("-p", f"{BASE}/*", interval=0.1, timeout=0.1):
        data = status.read_bytes()
    # The daemon removes its result when it ends as it should.
    status.write_bytes(data)
    until_old(status)
    services = local()
    assert {name: service.state for name, service in services.items()} == {"Mounts": 3, f"Mount {BASE}/fine": 3}
    assert " old, and was valid for " in services["Mounts"].text
    assert not any(service.cached for service in services.values())
    status.unlink()
    (name,) = services = local()
    assert name == "Mounts" and services[name].text.startswith(f"{status} is not there: ")


def until_old(status: Path) -> None:
    """Until --cached refuses it: two intervals and the deadline of a pass."""
    match = re.search(rb'"valid_until": ([0-9.]+)', status.read_bytes())
    assert match
    time.sleep(max(0.0, float(match[1]) - time.clock_gettime(time.CLOCK_BOOTTIME)))


def test_a_program_that_fails_is_unknown(agent: Path, stack: Stack, tmp_path: Path) -> None:
    """Its output is no JSON, or it is not there."""
    script = (SHIPPED / "check_mounts.local").read_text()
    for command, words in (("/bin/echo", "--cached --json --brief"), ("/nowhere", "No such file"), ("/bin/true", "")):
        path = stack.write(tmp_path / "local", script.replace("/usr/local/bin/check_mounts", command), mode=0o755)
        (line,) = run(path).splitlines()
        match = LOCAL.fullmatch(line)
        assert match and (match[2], match[3], match[5]) == ("3", "Mounts", "-")
        assert words in match[6] and match[6]
    for printed in ("null", "[]", "3", "{}"):
        other = stack.write(tmp_path / "printed", f"#!/bin/sh\necho '{printed}'\n", mode=0o755)
        path = stack.write(tmp_path / "local", script.replace("/usr/local/bin/check_mounts", str(other)), mode=0o755)
        assert run(path) == '3 "Mounts" - check_mounts printed JSON of another kind\n'


# -- on the server: the names of cmk.agent_based.v2 that a plugin imports, as its reference has them


class State(enum.Enum):
    OK, WARN, CRIT, UNKNOWN = 0, 1, 2, 3


class Result:
    def __init__(self, *, state: State, summary: str = "", notice: str = "", details: str = "") -> None:
        assert isinstance(state, State) and bool(summary) != bool(notice)
        assert "\n" not in summary + notice
        self.state, self.text, self.is_summary = state, summary or notice, bool(summary)


class Metric(NamedTuple):
    name: str
    value: float


class Service(NamedTuple):
    item: str | None = None


class AgentSection(NamedTuple):
    name: str
    parse_function: Any


class CheckPlugin(NamedTuple):
    name: str
    service_name: str
    discovery_function: Any
    check_function: Any
    sections: list[str] | None = None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, installed: Path) -> dict[str, Any]:
    """The plugin as the server finds it: by the prefixes of its names."""
    api = types.ModuleType("cmk.agent_based.v2")
    for each in (State, Result, Metric, Service, AgentSection, CheckPlugin):
        setattr(api, each.__name__, each)
    for name in ("cmk", "cmk.agent_based"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cmk.agent_based.v2", api)
    found = runpy.run_path(str(SHIPPED / "check_mounts_check.py"))
    return {name: value for name, value in found.items() if name.startswith(("agent_section_", "check_plugin_"))}


def sections(output: str) -> dict[str, list[list[str]]]:
    """How the server takes an agent's output apart; ``sep(0)``: a line is one word."""
    result: dict[str, list[list[str]]] = {}
    name = ""
    for line in output.splitlines():
        if header := re.fullmatch(r"<<<(\w+)(?::sep\(0\))?>>>", line):
            name = header[1]
            result[name] = []
        elif line.strip():
            result[name].append([line])
    return result


def checked(server: dict[str, Any]) -> dict[str, tuple[int, list[str], dict[str, float]]]:
    """service -> its state, its texts and its metrics."""
    section = server["agent_section_check_mounts"]
    (name,) = found = sections(run(LIBDIR / "plugins/check_mounts.plugin"))
    assert name == section.name
    parsed = section.parse_function(found[name])
    services = {}
    for plugin in (value for key, value in server.items() if key.startswith("check_plugin_")):
        for service in plugin.discovery_function(parsed):
            words = {} if service.item is None else {"item": service.item}
            results = list(plugin.check_function(**words, section=parsed))
            texts = [each.text for each in results if isinstance(each, Result)]
            state = max(each.state.value for each in results if isinstance(each, Result))
            metrics = {each.name: each.value for each in results if isinstance(each, Metric)}
            services[plugin.service_name.replace("%s", service.item or "")] = (state, texts, metrics)
    return services


def test_section_with_hostile_mounts(agent: Path, stack: Stack, mounts: Mounts, server: dict[str, Any]) -> None:
    for name in HOSTILE:
        mounts.tmpfs(name, source="<<<y>>>")
    with stack.daemon("-p", f"{BASE}/*"):
        services = checked(server)
    assert len(services) == 1 + len(HOSTILE)
    assert {state for state, _, _ in services.values()} == {0}
    assert services["Mounts"][2]["mounts_ok"] == len(HOSTILE)
    assert services[f"Mount {BASE}/l m"][2].keys() == {"mount_latency", "fs_used_percent"}


def test_section_of_a_hung_mount(agent: Path, stack: Stack, mounts: Mounts, fuse: Fuse, server: dict[str, Any]) -> None:
    path = fuse.mount("one", source="filer:/home")
    fuse.command("hang", "one")
    with stack.daemon("-p", f"{BASE}/*"):
        services = checked(server)
    assert {name: state for name, (state, _, _) in services.items()} == {"Mounts": 2, f"Mount {path}": 2}
    assert services["Mounts"][1][1].startswith(f"{path}: timed out")
    fuse.command("answer", "one")


def test_section_without_a_result(agent: Path, server: dict[str, Any]) -> None:
    Path("/run/check_mounts/status.json").unlink(missing_ok=True)
    services = checked(server)
    assert services.keys() == {"Mounts"} and services["Mounts"][0] == 3
    assert services["Mounts"][1][0].startswith("/run/check_mounts/status.json is not there: ")
    parsed = server["agent_section_check_mounts"].parse_function([["MOUNTS UNKNOWN - x"]])
    (gone,) = server["check_plugin_check_mounts_mount"].check_function("/x", parsed)
    assert gone.state is State.UNKNOWN
    for printed in ("null", "[]", "3", "{}"):
        assert server["agent_section_check_mounts"].parse_function([[printed]])["state"] == "UNKNOWN"
    assert server["agent_section_check_mounts"].parse_function([]) is None


def test_the_commands_of_the_page(agent: Path) -> None:
    """The fixture has run them."""
    assert sorted(path.name for path in agent.rglob("check_mounts*")) == ["check_mounts.local", "check_mounts.plugin"]
    assert "README.md" in (entry.name for entry in SHIPPED.iterdir())
