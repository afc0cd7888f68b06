"""The commands of README.md and of the pages for each monitoring system, run in order as root of a
host of their own, with a real systemd and the packages of Debian."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import documents
from tests.conftest import ROOT
from tests.monitoring.booted import Booted, booted
from tests.monitoring.stack import Stack

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]

CHECKOUT = Path("/usr/src/check_mounts")
SHARE = Path("/usr/local/share/check_mounts")
# This host has no network filesystem, and says so when asked for these alone.
VERDICT = re.compile(
    r"(?m)^(MOUNTS ((OK|WARNING|CRITICAL) - |UNKNOWN - no mount was selected)"
    r'|\{"version": \d+, "state": "(OK|WARNING|CRITICAL)", "summary": ")'
)
# There is no network in there, and no list of packages: it says whether they are laid over.
APT_GET = """#!/bin/sh
for word; do
    case $word in install|-*) continue;; esac
    [ -d "/usr/share/doc/$word" ] || { echo "E: Unable to locate package $word" >&2; exit 100; }
done
"""


class Page(NamedTuple):
    """``given`` is what the page takes for granted, as commands. ``where`` is the directory that it
    tells its reader to be in. ``stands_for`` has what the page leaves open."""

    given: str = ""
    where: Path = Path("/")
    stands_for: dict[str, str] = {}  # noqa: RUF012
    after: str = ""


# Maintainer scripts of the packages make users and start services. No script has run here.
PAGES: dict[str, Page] = {
    "README.md": Page(
        given="mount -t tmpfs tmpfs /srv", where=CHECKOUT, after="kill $(cat /run/check_mounts/status.pid)"
    ),
    "nrpe/README.md": Page(
        given="systemctl start nagios-nrpe-server",
        where=SHARE / "nrpe",
        stands_for={"-H HOST": "-H 127.0.0.1"},
    ),
    "nagios/README.md": Page(given="systemctl start nagios4", where=SHARE / "nagios"),
    "icinga2/README.md": Page(given="systemctl start icinga2", where=SHARE / "icinga2"),
    "prometheus/README.md": Page(
        given="useradd --system prometheus; install -d -o prometheus /var/lib/prometheus/metrics2 && "
        "install -d /var/lib/prometheus/node-exporter && systemctl start prometheus prometheus-node-exporter",
        where=SHARE / "prometheus",
    ),
}


def replaced(script: str, page: Page) -> str:
    for name, value in page.stands_for.items():
        script = script.replace(name, value)
    return script


def run(booted: Booted, where: Path, command: str) -> tuple[int, str]:
    result = booted.run("bash", "-c", f"cd {shlex.quote(str(where))} && {{ {command}\n}} 2>&1")
    return result.returncode, result.stdout


def is_a_check(command: str) -> bool:
    """Whether it prints a verdict, and its status is that of the verdict."""
    words = command.partition("#")[0]
    return re.search(r"(^|[ /])check_mounts( |$)|check_nrpe ", words) is not None and not re.search(
        r"systemctl|install|--daemon|--help|--version|[|>]", words
    )


def follow(booted: Booted, block: documents.Block, page: Page) -> None:
    for command in documents.commands(replaced(block.text, page)):
        status, output = run(booted, page.where, command)
        told = f"{block.place}: {command}\nstatus {status}\n{output}\n{booted.console[-3000:]}"
        if is_a_check(command):
            assert status <= 3, told
            assert VERDICT.search(output), told
        else:
            assert status == 0, told


@pytest.fixture(scope="module")
def host(stack: Stack, booted: Booted) -> Iterator[Booted]:
    stack.write("/usr/local/sbin/apt-get", APT_GET, mode=0o755)
    ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.egg-info", "dist", "build")
    shutil.copytree(ROOT, CHECKOUT, ignore=ignored)
    yield booted
    shutil.rmtree(CHECKOUT)


@pytest.mark.parametrize("path", [str(page.relative_to(ROOT)) for page in documents.pages()])
def test_the_commands_of_a_page_work_in_order(host: Booted, path: str) -> None:
    page = PAGES.get(path, Page(where=SHARE / Path(path).parent))
    chosen = [block for block in documents.blocks(ROOT / path) if block.info == "sh" and not block.run_by]
    if page.given and chosen:
        status, output = run(host, Path("/"), page.given)
        assert status == 0, output
    for block in chosen:
        follow(host, block, page)
    if page.after:
        run(host, Path("/"), page.after)


def lines_of_cron() -> list[str]:
    every = [block for page in documents.pages() for block in documents.blocks(page) if block.info == "cron"]
    return [line for block in every for line in block.text.splitlines()]


def test_lines_for_cron(host: Booted) -> None:
    """cron hands the rest of the line to sh; what that prints is mailed."""
    assert lines_of_cron()
    for line in lines_of_cron():
        fields = re.fullmatch(r"(?:\S+ ){5}root (.*)", line)
        assert fields is not None, line
        assert host.run("sh", "-c", fields[1].replace(" -v", " -v -p /")).stdout == ""
        assert VERDICT.search(host.run("sh", "-c", fields[1].replace(" -v", " -v /nowhere")).stdout)


def _lend(environment: Path) -> None:
    """The checkout's environment, in which make finds nothing out of date: it would install the
    copy there."""
    environment.mkdir()
    for path in (ROOT / ".venv").iterdir():
        if path.name not in ("run", "test", "lint"):
            (environment / path.name).symlink_to(path.resolve())
    (environment / "run").touch()
    (environment / "test").touch()


def test_make_run_and_make_test(stack: Stack, tmp_path: Path) -> None:
    """In a copy of README.md's directory with a fresh HOME; what they have set up once is there."""
    block = next(block for block in documents.blocks(ROOT / "README.md") if "make run" in block.text)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__"))
    for path in copy.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))
    _lend(copy / ".venv")
    env = {
        "HOME": str(tmp_path), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTEST_ADDOPTS": "-p no:cacheprovider -k test_commands_are_told_apart",
    }  # fmt: skip
    first, second = documents.commands(block.text)
    done = subprocess.run(first, shell=True, cwd=copy, env=env, capture_output=True, text=True, check=True)
    assert re.match(r"MOUNTS \w+ - ", done.stdout) and "(exit status" in done.stdout, done
    done = subprocess.run(second, shell=True, cwd=copy, env=env, capture_output=True, text=True, check=True)
    assert "1 passed" in done.stdout, done
