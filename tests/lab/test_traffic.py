"""What the daemon says of programs that use a real NFS: see traffic.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.lab import guest, verdict
from tests.lab.traffic import DELAY


@pytest.fixture(scope="module")
def files() -> Any:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.traffic"], 400, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    return result.files


@pytest.fixture(scope="module")
def report(files: Any) -> Any:
    return json.loads(files["traffic.json"])


@pytest.fixture(scope="module")
def ghosts(files: Any) -> Any:
    return json.loads(files["ghosts.json"])


def numbers(said: Any) -> dict[str, float]:
    """Perfdata about what programs did."""
    found = re.findall(r"'/mnt/used (\w+)'=([0-9.]+)(?:s|%)", said["first_line"])
    return {name: float(number) for name, number in found if name in ("rtt", "exec", "queue", "retrans", "timeouts")}


@pytest.mark.guest
def test_a_fast_wire(report: Any) -> None:
    for name in ("well", "well again", "after that"):
        said = report[name]
        assert said["condition"] == "ok", said
        assert said["traffic"]["between_looks"]["GETATTR"]["operations"] >= 40
        assert set(numbers(said)) == {"rtt", "exec", "queue", "retrans", "timeouts"}
        assert numbers(said)["rtt"] < DELAY / 4 and numbers(said)["retrans"] == 0


@pytest.mark.guest
def test_a_slow_wire_is_the_rtt_of_what_programs_do(report: Any) -> None:
    said = report["slow"]
    assert re.match(r"slow: GETATTR rtt 1\d\d ms, the mean of \d+ operations \(warning range 50ms\)", said["text"]), (
        said
    )
    assert said["state"] == "WARNING"
    assert DELAY <= said["traffic"]["rtt"] < 2 * DELAY
    assert numbers(said)["rtt"] == said["traffic"]["rtt"]
    done = said["traffic"]["between_looks"]["GETATTR"]
    assert done["rtt"] / done["operations"] == pytest.approx(said["traffic"]["rtt"], rel=0.01)


@pytest.mark.guest
def test_few_operations_and_a_remount_have_no_numbers(report: Any) -> None:
    idle, remounted = report["idle"], report["remounted"]
    assert (idle["condition"], idle["traffic"]["rtt"], numbers(idle)) == ("ok", None, {})
    assert idle["traffic"]["between_looks"] is not None
    assert (remounted["condition"], remounted["traffic"]["between_looks"], numbers(remounted)) == ("ok", None, {})
    assert remounted["traffic"]["since_mount"]["GETATTR"]["operations"] >= 40


@pytest.mark.guest
def test_the_counters_are_read_while_the_mount_hangs(report: Any) -> None:
    said = report["hung"]
    assert (said["condition"], said["held"]) == ("timed-out", True)
    assert said["took"] < 1


@pytest.mark.guest
def test_an_outage_is_seen_by_its_retransmissions(report: Any) -> None:
    passes = report["after an outage"]
    (told,) = [each for each in passes if each["traffic"]["retrans"]]
    assert re.match(r"slow: \d+\.\d % of \d+ operations retransmitted \(critical range 0.1%\)", told["text"]), passes
    assert told["state"] == "CRITICAL"
    assert passes[-1]["condition"] == "ok"


@pytest.mark.guest
def test_smb_that_connected_again_is_noted_once(report: Any) -> None:
    said = report["smb"]
    assert not [note for note in said["well"]["notes"] if note.startswith("SMB")]
    notes = [note for each in said["after"] for note in each["notes"] if note.startswith("SMB")]
    assert len(notes) == 1, said["after"]
    assert re.match(r"SMB: (\d sessions?|\d shares?)( and \d shares?)? (was|were) connected again within", notes[0])


# -- unmounted lazily: see ghosts.py


@pytest.mark.guest
def test_nfs_that_was_unmounted_lazily_and_who_holds_it(ghosts: Any) -> None:
    said, pids = ghosts["nfs"], ghosts["nfs"]["pids"]
    assert said["mounted"]["ghosts"] == []
    (both,), (one,) = said["both"]["ghosts"], said["one"]["ghosts"]
    assert both["mount_point"] == f"old filer {ghosts['hosts']['drop']}"
    assert both["ghost"]["family"] == "NFS" and both["state"] == said["both"]["state"] == "OK"
    assert {each["pid"]: each["how"] for each in both["ghost"]["holders"]} == {
        pids["open"]: "has it open",
        pids["stands"]: "stands in it",
    }
    assert re.fullmatch(r"is still held by 2 processes: pid .*, most likely, unmounted lazily", both["text"])
    # Its server is silent, and nobody has asked.
    assert said["both"]["workers"] == [] and said["both"]["mounts"] == said["mounted"]["mounts"] - 1
    assert re.fullmatch(rf"is still held by pid {pids['open']} \(.*\), most likely, unmounted lazily", one["text"])
    assert said["none"]["ghosts"] == []


@pytest.mark.guest
def test_nfs_of_which_nobody_has_anything_is_no_ghost(ghosts: Any) -> None:
    assert ghosts["idle"]["ghosts"] == []


@pytest.mark.guest
def test_nfs_that_only_an_unanswered_call_holds(ghosts: Any) -> None:
    (hung,) = ghosts["waiting"]["hung"]["ghosts"]
    assert hung["text"] == "is in no mount table, but the kernel still has it: no process is seen that holds it"
    assert ghosts["waiting"]["hung"]["workers"] == []
    assert ghosts["waiting"]["over"]["ghosts"] == []


@pytest.mark.guest
def test_nfs_that_lives_on_in_another_namespace_is_no_ghost(ghosts: Any) -> None:
    said = ghosts["moved"]
    assert said["elsewhere"]["ghosts"] == [] and len(said["nowhere"]["ghosts"]) == 1 and said["none"]["ghosts"] == []


@pytest.mark.guest
def test_a_share_that_was_unmounted_lazily_and_who_holds_it(ghosts: Any) -> None:
    (found,) = ghosts["smb"]["open"]["ghosts"]
    host = ghosts["hosts"]["smb"]
    assert found["mount_point"] == f"old cifs filesystem {host}"
    assert found["ghost"]["sources"] == [f"//{host}/share"]
    assert [each["pid"] for each in found["ghost"]["holders"]] == [ghosts["smb"]["pid"]]
    assert ghosts["smb"]["none"]["ghosts"] == []
