"""What does not work in the daemon itself is shown by all its outputs, as long as it lasts: its
status for systemd, its result, JSON and metrics."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from check_mounts.checks.sandbox import NOTE
from check_mounts.clocks import NEVER, PAST
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.system import logs
from tests.conftest import Fuse, Mounts, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]


class Lines(logs.Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _put(self, priority: int, line: str) -> bool:
        self.lines.append(line)
        return True


class Shown:
    """A daemon with all its outputs, and what they show."""

    def __init__(self, daemon: Daemon, manager: socket.socket, base: Path) -> None:
        self.daemon, self._manager, self.base = daemon, manager, base
        self.configuration, self.fstab, self.metrics = base / "c.conf", base / "fstab", base / "m.prom"
        self._status = ""

    def start(self, *words: str) -> None:
        self.fstab.write_text("")
        self.configuration.write_text(f"[check_mounts]\nfstab = {self.fstab}\n")
        told = {"NOTIFY_SOCKET": str(self.base / "notify")}
        environment = {**self.daemon.plugin.environment, **told}
        self.daemon.start("--config", str(self.configuration), "--metrics", str(self.metrics), *words, env=environment)

    def reload(self) -> None:
        self.daemon.signal(signal.SIGHUP)

    @property
    def status(self) -> str:
        """The newest status that systemd was told."""
        with contextlib.suppress(BlockingIOError):
            while message := self._manager.recv(8192).decode():
                for line in message.splitlines():
                    self._status = line[7:] if line.startswith("STATUS=") else self._status
        return self._status

    @property
    def _samples(self) -> str:
        return self.metrics.read_text() if self.metrics.is_file() else ""

    def metric(self, name: str) -> float:
        match = re.search(rf"^{re.escape(name)} (\S+)$", self._samples, re.M)
        return float(match[1]) if match else math.nan

    @property
    def notes(self) -> list[str]:
        notes: list[str] = json.loads(self.daemon.cache.with_name("status.json").read_text())["notes"]
        return [note for note in notes if note != NOTE]

    def shows(self, words: str, part: str) -> bool:
        """Whether all outputs show this trouble, which the metrics call ``part``."""
        metric = (
            self.metric("check_mounts_config_last_reload_successful") == 0
            if part == "configuration"
            else self.metric(f'check_mounts_trouble{{part="{part}"}}') == 1
        )
        lines = self.daemon.cached("-v").lines
        everywhere = (words in self.status, any(words in note for note in self.notes), metric)
        return all(everywhere) and any(line.startswith("note: ") and words in line for line in lines)

    @property
    def is_well(self) -> bool:
        """Whether none of them shows any trouble."""
        troubles = re.findall(r"^check_mounts_trouble\{.*\} (.*)$", self._samples, re.M)
        good = (
            bool(troubles)
            and self.metric("check_mounts_config_last_reload_successful") == 1
            and {*map(float, troubles)} == {0.0}
        )
        return good and ";" not in self.status and not self.notes and "note:" not in str(self.daemon.cached("-v").lines)


@pytest.fixture
def shown(mounts: Mounts, daemon: Daemon, tmp_path: Path) -> Iterator[Shown]:
    mounts.tmpfs("home")
    daemon.interval = 3600  # it is shown at once, and not with the next pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield Shown(daemon, manager, tmp_path)


def _append(words: str) -> Callable[[Shown], None]:
    def spoil(shown: Shown) -> None:
        with shown.configuration.open("a") as file:
            file.write(words)

    return spoil


def _replace_by_directory(shown: Shown) -> None:
    shown.configuration.unlink()
    shown.configuration.mkdir()


def _remove_fstab(shown: Shown) -> None:
    shown.fstab.unlink()


@pytest.mark.root
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_append("timeuot = 3\n"), "c.conf line 3: "),
        (_append("#" * (1 << 20)), "larger than 1 MiB"),
        (_append("as = nobody-of-this-name\n"), "there is no user 'nobody-of-this-name'"),
        (_append('[mount "/x"]\nas = nobody-of-this-name\n'), "there is no user 'nobody-of-this-name'"),
        (_append("deadline = 0.1\n"), "0.1 s is shorter than the timeout"),
        (_replace_by_directory, "c.conf: "),
        (_remove_fstab, "/fstab: No such file or directory"),
    ],
    ids=["key", "large", "user", "user of a mount", "combination", "not readable", "fstab"],
)
def test_a_bad_reload(shown: Shown, spoil: Callable[[Shown], None], words: str) -> None:
    shown.start()
    until(lambda: shown.is_well)
    first = shown.metric("check_mounts_config_last_reload_success_timestamp_seconds")
    good = shown.configuration.read_text()
    spoil(shown)
    shown.reload()
    until(lambda: shown.shows(words, "configuration"))
    assert "the configuration is kept as it was: " in shown.status
    assert shown.daemon.cached().code == 0  # what was measured is as good as before
    assert shown.metric("check_mounts_config_last_reload_success_timestamp_seconds") == first
    shown.daemon.check()
    assert shown.shows(words, "configuration")  # the next pass shows it, too
    if shown.configuration.is_dir():
        shown.configuration.rmdir()
    shown.configuration.write_text(good)
    shown.fstab.write_text("")
    shown.reload()
    until(lambda: shown.is_well)
    assert shown.metric("check_mounts_config_last_reload_success_timestamp_seconds") > first


@pytest.mark.root
def test_a_file_that_hangs_is_named(shown: Shown, fuse: Fuse) -> None:
    shown.start("--severity", "timed-out=ok")
    hung = fuse.mount("hung")
    shown.daemon.until(lambda result: result.count("mounts") == 2)
    fuse.command("hang", "hung")
    good = shown.configuration.read_text()
    try:
        shown.configuration.write_text(f"[check_mounts]\nfstab = {hung}/fstab\n")
        shown.reload()
        until(lambda: shown.shows(f"stuck reading {hung}/fstab (pid ", "configuration"))
        assert shown.daemon.says("The configuration is kept as it was: one of its files cannot be read")
    finally:
        fuse.command("answer", "hung")
    shown.configuration.write_text(good)
    shown.reload()
    until(lambda: shown.is_well)


@pytest.mark.root
def test_an_fstab_whose_changes_nobody_sees(shown: Shown, fuse: Fuse, tmp_path: Path) -> None:
    """A link leads to it, through what hangs by now; the daemon's own look at it hangs."""
    shown.daemon.interval = 0.5
    shown.start("--severity", "timed-out=ok")
    hung = fuse.mount("hung")
    shown.daemon.until(lambda result: result.count("mounts") == 2)
    fuse.command("hang", "hung")
    try:
        shown.fstab.unlink()
        shown.fstab.symlink_to(hung / "fstab")
        until(lambda: shown.shows(f"changes of {shown.fstab} are not noticed: stuck", "fstab"))
    finally:
        fuse.command("answer", "hung")
    shown.fstab.unlink()
    shown.fstab.write_text("")
    until(lambda: shown.is_well)


