"""Icinga 2 as Debian's package leaves it, with the files where icinga2/README.md says that they go:
the Icinga host checks itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import documents
from tests.conftest import ROOT, until
from tests.monitoring.booted import Booted, booted
from tests.monitoring.stack import ROOT_OF_PACKAGES, Stack

__all__ = ["booted"]
pytestmark = [pytest.mark.root, pytest.mark.monitoring]

PAGE = ROOT / "icinga2/README.md"
SHARE = Path("/usr/local/share/check_mounts/icinga2")
ETC, STATE = Path("/etc/icinga2"), Path("/var/lib/icinga2")
# It is a master, with the name that the host has; all else as the wizard proposes it.
ANSWERS = "n\n" + "\n" * 10
# The API says what a service has been told last.
ASK = """
import json, re, ssl, sys, urllib.request
password = re.search('password = "(.*)"', open("/etc/icinga2/conf.d/api-users.conf").read())[1]
manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
manager.add_password(None, "https://127.0.0.1:5665/", "root", password)
tls = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager), tls)
print(opener.open("https://127.0.0.1:5665/v1/objects/services").read().decode())
"""


@pytest.fixture
def host(stack: Stack, booted: Booted) -> Iterator[Booted]:
    """What the package's maintainer scripts do, none of which has run here."""
    for directory in (ETC, STATE):
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(ROOT_OF_PACKAGES / str(directory)[1:], directory, symlinks=True)
    done(booted, "chown", "-R", "nagios:nagios", str(ETC), str(STATE))
    done(booted, "icinga2", "feature", "enable", "checker", "mainlog", "notification")
    yield booted
    booted.systemctl("stop", "icinga2")


def done(booted: Booted, *command: str) -> str:
    result = booted.run(*command)
    assert result.returncode == 0, (command, result.stdout, result.stderr, booted.console[-3000:])
    return result.stdout


def follow(booted: Booted, which: str) -> None:
    """Run the block of the page that has these words."""
    (block,) = (each for each in documents.blocks(PAGE) if each.info == "sh" and which in each.text)
    for command in documents.commands(block.text):
        done(booted, "bash", "-c", f"cd {SHARE} && {{ {command}\n}}")


def services(booted: Booted) -> dict[str, Any]:
    answer = booted.run("/usr/bin/python3", "-c", ASK)
    if answer.returncode:  # it has only just begun
        return {}
    return {each["attrs"]["__name"]: each["attrs"] for each in json.loads(answer.stdout)["results"]}


def result(booted: Booted, name: str) -> Any:
    found: list[Any] = []

    def has_come() -> bool:
        found[:] = [(services(booted).get(name) or {}).get("last_check_result")]
        return found[0] is not None

    until(has_come, 90)
    return found[0]


def test_the_package_as_it_is_installed(host: Booted) -> None:
    done(host, "icinga2", "api", "setup")  # only so that it can be asked
    done(host, "systemctl", "start", "icinga2")
    follow(host, "/etc/icinga2/conf.d/hosts.conf")
    name = done(host, "hostname").strip()
    got = result(host, f"{name}!mounts")
    assert got["output"].startswith("MOUNTS OK - "), got
    assert got["command"][0] == "/usr/local/bin/check_mounts"
    known = services(host)
    assert f"{name}!load" in known  # Debian's own are still there
    assert known[f"{name}!mounts"]["groups"] == ["mounts"]


@pytest.mark.parametrize("via", ["agent", "agent-cached"])
def test_a_master_after_the_wizard(host: Booted, via: str) -> None:
    wizard = subprocess.run(
        [*host.enter, "icinga2", "node", "wizard"], input=ANSWERS, capture_output=True, text=True, check=False, cwd="/"
    )
    assert (wizard.returncode, "Done." in wizard.stdout) == (0, True), (wizard.stdout, wizard.stderr)
    done(host, "systemctl", "start", "icinga2")
    if via == "agent-cached":
        done(host, "sh", "-c", "/usr/local/bin/check_mounts --daemon -p /proc --user-mounts -N proc")
    follow(host, "/etc/icinga2/zones.d/master/hosts.conf")
    name = done(host, "hostname").strip()
    if via == "agent-cached":
        done(host, "sed", "-i", 's/"agent"/"agent-cached"/', str(ETC / "zones.d/master/hosts.conf"))
        done(host, "systemctl", "reload", "icinga2")
        until(lambda: (services(host).get(f"{name}!mounts") or {}).get("check_command") == "check_mounts_cached")
        began = time.time()
        until(lambda: result(host, f"{name}!mounts")["execution_end"] > began, 90)
        done(host, "sh", "-c", "kill $(cat /run/check_mounts/status.pid)")
    got = result(host, f"{name}!mounts")
    assert got["output"].startswith("MOUNTS OK - "), got
    assert ("--cached" in got["command"]) is (via == "agent-cached")
    assert list(services(host)) == [f"{name}!mounts"]
    assert "unknown zone" not in done(host, "icinga2", "daemon", "-C")


def test_a_program_in_the_directory_of_plugins(host: Booted) -> None:
    (words,) = {span for span in PAGE.read_text().split("`") if span.startswith("vars.mounts_program = ")}
    done(host, "cp", "-p", "/usr/local/bin/check_mounts", "/usr/lib/nagios/plugins/check_mounts")
    done(host, "sed", "-i", f"/^object Host NodeName {{/a\\  {words}", str(ETC / "conf.d/hosts.conf"))
    done(host, "icinga2", "api", "setup")
    done(host, "systemctl", "start", "icinga2")
    follow(host, "/etc/icinga2/conf.d/hosts.conf")
    name = done(host, "hostname").strip()
    got = result(host, f"{name}!mounts")
    assert got["command"][0] == "/usr/lib/nagios/plugins/check_mounts"
    assert got["output"].startswith("MOUNTS OK - "), got


def test_the_path_is_that_of_the_installation() -> None:
    assert (
        'vars.mounts_program = "/usr/local/bin/check_mounts"'
        in (ROOT / "icinga2/check_mounts-command.conf").read_text()
    )
