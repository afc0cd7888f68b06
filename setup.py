"""Packaging. Settings of tools are in pyproject.toml."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "check_mounts/__init__.py").read_text("utf-8").splitlines()
    if line.startswith("__version__")
)
# Debian 11 has 0.9.
PROMETHEUS = "prometheus_client>=0.9"

setup(
    name="check_mounts",
    version=VERSION,
    description="Nagios/Icinga plugin: which mounted filesystems are dead, hung or denied, without ever hanging itself",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=["check_mounts", "check_mounts.passive"],
    python_requires=">=3.9",
    install_requires=["nagiosplugin>=1.3.2,<2"],
    extras_require={
        "prometheus": [PROMETHEUS],
        "test": ["pytest>=7", "hypothesis>=6", PROMETHEUS],
        "lint": ["mypy>=1.8", "ruff>=0.5"],
    },
    entry_points={"console_scripts": ["check_mounts = check_mounts.__main__:main"]},
    classifiers=[
        "Environment :: Plugins",
        "Intended Audience :: System Administrators",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Monitoring",
    ],
)
