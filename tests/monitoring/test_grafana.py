"""The dashboard for Icinga's perfdata: each of its queries finds what a real Icinga 2 has written
into a real InfluxDB."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts.report import plugin, summary
from tests.conftest import ROOT, Mounts
from tests.documents import blocks
from tests.monitoring.icinga import MASTER, Authority, Icinga, host
from tests.monitoring.stack import Stack, free_port

GRAFANA = ROOT / "integrations/grafana"
DASHBOARD = json.loads((GRAFANA / "check_mounts-icinga.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
INFLUXDB = "/usr/bin/influxd"
HOSTS = {"direct", "cached", "passive"}
OF_THE_PAGE = [block.text for block in blocks(GRAFANA / "README.md") if block.info == "conf"]
(OF_A_HOST,) = [block.text for block in blocks(GRAFANA / "README.md") if block.info == "ini"]


class Influx:
    """A server on a port of loopback, with all its files in memory."""

    def __init__(self, stack: Stack) -> None:
        self.port = free_port()
        base = stack.own(stack.base / "influx")
        env = {
            "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{self.port}",
            "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
            "INFLUXDB_META_DIR": f"{base}/meta",
            "INFLUXDB_DATA_DIR": f"{base}/data",
            "INFLUXDB_DATA_WAL_DIR": f"{base}/wal",
            "INFLUXDB_REPORTING_DISABLED": "true",
            "INFLUXDB_MONITOR_STORE_ENABLED": "false",
        }
        self._server = stack.server(INFLUXDB, "-config", "/dev/null", env=env)
        self._server.until_port(self.port)
        self.query("CREATE DATABASE icinga2", post=True)

    def query(self, query: str, post: bool = False) -> list[dict[str, Any]]:
        """The series of the answer. An error of the query fails."""
        words = urllib.parse.urlencode({"db": "icinga2", "q": query})
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST" if post else "GET", f"/query?{words}")
            answer = json.loads(connection.getresponse().read())
        assert "error" not in answer, (query, answer)
        (result,) = answer["results"]
        assert "error" not in result, (query, result)
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def close(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def influx(stack: Stack) -> Iterator[Influx]:
    assert Path(INFLUXDB).exists(), "make .venv/monitoring/root"
    result = Influx(stack)
    yield result
    result.close()


@pytest.fixture(scope="module")
def icinga(stack: Stack, installed: Path, influx: Influx) -> Iterator[Icinga]:
    writer, template = OF_THE_PAGE
    assert "port = 8086" in writer and "flush_interval = 10s" in writer
    feature = writer.replace("8086", str(influx.port)).replace("10s", "1s")

    agent = {"mounts_via": "agent", "agent_endpoint": MASTER}
    hosts = [
        template,
        host("direct", 'import "mounts-with-graphs"', **agent),
        host("cached", mounts_via="agent-cached", agent_endpoint=MASTER),
        host("passive", mounts_via="passive"),
    ]
    result = Icinga(stack, Authority(stack), "\n".join(hosts), features=feature)
    result.start()
    result.call("POST", "/v1/objects/services", {"filter": "true", "attrs": {"enable_active_checks": False}})
    yield result
    result.stop()


def filled(query: str, **variables: str) -> str:
    """A query as Grafana sends it."""
    values = {"timeFilter": "time > now() - 1h", "__interval": "1m", "host": ".*", "service": "mounts", **variables}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], query)


@pytest.fixture(scope="module")
def written(stack: Stack, icinga: Icinga, influx: Influx) -> Iterator[Influx]:
    """With the results of three kinds of checks: of mounts with hostile names, one of them closed
    to everybody."""
    mounts = Mounts(stack.own(stack.base / "mnt"))
    for name in ("home", "a b used", "a,b=c'd\"e\\", "ü|"):
        mounts.tmpfs(name, "size=1M,nr_inodes=100")
    mounts.tmpfs("closed", "mode=0000")
    configuration = stack.write("/etc/check_mounts.conf", f"{OF_A_HOST}path = {mounts.base}/*\n")
    checked = icinga.check("direct", "mounts")
    assert (checked["state"], checked["output"][:14]) == (1, "MOUNTS WARNING"), checked
    daemon = stack.daemon()
    icinga.check("cached", "mounts")
    daemon.stop()
    # There is no NFS here: what programs did on it is only in the passive result.
    counted = ["mounts=2;;;0", "timed_out=1;;;0", "dead=1;;;0"]
    icinga.submit(
        "passive", "mounts", 2, "MOUNTS CRITICAL - x", [*counted, "'/srv rtt'=0.003100s", "'/srv retrans'=6.369%"]
    )
    names = 'SHOW TAG VALUES FROM /./ WITH KEY = "hostname"'
    icinga.until(lambda: {name for each in influx.query(names) for _, name in each["values"]} >= HOSTS, 30)
    yield influx
    configuration.unlink()
    mounts.close()


def tagged(series: list[dict[str, Any]], tag: str) -> set[str]:
    return {each["tags"][tag] for each in series}


@pytest.mark.root
@pytest.mark.monitoring
def test_each_query_finds_what_icinga_writes(written: Influx) -> None:
    for panel in PANELS.values():
        for target in panel["targets"]:
            assert written.query(filled(target["query"])), (panel["title"], target["query"])
    for variable in DASHBOARD["templating"]["list"]:
        (first, *_) = written.query(filled(variable["query"]))
        assert first["columns"] == ["key", "value"]


@pytest.mark.root
@pytest.mark.monitoring
def test_what_the_panels_show(written: Influx) -> None:
    def of(title: str, **variables: str) -> list[dict[str, Any]]:
        (target,) = PANELS[title]["targets"]
        return written.query(filled(target["query"], **variables))

    def number(title: str, **variables: str) -> float:
        """There is a series for each measurement, and the panel adds them up."""
        return sum(float(each["values"][-1][1]) for each in of(title, **variables))

    assert number("Hosts") == 3
    assert (number("Mounts"), number("Mounts", host="direct")) == (5 + 5 + 2, 5)
    assert (number("Mounts that are not ok"), number("Mounts that are not ok", host="(direct|passive)")) == (4, 3)
    assert (number("Mounts that do not answer"), number("Mounts that do not answer", host="direct")) == (1, 0)
    bad = sorted(
        (each["tags"]["hostname"], each["tags"]["metric"], each["values"][-1][-1])
        for each in of("Hosts with mounts that are not ok")
    )
    assert bad == [
        ("cached", "denied", 1),
        ("direct", "denied", 1),
        ("passive", "dead", 1),
        ("passive", "timed_out", 1),
    ]
    # One line for each mount, and none that is something else; hosts without them have none.
    latencies = of("Latency of each mount")
    assert len(latencies) == 10 and tagged(latencies, "hostname") == {"cached", "direct"}
    assert all(re.search(r"/mnt/(home|closed|a b.*used|a,b.*|ü.*)$", name) for name in tagged(latencies, "metric"))
    for title, least, most in (
        ("Space in use", 0, 0.01),
        ("Inodes in use", 0.01, 0.01),
        ("Space left", (1 << 20) - 8192, 1 << 20),
    ):
        found = of(title, host="direct")
        assert len(found) == 5, title
        shown = [each for each in found if "/closed " not in each["tags"]["metric"]]
        assert all(least <= row[-1] <= most for each in shown for row in each["values"]), (title, shown)


@pytest.mark.root
@pytest.mark.monitoring
def test_names_are_those_of_the_page(written: Influx) -> None:
    """Measurements, tags and fields, as the page and the queries have them."""
    page = (GRAFANA / "README.md").read_text()
    measurements = {each["values"][0][0] for each in written.query("SHOW MEASUREMENTS")}
    names = {row[0] for each in written.query("SHOW MEASUREMENTS") for row in each["values"]} - {"dummy"}
    assert measurements and names == {"check_mounts", "check_mounts_cached", "passive"}
    assert all(f"`{name}`" in page for name in names)
    tags = {row[0] for each in written.query("SHOW TAG KEYS FROM /^check_mounts/") for row in each["values"]}
    assert tags == {"hostname", "service", "metric"}
    fields = {row[0] for each in written.query("SHOW FIELD KEYS FROM check_mounts") for row in each["values"]}
    queries = json.dumps(DASHBOARD["panels"]) + json.dumps(DASHBOARD["templating"])
    used = set(re.findall(r'\\"(\w+)\\"', queries)) - {"last", "mounts", "hosts", "seconds", "used", "free"}
    assert used == tags | {"value", "max"} and {"value", "max"} <= fields


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["id"] is None and DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["title"] and DASHBOARD["uid"]
    assert [(each["name"], each["type"], each["pluginId"]) for each in DASHBOARD["__inputs"]] == [
        ("DS_INFLUXDB", "datasource", "influxdb")
    ]
    panels, variables = DASHBOARD["panels"], DASHBOARD["templating"]["list"]
    assert {panel["type"] for panel in panels} == {
        each["id"] for each in DASHBOARD["__requires"] if each["type"] == "panel"
    }
    assert len({panel["id"] for panel in panels}) == len(PANELS) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    source = {"type": "influxdb", "uid": "${DS_INFLUXDB}"}
    targets = [target for panel in panels for target in panel["targets"]]
    assert all(each["datasource"] == source for each in [*panels, *targets, *variables])
    known = {"timeFilter", "__interval", *(each["name"] for each in variables)}
    assert {name for each in [*targets, *variables] for name in re.findall(r"\$(\w+)", each["query"])} <= known
    aliases = {name for each in targets for name in re.findall(r"\$(\w+)", each["alias"])}
    assert aliases <= {"m", "tag_hostname", "tag_metric"}


def test_every_number_has_its_panel_or_is_no_failure() -> None:
    """What is bad is all that is not named, so a new condition is bad."""
    (query,) = {target["query"] for target in PANELS["Mounts that are not ok"]["targets"]}
    (good,) = re.findall(r'"metric" !~ /\^\((.*?)\)\$/', query)
    general = {name for name, _ in summary.counts(())} | {"time", "slowest"}
    assert set(good.split("|")) == {"mounts", "ok", "shadowed", "idle", "ghost", "time", "slowest"} < general
    aspects = re.search(r"!~ / \((.*?)\)\$/", PANELS["Latency of each mount"]["targets"][0]["query"])
    assert aspects and set(aspects[1].split("|")) == plugin.ASPECTS
