"""Fetch packages into a directory, without installing anything: ``/usr/bin/python3
tests/lab/packages.py DIRECTORY [PACKAGE...]``.

Without names it is what the lab needs. The lab's packages would start file servers on this host, so
they are only unpacked. The guest sees them as a layer over this host's ``/``. Needs neither root
nor package lists, only apt, dpkg and tar. Downloads are relative to what this host has installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Optional, Union

PACKAGES = [
    "user-mode-linux", "kmod", "iproute2", "iptables", "procps", "psmisc",
    "nfs-kernel-server", "nfs-common", "rpcbind", "samba", "cifs-utils", "diod",
    "sshfs", "fuse3", "openssh-sftp-server", "autofs", "krb5-kdc", "krb5-admin-server", "krb5-user", "dmsetup",
    "xfsprogs", "e2fsprogs",
]  # fmt: skip

# With /usr merged these are symbolic links; packages that still name them must not lay directories
# over them.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Failure(Exception):
    """apt or dpkg did not do what was asked; the text is theirs."""


def fetch(directory: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Unpack ``packages`` and what they depend on below ``directory/root``. Raises Failure."""
    lists, archives, root = directory / "lists", directory / "archives", directory / "root"
    for each in (lists / "partial", archives / "partial"):
        each.mkdir(parents=True, exist_ok=True)
    _download(directory, packages)
    unpack(sorted(archives.glob("*.deb")), root)
    shutil.rmtree(lists, ignore_errors=True)
    shutil.rmtree(archives, ignore_errors=True)


def unpack(archives: Sequence[Path], place: Path, finish: Callable[[Path], None] = lambda root: None) -> None:
    """Lay the files of Debian packages below ``place``, which is made afresh, and is there only
    once all is done."""
    root = place.with_name(place.name + ".new")
    for old in (root, place):
        shutil.rmtree(old, ignore_errors=True)
    root.mkdir(parents=True)
    for name in filter(lambda name: os.path.islink(f"/{name}"), _MERGED):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as tar:
            _run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root)], stdin=tar.stdout)
        if tar.returncode:
            raise Failure(f"{archive} cannot be unpacked")
    finish(root)
    root.rename(place)


def apt(directory: Path, *arguments: str, program: str = "apt-get", cwd: Optional[Path] = None) -> str:
    """Run apt-get (or its kin) with lists and archives of its own below ``directory``; give its
    output. Raises Failure."""
    options = {
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory,
        "Dir::Cache::archives": directory / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",  # its own user may not read a checkout
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
        "APT::Update::Post-Invoke-Success::": "",
        "Debug::NoLocking": 1,
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return _run([program, "-q", *settings, *arguments], cwd=cwd)


def _download(directory: Path, packages: Sequence[str]) -> None:
    """The packages and what they need beyond what this host has."""
    try:
        apt(directory, "update")
    except Failure as failure:  # one source of several may be out of reach; what is missing then shows at once
        print(f"apt-get update: {failure}", file=sys.stderr)
    apt(directory, "install", "-y", "--download-only", "--reinstall", "--no-install-recommends", *packages)


def _run(
    command: Sequence[str], stdin: Union[int, IO[bytes], None] = subprocess.DEVNULL, cwd: Optional[Path] = None
) -> str:
    result = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False, cwd=cwd)
    if result.returncode:
        raise Failure(f"{command[0]} failed with {result.returncode}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def main() -> int:
    """The command line."""
    if len(sys.argv) < 2 or any(word.startswith("-") for word in sys.argv[1:]):
        print("usage: packages.py DIRECTORY [PACKAGE...]", file=sys.stderr)
        return 2
    try:
        fetch(Path(sys.argv[1]).absolute(), sys.argv[2:] or PACKAGES)
    except Failure as failure:
        print(f"packages: {failure}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
