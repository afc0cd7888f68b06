"""Run the zoo in a guest and say where it differs from what is expected: ``python3 -m
tests.lab.verdict`` (``make zoo``); with ``--shell`` a shell in that guest (``make lab``).

Exit status 0: everything as expected. The report of the guest is kept in the file that ``--report
FILE`` names."""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import nagiosplugin

from tests.lab import guest
from tests.lab.kinds import KINDS, NOT_MOUNTED, NOT_PROBED, RUNS, Kind
from tests.lab.watched import PASSES, conditions_of, fails, news, recovers

TIMEOUT = 1500
# A daemon that is told to stop takes so long at the most, or as long as two rounds of bare forks
# where this host has other things to do.
_TO_STOP = 5.0
# All that the daemon has to say beside the news of a mount.
_LINES = re.compile(
    r"Checking every 2 s \(check_mounts [0-9.]+\)|Checked [0-9]+ mounts in [0-9]+ seconds(: .*)?|Stopped by SIGTERM"
    r"|Timed out waiting for child process [0-9]+ checking /mnt/\S+: sending SIGKILL"
)


def environment() -> dict[str, str]:
    """What a program of this checkout needs in the guest."""
    library = str(Path(nagiosplugin.__file__).parent.parent)
    return {"PYTHONPATH": f"{guest.CHECKOUT}:{library}"}


