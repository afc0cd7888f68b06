"""Other ways to install the program on a fresh Debian: `make install`, one file, and pip. Each
finds a mount that hangs there, and leaves nothing when it is removed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT
from tests.fresh import fresh_root
from tests.packages import sources

pytestmark = [pytest.mark.root, pytest.mark.packages]


class Way(NamedTuple):
    """``given`` is what a fresh Debian needs first. The others are one command each."""

    given: str
    install: str
    program: str
    remove: str


WAYS = {
    "make": Way(
        "apt-get -q -y install --no-install-recommends make python3-nagiosplugin",
        "make -C /srv/source -s install",
        "/usr/local/bin/check_mounts",
        "make -C /srv/source -s uninstall",
    ),
    "pyz": Way(
        "true",
        "install -m 755 /srv/source/dist/check_mounts.pyz /usr/local/bin/check_mounts",
        "/usr/local/bin/check_mounts",
        "rm /usr/local/bin/check_mounts",
    ),
    "pip": Way(
        "apt-get -q -y install --no-install-recommends python3-venv",
        "python3 -m venv /opt/check_mounts && /opt/check_mounts/bin/pip -q install --no-index "
        "--find-links /srv/wheels check_mounts",
        "/opt/check_mounts/bin/check_mounts",
        "rm -r /opt/check_mounts",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_way_to_install_it(tmp_path: Path, name: str) -> None:
    way, source = WAYS[name], sources(tmp_path)
    if name == "pyz":
        command = ["make", "-s", "-C", str(source), "pyz", f"VENV={ROOT}/.venv", "-o", f"{ROOT}/.venv/carried"]
        subprocess.run(command, check=True, capture_output=True)
    if name == "pip":  # a registry of packages may need certificates that only this host has
        wheel = [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "--disable-pip-version-check",
            "wheel",
            "-w",
            str(tmp_path / "wheels"),
        ]
        subprocess.run([*wheel, str(source)], check=True, capture_output=True)
    with fresh_root(network=True) as root:
        root.copy(source, "/srv")
        if name == "pip":
            root.copy(tmp_path / "wheels", "/srv")
        root.run(["apt-get", "-q", "update"])
        root.run(["sh", "-ec", way.given])
        before, began = root.tree(), time.monotonic()
        root.run(["sh", "-ec", way.install])
        print(f"{name}: {time.monotonic() - began:.1f} s")
        fuse = root.hung("/srv/a")
        try:
            result = root.run([way.program, "-t", "1", "-p", "/srv/*"], check=False)
            assert (result.returncode, result.stderr) == (2, ""), result
            assert result.stdout.startswith("MOUNTS CRITICAL - 1 of 1 mounts failed: /srv/a "), result
        finally:
            fuse.close()
        root.run(["sh", "-ec", way.remove])
        # Of `make install`, empty directories stay: others may have made them.
        left = [path for path in root.tree() - before if not root.path(path).is_dir()]
        assert [path for path in left if not path.startswith(("/srv/", "/run/check_mounts/"))] == []
