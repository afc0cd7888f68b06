"""check_mounts on filesystems whose devices are suspended, for long and for a moment. Runs in the
guest: ``python3 -m tests.lab.suspended`` writes suspended.json."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.lab.kinds import PYTHON
from tests.lab.zoo import LAB, Guest, environment, load_modules, provide_product

# A volume, another one on top of it, and a file in the first one that is a device again.
MAKE = """
mkdir -p /mnt/lower /mnt/upper /mnt/inner
truncate -s 64M /srv/lower.img
loop=$(losetup -f --show /srv/lower.img)
echo "0 65536 linear $loop 0" | dmsetup create vg-lower
echo "0 65536 linear $loop 65536" | dmsetup create vg-base
echo "0 65536 linear /dev/mapper/vg-base 0" | dmsetup create 'vg-o|dd'
mkfs.ext4 -q /dev/mapper/vg-lower; mount /dev/mapper/vg-lower /mnt/lower
mkfs.ext4 -q /dev/mapper/vg-o*; mount /dev/mapper/vg-o* /mnt/upper
truncate -s 8M /mnt/lower/inner.img; mkfs.ext4 -q /mnt/lower/inner.img; mount -o loop /mnt/lower/inner.img /mnt/inner
ls /mnt/* > /dev/null
"""
TIMEOUT = 3.0
# How long a snapshot takes here.
MOMENT = 1.0


def check(*arguments: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    """What a run says of each mount point, and how long it took."""
    words = [PYTHON, "-m", "check_mounts", "--json", "-p", "/mnt/*", f"--timeout={timeout:g}", "--deadline=60"]
    began = time.monotonic()
    run = subprocess.run([*words, *arguments], capture_output=True, text=True, cwd="/", env=environment())
    value = json.loads(run.stdout)
    found = {each["mount_point"]: each for each in value["findings"]}
    return {"code": run.returncode, "seconds": time.monotonic() - began, "found": found, "notes": value["notes"]}


def main() -> None:
    """All acts."""
    guest = Guest()
    provide_product()
    load_modules()
    guest.shell(MAKE)
    report = {"healthy": check()}
    guest.shell("dmsetup suspend --nolockfs vg-lower")
    report["lower"] = check()
    guest.shell("dmsetup resume vg-lower; dmsetup suspend --nolockfs vg-base")
    report["base"] = check()
    resume = subprocess.Popen(["sh", "-c", f"sleep {MOMENT}; exec dmsetup resume vg-base"])
    report["moment"] = check(timeout=30.0)
    resume.wait()
    guest.shell("umount /mnt/upper; mount /dev/mapper/vg-o* /mnt/upper; dmsetup suspend --nolockfs vg-base")
    report["uncached"] = check()
    guest.shell("dmsetup resume vg-base")
    report["again"] = check(timeout=30.0)
    (LAB / "suspended.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
