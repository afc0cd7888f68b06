"""The commands that README.md gives for packages, from the sources to a host that checks its
mounts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from check_mounts import __version__
from tests import documents
from tests.conftest import ROOT
from tests.fresh import FreshRoot, fresh_root
from tests.packages import sources, stand_in

pytestmark = [pytest.mark.root, pytest.mark.packages]
# There is no repository of Fedora's packages here. This asks rpm, which asks for what is required.
_DNF = "#!/bin/sh\nshift\nexec rpm --dbpath /var/lib/rpm -U ./stand-ins/*.rpm $(echo ' '\"$@\" | sed 's/ -y / /')\n"


def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    """The first half of each line here, where make finds the tools that it would install; the
    second on a fresh host."""
    (block,) = (each for each in documents.blocks(ROOT / "README.md") if "make deb" in each.text)
    deb, rpm = (line.partition("#")[0].strip() for line in documents.commands(block.text))
    source = sources(tmp_path)
    for line, prepare in ((deb, _for_apt), (rpm, _for_dnf)):
        build, _, install = line.partition(" && ")
        subprocess.run(build, shell=True, cwd=source, check=True, capture_output=True)
        with fresh_root() as root:
            root.offline()
            root.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "sudo"])
            prepare(root, tmp_path)
            root.copy(source / "dist", "/srv")
            root.run(["sh", "-c", f"cd /srv && {install.replace(' install ', ' install -y ')}"])
            result = root.run(["check_mounts"])
            assert result.stdout.startswith("MOUNTS OK - "), result
            assert __version__ in root.run(["check_mounts", "--version"], check=False).stdout


def _for_apt(root: FreshRoot, tmp_path: Path) -> None:
    """It has all it needs: a fresh host."""


def _for_dnf(root: FreshRoot, tmp_path: Path) -> None:
    """What Fedora has: nagiosplugin, and a package of that name."""
    root.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "python3-nagiosplugin", "rpm"])
    root.copy(stand_in(tmp_path, "python3dist(nagiosplugin) = 1.3.3"), "/srv/stand-ins")
    root.write("/usr/bin/dnf", _DNF, 0o755)
