"""Run the zoo in a guest and say where it differs from what is expected: ``python3 -m tests.lab.verdict`` (``make zoo``); with ``--shell``
a shell in that guest (``make lab``).

Exit status 0: everything as expected. The report of the guest is kept in the file that ``--report FILE`` names.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import nagiosplugin

from tests.lab import guest
from tests.lab.kinds import KINDS, NOT_MOUNTED, NOT_PROBED, RUNS, Kind

TIMEOUT = 300


def environment() -> dict[str, str]:
    """What a program of this checkout needs in the guest."""
    library = str(Path(nagiosplugin.__file__).parent.parent)
    return {"PYTHONPATH": f"{guest.CHECKOUT}:{library}"}


def report(machine: Optional[guest.Machine] = None, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Boot a guest, play all acts, give what it noted. Raises Failure with its output where it did not come to the end."""
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.zoo"], timeout, environment(), machine)
    if result.status != 0:
        late = f" within {timeout:g} s" if result.timed_out else ""
        raise guest.Failure(f"the zoo did not come to its end{late} ({result.status}):\n{result.output}\n{result.console}")
    value: dict[str, Any] = json.loads(result.files["report.json"])
    return value


def _conditions(act: dict[str, Any]) -> dict[str, str]:
    """The condition of each mount point; of what was left out, that."""
    survey = act["survey"]
    left_out = {each["mount_point"]: NOT_PROBED for each in survey["left_out"] if "named" not in each["why"]}
    return {**left_out, **{each["mount_point"]: each["condition"] for each in survey["findings"] if each["condition"] != "shadowed"}}


def _causes(act: dict[str, Any]) -> dict[str, str]:
    return {each["mount_point"]: each["diagnosis"] or "" for each in act["survey"]["findings"]}


def of_kind(value: dict[str, Any], kind: Kind) -> Iterator[str]:
    """In words, where one kind is not judged as expected."""
    should = {
        "healthy": kind.healthy,
        "spoilt": kind.expected,
        "nagios": kind.nagios or kind.expected,
        "healed": kind.healed or kind.healthy,
    }
    for act, condition in should.items():
        is_ = _conditions(value[act]).get(f"/mnt/{kind.name}", NOT_MOUNTED)
        if is_ != condition:
            yield f"{act}: {kind.name} ({kind.words}) is {is_}, expected {condition}"
    if kind.cause and kind.cause not in _causes(value["spoilt"]).get(f"/mnt/{kind.name}", ""):
        yield f"spoilt: {kind.name} is said to be because: {_causes(value['spoilt']).get(f'/mnt/{kind.name}')}, expected {kind.cause}"
    if kind.warm and value["stat"][kind.name] != "ok":
        yield f"stat: {kind.name} says {value['stat'][kind.name]}, expected ok"


def of_runs(value: dict[str, Any]) -> Iterator[str]:
    """In words, where a run of its own did not end as expected."""
    for run in RUNS:
        act = value["runs"][run.name]
        is_ = {name: _conditions(act).get(f"/mnt/{name}") for name in run.conditions}
        for name, cause in run.causes.items():
            if cause not in _causes(act).get(f"/mnt/{name}", ""):
                yield f"run {run.name}: {name} is said to be because: {_causes(act).get(f'/mnt/{name}')}, expected {cause}"
        if (act["code"], is_) != (run.code, run.conditions):
            yield f"run {run.name}: {act['code']} {is_}, expected {run.code} {dict(run.conditions)}"
    for name, act in [(name, value[name]) for name in ("healthy", "spoilt", "nagios", "healed")] + list(value["runs"].items()):
        if act["stderr"]:
            yield f"{name}: stderr: {act['stderr']}"


def of_processes(value: dict[str, Any]) -> Iterator[str]:
    """In words, where more is stuck than what cannot be killed, or what could be killed no longer can."""
    unkillable = sum(kind.unkillable for kind in KINDS)
    for number, act in enumerate([value["spoilt"], *value["again"]], 1):
        if act["stuck"] != unkillable:
            yield f"run {number}: {act['stuck']} processes are stuck, expected {unkillable}"
    if value["healed"]["stuck"]:
        yield f"healed: {value['healed']['stuck']} processes are still stuck"
    if not value["bystander"]:
        yield "somebody else's process that hung, and could be killed, cannot be killed any more"
    for command, code in value["unmount"].items():
        if code:
            yield f"unmount: {command} failed with {code}"


def differences(value: dict[str, Any]) -> list[str]:
    """In words, all that is not as it should be."""
    return [text for kind in KINDS for text in of_kind(value, kind)] + [*of_runs(value), *of_processes(value)]


def times(value: dict[str, Any]) -> str:
    """In words, where the time went."""
    acts = ", ".join(f"{act} {seconds}" for act, seconds in value["seconds"].items())
    wall = statistics.median(act["seconds"] for act in value["again"])
    probing = statistics.median(act["survey"]["duration"] for act in value["again"])
    idle = value["healthy"]["seconds"] - value["healthy"]["survey"]["duration"]
    hung = sum(kind.expected == "timed-out" for kind in KINDS)
    return (
        f"seconds: {sum(value['seconds'].values()):.0f}: {acts}\n"
        f"one-shot of -t 0.5, {hung} mounts hung: {wall:.1f} s, of which {probing:.1f} s for the pass; "
        f"starting and ending Python takes {idle:.1f} s, as many forks {value['forks']:.1f} s"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests.lab.verdict", description="The zoo, against what is expected.", allow_abbrev=False)
    parser.add_argument("--shell", action="store_true", help="a shell in a guest with the zoo mounted")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write there what the guest reported")
    values = parser.parse_args()
    if values.shell:
        return guest.shell(["/usr/bin/python3", "-m", "tests.lab.zoo", "--shell"], environment())
    value = report()
    if values.report is not None:
        values.report.write_text(json.dumps(value, indent=1))
    found = differences(value)
    print("\n".join(found) or f"all {len(KINDS)} kinds are as expected")
    print(times(value))
    return 1 if found else 0


if __name__ == "__main__":
    guest.plainly(main)
