"""The table of measurements beside the peers: ``make bench``, or ``python -m bench`` (root).

    python -m bench [--program [NAME=]PATH]... [--cpu] [ROW]...

Without a ROW it measures all, in less than five minutes, and writes bench/results.md. The rows:

    start    one run over 40 mounts, for each supported interpreter
    1000, 2000, 4000, 10000, 20000
             one run over so many mounts, beside check_disk (at 10,000 once, at 20,000 never)
    engine   the engine alone, per mount, over 1,000 and 20,000
    hung     1, 50 and 500 hung mounts of 1,000: time to the verdict, memory of what is stuck
    daemon   CPU for each pass over 1,000 mounts, and memory
    cached   --cached, after make install and from a pip environment
    watched  what the watcher costs a run
    users    --users beside 2,000 processes of 50 descriptors
    spaces   --namespaces over 100 namespaces of 50 mounts

The program is this tree's, installed by ``make install`` into a temporary directory: ``here``. Each
``--program`` is a check_mounts installed in the same way from another version; it is measured in
the same rounds, so old and new meet the same noise. On a busy host, ``--cpu`` measures single runs
over healthy mounts by the CPU time of all their processes. A figure is the median of all rounds,
with the least and the greatest in brackets."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import cached, daemon, engine, hung, oneshot, spaces, users, watched
from bench.common import (
    CHECK_DISK,
    HERE,
    PYTHON,
    ROOT,
    Line,
    Setting,
    go_first,
    install,
    interpreters,
    output_of,
    own_mounts,
)

ROWS: dict[str, Callable[[Setting], Iterator[Line]]] = {
    **oneshot.ROWS, "engine": engine.lines, "hung": hung.lines,
    "daemon": daemon.lines, "cached": cached.lines, "watched": watched.lines, "users": users.lines,
    "spaces": spaces.lines,
}  # fmt: skip
_RESULTS = ROOT / "bench/results.md"


def machine() -> list[str]:
    """What the figures depend on."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    python = ", ".join(interpreter.version for interpreter in interpreters())
    library = output_of(PYTHON, "-c", "import importlib.metadata as m; print(m.version('nagiosplugin'))")
    commit = output_of("git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs")
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return [
        f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"Python {python}; nagiosplugin {library}; {output_of(CHECK_DISK, '-V')}",
        f"check_mounts {commit}; load when the measurements began: {load}",
    ]


def cells(line: Line, names: Sequence[str]) -> list[str]:
    """A row of the table."""
    programs = [line.programs[name].text(line.digits) if name in line.programs else "-" for name in names]
    peer = f"{line.peer}: {line.peers.text(line.digits)}" if line.peers is not None else "-"
    ratio = line.ratio(HERE if HERE in line.programs else names[0])
    met = {None: "", True: "yes", False: "**no**"}[line.is_met]
    target = "" if line.target is None else str(line.target)
    return [f"{line.what}, {line.unit}", *programs, peer, "-" if ratio is None else f"{ratio:.2f}", target, met]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = ["-" * width for width in widths]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |\n"
        for row in [rows[0], rule, *rows[1:]]
    )


def measured(setting: Setting, names: Sequence[str]) -> Iterator[Line]:
    """The lines of these rows; each goes to stderr as soon as it is known."""
    for name in names:
        began = time.monotonic()
        try:
            for line in ROWS[name](setting):
                print(" | ".join(cells(line, list(setting.programs))), file=sys.stderr)
                yield line
        except Exception:  # the other rows are worth their time
            traceback.print_exc()
        print(f"({name}: {time.monotonic() - began:.0f} s)", file=sys.stderr)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench", description="see the head of bench/__main__.py")
    parser.add_argument("--program", action="append", default=[], help="an older installation, beside this tree's")
    parser.add_argument("--only", action="store_true", help="only those programs, not this tree's")
    parser.add_argument("--cpu", action="store_true", help="CPU time where a row is of runs over healthy mounts")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    given = parser.parse_args()
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    own_mounts()
    go_first()
    described, began = machine(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="check_mounts-bench.", ignore_cleanup_errors=True) as place:
        programs = {} if given.only else {HERE: install(Path(place) / "prefix")}
        programs |= {name: path or name for name, _, path in (word.partition("=") for word in given.program)}
        setting = Setting(Path(place), programs, given.cpu)
        names = list(programs)
        rows = [cells(line, names) for line in measured(setting, given.rows or list(ROWS))]
    described.append(f"{time.monotonic() - began:.0f} s for all measurements")
    text = table([["what", *names, "peer or floor in the same rounds", "ratio", "target", "met"], *rows])
    print(text)
    print(*described, sep="\n")
    if not (given.rows or given.cpu or given.only):
        _RESULTS.write_text(_head(described) + text)


def _head(described: Sequence[str]) -> str:
    return (
        "# Measurements\n\nMade by `make bench`. A figure is the median of all rounds, with the least and the greatest "
        "in\nbrackets; all figures of a row were measured in alternation. Lower is better.\n\n"
        + "".join(f"- {fact}\n" for fact in described)
        + "\n"
    )


if __name__ == "__main__":
    main()
