"""The generated part of docs/versus.md, from what bench/versus.py measured."""

from __future__ import annotations

import os
import platform
import re
import shlex
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.peers import (
    CHECK_DISK,
    CHECKOUT,
    COLLECTD,
    IN_ZOO,
    NODE_EXPORTER,
    PACKAGES,
    PEERS,
    PYTHON,
    RIGHT,
    Place,
    Said,
)
from tests.lab.kinds import KINDS, Kind

PAGE = CHECKOUT / "docs" / "versus.md"
BEGIN, END = "<!-- made by make versus -->", "<!-- end of what make versus made -->"
_ROWS = {kind.name: kind for kind in KINDS}


def write(results: dict[str, Any]) -> None:
    """Put the tables between the markers of the page. Raises ValueError where it has none."""
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: no markers")
    PAGE.write_text(f"{before}{BEGIN}\n\n{generated(results)}\n\n{END}{after}")


def generated(results: dict[str, Any]) -> str:
    sections = [_machine(results), _many(results["many"]), _zoo(results["zoo"]), rules(), commands()]
    return "\n\n".join(sections)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _machine(results: dict[str, Any]) -> str:
    return (
        f"Measured on {results['when']}: Linux {platform.release()} and, for the zoo, user-mode Linux "
        f"{results['zoo']['kernel']}.\n" + "; ".join(f"{name} {version}" for name, version in versions().items()) + "."
    )


def versions() -> dict[str, str]:
    """What was compared, as each says it of itself."""
    library = f"import sys; sys.path.insert(0, {str(PACKAGES / 'usr/lib/python3/dist-packages')!r}); import psutil"
    said = {
        "check_mounts": f"{PYTHON} -c 'import check_mounts; print(check_mounts.__version__)'",
        "check_disk": f"{CHECK_DISK} -V",
        "node_exporter": f"{NODE_EXPORTER} --version 2>&1",
        "collectd": f"{COLLECTD} -h",
        "psutil": f"{PYTHON} -c {shlex.quote(library + '; print(psutil.__version__)')}",
        "df and stat (coreutils)": "df --version",
    }
    found = {}
    for name, command in said.items():
        output = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=False, cwd=CHECKOUT, env=dict(os.environ)
        ).stdout
        number = re.search(r"\d+\.\d+(?:\.\d+)*", output)
        found[name] = number[0] if number else "?"
    return found


# -- the scene on the host


def _many(results: dict[str, Any]) -> str:
    rows = []
    for name, result in results.items():
        (hung,) = (said for mount, said in result["said"].items() if mount.endswith("/hung"))
        healthy = [said for mount, said in result["said"].items() if not mount.endswith("/hung")]
        well = [sum(said[turn] == Said.WELL.value for said in healthy) for turn in range(len(hung))]
        right = sum(_is_right(said, "timed-out") for said in hung)
        first, *others = result["seconds"]
        rows.append((
            name, f"{right} of {len(hung)}", "yes" if Said.TROUBLE.value in hung else "no", _range(well),
            f"{first:.1f}", f"{statistics.median(others):.2f}", result["left"],
        ))  # fmt: skip
    head = (
        "peer", "right, in rounds", "names the mount", "tells of the 20 healthy", "seconds, first round", "the others",
        "left",
    )  # fmt: skip
    return f"### 20 healthy mounts and one that hangs\n\n{_table(head, rows)}"


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{numbers[0]}, at last {numbers[-1]}"


def _is_right(said: str, expected: str) -> bool:
    return Said(said) in RIGHT[expected]


# -- the scene in the guest


