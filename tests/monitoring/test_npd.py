"""integrations/npd under what node-problem-detector's custom plugin monitor does, by its published
sources: how it reads its configuration, runs a plugin, and makes conditions and events of that.

No package has the program itself."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from check_mounts import cache
from check_mounts.daemon import status_file
from check_mounts.system import replacing
from tests import documents
from tests.conftest import Fuse, Mounts
from tests.monitoring.stack import Server, Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

SHIPPED = Path("/usr/local/share/check_mounts/integrations/npd")
BASE = Path("/run/check_mounts-tests/mounts")
SHELLS = (["dash"], ["bash", "--posix"], ["busybox", "sh"])
# maxCustomPluginBufferBytes of its plugin.go
MOST = 4096
# The members of its config.go, and of Condition in its types.go.
MEMBERS = {"plugin", "pluginConfig", "source", "metricsReporting", "conditions", "rules"}
OF_PLUGIN = {
    "invoke_interval", "timeout", "max_output_length", "concurrency", "enable_message_change_based_condition_update",
    "skip_initial_status",
}  # fmt: skip
OF_RULE = {"type", "condition", "reason", "path", "args", "timeout"}
OF_CONDITION = {"type", "reason", "message"}
DURATION = re.compile(r"([0-9.]+(ns|us|ms|s|m|h))+")
STATUS = {0: "False", 1: "True"}


class Detector:
    """A custom plugin monitor: its conditions, and the events that it has told."""

    def __init__(self, path: Path, more: Sequence[str] = ()) -> None:
        self.config = json.loads(path.read_text())
        self._more = list(more)
        self._limit = self.config["pluginConfig"]["max_output_length"]
        self.conditions = {each["type"]: {**each, "status": "False"} for each in self.config["conditions"]}
        self.events: list[tuple[str, str]] = []

    def run(self) -> None:
        for rule in self.config["rules"]:
            self._apply(rule, *self._output(rule))

    def seen(self, condition: str) -> Any:
        """The condition's status after a run."""
        self.run()
        return self.conditions[condition]["status"]

    def _output(self, rule: dict[str, Any]) -> tuple[int, str]:
        command = [rule["path"], *rule.get("args", ()), *self._more]
        done = subprocess.run(command, capture_output=True, timeout=5, check=False, stdin=subprocess.DEVNULL)
        assert done.stderr == b""
        # Half a character in a message is refused by the API server (protocol buffers).
        return done.returncode, done.stdout[:MOST].strip()[: self._limit].decode("utf-8")

    def _apply(self, rule: dict[str, Any], code: int, message: str) -> None:
        if rule["type"] == "temporary":
            if code != 0:
                self.events.append((rule["reason"], message))
            return
        condition, status = self.conditions[rule["condition"]], STATUS.get(code, "Unknown")
        default = next(each for each in self.config["conditions"] if each["type"] == rule["condition"])
        if status == condition["status"] == "True":
            changed = self.config["pluginConfig"]["enable_message_change_based_condition_update"]
            if not changed or condition["message"] == message:
                return
        elif status == condition["status"]:
            return
        reason = rule["reason"] if status == "True" else default["reason"]
        condition.update(status=status, reason=reason, message=default["message"] if status == "False" else message)
        self.events.append((reason, condition["message"]))


def _more_passes(daemon: Server, before: int) -> bool:
    return daemon.log.count("\nChecked 1 mount") > before


@pytest.fixture
def mounts() -> Any:
    result = Mounts(BASE)
    yield result
    result.close()


@pytest.fixture
def detector(installed: Path) -> Detector:
    return Detector(SHIPPED / "check_mounts-npd.json")


def test_the_configuration_is_valid(detector: Detector) -> None:
    config = detector.config
    assert config.keys() <= MEMBERS and config["plugin"] == "custom"
    assert config["pluginConfig"].keys() <= OF_PLUGIN
    assert all(DURATION.fullmatch(config["pluginConfig"][name]) for name in ("invoke_interval", "timeout"))
    types = {condition["type"] for condition in config["conditions"]}
    assert types == {"MountsUnhealthy"}
    assert all(condition.keys() == OF_CONDITION for condition in config["conditions"])
    for rule in config["rules"]:
        assert rule.keys() <= OF_RULE and rule["type"] in ("permanent", "temporary")
        assert rule["type"] == "temporary" or rule["condition"] in types
        assert Path(rule["path"]).stat().st_mode & 0o111 == 0o111
        assert re.fullmatch("[A-Z][A-Za-z]+", rule["reason"])  # what Kubernetes wants of a reason


def test_a_hung_mount_is_the_condition(stack: Stack, mounts: Mounts, fuse: Fuse, detector: Detector) -> None:
    path = fuse.mount("one", source="filer:/home")
    condition = detector.conditions["MountsUnhealthy"]
    with stack.daemon("-p", f"{BASE}/*") as daemon:
        detector.run()
        assert (condition["status"], detector.events) == ("False", [])
        fuse.command("hang", "one")
        daemon.until(lambda: detector.seen("MountsUnhealthy") == "True")
        assert (condition["status"], condition["reason"]) == ("True", "MountsAreCritical")
        assert condition["message"].startswith(f"1 of 1 mounts failed: {path} (fuse.test filer:/home) timed out")
        # Nothing in the message changes from one minute to the next.
        daemon.until(lambda: daemon.log.count("\nChecked 1 mount") > 5)
        detector.run()
        told = len(detector.events)
        for _ in range(3):
            before = daemon.log.count("\nChecked 1 mount")
            daemon.until(functools.partial(_more_passes, daemon, before))
            detector.run()
        assert len(detector.events) == told
        fuse.command("answer", "one")
        daemon.until(lambda: detector.seen("MountsUnhealthy") == "False")
        assert condition["message"] == "no mount is CRITICAL"


