"""What check_mounts says of a real NFS that fails or is slow: because of its server, or not. Runs
in the guest: ``python3 -m tests.lab.evidence`` writes evidence.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.lab.kinds import DROP, SERVERS, UNDROP, V3, V4
from tests.lab.zoo import LAB, Guest, check, load_modules, provide_product

SERVER = next(each for each in SERVERS if each.name == "drop")


def mount(guest: Guest, name: str, how: str, options: str, export: str = "a") -> Path:
    at = Path("/mnt") / name
    at.mkdir(parents=True)
    guest.shell(how.replace("{more}", options and f",{options}").replace("{export}", export), SERVER.name, str(at))
    return at


def finding(at: Path, *arguments: str) -> dict[str, Any]:
    """What a run says of one mount."""
    result = check(*arguments, str(at))
    (found,) = [each for each in result["survey"]["findings"] if each["mount_point"] == str(at)]
    return {**found, "duration": result["survey"]["duration"]}


def soft(guest: Guest) -> dict[str, Any]:
    """A soft mount whose server is silent, and one whose export is gone."""
    at, gone = mount(guest, "soft", V3, "soft,timeo=10,retrans=1"), mount(guest, "gone", V4, "", "gone")
    guest.shell("{ns} exportfs -u '*:/gone'", SERVER.name)
    said = {"healthy": finding(at), "gone": finding(gone, "-t", "10")}
    guest.shell(DROP, SERVER.name)
    said["silent"] = finding(at, "-t", "20")
    guest.shell(UNDROP, SERVER.name)
    return said


def slow(guest: Guest) -> dict[str, Any]:
    """A slow wire, and slow for another reason."""
    at = mount(guest, "slow", V3, "")
    guest.shell("{ns} tc qdisc add dev eth0 root netem delay 200ms", SERVER.name)
    wire = finding(at, "-w", "0.3")
    guest.shell("{ns} tc qdisc del dev eth0 root", SERVER.name)
    return {"wire": wire, "well": finding(at, "-w", "0.3")}


def main() -> None:
    """All acts."""
    provide_product()
    load_modules()
    guest = Guest()
    guest.start(SERVER)
    report = {act.__name__: act(guest) for act in (soft, slow)}
    (LAB / "evidence.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
