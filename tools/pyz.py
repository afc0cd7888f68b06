"""Make check_mounts.pyz, the whole program in one file: ``pyz.py NAGIOSPLUGIN.whl FILE``.

Its bytes depend on nothing but the sources: each Python of at least 3.9 makes the same file, at any
time and in any place. So nothing in it is compiled, because that would fit one version only, and
nothing is compressed, because libraries differ in how they do that; to read it is quicker, too.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# No `env`: PATH would decide what root runs. -I, -S: see check_mounts.in.
FIRST_LINE = b"#!/usr/bin/python3 -IS\n"
TIME = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP file can have
NOTICE = """\
This file holds check_mounts, and {library}, which is unmodified.
The license of check_mounts is in LICENSE, that of {library} in
{license}
"""


def ours() -> dict[str, bytes]:
    """What is ours, by its name in the file."""
    found = {"LICENSE": (ROOT / "LICENSE").read_bytes(), "__main__.py": (ROOT / "tools/pyz_main.py").read_bytes()}
    for path in (ROOT / "check_mounts").rglob("*"):
        if path.suffix == ".py" or path.name == "py.typed":
            found[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    return found


def library(wheel: Path) -> dict[str, bytes]:
    """nagiosplugin without its examples, but with its license."""
    with zipfile.ZipFile(wheel) as packed:
        names = [
            name
            for name in packed.namelist()
            if (name.endswith(".py") and "/examples/" not in name) or name.endswith("/METADATA") or "LICENSE" in name
        ]
        found = {name: packed.read(name) for name in names}
    (license,) = (name for name in names if "LICENSE" in name)
    (told,) = (data for name, data in found.items() if name.endswith("/METADATA"))
    version = next(line[9:] for line in told.decode("utf-8").splitlines() if line.startswith("Version: "))
    found["NOTICE"] = NOTICE.format(library=f"nagiosplugin {version}", license=license).encode()
    return found


def write(files: dict[str, bytes], target: Path) -> None:
    """Write the file; a check may be starting from the one before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(target.name + ".new")
    with new.open("wb") as file:
        file.write(FIRST_LINE)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, TIME)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                packed.writestr(entry, files[name])
    os.chmod(new, 0o755)
    new.replace(target)


def main() -> None:
    """The command line."""
    wheel, target = map(Path, sys.argv[1:])
    write({**ours(), **library(wheel)}, target)


if __name__ == "__main__":
    main()
