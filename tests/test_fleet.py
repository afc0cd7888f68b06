"""What Prometheus tells of a whole fleet, and what it foresees: the rules on made-up series of 500
hosts, evaluated by promtool."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.test_metrics import PROMETHEUS, PROMTOOL, RULES

pytestmark = pytest.mark.monitoring

GROUPS = ["check_mounts", "check_mounts: differences", "check_mounts: usage", "check_mounts_absent"]
# A minute past midnight on the day of the outage, in minutes; the server fails at 14:02.
BEGIN, OUTAGE = 830, 842

Series = dict[str, str]


def series(name: str, values: str, **labels: str) -> Series:
    words = ", ".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
    return {"series": f"{name}{{{words}}}", "values": values}


def judged_by_promtool(
    path: Path, inputs: Sequence[Series], queries: dict[str, tuple[str, Any]], every: str = "1m", rules: Path = RULES
) -> str:
    """What promtool says of expectations: for each query, the time and the samples by their
    labels; empty if it agrees."""
    expected = [
        {
            "expr": query,
            "eval_time": when,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for query, (when, samples) in queries.items()
    ]
    tests = [{"interval": every, "input_series": list(inputs), "promql_expr_test": expected}]
    content: dict[str, Any] = {"rule_files": [str(rules)], "evaluation_interval": every, "tests": tests}
    if rules is RULES:
        content["group_eval_order"] = GROUPS
    return run(path, content)


def run(path: Path, content: dict[str, Any]) -> str:
    path.write_text(json.dumps(content))  # JSON is YAML
    result = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, check=False)
    output = (result.stdout + result.stderr).decode("utf-8")
    assert (result.returncode == 0) == ("SUCCESS" in output), output
    return "" if result.returncode == 0 else output


def client(number: int, server: str, up_to: int | None = None, **more: str) -> list[Series]:
    """The series of a host: its mount answers until ``up_to``, then it hangs."""
    host = {"instance": f"h{number:03}:9100", "job": "node"}
    mount = {"device": f"{server}:/home", "fstype": "nfs4", "mountpoint": "/home", **host}
    info = {"fileserver": server, "version": "4.2", "options": "hard,rw", **mount, **more}
    seconds = BEGIN * 60
    found = [
        series("check_mounts_run_interval_seconds", f"_x{BEGIN} 60x30", **host),
        series("check_mounts_last_run_timestamp_seconds", f"_x{BEGIN} {seconds}+60x30", **host),
        series("check_mounts_mount_info", f"_x{BEGIN} 1x30", **info),
    ]
    if up_to is None:
        found += [
            series("check_mounts_mount_condition", f"_x{BEGIN} 1x30", condition="ok", **mount),
            series("check_mounts_mount_state", f"_x{BEGIN} 0x30", **mount),
            series("check_mounts_mount_last_success_timestamp_seconds", f"_x{BEGIN} {seconds}+60x30", **mount),
        ]
    else:
        well = up_to - BEGIN
        last = f"_x{BEGIN} {seconds}+60x{well} {up_to * 60}x30"
        found += [
            series("check_mounts_mount_condition", f"_x{BEGIN} 1x{well} stale", condition="ok", **mount),
            series("check_mounts_mount_condition", f"_x{up_to + 1} 1x30", condition="timed_out", **mount),
            series("check_mounts_mount_state", f"_x{BEGIN} 0x{well} 2x30", **mount),
            series("check_mounts_mount_last_success_timestamp_seconds", last, **mount),
        ]
    return found


def silent(number: int, server: str, gone: bool) -> list[Series]:
    """A host that falls silent when the server fails: its old file stays, or nothing of it."""
    found = client(number, server)
    well = OUTAGE - BEGIN - 2
    for each in found:
        if gone:
            each["values"] = re.sub(r"x30$", f"x{well} stale", each["values"])
        elif "last_run" in each["series"]:
            each["values"] = f"_x{BEGIN} {BEGIN * 60}+60x{well} {(OUTAGE - 2) * 60}x30"
    return found


def fleet() -> list[Series]:
    """Of 500 hosts, 340 are clients of filer1: 312 cannot use it since 14:02, 16 can, and 12 are
    silent. One of the 312 has hung since long before that, for a reason of its own."""
    found = client(0, "filer1", up_to=BEGIN + 1)
    for number in range(1, 312):
        found += client(number, "filer1", up_to=OUTAGE + number % 2)
    for number in range(312, 328):
        found += client(number, "filer1")
    for number in range(328, 340):
        found += silent(number, "filer1", gone=number % 2 == 0)
    for number in range(340, 500):
        found += client(number, "filer2")
    return found


def test_five_hundred_hosts_in_one_line(tmp_path: Path) -> None:
    """Though some hosts tell nothing. An outage of one server is none of another; and while that
    line is there, there is none for each mount."""
    name, later = "CheckMountsFileServerFails", f"{OUTAGE + 8}m"
    numbers = {("filer2", ""): [160], ("filer2", "_failing"): [], ("filer2", "_silent"): []}
    queries = {
        f'check_mounts:fileserver_clients{which}:count{{fileserver="{server}"}}': values
        for (server, which), values in numbers.items()
    }
    test = {
        "interval": "1m",
        "input_series": fleet(),
        "alert_rule_test": [
            {"eval_time": f"{OUTAGE - 1}m", "alertname": name, "exp_alerts": []},
            {"eval_time": later, "alertname": "CheckMountsMountTimedOut", "exp_alerts": []},
            # What is really said is in promtool's answer: which hosts it names is left to chance.
            {"eval_time": later, "alertname": name, "exp_alerts": []},
        ],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": later,
                "exp_samples": [{"labels": query, "value": value} for value in values],
            }
            for query, values in queries.items()
        ],
    }
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "group_eval_order": GROUPS, "tests": [test]}
    answer = run(tmp_path / "fleet.yml", content)
    assert re.findall(r'summary="(.*?)"', answer) == [
        "filer1: 312 of 340 clients cannot use it since 14:02 UTC, and 12 hosts do not tell"
    ]
    assert len(re.findall(r"alertname: |expr: ", answer)) == 1, answer
    assert len(re.findall(r"h\d{3}:9100", answer)) == 5


def test_which_mounts_differ(tmp_path: Path) -> None:
    """Of 500 hosts, those in the minority are named, with what is different; where there is no
    majority, or there are few hosts, nobody differs."""
    inputs = []
    for number in range(500):
        more = {}
        if number in (3, 4):
            more = {"device": "filer9:/home", "fileserver": "filer9"}
        elif number == 5:
            more = {"version": "3"}
        elif number == 6:
            more = {"options": "rw,soft"}
        elif number == 7:
            more = {"device": "/dev/sda3", "fileserver": "", "fstype": "ext4", "version": "", "options": "rw"}
        labels = {"instance": f"h{number:03}", "job": "node", "mountpoint": "/home", "fstype": "nfs4", **BASE, **more}
        inputs.append(series("check_mounts_mount_info", "1x5", **labels))
        torn = {**BASE, "device": f"filer{number % 3}:/srv", "fileserver": f"filer{number % 3}"}
        inputs.append(series("check_mounts_mount_info", "1x5", **{**labels, **torn, "mountpoint": "/srv"}))
        if number < 9:
            few = {**labels, **BASE, "mountpoint": "/few", "version": "3" if number == 1 else "4.2"}
            inputs.append(series("check_mounts_mount_info", "1x5", **few))
        # Local disks are different everywhere.
        disk = {"device": f"/dev/sd{'abc'[number % 100 % 3]}", "fileserver": "", "version": "", "options": "rw"}
        inputs.append(series("check_mounts_mount_info", "1x5", **{**labels, **disk, "mountpoint": "/"}))
    query = 'group by (instance, mountpoint, differs) (check_mounts:mount_differs:info{mountpoint!="/srv"})'
    expected = {
        f'{{differs="{differs}", instance="{host}", mountpoint="/home"}}': 1
        for host, differs in (
            ("h003", "source"),
            ("h004", "source"),
            ("h005", "version"),
            ("h006", "options"),
            ("h007", "source"),
        )
    }
    of_torn = 'count(check_mounts:mount_differs:info{mountpoint="/srv", differs="source"})'
    assert not judged_by_promtool(tmp_path / "x.yml", inputs, {query: ("4m", expected), of_torn: ("4m", {})})


BASE = {"device": "filer1:/home", "fileserver": "filer1", "version": "4.2", "options": "hard,rw"}

# -- what is foreseen


def space(point: str, available: Sequence[float], size: float = 1000, **more: str) -> list[Series]:
    labels = {
        "device": "/dev/sda1",
        "fstype": "ext4",
        "instance": "h1",
        "job": "node",
        "mountpoint": point,
        **more,
    }
    return [
        series("check_mounts_mount_size_bytes", f"{size}x{len(available)}", **labels),
        series("check_mounts_mount_avail_bytes", " ".join(f"{value:.3f}" for value in available), **labels),
    ]


FIVE_MINUTES = 12 * 24 * 3 + 1  # of three days
NO_ALARM: dict[str, list[float]] = {
    "static": [300.0] * FIVE_MINUTES,
    "always full": [0.0] * FIVE_MINUTES,
    "wavers": [30.0 + (number * 7 % 11) / 10 for number in range(FIVE_MINUTES)],
    "wavers by the day": [100.0 + 40 * abs((number % 288) / 144 - 1) for number in range(FIVE_MINUTES)],
    "rotated each day": [150.0 - 0.4 * (number % 288) for number in range(FIVE_MINUTES)],
    "one file was copied": [195.0 if number < 500 else 30.0 for number in range(FIVE_MINUTES)],
    "shrunk": [900.0 if number < 500 else 60.0 for number in range(FIVE_MINUTES)],
    "grown": [max(20.0, 200 - number / 2.5) if number < 450 else 900 - number / 10 for number in range(FIVE_MINUTES)],
    "is emptied": [number / 10 + 1 for number in range(FIVE_MINUTES)],
    "fills, but has much room": [1000.0 - number / 2 for number in range(FIVE_MINUTES)],
    "fills in two weeks": [450.0 - number / 20 for number in range(FIVE_MINUTES)],
}


def test_what_is_no_reason_to_wake_anybody(tmp_path: Path) -> None:
    inputs = [each for what, available in NO_ALARM.items() for each in space(what, available)]
    alert = 'alertname=~"CheckMountsMountFull.*", alertstate="firing"'
    # One did fill up before it was made larger.
    fired = f'group by (mountpoint) (count_over_time(ALERTS{{{alert}, mountpoint!="grown"}}[70h]))'
    grown = f'group by (mountpoint) (count_over_time(ALERTS{{{alert}, mountpoint="grown"}}[34h]))'
    assert not judged_by_promtool(tmp_path / "x.yml", inputs, {fired: ("72h", {}), grown: ("72h", {})}, every="5m")


def test_a_read_only_mount_is_not_foreseen(tmp_path: Path) -> None:
    """Somebody else may fill it up, and this host cannot do anything about it."""
    falling = [150 - 1.5 * number for number in range(90)]
    fires = 'ALERTS{alertname="CheckMountsMountFullIn4Hours", alertstate="firing"}'
    for read_only in (1, 0):
        labels = {"device": "/dev/sda1", "fstype": "ext4", "instance": "h1", "job": "node", "mountpoint": "/x"}
        inputs = [*space("/x", falling), series("check_mounts_mount_readonly", f"{read_only}x100", **labels)]
        found = {"count by (mountpoint, resource) (" + fires + ")": ("6h", {'{mountpoint="/x", resource="space"}': 1})}
        assert bool(judged_by_promtool(tmp_path / "x.yml", inputs, found, every="5m")) == bool(read_only)


@pytest.mark.parametrize(
    ("name", "available", "when"),
    [
        ("CheckMountsMountFullIn4Hours", [199 - 1.5 * number for number in range(110)], "8h"),
        ("CheckMountsMountFullIn4Hours", [max(0, 100 - number) for number in range(300)], "20h"),  # and stays full
        ("CheckMountsMountFullIn4Days", [300 - number / 6 for number in range(FIVE_MINUTES)], "70h"),
        # Only the backups at night, one unit in five minutes for four hours.
        (
            "CheckMountsMountFullIn4Days",
            [300 - 48 * (number // 288) - min(48, number % 288) for number in range(FIVE_MINUTES)],
            "70h",
        ),
    ],
)
def test_what_is_foreseen(tmp_path: Path, name: str, available: list[float], when: str) -> None:
    fires = f'count by (mountpoint, resource) (ALERTS{{alertname="{name}", alertstate="firing"}})'
    expected = {'{mountpoint="/x", resource="space"}': 1}
    assert not judged_by_promtool(tmp_path / "x.yml", space("/x", available), {fires: (when, expected)}, every="5m")


def test_under_the_names_of_node_exporter(tmp_path: Path) -> None:
    """The types that README.md takes from its collector, and no others."""
    rules = PROMETHEUS / "check_mounts-node_filesystem.rules.yml"
    manual = (PROMETHEUS / "README.md").read_text()
    (excluded,) = re.findall(r"^`(nfs4\?\|.*)`", manual, re.M)
    assert set(re.findall(r"fstype=~`(.*?)`", rules.read_text())) == {excluded}
    made = dict(re.findall(r"record: (node_\w+)\n +expr: (?:1 - )?(check_mounts_\w+)", rules.read_text()))
    inputs = [
        series(ours, f"{7 if ours.endswith('bytes') else 0}x5", mountpoint=f"/{fs_type}", fstype=fs_type)
        for ours in made.values()
        for fs_type in ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse.sshfs", "ext4", "fuse", "xfs")
    ]
    queries = {
        f"count by (fstype) ({theirs})": (
            "4m",
            {f'{{fstype="{each}"}}': 1 for each in ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse.sshfs")},
        )
        for theirs in made
    }
    queries['node_filesystem_device_error{fstype="cifs"}'] = (
        "4m",
        {'node_filesystem_device_error{fstype="cifs", mountpoint="/cifs"}': 1},
    )
    assert not judged_by_promtool(tmp_path / "x.yml", inputs, queries, rules=rules)
    assert set(made) == {
        f"node_filesystem_{name}"
        for name in ("size_bytes", "free_bytes", "avail_bytes", "files", "files_free", "readonly", "device_error")
    }
