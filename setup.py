"""A shim: the package is described in pyproject.toml, [project].

Debian 11 has setuptools 52, which does not read that table (61 is the first that does). There,
without a network, ``pip install --no-build-isolation .`` gets the same facts from here; a test
compares the two.

What no table can say is here for all: the command, the page for PyPI, and the files beside the
modules.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import setuptools

from distutils.command.install_data import install_data  # isort: skip  setuptools may bring its own distutils

HERE = Path(__file__).resolve().parent
PROMETHEUS = "prometheus_client>=0.9"
RICH = "rich>=10"
# Where each shell looks for completions, below the prefix.
COMPLETIONS = {
    "bash": "share/bash-completion/completions/check_mounts",
    "zsh": "share/zsh/site-functions/_check_mounts",
    "fish": "share/fish/vendor_completions.d/check_mounts.fish",
}


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
            "test": [
                "pytest>=7", "pytest-xdist>=3", "hypothesis>=6", "setuptools", "wheel", PROMETHEUS, RICH,
                "readme_renderer[md]>=40",
            ],
            "lint": ["mypy>=1.8", "ruff>=0.5"],
        },
    }  # fmt: skip


def page() -> str:
    """Return README.md as PyPI can show it: links to files of the sources, and pictures, would lead
    nowhere."""
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n*", "", (HERE / "README.md").read_text("utf-8"))
    return re.sub(r"\[([^]\[]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def data_files() -> list[tuple[str, list[str]]]:
    """Return the directories below the prefix, and what comes into them: what `make install` puts
    there, too."""
    shared = re.search(r"^SHARED := (.*)$", (HERE / "Makefile").read_text("utf-8"), re.M)
    assert shared is not None
    paths = [Path("check_mounts.conf.sample")]
    for place in shared[1].split():
        paths += (path.relative_to(HERE) for path in sorted((HERE / place).rglob("*")) if path.is_file())
    found: dict[str, list[str]] = {}
    for path in paths:
        if path.suffix != ".pyc":
            found.setdefault(str("share/check_mounts" / path.parent), []).append(str(path))
    for path in sorted((HERE / "man").iterdir()):
        found.setdefault(f"share/man/man{path.suffix[1:]}", []).append(f"man/{path.name}")
    return sorted(found.items())


class InstallData(install_data):  # type: ignore[misc]
    """Installs the completions of shells, too, which are made from the table of options."""

    def run(self) -> None:
        """Install."""
        super().run()
        sys.path.insert(0, str(HERE))
        from check_mounts import completion

        for shell, place in COMPLETIONS.items():
            path = Path(self.install_dir, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(completion.script(shell), "utf-8")
            self.outfiles.append(str(path))


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
        data_files=data_files(),
        cmdclass={"install_data": InstallData},
        long_description=page(),
        long_description_content_type="text/markdown",
        **start_script(sys.executable),
        **(described_here() if old else {}),
    )
