"""Which tests are slow: ``slow.txt``, made by this from a report of pytest.

    python tests/slow.py report.xml >tests/slow.txt      (make durations)

A test that is not listed, or has another name by now, counts as quick: the list may be old, and
is never wrong.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).with_suffix(".txt")
# Seconds, of the slowest case of a test and of all its cases, while others ran as well.
CASE, CASES = 1.5, 10.0
# A change that costs more must not wait for `make test`.
NEVER = {"test_what_a_pass_costs", "test_what_a_run_costs", "test_what_cached_costs"}
HEAD = """\
# Tests that `make check` leaves out: name, seconds of all cases. They wait until a mount that hangs has
# timed out, watch a daemon over several passes, or try hundreds of cases. Made by `make durations`.
"""


def slow() -> dict[str, float]:
    """Return seconds by the names of tests."""
    lines = [line.split() for line in LIST.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {name: float(seconds) for name, seconds in lines}


def listed(report: str) -> str:
    cases: dict[str, list[float]] = collections.defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        cases[case.attrib["name"].partition("[")[0]].append(float(case.attrib["time"]))
    lines = [
        f"{name} {sum(seconds):.1f}\n"
        for name, seconds in sorted(cases.items())
        if name not in NEVER and (max(seconds) >= CASE or sum(seconds) >= CASES)
    ]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(listed(sys.argv[1]))