@pytest.mark.root
def test_what_needs_a_restart(shown: Shown) -> None:
    shown.start()
    good = shown.configuration.read_text()
    shown.configuration.write_text(f"{good}syslog-ident = other\n")
    shown.reload()
    until(lambda: shown.shows("a restart is needed: of --syslog-ident, the old values count", "restart"))
    shown.configuration.write_text(good)
    shown.reload()
    until(lambda: shown.is_well)


@pytest.mark.root
def test_a_server_that_takes_nothing(shown: Shown, tmp_path: Path) -> None:
    """It is shown without being submitted once more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    shown.start("--submit", f"command-file:{pipe}")
    until(lambda: shown.shows(f"cannot submit to command-file:{pipe}: no process reads from it", "submission"))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        until(lambda: shown.is_well)
    finally:
        os.close(reader)


def _is_in_its_place(path: Path) -> bool:
    """Put a directory in the place of a file, which may be written again at any moment."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.mkdir()
    return path.is_dir()


@pytest.mark.root
def test_a_json_and_metrics_that_cannot_be_written(shown: Shown) -> None:
    shown.start()
    json_file = shown.daemon.cache.with_name("status.json")
    json_file.unlink()
    json_file.mkdir()
    shown.daemon.check()
    until(lambda: f"; cannot write {json_file}: Is a directory" in shown.status)
    until(lambda: shown.metric('check_mounts_trouble{part="result"}') == 1)
    until(lambda: _is_in_its_place(shown.metrics))
    shown.daemon.check()
    until(lambda: f"note: cannot write {shown.metrics}: Is a directory" in shown.daemon.cached().lines)
    until(lambda: f"cannot write {shown.metrics}: Is a directory" in shown.status)
    json_file.rmdir()
    shown.metrics.rmdir()
    shown.daemon.check()
    until(lambda: shown.metrics.is_file() and shown.is_well)


