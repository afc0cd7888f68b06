"""Make a fresh Debian (or Ubuntu), the release of this host: ``/usr/bin/python3 tests/fresh/make.py
DIRECTORY``.

    DIRECTORY/root         what debootstrap would install, with systemd and Python
    DIRECTORY/repository   packages that tests install there without a network, and their index

Needs root, mmdebstrap, dpkg-dev and a package mirror.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

BASE = ("systemd-sysv", "python3")
# What our package depends on or recommends, and what tests want to see beside it.
OFFERED = ("python3-nagiosplugin", "python3-prometheus-client", "rpm", "sudo")
_MIRRORS = ("Debian", "Ubuntu")


def _sources() -> list[str]:
    """The lines of sources.list for this host's release: what else this host uses is left out."""
    words = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    targets = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = {target.partition(" ")[2] for target in targets if target.startswith(_MIRRORS)}
    return [f"deb {line}" for line in sorted(lines)]


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


def make(directory: Path) -> None:
    """Make both; they are there once all is done."""
    root, repository = directory / "root", directory / "repository"
    for old in (root, repository):
        shutil.rmtree(old, ignore_errors=True)
    repository.mkdir(parents=True)
    fetch = ["apt-get", "install", "-q", "-y", "--download-only", "--no-install-recommends", *OFFERED]
    words = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(BASE)}"]
    words += [f'--customize-hook=chroot "$1" {command}' for command in ("apt-get clean", " ".join(fetch))]
    words += [f'--customize-hook=cp "$1"/var/cache/apt/archives/*.deb "{repository}"']
    subprocess.run([*words, _release(), str(root), *_sources()], check=True, stdin=subprocess.DEVNULL)
    # With the host's name service, a test would see this host's.
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    index = subprocess.run(["dpkg-scanpackages", "."], cwd=repository, check=True, capture_output=True)
    (repository / "Packages").write_bytes(index.stdout)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