def _zoo(results: dict[str, Any]) -> str:
    kinds = results["kinds"]
    names = [name for name in kinds if name]
    rows: list[Sequence[object]] = []
    for name in names:
        expected = _ROWS[name].expected
        rows.append([_words(_ROWS[name]), expected, *(_cell_of(kinds, name, peer) for peer in IN_ZOO)])
    sums = {
        f"right in the last round, of {len(names)}": _counted(
            kinds, lambda name, result: _is_right(_said(result, name)[-1], _ROWS[name].expected)
        ),
        f"rounds without an answer, of {5 * len(names)}": _counted(
            kinds, lambda name, result: _said(result, name).count(Said.HANGS.value)
        ),
        "trouble told without the mount's name": _counted(
            kinds, lambda name, result: _said(result, name).count(Said.UNNAMED.value)
        ),
        "left": _counted(kinds, lambda name, result: result["left"]),
    }
    for peer in (peer for peer in IN_ZOO if peer in kinds[""]):
        sums["left"][peer] = kinds[""][peer]["left"]
    rows += [[f"**{words}**", "", *(count[peer] for peer in IN_ZOO)] for words, count in sums.items()]
    rows.append(["**seconds, median of all rounds**", "", *(_seconds(kinds, peer) for peer in IN_ZOO)])
    return f"### The zoo, kind by kind\n\n{_table(['what happened', 'is', *IN_ZOO], rows)}\n\n{_busy(kinds)}"


def _counted(kinds: dict[str, Any], count: Callable[[str, dict[str, Any]], int]) -> Counter[str]:
    """For each peer the sum over all kinds."""
    names = [name for name in kinds if name]
    return Counter({peer: sum(count(name, _of(kinds, name, peer)) for name in names) for peer in IN_ZOO})


def _seconds(kinds: dict[str, Any], peer: str) -> str:
    every = [seconds for name in kinds if name for seconds in _of(kinds, name, peer)["seconds"]]
    return f"{statistics.median(every):.1f}"


def _cell_of(kinds: dict[str, Any], name: str, peer: str) -> str:
    result = _of(kinds, name, peer)
    left = f" +{result['left']}" if result["left"] else ""
    return cell(_said(result, name), _ROWS[name].expected) + left


def _said(result: dict[str, Any], name: str) -> list[str]:
    said: list[str] = result["said"][f"/mnt/{name}"]
    return said


def _busy(kinds: dict[str, Any]) -> str:
    """How far the guest was too busy to judge anybody by it."""
    well = [name for name in kinds if name and _ROWS[name].expected == "ok" and not _ROWS[name].fault]
    said = [each for name in well for peer in IN_ZOO for each in _said(_of(kinds, name, peer), name)]
    late = said.count(Said.HANGS.value)
    if late:
        return f"{late} of {len(said)} answers about healthy mounts came too late, because the guest was busy."
    return f"All {len(said)} answers about healthy mounts came in time."


def _of(kinds: dict[str, Any], name: str, peer: str) -> dict[str, Any]:
    """What a peer said of one kind; check_mounts has looked at all of them, and what is left of it
    is counted once."""
    alone = kinds[name].get(peer)
    value: dict[str, Any] = alone if alone is not None else {**kinds[""][peer], "left": 0}
    return value


def _words(kind: Kind) -> str:
    return kind.words.split(" (")[0] if kind.words else f"the same: {kind.name}"


def cell(said: Sequence[str], expected: str) -> str:
    """How often a peer was right in the rounds; if never, what it said."""
    right = sum(_is_right(each, expected) for each in said)
    if right == len(said):
        return "yes"
    return f"{right} of {len(said)}" if right else said[-1]


# -- the rules


def rules() -> str:
    """What counts, as the page has it."""
    of_conditions = [(name, " / ".join(said.value for said in Said if said in right)) for name, right in RIGHT.items()]
    of_peers = [(peer.name, peer.rule) for peer in PEERS if peer.name in IN_ZOO]
    return (
        "### What counts\n\n"
        + _table(("a mount that is", "it is right to say"), of_conditions)
        + "\n\n"
        + _table(("peer", "it tells of trouble at a mount if"), of_peers)
    )


def commands() -> str:
    """How the peers are called, as the page has it."""
    lines = []
    for peer in PEERS:
        place = Place(["/mnt/a"], ["/mnt/a"], Path("/tmp/versus"), 9100)
        words = peer.shown(place)
        lines += [f"# {peer.name}", *words]
    text = "\n".join(lines)
    for long, short in {f"{PACKAGES}/": "/", f"{CHECKOUT}/": "", "/tmp/versus": "DIRECTORY"}.items():
        text = text.replace(long, short)
    return f"### The commands\n\n```\n{text}\n```"