def test_a_warning_is_an_event(stack: Stack, mounts: Mounts, detector: Detector) -> None:
    path = mounts.tmpfs("closed", "mode=0")
    with stack.daemon("-p", f"{BASE}/*"):
        detector.run()
    assert detector.conditions["MountsUnhealthy"]["status"] == "False"
    ((reason, message),) = detector.events
    assert reason == "MountsHaveWarning" and message.startswith(f"1 of 1 mounts failed: {path} ")


def test_no_result_is_unknown(stack: Stack, detector: Detector) -> None:
    Path("/run/check_mounts/status").unlink(missing_ok=True)
    detector.run()
    condition = detector.conditions["MountsUnhealthy"]
    assert (condition["status"], condition["reason"]) == ("Unknown", "MountsAreHealthy")
    words = "/run/check_mounts/status is not there, or cannot be read: is the daemon running?"
    assert condition["message"] == words
    assert detector.events == [("MountsAreHealthy", words)], "the rule for warnings says nothing"


# -- the plugin alone, in each shell


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def plugin(shell: Sequence[str], path: Path, *arguments: str, **more: Any) -> tuple[int, str]:
    command = [*shell, str(SHIPPED / "check_mounts-npd"), "-f", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False, **more)
    assert done.stderr == b"" and done.stdout.isascii() and done.stdout.count(b"\n") == 1, done
    return done.returncode, done.stdout.decode().rstrip("\n")


def write(path: Path, state: int, words: str, age: float = 0, valid: float = 600) -> None:
    name = cache.STATES[state].decode()
    text = f"MOUNTS {name} - {words} | mounts=2 'a | b'=1\nMOUNTS OK - x\n".encode()
    status_file.write(str(path), state, [text] * 4, now() - age, now() - age + valid)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_each_state(shell: Sequence[str], installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "status"
    words = "1 of 2 mounts failed: /a b$(id)`id`*\\134 (nfs4 filer:/x) dead"
    for state, code in enumerate((0, 0, 1, 2)):
        write(path, state, words)
        assert plugin(shell, path) == (code, words)
    assert plugin(shell, path, "-u", "0") == (0, words)
    assert plugin(shell, path, "-p", "CRITICAL,UNKNOWN") == (1, words)
    write(path, 1, words)
    assert plugin(shell, path, "-p", "WARNING,CRITICAL") == (1, words)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_message_is_ascii(shell: Sequence[str], installed: Path, tmp_path: Path, locale: str) -> None:
    path = tmp_path / "status"
    write(path, 2, "1 of 2 mounts failed: /srv/ü\\377 " + "ö" * 3000)
    code, message = plugin(shell, path, env={"PATH": "/usr/bin:/bin", "LC_ALL": locale})
    assert code == 1 and re.match(r"1 of 2 mounts failed: /srv/\?+\\377 \?+", message)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_what_is_not_trusted(shell: Sequence[str], installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "status"
    malformed = (2, f"{path} is malformed, or of another release")
    for data in (b"", b"\n", b"check_mounts", b"check_mounts 2 OK 1 2 x\nMOUNTS OK - y\n", b"\0" * 99):
        replacing.replace(str(path), data)
        assert plugin(shell, path) == malformed, data
    write(path, 0, "fine")
    data = path.read_bytes()
    replacing.replace(str(path), data.replace(b"MOUNTS OK", b"MOUNTS CRITICAL"))
    assert plugin(shell, path) == malformed
    for old in (b"1e9", b"-5", b"inf", b"nan", b"1.2.3", b".", b"9" * 19, b"9" * 40, b"9" * 40 + b".0"):
        words = data.split(b" ")
        words[3] = old
        replacing.replace(str(path), b" ".join(words))
        assert plugin(shell, path) == malformed, old
    write(path, 0, "fine", age=30, valid=12)
    code, words_ = plugin(shell, path)
    assert code == 2 and re.match(rf"the result in {path} is 3\d s old, and was valid for 1[123] s: ", words_)
    write(path, 0, "fine", age=-3600)
    assert plugin(shell, path)[0] == 2
    other = cache.Result(0, [b"MOUNTS OK - fine\n"] * 4, now(), now() + 600, b"0" * 36)
    replacing.replace(str(path), status_file.compose(other))
    assert plugin(shell, path) == (2, f"the result in {path} is from another boot: is the daemon running?")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize("words", [["-p", "CRITCAL"], ["-p", ""], ["-u", "7"], ["-x"], ["-p"], ["more"]])
def test_wrong_arguments_are_no_silence(
    shell: Sequence[str], words: list[str], installed: Path, tmp_path: Path
) -> None:
    write(tmp_path / "status", 2, "bad")
    code, message = plugin(shell, tmp_path / "status", *words)
    assert code == 2 and re.match("usage: |check_mounts-npd: ", message), message


def test_the_commands_of_the_page(stack: Stack, installed: Path, mounts: Mounts) -> None:
    (block,) = (block for block in documents.blocks(SHIPPED / "README.md") if block.info == "sh")
    mounts.tmpfs("plain")
    with stack.daemon("-p", f"{BASE}/*"):
        done = stack.run("sh", "-ec", block.text, user="root")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"1 mount checked in \d\.\d s\nexit code 0\n", done.stdout), done.stdout
