"""The files of integrations/zabbix under a real Zabbix: the template imported through the API, both
agents, discovery, values and problems, with hostile mount points and a mount that hangs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import documents
from tests.conftest import ROOT, Fuse, Mounts
from tests.monitoring.stack import Stack
from tests.monitoring.zabbix import Zabbix

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

SHIPPED = Path("/usr/local/share/check_mounts/integrations/zabbix")
SOURCE = ROOT / "integrations/zabbix"
BASE = Path("/run/check_mounts-tests/mounts")
AGENTS = ("/usr/sbin/zabbix_agentd", "/usr/sbin/zabbix_agent2")
RULES = {
    name: {"createMissing": True, "updateExisting": True}
    for name in ("templates", "items", "discoveryRules", "triggers", "valueMaps")
} | {"groups": {"createMissing": True}}
HOSTILE = ('a"b', "c\\d", "e\nf", "g|h", "i'j]k", "\x1b[31m", "\udcff", "ü", "{$SECRET}", "{#KEY}", "l,m", "x" * 200)


@pytest.fixture(scope="module")
def zabbix(stack: Stack, installed: Path) -> Zabbix:
    return Zabbix(stack)


@pytest.fixture(scope="module")
def port(stack: Stack, zabbix: Zabbix) -> int:
    return agent(zabbix, AGENTS[0])


def agent(zabbix: Zabbix, program: str) -> int:
    return zabbix.agent(program, f"Include={SHIPPED}/check_mounts.userparameters.conf")


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    result = Mounts(BASE)
    yield result
    result.close()


class Host:
    """A host with the template, whose report is read each second."""

    def __init__(self, zabbix: Zabbix, port: int) -> None:
        self._zabbix = zabbix
        zabbix.call("configuration.import", {"format": "yaml", "rules": RULES, "source": template()})
        (found,) = zabbix.call("template.get", {"filter": {"host": "check_mounts"}, "selectItems": ["itemid", "key_"]})
        (master,) = [item["itemid"] for item in found["items"] if item["key_"] == "check_mounts.json"]
        zabbix.call("item.update", {"itemid": master, "delay": "1s"})
        interface = {"type": 1, "main": 1, "useip": 1, "ip": "127.0.0.1", "dns": "", "port": str(port)}
        host = {"host": f"host{port}", "interfaces": [interface], "groups": [{"groupid": "2"}]}
        templates = [{"templateid": found["templateid"]}]
        macros = [{"macro": "{$SECRET}", "value": "told"}, {"macro": "{$CHECK_MOUNTS.NODATA}", "value": "30s"}]
        (self.id,) = zabbix.call("host.create", {**host, "templates": templates, "macros": macros})["hostids"]

    def items(self) -> dict[str, dict[str, str]]:
        output = ["key_", "name", "lastvalue", "lastclock", "state", "error", "status"]
        found = self._zabbix.call("item.get", {"hostids": self.id, "output": output})
        return {item["key_"]: item for item in found}

    def value(self, key: str) -> str:
        item = self.items().get(key)
        return "" if item is None or item["lastclock"] == "0" else item["lastvalue"]

    def problems(self) -> set[tuple[str, int]]:
        found = self._zabbix.call("problem.get", {"hostids": self.id, "output": ["name", "severity"]})
        return {(problem["name"], int(problem["severity"])) for problem in found}

    def until(self, key: str, value: str) -> None:
        self._zabbix.until(lambda: self.value(key) == value)

    def discovery(self) -> dict[str, Any]:
        (rule,) = self._zabbix.call("discoveryrule.get", {"hostids": self.id, "output": ["state", "error"]})
        return dict(rule)

    def close(self) -> None:
        self._zabbix.call("host.delete", [self.id])


@pytest.fixture
def host(zabbix: Zabbix, port: int) -> Iterator[Host]:
    result = Host(zabbix, port)
    yield result
    result.close()


def template() -> str:
    return (SHIPPED / "check_mounts.template.yaml").read_text()


def key(name: str, path: object) -> str:
    return f"check_mounts.mount.{name}[{path}]"


@pytest.mark.parametrize("program", AGENTS)
def test_each_agent_hands_over_the_result(zabbix: Zabbix, stack: Stack, mounts: Mounts, program: str) -> None:
    mounts.tmpfs('a"b')
    port = agent(zabbix, program)
    Path("/run/check_mounts/status.json").unlink(missing_ok=True)
    missing = json.loads(zabbix.get(port, "check_mounts.json"))
    assert (missing["state"], missing["findings"]) == ("UNKNOWN", [])
    with stack.daemon("-p", f"{BASE}/*"):
        said = json.loads(zabbix.get(port, "check_mounts.json"))
    assert (said["state"], [finding["mount_point"] for finding in said["findings"]]) == ("OK", [f'{BASE}/a"b'])


def test_hostile_mounts_are_discovered(stack: Stack, mounts: Mounts, host: Host) -> None:
    for name in HOSTILE:
        mounts.tmpfs(name, source="{$SECRET}")
    mounts.tmpfs("plain")
    with stack.daemon("-p", f"{BASE}/*"):
        host.until(key("state", f"{BASE}/plain"), "0")
        items = host.items()
    assert host.discovery() == {**host.discovery(), "state": "0", "error": ""}
    states = {name: item for name, item in items.items() if name.startswith("check_mounts.mount.state[")}
    assert len(states) == len(HOSTILE) + 1
    assert {item["lastvalue"] for item in states.values()} == {"0"}
    assert {item["error"] for item in items.values()} == {""}
    names = " ".join(item["name"] for item in items.values())
    assert "told" not in names and "{$" not in names
    assert f"Mount {BASE}/%7B$SECRET}}: state" in names
    for name in ("latency", "used", "inodes", "condition", "text"):
        assert key(name, f"{BASE}/plain") in items
    assert items["check_mounts.summary"]["lastvalue"] == f"{len(HOSTILE) + 1} mounts, none has a problem"
    assert items[key("text", f"{BASE}/plain")]["lastvalue"] == "ok"
    assert float(items[key("latency", f"{BASE}/plain")]["lastvalue"]) < 10


def test_a_hung_server_is_one_alarm(stack: Stack, mounts: Mounts, fuse: Fuse, host: Host, zabbix: Zabbix) -> None:
    paths = [fuse.mount(name, source="filer:/home") for name in ("one", "two")]
    with stack.daemon("-p", f"{BASE}/*"):
        for path in paths:
            host.until(key("state", path), "0")
        fuse.hang_anew("one", "two")
        for path in paths:
            host.until(key("state", path), "2")
            host.until(key("condition", path), "timed-out")
        zabbix.until(host.problems)
        # The triggers of the mounts are there and depend on that of the host.
        found = host.problems()
        assert len(found) == 1, found
        ((name, severity),) = found
        assert re.match(r"Mounts: 2 of 2 mounts failed: .*timed out", name) and severity == 4, name
        fuse.command("answer", "one")
        fuse.command("answer", "two")
        zabbix.until(lambda: not host.problems())


def test_no_daemon_is_one_alarm_and_forgets_no_mount(stack: Stack, mounts: Mounts, host: Host, zabbix: Zabbix) -> None:
    path = mounts.tmpfs("plain")
    with stack.daemon("-p", f"{BASE}/*"):
        host.until(key("state", path), "0")
    Path("/run/check_mounts/status.json").unlink(missing_ok=True)
    host.until("check_mounts.state", "3")
    zabbix.until(host.problems)
    words = "/run/check_mounts/status.json is not there: is the daemon running? systemctl status check_mounts"
    assert host.problems() == {(f"Mounts: {words}", 3)}
    assert host.items()[key("state", path)]["status"] == "0"
    assert host.discovery()["error"] == ""


def test_each_mount_may_have_its_own_alarm(
    stack: Stack, mounts: Mounts, fuse: Fuse, host: Host, zabbix: Zabbix
) -> None:
    """A dependency on a trigger that is disabled counts for nothing."""
    path = fuse.mount("one", source="filer:/home")
    mounts.tmpfs("plain")
    output = ["triggerid", "description"]
    of_host = zabbix.call("trigger.get", {"hostids": host.id, "output": output, "filter": {"flags": 0}})
    wanted = [each["triggerid"] for each in of_host if each["description"] == "Mounts are CRITICAL"]
    zabbix.call("trigger.update", [{"triggerid": each, "status": 1} for each in wanted])
    with stack.daemon("-p", f"{BASE}/*"):
        host.until(key("state", path), "0")
        fuse.hang_anew("one")
        zabbix.until(host.problems)
        ((name, severity),) = host.problems()
        assert name.startswith(f"Mount {path} (fuse.test filer:/home): timed out") and severity == 4, name
        fuse.command("answer", "one")
        zabbix.until(lambda: not host.problems())


def test_a_thousand_mounts_fit(zabbix: Zabbix, stack: Stack, mounts: Mounts, port: int) -> None:
    """This agent reads less than 512 KiB."""
    for number in range(1000):
        mounts.tmpfs(f"srv/data/projects/project{number}")
    with stack.daemon("-p", f"{BASE}/*", interval=60):
        assert len(json.loads(zabbix.get(port, "check_mounts.json"))["findings"]) == 1000


def test_the_ids_of_the_template_are_those_that_zabbix_wants() -> None:
    found = re.findall(r"uuid: (\w+)", SOURCE.joinpath("check_mounts.template.yaml").read_text())
    assert len(set(found)) == len(found) > 10
    version_4 = re.compile("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}")
    assert [each for each in found if not version_4.fullmatch(each)] == []


def test_the_commands_of_the_page(stack: Stack, installed: Path, mounts: Mounts) -> None:
    """README.md, as it is installed: what an agent needs. This stack has no systemd."""
    page = SHIPPED / "README.md"
    (block,) = (block for block in documents.blocks(page) if block.info == "sh")
    stack.write("/etc/zabbix/zabbix_agentd.conf", Path("/usr/share/zabbix-agent/zabbix_agentd.conf").read_text())
    stack.write(stack.base / "bin/systemctl", "#!/bin/sh\n", mode=0o755)
    mounts.tmpfs("plain")
    with stack.daemon("-p", f"{BASE}/*"):
        path = f"{stack.base}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = stack.run("sh", "-ec", f"cd {SHIPPED}\n{block.text}", user="root", env={"PATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert '{"version": 1, "state": "OK", "summary": "1 mount checked in ' in done.stdout
