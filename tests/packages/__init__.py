"""What the tests of packages have in common."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.conftest import ROOT, until
from tests.fresh import FreshRoot

GONE = "/usr/lib/check_mounts/check_mounts/no_more.py"
OLD = "0.0.9"
# Nobody says where it is built, by whom, or how this host is set.
_ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def sources(directory: Path, name: str = "source", version: str = "") -> Path:
    """A copy of the sources, without git; if a version is given, that of an earlier one, with a
    module that is no more."""
    archive = subprocess.run([ROOT / "packaging/source.sh", name], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)
    if version:
        (directory / name / GONE.removeprefix("/usr/lib/check_mounts/")).write_text("")
        for file in ("check_mounts/__init__.py", "packaging/check_mounts.spec"):
            path = directory / name / file
            text = re.sub(r'(?m)^(__version__ = "|Version: +)[\d.]+', rf"\g<1>{version}", path.read_text())
            path.write_text(text)
    return directory / name


def make(source: Path, *words: str, umask: int = 0o022, env: dict[str, str] | None = None) -> Path:
    """Give the directory with what has been made."""
    result = subprocess.run(
        ["make", "-s", "-C", str(source), *words], env={**_ENVIRONMENT, **(env or {})}, umask=umask,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return source / "dist"


def stand_in(directory: Path, *provided: str, release: int = 1) -> Path:
    """An RPM package of Python's name: it provides what is there, and rpm does not know of."""
    provides = "".join(f"Provides: {each}\n" for each in ("/usr/bin/python3", "/bin/sh", *provided))
    head = f"Name: python3\nVersion: 3.11\nRelease: {release}\nSummary: .\nLicense: .\nBuildArch: noarch\n"
    spec = directory / "python3.spec"
    spec.write_text(f"{head}{provides}%description\n.\n%files\n")
    words = ["rpmbuild", "-bb", "--quiet", "--dbpath", f"{directory}/db", "--define", f"_topdir {directory}", str(spec)]
    subprocess.run(words, check=True, capture_output=True)
    return directory / f"RPMS/noarch/python3-3.11-{release}.noarch.rpm"


def workers(root: FreshRoot) -> int:
    return root.processes().count("check_mounts:w")


def stuck(root: FreshRoot) -> None:
    """Wait until the daemon has told of the mount that hangs, and one worker is stuck in it."""

    def says() -> bool:
        result = root.run(["check_mounts", "--cached"], check=False)
        return result.returncode == 2 and "/srv/hung (fuse.test fuse) timed out" in result.stdout

    until(says)
    until(lambda: workers(root) == 1)


def main_pid(root: FreshRoot) -> str:
    return root.run(["systemctl", "show", "-P", "MainPID", "check_mounts"]).stdout.strip()
