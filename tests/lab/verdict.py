"""Run the zoo in a guest and say where it differs from what is expected: ``python3 -m tests.lab.verdict`` (``make zoo``).

Exit status 0: everything as expected. The report of the guest is kept in the file that ``--report FILE`` names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nagiosplugin

from tests.lab import guest
from tests.lab.zoo import KINDS, NOT_PROBED, Kind

TIMEOUT = 300


def report() -> dict[str, Any]:
    """Boot a guest, play all acts, give what it noted. Raises RuntimeError with its output where it did not come to the end."""
    library = str(Path(nagiosplugin.__file__).parent.parent)
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.zoo"], TIMEOUT, {"PYTHONPATH": f"{guest.CHECKOUT}:{library}"})
    if result.status != 0:
        raise RuntimeError(f"the guest ended with {result.status}:\n{result.output}\n{result.console}")
    value: dict[str, Any] = json.loads(result.files["report.json"])
    return value


def _conditions(act: dict[str, Any]) -> dict[str, str]:
    findings = act["survey"]["findings"]
    return {each["mount_point"]: each["condition"] for each in findings if each["condition"] != "shadowed"}


def _expected(kind: Kind, act: str) -> str:
    always = kind.expected == NOT_PROBED or kind.name == "tmpfs-mode"
    healthy = act == "healthy" or (act == "healed" and kind.heals)
    return kind.expected if always or not healthy else "ok"


def differences(value: dict[str, Any]) -> list[str]:
    """In words, all that is not as it should be."""
    found = []
    for act in ("healthy", "spoilt", "healed"):
        conditions = _conditions(value[act])
        for kind in KINDS:
            is_, should = conditions.get(f"/mnt/{kind.name}", NOT_PROBED), _expected(kind, act)
            if is_ != should:
                found.append(f"{act}: {kind.name} ({kind.words}) is {is_}, expected {should}")
    unkillable = sum(kind.unkillable for kind in KINDS)
    found += [f"run {n}: {act['stuck']} stuck, expected {unkillable}" for n, act in enumerate(value["again"]) if act["stuck"] != unkillable]
    found += [f"stat: {name} says {answer}, expected ok" for name, answer in value["stat"].items() if answer != "ok"]
    found += [f"{act}: stderr: {value[act]['stderr']}" for act in ("healthy", "spoilt", "nagios", "healed") if value[act]["stderr"]]
    if value["healed"]["stuck"]:
        found.append(f"healed: {value['healed']['stuck']} processes are still stuck")
    if not value["bystander"]:
        found.append("somebody else's process that hung, and could be killed, cannot be killed any more")
    found += [f"unmount: {command} failed with {code}" for command, code in value["unmount"].items() if code]
    return found


def main() -> int:
    """The command line."""
    value = report()
    if sys.argv[1:2] == ["--report"]:
        Path(sys.argv[2]).write_text(json.dumps(value, indent=1))
    found = differences(value)
    print("\n".join(found) or f"all {len(KINDS)} kinds are as expected")
    print("seconds: " + ", ".join(f"{act} {seconds}" for act, seconds in value["seconds"].items()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
