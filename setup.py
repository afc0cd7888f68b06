"""A shim: the package is described in pyproject.toml, [project].

Debian 11 has setuptools 52, which does not read that table (61 is the first that does). There,
without a network, ``pip install --no-build-isolation .`` gets the same facts from here; a test
compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import setuptools

HERE = Path(__file__).resolve().parent
PROMETHEUS = "prometheus_client>=0.9"
RICH = "rich>=10"


def version() -> str:
    """Return the version without an import of the package."""
    lines = (HERE / "check_mounts/__init__.py").read_text("utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("__version__"))


def described_here() -> dict[str, Any]:
    """Return what an installation needs of [project]."""
    return {
        "name": "check_mounts",
        "version": version(),
        "python_requires": ">=3.9",
        "install_requires": ["nagiosplugin>=1.3.2,<2"],
        "extras_require": {
            "prometheus": [PROMETHEUS],
            "terminal": [RICH],
            "test": ["pytest>=7", "pytest-xdist>=3", "hypothesis>=6", "setuptools", "wheel", PROMETHEUS, RICH],
            "lint": ["mypy>=1.8", "ruff>=0.5"],
        },
    }


def start_script(interpreter: str) -> dict[str, Any]:
    """Return what makes the command: bin/check_mounts, which starts fastest.

    pip writes the path of the interpreter into its first line, which the kernel ends at a space,
    and before Linux 5.1 after 127 bytes. For such a path, an entry point: pip knows a way there."""
    if len(interpreter) > 120 or len(interpreter.split()) != 1:
        return {"scripts": [], "entry_points": {"console_scripts": ["check_mounts = check_mounts.__main__:main"]}}
    return {"scripts": ["bin/check_mounts"], "entry_points": {"console_scripts": []}}


if __name__ == "__main__":
    old = int(setuptools.__version__.partition(".")[0]) < 61
    setuptools.setup(
        packages=setuptools.find_packages(include=["check_mounts", "check_mounts.*"]),
        package_data={"check_mounts": ["py.typed"]},
        **start_script(sys.executable),
        **(described_here() if old else {}),
    )
