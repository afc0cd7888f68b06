"""Which lines of fstab must be mounted, and which may be absent: as systemd-fstab-generator(8)
decides it for random options."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from check_mounts.declared.fstab import read_fstab

GENERATOR = "/usr/lib/systemd/system-generators/systemd-fstab-generator"
CASES = int(os.environ.get("FSTAB_GENERATOR_CASES", "60"))
# How long systemd, udev and mount(8) wait, and for whom, is no matter; some of these are more
# frequent than others.
WORDS = """noauto noauto auto nofail nofail fail x-systemd.automount x-systemd.automount comment=systemd.automount
    comment=x-systemd.automount x-systemd.wanted-by=a.service x-systemd.required-by=b.service _netdev defaults rw ro
    bind user
    x-initrd.mount x-systemd.requires=c.service x-systemd.idle-timeout=5 x-systemd.growfs nobootwait"""
POINTS = ["/m", "/m", "/", "/usr", "/var/lib", "/mnt/a\\040b", "/m//", "none", "swap"]
SOURCES = {
    "ext4": "/dev/sda9",
    "auto": "LABEL=x",
    "nfs": "h:/a",
    "none": "/src",
    "tmpfs": "tmpfs",
    "swap": "/dev/sda8",
    "fuse.sshfs": "u@h:",
}

pytestmark = pytest.mark.skipif(
    not os.access(GENERATOR, os.X_OK) or os.statvfs("/sys").f_flag & os.ST_RDONLY != 0, reason="needs systemd"
)


def generated(fstab: Path, directory: Path) -> str:
    """``must``, ``may`` or ``automount`` (must, by its trigger), or ``may automount``; ``nothing``
    where no target asks for it."""
    units = [directory / name for name in ("normal", "early", "late")]
    for each in units:
        each.mkdir()
    environment = {"SYSTEMD_FSTAB": str(fstab), "SYSTEMD_PROC_CMDLINE": "", "PATH": os.environ["PATH"]}
    subprocess.run([GENERATOR, *map(str, units)], env=environment, check=True, capture_output=True)
    asked = [path for relation in ("requires", "wants") for path in directory.glob(f"*/*.target.{relation}/*mount")]
    words = {f"{'may' if each.parent.suffix == '.wants' else 'must'} {each.suffix[1:]}" for each in asked}
    shutil.rmtree(directory)
    assert len(words) <= 1
    return words.pop() if words else "nothing"


def understood(fstab: Path) -> str:
    """The same by our own account. Who wants it is not seen: where no target does, it may be
    there."""
    entries, complaints = read_fstab(str(fstab))
    assert complaints == []
    return next(
        (f"{'may' if each.nofail else 'must'} {'automount' if each.automount else 'mount'}" for each in entries),
        "nothing",
    )


@pytest.mark.parametrize("number", range(CASES))
def test_a_line(number: int, tmp_path: Path) -> None:
    random_ = random.Random(number)
    fs_type = random_.choice(list(SOURCES))
    options = ",".join(random_.choice(WORDS.split()) for _ in range(random_.randint(1, 5)))
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{SOURCES[fs_type]} {random_.choice(POINTS)} {fs_type} {options} 0 0\n")
    directory = tmp_path / "units"
    directory.mkdir()
    theirs, ours = generated(fstab, directory), understood(fstab)
    assert theirs == ours or (theirs, ours) == ("nothing", "may mount"), fstab.read_text()
