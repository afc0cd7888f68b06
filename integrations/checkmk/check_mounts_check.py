"""The check plugin for Checkmk 2.3 and later: services out of the section check_mounts.

On the server: ~/local/lib/python3/cmk_addons/plugins/check_mounts/agent_based/"""

import json

from cmk.agent_based.v2 import AgentSection, CheckPlugin, Metric, Result, Service, State

STATES = {"OK": State.OK, "WARNING": State.WARN, "CRITICAL": State.CRIT, "UNKNOWN": State.UNKNOWN}
LONGEST = 200


def parse(string_table):
    """The object that check_mounts prints. Where it could not print one, it prints a verdict."""
    lines = [words[0] for words in string_table]
    try:
        told = json.loads("\n".join(lines))
        if isinstance(told, dict) and "findings" in told:
            return told
    except ValueError:
        pass
    return {"state": "UNKNOWN", "summary": lines[0], "findings": [], "counts": {}} if lines else None


def mounts_of(section):
    """Item -> finding. The longest names are cut; two that are equal then have one service."""
    shown = (
        each for each in section["findings"] if each["mount_point"] and each["condition"] not in ("shadowed", "ghost")
    )
    return {each["mount_point"][:LONGEST]: each for each in shown}


def discover_all(section):
    """One service for the host."""
    yield Service()


def check_all(section):
    """The state of the host; the mounts that are not ok are details."""
    yield Result(state=STATES[section["state"]], summary=section["summary"])
    for each in section["findings"]:
        if each["state"] != "OK":
            yield Result(state=State.OK, notice=f"{each['mount_point']}: {each['text']}")
    for name, value in section["counts"].items():
        yield Metric(f"mounts_{name}", value)


def discover_mounts(section):
    """A service for each mount."""
    for item in mounts_of(section):
        yield Service(item=item)


def check_mount(item, section):
    """The state of one mount. A mount that is gone has no result, which Checkmk reports."""
    finding = mounts_of(section).get(item)
    if finding is None:
        if not section["findings"]:
            yield Result(state=State.UNKNOWN, summary="no current result, see Mounts")
        return
    yield Result(state=STATES[finding["state"]], summary=finding["text"])
    if finding["latency"] is not None:
        yield Metric("mount_latency", finding["latency"])
    usage = finding["usage"] or {}
    if usage.get("used") is not None and usage.get("available") is not None:
        space = usage["used"] + usage["available"]
        if space > 0:
            yield Metric("fs_used_percent", 100 * usage["used"] / space)


agent_section_check_mounts = AgentSection(name="check_mounts", parse_function=parse)
check_plugin_check_mounts = CheckPlugin(
    name="check_mounts", service_name="Mounts", discovery_function=discover_all, check_function=check_all
)
check_plugin_check_mounts_mount = CheckPlugin(
    name="check_mounts_mount",
    sections=["check_mounts"],
    service_name="Mount %s",
    discovery_function=discover_mounts,
    check_function=check_mount,
)