# What may be there in place of a library -> what is said of it.
_LIBRARIES = {
    "raise ModuleNotFoundError('No module named \\'NAME\\'', name='NAME')": (
        "is missing (No module named 'NAME'): apt-get install python3-"
    ),
    "raise ImportError('broken')": "cannot be used (ImportError: broken); ",
    "def (": "cannot be used (SyntaxError: ",
    "__version__ = '0.1'": "cannot be used (ImportError: ",
}


@pytest.mark.root
@pytest.mark.parametrize("code", _LIBRARIES)
@pytest.mark.parametrize("name", ["nagiosplugin", "prometheus_client"])
def test_a_library_that_is_missing(shown: Shown, fuse: Fuse, tmp_path: Path, name: str, code: str) -> None:
    """The checks go on, with all that they find; only metrics need their library."""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / f"{name}.py").write_text(code.replace("NAME", name))
    path = os.pathsep.join([str(tmp_path / "libraries"), shown.daemon.plugin.environment["PYTHONPATH"]])
    shown.daemon.plugin.environment["PYTHONPATH"] = path
    home = fuse.mount("fuse")
    shown.start()
    said = f"the library {name} {_LIBRARIES[code].replace('NAME', name)}"
    until(lambda: f"; {said}" in shown.status)
    assert any(said in note and note.endswith(", and restart the daemon") for note in shown.notes)
    assert any(f"note: {said}" in line for line in shown.daemon.cached().lines)
    assert shown.daemon.cached().code == 0
    assert sum(line.startswith(f"T{said[1:]}") for line in shown.daemon.lines) == 1
    if name == "nagiosplugin":
        until(lambda: shown.metric('check_mounts_trouble{part="library"}') == 1)
    else:
        assert not shown.metrics.exists()
    fuse.command("hang", "fuse")
    shown.daemon.check()
    result = shown.daemon.until(lambda result: result.code == 2)
    assert f"{home} (fuse.test fuse) timed out after 0.5 s" in result.verdict
    assert result.count("timed_out") == 1
    fuse.command("answer", "fuse")


@pytest.mark.root
def test_an_api_of_prometheus_client_that_is_another(shown: Shown, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import prometheus_client\nprometheus_client.generate_latest = repr\n")
    path = os.pathsep.join([str(tmp_path), shown.daemon.plugin.environment["PYTHONPATH"]])
    shown.daemon.plugin.environment["PYTHONPATH"] = path
    shown.start()
    until(lambda: "; the library prometheus_client cannot be used (" in shown.status)
    assert "pip install --force-reinstall prometheus_client" in shown.status
    assert not shown.metrics.exists()


def test_only_a_beginning_and_an_end_are_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason that is another each time must not make the outputs again and again."""
    log = Lines()
    complaints = Complaints(Diary(log))
    assert (complaints.due, complaints.is_news) == (NEVER, False)
    complaints.tell(Part.RESULT, "Cannot write: 1")
    assert (complaints.due, complaints.is_news) == (PAST, True)
    complaints.note_shown()
    complaints.tell(Part.RESULT, "Cannot write: 2")
    assert (complaints.is_news, complaints.notes()) == (False, ["cannot write: 2"])
    complaints.tell(Part.RESULT, None)
    assert not complaints.is_news  # not at once
    monkeypatch.setattr("check_mounts.daemon.complaints.monotonic", lambda: complaints.due)
    assert complaints.is_news
    complaints.note_shown()
    assert complaints.due == NEVER
    assert log.lines == ["Cannot write: 1", "Cannot write: 2", "No longer: Cannot write: 2"]


def test_the_order_of_the_parts() -> None:
    complaints = Complaints(Diary(Lines()))
    for part in reversed(Part):
        complaints.tell(part, f"In {part.value}", "1")
        complaints.tell(part, f"In {part.value}, too", "2")
    assert complaints.notes()[:3] == ["in configuration", "in configuration, too", "in restart"]
    assert not any("memory" in note for note in complaints.notes(Part.MEMORY))
    assert complaints.counts() == {part.value: 2 for part in Part}
    complaints.keep(Part.SUBMISSION, ["2"])
    assert complaints.counts()["submission"] == 1
