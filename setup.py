"""A shim: the package is described in pyproject.toml, [project].

Debian 11 has setuptools 52, which does not read that table (61 is the first that does). There,
without a network, ``pip install --no-build-isolation .`` gets the same facts from here; a test
compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import setuptools

HERE = Path(__file__).resolve().parent
PROMETHEUS = "prometheus_client>=0.9"


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
            "test": ["pytest>=7", "pytest-xdist>=3", "hypothesis>=6", "setuptools", PROMETHEUS],
            "lint": ["mypy>=1.8", "ruff>=0.5"],
        },
        "entry_points": {"console_scripts": ["check_mounts = check_mounts.__main__:main"]},
    }


if __name__ == "__main__":
    old = int(setuptools.__version__.partition(".")[0]) < 61
    setuptools.setup(
        packages=setuptools.find_packages(include=["check_mounts", "check_mounts.*"]),
        package_data={"check_mounts": ["py.typed"]},
        **(described_here() if old else {}),
    )
