"""The daemon's result as JSON: what is whole and valid is printed with its age; everything else is
an object of the same form that says UNKNOWN and why, and has no findings."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from check_mounts import cache, cachedjson
from check_mounts.report import jsonform
from check_mounts.system import replacing
from tests.conftest import Mounts, Plugin
from tests.daemon import Daemon, daemon
from tests.test_cache import ask, installed, modules, now, status

__all__ = ["daemon", "installed", "status"]

FINDING = {
    "mount_point": '/srv/a"b\\134\\012', "condition": "timed-out", "state": "CRITICAL", "text": "timed out after 5 s",
    "latency": 5.0, "diagnosis": None, "remarks": [], "stuck": {"pid": 7, "since": None}, "line": None,
    "usage": {"size": 100},
    "mount": {"id": 1, "type": "nfs4", "source": "filer:/a", "server": "filer", "options": ["rw"]},
    "outcome": {"failed_step": "statfs"},
}  # fmt: skip
REST = {"started": 1796000000.0, "duration": 0.1, "counts": {"mounts": 1}, "notes": []}


def whole(state: str = "CRITICAL", findings: Sequence[dict[str, Any]] = (FINDING,)) -> bytes:
    head = jsonform.head(state, "1 of 1 mounts failed")
    lists = {"findings": map(jsonform.encode, findings), "left_out": iter(['{"why": "autofs"}'])}
    return jsonform.composed(head, dict(REST), lists)


def write(path: Path, data: bytes | None = None, age: float = 0, valid: float = 600, boot: bytes = b"") -> Path:
    taken = now() - age
    data = cachedjson.composed(data or whole(), taken, taken + valid, boot or cache.boot_id())
    replacing.replace(f"{path}.json", data)
    return path.with_name(f"{path.name}.json")


def object_of(path: Path, *arguments: str, code: int) -> dict[str, Any]:
    result = ask(path, "--json", *arguments)
    assert (result.returncode, result.stderr) == (code, b""), result
    assert result.stdout.isascii() and result.stdout.endswith(b"}\n")
    value: dict[str, Any] = json.loads(result.stdout)
    first = json.loads(result.stdout.split(b"\n")[0].rstrip(b",") + b"}")
    assert first == {name: value[name] for name in ("version", "state", "summary", "check_mounts")}
    assert cache.STATES.index(value["state"].encode()) == code
    return value


def unknown(path: Path, *arguments: str) -> dict[str, Any]:
    value = object_of(path, *arguments, code=3)
    assert value["summary"].isprintable()
    assert value["started"] == pytest.approx(time.time(), abs=30)
    expected = dict(json.loads(jsonform.failure("UNKNOWN", value["summary"], value["started"])))
    if "--brief" in arguments:
        del expected["left_out"]
    assert {name: value[name] for name in value if name not in ("age", "last")} == expected
    return value


@pytest.mark.parametrize("code", range(4))
def test_a_result_is_printed_with_its_age(status: Path, code: int) -> None:
    data = whole(cache.STATES[code].decode())
    write(status, data, age=7)
    value = object_of(status, code=code)
    assert 7 <= value.pop("age") < 60
    assert value.pop("last") is None
    assert value == json.loads(data)


def test_a_finding_has_a_line_of_its_own(status: Path) -> None:
    write(status, whole(findings=[FINDING, FINDING]))
    lines = ask(status, "--json").stdout.split(b"\n")
    assert [json.loads(line.rstrip(b",]")) for line in lines if line.startswith(b'{"mount_point"')] == [FINDING] * 2


def test_what_is_not_there(status: Path) -> None:
    value = unknown(status)
    assert value["summary"] == f"{status}.json is not there: is the daemon running? systemctl status check_mounts"
    assert (value["age"], value["last"]) == (None, None)


@pytest.mark.parametrize("more", [(), ("--brief",)])
def test_what_is_too_old_is_kept_apart(status: Path, more: Sequence[str]) -> None:
    data = whole("OK")
    write(status, data, age=30, valid=12)
    value = unknown(status, *more)
    assert " old, and was valid for 12 s: is the daemon running? " in value["summary"]
    assert 30 <= value["age"] < 90
    assert value["last"] == json.loads(jsonform.shortened(json.loads(data)) if more else data)
    lines = ask(status, "--json", *more).stdout.split(b"\n")
    assert not [line for line in lines if line.startswith((b'{"mount_point"', b'"state"'))], "it is on one line"


def test_what_is_older_than_the_caller_allows(status: Path) -> None:
    write(status, age=30)
    assert object_of(status, "--max-age=400", code=2)["findings"] == [FINDING]
    value = unknown(status, "--max-age", "10.5")
    assert value["summary"].endswith("--max-age is 10.5 s: is the daemon running? systemctl status check_mounts")
    assert value["last"]["state"] == "CRITICAL"


def test_what_is_from_another_boot_or_the_future(status: Path) -> None:
    write(status, boot=b"00000000-0000-4000-8000-000000000000")
    value = unknown(status)
    assert " is from another boot: " in value["summary"]
    assert (value["age"], value["last"]["summary"]) == (None, "1 of 1 mounts failed")
    write(status, age=-3600)
    value = unknown(status)
    assert " from the future: " in value["summary"]
    assert value["age"] < -3000 and value["last"] is not None


def test_whatever_is_damaged_is_malformed(status: Path) -> None:
    data = write(status).read_bytes()
    for end in (0, 1, 40, 90, 200, 300, len(data) - 2, len(data) - 1):
        replacing.replace(f"{status}.json", data[:end])
        assert unknown(status)["summary"].startswith(f"{status}.json is malformed ("), end


def test_no_bit_of_a_file_can_change_unseen() -> None:
    data = cachedjson.composed(whole(), 5.0, 9.0, b"boot")
    assert cachedjson.parse(data).taken == 5.0
    for place in range(len(data)):
        with pytest.raises(cache.Malformed):
            cachedjson.parse(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])


@pytest.mark.parametrize(
    "times", [(float("nan"), 9.0), (1.0, float("nan")), (1.0, float("inf")), (5.0, 4.0), (-1.0, 4.0)]
)
def test_times_that_make_no_sense(times: tuple[float, float]) -> None:
    with pytest.raises(cache.Malformed):
        cachedjson.parse(cachedjson.composed(whole(), *times, b"boot"))


def test_a_file_of_an_older_release(status: Path) -> None:
    """Its daemon wrote no second line."""
    replacing.replace(f"{status}.json", whole())
    assert " (version: the daemon and the plugin are of different releases): " in unknown(status)["summary"]
    replacing.replace(f"{status}.json", write(status).read_bytes().replace(b'{"version": 1,', b'{"version": 2,'))
    assert " (version: " in unknown(status)["summary"]


def test_what_others_could_have_written_is_not_shown(status: Path) -> None:
    write(status).chmod(0o666)
    value = unknown(status)
    assert value["summary"] == f"users other than its owner can write to {status}.json: chmod go-w"
    assert (value["age"], value["last"]) == (None, None)
    os.mkfifo(f"{status}.fifo.json")
    assert " is not a regular file: " in unknown(status.with_name("status.fifo"))["summary"]


def test_a_hostile_name_of_a_file(status: Path) -> None:
    value = unknown(status.parent / 'x"|\n\x1bü\udcff\\')
    assert '/x"\\174\\012\\033ü\\377\\134.json is not there: ' in value["summary"]


def test_brief(status: Path) -> None:
    data = whole()
    write(status, data)
    value = object_of(status, "--brief", code=2)
    assert "left_out" not in value
    (finding,) = value["findings"]
    assert finding.pop("mount") == {"type": "nfs4", "source": "filer:/a", "server": "filer"}
    assert finding == {name: FINDING[name] for name in FINDING if name not in ("mount", "outcome", "line")}
    assert value["age"] >= 0 and value["counts"] == {"mounts": 1}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--json", "-t5"], b"MOUNTS UNKNOWN - argument -t5: does not go with --cached\n"),
        (["--brief"], b"MOUNTS UNKNOWN - argument --brief: goes with --json only\n"),
        (["--json", "--max-age=0"], b"MOUNTS UNKNOWN - argument --max-age: '0' is not a positive number of seconds\n"),
    ],
)
def test_wrong_options_are_told_in_plain_text(status: Path, words: Sequence[str], line: bytes) -> None:
    write(status)
    result = ask(status, *words)
    assert (result.returncode, result.stdout) == (3, line)


def test_brief_needs_json(plugin: Plugin) -> None:
    assert plugin("--brief").verdict == "MOUNTS UNKNOWN - argument --brief: goes with --json only"


@pytest.mark.root
def test_the_daemons_own_with_hostile_mounts(mounts: Mounts, daemon: Daemon) -> None:
    for name in ('a"b', "c\\d", "e\nf", "g|h", "i;j'k", "\x1b[31m", "\udcff", "ü", '", "mount": {'):
        mounts.tmpfs(name, source='x"y')
    daemon.start()
    said = json.loads(daemon.cache.with_name("status.json").read_text())
    result = daemon.cached("--json")
    value = json.loads(result.stdout)
    assert result.code == 0
    assert value.pop("age") < 60 and value.pop("last") is None
    assert said.pop("cache")
    assert value == said
    short = json.loads(daemon.cached("--json", "--brief").stdout)
    points = [finding["mount_point"] for finding in value["findings"]]
    assert len(points) == 9 and [finding["mount_point"] for finding in short["findings"]] == points
    assert {finding["mount"]["type"] for finding in short["findings"]} == {"tmpfs"}
    assert [finding["usage"] for finding in short["findings"]] == [finding["usage"] for finding in value["findings"]]
    once = json.loads(daemon.plugin("--json", "--brief").stdout)
    assert once.keys() == short.keys() - {"age", "last"}
    assert [finding.keys() for finding in once["findings"]] == [finding.keys() for finding in short["findings"]]
    assert daemon.stop() == 0
    daemon.cache.with_name("status.json").unlink(missing_ok=True)
    assert daemon.cached("--json").code == 3


@pytest.mark.root
def test_a_brief_mount_needs_little_room(mounts: Mounts, plugin: Plugin) -> None:
    """Zabbix 6.0 and 6.4 read 512 KiB of what a program prints."""
    for number in range(40):
        mounts.tmpfs(f"srv/data/project{number}")
    sizes = [len(plugin("--json", *more).stdout) for more in ((), ("--brief",))]
    assert sizes[1] < 40 * 512 and sizes[1] < sizes[0] / 2, sizes


@pytest.mark.root
def test_it_imports_next_to_nothing(tmp_path: Path, installed: Path) -> None:
    place = Path("/run") / f"check_mounts-test-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        write(place / "status", whole("OK"))
        words = [str(installed / "bin/check_mounts"), "--cached", "--json", f"--cache={place}/status"]
        imported = modules(words) - modules(["-c", "pass"])
    finally:
        shutil.rmtree(place)
    ours = {f"check_mounts{name}" for name in ("", ".__main__", ".cache", ".cachedjson")}
    assert ours <= imported
    assert imported - ours <= {"posix", "time", "binascii"}
    assert not imported & {"json", "os", "re", "typing"}