def report(machine: Optional[guest.Machine] = None, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Boot a guest, play all acts, give what it noted. Raises Failure with its output where it did
    not come to the end."""
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.zoo"], timeout, environment(), machine)
    if result.status != 0:
        late = f" within {timeout:g} s" if result.timed_out else ""
        raise guest.Failure(
            f"the zoo did not come to its end{late} ({result.status}):\n{result.output}\n{result.console}"
        )
    value: dict[str, Any] = json.loads(result.files["report.json"])
    return value


def _conditions(act: dict[str, Any]) -> dict[str, str]:
    """The condition of each mount point; of what was left out, that."""
    survey = act["survey"]
    left_out = {each["mount_point"]: NOT_PROBED for each in survey["left_out"] if "named" not in each["why"]}
    return {
        **left_out,
        **{each["mount_point"]: each["condition"] for each in survey["findings"] if each["condition"] != "shadowed"},
    }


def _causes(act: dict[str, Any]) -> dict[str, str]:
    return {each["mount_point"]: each["diagnosis"] or "" for each in act["survey"]["findings"]}


def of_kind(value: dict[str, Any], kind: Kind) -> Iterator[str]:
    """In words, where one kind is not judged as expected."""
    nagios = kind.nagios or kind.expected
    should = {
        "healthy": (kind.healthy,),
        "spoilt": (kind.expected,),
        "nagios": kind.watched if nagios in kind.watched else (nagios,),  # what changes in the course of time may have
        "healed": (kind.healed or kind.healthy,),
    }
    for act, conditions in should.items():
        is_ = _conditions(value[act]).get(f"/mnt/{kind.name}", NOT_MOUNTED)
        if is_ not in conditions:
            yield f"{act}: {kind.name} ({kind.words}) is {is_}, expected {' or '.join(conditions)}"
    if kind.cause and kind.cause not in _causes(value["spoilt"]).get(f"/mnt/{kind.name}", ""):
        yield (
            f"spoilt: {kind.name} is said to be because: {_causes(value['spoilt']).get(f'/mnt/{kind.name}')}, "
            f"expected {kind.cause}"
        )
    if kind.warm and value["stat"][kind.name] != "ok":
        yield f"stat: {kind.name} says {value['stat'][kind.name]}, expected ok"


def of_runs(value: dict[str, Any]) -> Iterator[str]:
    """In words, where a run of its own did not end as expected."""
    for run in RUNS:
        act = value["runs"][run.name]
        is_ = {name: _conditions(act).get(f"/mnt/{name}") for name in run.conditions}
        for name, cause in run.causes.items():
            if cause not in _causes(act).get(f"/mnt/{name}", ""):
                yield (
                    f"run {run.name}: {name} is said to be because: {_causes(act).get(f'/mnt/{name}')}, "
                    f"expected {cause}"
                )
        if (act["code"], is_) != (run.code, run.conditions):
            yield f"run {run.name}: {act['code']} {is_}, expected {run.code} {dict(run.conditions)}"
    for name, act in [(name, value[name]) for name in ("healthy", "spoilt", "nagios", "healed")] + list(
        value["runs"].items()
    ):
        if act["stderr"]:
            yield f"{name}: stderr: {act['stderr']}"


def of_processes(value: dict[str, Any]) -> Iterator[str]:
    """In words, where more is stuck than what cannot be killed, or what could be killed no longer
    can."""
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


def of_watched(value: dict[str, Any], kind: Kind) -> Iterator[str]:
    """In words, where the daemon did not tell of one kind what it should, or its result did not
    follow."""
    seen = value["watch"]
    all_news = news(seen["lines"], kind)
    told = [condition for _, condition in all_news]
    troubles = [condition for condition in told if condition != "ok"]
    once = all(before != after for before, after in zip(told, told[1:]))
    well = told[len(troubles) :] == ["ok"] * recovers(kind)
    if not (once and well and bool(troubles) == fails(kind) and set(troubles) <= set(conditions_of(kind))):
        yield f"watched: of {kind.name} ({kind.words}) is told {all_news}, {_of_fault(seen, kind)}"
    if not kind.is_watched:
        return
    well_now = (kind.healed or kind.healthy, *(["idle"] if kind.spared else []))
    for act, conditions in {"healthy": well_now, "spoilt": conditions_of(kind), "healed": well_now}.items():
        is_ = _conditions(seen[act]).get(f"/mnt/{kind.name}", NOT_MOUNTED)
        if is_ not in conditions:
            yield f"watched: {kind.name} is {is_} in the result when {act}, expected {' or '.join(conditions)}"
    killed = sum(f" checking /mnt/{kind.name}: sending SIGKILL" in line for _, line in seen["lines"])
    if kind.unkillable and killed != 1:
        yield f"watched: {killed} probes were lost at {kind.name}, expected 1"


def _of_fault(seen: dict[str, Any], kind: Kind) -> str:
    """In words, when the fault of a kind was there, by the clock of the daemon's log."""
    began, ended = seen["spoil"]
    return (
        f"its fault came at {began} to {ended} s and was lifted at {_lifted(seen, kind)}, with a timeout of "
        f"{seen['timeout']:.1f} s"
    )


def _lifted(seen: dict[str, Any], kind: Kind) -> Optional[float]:
    """When the fault of a kind was lifted, by the clock of the daemon's log; None where it was
    not."""
    when: Optional[float] = seen["lifted"].get(kind.name if kind.heal else kind.server)
    return when


def of_watch(value: dict[str, Any]) -> Iterator[str]:
    """In words, where the daemon as a whole did not do as it should."""
    seen = value["watch"]
    for act, code, state in (("healthy", 1, "WARNING"), ("spoilt", 2, "CRITICAL"), ("healed", 1, "WARNING")):
        if seen[act]["code"] != code or not seen[act]["text"].startswith(f"MOUNTS {state} - "):
            yield f"watched: the result when {act} is {seen[act]['code']} {seen[act]['text']}, expected {code} {state}"
    # One process at each, the same one all the time, and the daemon knows of all that there are.
    unkillable = {f"/mnt/{kind.name}" for kind in KINDS if kind.unkillable}
    first = seen["held"][0]
    for held in seen["held"]:
        if (
            held["told"].keys() != unkillable
            or held["told"] != first["told"]
            or sorted(held["told"].values()) != held["pids"]
        ):
            yield (
                f"watched: after {held['passes']} passes are stuck {held['pids']}, told {held['told']}, "
                f"expected one each at {unkillable}"
            )
    if seen["held"][-1]["passes"] - first["passes"] < PASSES:
        yield (
            f"watched: {first['passes']} to {seen['held'][-1]['passes']} passes were made over what is stuck, "
            f"expected {PASSES}"
        )
    if seen["remains"]:
        yield f"watched: {seen['remains']}, which were stuck, are still there"
    mounts = [f"/mnt/{kind.name}" for kind in KINDS]
    for when, line in seen["lines"]:
        if not _LINES.fullmatch(line) and not any(f"{at} " in line or f"{at}: " in line for at in mounts):
            yield f"watched: {when} s: {line}"
    end = seen["end"]
    if end["status"] != 0 or end["seconds"] > max(_TO_STOP, 2 * value["forks"]) or end["left"]:
        yield f"watched: after SIGTERM: {end}"


def differences(value: dict[str, Any]) -> list[str]:
    """In words, all that is not as it should be."""
    kinds = [text for kind in KINDS for text in (*of_kind(value, kind), *of_watched(value, kind))]
    return [*kinds, *of_runs(value), *of_processes(value), *of_watch(value)]


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
        f"starting and ending Python takes {idle:.1f} s, as many forks {value['forks']:.1f} "
        f"s\n{_times_of_watch(value['watch'])}"
    )


def _times_of_watch(seen: dict[str, Any]) -> str:
    took: dict[str, list[float]] = {}
    for kind in filter(recovers, KINDS):
        lifted = _lifted(seen, kind)
        told = [when for when, condition in news(seen["lines"], kind) if condition == "ok"]
        if lifted is not None and told:
            took.setdefault(kind.name.split("-")[0], []).append(told[-1] - lifted)
    recovery = ", ".join(f"{name} {min(seconds):.1f} to {max(seconds):.1f}" for name, seconds in took.items())
    passes = sum(line.startswith("Checked ") for _, line in seen["lines"])
    stuck = max(len(held["pids"]) for held in seen["held"])
    over = seen["held"][-1]["passes"] - seen["held"][0]["passes"]
    return (
        f"the daemon: {passes} passes, {over} of them over what was stuck, which was {stuck} at the most; SIGTERM took "
        f"{seen['end']['seconds']} s; from the end of a fault to the news of it, s: {recovery}"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests.lab.verdict", description="The zoo, against what is expected.", allow_abbrev=False
    )
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
